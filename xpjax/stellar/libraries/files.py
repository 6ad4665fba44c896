"""A folder of model spectra, a file for each, with labels in file names or FITS keywords."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from xpjax.core.constants import SIGMA_PER_FWHM
from xpjax.core.errors import XpjaxError, say
from xpjax.io.atomic import expanded
from xpjax.io.streams import check_file, plain_suffix
from xpjax.stellar.libraries.fits import fits_spectrum, fits_wavelengths, keyword
from xpjax.stellar.libraries.library import Library, Limits, Models, agreed, agreed_medium, option, prepared, within
from xpjax.stellar.libraries.spectrum import Spectrum, apart
from xpjax.stellar.libraries.text import text_spectrum

_FIELD = re.compile(r"\{(\w+)(?:/(\d+(?:\.\d+)?))?\}")
SILENT = "the file does not say"
_DIGITS, _SIGNED = r"\d+(?:\.\d+)?", r"[-+mp]\d+(?:\.\d+)?|[-+]\.\d+"


def read_files(
    path: Path,
    limits: Limits,
    *,
    pattern: str = "*",
    keywords: Mapping[str, str] | None = None,
    wavelengths: str | Path | None = None,
    flux_column: int | None = None,
    unit: str | None = None,
    medium: str | None = None,
    per: str | None = None,
    own_resolution: float | None = None,
) -> Library:
    """A folder with a file for each spectrum: FITS table or image, or text, also packed; of one kind throughout.

    pattern: what file names look like, {label} for the number of a label, {label/10} for ten times it, * for anything,
    as little as can be; m and p before a number are signs, and a number right after another must have one:
    `lte{teff}-{logg}{mh}.PHOENIX*`, `amm{mh/10}*t{teff}g{logg/10}*`. keywords: label -> FITS keyword. wavelengths: a
    file with them, where the files have fluxes alone, or, of text, a flux_column (1 is the first) among others. unit of
    wavelengths, such as Angstrom or log10(Angstrom), medium (vacuum or air), per (what flux is per; by default
    wavelength) and own_resolution (the library's lambda/FWHM): where files do not say it themselves.

    Wavelength and flux are the columns that are called so, or the first two; of an image the axis of its header where
    there is no file of wavelengths. Raises XpjaxError, also where an option contradicts a file.
    """
    keywords = dict(keywords or {})
    fields = [(name, float(divisor or 1)) for name, divisor in _FIELD.findall(pattern)]
    names = [*(name for name, _ in fields), *keywords]
    if not names or len({*names}) != len(names):
        raise XpjaxError(
            f"labels {names}: name each once, in {say('pattern=', '--pattern')} as in '*t{{teff}}g{{logg/10}}*', or in "
            f"{say('keywords=', '--keyword')} by their FITS keywords"
        )
    if flux_column is not None and (wavelengths is None or flux_column < 1):
        raise XpjaxError(
            f"{option('flux_column', flux_column)}: the number of a column of text files, 1 for the first, for which "
            f"wavelengths are apart ({apart()})"
        )
    matcher = _matcher(pattern)
    shared = None if wavelengths is None else expanded(wavelengths)
    files = sorted(f for f in path.rglob("*") if f.is_file() and matcher.fullmatch(f.name) and f != shared)
    if not files:
        other = next((f.name for f in sorted(path.rglob("*")) if f.is_file() and f != shared), "no file")
        raise XpjaxError(
            f"{path}: no file name is like the pattern {pattern!r}, found {other}; * stands for anything, and a label "
            "right after another must have a sign"
        )
    grid = None
    if shared is not None:
        check_file(shared)
        grid = fits_wavelengths(shared, unit) if _is_fits(shared) else text_spectrum(shared, unit, alone=True)
    said = (option("medium", medium), medium)
    if medium is None:
        first = agreed_medium(files[0], SILENT, *_spectrum(files[0], unit, grid, flux_column).medium)
        said = (f"{files[0].name}, whose wavelengths are in {first}", first)
    where = str(said[1])

    def read() -> Models:
        known = [name for name, _ in fields]
        for file in files:
            match = matcher.fullmatch(file.name)
            assert match is not None
            signed = (re.sub("^p", "+", re.sub("^m", "-", text)) for text in match.groups())
            early = [float(text) / scale for text, (_, scale) in zip(signed, fields, strict=True)]
            if not within(known, np.array([early]), {k: v for k, v in limits.items() if k in known})[0]:
                continue
            one = _spectrum(file, unit, grid, flux_column)
            labels = np.array([[*early, *(keyword(file, one.header, key) for key in keywords.values())]])
            if not within(names, labels, limits)[0] or not np.any(one.flux):
                continue
            own = agreed(file, one.power, (option("own_resolution", own_resolution), own_resolution)) or np.inf
            chosen = agreed(file, *one.per, (option("per", per), per)) or "wavelength"
            variance = (one.wavelength * SIGMA_PER_FWHM / own) ** 2
            agreed_medium(file, SILENT, *one.medium, said)
            yield prepared(file, one.wavelength, one.flux[None], labels, variance, where, chosen)

    origin = f"{path.name}: files {pattern}, wavelengths in {where}"
    return Library(names, [*files, *([shared] if shared else [])], origin, read)


def _matcher(pattern: str) -> re.Pattern[str]:
    """What file names look like, a group for each label. A * takes as little as it can, and no part of a number."""
    texts = re.split(r"\{[^}]*\}", pattern)
    parts = [re.escape(text).replace(r"\*", ".*?") for text in texts]
    whole = parts[0]
    for k, (before, after) in enumerate(itertools.pairwise(texts)):
        plain = "" if k and not before else "|" + (r"(?<!\d)(?<!\d\.)" if before.endswith("*") else "") + _DIGITS
        whole += f"({_SIGNED}{plain})" + (r"(?!\.?\d)" if after.startswith("*") else "") + parts[k + 1]
    return re.compile(whole)


def _is_fits(file: Path) -> bool:
    return plain_suffix(file) in (".fits", ".fit", ".fts")


def _spectrum(file: Path, unit: str | None, grid: Spectrum | None, column: int | None) -> Spectrum:
    """The spectrum of a file, with the wavelengths of another where these are apart, and of text the column of flux."""
    check_file(file)
    return fits_spectrum(file, unit, grid) if _is_fits(file) else text_spectrum(file, unit, grid, column=column)
