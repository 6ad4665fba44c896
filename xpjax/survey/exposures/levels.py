"""Zero-points of frames as medians over the detector, with errors that say what differs from frame to frame.

The zero-point of a frame is the median of everything that is added to a star, terms and stacked flat, over GRID x GRID
places. A median moves with the level at the places that lie near it, so noise enters by the terms there. Two errors are
common to all frames as far as the frames are equal. Each is split into the part of the mean frame, which moves all
zero-points together (the common error), and the rest on one frame (part of its own error):

- the error of a star's model enters with the weight that the star has on the frame, which dithers change;
- the error of the stacked flat enters at the places near the median, which the gradients of clouds change.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xpjax.survey import LEAST_VARIANCE, Frames, Observations
from xpjax.survey.exposures.evaluate import evaluate
from xpjax.survey.exposures.flat import StackedFlats, epochs
from xpjax.survey.exposures.model import GRID, chebyshev_places
from xpjax.survey.exposures.results import ExposureFits


def with_zero_points(
    observations: Observations,
    fits: ExposureFits,
    flats: StackedFlats | None,
    epoch: str | float = "all",
    common_floor: np.ndarray | float = 0.0,
    devices: str | int | None = None,
) -> ExposureFits:
    """The fits with zero_point, zero_point_error and zero_point_common of terms and stacked flat together.

    common_floor (n_frame,) or one [mag]: the part of the floor that is common to a star on all frames. Frames are
    compared with those of the same band and detector. A frame without standards keeps its errors.
    """
    frames = observations.frames
    places = chebyshev_places(fits.terms, *grid_places())
    level, flat_error = levels(frames, fits, flats, epoch)
    zero_point = np.median(level, axis=1)
    noise = np.einsum("kp,nkl,lp->np", places, fits.covariance, places).mean(axis=1)
    near = _near(level, zero_point, noise) @ places.T
    own = np.einsum("nk,nkl,nl->n", near, fits.covariance, near)
    kind, first = frames.group("band", "detector")
    fitted = (fits.n_standard > 0) & np.isfinite(zero_point)
    # A flat's own errors are part of the level, and decide with the noise which places are near.
    weight = _near(level, zero_point, noise + np.median(flat_error, axis=1) ** 2)
    alike = np.zeros(len(fits))
    for k in range(len(first)):
        mine = np.flatnonzero((kind == k) & fitted)
        if not len(mine):
            continue
        mean = weight[mine].mean(axis=0)
        own[mine] += ((weight[mine] - mean) ** 2 * flat_error[mine] ** 2).sum(axis=1)
        alike[mine] = (mean**2 * flat_error[mine] ** 2).sum(axis=1)
    stars = _star_errors(observations, fits, near, kind, fitted, common_floor, devices)
    own, alike = own + stars[0], alike + stars[1]
    return dataclasses.replace(
        fits, zero_point=np.where(np.isfinite(zero_point), zero_point, fits.zero_point),
        zero_point_error=np.where(fitted, np.sqrt(np.maximum(own, 0)), fits.zero_point_error),
        zero_point_common=np.where(fitted, np.sqrt(np.maximum(alike, 0)), fits.zero_point_common),
    )  # fmt: skip


def grid_places() -> tuple[np.ndarray, np.ndarray]:
    """Scaled places u, v (GRID^2,) of which the zero-point is the median."""
    axis = (np.arange(GRID) + 0.5) / GRID * 2 - 1
    u, v = (a.ravel() for a in np.meshgrid(axis, axis))
    return u, v


def levels(
    frames: Frames, fits: ExposureFits, flats: StackedFlats | None, epoch: str | float = "all"
) -> tuple[np.ndarray, np.ndarray]:
    """What is added at the places of each frame (n_frame, place) by terms and stacked flat, and the flat's errors."""
    u, v = grid_places()
    level = fits.value @ chebyshev_places(fits.terms, u, v)
    error = np.zeros_like(level)
    if flats is not None:
        group = flats.groups(frames, epochs(frames, epoch))
        known = group >= 0
        maps = np.stack([flats.at(np.full(len(u), g), u, v) for g in range(len(flats.labels))])
        level[known] += maps[group[known]]
        error[known] = _cell_errors(flats, u, v)[group[known]]
    return level, error


def _near(level: np.ndarray, median: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Derivative (n, place) of the median of levels (n, place) that noise of such variance (n,) smears."""
    with np.errstate(invalid="ignore"):
        away = np.square(level - median[:, None]) / np.maximum(variance, LEAST_VARIANCE)[:, None]
        # Counted from the nearest place: where the noise is far smaller than the steps, it is that one.
        weight = np.exp(-0.5 * (away - away.min(axis=1, keepdims=True)))
        return weight / weight.sum(axis=1, keepdims=True)


def _cell_errors(flats: StackedFlats, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Errors (n_group, place) of the cells in which places lie; an empty cell is as wrong as the worst one."""
    i, j = (np.clip(((a + 1) / 2 * flats.bins).astype(int), 0, flats.bins - 1) for a in (v, u))
    error = flats.error[:, i, j]
    finite = np.isfinite(error)
    worst = np.where(finite, error, 0.0).max(axis=1, keepdims=True)
    return np.where(finite, error, worst)


def _star_errors(
    o: Observations,
    fits: ExposureFits,
    near: np.ndarray,
    kind: np.ndarray,
    fitted: np.ndarray,
    common_floor: np.ndarray | float,
    devices: str | int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Model errors in zero-points: variance (n_frame,) of the part of one frame alone, and of the mean frame."""
    n_frame = len(fits)
    inverse = fits.covariance + fits.common_covariance
    influence = dataclasses.replace(fits, value=np.nan_to_num(np.einsum("nkl,nl->nk", inverse, near)))
    rows = np.flatnonzero(fits.used & fitted[o.frame])
    part = evaluate(influence, o[rows], devices)
    frame = o.frame[rows]
    tau = np.minimum(np.broadcast_to(np.asarray(common_floor, float), n_frame), fits.floor)[frame]
    common = o.model_error[rows] ** 2 + tau**2
    error = np.where(o.magnitude_error[rows] > 0, o.magnitude_error[rows], 0.0)
    total = np.maximum(error**2 + o.model_error[rows] ** 2 + fits.floor[frame] ** 2, LEAST_VARIANCE)
    weight = (part.added + part.taken) / total  # by which a star's error moves the zero-point
    own, alike = np.zeros(n_frame), np.zeros(n_frame)
    if not len(rows):
        return own, alike
    star = np.unique(o.star[rows], return_inverse=True)[1].astype(np.int64) * (kind.max() + 1) + kind[frame]
    star, number = np.unique(star, return_inverse=True)
    n_like = np.bincount(kind[fitted], minlength=kind.max() + 1)
    mean = np.bincount(number, weight) / n_like[star % (kind.max() + 1)]
    # Of each frame (weight - mean)^2 summed over all stars: the mean alone for those that it has not.
    variance = np.bincount(number, common) / np.bincount(number)
    whole = np.bincount(star % (kind.max() + 1), mean**2 * variance, kind.max() + 1)
    here = np.bincount(frame, (weight - mean[number]) ** 2 * common - mean[number] ** 2 * variance[number], n_frame)
    return np.where(fitted, np.maximum(here + whole[kind], 0), 0), np.where(fitted, whole[kind], 0)
