"""The columns of calibrated measurements and of zero-points: add one here and every output has it.

A column is an `OutputColumn`: its name, a function that takes the result and gives the values, unit and description.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpjax.survey import FrameFlag, OutputColumn, RowFlag


def _named(values: np.ndarray) -> np.ndarray | None:
    """Names of frames, None where no frame has one."""
    return values if any(values) else None


def _known(values: np.ndarray) -> np.ndarray | None:
    return values if np.isfinite(values).any() else None


def _of_frames(calibrated: Any, name: str) -> np.ndarray | None:
    frames = calibrated.observations.frames
    values = _named(getattr(frames, name))
    return None if values is None else values[calibrated.observations.frame]


MEASUREMENT = (
    OutputColumn("star", lambda c: c.observations.star, "",
        "Identifier of the star, from the standards or the input; negative where it was assigned from the position"),
    OutputColumn("exposure", lambda c: c.observations.frames.exposure[c.observations.frame], "", "Exposure"),
    OutputColumn("magnitude", lambda c: c.magnitude, "mag", "Calibrated magnitude in the natural system of the survey"),
    OutputColumn("magnitude_error", lambda c: c.magnitude_error, "mag",
        "Statistical error of the magnitude: photon noise, zero-point and flat field"),
    OutputColumn("systematic_error", lambda c: c.systematic_error, "mag",
        "Systematic error of the magnitude: error floor of the exposure and common error of the standards"),
    OutputColumn("residual", lambda c: c.residual, "mag",
        "Model magnitude minus color term minus calibrated magnitude; the numerical flat excludes the star itself"),
    OutputColumn("status", lambda c: c.flags, "", RowFlag.legend()),
    OutputColumn("band", lambda c: _of_frames(c, "band"), "", "Band"),
    OutputColumn("detector", lambda c: _of_frames(c, "detector"), "", "Detector"),
)  # fmt: skip
"""Columns of calibrated measurements, for each of `Calibrated`; the columns that identify the input row follow."""

ZERO_POINT = (
    OutputColumn("exposure", lambda s: s.frames.exposure, "", "Exposure"),
    OutputColumn("band", lambda s: s.frames.band, "", "Band"),
    OutputColumn("detector", lambda s: _named(s.frames.detector), "", "Detector"),
    OutputColumn("night", lambda s: _named(s.frames.night), "", "Night"),
    OutputColumn("time", lambda s: _known(s.frames.time), "d", "Time of the exposure"),
    OutputColumn("airmass", lambda s: _known(s.frames.airmass), "", "Airmass of the exposure"),
    OutputColumn("zero_point", lambda s: s.fits.zero_point, "mag",
        "Zero-point: median over 20 x 20 places of the detector of constant, position terms and stacked flat, at "
        "color_zero"),
    OutputColumn("zero_point_error", lambda s: s.fits.zero_point_error, "mag",
        "Error of the zero-point relative to the other exposures: noise, and what dithers change of the model errors"),
    OutputColumn("zero_point_systematic", lambda s: s.zero_point_systematic(), "mag",
        "Common error of the zero-points of all exposures: errors of the models of these stars, what is wrong with all "
        "models alike, and the flat; NaN where no model errors are given and none show"),
)  # fmt: skip
"""Columns of zero-points, for each `Calibration`; the terms of the model follow, then QUALITY."""

QUALITY = (
    OutputColumn("n_standard", lambda s: s.fits.n_standard, "", "Number of standards"),
    OutputColumn("n_used", lambda s: s.fits.n_used, "", "Number of standards in the fit"),
    OutputColumn("n_outlier", lambda s: s.fits.n_standard - s.fits.n_used, "", "Number of outliers"),
    OutputColumn("error_floor", lambda s: s.fits.floor, "mag",
        "Error floor of the fit, before a numerical flat: added in quadrature to the errors, it makes the scatter of "
        "the standards the expected one"),
    OutputColumn("error_floor_after_flat", lambda s: _known(s.local_floor), "mag",
        "Error floor of the magnitudes after the numerical flat"),
    OutputColumn("scatter", lambda s: s.fits.scatter, "mag",
        "1.48 MAD of the residuals of standards, with outliers, after all flats; a numerical flat is made without the "
        "star itself"),
    OutputColumn("rms", lambda s: s.fits.rms, "mag",
        "Root mean square residual of standards, with outliers, after all flats"),
    OutputColumn("status", lambda s: s.fits.status, "", FrameFlag.legend()),
    OutputColumn("quality", lambda s: np.array([FrameFlag.describe(int(bits)) for bits in s.fits.status]), "",
        "Names of the bits of status"),
)  # fmt: skip
"""Columns of zero-points after the terms of the model."""


def term_columns(solution: Any) -> list[OutputColumn]:
    """Columns of the terms of the model with their errors."""
    fits, columns = solution.fits, []
    error = np.sqrt(np.maximum(np.diagonal(fits.covariance + fits.common_covariance, axis1=1, axis2=2), 0))
    for k, (name, meaning) in enumerate(zip(fits.terms.names, fits.terms.meanings, strict=True)):
        order = fits.terms.orders[k] if fits.terms.kinds[k] in ("color", "magnitude") else 0  # of mag/mag^order
        unit = "mag" if not order else "" if order == 1 else f"mag-{order - 1}"
        columns.append(OutputColumn.of(name, fits.value[:, k], unit, meaning))
        columns.append(OutputColumn.of(f"{name}_error", error[:, k], unit, f"Error of {name}"))
    return columns
