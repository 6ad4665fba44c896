"""Interstellar reddening: laws A(lambda)/A_V, and the transmission of dust.

    flux seen = flux emitted 10^(-0.4 A_V k(lambda)),  A_V = per_ebv E(B-V)

CCM89 (Cardelli, Clayton & Mathis 1989, ApJ 345, 245) and O'Donnell's optical coefficients (1994, ApJ 422, 158) are
computed here, k = a(x) + b(x)/R_V with x = 1/lambda in 1/um; further laws come from dust_extinction (extra `[dust]`).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax.core.errors import XpjaxError
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
# Names in dust_extinction.parameter_averages.
_FURTHER = ("F99", "F04", "M14", "F19", "G16", "G23", "VCG04", "GCC09")
LAWS = (*_OPTICAL, *(name.lower() for name in _FURTHER))
"""Names of the laws; all but the first two need dust_extinction."""


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


def extinction_curve(wavelength: Any, law: str = "ccm89", r_v: float = R_V) -> np.ndarray:
    """Compute A(lambda)/A_V of an extinction law, in NumPy float64.

    Parameters
    ----------
    wavelength : (n,) array or astropy.units.Quantity [nm]
        Wavelengths.
    law : str
        One of `LAWS`, in any case; all but the first two need the package dust_extinction.
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
    k = a(x) + b(x)/R_V with x = 1/lambda in 1/um: Cardelli, Clayton & Mathis (1989, ApJ 345, 245), and with optical
    coefficients of O'Donnell (1994, ApJ 422, 158).

    Examples
    --------
    >>> xpjax.extinction.extinction_curve(np.array([440.0, 550.0]), "ccm89").round(2)
    array([1.32, 1.  ])
    """
    wavelength = np.asarray(nanometers(wavelength), float)
    name = check_law(law)
    if name in _OPTICAL:
        if wavelength.min() < LIMITS[0] or wavelength.max() > LIMITS[1]:
            raise XpjaxError(
                f"{law} is given for {LIMITS[0]:g}..{LIMITS[1]:g} nm, asked for at "
                f"{wavelength.min():g}..{wavelength.max():g} nm"
            )
        return np.asarray(_parametric(np, wavelength, r_v, name))
    try:
        from dust_extinction import parameter_averages
    except ImportError as error:
        raise XpjaxError(f"the law {law} needs dust_extinction: pip install 'xpjax[dust]'") from error
    from astropy import units

    return np.asarray(getattr(parameter_averages, name.upper())(Rv=r_v)(wavelength * units.nm), float)


def check_law(law: str) -> str:
    """The name of a law as `LAWS` has it. Raises XpjaxError for one that is not known."""
    name = str(law).lower()
    if name not in LAWS:
        raise XpjaxError(f"unknown extinction law {law!r}; choose from {', '.join(LAWS)}")
    return name


def transmission(curve: AnyArray, ebv: AnyArray, per_ebv: Any = AV_PER_SFD) -> Array:
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
    return 10 ** (-0.4 * per_ebv * jnp.asarray(ebv)[..., None] * jnp.asarray(curve))
