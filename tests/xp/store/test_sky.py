"""Places on the sky by source_id, against astropy's own."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy_healpix import HEALPix

from xpjax.xp import on_sky, pixel_centers
from xpjax.xp.store.sky import cone_ranges, pixel_ranges, separation, within


def test_pixel_centers_are_healpixs(rng: np.random.Generator) -> None:
    pixel = rng.integers(0, 12 << 24, 20)
    ra, dec = pixel_centers(pixel << 35)
    lon, lat = HEALPix(1 << 12, order="nested").healpix_to_lonlat(pixel)
    np.testing.assert_allclose(ra, lon.deg)
    np.testing.assert_allclose(dec, lat.deg)


def test_separations_are_astropys(rng: np.random.Generator) -> None:
    ra, dec = rng.uniform(0, 360, 50), rng.uniform(-90, 90, 50)
    expected = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(10.0, 20.0, unit="deg")).deg
    np.testing.assert_allclose(separation(ra, dec, 10.0, 20.0), expected, atol=1e-10)


@pytest.mark.parametrize("radius", [0.01, 3.0, 40.0])
def test_ranges_of_a_cone_hold_its_sources(rng: np.random.Generator, radius: float) -> None:
    ra0, dec0 = 123.0, -45.0
    ids = np.sort(rng.integers(0, 12 << 24, 20_000)) << 35
    inside = separation(*pixel_centers(ids), ra0, dec0) <= radius
    found = within(ids, cone_ranges(ra0, dec0, radius))
    assert (found | ~inside).all()


def test_pixels_next_to_each_other_are_one_range() -> None:
    np.testing.assert_array_equal(pixel_ranges(12, [3, 4, 5, 9]), np.array([[3, 6], [9, 10]]) << 35)
    with pytest.raises(ValueError, match=r"integers at a level of 0\.\.12"):
        pixel_ranges(13, [1])
    with pytest.raises(ValueError, match=r"has the pixels 0\.\.11"):
        pixel_ranges(0, [12])


def test_marks_of_unknown_positions_are_no_place() -> None:
    found = on_sky(np.array([10.0, -999.0, np.nan, 10.0]), np.array([5.0, -999.0, 1.0, 95.0]))
    assert found.tolist() == [True, False, False, False]
