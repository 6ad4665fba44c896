"""HDF5 files that are only read: opened without a lock, so that they can be read where a file system has none."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

from xpjax.core.errors import XpjaxError

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
