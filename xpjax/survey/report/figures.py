"""The figures of a survey's report; one that cannot be made raises `Missing` with what it would have needed."""

from __future__ import annotations

import itertools
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from xpjax.core.errors import say
from xpjax.survey.report.drawing import (
    BLUE,
    DARK,
    GREEN,
    MMAG,
    MOST_BANDS,
    RED,
    by_band,
    draw_density,
    draw_gaussian,
    draw_trend,
    dress,
    label_of,
    limits_about,
    panel_grid,
    panels_of,
    rounded_text,
    shown_bands,
)
from xpjax.survey.report.evidence import Evidence, about_nights, total_error
from xpjax.survey.report.frames import flat_maps, frame_scatters, table_of_differences
from xpjax.survey.report.stars import PHASES, light_curve, repeatability, variable_stars, xpsp_less_scr
from xpjax.survey.report.statistics import STRONG, Missing, correlation, line, spread, trend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AIRMASS = 1.2
"""Of the theory of repeatability, where none is known; the figure then says so."""


def draw_residuals(evidence: Evidence) -> Figure:
    """Residuals against magnitude, color, x, y, airmass and time: a row for each band."""
    rows = evidence.rows
    against = {
        "magnitude": rows["magnitude"], "color": rows["color"], "x [pixel]": rows["x"], "y [pixel]": rows["y"],
        "airmass": evidence.frame_column("airmass"), "time [d]": evidence.frame_column("time"),
    }  # fmt: skip
    if not np.isfinite(rows["residual"]).any():
        raise Missing("no row has a residual: no models")
    bands = shown_bands(evidence)
    figure, grid = panel_grid(len(against), len(bands), 2.5, 2.2)
    for band, line_of_axes in zip(bands, grid, strict=True):
        mine = evidence.of_band(band) & np.isfinite(rows["residual"])
        y = MMAG * rows["residual"][mine]
        low, high = limits_about(y)
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
            draw_density(axes, x, y, low, high)
            draw_trend(axes, x, y)
            axes.axhline(0, color="0.5", lw=0.6)
        line_of_axes[0].set_ylabel(f"{label_of(band)}: residual [mmag]", fontsize=8)
    return figure


def draw_flats(evidence: Evidence) -> Figure:
    """Maps of mean residuals before any flat, after the stacked and after the numerical one."""
    found = by_band(evidence, flat_maps)
    most = max(map(len, found.values()))
    figure, grid = panel_grid(most, len(found), 3.3, 2.9)
    for (band, maps), line_of_axes in zip(found.items(), grid, strict=True):
        all_values = MMAG * np.concatenate([values[np.isfinite(values)] for values, _ in maps.values()])
        limit = max(float(np.percentile(np.abs(all_values), 98)), 1e-3)
        for (name, (values, left)), axes in zip(maps.items(), line_of_axes, strict=False):
            image = axes.imshow(
                MMAG * values, origin="lower", extent=(-1, 1, -1, 1), cmap="RdBu_r", vmin=-limit, vmax=limit
            )
            axes.set_title(f"{label_of(band)} {name}: {rounded_text(MMAG * left)} mmag", fontsize=8)
            axes.tick_params(labelsize=7)
        figure.colorbar(image, ax=line_of_axes.tolist(), label="mmag")
        for spare in line_of_axes[len(maps) :]:
            spare.set_visible(False)
    return figure


def draw_pulls(evidence: Evidence) -> Figure:
    """Histograms of residual over error: standards, and cross-validation."""
    rows = evidence.rows
    with np.errstate(invalid="ignore"):
        pull = rows["residual"] / total_error(rows, model=True)
    if not np.isfinite(pull).any():
        raise Missing("no row has a residual and an error")
    figure, panels = panels_of(shown_bands(evidence))
    x, edges = np.linspace(-5, 5, 200), np.linspace(-5, 5, 51).tolist()
    for band, axes in panels:
        told = {"standards": pull[evidence.of_band(band)]}
        tested = evidence.cross_validation
        if tested is not None:
            told["cross-validation"] = (tested["residual"] / tested["error"])[evidence.of_band(band, tested)]
        for (name, values), paint in zip(told.items(), (BLUE, RED), strict=False):
            values = values[np.isfinite(values)]
            label = f"{name}: 1.48 MAD {rounded_text(spread(values)[0])}"
            axes.hist(values, bins=edges, density=True, histtype="step", color=paint, label=label)
        axes.plot(x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color="0.5", lw=0.8)
        dress(axes, "residual / error", title=label_of(band))
    return figure


def draw_nights(evidence: Evidence) -> Figure:
    """Zero-points about their night's line against time, or in their order; flagged ones stand out."""
    off = MMAG * about_nights(evidence.solution)
    frames, fits = evidence.solution.frames, evidence.solution.fits
    if not np.isfinite(off).any():
        raise Missing("no night has three exposures of a band")
    timed = np.isfinite(frames.time).all()
    x = frames.time if timed else np.arange(len(frames))
    error = MMAG * fits.zero_point_error
    figure, panels = panels_of(shown_bands(evidence), 4.2)
    for band, axes in panels:
        known = (frames.band == band) & np.isfinite(off)
        fine = known & (fits.status == 0)
        for rows, paint, label in ((fine, BLUE, "without flags"), (known & ~fine, RED, "flagged")):
            if rows.any():
                axes.errorbar(x[rows], off[rows], error[rows], fmt="o", ms=2.5, lw=0.6, color=paint, label=label)
        if fine.any():
            axes.set_ylim(*limits_about(off[fine], 8))
        dress(axes, "time [d]" if timed else "exposure", "zero-point [mmag]", label_of(band))
    return figure


def _differences(evidence: Evidence) -> tuple[list[str], np.ndarray, np.ndarray]:
    """`table_of_differences` of the first comparison that has some [mmag]. Raises Missing."""
    for name, values in evidence.differences.items():
        if np.isfinite(values).any():
            bands, first, difference = table_of_differences(evidence, name)
            return bands, first, MMAG * difference
    if evidence.differences:
        raise Missing("no exposure or tile is in both")
    raise Missing(f"nothing to compare with ({say('differences=', '--compare')})")


def _of_bands(evidence: Evidence) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """First frame of each exposure, and differences [mmag] by band, of so many bands as are legible. Raises Missing."""
    bands, first, difference = _differences(evidence)
    known = {band: values for band, values in zip(bands, difference.T, strict=True) if np.isfinite(values).any()}
    return first, dict(itertools.islice(known.items(), MOST_BANDS))


def draw_histograms(evidence: Evidence) -> Figure:
    """Histograms of zero-point differences of each band."""
    figure, panels = panels_of(_of_bands(evidence)[1].items())
    for (band, values), axes in panels:
        draw_gaussian(axes, values, label_of(band))
        dress(axes, "difference [mmag]")
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
    first, differences = _of_bands(evidence)
    ra, dec = (_tile_column(evidence, name, first) for name in ("ra", "dec"))
    figure, panels = panels_of(differences.items(), 4.0, 3.0)
    for (band, values), axes in panels:
        good = np.isfinite(values)
        limit = float(np.fmax(3 * spread(values[good])[0], 1e-3))
        size = float(np.clip(4000 / good.sum(), 4, 40))
        points = axes.scatter(ra[good], dec[good], c=values[good], s=size, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.invert_xaxis()
        dress(axes, "RA [deg]", "Dec [deg]", label_of(band))
        figure.colorbar(points, ax=axes, label="mmag")
    return figure


def draw_correlation(evidence: Evidence) -> Figure:
    """The correlation matrix of the bands' differences, and the slopes of pairs that go together."""
    bands, _, difference = _differences(evidence)
    if len(bands) < 2:
        raise Missing("one band only")
    matrix, slopes = correlation(bands, difference)
    if not np.isfinite(matrix[~np.eye(len(bands), dtype=bool)]).any():
        raise Missing("no two bands share five exposures or tiles")
    figure, grid = panel_grid(2, 1, 0.4 * len(bands) + 3.4, 0.35 * len(bands) + 2.6)
    axes, beside = grid[0]
    image = axes.imshow(matrix, vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set_xticks(range(len(bands)), bands, rotation=90, fontsize=7)
    axes.set_yticks(range(len(bands)), bands, fontsize=7)
    for (i, j), r in np.ndenumerate(matrix):
        if np.isfinite(r):
            axes.text(j, i, f"{r:.2f}", ha="center", va="center", fontsize=6, color="w" if abs(r) > 0.6 else "k")
    figure.colorbar(image, ax=axes, label="r")
    beside.axis("off")
    lines = [f"{y} = ({slope:+.2f} ± {error:.2f}) {x},  r = {r:.2f}" for y, x, r, slope, error in slopes]
    told = "\n".join(lines[:30]) or f"no significant pair with |r| > {STRONG}"
    beside.text(0, 1, told, va="top", fontsize=7, family="monospace")
    return figure


def draw_reddening(evidence: Evidence) -> Figure:
    """Zero-point differences against E(B-V) and R_V."""
    first, differences = _of_bands(evidence)
    named = {"E(B-V) [mag]": evidence.tiles.get("ebv"), "R_V": evidence.tiles.get("rv")}
    known = {label: x[first] for label, x in named.items() if x is not None and np.isfinite(x[first]).any()}
    if not known:
        raise Missing(f"no ebv or rv of exposures or tiles ({say('tiles=', '--tiles')})")
    figure, grid = panel_grid(len(known), len(differences), 4.0, 2.2)
    for (band, y), line_of_axes in zip(differences.items(), grid, strict=True):
        for (label, x), axes in zip(known.items(), line_of_axes, strict=True):
            draw_density(axes, x, y, *limits_about(y[np.isfinite(y)]))
            constant, slope, error = line(x, y)
            if np.isfinite(slope):
                ends = np.array([np.nanmin(x), np.nanmax(x)])
                axes.plot(ends, constant + slope * ends, color=RED, lw=1, label=f"{slope:+.2f} ± {error:.2f} mmag")
            dress(axes, label)
        line_of_axes[0].set_ylabel(f"{label_of(band)} [mmag]")
    return figure


def draw_xpsp(evidence: Evidence) -> Figure:
    """XPSP - SCR of stars against color and G."""
    found = by_band(evidence, xpsp_less_scr)
    figure, grid = panel_grid(2, len(found), 4.0, 2.4)
    for (band, one), line_of_axes in zip(found.items(), grid, strict=True):
        for axes, place, label in zip(line_of_axes, (0, 1), ("BP - RP [mag]", "G [mag]"), strict=True):
            values = MMAG * np.concatenate([parts[2][np.isfinite(parts[2])] for parts in one.values()])
            for (name, parts), paint in zip(one.items(), (RED, BLUE), strict=False):
                draw_density(axes, parts[place], MMAG * parts[2], *limits_about(values), paint)
                draw_trend(axes, parts[place], MMAG * parts[2], paint, name)
            dress(axes, label)
        line_of_axes[0].set_ylabel(f"{label_of(band)}: XPSP - SCR [mmag]")
    return figure


def draw_repeatability(evidence: Evidence) -> Figure:
    """Scatter of stars against magnitude, over the errors stated and the camera's noise."""
    found = by_band(evidence, repeatability)
    figure, panels = panels_of(found.items(), 4.6, 3.4, 2)
    airmass = evidence.solution.frames.airmass
    for (band, stars), axes in panels:
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
        if np.ptp(stars.magnitude):
            stated = trend(stars.magnitude, MMAG * stars.stated)
            axes.plot(stated.x, stated.median, color=GREEN, lw=1.2, label="errors stated")
        some = stars.scatter[stars.scatter > 0]
        low, high = np.percentile(MMAG * some, [0.5, 99.5]) if len(some) else (1, 10)
        axes.set(yscale="log", ylim=(0.5 * low, 2 * high))
        note = "" if evidence.camera is not None else f"; theory needs {say('camera=', '--camera')}"
        title = f"{label_of(band)}: {len(stars.star):,} stars{note}"
        dress(axes, "magnitude", "standard deviation [mmag]", title)
    return figure


def draw_light_curves(evidence: Evidence) -> tuple[Figure, tuple[str, ...]]:
    """Light curves of the most variable stars, plain and folded where they have a period; and these in words."""
    curves, why = [], Missing("no star varies by more than those of its magnitude")
    for band in shown_bands(evidence):
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
    figure, grid = panel_grid(2, len(curves), 4.4, 1.9)
    for (band, curve), (plain, folded) in zip(curves, grid, strict=True):
        for axes, x in ((plain, curve.time), (folded, curve.phase)):
            if np.isfinite(x).any():
                axes.errorbar(x, curve.magnitude, curve.error, fmt="o", ms=2, lw=0.5, color=BLUE)
                low, high = np.percentile(curve.magnitude, [2, 98])  # single wild measurements may be outside
                margin = 0.2 * (high - low) + 1e-3
                axes.set_ylim(high + margin, low - margin)
        if np.isfinite(curve.period):
            folded.plot((np.arange(PHASES) + 0.5) / PHASES, curve.folded, "s-", ms=3, lw=0.8, color=RED)
        else:
            folded.axis("off")
        plain.set_ylabel(f"{label_of(band)} [mag]", fontsize=8)
        plain.set_title(f"star {curve.star}", fontsize=8)
        folded.set_title(textwrap.fill(curve.told, 70), fontsize=7)
    grid[-1, 0].set_xlabel("time [d]")
    grid[-1, 1].set_xlabel("phase")
    return figure, tuple(f"star {curve.star}, {label_of(band)}: {curve.told}" for band, curve in curves)


def draw_cross_validation(evidence: Evidence) -> Figure:
    """Residuals of standards in cross-validation against magnitude."""
    tested = evidence.cross_validation
    if tested is None:
        raise Missing(f"no cross-validation ({say('cross_validation=', 'survey calibrate --folds')})")
    figure, panels = panels_of(shown_bands(evidence))
    for band, axes in panels:
        mine = evidence.of_band(band, tested) & np.isfinite(tested["residual"])
        x, y = tested["magnitude"][mine], MMAG * tested["residual"][mine]
        draw_density(axes, x, y, *limits_about(y))
        draw_trend(axes, x, y)
        mad, rms = (rounded_text(value, 1) for value in spread(y))
        dress(axes, "magnitude", "residual [mmag]", f"{label_of(band)}: 1.48 MAD {mad}, std {rms} mmag", 8)
    return figure


def draw_validation(evidence: Evidence) -> Figure:
    """1.48 MAD of the residuals of each exposure: those of the calibration, and those that took no part."""
    if evidence.validation is None:
        raise Missing(f"no validation exposures ({say('validation=', '--validation')}, tables of survey apply)")
    figure, grid = panel_grid(1, 1, 6.0, 3.2)
    axes = grid[0, 0]
    for rows, name, paint in ((evidence.rows, "calibration", BLUE), (evidence.validation, "validation", RED)):
        mad = frame_scatters(rows)
        mad = mad[np.isfinite(mad)]
        label = f"{name}: {len(mad):,} exposures" + (f", median {MMAG * np.median(mad):.2f} mmag" if len(mad) else "")
        axes.hist(MMAG * mad, bins=30, density=True, histtype="step", color=paint, label=label)
    axes.set_xlabel("1.48 MAD of residuals [mmag]")
    axes.legend(fontsize=8, frameon=False)
    return figure
