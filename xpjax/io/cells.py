"""Cells of arrays, as text, lists or arrays in memory, as columns of vectors: as many numbers in each row, or not."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.words import abridged, is_missing, parse_number

_BRACKETS = {"(": ")", "[": "]"}
PAIRS = frozenset((ord(opening), ord(closing)) for opening, closing in _BRACKETS.items())
"""The first and the last byte of a well formed cell."""
_ROW = re.compile(r"\s*(?:\(([^()\[\]]*)\)|\[([^()\[\]]*)\])\s*(?:,(?=.)|$)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Vectors:
    """A column of vectors, most of them of k numbers.

    values (n, k) float32 or float64 has the rows of k numbers, and NaN in all others; length (n,) int64 is how many
    numbers a row has, 0 where it is missing and -1 where it is unreadable; others holds the rows of other lengths, by
    their index; unreadable is the first cell that could not be read.
    """

    values: np.ndarray
    length: np.ndarray
    others: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)
    unreadable: str = ""

    def __len__(self) -> int:
        return len(self.length)

    def rows(self, size: int) -> np.ndarray:
        """(n, size): the rows that have `size` numbers; the others are NaN."""
        if size == self.values.shape[1]:
            return self.values
        out = np.full((len(self), size), np.nan, self.values.dtype)
        for i, numbers in self.others.items():
            if len(numbers) == size:
                out[i] = numbers
        return out

    def cells(self) -> list[np.ndarray]:
        """The numbers of each row; none where it is missing or unreadable."""
        width = self.values.shape[1]
        return [
            self.others.get(i, self.values[i, : width if length == width else 0])
            for i, length in enumerate(self.length.tolist())
        ]


def stack(arrays: Sequence[np.ndarray | None], unreadable: str = "") -> Vectors:
    """Vectors (k,) of floats as rows; empty ones are missing, and have no say in the type; None is unreadable."""
    length = np.array([-1 if array is None else len(array) for array in arrays], np.int64)
    full = [array for array in arrays if array is not None and len(array)]
    kind = np.result_type(*{array.dtype for array in full}) if full else np.dtype(np.float32)
    width = Counter(map(len, full)).most_common(1)[0][0] if full else 0
    if full and (length == width).all():
        return Vectors(np.concatenate(full, dtype=kind).reshape(-1, width), length)
    values = np.full((len(arrays), width), np.nan, kind)
    others = {}
    for i, array in enumerate(arrays):
        if array is not None and len(array) == width:
            values[i] = array
        elif array is not None and len(array):
            others[i] = array
    return Vectors(values, length, others, unreadable)


# --- text -------------------------------------------------------------------------------------------------------------


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
    """Cells of text, parsed many at once where they are well formed, else one by one."""
    encoded = [cell.encode() for cell in cells]
    bodies = [cell[1:-1] if len(cell) > 2 and (cell[0], cell[-1]) in PAIRS else None for cell in encoded]
    return fill(bodies, encoded.__getitem__, np.empty((len(encoded), common_length(encoded))))


def common_length(cells: Iterable[Any]) -> int:
    """How many numbers most cells of bytes have; 0 where none has several."""
    commas = Counter(count for cell in cells if (count := bytes(cell).count(b",")))
    return commas.most_common(1)[0][0] + 1 if commas else 0


def fill(bodies: Sequence[Any], cell: Callable[[int], Any], out: np.ndarray) -> Vectors:
    """Parse cells into the rows of out (n, k), which becomes the vectors' values.

    bodies are what stands between the brackets of each cell, one of `PAIRS`, as bytes or memoryviews; None where there
    is nothing, or no brackets. cell(i) is all of a cell.
    """
    width = out.shape[1]
    length = np.full(len(bodies), width, np.int64)
    odd = [i for i, body in enumerate(bodies) if body is None or not width]
    rows = [i for i, body in enumerate(bodies) if body is not None and width] if odd else list(range(len(bodies)))
    bodies = [bodies[i] for i in rows] if odd else bodies
    known = parsers()
    # Short cells together, long ones alone: a call has its price, Arrow's a higher one, and the text should stay in the
    # first cache.
    step = max((1 << 14 if len(known) > 1 else 1 << 18) // len(bodies[0]), 1) if rows else 1
    with np.errstate(over="ignore"):  # what overflows float32 is a bad row
        for start in range(0, len(rows), step):
            part, places = bodies[start : start + step], rows[start : start + step]
            if not _parse(known, part, places, out):
                odd += [i for i, body in zip(places, part, strict=True) if not _parse(known, [body], [i], out)]
        return _apart(sorted(odd), cell, out, length)


def _apart(odd: Sequence[int], cell: Callable[[int], Any], out: np.ndarray, length: np.ndarray) -> Vectors:
    """Cells one by one, so that an odd one is the loss of its row alone."""
    others, unreadable = {}, ""
    for i in odd:
        out[i] = np.nan
        text = str(cell(i), "utf-8", "replace")
        try:
            numbers = parse_cell(text)
        except ValueError:
            length[i] = -1
            unreadable = unreadable or abridged(text)
            continue
        length[i] = len(numbers)
        if len(numbers) == out.shape[1]:
            out[i] = numbers
        elif len(numbers):
            others[i] = numbers.astype(out.dtype)
    return Vectors(out, length, others, unreadable)


Parser = Callable[[Sequence[Any], int], np.ndarray | None]
"""parse(cells without their brackets, k) -> (n, k) float64, rounded to the nearest; None unless all are k numbers."""


def _parse(known: Sequence[Parser], bodies: Sequence[Any], rows: Sequence[int], out: np.ndarray) -> bool:
    """Numbers of cells into these rows of out; False, with nothing written, where a cell is odd."""
    for parser in known:
        numbers = parser(bodies, out.shape[1])
        if numbers is not None:
            in_a_row = rows[-1] - rows[0] == len(rows) - 1
            out[slice(rows[0], rows[-1] + 1) if in_a_row else rows] = numbers
            return True
    return False


def parsers() -> tuple[Parser, ...]:
    """The fastest one that is there first, then the one for numbers that JSON lacks, such as NaN."""
    try:
        import simdjson
    except ImportError:
        return (parse_with_arrow,)
    return functools.partial(parse_with_simdjson, simdjson.Parser()), parse_with_arrow


_MARK_VALUE = 1.2345678901234567e300
_MARK = b",%b," % str(_MARK_VALUE).encode()
_LAST = b",%b]" % str(_MARK_VALUE).encode()
"""After each of several cells: where it is among the numbers tells how many each cell has."""


def parse_with_simdjson(parser: Any, cells: Sequence[Any], width: int) -> np.ndarray | None:
    """A `Parser`, but for its first argument."""
    alone = len(cells) == 1
    text = b"".join((b"[", cells[0], b"]")) if alone else b"[%b%b" % (_MARK.join(cells), _LAST)
    if text.find(b"[", 1) >= 0:  # in the buffer lists within the list are as if they were not
        return None
    try:
        numbers = np.frombuffer(parser.parse(text).as_buffer(of_type="d"))
    except (ValueError, TypeError, RuntimeError, AttributeError):
        return None
    if alone:
        return numbers if len(numbers) == width else None
    if len(numbers) != (width + 1) * len(cells) or (numbers[width :: width + 1] != _MARK_VALUE).any():
        return None
    return numbers.reshape(len(cells), width + 1)[:, :width]


def parse_with_arrow(cells: Sequence[Any], width: int) -> np.ndarray | None:
    """A `Parser`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bodies = [body.replace(b", ", b",") if b" " in body else body for body in map(bytes, cells)]
    if any(bracket in body for body in bodies for bracket in (b"(", b"[")):  # Arrow reads nan(1)
        return None
    try:
        lists = pc.split_pattern(pa.array(bodies, pa.string()), ",")
        if not pc.all(pc.equal(pc.list_value_length(lists), width)).as_py():
            return None
        numbers = pc.cast(pc.list_flatten(lists), pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return numbers.reshape(len(bodies), width)


# --- memory -----------------------------------------------------------------------------------------------------------


def as_vectors(raw: Any) -> Vectors:
    """A column of arrays from whatever a loader or a caller gives. Raises ValueError for numbers of no array."""
    if isinstance(raw, Vectors):
        return raw
    array = raw if isinstance(raw, list | tuple) or np.ma.isMaskedArray(raw) else np.asarray(raw)
    if isinstance(array, np.ndarray):
        if array.ndim > 1 and array.dtype.kind in "fiu":
            return from_array(array)
        array = list(array)
    return from_objects(array)


def from_array(array: np.ndarray) -> Vectors:
    """An array (n, k) or (n, k, l) of numbers, masked or not: each row is one vector. Raises ValueError."""
    if array.dtype.kind not in "fiu" or array.ndim < 2:
        raise XpjaxError(f"not numbers: {array.dtype}, {array.ndim} axes")
    numbers = array.astype(np.float32 if array.dtype.itemsize == 4 and array.dtype.kind == "f" else np.float64)
    values = np.ma.filled(numbers, np.nan).reshape(len(array), int(np.prod(array.shape[1:])))
    return Vectors(values, np.full(len(array), values.shape[1], np.int64))


def from_flat(flat: np.ndarray, length: np.ndarray) -> Vectors:
    """Vectors end to end, flat (n_number,), with length (n,) numbers each."""
    if len(length) and (length == length[0]).all():
        return Vectors(flat.reshape(len(length), int(length[0])), length)
    return stack(np.split(flat, np.cumsum(length)[:-1])) if len(length) else stack([])


def from_objects(cells: Sequence[Any]) -> Vectors:
    """Cells of any kind: text, lists, arrays (masked or not), None or NaN."""
    cells = [cell.decode(errors="replace") if isinstance(cell, bytes) else cell for cell in cells]
    if all(isinstance(cell, str) or is_missing(cell) for cell in cells) and any(isinstance(c, str) for c in cells):
        return from_texts([cell if isinstance(cell, str) else "" for cell in cells])
    arrays: list[np.ndarray | None] = []
    unreadable = ""
    for cell in cells:
        try:
            arrays.append(_numbers(cell))
        except (ValueError, TypeError):
            unreadable = unreadable or abridged(cell)
            arrays.append(None)
    return stack(arrays, unreadable)


def _numbers(cell: Any) -> np.ndarray:
    """The numbers (k,) of a cell of any kind; none for a missing cell. Raises ValueError or TypeError."""
    if type(cell) is np.ndarray and cell.dtype in (np.float32, np.float64):
        return cell.ravel()
    if isinstance(cell, str):
        return parse_cell(cell)
    if is_missing(cell):
        return np.zeros(0)
    array = np.ma.asanyarray(cell)
    if array.ndim == 0:
        raise XpjaxError(f"not an array: {abridged(cell)}")
    if array.dtype == object:
        array = np.array([np.nan if is_missing(x) else float(x) for x in array.ravel()])
    return from_array(array[None]).values[0]
