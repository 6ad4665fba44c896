"""What a report shows of flats: the flats themselves, mean residuals over the detector, and how well they repeat."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from xpjax.survey.exposures import epochs
from xpjax.survey.report.drawing import (
    MMAG,
    both_ways,
    chunks,
    draw_detector,
    plain,
    rounded_text,
    rows_of_panels,
    some_of,
)
from xpjax.survey.report.evidence import Evidence, same_measurements, taken
from xpjax.survey.report.layout import Figure, Table
from xpjax.survey.report.residuals import kind_of
from xpjax.survey.report.statistics import ENOUGH, Missing, cell_means, spread

if TYPE_CHECKING:
    import matplotlib.figure

FEWEST = 4 * ENOUGH
MOST_FLATS = 12
"""Bands and detectors whose flats are drawn; those with most standards."""
MOST_CELLS = 30


@dataclasses.dataclass(frozen=True)
class FlatMaps:
    """The flats of one band and detector, on cells (bins, bins), rows along y [mag].

    box: x and y from..to [pixel]. number: measurements of standards. flat: position terms and stacked flat, less their
    median. before, after: mean residuals of the standards before stacked and numerical flats, and after them, as
    `Evidence.judged`. structure: covariance of the maps of two halves of the stars `before`, and its error [mag^2].
    error: of a map of the mean residuals, from the difference of the halves. scatter: 1.48 MAD of single residuals,
    before, fitted and held out.
    """

    band: str
    detector: str
    box: np.ndarray
    number: int
    flat: np.ndarray
    before: np.ndarray
    after: np.ndarray
    structure: tuple[float, float]
    error: float
    scatter: tuple[float, float, float]

    @property
    def name(self) -> str:
        """Band and detector."""
        return flat_name(self.band, self.detector)


def flat_name(band: str, detector: str) -> str:
    """Band and detector, those that have names."""
    return " ".join(part for part in (band, detector) if part) or "all"


def flat_maps(evidence: Evidence, band: str, detector: str, bins: int = MOST_CELLS) -> FlatMaps:
    """The flats of a band and detector, in as many cells as have ten standards each. Raises Missing."""
    solution = evidence.solution
    s, frames = solution.standards, solution.frames
    chosen = (frames.band == band) & (frames.detector == detector)
    mine = np.flatnonzero(chosen[s.frame]) if len(s) else np.zeros(0, int)
    u, v = solution.fits.scaling.places(s.frame[mine], s.x[mine], s.y[mine])
    good = np.isfinite(u) & np.isfinite(v) & np.isfinite(s.residual[mine])
    mine, u, v = mine[good], u[good], v[good]
    if len(mine) < FEWEST:
        known = np.isfinite(s.x).any() or not len(s)
        hint = "" if known else ": positions on the detector are not known (columns.x, columns.y)"
        raise Missing(f"no band and detector has {FEWEST} standards with positions{hint}")
    bins = int(np.clip(np.sqrt(len(mine) / 10), 2, bins))
    before = s.residual[mine]
    if solution.flats is not None:
        group = solution.flats.groups(frames, epochs(frames, solution.settings.epoch))[s.frame[mine]]
        before = before + solution.flats.at(group, u, v)
    at = same_measurements(s.frame[mine], s.star[mine], evidence.rows["frame"], evidence.rows["star"])
    fitted, held, judged = (taken(values, at) for values in (evidence.fitted, evidence.held_out[0], evidence.judged))
    variance = s.variance[mine]
    structure, error = _halves(u, v, s.star[mine], before, variance, bins)
    known = np.isfinite(judged)
    return FlatMaps(
        band, detector, solution.fits.scaling.box[np.flatnonzero(chosen)[0]], len(mine),
        _flat_of(evidence, np.flatnonzero(chosen)), cell_means(u, v, before, variance, bins)[0],
        cell_means(u[known], v[known], judged[known], variance[known], bins)[0], structure, error,
        (spread(before)[0], spread(fitted)[0], spread(held)[0]),
    )  # fmt: skip


def _halves(
    u: np.ndarray, v: np.ndarray, star: np.ndarray, value: np.ndarray, variance: np.ndarray, bins: int
) -> tuple[tuple[float, float], float]:
    """Covariance of the mean maps of two halves of the stars, with its error, and the error of the map of all.

    The covariance of independent halves holds no noise; half their difference scatters as the map of all does.
    """
    one = np.unique(star, return_inverse=True)[1]
    half = np.random.default_rng(0).permutation(np.arange(one.max() + 1) % 2)[one]
    maps = [cell_means(u[part], v[part], value[part], variance[part], bins)[0] for part in (half == 0, half == 1)]
    both = np.isfinite(maps[0] + maps[1])
    if both.sum() < ENOUGH:
        return (np.nan, np.nan), np.nan
    matrix = np.cov(maps[0][both], maps[1][both])
    error = np.sqrt((matrix[0, 0] * matrix[1, 1] + matrix[0, 1] ** 2) / both.sum())
    return (float(matrix[0, 1]), float(error)), float(np.std(maps[0][both] - maps[1][both]) / 2)


def _flat_of(evidence: Evidence, chosen: np.ndarray, bins: int = MOST_CELLS) -> np.ndarray:
    """Position terms, medians of the frames, and stacked flat in cells, less their median; NaN where there is none."""
    solution = evidence.solution
    terms, place = solution.fits.terms, (np.arange(bins) + 0.5) / bins * 2 - 1
    flat: np.ndarray = np.zeros((bins, bins))
    value = solution.fits.value[chosen]
    value = value[np.isfinite(value).all(axis=1)]
    if len(value):
        coefficient = np.zeros((terms.position_order + 1,) * 2)
        for k, (i, j) in enumerate(terms.position):
            coefficient[j, i] = np.median(value[:, k])
        flat = np.polynomial.chebyshev.chebgrid2d(place, place, coefficient)
    if solution.flats is not None:
        group = solution.flats.groups(solution.frames, epochs(solution.frames, solution.settings.epoch))[chosen]
        u, v = (a.ravel() for a in np.meshgrid(place, place))
        found = [solution.flats.at(np.full(len(u), g), u, v) for g in np.unique(group[group >= 0])]
        flat = flat + (np.median(found, axis=0).reshape(bins, bins) if found else 0.0)
    return flat - np.median(flat) if np.ptp(flat) > 0 else np.full_like(flat, np.nan)


def all_flats(evidence: Evidence) -> tuple[list[FlatMaps], dict[str, str]]:
    """The flats of each band and detector, at most `MOST_FLATS`, those with most standards; and those left out, why.

    Raises Missing.
    """
    frames = evidence.solution.frames
    group, first = frames.group("band", "detector")
    number = np.bincount(group[evidence.solution.standards.frame], minlength=len(first))
    order = np.argsort(-number, kind="stable")
    most, rest = order[:MOST_FLATS], order[MOST_FLATS:]
    found, why = [], Missing("no frame")
    for k in most[np.argsort(first[most])]:
        try:
            found.append(flat_maps(evidence, str(frames.band[first[k]]), str(frames.detector[first[k]])))
        except Missing as missing:
            why = missing
    if not found:
        raise why
    left_out = [flat_name(str(frames.band[k]), str(frames.detector[k])) for k in np.sort(first[rest])]
    reason = f"{MOST_FLATS} are drawn, those with most standards; `xpjax survey flat` writes all stacked flats"
    return found, {some_of("Flats", left_out, len(first)): reason} if left_out else {}


def flats_text(evidence: Evidence) -> tuple[str, ...]:
    """What the flats are made of."""
    settings, order = evidence.solution.settings, evidence.solution.fits.terms.position_order
    parts = [f"a polynomial of order {order} in position for each frame"] * (order > 0)
    if settings.stacked_flat:
        epoch = f"{settings.epoch:g} d" if isinstance(settings.epoch, int | float) else settings.epoch
        share = {"all": "all frames", "night": "the frames of a night"}.get(str(epoch), f"frames within {epoch}")
        parts.append(
            f"a stacked flat in {settings.bins} x {settings.bins} cells that {share} of a band and detector share"
        )
    if settings.numerical_flat:
        parts.append(f"a numerical flat of each frame from the nearest {settings.neighbors} standards")
    return (f"The flat is {', and '.join(parts)}.",) if parts else ("The model has no flat.",)


def structure_text(covariance: float, error: float) -> str:
    """A standard deviation [mmag] from a covariance; where that does not stand out, its limit at 2 sigma."""
    if covariance > 2 * error:
        return rounded_text(MMAG * np.sqrt(covariance))
    return f"< {MMAG * np.sqrt(max(covariance, 0.0) + 2 * error):.2f}" if np.isfinite(error) else "-"


def flat_table(flats: list[FlatMaps]) -> Table:
    """The numbers of the flats."""
    rows = list[tuple[str | int, ...]]()
    for f in flats:
        width = float(np.subtract(*np.percentile(f.flat, [95, 5]))) if np.isfinite(f.flat).any() else np.nan
        cells = f"{f.before.shape[0]} x {f.before.shape[1]}"
        scatters = [rounded_text(MMAG * value, 1) for value in f.scatter]
        values = rounded_text(MMAG * width, 1), structure_text(*f.structure), rounded_text(MMAG * f.error)
        rows.append((f.name, f.number, cells, *values, *scatters))
    return Table(
        "Flats [mmag]. Range: 5 to 95 % of the places. Structure left by the position terms: what the maps of the mean "
        "residuals of two halves of the stars have in common (or its limit at 2 sigma). Error of a cell: half of the "
        "difference of the two maps. Mean residuals of the stars that made a flat are zero by construction, and are "
        "not quoted; scatters are of the same stars.",
        ("band and detector", "standards", "cells", "range of the flat", "structure", "error of a cell",
         "1.48 MAD: before", "fitted", "held out"),
        rows,
    )  # fmt: skip


def flat_figures(evidence: Evidence, flats: list[FlatMaps]) -> list[Figure]:
    """Flats, and mean residuals before and after them, over the detector."""
    solution = evidence.solution
    shown = {"flat": any(np.isfinite(f.flat).any() for f in flats), "before": True}
    shown["after"] = (
        solution.flats is not None or solution.settings.numerical_flat or evidence.cross_validation is not None
    )
    made = ["position terms"] * (solution.fits.terms.position_order > 0)
    before = "after the position terms alone" if made else "before any flat"
    made += ["stacked flat"] * (solution.flats is not None)
    said = {
        "flat": f"{' and '.join(made)}, about their median; added to instrumental magnitudes",
        "before": f"mean residuals of the standards {before}; gray cells have none",
        "after": f"mean residuals after all flats, {kind_of(evidence)}",
    }
    names = tuple(name for name in said if shown[name])
    caption = (
        f"Flats over the detector. {'; '.join(f'{name.capitalize()}: {said[name]}' for name in names)}. Standards: "
        + ", ".join(f"{f.name} {f.number:,}" for f in flats) + "."
    )  # fmt: skip
    return [
        Figure(
            "Flats" if len(part) == len(flats) else f"Flats, {', '.join(f.name for f in part)}", caption,
            functools.partial(draw_flats, part, names),
        )
        for part in chunks(flats, 3)
    ]  # fmt: skip


def draw_flats(flats: tuple[FlatMaps, ...], names: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    """A row for each band and detector, with the maps of these names."""
    shape = max((f.box[3] - f.box[2]) / (f.box[1] - f.box[0]) for f in flats)
    grid = rows_of_panels(figure, len(flats), [1.0] * len(names), 0.7 + 1.9 * float(np.clip(shape, 0.3, 1.3)))
    for f, line in zip(flats, grid, strict=True):
        limit = both_ways(MMAG * f.before)
        for name, axes in zip(names, line, strict=True):
            values, top = MMAG * getattr(f, name), both_ways(MMAG * f.flat, 100) if name == "flat" else limit
            extend = "neither" if name == "flat" else "both"
            draw_detector(axes, values, f.box, top, f"{plain(f.name)}: {name} [mmag]", label="", extend=extend)
