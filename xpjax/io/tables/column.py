"""A column of any table as numbers, identifiers, text, angles or times: what is missing stays missing, units are kept.

A column is converted when somebody asks for it. One odd cell among numbers is missing, and a note says so; a column
most of whose cells are odd is refused, naming file, column and row.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.units import is_unit, unit_factor
from xpjax.io.gaps import whole_with_gaps
from xpjax.io.tables.parsing import distinct, iso_day, modified_julian_day, parse_integers, parse_numbers, sexagesimal
from xpjax.io.words import EXACT, abridged, integer, is_missing

Note = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Ids:
    """Identifiers: value (n,) int64, 0 where missing, or text, empty where missing; and where they are missing."""

    value: np.ndarray
    missing: np.ndarray


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Arrays of different lengths: row i owns the next `length[i]` numbers of `flat`."""

    flat: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.length)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of n rows as its table has it.

    values (n,) or (n, k): numbers, booleans or datetime64 as NumPy arrays, text as an Arrow array of strings, which is
    not typed where it is cells of a text file: these may be anything. missing (n,), or (n, k) for arrays.
    """

    origin: str
    name: str
    values: Any
    missing: np.ndarray
    unit: str | None = None
    typed: bool = True
    note: Note = dataclasses.field(default=lambda text: None, repr=False)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def where(self) -> str:
        """How messages begin."""
        return f"{self.origin}: column {self.name!r}"

    @property
    def is_text(self) -> bool:
        """Whether the cells are text, be it of numbers."""
        return not isinstance(self.values, np.ndarray | Ragged)

    def numbers(self, kind: str | None = None) -> np.ndarray:
        """Numbers (n,) float64, NaN where missing or infinite, in the unit of a kind of `core.units.KINDS`.

        Raises XpjaxError for what holds no numbers, arrays, or a unit of something else.
        """
        out = self._numbers()
        scale = self.factor(kind)
        if scale != 1:
            out = out * scale
        out[~np.isfinite(out)] = np.nan
        return out

    def factor(self, kind: str | None) -> float:
        """What numbers are multiplied by to be in the unit of a kind. Raises XpjaxError."""
        if kind is None:
            return 1.0
        try:
            return unit_factor(self.unit, kind)
        except XpjaxError as error:
            raise XpjaxError(f"{self.where} has {error}; mend the unit, or convert the column") from None

    def _numbers(self) -> np.ndarray:
        if self.is_text:
            numbers, odd = parse_numbers(self.values)
            numbers[self.missing] = np.nan
            self._judge(odd & ~self.missing, int(np.isfinite(numbers).sum()), "a number")
            return numbers
        self.check_plain()
        if self.values.dtype.kind not in "iuf":
            what = {"b": "true and false", "M": "dates", "c": "complex numbers"}.get(self.values.dtype.kind, "objects")
            raise XpjaxError(f"{self.where} holds {what}, expected numbers; name another column")
        out = self.values.astype(np.float64)
        out[self.missing] = np.nan
        return out

    def check_plain(self) -> None:
        """Raise XpjaxError for arrays where one value a row is expected, and for what is neither."""
        self._check_even()
        if not self.is_text and self.values.ndim > 1:
            raise XpjaxError(
                f"{self.where} has {int(np.prod(self.values.shape[1:]))} numbers a row, expected one: name several "
                "apertures by columns.apertures, or write the one that is meant as a column of its own"
            )
        if not self.is_text and self.values.dtype == object:
            raise XpjaxError(f"{self.where} holds objects such as {abridged(_first(self.values))}; name another column")

    def _check_even(self) -> None:
        """Raise XpjaxError for arrays of different lengths."""
        if isinstance(self.values, Ragged):
            sizes, first = np.unique(self.values.length, return_index=True)
            raise XpjaxError(
                f"{self.where} holds {sizes[0]} numbers in row {first[0] + 1} and {sizes[-1]} in row {first[-1] + 1}; "
                "expected as many in each: name another column"
            )

    def _judge(self, odd: np.ndarray, n_good: int, expected: str) -> None:
        """Note cells that are not what was expected, or refuse the column where they are most of it."""
        n_odd = int(odd.sum())
        if not n_odd:
            return
        row = int(np.flatnonzero(odd)[0])
        cell = abridged(self.values[row].as_py() if self.is_text else self.values[row])
        if n_odd >= max(n_good, 1):
            raise XpjaxError(
                f"{self.origin}: row {row + 1}: column {self.name!r} is {cell}, expected {expected}; mend the column, "
                "leave cells without a value empty, or name another one"
            )
        self.note(f"{self.where}: {n_odd:,} cells are not {expected}, such as {cell} in row {row + 1}: missing")

    def ids(self) -> Ids:
        """Identifiers; numbers as int64, never through float64. Raises XpjaxError for what float64 has rounded."""
        if self.is_text:
            return self._text_ids()
        self.check_plain()
        kind, data = self.values.dtype.kind, self.values
        if kind == "f":
            known = ~self.missing & np.isfinite(data)
            limit = EXACT if data.dtype.itemsize == 8 else 2**24
            bad = known & ~((np.abs(data) <= limit) & (data == np.round(data)))
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise XpjaxError(
                    f"{self.where} holds identifiers as floating-point numbers, which have rounded them (row "
                    f"{row + 1}: {data[row]!r}); write the column as int64 or text (pandas: 'Int64', before any gap)"
                )
            return Ids(np.where(known, data, 0).astype(np.int64), ~known)
        if kind not in "iu":
            raise XpjaxError(f"{self.where} holds no identifiers but {data.dtype}; name a column of integers or text")
        if kind == "u" and (data[~self.missing] > np.iinfo(np.int64).max).any():
            row = int(np.flatnonzero(~self.missing & (data > np.iinfo(np.int64).max))[0])
            raise XpjaxError(f"{self.where}: row {row + 1}: {data[row]} is beyond int64; write identifiers as text")
        return Ids(np.where(self.missing, 0, data).astype(np.int64), self.missing.copy())

    def _text_ids(self) -> Ids:
        if (found := parse_integers(self.values)) is not None:
            gone = found[1] | self.missing
            return Ids(np.where(gone, 0, found[0]), gone)
        cells, missing, filled, whole = self._cells()
        if whole is not None:
            return Ids(whole, missing)
        rounded = [k for k, cell in enumerate(cells) if not missing[k] and _is_rounded(cell)]
        others = len(filled) - len(rounded)
        if rounded and (len(rounded) > others or sum(integer(cell) is not None for cell in filled) == others):
            raise XpjaxError(
                f"{self.where}: row {rounded[0] + 1}: the identifier {cells[rounded[0]]!r} is a floating-point number, "
                "which has rounded it; write identifiers as integers (pandas: astype('Int64'))"
            )
        if filled and all(_as_exact(cell) is not None for cell in filled) and any("." in cell for cell in filled):
            value = np.zeros(len(cells), np.int64)
            value[~missing] = np.array([_as_exact(cell) for cell in filled], np.int64)
            return Ids(value, missing)
        return Ids(np.array(["" if gone else c for c, gone in zip(cells, missing, strict=True)], np.str_), missing)

    def _cells(self) -> tuple[list[str], np.ndarray, list[str], np.ndarray | None]:
        """Cells of text, which are missing, the others, and all as int64, 0 where missing, if they are integers."""
        cells = _stripped(self.values)
        missing = self.missing | np.array([is_missing(cell) for cell in cells], bool)
        filled = [cell for cell, gone in zip(cells, missing, strict=True) if not gone]
        found = [integer(cell) for cell in filled]
        # 0012 and 12 are different names: as numbers they would be one.
        if not filled or None in found or any(re.match(r"-?0\d", cell) for cell in filled):
            return cells, missing, filled, None
        value = np.zeros(len(cells), np.int64)
        value[~missing] = np.array(found, np.int64)
        return cells, missing, filled, value

    def texts(self) -> np.ndarray:
        """Text (n,), empty where missing; whole numbers without a decimal point."""
        if self.is_text:
            words, place = distinct(self.values)
            words = ["" if is_missing(cell) else cell for cell in words]
            if not self.typed and all(re.fullmatch(r"-?\d+\.0*", cell) for cell in words if cell):
                words = [cell.partition(".")[0] for cell in words]
            return np.where(self.missing, "", np.array([*words, ""], np.str_)[place])
        self.check_plain()
        data = self.values
        if data.dtype.kind == "f":
            gone = self.missing | np.isnan(data)
            texts = [cell.removesuffix(".0") for cell in data.astype(str).tolist()]
        else:
            gone, texts = self.missing, data.astype(str).tolist()
        return np.array(["" if g else t for t, g in zip(texts, gone, strict=True)], np.str_)

    def flags(self) -> np.ndarray:
        """Bits of flags (n,) int64, 0 where missing. Raises XpjaxError for words."""
        if not self.is_text and self.values.ndim == 1 and self.values.dtype.kind in "biu":
            return np.where(self.missing, 0, self.values).astype(np.int64)
        numbers = self._numbers()
        known = np.isfinite(numbers)
        exact = known & (np.abs(numbers) < EXACT) & (numbers == np.round(numbers))
        out = np.where(exact, numbers, 0).astype(np.int64)
        for row in np.flatnonzero(known & ~exact):
            bits = integer(self.values[row].as_py()) if self.is_text else None  # float64 loses bits of large numbers
            if bits is None:
                raise XpjaxError(
                    f"{self.where}: row {row + 1}: flags are whole numbers, not {numbers[row]:g}; name another column, "
                    "or write it as integers"
                )
            out[row] = bits
        return out

    def angles(self, hours: bool = False) -> np.ndarray:
        """Angles (n,) [deg], NaN where missing: numbers, or text as 12:34:56.7, 12h34m56.7s, 12 34 56.7.

        hours: what text without a unit is in, as right ascensions are; `d` or a degree sign in it says degrees.
        """
        if not self.is_text:
            return self.numbers("angle")
        numbers, odd = parse_numbers(self.values)
        if not (odd & ~self.missing).any():
            return self.numbers("angle")
        angle, found = sexagesimal(self.values)
        cells = _stripped(self.values)
        if not is_unit(self.unit):
            degrees = np.array(["d" in cell or "°" in cell for cell in cells])
            angle = np.where(degrees if hours else np.array(["h" not in cell for cell in cells]), angle, 15 * angle)
        numbers = np.where(found, angle, numbers) * self.factor("angle")
        numbers[self.missing | ~np.isfinite(numbers)] = np.nan
        self._judge(odd & ~found & ~self.missing, int(np.isfinite(numbers).sum()), "an angle")
        return numbers

    def times(self) -> np.ndarray:
        """Times (n,) [d]: numbers as they are, dates as modified Julian days; NaN where missing."""
        if self.is_text:
            numbers, odd = parse_numbers(self.values)
            if (odd & ~self.missing).any():
                days = np.array([iso_day(cell) for cell in _stripped(self.values)])
                odd &= ~np.isfinite(days)
                numbers = np.where(np.isfinite(days), days, numbers)
                n_good = int(np.isfinite(numbers).sum())
                self._judge(odd & ~self.missing, n_good, "a time or a date as 2026-01-31T12:00:00")
                numbers[self.missing | ~np.isfinite(numbers)] = np.nan
                return numbers
        elif self.values.dtype.kind == "M":
            return np.where(self.missing, np.nan, modified_julian_day(self.values))
        return self.numbers("time")

    def array(self) -> np.ndarray:
        """Numbers (n, k), NaN where missing or infinite, of a column of arrays; (n, 1) of one of numbers."""
        if self.is_text:
            from xpjax.io.tables.vectors import matrix

            found = matrix(self.values)
            return self.numbers()[:, None] if found is None else found
        self._check_even()
        if self.values.ndim == 1:
            return self.numbers()[:, None]
        if self.values.dtype.kind not in "iuf":
            raise XpjaxError(f"{self.where} holds arrays of {self.values.dtype}, expected numbers; name another column")
        out = self.values.astype(np.float64).reshape(len(self.values), -1)
        out[np.broadcast_to(self.missing.reshape(len(out), -1) if len(out) else False, out.shape)] = np.nan
        out[np.isinf(out)] = np.nan
        return out

    def plain(self) -> np.ndarray:
        """The column in the type that suits it, to be passed on: NaN or an empty text where a value is missing.

        Integers with gaps become float64 with NaN, or a masked array where float64 would lose digits; cells of text
        files are integers, numbers, truth values or text. Raises XpjaxError for what no table holds.
        """
        if self.is_text:
            return self._plain_text()
        self._check_even()
        data, missing = self.values, self.missing
        if data.dtype == object or data.dtype.kind not in "iufbM":
            raise XpjaxError(
                f"{self.where} holds {data.dtype} such as {abridged(_first(data))}, which cannot be passed on"
            )
        if data.dtype.kind == "M":
            return np.where(missing, "", np.datetime_as_string(data))
        if not missing.any():
            return data
        missing = missing if missing.shape == data.shape else np.expand_dims(missing, tuple(range(1, data.ndim)))
        if data.dtype.kind == "f":
            return np.where(missing, data.dtype.type(np.nan), data)
        if data.dtype.kind == "b":
            return np.where(missing, np.nan, data.astype(np.float32))
        return whole_with_gaps(data, missing)

    def _plain_text(self) -> np.ndarray:
        from xpjax.io.tables.vectors import matrix

        if self.typed:
            cells = _stripped(self.values)
            return np.array(["" if gone else c for c, gone in zip(cells, self.missing, strict=True)], np.str_)
        cells, missing, filled, whole = self._cells()
        if not filled:
            return np.full(len(cells), np.nan)
        if whole is not None:
            return whole_with_gaps(whole, missing) if missing.any() else whole
        numbers, odd = parse_numbers(self.values)
        if not (odd & ~missing).any() and not any(_is_name(cell) for cell in filled):
            return np.where(missing, np.nan, numbers)
        if not missing.any() and {cell.lower() for cell in filled} <= {"true", "false"}:
            return np.array([cell.lower() == "true" for cell in filled])
        if filled[0][:1] == "[" and (arrays := matrix(self.values)) is not None:
            return arrays
        return np.array(["" if gone else cell for cell, gone in zip(cells, missing, strict=True)], np.str_)


def _stripped(cells: Any) -> list[str]:
    return ["" if cell is None else cell.strip() for cell in cells.to_pylist()]


def _first(values: np.ndarray) -> Any:
    return values.ravel()[0] if values.size else None


def _is_rounded(cell: str) -> bool:
    """Whether a text is a floating-point number that may stand for several integers."""
    try:
        return not re.fullmatch(r"[+-]?\d+", cell) and integer(cell) is None and abs(float(cell)) > EXACT
    except ValueError:
        return False


def _is_name(cell: str) -> bool:
    """Whether digits say more than their number does: leading zeros, or more of them than float64 keeps."""
    return bool(re.fullmatch(r"[+-]?\d+", cell)) and (bool(re.match(r"[+-]?0\d", cell)) or abs(int(cell)) > EXACT)


def _as_exact(cell: str) -> int | None:
    """The integer that a text such as 12 or 12.0 stands for."""
    found = integer(cell)
    if found is None and re.fullmatch(r"-?\d+\.0*", cell):
        found = integer(float(cell))
    return found


def concatenate(columns: Sequence[Column]) -> Column:
    """One column of several tables, one after the other. Raises XpjaxError where their types or units differ."""
    first = columns[0]
    if len(columns) == 1:
        return first
    if len({(c.unit or "").strip() for c in columns}) > 1:
        raise XpjaxError(f"{first.where}: the tables state different units, {[c.unit for c in columns]}; convert one")
    missing = np.concatenate([c.missing for c in columns])
    if all(c.is_text for c in columns):
        import pyarrow as pa

        chunks = [chunk for c in columns for chunk in (c.values.chunks if hasattr(c.values, "chunks") else [c.values])]
        return dataclasses.replace(first, values=pa.chunked_array(chunks), missing=missing)
    if all(isinstance(c.values, Ragged) for c in columns):
        flat, length = (np.concatenate([getattr(c.values, key) for c in columns]) for key in ("flat", "length"))
        return dataclasses.replace(first, values=Ragged(flat, length), missing=missing)
    if (
        any(c.is_text or isinstance(c.values, Ragged) for c in columns)
        or len({c.values.shape[1:] for c in columns}) > 1
    ):
        raise XpjaxError(f"{first.where}: the tables of the file hold different kinds of values; give them one by one")
    return dataclasses.replace(first, values=np.concatenate([c.values for c in columns]), missing=missing)
