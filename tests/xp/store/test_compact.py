"""Stores of compact covariances: ingest, conversion, what is told of them, catalogues, and damage."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from tests.cli.helpers import xp
from tests.xp.store.test_store import assert_same_covariance
from xpjax.xp import StoreError, open_store, write_store_file
from xpjax.xp.compact import LEADING, as_arrays, subspace_of
from xpjax.xp.sources import SourceTable
from xpjax.xp.store import file as store_file
from xpjax.xp.store.format import attributes_checksum

N = 300


@pytest.fixture(scope="module")
def table() -> SourceTable:
    made = xpjax.simulate_sources(N, seed=4)
    return made[np.argsort(made.source_id)]


@pytest.fixture(scope="module")
def full(table: SourceTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two files with correlations."""
    folder = tmp_path_factory.mktemp("full")
    for k, part in enumerate((table[: N // 2], table[N // 2 :])):
        write_store_file(folder / f"part{k}.h5", part, attrs={"source": f"part{k}.csv.gz"})
    return folder


@pytest.fixture(scope="module")
def made(full: Path) -> Path:
    """The same converted by the command line."""
    folder = full.parent / "compact"
    done = xp("store", "compact", full, folder)
    assert done.exit_code == 0
    assert f"{N} sources of 2 files stored" in done.stderr
    return folder


def test_conversion_keeps_all_else(full: Path, made: Path) -> None:
    old, new = open_store(full), open_store(made)
    assert new.verify() == []
    assert [file.attrs["source"] for file in new.files] == ["part0.csv.gz", "part1.csv.gz"]
    assert [file.units for file in new.files] == [file.units for file in old.files]
    assert [file.attrs["format_version"] for file in (*old.files, *new.files)] == [1, 1, 2, 2]
    a, b = old.read(), new.read()
    for name in ("value", "error", "n_relevant"):
        np.testing.assert_array_equal(getattr(b.coefficients, name), getattr(a.coefficients, name))
    np.testing.assert_array_equal(b.source_id, a.source_id)
    assert b.columns.keys() == a.columns.keys()
    assert_same_covariance(b.coefficients.covariance, a.coefficients.compact().covariance)


def test_a_source_takes_6_kilobytes(table: SourceTable, tmp_path: Path) -> None:
    bare = dataclasses.replace(table, columns={})
    write_store_file(tmp_path / "a.h5", bare, correlations="compact")
    (file,) = open_store(tmp_path).files
    with h5py.File(file.path) as stored:
        size = sum(stored[name].nbytes for name in stored if isinstance(stored[name], h5py.Dataset)) / N
        assert len(stored["bp_covariance_scale"]) == N
        assert stored["covariance_subspace/bp/n_leading"][()] == 44
    assert size < 6310
    assert file.row_bytes() < 6310
    assert file.row_bytes(errors=False) < file.row_bytes() - 430
    assert file.row_bytes(LEADING) < 5100
    write_store_file(tmp_path / "b.h5", bare)
    assert open_store(tmp_path / "b.h5").files[0].row_bytes() > 12_700


def test_h5py_and_the_file_alone_give_the_error(table: SourceTable, made: Path) -> None:
    """As the format says: q' M q with q = query r, of corrected samples."""
    grid, options = np.arange(400.0, 1000.0, 50.0), {"correction": "standard", "resolution": "full", "float64": True}
    expected = xpjax.spectra(open_store(made).read(), grid, **options)
    row = int(np.flatnonzero(expected.distance[: N // 2] < 1)[0])
    design = xpjax.load_instrument().corrected().design(grid)
    r = np.asarray(design.value) * np.asarray(design.scale)
    with h5py.File(made / "part0.h5") as file:
        variance = 0
        for xp_name, rows in (("bp", slice(0, 55)), ("rp", slice(55, 110))):
            axes = {name: a[()] for name, a in file[f"covariance_subspace/{xp_name}"].items()}
            q, p, n = axes["query"] @ r[rows], axes["n_leading"], len(axes["size"])
            block = file[f"{xp_name}_covariance"][row, : p * (p + 1) // 2] * file[f"{xp_name}_covariance_scale"][row]
            counts = file[f"{xp_name}_covariance_rest"][row].astype(float)
            counts[axes["again"]] += counts[n:] / 254
            rest = counts[:n] * axes["size"] * file[f"{xp_name}_covariance_rest_scale"][row]
            matrix = np.zeros((len(q), len(q)))
            matrix[np.tril_indices(len(q))] = np.concatenate([block, rest])
            matrix = matrix + np.tril(matrix, -1).T
            variance += np.einsum("ib,ij,jb->b", q, matrix, q)
    np.testing.assert_allclose(np.sqrt(variance), expected.flux_error[row], rtol=1e-6)


def test_the_leading_part_is_read_alone(made: Path, tmp_path: Path) -> None:
    """Where it serves: the file may then lack the rest, which is never touched."""
    whole = open_store(made).read()
    shutil.copy(made / "part0.h5", tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["bp_covariance_rest"][17, 5] += 1
    with pytest.raises(StoreError, match=r"bp_covariance_rest: rows 0\.\.149 are damaged"):
        open_store(tmp_path).read()
    part = open_store(tmp_path).read(correlations=LEADING)
    assert part.coefficients.covariance.rest is None
    errors = [xpjax.photometry(t, "SDSS").flux_error for t in (part, whole[: len(part)])]
    np.testing.assert_array_equal(*errors)
    report = xpjax.run_catalogue(tmp_path, tmp_path / "cat", "SDSS")
    assert (report.rows, report.failed) == (N // 2, {})
    report = xpjax.run_catalogue(tmp_path, tmp_path / "corrected", "SDSS", correction="standard")
    assert "bp_covariance_rest" in str(report.failed)
    with pytest.raises(xpjax.XpjaxError, match="has the leading part of compact covariances alone"):
        write_store_file(tmp_path / "b.h5", part)


def test_info_tells_what_is_inside(made: Path, full: Path) -> None:
    told = xp("store", "info", made).stdout
    assert "compact: covariances for errors of passbands and spectra, corrected or not" in told
    assert " a source" in told
    assert made.name in xp("store", "info", made, "--files").stdout
    mixed = full.parent / f"mixed_{made.name}"
    mixed.mkdir()
    shutil.copy(full / "part0.h5", mixed)
    shutil.copy(made / "part1.h5", mixed)
    assert f"float32 and {made.name}, by file" in xp("store", "info", mixed).stdout
    assert open_store(mixed).correlations == made.name
    joined, whole = open_store(mixed).read(), open_store(made).read()
    assert_same_covariance(joined.coefficients.covariance, whole.coefficients.covariance)


def test_ingest_takes_compact_without_a_word(table: SourceTable, tmp_path: Path) -> None:
    xpjax.write(tmp_path / "xp.parquet", table[:20])
    assert xp("store", "ingest", tmp_path / "xp.parquet", "--store", tmp_path / "s", "--correlations").exit_code == 0
    assert open_store(tmp_path / "s").correlations == "compact"
    again = xp("store", "ingest", tmp_path / "xp.parquet", "--store", tmp_path / "s", "--correlations", "--resume")
    assert "1 files were in the store" in again.stderr
    other = ("--correlations", "int16", "--resume")
    assert xp("store", "ingest", tmp_path / "xp.parquet", "--store", tmp_path / "s", *other).exit_code == 2


@pytest.mark.parametrize(
    ("wanted", "message"),
    [("float32", "of which 'float32' cannot be made"), ("int16", "of which 'int16'"), ("same", "it needs no ingest")],
)
def test_no_correlations_are_made_of_covariances(made: Path, tmp_path: Path, wanted: str, message: str) -> None:
    kind = made.name if wanted == "same" else wanted
    report = xpjax.ingest([made / "part0.h5"], tmp_path, correlations=kind)
    assert message in report.failures["part0.h5"]
    assert not list(tmp_path.iterdir())
    if wanted != "same":
        with pytest.raises(xpjax.XpjaxError, match="of which no correlations can be made"):
            write_store_file(tmp_path / "a.h5", open_store(made).read(), correlations=wanted)


def test_correlations_can_be_left_out(made: Path, tmp_path: Path) -> None:
    report = xpjax.ingest(sorted(made.glob("*.h5")), tmp_path, correlations="none")
    assert report.sources == N
    found = open_store(tmp_path).read()
    assert not found.coefficients.has_covariance
    assert found.coefficients.error is not None


def test_selected_sources_stay_as_they_are(made: Path, tmp_path: Path) -> None:
    ids = open_store(made).read().source_id[[3, 200]]
    wanted = ("--source-id", ",".join(map(str, ids)))
    assert xp("store", "select", made, *wanted, "-o", tmp_path / "few.h5").exit_code == 0
    few = open_store(tmp_path / "few.h5")
    assert few.correlations == made.name
    rows = open_store(made).select(ids).coefficients.covariance
    np.testing.assert_array_equal(few.read().coefficients.covariance.packed[0], rows.packed[0])
    refused = xp("store", "select", made, *wanted, "-o", tmp_path / "few.parquet")
    assert refused.exit_code == 2
    assert "which store files alone hold: give an output that ends in .h5" in refused.stderr
    exported = xp("store", "export", made, "-o", tmp_path / "hats")
    assert exported.exit_code == 2
    assert "leave them out by --no-correlations" in exported.stderr


def test_catalogue_is_that_of_photometry(made: Path, full: Path, tmp_path: Path) -> None:
    report = xpjax.run_catalogue(made, tmp_path / "cat", "SDSS")
    assert report.rows == N
    expected = xpjax.photometry(open_store(made).read(), "SDSS").catalogue().columns
    parts = [xpjax.io.catalogue.read_catalogue(tmp_path / "cat" / f"part{k}.parquet").columns for k in (0, 1)]
    for name in ("Sdss_flux_error_g", "Sdss_mag_error_z", "xp_status"):
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), expected[name])
    done = xp("catalogue", made, "--system", "SDSS", "--correction", "standard", "-o", tmp_path / "corrected")
    assert done.exit_code == 0
    found = xpjax.io.catalogue.read_catalogue(tmp_path / "corrected" / "part0.parquet").columns
    expected = xpjax.photometry(open_store(full).files[0].read(), "SDSS", correction="standard").catalogue().columns
    for name in ("Sdss_flux_error_g", "Sdss_mag_error_z"):
        np.testing.assert_allclose(found[name], expected[name], rtol=6e-4)


def test_memory_is_used_again(made: Path) -> None:
    (file, _) = open_store(made).files
    first = file.read(0, 100)
    arrays, _ = first.coefficients.covariance.parts
    again = file.read(50, 90, into=first)
    assert all(np.shares_memory(a, b) for a, b in zip(arrays, again.coefficients.covariance.parts[0], strict=True))
    np.testing.assert_array_equal(
        again.coefficients.covariance.packed[1], file.read(50, 90).coefficients.covariance.packed[1]
    )


def change(path: Path, **attrs: object) -> None:
    """Other attributes, with the checksum that goes with them."""
    with h5py.File(path, "r+") as file:
        file.attrs.update(attrs)
        plain = {name: store_file.plain_attribute(value) for name, value in file.attrs.items()}
        file.attrs["checksum"] = attributes_checksum(plain)


def test_damage_is_found(made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "part0.h5", tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["rp_covariance"][17, 5] += 1
    with pytest.raises(StoreError, match=r"rp_covariance: rows 0\.\.149 are damaged"):
        open_store(tmp_path).read()
    shutil.copy(made / "part0.h5", tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["covariance_subspace/rp/query"][3, 5] += 1e-9
    assert any("covariance_subspace is damaged" in problem for problem in open_store(tmp_path).verify())
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["covariance_subspace/rp/query"]
    assert any("covariance_subspace is damaged" in problem for problem in open_store(tmp_path).verify())


def test_a_file_of_another_subspace_is_read_by_its_own(table: SourceTable, made: Path, tmp_path: Path) -> None:
    """One that a later xpjax may have: here the axes of BP are turned."""
    (shipped, _) = open_store(made).files
    own = shipped.subspace
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(44, 44)))[0]
    turn = np.block([[turn, np.zeros((44, 11))], [np.zeros((11, 44)), np.eye(11)]])
    other = dataclasses.replace(
        own, reduce=(own.reduce[0] @ turn, own.reduce[1]), query=(turn.T @ own.query[0], own.query[1])
    )
    shutil.copy(made / "part0.h5", tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["covariance_subspace/bp/reduce"][...] = other.reduce[0]
        file["covariance_subspace/bp/query"][...] = other.query[0]
    with pytest.raises(StoreError, match="covariance_subspace is damaged"):
        open_store(tmp_path / "a.h5").files[0]._own_subspace()
    change(tmp_path / "a.h5", covariance_subspace=other.name.encode())
    (file,) = open_store(tmp_path).files
    assert file.verify() == []
    assert file.subspace == other == subspace_of(as_arrays(other), own.release)
    found = file.read(columns=())
    assert found.coefficients.covariance.subspace == other
    # The packed numbers are still those of the shipped axes: with the file's own matrices errors are others.
    a, b = (xpjax.photometry(t, "SDSS").flux_error for t in (found, shipped.read(columns=())))
    assert np.nanmax(np.abs(a / b - 1)) > 0.01
