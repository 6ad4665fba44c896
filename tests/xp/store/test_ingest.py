"""Ingest: what is stored is what `xpjax.read` gives, whatever the cells; files that fail leave nothing."""

import gzip
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bulkfile
from tests.conftest import SHARED
from tests.marks import slow_after
from tests.xp.store.test_store import assert_same_covariance
from xpjax.core.release import DR3, Release
from xpjax.core.status import Status
from xpjax.io import catalogue
from xpjax.xp import StoreFile, open_store, simulate, write_store_file
from xpjax.xp.compact import COMPACT
from xpjax.xp.read import loaders, text as text_reader
from xpjax.xp.read.archive import read
from xpjax.xp.read.gaia_source import JOINED
from xpjax.xp.store import ingest as bulk
from xpjax.xp.store.format import CORRELATIONS

DEVIATIONS = [f"{xp}_standard_deviation" for xp in DR3.xp]
PARSERS = ["arrow", pytest.param("simdjson", marks=pytest.mark.skipif("not SIMDJSON", reason="no pysimdjson"))]
try:
    import simdjson as simdjson

    SIMDJSON = True
except ImportError:
    SIMDJSON = False


@pytest.fixture(scope="module")
def text() -> bytes:
    """A made bulk file of a dozen sources, one without BP."""
    return bulkfile.text(simulate.simulate_sources(12, seed=8), missing_bp=(4,))


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks in a small file."""
    monkeypatch.setattr(text_reader, "CHUNK", 100_000)


@pytest.fixture(params=PARSERS)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without simdjson."""
    if request.param == "arrow":
        monkeypatch.setitem(sys.modules, "simdjson", None)
    return request.param


def assert_as_read(path: Path, folder: Path, correlations: str = "float32") -> StoreFile:
    """The store file of a file holds what the archive reader gives."""
    report = bulk.ingest([path], folder, correlations=correlations)
    assert report.failures == {}
    (file,) = [file for file in open_store(folder).files if file.name == loaders.stem_of(path)]
    assert file.verify() == []
    found = file.read(columns=None)
    keep = [name for name in DEVIATIONS if name in loaders.load(path, DR3.xp)[0].columns]
    expected = read(path, dtype=np.float32, keep=keep, correlations=correlations if correlations == COMPACT else None)
    a, b = found.coefficients, expected.coefficients
    np.testing.assert_array_equal(found.source_id, expected.source_id)
    for name in ("value", "error", "n_relevant"):
        assert (getattr(a, name) is None) == (getattr(b, name) is None)
        if getattr(a, name) is not None:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    if correlations == "none":
        assert a.correlation is None
        gone = sum((Status.BP_NO_ERROR, Status.RP_NO_ERROR))
        np.testing.assert_array_equal(found.status & ~np.uint32(gone), expected.status & ~np.uint32(gone))
    else:
        np.testing.assert_array_equal(found.status, expected.status)
        assert (a.covariance is None) == (b.covariance is None)
        if b.covariance is not None:
            assert_same_covariance(a.covariance, b.covariance)
        if b.correlation is not None:
            tolerance = 1.6e-5 if correlations == "int16" else 0
            np.testing.assert_allclose(a.correlation, b.correlation, rtol=0, atol=tolerance)
    for name in keep:
        np.testing.assert_array_equal(found.columns[name], expected.columns[name].astype(np.float32))
    assert report.done[0].sources == len(expected)
    return file


@pytest.mark.parametrize("correlations", slow_after(1, CORRELATIONS))
@pytest.mark.parametrize("path", sorted((SHARED / "xp/formats").glob("*")) or [None], ids=lambda p: p and p.name)
def test_real_files(tmp_path: Path, path: Path | None, correlations: str) -> None:
    if path is None:
        pytest.skip("real data xp/formats not present beside this checkout")
    file = assert_as_read(path, tmp_path, correlations)
    if "missing_BP" in path.name:
        found = open_store(tmp_path).select([5405570973190252288])
        assert Status.BP_MISSING & int(found.status[0])
        assert np.isnan(found.coefficients.value[0, DR3.slices[0]]).all()
        assert np.isfinite(found.coefficients.value[0, DR3.slices[1]]).all()
        assert len(file)


@pytest.mark.parametrize("correlations", CORRELATIONS)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".ecsv"])
def test_made_bulk_files(
    tmp_path: Path, text: bytes, parser: str, correlations: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bulkfile.write(tmp_path / f"XpContinuousMeanSpectrum_000000-003111{suffix}", text)
    whole = bulk._tables
    monkeypatch.setattr(bulk, "_tables", None)  # block by block alone
    file = assert_as_read(path, tmp_path / "store", correlations)
    monkeypatch.setattr(bulk, "_tables", whole)
    assert file.name == "XpContinuousMeanSpectrum_000000-003111"
    assert file.attrs["source"] == path.name
    assert file.attrs["source_bytes"] == path.stat().st_size
    assert len(file) == 12


def edit(text: bytes, row: int, column: str, new: object) -> bytes:
    """The text with another cell; `new` may be made from the old one."""
    lines = text.split(b"\n")
    start = len(bulkfile.header().splitlines())
    pieces = lines[start + row].split(b'"')
    names = [*bulkfile.KINDS]
    arrays = [name for name in names if name.rpartition("_")[2] in ("coefficients", "errors", "correlations")]
    if column in arrays:
        k = 2 * arrays.index(column) + 1
        pieces[k] = new(pieces[k]) if callable(new) else new
        lines[start + row] = b'"'.join(pieces)
    else:
        outside = b"".join(pieces[::2]).split(b",")
        outside[names.index(column)] = new
        cells = [b'"%b"' % pieces[2 * arrays.index(n) + 1] if n in arrays else outside[i] for i, n in enumerate(names)]
        lines[start + row] = b",".join(cells)
    return b"\n".join(lines)


def first(new: bytes):
    """Another first number."""
    return lambda cell: b"[" + new + cell[cell.index(b",") :]


ODD = {
    "null in": ("bp_coefficients", first(b"null")),
    "nan in": ("rp_coefficients", first(b"nan")),
    "text in": ("bp_coefficients", first(b"abc")),
    "infinite": ("bp_coefficients", first(b"inf")),
    "beyond float32": ("bp_coefficients", first(b"1e39")),
    "beyond float64": ("bp_coefficients", first(b"1e400")),
    "underscore": ("bp_coefficients", first(b"1_0")),
    "plus": ("bp_coefficients", first(b"+1.5")),
    "space": ("bp_coefficients", first(b" 1.5 ")),
    "two numbers": ("bp_coefficients", first(b"1 2")),
    "integer": ("bp_coefficients", first(b"12")),
    "one less": ("bp_coefficients", lambda cell: b"[" + cell[cell.index(b",") + 1 :]),
    "one more": ("rp_coefficients", first(b"1,2")),
    "nested": ("rp_coefficients", lambda cell: b"[" + cell + b"]"),
    "parentheses": ("rp_coefficients", lambda cell: b"(" + cell[1:-1].replace(b",", b", ") + b")"),
    "open": ("rp_coefficients", lambda cell: cell[:-1]),
    "empty array": ("bp_coefficients", b"[]"),
    "empty quotes": ("bp_coefficients", b""),
    "negative error": ("bp_coefficient_errors", first(b"-1")),
    "no error": ("rp_coefficient_errors", first(b"nan")),
    "short errors": ("rp_coefficient_errors", lambda cell: b"[" + cell[cell.index(b",") + 1 :]),
    "correlation above one": ("bp_coefficient_correlations", first(b"1.5")),
    "correlation one and a rounding": ("bp_coefficient_correlations", first(b"1.0000001")),
    "correlation nan": ("rp_coefficient_correlations", first(b"nan")),
    "no correlations": ("rp_coefficient_correlations", b"null"),
    "id missing": ("source_id", b"null"),
    "id odd": ("source_id", b"12x"),
    "id negative": ("source_id", b"-5"),
    "id too long": ("source_id", b"99999999999999999999"),
    "id spaced": ("source_id", b" 17 "),
    "deviation missing": ("bp_standard_deviation", b""),
    "deviation odd": ("rp_standard_deviation", b"?"),
    "relevant zero": ("bp_n_relevant_bases", b"0"),
    "relevant too many": ("rp_n_relevant_bases", b"999"),
    "relevant odd": ("rp_n_relevant_bases", b"x"),
    "relevant as float": ("rp_n_relevant_bases", b"12.0"),
    "scalar quoted": ("bp_chi_squared", b'"1.5"'),
}


@pytest.mark.parametrize("case", slow_after(12, ODD))
def test_odd_cells(tmp_path: Path, text: bytes, parser: str, case: str) -> None:
    """One odd cell costs its row what the archive reader says, and no other row anything."""
    path = bulkfile.write(tmp_path / "odd.csv", edit(text, 7, *ODD[case]))
    assert_as_read(path, tmp_path / "store")
    assert_as_read(path, tmp_path / "bare", "none")


def test_many_odd_rows_and_odd_lines(tmp_path: Path, text: bytes, parser: str) -> None:
    odd = text
    for row in range(0, 12, 2):
        odd = edit(odd, row, *ODD["null in"])
    assert_as_read(bulkfile.write(tmp_path / "half.csv", odd), tmp_path / "store")
    start = len(bulkfile.header())
    rows = text[start:].split(b"\n")
    for name, new in {
        "comments": b"\n".join([rows[0], b"# remark", b"", *rows[1:]]),
        "windows": b"\r\n".join(rows),
        "no_end": b"\n".join(rows).rstrip(b"\n"),
        "twice": b"\n".join([*rows[:3], *rows]),
        "broken_cell": b"\n".join([rows[0], rows[1].replace(b"]", b"\n]", 1), *rows[2:]]),
    }.items():
        assert_as_read(bulkfile.write(tmp_path / f"{name}.csv", text[:start] + new), tmp_path / "store")
    found = open_store(tmp_path / "store" / "twice.h5").read()
    assert ((found.status & Status.DUPLICATE) != 0).sum() == 3


def test_columns_in_another_order(tmp_path: Path, parser: str) -> None:
    made = simulate.simulate_sources(9, seed=2).catalogue()
    columns = dict(reversed(made.columns.items()))
    catalogue.write(tmp_path / "turned.csv", type(made)(columns))
    file = assert_as_read(tmp_path / "turned.csv", tmp_path / "store")
    np.testing.assert_array_equal(file.read(columns=["ra"]).columns["ra"], made.columns["ra"])
    columns = {name: column for name, column in columns.items() if not name.endswith("errors")}
    catalogue.write(tmp_path / "without.csv", type(made)(columns))
    assert_as_read(tmp_path / "without.csv", tmp_path / "store")


def test_another_release(tmp_path: Path, parser: str) -> None:
    other = Release("Gaia DR4", (51, 55))
    text = bulkfile.text(simulate.simulate_sources(9, seed=2, release=other), missing_bp=(3,))
    file = assert_as_read(bulkfile.write(tmp_path / "other.csv.gz", text), tmp_path / "store")
    assert file.release == other


def test_only_odd_rows_and_no_rows(tmp_path: Path, text: bytes) -> None:
    every = bulkfile.text(simulate.simulate_sources(3, seed=8), missing_bp=(0, 1, 2))
    assert_as_read(bulkfile.write(tmp_path / "every.csv", every), tmp_path / "store")
    path = bulkfile.write(tmp_path / "none.csv.gz", bulkfile.header().encode())
    assert bulk.ingest([path], tmp_path / "store").sources == 0
    assert len(open_store(tmp_path / "store" / "none.h5")) == 0


def test_files_that_fail_are_named_and_the_others_done(tmp_path: Path, text: bytes) -> None:
    good = bulkfile.write(tmp_path / "good.csv.gz", text)
    whole = good.read_bytes()
    bad = {
        "truncated.csv.gz": whole[: len(whole) // 2],
        "flipped.csv.gz": whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:],
        "empty.csv.gz": b"",
        "text.csv.gz": b"hello",
        "columns.csv": b"a,b\n1,2\n",
        "short.csv": text[: len(text) - 30_000],
        "junk.fits": b"SIMPLE = nothing",
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    told = []
    files = [*(tmp_path / name for name in bad), good]
    report = bulk.ingest(files, tmp_path / "store", progress=told.append)
    assert list(report.failures) == list(bad)
    for name, reason in report.failures.items():
        assert str(tmp_path / name) in reason
        assert "download it again" in reason or "expected" in reason
    assert "truncated" in report.failures["truncated.csv.gz"]
    assert [file.name for file in report.done] == ["good.csv.gz"]
    assert len(told) == len(files)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["good.h5"]


def test_wrong_calls(tmp_path: Path, text: bytes) -> None:
    path = bulkfile.write(tmp_path / "a.csv", text)
    for call, message in (
        (lambda: bulk.ingest([], tmp_path / "s"), "no files"),
        (lambda: bulk.ingest([path], tmp_path / "s", correlations="float64"), "must be one of"),
        (lambda: bulk.ingest([path], tmp_path / "s", processes=0), "must be positive"),
        (lambda: bulk.ingest([path, bulkfile.write(tmp_path / "a.ecsv", text)], tmp_path / "s"), "rename one"),
        (lambda: bulk.ingest([bulkfile.write(tmp_path / "a.txt", text)], tmp_path / "s"), "unknown suffix"),
        (lambda: bulk.ingest([path], tmp_path / "s", gaia_source=[path]), "none of the columns ra"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(FileNotFoundError, match="nothing"):
        bulk.ingest([tmp_path / "nothing.csv"], tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_resume_and_overwrite(tmp_path: Path, text: bytes) -> None:
    files = [bulkfile.write(tmp_path / f"{k}.csv", text) for k in range(3)]
    folder = tmp_path / "store"
    bulk.ingest(files[:2], folder)
    before = (folder / "0.h5").stat().st_mtime_ns
    with pytest.raises(FileExistsError, match=r"2 of 3 store files exist, such as .*0\.h5; resume=True"):
        bulk.ingest(files, folder)
    with (folder / "1.h5").open("rb+") as stream:
        stream.truncate(5000)
    report = bulk.ingest(files, folder, resume=True)
    assert report.skipped == ("0.csv",)
    assert [file.name for file in report.done] == ["1.csv", "2.csv"]
    assert (folder / "0.h5").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="'none', not 'int16'"):
        bulk.ingest(files, folder, correlations="int16", resume=True)
    assert len(bulk.ingest(files, folder, overwrite=True).done) == 3
    assert open_store(folder).verify() == []


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".ecsv", ".fits", ".parquet"])
def test_gaia_source_is_joined(tmp_path: Path, text: bytes, suffix: str) -> None:
    path = bulkfile.write(tmp_path / "a.csv", text)
    table = read(path)
    rng = np.random.default_rng(0)
    ids = np.concatenate([rng.permutation(table.source_id)[:9], [5, 6]])
    columns = {
        "SOURCE_ID": ids,
        "ra": rng.uniform(0, 360, len(ids)),
        "dec": rng.uniform(-90, 90, len(ids)),
        "phot_g_mean_mag": rng.uniform(5, 15, len(ids)).astype(np.float32),
        "phot_bp_mean_mag": rng.uniform(5, 15, len(ids)).astype(np.float32),
        "phot_rp_mean_mag": rng.uniform(5, 15, len(ids)).astype(np.float32),
        "parallax": rng.uniform(0, 1, len(ids)),
        "ebv": rng.uniform(0, 1, len(ids)),
        "ebv_error": rng.uniform(0, 0.1, len(ids)),
    }
    catalogue.write(tmp_path / f"gaia{suffix}", type(table.catalogue())(columns))
    other = tmp_path / "GaiaSource_786000-786431.csv"
    other.write_text("source_id,ra\n1,2\n")
    report = bulk.ingest([path], tmp_path / "store", gaia_source=[tmp_path / f"gaia{suffix}", other])
    assert report.done[0].joined == 9
    (file,) = open_store(tmp_path / "store").files
    assert file.attrs["gaia_source_joined"] == 9
    assert file.units["ra"] == "deg"
    found = file.read(columns=None).columns
    assert list(found) == [*DEVIATIONS, *JOINED]
    columns["bp_rp"] = columns["phot_bp_mean_mag"] - columns["phot_rp_mean_mag"]
    for name, kind in JOINED.items():
        expected = np.full(len(table), np.nan, kind)
        for i, source in enumerate(table.source_id):
            if source in ids:
                expected[i] = columns[name][list(ids).index(source)]
        # A difference of float32 differs from that of the text.
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=2e-6 if name == "bp_rp" else 0)


@pytest.mark.slow
def test_two_processes(tmp_path: Path, text: bytes) -> None:
    files = [bulkfile.write(tmp_path / f"{k}.csv.gz", text) for k in range(3)]
    (tmp_path / "bad.csv.gz").write_bytes(files[0].read_bytes()[:1000])
    report = bulk.ingest([tmp_path / "bad.csv.gz", *files], tmp_path / "store", processes=2, correlations="float32")
    assert [file.name for file in report.done] == ["0.csv.gz", "1.csv.gz", "2.csv.gz"]
    assert list(report.failures) == ["bad.csv.gz"]
    found = open_store(tmp_path / "store")
    assert found.verify() == []
    assert len(found) == 36


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_killed_process_fails_its_file_alone(tmp_path: Path, text: bytes) -> None:
    """Both workers are killed when the first file is done: what they have in hand fails, the rest is done."""
    long = bulkfile.copies(text, 40)
    files = [bulkfile.write(tmp_path / f"{k}.csv", long) for k in range(5)]
    tasks = [bulk._Task(path, tmp_path / f"{path.stem}.h5", "float32", (), (), False) for path in files]
    results: dict[str, object] = {}
    for task, result in bulk._run(tasks, 2):
        if not results:
            for process in multiprocessing.active_children():
                process.kill()
        results[task.output.name] = result
    failed = {name: reason for name, reason in results.items() if isinstance(reason, str)}
    assert len(results) == 5
    assert 1 <= len(failed) <= 2
    assert all("ended with exit code -9" in reason for reason in failed.values())
    # A worker may be killed between naming its file and telling so: such a file must be whole.
    present = {path.name for path in tmp_path.glob("*.h5")}
    assert {*results} - {*failed} <= present <= {*results}
    whole = results[next(name for name in results if name not in failed)]
    assert isinstance(whole, bulk.Ingested)
    assert {len(file) for file in open_store(tmp_path).files} == {whole.sources}
    assert open_store(tmp_path).verify() == []


@pytest.mark.slow
def test_workers_start_no_backend(tmp_path: Path, text: bytes) -> None:
    path = bulkfile.write(tmp_path / "a.csv.gz", text)
    code = (
        f"import xpjax; print(xpjax.ingest([{str(path)!r}], {str(tmp_path / 's')!r}).sources);"
        "from jax._src import xla_bridge; assert not xla_bridge._backends"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "12\n"


@pytest.mark.parametrize("source", ["real", "made"])
def test_fixed_point_correlations_keep_magnitude_errors(tmp_path: Path, source: str, shared) -> None:
    """To 1e-3 relative in all twelve J-PLUS bands."""
    import xpjax

    table = read(shared("xp/xp_bright_corr_20.parquet"), dtype=np.float32) if source == "real" else None
    table = simulate.simulate_sources(1000, seed=6) if table is None else table
    write_store_file(tmp_path / "i.h5", catalogue_free(table), correlations="int16")
    system = xpjax.load_system("JPLUS")
    exact = xpjax.photometry(table, system, float64=True).magnitude_error
    found = xpjax.photometry(open_store(tmp_path).read(), system, float64=True).magnitude_error
    np.testing.assert_array_equal(np.isnan(found), np.isnan(exact))
    assert np.nanmax(np.abs(found / exact - 1)) < 2e-4


def catalogue_free(table):
    """The table without its columns."""
    import dataclasses

    return dataclasses.replace(table, columns={})


def test_made_files_are_as_wide_as_the_archives(text: bytes) -> None:
    rows = text[len(bulkfile.header()) :].splitlines()
    assert 35_000 < len(rows[0]) < 45_000
    assert len(bulkfile.KINDS) == 26
    assert gzip.decompress(gzip.compress(text)) == bulkfile.copies(text, 1)


def test_what_a_killed_run_left_is_removed(tmp_path: Path, text: bytes) -> None:
    """Of a process that is gone, and only when it has stood still: another machine may be writing it."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    names = {f".a.h5.{done.pid}.tmp": 3600, f".b.h5.{done.pid}.tmp": 0, f".c.h5.{os.getpid()}.tmp": 3600, "d.tmp": 3600}
    for name, age in names.items():
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    path = bulkfile.write(tmp_path / "x.csv.gz", bulkfile.copies(text, 1))
    bulk.ingest([path], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*list(names)[1:], "x.csv.gz", "x.h5"}
