"""Magnitudes of corrected spectra, against those of spectra that are formed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import ANY, fine_spectra, made_model, star_features, stars
from xpjax.core.status import Status
from xpjax.synthetic.loading import curves_of
from xpjax.synthetic.magnitude import Photometer
from xpjax.wiggles.choice import NetworkCorrection
from xpjax.wiggles.features import make_features
from xpjax.wiggles.magnitude import CorrectedPhotometer, CorrectedPhotometry, absolute_scale, corrected_photometry
from xpjax.wiggles.spectra import correct_spectra


@pytest.mark.parametrize("system", ["JPLUS", pytest.param("Gaia_DR3_Vega", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("fields", "tolerance"),
    [
        ({}, 1e-5),
        pytest.param({"space": "observed"}, 1e-5, marks=pytest.mark.slow),
        pytest.param({"n_network": 2}, 1e-5, marks=pytest.mark.slow),
        ({"kind": "multiplicative", "smooth": 10.0}, 5e-5),
    ],
    ids=["dereddened", "observed", "ensemble", "multiplicative"],
)
def test_photometry_equals_the_long_way(system: str, fields: dict, tolerance: float) -> None:
    """Spectra corrected on a dense grid and integrated, against folded matrices in float32."""
    model, table, sources = made_model(**fields), star_features()[:60], stars()[:60]
    curves = xpjax.load_passbands(system)
    spectra = correct_spectra(fine_spectra(), model, table, limits=ANY, float64=True)
    found = corrected_photometry(
        sources, curves, model, table, system=xpjax.passband_system(curves), errors=False, limits=ANY
    )
    plain = xpjax.photometry(sources, xpjax.passband_system(curves), errors=False, float64=True)
    changed = np.nanmax(np.abs(found.magnitude - plain.magnitude), axis=0)
    assert changed.max() > 0.01
    for k, band in enumerate(curves):
        if band.wavelength[0] < 330 or band.wavelength[-1] > 1050:
            continue
        # Of the correction alone: band_flux draws straight lines between samples, photometry does not.
        before = band.mean_flux(spectra.wavelength, fine_spectra().flux)
        after = band.mean_flux(spectra.wavelength, spectra.flux)
        flux = plain.flux[:, k] + after - before
        good = (flux > 0.2 * np.abs(plain.flux[:, k])) & (plain.flux[:, k] > 0)
        long = -2.5 * np.log10(flux[good]) + band.flux_zero_point
        difference = np.abs(found.magnitude[good, k] - long)
        assert np.nanmax(difference) < tolerance, (band.name, np.nanmax(difference))


def test_a_photometer_makes_its_features_and_agrees() -> None:
    model, sources = made_model(), stars()[:20]
    ebv = np.linspace(0.05, 0.25, 20)
    curves, system = xpjax.load_passbands("JPLUS"), xpjax.load_system("JPLUS")
    table = make_features(sources, ebv=ebv)
    a = corrected_photometry(sources, curves, model, table, system=system, errors=False, limits=ANY)
    how = NetworkCorrection(model, curves_of(system), ebv="ebv", limits=ANY)
    photometer = CorrectedPhotometer.prepare(Photometer(system, errors=False), how)
    assert how.columns == ("ebv",)
    b = photometer(dataclasses.replace(sources, columns={"ebv": ebv}))
    np.testing.assert_allclose(a.magnitude, b.magnitude, atol=5e-6)
    assert not a.status.any()
    np.testing.assert_array_equal(a.status, b.status)
    narrow = CorrectedPhotometer.prepare(Photometer(system, errors=False), how, ebv_range=(0.0, 0.2))
    c = narrow(dataclasses.replace(sources, columns={"ebv": ebv}))
    beyond = ebv > 0.2
    np.testing.assert_array_equal((c.status & np.uint32(Status.OUTSIDE_LIMITS)) != 0, beyond)
    np.testing.assert_allclose(c.magnitude[~beyond], a.magnitude[~beyond], atol=5e-6)
    with pytest.raises(ValueError, match="ebv"):
        photometer(sources)
    with pytest.raises(ValueError, match="needs E"):
        NetworkCorrection(model, curves_of(system))
    with pytest.raises(ValueError, match="no transmission curve"):
        curves_of(dataclasses.replace(system, labels=("Mine",) * system.n_band))


def test_published_names_use_published_projections() -> None:
    model, table, sources = made_model(amplitude=0.0), star_features()[:20], stars()[:20]
    found = corrected_photometry(sources, "JPLUS", model, table, errors=False, float64=True, limits=ANY)
    plain = xpjax.photometry(sources, "JPLUS", errors=False, float64=True)
    np.testing.assert_allclose(found.magnitude, plain.magnitude, rtol=1e-12)
    with pytest.raises(ValueError, match="standardized"):
        corrected_photometry(sources, "SDSS_Std", model, table)


@pytest.mark.slow
def test_a_missing_photometer_is_not_corrected_but_the_other_is_given() -> None:
    sources = stars()[:3]
    value = sources.coefficients.value.copy()
    value[1, sources.release.slices[0]] = np.nan
    table, model = star_features()[:3], made_model()
    found = corrected_photometry(
        xpjax.SourceTable(sources.source_id, xpjax.XPCoefficients(value), np.zeros(3, np.uint32)),
        "JPLUS", model, table, errors=False, limits=ANY,
    )  # fmt: skip
    plain = xpjax.photometry(sources, "JPLUS", errors=False)
    assert found.status[1] & Status.NOT_CORRECTED
    assert found.status[1] & Status.BP_MISSING
    assert not (found.status[[0, 2]]).any()
    np.testing.assert_allclose(found["zJPLUS"][1], plain["zJPLUS"][1], atol=1e-5)
    assert np.isnan(found["gJPLUS"][1])


@pytest.mark.slow
def test_tied_spectra_have_the_given_magnitude() -> None:
    model, table, sources = made_model(), star_features()[:10], stars()[:10]
    given = sources.columns["phot_g_mean_mag"] + 0.01
    scale = absolute_scale(sources, model, table, given, limits=ANY)
    found = corrected_photometry(sources, "Gaia_DR3_Vega", model, table, errors=False, limits=ANY)
    np.testing.assert_allclose(found["G"] - 2.5 * np.log10(scale), given, atol=1e-5)


@pytest.mark.slow
def test_truncated_photometry_corrects_truncated_spectra() -> None:
    model, sources = made_model(truncate=True), stars()[:20]
    table = dataclasses.replace(star_features()[:20], truncate=None)  # the same for both
    found = corrected_photometry(sources, "JPLUS:gJPLUS", model, table, errors=False, limits=ANY)
    value = sources.coefficients.value.copy()
    for k, rows in enumerate(sources.release.slices):
        for row, n in zip(value, sources.coefficients.n_relevant[:, k], strict=True):
            row[rows][n:] = 0
    cut = xpjax.SourceTable(sources.source_id, xpjax.XPCoefficients(value), np.zeros(20, np.uint32))
    expected = corrected_photometry(
        cut, "JPLUS:gJPLUS", dataclasses.replace(model, truncate=False), table, errors=False, limits=ANY
    )
    np.testing.assert_allclose(found.magnitude, expected.magnitude, atol=1e-5)


def test_corrected_photometry_is_a_table_and_comes_back(tmp_path: Path) -> None:
    found = corrected_photometry(
        stars()[:8], "JPLUS:gJPLUS,rJPLUS", made_model(n_network=2), star_features()[:8], errors=False
    )
    assert found.left is not None
    assert len(repr(found)) < 1000
    assert found[2:4].left.shape == (2, 2)
    assert str(found.to_table()["Jplus_mag_systematic_gJPLUS"].unit) == "mag"
    xpjax.write(tmp_path / "p.parquet", found)
    back = CorrectedPhotometry.read(tmp_path / "p.parquet")
    for name in ("source_id", "magnitude", "flux", "systematic", "status"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
    assert back.meta["corrected"]
