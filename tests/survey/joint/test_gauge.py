"""Degenerate combinations of columns: found in factors and by products, and refused by name."""

import dataclasses

import numpy as np
import pytest

from benchmarks.joint import Truth, plain_model
from tests.survey.joint.helpers import BINS, MODEL
from xpjax.survey.joint import factor, fit as joint, gauge
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.observations import Observations


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
    monkeypatch.setattr(gauge, "probe_null_space", lambda *a: seen.append(factor.probe_null_space(*a)) or seen[-1])
    found = solve_joint(field[0], dataclasses.replace(MODEL, dense=10))
    assert seen[0].shape[1] > 3
    assert len(found.gauge) == 3
    np.testing.assert_allclose(found.value, solved.value, rtol=0, atol=1e-9)


def test_an_exposure_apart_is_named(field: tuple[Observations, Truth], dense: int) -> None:
    o = field[0]
    alone = dataclasses.replace(o, star=np.where(o.frame == 3, o.star + 1000, o.star))
    with pytest.raises(ValueError, match=r"zero_point of e00003 g.*color of e00003 g"):
        solve_joint(alone, dataclasses.replace(MODEL, min_observations=1, dense=dense))
