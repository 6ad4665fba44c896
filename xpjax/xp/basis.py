"""Basis functions of internal XP spectra in pseudo-wavelength, NumPy float64 on the host.

flux(u) = sum_k c_k (T psi(x))_k, x = u s + o, with Hermite functions psi (Carrasco et al. 2021, A&A 652 A86), or
c . B(u) with cubic B-splines B (the C04 bases).
"""

from __future__ import annotations

import dataclasses

import numpy as np


def hermite_functions(x: np.ndarray, n: int) -> np.ndarray:
    """Normalized Hermite functions psi_0..psi_{n-1} (n, n_sample) at x (n_sample,), by their stable recurrence.

    psi_k = sqrt(2/k) x psi_{k-1} - sqrt((k-1)/k) psi_{k-2}; psi_0 = pi^(-1/4) exp(-x^2/2).
    """
    x = np.asarray(x, float)
    psi = np.empty((n, *x.shape))
    psi[0] = np.pi**-0.25 * np.exp(-0.5 * x**2)
    if n > 1:
        psi[1] = np.sqrt(2.0) * x * psi[0]
    for k in range(2, n):
        psi[k] = np.sqrt(2.0 / k) * x * psi[k - 1] - np.sqrt((k - 1.0) / k) * psi[k - 2]
    return psi


@dataclasses.dataclass(frozen=True)
class HermiteBasis:
    """T psi(u s + o): transformation (n_basis, n_hermite), a pseudo-wavelength range and the range it is mapped to."""

    transformation: np.ndarray
    pseudo_range: tuple[float, float]
    normalized_range: tuple[float, float]

    @property
    def n_basis(self) -> int:
        """Number of basis functions."""
        return self.transformation.shape[0]

    def __call__(self, pseudo: np.ndarray) -> np.ndarray:
        """The bases (n_basis, n_sample) at pseudo-wavelengths (n_sample,)."""
        (u0, u1), (x0, x1) = self.pseudo_range, self.normalized_range
        scale = (x1 - x0) / (u1 - u0)
        offset = x0 - u0 * scale
        return self.transformation @ hermite_functions(
            np.asarray(pseudo) * scale + offset, self.transformation.shape[1]
        )


@dataclasses.dataclass(frozen=True)
class SplineBasis:
    """B-splines of a degree on knots (n_knot,), extrapolated polynomially beyond the outer knots.

    transformation (n_basis, n_spline): each basis function as a sum of splines; None where the splines are the bases.
    """

    knots: np.ndarray
    degree: int
    transformation: np.ndarray | None = None

    @property
    def n_basis(self) -> int:
        """Number of basis functions."""
        return len(self.knots) - self.degree - 1 if self.transformation is None else len(self.transformation)

    def __call__(self, pseudo: np.ndarray) -> np.ndarray:
        """The bases (n_basis, n_sample) at pseudo-wavelengths (n_sample,)."""
        from scipy.interpolate import BSpline

        n_spline = len(self.knots) - self.degree - 1
        coefficients = np.eye(n_spline) if self.transformation is None else self.transformation.T
        return BSpline(self.knots, coefficients, self.degree)(np.asarray(pseudo, float)).T
