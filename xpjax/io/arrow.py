"""NumPy's arrays as Arrow's and back, without pandas: pyarrow's own functions import it, for 0.2 to 0.5 s of a process.

These are `pyarrow.array`, `to_numpy`, `numpy.asarray` of an Arrow array, and every call with a plain number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.io.gaps import has_gaps

if TYPE_CHECKING:
    import pyarrow


def to_arrow(values: np.ndarray) -> pyarrow.Array:
    """An array (n,) as Arrow has it: of numbers in place, without nulls; nulls where it is masked."""
    import pyarrow as pa

    if has_gaps(values) or values.ndim != 1 or values.dtype.kind not in "iufb":
        return pa.array(values)
    values = np.ma.getdata(values)
    kind = pa.from_numpy_dtype(values.dtype)
    packed = np.packbits(values, bitorder="little") if values.dtype.kind == "b" else np.ascontiguousarray(values)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(packed)])


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
