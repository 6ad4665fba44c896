"""Cells of text as numbers, angles and dates, a column at a time."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from xpjax.io.words import MISSING, parse_number


def _known(cells: Any) -> Any:
    """Cells without blanks around; null for the words for a missing value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(cells)
    return pc.if_else(pc.is_in(pc.utf8_lower(trimmed), pa.array(sorted(MISSING))), None, trimmed)


def parse_numbers(cells: Any) -> tuple[np.ndarray, np.ndarray]:
    """Cells of text, an Arrow array, as float64 with NaN where missing or odd; and which are odd."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = _known(cells)
    try:
        numbers = pc.cast(known, pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    except pa.ArrowInvalid:
        out, odd = np.full(len(cells), np.nan), np.zeros(len(cells), bool)
        for i, cell in enumerate(known.to_pylist()):
            try:
                out[i] = np.nan if cell is None else parse_number(cell)
            except ValueError:
                odd[i] = True
        return out, odd
    return numbers.copy(), np.zeros(len(cells), bool)


def parse_integers(cells: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Cells of text as int64, 0 where missing, and which are; None where one is no integer, or is a name as 0012."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = _known(cells)
    if known.null_count == len(known) or pc.any(pc.match_substring_regex(known, r"^[+-]?0\d|^\+")).as_py():
        return None
    try:
        whole = pc.cast(known, pa.int64())
    except pa.ArrowInvalid:
        return None
    missing = np.asarray(whole.is_null())
    return np.asarray(whole.fill_null(0)).astype(np.int64), missing.astype(bool)


def distinct(cells: Any) -> tuple[list[str], np.ndarray]:
    """The distinct texts among cells, less blanks around, and the place (n,) of each cell's; null is an empty text."""
    whole = cells.combine_chunks() if hasattr(cells, "combine_chunks") else cells
    coded = whole.fill_null("").dictionary_encode()
    return [cell.strip() for cell in coded.dictionary.to_pylist()], np.asarray(coded.indices)


_ANGLE = (
    r"^(?P<sign>[+-]?)\s*(?P<whole>\d{1,3})\s*[:hd°\s]\s*(?P<minute>\d{1,2})\s*[:m'′\s]\s*"
    r"(?P<second>\d{1,2}(?:\.\d*)?)\s*[s\"″]?$"
)


def sexagesimal(cells: Any) -> tuple[np.ndarray, np.ndarray]:
    """Angles (n,) in units of their first part, and which cells are such."""
    import pyarrow.compute as pc

    found = pc.extract_regex(pc.utf8_trim_whitespace(cells), _ANGLE)
    good = np.array(found.is_valid(), bool)
    texts = {name: pc.struct_field(found, name).to_pylist() for name in ("sign", "whole", "minute", "second")}
    negative = np.array([x == "-" for x in texts.pop("sign")])
    whole, minute, second = (np.array([float(x) if x else np.nan for x in text]) for text in texts.values())
    good &= (minute < 60) & (second < 60)
    angle = whole + minute / 60 + second / 3600
    return np.where(negative, -angle, angle), good


_EPOCH = np.datetime64("1858-11-17T00:00:00", "us")


def modified_julian_day(dates: np.ndarray) -> np.ndarray:
    """Modified Julian days of datetime64."""
    return (dates.astype("datetime64[us]") - _EPOCH) / np.timedelta64(1, "D")


def iso_day(cell: str) -> float:
    """The modified Julian day of a date as 2026-01-31, with a time or without; NaN for what is none."""
    text = cell.strip().removesuffix("Z").replace("/", "-").replace(" ", "T")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d*)?)?)?", text):
        return np.nan
    try:
        return float(modified_julian_day(np.array(text.rstrip("."), "datetime64[us]")))
    except ValueError:
        return np.nan
