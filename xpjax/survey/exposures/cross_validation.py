"""Cross-validation: calibrate without some of the stars, and look at their residuals."""

from __future__ import annotations

import dataclasses

import numpy as np

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, Record
from xpjax.io.results import TableResult
from xpjax.survey import MAD, Observations, OutputColumn, RowFlag, group_median, tabulate
from xpjax.survey.exposures.calibrate import calibrate_prepared, prepare
from xpjax.survey.exposures.columns import MEASUREMENT
from xpjax.survey.exposures.fit import standards
from xpjax.survey.exposures.model import scaling
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.exposures.solution import Calibrated

OF_ROWS = ("star", "exposure", "band", "detector")
OF_CALIBRATED = ("magnitude", "magnitude_error", "status")
RESIDUAL = (
    OutputColumn("residual", lambda c: c.residual[c.tested], "mag",
        "Model magnitude minus color term minus magnitude, by the calibration without this star"),
    OutputColumn("error", lambda c: c.error[c.tested], "mag",
        "Error of the residual: statistical, systematic and of the model, in quadrature"),
)  # fmt: skip
ZERO_POINT = (
    OutputColumn("cross_validation_scatter", lambda c: c.scatter, "mag",
        "1.48 MAD of the residuals of the standards in cross-validation, with outliers"),
    OutputColumn("cross_validation_rms", lambda c: c.rms, "mag",
        "Standard deviation of the residuals of the standards in cross-validation, with outliers"),
    OutputColumn("n_cross_validation", lambda c: c.number, "", "Number of standards in cross-validation"),
)  # fmt: skip
"""Columns that cross-validation adds to zero-points."""


@dataclasses.dataclass(frozen=True, repr=False)
class CrossValidation(TableResult, Record):
    """Hold residuals of standards by calibrations that they took no part in.

    Parameters
    ----------
    observations : Observations
        The measurements.
    folds : int
        Number of folds.
    residual, error : (n,) array [mag]
        Residuals of the standards, NaN for other rows, and their errors, with those of the models.
    scatter, rms : (n_frame,) array [mag]
        1.48 MAD and standard deviation of the residuals of each frame, outliers included.
    number : (n_frame,) int array
        Number of standards of each frame.
    calibrated : Calibrated, optional
        Magnitudes by the solution of all standards, for the table.

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup, exposures
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> tested = exposures.cross_validate(observations, folds=2)
    >>> tested.to_table().colnames
    ['star', 'exposure', 'band', 'detector', 'residual', 'error']
    """

    bits = RowFlag

    observations: Observations
    folds: int
    residual: np.ndarray
    error: np.ndarray
    scatter: np.ndarray
    rms: np.ndarray
    number: np.ndarray
    calibrated: Calibrated | None = None

    @property
    def tested(self) -> np.ndarray:
        """Indices of the rows of standards."""
        return np.flatnonzero(np.isfinite(self.residual))

    def catalogue(self) -> Catalogue:
        """Return one row for each standard: what `cross_validation.parquet` holds."""
        whole = self if self.calibrated is None else self.calibrated
        wanted = OF_ROWS if self.calibrated is None else (*OF_ROWS, *OF_CALIBRATED)
        part = tabulate([column for column in MEASUREMENT if column.name in wanted], whole, {})[self.tested]
        mine = tabulate(RESIDUAL, self, {})
        return Catalogue(
            {**part.columns, **mine.columns}, {**part.units, **mine.units},
            {**part.descriptions, **mine.descriptions}, meta=dict(getattr(whole, "record", {})),
        )  # fmt: skip


def cross_validate(
    observations: Observations,
    settings: CalibrationSettings | None = None,
    *,
    folds: int = 10,
    seed: int = 0,
    calibrated: Calibrated | None = None,
    devices: Devices = None,
) -> CrossValidation:
    """Cross-validate a calibration: leave standards out, fold by fold, and look at their residuals.

    Every standard is left out once, outliers too; a star is left out on all frames at once.

    Parameters
    ----------
    observations : Observations
        Measurements, with models of the standards.
    settings : CalibrationSettings, optional
        How to calibrate.
    folds : int
        Number of folds.
    seed : int
        Seed of the distribution of stars over folds.
    calibrated : Calibrated, optional
        Magnitudes by the solution of all standards, for the table of the result.
    devices : str or int, optional
        Device; by default the first of JAX.

    Returns
    -------
    CrossValidation
        Residuals of the standards, and their scatter on each frame.

    Raises
    ------
    XpjaxError
        If there are fewer than two folds.

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup, exposures
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> tested = exposures.cross_validate(observations, folds=2)
    >>> tested.scatter.shape
    (3,)
    """
    settings = settings or CalibrationSettings()
    if not folds >= 2:
        raise XpjaxError(f"cross-validation needs two folds or more, not {folds}")
    # All folds share the zeros of color and magnitude.
    scale = scaling(observations, settings.model)
    model = dataclasses.replace(settings.model, color_zero=scale.color_zero, magnitude_zero=scale.magnitude_zero)
    settings = dataclasses.replace(settings, model=model)
    prepared = prepare(observations, settings)
    o = prepared.observations
    ok, _ = standards(o, model)
    _, one = np.unique(o.star, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(np.arange(one.max(initial=0) + 1) % folds)[one]
    residual, error = np.full(len(o), np.nan), np.full(len(o), np.nan)
    for k in range(folds):
        mine = (fold == k) & ok
        if mine.any():
            _, rows = calibrate_prepared(prepared.without(mine), settings, devices=devices)
            residual[mine] = rows.residual[mine]
            assert rows.fits is not None
            # What is wrong with all models alike moves the zero-point too, and is not in residuals.
            own = rows.systematic_error**2 - rows.fits.model_systematic[o.frame] ** 2
            error[mine] = np.sqrt(rows.magnitude_error**2 + np.maximum(own, 0) + o.model_error**2)[mine]
    n = len(o.frames)
    good = np.flatnonzero(np.isfinite(residual))
    frame, value = o.frame[good], residual[good]
    middle = group_median(value, frame, n)
    count = np.bincount(frame, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(frame, value, n) / count
        rms = np.sqrt(np.bincount(frame, (value - mean[frame]) ** 2, n) / count)
    scatter = MAD * group_median(np.abs(value - middle[frame]), frame, n)
    return CrossValidation(observations, folds, residual, error, scatter, rms, count, calibrated)
