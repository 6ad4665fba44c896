"""Arrays of NumPy and Arrow, by pyarrow's own ways, which import pandas, and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from xpjax.core.records import Catalogue
from xpjax.io.arrow import from_arrow, nulls, to_arrow
from xpjax.io.catalogue import read_catalogue, write

PROGRAM = """
import sys
import numpy as np
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import read_catalogue, write
columns = {"source_id": np.arange(3), "flag": np.arange(3) > 1, "name": np.array(["a", "", "Proxima Cen"])}
columns["flux"] = np.array([1.0, np.nan, 3.0], "f4")
write("plain.csv", Catalogue(columns))
write("plain.parquet", Catalogue(columns))
back = read_catalogue("plain.parquet").columns
assert all((back[name] == column)[[0, 2]].all() for name, column in columns.items()), back
sys.exit("pandas" in sys.modules)
"""


@pytest.mark.parametrize("kind", ["i1", "i4", "i8", "u2", "u8", "f2", "f4", "f8", "?"])
@pytest.mark.parametrize("n", [0, 1, 8, 21])
def test_numbers_go_to_arrow_and_back_as_pyarrow_takes_them(kind: str, n: int) -> None:
    values = (np.arange(n) % 3).astype(kind)
    made, expected = to_arrow(values), pa.array(values)
    assert made.type == expected.type
    assert made.equals(expected)
    for array in (expected, expected[3:], expected[1:-2], pa.chunked_array([expected[:2], expected[2:]])):
        back = from_arrow(array)
        np.testing.assert_array_equal(back, array.to_numpy(zero_copy_only=False), strict=True)


def test_strides_text_and_masks_are_kept() -> None:
    values = np.arange(10)[::-2]
    assert to_arrow(values).equals(pa.array(values))
    text = np.array(["a", "", "\u03b1 Cen", "b" * 20])
    assert to_arrow(text).equals(pa.array(text))
    assert to_arrow(text[:0]).equals(pa.array(text[:0]))
    with_nan = np.array([1, np.nan, 3])
    for null in (True, False):
        assert str(to_arrow(with_nan, null=null)) == str(pa.array(with_nan, from_pandas=null))
    masked = np.ma.array([1, 2, 3], mask=[False, True, False])
    assert to_arrow(masked).to_pylist() == [1, None, 3]
    assert to_arrow(np.ma.array([1, 2])).to_pylist() == [1, 2]


@pytest.mark.parametrize("kind", [">f4", ">f8", ">i2", ">i8", ">u4", ">U5"])
def test_the_order_of_bytes_changes_no_number(kind: str, tmp_path: Path) -> None:
    """As FITS has it."""
    values = np.array([1, 2, 70]).astype(kind)
    assert to_arrow(values).equals(pa.array(values.astype(values.dtype.newbyteorder("="))))
    for name in ("a.parquet", "a.csv", "a.fits", "a.h5"):
        write(tmp_path / name, Catalogue({"x": values}))
        back = read_catalogue(tmp_path / name).columns["x"]
        np.testing.assert_array_equal(np.asarray(back).astype(values.dtype), values, err_msg=name)


def test_nulls_are_found_in_pieces_and_parts_of_arrays() -> None:
    array = pa.array([None, 1, None, 3, 4] * 4)
    column = pa.chunked_array([array[:7], array[9:]])
    for one in (array, array[3:17], column):
        np.testing.assert_array_equal(nulls(one), [value is None for value in one.to_pylist()], strict=True)
    np.testing.assert_array_equal(nulls(pa.array([1.0, np.nan])), [False, False], strict=True)


def test_tables_are_written_and_read_without_pandas(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, check=True)
