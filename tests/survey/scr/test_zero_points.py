"""Tables of zero-points: read, sliced, homogenized, written and read back."""

from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.survey.scr.test_homogenize import both
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import write
from xpjax.survey.scr import TileZeroPoints, homogenize, read_homogenized, read_zero_points
from xpjax.survey.scr.zero_points import homogenized as whole_table


def test_zero_points_in_other_units_and_without_a_systematic_error(tmp_path: Path) -> None:
    columns = {"exposure": np.array(["a", "b"]), "zero_point": np.array([24100.0, 24200.0])}
    errors = {"zero_point_error": np.array([3.0, 3.0]), "zero_point_systematic": np.array([4.0, np.nan])}
    units = dict.fromkeys(("zero_point", *errors), "mmag")
    write(tmp_path / "z.ecsv", Catalogue({**columns, **errors}, units))
    found = read_zero_points(tmp_path / "z.ecsv")
    np.testing.assert_allclose(found.value, [24.1, 24.2])
    np.testing.assert_allclose(found.error, [0.005, 0.003])


def test_the_table_says_which_method() -> None:
    first, second = both()
    table = whole_table(np.arange(100), np.full(100, ""), {"u": (first, second)}).catalogue()
    assert len(table) == 100
    assert {"tile", "band", "zero_point", "method", "scr_zero_point", "xpsp_n_used", "offset"} <= set(table.columns)


def two(n: int = 20) -> tuple[TileZeroPoints, TileZeroPoints]:
    """Two methods in two bands on two detectors; the first lacks the first rows."""
    rng = np.random.default_rng(3)
    tile, detector = np.array([f"t{k:02d}" for k in range(2 * n)]), np.tile(["a", "b"], n)
    band = np.repeat(["g", "r"], n)
    true = 24 + rng.normal(0, 0.03, 2 * n)
    error = np.full(2 * n, 0.002)
    parts = [
        TileZeroPoints(tile, band, detector, true + off + error * rng.normal(size=2 * n), error, np.full(2 * n, 30))
        for off in (0.0, -0.02)
    ]
    return parts[0][4:], parts[1]


def test_zero_points_are_tables_and_come_back(tmp_path: Path) -> None:
    first, second = two()
    assert len(second[:7]) == 7
    assert first.to_table()["zero_point"].unit == "mag"
    write(tmp_path / "first.parquet", first)
    back = read_zero_points(tmp_path / "first.parquet")
    for name in TileZeroPoints.row_fields:
        np.testing.assert_array_equal(getattr(back, name), getattr(first, name))
    assert len(repr(first).splitlines()) == 1 or len(repr(first)) < 400


@pytest.mark.parametrize("suffix", ["ecsv", "parquet", "fits"])
def test_homogenized_zero_points_come_back(tmp_path: Path, suffix: str) -> None:
    found = homogenize(*two())
    assert (found.method[found.tile < "t04"] != "SCR").all()
    xpjax.write(tmp_path / f"both.{suffix}", found)
    back = read_homogenized(tmp_path / f"both.{suffix}")
    assert back.names == found.names
    for name in ("value", "error", "systematic", "method", "tile", "band"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
    np.testing.assert_array_equal(back.second.value, found.second.value)
    assert back.scales["g"] == found.scales["g"]
    assert len(found[found.band == "g"]) == len(found) / 2
    table = found.to_table()
    assert all(table[name].description for name in table.colnames)
    xpjax.write(tmp_path / "first.ecsv", two()[0])
    with pytest.raises(ValueError, match="is no table of homogenized zero-points"):
        read_homogenized(tmp_path / "first.ecsv")


def test_methods_have_two_names() -> None:
    with pytest.raises(ValueError, match="give two different names"):
        homogenize(*two(), names=("SCR", "scr"))
