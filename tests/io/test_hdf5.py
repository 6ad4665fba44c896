"""HDF5 files are read without a lock, one that is being written is called so, and model files are read back."""

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
from xpjax.io.hdf5 import check_model_output, model_kind, open_hdf5, read_model, write_model
from xpjax.xp import is_store, open_store, simulate, write_store_file
from xpjax.xp.correction import is_linear

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


ARRAYS = {
    "flux": np.arange(6.0).reshape(2, 3),
    "nodes/teff": np.array([4000, 5000]),
    "nodes/name": np.array(["a", "é", ""]),
    "scale": np.float64(0.1),
    "filled": None,
}
ATTRIBUTES = {"names": ["teff", "logg"], "meta": '{"a": 1}', "n": 3, "truncate": True, "range": [0.5, 1.5]}


def written(path: Path, **options: object) -> Path:
    write_model(path, "a kind", 2, ARRAYS, ATTRIBUTES, notes={"nodes/teff": {"unit": "K"}}, **options)  # type: ignore[arg-type]
    return path


def test_a_model_file_is_read_back(tmp_path: Path) -> None:
    path = written(tmp_path / "m.h5", packed=("flux",))
    arrays, attributes = read_model(path, "a kind", 2, "file of a kind")
    assert set(arrays) == {"flux", "nodes/teff", "nodes/name", "scale"}
    assert np.array_equal(arrays["flux"], ARRAYS["flux"])
    assert arrays["scale"] == 0.1
    assert list(arrays.group("nodes")) == ["name", "teff"]
    assert arrays.group("nodes")["name"].tolist() == ["a", "é", ""]
    assert not arrays.group("filled")
    assert attributes == {"format": "a kind", "format_version": 2, **ATTRIBUTES}
    assert {type(value) for value in attributes.values()} == {str, int, bool, list}
    with h5py.File(path) as file:
        assert file["nodes/teff"].attrs["unit"] == "K"
        assert file["flux"].compression == "gzip"
    assert model_kind(path) == "a kind"


def test_the_same_model_is_the_same_bytes(tmp_path: Path) -> None:
    assert written(tmp_path / "a.h5").read_bytes() == written(tmp_path / "b.h5").read_bytes()


def test_another_file_is_refused(tmp_path: Path, path: Path) -> None:
    model = written(tmp_path / "m.h5")
    with pytest.raises(XpjaxError, match=r"a\.h5 is no grid \(no attribute format = a kind\); make one$"):
        read_model(path, "a kind", 2, "grid", "make one")
    with pytest.raises(XpjaxError, match="format version 2, this xpjax knows 1: update xpjax"):
        read_model(model, "a kind", 1, "grid")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(XpjaxError, match=r"text\.h5 is no grid"):
        read_model(tmp_path / "text.h5", "a kind", 2, "grid")
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "none.h5", "a kind", 2, "grid")
    arrays, attributes = read_model(model, "a kind", 2, "grid")
    for part in (arrays, arrays.group("nodes"), attributes):
        with pytest.raises(XpjaxError, match=r"m\.h5 is no grid \(it has no center\)"):
            part["center"]
    assert [model_kind(tmp_path / name) for name in ("text.h5", "none.h5", "a.h5")] == ["", "", ""]


def test_a_model_file_is_written_whole_and_not_over_another(tmp_path: Path) -> None:
    path = written(tmp_path / "m.h5")
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="exists; name another one, or overwrite it with overwrite=True"):
        written(path)
    with pytest.raises(TypeError):
        write_model(path, "a kind", 2, {"x": object()}, {}, overwrite=True)
    assert path.read_bytes() == before
    written(path, overwrite=True)
    with pytest.raises(XpjaxError, match=r"m\.txt: a grid is an HDF5 file, \.h5"):
        check_model_output(tmp_path / "m.txt", "a grid")
    with pytest.raises(FileExistsError):
        check_model_output(path, "a grid")
