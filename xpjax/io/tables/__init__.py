"""The one reader of tables: survey catalogues, standards, gaia_source, labels, features, references, lists.

A table is opened once, through astropy and Arrow, and knows its format's nulls, masks, words for missing values, units
and repeated names. Only the columns that are asked for are converted; identifiers are int64 and never pass through
floating point; what is missing stays missing. Files are opened without locks.

    FITS, FITS_LDAC, VOTable, Parquet, HDF5 (datasets or records), CSV, ECSV, text with blanks, tabs or semicolons,
    SExtractor's catalogues; packed by gzip, bzip2, xz or zip; and tables in memory

Formats are told by content, not by suffix. `FILE[NAME]` or `FILE[2]` is one of several tables of a file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from xpjax.core.errors import XpjaxError
from xpjax.core.types import AnyTable
from xpjax.io.streams import File, check_file, reading
from xpjax.io.tables.arrow import open_parquet
from xpjax.io.tables.column import Column as Column, Ids as Ids, Ragged as Ragged
from xpjax.io.tables.fits import LDAC_HEADER as LDAC_HEADER, LDAC_TABLE as LDAC_TABLE, open_fits
from xpjax.io.tables.hdf5 import open_hdf5
from xpjax.io.tables.memory import from_memory
from xpjax.io.tables.parsing import iso_day as iso_day
from xpjax.io.tables.table import Table as Table, joined, like
from xpjax.io.tables.text import open_text
from xpjax.io.tables.votable import open_votable

_SIGNS = (
    (b"SIMPLE", "FITS", open_fits),
    (b"\x89HDF\r\n\x1a\n", "HDF5", open_hdf5),
    (b"PAR1", "Parquet", open_parquet),
)
_SUFFIXES = {
    **dict.fromkeys((".fits", ".fit", ".fts"), "FITS"),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), "HDF5"),
    **dict.fromkeys((".vot", ".votable", ".xml"), "VOTable"),
    **dict.fromkeys((".parquet", ".pq"), "Parquet"),
}
"""What files of these suffixes hold, unless they are damaged or called wrongly."""


def split_part(path: str | os.PathLike[str]) -> tuple[Path, str]:
    """A path, and the table of its file that is meant: `FILE[NAME]`; nothing where the file is called so itself."""
    path = Path(os.path.expanduser(path))
    match = re.fullmatch(r"(.+)\[([^\[\]]+)\]", path.name)
    if match and not path.exists():
        return path.with_name(match[1]), match[2]
    return path, ""


def open_tables(source: Any) -> list[Table]:
    """The tables of a file, all of like columns; or the one that `FILE[NAME]` names; or what is in memory, as one.

    Raises FileNotFoundError, and XpjaxError for files that are damaged, no table, or hold tables of different columns.
    """
    if isinstance(source, Table):
        return [source]
    if not isinstance(source, str | os.PathLike):
        return [from_memory(source)]
    path, part = split_part(source)
    check_file(path)
    return open_file(File(path), part)


def open_file(file: File, part: str = "") -> list[Table]:
    """The same of a file, which may be a member of a zip file; part: the name or number of the table that is meant."""
    kind, opener = _format(file)
    with reading(file.path, kind):
        tables: list[Table] = opener(file)
    for table in tables:
        table.guard(file.path, kind)
    if part:
        return [_chosen(file.origin, tables, part)]
    if not like(tables):
        listed = ", ".join(f"{table.part} ({len(table):,} rows: {', '.join(table.names[:4])}, ...)" for table in tables)
        raise XpjaxError(
            f"{file.origin} holds several tables of different columns: {listed}; name one, as in "
            f"{file.path.name}[{tables[0].part}]"
        )
    return tables


def open_table(source: AnyTable | Table) -> Table:
    """Open a table of any format without reading its columns.

    Parameters
    ----------
    source
        A file, told by its content and not by its suffix; `FILE[NAME]` or `FILE[2]` for one of several tables in a
        file; or a table in memory: pandas, astropy, Arrow, a structured array, a mapping of columns, a result of xpjax.

    Returns
    -------
    Table
        The names, units and header of the table. `column(name)` reads one column and converts it when it is asked for
        numbers, angles, times, flags, text or identifiers. Tables of like columns follow each other.

    Raises
    ------
    XpjaxError
        If the file is no table, or has tables with different columns.

    Examples
    --------
    >>> table = xpjax.io.open_table({"star": [1, 2], "mag": np.array([15.2, 99.0])})
    >>> table.names
    ['star', 'mag']
    >>> table.column("star").ids().value
    array([1, 2])
    """
    return joined(open_tables(source), source)


def _chosen(path: str, tables: list[Table], part: str) -> Table:
    for table in tables:
        if part in (table.part, table.origin.removeprefix(f"{path}[").removesuffix("]")):
            return table
    raise XpjaxError(f"{path} has no table {part!r}; it has {[table.origin.removeprefix(path) for table in tables]}")


def _format(file: File) -> tuple[str, Any]:
    path = file.origin
    with reading(file.path, "a table"), file.open() as stream:
        start = stream.read(512)
    for sign, kind, opener in _SIGNS:
        if start.startswith(sign):
            return kind, opener
    if start.startswith(b"Obj\x01"):
        raise XpjaxError(f"{path}: AVRO is read for XP coefficients alone; write this table as Parquet, FITS or CSV")
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "VOTable", open_votable
    if b"\0" in start and start[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise XpjaxError(
            f"{path}: no table that is known: expected FITS, VOTable, Parquet, HDF5, CSV, ECSV or other text"
        )
    if file.suffix in _SUFFIXES:
        kind = _SUFFIXES[file.suffix]
        raise XpjaxError(f"{path}: can't be read as {kind}: it is text; download it again, or mend its suffix")
    return "text", open_text
