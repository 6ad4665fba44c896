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
from xpjax.core.units import degrees, nanometers

__all__ = ["AV_PER_SFD", "LAWS", "R_V", "extinction_curve", "sfd_ebv", "transmission"]

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
    """A(lambda)/A_V (n,) in NumPy float64 at wavelengths (n,) [nm], on the host, of a law by its name in any case.

    Raises ValueError for an unknown law, wavelengths beyond its range, or a law of dust_extinction without it.
    """
    wavelength = np.asarray(nanometers(wavelength), float)
    name = law.lower()
    if name in _OPTICAL:
        if wavelength.min() < LIMITS[0] or wavelength.max() > LIMITS[1]:
            raise XpjaxError(
                f"{law} is given for {LIMITS[0]:g}..{LIMITS[1]:g} nm, asked for at "
                f"{wavelength.min():g}..{wavelength.max():g} nm"
            )
        return np.asarray(_parametric(np, wavelength, r_v, name))
    if name not in LAWS:
        raise XpjaxError(f"unknown extinction law {law!r}; choose from {LAWS}")
    try:
        from dust_extinction import parameter_averages
    except ImportError as error:
        raise XpjaxError(f"the law {law} needs dust_extinction: pip install 'xpjax[dust]'") from error
    from astropy import units

    return np.asarray(getattr(parameter_averages, name.upper())(Rv=r_v)(wavelength * units.nm), float)


def transmission(curve: AnyArray, ebv: AnyArray, per_ebv: Any = AV_PER_SFD) -> Array:
    """What dust lets through: 10^(-0.4 per_ebv E(B-V) k) of a curve k (n,) for E(B-V) (...,): (..., n).

    per_ebv: A_V per E(B-V), 2.742 for the SFD map, R_V for true E(B-V). A negative E(B-V) removes reddening.
    """
    return 10 ** (-0.4 * per_ebv * jnp.asarray(ebv)[..., None] * jnp.asarray(curve))


def sfd_ebv(ra: Any, dec: Any, folder: str | None = None) -> np.ndarray:
    """E(B-V) (n,) of a map of Schlegel, Finkbeiner & Davis at ra, dec (n,) [deg, ICRS]; NaN for missing positions.

    folder: where SFD_dust_4096_ngp.fits and SFD_dust_4096_sgp.fits lie; by default where dustmaps keeps them. Needs
    dustmaps (extra `[dust]`). Raises ValueError where it, or the map, is missing.
    """
    try:
        from astropy.coordinates import SkyCoord
        from dustmaps.sfd import SFDQuery
    except ImportError as error:
        raise XpjaxError("E(B-V) from a map needs dustmaps: pip install 'xpjax[dust]'") from error
    ra, dec = np.asarray(degrees(ra, "ra"), float), np.asarray(degrees(dec, "dec"), float)
    try:
        query = SFDQuery(map_dir=folder)
    except OSError as error:
        raise XpjaxError(f"no SFD map: {error}; give the folder with SFD_dust_4096_ngp.fits and _sgp.fits") from error
    out = np.full(ra.shape, np.nan)
    there = np.isfinite(ra) & np.isfinite(dec)
    if there.any():
        out[there] = query(SkyCoord(ra[there], dec[there], unit="deg"))
    return out
