"""The layout of XP coefficients in any table: columns under the archive's names, checked; ids and numbers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.archive import TRANSIT
from xpjax.core.errors import XpjaxError, say
from xpjax.io.cells import Vectors, as_vectors
from xpjax.io.columns import Column, Text, all_numbers, as_scalars
from xpjax.io.words import abridged, integer, is_missing, parse_number

ARRAYS = ("coefficients", "coefficient_errors", "coefficient_correlations", "coefficient_covariances")
ARRAY_FIELDS = (*ARRAYS, "covariance_matrix")
STORED_STATUS = "stored xp_status"
"""Column with the status bits of an earlier reading, of tables that xpjax wrote in nested columns."""
STATED = ("release", "data_release")
"""Entries of headers that state the release, in any case."""


@dataclasses.dataclass(frozen=True)
class Table:
    """An input as columns of equal length n; `release` is the name of the release where the input states one.

    units: of the times of epoch spectra, where the input states them.
    """

    columns: Mapping[str, Column]
    n: int
    origin: str
    release: str | None = None
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)


def make_table(
    pairs: Iterable[tuple[str, Any]],
    xp: Sequence[str],
    origin: str,
    release: str | None = None,
    units: Mapping[str, str] | None = None,
) -> Table:
    """Columns under archive names, checked: present, unique and of one length. Raises ValueError."""
    named = [(archive_name(str(name), xp), raw) for name, raw in pairs]
    check_names([name for name, _ in named], xp, origin)
    columns: dict[str, Column] = {}
    for name, raw in named:
        try:
            columns[name] = as_vectors(raw) if is_array(name, xp) else as_scalars(raw)
        except (TypeError, ValueError) as error:
            raise XpjaxError(f"{origin}: column {name}: {error}") from error
    n = len(columns["source_id"])
    for name, column in columns.items():
        if len(column) != n:
            raise XpjaxError(f"{origin}: column {name} has {len(column)} rows, expected {n} as source_id has")
    return Table(columns, n, origin, release, units or {})


def check_names(names: Sequence[str], xp: Sequence[str], origin: str) -> None:
    """Raises ValueError for archive names (`archive_name`) without those that every input needs, or with one twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise XpjaxError(f"{origin}: the column {twice[0]} is there twice; rename one")
    needed = ["source_id", *(f"{band}_coefficients" for band in xp)]
    absent = [name for name in needed if name not in names]
    if not absent:
        return
    folded = {name.lower() for name in names}
    if absent == needed[1:] and folded & {*TRANSIT}:
        raise XpjaxError(
            f"{origin}: epoch spectra (transit_id) without coefficients: no {', '.join(absent)}; {listed(names)}; "
            "expected the coefficients of each transit; samples of epoch spectra are not read"
        )
    if absent == needed[1:] and "flux" in folded:
        raise XpjaxError(
            f"{origin}: holds sampled spectra (column flux), expected the coefficients of spectra "
            f"({', '.join(absent)}): download XP_CONTINUOUS for these sources; `xpjax wiggles correct` takes sampled "
            f"spectra, and xpjax.xp.read_spectra reads them"
        )
    raise XpjaxError(
        f"{origin}: wrong columns: no {', '.join(absent)}; {listed(names)}; expected the archive's XP_CONTINUOUS "
        f"columns (an XP without data needs its column too, with empty cells), or to be told which column is what by "
        + say('columns={"source_id": ..., "coefficients": ...}', "--columns source_id=NAME,coefficients=NAME")
    )


def stated_in(header: Mapping[str, Any]) -> str | None:
    """What a header says of the release, if anything."""
    return next((str(value) for name, value in header.items() if str(name).strip().lower() in STATED), None)


def listed(names: Iterable[str]) -> str:
    """What was found, for a message."""
    names = list(names)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"found {', '.join(name[:40] for name in names[:20]) or 'none'}{more}"


def archive_name(name: str, xp: Sequence[str]) -> str:
    """Archive columns in lower case, as some tools write SOURCE_ID; other names as they are, less spaces around."""
    name, lower = name.strip(), name.strip().lower()
    return lower if lower in ("source_id", "solution_id") or lower.startswith(tuple(f"{x}_" for x in xp)) else name


def is_array(name: str, xp: Sequence[str]) -> bool:
    """Whether an archive name is that of a column of arrays."""
    return name in {f"{band}_{field}" for band in xp for field in ARRAY_FIELDS}


def ids_of(table: Table, name: str = "source_id") -> tuple[np.ndarray, np.ndarray]:
    """Identifiers (n,) int64, 0 where one is missing or odd, and where that is. Raises ValueError."""
    column = table.columns[name]
    if isinstance(column, Text) and (quick := all_numbers(column)) is not None and quick.dtype.kind == "i":
        column = quick
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        big = column > np.iinfo(np.int64).max if column.dtype.kind == "u" else np.zeros(table.n, bool)
        ids = np.where(np.ma.getmaskarray(column) | np.ma.getdata(big), 0, np.ma.getdata(column)).astype(np.int64)
        ids[ids < 0] = 0
        return ids, ids == 0
    ids = np.zeros(table.n, np.int64)
    odd = []
    is_float = isinstance(column, np.ndarray) and column.dtype.kind == "f"
    cells: Any = column
    cells = np.ma.filled(cells, np.nan) if is_float else cells
    for i, cell in enumerate(cells):
        if is_missing(cell):
            continue
        number = integer(cell)
        if number is None:
            odd.append(i)
        elif number > 0:
            ids[i] = number
    if odd and (is_float or not ids.any()):
        raise XpjaxError(
            f"{table.origin}: row {odd[0] + 1}: {name} is {abridged(cells[odd[0]])}, expected an integer of "
            f"up to 19 digits, which floating-point numbers do not hold; give it as int64 or as text (pandas: 'Int64')"
        )
    return ids, ids == 0


def repeated(source_id: np.ndarray, transit_id: np.ndarray | None = None) -> np.ndarray:
    """Which ids, 0 apart, stand in an earlier row too; of epoch spectra which pairs of source and transit."""
    if transit_id is None:
        repeated = np.ones(len(source_id), bool)
        repeated[np.unique(source_id, return_index=True)[1]] = False
        return repeated & (source_id != 0)
    order = np.lexsort((transit_id, source_id))  # stable: the earlier row of a pair comes first
    same = np.zeros(len(order), bool)
    same[1:] = (np.diff(source_id[order]) == 0) & (np.diff(transit_id[order]) == 0)
    repeated = np.zeros(len(order), bool)
    repeated[order] = same
    return repeated & (source_id != 0) & (transit_id != 0)


def numbers(table: Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column of numbers (n,) float64, NaN where missing or odd or where there is no column; and where it is odd."""
    column = table.columns.get(name)
    out, odd = np.full(table.n, np.nan), np.zeros(table.n, bool)
    if isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "fiub":
        return np.ma.filled(column.astype(np.float64), np.nan), odd
    quick = all_numbers(column) if isinstance(column, Text) else None
    if quick is not None:
        return quick.astype(np.float64), odd
    cells: Any = () if column is None or isinstance(column, Vectors) else column
    for i, cell in enumerate(cells):
        try:
            out[i] = np.nan if is_missing(cell) else parse_number(str(cell))
        except ValueError:
            odd[i] = True
    return out, odd
