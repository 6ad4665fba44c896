"""Periods of stars by sines (Lomb and Scargle), stated where chance leaves them standing, with their few aliases.

The periodogram (`astropy.timeseries.LombScargle`, floating mean, standard normalization) is searched from one cycle in
the time spanned to what the sampling supports: half of the frequency at which the spectral window repeats itself (the
Nyquist frequency of evenly spaced exposures; unevenly spaced ones have none), at most `FASTEST`. One sine is
significant where noise gives a peak as high, anywhere in that range, with a probability below `FALSE_ALARM` (Baluev
2008, MNRAS 385, 1279). Its error follows from its curvature and from what the sine leaves:

    sigma_f^2 = 2 (1 - Z) / ((n - 4) |d^2 Z / d f^2|),    sigma_P = P^2 sigma_f

with the power Z of the peak and n measurements. Times are taken as they are: those that are not barycentric change a
period by up to 1e-4 of itself. An eclipsing binary's period is twice that of its sine.

Light curves of few measurements and of any shape need harmonics: sums of up to k sines of one period, the highest of
them no faster than `FASTEST`. Among frequencies and numbers of sines the least n ln(1 - Z) + 2 k ln n decides (Schwarz
1978, Ann. Stat. 6, 461). The probability that noise fits as well is at most the number of trials, `OVERSAMPLING` in
each independent frequency and for each k, times that of one: 1 - Z follows a beta distribution of (n - 1 - 2 k) / 2 and
k. Errors are at least the jackknife's, for what a few sines leave is no white noise. Of a period and its multiples that
fit equally well the shortest is stated; where a multiple fits best, it is named as an alias.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from xpjax.core.constants import MAD
from xpjax.core.errors import XpjaxError

FALSE_ALARM = 1e-3
"""Probability that noise alone has a peak as high as a significant one, anywhere in the range that was searched."""
FASTEST = 48.0
"""Highest frequency that is searched [1/d]."""
FEWEST = 10
"""Measurements without which no period is looked for, for each sine."""
OVERSAMPLING = 5
PEAKS = 60
"""Highest peaks of the grid that are compared with each other."""
CANDIDATES = 5000
"""Peaks of sums over multiples that are looked at exactly, for each number of sines."""
DIRECT = 4e8
"""Measurements times frequencies up to which sums are taken one by one."""
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
    that of the period. aliases: other periods [d] and their errors that the data do not exclude at the level of
    `FALSE_ALARM`; daily: whether all aliases differ from the period by whole cycles a day. slower: whether the star may
    vary more slowly than the time spanned. shortest, longest: range searched [d]; repeats: time [d] after which the
    sampling repeats itself, 0 for none. n_outlier: measurements left out. sines: how many make up the light curve.
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
    sines: int = 1

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


def find_period(
    time: np.ndarray, magnitude: np.ndarray, error: np.ndarray | None = None, *, sines: int = 1
) -> PeriodSearch:
    """Find the period of a star by sines (Lomb and Scargle), and the other ones that fit as well.

    Parameters
    ----------
    time : (n,) array [d]
        Times of the measurements.
    magnitude : (n,) array [mag]
        Magnitudes. Measurements without time or magnitude are left out, and so are single ones far off the sines.
    error : (n,) array [mag], optional
        Errors, which are relative weights.
    sines : int
        The most sines of one period that may make up the light curve, one for each ten measurements; a single one is
        what pulsating and spotted stars seen often need, four give pulsating stars seen some dozens of times.

    Returns
    -------
    PeriodSearch
        `period` and its `error` [d], NaN where none is significant or more than three others fit equally well;
        `false_alarm` probability of its peak; `aliases`, the others; `str()` gives the result in words.

    Raises
    ------
    XpjaxError
        If there are fewer than ten measurements, or all are at one time.

    Notes
    -----
    A peak is significant where its false-alarm probability in the range searched (Baluev 2008, MNRAS 385, 1279; of
    several sines a bound by the number of trials) is below 0.001. Of a period and multiples of it that fit equally well
    the period is stated, and of the multiples only one that fits best is an alias. Its error is sigma_P = P^2 sigma_f,
    sigma_f^2 = 2 (1 - Z) / ((n - 2 k - 2) |d^2 Z / d f^2|), where Z is the power of the peak of k sines. The period of
    an eclipsing binary is twice that of its sine.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> time = np.sort(rng.uniform(0, 20, 80))
    >>> magnitude = 15 + 0.1 * np.sin(2 * np.pi * time / 0.37) + rng.normal(0, 0.01, 80)
    >>> print(f"{xpjax.survey.report.find_period(time, magnitude).period:.2f}")
    0.37
    """
    good = np.isfinite(time) & np.isfinite(magnitude)
    t, y = time[good] - time[good].min(initial=np.inf), np.asarray(magnitude[good], float)
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
        most = max(min(sines, int(used.sum()) // FEWEST), 1)
        series = _Series(t[used], y[used], weight[used], span, fastest)
        peaks = _all_peaks(series, most)
        off = np.abs(y - _sines(t, y, weight, used, peaks[0, 0], int(peaks[3, 0])))
        off = off / weight if error is not None else off
        kept = off <= 5 * max(MAD * float(np.median(off[used])), 1e-12)
        if (kept == used).all() or (~kept).sum() > OUTLIERS * len(t):
            break
        used = kept
    return _judged(series, peaks, repeats, most, int((~used).sum()))


@dataclasses.dataclass(frozen=True)
class _Series:
    """Measurements y (n,) at times t (n,) [d] from 0 on, their errors, the time spanned and the highest frequency."""

    t: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    span: float
    fastest: float


def _judged(series: _Series, peaks: np.ndarray, repeats: float, most: int, lost: int) -> PeriodSearch:
    """The significance of the best peak against noise and against the other peaks."""
    worse = _worse(series, peaks)
    first = _shortest(series, peaks, worse, most)
    order = [first, *(i for i in range(len(worse)) if i != first)]
    worse, (frequency, power, bend, k) = worse[order], peaks[:, order]
    n, span = len(series.t), series.span
    left = np.maximum(1 - power, 1e-15)
    # A multiple of the period fits as well with as many more sines: it is no other period.
    multiple = np.zeros(len(k), bool)
    for m in range(2, most + 1):
        multiple |= (k >= m) & (np.abs(frequency - frequency[0] / m) < 1 / span)
    close = (worse < -math.log(FALSE_ALARM)) & ~multiple
    close[[0, order.index(0)]] = True  # what fits best is told, be it a multiple
    found = frequency[close]
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = 2 * left / ((n - 2 * k - 2) * np.maximum(-bend, 1e-300))
        error = np.sqrt(variance)[close]
    chance = _chance(series, float(power[0]), int(k[0]), most)
    significant = chance < FALSE_ALARM
    for i in np.flatnonzero(k[close] > 1) if significant and close.sum() <= MOST_ALIASES + 1 else ():
        error[i] = np.fmax(error[i], _jackknife(series, found[i], int(k[close][i]), error[i]))
    error = error / found**2
    slow = found < 1 / span
    aliases = [(float(1 / f), float(e)) for f, e in zip(found[1:], error[1:], strict=True) if f >= 1 / span]
    steps = np.concatenate([found[1:][~slow[1:]] - found[0], found[1:][~slow[1:]] + found[0]]).reshape(2, -1)
    daily = np.abs(steps - np.round(steps)) < 1 / span + 0.003 * np.abs(steps)  # days are solar or sidereal
    whole = bool((daily & (np.abs(steps) > 0.5)).any(axis=0).all()) and bool(aliases)
    stated = significant and not slow[0] and len(aliases) <= MOST_ALIASES
    return PeriodSearch(
        float(1 / found[0]) if stated else np.nan, float(error[0]) if stated else np.nan, chance,
        tuple(aliases) if significant and not slow[0] else (), whole and stated, bool(slow.any()) and significant,
        1 / series.fastest, span, repeats if repeats and series.fastest < FASTEST else 0.0, lost, int(k[0]),
    )  # fmt: skip


def _worse(series: _Series, peaks: np.ndarray) -> np.ndarray:
    """How much less likely than the first one peaks (n_peak,) are, as logarithms of ratios of likelihoods."""
    _, power, _, k = peaks
    n, left = len(series.t), np.maximum(1 - power, 1e-15)
    # The noise is what is left over; more sines have to pay for themselves.
    return 0.5 * (n - 2 * k[0] - 2) * np.log(left / left[0]) + (k - k[0]) * np.log(n)


def _shortest(series: _Series, peaks: np.ndarray, worse: np.ndarray, most: int) -> int:
    """The peak to state: the first, or the shortest period that fits as well of which it is a multiple.

    Sines of a multiple describe all that those of the period do, and chance makes a little more of them.
    """
    frequency, power, _, k = peaks
    best = 0
    for i in np.flatnonzero((worse < -math.log(FALSE_ALARM)) & (k <= k[0])):
        turns = round(frequency[i] / frequency[0])
        if not (2 <= turns <= k[0] and abs(frequency[i] - turns * frequency[0]) < 1 / series.span):
            continue
        if frequency[i] > frequency[best] and _chance(series, float(power[i]), int(k[i]), most) < FALSE_ALARM:
            best = int(i)
    return best


def _jackknife(series: _Series, frequency: float, k: int, width: float) -> float:
    """The error of the frequency of k sines by leaving out one measurement after the other.

    Few measurements and many sines leave residuals that are no white noise. width: about the error.
    """
    if not (math.isfinite(width) and width > 0):
        return math.nan
    n, found = len(series.t), []
    near = frequency + width * np.array([-1.0, 0.0, 1.0])
    for i in range(n):
        t, y, weight = (np.delete(a, i) for a in (series.t, series.y, series.weight))
        low, middle, high = _power(dataclasses.replace(series, t=t, y=y, weight=weight), near, k)
        bend = low - 2 * middle + high
        found.append(np.clip(0.5 * (low - high) / bend, -5, 5) if bend < 0 else 0.0)
    return width * math.sqrt((n - 1) * np.var(found))


def _chance(series: _Series, power: float, k: int, most: int) -> float:
    """Probability that noise has a peak as high anywhere in the range; of several sines, at most so much."""
    from astropy.timeseries import LombScargle

    n = len(series.t)
    if most == 1:
        periodogram = LombScargle(series.t, series.y, series.weight)
        limits = {"minimum_frequency": 1 / series.span, "maximum_frequency": series.fastest}
        return float(periodogram.false_alarm_probability(min(power, 1.0), method="baluev", **limits))
    from scipy.special import betainc

    trials = most * OVERSAMPLING * series.span * series.fastest
    return float(min(trials * betainc(0.5 * (n - 1 - 2 * k), k, max(1 - power, 0.0)), 1.0))


def _all_peaks(series: _Series, most: int) -> np.ndarray:
    """Frequencies, powers, second derivatives and numbers of sines (4, n_peak) of the highest peaks, the best first."""
    from astropy.timeseries import LombScargle

    n, span = len(series.t), series.span
    step = 1 / (OVERSAMPLING * span * most)
    # Below one cycle too: a trend has aliases, and is no period.
    grid = np.arange(0.2 / span if most == 1 else step, series.fastest + step, step)
    if most > 1 and n * len(grid) < DIRECT:
        power = _grid_power(series, step, len(grid))
    else:
        method = "fast" if len(grid) > 500 else "slow"
        power = LombScargle(series.t, series.y, series.weight).power(grid, method=method, assume_regular_frequency=True)
    parts = []
    for k in range(1, most + 1):
        peaks = _refined(series, _start(series, grid, power, k), k, step)
        parts.append(np.concatenate([peaks, np.full((1, peaks.shape[1]), k)]))
    peaks = np.concatenate(parts, axis=1)
    cost = 0.5 * n * np.log(np.maximum(1 - peaks[1], 1e-15)) + peaks[3] * np.log(n)
    kept: list[int] = []
    for i in np.argsort(cost, kind="stable").tolist():
        if all(peaks[3, i] == peaks[3, j] or abs(peaks[0, i] - peaks[0, j]) > 0.5 / span for j in kept):
            kept.append(i)
    return peaks[:, kept]


def _grid_power(series: _Series, step: float, size: int) -> np.ndarray:
    """The power of one sine at step, 2 step, ... (size,): sums over few measurements as products of matrices.

    exp(i (a + b) t) = exp(i a t) exp(i b t), with some hundred coarse frequencies a and as many fine ones b between.
    """
    width = math.isqrt(size) + 1
    w = series.weight**-2
    w = w / w.sum()
    y = series.y - w @ series.y
    fine = np.exp(2j * np.pi * step * np.arange(1, width + 1)[:, None] * series.t)
    coarse = np.exp(2j * np.pi * step * width * np.arange(width)[:, None] * series.t)

    def total(weight: np.ndarray, turn: int) -> np.ndarray:
        return ((coarse**turn * weight) @ (fine**turn).T).ravel()[:size]

    one, double, product = total(w, 1), total(w, 2), total(w * y, 1)
    cc = 0.5 * (1 + double.real) - one.real**2
    ss = 0.5 * (1 - double.real) - one.imag**2
    cs = 0.5 * double.imag - one.real * one.imag
    found = ss * product.real**2 + cc * product.imag**2 - 2 * cs * product.real * product.imag
    return np.clip(found / np.maximum((w @ y**2) * (cc * ss - cs**2), 1e-300), 0, 1)


def _start(series: _Series, grid: np.ndarray, power: np.ndarray, k: int) -> np.ndarray:
    """The frequencies of the grid near which k sines may fit best, from the power of one sine.

    Powers of a frequency's multiples add up where sines are orthogonal, which those of few measurements are but nearly:
    of the highest sums the exact powers decide.
    """
    if k > 1:
        count = len(grid) // k
        total = np.sum([power[j - 1 : j * count : j] for j in range(1, k + 1)], axis=0)
        inner = np.flatnonzero((total[1:-1] >= total[:-2]) & (total[1:-1] >= total[2:])) + 1
        inner = inner[np.argsort(-total[inner])[:CANDIDATES]]
        exact = np.concatenate([_power(series, part, k) for part in np.array_split(grid[inner], len(inner) // 500 + 1)])
        inner = inner[np.argsort(-exact)[:PEAKS]]
    else:
        inner = np.flatnonzero((power[1:-1] >= power[:-2]) & (power[1:-1] >= power[2:])) + 1
        inner = inner[np.argsort(-power[inner])[:PEAKS]]
    return grid[np.union1d(inner, [0])]


def _refined(series: _Series, frequency: np.ndarray, k: int, width: float) -> np.ndarray:
    """Frequencies, powers and second derivatives (3, n_peak) of the peaks of k sines near some, the highest first."""
    from astropy.timeseries import LombScargle

    span, fastest = series.span, series.fastest / k
    periodogram = LombScargle(series.t, series.y, series.weight)

    def at(places: np.ndarray) -> np.ndarray:
        if k > 1:
            return _power(series, places.ravel(), k).reshape(places.shape)
        return np.asarray(periodogram.power(places.ravel(), method="slow")).reshape(places.shape)

    for _ in range(6):
        places = np.clip(frequency[:, None] + width * np.linspace(-1, 1, 9), 0.2 / span, None)
        frequency = np.take_along_axis(places, at(places).argmax(axis=1)[:, None], axis=1)[:, 0]
        width /= 4
    h = 0.02 / (span * k)
    low, middle, high = at(np.maximum(np.stack([frequency - h, frequency, frequency + h]), 1e-9))
    kept: list[int] = []
    for i in np.argsort(-middle).tolist():
        inside = 0.2 / span <= frequency[i] <= fastest * (1 + 1e-9)
        if inside and all(abs(frequency[i] - frequency[j]) > 0.5 / (span * k) for j in kept):
            kept.append(i)
    return np.stack([frequency, middle, (low - 2 * middle + high) / h**2])[:, kept]


def _design(t: np.ndarray, frequency: np.ndarray, k: int) -> np.ndarray:
    """A constant, and cosines and sines of k multiples of frequencies (m,): (m, n, 2 k + 1)."""
    angle = 2 * np.pi * frequency[:, None] * t
    waves = [wave(j * angle) for j in range(1, k + 1) for wave in (np.cos, np.sin)]
    return np.stack([np.ones_like(angle), *waves], axis=2)


def _power(series: _Series, frequency: np.ndarray, k: int) -> np.ndarray:
    """The power of k sines of each frequency (m,): the part of the weighted sum of squares that they take."""
    y = series.y / series.weight
    y = y - np.average(series.y, weights=series.weight**-2) / series.weight
    basis = np.linalg.qr(_design(series.t, frequency, k) / series.weight[:, None])[0]
    return ((y @ basis) ** 2).sum(axis=1) / (y @ y)


def _sines(t: np.ndarray, y: np.ndarray, weight: np.ndarray, used: np.ndarray, frequency: float, k: int) -> np.ndarray:
    """The sum (n,) of a constant and k sines of one frequency that fits the measurements used."""
    design = _design(t, np.array([frequency]), k)[0]
    scaled = design[used] / weight[used, None]
    return design @ np.linalg.lstsq(scaled, y[used] / weight[used], rcond=None)[0]


def _repeats(t: np.ndarray) -> float:
    """Time [d] after which a sampling (n,) from 0 on repeats itself, 0 where it does not: of the lowest frequency."""
    from scipy.fft import next_fast_len

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
