"""Observations prepared once and solved many times: the same to the bit as prepared anew."""

import dataclasses

import numpy as np
import pytest

from benchmarks.joint import BANDS, dithered, drifting, plain_model, transmission_model
from xpjax.survey.joint.problem import prepare_joint
from xpjax.survey.joint.solve import solve_joint, solve_prepared


def test_solved_again_and_again() -> None:
    o, _ = dithered(12, 120, bins=3, outlier=0.02)
    model = plain_model(3, min_observations=4)
    problem = prepare_joint(o, model)
    assert repr(problem).startswith("JointProblem(")
    held = o.star % 10 == 3
    other = o.magnitude + 0.01 * np.random.default_rng(0).normal(size=len(o))
    once = solve_joint(o, model)
    kept = solve_prepared(problem, held_out_stars=held)
    for _ in range(2):
        found = solve_prepared(problem)
        np.testing.assert_array_equal(found.value, once.value)
        np.testing.assert_array_equal(found.flags, once.flags)
        np.testing.assert_array_equal(found.error(np.arange(5)), once.error(np.arange(5)))
    np.testing.assert_array_equal(kept.value, solve_joint(o, model, held_out_stars=held).value)
    moved = solve_prepared(problem, magnitude=other)
    np.testing.assert_array_equal(moved.value, solve_joint(dataclasses.replace(o, magnitude=other), model).value)
    with pytest.raises(ValueError, match=r"\(3,\) magnitudes for"):
        solve_prepared(problem, magnitude=other[:3])
    with pytest.raises(ValueError, match="must be finite"):
        solve_prepared(problem, magnitude=np.where(np.arange(len(o)) == 5, np.nan, other))


@pytest.mark.slow
def test_non_linear_terms_begin_anew() -> None:
    """A second solution does not touch the first, whose errors are found when they are asked for."""
    nights = drifting(3, 60, bands=BANDS[2:])
    o, model = nights.observations, transmission_model(nights)
    problem = prepare_joint(o, model)
    first = solve_prepared(problem)
    solve_prepared(problem, magnitude=o.magnitude + 0.01 * np.sin(np.arange(len(o))))
    once = solve_joint(o, model)
    for one in (first, solve_prepared(problem)):
        np.testing.assert_array_equal(one.value, once.value)
        np.testing.assert_array_equal(one.error(np.arange(9)), once.error(np.arange(9)))
