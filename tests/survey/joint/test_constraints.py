"""Constraints of means and values, and priors instead of them."""

import dataclasses
import re

import numpy as np
import pytest

from benchmarks.joint import Truth, dithered
from tests.survey.joint.helpers import BINS, MODEL
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.priors import StarPrior
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Color, Flat, ZeroPoint
from xpjax.survey.observations import Observations


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
    one = Constraint("flat", place="g 0,0", value=0.01, force=True)
    more = dataclasses.replace(MODEL, constraints=(*MODEL.constraints, one))
    bent = solve_joint(o, more)
    assert bent.converged
    assert bent.term("flat")[0][0] == pytest.approx(0.01, abs=1e-12)
    assert [word for word in bent.gauge if "flat of g 0,0 = 0.01" in word]
    assert bent.term("flat")[0].mean() == pytest.approx(0, abs=1e-12)
    assert bent.chi2 > solved.chi2
    np.testing.assert_array_equal(bent.used, solved.used)  # outliers are those of the data


def test_what_data_or_priors_contradict_is_refused_or_forced(
    field: tuple[Observations, Truth], solved: JointSolution
) -> None:
    """Against the least squares that the constraint bends in NumPy; and it costs no frame its stars."""
    o, place = field[0], solved.columns("flat").start
    value = float(solved.value[place] + 10 * solved.error(np.array([place]))[0])
    one = Constraint("flat", place="g 0,0", value=value)
    with pytest.raises(ValueError, match=r"flat of g 0,0 = .*though by the data and .*10 errors off.*force=True"):
        solve_joint(o, dataclasses.replace(MODEL, constraints=(*MODEL.constraints, one)))
    held = dataclasses.replace(MODEL, constraints=(*MODEL.constraints, dataclasses.replace(one, force=True)))
    found = solve_joint(o, held)
    assert found.converged
    (line,) = [one for one in found.summary() if one.startswith("WARNING")]
    assert re.match(
        r"WARNING: constraint contradicted: flat of g 0,0 = .* though by the data and mean of flat = 0 it is "
        r"\S+ \+- \S+, 10 errors off\. The constraint holds", line
    )  # fmt: skip
    covariance = solved.covariance(np.eye(len(solved.value)))
    moved = covariance[:, place] / covariance[place, place] * (value - solved.value[place])
    np.testing.assert_allclose(found.value, solved.value + moved, atol=1e-7)
    error = np.sqrt(np.maximum(np.diagonal(covariance) - covariance[:, place] ** 2 / covariance[place, place], 0.0))
    np.testing.assert_allclose(found.error(np.arange(len(error))), error, atol=1e-8)
    assert found.error(np.array([place]))[0] == 0
    terms = (ZeroPoint(prior=0.1, mean=25.0), *MODEL.terms[1:])
    forced = dataclasses.replace(
        MODEL, constraints=tuple(dataclasses.replace(c, force=True) for c in MODEL.constraints)
    )
    far = solve_joint(o, dataclasses.replace(forced, terms=terms))
    assert far.converged
    assert far.term("zero_point")[0].mean() == pytest.approx(0, abs=1e-9)
    assert far.used.sum() == pytest.approx(solved.used.sum(), rel=0.01)
    (line,) = [one for one in far.summary() if one.startswith("WARNING")]
    assert re.search(r"mean of zero_point = 0, though by the prior of zero_point it is 2\d\.", line)
    n = len(np.unique(o.star))
    prior = StarPrior(np.unique(o.star), ("g",), np.full((n, 1), 40.0), np.full((n, 1, 1), 1.0))
    known = solve_joint(o, forced, prior=prior)
    assert known.converged
    assert np.abs([known.term(name)[0].mean() for name in ("zero_point", "flat")]).max() < 1e-9
    assert [one for one in known.summary() if "mean of flat = 0, though by the priors of star magnitudes and" in one]


def test_constraints_that_contradict_each_other(field: tuple[Observations, Truth], solved: JointSolution) -> None:
    o = field[0]

    def of(*more: Constraint) -> JointSolution:
        return solve_joint(o, dataclasses.replace(MODEL, constraints=(*MODEL.constraints, *more)))

    with pytest.raises(ValueError, match="each other: mean of zero_point = 1, though by mean of zero_point = 0 it is"):
        of(Constraint("zero_point", value=1.0))
    cell = Constraint("flat", place="g 0,0", value=0.001)
    with pytest.raises(ValueError, match=r"flat of g 0,0 = 0\.002, though by .*flat of g 0,0 = 0\.001 it is 0\.001"):
        of(cell, dataclasses.replace(cell, value=0.002))
    twice = of(Constraint("zero_point"))
    np.testing.assert_allclose(twice.value, solved.value, atol=1e-9)
    assert "mean of zero_point = 0, which mean of zero_point = 0 had fixed" in twice.gauge


def test_a_cell_with_next_to_no_measurements_does_not_spread_its_error() -> None:
    """The mean of a flat is of the others: their errors are as without the few stars there."""
    o, _ = dithered(24, 300, bins=BINS, outlier=0.0)
    scaled = np.floor(BINS * np.stack([o.x, o.y])).astype(int)
    there = (scaled == 0).all(axis=0)
    few = np.ones(len(o), bool)
    few[np.flatnonzero(there)[2:]] = False
    noisy = dataclasses.replace(o, magnitude_error=np.where(there, 0.5, o.magnitude_error))
    found = solve_joint(noisy[few], dataclasses.replace(MODEL, error_floor=0.0))
    without = solve_joint(o[~there], dataclasses.replace(MODEL, error_floor=0.0))
    value, error = found.term("flat")
    assert error[0] > 0.3
    np.testing.assert_allclose(error[1:], without.term("flat")[1][1:], rtol=0.01)
    assert value[1:].mean() == pytest.approx(0, abs=1e-9)
    assert [one for one in found.summary() if "mean of flat = 0, without 1 of 25 cells, which have less than" in one]
    assert not any("without" in one for one in without.gauge)


def test_what_priors_say_already_is_told(field: tuple[Observations, Truth]) -> None:
    o = field[0]
    found = solve_joint(o, dataclasses.replace(MODEL, terms=(*MODEL.terms[:1], Color(prior=0.05), *MODEL.terms[2:])))
    assert found.converged
    assert [
        word
        for word in found.gauge
        if re.match(r"mean of color = 0, though by the prior of color it is .* \+- 0.0\d", word)
    ]
