"""Columns of numbers in text files of spectra: blanks or commas between, comments, Fortran's exponents."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.words import abridged, parse_number


def number_lines(text: str, heading: bool = False) -> list[tuple[int, list[str]]]:
    """The lines that have more than a comment (#, ! or %), by their number from 1, as cells.

    heading: words may stand above the numbers, and are left out.
    """
    bare = [(number, line) for number, line in enumerate(re.sub("[#!%].*", "", text).splitlines(), 1) if line.strip()]
    while heading and bare and not _numbers(re.split(r"[,\s]+", bare[0][1].strip())[:1]):
        del bare[0]
    return [(number, line.split("," if "," in line else None)) for number, line in bare]


def number_columns(path: Path, text: str, n: int, *, heading: bool = False, expected: str = "numbers") -> np.ndarray:
    """The first n columns (n, m) of a text; heading: as in `number_lines`; expected: what they are, for the message.

    Raises XpjaxError for what is no number or missing, naming its line.
    """
    lines = number_lines(text, heading)
    with contextlib.suppress(ValueError):
        table = np.array([cells[:n] for _, cells in lines], dtype=float).reshape(len(lines), n)
        if np.isfinite(table).all() and "_" not in text:  # float() reads 1_0 as 10
            return table.T
    rows = []
    for number, cells in lines:
        row = _numbers(cells[:n])
        if len(row) != n or not np.isfinite(row).all():
            said = abridged(" ".join(cells[:n]))
            raise XpjaxError(f"{path}: line {number}: expected {expected}, found {said}; mend it, or mark it with #")
        rows.append(row)
    return np.array(rows).reshape(len(lines), n).T


def _numbers(cells: list[str]) -> list[float]:
    """The cells that are numbers, also with Fortran's exponent D."""
    row: list[float] = []
    for cell in cells:
        with contextlib.suppress(ValueError):
            row.append(parse_number(re.sub(r"(?<=[\d.])[dD](?=[-+\d])", "e", cell)))
    return row
