"""Rows that cannot be used, and places without data."""

import dataclasses

import numpy as np
import pytest

from benchmarks.joint import Truth
from tests.survey.joint.helpers import MODEL
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.observations import Observations, RowFlag


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
