"""The reader of XP coefficients in text: CSV and ECSV, whole for `xpjax.read` or block by block for `ingest`.

Rows are cut at their quotes, and cells of arrays are parsed while they are in the processor's cache, straight into the
arrays that they end in. A row that cannot be cut so goes through the csv module, alone.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike

from xpjax.core.errors import XpjaxError
from xpjax.io.cells import PAIRS, Vectors, common_length, fill, from_texts
from xpjax.io.columns import Column, Text
from xpjax.xp.read.layout import ARRAY_FIELDS, ARRAYS, STATED, Table, archive_name, check_names, is_array, make_table
from xpjax.xp.read.transits import header_units

CHUNK = 1 << 23
"""Bytes of text at a time: what is cut out of it is still in the cache when it is parsed."""
LONGEST = 1 << 22
"""The most bytes that a row is followed for, over line breaks in quotes that may never be closed."""
PACKED_RATIO = 3
"""About how many times longer digits are than when they are packed."""

_RELEASE = re.compile(rf"#[\s\-{{]*['\"]?(?:{'|'.join(STATED)})['\"]?\s*:\s*['\"]?([^'\"}},]+)", re.IGNORECASE)
"""A comment that states the release, as ECSV has it: `# - {release: Gaia DR4}`."""

Row = list[Any]
"""The cells of a row: text, or where a quoted cell begins and ends in the block."""


def header(stream: IO[bytes], origin: str) -> tuple[list[str], str, str | None, list[str]]:
    """Column names, delimiter, the release that comments state, and these; the stream then stands at the first row.

    Raises ValueError.
    """
    delimiter, release, comments = ",", None, list[str]()
    for line in iter(stream.readline, b""):
        text = line.decode("utf-8-sig").strip()
        comments += [line.decode("utf-8-sig").rstrip()] * text.startswith("#")
        if text.startswith("# %ECSV"):
            delimiter = " "  # the standard's default
        elif match := re.match(r"#\s*delimiter:\s*['\"]?(\\t|.)", text):
            delimiter = match[1].replace("\\t", "\t")
        elif match := _RELEASE.match(text):
            release = match[1].strip()
        elif text and not text.startswith("#"):
            names = next(csv.reader([text], delimiter=delimiter, skipinitialspace=True))
            return names, delimiter, release, comments
    raise XpjaxError(f"{origin}: the file is empty; expected a line of column names; download it again")


class TextReader:
    """The rows of a text file, read once: all together (`whole`) or in blocks (`blocks`).

    dtype is that of coefficients, errors and correlations, float64 where it is None; wanted says which columns are
    read, by their archive names. Raises ValueError for a header without the columns that every input needs.
    """

    def __init__(
        self,
        stream: IO[bytes],
        origin: str,
        xp: Sequence[str],
        *,
        dtype: DTypeLike | None = None,
        wanted: Callable[[str], bool] = lambda name: True,
    ) -> None:
        self.stream, self.origin, self.xp, self.dtype = stream, origin, xp, np.dtype(dtype or np.float64)
        names, self.delimiter, self.release, comments = header(stream, origin)
        names = [archive_name(name, xp) for name in names]
        check_names(names, xp, origin)
        self.units = header_units(names, comments)
        self.n_column = len(names)
        places = {name: place for place, name in enumerate(names) if wanted(name)}
        self.arrays = {name: place for name, place in places.items() if is_array(name, xp)}
        self.scalars = {name: place for name, place in places.items() if name not in self.arrays}
        self.order = list(places)
        self.n_row = self.n_byte = 0
        self._quoted: list[int] = []
        self._further = f"{self.delimiter}x".encode()
        self._spaces = re.compile(rf'"[ \t]+(?={re.escape(self.delimiter)}|[\r\n]|$)')

    def whole(self, n_byte: int) -> Table:
        """All rows; n_byte is about how long the text is."""
        arrays: _Arrays | None = None
        parts: list[dict[str, Vectors]] = []
        texts = {name: Text() for name in self.scalars}
        for text, rows in self._rows():
            if arrays is None:
                arrays = self._room(text, rows, int(1.05 * len(rows) * max(n_byte / self.n_byte, 1)))
            vectors = self._vectors(text, rows, arrays.take(len(rows)))
            parts.append({name: dataclasses.replace(part, values=_NONE) for name, part in vectors.items()})
            for name, place in self.scalars.items():
                texts[name] += self._texts(text, rows, place)
        columns: dict[str, Column] = {**texts}
        values = {} if arrays is None else arrays.rows(0)
        for name in self.arrays:
            columns[name] = _joined([part[name] for part in parts], values[name]) if parts else from_texts([])
        return self._table(columns)

    def blocks(self) -> Iterator[Table]:
        """The rows in tables of some dozens, at least one table; a block is not touched when the next one is read."""
        sizes: _Arrays | None = None
        for text, rows in self._rows():
            sizes = sizes or self._room(text, rows, 0)
            arrays = _Arrays(sizes.sizes, sizes.kinds, len(rows))
            vectors = self._vectors(text, rows, arrays.take(len(rows)))
            texts = {name: Text(self._texts(text, rows, place)) for name, place in self.scalars.items()}
            yield self._table({**texts, **vectors})
        if sizes is None:
            yield self.whole(0)

    def _table(self, columns: dict[str, Column]) -> Table:
        return make_table(((n, columns[n]) for n in self.order), self.xp, self.origin, self.release, self.units)

    # --- rows

    def _rows(self) -> Iterator[tuple[memoryview, list[Row]]]:
        """Rows in blocks, with the text in which they lie, which the next block replaces. Raises ValueError."""
        # One buffer for all: fresh memory costs more than what is done with it.
        text, kept = bytearray(2 * CHUNK), 0
        while True:
            if len(text) - kept < CHUNK:  # a row longer than a chunk
                text = text + bytes(len(text))
            with memoryview(text) as view:
                got = self.stream.readinto(view[kept : kept + CHUNK])  # type: ignore[attr-defined]
            self.n_byte += got
            stop = kept + got
            rows, start = self._split(text, stop, last=not got)
            if rows:
                yield memoryview(text), rows
            if not got:
                return
            kept = stop - start
            text[:kept] = text[start:stop]

    def _split(self, text: bytearray, stop: int, *, last: bool) -> tuple[list[Row], int]:
        """The rows of a block that are whole, and where the rest begins; the last bytes are a row at the end alone."""
        rows: list[Row] = []
        start = 0
        while start < stop:
            end = text.find(b"\n", start, stop)
            if end < 0 and not last:
                break
            end = stop if end < 0 else end
            if text[start] != ord("#") and (end - start > 1 or text[start:end].strip()):
                row = self._cut(text, start, end)
                if row is not None:
                    rows.append(row)
                    self.n_row += 1
                else:
                    closed = self._end(text, start, end, stop, last)
                    if closed < 0:
                        break
                    try:
                        found, end = self._apart(bytes(text[start : min(closed + 1, stop)])), closed
                    except XpjaxError:
                        found = self._stray(bytes(text[start:end]).rstrip())
                        if not found:
                            raise
                    rows += found
                    self.n_row += len(found)
            start = end + 1
        return rows, min(start, stop)

    def _cut(self, text: bytearray, start: int, end: int) -> Row | None:
        """The cells of a row; None where it is odd."""
        outside, bounds, at, find = [], [], start, text.find
        while (first := find(b'"', at, end)) >= 0:
            second = find(b'"', first + 1, end)
            if second < 0:
                return None
            outside.append(text[at:first])
            bounds.append((first + 1, second))
            at = second + 1
        outside.append(text[at:end])
        # One quote now stands for each quoted cell.
        joined = b'"'.join(outside).decode().removesuffix("\r")
        cells: Row = joined.split(self.delimiter)
        if len(cells) != self.n_column or "\r" in joined:
            return None
        places = self._quoted
        if len(places) != len(bounds) or [cells[place] for place in places] != ['"'] * len(bounds):
            places = [place for place, cell in enumerate(cells) if '"' in cell]
            if [cells[place] for place in places] != ['"'] * len(bounds):
                return None
            self._quoted = places
        for place, bound in zip(places, bounds, strict=True):
            cells[place] = bound
        return cells

    def _end(self, text: bytearray, start: int, end: int, stop: int, last: bool) -> int:
        """The end of an odd row whose first line ends there: a quoted cell may go on in the next lines.

        -1 where more text is needed to tell; the csv module is to judge what does not end for long.
        """
        quotes = text.count(b'"', start, end)
        while quotes % 2 and end < stop:
            further = text.find(b"\n", end + 1, stop)
            if further < 0:
                return stop if last else -1 if stop - start < LONGEST else end
            quotes += text.count(b'"', end, further)
            end = further
        return end

    def _apart(self, data: bytes) -> list[Row]:
        """Rows as the csv module reads them, less spaces around quotes. Raises ValueError naming the row."""
        rows: list[Row] = []
        try:
            for cells in self._cells(data, strict=True):
                if len(cells) != self.n_column:
                    raise XpjaxError(
                        f"{self.origin}: row {self.n_row + len(rows) + 1} has {len(cells)} cells, expected "
                        f"{self.n_column} as the header has; a comma or a quote is missing there, or the file is "
                        f"truncated: mend the row or download the file again"
                    )
                rows.append(cells)
        except csv.Error as error:
            raise XpjaxError(
                f"{self.origin}: row {self.n_row + len(rows) + 1}: {error}; expected cells with closed quotes; the "
                f"file may be truncated: mend the row or download the file again"
            ) from error
        return rows

    def _stray(self, line: bytes) -> list[Row]:
        """The row of a line with a quote too many in a cell, which keeps it and so is odd; none for other lines."""
        # With a further cell, so that the last one is seen to be closed.
        for *cells, last in self._cells(line + self._further, strict=False):
            if len(cells) == self.n_column and last == "x" and any('"' in cell for cell in cells):
                return [cells]
        return []

    def _cells(self, data: bytes, *, strict: bool) -> Iterator[Row]:
        """Rows by the csv module, less comments and blank lines. Raises csv.Error."""
        lines: Iterable[str] = (
            line for line in io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="") if not line.startswith("#")
        )
        if not self.delimiter.isspace():
            lines = (self._spaces.sub('"', line) for line in lines)
        for cells in csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True, strict=strict):
            if len(cells) > 1 or "".join(cells).strip():
                yield cells

    # --- columns

    def _bytes(self, text: memoryview, cells: Row, i: int) -> Any:
        """One of some cells."""
        cell = cells[i]
        return text[cell[0] : cell[1]] if type(cell) is tuple else cell.encode()

    def _texts(self, text: memoryview, rows: Sequence[Row], place: int) -> list[str]:
        """The cells of a column of scalars."""
        column = [row[place] for row in rows]
        return [cell if type(cell) is str else str(text[cell[0] : cell[1]], "utf-8") for cell in column]

    def _vectors(self, text: memoryview, rows: Sequence[Row], out: dict[str, np.ndarray]) -> dict[str, Vectors]:
        found = {}
        for name, place in self.arrays.items():
            cells = [row[place] for row in rows]
            bodies = [
                text[cell[0] + 1 : cell[1] - 1]
                if type(cell) is tuple and cell[1] - cell[0] > 2 and (text[cell[0]], text[cell[1] - 1]) in PAIRS
                else None
                for cell in cells
            ]
            found[name] = fill(bodies, functools.partial(self._bytes, text, cells), out[name])
        return found

    def _room(self, text: memoryview, rows: Sequence[Row], n: int) -> _Arrays:
        """Arrays for n rows of as many numbers as most cells of the first rows have."""
        sizes = {
            name: common_length(self._bytes(text, row, place) for row in rows[:50])
            for name, place in self.arrays.items()
        }
        fields, kinds = [], []
        for field in ARRAY_FIELDS:
            names = [name for band in self.xp if (name := f"{band}_{field}") in sizes]
            if names:  # an XP that is missing in all these rows probably has as many numbers as the other one
                longest = max(sizes[name] for name in names)
                fields.append({name: sizes[name] or longest for name in names})
                kinds.append(self.dtype if field in ARRAYS[:3] else np.dtype(np.float64))
        return _Arrays(fields, kinds, n)


_NONE = np.zeros((0, 0))


class _Arrays:
    """An array (n, k) for each field, of the columns of all XPs side by side, to be filled some rows at a time.

    sizes are those of the columns of each field. Memory that no row needs is never touched.
    """

    def __init__(self, sizes: Sequence[dict[str, int]], kinds: Sequence[np.dtype], n: int) -> None:
        self.sizes, self.kinds, self.n = sizes, kinds, 0
        self.arrays = [np.empty((n, sum(field.values())), kind) for field, kind in zip(sizes, kinds, strict=True)]

    def take(self, n: int) -> dict[str, np.ndarray]:
        """The next n rows of each column."""
        start, self.n = self.n, self.n + n
        for k, array in enumerate(self.arrays):
            if self.n > len(array):
                self.arrays[k] = np.empty((self.n + self.n // 2, array.shape[1]), array.dtype)
                self.arrays[k][:start] = array[:start]
        return self.rows(start)

    def rows(self, start: int) -> dict[str, np.ndarray]:
        """Each column's rows that were taken, from one on."""
        out = {}
        for array, field in zip(self.arrays, self.sizes, strict=True):
            at = 0
            for name, size in field.items():
                out[name] = array[start : self.n, at : at + size]
                at += size
        return out


def _joined(parts: Sequence[Vectors], values: np.ndarray) -> Vectors:
    """The vectors of all blocks, whose numbers are in values."""
    others: dict[int, np.ndarray] = {}
    start = 0
    for part in parts:
        others |= {start + i: numbers for i, numbers in part.others.items()}
        start += len(part)
    unreadable = next((part.unreadable for part in parts if part.unreadable), "")
    return Vectors(values, np.concatenate([part.length for part in parts]), others, unreadable)
