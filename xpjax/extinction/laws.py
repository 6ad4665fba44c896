"""Interstellar reddening: laws A(lambda)/A_V, and the transmission of dust.

    flux seen = flux emitted 10^(-0.4 A_V k(lambda)),  A_V = per_ebv E(B-V)

CCM89 (Cardelli, Clayton & Mathis 1989, ApJ 345, 245), O'Donnell's optical coefficients (1994, ApJ 422, 158) and F19
(Fitzpatrick et al. 2019, ApJ 886, 108) are computed here, k = a(x) + b(x)/R_V with x = 1/lambda in 1/um; further laws
come from dust_extinction (extra `[dust]`).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from xpjax.core.errors import XpjaxError, install
from xpjax.core.records import AnyArray
from xpjax.core.units import nanometers

R_V = 3.1
"""A_V/E(B-V) of the diffuse interstellar medium."""

AV_PER_SFD = 2.742
"""A_V per E(B-V) of the map of Schlegel, Finkbeiner & Davis (1998), R_V = 3.1 (Schlafly & Finkbeiner 2011, ApJ 737,
103, table 6, Landolt V)."""

LIMITS = (303.1, 3333.0)
"""Wavelengths [nm] for which the laws of this module are given: x = 0.3..3.3 1/um."""

# Ascending powers of y = x - 1.82 in the optical and near infrared, x = 1.1..3.3.
_OPTICAL = {
    "ccm89": (
        (1.0, 0.17699, -0.50447, -0.02427, 0.72085, 0.01979, -0.77530, 0.32999),
        (0.0, 1.41338, 2.28305, 1.07233, -5.38434, -0.62251, 5.30260, -2.09002),
    ),
    "odonnell94": (
        (1.0, 0.104, -0.609, 0.701, 1.137, -1.718, -0.827, 1.647, -0.505),
        (0.0, 1.952, 2.908, -3.989, -7.985, 11.102, 5.491, -10.805, 3.347),
    ),
}
# Fitzpatrick et al. (2019), table 3: x, E(lambda-55)/E(44-55) for R_V = 3.1, and its slope with R_V.
_F19 = np.array([
    (
        0, 0.455, 0.606, 0.8, 1, 1.1, 1.2, 1.25, 1.3, 1.35, 1.4, 1.45, 1.5, 1.55, 1.6, 1.65, 1.7, 1.75, 1.8, 1.818,
        1.85, 1.9, 1.95, 2, 2.05, 2.1, 2.15, 2.2, 2.25, 2.273, 2.3, 2.35, 2.4, 2.45, 2.5, 2.55, 2.6, 2.65, 2.7, 2.75,
        2.8, 2.85, 2.9, 2.95, 3, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6, 3.7, 3.8, 3.9, 4, 4.1, 4.2, 4.3, 4.4, 4.5, 4.6,
    ),
    (
        -3.02, -2.747, -2.528, -2.222, -1.757, -1.567, -1.3, -1.216, -1.07, -0.973, -0.868, -0.75, -0.629, -0.509,
        -0.407, -0.32, -0.221, -0.133, -0.048, 0, 0.071, 0.188, 0.319, 0.438, 0.575, 0.665, 0.744, 0.838, 0.951, 1,
        1.044, 1.113, 1.181, 1.269, 1.346, 1.405, 1.476, 1.558, 1.632, 1.723, 1.791, 1.869, 1.948, 2.009, 2.09,
        2.253, 2.408, 2.565, 2.746, 2.933, 3.124, 3.328, 3.55, 3.815, 4.139, 4.534, 5.012, 5.56, 6.118, 6.565, 6.767,
    ),
    (
        -1, -0.842, -0.728, -0.531, -0.36, -0.284, -0.223, -0.198, -0.173, -0.15, -0.13, -0.11, -0.096, -0.081,
        -0.063, -0.048, -0.032, -0.017, -0.005, 0, 0.007, 0.013, 0.012, 0.01, 0.004, 0.003, 0, 0.002, 0.001, 0, 0,
        0.001, 0.001, -0.002, 0, -0.002, -0.002, -0.006, -0.009, -0.011, -0.017, -0.025, -0.029, -0.037, -0.043,
        -0.064, -0.092, -0.122, -0.161, -0.201, -0.249, -0.303, -0.366, -0.437, -0.517, -0.603, -0.692, -0.774,
        -0.843, -0.888, -0.908,
    ),
])  # fmt: skip
# Names in dust_extinction.parameter_averages.
_FURTHER = ("F99", "F04", "M14", "G16", "G23", "VCG04", "GCC09")
LAWS = (*_OPTICAL, "f19", *(name.lower() for name in _FURTHER))
"""Names of the laws; all but the first three need dust_extinction."""


def ccm89(wavelength: AnyArray, r_v: Any = R_V) -> Array:
    """A(lambda)/A_V of Cardelli, Clayton & Mathis (1989) at wavelengths (...,) [nm]; NaN beyond 303..3333 nm."""
    return _parametric(jnp, wavelength, r_v, "ccm89")


def odonnell94(wavelength: AnyArray, r_v: Any = R_V) -> Array:
    """A(lambda)/A_V with O'Donnell's (1994) optical coefficients at wavelengths (...,) [nm]; NaN beyond 303..3333."""
    return _parametric(jnp, wavelength, r_v, "odonnell94")


def _parametric(xp: Any, wavelength: AnyArray, r_v: Any, name: str) -> Any:
    """a(x) + b(x)/R_V, a power law in the infrared and polynomials in the optical; xp: NumPy, or JAX's."""
    x = 1e3 / xp.asarray(nanometers(wavelength))
    y = x - 1.82
    a, b = (xp.polyval(xp.asarray(c[::-1], x.dtype), y) for c in _OPTICAL[name])
    optical = a + b / r_v
    infrared = (0.574 - 0.527 / r_v) * x**1.61
    return xp.where((x >= 0.3) & (x <= 3.3), xp.where(x < 1.1, infrared, optical), xp.nan)


def _f19(wavelength: np.ndarray, r_v: float) -> np.ndarray:
    """A(lambda)/A_V of Fitzpatrick et al. (2019), by the spline through their table."""
    from scipy.interpolate import make_interp_spline

    x, mean, slope = _F19
    return np.asarray(make_interp_spline(x, 1 + (mean + 0.990 * (r_v - 3.10) * slope) / r_v)(1e3 / wavelength))


def extinction_curve(wavelength: ArrayLike, law: str = "ccm89", r_v: float = R_V) -> np.ndarray:
    """Compute A(lambda)/A_V of an extinction law, in NumPy float64.

    Parameters
    ----------
    wavelength : (n,) array or astropy.units.Quantity [nm]
        Wavelengths.
    law : str
        One of `LAWS`, in any case; all but the first three need the package dust_extinction.
    r_v : float
        R_V = A_V / E(B-V).

    Returns
    -------
    (n,) array
        A(lambda)/A_V.

    Raises
    ------
    XpjaxError
        If the law is unknown, a wavelength is beyond its range, or dust_extinction is not installed.

    Notes
    -----
    k = a(x) + b(x)/R_V with x = 1/lambda in 1/um: Cardelli, Clayton & Mathis (1989, ApJ 345, 245), with optical
    coefficients of O'Donnell (1994, ApJ 422, 158), and Fitzpatrick et al. (2019, ApJ 886, 108), who have spectra of the
    optical structure.

    Examples
    --------
    >>> xpjax.extinction.extinction_curve(np.array([440.0, 550.0]), "ccm89").round(2)
    array([1.32, 1.  ])
    """
    wavelength = np.asarray(nanometers(wavelength), float)
    name = check_law(law)
    if name in (*_OPTICAL, "f19"):
        if wavelength.min() < LIMITS[0] or wavelength.max() > LIMITS[1]:
            raise XpjaxError(
                f"{law} is given for {LIMITS[0]:g}..{LIMITS[1]:g} nm, asked for at "
                f"{wavelength.min():g}..{wavelength.max():g} nm"
            )
        return _f19(wavelength, r_v) if name == "f19" else np.asarray(_parametric(np, wavelength, r_v, name))
    try:
        from dust_extinction import parameter_averages
    except ImportError as error:
        raise XpjaxError(f"the law {law} needs dust_extinction: {install('dust')}") from error
    from astropy import units

    return np.asarray(getattr(parameter_averages, name.upper())(Rv=r_v)(wavelength * units.nm), float)


def check_law(law: str) -> str:
    """The name of a law as `LAWS` has it. Raises XpjaxError for one that is not known."""
    name = str(law).lower()
    if name not in LAWS:
        raise XpjaxError(f"unknown extinction law {law!r}; choose from {', '.join(LAWS)}")
    return name


def transmission(curve: AnyArray, ebv: AnyArray, per_ebv: float | AnyArray = AV_PER_SFD) -> Array:
    """Compute the share of light that dust transmits.

    Parameters
    ----------
    curve : (n,) array
        k = A(lambda)/A_V of an extinction law, see `extinction_curve`.
    ebv : (...,) array [mag]
        E(B-V); a negative one removes reddening.
    per_ebv : float or (...,) array
        A_V per E(B-V): `AV_PER_SFD` for the map of Schlegel et al., R_V for true E(B-V).

    Returns
    -------
    (..., n) array
        The transmission 10^(-0.4 per_ebv E(B-V) k).

    Examples
    --------
    >>> curve = xpjax.extinction.extinction_curve(np.array([550.0]))
    >>> xpjax.extinction.transmission(curve, 0.1).round(2)
    Array([0.78], dtype=float32)
    """
    return 10 ** (-0.4 * jnp.asarray(per_ebv) * jnp.asarray(ebv)[..., None] * jnp.asarray(curve))
