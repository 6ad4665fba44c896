"""What a report shows of the residuals of a joint solution: fitted beside held out, against everything, and by star."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from xpjax.core.errors import say
from xpjax.survey import RowFlag
from xpjax.survey.report.drawing import (
    BLUE,
    FITTED,
    GREEN,
    HELD_OUT,
    MMAG,
    both_ways,
    chunks,
    color_bar,
    draw_density,
    draw_trend,
    dress,
    dress_map,
    ends_of,
    is_left,
    label_of,
    limits_about,
    log_scale,
    map_height,
    on_map,
    panels,
    part_of,
    plain,
    rounded_text,
    shared_legend,
    since,
    sky_middle,
)
from xpjax.survey.report.joint_evidence import JointEvidence
from xpjax.survey.report.layout import Figure, Table
from xpjax.survey.report.statistics import ENOUGH, Missing, median, spread, trend

if TYPE_CHECKING:
    import matplotlib.figure

FEWEST = 5
"""Measurements that a figure needs."""
WORST = 15


def how_to_hold_out() -> str:
    """What residuals that are held out need."""
    return f"nothing was kept back ({say('held_out_stars= of solve_joint', '[joint] hold_out_stars = 10')})"


# --- numbers ----------------------------------------------------------------------------------------------------------


def quality_table(evidence: JointEvidence) -> Table:
    """Measurements, residuals and floors of each band."""
    found, held = evidence.solution, evidence.held_out
    error = np.full(len(held), np.nan) if found.held_out is None else found.held_out.error
    rows = list[tuple[str | int, ...]]()
    for k, band in enumerate(found.bands):
        mine = evidence.of_band(band)
        floor = found.floor[k]
        total = np.hypot(np.asarray(evidence.rows["magnitude_error"], float), floor)
        with np.errstate(invalid="ignore", divide="ignore"):
            pulls = spread((found.residual / total)[mine & found.used])[0], spread((held / error)[mine])[0]
        rows.append(
            (label_of(band), int((found.frames.band == band).sum()), int(np.isfinite(found.magnitude[:, k]).sum()),
             int(found.left_out[:, k].sum()), int((found.used & mine).sum()), int((found.clipped & mine).sum()),
             rounded_text(MMAG * floor), *(rounded_text(MMAG * v) for v in spread(found.residual[mine & found.used])),
             rounded_text(pulls[0]), int(np.isfinite(held[mine]).sum()),
             *(rounded_text(MMAG * v) for v in spread(held[mine])), rounded_text(pulls[1]))
        )  # fmt: skip
    header = (
        "band", "frames", "stars", "left out", "used", "clipped", "error floor", "fitted: 1.48 MAD", "std", "pull",
        "held out", "1.48 MAD", "std", "pull",
    )  # fmt: skip
    caption = (
        "Residuals, a star's magnitude less its calibrated measurements [mmag]. Left out: stars with too few "
        "measurements. Fitted: of the measurements used; they have part in their stars' magnitudes, and scatter "
        "by less than their errors. Held out: of stars and exposures that were kept back. A pull is 1.48 MAD of "
        "residual / error; held out, the error has that of the star's magnitude too."
    )
    if found.held_out is None:
        caption += f" Here {how_to_hold_out()}."
    return Table(caption, header, rows)


def outlier_table(evidence: JointEvidence) -> Table:
    """The exposures that lost most measurements as outliers."""
    found = evidence.solution
    frame, n = evidence.rows["frame"], len(found.frames)
    clipped, used = (np.bincount(frame, mask, n).astype(int) for mask in (found.clipped, found.used))
    rms = found.frame_rms()
    worst = [k for k in np.argsort(-clipped / np.maximum(clipped + used, 1), kind="stable")[:WORST] if clipped[k]]
    share = 100 * clipped / np.maximum(clipped + used, 1)
    rows = [
        (str(found.frames.name(int(k))), int(used[k]), f"{clipped[k]:,} ({share[k]:.1f} %)",
         rounded_text(MMAG * rms[k]))
        for k in worst
    ]  # fmt: skip
    caption = f"The frames that lost most measurements as outliers, {WORST} at most; rms of those used [mmag]."
    return Table(caption, ("frame", "used", "clipped", "rms"), rows)


def flag_table(evidence: JointEvidence) -> Table:
    """Measurements by their flags."""
    counts = RowFlag.counts(evidence.solution.flags)
    rows = [(str(bit.name), n, bit.meaning) for bit, n in counts.items()]
    return Table("Flags of measurements.", ("flag", "measurements", "meaning"), rows)


# --- against everything -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What residuals are drawn against: values (n,) of the rows, the label of an axis, and what is said without any."""

    name: str
    label: str
    values: np.ndarray
    unknown: str = ""


def quantities(evidence: JointEvidence, band: str) -> list[Quantity]:
    """What residuals of a band may be drawn against, known or not."""
    rows, frames = evidence.rows, evidence.solution.frames
    time, label = since(frames.time[rows["frame"]])
    name = evidence.color_name(band)
    more = say("catalogues=", "--catalogue")
    what = f" (columns.x, columns.y, or {more})"
    return [
        Quantity("magnitude", "star's magnitude [mag]", rows["star_magnitude"]),
        Quantity("color", f"{name} [mag]", rows["color"], f"colors are not known here ({more})"),
        Quantity("x", "x [pixel]", rows["x"], f"positions on the detector are not known{what}"),
        Quantity("y", "y [pixel]", rows["y"], f"positions on the detector are not known{what}"),
        Quantity("airmass", "airmass", frames.airmass[rows["frame"]], "airmasses are not known (columns.airmass)"),
        Quantity("time", label, time, "times are not known (columns.time)"),
    ]  # fmt: skip


def residual_figures(evidence: JointEvidence) -> tuple[list[Figure], dict[str, str]]:
    """A figure of each band with a panel for each quantity that varies; and the panels that were not drawn."""
    figures, missing = list[Figure](), dict[str, list[str]]()
    for band in evidence.bands:
        mine = evidence.of_band(band) & np.isfinite(evidence.fitted)
        if mine.sum() < FEWEST:
            continue
        shown = []
        for quantity in quantities(evidence, band):
            values = quantity.values[mine]
            values = values[np.isfinite(values)]
            if not len(values) or values.min() == values.max():
                why = "one value in all measurements" if len(values) else quantity.unknown
                missing.setdefault(f"Residuals against {quantity.name}", []).append(why)
            else:
                shown.append(quantity)
        caption = _caption(evidence, band)
        name = f"Residuals of band {label_of(band)}" if len(evidence.bands) > 1 else "Residuals"
        figures.append(Figure(name, caption, functools.partial(_draw_residuals, evidence, band, shown)))
    if not figures:
        raise Missing(f"no band has {FEWEST} measurements that were used")
    return figures, {name: whys[0] for name, whys in missing.items() if len(whys) == len(figures)}


def _caption(evidence: JointEvidence, band: str) -> str:
    mine, fitted, held = evidence.of_band(band), evidence.fitted, evidence.held_out
    low, high = limits_about(MMAG * fitted[mine])
    value = MMAG * fitted[mine & np.isfinite(fitted)]
    outside = np.count_nonzero((value < low) | (value > high))
    said = f"Residuals of {len(value):,} measurements that were fitted (points, blue)"
    if np.isfinite(held[mine]).any():
        said += f", and of {np.isfinite(held[mine]).sum():,} that were kept back (red)"
    return f"{said}: medians in bins of equal numbers with their errors, and 1.48 MAD as a band. {outside:,} outside."


def _draw_residuals(
    evidence: JointEvidence, band: str, shown: list[Quantity], figure: matplotlib.figure.Figure
) -> None:
    mine = evidence.of_band(band)
    fitted, held = MMAG * evidence.fitted[mine], MMAG * evidence.held_out[mine]
    every = panels(figure, len(shown))
    for quantity, axes in zip(shown, every, strict=True):
        x = quantity.values[mine]
        draw_density(axes, x, fitted, *limits_about(fitted), "0.5")
        draw_trend(axes, x, fitted, FITTED, "fitted")
        if np.isfinite(held).any():
            draw_trend(axes, x, held, HELD_OUT, "held out")
        axes.axhline(0, color="0.5", lw=0.6, zorder=0)
        dress(axes, quantity.label, "residual [mmag]" if is_left(axes) else "", legend=False)
    shared_legend(figure, every[0])


def pull_figures(evidence: JointEvidence) -> list[Figure]:
    """Histograms of residual / error, fitted and held out. Raises Missing."""
    bands = [b for b in evidence.bands if (evidence.of_band(b) & np.isfinite(evidence.fitted)).sum() >= 4 * FEWEST]
    if not bands:
        raise Missing(f"no band has {4 * FEWEST} measurements that were used")
    caption = (
        "Residuals in units of their errors, outliers included (the outermost bins hold all beyond), and a unit "
        "Gaussian. Fitted: errors of measurements with the error floor; held out: with that of the star's magnitude."
    )
    return [
        Figure(part_of("Pulls", part, bands), caption, functools.partial(_draw_pulls, evidence, part))
        for part in chunks(bands, 6)
    ]


def _draw_pulls(evidence: JointEvidence, bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    found, x, edges = evidence.solution, np.linspace(-5, 5, 200), np.linspace(-5, 5, 51).tolist()
    error = np.asarray(evidence.rows["magnitude_error"], float)
    for band, axes in zip(bands, panels(figure, len(bands)), strict=True):
        mine = evidence.of_band(band)
        floor = found.floor[found.bands.index(band)]
        with np.errstate(invalid="ignore", divide="ignore"):
            pulls = {"fitted": evidence.fitted / np.hypot(error, floor)}
            if found.held_out is not None:
                pulls["held out"] = evidence.held_out / found.held_out.error
        for (name, values), paint in zip(pulls.items(), (FITTED, HELD_OUT), strict=False):
            some = values[mine & np.isfinite(values)]
            if len(some) > 1:
                label = f"{name}, {rounded_text(spread(some)[0])}"
                axes.hist(np.clip(some, -5, 5), bins=edges, density=True, histtype="step", color=paint, label=label)
        axes.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color="0.5", lw=0.8)
        dress(axes, "residual / error", "density" if is_left(axes) else "", plain(band), legend=False)
        axes.legend(title="1.48 MAD", title_fontsize=8.5)
        axes.set_ylim(0, 1.45 * axes.get_ylim()[1])


def sky_residual_figures(evidence: JointEvidence) -> list[Figure]:
    """Median residuals on the sky. Raises Missing."""
    rows, fitted = evidence.rows, evidence.fitted
    placed = np.isfinite(rows["ra"] + rows["dec"] + fitted)
    bands = [band for band in evidence.bands if (placed & evidence.of_band(band)).sum() >= FEWEST]
    if not bands:
        raise Missing("measurements have no positions on the sky (columns.ra, columns.dec)")
    caption = (
        "Residuals of the fitted measurements on the sky: medians in hexagons; sinusoidal projection, East to the "
        f"left. {placed.sum():,} measurements."
    )
    return [
        Figure(part_of("Sky map of residuals", part, bands), caption, functools.partial(_draw_sky, evidence, part))
        for part in chunks(bands, 6)
    ]


def _draw_sky(evidence: JointEvidence, bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    rows, fitted = evidence.rows, evidence.fitted
    placed = np.isfinite(rows["ra"] + rows["dec"] + fitted)
    middle = sky_middle(rows["ra"][placed], rows["dec"][placed])
    u, v = on_map(rows["ra"], rows["dec"], middle)
    for band, axes in zip(bands, panels(figure, len(bands), 2, map_height(u[placed], v[placed])), strict=True):
        mine = placed & evidence.of_band(band)
        x, y = u[mine], v[mine]
        cells = int(np.clip(np.sqrt(len(x) / 20), 4, 60))
        shown = axes.hexbin(
            x, y, MMAG * fitted[mine], gridsize=cells, reduce_C_function=np.median, mincnt=1 + (len(x) > 1000),
            cmap="RdBu_r",
        )  # fmt: skip
        limit = both_ways(np.asarray(shown.get_array()))
        shown.set_clim(-limit, limit)
        color_bar(axes, shown, "residual [mmag]")
        dress_map(axes, middle, plain(band))


# --- by star ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class StarScatter:
    """Stars (n_star,) of a band seen often: magnitude, rms of the residuals used, stated errors' rms [mag], error of
    the magnitude in the solution [mag]."""

    magnitude: np.ndarray
    rms: np.ndarray
    stated: np.ndarray
    error: np.ndarray


def star_scatter(evidence: JointEvidence, band: str) -> StarScatter:
    """What the measurements of a star scatter by. Raises Missing where none is seen often."""
    found, rows = evidence.solution, evidence.rows
    k = found.bands.index(band)
    used = evidence.of_band(band) & found.used & np.isfinite(found.residual)
    known, own, n = found.star, rows["star"][used], len(found.star)
    if known.dtype.kind != own.dtype.kind:
        known, own = known.astype(str), own.astype(str)
    order = np.argsort(known, kind="stable")
    place = order[np.searchsorted(known[order], own)]
    number = np.bincount(place, minlength=n)
    square = np.bincount(place, found.residual[used] ** 2, n) / np.maximum(number - 1, 1)
    error = np.hypot(np.asarray(rows["magnitude_error"], float)[used], found.floor[k])
    stated = np.sqrt(np.bincount(place, error**2, n) / np.maximum(number, 1))
    often = (number >= ENOUGH) & np.isfinite(found.magnitude[:, k])
    if not often.any():
        raise Missing(f"no star has {ENOUGH} measurements")
    return StarScatter(found.magnitude[often, k], np.sqrt(square)[often], stated[often], found.star_errors()[often, k])


def star_figures(evidence: JointEvidence) -> list[Figure]:
    """Scatter of stars against magnitude, over the errors stated. Raises Missing."""
    scatters = {}
    why = Missing("no band")
    for band in evidence.bands:
        try:
            scatters[band] = star_scatter(evidence, band)
        except Missing as missing:
            why = missing
    if not scatters:
        raise why
    said = ", ".join(f"{label_of(band)} {len(one.rms):,}" for band, one in scatters.items())
    caption = (
        f"Rms of the residuals of stars with {ENOUGH} measurements or more against magnitude (points), errors stated "
        "with the error floor (green), and errors of the stars' magnitudes in the solution (dashed). Numbers of stars: "
        f"{said}."
    )
    bands = [*scatters]

    def draw(part: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        for band, axes in zip(part, panels(figure, len(part), 2, 3.3), strict=True):
            one = scatters[band]
            axes.scatter(one.magnitude, MMAG * one.rms, s=3, color=BLUE, alpha=0.4, lw=0, rasterized=True)
            if np.ptp(one.magnitude):
                for values, style, label in (
                    (one.stated, "-", "errors stated"),
                    (one.error, "--", "error of the star"),
                ):
                    line = trend(one.magnitude, MMAG * values)
                    axes.plot(line.x, line.median, color=GREEN, ls=style, lw=1.5, label=label)
            log_scale(axes)
            some = MMAG * one.rms[one.rms > 0]
            low = float(np.nanmin([ends_of(some)[0], MMAG * median(one.error)]))
            axes.set_ylim(0.5 * low, 2 * ends_of(some)[1])
            dress(axes, "star's magnitude [mag]", "rms [mmag]", plain(band))

    return [
        Figure(part_of("Scatter of stars", part, bands), caption, functools.partial(draw, part))
        for part in chunks(bands, 6)
    ]
