"""Fits: noise limits and pulls on mocks, the same minimum as scipy's, bad stars that touch nobody, edges and holes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.optimize import least_squares

from tests.stellar.helpers import NAMES, NODES, WAVELENGTH, made_grid, made_labels, spectrum, tensor
from xpjax.core.linalg import pack
from xpjax.core.status import FitStatus
from xpjax.extinction import extinction_curve, transmission
from xpjax.stellar.dust import redden
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.grid import build_grid
from xpjax.stellar.interpolation import Interpolator, interpolate_grid, model_spectra

SNR = 100.0


@pytest.fixture(scope="module")
def model() -> Interpolator:
    return interpolate_grid(made_grid(), components=16)


def mad(x: np.ndarray) -> np.ndarray:
    """Robust standard deviations of columns."""
    return 1.4826 * np.median(np.abs(x - np.median(x, axis=0)), axis=0)


def mocks(model: Interpolator, labels: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Spectra with noise, in W m-2 nm-1, and their errors."""
    return noisy(model_spectra(model, labels, float64=True), seed)


def noisy(flux: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    noise = flux / SNR
    rng = np.random.default_rng(seed)
    return 3e-17 * (flux + noise * rng.normal(size=flux.shape)), 3e-17 * noise


def chi2(model: Interpolator, labels: np.ndarray, flux: np.ndarray, error: np.ndarray) -> np.ndarray:
    mean = flux.mean(axis=1, keepdims=True)
    residual = (flux / mean - model_spectra(model, labels, float64=True)) / (error / mean)
    return np.sum(residual**2, axis=1)


@pytest.mark.slow
def test_mocks_give_the_truth_within_honest_errors(model: Interpolator) -> None:
    labels = made_labels(3000)
    flux, error = mocks(model, labels)
    fit = fit_labels(flux, error, model)
    assert fit.labels.dtype == np.float32
    missed = fit.chi2 > chi2(model, labels, flux, error) + 0.05
    assert missed.mean() < 2e-3
    assert (fit.status == FitStatus.OK).mean() > 0.9
    assert set(np.unique(fit.status)) <= {0, int(FitStatus.EDGE), int(FitStatus.NO_CONVERGENCE)}
    inner = (fit.status == 0) & np.all((labels > [4300, 3.8, -1.2]) & (labels < [5900, 4.7, 0.0]), axis=1)
    pull = ((fit.labels - labels) / fit.error)[inner]
    np.testing.assert_allclose(mad(pull), 1, atol=0.1)
    assert np.all(mad(pull * 1.3) > 1.1)  # errors too small by 1.3 would show
    np.testing.assert_allclose(np.median(fit.chi2 / fit.dof), 1, atol=0.03)
    np.testing.assert_array_equal(fit.dof, len(WAVELENGTH) - 4)
    off = flux / flux.mean(axis=1, keepdims=True) - model_spectra(model, fit.labels, float64=True)
    expected = 100 * np.mean(np.abs(off) > 0.05, axis=1)
    assert expected.max() > 0
    assert np.mean(np.abs(fit.dflux_per - expected) < 1e-3) > 0.999  # float32 may tip a sample


@pytest.mark.slow
def test_the_minimum_is_scipys(model: Interpolator) -> None:
    labels = made_labels(6, seed=3)
    labels = 0.8 * labels + 0.2 * np.array([5000, 4.3, -0.6])
    flux, error = mocks(model, labels, seed=3)
    fit = fit_labels(flux, error, model, float64=True)
    single = fit_labels(flux, error, model)
    scale = np.array([100.0, 0.1, 0.1])
    for i, truth in enumerate(labels):

        def residual(x: np.ndarray, i: int = i) -> np.ndarray:
            mean = flux[i].mean()
            x = np.clip(x * scale, [n[0] for n in NODES], [n[-1] for n in NODES])
            return (flux[i] / mean - model_spectra(model, x[None], float64=True)[0]) / (error[i] / mean)

        found = least_squares(residual, truth / scale, x_scale=0.1, xtol=1e-12, ftol=1e-12, gtol=1e-12)
        best = found.x * scale
        covariance = np.linalg.inv(found.jac.T @ found.jac) * np.outer(scale, scale)
        sigma = np.sqrt(np.diagonal(covariance))
        assert np.abs((fit.labels[i] - best) / sigma).max() < 3e-3
        assert np.abs((single.labels[i] - best) / sigma).max() < 3e-2
        assert np.abs((best + 0.1 * sigma - fit.labels[i]) / sigma).max() > 3e-2  # what would fail
        np.testing.assert_allclose(fit.covariance[i], covariance, rtol=1e-3, atol=1e-3 * np.outer(sigma, sigma).max())
        np.testing.assert_allclose(fit.chi2[i], 2 * found.cost, rtol=1e-6)
        np.testing.assert_allclose(single.chi2[i], 2 * found.cost, rtol=1e-3)


@pytest.mark.slow
def test_bad_stars_are_flagged_and_change_no_other_by_a_bit(model: Interpolator) -> None:
    labels = made_labels(10_000)
    flux, error = mocks(model, labels)
    flux, error = flux.astype(np.float32), error.astype(np.float32)
    clean = fit_labels(flux, error, model, spectra=True)
    bad = {3: "nan", 77: "zero", 1234: "infinite error", 5000: "zero error", 9_999: "nan error", 400: "negative"}
    flux[3, 10], flux[77], error[1234], error[5000, 4], error[9_999, 0] = np.nan, 0, np.inf, 0, np.nan
    flux[400] *= -1
    fit = fit_labels(flux, error, model, spectra=True)
    rows = np.array(list(bad))
    np.testing.assert_array_equal(fit.status[rows], int(FitStatus.BAD_INPUT))
    good = np.setdiff1d(np.arange(len(flux)), rows)
    for name in ("labels", "covariance", "chi2", "dflux_per", "flux", "status"):
        assert getattr(fit, name)[good].tobytes() == getattr(clean, name)[good].tobytes(), name
        if name != "status":
            assert np.isnan(getattr(fit, name)[rows]).all(), name


@pytest.mark.slow
def test_labels_stop_at_the_edge_and_others_go_on(model: Interpolator) -> None:
    # Cooler than the grid: Teff is held, the other labels and their errors are still given.
    low, high = 3900.0, 6300.0
    flux = spectrum(np.array([[low, 4.2, -0.5], [high, 4.2, -0.5], [5000, 4.2, -0.5]]))
    fit = fit_labels(flux, flux / SNR, model, float64=True)
    assert [FitStatus.describe(s) for s in fit.status] == ["EDGE", "EDGE", "OK"]
    np.testing.assert_array_equal(fit.labels[:2, 0], [4000, 6200])
    assert np.isnan(fit.error[:2, 0]).all()
    assert np.isfinite(fit.error[:2, 1:]).all()
    assert np.isfinite(fit.error[2]).all()


@pytest.mark.slow
def test_a_fit_that_wants_into_a_hole_says_so() -> None:
    holey = interpolate_grid(made_grid(holes=((4, 1, 2),)), components=16)
    labels = np.array([[4830.0, 4.05, -0.45], [4300, 4.2, -1.2]])
    flux = spectrum(labels)
    fit = fit_labels(flux, flux / SNR, holey, float64=True)
    assert FitStatus(int(fit.status[0])) & FitStatus.HOLE
    assert fit.status[1] == 0
    np.testing.assert_allclose(fit.labels[1], labels[1], rtol=5e-3)
    assert np.isfinite(model_spectra(holey, fit.labels)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "some samples",
        *(pytest.param(c, marks=pytest.mark.slow) for c in ("scale", "continuum", "fixed E(B-V)", "two labels")),
    ],
)
def test_every_normalization_finds_noiseless_labels(model: Interpolator, case: str) -> None:
    labels = 0.9 * made_labels(200, seed=6) + 0.1 * np.array([5000, 4.3, -0.6])
    truth = model_spectra(model, labels, float64=True)
    flux, options, own = 2e-15 * truth, {}, model
    x = 2 * (WAVELENGTH - WAVELENGTH[0]) / np.ptp(WAVELENGTH) - 1
    if case == "some samples":
        used = (np.arange(len(WAVELENGTH)) % 5 != 0) & (WAVELENGTH < 900)
        flux = np.where(used, flux, np.nan)
        options = {"used": used}
    elif case == "scale":
        flux, options = flux * 1.07, {"normalization": "scale"}
    elif case == "continuum":
        flux, options = flux * (1 + 0.05 * x - 0.03 * x**2), {"normalization": "scale", "continuum_order": 2}
    elif case == "fixed E(B-V)":
        ebv = np.linspace(0, 0.8, len(flux))
        flux = flux * np.asarray(transmission(extinction_curve(WAVELENGTH), ebv))
        options = {"ebv": ebv}
    else:
        grid = made_grid()
        own = interpolate_grid(
            dataclasses.replace(grid, nodes=grid.nodes[:2], flux=grid.flux[:, :, 3], names=NAMES[:2]), components=16
        )
        labels = labels[:, :2]
        flux = model_spectra(own, labels, float64=True)
    fit = fit_labels(flux, np.abs(flux) / SNR, own, float64=True, **options)
    good = fit.status == 0
    assert good.mean() > 0.95
    assert np.median(np.abs(fit.labels - labels)[good] / fit.error[good]) < 1e-3
    assert np.all(fit.chi2[good] < 0.1)


@pytest.mark.slow
def test_extinction_is_a_label_like_others_and_priors_pull() -> None:
    red = interpolate_grid(redden(made_grid(), np.arange(0, 0.61, 0.15)), components=20)
    n = 250
    labels = np.column_stack([0.8 * made_labels(n, seed=8) + 0.2 * np.array([5000, 4.3, -0.6]), np.full(n, 0.3)])
    flux, error = mocks(red, labels)
    # Each star twice: without a prior on E(B-V), and with one.
    twice = np.concatenate([np.arange(n), np.arange(n)])
    prior = {"ebv": (0.3, np.repeat([np.nan, 0.01], n))}
    fit = fit_labels(flux[twice], error[twice], red, priors=prior)
    good = (fit.status[:n] == 0) & (fit.status[n:] == 0)
    assert good.mean() > 0.8
    np.testing.assert_allclose(mad(((fit.labels[:n] - labels) / fit.error[:n])[good]), 1, atol=0.25)
    assert np.all(fit.error[n:, 3][good] < 0.01)
    # Gaussian times Gaussian: precisions add.
    inverse = np.linalg.inv(fit.covariance[:n][good].astype(float)) + np.diag([0, 0, 0, 1e4])
    expected = np.sqrt(np.diagonal(np.linalg.inv(inverse), axis1=1, axis2=2))
    np.testing.assert_allclose(np.median(fit.error[n:][good] / expected, axis=0), 1, atol=0.03)
    assert np.median(fit.error[n:, 0][good] / fit.error[:n, 0][good]) < 0.9


@pytest.mark.slow
def test_correlated_noise_is_whitened(model: Interpolator) -> None:
    labels = 0.8 * made_labels(300, seed=9) + 0.2 * np.array([5000, 4.3, -0.6])
    n = len(WAVELENGTH)
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    matrix = 0.9 * np.exp(-distance / 5) + 0.1 * np.eye(n)
    truth = model_spectra(model, labels, float64=True)
    noise = truth / SNR
    flux = truth + noise * (np.random.default_rng(2).normal(size=truth.shape) @ np.linalg.cholesky(matrix).T)
    rows = np.tile(np.asarray(pack(matrix)), (len(flux), 1))
    rows[-20:-2], rows[-2:] = 0, 1.5  # no correlations, and impossible ones
    fit = fit_labels(flux, noise, model, correlation=rows)
    plain = fit_labels(flux, noise, model)
    assert np.all(np.abs(fit.labels - plain.labels)[-20:-2] <= 0.02 * np.nan_to_num(plain.error[-20:-2], nan=1e-3))
    np.testing.assert_allclose(fit.chi2[-20:-2], plain.chi2[-20:-2], rtol=1e-3)
    np.testing.assert_array_equal(fit.status[-2:], int(FitStatus.BAD_INPUT))
    good = (fit.status == 0) & (plain.status == 0) & (np.arange(len(flux)) < len(flux) - 20)
    np.testing.assert_allclose(mad(((fit.labels - labels) / fit.error)[good]), 1, atol=0.2)
    np.testing.assert_allclose(np.median((fit.chi2 / fit.dof)[good]), 1, atol=0.05)
    assert np.all(mad((fit.labels - labels)[good]) < mad((plain.labels - labels)[good]))
    mean = flux[0].mean()
    scaled = matrix * np.outer(noise[0], noise[0]) / mean**2
    residual = flux[0] / mean - model_spectra(model, fit.labels[:1], float64=True)[0]
    np.testing.assert_allclose(fit.chi2[0], residual @ np.linalg.solve(scaled, residual), rtol=1e-3)


@pytest.mark.slow
def test_an_error_floor_widens_errors(model: Interpolator) -> None:
    flux, error = mocks(model, made_labels(50))
    thin, wide = (fit_labels(flux, error, model, error_floor=floor) for floor in (0.0, 0.01))
    good = (thin.status == 0) & (wide.status == 0)
    np.testing.assert_allclose(np.median(wide.error[good] / thin.error[good]), np.sqrt(2), rtol=0.02)


@pytest.mark.slow
def test_coefficients_are_fitted_with_an_amplitude() -> None:
    """XP coefficients have any sign and no mean."""
    grid = made_grid()
    mixing = np.linalg.qr(np.random.default_rng(0).normal(size=(len(WAVELENGTH), 40)))[0]
    own = dataclasses.replace(grid, flux=grid.flux @ mixing, wavelength=np.arange(40.0), sampling="coefficients")
    model = interpolate_grid(own, components=16)
    labels = 0.9 * made_labels(50, seed=6) + 0.1 * np.array([5000, 4.3, -0.6])
    value = 7e3 * model_spectra(model, labels, float64=True)
    fit = fit_labels(value, np.full(value.shape, 7.0), model, normalization="scale", float64=True)
    assert (fit.status == 0).mean() > 0.9
    good = fit.status == 0
    assert np.median(np.abs(fit.labels - labels)[good] / fit.error[good]) < 1e-3
    with pytest.raises(ValueError, match="normalization='scale'"):
        fit_labels(value, value, model)


@pytest.mark.slow
def test_a_catalogue_has_labels_errors_and_covariances(model: Interpolator) -> None:
    flux, error = mocks(model, made_labels(5))
    fit = fit_labels(flux, error, model)
    table = fit.catalogue(np.arange(5), keep={"g": np.ones(5)})
    assert list(table.columns) == [
        *("source_id", "teff", "logg", "mh", "teff_error", "logg_error", "mh_error"),
        *("teff_logg_covariance", "teff_mh_covariance", "logg_mh_covariance"),
        *("chi2", "dof", "dflux_per", "g", "fit_status"),
    ]
    np.testing.assert_array_equal(table.columns["teff_mh_covariance"], fit.covariance[:, 0, 2])
    assert table.units["teff_error"] == "K"
    assert len(fit) == 5


def test_calls_that_do_not_fit_are_refused(model: Interpolator) -> None:
    flux, error = mocks(model, made_labels(4))
    for options, message in (
        ({"normalization": "median"}, "choose from"),
        ({"continuum_order": 2}, "normalization='scale'"),
        ({"starts": 0}, "at least one"),
        ({"error_floor": -1}, "zero or more"),
        ({"priors": {"vsini": (1, 1)}}, "it has"),
        ({"priors": {"teff": (5000, 0)}}, "not positive"),
        ({"ebv": np.zeros(3)}, "ebv must be"),
        ({"used": np.ones(3, bool)}, "used must be"),
        ({"correlation": np.zeros((4, 7))}, "correlation must be"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_labels(flux, error, model, **options)
    with pytest.raises(ValueError, match="flux must be"):
        fit_labels(flux[:, 1:], error[:, 1:], model)
    with pytest.raises(ValueError, match="error must be"):
        fit_labels(flux, error[:2], model)


@pytest.mark.slow
def test_nextgen_reaches_the_noise_limit(shared: Callable[[str], Path]) -> None:
    path = shared("grids/nextgen/nextgen_1nm_300_1100.npz")
    limits = {"teff": (4000, 7000, 200), "logg": (3.5, 5.0, 0.5), "mh": (-1.5, 0.0, 0.5)}
    grid = build_grid("nextgen", path, limits=limits)
    full, model = interpolate_grid(grid, components=None), interpolate_grid(grid)
    labels = np.random.default_rng(0).uniform([4000, 3.5, -1.5], [7000, 5.0, 0.0], (6000, 3))
    flux, error = mocks(full, labels)
    fit = fit_labels(flux, error, model, doubt=False)  # the interpolation is the mocks' own
    assert np.all(mad(fit.labels - labels) < [4.1, 0.018, 0.012])
    good = fit.status == 0
    np.testing.assert_allclose(mad(((fit.labels - labels) / fit.error)[good]), 1, atol=0.05)
    assert (fit.chi2 > chi2(model, labels, flux, error) + 0.1).mean() <= 1e-3
    assert not np.any(fit.status & FitStatus.NO_CONVERGENCE)
    # Spectra that another interpolator made: FERRE's own figures on such a set.
    some = labels[:400]
    flux, error = noisy(tensor(grid, some, PchipInterpolator))
    found = fit_labels(flux, error, model).labels
    assert np.all(mad(found - some) < [6.6, 0.033, 0.025])
    wrong = fit_labels(flux, error, interpolate_grid(grid, kind="linear")).labels
    assert np.any(mad(wrong - some) > [6.6, 0.033, 0.025])
