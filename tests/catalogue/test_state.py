"""The state of runs: finished units, other options, locks, shards."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.catalogue.helpers import check, expected, write_store
from xpjax.catalogue import locks
from xpjax.catalogue.locks import Busy, NoLocks, flock
from xpjax.catalogue.run import run_catalogue
from xpjax.catalogue.state import read_status
from xpjax.core.errors import XpjaxError
from xpjax.xp import write_store_file
from xpjax.xp.sources import SourceTable


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

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    output = tmp_path / "out"
    with pytest.raises(NoLocks, match=r"out.*the file system has no locks; set HDF5_USE_FILE_LOCKING=FALSE"):
        run_catalogue(store, output, "JPLUS", errors=False)
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    assert run_catalogue(store, output, "JPLUS", errors=False).complete
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING")
    assert read_status(output).complete


@pytest.mark.parametrize("text", ["{", "[1]", '{"units": []}'])
def test_a_record_that_is_none_is_named(text: str, store: Path, tmp_path: Path) -> None:
    (tmp_path / "_xpjax").mkdir()
    (tmp_path / "_xpjax" / "job.json").write_text(text)
    with pytest.raises(XpjaxError, match=r"job\.json: no record of a catalogue run.*remove the file"):
        read_status(tmp_path)
    with pytest.raises(XpjaxError, match=r"job\.json: no record of a catalogue run"):
        run_catalogue(store, tmp_path, "JPLUS", resume=True)


def test_shards_make_one_catalogue(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = run_catalogue(store, output, "JPLUS", errors=False, shard=(1, 2))
    assert not first.complete
    assert len(read_status(output).left) == 2
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
    with flock(output / "_xpjax" / "lock-1-of-2"):
        assert read_status(output).running == ("1/2",)
        for shard in ((1, 2), (1, 1), (2, 3)):  # itself, and shards that would share units with it
            with pytest.raises(Busy, match=rf"another run is at work.*process {os.getpid()}"):
                run_catalogue(store, output, "JPLUS", errors=False, shard=shard, resume=True)
        assert run_catalogue(store, output, "JPLUS", errors=False, shard=(2, 2)).complete


def test_a_store_that_changed_is_refused(sources: SourceTable, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = write_store(sources, tmp_path / "store")
    run_catalogue(store, tmp_path / "out", "JPLUS", errors=False)
    write_store_file(store / "XP_2.h5", sources[:30], overwrite=True)
    with pytest.raises(ValueError, match=r"XP_2.h5 has changed"):
        run_catalogue(store, tmp_path / "out", "JPLUS", errors=False, resume=True)
