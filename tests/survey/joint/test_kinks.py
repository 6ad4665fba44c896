"""Non-linear terms whose derivatives jump: steps that would go to and fro for ever are damped."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpjax.survey import Observations, make_observations
from xpjax.survey.joint import Constraint, JointModel, ZeroPoint, solve_joint
from xpjax.survey.joint.blocks import Linear, Part, Prepared, frame_groups
from xpjax.survey.joint.terms import Term


@dataclasses.dataclass(frozen=True)
class Kinked(Term):
    """A term whose derivatives are others below zero than above, as of a curve between its points."""

    below: np.ndarray
    above: np.ndarray
    name: str = "kinked"

    def prepare(self, observations: Observations, scale: Any) -> Prepared:
        groups = frame_groups(observations.frames, "all")
        return KinkedPrepared(self, groups.block(self.name, observations, Part("value", "mag", self.below)))


class KinkedPrepared(Prepared):
    linear = False

    def __init__(self, term: Kinked, block: Any) -> None:
        super().__init__(block)
        self.term = term

    def linearize(self, values: Sequence[np.ndarray], last: Any = None, magnitude: Any = None) -> Linear:
        value = values[0]
        slope = np.where(value[0] < 0, self.term.below, self.term.above)
        return Linear([value], slope * value[0], [slope])


def test_the_lowest_chi2_at_a_kink() -> None:
    """From either side whole steps lead to the other: the solution is at the kink, where chi2 is least."""
    rng = np.random.default_rng(0)
    star, exposure = np.tile(np.arange(40), 10), np.repeat([f"e{k}" for k in range(10)], 40)
    below, above = rng.normal(size=400), rng.normal(size=400)
    # What both sides want: above what is below, and below what is above.
    magnitude = 15 + 0.1 * star - 0.0001 * below + 0.0002 * above + 0.001 * rng.normal(size=400)
    zero, error = np.zeros(400), np.full(400, 0.001)
    rows = make_observations(star, zero, zero, magnitude, error, None, exposure=exposure)
    model = JointModel(
        (ZeroPoint(), Kinked(below, above)), (Constraint("zero_point"),), robust="none", clip=0.0, error_floor=0.0,
        min_observations=2,
    )  # fmt: skip
    found = solve_joint(rows, model)
    value, error = found.term("kinked")
    assert found.converged
    assert abs(value[0]) < 0.01 * error[0]
    shifted = [
        solve_joint(rows, dataclasses.replace(model, constraints=(*model.constraints, Constraint("kinked", value=v))))
        for v in (-2 * error[0], 2 * error[0])
    ]
    assert found.chi2 < min(one.chi2 for one in shifted)
