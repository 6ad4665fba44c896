"""Figures of a survey's report, and the page that holds them: one HTML file, figures inside it as PNG.

A figure that cannot be made is left out, and the page says what it would have needed.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from xpjax.core.errors import say
from xpjax.survey import FrameFlag, RowFlag
from xpjax.survey.report.periods import FALSE_ALARM
from xpjax.survey.report.statistics import (
    PHASES,
    STRONG,
    BandNumbers,
    DifferenceNumbers,
    Evidence,
    Missing,
    band_numbers,
    correlation,
    difference_numbers,
    flat_maps,
    frame_scatters,
    gaussian,
    light_curve,
    line,
    repeatability,
    spread,
    table_of_differences,
    total_error,
    trend,
    variable_stars,
    xpsp_less_scr,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")

BLUE, RED, DARK, GREEN = "#0072B2", "#D55E00", "#1f3a5f", "#009E73"
"""Okabe & Ito's (2008) colors, told apart with any color vision, and a dark neutral one."""
DRAWN = 200_000
"""More measurements than this are thinned out at random before they are drawn."""
MOST_BANDS = 12
AIRMASS = 1.2
"""Of the theory of repeatability, where none is known; the figure then says so."""
MMAG = 1e3


@dataclasses.dataclass(frozen=True)
class Section:
    """One figure of the page: what it shows, the figure or why there is none, and what was found, in words."""

    title: str
    text: str
    figure: Figure | None = None
    missing: str = ""
    found: tuple[str, ...] = ()


def sections(evidence: Evidence) -> list[Section]:
    """All figures, in their order."""
    makers: list[tuple[str, str, Callable[[Evidence], Figure | tuple[Figure, tuple[str, ...]]]]] = [
        ("Residuals", "Model - color term - calibrated magnitude of the standards [mmag]: density, medians of bins of "
         "equal numbers with their errors, and 1.48 MAD as a band.", draw_residuals),
        ("Flats before and after", "Mean residuals of the standards over the detector [mmag]; in the title what "
         "they scatter by beyond their noise.", draw_flats),
        ("Pulls", "Residual over its whole error, standards and stars kept back, beside a unit Gaussian.", draw_pulls),
        ("Zero-points of the nights", f"Zero-points less {_nights_text(evidence)}.", draw_nights),
        ("Histograms of zero-point differences", "Of each exposure or tile, with the Gaussian in their middle.",
         draw_histograms),
        ("Sky maps of zero-point differences", "Each exposure or tile at its place.", draw_maps),
        ("Correlation of bands", f"Of zero-point differences; slopes of pairs with |r| above {STRONG} that chance has "
         f"with a probability below {FALSE_ALARM:g}.", draw_correlation),
        ("Dependence on reddening and R_V", "Zero-point differences against E(B-V) and R_V, with straight lines.",
         draw_reddening),
        ("XPSP - SCR", "Synthetic magnitudes from XP less those of stellar color regression, against color and G, "
         "before and after the correction of spectra.", draw_xpsp),
        ("Repeatability", "Standard deviation of stars seen five times or more against magnitude, over what photons, "
         "sky, read-out and scintillation give.", draw_repeatability),
        ("Light curves", "The stars that vary most, against time and folded; dots with errors, and medians of "
         f"{PHASES} phase bins. Periods are those of one sine (Lomb and Scargle); noise alone has such a peak, "
         f"anywhere in the range searched, with a probability below {FALSE_ALARM:g} (Baluev 2008). Errors are of the "
         "peak's curvature and what the sine leaves; aliases are named where they fit as well at that level. Times as "
         "they are: those that are not barycentric change a period by up to 1e-4 of itself. Eclipsing binaries have "
         "twice the period of their sine.", draw_light_curves),
        ("Stars kept back", "Residuals of standards when they took no part, against magnitude.", draw_held_stars),
        ("Exposures kept back", "Residuals of exposures that took no part: 1.48 MAD of each.", draw_held_frames),
    ]  # fmt: skip
    out = []
    for title, text, maker in makers:
        try:
            made = maker(evidence)
            figure, found = made if isinstance(made, tuple) else (made, ())
            out.append(Section(title, text, figure, found=found))
        except Missing as missing:
            out.append(Section(title, text, missing=str(missing)))
    return out


# --- parts of figures -------------------------------------------------------------------------------------------------


def _figure(columns: int, rows: int, width: float = 3.4, height: float = 2.6) -> tuple[Figure, np.ndarray]:
    """Panels (rows, columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(width * columns, 4.5), height * rows + 0.4), dpi=100, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _panels(n: int, width: float = 3.4, height: float = 2.6, most: int = 3) -> tuple[Figure, list[Axes]]:
    """n panels in rows of `most`; what is left over is hidden."""
    figure, grid = _figure(min(n, most), math.ceil(n / most), width, height)
    axes = grid.ravel().tolist()
    for spare in axes[n:]:
        spare.set_visible(False)
    return figure, axes[:n]


def _label(band: str) -> str:
    return band or "all"


def _told(value: float, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def _limits(values: np.ndarray, sigmas: float = 5.0) -> tuple[float, float]:
    """About the median, `sigmas` of 1.48 MAD to each side."""
    middle = float(np.median(values)) if len(values) else 0.0
    half = float(np.fmax(sigmas * spread(values)[0], 1e-3)) if len(values) else 1.0
    return middle - half, middle + half


def _density(axes: Axes, x: np.ndarray, y: np.ndarray, low: float, high: float, paint: str = BLUE) -> None:
    """Points, or their density where there are many, between low and high."""
    good = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(good) > DRAWN:
        good = np.random.default_rng(0).choice(good, DRAWN, replace=False)
    good = good[(y[good] >= low) & (y[good] <= high)]
    if len(good) > 2000:
        axes.hexbin(x[good], y[good], gridsize=60, bins="log", mincnt=1, cmap="Greys", linewidths=0.1)
    else:
        axes.scatter(x[good], y[good], s=float(np.clip(2000 / max(len(good), 1), 4, 25)), color=paint, alpha=0.5, lw=0)
    axes.set_ylim(low, high)


def _trend(axes: Axes, x: np.ndarray, y: np.ndarray, paint: str = RED, label: str = "") -> None:
    try:
        found = trend(x, y)
    except Missing:
        return
    low, high = found.median - found.scatter, found.median + found.scatter
    axes.fill_between(found.x, low, high, color=paint, alpha=0.15, lw=0)
    axes.errorbar(found.x, found.median, found.error, color=paint, lw=1, marker="o", ms=2.5, label=label or None)


def _gaussian(axes: Axes, values: np.ndarray, paint: str = BLUE, label: str = "", width: float = 5.0) -> None:
    """A histogram and the Gaussian in its middle, with its sigma in the legend."""
    mean, sigma = gaussian(values)
    good = values[np.isfinite(values)]
    if not (np.isfinite(sigma) and sigma > 0):
        axes.hist(good, bins=20, color=paint, alpha=0.5, label=f"{label}, {len(good):,}")
        return
    edges = np.linspace(mean - width * sigma, mean + width * sigma, 51 if len(good) > 300 else 21)
    axes.hist(
        good, bins=edges.tolist(), color=paint, alpha=0.4, label=f"{label} \u03c3 = {sigma:.2f} ({len(good):,})".strip()
    )
    step = edges[1] - edges[0]
    x = np.linspace(edges[0], edges[-1], 300)
    inside = np.count_nonzero(np.abs(good - mean) <= 3 * sigma) / 0.9973
    axes.plot(x, inside * step * np.exp(-0.5 * ((x - mean) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi)), color=paint)


def _bands(evidence: Evidence) -> list[str]:
    return evidence.bands[:MOST_BANDS]


# --- the figures ------------------------------------------------------------------------------------------------------


def draw_residuals(evidence: Evidence) -> Figure:
    """Residuals against magnitude, color, x, y, airmass and time: a row for each band."""
    rows = evidence.rows
    against = {
        "magnitude": rows["magnitude"], "color": rows["color"], "x [pixel]": rows["x"], "y [pixel]": rows["y"],
        "airmass": evidence.frame_column("airmass"), "time [d]": evidence.frame_column("time"),
    }  # fmt: skip
    if not np.isfinite(rows["residual"]).any():
        raise Missing("no row has a residual: no models")
    bands = _bands(evidence)
    figure, grid = _figure(len(against), len(bands), 2.5, 2.2)
    for band, line_of_axes in zip(bands, grid, strict=True):
        mine = evidence.of_band(band) & np.isfinite(rows["residual"])
        y = MMAG * rows["residual"][mine]
        low, high = _limits(y)
        for (name, values), axes in zip(against.items(), line_of_axes, strict=True):
            x = values[mine]
            axes.set_xlabel(name, fontsize=8)
            axes.tick_params(labelsize=7)
            if not np.isfinite(x).any() or np.nanmax(x) == np.nanmin(x):
                # Observations without a color column have color 0.
                told = np.isfinite(x).any() and not (name == "color" and np.nanmax(x) == 0)
                why = f"{name.split(' ')[0]} is {'one value' if told else 'not known'}"
                axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", fontsize=8, color="0.4")
                continue
            _density(axes, x, y, low, high)
            _trend(axes, x, y)
            axes.axhline(0, color="0.5", lw=0.6)
        line_of_axes[0].set_ylabel(f"{_label(band)}: residual [mmag]", fontsize=8)
    return figure


def draw_flats(evidence: Evidence) -> Figure:
    """Maps of mean residuals before any flat, after the stacked and after the numerical one."""
    found = {}
    for band in _bands(evidence):
        try:
            found[band] = flat_maps(evidence, band)
        except Missing as missing:
            why = missing
    if not found:
        raise Missing(str(why))
    most = max(len(one.maps) for one in found.values())
    figure, grid = _figure(most, len(found), 3.3, 2.9)
    for (band, one), line_of_axes in zip(found.items(), grid, strict=True):
        all_values = MMAG * np.concatenate([m[np.isfinite(m)] for m in one.maps.values()])
        limit = max(float(np.percentile(np.abs(all_values), 98)), 1e-3)
        for (name, values), axes in zip(one.maps.items(), line_of_axes, strict=False):
            image = axes.imshow(
                MMAG * values, origin="lower", extent=(-1, 1, -1, 1), cmap="RdBu_r", vmin=-limit, vmax=limit
            )
            axes.set_title(f"{_label(band)} {name}: {_told(MMAG * one.structure[name])} mmag", fontsize=8)
            axes.tick_params(labelsize=7)
        figure.colorbar(image, ax=line_of_axes.tolist(), label="mmag")
        for spare in line_of_axes[len(one.maps) :]:
            spare.set_visible(False)
    return figure


def draw_pulls(evidence: Evidence) -> Figure:
    """Histograms of residual over error: standards, and stars kept back."""
    rows = evidence.rows
    with np.errstate(invalid="ignore"):
        pull = rows["residual"] / total_error(rows, model=True)
    if not np.isfinite(pull).any():
        raise Missing("no row has a residual and an error")
    bands = _bands(evidence)
    figure, panels = _panels(len(bands))
    x = np.linspace(-5, 5, 200)
    for band, axes in zip(bands, panels, strict=True):
        told = {"standards": pull[evidence.of_band(band)]}
        if evidence.held_stars is not None:
            held = evidence.held_stars
            told["kept back"] = (held["residual"] / held["error"])[evidence.of_band(band, held)]
        for (name, values), paint in zip(told.items(), (BLUE, RED), strict=False):
            values = values[np.isfinite(values)]
            label = f"{name}: 1.48 MAD {_told(spread(values)[0])}"
            axes.hist(
                values, bins=np.linspace(-5, 5, 51).tolist(), density=True, histtype="step", color=paint, label=label
            )
        axes.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color="0.5", lw=0.8)
        axes.set_title(_label(band), fontsize=9)
        axes.set_xlabel("residual / error")
        axes.legend(fontsize=7, frameon=False)
    return figure


def draw_nights(evidence: Evidence) -> Figure:
    """Zero-points about their night's line against time, or in their order; flagged ones stand out."""
    from xpjax.survey.report.statistics import about_nights

    off = MMAG * about_nights(evidence.solution)
    frames, fits = evidence.solution.frames, evidence.solution.fits
    if not np.isfinite(off).any():
        raise Missing("no night has three exposures of a band")
    timed = np.isfinite(frames.time).all()
    x = frames.time if timed else np.arange(len(frames))
    bands = _bands(evidence)
    figure, panels = _panels(len(bands), 4.2)
    for band, axes in zip(bands, panels, strict=True):
        mine = frames.band == band
        for flagged, paint in ((False, BLUE), (True, RED)):
            rows = mine & ((fits.status != 0) == flagged) & np.isfinite(off)
            if rows.any():
                label = "flagged" if flagged else "without flags"
                axes.errorbar(
                    x[rows], off[rows], MMAG * fits.zero_point_error[rows], fmt="o", ms=2.5, lw=0.6, color=paint,
                    label=label,
                )  # fmt: skip
        fine = off[mine & (fits.status == 0) & np.isfinite(off)]
        if len(fine):
            axes.set_ylim(*_limits(fine, 8))
        axes.set_title(_label(band), fontsize=9)
        axes.set_xlabel("time [d]" if timed else "exposure")
        axes.set_ylabel("zero-point [mmag]")
        axes.legend(fontsize=7, frameon=False)
    return figure


def _needs_differences(evidence: Evidence) -> str:
    """The name of what is compared with. Raises Missing."""
    for name, values in evidence.differences.items():
        if np.isfinite(values).any():
            return name
    why = (
        "no exposure or tile is in both"
        if evidence.differences
        else f"nothing to compare with ({say('differences=', '--compare')})"
    )
    raise Missing(why)


def draw_histograms(evidence: Evidence) -> Figure:
    """Histograms of zero-point differences of each band."""
    bands, _, difference = table_of_differences(evidence, _needs_differences(evidence))
    shown = [k for k in range(len(bands)) if np.isfinite(difference[:, k]).any()][:MOST_BANDS]
    figure, panels = _panels(len(shown))
    for k, axes in zip(shown, panels, strict=True):
        _gaussian(axes, MMAG * difference[:, k], label=_label(bands[k]))
        axes.set_xlabel("difference [mmag]")
        axes.legend(fontsize=7, frameon=False)
    return figure


def _tile_column(evidence: Evidence, name: str, first: np.ndarray) -> np.ndarray:
    values = evidence.tiles.get(name)
    if values is None or not np.isfinite(values[first]).any():
        raise Missing(
            f"no {name} of exposures or tiles ({say('tiles=', '--tiles')}, or the configuration's columns ra and dec)"
        )
    return values[first]


def draw_maps(evidence: Evidence) -> Figure:
    """Zero-point differences on the sky."""
    bands, first, difference = table_of_differences(evidence, _needs_differences(evidence))
    ra, dec = (_tile_column(evidence, name, first) for name in ("ra", "dec"))
    shown = [k for k in range(len(bands)) if np.isfinite(difference[:, k]).any()][:MOST_BANDS]
    figure, panels = _panels(len(shown), 4.0, 3.0)
    for k, axes in zip(shown, panels, strict=True):
        values = MMAG * difference[:, k]
        good = np.isfinite(values)
        limit = float(np.fmax(3 * spread(values[good])[0], 1e-3))
        size = float(np.clip(4000 / good.sum(), 4, 40))
        points = axes.scatter(ra[good], dec[good], c=values[good], s=size, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.invert_xaxis()
        axes.set(xlabel="RA [deg]", ylabel="Dec [deg]")
        axes.set_title(_label(bands[k]), fontsize=9)
        figure.colorbar(points, ax=axes, label="mmag")
    return figure


def draw_correlation(evidence: Evidence) -> Figure:
    """The correlation matrix of the bands' differences, and the slopes of pairs that go together."""
    bands, _, difference = table_of_differences(evidence, _needs_differences(evidence))
    if len(bands) < 2:
        raise Missing("one band only")
    found = correlation(bands, difference)
    if not np.isfinite(found.r[~np.eye(len(bands), dtype=bool)]).any():
        raise Missing("no two bands share five exposures or tiles")
    figure, grid = _figure(2, 1, 0.4 * len(bands) + 3.4, 0.35 * len(bands) + 2.6)
    axes, beside = grid[0]
    image = axes.imshow(found.r, vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set_xticks(range(len(bands)), bands, rotation=90, fontsize=7)
    axes.set_yticks(range(len(bands)), bands, fontsize=7)
    for (i, j), r in np.ndenumerate(found.r):
        if np.isfinite(r):
            axes.text(j, i, f"{r:.2f}", ha="center", va="center", fontsize=6, color="w" if abs(r) > 0.6 else "k")
    figure.colorbar(image, ax=axes, label="r")
    beside.axis("off")
    lines = [f"{y} = ({slope:+.2f} ± {error:.2f}) {x},  r = {r:.2f}" for y, x, r, slope, error in found.slopes]
    told = "\n".join(lines[:30]) or f"no significant pair with |r| > {STRONG}"
    beside.text(0, 1, told, va="top", fontsize=7, family="monospace")
    return figure


def draw_reddening(evidence: Evidence) -> Figure:
    """Zero-point differences against E(B-V) and R_V."""
    bands, first, difference = table_of_differences(evidence, _needs_differences(evidence))
    known = {}
    for name, label in (("ebv", "E(B-V) [mag]"), ("rv", "R_V")):
        if name in evidence.tiles and np.isfinite(evidence.tiles[name][first]).any():
            known[label] = evidence.tiles[name][first]
    if not known:
        raise Missing(f"no ebv or rv of exposures or tiles ({say('tiles=', '--tiles')})")
    shown = [k for k in range(len(bands)) if np.isfinite(difference[:, k]).any()][:MOST_BANDS]
    figure, grid = _figure(len(known), len(shown), 4.0, 2.2)
    for k, line_of_axes in zip(shown, grid, strict=True):
        y = MMAG * difference[:, k]
        for (label, x), axes in zip(known.items(), line_of_axes, strict=True):
            _density(axes, x, y, *_limits(y[np.isfinite(y)]))
            constant, slope, error = line(x, y)
            if np.isfinite(slope):
                ends = np.array([np.nanmin(x), np.nanmax(x)])
                axes.plot(ends, constant + slope * ends, color=RED, lw=1, label=f"{slope:+.2f} ± {error:.2f} mmag")
                axes.legend(fontsize=7, frameon=False)
            axes.set_xlabel(label)
        line_of_axes[0].set_ylabel(f"{_label(bands[k])} [mmag]")
    return figure


def _by_band(evidence: Evidence, make: Callable[[Evidence, str], T]) -> dict[str, T]:
    """What is made of each band that has what it needs. Raises Missing where none has."""
    found, why = {}, Missing("no band")
    for band in _bands(evidence):
        try:
            found[band] = make(evidence, band)
        except Missing as missing:
            why = missing
    if not found:
        raise why
    return found


def draw_xpsp(evidence: Evidence) -> Figure:
    """XPSP - SCR of stars against color and G."""
    found = _by_band(evidence, xpsp_less_scr)
    figure, grid = _figure(2, len(found), 4.0, 2.4)
    for (band, one), line_of_axes in zip(found.items(), grid, strict=True):
        for axes, place, label in zip(line_of_axes, (0, 1), ("BP - RP [mag]", "G [mag]"), strict=True):
            values = MMAG * np.concatenate([parts[2][np.isfinite(parts[2])] for parts in one.values()])
            for (name, parts), paint in zip(one.items(), (RED, BLUE), strict=False):
                _density(axes, parts[place], MMAG * parts[2], *_limits(values), paint)
                _trend(axes, parts[place], MMAG * parts[2], paint, name)
            axes.set_xlabel(label)
            axes.legend(fontsize=7, frameon=False)
        line_of_axes[0].set_ylabel(f"{_label(band)}: XPSP - SCR [mmag]")
    return figure


def draw_repeatability(evidence: Evidence) -> Figure:
    """Scatter of stars against magnitude, over the errors stated and the camera's noise."""
    found = _by_band(evidence, repeatability)
    figure, panels = _panels(len(found), 4.6, 3.4, 2)
    airmass = evidence.solution.frames.airmass
    for (band, stars), axes in zip(found.items(), panels, strict=True):
        axes.scatter(stars.magnitude, MMAG * stars.scatter, s=3, color=BLUE, alpha=0.4, lw=0, rasterized=True)
        low, high = np.percentile(stars.magnitude, [0.5, 99.5])
        x = np.linspace(low, high, 200)
        if evidence.camera is not None:
            seen = airmass[evidence.solution.frames.band == band]
            air, known = (float(np.nanmedian(seen)), True) if np.isfinite(seen).any() else (AIRMASS, False)
            for name, style in (("photon", ":"), ("sky", "--"), ("read", "-."), ("scintillation", (0, (1, 3)))):
                axes.plot(x, MMAG * evidence.camera.noise(x, air)[name], color=DARK, lw=0.9, ls=style, label=name)
            label = "theory" if known else f"theory, airmass {AIRMASS} assumed"
            axes.plot(x, MMAG * evidence.camera.noise(x, air)["total"], color=RED, lw=1.3, label=label)
        stated = trend(stars.magnitude, MMAG * stars.stated) if np.ptp(stars.magnitude) else None
        if stated is not None:
            axes.plot(stated.x, stated.median, color=GREEN, lw=1.2, label="errors stated")
        some = stars.scatter[stars.scatter > 0]
        low, high = np.percentile(MMAG * some, [0.5, 99.5]) if len(some) else (1, 10)
        axes.set(yscale="log", ylim=(0.5 * low, 2 * high), xlabel="magnitude", ylabel="standard deviation [mmag]")
        note = "" if evidence.camera is not None else f"; theory needs {say('camera=', '--camera')}"
        axes.set_title(f"{_label(band)}: {len(stars.star):,} stars{note}", fontsize=9)
        axes.legend(fontsize=7, frameon=False)
    return figure


def draw_light_curves(evidence: Evidence) -> tuple[Figure, tuple[str, ...]]:
    """Light curves of the most variable stars, plain and folded where they have a period; and these in words."""
    curves, why = [], Missing("no star varies by more than those of its magnitude")
    for band in _bands(evidence):
        try:
            stars = list(evidence.periods) or variable_stars(repeatability(evidence, band, 10)).tolist()
        except Missing as missing:
            why = missing
            continue
        for star in stars:
            try:
                curves.append((band, light_curve(evidence, band, star, evidence.periods.get(str(star)))))
            except Missing as missing:
                why = missing
    if not curves:
        raise why
    curves = curves[:8]
    figure, grid = _figure(2, len(curves), 4.4, 1.9)
    for (band, curve), (plain, folded) in zip(curves, grid, strict=True):
        for axes, x in ((plain, curve.time), (folded, curve.phase)):
            if np.isfinite(x).any():
                axes.errorbar(x, curve.magnitude, curve.error, fmt="o", ms=2, lw=0.5, color=BLUE)
                axes.set_ylim(*_curve_limits(curve.magnitude))
        if np.isfinite(curve.period):
            folded.plot((np.arange(PHASES) + 0.5) / PHASES, curve.folded, "s-", ms=3, lw=0.8, color=RED)
        else:
            folded.axis("off")
        plain.set_ylabel(f"{_label(band)} [mag]", fontsize=8)
        plain.set_title(f"star {curve.star}", fontsize=8)
        folded.set_title(textwrap.fill(curve.told, 70), fontsize=7)
    grid[-1, 0].set_xlabel("time [d]")
    grid[-1, 1].set_xlabel("phase")
    return figure, tuple(f"star {curve.star}, {_label(band)}: {curve.told}" for band, curve in curves)


def _curve_limits(magnitude: np.ndarray) -> tuple[float, float]:
    """Faint to bright, so that all but single wild measurements are within."""
    low, high = np.percentile(magnitude, [2, 98])
    margin = 0.2 * (high - low) + 1e-3
    return float(high + margin), float(low - margin)


def draw_held_stars(evidence: Evidence) -> Figure:
    """Residuals of stars kept back, against magnitude."""
    held = evidence.held_stars
    if held is None:
        raise Missing(f"no stars were kept back ({say('held_stars=', 'survey calibrate --folds')})")
    bands = _bands(evidence)
    figure, panels = _panels(len(bands))
    for band, axes in zip(bands, panels, strict=True):
        mine = evidence.of_band(band, held) & np.isfinite(held["residual"])
        x, y = held["magnitude"][mine], MMAG * held["residual"][mine]
        _density(axes, x, y, *_limits(y))
        _trend(axes, x, y)
        mad, rms = spread(y)
        axes.set_title(f"{_label(band)}: 1.48 MAD {_told(mad, 1)}, std {_told(rms, 1)} mmag", fontsize=8)
        axes.set_xlabel("magnitude")
        axes.set_ylabel("residual [mmag]")
    return figure


def draw_held_frames(evidence: Evidence) -> Figure:
    """1.48 MAD of the residuals of each exposure: those that took part, and those that did not."""
    if evidence.held_frames is None:
        raise Missing(f"no exposures were kept back ({say('held_frames=', '--held-out')}, tables of survey apply)")
    figure, grid = _figure(1, 1, 6.0, 3.2)
    axes = grid[0, 0]
    for rows, name, paint in ((evidence.rows, "took part", BLUE), (evidence.held_frames, "kept back", RED)):
        _, mad, _ = frame_scatters(evidence, rows)
        mad = mad[np.isfinite(mad)]
        label = f"{name}: {len(mad):,} exposures" + (f", median {MMAG * np.median(mad):.2f} mmag" if len(mad) else "")
        axes.hist(MMAG * mad, bins=30, density=True, histtype="step", color=paint, label=label)
    axes.set_xlabel("1.48 MAD of residuals [mmag]")
    axes.legend(fontsize=8, frameon=False)
    return figure


# --- the page ---------------------------------------------------------------------------------------------------------

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.6em } h2 { font-size: 1.2em; margin-top: 2em; border-top: 1px solid #ddd; padding-top: 0.7em }
table { border-collapse: collapse; font-size: 0.86em; margin: 0.8em 0 }
th, td { padding: 0.25em 0.7em; text-align: left } th { border-bottom: 2px solid #1f3a5f }
td { border-bottom: 1px solid #eee } td.n { text-align: right }
img { max-width: 100%; height: auto } .missing { color: #8a4b00 } .note { color: #555; font-size: 0.9em }
"""


def page(title: str, evidence: Evidence, made: Sequence[Section], account: Sequence[str] = ()) -> bytes:
    """The report as one HTML file: numbers on top, then every section."""
    numbers = _numbers_table(band_numbers(evidence), _nights_text(evidence))
    parts = [f"<h1>{html.escape(title)}</h1>", _about(evidence), numbers]
    for name in evidence.differences:
        parts.append(_compared(name, difference_numbers(evidence, name)))
    parts.append(_flag_table("Flags of exposures", "exposures", FrameFlag.counts(evidence.solution.fits.status)))
    parts.append(_flag_table("Flags of measurements", "measurements", RowFlag.counts(evidence.rows["status"])))
    if account:
        parts.append("<h2>Selections</h2>" + _table(("",), [(text,) for text in account]))
    for section in made:
        parts.append(f"<h2>{html.escape(section.title)}</h2><p class='note'>{html.escape(section.text)}</p>")
        if section.figure is None:
            parts.append(f"<p class='missing'>Not made: {html.escape(section.missing)}.</p>")
        else:
            drawn = base64.b64encode(png(section.figure)).decode()
            parts.append(f"<img alt='{html.escape(section.title)}' src='data:image/png;base64,{drawn}'>")
        if section.found:
            parts.append("<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in section.found) + "</ul>")
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n".encode()


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def _about(evidence: Evidence) -> str:
    record: Mapping[str, Any] = evidence.solution.record
    said = [f"{name}: {record[name]}" for name in ("version", "date", "command") if name in record]
    if "inputs" in record:
        inputs = list(record["inputs"])
        more = f" and {len(inputs) - 10} more" * (len(inputs) > 10)
        said.append("inputs: " + ", ".join(map(str, inputs[:10])) + more)
    frames = evidence.solution.frames
    bands = f"{len(evidence.bands)} band{'s' * (len(evidence.bands) != 1)}"
    told = f"{len(evidence.rows['star']):,} measurements on {len(frames):,} frames in {bands}"
    return f"<p>{told}.</p><p class='note'>{html.escape('; '.join(said))}</p>"


def _nights_text(evidence: Evidence) -> str:
    """What zero-points are counted from, of what is known of nights and airmasses."""
    frames = evidence.solution.frames
    which = "each night" if (frames.night != "").any() else "all frames (nights are not known)"
    if np.isfinite(frames.airmass).all():
        return f"the line with airmass of {which}"
    return f"the median of {which}; airmasses are not known"


def _numbers_table(numbers: Sequence[BandNumbers], nights: str) -> str:
    header = (
        "band", "frames", "refused", "standards", "outliers", "zero-points about nights", "formal error",
        "systematic error", "error floor", "residuals, 1.48 MAD", "std", "pull", "kept back, 1.48 MAD", "std", "pull",
    )  # fmt: skip

    def mmag(value: float) -> str:
        return _told(MMAG * value)

    rows = []
    for n in numbers:
        share = f"{n.n_outlier:,} ({100 * n.n_outlier / n.n_standard:.1f} %)" if n.n_standard else "0"
        rows.append(
            (
                _label(n.band), f"{n.n_frame:,}", f"{n.n_refused:,}", f"{n.n_standard:,}", share,
                mmag(n.zero_point_scatter), mmag(n.formal),
                mmag(n.systematic) if np.isfinite(n.systematic) else "not stated",
                *(mmag(v) for v in (n.floor, n.residual_scatter, n.residual_rms)),
                _told(n.pull), mmag(n.held_scatter), mmag(n.held_rms), _told(n.held_pull),
            )
        )  # fmt: skip
    note = (
        f"<p class='note'>Magnitudes in mmag, outliers included. Zero-points about nights: 1.48 MAD about {nights}. "
        "The systematic error is what all frames have alike, the floor what standards scatter by beyond their errors; "
        "a pull is 1.48 MAD of residual / error."
    )
    if any(np.isnan(n.systematic) for n in numbers):
        note += (
            " Where the systematic error is not stated the standards came without errors of models "
            "(columns.model_error, or systematic_error for all of them), and pulls are without them."
        )
    note += "</p>"
    return "<h2>Numbers</h2>" + _table(header, rows) + note


def _compared(name: str, numbers: Sequence[DifferenceNumbers]) -> str:
    header = ("band", "in both", "median", "1.48 MAD", "std", "formal error", "std / formal", "pull")
    rows = [
        (_label(n.band), f"{n.number:,}", *(_told(MMAG * v, 3) for v in (n.median, n.scatter, n.rms, n.formal)),
         _told(n.rms / n.formal if n.formal > 0 else np.nan), _told(n.pull))
        for n in numbers if n.number
    ]  # fmt: skip
    note = (
        "<p class='note'>Zero-points less theirs, in mmag; std, pull and ratio without the median. A pull is the "
        "standard deviation of difference / formal error, of our zero-points alone.</p>"
    )
    shown = _table(header, rows) + note if rows else "<p class='missing'>No exposure or tile is in both.</p>"
    return f"<h2>Beside {html.escape(name)}</h2>" + shown


def _flag_table(title: str, what: str, counts: Mapping[Any, int]) -> str:
    if not counts:
        return f"<h2>{title}</h2><p>None.</p>"
    rows = [(str(bit.name), f"{n:,}", bit.meaning) for bit, n in counts.items()]
    return f"<h2>{title}</h2>" + _table(("flag", what, "meaning"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def cell(text: str) -> str:
        number = text.replace(",", "").replace(".", "").replace("-", "").isdigit()
        return f"<td{' class=n' if number else ''}>{html.escape(text)}</td>"

    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(map(cell, row)) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
