"""Rows matched to a reference, by identifier or by position."""

from __future__ import annotations

import dataclasses

import numpy as np

from xpjax.core.ids import places_of

STEP = 0.05
"""Displacement [arcsec] of the fastest reference within which rows of different times are matched together."""
STEPS = (0.02, 5.0)
"""The least and the greatest time [yr] of rows that are matched together."""


@dataclasses.dataclass(frozen=True)
class Match:
    """Which reference row each row is: index (n,), -1 for none; and how many were dropped as ambiguous."""

    index: np.ndarray
    n_ambiguous: int

    @property
    def n_matched(self) -> int:
        """Rows with a reference."""
        return int(np.count_nonzero(self.index >= 0))


def match_ids(ids: np.ndarray, reference: np.ndarray) -> Match:
    """Rows with the id of a reference row; ids that the reference has twice, or 0, are ambiguous and dropped."""
    place = places_of(ids, reference)
    if np.asarray(reference).dtype.kind in "iu":
        place = np.where(ids == 0, -1, place)
    times = np.bincount(places_of(reference, reference), minlength=1)  # how often the id of each first row comes
    twice = (place >= 0) & (times[place] > 1)
    return Match(np.where(twice, -1, place), int(np.count_nonzero(twice)))


def match_positions(
    ra: np.ndarray,
    dec: np.ndarray,
    reference_ra: np.ndarray,
    reference_dec: np.ndarray,
    *,
    radius: float = 1.0,
    pm_ra: np.ndarray | None = None,
    pm_dec: np.ndarray | None = None,
    years: float | np.ndarray = 0.0,
    frame: np.ndarray | None = None,
) -> Match:
    """Rows within radius [arcsec] of one reference row, and of one only.

    ra, dec [deg] (n,); pm_ra (with cos dec), pm_dec [mas/yr] move the reference by `years`, one or for each row (n,),
    where they are finite. A row with two references within the radius, and rows of one frame (n,) that share one, are
    ambiguous: dropped and counted; by default all rows are of one frame. Nearest neighbors on unit vectors by scipy's
    cKDTree.
    """
    if np.ndim(years):
        return _match_at(ra, dec, reference_ra, reference_dec, radius, pm_ra, pm_dec, np.asarray(years), frame)
    found = _nearest(ra, dec, reference_ra, reference_dec, radius, pm_ra, pm_dec, float(years))
    return _without_shared(found, frame)


def _match_at(
    ra: np.ndarray,
    dec: np.ndarray,
    reference_ra: np.ndarray,
    reference_dec: np.ndarray,
    radius: float,
    pm_ra: np.ndarray | None,
    pm_dec: np.ndarray | None,
    years: np.ndarray,
    frame: np.ndarray | None,
) -> Match:
    """The same for rows of different times, which are put together as long as no reference moves by more than STEP."""
    speed = 0.0
    if pm_ra is not None and pm_dec is not None and len(pm_ra):
        speed = float(np.nan_to_num(np.hypot(pm_ra, pm_dec)).max()) / 1e3
    step = np.clip(STEP / max(speed, 1e-9), *STEPS)
    index, n_ambiguous = np.full(len(ra), -1), 0
    epochs, which = np.unique(np.round(np.nan_to_num(years) / step), return_inverse=True)
    for k in range(len(epochs)):
        rows = np.flatnonzero(which == k)
        year = float(np.nan_to_num(years[rows]).mean())
        found = _nearest(ra[rows], dec[rows], reference_ra, reference_dec, radius, pm_ra, pm_dec, year)
        index[rows] = found.index
        n_ambiguous += found.n_ambiguous
    return _without_shared(Match(index, n_ambiguous), frame)


def _without_shared(found: Match, frame: np.ndarray | None) -> Match:
    """The matches less those of rows of one frame (n,) that share a reference."""
    index = found.index.copy()
    rows = np.flatnonzero(index >= 0)
    keys = index[rows] if frame is None else np.stack([index[rows], frame[rows]], axis=1)
    _, inverse, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    shared = rows[count[inverse.ravel()] > 1] if len(rows) else rows
    index[shared] = -1
    return Match(index, found.n_ambiguous + len(shared))


def _nearest(
    ra: np.ndarray,
    dec: np.ndarray,
    reference_ra: np.ndarray,
    reference_dec: np.ndarray,
    radius: float,
    pm_ra: np.ndarray | None,
    pm_dec: np.ndarray | None,
    years: float,
) -> Match:
    """The only reference within the radius of each row."""
    from scipy.spatial import cKDTree

    n, m = len(ra), len(reference_ra)
    if pm_ra is not None and pm_dec is not None and years:
        shift = years / 3.6e6
        moved = np.nan_to_num(np.asarray(pm_dec, float)) * shift
        cos = np.maximum(np.cos(np.deg2rad(reference_dec)), 1e-6)
        reference_ra = reference_ra + np.nan_to_num(np.asarray(pm_ra, float)) * shift / cos
        reference_dec = reference_dec + moved
    index = np.full(n, -1)
    good = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    known = np.flatnonzero(np.isfinite(reference_ra) & np.isfinite(reference_dec))
    if not (len(good) and len(known) and m):
        return Match(index, 0)
    tree = cKDTree(unit_vectors(reference_ra[known], reference_dec[known]))
    chord = 2 * np.sin(np.deg2rad(radius / 3600) / 2)
    distance, nearest = tree.query(unit_vectors(ra[good], dec[good]), k=2, distance_upper_bound=chord)
    one = np.isfinite(distance[:, 0]) & ~np.isfinite(distance[:, 1])
    index[good[one]] = known[nearest[one, 0]]
    return Match(index, int(np.isfinite(distance[:, 1]).sum()))


def separation(ra: np.ndarray, dec: np.ndarray, reference_ra: np.ndarray, reference_dec: np.ndarray) -> float:
    """The least separation [arcsec] of positions [deg] from reference positions, none of them missing."""
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(unit_vectors(reference_ra, reference_dec)).query(unit_vectors(ra, dec))
    return float(np.rad2deg(2 * np.arcsin(min(distance.min() / 2, 1.0))) * 3600)


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Unit vectors (n, 3) of positions [deg]."""
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)
