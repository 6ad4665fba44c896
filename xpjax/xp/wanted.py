"""Which sources are wanted: ids of any list, table or file, an ADQL query, or a cone on the sky."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core.errors import XpjaxError, say
from xpjax.core.release import Release
from xpjax.core.types import AnyTable
from xpjax.io.streams import check_file, text_of
from xpjax.io.tables import Column, open_table, split_part
from xpjax.io.words import integer, is_missing

_DESIGNATION = re.compile(r"(?:(Gaia\s+E?DR\d+)\s+)?([+-]?\d+)", re.IGNORECASE)
_QUERY = re.compile(r"\s*(--[^\n]*\n\s*|/\*.*?\*/\s*)*(select|with)\s", re.IGNORECASE | re.DOTALL)
_ID_NAME = re.compile(r"sourceid|srcid")


@dataclasses.dataclass(frozen=True)
class Cone:
    """A cone on the sky: ra, dec of its center and radius [deg]; gmax: G [mag] of the faintest sources, if any."""

    ra: float
    dec: float
    radius: float
    gmax: float | None = None

    def __post_init__(self) -> None:
        numbers = [self.ra, self.dec, self.radius, *([] if self.gmax is None else [self.gmax])]
        if not np.isfinite(numbers).all():
            raise XpjaxError(f"a cone needs finite numbers, found {numbers}")
        if not -90 <= self.dec <= 90 or not 0 <= self.ra <= 360:
            raise XpjaxError(f"a cone needs ra within 0..360 and dec within -90..90 deg, found {self.ra}, {self.dec}")
        if not 0 < self.radius <= 180:
            raise XpjaxError(f"the radius of a cone is above 0 and at most 180 deg, found {self.radius}")


AnyIds: TypeAlias = "ArrayLike | AnyTable | Cone | tuple[float, ...]"
"""What names sources, as `xpjax.fetch` takes it: ids, a table or file of them, a query, or a cone."""


def id_column(names: Sequence[str], where: str) -> str:
    """The column of source ids among names, however it is spelled. Raises XpjaxError with what to add."""
    folded = {name: re.sub(r"[-_ ]", "", name.lower()) for name in names}
    found = [name for name in names if name == "source_id"] or [n for n in names if _ID_NAME.fullmatch(folded[n])]
    if not found:
        listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        raise XpjaxError(f"{where} has no column of source ids: {listed or 'no columns'}; add source_id")
    return found[0]


def is_query(wanted: Any) -> bool:
    """Whether what is wanted is the text of an ADQL query."""
    return isinstance(wanted, str) and bool(_QUERY.match(wanted))


def wanted_ids(wanted: AnyIds, *, column: str | None = None, release: Release | None = None) -> np.ndarray:
    """Source ids (n,) int64 in the order in which they are given, 0 where a cell is empty; never through a float.

    wanted: integers, or their text, or designations such as `Gaia DR3 123`, one or many; a table in memory or a file
    with a column source_id (or the one that is named); a text file of one id a line. release: designations of another
    one are refused. Raises XpjaxError, and FileNotFoundError.
    """
    if isinstance(wanted, str | os.PathLike):
        text = str(wanted).strip()
        if isinstance(wanted, str) and _DESIGNATION.fullmatch(text) and not os.path.exists(text):
            return np.array([_of_cell(text, "source ids", release)])
        return _of_file(Path(os.path.expanduser(wanted)), column, release)
    if isinstance(wanted, int | np.integer) and not isinstance(wanted, bool):
        return _of_array(np.array([wanted]), release)
    if isinstance(wanted, list | tuple | set | frozenset | range):
        return _of_list([*wanted], release)
    if isinstance(wanted, np.ndarray) and wanted.dtype.names is None:
        return _of_array(wanted, release)
    if type(wanted).__name__ in ("Series", "Index", "Column", "MaskedColumn", "Array", "ChunkedArray", "ArrayImpl"):
        return _of_column(open_table({"source_id": wanted}).column("source_id"), release)
    if hasattr(wanted, "source_id") and hasattr(wanted, "coefficients"):  # a SourceTable
        return np.asarray(wanted.source_id, np.int64)
    table = open_table(wanted)
    return _of_column(table.column(column or id_column(table.names, "the table"), "source ids"), release)


def _of_list(items: list[Any], release: Release | None) -> np.ndarray:
    """Ids of integers and text, one by one: NumPy makes floats of integers beside large ones."""
    out = np.zeros(len(items), np.int64)
    for k, item in enumerate(items):
        if isinstance(item, str):
            out[k] = _of_cell(item, f"source id {k + 1}", release)
        elif is_missing(item):
            continue
        elif isinstance(item, float | np.floating) or (whole := integer(item)) is None:
            raise XpjaxError(f"source id {k + 1} is {item!r}; expected an integer of 64 bits, or its text")
        else:
            out[k] = whole
    return out


def _of_array(array: np.ndarray, release: Release | None) -> np.ndarray:
    if array.ndim != 1:
        raise XpjaxError(f"source ids are an array (n,), found {array.shape}")
    if array.dtype == object:
        return _of_list(array.tolist(), release)
    if array.dtype.kind == "f" and array.size:
        raise XpjaxError(
            f"source ids are {array.dtype}, which rounds them; read them as int64 or text (pandas: 'Int64')"
        )
    return _of_column(open_table({"source_id": array}).column("source_id"), release) if array.size else np.zeros(0, int)


def _of_column(column: Column, release: Release | None) -> np.ndarray:
    """A column of numbers or text as ids; floats only where they are exact. Raises XpjaxError."""
    ids = column.ids()
    if ids.value.dtype.kind in "iu":
        return ids.value
    return _of_cells(ids.value.tolist(), column.where, release)


def _of_file(path: Path, column: str | None, release: Release | None) -> np.ndarray:
    file, part = split_part(path)
    if not file.exists():
        raise FileNotFoundError(f"{path}: no such file of source ids")
    check_file(file)
    listed = None if part else _id_list(file)
    if listed is not None:
        name, lines = listed
        if column == name or (column is None and (not name or _is_id_name(name))):
            return np.array([_of_cell(cell, f"{path}: line {k}", release) for k, cell in lines], np.int64)
        if name and not _is_id_name(name):  # designations, which tables would take for several cells
            _name_of([name], path, column)
    table = open_table(path)
    if column is not None:
        return _of_column(table.column(column, "source ids"), release)
    return _of_column(table.column(_name_of(table.names, path)), release)


def _name_of(names: Sequence[str], path: Path, column: str | None = None) -> str:
    """The column of source ids of a file. Raises XpjaxError where there is none, or not the one that was named."""
    try:
        if column is not None:
            raise XpjaxError(f"{path} has no column {column!r}: it has {', '.join(names)}")
        return id_column(names, str(path))
    except XpjaxError as error:
        raise XpjaxError(f"{error}, or name the column: {say('column=', 'FILE:COLUMN')}") from None


def _is_id_name(name: str) -> bool:
    return bool(_ID_NAME.fullmatch(re.sub(r"[-_ ]", "", name.lower())))


def _id_list(path: Path) -> tuple[str, list[tuple[int, str]]] | None:
    """The name, if any, and the numbered lines of a text file of one id a line, without comments; None for a table."""
    text = text_of(path)
    if "\0" in text[:512]:
        return None
    lines = [(k, line.partition("#")[0].strip().strip(',;"')) for k, line in enumerate(text.splitlines(), 1)]
    filled = [(k, line) for k, line in lines if line]
    start = [line for _, line in filled[:2]]
    if start and _is_id_name(start[0]):
        return (start[0], filled[1:]) if len(start) == 1 or _DESIGNATION.fullmatch(start[1]) else None
    if start and _DESIGNATION.fullmatch(start[0]):
        return "", filled
    designation = _DESIGNATION.fullmatch(start[1]) if len(start) > 1 else None
    return (start[0], filled[1:]) if designation and designation[1] else None


def _of_cells(cells: Sequence[str], where: str, release: Release | None) -> np.ndarray:
    """Ids of cells of text; raises as `_of_cell`, with the row."""
    return np.array([_of_cell(cell, f"{where}: row {k + 1}", release) for k, cell in enumerate(cells)], np.int64)


def _of_cell(cell: str, where: str, release: Release | None) -> int:
    """The id that a number or a designation says; 0 for an empty cell. Raises XpjaxError for what is none."""
    if is_missing(cell):
        return 0
    match = _DESIGNATION.fullmatch(cell.strip())
    whole = integer(match[2]) if match else None
    if match is None or whole is None:
        raise XpjaxError(f"{where}: {cell!r} is no source id; expected an integer of 64 bits")
    if match[1] and release is not None and _folded(match[1]) != _folded(release.name):
        raise XpjaxError(
            f"{where}: {cell!r} is of another release than {release.name}, and ids may differ between releases; give "
            f"{say('release=', '--release')} that of the ids, or ids of {release.name}"
        )
    return whole


def _folded(name: str) -> str:
    """A release by its name alone; early releases and their full ones have the same ids."""
    return re.sub(r"\s+", " ", name).lower().replace("edr", "dr")
