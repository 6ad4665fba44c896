"""What a report shows of residuals: against everything, in units of their errors, by kind of error, on the sky."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from typing import TYPE_CHECKING

import numpy as np

from xpjax.core.errors import say
from xpjax.survey.report.drawing import (
    BLUE,
    DARK,
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
    is_left,
    label_of,
    limits_about,
    log_scale,
    map_height,
    of_the_band,
    on_map,
    panels,
    part_of,
    plain,
    rounded_text,
    shared_legend,
    shown_bands,
    since,
    sky_middle,
)
from xpjax.survey.report.evidence import Evidence, total_error
from xpjax.survey.report.layout import Figure, Table
from xpjax.survey.report.statistics import Missing, median, spread, trend

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection, PolyCollection

FEWEST = 5
"""Standards in a band that a figure needs."""
KINDS = 24
"""Most detectors or amplifiers with their names on an axis; of more, every second has, or third."""


def how_to_hold_out() -> str:
    """What residuals that are held out need."""
    return f"no cross-validation ({say('folds=5 of calibrate_survey', 'survey calibrate --folds 5')})"


def kind_of(evidence: Evidence) -> str:
    """What the residuals that judge are, in words."""
    if evidence.cross_validation is not None:
        return "held out (cross-validation: of fits without the star)"
    return "fitted (the stars took part in the fit)"


# --- against everything -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What residuals are drawn against: values (n,) of the rows, numbers or codes of `names`, and the label of an axis.

    unknown: what is said where no row has a value.
    """

    name: str
    label: str
    values: np.ndarray
    unknown: str = ""
    names: tuple[str, ...] = ()


def quantities(evidence: Evidence, band: str) -> list[Quantity]:
    """What residuals of a band may be drawn against, known or not."""
    rows, solution = evidence.rows, evidence.solution
    time, time_label = since(evidence.frame_column("time"))
    color = rows["color"]
    if not np.nan_to_num(color).any():  # observations without a color have 0
        color = np.full(len(color), np.nan)
    place = "positions on the detector are not known (columns.x, columns.y)"
    found = [
        Quantity("magnitude", "calibrated magnitude [mag]", rows["magnitude"]),
        Quantity("color", f"{evidence.color_name(band)} [mag]", color, "colors are not known (columns.color)"),
        Quantity("x", "x [pixel]", rows["x"], place), Quantity("y", "y [pixel]", rows["y"], place),
        Quantity("airmass", "airmass", evidence.frame_column("airmass"), "airmasses are not known (columns.airmass)"),
        Quantity("time", time_label, time, "times are not known (columns.time)"),
    ]  # fmt: skip
    names, code = np.unique(solution.frames.detector, return_inverse=True)
    if len(names) > 1:
        of_row = np.where(rows["frame"] >= 0, code[rows["frame"]], np.nan)
        found.append(Quantity("detector", "detector", of_row, names=tuple(names.tolist())))
    if "amplifier" in rows or solution.settings.model.amplifiers:
        codes = rows.get("amplifier", np.full(len(color), np.nan))
        known = json.loads(solution.record.get("amplifiers", "null")) or range(int(np.nanmax(codes, initial=0)) + 1)
        why = f"amplifiers are not among the products ({say('catalogues=', '--catalogue')})"
        found.append(Quantity("amplifier", "amplifier", codes, why, tuple(map(str, known))))
    return found


def residual_panels(evidence: Evidence, band: str) -> tuple[list[Quantity], dict[str, str]]:
    """What residuals of a band are drawn against, and what not, with the reason. Raises Missing without residuals."""
    mine = evidence.of_band(band) & np.isfinite(evidence.judged)
    if np.count_nonzero(mine) < FEWEST:
        raise Missing(f"fewer than {FEWEST} standards{of_the_band(band)}")
    shown, missing = [], {}
    for quantity in quantities(evidence, band):
        values = quantity.values[mine]
        values = values[np.isfinite(values)]
        if not len(values):
            missing[quantity.name] = quantity.unknown
        elif values.min() == values.max():
            missing[quantity.name] = "one value in all measurements"
        else:
            shown.append(quantity)
    return shown, missing


def residual_figures(evidence: Evidence) -> tuple[list[Figure], dict[str, str]]:
    """A figure of each band, with a panel for each quantity that varies; and the panels that were not drawn."""
    figures, missing = [], dict[str, list[str]]()
    why = Missing("no row has a residual: no models of standards (columns.model, or [standards])")
    bands = shown_bands(evidence)
    for band in bands:
        try:
            shown, without = residual_panels(evidence, band)
        except Missing as exc:
            why = exc if np.isfinite(evidence.judged).any() else why
            continue
        for name, reason in without.items():
            missing.setdefault(f"Residuals against {name}", []).append(reason)
        figures.append(
            Figure(
                f"Residuals of band {label_of(band)}" if len(bands) > 1 else "Residuals",
                residual_caption(evidence, band),
                functools.partial(draw_residuals, evidence, band, shown),
            )
        )
    if not figures:
        raise why
    # A quantity that some band has is not missing.
    return figures, {name: reasons[0] for name, reasons in missing.items() if len(reasons) == len(figures)}


def residual_caption(evidence: Evidence, band: str) -> str:
    """What the panels of a band show, and how many stars."""
    mine = evidence.of_band(band) & np.isfinite(evidence.judged)
    value = MMAG * evidence.judged[mine]
    low, high = limits_about(value)
    outside = np.count_nonzero((value < low) | (value > high))
    said = f"{mine.sum():,} measurements of {len(np.unique(evidence.rows['star'][mine])):,} standards"
    trends = "medians in bins of equal numbers with their errors, and 1.48 MAD as a band"
    if evidence.cross_validation is not None:
        trends += " (red: held out; blue: the same standards in the fit)"
    return (
        f"Residuals{of_the_band(band)}: model - color term - calibrated magnitude, {kind_of(evidence)}, of {said}; "
        f"{trends}. {outside:,} outliers lie outside the panels."
    )


def draw_residuals(evidence: Evidence, band: str, shown: list[Quantity], figure: matplotlib.figure.Figure) -> None:
    """Residuals of a band against each quantity."""
    mine = evidence.of_band(band) & np.isfinite(evidence.judged)
    y, fitted = MMAG * evidence.judged[mine], MMAG * evidence.fitted[mine]
    held = evidence.cross_validation is not None
    low, high = limits_about(y)
    every = panels(figure, len(shown))
    for quantity, axes in zip(shown, every, strict=True):
        x = quantity.values[mine]
        if quantity.names:
            draw_kinds(axes, x, fitted, quantity.names, FITTED)
            if held:
                draw_kinds(axes, x, y, quantity.names, HELD_OUT)
        else:
            draw_density(axes, x, y, low, high, "0.5")
            if held:
                draw_trend(axes, x, fitted, FITTED, "fitted", scatter=False)
            draw_trend(axes, x, y, HELD_OUT if held else FITTED, "held out" if held else "fitted")
        axes.axhline(0, color="0.5", lw=0.6, zorder=0)
        dress(axes, quantity.label, "residual [mmag]" if is_left(axes) else "", legend=False)
    shared_legend(figure, every[0])


def draw_kinds(axes: Axes, code: np.ndarray, y: np.ndarray, names: tuple[str, ...], paint: str) -> None:
    """Medians of y with their errors for each kind, by its name."""
    there = [k for k in range(len(names)) if (code == k).any()]
    found = [y[(code == k) & np.isfinite(y)] for k in there]
    error = [1.2533 * spread(values)[0] / np.sqrt(max(len(values), 1)) for values in found]
    axes.errorbar(range(len(there)), [median(values) for values in found], error, fmt="o", ms=3, lw=1, color=paint)
    step = math.ceil(len(there) / KINDS)
    shown = [plain(names[k]) for k in there[::step]]
    axes.set_xticks(range(0, len(there), step), shown, rotation=90 if sum(map(len, shown)) > 24 else 0)


# --- in units of their errors -----------------------------------------------------------------------------------------


def pull_figures(evidence: Evidence) -> list[Figure]:
    """Histograms of residual / error: fitted and held out, beside a unit Gaussian. Raises Missing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        pulls = {"fitted": evidence.fitted / total_error(evidence.rows, model=True)}
        if evidence.cross_validation is not None:
            pulls["held out"] = evidence.held_out[0] / evidence.held_out[1]
    bands = [
        band for band in shown_bands(evidence)
        if np.isfinite(pulls["fitted"][evidence.of_band(band)]).sum() >= FEWEST
    ]  # fmt: skip
    if not bands:
        raise Missing("no row has a residual and an error")
    caption = (
        "Residuals of the standards in units of their total errors (statistical, systematic, of the models), outliers "
        "included (the outermost bins hold all beyond), and a unit Gaussian."
    )
    return [
        Figure(part_of("Pulls", part, bands), caption, functools.partial(draw_pulls, evidence, pulls, part))
        for part in chunks(bands, 6)
    ]


def draw_pulls(
    evidence: Evidence, pulls: dict[str, np.ndarray], bands: tuple[str, ...], figure: matplotlib.figure.Figure
) -> None:
    """A panel for each band."""
    x, edges = np.linspace(-5, 5, 200), np.linspace(-5, 5, 51).tolist()
    for band, axes in zip(bands, panels(figure, len(bands)), strict=True):
        for (name, values), paint in zip(pulls.items(), (FITTED, HELD_OUT), strict=False):
            mine = values[evidence.of_band(band)]
            mine = mine[np.isfinite(mine)]
            label = f"{name}, {rounded_text(spread(mine)[0])}"
            axes.hist(np.clip(mine, -5, 5), bins=edges, density=True, histtype="step", color=paint, label=label)
        axes.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color="0.5", lw=0.8)
        dress(axes, "residual / error", "density" if is_left(axes) else "", plain(band), legend=False)
        axes.legend(title="1.48 MAD", title_fontsize=8.5)
        axes.set_ylim(0, 1.45 * axes.get_ylim()[1])


# --- by kind of error -------------------------------------------------------------------------------------------------

BUDGET = (
    "band", "photons, zero-point, flat", "of this: zero-point", "stacked flat", "error floor",
    "of this: common to a star", "models of standards", "common to all frames", "total", "1.48 MAD: fitted", "held out",
)  # fmt: skip


def some(value: float) -> float:
    """The value, NaN for zero: nothing was given or found."""
    return value if value > 0 else np.nan


def budget_table(evidence: Evidence) -> Table:
    """The errors of standards by their kinds, and what the standards scatter by."""
    solution, rows = evidence.solution, evidence.rows
    lines = []
    for band in evidence.bands:
        frames = solution.frames.band == band
        mine = evidence.of_band(band) & np.isfinite(evidence.fitted)
        floor = np.where(np.isfinite(solution.local_floor), solution.local_floor, solution.fits.floor)
        flat = np.nan
        if solution.flats is not None:
            cells = solution.flats.error[solution.flats.labels[:, 0] == band]
            flat = median(np.where(np.isfinite(cells), cells, np.nan))
        values = (
            median(rows["magnitude_error"][mine]), median(solution.fits.zero_point_error[frames]), flat,
            median(floor[frames]), some(median(solution.common_floor[frames])), some(median(rows["model_error"][mine])),
            median(solution.zero_point_systematic()[frames]), median(total_error(rows, model=True)[mine]),
            spread(evidence.fitted[mine])[0], spread(evidence.held_out[0][mine])[0],
        )  # fmt: skip
        lines.append((label_of(band), *(rounded_text(MMAG * value, 1) for value in values)))
    return Table(
        "Errors of the standards by their kinds, medians [mmag], and the scatter that is seen. The error floor is "
        "added in quadrature so that standards scatter as expected; a dash: not known, or none.",
        BUDGET, lines,
    )  # fmt: skip


def budget_figures(evidence: Evidence) -> list[Figure]:
    """Errors by their kinds, and the scatter of standards, against magnitude. Raises Missing."""
    bands = [
        band for band in shown_bands(evidence)
        if np.count_nonzero(evidence.of_band(band) & np.isfinite(evidence.judged)) >= 4 * FEWEST
    ]  # fmt: skip
    if not bands:
        raise Missing(f"no band has {4 * FEWEST} standards")
    caption = (
        "Scatter of the standards (points: 1.48 MAD in bins of magnitude of equal numbers) and their errors: "
        "statistical (photons, zero-point, flat), systematic (error floor, common error), of the models, and all in "
        "quadrature. Points at the upper edge lie beyond it."
    )
    return [
        Figure(part_of("Error budget", part, bands), caption, functools.partial(draw_budget, evidence, part))
        for part in chunks(bands, 6)
    ]


def draw_budget(evidence: Evidence, bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    """A panel for each band."""
    rows, held = evidence.rows, evidence.cross_validation is not None
    known = {
        "statistical": (rows["magnitude_error"], BLUE, "--"), "of the models": (rows["model_error"], GREEN, "-."),
        "systematic": (rows.get("systematic_error", np.full(len(rows["frame"]), np.nan)), DARK, ":"),
        "total": (total_error(rows, model=True), "black", "-"),
    }  # fmt: skip
    every = panels(figure, len(bands))
    for band, axes in zip(bands, every, strict=True):
        mine = evidence.of_band(band) & np.isfinite(evidence.judged)
        magnitude = rows["magnitude"][mine]
        top = 6 * float(np.nanpercentile(MMAG * known["total"][0][mine], 95))
        for name, (values, paint, style) in known.items():
            if np.nan_to_num(values[mine]).any():
                line = trend(magnitude, MMAG * values[mine], 12)
                axes.plot(line.x, line.median, color=paint, ls=style, lw=1.2, label=name)
        for name, values, paint, marker in (
            ("fitted", evidence.fitted, FITTED, "o"), ("held out", evidence.held_out[0], HELD_OUT, "s"),
        )[: 1 + held]:  # fmt: skip
            found = trend(magnitude, MMAG * values[mine], 12)
            axes.plot(found.x, np.minimum(found.scatter, top), marker, ms=4, color=paint, label=f"scatter, {name}")
        log_scale(axes)
        dress(axes, "calibrated magnitude [mag]", "[mmag]" if is_left(axes) else "", plain(band), legend=False)
    shared_legend(figure, every[0])


# --- on the sky -------------------------------------------------------------------------------------------------------


def sky_figures(evidence: Evidence) -> list[Figure]:
    """Mean residuals on the sky. Raises Missing."""
    rows = evidence.rows
    if not {"ra", "dec"} <= set(rows) or not np.isfinite(rows["ra"] + rows["dec"]).any():
        raise Missing("stars have no positions on the sky (columns.ra, columns.dec)")
    placed = np.isfinite(rows["ra"] + rows["dec"] + evidence.judged)
    number = {band: np.count_nonzero(placed & evidence.of_band(band)) for band in shown_bands(evidence)}
    bands = [band for band, n in number.items() if n >= FEWEST]
    if not bands:
        raise Missing(f"no band has {FEWEST} standards with positions on the sky")
    said = ", ".join(f"{label_of(band)} {number[band]:,}" for band in bands)
    caption = (
        f"Residuals of the standards on the sky, {kind_of(evidence)}: medians in hexagons, or single "
        f"measurements where they are few; sinusoidal projection, East to the left. Measurements: {said}."
    )
    return [
        Figure(part_of("Sky map of residuals", part, bands), caption, functools.partial(draw_sky, evidence, part))
        for part in chunks(bands, 6)
    ]


def draw_sky(evidence: Evidence, bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    """A map for each band."""
    rows = evidence.rows
    placed = np.isfinite(rows["ra"] + rows["dec"] + evidence.judged)
    middle = sky_middle(rows["ra"][placed], rows["dec"][placed])
    u, v = on_map(rows["ra"], rows["dec"], middle)
    height = map_height(u[placed], v[placed])
    for band, axes in zip(bands, panels(figure, len(bands), 2, height), strict=True):
        mine = placed & evidence.of_band(band)
        x, y = u[mine], v[mine]
        value = MMAG * evidence.judged[mine]
        shown: PolyCollection | PathCollection
        if len(x) > 1000:
            cells = np.sqrt(np.clip(len(x) / 20, 64, 3600) * np.ptp(x) / np.ptp(y))  # along x, of like width and height
            size = (int(np.clip(cells, 4, 90)), int(np.clip(cells * np.ptp(y) / np.ptp(x) / np.sqrt(3), 2, 60)))
            shown = axes.hexbin(x, y, value, gridsize=size, reduce_C_function=np.median, mincnt=3, cmap="RdBu_r")
            limit = both_ways(np.asarray(shown.get_array()))
        else:
            limit = both_ways(value, 90)
            shown = axes.scatter(x, y, c=value, s=14, cmap="RdBu_r", edgecolors="0.5", linewidths=0.2)
        shown.set_clim(-limit, limit)
        color_bar(axes, shown, "residual [mmag]")
        dress_map(axes, middle, plain(band))
