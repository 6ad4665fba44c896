"""What a report shows of differences from other zero-points, and of exposures that took no part."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from xpjax.core.errors import say
from xpjax.core.periods import FALSE_ALARM
from xpjax.survey import MAD, group_median
from xpjax.survey.report.drawing import (
    FITTED,
    HELD_OUT,
    MMAG,
    RED,
    draw_density,
    draw_gaussian,
    draw_maps,
    dress,
    in_parts,
    label_of,
    limits_about,
    panels,
    plain,
    rounded_text,
    rows_of_panels,
)
from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.layout import Figure, Table
from xpjax.survey.report.statistics import STRONG, Missing, correlation, line, median, spread

if TYPE_CHECKING:
    import matplotlib.figure


def nothing_to_compare() -> str:
    """What a comparison needs."""
    return f"nothing to compare with ({say('compare=', '--compare')})"


def table_of_differences(evidence: Evidence, name: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Bands, first frame (n_tile,) of each exposure, and zero-point differences (n_tile, n_band), detectors averaged.

    The median of each band is subtracted: a common offset of its zero-points is a matter of definition.
    """
    frames, difference = evidence.solution.frames, evidence.differences[name]
    tile, first = frames.group("exposure")
    bands = evidence.bands
    out = np.full((len(first), len(bands)), np.nan)
    for k, band in enumerate(bands):
        mine = (frames.band == band) & np.isfinite(difference)
        if mine.any():
            out[:, k] = group_median(difference[mine], tile[mine], len(first))
            out[:, k] -= np.nanmedian(out[:, k])
    return bands, first, out


@dataclasses.dataclass(frozen=True)
class DifferenceNumbers:
    """Zero-points of one band less others [mag]: median, and about it 1.48 MAD and standard deviation; formal: rms of
    our errors; pull: standard deviation of difference / error."""

    band: str
    number: int
    median: float
    scatter: float
    rms: float
    formal: float
    pull: float


def difference_numbers(evidence: Evidence, name: str) -> list[DifferenceNumbers]:
    """What our zero-points differ by from others, a row for each band."""
    out = []
    for band in evidence.bands:
        mine = (evidence.solution.frames.band == band) & np.isfinite(evidence.differences[name])
        value, error = evidence.differences[name][mine], evidence.solution.fits.zero_point_error[mine]
        middle = median(value)
        with np.errstate(invalid="ignore", divide="ignore"):
            pull = float(np.std((value - middle) / error)) if len(value) > 1 else np.nan
        formal = float(np.sqrt(np.mean(error**2))) if len(error) else np.nan
        out.append(DifferenceNumbers(band, len(value), middle, *spread(value), formal, pull))
    return out


def difference_table(evidence: Evidence, name: str) -> Table:
    """The numbers of the differences."""
    header = ("band", "in both", "median", "1.48 MAD", "std", "formal error", "std / formal", "pull")
    rows: list[tuple[str | int, ...]] = [
        (label_of(n.band), n.number,
         *(rounded_text(MMAG * v, 3) for v in (n.median, n.scatter, n.rms, n.formal)),
         rounded_text(n.rms / n.formal if n.formal > 0 else np.nan), rounded_text(n.pull))
        for n in difference_numbers(evidence, name) if n.number
    ]  # fmt: skip
    caption = (
        f"Zero-points less those of {name} [mmag]; std, pull and ratio about the median. The pull is the standard "
        "deviation of difference / formal error, with the errors of this calibration alone."
    )
    return Table(caption, header, rows)


@dataclasses.dataclass(frozen=True)
class Differences:
    """Differences from one comparison: its name, first frame (n_tile,) of each exposure, and values [mmag] by band."""

    name: str
    first: np.ndarray
    values: Mapping[str, np.ndarray]


def differences_from(evidence: Evidence, name: str) -> Differences:
    """The differences from one comparison. Raises Missing where no exposure is in both."""
    bands, first, difference = table_of_differences(evidence, name)
    known = {b: MMAG * v for b, v in zip(bands, difference.T, strict=True) if np.isfinite(v).any()}
    if not known:
        raise Missing(f"no exposure or tile is both in this calibration and in {name}")
    return Differences(name, first, known)


def difference_figures(evidence: Evidence, found: Differences) -> tuple[list[Figure], dict[str, str]]:
    """Histograms, maps, correlations, reddening; and what of these could not be made."""
    missing, figures = {}, list[Figure]()
    for title, make in (
        ("Histograms of zero-point differences", _histograms), ("Sky map of zero-point differences", _maps),
        ("Correlation of bands", _correlations), ("Zero-point differences against reddening", _reddening),
    ):  # fmt: skip
        try:
            figures += make(evidence, found, f"{title}, {found.name}" if len(evidence.differences) > 1 else title)
        except Missing as why:
            missing[title] = str(why)
    return figures, missing


def _histograms(evidence: Evidence, found: Differences, title: str) -> list[Figure]:
    def draw(bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        for band, axes in zip(bands, panels(figure, len(bands)), strict=True):
            draw_gaussian(axes, found.values[band], plain(band))
            dress(axes, "difference [mmag]")

    number = max(np.isfinite(values).sum() for values in found.values.values())
    caption = (
        f"Zero-point differences from {found.name} about their median, of up to {number:,} exposures or tiles, with a "
        "Gaussian fitted to their core."
    )
    return in_parts(title, [*found.values], 9, caption, draw)


def _tile_column(evidence: Evidence, name: str, first: np.ndarray) -> np.ndarray:
    values = evidence.tiles.get(name)
    if values is None or not np.isfinite(values[first]).any():
        where = f"{say('tiles=', '--tiles')}, or the configuration's columns ra and dec"
        raise Missing(f"exposures or tiles have no {name} ({where})")
    return values[first]


def _maps(evidence: Evidence, found: Differences, title: str) -> list[Figure]:
    ra, dec = (_tile_column(evidence, name, found.first) for name in ("ra", "dec"))

    def draw(bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        points = {band: (ra, dec, found.values[band]) for band in bands}
        draw_maps(points, "difference [mmag]", figure, most=len(ra))

    caption = f"Zero-point differences from {found.name} of exposures or tiles on the sky (sinusoidal projection)."
    return in_parts(title, [*found.values], 6, caption, draw)


def _correlations(evidence: Evidence, found: Differences, title: str) -> list[Figure]:
    bands = [*found.values]
    if len(bands) < 2:
        raise Missing("one band only")
    matrix, slopes = correlation(bands, np.transpose([found.values[band] for band in bands]))
    if not np.isfinite(matrix[~np.eye(len(bands), dtype=bool)]).any():
        raise Missing("no two bands share five exposures or tiles")

    def draw(figure: matplotlib.figure.Figure) -> None:
        size = min(0.38 * len(bands) + 2.4, 9.0)
        figure.set_size_inches(size + 0.6, size)
        axes = figure.subplots()
        image = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
        axes.set_xticks(range(len(bands)), [plain(b) for b in bands], rotation=90)
        axes.set_yticks(range(len(bands)), [plain(b) for b in bands])
        for (i, j), r in np.ndenumerate(matrix):
            if np.isfinite(r):
                paint = "w" if abs(r) > 0.6 else "k"
                axes.text(j, i, f"{r:.2f}", ha="center", va="center", fontsize=7, color=paint)
        figure.colorbar(image, ax=axes, label="correlation coefficient r")

    told = "; ".join(f"{y} = ({k:+.2f} \u00b1 {e:.2f}) {x}, r = {r:.2f}" for y, x, r, k, e in slopes[:30])
    caption = (
        f"Correlation coefficients of the zero-point differences from {found.name} in two bands. Slopes of pairs with "
        f"|r| > {STRONG} and a probability of chance below {FALSE_ALARM:g}: {told or 'there is no such pair'}."
    )
    return [Figure(title, caption, draw)]


def _reddening(evidence: Evidence, found: Differences, title: str) -> list[Figure]:
    named = {"E(B-V) [mag]": evidence.tiles.get("ebv"), "R_V": evidence.tiles.get("rv")}
    known = {label: x[found.first] for label, x in named.items() if x is not None and np.isfinite(x[found.first]).any()}
    if not known:
        raise Missing(f"exposures or tiles have no ebv or rv ({say('tiles=', '--tiles')})")

    def draw(bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        grid = rows_of_panels(figure, len(bands), [1.0] * len(known), 2.3)
        for band, line_of_axes in zip(bands, grid, strict=True):
            y = found.values[band]
            for (label, x), axes in zip(known.items(), line_of_axes, strict=True):
                draw_density(axes, x, y, *limits_about(y))
                constant, slope, error = line(x, y)
                if np.isfinite(slope):
                    ends = np.array([np.nanmin(x), np.nanmax(x)])
                    told = f"slope {slope:+.2f} \u00b1 {error:.2f} mmag"
                    axes.plot(ends, constant + slope * ends, color=RED, lw=1, label=told)
                dress(axes, label)
            line_of_axes[0].set_ylabel(f"{plain(band, ': ')}difference [mmag]", fontsize=9)

    caption = f"Zero-point differences from {found.name} against {' and '.join(known)}, with linear fits."
    return in_parts(title, [*found.values], 4, caption, draw)


# --- exposures that took no part --------------------------------------------------------------------------------------


def frame_scatters(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """1.48 MAD [mag] of the residuals of each exposure in a table of rows, NaN for a single one."""
    good = np.isfinite(rows["residual"])
    names, code = np.unique(rows["exposure"][good].astype(str), return_inverse=True)
    residual, n = rows["residual"][good], len(names)
    middle = group_median(residual, code, n)
    scatter = MAD * group_median(np.abs(residual - middle[code]), code, n)
    return np.where(np.bincount(code, minlength=n) > 1, scatter, np.nan)


def validation_figures(evidence: Evidence) -> list[Figure]:
    """1.48 MAD of the residuals of each exposure: those of the calibration, and those that took no part.

    Raises Missing.
    """
    if evidence.validation is None:
        raise Missing(f"no validation exposures ({say('validation=', '--validation')}, tables of survey apply)")
    kinds = {"calibration": frame_scatters(evidence.rows), "validation": frame_scatters(evidence.validation)}
    known = {name: MMAG * values[np.isfinite(values)] for name, values in kinds.items()}
    if not len(known["validation"]):
        raise Missing("validation exposures have no residuals")

    def draw(figure: matplotlib.figure.Figure) -> None:
        figure.set_size_inches(6.5, 3.2)
        axes = figure.subplots()
        edges = np.histogram_bin_edges(np.concatenate([*known.values()]), 30).tolist()
        for (name, values), paint in zip(known.items(), (FITTED, HELD_OUT), strict=True):
            label = f"{name}: {len(values):,} exposures, median {rounded_text(median(values))} mmag"
            axes.hist(values, bins=edges, density=True, histtype="step", color=paint, label=label)
        dress(axes, "1.48 MAD of residuals [mmag]", "density")

    caption = "Scatter of the residuals in each exposure that took no part in the calibration, and in those that did."
    return [Figure("Validation exposures", caption, draw)]
