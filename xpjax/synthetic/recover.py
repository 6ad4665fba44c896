"""Passbands recovered from published projection vectors, whose curves are not shipped.

A projection vector is r = integral T(lambda) lambda D(lambda) dlambda, D the absolute design matrix. The curve is the
smooth, non-negative T that reproduces it: minimise |L w - r|^2 + reg |D2 w|^2 with w >= 0, columns of L scaled to one.
What comes out is "recovered", with its residual, never "measured".
"""

from __future__ import annotations

import functools

import numpy as np

from xpjax.constants import XP_RANGE
from xpjax.synthetic.system import PhotometricSystem
from xpjax.xp.instrument import instrument

REGULARISATION = 1e-6


@functools.lru_cache(maxsize=4)
def _operator(model: str, step: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wavelengths (n,) [nm], the operator (n_basis_total, n) with columns scaled to one, and the scales (n,)."""
    wavelength = np.arange(XP_RANGE[0], XP_RANGE[1] + 0.5 * step, step)
    matrix = np.asarray(instrument(model).design(wavelength).value) * wavelength * step
    norm = np.linalg.norm(matrix, axis=0)
    used = norm > 0
    return wavelength[used], matrix[:, used] / norm[used], norm[used]


def recover_passbands(system: PhotometricSystem, step: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recovered transmission of every band, from its projection vector.

    step: sampling [nm]. Returns wavelength (n,) [nm], transmission (n, n_band) with peak one, and the residual
    (n_band,) |L w - r| / |r|: 1e-5 and below for most broad bands, larger where a band is narrower than the step or
    reaches beyond 330..1050 nm. Raises ValueError for a system that does not say which instrument model it is for.
    """
    from scipy.optimize import nnls

    if not system.model:
        raise ValueError(f"{system.labels[0]} does not name its instrument model; its passbands cannot be recovered")
    wavelength, operator, norm = _operator(system.model, step)
    n = len(wavelength)
    smooth = np.diff(np.eye(n), 2, axis=0) * np.sqrt(REGULARISATION)
    stacked = np.concatenate([operator, smooth])
    transmission = np.empty((n, system.n_band))
    residual = np.empty(system.n_band)
    for band, vector in enumerate(np.asarray(system.projection).T):
        target = vector / np.linalg.norm(vector)
        weight, _ = nnls(stacked, np.concatenate([target, np.zeros(len(smooth))]), maxiter=30 * n)
        residual[band] = np.linalg.norm(operator @ weight - target)
        curve = weight / norm
        transmission[:, band] = curve / curve.max()
    return wavelength, transmission, residual
