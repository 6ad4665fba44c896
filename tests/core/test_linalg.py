"""Least squares and interpolation against SciPy; products and packed matrices are tested where they are used."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import curve_fit

from xpjax.core import engine
from xpjax.core.linalg import gauss_newton, local_cubic
from xpjax.core.quadrature import quadrature

X = np.linspace(0, 4, 60)


def decay(value: jax.Array, x: np.ndarray, y: np.ndarray, error: float) -> jax.Array:
    return (y - value[0] * jnp.exp(-value[1] * x) - value[2]) / error


def data(rng: np.random.Generator) -> np.ndarray:
    return 3 * np.exp(-1.3 * X) + 0.5 + rng.normal(0, 0.02, len(X))


@pytest.mark.parametrize("start", [(1.0, 1.0, 0.0), (10.0, 0.1, 5.0), (1.0, 5.0, -3.0)])
def test_gauss_newton_finds_scipys_minimum(rng: np.random.Generator, start: tuple[float, ...]) -> None:
    y = data(rng)
    value, covariance = curve_fit(
        lambda x, a, b, c: a * np.exp(-b * x) + c, X, y, (3, 1, 0.5), np.full(len(X), 0.02), absolute_sigma=True
    )
    with engine.precision(float64=True):
        found = jax.jit(lambda s: gauss_newton(decay, s, X, y, 0.02))(np.array(start))
    assert bool(found.converged)
    np.testing.assert_allclose(found.value, value, rtol=1e-5)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-4)
    assert float(found.chi2) == pytest.approx(np.sum(np.asarray(decay(value, X, y, 0.02)) ** 2), rel=1e-5)


@pytest.mark.slow
def test_gauss_newton_in_a_batch_and_with_wild_units(rng: np.random.Generator) -> None:
    """Each fit of a batch stops by itself, and a parameter of order 1e-20 is no harder than one of order one."""
    ys = np.stack([data(rng) for _ in range(4)])

    def scaled(value: jax.Array, x: np.ndarray, y: jax.Array, error: float) -> jax.Array:
        return decay(value * jnp.array([1e20, 1.0, 1e-12]), x, y, error)

    with engine.precision(float64=True):
        plain = jax.jit(jax.vmap(lambda y: gauss_newton(decay, np.array([1.0, 1.0, 0.0]), X, y, 0.02)))(ys)
        wild = jax.jit(jax.vmap(lambda y: gauss_newton(scaled, np.array([1e-20, 1.0, 0.0]), X, y, 0.02)))(ys)
    assert np.all(plain.converged & wild.converged)
    np.testing.assert_allclose(wild.value * np.array([1e20, 1, 1e-12]), plain.value, rtol=1e-6)


@pytest.mark.slow
def test_gauss_newton_says_when_it_fails() -> None:
    with engine.precision(float64=True):
        lost = gauss_newton(lambda v: jnp.log(v - 5.0) * jnp.ones(3), np.array([1.0]))
        short = gauss_newton(decay, np.array([1.0, 1.0, 0.0]), X, 3 * np.exp(-1.3 * X), 0.02, max_steps=2)
        blind = gauss_newton(lambda v: jnp.stack([v[0] - 1, v[0] - 1]), np.array([0.0, 0.0]))
    assert not bool(lost.converged)
    assert not bool(short.converged)
    assert not np.isfinite(np.asarray(blind.covariance)).all()  # a parameter that nothing depends on


def test_local_cubic_is_scipys_hermite_spline(rng: np.random.Generator) -> None:
    knots = 3.0 + 0.5 * np.arange(20)
    y = rng.normal(size=20)
    x = np.linspace(knots[1], knots[-2], 333)
    expected = CubicHermiteSpline(knots, y, np.gradient(y, 0.5))(x)
    with engine.precision(float64=True):
        cubic = jax.jit(lambda u: local_cubic(u, knots, y))
        np.testing.assert_allclose(cubic(x), expected, atol=1e-13)
        np.testing.assert_array_equal(cubic(np.array([-9.0, 2.99, 12.51, 99.0])), 0)
        # Its slope is continuous at the samples, where a straight line's is not.
        slope = jax.jit(jax.vmap(jax.grad(cubic)))
        inner = knots[2:-2]
        np.testing.assert_allclose(slope(inner - 1e-9), slope(inner + 1e-9), atol=1e-6)
        np.testing.assert_allclose(slope(inner), np.gradient(y, 0.5)[2:-2], atol=1e-12)


def test_local_cubic_is_what_passbands_are_integrated_with(rng: np.random.Generator) -> None:
    knots = np.sort(rng.uniform(400, 600, 40))
    y = rng.uniform(0, 1, 40)
    nodes, _, matrix = quadrature(knots)
    with engine.precision(float64=True):
        np.testing.assert_allclose(jax.jit(local_cubic)(nodes, knots, y), matrix @ y, atol=1e-11)
