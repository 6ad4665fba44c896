"""Columns of scalars as plain arrays, whatever their cells are; and columns of several tables as one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.cells import Vectors
from xpjax.io.gaps import has_gaps, is_big, whole_with_gaps
from xpjax.io.words import MISSING, integer, is_missing, parse_number


class Text(list[str]):
    """Cells of a text file: of no type yet."""


Column = Vectors | Text | np.ndarray


def as_scalars(raw: Any) -> Column:
    """Any other column: numbers or text, masked where cells are missing; object where cells are no scalars."""
    if isinstance(raw, Vectors | Text):
        return raw
    array = objects(raw) if isinstance(raw, list | tuple) else raw if np.ma.isMaskedArray(raw) else np.asarray(raw)
    if array.ndim == 0:
        raise XpjaxError("a single value; expected one value a row, as a list or an array")
    if array.dtype.kind == "S":
        array = np.char.decode(np.ma.filled(array, b""), "utf-8", "replace")
    if array.dtype.kind == "U":
        array = np.ma.filled(array, "") if np.ma.isMaskedArray(array) else array
        return strings([str(cell) for cell in array]) if array.ndim == 1 else array
    if array.dtype == object and array.ndim == 1:
        return _from_cells(list(np.ma.getdata(array)), np.ma.getmaskarray(array))
    if array.dtype.kind in "Mm":
        return array.astype(np.str_)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _from_cells(cells: list[Any], mask: np.ndarray) -> np.ndarray:
    """Python values as a masked array of integers or floats, as text, or as objects if they are no scalars."""
    mask = mask | np.array([is_missing(cell) for cell in cells], bool)
    filled = [c.decode(errors="replace") if isinstance(c, bytes) else c for c in itertools.compress(cells, ~mask)]
    if any(isinstance(cell, list | tuple | dict | np.ndarray) for cell in filled):
        return objects(cells)
    if filled and not mask.any() and all(isinstance(cell, bool | np.bool_) for cell in filled):
        return np.array(filled, bool)
    if all(isinstance(cell, bool | int | float | np.number | np.bool_) for cell in filled):
        whole = bool(filled) and all(isinstance(c, int | np.integer) and integer(c) is not None for c in filled)
        out = np.ma.masked_all(len(cells), np.int64 if whole else np.float64)
        out[~mask] = filled
        return out
    texts = iter(filled)
    return strings(["" if gone else str(next(texts)) for gone in mask])


def objects(cells: Sequence[Any]) -> np.ndarray:
    """(n,) of objects; NumPy by itself would look into lists of lists."""
    out = np.empty(len(cells), object)
    for i, cell in enumerate(cells):
        out[i] = cell
    return out


def plain(column: Column) -> tuple[np.ndarray, np.ndarray] | None:
    """A column of scalars as a plain array, and where its cells are odd; None for a column of vectors."""
    none_odd = np.zeros(len(column), bool)
    if isinstance(column, Text):
        return _typed(column)
    if isinstance(column, Vectors) or column.ndim > 1 or (column.dtype == object and not is_text(column)):
        return None
    if not np.ma.isMaskedArray(column):
        return column, none_odd
    if column.dtype.kind in "iub":
        return unmasked_integers(column), none_odd
    return np.ma.filled(column, np.nan), none_odd


def plain_vectors(column: Column) -> np.ndarray:
    """A column of vectors as (n, k) where all have k numbers, else as (n,) of objects."""
    if not isinstance(column, Vectors):
        array: Any = np.ma.asanyarray(column)
        masked = np.ma.isMaskedArray(column) and array.dtype.kind in "iuf"
        return np.ma.filled(array.astype(np.float64), np.nan) if masked else np.asarray(column)
    sizes = np.unique(column.length)
    return column.rows(int(sizes[0])) if len(sizes) == 1 else objects(column.cells())


def join_columns(parts: Sequence[Any], sizes: Sequence[int]) -> np.ndarray:
    """One column of several tables of these sizes, None where a table lacks it; empty tables have no say in its type.

    A part without any value takes the type of the others: NaN, an empty text, or masked among integers of which float64
    would lose digits. Text and numbers together become text.
    """
    arrays = [None if part is None else _unmasked(part) for part in parts]
    rows = [(array, n) for array, n in zip(arrays, sizes, strict=True) if n]
    whole = [array for array, _ in rows if array is not None]
    alike = {(array.dtype.kind if array.dtype.kind == "U" else array.dtype, array.shape[1:]) for array in whole}
    masked = any(map(has_gaps, whole))
    if whole and len(whole) == len(rows) and len(alike) == 1 and whole[0].dtype != object and not masked:
        return np.concatenate(whole)
    rows = [(None if array is None or _is_blank(array) else array, n) for array, n in rows]
    found = [array for array, _ in rows if array is not None] or whole or [a for a in arrays if a is not None][:1]
    if any(array.ndim > 1 or (array.dtype == object and not is_text(array)) for array in found):
        return _join_vectors(rows, found)
    if any(array.dtype.kind not in "iufb" for array in found):
        return strings([text for array, n in rows for text in ([""] * n if array is None else map(_as_text, array))])
    return _join_numbers(rows, found)


def _unmasked(column: Any) -> np.ndarray:
    if np.ma.isMaskedArray(column):
        column = np.ma.filled(column, np.nan) if column.dtype.kind == "f" else (plain(column) or [column])[0]
    return column if has_gaps(column) else np.asarray(column)


def _is_blank(array: np.ndarray) -> bool:
    """Whether no cell has a value."""
    if has_gaps(array):
        return bool(np.ma.getmaskarray(array).all())
    if array.dtype.kind == "f":
        return bool(np.isnan(array).all())
    return not array.size or (array.ndim == 1 and is_text(array) and not any(array))


def _as_text(cell: Any) -> str:
    """A cell among texts: `5` for 5.0, nothing for NaN and what is masked."""
    if cell is np.ma.masked:
        return ""
    if isinstance(cell, bytes):
        return cell.decode(errors="replace")
    if isinstance(cell, float | np.floating):
        return "" if np.isnan(cell) else str(cell).removesuffix(".0")
    return str(cell)


def _join_vectors(rows: Sequence[tuple[np.ndarray | None, int]], found: Sequence[np.ndarray]) -> np.ndarray:
    """(n, ...) where all parts have rows of one shape, else (n,) of objects."""
    kinds = {array.dtype.kind for array in found}
    if len({array.shape[1:] for array in found}) > 1 or not kinds <= set("iufb"):
        return objects([cell for array, n in rows for cell in ([None] * n if array is None else array)])
    return _one_after_another(rows, found, np.float32(np.nan))


def _join_numbers(rows: Sequence[tuple[np.ndarray | None, int]], found: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) of integers or floats; integers beyond float64 stay such, masked where a value is missing."""
    if any(is_big(array) for array in found) and all(_is_whole(array) for array in found):
        gaps = [np.ones(n, bool) if a is None else np.ma.getmaskarray(a) | np.isnan(np.ma.getdata(a)) for a, n in rows]
        pairs = zip(rows, gaps, strict=True)
        whole = [(None if a is None else np.where(gap, 0, a).astype(np.int64), n) for (a, n), gap in pairs]
        data = _one_after_another(whole, [np.zeros(0, np.int64)], np.int64(0))
        gap = np.concatenate(gaps)
        return np.ma.array(data, mask=gap) if gap.any() else data
    rows = [(a if a is None else _with_nan(a), n) for a, n in rows]
    found = [_with_nan(array) for array in found]
    kind = np.result_type(*found)
    return _one_after_another(rows, found, np.array(np.nan, kind if kind.kind == "f" else np.float64))


def _with_nan(array: np.ndarray) -> np.ndarray:
    """Integers that are masked as float64 with NaN; others as they are."""
    return np.ma.filled(array.astype(np.float64), np.nan) if has_gaps(array) else array


def _is_whole(array: np.ndarray) -> bool:
    """Whether int64 holds all values."""
    if array.dtype.kind == "f":
        values = array[~np.isnan(array)]
        return bool((np.abs(values) < 2.0**63).all() and (values == np.round(values)).all())
    return array.dtype.kind != "u" or bool((array <= np.iinfo(np.int64).max).all())


def _one_after_another(
    rows: Sequence[tuple[np.ndarray | None, int]], found: Sequence[np.ndarray], gap: Any
) -> np.ndarray:
    """The parts, of a type that holds all that was found, with `gap` in the rows of those that are None."""
    parts = [np.full((n, *found[0].shape[1:]), gap) if array is None else array for array, n in rows]
    return np.concatenate([*(array[:0] for array in found), *parts])


def is_text(column: np.ndarray) -> bool:
    """Whether an array holds text, of fixed width or as objects."""
    return column.dtype.kind == "U" or (column.dtype == object and all(isinstance(cell, str) for cell in column))


def unmasked_integers(column: np.ndarray) -> np.ndarray:
    """Integers where none is missing; else float64 with NaN, or still masked where float64 would lose digits (ids)."""
    data = np.ma.getdata(column)
    return whole_with_gaps(data, np.ma.getmaskarray(column)) if has_gaps(column) else data


def _typed(cells: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Cells of text as integers, numbers, truth values or text, whatever most of them are; and which are odd."""
    odd = np.zeros(len(cells), bool)
    missing = np.array([cell in MISSING for cell in cells], bool)
    good = all_numbers([*itertools.compress(cells, ~missing)])
    if good is None:
        missing = np.array([is_missing(cell) for cell in cells], bool)
        filled = [cell.strip() for cell in itertools.compress(cells, ~missing)]
        numbers = [_as_number(cell) for cell in filled]
        n_odd = sum(number is None for number in numbers)
        if filled and 2 * n_odd >= len(filled):
            if not missing.any() and {cell.lower() for cell in filled} <= {"true", "false"}:
                return np.array([cell.lower() == "true" for cell in filled]), odd
            return strings([cell.strip() for cell in cells]), odd
        odd[~missing] = [number is None for number in numbers]
        found = [number for number in numbers if number is not None]
        whole = bool(found) and all(isinstance(number, int) for number in found)
        good = np.array(found, np.int64 if whole else np.float64)
    if not missing.any() and not odd.any():
        return good, odd
    array = np.ma.masked_all(len(cells), good.dtype)
    array[~(missing | odd)] = good
    return unmasked_integers(array) if good.dtype.kind == "i" else np.ma.filled(array, np.nan), odd


def all_numbers(cells: Sequence[str]) -> np.ndarray | None:
    """Cells that are digits alone, or plainly floats, in no time; None where it takes a closer look."""
    together = "".join(cells)
    try:
        if together.isdecimal():
            integers = [*map(int, cells)]
            return np.array(integers, np.int64) if max(integers) < 2**63 and together.isascii() else None
        if "." in together and "_" not in together and together.isascii():
            return np.array([*map(float, cells)], np.float64)
    except ValueError:
        pass
    return None


def _as_number(text: str) -> float | int | None:
    """The integer, else the float, that a text stands for; None where it is no number."""
    try:
        whole = integer(text)
        return parse_number(text) if whole is None else whole
    except ValueError:
        return None


def strings(cells: Sequence[str]) -> np.ndarray:
    """Text (n,) as str_, or as objects where fixed width would waste memory."""
    return np.array(cells, np.str_) if max(map(len, cells), default=0) <= 64 else objects(cells)
