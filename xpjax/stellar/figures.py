"""Figures of grids of model spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xpjax.io.figures import bracket, color_scale, new_figure, some_of, styled
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.libraries.library import UNITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LINES = 16
"""More spectra of a grid in a panel are thinned out."""


def label_name(name: str) -> str:
    """A label as an axis shows it, with its unit where it is known."""
    return name + bracket(UNITS.get(name, ""))


@styled
def plot_grid(grid: StellarGrid) -> Figure:
    """Plot spectra of a grid along each label, and its holes.

    The labels not shown in a panel stay at the node with a spectrum that is nearest the middle of the grid. The map of
    the first two labels shows at each node the share of spectra over the further labels.

    Parameters
    ----------
    grid : StellarGrid
        The grid.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; save it with `figure.savefig("name.png")`.

    Examples
    --------
    >>> from xpjax.stellar import StellarGrid
    >>> teff, logg, wavelength = np.array([5000.0, 6000.0]), np.array([4.0, 4.5]), np.linspace(400, 900, 6)
    >>> grid = StellarGrid((teff, logg), np.ones((2, 2, 6)), wavelength, ("teff", "logg"))
    >>> len(xpjax.plot.plot_grid(grid).axes)
    6
    """
    flux, holes = np.asarray(grid.flux), grid.holes
    n_label = len(grid.names)
    several = n_label > 1
    figure = new_figure(9.0, 2.4 * n_label + 3.2 * several + 0.4)
    rows = figure.subplots(n_label + several, 1, squeeze=False, height_ratios=[2.4] * n_label + [3.2] * several)[:, 0]
    middle = (np.array(grid.shape) - 1) / 2
    there = np.argwhere(~holes)
    center = there[np.argmin((((there - middle) / np.array(grid.shape)) ** 2).sum(axis=1))]
    axis_name = "Coefficient" if grid.sampling == "coefficients" else "Wavelength [nm]"
    for k, (name, axes) in enumerate(zip(grid.names, rows, strict=False)):
        index = tuple(slice(None) if j == k else i for j, i in enumerate(center))
        lines, node = flux[index], np.asarray(grid.nodes[k])
        known = np.flatnonzero(~holes[index])
        shown = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), MAX_LINES)).astype(int))]
        color = color_scale(axes, node[shown], label_name(name))
        for i in shown:
            axes.plot(grid.wavelength, lines[i], color=color(node[i]), lw=0.9)
        fixed = ", ".join(f"{grid.names[j]} {grid.nodes[j][i]:g}" for j, i in enumerate(center) if j != k)
        axes.set_title(f"along {name}", fontsize=11, loc="left", fontweight="bold")
        counted = [f"{some_of(len(shown), len(known), 'spectra')} shown"] * (len(shown) < len(known))
        axes.set_title(", ".join([*counted, fixed]), fontsize=9, loc="right", color="0.4")
        axes.set(xlabel=axis_name, ylabel="Flux / mean")
        axes.margins(x=0.01)
    if several:
        share = (~holes).mean(axis=tuple(range(2, n_label)))
        x, y = (np.asarray(node) for node in grid.nodes[:2])
        # Drawn by place, so that uneven steps are as wide as others.
        image = rows[-1].imshow(share.T, origin="lower", aspect="auto", vmin=0, vmax=1, cmap="cividis")
        for axis, node in ((rows[-1].xaxis, x), (rows[-1].yaxis, y)):
            ticks = np.unique(np.linspace(0, len(node) - 1, min(len(node), 12)).astype(int))
            axis.set_ticks(ticks, [f"{node[i]:g}" for i in ticks])
        rows[-1].set(xlabel=label_name(grid.names[0]), ylabel=label_name(grid.names[1]))
        title = f"{int((~holes).sum()):,} spectra, {int(holes.sum()):,} holes"
        rows[-1].set_title(title, fontsize=11, loc="left", fontweight="bold")
        figure.colorbar(image, ax=rows[-1], label="Share of nodes with a spectrum", pad=0.02)
    return figure
