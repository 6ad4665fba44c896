"""Stars kept back: calibrate without them, and look at what they are off by."""

from __future__ import annotations

import dataclasses

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, Record
from xpjax.survey import MAD, Observations, RowFlag, group_median
from xpjax.survey.exposures.model import ExposureModel, scaling
from xpjax.survey.exposures.solution import Calibrated, CalibrationSettings, calibrate
from xpjax.survey.exposures.zeropoint import standards


@dataclasses.dataclass(frozen=True, repr=False)
class HeldOut(Record):
    """Residuals (n,) [mag] of standards that were kept back (NaN for others); errors, with those of the models.

    scatter (1.48 MAD), rms (standard deviation) and number for each frame, outliers included.
    """

    residual: np.ndarray
    error: np.ndarray
    scatter: np.ndarray
    rms: np.ndarray
    number: np.ndarray

    def catalogue(self, calibrated: Calibrated) -> Catalogue:
        """One row for each standard, with its magnitude by the solution of all: what `held_out.parquet` holds."""
        whole = calibrated.catalogue()
        kept = np.isfinite(self.residual)
        names = ("star", "exposure", "magnitude", "magnitude_error", "status", "band", "detector")
        columns = {name: whole.columns[name][kept] for name in names if name in whole.columns}
        columns |= {"residual": self.residual[kept], "error": self.error[kept]}
        units = {**{k: v for k, v in whole.units.items() if k in columns}, "residual": "mag", "error": "mag"}
        told = {"residual": "when the star was kept back", "error": "of the residual, systematic error included"}
        return Catalogue(columns, units, told, meta=whole.meta)


def cross_validate(
    observations: Observations,
    settings: CalibrationSettings | None = None,
    *,
    folds: int = 10,
    seed: int = 0,
    devices: str | int | None = None,
) -> HeldOut:
    """Keep back one star in `folds` at a time, calibrate without them, and look at what they are off by.

    All standards are kept back once, outliers too; a star is kept back from all frames at once.
    """
    o = observations
    settings = settings or CalibrationSettings()
    if not folds >= 2:
        raise XpjaxError(f"cross-validation needs two folds or more, not {folds}")
    ok, _ = standards(o, settings.model)
    _, one = np.unique(o.star, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(np.arange(one.max(initial=0) + 1) % folds)[one]
    settings = dataclasses.replace(settings, size=settings.size, model=_pinned(o, settings.model))
    residual, error = np.full(len(o), np.nan), np.full(len(o), np.nan)
    for k in range(folds):
        held = (fold == k) & ok
        if not held.any():
            continue
        excluded = np.where(held, o.excluded | np.uint32(RowFlag.HELD_OUT), o.excluded).astype(np.uint32)
        _, rows = calibrate(dataclasses.replace(o, excluded=excluded), settings, devices=devices)
        residual[held] = rows.residual[held]
        error[held] = np.hypot(rows.magnitude_error, np.hypot(rows.systematic_error, o.model_error))[held]
    n = len(o.frames)
    good = np.flatnonzero(np.isfinite(residual))
    frame, value = o.frame[good], residual[good]
    middle = group_median(value, frame, n)
    count = np.bincount(frame, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(frame, value, n) / count
        rms = np.sqrt(np.bincount(frame, (value - mean[frame]) ** 2, n) / count)
    return HeldOut(residual, error, MAD * group_median(np.abs(value - middle[frame]), frame, n), rms, count)


def _pinned(o: Observations, model: ExposureModel) -> ExposureModel:
    """The model with the zeros that all folds share."""
    scale = scaling(o, model)
    return dataclasses.replace(model, color_zero=scale.color_zero, magnitude_zero=scale.magnitude_zero)
