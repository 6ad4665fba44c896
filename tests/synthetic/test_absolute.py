"""The absolute scale, tied to given Gaia photometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import xpjax
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import write
from xpjax.synthetic.absolute import (
    MagnitudeTerm,
    gaia_columns,
    gaia_scale,
    read_terms,
    scaled_photometry,
    tie_to_gaia,
)
from xpjax.xp import simulate


@pytest.fixture(scope="module")
def sources() -> xpjax.SourceTable:
    return simulate.simulate_sources(60, seed=8, dtype=np.float64)


@pytest.mark.parametrize("correction", [None, "standard"])
def test_synthetic_magnitudes_become_the_given_ones(sources: xpjax.SourceTable, correction: str | None) -> None:
    given = np.asarray(sources.columns["phot_g_mean_mag"], float)
    factor = gaia_scale(sources, correction=correction)
    options = {"errors": False, "float64": True, "correction": correction}
    before = xpjax.photometry(sources, "Gaia_DR3_Vega", **options)
    after = scaled_photometry(before, factor)
    np.testing.assert_allclose(after.magnitude[:, 0], given, atol=1e-9)
    assert np.abs(before.magnitude[:, 0] - given).max() > 1e-3
    # Colors and relative errors stay.
    np.testing.assert_allclose(np.diff(after.magnitude), np.diff(before.magnitude), atol=1e-9)
    flux = xpjax.spectra(sources, correction=correction)
    tied = scaled_photometry(flux, factor)
    np.testing.assert_allclose(tied.flux, flux.flux * factor[:, None], rtol=1e-6)
    np.testing.assert_allclose(tied.flux_error / tied.flux, flux.flux_error / flux.flux, rtol=1e-5)


def test_magnitude_terms_are_what_given_magnitudes_are_too_faint_by(sources: xpjax.SourceTable, tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_text("# of G [mag]\nG_mag G BP\n5 0.01 0.00\n15 0.01 0.02\n20 0.03 0.02\n")
    terms = read_terms(path)
    g = np.asarray(sources.columns["phot_g_mean_mag"], float)
    expected = 10 ** (0.4 * np.interp(g, [5, 15, 20], [0.01, 0.01, 0.03]))
    np.testing.assert_allclose(gaia_scale(sources, terms=terms) / gaia_scale(sources), expected, rtol=1e-9)
    # BP's term goes with G too.
    expected = 10 ** (0.4 * np.interp(g, [5, 15, 20], [0.0, 0.02, 0.02]))
    found = gaia_scale(sources, band="BP", terms=path) / gaia_scale(sources, band="BP")
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    write(tmp_path / "terms.ecsv", Catalogue({"G_mag": np.array([5.0, 15, 20]), "G": np.array([10.0, 10, 30])},
                                             {"G_mag": "mag", "G": "mmag"}))  # fmt: skip
    np.testing.assert_allclose(read_terms(tmp_path / "terms.ecsv")["G"].offset, [0.01, 0.01, 0.03])
    with pytest.raises(ValueError, match="not for RP"):
        gaia_scale(sources, band="RP", terms=terms)


def test_what_is_unknown_cannot_be_tied(sources: xpjax.SourceTable) -> None:
    given = np.asarray(sources.columns["phot_g_mean_mag"], float).copy()
    given[3] = np.nan
    made = scaled_photometry(xpjax.photometry(sources, "SDSS"), gaia_scale(sources, given))
    assert np.isnan(made.magnitude[3]).all()
    assert np.isnan(made.magnitude_error[3]).all()
    assert np.isfinite(made.magnitude[4]).any()


def test_refusals(sources: xpjax.SourceTable, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not one of Gaia's"):
        gaia_scale(sources, band="V")
    with pytest.raises(ValueError, match="phot_g_mean_mag"):
        gaia_scale(np.asarray(sources.coefficients.value))
    with pytest.raises(ValueError, match="expected"):
        gaia_scale(sources, np.zeros(3))
    with pytest.raises(ValueError, match="must ascend"):
        MagnitudeTerm(np.array([2.0, 1.0]), np.zeros(2))
    bad = tmp_path / "terms.txt"
    one_number = "G_mag G\n1\n2\n"
    for text, match in (("mag G\n1 2\n", "G_mag"), ("G_mag G\n1 x\n2 1\n", "expected a number"), (one_number, "terms")):
        bad.write_text(text)
        with pytest.raises(ValueError, match=match):
            read_terms(bad)


def test_tying_is_scaling(sources: xpjax.SourceTable, tmp_path: Path) -> None:
    (tmp_path / "terms.txt").write_text("G_mag BP\n5 0.01\n20 0.03\n")
    found = xpjax.photometry(sources, "Gaia_DR3_Vega", float64=True)
    options = {"terms": tmp_path / "terms.txt", "truncate": True}
    tied = tie_to_gaia(sources, found, "BP", **options)
    np.testing.assert_array_equal(tied.flux, scaled_photometry(found, gaia_scale(sources, band="BP", **options)).flux)
    assert gaia_columns("BP") == ("phot_bp_mean_mag",)
    assert gaia_columns("BP", tmp_path / "terms.txt") == ("phot_bp_mean_mag", "phot_g_mean_mag")
    for call, message in ((("V",), "is not one of"), (("G", tmp_path / "terms.txt"), "not for G")):
        with pytest.raises(xpjax.XpjaxError, match=message):
            gaia_columns(*call)
