"""What a unit means, whoever states it: a word in a file, or an astropy quantity where plain numbers are used.

Numbers in another unit are converted or refused, and never stripped of it. Words are those of astropy and of `_WORDS`,
the spellings that survey catalogues and files of transmission curves have.
"""

from __future__ import annotations

import functools
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say

FLUX = "W m-2 nm-1"
"""Unit of absolute spectra."""
KINDS = {
    "magnitude": "mag",
    "angle": "deg",
    "proper motion": "mas / yr",
    "time": "d",
    "temperature": "K",
    "wavelength": "nm",
    "parallax": "mas",
}
"""Kinds of quantities, and the unit that each is computed in."""
_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "magnitude": {"mag": ("magnitude", "abmag", "vegamag", "stmag", "dex(mag)")},
    "angle": {
        "deg": ("degree", "deg.", "d:m:s", "dms", "angle[deg]"),
        "hourangle": ("h:m:s", "hms", "hour", "h", "hr"),
        "rad": ("radian",),
        "arcmin": ("'",),
        "arcsec": ('"',),
    },
    "proper motion": {
        "mas / yr": ("mas/yr", "mas.yr**-1", "mas yr-1", "mas yr**-1", "mas.yr-1", "mas/year", "milliarcsec/year")
    },
    "time": {"d": ("day", "mjd", "jd", "bjd", "hjd", "iso"), "h": ("hour", "hr"), "s": ("sec", "second")},
    "temperature": {"K": ("kelvin",)},
    "wavelength": {
        "nm": ("nanometer", "nanometre"),
        "um": ("µm", "μm", "micron", "micrometer", "micrometre"),
        "Angstrom": ("ångström", "ångstrom", "angström", "aa", "a", "å"),
    },
    "parallax": {"mas": ()},
}
"""Spellings in lower case and the singular, by the unit as astropy has it."""
_SPELLINGS = {
    kind: {spelling.lower(): unit for unit, spellings in words.items() for spelling in (unit, *spellings)}
    for kind, words in _WORDS.items()
}
_NONE = frozenset({"", "-", "--", "---", "none", "null", "unitless", "dimensionless", "1", "n/a"})
_PLAIN = frozenset(
    {"", "1", "none", "dimensionless", "unitless", "fraction", "fractional", "transmission", "throughput", "qe"}
)
_PERCENT = frozenset({"%", "percent", "per cent", "pct"})
UNIT_WORDS = {
    "Angstrom": re.compile(r"(?i:[aå]ngstr[oö]m)|\bAA\b|_AA\b|(?i:wave\w*|lam\w*|wl)_A\b|[\[(]\s*(?:AA|A|Å)\s*[\])]|Å"),
    "nm": re.compile(r"(?i:nanomet(?:er|re))|\bnm\b|_nm\b"),
    "um": re.compile(r"(?i:\bmicro(?:n|met(?:er|re)))|\b[uµμ]m\b|_um\b"),
}
"""What tells a unit of length within names of columns and comments."""
PERCENT_WORDS = re.compile(
    r"[\[(]\s*(?:%|per ?cent|pct)\s*[\])]|/\s*%|\bin (?:%|per ?cent)|_(?:per ?cent|pct)\b"
    r"|(?:%|per ?cent) ?(?:t\b|trans|through|resp|eff)"
    r"|(?:\bt|trans\w*|throughput|response|efficiency)[ _:=]*(?:%|per ?cent|pct\b)",
    re.IGNORECASE,
)
"""What tells that transmissions are in percent."""


# --- words ------------------------------------------------------------------------------------------------------------


def is_unit(text: str | None) -> bool:
    """Whether a word states a unit at all."""
    return text is not None and _bare(text).lower() not in _NONE


def is_length(text: str) -> bool:
    """Whether a word is nm, Angstrom or um in one of its spellings."""
    return _known(text, "wavelength") is not None


def is_plain(text: str) -> bool:
    """Whether a word says that values are plain fractions."""
    word = text.strip().lower()
    return word in _PLAIN or word.removesuffix("s") in _PLAIN


def is_percent(text: str) -> bool:
    """Whether a word says percent."""
    return text.strip().lower() in _PERCENT


def say_unit() -> str:
    """The remedy for wavelengths without a unit."""
    return f"pass {say('unit=', '--unit')}: nm, Angstrom, um or another length"


def _bare(text: str) -> str:
    """A unit without quotes and brackets around; a single quote is one of minutes or seconds of arc."""
    text = text.strip()
    return text if text in ("'", '"') else text.strip("'\"[]").strip()


def _known(text: str, kind: str) -> str | None:
    """The unit that a spelling of a kind stands for, also in the plural; None for a word that is not listed."""
    word, spellings = text.strip().lower(), _SPELLINGS[kind]
    return spellings.get(word) or (spellings.get(word[:-1]) if len(word) > 2 and word.endswith("s") else None)


# --- numbers in the unit that a file states ---------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def unit_factor(text: str | None, kind: str) -> float:
    """What numbers in a unit are multiplied by to be in that of a kind; 1 where no unit is stated.

    Raises XpjaxError for a unit that is none of this kind: the words of the file that carries it come from the caller.
    """
    if text is None or not is_unit(text):
        return 1.0
    plain = _bare(text)
    unit = _known(plain, kind)
    if unit == KINDS[kind] or (kind == "magnitude" and plain.lower().startswith("mag(") and plain.endswith(")")):
        return 1.0
    found = _astropy_factor(unit or plain, kind)
    if found is None:
        raise XpjaxError(f"the unit {text!r}, which is none of a {kind} ({KINDS[kind]})")
    return found


def _astropy_factor(text: str, kind: str) -> float | None:
    """The factor by astropy; None where the text is no unit, or one of something else."""
    from astropy import units

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for form in (None, "fits", "vounit", "cds"):
            try:
                unit = units.Unit(text, format=form)
                break
            except (ValueError, TypeError):
                continue
        else:
            return None
    if kind == "magnitude":
        unit = getattr(unit, "function_unit", unit)
        # dex and dB are logarithms too, in newer versions of astropy of one base: the name tells.
        if [base.name for base in unit.decompose().bases] not in (["mag"], ["dex"], []) or "mag" not in str(unit):
            return None
    try:
        return float(unit.to(KINDS[kind]))
    except (units.UnitConversionError, ValueError, TypeError):
        return None


def to_nm(wavelength: np.ndarray, unit: str, path: Path | str) -> np.ndarray:
    """Wavelengths (n,) of a unit in nm. Raises XpjaxError for what is no unit of length."""
    known = _known(str(unit), "wavelength")
    if known == "um":
        return wavelength * 1000.0
    if known is not None:
        # Divided, not multiplied by 0.1: 4001 Angstrom are then the number nearest to 400.1 nm.
        return wavelength / (10.0 if known == "Angstrom" else 1.0)
    from astropy.units import Unit

    try:
        return np.asarray((wavelength * Unit(unit)).to_value("nm"))
    except (ValueError, TypeError) as exc:
        raise XpjaxError(
            f"{path}: {str(unit)!r} is no unit of wavelengths; {say_unit()}, and convert frequencies, wave numbers and "
            "logarithms"
        ) from exc


def to_plain(values: np.ndarray, unit: str, column: str, path: Path | str, plain: str = "") -> np.ndarray:
    """Values (n,) of a unit as fractions, or in the plain unit. Raises XpjaxError for units of another kind."""
    if not plain and is_percent(unit):
        return values / 100.0
    if is_plain(unit):
        return values
    from astropy.units import Unit

    try:
        return np.asarray(Unit(unit).to(plain, values))
    except (ValueError, TypeError) as exc:
        raise XpjaxError(f"{path}: the column {column} is in {unit}, expected {plain or 'a plain fraction'}") from exc


# --- numbers with a unit, as astropy has them, where plain ones are used ----------------------------------------------

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

    scale = getattr(getattr(values, "unit", None), "function_unit", None)  # of astropy's Magnitude, as in mag(AB)
    try:
        return _quantity(values.value, scale).to_value(unit) if scale is not None else _quantity(values).to_value(unit)
    except (UnitsError, TypeError) as error:
        found = sorted({str(getattr(value, "unit", "no unit")) for value in values}) if several else values.unit
        expected = _EXPECTED.get(unit, f"values in {unit}")
        raise XpjaxError(f"{what} has the unit {found}; expected {expected}: convert it first") from error


def _has_unit(values: Any) -> bool:
    return getattr(values, "unit", None) is not None and hasattr(values, "to")


def _quantity(values: Any, unit: Any = None) -> Any:
    from astropy.units import Quantity

    return Quantity(values, unit)
