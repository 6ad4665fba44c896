"""What a report shows of stars: XPSP less SCR, repeatability, variable stars and their light curves."""

from __future__ import annotations

import dataclasses
import functools
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import say
from xpjax.core.periods import FALSE_ALARM, FEWEST, find_period
from xpjax.survey import MAD, RowFlag, group_median
from xpjax.survey.report.drawing import (
    BLUE,
    DARK,
    GREEN,
    MMAG,
    RED,
    by_band,
    chunks,
    draw_density,
    draw_trend,
    dress,
    ends_of,
    in_parts,
    label_of,
    limits_about,
    log_scale,
    panels,
    plain,
    rows_of_panels,
    shown_bands,
    since,
)
from xpjax.survey.report.evidence import Evidence, total_error
from xpjax.survey.report.layout import Figure, Table
from xpjax.survey.report.statistics import ENOUGH, Missing, spread, trend

if TYPE_CHECKING:
    import matplotlib.figure

PHASES = 20
"""Bins of a folded light curve."""
AIRMASS = 1.2
"""Of the theory of repeatability, where none is known; the figure then says so."""
MOST_CURVES = 8


def xpsp_less_scr(evidence: Evidence, band: str) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """XPSP - SCR of stars before and after correction: color, G and difference [mag], by "before" and "after".

    From the table of stars: `{band}_scr`, `{band}_xpsp`, `{band}_xpsp_corrected` (either may be absent), `bp_rp` and
    `phot_g_mean_mag`. Raises Missing.
    """
    stars = evidence.stars
    if stars is None:
        raise Missing(f"no table of stars with magnitudes by SCR and XPSP ({say('stars=', '--stars')})")
    for need in ("bp_rp", "phot_g_mean_mag", f"{band}_scr"):
        if need not in stars:
            raise Missing(f"the table of stars has no column {need}")
    found = {
        name: (stars["bp_rp"], stars["phot_g_mean_mag"], stars[f"{band}{suffix}"] - stars[f"{band}_scr"])
        for name, suffix in (("before", "_xpsp"), ("after", "_xpsp_corrected"))
        if f"{band}{suffix}" in stars
    }
    if not found:
        raise Missing(f"the table of stars has neither {band}_xpsp nor {band}_xpsp_corrected")
    return found


@dataclasses.dataclass(frozen=True)
class Repeatability:
    """Stars (n_star,) seen often: mean magnitude, standard deviation [mag], stated error, number of measurements."""

    star: np.ndarray
    magnitude: np.ndarray
    scatter: np.ndarray
    stated: np.ndarray
    number: np.ndarray


def repeatability(evidence: Evidence, band: str, fewest: int = ENOUGH) -> Repeatability:
    """What the calibrated magnitudes of a star scatter by. Raises Missing where none is seen often."""
    rows = evidence.rows
    bad = np.uint32(RowFlag.EXPOSURE_FLAGGED | RowFlag.EXPOSURE_REFUSED)
    good = evidence.of_band(band) & np.isfinite(rows["magnitude"]) & ((rows["status"].astype(np.uint32) & bad) == 0)
    star, one = np.unique(rows["star"][good], return_inverse=True)
    number = np.bincount(one)
    often = number >= fewest
    if not often.any():
        raise Missing(f"no star has {fewest} measurements in a band")
    magnitude, error = rows["magnitude"][good], rows["magnitude_error"][good]
    middle = group_median(magnitude, one, len(star))
    # Single wild measurements are for the light curves: beyond 5 sigma they do not count.
    width = MAD * group_median(np.abs(magnitude - middle[one]), one, len(star))
    near = np.abs(magnitude - middle[one]) <= 5 * np.maximum(width, 1e-6)[one]
    one, magnitude, error = one[near], magnitude[near], error[near]
    number = np.maximum(np.bincount(one, minlength=len(star)), 1)
    mean = np.bincount(one, magnitude, len(star)) / number
    square = np.bincount(one, (magnitude - mean[one]) ** 2, len(star)) / np.maximum(number - 1, 1)
    stated = np.sqrt(np.bincount(one, np.nan_to_num(error) ** 2, len(star)) / number)
    return Repeatability(star[often], mean[often], np.sqrt(square)[often], stated[often], number[often])


def variable_stars(found: Repeatability, n: int = 4) -> np.ndarray:
    """The stars that scatter most beyond those of their magnitude, the worst first, 5 sigma at least."""
    order = np.argsort(found.magnitude)
    with np.errstate(divide="ignore"):
        level = np.log(np.maximum(found.scatter, 1e-9))[order]
    width = max(11, len(order) // 20)
    typical = np.array([np.median(level[max(0, k - width) : k + width + 1]) for k in range(len(level))])
    beyond = level - typical
    limit = 5 * np.fmax(spread(beyond)[0], 0.1)
    worst = np.argsort(-beyond)[:n]
    return found.star[order][worst[beyond[worst] > limit]]


@dataclasses.dataclass(frozen=True)
class LightCurve:
    """One star in one band: time [d], magnitude and error (n,), and the curve folded with a period, if there is one.

    period [d]: as given, or found; NaN where none is significant, and then there is no phase. told: the period in
    words, with its error and aliases. folded: median magnitude (n_bin,) of each of PHASES bins, NaN where empty.
    """

    star: Any
    time: np.ndarray
    magnitude: np.ndarray
    error: np.ndarray
    period: float
    told: str
    phase: np.ndarray
    folded: np.ndarray


def light_curve(evidence: Evidence, band: str, star: Any, period: float | None = None) -> LightCurve:
    """A star's measurements against time, folded with its period: given, or found by `periods.find_period`.

    Raises Missing for fewer than ten measurements with times.
    """
    rows = evidence.rows
    mine = evidence.of_band(band) & (rows["star"].astype(str) == str(star)) & np.isfinite(rows["magnitude"])
    timed = mine & np.isfinite(evidence.frame_column("time"))
    time, magnitude, error = evidence.frame_column("time")[timed], rows["magnitude"][timed], total_error(rows)[timed]
    if mine.any() and not timed.any():
        raise Missing("exposures have no times")
    if len(time) < FEWEST or np.ptp(time) == 0:
        raise Missing("fewer than ten measurements")
    if period is None:
        search = find_period(time, magnitude, error)
        period, told = search.period, str(search)
    else:
        told = f"period {period:g} d, as given"
    phase = ((time - time.min()) / period) % 1.0
    number = np.minimum((np.nan_to_num(phase) * PHASES).astype(int), PHASES - 1)
    folded = group_median(magnitude, number, PHASES) if np.isfinite(period) else np.full(PHASES, np.nan)
    return LightCurve(star, time, magnitude, error, period, told, phase, folded)


# --- figures ----------------------------------------------------------------------------------------------------------


def xpsp_figures(evidence: Evidence) -> list[Figure]:
    """XPSP - SCR of stars against color and G. Raises Missing."""
    found = by_band(shown_bands(evidence), functools.partial(xpsp_less_scr, evidence))

    def draw(bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        for band, line in zip(bands, rows_of_panels(figure, len(bands), (1, 1), 2.5), strict=True):
            values = MMAG * np.concatenate([parts[2] for parts in found[band].values()])
            for axes, place, label in zip(line, (0, 1), ("BP - RP [mag]", "G [mag]"), strict=True):
                for (name, parts), paint in zip(found[band].items(), (RED, BLUE), strict=False):
                    draw_density(axes, parts[place], MMAG * parts[2], *limits_about(values), paint)
                    draw_trend(axes, parts[place], MMAG * parts[2], paint, f"{name} correction")
                dress(axes, label)
            line[0].set_ylabel(f"{plain(band, ': ')}XPSP - SCR [mmag]", fontsize=9)

    number = len(next(iter(evidence.stars.values()))) if evidence.stars else 0
    caption = (
        "Synthetic magnitudes from XP spectra less those of stellar color regression, against color and G, before and "
        f"after the correction of the spectra. {number:,} stars."
    )
    return in_parts("XPSP - SCR", [*found], 4, caption, draw)


def repeatability_figures(evidence: Evidence) -> list[Figure]:
    """Scatter of stars against magnitude, over the errors stated and the camera's noise. Raises Missing."""
    found = by_band(shown_bands(evidence), functools.partial(repeatability, evidence))

    def draw(bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        for band, axes in zip(bands, panels(figure, len(bands), 2, 3.3), strict=True):
            _draw_repeatability(evidence, band, found[band], axes)

    said = ", ".join(f"{label_of(band)} {len(stars.star):,}" for band, stars in found.items())
    theory = "" if evidence.camera is not None else f" For the noise of the camera give {say('camera=', '--camera')}."
    caption = (
        f"Standard deviation of the calibrated magnitudes of stars with {ENOUGH} measurements or more, against "
        f"magnitude; the line is the statistical error stated. Numbers of stars: {said}.{theory}"
    )
    bands = [*found]
    return in_parts("Repeatability", bands, 6, caption, draw)


def _draw_repeatability(evidence: Evidence, band: str, stars: Repeatability, axes: Any) -> None:
    axes.scatter(stars.magnitude, MMAG * stars.scatter, s=3, color=BLUE, alpha=0.4, lw=0, rasterized=True)
    x = np.linspace(*ends_of(stars.magnitude), 200)
    if evidence.camera is not None:
        seen = evidence.solution.frames.airmass[evidence.solution.frames.band == band]
        air, known = (float(np.nanmedian(seen)), True) if np.isfinite(seen).any() else (AIRMASS, False)
        noise = evidence.camera.noise(x, air)
        for name, style in (("photon", ":"), ("sky", "--"), ("read", "-."), ("scintillation", (0, (1, 3)))):
            axes.plot(x, MMAG * noise[name], color=DARK, lw=0.9, ls=style, label=name)
        label = "noise of the camera" if known else f"noise of the camera, airmass {AIRMASS} assumed"
        axes.plot(x, MMAG * noise["total"], color=RED, lw=1.3, label=label)
    if np.ptp(stars.magnitude):
        stated = trend(stars.magnitude, MMAG * stars.stated)
        axes.plot(stated.x, stated.median, color=GREEN, lw=1.5, label="errors stated")
    some = stars.scatter[stars.scatter > 0]
    low, high = np.percentile(MMAG * some, [0.5, 99.5]) if len(some) else (1, 10)
    log_scale(axes)
    axes.set_ylim(0.5 * low, 2 * high)
    dress(axes, "calibrated magnitude [mag]", "standard deviation [mmag]", plain(band))


def light_curve_figures(evidence: Evidence) -> tuple[list[Figure], Table]:
    """Light curves of the most variable stars, plain and folded where they have a period; and their periods.

    Raises Missing.
    """
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
    curves = curves[:MOST_CURVES]
    caption = (
        "Light curves of the most variable stars, and folded with their periods, with medians in "
        f"{PHASES} bins of phase. Periods are those of the highest peak of the Lomb-Scargle periodogram, where its "
        f"false-alarm probability in the range searched is below {FALSE_ALARM:g} (Baluev 2008); errors follow from the "
        "curvature of the peak and the residuals of the sine. Aliases that fit equally well at that level are listed. "
        "Times that are not barycentric change a period by up to 1e-4 of itself. The period of an eclipsing binary is "
        "twice that of its sine."
    )
    figures = [
        Figure(f"Light curves{f' {k + 1}' * (len(curves) > 4)}", caption, functools.partial(_draw_curves, part))
        for k, part in enumerate(chunks(curves, 4))
    ]
    rows = [(str(curve.star), label_of(band), len(curve.time), curve.told) for band, curve in curves]
    return figures, Table("The most variable stars.", ("star", "band", "measurements", "period"), rows)


def _draw_curves(curves: tuple[tuple[str, LightCurve], ...], figure: matplotlib.figure.Figure) -> None:
    """A row for each star: against time, and against phase."""
    for (band, curve), (whole, folded) in zip(curves, rows_of_panels(figure, len(curves), (1, 1), 2.2), strict=True):
        time, label = since(curve.time)
        low, high = np.percentile(curve.magnitude, [2, 98])  # single wild measurements may be outside
        margin = 0.2 * (high - low) + 1e-3
        for axes, x in ((whole, time), (folded, curve.phase)):
            if np.isfinite(x).any():
                axes.errorbar(x, curve.magnitude, curve.error, fmt="o", ms=2, lw=0.5, color=BLUE)
                axes.set_ylim(high + margin, low - margin)
        dress(whole, label, f"{plain(band, ' ')}[mag]", f"star {curve.star}")
        if np.isfinite(curve.period):
            folded.plot((np.arange(PHASES) + 0.5) / PHASES, curve.folded, "s-", ms=3, lw=0.8, color=RED)
            dress(folded, "phase")
            folded.set_title(textwrap.fill(curve.told, 64), fontsize=8.5)
        else:
            folded.axis("off")
            folded.text(0.5, 0.5, textwrap.fill(curve.told, 45), ha="center", va="center", fontsize=9)
