"""What the fits of exposures give, and what may be known of their terms beforehand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from xpjax.core.records import Record
from xpjax.survey import FrameFlag
from xpjax.survey.exposures.model import Scaling, Terms


@dataclasses.dataclass(frozen=True)
class Prior:
    """What is known of the terms of each frame beforehand: mean and precision (n_frame, n_term), 0 for nothing."""

    mean: np.ndarray
    precision: np.ndarray


@dataclasses.dataclass(frozen=True, repr=False)
class ExposureFits(Record):
    """Hold the solutions of all frames; arrays (n_frame, ...), NaN where a frame is refused.

    Parameters
    ----------
    terms : Terms
        Terms of the model, in the order of the coefficients.
    scaling : Scaling
        Zeros of coordinates, color and magnitude.
    value : (n_frame, n_term) array [mag]
        Coefficients.
    covariance, common_covariance : (n_frame, n_term, n_term) array [mag2]
        Covariances by independent noise, and by the common errors of stars.
    zero_point, zero_point_error, zero_point_common : (n_frame,) array [mag]
        Zero-points, medians over the detector; their errors relative to other frames, and the common ones.
    model_systematic : (n_frame,) array [mag]
        Mean systematic error of the models of the standards, which no number of stars averages out.
    floor, scatter, rms : (n_frame,) array [mag]
        Error floor of the fit, 1.48 MAD and root mean square of the residuals of the standards, outliers included; of a
        calibration with a numerical flat those after it, of which a star's own does not contain the star.
    n_standard, n_used : (n_frame,) int array
        Number of standards, and of those in the fit.
    status : (n_frame,) uint32 array
        FrameFlag bits.
    active : (n_frame, n_term) bool array
        Terms that were fitted.
    residual : (n,) array [mag]
        Residuals of the rows of the observations, NaN where a row is no standard.
    used, clipped : (n,) bool array
        Rows that took part, and outliers.

    Examples
    --------
    >>> from xpjax.survey.exposures import ExposureModel, fit_exposures
    >>> k = np.arange(20.0)
    >>> o = xpjax.survey.make_observations(k, k, k**2 % 7, 14 + k / 9, np.full(20, 0.01), 17 + k / 9)
    >>> fits = fit_exposures(o, ExposureModel(position_order=0, color_order=0, magnitude_order=0))
    >>> fits.zero_point.round(3).tolist()
    [3.0]
    """

    terms: Terms
    scaling: Scaling
    value: np.ndarray
    covariance: np.ndarray
    common_covariance: np.ndarray
    zero_point: np.ndarray
    zero_point_error: np.ndarray
    zero_point_common: np.ndarray
    model_systematic: np.ndarray
    floor: np.ndarray
    scatter: np.ndarray
    rms: np.ndarray
    n_standard: np.ndarray
    n_used: np.ndarray
    status: np.ndarray
    active: np.ndarray
    residual: np.ndarray
    used: np.ndarray
    clipped: np.ndarray

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, frames: Any) -> ExposureFits:
        """The fits of some frames, without what became of their rows."""
        none = np.zeros(0)
        picked: dict[str, Any] = {name: getattr(self, name)[frames] for name in FRAME_ARRAYS}
        picked |= {"residual": none, "used": none.astype(bool), "clipped": none.astype(bool)}
        return dataclasses.replace(
            self, scaling=dataclasses.replace(self.scaling, box=self.scaling.box[frames]), **picked
        )

    def arrays(self) -> dict[str, Any]:
        """Copies of the fields with an entry for each frame, to be changed and replaced."""
        return {name: getattr(self, name).copy() for name in FRAME_ARRAYS}

    def flagged(self, frames: np.ndarray, bits: FrameFlag) -> ExposureFits:
        """The same with bits set for frames, by a mask or their indices."""
        status = self.status.copy()
        status[frames] |= np.uint32(bits)
        return dataclasses.replace(self, status=status)


FRAME_ARRAYS = (
    "value", "covariance", "common_covariance", "zero_point", "zero_point_error", "zero_point_common",
    "model_systematic", "floor", "scatter", "rms", "n_standard", "n_used", "status", "active",
)  # fmt: skip
"""The fields of `ExposureFits` with an entry for each frame."""
