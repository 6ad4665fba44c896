"""The fit of one exposure: zero-point, position, color and magnitude terms of every frame, robustly and all at once.

With m the instrumental and M the model magnitude of a standard, C its color, (u, v) its place scaled to -1..1:

    M - m = sum_ij b_ij T_i(u) T_j(v) + sum_k a_k (C - C_zero)^k + sum_k l_k (m - m_zero)^k + o_amplifier

T are Chebyshev polynomials of total order up to `position_order` (Xiao et al. 2023, 2025 have order 2). The color term
is taken off the standards: the survey keeps its natural system, which agrees with the models at C_zero. The rest is
added to every star. All terms are solved together by iteratively reweighted least squares, first with Huber's weights,
then with Tukey's, then with a plain cut that lets stars back in; weights are 1 / (error^2 + floor^2) and the floor is
an S-estimate: mean rho(residual / error) = 1/2 of Tukey's rho with 50 % breakdown.

Arithmetic: float64, normal equations of residuals in scaled coordinates, each term scaled to one. A frame is one source
of the engine; frames are padded to few sizes, so that a job of any number of stars compiles once or twice.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from xpjax.core.linalg import dot
from xpjax.core.records import AnyArray
from xpjax.survey import HUBER, LEAST_VARIANCE, SCALE, TUKEY
from xpjax.survey.exposures.model import GRID, Terms

STEPS = 20
"""Most steps of each stage of the robust fit."""


class Frame(eqx.Module):
    """One frame's standards, padded to n; what is not in use is zero."""

    u: Float[AnyArray, " n"]
    v: Float[AnyArray, " n"]
    color: Float[AnyArray, " n"]
    magnitude: Float[AnyArray, " n"]
    amplifier: Int[AnyArray, " n"]
    difference: Float[AnyArray, " n"]
    """Model minus instrumental magnitude, less `start`."""
    variance: Float[AnyArray, " n"]
    common: Float[AnyArray, " n"]
    """The common part of the variance: errors of a star that are the same on every frame."""
    use: Bool[AnyArray, " n"]
    active: Bool[AnyArray, " k"]
    floor: Float[AnyArray, ""]
    """First guess of floor^2."""
    prior: Float[AnyArray, " k"]
    prior_precision: Float[AnyArray, " k"]


class Recipe(eqx.Module):
    """What all frames share."""

    terms: Terms
    stages: tuple[str, ...] = eqx.field(static=True)
    clip: Float[AnyArray, ""]
    fixed_floor: Float[AnyArray, ""]
    """floor^2, or NaN where it is fitted."""
    common_floor: Float[AnyArray, ""]
    """The common part of floor^2: errors of a star that are the same on every frame."""
    tolerance: Float[AnyArray, ""]


class FrameFit(eqx.Module):
    """The solution of one frame; covariances are of independent noise and of the common errors of stars."""

    value: Float[Array, " k"]
    covariance: Float[Array, "k k"]
    common_covariance: Float[Array, "k k"]
    zero_point: Float[Array, ""]
    zero_point_error: Float[Array, ""]
    zero_point_common: Float[Array, ""]
    floor: Float[Array, ""]
    residual: Float[Array, " n"]
    kept: Bool[Array, " n"]
    determined: Float[Array, ""]
    converged: Bool[Array, ""]


def fit_kernel(recipe: Recipe, frame: Frame) -> FrameFit:
    """Fit one frame; see the module. Terms that are not active are zero."""
    terms = recipe.terms
    design = terms.design(frame.u, frame.v, frame.color, frame.magnitude, frame.amplifier)
    design = jnp.where(frame.active[:, None] & frame.use, design, 0)
    use = jnp.asarray(frame.use, design.dtype)
    n_free = jnp.sum(use) - jnp.sum(frame.active)
    idle = jnp.where(frame.active, 0.0, 1.0)
    fitted = jnp.isnan(recipe.fixed_floor) & (n_free >= 1)
    decisive = [name for name in recipe.stages if name != "clip"][-1]

    def normal(weight: Array) -> tuple[Array, Array, Array]:
        """The scaled factor of the normal matrix, its scale and the weighted design."""
        weighted = design * weight
        matrix = dot(weighted, design.T) + jnp.diag(idle + frame.prior_precision)
        scale = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), jnp.finfo(weight.dtype).tiny))
        factor = jnp.linalg.cholesky(matrix / scale[:, None] / scale[None, :])
        return factor, scale, weighted

    def weights(stage: Array, residual: Any, floor: Any) -> Array:
        total = jnp.maximum(frame.variance + floor, LEAST_VARIANCE)
        return use * _stage_weight(recipe, stage, jnp.abs(residual) * jax.lax.rsqrt(total)) / total

    def proceed(state: Any) -> Array:
        return state[3] < len(recipe.stages)

    def step(state: Any) -> Any:
        value, residual, floor, stage, steps, _ = state
        square = residual * residual
        new_floor = jax.lax.cond(
            fitted,
            lambda f: _better_floor(frame, use, n_free, square, _better_floor(frame, use, n_free, square, f)),
            lambda f: f,
            floor,
        )
        factor, scale, weighted = normal(weights(stage, residual, new_floor))
        right = dot(weighted, residual) + frame.prior_precision * (frame.prior - value)
        whitened = jax.scipy.linalg.solve_triangular(factor, right / scale, lower=True)
        change = jax.scipy.linalg.solve_triangular(factor.T, whitened) / scale
        change = jnp.where(frame.active, change, 0)
        value = value + change
        residual = frame.difference - dot(value, design)
        # The step in units of its error; a NaN of a singular matrix counts as done. Huber's fit before Tukey's is only
        # a start.
        tolerance = jnp.where(stage < recipe.stages.index(decisive), 0.3, recipe.tolerance)
        moved = (dot(whitened, whitened) > tolerance**2) | (
            jnp.abs(new_floor - floor) > tolerance * (new_floor + LEAST_VARIANCE)
        )
        last = steps + 1 >= STEPS
        done = ~moved | last
        return (
            value, residual, new_floor, jnp.where(done, stage + 1, stage), jnp.where(done, 0, steps + 1), moved & last,
        )  # fmt: skip

    floor = jnp.where(jnp.isnan(recipe.fixed_floor), jnp.where(fitted, frame.floor, 0.0), recipe.fixed_floor)
    zero = jnp.zeros(len(terms), design.dtype)
    first = (zero, jnp.asarray(frame.difference) * use, floor, jnp.int32(0), jnp.int32(0), jnp.bool_(False))
    value, residual, floor, _, _, late = jax.lax.while_loop(proceed, step, first)

    final = weights(jnp.int32(len(recipe.stages) - 1), residual, floor)
    factor, scale, weighted = normal(final)
    identity = jnp.eye(len(terms), dtype=design.dtype)
    inverse = jax.scipy.linalg.cho_solve((factor, True), identity) / scale[:, None] / scale[None, :]
    alike = jnp.asarray(frame.common) + jnp.minimum(recipe.common_floor, floor)
    common = dot(inverse, dot(dot(weighted * (weighted != 0) * alike, weighted.T), inverse.T))
    live = frame.active[:, None] & frame.active
    inverse, common = jnp.where(live, inverse, 0), jnp.where(live, common, 0)
    median, noise, shared = _zero_point(terms, value, inverse, common)
    return FrameFit(
        value, inverse - common, common, median, noise, shared, jnp.sqrt(floor), residual, final > 0,
        jnp.min(jnp.square(jnp.diagonal(factor))), ~late,
    )  # fmt: skip


def _stage_weight(recipe: Recipe, stage: Array, z: Array) -> Array:
    """Robust weights of standardized residuals z (n,) in a stage."""
    kinds = {
        "none": jnp.ones_like(z),
        "huber": HUBER / jnp.maximum(z, HUBER),
        "tukey": jnp.square(jnp.maximum(1 - (z / TUKEY) ** 2, 0)),
        "clip": (z < recipe.clip).astype(z.dtype),
    }
    return jnp.select([stage == i for i in range(len(recipe.stages))], [kinds[name] for name in recipe.stages])


def _better_floor(frame: Frame, use: Array, n_free: Array, square: Array, floor: Array) -> Array:
    """One Newton step of floor^2 towards sum rho = (n - k) / 2; square (n,): squared residuals."""
    total = jnp.maximum(frame.variance + floor, LEAST_VARIANCE)
    q = jnp.minimum(square / (SCALE**2 * total), 1.0)
    inside = jnp.square(1 - q)
    excess = jnp.sum(use * (1 - inside * (1 - q))) - 0.5 * n_free
    slope = jnp.sum(use * 3 * inside * q / total)
    middle = jnp.sum(use * total) / jnp.maximum(jnp.sum(use), 1)
    step = jnp.clip(excess / jnp.maximum(slope, jnp.finfo(square.dtype).tiny), -0.7 * middle, 3 * middle)
    return jnp.maximum(floor + step, 0.0)


def _zero_point(terms: Terms, value: Array, inverse: Array, common: Array) -> tuple[Array, Array, Array]:
    """The median level over the detector, and its errors by independent noise and by the common errors of stars."""
    grid = (jnp.arange(GRID) + 0.5) / GRID * 2 - 1
    u, v = (axis.ravel() for axis in jnp.meshgrid(grid.astype(value.dtype), grid.astype(value.dtype)))
    places = terms.design(u, v, 0 * u, 0 * u, jnp.zeros(len(u), jnp.int32))
    level = dot(value, places)
    median = jnp.median(level)
    # The derivative of a median is the mean derivative at its level, as far as the noise moves it.
    spread = jnp.mean(jnp.sum(places * dot(inverse - common, places), axis=0))
    closeness = jnp.exp(-0.5 * jnp.square(level - median) / jnp.maximum(spread, LEAST_VARIANCE))
    near = dot(places, closeness) / jnp.sum(closeness)
    noise = jnp.maximum(dot(near, dot(inverse - common, near)), 0)
    return median, jnp.sqrt(noise), jnp.sqrt(jnp.maximum(dot(near, dot(common, near)), 0))
