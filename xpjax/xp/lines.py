"""Extrema and inflections of internal spectra, as roots of derivatives in the Hermite basis.

f(x) = sum_k a_k psi_k(x), a = c T. With psi_k' = sqrt(k/2) psi_{k-1} - sqrt((k+1)/2) psi_{k+1} a derivative is a
series again, and with x psi_k = sqrt(k/2) psi_{k-1} + sqrt((k+1)/2) psi_{k+1} its roots are the real eigenvalues of a
companion matrix (Weiler et al. 2023, A&A 671 A52). NumPy float64 on the host: accelerators have no such eigenvalues.
"""

from __future__ import annotations

import numpy as np

from xpjax.xp.basis import HermiteBasis, SplineBasis


def derivative(series: np.ndarray) -> np.ndarray:
    """The derivative (n, m + 1) of Hermite series (n, m)."""
    k = np.sqrt(0.5 * np.arange(1, series.shape[1] + 1))
    out = np.zeros((len(series), series.shape[1] + 1))
    out[:, :-2] += k[:-1] * series[:, 1:]
    out[:, 1:] -= k * series
    return out


def roots(series: np.ndarray) -> np.ndarray:
    """Real roots (n, m - 1) of Hermite series (n, m), ascending, then NaN; NaN for series that are not finite."""
    n, m = series.shape
    beside = np.sqrt(0.5 * np.arange(1, m - 1))
    companion = np.tile(np.diag(beside, 1) + np.diag(beside, -1), (n, 1, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        companion[:, -1] -= np.sqrt(0.5 * (m - 1)) * series[:, :-1] / series[:, -1:]
    good = np.isfinite(companion[:, -1]).all(axis=1)
    found = np.full((n, m - 1), np.nan)
    values = np.linalg.eigvals(companion[good])
    found[good] = np.sort(np.where(np.imag(values) == 0, np.real(values), np.nan), axis=1)
    return found


def _spline_roots(coefficients: np.ndarray, basis: SplineBasis, order: int) -> np.ndarray:
    """Where derivatives of sums of B-splines are zero (n, k), ascending, then NaN, between the outer knots."""
    from scipy.interpolate import BSpline, PPoly

    turned = coefficients if basis.transformation is None else coefficients @ basis.transformation
    found = []
    for row in np.asarray(turned, float):
        good = np.isfinite(row).all()
        spline = BSpline(basis.knots, row if good else np.zeros_like(row), basis.degree).derivative(order)
        zeros = PPoly.from_spline(spline).roots(extrapolate=False) if good else np.empty(0)
        found.append(np.sort(zeros[np.isfinite(zeros)]))
    out = np.full((len(found), max(map(len, found), default=0)), np.nan)
    for line, zeros in zip(out, found, strict=True):
        line[: len(zeros)] = zeros
    return out


def extrema(coefficients: np.ndarray, basis: HermiteBasis | SplineBasis) -> tuple[np.ndarray, np.ndarray]:
    """Find the extrema and inflections of the internal spectra of one XP.

    Parameters
    ----------
    coefficients : (n, n_basis) array
        Coefficients of one XP.
    basis : HermiteBasis or SplineBasis
        Basis of that XP, such as `xpjax.load_instrument().internal["hermite"]["bp"]`.

    Returns
    -------
    extrema : (n, k) array
        Pseudo-wavelengths where the first derivative is zero, ascending and then NaN.
    inflections : (n, k) array
        Pseudo-wavelengths where the second derivative is zero, ascending and then NaN.

    Notes
    -----
    The roots of the derivative of a Hermite series are the real eigenvalues of a companion matrix (Weiler et al. 2023,
    A&A 671, A52).

    Examples
    --------
    >>> sources = xpjax.simulate_sources(3, seed=1)
    >>> basis = xpjax.load_instrument().internal["hermite"]["bp"]
    >>> extrema, inflections = xpjax.xp.extrema(sources.coefficients.value[:, sources.release.slices[0]], basis)
    >>> len(extrema)
    3
    """
    if isinstance(basis, SplineBasis):
        return _spline_roots(coefficients, basis, 1), _spline_roots(coefficients, basis, 2)
    (u0, u1), (x0, x1) = basis.pseudo_range, basis.normalized_range
    first = derivative(coefficients @ basis.transformation)
    return tuple(u0 + (roots(s) - x0) * (u1 - u0) / (x1 - x0) for s in (first, derivative(first)))  # type: ignore[return-value]
