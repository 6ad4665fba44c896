"""chi2 of one star's normalized data: weighted rows, and data that are whitened where their errors are correlated."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from xpjax.core.linalg import dot, unpack
from xpjax.core.records import AnyArray

BLOCK = 66
"""Size of the blocks in which full covariances are decomposed: the best of 24..110 on a CPU."""


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


def _divided_by_root(matrix: Array, columns: Array) -> Array:
    """L^-1 columns (n, m) with L L' = matrix (n, n), block by block; NaN where it is not positive definite.

    Products of matrices do the work: the LAPACK that XLA calls for every matrix of a batch starts threads for each,
    which trip over each other, and over those of the engine, on a busy machine.
    """
    table, done = jnp.concatenate([matrix, columns], axis=1), []
    while len(table):
        size = min(BLOCK, len(table))
        part = dot(_inverse_root(table[:size, :size]), table[:size, size:])
        rest = len(table) - size
        done.append(part[:, rest:])
        table = table[size:, size:] - dot(part[:, :rest].T, part)
    return jnp.concatenate(done)


def _inverse_root(matrix: Array) -> Array:
    """L^-1 (n, n) with L L' = matrix, by elimination."""
    n = len(matrix)
    number = jnp.arange(n)

    def eliminate(i: Any, table: Array) -> Array:
        return table - jnp.where(number > i, table[:, i] / table[i, i], 0)[:, None] * table[i]

    table = jax.lax.fori_loop(0, n, eliminate, jnp.concatenate([matrix, jnp.eye(n, dtype=matrix.dtype)], axis=1))
    return table[:, n:] * jax.lax.rsqrt(jnp.diagonal(table))[:, None]
