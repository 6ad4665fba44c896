"""Numbers with a unit, as astropy has them, where plain ones are used: converted or refused, never stripped of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError

FLUX = "W m-2 nm-1"
"""Unit of absolute spectra."""
_EXPECTED = {
    "nm": "wavelengths, such as nm or Angstrom",
    "deg": "angles, such as deg or rad",
    "": "numbers without one",
}


def nanometers(values: Any, what: str = "wavelength") -> Any:
    """Wavelengths in nm: an astropy Quantity or column is converted, numbers without unit are in nm already.

    Masked values become NaN. what: their name, for the message. Raises XpjaxError for a unit that is no length.
    """
    return in_unit(values, "nm", what)


def degrees(values: Any, what: str = "angle") -> Any:
    """Angles in degrees, as `nanometers` has wavelengths. Raises XpjaxError for a unit that is no angle."""
    return in_unit(values, "deg", what)


def in_unit(values: Any, unit: str, what: str) -> Any:
    """Numbers in a unit: those that have one converted, others as they are. Raises XpjaxError where that cannot be."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        own = getattr(values, "unit", None)
        values = np.ma.filled(values.astype(float), np.nan)
        return values if own is None else in_unit(_quantity(values, own), unit, what)
    several = isinstance(values, list | tuple) and any(_has_unit(value) for value in values)
    if not (several or _has_unit(values)):
        return values
    from astropy.units import UnitsError

    try:
        return _quantity(values).to_value(unit)
    except (UnitsError, TypeError) as error:
        found = sorted({str(getattr(value, "unit", "no unit")) for value in values}) if several else values.unit
        expected = _EXPECTED.get(unit, f"values in {unit}")
        raise XpjaxError(f"{what} has the unit {found}; expected {expected}: convert it first") from error


def _has_unit(values: Any) -> bool:
    return getattr(values, "unit", None) is not None and hasattr(values, "to")


def _quantity(values: Any, unit: Any = None) -> Any:
    from astropy.units import Quantity

    return Quantity(values, unit)
