"""Transmission curves, alone and in sets, checked when they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, overload

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.units import in_unit

MAGNITUDES = ("AB", "ST", "Vega")
"""Magnitude systems; AB has fluxes per hertz, the others per nanometre."""


DETECTORS = ("photon", "energy")
"""What a detector counts: photons (CCD, CMOS) or energy (bolometers, and curves with 1/lambda folded in)."""


@dataclasses.dataclass(frozen=True)
class Passband:
    """A transmission curve: wavelength (n,) ascending [nm], transmission (n,) in 0..1, and how magnitudes are counted.

    detector "photon" or "energy"; magnitude "AB", "ST" or "Vega"; zero_point [mag] replaces that of the magnitude
    system (for mean fluxes in W m-2 Hz-1 with AB, W m-2 nm-1 otherwise); meta holds kind (measured, recovered,
    computed, stand-in), source, reference and licence. wavelength and transmission may be astropy Quantities or columns
    with units of length and of fractions, such as percent; descending curves are turned round. Raises XpjaxError for
    curves that cannot be integrated and for masked samples, saying which sample and what to do.
    """

    name: str
    wavelength: np.ndarray
    transmission: np.ndarray
    detector: str = "photon"
    magnitude: str = "AB"
    zero_point: float | None = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

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
    """Passbands side by side under one label: columns of results are called {label}_mag_{name}.

    `passbands["g"]` is one of them, `passbands[["g", "r"]]` a set of some; iterable. Raises ValueError for repeated
    names or none.
    """

    label: str
    passbands: tuple[Passband, ...]
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

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
