"""Figures of a linear correction: what it does to spectra, what it leaves, and how it learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.io.figures import new_figure, styled
from xpjax.wiggles.linear.evidence import Evidence, smoothing
from xpjax.wiggles.linear.fit import level
from xpjax.xp import Instrument, LinearCorrection, simulate_sources

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#009E73", "#D55E00", "#CC79A7")
KINDS = (("BP-RP = 0.0", -0.1, 0.1), ("BP-RP = 0.7", 0.65, 0.75), ("BP-RP = 1.4", 1.35, 1.45))
BALMER = {"H$\\delta$": 410.3, "H$\\gamma$": 434.2, "H$\\beta$": 486.3, "H$\\alpha$": 656.5}
TICKS = (400, 500, 600, 700, 800, 900, 1000)


def mean_stars(model: Instrument) -> dict[str, np.ndarray]:
    """Mean coefficients, over the mean flux, of bright mock stars by color."""
    table = simulate_sources(40_000, seed=4, correlations=False, release=model.release, dtype=np.float64)
    g, color = (np.asarray(table.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    value = np.asarray(table.coefficients.value)
    value = value / level(value, model)
    return {name: value[(g < 15) & (color > low) & (color < high)].mean(axis=0) for name, low, high in KINDS}


def draw_operator(axes: Any, correction: LinearCorrection, model: Instrument) -> None:
    """What the correction adds, what lines become, its modes, and what it leaves, on axes (2, 2)."""
    grid = model.wavelength
    stars, smooth = mean_stars(model), smoothing(model)
    for (name, c), hue in zip(stars.items(), COLORS, strict=False):
        seen = c @ model.default_design
        relative = 100 * ((c @ (model.default_design + correction.change)) @ smooth / seen - 1)
        axes[0, 0].plot(grid, relative, color=hue, lw=1, label=name)
    axes[0, 0].set_yscale("symlog", linthresh=5)
    axes[0, 0].set_yticks([-20, -5, -2.5, 0, 2.5, 5, 20], ["-20", "-5", "-2.5", "0", "2.5", "5", "20"])
    title = "Mean mock stars at XP's resolution; logarithmic beyond 5 %"
    axes[0, 0].set(ylabel="Change [%]", title=title)
    axes[0, 0].legend(frameon=False, ncols=3, loc="lower center", columnspacing=1)
    first = stars[KINDS[0][0]]
    seen, better = first @ model.default_design, first @ (model.default_design + correction.change)
    axes[0, 1].plot(grid, seen, color="0.6", lw=1.2, label="as published")
    axes[0, 1].plot(grid, better, color=COLORS[0], lw=1.2, label="corrected, full resolution")
    axes[0, 1].plot(grid, better @ smooth - 0.5, color=COLORS[2], lw=1.2, label="corrected, XP's resolution, less 0.5")
    for name, at in BALMER.items():
        axes[0, 1].axvline(at, 0.25, color="0.85", lw=0.8, zorder=0)  # above the legend
        axes[0, 1].text(at + 2, 3.35, name, color="0.4", va="top")
    axes[0, 1].set(xlim=(390, 680), ylim=(0, 3.4), ylabel="Flux over its mean", title="Mean mock A star")
    axes[0, 1].legend(frameon=False, loc="lower left", fontsize="small")
    _, size, modes = np.linalg.svd(correction.root.T @ correction.change, full_matrices=False)
    for k, hue in enumerate(COLORS):
        axes[1, 0].plot(grid, 100 * size[k] * modes[k] * np.sign(modes[k][np.abs(modes[k]).argmax()]) - 8 * k,
                        color=hue, lw=1, label=f"mode {k + 1}")  # fmt: skip
    axes[1, 0].set(xlabel="Wavelength [nm]", ylabel="Change [%], shifted by 8",
                   title="Leading modes over ordinary stars, of the mean flux", ylim=(-34, 21))  # fmt: skip
    axes[1, 0].legend(frameon=False, ncols=4, loc="upper right", fontsize="small", columnspacing=1)
    left = correction.left_at(grid)
    weight = correction.ordinary
    seen_left = ((left * weight) @ smooth) / (weight @ smooth)
    for root, name, hue in ((left, "full resolution", COLORS[0]), (seen_left, "XP's resolution", COLORS[2])):
        axes[1, 1].semilogy(grid, 100 * np.sqrt((root**2).sum(axis=0)), color=hue, lw=1.2, label=name)
    axes[1, 1].set(xlabel="Wavelength [nm]", ylabel="Standard error [%]", title="What is left at $d^2$ = 0")
    axes[1, 1].set_yticks([0.2, 0.5, 1, 2, 5, 10], ["0.2", "0.5", "1", "2", "5", "10"])
    axes[1, 1].set(ylim=(0.15, 12))
    axes[1, 1].legend(frameon=False)
    for axis in (axes[0, 0], axes[1, 0], axes[1, 1]):
        axis.set(xlim=(336, 1020), xticks=TICKS)


def draw_left_out(axes: Any, evidence: Evidence) -> None:
    """Median and 68 % of XP over reference, as published and corrected, at two resolutions, on axes (2,)."""
    model, smooth = evidence.pairs.instrument, smoothing(evidence.pairs.instrument)
    grid, true = model.wavelength, evidence.reference
    filled = np.where(np.isfinite(true), true, evidence.after)
    # XP as published is not smoothed: its line spread is in it already.
    panels = (
        ("full resolution", evidence.before, evidence.after, true, 12),
        ("XP's resolution", evidence.before, evidence.after @ smooth, filled @ smooth, 8),
    )
    for axis, (title, before, after, reference, most) in zip(axes, panels, strict=True):
        for name, seen, hue, alpha in (("as published", before, "0.55", 0.3), ("corrected", after, COLORS[0], 0.35)):
            ratio = 100 * (seen / np.where(np.isfinite(true), reference, np.nan) - 1)
            low, middle, high = np.nanpercentile(ratio, [16, 50, 84], axis=0)
            axis.fill_between(grid, low, high, color=hue, alpha=alpha, lw=0)
            axis.plot(grid, middle, color=hue, lw=1.2, label=name)
        axis.axhline(0, color="0.3", lw=0.5)
        axis.set(
            ylim=(-most, most),
            ylabel="XP over reference, minus 1 [%]",
            title=f"{len(before)} stars, {title}; bands: 16 to 84 %",
        )
        axis.set(xlim=(336, 1020), xticks=TICKS)
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.5, 1), ncols=2)  # beside H-alpha
    axes[1].set(xlabel="Wavelength [nm]")


@styled
def figure(
    correction: LinearCorrection, evidence: Evidence, model: Instrument, curve: Mapping[int, float] | None = None
) -> Figure:
    """The operator, what it leaves of pairs left out, and where it is known how the error falls with their number."""
    drawn = new_figure(11.0, 15.0 if curve else 12.5)
    grid = drawn.add_gridspec(5 if curve else 4, 2)
    draw_operator(np.array([[drawn.add_subplot(grid[j, k]) for k in range(2)] for j in range(2)]), correction, model)
    draw_left_out([drawn.add_subplot(grid[k, :]) for k in (2, 3)], evidence)
    if curve:
        axis = drawn.add_subplot(grid[4, :])
        axis.plot(list(curve), [100 * value for value in curve.values()], "o-", color=COLORS[0])
        axis.set(xlabel="Pairs trained on", ylabel="Median RMS of the others [%]", title="Learning curve")
    return drawn
