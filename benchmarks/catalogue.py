"""Store to Parquet catalogue, end to end: flat in memory and speed, against plain reading; an all-sky estimate.

Every case runs in a process of its own, with compiling and syncing to the disk. The store repeats two units under other
names: copies up to ten million sources, links beyond, which are read all the same.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Row
from xpjax.catalogue.run import run_catalogue
from xpjax.xp import simulate, write_store_file
from xpjax.xp.sources import SourceTable, XPCoefficients

SYSTEM = "JPLUS"
UNIT = 65_000
"""Sources of a unit: 220 million in 3386 Gaia ranges."""
ALL_SKY = 220_000_000
COPIED = 10_000_000


def run(quick: bool) -> list[Row]:
    """A quick run: one store without errors and a small one with, read from the disk."""
    sizes = (1_000_000,) if quick else (1_000_000, 10_000_000, 20_000_000)
    rows = []
    with tempfile.TemporaryDirectory(prefix="xpjax-catalogue-") as name:
        folder = Path(name)
        plain = fill(
            folder / "plain", without_errors(simulate.simulate_sources(2 * UNIT, seed=1, correlations=False)), sizes
        )
        for n, store in plain.items():
            rows.append(case(f"{n // 1000:,}k sources, 12 magnitudes, no errors", store, n, errors=False))
        if not quick:
            small = sizes[0]
            rows.append(case(f"{small // 1000:,}k sources, no errors, hats", plain[small], small, False, "hats"))
        n, n_file = (20_000, 1) if quick else (UNIT, 8)
        table = simulate.simulate_sources(n, seed=2)
        for kind in ("float32", "compact") if quick else ("float32", "int16", "compact"):
            store = folder / kind
            store.mkdir()
            write_store_file(store / "XP_0.h5", table, correlations=kind)
            for k in range(1, n_file):
                shutil.copyfile(store / "XP_0.h5", store / f"XP_{k}.h5")
            for cold in (True,) if quick else (False, True):
                said = "from the disk" if cold else "cached"
                what = "compact covariances" if kind == "compact" else f"{kind} correlations"
                rows.append(case(f"errors from {what}, {said}", store, n * n_file, errors=True, cold=cold))
    for compact in (row for row in rows if "compact" in row.case):
        full = next(r for r in rows if "float32" in r.case and r.case.endswith(compact.case.rpartition(", ")[2]))
        compact.ratios["processor time of float32"] = processor_time(full) / processor_time(compact)
    fast = max((row for row in rows if "no errors" in row.case and "hats" not in row.case), key=lambda row: row.n)
    for row in (fast, *(row for row in rows if "from the disk" in row.case)):
        row.note += f"; all sky, {ALL_SKY / 1e6:.0f} million: {ALL_SKY / row.rate / 3600:.2f} h on this machine"
    print(all_sky(rows))
    return rows


def without_errors(table: SourceTable) -> SourceTable:
    c = table.coefficients
    return dataclasses.replace(table, coefficients=XPCoefficients(c.value, None, None, c.n_relevant, c.release))


def fill(folder: Path, table: SourceTable, sizes: tuple[int, ...]) -> dict[int, Path]:
    """A store of each size, of units that repeat two."""
    folder.mkdir()
    for k in range(2):
        write_store_file(folder / f"base{k}.h5", table[k * UNIT : (k + 1) * UNIT], correlations="none")
    copies: list[Path] = []
    stores = {}
    for n in sizes:
        stores[n] = folder / str(n)
        stores[n].mkdir()
        for k in range(-(-n // UNIT)):
            if k == len(copies) and k * UNIT < COPIED:
                copies.append(folder / f"copy{k}.h5")
                shutil.copyfile(folder / f"base{k % 2}.h5", copies[k])
            target = stores[n] / f"XP_{k:04d}.h5"
            left = n - k * UNIT
            if left >= UNIT:
                target.hardlink_to(copies[k % len(copies)])
            else:
                write_store_file(target, table[:left], correlations="none")
    os.sync()
    return stores


def case(name: str, store: Path, n: int, errors: bool, format: str = "parquet", cold: bool = False) -> Row:
    """One run, and plain reading of the bytes that it needs."""
    files = sorted(store.iterdir())
    size = sum(path.stat().st_size for path in files)
    with tempfile.TemporaryDirectory(dir=store.parent) as output:
        if cold:
            forget(files)
        plain = read(files)
        if cold:
            forget(files)
        command = [sys.executable, "-m", "benchmarks.catalogue", str(store), f"{output}/out", str(int(errors)), format]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == n, found
    row = Row("catalogue", name, n, found["seconds"], peak_bytes=found["peak"], bytes_per_source=size // n)
    row.ratios["of plain reading"] = plain / row.seconds
    row.ratios["cores in use"] = found["cpu"] / row.seconds
    speed = f"reads {size / row.seconds / 1e9:.2f} GB/s, plain {size / plain / 1e9:.2f} GB/s"
    row.note = f"{1e6 * found['cpu'] / n:.2f} us of a core a source; {speed}"
    return row


def processor_time(row: Row) -> float:
    """Seconds of a core for a source."""
    return row.ratios["cores in use"] * row.seconds / row.n


def read(files: list[Path]) -> float:
    """Seconds to read the files, 4 MB at a time."""
    buffer = bytearray(2**22)
    start = time.perf_counter()
    for path in files:
        with path.open("rb", buffering=0) as handle:
            while handle.readinto(buffer):
                pass
    return time.perf_counter() - start


def forget(files: list[Path]) -> None:
    """Drop the files from the page cache."""
    os.sync()
    for path in files:
        with path.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def all_sky(rows: list[Row]) -> str:
    lines = [f"All sky, {ALL_SKY / 1e6:.0f} million sources in 3386 units, from these runs:"]
    for row in rows:
        size = ALL_SKY * row.bytes_per_source
        lines.append(f"  {row.case:52s} {ALL_SKY / row.rate / 60:8.1f} min, reading {size / 1e9:7.0f} GB")
    return "\n".join(lines)


def peak_bytes() -> int:
    """The largest resident set of this process; getrusage counts that of the parent before exec too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """One run in this process: STORE OUTPUT ERRORS FORMAT."""
    store, output, errors, format = sys.argv[1:]
    start, cpu = time.perf_counter(), time.process_time()
    report = run_catalogue(store, output, SYSTEM, errors=bool(int(errors)), format=format)
    figures = {
        "rows": report.rows,
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "peak": peak_bytes(),
        "failed": dict(report.failed),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
