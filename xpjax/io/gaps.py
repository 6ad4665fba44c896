"""Integers with gaps that float64 would round: masked arrays, with 0 beneath the mask, which all formats can write.

What does not know of masks sees 0 there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpjax.io.words import EXACT


def whole_with_gaps(data: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Integers (n,) as float64 with NaN where missing, or masked where float64 would lose digits."""
    data = np.where(missing, 0, data)
    if not is_big(data):
        return np.where(missing, np.nan, data.astype(np.float64))
    if data.dtype.kind != "u" or data.max() <= np.iinfo(np.int64).max:
        data = data.astype(np.int64)
    return np.ma.array(data, mask=missing)


def is_big(array: np.ndarray) -> bool:
    """Whether these are integers, some of which float64 may round; what is masked has no say."""
    if array.dtype.kind not in "iu":
        return False
    return bool(np.ma.filled((array > EXACT) | (array < -EXACT), False).any())


def has_gaps(column: Any) -> bool:
    """Whether a column is masked, and some of it is."""
    return np.ma.isMaskedArray(column) and bool(np.ma.getmaskarray(column).any())


def filler(kind: np.dtype) -> Any:
    """The integer that stands for a missing one in formats that have no other way: the last that a column may have."""
    limits = np.iinfo(kind)
    return kind.type(limits.min if kind.kind == "i" else limits.max)


def with_filler(column: np.ndarray) -> np.ndarray:
    """Integers (n,) with `filler` where they are masked."""
    return np.ma.filled(column, filler(column.dtype))


def without_filler(column: np.ndarray) -> np.ndarray:
    """Integers (n,) of 64 bits that are masked where `with_filler` filled them; as they are where it did not."""
    if column.dtype.kind not in "iu" or column.dtype.itemsize < 8:
        return column
    missing = column == filler(column.dtype)
    return np.ma.array(np.where(missing, 0, column), mask=missing) if missing.any() else column
