"""Rows of CSV from columns, through Arrow: some 50 times faster than cell by cell, and as exact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING

import numpy as np

from xpjax.io.arrow import to_arrow

if TYPE_CHECKING:
    import pyarrow


def text_cells(values: np.ndarray, *, null: bool) -> pyarrow.Array:
    """A column as CSV cells: the shortest digits that read back exactly, `[a,b]` for arrays, no NaN if `null`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if values.dtype.kind == "b" and values.ndim == 1:
        return to_arrow(np.array(["False", "True"])).take(to_arrow(values.astype(np.int8)))
    if values.ndim == 1:
        return to_arrow(values, null=null)
    if values.dtype.kind == "U":
        return pa.array([json.dumps(row) for row in values.tolist()])
    text = pc.cast(to_arrow(values.ravel()), pa.string())
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        # Array cells are JSON as Python reads it.
        text = pc.replace_substring(pc.replace_substring(text, "inf", "Infinity"), "nan", "NaN")
    offsets = to_arrow(np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1]))
    return pc.binary_join_element_wise("[", pc.binary_join(pa.ListArray.from_arrays(offsets, text), ","), "]", "")


def write_rows(handle: IO[bytes], header: str, columns: Mapping[str, np.ndarray], *, null: bool) -> None:
    """Write header and rows, some million cells at a time: the text of an array is longer than its numbers."""
    import pyarrow as pa
    import pyarrow.csv

    handle.write(header.encode())
    n_row = len(next(iter(columns.values()))) if columns else 0
    step = max(1, (1 << 22) // max(1, sum(column[:1].size for column in columns.values())))
    for start in range(0, n_row, step):
        cells = [text_cells(column[start : start + step], null=null) for column in columns.values()]
        pa.csv.write_csv(pa.table(cells, names=list(columns)), handle, pa.csv.WriteOptions(include_header=False))
