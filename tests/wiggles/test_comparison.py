"""Residuals of trusted stars: what they are, and which stars are left out and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import star_features, stars
from xpjax.extinction import AV_PER_SFD, extinction_curve
from xpjax.wiggles.comparison import FLOOR, Trust, make_residuals, residuals_of_spectra
from xpjax.wiggles.feature_files import write_features
from xpjax.wiggles.features import Features
from xpjax.xp.wavelengths import constant_grid

N = 12
GRID = constant_grid()


def made(ebv: float = 0.3) -> tuple[Features, np.ndarray, np.ndarray, np.ndarray]:
    """Stars, spectra as observed through dust with known wiggles, the true ones, and the wiggles."""
    rng = np.random.default_rng(1)
    stars = star_features()[:N]
    stars = Features(stars.source_id, stars.names, stars.value, np.full(N, ebv))
    true = 1 + 0.5 * np.sin(GRID / 90 + rng.uniform(0, 6, (N, 1)))
    wiggle = 0.03 * np.cos(GRID / 15 + rng.uniform(0, 6, (N, 1)))
    wiggle -= wiggle.mean(axis=1, keepdims=True)
    mean = true.mean(axis=1, keepdims=True)
    dust = 10 ** (-0.4 * AV_PER_SFD * ebv * extinction_curve(GRID))
    return stars, 7e-17 * (true - wiggle * mean) * dust, 3.0 * true, wiggle


def test_residuals_are_the_wiggles() -> None:
    stars, flux, true, wiggle = made()
    found, counts = make_residuals(stars, GRID, flux, true)
    np.testing.assert_allclose(found.residual, wiggle, atol=1e-12)
    assert not any(counts.values())
    observed, _ = make_residuals(stars, GRID, flux, true, space="observed")
    assert np.abs(observed.residual - wiggle).max() > 0.05
    clear, dry, true, wiggle = made(ebv=0.0)
    same, _ = make_residuals(clear, GRID, dry, true, space="observed", kind="multiplicative")
    own = true / true.mean(axis=1, keepdims=True) - wiggle
    np.testing.assert_allclose(same.residual, wiggle / own, atol=1e-12)


def test_weights_follow_errors_down_to_the_floor() -> None:
    stars, flux, true, _ = made(ebv=0.0)
    error = np.broadcast_to(1e-2 * flux.mean(axis=1, keepdims=True), flux.shape).copy()
    error[0] = 2 * FLOOR * flux[0].mean()
    found, _ = make_residuals(stars, GRID, flux, true, flux_error=error, trust=Trust(snr=10))
    np.testing.assert_allclose(found.weight[0], 1 / 5)
    np.testing.assert_allclose(found.weight[1:], 1 / (1 + 1e-4 / FLOOR**2))


def test_stars_are_left_out_and_counted_once() -> None:
    stars, flux, true, _ = made()
    source_id, value, ebv = stars.source_id.copy(), stars.value.copy(), stars.ebv.copy()
    source_id[0], source_id[2] = 0, source_id[1]
    value[3, 0], ebv[4] = np.nan, np.nan
    flux[5], true[6] = np.nan, np.nan
    flux[7, :10] = np.nan
    error = flux / 100
    error[8] = flux[8] / 70
    fitted = {"teff": np.full(N, 5000.0), "logg": np.full(N, 4.0), "mh": np.zeros(N)}
    known = {name: array.copy() for name, array in fitted.items()}
    known["teff"][9] += 200
    known["mh"][10] = np.nan
    known["logg"][0] = 9  # has no source_id either, and is counted there
    broken = Features(source_id, stars.names, value, ebv)
    found, counts = make_residuals(
        broken, GRID, flux, true, flux_error=error, fitted=fitted, reference=known, trust=Trust(snr=70.01)
    )
    assert counts == {
        "no source_id": 1, "repeated source": 1, "missing features": 1, "no true spectrum": 1, "no spectrum": 1,
        "S/N at most 70.01": 1, "no E(B-V)": 1, "teff differs by 200 or more": 1, "logg differs by 0.5 or more": 0,
        "mh differs by 0.5 or more": 1,
    }  # fmt: skip
    assert found.source_id.tolist() == source_id[[1, 7, 11]].tolist()
    assert np.isnan(found.residual[1, :10]).all()
    assert not found.weight[1, :10].any()
    assert np.isfinite(found.residual[1, 10:]).all()


def test_refusals() -> None:
    stars, flux, true, _ = made()
    with pytest.raises(ValueError, match=r"true has shape \(12, 3\), expected \(12, 330\)"):
        make_residuals(stars, GRID, flux, true[:, :3])
    with pytest.raises(ValueError, match="need E"):
        make_residuals(Features(stars.source_id, stars.names, stars.value), GRID, flux, true)
    with pytest.raises(ValueError, match="teff is not among both"):
        make_residuals(stars, GRID, flux, true, reference={"teff": np.ones(N)})
    with pytest.raises(ValueError, match=r"no star is left of 12 \(12 no true spectrum"):
        make_residuals(stars, GRID, flux, true * np.nan)


def test_spectra_are_found_by_id_and_interpolated(tmp_path: Path) -> None:
    table, features = stars()[:20], star_features()[:20]
    seen = xpjax.spectra(table, np.arange(400.0, 900.0, 4.0), errors=False, float64=True)
    true = xpjax.spectra(table, np.arange(350.0, 800.0, 1.0), errors=False, float64=True)[::-1]
    xpjax.write(tmp_path / "seen.h5", seen)
    xpjax.write(tmp_path / "true.h5", true)
    write_features(tmp_path / "features.h5", features)
    found, counts = residuals_of_spectra(
        tmp_path / "seen.h5", tmp_path / "features.h5", tmp_path / "true.h5", space="observed"
    )
    assert (len(found), sum(counts.values())) == (20, 0)
    assert np.isnan(found.residual[:, found.wavelength > 800]).all()
    assert np.nanmax(np.abs(found.residual)) < 1e-9
    internal = xpjax.spectra(table, internal=True, errors=False)
    with pytest.raises(ValueError, match="internal"):
        residuals_of_spectra(internal, features, true)
