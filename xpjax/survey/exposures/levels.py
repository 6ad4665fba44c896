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
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.survey import LEAST_VARIANCE, Frames, Observations
from xpjax.survey.exposures.evaluate import evaluate
from xpjax.survey.exposures.flat import StackedFlats, epochs
from xpjax.survey.exposures.model import GRID, chebyshev_places
from xpjax.survey.exposures.results import ExposureFits
from xpjax.survey.exposures.sums import StarSums, by_star, together


class Levels:
    """Levels of the frames of a survey, or of a part of it, on the way to zero-points.

    `sums` has what all parts are to tell, `zero_points` the fits with zero_point, zero_point_error and
    zero_point_common of terms and stacked flat together. common_floor (n_frame,) or one [mag]: the part of the floor
    that is common to a star on all frames. Frames are compared with those of the same band and detector. A frame
    without standards keeps its errors.
    """

    def __init__(
        self,
        observations: Observations,
        fits: ExposureFits,
        flats: StackedFlats | None,
        epoch: str | float = "all",
        common_floor: np.ndarray | float = 0.0,
        devices: str | int | None = None,
    ) -> None:
        frames = observations.frames
        places = chebyshev_places(fits.terms, *grid_places())
        level, self.flat_error = levels(frames, fits, flats, epoch)
        self.fits, self.zero_point = fits, np.median(level, axis=1)
        noise = np.einsum("kp,nkl,lp->np", places, fits.covariance, places).mean(axis=1)
        self.near = _near(level, self.zero_point, noise) @ places.T
        # A flat's own errors are part of the level, and decide with the noise which places are near.
        self.weight = _near(level, self.zero_point, noise + np.median(self.flat_error, axis=1) ** 2)
        self.fitted = (fits.n_standard > 0) & np.isfinite(self.zero_point)
        labels = np.array([frames.band.astype(str), frames.detector.astype(str)]).T.reshape(-1, 2)
        self.labels, self.kind = np.unique(labels, axis=0, return_inverse=True)
        self.kind = self.kind.ravel()
        self._stars(observations, common_floor, devices)

    def _stars(self, o: Observations, common_floor: np.ndarray | float, devices: str | int | None) -> None:
        """By how much each standard moves the zero-point of its frame, and the common variance of its model."""
        fits, fitted = self.fits, self.fitted
        inverse = fits.covariance + fits.common_covariance
        influence = dataclasses.replace(fits, value=np.nan_to_num(np.einsum("nkl,nl->nk", inverse, self.near)))
        rows = np.flatnonzero(fits.used & fitted[o.frame])
        part = evaluate(influence, o[rows], devices)
        self.frame = frame = o.frame[rows]
        tau = np.minimum(np.broadcast_to(np.asarray(common_floor, float), len(fits)), fits.floor)[frame]
        self.common = o.model_error[rows] ** 2 + tau**2
        error = np.where(o.magnitude_error[rows] > 0, o.magnitude_error[rows], 0.0)
        total = np.maximum(error**2 + o.model_error[rows] ** 2 + fits.floor[frame] ** 2, LEAST_VARIANCE)
        self.moves = (part.added + part.taken) / total
        self.stars = by_star(
            o.star[rows], self.kind[frame], self.labels, moves=self.moves, common=self.common, number=np.ones(len(rows))
        )

    def sums(self) -> dict[str, np.ndarray]:
        """Over the frames of each band and detector: their number and weights by place; and the sums of each star."""
        rows = [np.flatnonzero((self.kind == k) & self.fitted) for k in range(len(self.labels))]
        weight = [self.weight[mine].sum(axis=0) for mine in rows]
        return self.stars.arrays() | {
            "kinds": self.labels, "n_frame": np.array([*map(len, rows)]),
            "weight": np.stack(weight) if weight else np.zeros((0, GRID**2)),
        }  # fmt: skip

    def zero_points(self, whole: Mapping[str, np.ndarray]) -> ExposureFits:
        """The fits with zero-points and errors; whole: of `mean_levels`."""
        fits, fitted, kind, n_frame = self.fits, self.fitted, self.kind, len(self.fits)
        index = {tuple(label): k for k, label in enumerate(whole["kinds"].tolist())}
        place = np.array([index[tuple(label)] for label in self.labels.tolist()], int)
        mean = whole["weight"][place][kind]
        own = np.einsum("nk,nkl,nl->n", self.near, fits.covariance, self.near)
        own += ((self.weight - mean) ** 2 * self.flat_error**2).sum(axis=1)
        alike = (mean**2 * self.flat_error**2).sum(axis=1) + whole["of_stars"][place][kind]
        # Of each frame (moves - mean)^2 summed over all stars: the mean alone for those that it has not.
        at = StarSums.of(whole).places(self.stars)
        moved, variance = (whole[f"sums/{name}"][at][self.stars.code] for name in ("moves", "common"))
        here = np.bincount(self.frame, (self.moves - moved) ** 2 * self.common - moved**2 * variance, n_frame)
        own += np.maximum(here + whole["of_stars"][place][kind], 0)
        found = np.isfinite(self.zero_point)
        return dataclasses.replace(
            fits, zero_point=np.where(found, self.zero_point, fits.zero_point),
            zero_point_error=np.where(fitted, np.sqrt(np.maximum(own, 0)), fits.zero_point_error),
            zero_point_common=np.where(fitted, np.sqrt(np.maximum(alike, 0)), fits.zero_point_common),
        )  # fmt: skip


def mean_levels(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What the mean frame of each band and detector is like, from the sums of all parts of a survey.

    weight (n_kind, place): mean weights of the places; of each star and kind the mean by which it moves a zero-point,
    and its common variance; of_stars (n_kind,): variance of the mean frame by the errors of its stars.
    """
    kinds = np.unique(np.concatenate([part["kinds"] for part in parts]), axis=0)
    index = {tuple(label): k for k, label in enumerate(kinds.tolist())}
    number, weight = np.zeros(len(kinds), int), np.zeros((len(kinds), GRID**2))
    for part in parts:
        place = np.array([index[tuple(label)] for label in part["kinds"].tolist()], int)
        number[place] += part["n_frame"]
        weight[place] += part["weight"]
    stars, _ = together([StarSums.of(part) for part in parts])
    kind = np.array([index[tuple(label)] for label in stars.labels.tolist()], int)[stars.kind]
    moves = stars.sums["moves"] / np.maximum(number, 1)[kind]
    common = stars.sums["common"] / stars.sums["number"]
    means = dataclasses.replace(stars.without_code(), sums={"moves": moves, "common": common})
    return means.arrays() | {
        "kinds": kinds, "weight": weight / np.maximum(number, 1)[:, None],
        "of_stars": np.bincount(kind, moves**2 * common, len(kinds)),
    }  # fmt: skip


def with_zero_points(
    observations: Observations, fits: ExposureFits, flats: StackedFlats | None, *options: Any
) -> ExposureFits:
    """The fits of a whole survey with zero-points of terms and stacked flat together; options: as of `Levels`."""
    own = Levels(observations, fits, flats, *options)
    return own.zero_points(mean_levels([own.sums()]))


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
