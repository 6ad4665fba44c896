"""Cuts of standards."""

import numpy as np
import pytest

from xpjax.survey.selection import CUTS, PRESETS, corrected_excess, select


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


def test_a_star_on_two_frames_is_no_neighbor_of_itself() -> None:
    ra = np.array([10.0, 10.0 + 2 / 3600, 11.0] * 2)
    columns = {
        "ra": ra,
        "dec": np.zeros(6),
        "magnitude": np.array([14.0, 20.0, 14.0] * 2),
        "frame": np.repeat([0, 7], 3),
    }
    assert select(columns, ["neighbors"]).keep.tolist() == [True, False, True] * 2
    assert not select({k: v for k, v in columns.items() if k != "frame"}, ["neighbors"]).keep.any()


def test_columns_that_later_releases_lack_are_no_mistake() -> None:
    stars = {"bp_rp": np.ones(3), "phot_g_mean_mag": np.full(3, 14.0), "ruwe": np.array([1.0, 2.0, 1.0])}
    found = select(stars, ["excess_factor", "corrected_excess", "ruwe"])
    assert found.keep.tolist() == [True, False, True]
    found.check_ran(["excess_factor", "corrected_excess", "ruwe"], "stars.csv")
    lines = [line for line in found.lines() if "not run" in line]
    gone = "not run, no column phot_bp_rp_excess_factor (which releases after Gaia DR3 lack)"
    assert lines == [f"excess_factor: {gone}", f"corrected_excess: {gone}"]
    present = select({**stars, "phot_bp_rp_excess_factor": np.array([1.2, 1.2, 1.5])}, ["excess_factor"])
    assert present.keep.tolist() == [True, True, False]
    for absent in ("bp_rp", "ruwe"):  # what every release has is missed
        some = select({name: column for name, column in stars.items() if name != absent}, ["excess_factor", "ruwe"])
        with pytest.raises(ValueError, match=f"no column .*{absent}"):
            some.check_ran(["excess_factor", "ruwe"], "stars.csv")
