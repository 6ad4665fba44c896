"""Photometry and spectra of LSDB catalogues: the rows of `xpjax.photometry`, after whatever LSDB does."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpjax
from tests.xp.read.test_nested import public
from xpjax.core.errors import XpjaxError
from xpjax.core.status import Status
from xpjax.xp import write_store_file
from xpjax.xp.sources import SourceTable, XPCoefficients

lsdb = pytest.importorskip("lsdb")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

SOURCES = xpjax.simulate_sources(300, seed=31)
SOURCES.coefficients.value[5, :55] = np.nan
SOURCES.status[5] = Status.BP_MISSING
SYSTEM = "SDSS"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lsdb")
    write_store_file(root / "store.h5", SOURCES)
    xpjax.catalogue.export_hats(root / "store.h5", root / "hats", hats_rows=40)
    return root / "hats"


@pytest.fixture(scope="module")
def catalog(folder: Path) -> Any:
    return lsdb.open_catalog(folder)


def rows(result: Any) -> dict[str, np.ndarray]:
    """The columns of a computed catalogue, by source_id."""
    frame = result.compute(progress_bar=False)
    order = np.argsort(frame["source_id"].to_numpy())
    return {name: frame[name].to_numpy()[order] for name in frame.columns}


def expected(table: SourceTable = SOURCES, **options: Any) -> dict[str, np.ndarray]:
    found = xpjax.photometry(table[np.argsort(table.source_id)], SYSTEM, **options)
    return dict(found.catalogue().columns)


def check(found: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert {*want} <= {*found}
    for name, column in want.items():
        np.testing.assert_array_equal(found[name], column, name)


def test_rows_are_those_of_photometry(catalog: Any) -> None:
    result = xpjax.lsdb.photometry(catalog, SYSTEM, keep=["bp_rp", "phot_g_mean_mag"])
    assert isinstance(result, type(catalog))
    assert list(result.columns)[:6] == ["source_id", "ra", "dec", "bp_rp", "phot_g_mean_mag", "Sdss_mag_u"]
    found = rows(result)
    check(found, expected())
    order = np.argsort(SOURCES.source_id)
    for name in ("ra", "dec", "bp_rp"):
        np.testing.assert_array_equal(found[name], SOURCES.columns[name][order])


@pytest.mark.slow
def test_options_are_those_of_photometry(catalog: Any) -> None:
    for options in ({"errors": False}, {"truncate": True, "float64": True, "errors": False}):
        check(rows(xpjax.lsdb.photometry(catalog, SYSTEM, **options)), expected(**options))  # type: ignore[arg-type]
    corrected = xpjax.lsdb.photometry(catalog, SYSTEM, errors=False, correction="standard")
    want = expected(errors=False, correction="standard")
    found = rows(corrected)
    assert "xp_correction_distance" in found
    for name, column in want.items():
        exact = column.dtype.kind != "f"
        np.testing.assert_allclose(found[name], column, rtol=0 if exact else 3e-5, err_msg=name)


def test_a_path_is_opened(folder: Path) -> None:
    assert "Sdss_mag_g" in xpjax.lsdb.photometry(folder, SYSTEM, errors=False).columns
    assert "Sdss_mag_g" in xpjax.lsdb.photometry(str(folder), SYSTEM, errors=False).columns


def test_a_cone_before_and_after(catalog: Any) -> None:
    ra, dec = (float(SOURCES.columns[name][0]) for name in ("ra", "dec"))
    before = xpjax.lsdb.photometry(catalog.cone_search(ra, dec, 30 * 3600), SYSTEM)
    after = xpjax.lsdb.photometry(catalog, SYSTEM).cone_search(ra, dec, 30 * 3600)
    one, other = rows(before), rows(after)
    assert 5 < len(one["source_id"]) < 150
    inside = SOURCES[np.isin(SOURCES.source_id, one["source_id"])]
    check(one, expected(inside))
    check(other, expected(inside))
    assert not len(before.query("Sdss_mag_g < 0").compute(progress_bar=False))


@pytest.mark.slow
def test_a_cross_match_with_its_suffixes(catalog: Any) -> None:
    other = catalog[["ra", "dec", "bp_rp"]].query("bp_rp > 1")
    matched = other.crossmatch(catalog, radius_arcsec=1, suffixes=("_mine", "_gaia"), suffix_method="all_columns")
    result = xpjax.lsdb.photometry(matched, SYSTEM, keep=["bp_rp_mine", "_dist_arcsec"])
    assert list(result.columns)[:5] == ["source_id", "ra_mine", "dec_mine", "bp_rp_mine", "_dist_arcsec"]
    found = rows(result)
    red = SOURCES[SOURCES.columns["bp_rp"] > 1]
    assert len(red) > 20
    check(found, expected(red))
    again = xpjax.lsdb.photometry(catalog, SYSTEM, errors=False).crossmatch(
        other, radius_arcsec=1, suffixes=("", "_other"), suffix_method="overlapping_columns"
    )
    check(rows(again), expected(red, errors=False))


def test_two_sets_of_coefficients_need_a_word(catalog: Any) -> None:
    both = catalog.crossmatch(catalog, radius_arcsec=1, suffixes=("_a", "_b"), suffix_method="all_columns")
    with pytest.raises(XpjaxError, match=r"the catalogue: several sets of XP coefficients: spectral_coefficients_a\."):
        xpjax.lsdb.photometry(both, SYSTEM)
    result = xpjax.lsdb.photometry(both, SYSTEM, columns={"coefficients": "spectral_coefficients_b.coeff"})
    check(rows(result), expected())


def test_empty_partitions_work(catalog: Any) -> None:
    few = catalog.query("phot_g_mean_mag < 9")
    for result in (xpjax.lsdb.photometry(few, SYSTEM), xpjax.lsdb.spectra(few, np.arange(400.0, 500.0, 10))):
        frame = result.compute(progress_bar=False)
        assert len(frame) == (SOURCES.columns["phot_g_mean_mag"] < 9).sum()
        assert list(frame.columns) == list(result.columns)


@pytest.mark.slow
def test_spectra_are_nested(catalog: Any) -> None:
    grid = np.arange(400.0, 900.0, 50.0)
    result = xpjax.lsdb.spectra(catalog, grid, correlation=True, keep=["bp_rp"])
    assert list(result.columns) == ["source_id", "ra", "dec", "bp_rp", "spectrum", "correlation", "xp_status"]
    assert result.nested_columns == ["spectrum"]
    frame = result.compute(progress_bar=False).sort_values("source_id")
    want = xpjax.spectra(SOURCES[np.argsort(SOURCES.source_id)], grid, correlation=True)
    np.testing.assert_array_equal(frame["spectrum.wavelength"].to_numpy().reshape(300, -1)[7], grid)
    np.testing.assert_array_equal(frame["spectrum.flux"].to_numpy().reshape(300, -1), want.flux)
    np.testing.assert_array_equal(frame["spectrum.flux_error"].to_numpy().reshape(300, -1), want.flux_error)
    np.testing.assert_array_equal(np.stack(frame["correlation"].to_list()), want.correlation)
    np.testing.assert_array_equal(frame["xp_status"].to_numpy(), want.status)


@pytest.mark.slow
def test_internal_and_corrected_spectra(catalog: Any) -> None:
    some = np.arange(0.0, 60.0, 5.0)
    frame = xpjax.lsdb.spectra(catalog, some, internal=True, errors=False).compute(progress_bar=False)
    frame = frame.sort_values("source_id")
    want = xpjax.spectra(SOURCES[np.argsort(SOURCES.source_id)], some, internal=True, errors=False)
    for k, xp in enumerate(("bp", "rp")):
        flux = frame[f"{xp}_spectrum.flux"].to_numpy().reshape(300, -1)
        np.testing.assert_array_equal(flux, want.flux[:, k])
    grid = np.arange(400.0, 900.0, 20.0)
    frame = xpjax.lsdb.spectra(catalog, grid, errors=False, correction="standard").compute(progress_bar=False)
    frame = frame.sort_values("source_id")
    want = xpjax.spectra(SOURCES[np.argsort(SOURCES.source_id)], grid, errors=False, correction="standard")
    np.testing.assert_allclose(frame["spectrum.flux"].to_numpy().reshape(300, -1), want.flux, rtol=1e-5)
    np.testing.assert_array_equal(frame["xp_correction_distance"].to_numpy(), want.distance)


def test_the_public_copy_has_no_errors_and_says_so() -> None:
    import pandas as pd

    frame = public().to_pandas(types_mapper=pd.ArrowDtype)
    catalog = lsdb.from_dataframe(frame, margin_threshold=None)
    with pytest.warns(UserWarning, match="no correlations of the coefficients: results come without errors"):
        result = xpjax.lsdb.photometry(catalog, SYSTEM, keep=["photometry.bp_rp", "photometry"])
    assert list(result.columns)[:6] == ["source_id", "ra", "dec", "bp_rp", "photometry", "Sdss_mag_u"]
    assert not [name for name in result.columns if "error" in name]
    want = xpjax.photometry(public(), SYSTEM)
    order = np.argsort(want.source_id)
    found = rows(result)
    check(found, {name: column[order] for name, column in want.catalogue().columns.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xpjax.lsdb.photometry(catalog, SYSTEM, errors=False)
        xpjax.lsdb.spectra(catalog, errors=False)


def test_any_layout_by_its_columns() -> None:
    """The archive's columns as lists, and others that are named."""
    frame = SOURCES.to_pandas()
    catalog = lsdb.from_dataframe(frame, margin_threshold=None)
    check(rows(xpjax.lsdb.photometry(catalog, SYSTEM)), expected())
    renamed = frame.rename(columns={"bp_coefficients": "blue", "rp_coefficients": "red", "source_id": "star"})
    other = lsdb.from_dataframe(renamed, margin_threshold=None)
    with pytest.raises(XpjaxError, match=r"the catalogue: no XP coefficients under names .*star, .*blue"):
        xpjax.lsdb.photometry(other, SYSTEM)
    names = {"bp_coefficients": "blue", "rp_coefficients": "red", "source_id": "star"}
    check(rows(xpjax.lsdb.photometry(other, SYSTEM, columns=names)), expected())


def test_the_margin_goes_along() -> None:
    frame = SOURCES[:60].to_pandas()
    catalog = lsdb.from_dataframe(frame, highest_order=1, margin_order=3)
    result = xpjax.lsdb.photometry(catalog, SYSTEM, errors=False)
    assert result.margin is not None
    assert "Sdss_mag_g" in result.margin.columns
    assert len(result.margin.compute(progress_bar=False)) > 0


def test_what_is_no_catalogue_is_refused(catalog: Any) -> None:
    with pytest.raises(XpjaxError, match="SourceTable is no LSDB catalogue; open one with lsdb"):
        xpjax.lsdb.photometry(SOURCES, SYSTEM)
    with pytest.raises(XpjaxError, match="no column 'bprp' for keep; did you mean bp_rp"):
        xpjax.lsdb.photometry(catalog, SYSTEM, keep=["bprp"])
    with pytest.raises(XpjaxError, match="the result has a column 'xp_status' of its own"):
        xpjax.lsdb.photometry(catalog, SYSTEM, keep=["xp_status"])
    with pytest.raises(XpjaxError, match="unknown"):
        xpjax.lsdb.photometry(catalog, "NoSuchSystem")
    with pytest.raises(XpjaxError, match="resolution"):
        xpjax.lsdb.spectra(catalog, resolution="half")


def test_the_result_is_written_and_opened(catalog: Any, tmp_path: Path) -> None:
    result = xpjax.lsdb.photometry(catalog, SYSTEM, errors=False)
    result.write_catalog(tmp_path / "out", catalog_name="magnitudes", progress_bar=False)
    check(rows(lsdb.open_catalog(tmp_path / "out")), expected(errors=False))


def test_the_same_call_has_the_same_keys(catalog: Any) -> None:
    def keys(**options: Any) -> set[Any]:
        return {*xpjax.lsdb.photometry(catalog, SYSTEM, **options).to_dask_dataframe().__dask_keys__()}

    assert keys() == keys()
    assert keys() != keys(errors=False)


@pytest.mark.slow
def test_two_workers_give_the_rows_of_a_run(tmp_path: Path) -> None:
    """5,000 sources: whole catalogue on two Dask workers, beside `xpjax catalogue run`."""
    distributed = pytest.importorskip("distributed")
    from xpjax.io.catalogue import read_catalogue

    table = xpjax.simulate_sources(5000, seed=32, correlations=False)
    c = table.coefficients
    table = dataclasses.replace(table, coefficients=XPCoefficients(c.value, c.error, None, c.n_relevant, c.release))
    write_store_file(tmp_path / "store.h5", table, correlations="none")
    xpjax.catalogue.export_hats(tmp_path / "store.h5", tmp_path / "hats", hats_rows=400)
    xpjax.run_catalogue(tmp_path / "store.h5", tmp_path / "run", "JPLUS", errors=False)
    want = read_catalogue(tmp_path / "run" / "store.parquet").columns
    order = np.argsort(want["source_id"])
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        found = rows(xpjax.lsdb.photometry(lsdb.open_catalog(tmp_path / "hats"), "JPLUS", errors=False))
    check(found, {name: column[order] for name, column in want.items()})


def test_numbers_of_named_structures_are_kept() -> None:
    catalog = lsdb.from_dataframe(frame_of(40), margin_threshold=None)
    stars = xpjax.lsdb.photometry(
        catalog, SYSTEM, errors=False, columns={"coefficients": "cc.coeff"}, keep=["cc.coeff_error"]
    )
    kept = stars.compute(progress_bar=False)
    error = SOURCES.coefficients.error[np.argsort(SOURCES.source_id[:40])]
    kept = kept.sort_values("source_id")["coeff_error"]
    np.testing.assert_array_equal(np.stack([np.asarray(cell) for cell in kept]), error)
    with pytest.raises(XpjaxError, match=r"the catalogue: no XP coefficients .* but .*cc\.coeff, cc\.coeff_error"):
        xpjax.lsdb.photometry(catalog, SYSTEM, errors=False)


def frame_of(n: int) -> Any:
    """The first sources with nested coefficients under a name of their own."""
    import pandas as pd
    import pyarrow as pa
    from nested_pandas import NestedFrame
    from nested_pandas.series.packer import pack_lists

    c = SOURCES.coefficients
    kind = pd.ArrowDtype(pa.list_(pa.float32()))
    lists = {name: pd.Series(list(a[:n]), dtype=kind) for name, a in (("coeff", c.value), ("coeff_error", c.error))}
    plain = {name: SOURCES.columns[name][:n] for name in ("ra", "dec")}
    return NestedFrame({"source_id": SOURCES.source_id[:n], **plain, "cc": pack_lists(pd.DataFrame(lists))})
