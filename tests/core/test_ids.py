"""Rows found by id."""

import numpy as np
import pytest

from xpjax.core.ids import places_of


def test_places_are_those_of_a_dictionary(rng: np.random.Generator) -> None:
    reference, ids = rng.integers(0, 60, 80), rng.integers(-5, 65, 200)
    first = {int(i): k for k, i in reversed(list(enumerate(reference)))}
    np.testing.assert_array_equal(places_of(ids, reference), [first.get(int(i), -1) for i in ids])


@pytest.mark.parametrize("big", [5405570973190252288, 2**63 - 1])
def test_neighboring_ids_are_told_apart(big: int) -> None:
    """float64 cannot tell them apart."""
    reference = np.array([big - 1, big])
    np.testing.assert_array_equal(places_of(np.array([big, big - 2, big - 1]), reference), [1, -1, 0])


def test_nothing_and_names() -> None:
    assert places_of(np.array([1, 2]), np.empty(0, np.int64)).tolist() == [-1, -1]
    assert places_of(np.empty(0, np.int64), np.array([3])).tolist() == []
    assert places_of(np.array(["b", "c"]), np.array(["a", "b"])).tolist() == [1, -1]
