"""What a cell of text means: the words for a missing value, numbers, integers; one list for every reader."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError

MISSING = frozenset(
    {
        *("", "nan", "-nan", "+nan", "null", "none", "n/a", "na", "<na>", "#n/a", "nil", "nat", "masked", "indef"),
        *("-", "--", "---", "...", "\\n", '""', "''"),
    }
)
"""What tables write, in lower case, where a cell has no value."""
EXACT = 2**53
"""Integers beyond are not all float64 numbers."""


def is_missing(cell: Any) -> bool:
    """Whether a cell has no value: None, NaN, NaT, masked, or one of the words of `MISSING`."""
    if isinstance(cell, str):
        return len(cell) < 20 and cell.strip().lower() in MISSING
    if cell is None or cell is np.ma.masked:
        return True
    return isinstance(cell, float | np.floating | np.datetime64) and bool(cell != cell)


def parse_number(text: str) -> float:
    """The number that a token stands for, exactly rounded; NaN for a missing one. Raises ValueError."""
    token = text.strip()
    if "_" in token:  # float() reads 1_0 as 10
        raise ValueError(f"not a number: {token!r}")
    return np.nan if token and token.lower() in MISSING else float(token)


def integer(cell: Any) -> int | None:
    """The int64 that a cell stands for exactly, else None."""
    number: int | None = None
    if isinstance(cell, str):
        text = cell.strip()
        number = int(text) if text.isascii() and text.removeprefix("-").isdecimal() else None
    elif isinstance(cell, float | np.floating):
        number = int(cell) if abs(float(cell)) <= EXACT and float(cell).is_integer() else None
    elif isinstance(cell, int | np.integer) and not isinstance(cell, bool):
        number = int(cell)
    return number if number is not None and -(2**63) <= number < 2**63 else None


def whole_number(text: str, where: str) -> int:
    """A number from 0 on that fits 64 bits. Raises XpjaxError, which says where it stands."""
    number = integer(text)
    if number is None or number < 0:
        raise XpjaxError(f"{where}: {text.strip()!r} is no whole number from 0 on that fits 64 bits")
    return number


def abridged(value: Any, width: int = 40) -> str:
    """`repr` of a cell, cut for a message."""
    text = repr(value)
    return text if len(text) <= width else f"{text[: width - 4]}...{text[-1]}"
