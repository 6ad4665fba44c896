"""Columns of numbers in text files: every digit, and the line of what is no number."""

from pathlib import Path

import numpy as np
import pytest

from xpjax.core.errors import XpjaxError
from xpjax.io.number_text import number_columns, number_lines

PATH = Path("a.txt")


def test_numbers_are_those_of_numpy() -> None:
    rng = np.random.default_rng(1)
    table = rng.normal(size=(500, 2)) * 10.0 ** rng.integers(-30, 30, (500, 1))
    lines = [f"{float(a)!r} {float(b):.7g} more" for a, b in table]
    found = number_columns(PATH, "# a comment\n\n" + "\n".join(lines), 2)
    assert np.array_equal(found, np.loadtxt(lines, usecols=(0, 1)).T)


@pytest.mark.parametrize("text", ["1,2\n3, 4", " 1 2 # one\n\t3\t4 !", "1D0 2\n3. 0.4d+1", "% w f\n1 2 5\n3 4 6\n"])
def test_ways_to_write_numbers(text: str) -> None:
    assert number_columns(PATH, text, 2).tolist() == [[1, 3], [2, 4]]


def test_words_above_the_numbers() -> None:
    text = "wavelength R\n[nm] [1]\n1,2\n3,4"
    assert number_columns(PATH, text, 2, heading=True).tolist() == [[1, 3], [2, 4]]
    assert [number for number, _ in number_lines(text, heading=True)] == [3, 4]
    with pytest.raises(XpjaxError, match=r"a\.txt: line 1: expected numbers, found 'wavelength R'; mend it, or mark"):
        number_columns(PATH, text, 2)


@pytest.mark.parametrize("cell", ["x", "nan", "inf", "1_0", ""])
def test_what_is_no_number_is_named(cell: str) -> None:
    with pytest.raises(XpjaxError, match="line 3: expected numbers"):
        number_columns(PATH, f"1 2\n# remark\n3 {cell}", 2)


def test_no_numbers() -> None:
    assert number_columns(PATH, "# nothing\n", 2).shape == (2, 0)
