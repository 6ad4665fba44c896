"""Figures of spectra and photometry, as `matplotlib.figure.Figure`: no backend, no global state.

Save one with `figure.savefig("name.png")`; a notebook shows it as the value of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.constants import MERGE_RANGE, XP_RANGE
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.synthetic import Passband, PassbandSet, curves_of, mean_wavelength, recover_passbands

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xpjax.stellar import StellarGrid
    from xpjax.synthetic import PhotometricSystem

__all__ = ["plot_grid", "plot_passbands", "plot_photometry", "plot_spectra"]

COLORS = {"all": "#1f3a5f", "bp": "#0072B2", "rp": "#D55E00", "flag": "#D55E00"}
"""Okabe & Ito's (2008) blue and vermillion, told apart with any color vision, and a dark neutral one."""
MAX_SPECTRA = 24
MAX_PASSBANDS = 12
MAX_LINES = 16
"""More spectra of a grid in a panel are thinned out."""
DENSE = 10_000
"""More points than this are drawn as a density."""
FAMILIAR = (
    ("g", "i", "r"),
    ("gp", "ip", "rp"),
    ("BP", "RP", "G"),
    ("B", "V", "V"),
    ("BT", "VT", "VT"),
    ("b", "y", "y"),
    ("f475w", "f814w", "f606w"),
    ("r", "i", "r"),
)
"""Bands of a color and of the magnitude that goes with it, tried in this order."""


def plot_spectra(spectra: Any, sources: Sequence[int] | None = None, system: PhotometricSystem | None = None) -> Figure:
    """Flux against wavelength with 1-sigma bands, a panel for each source; of a Catalogue or of Spectra.

    sources: source_ids (None: the first six); system: a PhotometricSystem whose passbands are drawn underneath, those
    recovered of published systems, or recovered now from its projections. Raises ValueError for an unknown source, for
    a catalogue without spectra or rows, for too many panels, and for a system with internal spectra.
    """
    catalogue = _catalogue(spectra)
    columns = catalogue.columns
    if "flux" in columns and not len(catalogue):
        raise XpjaxError("no sources to plot: the table has no rows")
    if np.ndim(columns.get("flux", 0)) != 2 or "wavelength" not in catalogue.shared:
        raise XpjaxError("no spectra to plot: expected a column `flux` of arrays, and `wavelength`")
    if system is not None and "xp" in columns:
        raise XpjaxError(
            "a system's bands have wavelengths in nm, and these are internal spectra on pseudo-wavelengths; plot them "
            "without a system, or make absolute spectra"
        )
    ids = np.asarray(columns["source_id"])
    chosen = list(dict.fromkeys(ids.tolist()))[:6] if sources is None else [int(source) for source in sources]
    unknown = [source for source in chosen if source not in ids]
    if unknown:
        raise XpjaxError(f"no source {', '.join(map(str, unknown))} among the {len(ids)} spectra")
    if not 0 < len(chosen) <= MAX_SPECTRA:
        raise XpjaxError(f"{len(chosen)} spectra to plot; choose 1 to {MAX_SPECTRA}")

    internal = "xp" in columns
    strip = not internal and system is not None and bool(system.model)
    n_column = 1 if len(chosen) <= 3 else 2
    n_row = -(-len(chosen) // n_column)
    heights = [2.3] * n_row + [0.8] * strip
    figure = _figure(5.6 * n_column + 0.8, sum(heights) + 1)
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
        if not strip:
            panels[n_column * (n_row - 1) - 1].tick_params(labelbottom=True)
    if strip and system is not None:
        bands = _curves_of(system)
        for axes in grid[-1]:
            _bands(axes, bands)
    x_unit = catalogue.units.get("wavelength", "" if internal else "nm")
    figure.supxlabel(f"{'Pseudo-wavelength' if internal else 'Wavelength'}{_bracket(x_unit)}", fontsize=11)
    y_unit = catalogue.units.get("flux", "electron s-1" if internal else "W m-2 nm-1")
    figure.supylabel(f"Flux{_bracket(y_unit)}", fontsize=11)
    return figure


def plot_photometry(photometry: Any) -> Figure:
    """Color-magnitude view of the first system of a Catalogue or of Photometry; flagged sources stand out.

    Many sources are drawn as a density. A system of one band gives a histogram. Raises ValueError without magnitudes.
    """
    catalogue = _catalogue(photometry)
    bands = magnitude_bands(catalogue)
    if not bands:
        raise XpjaxError("no photometry to plot: expected columns named like `Sdss_mag_g`")
    if not len(catalogue):
        raise XpjaxError("no sources to plot: the table has no rows")
    label = next(iter(bands))
    names = bands[label]
    figure = _figure(6.4, 6.4)
    axes = figure.subplots()
    magnitude = {name: np.asarray(catalogue.columns[f"{label}_mag_{name}"], np.float64) for name in names}
    if len(names) == 1:
        finite = magnitude[names[0]][np.isfinite(magnitude[names[0]])]
        axes.hist(finite, bins="auto", color=COLORS["bp"])
        axes.set(xlabel=f"{names[0]} [mag]", ylabel="Number of sources", title=_title(label, len(finite)))
        return figure

    blue, red, middle = _color_bands(names)
    color, mag = magnitude[blue] - magnitude[red], magnitude[middle]
    good = np.isfinite(color) & np.isfinite(mag)
    if not good.any():
        raise XpjaxError(f"no source has both {blue} - {red} and {middle} of {label}")
    status = np.asarray(catalogue.columns.get("xp_status", np.zeros(len(color))))
    # The far tails of faint sources would squeeze everything else.
    low, high = np.percentile(color[good], [0.1, 99.9])
    span = max(high - low, 0.1)
    if good.sum() > DENSE:
        window = good & (color > low - span / 4) & (color < high + span / 4)
        density = axes.hexbin(color[window], mag[window], gridsize=120, bins="log", mincnt=1, cmap="viridis", lw=0.1)
        figure.colorbar(density, ax=axes, label="Number of sources", pad=0.02)
    else:
        size = float(np.clip(20_000 / good.sum(), 3, 30))
        for flagged, paint in ((False, COLORS["bp"]), (True, COLORS["flag"])):
            rows = good & ((status != 0) == flagged)
            if rows.any():
                name = f"{rows.sum():,} flagged in xp_status" if flagged else f"{rows.sum():,} without flags"
                axes.scatter(color[rows], mag[rows], s=size, color=paint, alpha=0.6, lw=0, label=name, rasterized=True)
        if (status[good] != 0).any():
            axes.legend(loc="best", frameon=False, markerscale=2)
    axes.set_xlim(low - span / 4, high + span / 4)
    axes.invert_yaxis()
    axes.set(xlabel=f"{blue} \u2212 {red} [mag]", ylabel=f"{middle} [mag]", title=_title(label, int(good.sum())))
    return figure


def plot_passbands(passbands: Passband | PassbandSet | Sequence[Passband | PassbandSet]) -> Figure:
    """Transmission curves with their names, a panel for each set; grey is where XP does not see.

    Passbands by themselves share a panel. Raises ValueError for none, and for too many panels.
    """
    given = [passbands] if isinstance(passbands, Passband | PassbandSet) else list(passbands)
    alone = [one for one in given if isinstance(one, Passband)]
    panels = [(one.label, list(one), one.meta) for one in given if isinstance(one, PassbandSet)]
    if alone:
        panels.insert(0, (alone[0].name if len(alone) == 1 else "passbands", alone, {}))
    if not 0 < len(panels) <= MAX_PASSBANDS:
        raise XpjaxError(f"{len(panels)} sets of passbands to plot; choose 1 to {MAX_PASSBANDS}")
    figure = _figure(9.0, 2.7 * len(panels) + 0.5)
    bands = [band for _, several, _ in panels for band in several]
    spans = [_bright(band) for band in bands]
    low = min([XP_RANGE[0], *(span[0] for span in spans)])
    high = max([XP_RANGE[1], *(span[1] for span in spans)])
    margin = 0.02 * (high - low)
    limits = (low - margin, high + margin)
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, several, meta) in zip(rows, panels, strict=True):
        for side in ((limits[0], XP_RANGE[0]), (XP_RANGE[1], limits[1])):
            axes.axvspan(*side, color="0.88", lw=0, zorder=0)
        _curves(axes, several, limits)
        kind = ", ".join(dict.fromkeys(str(band.meta["kind"]) for band in several if "kind" in band.meta))
        axes.set_title(label, fontsize=11, loc="left", fontweight="bold")
        axes.set_title(kind or str(meta.get("kind", "")), fontsize=9, loc="right", color="0.4")
        axes.set(xlim=limits, ylabel="Transmission")
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xlabel("Wavelength [nm]")
    return figure


def _bright(band: Passband) -> tuple[float, float]:
    """Where a passband exceeds a thousandth of its peak [nm]."""
    bright = band.wavelength[np.flatnonzero(band.transmission > 1e-3 * band.transmission.max())]
    return float(bright[0]), float(bright[-1])


def _curves(axes: Axes, bands: Sequence[Passband], limits: tuple[float, float]) -> None:
    """Curves colored blue to red by their mean wavelength, each with its name above, on as many lines as they need."""
    top = max(float(band.transmission.max()) for band in bands)
    upright = len(bands) > 14
    size = 8.0 if len(bands) <= 14 else 6.5 if len(bands) <= 36 else 5.0
    # Widths of the names, in wavelength: the panel is about 8 inches wide, a letter 0.6 of the size.
    letter = 0.62 * size / 72 / 8.0 * (limits[1] - limits[0])
    ends: list[float] = []
    for band in sorted(bands, key=mean_wavelength):
        center = mean_wavelength(band)
        color = _spectral(center)
        axes.fill_between(band.wavelength, band.transmission, color=color, alpha=0.22, lw=0)
        axes.plot(band.wavelength, band.transmission, color=color, lw=1.2)
        half = 0.5 * letter * (2.2 if upright else len(band.name) + 1.5)
        place = float(np.clip(center, limits[0] + half, limits[1] - half))
        line = next((k for k, end in enumerate(ends) if place - half >= end), len(ends))
        if line == len(ends):
            ends.append(0.0)
        ends[line] = place + half
        height = 0.17 if upright else 0.09
        axes.text(
            place,
            top * (1.04 + height * line),
            band.name,
            rotation=90 if upright else 0,
            fontsize=size,
            color=[0.75 * c for c in color[:3]],
            ha="center",
            va="bottom",
        )
    longest = max(len(band.name) for band in bands)
    room = (0.17 if upright else 0.09) * (len(ends) - 1) + (0.012 * size * longest * 0.55 if upright else 0.1)
    axes.set_ylim(0, top * (1.06 + room))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 1.001 * top])


def _spectral(wavelength: float) -> tuple[float, ...]:
    """A color from blue to red for a wavelength [nm] in XP's range; RGBA."""
    import matplotlib as mpl

    place = (wavelength - XP_RANGE[0]) / (XP_RANGE[1] - XP_RANGE[0])
    return tuple(mpl.colormaps["turbo"](float(np.clip(place, 0.05, 0.95))))


def plot_grid(grid: StellarGrid) -> Figure:
    """Spectra of a grid along each label, the others at the node nearest their middle with a spectrum, and its holes.

    The map of the first two labels shows at each node the share of spectra over the further labels.
    """
    flux, holes = np.asarray(grid.flux), grid.holes
    n_label = len(grid.names)
    several = n_label > 1
    figure = _figure(9.0, 2.4 * n_label + 3.2 * several + 0.4)
    rows = figure.subplots(n_label + several, 1, squeeze=False, height_ratios=[2.4] * n_label + [3.2] * several)[:, 0]
    middle = (np.array(grid.shape) - 1) / 2
    there = np.argwhere(~holes)
    center = there[np.argmin((((there - middle) / np.array(grid.shape)) ** 2).sum(axis=1))]
    axis_name = "Coefficient" if grid.sampling == "coefficients" else "Wavelength [nm]"
    for k, (name, axes) in enumerate(zip(grid.names, rows, strict=False)):
        index = tuple(slice(None) if j == k else i for j, i in enumerate(center))
        lines, node = flux[index], np.asarray(grid.nodes[k])
        shown = np.flatnonzero(~holes[index])
        shown = shown[np.unique(np.linspace(0, len(shown) - 1, min(len(shown), MAX_LINES)).astype(int))]
        for i in shown:
            color = _spectral(XP_RANGE[0] + (XP_RANGE[1] - XP_RANGE[0]) * (1 - i / max(len(node) - 1, 1)))
            axes.plot(grid.wavelength, lines[i], color=color, lw=0.9, label=f"{node[i]:g}")
        fixed = ", ".join(
            f"{other} {grid.nodes[j][i]:g}"
            for j, (other, i) in enumerate(zip(grid.names, center, strict=True))
            if j != k
        )
        axes.set_title(f"along {name}", fontsize=11, loc="left", fontweight="bold")
        axes.set_title(fixed, fontsize=9, loc="right", color="0.4")
        columns = 1 + len(shown) // 9
        axes.legend(fontsize=6.5, ncols=columns, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.set(xlabel=axis_name, ylabel="Flux / mean")
        axes.margins(x=0.01)
    if several:
        share = (~holes).mean(axis=tuple(range(2, n_label)))
        x, y = (np.asarray(node) for node in grid.nodes[:2])
        # Drawn by place, so that uneven steps are as wide as others.
        image = rows[-1].imshow(share.T, origin="lower", aspect="auto", vmin=0, vmax=1, cmap="viridis")
        for axis, node in ((rows[-1].xaxis, x), (rows[-1].yaxis, y)):
            ticks = np.unique(np.linspace(0, len(node) - 1, min(len(node), 12)).astype(int))
            axis.set_ticks(ticks, [f"{node[i]:g}" for i in ticks])
        rows[-1].set(xlabel=grid.names[0], ylabel=grid.names[1])
        title = f"{int((~holes).sum()):,} spectra, {int(holes.sum()):,} holes"
        rows[-1].set_title(title, fontsize=11, loc="left", fontweight="bold")
        figure.colorbar(image, ax=rows[-1], label="Share of nodes with a spectrum", pad=0.02)
    return figure


def magnitude_bands(catalogue: Catalogue) -> dict[str, list[str]]:
    """Bands that have magnitudes, by system label: `Sdss_mag_g` gives {'Sdss': ['g']}."""
    bands: dict[str, list[str]] = {}
    for name in catalogue.columns:
        label, found, band = name.partition("_mag_")
        if found and not band.startswith("error_"):
            bands.setdefault(label, []).append(band)
    return bands


def _catalogue(result: Any) -> Catalogue:
    return result if isinstance(result, Catalogue) else result.catalogue(None)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _bracket(unit: str) -> str:
    """A unit as an axis shows it: `W m-2 nm-1` gives ` [W m$^{-2}$ nm$^{-1}$]`."""
    from astropy.units import Unit

    if not unit:
        return ""
    known = Unit(unit, parse_strict="silent")
    text = known.to_string("latex_inline") if type(known).__name__ != "UnrecognizedUnit" else unit
    return f" [{text}]"


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


def _curves_of(system: PhotometricSystem) -> Sequence[Passband]:
    """Its bands' curves; recovered now, which takes seconds, where nothing is known but projections."""
    try:
        return curves_of(system)
    except ValueError:
        return recover_passbands(system)


def _bands(axes: Axes, bands: Sequence[Passband]) -> None:
    """A strip with passbands, colored blue to red, and their names where they are few."""
    for band in bands:
        wavelength, curve = band.wavelength, band.transmission
        center = np.trapezoid(wavelength * curve, wavelength) / np.trapezoid(curve, wavelength)
        color = _spectral(float(center))
        axes.fill_between(wavelength, curve, color=color, alpha=0.35, lw=0)
        axes.plot(wavelength, curve, color=color, lw=0.8)
        if len(bands) <= 12:
            axes.text(center, 1.1, band.name, rotation=90, fontsize=6, ha="center", va="bottom")
    axes.set(ylim=(0, 2.2 if len(bands) <= 12 else 1.1), yticks=[])
    axes.spines[["left", "right", "top"]].set_visible(False)


def _color_bands(names: Sequence[str]) -> tuple[str, str, str]:
    """Blue and red band of a color, and the band of the magnitude: familiar ones, or the first, last and middle."""
    survey = ("JPLUS", "SDSS")
    bare = {name[0] if name[1:] in survey else name: name for name in names}
    for bands in FAMILIAR:
        if all(band in bare for band in bands):
            return bare[bands[0]], bare[bands[1]], bare[bands[2]]
    return names[0], names[-1], names[len(names) // 2]


def _title(label: str, n: int) -> str:
    return f"{label}: {n:,} sources"
