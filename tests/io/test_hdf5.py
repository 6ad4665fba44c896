"""HDF5 files are read without a lock, and one that is being written is called so."""

import errno
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

import xpjax
from xpjax.core.errors import XpjaxError
from xpjax.io.hdf5 import open_hdf5
from xpjax.xp import simulate
from xpjax.xp.correction import is_linear
from xpjax.xp.store.store import is_store, open_store, write_store_file

fcntl = pytest.importorskip("fcntl")
WRITER = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(3)
    return tmp_path / "a.h5"


@contextmanager
def writer(path: Path) -> Iterator[None]:
    """Another process that has the file open for writing."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield
        process.communicate("")


def test_a_file_that_is_read_can_be_written_by_others(path: Path) -> None:
    with open_hdf5(path) as file, writer(path):
        assert file["x"][2] == 2


def test_a_file_that_another_process_writes_is_named(path: Path) -> None:
    with writer(path), pytest.raises(XpjaxError, match=r"a\.h5: another process has the file open for writing; wait"):
        open_hdf5(path)
    with open_hdf5(path) as file:
        assert file["x"][2] == 2


def test_a_store_file_that_another_process_writes_is_not_called_damaged(tmp_path: Path) -> None:
    write_store_file(tmp_path / "s.h5", simulate.simulate_sources(3, seed=1, correlations=False))
    with writer(tmp_path / "s.h5"):
        for read in (open_store, is_store, is_linear, xpjax.read):
            with pytest.raises(XpjaxError, match="another process has the file open for writing"):
                read(tmp_path / "s.h5")  # type: ignore[operator]
    assert len(open_store(tmp_path / "s.h5")) == 3


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_reading_needs_no_locks(path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with open_hdf5(path) as file:
        assert file["x"][2] == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"b\.h5: no such file"):
        open_hdf5(tmp_path / "b.h5")
