"""Draws from posteriors: Gaussian ones, those that the grid cuts off, and what is known of these in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, truncnorm

from xpjax.core.errors import XpjaxError
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.interpolation import interpolate_grid

X = np.linspace(360.0, 990.0, 60)
NODES = (np.linspace(0.0, 10, 6), np.linspace(-5.0, 5, 6))
DRAWS = 2000


def linear_grid() -> StellarGrid:
    """Models that are linear in both labels, with a mean of one: their posteriors are Gaussian, cut off by the grid."""
    rows = np.stack([np.cos((X - X[0]) / 100), np.sin((X - X[0]) / 60)])
    rows = 0.02 * (rows - rows.mean(axis=1, keepdims=True))
    labels = np.stack(np.meshgrid(*NODES, indexing="ij"), axis=-1)
    return StellarGrid(NODES, 1 + labels @ rows, X, ("a", "b"))


def closed(grid: StellarGrid, flux: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the labels by linear least squares."""
    model = np.asarray(grid.flux)
    rows = np.stack([(model[1, 0] - model[0, 0]) / 2, (model[0, 1] - model[0, 0]) / 2])
    covariance = np.linalg.inv(rows @ rows.T / sigma**2)
    start = np.array([0.0, -5.0])
    return start + covariance @ rows @ (flux - model[0, 0]) / sigma**2, covariance


@pytest.mark.slow
def test_gaussian_posteriors_are_drawn_from() -> None:
    grid = linear_grid()
    flux = np.asarray(grid.flux)[2:4, 2].copy() + 0.005 * np.sin(np.arange(60))
    flux /= flux.mean(axis=1, keepdims=True)
    fit = fit_labels(flux, np.full(flux.shape, 0.05), interpolate_grid(grid), posterior=DRAWS, float64=True)
    assert fit.draws is not None
    assert fit.n_effective is not None
    assert fit.draws.shape == (2, DRAWS, 2)
    assert (fit.n_effective > 700).all()
    for k in range(2):
        mean, covariance = closed(grid, flux[k], 0.05)
        error = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(fit.draws[k].mean(axis=0), mean, atol=0.08 * error.max())
        np.testing.assert_allclose(np.cov(fit.draws[k].T), covariance, rtol=0.12, atol=0.06 * error.prod())
        np.testing.assert_allclose(fit.covariance[k], covariance, rtol=1e-3, atol=1e-6)
        for label in range(2):  # the whole distribution
            known = kstest((fit.draws[k][:, label] - mean[label]) / error[label], "norm")
            assert known.statistic < 0.05
            assert (
                kstest((fit.draws[k][:, label] - mean[label] - error[label] / 4) / error[label], "norm").statistic
                > 0.07
            )
    catalogue = fit.catalogue().columns
    np.testing.assert_array_equal(catalogue["a_draws"], fit.draws[:, :, 0])
    again = fit_labels(flux, np.full(flux.shape, 0.05), interpolate_grid(grid), posterior=DRAWS, float64=True)
    np.testing.assert_array_equal(again.draws, fit.draws)


@pytest.mark.slow
def test_the_edge_of_the_grid_cuts_posteriors_off() -> None:
    """A star beyond the grid in one label has no Gaussian error, and a posterior that is known all the same."""
    grid = linear_grid()
    model = np.asarray(grid.flux)
    flux = (model[0, 2] + 0.75 * (model[0, 2] - model[1, 2]))[None]  # a = -1.5
    fit = fit_labels(flux, np.full(flux.shape, 0.05), interpolate_grid(grid), posterior=DRAWS, float64=True)
    assert fit.draws is not None
    assert fit.n_effective is not None
    assert np.isnan(fit.error[0, 0])
    assert fit.n_effective[0] > 400
    draws = fit.draws[0]
    assert draws[:, 0].min() >= 0
    mean, covariance = closed(grid, flux[0], 0.05)
    # The marginal of `a` is cut off at the grid, but for `b`, which is cut off far out.
    error = np.sqrt(covariance[0, 0])
    cut = truncnorm((0 - mean[0]) / error, np.inf, mean[0], error)
    assert kstest(draws[:, 0], cut.cdf).statistic < 0.05
    assert kstest(draws[:, 0], truncnorm(0, np.inf, 0, error).cdf).statistic > 0.06


@pytest.mark.slow
def test_amplitudes_bad_stars_and_refusals() -> None:
    grid = linear_grid()
    flux = 3e-16 * np.asarray(grid.flux)[2:4, 2].copy()
    flux[1, 3] = np.nan
    fit = fit_labels(flux, np.full(flux.shape, 3e-18), interpolate_grid(grid), normalization="scale", posterior=500)
    assert fit.draws is not None
    assert np.isnan(fit.draws[1]).all()
    np.testing.assert_allclose(np.cov(fit.draws[0].T), fit.covariance[0], rtol=0.3, atol=0.05 * fit.error[0].prod())
    with pytest.raises(XpjaxError, match="posterior=-1: give the number of draws"):
        fit_labels(flux, flux, interpolate_grid(grid), posterior=-1)
