"""The sources that a call names: given ones, or ids whose spectra are fetched; and columns of them that are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.core.release import DR3, Release
from xpjax.xp.download.job import fetch
from xpjax.xp.read.archive import as_sources
from xpjax.xp.sources import TRANSIT, UNITS, AnySources, SourceTable
from xpjax.xp.wanted import AnyIds

R = TypeVar("R", bound=Any)


def asked_sources(
    sources: AnySources | None, ids: AnyIds | None, release: Release | None, keep: Sequence[str] | str | None = None
) -> SourceTable:
    """The sources, or those of ids from the Gaia archive, with columns that are to be kept. Raises XpjaxError."""
    if (sources is None) == (ids is None):
        given = "neither" if ids is None else "both"
        raise XpjaxError(f"{given} of sources and ids= given: name sources, or ids whose spectra are to be fetched")
    found = as_sources(sources, release) if ids is None else fetch(ids, release=release or DR3)
    assert isinstance(found, SourceTable)
    absent = [name for name in _names(keep) if name not in found.columns]
    if absent:
        known = ", ".join(sorted(found.columns)) or "none"
        raise XpjaxError(f"keep: {found.origin} has no columns {absent}; it has {known}")
    return found


def _names(keep: Sequence[str] | str | None) -> list[str]:
    """Columns to be kept, less those that all results have."""
    return [n for n in ([keep] if isinstance(keep, str) else keep or ()) if n not in ("source_id", *TRANSIT)]


def keeping(result: R, table: SourceTable, keep: Sequence[str] | str | None) -> R:
    """A result of sources with columns of theirs that are passed on, and their units."""
    passed: Catalogue = result.passed
    columns = {**passed.columns, **{name: np.asanyarray(table.columns[name]) for name in _names(keep)}}
    units = {**{name: UNITS[name] for name in _names(keep) if name in UNITS}, **passed.units}
    return dataclasses.replace(result, passed=dataclasses.replace(passed, columns=columns, units=units))
