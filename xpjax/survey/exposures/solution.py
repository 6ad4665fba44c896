"""From observations to calibrated magnitudes: fits, flats and nights, and their application.

    magnitude = instrumental + stacked flat(x, y) + [constant + position + magnitude + amplifier terms] + numerical flat

and residual = model - color term - magnitude. `calibrate` finds all of that, `apply` gives it to other stars of the
same frames, and to new frames, whose zero-point alone is then fitted, or taken from their night.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue, Record
from xpjax.survey import (
    REFUSED,
    SUSPECT,
    FrameFlag,
    Frames,
    Observations,
    RowFlag,
    columns_home,
    group_median,
    with_nights,
)
from xpjax.survey.exposures.flat import StackedFlats, Standards, epochs, error_floor, numerical_flat, stack
from xpjax.survey.exposures.levels import levels, with_zero_points
from xpjax.survey.exposures.model import ExposureModel, Scaling, scaling
from xpjax.survey.exposures.nights import fall_back, frozen_terms, judge, night_line, night_prior
from xpjax.survey.exposures.zeropoint import (
    ExposureFits,
    Terms4Rows,
    evaluate,
    fit_exposures,
    needs_magnitude,
    standards,
)

SAME_TIME = 0.01
"""By how much the time of an exposure may be off its time in a solution [d]."""


@dataclasses.dataclass(frozen=True)
class CalibrationSettings:
    """How a survey is calibrated. Raises ValueError for what cannot be.

    model: of each frame. size: x and y from..to [pixels], None: what the rows span. numerical_flat with `neighbors`;
    stacked_flat in bins x bins cells, smoothed [cells], interpolated by a spline of `interpolation` 1 or 3, for each
    `epoch` ("all", "night" or days), `rounds` times. few: frames with fewer standards lean on their night (None: three
    for each term). cloud [mag] below or above the night's zero-point, and scatter times its error floor, are flagged.
    systematic_error [mag]: what the standards are wrong by together.
    """

    model: ExposureModel = dataclasses.field(default_factory=ExposureModel)
    size: tuple[float, float, float, float] | None = None
    numerical_flat: bool = False
    neighbors: int = 20
    stacked_flat: bool = False
    bins: int = 30
    smooth: float = 0.0
    interpolation: int = 3
    epoch: str | float = "all"
    star_offsets: bool = True
    rounds: int = 2
    few: int | None = None
    cloud: float = 0.1
    scatter: float = 3.0
    systematic_error: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (("neighbors", 6, 1000), ("bins", 2, 1000), ("rounds", 1, 20)):
            if not low <= getattr(self, name) <= high:
                raise XpjaxError(f"{name} must be {low}..{high}, not {getattr(self, name)!r}")
        if self.interpolation not in (1, 3):
            raise XpjaxError(f"interpolation is a spline of order 1 or 3, not {self.interpolation!r}")
        for name in ("smooth", "cloud", "scatter", "systematic_error"):
            if not getattr(self, name) >= 0:
                raise XpjaxError(f"{name} must not be negative: {getattr(self, name)!r}")
        if not (self.epoch in ("all", "night") or (isinstance(self.epoch, int | float) and self.epoch > 0)):
            raise XpjaxError(f'epoch is "all", "night" or a number of days, not {self.epoch!r}')


@dataclasses.dataclass(frozen=True, repr=False)
class Calibration(Record):
    """A survey's solution; what `solution.h5` holds.

    frames, and their fits without rows; flats: stacked, or None; standards: for numerical flats; local_floor (n_frame,)
    [mag]: the error floor after the numerical flat; common_floor (n_frame,) [mag]: what stars have on all frames alike;
    record: how it came about.
    """

    settings: CalibrationSettings
    frames: Frames
    fits: ExposureFits
    flats: StackedFlats | None
    standards: Standards
    local_floor: np.ndarray
    common_floor: np.ndarray
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def zero_point_systematic(self) -> np.ndarray:
        """What the zero-points (n_frame,) have wrong alike [mag]; NaN where the data do not say.

        They say nothing of a band whose standards came without errors of models, whose stars are not off on all
        frames alike as far as can be seen, and for which no systematic_error was set.
        """
        error = self.settings.systematic_error
        group, first = self.frames.group("band")
        known = self.standards.model_error  # absent from solutions of old
        given = np.bincount(group[self.standards.frame[: len(known)]], known > 0, len(first)) > 0
        stated = given[group] | (self.common_floor > 0) | (error > 0)
        return np.where(stated, np.hypot(self.fits.zero_point_common, error), np.nan)

    def zero_points(self) -> Catalogue:
        """One row for each frame: what `zeropoints.ecsv` holds."""
        fits, frames = self.fits, self.frames
        columns: dict[str, np.ndarray] = {"exposure": frames.exposure, "band": frames.band}
        if any(frames.detector):
            columns["detector"] = frames.detector
        if any(frames.night):
            columns["night"] = frames.night
        for name in ("time", "airmass"):
            if np.isfinite(getattr(frames, name)).any():
                columns[name] = getattr(frames, name)
        columns |= {
            "zero_point": fits.zero_point,
            "zero_point_error": fits.zero_point_error,
            "zero_point_systematic": self.zero_point_systematic(),
        }
        error = np.sqrt(np.maximum(np.diagonal(fits.covariance + fits.common_covariance, axis1=1, axis2=2), 0))
        for k, name in enumerate(fits.terms.names):
            columns[name], columns[f"{name}_error"] = fits.value[:, k], error[:, k]
        columns |= {
            "n_standard": fits.n_standard,
            "n_used": fits.n_used,
            "n_outlier": fits.n_standard - fits.n_used,
            "error_floor": fits.floor,
            "scatter": fits.scatter,
            "rms": fits.rms,
            "status": fits.status,
            "quality": np.array([FrameFlag.describe(int(bits)) for bits in fits.status]),
        }
        magnitudes = [name for name in columns if columns[name].dtype.kind == "f" and name not in ("time", "airmass")]
        units = {name: "mag" for name in magnitudes} | {"time": "d"}
        descriptions = {
            "zero_point": "median over 20 x 20 places of constant and position terms, at color_zero",
            "zero_point_error": "beside the other frames: noise, and what dithers change of the errors of models",
            "zero_point_systematic": "what all frames have alike: errors of the models of these stars, and of the "
            "flat; none where no errors of models were given and none show",
            "constant": "coefficient of T_0(u) T_0(v)",
            "position_10": "coefficient of T_1(u) T_0(v), u and v scaled to -1..1; position_ij likewise",
            "error_floor": "added in quadrature to the errors so that the standards scatter as they say",
            "scatter": "1.48 MAD of all standards, outliers included",
            "rms": "root mean square of all standards, outliers included",
            "status": FrameFlag.legend(),
        }
        scale = fits.scaling
        meta = {
            **self.record, "color_zero": scale.color_zero, "magnitude_zero": scale.magnitude_zero,
            "x_range": scale.box[0, :2].tolist(), "y_range": scale.box[0, 2:].tolist(),
        }  # fmt: skip
        return Catalogue(columns, units, {k: v for k, v in descriptions.items() if k in columns}, meta=meta)


@dataclasses.dataclass(frozen=True, repr=False)
class Calibrated(Record):
    """Calibrated magnitudes of rows (n,) [mag]; NaN where there is none, and flags (n,) say why.

    magnitude_error: statistical (photons, zero-point, flat); systematic_error: the frame's error floor and what the
    standards are wrong by together; residual: model - color term - magnitude, NaN without a model. A numerical flat is
    in both magnitude and residual; a standard's does not contain itself.
    """

    observations: Observations
    magnitude: np.ndarray
    magnitude_error: np.ndarray
    systematic_error: np.ndarray
    residual: np.ndarray
    flags: np.ndarray
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.magnitude)

    def catalogue(self) -> Catalogue:
        """One row for each measurement; band and detector only where there are several or they have names."""
        o = self.observations
        columns = {
            "star": o.star, "exposure": o.frames.exposure[o.frame], "magnitude": self.magnitude,
            "magnitude_error": self.magnitude_error, "systematic_error": self.systematic_error,
            "residual": self.residual, "status": self.flags,
        }  # fmt: skip
        for name in ("band", "detector"):
            if any(getattr(o.frames, name)):
                columns[name] = getattr(o.frames, name)[o.frame]
        home, units = columns_home(o, columns)
        columns |= home
        units |= dict.fromkeys(("magnitude", "magnitude_error", "systematic_error", "residual"), "mag")
        descriptions = {
            "star": "identifier of the standard or of the input; negative: named by its position, or by nothing",
            "magnitude": "calibrated, in the survey's natural system",
            "magnitude_error": "statistical",
            "systematic_error": "error floor of the exposure and common error of the standards",
            "residual": "model - color term - magnitude; a standard's flat does not contain itself",
            "row": "of the input's table, counted from 1",
            "status": RowFlag.legend(),
        }
        descriptions = {name: text for name, text in descriptions.items() if name in columns}
        return Catalogue(columns, units, descriptions, meta=dict(self.record))


Tell = Callable[[str], object]


def calibrate(
    observations: Observations,
    settings: CalibrationSettings | None = None,
    *,
    devices: str | int | None = None,
    tell: Tell | None = None,
    record: Mapping[str, Any] | None = None,
) -> tuple[Calibration, Calibrated]:
    """Fit every frame, stack and apply flats, help weak frames by their night, and calibrate every row.

    tell is called with the name of each stage. record goes into the products. See `Settings`, `fit_exposures`. Raises
    ValueError where there are no frames at all; a frame that cannot be calibrated is NaN, and its status says why.
    """
    o = with_nights(observations)
    settings = settings or CalibrationSettings()
    model = settings.model
    if not len(o.frames):
        raise XpjaxError("there are no measurements to calibrate: the tables have no rows")
    stage = tell or (lambda text: None)
    scale = scaling(o, model, settings.size)
    u, v = scale.places(o.frame, o.x, o.y)
    options: dict[str, Any] = {"scale": scale, "devices": devices}
    stage("fitting exposures")
    options["allowed"] = needs_magnitude(o, model, **options)
    fits = fit_exposures(o, model, **options)
    flats, offset = None, None
    for _ in range(settings.rounds if settings.stacked_flat else 0):
        stage("stacking flats")
        flats = stack_flats(o, fits, settings, offset)
        offset = flats.at(flats.groups(o.frames, epochs(o.frames, settings.epoch))[o.frame], u, v)
        fits = fit_exposures(o, model, offset=offset, **options)
    common = common_floor(o, fits)
    prior = night_prior(o, fits, settings)
    if common.any() or prior is not None:
        stage("nights")
        fits = fit_exposures(o, model, offset=offset, prior=prior, common_floor=common, **options)
    if prior is not None:
        leaning = (prior.precision > 0).any(axis=1) & (fits.n_standard > 0)
        fits.status[leaning] |= np.uint32(FrameFlag.NIGHT_PRIOR)
    fits = fall_back(o.frames, fits)
    fits = with_zero_points(o, fits, flats, settings.epoch, common, devices)
    fits = judge(o.frames, fits, settings)
    used = np.flatnonzero(fits.used)
    used = used[np.argsort(o.frame[used], kind="stable")]
    kept = Standards(
        o.frame[used].astype(np.int32), o.star[used], o.x[used], o.y[used], fits.residual[used],
        _variance(o, fits)[used], o.color[used], o.model_error[used],
    )  # fmt: skip
    about = {
        **provenance(), **(record or {}),
        "model": json.dumps(dataclasses.asdict(model)),
        "settings": json.dumps({k: v for k, v in dataclasses.asdict(settings).items() if k != "model"}),
    }  # fmt: skip
    solution = Calibration(settings, o.frames, fits, flats, kept, np.full(len(o.frames), np.nan), common, about)
    if settings.numerical_flat:
        stage("numerical flats")
    rows = _calibrated(solution, o, np.arange(len(o.frames)), fits, offset, devices)
    if settings.numerical_flat:
        solution = dataclasses.replace(solution, local_floor=rows[1])
    return solution, rows[0]


def stack_flats(
    observations: Observations, fits: ExposureFits, settings: CalibrationSettings, offset: np.ndarray | None = None
) -> StackedFlats:
    """Stacked flats from the residuals of fits in which `offset` (n,) had been added to the magnitudes."""
    o = observations
    u, v = fits.scaling.places(o.frame, o.x, o.y)
    sound = (fits.status & np.uint32(REFUSED)) == 0
    rows = np.flatnonzero(fits.used & sound[o.frame] & np.isfinite(u) & np.isfinite(v))
    residual = fits.residual[rows] + (0.0 if offset is None else offset[rows])
    return stack(
        o.frames, o.frame[rows], o.star[rows], u[rows], v[rows], residual, _variance(o, fits)[rows],
        bins=settings.bins, smooth=settings.smooth, order=settings.interpolation, epoch=settings.epoch,
        star_offsets=settings.star_offsets,
    )  # fmt: skip


def common_floor(observations: Observations, fits: ExposureFits, fewest: int = 5) -> np.ndarray:
    """For each frame [mag] the part of its floor that stars have on all frames alike, from stars seen often; else 0.

    It does not average out over frames: formal zero-point errors are without it, the systematic ones with it.
    """
    o = observations
    out = np.zeros(len(o.frames))
    rows = np.flatnonzero(fits.used)
    variance = (_variance(o, fits) - o.model_error**2)[rows]
    band_of, first = o.frames.group("band")
    for k in range(len(first)):
        mine = band_of[o.frame[rows]] == k
        if not mine.any():
            continue
        _, one = np.unique(o.star[rows[mine]], return_inverse=True)
        weight = 1 / variance[mine]
        seen, total = np.bincount(one), np.bincount(one, weight)
        often = seen >= fewest
        if often.sum() < 30:
            continue
        mean = np.bincount(one, weight * fits.residual[rows[mine]]) / total
        known = np.bincount(one, o.model_error[rows[mine]] ** 2) / seen
        out[band_of == k] = error_floor(
            mean[often], (1 / total + known)[often], np.zeros(int(often.sum()), int), 1
        )[0]  # fmt: skip
    return out


def _variance(o: Observations, fits: ExposureFits) -> np.ndarray:
    """Variance (n,) of a row's residual: its own, the model's and the frame's floor."""
    error = np.where(o.magnitude_error > 0, o.magnitude_error, 0.0)
    return np.maximum(error**2 + o.model_error**2 + fits.floor[o.frame] ** 2, 1e-12)


def _calibrated(
    solution: Calibration,
    o: Observations,
    place: np.ndarray,
    fits: ExposureFits,
    offset: np.ndarray | None,
    devices: str | int | None,
) -> tuple[Calibrated, np.ndarray]:
    """Every row's magnitude; place (n_frame,): the solution's frame that each frame's standards are those of, or -1."""
    settings, model = solution.settings, solution.settings.model
    parts: Terms4Rows = evaluate(fits, o, devices)
    stacked = 0.0 if offset is None else offset
    magnitude = o.magnitude + stacked + parts.added
    target = o.model - parts.taken
    _, flags = standards(o, model)
    refused = ~np.isfinite(fits.zero_point)
    suspect = (fits.status & np.uint32(SUSPECT)) > 0
    flags[refused[o.frame]] |= np.uint32(RowFlag.EXPOSURE_REFUSED)
    flags[suspect[o.frame]] |= np.uint32(RowFlag.EXPOSURE_FLAGGED)
    if len(fits.used):
        flags[fits.clipped] |= np.uint32(RowFlag.OUTLIER)
        flags[fits.used] |= np.uint32(RowFlag.STANDARD)
    _flag_outside(solution, o, place, flags)
    local_error = np.zeros(len(o))
    floor, local_floor = fits.floor.copy(), np.full(len(o.frames), np.nan)
    if settings.numerical_flat:
        home = place[o.frame]
        here = np.flatnonzero((home >= 0) & np.isfinite(magnitude))
        value, error = np.full(len(o), np.nan), np.full(len(o), np.nan)
        value[here], error[here] = numerical_flat(
            solution.standards, home[here], o.star[here], o.x[here], o.y[here], neighbors=settings.neighbors,
            devices=devices,
        )  # fmt: skip
        none = ~np.isfinite(value)
        flags[none] |= np.uint32(RowFlag.NO_LOCAL_FLAT)
        value, error = np.where(none, 0.0, value), np.where(none, 0.0, error)
        magnitude = magnitude + value
        local_floor, factor = _after_flat(solution, o, fits, place, target - magnitude, error, ~none)
        local_error = error * factor[o.frame]
        floor = np.where(np.isfinite(local_floor), local_floor, floor)
    own = np.where(o.magnitude_error > 0, o.magnitude_error, 0.0)
    residual = target - magnitude
    error = np.sqrt(own**2 + parts.error**2 + local_error**2)
    systematic = np.sqrt(floor[o.frame] ** 2 + parts.common_error**2 + settings.systematic_error**2)
    lost = ~np.isfinite(magnitude)
    error, systematic = np.where(lost, np.nan, error), np.where(lost, np.nan, systematic)
    return Calibrated(o, magnitude, error, systematic, residual, flags, solution.record), local_floor


def _after_flat(
    solution: Calibration,
    o: Observations,
    fits: ExposureFits,
    place: np.ndarray,
    residual: np.ndarray,
    error: np.ndarray,
    has: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The floor of each frame after the numerical flat, and what the flat's formal errors are to be multiplied by.

    The formal errors hold the floor before, of which the flat took a part.
    """
    if not len(fits.used):  # of an earlier solution, which found it
        floor = np.where(place >= 0, solution.local_floor[place], np.nan)
        before = np.where(place >= 0, solution.fits.floor[place], np.nan)
        middle = np.where(place >= 0, _middle_variance(solution)[place], np.nan)
    else:
        # Outliers too, as for the floor before: else the stars that are still to come scatter by more.
        rows = np.flatnonzero((fits.used | fits.clipped) & has & np.isfinite(residual))
        own = np.where(o.magnitude_error > 0, o.magnitude_error, 0.0)
        variance = own**2 + o.model_error**2 + error**2
        floor = error_floor(residual[rows], variance[rows], o.frame[rows], len(o.frames))
        floor[np.bincount(o.frame[rows], minlength=len(o.frames)) == 0] = np.nan
        before, middle = fits.floor, _middle_variance(solution)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.sqrt(np.maximum(middle - before**2 + np.fmin(floor, before) ** 2, 0) / middle)
    return floor, np.where(np.isfinite(factor), factor, 1.0)


def _middle_variance(solution: Calibration) -> np.ndarray:
    s = solution.standards
    return group_median(s.variance, s.frame, len(solution.frames))


def _flag_outside(solution: Calibration, o: Observations, place: np.ndarray, flags: np.ndarray) -> None:
    """Flag rows outside the rectangle in which their frame has standards."""
    s, n = solution.standards, len(solution.frames)
    home = place[o.frame]
    outside = np.zeros(len(o), bool)
    for values, mine in ((o.x, s.x), (o.y, s.y)):
        low, high = np.full(n, np.inf), np.full(n, -np.inf)
        np.fmin.at(low, s.frame, mine)
        np.fmax.at(high, s.frame, mine)
        known = (home >= 0) & np.isfinite(low[home])
        outside |= known & ((values < low[home]) | (values > high[home]))
    flags[outside] |= np.uint32(RowFlag.EXTRAPOLATED)


def apply_calibration(
    solution: Calibration, observations: Observations, *, devices: str | int | None = None
) -> Calibrated:
    """Calibrate rows that took no part: other stars of the solution's frames, and new frames.

    A frame is known by exposure, band and detector. A new one takes its band's and detector's mean terms and stacked
    flat: only its zero-point is fitted if it has standards (FrameFlag.FROZEN), else its night's is taken, or it is
    refused. Raises ValueError for a detector or band that the solution knows nothing of.
    """
    return apply_calibration_with_fits(solution, observations, devices=devices)[0]


def apply_calibration_with_fits(
    solution: Calibration, observations: Observations, *, devices: str | int | None = None
) -> tuple[Calibrated, ExposureFits]:
    """`apply`, and the zero-points of the frames it met."""
    o, old = observations, solution.fits
    settings = solution.settings
    keys = [tuple(key) for key in zip(o.frames.exposure, o.frames.band, o.frames.detector, strict=True)]
    known = {
        key: k
        for k, key in enumerate(
            zip(solution.frames.exposure, solution.frames.band, solution.frames.detector, strict=True)
        )
    }
    place = np.array([known.get(key, -1) for key in keys], int)
    o = _renamed(solution.standards, _timed(solution.frames, o, place), place)
    same = {(b, d): k for k, (b, d) in enumerate(zip(solution.frames.band, solution.frames.detector, strict=True))}
    alike = np.array([same.get(key[1:], -1) for key in keys], int)
    alike[(alike < 0) & (np.bincount(o.frame[np.isfinite(o.magnitude)], minlength=len(keys)) == 0)] = 0  # nothing to do
    if len(keys) and (alike < 0).any():
        k = int(np.argmax(alike < 0))
        have = sorted({" ".join(filter(None, pair)) or "(unnamed)" for pair in same})
        raise XpjaxError(
            f"{o.frames.name(k)}: the solution has no frame of band {str(keys[k][1])!r} and detector "
            f"{str(keys[k][2])!r}; it has {have}"
        )
    if solution.fits.terms.n_amplifier == 1:
        o = dataclasses.replace(o, amplifier=np.zeros(len(o), np.int32))
    scale = Scaling(old.scaling.box[alike], old.scaling.color_zero, old.scaling.magnitude_zero)
    ages = epochs(o.frames, settings.epoch)
    offset = None
    if solution.flats is not None:
        u, v = scale.places(o.frame, o.x, o.y)
        offset = solution.flats.at(solution.flats.groups(o.frames, ages)[o.frame], u, v)
    fits = _take(old, place, alike, scale)
    new = np.flatnonzero(place < 0)
    if len(new):
        _new_frames(solution, o, fits, offset, new, alike, devices)
    return _calibrated(solution, o, place, fits, offset, devices)[0], fits


def _timed(solved: Frames, o: Observations, place: np.ndarray) -> Observations:
    """The observations with times and nights of a solution's frames at `place`; others join its nights by their times.

    A file alone does not say in which night of the survey it is, nor what was the middle of an exposure in many files.
    """
    frames, old = o.frames, place >= 0
    if len(solved):
        off = np.where(old, np.abs(frames.time - solved.time[place]), np.nan)
        if (off > SAME_TIME).any():
            k = int(np.nanargmax(off))
            raise XpjaxError(
                f"{frames.name(k)}: its time is {frames.time[k]:.5f}, that of the solution's exposure of this name "
                f"{solved.time[place[k]]:.5f}: it is another exposure; say so with {say('new=True', '--new')} or "
                f"{say('exposure=', '--exposure')}, or mend the time"
            )
        times = {name: np.where(old, getattr(solved, name)[place], getattr(frames, name)) for name in ("night", "time")}
        frames = dataclasses.replace(frames, **times)
    return with_nights(dataclasses.replace(o, frames=frames), known=solved)


def _renamed(known: Standards, o: Observations, place: np.ndarray) -> Observations:
    """The observations, where a nameless detection at the very place of a nameless standard of its frame is that one.

    Names by position depend on the files that are read together; the numerical flat of a standard must not contain it.
    """
    if (known.star.dtype.kind in "iu") != (o.star.dtype.kind in "iu"):
        return o
    nameless = [a < 0 if a.dtype.kind in "iu" else np.char.startswith(a, "-") for a in (known.star, o.star)]
    theirs = np.flatnonzero(nameless[0] & np.isfinite(known.x + known.y) & np.isin(known.frame, place))
    mine = np.flatnonzero(nameless[1] & np.isfinite(o.x + o.y))
    if not len(theirs) or not len(mine):
        return o
    keys = [np.stack([known.frame, known.x, known.y], 1)[theirs], np.stack([place[o.frame], o.x, o.y], 1)[mine]]
    _, code = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    code, n = code.ravel(), len(theirs)
    at = np.full(len(code), -1)
    at[code[:n]] = theirs
    at[np.flatnonzero(np.bincount(code[:n], minlength=len(code)) != 1)] = -1
    found = at[code[n:]]
    star = o.star.astype(np.result_type(o.star, known.star))
    star[mine[found >= 0]] = known.star[found[found >= 0]]
    return dataclasses.replace(o, star=star)


def _take(old: ExposureFits, place: np.ndarray, alike: np.ndarray, scale: Scaling) -> ExposureFits:
    """The fits of frames at `place`; NaN for -1."""
    none = place < 0
    out: dict[str, Any] = {}
    for field in dataclasses.fields(old):
        array = getattr(old, field.name)
        if field.name in ("terms", "scaling", "residual", "used", "clipped"):
            continue
        array = array[np.where(none, alike, place)].copy()
        array[none] = np.nan if array.dtype.kind == "f" else 0
        out[field.name] = array
    empty = np.zeros(0)
    return ExposureFits(
        terms=old.terms, scaling=scale, **out, residual=empty, used=empty.astype(bool), clipped=empty.astype(bool)
    )  # fmt: skip


def _new_frames(
    solution: Calibration,
    o: Observations,
    fits: ExposureFits,
    offset: np.ndarray | None,
    new: np.ndarray,
    alike: np.ndarray,
    devices: str | int | None,
) -> None:
    """Fill in, in place, the fits of frames that the solution has not: zero-point fitted, the rest frozen."""
    frames, old = solution.frames, solution.fits
    mean, variance = frozen_terms(frames, old)
    fits.value[new] = mean[alike[new]]
    fits.covariance[new] = [np.diag(variance[k]) for k in alike[new]]
    fits.common_covariance[new] = old.common_covariance[alike[new]]
    fits.active[new] = True
    shifted = fits.value.copy()
    shifted[new, 0] = 0.0
    part = dataclasses.replace(fits, value=shifted)
    added = evaluate(part, o, devices)
    constant = ExposureModel(
        position_order=0, color_order=0, magnitude_order=0, color_zero=0.0, magnitude_zero=0.0,
        robust=solution.settings.model.robust, clip=solution.settings.model.clip,
        error_floor=solution.settings.model.error_floor,
    )  # fmt: skip
    ok = standards(o, solution.settings.model)[0] & np.isin(o.frame, new)
    moved = dataclasses.replace(o, model=o.model - added.taken)
    shift = added.added + (0.0 if offset is None else offset)
    one = fit_exposures(moved, constant, use=ok, offset=shift, scale=fits.scaling, devices=devices)
    done = new[one.n_standard[new] > 0]
    fits.value[done, 0] = one.value[done, 0]
    fits.covariance[done, 0, :] = fits.covariance[done, :, 0] = 0.0
    fits.covariance[done, 0, 0] = one.covariance[done, 0, 0]
    # The median over the detector of all that is frozen; the zero-point is that and the constant.
    grid = np.median(levels(o.frames, part, solution.flats, solution.settings.epoch)[0], axis=1)
    fits.zero_point[done] = one.value[done, 0] + grid[done]
    for name in ("zero_point_error", "zero_point_common", "floor", "scatter", "rms", "n_standard", "n_used"):
        getattr(fits, name)[done] = getattr(one, name)[done]
    fits.status[done] = one.status[done] | np.uint32(FrameFlag.FROZEN)
    for k in np.setdiff1d(new, done):
        fits.status[k] |= np.uint32(FrameFlag.NO_STANDARDS)
        night = o.frames.night[k]
        others = np.flatnonzero(
            (frames.night == night) & (frames.band == o.frames.band[k]) & (frames.detector == o.frames.detector[k])
            & np.isfinite(old.zero_point)
        )  # fmt: skip
        if not night or len(others) < 3:
            fits.value[k] = np.nan
            continue
        line, scatter = night_line(frames, old.zero_point, others)
        air = o.frames.airmass[k] - 1 if np.isfinite(o.frames.airmass[k]) else 0.0
        zero_point = line[0] + line[1] * air
        fits.value[k, 0] = zero_point - grid[k]
        fits.covariance[k, 0, 0] = max(scatter, 1e-4) ** 2
        fits.zero_point[k], fits.zero_point_error[k] = zero_point, max(scatter, 1e-4)
        fits.zero_point_common[k] = np.median(old.zero_point_common[others])
        fits.floor[k] = np.median(old.floor[others])
        fits.status[k] |= np.uint32(FrameFlag.NIGHT_FALLBACK | FrameFlag.FROZEN)


def provenance() -> dict[str, Any]:
    """Version and date, for whatever is written."""
    import xpjax

    now = datetime.datetime.now(datetime.UTC)
    return {"version": xpjax.__version__, "date": now.isoformat(timespec="seconds")}
