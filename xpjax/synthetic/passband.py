"""Transmission curves, alone and in sets: checked when they are made, integrated, and seen by sampled spectra.

A passband sees the mean flux

    AB        int f T l^p dl / (c int T l^(p-2) dl)   [W m-2 Hz-1],  zero point -56.10
    ST, Vega  int f T l^p dl / int T l^p dl           [W m-2 nm-1],  zero point -26.10, or of alpha Lyr

with l the wavelength and p = 1 for detectors that count photons, 0 for those that count energy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core.constants import AB_ZERO_POINT, SPEED_OF_LIGHT, ST_ZERO_POINT, VEGA_FLUX, XP_RANGE
from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import interpolation
from xpjax.core.quadrature import STEP, between, quadrature
from xpjax.core.units import FLUX, in_unit, nanometers

MAGNITUDES = ("AB", "ST", "Vega")
"""Magnitude systems; AB has fluxes per hertz, the others per nanometer."""
DETECTORS = ("photon", "energy")
"""What a detector counts: photons (CCD, CMOS) or energy (bolometers, and curves with 1/lambda folded in)."""
BLUE_RANGE = (322.0, 336.0)
"""Where, on request, a straight line stands in for the spectrum [nm]."""
EXTRAPOLATE = ("none", "linear")


def check_extrapolate(extrapolate: str | None) -> str:
    """The name of a way to extrapolate; None is "none". Raises XpjaxError for another."""
    name = extrapolate or "none"
    if name not in EXTRAPOLATE:
        raise XpjaxError(f"extrapolate {extrapolate!r} is not one of {EXTRAPOLATE}")
    return name


@dataclasses.dataclass(frozen=True)
class Passband:
    """A transmission curve, and how magnitudes through it are counted.

    Parameters
    ----------
    name : str
        Name of the band.
    wavelength : (n,) array [nm]
        Wavelengths, ascending or descending; an astropy Quantity or column may have another unit of length.
    transmission : (n,) array
        Fraction of the light that is counted, from 0 to 1; a Quantity or column may be in percent.
    detector : {"photon", "energy"}
        What the detector counts.
    magnitude : {"AB", "ST", "Vega"}
        Magnitude system.
    zero_point : float, optional [mag]
        Zero point that replaces the one of the magnitude system, for mean fluxes in `flux_unit`.
    meta : mapping
        What a file says besides: kind (measured, recovered, computed, stand-in), source, reference and license.

    Raises
    ------
    XpjaxError
        If the curve cannot be integrated or has masked samples; the message names the sample and the remedy.

    Notes
    -----
    The mean flux through the band is int f T l^p dl / (c int T l^(p-2) dl) [W m-2 Hz-1] for AB magnitudes and
    int f T l^p dl / int T l^p dl [W m-2 nm-1] for others, with p = 1 for photon counting and 0 for energy.

    Examples
    --------
    >>> band = xpjax.Passband("v", [490, 500, 600, 610], [0, 0.8, 0.8, 0])
    >>> band
    Passband('v', 490..610 nm in 4 samples, photon, AB)
    >>> round(band.mean_wavelength, 1), round(band.pivot_wavelength, 1), band.flux_unit
    (550.0, 549.1, 'W m-2 Hz-1')
    """

    name: str
    wavelength: np.ndarray
    transmission: np.ndarray
    detector: str = "photon"
    magnitude: str = "AB"
    zero_point: float | None = None
    meta: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or any(c.isspace() or c in "/\\,:" for c in self.name):
            raise XpjaxError(f"passband name {self.name!r}: give a name without spaces, commas, colons and slashes")
        for value, known, what in ((self.detector, DETECTORS, "detector"), (self.magnitude, MAGNITUDES, "magnitude")):
            if value not in known:
                raise XpjaxError(f"passband {self.name}: {what} {value!r} is not one of {known}")
        if self.zero_point is not None and not np.isfinite(self.zero_point):
            raise XpjaxError(f"passband {self.name}: zero point {self.zero_point} is not finite")
        wavelength = _samples(self.wavelength, "nm", f"passband {self.name}: wavelength")
        transmission = _samples(self.transmission, "", f"passband {self.name}: transmission")
        if len(wavelength) > 1 and wavelength[0] > wavelength[-1]:
            wavelength, transmission = wavelength[::-1].copy(), transmission[::-1].copy()
        _check_curve(self.name, wavelength, transmission)
        for array in (wavelength, transmission):
            array.flags.writeable = False
        object.__setattr__(self, "wavelength", wavelength)
        object.__setattr__(self, "transmission", transmission)

    def __repr__(self) -> str:
        span = f"{self.wavelength[0]:g}..{self.wavelength[-1]:g} nm in {len(self.wavelength)} samples"
        own = "" if self.zero_point is None else f", zero point {self.zero_point:g}"
        return f"Passband({self.name!r}, {span}, {self.detector}, {self.magnitude}{own})"

    @property
    def flux_unit(self) -> str:
        """Unit of mean fluxes through the passband."""
        return "W m-2 Hz-1" if self.magnitude == "AB" else "W m-2 nm-1"

    @property
    def flux_zero_point(self) -> float:
        """Zero point [mag] of mean fluxes in `flux_unit`. Raises XpjaxError for a Vega passband without one."""
        if self.zero_point is not None:
            return self.zero_point
        if self.magnitude == "Vega":
            raise XpjaxError(
                f"passband {self.name} has Vega magnitudes but no zero point: give `zero_point` in its header, derive "
                "one with Passband.vega_zero_point from a spectrum of alpha Lyr, or use AB magnitudes "
                "(glossary: magnitude system)"
            )
        return AB_ZERO_POINT if self.magnitude == "AB" else ST_ZERO_POINT

    @property
    def mean_wavelength(self) -> float:
        """Mean wavelength int T l dl / int T dl [nm] of the curve alone, whatever the detector."""
        first, zeroth = self._moments(1, 0)
        return first / zeroth

    @property
    def pivot_wavelength(self) -> float:
        """Pivot wavelength sqrt(int T l^p dl / int T l^(p-2) dl) [nm]: f_nu = f_lambda l_pivot^2 / c."""
        p = power_of(self.detector)
        upper, lower = self._moments(p, p - 2.0)
        return float(np.sqrt(upper / lower))

    @property
    def fwhm(self) -> float:
        """Full width [nm] between the outermost wavelengths where the curve crosses half its maximum."""
        low, high = self.wavelength[[0, -1]]
        grid = np.linspace(low, high, int(np.ceil((high - low) / STEP)) + 1)
        curve = interpolation(self.wavelength, grid) @ self.transmission
        half = 0.5 * curve.max()
        above = np.flatnonzero(curve >= half)
        first, last = int(above[0]), int(above[-1])
        low = grid[0] if first == 0 else np.interp(half, curve[first - 1 : first + 1], grid[first - 1 : first + 1])
        high = grid[-1]
        if last < len(grid) - 1:
            high = np.interp(half, curve[last : last + 2][::-1], grid[last : last + 2][::-1])
        return float(high - low)

    @property
    def cut_off(self) -> float:
        """Share (0..1) of a published band that its recovered curve, within 330..1050 nm, lacks; 0 of other curves.

        The zero point makes up for it: magnitudes are as published, and fluxes are means over the part within.
        """
        inside = self.meta.get("inside") if self.meta.get("kind") == "recovered" else None
        return max(1 - inside, 0.0) if isinstance(inside, float) else 0.0

    def share_outside(self, extrapolate: str | None = None, limits: tuple[float, float] = XP_RANGE) -> float:
        """Return the share (0..1) of int T l dl that lies outside 330..1050 nm (`limits`), where XP does not see.

        With extrapolate="linear" the share outside 322..1050 nm.
        """
        low = BLUE_RANGE[0] if check_extrapolate(extrapolate) == "linear" else limits[0]
        x, weights, samples = quadrature(self.wavelength, (low, limits[1]))
        light = (samples @ self.transmission) * x * weights
        return float(np.clip(1 - light[between(x, low, limits[1])].sum() / light.sum(), 0.0, 1.0))

    def mean_flux(self, wavelength: ArrayLike, flux: ArrayLike) -> np.ndarray:
        """Return mean fluxes (...,) [flux_unit] of sampled spectra (..., n) [W m-2 nm-1] at wavelengths (n,) [nm].

        Spectra are linear between samples. Raises XpjaxError where they do not cover the curve's non-zero part.
        """
        wavelength = np.asarray(nanometers(wavelength), float)
        flux = np.asarray(in_unit(flux, FLUX, "flux"), float)
        positive = np.flatnonzero(self.transmission)
        low = self.wavelength[max(positive[0] - 1, 0)]
        high = self.wavelength[min(positive[-1] + 1, len(self.wavelength) - 1)]
        if wavelength.ndim != 1 or flux.shape[-1:] != wavelength.shape or np.any(np.diff(wavelength) <= 0):
            raise XpjaxError(
                f"spectrum: wavelengths must ascend, one for each flux; found {wavelength.shape}, {flux.shape}"
            )
        if wavelength[0] > low or wavelength[-1] < high:
            raise XpjaxError(
                f"the spectrum covers {wavelength[0]:g}..{wavelength[-1]:g} nm, "
                f"passband {self.name} needs {low:g}..{high:g}"
            )
        x, weight = band_weights(self, wavelength)
        within = weight != 0
        k = np.clip(np.searchsorted(wavelength, x[within], side="right") - 1, 0, len(wavelength) - 2)
        t = (x[within] - wavelength[k]) / (wavelength[k + 1] - wavelength[k])
        return (flux[..., k] * (1 - t) + flux[..., k + 1] * t) @ weight[within]

    def vega_zero_point(
        self, wavelength: ArrayLike, flux: ArrayLike, magnitude: float = 0.0, flux_550: float | None = VEGA_FLUX
    ) -> float:
        """Return the zero point [mag] in which alpha Lyr has a magnitude: magnitude + 2.5 log10(mean flux).

        wavelength (n,) [nm], flux (n,): a spectrum of alpha Lyr, of the Kurucz type for Gaia's zero points, scaled to
        flux_550 [W m-2 nm-1] at 550.0 nm (Riello et al. 2021), or as it is, in W m-2 nm-1, where that is None.
        """
        wavelength = np.asarray(nanometers(wavelength), float)
        flux = np.asarray(in_unit(flux, FLUX, "flux"), float)
        scale = 1.0 if flux_550 is None else flux_550 / np.interp(550.0, wavelength, flux)
        return float(magnitude + 2.5 * np.log10(self.mean_flux(wavelength, flux * scale)))

    def _moments(self, *powers: float) -> tuple[float, ...]:
        """int T l^power dl over the whole curve, for each power."""
        x, weights, samples = quadrature(self.wavelength)
        curve = (samples @ self.transmission) * weights
        return tuple(float(curve @ x**power) for power in powers)


def power_of(detector: str) -> int:
    """The power of the wavelength that light is weighted with: 1 where photons are counted, 0 where energy is."""
    return 1 if detector == "photon" else 0


def band_weights(band: Passband, breaks: Sequence[float] | np.ndarray = ()) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (m,) [nm] and weights (m,): mean flux [band.flux_unit] = weights @ f(nodes), f in W m-2 nm-1.

    breaks as in `quadrature`; the norm is that of the whole curve.
    """
    x, weights, samples = quadrature(band.wavelength, breaks)
    weight = (samples @ band.transmission) * x ** power_of(band.detector) * weights
    norm = np.sum(weight * x**-2.0) * 1e9 * SPEED_OF_LIGHT if band.magnitude == "AB" else np.sum(weight)
    return x, weight / norm


def _samples(values: Any, unit: str, what: str) -> np.ndarray:
    """A new array of floats in a unit. Raises XpjaxError for masked samples, and for units of another kind."""
    mask = getattr(values, "mask", False)  # which is a method of pandas
    if isinstance(mask, np.ndarray | np.bool_) and np.any(mask):
        raise XpjaxError(f"{what} of sample {np.flatnonzero(mask)[0] + 1} is masked; drop the sample or fill it")
    try:
        return np.array(in_unit(values, unit, what), float)
    except (TypeError, ValueError) as exc:
        if isinstance(exc, XpjaxError):
            raise
        raise XpjaxError(f"{what} is no list of numbers ({exc}); convert it first") from exc


def _check_curve(name: str, wavelength: np.ndarray, transmission: np.ndarray) -> None:
    """ValueError, with the remedy, for a transmission curve that is no curve."""
    where = f"passband {name}"
    if wavelength.ndim != 1 or wavelength.shape != transmission.shape or len(wavelength) < 2:
        raise XpjaxError(
            f"{where}: wavelength and transmission must be two lists of equal length, found shapes "
            f"{wavelength.shape} and {transmission.shape}"
        )
    for what, array in (("wavelength", wavelength), ("transmission", transmission)):
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            raise XpjaxError(f"{where}: {what} of sample {bad[0] + 1} is {array[bad[0]]}; drop the row or mend it")
    bad = np.flatnonzero(np.diff(wavelength) <= 0)
    if len(bad):
        k = bad[0]
        raise XpjaxError(
            f"{where}: the wavelengths are not monotonic: sample {k + 1} is {wavelength[k]:g} nm, sample {k + 2} "
            f"{wavelength[k + 1]:g} nm; sort the rows and drop repeated ones"
        )
    if wavelength[0] <= 0:
        raise XpjaxError(f"{where}: wavelength {wavelength[0]:g} nm is not positive")
    if transmission.min() < 0:
        k = int(transmission.argmin())
        raise XpjaxError(
            f"{where}: transmission {transmission[k]:g} at {wavelength[k]:g} nm is negative; read it with "
            f"{say('clip=True', '--clip')} to set negative samples to zero"
        )
    if transmission.max() > 1:
        k = int(transmission.argmax())
        raise XpjaxError(
            f"{where}: transmission {transmission[k]:g} at {wavelength[k]:g} nm is above one; divide percent by 100, "
            f"or read it with {say('normalize=True', '--normalize')} to divide by the peak"
        )
    if transmission.max() == 0:
        raise XpjaxError(f"{where}: the transmission is zero everywhere")


@dataclasses.dataclass(frozen=True)
class PassbandSet:
    """Passbands side by side under one label.

    Parameters
    ----------
    label : str
        Name of the system: columns of results are called `{label}_mag_{name}`.
    passbands : sequence of Passband
        The bands, in order; names must differ.
    meta : mapping
        What the files of the set say of it.

    Raises
    ------
    XpjaxError
        If there are no passbands, or two of the same name.

    Examples
    --------
    >>> sdss = xpjax.load_passbands("sdss2010")
    >>> sdss[["g", "r"]], len(sdss)
    (PassbandSet('sdss2010', g, r), 5)
    >>> [band.name for band in sdss if band.mean_wavelength > 700]
    ['i', 'z']
    """

    label: str
    passbands: tuple[Passband, ...]
    meta: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "passbands", tuple(self.passbands))
        if not self.label or any(c.isspace() or c in "/\\,:" for c in self.label):
            raise XpjaxError(f"label {self.label!r}: give one without spaces, commas, colons and slashes")
        if not self.passbands:
            raise XpjaxError(f"{self.label} has no passbands")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise XpjaxError(f"{self.label} has passbands of the same name: {twice}; rename or drop one")

    def __repr__(self) -> str:
        return f"PassbandSet({self.label!r}, {', '.join(self.names)})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the passbands."""
        return tuple(p.name for p in self.passbands)

    def __len__(self) -> int:
        return len(self.passbands)

    def __iter__(self) -> Iterator[Passband]:
        return iter(self.passbands)

    @overload
    def __getitem__(self, name: str) -> Passband: ...

    @overload
    def __getitem__(self, name: list[str] | tuple[str, ...]) -> PassbandSet: ...

    def __getitem__(self, name: str | list[str] | tuple[str, ...]) -> Passband | PassbandSet:
        if not isinstance(name, str):
            return dataclasses.replace(self, passbands=tuple(self[n] for n in name))
        if name not in self.names:
            raise KeyError(f"{self.label} has no passband {name!r}; it has {list(self.names)}")
        return self.passbands[self.names.index(name)]

    def with_zero_points(self, zero_points: Sequence[float]) -> PassbandSet:
        """Return the set with these zero points (n_band,) [mag], in order."""
        bands = [dataclasses.replace(b, zero_point=float(z)) for b, z in zip(self, zero_points, strict=True)]
        return dataclasses.replace(self, passbands=tuple(bands))
