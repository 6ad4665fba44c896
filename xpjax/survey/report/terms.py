"""What a report shows of the terms of the model: a table, and color terms over the colors of the standards."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from xpjax.survey.report.drawing import (
    HELD_OUT,
    MMAG,
    chunks,
    draw_curves,
    dress,
    ends_of,
    in_parts,
    is_left,
    label_of,
    plain,
    shown_bands,
)
from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.layout import WIDTH, Figure, Table
from xpjax.survey.report.statistics import Missing, median, spread, trend

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes

BANDS_ABREAST = 6
"""Bands beside each other in a table of terms."""


def term_tables(evidence: Evidence) -> list[Table]:
    """The terms of the model: of a single frame with errors, of several their medians and scatter."""
    fits, frames = evidence.solution.fits, evidence.solution.frames
    error = np.sqrt(np.maximum(np.diagonal(fits.covariance + fits.common_covariance, axis1=1, axis2=2), 0))
    tables = []
    for part in chunks(shown_bands(evidence), BANDS_ABREAST):
        rows = []
        for k, (name, meaning) in enumerate(zip(fits.terms.names, fits.terms.meanings, strict=True)):
            scale, unit = _scale_and_unit(name, fits.terms.kinds[k], fits.terms.orders[k])
            cells = [name, meaning, unit]
            for band in part:
                mine = np.flatnonzero((frames.band == band) & np.isfinite(fits.value[:, k]) & fits.active[:, k])
                width = spread(fits.value[mine, k])[0] if len(mine) > 1 else median(error[mine, k])
                digits = 2 if scale == MMAG else 4
                told = f"{scale * median(fits.value[mine, k]):.{digits}f} \u00b1 {scale * width:.{digits}f}"
                told = told if len(mine) else "-"
                cells.append(told)
            if any(cell != "-" for cell in cells[3:]):
                rows.append(cells)
        caption = (
            "Terms of the model. Of several frames of a band: median and 1.48 MAD of the frames; of one: value "
            "and error. Scaled x, y are -1..1 over the detector; errors of each frame are in zeropoints.ecsv."
        )
        tables.append(Table(caption, ("term", "meaning", "unit", *map(label_of, part)), rows))
    return tables


def _scale_and_unit(name: str, kind: str, order: int) -> tuple[float, str]:
    """What a term is multiplied by to be shown, and its unit then."""
    if name == "constant":  # holds the zero-point, some 24 mag
        return 1.0, "mag"
    return MMAG, "mmag/mag" + f"^{order}" * int(order > 1) if kind in ("color", "magnitude") else "mmag"


def color_figures(evidence: Evidence) -> list[Figure]:
    """The color terms over the colors of the standards. Raises Missing."""
    if "color" not in evidence.solution.fits.terms.kinds:
        raise Missing("the model has no color term (model.color_order)")
    bands = [band for band in shown_bands(evidence) if len(color_rows(evidence, band)) >= 10]
    if not bands:
        raise Missing("no band has ten standards with colors (columns.color)")
    number = sum(len(color_rows(evidence, band)) for band in bands)
    kind = "held out" if evidence.cross_validation is not None else "fitted"
    caption = (
        "Color terms: median of the frames (line), error of one frame (dark band), and the range of 68 % of the frames "
        "(light band, where there are several). Points: medians of model - calibrated magnitude of the standards "
        f"({kind}), with errors. Below: numbers of standards. {number:,} measurements. The term is zero at the dotted "
        "line (color_zero); it is taken off the models, and calibrated magnitudes are in the natural system."
    )
    return in_parts("Color terms", bands, 3, caption, functools.partial(draw_colors, evidence))


def color_rows(evidence: Evidence, band: str) -> np.ndarray:
    """Rows of standards of a band with residual and color."""
    return np.flatnonzero(evidence.of_band(band) & np.isfinite(evidence.judged) & np.isfinite(evidence.rows["color"]))


def color_curves(evidence: Evidence, frames: np.ndarray, color: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Color terms (n_frame, n) [mag] of frames (indices) at colors (n,), and their errors."""
    fits = evidence.solution.fits
    mine = np.flatnonzero(fits.terms.kinds == "color")
    powers = (color - fits.scaling.color_zero) ** np.arange(1, len(mine) + 1)[:, None]
    covariance = (fits.covariance + fits.common_covariance)[np.ix_(frames, mine, mine)]
    value = np.nan_to_num(fits.value[np.ix_(frames, mine)]) @ powers
    return value, np.sqrt(np.maximum(np.einsum("kc,nkl,lc->nc", powers, np.nan_to_num(covariance), powers), 0))


def draw_colors(evidence: Evidence, bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    """A panel for each band, with the distribution of colors below."""
    figure.set_size_inches(WIDTH * max(len(bands), 1.5) / 3, 4.2)
    for band, (upper, lower) in zip(
        bands, figure.subplots(2, len(bands), sharex="col", squeeze=False, height_ratios=[3, 1]).T, strict=True
    ):
        _draw_color(evidence, band, upper, lower)


def _draw_color(evidence: Evidence, band: str, upper: Axes, lower: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    fits, rows = evidence.solution.fits, evidence.rows
    mine = color_rows(evidence, band)
    color, frame = rows["color"][mine], rows["frame"][mine]
    low, high = ends_of(color)
    active = fits.active[:, fits.terms.kinds == "color"].any(axis=1) & np.isfinite(fits.zero_point)
    frames = np.flatnonzero((evidence.solution.frames.band == band) & active)
    at = np.linspace(low, high, 100)
    if len(frames):
        value, error = color_curves(evidence, frames, at)
        label = f"color term, order {fits.terms.color_order}"
        draw_curves(upper, at, MMAG * value, MMAG * np.median(error, axis=0), label)
    taken_off = np.zeros(len(mine))
    order = np.argsort(frame, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(frame[order])) + 1):
        taken_off[part] = color_curves(evidence, frame[part[:1]], color[part])[0][0]
    inside = (color >= low) & (color <= high)
    found = trend(color[inside], MMAG * (taken_off + evidence.judged[mine])[inside], 20)
    held = evidence.cross_validation is not None
    paint, label = (HELD_OUT, "standards, held out") if held else ("black", "standards, fitted")
    upper.errorbar(found.x, found.median, found.error, fmt="o", ms=3, lw=0.8, color=paint, label=label)
    upper.axvline(fits.scaling.color_zero, color="0.5", lw=0.8, ls=":")
    lower.hist(color[inside], bins=40, color="0.6")
    lower.yaxis.set_major_locator(MaxNLocator(2))
    dress(upper, "", "color term [mmag]" if is_left(upper) else "", plain(band))
    dress(lower, f"{evidence.color_name(band)} [mag]", "number" if is_left(upper) else "")
