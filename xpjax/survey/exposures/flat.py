"""Stellar flats: what the stars say of the detector's response that no low polynomial holds.

The *numerical* flat of one frame is, at every star, the plane through the residuals of the nearest standards, weighted
by their errors; a standard never counts for itself (Xiao et al. 2023, 2025). The *stacked* flat of a band and detector
is the mean residual of many frames in cells, interpolated; what interpolation smooths away is put back by stacking
again what is left. The same star falls on the same cells again and again, and the error of its model with it: star
offsets are taken out alongside, shrunk by their own variance, as far as dithers tell them from the flat.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.records import AnyArray, Record
from xpjax.survey import MAD, Frames, group_median, sky_draws
from xpjax.survey.exposures.sums import by_star, together

FEWEST = 6
"""Standards that a local plane needs."""
ROUNDS = 12
"""Of the alternation between cells and star offsets."""
DRAWS = 50
"""Of errors of flats, by each cause."""
PLACES = 4096
"""Of every batch of local planes, so that a place has the same bits whatever comes with it."""


class _Place(eqx.Module):
    x: Float[AnyArray, ""]
    y: Float[AnyArray, ""]
    near: Int[AnyArray, " k"]


def _plane_kernel(constants: Any, place: _Place) -> tuple[Array, Array]:
    """The weighted plane through the nearest standards, at the place itself: value and variance."""
    x, y, value, weight = constants
    w = jnp.where(place.near >= 0, weight[place.near], 0)
    dx, dy, r = x[place.near] - place.x, y[place.near] - place.y, value[place.near]
    total = jnp.sum(w)
    mx, my, mr = (jnp.sum(w * a) / total for a in (dx, dy, r))
    cx, cy = dx - mx, dy - my
    sxx, sxy, syy = jnp.sum(w * cx * cx), jnp.sum(w * cx * cy), jnp.sum(w * cy * cy)
    # Standards along a line determine no slope across it: the smallest ridge makes that slope zero.
    ridge = 1e-9 * (sxx + syy) + jnp.finfo(x.dtype).tiny ** 0.25
    sxx, syy = sxx + ridge, syy + ridge
    determinant = sxx * syy - sxy * sxy
    rx, ry = jnp.sum(w * cx * (r - mr)), jnp.sum(w * cy * (r - mr))
    slope_x, slope_y = (syy * rx - sxy * ry) / determinant, (sxx * ry - sxy * rx) / determinant
    variance = 1 / total + (syy * mx * mx - 2 * sxy * mx * my + sxx * my * my) / determinant
    return mr - slope_x * mx - slope_y * my, variance


@dataclasses.dataclass(frozen=True, repr=False)
class Standards(Record):
    """Standards of all frames that took part, frame by frame: what a numerical flat is made from. Arrays (n,).

    residual, variance [mag, mag^2]: model less color term less calibrated magnitude; of each with its floor. color,
    model_error [mag]: for reports; may be empty.
    """

    frame: np.ndarray
    star: np.ndarray
    x: np.ndarray
    y: np.ndarray
    residual: np.ndarray
    variance: np.ndarray
    color: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    model_error: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.frame)


def numerical_flat(
    standards: Standards,
    frame: np.ndarray,
    star: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    *,
    neighbors: int = 20,
    devices: engine.Devices = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The local plane through the `neighbors` nearest standards at stars (n,) of frames (n,): value and error [mag].

    A standard is left out of its own plane (known by its id and frame). NaN where a frame has fewer than 6 standards to
    give, or the place is unknown. Nearest neighbors by scipy's cKDTree on the host, planes on the device in float64.
    """
    from scipy.spatial import cKDTree

    near = np.full((len(frame), neighbors), -1, np.int32)
    known = np.isfinite(x) & np.isfinite(y)
    starts = np.searchsorted(standards.frame, np.arange(max(frame.max(initial=0), standards.frame.max(initial=0)) + 2))
    order = np.argsort(frame, kind="stable")
    edges = np.searchsorted(frame[order], np.arange(len(starts)))
    for k in np.unique(frame):
        mine = slice(starts[k], starts[k + 1])
        rows = order[edges[k] : edges[k + 1]]
        rows = rows[known[rows]]
        n = mine.stop - mine.start
        if n < FEWEST or not len(rows):
            continue
        tree = cKDTree(np.column_stack([standards.x[mine], standards.y[mine]]))
        found = tree.query(np.column_stack([x[rows], y[rows]]), k=min(neighbors + 1, n), workers=os.cpu_count() or 1)[1]
        found = found + mine.start
        # Oneself goes to the end, which is cut off; where absent, the farthest goes.
        own = standards.star[found] == star[rows][:, None]
        last = np.argsort(own, axis=1, kind="stable")
        found = np.take_along_axis(np.where(own, -1, found), last, axis=1)[:, :neighbors]
        near[rows[:, None], np.arange(found.shape[1])] = found
    value, error = np.full(len(frame), np.nan), np.full(len(frame), np.nan)
    good = np.flatnonzero((near >= 0).sum(axis=1) >= FEWEST)
    if len(good):
        constants = standards.x, standards.y, standards.residual, 1 / standards.variance
        fitted, variance = engine.run(
            _plane_kernel, constants, _Place(x[good], y[good], near[good]), float64=True, devices=devices,
            batch_rows=PLACES,
        )  # fmt: skip
        value[good], error[good] = fitted, np.sqrt(variance)
    return value, error


def error_floor(residual: np.ndarray, variance: np.ndarray, group: np.ndarray, n_group: int) -> np.ndarray:
    """For each group the floor [mag] that makes 1.48 MAD of residual / sqrt(variance + floor^2) one; 0 if below."""
    low = np.zeros(n_group)
    spread = MAD * group_median(np.abs(residual), group, n_group)
    high = np.nan_to_num(spread**2) * 4

    def ratio(square: np.ndarray) -> np.ndarray:
        total = np.maximum(variance + square[group], 1e-16)
        return MAD * group_median(np.abs(residual) / np.sqrt(total), group, n_group)

    none = ~(ratio(low) > 1)
    for _ in range(30):
        middle = 0.5 * (low + high)
        above = ratio(middle) > 1
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return np.where(none, 0.0, np.sqrt(0.5 * (low + high)))


# --- stacked ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, repr=False)
class StackedFlats(Record):
    """Flats of groups of frames on one grid of cells over the scaled detector; added to magnitudes [mag].

    value, error, count (n_group, bins, bins), rows along y; labels (n_group, 3): band, detector and epoch; order: of
    the spline between cell centers, 1 or 3. draws (n_group, bins^2, 2 DRAWS): draws of what they are wrong by, half by
    XP's errors on the sky (`sky_draws`), half by noise and the errors of stars; not kept in files.
    """

    labels: np.ndarray
    value: np.ndarray
    error: np.ndarray
    count: np.ndarray
    order: int = 3
    draws: np.ndarray | None = None

    @property
    def bins(self) -> int:
        """Cells along a side."""
        return self.value.shape[-1]

    def at(self, group: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The flats of groups (n,) at scaled places u, v (n,) in -1..1; 0 for group -1 and unknown places."""
        return _interpolate(self.value, group, u, v, self.order)

    def groups(self, frames: Frames, epochs: np.ndarray) -> np.ndarray:
        """The group of each frame (n_frame,), -1 for none."""
        known = {tuple(label): k for k, label in enumerate(self.labels.tolist())}
        keys = zip(frames.band.tolist(), frames.detector.tolist(), epochs.tolist(), strict=True)
        return np.array([known.get(tuple(map(str, key)), -1) for key in keys], int)


def _interpolate(grids: np.ndarray, group: np.ndarray, u: np.ndarray, v: np.ndarray, order: int) -> np.ndarray:
    from scipy.ndimage import map_coordinates

    bins = grids.shape[-1]
    out = np.zeros(len(u))
    known = np.isfinite(u) & np.isfinite(v)
    for k in np.unique(group[group >= 0]):
        # One more cell on every side, straight on, so that the outer half cells are no plateau.
        grid = np.pad(grids[k], 1, mode="reflect", reflect_type="odd")
        rows = (group == k) & known
        places = [np.clip((a[rows] + 1) / 2 * bins + 0.5, 0, bins + 1) for a in (v, u)]
        out[rows] = map_coordinates(grid, places, order=order, mode="nearest")
    return out


def epochs(frames: Frames, epoch: str | float) -> np.ndarray:
    """The epoch (n_frame,) of each frame, as text: "all" is one, "night" its night, a number blocks of so many days."""
    if epoch == "all":
        return np.full(len(frames), "all")
    if epoch == "night":
        return frames.night.astype(str)
    if not isinstance(epoch, int | float) or not epoch > 0:
        raise XpjaxError(f'an epoch of flats is "all", "night" or a number of days, not {epoch!r}')
    blocks = np.floor(np.nan_to_num(frames.time) / epoch)
    return np.array([f"{block * epoch:g}" for block in blocks])


@dataclasses.dataclass(frozen=True, repr=False)
class FlatRows(Record):
    """Standards of a survey, or of a part of it, that flats are stacked from.

    labels (n_group, 3): band, detector and epoch of groups of frames; of each standard (n,) its group and star, its
    scaled place u, v, its residual [mag] and weight [mag^-2], and its cell on the sky, -1 for none.
    """

    labels: np.ndarray
    group: np.ndarray
    star: np.ndarray
    u: np.ndarray
    v: np.ndarray
    residual: np.ndarray
    weight: np.ndarray
    sky: np.ndarray

    def cells(self, known: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
        """The group (n,) of each standard among the known labels (n_known, 3), and its cell among those of all."""
        place = {tuple(label): k for k, label in enumerate(known.tolist())}
        group = np.array([place[tuple(label)] for label in self.labels.tolist()], int)[self.group]
        i, j = (np.clip(((a + 1) / 2 * bins).astype(int), 0, bins - 1) for a in (self.v, self.u))
        return group, (group * bins + i) * bins + j


def flat_rows(
    frames: Frames,
    frame: np.ndarray,
    star: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    residual: np.ndarray,
    variance: np.ndarray,
    epoch: str | float = "all",
    sky: np.ndarray | None = None,
) -> FlatRows:
    """Standards (n,) on frames (n,) at scaled places, with the group of their band, detector and epoch."""
    ages = epochs(frames, epoch)
    keys = np.array([frames.band.astype(str), frames.detector.astype(str), ages]).T.reshape(-1, 3)
    labels, group_of = np.unique(keys, axis=0, return_inverse=True)
    sky = np.full(len(frame), -1) if sky is None else sky
    return FlatRows(labels, group_of.ravel()[frame], star, u, v, residual, 1 / variance, sky)


def stack(
    frames: Frames,
    frame: np.ndarray,
    star: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    residual: np.ndarray,
    variance: np.ndarray,
    *,
    epoch: str | float = "all",
    **options: Any,
) -> StackedFlats:
    """Flats of each band, detector and epoch from residuals of standards (n,); options: as of `stack_parts`."""
    return stack_parts([flat_rows(frames, frame, star, u, v, residual, variance, epoch)], **options)


def stack_parts(
    parts: Sequence[FlatRows],
    *,
    bins: int = 30,
    smooth: float = 0.0,
    order: int = 3,
    star_offsets: bool = True,
) -> StackedFlats:
    """Mean residuals of standards in bins x bins cells for each band, detector and epoch of a survey in parts.

    smooth: standard deviation [cells] of a Gaussian; order: 1 or 3, of the interpolation. Empty cells are filled from
    their neighbors and have infinite error. star_offsets: see the module; nothing changes for stars seen once. Errors
    are of noise and of the errors of stars, which a star has wherever it falls. The parts are gone through one by one
    in each round, so that what lies on disk need not be in memory together.
    """
    labels = np.unique(np.concatenate([part.labels for part in parts]), axis=0)
    shape = (len(labels), bins, bins)
    count, total, top = np.zeros(shape, int).ravel(), np.zeros(shape).ravel(), np.zeros(shape).ravel()
    codes, sums = [], []
    for part in parts:
        _, cell = part.cells(labels, bins)
        count += np.bincount(cell, minlength=len(count))
        total += np.bincount(cell, part.weight, len(total))
        top += np.bincount(cell, part.weight * part.residual, len(top))
        mine = by_star(part.star, part.group, part.labels[:, :1], weight=part.weight, number=np.ones(len(cell)))
        codes.append(mine.code.astype(np.int32))
        sums.append(mine.without_code())
    known, places = together(sums)
    seen, weight_of_star = known.sums["number"], known.sums["weight"]
    often = star_offsets and len(seen) > 0 and _median_of_rows(seen) >= 5

    def binned(values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            mean = values / total
        return np.stack([_filled(g, w, smooth) for g, w in zip(mean.reshape(shape), total.reshape(shape), strict=True)])

    flat, spread = binned(top), 0.0
    for _ in range(ROUNDS if often else 2):
        top, of_star = np.zeros_like(total), np.zeros(len(seen))
        for part, code, place in zip(parts, codes, places, strict=True):
            group, cell = part.cells(labels, bins)
            left = part.weight * (part.residual - _interpolate(flat, group, part.u, part.v, order))
            top += np.bincount(cell, left, len(top))
            of_star[place] += np.bincount(code, left, len(place))
        if often:
            mean, noise = of_star / weight_of_star, 1 / weight_of_star
            spread = float(error_floor(mean, noise, np.zeros(len(mean), int), 1)[0] ** 2)
            offset = mean * spread / (spread + noise)
            for part, code, place in zip(parts, codes, places, strict=True):
                top -= np.bincount(part.cells(labels, bins)[1], part.weight * offset[place][code], len(top))
        flat = flat + binned(top)
    with np.errstate(divide="ignore"):
        noise_of_cell = np.sqrt(1 / total)
    rng = np.random.default_rng(len(total))
    drawn = np.where(total > 0, noise_of_cell, 0.0)[:, None] * rng.standard_normal((len(total), DRAWS))
    error = noise_of_cell
    if spread:
        stars = _star_draws(parts, zip(codes, places, strict=True), labels, bins, spread, rng)
        drawn, error = drawn + stars, np.hypot(error, np.sqrt(np.square(stars).mean(axis=1)))
    drawn = np.hstack([_sky_draws(parts, labels, bins), drawn]) * total[:, None]
    draws = np.stack([binned(one).reshape(len(labels), -1) for one in drawn.T], axis=-1)
    return StackedFlats(labels, flat, error.reshape(shape), count.reshape(shape), order, draws)


def _shares(weight: np.ndarray, row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> Any:
    from scipy.sparse import coo_matrix

    return coo_matrix((weight, (row, column)), shape).tocsr()


def _star_draws(
    parts: Sequence[FlatRows], stars: Iterable[tuple[np.ndarray, np.ndarray]], labels: np.ndarray, bins: int,
    spread: float, rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """What draws of errors of stars, of variance `spread`, leave in the cells of all groups (n_cell, DRAWS) [mag].

    A star is wrong by the same on all frames; offsets of stars take out what dithers tell of that. stars: of each part
    the sums of its rows, and their places among those of all.
    """
    n_cell, found = len(labels) * bins**2, [place[code] for code, place in stars]
    shape = n_cell, max(one.max(initial=0) for one in found) + 1
    weight = sum(
        _shares(part.weight, part.cells(labels, bins)[1], star, shape) for part, star in zip(parts, found, strict=True)
    )
    of_cell, of_star = (np.maximum(np.asarray(weight.sum(axis=k)).ravel(), 1e-300)[:, None] for k in (1, 0))
    shrunk = spread / (spread + 1 / of_star)
    wrong = np.sqrt(spread) * rng.standard_normal((shape[1], DRAWS))
    out, rest = weight @ wrong / of_cell, weight @ ((1 - shrunk) * wrong) / of_cell
    for _ in range(ROUNDS):
        out = rest + weight @ (shrunk * (weight.T @ out) / of_star) / of_cell
    return np.asarray(out)


def _sky_draws(parts: Sequence[FlatRows], labels: np.ndarray, bins: int) -> np.ndarray:
    """What draws of XP's errors on the sky do to the cells of all groups (n_cell, DRAWS) [mag]."""
    out, total = np.zeros((len(labels) * bins**2, DRAWS)), np.full(len(labels) * bins**2, 1e-300)
    for part in parts:
        draws, code = sky_draws(part.sky, DRAWS)
        weight = _shares(part.weight, part.cells(labels, bins)[1], code, (len(out), len(draws)))
        out += weight @ draws
        total += np.asarray(weight.sum(axis=1)).ravel()
    return out / total[:, None]


def _median_of_rows(seen: np.ndarray) -> float:
    """The median over all rows of how often (n_star,) the row's star is seen."""
    values, times = np.unique(seen, return_counts=True)
    ends = np.cumsum(values * times)
    middle = (ends[-1] - 1) / 2
    low, high = np.searchsorted(ends, [np.floor(middle), np.ceil(middle)], side="right")
    return float(0.5 * (values[low] + values[high]))


def _filled(mean: np.ndarray, weight: np.ndarray, smooth: float) -> np.ndarray:
    """A grid smoothed with its weights, and empty cells filled from their surroundings, nearer ones counting more."""
    from scipy.ndimage import gaussian_filter

    value = np.where(weight > 0, mean, 0.0)
    if not (weight > 0).any():
        return np.zeros_like(value)
    out = value
    if smooth > 0:
        norm = gaussian_filter(weight, smooth, mode="nearest")
        out = gaussian_filter(weight * value, smooth, mode="nearest") / np.maximum(norm, 1e-300)
    empty, width = weight <= 0, 1.0
    while empty.any():
        norm = gaussian_filter(np.where(empty, 0.0, weight), width, mode="nearest")
        near = empty & (norm > 1e-6 * weight.max())
        around = gaussian_filter(np.where(empty, 0.0, weight * out), width, mode="nearest")
        out = np.where(near, around / np.maximum(norm, 1e-300), out)
        weight = np.where(near, norm, weight)
        empty, width = empty & ~near, width * 2
    return out
