"""Spectra in text files."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.units import UNIT_WORDS
from xpjax.io.number_text import number_columns, number_lines
from xpjax.io.streams import reading, text_of
from xpjax.stellar.libraries.library import option
from xpjax.stellar.libraries.spectrum import Spectrum, apart, in_nm

_HEADING = re.compile(
    r"""['"]?(?:wave(?:length)?|lambda|lam)(?:[_ ]?(?:air|vac\w*))?"""
    r"""(?:[_ ]?[\[(]?(?:AA?|nm|um|microns?|[aå]ngstr[oö]ms?|nanomet(?:er|re)s?)[\])]?)?['"]?""",
    re.I,
)
"""What a heading calls wavelengths, above a column `flux`."""


def text_spectrum(
    file: Path, unit: str | None, grid: Spectrum | None = None, *, alone: bool = False, column: int | None = None
) -> Spectrum:
    """Wavelengths and flux of a text file, or flux alone where there is a grid of wavelengths. Raises XpjaxError.

    A comment, or a heading such as Wavelength,Flux, may tell the unit and the medium of wavelengths. alone: the file
    has nothing but wavelengths. column: which one is the flux, 1 for the first, where there is a grid and several.
    """
    with reading(file, "text"):
        text = text_of(file)
    text, heading = _without_heading(text) if grid is None and not alone else (text, "")
    if grid is not None and column is not None:
        width = max((len(cells) for _, cells in number_lines(text)[:1]), default=0)
        if width < column:
            raise XpjaxError(f"{file}: {width} columns, and {option('flux_column', column)}; name one of these")
        return dataclasses.replace(grid, flux=list(number_columns(file, text, column))[column - 1])
    columns = _columns(file, text, 1 if alone or grid is not None else 2)
    if grid is not None:
        return dataclasses.replace(grid, flux=columns[0])
    told = re.search(r"[#!%].*?((?:\b(?:air|vac\w*)\W+)?(?:wave|lambda)(?:(?!flux|inten)[^,;|\n]){,30})", text, re.I)
    words = heading or (" ".join(told[1].split()) if told else "")
    units = [name for name, pattern in UNIT_WORDS.items() if pattern.search(words)]
    media = {word.lower() for word in re.findall(r"(?:\b|_)(air|vac)", words, re.I)}
    clear = len(media) == 1 and not re.search("from|conver|correct", words, re.I)
    where = f"the {'heading' if heading else 'comment'} {words!r}"
    wavelength = in_nm(file, "column 1", "", columns[0], (where, units[0] if len(units) == 1 else None), unit)
    flux = wavelength if alone else columns[1]
    return Spectrum({}, wavelength, flux, [(where, ("air" if "air" in media else "vacuum") if clear else None)])


def _without_heading(text: str) -> tuple[str, str]:
    """A text with its heading of names as a comment, and what that calls wavelengths; nothing where it has none."""
    for number, cells in number_lines(text)[:1]:
        first, second = [cell.strip() for cell in (*cells, "", "")[:2]]
        if _HEADING.fullmatch(first) and second.strip("'\"").lower() == "flux":
            lines = text.splitlines()
            lines[number - 1] = f"# {lines[number - 1]}"
            return "\n".join(lines), first.strip("'\"")
    return text, ""


def _columns(file: Path, text: str, n: int) -> list[np.ndarray]:
    """The first n columns of a text; a single one for n = 1. Raises XpjaxError for fewer, or what is no number."""
    lines = number_lines(text)
    width = len(lines[0][1]) if lines else 0
    if width < n or (n == 1 and width > 1):
        which = say("flux_column=", "--flux-column")
        two = f"leave out {apart()}, or say by {which} which of them is the flux"
        remedy = f"pass {apart()}" if width == 1 else two if width else "mend the file"
        raise XpjaxError(f"{file}: {width} columns, expected {'one' if n == 1 else 'wavelengths and flux'}; {remedy}")
    return list(number_columns(file, text, n))
