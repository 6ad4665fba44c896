"""Solutions applied: to the rows that made them, to others of their frames, and to new frames."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.joint import BANDS, drifting
from tests.survey.joint.nights import MODEL, N_NIGHT, observe, of_nights
from tests.survey.joint.test_extend import EXTINCTION, differences
from xpjax.survey import FrameFlag, Observations, RowFlag
from xpjax.survey.joint import (
    Constraint,
    JointModel,
    JointSolution,
    Parameter,
    Transmission,
    ZeroPoint,
    apply_joint,
    extend_joint,
    solve_joint,
    xp_prior,
)
from xpjax.survey.joint.files import read_joint_solution, write_joint_solution

PRIOR = dataclasses.replace(MODEL, star_prior=True, constraints=(Constraint("flat"),))


@pytest.fixture(scope="module")
def observations() -> Observations:
    return observe()


@pytest.fixture(scope="module")
def solved(observations: Observations) -> JointSolution:
    return solve_joint(observations, PRIOR)


@pytest.mark.parametrize("model", [MODEL, PRIOR, EXTINCTION])
def test_the_same_rows_have_the_same_magnitudes(observations: Observations, model: object, tmp_path: Path) -> None:
    found = solve_joint(observations, model)
    write_joint_solution(tmp_path / "joint.h5", found)
    theirs = found.calibrated(observations).columns
    known = np.isfinite(theirs["magnitude"])
    assert known.sum() > 0.99 * len(observations)
    some = np.random.default_rng(0).permutation(len(observations))[:900]
    for solution in (found, read_joint_solution(tmp_path / "joint.h5")):
        for rows in (slice(None), some):  # the same rows, and some in another order
            ours = apply_joint(solution, observations[rows]).columns
            for name in ("magnitude", "star_magnitude", "residual"):
                np.testing.assert_allclose(ours[name][known[rows]], theirs[name][rows][known[rows]], rtol=0, atol=1e-9)
            np.testing.assert_array_equal(ours["magnitude_error"], theirs["magnitude_error"][rows])
            added, error = found.correction(observations[rows])
            np.testing.assert_allclose(ours["magnitude"], (observations.magnitude[rows] + added), atol=1e-9)
            np.testing.assert_allclose(ours["correction_error"], error, rtol=1e-6)
            assert not ours["exposure_status"].any()
    assert list(theirs)[:9] == list(ours)[:9]


@pytest.mark.parametrize("through_a_file", [False, True])
def test_rows_that_took_no_part_are_calibrated_alike(
    observations: Observations, through_a_file: bool, tmp_path: Path
) -> None:
    """Without an error, cut, or of a star that has no other: as `apply_joint` has them, and flags of what is lost."""
    o = dataclasses.replace(
        observations, star=observations.star.copy(), excluded=observations.excluded.copy(),
        x=observations.x.copy(), magnitude_error=observations.magnitude_error.copy(), color=observations.color.copy(),
    )  # fmt: skip
    o.magnitude_error[0], o.x[1], o.color[2] = np.nan, np.nan, np.nan
    refused = np.flatnonzero(o.frame == 10)
    o.excluded[[3, 4, *refused]], o.star[4] = np.uint32(RowFlag.OUTSIDE_DOMAIN), 9999
    found = solve_joint(o, PRIOR)
    if through_a_file:
        write_joint_solution(tmp_path / "joint.h5", found)
        found = read_joint_solution(tmp_path / "joint.h5")
    ours, theirs = found.calibrated(o).columns, apply_joint(found, o).columns
    rows = [0, 1, 2, 3, 4, *refused[:2]]
    for name in ("magnitude", "residual", "star_magnitude"):
        np.testing.assert_allclose(ours[name][rows], theirs[name][rows], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(np.isfinite(ours["magnitude"][rows]), [True, False, False, True, True, False, False])
    assert ours["quality"][rows].tolist() == theirs["quality"][rows].tolist()
    assert ours["quality"][refused[0]] == "EXPOSURE_REFUSED|OUTSIDE_DOMAIN"
    assert not ours["used"][rows].any()


def test_no_magnitude_where_a_frame_was_kept_back(observations: Observations) -> None:
    """Nothing says its zero-point: prior means would be none."""
    held = np.arange(len(observations.frames)) == 20
    back = observations.frame == 20
    ours = solve_joint(observations, PRIOR, held_out_frames=held).calibrated(observations).columns
    assert np.isnan(ours["magnitude"][back]).all()
    assert set(ours["quality"][back].tolist()) == {"HELD_OUT"}
    assert np.isfinite(ours["magnitude"][~back]).all()


def test_a_new_frame_has_its_zero_point_fitted(observations: Observations) -> None:
    """Its magnitudes are those of stars of other nights, within errors that say so."""
    pulls = []
    for seed in range(2):
        o, exact = observe(seed=10 + seed), observe(seed=10 + seed, noise=1e-6, outlier=0.0)
        first, last = of_nights(o, 0, 1, 2, 3), of_nights(o, 4)
        found = apply_joint(solve_joint(first, PRIOR), last).columns
        whole = solve_joint(exact, PRIOR)
        assert set(found["exposure_status"].tolist()) == {int(FrameFlag.FROZEN)}
        frames, first_row = np.unique(last.frame, return_index=True)
        assert len(frames) == 16
        # The same stars, frames and rates without noise: true corrections, but for those of the stars' own zero.
        true = whole.correction(of_nights(exact, N_NIGHT - 1))[0]
        off = found["magnitude"] - last.magnitude - true
        pulls.append(off[first_row] / found["correction_error"][first_row])
    assert 0.4 < np.std(np.concatenate(pulls)) < 1.6
    used = (found["status"] & np.uint32(RowFlag.STANDARD)) > 0
    np.testing.assert_array_equal(used, found["used"])
    assert 0.9 < used.mean() <= 1
    assert np.isnan(found["star_magnitude"][last.star >= 230]).all()
    assert np.isfinite(found["magnitude"][last.star >= 230]).all()


def test_frames_without_a_star_of_the_solution_are_refused(solved: JointSolution, observations: Observations) -> None:
    new = of_nights(observations, 4)
    frames = dataclasses.replace(new.frames, exposure=np.char.add(new.frames.exposure.astype(str), "x"))
    strange = dataclasses.replace(new, frames=frames, star=new.star + 5000, model=np.full(len(new), np.nan))
    table = apply_joint(solved, strange)
    assert np.isnan(table.columns["magnitude"]).all()
    assert set(table.columns["exposure_status"].tolist()) == {int(FrameFlag.NO_STANDARDS)}
    assert ((table.columns["status"] & np.uint32(RowFlag.EXPOSURE_REFUSED)) > 0).all()
    assert "16 new exposures refused" in json.loads(table.meta["account"])[0]


def test_standards_that_the_solution_does_not_have(solved: JointSolution, observations: Observations) -> None:
    """Where stars have model magnitudes as priors, those of other stars tie a new frame as well."""
    last = of_nights(observations, 4)
    frames = dataclasses.replace(last.frames, exposure=np.char.add(last.frames.exposure.astype(str), "x"))
    elsewhere = dataclasses.replace(last, frames=frames, star=last.star + 5000)
    made, known = (apply_joint(solved, rows).columns for rows in (elsewhere, last))
    off = (made["magnitude"] - known["magnitude"]) / np.hypot(made["correction_error"], known["correction_error"])
    assert set(made["exposure_status"].tolist()) == {int(FrameFlag.FROZEN)}
    assert np.isnan(made["star_magnitude"]).all()
    assert np.abs(off[np.unique(last.frame, return_index=True)[1]]).max() < 3
    # Models of 10 mmag, about seventy on a frame.
    assert 0.8e-3 < np.median(made["correction_error"]) < 2e-3


def test_errors_are_absent_where_the_file_has_no_covariance(solved: JointSolution, tmp_path: Path) -> None:
    o = observe()[:50]
    new = dataclasses.replace(o, frames=dataclasses.replace(o.frames, exposure=np.char.add(o.frames.exposure, "x")))
    for options, rows in (({"covariance": False}, o), ({"information": False}, new)):
        write_joint_solution(tmp_path / "joint.h5", solved, **options, overwrite=True)
        made = apply_joint(read_joint_solution(tmp_path / "joint.h5"), rows).columns
        assert np.isfinite(made["magnitude"]).all()
        assert np.isnan(made["correction_error"]).all()


def test_rows_that_lack_something(solved: JointSolution, observations: Observations) -> None:
    o = observations[:6]
    o = dataclasses.replace(
        o, magnitude=o.magnitude.copy(), x=o.x.copy(), color=o.color.copy(), magnitude_error=o.magnitude_error.copy()
    )
    o.magnitude[0], o.x[1], o.color[2], o.magnitude_error[3], o.x[4] = 99.0, np.nan, np.nan, np.nan, 7.0
    made = apply_joint(solved, o).columns
    flags = [RowFlag.describe(int(bits)) for bits in made["status"]]
    assert flags == ["NO_MAGNITUDE", "NO_POSITION", "NO_MODEL", "NO_ERROR", "NO_POSITION", "OK"]
    np.testing.assert_array_equal(np.isfinite(made["magnitude"]), [False, False, False, True, False, True])


@pytest.mark.slow
@pytest.mark.parametrize("star_prior", [True, False])
def test_spectra_of_a_transmission(star_prior: bool) -> None:
    """Stars' spectra, which a solution may have moved, are moved alike where it is applied; and solutions extended."""
    nights = drifting(4, 60, bands=BANDS[1:3])
    o, prior = nights.observations, None
    if not star_prior:
        prior = xp_prior(nights.seen, nights.chain.passbands())
    parameters = {"water": Parameter("night", prior=3.0), "filter_shift": Parameter("band", prior=2.0)}
    term = Transmission(nights.chain, nights.seen, parameters, star_prior=star_prior)
    model = JointModel((ZeroPoint(), term), robust="none", error_floor=0.0, min_observations=2)
    whole = solve_joint(o, model, prior=prior)
    some = np.random.default_rng(0).permutation(len(o))[:300]
    made = apply_joint(whole, o[some]).columns
    np.testing.assert_allclose(made["magnitude"], whole.calibrated(o).columns["magnitude"][some], rtol=0, atol=1e-9)
    last = o.frames.night == "n03"
    if star_prior:
        with pytest.raises(ValueError, match="with star_prior the stars' spectra are parameters too"):
            extend_joint(whole, o.on_frames(last))
        return
    first = solve_joint(o.on_frames(~last), model, prior=prior)
    # Earlier rows are linear about the earlier solution: second-order differences are a hundredth of the errors.
    told = differences(extend_joint(first, o.on_frames(last), prior=prior), whole)
    assert max(told.values()) < 0.03


def test_what_is_refused(solved: JointSolution, observations: Observations) -> None:
    frames = observations.frames
    other = dataclasses.replace(observations[:9], frames=dataclasses.replace(frames, band=np.full(len(frames), "z")))
    with pytest.raises(ValueError, match=r"no frame of band 'z' and detector 'a'; it has \['g a'"):
        apply_joint(solved, other)
    later = dataclasses.replace(observations[:9], frames=dataclasses.replace(frames, time=frames.time + 1))
    with pytest.raises(ValueError, match="it is another exposure"):
        apply_joint(solved, later)
    with pytest.raises(ValueError, match="are of files and tables"):
        apply_joint(solved, observations, new=True)
    with pytest.raises(ValueError, match="does not say what columns mean"):
        apply_joint(solved, {"e": {"m": np.ones(3)}})
