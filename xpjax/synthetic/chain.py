"""Transmission chains: T = T_atmosphere T_optics T_filter T_detector (Xiao et al. 2025), differentiable in every part.

Every continuous parameter has a name (`TransmissionChain.parameters`) that `transmission` takes as a keyword.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from xpjax.core.engine import check_values, precision
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import local_cubic
from xpjax.core.records import AnyArray
from xpjax.core.units import in_unit, nanometers
from xpjax.synthetic.atmosphere import RANGES, Atmosphere, Scalar, scalar
from xpjax.synthetic.passband import DETECTORS, MAGNITUDES, Passband, PassbandSet

PIVOT = 600.0
"""Wavelength [nm] at which the detector's slope changes nothing."""

KINDS = ("measured", "fitted", "recovered", "computed", "stand-in")
"""Where curves come from, best first; a chain is of the worst kind of its parts."""

MEANINGS = {
    "airmass": ("", "airmass"),
    "water": ("mm", "precipitable water at the zenith"),
    "ozone": ("DU", "column of ozone"),
    "aerosol": ("", "optical depth of aerosol at 1000 nm and airmass 1"),
    "angstrom": ("", "exponent of aerosol, tau ~ lambda^-angstrom"),
    "pressure": ("hPa", "pressure at the telescope"),
    "oxygen": ("", "bands of O2: 1 with, 0 without"),
    "filter_shift": ("nm", "shift of each filter to the red"),
    "filter_scale": ("", "factor on each filter's width about its mean wavelength"),
    "detector": ("", "factor on the efficiency of the detector"),
    "detector_slope": ("(100 nm)-1", "relative change of the efficiency about 600 nm"),
}
"""Unit and meaning of the parameters; others are parts of the optics."""


def parameter_meaning(name: str) -> tuple[str, str]:
    """The unit and the meaning of a parameter of a chain."""
    return MEANINGS.get(name, ("", "factor on the transmission of this part"))


_FILTER, _DETECTOR = ("filter_shift", "filter_scale"), ("detector", "detector_slope")


def _grid(wavelength: Any) -> tuple[float, ...]:
    """Wavelengths [nm] as numbers that JAX takes as they are: integrals over a grid are prepared on the host."""
    return tuple(np.asarray(nanometers(wavelength), float).tolist())


class Curve(eqx.Module):
    """The transmission of one part of a chain.

    Parameters
    ----------
    wavelength : (n,) array [nm]
        Ascending wavelengths; a Quantity is converted.
    transmission : (n,) array
        Transmission. A filter's is smooth between samples and zero beyond, others are linear and constant beyond.
    kind : {"measured", "fitted", "recovered", "computed", "stand-in"}
        Where the curve comes from.

    Examples
    --------
    >>> mirror = xpjax.synthetic.Curve(np.array([300.0, 700.0, 1100.0]), np.array([0.85, 0.9, 0.88]))
    >>> round(float(mirror.center))
    703
    """

    wavelength: Float[AnyArray, " n"] = eqx.field(converter=nanometers)
    transmission: Float[AnyArray, " n"]
    kind: str = eqx.field(static=True, default="measured")

    def __check_init__(self) -> None:
        if self.kind not in KINDS:
            raise XpjaxError(f"kind {self.kind!r} of a curve is not one of {KINDS}")

    @property
    def center(self) -> Float[Array, ""]:
        """Mean wavelength [nm], weighted by the transmission."""
        x, t = jnp.asarray(self.wavelength, float), jnp.asarray(self.transmission, float)
        middle = x[x.size // 2]  # subtracted for float32's sake
        return middle + jnp.trapezoid(t * (x - middle), x) / jnp.trapezoid(t, x)

    def constant_beyond(self, wavelength: Float[Array, " n"]) -> Float[Array, " n"]:
        """The curve at wavelengths [nm]; its end values outside."""
        return jnp.interp(wavelength, jnp.asarray(self.wavelength, float), jnp.asarray(self.transmission, float))

    def zero_beyond(self, wavelength: Float[Array, " n"], shift: Scalar, scale: Scalar) -> Float[Array, " n"]:
        """The curve moved by shift [nm] and made wider by scale about its center; zero outside.

        Samples are joined by `linalg.local_cubic`, as those of passbands are: derivatives are continuous.
        """
        own = self.center + (wavelength - shift - self.center) / scale
        return local_cubic(own, jnp.asarray(self.wavelength, float), jnp.asarray(self.transmission, float))


class Element(eqx.Module):
    """A part of the optics, or the detector: value times curve, count times over (two mirrors alike)."""

    name: str = eqx.field(static=True)
    curve: Curve | None = None
    value: Scalar = eqx.field(converter=scalar, default=1.0)
    count: int = eqx.field(static=True, default=1)

    def transmission(self, wavelength: Float[Array, " n"]) -> Float[Array, " n"]:
        """Transmission (n,) at wavelengths [nm]."""
        single = jnp.ones_like(wavelength) if self.curve is None else self.curve.constant_beyond(wavelength)
        return (jnp.asarray(self.value, float) * single) ** self.count

    @property
    def kind(self) -> str:
        """Where its curve comes from; a plain number counts as a stand-in unless it is 1."""
        if self.curve is not None:
            return self.curve.kind
        return "computed" if float(self.value) == 1.0 else "stand-in"


class TransmissionChain(eqx.Module):
    """A telescope in some bands: atmosphere, optics, detector and one filter for each band.

    Parameters
    ----------
    name : str
        Name of the telescope: the label of its passbands.
    bands : (n_band,) tuple of str
        Names of the bands.
    filters : (n_band,) tuple of Curve
        The filter of each band.
    wavelength : (n,) tuple of float [nm]
        Grid that passbands are given on; an array or a Quantity is converted. It is no leaf of the pytree.
    atmosphere : Atmosphere, optional
        The air above; None in space.
    optics : tuple of Element
        Mirrors, lenses and windows.
    detector : Element
        The detector's efficiency.
    filter_shift : (n_band,) array or float [nm]
        Shift of each filter to the red.
    filter_scale : (n_band,) array or float
        Factor on each filter's width, about its mean wavelength.
    detector_slope : float
        Relative change per 100 nm: exp(slope (lambda - 600 nm) / 100 nm).
    magnitude : {"AB", "ST", "Vega"}
        Magnitude system.
    detector_type : {"photon", "energy"}
        What the detector counts.
    meta : tuple of (str, str)
        What the description says besides: source, reference, license.

    Raises
    ------
    XpjaxError
        If names repeat, the filters are not as many as the bands, or a parameter is out of range.

    Notes
    -----
    T = T_atmosphere T_optics T_filter T_detector (Xiao et al. 2025). `print(chain)` lists the parameters;
    `read_chain` reads a chain from TOML.

    Examples
    --------
    >>> chain = xpjax.synthetic.read_chain("minisitian")
    >>> chain.transmission(np.array([450.0, 480.0]), "g", airmass=2.0).shape
    (2,)
    >>> chain.with_parameters(airmass=2.0).passbands()
    PassbandSet('MiniSiTian', g, r, i)
    """

    name: str = eqx.field(static=True)
    bands: tuple[str, ...] = eqx.field(static=True)
    filters: tuple[Curve, ...]
    wavelength: tuple[float, ...] | np.ndarray = eqx.field(static=True, converter=_grid)
    atmosphere: Atmosphere | None = None
    optics: tuple[Element, ...] = ()
    detector: Element = eqx.field(default_factory=lambda: Element("detector"))
    filter_shift: Float[AnyArray, " n_band"] | float = 0.0
    filter_scale: Float[AnyArray, " n_band"] | float = 1.0
    detector_slope: Scalar = eqx.field(converter=scalar, default=0.0)
    magnitude: str = eqx.field(static=True, default="AB")
    detector_type: str = eqx.field(static=True, default="photon")
    meta: tuple[tuple[str, str], ...] = eqx.field(static=True, default=())

    def __post_init__(self) -> None:
        self.bands, self.filters, self.optics = tuple(self.bands), tuple(self.filters), tuple(self.optics)
        for name in _FILTER:
            value = getattr(self, name)
            if np.ndim(value) == 0:
                library: Any = jnp if isinstance(value, jax.core.Tracer) else np
                setattr(self, name, library.broadcast_to(library.asarray(value, float), (len(self.bands),)))

    def __check_init__(self) -> None:
        where = f"chain {self.name}"
        if not self.bands or len(self.filters) != len(self.bands):
            raise XpjaxError(f"{where}: {len(self.bands)} bands and {len(self.filters)} filters; give one for each")
        for names, what in ((self.bands, "bands"), ([e.name for e in self.optics], "optics")):
            twice = sorted({n for n in names if list(names).count(n) > 1})
            if twice:
                raise XpjaxError(f"{where}: {what} of the same name {twice}; rename one")
        taken = [e.name for e in self.optics if e.name in (*RANGES, *_FILTER, *_DETECTOR)]
        if taken:
            raise XpjaxError(f"{where}: optics may not be called {taken}: those are names of other parameters")
        if self.magnitude not in MAGNITUDES or self.detector_type not in DETECTORS:
            raise XpjaxError(
                f"{where}: magnitude {self.magnitude!r} and detector_type {self.detector_type!r}; expected one of "
                f"{MAGNITUDES} and one of {DETECTORS}"
            )
        for name in _FILTER:
            value = getattr(self, name)
            if np.shape(value) != (len(self.bands),):
                raise XpjaxError(f"{where}: {name} has shape {np.shape(value)}; give a number, or one for each band")
        if not isinstance(self.filter_scale, jax.core.Tracer) and not np.all(np.asarray(self.filter_scale) > 0):
            raise XpjaxError(f"{where}: filter_scale {self.filter_scale} must be positive; 1 leaves widths as they are")

    def __repr__(self) -> str:
        span = f"{np.min(self.wavelength):g}..{np.max(self.wavelength):g} nm"
        return f"TransmissionChain({self.name!r}, bands {', '.join(self.bands)}, {span})"

    def __str__(self) -> str:
        lines = [repr(self)]
        for name, value in self.parameters.items():
            unit, meaning = parameter_meaning(name)
            values = " ".join(f"{number:g}" for number in np.ravel(np.asarray(value)))
            lines.append(f"  {name:<16} {values} {unit}".rstrip() + f": {meaning}")
        return "\n".join(lines)

    @property
    def parameters(self) -> dict[str, AnyArray | float]:
        """Every continuous parameter by its name; `print(chain)` says what they mean.

        Those of the atmosphere, a factor for each part of the optics, filter_shift [nm] and filter_scale (n_band,),
        detector and detector_slope. Curves are apart, and are leaves of the chain as well.
        """
        air = {} if self.atmosphere is None else {name: getattr(self.atmosphere, name) for name in RANGES}
        return {
            **air,
            **{element.name: element.value for element in self.optics},
            **{name: getattr(self, name) for name in _FILTER},
            "detector": self.detector.value,
            "detector_slope": self.detector_slope,
        }

    def with_parameters(self, **changes: ArrayLike) -> TransmissionChain:
        """The chain with other values of some parameters, numbers in their units or Quantities.

        A number for filter_shift or filter_scale holds for all bands. Raises ValueError for a name that is none, and
        for values out of range.
        """
        if not changes:
            return self
        units = {name: unit for name in changes if (unit := parameter_meaning(name)[0]) in ("nm", "mm", "hPa")}
        given: dict[str, Any] = changes | {name: in_unit(changes[name], unit, name) for name, unit in units.items()}
        known = self.parameters
        for name in given:
            if name not in known:
                raise XpjaxError(f"chain {self.name} has no parameter {name!r}{near(name, known)}")
        own: dict[str, Any] = {name: given[name] for name in (*_FILTER, "detector_slope") if name in given}
        air: dict[str, Any] = {name: given[name] for name in RANGES if name in given}
        if air and self.atmosphere is not None:
            own["atmosphere"] = dataclasses.replace(self.atmosphere, **air)
        if "detector" in given:
            own["detector"] = dataclasses.replace(self.detector, value=given["detector"])
        own["optics"] = tuple(
            dataclasses.replace(e, value=given[e.name]) if e.name in given else e for e in self.optics
        )
        return dataclasses.replace(self, **own)

    def transmission(
        self, wavelength: Float[AnyArray, " n"] | None, band: str, **changes: ArrayLike
    ) -> Float[Array, " n"]:
        """Transmission (n,) of a band at wavelengths [nm] (None: the chain's own), with some parameters changed.

        Zero where the filter's table ends; the other parts keep their end values. Raises ValueError for an unknown
        band or parameter.
        """
        if band not in self.bands:
            raise XpjaxError(f"chain {self.name} has no band {band!r}{near(band, self.bands)}")
        x = jnp.asarray(nanometers(self.wavelength if wavelength is None else wavelength), float)
        return _product(self.with_parameters(**changes), x, (self.bands.index(band),))[0]

    def curves(self, wavelength: Float[AnyArray, " n"] | None = None, **changes: ArrayLike) -> Float[Array, "n_band n"]:
        """Transmission (n_band, n) of all bands, as `transmission`."""
        x = jnp.asarray(nanometers(self.wavelength if wavelength is None else wavelength), float)
        return _product(self.with_parameters(**changes), x, tuple(range(len(self.bands))))

    @property
    def kind(self) -> str:
        """The worst kind among the parts: measured, fitted, recovered, computed or stand-in."""
        kinds = [c.kind for c in self.filters] + [e.kind for e in (*self.optics, self.detector)]
        return max(kinds + ["computed"] * (self.atmosphere is not None), key=KINDS.index)

    def passbands(self) -> PassbandSet:
        """The bands as passbands on the chain's own grid, computed in float64, to be projected or written."""
        check_values(self, "xpjax.magnitudes(coefficients, chain) or xpjax.fluxes")
        with precision(float64=True):
            # A smooth curve may overshoot its samples by a rounding's worth.
            curves = np.clip(np.asarray(self.curves()), 0.0, 1.0)
        meta = {**dict(self.meta), "kind": self.kind}
        made = [
            Passband(band, np.asarray(self.wavelength, float), t, self.detector_type, self.magnitude, None, meta)
            for band, t in zip(self.bands, curves)
        ]
        return PassbandSet(self.name, tuple(made), meta)


@eqx.filter_jit
def _product(chain: TransmissionChain, x: Float[Array, " n"], bands: tuple[int, ...]) -> Float[Array, "n_band n"]:
    """Transmission (n_band, n) of some bands at wavelengths x (n,) [nm]."""
    total = chain.detector.transmission(x) * jnp.exp(jnp.asarray(chain.detector_slope, float) * (x - PIVOT) / 100.0)
    for element in chain.optics:
        total = total * element.transmission(x)
    if chain.atmosphere is not None:
        total = total * chain.atmosphere.transmission(x)
    shift, scale = jnp.asarray(chain.filter_shift, float), jnp.asarray(chain.filter_scale, float)
    return jnp.stack([total * chain.filters[i].zero_beyond(x, shift[i], scale[i]) for i in bands])


def near(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """What was probably meant, and what there is."""
    close = difflib.get_close_matches(name, known, 1)
    return (f"; did you mean {close[0]!r}?" if close else ";") + f" there are {sorted(known)}"
