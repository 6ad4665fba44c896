"""Draws from the posterior of one star's labels, by importance sampling from what the Hessian says of it.

The posterior is exp(-chi2 / 2) with the priors, flat within the grid and nothing beyond it. A few rounds of draws from
a Student distribution (four degrees of freedom, so that tails are reached) learn its mean and covariance from those of
the last round, by weights posterior / proposal; the last round is resampled by its weights. How many independent draws
its weights are worth, (sum w)^2 / sum w^2, tells whether to trust it (Kish 1965; Cappe et al. 2004 for the rounds).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax.core import engine
from xpjax.core.linalg import dot
from xpjax.stellar.kernel import Model, Options, Star, near

FREEDOM = 4
"""Degrees of freedom of the proposals."""
WIDER = 1.2
"""Spread of proposals in that of the posterior as far as it is known."""
ROUNDS, PROPOSALS = 4, 2048
"""Rounds, and the proposals of each. They are alike, so that one program does them."""
AT_ONCE = 64
"""Draws whose models are computed together."""
LEAST_SPREAD = 1e-3
"""Least spread of proposals, in cells of the grid."""


def sample_posterior(
    options: Options, shared: Model, star: Star, labels: np.ndarray, n_draw: int, **settings: Any
) -> dict[str, np.ndarray]:
    """Draws (n, n_draw, n_label), and what they are worth (n,), of stars whose best labels (n, n_label) are known."""
    given = star, labels, np.arange(len(labels), dtype=np.uint32)
    size = AT_ONCE * 8 * shared.grid.block_size + 16 * PROPOSALS * (labels.shape[1] + 2)
    rows = engine.rows_of_batch(len(labels), size, settings.get("devices"))
    return engine.run(_kernel(options, n_draw), shared, given, batch_rows=rows, **settings)


@functools.cache
def _kernel(options: Options, n_draw: int) -> engine.Kernel:
    def kernel(model: Model, given: tuple[Star, Array, Array]) -> dict[str, Array]:
        star, best, number = given
        best = jnp.asarray(best)
        known = jnp.all(jnp.isfinite(best))
        start = jnp.where(known, best, 0.5 * (model.grid.low + model.grid.high))
        value, curvature, length = near(options, model, star, start)
        size = (model.grid.high - model.grid.low) / length
        # The grid's own size bounds what the spectrum does not tell.
        spread = _inverse(curvature + jnp.diag((4 / size) ** 2))
        key = jax.random.fold_in(jax.random.PRNGKey(0), number)

        def learn(k: Any, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            """One more round: the mean and covariance that it finds, its draws and their weights."""
            mean, spread, _, _ = state
            u, weight = _weighted(value, start, length, mean, spread, jax.random.fold_in(key, k))
            total = jnp.sum(weight)
            found = dot(weight, u) / total
            off = u - found
            learned = dot(off.T * weight, off) / total + LEAST_SPREAD**2 * jnp.eye(len(start), dtype=u.dtype)
            good = (total > 0) & (total**2 > 4 * len(start) * jnp.sum(weight**2))
            return jnp.where(good, found, mean), jnp.where(good, learned, spread), u, weight

        none = jnp.zeros((PROPOSALS, len(start)), start.dtype)
        state = jax.lax.fori_loop(0, ROUNDS, learn, (jnp.zeros_like(start), spread, none, none[:, 0]))
        u, weight = state[2:]
        total = jnp.cumsum(weight)
        offset = jax.random.uniform(jax.random.fold_in(key, ROUNDS), (), u.dtype)
        place = jnp.searchsorted(total, (jnp.arange(n_draw) + offset) / n_draw * total[-1])
        draws = start + u[jnp.clip(place, 0, PROPOSALS - 1)] * length
        usable = jnp.where(known & (total[-1] > 0), 1, jnp.nan)
        worth = total[-1] ** 2 / jnp.maximum(jnp.sum(weight**2), jnp.finfo(u.dtype).tiny)
        return {"draws": draws * usable, "n_effective": worth * usable}

    return kernel


def _weighted(value: Any, start: Array, length: Array, mean: Array, spread: Array, key: Array) -> tuple[Array, Array]:
    """Draws (PROPOSALS, n_label) in cells from the start, and the weights of each, the largest one."""
    k, dtype = len(mean), mean.dtype
    root = WIDER * _root(spread)
    normal = jax.random.normal(jax.random.fold_in(key, 0), (PROPOSALS, k), dtype)
    pair = PROPOSALS, FREEDOM // 2
    even = jax.random.uniform(jax.random.fold_in(key, 1), pair, dtype, minval=jnp.finfo(dtype).tiny)
    wide = -2 * jnp.sum(jnp.log(even), axis=1) / FREEDOM  # chi-squared over its degrees of freedom
    shape = normal / jnp.sqrt(wide)[:, None]
    u = mean + dot(shape, root.T)
    proposal = -0.5 * (FREEDOM + k) * jnp.log1p(jnp.sum(shape**2, axis=1) / FREEDOM)
    depth = jax.lax.map(value, start + u * length, batch_size=AT_ONCE)
    logarithm = jnp.where(jnp.isfinite(depth), -0.5 * depth - proposal, -jnp.inf)
    highest = jnp.max(logarithm)
    return u, jnp.exp(logarithm - jnp.where(jnp.isfinite(highest), highest, 0))


def _root(matrix: Array) -> Array:
    """L (k, k) with LL' = matrix of a few rows, written out: XLA's own, batched on a CPU, is slow."""
    k = len(matrix)
    columns: list[Array] = []
    for i in range(k):
        column = matrix[:, i]
        for known in columns:
            column = column - known * known[i]
        pivot = jnp.sqrt(jnp.maximum(column[i], jnp.finfo(matrix.dtype).tiny))
        columns.append(jnp.where(jnp.arange(k) < i, 0, column / pivot))
    return jnp.stack(columns, axis=1)


def _inverse(matrix: Array) -> Array:
    """The inverse (k, k) of a positive definite matrix of a few rows."""
    root, identity = _root(matrix), jnp.eye(len(matrix), dtype=matrix.dtype)
    rows: list[Array] = []
    for i in range(len(matrix)):
        row = identity[i]
        for j, known in enumerate(rows):
            row = row - root[i, j] * known
        rows.append(row / root[i, i])
    half = jnp.stack(rows)
    return dot(half.T, half)
