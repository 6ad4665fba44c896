"""Conditions on columns as text: what they choose, and what they refuse."""

import numpy as np
import pytest

from xpjax.core.conditions import parse_where
from xpjax.core.errors import XpjaxError

COLUMNS = {"g": np.array([14.0, 16.0, np.nan]), "bits": np.array([1, 6, 3]), "known": np.array([True, False, True])}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g < 15", [True, False, False]),
        ("13 < g <= 16", [True, True, False]),
        ("not g < 15", [False, True, True]),
        ("bits & 2", None),
        ("(bits & 2) == 2 and g > 0 or known", [True, True, True]),
        ("-g + 2 ** 4 == 0", [False, True, False]),
        ("known", [True, False, True]),
    ],
)
def test_conditions(text: str, expected: list[bool] | None) -> None:
    where = parse_where(text)
    if expected is None:
        with pytest.raises(XpjaxError, match="it gives no yes or no for each source"):
            where(COLUMNS)
    else:
        assert where(COLUMNS).tolist() == expected


def test_names_are_told_once() -> None:
    assert parse_where("g > 1 and bits > g").names == ("g", "bits")


@pytest.mark.parametrize(
    "text", ["", "g <", "open('x')", "g.real > 1", "g[0] > 1", "'a' == g", "9223372036854775808 > g"]
)
def test_all_else_is_refused(text: str) -> None:
    with pytest.raises(XpjaxError, match="where"):
        parse_where(text)
