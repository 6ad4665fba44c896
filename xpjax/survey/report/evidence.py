"""What is known of a calibration: `Evidence`, its measurements matched to frames, and the numbers of each band."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, Record, json_entry
from xpjax.io.results import TableResult
from xpjax.survey import Camera, Observations, RowFlag, group_median
from xpjax.survey.exposures import Calibration, night_line
from xpjax.survey.reading import with_band
from xpjax.survey.report.statistics import median, spread


@dataclasses.dataclass(frozen=True, repr=False)
class Evidence(Record, TableResult):
    """Hold a calibration and what a report compares it with; as a table, the numbers of each band.

    Parameters
    ----------
    solution : Calibration
        The calibration.
    rows : mapping of str to (n,) array
        Columns of the calibrated measurements, with `frame` (index into the frames of the solution, -1 for none), and
        `x`, `y` [pixel], `color` and `model_error` [mag], NaN where unknown; `amplifier` (codes), where it is known.
    cross_validation : mapping of str to (n,) array, optional
        The same columns of standards in cross-validation.
    validation : mapping of str to (n,) array, optional
        The same columns of exposures that took no part in the calibration.
    tiles : mapping of str to (n_frame,) array
        `ra`, `dec` [deg], `ebv` [mag] and `rv` of the frames, any of these.
    differences : mapping of str to (n_frame,) array
        Zero-points less others [mag], by the name of the others.
    stars : mapping of str to (n_star,) array, optional
        Table of stars with `bp_rp`, `phot_g_mean_mag`, `{band}_scr`, `{band}_xpsp` and `{band}_xpsp_corrected` [mag].
    camera : Camera, optional
        Telescope and detector, for the theory of repeatability.
    periods : mapping of str to float
        Periods [d] of variable stars.

    Examples
    --------
    >>> from xpjax.survey import SurveySetup, SimulatedSurvey, exposures, report
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> settings = exposures.CalibrationSettings(exposures.ExposureModel(position_order=1, color_order=0))
    >>> evidence = report.gather_evidence(exposures.calibrate(observations, settings))
    >>> evidence.to_table().colnames[:4]
    ['band', 'n_frame', 'n_refused', 'n_standard']
    """

    solution: Calibration
    rows: Mapping[str, np.ndarray]
    cross_validation: Mapping[str, np.ndarray] | None = None
    validation: Mapping[str, np.ndarray] | None = None
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

    def catalogue(self) -> Catalogue:
        """The numbers of each band, a row for each."""
        return band_numbers(self)

    def frame_column(self, name: str) -> np.ndarray:
        """time or airmass of each row's frame (n,)."""
        frame = self.rows["frame"]
        return np.where(frame >= 0, getattr(self.solution.frames, name)[frame], np.nan)

    @functools.cached_property
    def fitted(self) -> np.ndarray:
        """Residuals (n,) [mag] of the standards by the fit, outliers included; NaN for all other rows."""
        told = (self.rows["status"].astype(np.uint32) & np.uint32(RowFlag.STANDARD | RowFlag.OUTLIER)) > 0
        return np.where(told, self.rows["residual"], np.nan)

    @functools.cached_property
    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Residuals and their errors (n,) [mag] of the standards by fits without them; NaN where there is none."""
        tested = self.cross_validation
        if tested is None:
            return np.full(len(self.rows["frame"]), np.nan), np.full(len(self.rows["frame"]), np.nan)
        at = same_measurements(self.rows["frame"], self.rows["star"], tested["frame"], tested["star"])
        return taken(tested["residual"], at), taken(tested["error"], at)

    @property
    def judged(self) -> np.ndarray:
        """Residuals (n,) [mag] that judge the calibration: held out where there are some, else fitted."""
        return self.held_out[0] if self.cross_validation is not None else self.fitted

    def color_name(self, band: str) -> str:
        """What the color of the stars is called in the configuration, for axes."""
        return color_name(json_entry(self.solution.record, "config", "{}"), band)


def color_columns(config: Mapping[str, Any], band: str) -> list[str]:
    """Names of the columns that the color of a band is made of, none where the configuration names none."""
    own: Mapping[str, Any] = next((b for b in config.get("band", []) if str(b.get("name")) == band), {})
    column = own.get("color", config.get("columns", {}).get("color"))
    if column is None:
        return []
    parts = with_band({"color": column}, band)["color"]
    return [str(name).removeprefix("standards.") for name in ([parts] if isinstance(parts, str) else parts)]


def color_name(config: Mapping[str, Any], band: str) -> str:
    """What the color of the stars is called in a configuration, for axes."""
    names = color_columns(config, band)
    if not names:
        return "BP - RP" if {"spectra", "fetch"} & set(config.get("standards", {})) else "color"
    return " - ".join({"bp_rp": "BP - RP"}.get(name.lower(), name) for name in names)


def evidence_of(solution: Calibration, calibrated: Catalogue, observations: Observations | None = None) -> Evidence:
    """Evidence of a calibration alone; x, y and color from its standards, or of all rows from observations."""
    rows = with_frames(solution, calibrated)
    known = solution.standards if observations is None else observations
    frame = known.frame
    if observations is not None:
        theirs = observations.frames
        frame = frames_of(solution, theirs.exposure, theirs.band, theirs.detector)[frame]
    at = same_measurements(rows["frame"], rows["star"], frame, known.star)
    more = {name: taken(getattr(known, name), at) for name in ("x", "y", "color", "model_error")}
    for name in {"x", "y", "color"} & set(rows):
        more[name] = np.where(np.isfinite(rows[name]), rows[name], more[name])
    if "amplifier" in rows:
        names = json_entry(solution.record, "amplifiers", "[]") or np.unique(rows["amplifier"]).tolist()
        code = {name: k for k, name in enumerate(names)}
        more["amplifier"] = np.array([code.get(name, np.nan) for name in rows["amplifier"].tolist()], float)
    if isinstance(known, Observations):
        if known.amplifier.any():
            more["amplifier"] = taken(known.amplifier, at)
        if known.origin is not None and {"ra", "dec"} <= set(known.origin.columns):
            more |= {name: taken(np.asarray(known.origin.columns[name], float), at) for name in ("ra", "dec")}
    rows = rows | more
    return Evidence(solution, rows, tiles=places_of_frames(rows, len(solution.frames)))


def places_of_frames(rows: Mapping[str, np.ndarray], n_frame: int) -> dict[str, np.ndarray]:
    """Mean ra and dec (n_frame,) [deg] of the stars of each frame, NaN where unknown; nothing where no row has them."""
    if not {"ra", "dec"} <= set(rows):
        return {}
    good = (rows["frame"] >= 0) & np.isfinite(rows["ra"] + rows["dec"])
    ra, dec, frame = np.radians(rows["ra"][good]), np.radians(rows["dec"][good]), rows["frame"][good]
    if not len(frame):
        return {}
    x, y, z = (
        np.bincount(frame, part, n_frame) for part in (np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec))
    )
    known = np.bincount(frame, minlength=n_frame) > 0
    places = {"ra": np.degrees(np.arctan2(y, x)) % 360, "dec": np.degrees(np.arctan2(z, np.hypot(x, y)))}
    return {name: np.where(known, values, np.nan) for name, values in places.items()}


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


def taken(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The values (n,) at these places, NaN for -1."""
    return np.where(at >= 0, values[at], np.nan) if len(values) else np.full(len(at), np.nan)


# --- numbers of the bands ---------------------------------------------------------------------------------------------


NUMBERS = {
    "band": ("photometric band", ""),
    "n_frame": ("number of frames: exposures, bands and detectors", ""),
    "n_refused": ("number of frames without a zero-point", ""),
    "n_standard": ("number of measurements of standards", ""),
    "n_outlier": ("number of outliers among the standards", ""),
    "zero_point_scatter": ("scatter of zero-points about the line with airmass of their night, 1.48 MAD", "mag"),
    "zero_point_error": ("median formal error of the zero-points", "mag"),
    "zero_point_systematic": ("median systematic error of the zero-points; NaN where it is not stated", "mag"),
    "error_floor": ("median scatter of standards beyond their errors", "mag"),
    "residual_scatter": ("1.48 MAD of the residuals of standards, outliers included", "mag"),
    "residual_rms": ("standard deviation of the residuals of standards, outliers included", "mag"),
    "residual_pull": ("1.48 MAD of residual / error of standards", ""),
    "cross_validation_scatter": ("1.48 MAD of the residuals of standards in cross-validation", "mag"),
    "cross_validation_rms": ("standard deviation of the residuals of standards in cross-validation", "mag"),
    "cross_validation_pull": ("1.48 MAD of residual / error of standards in cross-validation", ""),
}
"""The numbers of a band: description and unit."""


def band_numbers(evidence: Evidence) -> Catalogue:
    """The numbers of each band, a row for each; NaN where unknown."""
    solution = evidence.solution
    fits, frames = solution.fits, solution.frames
    off, rows = nights_of(solution).off, []
    for band in evidence.bands:
        mine = frames.band == band
        residual = np.where(evidence.of_band(band), evidence.fitted, np.nan)
        with np.errstate(invalid="ignore"):
            pull = spread(residual / total_error(evidence.rows, model=True))[0]
        rows.append(
            (
                band, mine.sum(), (mine & ~np.isfinite(fits.zero_point)).sum(), fits.n_standard[mine].sum(),
                (fits.n_standard - fits.n_used)[mine].sum(), spread(off[mine])[0], median(fits.zero_point_error[mine]),
                median(solution.zero_point_systematic()[mine]), median(fits.floor[mine]), *spread(residual), pull,
                *_cross_validation(evidence, band),
            )
        )  # fmt: skip
    columns = {name: np.array(column) for name, column in zip(NUMBERS, zip(*rows, strict=True), strict=True)}
    units = {name: unit for name, (_, unit) in NUMBERS.items() if unit}
    return Catalogue(columns, units, {name: said for name, (said, _) in NUMBERS.items()})


def _cross_validation(evidence: Evidence, band: str) -> tuple[float, float, float]:
    """1.48 MAD, standard deviation and pull of the residuals of one band, NaN where unknown."""
    tested = evidence.cross_validation
    if tested is None:
        return np.nan, np.nan, np.nan
    mine = evidence.of_band(band, tested)
    value = tested["residual"][mine]
    return *spread(value), spread(value / tested["error"][mine])[0]


def total_error(rows: Mapping[str, np.ndarray], model: bool = False) -> np.ndarray:
    """Statistical and systematic error of magnitudes (n,) together [mag]; model: of residuals, with the models' too."""
    error = np.hypot(rows["magnitude_error"], rows.get("systematic_error", 0.0))
    return np.hypot(error, np.nan_to_num(rows["model_error"])) if model and "model_error" in rows else error


@dataclasses.dataclass(frozen=True)
class Nights:
    """Zero-points of frames (n_frame,) by their nights: zero-point at airmass 1 of the detector in that night [mag],
    slope with airmass [mag/airmass], and what is left [mag]; NaN for detectors of fewer than three frames a night."""

    level: np.ndarray
    slope: np.ndarray
    off: np.ndarray


def nights_of(solution: Calibration) -> Nights:
    """The line with airmass of each night and band, all detectors together, each about its own median."""
    frames, zero_point = solution.frames, solution.fits.zero_point
    alike, first = frames.group("night", "band", "detector")
    number = np.bincount(alike[np.isfinite(zero_point)], minlength=len(first))
    middle = np.where(number >= 3, group_median(zero_point, alike, len(first)), np.nan)[alike]
    group, first = frames.group("night", "band")
    level, slope = np.full(len(frames), np.nan), np.full(len(frames), np.nan)
    for k in range(len(first)):
        mine = np.flatnonzero((group == k) & np.isfinite(zero_point + middle))
        if len(mine):
            (constant, steep), _ = night_line(frames, zero_point - middle, mine)
            level[mine], slope[mine] = middle[mine] + constant, steep
    return Nights(level, slope, zero_point - level - slope * (np.nan_to_num(frames.airmass, nan=1.0) - 1))
