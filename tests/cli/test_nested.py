"""HATS catalogues on the command line: a partition, columns that are named, a store written as one, a run over it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import xpjax
from tests.cli.helpers import xp
from tests.xp.read.test_nested import public, values
from xpjax.io.catalogue import concatenate, read_catalogue
from xpjax.xp import write_store_file


def test_photometry_of_a_partition_and_of_named_columns(tmp_path: Path) -> None:
    pq.write_table(public(), tmp_path / "Npix=3.parquet")
    options = ("--system", "SDSS", "--keep", "bp_rp")
    done = xp("photometry", tmp_path / "Npix=3.parquet", *options, "-o", tmp_path / "a.parquet")
    assert done.exit_code == 0, done.stderr
    assert "all sources came without usable errors or correlations" in done.stderr
    found = read_catalogue(tmp_path / "a.parquet")
    assert np.isnan(found.columns["Sdss_mag_error_g"]).all()
    want = xpjax.photometry(public(), "SDSS")
    np.testing.assert_array_equal(found.columns["Sdss_mag_g"], want["g"])
    names = {"spectral_coefficients": "xp", "object_id": "id"}
    table = public().rename_columns([names.get(name, name) for name in public().column_names])
    pq.write_table(table, tmp_path / "other.parquet")
    command = ("photometry", tmp_path / "other.parquet", *options, "-o", tmp_path / "b.parquet")
    refused = xp(*command)
    assert refused.exit_code == 2
    assert "--columns source_id=NAME,coefficients=NAME" in refused.stderr
    assert xp(*command, "--columns", "source_id").exit_code == 2
    done = xp(*command, "--columns", "source_id=id,coefficients=xp.coeff", "--columns", "bp_rp=photometry.bp_rp")
    assert done.exit_code == 0, done.stderr
    again = read_catalogue(tmp_path / "b.parquet")
    for name in ("source_id", "Sdss_mag_g", "bp_rp", "xp_status"):
        np.testing.assert_array_equal(again.columns[name], found.columns[name])


def test_spectra_of_a_partition(tmp_path: Path) -> None:
    pq.write_table(public(rows=True), tmp_path / "Npix=3.parquet")
    command = ("spectra", tmp_path / "Npix=3.parquet", "--wavelength", "400:900:50", "--no-errors")
    done = xp(*command, "-o", tmp_path / "a.h5")
    assert done.exit_code == 0, done.stderr
    found = xpjax.xp.read_spectra(tmp_path / "a.h5")
    assert found.flux.shape == (len(values()), 11)
    assert np.isnan(found.flux[2, 0])
    assert np.isfinite(found.flux[2, -1])


@pytest.mark.slow
def test_a_store_is_exported_and_run_over(tmp_path: Path) -> None:
    table = xpjax.simulate_sources(40, seed=5)
    write_store_file(tmp_path / "store.h5", table)
    done = xp("store", "export", tmp_path / "store.h5", "-o", tmp_path / "hats", "--hats-rows", "10")
    assert done.exit_code == 0, done.stderr
    assert "40 sources written to hats, in" in done.stderr
    assert xp("store", "export", tmp_path / "store.h5", "-o", tmp_path / "hats").exit_code == 2
    again = xp("store", "export", tmp_path / "store.h5", "-o", tmp_path / "hats", "--hats-rows", "10", "--resume")
    assert again.exit_code == 0, again.stderr
    bare = xp("store", "export", tmp_path / "store.h5", "-o", tmp_path / "bare", "--no-correlations")
    assert bare.exit_code == 0
    assert xpjax.read(tmp_path / "bare").coefficients.correlation is None
    done = xp("catalogue", tmp_path / "hats", "--system", "SDSS", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    found = concatenate([read_catalogue(path) for path in (tmp_path / "out").glob("*.parquet")])
    want = xpjax.photometry(table, "SDSS")
    one, other = np.argsort(found.columns["source_id"]), np.argsort(want.source_id)
    np.testing.assert_array_equal(found.columns["Sdss_mag_error_g"][one], want.magnitude_error[other, 1])
    done = xp("catalogue", tmp_path / "bare", "--system", "SDSS", "-o", tmp_path / "no")
    assert done.exit_code == 0
    assert "no correlations: all errors are NaN" in done.stderr
