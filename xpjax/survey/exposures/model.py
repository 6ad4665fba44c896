"""The model of single frames: its terms and scaled coordinates; `kernel` has the equation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey import Frames, Observations

ROBUST = ("tukey", "huber", "none")
GRID = 20
"""The zero-point of a frame is the median over GRID x GRID places."""


@dataclasses.dataclass(frozen=True)
class ExposureModel:
    """Set what is fitted to each exposure, and how.

    Parameters
    ----------
    position_order : int
        Total order of the Chebyshev polynomial in position, 0 to 9.
    color_order : int
        Order of the color term, 0 to 3.
    magnitude_order : int or "auto"
        Order of the magnitude term, 0 to 2; "auto" is 1 where the data need it.
    color_zero : float [mag], optional
        Color at which the color term is zero; by default the median of the standards, to 0.01 mag.
    magnitude_zero : float [mag], optional
        Instrumental magnitude at which the magnitude term is zero; by default the median of the standards, to 0.01 mag.
    robust : str
        Weights of the robust fit: "tukey", "huber" or "none".
    clip : float [sigma]
        Limit of the outliers in a last step, 0 for none.
    error_floor : float [mag], optional
        Error that is added in quadrature to the errors; by default fitted.
    amplifiers : bool
        Whether to fit offsets between the amplifiers of a detector.
    stars_per_term : float
        Standards that a term needs: fewer lower the orders.

    Raises
    ------
    XpjaxError
        If a value is outside its range.

    Notes
    -----
    The model of Xiao et al. (2023, 2025) has position_order = 2.

    Examples
    --------
    >>> xpjax.survey.exposures.ExposureModel(position_order=1).color_order
    2
    """

    position_order: int = 2
    color_order: int = 2
    magnitude_order: int | str = "auto"
    color_zero: float | None = None
    magnitude_zero: float | None = None
    robust: str = "tukey"
    clip: float = 4.0
    error_floor: float | None = None
    amplifiers: bool = False
    stars_per_term: float = 2.0

    def __post_init__(self) -> None:
        for name, top in (("position_order", 9), ("color_order", 3), ("magnitude_order", 2)):
            value = getattr(self, name)
            if name == "magnitude_order" and value == "auto":
                continue
            if isinstance(value, bool) or not (isinstance(value, int) and 0 <= value <= top):
                raise XpjaxError(f"{name} must be a whole number 0..{top}, not {value!r}")
        if self.robust not in ROBUST:
            raise XpjaxError(f"robust must be one of {ROBUST}, not {self.robust!r}")
        for name in ("clip", "stars_per_term"):
            if not getattr(self, name) >= 0:
                raise XpjaxError(f"{name} must not be negative: {getattr(self, name)!r}")
        if self.error_floor is not None and not self.error_floor >= 0:
            raise XpjaxError(f"error_floor must be zero or more magnitudes, or left out: {self.error_floor!r}")


class Terms(eqx.Module):
    """The terms of the model as static sizes; `names` in the order of the coefficients."""

    position_order: int = eqx.field(static=True)
    color_order: int = eqx.field(static=True)
    magnitude_order: int = eqx.field(static=True)
    n_amplifier: int = eqx.field(static=True, default=1)

    @property
    def position(self) -> list[tuple[int, int]]:
        """Orders (i, j) of the Chebyshev terms, the constant first."""
        top = self.position_order
        return [(total - j, j) for total in range(top + 1) for j in range(total + 1)]

    @property
    def kinds(self) -> np.ndarray:
        """What each coefficient belongs to: "position", "color", "magnitude" or "amplifier"."""
        counts = (len(self.position), self.color_order, self.magnitude_order, self.n_amplifier - 1)
        return np.repeat(["position", "color", "magnitude", "amplifier"], counts)

    @property
    def orders(self) -> np.ndarray:
        """The order of each coefficient within its kind."""
        powers = [*range(1, self.color_order + 1), *range(1, self.magnitude_order + 1)]
        return np.array([*(i + j for i, j in self.position), *powers, *[1] * (self.n_amplifier - 1)])

    @property
    def names(self) -> list[str]:
        """zero_point_00, position_10, ..., color_1, ..., magnitude_1, ..., amplifier_1, ..."""
        places = ["constant" if i + j == 0 else f"position_{i}{j}" for i, j in self.position]
        colors = [f"color_{k}" for k in range(1, self.color_order + 1)]
        magnitudes = [f"magnitude_{k}" for k in range(1, self.magnitude_order + 1)]
        return places + colors + magnitudes + [f"amplifier_{k}" for k in range(1, self.n_amplifier)]

    @property
    def meanings(self) -> list[str]:
        """What each coefficient multiplies, as the description of a column."""
        places = [f"Coefficient of T_{i}(u) T_{j}(v), x, y scaled to u, v in -1..1" for i, j in self.position]
        colors = [f"Coefficient of (color - color_zero)^{k}" for k in range(1, self.color_order + 1)]
        magnitude = "Coefficient of (instrumental magnitude - magnitude_zero)"
        magnitudes = [f"{magnitude}^{k}" for k in range(1, self.magnitude_order + 1)]
        return places + colors + magnitudes + [f"Offset of amplifier {k}" for k in range(1, self.n_amplifier)]

    def __len__(self) -> int:
        return len(self.kinds)

    def design(self, u: Any, v: Any, color: Any, magnitude: Any, amplifier: Any) -> Array:
        """The terms (n_term, n) at scaled places, color - zero, magnitude - zero and amplifier codes, each (n,)."""
        across, along = _chebyshev(u, self.position_order), _chebyshev(v, self.position_order)
        rows = [across[i] * along[j] for i, j in self.position]
        rows += [color**k for k in range(1, self.color_order + 1)]
        rows += [magnitude**k for k in range(1, self.magnitude_order + 1)]
        rows += [(amplifier == k).astype(u.dtype) for k in range(1, self.n_amplifier)]
        return jnp.stack(rows)


def _chebyshev(x: Array, order: int) -> list[Array]:
    """T_0..T_order at x."""
    out = [jnp.ones_like(x), x]
    for _ in range(order - 1):
        out.append(2 * x * out[-1] - out[-2])
    return out[: order + 1]


def chebyshev_places(terms: Terms, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The position terms (n_term, n) at scaled places u, v (n,), all else zero; NumPy on the host."""
    across, along = (np.polynomial.chebyshev.chebvander(a, max(terms.position_order, 1)) for a in (u, v))
    out = np.zeros((len(terms), len(u)))
    for k, (i, j) in enumerate(terms.position):
        out[k] = across[:, i] * along[:, j]
    return out


def host_design(terms: Terms, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """The terms (n, n_term) of rows with these columns (n,), as `Terms.design` has them; NumPy on the host."""
    out = chebyshev_places(terms, *(np.nan_to_num(columns[name]) for name in ("u", "v")))
    for kind in ("color", "magnitude"):
        for k in np.flatnonzero(terms.kinds == kind):
            out[k] = columns[kind] ** terms.orders[k]
    for number, k in enumerate(np.flatnonzero(terms.kinds == "amplifier"), 1):
        out[k] = columns["amplifier"] == number
    return out.T


@dataclasses.dataclass(frozen=True, repr=False)
class Scaling(Record):
    """Where scaled coordinates and terms are zero: box (n_frame, 4) x and y from..to [pixels], color and magnitude."""

    box: np.ndarray
    color_zero: float
    magnitude_zero: float

    def places(self, frame: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x, y (n,) on frames (n,) scaled to -1..1."""
        middle = 0.5 * (self.box[:, 0::2] + self.box[:, 1::2])
        half = np.maximum(0.5 * (self.box[:, 1::2] - self.box[:, 0::2]), np.finfo(float).tiny)
        return (x - middle[frame, 0]) / half[frame, 0], (y - middle[frame, 1]) / half[frame, 1]


@dataclasses.dataclass(frozen=True, repr=False)
class Extent(Record):
    """What the scaled coordinates of a survey, or of a part of it, are made of.

    detector (n_detector,): names; box (n_detector, 4): x and y from..to of the rows [pixels], infinite where there are
    none. color, magnitude: of rows with model and magnitude [mag]; sorted where there are several parts.
    """

    detector: np.ndarray
    box: np.ndarray
    color: np.ndarray
    magnitude: np.ndarray

    def sorted(self) -> Extent:
        """The same with sorted colors and magnitudes, as one of several parts."""
        return dataclasses.replace(self, color=np.sort(self.color), magnitude=np.sort(self.magnitude))


def extent(observations: Observations) -> Extent:
    """The extent of observations."""
    o = observations
    group, first = o.frames.group("detector")
    rows, box = group[o.frame], np.empty((len(first), 4))
    for axis, values in enumerate((o.x, o.y)):
        good = np.isfinite(values)
        box[:, 2 * axis], box[:, 2 * axis + 1] = np.inf, -np.inf
        np.minimum.at(box[:, 2 * axis], rows[good], values[good])
        np.maximum.at(box[:, 2 * axis + 1], rows[good], values[good])
    usable = np.isfinite(o.model) & np.isfinite(o.magnitude)
    color, magnitude = (values[usable & np.isfinite(values)] for values in (o.color, o.magnitude))
    return Extent(o.frames.detector[first], box, color, magnitude)


def scaling(observations: Observations, model: ExposureModel, sizes: Sequence[float] | None = None) -> Scaling:
    """Scaled coordinates: `sizes` x and y from..to [pixels], else what each detector's rows span.

    color_zero: the model's, else the median color of the standards to 0.01 mag; magnitude_zero likewise.
    """
    return scaling_of([extent(observations)], observations.frames, model, sizes)


def scaling_of(
    parts: Sequence[Extent], frames: Frames, model: ExposureModel, sizes: Sequence[float] | None = None
) -> Scaling:
    """Scaled coordinates of frames of a survey by the extents of its parts; see `scaling`."""
    box = np.empty((len(frames), 4))
    if sizes is not None:
        box[:] = sizes
    else:
        names, group = np.unique(frames.detector, return_inverse=True)
        whole = np.tile([np.inf, -np.inf], (len(names), 2))
        for part in parts:
            known = np.flatnonzero(np.isin(part.detector, names))
            at = np.searchsorted(names, part.detector[known])
            whole[at, 0::2] = np.minimum(whole[at, 0::2], part.box[known, 0::2])
            whole[at, 1::2] = np.maximum(whole[at, 1::2], part.box[known, 1::2])
        low, high = whole[:, 0::2], whole[:, 1::2]
        flat = ~(high > low)
        low, high = np.where(flat, np.where(np.isfinite(low), low - 1, -1), low), np.where(flat, low + 1, high)
        high = np.where(np.isfinite(high), high, 1.0)
        box[:, 0::2], box[:, 1::2] = low[group], high[group]
    color, magnitude = ([getattr(part, name) for part in parts] for name in ("color", "magnitude"))
    return Scaling(box, _zero(model.color_zero, color), _zero(model.magnitude_zero, magnitude))


def _zero(stated: float | None, parts: Sequence[np.ndarray]) -> float:
    """What was stated, else the median of all parts to 0.01."""
    if stated is not None:
        return float(stated)
    n = sum(map(len, parts))
    if len(parts) == 1 and n:
        return round(float(np.median(parts[0])), 2)
    return round(0.5 * (_ranked(parts, (n - 1) // 2) + _ranked(parts, n // 2)), 2) if n else 0.0


def _ranked(parts: Sequence[np.ndarray], k: int) -> float:
    """The k-th smallest of the numbers in sorted parts, exactly, by bisection: parts need not be in memory together."""
    low, high = min(part[0] for part in parts if len(part)), max(part[-1] for part in parts if len(part))
    if sum(np.searchsorted(part, low, side="right") for part in parts) > k:
        return float(low)
    while low < (middle := 0.5 * (low + high)) < high:
        enough = sum(np.searchsorted(part, middle, side="right") for part in parts) > k
        low, high = (low, middle) if enough else (middle, high)
    return float(high)


def terms_of(model: ExposureModel, n_amplifier: int) -> Terms:
    """The terms of a model for so many amplifiers; `magnitude_order="auto"` has the linear one."""
    magnitude_order = 1 if model.magnitude_order == "auto" else int(model.magnitude_order)
    return Terms(model.position_order, model.color_order, magnitude_order, n_amplifier if model.amplifiers else 1)
