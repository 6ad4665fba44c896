"""Solutions extended by further nights: what a solution of all nights at once gives, from memory and from files."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.survey.joint.nights import MODEL, N_NIGHT, NEW, observe, of_nights
from xpjax.survey import Observations, make_observations
from xpjax.survey.joint import Constraint, JointModel, JointSolution, apply_joint, extend_joint, solve_joint
from xpjax.survey.joint.config import solve_survey
from xpjax.survey.joint.files import read_joint_solution, write_joint_solution
from xpjax.survey.joint.priors import StarPrior
from xpjax.survey.joint.sky import Sky
from xpjax.survey.joint.terms import Color, Covariate, Extinction, Flat, ZeroPoint

TIMES = {"g": 60002.0, "r": 60002.0}
EXTINCTION = dataclasses.replace(
    MODEL, constraints=(Constraint("color"), Constraint("flat")),
    terms=(
        ZeroPoint(per="night+band", prior=1.0, mean=25.0), ZeroPoint("shot", prior=0.1), Color(per="band"),
        Flat(bins=4),
        Extinction(per="band", prior=0.05, mean=0.15, slope=True, times=TIMES),
    ),
)  # fmt: skip
MODELS = {
    "no prior": MODEL,
    "extinction": EXTINCTION,
    "star prior": dataclasses.replace(MODEL, star_prior=True, constraints=(Constraint("flat"),)),
    "huber": dataclasses.replace(MODEL, robust="huber", error_floor=0.002),
    "few measurements": dataclasses.replace(MODEL, min_observations=9),
    "a constraint that data contradict": dataclasses.replace(
        EXTINCTION, constraints=(*EXTINCTION.constraints, Constraint("shot", value=0.01, force=True))
    ),
    "a value of a laboratory": dataclasses.replace(
        MODEL, constraints=(*MODEL.constraints, Constraint("flat", place="g a 0,0", value=0.05, force=True))
    ),
}


@pytest.fixture(scope="module")
def observations() -> Observations:
    return observe()


def differences(ours: JointSolution, theirs: JointSolution) -> dict[str, float]:
    """How far columns and stars are apart, in errors, and how far errors are."""
    mine = {ours.column_name(k): k for k in range(len(ours.value))}
    index = np.array([mine[theirs.column_name(k)] for k in range(len(theirs.value))])
    assert len(mine) == len(index)
    error = theirs.error(np.arange(len(index)))
    error[error < 1e-9] = np.inf  # a constraint may fix a single column
    place = np.searchsorted(ours.star, theirs.star)
    star, star_error = ours.magnitude[place], theirs.star_errors()
    np.testing.assert_array_equal(np.isnan(star), np.isnan(theirs.magnitude))
    return {
        "columns": float(np.abs((ours.value[index] - theirs.value) / error).max()),
        "stars": float(np.nanmax(np.abs(star - theirs.magnitude) / star_error)),
        "errors": float(np.abs(np.where(np.isinf(error), 0.0, ours.error(index) / error - 1)).max()),
        "star errors": float(np.nanmax(np.abs(ours.star_errors()[place] / star_error - 1))),
    }


def equal(ours: JointSolution, theirs: JointSolution, limit: float = 1e-4, errors: float = 2e-3) -> bool:
    """Whether values are the same, and errors about, as chi2 of earlier rows by detector is not that of all anew."""
    found = differences(ours, theirs)
    return max(found["columns"], found["stars"]) < limit and max(found["errors"], found["star errors"]) < errors


@pytest.mark.parametrize("name", MODELS)
def test_all_nights_at_once(observations: Observations, name: str) -> None:
    model = MODELS[name]
    whole = solve_joint(observations, model)
    first = solve_joint(of_nights(observations, 0, 1, 2, 3), model)
    found = extend_joint(first, of_nights(observations, 4))
    assert found.converged
    bent = name == "a value of a laboratory"  # more than a hundred errors off: chi2 is four times as large
    assert equal(found, whole, errors=0.02 if bent else 2e-3)
    assert found.field_floor.keys() == whole.field_floor.keys() != set()
    for name, floor in whole.field_floor.items():
        assert found.field_floor[name] == pytest.approx(floor, rel=0.1 if bent else 0.01)
    assert len(found.gauge) == len(whole.gauge)
    for mine, theirs in zip(found.gauge, whole.gauge, strict=True):  # but for the last digit
        assert re.sub(r"[-\d.]+", "", mine) == re.sub(r"[-\d.]+", "", theirs)
    assert found.chi2 == pytest.approx(whole.chi2, rel=1e-9)
    assert found.degrees_of_freedom == whole.degrees_of_freedom
    np.testing.assert_array_equal(found.n_used, whole.n_used)
    np.testing.assert_array_equal(found.left_out, whole.left_out)
    np.testing.assert_array_equal(found.frame_counts(), whole.frame_counts())
    mine = np.isin(whole.rows.frame, np.flatnonzero(observations.frames.night == "night 4"))
    np.testing.assert_array_equal(found.used, whole.used[mine])
    np.testing.assert_allclose(found.residual, whole.residual[mine], atol=1e-7)
    # The last night says more than nothing: stars that only it has, and others that it moves.
    assert np.isnan(first.magnitude[first.star >= 250 - NEW]).all()
    star = np.isin(first.star, whole.star)
    assert np.nanmax(np.abs(first.magnitude[star] - whole.magnitude[np.searchsorted(whole.star, first.star)])) > 1e-4


def test_a_further_detector(observations: Observations) -> None:
    """Its residuals are looked through beside those of the detectors that the solution has."""
    a = observations.on_frames(observations.frames.detector == "a")
    whole, first = solve_joint(observations, MODEL), solve_joint(a, MODEL)
    found = extend_joint(first, observations.on_frames(observations.frames.detector == "b"))
    assert equal(found, whole)
    assert len(first.field_floor) == 2
    assert found.field_floor == {name: pytest.approx(floor, rel=0.01) for name, floor in whole.field_floor.items()}
    assert len(found.field_floor) == 4


def test_error_floors_of_a_further_night(observations: Observations, tmp_path: Path) -> None:
    """New measurements have floors of their own, earlier ones keep theirs: of a night as good, and of a worse one."""
    model = dataclasses.replace(MODEL, robust="huber", error_floor=None)
    whole = solve_joint(observations, model)
    first = solve_joint(of_nights(observations, 0, 1, 2, 3), model)
    found = extend_joint(first, of_nights(observations, 4))
    assert differences(found, whole)["columns"] < 0.2  # by their floors alone:
    own = np.hypot(observations.magnitude_error, found.frame_floor()[_frames(found, observations)])
    alike = dataclasses.replace(observations, magnitude_error=own.astype(np.float32))
    same = solve_joint(alike, dataclasses.replace(model, error_floor=0.0))
    told = differences(found, same)
    assert max(told["columns"], told["stars"]) < 0.01
    assert max(told["errors"], told["star errors"]) < 0.01
    last = of_nights(observations, 4)
    noise = 0.02 * np.random.default_rng(1).normal(size=len(last))
    good, found = found, extend_joint(first, dataclasses.replace(last, magnitude=last.magnitude + noise))
    floors, old = found.exposures().columns["error_floor"], len(first.frames)
    np.testing.assert_array_equal(floors[:old], first.exposures().columns["error_floor"])
    np.testing.assert_allclose(floors[old:], 0.02, rtol=0.12)  # 640 measurements
    assert found.converged
    assert (found.floor > first.floor).all()
    assert (found.floor < 0.02).all()
    assert found.used.sum() > 0.99 * good.used.sum()
    assert f"error floor g: {1e3 * floors[old]:.2f} mmag of these exposures" in found.summary()
    write_joint_solution(tmp_path / "joint.h5", found)
    np.testing.assert_array_equal(read_joint_solution(tmp_path / "joint.h5").frame_floor(), floors)
    # Too few to have one: that of the earlier nights.
    few = last[np.flatnonzero(last.frames.band[last.frame] == "g")[:40]]
    np.testing.assert_array_equal(
        extend_joint(first, few).frame_floor()[old:], first.floor[(last.frames.band == "r").astype(int)]
    )


def _frames(solution: JointSolution, o: Observations) -> np.ndarray:
    """The solution's frame (n,) of each measurement."""
    place = {solution.frames.name(k): k for k in range(len(solution.frames))}
    return np.array([place[o.frames.name(k)] for k in range(len(o.frames))])[o.frame]


def test_the_comparison_sees_lost_information(observations: Observations) -> None:
    whole = solve_joint(observations, MODEL)
    first = solve_joint(of_nights(observations, 0, 1, 2, 3), MODEL)
    known = first.uncertainty.information()
    names = ("gram", "cross", "weight", "column_right", "slot_right", "null_gram", "null_cross")
    known = dataclasses.replace(known, **{name: 0.9 * getattr(known, name) for name in names})
    wrong: Any = dataclasses.replace(first)
    object.__setattr__(wrong, "uncertainty", dataclasses.make_dataclass("Known", ["information"])(lambda: known))
    assert differences(extend_joint(wrong, of_nights(observations, 4)), whole)["columns"] > 0.01


def test_nights_in_any_order_and_through_files(observations: Observations, tmp_path: Path) -> None:
    path, whole = tmp_path / "joint.h5", solve_joint(observations, EXTINCTION)
    write_joint_solution(path, solve_joint(of_nights(observations, 2, 3), EXTINCTION))
    for night in (4, 0, 1):
        found = extend_joint(read_joint_solution(path), of_nights(observations, night))
        write_joint_solution(path, found, overwrite=True)
    back = read_joint_solution(path)
    assert equal(back, whole)
    assert back.model == dataclasses.replace(EXTINCTION, terms=back.terms)
    order = np.argsort([back.frames.name(k) for k in range(len(back.frames))])
    theirs = np.argsort([whole.frames.name(k) for k in range(len(whole.frames))])
    np.testing.assert_array_equal(back.frame_counts()[order], whole.frame_counts()[theirs])
    np.testing.assert_allclose(back.frame_rms()[order], whole.frame_rms()[theirs], rtol=0.2)
    # Covariances of stars are those of the measurements, read back.
    stars = [(int(back.star[k]), "g") for k in (3, 8)]
    np.testing.assert_allclose(back.covariance(stars=stars), whole.covariance(stars=stars), rtol=1e-6)
    # Some 12 bytes for each star and column that it was seen with.
    write_joint_solution(tmp_path / "without.h5", whole, information=False)
    write_joint_solution(path, whole, information=True, overwrite=True)
    entries = whole.uncertainty.information().cross.nnz
    assert path.stat().st_size - (tmp_path / "without.h5").stat().st_size < 16 * entries + 250_000
    with pytest.raises(ValueError, match="information=True"):
        extend_joint(read_joint_solution(tmp_path / "without.h5"), of_nights(observations, 0))


@pytest.mark.slow
def test_nights_are_told_by_their_times(observations: Observations) -> None:
    """Tables that name no night: a further one is a night of its own, as in one solution of all."""
    o = observations
    columns = {name: getattr(o, name) for name in ("star", "magnitude", "magnitude_error")}
    frames = {name: getattr(o.frames, name)[o.frame] for name in ("exposure", "band", "detector", "time")}
    whole = {**columns, **frames}
    late = o.frames.night[o.frame] == f"night {N_NIGHT - 1}"
    config = {
        "columns": {name: name for name in whole}, "joint": {"robust": "none", "error_floor": 0.0, "clip": 0.0},
        "term": [{"kind": "zero_point", "per": "night+band"}, {"kind": "drift", "prior": 0.01}],
        "constraint": [{"term": "zero_point"}],
    }  # fmt: skip
    parts = [{name: values[rows] for name, values in whole.items()} for rows in (~late, late)]
    once, _ = solve_survey(config, {"all": whole})
    first, _ = solve_survey(config, {"all": parts[0]})
    found, _ = solve_survey(None, {"all": parts[1]}, extend=first)
    assert len(found.value) == len(once.value) == 4 * N_NIGHT
    places = found.block("zero_point").labels
    assert set(places) == set(once.block("zero_point").labels)
    for term in ("zero_point", "drift"):
        order = [once.block(term).labels.index(label) for label in found.block(term).labels]
        value, error = once.term(term)
        np.testing.assert_allclose(found.term(term)[0], value[order], rtol=0, atol=0.01 * error.min())
    # The order of frames does not matter: hours count from the earliest.
    back = {name: values[::-1] for name, values in whole.items()}
    again, _ = solve_survey(config, {"all": back})
    order = [again.block("drift").labels.index(label) for label in once.block("drift").labels]
    np.testing.assert_allclose(again.term("drift")[0][order], once.term("drift")[0], rtol=1e-6, atol=1e-9)


def test_bands_of_a_star_that_priors_couple(observations: Observations) -> None:
    """A prior with covariance between bands, of which the first night has one alone."""
    rng = np.random.default_rng(2)
    covariance = np.array([[1.0, 0.6], [0.6, 1.5]]) * 1e-4
    prior = StarPrior(np.arange(250), ("g", "r"), rng.uniform(14, 15, (250, 2)), np.tile(covariance, (250, 1, 1)))
    model = dataclasses.replace(MODEL, constraints=(Constraint("color", force=True), Constraint("flat")), clip=0.0)
    g = observations.on_frames((observations.frames.band == "g") & (observations.frames.night < "night 4"))
    r = observations.on_frames(observations.frames.band == "r")
    both = observations.on_frames((observations.frames.band == "r") | (observations.frames.night < "night 4"))
    whole = solve_joint(both, model, prior=prior)
    one = StarPrior(prior.star, ("g",), prior.magnitude[:, :1], prior.covariance[:, :1, :1])
    with pytest.raises(ValueError, match="has no band 'r'"):
        extend_joint(solve_joint(g, model, prior=one), r, prior=one)
    first = solve_joint(of_nights(both, 0, 1, 2), model, prior=prior)
    found = extend_joint(first, of_nights(both, 3, 4), prior=prior)
    assert equal(found, whole)


def test_covariates_are_those_of_the_new_rows(observations: Observations) -> None:
    seeing = np.random.default_rng(3).normal(3, 0.5, len(observations))
    o = dataclasses.replace(observations, magnitude=observations.magnitude - 0.02 * (seeing - 3))
    last = np.isin(o.frame, np.flatnonzero(o.frames.night == "night 4"))

    def model(values: np.ndarray) -> JointModel:
        return dataclasses.replace(MODEL, terms=(*MODEL.terms, Covariate("seeing", values, per="all")))

    whole = solve_joint(o, model(seeing))
    first = solve_joint(of_nights(o, 0, 1, 2, 3), model(seeing[~last]))
    found = extend_joint(first.with_terms(*model(seeing[last]).terms), of_nights(o, 4))
    assert equal(found, whole)
    with pytest.raises(ValueError, match="seeing: "):
        extend_joint(first, of_nights(o, 4))


def test_terms_of_the_reference(observations: Observations) -> None:
    """A map of XP's own errors: stars that only earlier nights have are given without it, as they were."""
    rng, o = np.random.default_rng(5), observations
    ra, dec = 150 + rng.uniform(0, 3, 250), rng.uniform(-1.5, 1.5, 250)
    last = np.isin(o.frame, np.flatnonzero(o.frames.night == "night 4"))

    def model(rows: np.ndarray) -> JointModel:
        sky = Sky(nside=64, prior=0.02, ra=ra[o.star[rows]], dec=dec[o.star[rows]])
        return dataclasses.replace(MODELS["star prior"], terms=(*MODEL.terms, sky))

    whole = solve_joint(o, model(np.ones(len(o), bool)))
    first = solve_joint(of_nights(o, 0, 1, 2, 3), model(~last))
    found = extend_joint(first.with_terms(*model(last).terms), of_nights(o, 4))
    assert equal(found, whole, 1e-3)
    np.testing.assert_allclose(
        apply_joint(found, o).columns["star_magnitude"], whole.calibrated(o).columns["star_magnitude"], atol=1e-6
    )


def test_a_constraint_does_not_hold_new_frames_back() -> None:
    """A mean of zero over all frames, far from where a new one starts: its stars are no outliers."""
    rng, star = np.random.default_rng(0), np.tile(np.arange(30), 3)
    zero, error, exposure = np.zeros(90), np.full(90, 0.01), np.repeat(["a", "b", "c"], 30)
    magnitude = 15 + 0.1 * star - np.repeat([0.0, 0.1, 3.0], 30) + 0.01 * rng.normal(size=90)
    rows = make_observations(star, zero, zero, magnitude, error, None, exposure=exposure)
    model = JointModel((ZeroPoint(),), (Constraint("zero_point"),), error_floor=0.0, min_observations=1)
    found = extend_joint(solve_joint(rows.on_frames(np.array([0, 1])), model), rows.on_frames(np.array([2])))
    whole = solve_joint(rows, model)
    assert whole.used.all()
    assert equal(found, whole)


def test_what_is_refused(observations: Observations) -> None:
    first, last = of_nights(observations, 0, 1, 2, 3), of_nights(observations, 4)
    solution = solve_joint(first, MODEL)
    with pytest.raises(ValueError, match="has 16 of these frames already, such as 'n3e0g g a'"):
        extend_joint(solution, of_nights(observations, 3, 4))
    held = solve_joint(first, MODEL, held_out_stars=first.star % 10 == 3)
    with pytest.raises(ValueError, match="kept back for cross-validation"):
        extend_joint(held, last)
    with pytest.raises(ValueError, match="more than dense = 10"):
        extend_joint(solve_joint(first, dataclasses.replace(MODEL, dense=10)), last)
    with pytest.raises(ValueError, match="named by numbers in one"):
        extend_joint(solution, dataclasses.replace(last, star=last.star.astype(str)))
    # A night of stars that no other has: nothing ties it to them.
    alone = dataclasses.replace(last, star=last.star + 1000)
    with pytest.raises(ValueError, match=r"the data do not determine .*: \(1\) zero_point: degenerate"):
        extend_joint(solution, alone)
