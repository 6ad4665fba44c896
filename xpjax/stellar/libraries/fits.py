"""Spectra in FITS files: which extension, which columns, and the wavelengths that a header's axis means.

The axes of images that are read: linear ones; the standard's WAVE-LOG and AWAV-LOG (Greisen et al. 2006, A&A 446, 747),
lambda = CRVAL1 exp((i - CRPIX1) CDELT1 / CRVAL1), and what PHOENIX calls so, natural logarithms in CRVAL1 and CDELT1;
IRAF's DC-FLAG = 1 and CTYPE1 LOG10..., decimal logarithms. Where the header leaves it open, one reading must give
wavelengths of which some are optical.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.streams import open_bytes, reading
from xpjax.io.words import is_missing, parse_number
from xpjax.stellar.libraries.library import Claim
from xpjax.stellar.libraries.spectrum import Spectrum, apart, in_nm

_WAVE = re.compile(r"(log10|loge|log|ln|)[\s_(]*(?:air|vac(?:uum)?|)[\s_]*(?:a?wav|lambda|lam(?![a-z])|wl$)", re.I)
_FLUX = re.compile(r"(?:surface_?|s_?)?flux|f_?(?:lam|nu)|specific_?intensity|intensity", re.I)
_ASIDE = re.compile(r"err|sig|std|unc|var|noise|weight|mask|flag|qual|dq|cont|norm|wave|abund", re.I)
"""What columns and extensions beside a spectrum are called."""
_AXES = {
    r"(?:A?WAVE?|(?:AIR |VACUUM )?(?:WAVELENG\w*|LAMBDA|LAM))\W*LOG": "-log",
    r"|LINEAR|ANGSTROMS?|A?WAVE?|(?!.*(?:LOG|LN))(?:AIR |VACUUM )?(?:WAVELENG\w*|LAMBDA|LAM)(?:\W.*)?": "",
    "LOG_?10.*": "log10",
    "(?:LN|LOG_?E).*": "ln",
    "LOG.*": "log",
}
"""How wavelengths follow from an axis, by CTYPE1."""
_POWERS = ("SPEC_RP", "RESPOWER", "RESOLPOW")
"""Keywords of a resolving power."""


@dataclasses.dataclass(frozen=True)
class Part:
    """An HDU with data: its name for messages, its header with the primary's keywords, columns (none for images)."""

    name: str
    header: Any
    columns: tuple[str, ...]
    data: Any

    def column(self, name: str) -> np.ndarray:
        """Numbers (n,) of a column, or of the image for no name; NaN for the format's null."""
        if not self.columns:
            return np.ravel(self.data).astype(float)
        column, field = self.data.columns[name], self.data.field(name)
        value = np.ravel(np.hstack(list(field)) if field.dtype == object else field).astype(float)
        if isinstance(column.null, int | np.integer):
            null = column.null * float(column.bscale or 1) + float(column.bzero or 0)
            value[np.isclose(value, null, rtol=1e-12, atol=0)] = np.nan
        return value

    def unit(self, name: str) -> Claim:
        """The unit that the header states, of a column or of the image's values, and where."""
        key = next((key for key in ("BUNIT", "UNIT", "UNITS") if key in self.header), "BUNIT")
        key = f"TUNIT{self.columns.index(name) + 1}" if self.columns else key
        return f"{key} = {self.header.get(key)}", str(self.header.get(key) or "").strip() or None


def fits_parts(file: Path) -> list[Part]:
    """All HDUs of a FITS file, also packed, that have data. Raises XpjaxError."""
    from astropy.io import fits

    parts = []
    with reading(file, "FITS"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what errors say better
        with open_bytes(file) as stream:
            content = io.BytesIO(stream.read())
        with fits.open(content, memmap=False) as hdus:
            for k, hdu in enumerate(hdus):
                names = tuple(hdu.columns.names) if hasattr(hdu, "columns") else ()
                where = f"{file}: extension {k} {hdu.name}".rstrip()
                twice = [name for name in names if names.count(name) > 1]
                if twice:
                    raise XpjaxError(f"{where}: {len(twice)} columns are called {twice[0]}; rename or drop the others")
                if hdu.data is None:
                    continue
                header = hdu.header.copy()
                header.extend(hdus[0].header.cards, strip=True, unique=True)
                parts.append(Part(where, header, names, hdu.data))
    if not parts:
        raise XpjaxError(f"{file}: no data; download it again")
    return parts


def fits_spectrum(file: Path, unit: str | None, grid: Spectrum | None = None) -> Spectrum:
    """The spectrum of a FITS file, or its flux alone where there is a grid of wavelengths. Raises XpjaxError."""
    part, x, y = _spectrum_part(file, grid is not None)
    flux, per, power = part.column(y), _per_of(part, y), _power_of(part.header)
    if grid is not None:
        return dataclasses.replace(grid, header=part.header, flux=flux, per=per, power=power)
    wavelength = _column_in_nm(file, part, x, unit) if x else _axis_in_nm(file, part.header, len(flux), unit)
    return Spectrum(part.header, wavelength, flux, _medium_of(part.header, x), per, power, part.unit(y))


def fits_wavelengths(file: Path, unit: str | None) -> Spectrum:
    """Wavelengths of a FITS file that has nothing else, an image or a column. Raises XpjaxError."""
    part, *others = fits_parts(file)
    name = _called(part, part.columns, _WAVE) or (part.columns[0] if len(part.columns) == 1 else "")
    if others or (part.columns and not name):
        raise XpjaxError(f"{file}: expected wavelengths alone, an image or a table with one column; keep these")
    wavelength = _column_in_nm(file, part, name, unit)
    return Spectrum(part.header, wavelength, wavelength, _medium_of(part.header, name or None))


def _spectrum_part(file: Path, separate: bool) -> tuple[Part, str, str]:
    """The HDU that is a spectrum, and its columns of wavelengths and of flux; separate: wavelengths are elsewhere.

    Raises XpjaxError where none or several can be meant.
    """
    ranked: list[list[tuple[Part, str, str]]] = [[], [], []]
    for part in fits_parts(file):
        aside = 2 if _ASIDE.search(part.header.get("EXTNAME", "")) else 0
        if not part.columns and np.size(part.data) == np.shape(part.data)[-1]:
            ranked[aside].append((part, "", ""))
        if not part.columns:
            continue
        numeric = [name for name in part.columns if part.data.field(name).dtype.kind in "fiuO"]
        x, y = (_called(part, numeric, kind) for kind in (_WAVE, _FLUX))
        clear, rest = y and (x or separate), [name for name in numeric if name not in (x, y)]
        if not x and not separate and rest and (not y or len(rest) == 1):
            x = rest.pop(0)
        if not y and rest and (len(rest) == 1 or not _WAVE.match(x)):
            y = rest[0]
        if y and (x or separate):
            ranked[aside or (0 if clear else 1)].append((part, x, y))
    best = next((found for found in ranked if found), [])
    if len(best) != 1:
        names = "; ".join(part.name.removeprefix(f"{file}: ") for part, *_ in best) or "none"
        raise XpjaxError(
            f"{file}: expected one spectrum, an image of one axis or a table with a column of wavelengths and one of "
            f"flux; found {names}: keep the one that is meant"
        )
    part, x, y = best[0]
    if separate and x:
        raise XpjaxError(f"{part.name}: has wavelengths of its own, {x}; leave out {apart()}")
    return part, x, y


def _called(part: Part, names: Sequence[str], kind: re.Pattern[str]) -> str:
    """The column of a kind by its name; nothing where there is none. Raises XpjaxError for several."""
    found = [name for name in names if kind.match(name) and (kind is _WAVE or not _ASIDE.search(name))]
    exact = [name for name in found if kind.fullmatch(name) or name.lower() in ("wavelength", "wave")]
    if len({*found}) > 1 and len(exact) != 1:
        raise XpjaxError(f"{part.name}: columns {', '.join(found)} are alike; keep or rename all but one")
    return (exact or found or [""])[0]


def _column_in_nm(file: Path, part: Part, name: str, unit: str | None) -> np.ndarray:
    """Wavelengths (n,) [nm] of a column, or of an image's values for no name."""
    found = _WAVE.match(name)
    kind = {"loge": "ln"}.get(found[1].lower(), found[1].lower()) if found else ""
    return in_nm(file, f"column {name}" if name else "the image", kind, part.column(name), part.unit(name), unit)


def keyword(file: Path, header: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """The number of a FITS keyword. Raises XpjaxError where it is none, or is not there and has no default."""
    found = header.get(name, default)
    with contextlib.suppress(ValueError, TypeError):
        if not is_missing(found) and not isinstance(found, bool):
            return parse_number(found) if isinstance(found, str) else float(found)
    words = f"is {found!r}" if name in header else "is not there"
    raise XpjaxError(f"{file}: the keyword {name} {words}, expected a number; mend it, or name another one")


def _axis_in_nm(file: Path, header: Any, n: int, unit: str | None) -> np.ndarray:
    """Wavelengths (n,) [nm] of an image's axis. Raises XpjaxError for axes that are none of wavelengths."""
    told = [keyword(file, header, key) for key in ("CDELT1", "CD1_1") if key in header]
    if "CDELT1" in header:
        told[0] *= keyword(file, header, "PC1_1", 1.0)
    if not told or "CRVAL1" not in header:
        raise XpjaxError(f"{file}: an image without an axis (CRVAL1, CDELT1); pass {apart()}")
    if not np.allclose(told, told[0], rtol=1e-6, atol=0):
        raise XpjaxError(
            f"{file}: CDELT1 = {told[0]:g} contradicts CD1_1 = {told[1]:g} as the step of the axis; mend the header, "
            f"or pass {apart()}"
        )
    code = str(header.get("CTYPE1") or "").strip()
    start = keyword(file, header, "CRVAL1")
    axis = f"the axis CTYPE1 = {code!r}, CRVAL1 = {start:g}"
    x = start + told[0] * (np.arange(n) + 1 - keyword(file, header, "CRPIX1", 1.0))
    if str(header.get("DC-FLAG", 0)).strip() == "1":
        kind, axis = "log10", f"{axis}, DC-FLAG = 1"
    else:
        kind = next((kind for pattern, kind in _AXES.items() if re.fullmatch(pattern, code, re.I)), "unknown")
    if kind == "unknown":
        raise XpjaxError(f"{file}: {axis}: not known as an axis of wavelengths; pass {apart()}")
    iraf = re.search(r"units=(\w+)", str(header.get("WAT1_001", "")), re.I)
    stated = str(header.get("CUNIT1") or (iraf[1] if iraf else "")).strip()
    return in_nm(file, axis, kind, x, (f"CUNIT1 = {stated}", stated or None), unit, start)


def _medium_of(header: Any, name: str | None) -> list[Claim]:
    """What a column's name, or an image's axis for no name, and keywords say of the medium of wavelengths."""
    code = str(header.get("CTYPE1") or "").strip()
    claims: list[Claim] = []
    value: str | None
    if name:
        said = re.search(r"air|awav|vac", name, re.I)
        claims = [(f"column {name}", said and ("vacuum" if said[0].lower() == "vac" else "air"))]
    elif name is not None and re.match(r"(?:A?WAVE?)(?:\W|$)|AIR|VAC", code, re.I):
        value = "air" if code[0] in "aA" else "vacuum"
        claims = [(f"CTYPE1 = {code} (wavelengths in {value})", value)]
    for key in ("AIRORVAC", "MEDIUM", "WAVEMED", "VACUUM", "WAVEVAC", "WAVEAIR", "AIR"):
        text = str(header.get(key, "")).strip().lower()
        own = "air" if key.endswith("AIR") else "vacuum"
        yes, no = (text in words for words in (("true", "1", "t", "yes"), ("false", "0", "f", "no")))
        value = "air" if text.startswith("air") else "vacuum" if text.startswith("vac") else None
        if (yes or no) and key in ("VACUUM", "WAVEVAC", "WAVEAIR", "AIR"):
            value = own if yes else "vacuum" if own == "air" else "air"
        claims.append((f"{key} = {header.get(key)}", value))
    return claims


def _per_of(part: Part, name: str) -> list[Claim]:
    """What the unit and the name of a flux say it is per. Raises XpjaxError for photons and magnitudes."""
    where, unit = part.unit(name)
    claims: list[Claim] = []
    for words, text in ((where, unit or ""), (f"column {name}", name)):
        if re.search(r"phot(?!osph)|\bph\b|\bmag", text, re.I):
            raise XpjaxError(f"{part.name}: {words}: expected a flux of energy; convert it")
        frequency = re.search(r"hz|\bm?jy|jansky|f_?nu|flux_?nu", text, re.I)
        wavelength = re.search(r"f_?lam|\b(A|AA|ang\w*|nm|um|micron\w*)\b", text, re.I)
        cube = re.search(r"cm\W*[23]?\W*/\W*cm\b|cm\W*-?3", text, re.I)
        claims.append((words, "frequency" if frequency else "wavelength" if wavelength or cube else None))
    return claims


def _power_of(header: Mapping[str, Any]) -> Claim:
    """What a header says of the resolving power lambda/FWHM."""
    key = next((key for key in _POWERS if isinstance(header.get(key), int | float) and header[key] > 0), None)
    return (f"{key} = {header[key]:g}", float(header[key])) if key else ("", None)
