"""Store to catalogue, end to end: speed, flat memory, against plain reading; second runs of commands; all sky.

Every case runs in a process of its own, with the memory settings of the command line and syncing to the disk; what is
compiled is kept between processes, as the command line keeps it. Stores repeat few units under other names: copies
where they are read from the disk, links where they are read from the page cache.
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

from benchmarks import startup
from benchmarks.harness import Row
from xpjax.catalogue.estimate import RunEstimate
from xpjax.catalogue.run import run_catalogue
from xpjax.xp import simulate, write_store_file
from xpjax.xp.sources import SourceTable, XPCoefficients

SYSTEM = "JPLUS"
UNIT = 65_000
"""Sources of a unit: 220 million in 3386 Gaia ranges."""
ALL_SKY = 220_000_000
COPIED = 10_000_000
COLD = 8
"""Units that are read from the disk."""
LINKED = 4
"""How often each is in a store that is read from the page cache: starting takes then a small part of a run."""
CALL = "from xpjax.core.process import keep_memory; keep_memory(); from benchmarks.catalogue import main; main()"


def run(quick: bool) -> list[Row]:
    """A quick run: one store without errors and a small one with, read from the disk."""
    sizes = (1_000_000,) if quick else (1_000_000, 10_000_000, 20_000_000)
    with tempfile.TemporaryDirectory(prefix="xpjax-catalogue-") as name:
        folder = Path(name)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "programs"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        rows = without(folder / "plain", sizes)
        shutil.rmtree(folder / "plain")
        n, n_file = (20_000, 1) if quick else (UNIT, COLD)
        table = simulate.simulate_sources(n, seed=2)
        for kind in ("float32", "compact"):
            rows += with_errors(folder / kind, table, kind, n_file, cached=not quick)
            shutil.rmtree(folder / kind)
    for compact in (row for row in rows if "compact" in row.case):
        full = next(r for r in rows if "float32" in r.case and r.case.endswith(compact.case.rpartition(", ")[2]))
        compact.ratios["processor time of float32"] = processor_time(full) / processor_time(compact)
    for row in rows:
        row.ratios["all sky [min]"] = ALL_SKY / row.rate / 60
    print(all_sky(rows))
    return rows + ([] if quick else startup.rows())


def without(folder: Path, sizes: tuple[int, ...]) -> list[Row]:
    """Magnitudes without errors of stores of these sizes, and of the largest one that is no links as HATS too."""
    table = without_errors(simulate.simulate_sources(2 * UNIT, seed=1, correlations=False))
    stores = fill(folder, table, sizes)
    rows = [case(f"{n // 1000:,}k sources, 12 magnitudes, no errors", store, n, False) for n, store in stores.items()]
    for row in rows:
        row.ratios["peak of that for fewest"] = row.peak_bytes / rows[0].peak_bytes
    for n in sizes[:2] if len(sizes) > 1 else ():
        rows.append(case(f"{n // 1000:,}k sources, no errors, hats", stores[n], n, False, "hats"))
    return rows


def with_errors(folder: Path, table: SourceTable, kind: str, n_file: int, cached: bool) -> list[Row]:
    """Magnitudes with errors of a store with correlations of a kind: from the disk, and from the page cache."""
    disk, memory = folder / "disk", folder / "memory"
    disk.mkdir(parents=True)
    memory.mkdir()
    write_store_file(disk / "XP_0.h5", table, correlations=kind)
    for k in range(1, n_file):
        shutil.copyfile(disk / "XP_0.h5", disk / f"XP_{k}.h5")
    os.sync()
    for k in range(LINKED * n_file):
        (memory / f"XP_{k}.h5").hardlink_to(disk / f"XP_{k % n_file}.h5")
    what = "compact covariances" if kind == "compact" else f"{kind} correlations"
    rows = [case(f"errors from {what}, from the disk", disk, len(table) * n_file, True, cold=True)]
    if cached:
        rows.append(case(f"errors from {what}, cached", memory, len(table) * n_file * LINKED, True))
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
    """The best of two runs, and plain reading of as many bytes as it needs."""
    files = sorted(store.iterdir())
    size = sum(path.stat().st_size for path in files)
    found: dict[str, Any] = {}
    plain = float("inf")
    for _ in range(2):
        with tempfile.TemporaryDirectory(dir=store.parent) as output:
            if cold:
                forget(files)
            plain = min(plain, read(files))
            if cold:
                forget(files)
            command = [sys.executable, "-c", CALL, str(store), f"{output}/out", str(int(errors)), format]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            one = json.loads(done.stdout.splitlines()[-1])
        assert one["rows"] == n, one
        best = found if found and found["seconds"] < one["seconds"] else one
        found = {**best, "cpu": min(one["cpu"], found.get("cpu", one["cpu"]))}
    row = Row("catalogue", name, n, found["seconds"], peak_bytes=found["peak"], bytes_per_source=found["read"] // n)
    row.ratios["of plain reading"] = plain * found["read"] / size / row.seconds
    row.ratios["cores in use"] = found["cpu"] / row.seconds
    speed = f"reads {found['read'] / row.seconds / 1e9:.2f} GB/s, plain {size / plain / 1e9:.2f} GB/s"
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
    told: list[RunEstimate] = []
    start, cpu = time.perf_counter(), time.process_time()
    report = run_catalogue(store, output, SYSTEM, errors=bool(int(errors)), format=format, estimate=told.append)
    figures = {
        "rows": report.rows,
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "peak": peak_bytes(),
        "read": told[0].bytes_read,
        "failed": dict(report.failed),
    }
    print(json.dumps(figures))
