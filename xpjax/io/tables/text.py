"""Tables of text as astronomers write them: CSV, blanks, tabs, semicolons, comments, ECSV, SExtractor's catalogues."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.streams import File
from xpjax.io.tables import ecsv
from xpjax.io.tables.parsing import parse_numbers
from xpjax.io.tables.raw import Raw, text
from xpjax.io.tables.table import Field, Table
from xpjax.io.words import is_missing, parse_number

COMMENTS = ("#", "%", "!")
_SEXTRACTOR = re.compile(r"#\s*(\d+)\s+(\S+)\s*(.*?)\s*(?:\[([^\[\]]*)\])?\s*$")


@dataclasses.dataclass(frozen=True)
class Layout:
    """What stands above the first row: names, delimiter (None: blanks), where rows begin, and the header of ECSV.

    widths: how many cells of a row a column owns, one each unless SExtractor says otherwise.
    """

    fields: tuple[Field, ...]
    delimiter: str | None
    start: int
    widths: tuple[int, ...] = ()
    header: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def cells(self, name: str) -> list[int]:
        """The places of a column's cells in a row."""
        k = [field.name for field in self.fields].index(name)
        start = sum(self.widths[:k]) if self.widths else k
        return [*range(start, start + (self.widths[k] if self.widths else 1))]

    @property
    def n_cell(self) -> int:
        """Cells in a row."""
        return sum(self.widths) or len(self.fields)


def open_text(file: File) -> list[Table]:
    """The table of a text file; columns are cells of text until they are asked for."""
    path = file.origin
    data = _read(file)
    layout = _layout(path, data)
    body = _body(data, layout.start)
    n, first = _rows(path, body, layout, [0]) if layout.fields else (0, {})
    types = {str(c["name"]): c for c in layout.header.get("datatype", [])}
    masks = ecsv.masks(layout.header)

    def pull(names: Sequence[str]) -> dict[str, Raw]:
        more = [masks[name] for name in names if name in masks]
        places = {name: layout.cells(name) for name in [*names, *more]}
        wanted = {place for each in places.values() for place in each} - {*first}
        read = {**first, **(_rows(path, body, layout, sorted(wanted))[1] if wanted else {})}
        out = {}
        for name in names:
            cells = [read[place] for place in places[name]]
            if len(cells) > 1:
                parsed = [parse_numbers(column) for column in cells]
                numbers, odd = (np.stack([part[k] for part in parsed], axis=1) for k in (0, 1))
                if odd.any():
                    table.notes.append(f"{path}: column {name!r}: {int(odd.sum()):,} cells are not a number: missing")
                out[name] = Raw(numbers, np.isnan(numbers))
                continue
            raw = text(cells[0], typed=False)
            if name in types:
                raw = ecsv.typed(raw, str(types[name].get("datatype", "")), types[name].get("subtype"))
            if name in masks:
                marks = read[places[masks[name]][0]].to_pylist()
                gone = np.array([cell.strip().lower() == "true" for cell in marks])
                raw = dataclasses.replace(raw, missing=raw.missing | gone)
            out[name] = raw
        return out

    meta = dict(layout.header.get("meta") or {})
    shared = {name: np.asarray(meta.pop(name)) for name in meta.pop("shared", []) if name in meta}
    meta.pop("__serialized_columns__", None)
    fields = [field for field in layout.fields if field.name not in masks.values()]
    return [table := Table(path, fields, n, pull, header=meta, meta=meta, shared=shared)]


def _read(file: File) -> bytes:
    """All of a file, unpacked, in UTF-8 and with line ends of one kind."""
    with file.open() as stream:
        data = stream.read()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        data = data.decode("utf-16").encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        data.decode("utf-8") if not data.isascii() else None
    except UnicodeDecodeError:
        data = data.decode("latin-1").encode()
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _layout(path: str, data: bytes) -> Layout:
    comments: list[str] = []
    end = 0
    for row in io.BytesIO(data):
        start, end, line = end, end + len(row), row.decode().removesuffix("\n")
        if not line.strip():
            continue
        if line.lstrip()[:1] in COMMENTS:
            comments.append(line)
            continue
        if comments and comments[0].startswith("# %ECSV"):
            return _ecsv_layout(path, comments, line, end)
        delimiter = _delimiter(line)
        if comments and delimiter is not None and _delimiter(comments[-1]) is None:
            names, blanks = comments[-1].lstrip("#%! \t").split(), split(line, None)
            named = len(names) == len(blanks) or all(_SEXTRACTOR.match(comment) for comment in comments)
            if named and len(blanks) > 1 and any(_is_number(cell) for cell in blanks):
                delimiter = None  # the other marks belong to text
        cells = split(line, delimiter)
        if not any(_is_number(cell) for cell in cells):
            return Layout(tuple(Field(cell) for cell in cells), delimiter, end)
        return _without_names(path, comments, cells, delimiter, start)
    if comments and all(_SEXTRACTOR.match(line) for line in comments):
        fields, widths = _sextractor_fields(comments, None)
        return Layout(fields, None, len(data), widths)
    if comments and comments[0].startswith("# %ECSV"):
        raise XpjaxError(f"{path}: the file ends before the line of column names; download it again")
    raise XpjaxError(f"{path}: the file is empty; expected a line of column names; download it again")


def _without_names(
    path: str, comments: Sequence[str], cells: Sequence[str], delimiter: str | None, start: int
) -> Layout:
    """Rows without a line of names: these are in SExtractor's comments, or in the last comment."""
    found = [line for line in comments if _SEXTRACTOR.match(line)]
    if found and len(found) == len([line for line in comments if line.strip("#%! \t")]):
        fields, widths = _sextractor_fields(found, len(cells))
        return Layout(fields, delimiter, start, widths)
    for line in reversed(comments):
        bare = line.lstrip("#%! \t")
        names = split(bare, _delimiter(bare) if delimiter is not None else None)
        if len(names) == len(cells) and not any(_is_number(name) for name in names):
            return Layout(tuple(Field(name) for name in names), delimiter, start)
    raise XpjaxError(
        f"{path}: the first line, {' '.join(cells)[:60]!r}, holds numbers where names of columns are expected; write a "
        "line with the names above it"
    )


def _sextractor_fields(lines: Sequence[str], n_cell: int | None) -> tuple[tuple[Field, ...], tuple[int, ...]]:
    """Columns and their widths: parameters of several numbers (MAG_APER) are followed by a gap in the numbering."""
    entries = [(int(m[1]), m[2], m[4]) for line in lines if (m := _SEXTRACTOR.match(line))]
    last = n_cell or entries[-1][0]
    edges = [*(number for number, _, _ in entries), last + 1]
    widths = tuple(max(after - number, 1) for number, after in itertools.pairwise(edges))
    return tuple(Field(name, unit) for _, name, unit in entries), widths


def _ecsv_layout(path: str, comments: Sequence[str], line: str, end: int) -> Layout:
    try:
        header = ecsv.yaml_header([comment[2:] for comment in comments[1:]])
    except XpjaxError as error:
        raise XpjaxError(f"{path}: {error}; write the file again") from error
    delimiter = str(header.get("delimiter", " "))
    units = {str(c["name"]): c for c in header.get("datatype", [])}
    cells = split(line, delimiter if delimiter != " " else None)
    fields = [Field(c, *(units.get(c, {}).get(key) for key in ("unit", "description"))) for c in cells]
    fields = [dataclasses.replace(f, unit=None if f.unit is None else str(f.unit)) for f in fields]
    return Layout(tuple(fields), None if delimiter == " " else delimiter, end, header=header)


def _delimiter(line: str) -> str | None:
    bare = re.sub(r'"[^"]*"', "", line)
    return next((mark for mark in (",", "\t", ";", "|") if mark in bare), None)


def split(line: str, delimiter: str | None) -> list[str]:
    """The cells of a line, without blanks and quotes around."""
    rows = csv.reader([line.strip() if delimiter is None else line], delimiter=delimiter or " ", skipinitialspace=True)
    cells = next(rows) if delimiter is not None or '"' in line else line.split()
    return [cell.strip() for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        parse_number(cell)
    except ValueError:
        return False
    return not is_missing(cell)


def _body(data: bytes, start: int) -> bytes:
    """The rows, without comments and what is around them."""
    body = data[start:]
    if body.startswith(b"#") or b"\n#" in body:
        body = b"\n".join(line for line in body.split(b"\n") if not line.startswith(b"#"))
    return body.strip(b"\n")


def _rows(path: str, body: bytes, layout: Layout, places: Sequence[int]) -> tuple[int, dict[int, Any]]:
    """The number of rows, and columns of cells as Arrow arrays by their place. Raises XpjaxError naming the row."""
    import pyarrow as pa
    import pyarrow.csv

    if not body.strip():
        return 0, {place: pa.array([], pa.string()) for place in places}
    delimiter, n_column = layout.delimiter, layout.n_cell
    if delimiter is None and b'"' not in body and b"," not in body:
        body = re.sub(rb"[ \t]+(?=\n|\Z)|(?<=\n)[ \t]+|\A[ \t]+", b"", body)
        body, delimiter = re.sub(rb"[ \t]+", b",", body), ","
    n_line = body.count(b"\n") + 1 - (body.count(b"\n\n") if n_column > 1 else 0)
    if delimiter is not None:
        numbered = [str(i) for i in range(n_column)]  # Arrow wants unique names
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(body),
                pa.csv.ReadOptions(column_names=numbered, use_threads=False, block_size=1 << 26),
                pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=n_column > 1),
                pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(numbered, pa.string()), strings_can_be_null=False,
                    include_columns=[str(place) for place in places],
                ),
            )  # fmt: skip
            if table.num_rows == n_line:
                return table.num_rows, {place: table[str(place)] for place in places}
        except pa.ArrowInvalid:
            pass  # the csv module says which row it is
    rows = list(careful_rows(path, io.StringIO(body.decode(), newline=""), delimiter, n_column))
    return len(rows), {place: pa.array([row[place] for row in rows], pa.string()) for place in places}


def careful_rows(path: str, lines: Iterator[str] | io.StringIO, delimiter: str | None, n: int) -> Iterator[list[str]]:
    """Rows of n cells as the csv module reads them. Raises XpjaxError naming the row."""
    spaces = re.compile(rf'"[ \t]+(?={re.escape(delimiter or " ")}|[\r\n]|$)')
    clean = (spaces.sub('"', line) for line in lines) if delimiter else (line.strip(" \t") for line in lines)
    row = 0
    limit = csv.field_size_limit(2**31 - 1)
    try:
        for cells in csv.reader(clean, delimiter=delimiter or " ", skipinitialspace=True, strict=True):
            if not "".join(cells).strip() and len(cells) < max(n, 2):
                if n > 1:
                    continue  # a blank line
                cells = [""]
            row += 1
            if len(cells) != n:
                raise XpjaxError(
                    f"{path}: row {row} has {len(cells)} cells, expected {n} as the header has; a delimiter or a quote "
                    "is missing there, or the file is truncated: mend the row or download the file again"
                )
            yield cells
    except csv.Error as error:
        raise XpjaxError(
            f"{path}: row {row + 1}: {error}; expected cells with closed quotes; the file may be truncated: mend the "
            "row or download the file again"
        ) from error
    finally:
        csv.field_size_limit(limit)
