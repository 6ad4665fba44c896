"""Joint solutions: against SciPy's sparse solver of the full system, with truth, on several devices, refusals."""

import dataclasses
import os
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest

from benchmarks.joint import Truth, direct
from tests.survey.joint.helpers import BINS, MODEL, N_EXPOSURE
from xpjax.survey.joint import fit as joint
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Color, Covariate, Flat, ZeroPoint
from xpjax.survey.observations import Observations


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


@pytest.mark.slow
def test_two_devices_give_what_one_gives() -> None:
    script = textwrap.dedent("""
        import dataclasses, jax, numpy as np
        from benchmarks.joint import dithered
        from tests.survey.joint.helpers import BINS, MODEL, N_EXPOSURE, N_STAR
        from xpjax.survey.joint.solve import solve_joint
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
