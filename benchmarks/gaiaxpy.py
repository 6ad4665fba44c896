"""GaiaXPy's functions and those of `xpjax.compat.gaiaxpy`, called alike: from CSV and from a DataFrame, frames built
included.

Both packages run in this process, one after the other, on the same made sources; the first call imports, reads tables
and, in xpjax, compiles. Ratios are of the second and later calls: of wall-clock time and of processor time of all
threads, which other work on the machine disturbs less.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import bulkfile, peers
from benchmarks.harness import PeakMemory, Row
from xpjax.xp import simulate

SYSTEM = "JPLUS"


def _write_csv(path: Path, table: Any) -> None:
    """The sources as the archive's DataLink writes them: arrays as "(a,b)" and no header but the names."""
    text = bulkfile.text(table)[len(bulkfile.header()) :].replace(b'"[', b'"(').replace(b']"', b')"')
    path.write_bytes((",".join(bulkfile.KINDS) + "\n").encode() + text)


def _calls(module: Any, csv: Path, frame: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    member = module.PhotometricSystem[SYSTEM]
    return {
        f"generate {SYSTEM}, DataFrame": lambda: module.generate(frame, member, save_file=False),
        "calibrate, DataFrame": lambda: module.calibrate(frame, save_file=False)[0],
        f"generate {SYSTEM}, CSV": lambda: module.generate(str(csv), member, save_file=False),
    }


def _measured(name: str, n: int, call: Callable[[], Any], repeats: int) -> tuple[Row, float, pd.DataFrame]:
    """First call, best wall-clock and processor time of later calls, and the peak memory of one of them."""
    wall, cpu = [], []
    with peers.quiet():
        start = time.perf_counter()
        frame = call()
        first = time.perf_counter() - start
        for _ in range(repeats):
            start, busy = time.perf_counter(), time.process_time()
            call()
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - busy)
        with PeakMemory() as memory:
            before = memory.bytes
            call()
    row = Row("gaiaxpy", name, n, min(wall), first, memory.bytes)
    added = (memory.bytes - before) / 1e6
    row.note = f"{min(cpu):.3g} s of processor time; {added:.0f} MB beyond what the process held before the call"
    return row, min(cpu), frame


def _worst(found: pd.DataFrame, expected: pd.DataFrame) -> float:
    """The largest difference of two frames, relative to the largest value of each column."""
    worst = 0.0
    for name in expected.columns.drop("source_id"):
        a, b = (np.stack(list(frame[name])).astype(float) for frame in (found, expected))
        worst = max(worst, float(np.nanmax(np.abs(a - b)) / np.nanmax(np.abs(b))))
    return worst


def run(quick: bool) -> list[Row]:
    """Rows of xpjax with ratios, and of GaiaXPy where it is installed."""
    from xpjax.compat import gaiaxpy as ours

    n, repeats, peer_repeats = (300, 3, 1) if quick else (5000, 7, 1)
    table = simulate.simulate_sources(n, seed=8, dtype=np.float64)
    frame = peers.frame(table)
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "XP_CONTINUOUS_RAW.csv"
        _write_csv(csv, table)
        own = {name: _measured(name, n, call, repeats) for name, call in _calls(ours, csv, frame).items()}
        try:
            import gaiaxpy as theirs
        except ImportError:
            return [row for row, _, _ in own.values()]
        rows = []
        for name, call in _calls(theirs, csv, frame).items():
            row, cpu, found = own[name]
            other, other_cpu, expected = _measured(f"gaiaxpy {name}", n, call, peer_repeats)
            row.ratios = {"gaiaxpy": other.seconds / row.seconds, "processor time": other_cpu / cpu}
            row.error, row.error_of = _worst(found, expected), "frame of GaiaXPy, relative to the largest of a column"
            rows += [row, other]
    return rows
