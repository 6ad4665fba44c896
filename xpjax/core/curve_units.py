"""Units of curves, as astronomers write them: lengths in nm, transmissions as fractions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from xpjax.core.errors import XpjaxError, say

_PER_NM = {
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "micrometer", "micrometre"), 1e-3),
    **dict.fromkeys(("angstrom", "ångström", "ångstrom", "angström", "aa", "a", "å"), 10.0),
}
_PLAIN = ("", "1", "none", "fraction", "fractional", "transmission", "throughput", "dimensionless", "unitless", "qe")
_PERCENT = ("%", "percent", "per cent", "pct")
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


def say_unit() -> str:
    """The remedy for wavelengths without a unit."""
    return f"pass {say('unit=', '--unit')}: nm, Angstrom, um or another length"


def _key(unit: str) -> str:
    key = str(unit).strip().lower()
    return key[:-1] if len(key) > 2 and key.endswith("s") else key


def is_common(unit: str) -> bool:
    """Whether a word is nm, Angstrom or um in one of its spellings."""
    return _key(unit) in _PER_NM


def is_plain(unit: str) -> bool:
    """Whether a word says that values are plain fractions."""
    return _key(unit) in _PLAIN


def is_percent(unit: str) -> bool:
    """Whether a word says percent."""
    return unit.strip().lower() in _PERCENT


def to_nm(wavelength: np.ndarray, unit: str, path: Path | str) -> np.ndarray:
    """Wavelengths (n,) of a unit in nm. Raises XpjaxError for what is no unit of length."""
    per_nm = _PER_NM.get(_key(unit))
    if per_nm is not None:
        # Divided, not multiplied by 0.1: 4001 Angstrom are then the number nearest to 400.1 nm.
        return wavelength / per_nm if per_nm >= 1 else wavelength * 1000.0
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
