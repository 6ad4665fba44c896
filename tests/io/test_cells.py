"""Columns of array cells: with and without simdjson, and from arrays in memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from xpjax.io import cells, columns

CELLS = ["[1.5,-2e-3,3]", "(0.1, 1e300, 7)", "", "[nan,1,2]", "[]", "[12345678901234567, 0.30000000000000004, -0.0]"]


@pytest.mark.parametrize("fast", [True, False])
def test_texts_are_rounded_to_the_nearest(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setitem(sys.modules, "simdjson", None)
    rng = np.random.default_rng(3)
    numbers = rng.normal(size=(300, 40)) * 10.0 ** rng.integers(-20, 20, size=(300, 40))
    found = cells.from_texts([str(row.tolist()) for row in numbers])
    np.testing.assert_array_equal(found.rows(40), numbers)
    odd = cells.from_texts(CELLS)
    np.testing.assert_array_equal(odd.length, [3, 3, 0, 3, 0, 3])
    expected = [1.5, -2e-3, 3, 0.1, 1e300, 7, np.nan, 1, 2, 12345678901234567.0, 0.30000000000000004, -0.0]
    np.testing.assert_array_equal(np.concatenate(odd.cells()), expected)


@pytest.mark.parametrize("cell", ["[1,,2]", "[1 2]", "[1,true]", '["a"]', "[1,[2]]", "[1,2"])
def test_bad_texts_cost_their_row(cell: str) -> None:
    found = cells.from_texts(["[1,2]", cell, "[3,4]"])
    assert found.length[0] == found.length[2] == 2
    assert found.length[1] in (-1, 3)
    np.testing.assert_array_equal(np.concatenate(found.cells())[[0, 1, -2, -1]], [1, 2, 3, 4])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_in_memory_keep_their_type(dtype: type) -> None:
    given = [np.arange(4, dtype=dtype), None, np.eye(2, dtype=dtype), np.nan]
    found = cells.as_vectors(columns.objects(given))
    assert found.values.dtype == dtype
    np.testing.assert_array_equal(found.length, [4, 0, 4, 0])
    np.testing.assert_array_equal(np.concatenate(found.cells()), [0, 1, 2, 3, 1, 0, 0, 1])
    mixed = cells.as_vectors([np.arange(2, dtype=np.int64), [0.5, 1.5]])
    np.testing.assert_array_equal(np.concatenate(mixed.cells()), [0, 1, 0.5, 1.5])
