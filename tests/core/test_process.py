"""Settings of a process: memory, threads of BLAS, and where compiled programs are kept."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from xpjax.core import process

FAULTS = """
import resource, sys
from xpjax.core.process import keep_memory
if sys.argv[1] != "plain":
    keep_memory(of_dask=sys.argv[1] == "kept by a worker")
for _ in range(20):
    b"x" * (40 * 2**20)  # more than the most that glibc keeps by itself
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_kept_memory_is_not_taken_again_from_the_system() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def faults(how: str, **more: str) -> int:
        call = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(call, capture_output=True, check=True, env={**environment, **more}).stdout)

    plain = faults("plain")
    assert faults("kept") < 0.2 * plain
    asked = {"MALLOC_TRIM_THRESHOLD_": "65536"}
    assert faults("kept", **asked) > 0.8 * plain
    assert faults("kept by a worker", **asked) < 0.2 * plain


GARBAGE = """
import gc, weakref
from xpjax.core.process import IMPORTED, keep_imports

class Ring:
    def __init__(self):
        self.own = self

usual, found = gc.get_threshold(), []
gc.callbacks.append(lambda phase, about: found.append(phase))
keep_imports()
kept = [[] for _ in range(IMPORTED // 2)]
assert not found
kept += [[] for _ in range(IMPORTED)]
assert found and gc.get_threshold() == usual and len(gc.callbacks) == 1
assert gc.get_freeze_count() >= IMPORTED
ring = weakref.ref(Ring())
kept += [[] for _ in range(usual[0] + 1)]
assert ring() is None
"""


def test_garbage_is_looked_for_as_usual_behind_what_is_imported() -> None:
    subprocess.run([sys.executable, "-c", GARBAGE], check=True)


THREADS = """
import threading
import numpy as np
from threadpoolctl import threadpool_info
from xpjax.core.process import one_blas_thread

def count():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

def work():
    for _ in range(20):
        with one_blas_thread(), one_blas_thread():
            np.linalg.svd(np.eye(20))
            assert count() == {1}, count()
        done.append(1)

done, before = [], count()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert before == count() == {2}, (before, count())
assert len(done) == 80
"""


def test_small_algebra_takes_one_thread_and_gives_the_others_back() -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    made = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the user, in a process in which JAX is not running yet."""
    for name in ("XPJAX_NO_CACHE", "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_programs_are_kept_in_a_folder_of_the_user_alone(home: Path) -> None:
    before = os.umask(0)
    try:
        folder = process.keep_programs()
    finally:
        os.umask(before)
    assert folder is not None
    assert folder.parent == home / "xpjax"
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(folder)
    assert process.keep_programs() is None  # what the environment says goes first
    del os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert process.keep_programs() == folder


def test_programs_of_another_processor_are_kept_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = process.keep_programs()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setattr(process, "_machine", lambda: "flags : fpu avx512f")
    second = process.keep_programs()
    assert None not in (first, second)
    assert first != second


FULL = os.statvfs_result((4096, 4096, *[100] * 8))
REFUSED = {
    "asked not to": lambda home, patch: patch.setenv("XPJAX_NO_CACHE", "1"),
    "another folder is set": lambda home, patch: patch.setenv("JAX_COMPILATION_CACHE_DIR", str(home)),
    "the group may write there": lambda home, patch: (home / "xpjax").chmod(0o770),
    "others may write there": lambda home, patch: (home / "xpjax").chmod(0o707),
    "others may put another folder there": lambda home, patch: home.chmod(0o777),
    "it is another user's": lambda home, patch: patch.setattr(os, "getuid", lambda: 12345),
    "a file is in its place": lambda home, patch: ((home / "xpjax").rmdir(), (home / "xpjax").touch()),
    "the disk is full": lambda home, patch: patch.setattr(os, "statvfs", lambda _: FULL),
    "it is read-only": lambda home, patch: patch.setattr(os, "access", lambda *_: False),
}


@pytest.mark.parametrize("why", REFUSED)
def test_programs_are_not_kept_where(why: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "xpjax").mkdir(mode=0o700)
    REFUSED[why](home, monkeypatch)
    set_before = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    assert process.keep_programs() is None
    assert os.environ.get("JAX_COMPILATION_CACHE_DIR") == set_before


def test_programs_not_used_for_longest_make_room(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "CACHE_BYTES", 4000)
    old = home / "xpjax" / "jax-0.1"
    old.mkdir(mode=0o700, parents=True)
    for k in range(6):
        path = old / f"{k}-cache"
        path.write_bytes(bytes(1000))
        os.utime(path, (1000 + k, 1000 + k))
    os.utime(old / "0-cache", (9000, 1000))  # made first, used last
    assert process.keep_programs() is not None
    assert sorted(path.name for path in old.iterdir()) == ["0-cache", "4-cache", "5-cache"]
