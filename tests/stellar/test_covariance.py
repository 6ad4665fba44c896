"""Fits with the covariance of all samples: by the noise of coefficients, beside the matrices written out in NumPy."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import xpjax
from tests.stellar.helpers import made_grid
from xpjax.core import engine
from xpjax.core.status import FitStatus, Status
from xpjax.stellar.chi2 import Noise, Part, Reach, correlated, seen_with
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.fitter import LabelFitter
from xpjax.stellar.interpolation import Interpolator, interpolate_grid, model_spectra
from xpjax.xp import SourceTable, XPCoefficients, covariance_matrix, load_instrument

N = 12


@pytest.fixture(scope="module")
def model() -> Interpolator:
    return interpolate_grid(made_grid())


@pytest.fixture(scope="module")
def stars() -> SourceTable:
    table = xpjax.simulate_sources(400, seed=4)
    g = table.columns["phot_g_mean_mag"]
    return table[np.flatnonzero((g > 14) & (g < 17))[:N]]


def covariances(table: SourceTable, model: Interpolator) -> tuple[Reach, np.ndarray]:
    """How the noise of a table reaches samples, and their covariances (n, m, m) in float64."""
    design = load_instrument().design(np.asarray(model.wavelength))
    value = np.asarray(design.value, float)
    seen = tuple(value[r, a:b] for r, (a, b) in zip(table.release.slices, design.support, strict=True))
    whole = np.zeros((len(table), *[len(model.wavelength)] * 2))
    for k, (start, stop) in enumerate(design.support):
        noise = covariance_matrix(table, table.release.xp[k], float64=True)
        whole[:, start:stop, start:stop] += seen[k].T @ noise @ seen[k]
    return Reach(seen, design.support), whole * float(design.scale) ** 2


def test_woodbury_is_the_inverse(model: Interpolator, stars: SourceTable) -> None:
    reach, whole = covariances(stars, model)
    rows = np.concatenate([np.asarray(model.mean)[None], np.asarray(model.basis)])
    made = xpjax.spectra(stars, np.asarray(model.wavelength), float64=True)
    mean = made.flux.mean(axis=1)
    source = engine.cast(stars.coefficients.of_errors(True, False), np.dtype(float))
    seen, products = seen_with(reach, rows), (rows[:, None] * rows).reshape(-1, rows.shape[1]).T
    t, floor = np.linspace(1, 0.1, len(rows)), np.full(rows.shape[1], 1e-3**2)

    def solved(own: XPCoefficients, data: Array, sigma: Array) -> tuple[Array, Array, Array]:
        plain, used = Part(data, jnp.asarray(rows), jnp.ones(len(data))), jnp.ones(len(data), bool)
        found, matrix = correlated(plain, products, seen, own, sigma, floor, used)
        return matrix, found.chi2(jnp.asarray(t)), found.gradient(jnp.asarray(t))

    solve = jax.jit(solved)
    for i in range(len(stars)):
        data, sigma = made.flux[i] / mean[i], made.flux_error[i] / mean[i]
        inverse = np.linalg.inv(whole[i] / mean[i] ** 2 + np.diag(floor))
        left = data - t @ rows
        with engine.precision(True):  # as a fit is computed
            matrix, chi2, gradient = solve(source[i], jnp.asarray(data), jnp.asarray(sigma))
        expected = rows @ inverse @ rows.T
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-8 * expected.max())
        np.testing.assert_allclose(chi2, left @ inverse @ left, rtol=1e-6)
        slope = rows @ inverse @ left
        np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-6 * abs(slope).max())


def packed(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n, m) and packed correlations of covariances."""
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    rows, columns = np.tril_indices(error.shape[1], -1)
    return error, covariance[:, rows, columns] / (error[:, rows] * error[:, columns])


@pytest.mark.slow
@pytest.mark.parametrize("floor", [0.02, 1e-3])
def test_labels_are_those_of_the_dense_matrix(model: Interpolator, stars: SourceTable, floor: float) -> None:
    """On spectra of the models, with noise of this covariance: to 1e-3 of the errors, in every star."""
    reach, covariance = covariances(stars, model)
    rng = np.random.default_rng(2)
    low, high = ([x[i] for x in model.nodes] for i in (0, -1))
    truth = model_spectra(model, rng.uniform(low, high, (N, 3)), float64=True)
    covariance /= xpjax.spectra(stars, np.asarray(model.wavelength)).flux.mean(axis=1)[:, None, None].astype(float) ** 2
    flux = truth + np.array([rng.multivariate_normal(np.zeros(len(c)), c, method="eigh") for c in covariance])
    flux += floor * truth * rng.normal(size=flux.shape)
    error, correlation = packed(covariance)
    dense = fit_labels(flux, error, model, correlation=correlation, error_floor=floor, float64=True)
    noise = Noise(reach, stars.coefficients.of_errors(True, False))
    quick = fit_labels(flux, error, model, correlation=noise, error_floor=floor)
    assert quick.labels.dtype == np.float32
    np.testing.assert_array_equal(quick.status, dense.status)
    assert np.median(dense.chi2 / dense.dof) < 1.2
    assert np.nanmax(np.abs(quick.labels - dense.labels) / dense.error) < 1e-3
    np.testing.assert_allclose(quick.chi2, dense.chi2, rtol=1e-5)
    size = dense.error[:, :, None] * dense.error[:, None, :]
    assert np.nanmax(np.abs(quick.covariance - dense.covariance) / size) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("correction", ["none", "standard"])
def test_sources_are_fitted_with_the_noise_of_their_coefficients(
    model: Interpolator, stars: SourceTable, correction: str
) -> None:
    """As with the correlations of their spectra, corrected or not, and one without RP."""
    value = np.array(stars.coefficients.value)
    value[0, stars.release.slices[1]] = np.nan
    table = dataclasses.replace(stars, coefficients=dataclasses.replace(stars.coefficients, value=value))
    how = {"truncate": True, "correction": correction}
    plain = {"systematic": False}
    quick = LabelFitter(model, covariance=True, error_floor=0.02, options=plain, **how)(table)
    made = xpjax.spectra(
        table, np.asarray(model.wavelength), correlation=True, float64=True, **{**how, "truncate": False}
    )
    kept = xpjax.spectra(table, np.asarray(model.wavelength), float64=True, **how)
    made = dataclasses.replace(made, flux=kept.flux)
    there = np.isfinite(made.flux) & np.isfinite(made.flux_error)
    assert there[1:].all()
    assert there[0].any()
    assert bool(made.status[0] & Status.NOT_CORRECTED) == (correction == "standard")
    settings = {"correlation": np.nan_to_num(made.correlation), "error_floor": 0.02, "float64": True}
    dense = fit_labels(made.flux, made.flux_error, model, used=there, **settings)
    np.testing.assert_allclose(quick.fit.chi2, dense.chi2, rtol=1e-3)
    np.testing.assert_array_equal(quick.fit.dof, dense.dof)
    # chi2 is far above dof, as these stars are none of the grid: labels are settled to 0.1 of errors that grow with it.
    size = dense.error * np.sqrt(dense.chi2 / dense.dof)[:, None]
    assert np.nanmax(np.abs(quick.fit.labels - dense.labels) / size) < 0.1


def test_what_is_no_covariance_is_bad_input(model: Interpolator, stars: SourceTable) -> None:
    reach, covariance = covariances(stars, model)
    error, _ = packed(covariance)
    source = stars.coefficients.of_errors(True, False)
    wrong, none = np.array(source.correlation), np.array(source.error)
    wrong[0] = 1.5  # no correlations
    none[1] = np.nan  # errors of samples are there, those of coefficients not
    flux = np.tile(np.asarray(model.mean), (N, 1)) * 1e3 * error.max()
    noise = Noise(reach, dataclasses.replace(source, correlation=wrong, error=none))
    fit = fit_labels(flux, error, model, correlation=noise, error_floor=0.01)
    bad = fit.status & FitStatus.BAD_INPUT != 0
    np.testing.assert_array_equal(bad, np.arange(N) < 2)
    assert np.isnan(fit.labels[bad]).all()
    assert np.isfinite(fit.labels[~bad]).all()


def test_noise_of_other_stars_is_refused(model: Interpolator, stars: SourceTable) -> None:
    reach, covariance = covariances(stars, model)
    error, _ = packed(covariance)
    noise = Noise(reach, stars.coefficients[:3])
    with pytest.raises(xpjax.XpjaxError, match="3 sources"):
        fit_labels(np.ones_like(error), error, model, correlation=noise, error_floor=0.01)
