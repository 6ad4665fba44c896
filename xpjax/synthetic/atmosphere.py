"""The Earth's atmosphere above a telescope, as differentiable functions of wavelength.

    T = 10^(-0.4 X k(lambda)) exp(-tau_bands(lambda)),   k = 1.0857 (tau_Rayleigh + tau_ozone + tau_aerosol)

with airmass X. k [mag/airmass] is the smooth extinction: the formulas here, or a site's curve plus what the formulas
say of a change of pressure, ozone or aerosol. The bands of O2 and H2O saturate, so that they are kept apart from k.
Wavelengths in nm, for vacuum or air alike: the difference (0.3 nm) is far below the width of anything here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.constants import POGSON
from xpjax.core.errors import XpjaxError
from xpjax.core.records import AnyArray
from xpjax.core.units import nanometers

Scalar: TypeAlias = Float[AnyArray, ""] | float


SEA_LEVEL = 1013.25
"""Standard pressure at sea level [hPa]."""

_RAYLEIGH = (0.0021520, 1.0455996, -341.29061, -0.90230850, 0.0027059889, -85.968563)

_CHAPPUIS = np.array(
    # center [nm], width (sigma) [nm], optical depth of 1000 DU
    [[589.5, 56.7, 0.1122], [570.7, 8.8, 0.0208], [604.8, 9.4, 0.0284], [726.0, 57.5, 0.0082]]
)
_HUGGINS = (-1.948, -1.690, -0.0871)

_OXYGEN = np.array(
    # center [nm], width (sigma) [nm], optical depth where not saturated: airmass 1, sea level
    [
        [628.5, 0.7, 0.0354],  # gamma
        [630.5, 1.3, 0.0063],
        [687.7, 0.7, 1.23],  # B
        [690.4, 1.4, 0.195],
        [761.2, 0.7, 41.0],  # A
        [764.2, 1.5, 4.1],
    ]
)
_WATER = np.array(
    # center [nm], width (sigma) [nm], optical depth where not saturated: airmass 1, 1 mm
    [
        [505.9, 2.5, 0.00032],
        [543.5, 2.5, 0.00019],
        [572.0, 3.1, 0.00031],
        [592.4, 3.6, 0.00205],
        [631.9, 3.2, 0.00028],
        [648.7, 2.7, 0.00117],
        [652.7, 3.1, 0.00052],
        [657.7, 2.9, 0.00048],
        [694.4, 1.8, 0.0034],
        [702.7, 4.5, 0.00246],
        [719.1, 1.8, 0.0226],
        [725.4, 1.8, 0.0132],
        [729.4, 2.6, 0.0108],
        [737.2, 3.1, 0.0019],
        [788.7, 2.9, 0.0006],
        [798.6, 6.8, 0.00164],
        [816.3, 2.2, 0.029],
        [823.0, 1.8, 0.015],
        [829.8, 2.9, 0.0108],
        [836.1, 5.7, 0.0019],
        [893.8, 4.6, 0.0008],
        [899.3, 2.4, 0.041],
        [909.0, 2.2, 0.0285],
        [915.7, 2.8, 0.0315],
        [928.7, 5.3, 0.0156],
        [934.9, 2.5, 0.455],
        [943.9, 1.9, 0.165],
        [948.9, 3.5, 0.161],
        [958.4, 5.1, 0.109],
        [977.0, 4.2, 0.0196],
        [993.0, 12.7, 0.0007],
        [1086.0, 7.1, 0.0025],
    ]
)
_OXYGEN_SATURATION, _WATER_SATURATION = 0.060, 0.267


def pressure(altitude: float) -> float:
    """Pressure [hPa] at an altitude [m] (U.S. Standard Atmosphere 1976, below 11 km)."""
    return SEA_LEVEL * (1.0 - 2.25577e-5 * altitude) ** 5.25588


def rayleigh_depth(wavelength: Float[AnyArray, " n"], pressure: Scalar = SEA_LEVEL) -> Float[Array, " n"]:
    """Optical depth of scattering by air at airmass 1, for wavelengths [nm] under a pressure [hPa].

    Bodhaine et al. 1999 (J. Atmos. Oceanic Technol. 16, 1854), equation 30: 360 ppm CO2, latitude 45 degrees.
    """
    scale, a, b, c, d, e = _RAYLEIGH
    square = jnp.square(jnp.asarray(nanometers(wavelength), float) / 1000.0)
    return scale * (a + b / square + c * square) / (1.0 + d / square + e * square) * (pressure / SEA_LEVEL)


def ozone_depth(wavelength: Float[AnyArray, " n"], ozone: Scalar = 300.0) -> Float[Array, " n"]:
    """Optical depth of ozone at airmass 1, for wavelengths [nm] from 300 on and a column [Dobson units].

    An approximation of ours: four Gaussians for the Chappuis bands (peaks at 575 and 603 nm, 5.1e-21 cm2 at the
    second) and exp of a quadratic for the Huggins bands, whose wiggles of 2 nm it passes through. 5 % between 460 and
    750 nm; 1 DU = 2.687e16 molecules cm-2.
    """
    wavelength = jnp.asarray(nanometers(wavelength), float)
    t = (wavelength - 330.0) / 10.0
    a, b, c = _HUGGINS
    return (_gaussians(wavelength, _CHAPPUIS) + jnp.exp(a + b * t + c * t * t)) * (ozone / 1000.0)


def aerosol_depth(wavelength: Float[AnyArray, " n"], aerosol: Scalar, angstrom: Scalar = 1.3) -> Float[Array, " n"]:
    """Optical depth of aerosol at airmass 1: aerosol (lambda / 1000 nm)^-angstrom (Angstrom 1929)."""
    wavelength = jnp.asarray(nanometers(wavelength), float)
    return jnp.asarray(aerosol, float) * jnp.exp(-angstrom * jnp.log(wavelength / 1000.0))


def _gaussians(wavelength: Array, table: AnyArray) -> Array:
    """Sum over rows of (center, width, height)."""
    # A dtype, or jax remembers the float64 constant of an earlier float64 scope and warns.
    center, width, height = jnp.asarray(table, float).T
    return jnp.sum(height * jnp.exp(-0.5 * jnp.square((wavelength[:, None] - center) / width)), axis=1)


def scalar(value: Any) -> Any:
    """A plain number as an array, so that gradients reach it; arrays and tracers as they are."""
    return np.asarray(value, float) if isinstance(value, int | float) else value


def _parameter(default: float) -> Any:
    return eqx.field(converter=scalar, default=default)


Bands: TypeAlias = Callable[[Array, Any, Any, Any, Any], Array]
"""(wavelength [nm] (n,), airmass, water [mm], pressure [hPa], oxygen) -> optical depth (n,)."""


class MolecularBands(eqx.Module):
    """Bands of O2 and H2O as Gaussians that saturate: an approximation for passbands wider than about 5 nm.

    oxygen and water are rows of center [nm], width [nm] and optical depth in the weak limit, of one airmass at sea
    level and of 1 mm of water. tau = x / sqrt(1 + x / s), x = optical depth in the weak limit, is the random-band
    model (Goody 1952, QJRMS 78, 165): proportional to the amount where weak, to its root where lines are black. The
    saturation s belongs to sea level and goes with the pressure, which widens lines.

    Rows are a least-squares fit to line-by-line absorption (HITRAN cross sections as in pwv_kpno 1.3, none of which is
    shipped), rounded; equivalent widths agree: O2 to 8 % for airmass 1..3 and altitude 0..4 km (4 % below 2 km and
    airmass 2), water within 590..1000 nm to 8 % for 0.5..40 mm. Not here: lines, O4 (1 % at 477, 577, 630 nm), NO2.
    """

    oxygen: Float[AnyArray, "n_oxygen 3"] = eqx.field(default_factory=_OXYGEN.copy)
    water: Float[AnyArray, "n_water 3"] = eqx.field(default_factory=_WATER.copy)
    oxygen_saturation: Scalar = _parameter(_OXYGEN_SATURATION)
    water_saturation: Scalar = _parameter(_WATER_SATURATION)

    def __call__(
        self, wavelength: Float[Array, " n"], airmass: Scalar, water: Scalar, pressure: Scalar, oxygen: Scalar = 1.0
    ) -> Float[Array, " n"]:
        """Optical depth (n,) at wavelengths [nm] for water [mm] in the zenith, pressure [hPa]; oxygen 1 or 0."""
        relative = pressure / SEA_LEVEL
        x_oxygen = _gaussians(wavelength, self.oxygen) * (airmass * relative * oxygen)
        x_water = _gaussians(wavelength, self.water) * (airmass * water)
        return x_oxygen / jnp.sqrt(1.0 + x_oxygen / (self.oxygen_saturation * relative)) + x_water / jnp.sqrt(
            1.0 + x_water / (self.water_saturation * relative)
        )


class TabulatedBands(eqx.Module):
    """Bands from a table: oxygen and water (n,) are optical depths at wavelengths (n,) [nm] of one airmass and 1 mm.

    They grow as airmass^oxygen_growth and (airmass water)^water_growth: 1 for weak bands, near 0.5 for black lines.
    The gradient with respect to water at exactly 0 mm is infinite for a growth below 1.
    """

    wavelength: Float[AnyArray, " n"] = eqx.field(converter=nanometers)
    oxygen: Float[AnyArray, " n"]
    water: Float[AnyArray, " n"]
    oxygen_growth: Scalar = _parameter(1.0)
    water_growth: Scalar = _parameter(1.0)

    def __call__(
        self, wavelength: Float[Array, " n"], airmass: Scalar, water: Scalar, pressure: Scalar, oxygen: Scalar = 1.0
    ) -> Float[Array, " n"]:
        """Optical depth (n,), as `MolecularBands`; the pressure is not used."""
        return (
            jnp.interp(wavelength, self.wavelength, self.oxygen, 0.0, 0.0) * airmass**self.oxygen_growth * oxygen
            + jnp.interp(wavelength, self.wavelength, self.water, 0.0, 0.0) * (airmass * water) ** self.water_growth
        )


class SiteCurve(eqx.Module):
    """A site's extinction (n,) [mag/airmass] at wavelengths (n,) [nm], and the conditions that it holds for.

    Linear between samples, constant beyond. ozone [DU], aerosol and angstrom: what the curve contains, where that is
    known; zero otherwise, and an atmosphere's ozone and aerosol are then on top of the curve. pressure [hPa].
    """

    wavelength: Float[AnyArray, " n"] = eqx.field(converter=nanometers)
    extinction: Float[AnyArray, " n"]
    pressure: Scalar = _parameter(SEA_LEVEL)
    ozone: Scalar = _parameter(0.0)
    aerosol: Scalar = _parameter(0.0)
    angstrom: Scalar = _parameter(1.3)


RANGES = {
    "airmass": (1.0, 40.0),
    "water": (0.0, 200.0),
    "ozone": (0.0, 1000.0),
    "aerosol": (0.0, 10.0),
    "angstrom": (-3.0, 6.0),
    "pressure": (1.0, 1200.0),
    "oxygen": (0.0, 10.0),
}
"""What the parameters of an atmosphere may be; of them are also its names."""


class Atmosphere(eqx.Module):
    """The air above a telescope; every field is a parameter that gradients reach.

    Parameters
    ----------
    airmass : float
        Airmass X, 1 to 40.
    water : float [mm]
        Precipitable water at the zenith.
    ozone : float [DU]
        Column of ozone.
    aerosol : float
        Optical depth of aerosol at 1000 nm and airmass 1.
    angstrom : float
        Exponent of aerosol: tau ~ lambda^-angstrom.
    pressure : float [hPa]
        Pressure at the telescope.
    oxygen : float
        1, or 0 to leave the O2 bands out.
    site : SiteCurve, optional
        A site's extinction curve in place of the formulas, to which they then only add differences.
    bands : callable, optional
        Molecular bands: `MolecularBands` by default, None for none at all, `TabulatedBands`, or a function of one's own
        (jax transformations of the whole atmosphere then need equinox.filter_jit and filter_grad).

    Raises
    ------
    XpjaxError
        If a value is out of range.

    Notes
    -----
    T = 10^(-0.4 X k(lambda)) exp(-tau_bands(lambda)) with k = 1.0857 (tau_Rayleigh + tau_ozone + tau_aerosol)
    [mag/airmass]: Bodhaine et al. 1999 (J. Atmos. Oceanic Technol. 16, 1854) for Rayleigh scattering, Angstrom 1929 for
    aerosol, Gaussians for ozone and the bands.

    Examples
    --------
    >>> air = xpjax.synthetic.Atmosphere(airmass=1.2, water=5.0, pressure=900.0)
    >>> air.transmission(np.array([400.0, 550.0, 800.0])).shape
    (3,)
    >>> bool(air.extinction(np.array([400.0]))[0] > air.extinction(np.array([800.0]))[0])
    True
    """

    airmass: Scalar = _parameter(1.0)
    water: Scalar = _parameter(0.0)
    ozone: Scalar = _parameter(300.0)
    aerosol: Scalar = _parameter(0.02)
    angstrom: Scalar = _parameter(1.3)
    pressure: Scalar = _parameter(SEA_LEVEL)
    oxygen: Scalar = _parameter(1.0)
    site: SiteCurve | None = None
    bands: Bands | None = eqx.field(default_factory=MolecularBands)

    def __check_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, jax.core.Tracer):
                continue
            if np.shape(value) != () or not low <= float(value) <= high:
                raise XpjaxError(f"{name} = {value}: expected one number from {low:g} to {high:g}")

    @classmethod
    def at_site(cls, site: SiteCurve, **parameters: Scalar) -> Atmosphere:
        """The atmosphere of a site's curve: its own conditions but for the parameters given."""
        own = {name: getattr(site, name) for name in ("ozone", "aerosol", "angstrom", "pressure")}
        return cls(**{**own, **parameters}, site=site)

    def extinction(self, wavelength: Float[AnyArray, " n"]) -> Float[Array, " n"]:
        """Smooth extinction k (n,) [mag/airmass] at wavelengths [nm], without molecular bands."""
        wavelength = jnp.asarray(nanometers(wavelength), float)
        ozone, pressure = self.ozone, self.pressure
        curve: Array | float = 0.0
        site = self.site
        if site is not None:
            ozone, pressure = ozone - site.ozone, pressure - site.pressure
            curve = jnp.interp(wavelength, jnp.asarray(site.wavelength, float), jnp.asarray(site.extinction, float))
            curve = curve - POGSON * aerosol_depth(wavelength, site.aerosol, site.angstrom)
        depth = (
            rayleigh_depth(wavelength, pressure)
            + ozone_depth(wavelength, ozone)
            + aerosol_depth(wavelength, self.aerosol, self.angstrom)
        )
        return curve + POGSON * depth

    def transmission(self, wavelength: Float[AnyArray, " n"]) -> Float[Array, " n"]:
        """Transmission (n,) at wavelengths [nm]."""
        wavelength = jnp.asarray(nanometers(wavelength), float)
        depth = self.airmass * self.extinction(wavelength) / POGSON
        if self.bands is not None:
            depth = depth + self.bands(wavelength, self.airmass, self.water, self.pressure, self.oxygen)
        return jnp.exp(-depth)
