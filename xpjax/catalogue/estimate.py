"""What a run will take: its time, disk and memory, from a sample of it on the machine that will do it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np

from xpjax.catalogue import hats
from xpjax.catalogue.job import BLOCK_ROWS, STATE, Job, Unit
from xpjax.catalogue.parts import WHOLE
from xpjax.catalogue.plan import CatalogueOptions, Plan
from xpjax.catalogue.products import Labels
from xpjax.catalogue.stages import process
from xpjax.catalogue.state import is_assembled, is_finished
from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue, Record
from xpjax.io.atomic import ABANDONED
from xpjax.io.results import TableResult
from xpjax.synthetic import AnySystem
from xpjax.xp import Store

SAMPLE_BYTES = 2**30
"""Bytes of sources that a sample reads: eight chunks, in which a run reaches its pace and its memory."""
SAMPLE_UNITS = 4, 64
"""The least and the most units of which a sample has sources: over all of the store, as sources differ along it."""
PASS_SECONDS = 8.0
"""About how long each of both passes over a sample takes at most."""
LONG_BYTES = 2**34
"""A run that reads less is over about when a sample would be."""
LONG_FITS = 2**16
"""The same for label fits: sources."""
WORKING = 3
"""How often a part is in memory that is not written in groups of rows: as pieces, joined, and to be written."""
PIXELS = 4 * hats.THREADS
"""How many pixels of a HATS catalogue memory holds: in each thread as files, joined, by position, and to be written."""


@dataclasses.dataclass(frozen=True, repr=False)
class RunEstimate(Record, TableResult):
    """Tell what a run will take, of units that are not finished.

    Parameters
    ----------
    output : Path
        Directory of the catalogue.
    units, sources : int
        Units and sources that are left.
    bytes_read : int
        Bytes of the store that they need.
    bytes_written : int
        Bytes of their rows in the catalogue; without a sample those of floats and identifiers alone, and 0 of label
        fits and where a condition chooses sources.
    bytes_needed : int
        The most bytes that the disk holds on the way, parts of a HATS catalogue before it is assembled included.
    bytes_free : int
        Bytes that the output's disk has left.
    seconds : float
        Duration [s] if the store comes from the disk; NaN without a sample.
    seconds_cached : float
        Duration [s] if the store lies in memory already; NaN without a sample.
    memory : int
        The most bytes of memory that this process holds; 0 without a sample.
    sampled : int
        Sources of the sample, 0 of none.

    Examples
    --------
    >>> xpjax.xp.write_store_file("store.h5", xpjax.simulate_sources(20, seed=1))
    >>> estimate = xpjax.catalogue.estimate_catalogue("store.h5", "sdss", "SDSS", errors=False)
    >>> estimate.sources, estimate.sampled, estimate.fits
    (20, 20, True)
    """

    output: Path
    units: int
    sources: int
    bytes_read: int
    bytes_written: int
    bytes_needed: int
    bytes_free: int
    seconds: float = float("nan")
    seconds_cached: float = float("nan")
    memory: int = 0
    sampled: int = 0

    @property
    def fits(self) -> bool:
        """Whether the disk has room for the catalogue."""
        return self.bytes_needed <= self.bytes_free

    def catalogue(self) -> Catalogue:
        """One row."""
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "output"}
        units = {name: "byte" for name in told if name.startswith(("bytes", "memory"))}
        units |= {name: "s" for name in told if name.startswith("seconds")}
        return Catalogue(
            {name: np.array([value]) for name, value in told.items()}, units, meta={"output": str(self.output)}
        )

    def __str__(self) -> str:
        written = f"{size(self.bytes_written)} to write" if self.bytes_written else "rows of unknown size to write"
        if self.bytes_needed > self.bytes_written:
            written += f", {size(self.bytes_needed)} on the way"
        units = f"{self.units:,} unit{'s' * (self.units != 1)}"
        lines = [
            f"{self.sources:,} sources in {units}: {size(self.bytes_read)} to read, {written}, "
            f"{size(self.bytes_free)} free"
        ]
        if self.sampled:
            lines.append(
                f"about {duration(self.seconds)} from the disk, {duration(self.seconds_cached)} if the store is in "
                f"memory already; {size(self.memory)} of memory; from {self.sampled:,} sources"
            )
        if not self.fits:
            lines.append(f"the disk has no room for it: {size(self.bytes_needed - self.bytes_free)} are missing")
        return "\n".join(lines)


def estimate_catalogue(
    store: Store | str | os.PathLike[str],
    output: str | os.PathLike[str],
    systems: AnySystem | Sequence[AnySystem] | None = None,
    *,
    devices: Devices = None,
    **options: Unpack[CatalogueOptions],
) -> RunEstimate:
    """Estimate time, disk and memory of a catalogue from a sample of its store, before it is made.

    Parameters
    ----------
    store, output, systems, devices
        As for `xpjax.run_catalogue`. The sample is written beside the output, or into it where it was begun, and
        removed.
    **options
        Those of `xpjax.run_catalogue` that say what the catalogue is: errors, fitter, format, where, shard, ...

    Returns
    -------
    RunEstimate
        What is left to be done, and what it will take.

    Raises
    ------
    XpjaxError
        For wrong options, and where no source of the sample can be read.
    OSError
        If the output cannot be written where it is to be.

    Notes
    -----
    The sample is of units spread over the store, some eight chunks of 128 MB but no more than takes some eight
    seconds. It is done twice, after it was dropped from the page cache and from it, in the stages of a run, each part
    synced to the disk. A run from the disk that is busier than it was for the sample takes longer.

    Examples
    --------
    >>> xpjax.xp.write_store_file("store.h5", xpjax.simulate_sources(20, seed=1))
    >>> estimate = xpjax.catalogue.estimate_catalogue("store.h5", "sdss", "SDSS", errors=False)
    >>> estimate.bytes_written > 0 and estimate.seconds > 0
    True
    >>> estimate.to_pandas().shape
    (1, 10)
    """
    plan = Plan.of(store, output, systems, **options)
    job = plan.job
    folder = _writable(job.output)
    assembled = is_assembled(job)
    todo = [unit for unit in plan.own if not is_finished(job, unit, assembled)]
    return sampled(plan, todo, of_plan(plan, todo), devices, folder)


def of_plan(plan: Plan, todo: Sequence[Unit]) -> RunEstimate:
    """What is known of units without a sample."""
    n = sum(map(len, todo))
    read = 0.0
    for unit in todo:
        file = unit.file
        if not file.damage:
            needed = plan.job.row_bytes(file) * len(unit)
            read += min(needed, file.path.stat().st_size * len(unit) / len(file)) if len(file) else 0
    row = 0
    if plan.empty is not None and not plan.job.where:  # of a condition it is not known how many it chooses
        plain = [column for name, column in plan.empty.columns.items() if column.dtype.kind == "f" or name in WHOLE]
        row = sum(column.dtype.itemsize * int(np.prod(column.shape[1:])) for column in plain)
    written = n * row
    free = shutil.disk_usage(_existing(plan.job.output)).free
    needed = written + (_assembled(plan, n) * row if plan.job.format == "hats" else 0)
    return RunEstimate(plan.job.output, len(todo), n, int(read), written, needed, free)


def _assembled(plan: Plan, left: int) -> int:
    """Sources of the units that a HATS catalogue is yet to be assembled of."""
    return 0 if is_assembled(plan.job) else max(left, sum(map(len, plan.own)))


def is_long(plan: Plan, estimate: RunEstimate) -> bool:
    """Whether a run is so long that a sample takes a small part of its time."""
    if isinstance(plan.job.content, Labels):
        return estimate.sources >= LONG_FITS
    return estimate.bytes_read >= LONG_BYTES


def check_room(plan: Plan, estimate: RunEstimate) -> None:
    """Raise XpjaxError where the disk has no room for a catalogue.

    How many sources a condition chooses, a sample tells too coarsely to refuse them.
    """
    if estimate.fits or plan.job.where:
        return
    option = say("errors=False", "--no-errors")
    raise XpjaxError(
        f"{estimate.output}: the catalogue needs {size(estimate.bytes_needed)} more, and its disk has "
        f"{size(estimate.bytes_free)} free; name an output on another disk, or write less: {option}, fewer systems or "
        f"columns, or a condition on the sources ({say('where', '--where')})"
    )


# --- the sample -------------------------------------------------------------------------------------------------------


def sampled(plan: Plan, todo: Sequence[Unit], bare: RunEstimate, devices: Devices, folder: Path) -> RunEstimate:
    """What units will take, by a sample of them whose output is in a folder for as long as it takes.

    Raises XpjaxError where no unit of the sample can be done.
    """
    whole = [unit for unit in todo if len(unit) and not unit.file.damage]
    if not whole:
        return bare
    prefix = f".{plan.job.output.name}-sample-"
    for path in folder.glob(f"{prefix}*"):  # of killed processes
        if time.time() - path.stat().st_mtime > ABANDONED:
            shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=prefix) as name:
        job = dataclasses.replace(plan.job, output=Path(name))
        for state in ("units", "failed", "partial"):
            (job.output / STATE / state).mkdir(parents=True)
        # The first compiles, and tells how many the sample may have.
        first = _Pass.of(job, _spread(job, whole, SAMPLE_BYTES // 32, SAMPLE_UNITS[0]), devices)
        second = _Pass.of(job, first.units, devices)
        rows = int(PASS_SECONDS / max(second.pace, 1e-9))
        units = _spread(job, whole, SAMPLE_BYTES, SAMPLE_UNITS[1], rows)
        _forget(units)
        disk = _Pass.of(job, units, devices)
        cached = _Pass.of(job, units, devices)
        assembling = final = pixel = 0.0
        if job.format == "hats" and cached.rows:
            started = time.perf_counter()
            hats.assemble([job.part(unit.name) for unit in cached.done], job.output, job.hats_rows, {})
            assembling = (time.perf_counter() - started) / cached.sources
            pixels = [path.stat().st_size for path in job.output.rglob("Npix=*.parquet")]
            final, pixel = sum(pixels) / cached.sources, max(pixels)
    n, whole_rows = bare.sources, _assembled(plan, bare.sources)
    part = cached.bytes / cached.sources
    # Beyond a sample's memory: of formats that hold larger things than a group of rows.
    larger = WORKING * part * (max(map(len, whole)) - max(map(len, units))) if job.format != "parquet" else 0
    larger_pixels = PIXELS * (min(job.hats_rows, whole_rows) * final - pixel)
    others = max(first.seconds - second.seconds, 0.0) + whole_rows * assembling
    return dataclasses.replace(
        bare,
        bytes_written=int(n * (final or part)),
        bytes_needed=int(n * part + whole_rows * final),
        seconds=others + n * max(disk.pace, cached.pace),
        seconds_cached=others + n * cached.pace,
        memory=_peak_bytes() + int(max(larger, larger_pixels, 0)),
        sampled=cached.sources,
    )


@dataclasses.dataclass(frozen=True)
class _Pass:
    """A pass over a sample: units as asked for and done, sources read, rows and bytes written, and how long it took.

    pace: seconds of a source once the stages are filled.
    """

    units: Sequence[Unit]
    done: Sequence[Unit]
    sources: int
    rows: int
    bytes: int
    seconds: float
    pace: float

    @classmethod
    def of(cls, job: Job, units: Sequence[Unit], devices: Devices) -> _Pass:
        """Do the units. Raises XpjaxError where none can be done."""
        stamps: list[tuple[float, int]] = []
        started = time.perf_counter()
        records = list(process(job, units, devices, lambda n: stamps.append((time.perf_counter(), n))))
        ended = time.perf_counter()
        good = [record for record in records if "error" not in record]
        if not good:
            raise XpjaxError(f"no unit of a sample can be done, such as {records[0]['unit']}: {records[0]['error']}")
        first, last = stamps[0], stamps[-1]
        # Filling the stages counts once in a run, and so it is left out of a pass that has enough chunks besides.
        if last[1] >= 4 * first[1]:
            pace = (ended - first[0]) / (last[1] - first[1])
        else:
            pace = (ended - started) / max(last[1], 1)
        names = {record["unit"] for record in good}
        return cls(
            units, [unit for unit in units if unit.name in names], sum(record["sources"] for record in good),
            sum(record["rows"] for record in good), sum(record["output"]["size"] for record in good),
            ended - started, pace,
        )  # fmt: skip


def _spread(job: Job, units: Sequence[Unit], size: int, most: int, rows: int | None = None) -> list[Unit]:
    """Units evenly over all, whole or their first rows, of about so many bytes, and of these rows at most in all."""
    row = max(job.row_bytes(unit.file) for unit in units)
    wanted = max(min(size // row, rows or size), 1)
    usual = int(np.median([len(unit) for unit in units]))
    n = int(min(max(-(-wanted // usual), min(SAMPLE_UNITS[0], most)), most, len(units)))
    each = -(-max(wanted // n, 1) // BLOCK_ROWS) * BLOCK_ROWS
    picked = [units[k] for k in ((np.arange(n) + 0.5) / n * len(units)).astype(int)]
    return [dataclasses.replace(unit, stop=min(unit.start + each, unit.stop)) for unit in picked]


def _forget(units: Sequence[Unit]) -> None:
    """Drop the files of units from the page cache, where the system lets one."""
    if hasattr(os, "posix_fadvise"):
        for path in {unit.file.path for unit in units}:
            with contextlib.suppress(OSError), path.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# --- the machine ------------------------------------------------------------------------------------------------------


def _existing(path: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _writable(output: Path) -> Path:
    """Where a sample is written: the state of an output that was begun, else beside it. Raises OSError."""
    if not output.parent.is_dir():
        raise FileNotFoundError(f"no directory {output.parent} for the output {output.name}; make it first")
    state = output / STATE
    folder = state if state.is_dir() else output.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    return folder


def _peak_bytes() -> int:
    """The largest resident set of this process so far."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        # getrusage counts that of the parent before exec too.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 0


def size(n: float) -> str:
    """Bytes as a text."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n >= scale:
            return f"{n / scale:.{1 if n < 100 * scale else 0}f} {unit}"
    return f"{n / 1e3:.0f} kB"


def duration(seconds: float) -> str:
    """Seconds as a text."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
