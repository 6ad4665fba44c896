"""Figures of sampled spectra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.constants import MERGE_RANGE
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import columns_of
from xpjax.io.figures import COLORS, bracket, new_figure, spectral_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_SPECTRA = 24
FIRST_SPECTRA = 6
"""Spectra that are drawn where none are chosen."""


def draw_spectra(spectra: Any, sources: Sequence[int] | None = None, bands: Sequence[Any] = ()) -> Figure:
    """Flux against wavelength with 1-sigma bands, a panel for each source, and passbands beneath.

    spectra: as for `columns_of`; sources: source_ids, by default the first six. Raises XpjaxError for an unknown
    source, tables without spectra or rows, too many panels, and passbands with internal spectra.
    """
    catalogue = columns_of(spectra)
    chosen = _chosen(catalogue, sources)
    columns, internal = catalogue.columns, "xp" in catalogue.columns
    if internal and bands:
        raise XpjaxError(
            "a system's bands have wavelengths in nm, and these are internal spectra on pseudo-wavelengths; plot them "
            "without a system, or make absolute spectra"
        )
    ids = np.asarray(columns["source_id"])
    n_column = 1 if len(chosen) <= 3 else 2
    n_row = -(-len(chosen) // n_column)
    heights = [2.3] * n_row + [0.8] * bool(bands)
    figure = new_figure(5.6 * n_column + 0.8, sum(heights) + 1)
    grid = figure.subplots(len(heights), n_column, sharex=True, squeeze=False, height_ratios=heights)
    panels = grid[:n_row].ravel()
    for axes, source in zip(panels, chosen, strict=False):
        for row in np.flatnonzero(ids == source).tolist():
            xp = str(columns["xp"][row]).lower() if internal else "all"
            _spectrum(axes, catalogue, row, xp)
        axes.set_title(f"source {source}", fontsize=10, loc="right")
        axes.margins(x=0.01)
        if internal:
            axes.legend(loc="upper right", frameon=False)
        else:
            axes.axvspan(*MERGE_RANGE, color="0.5", alpha=0.18, lw=0)
    for axes in panels[len(chosen) :]:
        axes.set_visible(False)
        if not bands:
            panels[n_column * (n_row - 1) - 1].tick_params(labelbottom=True)
    if bands:
        for axes in grid[-1]:
            _bands(axes, bands)
    x_unit = catalogue.units.get("wavelength", "" if internal else "nm")
    figure.supxlabel(f"{'Pseudo-wavelength' if internal else 'Wavelength'}{bracket(x_unit)}", fontsize=11)
    y_unit = catalogue.units.get("flux", "electron s-1" if internal else "W m-2 nm-1")
    figure.supylabel(f"Flux{bracket(y_unit)}", fontsize=11)
    return figure


def _chosen(catalogue: Catalogue, sources: Sequence[int] | None) -> list[int]:
    """The source_ids to be drawn. Raises XpjaxError for what has no spectra, no rows, or not these sources."""
    columns = catalogue.columns
    if "flux" in columns and not len(catalogue):
        raise XpjaxError("no sources to plot: the table has no rows")
    if np.ndim(columns.get("flux", 0)) != 2 or "wavelength" not in catalogue.shared:
        raise XpjaxError("no spectra to plot: expected a column `flux` of arrays, and `wavelength`")
    ids = np.asarray(columns["source_id"])
    chosen = list(dict.fromkeys(ids.tolist()))[:FIRST_SPECTRA] if sources is None else [int(s) for s in sources]
    unknown = [source for source in chosen if source not in ids]
    if unknown:
        raise XpjaxError(f"no source {', '.join(map(str, unknown))} among the {len(ids)} spectra")
    if not 0 < len(chosen) <= MAX_SPECTRA:
        raise XpjaxError(f"{len(chosen)} spectra to plot; choose 1 to {MAX_SPECTRA}")
    return chosen


def _spectrum(axes: Axes, catalogue: Catalogue, row: int, xp: str) -> None:
    """One row: its flux, and the band of its error where there is one; xp is `all` for an absolute spectrum."""
    wavelength, flux = catalogue.shared["wavelength"], np.asarray(catalogue.columns["flux"][row], np.float64)
    color, error = COLORS.get(xp, COLORS["all"]), catalogue.columns.get("flux_error")
    if error is not None:
        sigma = np.asarray(error[row], np.float64)
        axes.fill_between(wavelength, flux - sigma, flux + sigma, color=color, alpha=0.3, lw=0)
    empty = not np.isfinite(flux).any()
    axes.plot(wavelength, flux, color=color, lw=1.2, label=xp.upper() + ": no data" * empty)
    axes.axhline(0, color="0.6", lw=0.6, zorder=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=True)
    if empty and xp == "all":
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center", color="0.4")


def _bands(axes: Axes, bands: Sequence[Any]) -> None:
    """A strip with passbands, colored blue to red, and their names where they are few."""
    for band in bands:
        wavelength, curve, center = band.wavelength, band.transmission, band.mean_wavelength
        color = spectral_color(center)
        axes.fill_between(wavelength, curve, color=color, alpha=0.35, lw=0)
        axes.plot(wavelength, curve, color=color, lw=0.8)
        if len(bands) <= 12:
            axes.text(center, 1.1, band.name, rotation=90, fontsize=6, ha="center", va="bottom")
    axes.set(ylim=(0, 2.2 if len(bands) <= 12 else 1.1), yticks=[])
    axes.spines[["left", "right", "top"]].set_visible(False)
