"""Corrected spectra against NumPy, where they do not hold, and files of linear corrections."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from xpjax.core.status import Status
from xpjax.xp import simulate
from xpjax.xp.correction import LinearCorrection, is_linear, load_correction, named_correction, write_correction
from xpjax.xp.sources import SourceTable

GRID = np.array([342.0, 402.0, 500.0, 640.0, 700.0, 956.0])


def standard() -> LinearCorrection:
    found = load_correction()
    assert found is not None
    return found


def without_limit() -> LinearCorrection:
    """The standard correction, which holds for all stars."""
    return dataclasses.replace(standard(), domain=dataclasses.replace(standard().domain, limit=np.array(1e30)))


@pytest.fixture(scope="module")
def stars() -> SourceTable:
    table = simulate.simulate_sources(120, seed=21, dtype=np.float64)
    return table[np.flatnonzero(table.columns["phot_g_mean_mag"] < 17)]


def covariance(table: SourceTable, row: int) -> np.ndarray:
    """K of all coefficients of a source, BP and RP independent."""
    out = np.zeros((table.release.n_basis_total,) * 2)
    for xp, rows in zip(table.release.xp, table.release.slices, strict=True):
        out[rows, rows] = xpjax.covariance_matrix(table[[row]], xp)[0]
    return out


def distances(table: SourceTable) -> np.ndarray:
    """d^2 (n,) by NumPy in float64."""
    domain, value = standard().domain, np.asarray(table.coefficients.value, float)
    parts = [value[:, rows.start : rows.start + n] for rows, n in zip(table.release.slices, domain.lead, strict=True)]
    b = np.concatenate(parts, axis=1)
    return np.asarray(((b @ domain.direction / (b @ domain.level)[:, None] - domain.center) ** 2).sum(axis=1))


def matrix(correction: LinearCorrection) -> np.ndarray:
    """W + D on GRID: the published design matrix, and what is added to it."""
    place = np.searchsorted(correction.wavelength, GRID)
    np.testing.assert_array_equal(correction.wavelength[place], GRID)
    design = xpjax.load_instrument().design(GRID)
    return np.asarray(design.value) * float(design.scale) + correction.change[:, place]


def test_spectra_are_products_with_the_changed_design_matrix(stars: SourceTable) -> None:
    m = matrix(standard())
    found = xpjax.spectra(stars, GRID, correction=without_limit(), resolution="full", float64=True)
    flux = np.asarray(stars.coefficients.value) @ m
    level = np.abs(flux).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found.flux / level, flux / level, atol=1e-10)
    raw = xpjax.spectra(stars, GRID, float64=True).flux
    assert np.median(np.abs(raw - flux) / level) > 3e-3, "the correction does something"
    assert found.flux_error is not None
    for row in (0, 5):
        exact = np.sqrt(np.diagonal(m.T @ covariance(stars, row) @ m))
        np.testing.assert_allclose(found.flux_error[row], exact, rtol=1e-9)
    assert found.meta["correction"] == "standard"
    assert found.meta["resolution"] == "full"


def test_resolution_of_xp_is_a_convolution(stars: SourceTable) -> None:
    fine = np.arange(330.0, 1050.1, 0.25)
    dense = xpjax.spectra(stars, fine, correction=without_limit(), resolution="full", float64=True, errors=False).flux
    found = xpjax.spectra(stars, GRID, correction=without_limit(), float64=True, errors=False)
    sigma = GRID / xpjax.load_instrument().resolution(GRID) / 2.3548
    kernel = np.exp(-0.5 * ((GRID[:, None] - fine) / sigma[:, None]) ** 2)
    smooth = dense @ (kernel / kernel.sum(axis=1, keepdims=True)).T
    level = np.abs(smooth).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found.flux / level, smooth / level, atol=1e-3)
    assert found.meta["resolution"] == "xp", "by default, with a correction"
    assert np.abs(found.flux - dense[:, np.searchsorted(fine, GRID)]).max() > 10 * np.abs(found.flux - smooth).max()


def test_a_star_without_bp_is_as_without_correction(stars: SourceTable) -> None:
    value = np.array(stars.coefficients.value)
    value[3, stars.release.slices[0]] = np.nan
    table = dataclasses.replace(stars, coefficients=dataclasses.replace(stars.coefficients, value=value))
    found, raw = (xpjax.spectra(table, GRID, correction=c, float64=True) for c in ("standard", None))
    assert found.status[3] & Status.NOT_CORRECTED
    assert found.status[3] & ~np.uint32(Status.NOT_CORRECTED) == raw.status[3]
    np.testing.assert_array_equal(found.flux[3], raw.flux[3])
    others = np.arange(len(table)) != 3
    assert not (found.status[others] & np.uint32(Status.NOT_CORRECTED)).any()
    np.testing.assert_array_equal(
        found.flux[others], xpjax.spectra(stars, GRID, correction="standard", float64=True).flux[others]
    )


def test_beyond_the_limit_the_change_fades(stars: SourceTable) -> None:
    distance = distances(stars)
    limit = 1.001 * float(np.median(distance))
    near = dataclasses.replace(standard(), domain=dataclasses.replace(standard().domain, limit=np.array(limit)))
    found = xpjax.spectra(stars, GRID, correction=near, resolution="full", float64=True)
    whole = xpjax.spectra(stars, GRID, correction=without_limit(), resolution="full", float64=True).flux
    raw = xpjax.spectra(stars, GRID, float64=True).flux
    far = distance > limit
    assert 0.4 < far.mean() < 0.6
    np.testing.assert_array_equal((found.status & np.uint32(Status.OUTSIDE_TRAINING)) > 0, far)
    share = np.where(far, limit / distance, 1)[:, None]
    level = np.abs(raw).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found.flux / level, (raw + share * (whole - raw)) / level, atol=1e-9)


def test_precision_and_truncation(stars: SourceTable) -> None:
    double, single = (
        xpjax.spectra(stars, GRID, correction="standard", truncate=True, float64=f).flux for f in (True, False)
    )
    level = np.abs(double).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(single / level, double / level, atol=2e-5)
    place = np.concatenate([np.arange(n) for n in stars.release.n_basis])
    most = np.repeat(np.asarray(stars.coefficients.n_relevant), stars.release.n_basis, axis=1)
    value = np.where(place < most, np.asarray(stars.coefficients.value), 0.0)
    cut = xpjax.spectra(value, GRID, correction=without_limit(), float64=True, errors=False).flux
    near = distances(stars) < float(standard().domain.limit)
    np.testing.assert_allclose((double / level)[near], (cut / level)[near], atol=1e-9)
    full = xpjax.spectra(stars, GRID, correction="standard", float64=True).flux
    assert np.abs(full - double).max() > 1e-3 * level.min()


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "own.h5"
    own = dataclasses.replace(standard(), name="own", change=standard().change * 0.5)
    write_correction(path, own)
    assert is_linear(path)
    assert not is_linear(__file__)
    read = load_correction(path)
    assert read is not None
    np.testing.assert_array_equal(read.change, own.change)
    assert (read.name, read.domain.lead) == ("own", own.domain.lead)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_correction(path, own)
    assert named_correction("own", path) is read
    assert named_correction("none") is None
    with pytest.raises(ValueError, match=r"own is needed.*base="):
        named_correction("own")
    with pytest.raises(ValueError, match="cannot have own: give standard"):
        named_correction("standard", path)


def test_refusals(stars: SourceTable) -> None:
    with pytest.raises(ValueError, match="v375wi/v142r, not for v211w/v142r"):
        xpjax.load_instrument("v211w/v142r").corrected()
    with pytest.raises(ValueError, match="internal spectra have no correction"):
        xpjax.spectra(stars, internal=True, correction="standard")
    with pytest.raises(ValueError, match="resolution 'half'"):
        xpjax.spectra(stars, resolution="half")
    with pytest.raises(ValueError, match="no file of a linear correction"):
        load_correction(__file__)
