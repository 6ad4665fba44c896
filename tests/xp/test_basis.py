"""Bases: orthonormality, and SciPy's own polynomials and splines."""

import numpy as np
from scipy.interpolate import BSpline
from scipy.special import eval_hermite, factorial

from xpjax.xp.basis import HermiteBasis, SplineBasis, hermite_functions


def test_hermite_functions_are_scipys_and_orthonormal() -> None:
    x = np.linspace(-15, 15, 4001)
    psi = hermite_functions(x, 12)
    for k in range(12):
        norm = np.sqrt(2.0**k * factorial(k) * np.sqrt(np.pi))
        np.testing.assert_allclose(psi[k], eval_hermite(k, x) * np.exp(-0.5 * x**2) / norm, atol=1e-12)
    np.testing.assert_allclose(psi @ psi.T * (x[1] - x[0]), np.eye(12), atol=1e-10)


def test_a_hermite_basis_maps_its_range() -> None:
    basis = HermiteBasis(np.eye(4)[:3], (0.0, 60.0), (-5.0, 5.0))
    assert basis.n_basis == 3
    np.testing.assert_allclose(basis(np.array([0.0, 30.0])), hermite_functions(np.array([-5.0, 0.0]), 4)[:3])


def test_a_spline_basis_is_scipys() -> None:
    knots = np.array([0.0, 0, 0, 0, 1, 2, 3, 3, 3, 3])
    basis = SplineBasis(knots, 3)
    x = np.linspace(-0.5, 3.5, 30)
    for k, row in enumerate(basis(x)):
        np.testing.assert_allclose(row, BSpline(knots, np.eye(basis.n_basis)[k], 3)(x))
