"""Files that are written whole or not at all, and what a disk that refuses is said to lack."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xpjax.core.errors import say


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path, with `~` as the home directory."""
    return Path(os.path.expanduser(path))


def behind_link(path: Path) -> Path:
    """The file that a symbolic link points to, which may not be there yet; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_output(path: str | os.PathLike[str], *beside: Path, overwrite: bool = False) -> None:
    """Refuse a file before anything is computed: it exists, is a directory, or its directory takes no file.

    beside: further files that are written with it. Raises OSError, which names file and remedy.
    """
    path = expanded(path)
    for target in map(behind_link, [path, *beside]):
        if target.is_dir():
            raise IsADirectoryError(f"the output {target} is a directory; name a file in it")
        if not target.parent.exists():
            raise FileNotFoundError(f"no directory {target.parent} for the output {target.name}; make it first")
        if not target.parent.is_dir():
            raise NotADirectoryError(f"{target.parent} is no directory: the output {target.name} cannot lie in it")
        _check_absent(target, "output", "name another one, or overwrite it with", overwrite)
    try:
        # access(2) says yes to root on a read-only file system: only a trial tells.
        with tempfile.TemporaryFile(dir=behind_link(path).parent):
            pass
    except OSError as exc:
        raise explain(exc, path) from exc


def check_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse a folder before anything is computed: it exists, is a file, or its own directory is not there."""
    path = expanded(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"the output {path} is a file; name a folder")
    _check_absent(path, "folder", "name another one, or overwrite it with", overwrite)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no directory {path.parent} for the folder {path.name}; make it first")


def check_products(folder: str | os.PathLike[str], *names: str, overwrite: bool = False) -> None:
    """Refuse a folder before anything is computed: files in it would be replaced. Raises FileExistsError."""
    for name in names:
        _check_absent(expanded(folder) / name, "output", "name another directory, or add", overwrite)


def _check_absent(path: Path, what: str, remedy: str, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise FileExistsError(f"the {what} {path} exists; {remedy} {say('overwrite=True', '--overwrite')}")


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all, over an old one; raises OSError, which names file and remedy."""
    with whole_files() as temporary:
        temporary(expanded(path)).write_bytes(data)


@contextlib.contextmanager
def whole_files() -> Iterator[Callable[[Path], Path]]:
    """Give temporary names beside the final ones; on leaving, move them there if all went well, else remove them.

    A final name that is a symbolic link stays one: what it points to is replaced.
    """
    pending: dict[Path, Path] = {}

    def temporary(final: Path) -> Path:
        target = behind_link(final)
        pending[final] = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        return pending[final]

    try:
        try:
            yield temporary
            for temp in pending.values():
                with temp.open("rb+") as handle:
                    os.fsync(handle.fileno())
            for final, temp in pending.items():
                os.replace(temp, behind_link(final))
        except OSError as exc:
            raise explain(exc, [*pending][-1]) from exc
    finally:
        for temp in pending.values():
            temp.unlink(missing_ok=True)


ABANDONED = 600.0
"""Seconds without a write after which a temporary file whose process is gone here is taken to be abandoned."""


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder; on other machines too, they stand still."""
    for path in folder.glob(".*.tmp"):
        process = path.name.split(".")[-2]
        with contextlib.suppress(OSError):  # another run may have been quicker
            if process.isdigit() and not _lives(int(process)) and time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def explain(exc: OSError, path: Path) -> OSError:
    """The same error, naming the output and the remedy."""
    remedies = {
        errno.ENOSPC: "free some space or choose an output on another disk",
        errno.EDQUOT: "your quota is used up: free some space or choose an output on another disk",
        errno.EFBIG: "the file would be larger than this disk or your limits (ulimit -f) allow; write several files",
        errno.EROFS: "the disk is read-only; choose an output on another one",
        errno.EACCES: "you may not write there; choose another directory",
    }
    number, origin = exc.errno, exc.__context__
    while number is None and origin is not None:  # libraries raise their own in the place of the system's
        number, origin = getattr(origin, "errno", None), origin.__context__
    reason = os.strerror(number) if number else str(exc).partition("\n")[0]
    remedy = f"; {remedies[number]}" if number in remedies else ""
    new = type(exc)(f"cannot write {path}: {reason}{remedy}")
    new.errno = number
    return new


class DeafFile(io.FileIO):
    """A file that keeps the first error for later: HDF5 crashes the process where a write or a closing fails."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """All of the data, unless something has failed."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and self.error is None:
                left = left[super().write(left) :]
        except OSError as exc:
            self.error = exc
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size, which may also be too large for the disk."""
        try:
            return super().truncate(size)
        except OSError as exc:
            self.error = self.error or exc
            return size or 0
