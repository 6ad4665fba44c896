"""Robust weights, clips and error floors."""

import dataclasses

import numpy as np
import pytest

from benchmarks.joint import Truth, dithered, plain_model
from tests.survey.joint.helpers import BINS, MODEL, N_EXPOSURE, N_STAR, SIZE
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Color, Flat, ZeroPoint
from xpjax.survey.observations import Observations, concatenate


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
