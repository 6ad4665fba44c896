"""Files of gaia_source: positions and magnitudes that are joined to sources by source_id."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.ids import places_of
from xpjax.io.tables import Table, open_table

JOINED = {
    "ra": np.float64,
    "dec": np.float64,
    **dict.fromkeys(("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "bp_rp"), np.float32),
    **dict.fromkeys(("ebv", "ebv_error"), np.float32),
}
"""Columns of gaia_source that are joined, or kept where the XP file itself has them."""


def gaia_columns(files: Iterable[Path]) -> tuple[str, ...]:
    """The columns of `JOINED` that any of these files has. Raises XpjaxError for a file without source_id."""
    found = set()
    for path in files:
        table = open_table(path)
        names = set(_named(table))
        if "source_id" not in names:
            table.check("source_id", "the join of gaia_source")
        if {"phot_bp_mean_mag", "phot_rp_mean_mag"} <= names:
            names.add("bp_rp")
        if not names & {*JOINED}:
            raise XpjaxError(f"{path}: none of the columns {', '.join(JOINED)}; it has {', '.join(table.names[:20])}")
        found |= names & {*JOINED}
    return tuple(name for name in JOINED if name in found)


def _named(table: Table) -> dict[str, str]:
    """The columns of a table that matter here, whatever their case. Raises XpjaxError for one that is there twice."""
    out: dict[str, str] = {}
    for name in table.names:
        lower = name.lower()
        if lower in ("source_id", *JOINED):
            if lower in out or name in table.repeated:
                raise XpjaxError(f"{table.origin}: the column {name} is there twice; rename one")
            out[lower] = name
    return out


@functools.lru_cache(maxsize=2)
def _gaia_table(path: Path) -> dict[str, np.ndarray]:
    """source_id, ascending, and the columns of `JOINED` that a file of gaia_source has. Raises XpjaxError."""
    table = open_table(path)
    names = _named(table)
    table.load(names.values())
    ids = table.column(names["source_id"]).ids()
    if ids.value.dtype.kind not in "iu":
        raise XpjaxError(f"{path}: column {names['source_id']!r} holds text, expected Gaia's numbers")
    known = np.flatnonzero(~ids.missing & (ids.value != 0))
    order = known[np.argsort(ids.value[known], kind="stable")]  # once, for all blocks that are joined
    out = {"source_id": ids.value[order]}
    for lower, name in names.items():
        if lower != "source_id":
            column = table.column(name)
            is_angle = lower in ("ra", "dec")
            out[lower] = (column.angles(hours=lower == "ra") if is_angle else column.numbers("magnitude"))[order]
    if "bp_rp" not in out and {"phot_bp_mean_mag", "phot_rp_mean_mag"} <= {*out}:
        out["bp_rp"] = out["phot_bp_mean_mag"] - out["phot_rp_mean_mag"]
    return out


def join(ids: np.ndarray, files: Sequence[Path], names: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns (n,) of gaia_source for these ids, NaN where no file has them; and which ids were found."""
    columns = {name: np.full(len(ids), np.nan, JOINED[name]) for name in names}
    found = np.zeros(len(ids), bool)
    here = ids[ids != 0] >> 43
    for path in files:
        # The archive's name of a bulk file says its first and last HEALPix pixel of level 8.
        pixels = re.search(r"_(\d+)-(\d+)\.", path.name)
        if not len(here) or (pixels and (int(pixels[2]) < here.min() or int(pixels[1]) > here.max())):
            continue
        table = _gaia_table(path)
        place = places_of(ids, table["source_id"])
        matched = (place >= 0) & (ids != 0)
        for name in names:
            if name in table:
                columns[name][matched] = table[name][place[matched]]
        found |= matched
    return columns, found
