"""Zero-points of tiles by one method, and by two brought together."""

import numpy as np
import pytest

from benchmarks.scr import homogenized, zero_points
from xpjax.survey.scr.homogenize import BandZeroPoints, homogenize_band, tile_zero_points


def test_weighted_means_of_tiles_without_outliers() -> None:
    rng = np.random.default_rng(0)
    tile = np.repeat(np.arange(50), 40)
    error = rng.uniform(0.005, 0.02, len(tile))
    true = rng.normal(0, 0.05, 50)
    d = true[tile] + error * rng.normal(size=len(tile))
    plain = tile_zero_points(d, error, tile, 52, clip=0)
    weight = error**-2
    np.testing.assert_allclose(plain.value[7], np.average(d[tile == 7], weights=weight[tile == 7]), atol=1e-4)
    assert np.isnan(plain.value[50:]).all()
    assert plain.count.tolist() == [40] * 50 + [0, 0]
    d[::20] += 1
    d[3] = np.nan
    found = tile_zero_points(d, error, tile, 52)
    pull = (found.value[:50] - true) / found.error[:50]
    assert 0.75 < pull.std() < 1.3
    spoilt = tile_zero_points(d, error, tile, 52, clip=0)
    assert np.abs(spoilt.value[:50] - true).max() > 0.02
    none = tile_zero_points(d[:0], error[:0], tile[:0], 3)
    assert np.isnan(none.value).all()


def both(n: int = 100) -> tuple[BandZeroPoints, BandZeroPoints]:
    rng = np.random.default_rng(1)
    true = rng.normal(0, 0.03, n)
    e = np.full(n, 0.002)
    first = BandZeroPoints(true + e * rng.normal(size=n), e, np.full(n, 30))
    second = BandZeroPoints(true - 0.02 + np.hypot(e, 0.004) * rng.normal(size=n), e, np.full(n, 90))
    first.value[:10], first.count[:10] = np.nan, 0
    return first, second


def test_the_offset_is_measured_on_the_overlap() -> None:
    first, second = both()
    found = homogenize_band(first, second)
    assert found.scale.n_overlap == 90
    assert abs(found.scale.offset - 0.02) < 4 * found.scale.offset_error
    assert 0.3e-3 < found.scale.offset_error < 0.8e-3
    assert 0.003 < found.scale.scatter < 0.0055
    assert (found.method[:10] == "XPSP").all()
    assert (found.method[10:] == "SCR").all()
    np.testing.assert_allclose(found.value[:10], second.value[:10] + found.scale.offset)
    np.testing.assert_allclose(found.value[10:], first.value[10:])
    assert (found.error[:10] > found.scale.scatter).all()
    assert (found.systematic[:10] == found.scale.offset_error).all()
    assert (found.systematic[10:] == 0).all()


def test_nothing_ties_methods_that_share_no_tile() -> None:
    first, second = both()
    second.value[10:] = np.nan
    found = homogenize_band(first, second)
    assert found.scale.n_overlap == 0
    assert np.isnan(found.scale.offset)
    assert (found.method[:10] == "").all()
    assert np.isnan(found.value[:10]).all()
    first.value[:] = np.nan
    alone = homogenize_band(first, both()[1])
    assert (alone.method == "XPSP").all()
    np.testing.assert_allclose(alone.value, both()[1].value)
    with pytest.raises(ValueError, match="give the same tiles"):
        homogenize_band(both(5)[0], second)


@pytest.mark.slow
def test_simulated_jplus() -> None:
    """SCR against XPSP with errors of tiles in common: what was put in is what comes out."""
    rows = zero_points(0, n_tile=60, per_tile=40)
    for row in rows:
        assert 0.8 < row["measured"] / row["predicted"] < 1.25
        assert 0.75 < row["left"] / row["formal"] < 1.35
    assert rows[0]["measured"] > 2 * rows[7]["measured"]  # u and r


def test_simulated_tiles_without_spectroscopy() -> None:
    off, error, pull = homogenized(0, n_tile=60, per_tile=40)
    assert abs(off) < 4 * error
    assert 0.3 < pull.std() < 2.2
    assert np.isfinite(pull).all()
