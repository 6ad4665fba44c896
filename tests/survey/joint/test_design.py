"""Corrections of other rows than those that were solved for."""

import dataclasses

import numpy as np
import pytest

from benchmarks.joint import Truth
from tests.survey.joint.helpers import MODEL
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Color, ZeroPoint
from xpjax.survey.observations import Observations


def test_corrections_of_other_rows(field: tuple[Observations, Truth], solved: JointSolution) -> None:
    o = field[0]
    added, error = solved.correction(o[::50])
    place = np.searchsorted(solved.star, o.star[::50])
    known = np.isfinite(solved.residual[::50])
    calibrated = o.magnitude[::50] + added
    np.testing.assert_allclose(
        (solved.magnitude[place, 0] - calibrated)[known], solved.residual[::50][known], atol=1e-9
    )
    design, _ = solved.design_matrix(o[:1])
    row = design.toarray()[0]
    expected = np.sqrt(row @ solved.covariance(np.eye(len(row))) @ row)
    assert error[0] == pytest.approx(expected, rel=1e-8)
    elsewhere = dataclasses.replace(o[::50], frames=dataclasses.replace(o.frames, exposure=o.frames.exposure + "x"))
    assert np.isnan(solved.correction(elsewhere)[0]).all()
    # Unknown to one term is unknown, whatever other terms know.
    terms = (ZeroPoint(per="band"), Color())
    model = dataclasses.replace(MODEL, terms=terms, constraints=tuple(Constraint(term.name) for term in terms))
    assert np.isnan(solve_joint(o, model).correction(elsewhere, errors=False)[0]).all()
