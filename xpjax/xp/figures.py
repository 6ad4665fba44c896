"""Figures of sampled spectra."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xpjax.core.constants import MERGE_RANGE
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.core.types import AnyTable
from xpjax.io.catalogue import columns_of
from xpjax.io.figures import COLORS, CYCLE, between, bracket, new_figure, some_of, spectral_color, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_SPECTRA = 24
FIRST_SPECTRA = 6
"""Spectra that are drawn where none are chosen."""
NAMED = 12
"""More bands than this are drawn without their names."""


@dataclasses.dataclass(frozen=True)
class _Layer:
    """Spectra that are drawn together: their name in the legend, their color, and the samples within the limits."""

    name: str
    color: str
    table: Catalogue
    inside: np.ndarray


AnySpectra: TypeAlias = "AnyTable | Mapping[str, AnyTable]"
"""Spectra to draw: a result, table or file, or several by name."""


@styled
def draw_spectra(
    spectra: AnySpectra,
    sources: Sequence[int] | None = None,
    bands: Sequence[Any] = (),
    limits: Sequence[float] | None = None,
    whole: int = 0,
) -> Figure:
    """Flux against wavelength with 1-sigma bands, a panel for each source, and passbands beneath.

    spectra: as for `columns_of`, or several by name, which are drawn over each other; sources: source_ids, by default
    the first six; limits: lowest and highest wavelength; whole: sources of which these are some. Raises XpjaxError for
    an unknown source, tables without spectra or rows, too many panels, absolute and internal spectra together, and
    passbands with internal spectra.
    """
    layers, internal = _layers(spectra, limits)
    if internal and bands:
        raise XpjaxError(
            "a system's bands have wavelengths in nm, and these are internal spectra on pseudo-wavelengths; plot them "
            "without a system, or make absolute spectra"
        )
    chosen, there = _chosen(layers, sources)
    n_column = 1 if len(chosen) <= 3 else 2
    n_row = -(-len(chosen) // n_column)
    heights = [2.3] * n_row + [0.8] * bool(bands)
    figure = new_figure(5.6 * n_column + 0.8, sum(heights) + 1.2)
    grid = figure.subplots(len(heights), n_column, sharex=True, squeeze=False, height_ratios=heights)
    panels = grid[:n_row].ravel()
    for axes, source in zip(panels, chosen, strict=False):
        _panel(axes, layers, source, internal)
    for axes in panels[len(chosen) :]:
        axes.set_visible(False)
        if not bands:
            panels[n_column * (n_row - 1) - 1].tick_params(labelbottom=True)
    if bands:
        for axes in grid[-1]:
            _bands(axes, bands)
    first = layers[0].table
    x_unit = first.units.get("wavelength", "" if internal else "nm")
    figure.supxlabel(f"{'Pseudo-wavelength' if internal else 'Wavelength'}{bracket(x_unit)}", fontsize=11)
    y_unit = first.units.get("flux", "electron s-1" if internal else "W m-2 nm-1")
    figure.supylabel(f"Flux{bracket(y_unit)}", fontsize=11)
    _legend(figure, layers, internal, limits)
    if len(chosen) < max(there, whole):
        panels[0].set_title(some_of(len(chosen), max(there, whole)), loc="left", fontsize=9, color="0.4")
    return figure


def _layers(spectra: Any, limits: Sequence[float] | None) -> tuple[list[_Layer], bool]:
    """The tables to be drawn over each other, and whether they are internal spectra. Raises XpjaxError."""
    several = isinstance(spectra, Mapping) and "flux" not in spectra
    layers = []
    for k, (name, one) in enumerate(spectra.items() if several else (("", spectra),)):
        table = columns_of(one)
        if "flux" in table.columns and not len(table):
            raise XpjaxError("no sources to plot: the table has no rows")
        if np.ndim(table.columns.get("flux", 0)) != 2 or "wavelength" not in table.shared:
            raise XpjaxError("no spectra to plot: expected a column `flux` of arrays, and `wavelength`")
        inside = between(np.asarray(table.shared["wavelength"]), limits, "wavelength")
        layers.append(_Layer(str(name), CYCLE[k % len(CYCLE)] if several else COLORS["all"], table, inside))
    kinds = {"xp" in layer.table.columns for layer in layers}
    if len(layers) > len(CYCLE) or len(kinds) != 1:
        found = f"{len(layers)} tables" if len(kinds) == 1 else "absolute and internal spectra" if kinds else "none"
        raise XpjaxError(f"spectra to draw over each other: {found}; expected 1 to {len(CYCLE)} tables of one kind")
    return layers, kinds.pop()


def _chosen(layers: Sequence[_Layer], sources: Iterable[int] | None) -> tuple[list[int], int]:
    """The source_ids to be drawn, and how many there are. Raises XpjaxError for sources that no table has."""
    n = len(layers[0].table)
    there = dict.fromkeys(i for layer in layers for i in np.asarray(layer.table.columns["source_id"]).tolist())
    chosen = list(there)[:FIRST_SPECTRA] if sources is None else [int(s) for s in sources]
    unknown = [source for source in chosen if source not in there]
    if unknown:
        raise XpjaxError(f"no source {', '.join(map(str, unknown))} among the {n} spectra")
    if not 0 < len(chosen) <= MAX_SPECTRA:
        raise XpjaxError(f"{len(chosen)} spectra to plot; choose 1 to {MAX_SPECTRA}")
    return chosen, len(there)


def _panel(axes: Axes, layers: Sequence[_Layer], source: int, internal: bool) -> None:
    """The spectra of one source."""
    empty, absent = list[str](), True
    for layer in layers:
        columns = layer.table.columns
        for row in np.flatnonzero(np.asarray(columns["source_id"]) == source).tolist():
            xp = str(columns["xp"][row]).upper() if internal else ""
            color = COLORS.get(xp.lower(), layer.color) if len(layers) == 1 else layer.color
            found = _spectrum(axes, layer, row, color, "--" if len(layers) > 1 and xp == "RP" else "-")
            absent = absent and not found
            empty += [xp or layer.name] if not found else []
    if empty:
        text = "no data" if absent else ", ".join(f"{name}: no data" for name in empty)
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.4")
    axes.set_title(f"source {source}", fontsize=10, loc="right")
    axes.margins(x=0.01)
    axes.axhline(0, color="0.6", lw=0.6, zorder=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4), useMathText=True)
    if not internal and any(layer.table.shared["wavelength"][layer.inside].min() < MERGE_RANGE[1] for layer in layers):
        left, right = axes.get_xlim()
        axes.axvspan(*MERGE_RANGE, color="0.5", alpha=0.18, lw=0)
        axes.set_xlim(left, right)


def _spectrum(axes: Axes, layer: _Layer, row: int, color: str, dash: str) -> bool:
    """One row: its flux, and the band of its error where there is one. Whether there was anything to draw."""
    wavelength = np.asarray(layer.table.shared["wavelength"])[layer.inside]
    flux = np.asarray(layer.table.columns["flux"][row], np.float64)[layer.inside]
    error = layer.table.columns.get("flux_error")
    if error is not None:
        sigma = np.asarray(error[row], np.float64)[layer.inside]
        axes.fill_between(wavelength, flux - sigma, flux + sigma, color=color, alpha=0.3, lw=0)
    axes.plot(wavelength, flux, color=color, lw=1.2, ls=dash)
    return bool(np.isfinite(flux).any())


def _legend(figure: Figure, layers: Sequence[_Layer], internal: bool, limits: Sequence[float] | None) -> None:
    """What the lines, the bands about them and the gray stripe are, above all panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if internal:
        kinds = sorted({str(xp).upper() for layer in layers for xp in layer.table.columns["xp"]})
        for xp in kinds:
            style: dict[str, Any] = (
                {"ls": "--" if xp == "RP" else "-", "color": "0.3"} if len(layers) > 1 else {"color": COLORS["bp"]}
            )
            style |= {"color": COLORS.get(xp.lower(), COLORS["all"])} if len(layers) == 1 else {}
            handles.append(Line2D([], [], label=xp, **style))
    handles += [Line2D([], [], color=layer.color, label=layer.name) for layer in layers if layer.name]
    if any("flux_error" in layer.table.columns for layer in layers):
        color = layers[0].color if len(layers) == 1 and not internal else "0.3"
        handles.append(Patch(color=color, alpha=0.3, lw=0, label="\u00b11 standard error"))
    if not internal and (limits is None or (limits[0] < MERGE_RANGE[1] and limits[1] > MERGE_RANGE[0])):
        handles.append(Patch(color="0.5", alpha=0.18, lw=0, label="BP and RP are merged"))
    if handles:
        figure.legend(handles=handles, loc="outside upper right", ncols=4)


def _bands(axes: Axes, bands: Sequence[Any]) -> None:
    """A strip with passbands over their peaks, colored by wavelength, and their names where they are few."""
    limits = axes.get_xlim()
    few = len(bands) <= NAMED
    for band in bands:
        wavelength, curve, center = band.wavelength, band.transmission, band.mean_wavelength
        color = spectral_color(center)
        axes.fill_between(wavelength, curve / curve.max(), color=color, alpha=0.35, lw=0)
        axes.plot(wavelength, curve / curve.max(), color=color, lw=0.8)
        if few and limits[0] < center < limits[1]:
            axes.text(center, 1.1, band.name, rotation=90, fontsize=6, ha="center", va="bottom")
    if not few:
        axes.text(1.0, 1.02, f"{len(bands)} bands", transform=axes.transAxes, fontsize=7, ha="right", color="0.4")
    axes.set(xlim=limits, ylim=(0, 2.2 if few else 1.1), yticks=[])
    axes.spines[["left", "right", "top"]].set_visible(False)
