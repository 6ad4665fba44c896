"""Draw the figures of the guide on the linear correction.

    python tools/draw_correction.py DATA

DATA holds calspec/xp_calspec_pairs.parquet, as for tools/build_correction.py. docs/correction-operator.png is of mock
stars and of the shipped correction alone; docs/correction-left-out.png has medians and 68 % of the pairs, each
corrected by what the others teach, and no spectrum of any one star. It takes half a minute.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import xpjax
from xpjax import simulate
from xpjax.correction.evidence import Evidence, smoothing
from xpjax.correction.linear import Population
from xpjax.correction.pairs import read_pairs
from xpjax.correction.train_linear import train_linear
from xpjax.xp.correction import LinearCorrection, linear_correction

DOCS = Path(__file__).parents[1] / "docs"
PAIRS = "calspec/xp_calspec_pairs.parquet"
COLORS = ("#0072B2", "#009E73", "#D55E00", "#CC79A7")
KINDS = (("BP-RP = 0.0", -0.1, 0.1), ("BP-RP = 0.7", 0.65, 0.75), ("BP-RP = 1.4", 1.35, 1.45))
BALMER = {"H$\\delta$": 410.3, "H$\\gamma$": 434.2, "H$\\beta$": 486.3, "H$\\alpha$": 656.5}
CURVES = [340, 400, 500, 600, 700, 800, 900, 1000]


def mean_stars(model: xpjax.Instrument) -> dict[str, np.ndarray]:
    """Mean coefficients, over the mean flux, of bright mock stars by color."""
    table = simulate.sources(40_000, seed=4, correlations=False, dtype=np.float64)
    g, color = (np.asarray(table.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    value = np.asarray(table.coefficients.value)
    value = value / (value @ model.default_design)[:, 32:328].mean(axis=1, keepdims=True)
    return {name: value[(g < 15) & (color > low) & (color < high)].mean(axis=0) for name, low, high in KINDS}


def draw_operator(correction: LinearCorrection, model: xpjax.Instrument) -> Figure:
    """What the correction adds, what lines become, its modes, and what it leaves."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    axes, grid = figure.subplots(2, 2), model.wavelength
    stars, smooth = mean_stars(model), smoothing(model)
    for (name, c), hue in zip(stars.items(), COLORS, strict=False):
        seen = c @ model.default_design
        relative = 100 * ((c @ (model.default_design + correction.change)) @ smooth / seen - 1)
        axes[0, 0].plot(grid, relative, color=hue, lw=1, label=name)
    axes[0, 0].set(ylim=(-11, 9), ylabel="change [%]", title="What mean mock stars change by, XP's resolution")
    axes[0, 0].legend(frameon=False, ncols=3, loc="lower center", columnspacing=1)
    first = stars[KINDS[0][0]]
    seen, better = first @ model.default_design, first @ (model.default_design + correction.change)
    axes[0, 1].plot(grid, seen, color="0.6", lw=1.2, label="as published")
    axes[0, 1].plot(grid, better, color=COLORS[0], lw=1.2, label="corrected, full resolution")
    axes[0, 1].plot(grid, better @ smooth - 0.5, color=COLORS[2], lw=1.2, label="corrected, XP's resolution, less 0.5")
    for name, at in BALMER.items():
        axes[0, 1].axvline(at, color="0.85", lw=0.8, zorder=0)
        axes[0, 1].text(at + 2, 3.35, name, color="0.4", va="top")
    axes[0, 1].set(xlim=(390, 680), ylim=(0, 3.4), ylabel="flux over its mean", title="Mean mock A star")
    axes[0, 1].legend(frameon=False, loc="lower left", fontsize="small")
    _, size, modes = np.linalg.svd(correction.root.T @ correction.change, full_matrices=False)
    for k, hue in enumerate(COLORS):
        axes[1, 0].plot(grid, 100 * size[k] * modes[k] * np.sign(modes[k][np.abs(modes[k]).argmax()]) - 8 * k,
                        color=hue, lw=1, label=f"mode {k + 1}")  # fmt: skip
    axes[1, 0].set(xlabel="wavelength [nm]", ylabel="change [%], shifted by 8",
                   title="Leading modes over ordinary stars, of the mean flux", ylim=(-34, 16))  # fmt: skip
    axes[1, 0].legend(frameon=False, ncols=4, loc="upper right", fontsize="small", columnspacing=1)
    left = correction.left_at(grid)
    weight = correction.ordinary
    seen_left = ((left * weight) @ smooth) / (weight @ smooth)
    for root, name, hue in ((left, "full resolution", COLORS[0]), (seen_left, "XP's resolution", COLORS[2])):
        axes[1, 1].semilogy(grid, 100 * np.sqrt((root**2).sum(axis=0)), color=hue, lw=1.2, label=name)
    axes[1, 1].set(xlabel="wavelength [nm]", ylabel="standard error [%]", title="What is left at $d^2$ = 0")
    axes[1, 1].set_yticks([0.2, 0.5, 1, 2, 5, 10], ["0.2", "0.5", "1", "2", "5", "10"])
    axes[1, 1].set(ylim=(0.15, 12))
    axes[1, 1].legend(frameon=False)
    for axis in (axes[0, 0], axes[1, 0], axes[1, 1]):
        axis.set(xlim=(336, 1020), xticks=CURVES[1:])
    return figure


def draw_left_out(evidence: Evidence) -> Figure:
    """Median and 68 % of XP over reference, as published and corrected, at two resolutions."""
    model, smooth = evidence.pairs.instrument, smoothing(evidence.pairs.instrument)
    grid, true = model.wavelength, evidence.reference
    filled = np.where(np.isfinite(true), true, evidence.after)
    figure = Figure(figsize=(10.5, 6.4), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
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
        axis.set(ylim=(-most, most), ylabel="XP over CALSPEC, minus 1 [%]", title=f"{len(before)} stars, {title}")
        axis.legend(frameon=False, loc="upper center", ncols=2)
    axes[1].set(xlabel="wavelength [nm]", xlim=(336, 1020), xticks=CURVES[1:])
    return figure


def main() -> None:
    """Train for what is left out, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    model, correction = xpjax.instrument(), linear_correction()
    assert correction is not None
    figures = {"correction-operator.png": draw_operator(correction, model)}
    made = train_linear(read_pairs(args.data / PAIRS), Population.known(correction))
    figures["correction-left-out.png"] = draw_left_out(made.evidence)
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=90)
        # 128 colors are plenty for lines, and make the file half as large.
        Image.open(buffer).convert("RGB").quantize(128).save(DOCS / name, optimize=True)
        print(f"{DOCS / name} written, {(DOCS / name).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
