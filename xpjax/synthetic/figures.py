"""Figures of photometry and of passbands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.constants import XP_RANGE
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.core.types import AnyTable
from xpjax.io.catalogue import columns_of
from xpjax.io.figures import COLORS, CYCLE, between, new_figure, some_of, spectral_color, styled
from xpjax.synthetic.passband import Passband, PassbandSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PASSBANDS = 12
MARKERS = "osD^vP"
DASHES = ("-", "--", ":", "-.")
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


@styled
def plot_photometry(
    photometry: AnyTable,
    bands: Sequence[str] | None = None,
    limits: Sequence[float] | None = None,
    sources: Sequence[int] | None = None,
) -> Figure:
    """Plot a color-magnitude diagram; flagged sources stand out, and sources that are not shown are counted.

    Many sources are drawn as a density, and one band gives a histogram.

    Parameters
    ----------
    photometry : Photometry, astropy.table.Table, pandas.DataFrame, pyarrow.Table, str or Path
        Magnitudes as `xpjax.photometry` gives them, a table with columns named like `Sdss_mag_g` [mag], or its file.
    bands : sequence of str, optional
        Blue and red band of the color, and the band of the magnitude; or one band, for a histogram. By default
        familiar ones of the first system.
    limits : (2,) sequence of float [mag], optional
        Lowest and highest color, or magnitude of a histogram; by default those of 99.8 % of the sources and a margin.
    sources : sequence of int, optional
        The source_id of each source to plot; by default all.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; save it with `figure.savefig("name.png")`.

    Raises
    ------
    XpjaxError
        If there are no magnitudes, rows, such bands or sources, or no source with the color and the magnitude.

    Examples
    --------
    >>> stars = xpjax.photometry(xpjax.simulate_sources(5, seed=1), "SDSS")
    >>> xpjax.plot.plot_photometry(stars).axes[0].get_ylabel()
    'r [mag]'
    >>> xpjax.plot.plot_photometry(stars, ["u", "z", "g"]).axes[0].get_xlabel()
    'u − z [mag]'
    """
    catalogue = _some_sources(columns_of(photometry), sources)
    label, chosen = _bands_to_plot(magnitude_bands(catalogue), bands)
    magnitude = [np.asarray(catalogue.columns[f"{label}_mag_{name}"], np.float64) for name in chosen]
    figure = new_figure(6.4, 6.4 if len(chosen) > 1 else 4.4)
    axes = figure.subplots()
    if len(chosen) == 1:
        finite = magnitude[0][np.isfinite(magnitude[0])]
        if not len(finite):
            raise XpjaxError(f"no source has {chosen[0]} of {label}")
        shown = finite[between(finite, limits, f"magnitude {chosen[0]}")]
        axes.hist(shown, bins="auto", color=COLORS["bp"])
        axes.set(xlabel=f"{chosen[0]} [mag]", ylabel="Number of sources")
        axes.set_title(f"{label}: {some_of(len(shown), len(catalogue))}")
        return figure

    blue, red, middle = chosen
    color, mag = magnitude[0] - magnitude[1], magnitude[2]
    good = np.isfinite(color) & np.isfinite(mag)
    if not good.any():
        raise XpjaxError(f"no source has both {blue} - {red} and {middle} of {label}")
    # The far tails of faint sources would squeeze everything else.
    low, high = np.percentile(color[good], [0.1, 99.9])
    margin = max(high - low, 0.1) / 4
    window = tuple(map(float, limits)) if limits is not None else (float(low - margin), float(high + margin))
    seen = good.copy()
    seen[good] = between(color[good], window, f"color {blue} - {red}")
    if seen.sum() > DENSE:
        density = axes.hexbin(color[seen], mag[seen], gridsize=120, bins="log", mincnt=1, cmap="cividis", lw=0.1)
        figure.colorbar(density, ax=axes, label="Number of sources", pad=0.02)
    else:
        flagged = np.asarray(catalogue.columns.get("xp_status", np.zeros(len(color)))) != 0
        _points(axes, color[seen], mag[seen], flagged[seen])
    axes.set_xlim(*window)
    axes.invert_yaxis()
    axes.set(xlabel=f"{blue} \u2212 {red} [mag]", ylabel=f"{middle} [mag]")
    axes.set_title(f"{label}: {some_of(int(seen.sum()), len(catalogue))}")
    return figure


def _some_sources(catalogue: Catalogue, sources: Sequence[int] | None) -> Catalogue:
    """The rows of chosen sources. Raises XpjaxError for a table without magnitudes or rows, and unknown sources."""
    if not magnitude_bands(catalogue):
        raise XpjaxError("no photometry to plot: expected columns named like `Sdss_mag_g`")
    if not len(catalogue):
        raise XpjaxError("no sources to plot: the table has no rows")
    if sources is None:
        return catalogue
    if "source_id" not in catalogue.columns:
        raise XpjaxError("sources to plot are named by source_id, and the table has no column source_id")
    ids = np.asarray(catalogue.columns["source_id"])
    unknown = np.setdiff1d(np.asarray(sources, np.int64), ids)
    if len(unknown):
        raise XpjaxError(f"no source {', '.join(map(str, unknown[:5]))} among {len(ids):,}")
    return catalogue[np.isin(ids, np.asarray(sources, np.int64))]


def _bands_to_plot(known: dict[str, list[str]], bands: Sequence[str] | None) -> tuple[str, list[str]]:
    """The system and its bands that are plotted: one, or two of a color and one of the magnitude. Raises XpjaxError."""
    if bands is None:
        label, names = next(iter(known.items()))
        return label, list(color_bands(names)) if len(names) > 1 else names
    if len(bands) not in (1, 3):
        raise XpjaxError(f"{len(bands)} bands to plot; name one, or three: blue and red of a color, and the magnitude")
    for label, names in known.items():
        if set(bands) <= set(names):
            return label, list(bands)
    there = "; ".join(f"{label}: {', '.join(names)}" for label, names in known.items())
    raise XpjaxError(f"no system has {', '.join(bands)}; there are {there}")


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


@styled
def plot_light_curve(curve: Any) -> Figure:
    """A light curve (`LightCurve`): magnitudes with errors against time, or against phase, twice over.

    Raises XpjaxError where there is nothing to draw.
    """
    if not np.isfinite(curve.magnitude).any():
        raise XpjaxError(f"source {curve.source_id}: no magnitudes to plot")
    figure = new_figure(8.0, 5.0)
    axes = figure.subplots()
    phase, n_band = curve.phase, len(curve.names)
    bottom, top = _magnitude_range(curve)
    for k, band in enumerate(curve.names):
        color = spectral_color(XP_RANGE[0] + (XP_RANGE[1] - XP_RANGE[0]) * k / max(n_band - 1, 1))
        y = np.asarray(curve.magnitude[:, k], float)
        error = None if curve.magnitude_error is None else np.nan_to_num(np.asarray(curve.magnitude_error[:, k], float))
        style: dict[str, Any] = {"fmt": MARKERS[k % len(MARKERS)], "ms": 3, "lw": 0.8, "color": color}
        for turn in (0.0,) if phase is None else (0.0, 1.0):
            x = curve.time if phase is None else phase + turn
            axes.errorbar(x, y, error, label=band if turn == 0 else None, **style)
    axes.set_ylim(bottom, top)
    told = f", period {curve.period:.7g} d" if phase is not None else ""
    magnitude = np.asarray(curve.magnitude, float)
    outside = int(((magnitude > bottom) | (magnitude < top)).sum())
    told += f"; {outside:,} magnitudes with errors above {LARGEST_BAR:g} mag outside" if outside else ""
    what = "bins" if curve.number is not None else "transits"
    axes.set_title(f"Gaia {curve.source_id}: {len(curve):,} {what}{told}")
    axes.set(xlabel="BJD (TCB) \u2212 2455197.5 [d]" if phase is None else "Phase", ylabel="Magnitude [mag]")
    bars = "\u00b11 standard error" if curve.magnitude_error is not None else None
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title=bars)
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


@styled
def plot_passbands(
    passbands: Passband | PassbandSet | Sequence[Passband | PassbandSet],
    limits: Sequence[float] | None = None,
    together: bool = False,
) -> Figure:
    """Plot transmission curves with their names, a panel for each set; gray marks where XP does not see.

    Parameters
    ----------
    passbands : Passband, PassbandSet or sequence of these
        At most 12 sets; passbands outside a set share a panel.
    limits : (2,) sequence of float [nm], optional
        Lowest and highest wavelength; by default those of all curves and of XP.
    together : bool
        Draw the sets over each other in one panel, each set in a color of its own.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; save it with `figure.savefig("name.png")`.

    Raises
    ------
    XpjaxError
        If there is nothing to plot, nothing within the limits, or too many sets.

    Examples
    --------
    >>> figure = xpjax.plot.plot_passbands(xpjax.load_passbands("sdss2010:g,r,i"))
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['g', 'r', 'i']
    >>> both = [xpjax.load_passbands("sdss2010:g,r,i"), xpjax.load_passbands("PanSTARRS1:gp,rp,ip")]
    >>> len(xpjax.plot.plot_passbands(both, together=True).axes)
    1
    """
    given = [passbands] if isinstance(passbands, Passband | PassbandSet) else list(passbands)
    alone = [one for one in given if isinstance(one, Passband)]
    panels = [(one.label, list(one), one.meta) for one in given if isinstance(one, PassbandSet)]
    if alone and together:
        panels = [(one.name, [one], {}) for one in alone] + panels
    elif alone:
        panels.insert(0, (alone[0].name if len(alone) == 1 else "passbands", alone, {}))
    if not 0 < len(panels) <= MAX_PASSBANDS:
        raise XpjaxError(f"{len(panels)} sets of passbands to plot; choose 1 to {MAX_PASSBANDS}")
    window = _window([band for _, several, _ in panels for band in several], limits)
    if together:
        return _together([(label, several) for label, several, _ in panels], window)
    figure = new_figure(9.0, 2.7 * len(panels) + 0.5)
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, several, meta) in zip(rows, panels, strict=True):
        _unseen(axes, window)
        within = [band for band in several if _bright(band)[-1] >= window[0] and _bright(band)[0] <= window[1]]
        if within:
            _curves(axes, within, window)
        kind = ", ".join(dict.fromkeys(str(band.meta["kind"]) for band in several if "kind" in band.meta))
        counted = [some_of(len(within), len(several), "bands")] * (len(within) < len(several))
        axes.set_title(label, fontsize=11, loc="left", fontweight="bold")
        told = ", ".join([*counted, kind or str(meta.get("kind", ""))])
        axes.set_title(told.rstrip(", "), fontsize=9, loc="right", color="0.4")
        axes.set(xlim=window, ylabel="Transmission")
    rows[-1].set_xlabel("Wavelength [nm]")
    return figure


def _bright(band: Passband) -> np.ndarray:
    """The wavelengths where a passband exceeds a thousandth of its peak."""
    return np.asarray(band.wavelength[band.transmission > 1e-3 * band.transmission.max()])


def _window(bands: Sequence[Passband], limits: Sequence[float] | None) -> tuple[float, float]:
    """The range of wavelengths of a figure: the limits, or that of the curves and of XP. Raises XpjaxError."""
    bright = [_bright(band) for band in bands]
    if limits is not None:
        between(np.concatenate(bright), limits, "wavelength of a passband")
        return float(limits[0]), float(limits[1])
    low = min(XP_RANGE[0], *(float(part[0]) for part in bright))
    high = max(XP_RANGE[1], *(float(part[-1]) for part in bright))
    margin = 0.02 * (high - low)
    return low - margin, high + margin


def _unseen(axes: Axes, window: tuple[float, float]) -> None:
    """Gray where XP does not see."""
    for low, high in ((window[0], min(XP_RANGE[0], window[1])), (max(XP_RANGE[1], window[0]), window[1])):
        if low < high:
            axes.axvspan(low, high, color="0.88", lw=0, zorder=0)


def _together(sets: Sequence[tuple[str, Sequence[Passband]]], window: tuple[float, float]) -> Figure:
    """Curves of several sets in one panel: a color and a dash for each set, told in the legend."""
    figure = new_figure(9.0, 4.2)
    axes = figure.subplots()
    _unseen(axes, window)
    for k, (label, several) in enumerate(sets):
        style: dict[str, Any] = {"color": CYCLE[k % len(CYCLE)], "ls": DASHES[k % len(DASHES)]}
        names = ", ".join(band.name for band in several[:6]) + ", ..." * (len(several) > 6)
        for i, band in enumerate(several):
            told = label if names == label else f"{label}: {names}"
            axes.plot(band.wavelength, band.transmission, **style, label=told if not i else None)
    axes.set(xlim=window, ylim=(0, None), xlabel="Wavelength [nm]", ylabel="Transmission")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


@styled
def plot_passband_fit(fit: Any) -> Figure:
    """A fitted curve (`PassbandFit`) over the one it started from, with its error, and the change beneath.

    Raises XpjaxError for a fit without its errors, read from a file of an earlier version.
    """
    if fit.start is None or fit.transmission_error is None:
        raise XpjaxError("this fit has no curve at its start and no errors of the curve: fit anew to plot it")
    x, fitted = fit.passband.wavelength, fit.passband.transmission
    # A passband times a constant is the same passband: the start is drawn at the level of the fit.
    start = fit.start * np.trapezoid(fitted, x) / np.trapezoid(fit.start, x)
    figure = new_figure(7.5, 6.0)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for axes, base in ((top, np.zeros_like(x)), (bottom, start)):
        low, high = (fitted + sign * fit.transmission_error - base for sign in (-1, 1))
        axes.fill_between(x, low, high, color=COLORS["bp"], alpha=0.3, lw=0, label="\u00b11 standard error")
        axes.plot(x, fitted - base, color=COLORS["bp"], label="fitted")
        axes.plot(x, start - base, color="0.3", ls="--", label="start")
    top.set(ylabel="Transmission", ylim=(0, None))
    top.legend()
    told = f"{fit.passband.name}: effective wavelength {fit.effective_wavelength:.2f} \u00b1 "
    top.set_title(f"{told}{fit.effective_wavelength_error:.2f} nm, {fit.n_star:,} stars")
    bottom.set(xlabel="Wavelength [nm]", ylabel="Fitted minus start")
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
