"""Absolute and internal spectra against GaiaXPy, live, and against the archive's own sampled spectrum."""

from __future__ import annotations

import zipfile
from functools import cache

import numpy as np
import pytest

import xpjax
from tests import oracles
from tests.marks import slow_after
from xpjax.core.release import Release
from xpjax.core.status import Status
from xpjax.xp.read.archive import as_sources
from xpjax.xp.sources import SourceTable, XPCoefficients

MODELS = ("v375wi/v142r", "v211w/v142r")
GRIDS = {"default": None, "regular": np.arange(336.0, 1021, 3.7), "sparse": np.array([330.0, 400, 640, 641, 1050])}


@cache
def made() -> SourceTable:
    return as_sources(oracles.coefficients(np.random.default_rng(2), 5))


def scaled(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference relative to each spectrum's peak."""
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    return float(np.nanmax(np.abs(found - expected) / np.nanmax(np.abs(expected), axis=-1, keepdims=True)))


@pytest.mark.parametrize("model", slow_after(1, MODELS))
@pytest.mark.parametrize("truncate", slow_after(1, [True, False]))
@pytest.mark.parametrize("grid", GRIDS)
def test_absolute_equals_gaiaxpy(model: str, truncate: bool, grid: str) -> None:
    expected = oracles.calibrate(made(), GRIDS[grid], model.split("/")[0], truncation=truncate)
    flux, error = np.stack(expected.flux), np.stack(expected.flux_error)
    instrument = xpjax.load_instrument(model)
    exact = xpjax.spectra(made(), GRIDS[grid], truncate=truncate, float64=True, instrument=instrument)
    assert oracles.worst(exact.flux_error, error) < 1e-10
    design = np.abs(instrument.design(GRIDS[grid]).value) * 1e-18
    sums = np.abs(made().coefficients.value) @ design
    assert np.all(np.abs(exact.flux - flux) <= 1e-12 * sums + 1e-10 * np.abs(flux))
    fast = xpjax.spectra(made(), GRIDS[grid], truncate=truncate, instrument=instrument)
    assert fast.flux.dtype == np.float32
    assert np.all(np.abs(fast.flux - flux) <= 1e-6 * sums)
    assert oracles.worst(fast.flux_error, error) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("truncate", [False, True])
def test_internal_equals_gaiaxpy(truncate: bool) -> None:
    expected = oracles.convert(made(), truncation=truncate, with_correlation=True)
    found = xpjax.spectra(made(), internal=True, truncate=truncate, float64=True, correlation=True)
    assert scaled(found.flux.reshape(-1, 600), np.stack(expected.flux)) < 1e-12
    assert oracles.worst(found.flux_error.reshape(-1, 600), np.stack(expected.flux_error)) < 1e-10
    assert np.max(np.abs(found.correlation.reshape(10, -1) - np.stack(expected.correlation))) < 1e-10
    fast = xpjax.spectra(made(), internal=True, truncate=truncate)
    assert scaled(fast.flux.reshape(-1, 600), np.stack(expected.flux)) < 2e-6


def test_bspline_basis_equals_gaiaxpy() -> None:
    from gaiaxpy.config.paths import spline_bases_file

    rng = np.random.default_rng(3)
    release = Release("C04", (48, 44))
    c = XPCoefficients(
        rng.uniform(1, 2, (3, 92)),
        rng.uniform(0.1, 0.2, (3, 92)),
        np.zeros((3, release.n_pair_total)),
        release=release,
    )
    grid = np.linspace(0.0, 58.9, 400)
    expected = oracles.convert(as_sources(c), sampling=grid, config_file=spline_bases_file)
    found = xpjax.spectra(c, grid, internal=True, basis="bspline_c04", float64=True)
    assert oracles.worst(found.flux.reshape(-1, 400), np.stack(expected.flux)) < 1e-10
    assert oracles.worst(found.flux_error.reshape(-1, 400), np.stack(expected.flux_error)) < 1e-10


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "vot"])
def test_golden_source_equals_the_archives_own_spectrum(shared, tmp_path, suffix: str) -> None:
    import pandas as pd

    folder = "golden/gaia_dr3_source_id_5937083312263887616_dl_products_"
    with zipfile.ZipFile(shared(f"{folder}{suffix}.zip")) as archive:
        archive.extractall(tmp_path)
    with zipfile.ZipFile(shared(f"{folder}csv.zip")) as archive:
        archive.extractall(tmp_path)
    sampled = pd.read_csv(next(tmp_path.glob("XP_SAMPLED*.csv")))
    if len(sampled) == 1:  # one row with array cells
        sampled = pd.DataFrame(
            {key: np.fromstring(str(sampled[key][0]).strip('()[]"'), sep=",") for key in ("flux", "flux_error")}
        )
    found = xpjax.spectra(next(tmp_path.glob(f"XP_CONTINUOUS*.{'xml' if suffix == 'vot' else suffix}")))
    assert found.flux.shape == (1, 343)
    assert oracles.worst(found.flux[0], sampled["flux"]) < 1e-5
    assert oracles.worst(found.flux_error[0], sampled["flux_error"]) < 1e-5
    assert oracles.worst(found.flux[0] * 1.0001, sampled["flux"]) > 1e-5  # and it would notice


def test_real_sources_equal_gaiaxpy(shared) -> None:
    table = xpjax.read(shared("xp/xp_bright_corr_20.parquet"))
    expected = oracles.calibrate(table, GRIDS["regular"], "v375wi")
    found = xpjax.spectra(table, GRIDS["regular"], float64=True)
    assert oracles.worst(found.flux, np.stack(expected.flux)) < 1e-10
    assert oracles.worst(found.flux_error, np.stack(expected.flux_error)) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("float64", [False, True])
@pytest.mark.parametrize("internal", [False, True])
def test_correlation_is_a_correlation(float64: bool, internal: bool) -> None:
    grid = np.arange(0, 60, 3.0) if internal else np.arange(336.0, 1000, 20)
    found = xpjax.spectra(made(), grid, correlation=True, float64=float64, internal=internal)
    tolerance = 1e-12 if float64 else 1e-5
    for row in range(len(made())):
        for xp in (0, 1) if internal else (None,):
            covariance = found.covariance(row, xp)
            sigma = found.flux_error[(row,) if xp is None else (row, xp)].astype(float)
            np.testing.assert_allclose(np.diag(covariance), sigma**2, rtol=1e-12)
            np.testing.assert_array_equal(covariance, covariance.T)
            assert np.linalg.eigvalsh(covariance / np.outer(sigma, sigma)).min() > -tolerance


def test_correlation_agrees_with_a_dense_product() -> None:
    grid = np.array([400.0, 500, 637, 639, 641, 700])
    found = xpjax.spectra(made(), grid, correlation=True, float64=True)
    design = np.asarray(xpjax.load_instrument().design(grid).value) * 1e-18
    c = made().coefficients
    for row in range(3):
        expected = 0.0
        for k in range(2):
            matrix = np.eye(55)
            rows, columns = np.tril_indices(55, -1)
            matrix[rows, columns] = matrix[columns, rows] = c.correlation[row, 1485 * k : 1485 * (k + 1)]
            error = c.error[row, 55 * k : 55 * (k + 1)]
            block = design[55 * k : 55 * (k + 1)]
            expected = expected + block.T @ (matrix * np.outer(error, error)) @ block
        np.testing.assert_allclose(found.covariance(row), expected, rtol=1e-10, atol=1e-12 * np.abs(expected).max())


@pytest.mark.slow
def test_one_xp_alone_gives_its_samples() -> None:
    c = made().coefficients
    value = c.value.copy()
    value[0, :55] = np.nan
    value[1, 55:] = np.nan
    table = as_sources(XPCoefficients(value, c.error, c.correlation))
    expected = oracles.calibrate(table, None, "v375wi")
    found = xpjax.spectra(table, float64=True, correlation=True)
    assert oracles.worst(found.flux, np.stack(expected.flux)) < 1e-10
    assert oracles.worst(found.flux_error, np.stack(expected.flux_error)) < 1e-10
    assert found.status[0] == Status.BP_MISSING | Status.BAND_MISSING
    assert found.status[1] == Status.RP_MISSING | Status.BAND_MISSING
    wavelength = found.wavelength
    np.testing.assert_array_equal(np.isnan(found.flux[0]), wavelength <= 635)
    np.testing.assert_array_equal(np.isnan(found.flux[1]), wavelength >= 643)
    known = np.isfinite(found.flux[0])
    matrix = found.covariance(0)
    assert np.all(np.isfinite(matrix[np.ix_(known, known)]))
    assert np.all(np.isnan(matrix[~known]))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([500.0, 400.0], "must ascend: 500 is followed by 400"),
        ([400.0, 400.0], "must ascend"),
        ([300.0, 400.0], r"beyond 330\.\.1050 nm"),
        ([400.0, 1100.0], r"beyond 330\.\.1050 nm"),
        ([], "not empty"),
        ([[400.0]], "one-dimensional"),
        ([400.0, np.nan], "not finite"),
    ],
)
def test_bad_grids_are_refused(grid: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        xpjax.spectra(made(), grid)


def test_a_grid_may_end_a_rounding_beyond() -> None:
    grid = np.arange(330, 1050.0001, 0.05)
    assert grid[-1] > 1050
    sampled = xpjax.spectra(made(), grid, errors=False)
    exact = xpjax.spectra(made(), np.linspace(330, 1050, 14401), errors=False)
    np.testing.assert_allclose(sampled.flux, exact.flux, rtol=1e-4, atol=1e-6 * np.nanmax(np.abs(exact.flux)))
    with pytest.raises(ValueError, match="beyond"):
        xpjax.spectra(made(), [330.0, 1050.001])


def test_comparison_fails_on_a_wrong_answer() -> None:
    expected = np.stack(oracles.calibrate(made(), None, "v375wi").flux)
    shifted = xpjax.spectra(made(), np.arange(336.0, 1021, 2) + 1e-5, float64=True)
    assert oracles.worst(shifted.flux, expected) > 1e-10


@pytest.mark.slow
def test_covariance_says_what_it_needs() -> None:
    grid = np.arange(0, 60, 10.0)
    with pytest.raises(ValueError, match="correlation=True"):
        xpjax.spectra(made()).covariance(0)
    with pytest.raises(ValueError, match="errors=True"):
        xpjax.spectra(made(), correlation=True, errors=False).covariance(0)
    with pytest.raises(ValueError, match="xp=0 for BP"):
        xpjax.spectra(made(), grid, internal=True, correlation=True).covariance(0)
    with pytest.raises(ValueError, match="leave out xp"):
        xpjax.spectra(made(), [400.0, 500.0], correlation=True).covariance(0, 1)


def test_internal_grid_and_basis_are_checked() -> None:
    with pytest.raises(ValueError, match="pass internal=True"):
        xpjax.spectra(made(), basis="bspline_c04")
    with pytest.raises(ValueError, match=r"beyond -10\.\.70"):
        xpjax.spectra(made(), [80.0], internal=True)
    with pytest.raises(ValueError, match="no internal basis"):
        xpjax.spectra(made(), internal=True, basis="fourier")
    with pytest.raises(ValueError, match="release of the data"):
        xpjax.spectra(made(), internal=True, basis="bspline_c04")
