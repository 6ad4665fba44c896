"""The columns of a joint solution's tables: add one here and every output has it."""

from __future__ import annotations

import numpy as np

from xpjax.survey import FrameFlag, OutputColumn, RowFlag


def _named(values: np.ndarray) -> np.ndarray | None:
    """Names, None where there are none."""
    return values if any(values.tolist()) else None


def _described(flags: np.ndarray) -> np.ndarray:
    """Names of the bits of each row."""
    kinds, inverse = np.unique(flags, return_inverse=True)
    return np.array([RowFlag.describe(int(bits)) for bits in kinds])[inverse]


PARAMETERS = (
    OutputColumn("term", lambda p: p["term"], "", "Term of the model"),
    OutputColumn("place", lambda p: p["place"], "", "Frames, or cell of the detector, that share the value"),
    OutputColumn("part", lambda p: p["part"], "", "Coefficient of the term"),
    OutputColumn("exposure", lambda p: _named(p["exposure"]), "", "Exposure; empty for values of several"),
    OutputColumn("band", lambda p: _named(p["band"]), "", "Band; empty for values of several"),
    OutputColumn("detector", lambda p: _named(p["detector"]), "", "Detector; empty for values of several"),
    OutputColumn("night", lambda p: _named(p["night"]), "", "Night; empty for values of several"),
    OutputColumn("description", lambda p: p["description"], "", "What the value is"),
    OutputColumn("value", lambda p: p["value"], "", "Value, in the unit of the column unit; missing without data"),
    OutputColumn("error", lambda p: p["error"], "", "Standard error of the value"),
    OutputColumn("unit", lambda p: p["unit"], "", "Unit of value, error and prior"),
    OutputColumn("prior_mean", lambda p: p["prior_mean"], "", "Mean of the prior of the value; missing without prior"),
    OutputColumn("prior_error", lambda p: p["prior_error"], "", "Standard deviation of the prior"),
    OutputColumn(
        "prior_share", lambda p: np.square(p["error"] / p["prior_error"]), "",
        "Share of the prior in the value, (error / prior_error)^2: 1 where it alone determines it; more where errors "
        "are larger, of what stars share over the detector",
    ),
)  # fmt: skip
"""Columns of parameters, of their values by name."""

STARS = (
    OutputColumn("star", lambda s: np.repeat(s.star, len(s.bands)), "", "Identifier of the star"),
    OutputColumn("band", lambda s: np.tile(np.array(s.bands), len(s.star)), "", "Band"),
    OutputColumn("magnitude", lambda s: s.magnitude.ravel(), "mag", "Magnitude of the star in the solution"),
    OutputColumn(
        "magnitude_error", lambda s: s.star_errors().ravel(), "mag",
        "Standard error of the magnitude, of measurements and of the terms together",
    ),
    OutputColumn("n_used", lambda s: s.n_used.ravel(), "", "Number of measurements used"),
    OutputColumn("left_out", lambda s: s.left_out.ravel(), "", "Star with too few measurements to constrain the terms"),
)  # fmt: skip
"""Columns of stars, of a solution."""

FRAMES = (
    OutputColumn("exposure", lambda s: s.frames.exposure, "", "Exposure"),
    OutputColumn("band", lambda s: s.frames.band, "", "Band"),
    OutputColumn("detector", lambda s: _named(s.frames.detector), "", "Detector"),
    OutputColumn("night", lambda s: _named(s.frames.night), "", "Night"),
    OutputColumn("time", lambda s: s.frames.time, "d", "Time of the exposure"),
    OutputColumn("airmass", lambda s: s.frames.airmass, "", "Airmass of the exposure"),
    OutputColumn("n_used", lambda s: s.frame_counts(), "", "Number of measurements used"),
    OutputColumn("rms", lambda s: s.frame_rms(), "mag", "Root mean square residual of the measurements used"),
    OutputColumn("error_floor", lambda s: s.frame_floor(), "mag", "Error added in quadrature to each measurement"),
)  # fmt: skip
"""Columns of exposures, of a solution; values and errors of the terms that each exposure has follow."""

MEASUREMENTS = (
    OutputColumn("star", lambda c: c.observations.star, "", "Identifier of the star"),
    OutputColumn("exposure", lambda c: c.observations.frames.exposure[c.observations.frame], "", "Exposure"),
    OutputColumn("band", lambda c: c.observations.frames.band[c.observations.frame], "", "Band"),
    OutputColumn("magnitude", lambda c: c.magnitude, "mag", "Calibrated magnitude"),
    OutputColumn(
        "magnitude_error", lambda c: c.observations.magnitude_error, "mag",
        "Standard error of the instrumental magnitude",
    ),
    OutputColumn("star_magnitude", lambda c: c.truth, "mag", "Magnitude of the star in the solution"),
    OutputColumn("residual", lambda c: c.residual, "mag", "Magnitude of the star minus calibrated magnitude"),
    OutputColumn("used", lambda c: c.used, "", "Measurement used in the solution"),
    OutputColumn("status", lambda c: c.flags, "", RowFlag.legend()),
    OutputColumn("quality", lambda c: _described(c.flags), "", "Names of the bits that are set in status"),
)  # fmt: skip
"""Columns of calibrated measurements, of what a solution makes of them; those that identify the input row follow."""

APPLIED = (
    OutputColumn(
        "correction_error", lambda c: c.correction_error, "mag",
        "Standard error of what the terms add to the instrumental magnitude",
    ),
    OutputColumn("exposure_status", lambda c: c.exposure_status, "", FrameFlag.legend()),
)  # fmt: skip
"""Columns of measurements that a solution is applied to, after those of calibrated ones."""
