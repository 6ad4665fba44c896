"""A spectrum as a file has it, and wavelengths in nm of what a file calls so."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.units import say_unit, to_nm
from xpjax.stellar.libraries.library import OPTICAL, Claim, agreed, check_plausible, option, plausible

_TEN, _E, _FITS = "decimal logarithms", "natural logarithms", "the FITS standard's logarithm"
_LOGARITHM = re.compile(r"(log10|log|ln|dex)\W+(\w+)\W*", re.I)
_KINDS = {"": [""], "log10": [_TEN], "ln": [_E], "log": [_TEN, _E], "-log": [_TEN, _E, _FITS]}


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """A file's spectrum: header (empty for text), wavelength (n,) [nm], flux (n,), and what the file says of both.

    unit: that of the flux.
    """

    header: Mapping[str, Any]
    wavelength: np.ndarray
    flux: np.ndarray
    medium: list[Claim] = dataclasses.field(default_factory=list)
    per: list[Claim] = dataclasses.field(default_factory=list)
    power: Claim = ("", None)
    unit: Claim = ("", None)


def apart() -> str:
    """What an argument with a file of wavelengths is called."""
    return say("wavelengths=", "--wavelengths FILE")


def in_nm(
    file: Path, what: str, kind: str, x: np.ndarray, stated: Claim, unit: str | None, start: float = 1.0
) -> np.ndarray:
    """Wavelengths (n,) [nm] of numbers (n,) by the unit that a file states, as log10(Angstrom), or that is given.

    kind: nothing for wavelengths, log10, ln, log for either, -log for these or the standard's, of CRVAL1 = start.
    """
    own = stated[1]
    if wrapped := _LOGARITHM.fullmatch(own or ""):
        own = wrapped[2]
        kind = wrapped[1].lower().replace("dex", "log10") if kind in ("", "log") else kind
    if wrapped := _LOGARITHM.fullmatch(unit or ""):  # where a file does not call its logarithms so
        said = wrapped[1].lower().replace("dex", "log10")
        if kind not in ("", said, *(["log", "-log"] if said != "log" else [])):
            raise XpjaxError(f"{file}: {what} contradicts {option('unit', unit)}; leave that out, or mend the file")
        unit, kind = wrapped[2], said
    if not (unit or own):
        raise XpjaxError(f"{file}: {what} has no unit of wavelengths; {say_unit()}")
    chosen = unit or own or ""
    if unit and own:
        agreed(file, (stated[0], _length(file, own)), (option("unit", unit), _length(file, unit)))
    with np.errstate(all="ignore"):
        made = {"": x, _TEN: 10.0**x, _E: np.exp(x), _FITS: start * np.exp((x - start) / start)}
        found = {words: to_nm(made[words], chosen, file) for words in _KINDS[kind]}
    good = [words for words, x in found.items() if plausible(x) and ((x > OPTICAL[0]) & (x < OPTICAL[1])).any()]
    if len(found) > 1 and len(good) != 1:
        several = "; ".join(f"as {words} {x[0]:g}..{x[-1]:g} nm" for words, x in found.items())
        raise XpjaxError(f"{file}: {what}: cannot tell which logarithm it is: {several}; mend its name or its unit")
    words = good[0] if len(good) == 1 else next(iter(found))
    check_plausible(file, f"{what}, as {words}" if words else what, found[words])
    return found[words]


def _length(file: Path, unit: str) -> float | None:
    """A unit in nm; None for what is no unit of length."""
    try:
        return float(to_nm(np.array(1.0), unit, file))
    except XpjaxError:
        return None
