"""A survey calibrated in units by two processes, one of which is killed: the same products as of one undisturbed.

python -m benchmarks.survey_units --exposures 400 --stars 250 --nights 20: tables of a simulated survey are calibrated
by `calibrate_survey` in one piece; by `xpjax survey calibrate --units night` in one process; in two, of which one is
killed with signal 9 in mid-run; and on two Dask workers, of which one is killed. What is found goes into
results/PLATFORM_survey_units.json.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import PeakMemory, Row
from xpjax.catalogue import calibrate_units
from xpjax.io.catalogue import read_catalogue, write
from xpjax.survey import SimulatedSurvey, SurveySetup
from xpjax.survey.exposures import Calibration, read_solution
from xpjax.survey.reading import calibrate_survey

CONFIG = """
[columns]
star = "star"
exposure = "exposure"
x = "x"
y = "y"
magnitude = "magnitude"
magnitude_error = "magnitude_error"
model = "model"
model_error = "model_error"
color = "color"
band = "band"
night = "night"
time = "time"
airmass = "airmass"
[model]
stacked_flat = true
bins = 20
"""
COMPARED = ("zero_point", "zero_point_error", "zero_point_common", "floor", "value", "covariance", "status")


def write_tables(folder: Path, n_exposure: int, n_star: int, n_night: int) -> list[Path]:
    """A table for each exposure of a simulated survey."""
    o, _ = SimulatedSurvey(SurveySetup(n_exposure=n_exposure, n_star=n_star, n_night=n_night)).observe()
    folder.mkdir()
    names = ("star", "x", "y", "magnitude", "magnitude_error", "model", "model_error", "color")
    files = []
    for k in range(len(o.frames)):
        mine = np.flatnonzero(o.frame == k)
        columns = {name: getattr(o, name)[mine] for name in names}
        for name in ("exposure", "band", "night", "time", "airmass"):
            columns[name] = np.repeat(getattr(o.frames, name)[k : k + 1], len(mine))
        files.append(folder / f"exposure_{k:04d}.parquet")
        write(files[-1], columns)
    return files


def command(files: list[Path], config: Path, output: Path) -> subprocess.Popen[bytes]:
    """A process that calibrates in units."""
    call = [sys.executable, "-m", "xpjax.cli", "survey", "calibrate", *map(str, files), "--config", str(config)]
    return subprocess.Popen([*call, "--units", "night", "--output", str(output), "--quiet"])


def largest(found: Calibration, want: Calibration) -> float:
    """The largest difference of two solutions in zero-points, terms, errors and flats."""
    off = [
        np.nanmax(np.abs(np.asarray(getattr(found.fits, name), float) - np.asarray(getattr(want.fits, name), float)))
        for name in COMPARED
    ]
    assert found.frames.exposure.tolist() == want.frames.exposure.tolist()
    if found.flats is not None and want.flats is not None:
        off.append(np.abs(found.flats.value - want.flats.value).max())
    return float(max(off))


def rows_of(output: Path) -> dict[str, np.ndarray]:
    """Calibrated measurements of a folder, in the order of the tables."""
    parts = [read_catalogue(path).columns for path in sorted(output.rglob("calibrated.parquet"))]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((whole["row"], whole["file"]))
    return {name: column[order] for name, column in whole.items()}


def same_bits(one: Path, other: Path) -> bool:
    """Whether all measurements, zero-points and solutions of two runs are the same, bit by bit, dates apart."""
    a, b = rows_of(one), rows_of(other)
    same = list(a) == list(b) and all(np.array_equal(a[n], b[n], equal_nan=a[n].dtype.kind == "f") for n in a)
    return same and largest(read_solution(one), read_solution(other)) == 0.0


def killed(start: Callable[[], list[subprocess.Popen[bytes]]], output: Path) -> float:
    """Seconds of processes that work together, the first of which is killed while flats are made."""
    started = time.perf_counter()
    first, *others = start()
    while not list(output.glob("_xpjax/*/shares/flats-1/*.h5")):
        if first.poll() is not None:
            raise RuntimeError("the first process ended before it could be killed")
        time.sleep(0.005)
    os.kill(first.pid, signal.SIGKILL)
    for other in others:
        if other.wait() != 0:
            raise RuntimeError("the other process failed")
    if first.wait() != -signal.SIGKILL:
        raise RuntimeError("the first process was not killed")
    return time.perf_counter() - started


def on_dask(files: list[Path], config: Path, output: Path) -> float:
    """Seconds of two Dask workers, one of which is killed while flats are made; NaN without Dask."""
    try:
        import distributed
    except ImportError:
        return float("nan")
    started = time.perf_counter()
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        victim = [*client.run(os.getpid).values()][:1]

        def progress(phase: str, done: int, of: int) -> None:
            if phase == "flats-1" and victim:
                os.kill(victim.pop(), signal.SIGKILL)

        calibrate_units(files, config, output, dask=cluster.scheduler_address, progress=progress)
    return time.perf_counter() - started


def run(quick: bool, n_exposure: int = 400, n_star: int = 250, n_night: int = 20) -> list[Row]:
    """All of it; quick: 40 exposures of four nights."""
    if quick:
        n_exposure, n_night = 40, 4
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files, config = write_tables(folder / "tables", n_exposure, n_star, n_night), folder / "survey.toml"
        config.write_text(CONFIG)
        started = time.perf_counter()
        with PeakMemory() as memory:
            whole = calibrate_survey(files, config, folder / "one")
        rows = [row("in one piece", len(whole.calibrated), time.perf_counter() - started)]
        rows[0].peak_bytes = memory.bytes
        started = time.perf_counter()
        if command(files, config, folder / "units").wait() != 0:
            raise RuntimeError("the calibration in units failed")
        rows.append(row("in units, one process", len(whole.calibrated), time.perf_counter() - started))
        two = killed(lambda: [command(files, config, folder / "two") for _ in range(2)], folder / "two")
        rows.append(row("in units, two processes, one killed", len(whole.calibrated), two))
        rows.append(row("in units, two Dask workers, one killed", len(whole.calibrated),
                        on_dask(files, config, folder / "dask")))  # fmt: skip
        want = rows_of(folder / "one")
        for found, output in zip(rows[1:], ("units", "two", "dask"), strict=True):
            if not (folder / output).exists():
                continue
            mine = rows_of(folder / output)
            found.error = float(np.nanmax(np.abs(mine["magnitude"] - want["magnitude"])))
            found.error_of = "largest difference of a magnitude from those in one piece [mag]"
            found.ratios = {
                "largest difference of a solution": largest(read_solution(folder / output), whole.solution),
                "same bits as undisturbed": float(same_bits(folder / output, folder / "units")),
            }
    return rows


def row(case: str, n: int, seconds: float) -> Row:
    """A row of n measurements."""
    return Row("survey_units", case, n, seconds)


def main() -> None:
    """Run with options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.survey_units", description=__doc__)
    parser.add_argument("--exposures", type=int, default=400)
    parser.add_argument("--stars", type=int, default=250)
    parser.add_argument("--nights", type=int, default=20)
    options: Any = parser.parse_args()
    rows = run(False, options.exposures, options.stars, options.nights)
    name = f"{harness.machine()['platform']}_survey_units.json"
    limits = harness.limits()
    harness.save(rows, harness.RESULTS / name, limits=limits)
    print(harness.table(rows, limits))


if __name__ == "__main__":
    main()
