"""Residuals as all reports draw them: against everything that varies, and in units of their errors."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xpjax.survey import Frames
from xpjax.survey.report.drawing import (
    FITTED,
    HELD_OUT,
    MMAG,
    draw_density,
    draw_trend,
    dress,
    in_parts,
    is_left,
    label_of,
    limits_about,
    panels,
    plain,
    rounded_text,
    shared_legend,
    since,
)
from xpjax.survey.report.layout import Figure
from xpjax.survey.report.statistics import Missing, median, spread

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes

FEWEST = 5
"""Measurements in a band that a figure needs."""
KINDS = 24
"""Most detectors or amplifiers with their names on an axis; of more, every second has, or third."""


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

    @property
    def nothing(self) -> str:
        """Why there is nothing to draw against, "" where there is."""
        known = self.values[np.isfinite(self.values)]
        if not len(known):
            return self.unknown
        return "one value in all measurements" if known.min() == known.max() else ""


def usual_quantities(
    rows: Mapping[str, np.ndarray], frames: Frames, color: str, color_from: str, place_from: str
) -> list[Quantity]:
    """Color, place, airmass, time and detector of rows, known or not; with what would tell colors and places."""
    frame = rows["frame"]

    def of_rows(values: np.ndarray) -> np.ndarray:
        return np.where(frame >= 0, values[frame], np.nan)

    time, label = since(of_rows(frames.time))
    colors = rows["color"]
    if not np.nan_to_num(colors).any():  # observations without a color have 0
        colors = np.full(len(colors), np.nan)
    place = f"positions on the detector are not known ({place_from})"
    found = [
        Quantity("color", f"{color} [mag]", colors, f"colors are not known ({color_from})"),
        Quantity("x", "x [pixel]", rows["x"], place), Quantity("y", "y [pixel]", rows["y"], place),
        Quantity("airmass", "airmass", of_rows(frames.airmass), "airmasses are not known (columns.airmass)"),
        Quantity("time", label, time, "times are not known (columns.time)"),
    ]  # fmt: skip
    names, code = np.unique(frames.detector, return_inverse=True)
    if len(names) > 1:
        found.append(Quantity("detector", "detector", of_rows(code), names=tuple(names.tolist())))
    return found


@dataclasses.dataclass(frozen=True)
class Residuals:
    """Residuals (n,) [mag] of rows of a band, NaN where they are not fitted or held out, and what they vary with.

    both: the same measurements are fitted and held out; those held out are the points of the figure then. said: the
    beginning of its caption.
    """

    fitted: np.ndarray
    held_out: np.ndarray
    quantities: Sequence[Quantity]
    said: str
    both: bool = False

    @property
    def points(self) -> np.ndarray:
        """What is drawn point by point."""
        return self.held_out if self.both else self.fitted

    @property
    def caption(self) -> str:
        """What the panels show, and how many points they do not."""
        value = MMAG * self.points[np.isfinite(self.points)]
        low, high = limits_about(value)
        outside = np.count_nonzero((value < low) | (value > high))
        paints = " (red: held out; blue: in the fit)" * bool(np.isfinite(self.held_out).any())
        return (
            f"{self.said}; medians in bins of equal numbers with their errors, and 1.48 MAD as a band{paints}. "
            f"{outside:,} outliers lie outside the panels."
        )


def residual_figures_of(found: Mapping[str, Residuals], several: bool) -> tuple[list[Figure], dict[str, str]]:
    """A figure of each band with a panel for each quantity that varies; and the panels that no band has."""
    figures, missing = list[Figure](), dict[str, list[str]]()
    for band, one in found.items():
        for quantity in one.quantities:
            if quantity.nothing:
                missing.setdefault(f"Residuals against {quantity.name}", []).append(quantity.nothing)
        name = f"Residuals of band {label_of(band)}" if several else "Residuals"
        figures.append(Figure(name, one.caption, functools.partial(_draw_residuals, one)))
    return figures, {name: reasons[0] for name, reasons in missing.items() if len(reasons) == len(figures)}


def _draw_residuals(one: Residuals, figure: matplotlib.figure.Figure) -> None:
    shown = [quantity for quantity in one.quantities if not quantity.nothing]
    points, fitted, held = (MMAG * values for values in (one.points, one.fitted, one.held_out))
    every = panels(figure, len(shown))
    for quantity, axes in zip(shown, every, strict=True):
        x = quantity.values
        if quantity.names:
            _draw_kinds(axes, x, fitted, quantity.names, FITTED)
            if np.isfinite(held).any():
                _draw_kinds(axes, x, held, quantity.names, HELD_OUT)
        else:
            draw_density(axes, x, points, *limits_about(points), "0.5")
            draw_trend(axes, x, fitted, FITTED, "fitted", scatter=not one.both)
            draw_trend(axes, x, held, HELD_OUT, "held out")
        axes.axhline(0, color="0.5", lw=0.6, zorder=0)
        dress(axes, quantity.label, "residual [mmag]" if is_left(axes) else "", legend=False)
    shared_legend(figure, every[0])


def _draw_kinds(axes: Axes, code: np.ndarray, y: np.ndarray, names: tuple[str, ...], paint: str) -> None:
    """Medians of y with their errors for each kind, by its name."""
    there = [k for k in range(len(names)) if (code == k).any()]
    found = [y[(code == k) & np.isfinite(y)] for k in there]
    error = [1.2533 * spread(values)[0] / np.sqrt(max(len(values), 1)) for values in found]
    axes.errorbar(range(len(there)), [median(values) for values in found], error, fmt="o", ms=3, lw=1, color=paint)
    step = math.ceil(len(there) / KINDS)
    shown = [plain(names[k]) for k in there[::step]]
    axes.set_xticks(range(0, len(there), step), shown, rotation=90 if sum(map(len, shown)) > 24 else 0)


# --- in units of their errors -----------------------------------------------------------------------------------------


def pull_figures_of(pulls: Mapping[str, Mapping[str, np.ndarray]], caption: str) -> list[Figure]:
    """Histograms of residual / error, fitted and held out, of each band beside a unit Gaussian. Raises Missing."""
    finite = {band: {name: v[np.isfinite(v)] for name, v in kinds.items()} for band, kinds in pulls.items()}
    known = {band: kinds for band, kinds in finite.items() if len(kinds["fitted"]) >= FEWEST}
    if not known:
        raise Missing(f"no band has {FEWEST} residuals with errors")
    caption += ", outliers included (the outermost bins hold all beyond), and a unit Gaussian."
    return in_parts("Pulls", [*known], 6, caption, functools.partial(_draw_pulls, known))


def _draw_pulls(
    pulls: Mapping[str, Mapping[str, np.ndarray]], bands: tuple[str, ...], figure: matplotlib.figure.Figure
) -> None:
    x, edges = np.linspace(-5, 5, 200), np.linspace(-5, 5, 51).tolist()
    for band, axes in zip(bands, panels(figure, len(bands)), strict=True):
        for (name, values), paint in zip(pulls[band].items(), (FITTED, HELD_OUT), strict=False):
            if len(values):
                label = f"{name}, {rounded_text(spread(values)[0])}"
                axes.hist(np.clip(values, -5, 5), bins=edges, density=True, histtype="step", color=paint, label=label)
        axes.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color="0.5", lw=0.8)
        dress(axes, "residual / error", "density" if is_left(axes) else "", plain(band), legend=False)
        axes.legend(title="1.48 MAD", title_fontsize=8.5)
        axes.set_ylim(0, 1.45 * axes.get_ylim()[1])
