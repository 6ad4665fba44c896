"""Estimates of runs, beside what the runs then take."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.catalogue.helpers import SIZES, check, expected, write_store
from tests.marks import slow_after
from tests.stellar.test_fitter import made_sources, xp_grid
from xpjax.catalogue import estimate as module, estimate_catalogue, read_status
from xpjax.catalogue.run import run_catalogue
from xpjax.core.errors import XpjaxError
from xpjax.stellar import LabelFitter, interpolate_grid
from xpjax.xp import open_store, simulate, write_store_file
from xpjax.xp.sources import SourceTable


def parts_of(output: Path) -> int:
    """Bytes of the catalogue itself."""
    return sum(path.stat().st_size for path in output.rglob("*") if path.suffix in (".parquet", ".fits", ".h5"))


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the disk have so many bytes free."""

    def left(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))

    return left


@pytest.mark.parametrize("format", slow_after(1, ["hats", "parquet", "fits", "hdf5"]))
def test_bytes_are_those_of_the_run(format: str, store: Path, tmp_path: Path) -> None:
    found = estimate_catalogue(store, tmp_path / "out", "JPLUS", format=format, keep=["bp_rp"])
    assert (found.units, found.sources, found.sampled) == (len(SIZES), sum(SIZES), sum(SIZES))
    assert not [*tmp_path.iterdir()]
    run_catalogue(store, tmp_path / "out", "JPLUS", format=format, keep=["bp_rp"])
    # A sample of the whole store has the parts of the run; HATS properties and metadata are beside them.
    assert found.bytes_written == pytest.approx(parts_of(tmp_path / "out"), rel=0.01)
    assert found.bytes_needed >= found.bytes_written
    assert (found.bytes_needed > 1.5 * found.bytes_written) == (format == "hats")
    assert found.fits


def test_a_part_of_the_store_tells_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = simulate.simulate_sources(9000, seed=1, correlations=False)
    (tmp_path / "store").mkdir()
    for k in range(6):
        write_store_file(tmp_path / "store" / f"XP_{k}.h5", table, correlations="none")
    monkeypatch.setattr(module, "SAMPLE_BYTES", 3 * 4096 * 472)
    options: dict[str, Any] = {"errors": False, "where": "bp_rp > 1"}
    found = estimate_catalogue(tmp_path / "store", tmp_path / "out", "JPLUS", **options)
    assert found.sources == 54_000
    assert 4096 <= found.sampled < 20_000
    report = run_catalogue(tmp_path / "store", tmp_path / "out", "JPLUS", **options)
    assert 0 < report.rows < report.sources
    assert found.bytes_written == pytest.approx(parts_of(tmp_path / "out"), rel=0.1)


def test_what_is_finished_is_not_estimated(store: Path, tmp_path: Path) -> None:
    first = run_catalogue(store, tmp_path / "out", "JPLUS", errors=False, shard=(1, 2))
    found = estimate_catalogue(store, tmp_path / "out", "JPLUS", errors=False)
    assert (found.units, found.sources) == (2, sum(SIZES) - first.sources)
    assert estimate_catalogue(store, tmp_path / "out", "JPLUS", errors=False, shard=(1, 2)).sources == 0
    run_catalogue(store, tmp_path / "out", "JPLUS", errors=False, shard=(2, 2))
    found = estimate_catalogue(store, tmp_path / "out", "JPLUS", errors=False)
    assert (found.units, found.sources, found.bytes_needed, found.fits) == (0, 0, 0, True)


def test_time_is_that_of_the_pace(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that needs 3 s to compile, 1 s to fill its stages, and then 5 ms a source from the disk, 2 ms else."""
    now, compiled, cold = 0.0, False, False

    def forget(units: object) -> None:
        nonlocal cold
        cold = True

    def process(job: Any, units: Sequence[Any], devices: Any, progress: Callable[[int], object]) -> Iterator[Any]:
        nonlocal now, compiled, cold
        now += 1.0 + 3.0 * (not compiled)
        compiled, done, pace = True, 0, 5e-3 if cold else 2e-3
        cold = False
        for unit in units:
            for start in range(0, len(unit), 50):
                n = min(50, len(unit) - start)
                done, now = done + n, now + n * pace
                progress(done)
            yield {"unit": unit.name, "sources": len(unit), "rows": len(unit), "output": {"size": 100 * len(unit)}}

    monkeypatch.setattr(module, "process", process)
    monkeypatch.setattr(module, "_forget", forget)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now, time=lambda: now))
    found = estimate_catalogue(store, tmp_path / "out", "JPLUS")
    assert found.seconds == pytest.approx(3 + 5e-3 * sum(SIZES), rel=1e-6)
    assert found.seconds_cached == pytest.approx(3 + 2e-3 * sum(SIZES), rel=1e-6)
    assert found.bytes_written == 100 * sum(SIZES)


@pytest.mark.slow
def test_label_fits_are_estimated_too(tmp_path: Path) -> None:
    write_store_file(tmp_path / "XP.h5", made_sources(24)[0])
    fitter = LabelFitter(interpolate_grid(xp_grid()), error_floor=0.01, correction=None)
    found = estimate_catalogue(tmp_path / "XP.h5", tmp_path / "out", fitter=fitter)
    run_catalogue(tmp_path / "XP.h5", tmp_path / "out", fitter=fitter)
    assert found.sampled == 24
    assert found.bytes_written == pytest.approx(parts_of(tmp_path / "out"), rel=0.01)


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_a_run_without_room_is_refused(
    store: Path, sources: SourceTable, tmp_path: Path, no_room: Callable[[int], None]
) -> None:
    output = tmp_path / "out"
    need = estimate_catalogue(store, output, "JPLUS", errors=False).bytes_needed
    no_room(need // 2)
    assert not estimate_catalogue(store, output, "JPLUS", errors=False).fits
    with pytest.raises(XpjaxError, match=r"the catalogue needs \d+ kB more, and its disk has \d+ kB free; name an"):
        run_catalogue(store, output, "JPLUS", errors=False)
    assert not output.exists()
    no_room(2 * need)
    run_catalogue(store, output, "JPLUS", errors=False)
    check(output, expected(sources, errors=False))
    no_room(0)  # nothing is left to be done
    assert run_catalogue(store, output, "JPLUS", errors=False, resume=True).complete


def test_a_sample_refuses_too_and_leaves_nothing(
    store: Path, tmp_path: Path, no_room: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONG_BYTES", 0)
    told: list[module.RunEstimate] = []
    output = tmp_path / "out"
    bare = run_catalogue(store, output, "JPLUS", errors=False, estimate=told.append).rows * 4 * 24
    shutil.rmtree(output)
    no_room(int(1.05 * told[0].bytes_needed))
    # What is known beforehand fits, and what the sample finds does not: parts of 20 rows are mostly their footer.
    assert bare < told[0].bytes_needed
    no_room((bare + 8 * sum(SIZES) + told[0].bytes_needed) // 2)
    with pytest.raises(XpjaxError, match="its disk has"):
        run_catalogue(store, output, "JPLUS", errors=False, estimate=told.append)
    assert told[-1].sampled == sum(SIZES)
    assert not output.exists()


def test_a_condition_is_not_refused(store: Path, tmp_path: Path, no_room: Callable[[int], None]) -> None:
    no_room(1)
    report = run_catalogue(store, tmp_path / "out", "JPLUS", errors=False, where="phot_g_mean_mag < 1")
    assert (report.rows, report.complete) == (0, True)


def test_a_folder_that_takes_no_sample_is_named(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="make it first"):
        estimate_catalogue(store, tmp_path / "no" / "out", "JPLUS")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(PermissionError) as found:
        estimate_catalogue(store, tmp_path / "out", "JPLUS")
    assert found.value.filename == str(tmp_path)


def test_damaged_files_are_left_out(sources: SourceTable, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = write_store(sources, tmp_path / "store")
    (store / "XP_1.h5").write_bytes(b"no HDF5")
    file = open_store(store / "XP_0.h5").files[0]
    whole = bytearray(file.path.read_bytes())
    whole[file._datasets["bp_coefficients"].offset + 1000] ^= 16
    file.path.write_bytes(whole)
    found = estimate_catalogue(store, tmp_path / "out", "JPLUS")
    assert found.sampled == sum(SIZES[2:])
    for k in range(2, len(SIZES)):
        (store / f"XP_{k}.h5").unlink()
    with pytest.raises(XpjaxError, match=r"no unit of a sample can be done, such as XP_0: .*bp_coefficients"):
        estimate_catalogue(store, tmp_path / "out", "JPLUS")
    assert not [path for path in tmp_path.iterdir() if path.name != "store"]


# --- of a run ---------------------------------------------------------------------------------------------------------


def test_a_run_tells_its_estimate_first(
    store: Path, sources: SourceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[module.RunEstimate] = []
    done: list[int] = []
    options: dict[str, Any] = {"errors": False, "progress": done.append, "estimate": lambda e: told.append(e) or done}
    run_catalogue(store, tmp_path / "short", "JPLUS", **options)
    assert (told[0].sources, told[0].sampled) == (sum(SIZES), 0)
    assert told[0].bytes_written == pytest.approx(parts_of(tmp_path / "short"), rel=0.6)  # footers of so small parts
    monkeypatch.setattr(module, "LONG_BYTES", 0)
    abandoned = tmp_path / "long" / "_xpjax" / ".long-sample-killed"
    (tmp_path / "long" / "_xpjax").mkdir(parents=True)
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    run_catalogue(store, tmp_path / "long", "JPLUS", resume=True, **options)
    assert (told[1].sources, told[1].sampled) == (sum(SIZES), sum(SIZES))
    assert told[1].seconds >= told[1].seconds_cached > 0
    assert "from the disk" in str(told[1])
    assert max(done) == sum(SIZES)  # a sample is no progress
    assert not [*(tmp_path / "long" / "_xpjax").glob(".*sample*")]
    check(tmp_path / "long", expected(sources, errors=False))


def test_status_tells_space_and_pace(store: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    run_catalogue(store, output, "JPLUS", errors=False)
    for k, when in enumerate((100, 110, 112, 120, 130)):
        os.utime(output / "_xpjax" / "units" / f"XP_{k}.json", (when, when))
    found = read_status(output)
    assert found.rate == pytest.approx(sum(SIZES[1:]) / 30)
    assert found.bytes == sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    (output / "_xpjax" / "units" / "XP_0.json").unlink()
    assert read_status(output).rate == pytest.approx(sum(SIZES[2:]) / 20)


def test_an_estimate_is_a_table(store: Path, tmp_path: Path) -> None:
    found = estimate_catalogue(store, tmp_path / "out", "JPLUS", errors=False)
    table = found.to_table()
    assert table["seconds"].unit.to_string() == "s"
    assert table["bytes_written"].unit.to_string() == "byte"
    assert table.meta["output"] == str(tmp_path / "out")
    np.testing.assert_array_equal(table["sources"], [sum(SIZES)])
    whole = dataclasses.replace(found, sources=220_000_000, units=3386, seconds=1500.0, bytes_needed=10**14)
    assert "220,000,000 sources in 3,386 units" in str(whole)
    assert "about 25 min from the disk" in str(whole)
    assert "the disk has no room for it" in str(whole)
