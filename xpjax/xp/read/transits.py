"""Epoch spectra: which columns say that rows are transits of sources, their identifiers, and their times in days.

A table with a column of transits (`core.archive.TRANSIT`) is one of epoch spectra: a row for each source and transit.
Times are days of barycentric Julian date (TCB) since 2010.0, as the archive counts; Julian dates and modified ones,
told by their size, dates as text (taken as TCB), and astropy Times become such.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.archive import TIME, TIME_ORIGIN, TRANSIT
from xpjax.core.errors import XpjaxError
from xpjax.core.status import Status
from xpjax.core.units import unit_factor
from xpjax.io.cells import Vectors
from xpjax.io.columns import is_text
from xpjax.io.tables.ecsv import stated_units
from xpjax.io.tables.parsing import iso_day
from xpjax.io.words import is_missing
from xpjax.xp.read.layout import Table, ids_of, numbers
from xpjax.xp.sources import TRANSIT as COLUMNS

JULIAN, MODIFIED = 2.4e6, 4e4
"""Times beyond are Julian dates, and modified Julian dates: the archive's are below 4000 d."""


def transit_names(names: Iterable[str]) -> tuple[str | None, list[str]]:
    """The column of transits, None where there is none, and the columns of their times, the first one first."""
    folded = {name.lower(): name for name in names}
    transit = next((folded[name] for name in TRANSIT if name in folded), None)
    return transit, [folded[name] for name in TIME if name in folded] if transit is not None else []


def transits_of(table: Table) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """transit_id (n,) int64 and time (n,) [d] of a table of epoch spectra, else nothing; and bits of status (n,).

    Raises XpjaxError for transits as floats that lost digits, for arrays of them, and for times in no unit of time.
    """
    transit, times = transit_names(table.columns)
    status = np.zeros(table.n, np.uint32)
    if transit is None:
        return {}, status
    column = table.columns[transit]
    is_array = isinstance(column, np.ndarray) and (column.ndim > 1 or (column.dtype == object and not is_text(column)))
    if isinstance(column, Vectors) or is_array:
        raise XpjaxError(
            f"{table.origin}: {transit} has an array for each source; expected a row for each source and transit: "
            "bring the arrays into rows (pandas: DataFrame.explode), with the coefficients of each transit"
        )
    ids, missing = ids_of(table, transit)
    time = np.full(table.n, np.nan)
    for name in times:
        found, odd = _days(table, name)
        status[odd] |= np.uint32(Status.CELL_REPAIRED)
        np.copyto(time, found, where=np.isnan(time))
    status |= np.where(missing, np.uint32(Status.TRANSIT_MISSING), np.uint32(0))
    status |= np.where(np.isnan(time), np.uint32(Status.TIME_MISSING), np.uint32(0))
    return dict(zip(COLUMNS, (ids, time), strict=True)), status


def _days(table: Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column of times (n,) [d] since 2010.0, NaN where there is none, and which cells are odd."""
    time, odd = numbers(table, name)
    column: Any = table.columns[name]
    for i in np.flatnonzero(odd):
        time[i] = np.nan if is_missing(column[i]) else iso_day(str(column[i]).strip())
    odd &= np.isnan(time)
    unit = table.units.get(name)
    if unit and str(TIME_ORIGIN) not in unit:  # older descriptions: "Barycentric JD in TCB - 2455197.5 (day)"
        try:
            time *= unit_factor(unit, "time")
        except ValueError as error:
            raise XpjaxError(f"{table.origin}: column {name} has {error}; give times in days") from None
    time[~np.isfinite(time)] = np.nan
    time -= np.where(time > JULIAN, TIME_ORIGIN, np.where(time > MODIFIED, TIME_ORIGIN - 2400000.5, 0.0))
    return time, odd


# --- what is known of columns before they are read --------------------------------------------------------------------


def time_units(names: Iterable[str], units: Mapping[str, str | None]) -> dict[str, str]:
    """The units that are stated of the times of epoch spectra."""
    return {name: unit for name in transit_names(names)[1] if (unit := units.get(name))}


def header_units(names: Sequence[str], comments: Sequence[str]) -> dict[str, str]:
    """The same from the comments of a text file that are a header of ECSV. Raises XpjaxError for a broken one."""
    if not transit_names(names)[1] or not any("%ECSV" in line for line in comments[:3]):
        return {}
    lines = [line.removeprefix("#").removeprefix(" ").rstrip() for line in comments if "%ECSV" not in line]
    return time_units(names, stated_units(lines))


def in_days(source: Any) -> Any:
    """A mapping of columns or an astropy table whose times of transits, where they are Times, are days since 2010.0."""
    names = list(source) if isinstance(source, Mapping) else list(getattr(source, "colnames", ()))
    times = [name for name in transit_names(map(str, names))[1] if name in names and hasattr(source[name], "tcb")]
    if not times:
        return source
    from astropy.time import Time

    origin = Time(TIME_ORIGIN, format="jd", scale="tcb")
    days = {name: np.ma.filled((source[name].tcb - origin).to_value("day"), np.nan) for name in times}
    if isinstance(source, Mapping):
        return {**source, **days}
    source = source.copy(copy_data=False)
    for name, column in days.items():
        source[name] = column
    return source
