"""Cells of text that hold arrays, as `[1.5,2.5]`: one matrix where all have as many numbers."""

from __future__ import annotations

from typing import Any

import numpy as np


def matrix(cells: Any) -> np.ndarray | None:
    """Numbers (n, k) of an Arrow array of cells, NaN where missing; None where they are no arrays of one length."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(cells)
    first = next((cell for cell in trimmed.to_pylist() if cell), "")
    brackets = {"[": "]", "(": ")"}
    if first[:1] not in brackets or not pc.all(pc.starts_with(trimmed, first[0])).as_py():
        return None
    if not pc.all(pc.ends_with(trimmed, brackets[first[0]])).as_py():
        return None
    lists = pc.split_pattern(pc.utf8_slice_codeunits(trimmed, 1, -1), ",")
    lengths = pc.unique(pc.list_value_length(lists)).to_pylist()
    if len(lengths) != 1:
        return None
    flat = pc.utf8_trim_whitespace(pc.list_flatten(lists))
    known = pc.if_else(pc.is_in(flat, pa.array(["", "null", "NaN", "nan", "None"])), None, flat)
    try:
        numbers = pc.cast(known, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return np.asarray(numbers, np.float64).reshape(len(cells), -1)
