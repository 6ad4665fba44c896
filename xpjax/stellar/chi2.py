"""chi2 of one star's normalized data, whose errors are independent, or correlated as the noise of its coefficients is.

Samples of a spectrum see the noise of its coefficients, and what is added to it sample by sample: their covariance is
C = F + U'U, with F diagonal and U = L'B, where B samples the coefficients and LL' is their covariance. By Woodbury's
identity, with everything divided by the root of F,

    W = 1 - U' (1 + UU')^-1 U        so that        r' W r = r'r - y'y,    y = (1 + UU')^-1/2 U r:

the data and the models are lengthened by their y, which have the weight -1. Where F is small the two terms cancel:
this takes float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from xpjax.core.linalg import dot, unpack
from xpjax.core.records import AnyArray
from xpjax.xp import XPCoefficients, covariance, masked, reduced, usable

BLOCK = 28
"""Size of the blocks in which matrices are decomposed: the best of 11..66 on a CPU."""
NEGLIGIBLE, IMPOSSIBLE = 1e-9, -0.01
"""Pivots of correlation matrices: below the first no noise is left; rounding alone makes none of the second."""


class Data(NamedTuple):
    """Normalized data (n,), rows (n_column, n) that model them, weights (n,): chi2 = sum weight (value - t rows)^2."""

    value: Array
    rows: AnyArray
    weight: Array

    def chi2(self, t: Array) -> Array:
        """The sum of squared residuals of a model."""
        return jnp.sum(self.weight * (self.value - dot(t, self.rows)) ** 2)

    def gradient(self, t: Array) -> Array:
        """G'W(O - G t)."""
        return dot(self.weight * (self.value - dot(t, self.rows)), self.rows.T)

    def matrix(self) -> Array:
        """G'WG."""
        return dot(self.rows * self.weight, self.rows.T)


class Reach(eqx.Module):
    """How the noise of coefficients reaches the samples of spectra: a matrix B (p, n of its samples) for each XP.

    support: the samples [start, stop) of each XP. Rows are of the coefficients, or of their subspace where covariances
    are compact. truncate: whether coefficients that are not relevant have no noise.
    """

    matrix: tuple[Float[AnyArray, "p n_seen"], ...]
    support: tuple[tuple[int, int], ...] = eqx.field(static=True)
    truncate: bool = eqx.field(static=True)


class Noise(NamedTuple):
    """The noise of stars' samples: that of their coefficients, as far as it reaches."""

    reach: Reach
    source: XPCoefficients


def noise_roots(reach: Reach, source: XPCoefficients) -> list[Array]:
    """U (p, n of its samples) of each XP, in any one unit: U'U are its parts of the covariance of samples.

    An XP that is missing has no noise; NaN for matrices that are no covariances.
    """
    available = usable(source)
    source = masked(source, reach.truncate)
    own = [covariance(source, k) if source.covariance is None else reduced(source.covariance, k) for k in _all(reach)]
    own = [jnp.where(ok & jnp.all(jnp.isfinite(matrix)), matrix, 0) for ok, matrix in zip(available, own, strict=True)]
    unit = jnp.max(jnp.stack([jnp.max(jnp.diagonal(matrix)) for matrix in own]))
    unit = jnp.where(unit > 0, unit, 1)
    return [dot(_root(matrix / unit), jnp.asarray(seen)) for matrix, seen in zip(own, reach.matrix, strict=True)]


def _all(reach: Reach) -> range:
    return range(len(reach.matrix))


def correlated(data: Data, reach: Reach, source: XPCoefficients, sigma: Array, floor: Array, used: Array) -> Data:
    """Data for the covariance sigma R sigma + floor, where R are the correlations of samples from a source's noise.

    NaN where a sample has an error and the coefficients have none there.
    """
    n, roots = len(sigma), noise_roots(reach, source)
    spread = [jnp.pad(jnp.sum(u**2, axis=0), (a, n - b)) for u, (a, b) in zip(roots, reach.support, strict=True)]
    variance = jnp.stack(spread).sum(0)
    some = used & (variance > 0)
    single = jnp.where(used, jax.lax.rsqrt(floor), 0) * jnp.where(jnp.any(used & (sigma > 0) & ~some), jnp.nan, 1)
    gain = jnp.where(some, sigma * jax.lax.rsqrt(jnp.where(some, variance, 1)), 0) * single
    rows = jnp.concatenate([data.value[None], data.rows]) * single
    reached = [u * gain[a:b] for u, (a, b) in zip(roots, reach.support, strict=True)]
    across = [dot(rows[:, a:b], u.T) for u, (a, b) in zip(reached, reach.support, strict=True)]
    capacity = jnp.block([[_common(reached, reach.support, j, k) for k in _all(reach)] for j in _all(reach)])
    capacity = capacity + jnp.eye(len(capacity), dtype=capacity.dtype)
    y = _divided_by_root(capacity, jnp.concatenate(across, axis=1).T).T
    rows = jnp.concatenate([rows, y], axis=1)
    return Data(rows[0], rows[1:], jnp.concatenate([jnp.ones_like(single), -jnp.ones_like(y[0])]))


def _common(reached: Sequence[Array], support: Sequence[tuple[int, int]], j: int, k: int) -> Array:
    """The product of two XPs' rows on the samples that both reach."""
    if j > k:
        return _common(reached, support, k, j).T
    start, stop = max(support[j][0], support[k][0]), min(support[j][1], support[k][1])
    if start >= stop:
        return jnp.zeros((len(reached[j]), len(reached[k])), reached[j].dtype)
    one, other = (u[:, start - a : stop - a] for u, (a, _) in ((reached[i], support[i]) for i in (j, k)))
    return dot(one, other.T)


def whitened(data: Data, correlation: Array, sigma: Array, floor: Array, used: Array) -> Data:
    """Data and rows in which the noise is one and uncorrelated, for the covariance sigma R sigma + floor.

    Samples that are not used have no covariance with others and no model.
    """
    sigma = jnp.where(used, sigma, 0)
    covariance = unpack(correlation, len(sigma)) * sigma[:, None] * sigma[None, :]
    # Where sigma is zero nothing may leak in from correlations that are not finite.
    covariance = jnp.where(sigma[:, None] * sigma[None, :] > 0, covariance, 0)
    covariance = covariance + jnp.diag(jnp.where(used, floor, 1))
    rows = jnp.where(used, jnp.concatenate([data.value[None], data.rows]), 0)
    white = _divided_by_root(covariance, rows.T).T
    return Data(white[0], white[1:], jnp.ones_like(white[0]))


def _root(matrix: Array) -> Array:
    """L' (n, n) with LL' = matrix, which may be singular; NaN where it has negative eigenvalues."""
    n = len(matrix)
    size = jnp.sqrt(jnp.diagonal(matrix))
    inverse = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
    parts = _rows_of_root(matrix * inverse[:, None] * inverse, n, singular=True)
    return jnp.concatenate([jnp.pad(part, ((0, 0), (n - part.shape[1], 0))) for part in parts]) * size


def _divided_by_root(matrix: Array, columns: Array) -> Array:
    """L^-1 columns (n, m) with LL' = matrix (n, n); NaN where it is not positive definite."""
    n, m = columns.shape
    return jnp.concatenate([part[:, -m:] for part in _rows_of_root(jnp.concatenate([matrix, columns], axis=1), n)])


def _rows_of_root(table: Array, n: int, singular: bool = False) -> Iterator[Array]:
    """L^-1 table, with LL' the first n columns of a table (n, n + m): its rows from the diagonal on, block by block.

    Products of matrices do the work: the LAPACK that XLA calls for every matrix of a batch starts threads for each,
    which trip over each other, and over those of the engine, on a busy machine.
    """
    while n:
        size = -(-n // -(-n // BLOCK))  # blocks of equal size
        part = dot(_inverse_root(table[:size, :size], singular), table[:size])
        yield part
        table = table[size:, size:] - dot(part[:, size:n].T, part[:, size:])
        n -= size


def _inverse_root(matrix: Array, singular: bool) -> Array:
    """L^-1 (n, n) with LL' = matrix, by elimination; singular: with rows of zeros where nothing is left."""
    n = len(matrix)
    number = jnp.arange(n)
    least = NEGLIGIBLE if singular else 0

    def eliminate(i: Any, table: Array) -> Array:
        pivot = jnp.where(table[i, i] > least, table[i, i], jnp.inf if singular else jnp.nan)
        return table - jnp.where(number > i, table[:, i] / pivot, 0)[:, None] * table[i]

    table = jax.lax.fori_loop(0, n, eliminate, jnp.concatenate([matrix, jnp.eye(n, dtype=matrix.dtype)], axis=1))
    pivots = jnp.diagonal(table)
    none = jnp.where(pivots < IMPOSSIBLE, jnp.nan, 0) if singular else jnp.nan
    return table[:, n:] * jnp.where(pivots > least, jax.lax.rsqrt(pivots), none)[:, None]
