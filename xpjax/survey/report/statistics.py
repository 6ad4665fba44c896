"""Statistics of a survey's report: robust scatters, trends, maps, correlations, straight lines."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from xpjax.core.periods import FALSE_ALARM
from xpjax.survey import MAD, group_median

ENOUGH = 5
"""Measurements of a star that make a scatter, and tiles that make a slope or a sigma."""
STRONG = 0.8
"""Correlation of two bands beyond which their slope is quoted (Xiao et al. 2023)."""


class Missing(Exception):
    """A figure cannot be made; the message says what it would have needed."""


@contextlib.contextmanager
def noted(missing: dict[str, str], title: str) -> Iterator[None]:
    """Note what a figure would have needed that raises Missing, and go on."""
    try:
        yield
    except Missing as why:
        missing[title] = str(why)


def median(values: np.ndarray) -> float:
    """Median of the finite values, NaN of none."""
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else np.nan


def spread(values: np.ndarray) -> tuple[float, float]:
    """1.48 MAD about the median, and standard deviation, of the finite values; NaN of fewer than two."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return np.nan, np.nan
    return float(MAD * np.median(np.abs(values - np.median(values)))), float(values.std())


def gaussian(values: np.ndarray) -> tuple[float, float]:
    """Mean and sigma of the Gaussian in the middle of the values: of those within 3 sigma, as a cut Gaussian has them.

    Iterated from the median and 1.48 MAD; NaN for fewer than five values.
    """
    values = values[np.isfinite(values)]
    if len(values) < ENOUGH:
        return np.nan, np.nan
    mean, sigma = float(np.median(values)), spread(values)[0]
    inside = 0.986578  # standard deviation of a unit Gaussian cut at 3
    for _ in range(20):
        kept = values[np.abs(values - mean) <= 3 * sigma]
        if sigma <= 0 or len(kept) < ENOUGH:
            break
        mean, sigma = float(kept.mean()), float(kept.std()) / inside
    return mean, sigma


@dataclasses.dataclass(frozen=True)
class Trend:
    """Bins of equal numbers (n_bin,): middle of x, median of y, its error and 1.48 MAD of y."""

    x: np.ndarray
    median: np.ndarray
    error: np.ndarray
    scatter: np.ndarray


def trend(x: np.ndarray, y: np.ndarray, bins: int = 24) -> Trend:
    """y against x in bins of equal numbers, ten values at least in each; or by x where it has few values.

    Raises Missing where x has no spread.
    """
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    if not len(x):
        raise Missing("no values")
    if np.ptp(x) == 0:
        raise Missing("one value only")
    values, code, number = np.unique(x, return_inverse=True, return_counts=True)
    n = len(values)
    if n > bins or number.min() < 10:
        edges = np.unique(np.quantile(x, np.linspace(0, 1, min(bins, max(1, len(x) // 10)) + 1)))
        n = len(edges) - 1
        code = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, n - 1)
    middle, median = group_median(x, code, n), group_median(y, code, n)
    scatter = MAD * group_median(np.abs(y - median[code]), code, n)
    count = np.bincount(code, minlength=n)
    has = count > 0
    # The error of a median is that of the mean times sqrt(pi / 2).
    return Trend(middle[has], median[has], (1.2533 * scatter / np.sqrt(np.maximum(count, 1)))[has], scatter[has])


def cell_means(
    u: np.ndarray, v: np.ndarray, value: np.ndarray, variance: np.ndarray, bins: int, fewest: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means in bins x bins cells over -1..1, rows along v, and their variances; NaN below `fewest` values."""
    i, j = (np.clip(((a + 1) / 2 * bins).astype(int), 0, bins - 1) for a in (v, u))
    cell = i * bins + j
    weight = np.bincount(cell, 1 / variance, bins * bins)
    few = np.bincount(cell, minlength=bins * bins) < fewest
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(few, np.nan, np.bincount(cell, value / variance, bins * bins) / weight)
        return mean.reshape(bins, bins), np.where(few, np.nan, 1 / weight).reshape(bins, bins)


def structure(
    u: np.ndarray, v: np.ndarray, value: np.ndarray, variance: np.ndarray, bins: int = 30, fewest: int = 10
) -> float:
    """Standard deviation of means in bins x bins cells, less what the variances explain, in quadrature; NaN of none."""
    known = np.isfinite(value + variance)
    means = cell_means(u[known], v[known], value[known], variance[known], bins, fewest)
    mean, noise = (a[np.isfinite(a)] for a in means)
    if len(mean) < 2:
        return np.nan
    weight = 1 / (noise + np.median(noise))
    mean = mean - np.average(mean, weights=weight)
    return float(np.sqrt(max(np.average(mean**2 - noise, weights=weight), 0.0)))


Slope = tuple[str, str, float, float, float]


def correlation(bands: Sequence[str], difference: np.ndarray) -> tuple[np.ndarray, list[Slope]]:
    """Band-to-band correlation (n_band, n_band) of zero-point differences (n_tile, n_band), without far outliers.

    NaN for pairs of few. With the slopes of strong pairs, (band of y, band of x, r, slope, error), that chance has with
    a probability below `FALSE_ALARM`: the reduced major axis, for both have errors.
    """
    from scipy.stats import pearsonr

    n = len(bands)
    r = np.full((n, n), np.nan)
    slopes = []
    away = np.abs(difference - np.nanmedian(difference, axis=0)) if len(difference) else difference
    fine = away <= 5 * np.array([max(spread(column)[0], 1e-12) for column in difference.T])
    for i in range(n):
        for j in range(i + 1):
            both = fine[:, i] & fine[:, j]
            if both.sum() < ENOUGH:
                continue
            y, x = difference[both, i], difference[both, j]
            if y.std() > 0 and x.std() > 0:
                r[i, j] = r[j, i] = np.corrcoef(x, y)[0, 1]
                if i != j and abs(r[i, j]) > STRONG and pearsonr(x, y).pvalue < FALSE_ALARM:
                    slope = np.sign(r[i, j]) * y.std() / x.std()
                    error = abs(slope) * np.sqrt((1 - r[i, j] ** 2) / (both.sum() - 2))
                    slopes.append((bands[i], bands[j], float(r[i, j]), float(slope), float(error)))
    return r, slopes


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Constant, slope and its error of a straight line without 3-sigma outliers; NaN for fewer than five points."""
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    used = np.ones(len(x), bool)
    for _ in range(10):
        if used.sum() < ENOUGH or np.ptp(x[used]) == 0:
            return np.nan, np.nan, np.nan
        middle = x[used].mean()
        slope = ((x - middle)[used] @ y[used]) / ((x - middle)[used] @ (x - middle)[used])
        constant = y[used].mean() - slope * middle
        off = y - constant - slope * x
        before, used = used, np.abs(off) <= 3 * max(spread(off)[0], 1e-12)
        if (before == used).all():
            break
    rest = off[used]
    error = rest.std() / np.sqrt(max(len(rest) - 2, 1)) / max(x[used].std(), 1e-300)
    return float(constant), float(slope), float(error)
