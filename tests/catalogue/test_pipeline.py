"""Resumable runs: equal to `xpjax.photometry` row for row, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

import xpjax
from xpjax.catalogue import pipeline
from xpjax.catalogue.pipeline import Busy, catalogue_status, run_catalogue
from xpjax.core import engine
from xpjax.core.conditions import parse_where
from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.core.status import Status
from xpjax.io.catalogue import concatenate, read_catalogue
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable
from xpjax.xp.store.store import open_store, write_store_file

SIZES = (300, 250, 20, 300, 1)


def bad_sources(table: SourceTable) -> SourceTable:
    """Sources as the archive has them: some without BP, some with bad coefficients, dark ones, bits of the reading."""
    bp, rp = table.release.slices
    table.coefficients.value[3, bp] = np.nan
    table.coefficients.value[310, rp.start] = np.inf
    table.coefficients.value[[5, 600]] *= -1
    table.coefficients.correlation[7] = np.nan
    table.status[:] = 0
    table.status[9] = Status.DUPLICATE
    return table


@pytest.fixture(scope="module")
def sources() -> SourceTable:
    return bad_sources(simulate.simulate_sources(sum(SIZES), seed=11))


@pytest.fixture(scope="module")
def store(sources: SourceTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(sources, tmp_path_factory.mktemp("store"))


def write_store(table: SourceTable, folder: Path) -> Path:
    start = 0
    for k, n in enumerate(SIZES):
        write_store_file(folder / f"XP_{k}.h5", table[start : start + n])
        start += n
    return folder


def rows_of(output: Path) -> Catalogue:
    """All rows of a catalogue, by source_id."""
    parts = [read_catalogue(path) for path in output.glob("XP_*") if path.suffix in (".parquet", ".fits", ".h5")]
    whole = concatenate(parts)
    order = np.argsort(whole.columns["source_id"], kind="stable")
    return dataclasses.replace(whole, columns={name: column[order] for name, column in whole.columns.items()})


def expected(table: SourceTable, keep: tuple[str, ...] = (), **options: object) -> dict[str, np.ndarray]:
    result = xpjax.photometry(table[np.argsort(table.source_id)], "JPLUS", **options)  # type: ignore[arg-type]
    columns = {name: table.columns[name][np.argsort(table.source_id)] for name in keep}
    return dict(result.catalogue(columns).columns)


def check(output: Path, want: dict[str, np.ndarray]) -> None:
    found = rows_of(output).columns
    assert list(found) == list(want)
    for name, column in want.items():
        same(found[name], column, name)


def same(found: np.ndarray, want: np.ndarray, name: str) -> None:
    """Equal, but for the last digit of float32, in which batches of another size may differ."""
    exact = want.dtype.kind != "f" or name in ("ra", "dec", "bp_rp")
    np.testing.assert_allclose(found, want, rtol=0 if exact else 1e-5, err_msg=name)


def leftovers(output: Path) -> list[Path]:
    return [path for path in output.rglob("*") if path.name.endswith(".tmp")]


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["parquet", "fits", "hdf5"])
def test_rows_are_those_of_photometry(format: str, store: Path, sources: SourceTable, tmp_path: Path) -> None:
    report = run_catalogue(store, tmp_path / "out", "JPLUS", format=format, keep=["bp_rp", "ra"])
    assert report.complete
    assert (report.rows, report.sources, report.failed) == (len(sources), len(sources), {})
    check(tmp_path / "out", expected(sources, ("bp_rp", "ra")))
    assert report.status["BP_MISSING"] == 1
    assert report.status["NONPOSITIVE_FLUX"] >= 2
    assert not leftovers(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"errors": False},
        {"errors": False, "truncate": True},
        {"error_correction": True},
        {"float64": True, "errors": False},
    ],
    ids=str,
)
def test_options_are_those_of_photometry(
    options: dict[str, bool], store: Path, sources: SourceTable, tmp_path: Path
) -> None:
    run_catalogue(store, tmp_path / "out", "JPLUS", **options)  # type: ignore[arg-type]
    check(tmp_path / "out", expected(sources, **options))


def test_rows_do_not_depend_on_chunks_and_units(
    store: Path, sources: SourceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "CHUNK_BYTES", 1)
    monkeypatch.setattr(pipeline, "BLOCK_ROWS", 64)
    monkeypatch.setattr(pipeline, "units_of", lambda opened, units=pipeline.units_of: units(opened, 128))
    report = run_catalogue(store, tmp_path / "out", "JPLUS")
    assert len(report.finished) == 3 + 2 + 1 + 3 + 1
    check(tmp_path / "out", expected(sources))


def test_a_job_compiles_one_batch_whatever_its_units(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = set()
    inner = engine._compiled

    def compiled(kernel: engine.Kernel, mesh: jax.sharding.Mesh) -> Callable[..., object]:
        function = inner(kernel, mesh)

        def call(constants: object, part: object) -> object:
            shapes.add((kernel, jax.tree.leaves(part)[0].shape))
            return function(constants, part)

        return call

    monkeypatch.setattr(engine, "_compiled", compiled)
    run_catalogue(store, tmp_path / "out", "JPLUS")
    assert len(shapes) == 2  # one for all sources, one for those that are done again in float64


def test_a_store_without_correlations_has_no_errors(sources: SourceTable, tmp_path: Path) -> None:
    write_store_file(tmp_path / "XP_0.h5", sources[:50], correlations="none")
    run_catalogue(tmp_path / "XP_0.h5", tmp_path / "out", "JPLUS")
    found = rows_of(tmp_path / "out").columns
    assert np.isnan(found["Jplus_mag_error_gJPLUS"]).all()
    assert (found["xp_status"] & Status.RP_NO_ERROR).all()
    assert np.isfinite(found["Jplus_mag_rJPLUS"]).any()


@pytest.mark.slow
def test_passbands_make_a_catalogue_too(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    band = xpjax.Passband("box", np.array([500.0, 501.0, 600.0, 601.0]), np.array([0.0, 1.0, 1.0, 0.0]))
    run_catalogue(store, tmp_path / "out", [xpjax.PassbandSet("mine", (band,)), "SDSS"], errors=False)
    found = rows_of(tmp_path / "out").columns
    want = xpjax.photometry(sources[np.argsort(sources.source_id)], band, errors=False)
    np.testing.assert_allclose(found["mine_mag_box"], want.magnitude[:, 0], rtol=1e-6)
    assert "Sdss_mag_g" in found


def test_the_source_without_bp_has_a_row(shared: Callable[[str], Path], tmp_path: Path) -> None:
    table = xpjax.read(shared("xp/formats/XP_CONTINUOUS_RAW_with_missing_BP.csv"))
    write_store_file(tmp_path / "XP_0.h5", table)
    run_catalogue(tmp_path / "XP_0.h5", tmp_path / "out", "JPLUS")
    found = rows_of(tmp_path / "out").columns
    (row,) = np.flatnonzero(found["source_id"] == 5405570973190252288)
    assert found["xp_status"][row] & Status.BP_MISSING
    assert len(found["source_id"]) == len(table)


# --- where ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "phot_g_mean_mag < 16 and bp_rp > 0.5",
        "not (14 <= phot_g_mean_mag < 16) or bp_rp - 1 > 2 ** -1",
        "xp_status == 0",
        "xp_status & 128 == 0 and -30 < dec",
    ],
)
def test_where_chooses_rows(text: str, store: Path, sources: SourceTable, tmp_path: Path) -> None:
    report = run_catalogue(store, tmp_path / "out", "JPLUS", errors=False, where=text)
    names = {"xp_status": sources.status, **sources.columns}
    python = text.replace("xp_status &", "(int(xp_status)) &")
    mask = np.array([eval(python, {}, {n: float(c[k]) for n, c in names.items()}) for k in range(len(sources))])
    assert 0 < mask.sum() < len(sources)
    assert (report.rows, report.sources) == (mask.sum(), len(sources))
    check(tmp_path / "out", expected(sources[mask], errors=False))


def test_where_keeps_the_digits_of_a_source_id(sources: SourceTable) -> None:
    one = int(sources.source_id[0])
    ids = np.array([one - 1, one, one + 1])
    np.testing.assert_array_equal(parse_where(f"source_id == {one}")({"source_id": ids}), [False, True, False])


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "bp_rp.real > 1",
        "abs(bp_rp) > 1",
        "bp_rp[0] > 1",
        "'a' < 'b'",
        "[x for x in bp_rp]",
        "lambda: 1",
        "bp_rp > 1; ra",
        "bp_rp := 1",
        "True",
        "bp_rp is 1",
        "bp_rp >",
        "",
        "bp_rp + 1",
        "no_such_column > 1",
        "bp_rp & 1 == 0",
        "source_id < 99999999999999999999",
        "9 ** 9 ** 9 ** 9",
        "(" * 500 + "1" + ")" * 500,
    ],
)
def test_where_refuses_all_but_conditions(text: str, store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"where|no columns"):
        run_catalogue(store, tmp_path / "out", "JPLUS", where=text or " ")
    assert not (tmp_path / "out").exists()


# --- runs -------------------------------------------------------------------------------------------------------------


def test_finished_units_are_not_done_again(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run_catalogue(store, output, "JPLUS", errors=False)
    (output / "XP_1.parquet").unlink()
    (output / "XP_3.parquet").write_bytes(b"half")
    before = (output / "XP_0.parquet").stat().st_mtime_ns
    with pytest.raises(FileExistsError, match="resume=True"):
        run_catalogue(store, output, "JPLUS", errors=False)
    report = run_catalogue(store, output, "JPLUS", errors=False, resume=True)
    assert sorted(report.finished) == ["XP_1", "XP_3"]
    assert sorted(report.skipped) == ["XP_0", "XP_2", "XP_4"]
    assert (output / "XP_0.parquet").stat().st_mtime_ns == before
    check(output, expected(sources, errors=False))


@pytest.mark.parametrize(
    ("option", "value"),
    [("errors", True), ("where", "bp_rp > 1"), ("keep", ["ra"]), ("format", "fits"), ("systems", "SDSS")],
)
def test_a_resumed_run_has_the_same_options(option: str, value: object, store: Path, tmp_path: Path) -> None:
    run_catalogue(store, tmp_path / "out", "JPLUS", errors=False)
    changed = {"systems": "JPLUS", "errors": False, option: value}
    with pytest.raises(ValueError, match=rf"other options: {option} was"):
        run_catalogue(store, tmp_path / "out", resume=True, **changed)  # type: ignore[arg-type]


def test_a_passband_that_changed_is_another_option(store: Path, tmp_path: Path) -> None:
    def box(stop: float) -> xpjax.Passband:
        return xpjax.Passband("box", np.array([500.0, 501.0, stop]), np.array([0.0, 1.0, 0.0]))

    run_catalogue(store, tmp_path / "out", box(600), errors=False)
    with pytest.raises(ValueError, match="passband curves"):
        run_catalogue(store, tmp_path / "out", box(610), errors=False, resume=True)


def test_an_output_of_others_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    for resume in (False, True):
        with pytest.raises(FileExistsError, match="has content"):
            run_catalogue(store, tmp_path / "out", "JPLUS", resume=resume)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_without_locks_it_is_said_how_to_go_on(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(pipeline.fcntl, "flock", refuse)
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    output = tmp_path / "out"
    with pytest.raises(pipeline.NoLocks, match=r"out.*the file system has no locks; set HDF5_USE_FILE_LOCKING=FALSE"):
        run_catalogue(store, output, "JPLUS", errors=False)
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    assert run_catalogue(store, output, "JPLUS", errors=False).complete
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING")
    assert catalogue_status(output).complete


@pytest.mark.parametrize("text", ["{", "[1]", '{"units": []}'])
def test_a_record_that_is_none_is_named(text: str, store: Path, tmp_path: Path) -> None:
    (tmp_path / "_xpjax").mkdir()
    (tmp_path / "_xpjax" / "job.json").write_text(text)
    with pytest.raises(XpjaxError, match=r"job\.json: no record of a catalogue run.*remove the file"):
        catalogue_status(tmp_path)
    with pytest.raises(XpjaxError, match=r"job\.json: no record of a catalogue run"):
        run_catalogue(store, tmp_path, "JPLUS", resume=True)


def test_shards_make_one_catalogue(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = run_catalogue(store, output, "JPLUS", errors=False, shard=(1, 2))
    assert not first.complete
    assert len(catalogue_status(output).left) == 2
    with pytest.raises(FileExistsError, match="resume=True"):
        run_catalogue(store, output, "JPLUS", errors=False, shard=(1, 2))
    second = run_catalogue(store, output, "JPLUS", errors=False, shard=(2, 2))
    assert second.complete
    assert not {*first.finished} & {*second.finished}
    check(output, expected(sources, errors=False))
    for shard in ((0, 2), (3, 2), (1, 0)):
        with pytest.raises(ValueError, match="shard"):
            run_catalogue(store, tmp_path / "other", "JPLUS", shard=shard)


def test_a_second_run_is_refused(store: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run_catalogue(store, output, "JPLUS", errors=False, shard=(1, 2))
    with pipeline._flock(output / "_xpjax" / "lock-1-of-2"):
        assert catalogue_status(output).running == ("1/2",)
        for shard in ((1, 2), (1, 1), (2, 3)):  # itself, and shards that would share units with it
            with pytest.raises(Busy, match=rf"another run is at work.*process {os.getpid()}"):
                run_catalogue(store, output, "JPLUS", errors=False, shard=shard, resume=True)
        assert run_catalogue(store, output, "JPLUS", errors=False, shard=(2, 2)).complete


def test_a_flipped_byte_fails_its_unit_only(sources: SourceTable, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store, output = write_store(sources, tmp_path / "store"), tmp_path / "out"
    file = open_store(store / "XP_1.h5").files[0]
    offset = file._datasets["bp_coefficients"].offset + 1000
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 16]) + whole[offset + 1 :])
    report = run_catalogue(store, output, "JPLUS", errors=False)
    assert list(report.failed) == ["XP_1"]
    assert "bp_coefficients" in report.failed["XP_1"]
    assert not report.complete
    assert len(report.finished) == 4
    assert not leftovers(output)
    assert not (output / "XP_1.parquet").exists()
    found = catalogue_status(output)
    assert (list(found.failed), found.sources_failed) == (["XP_1"], SIZES[1])
    file.path.write_bytes(whole)
    report = run_catalogue(store, output, "JPLUS", errors=False, resume=True)
    assert (report.finished, report.complete) == (("XP_1",), True)
    assert not catalogue_status(output).failed
    check(output, expected(sources, errors=False))


def test_a_store_that_changed_is_refused(sources: SourceTable, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = write_store(sources, tmp_path / "store")
    run_catalogue(store, tmp_path / "out", "JPLUS", errors=False)
    write_store_file(store / "XP_2.h5", sources[:30], overwrite=True)
    with pytest.raises(ValueError, match=r"XP_2.h5 has changed"):
        run_catalogue(store, tmp_path / "out", "JPLUS", errors=False, resume=True)


def test_the_manifest_says_what_was_done(store: Path, tmp_path: Path) -> None:
    import zlib

    run_catalogue(store, tmp_path / "out", "JPLUS", errors=False)
    record = json.loads((tmp_path / "out" / "_xpjax" / "units" / "XP_0.json").read_bytes())
    part = tmp_path / "out" / "XP_0.parquet"
    assert record["output"]["crc32"] == f"{zlib.crc32(part.read_bytes()):08x}"
    assert record["output"]["size"] == part.stat().st_size
    assert record["input"] | {"checksum": ""} == {
        "name": "XP_0.h5",
        "rows": [0, SIZES[0]],
        "size": (store / "XP_0.h5").stat().st_size,
        "checksum": "",
    }
    assert record["rows"] == record["sources"] == SIZES[0]
    assert record["version"] == xpjax.__version__
    assert record["status"]["BP_MISSING"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "csv"}, "no format"),
        ({"keep": ["nothing"]}, "no columns nothing"),
        ({"keep": ["_healpix_29"], "format": "hats"}, "no columns"),
        ({"devices": "tpu:3"}, "device"),
    ],
    ids=str,
)
def test_wrong_calls_write_nothing(options: dict[str, object], message: str, store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run_catalogue(store, tmp_path / "out", "JPLUS", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


# --- in a process of its own ------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from xpjax.pipeline import run_catalogue
moment, done, rename = int(sys.argv[3]), 0, os.replace
def replace(a, b):
    global done
    done += 1
    if done == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(a, b)
os.replace = replace
run_catalogue(sys.argv[1], sys.argv[2], "JPLUS", errors=False, resume=True)
"""


@pytest.mark.slow
def test_a_killed_run_is_taken_up(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    output = tmp_path / "out"
    # Before job.json is there; before a part, and before its manifest, has its name.
    for moment in (1, 2, 3):
        command = [sys.executable, "-c", KILLED, str(store), str(output), str(moment)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
        assert leftovers(output)
    report = run_catalogue(store, output, "JPLUS", errors=False, resume=True)
    assert report.complete
    assert not leftovers(output)
    check(output, expected(sources, errors=False))


FULL = """
import json, resource, sys
from xpjax.pipeline import run_catalogue
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
report = run_catalogue(sys.argv[1], sys.argv[2], "JPLUS", errors=False, format=sys.argv[3])
print(json.dumps({"finished": report.finished, "failed": report.failed}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("format", ["parquet", "hdf5"])
def test_a_full_disk_fails_units_that_do_not_fit(
    format: str, store: Path, sources: SourceTable, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-c", FULL, str(store), str(output), format]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert sorted(report["finished"]) == ["XP_2", "XP_4"]
    assert sorted(report["failed"]) == ["XP_0", "XP_1", "XP_3"]
    assert all("File too large" in message for message in report["failed"].values())
    assert not leftovers(output)
    assert len([path for path in output.iterdir() if path.is_file()]) == 2
    assert run_catalogue(store, output, "JPLUS", errors=False, format=format, resume=True).complete
    check(output, expected(sources, errors=False))


@pytest.mark.slow
def test_a_killed_dask_workers_units_are_done_by_others(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    output = tmp_path / "out"
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = list(client.run(os.getpid).values())

        def kill() -> None:
            while not list(output.glob("_xpjax/units/*.json")):
                time.sleep(0.02)
            os.kill(workers[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        report = run_catalogue(store, output, "JPLUS", errors=False, dask=cluster.scheduler_address)
        killer.join()
    assert report.complete
    assert not report.failed
    check(output, expected(sources, errors=False))


# --- HATS -------------------------------------------------------------------------------------------------------------


def test_pixels_are_the_largest_with_few_enough_rows() -> None:
    from xpjax.catalogue.hats import choose_pixels

    counts = np.zeros(12 * 4**3, np.int64)
    counts[:64] = 2  # pixel 0 of order 0: 128 rows
    counts[64] = 50  # pixel 1 of order 0: one child of order 3
    counts[700] = 5
    pixels = [(p.order, p.number, p.rows) for p in choose_pixels(counts, 40)]
    assert pixels == [(1, 0, 32), (1, 1, 32), (1, 2, 32), (1, 3, 32), (3, 64, 50), (0, 10, 5)]


def test_hats_has_every_row_once_by_position(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    from astropy import units as u
    from astropy_healpix import lonlat_to_healpix

    output = tmp_path / "out"
    report = run_catalogue(store, output, "JPLUS", format="hats", keep=["bp_rp"], hats_rows=40)
    assert report.complete
    want = expected(sources, ("ra", "dec", "bp_rp"))
    found = pq.read_table(output / "dataset").to_pandas().sort_values("source_id")
    for name, column in want.items():
        same(found[name].to_numpy(), column, name)
    index = lonlat_to_healpix(want["ra"] * u.deg, want["dec"] * u.deg, 2**29, order="nested")
    np.testing.assert_array_equal(found["_healpix_29"], index)
    assert not found["position_from_source_id"].any()
    assert not list((output / "_xpjax" / "partial").iterdir())
    assert run_catalogue(store, output, "JPLUS", format="hats", keep=["bp_rp"], hats_rows=40, resume=True).skipped


@pytest.mark.slow
def test_hats_is_taken_up_while_it_is_assembled(
    store: Path, sources: SourceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"

    def interrupted(*args: object, **options: object) -> None:
        assemble(*args, **options, progress=stop)  # type: ignore[arg-type]

    def stop(done: int, of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    assemble = pipeline.hats.assemble
    monkeypatch.setattr(pipeline.hats, "assemble", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_catalogue(store, output, "JPLUS", format="hats", errors=False, hats_rows=100)
    assert not (output / "properties").exists()
    monkeypatch.undo()
    report = run_catalogue(store, output, "JPLUS", format="hats", errors=False, hats_rows=100, resume=True)
    assert report.complete
    assert len(report.skipped) == len(SIZES)
    check_hats(output, sources)


def test_hats_without_positions_says_so(sources: SourceTable, tmp_path: Path) -> None:
    from astropy.coordinates import SkyCoord

    bare = dataclasses.replace(sources[:100], columns={})
    write_store_file(tmp_path / "XP_0.h5", bare)
    run_catalogue(tmp_path / "XP_0.h5", tmp_path / "out", "JPLUS", format="hats", errors=False)
    import pyarrow.parquet as pq

    found = pq.read_table(tmp_path / "out" / "dataset").to_pandas().set_index("source_id").loc[bare.source_id]
    assert found["position_from_source_id"].all()
    true = SkyCoord(sources.columns["ra"][:100], sources.columns["dec"][:100], unit="deg")
    assert true.separation(SkyCoord(found["ra"], found["dec"], unit="deg")).arcsec.max() < 60
    assert "xpjax_positions=center" in (tmp_path / "out" / "properties").read_text()


IMPOSSIBLE = [(-999.0, -999.0), (10.0, 91.0), (361.0, 0.0), (np.inf, 0.0), (0.0, np.nan), (-181.0, 0.0), (99.0, -99.0)]


def test_hats_has_no_impossible_positions(sources: SourceTable, tmp_path: Path) -> None:
    """Such rows lie where their source_id says, are flagged and counted; an ra below zero is one above."""
    import pyarrow.parquet as pq

    table = sources[np.arange(20, 40)]
    ra, dec = table.columns["ra"].copy(), table.columns["dec"].copy()
    ra[: len(IMPOSSIBLE)], dec[: len(IMPOSSIBLE)] = np.transpose(IMPOSSIBLE)
    ra[-1] -= 360 * (ra[-1] > 180)
    bad = dataclasses.replace(table, columns={"ra": ra, "dec": dec})
    write_store_file(tmp_path / "XP_0.h5", bad)
    report = run_catalogue(tmp_path / "XP_0.h5", tmp_path / "out", "JPLUS", format="hats", errors=False)
    assert report.unplaced == len(IMPOSSIBLE)
    found = pq.read_table(tmp_path / "out" / "dataset").to_pandas().set_index("source_id").loc[bad.source_id]
    assert found["position_from_source_id"].tolist() == [True] * len(IMPOSSIBLE) + [False] * (20 - len(IMPOSSIBLE))
    offset = np.hypot(
        (found["ra"] - table.columns["ra"]) * np.cos(np.radians(found["dec"])), found["dec"] - table.columns["dec"]
    )
    assert offset.max() * 3600 < 60
    assert f"of {len(IMPOSSIBLE)} rows without these the center" in (tmp_path / "out" / "properties").read_text()


def check_hats(output: Path, sources: SourceTable) -> None:
    """What the packages of others say of the catalogue."""
    validation = pytest.importorskip("hats.io.validation")
    assert validation.is_valid_catalog(output, strict=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_hats_and_lsdb_read_the_catalogue(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    from astropy.coordinates import SkyCoord

    lsdb = pytest.importorskip("lsdb")
    output = tmp_path / "out"
    run_catalogue(store, output, "JPLUS", format="hats", errors=False, hats_rows=60)
    check_hats(output, sources)
    opened = lsdb.open_catalog(output)
    assert len(opened) == len(sources)
    assert len(opened.get_healpix_pixels()) > 12
    place = SkyCoord(sources.columns["ra"], sources.columns["dec"], unit="deg")
    cone = opened.cone_search(float(place[0].ra.deg), float(place[0].dec.deg), 20 * 3600).compute()
    inside = place.separation(place[0]).deg <= 20
    assert inside.sum() > 3
    assert sorted(cone["source_id"]) == sorted(sources.source_id[inside])
    matched = opened.crossmatch(opened, radius_arcsec=1, suffixes=("_a", "_b")).compute()
    assert len(matched) == len(sources)
    assert (matched["source_id_a"] == matched["source_id_b"]).all()
