"""Folders as inputs: stores and HATS catalogues, of one release or several, with columns of any names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import xpjax
from tests import dr4
from tests.cli.helpers import xp
from xpjax.io.catalogue import read_catalogue
from xpjax.xp import SourceTable, write_store_file

DR3_SOURCES = xpjax.simulate_sources(6, seed=3)
DR4_SOURCES = dr4.cut(dr4.without_last(xpjax.simulate_sources(4, seed=4)))
OPTIONS = ("--system", "SDSS", "--no-errors")
PUBLIC = ("source_id", "spectral_coefficients")


def nested(table: SourceTable, names: tuple[str, str] = PUBLIC, correlations: bool = False) -> pa.Table:
    c = table.coefficients
    inner = {"coeff": pa.array(list(c.value)), "coeff_error": pa.array(list(c.error))}
    columns = {names[0]: table.source_id, names[1]: pa.StructArray.from_arrays([*inner.values()], [*inner])}
    if correlations:
        lists = [pa.array(list(np.asarray(c.correlation)))]
        columns["spectral_correlations"] = pa.StructArray.from_arrays(lists, ["coeff_correlation"])
    return pa.table(columns)


def hats(folder: Path, *parts: pa.Table) -> Path:
    place = folder / "dataset" / "Norder=1" / "Dir=0"
    place.mkdir(parents=True)
    for k, part in enumerate(parts):
        pq.write_table(part, place / f"Npix={k}.parquet")
    for name in ("properties", "hats.properties"):
        (folder / name).write_text("obs_collection=made\n")
    return folder


def test_photometry_and_spectra_of_folders(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    write_store_file(tmp_path / "store" / "a.h5", DR3_SOURCES[:3])
    write_store_file(tmp_path / "store" / "b.h5", DR3_SOURCES[3:])
    catalogue = hats(tmp_path / "hats", nested(DR3_SOURCES[:3]), nested(DR3_SOURCES[3:]))
    want = xpjax.photometry(DR3_SOURCES, "SDSS", errors=False)
    for k, folder in enumerate((tmp_path / "store", catalogue)):
        done = xp("photometry", folder, *OPTIONS, "-o", tmp_path / f"{k}.parquet")
        assert done.exit_code == 0, done.stderr
        assert "6 sources read from 2 files" in done.stderr
        found = read_catalogue(tmp_path / f"{k}.parquet").columns
        order, own = np.argsort(found["source_id"]), np.argsort(want.source_id)
        np.testing.assert_allclose(found["Sdss_mag_g"][order], want["g"][own], atol=1e-5)
    done = xp("spectra", tmp_path / "store", "--wavelength", "400:900:50", "--no-errors", "-o", tmp_path / "s.h5")
    assert done.exit_code == 0, done.stderr
    assert len(xpjax.xp.read_spectra(tmp_path / "s.h5")) == 6


def test_folders_that_are_refused(tmp_path: Path) -> None:
    write_store_file(tmp_path / "a.h5", DR3_SOURCES)
    (tmp_path / "empty").mkdir()
    refused = xp("photometry", tmp_path / "empty", *OPTIONS, "-o", tmp_path / "o.csv")
    assert refused.exit_code == 2
    assert "neither a store nor a HATS catalogue" in refused.stderr
    refused = xp("wiggles", "correct", tmp_path, "-o", tmp_path / "o.h5")
    assert refused.exit_code == 2
    for words in ("is a store", "xpjax catalogue run", "xpjax store select"):
        assert words in refused.stderr


def test_columns_of_a_run_are_named_and_remembered(tmp_path: Path) -> None:
    folder = hats(tmp_path / "hats", nested(DR3_SOURCES, ("sid", "cc")))
    command = ("catalogue", "run", folder, *OPTIONS, "-o", tmp_path / "out")
    refused = xp(*command)
    assert refused.exit_code == 2
    assert "--columns source_id=NAME,coefficients=NAME" in refused.stderr
    named = (*command, "--columns", "source_id=sid,coefficients=cc.coeff")
    done = xp(*named)
    assert done.exit_code == 0, done.stderr
    assert len(read_catalogue(tmp_path / "out" / "Norder1_Npix0.parquet")) == 6
    assert xp(*named, "--resume").exit_code == 0
    other = xp(*named, "--columns", "coefficient_errors=cc.coeff_error", "--resume")
    assert other.exit_code == 2
    assert "begun with other options: columns was" in other.stderr
    write_store_file(tmp_path / "a.h5", DR3_SOURCES)
    refused = xp("catalogue", "run", tmp_path / "a.h5", *OPTIONS, "--columns", "source_id=x", "-o", tmp_path / "no")
    assert refused.exit_code == 2
    assert "leave --columns out" in refused.stderr


def test_two_releases_in_a_hats_catalogue(tmp_path: Path) -> None:
    folder = hats(tmp_path / "hats", nested(DR3_SOURCES), nested(DR4_SOURCES))
    for k, command in enumerate((("catalogue", "run"), ("photometry",))):
        refused = xp(*command, folder, *OPTIONS, "-o", tmp_path / f"{k}.csv")
        assert refused.exit_code == 2
        for words in ("Npix=0.parquet is of Gaia DR3", "Npix=1.parquet is of Gaia DR4", "--release"):
            assert words in refused.stderr
        done = xp(*command, folder, *OPTIONS, "--release", "DR3", "-o", tmp_path / f"{k}.csv")
        assert done.exit_code == 0, done.stderr
        assert "6 sources read" in done.stderr


def test_messages_of_a_partition_name_its_file(tmp_path: Path) -> None:
    mixed = pa.concat_tables([nested(DR3_SOURCES), nested(DR4_SOURCES)])
    failed = xp("catalogue", "run", hats(tmp_path / "hats", mixed), *OPTIONS, "-o", tmp_path / "out")
    assert failed.exit_code == 1
    assert "Npix=0.parquet" in failed.stderr
    assert "memory" not in failed.stderr


@pytest.mark.slow
def test_files_without_correlations_are_counted(tmp_path: Path) -> None:
    folder = hats(tmp_path / "hats", nested(DR3_SOURCES[:2]), nested(DR3_SOURCES[2:], correlations=True))
    done = xp("catalogue", "run", folder, "--system", "SDSS", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "1 of 2 files have no correlations, such as Npix=0.parquet" in done.stderr
    assert "all errors are NaN" not in done.stderr


def test_remedies_are_options_that_commands_have(tmp_path: Path) -> None:
    path = tmp_path / "Npix=1.parquet"
    pq.write_table(pa.concat_tables([nested(DR3_SOURCES), nested(DR4_SOURCES)]), path)
    failed = xp("store", "ingest", path, "--store", tmp_path / "store")
    assert failed.exit_code != 0
    assert "--instrument" not in failed.stderr
    from xpjax.core.errors import command_line

    with command_line(), pytest.raises(xpjax.XpjaxError, match="give --correction none"):
        xpjax.load_correction("standard").check(DR4_SOURCES.release, "")
