"""Figures of a network: the residuals that it was trained on, and what it predicts and leaves of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from xpjax.core.constants import XP_RANGE
from xpjax.io.figures import new_figure, spectral_color, styled
from xpjax.wiggles.judgment import predict_residuals
from xpjax.wiggles.network import WiggleCorrection
from xpjax.wiggles.residuals import Residuals

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def plot_patterns(model: WiggleCorrection, residuals: Residuals) -> Figure:
    """Plot true, predicted and remaining residuals by color: median and 16..84 % of the stars.

    Parameters
    ----------
    model : WiggleCorrection
        A network.
    residuals : Residuals
        Residuals of n stars.

    Returns
    -------
    matplotlib.figure.Figure
        Three panels over wavelength [nm], as in Ye et al. (2024).

    Examples
    --------
    >>> grid = np.linspace(400.0, 900.0, 330)
    >>> data = xpjax.wiggles.Residuals(np.arange(1, 9), ("BP-RP",), np.ones((8, 1)), grid, np.zeros((8, 330)))
    >>> state = {"0.weight": np.zeros((330, 1)), "0.bias": np.zeros(330)}
    >>> model = xpjax.wiggles.network_from_torch(
    ...     state, {"mean_": [0.8], "scale_": [0.3]}, names=["BP-RP"], wavelength=grid
    ... )
    >>> len(xpjax.wiggles.plot_patterns(model, data).axes)
    3
    """
    residual, predicted = np.asarray(residuals.residual, float), predict_residuals(model, residuals.stars)
    names = residuals.names
    color = residuals.features[:, names.index("BP-RP")] if "BP-RP" in names else np.zeros(len(residuals))
    known = np.isfinite(color)
    edges = np.unique(np.quantile(color[known], np.linspace(0, 1, 5))) if known.any() else np.zeros(1)
    groups = [(color >= a) & (color <= b) for a, b in itertools.pairwise(edges)] or [known]
    figure = new_figure(9.0, 7.0)
    axes = figure.subplots(3, 1, sharex=True, sharey=True)
    rows = (("true", residual), ("predicted", predicted), ("remaining", residual - predicted))
    for axis, (title, value) in zip(axes, rows, strict=True):
        for k, group in enumerate(groups):
            chosen = value[group & np.isfinite(value).any(axis=1)]
            if not len(chosen):
                continue
            low, middle, high = np.nanpercentile(chosen, [16, 50, 84], axis=0)
            label = f"BP-RP {edges[k]:.2f} to {edges[k + 1]:.2f} mag" if len(edges) > 1 else "all"
            # In order from blue to red stars, as their wavelengths are.
            paint = spectral_color(XP_RANGE[0] + (XP_RANGE[1] - XP_RANGE[0]) * k / max(len(groups) - 1, 1))
            axis.fill_between(residuals.wavelength, 100 * low, 100 * high, color=paint, alpha=0.2, lw=0)
            axis.plot(residuals.wavelength, 100 * middle, color=paint, lw=1, label=label)
        axis.axhline(0, color="0.5", lw=0.5)
        axis.set_title(title, loc="left", fontweight="bold")
        axis.set_ylabel("Residual [%]")
    axes[0].set_title(f"{len(residuals):,} stars, flux over its mean; bands: 16 to 84 %", loc="right", color="0.4")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    axes[-1].set_xlabel("Wavelength [nm]")
    return figure
