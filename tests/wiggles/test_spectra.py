"""Spectra corrected by a network, against the steps of the paper by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import ANY, by_hand, fine_spectra, made_model, star_features, stars
from xpjax.wiggles.feature_files import write_features
from xpjax.wiggles.features import make_features
from xpjax.wiggles.magnitude import corrected_photometry
from xpjax.wiggles.network import SystematicTable, write_network
from xpjax.wiggles.spectra import correct_spectra, systematic_error
from xpjax.xp.wavelengths import constant_grid


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize("space", ["dereddened", "observed"])
def test_spectra_follow_the_papers_steps(kind: str, space: str) -> None:
    model = made_model(kind=kind, space=space, n_network=2)
    spectra, table = fine_spectra(), star_features()[:60]
    found = correct_spectra(spectra, model, table, limits=ANY, float64=True)
    assert not found.status.any()
    expected = by_hand(model, spectra.flux, spectra.wavelength, table)
    np.testing.assert_allclose(found.flux, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert np.abs(found.flux / spectra.flux - 1)[:, 1000:5000].max() > 0.02


def test_other_grids_interpolate_the_mean() -> None:
    """The archive's grid of 2 nm, against the dense one at the same wavelengths."""
    model, table = made_model(), star_features()[:60]
    coarse = correct_spectra(xpjax.spectra(stars()[:60], float64=True, errors=False), model, table, limits=ANY)
    dense = correct_spectra(fine_spectra(), model, table, limits=ANY, float64=True)
    change = coarse.flux - xpjax.spectra(stars()[:60], float64=True, errors=False).flux
    expected = np.stack(
        [np.interp(coarse.wavelength, dense.wavelength, row) for row in dense.flux - fine_spectra().flux]
    )
    np.testing.assert_allclose(change, expected, atol=2e-4 * np.abs(expected).max())


def test_beyond_its_wavelengths_it_ends_smoothly() -> None:
    model = made_model()
    x = np.array([340.0, 349.9, 355.0, 360.0, 990.0, 995.0, 1000.1])
    matrix = model.interpolation(x).toarray()
    np.testing.assert_allclose(matrix.sum(axis=1), [0, 0, 0.5, 1, 1, 0.5, 0], atol=1e-12)


@pytest.mark.slow
def test_errors_hold_the_features_errors() -> None:
    """Against the scatter of many noisy copies, their features made anew: within 10 % at the median."""
    sources = stars(40, correlations=True)
    model = made_model(names="no-ebv", space="observed")
    rng = np.random.default_rng(3)
    star = 7
    c = sources.coefficients
    roots = [
        np.linalg.cholesky(xpjax.covariance_matrix(sources[star : star + 1], xp)[0] + 1e-12 * np.eye(n))
        for xp, n in zip(("bp", "rp"), sources.release.n_basis, strict=True)
    ]
    z = rng.normal(size=(4000, sources.release.n_basis_total))
    value = np.repeat(c.value[star : star + 1], len(z), axis=0)
    for root, rows in zip(roots, sources.release.slices, strict=True):
        value[:, rows] += z[:, rows] @ root.T
    noisy = xpjax.XPCoefficients(value)
    grid = np.arange(350.0, 1001.0, 5.0)
    scatter = correct_spectra(
        xpjax.spectra(noisy, grid, errors=False, float64=True), model, make_features(noisy, "no-ebv"), limits=ANY
    ).flux.std(axis=0)
    one = sources[star : star + 1]
    told = correct_spectra(
        xpjax.spectra(one, grid, float64=True), model, make_features(one, "no-ebv", errors=True), limits=ANY
    )
    ratio = told.flux_error[0] / scatter
    assert 0.9 < np.median(ratio) < 1.1, np.median(ratio)
    assert ratio.min() > 0.6, ratio.min()
    assert ratio.max() < 1.6, ratio.max()
    curves = xpjax.load_passbands("JPLUS")
    mags = corrected_photometry(
        noisy, "JPLUS", model, make_features(noisy, "no-ebv"), errors=False, limits=ANY
    ).magnitude
    told_mag = corrected_photometry(one, "JPLUS", model, make_features(one, "no-ebv", errors=True), limits=ANY)
    ratio = told_mag.magnitude_error[0] / np.nanstd(mags, axis=0)
    assert len(ratio) == len(curves)
    assert ratio.min() > 0.6, ratio
    assert ratio.max() < 1.6, ratio


def test_systematic_errors_are_kept_apart() -> None:
    grid = constant_grid()
    table = SystematicTable(
        np.array([0.0, 2.0]), np.array([10.0, 18.0]), np.array([0.3]), np.full((2, 2, 1, len(grid)), 0.01)
    )
    table = dataclasses.replace(table, value=np.asarray(table.value) * np.array([1, 2])[None, :, None, None])
    model = made_model(systematic=table)
    stars_ = star_features()[:30]
    found = corrected_photometry(stars()[:30], "JPLUS", model, stars_, errors=False, limits=ANY)
    g = stars_.value[:, stars_.names.index("G")]
    weight = 1 + np.clip((g - 10) / 8, 0, 1)
    left = systematic_error(model, stars_)
    np.testing.assert_allclose(left, 0.01 * weight[:, None] * np.ones(len(grid)), rtol=1e-6)
    # A constant 1 % of the mean flux, seen through a band in which the flux is the mean: about 0.011 mag.
    assert found.systematic is not None
    assert np.all(np.nanmedian(found.systematic / weight[:, None], axis=0) < 0.2)
    assert np.nanmedian(found.systematic[:, 7] / weight) == pytest.approx(0.011, rel=0.5)
    assert "Jplus_mag_systematic_gJPLUS" in found.catalogue().columns
    without = corrected_photometry(stars()[:30], "JPLUS", made_model(), stars_, errors=False, limits=ANY)
    assert without.systematic is None


@pytest.mark.slow
def test_ensembles_tell_their_scatter() -> None:
    model, table = made_model(n_network=3), star_features()[:30]
    found = corrected_photometry(stars()[:30], "JPLUS", model, table, errors=False, limits=ANY, float64=True)
    each = [
        corrected_photometry(
            stars()[:30], "JPLUS", dataclasses.replace(model, networks=(n,)), table,
            errors=False, limits=ANY, float64=True,
        ).flux for n in model.networks
    ]  # fmt: skip
    np.testing.assert_allclose(found.flux, np.mean(each, axis=0), rtol=1e-9)
    expected = 2.5 / np.log(10) * np.std(each, axis=0, ddof=1) / found.flux
    good = found.flux > 0
    np.testing.assert_allclose(found.systematic[good], expected[good], rtol=1e-6)


def test_wrong_spectra_and_models() -> None:
    model, table, sources = made_model(), star_features()[:2], stars()[:2]
    with pytest.raises(ValueError, match="cover 400"):
        correct_spectra(xpjax.spectra(sources, np.arange(400.0, 800.0), errors=False), model, table)
    with pytest.raises(ValueError, match="internal"):
        correct_spectra(xpjax.spectra(sources, internal=True, errors=False), model, table)
    with pytest.raises(ValueError, match="truncate=True"):
        correct_spectra(xpjax.spectra(sources, errors=False), made_model(truncate=True), table)
    with pytest.raises(ValueError, match="kind 'odd'"):
        made_model(kind="odd")


def test_a_file_is_corrected_in_one_call(tmp_path: Path) -> None:
    table, model, features = stars()[:6], made_model(), star_features()[:6]
    made_of = xpjax.spectra(table, errors=False)
    xpjax.write(tmp_path / "s.h5", made_of)
    write_network(tmp_path / "n.h5", model)
    write_features(tmp_path / "f.h5", features[::-1])
    found = correct_spectra(tmp_path / "s.h5", tmp_path / "n.h5", tmp_path / "f.h5", limits=ANY)
    np.testing.assert_array_equal(found.flux, correct_spectra(made_of, model, features, limits=ANY).flux)
    linear = correct_spectra(tmp_path / "s.h5")
    assert linear.meta["correction"] == "standard"
    assert linear.distance is not None
    xpjax.write(tmp_path / "c.h5", found)
    with pytest.raises(ValueError, match="already corrected"):
        correct_spectra(tmp_path / "c.h5", model, features)
    with pytest.raises(ValueError, match="are for networks"):
        correct_spectra(tmp_path / "s.h5", stars=features)
    with pytest.raises(ValueError, match="is a network: give stars"):
        correct_spectra(tmp_path / "s.h5", tmp_path / "n.h5")
