"""Stellar color regression (SCR): magnitudes from spectroscopic labels, reddening and Gaia's BP or RP.

With C = G_BP or G_RP - m, (T, F, E) = Teff, [Fe/H] and the reddening E(BP-RP) or E(B-V) of a star (Yuan et al. 2015,
ApJ 799, 133; Xiao et al. 2023, ApJS 269, 58):

    C = C0(T, F) + R E + zero-point of the tile,      m_SCR = G_BP,RP - C0(T, F) - R E

C0 is a polynomial in (T, F) of total order 2 or 3 (6 or 10 terms), R a constant or a quadratic in (T, E): the whole is
a polynomial in scaled labels, linear in its coefficients. Tile zero-points are eliminated, not iterated.

Labels with errors attenuate slopes: 97 K in a spread of 270 K cost 12 %. Where the covariance of the errors is given,
the products of terms in the normal equations are replaced by unbiased estimates of what they would be without errors
(adjusted least squares: Cheng & Schneeweiss 1998, J. R. Stat. Soc. B 60, 189). For Gaussian errors u ~ N(0, S) that is
the mean of the product at z + u taken with covariance -S. It is exact for polynomials, needs no model of the stars, and
no start. It needs stars that were not chosen by the measured labels themselves: where they were, `taper` weighs them
down towards the edges, by a Gaussian in the measured labels that the same algebra allows for.

The coefficients so found are those of the true labels. Of a star with measured labels the mean color is another one:
`predict_scr` takes the mean over the true labels that it may have, given how the true labels of all stars spread.

Arithmetic: float64 on the host; a fit is a few sums over the stars.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.records import Catalogue
from xpjax.survey.flat import error_floor
from xpjax.survey.observations import Observations
from xpjax.survey.zeropoint import MAD, ExposureFits, Model, evaluate, fit_exposures

LABELS = ("teff", "feh", "reddening")
ZERO, SCALE = (6000.0, 0.0, 0.0), (500.0, 0.5, 1.0)
"""Labels are scaled to (label - ZERO) / SCALE: the papers' sample lies within -2..1."""
CLIP, CLIP_WITH_ERRORS = 3.0, 4.0
"""[sigma]. With label errors, 3 would cut those who have large ones: 0.6 % too small a variance at 3.5, 0.1 % at 4."""
STEPS = 50
SINGULAR = 1e-10
"""Terms are not determined where the smallest eigenvalue of the scaled normal matrix is below this."""
TOLERANCE = 1e-4
"""Rounds with flats end where no zero-point moves by more [mag]."""

Exponents = tuple[int, ...]


def terms(order: int, reddening: str | float = "constant") -> tuple[Exponents, ...]:
    """Exponents of (T, F, E) of the terms: the intrinsic ones by total order, the constant first, then those of R.

    order 1..3. reddening: "constant", or "quadratic" for E times a quadratic in (T, E); a number is a known constant.
    """
    if order not in (1, 2, 3):
        raise ValueError(f"order must be 1, 2 or 3, not {order!r}")
    intrinsic = [(total - j, j, 0) for total in range(order + 1) for j in range(total + 1)]
    if reddening == "quadratic":
        return (*intrinsic, *((total - j, 0, 1 + j) for total in range(3) for j in range(total + 1)))
    if reddening == "constant" or (isinstance(reddening, int | float) and np.isfinite(reddening)):
        return (*intrinsic, (0, 0, 1))
    raise ValueError(f'reddening must be "constant", "quadratic" or a number, not {reddening!r}')


def mean_monomials(z: np.ndarray, covariance: np.ndarray | None, exponents: Sequence[Exponents]) -> np.ndarray:
    """Means (n, n_term) of products of powers of z + u, u ~ N(0, covariance); covariance (n, d, d), None for zero.

    Stein's lemma, one power after the other: E[x_d p(x)] = z_d E[p] + sum_c S_dc E[dp/dx_c]. With -S for a covariance
    it is the unbiased estimate of the same product of the true values, of which z are measurements with covariance S.
    """
    n, d = z.shape
    known: dict[Exponents, np.ndarray] = {(0,) * d: np.ones(n)}

    def lower(e: Exponents, k: int) -> Exponents:
        return tuple(p - (j == k) for j, p in enumerate(e))

    def mean(e: Exponents) -> np.ndarray:
        if e not in known:
            k = next(j for j, p in enumerate(e) if p)
            rest = lower(e, k)
            value = z[:, k] * mean(rest)
            for c, power in enumerate(rest) if covariance is not None else ():
                if power:
                    value = value + power * covariance[:, k, c] * mean(lower(rest, c))
            known[e] = value
        return known[e]

    return np.stack([mean(e) for e in exponents], axis=1)


def _gradient(z: np.ndarray, value: np.ndarray, exponents: Sequence[Exponents]) -> np.ndarray:
    """Derivatives (n, d) of the polynomial at z (n, d)."""
    out = np.zeros_like(z)
    for v, e in zip(value, exponents, strict=True):
        for k, power in enumerate(e):
            if power:
                rest = [p - (j == k) for j, p in enumerate(e)]
                out[:, k] += v * power * np.prod(z ** np.array(rest), axis=1)
    return out


def _quadratic(vector: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """v' M v of rows: vector (n, k), matrix (k, k) or (n, k, k)."""
    return np.einsum("ni,...ij,nj->n" if matrix.ndim == 2 else "ni,nij,nj->n", vector, matrix, vector)


@dataclasses.dataclass(frozen=True)
class ColorRegression:
    """The law of one band: coefficients of scaled labels, and what is needed to predict with them.

    gaia: "BP" or "RP". exponents (k, 3) of (T, F, E); value (k,) and covariance (k, k) [mag]; zero, scale (3,) of the
    labels. floor, scatter [mag]: what the stars scatter by beyond their errors, and 1.48 MAD of all residuals.
    population_mean (3,), population_covariance (3, 3): of the true labels, scaled; NaN for a fit without label errors.
    label_range (2, 3): the middle 99 % of the stars, as measured. n_used stars; converged: no star in and out.
    """

    band: str
    gaia: str
    exponents: np.ndarray
    value: np.ndarray
    covariance: np.ndarray
    zero: np.ndarray
    scale: np.ndarray
    floor: float
    scatter: float
    population_mean: np.ndarray
    population_covariance: np.ndarray
    label_range: np.ndarray
    n_used: int
    converged: bool

    @property
    def error(self) -> np.ndarray:
        """Errors of the coefficients (k,)."""
        return np.sqrt(np.maximum(np.diagonal(self.covariance), 0))

    @property
    def names(self) -> list[str]:
        """`teff2_feh1` and the like; `constant`; those of R are products with `reddening`."""
        parts = [
            "_".join(f"{label}{p}" for label, p in zip(LABELS, e, strict=True) if p) or "constant"
            for e in self.exponents.tolist()
        ]
        return ["reddening" if part == "reddening1" else part for part in parts]

    @property
    def label_errors(self) -> bool:
        """Whether the fit took label errors into account."""
        return bool(np.isfinite(self.population_mean).all())

    def intrinsic(self, labels: np.ndarray) -> np.ndarray:
        """C0 (n,) at labels (n, 3)."""
        free = np.array(labels, float)
        free[:, 2] = self.zero[2]
        return mean_monomials((free - self.zero) / self.scale, None, _tuples(self.exponents)) @ self.value

    def reddening_coefficient(self, labels: np.ndarray) -> np.ndarray:
        """R (n,) at labels (n, 3): the derivative is not meant, but (C - C0) / E."""
        z = (np.asarray(labels, float) - self.zero) / self.scale
        own = self.exponents[:, 2] > 0
        lowered = [(i, j, k - 1) for i, j, k in self.exponents[own].tolist()]
        return mean_monomials(z, None, lowered) @ self.value[own] / self.scale[2]


def _tuples(exponents: np.ndarray) -> list[Exponents]:
    return [tuple(map(int, e)) for e in exponents]


@dataclasses.dataclass(frozen=True)
class ColorFit:
    """A regression with what it found for its stars (n,) and tiles (n_tile,) [mag]; NaN where there is nothing.

    residual: color - model - zero-point of the tile, at the measured labels; error: of one star about the model, label
    errors and floor included; used: took part, clipped: did not for its residual. zero_point: m_SCR - m_instrumental,
    of mean zero over the stars; zero_point_error: of the stars' own scatter; zero_point_systematic: of the
    coefficients, common to all tiles in part; n_used of the tile.
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


def fit_scr(
    color: np.ndarray,
    color_error: np.ndarray,
    labels: np.ndarray,
    *,
    order: int = 3,
    reddening: str | float = "constant",
    label_covariance: np.ndarray | None = None,
    tile: np.ndarray | None = None,
    low_extinction: float | None = None,
    clip: float | None = None,
    floor: float | None = None,
    taper: Sequence[float] | None = None,
    band: str = "",
    gaia: str = "BP",
) -> ColorFit:
    """Fit intrinsic color, reddening coefficient and zero-points of tiles; stars with NaN take no part.

    color, color_error (n,): G_BP or G_RP - m [mag]. labels (n, 3): Teff [K], [Fe/H], reddening [mag];
    label_covariance (n, 3, 3) or (3, 3) of their errors, None for none. tile (n,): codes from 0, None for one tile at
    zero-point zero. low_extinction [mag]: C0 from stars below it and R from those above, each given the other: where
    the papers' iteration ends, found at once; None takes all stars for both. clip [sigma], by default 3, or 4 with
    label errors; stars come back. floor [mag]: by default fitted. taper (3,): width of the Gaussian in each label by
    which stars are weighed, inf for none; for samples cut in measured labels, with label errors only.
    Raises ValueError for arrays that do not fit together and for stars that do not determine the terms.
    """
    exponents = terms(order, reddening)
    z, covariance = _scaled(color, color_error, labels, label_covariance)
    usable = np.isfinite(color) & np.isfinite(color_error) & (color_error >= 0) & np.isfinite(z).all(axis=1)
    tiles = np.zeros(len(z), int) if tile is None else np.asarray(tile)
    usable &= tiles >= 0
    if covariance is not None:
        usable &= np.isfinite(covariance).all(axis=(1, 2))
        covariance = covariance[usable]
    y, z, tiles, sigma = color[usable], z[usable], tiles[usable], color_error[usable]
    if len(y) < 2 * len(exponents):
        raise ValueError(
            f"band {band or 'without name'}: {len(y)} stars with color, error and labels are too few for "
            f"{len(exponents)} terms: lower the order, or widen the selection"
        )
    n_tile = 0 if tile is None else int(np.asarray(tile).max()) + 1
    equations = _Equations(z, covariance, exponents, tiles, n_tile, low_extinction, taper, reddening)
    if clip is None:
        clip = CLIP if covariance is None else CLIP_WITH_ERRORS
    used, square, converged = np.ones(len(y), bool), 0.0 if floor is None else floor**2, False
    value, variance = np.zeros(len(exponents)), sigma**2
    for step in range(STEPS):
        middle = _gradient(np.median(z[used], axis=0)[None], value, exponents)
        even = sigma**2 if covariance is None else sigma**2 + _quadratic(np.repeat(middle, len(z), 0), covariance)
        value, offset = equations.solve(y, np.where(used, 1 / np.maximum(even + square, 1e-12), 0.0), band)
        residual = y - equations.plain @ value - offset[tiles]
        known = np.isfinite(residual)
        variance = sigma**2
        if covariance is not None:
            variance = variance + _quadratic(_gradient(z, value, exponents), covariance)
        if floor is None:
            zeros = np.zeros(np.count_nonzero(known), int)
            square = float(error_floor(residual[known], variance[known], zeros, 1)[0] ** 2)
        pull = residual / np.sqrt(np.maximum(variance + square, 1e-12))
        # Errors that are too large must not let outliers in.
        keep = np.abs(pull) < clip * min(1.0, MAD * np.median(np.abs(pull[known]))) if clip else known
        # A tile without stars left has no residuals: its stars come back and are judged anew.
        keep |= ~known & (step < STEPS // 2)
        converged = bool((keep == used).all()) and step > 1
        if converged:
            break
        used = keep
    matrix = equations.covariance(y, value, offset)
    total = variance + square
    regression = ColorRegression(
        band, gaia, np.array(exponents), value, matrix, np.array(ZERO), np.array(SCALE), float(np.sqrt(square)),
        float(MAD * np.median(np.abs(residual[known]))), *_population(z[used], covariance, used),
        np.percentile(labels[usable][used], [0.5, 99.5], axis=0), int(used.sum()), converged,
    )  # fmt: skip

    def back(values: np.ndarray, fill: Any) -> np.ndarray:
        out = np.full(len(color), fill)
        out[usable] = values
        return out

    error, systematic, count = equations.tile_errors(total, matrix)
    return ColorFit(
        regression, back(residual, np.nan), back(np.sqrt(total), np.nan), back(used, False), back(known & ~used, False),
        offset[:n_tile], error[:n_tile], systematic[:n_tile], count[:n_tile],
    )  # fmt: skip


def _scaled(
    color: np.ndarray, error: np.ndarray, labels: np.ndarray, covariance: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scaled labels (n, 3) and their covariance (n, 3, 3)."""
    n = len(color)
    if np.shape(error) != (n,) or np.shape(labels) != (n, 3):
        raise ValueError(
            f"expected {n} errors and labels ({n}, 3) of {', '.join(LABELS)} for {n} colors, found shapes "
            f"{np.shape(error)} and {np.shape(labels)}"
        )
    z = (np.asarray(labels, float) - ZERO) / SCALE
    if covariance is None:
        return z, None
    if np.shape(covariance) not in ((3, 3), (n, 3, 3)):
        raise ValueError(f"label_covariance must be (3, 3) or ({n}, 3, 3), found {np.shape(covariance)}")
    scaled = np.asarray(covariance, float) / np.outer(SCALE, SCALE)
    return z, np.array(np.broadcast_to(scaled, (n, 3, 3)))


def _population(z: np.ndarray, covariance: np.ndarray | None, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the true labels: the measured spread less the mean error."""
    if covariance is None:
        return np.full(3, np.nan), np.full((3, 3), np.nan)
    values, vectors = np.linalg.eigh(np.cov(z.T) - covariance[used].mean(axis=0))
    return z.mean(axis=0), (vectors * np.maximum(values, 0)) @ vectors.T


class _Equations:
    """Estimating equations of coefficients and tile offsets, and the sums over stars that they need."""

    def __init__(
        self,
        z: np.ndarray,
        covariance: np.ndarray | None,
        exponents: Sequence[Exponents],
        tile: np.ndarray,
        n_tile: int,
        low_extinction: float | None,
        taper: Sequence[float] | None,
        reddening: str | float,
    ) -> None:
        self.exponents, self.tile, self.n_tile = exponents, tile, n_tile
        self.known = None if isinstance(reddening, str) else reddening * SCALE[2]
        products = [[tuple(np.add(a, b).tolist()) for b in exponents] for a in exponents]
        distinct = sorted(set(itertools.chain(*products)))
        place = {e: i for i, e in enumerate(distinct)}
        self.index = np.array([[place[e] for e in row] for row in products])
        self.plain = mean_monomials(z, None, exponents)
        self.window = np.ones(len(z))
        minus = None if covariance is None else -covariance
        if taper is not None and covariance is not None:
            # exp(-(z-c)'Q(z-c)/2) p(z) under the operator z - S d/dz: the same algebra at shifted z, larger S.
            q = np.diag((np.array(SCALE) / np.asarray(taper, float)) ** 2)
            away = z - np.median(z, axis=0)
            self.window = np.exp(-0.5 * _quadratic(away, q))
            z = z + np.einsum("nij,jk,nk->ni", covariance, q, away)
            minus = -(covariance + covariance @ q @ covariance)
        self.pairs = mean_monomials(z, minus, distinct)
        self.t = self.pairs[:, self.index[0]]
        red = np.array([e[2] > 0 for e in exponents])
        # Which stars speak in the equation of each term.
        below = np.ones(len(z), bool) if low_extinction is None else z[:, 2] * SCALE[2] < low_extinction
        above = np.ones(len(z), bool) if low_extinction is None else ~below
        self.groups = ((~red, below), (red, above))
        self.speaks = np.where(red, above[:, None], below[:, None])

    def _sums(self, weight: np.ndarray) -> np.ndarray:
        """sum_i weight_i s_ik M_ikl (k, k), with M the unbiased products of terms."""
        out = np.empty(self.index.shape)
        for rows, stars in self.groups:
            out[rows] = ((weight * stars) @ self.pairs)[self.index[rows]]
        return out

    def _by_tile(self, values: np.ndarray) -> np.ndarray:
        out = np.zeros((max(self.n_tile, 1), *values.shape[1:]))
        np.add.at(out, self.tile, values)
        return out

    def solve(self, y: np.ndarray, weight: np.ndarray, band: str) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (k,) and offsets of the tiles, NaN without stars; (1,) zero without tiles."""
        w = weight * self.window
        loud = w[:, None] * self.speaks
        matrix, right = self._sums(w), (loud * self.t).T @ y
        if self.n_tile:
            first, level = matrix[0].copy(), right[0]
            total = self._by_tile(w)
            inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
            mine, all_of_them = self._by_tile(loud * self.t), self._by_tile(w[:, None] * self.t)
            share = w * inverse[self.tile]
            matrix = matrix - mine.T @ (all_of_them * inverse[:, None])
            # The products of a star with itself in there hold its label errors twice.
            matrix -= self._sums(w * share) - (loud * share[:, None] * self.t).T @ self.t
            right = right - mine.T @ (self._by_tile(w * y) * inverse)
            matrix[0], right[0] = first, level  # the constant: offsets have mean zero
            self.mean_terms, self.inverse = mine * inverse[:, None], inverse
        self.weight, self.loud = w, loud
        free = np.ones(len(right), bool)
        value = np.zeros(len(right))
        if self.known is not None:
            free[-1], value[-1] = False, self.known
        part = matrix[np.ix_(free, free)]
        scale = np.sqrt(np.abs(np.diagonal(part)))
        scaled = part / np.outer(scale, scale) if (scale > 0).all() else part * 0
        if not np.linalg.eigvals(scaled).real.min() > SINGULAR:
            raise ValueError(
                f"band {band or 'without name'}: the stars do not determine all terms; lower the order, give the "
                "reddening coefficient as a number, or widen the selection; label errors may exceed the labels' spread"
            )
        value[free] = np.linalg.solve(scaled, (right - matrix @ value)[free] / scale) / scale
        self.normal, self.free = part, free
        if not self.n_tile:
            return value, np.zeros(1)
        offset = self._by_tile(w * (y - self.t @ value)) * inverse
        return value, np.where(total > 0, offset, np.nan)

    def covariance(self, y: np.ndarray, value: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """The sandwich covariance (k, k) of the coefficients: right for any errors of stars that are independent."""
        level = np.nan_to_num(offset)[self.tile]
        product = np.zeros((self.pairs.shape[1], len(value)))
        for a, row in enumerate(self.index):
            np.add.at(product[:, a], row, value)
        score = self.t * (y - level)[:, None] - self.pairs @ product
        if self.n_tile:
            residual = (y - level - self.t @ value)[:, None] * self.weight[:, None]
            reduced = self.loud * score - self.mean_terms[self.tile] * residual
            score = np.where(np.arange(len(value)) == 0, self.weight[:, None] * score, reduced)
        else:
            score = self.loud * score
        score = score[:, self.free]
        n = np.count_nonzero(self.weight)
        spare = n / max(n - len(value) - max(self.n_tile - 1, 0), 1)
        inverse = np.linalg.inv(self.normal)
        out = np.zeros((len(value), len(value)))
        out[np.ix_(self.free, self.free)] = spare * inverse @ (score.T @ score) @ inverse.T
        return out

    def tile_errors(self, variance: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Error of each tile's offset from its stars, from the coefficients (mean tile taken off), and its stars."""
        count = self._by_tile((self.weight > 0).astype(float)).astype(int)
        if not self.n_tile:
            return np.zeros(1), np.zeros(1), count
        some = count > 0
        own = np.sqrt(self._by_tile(self.weight**2 * variance)) * self.inverse
        mean = self._by_tile(self.weight[:, None] * self.t) * self.inverse[:, None]
        mean = mean - self.weight @ self.t / self.weight.sum()
        systematic = np.sqrt(np.maximum(_quadratic(mean, covariance), 0))
        return np.where(some, own, np.nan), np.where(some, systematic, np.nan), count


# --- prediction -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Magnitudes by SCR (n,) [mag]; NaN where Gaia's magnitude or a label is missing.

    error: of this star (photometry, labels, scatter about the law); systematic: of the coefficients, common to all
    stars in part; outside: labels beyond those that the law was fitted to.
    """

    magnitude: np.ndarray
    error: np.ndarray
    systematic: np.ndarray
    outside: np.ndarray


def predict_scr(
    regression: ColorRegression,
    gaia: np.ndarray,
    gaia_error: np.ndarray | float,
    labels: np.ndarray,
    *,
    label_covariance: np.ndarray | None = None,
    shrink: bool = True,
) -> Predicted:
    """m_SCR = G_BP,RP - C0 - R E of stars with labels (n, 3), and its errors.

    gaia, gaia_error (n,) [mag]: BP or RP as the regression says. label_covariance (n, 3, 3) or (3, 3). A law that was
    fitted with label errors is averaged over the true labels that each star may have: shrunk towards the mean of the
    population (no trend of residuals with measured labels), or, without shrink, unbiased at the star's true labels.
    """
    gaia = np.asarray(gaia, float)
    gaia_error = np.broadcast_to(np.asarray(gaia_error, float), gaia.shape)
    z, covariance = _scaled(gaia, gaia_error, labels, label_covariance)
    spread = covariance
    if covariance is not None and regression.label_errors:
        if shrink:
            whole = covariance + regression.population_covariance
            gain = np.swapaxes(np.linalg.solve(whole, covariance), 1, 2)  # S (S + P)^-1
            z = z - np.einsum("nij,nj->ni", gain, z - regression.population_mean)
            covariance = covariance - gain @ covariance
            spread = covariance
        else:
            spread = -covariance
    elif covariance is not None:
        spread = None  # a law of measured labels is taken at the measured labels
    exponents = _tuples(regression.exponents)
    t = mean_monomials(z, spread, exponents)
    variance = gaia_error**2 + regression.floor**2
    if covariance is not None and regression.label_errors:
        variance = variance + _quadratic(_gradient(z, regression.value, exponents), covariance)
    low, high = regression.label_range
    with np.errstate(invalid="ignore"):
        outside = ~((labels >= low) & (labels <= high)).all(axis=1)
    systematic = np.sqrt(np.maximum(_quadratic(t, regression.covariance), 0))
    return Predicted(gaia - t @ regression.value, np.sqrt(variance), systematic, outside)


def calibrate_scr(
    observations: Observations,
    gaia: np.ndarray,
    gaia_error: np.ndarray,
    labels: np.ndarray,
    *,
    label_covariance: np.ndarray | None = None,
    position_order: int = 2,
    rounds: int = 10,
    devices: str | int | None = None,
    **options: Any,
) -> tuple[ColorFit, ExposureFits, Predicted]:
    """The regression of one band iterated with flats of its frames, until no zero-point moves by 0.1 mmag.

    observations: magnitudes with X, Y; frames are the tiles. position_order: of the flat of each. See `fit_scr` for the
    rest. The zero-points of the ExposureFits are medians over the detector, of mean zero over the stars in all.
    """
    o = observations
    flat, before = np.zeros(len(o)), np.full(len(o.frames), np.inf)
    model = Model(position_order=position_order, color_order=0, magnitude_order=0)
    error = np.hypot(gaia_error, o.magnitude_error)
    for _ in range(rounds):
        fit = fit_scr(
            np.where(o.excluded == 0, gaia - o.magnitude - flat, np.nan), error, labels,
            label_covariance=label_covariance, tile=o.frame, **options,
        )  # fmt: skip
        predicted = predict_scr(fit.regression, gaia, gaia_error, labels, label_covariance=label_covariance)
        rows = dataclasses.replace(o, model=predicted.magnitude, model_error=np.nan_to_num(predicted.error))
        fits = fit_exposures(rows, model, devices=devices)
        moved = np.abs(fits.zero_point - before)
        if not np.nanmax(np.where(np.isfinite(fits.zero_point), moved, 0), initial=0) > TOLERANCE:
            break
        before = fits.zero_point
        added = evaluate(fits, rows, devices=devices).added
        flat = np.nan_to_num(added - fits.zero_point[o.frame])
    return fit, fits, predicted


# --- star pairs -------------------------------------------------------------------------------------------------------

PAIR_SCALE = (100.0, 0.2, 0.1)
"""Teff [K], log g, [Fe/H]: how far apart counts as one."""


def star_pair_reddening(
    color: np.ndarray,
    color_error: np.ndarray,
    labels: np.ndarray,
    control: np.ndarray,
    control_reddening: np.ndarray | float = 0.0,
    *,
    neighbors: int = 20,
    reach: float = 3.0,
    scale: Sequence[float] = PAIR_SCALE,
) -> tuple[np.ndarray, np.ndarray]:
    """Reddening (n,) of stars from their unreddened twins, and its error: color - what the twins' would be [mag].

    color, color_error (n,): BP-RP. labels (n, 3): Teff, log g, [Fe/H]. control (n,): stars of little reddening, which
    control_reddening (n,) is taken off. The twins' color at the star is the local plane through the `neighbors` nearest
    control stars, never the star itself, weighted by a Gaussian of distance and their errors. NaN where the farthest
    of these is beyond `reach` in units of `scale`, or fewer are there (Yuan et al. 2013, MNRAS 430, 2188).
    """
    from scipy.spatial import cKDTree

    x = np.asarray(labels, float) / np.asarray(scale)
    good = np.isfinite(x).all(axis=1) & np.isfinite(color) & np.isfinite(color_error)
    bare = color - control_reddening
    mine = np.flatnonzero(control & good & np.isfinite(bare))
    value, error = np.full(len(x), np.nan), np.full(len(x), np.nan)
    rows = np.flatnonzero(good)
    if len(mine) <= neighbors or not len(rows):
        return value, error
    distance, near = cKDTree(x[mine]).query(x[rows], k=neighbors + 1)
    near = mine[near]
    distance = np.where(near == rows[:, None], np.inf, distance)
    order = np.argsort(distance, axis=1, kind="stable")[:, :neighbors]
    distance, near = np.take_along_axis(distance, order, 1), np.take_along_axis(near, order, 1)
    close = distance[:, -1] < reach
    rows, distance, near = rows[close], distance[close], near[close]
    width = np.maximum(distance[:, -1:], 1e-3) / 1.5
    # Twins without errors of their own weigh alike; the variance comes from their scatter.
    typical = np.median(color_error[mine])
    weight = np.exp(-0.5 * (distance / width) ** 2) / np.maximum(color_error[near] ** 2 + typical**2, 1e-12)
    design = np.concatenate([np.ones((*near.shape, 1)), x[near] - x[rows][:, None]], axis=2)
    normal = np.einsum("nki,nk,nkj->nij", design, weight, design)
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(4)
    inverse = np.linalg.inv(normal)
    give = np.einsum("ni,nki,nk->nk", inverse[:, 0], design, weight)  # the plane at the star is give . colors
    value[rows] = color[rows] - (give * bare[near]).sum(axis=1)
    plane = np.einsum("nij,nkj,nk->ni", inverse, design, weight * bare[near])
    off = bare[near] - np.einsum("nki,ni->nk", design, plane)
    scatter = (weight * off**2).sum(axis=1) / weight.sum(axis=1) * neighbors / (neighbors - 4)
    # The star scatters about its twins as they do among themselves, label errors included.
    error[rows] = np.sqrt(np.maximum(scatter - typical**2, 0) + color_error[rows] ** 2 + scatter * (give**2).sum(axis=1))
    return value, error


# --- tables -----------------------------------------------------------------------------------------------------------


def coefficient_table(regressions: Sequence[ColorRegression], meta: Mapping[str, Any] | None = None) -> Catalogue:
    """One row for each band and coefficient, with its row of the band's covariance; `regressions_from` reads it."""
    rows: dict[str, list[Any]] = {}
    size = max(len(r.value) for r in regressions)
    for r in regressions:
        for k, name in enumerate(r.names):
            one = {
                "band": r.band, "gaia": r.gaia, "term": name,
                **{f"power_{label}": int(p) for label, p in zip(LABELS, r.exponents[k], strict=True)},
                "value": r.value[k], "error": r.error[k],
                "covariance": np.pad(r.covariance[k], (0, size - len(r.value)), constant_values=np.nan),
                "floor": r.floor, "scatter": r.scatter, "n_used": r.n_used, "converged": int(r.converged),
                "population_mean": r.population_mean, "population_covariance": r.population_covariance.ravel(),
                "label_range": r.label_range.ravel(),
            }  # fmt: skip
            for key, cell in one.items():
                rows.setdefault(key, []).append(cell)
    units = dict.fromkeys(("value", "error", "floor", "scatter"), "mag") | {"covariance": "mag2"}
    descriptions = {
        "value": "of powers of (label - zero) / scale in Gaia magnitude - magnitude",
        "covariance": "of this coefficient with all of the band, in their order; NaN beyond",
        "floor": "scatter about the law beyond the errors",
        "scatter": "1.48 MAD of all residuals",
        "population_mean": "of true scaled labels; NaN for a fit without label errors",
        "label_range": "middle 99 % of measured labels: low, then high",
    }
    scale = {"labels": list(LABELS), "label_zero": list(ZERO), "label_scale": list(SCALE)}
    return Catalogue({k: np.array(v) for k, v in rows.items()}, units, descriptions, meta={**(meta or {}), **scale})


def regressions_from(table: Catalogue) -> dict[str, ColorRegression]:
    """The regressions in a table of `coefficient_table`, by band. Raises ValueError naming a column that it lacks."""
    c = table.columns
    needed = ("band", "gaia", "power_teff", "value", "covariance", "population_covariance", "label_range", "floor")
    missing = [name for name in needed if name not in c]
    if missing or "label_zero" not in table.meta:
        raise ValueError(f"this is no table of SCR coefficients: {missing[0] if missing else 'label_zero'} is missing")
    out = {}
    for band in dict.fromkeys(c["band"].tolist()):
        rows = np.flatnonzero(c["band"] == band)
        one = rows[0]
        n = len(rows)
        out[str(band)] = ColorRegression(
            str(band), str(c["gaia"][one]), np.stack([c[f"power_{label}"][rows] for label in LABELS], axis=1),
            np.array(c["value"][rows]), np.array(c["covariance"][rows, :n]), np.array(table.meta["label_zero"], float),
            np.array(table.meta["label_scale"], float), float(c["floor"][one]), float(c["scatter"][one]),
            np.array(c["population_mean"][one]), np.array(c["population_covariance"][one]).reshape(3, 3),
            np.array(c["label_range"][one]).reshape(2, 3), int(c["n_used"][one]), bool(c["converged"][one]),
        )  # fmt: skip
    return out
