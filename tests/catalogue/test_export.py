"""Stores as HATS catalogues with nested coefficients, and runs over these: every source once, to the bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import xpjax
from tests.catalogue.helpers import rows_of
from xpjax.catalogue import export_hats, hats
from xpjax.core.errors import XpjaxError
from xpjax.core.status import Status
from xpjax.io.catalogue import concatenate, read_catalogue
from xpjax.xp import open_store, write_store_file
from xpjax.xp.sources import SourceTable


def made(n: int = 400) -> SourceTable:
    """Sources as an ingest leaves them: some without BP, some bad, one repeated, and text beside them."""
    table = xpjax.simulate_sources(n, seed=21)
    bp, _ = table.release.slices
    c = table.coefficients
    assert c.error is not None
    assert c.correlation is not None
    for array in (c.value, c.error):
        array[[3, 13], bp] = np.nan
        array[7] = np.nan
    c.correlation[[3, 13], : c.correlation.shape[1] // 2] = np.nan
    c.correlation[[7, 9]] = np.nan
    c.n_relevant[[3, 13], 0] = 0
    c.n_relevant[7] = 0
    status = np.zeros(n, np.uint32)
    status[3], status[13] = Status.BP_MISSING, Status.BP_BAD
    status[7] = Status.BP_BAD | Status.RP_MISSING
    status[9] = Status.BP_NO_ERROR | Status.RP_NO_ERROR
    status[11] = Status.CELL_REPAIRED
    names = np.array([f"star {k}" * (k % 3) for k in range(n)])
    return dataclasses.replace(table, status=status, columns={**table.columns, "name": names})


def stored(folder: Path, table: SourceTable, cuts: tuple[int, ...] = (150, 160), **options: Any) -> Path:
    folder.mkdir()
    edges = [0, *cuts, len(table)]
    for k in range(len(edges) - 1):
        write_store_file(folder / f"XP_{k}.h5", table[edges[k] : edges[k + 1]], **options)
    return folder


def same_sources(found: SourceTable, want: SourceTable, correlations: bool = True) -> None:
    """Equal to the bit, in the order of ids."""
    found, want = (table[np.argsort(table.source_id)] for table in (found, want))
    np.testing.assert_array_equal(found.source_id, want.source_id)
    np.testing.assert_array_equal(found.status, want.status)
    for name in ("value", "error", "n_relevant", *["correlation"] * correlations):
        one, other = getattr(found.coefficients, name), getattr(want.coefficients, name)
        assert one.dtype == other.dtype, name
        np.testing.assert_array_equal(one, other, name)
    assert found.coefficients.correlation is not None or not correlations
    assert {*want.columns} <= {*found.columns}
    for name, column in want.columns.items():
        np.testing.assert_array_equal(found.columns[name], column, name)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("export") / "store", made())


@pytest.fixture(scope="module")
def exported(store: Path) -> Path:
    report = export_hats(store, store.parent / "hats", hats_rows=60)
    assert report.rows == 400
    assert report.pixels > 4
    assert report.unplaced == 0
    return report.output


def test_a_store_comes_back_to_the_bit(store: Path, exported: Path) -> None:
    same_sources(xpjax.read(exported), open_store(store).read())


def test_the_catalogue_says_what_it_is(store: Path, exported: Path) -> None:
    schema = pq.read_schema(exported / "dataset" / "_common_metadata")
    assert schema.names[:6] == [
        hats.INDEX, "source_id", "ra", "dec", "spectral_coefficients", "spectral_correlations",
    ]  # fmt: skip
    assert schema.field("phot_g_mean_mag").metadata[b"unit"] == b"mag"
    assert b"BP" in schema.field("spectral_correlations").type.field(0).metadata[b"description"]
    assert json.loads(schema.metadata[b"xpjax"])["meta"]["release"] == "Gaia DR3"
    told = (exported / "hats.properties").read_text()
    assert "xpjax_release=Gaia DR3" in told
    assert "prov_progenitor=xpjax store store, 3 files" in told
    index = [pq.read_table(path, columns=[hats.INDEX])[hats.INDEX].to_numpy() for path in files(exported)]
    assert all((np.diff(part) >= 0).all() for part in index)
    assert max(map(len, index)) <= 60


def files(folder: Path) -> list[Path]:
    return sorted((folder / "dataset").rglob("Npix=*.parquet"))


@pytest.mark.filterwarnings("ignore")
def test_hats_and_lsdb_open_it(exported: Path, store: Path) -> None:
    validation = pytest.importorskip("hats.io.validation")
    lsdb = pytest.importorskip("lsdb")
    assert validation.is_valid_catalog(exported, strict=True)
    catalog = lsdb.open_catalog(exported)
    assert len(catalog) == 400
    assert catalog.nested_columns == ["spectral_coefficients", "spectral_correlations"]
    frame = catalog.compute(progress_bar=False)
    same_sources(xpjax.read(frame), open_store(store).read())


@pytest.mark.parametrize("kind", ["none", "int16", "left out"])
def test_correlations_are_as_the_store_has_them(tmp_path: Path, kind: str) -> None:
    plain = made(60)
    folder = stored(tmp_path / "store", plain, (), correlations=kind.replace("left out", "float32"))
    export_hats(folder, tmp_path / "hats", correlations=kind != "left out")
    found = xpjax.read(tmp_path / "hats")
    want = open_store(folder).read()
    if kind == "int16":
        same_sources(found, want)
        return
    assert found.coefficients.correlation is None
    assert xpjax.photometry(found, "SDSS").magnitude_error is None
    np.testing.assert_array_equal(found.coefficients.value[np.argsort(found.source_id)],
                                  want.coefficients.value[np.argsort(want.source_id)])  # fmt: skip


def test_sources_without_positions_are_where_their_ids_say(tmp_path: Path) -> None:
    table = made(50)
    columns = {name: column for name, column in table.columns.items() if name not in ("ra", "dec")}
    folder = stored(tmp_path / "store", dataclasses.replace(table, columns=columns), ())
    report = export_hats(folder, tmp_path / "hats")
    assert report.unplaced == 50
    found = xpjax.read(tmp_path / "hats")
    assert found.columns["position_from_source_id"].all()
    order, own = np.argsort(found.source_id), np.argsort(table.source_id)
    np.testing.assert_allclose(found.columns["dec"][order], table.columns["dec"][own], atol=0.02)


def test_an_export_is_taken_up_and_refuses_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored(tmp_path / "store", made(120), (50,))
    write_parquet, done = hats.write_parquet, []

    def stopped(path: Path, *args: Any) -> int:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(path)
        return write_parquet(path, *args)

    monkeypatch.setattr(hats, "write_parquet", stopped)
    with pytest.raises(KeyboardInterrupt):
        export_hats(folder, tmp_path / "hats", hats_rows=20)
    monkeypatch.undo()
    assert not (tmp_path / "hats" / "hats.properties").exists()
    first = files(tmp_path / "hats")
    assert len(first) == 3
    before = [path.stat().st_mtime_ns for path in first]
    with pytest.raises(FileExistsError, match="has content"):
        export_hats(folder, tmp_path / "hats", hats_rows=20)
    with pytest.raises(XpjaxError, match="begun with other options: hats_rows was 20, now 30"):
        export_hats(folder, tmp_path / "hats", hats_rows=30, resume=True)
    counts: list[int] = []
    assert export_hats(folder, tmp_path / "hats", hats_rows=20, resume=True, progress=counts.append).rows == 120
    assert counts[-1] == 120
    assert [path.stat().st_mtime_ns for path in first] == before
    same_sources(xpjax.read(tmp_path / "hats"), open_store(folder).read())


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    folder = stored(tmp_path / "store", made(20), ())
    with pytest.raises(XpjaxError, match="at least one row"):
        export_hats(folder, tmp_path / "hats", hats_rows=0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        export_hats(folder, tmp_path / "file")
    empty = stored(tmp_path / "empty", made(20)[:0], ())
    with pytest.raises(XpjaxError, match="no source to be written"):
        export_hats(empty, tmp_path / "none")
    damaged = stored(tmp_path / "damaged", made(20), ()) / "XP_0.h5"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    with pytest.raises(XpjaxError, match="damaged"):
        export_hats(tmp_path / "damaged", tmp_path / "broken")
    assert not (tmp_path / "broken").exists()


def test_a_run_over_partitions_is_one_over_the_store(store: Path, exported: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"keep": ["ra", "bp_rp"], "where": "phot_g_mean_mag < 17.5"}
    xpjax.run_catalogue(store, tmp_path / "a", "SDSS", **options)
    report = xpjax.run_catalogue(exported, tmp_path / "b", "SDSS", **options)
    assert report.complete
    assert len(report.finished) == len(files(exported))
    parts = [read_catalogue(path) for path in (tmp_path / "b").glob("*.parquet")]
    found, want = concatenate(parts), rows_of(tmp_path / "a")
    order = np.argsort(found.columns["source_id"])
    assert list(found.columns) == list(want.columns)
    assert 0 < len(want) < 400
    for name, column in want.columns.items():
        np.testing.assert_array_equal(found.columns[name][order], column, name)
    assert found.units == want.units
    assert xpjax.run_catalogue(exported, tmp_path / "b", "SDSS", **options, resume=True).skipped == report.finished


def test_a_damaged_partition_fails_alone(exported: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "hats"
    shutil.copytree(exported, copy)
    path = files(copy)[1]
    body = bytearray(path.read_bytes())
    body[8:400] = b"\xff" * 392
    path.write_bytes(body)
    report = xpjax.run_catalogue(copy, tmp_path / "out", "SDSS", errors=False)
    assert len(report.failed) == 1
    assert "damaged" in next(iter(report.failed.values()))
    assert not report.complete
