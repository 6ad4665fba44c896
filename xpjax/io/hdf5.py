"""HDF5: files opened without a lock, and the one layout of model files (corrections, networks, grids, solutions).

A model file has attributes `format` (its kind) and `format_version`, further attributes, and arrays in groups as their
names say (`domain/center`). To write and read one:

    write_model(path, FORMAT, VERSION, {"flux": flux, "nodes/teff": teff}, {"names": names, "meta": json.dumps(meta)},
                notes={"nodes/teff": {"unit": "K"}}, overwrite=overwrite)
    arrays, attributes = read_model(path, FORMAT, VERSION, "grid of model spectra")
    flux, meta = arrays["flux"], json.loads(attributes["meta"])

What is read is plain: arrays are NumPy's (text as `str`), attributes Python's. A name that the file lacks raises the
error of a file of another kind; `name in arrays` and `arrays.get(name)` are for what may be absent, and
`arrays.group("domain")` has the arrays of a group by their own names.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io import atomic

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What a system answers that cannot lock a file."""


def locks_wanted() -> bool:
    """Whether the user has not switched locks off, by HDF5's own variable HDF5_USE_FILE_LOCKING."""
    return os.environ.get("HDF5_USE_FILE_LOCKING", "TRUE").upper() not in ("FALSE", "0")


def open_hdf5(path: str | os.PathLike[str]) -> Any:
    """An `h5py.File` for reading; close it, or use it in `with`.

    It holds no lock. Raises FileNotFoundError, OSError for what is no HDF5 file, and XpjaxError where another process
    has the file open for writing: what is read then may be half old and half new.
    """
    import h5py

    if _is_written(path):
        raise XpjaxError(f"{path}: another process has the file open for writing; wait until it has closed it")
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "already open for write" in str(error):
            raise XpjaxError(
                f"{path}: another process has the file open for writing, or was stopped while it wrote: wait until it "
                "ends, or make the file again"
            ) from error
        if error.errno == errno.ENOENT or not Path(path).exists():
            raise FileNotFoundError(f"{path}: no such file") from error
        raise


def _is_written(path: str | os.PathLike[str]) -> bool:
    """Whether another process holds the lock of a writer; unknown, and no, where there are no locks."""
    if not locks_wanted():
        return False
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    with contextlib.suppress(OSError), open(path, "rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def check_model_output(path: str | os.PathLike[str], what: str, *, overwrite: bool = False) -> None:
    """Refuse a model file before anything is computed: not called .h5, or as `atomic.check_output`.

    what: such as "a grid", for the message. Raises XpjaxError and OSError.
    """
    if Path(path).suffix.lower() not in (".h5", ".hdf5"):
        raise XpjaxError(f"{Path(path).name}: {what} is an HDF5 file, .h5")
    atomic.check_output(path, overwrite=overwrite)


def write_model(
    path: str | os.PathLike[str],
    kind: str,
    version: int,
    arrays: Mapping[str, Any],
    attributes: Mapping[str, Any],
    *,
    notes: Mapping[str, Any] | None = None,
    packed: Collection[str] = (),
    overwrite: bool = False,
) -> None:
    """Write a model file, whole or not at all; the same model gives the same bytes.

    kind, version: the attributes `format` and `format_version`. arrays: by name, text too; None is left out.
    attributes: text, numbers and lists of them. notes: attributes of arrays, such as a unit, by their names. packed:
    arrays that are compressed. Raises FileExistsError unless overwrite, and OSError where the disk refuses.
    """
    import h5py

    atomic.check_output(path, overwrite=overwrite)
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", track_order=True) as file:
        file.attrs.update({"format": kind, "format_version": version, **attributes})
        for name, values in arrays.items():
            if values is None:
                continue
            array = np.asarray(values)
            options: dict[str, Any] = {"compression": "gzip", "shuffle": True} if name in packed else {}
            if array.dtype.kind == "U":
                array, options = array.astype(object), {"dtype": h5py.string_dtype()}
            data = file.create_dataset(name, data=array, track_times=False, **options)
            data.attrs.update((notes or {}).get(name, {}))
    atomic.write_bytes(path, buffer.getvalue())


def read_model(
    path: str | os.PathLike[str], kind: str, version: int, what: str, remedy: str = ""
) -> tuple[Parts, Parts]:
    """Read a model file: its arrays by name, and its attributes.

    what: such as "grid of model spectra", and remedy: how to make one, for the message. Raises FileNotFoundError, and
    XpjaxError for another file or a newer version.
    """
    wrong = f"{path} is no {what} ({{}}){'; ' + remedy if remedy else ''}"
    try:
        with open_hdf5(atomic.expanded(path)) as file:
            attributes = {name: plain_attribute(value) for name, value in file.attrs.items()}
            if attributes.get("format") != kind:
                raise XpjaxError(wrong.format(f"no attribute format = {kind}"))
            found = int(attributes.get("format_version", attributes.get("version", 1)))
            if found > version:
                raise XpjaxError(f"{path} has format version {found}, this xpjax knows {version}: update xpjax")
            arrays: dict[str, Any] = {}
            file.visititems(lambda name, item: arrays.update({name: _values(item)} if hasattr(item, "shape") else {}))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise XpjaxError(wrong.format(error)) from error
    return Parts(wrong, arrays), Parts(wrong, attributes)


class Parts(dict[str, Any]):
    """Arrays or attributes of a model file by name; a name that is not there raises XpjaxError, naming the file."""

    def __init__(self, wrong: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.wrong = wrong

    def __missing__(self, name: str) -> Any:
        raise XpjaxError(self.wrong.format(f"it has no {name}"))

    def group(self, group: str) -> Parts:
        """The arrays of a group by their names within it; none where there is no such group."""
        inside = f"{group}/"
        return Parts(self.wrong, {n.removeprefix(inside): a for n, a in self.items() if n.startswith(inside)})


def model_kind(path: str | os.PathLike[str]) -> str:
    """The attribute `format` of an HDF5 file; empty for a file without it, of another kind, or that is not there."""
    try:
        with open_hdf5(path) as file:
            return str(plain_attribute(file.attrs.get("format", "")))
    except OSError:
        return ""


def _values(item: Any) -> Any:
    import h5py

    return np.asarray(item.asstr()[()], str)[()] if h5py.check_string_dtype(item.dtype) else item[()]


def plain_attribute(value: Any) -> Any:
    """An attribute as Python and JSON have it: text, numbers, lists."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return [plain_attribute(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value
