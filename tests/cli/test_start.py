"""Compiled programs that the command line keeps: a second run compiles nothing, and none fails for their sake."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.helpers import files


def run(home: Path, inputs: Path, output: str, before: Callable[[], None] | None = None) -> tuple[str, int, bytes]:
    """Magnitudes as a process of its own, with its cache in a folder: what it says, its compiles, its output."""
    off = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "XPJAX_NO_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in off}
    environment |= {"XDG_CACHE_HOME": str(home), "JAX_LOG_COMPILES": "1"}
    call = [sys.executable, "-m", "xpjax.cli", "photometry", inputs / "sources.csv", "--system", "JPLUS", "-q"]
    call += ["-o", home / output]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, preexec_fn=before)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    told = [line for line in lines if re.search("warning|error", line, re.IGNORECASE)]
    hits = sum("cache hit" in line for line in lines)
    compiles = sum(line.startswith("Compiling") for line in lines) - hits
    return "\n".join(told), compiles, (home / output).read_bytes()


def programs(home: Path) -> list[Path]:
    return sorted((home / "xpjax").glob("jax-*/*-cache"))


@pytest.mark.slow
def test_a_second_run_compiles_nothing(tmp_path: Path, inputs: Path) -> None:
    _, compiles, first = run(tmp_path, inputs, "first.csv")
    kept = programs(tmp_path)
    assert compiles == len(kept) > 0
    _, compiles, second = run(tmp_path, inputs, "second.csv")
    assert compiles == 0
    assert programs(tmp_path) == kept
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"not what it was", None], ids=["empty", "foreign", "cut"])
def test_a_damaged_program_costs_its_compiling_alone(tmp_path: Path, inputs: Path, content: bytes | None) -> None:
    _, compiles, first = run(tmp_path, inputs, "first.csv")
    for path in programs(tmp_path):
        path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    told, again, second = run(tmp_path, inputs, "second.csv")
    assert told == ""
    assert again == compiles
    assert first == second
    run(tmp_path, inputs, "third.csv")  # damaged ones are gone, so that new ones are kept
    assert run(tmp_path, inputs, "fourth.csv")[1] == 0


@pytest.mark.slow
def test_a_disk_that_takes_no_program_does_not_fail_the_run(tmp_path: Path, inputs: Path) -> None:
    _, _, first = run(tmp_path, inputs, "first.csv")
    for path in programs(tmp_path):
        path.unlink()

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, 2**13))

    told, _, second = run(tmp_path, inputs, "second.csv", small_files)
    assert told == ""
    assert first == second
    assert len(first) < 2**13  # else the output had failed


def test_a_cache_that_cannot_be_made_does_not_fail_the_run(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "xpjax").touch()
    told, compiles, _ = run(tmp_path, inputs, "out.csv")
    assert told == ""
    assert compiles > 0
    assert files(tmp_path) == ["out.csv", "xpjax"]
