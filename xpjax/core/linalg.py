"""Matrix products at full precision, symmetric matrices stored as packed lower triangles, least squares.

Every science product in xpjax goes through `dot`: recent GPUs otherwise multiply in TF32, which costs up to 4 mmag.
A packed triangle is strict (no diagonal) and row by row: (1,0), (2,0), (2,1), (3,0), ... as in the Gaia archive.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from xpjax.core.records import AnyArray

PRECISION = jax.lax.Precision.HIGHEST
IN_BOUNDS: dict[str, Any] = {"mode": "promise_in_bounds", "wrap_negative_indices": False}
"""Of `array.at[index].get` with an index that is traced and never outside: it halves what JAX traces of that."""


def dot(a: AnyArray, b: AnyArray) -> Array:
    """Matrix product `a @ b` at full precision of the operands' type."""
    return jnp.matmul(a, b, precision=PRECISION)


def host_dot(a: AnyArray, b: AnyArray) -> AnyArray:
    """`a @ b` by NumPy where both are on the host, in their own precision, and by `dot` where JAX may trace them."""
    return a @ b if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else dot(a, b)


def dot_last_first(a: AnyArray, b: AnyArray) -> Array:
    """`a @ b`, (n,) @ (n, n_out), summed from the last term to the first: for series that begin with their largest.

    Partial sums stay small until the end, and so do their roundings: 2e-7 of sum |a_i b_i| at worst in float32 where
    the plain order reaches 1.1e-6 (1200 real sources, 294 bands).
    """
    return dot(a[::-1], b[::-1])


@functools.cache
def pair_index(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each entry of the packed strict lower triangle of an (n, n) matrix, two (n(n-1)/2,) arrays."""
    return triangle_index(n, -1)


@functools.cache
def triangle_index(n: int, diagonal: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each entry, row by row, of the lower triangle of an (n, n) matrix up to a diagonal."""
    rows, columns = np.tril_indices(n, diagonal)
    return rows.astype(np.int32), columns.astype(np.int32)


@functools.cache
def _unpack_index(n: int) -> np.ndarray:
    """For each entry of an (n, n) matrix its place in the packed triangle; the diagonal points past the end."""
    index = np.full((n, n), n * (n - 1) // 2, np.int32)
    rows, columns = pair_index(n)
    index[rows, columns] = index[columns, rows] = np.arange(len(rows))
    return index


def pack(matrix: Float[Array, "n n"]) -> Float[Array, " n_pair"]:
    """The strict lower triangle of a symmetric matrix (n, n) as a packed vector (n(n-1)/2,)."""
    rows, columns = pair_index(matrix.shape[-1])
    return matrix[..., rows, columns]


def unpack(packed: Float[AnyArray, " n_pair"], n: int) -> Float[Array, "n n"]:
    """The symmetric matrix (n, n) with a unit diagonal and this packed strict lower triangle (n(n-1)/2,)."""
    end = jnp.ones((*packed.shape[:-1], 1), packed.dtype)
    return jnp.concatenate([packed, end], axis=-1)[..., _unpack_index(n)]


def pair_weights(design: np.ndarray) -> np.ndarray:
    """Weights 2 r_i r_j (n_pair, n_out) that turn packed products e_i e_j rho_ij into variances of `c @ design`.

    design (n, n_out), NumPy on the host. variance = sum_i (e_i r_i)^2 + sum_{i>j} e_i e_j rho_ij (2 r_i r_j): the
    quadratic form r' K r as one matrix product, so that correlations are read once and never unpacked.
    """
    rows, columns = pair_index(design.shape[0])
    return 2.0 * design[rows] * design[columns]


def inverse_sqrt(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """L^-1 (n, n) with L L' = matrix, so that |L^-1 x|^2 = x' matrix^-1 x; NaN where not positive definite."""
    lower = jnp.linalg.cholesky(matrix)
    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    return jax.scipy.linalg.solve_triangular(lower, identity, lower=True)


class Solution(eqx.Module):
    """What a least-squares fit found: value (k,), covariance (k, k), chi2, steps taken and whether it converged."""

    value: Float[Array, " k"]
    covariance: Float[Array, "k k"]
    chi2: Float[Array, ""]
    steps: Int[Array, ""]
    converged: Bool[Array, ""]


def gauss_newton(
    residual: Callable[..., Array],
    start: Float[AnyArray, " k"],
    *args: Any,
    max_steps: int = 50,
    tolerance: float = 1e-9,
) -> Solution:
    """Minimize |residual(value, *args)|^2 by Levenberg-Marquardt steps with the exact Jacobian.

    residual: (k,) -> (n,), whitened (priors are further residuals). A step that does not lower the sum is damped ten
    times more and tried again; Marquardt's scaling makes it blind to the units of the parameters. Converged where chi2
    changes by less than tolerance (1 + chi2). covariance = (J'J)^-1 at the end: NaN where singular.
    """
    jacobian = jax.jacfwd(residual)

    def normal(value: Array) -> tuple[Array, Array, Array]:
        r, j = residual(value, *args), jacobian(value, *args)
        return dot(j.T, j), dot(j.T, r), dot(r, r)

    def solve(matrix: Array, right: Array) -> Array:
        """matrix^-1 right (k, m), with parameters scaled to one."""
        scale = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), jnp.finfo(matrix.dtype).tiny))[:, None]
        factor = jax.scipy.linalg.cho_factor(matrix / scale / scale.T)
        return jax.scipy.linalg.cho_solve(factor, right / scale) / scale

    def proceed(state: Any) -> Array:
        _, _, damping, steps, done = state
        return (steps < max_steps) & ~done & (damping < 1e12)

    def step(state: Any) -> Any:
        """Judge the step tried last and take the next: so the residuals stand in the program once."""
        best, tried, damping, steps, _ = state
        new = (tried, *normal(tried))
        better = new[3] <= best[3]
        done = better & (best[3] - new[3] <= tolerance * (1 + new[3]))
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best)
        damping = jnp.where(better, damping / 10, jnp.maximum(damping * 10, 1e-3))
        value, matrix, gradient, _ = best
        change = solve(matrix + damping * jnp.diag(jnp.diagonal(matrix)), gradient[:, None])[:, 0]
        return best, value - change, damping, steps + 1, done

    start = jnp.asarray(start)
    zero = jnp.zeros_like(start)
    best = (start, jnp.outer(zero, zero), zero, jnp.asarray(jnp.inf, start.dtype))
    first = (best, start, jnp.zeros((), start.dtype), jnp.int32(0), jnp.bool_(False))
    (value, matrix, _, chi2), _, _, steps, done = jax.lax.while_loop(proceed, step, first)
    return Solution(value, solve(matrix, jnp.eye(len(start), dtype=start.dtype)), chi2, steps, done)


COMPARABLE = 2.5
"""Neighboring intervals within this ratio are taken to sample one smooth curve."""


def local_cubic(x: Array, knots: Float[AnyArray, " n"], samples: Float[AnyArray, " n"]) -> Array:
    """Samples (n,) at ascending knots (n,), interpolated to x; zero beyond the knots.

    Between two samples runs the cubic that has at each the slope of the parabola through it and its neighbors. Where a
    neighboring interval is more than 2.5 times longer or shorter, and at the ends, it runs straight on that side:
    tables mark steps and far tails so, and a cubic would overshoot there. Linear in the samples; on an even grid its
    slope is continuous, so that it can be differentiated with respect to x anywhere.
    """
    knots, samples = jnp.asarray(knots), jnp.asarray(samples)
    length = jnp.diff(knots)
    secant = jnp.diff(samples) / length
    before, after = length[:-1], length[1:]
    ratio = after / before
    parabola = (after * secant[:-1] + before * secant[1:]) / (before + after)
    smooth = (ratio < COMPARABLE) & (ratio > 1 / COMPARABLE)
    # How much the slope at either end of an interval departs from the straight line's.
    left = jnp.pad(jnp.where(smooth, parabola - secant[1:], 0), (1, 0))
    right = jnp.pad(jnp.where(smooth, parabola - secant[:-1], 0), (0, 1))
    k = jnp.clip(jnp.searchsorted(knots, x, side="right") - 1, 0, len(length) - 1)
    t = (x - knots[k]) / length[k]
    bend = t * (1 - t) * length[k] * ((1 - t) * left[k] - t * right[k])
    value = samples[k] + t * (samples[k + 1] - samples[k]) + bend
    return jnp.where((x >= knots[0]) & (x <= knots[-1]), value, 0)


def interpolation(knots: np.ndarray, x: np.ndarray) -> Any:
    """Sparse matrix (m, n) from samples at ascending knots (n,) to x (m,) within them: `linalg.local_cubic`."""
    from scipy import sparse

    n, m = len(knots), len(x)
    length = np.diff(knots)
    k = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, n - 2)
    h = length[k]
    t = (x - knots[k]) / h
    rows = np.arange(m)
    matrix = sparse.csr_array((np.append(1 - t, t), (np.append(rows, rows), np.append(k, k + 1))), shape=(m, n))
    if n == 2:
        return matrix
    ratio = length[1:] / length[:-1]
    smooth = np.concatenate([[False], (ratio < COMPARABLE) & (ratio > 1 / COMPARABLE), [False]])
    left, right = t * (1 - t) ** 2 * h * smooth[k], -(t**2) * (1 - t) * h * smooth[k + 1]
    slopes = _slopes(knots)
    secant = sparse.diags_array([-1 / length, 1 / length], offsets=[0, 1], shape=(n - 1, n)).tocsr()
    matrix += sparse.diags_array(left) @ (slopes[k] - secant[k])
    return (matrix + sparse.diags_array(right) @ (slopes[k + 1] - secant[k])).tocsr()


def _slopes(x: np.ndarray) -> Any:
    """Sparse (n, n): slopes at the samples of the parabolas through three neighbors; zero at the ends."""
    from scipy import sparse

    a, b = np.diff(x)[:-1], np.diff(x)[1:]
    lower = np.append(-b / (a * (a + b)), 0.0)
    middle = np.concatenate([[0.0], (b - a) / (a * b), [0.0]])
    upper = np.append(0.0, a / (b * (a + b)))
    return sparse.diags_array([lower, middle, upper], offsets=[-1, 0, 1]).tocsr()
