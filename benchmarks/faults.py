"""What a run survives: killed at random moments, flipped bytes, a full disk, a killed Dask worker, a second run.

Each case ends with a catalogue that equals an undisturbed one bit for bit, or raises AssertionError.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.catalogue import without_errors
from benchmarks.harness import Row
from xpjax.catalogue.run import RunReport, run_catalogue
from xpjax.catalogue.state import read_status
from xpjax.xp import open_store, simulate, write_store_file

SYSTEM = "JPLUS"
UNITS = 40


def run(quick: bool) -> list[Row]:
    """In a process of its own, where JAX is not started: runs that are killed are forks, which spares them imports."""
    command = [sys.executable, "-m", "benchmarks.faults", str(int(quick))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [Row(**fields) for fields in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    per_unit, kills = (2_000, 4) if bool(int(sys.argv[1])) else (20_000, 50)
    with tempfile.TemporaryDirectory(prefix="xpjax-faults-") as name:
        folder = Path(name)
        (folder / "store").mkdir()
        table = without_errors(simulate.simulate_sources(UNITS * per_unit, seed=4, correlations=False))
        for k in range(UNITS):
            part = table[k * per_unit : (k + 1) * per_unit]
            write_store_file(folder / "store" / f"XP_{k:02d}.h5", part, correlations="none")
        case = Case(folder, len(table))
        rows = [
            case.killed("parquet", kills),
            case.killed("hats", max(kills // 5, 1)),
            case.flipped_byte(),
            case.full_disk(),
            case.second_run(),
            *([case.dask()] if has_dask() else []),
        ]
    print(json.dumps([dataclasses.asdict(row) for row in rows]))


class Case:
    """A store of 40 units, and undisturbed catalogues of it to compare with."""

    def __init__(self, folder: Path, n: int) -> None:
        self.folder, self.store, self.n = folder, folder / "store", n
        self.seconds: dict[str, float] = {}
        for format in ("parquet", "hats"):
            start = time.perf_counter()
            assert in_child(lambda format=format: self.go(folder / format, format)) == 0
            self.seconds[format] = time.perf_counter() - start

    def go(self, output: Path, format: str = "parquet", **options: object) -> RunReport:
        return run_catalogue(self.store, output, SYSTEM, errors=False, format=format, **options)  # type: ignore[arg-type]

    def finish(self, output: Path, format: str = "parquet") -> None:
        """Resume without disturbance, and compare: every row once, every bit the same, nothing left over."""
        assert in_child(lambda: self.go(output, format, resume=True)) == 0
        status = read_status(output)
        assert status.complete
        assert (status.rows, len(status.finished)) == (self.n, UNITS)
        assert not list(output.rglob(".*.tmp"))
        found, want = rows_of(output), rows_of(self.folder / format)
        assert list(found) == list(want)
        for name, column in want.items():
            assert len(column) == self.n
            np.testing.assert_array_equal(found[name].view(np.uint8), column.view(np.uint8), err_msg=name)

    def said(self, message: str) -> str:
        """A message, without the place of the temporary folder."""
        return message.replace(f"{self.folder}/", "")

    def killed(self, format: str, kills: int) -> Row:
        """kill -9 at random moments of runs that resume; a catalogue that gets whole on the way is begun anew."""
        rng = np.random.default_rng(1)
        start = time.perf_counter()
        done, whole, half = 0, 0, 0
        output = self.folder / f"killed_{format}_0"
        while done < kills:
            # Longer than a run takes, so that moments near its end are among them.
            delay = rng.uniform(0.02, 1.1) * self.seconds[format]
            ended = in_child(partial(self.go, output, format, resume=True), kill_after=delay)
            if ended == -signal.SIGKILL:
                done += 1
                half += bool(output.exists() and list(output.rglob(".*.tmp")))
            else:
                assert ended == 0
                self.finish(output, format)
                whole += 1
                output = self.folder / f"killed_{format}_{whole}"
        self.finish(output, format)
        seconds = time.perf_counter() - start
        return Row(
            "faults",
            f"kill -9 at {kills} moments, {format}",
            self.n,
            seconds,
            ratios={"kills": float(done), "with a half-written file": float(half), "catalogues": whole + 1.0},
            note=f"{whole + 1} catalogues equal to the undisturbed one; {half} kills left a half-written file",
        )

    def flipped_byte(self) -> Row:
        output = self.folder / "flipped"
        file = open_store(self.store / "XP_07.h5").files[0]
        raw = file.path.read_bytes()
        offset = file._datasets["rp_coefficients"].offset + 12345
        file.path.write_bytes(raw[:offset] + bytes([raw[offset] ^ 4]) + raw[offset + 1 :])
        start = time.perf_counter()
        problems = open_store(self.store).verify()
        assert len(problems) == 1
        assert "XP_07.h5: rp_coefficients" in problems[0]
        assert in_child(lambda: self.go(output)) == 1
        seconds = time.perf_counter() - start
        status = read_status(output)
        assert list(status.failed) == ["XP_07"]
        assert len(status.finished) == UNITS - 1
        file.path.write_bytes(raw)
        self.finish(output)
        return Row(
            "faults", "a flipped byte: one unit fails by name", self.n, seconds, note=self.said(status.failed["XP_07"])
        )

    def full_disk(self) -> Row:
        output = self.folder / "full"

        def limited() -> RunReport:
            size = (self.folder / "parquet" / "XP_00.parquet").stat().st_size // 2
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            return self.go(output)

        start = time.perf_counter()
        assert in_child(limited) == 1
        seconds = time.perf_counter() - start
        status = read_status(output)
        assert len(status.failed) == UNITS
        assert not [path for path in output.iterdir() if path.is_file()]
        self.finish(output)
        return Row(
            "faults",
            "files may not grow: units fail, then resume",
            self.n,
            seconds,
            note=self.said(status.failed["XP_00"]),
        )

    def second_run(self) -> Row:
        output = self.folder / "twice"
        start = time.perf_counter()
        first = fork(lambda: self.go(output))
        while not (output / "_xpjax" / "job.json").exists():
            time.sleep(0.001)
        message = self.folder / "message"

        def second() -> RunReport:
            try:
                return self.go(output, resume=True)
            except ValueError as exc:
                message.write_text(str(exc))
                raise

        assert in_child(second) == 2
        assert f"process {first}" in message.read_text()
        assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == 0
        seconds = time.perf_counter() - start
        self.finish(output)
        return Row("faults", "a second run is refused", self.n, seconds, note=self.said(message.read_text()))

    def dask(self) -> Row:
        from distributed import Client, LocalCluster

        output = self.folder / "dask"
        start = time.perf_counter()
        with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
            victim = next(iter(client.run(os.getpid).values()))

            def kill() -> None:
                while len(list(output.glob("_xpjax/units/*.json"))) < 5:
                    time.sleep(0.01)
                os.kill(victim, signal.SIGKILL)

            killer = threading.Thread(target=kill)
            killer.start()
            report = self.go(output, dask=cluster.scheduler_address)
            killer.join()
        assert report.complete
        assert not report.failed
        seconds = time.perf_counter() - start
        self.finish(output)
        return Row("faults", "a Dask worker is killed", self.n, seconds, note="its units are done by the other")


def rows_of(output: Path) -> dict[str, np.ndarray]:
    """All rows by source_id, and then by whatever differs."""
    import pyarrow.parquet as pq

    folder = output / "dataset" if (output / "dataset").exists() else output
    table = pq.read_table(folder, partitioning=None)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    order = np.argsort(columns["source_id"], kind="stable")
    return {name: column[order] for name, column in columns.items()}


def fork(work: Callable[[], RunReport]) -> int:
    """Work in a child, which ends with 0, 1 where units failed or 2 where it was refused; returns its number."""
    child = os.fork()
    if child == 0:
        status = 3
        with contextlib.suppress(BaseException):
            try:
                status = int(bool(work().failed))
            except ValueError:
                status = 2
        os._exit(status)
    return child


def in_child(work: Callable[[], RunReport], kill_after: float | None = None) -> int:
    """Work in a child, killed after some seconds if it still runs; returns how it ended."""
    child = fork(work)
    if kill_after is not None:
        timer = threading.Timer(kill_after, os.kill, (child, signal.SIGKILL))
        timer.start()
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        timer.cancel()
        return ended
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def has_dask() -> bool:
    import importlib.util

    return importlib.util.find_spec("distributed") is not None


if __name__ == "__main__":
    main()
