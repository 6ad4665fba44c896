"""The steps of a calibration, of a survey as a whole or in parts.

Fits of frames are apart from each other; what frames have in common is not: whether the magnitude term is needed, the
stacked flats, what weak frames lean on, the common errors of stars. A step asks each part of a survey for its share of
that, reduces the shares, and tells each part what came out. A survey as a whole is one part; the parts of a large one
may be on other machines, and what a step passes on are named arrays, which files hold.

    for step in steps(settings):
        told = step.reduce([step.share(part) for part in parts], settings)
        for part in parts:
            step.learn(part, told)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, overload

import numpy as np

from xpjax.core.engine import Devices
from xpjax.survey import REFUSED, FrameFlag, Observations
from xpjax.survey.exposures.fit import PreparedExposures, clear_slopes, fit_prepared, magnitude_slopes
from xpjax.survey.exposures.flat import FlatRows, StackedFlats, epochs, error_floor, flat_rows, stack_parts
from xpjax.survey.exposures.levels import Levels, mean_levels, mean_of_kinds
from xpjax.survey.exposures.nights import FrameTerms, fall_back, night_prior
from xpjax.survey.exposures.results import ExposureFits, Prior
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.exposures.sums import StarSums, by_star, together

Arrays: TypeAlias = Mapping[str, np.ndarray]
FEWEST_SEEN = 5
"""Frames that must see a star if it is to tell the common part of the floor."""
FEWEST_STARS = 30
"""Such stars that a band needs."""


class Part:
    """A survey, or a part of it, on its way through the steps: what is known of it so far, and the fits with that.

    first: how many frames the parts before have. A night's frames in a band and on a detector are in one part.
    """

    def __init__(
        self, prepared: PreparedExposures, settings: CalibrationSettings, *, first: int = 0, devices: Devices = None
    ) -> None:
        n = len(prepared.observations.frames)
        self.prepared, self.settings, self.devices, self.frames = prepared, settings, devices, slice(first, first + n)
        self.allowed = np.ones((n, len(prepared.terms)), bool)
        self.flats: StackedFlats | None = None
        self.offset: np.ndarray | None = None
        self.prior: Prior | None = None
        self.common = np.zeros(n)
        self.typical = np.full((n, len(prepared.terms)), np.nan)
        self._fits: ExposureFits | None = None
        self._levels: Levels | None = None

    @property
    def observations(self) -> Observations:
        """The measurements."""
        return self.prepared.observations

    @property
    def fits(self) -> ExposureFits:
        """The fits of the frames with what is known."""
        if self._fits is None:
            self._fits = fit_prepared(
                self.prepared, offset=self.offset, prior=self.prior, allowed=self.allowed, common_floor=self.common,
                devices=self.devices,
            )  # fmt: skip
            if self.prior is not None:
                leaning = (self.prior.precision > 0).any(axis=1) & (self._fits.n_standard > 0)
                self._fits = self._fits.flagged(leaning, FrameFlag.NIGHT_PRIOR)
        return self._fits

    @property
    def levels(self) -> Levels:
        """The levels of the frames, those without standards with what their night says."""
        if self._levels is None:
            o = self.observations
            fits = fall_back(o.frames, self.fits)
            self._levels = Levels(o, fits, self.flats, self.settings.epoch, self.common, self.typical)
        return self._levels

    def take(self, fits: ExposureFits) -> None:
        """Have these fits."""
        self._fits = fits

    def now(self, **known: Any) -> None:
        """Take up what is known; fits are made anew when they are asked for."""
        for name, value in known.items():
            setattr(self, name, value)
        self._fits = self._levels = None


class Step(Protocol):
    """One step: what a part has to tell, what all parts say together, and what a part learns of it."""

    @property
    def name(self) -> str:
        """What it is called."""

    def share(self, part: Part) -> Arrays:
        """What a part has to tell."""

    def reduce(self, shares: Sequence[Arrays], settings: CalibrationSettings) -> Arrays:
        """What all parts say together; a share may be read from a file each time that it is asked for."""

    def learn(self, part: Part, told: Arrays) -> None:
        """Let a part know."""


def steps(settings: CalibrationSettings) -> list[Step]:
    """The steps of a calibration, in their order."""
    first: list[Step] = [MagnitudeTerms()] if settings.model.magnitude_order == "auto" else []
    flats: list[Step] = [Flats(f"flats {k + 1}") for k in range(settings.rounds if settings.stacked_flat else 0)]
    return [*first, *flats, Nights(), Draws(), ZeroPoints()]


@dataclasses.dataclass(frozen=True)
class MagnitudeTerms:
    """Which bands and detectors need a magnitude term."""

    name: str = "magnitude terms"

    def share(self, part: Part) -> Arrays:
        """Slopes of the frames."""
        return magnitude_slopes(part.prepared, part.devices)

    def reduce(self, shares: Sequence[Arrays], settings: CalibrationSettings) -> Arrays:
        """Which frames need it."""
        return {"needed": clear_slopes(list(shares))}

    def learn(self, part: Part, told: Arrays) -> None:
        """Fit it where it is needed."""
        part.allowed[:, part.prepared.terms.names.index("magnitude_1")] = told["needed"][part.frames]
        part.now()


@dataclasses.dataclass(frozen=True)
class Flats:
    """Stacked flats."""

    name: str

    def share(self, part: Part) -> Arrays:
        """The standards' residuals, as if no flat had been applied."""
        o, fits = part.observations, part.fits
        u, v = fits.scaling.places(o.frame, o.x, o.y)
        sound = (fits.status & np.uint32(REFUSED)) == 0
        rows = np.flatnonzero(fits.used & sound[o.frame] & np.isfinite(u) & np.isfinite(v))
        residual = fits.residual[rows] + (0.0 if part.offset is None else part.offset[rows])
        made = flat_rows(
            o.frames, o.frame[rows], o.star[rows], u[rows], v[rows], residual, row_variance(o, fits)[rows],
            part.settings.epoch, None if o.sky_cell is None else o.sky_cell[rows],
        )  # fmt: skip
        return {f.name: getattr(made, f.name) for f in dataclasses.fields(FlatRows)}

    def reduce(self, shares: Sequence[Arrays], settings: CalibrationSettings) -> Arrays:
        """The flats of the survey."""
        flats = stack_parts(
            Each(shares, lambda arrays: FlatRows(**arrays)), bins=settings.bins, smooth=settings.smooth,
            order=settings.interpolation, star_offsets=settings.star_offsets,
        )  # fmt: skip
        return {name: getattr(flats, name) for name in ("labels", "value", "error", "count", "draws")}

    def learn(self, part: Part, told: Arrays) -> None:
        """Apply them."""
        o, flats = part.observations, StackedFlats(**told, order=part.settings.interpolation)
        u, v = part.prepared.scale.places(o.frame, o.x, o.y)
        group = flats.groups(o.frames, epochs(o.frames, part.settings.epoch))
        part.now(flats=flats, offset=flats.at(group[o.frame], u, v))


@dataclasses.dataclass(frozen=True)
class Nights:
    """What weak frames lean on, and the part of the floor that is common to a star on all frames of a band.

    That part does not average out over frames: formal zero-point errors are without it, the systematic ones with it.
    """

    name: str = "nights"

    def share(self, part: Part) -> Arrays:
        """Terms of the frames, and mean residuals of the stars in each band."""
        o, fits = part.observations, part.fits
        rows = np.flatnonzero(fits.used)
        weight = 1 / (row_variance(o, fits) - o.model_error**2)[rows]
        bands, kind = np.unique(o.frames.band.astype(str), return_inverse=True)
        stars = by_star(
            o.star[rows], kind[o.frame[rows]], bands[:, None], number=np.ones(len(rows)), weight=weight,
            residual=weight * fits.residual[rows], model=o.model_error[rows] ** 2,
        )  # fmt: skip
        terms = FrameTerms.of(o.frames, fits)
        return stars.arrays() | {f"terms/{f.name}": getattr(terms, f.name) for f in dataclasses.fields(FrameTerms)}

    def reduce(self, shares: Sequence[Arrays], settings: CalibrationSettings) -> Arrays:
        """For each frame (n_frame, ...) of the survey the prior of its terms, if any has one, and its common floor.

        typical: terms of its band and detector.
        """
        shares = list(shares)
        terms = FrameTerms(
            *(np.concatenate([share[f"terms/{f.name}"] for share in shares]) for f in dataclasses.fields(FrameTerms))
        )
        stars, _ = together([StarSums.of(share) for share in shares])
        prior = night_prior(terms, settings.few)
        told = {"common": common_floors(stars, terms.band), "typical": terms.mean(1, "band", "detector")[0]}
        return told if prior is None else told | {"mean": prior.mean, "precision": prior.precision}

    def learn(self, part: Part, told: Arrays) -> None:
        """Fit again with prior and common floor, where the survey has any."""
        part.typical, prior = told["typical"][part.frames], None
        if "mean" in told:
            prior = Prior(told["mean"][part.frames], told["precision"][part.frames])
        if prior is not None or told["common"].any():
            part.now(prior=prior, common=told["common"][part.frames])


@dataclasses.dataclass(frozen=True)
class Draws:
    """What draws of errors on the sky and of flats do to the terms of frames, and to zero-points."""

    name: str = "draws"

    def share(self, part: Part) -> Arrays:
        """What they do to the terms of the frames, in sum."""
        return part.levels.drawn_sums()

    def reduce(self, shares: Sequence[Arrays], settings: CalibrationSettings) -> Arrays:
        """What they do to all frames of a band and detector alike."""
        return mean_of_kinds(list(shares), "drawn")

    def learn(self, part: Part, told: Arrays) -> None:
        """Move the zero-points."""
        part.levels.move(told)


@dataclasses.dataclass(frozen=True)
class ZeroPoints:
    """Zero-points, and which of their errors the frames have in common."""

    name: str = "zero-points"

    def share(self, part: Part) -> Arrays:
        """Levels of the frames and what moves them, in sum."""
        return part.levels.sums()

    def reduce(self, shares: Sequence[Arrays], settings: CalibrationSettings) -> Arrays:
        """The mean frame of each band and detector."""
        return mean_levels(list(shares))

    def learn(self, part: Part, told: Arrays) -> None:
        """Know the zero-points."""
        part.take(part.levels.zero_points(told))


def common_floors(stars: StarSums, band: np.ndarray) -> np.ndarray:
    """For frames (n_frame,) of bands the part of their floor [mag] that is common to a star on all frames.

    0 where stars are seen rarely. stars: by band the sums number, weight, residual (weighted) and model (variance).
    """
    out, sums = np.zeros(len(band)), stars.sums
    for k, (name,) in enumerate(stars.labels.tolist()):
        often = (stars.kind == k) & (sums["number"] >= FEWEST_SEEN)
        if often.sum() < FEWEST_STARS:
            continue
        number, weight, residual, model = (sums[x][often] for x in ("number", "weight", "residual", "model"))
        floor = error_floor(residual / weight, 1 / weight + model / number, np.zeros(len(weight), int), 1)
        out[band == name] = floor[0]
    return out


def row_variance(o: Observations, fits: ExposureFits) -> np.ndarray:
    """Variance (n,) of a row's residual: its own, the model's and the frame's floor."""
    error = np.where(o.magnitude_error > 0, o.magnitude_error, 0.0)
    return np.maximum(error**2 + o.model_error**2 + fits.floor[o.frame] ** 2, 1e-12)


T = TypeVar("T")


class Each(Sequence[T], Generic[T]):
    """What `make` makes of each item of a sequence, when it is asked for."""

    def __init__(self, items: Sequence[Any], make: Callable[[Any], T]) -> None:
        self.items, self.make = items, make

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: Any) -> Any:
        return Each(self.items[index], self.make) if isinstance(index, slice) else self.make(self.items[index])
