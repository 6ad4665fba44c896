"""The distribution of true labels, found from measured ones, and what it says of the true labels of a star.

Errors of labels attenuate slopes: 97 K in a spread of 270 K cost 12 %. Regression calibration (Carroll et al. 2006,
Measurement Error in Nonlinear Models, chapter 4) replaces every term of the regression by its mean over the true labels
that a star may have, given the measured labels, the covariance of their errors and the distribution of the true labels
of all stars. That distribution is a mixture of Gaussians, found by extreme deconvolution (Bovy et al. 2011, Ann. Appl.
Stat. 5, 1657); the means of polynomials over it are exact. A cut in measured labels does not bias the regression, as
long as the distribution was found before the cut.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record, Rows
from xpjax.survey.scr.labels import Exponents, gradient, mean_monomials, quadratic_form, scaled

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

    def flat(self) -> np.ndarray:
        """All numbers in one row: reddening, then weight, mean and covariance of each Gaussian."""
        each = np.column_stack([self.weight, self.mean, self.covariance.reshape(-1, 9)])
        return np.concatenate([self.reddening, each.ravel()])

    @classmethod
    def from_flat(cls, row: np.ndarray) -> Population:
        """The distribution in a row of `flat`."""
        row = np.asarray(row, float)
        parts = row[2:].reshape(-1, 13)
        return cls(parts[:, 0], parts[:, 1:4], parts[:, 4:].reshape(-1, 3, 3), row[:2])

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


def _reddening_of_tiles(
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


def find_population(labels: np.ndarray, label_covariance: np.ndarray, tile: np.ndarray | None = None) -> Population:
    """The population that labels (n, 3), measured with errors of covariance (n, 3, 3) or (3, 3), were drawn from.

    tile (n,): numbers from 0, as in `fit_scr`. Stars with NaN are ignored; 20,000 at most are drawn at random. Give the
    stars before any cut in these labels. Raises XpjaxError for too few stars.
    """
    from scipy.cluster.vq import kmeans2

    n = len(labels)
    z, covariance = scaled(np.zeros(n), np.zeros(n), labels, label_covariance)
    assert covariance is not None
    shift, width, reddening = _reddening_of_tiles(z, covariance, tile)
    z, covariance = _standardized(z, covariance, shift, width)
    rows = np.flatnonzero(np.isfinite(z).all(axis=1) & np.isfinite(covariance).all(axis=(1, 2)))
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(rows, min(SAMPLE, len(rows)), replace=False))
    if len(rows) < 20 * COMPONENTS:
        raise XpjaxError(f"{len(rows)} stars with labels and their errors are too few for a population of {COMPONENTS}")
    z, covariance = z[rows], covariance[rows]
    least = LEAST_SPREAD**2 * np.eye(z.shape[1])
    spread = np.maximum(z.std(axis=0), LEAST_SPREAD)
    own = kmeans2(z / spread, COMPONENTS, minit="++", rng=rng)[1]
    groups = [z[own == k] for k in range(COMPONENTS) if np.count_nonzero(own == k) > z.shape[1]]
    share = np.array([len(g) for g in groups]) / sum(map(len, groups))
    wide = np.array([np.cov(g.T) + least for g in groups])
    found = Population(share, np.array([g.mean(axis=0) for g in groups]), wide, reddening)
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
class TrueLabels(Rows):
    """What is known of true scaled labels: Gaussians with share (n, m), mean (n, m, 3), covariance (n, m, 3, 3)."""

    row_fields = ("share", "mean", "covariance")

    share: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray | None

    def gaussians(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """Share (n,), mean (n, 3) and covariance (n, 3, 3), None for exact labels, of one Gaussian after the other."""
        for k in range(self.share.shape[1]):
            yield self.share[:, k], self.mean[:, k], None if self.covariance is None else self.covariance[:, k]

    def terms(self, exponents: Sequence[Exponents]) -> np.ndarray:
        """Mean of each term (n, k)."""
        parts = (share[:, None] * mean_monomials(z, s, exponents) for share, z, s in self.gaussians())
        return sum(parts, np.zeros((len(self.share), len(exponents))))

    def variance(self, value: np.ndarray, exponents: Sequence[Exponents]) -> np.ndarray:
        """Variance (n,) of the polynomial: within the Gaussians, to first order, and between them."""
        first, second = np.zeros(len(self.share)), np.zeros(len(self.share))
        for share, z, covariance in self.gaussians():
            if covariance is None:
                return first
            level = mean_monomials(z, covariance, exponents) @ value
            first += share * level
            second += share * (quadratic_form(gradient(z, value, exponents), covariance) + level**2)
        return np.maximum(second - first**2, 0)


def _standardized(
    z: np.ndarray, covariance: np.ndarray, shift: np.ndarray, width: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and their covariance with reddening counted from shift in units of width, (n,) each."""
    unit = np.stack([np.ones(len(z)), np.ones(len(z)), width], axis=1)
    zero = np.stack([np.zeros(len(z)), np.zeros(len(z)), shift], axis=1)
    return (z - zero) / unit, covariance / (unit[:, :, None] * unit[:, None, :])


def true_labels(
    z: np.ndarray, covariance: np.ndarray | None, population: Population | None, tile: np.ndarray | None
) -> TrueLabels:
    """The distribution of each star's true labels; without errors, or for a relation of measured labels, the labels."""
    if covariance is None or population is None:
        return TrueLabels(np.ones((len(z), 1)), z[:, None], None)
    shift, width, _ = _reddening_of_tiles(z, covariance, tile, population.reddening)
    share, mean, rest, _ = population.posterior(*_standardized(z, covariance, shift, width))
    mean[:, :, 2] = shift[:, None] + width[:, None] * mean[:, :, 2]
    rest[:, :, 2, :] *= width[:, None, None]
    rest[:, :, :, 2] *= width[:, None, None]
    return TrueLabels(share, mean, rest)
