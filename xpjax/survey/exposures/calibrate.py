"""From observations to calibrated magnitudes: fits, flats and nights.

    magnitude = instrumental + stacked flat(x, y) + [constant + position + magnitude + amplifier terms] + numerical flat

and residual = model - color term - magnitude. `calibrate` finds all of that; `apply` gives it to other stars.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError
from xpjax.survey import MAD, SUSPECT, Observations, RowFlag, group_median, provenance, with_nights
from xpjax.survey.exposures.evaluate import evaluate
from xpjax.survey.exposures.fit import PreparedExposures, prepare_exposures, standards
from xpjax.survey.exposures.flat import Standards, error_floor, numerical_flat
from xpjax.survey.exposures.model import Scaling, scaling
from xpjax.survey.exposures.nights import judge
from xpjax.survey.exposures.results import ExposureFits
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.exposures.solution import Calibrated, Calibration
from xpjax.survey.exposures.steps import Part, row_variance, steps


def calibrate(
    observations: Observations,
    settings: CalibrationSettings | None = None,
    *,
    devices: Devices = None,
    record: Mapping[str, object] | None = None,
) -> tuple[Calibration, Calibrated]:
    """Calibrate a survey: fit exposures, stack and apply flats, help weak exposures by their night.

    Parameters
    ----------
    observations : Observations
        Measurements, with models of the standards.
    settings : CalibrationSettings, optional
        How to calibrate.
    devices : str or int, optional
        Device; by default the first of JAX.
    record : mapping, optional
        Metadata of the products.

    Returns
    -------
    solution : Calibration
        Zero-points, terms and flats of the frames.
    calibrated : Calibrated
        Magnitudes of all rows; NaN where a frame cannot be calibrated, and its status says why.

    Raises
    ------
    XpjaxError
        If there are no rows.

    Notes
    -----
    magnitude = instrumental + stacked flat(x, y) + [constant + position + magnitude + amplifier terms] + numerical
    flat, and residual = model - color term - magnitude (Xiao et al. 2023, 2025).

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup, exposures
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> solution, calibrated = exposures.calibrate(observations)
    >>> len(solution.frames), bool(np.isfinite(calibrated.magnitude).all())
    (3, True)
    """
    settings = settings or CalibrationSettings()
    return calibrate_prepared(prepare(observations, settings), settings, devices=devices, record=record)


def prepare(
    observations: Observations,
    settings: CalibrationSettings,
    scale: Scaling | None = None,
    n_amplifier: int | None = None,
) -> PreparedExposures:
    """Observations with nights, ready for any number of calibrations. Raises XpjaxError where there are none.

    scale, n_amplifier: of the whole survey, where the observations are a part of it.
    """
    o = with_nights(observations)
    if not len(o.frames):
        raise XpjaxError("there are no measurements to calibrate: the tables have no rows")
    scale = scale or scaling(o, settings.model, settings.size)
    return prepare_exposures(o, settings.model, scale, n_amplifier)


def calibrate_prepared(
    prepared: PreparedExposures,
    settings: CalibrationSettings,
    *,
    devices: Devices = None,
    record: Mapping[str, Any] | None = None,
) -> tuple[Calibration, Calibrated]:
    """As `calibrate`, of what `prepare` made."""
    whole = Part(prepared, settings, devices=devices)
    for step in steps(settings):
        step.learn(whole, step.reduce([step.share(whole)], settings))
    return calibrated_part(whole, record)


def calibrated_part(part: Part, record: Mapping[str, Any] | None = None) -> tuple[Calibration, Calibrated]:
    """Solution and measurements of a survey, or of a part of it, that has gone through all steps."""
    o, settings, devices = part.observations, part.settings, part.devices
    fits = judge(o.frames, part.fits, settings)
    about = {
        **provenance(), **(record or {}),
        "model": json.dumps(dataclasses.asdict(settings.model)),
        "settings": json.dumps({k: v for k, v in dataclasses.asdict(settings).items() if k != "model"}),
    }  # fmt: skip
    unknown = np.full(len(o.frames), np.nan)
    solution = Calibration(settings, o.frames, fits, part.flats, _kept(o, fits), unknown, part.common, about)
    rows, local_floor = calibrate_rows(solution, o, np.arange(len(o.frames)), fits, part.offset, devices)
    if settings.numerical_flat:
        fits = _as_delivered(o, fits, rows.residual)
        solution = dataclasses.replace(solution, fits=fits, local_floor=local_floor)
        rows = dataclasses.replace(rows, fits=fits)
    return solution, rows


def _as_delivered(o: Observations, fits: ExposureFits, residual: np.ndarray) -> ExposureFits:
    """The fits with scatter and rms of the magnitudes as they are delivered, after the numerical flat."""
    rows, n = np.flatnonzero((fits.used | fits.clipped) & np.isfinite(residual)), len(o.frames)
    frame, value = o.frame[rows], residual[rows]
    count, middle = np.bincount(frame, minlength=n), group_median(value, frame, n)
    with np.errstate(invalid="ignore"):
        rms = np.sqrt(np.bincount(frame, value**2, n) / count)
    scatter = MAD * group_median(np.abs(value - middle[frame]), frame, n)
    return dataclasses.replace(
        fits, scatter=np.where(count > 0, scatter, fits.scatter), rms=np.where(count > 0, rms, fits.rms)
    )


def _kept(o: Observations, fits: ExposureFits) -> Standards:
    """The standards that took part, frame by frame."""
    used = np.flatnonzero(fits.used)
    used = used[np.argsort(o.frame[used], kind="stable")]
    return Standards(
        o.frame[used].astype(np.int32), o.star[used], o.x[used], o.y[used], fits.residual[used],
        row_variance(o, fits)[used], o.color[used], o.model_error[used],
    )  # fmt: skip


def calibrate_rows(
    solution: Calibration,
    o: Observations,
    place: np.ndarray,
    fits: ExposureFits,
    offset: np.ndarray | None,
    devices: Devices,
) -> tuple[Calibrated, np.ndarray]:
    """Calibrate rows; also the floors (n_frame,) after the numerical flat.

    place (n_frame,): the frame of the solution with the standards of each frame, or -1.
    """
    settings, model = solution.settings, solution.settings.model
    parts = evaluate(fits, o, devices)
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
    common = np.hypot(fits.model_systematic, settings.systematic_error)[o.frame]
    systematic = np.sqrt(floor[o.frame] ** 2 + parts.common_error**2 + common**2)
    lost = ~np.isfinite(magnitude)
    error, systematic = np.where(lost, np.nan, error), np.where(lost, np.nan, systematic)
    return Calibrated(o, magnitude, error, systematic, residual, flags, solution.record, fits), local_floor


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
    s = solution.standards
    before, middle = fits.floor, group_median(s.variance, s.frame, len(solution.frames))
    if not len(fits.used):  # of an earlier solution, which found it
        found = (solution.local_floor, solution.fits.floor, middle)
        floor, before, middle = (np.where(place >= 0, array[place], np.nan) for array in found)
    else:
        # Outliers too, as for the floor before: else the stars that are still to come scatter by more.
        rows = np.flatnonzero((fits.used | fits.clipped) & has & np.isfinite(residual))
        own = np.where(o.magnitude_error > 0, o.magnitude_error, 0.0)
        variance = own**2 + o.model_error**2 + error**2
        floor = error_floor(residual[rows], variance[rows], o.frame[rows], len(o.frames))
        floor[np.bincount(o.frame[rows], minlength=len(o.frames)) == 0] = np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.sqrt(np.maximum(middle - before**2 + np.fmin(floor, before) ** 2, 0) / middle)
    return floor, np.where(np.isfinite(factor), factor, 1.0)


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
