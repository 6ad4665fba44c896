"""What a report shows of residuals: against everything, in units of their errors, by kind of error, on the sky."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from xpjax.core.errors import say
from xpjax.core.records import json_entry
from xpjax.survey.report.drawing import (
    BLUE,
    DARK,
    FITTED,
    GREEN,
    HELD_OUT,
    MMAG,
    draw_maps,
    dress,
    in_parts,
    is_left,
    label_of,
    log_scale,
    of_the_band,
    panels,
    plain,
    rounded_text,
    shared_legend,
    shown_bands,
)
from xpjax.survey.report.evidence import Evidence, total_error
from xpjax.survey.report.layout import Figure, Table
from xpjax.survey.report.residual_panels import (
    FEWEST,
    Quantity,
    Residuals,
    pull_figures_of,
    residual_figures_of,
    usual_quantities,
)
from xpjax.survey.report.statistics import Missing, median, spread, trend

if TYPE_CHECKING:
    import matplotlib.figure


def how_to_hold_out() -> str:
    """What residuals that are held out need."""
    return f"no cross-validation ({say('folds=5 of calibrate_survey', 'survey calibrate --folds 5')})"


def kind_of(evidence: Evidence) -> str:
    """What the residuals that judge are, in words."""
    if evidence.cross_validation is not None:
        return "held out (cross-validation: of fits without the star)"
    return "fitted (the stars took part in the fit)"


def quantities(evidence: Evidence, band: str) -> list[Quantity]:
    """What residuals of a band may be drawn against, known or not."""
    rows, solution = evidence.rows, evidence.solution
    found = [
        Quantity("magnitude", "calibrated magnitude [mag]", rows["magnitude"]),
        *usual_quantities(
            rows, solution.frames, evidence.color_name(band), "columns.color", "columns.x, columns.y"
        ),
    ]  # fmt: skip
    if "amplifier" in rows or solution.settings.model.amplifiers:
        codes = rows.get("amplifier", np.full(len(rows["frame"]), np.nan))
        known = json_entry(solution.record, "amplifiers", "null") or range(int(np.nanmax(codes, initial=0)) + 1)
        why = f"amplifiers are not among the products ({say('catalogues=', '--catalogue')})"
        found.append(Quantity("amplifier", "amplifier", codes, why, tuple(map(str, known))))
    return found


def residual_figures(evidence: Evidence) -> tuple[list[Figure], dict[str, str]]:
    """A figure of each band, with a panel for each quantity that varies; and the panels that were not drawn."""
    bands, found = shown_bands(evidence), {}
    for band in bands:
        mine = evidence.of_band(band) & np.isfinite(evidence.judged)
        if np.count_nonzero(mine) < FEWEST:
            continue
        said = (
            f"Residuals{of_the_band(band)}: model - color term - calibrated magnitude, {kind_of(evidence)}, of "
            f"{mine.sum():,} measurements of {len(np.unique(evidence.rows['star'][mine])):,} standards"
        )
        against = [dataclasses.replace(one, values=one.values[mine]) for one in quantities(evidence, band)]
        both = evidence.cross_validation is not None
        found[band] = Residuals(evidence.fitted[mine], evidence.held_out[0][mine], against, said, both)
    if not found and np.isfinite(evidence.judged).any():
        raise Missing(f"no band has {FEWEST} standards")
    if not found:
        raise Missing("no row has a residual: no models of standards (columns.model, or [standards])")
    return residual_figures_of(found, len(bands) > 1)


def pull_figures(evidence: Evidence) -> list[Figure]:
    """Histograms of residual / error: fitted and held out, beside a unit Gaussian. Raises Missing."""
    with np.errstate(invalid="ignore", divide="ignore"):
        pulls = {"fitted": evidence.fitted / total_error(evidence.rows, model=True)}
        if evidence.cross_validation is not None:
            pulls["held out"] = evidence.held_out[0] / evidence.held_out[1]
    caption = "Residuals of the standards in units of their total errors (statistical, systematic, of the models)"
    bands = {band: evidence.of_band(band) for band in shown_bands(evidence)}
    by_band = {band: {name: values[mine] for name, values in pulls.items()} for band, mine in bands.items()}
    return pull_figures_of(by_band, caption)


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
    return in_parts("Error budget", bands, 6, caption, functools.partial(draw_budget, evidence))


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
    return in_parts("Sky map of residuals", bands, 6, caption, functools.partial(draw_sky, evidence))


def draw_sky(evidence: Evidence, bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    """A map for each band."""
    rows, chosen = evidence.rows, {band: evidence.of_band(band) for band in bands}
    points = {band: (rows["ra"][k], rows["dec"][k], MMAG * evidence.judged[k]) for band, k in chosen.items()}
    draw_maps(points, "residual [mmag]", figure)
