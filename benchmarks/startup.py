"""Second runs of commands on small files: what starting, importing and compiling take, of a user who ran them before.

Byte code and compiled programs are kept, each in a folder made for this, whatever the environment says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Row
from tests.cli.test_survey import TOML, table
from xpjax.io.catalogue import write
from xpjax.xp import simulate

N = 20
"""Sources of a file."""


def rows() -> list[Row]:
    """Photometry, label fits and an exposure's calibration: the best of three further runs, the first one beside it."""
    with tempfile.TemporaryDirectory(prefix="xpjax-startup-") as name:
        folder = Path(name)
        write(folder / "xp.parquet", simulate.simulate_sources(N, seed=1).catalogue())
        write(folder / "field.fits", table())
        (folder / "survey.toml").write_text(TOML)
        calls = {
            "photometry": ("photometry", "xp.parquet", "--system", "JPLUS"),
            "labels fit": ("labels", "fit", "xp.parquet", "--error-floor", "0.01"),
            "survey calibrate": ("survey", "calibrate", "field.fits", "--config", "survey.toml"),
        }
        return [_timed(folder, name, call) for name, call in calls.items()]


def _timed(folder: Path, name: str, call: tuple[str, ...]) -> Row:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPYCACHEPREFIX": str(folder / "bytes")}
    for word in ("PYTHONDONTWRITEBYTECODE", "JAX_COMPILATION_CACHE_DIR", "XPJAX_NO_CACHE"):
        environment.pop(word, None)
    seconds = []
    for k in range(4):
        output = folder / f"{name.replace(' ', '_')}_{k}{'' if 'survey' in name else '.parquet'}"
        command = [sys.executable, "-m", "xpjax.cli", *call, "--output", str(output), "--quiet"]
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    row = Row("catalogue", f"second run of xpjax {name}, {N} sources", N, min(seconds[1:]))
    row.note = f"the first run, which compiles byte code and programs, {seconds[0]:.1f} s"
    return row
