"""Files are written whole or not at all, and outputs that cannot be written are refused before anything is computed."""

import errno
import os
import sys
import time
from pathlib import Path

import pytest

from xpjax.core.errors import command_line
from xpjax.io import atomic


def test_bytes_are_written_whole_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "figure.png"
    atomic.write_bytes(path, b"old")
    assert path.read_bytes() == b"old"

    def full(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"figure.png: .*; your quota is used up"):
        atomic.write_bytes(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_only_a_full_disk_is_called_full() -> None:
    with pytest.raises(OSError, match=r"^cannot write /proc/o.bin: [A-Za-z ]+$"):
        atomic.check_output("/proc/o.bin")


def test_outputs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").touch()
    (tmp_path / "folder").mkdir()
    atomic.check_output(tmp_path / "b.bin", tmp_path / "c.bin")
    atomic.check_output(tmp_path / "a.bin", overwrite=True)
    with pytest.raises(FileExistsError, match=r"a\.bin exists; name another one, or overwrite it with overwrite=True"):
        atomic.check_output(tmp_path / "b.bin", tmp_path / "a.bin")
    with pytest.raises(FileExistsError, match="--overwrite"), command_line():
        atomic.check_output(tmp_path / "a.bin")
    with pytest.raises(IsADirectoryError, match="is a directory; name a file in it"):
        atomic.check_output(tmp_path / "folder")
    with pytest.raises(NotADirectoryError, match="is no directory"):
        atomic.check_output(tmp_path / "a.bin" / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "folder"]


def test_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").touch()
    (tmp_path / "folder").mkdir()
    atomic.check_folder(tmp_path / "new")
    atomic.check_folder(tmp_path / "folder", overwrite=True)
    for name, kind in (("folder", FileExistsError), ("a.bin", NotADirectoryError), ("x/y", FileNotFoundError)):
        with pytest.raises(kind):
            atomic.check_folder(tmp_path / name)
    atomic.check_products(tmp_path, "b.bin", "c.bin")
    atomic.check_products(tmp_path, "a.bin", overwrite=True)
    with pytest.raises(FileExistsError, match=r"a\.bin exists; name another directory, or add overwrite=True"):
        atomic.check_products(tmp_path, "b.bin", "a.bin")


def test_abandoned_files_are_removed(tmp_path: Path) -> None:
    dead, alive, fresh = 2**22 + 1, os.getpid(), 2**22 + 2  # beyond the numbers that Linux gives
    for process in (dead, alive, fresh):
        (tmp_path / f".a.{process}.tmp").touch()
    old = time.time() - 2 * atomic.ABANDONED
    for process in (dead, alive):
        os.utime(tmp_path / f".a.{process}.tmp", (old, old))
    (tmp_path / ".other.tmp").touch()
    atomic.remove_abandoned(tmp_path)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {f".a.{alive}.tmp", f".a.{fresh}.tmp", ".other.tmp"}
