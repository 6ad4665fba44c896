"""Epoch spectra: which columns say that rows are transits of sources, their identifiers, and their times in days.

A table with a column of transits (`core.archive.TRANSIT`) is one of epoch spectra: a row for each source and transit.
Times are days of barycentric Julian date (TCB) since 2010.0, as the archive counts; Julian dates and modified ones,
told by the size of the median of a column, dates as text (taken as TCB), lengths of time, and astropy's Times become
such. Columns of any other size are in a unit that nobody stated, and refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.archive import TIME, TIME_ORIGIN, TRANSIT
from xpjax.core.errors import XpjaxError
from xpjax.core.status import Status
from xpjax.core.units import is_unit, unit_factor
from xpjax.io.cells import Vectors
from xpjax.io.columns import is_text
from xpjax.io.tables.ecsv import stated_units
from xpjax.io.tables.parsing import iso_day
from xpjax.io.words import abridged, is_missing
from xpjax.xp.read.layout import Table, ids_of, numbers
from xpjax.xp.sources import TRANSIT as COLUMNS

KINDS = (
    (-2000.0, 4e4, 0.0),
    (4e4, 8e4, TIME_ORIGIN - 2400000.5),
    (2.4e6, 2.5e6, TIME_ORIGIN),
)
"""From and to where times are days since 2010.0, modified Julian dates and Julian dates, and what 2010.0 is in each."""
RESOLUTION = 1e-3
"""Times that are coarser are refused [d]: transits last a minute, and Julian dates in float32 are six hours apart."""


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
        if not np.isnan(time).any():
            break
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
        time[i] = np.nan if is_missing(column[i]) else iso_day(str(column[i]).strip()) - KINDS[1][2]
    is_date = odd & ~np.isnan(time)
    odd &= np.isnan(time)
    unread = odd & [not is_missing(cell) for cell in column] if odd.any() else odd
    if isinstance(column, Vectors) or (unread.any() and np.isnan(time).all()):
        found = "arrays" if isinstance(column, Vectors) else abridged(np.asarray(column, object)[unread.argmax()])
        raise XpjaxError(
            f"{table.origin}: column {name} has {found}; expected days since 2010.0, Julian dates, or dates"
        )
    time[~np.isfinite(time)] = np.nan
    known = np.flatnonzero(~np.isnan(time) & ~is_date)
    if len(known):
        time[known] = _since_origin(table, name, time[known])
        odd[known] |= np.isnan(time[known])
    return time, odd


def _since_origin(table: Table, name: str, values: np.ndarray) -> np.ndarray:
    """Numbers (m,) of a column of times as days since 2010.0, NaN where one is none. Raises XpjaxError for all."""
    column, unit, factor = table.columns[name], table.units.get(name), 1.0
    if unit and str(TIME_ORIGIN) not in unit:  # older descriptions: "Barycentric JD in TCB - 2455197.5 (day)"
        try:
            factor = unit_factor(unit, "time")
        except ValueError as error:
            raise XpjaxError(f"{table.origin}: column {name} has {error}; give times in days") from None
    middle = np.sort(values)[(len(values) - 1) // 2]
    kind = next((kind for kind in KINDS if kind[0] <= middle * factor <= kind[1]), None)
    if kind is None:
        spans = [f"{low:.0f} to {high:.0f}" for low, high, _ in KINDS]
        remedy = "give days" if is_unit(unit) else "state the unit of times since 2010.0, or give days"
        raise XpjaxError(
            f"{table.origin}: column {name} has times as {middle:.10g}{f' {unit}' * is_unit(unit)}; expected days "
            f"since 2010.0 ({spans[0]}), modified ({spans[1]}) or Julian dates ({spans[2]}): {remedy}"
        )
    if isinstance(column, np.ndarray) and column.dtype.kind == "f" and column.dtype.itemsize < 8:
        step = float(np.spacing(np.abs(column.dtype.type(middle)))) * factor
        if step > RESOLUTION:
            raise XpjaxError(
                f"{table.origin}: column {name} is {column.dtype.name}, whose numbers as {middle:.10g} are {step:.2g} "
                "d apart; expected float64, or days since 2010.0"
            )
    days = values * factor
    return np.where((days >= kind[0]) & (days <= kind[1]), days - kind[2], np.nan)


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
    """A mapping of columns, astropy table or data frame whose times of transits, if Times or lengths, are in days."""
    is_frame = hasattr(source, "assign") and hasattr(source, "columns")
    names = list(source) if isinstance(source, Mapping) or is_frame else list(getattr(source, "colnames", ()))
    times = [name for name in transit_names(map(str, names))[1] if name in names]
    days = {name: column for name in times if (column := _in_days(source[name])) is not None}
    if not days:
        return source
    if isinstance(source, Mapping):
        return {**source, **days}
    if is_frame:
        return source.assign(**days)
    source = source.copy(copy_data=False)
    for name, column in days.items():
        source[name] = column
    return source


def _in_days(column: Any) -> np.ndarray | None:
    """A column of astropy's Times, or of NumPy's, as days since 2010.0, of lengths in days; None for any other."""
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    if kind and kind in "mM":
        moments = np.asarray(column, f"{kind}8[us]")
        return (moments - np.datetime64("2010-01-01") if kind == "M" else moments) / np.timedelta64(1, "D")
    if not (hasattr(column, "jd1") and hasattr(column, "to_value")):
        return None
    from astropy.time import Time

    if isinstance(column, Time):  # others are lengths
        column = column.tcb - Time(TIME_ORIGIN, format="jd", scale="tcb")
    return np.ma.filled(column.to_value("day"), np.nan)
