"""Settings of a whole process: memory and imports that stay, one thread for small algebra, kept compiled programs.

All but the threads are for processes of xpjax's own, the command line and its workers: a library does not touch the
process of its user. JAX reads its settings when it is imported, so they are made before that.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import os
import platform
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""What glibc's <malloc.h> calls its settings."""
CACHE_BYTES = 256 * 2**20
"""The most that compiled programs take on disk, those of all versions together."""
FREE_BYTES = 2**26
"""On a disk with less than this no program is kept."""
IMPORTED = 150_000
"""Objects, of kinds that may hold others, that importing JAX and xpjax makes at least, before any file is opened."""
_BLAS = threading.RLock()  # the number of threads is of the process: who restores it must be who changed it


def keep_memory(of_dask: bool = False) -> None:
    """Let glibc keep freed memory for the next batch, where it is the allocator; what the environment says goes first.

    of_dask: a worker's environment is Dask's, which asks to return all memory at once, and is not asked.
    By default buffers of 10 to 100 MB are returned to the system after every batch and taken again: half of the time
    of a catalogue of magnitudes is spent in page faults, and each thread holds memory of its own.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  # AttributeError elsewhere
        mallopt = libc.mallopt
    except (OSError, TypeError, AttributeError):  # TypeError: Windows, which has no process-wide library
        return
    for name, number, *values in (
        ("MALLOC_ARENA_MAX", M_ARENA_MAX, 1),
        ("MALLOC_MMAP_THRESHOLD_", M_MMAP_THRESHOLD, 256 << 20, 32 << 20),  # the most that older versions take
        ("MALLOC_TRIM_THRESHOLD_", M_TRIM_THRESHOLD, 1 << 30),
    ):
        if of_dask or name not in os.environ:
            any(mallopt(number, value) for value in values)  # the first that it takes


def keep_imports() -> None:
    """Let Python look for garbage first after as many objects as imports make, and never among those.

    They stay as long as the process, which spends a quarter of a short run on looking through them again and again.
    """
    usual = gc.get_threshold()

    def start_usual(phase: str, info: dict[str, int]) -> None:
        gc.callbacks.remove(start_usual)
        gc.freeze()
        gc.set_threshold(*usual)

    gc.callbacks.append(start_usual)
    gc.set_threshold(IMPORTED, *usual[1:])


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Do the host's small algebra in one thread of BLAS; a function may be decorated with it.

    Two threads that share busy cores wait for each other at every step: an SVD of (256, 330) then takes 1.8 s, not 11
    ms. Large solutions are left all threads.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:  # a bare machine with a GPU: no more than time is lost
        yield
        return
    with _BLAS, threadpool_limits(1, user_api="blas"):
        yield


def keep_programs() -> Path | None:
    """Let JAX keep what it compiles in the user's cache, so that the next run of a command compiles nothing.

    Returns the folder; None where programs are not kept: XPJAX_NO_CACHE or JAX_COMPILATION_CACHE_DIR is set, JAX is
    running already, the disk is full or read-only, or others could write there. What lies there is machine code that
    JAX trusts, so the folder is the user's own, and another one for each version of jaxlib and each processor.
    """
    off = os.environ.get("XPJAX_NO_CACHE", "0") not in ("", "0")
    if off or "JAX_COMPILATION_CACHE_DIR" in os.environ or "jax" in sys.modules:
        return None
    try:
        root = _cache_home() / "xpjax"
        folder = root / f"jax-{_version()}-{hashlib.sha256(_machine().encode()).hexdigest()[:12]}"
        for path in (root, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (_is_own(root.resolve()) and _is_own(folder.resolve()) and os.access(folder, os.W_OK)):
            return None
        _prune(root)
        space = os.statvfs(folder)
        if space.f_bavail * space.f_frsize < FREE_BYTES:
            return None
    except (OSError, RuntimeError):  # RuntimeError: no home, or links that form a circle
        return None
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    # All programs: reading even the least takes a fraction of the time of compiling it.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    return folder


def forget_programs(folder: Path) -> None:
    """Remove the programs in a folder of `keep_programs`: one could not be read or written, and none is worth a doubt.

    JAX itself never replaces a program that lies there.
    """
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            path.unlink()


def _cache_home() -> Path:
    """Where the system has caches of users."""
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home) if home and os.path.isabs(home) else Path.home() / ".cache"


def _version() -> str:
    from jaxlib import __version__

    return str(__version__)


def _machine() -> str:
    """What machine code depends on: the processor and its instructions, and the graphics cards."""
    lines = {platform.machine(), platform.processor()}
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as cpu:
        words = ("model name", "flags", "Features", "CPU implementer", "CPU architecture", "CPU part")
        lines |= {line.strip() for line in cpu if line.startswith(words)}
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        with contextlib.suppress(OSError):
            lines |= {line.strip() for line in path.read_text().splitlines() if line.startswith("Model")}
    return "\n".join(sorted(lines))


def _is_own(folder: Path) -> bool:
    """Whether a folder is the user's and nobody else may write there, or put another one in its place."""
    own = folder.stat()
    if own.st_uid != os.getuid() or own.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False
    above = [path.stat().st_mode for path in folder.parents]
    return not any(mode & stat.S_IWOTH and not mode & stat.S_ISVTX for mode in above)


def _prune(root: Path) -> None:
    """Remove the programs that were not used for longest, until there are few enough bytes for some more."""
    files = []
    for path in root.rglob("*"):
        with contextlib.suppress(OSError):  # another process removes them too
            about = path.stat()
            if stat.S_ISREG(about.st_mode):
                files.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    left = sum(size for _, size, _ in files)
    for _, size, path in sorted(files, key=lambda file: file[0]):
        if left <= CACHE_BYTES * 3 // 4:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            left -= size
