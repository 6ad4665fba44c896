"""Synthetic photometry against GaiaXPy, live: all systems and bands, in both precisions."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests import oracles
from tests.marks import slow_after
from xpjax.core.status import Status
from xpjax.synthetic.magnitude import read_photometry
from xpjax.synthetic.published import refused_bands
from xpjax.xp import simulate
from xpjax.xp.read.archive import as_sources
from xpjax.xp.sources import SourceTable, XPCoefficients

SYSTEMS = xpjax.available_systems()
KINDS = ("mag", "flux", "flux_error")


@cache
def made() -> SourceTable:
    return as_sources(oracles.coefficients(np.random.default_rng(1), 8))


def compare(
    table: SourceTable, float64: bool, against: SourceTable | None = None, **options: bool
) -> dict[str, dict[str, float]]:
    """Largest differences from GaiaXPy by kind and column: relative, but in mag for magnitudes."""
    names = list(SYSTEMS)
    own = {{"truncate": "truncation"}.get(k, k): v for k, v in options.items()}
    expected = oracles.generate(against or table, names, **own)
    found = xpjax.photometry(table, names, float64=float64, **options).catalogue().columns
    result: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    system = xpjax.load_system(*names)
    for kind in KINDS:
        for label, band in zip(system.labels, system.names, strict=True):
            column = f"{label}_{kind}_{band}"
            a, b = found[column].astype(float), expected[column].to_numpy(float)
            assert np.array_equal(np.isnan(a), np.isnan(b)), column
            scale = 1.0 if kind == "mag" else np.abs(b)
            result[kind][column] = float(np.nanmax(np.abs(a - b) / scale, initial=0))
    return result


def test_all_published_systems_are_there() -> None:
    from gaiaxpy import PhotometricSystem

    reference = {m.get_system_name(): m.get_bands() for m in PhotometricSystem}
    assert set(SYSTEMS) == set(reference)
    assert sum(map(len, reference.values())) == 295
    for name, bands in reference.items():
        ours = xpjax.load_system(name)
        refused = [key.split("_", 1)[1] for key in refused_bands() if key.startswith(ours.labels[0] + "_")]
        assert [b for b in bands if b not in refused] == list(ours.names)
    assert list(refused_bands()) == ["HalphaCustomAb_Halpha01nm"]


@pytest.mark.parametrize(
    ("truncate", "error_correction"), slow_after(1, [(True, True), (False, False), (False, True), (True, False)])
)
def test_float64_equals_gaiaxpy(truncate: bool, error_correction: bool) -> None:
    worst = compare(made(), True, truncate=truncate, error_correction=error_correction)
    assert max(worst["flux"].values()) < 1e-10
    assert max(worst["flux_error"].values()) < 1e-10
    assert max(worst["mag"].values()) < 1e-10


@pytest.mark.slow
def test_real_sources_equal_gaiaxpy(shared) -> None:
    table = xpjax.read(shared("xp/xp_bright_corr_20.parquet"))
    for options in ({}, {"truncate": True, "error_correction": True}):
        worst = compare(table, True, **options)
        assert max(max(w.values()) for w in worst.values()) < 1e-10
        worst = compare(table, False, **options)
        assert max(worst["flux_error"].values()) < 1e-5
        assert max(worst["mag"].values()) < 1e-5


@pytest.mark.parametrize("name", slow_after(1, ["xp/xp_random_1200.fits", "xp/xp_blue_1800.fits"]))
def test_float32_error_is_bounded_by_cancellation(shared, name: str) -> None:
    table = xpjax.read(shared(name))[::6]
    expected = oracles.generate(table, list(SYSTEMS))
    system = xpjax.load_system(*SYSTEMS)
    result = xpjax.photometry(table, system, errors=False)
    projection = np.asarray(system.projection) * system.scale
    bound = 1e-6 * np.abs(table.coefficients.value.astype(float)) @ np.abs(projection)
    flux = expected[[f"{a}_flux_{b}" for a, b in zip(system.labels, system.names, strict=True)]].to_numpy(float)
    plain = np.ones(system.n_band, bool)
    plain[[e.band for e in system.color_equations]] = False  # these fluxes are no longer linear
    assert np.all(np.abs(result.flux - flux)[:, plain] <= bound[:, plain])
    magnitude = expected[[f"{a}_mag_{b}" for a, b in zip(system.labels, system.names, strict=True)]].to_numpy(float)
    difference = np.abs(result.magnitude - magnitude)
    both = np.isfinite(difference)
    # A sum that cancels to zero in one precision may be positive in the other: it is within the bound above.
    assert np.mean(np.isnan(result.magnitude) != np.isnan(magnitude)) < 1e-5
    assert np.mean(difference[both] <= 1e-5) > 0.999


def test_comparison_fails_on_a_wrong_answer() -> None:
    c = made().coefficients
    value = c.value.copy()
    value[3, 7] *= 1 + 1e-6
    worst = compare(as_sources(XPCoefficients(value, c.error, c.correlation, c.n_relevant)), True, against=made())
    assert max(worst["flux"].values()) > 1e-10
    assert max(worst["mag"].values()) > 1e-10
    correlation = c.correlation.copy()
    correlation[3, 40] += 1e-4
    worst = compare(as_sources(XPCoefficients(c.value, c.error, correlation, c.n_relevant)), True, against=made())
    assert max(worst["flux"].values()) < 1e-10
    assert max(worst["flux_error"].values()) > 1e-10


@pytest.mark.parametrize("name", slow_after(6, [n for n in SYSTEMS if len(xpjax.load_system(n).names) <= 16]))
def test_float32_bound_holds_for_few_bands_too(shared, name: str) -> None:
    table = xpjax.read(shared("xp/xp_random_1200.fits"))
    system = xpjax.load_system(name)
    projection = np.asarray(system.projection) * system.scale
    value = table.coefficients.value.astype(float)
    linear = np.ones(system.n_band, bool)
    linear[[e.band for e in system.color_equations]] = False
    exact = value @ projection + np.asarray(system.flux_bias) * system.scale
    found = xpjax.photometry(table, system, errors=False).flux
    bound = 1e-6 * np.abs(value) @ np.abs(projection)
    assert np.all(np.abs(found - exact)[:, linear] <= bound[:, linear])


@pytest.mark.slow
@pytest.mark.parametrize("error_correction", [False, True])
def test_guarded_and_unguarded_agree_on_complete_sources(error_correction: bool) -> None:
    from xpjax.core import engine
    from xpjax.synthetic.kernel import photometry_kernel

    system = xpjax.load_system("JPLUS", "SDSS_Std").with_pair_weights()
    a, b = (
        engine.run(photometry_kernel(False, True, error_correction, guard), system, made().coefficients, float64=True)
        for guard in (False, True)
    )
    for key in a:
        np.testing.assert_allclose(a[key], b[key], rtol=1e-12, err_msg=key)


@pytest.mark.slow
def test_impossible_errors_are_no_errors() -> None:
    c = made().coefficients
    correlation = c.correlation.copy()
    correlation[1, :1485] = -0.9  # not positive definite
    correlation[2, 1485] = np.inf
    result = xpjax.photometry(XPCoefficients(c.value, c.error, correlation), "JPLUS")
    assert not np.any(result.flux_error == 0)
    assert np.all(np.isnan(result.flux_error[2][xpjax.load_system("JPLUS").needs[1]]))
    assert result.status[1] & Status.BP_NO_ERROR
    assert result.status[2] & Status.RP_NO_ERROR
    assert np.all(np.isfinite(result.flux_error[3:]))


@pytest.mark.slow
def test_odd_arrays_are_refused_or_understood() -> None:
    value = made().coefficients.value
    masked = np.ma.array(value, mask=False)
    masked[0, 3] = np.ma.masked
    assert xpjax.photometry(masked, "SDSS", errors=False).status[0] & Status.BP_BAD
    with pytest.raises(ValueError, match="error must be floats"):
        xpjax.photometry(XPCoefficients(value, np.full(value.shape, 60000), made().coefficients.correlation), "SDSS")
    with pytest.raises(ValueError, match=r"numpy\.asarray"):
        XPCoefficients(value.tolist())
    with pytest.raises(ValueError, match="name a photometric system"):
        xpjax.photometry(value, None)
    with pytest.raises(ValueError, match="at least one"):
        xpjax.photometry(value, [])
    both = xpjax.photometry(value, [xpjax.load_system("JPLUS"), "SDSS"], errors=False)
    assert both.system.n_band == 17
    assert len(xpjax.photometry(made()[0], "SDSS")) == 1
    with pytest.raises(ValueError, match="cannot keep columns"):
        both.catalogue({"Sdss_mag_g": np.zeros(8)})


def test_missing_xp_leaves_the_bands_of_the_other() -> None:
    c = made().coefficients
    value = c.value.copy()
    value[0, :55] = np.nan
    value[1, 60] = np.inf
    value[2] = np.nan
    table = as_sources(XPCoefficients(value, c.error, c.correlation))
    system = xpjax.load_system("JPLUS")
    whole = xpjax.photometry(made(), system)
    for errors in (False, True):
        part = xpjax.photometry(table, system, errors=errors)
        rp_only, bp_only = ~system.needs[0], ~system.needs[1]
        assert rp_only.sum() == 4
        assert bp_only.sum() == 7
        np.testing.assert_array_equal(np.isfinite(part.flux[0]), rp_only)
        np.testing.assert_array_equal(np.isfinite(part.flux[1]), bp_only)
        np.testing.assert_allclose(part.flux[0][rp_only], whole.flux[0][rp_only], rtol=1e-5)
        np.testing.assert_array_equal(part.flux[3:], whole.flux[3:])
        rest = ~np.uint32(Status.NONPOSITIVE_FLUX)  # made spectra may be negative somewhere
        assert part.status[0] & rest == Status.BP_MISSING | Status.BAND_MISSING
        assert part.status[1] & rest == Status.RP_BAD | Status.BAND_MISSING
        assert part.status[2] & rest == Status.BP_MISSING | Status.RP_MISSING | Status.BAND_MISSING
        if errors:
            np.testing.assert_array_equal(np.isfinite(part.flux_error), np.isfinite(part.flux))


def test_errors_are_absent_where_correlations_are() -> None:
    c = made().coefficients
    result = xpjax.photometry(XPCoefficients(c.value, c.error), "SDSS")
    assert result.flux_error is None
    assert result.magnitude_error is None
    assert np.all(result.status & (Status.BP_NO_ERROR | Status.RP_NO_ERROR) == Status.BP_NO_ERROR | Status.RP_NO_ERROR)
    plain = xpjax.photometry(XPCoefficients(c.value, c.error), "SDSS", errors=False)
    assert not np.any(plain.status & ~np.uint32(Status.NONPOSITIVE_FLUX))
    correlation = c.correlation.copy()
    correlation[2, 10] = np.nan
    result = xpjax.photometry(XPCoefficients(c.value, c.error, correlation), "SDSS")
    needs_bp = xpjax.load_system("SDSS").needs[0]
    np.testing.assert_array_equal(np.isnan(result.flux_error[2]), needs_bp)
    assert result.status[2] & ~np.uint32(Status.NONPOSITIVE_FLUX) == Status.BP_NO_ERROR
    assert np.all(np.isfinite(result.flux_error[[0, 1, 3, 4, 5, 6, 7]]))


@pytest.mark.parametrize("n", [64, 2000])
def test_bad_numbers_are_flagged_in_batches_of_any_size(n: int) -> None:
    """XLA's minimum and maximum lose NaN on CPUs in batches of more than 383 rows."""
    table = simulate.simulate_sources(n, seed=4)
    c = table.coefficients
    value, error, correlation = (np.array(a) for a in (c.value, c.error, c.correlation))
    value[5, 60], error[7, 3], correlation[9, 2000], error[11, 70] = np.nan, np.nan, np.nan, np.inf
    bad = dataclasses.replace(c, value=value, error=error, correlation=correlation)
    status = xpjax.photometry(bad, "JPLUS").status
    assert status[5] & Status.RP_BAD
    for row, bit in ((7, Status.BP_NO_ERROR), (9, Status.RP_NO_ERROR), (11, Status.RP_NO_ERROR)):
        assert status[row] & bit
    clean = xpjax.photometry(c, "JPLUS").status
    others = np.setdiff1d(np.arange(n), [5, 7, 9, 11])
    np.testing.assert_array_equal(status[others], clean[others])


def test_magnitude_error_is_the_relative_flux_error() -> None:
    result = xpjax.photometry(made(), "SDSS_Std", float64=True, error_correction=True)
    good = result.flux > 0
    expected = 2.5 / np.log(10) * result.flux_error / result.flux
    np.testing.assert_allclose(result.magnitude_error[good], expected[good], rtol=1e-12)


def test_truncation_is_masking() -> None:
    c = made().coefficients
    keep = np.concatenate([np.arange(55)[None] < c.n_relevant[:, [k]] for k in range(2)], axis=1)
    masked = XPCoefficients(c.value * keep, c.error * keep, c.correlation)
    a = xpjax.photometry(c, "JPLUS", truncate=True, float64=True)
    b = xpjax.photometry(masked, "JPLUS", float64=True)
    np.testing.assert_allclose(a.flux, b.flux, rtol=1e-13)
    np.testing.assert_allclose(a.flux_error, b.flux_error, rtol=1e-12)
    with pytest.raises(ValueError, match="n_relevant"):
        xpjax.photometry(XPCoefficients(c.value), "JPLUS", truncate=True)


def test_catalogue_has_gaiaxpys_columns() -> None:
    expected = list(oracles.generate(made(), ["JPLUS", "SDSS"]).columns)
    columns = list(xpjax.photometry(made(), ["JPLUS", "SDSS"]).catalogue({"ra": np.zeros(8)}).columns)
    assert [c for c in columns if "mag_error" not in c] == [*expected, "ra", "xp_status"]
    assert len([c for c in columns if "_mag_error_" in c]) == 17


def test_results_can_be_taken_by_band() -> None:
    result = xpjax.photometry(made(), ["SDSS", "SDSS_Std"])
    np.testing.assert_array_equal(result["Sdss_g"], result.magnitude[:, 1])
    with pytest.raises(KeyError, match="ambiguous"):
        result["g"]


def test_rows_can_be_taken() -> None:
    result = xpjax.photometry(made(), "SDSS", correction="standard")
    for rows in (slice(2, 5), np.array([4, 1]), np.arange(8) > 5):
        some = result[rows]
        np.testing.assert_array_equal(some.magnitude, result.magnitude[rows])
        np.testing.assert_array_equal(some.distance, result.distance[rows])
        assert some.system is result.system
        assert len(some) == len(some.source_id)
    assert len(result[-1]) == 1
    assert isinstance(result[0], xpjax.Photometry)


@pytest.mark.parametrize("suffix", ["parquet", "ecsv", "fits", "h5"])
@pytest.mark.parametrize("correction", [None, "standard"])
def test_photometry_comes_back_from_its_file(tmp_path: Path, suffix: str, correction: str | None) -> None:
    result = xpjax.photometry(made(), ["JPLUS:rJPLUS,gJPLUS", "SDSS"], correction=correction)
    xpjax.write(tmp_path / f"stars.{suffix}", result)
    found = read_photometry(tmp_path / f"stars.{suffix}")
    assert found.system.columns == result.system.columns
    for name in ("source_id", "flux", "flux_error", "magnitude", "magnitude_error", "status", "distance", "systematic"):
        a, b = getattr(found, name), getattr(result, name)
        assert (a is None) == (b is None), name
        if b is not None:
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert found.meta["correction"] == result.meta["correction"]


def test_photometry_of_own_bands_comes_back_with_their_system(tmp_path: Path) -> None:
    system = xpjax.passband_system(xpjax.load_passbands("minisitian:g"))
    result = xpjax.photometry(made(), system, errors=False)
    xpjax.write(tmp_path / "stars.csv", result)
    found = read_photometry(tmp_path / "stars.csv", system)
    np.testing.assert_array_equal(found["g"].astype(np.float32), result["g"])
    assert found.magnitude_error is None
    with pytest.raises(xpjax.XpjaxError, match="does not name its systems; give system="):
        read_photometry(tmp_path / "stars.csv")
    with pytest.raises(xpjax.XpjaxError, match="has no column Sdss_mag_u"):
        read_photometry(tmp_path / "stars.csv", xpjax.load_system("SDSS"))
    xpjax.write(tmp_path / "stars.ecsv", result)
    with pytest.raises(xpjax.XpjaxError, match="MiniSiTian is no published system"):
        read_photometry(tmp_path / "stars.ecsv")


def test_columns_are_described() -> None:
    table = xpjax.photometry(made(), "SDSS", correction="standard").to_table()
    assert all(column.description for column in table.itercols())
    assert table["Sdss_mag_systematic_g"].description.startswith("Systematic standard error in g")
