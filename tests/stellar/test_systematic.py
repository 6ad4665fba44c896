"""Errors common to stars in chi2 and in the errors of labels, beside the covariance written out in NumPy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.stellar.helpers import WAVELENGTH, made_grid, made_labels
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import pack
from xpjax.stellar.dust import redden
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.grid_file import grid_digest, read_grid, write_grid
from xpjax.stellar.interpolation import Interpolator, interpolate_grid, model_spectra

N = 40
PLACE = (WAVELENGTH - 360) / 630
TEMPLATES = 0.006 * np.array(
    [PLACE - 0.5, np.cos(6 * PLACE), np.sin(9 * PLACE), np.exp(-(((PLACE - 0.1) / 0.05) ** 2)), np.cos(20 * PLACE)]
)


def wrong_grid() -> StellarGrid:
    return dataclasses.replace(made_grid(), systematic=TEMPLATES)


@pytest.fixture(scope="module")
def model() -> Interpolator:
    return interpolate_grid(wrong_grid(), components=16)


def mocks(model: Interpolator, part: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, spectra with noise and what is common to stars, and errors, which are this part of the flux."""
    rng = np.random.default_rng(seed)
    labels = 0.7 * made_labels(N, seed=3) + 0.3 * np.array([5000, 4.3, -0.6])
    truth = model_spectra(model, labels, float64=True)
    flux = truth * (1 + rng.normal(size=(N, len(TEMPLATES))) @ TEMPLATES + part * rng.normal(size=truth.shape))
    return labels, 3e-17 * flux, 3e-17 * part * truth


def slopes(model: Interpolator, labels: np.ndarray) -> np.ndarray:
    """Derivatives (3, n) of a model by finite differences."""
    step = np.diag([5.0, 0.005, 0.005])
    up, down = (model_spectra(model, labels + sign * step, float64=True) for sign in (1, -1))
    return (up - down) / (2 * np.diagonal(step)[:, None])


def written_out(
    model: Interpolator, labels: np.ndarray, data: np.ndarray, noise: np.ndarray, used: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """chi2 of one star, its errors and the part of the noise; noise (m, m): that of the samples used."""
    normal = model_spectra(model, labels[None], float64=True)[0]
    mean = normal[used].mean()
    share = normal[used] / normal[used].sum()
    templates = TEMPLATES[:, used]
    templates = (templates - (templates @ share)[:, None]) * normal[used] / mean
    inverse = np.linalg.inv(noise + templates.T @ templates)
    rows = slopes(model, labels)[:, used]
    rows = (rows - normal[used] * rows.mean(axis=1, keepdims=True) / mean) / mean
    total = np.linalg.inv(rows @ inverse @ rows.T)
    made = total @ rows @ inverse
    left = data - normal[used] / mean
    return left @ inverse @ left, np.sqrt(np.diagonal(total)), np.sqrt(np.diagonal(made @ noise @ made.T))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["diagonal", "some samples", "correlated"])
def test_chi2_and_errors_are_those_of_the_whole_covariance(model: Interpolator, case: str) -> None:
    _, flux, error = mocks(model, 0.004)
    used, options, matrix = np.ones(len(WAVELENGTH), bool), {}, np.eye(len(WAVELENGTH))
    if case == "some samples":
        used = (WAVELENGTH > 400) & (np.arange(len(WAVELENGTH)) % 7 != 0)
        options = {"used": used}
    if case == "correlated":
        distance = np.abs(np.subtract.outer(np.arange(len(WAVELENGTH)), np.arange(len(WAVELENGTH))))
        matrix = 0.9 * np.exp(-distance / 3) + 0.1 * np.eye(len(WAVELENGTH))
        options = {"correlation": np.asarray(pack(matrix))}
    fit = fit_labels(flux, error, model, float64=True, **options)
    good = np.flatnonzero(fit.status == 0)
    assert len(good) > 0.8 * N
    ratio = []
    for i in good:
        mean = flux[i, used].mean()
        sigma = error[i, used] / mean
        noise = matrix[np.ix_(used, used)] * sigma[:, None] * sigma
        found = written_out(model, fit.labels[i], flux[i, used] / mean, noise, used)
        ratio.append([fit.chi2[i] / found[0], *(fit.error[i] / found[1]), *(fit.error_formal[i] / found[2])])
    # Templates are fractions of a smooth flux that fits the data, here of the model: alike to second order.
    assert np.all(np.abs(np.array(ratio) - 1) < 0.1)
    np.testing.assert_allclose(np.median(ratio, axis=0), 1, atol=0.01)
    alone = fit_labels(flux, error, model, float64=True, systematic=False, **options)
    assert alone.error_formal is None
    assert np.median(alone.chi2 / alone.dof) > 1.5, "what would fail"
    assert np.nanmedian(alone.error / fit.error) < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("part", [1e-3, 0.004, 0.1])
def test_errors_cover_the_truth(model: Interpolator, part: float) -> None:
    """chi2 per degree of freedom is one, and float32 does as float64."""
    labels, flux, error = mocks(model, part)
    single, fit = (fit_labels(flux, error, model, float64=wide) for wide in (False, True))
    good = (fit.status == 0) & (single.status == 0)
    assert good.mean() > (0.8 if part < 0.1 else 0.3)
    assert np.abs((single.labels - fit.labels) / fit.error)[good].max() < 0.02
    np.testing.assert_allclose(single.chi2[good], fit.chi2[good], rtol=1e-3)
    np.testing.assert_allclose(single.error[good], fit.error[good], rtol=3e-3)
    np.testing.assert_allclose(single.error_formal[good], fit.error_formal[good], rtol=3e-3)
    np.testing.assert_allclose(np.median((fit.chi2 / fit.dof)[good]), 1, atol=0.12)
    pull = ((fit.labels - labels) / fit.error)[good]
    if part == 0.004:
        assert np.all(np.abs(np.sqrt(np.mean(pull**2, axis=0)) - 1) < 0.4)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", [True, False])
def test_sources_have_them_too(covariance: bool) -> None:
    """With the noise of coefficients, as with the correlations of their spectra."""
    grid = wrong_grid()
    table = xpjax.simulate_sources(60, seed=4)
    table = table[np.flatnonzero(table.columns["phot_g_mean_mag"] < 17)[:8]]
    how = {"correction": None, "ebv": 0.0, "error_floor": 0.02}
    quick = xpjax.stellar.LabelFitter(grid, covariance=covariance, truncate=False, **how)(table).fit
    made = xpjax.spectra(table, WAVELENGTH, correlation=True, float64=True)
    more = {"correlation": made.correlation} if covariance else {}
    dense = fit_labels(made.flux, made.flux_error, interpolate_grid(grid), error_floor=0.02, float64=True, **more)
    np.testing.assert_allclose(quick.chi2, dense.chi2, rtol=2e-3)
    good = (quick.status == 0) & (dense.status == 0)
    np.testing.assert_allclose(quick.error_formal[good], dense.error_formal[good], rtol=0.05)
    assert np.all(quick.error_formal[good] <= quick.error[good] * 1.001)


def test_a_grid_keeps_them(tmp_path: Path) -> None:
    grid = wrong_grid()
    assert grid_digest(grid) != grid_digest(made_grid())
    write_grid(grid, tmp_path / "g.h5")
    found = read_grid(tmp_path / "g.h5")
    np.testing.assert_allclose(found.systematic, TEMPLATES, rtol=1e-6, atol=1e-12)
    for other in (redden(found, [0.0, 0.1]), found.select({"mh": (-1, 0)})):
        np.testing.assert_array_equal(other.systematic, found.systematic)
    with pytest.raises(XpjaxError, match="systematic has shape"):
        dataclasses.replace(grid, systematic=TEMPLATES[:, 1:])
    with pytest.raises(XpjaxError, match="fractions of a flux"):
        dataclasses.replace(grid, sampling="coefficients")
