"""The fit of one exposure against scipy, NumPy and known truth."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import least_squares

from tests.survey.exposures.helpers import PLAIN, N, fit, made, matrix
from xpjax.survey.exposures.results import Prior
from xpjax.survey.observations import concatenate, make_observations
from xpjax.survey.robust import HUBER, SCALE


@pytest.mark.slow
def test_without_robustness_it_is_weighted_least_squares() -> None:
    o = made()
    found = fit(o, dataclasses.replace(PLAIN, robust="none", clip=0, error_floor=0.0))
    a, w = matrix(o), 1 / o.magnitude_error
    expected, *_ = np.linalg.lstsq(a * w[:, None], (o.model - o.magnitude) * w, rcond=None)
    np.testing.assert_allclose(found.value[0], expected, rtol=1e-9)
    covariance = np.linalg.inv((a * w[:, None] ** 2).T @ a)
    np.testing.assert_allclose(found.covariance[0], covariance, rtol=1e-8, atol=1e-16)
    wrong, *_ = np.linalg.lstsq(a, o.model - o.magnitude, rcond=None)
    assert np.abs(found.value[0] - wrong).max() > 1e-5  # the comparison would see missing weights


def test_huber_is_scipys() -> None:
    """The same estimator as scipy.optimize's huber loss, with the floor given."""
    o = made(outliers=0.1)
    found = fit(o, dataclasses.replace(PLAIN, robust="huber", clip=0, error_floor=0.003), tolerance=1e-10)
    a, s = matrix(o), np.hypot(o.magnitude_error, 0.003)
    y = o.model - o.magnitude
    start, *_ = np.linalg.lstsq(a, y, rcond=None)
    options = {"f_scale": HUBER, "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    expected = least_squares(lambda p: (y - a @ p) / s, start, loss="huber", **options).x
    np.testing.assert_allclose(found.value[0], expected, rtol=0, atol=2e-7)
    assert np.abs(start - expected).max() > 1e-3


def test_tukey_leaves_outliers_alone_and_finds_them() -> None:
    clean, dirty = fit(made()), made(outliers=0.2)
    found = fit(dirty)
    error = np.sqrt(np.diagonal(found.covariance[0]))
    assert np.all(np.abs(found.value[0] - clean.value[0]) < 3 * error)
    off = np.abs(dirty.model - made().model) > 0.1
    assert found.clipped[off].all()
    assert np.count_nonzero(found.clipped & ~off) < 0.02 * N
    naive = fit(dirty, dataclasses.replace(PLAIN, robust="none", clip=0))
    assert np.abs(naive.value[0] - clean.value[0]).max() > 20 * error.max()


def test_the_floor_solves_its_own_equation() -> None:
    o = made(noise=0.004)
    rng = np.random.default_rng(5)
    o = dataclasses.replace(o, model=o.model + rng.normal(size=N) * 0.012)
    found = fit(o, tolerance=1e-10)
    total = o.magnitude_error**2 + found.floor[0] ** 2
    q = np.minimum(found.residual**2 / (SCALE**2 * total), 1)
    assert np.sum(1 - (1 - q) ** 3) == pytest.approx(0.5 * (N - 8), rel=1e-6)
    assert found.floor[0] == pytest.approx(0.012, rel=0.15)
    assert fit(made()).floor[0] < 0.004


def test_zero_point_is_the_median_over_the_grid_and_errors_are_honest() -> None:
    parts = [made(seed, name=f"e{seed}") for seed in range(120)]
    o = concatenate(parts)
    found = fit(o)
    g = (np.arange(20) + 0.5) * 200
    x, y = (a.ravel() for a in np.meshgrid(g, g))
    u, v = x / 2000 - 1, y / 2000 - 1
    truth = np.median(3 + 0.03 * u - 0.02 * v * u + 0.04 * v**2)
    pull = (found.zero_point - truth) / found.zero_point_error
    assert 0.85 < pull.std() < 1.2
    assert abs(pull.mean()) < 0.35
    one = matrix(make_observations(np.zeros(400), x, y, 0 * x, None, None, color=0 * x + 1.0))
    np.testing.assert_allclose(found.zero_point[3], np.median(one @ found.value[3]), rtol=1e-12)
    pulls = (found.value - [3.02, 0.03, 0, 0, -0.02, 0.02, 0.05, -0.02]) / np.sqrt(
        np.diagonal(found.covariance, axis1=1, axis2=2)
    )
    assert np.all(np.abs(pulls.std(axis=0) - 1) < 0.25)


def test_common_errors_are_quoted_apart() -> None:
    o = made()
    o = dataclasses.replace(o, model_error=np.full(N, 0.02))
    found = fit(o, dataclasses.replace(PLAIN, robust="none", clip=0, error_floor=0.0))
    a, w = matrix(o), 1 / (o.magnitude_error**2 + 0.02**2)
    h = np.linalg.solve((a.T * w) @ a, a.T * w)
    np.testing.assert_allclose(found.covariance[0], (h * o.magnitude_error**2) @ h.T, rtol=1e-7, atol=1e-15)
    np.testing.assert_allclose(found.common_covariance[0], (h * 0.02**2) @ h.T, rtol=1e-7, atol=1e-15)


@pytest.mark.slow
def test_high_orders_stay_exact() -> None:
    o = made(noise=1e-9)
    u, v = o.x / 2000 - 1, o.y / 2000 - 1
    o = dataclasses.replace(o, model=o.model + 0.02 * u**4 - 0.01 * u**2 * v**2 + 0.03 * v**3)
    found = fit(o, dataclasses.replace(PLAIN, position_order=4))
    assert np.abs(found.residual).max() < 2e-8


@pytest.mark.slow
def test_a_prior_holds_what_stars_do_not_tell() -> None:
    o = made(n=5)
    mean = np.array([[0, 0.03, 0, 0, -0.02, 0.02, 0.05, -0.02]])
    prior = Prior(mean, np.array([[0.0, *[1e10] * 7]]))
    found = fit(o, prior=prior)
    np.testing.assert_allclose(found.value[0, 1:], mean[0, 1:], atol=1e-4)
    assert found.value[0, 0] == pytest.approx(3.02, abs=0.03)
