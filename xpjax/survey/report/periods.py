"""Periods of stars by one sine (Lomb and Scargle), stated only where chance and aliases leave them standing.

The periodogram (`astropy.timeseries.LombScargle`, floating mean, standard normalization) is searched from one cycle in
the time spanned to what the sampling supports: half of the frequency at which the spectral window repeats itself (the
Nyquist frequency of evenly spaced exposures; unevenly spaced ones have none), at most `FASTEST`. A peak is significant
where noise gives one as high, anywhere in that range, with a probability below `FALSE_ALARM` (Baluev 2008, MNRAS 385,
1279). Its error follows from its curvature and from what the sine leaves:

    sigma_f^2 = 2 (1 - Z) / ((n - 4) |d^2 Z / d f^2|),    sigma_P = P^2 sigma_f

with the power Z of the peak and n measurements. Times are taken as they are: those that are not barycentric change a
period by up to 1e-4 of itself. An eclipsing binary's period is twice that of its sine.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy.fft import next_fast_len

from xpjax.core.errors import XpjaxError
from xpjax.survey import MAD

FALSE_ALARM = 1e-3
"""Probability that noise alone has a peak as high as a significant one, anywhere in the range that was searched."""
FASTEST = 48.0
"""Highest frequency that is searched [1/d]."""
FEWEST = 10
"""Measurements without which no period is looked for."""
OVERSAMPLING = 5
PEAKS = 60
"""Highest peaks of the grid that are compared with each other."""
MOST_ALIASES = 3
"""Beyond so many other periods that fit as well, none is stated."""
REPEATS = 0.995
"""Power of the window, 1 at most, above which a frequency is called one at which it repeats itself."""
OUTLIERS = 0.05
"""At most this fraction of the measurements may be rejected, 5 sigma off the sine."""


@dataclasses.dataclass(frozen=True)
class PeriodSearch:
    """The period of one star, if there is one.

    period and error [d]: NaN where no period is significant. false_alarm: probability that noise has a peak as high as
    the highest. aliases: other periods [d] and their errors that the data do not exclude at the level of `FALSE_ALARM`;
    daily: whether all aliases differ from the period by whole cycles a day. slower: whether the star may vary more
    slowly than the time spanned. shortest, longest: range searched [d]; repeats: time [d] after which the sampling
    repeats itself, 0 for none. n_outlier: measurements left out.
    """

    period: float
    error: float
    false_alarm: float
    aliases: tuple[tuple[float, float], ...]
    daily: bool
    slower: bool
    shortest: float
    longest: float
    repeats: float
    n_outlier: int

    def __str__(self) -> str:
        """The result in words, with as many digits as its error supports."""
        if not math.isfinite(self.period):
            searched = f"{self.shortest:.2g} to {self.longest:.2g} d searched"
            if self.aliases:
                return f"no unique period: {len(self.aliases) + 1} fit equally well ({searched})"
            if self.slower:
                return f"no period: slower than the {self.longest:.2g} d spanned"
            return f"no significant period ({searched})"
        others = [f"{rounded(*alias)} d" for alias in self.aliases]
        if self.slower:
            others.append(f"more than the {self.longest:.2g} d spanned")
        told = f"period {rounded(self.period, self.error)} d"
        if self.repeats:
            told += f" if above {self.shortest:.3g} d, for exposures are every {self.repeats:.3g} d"
        if others:
            told += f", or {' or '.join(others)} ({'daily ' * self.daily}aliases)"
        return told


def rounded(value: float, error: float) -> str:
    """A value with its error, to the second digit of the error where the first is 1, else to the first."""
    if not (math.isfinite(error) and error > 0):
        return f"{value:.3g}"
    digits = -math.floor(math.log10(error))
    digits = max(digits + (error * 10.0**digits < 2), 0)
    return f"{value:.{digits}f} \u00b1 {error:.{digits}f}"


def find_period(time: np.ndarray, magnitude: np.ndarray, error: np.ndarray | None = None) -> PeriodSearch:
    """Find the period of a star by one sine (Lomb and Scargle), where chance and aliases leave it standing.

    Parameters
    ----------
    time : (n,) array [d]
        Times of the measurements.
    magnitude : (n,) array [mag]
        Magnitudes. Measurements without time or magnitude are left out, and so are single ones far off the sine.
    error : (n,) array [mag], optional
        Errors, which are relative weights.

    Returns
    -------
    PeriodSearch
        `period` and its `error` [d], NaN where none is significant; `false_alarm` probability of the highest peak;
        `aliases` that fit equally well; `str()` gives the result in words.

    Raises
    ------
    XpjaxError
        If there are fewer than ten measurements, or all are at one time.

    Notes
    -----
    A peak is significant where its false-alarm probability in the range searched (Baluev 2008, MNRAS 385, 1279) is
    below 0.001. Its error is sigma_P = P^2 sigma_f with sigma_f^2 = 2 (1 - Z) / ((n - 4) |d^2 Z / d f^2|), where Z is
    the power of the peak. The period of an eclipsing binary is twice that of its sine.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> time = np.sort(rng.uniform(0, 20, 80))
    >>> magnitude = 15 + 0.1 * np.sin(2 * np.pi * time / 0.37) + rng.normal(0, 0.01, 80)
    >>> print(f"{xpjax.survey.report.find_period(time, magnitude).period:.2f}")
    0.37
    """
    good = np.isfinite(time) & np.isfinite(magnitude)
    t, y = time[good] - time[good].min(initial=np.inf), magnitude[good]
    if len(t) < FEWEST or np.ptp(t) == 0:
        raise XpjaxError(f"{len(t)} measurements at {len(np.unique(t))} times: a period needs {FEWEST}")
    weight = np.ones(len(t)) if error is None else np.asarray(error, float)[good]
    known = np.isfinite(weight) & (weight > 0)
    weight = np.maximum(np.where(known, weight, np.median(weight[known]) if known.any() else 1.0), 1e-6)
    span = float(np.ptp(t))
    repeats = _repeats(t)
    fastest = min(FASTEST, 0.5 / repeats if repeats else np.inf)
    used = np.ones(len(t), bool)
    for _ in range(3):
        peaks = _peaks(t[used], y[used], weight[used], span, fastest)
        off = np.abs(y - _sine(t, y, weight, used, peaks[0, 0]))
        off = off / weight if error is not None else off
        kept = off <= 5 * max(MAD * float(np.median(off[used])), 1e-12)
        if (kept == used).all() or (~kept).sum() > OUTLIERS * len(t):
            break
        used = kept
    return _judged(t[used], y[used], weight[used], peaks, (span, fastest, repeats), int((~used).sum()))


def _judged(
    t: np.ndarray, y: np.ndarray, weight: np.ndarray, peaks: np.ndarray, searched: tuple[float, float, float], lost: int
) -> PeriodSearch:
    """The significance of the highest peak against noise and against the other peaks."""
    from astropy.timeseries import LombScargle

    frequency, power, bend = peaks
    span, fastest, repeats = searched
    n = len(t)
    chance = LombScargle(t, y, weight).false_alarm_probability(
        min(power[0], 1.0), method="baluev", minimum_frequency=1 / span, maximum_frequency=fastest
    )
    left = np.maximum(1 - power, 1e-15)
    # The noise is what is left over, so this is a ratio of likelihoods.
    close = 0.5 * (n - 4) * np.log(left / left[0]) < -math.log(FALSE_ALARM)
    found = frequency[close]
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(2 * left / ((n - 4) * np.maximum(-bend, 1e-300)))[close] / found**2
    slow = found < 1 / span
    aliases = [(float(1 / f), float(e)) for f, e in zip(found[1:], error[1:], strict=True) if f >= 1 / span]
    steps = np.concatenate([found[1:][~slow[1:]] - found[0], found[1:][~slow[1:]] + found[0]]).reshape(2, -1)
    daily = np.abs(steps - np.round(steps)) < 1 / span + 0.003 * np.abs(steps)  # days are solar or sidereal
    whole = bool((daily & (np.abs(steps) > 0.5)).any(axis=0).all()) and bool(aliases)
    significant = chance < FALSE_ALARM
    stated = significant and not slow[0] and len(aliases) <= MOST_ALIASES
    return PeriodSearch(
        float(1 / found[0]) if stated else np.nan, float(error[0]) if stated else np.nan, float(chance),
        tuple(aliases) if significant and not slow[0] else (), whole and stated, bool(slow.any()) and significant,
        1 / fastest, span, repeats if repeats and fastest < FASTEST else 0.0, lost,
    )  # fmt: skip


def _peaks(t: np.ndarray, y: np.ndarray, weight: np.ndarray, span: float, fastest: float) -> np.ndarray:
    """Frequencies, powers and second derivatives (3, n_peak) of the highest peaks, the highest first."""
    from astropy.timeseries import LombScargle

    periodogram = LombScargle(t, y, weight)
    step = 1 / (OVERSAMPLING * span)
    # Below one cycle too: a trend has aliases, and is no period.
    grid = np.arange(0.2 / span, fastest + step, step)
    power = periodogram.power(grid, method="fast" if len(grid) > 500 else "slow", assume_regular_frequency=True)
    inner = np.flatnonzero((power[1:-1] >= power[:-2]) & (power[1:-1] >= power[2:])) + 1
    top = np.union1d(inner[np.argsort(-power[inner])[:PEAKS]], [0])
    frequency, width = grid[top], step
    for _ in range(6):
        places = np.clip(frequency[:, None] + width * np.linspace(-1, 1, 9), 0.2 / span, None)
        values = periodogram.power(places.ravel(), method="slow").reshape(places.shape)
        frequency = np.take_along_axis(places, values.argmax(axis=1)[:, None], axis=1)[:, 0]
        width /= 4
    h = 0.02 / span
    near = np.stack([frequency - h, frequency, frequency + h])
    low, middle, high = periodogram.power(np.maximum(near, 1e-9).ravel(), method="slow").reshape(near.shape)
    kept: list[int] = []
    for k in np.argsort(-middle).tolist():
        inside = 0.2 / span <= frequency[k] <= fastest * (1 + 1e-9)
        if inside and all(abs(frequency[k] - frequency[j]) > 0.5 / span for j in kept):
            kept.append(k)
    return np.stack([frequency, middle, (low - 2 * middle + high) / h**2])[:, kept]


def _sine(t: np.ndarray, y: np.ndarray, weight: np.ndarray, used: np.ndarray, frequency: float) -> np.ndarray:
    """The sine (n,) of one frequency and a constant that fit the measurements used."""
    angle = 2 * np.pi * frequency * t
    design = np.stack([np.ones(len(t)), np.cos(angle), np.sin(angle)], axis=1)
    scaled = design[used] / weight[used, None]
    return design @ np.linalg.lstsq(scaled, y[used] / weight[used], rcond=None)[0]


def _repeats(t: np.ndarray) -> float:
    """Time [d] after which a sampling (n,) from 0 on repeats itself, 0 where it does not: of the lowest frequency."""
    span, most = float(np.ptp(t)), 2 * FASTEST
    bins = 8 * most
    counts = np.bincount((t * bins).astype(np.int64))
    n = next_fast_len(2 * len(counts), real=True)
    power = np.abs(np.fft.rfft(counts, n)) ** 2 / len(t) ** 2
    frequency = np.arange(len(power)) * bins / n
    # The grid and the bins cost a quarter at most; what is left is told exactly.
    for f in frequency[(power > 0.7) & (frequency > 2 / span) & (frequency <= most)]:
        near = f + np.linspace(-0.5, 0.5, 101) / span
        window = np.abs(np.exp(2j * np.pi * near[:, None] * t).mean(axis=1)) ** 2
        if window.max() > REPEATS:
            return float(1 / near[window.argmax()])
    return 0.0
