"""What cells of text mean, the same for every reader."""

import numpy as np
import pytest

from xpjax.core.errors import XpjaxError
from xpjax.io.words import abridged, integer, is_missing, parse_number, whole_number


def test_missing_words() -> None:
    assert all(map(is_missing, ["", " NaN ", "null", "N/A", "<NA>", "--", "---", "\\N", "INDEF"]))
    assert all(map(is_missing, [None, np.nan, np.ma.masked, np.datetime64("NaT")]))
    assert not any(map(is_missing, ["0", "inf", "none of these", 0, 0.0, False, "x" * 30]))


def test_numbers() -> None:
    assert parse_number(" 1e-3 ") == 0.001
    assert np.isnan(parse_number("null"))
    for text in ("1_0", "12h", ""):
        with pytest.raises(ValueError, match=r"could not convert|not a number"):
            parse_number(text)


def test_integers_keep_their_digits() -> None:
    assert integer(" -9223372036854775808 ") == -(2**63)
    assert integer(np.float64(2**53)) == 2**53
    others = ("9223372036854775808", "1.0", "+1", "\u0663", 2.0**54, 1.5, True, None)
    assert not [cell for cell in others if integer(cell) is not None]
    assert whole_number("12", "a") == 12
    with pytest.raises(XpjaxError, match="line 3: '-1' is no whole number"):
        whole_number("-1", "line 3")


def test_long_cells_are_abridged() -> None:
    assert abridged("x" * 99) == f"'{'x' * 35}...'"
    assert abridged(5) == "5"
