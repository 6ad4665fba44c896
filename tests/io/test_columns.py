"""Columns of several tables as one: integers keep their digits, and what a table lacks is missing."""

import numpy as np
import pytest

from xpjax.io.columns import join_columns

BIG = 4472832130942575872


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (([1, 2], [3]), [1, 2, 3]),
        (([1, 2], None), [1, 2, np.nan]),
        (([BIG, BIG + 1], None), [BIG, BIG + 1, 0]),
        (([BIG, BIG + 1], [np.nan]), [BIG, BIG + 1, 0]),
        (([1.5, 2.5], [3]), [1.5, 2.5, 3.0]),
        ((["a", "b"], [5.0]), ["a", "b", "5"]),
        ((["a", "b"], None), ["a", "b", ""]),
        (([[1.0, 2.0], [3.0, 4.0]], None), [[1, 2], [3, 4], [np.nan, np.nan]]),
        (([True, False], [True]), [True, False, True]),
    ],
)
def test_columns_are_joined(parts: tuple, expected: list) -> None:
    found = join_columns([None if part is None else np.array(part) for part in parts], [2, 1])
    assert np.array_equal(found, np.array(expected), equal_nan=found.dtype.kind == "f")
    assert found.dtype.kind == np.array(expected).dtype.kind


def test_empty_tables_have_no_say() -> None:
    assert join_columns([np.zeros(0, "U1"), np.array([1, 2])], [0, 2]).dtype == np.int64
    uneven = join_columns([np.ones((1, 2)), np.ones((1, 3))], [1, 1])
    assert [len(row) for row in uneven] == [2, 3]
