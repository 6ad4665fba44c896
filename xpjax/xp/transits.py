"""Mock epoch spectra: each source as single transits see it, by a cadence as Gaia's, with noise of one transit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core.errors import XpjaxError
from xpjax.core.release import Release
from xpjax.core.status import Status
from xpjax.xp.sources import TRANSIT, SourceTable, XPCoefficients

MEAN_TRANSITS = 40
"""Transits that the errors of a mean spectrum of Gaia DR3 are of, about: those of one are sqrt(40) times as large."""
FIRST, LAST = 1666.4, 3671.9
"""The 66 months of Gaia DR4 [d since 2010.0]: 25 July 2014 to 20 January 2020."""
FIELDS = np.array([0.0, 106.5, 360.0, 466.5]) / 1440
"""Transits of a visit [d]: the preceding and the following field of view, and both again a turn of 6 h later."""
ONE_MISSING = 1 / 3
"""Share of the transits that lack BP or RP."""

Variability = Callable[[np.ndarray], ArrayLike]
"""Magnitudes about the mean at times (n, n_transit) [d]: (n, n_transit) for BP and RP, or (n, n_transit, n_xp)."""


def simulate_transits(table: SourceTable, transits: int, seed: int, variability: Variability | None) -> SourceTable:
    """Epoch spectra of mean ones: n_transit rows for each source by time. Raises XpjaxError.

    value = mean 10^(-0.4 change) + error L z, where error is sqrt(40) times that of the mean spectrum and L L' are its
    correlations, the identity where it has none. A third of the rows lack BP or RP.
    """
    if transits < 1:
        raise XpjaxError(f"the number of transits of a source must be positive, not {transits}")
    n, release = len(table), table.release
    mean: Any = table.coefficients
    # A stream for each source, so that the first ones do not depend on n.
    streams = [np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, 2010, i]))) for i in range(n)]
    time = np.array([_times(rng, transits) for rng in streams]).reshape(n, transits)
    change = np.zeros((n, transits, 1)) if variability is None else _checked(variability(time), time, release)
    rows = np.repeat(np.arange(n), transits)
    factor = 10 ** (-0.4 * change.reshape(n * transits, -1))
    value, error = mean.value[rows], mean.error[rows] * np.sqrt(MEAN_TRANSITS).astype(mean.value.dtype)
    absent = np.concatenate([_absent(rng, transits, len(release.xp)) for rng in streams]) if n else rows
    status = np.zeros(len(rows), np.uint32)
    correlation = None if mean.correlation is None else mean.correlation[rows]
    n_relevant = None if mean.n_relevant is None else mean.n_relevant[rows]
    for k, (xp, part, pairs) in enumerate(zip(release.xp, release.slices, release.pair_slices, strict=True)):
        size = (transits, release.n_basis[k])
        noise = np.array([rng.standard_normal(size) for rng in streams]).reshape(n, *size)
        if mean.correlation is not None:
            noise = noise @ _roots(mean.correlation[:, pairs], release.n_basis[k]).swapaxes(1, 2)
        value[:, part] *= factor[:, min(k, factor.shape[1] - 1), None]
        value[:, part] += error[:, part] * noise.reshape(len(rows), -1)
        gone = absent == k
        for array, own in ((value, part), (error, part), (correlation, pairs)):
            if array is not None:
                array[gone, own] = np.nan
        if n_relevant is not None:
            n_relevant[gone, k] = 0
        status[gone] |= np.uint32(Status[f"{xp.upper()}_MISSING"])
    # As in the archive: the time in its higher bits, more digits than float64 holds.
    transit_id = (time.ravel() * (86400 / 204.8e-6)).astype(np.int64) << 17
    transit_id += np.arange(len(rows)) % 2**17
    columns = dict(zip(TRANSIT, (transit_id, time.ravel()), strict=True))
    columns |= {name: column[rows] for name, column in table.columns.items()}
    coefficients = XPCoefficients(value, error, correlation, n_relevant, release)
    return SourceTable(table.source_id[rows], coefficients, status, columns, f"{table.origin}, {transits} transits")


def _checked(change: Any, time: np.ndarray, release: Release) -> np.ndarray:
    change = np.asarray(change, float)
    if change.shape == time.shape:
        change = change[..., None]
    if change.shape not in ((*time.shape, 1), (*time.shape, len(release.xp))):
        raise XpjaxError(
            f"variability gives magnitudes {change.shape}, expected {time.shape} as the times, or of {release.xp} "
            f"apart {(*time.shape, len(release.xp))}"
        )
    return change


def _times(rng: np.random.Generator, transits: int) -> np.ndarray:
    """Ascending times (n_transit,) [d] of a source: visits of one to four transits, weeks to months apart."""
    visits = -(-transits // 2)
    found = np.cumsum(rng.gamma(4.0, 1.0, visits + 1))
    several = (found[:-1] / found[-1] * (LAST - FIRST - 1))[:, None] + FIELDS
    seen = rng.random(several.shape) < 0.55
    all_of_them = FIRST + several[seen]
    if len(all_of_them) < transits:
        all_of_them = np.concatenate([all_of_them, rng.uniform(FIRST, LAST, transits - len(all_of_them))])
    return np.sort(rng.choice(all_of_them, transits, replace=False))


def _absent(rng: np.random.Generator, transits: int, n_xp: int) -> np.ndarray:
    """Which XP each transit lacks (n_transit,), -1 for none."""
    return np.where(rng.random(transits) < ONE_MISSING, rng.integers(0, n_xp, transits), -1)


def _roots(packed: np.ndarray, n_basis: int) -> np.ndarray:
    """L (n, n_basis, n_basis), L L' = R, of correlations (n, n_pair)."""
    full = np.zeros((len(packed), n_basis, n_basis)) + np.eye(n_basis)
    i, j = np.tril_indices(n_basis, -1)
    full[:, i, j] = full[:, j, i] = packed
    return np.linalg.cholesky(full)
