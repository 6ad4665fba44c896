"""Parts of a report's figures: panels, points or their density, trends, histograms, maps of the sky."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.layout import WIDTH, Figure
from xpjax.survey.report.statistics import Missing, gaussian, spread, trend

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection, PolyCollection

T = TypeVar("T")

BLUE, RED, DARK, GREEN = "#0072B2", "#D55E00", "#1f3a5f", "#009E73"
"""Okabe & Ito's (2008) colors, told apart with any color vision, and a dark neutral one."""
FITTED, HELD_OUT = BLUE, RED
"""The same two colors in every figure."""
PAINTS = (BLUE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "black")
"""Of kinds, such as detectors, without the red of what is flagged."""
DRAWN = 200_000
"""More measurements than this are thinned out at random before they are drawn."""
MOST_BANDS = 24
MMAG = 1e3


def panels(figure: matplotlib.figure.Figure, n: int, most: int = 3, height: float = 2.6, **shared: Any) -> list[Axes]:
    """So many panels in rows of `most`, on a figure as high as they need; fewer than a row keep their width."""
    most = 2 if n == 4 else most
    columns, rows = min(n, most), math.ceil(n / most)
    figure.set_size_inches(max(WIDTH * columns / most, WIDTH / 2), height * rows + 0.2)
    return [figure.add_subplot(rows, columns, k + 1, **shared) for k in range(n)]


def rows_of_panels(figure: matplotlib.figure.Figure, rows: int, widths: Sequence[float], height: float) -> np.ndarray:
    """Panels (rows, columns) of given relative widths, across the page."""
    figure.set_size_inches(WIDTH if len(widths) > 1 else 0.7 * WIDTH, height * rows + 0.2)
    return figure.subplots(rows, len(widths), squeeze=False, width_ratios=[*widths])


def chunks(things: Sequence[T], size: int) -> list[tuple[T, ...]]:
    """The things in as few groups of like size as hold at most `size` each, for figures that fit on a page."""
    n = math.ceil(len(things) / size)
    edges = [round(k * len(things) / max(n, 1)) for k in range(n + 1)]
    return [tuple(things[a:b]) for a, b in itertools.pairwise(edges)]


def part_of(name: str, part: Sequence[Any], whole: Sequence[Any]) -> str:
    """The name of a figure; where it shows a part of several bands, with these."""
    return name if len(part) == len(whole) else f"{name}, {', '.join(map(label_of, part))}"


def in_parts(
    name: str,
    bands: Sequence[str],
    most: int,
    caption: str,
    draw: Callable[[tuple[str, ...], matplotlib.figure.Figure], None],
) -> list[Figure]:
    """Figures of at most so many bands each, whose bands `draw` gets."""
    return [Figure(part_of(name, part, bands), caption, functools.partial(draw, part)) for part in chunks(bands, most)]


def dress(axes: Axes, x: str, y: str = "", title: str = "", legend: bool = True) -> None:
    """Labels, a title, and a legend where something has a label."""
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, fontsize=9.5)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend()


def shared_legend(figure: matplotlib.figure.Figure, axes: Axes) -> None:
    """One legend above all panels, with the labels of one of them."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        rows = math.ceil(1.6 * len(labels) / figure.get_figwidth())
        figure.legend(handles, labels, loc="outside upper center", ncols=math.ceil(len(labels) / rows))


def color_bar(axes: Axes, shown: Any, label: str, extend: str = "both") -> None:
    """A color bar as high as the panel."""
    engine = axes.figure.get_layout_engine()
    if engine is not None:
        engine.set(w_pad=0.15)  # type: ignore[call-arg]  # [in]: what it overlooks of bars of panels with equal scales
    axes.figure.colorbar(shown, cax=axes.inset_axes((1.03, 0.0, 0.05, 1.0)), label=label, extend=extend)


def is_left(axes: Axes) -> bool:
    """Whether a panel is the first of its row, where the label of y stands."""
    place = axes.get_subplotspec()
    return place is None or place.is_first_col()


def of_the_band(band: str) -> str:
    """The band in a sentence, nothing for one without a name."""
    return f" of band {band}" if band else ""


def label_of(band: str) -> str:
    """The name of a band in tables, "all" for none."""
    return str(band) or "all"


def plain(name: str, after: str = "") -> str:
    """A name in a figure, where a dollar sign is no formula, and what follows it; nothing for none."""
    return str(name).replace("$", r"\$") + after if name else ""


def some_of(what: str, names: Sequence[str], whole: int, most: int = 5) -> str:
    """How many of them are meant, and which, the first few by name: "Flats of 28 of 40: g 13, g 14, ..."."""
    return f"{what} of {len(names)} of {whole}: {', '.join(names[:most])}{', ...' if len(names) > most else ''}"


def rounded_text(value: float, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}" if np.isfinite(value) else "-"


def log_scale(axes: Axes) -> None:
    """A logarithmic scale of y with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def scale_about(axes: Axes, limit: float, top: float) -> None:
    """A scale of y that is linear up to the limit, which dotted lines show, and logarithmic up to the top."""
    axes.set_yscale("symlog", linthresh=limit, linscale=1.5)
    outer = [10.0**k for k in range(-3, 6) if 1.5 * limit < 10.0**k <= 1.5 * top]
    ticks = [float(f"{limit / 2:.1g}"), *outer]
    axes.set_yticks([*(-tick for tick in ticks), 0.0, *ticks])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    for edge in (-limit, limit):
        axes.axhline(edge, color="0.5", lw=0.8, ls=":")


def ends_of(values: np.ndarray, part: float = 99.0) -> tuple[float, float]:
    """The range that so many percent of the values lie in."""
    low, high = np.percentile(values, [50 - part / 2, 50 + part / 2])
    return float(low), float(high)


def since(times: np.ndarray) -> tuple[np.ndarray, str]:
    """Times [d] counted from a round one, and the label of their axis."""
    known = times[np.isfinite(times)]
    start = math.floor(known.min()) if len(known) and known.min() > 1e4 else 0
    return times - start, f"time - {start} [d]" if start else "time [d]"


def limits_about(values: np.ndarray, sigmas: float = 5.0) -> tuple[float, float]:
    """About the median of the finite values, `sigmas` of 1.48 MAD to each side."""
    values = values[np.isfinite(values)]
    middle = float(np.median(values)) if len(values) else 0.0
    half = float(np.fmax(sigmas * spread(values)[0], 1e-3)) if len(values) else 1.0
    return middle - half, middle + half


def both_ways(values: np.ndarray, part: float = 98.0) -> float:
    """The limit of a color scale about zero that so many percent of the finite values lie within."""
    values = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(values, part)), 1e-3) if len(values) else 1.0


def draw_density(axes: Axes, x: np.ndarray, y: np.ndarray, low: float, high: float, paint: str = BLUE) -> None:
    """Points, or their density where there are many, between low and high."""
    good = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(good) > DRAWN:
        good = np.random.default_rng(0).choice(good, DRAWN, replace=False)
    good = good[(y[good] >= low) & (y[good] <= high)]
    if len(good) > 2000:
        box = (float(x[good].min()), float(x[good].max()), low, high)
        axes.hexbin(x[good], y[good], gridsize=60, extent=box, bins="log", mincnt=1, cmap="Greys", linewidths=0.1)
    else:
        axes.scatter(x[good], y[good], s=float(np.clip(2000 / max(len(good), 1), 4, 25)), color=paint, alpha=0.5, lw=0)
    axes.set_ylim(low, high)


def draw_trend(
    axes: Axes, x: np.ndarray, y: np.ndarray, paint: str = RED, label: str = "", scatter: bool = True
) -> None:
    """Medians in bins with their errors, and 1.48 MAD as a band; nothing where x has no spread."""
    try:
        found = trend(x, y)
    except Missing:
        return
    if scatter:
        low, high = found.median - found.scatter, found.median + found.scatter
        axes.fill_between(found.x, low, high, color=paint, alpha=0.15, lw=0)
    axes.errorbar(found.x, found.median, found.error, color=paint, lw=1, marker="o", ms=2.5, label=label or None)


def draw_curves(axes: Axes, at: np.ndarray, curves: np.ndarray, error: np.ndarray, label: str = "") -> None:
    """The median of curves (n_curve, n), the error (n,) of one, and the range of 68 % of them where there are some."""
    middle = np.median(curves, axis=0)
    if len(curves) > 2:
        axes.fill_between(at, *np.percentile(curves, [16, 84], axis=0), color=FITTED, alpha=0.15, lw=0)
    axes.fill_between(at, middle - error, middle + error, color=FITTED, alpha=0.35, lw=0)
    axes.plot(at, middle, color=FITTED, lw=1.5, label=label or None)


def of_kinds(kinds: np.ndarray) -> list[tuple[np.ndarray, str, str]]:
    """Which values (n,) are of each kind, with its color and name; where there is one, or too many, all and no name."""
    names = np.unique(kinds).tolist()
    if not 1 < len(names) <= len(PAINTS):
        return [(np.ones(len(kinds), bool), BLUE, "")]
    return [(kinds == name, paint, plain(name)) for name, paint in zip(names, PAINTS, strict=False)]


def draw_errors(
    axes: Axes, x: np.ndarray, y: np.ndarray, error: np.ndarray, kinds: Iterable[tuple[np.ndarray, str, str]]
) -> None:
    """Values with their errors: which, color and label of each kind."""
    size = float(np.clip(60 / np.sqrt(len(y) + 1), 1.5, 4))
    for which, paint, label in kinds:
        rows = which & np.isfinite(x + y)
        if rows.any():
            axes.errorbar(x[rows], y[rows], error[rows], fmt="o", ms=size, lw=0.6, color=paint, label=label or None)


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


# --- the sky ----------------------------------------------------------------------------------------------------------


def sky_middle(ra: np.ndarray, dec: np.ndarray) -> float:
    """The right ascension [deg] about which a map of these places is drawn; fields across 0 h are whole."""
    good = np.isfinite(ra + dec)
    a, d = np.radians(ra[good]), np.radians(dec[good])
    return float(np.degrees(np.arctan2((np.cos(d) * np.sin(a)).sum(), (np.cos(d) * np.cos(a)).sum())) % 360)


def on_map(ra: np.ndarray, dec: np.ndarray, middle: float) -> tuple[np.ndarray, np.ndarray]:
    """Places of the sinusoidal projection (equal areas): (ra - middle) cos(dec), and dec [deg]."""
    return ((ra - middle + 180) % 360 - 180) * np.cos(np.radians(dec)), dec


def map_height(x: np.ndarray, y: np.ndarray) -> float:
    """Height of a row of two maps of these places."""
    wide, high = (float(np.ptp(values[np.isfinite(x + y)])) for values in (x, y))
    return 0.8 + 3.1 * float(np.clip(high / max(wide, 1e-9), 0.25, 1.2))


def dress_map(axes: Axes, middle: float, title: str = "") -> None:
    """Labels of a map of the sky, East to the left, equal scales."""
    axes.set_aspect("equal", adjustable="datalim")
    axes.invert_xaxis()
    dress(axes, f"(RA - {middle:.2f}\u00b0) cos Dec [deg]", "Dec [deg]" if is_left(axes) else "", title)


def draw_maps(
    points: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    label: str,
    figure: matplotlib.figure.Figure,
    most: int = 1000,
) -> None:
    """A map for each band: of its right ascensions, declinations [deg] and values, single points where they are few.

    most: so many points are few; of more, medians in hexagons are drawn.
    """
    whole = {band: [a[np.isfinite(every[0] + every[1] + every[2])] for a in every] for band, every in points.items()}
    ra, dec = (np.concatenate([each[k] for each in whole.values()]) for k in (0, 1))
    middle = sky_middle(ra, dec)
    height = map_height(*on_map(ra, dec, middle))
    for (band, (a, d, value)), axes in zip(whole.items(), panels(figure, len(whole), 2, height), strict=True):
        x, y = on_map(a, d, middle)
        shown: PolyCollection | PathCollection
        if len(x) > most:
            wide, high = np.maximum([np.ptp(x), np.ptp(y)], 1e-3 * max(np.ptp(x), np.ptp(y), 1e-9))
            cells = np.sqrt(np.clip(len(x) / 20, 64, 3600) * wide / high)  # along x, of like width and height
            size = (int(np.clip(cells, 4, 90)), int(np.clip(cells * high / wide / np.sqrt(3), 2, 60)))
            shown = axes.hexbin(x, y, value, gridsize=size, reduce_C_function=np.median, mincnt=3, cmap="RdBu_r")
            limit = both_ways(np.asarray(shown.get_array()))
        else:
            limit, area = both_ways(value, 95), float(np.clip(4000 / max(len(x), 1), 4, 50))
            shown = axes.scatter(x, y, c=value, s=area, cmap="RdBu_r", edgecolors="0.5", linewidths=0.2)
        shown.set_clim(-limit, limit)
        color_bar(axes, shown, label)
        dress_map(axes, middle, plain(band))


def draw_detector(
    axes: Axes, value: np.ndarray, box: np.ndarray, limit: float, title: str, label: str = "mmag", extend: str = "both"
) -> None:
    """Values on the cells of a detector, rows along y, from -limit to limit; box: x, y from..to [pixel]."""
    wide, high = np.ptp(box[:2]), np.ptp(box[2:])
    image = axes.imshow(
        value, origin="lower", extent=tuple(box), cmap="RdBu_r", vmin=-limit, vmax=limit,
        aspect="equal" if 0.25 < wide / high < 4 else "auto",
    )  # fmt: skip
    axes.set_facecolor("0.85")
    axes.tick_params(labelsize=8)
    color_bar(axes, image, label, extend)
    dress(axes, "x [pixel]", "y [pixel]" if is_left(axes) else "", title)


# --- bands ------------------------------------------------------------------------------------------------------------


def shown_bands(evidence: Evidence) -> list[str]:
    """The bands of figures, at most so many as are legible."""
    return evidence.bands[:MOST_BANDS]


def by_band(bands: Sequence[str], make: Callable[[str], T]) -> dict[str, T]:
    """What is made of each band that has what it needs. Raises Missing where none has."""
    found, why = {}, Missing("no band")
    for band in bands:
        try:
            found[band] = make(band)
        except Missing as missing:
            why = missing
    if not found:
        raise why
    return found
