"""What a report of a survey shows, as numbers and arrays: trends, maps, scatters, correlations, light curves.

`Evidence` is what is known of a calibration; every function here takes arrays and gives arrays, or raises `Missing`
with what it would have needed. Drawing is `xpjax.survey.report.figures`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue
from xpjax.survey import MAD, Camera, Observations, RowFlag, group_median
from xpjax.survey.exposures import Calibration, epochs, night_line
from xpjax.survey.report.periods import FALSE_ALARM, FEWEST, find_period

ENOUGH = 5
"""Measurements of a star that make a scatter, and tiles that make a slope or a sigma."""
STRONG = 0.8
"""Correlation of two bands beyond which their slope is quoted (Xiao et al. 2023)."""
PHASES = 20
"""Bins of a folded light curve."""


class Missing(Exception):
    """A figure cannot be made; the message says what it would have needed."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A calibration and whatever else is known, for a report.

    rows: columns (n,) of calibrated.parquet, with frame (index into the solution's frames, -1 for none), and x, y,
    color and model_error (NaN where unknown). held_stars, held_frames: the same columns of stars that were kept back,
    and of exposures that took no part. tiles: columns by frame (n_frame,): ra, dec, ebv, rv. differences: zero-points
    (n_frame,) [mag] less others, by the name of these. stars: a table with `{band}_scr`, `{band}_xpsp`, ...; see
    `xpsp_less_scr`. periods: [d] by star.
    """

    solution: Calibration
    rows: Mapping[str, np.ndarray]
    zero_points: Catalogue
    held_stars: Mapping[str, np.ndarray] | None = None
    held_frames: Mapping[str, np.ndarray] | None = None
    tiles: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    differences: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    stars: Mapping[str, np.ndarray] | None = None
    camera: Camera | None = None
    periods: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def bands(self) -> list[str]:
        """Names of the bands, in their order."""
        return list(dict.fromkeys(self.solution.frames.band.tolist()))

    def of_band(self, band: str, rows: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Which rows (n,) are measurements in a band."""
        frame = (self.rows if rows is None else rows)["frame"]
        return (frame >= 0) & (self.solution.frames.band[frame] == band)

    def frame_column(self, name: str) -> np.ndarray:
        """time or airmass of each row's frame (n,)."""
        frame = self.rows["frame"]
        return np.where(frame >= 0, getattr(self.solution.frames, name)[frame], np.nan)


def gather_evidence(
    solution: Calibration, calibrated: Catalogue, zero_points: Catalogue, observations: Observations | None = None
) -> Evidence:
    """Evidence from what a calibration wrote; x, y and color from its standards, or of all rows from observations."""
    rows = with_frames(solution, calibrated)
    s = solution.standards
    known: dict[str, np.ndarray] = {"x": s.x, "y": s.y, "color": s.color, "model_error": s.model_error}
    frame, star = s.frame, s.star
    if observations is not None:
        place = frames_of(solution, *(getattr(observations.frames, k) for k in ("exposure", "band", "detector")))
        frame, star = place[observations.frame], observations.star
        known = {name: getattr(observations, name) for name in known}
    at = same_measurements(rows["frame"], rows["star"], frame, star)
    for name, values in known.items():
        rows[name] = _taken(values, at)
    return Evidence(solution, rows, zero_points)


def with_frames(solution: Calibration, calibrated: Catalogue) -> dict[str, np.ndarray]:
    """The columns of calibrated measurements, with their frame of the solution, -1 for none.

    Raises ValueError for a table without exposure, star, magnitude and residual.
    """
    rows = {name: np.asarray(column) for name, column in calibrated.columns.items()}
    absent = [name for name in ("exposure", "star", "magnitude", "magnitude_error", "residual") if name not in rows]
    if absent:
        raise XpjaxError(f"no column {absent[0]!r} among {list(rows)}: give a table that `xpjax survey` wrote")
    none = np.full(len(rows["exposure"]), "")
    rows["frame"] = frames_of(solution, rows["exposure"], rows.get("band", none), rows.get("detector", none))
    return rows


def frames_of(solution: Calibration, exposure: np.ndarray, band: np.ndarray, detector: np.ndarray) -> np.ndarray:
    """The solution's frames (n,) of these names, -1 for none."""
    have = solution.frames
    known = {key: k for k, key in enumerate(zip(have.exposure, have.band, have.detector, strict=True))}
    kinds, code = np.unique(np.array([exposure, band, detector], str), axis=1, return_inverse=True)
    return np.array([known.get(tuple(key), -1) for key in kinds.T.tolist()], int)[code.ravel()]


def same_measurements(frame: np.ndarray, star: np.ndarray, others: np.ndarray, their_star: np.ndarray) -> np.ndarray:
    """For each measurement (n,), by frame and star, the number of the same one among others, -1 for none."""
    if not len(others):
        return np.full(len(frame), -1)
    if star.dtype.kind != their_star.dtype.kind:
        star, their_star = star.astype(str), their_star.astype(str)
    code = np.unique(np.concatenate([star, their_star]), return_inverse=True)[1].astype(np.int64)
    n = max(int(frame.max(initial=0)), int(others.max(initial=0))) + 1
    key, theirs = code[: len(star)] * n + frame, code[len(star) :] * n + others
    order = np.argsort(theirs, kind="stable")
    place = np.clip(np.searchsorted(theirs[order], key), 0, len(order) - 1)
    found = order[place]
    return np.where((theirs[found] == key) & (frame >= 0), found, -1)


def _taken(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The values (n,) at these places, NaN for -1."""
    return np.where(at >= 0, values[at], np.nan) if len(values) else np.full(len(at), np.nan)


# --- statistics -------------------------------------------------------------------------------------------------------


def spread(values: np.ndarray) -> tuple[float, float]:
    """1.48 MAD about the median, and standard deviation, of the finite values; NaN of fewer than two."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return np.nan, np.nan
    return float(MAD * np.median(np.abs(values - np.median(values)))), float(values.std())


def gaussian(values: np.ndarray) -> tuple[float, float]:
    """Mean and sigma of the Gaussian in the middle of the values: of those within 3 sigma, as a cut Gaussian has them.

    Iterated from the median and 1.48 MAD; NaN for fewer than five values.
    """
    values = values[np.isfinite(values)]
    if len(values) < ENOUGH:
        return np.nan, np.nan
    mean, sigma = float(np.median(values)), spread(values)[0]
    inside = 0.986578  # standard deviation of a unit Gaussian cut at 3
    for _ in range(20):
        kept = values[np.abs(values - mean) <= 3 * sigma]
        if sigma <= 0 or len(kept) < ENOUGH:
            break
        mean, sigma = float(kept.mean()), float(kept.std()) / inside
    return mean, sigma


@dataclasses.dataclass(frozen=True)
class Trend:
    """Bins of equal numbers (n_bin,): middle of x, median of y, its error and 1.48 MAD of y."""

    x: np.ndarray
    median: np.ndarray
    error: np.ndarray
    scatter: np.ndarray


def trend(x: np.ndarray, y: np.ndarray, bins: int = 24) -> Trend:
    """y against x in bins of equal numbers, ten values at least in each. Raises Missing where x has no spread."""
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    if not len(x):
        raise Missing("no values")
    if np.ptp(x) == 0:
        raise Missing("one value only")
    edges = np.unique(np.quantile(x, np.linspace(0, 1, min(bins, max(1, len(x) // 10)) + 1)))
    code = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    n = len(edges) - 1
    middle, median = group_median(x, code, n), group_median(y, code, n)
    scatter = MAD * group_median(np.abs(y - median[code]), code, n)
    count = np.bincount(code, minlength=n)
    has = count > 0
    # The error of a median is that of the mean times sqrt(pi / 2).
    return Trend(middle[has], median[has], (1.2533 * scatter / np.sqrt(np.maximum(count, 1)))[has], scatter[has])


def cell_means(
    u: np.ndarray, v: np.ndarray, value: np.ndarray, variance: np.ndarray, bins: int, fewest: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means in bins x bins cells over -1..1, rows along v, and their variances; NaN below `fewest` values."""
    i, j = (np.clip(((a + 1) / 2 * bins).astype(int), 0, bins - 1) for a in (v, u))
    cell = i * bins + j
    weight = np.bincount(cell, 1 / variance, bins * bins)
    few = np.bincount(cell, minlength=bins * bins) < fewest
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(few, np.nan, np.bincount(cell, value / variance, bins * bins) / weight)
        return mean.reshape(bins, bins), np.where(few, np.nan, 1 / weight).reshape(bins, bins)


def structure(
    u: np.ndarray, v: np.ndarray, value: np.ndarray, variance: np.ndarray, bins: int = 30, fewest: int = 10
) -> float:
    """Standard deviation of means in bins x bins cells, less what the variances explain, in quadrature; NaN of none."""
    mean, noise = (a[np.isfinite(a)] for a in cell_means(u, v, value, variance, bins, fewest))
    if len(mean) < 2:
        return np.nan
    weight = 1 / (noise + np.median(noise))
    mean = mean - np.average(mean, weights=weight)
    return float(np.sqrt(max(np.average(mean**2 - noise, weights=weight), 0.0)))


# --- what the sections show -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class BandNumbers:
    """The numbers of one band: counts, and magnitudes [mag]; NaN where unknown.

    zero_point_scatter: 1.48 MAD about the lines with airmass of the nights; formal, systematic: median errors, the
    latter NaN where neither errors of models nor a common error were given and none shows; residual_scatter,
    residual_rms: of the standards, outliers included; pull: 1.48 MAD of residual / error. held_scatter, held_rms,
    held_pull: of stars kept back.
    """

    band: str
    n_frame: int
    n_refused: int
    n_standard: int
    n_outlier: int
    zero_point_scatter: float
    formal: float
    systematic: float
    floor: float
    residual_scatter: float
    residual_rms: float
    pull: float
    held_scatter: float
    held_rms: float
    held_pull: float


def band_numbers(evidence: Evidence) -> list[BandNumbers]:
    """The table on top of a report, a row for each band."""
    solution = evidence.solution
    fits, frames = solution.fits, solution.frames
    off, out = about_nights(solution), []
    flags = evidence.rows["status"].astype(np.uint32)
    for band in evidence.bands:
        mine = frames.band == band
        rows = evidence.of_band(band)
        told = (flags & np.uint32(RowFlag.STANDARD | RowFlag.OUTLIER)) > 0
        residual = np.where(rows & told, evidence.rows["residual"], np.nan)
        held: tuple[float, ...] = (np.nan, np.nan, np.nan)
        if evidence.held_stars is not None:
            kept = evidence.of_band(band, evidence.held_stars)
            value = evidence.held_stars["residual"][kept]
            held = *spread(value), spread(value / evidence.held_stars["error"][kept])[0]
        elif "held_out_scatter" in evidence.zero_points.columns:
            c = evidence.zero_points.columns
            held = *(float(_median(c[name][mine])) for name in ("held_out_scatter", "held_out_rms")), np.nan
        with np.errstate(invalid="ignore"):
            pull = spread(residual / total_error(evidence.rows, model=True))[0]
        out.append(
            BandNumbers(
                band, int(mine.sum()), int((mine & ~np.isfinite(fits.zero_point)).sum()),
                int(fits.n_standard[mine].sum()), int((fits.n_standard - fits.n_used)[mine].sum()),
                spread(off[mine])[0], _median(fits.zero_point_error[mine]),
                _median(solution.zero_point_systematic()[mine]),
                _median(fits.floor[mine]), *spread(residual), pull, *held,
            )
        )  # fmt: skip
    return out


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else np.nan


def total_error(rows: Mapping[str, np.ndarray], model: bool = False) -> np.ndarray:
    """Statistical and systematic error of magnitudes (n,) together [mag]; model: of residuals, with the models' too."""
    error = np.hypot(rows["magnitude_error"], rows.get("systematic_error", 0.0))
    return np.hypot(error, np.nan_to_num(rows["model_error"])) if model and "model_error" in rows else error


def about_nights(solution: Calibration) -> np.ndarray:
    """Zero-points (n_frame,) less the line with airmass of their night, band and detector; NaN for nights of few."""
    frames, zero_point = solution.frames, solution.fits.zero_point
    group, first = frames.group("night", "band", "detector")
    out = np.full(len(frames), np.nan)
    for k in range(len(first)):
        mine = np.flatnonzero((group == k) & np.isfinite(zero_point))
        if len(mine) >= 3:
            line, _ = night_line(frames, zero_point, mine)
            out[mine] = zero_point[mine] - line[0] - line[1] * (np.nan_to_num(frames.airmass[mine], nan=1.0) - 1)
    return out


@dataclasses.dataclass(frozen=True)
class FlatMaps:
    """Mean residuals [mag] in cells before any flat, after the stacked and after the numerical one, by name."""

    maps: Mapping[str, np.ndarray]
    structure: Mapping[str, float]
    """Of the residuals beyond their noise [mag]."""


def flat_maps(evidence: Evidence, band: str, bins: int = 30) -> FlatMaps:
    """Residuals of the standards over the detector; cells as many as have five standards each. Raises Missing."""
    solution = evidence.solution
    s, frames = solution.standards, solution.frames
    mine = np.flatnonzero(frames.band[s.frame] == band) if len(s) else np.zeros(0, int)
    u, v = solution.fits.scaling.places(s.frame[mine], s.x[mine], s.y[mine])
    good = np.isfinite(u) & np.isfinite(v) & np.isfinite(s.residual[mine])
    mine, u, v = mine[good], u[good], v[good]
    if len(mine) < 4 * ENOUGH:
        raise Missing("fewer than 20 standards with positions")
    bins = int(np.clip(np.sqrt(len(mine) / ENOUGH), 2, bins))
    residual, variance = s.residual[mine], s.variance[mine]
    values = {}
    if solution.flats is not None:
        group = solution.flats.groups(frames, epochs(frames, solution.settings.epoch))[s.frame[mine]]
        values["before"] = residual + solution.flats.at(group, u, v)
        values["after the stacked flat"] = residual
    else:
        values["before"] = residual
    if solution.settings.numerical_flat:
        at = same_measurements(s.frame[mine], s.star[mine], evidence.rows["frame"], evidence.rows["star"])
        values["after the numerical flat"] = _taken(evidence.rows["residual"], at)
    maps, left = {}, {}
    for name, value in values.items():
        known = np.isfinite(value)
        part = u[known], v[known], value[known], variance[known]
        maps[name], left[name] = cell_means(*part, bins)[0], structure(*part, bins, min(10, ENOUGH))
    return FlatMaps(maps, left)


def table_of_differences(evidence: Evidence, name: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Bands, first frame (n_tile,) of each exposure, and zero-point differences (n_tile, n_band), detectors averaged.

    Each band's median is taken off: what all of its zero-points have alike is a matter of definition.
    """
    frames, difference = evidence.solution.frames, evidence.differences[name]
    tile, first = frames.group("exposure")
    bands = evidence.bands
    out = np.full((len(first), len(bands)), np.nan)
    for k, band in enumerate(bands):
        mine = (frames.band == band) & np.isfinite(difference)
        if mine.any():
            out[:, k] = group_median(difference[mine] - np.median(difference[mine]), tile[mine], len(first))
    return bands, first, out


@dataclasses.dataclass(frozen=True)
class DifferenceNumbers:
    """Zero-points of one band less others [mag]: median, and about it 1.48 MAD and standard deviation; formal: rms of
    our errors; pull: standard deviation of difference / error."""

    band: str
    number: int
    median: float
    scatter: float
    rms: float
    formal: float
    pull: float


def difference_numbers(evidence: Evidence, name: str) -> list[DifferenceNumbers]:
    """What our zero-points differ by from others, a row for each band."""
    out = []
    for band in evidence.bands:
        mine = (evidence.solution.frames.band == band) & np.isfinite(evidence.differences[name])
        value, error = evidence.differences[name][mine], evidence.solution.fits.zero_point_error[mine]
        middle = _median(value)
        with np.errstate(invalid="ignore", divide="ignore"):
            pull = float(np.std((value - middle) / error)) if len(value) > 1 else np.nan
        formal = float(np.sqrt(np.mean(error**2))) if len(error) else np.nan
        out.append(DifferenceNumbers(band, len(value), middle, *spread(value), formal, pull))
    return out


@dataclasses.dataclass(frozen=True)
class Correlation:
    """Correlation (n_band, n_band) of differences, NaN for pairs of few, and slopes of the strong pairs.

    slopes: (band of y, band of x, r, slope, error) of those that chance has with a probability below `FALSE_ALARM`;
    the reduced major axis, for both have errors.
    """

    r: np.ndarray
    slopes: list[tuple[str, str, float, float, float]]


def correlation(bands: Sequence[str], difference: np.ndarray, strong: float = STRONG) -> Correlation:
    """Band-to-band correlation of zero-point differences (n_tile, n_band), far outliers left out."""
    from scipy.stats import pearsonr

    n = len(bands)
    r = np.full((n, n), np.nan)
    slopes = []
    away = np.abs(difference - np.nanmedian(difference, axis=0)) if len(difference) else difference
    fine = away <= 5 * np.array([max(spread(column)[0], 1e-12) for column in difference.T])
    for i in range(n):
        for j in range(i + 1):
            both = fine[:, i] & fine[:, j]
            if both.sum() < ENOUGH:
                continue
            y, x = difference[both, i], difference[both, j]
            if y.std() > 0 and x.std() > 0:
                r[i, j] = r[j, i] = np.corrcoef(x, y)[0, 1]
                if i != j and abs(r[i, j]) > strong and pearsonr(x, y).pvalue < FALSE_ALARM:
                    slope = np.sign(r[i, j]) * y.std() / x.std()
                    error = abs(slope) * np.sqrt((1 - r[i, j] ** 2) / (both.sum() - 2))
                    slopes.append((bands[i], bands[j], float(r[i, j]), float(slope), float(error)))
    return Correlation(r, slopes)


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Constant, slope and its error of a straight line without 3-sigma outliers; NaN for fewer than five points."""
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    used = np.ones(len(x), bool)
    for _ in range(10):
        if used.sum() < ENOUGH or np.ptp(x[used]) == 0:
            return np.nan, np.nan, np.nan
        middle = x[used].mean()
        slope = ((x - middle)[used] @ y[used]) / ((x - middle)[used] @ (x - middle)[used])
        constant = y[used].mean() - slope * middle
        off = y - constant - slope * x
        before, used = used, np.abs(off) <= 3 * max(spread(off)[0], 1e-12)
        if (before == used).all():
            break
    rest = off[used]
    return (
        float(constant),
        float(slope),
        float(rest.std() / np.sqrt(max(len(rest) - 2, 1)) / max(x[used].std(), 1e-300)),
    )


def xpsp_less_scr(evidence: Evidence, band: str) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """XPSP - SCR of stars before and after correction: color, G and difference [mag], by "before" and "after".

    From the table of stars: `{band}_scr`, `{band}_xpsp`, `{band}_xpsp_corrected` (either may be absent), `bp_rp` and
    `phot_g_mean_mag`. Raises Missing.
    """
    stars = evidence.stars
    if stars is None:
        raise Missing(f"no table of stars with magnitudes by SCR and XPSP ({say('stars=', '--stars')})")
    for need in ("bp_rp", "phot_g_mean_mag", f"{band}_scr"):
        if need not in stars:
            raise Missing(f"the table of stars has no column {need}")
    found = {
        name: (stars["bp_rp"], stars["phot_g_mean_mag"], stars[f"{band}{suffix}"] - stars[f"{band}_scr"])
        for name, suffix in (("before", "_xpsp"), ("after", "_xpsp_corrected"))
        if f"{band}{suffix}" in stars
    }
    if not found:
        raise Missing(f"the table of stars has neither {band}_xpsp nor {band}_xpsp_corrected")
    return found


@dataclasses.dataclass(frozen=True)
class Repeatability:
    """Stars (n_star,) seen often: mean magnitude, standard deviation [mag], stated error, number of measurements."""

    star: np.ndarray
    magnitude: np.ndarray
    scatter: np.ndarray
    stated: np.ndarray
    number: np.ndarray


def repeatability(evidence: Evidence, band: str, fewest: int = ENOUGH) -> Repeatability:
    """What the calibrated magnitudes of a star scatter by. Raises Missing where none is seen often."""
    rows = evidence.rows
    bad = np.uint32(RowFlag.EXPOSURE_FLAGGED | RowFlag.EXPOSURE_REFUSED)
    good = evidence.of_band(band) & np.isfinite(rows["magnitude"]) & ((rows["status"].astype(np.uint32) & bad) == 0)
    star, one = np.unique(rows["star"][good], return_inverse=True)
    number = np.bincount(one)
    often = number >= fewest
    if not often.any():
        raise Missing(f"no star has {fewest} measurements")
    magnitude, error = rows["magnitude"][good], rows["magnitude_error"][good]
    middle = group_median(magnitude, one, len(star))
    # Single wild measurements are for the light curves: beyond 5 sigma they do not count.
    width = MAD * group_median(np.abs(magnitude - middle[one]), one, len(star))
    near = np.abs(magnitude - middle[one]) <= 5 * np.maximum(width, 1e-6)[one]
    one, magnitude, error = one[near], magnitude[near], error[near]
    number = np.maximum(np.bincount(one, minlength=len(star)), 1)
    mean = np.bincount(one, magnitude, len(star)) / number
    square = np.bincount(one, (magnitude - mean[one]) ** 2, len(star)) / np.maximum(number - 1, 1)
    stated = np.sqrt(np.bincount(one, np.nan_to_num(error) ** 2, len(star)) / number)
    return Repeatability(star[often], mean[often], np.sqrt(square)[often], stated[often], number[often])


def variable_stars(found: Repeatability, n: int = 4) -> np.ndarray:
    """The stars that scatter most beyond those of their magnitude, the worst first, 5 sigma at least."""
    order = np.argsort(found.magnitude)
    with np.errstate(divide="ignore"):
        level = np.log(np.maximum(found.scatter, 1e-9))[order]
    width = max(11, len(order) // 20)
    typical = np.array([np.median(level[max(0, k - width) : k + width + 1]) for k in range(len(level))])
    beyond = level - typical
    limit = 5 * np.fmax(spread(beyond)[0], 0.1)
    worst = np.argsort(-beyond)[:n]
    return found.star[order][worst[beyond[worst] > limit]]


@dataclasses.dataclass(frozen=True)
class LightCurve:
    """One star in one band: time [d], magnitude and error (n,), and the curve folded with a period, if there is one.

    period [d]: as given, or found; NaN where none is significant, and then there is no phase. told: the period in
    words, with its error and aliases. folded: median magnitude (n_bin,) of each of PHASES bins, NaN where empty.
    """

    star: Any
    time: np.ndarray
    magnitude: np.ndarray
    error: np.ndarray
    period: float
    told: str
    phase: np.ndarray
    folded: np.ndarray


def light_curve(evidence: Evidence, band: str, star: Any, period: float | None = None) -> LightCurve:
    """A star's measurements against time, folded with its period: given, or found by `periods.find_period`.

    Raises Missing for fewer than ten measurements with times.
    """
    rows = evidence.rows
    mine = evidence.of_band(band) & (rows["star"].astype(str) == str(star)) & np.isfinite(rows["magnitude"])
    timed = mine & np.isfinite(evidence.frame_column("time"))
    time, magnitude, error = evidence.frame_column("time")[timed], rows["magnitude"][timed], total_error(rows)[timed]
    if mine.any() and not timed.any():
        raise Missing("exposures have no times")
    if len(time) < FEWEST or np.ptp(time) == 0:
        raise Missing("fewer than ten measurements")
    if period is None:
        search = find_period(time, magnitude, error)
        period, told = search.period, str(search)
    else:
        told = f"period {period:g} d, as given"
    phase = ((time - time.min()) / period) % 1.0
    number = np.minimum((np.nan_to_num(phase) * PHASES).astype(int), PHASES - 1)
    folded = group_median(magnitude, number, PHASES) if np.isfinite(period) else np.full(PHASES, np.nan)
    return LightCurve(star, time, magnitude, error, period, told, phase, folded)


def frame_scatters(evidence: Evidence, rows: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names, 1.48 MAD and standard deviation [mag] of the residuals of each exposure in a table of rows."""
    good = np.isfinite(rows["residual"])
    names, code = np.unique(rows["exposure"][good].astype(str), return_inverse=True)
    residual = rows["residual"][good]
    parts = [spread(residual[code == k]) for k in range(len(names))]
    return names, np.array([p[0] for p in parts]), np.array([p[1] for p in parts])
