"""NumPy's arrays as Arrow's and back, without pandas: pyarrow's own functions import it, for 0.2 to 0.5 s of a process.

These are `pyarrow.array`, `to_numpy`, `numpy.asarray` of an Arrow array, and every call with a plain number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.io.gaps import has_gaps

if TYPE_CHECKING:
    import pyarrow

FEW = 10_000
"""Cells of text that are encoded one by one: of more pyarrow's way is faster, even with pandas imported."""


def to_arrow(values: np.ndarray, *, null: bool = False) -> pyarrow.Array:
    """Numbers, booleans or text (n,) as Arrow has them: numbers in place, nulls where they are masked.

    null: NaN becomes a null too.
    """
    import pyarrow as pa

    many = values.dtype.kind == "U" and len(values) > FEW
    if has_gaps(values) or values.ndim != 1 or values.dtype.kind not in "iufbU" or many:
        return pa.array(values, from_pandas=null)
    values = np.ma.getdata(values)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)  # Arrow knows the machine's order of bytes alone
    if values.dtype.kind == "U":
        return _text(values)
    kind = pa.from_numpy_dtype(values.dtype)
    packed = _bits(values) if values.dtype.kind == "b" else pa.py_buffer(np.ascontiguousarray(values))
    gone = np.isnan(values) if null and values.dtype.kind == "f" else np.zeros(1, bool)
    return pa.Array.from_buffers(kind, len(values), [_bits(~gone) if gone.any() else None, packed])


def _bits(values: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.py_buffer(np.packbits(values, bitorder="little"))


def _text(values: np.ndarray) -> pyarrow.Array:
    import pyarrow as pa

    cells = [cell.encode() for cell in values.tolist()]
    ends = np.cumsum([0, *map(len, cells)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(cells))]
    return pa.Array.from_buffers(pa.string(), len(cells), buffers)


def from_arrow(column: pyarrow.Array | pyarrow.ChunkedArray) -> np.ndarray:
    """Numbers or booleans (n,) of a column, anything where it has nulls; in place where it is one piece of numbers."""
    import pyarrow as pa

    if isinstance(column, pa.Array):
        return _values(column)
    parts = [_values(chunk) for chunk in column.chunks] or [np.zeros(0, column.type.to_pandas_dtype())]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def nulls(column: pyarrow.Array | pyarrow.ChunkedArray) -> np.ndarray:
    """Where a column (n,) has nulls."""
    return from_arrow(column.is_null()) if column.null_count else np.zeros(len(column), bool)


def _values(array: Any) -> np.ndarray:
    """What lies in the buffer of an Arrow array of numbers or booleans."""
    start, stop, boolean = array.offset, array.offset + len(array), str(array.type) == "bool"
    dtype = np.dtype(np.uint8 if boolean else array.type.to_pandas_dtype())
    buffer = array.buffers()[1]
    if buffer is None:  # of an array of length zero
        return np.zeros(len(array), bool if boolean else dtype)
    flat = np.frombuffer(buffer, dtype, -(-stop // 8) if boolean else stop)
    return np.unpackbits(flat, count=stop, bitorder="little")[start:].astype(bool) if boolean else flat[start:]
