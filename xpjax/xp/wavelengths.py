"""Wavelengths at which spectra are compared with models and corrected."""

from __future__ import annotations

import numpy as np

from xpjax.core.records import AnyArray
from xpjax.core.units import nanometers


def constant_grid() -> np.ndarray:
    """The paper's wavelengths (330,) [nm]: 360..990, evenly spaced in the logarithm."""
    return np.geomspace(360.0, 990.0, 330)


def variable_grid(
    wavelength: AnyArray, resolution: AnyArray, n: int = 270, limits: tuple[float, float] = (360.0, 992.1)
) -> np.ndarray:
    """n wavelengths [nm] between limits, their steps the same share of a resolution element lambda/R everywhere.

    resolution (m,): R at wavelengths (m,) [nm], ascending, linear between them and constant beyond. The paper has 270
    samples on 360..992.1 nm and calls the share a half; with its R(lambda) as tabulated it is a fifth.
    """
    wavelength, limits = nanometers(wavelength), tuple(nanometers(limits))
    fine = np.linspace(*limits, 20001)
    density = np.interp(fine, np.asarray(wavelength), np.asarray(resolution)) / fine
    passed = np.append(0.0, np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(fine)))
    return np.interp(np.linspace(0.0, passed[-1], n), passed, fine)
