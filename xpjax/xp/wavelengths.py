"""Wavelengths at which spectra are compared with models and corrected."""

from __future__ import annotations

import numpy as np

from xpjax.core.records import AnyArray
from xpjax.core.units import nanometers


def constant_grid() -> np.ndarray:
    """Return wavelengths evenly spaced in the logarithm, for spectra of constant resolving power.

    Returns
    -------
    (330,) array [nm]
        From 360 to 990 nm.

    Examples
    --------
    >>> xpjax.xp.constant_grid()[[0, -1]]
    array([360., 990.])
    """
    return np.geomspace(360.0, 990.0, 330)


def variable_grid(
    wavelength: AnyArray, resolution: AnyArray, n: int = 270, limits: tuple[float, float] = (360.0, 992.1)
) -> np.ndarray:
    """Return wavelengths whose steps are the same share of a resolution element everywhere.

    Parameters
    ----------
    wavelength : (m,) array [nm]
        Ascending wavelengths of the resolving power.
    resolution : (m,) array
        Resolving power R = lambda / FWHM, linear between these wavelengths and constant beyond them.
    n : int
        Number of samples.
    limits : tuple of two floats [nm]
        The first and the last sample.

    Returns
    -------
    (n,) array [nm]
        The samples.

    Examples
    --------
    >>> at = np.arange(340.0, 1020.0)
    >>> xpjax.xp.variable_grid(at, xpjax.load_instrument().resolution(at)).shape
    (270,)
    """
    wavelength, limits = nanometers(wavelength), tuple(nanometers(limits))
    fine = np.linspace(*limits, 20001)
    density = np.interp(fine, np.asarray(wavelength), np.asarray(resolution)) / fine
    passed = np.append(0.0, np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(fine)))
    return np.interp(np.linspace(0.0, passed[-1], n), passed, fine)
