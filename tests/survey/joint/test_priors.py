"""Prior magnitudes of stars: common errors, gauges, bands coupled by covariances."""

import dataclasses

import numpy as np
import pytest

from benchmarks.joint import Truth, dithered
from tests.survey.joint.helpers import MODEL, N_STAR
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.priors import StarPrior
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Color, ZeroPoint
from xpjax.survey.observations import Observations, concatenate


def test_what_all_spectra_share_is_a_term_with_a_prior(field: tuple[Observations, Truth]) -> None:
    """Errors common to all stars' models: an offset of the band with a prior adds to each zero-point's error."""
    o, truth = field
    models = truth.magnitude + np.random.default_rng(0).normal(0, 0.01, N_STAR)
    o = dataclasses.replace(o, model=models[o.star], model_error=np.full(len(o), 0.01))
    model = dataclasses.replace(MODEL, star_prior=True, constraints=MODEL.constraints[2:])
    plain = solve_joint(o, model)
    shared = ZeroPoint("of spectra", per="band", prior=0.002), Color("color of spectra", per="band", prior=0.003)
    found = solve_joint(o, dataclasses.replace(model, terms=(*model.terms, *shared)))
    for name, size in (("zero_point", 0.002), ("color", 0.003)):
        np.testing.assert_allclose(found.term(name)[0], plain.term(name)[0], atol=1e-9)
        np.testing.assert_allclose(found.term(name)[1], np.hypot(plain.term(name)[1], size), rtol=1e-6)
    # Exposures share it: their differences are as well known as before.
    difference = np.zeros((1, len(found.value)))
    difference[0, found.places("zero_point")[:2]] = 1, -1
    assert np.sqrt(found.covariance(difference)[0, 0]) < 0.0007


def test_star_priors_fix_the_gauge_and_have_the_stars_covariance(field: tuple[Observations, Truth]) -> None:
    o, truth = field
    model = truth.magnitude + np.random.default_rng(1).normal(0, 0.01, N_STAR)
    with_models = dataclasses.replace(
        o, model=model[o.star], model_error=np.full(len(o), 0.01), color=truth.color[o.star]
    )
    free = dataclasses.replace(MODEL, constraints=(Constraint("flat"),), star_prior=True)
    found = solve_joint(with_models, free)
    value, error = found.term("zero_point")
    assert np.mean(value - truth.zero_point) == pytest.approx(0, abs=4 * 0.01 / np.sqrt(N_STAR))
    assert error.min() > 0.8 * 0.01 / np.sqrt(N_STAR)  # the models' errors do not average out over exposures
    assert found.chi2 / found.degrees_of_freedom == pytest.approx(1, abs=0.05)
    # As a record the same; and a covariance that says nothing of other bands does not couple.
    prior = StarPrior(np.arange(N_STAR), ("g",), model[:, None], np.full((N_STAR, 1, 1), 1e-4))
    again = solve_joint(with_models, dataclasses.replace(free, star_prior=False), prior=prior)
    np.testing.assert_allclose(again.value, found.value, atol=1e-9)


def test_bands_are_coupled_by_the_stars_covariance() -> None:
    """Against the full system in NumPy: two bands, prior errors correlated by 0.9."""
    g, truth = dithered(8, 60, bins=2, outlier=0.0)
    r, _ = dithered(8, 60, bins=2, outlier=0.0, seed=0)
    r = dataclasses.replace(r, frames=dataclasses.replace(r.frames, band=np.full(8, "r")))
    keep = np.arange(len(r)) % 3 == 0
    o = concatenate([g, r[keep]])
    o = dataclasses.replace(o, x=np.full(len(o), 0.5), y=np.full(len(o), 0.5))  # at one place: no flat to be missed
    covariance = np.broadcast_to(1e-4 * np.array([[1, 0.9], [0.9, 1]]), (60, 2, 2))
    prior = StarPrior(np.arange(60), ("r", "g"), np.stack([truth.magnitude] * 2, axis=1), covariance)
    model = JointModel((ZeroPoint(),), robust="none", clip=0.0, error_floor=0.0, min_observations=1)
    found = solve_joint(o, model, prior=prior)
    n_frame = len(o.frames)
    band = (o.frames.band == "r").astype(int)[o.frame]  # bands are sorted: g, r
    a = np.zeros((len(o), n_frame + 120))
    a[np.arange(len(o)), o.frame] = 1
    a[np.arange(len(o)), n_frame + 2 * o.star + band] = -1
    weight = 1 / o.magnitude_error.astype(float) ** 2
    normal = (a.T * weight) @ a
    right = -(a.T * weight) @ o.magnitude
    inverse = np.linalg.inv(covariance[0])
    for s in range(60):
        two = slice(n_frame + 2 * s, n_frame + 2 * s + 2)
        normal[two, two] += inverse
        right[two] += inverse @ np.full(2, truth.magnitude[s])
    expected = np.linalg.solve(normal, right)
    np.testing.assert_allclose(found.value, expected[:n_frame], atol=1e-9)
    np.testing.assert_allclose(found.magnitude, expected[n_frame:].reshape(-1, 2)[found.star], atol=1e-9)
    whole = np.linalg.inv(normal)
    star = int(found.star[3])
    index = [0, 9, n_frame + 2 * star, n_frame + 2 * star + 1]
    mine = found.covariance(np.eye(n_frame)[[0, 9]], [(star, "g"), (star, "r")])
    np.testing.assert_allclose(mine, whole[np.ix_(index, index)], rtol=1e-6)
    on_device = solve_joint(o, model, prior=prior, devices="cpu")
    np.testing.assert_allclose(on_device.value, found.value, atol=1e-9)
