"""Zero-points of frames as medians over the detector, with errors that say what differs from frame to frame.

The zero-point of a frame is the median of everything that is added to a star, terms and stacked flat, over GRID x GRID
places. A median moves with the level at the places that lie near it, so noise enters by the terms there. Other errors
are common to all frames as far as the frames are equal. Each is split into what the frames of a band and detector have
in common (the common error) and the rest on one frame (part of its own error):

- the error of a star's model enters with the weight that the star has on the frame, which dithers change;
- XP's errors on the sky reach a frame by its terms, as dithers see other parts of the sky, and by the stacked flat, as
  does the flat's own error, of noise and of the stars in its cells. Both are larger than the noise of a frame, and
  clouds, which are not even, have the median in other places of a wrong flat. Zero-points are therefore taken again
  with draws of these errors taken off. Every draw of the sky comes with both signs, to tell the flat's part in the
  common error from that of the sky, which `model_systematic` has.

Terms that the standards of a frame could not tell are not zero: see `left_out`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.survey import LEAST_VARIANCE, Frames, Observations, sky_draws
from xpjax.survey.exposures.flat import DRAWS, StackedFlats, epochs
from xpjax.survey.exposures.left_out import LACKING, LeftOut, places_of
from xpjax.survey.exposures.model import GRID, chebyshev_places, host_design
from xpjax.survey.exposures.results import ExposureFits
from xpjax.survey.exposures.sums import StarSums, by_star, together


class Levels:
    """Levels of the frames of a survey, or of a part of it, on the way to zero-points.

    `drawn_sums` and, after `move`, `sums` have what all parts are to tell, `zero_points` the fits with zero_point,
    zero_point_error and zero_point_common of terms and stacked flat together. common_floor (n_frame,) or one [mag]: the
    part of the floor that is common to a star on all frames. typical (n_frame, n_term) [mag]: terms of other frames of
    the same band and detector, with which frames are compared. A frame without standards keeps its errors.
    """

    def __init__(
        self,
        observations: Observations,
        fits: ExposureFits,
        flats: StackedFlats | None,
        epoch: str | float = "all",
        common_floor: np.ndarray | float = 0.0,
        typical: np.ndarray | None = None,
    ) -> None:
        frames = observations.frames
        places = chebyshev_places(fits.terms, *grid_places())
        level = levels(frames, fits, flats, epoch)
        self.fits, self.zero_point = fits, np.median(level, axis=1)
        noise = np.einsum("kp,nkl,lp->np", places, fits.covariance, places).mean(axis=1)
        self.near = _near(level, self.zero_point, noise) @ places.T
        self.fitted = (fits.n_standard > 0) & np.isfinite(self.zero_point)
        labels = np.array([frames.band.astype(str), frames.detector.astype(str)]).T.reshape(-1, 2)
        self.labels, self.kind = np.unique(labels, axis=0, return_inverse=True)
        self.kind = self.kind.ravel()
        rows = np.flatnonzero(fits.used & self.fitted[observations.frame])
        rows = rows[np.argsort(observations.frame[rows], kind="stable")]
        design, weight = self._stars(observations, rows, common_floor)
        self.left_out = LeftOut(fits, self.kind, self.labels, observations.frame[rows], design, weight)
        self.noise = fits.value - typical if typical is not None else np.full_like(fits.value, np.nan)
        self.level, self.places = level, places
        self._draw(observations, rows, design * weight[:, None], flats, epoch)

    def _stars(
        self, o: Observations, rows: np.ndarray, common_floor: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """By how much each standard moves the zero-point of its frame, and the common variance of its model.

        Gives design (n, n_term) and weights of the rows.
        """
        fits, self.frame = self.fits, o.frame[rows]
        u, v = fits.scaling.places(self.frame, o.x[rows], o.y[rows])
        design = host_design(
            fits.terms, {
                "u": u if fits.terms.position_order else 0 * u, "v": v if fits.terms.position_order else 0 * v,
                "color": o.color[rows] - fits.scaling.color_zero,
                "magnitude": o.magnitude[rows] - fits.scaling.magnitude_zero, "amplifier": o.amplifier[rows],
            },
        )  # fmt: skip
        inverse = fits.covariance + fits.common_covariance
        tau = np.minimum(np.broadcast_to(np.asarray(common_floor, float), len(fits)), fits.floor)[self.frame]
        self.common = o.model_error[rows] ** 2 + tau**2
        error = np.where(o.magnitude_error[rows] > 0, o.magnitude_error[rows], 0.0)
        total = np.maximum(error**2 + o.model_error[rows] ** 2 + fits.floor[self.frame] ** 2, LEAST_VARIANCE)
        influence = np.nan_to_num(np.einsum("nkl,nl->nk", inverse, self.near))
        self.moves = np.einsum("nk,nk->n", design, influence[self.frame]) / total
        self.stars = by_star(
            o.star[rows], self.kind[self.frame], self.labels, moves=self.moves, common=self.common,
            number=np.ones(len(rows)),
        )  # fmt: skip
        return design, 1 / total

    def _draw(
        self, o: Observations, rows: np.ndarray, weighted: np.ndarray, flats: StackedFlats | None, epoch: str | float
    ) -> None:
        """What draws of errors do to flats, and to the terms of frames (n_frame, n_term, draw) beside the flats.

        Half of the draws are of errors on the sky, half of those of flats. weighted (n, n_term): the weighted design of
        the rows. Without such errors there is one draw without effect.
        """
        fits, frames, cells = self.fits, o.frames, None if o.sky_cell is None else o.sky_cell[rows]
        self.maps, self.group = [], np.full(len(frames), -1)
        if flats is not None and flats.draws is not None:
            self.maps, self.group = [*flats.draws], flats.groups(frames, epochs(frames, epoch))
        none = not self.maps and cells is None
        self.maps.append(np.zeros((1, 2 if none else 2 * DRAWS)))  # of frames without a flat, whose group is -1
        self.drawn = np.zeros((len(fits), len(fits.terms), self.maps[-1].shape[1]))
        if none:
            return
        draws, code = sky_draws(np.full(len(rows), -1) if cells is None else cells, DRAWS)
        inverse = fits.covariance + fits.common_covariance
        u, v = fits.scaling.places(self.frame, o.x[rows], o.y[rows])
        edges = np.searchsorted(self.frame, np.arange(len(fits) + 1))
        for k in np.flatnonzero(self.fitted):
            mine, flat = slice(edges[k], edges[k + 1]), self.maps[self.group[k]]
            left = -_sums(weighted[mine], _cells(flat, u[mine], v[mine]), len(flat)) @ flat
            left[:, :DRAWS] += _sums(weighted[mine], code[mine], len(draws)) @ draws
            self.drawn[k] = inverse[k] @ left

    def drawn_sums(self) -> dict[str, np.ndarray]:
        """Over the frames of each band and detector: their number, and what draws do to their terms."""
        rows = self._frames()
        return {
            "kinds": self.labels, "n_frame": np.array([*map(len, rows)], int),
            "drawn": np.reshape([self.drawn[mine].sum(axis=0) for mine in rows], (len(rows), *self.drawn.shape[1:])),
        }  # fmt: skip

    def move(self, whole: Mapping[str, np.ndarray]) -> None:
        """Find by how much draws move zero-points; whole: `drawn` of `mean_of_kinds`.

        Frames that differ by their noise alone see a wrong flat in the same places: noise is taken off the levels.
        """
        mean = whole["drawn"][places_of(self.labels, whole["kinds"])][self.kind]
        level = self.level - _noise_of_terms(self.fits, self.noise, self.drawn - mean) @ self.places
        half = self.drawn.shape[-1] // 2
        self.moved = np.zeros((len(self.fits), 2, half))
        for k in np.flatnonzero(self.fitted):
            flat = self.maps[self.group[k]]
            moved = self.places.T @ self.drawn[k] + flat[_cells(flat, *grid_places())]
            for j, sign in enumerate((1, -1)):
                off = level[k][:, None] - sign * moved[:, :half] - moved[:, half:]
                self.moved[k, j] = np.median(off, axis=0) - np.median(level[k])

    def _frames(self) -> list[np.ndarray]:
        return [np.flatnonzero((self.kind == k) & self.fitted) for k in range(len(self.labels))]

    def sums(self) -> dict[str, np.ndarray]:
        """Over the frames of each band and detector: their number and what draws do to them; and the sums of stars."""
        rows = self._frames()
        moved = [self.moved[mine].sum(axis=0) for mine in rows]
        return self.stars.arrays() | self.left_out.sums() | {
            "kinds": self.labels, "n_frame": np.array([*map(len, rows)], int),
            "moved": np.reshape(moved, (len(rows), *self.moved.shape[1:])),
        }  # fmt: skip

    def zero_points(self, whole: Mapping[str, np.ndarray]) -> ExposureFits:
        """The fits with zero-points and errors; whole: of `mean_levels`."""
        fits, fitted, kind, n_frame = self.left_out.known(whole), self.fitted, self.kind, len(self.fits)
        place = places_of(self.labels, whole["kinds"])
        mean = whole["moved"][place][kind]
        own = np.einsum("nk,nkl,nl->n", self.near, fits.covariance, self.near)
        own += np.square(self.moved - mean).mean(axis=(1, 2))
        alike = np.square(mean.mean(axis=1)).mean(axis=1) + whole["of_stars"][place][kind]
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


def mean_of_kinds(parts: Sequence[Mapping[str, np.ndarray]], *names: str) -> dict[str, np.ndarray]:
    """The bands and detectors of all parts of a survey, and means over their frames of what was summed by name."""
    kinds = np.unique(np.concatenate([part["kinds"] for part in parts]), axis=0)
    sums = {name: np.zeros((len(kinds), *parts[0][name].shape[1:])) for name in ("n_frame", *names)}
    for part in parts:
        at = places_of(part["kinds"], kinds)
        for name, values in sums.items():
            values[at] += part[name]
    number = np.maximum(sums.pop("n_frame"), 1)
    means = {name: values / np.expand_dims(number, tuple(range(1, values.ndim))) for name, values in sums.items()}
    return means | {"kinds": kinds, "n_frame": number}


def mean_levels(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What the mean frame of each band and detector is like, from the sums of all parts of a survey.

    moved (n_kind, 2, draw): mean effect of draws; of each star and kind the mean by which it moves a zero-point, and
    its common variance; of_stars (n_kind,): variance of the mean frame by the errors of its stars. And means of
    `LeftOut`.
    """
    means = mean_of_kinds(parts, "moved", *LACKING)
    kinds, number = means["kinds"], means["n_frame"]
    stars, _ = together([StarSums.of(part) for part in parts])
    kind = places_of(stars.labels, kinds)[stars.kind]
    moves = stars.sums["moves"] / number[kind]
    common = stars.sums["common"] / stars.sums["number"]
    by_star = dataclasses.replace(stars.without_code(), sums={"moves": moves, "common": common})
    return means | by_star.arrays() | {"of_stars": np.bincount(kind, moves**2 * common, len(kinds))}


def with_zero_points(
    observations: Observations, fits: ExposureFits, flats: StackedFlats | None, *options: Any
) -> ExposureFits:
    """The fits of a whole survey with zero-points of terms and stacked flat together; options: as of `Levels`."""
    own = Levels(observations, fits, flats, *options)
    own.move(mean_of_kinds([own.drawn_sums()], "drawn"))
    return own.zero_points(mean_levels([own.sums()]))


def grid_places() -> tuple[np.ndarray, np.ndarray]:
    """Scaled places u, v (GRID^2,) of which the zero-point is the median."""
    axis = (np.arange(GRID) + 0.5) / GRID * 2 - 1
    u, v = (a.ravel() for a in np.meshgrid(axis, axis))
    return u, v


def levels(frames: Frames, fits: ExposureFits, flats: StackedFlats | None, epoch: str | float = "all") -> np.ndarray:
    """What is added at the places of each frame (n_frame, place) by terms and stacked flat [mag]."""
    u, v = grid_places()
    level = fits.value @ chebyshev_places(fits.terms, u, v)
    if flats is not None:
        group = flats.groups(frames, epochs(frames, epoch))
        known = group >= 0
        maps = np.stack([flats.at(np.full(len(u), g), u, v) for g in range(len(flats.labels))])
        level[known] += maps[group[known]]
    return level


def _noise_of_terms(fits: ExposureFits, difference: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """What is noise of the differences (n_frame, n_term) of position terms from typical ones, after James and Stein.

    drawn (n_frame, n_term, draw): what draws of errors on the sky and of flats do to the terms beside other frames.
    """
    known = fits.active & (fits.terms.kinds == "position") & np.isfinite(difference)
    off = np.where(known, difference, 0.0)
    off[:, 0] = 0.0
    for k in np.flatnonzero(off.any(axis=1)):
        chosen = np.flatnonzero(off[k])
        covariance = fits.covariance[k] + 2 * drawn[k] @ drawn[k].T / drawn.shape[-1]
        inverse = np.linalg.pinv(covariance[np.ix_(chosen, chosen)], hermitian=True)
        square = off[k, chosen] @ inverse @ off[k, chosen]
        off[k] *= min(len(chosen) / max(square, np.finfo(float).tiny), 1.0)
    return off


def _near(level: np.ndarray, median: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Derivative (n, place) of the median of levels (n, place) that noise of such variance (n,) smears."""
    with np.errstate(invalid="ignore"):
        away = np.square(level - median[:, None]) / np.maximum(variance, LEAST_VARIANCE)[:, None]
        # Counted from the nearest place: where the noise is far smaller than the steps, it is that one.
        weight = np.exp(-0.5 * (away - away.min(axis=1, keepdims=True)))
        return weight / weight.sum(axis=1, keepdims=True)


def _cells(flat: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The cells (n,) of a flat (cell, draw) in which scaled places u, v (n,) lie."""
    bins = round(np.sqrt(len(flat)))
    i, j = (np.clip(((np.nan_to_num(a) + 1) / 2 * bins).astype(int), 0, bins - 1) for a in (v, u))
    return i * bins + j


def _sums(values: np.ndarray, code: np.ndarray, n: int) -> np.ndarray:
    """Sums (k, n) of values (row, k) over rows of each code (row,)."""
    return np.stack([np.bincount(code, column, n) for column in values.T])
