"""Files of curves as sheets of columns, whatever the format: text, sedpy's .par, ECSV, VOTable, FITS; packed or not."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.units import is_length, is_percent
from xpjax.io.streams import check_file, open_bytes, reading, text_of
from xpjax.io.words import abridged, is_missing, parse_number
from xpjax.synthetic.files.header import Entry, entries_of, entry_of, plain_comment

WAVELENGTH = re.compile(r"^(?:wave(?![\W_]*num)|wl|lam|λ)", re.IGNORECASE)
"""What names of columns of wavelengths begin with."""
TRANSMISSION = re.compile(r"trans|throughput|response|^pass|^%?t%?$|^qe$|efficiency", re.IGNORECASE)
ODD_AXIS = re.compile(
    r"wave[\W_]*num|freq|^[νn]u?$|^energy|\b[kmgt]?hz\b|\b[km]?ev\b|\bcm\^?-1|wave\w*_log|lam\w*_log"
    r"|\b_?(?:log|ln)(?:10)?[\W_]*(?:wave|wl|lam|λ|nu\b|freq|ang|aa?\b|nm)",
    re.IGNORECASE,
)
"""What names axes that are no wavelengths: frequencies, wave numbers, energies, logarithms."""
_COMMENTS = ("#", "!", "%")
_FORTRAN = re.compile(r"[-+]?[\d.]+[dD][-+]?\d+")


@dataclasses.dataclass(frozen=True)
class Sheet:
    """What a file holds: columns of n cells, their names and units ("" for none), and its header.

    rows (n,): places for messages. names are empty where the file has none. prose: (place, comment) of what are no
    entries. meta: the whole header of ECSV.
    """

    path: Path
    kind: str
    names: Sequence[str]
    units: Sequence[str]
    columns: Sequence[Any]
    rows: Sequence[str]
    entries: list[Entry]
    prose: Sequence[tuple[str, str]] = ()
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    def numbers(self, k: int, what: str, *, gaps: bool = False) -> np.ndarray:
        """Column k as numbers (n,). Raises XpjaxError, with the row, for a cell that is none; gaps: NaN if missing."""
        cells = self.columns[k]
        if isinstance(cells, np.ndarray) and cells.shape != (len(self.rows),):
            raise XpjaxError(
                f"{self.path}: column {self.names[k]} has arrays in its cells, expected a number in each row"
            )
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu":
            return cells.astype(float)
        if isinstance(cells, list) and "_" not in "".join(cells):
            with contextlib.suppress(ValueError):
                quick = np.array(cells, float)
                if np.isfinite(quick).all():
                    return quick
        values = np.empty(len(cells))
        for n, cell in enumerate(cells):
            try:
                values[n] = _number(cell)
                if gaps or not is_missing(cell):
                    continue
                problem = f"the {what} is missing ({abridged(cell)})"
            except (TypeError, ValueError):
                problem = f"the {what} {abridged(cell)} is no number"
            comma = isinstance(cell, str) and re.fullmatch(r"[-+]?\d*,\d+", cell)
            remedy = "write decimal points, not commas" if comma else "drop the row or mend it"
            raise XpjaxError(f"{self.path}: {self.rows[n]}: {problem}; {remedy}")
        return values


def _number(cell: Any) -> float:
    if isinstance(cell, np.bool_):
        raise TypeError("a truth value")
    if not isinstance(cell, str) or is_missing(cell):
        return float("nan" if isinstance(cell, str) else cell)
    return parse_number(re.sub("[dD]", "e", cell) if _FORTRAN.fullmatch(cell.strip()) else cell)


def read_sheet(path: Path) -> Sheet:
    """The sheet of a file, its format told by content. Raises XpjaxError for what is none, and for several in one."""
    check_file(path)
    with reading(path, "a curve"):
        with open_bytes(path) as stream:
            binary = stream.read(9) == b"SIMPLE  ="
        text = "" if binary else text_of(path)
    if binary:
        return _read_fits(path)
    if "\0" in text:
        raise XpjaxError(
            f"{path}: a binary file, expected a curve as text, ECSV, VOTable, FITS table or .par; save wavelength and "
            "transmission as two columns of text"
        )
    if text.startswith("# %ECSV"):
        return _read_ecsv(path, text)
    if text.lstrip().startswith("<"):
        return _read_votable(path)
    if re.search(r"^\s*kfilter\s", text, re.IGNORECASE | re.MULTILINE):
        return _read_par(path, text)
    return _read_text(path, text)


# --- text -------------------------------------------------------------------------------------------------------------


def _split(line: str, delimiter: str | None) -> list[str]:
    if delimiter or '"' in line:
        reader = csv.reader([line.strip()], delimiter=delimiter or " ", skipinitialspace=True)
        return [cell.strip() for cell in next(reader, [])]
    return line.split()


def _delimiter(line: str) -> str | None:
    """What separates the cells of a row; None for blanks and tabs, also where commas are decimal ones."""
    if ";" in line:
        return ";"
    return "," if "," in line and not re.search(r",\d+\s+[-+]?\d", line) else None


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _names(line: str, width: int) -> list[str]:
    """The names of columns in a line, units with their name; none where it is no line of so many names."""
    delimiter = next((mark for mark in (";", ",") if mark in line), None)
    glued = re.sub(r"\s+([\[(])\s*([^\])]*?)\s*([\])])", r"\1\2\3", line)
    joined: list[str] = []
    for word in line.split():
        if joined and (is_length(word) or is_percent(word)):
            joined[-1] += f"[{word}]"
        else:
            joined.append(word)
    tries = (_split(line, delimiter), re.split(r"\s*\t\s*", line.strip()), glued.split(), joined)
    return next((cells for cells in tries if len(cells) == width and any(cells)), [])


def _cells(path: Path, lines: Sequence[tuple[int, str]], delimiter: str | None, width: int) -> list[list[str]]:
    """The columns of numbered lines. Raises XpjaxError, with the line, for a row of another number of cells."""
    rows = [_split(line, delimiter) for _, line in lines]
    for (number, line), row in zip(lines, rows, strict=True):
        if len(row) != width:
            raise XpjaxError(
                f"{path}: line {number}: {len(row)} cell(s) in {line.strip()!r}, expected {width}; mend the row, and "
                "write decimal points, not commas"
            )
    return [list(column) for column in zip(*rows, strict=True)]


def _comments(lines: Sequence[tuple[int, str]]) -> tuple[list[Entry], list[tuple[str, str]]]:
    """The entries of numbered comments, and the comments that are none, or that may tell units besides."""
    entries, prose = [], []
    for number, line in lines:
        entry = entry_of(line, f"line {number}")
        entries += [entry] if entry else []
        if entry is None or (entry.concept in ("column", "kept") and not is_length(entry.text)):
            prose.append((f"line {number}", plain_comment(line)))
    return entries, prose


def _sheet(path: Path, kind: str, names: Sequence[str], lines: Sequence[tuple[int, str]], **others: Any) -> Sheet:
    rows = [f"line {number}" for number, _ in lines]
    return Sheet(path, kind, names, others.pop("units", [""] * len(names)), rows=rows, **others)


def _read_text(path: Path, text: str) -> Sheet:
    """Columns with or without a line of names, after, between or before comments (#; whole lines of ! and % too)."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    comments = [(number, line) for number, line in lines if line.lstrip().startswith(_COMMENTS)]
    lines = [(number, line.partition("#")[0]) for number, line in lines if not line.lstrip().startswith(_COMMENTS)]
    first = _split(lines[0][1], _delimiter(lines[0][1])) if lines else []
    given = [cell.replace(",", ".") for cell in first if not is_missing(cell)]
    named = bool(given) and not any(map(_is_number, given))
    body = lines[1:] if named else lines
    if not body:
        raise XpjaxError(f"{path}: no rows of numbers, expected columns of wavelength and transmission (or flux)")
    delimiter = _delimiter(body[0][1])
    width = len(_split(body[0][1], delimiter))
    entries, prose = _comments(comments)
    before = [number for number, _ in comments if number < body[0][0]]
    title = (
        lines[0][1] if named else next((said for where, said in prose if where == f"line {max(before, default=0)}"), "")
    )
    names = _names(title, width)
    if named and not names:
        raise XpjaxError(
            f"{path}: line {lines[0][0]}: {lines[0][1].strip()!r} names not {width} columns, as the rows below have; "
            "write one name for each column, and decimal points, not commas"
        )
    kinds = [{bool(p.search(name)) for name in names} for p in (WAVELENGTH, ODD_AXIS, TRANSMISSION)]
    told = True in kinds[0] or (True in kinds[1] and True in kinds[2])
    if not named and not (told and all(len(re.sub(r"[\[(].*", "", name).split()) < 3 for name in names)):
        names = []  # the last comment says something else
    cells = _cells(path, body, delimiter, width)
    return _sheet(path, "text", names, body, columns=cells, entries=entries, prose=prose)


def _read_par(path: Path, text: str) -> Sheet:
    """sedpy's .par: rows `KFILTER lambda pass` [Angstrom], the order of columns from its typedef."""
    fields = re.search(r"typedef\s+struct\s*\{([^}]*)\}\s*kfilter", text, re.IGNORECASE)
    names = [str(f) for f in re.findall(r"\w+\s+(\w+)\s*(?:\[\d+\])?\s*;", fields.group(1))] if fields else []
    names = names or ["lambda", "pass"]
    numbered = list(enumerate(text.splitlines(), 1))
    lines = [(number, line.split(None, 1)[1]) for number, line in numbered if re.match(r"(?i)\s*kfilter\s+\S", line)]
    if "lambda" not in names or "pass" not in names:
        raise XpjaxError(f"{path}: the columns are {names}, expected lambda and pass")
    entries, prose = _comments([(number, line) for number, line in numbered if line.lstrip().startswith("#")])
    units = ["Angstrom" if name == "lambda" else "" for name in names]
    names = [{"lambda": "wavelength", "pass": "transmission"}.get(name, name) for name in names]
    cells = _cells(path, lines, None, len(names))
    return _sheet(path, "par", names, lines, units=units, columns=cells, entries=entries, prose=prose)


def _read_ecsv(path: Path, text: str) -> Sheet:
    """Own and speclite's files: astropy reads the header; its reader of rows would take most of the time."""
    from astropy.table.meta import YamlParseError, get_header_from_yaml

    lines = list(enumerate(text.splitlines(), 1))
    try:
        header = get_header_from_yaml([line[2:] for _, line in lines[1:] if line.startswith("#")])
        names = [str(column["name"]) for column in header["datatype"]]
        units = [str(column.get("unit") or "") for column in header["datatype"]]
    except (YamlParseError, KeyError, TypeError) as exc:
        raise XpjaxError(f"{path}: the ECSV header cannot be read: {exc}; write the file again") from exc
    lines = [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]
    delimiter = "," if header.get("delimiter") == "," else None
    if len(lines) < 2 or _split(lines[0][1], delimiter) != names:
        found = repr(lines[0][1]) if lines else "nothing"
        raise XpjaxError(f"{path}: expected the names {names} of its header in a line, and rows; found {found}")
    meta = dict(header.get("meta") or {})
    cells = _cells(path, lines[1:], delimiter, len(names))
    return _sheet(path, "ECSV", names, lines[1:], units=units, columns=cells, entries=entries_of(meta), meta=meta)


# --- VOTable and FITS -------------------------------------------------------------------------------------------------


def _refuse_several(path: Path, what: str, found: Sequence[str]) -> None:
    if len(found) > 1:
        raise XpjaxError(f"{path}: holds {len(found)} {what}, {', '.join(found)}; save each curve to its own file")


def _resources(resources: Sequence[Any]) -> Iterator[Any]:
    for resource in resources:
        yield resource
        yield from _resources(resource.resources)


def _read_votable(path: Path) -> Sheet:
    """A VOTable, such as the SVO Filter Profile Service's. Raises XpjaxError for one that was cut off."""
    from astropy.io.votable import parse

    kind = "a VOTable of a transmission curve"
    with reading(path, kind), open_bytes(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the service's units and dates are not quite the standard's
        votable = parse(stream, verify="ignore")
        tables, resources = list(votable.iter_tables()), list(_resources(votable.resources))
        parts = [votable, *resources, *tables]
        states = {str(info.value).upper() for part in parts for info in part.infos if info.name == "QUERY_STATUS"}
        if "OVERFLOW" in states:
            raise XpjaxError(f"{path}: its QUERY_STATUS is OVERFLOW: rows were cut off; ask for all rows again")
        if not tables:
            raise XpjaxError(f"{path}: expected {kind}, found no table; download it again, by its filter id")
        names = [str(t.name or t.ID or f"number {n}") for n, t in enumerate(tables, 1)]
        _refuse_several(path, "TABLE elements", names)
        (table,) = tables
        params = [(str(p.name), p.value) for part in (table, *resources) for p in part.params]
        columns = [_filled(table.array[field.ID]) for field in table.fields]
    units = ["" if field.unit is None else str(field.unit).strip() for field in table.fields]
    rows = [f"row {n + 1}" for n in range(len(table.array))]
    return Sheet(path, "VOTable", [str(f.name) for f in table.fields], units, columns, rows, entries_of(params))


def _filled(column: Any) -> np.ndarray:
    """A column of floats with NaN for masked cells; other columns as they are."""
    if np.asarray(column).dtype.kind not in "fiu":
        return np.asarray(column)
    return np.ma.filled(np.ma.asarray(column).astype(float), np.nan)


def _read_fits(path: Path) -> Sheet:
    """The one table of a FITS file that has a column of wavelengths; the header's cards are entries."""
    from astropy.io import fits

    with reading(path, "a FITS table"), open_bytes(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units such as ANGSTROMS
        with fits.open(stream, memmap=False) as hdus:
            tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
            axes = ([h for h in tables if any(map(p.search, h.columns.names))] for p in (WAVELENGTH, ODD_AXIS))
            chosen = next(filter(None, axes), [])
            if not chosen:
                found = [name for hdu in tables for name in hdu.columns.names]
                raise XpjaxError(f"{path}: no table with a column wavelength; it has the columns {found}; rename one")
            _refuse_several(path, "tables", [str(hdu.name or hdus.index_of(hdu)) for hdu in chosen])
            (hdu,) = chosen
            names, units = [str(c.name) for c in hdu.columns], [str(c.unit or "").strip() for c in hdu.columns]
            twice = sorted({name for name in names if sum(n.lower() == name.lower() for n in names) > 1})
            if twice:
                raise XpjaxError(f"{path}: several columns are called {' or '.join(twice)}; rename or drop one")
            columns = [_fits_column(hdu, k) for k in range(len(names))]
            cards = [(card.keyword, card.value) for h in (hdu, hdus[0]) for card in h.header.cards]
    rows = [f"row {n + 1}" for n in range(max(map(len, columns)))]
    return Sheet(path, "FITS", names, units, columns, rows, entries_of(cards))


def _fits_column(hdu: Any, k: int) -> np.ndarray:
    """A column with NaN for nulls; that of a table of one row, whose cells are arrays, is its array."""
    column, values = hdu.columns[k], np.asarray(hdu.data.field(k))
    if values.dtype.kind in "fiu":
        values = values.astype(float)
        if isinstance(column.null, int | np.integer):
            # astropy scales what it reads, but not the null.
            values[values == column.null * (column.bscale or 1.0) + (column.bzero or 0.0)] = np.nan
    return values[0] if values.ndim == 2 and len(values) == 1 else values
