"""Constraints of means and values, and priors instead of them."""

import dataclasses

import numpy as np
import pytest

from benchmarks.joint import Truth
from tests.survey.joint.helpers import BINS, MODEL
from xpjax.survey.joint.constraints import Constraint
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
    more = dataclasses.replace(MODEL, constraints=(*MODEL.constraints, Constraint("flat", place="g 0,0", value=0.01)))
    bent = solve_joint(o, more)
    assert bent.term("flat")[0][0] == pytest.approx(0.01, abs=1e-12)
    assert bent.term("flat")[0].mean() == pytest.approx(0, abs=1e-12)
    assert bent.chi2 > solved.chi2
