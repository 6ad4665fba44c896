"""Joint solutions: against SciPy's sparse solver of the full system, with truth, with gauges and hostile data."""

import dataclasses
import os
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from benchmarks.joint import Truth, direct, dithered, plain_model
from xpjax.survey.joint import gauge
from xpjax.survey.joint import normal as reduced
from xpjax.survey.joint import solve as joint
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import JointModel, solve_joint
from xpjax.survey.joint.star_prior import StarPrior
from xpjax.survey.joint.terms import Color, Constraint, Covariate, Extinction, Flat, ZeroPoint, frame_groups
from xpjax.survey.observations import Observations, RowFlag, concatenate

BINS = 5
N_EXPOSURE, N_STAR = 24, 300
SIZE = (0.0, 1.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def field() -> tuple[Observations, Truth]:
    return dithered(N_EXPOSURE, N_STAR, bins=BINS, outlier=0.02)


@pytest.fixture(scope="module")
def solved(field: tuple[Observations, Truth]) -> JointSolution:
    return solve_joint(field[0], MODEL)


MODEL = plain_model(BINS, min_observations=5)


def test_full_system_by_a_sparse_solver(field: tuple[Observations, Truth], solved: JointSolution) -> None:
    o = field[0]
    variance = o.magnitude_error.astype(float) ** 2
    value, ids, magnitude, normal, hold = direct(o, BINS, solved.used, variance)
    free = np.linalg.qr(hold.T, mode="complete")[0][:, len(hold) :]
    covariance = free @ np.linalg.inv(free.T @ normal.toarray() @ free) @ free.T
    assert solved.converged
    assert len(solved.value) == 2 * N_EXPOSURE + BINS**2
    np.testing.assert_allclose(solved.value, value, rtol=0, atol=1e-9)
    place = np.searchsorted(solved.star, ids)
    np.testing.assert_allclose(solved.magnitude[place, 0], magnitude, rtol=0, atol=1e-9)
    # The same points clipped: the rule, applied to the sparse solution, changes nothing.
    n = len(value)
    own = np.full(solved.star.max() + 1, np.nan)
    truth, spare = own.copy(), own.copy()
    truth[ids] = magnitude
    weight = np.bincount(o.star, solved.used / variance, len(own))
    spare = 1 / np.where(weight > 0, weight, np.nan)
    i, j = (np.minimum((a.astype(float) * BINS).astype(int), BINS - 1) for a in (o.y, o.x))
    fitted = o.magnitude + value[o.frame] + value[N_EXPOSURE + o.frame] * o.color
    fitted += value[2 * N_EXPOSURE + i * BINS + j]
    pull = (fitted - truth[o.star]) / np.sqrt(np.where(solved.used, variance - spare[o.star], variance + spare[o.star]))
    known = np.isfinite(truth[o.star])
    np.testing.assert_array_equal((np.abs(pull) > 5)[known], solved.clipped[known])
    assert 50 < solved.clipped.sum() < 0.03 * len(o)
    # All of the covariance, stars and columns together.
    some = np.array([0, 3, N_EXPOSURE + 2, 2 * N_EXPOSURE + 4])
    stars = np.array([0, 7])
    mine = solved.covariance(np.eye(n)[some], [(int(ids[k]), "g") for k in stars])
    index = np.append(some, n + stars)
    np.testing.assert_allclose(mine, covariance[np.ix_(index, index)], rtol=1e-8, atol=1e-16)
    np.testing.assert_allclose(solved.error(np.arange(n)), np.sqrt(np.diagonal(covariance)[:n]), rtol=1e-8)


def test_the_comparison_sees_a_wrong_weight(field: tuple[Observations, Truth], solved: JointSolution) -> None:
    o = field[0]
    variance = o.magnitude_error.astype(float) ** 2 * np.where(o.star % 2, 1.1, 1.0)
    assert np.abs(direct(o, BINS, solved.used, variance)[0] - solved.value).max() > 1e-6


@pytest.mark.parametrize("options", [{"devices": "cpu"}, {"dense": 10}, {"single": 10}])
def test_every_way_to_solve_agrees(
    field: tuple[Observations, Truth], solved: JointSolution, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint, "SINGLE", options.get("single", joint.SINGLE))
    model = dataclasses.replace(MODEL, dense=options.get("dense", MODEL.dense))
    other = solve_joint(field[0], model, devices=options.get("devices"))
    np.testing.assert_allclose(other.value, solved.value, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(other.used, solved.used)
    some = np.arange(4)
    np.testing.assert_allclose(other.error(some), solved.error(some), rtol=1e-6)
    assert other.steps < (200 if "dense" in options else 40)


def test_truth_is_within_errors(field: tuple[Observations, Truth], solved: JointSolution) -> None:
    truth = field[1]
    for name, true in (("zero_point", truth.zero_point), ("flat", truth.flat.ravel()), ("color", truth.color_term)):
        value, error = solved.term(name)
        pull = (value - true - np.mean(value - true)) / error
        assert 0.6 < pull.std() < 1.4
    assert solved.chi2 / solved.degrees_of_freedom == pytest.approx(1, abs=0.05)


# --- gauges -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["float64", "float32", "products"])
def dense(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How gauges are found: in the factor, or by products where that is of float32 or there is none."""
    if request.param == "float32":
        monkeypatch.setattr(joint, "SINGLE", 10)
    return 10 if request.param == "products" else 20_000


def test_an_undetermined_fit_is_refused_by_name(field: tuple[Observations, Truth], dense: int) -> None:
    model = dataclasses.replace(MODEL, dense=dense)
    with pytest.raises(ValueError, match=r"\(1\) zero_point.*\(2\) color.*\(3\) flat.*Constraint") as told:
        solve_joint(field[0], dataclasses.replace(model, constraints=()))
    assert "(4)" not in str(told.value)
    with pytest.raises(ValueError, match=r"\(1\) flat"):
        solve_joint(field[0], dataclasses.replace(model, constraints=model.constraints[:2]))


def test_eight_null_vectors_of_a_quadratic_color_term(field: tuple[Observations, Truth], dense: int) -> None:
    """Pure shifts: what a color term of second order in the place has of polynomials, stars can take up."""
    model = plain_model(BINS, position_order=2, min_observations=5, dense=dense)
    with pytest.raises(ValueError, match=r"color \(color_1, .*6 combinations"):
        solve_joint(field[0], dataclasses.replace(model, constraints=()))
    found = solve_joint(field[0], model)
    assert "6 combinations" in " ".join(found.gauge)
    assert found.converged
    # The errors do not contain what constraints fix: stiffness does not show.
    means = np.zeros((1, len(found.value)))
    means[0, found.places("color", "color_1 x2")] = 1
    assert found.covariance(means)[0, 0] < 1e-20


def test_what_few_stars_leave_open_is_asked_of_all(
    field: tuple[Observations, Truth], solved: JointSolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dozen stars leave more open than all stars do; the three combinations that all rows leave open are found."""
    seen = []
    monkeypatch.setattr(gauge, "PROBE_ROWS", 2)
    monkeypatch.setattr(gauge, "probe_null_space", lambda *a: seen.append(reduced.probe_null_space(*a)) or seen[-1])
    found = solve_joint(field[0], dataclasses.replace(MODEL, dense=10))
    assert seen[0].shape[1] > 3
    assert len(found.gauge) == 3
    np.testing.assert_allclose(found.value, solved.value, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_two_devices_give_what_one_gives() -> None:
    script = textwrap.dedent("""
        import dataclasses, jax, numpy as np
        from tests.survey.joint.test_joint import BINS, MODEL, N_EXPOSURE, N_STAR, dithered, solve_joint
        assert len(jax.devices()) == 2
        o, _ = dithered(N_EXPOSURE, N_STAR, bins=BINS, outlier=0.02)
        for dense in (20_000, 10):
            model = dataclasses.replace(MODEL, dense=dense)
            one, two = (solve_joint(o, model, devices=n) for n in (1, 2))
            np.testing.assert_allclose(two.value, one.value, rtol=0, atol=1e-10)
            np.testing.assert_array_equal(two.used, one.used)
            np.testing.assert_allclose(two.error(np.arange(4)), one.error(np.arange(4)), rtol=1e-8)
        print("agree")
    """)
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "agree" in done.stdout


def test_an_exposure_apart_is_named(field: tuple[Observations, Truth], dense: int) -> None:
    o = field[0]
    alone = dataclasses.replace(o, star=np.where(o.frame == 3, o.star + 1000, o.star))
    with pytest.raises(ValueError, match=r"zero_point of e00003 g.*color of e00003 g"):
        solve_joint(alone, dataclasses.replace(MODEL, min_observations=1, dense=dense))


def test_what_all_spectra_share_is_a_term_with_a_prior(field: tuple[Observations, Truth]) -> None:
    """Errors common to all stars' models: an offset of the band with a prior adds to each zero-point's error."""
    o, truth = field
    models = truth.magnitude + np.random.default_rng(0).normal(0, 0.01, N_STAR)
    o = dataclasses.replace(o, model=models[o.star], model_error=np.full(len(o), 0.01))
    model = dataclasses.replace(MODEL, star_prior=True, constraints=MODEL.constraints[2:])
    plain = solve_joint(o, model)
    shared = ZeroPoint("of spectra", per="band", prior=0.002), Color("color of spectra", per="band", prior=0.003)
    found = solve_joint(o, dataclasses.replace(model, terms=(*model.terms, *shared)))
    for name, size in (("zero_point", 0.002), ("color", 0.003)):
        np.testing.assert_allclose(found.term(name)[0], plain.term(name)[0], atol=1e-9)
        np.testing.assert_allclose(found.term(name)[1], np.hypot(plain.term(name)[1], size), rtol=1e-6)
    # Exposures share it: their differences are as well known as before.
    difference = np.zeros((1, len(found.value)))
    difference[0, found.places("zero_point")[:2]] = 1, -1
    assert np.sqrt(found.covariance(difference)[0, 0]) < 0.0007


def test_priors_and_values_instead_of_constraints(field: tuple[Observations, Truth], solved: JointSolution) -> None:
    o = field[0]
    terms = (ZeroPoint(prior=0.1, mean=25.0), Color(prior=0.05), Flat(bins=BINS, prior=0.05))
    soft = solve_joint(o, dataclasses.replace(MODEL, terms=terms, constraints=()))
    off = soft.term("zero_point")[0] - solved.term("zero_point")[0]
    assert np.ptp(off) < 2e-4
    held = dataclasses.replace(
        MODEL, constraints=(Constraint("zero_point", place="e00000 g", value=25.0), *MODEL.constraints[1:])
    )
    found = solve_joint(o, held)
    assert found.term("zero_point")[0][0] == pytest.approx(25.0, abs=1e-10)
    assert found.term("zero_point")[1][0] < 1e-10
    # More constraints than gauges change the fit, and hold.
    more = dataclasses.replace(MODEL, constraints=(*MODEL.constraints, Constraint("flat", place="g 0,0", value=0.01)))
    bent = solve_joint(o, more)
    assert bent.term("flat")[0][0] == pytest.approx(0.01, abs=1e-12)
    assert bent.term("flat")[0].mean() == pytest.approx(0, abs=1e-12)
    assert bent.chi2 > solved.chi2


def test_star_priors_fix_the_gauge_and_have_the_stars_covariance(field: tuple[Observations, Truth]) -> None:
    o, truth = field
    model = truth.magnitude + np.random.default_rng(1).normal(0, 0.01, N_STAR)
    with_models = dataclasses.replace(
        o, model=model[o.star], model_error=np.full(len(o), 0.01), color=truth.color[o.star]
    )
    free = dataclasses.replace(MODEL, constraints=(Constraint("flat"),), star_prior=True)
    found = solve_joint(with_models, free)
    value, error = found.term("zero_point")
    assert np.mean(value - truth.zero_point) == pytest.approx(0, abs=4 * 0.01 / np.sqrt(N_STAR))
    assert error.min() > 0.8 * 0.01 / np.sqrt(N_STAR)  # the models' errors do not average out over exposures
    assert found.chi2 / found.degrees_of_freedom == pytest.approx(1, abs=0.05)
    # As a record the same; and a covariance that says nothing of other bands does not couple.
    prior = StarPrior(np.arange(N_STAR), ("g",), model[:, None], np.full((N_STAR, 1, 1), 1e-4))
    again = solve_joint(with_models, dataclasses.replace(free, star_prior=False), prior=prior)
    np.testing.assert_allclose(again.value, found.value, atol=1e-9)


def test_bands_are_coupled_by_the_stars_covariance() -> None:
    """Against the full system in NumPy: two bands, prior errors correlated by 0.9."""
    g, truth = dithered(8, 60, bins=2, outlier=0.0)
    r, _ = dithered(8, 60, bins=2, outlier=0.0, seed=0)
    r = dataclasses.replace(r, frames=dataclasses.replace(r.frames, band=np.full(8, "r")))
    keep = np.arange(len(r)) % 3 == 0
    o = concatenate([g, r[keep]])
    covariance = np.broadcast_to(1e-4 * np.array([[1, 0.9], [0.9, 1]]), (60, 2, 2))
    prior = StarPrior(np.arange(60), ("r", "g"), np.stack([truth.magnitude] * 2, axis=1), covariance)
    model = JointModel((ZeroPoint(),), robust="none", clip=0.0, error_floor=0.0, min_observations=1)
    found = solve_joint(o, model, prior=prior)
    n_frame = len(o.frames)
    band = (o.frames.band == "r").astype(int)[o.frame]  # bands are sorted: g, r
    a = np.zeros((len(o), n_frame + 120))
    a[np.arange(len(o)), o.frame] = 1
    a[np.arange(len(o)), n_frame + 2 * o.star + band] = -1
    weight = 1 / o.magnitude_error.astype(float) ** 2
    normal = (a.T * weight) @ a
    right = -(a.T * weight) @ o.magnitude
    inverse = np.linalg.inv(covariance[0])
    for s in range(60):
        two = slice(n_frame + 2 * s, n_frame + 2 * s + 2)
        normal[two, two] += inverse
        right[two] += inverse @ np.full(2, truth.magnitude[s])
    expected = np.linalg.solve(normal, right)
    np.testing.assert_allclose(found.value, expected[:n_frame], atol=1e-9)
    np.testing.assert_allclose(found.magnitude, expected[n_frame:].reshape(-1, 2)[found.star], atol=1e-9)
    whole = np.linalg.inv(normal)
    star = int(found.star[3])
    index = [0, 9, n_frame + 2 * star, n_frame + 2 * star + 1]
    mine = found.covariance(np.eye(n_frame)[[0, 9]], [(star, "g"), (star, "r")])
    np.testing.assert_allclose(mine, whole[np.ix_(index, index)], rtol=1e-6)
    on_device = solve_joint(o, model, prior=prior, devices="cpu")
    np.testing.assert_allclose(on_device.value, found.value, atol=1e-9)


# --- robustness -------------------------------------------------------------------------------------------------------


def test_stars_with_few_observations_are_not_erased() -> None:
    """Those with 3..5 measurements lose outliers, not themselves."""
    o, _ = dithered(60, 300, bins=4, outlier=0.0)
    rng = np.random.default_rng(2)
    few = o.star < 100
    rank = np.zeros(len(o), int)
    order = np.argsort(o.star, kind="stable")
    first = np.searchsorted(o.star[order], o.star[order])
    rank[order] = np.arange(len(o)) - first
    o = o[~few | (rank < 3 + o.star % 3)]
    wrong = np.flatnonzero(rng.random(len(o)) < 0.03)
    wrong = wrong[np.unique(o.star[wrong], return_index=True)[1]]
    magnitude = o.magnitude.copy()
    magnitude[wrong] += 0.3
    o = dataclasses.replace(o, magnitude=magnitude)
    model = dataclasses.replace(plain_model(4), min_observations=2, clip=4.0)
    found = solve_joint(o, model)
    seen = np.bincount(o.star, minlength=300)
    left = np.bincount(o.star[found.used], minlength=300)
    assert (left[seen >= 3] >= 2).all()
    often = seen[o.star[wrong]] >= 4
    assert found.clipped[wrong[often]].all()
    assert found.clipped.sum() < len(wrong) + 0.002 * len(o)


def test_too_few_observations_take_no_part(field: tuple[Observations, Truth]) -> None:
    o = field[0]
    often = int(np.bincount(o.star).argmax())
    rare = o.star == often
    keep = ~rare | (np.cumsum(rare) <= 4)
    found = solve_joint(o[keep], dataclasses.replace(MODEL, min_observations=5))
    place = np.searchsorted(found.star, often)
    assert found.left_out[place, 0]
    assert not found.used[o.star[keep] == often].any()
    assert np.isfinite(found.magnitude[place, 0])  # it has a magnitude all the same


def test_a_floor_is_fitted_for_each_band() -> None:
    parts = []
    for band, floor in (("g", 0.004), ("r", 0.010)):
        o, _ = dithered(40, 200, bins=3, outlier=0.02, noise=(0.003, 0.003), seed=3)
        noise = np.random.default_rng(4).normal(0, floor, len(o))
        frames = dataclasses.replace(o.frames, band=np.full(40, band))
        parts.append(dataclasses.replace(o, magnitude=o.magnitude + noise, frames=frames))
    terms = (ZeroPoint(), Color())
    model = JointModel(
        (*terms, Flat(bins=3)), tuple(Constraint(name) for name in ("zero_point", "color", "flat")),
        robust="huber", clip=5.0, size=SIZE, color_zero=0.0,
    )  # fmt: skip
    found = solve_joint(concatenate(parts), model)
    assert found.bands == ("g", "r")
    np.testing.assert_allclose(found.floor, [0.004, 0.010], rtol=0.06)
    assert found.converged
    assert found.chi2 / found.degrees_of_freedom == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("robust", ["huber", "tukey"])
def test_reweighting_bears_what_least_squares_does_not(robust: str) -> None:
    o, truth = dithered(N_EXPOSURE, N_STAR, bins=BINS, outlier=0.08, seed=9)
    model = dataclasses.replace(MODEL, robust=robust, clip=0.0)
    found = solve_joint(o, model)
    plain = solve_joint(o, dataclasses.replace(model, robust="none"))

    def rms(solution: JointSolution) -> float:
        off = solution.term("zero_point")[0] - truth.zero_point
        return float(np.std(off))

    assert found.converged
    assert rms(found) < 0.3 * rms(plain)
    assert rms(found) < 1.5e-3


def test_bad_rows_cost_only_themselves(field: tuple[Observations, Truth], solved: JointSolution) -> None:
    o = field[0]
    bad = np.array([5, 77, 401, 999, 1200])
    columns = {name: getattr(o, name).astype(float) for name in ("magnitude", "magnitude_error", "color", "x")}
    columns["magnitude"][bad[0]], columns["magnitude"][bad[1]] = np.nan, 99.0
    columns["magnitude_error"][bad[2]], columns["color"][bad[3]], columns["x"][bad[4]] = 0.0, np.nan, np.nan
    found = solve_joint(dataclasses.replace(o, **columns), MODEL)
    expected = [RowFlag.NO_MAGNITUDE] * 2 + [RowFlag.NO_ERROR, RowFlag.NO_MODEL, RowFlag.NO_POSITION]
    assert [RowFlag(int(f)) for f in found.flags[bad]] == expected
    assert np.isnan(found.residual[bad]).all()
    others = np.delete(np.arange(len(o)), bad)
    assert (found.flags[others] & ~np.uint32(RowFlag.OUTLIER | RowFlag.STANDARD) == 0).all()
    assert np.abs(found.value - solved.value).max() < 2e-3
    with pytest.raises(ValueError, match=f"none of {len(o)} rows can be used: {len(o)} NO_MAGNITUDE"):
        solve_joint(dataclasses.replace(o, magnitude=np.full(len(o), np.nan)), MODEL)


def test_empty_places_are_nan(field: tuple[Observations, Truth]) -> None:
    o = field[0]
    found = solve_joint(o[(o.x > 0.25) | (o.y > 0.25)], MODEL)
    value, error = found.term("flat")
    assert np.flatnonzero(np.isnan(value)).tolist() == [0]
    assert np.isnan(error[0])
    assert np.isfinite(error[1:]).all()
    with pytest.raises(ValueError, match="flat of g 0,0 has no data"):
        found.covariance(np.eye(len(found.value))[[found.places("flat")[0]]])


# --- held out, corrections --------------------------------------------------------------------------------------------


def test_exposures_and_stars_kept_back(field: tuple[Observations, Truth]) -> None:
    o = field[0]
    frames = np.arange(N_EXPOSURE) % 6 == 5
    stars = o.star % 10 == 3
    found = solve_joint(o, MODEL, held_out_frames=frames, held_out_stars=stars)
    assert found.held_out is not None
    assert not found.used[frames[o.frame]].any()
    assert not found.used[stars].any()
    assert np.isnan(found.term("zero_point")[0][frames]).all()
    for mine in (frames[o.frame] & ~stars, stars & ~frames[o.frame]):
        pull = found.held_out.residual[mine] / found.held_out.error[mine]
        assert np.isfinite(pull).mean() > 0.85  # others are of stars that are seen too seldom
        assert 1.4826 * np.nanmedian(np.abs(pull)) == pytest.approx(1, abs=0.12)
    # A flat that is wrong shows on exposures kept back.
    flatless = dataclasses.replace(MODEL, terms=MODEL.terms[:2], constraints=MODEL.constraints[:2])
    other = solve_joint(o, flatless, held_out_frames=frames)
    assert other.held_out is not None
    pull = (other.held_out.residual / other.held_out.error)[frames[o.frame]]
    assert 1.4826 * np.nanmedian(np.abs(pull)) > 1.5


def test_corrections_of_other_rows(field: tuple[Observations, Truth], solved: JointSolution) -> None:
    o = field[0]
    added, error = solved.correction(o[::50])
    place = np.searchsorted(solved.star, o.star[::50])
    known = np.isfinite(solved.residual[::50])
    calibrated = o.magnitude[::50] + added
    np.testing.assert_allclose(
        (solved.magnitude[place, 0] - calibrated)[known], solved.residual[::50][known], atol=1e-9
    )
    design, _ = solved.design(o[:1])
    row = design.toarray()[0]
    expected = np.sqrt(row @ solved.covariance(np.eye(len(row))) @ row)
    assert error[0] == pytest.approx(expected, rel=1e-8)
    elsewhere = dataclasses.replace(o[::50], frames=dataclasses.replace(o.frames, exposure=o.frames.exposure + "x"))
    assert np.isnan(solved.correction(elsewhere)[0]).all()


def test_other_terms_are_recovered() -> None:
    """Extinction with its color part, a covariate, a Chebyshev flat for each epoch; stars have priors."""
    rng = np.random.default_rng(5)
    o, truth = dithered(40, 400, bins=1, outlier=0.0)
    night = np.array([f"n{k // 10}" for k in range(40)])
    airmass = rng.uniform(1, 2, 40)
    frames = dataclasses.replace(o.frames, night=night, airmass=airmass, time=60000 + np.arange(40.0))
    k = np.array([0.2, 0.25, 0.3, 0.22])
    seeing = rng.normal(size=len(o))
    u, v = 2 * o.x.astype(float) - 1, 2 * o.y.astype(float) - 1
    tilt = np.where(np.arange(40) < 20, 0.01, -0.02)[o.frame]
    added = -(k[np.arange(40) // 10] * (airmass - 1))[o.frame] - 0.03 * (airmass[o.frame] - 1) * o.color
    added = added + 0.004 * seeing + tilt * u * v
    magnitude = truth.magnitude[o.star] - 25.0 - added + rng.normal(0, 0.004, len(o))
    o = dataclasses.replace(
        o, frames=frames, magnitude=magnitude, magnitude_error=np.full(len(o), 0.004),
        model=truth.magnitude[o.star], model_error=np.full(len(o), 0.003),
    )  # fmt: skip
    terms = (
        ZeroPoint(per="night+band"), Extinction(second_order=True), Covariate("seeing", seeing, per="all"),
        Flat(form="chebyshev", order=2, per="band:20"),
    )  # fmt: skip
    found = solve_joint(o, JointModel(terms, star_prior=True, size=SIZE, color_zero=0.0))

    def check(name: str, part: str | None, true: Any) -> None:
        value, error = found.term(name, part)
        assert (np.abs(value - true) < 5 * error + 1e-9).all(), (name, part, value, error)

    check("zero_point", None, 25.0)
    check("extinction", "k", k)
    check("extinction", "k_color", 0.03)
    check("seeing", None, 0.004)
    check("flat", "x y", np.array([0.01, -0.02]))
    assert found.block("flat").labels == ("g 60000", "g 60020")
    table = found.parameters()
    assert len(table) == len(found.value)
    assert set(table.columns) == {"term", "place", "part", "value", "error"}
    assert len(found.calibrated(o)) == len(o)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"terms": ()}, "at least one term"),
        ({"terms": (ZeroPoint(), ZeroPoint())}, "same name"),
        ({"robust": "median"}, "robust must be"),
        ({"clip": -1.0}, "clip"),
        ({"error_floor": -1.0}, "error_floor"),
        ({"min_observations": 0}, "min_observations"),
        ({"terms": (ZeroPoint(prior=-1.0),)}, "prior = -1.0"),
        ({"terms": (ZeroPoint(per="telescope"),)}, "'telescope' is not one of"),
        ({"terms": (ZeroPoint(per="band:x"),)}, "number of days"),
        ({"constraints": (Constraint("flut"),)}, "a constraint names 'flut'"),
        ({"constraints": (Constraint("flat", place="nowhere"),)}, "flat has no place 'nowhere'"),
        ({"terms": (Covariate("c", np.zeros(3)),), "constraints": ()}, r"c: \(3,\) values for"),
    ],
)
def test_what_cannot_be_is_refused(field: tuple[Observations, Truth], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve_joint(field[0], dataclasses.replace(MODEL, **change))
    with pytest.raises(ValueError, match="form is"):
        Flat(form="spline")
    with pytest.raises(ValueError, match="order must be"):
        Color(order=4)


def test_frames_that_share_values(field: tuple[Observations, Truth]) -> None:
    frames = dataclasses.replace(field[0].frames, night=np.array([f"n{k // 12}" for k in range(N_EXPOSURE)]))
    index, labels = frame_groups(frames, "night+band")
    assert labels == ("n0 g", "n1 g")
    np.testing.assert_array_equal(index, np.arange(N_EXPOSURE) // 12)
    assert frame_groups(frames, "all")[1] == ("all",)
    assert len(frame_groups(frames, "frame")[1]) == N_EXPOSURE
