"""A color regression together with the flats of its tiles."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from xpjax.survey import Observations
from xpjax.survey.exposures import ExposureFits, ExposureModel, evaluate, fit_exposures
from xpjax.survey.scr.law import Predicted, predict_scr
from xpjax.survey.scr.regression import ColorFit, ColorModel, fit_scr

TOLERANCE, ROUNDS = 1e-4, 10
"""The iteration ends where no zero-point moves by more [mag], or after so many rounds."""


def calibrate_scr(
    observations: Observations,
    gaia_magnitude: np.ndarray,
    gaia_error: np.ndarray,
    labels: np.ndarray,
    color_model: ColorModel | None = None,
    *,
    label_covariance: np.ndarray | None = None,
    position_order: int = 2,
    **options: Any,
) -> tuple[ColorFit, ExposureFits, Predicted]:
    """The regression of one band iterated with flats of its frames, until no zero-point moves by 0.1 mmag.

    observations: magnitudes with X, Y; frames are the tiles. gaia_magnitude, gaia_error (n,): BP or RP.
    position_order: of the flat of each. See `fit_scr` for the rest. The zero-points of the ExposureFits are medians
    over the detector, of mean zero over the stars in all.
    """
    o = observations
    flat, before = np.zeros(len(o)), np.full(len(o.frames), np.inf)
    model = ExposureModel(position_order=position_order, color_order=0, magnitude_order=0)
    error = np.hypot(gaia_error, o.magnitude_error)
    for _ in range(ROUNDS):
        fit = fit_scr(
            np.where(o.excluded == 0, gaia_magnitude - o.magnitude - flat, np.nan), error, labels,
            color_model, label_covariance=label_covariance, tile=o.frame, **options,
        )  # fmt: skip
        predicted = predict_scr(fit.regression, gaia_magnitude, gaia_error, labels, label_covariance=label_covariance)
        rows = dataclasses.replace(o, model=predicted.magnitude, model_error=np.nan_to_num(predicted.error))
        fits = fit_exposures(rows, model)
        moved = np.abs(fits.zero_point - before)
        if not np.nanmax(np.where(np.isfinite(fits.zero_point), moved, 0), initial=0) > TOLERANCE:
            break
        before = fits.zero_point
        flat = np.nan_to_num(evaluate(fits, rows).added - fits.zero_point[o.frame])
    return fit, fits, predicted
