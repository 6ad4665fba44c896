"""What stars at one place of the detector share and no term holds: found, told, and part of the errors."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.survey.joint.nights import MODEL as NIGHTS, observe
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.field_floor import ANNULI, cosines, powers
from xpjax.survey.joint.files import read_joint_solution, write_joint_solution
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Color, Flat, ZeroPoint
from xpjax.survey.observations import make_observations

N_EXPOSURE, N_STAR, NOISE, ERROR = 20, 400, 0.003, 0.01
FLAT = Flat(form="chebyshev", order=2)
TERMS = (ZeroPoint(), Color(per="all"), FLAT)


def wave(rng: np.random.Generator, size: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A response (n,) [mag] at places x and y (n,) of waves of 1/5 to 1/2 of the detector."""
    n = 30
    k, angle, phase = 2 * np.pi * rng.uniform(2, 5, n), rng.uniform(0, 2 * np.pi, n), rng.uniform(0, 2 * np.pi, n)
    return lambda x, y: (
        size
        * np.sqrt(2 / n)
        * np.cos(np.outer(x, k * np.cos(angle)) + np.outer(y, k * np.sin(angle)) + phase).sum(axis=1)
    )


def solved(size: float, seed: int, flat: Flat = FLAT) -> JointSolution:
    """Dithered exposures of standards, whose response has waves of 1/5 to 1/2 of the detector of this size [mag].

    All true values of zero-points, color term and polynomial flat are zero.
    """
    rng = np.random.default_rng(seed)
    response = wave(rng, size)
    place, magnitude, color = rng.uniform(-0.1, 1.1, (N_STAR, 2)), rng.uniform(13, 16, N_STAR), rng.normal(size=N_STAR)
    exposure, star, at = [], [], []
    for e in range(N_EXPOSURE):
        moved = place + rng.uniform(-0.1, 0.1, 2)
        mine = np.flatnonzero(((moved > 0) & (moved < 1)).all(axis=1))
        exposure.append(np.full(len(mine), e))
        star.append(mine)
        at.append(moved[mine])
    s, (x, y) = np.concatenate(star), np.concatenate(at).T
    measured = magnitude[s] + response(x, y) + NOISE * rng.normal(size=len(s))
    model = magnitude + ERROR * rng.normal(size=N_STAR)
    o = make_observations(
        s, x, y, measured, np.full(len(s), NOISE), model[s], model_error=np.full(len(s), ERROR), color=color[s],
        exposure=np.char.mod("e%d", np.concatenate(exposure)),
    )  # fmt: skip
    terms = (*TERMS[:2], flat)
    options = {"error_floor": 0.005, "clip": 0.0, "robust": "none", "size": (0.0, 1.0, 0.0, 1.0), "color_zero": 0.0}
    return solve_joint(o, JointModel(terms, star_prior=True, **options))  # type: ignore[arg-type]


def test_variances_of_waves() -> None:
    """Of scores as their covariance has them, and none where there is only noise."""
    every, annulus = cosines(8)
    np.testing.assert_allclose(every.T @ every / 64, np.eye(63), atol=1e-12)
    rng = np.random.default_rng(0)
    v = np.diag(rng.uniform(1e5, 2e5, 64))
    count, found = np.bincount(annulus, minlength=len(ANNULI)), []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        noise = np.sqrt(np.diagonal(v)) * rng.normal(size=64)
        assert not powers(noise, v, v, every, annulus).any()
        f = every[:, annulus == 1] @ rng.normal(size=count[1]) * 0.01 / np.sqrt(count[1])
        power = powers(noise + v @ f, v, v, every, annulus)
        assert power.argmax() == 1
        found.append(power[1] * count[1])
    assert np.mean(found) == pytest.approx(1e-4, rel=0.2)


def test_found_told_and_kept(tmp_path: Path) -> None:
    found = solved(0.006, 0)
    (floor,) = found.field_floor.values()
    assert 0.0035 < floor < 0.008
    (line,) = [line for line in found.summary() if "RESIDUALS ARE SHARED" in line]
    assert f"{1e3 * floor:.1f} mmag" in line
    assert 'form = "superpixel"' in line
    write_joint_solution(tmp_path / "joint.h5", found)
    again = read_joint_solution(tmp_path / "joint.h5")
    assert again.field_floor == found.field_floor
    assert line in again.summary()
    np.testing.assert_allclose(again.star_errors(), found.star_errors())


def test_what_a_flat_holds_is_no_floor() -> None:
    """A slope of 20 mmag over the detector, of which a flat of 4 x 4 cells leaves 1.44 mmag and waves have 5.8."""
    o = observe()
    found = solve_joint(o, NIGHTS)
    assert len(found.field_floor) == 4
    assert np.mean([*found.field_floor.values()]) == pytest.approx(0.02 / 4 / np.sqrt(12), rel=0.3)
    # The flat's errors are of the means over its cells, which it has: by what it is off them in ten surveys.
    off, error = [], []
    for seed in range(10):
        made = solve_joint(observe(seed=seed), NIGHTS)
        value, own = made.term("flat")
        middle = (np.arange(4) + 0.5) / 4 - 0.5
        y, x = np.meshgrid(middle, middle, indexing="ij")
        for k, sign in enumerate((1, -1, 1, -1)):
            true = sign * 0.02 * x + 0.01 * y**2
            off.append(value.reshape(4, 4, 4)[k] - (true - true.mean()))
            error.append(own.reshape(4, 4, 4)[k])
    assert 0.8 < np.sqrt(np.mean((np.array(off) / np.array(error)) ** 2)) < 1.15


def test_what_constraints_fix_has_no_error() -> None:
    """Not one of rounding either, which would be as large as others where a correlation is made of it."""
    fixed = (
        Constraint("zero_point", place="n0e0g g a", force=True), Constraint("flat", place="g a 0,0", force=True),
    )  # fmt: skip
    found = solve_joint(observe(), dataclasses.replace(NIGHTS, constraints=(*NIGHTS.constraints, *fixed)))
    assert found.field_floor
    for name, place in (("zero_point", "n0e0g g a"), ("flat", "g a 0,0")):
        column = found.columns(name).start + found.block(name).labels.index(place)
        assert found.error(np.array([column]))[0] == 0.0
        assert not found.covariance(np.eye(len(found.value)))[column].any()


def test_nothing_is_found_in_noise() -> None:
    for seed in range(5):
        found = solved(0.0, seed)
        assert found.field_floor == {}
        assert not any("SHARED" in line for line in found.summary())


@pytest.mark.slow
def test_a_finer_flat_leaves_less() -> None:
    """Of cells of 1/12 of the detector a third of the variance of waves of 1/4 is left."""
    fine = solved(0.006, 0, Flat(bins=12, prior=0.03))
    assert sum(fine.field_floor.values()) < 0.8 * sum(solved(0.006, 0).field_floor.values())


@pytest.mark.slow
def test_errors_hold_what_is_shared() -> None:
    """Errors with it have beside errors without what waves move the color term and the stars by, here linearly."""
    color, stars = [], []
    for seed in range(4):
        found, plain = solved(0.006, seed), solved(0.006, seed)
        fit = plain.uncertainty.fit  # type: ignore[attr-defined]
        plain.uncertainty.__dict__["field"] = None
        column = found.columns("color").start
        expected = found.term("color")[1][0] ** 2 - plain.term("color")[1][0] ** 2
        of_stars = np.nanmean(found.star_errors() ** 2 - plain.star_errors() ** 2)
        rows, weight, slots, o = fit.equations.rows, fit.equations.weight, fit.stars.slots, fit.problem.observations
        for k in range(40):
            shape = wave(np.random.default_rng(1000 + k), 0.006)(o.x, o.y)[fit.problem.sorted.order]
            mean = slots.times(fit.equations.inverse, rows.sums(weight * shape))
            change = -plain.uncertainty.inverse(rows.adjoint(weight * (shape - slots.of_rows(mean)))[:, None])[:, 0]
            color.append(change[column] ** 2 / expected)
            of_star = mean + slots.times(fit.equations.inverse, rows.sums(weight * rows.predict(change)))
            stars.append(np.mean(of_star**2) / of_stars)
    assert np.sqrt(np.mean(color)) == pytest.approx(1, abs=0.25)
    assert np.sqrt(np.mean(stars)) == pytest.approx(1, abs=0.15)
