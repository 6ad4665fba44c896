"""Stellar color regression (SCR): magnitudes from spectroscopic labels, reddening and Gaia's BP or RP.

With C = G_BP or G_RP - m, (T, F, E) = Teff, [Fe/H] and the reddening E(BP-RP) or E(B-V) of a star (Yuan et al. 2015,
ApJ 799, 133; Xiao et al. 2023, ApJS 269, 58):

    C = C0(T, F) + R E + zero-point of the tile,      m_SCR = G_BP,RP - C0(T, F) - R E

C0 is a polynomial in (T, F) of total order 2 or 3 (6 or 10 terms), R a constant or a quadratic in (T, E): the whole is
a polynomial in scaled labels, linear in its coefficients. Zero-points of tiles are eliminated.

Labels with errors attenuate slopes: 97 K in a spread of 270 K cost 12 %. Where the covariance S of the errors is given,
every term is replaced by its mean over the true labels that a star may have, given the measured ones z and how the true
labels of all stars spread (regression calibration: Carroll et al. 2006, Measurement Error in Nonlinear Models, chapter
4). That spread is a mixture of Gaussians, found from the measured labels by extreme deconvolution (Bovy et al. 2011,
Ann. Appl. Stat. 5, 1657); the means of polynomials over it are exact. The color is linear in these terms with the
coefficients of the true labels, whatever cut was made in z, as long as the population was found before the cut; and
magnitudes predicted by the same means have no trend with the measured labels. What a star's labels are wrong by is part
of its error; what the labels of a whole tile are wrong by is not seen here and goes into the tile's zero-point.

Arithmetic: float64 on the host; a fit is a few sums over the stars.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, Record
from xpjax.survey import MAD, Observations, group_median
from xpjax.survey.exposures import ExposureFits, ExposureModel, error_floor, evaluate, fit_exposures

LABELS = ("teff", "feh", "reddening")
ZERO, SCALE = (6000.0, 0.0, 0.0), (500.0, 0.5, 1.0)
"""Labels are scaled to (label - ZERO) / SCALE: the papers' sample lies within -2..1."""
CLIP = 3.0
"""[sigma], both papers."""
STEPS = 50
SINGULAR = 1e-10
"""Terms are not determined where the smallest singular value of the scaled normal matrix is below this."""
LEAST_VARIANCE = 1e-12
"""Total variance [mag^2] below which a star is not trusted more."""
TOLERANCE = 1e-4
"""Rounds with flats end where no zero-point moves by more [mag]."""

Exponents = tuple[int, ...]


def terms(order: int, reddening: str | float = "constant") -> tuple[Exponents, ...]:
    """Exponents of (T, F, E) of the terms: the intrinsic ones by total order, the constant first, then those of R.

    order 1..3. reddening: "constant", or "quadratic" for E times a quadratic in (T, E); a number is a known constant.
    """
    if order not in (1, 2, 3):
        raise XpjaxError(f"order must be 1, 2 or 3, not {order!r}")
    intrinsic = [(total - j, j, 0) for total in range(order + 1) for j in range(total + 1)]
    if reddening == "quadratic":
        return (*intrinsic, *((total - j, 0, 1 + j) for total in range(3) for j in range(total + 1)))
    if reddening == "constant" or (isinstance(reddening, int | float) and np.isfinite(reddening)):
        return (*intrinsic, (0, 0, 1))
    raise XpjaxError(f'reddening must be "constant", "quadratic" or a number, not {reddening!r}')


def mean_monomials(z: np.ndarray, covariance: np.ndarray | None, exponents: Sequence[Exponents]) -> np.ndarray:
    """Means (n, n_term) of products of powers of z + u, u ~ N(0, covariance); covariance (n, d, d), None for zero.

    Stein's lemma, one power after the other: E[x_d p(x)] = z_d E[p] + sum_c S_dc E[dp/dx_c].
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
            for c, power in enumerate(rest):
                if power and covariance is not None:
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


COMPONENTS, SAMPLE, ROUNDS = 3, 20_000, 100
"""Gaussians of a population, stars that it is found from at most, and steps."""
FEW, NARROW = 10, 0.1
"""A tile with fewer stars has the reddening of all; its spread is at least this part of that of all stars."""
LEAST_SPREAD = 1e-4
"""Scaled labels: no Gaussian of a population is narrower (0.05 K)."""


@dataclasses.dataclass(frozen=True, repr=False)
class Population(Record):
    """How true scaled labels spread: Gaussians with weight (m,), mean (m, 3) and covariance (m, 3, 3).

    Dust differs from tile to tile, so reddening is counted from the mean of a star's tile, in units of the true spread
    there; reddening (2,): mean and spread of all stars, for tiles with few.
    """

    weight: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    reddening: np.ndarray

    def posterior(self, z: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Share (n, m), mean (n, m, 3) and covariance (n, m, 3, 3) of true labels given z (n, 3); log density (n,)."""
        total = covariance[:, None] + self.covariance
        inverse = np.linalg.inv(total)
        away = z[:, None] - self.mean
        pulled = np.einsum("nkij,nkj->nki", inverse, away)
        with np.errstate(divide="ignore"):  # a component of weight zero
            log = np.log(self.weight) - 0.5 * (np.linalg.slogdet(total)[1] + (away * pulled).sum(axis=2))
        top = log.max(axis=1, keepdims=True)
        density = top[:, 0] + np.log(np.exp(log - top).sum(axis=1))
        mean = self.mean + np.einsum("kij,nkj->nki", self.covariance, pulled)
        rest = self.covariance - self.covariance @ inverse @ self.covariance
        return np.exp(log - density[:, None]), mean, rest, density


def _in_tiles(
    z: np.ndarray, covariance: np.ndarray, tile: np.ndarray | None, whole: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and true spread of reddening in each star's tile (n,), and of all stars (2,), which tiles of few get."""
    good = np.isfinite(z).all(axis=1) & np.isfinite(covariance).all(axis=(1, 2))

    def moments(group: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n = np.bincount(group[good], minlength=group.max(initial=0) + 1)
        some = np.maximum(n, 1)
        mean = np.bincount(group[good], z[good, 2], len(n)) / some
        square = np.bincount(group[good], (z[good, 2] - mean[group[good]]) ** 2, len(n)) / np.maximum(n - 1, 1)
        return n, mean, square - np.bincount(group[good], covariance[good, 2, 2], len(n)) / some

    if whole is None:
        _, mean, square = moments(np.zeros(len(z), int))
        whole = np.array([mean[0], np.sqrt(max(square[0], LEAST_SPREAD**2))])
    group = np.zeros(len(z), int) if tile is None else np.maximum(tile, 0)
    n, mean, square = moments(group)
    few = n < FEW
    width = np.where(few, whole[1], np.sqrt(np.maximum(square, (NARROW * whole[1]) ** 2)))
    return np.where(few, whole[0], mean)[group], width[group], whole


def find_population(
    labels: np.ndarray,
    label_covariance: np.ndarray,
    tile: np.ndarray | None = None,
    components: int = COMPONENTS,
    seed: int = 0,
) -> Population:
    """The population that labels (n, 3), measured with errors of covariance (n, 3, 3) or (3, 3), were drawn from.

    tile (n,): codes from 0, as `fit_scr` has them. Stars with NaN are left out; 20,000 at most are taken, at random.
    Give the stars before any cut in these labels. Raises ValueError for too few.
    """
    from scipy.cluster.vq import kmeans2

    n = len(labels)
    z, covariance = _scaled(np.zeros(n), np.zeros(n), labels, label_covariance)
    assert covariance is not None
    shift, width, reddening = _in_tiles(z, covariance, tile)
    z, covariance = _standard(z, covariance, shift, width)
    rows = np.flatnonzero(np.isfinite(z).all(axis=1) & np.isfinite(covariance).all(axis=(1, 2)))
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(rows, min(SAMPLE, len(rows)), replace=False))
    if len(rows) < 20 * components:
        raise XpjaxError(f"{len(rows)} stars with labels and their errors are too few for a population of {components}")
    z, covariance = z[rows], covariance[rows]
    least = LEAST_SPREAD**2 * np.eye(z.shape[1])
    spread = np.maximum(z.std(axis=0), LEAST_SPREAD)
    own = kmeans2(z / spread, components, minit="++", rng=rng)[1] if components > 1 else np.zeros(len(z), int)
    groups = [z[own == k] for k in range(components) if np.count_nonzero(own == k) > z.shape[1]]
    found = Population(
        np.array([len(g) for g in groups]) / sum(len(g) for g in groups),
        np.array([g.mean(axis=0) for g in groups]), np.array([np.cov(g.T) + least for g in groups]),
        reddening,
    )  # fmt: skip
    before = -np.inf
    for _ in range(ROUNDS):
        share, mean, rest, density = found.posterior(z, covariance)
        count = np.maximum(share.sum(axis=0), 1e-6)
        middle = np.einsum("nk,nki->ki", share, mean) / count[:, None]
        away = mean - middle
        wide = np.einsum("nki,nkj->kij", share[:, :, None] * away, away) + np.einsum("nk,nkij->kij", share, rest)
        found = Population(count / count.sum(), middle, wide / count[:, None, None] + least, reddening)
        if density.mean() - before < 1e-5:
            break
        before = density.mean()
    return found


@dataclasses.dataclass(frozen=True)
class _Truth:
    """What is known of true scaled labels: Gaussians with share (n, m), mean (n, m, 3), covariance (n, m, 3, 3)."""

    share: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray | None

    def __getitem__(self, rows: np.ndarray) -> _Truth:
        return _Truth(self.share[rows], self.mean[rows], None if self.covariance is None else self.covariance[rows])

    def terms(self, exponents: Sequence[Exponents]) -> np.ndarray:
        """Mean of each term (n, k)."""
        out = np.zeros((len(self.share), len(exponents)))
        for k in range(self.share.shape[1]):
            out += self.share[:, [k]] * mean_monomials(self.mean[:, k], self._of(k), exponents)
        return out

    def variance(self, value: np.ndarray, exponents: Sequence[Exponents]) -> np.ndarray:
        """Variance (n,) of the polynomial: within the Gaussians, to first order, and between them."""
        if self.covariance is None:
            return np.zeros(len(self.share))
        first, second = np.zeros(len(self.share)), np.zeros(len(self.share))
        for k in range(self.share.shape[1]):
            level = mean_monomials(self.mean[:, k], self._of(k), exponents) @ value
            within = _quadratic(_gradient(self.mean[:, k], value, exponents), self.covariance[:, k])
            first += self.share[:, k] * level
            second += self.share[:, k] * (within + level**2)
        return np.maximum(second - first**2, 0)

    def _of(self, k: int) -> np.ndarray | None:
        return None if self.covariance is None else self.covariance[:, k]


def _standard(
    z: np.ndarray, covariance: np.ndarray, shift: np.ndarray, width: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and their covariance with reddening counted from shift in units of width, (n,) each."""
    unit = np.stack([np.ones(len(z)), np.ones(len(z)), width], axis=1)
    zero = np.stack([np.zeros(len(z)), np.zeros(len(z)), shift], axis=1)
    return (z - zero) / unit, covariance / (unit[:, :, None] * unit[:, None, :])


def _truth(
    z: np.ndarray, covariance: np.ndarray | None, population: Population | None, tile: np.ndarray | None
) -> _Truth:
    """What is known of true labels; without errors, or for a law of measured labels, they are what they are."""
    if covariance is None or population is None:
        return _Truth(np.ones((len(z), 1)), z[:, None], None)
    shift, width, _ = _in_tiles(z, covariance, tile, population.reddening)
    share, mean, rest, _ = population.posterior(*_standard(z, covariance, shift, width))
    mean[:, :, 2] = shift[:, None] + width[:, None] * mean[:, :, 2]
    rest[:, :, 2, :] *= width[:, None, None]
    rest[:, :, :, 2] *= width[:, None, None]
    return _Truth(share, mean, rest)


@dataclasses.dataclass(frozen=True, repr=False)
class ColorRegression(Record):
    """The law of one band: coefficients of scaled labels, and what is needed to predict with them.

    gaia: "BP" or "RP". exponents (k, 3) of (T, F, E); value (k,) and covariance (k, k) [mag]; zero, scale (3,) of the
    labels. floor, scatter [mag]: what the stars scatter by beyond their errors, and 1.48 MAD of all residuals.
    population: of the true labels; None for a fit without label errors, which is a law of labels as measured.
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
    population: Population | None
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

    def intrinsic(self, labels: np.ndarray) -> np.ndarray:
        """C0 (n,) at labels (n, 3)."""
        free = np.array(labels, float)
        free[:, 2] = self.zero[2]
        return mean_monomials((free - self.zero) / self.scale, None, _tuples(self.exponents)) @ self.value

    def reddening_coefficient(self, labels: np.ndarray) -> np.ndarray:
        """R (n,) at labels (n, 3): (C - C0) / E, not the derivative."""
        z = (np.asarray(labels, float) - self.zero) / self.scale
        own = self.exponents[:, 2] > 0
        lowered = [(i, j, k - 1) for i, j, k in self.exponents[own].tolist()]
        return mean_monomials(z, None, lowered) @ self.value[own] / self.scale[2]


def _tuples(exponents: np.ndarray) -> list[Exponents]:
    return [tuple(map(int, e)) for e in exponents]


@dataclasses.dataclass(frozen=True, repr=False)
class ColorFit(Record):
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
    population: Population | None = None,
    tile: np.ndarray | None = None,
    low_extinction: float | None = None,
    clip: float = CLIP,
    floor: float | None = None,
    band: str = "",
    gaia: str = "BP",
) -> ColorFit:
    """Fit intrinsic color, reddening coefficient and zero-points of tiles; stars with NaN take no part.

    color, color_error (n,): G_BP or G_RP - m [mag]. labels (n, 3): Teff [K], [Fe/H], reddening [mag];
    label_covariance (n, 3, 3) or (3, 3) of their errors, None for none. population: of the true labels, by default
    found from all labels given, those of stars without a color too: so cut stars by a color of NaN. tile (n,): codes
    from 0, None for one tile at zero-point zero. low_extinction [mag]: C0 from stars below it and R from those above,
    each given the other: where the papers' iteration ends, found at once; None takes all stars for both. clip [sigma],
    0 for none; stars come back. floor [mag]: by default fitted. reddening: see `terms`.
    Raises ValueError for arrays that do not fit together and for stars that do not determine the terms.
    """
    exponents = terms(order, reddening)
    z, covariance = _scaled(color, color_error, labels, label_covariance)
    if covariance is not None and population is None:
        population = find_population(labels, covariance * np.outer(SCALE, SCALE), tile)
    usable = np.isfinite(color) & np.isfinite(color_error) & (color_error >= 0) & np.isfinite(z).all(axis=1)
    tiles = np.zeros(len(z), int) if tile is None else np.asarray(tile)
    usable &= tiles >= 0
    if covariance is not None:
        usable &= np.isfinite(covariance).all(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        truth = _truth(z, covariance, population, None if tile is None else tiles)[usable]
    y, z, tiles, sigma = color[usable], z[usable], tiles[usable], color_error[usable]
    if len(y) < 2 * len(exponents):
        raise XpjaxError(
            f"band {band or 'without name'}: {len(y)} stars with color, error and labels are too few for "
            f"{len(exponents)} terms: lower the order, or widen the selection"
        )
    n_tile = 0 if tile is None else int(np.asarray(tile).max()) + 1
    known_value = None if isinstance(reddening, str) else reddening * SCALE[2]
    red = np.array([e[2] > 0 for e in exponents])
    speaks = np.ones((len(y), len(exponents)), bool)
    if low_extinction is not None:
        speaks = red == (z[:, 2] * SCALE[2] >= low_extinction)[:, None]
    equations = _Equations(truth.terms(exponents), speaks, tiles, n_tile, known_value)
    used, square, converged = np.ones(len(y), bool), 0.0 if floor is None else floor**2, False
    variance = sigma**2
    for step in range(STEPS):
        weight = np.where(used, 1 / np.maximum(variance + square, LEAST_VARIANCE), 0.0)
        value, offset = equations.solve(y, weight, band)
        residual = y - equations.t @ value
        variance = sigma**2 + truth.variance(value, exponents)
        # Stars are judged about the median of their tile: one outlier moves the mean far enough to lose all others.
        about = residual - group_median(residual, tiles, n_tile)[tiles] if n_tile else residual
        if floor is None:
            square = float(error_floor(about, variance, np.zeros(len(y), int), 1)[0] ** 2)
        pull = np.abs(about) / np.sqrt(np.maximum(variance + square, LEAST_VARIANCE))
        # Errors that are too large must not let outliers in.
        keep = pull < clip * min(1.0, MAD * float(np.median(pull))) if clip else used
        converged = bool((keep == used).all()) and step > 1
        if converged:
            break
        used = keep
    residual = residual - offset[tiles]
    matrix = equations.covariance(y, value, offset)
    total = variance + square
    regression = ColorRegression(
        band, gaia, np.array(exponents), value, matrix, np.array(ZERO), np.array(SCALE), float(np.sqrt(square)),
        float(MAD * np.median(np.abs(about))), population if covariance is not None else None,
        np.percentile(labels[usable][used], [0.5, 99.5], axis=0), int(used.sum()), converged,
    )  # fmt: skip

    def back(values: np.ndarray, fill: Any) -> np.ndarray:
        out = np.full(len(color), fill)
        out[usable] = values
        return out

    error, systematic, count = equations.tile_errors(total, matrix)
    return ColorFit(
        regression, back(residual, np.nan), back(np.sqrt(total), np.nan), back(used, False), back(~used, False),
        offset[:n_tile], error[:n_tile], systematic[:n_tile], count[:n_tile],
    )  # fmt: skip


def _scaled(
    color: np.ndarray,
    error: np.ndarray,
    labels: np.ndarray,
    covariance: np.ndarray | None,
    zero: Any = ZERO,
    scale: Any = SCALE,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scaled labels (n, 3) and their covariance (n, 3, 3)."""
    n = len(color)
    if np.shape(error) != (n,) or np.shape(labels) != (n, 3):
        raise XpjaxError(
            f"expected {n} errors and labels ({n}, 3) of {', '.join(LABELS)} for {n} colors, found shapes "
            f"{np.shape(error)} and {np.shape(labels)}"
        )
    z = (np.asarray(labels, float) - np.asarray(zero, float)) / np.asarray(scale, float)
    if covariance is None:
        return z, None
    if np.shape(covariance) not in ((3, 3), (n, 3, 3)):
        raise XpjaxError(f"label_covariance must be (3, 3) or ({n}, 3, 3), found {np.shape(covariance)}")
    scaled = np.asarray(covariance, float) / np.outer(scale, scale)
    return z, np.array(np.broadcast_to(scaled, (n, 3, 3)))


class _Equations:
    """Normal equations of coefficients, with the offsets of tiles eliminated, for terms t (n, k).

    speaks (n, k): whether a star has a say in the equation of a term. known: the last coefficient, where it is given.
    """

    def __init__(
        self, t: np.ndarray, speaks: np.ndarray, tile: np.ndarray, n_tile: int, known: float | None = None
    ) -> None:
        self.t, self.speaks, self.tile, self.n_tile, self.known = t, speaks, tile, n_tile, known

    def _by_tile(self, values: np.ndarray) -> np.ndarray:
        """Sums over the stars of each tile."""
        columns = values.reshape(len(values), -1).T
        sums = [np.bincount(self.tile, column, max(self.n_tile, 1)) for column in columns]
        return np.stack(sums, axis=1).reshape(-1, *values.shape[1:])

    def solve(self, y: np.ndarray, weight: np.ndarray, band: str) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (k,) and offsets of the tiles, NaN without stars; (1,) zero without tiles."""
        self.weight, total = weight, self._by_tile(weight)
        say = self.speaks * weight[:, None] * self.t  # what multiplies a residual in each equation
        t, left = self.t, y
        self.score = say
        if self.n_tile:
            self.inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
            self.mean_terms = self._by_tile(weight[:, None] * t) * self.inverse[:, None]
            mean_say = self._by_tile(say) * self.inverse[:, None]
            mean_y = self._by_tile(weight * y) * self.inverse
            t, left = t - self.mean_terms[self.tile], y - mean_y[self.tile]
            self.score = say - weight[:, None] * mean_say[self.tile]
            self.score[:, 0] = say[:, 0]
        matrix, right = say.T @ t, say.T @ left
        # The constant is what the stars have alike: offsets are zero in the mean.
        matrix[0], right[0] = say[:, 0] @ self.t, say[:, 0] @ y
        free, value = np.ones(len(right), bool), np.zeros(len(right))
        if self.known is not None:
            free[-1], value[-1] = False, self.known
        part = matrix[np.ix_(free, free)]
        scale = np.sqrt(np.abs(np.diagonal(part)))
        scaled = part / np.outer(scale, scale) if (scale > 0).all() else part * 0
        if not np.linalg.svd(scaled, compute_uv=False)[-1] > SINGULAR:
            raise XpjaxError(
                f"band {band or 'without name'}: the stars do not determine all terms; lower the order, give the "
                "reddening coefficient as a number, or widen the selection"
            )
        value[free] = np.linalg.solve(scaled, (right - matrix @ value)[free] / scale) / scale
        self.normal, self.free = part, free
        if not self.n_tile:
            return value, np.zeros(1)
        return value, np.where(total > 0, mean_y - self.mean_terms @ value, np.nan)

    def covariance(self, y: np.ndarray, value: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """The sandwich covariance (k, k) of the coefficients: right for any errors of stars that are independent."""
        residual = np.where(self.weight > 0, y - self.t @ value - offset[self.tile], 0)
        score = (self.score * residual[:, None])[:, self.free]
        n = int(np.count_nonzero(self.weight))
        spare = n / max(1, n - len(value) - max(self.n_tile - 1, 0))
        inverse = np.linalg.inv(self.normal)
        out = np.zeros((len(value), len(value)))
        out[np.ix_(self.free, self.free)] = spare * inverse @ (score.T @ score) @ inverse.T
        return out

    def tile_errors(self, variance: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Error of each tile's offset from its stars, from the coefficients (mean tile taken off), and its stars."""
        count = self._by_tile((self.weight > 0).astype(float)).astype(int)
        if not self.n_tile:
            return np.zeros(1), np.zeros(1), count
        own = np.sqrt(self._by_tile(self.weight**2 * variance)) * self.inverse
        mean = self.mean_terms - self.weight @ self.t / self.weight.sum()
        systematic = np.sqrt(np.maximum(_quadratic(mean, covariance), 0))
        return np.where(count > 0, own, np.nan), np.where(count > 0, systematic, np.nan), count


# --- prediction -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, repr=False)
class Predicted(Record):
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
    tile: np.ndarray | None = None,
) -> Predicted:
    """m_SCR = G_BP,RP - C0 - R E of stars with labels (n, 3), and its errors.

    gaia, gaia_error (n,) [mag]: BP or RP as the regression says. label_covariance (n, 3, 3) or (3, 3): a law that was
    fitted with label errors is averaged over the true labels that each star may have; any other, and any where
    label_covariance is None, is taken at the labels given. tile (n,): codes from 0, as the fit had them.
    """
    gaia = np.asarray(gaia, float)
    gaia_error = np.broadcast_to(np.asarray(gaia_error, float), gaia.shape)
    z, covariance = _scaled(gaia, gaia_error, labels, label_covariance, regression.zero, regression.scale)
    exponents = _tuples(regression.exponents)
    with np.errstate(invalid="ignore"):  # of stars without labels
        truth = _truth(z, covariance, regression.population, tile)
        t = truth.terms(exponents)
        variance = gaia_error**2 + regression.floor**2 + truth.variance(regression.value, exponents)
    low, high = regression.label_range
    with np.errstate(invalid="ignore"):
        outside = ~((labels >= low) & (labels <= high)).all(axis=1)
    systematic = np.sqrt(np.maximum(_quadratic(t, regression.covariance), 0))
    return Predicted(gaia - t @ regression.value, np.sqrt(variance), systematic, outside)


def calibrate_scr(
    observations: Observations,
    gaia_magnitude: np.ndarray,
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

    observations: magnitudes with X, Y; frames are the tiles. gaia_magnitude, gaia_error (n,): BP or RP.
    position_order: of the flat of each. See `fit_scr` for the rest. The zero-points of the ExposureFits are medians
    over the detector, of mean zero over the stars in all.
    """
    o = observations
    flat, before = np.zeros(len(o)), np.full(len(o.frames), np.inf)
    model = ExposureModel(position_order=position_order, color_order=0, magnitude_order=0)
    error = np.hypot(gaia_error, o.magnitude_error)
    for _ in range(rounds):
        fit = fit_scr(
            np.where(o.excluded == 0, gaia_magnitude - o.magnitude - flat, np.nan), error, labels,
            label_covariance=label_covariance, tile=o.frame, **options,
        )  # fmt: skip
        predicted = predict_scr(fit.regression, gaia_magnitude, gaia_error, labels, label_covariance=label_covariance)
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
    beyond = np.maximum(scatter - typical**2, 0)
    error[rows] = np.sqrt(beyond + color_error[rows] ** 2 + scatter * (give**2).sum(axis=1))
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
                "population": _flat(r.population),
                "label_range": r.label_range.ravel(),
            }  # fmt: skip
            if not len(one["population"]):
                del one["population"]
            for key, cell in one.items():
                rows.setdefault(key, []).append(cell)
    units = dict.fromkeys(("value", "error", "floor", "scatter"), "mag") | {"covariance": "mag2"}
    descriptions = {
        "value": "of powers of (label - zero) / scale in Gaia magnitude - magnitude",
        "covariance": "of this coefficient with all of the band, in their order; NaN beyond",
        "floor": "scatter about the law beyond the errors",
        "scatter": "1.48 MAD of all residuals",
        "population": "mean and spread of reddening; weight, mean, covariance of each Gaussian of true labels",
        "label_range": "middle 99 % of measured labels: low, then high",
    }
    scale = {"labels": list(LABELS), "label_zero": list(ZERO), "label_scale": list(SCALE)}
    return Catalogue({k: np.array(v) for k, v in rows.items()}, units, descriptions, meta={**(meta or {}), **scale})


def _flat(population: Population | None) -> np.ndarray:
    if population is None:
        return np.zeros(0)
    p = population
    return np.concatenate([p.reddening, np.column_stack([p.weight, p.mean, p.covariance.reshape(-1, 9)]).ravel()])


def _population(row: np.ndarray) -> Population:
    row = np.asarray(row, float)
    parts = row[2:].reshape(-1, 13)
    return Population(parts[:, 0], parts[:, 1:4], parts[:, 4:].reshape(-1, 3, 3), row[:2])


def regressions_from(table: Catalogue) -> dict[str, ColorRegression]:
    """The regressions in a table of `coefficient_table`, by band. Raises ValueError naming a column that it lacks."""
    c = table.columns
    needed = ("band", "gaia", "power_teff", "value", "covariance", "label_range", "floor")
    missing = [name for name in needed if name not in c]
    if missing or "label_zero" not in table.meta:
        raise XpjaxError(f"this is no table of SCR coefficients: {missing[0] if missing else 'label_zero'} is missing")
    out = {}
    for band in dict.fromkeys(c["band"].tolist()):
        rows = np.flatnonzero(c["band"] == band)
        one = rows[0]
        n = len(rows)
        out[str(band)] = ColorRegression(
            str(band), str(c["gaia"][one]), np.stack([c[f"power_{label}"][rows] for label in LABELS], axis=1),
            np.array(c["value"][rows]), np.array(c["covariance"][rows, :n]), np.array(table.meta["label_zero"], float),
            np.array(table.meta["label_scale"], float), float(c["floor"][one]), float(c["scatter"][one]),
            _population(c["population"][one]) if "population" in c else None,
            np.array(c["label_range"][one]).reshape(2, 3), int(c["n_used"][one]), bool(c["converged"][one]),
        )  # fmt: skip
    return out
