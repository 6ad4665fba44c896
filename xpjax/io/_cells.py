"""Array cells: columns whose cells are vectors, written as text, as lists or as arrays, made into one flat array."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

MISSING = frozenset({"", "nan", "null", "none", "--", "n/a", "na", "<na>", "masked", '""', "''"})
"""What tables write, in lower case, where a cell has no value."""

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
        raise ValueError(f"not a number: {token!r}")
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
            raise ValueError(f"not a matrix: {abridged(text)}")
        numbers = row[1] or row[2] or ""
        rows.append([parse_number(token) for token in numbers.split(",")] if numbers.strip() else [])
        start = row.end()
    return np.array(rows).ravel()  # raises where the rows differ in length


def _body(cell: str) -> str:
    """What stands between the brackets of a stripped cell; numbers separated by commas may do without brackets."""
    if cell[0] in _BRACKETS and len(cell) > 1 and cell[-1] == _BRACKETS[cell[0]]:
        return cell[1:-1].strip()
    if cell[0] in _BRACKETS or cell[-1] in ")]" or "," not in cell:
        raise ValueError(f"not an array: {abridged(cell)}")
    return cell


def from_texts(cells: Sequence[str]) -> Vectors:
    """Cells of text, parsed together where they are well formed, else one by one."""
    blocks = [cells[i : i + _BLOCK] for i in range(0, len(cells), _BLOCK)]
    return join([_parse_together(block) or _parse_apart(block) for block in blocks])


def _parse_together(cells: Sequence[str]) -> Vectors | None:
    """All cells as one column of numbers, several times faster than cell by cell; None where any cell is odd."""
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
        raise ValueError(f"not an array: {abridged(cell)}")
    if array.dtype == object:
        array = np.array([np.nan if is_missing(x) else float(x) for x in array.ravel()])
    return from_array(array[None]).flat


def from_array(array: np.ndarray) -> Vectors:
    """An array (n, k) or (n, k, l) of numbers, masked or not: each row is one vector. Raises ValueError."""
    if array.dtype.kind not in "fiu" or array.ndim < 2:
        raise ValueError(f"not numbers: {array.dtype}, {array.ndim} axes")
    n, size = array.shape[0], int(np.prod(array.shape[1:]))
    numbers = array.astype(np.float32 if array.dtype.itemsize == 4 and array.dtype.kind == "f" else np.float64)
    return Vectors(np.ma.filled(numbers, np.nan).ravel(), np.full(n, size, np.int64))


def from_objects(cells: Sequence[Any]) -> Vectors:
    """Cells of any kind: text, lists, arrays (masked or not), None or NaN."""
    cells = [cell.decode(errors="replace") if isinstance(cell, bytes) else cell for cell in cells]
    if all(isinstance(cell, str) or is_missing(cell) for cell in cells):
        return from_texts([cell if isinstance(cell, str) else "" for cell in cells])
    return _parse_apart(cells)


def abridged(value: Any, width: int = 40) -> str:
    """`repr` of a cell, cut for a message."""
    text = repr(value)
    return text if len(text) <= width else f"{text[: width - 4]}...{text[-1]}"
