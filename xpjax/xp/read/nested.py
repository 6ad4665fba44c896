"""XP coefficients in nested columns and under other names, as HATS catalogues have them, in the archive's layout.

Known of themselves are the public HATS copy of Gaia DR3's coefficients (UniverseTBD/mmu_gaia_gaia) and what
`xpjax store export` writes; of any other table it is said which column is what. In nested columns BP and RP lie in one
array, BP first. A cross-match of LSDB gives columns a suffix, which is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.archive import SOURCE_COLUMNS, TIME, TRANSIT
from xpjax.core.errors import XpjaxError, say
from xpjax.core.release import DR3, RELEASES, Release, stated_release
from xpjax.io.tables import Ragged, Table
from xpjax.io.tables.raw import Raw
from xpjax.io.tables.table import Field
from xpjax.xp.read.layout import ARRAY_FIELDS, STORED_STATUS, archive_name, stated_in
from xpjax.xp.read.transits import transit_names

JOINT = ("coefficients", "coefficient_errors", "coefficient_correlations")
"""Arrays of BP and RP together, BP first, each XP as in the archive."""
NESTED = {
    "source_id": ("source_id", "object_id"),
    "coefficients": ("spectral_coefficients.coeff",),
    "coefficient_errors": ("spectral_coefficients.coeff_error",),
    "coefficient_correlations": ("spectral_correlations.coeff_correlation",),
}
"""Columns of the known nested layouts, the first that is there."""


def archive_layout(
    table: Table, xp: Sequence[str], columns: Mapping[str, str] | None = None, release: Release | None = None
) -> Table:
    """A table under the archive's names, itself where it has them; columns: which column is what, as `xpjax.read` says.

    Numbers of structures have the name of their field where no other column has it. Raises XpjaxError for columns that
    are not there, and for several sets of coefficients of which none is named.
    """
    places, suffix = _known(table, xp, columns)
    there = f"{xp[0]}_coefficients" in {archive_name(name, xp) for name in table.names}
    if not places and not (there and any("." in name for name in table.names)):
        return table
    plan = _plan(table, xp, places, suffix)
    fields = []
    for name, (old, _) in plan.items():
        known = table.fields[old]
        fields.append(Field(name, known.unit, known.description))
    joint = places.get("coefficients")

    def sizes() -> Release:
        return release or DR3 if joint is None else _release(table, table.raw(joint), release)

    def pull(names: Sequence[str]) -> dict[str, Raw]:
        table.load(plan[name][0] for name in names)
        out = {}
        for name in names:
            old, part = plan[name]
            raw = table.raw(old)
            out[name] = raw if part is None else _split(raw, sizes(), *part)
        return out

    told: dict[str, Any] = {"header": table.header, "meta": table.meta, "part": table.part}
    made = Table(table.origin, fields, table.n, pull, **told)
    made.repeated = table.repeated & {*plan}
    return made


def used_columns(
    table: Table, xp: Sequence[str], columns: Mapping[str, str] | None = None, *, errors: bool = True
) -> dict[str, str]:
    """The columns that hold ids, transits, coefficients and what belongs to them, as `columns` takes them.

    errors: whether errors and correlations are among them. Raises as `archive_layout`.
    """
    places, suffix = _known(table, xp, columns)
    noise = (*ARRAY_FIELDS[1:], "standard_deviation")
    fields = ("coefficients", "n_relevant_bases", *(noise if errors else ()))
    plan = _plan(table, xp, places, suffix)
    transit, times = transit_names(plan)
    wanted = ("source_id", *(f"{band}_{field}" for band in xp for field in fields), *times[:1], transit)
    used = {}
    for name, (old, part) in plan.items():
        name = archive_name(name, xp)
        if name in wanted:
            used[name if part is None else part[0]] = old
        elif name == STORED_STATUS:
            used["xp_status"] = old
    return used


def further_columns(table: Table, xp: Sequence[str], columns: Mapping[str, str] | None = None) -> dict[str, str]:
    """All other columns, as `columns` takes them. Raises as `archive_layout`."""
    used = {*used_columns(table, xp, columns).values()}
    plan = _plan(table, xp, *_known(table, xp, columns))
    return {name: old for name, (old, _) in plan.items() if old not in used}


def _known(table: Table, xp: Sequence[str], columns: Mapping[str, str] | None) -> tuple[dict[str, str], str]:
    """Which column is what, where names do not say it; and the suffix that a cross-match has given to all of them."""
    given = dict(columns or {})
    own = (*ARRAY_FIELDS, "n_relevant_bases", "standard_deviation")
    allowed = ("source_id", *JOINT, *(f"{band}_{field}" for band in xp for field in own), *TRANSIT, *TIME)
    for name, column in given.items():
        if name not in (*allowed, *SOURCE_COLUMNS, "xp_status") and name not in column:
            raise XpjaxError(
                f"columns: {name!r} is nothing that is read; expected {', '.join(allowed[:4])}, the same of one XP as "
                f"{allowed[4]}, or one of {', '.join(SOURCE_COLUMNS)}"
            )
        table.check(column, name)
    names = table.names
    if f"{xp[0]}_coefficients" in {archive_name(name, xp) for name in names}:
        return given, ""
    pattern = rf"spectral_coefficients(\w*)\.coeff|{xp[0]}_coefficients(_\w+)"
    found = [match for name in names if (match := re.fullmatch(pattern, name))]
    meant = given.get("coefficients") or given.get(f"{xp[0]}_coefficients")
    if meant is not None:
        found = [match for match in found if match[0] == meant]
    if len(found) > 1:
        key = "coefficients" if found[0][2] is None else f"{xp[0]}_coefficients"
        raise XpjaxError(
            f"{table.origin}: several sets of XP coefficients: {', '.join(match[0] for match in found)}; say which is "
            "meant with " + say(f"columns={{{key!r}: {found[0][0]!r}}}", f"--columns {key}={found[0][0]}")
        )
    if not found:
        return given, ""
    suffix = found[0][1] or found[0][2] or ""
    places = {}
    for key, candidates in NESTED.items():
        tried = [name for one in candidates for name in (_suffixed(one, suffix), one)]
        place = next((name for name in tried if name in names), None)
        if place is not None and (found[0][2] is None or key == "source_id"):
            places[key] = place
    return places | given, suffix


def _suffixed(name: str, suffix: str) -> str:
    """A column's name in a cross-match: the suffix stands behind the structure's name."""
    first, dot, rest = name.partition(".")
    return f"{first}{suffix}{dot}{rest}"


Part = tuple[str, int] | None
"""Of an array of both XPs: which array it is, and which XP is meant."""


def _plan(table: Table, xp: Sequence[str], places: Mapping[str, str], suffix: str) -> dict[str, tuple[str, Part]]:
    """The columns in the archive's layout: from which column of the table, and which part of it."""
    plan: dict[str, tuple[str, Part]] = {}
    for key, old in places.items():
        if key in JOINT:
            plan |= {f"{band}_{key}": (old, (key, k)) for k, band in enumerate(xp)}
        else:
            plan[STORED_STATUS if key == "xp_status" else key] = (old, None)
    nested = any(key in JOINT for key in places)
    others = [name for name in table.names if name not in places.values()]
    # Columns that are no fields of structures first: they keep their names.
    for old in sorted(others, key=lambda name: name.count(".")):
        first, *inner = old.split(".")
        first = first.removesuffix(suffix) if suffix else first
        name = inner[-1] if inner else first
        if nested and name == "xp_status":
            name = STORED_STATUS
        taken = name in plan or (name != old and name in table.fields)
        plan[old if taken else name] = (old, None)
    return plan


def _release(table: Table, raw: Raw, release: Release | None) -> Release:
    """The release by the number of coefficients of both XPs. Raises XpjaxError where it is none, or several."""
    length = _lengths(raw)
    there = length[length > 0]
    if not len(there):
        return release or DR3
    sizes = ", ".join(map(str, np.unique(there)[:5]))
    counts = {r: int(np.count_nonzero(there == r.n_basis_total)) for r in RELEASES}
    if len({r.n_basis_total for r, n in counts.items() if n}) > 1:
        raise XpjaxError(f"{table.origin}: holds sources of several releases; split it, and read each by itself")
    if release is not None and (there == release.n_basis_total).any():
        return release
    known = " or ".join(f"{r.n_basis_total} ({r.name})" for r in RELEASES)
    if release is not None:
        raise XpjaxError(
            f"{table.origin}: the coefficients of BP and RP together are {sizes} numbers a row, expected "
            f"{release.n_basis_total} ({release.name}); of the releases that are known it is {known}"
        )
    stated = stated_release(stated_in({**table.meta, **table.header}))
    best = stated if stated is not None and counts[stated] else max(counts, key=lambda r: counts[r])
    if 2 * counts[best] < len(there):
        raise XpjaxError(
            f"{table.origin}: the coefficients of BP and RP together are {sizes} numbers a row, expected {known}; for "
            f"another release pass {say('release=', '--system FILE.h5 of that release')}"
        )
    return best


def _lengths(raw: Raw) -> np.ndarray:
    """How many numbers each row (n,) has."""
    if isinstance(raw.values, Ragged):
        return raw.values.length
    size = raw.values.shape[1] if getattr(raw.values, "ndim", 1) > 1 else 0
    rows = raw.missing if raw.missing.ndim == 1 else raw.missing.all(axis=1)
    return np.where(rows, 0, size)


def _split(raw: Raw, release: Release, kind: str, k: int) -> Raw:
    """One XP's part of arrays of both; a row of another length is one number, NaN: neither missing nor good."""
    slices = release.pair_slices if kind == "coefficient_correlations" else release.slices
    total, own = slices[-1].stop, slices[k]
    if not isinstance(raw.values, Ragged):
        if getattr(raw.values, "ndim", 1) > 1 and raw.values.shape[1] in (0, total):
            return Raw(raw.values[:, own], raw.missing)
        values = np.asarray(raw.values)
        if values.ndim == 1:
            return raw  # no arrays, which is refused by name
        raw = Raw(Ragged(values[~raw.missing].ravel(), _lengths(raw)), raw.missing)
    flat, length = raw.values.flat, raw.values.length
    starts = np.cumsum(length) - length
    good = length == total
    width = own.stop - own.start
    sizes = np.where(good, width, np.minimum(length, 1))
    out = np.full(sizes.sum(), np.nan, np.result_type(flat, np.float32))
    to = (np.cumsum(sizes) - sizes)[good]
    out[to[:, None] + np.arange(width)] = flat[starts[good][:, None] + np.arange(own.start, own.stop)]
    return Raw(Ragged(out, sizes), raw.missing)
