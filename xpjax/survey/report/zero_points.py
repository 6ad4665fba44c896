"""What a report shows of zero-points: tables of frames and nights, figures against time, airmass and night."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from xpjax.survey import MAD, FrameFlag, group_median
from xpjax.survey.report.drawing import (
    BLUE,
    MMAG,
    RED,
    draw_errors,
    in_parts,
    label_of,
    of_kinds,
    panels,
    plain,
    rounded_text,
    rows_of_panels,
    scale_about,
    shared_legend,
    shown_bands,
    since,
)
from xpjax.survey.report.evidence import Evidence, nights_of
from xpjax.survey.report.layout import Figure, Table
from xpjax.survey.report.statistics import Missing, median, spread

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes

MOST_FRAMES = 40
"""Frames of which each has a row of a table; of more, nights have."""
MOST_NIGHTS = 60
WORST = 15
"""Frames that are named among many."""


# --- tables -----------------------------------------------------------------------------------------------------------


def scatter_of_frames(evidence: Evidence, residual: np.ndarray) -> np.ndarray:
    """1.48 MAD (n_frame,) [mag] of residuals (n,) of each frame, NaN of none."""
    frame, n = evidence.rows["frame"], len(evidence.solution.frames)
    good = np.isfinite(residual) & (frame >= 0)
    frame, residual = frame[good], residual[good]
    middle = group_median(residual, frame, n)
    return np.asarray(MAD * group_median(np.abs(residual - middle[frame]), frame, n))


def frame_table(evidence: Evidence, chosen: np.ndarray, caption: str) -> Table:
    """A row for each of these frames."""
    frames, fits = evidence.solution.frames, evidence.solution.fits
    fitted, held = (scatter_of_frames(evidence, r) for r in (evidence.fitted, evidence.held_out[0]))
    systematic = evidence.solution.zero_point_systematic()
    columns: dict[str, list[str]] = {"exposure": [str(frames.exposure[k]) for k in chosen]}
    for name in ("band", "detector", "night"):
        if (getattr(frames, name) != "").any():
            columns[name] = [str(getattr(frames, name)[k]) for k in chosen]
    for name, heading, digits in (("time", "time [d]", 4), ("airmass", "airmass", 3)):
        if np.isfinite(getattr(frames, name)).any():
            columns[heading] = [rounded_text(getattr(frames, name)[k], digits) for k in chosen]
    columns["zero-point [mag]"] = [rounded_text(fits.zero_point[k], 4) for k in chosen]
    for heading, values, digits in (
        ("error", fits.zero_point_error, 2), ("systematic", systematic, 2),
        ("about the night", nights_of(evidence.solution).off, 1), ("error floor", fits.floor, 1),
        ("1.48 MAD: fitted", fitted, 1), ("held out", held, 1),
    ):  # fmt: skip
        if np.isfinite(values).any():
            columns[heading] = [rounded_text(MMAG * values[k], digits) for k in chosen]
    columns["standards"] = [f"{fits.n_used[k]:,} of {fits.n_standard[k]:,}" for k in chosen]
    flags = [FrameFlag.describe(int(fits.status[k])).replace("|", ", ") for k in chosen]
    if any(text != "OK" for text in flags):
        columns["flags"] = ["" if text == "OK" else text for text in flags]
    return Table(caption, [*columns], [*zip(*columns.values(), strict=True)])


FRAMES_TOLD = (
    "Zero-points; errors and scatters in mmag. Error: relative to other frames. Systematic: common to all frames. "
    "About the night: {nights}. Standards: used, of all."
)


def zero_point_tables(evidence: Evidence) -> list[Table]:
    """A table of all frames, or of the nights and of the frames that stand out."""
    n = len(evidence.solution.frames)
    told = FRAMES_TOLD.format(nights=nights_text(evidence))
    if n <= MOST_FRAMES:
        return [frame_table(evidence, np.arange(n), told)]
    tables = []
    if 0 < len(nights := night_rows(evidence)) <= MOST_NIGHTS:
        headings = (
            "night", "band", "frames", "no zero-point", "flagged", "zero-point [mag]", "slope [mag/airmass]",
            "about the night", "error", "1.48 MAD: fitted", "held out",
        )  # fmt: skip
        caption = (
            "Zero-points of the nights, medians of the detectors: at airmass 1 and slope with airmass where five "
            "exposures span 0.2 in airmass, else the median; scatter about it, median error and median scatter of the "
            "standards in mmag. Each frame is in zeropoints.ecsv."
        )
        tables.append(Table(caption, headings, nights))
    if len(worst := standing_out(evidence)):
        tables.append(frame_table(evidence, worst, f"The {len(worst)} frames that stand out most. {told}"))
    return tables


def standing_out(evidence: Evidence) -> np.ndarray:
    """Frames without zero-point, then those flagged or further from their night than errors and others say."""
    fits = evidence.solution.fits
    off, band = nights_of(evidence.solution).off, evidence.solution.frames.group("band")[0]
    usual = np.array([spread(off[band == k])[0] for k in range(band.max() + 1)])[band]
    excess = np.nan_to_num(np.abs(off) / np.fmax(5 * fits.zero_point_error, 3 * usual))
    excess[~np.isfinite(fits.zero_point)] = np.inf
    worst = np.argsort(-excess, kind="stable")[:WORST]
    return worst[(excess[worst] > 1) | (fits.status[worst] != 0)]


def night_rows(evidence: Evidence) -> list[tuple[str | int, ...]]:
    """The numbers of each night and band; none where nights are not known."""
    frames, fits = evidence.solution.frames, evidence.solution.fits
    if not (frames.night != "").any():
        return []
    fitted, held = (scatter_of_frames(evidence, r) for r in (evidence.fitted, evidence.held_out[0]))
    group, first = frames.group("night", "band")
    nights, rows = nights_of(evidence.solution), list[tuple[str | int, ...]]()
    for k in np.argsort(np.nan_to_num(frames.time[first]), kind="stable"):
        mine = np.flatnonzero(group == k)
        known, slope = np.isfinite(fits.zero_point[mine]), median(nights.slope[mine])
        error = median(fits.zero_point_error[mine])
        cells = (spread(nights.off[mine])[0], error, median(fitted[mine]), median(held[mine]))
        rows.append(
            (str(frames.night[first[k]]) or "-", label_of(frames.band[first[k]]), len(mine), int((~known).sum()),
             int((fits.status[mine] != 0).sum()), rounded_text(median(nights.level[mine]), 4),
             rounded_text(slope, 3) if slope else "-",
             *(rounded_text(MMAG * value) for value in cells))
        )  # fmt: skip
    return rows


def nights_text(evidence: Evidence) -> str:
    """What zero-points are counted from, of what is known of nights and airmasses."""
    frames = evidence.solution.frames
    which = "each night" if (frames.night != "").any() else "all frames (nights are not known)"
    if np.isfinite(frames.airmass).all():
        return f"the line with airmass of {which}"
    return f"the median of {which}; airmasses are not known"


# --- figures ----------------------------------------------------------------------------------------------------------


def zero_point_figures(evidence: Evidence) -> list[Figure]:
    """Zero-points against time and airmass, a row for each band. Raises Missing."""
    frames, fits = evidence.solution.frames, evidence.solution.fits
    bands = [b for b in shown_bands(evidence) if np.isfinite(fits.zero_point[frames.band == b]).sum() >= 3]
    if not bands:
        raise Missing("no band has three frames with zero-points")
    detectors = np.unique(frames.detector)
    caption = (
        "Zero-points with their errors against time (left; in the order of the table where times are not known) and "
        f"airmass (right, where known), flagged frames in red. {len(frames):,} frames."
    )
    if len(detectors) > 1:
        caption += " Of each detector its median is subtracted."
    return in_parts("Zero-points", bands, 4, caption, functools.partial(draw_zero_points, evidence))


def draw_zero_points(evidence: Evidence, bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    """A row for each band: time, and airmass where it varies."""
    frames, fits = evidence.solution.frames, evidence.solution.fits
    one = len(np.unique(frames.detector)) == 1
    group, first = frames.group("band", "detector")
    level = fits.zero_point if one else fits.zero_point - group_median(fits.zero_point, group, len(first))[group]
    timed = np.isfinite(frames.time).all() and np.ptp(frames.time) > 0
    time, label = since(frames.time) if timed else (np.arange(len(frames)), "number of the frame")
    airy = len(np.unique(frames.airmass[np.isfinite(frames.airmass)])) > 1
    grid = rows_of_panels(figure, len(bands), (2, 1) if airy else (1,), 2.3)
    for band, line in zip(bands, grid, strict=True):
        mine = frames.band == band
        for x, axes in zip((time, frames.airmass), line, strict=False):
            draw_frames(evidence, axes, x, level, 1.0, mine)
        line[0].set_ylabel(f"{plain(band, ': ')}zero-point{'' if one else ' - median'} [mag]", fontsize=9)
    shared_legend(figure, grid[0, 0])
    grid[-1, 0].set_xlabel(label)
    if airy:
        grid[-1, 1].set_xlabel("airmass")


def draw_frames(evidence: Evidence, axes: Axes, x: np.ndarray, y: np.ndarray, unit: float, mine: np.ndarray) -> None:
    """Values of frames with the errors of their zero-points, by detector where these are few; flagged ones in red."""
    frames, fits = evidence.solution.frames, evidence.solution.fits
    x, y, error, flagged = x[mine], y[mine], unit * fits.zero_point_error[mine], fits.status[mine] != 0
    kinds = [(which & ~flagged, paint, label) for which, paint, label in of_kinds(frames.detector[mine])]
    if len(kinds) == 1 and flagged.any():
        kinds = [(~flagged, BLUE, "without flags")]
    draw_errors(axes, x, y, error, [*kinds, (flagged, RED, "flagged")])


def night_figures(evidence: Evidence) -> list[Figure]:
    """Zero-points about their night's line against time. Raises Missing."""
    off = MMAG * nights_of(evidence.solution).off
    bands = [b for b in shown_bands(evidence) if np.isfinite(off[evidence.solution.frames.band == b]).any()]
    if not bands:
        raise Missing("no night has three frames of a band and detector")
    caption = (
        f"Zero-points relative to {nights_text(evidence)}, with their errors; flagged frames in red. "
        f"{np.isfinite(off).sum():,} frames. Beyond the dotted lines, where there are some, the scale is logarithmic."
    )
    return in_parts("Zero-points about nights", bands, 6, caption, functools.partial(draw_nights, evidence))


def draw_nights(evidence: Evidence, bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    """A panel for each band."""
    off, frames, fits = MMAG * nights_of(evidence.solution).off, evidence.solution.frames, evidence.solution.fits
    timed = np.isfinite(frames.time).all()
    x, label = since(frames.time) if timed else (np.arange(len(frames)), "number of the frame")
    for band, axes in zip(bands, panels(figure, len(bands), 2), strict=True):
        mine = frames.band == band
        draw_frames(evidence, axes, x, off, MMAG, mine)
        axes.axhline(0, color="0.5", lw=0.6, zorder=0)
        seen = mine & np.isfinite(off)
        width = spread(off[seen & (fits.status == 0)])[0]
        limit = float(np.fmax(8 * width, 4 * MMAG * median(fits.zero_point_error[mine])))
        if (top := float(np.abs(off[seen]).max())) > 3 * limit > 0:
            scale_about(axes, limit, top)
        axes.set(xlabel=label, ylabel="zero-point about night [mmag]", title=plain(band))
    shared_legend(figure, figure.axes[0])
