"""Columns as formats give them: numbers, text, arrays, and where they are missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.arrow import nulls
from xpjax.io.tables.column import Ragged


@dataclasses.dataclass(frozen=True)
class Raw:
    """A column as a format gives it: values (n, ...) and where they are missing; see `Column`.

    values may also be `Ragged`. missing of arrays of floats is of whole rows: within them NaN is missing.
    """

    values: Any
    missing: np.ndarray
    typed: bool = True


def arrays(rows: Sequence[np.ndarray]) -> Raw:
    """Arrays of numbers, one a row and none where missing: (n, k) where all are of one length."""
    length = np.array([row.size for row in rows], np.int64)
    flat = np.concatenate([np.ravel(row) for row in rows]) if rows else np.zeros(0)
    return uneven(flat, length)


def uneven(flat: np.ndarray, length: np.ndarray) -> Raw:
    """The same from numbers end to end, and how many each row has."""
    sizes = np.unique(length[length > 0])
    missing = length == 0
    if len(sizes) > 1:
        return Raw(Ragged(flat, length), missing)
    size = int(sizes[0]) if len(sizes) else 0
    if not missing.any():
        return Raw(flat.reshape(len(length), size), missing)
    values = np.full((len(length), size), np.nan, np.result_type(flat, np.float32))
    values[~missing] = flat.reshape(-1, size) if size else values[~missing]
    return Raw(values, missing)


def text(cells: Any, missing: np.ndarray | None = None, *, typed: bool = True) -> Raw:
    """A column of text from a sequence of str, bytes and None, or an Arrow array of strings."""
    import pyarrow as pa

    array = cells
    if not isinstance(cells, pa.Array | pa.ChunkedArray):
        decoded = [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell for cell in cells]
        array = pa.array(decoded, pa.string(), from_pandas=True)
    if array.type not in (pa.string(), pa.large_string()):
        array = array.cast(pa.large_string())
    gone = nulls(array)
    return Raw(array, gone if missing is None else gone | missing, typed)


def plain(values: np.ndarray, missing: np.ndarray, where: str) -> Raw:
    """A column of NumPy's numbers, booleans or text; of arrays of floats single numbers are NaN where missing.

    Raises XpjaxError for what is none of these.
    """
    if values.dtype.kind in "SU":
        return text(values.tolist(), missing)
    if values.dtype.kind not in "iufbc":
        raise XpjaxError(
            f"{where} holds {values.dtype}, expected numbers or text; name another column, or leave it out"
        )
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    if values.dtype.kind != "f":
        return Raw(values, missing)
    if values.ndim == 1:
        return Raw(values, missing | np.isnan(values))
    values = np.where(missing, np.nan, values).astype(values.dtype) if missing.any() else values
    return Raw(values, np.zeros(len(values), bool))
