"""A dithered field with outliers, and its solution."""

import pytest

from benchmarks.joint import Truth, dithered
from tests.survey.joint.helpers import BINS, MODEL, N_EXPOSURE, N_STAR
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.observations import Observations


@pytest.fixture(scope="session")
def field() -> tuple[Observations, Truth]:
    return dithered(N_EXPOSURE, N_STAR, bins=BINS, outlier=0.02)


@pytest.fixture(scope="session")
def solved(field: tuple[Observations, Truth]) -> JointSolution:
    return solve_joint(field[0], MODEL)
