"""Parts of a report's figures: panels, points or their density, trends, histograms with Gaussians."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.statistics import Missing, gaussian, spread, trend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")

BLUE, RED, DARK, GREEN = "#0072B2", "#D55E00", "#1f3a5f", "#009E73"
"""Okabe & Ito's (2008) colors, told apart with any color vision, and a dark neutral one."""
DRAWN = 200_000
"""More measurements than this are thinned out at random before they are drawn."""
MOST_BANDS = 12
MMAG = 1e3


def panel_grid(columns: int, rows: int, width: float = 3.4, height: float = 2.6) -> tuple[Figure, np.ndarray]:
    """Panels (rows, columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(width * columns, 4.5), height * rows + 0.4), dpi=100, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def panels_of(
    shown: Collection[T], width: float = 3.4, height: float = 2.6, most: int = 3
) -> tuple[Figure, list[tuple[T, Axes]]]:
    """A panel for each thing shown, in rows of `most`; what is left over is hidden."""
    n = len(shown)
    figure, grid = panel_grid(min(n, most), math.ceil(n / most), width, height)
    axes = grid.ravel().tolist()
    for spare in axes[n:]:
        spare.set_visible(False)
    return figure, [*zip(shown, axes, strict=False)]


def dress(axes: Axes, x: str, y: str = "", title: str = "", size: float = 9) -> None:
    """Labels, a title, and a legend where something has a label."""
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=size)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)


def label_of(band: str) -> str:
    """The name of a band, "all" for none."""
    return band or "all"


def rounded_text(value: float, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def limits_about(values: np.ndarray, sigmas: float = 5.0) -> tuple[float, float]:
    """About the median, `sigmas` of 1.48 MAD to each side."""
    middle = float(np.median(values)) if len(values) else 0.0
    half = float(np.fmax(sigmas * spread(values)[0], 1e-3)) if len(values) else 1.0
    return middle - half, middle + half


def draw_density(axes: Axes, x: np.ndarray, y: np.ndarray, low: float, high: float, paint: str = BLUE) -> None:
    """Points, or their density where there are many, between low and high."""
    good = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(good) > DRAWN:
        good = np.random.default_rng(0).choice(good, DRAWN, replace=False)
    good = good[(y[good] >= low) & (y[good] <= high)]
    if len(good) > 2000:
        axes.hexbin(x[good], y[good], gridsize=60, bins="log", mincnt=1, cmap="Greys", linewidths=0.1)
    else:
        axes.scatter(x[good], y[good], s=float(np.clip(2000 / max(len(good), 1), 4, 25)), color=paint, alpha=0.5, lw=0)
    axes.set_ylim(low, high)


def draw_trend(axes: Axes, x: np.ndarray, y: np.ndarray, paint: str = RED, label: str = "") -> None:
    """Medians in bins with their errors, and 1.48 MAD as a band."""
    try:
        found = trend(x, y)
    except Missing:
        return
    low, high = found.median - found.scatter, found.median + found.scatter
    axes.fill_between(found.x, low, high, color=paint, alpha=0.15, lw=0)
    axes.errorbar(found.x, found.median, found.error, color=paint, lw=1, marker="o", ms=2.5, label=label or None)


def draw_gaussian(axes: Axes, values: np.ndarray, label: str) -> None:
    """A histogram and the Gaussian in its middle, with its sigma in the legend."""
    mean, sigma = gaussian(values)
    good = values[np.isfinite(values)]
    if not (np.isfinite(sigma) and sigma > 0):
        axes.hist(good, bins=20, color=BLUE, alpha=0.5, label=f"{label}, {len(good):,}")
        return
    edges = np.linspace(mean - 5 * sigma, mean + 5 * sigma, 51 if len(good) > 300 else 21)
    told = f"{label} \u03c3 = {sigma:.2f} ({len(good):,})"
    axes.hist(good, bins=edges.tolist(), color=BLUE, alpha=0.4, label=told)
    step = edges[1] - edges[0]
    x = np.linspace(edges[0], edges[-1], 300)
    inside = np.count_nonzero(np.abs(good - mean) <= 3 * sigma) / 0.9973
    axes.plot(x, inside * step * np.exp(-0.5 * ((x - mean) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi)), color=BLUE)


def shown_bands(evidence: Evidence) -> list[str]:
    """The bands of a figure, at most so many as are legible."""
    return evidence.bands[:MOST_BANDS]


def by_band(evidence: Evidence, make: Callable[[Evidence, str], T]) -> dict[str, T]:
    """What is made of each band that has what it needs. Raises Missing where none has."""
    found, why = {}, Missing("no band")
    for band in shown_bands(evidence):
        try:
            found[band] = make(evidence, band)
        except Missing as missing:
            why = missing
    if not found:
        raise why
    return found
