"""Figures of photometry and of passbands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.constants import XP_RANGE
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import columns_of
from xpjax.io.figures import COLORS, new_figure, spectral_color
from xpjax.synthetic.passband import Passband, PassbandSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PASSBANDS = 12
DENSE = 10_000
"""More points than this are drawn as a density."""
LARGEST_BAR = 1.0
"""Errors of magnitudes [mag] from which on they say nothing of an axis."""
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


def plot_photometry(photometry: Any) -> Figure:
    """Plot a color-magnitude diagram of the first system; flagged sources stand out.

    Many sources are drawn as a density, and a system of one band gives a histogram.

    Parameters
    ----------
    photometry : Photometry, astropy.table.Table, pandas.DataFrame, pyarrow.Table, str or Path
        Magnitudes as `xpjax.photometry` gives them, a table with columns named like `Sdss_mag_g` [mag], or its file.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; save it with `figure.savefig("name.png")`.

    Raises
    ------
    XpjaxError
        If there are no magnitudes, no rows, or no source with the color and the magnitude.

    Examples
    --------
    >>> stars = xpjax.photometry(xpjax.simulate_sources(5, seed=1), "SDSS")
    >>> xpjax.plot.plot_photometry(stars).axes[0].get_ylabel()
    'r [mag]'
    """
    catalogue = columns_of(photometry)
    bands = magnitude_bands(catalogue)
    if not bands:
        raise XpjaxError("no photometry to plot: expected columns named like `Sdss_mag_g`")
    if not len(catalogue):
        raise XpjaxError("no sources to plot: the table has no rows")
    label, names = next(iter(bands.items()))
    figure = new_figure(6.4, 6.4)
    axes = figure.subplots()
    magnitude = {name: np.asarray(catalogue.columns[f"{label}_mag_{name}"], np.float64) for name in names}
    if len(names) == 1:
        finite = magnitude[names[0]][np.isfinite(magnitude[names[0]])]
        axes.hist(finite, bins="auto", color=COLORS["bp"])
        axes.set(xlabel=f"{names[0]} [mag]", ylabel="Number of sources", title=f"{label}: {len(finite):,} sources")
        return figure

    blue, red, middle = color_bands(names)
    color, mag = magnitude[blue] - magnitude[red], magnitude[middle]
    good = np.isfinite(color) & np.isfinite(mag)
    if not good.any():
        raise XpjaxError(f"no source has both {blue} - {red} and {middle} of {label}")
    # The far tails of faint sources would squeeze everything else.
    low, high = np.percentile(color[good], [0.1, 99.9])
    margin = max(high - low, 0.1) / 4
    if good.sum() > DENSE:
        window = good & (color > low - margin) & (color < high + margin)
        density = axes.hexbin(color[window], mag[window], gridsize=120, bins="log", mincnt=1, cmap="viridis", lw=0.1)
        figure.colorbar(density, ax=axes, label="Number of sources", pad=0.02)
    else:
        flagged = np.asarray(catalogue.columns.get("xp_status", np.zeros(len(color)))) != 0
        _points(axes, color[good], mag[good], flagged[good])
    axes.set_xlim(low - margin, high + margin)
    axes.invert_yaxis()
    axes.set(xlabel=f"{blue} \u2212 {red} [mag]", ylabel=f"{middle} [mag]")
    axes.set_title(f"{label}: {good.sum():,} sources")
    return figure


def _points(axes: Axes, color: np.ndarray, magnitude: np.ndarray, flagged: np.ndarray) -> None:
    """Sources as points, those with flags in a color of their own."""
    size = float(np.clip(20_000 / len(color), 3, 30))
    for rows, paint, what in ((~flagged, "bp", "without flags"), (flagged, "flag", "flagged in xp_status")):
        if rows.any():
            name = f"{rows.sum():,} {what}"
            axes.scatter(
                color[rows], magnitude[rows], s=size, color=COLORS[paint], alpha=0.6, lw=0, label=name, rasterized=True
            )
    if flagged.any():
        axes.legend(loc="best", frameon=False, markerscale=2)


def magnitude_bands(catalogue: Catalogue) -> dict[str, list[str]]:
    """Bands that have magnitudes, by system label: `Sdss_mag_g` gives {'Sdss': ['g']}."""
    bands: dict[str, list[str]] = {}
    for name in catalogue.columns:
        label, found, band = name.partition("_mag_")
        if found and not band.startswith("error_"):
            bands.setdefault(label, []).append(band)
    return bands


def color_bands(names: Sequence[str]) -> tuple[str, str, str]:
    """Blue and red band of a color, and the band of the magnitude: familiar ones, or the first, last and middle."""
    survey = ("JPLUS", "SDSS")
    bare = {name[0] if name[1:] in survey else name: name for name in names}
    for bands in FAMILIAR:
        if all(band in bare for band in bands):
            return bare[bands[0]], bare[bands[1]], bare[bands[2]]
    return names[0], names[-1], names[len(names) // 2]


def plot_light_curve(curve: Any) -> Figure:
    """A light curve (`LightCurve`): magnitudes with errors against time, or against phase, twice over.

    Raises XpjaxError where there is nothing to draw.
    """
    import matplotlib as mpl

    if not np.isfinite(curve.magnitude).any():
        raise XpjaxError(f"source {curve.source_id}: no magnitudes to plot")
    figure = new_figure(8.0, 5.0)
    axes = figure.subplots()
    phase = curve.phase
    for k, band in enumerate(curve.names):
        color = mpl.colormaps["turbo"](0.08 + 0.84 * (k + 0.5) / len(curve.names))
        y = np.asarray(curve.magnitude[:, k], float)
        error = None if curve.magnitude_error is None else np.nan_to_num(np.asarray(curve.magnitude_error[:, k], float))
        style: dict[str, Any] = {"fmt": "o", "ms": 3, "lw": 0.8, "color": color}
        for turn in (0.0,) if phase is None else (0.0, 1.0):
            x = curve.time if phase is None else phase + turn
            axes.errorbar(x, y, error, label=band if turn == 0 else None, **style)
    axes.set_ylim(*_magnitude_range(curve))
    told = f", period {curve.period:.7g} d" if phase is not None else ""
    what = "bins" if curve.number is not None else "transits"
    axes.set_title(f"Gaia {curve.source_id}: {len(curve):,} {what}{told}")
    axes.set(xlabel="BJD (TCB) \u2212 2455197.5 [d]" if phase is None else "Phase", ylabel="Magnitude")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    return figure


def _magnitude_range(curve: Any) -> tuple[float, float]:
    """The faintest and the brightest magnitude of an axis: bars of fluxes near zero, of many magnitudes, leave it."""
    magnitude = np.asarray(curve.magnitude, float)
    errors = np.zeros_like(magnitude) if curve.magnitude_error is None else np.asarray(curve.magnitude_error, float)
    errors = np.nan_to_num(errors)
    shown = np.isfinite(magnitude) & (errors < LARGEST_BAR)
    shown = shown if shown.any() else np.isfinite(magnitude)
    bars = np.minimum(errors[shown], LARGEST_BAR)
    low, high = (magnitude[shown] - bars).min(), (magnitude[shown] + bars).max()
    margin = 0.05 * max(high - low, 0.02)
    return float(high + margin), float(low - margin)


def plot_passbands(passbands: Passband | PassbandSet | Sequence[Passband | PassbandSet]) -> Figure:
    """Plot transmission curves with their names, a panel for each set; gray marks where XP does not see.

    Parameters
    ----------
    passbands : Passband, PassbandSet or sequence of these
        At most 12 sets; passbands outside a set share a panel.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; save it with `figure.savefig("name.png")`.

    Raises
    ------
    XpjaxError
        If there is nothing to plot, or too many sets.

    Examples
    --------
    >>> figure = xpjax.plot.plot_passbands(xpjax.load_passbands("sdss2010:g,r,i"))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['g', 'r', 'i']
    """
    given = [passbands] if isinstance(passbands, Passband | PassbandSet) else list(passbands)
    alone = [one for one in given if isinstance(one, Passband)]
    panels = [(one.label, list(one), one.meta) for one in given if isinstance(one, PassbandSet)]
    if alone:
        panels.insert(0, (alone[0].name if len(alone) == 1 else "passbands", alone, {}))
    if not 0 < len(panels) <= MAX_PASSBANDS:
        raise XpjaxError(f"{len(panels)} sets of passbands to plot; choose 1 to {MAX_PASSBANDS}")
    figure = new_figure(9.0, 2.7 * len(panels) + 0.5)
    bands = [band for _, several, _ in panels for band in several]
    # Where a passband exceeds a thousandth of its peak.
    bright = [band.wavelength[band.transmission > 1e-3 * band.transmission.max()] for band in bands]
    low = min(XP_RANGE[0], *(float(part[0]) for part in bright))
    high = max(XP_RANGE[1], *(float(part[-1]) for part in bright))
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


def _curves(axes: Axes, bands: Sequence[Passband], limits: tuple[float, float]) -> None:
    """Curves colored blue to red by their mean wavelength, each with its name above, on as many lines as they need."""
    top = max(float(band.transmission.max()) for band in bands)
    upright = len(bands) > 14
    size = 8.0 if len(bands) <= 14 else 6.5 if len(bands) <= 36 else 5.0
    # Widths of the names, in wavelength: the panel is about 8 inches wide, a letter 0.6 of the size.
    letter = 0.62 * size / 72 / 8.0 * (limits[1] - limits[0])
    ends: list[float] = []
    for band in sorted(bands, key=lambda band: band.mean_wavelength):
        center = band.mean_wavelength
        color = spectral_color(center)
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
