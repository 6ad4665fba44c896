"""Derivatives and roots of Hermite series against NumPy's polynomials."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import hermite
from scipy.special import gammaln

from xpjax.xp.basis import HermiteBasis, SplineBasis, hermite_functions
from xpjax.xp.instrument import load_instrument
from xpjax.xp.lines import derivative, extrema, roots


def test_derivative_is_the_slope() -> None:
    series = np.random.default_rng(1).normal(size=(3, 12))
    x, step = np.linspace(-4, 4, 41), 1e-5
    slope = series @ (hermite_functions(x + step, 12) - hermite_functions(x - step, 12)) / (2 * step)
    np.testing.assert_allclose(derivative(series) @ hermite_functions(x, 13), slope, rtol=1e-7, atol=1e-7)


def test_roots_are_those_of_the_polynomial() -> None:
    series = np.random.default_rng(2).normal(size=(5, 14))
    k = np.arange(14)
    norm = np.exp(-0.5 * (k * np.log(2) + gammaln(k + 1)))  # psi_k as multiples of H_k
    found = roots(series)
    for own, one in zip(found, series, strict=True):
        expected = hermite.hermroots(one * norm)
        expected = np.sort(expected[np.abs(expected.imag) < 1e-9].real)
        np.testing.assert_allclose(own[: len(expected)], expected, rtol=1e-8, atol=1e-8)
        assert np.isnan(own[len(expected) :]).all()


def test_one_bad_source_costs_no_other() -> None:
    basis = load_instrument().internal["hermite"]["bp"]
    assert isinstance(basis, HermiteBasis)
    value = np.random.default_rng(3).normal(size=(3, basis.n_basis))
    good = extrema(value, basis)
    value[1, 4] = np.nan
    for own, other in zip(extrema(value, basis), good, strict=True):
        assert np.isnan(own[1]).all()
        n = own.shape[1]
        np.testing.assert_array_equal(own[[0, 2]], other[[0, 2], :n])  # to the bit
        assert np.isnan(other[[0, 2], n:]).all()
    flat = basis(good[0][0][:1] + np.array([-1e-4, 0.0, 1e-4]))
    left, middle, right = value[0] @ flat
    assert (middle - left) * (right - middle) < 0


def test_splines_turn_where_their_slope_changes_sign() -> None:
    knots = np.concatenate([[0.0] * 3, np.linspace(0, 60, 18), [60.0] * 3])
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(20, 20)))[0]
    basis = SplineBasis(knots, 3, turn)
    value = np.random.default_rng(5).normal(size=(3, 20))
    value[1, 4] = np.nan
    x = np.arange(0.0, 60.0, 0.001)
    for order, found in enumerate(extrema(value, basis), 1):
        assert np.isnan(found[1]).all()
        for row in (0, 2):
            slope = np.diff(value[row] @ basis(x), order)
            changes = x[np.flatnonzero(np.sign(slope[1:]) != np.sign(slope[:-1]))] + 0.0005 * (order + 1)
            np.testing.assert_allclose(found[row][np.isfinite(found[row])], changes, atol=0.002)
