"""What a report shows of stars: XPSP less SCR, repeatability, variable stars and their light curves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from xpjax.core.errors import say
from xpjax.core.periods import FEWEST, find_period
from xpjax.survey import MAD, RowFlag, group_median
from xpjax.survey.report.evidence import Evidence, total_error
from xpjax.survey.report.statistics import ENOUGH, Missing, spread

PHASES = 20
"""Bins of a folded light curve."""


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
        raise Missing(f"no star has {fewest} measurements")
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
