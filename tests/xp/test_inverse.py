"""The way back from samples: made stars, real ones, and what is not of XP."""

import dataclasses
import zipfile

import numpy as np
import pytest

import xpjax
from xpjax.core.release import DR3
from xpjax.core.status import Status
from xpjax.synthetic.projection import corrected_system
from xpjax.xp.inverse import MISFIT, Inverse, coefficients_of_samples, correct_samples, invert
from xpjax.xp.sampled import Spectra
from xpjax.xp.simulate import simulate_sources
from xpjax.xp.sources import SourceTable, XPCoefficients

WAVELENGTH = xpjax.load_instrument().wavelength
BANDS = "JPLUS:J0410,J0430,gJPLUS,J0515,rJPLUS,J0660,iJPLUS,J0861,zJPLUS"


def table(value: np.ndarray) -> SourceTable:
    n = len(value)
    return SourceTable(np.arange(1, n + 1), XPCoefficients(value), np.zeros(n, np.uint32), {}, "")


def samples(value: np.ndarray, dtype: type = np.float64, **options: object) -> np.ndarray:
    return xpjax.spectra(table(value), errors=False, float64=True, **options).flux.astype(dtype)


def magnitudes(value: np.ndarray) -> np.ndarray:
    system = corrected_system(xpjax.load_system(BANDS))
    return xpjax.photometry(table(value), system, errors=False, float64=True).magnitude


@pytest.fixture(scope="module")
def stars() -> np.ndarray:
    """Made coefficients of bright stars of ordinary colors."""
    made = simulate_sources(600, correlations=False, dtype=np.float64)
    g, color = made.columns["phot_g_mean_mag"], made.columns["bp_rp"]
    return made.coefficients.value[(g < 16) & (color > 0) & (color < 1.8)][:60]


def rms(difference: np.ndarray) -> float:
    return float(np.sqrt(np.mean(difference**2)))


def test_double_precision_gives_the_coefficients_back(stars: np.ndarray) -> None:
    flux = samples(stars)
    found = invert(flux, WAVELENGTH)
    np.testing.assert_allclose(samples(found.value), flux, rtol=1e-9, atol=1e-9 * flux.mean())
    options = {"correction": "standard", "resolution": "full"}
    difference = samples(found.value, **options) - samples(stars, **options)
    assert np.abs(difference).max() < 1e-8 * flux.mean(axis=1).max()
    assert 1e3 * np.abs(magnitudes(found.value) - magnitudes(stars)).max() < 0.01
    assert found.misfit.max() < 1e-12
    assert coefficients_of_samples(flux[:2], WAVELENGTH).shape == (2, DR3.n_basis_total)


def test_single_precision_loses_next_to_nothing(stars: np.ndarray) -> None:
    flux = samples(stars, np.float32)
    found = invert(flux, WAVELENGTH)
    expected = magnitudes(stars)
    here = rms(1e3 * (magnitudes(found.value) - expected))
    assert here < 1
    assert found.misfit.max() < 1e-7
    assert rms(1e3 * (magnitudes(least_squares(flux, None)) - expected)) > here
    # The instrument model's own matrix, without the published one's rounded digits, hides directions altogether.
    flux = samples(stars, np.float32, wavelength=WAVELENGTH)
    found = invert(flux, WAVELENGTH)
    hidden = rms(1e3 * (magnitudes(found.value) - expected))
    assert hidden < 6
    assert not rms(1e3 * (magnitudes(least_squares(flux, WAVELENGTH)) - expected)) < 4 * hidden


def least_squares(flux: np.ndarray, wavelength: np.ndarray | None) -> np.ndarray:
    """The way back without a prior."""
    made = xpjax.load_instrument().design(wavelength)
    design = np.asarray(made.value) * float(made.scale)
    return np.linalg.lstsq(design.T, flux.astype(float).T, rcond=1e-16)[0].T


def test_a_star_does_not_depend_on_its_neighbors(stars: np.ndarray) -> None:
    flux = samples(stars[:9], np.float32)
    whole = invert(flux, WAVELENGTH).value
    alone = np.concatenate([invert(row[None], WAVELENGTH).value for row in flux])
    np.testing.assert_allclose(samples(alone, correction="standard"), samples(whole, correction="standard"), rtol=1e-7)


def test_bad_stars_are_nan_and_cost_no_other(stars: np.ndarray) -> None:
    flux = samples(stars[:5], np.float32)
    good = invert(flux[[0, 4]], WAVELENGTH).value
    flux[1, 7], flux[2], flux[3] = np.nan, -flux[2], 0
    found = invert(flux, WAVELENGTH)
    assert np.isnan(found.value[1:4]).all()
    assert np.isnan(found.misfit[1:4]).all()
    np.testing.assert_allclose(samples(found.value[[0, 4]]), samples(good), rtol=1e-7)
    assert len(invert(np.empty((0, len(WAVELENGTH))), WAVELENGTH).value) == 0


def test_other_grids_and_added_noise(stars: np.ndarray, rng: np.random.Generator) -> None:
    grid = np.arange(340.0, 1015.0, 4.0)
    flux = samples(stars, wavelength=grid)
    found = invert(flux, grid)
    np.testing.assert_allclose(samples(found.value, wavelength=grid), flux, rtol=1e-6, atol=1e-6 * flux.mean())
    assert rms(1e3 * (magnitudes(found.value) - magnitudes(stars))) < 20
    error = 1e-4 * flux
    noisy = flux + error * rng.normal(size=flux.shape)
    seen = invert(noisy, grid, flux_error=error)
    assert np.median(seen.noise) == pytest.approx(1e-4, rel=0.3)
    assert np.median(found.noise) < 1e-12


@pytest.mark.parametrize("way", ["corrected", "smoothed", "interpolated", "shifted"])
def test_samples_of_other_origin_are_told_and_refused(stars: np.ndarray, way: str) -> None:
    flux = samples(stars, np.float32)
    options = {"corrected": {"correction": "standard"}, "smoothed": {"resolution": "xp"}}
    if way in options:
        other = samples(stars, **options[way])
    elif way == "interpolated":
        other = np.stack([np.interp(WAVELENGTH, WAVELENGTH[::2], row[::2]) for row in flux])
    else:
        other = np.stack([np.interp(WAVELENGTH + 0.3, WAVELENGTH, row) for row in flux])
    assert np.median(invert(other, WAVELENGTH).misfit) > MISFIT
    with pytest.raises(ValueError, match="cannot be uncorrected XP spectra"):
        correct_samples(spectra_of(other))


def spectra_of(flux: np.ndarray, wavelength: np.ndarray = WAVELENGTH, **changed: object) -> Spectra:
    n = len(flux)
    made = Spectra(np.arange(1, n + 1), wavelength, flux, None, None, np.zeros(n, np.uint32), DR3)
    return dataclasses.replace(made, **changed)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", ["xp", "full"])
def test_corrected_samples_are_the_corrected_spectra(stars: np.ndarray, resolution: str) -> None:
    made = simulate_sources(80, seed=5, dtype=np.float64)
    raw = xpjax.spectra(made, float64=True)
    expected = xpjax.spectra(made, float64=True, correction="standard", resolution=resolution)
    found = correct_samples(raw, "standard", resolution)
    scale = raw.flux.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found.flux / scale, expected.flux / scale, atol=1e-7)
    assert np.abs(raw.flux / scale - expected.flux / scale).max() > 1e-3
    bits = np.uint32(Status.OUTSIDE_TRAINING | Status.NOT_CORRECTED)
    np.testing.assert_array_equal(found.status & bits, expected.status & bits)
    assert (found.status & np.uint32(Status.OUTSIDE_TRAINING) != 0).any() == (found.distance > 1).any()
    assert found.meta["correction"] == "standard"
    assert found.meta["resolution"] == resolution
    ratio = found.flux_error / expected.flux_error
    assert np.median(np.abs(np.log(ratio))) < 0.2
    assert np.median(np.abs(np.log(raw.flux_error / expected.flux_error))) > 0.5  # and it would notice
    single = correct_samples(dataclasses.replace(raw, flux=raw.flux.astype(np.float32)), "standard", resolution)
    assert single.flux.dtype == np.float32


def test_what_cannot_be_corrected_passes_through(stars: np.ndarray) -> None:
    flux = samples(stars[:6], np.float32)
    flux[1, 100] = np.nan
    flux[2] = np.roll(flux[2], 1)
    flux[3] *= -1
    found = correct_samples(spectra_of(flux, flux_error=0.1 * flux))
    flagged = found.status & np.uint32(Status.NOT_CORRECTED) != 0
    np.testing.assert_array_equal(flagged, [False, True, True, True, False, False])
    np.testing.assert_array_equal(found.flux[flagged], flux[flagged])
    np.testing.assert_array_equal(found.flux_error[flagged], 0.1 * flux[flagged])
    assert np.isnan(found.distance[flagged]).all()
    assert np.isfinite(found.distance[~flagged]).all()


def test_wrong_input_is_refused(stars: np.ndarray) -> None:
    flux = samples(stars[:2])
    with pytest.raises(ValueError, match=r"flux has shape .*expected \(n, 342\)"):
        invert(flux, WAVELENGTH[1:])
    with pytest.raises(ValueError, match="cannot tell"):
        invert(flux[:, ::10], WAVELENGTH[::10])
    with pytest.raises(ValueError, match="goes beyond"):
        invert(flux, 10 * WAVELENGTH)
    with pytest.raises(ValueError, match="flux_error has shape"):
        invert(flux, WAVELENGTH, flux_error=flux[0])
    with pytest.raises(ValueError, match="the way back needs"):
        invert(flux, WAVELENGTH, correction="none")
    made = spectra_of(flux)
    for changed, told in (
        ({"flux": np.stack([flux, flux], axis=1)}, "internal"),
        ({"meta": {"correction": "standard"}}, "already corrected"),
        ({"meta": {"corrected": True}}, "already corrected"),
        ({"meta": {"correction": "none", "resolution": "xp"}}, "no way back"),
    ):
        with pytest.raises(ValueError, match=told):
            correct_samples(dataclasses.replace(made, **changed))
    with pytest.raises(ValueError, match="resolution 'low'"):
        correct_samples(made, resolution="low")
    with pytest.raises(ValueError, match="leaves spectra as they are"):
        correct_samples(made, "none")


def test_real_stars_in_single_precision(shared) -> None:
    value = xpjax.read(shared("xp/xp_random_1200.fits"), dtype=np.float64).coefficients.value
    level = samples(value).mean(axis=1)
    value = value[np.argsort(-level)[:400]]
    found: Inverse = invert(samples(value, np.float32), WAVELENGTH)
    difference = 1e3 * (magnitudes(found.value) - magnitudes(value))
    assert np.nanmedian(np.abs(difference)) < 0.3
    assert rms(difference[:, 2:]) < 0.5
    assert found.misfit.max() < 1e-7


def test_pairs_of_calspec(shared) -> None:
    """Samples in double precision on some of the archive's wavelengths; rounded, they give the same magnitudes."""
    import pandas as pd

    pairs = pd.read_parquet(shared("calspec/xp_calspec_pairs.parquet"))
    rows = [row for _, row in pairs.iterrows() if len(row.wavelength) > 335 and np.all(row.gaia_spectrum)][:6]
    assert rows
    for row in rows:
        flux = 1e-2 * np.asarray(row.gaia_spectrum, float)[None]  # from erg s-1 cm-2 A-1
        exact, rounded = (invert(f, row.wavelength) for f in (flux, flux.astype(np.float32)))
        assert exact.misfit[0] < 1e-12
        assert 1e3 * np.abs(magnitudes(rounded.value) - magnitudes(exact.value)).max() < 3


def test_the_archives_own_samples(shared, tmp_path) -> None:
    """They are of another design matrix than the published one, in the digits that the way back lives on."""
    import pandas as pd

    stem = "golden/gaia_dr3_source_id_5937083312263887616_dl_products_csv.zip"
    with zipfile.ZipFile(shared(stem)) as archive:
        archive.extractall(tmp_path)
    flux = pd.read_csv(next(tmp_path.glob("XP_SAMPLED*.csv")))["flux"].to_numpy(np.float32)[None]
    value = xpjax.read(next(tmp_path.glob("XP_CONTINUOUS*.csv")), dtype=np.float64).coefficients.value
    found = invert(flux, WAVELENGTH)
    assert found.misfit[0] < 2e-6
    assert found.noise[0] < 5e-8  # with the published matrix alone it is 2e-6
    assert 1e3 * np.abs(magnitudes(found.value) - magnitudes(value)).max() < 2
