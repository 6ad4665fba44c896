"""Observations: sentinels, frames, nights, matching, Gaia's corrections; cuts."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from xpjax.survey.observations import (
    concatenate,
    correct_gaia,
    group_median,
    make_observations,
    match_ids,
    match_positions,
    with_nights,
)
from xpjax.survey.selection import CUTS, PRESETS, corrected_excess, select


def test_sentinels_become_nan_and_frames_keep_their_order() -> None:
    o = make_observations(
        np.array([5, 6, 7]), np.array([1.0, np.inf, 3]), np.zeros(3), np.array([12.0, 99, -99]),
        np.array([0.1, 99, 0.1]),
        np.array([12.0, 13, 14]), exposure=np.array(["b", "a", "b"]), band="r", airmass=np.array([1.0, 1.5, 1.2]),
    )  # fmt: skip
    np.testing.assert_array_equal(np.isnan(o.magnitude), [False, True, True])
    np.testing.assert_array_equal(np.isnan(o.magnitude_error), [False, True, False])
    assert np.isnan(o.x[1])
    names = o.frames.exposure[o.frame].tolist()
    assert names == ["b", "a", "b"]
    np.testing.assert_allclose(o.frames.airmass[o.frame], [1.1, 1.5, 1.1])
    part = o.on_frames(o.frames.exposure == "b")
    assert len(part) == 2
    assert part.frames.exposure.tolist() == ["b"]
    with pytest.raises(ValueError, match="different lengths"):
        dataclasses.replace(o, x=np.zeros(2))


def test_nights_begin_after_gaps() -> None:
    times = [60000.1, 60000.3, 60000.9, 60001.0]
    parts = [
        make_observations(np.array([1]), *[np.zeros(1)] * 2, np.ones(1), None, None, exposure=str(t), time=t)
        for t in times
    ]
    nights = with_nights(concatenate(parts)).frames.night
    assert nights[0] == nights[1] != nights[2] == nights[3]


def test_group_median_is_numpys(rng: np.random.Generator) -> None:
    for n, groups in ((50, 20), (5000, 4)):
        values, group = rng.normal(size=n), rng.integers(0, groups, n)
        values[::7] = np.nan
        found = group_median(values, group, groups + 1)
        for k in range(groups):
            mine = values[(group == k) & np.isfinite(values)]
            np.testing.assert_equal(found[k], np.median(mine) if len(mine) else np.nan)
        assert np.isnan(found[groups])


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


def test_ids_match_once() -> None:
    found = match_ids(np.array([3, 0, 7, 9]), np.array([9, 3, 7, 7, 0]))
    assert found.index.tolist() == [1, -1, -1, 0]
    assert found.n_ambiguous == 1


def test_gaia_corrections_interpolate_and_clamp() -> None:
    table = {"G": np.array([10.0, 12.0]), "d_G": np.array([0.0, 0.01]), "d_BP": np.array([0.002, 0.002])}
    out = correct_gaia({"G": np.array([9.0, 11.0, 15.0]), "BP": np.array([9.0, 11.0, 15.0])}, table)
    np.testing.assert_allclose(out["G"], [9.0, 10.995, 14.99])
    np.testing.assert_allclose(out["BP"], [8.998, 10.998, 14.998])
    with pytest.raises(ValueError, match="no column 'd_RP'"):
        correct_gaia({"G": np.ones(1), "RP": np.ones(1)}, table)
    with pytest.raises(ValueError, match="ascend"):
        correct_gaia({"G": np.ones(1)}, {"G": np.array([2.0, 1.0]), "d_G": np.zeros(2)})


def test_cuts_report_what_they_took_and_what_they_lacked() -> None:
    columns = {"teff": np.array([5000.0, 6000, 6000]), "logg": np.array([4.5, 4.5, 3.0]), "feh": np.array([0, -2.0, 0])}
    done = select(columns, ["scr"])
    assert done.keep.tolist() == [False, False, False]
    assert done.removed == {"main_sequence": 1, "temperature": 1, "metallicity": 1}
    assert done.not_run["snr_g"] == ("snrg",)
    assert "snr_g: not run, no column snrg" in done.lines()
    assert select(columns, ["temperature"], {"teff_from": 4000}).keep.all()
    with pytest.raises(ValueError, match="no cut 'tempreture'"):
        select(columns, ["tempreture"])
    with pytest.raises(ValueError, match="no limit 'teff_form'"):
        select(columns, ["temperature"], {"teff_form": 1})
    assert all(name in CUTS for names in PRESETS.values() for name in names)


def test_a_presets_limit_depends_on_the_band() -> None:
    columns = {"magnitude_error": np.array([0.015, 0.025])}
    assert select(columns, ["jplus"], band="J0378").keep.tolist() == [True, True]
    assert select(columns, ["jplus"], band="g").keep.tolist() == [True, False]
    assert select(columns, ["jplus"], band="r").keep.tolist() == [False, False]


def test_corrected_excess_is_zero_on_the_published_locus() -> None:
    for x, published in (
        (0.0, 1.154360),
        (1.0, 1.162004 + 0.011464 + 0.049255 - 0.005879),
        (4.5, 1.057572 + 0.6324165),
    ):
        assert corrected_excess(np.array([x]), np.array([published]))[0] == pytest.approx(0, abs=1e-12)


def test_neighbors_vet_both_of_a_pair_by_flux() -> None:
    columns = {
        "ra": np.array([10.0, 10 + 2 / 3600, 11.0]), "dec": np.zeros(3), "magnitude": np.array([12.0, 18.0, 15.0]),
    }  # fmt: skip
    assert select(columns, ["neighbors"]).keep.tolist() == [True, False, True]
    assert select(columns, ["neighbors"], {"share": 1e-3}).keep.tolist() == [False, False, True]
