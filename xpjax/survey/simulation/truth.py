"""The truth of a simulated survey as tables: what exposures, bands, places, stars, spectra and detections were given.

`TRUTH` names the files. Signs are those of the calibration: what is called a correction is added to instrumental
magnitudes, and an error of XP is XP's magnitude less the true one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.constants import POGSON
from xpjax.core.records import Catalogue
from xpjax.core.sky import cell_centers
from xpjax.survey.columns import OutputColumn, tabulate
from xpjax.survey.simulation.flat import GRID
from xpjax.survey.simulation.plan import SEEING
from xpjax.survey.simulation.survey import Detections, SimulatedSurvey
from xpjax.survey.sky_floor import SKY_NSIDE
from xpjax.xp import load_correction

NAMES = ("exposure", "detector", "band", "night", "field")
REFERENCE_AIRMASS = 1.2
"""At which the truth about stars is given."""
PARTS = ("BP", "RP")

OF_ROWS = (
    OutputColumn("exposure", lambda r: r["exposure"], "", "Exposure"),
    OutputColumn("detector", lambda r: r["detector"], "", "Detector"),
    OutputColumn("NUMBER", lambda r: r["number"], "", "Running number in the table of the exposure and detector"),
    OutputColumn("source_id", lambda r: r["source_id"], "", "Identifier of the star"),
    OutputColumn("true_magnitude", lambda r: r["magnitude"], "mag",
        "True magnitude of the star in the natural system: at the airmass and the place of the exposure"),
    OutputColumn("true_correction", lambda r: r["correction"], "mag", "True calibrated minus instrumental magnitude"),
    OutputColumn("true_flat", lambda r: r["flat"], "mag", "Of this: flat and uneven clouds at the place"),
    OutputColumn(
        "true_response", lambda r: r["response"], "mag",
        "Of this: nonlinearity, brighter-fatter losses and magnitude term",
    ),
    OutputColumn("filter_shift", lambda r: r["filter_shift"], "nm", "Shift of the true filter at the place"),
    OutputColumn("true_error", lambda r: r["error"], "mag", "Standard deviation of the noise"),
    OutputColumn("disturbed", lambda r: r["disturbed"], "", "Whether the star varies or the measurement was spoilt"),
)  # fmt: skip
"""Columns of the truth about detections."""
OF_EXPOSURES = (
    *(OutputColumn(key, operator.itemgetter(key), "", key.capitalize()) for key in NAMES),
    OutputColumn("time", lambda r: r["time"], "d", "Modified Julian date of the exposure"),
    OutputColumn("airmass", lambda r: r["airmass"], "", "Airmass of the exposure"),
    OutputColumn("seeing", lambda r: r["seeing"], "arcsec", "Seeing of the exposure"),
    OutputColumn("cloud", lambda r: r["cloud"], "mag", "Extinction by clouds"),
    OutputColumn("night_level", lambda r: r["night_level"], "mag", "Part of the zero-point: level of the night"),
    OutputColumn("night_extinction", lambda r: r["night_extinction"], "mag",
        "Extinction coefficient of the night beside that of the chain, per airmass"),
    OutputColumn("drift", lambda r: r["drift"], "mag", "Part of the zero-point: drift within the night"),
    OutputColumn("aperture", lambda r: r["aperture"], "mag",
        f"Part of the zero-point: light lost from the aperture, less that in seeing of {SEEING:g} arcsec"),
    OutputColumn("detector_offset", lambda r: r["detector_offset"], "mag", "Part of the zero-point: of the detector"),
    OutputColumn("filter_shift", lambda r: r["filter_shift"], "nm", "Shift of the true filter from the described one"),
    OutputColumn("nonlinearity", lambda r: r["nonlinearity"], "mag",
        "Correction of a star of bright_magnitude, in proportion to the counts"),
    OutputColumn("brighter_fatter", lambda r: r["brighter_fatter"], "mag",
        "Correction of a star of bright_magnitude in the seeing of the exposure, in proportion to the peak"),
    OutputColumn("bright_magnitude", lambda r: r["bright_magnitude"], "mag",
        "Instrumental magnitude, but for the flat, at which nonlinearity and brighter_fatter are given"),
    OutputColumn("true_zero_point", lambda r: r["zero_point"], "mag", "True zero-point, of stars of color_zero"),
    OutputColumn(
        "true_color_term", lambda r: r["slope"], "",
        "True slope of model less natural magnitude with BP - RP, mag per mag",
    ),
    OutputColumn("color_zero", lambda r: r["color_zero"], "mag", "Color BP - RP that the zero-point is for"),
)  # fmt: skip
"""Columns of the truth about exposures and detectors."""

Rows = Sequence[tuple[int, Detections]]


def _of_rows(made: SimulatedSurvey, rows: Rows, about: Mapping[str, Any]) -> Catalogue:
    """The truth about all detections, in the order of the files."""
    parts = [
        {
            "exposure": np.full(len(d.star), made.names(f)["exposure"]),
            "detector": np.full(len(d.star), made.names(f)["detector"]),
            "number": np.arange(1, len(d.star) + 1, dtype=np.int32), "source_id": made.stars.star[d.star],
            **{name: getattr(d.truth, name) for name in d.truth.row_fields},
        }
        for f, d in rows
    ]  # fmt: skip
    return tabulate(OF_ROWS, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, about)


def _of_exposures(made: SimulatedSurvey, rows: Rows, about: Mapping[str, Any]) -> Catalogue:
    """The truth about exposures and detectors."""
    frames, plan, effects = range(len(made)), made.plan, made.setup.effects
    e, d = np.divmod(np.arange(len(made)), made.n_detector)
    names = [made.names(f) for f in frames]
    level = np.array([made.zero_point(f) for f in frames])
    found = {
        **{key: np.array([name[key] for name in names]) for key in names[0]},
        **{key: getattr(plan, key)[e] for key in ("time", "airmass", "seeing", "cloud")},
        **{key: plan.parts[key][e] for key in ("night_level", "drift", "aperture")},
        "night_extinction": plan.extinction[e],
        "detector_offset": made.detector_offset[plan.band[e] * made.n_detector + d],
        "filter_shift": made.magnitudes.filter_shift[plan.band[e]],
        "nonlinearity": np.full(len(made), -effects.nonlinearity),
        "brighter_fatter": -effects.brighter_fatter * (SEEING / plan.seeing[e]) ** 2,
        "bright_magnitude": made.setup.bright - level,
        "zero_point": made.true_zero_points(), "slope": np.array([made.color_term(f)[1] for f in frames]),
        "color_zero": np.full(len(made), made.color_zero),
    }  # fmt: skip
    return tabulate(OF_EXPOSURES, found, {**about, "magnitude_term": effects.magnitude_term})


def _of_stars(made: SimulatedSurvey, rows: Rows, about: Mapping[str, Any]) -> Catalogue:
    """The stars: magnitudes through the true passbands at the center of the field, and what is wrong with their XP."""
    stars, every = made.stars, np.arange(len(made.stars))
    columns = [
        OutputColumn.of("source_id", stars.star, "", "Identifier of the star"),
        OutputColumn.of("has_xp", stars.has_xp, "", "Whether the star has an XP spectrum"),
        OutputColumn.of("variable", made.varies, "", "Whether the star varies, as a sine"),
        OutputColumn.of("amplitude", made.amplitude, "mag", "Amplitude of the sine"),
        OutputColumn.of("period", made.period, "d", "Period of the sine"),
        OutputColumn.of("phase", made.phase, "rad", "Phase of the sine at time 0"),
        OutputColumn.of("color", stars.color, "mag", "Color BP - RP"),
    ]
    for k, band in enumerate(made.bands):
        magnitude, said = made.magnitudes.true(every, k, REFERENCE_AIRMASS), f"in {band} at airmass {REFERENCE_AIRMASS}"
        columns.append(OutputColumn.of(f"true_magnitude_{band}", magnitude, "mag", f"True magnitude {said}"))
    for k, part in enumerate(PARTS):
        said = f"What the {part} spectrum is too faint by: the star's own error, and that of its cell on the sky"
        columns.append(OutputColumn.of(f"xp_error_{part}", stars.xp_error[:, k], "mag", said))
    return tabulate(columns, None, about)


def _of_flats(made: SimulatedSurvey, rows: Rows, about: Mapping[str, Any]) -> Catalogue:
    """The flats on a grid, without their small scales, which a grid only samples."""
    n, (x, y) = len(made.flats), GRID.T * np.array(made.setup.size)[:, None]
    band, detector = np.divmod(np.arange(n), made.n_detector)
    columns = [
        OutputColumn.of("band", np.repeat(np.array(made.bands)[band], len(x)), "", "Band"),
        OutputColumn.of("detector", np.repeat([f"ccd{d + 1}" for d in detector], len(x)), "", "Detector"),
        OutputColumn.of("x", np.tile(x, n), "pixel", "Position along the x axis of the detector"),
        OutputColumn.of("y", np.tile(y, n), "pixel", "Position along the y axis of the detector"),
        OutputColumn.of("flat", np.concatenate([flat(GRID, False) for flat in made.flats]), "mag",
            "Flat, added to instrumental magnitudes: its large and medium scales"),
    ]  # fmt: skip
    return tabulate(columns, None, about)


def _of_bands(made: SimulatedSurvey, rows: Rows, about: Mapping[str, Any]) -> Catalogue:
    """What bands are given, and what XP's errors mean in them."""
    share, error = made.xp_in_bands
    columns = [
        OutputColumn.of("band", np.array(made.bands), "", "Band"),
        OutputColumn.of("filter_shift", made.magnitudes.filter_shift, "nm",
            "Shift of the true filter at the center of the field from the described one"),
        OutputColumn.of("field_shift", np.full(len(share), -made.setup.effects.field_shift), "nm",
            "Further shift at the corners of the field, in proportion to the squared distance from its center"),
        OutputColumn.of("bp_share", share, "", "Part of BP's error that the magnitude has; it has the rest of RP's"),
        OutputColumn.of("instrument_error", error, "mag",
            "What magnitudes of corrected XP spectra are too faint by, of the instrument: median of the stars"),
    ]  # fmt: skip
    return tabulate(columns, None, about)


def _of_sky(made: SimulatedSurvey, rows: Rows, about: Mapping[str, Any]) -> Catalogue:
    """XP's errors on the sky, in the cells that have stars."""
    stars, (share, _) = made.stars, made.xp_in_bands
    pixel, first, number = np.unique(stars.cell, return_index=True, return_counts=True)
    ra, dec = cell_centers(pixel, SKY_NSIDE)
    error = stars.cell_error[first]
    columns = [
        OutputColumn.of("pixel", pixel, "", f"HEALPix pixel, nested, nside {SKY_NSIDE}"),
        OutputColumn.of("ra", ra, "deg", "Right ascension of its center"),
        OutputColumn.of("dec", dec, "deg", "Declination of its center"),
        OutputColumn.of("n_star", number, "", "Number of stars"),
    ]
    columns += [
        OutputColumn.of(f"xp_error_{part}", error[:, k], "mag", f"What {part} spectra in the cell are too faint by")
        for k, part in enumerate(PARTS)
    ]
    columns += [
        OutputColumn.of(f"xp_error_{band}", error @ [share[k], 1 - share[k]], "mag",
            f"XP's {band} magnitude less the true one: bp_share of BP's error, and the rest of RP's")
        for k, band in enumerate(made.bands)
    ]  # fmt: skip
    return tabulate(columns, None, about)


def _of_instrument(made: SimulatedSurvey, rows: Rows, about: Mapping[str, Any]) -> Catalogue:
    """What XP spectra with the correction are wrong by, at all wavelengths alike for all stars."""
    correction = load_correction(made.setup.correction)
    wavelength = np.zeros(0) if correction is None else correction.wavelength
    columns = [
        OutputColumn.of("wavelength", wavelength, "nm", "Wavelength"),
        OutputColumn.of("xp_error", POGSON * np.log1p(made.instrument_error), "mag",
            "What corrected XP spectra are too faint by"),
    ]  # fmt: skip
    return tabulate(columns, None, about)


TRUTH: Mapping[str, Callable[[SimulatedSurvey, Rows, Mapping[str, Any]], Catalogue]] = {
    "truth/bands.parquet": _of_bands,
    "truth/flats.parquet": _of_flats,
    "truth/sky.parquet": _of_sky,
    "truth/instrument.parquet": _of_instrument,
    "truth/stars.parquet": _of_stars,
    "truth/detections.parquet": _of_rows,
    "truth/exposures.ecsv": _of_exposures,
}
"""Files of the truth, and what makes each of a survey, its detections by frame, and metadata."""
