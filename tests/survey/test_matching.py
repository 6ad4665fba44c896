"""Rows matched by position and by identifier."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from xpjax.survey.matching import match_ids, match_positions


def test_positions_match_as_astropy_does(rng: np.random.Generator) -> None:
    ra, dec = rng.uniform(0, 1, 400), rng.uniform(60, 61, 400)
    near = rng.permutation(400)[:300]
    there = ra[near] + rng.normal(size=300) * 0.2 / 3600, dec[near] + rng.normal(size=300) * 0.1 / 3600
    found = match_positions(ra, dec, *there)
    index, separation, _ = SkyCoord(ra * u.deg, dec * u.deg).match_to_catalog_sky(SkyCoord(*there, unit="deg"))
    matched = found.index >= 0
    np.testing.assert_array_equal(matched, separation.arcsec <= 1)
    np.testing.assert_array_equal(found.index[matched], index[matched])
    assert found.n_ambiguous == 0
    assert match_positions(ra, dec, *there, radius=0.1).n_matched < found.n_matched


def test_ambiguous_positions_are_dropped_and_counted() -> None:
    ra, dec = np.array([10.0, 20.0, 30.0, 30.0 + 0.2 / 3600, 40.0]), np.zeros(5)
    there = np.array([10.0, 10 + 0.5 / 3600, 20.0, 30.0])
    found = match_positions(ra, dec, there, np.zeros(4))
    assert found.index.tolist() == [-1, 2, -1, -1, -1]
    assert found.n_ambiguous == 3


def test_proper_motion_is_applied() -> None:
    here = np.array([10.0]), np.array([60.0])
    motion = {"pm_ra": np.array([1000.0]), "pm_dec": np.array([-500.0])}
    moved = here[0] + 5.0 / 3600 / np.cos(np.deg2rad(60)), here[1] - 2.5 / 3600
    assert match_positions(*moved, *here).n_matched == 0
    assert match_positions(*moved, *here, **motion, years=5.0).n_matched == 1
    assert match_positions(*moved, *here, **motion, years=-5.0).n_matched == 0


def test_every_row_has_its_own_time_and_rows_of_one_frame_share_no_star() -> None:
    here = np.array([10.0, 11.0]), np.array([60.0, 60.0])
    motion = {"pm_ra": np.array([1000.0, 30.0]), "pm_dec": np.array([-500.0, 0.0])}
    years = np.array([-5.0, 0.0, 5.0, 5.0, np.nan])
    star = np.array([0, 0, 0, 1, 1])
    moved = np.nan_to_num(years) / 3.6e6
    ra = here[0][star] + moved * motion["pm_ra"][star] / np.cos(np.deg2rad(60))
    dec = here[1][star] + moved * motion["pm_dec"][star]
    found = match_positions(ra, dec, *here, **motion, years=years, frame=np.array([0, 1, 2, 2, 3]))
    assert (found.index.tolist(), found.n_ambiguous) == (star.tolist(), 0)
    assert match_positions(ra, dec, *here, **motion, frame=np.arange(5)).n_matched == 3  # at one time
    assert match_positions(ra, dec, *here, **motion, years=years).n_matched == 0  # all on one frame
    twice = match_positions(ra, dec, *here, **motion, years=years, frame=np.array([0, 0, 2, 2, 3]))
    assert (twice.index.tolist(), twice.n_ambiguous) == ([-1, -1, 0, 1, 1], 2)


def test_ids_match_once() -> None:
    found = match_ids(np.array([3, 0, 7, 9]), np.array([9, 3, 7, 7, 0]))
    assert found.index.tolist() == [1, -1, -1, 0]
    assert found.n_ambiguous == 1
