"""Observed magnitudes of XP sources, from a table: what passbands are fitted to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.ids import places_of
from xpjax.io.tables import Column, Table, open_table
from xpjax.xp import SourceTable, read

NO_MAGNITUDE = 90.0
"""Tables write 99 or -99 where there is no magnitude."""


def match_magnitudes(
    inputs: Sequence[str | os.PathLike[str]], table: Any, magnitude: str, error: str | float
) -> tuple[SourceTable, np.ndarray, np.ndarray, str]:
    """Match XP sources with a table of observed magnitudes by source_id.

    Parameters
    ----------
    inputs : sequence of path
        Files of XP coefficients; of a source that comes twice the first is taken.
    table
        File or table, as for `xpjax.io.tables.open_table`, with ``source_id``, one row a source.
    magnitude : str
        Its column of magnitudes [mag]; NaN, missing or beyond 90 is none.
    error : str or float
        Its column of errors [mag], or one error for all.

    Returns
    -------
    tuple
        The sources (n), magnitudes (n,) and errors (n,) [mag], and a line that says how many were found.

    Raises
    ------
    XpjaxError
        If a column is absent or holds something else, a source has two rows, or no source is in common.

    Examples
    --------
    >>> stars = xpjax.read("xp.parquet")
    >>> observed = {"source_id": stars.source_id[:30], "g": np.full(30, 15.0)}
    >>> found, magnitude, error, line = xpjax.synthetic.match_magnitudes(["xp.parquet"], observed, "g", 0.01)
    >>> len(found), error.shape
    (30, (30,))
    """
    rows = open_table(table)
    ids = _column(rows, "source_id").ids()
    if ids.value.dtype.kind not in "iu":
        raise XpjaxError(f"{rows.origin}: source_id holds text, expected Gaia's numbers")
    known = np.flatnonzero(~ids.missing & (ids.value != 0))
    values, counts = np.unique(ids.value[known], return_counts=True)
    if (counts > 1).any():
        raise XpjaxError(
            f"{rows.origin}: {(counts > 1).sum()} sources come twice or more, the first {values[counts > 1][0]}; keep "
            "one row a source"
        )
    observed = _column(rows, magnitude).numbers("magnitude")[known]
    observed = np.where(np.abs(observed) > NO_MAGNITUDE, np.nan, observed)
    try:
        sigma = np.full(len(known), float(error))
    except ValueError:
        sigma = _column(rows, str(error)).numbers("magnitude")[known]

    seen, parts, places, n = np.empty(0, np.int64), [], [], 0
    for path in inputs:
        part = read(path, dtype=np.float64, keep=[])
        place = places_of(part.source_id, ids.value[known])
        first = np.zeros(len(part), bool)
        first[np.unique(part.source_id, return_index=True)[1]] = True
        new = first & ~np.isin(part.source_id, seen) & (part.source_id != 0)
        matched = new & (place >= 0)
        n, seen = n + int(new.sum()), np.concatenate([seen, part.source_id[new]])
        parts.append(part[matched])
        places.append(place[matched])
    chosen = np.concatenate(places)
    said = f"{len(chosen):,} of {n:,} XP sources are among the {len(known):,} of {Path(rows.origin).name}"
    absent = int(np.isnan(observed[chosen]).sum())
    said += f", {absent:,} of these without a magnitude" * bool(absent)
    if not len(chosen):
        raise XpjaxError(f"no XP source is in {rows.origin}; are both the same release's source_id?")
    return read(parts), observed[chosen], sigma[chosen], "; ".join([said, *rows.notes])


def _column(table: Table, name: str) -> Column:
    """A column by its name, in any case where the name itself is not there."""
    alike = [own for own in table.names if own.lower() == name.lower()]
    return table.column(name if name in table or len(alike) != 1 else alike[0])
