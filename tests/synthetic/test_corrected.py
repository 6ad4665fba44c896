"""Photometry of linearly corrected spectra: against integrals of the spectra, NumPy's errors, and none at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.xp.test_correction import covariance, distances, standard, without_limit
from xpjax.core.release import DR3
from xpjax.core.status import Status
from xpjax.io.catalogue import write
from xpjax.synthetic.passband import Passband
from xpjax.synthetic.projection import as_system, corrected_system, passband_system
from xpjax.synthetic.system import stack
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable

POGSON = 2.5 / np.log(10)


def box() -> Passband:
    x = np.arange(480.0, 601.0)
    return Passband("box", x, np.clip(np.minimum(x - 480, 600 - x) / 15, 0, 1), "photon", "AB")


@pytest.fixture(scope="module")
def stars() -> SourceTable:
    table = simulate.simulate_sources(150, seed=22, dtype=np.float64)
    return table[np.flatnonzero(table.columns["phot_g_mean_mag"] < 16.5)]


def test_without_a_correction_nothing_changes() -> None:
    """Bit for bit among the ways to say so; and the figures are those of the version before there was one."""
    table = simulate.simulate_sources(40, seed=3, dtype=np.float64)
    found = xpjax.photometry(table, "JPLUS", float64=True)
    for other in (
        xpjax.photometry(table, "JPLUS", float64=True, correction=None),
        xpjax.photometry(table, "JPLUS", float64=True, correction="none"),
        xpjax.photometry(table, corrected_system(xpjax.load_system("JPLUS"), None), float64=True),
    ):
        assert found.magnitude_error is not None
        assert other.magnitude_error is not None
        for name in ("flux", "magnitude", "magnitude_error", "status"):
            assert np.asarray(getattr(other, name)).tobytes() == np.asarray(getattr(found, name)).tobytes()
        assert (other.distance, other.systematic) == (None, None)
        assert other.meta == found.meta
        assert other.meta["correction"] == "none"
    assert found.magnitude_error is not None
    magnitude = [[21.82307514873253, 19.221327138932278, 16.384886360680568]]
    magnitude += [[21.889989398761166, 18.812114486605232, 17.424874651118554]]
    error = [[2.988628942612352, 0.11091905976575177, 0.019670113877874165]]
    error += [[3.5366118522871535, 0.09365112738172243, 0.047974141861425165]]
    chosen = np.ix_([0, 17], [0, 3, 8])
    # To what the bands' projections differ by from one processor's BLAS to another's: 1e-7 mag of the faintest.
    np.testing.assert_allclose(found.magnitude[chosen], magnitude, rtol=1e-8)
    np.testing.assert_allclose(found.magnitude_error[chosen], error, rtol=1e-7)
    spectra = xpjax.spectra(table, np.array([400.0, 500, 638, 800]), float64=True)
    flux = [[-9.785315897208553e-19, 2.7373514312199083e-18, 6.318493998763558e-18, 8.4887286618775e-18]]
    flux += [[1.919105710140009e-18, 2.108051248427731e-18, 2.2984537932875126e-18, 1.8084852823076585e-18]]
    np.testing.assert_allclose(spectra.flux[[0, 17]], flux, rtol=1e-7)
    corrected = xpjax.photometry(table, "JPLUS", float64=True, correction="standard")
    assert np.nanmax(np.abs(corrected.magnitude - found.magnitude)) > 1e-3
    assert "xp_correction_distance" not in found.catalogue().columns


def test_magnitudes_are_integrals_of_the_corrected_spectrum(stars: SourceTable) -> None:
    fine = np.arange(478.0, 602.0, 0.1)
    flux = xpjax.spectra(stars, fine, correction=without_limit(), resolution="full", float64=True, errors=False).flux
    found = xpjax.photometry(stars, box(), correction=without_limit(), float64=True)
    expected = -2.5 * np.log10(box().mean_flux(fine, flux)) - 56.10
    lit = distances(stars) < 1  # cool stars have little light there, and a share of the change
    np.testing.assert_allclose(found.magnitude[lit, 0], expected[lit], atol=2e-5)
    raw = xpjax.photometry(stars, box(), float64=True)
    assert np.median(np.abs(raw.magnitude[:, 0] - expected)) > 5e-4


def test_published_systems_have_the_change_of_their_curves() -> None:
    found = as_system("JPLUS", "standard")
    own = passband_system(xpjax.load_passbands("JPLUS"), correction="standard")
    changes = [
        (np.asarray(system.projection) - np.asarray(system.uncorrected)) * np.asarray(system.scale)
        for system in (found, own)
    ]
    np.testing.assert_allclose(changes[0], changes[1], rtol=1e-6, atol=1e-9 * np.abs(changes[1]).max())
    assert np.abs(changes[0]).max() > 0
    # The projections themselves stay the published ones.
    np.testing.assert_array_equal(found.uncorrected, xpjax.load_system("JPLUS").projection)
    assert not np.array_equal(found.uncorrected, own.uncorrected)


def test_errors_are_those_of_the_changed_projection(stars: SourceTable) -> None:
    system = as_system("JPLUS", without_limit())
    found = xpjax.photometry(stars, system, float64=True)
    assert found.flux_error is not None
    assert found.magnitude_error is not None
    r = np.asarray(system.projection) * np.asarray(system.scale)
    for row in (0, 7, 20):
        exact = np.sqrt(np.einsum("ib,ij,jb->b", r, covariance(stars, row), r))
        np.testing.assert_allclose(found.flux_error[row], exact, rtol=1e-9)
        np.testing.assert_allclose(found.magnitude_error[row], POGSON * exact / found.flux[row], rtol=1e-9)
    raw = xpjax.photometry(stars, "JPLUS", float64=True).flux_error
    assert raw is not None
    assert np.nanmax(np.abs(found.flux_error / raw - 1)) > 0.1


def test_what_is_left(stars: SourceTable) -> None:
    found = xpjax.photometry(stars, box(), correction="standard")
    assert found.systematic is not None
    assert found.distance is not None
    correction, x = standard(), np.arange(480.0, 600.5, 0.5)
    light = np.interp(x, correction.wavelength, correction.ordinary) * np.interp(
        x, box().wavelength, box().transmission
    )
    light *= x
    left = correction.left_at(x) @ (light / light.sum())
    expected = POGSON * np.sqrt(left @ left) * np.sqrt(1 + found.distance)
    np.testing.assert_allclose(found.systematic[:, 0], expected, rtol=1e-2)
    assert found.meta["mag_systematic"] == [pytest.approx(POGSON * np.sqrt(left @ left), rel=2e-2)]
    table = found.catalogue()
    np.testing.assert_array_equal(table.columns["xp_correction_distance"], found.distance)
    np.testing.assert_array_equal(table.columns["box_mag_systematic_box"], found.systematic[:, 0])


@pytest.mark.slow
def test_missing_far_and_bad_stars(stars: SourceTable) -> None:
    value = np.array(stars.coefficients.value)
    value[3, stars.release.slices[0]] = np.nan
    value[4, stars.release.slices[1]] = np.nan
    table = dataclasses.replace(stars, coefficients=dataclasses.replace(stars.coefficients, value=value))
    distance = distances(stars)
    limit = 1.001 * float(np.median(distance))
    near = dataclasses.replace(standard(), domain=dataclasses.replace(standard().domain, limit=np.array(limit)))
    found, raw, whole = (
        xpjax.photometry(table, "JPLUS", correction=c, float64=True) for c in (near, None, without_limit())
    )
    assert found.distance is not None
    assert found.systematic is not None
    for row in (3, 4):
        np.testing.assert_array_equal(found.flux[row], raw.flux[row])
        assert found.status[row] & Status.NOT_CORRECTED
        assert np.isnan(found.distance[row])
        assert np.isnan(found.systematic[row]).all()
    good = np.ones(len(table), bool)
    good[[3, 4]] = False
    np.testing.assert_allclose(found.distance[good], distance[good], rtol=1e-9)
    far = good & (distance > limit)
    np.testing.assert_array_equal((found.status[good] & np.uint32(Status.OUTSIDE_TRAINING)) > 0, far[good])
    assert not (found.status[good] & np.uint32(Status.NOT_CORRECTED)).any()
    model, domain = xpjax.load_instrument(), standard().domain
    grid = (model.wavelength >= 400) & (model.wavelength <= 990)
    level = np.asarray(table.coefficients.value)[good] @ model.default_design[:, grid].mean(axis=1)
    lead = np.concatenate([np.arange(r.start, r.start + n) for r, n in zip(DR3.slices, domain.lead, strict=True)])
    told = np.asarray(table.coefficients.value)[good][:, lead] @ domain.level
    assert np.median(np.abs(told / level - 1)) < 0.02
    flat = np.asarray(as_system("JPLUS", near).flat) * np.asarray(as_system("JPLUS", near).scale) / domain.unit
    t = np.clip(raw.flux[good] / (flat * told[:, None]), 0, 1)
    assert (t < 1).any(axis=0).sum() >= 3
    share = np.where(far, limit / distance, 1)[good, None] * t**2 * (3 - 2 * t)
    size = np.abs(raw.flux[good])
    system = as_system("JPLUS", near)
    r = np.asarray(system.projection) - np.asarray(system.uncorrected)
    change = np.asarray(table.coefficients.value) @ (r * np.asarray(system.scale))
    added = np.clip(share * change[good], -(1 - 10 ** (-0.4 * 0.35)) * size, (10 ** (0.4 * 0.35) - 1) * size)
    assert np.any(added != share * change[good])
    expected = raw.flux[good] + added
    large = (np.abs(added) > (1 - 10 ** (-0.4 * 0.15)) * size).any(axis=1)
    assert 0 < large.sum() < len(large)
    np.testing.assert_array_equal((found.status[good] & np.uint32(Status.CORRECTION_LARGE)) > 0, large)
    np.testing.assert_allclose(found.flux[good], expected, rtol=1e-9, atol=1e-12 * np.abs(raw.flux[good]).max())
    assert np.abs(whole.flux[far] / found.flux[far] - 1).max() > 1e-3
    # The error is that of the mixture, as of fluxes that are fully correlated: no less than it is.
    row = int(np.flatnonzero(far)[0])
    g, k = share[np.flatnonzero(good) == row][0], covariance(stars, row)

    def sigma(r: np.ndarray) -> np.ndarray:
        r = r * np.asarray(system.scale)
        return np.sqrt(np.einsum("ib,ij,jb->b", r, k, r))

    before, after = np.asarray(system.uncorrected), np.asarray(system.projection)
    assert found.flux_error is not None
    np.testing.assert_allclose(found.flux_error[row], (1 - g) * sigma(before) + g * sigma(after), rtol=1e-6)
    assert np.all(found.flux_error[row] >= sigma((1 - g) * before + g * after) * (1 - 1e-9))


def test_single_precision_and_truncation(stars: SourceTable) -> None:
    for truncate in (False, True):
        double, single = (
            xpjax.photometry(stars, "JPLUS", correction="standard", truncate=truncate, float64=f) for f in (True, False)
        )
        assert double.magnitude_error is not None
        clear = (double.magnitude_error < 0.1) & np.isfinite(double.magnitude)
        assert np.abs(single.magnitude - double.magnitude)[clear].max() < 2e-4
    full = xpjax.photometry(stars, "JPLUS", correction="standard", float64=True)
    assert np.nanmax(np.abs(full.magnitude - double.magnitude)) > 1e-4


def test_arrays_tables_and_files_agree(stars: SourceTable, tmp_path: Path) -> None:
    write(tmp_path / "xp.parquet", stars.catalogue())
    by_array = xpjax.photometry(np.asarray(stars.coefficients.value), "SDSS", correction="standard", float64=True)
    by_table = xpjax.photometry(stars, "SDSS", correction="standard", float64=True)
    by_file = xpjax.photometry(tmp_path / "xp.parquet", "SDSS", correction=standard(), float64=True)
    np.testing.assert_array_equal(by_array.magnitude, by_table.magnitude)
    np.testing.assert_allclose(by_file.magnitude, by_table.magnitude, rtol=1e-12)
    assert by_file.meta["correction"] == "standard"


def test_refusals() -> None:
    corrected = corrected_system(xpjax.load_system("SDSS"))
    with pytest.raises(ValueError, match=r"standardized.*plain system"):
        corrected_system(xpjax.load_system("SDSS_Std"))
    with pytest.raises(ValueError, match=r"corrections \['standard', 'none'\] cannot be stacked"):
        stack([corrected, xpjax.load_system("JPLUS")])
    with pytest.raises(ValueError, match="has the correction standard already; other is another"):
        corrected_system(corrected, dataclasses.replace(standard(), name="other"))
    with pytest.raises(ValueError, match="hold for uncorrected magnitudes"):
        xpjax.photometry(np.zeros((1, 110)), corrected, error_correction=True)
    assert corrected_system(corrected, "standard") is corrected
    assert corrected_system(corrected, None) is corrected
