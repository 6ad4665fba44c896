"""The fit of a stellar color regression (SCR): intrinsic color, reddening coefficient and zero-points of tiles.

The model is that of `xpjax.survey.scr.law`, the treatment of label errors that of `.population`. Zero-points of tiles
are eliminated from the least squares. Errors of a star's labels are part of that star's error; errors of the labels of
a whole tile are not seen and go into the zero-point of the tile. Arithmetic: float64 on the host; a fit is a few sums
over the stars.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey import LEAST_VARIANCE, MAD, group_median
from xpjax.survey.exposures import error_floor
from xpjax.survey.scr.equations import Equations
from xpjax.survey.scr.labels import SCALE, ZERO, scaled, terms
from xpjax.survey.scr.law import ColorRegression
from xpjax.survey.scr.population import Population, TrueLabels, find_population, true_labels

CLIP = 3.0
"""[sigma], both papers."""
STEPS = 50


@dataclasses.dataclass(frozen=True)
class ColorModel:
    """Choose the terms of a color relation and how it is fitted.

    Parameters
    ----------
    order : {1, 2, 3}
        Total order of the intrinsic color in (Teff, [Fe/H]).
    reddening : {"constant", "quadratic"} or float
        Reddening coefficient: fitted, fitted as a quadratic in (Teff, reddening), or a known number.
    low_extinction : float [mag], optional
        Stars below it determine the intrinsic color, stars above it the reddening coefficient, each given the other:
        what the iteration of Yuan et al. (2015) converges to. By default all stars determine both.
    clip : float [sigma]
        Stars with larger residuals are outliers, 0 for none. A star that fits again returns.
    floor : float [mag], optional
        Scatter about the relation beyond the errors; by default fitted.

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> scr.ColorModel(order=2, reddening="quadratic").clip
    3.0
    """

    order: int = 3
    reddening: str | float = "constant"
    low_extinction: float | None = None
    clip: float = CLIP
    floor: float | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class ColorFit(Record):
    """A color relation with what the fit found for its stars (n,) and tiles (n_tile,) [mag]; NaN where there is none.

    residual: color - relation - zero-point of the tile, at the measured labels; error: of one star about the relation,
    label errors and floor included; used: whether the star took part; clipped: whether it is an outlier. zero_point:
    m_SCR - m_instrumental, of mean zero over the stars; zero_point_error: from the scatter of the tile's stars;
    zero_point_systematic: from the coefficients, in part common to all tiles; n_used: stars of the tile.
    """

    regression: ColorRegression
    residual: np.ndarray
    error: np.ndarray
    used: np.ndarray
    clipped: np.ndarray
    zero_point: np.ndarray
    zero_point_error: np.ndarray
    zero_point_systematic: np.ndarray
    n_used: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Sample:
    """The stars (n,) that have all that a fit needs: rows of (n_all,) where usable."""

    usable: np.ndarray
    color: np.ndarray
    sigma: np.ndarray
    z: np.ndarray
    truth: TrueLabels
    population: Population | None
    tile: np.ndarray
    n_tile: int


def fit_scr(
    color: np.ndarray,
    color_error: np.ndarray,
    labels: np.ndarray,
    model: ColorModel | None = None,
    *,
    label_covariance: np.ndarray | None = None,
    population: Population | None = None,
    tile: np.ndarray | None = None,
    band: str = "",
    gaia: str = "BP",
) -> ColorFit:
    """Fit intrinsic color, reddening coefficient and zero-points of tiles in one band.

    Parameters
    ----------
    color, color_error : (n,) arrays [mag]
        G_BP or G_RP - m and its error. Stars with NaN take no part.
    labels : (n, 3) array [K, dex, mag]
        Teff, [Fe/H] and reddening.
    model : ColorModel, optional
        Terms and clipping.
    label_covariance : (n, 3, 3) or (3, 3) array, optional
        Covariance of the label errors; by default labels are exact.
    population : Population, optional
        Distribution of the true labels; by default found from all labels given, those of stars without a color too.
        Therefore give stars that a selection removes a color of NaN.
    tile : (n,) array of int, optional
        Number of each star's tile, from 0; by default one tile with zero-point zero.
    band, gaia : str
        Names of the band and of the Gaia band, for messages and tables.

    Returns
    -------
    ColorFit
        The `regression` (a ColorRegression), residuals of stars, and zero-points of tiles.

    Raises
    ------
    XpjaxError
        If arrays do not fit together, or the stars do not determine all terms.

    Notes
    -----
    Yuan et al. 2015, ApJ 799, 133; Xiao et al. 2023, ApJS 269, 58. Label errors: regression calibration (Carroll et
    al. 2006, Measurement Error in Nonlinear Models, chapter 4).

    Examples
    --------
    >>> from xpjax.survey import scr
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.normal([5900, -0.3, 0.1], [300, 0.3, 0.05], (500, 3))
    >>> color = 0.3 - 4e-4 * (labels[:, 0] - 6000) - 0.9 * labels[:, 2] + rng.normal(0, 0.01, 500)
    >>> fit = scr.fit_scr(color, np.full(500, 0.01), labels, scr.ColorModel(order=1))
    >>> print(f"{fit.regression.reddening_coefficient(labels)[0]:.1f}")
    -0.9
    """
    z, covariance = scaled(color, color_error, labels, label_covariance)
    if covariance is not None and population is None:
        population = find_population(labels, covariance * np.outer(SCALE, SCALE), tile)
    usable = np.isfinite(color) & np.isfinite(color_error) & (color_error >= 0) & np.isfinite(z).all(axis=1)
    tiles = np.zeros(len(z), int) if tile is None else np.asarray(tile)
    usable &= tiles >= 0
    if covariance is not None:
        usable &= np.isfinite(covariance).all(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        truth = true_labels(z, covariance, population, None if tile is None else tiles)[usable]
    n_tile = 0 if tile is None else int(np.asarray(tile).max()) + 1
    known = population if covariance is not None else None
    stars = _Sample(usable, color[usable], color_error[usable], z[usable], truth, known, tiles[usable], n_tile)
    return _fit(stars, model or ColorModel(), labels, band, gaia)


def _fit(stars: _Sample, model: ColorModel, labels: np.ndarray, band: str, gaia: str) -> ColorFit:
    """Solve, judge the stars, and solve again until no star goes out or comes back."""
    y, sigma, n_tile = stars.color, stars.sigma, stars.n_tile
    exponents, where = terms(model.order, model.reddening), f"band {band or 'without name'}"
    if len(y) < 2 * len(exponents):
        raise XpjaxError(
            f"{where}: {len(y)} stars with color, error and labels are too few for {len(exponents)} terms: lower the "
            "order, or widen the selection"
        )
    speaks = np.ones((len(y), len(exponents)), bool)
    if model.low_extinction is not None:
        red = np.array([e[2] > 0 for e in exponents])
        speaks = red == (stars.z[:, 2] * SCALE[2] >= model.low_extinction)[:, None]
    known = None if isinstance(model.reddening, str) else model.reddening * SCALE[2]
    equations = Equations(stars.truth.terms(exponents), speaks, stars.tile, n_tile, known)
    used, square, converged = np.ones(len(y), bool), 0.0 if model.floor is None else model.floor**2, False
    variance = sigma**2
    for step in range(STEPS):
        weight = np.where(used, 1 / np.maximum(variance + square, LEAST_VARIANCE), 0.0)
        value, offset = equations.solve(y, weight, where)
        residual = y - equations.t @ value
        variance = sigma**2 + stars.truth.variance(value, exponents)
        # Stars are judged about the median of their tile: one outlier moves the mean far enough to lose all others.
        about = residual - group_median(residual, stars.tile, n_tile)[stars.tile] if n_tile else residual
        if model.floor is None:
            square = float(error_floor(about, variance, np.zeros(len(y), int), 1)[0] ** 2)
        pull = np.abs(about) / np.sqrt(np.maximum(variance + square, LEAST_VARIANCE))
        # Errors that are too large must not let outliers in.
        keep = pull < model.clip * min(1.0, MAD * float(np.median(pull))) if model.clip else used
        converged = bool((keep == used).all()) and step > 1
        if converged:
            break
        used = keep
    matrix = equations.covariance(y, value, offset)
    total = variance + square
    regression = ColorRegression(
        band, gaia, np.array(exponents), value, matrix, np.array(ZERO), np.array(SCALE), float(np.sqrt(square)),
        float(MAD * np.median(np.abs(about))), stars.population,
        np.percentile(labels[stars.usable][used], [0.5, 99.5], axis=0), int(used.sum()), converged,
    )  # fmt: skip

    def back(values: np.ndarray, fill: Any) -> np.ndarray:
        out = np.full(len(stars.usable), fill)
        out[stars.usable] = values
        return out

    residual = y - equations.t @ value - offset[stars.tile]
    tiles = (column[:n_tile] for column in (offset, *equations.tile_errors(total, matrix)))
    found = back(residual, np.nan), back(np.sqrt(total), np.nan), back(used, False), back(~used, False)
    return ColorFit(regression, *found, *tiles)
