"""Units that tables state, as factors to what is computed with: magnitudes, angles, proper motions, times."""

from __future__ import annotations

import functools
import warnings

from xpjax.core.errors import XpjaxError

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
_NONE = frozenset({"", "-", "--", "---", "none", "null", "unitless", "dimensionless", "1", "n/a"})
_MAGNITUDES = frozenset({"mag", "mags", "magnitude", "magnitudes", "abmag", "vegamag", "stmag", "dex(mag)"})
_SAME = {
    "magnitude": _MAGNITUDES,
    "angle": frozenset({"deg", "degree", "degrees", "deg.", "d:m:s", "dms", "angle[deg]"}),
    "proper motion": frozenset(
        {"mas/yr", "mas.yr**-1", "mas yr-1", "mas yr**-1", "mas.yr-1", "mas/year", "milliarcsec/year"}
    ),
    "time": frozenset({"d", "day", "days", "mjd", "jd", "bjd", "hjd", "iso"}),
    "temperature": frozenset({"k", "kelvin", "[k]"}),
    "wavelength": frozenset({"nm", "nanometer", "nanometers", "nanometre"}),
    "parallax": frozenset({"mas"}),
}  # fmt: skip
"""Spellings of the unit itself, in lower case."""
_SPELLINGS = {"h:m:s": "hourangle", "hms": "hourangle", "hours": "hourangle", "hour": "hourangle", "h": "hourangle",
              "hr": "hourangle", "radians": "rad", "radian": "rad", "angstroms": "Angstrom", "aa": "Angstrom",
              "'": "arcmin", '"': "arcsec", "sec": "s", "seconds": "s", "arcsec/year": "arcsec/yr"}  # fmt: skip


def is_unit(text: str | None) -> bool:
    """Whether a column states a unit at all."""
    return text is not None and _bare(text).lower() not in _NONE


def _bare(text: str) -> str:
    """A unit without quotes and brackets around; a single quote is one of minutes or seconds of arc."""
    text = text.strip()
    return text if text in ("'", '"') else text.strip("'\"[]").strip()


@functools.lru_cache(maxsize=256)
def factor(text: str | None, kind: str) -> float:
    """What numbers in a unit are multiplied by to be in that of a kind; 1 where no unit is stated.

    Raises XpjaxError for a unit that is none of this kind: the words of the file that carries it come from the caller.
    """
    if not is_unit(text):
        return 1.0
    assert text is not None
    plain = _bare(text)
    lower = plain.lower()
    if lower in _SAME[kind] or (kind == "magnitude" and lower.startswith("mag(") and lower.endswith(")")):
        return 1.0
    usual = kind in ("angle", "wavelength") or len(lower) > 2  # `h` is hours of an angle, and an hour of time
    found = _astropy_factor(_SPELLINGS.get(lower, plain) if usual else plain, kind)
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
