"""Cells of tables, as text, lists or arrays: columns of vectors made one flat array, columns of scalars a plain one."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xpjax.errors import XpjaxError

MISSING = frozenset({"", "nan", "null", "none", "--", "n/a", "na", "<na>", "masked", '""', "''"})
"""What tables write, in lower case, where a cell has no value."""

EXACT = 2**53
"""Integers beyond are not all float64 numbers."""

_BRACKETS = {"(": ")", "[": "]"}
_ROW = re.compile(r"\s*(?:\(([^()\[\]]*)\)|\[([^()\[\]]*)\])\s*(?:,(?=.)|$)", re.DOTALL)
_BLOCK = 1000  # cells parsed at once: bounds the memory of the joined text


@dataclasses.dataclass(frozen=True)
class Vectors:
    """A column of vectors: row i owns the next `length[i]` numbers of `flat`; 0 is missing, -1 is unreadable.

    flat (n_number,) float32 or float64, length (n,) int64; `unreadable` is the first cell that could not be read.
    """

    flat: np.ndarray
    length: np.ndarray
    unreadable: str = ""

    def __len__(self) -> int:
        return len(self.length)

    def rows(self, size: int) -> np.ndarray:
        """(n, size): the rows that have `size` numbers; the others are NaN."""
        fits = self.length == size
        if fits.all():
            return self.flat.reshape(len(self), size)
        out = np.full((len(self), size), np.nan, self.flat.dtype)
        out[fits] = self.flat[np.repeat(fits, np.maximum(self.length, 0))].reshape(-1, size)
        return out


def join(parts: Sequence[Vectors]) -> Vectors:
    """The rows of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    flat = np.concatenate([part.flat for part in parts]) if parts else np.zeros(0)
    length = np.concatenate([part.length for part in parts]) if parts else np.zeros(0, np.int64)
    return Vectors(flat, length, next((part.unreadable for part in parts if part.unreadable), ""))


def is_missing(cell: Any) -> bool:
    """Whether a cell has no value: None, NaN, masked, or one of the words of `MISSING`."""
    if isinstance(cell, str):
        return len(cell) < 20 and cell.strip().lower() in MISSING
    return cell is None or cell is np.ma.masked or (isinstance(cell, float | np.floating) and bool(np.isnan(cell)))


def parse_number(text: str) -> float:
    """The number that a token stands for, exactly rounded; NaN for a missing one. Raises ValueError."""
    token = text.strip()
    if "_" in token:  # float() reads 1_0 as 10
        raise XpjaxError(f"not a number: {token!r}")
    return np.nan if token and token.lower() in MISSING else float(token)


def parse_cell(text: str) -> np.ndarray:
    """The numbers (k,) of one cell: `(a, b)`, `[a,b]`, `a, b`, or equal rows `((a, b), (c, d))` one after another.

    Raises ValueError for anything else.
    """
    cell = text.strip()
    if is_missing(cell):
        return np.zeros(0)
    body = _body(cell)
    if not body:
        return np.zeros(0)
    if body[0] not in _BRACKETS:
        return np.array([parse_number(token) for token in body.split(",")])
    rows, start = [], 0
    while start < len(body):
        row = _ROW.match(body, start)
        if row is None:
            raise XpjaxError(f"not a matrix: {abridged(text)}")
        numbers = row[1] or row[2] or ""
        rows.append([parse_number(token) for token in numbers.split(",")] if numbers.strip() else [])
        start = row.end()
    return np.array(rows).ravel()  # raises where the rows differ in length


def _body(cell: str) -> str:
    """What stands between the brackets of a stripped cell; numbers separated by commas may do without brackets."""
    if cell[0] in _BRACKETS and len(cell) > 1 and cell[-1] == _BRACKETS[cell[0]]:
        return cell[1:-1].strip()
    if cell[0] in _BRACKETS or cell[-1] in ")]" or "," not in cell:
        raise XpjaxError(f"not an array: {abridged(cell)}")
    return cell


def from_texts(cells: Sequence[str]) -> Vectors:
    """Cells of text, parsed together where they are well formed, else one by one."""
    blocks = [cells[i : i + _BLOCK] for i in range(0, len(cells), _BLOCK)]
    return join([_parse_together(block) or _parse_apart(block) for block in blocks])


def _parse_together(cells: Sequence[str]) -> Vectors | None:
    """All cells by one fast parser, several times faster than one by one; None where any cell is odd."""
    return _by_simdjson(cells) or _by_arrow(cells)


def _by_simdjson(cells: Sequence[str]) -> Vectors | None:
    """Cells as JSON arrays; None where one is none, or `xpjax[fast]` is not installed."""
    try:
        import simdjson
    except ImportError:
        return None
    parser: Any = simdjson.Parser()
    none, arrays = np.zeros(0), []
    for text in cells:
        if is_missing(text):
            arrays.append(none)
            continue
        cell = text.strip()
        if _BRACKETS.get(cell[0]) != cell[-1] or "[" in cell[1:] or "{" in cell:
            return None
        if cell[0] == "(":
            cell = f"[{cell[1:-1]}]"
        try:
            arrays.append(np.frombuffer(parser.parse(cell.encode()).as_buffer(of_type="d")))
        except (ValueError, TypeError, RuntimeError, AttributeError):
            return None
    return Vectors(np.concatenate(arrays or [none]), np.array([len(array) for array in arrays], np.int64))


def _by_arrow(cells: Sequence[str]) -> Vectors | None:
    """Cells as one column of numbers; None where one is none."""
    import pyarrow
    import pyarrow.csv

    bodies, length = [], np.zeros(len(cells), np.int64)
    for i, text in enumerate(cells):
        if is_missing(text):
            continue
        cell = text.strip()
        body = cell[1:-1].strip()
        if _BRACKETS.get(cell[0]) != cell[-1] or any(bracket in body for bracket in "()[]"):
            return None
        if body:
            bodies.append(body)
            length[i] = body.count(",") + 1
    if not bodies:
        return Vectors(np.zeros(0), length)
    try:
        numbers = pyarrow.csv.read_csv(
            pyarrow.BufferReader(",".join(bodies).replace(",", "\n").encode()),
            pyarrow.csv.ReadOptions(column_names=["x"], use_threads=False, block_size=1 << 22),
            pyarrow.csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            pyarrow.csv.ConvertOptions(column_types={"x": pyarrow.float64()}, null_values=[]),
        )["x"].to_numpy()
    except pyarrow.ArrowInvalid:
        return None
    # A comma too many at the end of the block, or a line break in a cell, leaves another count.
    return Vectors(numbers, length) if len(numbers) == length.sum() else None


def _parse_apart(cells: Iterable[Any]) -> Vectors:
    """Cell by cell, so that one odd cell is the loss of its row alone."""
    parts: list[np.ndarray] = []
    length: list[int] = []
    unreadable = ""
    for cell in cells:
        try:
            numbers = _numbers(cell)
        except (ValueError, TypeError):
            unreadable = unreadable or abridged(cell)
            length.append(-1)
        else:
            parts.append(numbers)
            length.append(len(numbers))
    filled = [part for part in parts if len(part)] or parts  # missing cells have no say in the type
    return Vectors(np.concatenate(filled) if filled else np.zeros(0), np.array(length, np.int64), unreadable)


def _numbers(cell: Any) -> np.ndarray:
    """The numbers (k,) of a cell of any kind; none for a missing cell. Raises ValueError or TypeError."""
    if isinstance(cell, str):
        return parse_cell(cell)
    if is_missing(cell):
        return np.zeros(0)
    array = np.ma.asanyarray(cell)
    if array.ndim == 0:
        raise XpjaxError(f"not an array: {abridged(cell)}")
    if array.dtype == object:
        array = np.array([np.nan if is_missing(x) else float(x) for x in array.ravel()])
    return from_array(array[None]).flat


def from_array(array: np.ndarray) -> Vectors:
    """An array (n, k) or (n, k, l) of numbers, masked or not: each row is one vector. Raises ValueError."""
    if array.dtype.kind not in "fiu" or array.ndim < 2:
        raise XpjaxError(f"not numbers: {array.dtype}, {array.ndim} axes")
    n, size = array.shape[0], int(np.prod(array.shape[1:]))
    numbers = array.astype(np.float32 if array.dtype.itemsize == 4 and array.dtype.kind == "f" else np.float64)
    return Vectors(np.ma.filled(numbers, np.nan).ravel(), np.full(n, size, np.int64))


def from_objects(cells: Sequence[Any]) -> Vectors:
    """Cells of any kind: text, lists, arrays (masked or not), None or NaN."""
    cells = [cell.decode(errors="replace") if isinstance(cell, bytes) else cell for cell in cells]
    if all(isinstance(cell, str) or is_missing(cell) for cell in cells):
        return from_texts([cell if isinstance(cell, str) else "" for cell in cells])
    plain = all(
        (type(cell) is np.ndarray and cell.dtype in (np.float32, np.float64)) or is_missing(cell) for cell in cells
    )
    return _join_arrays(cells) if plain else _parse_apart(cells)


def _join_arrays(cells: Sequence[Any]) -> Vectors:
    """Cells that are arrays of floats or missing, end to end."""
    arrays = [cell.ravel() if type(cell) is np.ndarray else np.zeros(0, np.float32) for cell in cells]
    flat = np.concatenate(arrays) if arrays else np.zeros(0)
    return Vectors(flat, np.array([len(array) for array in arrays], np.int64))


def abridged(value: Any, width: int = 40) -> str:
    """`repr` of a cell, cut for a message."""
    text = repr(value)
    return text if len(text) <= width else f"{text[: width - 4]}...{text[-1]}"


# Columns of scalars


class Text(list[str]):
    """Cells of a text file: of no type yet."""


Column = Vectors | Text | np.ndarray


def as_vectors(raw: Any) -> Vectors:
    """An array column from whatever a loader or a caller gives."""
    if isinstance(raw, Vectors):
        return raw
    array = raw if isinstance(raw, list | tuple) or np.ma.isMaskedArray(raw) else np.asarray(raw)
    if isinstance(array, np.ndarray):
        if array.ndim > 1 and array.dtype.kind in "fiu":
            return from_array(array)
        array = list(array)
    return from_objects(array)


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


def integer(cell: Any) -> int | None:
    """The int64 that a cell stands for exactly, else None."""
    number: int | None = None
    if isinstance(cell, str):
        text = cell.strip()
        number = int(text) if text.isascii() and text.removeprefix("-").isdecimal() else None
    elif isinstance(cell, float | np.floating):
        number = int(cell) if abs(float(cell)) <= EXACT and float(cell).is_integer() else None
    elif isinstance(cell, int | np.integer) and not isinstance(cell, bool):
        number = int(cell)
    return number if number is not None and -(2**63) <= number < 2**63 else None


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
    if len(sizes) == 1:
        return column.rows(int(sizes[0]))
    return objects(np.split(column.flat, np.cumsum(column.length)[:-1]))


def join_columns(parts: Sequence[Any], sizes: Sequence[int]) -> np.ndarray:
    """One column of several tables of these sizes, None where a table lacks it; empty tables have no say in its type.

    A part without any value takes the type of the others: NaN, an empty text, or 0 among integers of which float64
    would lose digits. Text and numbers together become text.
    """
    arrays = [None if part is None else _unmasked(part) for part in parts]
    rows = [(array, n) for array, n in zip(arrays, sizes, strict=True) if n]
    whole = [array for array, _ in rows if array is not None]
    alike = {(array.dtype.kind if array.dtype.kind == "U" else array.dtype, array.shape[1:]) for array in whole}
    if whole and len(whole) == len(rows) and len(alike) == 1 and whole[0].dtype != object:
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
    return np.asarray(column)


def _is_blank(array: np.ndarray) -> bool:
    """Whether no cell has a value."""
    if array.dtype.kind == "f":
        return bool(np.isnan(array).all())
    return not array.size or (array.ndim == 1 and is_text(array) and not any(array))


def _as_text(cell: Any) -> str:
    """A cell among texts: `5` for 5.0, nothing for NaN."""
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
    gaps = [np.float32] * any(array is None for array, _ in rows)
    out = np.full((sum(n for _, n in rows), *found[0].shape[1:]), np.nan, np.result_type(*found, *gaps))
    return _fill(out, rows)


def _join_numbers(rows: Sequence[tuple[np.ndarray | None, int]], found: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) of integers or floats; integers beyond float64 stay such, with 0 where a value is missing."""
    size, gaps, kind = sum(n for _, n in rows), any(array is None for array, _ in rows), np.result_type(*found)
    if any(_is_big(array) for array in found) and all(_is_whole(array) for array in found):
        filled = [(array if array is None else np.where(np.isnan(array), 0, array), n) for array, n in rows]
        return _fill(np.zeros(size, np.int64), filled)
    if kind.kind == "f" or gaps:
        return _fill(np.full(size, np.nan, kind if kind.kind == "f" else np.float64), rows)
    return _fill(np.zeros(size, kind), rows)


def _is_big(array: np.ndarray) -> bool:
    """Whether these are integers, some of which float64 may round."""
    return array.dtype.kind in "iu" and bool(((array > EXACT) | (array < -EXACT)).any())


def _is_whole(array: np.ndarray) -> bool:
    """Whether int64 holds all values."""
    if array.dtype.kind == "f":
        values = array[~np.isnan(array)]
        return bool((np.abs(values) < 2.0**63).all() and (values == np.round(values)).all())
    return array.dtype.kind != "u" or bool((array <= np.iinfo(np.int64).max).all())


def _fill(out: np.ndarray, rows: Sequence[tuple[np.ndarray | None, int]]) -> np.ndarray:
    """Write the parts into their rows; what no part has stays."""
    start = 0
    for array, n in rows:
        if array is not None:
            out[start : start + n] = array
        start += n
    return out


def is_text(column: np.ndarray) -> bool:
    """Whether an array holds text, of fixed width or as objects."""
    return column.dtype.kind == "U" or (column.dtype == object and all(isinstance(cell, str) for cell in column))


def unmasked_integers(column: np.ndarray) -> np.ndarray:
    """Integers where none is missing; else float64 with NaN, or with 0 where float64 would lose digits (ids)."""
    mask = np.ma.getmaskarray(column)
    data = np.where(mask, 0, np.ma.getdata(column))
    if not mask.any():
        return np.ma.getdata(column)
    return data if (np.abs(data) > EXACT).any() else np.where(mask, np.nan, data.astype(np.float64))


def _typed(cells: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Cells of text as integers, numbers, truth values or text, whatever most of them are; and which are odd."""
    missing = np.array([is_missing(cell) for cell in cells], bool)
    filled = [cell.strip() for cell in itertools.compress(cells, ~missing)]
    numbers = [_as_number(cell) for cell in filled]
    n_odd = sum(number is None for number in numbers)
    odd = np.zeros(len(cells), bool)
    if 2 * n_odd < len(filled) or not filled:
        odd[~missing] = [number is None for number in numbers]
        good = [number for number in numbers if number is not None]
        integers = bool(good) and all(isinstance(number, int) for number in good)
        array = np.ma.masked_all(len(cells), np.int64 if integers else np.float64)
        array[~(missing | odd)] = good
        return unmasked_integers(array) if integers else np.ma.filled(array, np.nan), odd
    if not missing.any() and {cell.lower() for cell in filled} <= {"true", "false"}:
        return np.array([cell.lower() == "true" for cell in filled]), odd
    return strings([cell.strip() for cell in cells]), odd


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
