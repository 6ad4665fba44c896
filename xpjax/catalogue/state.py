"""The state of a run, in the folder `_xpjax` of its output: begun, finished unit by unit, assembled.

job.json           what was asked for and the units; another question on the same output is refused
units/NAME.json    manifest of a finished unit: input and output with checksums, rows, counts by status, version
failed/NAME.json   why a unit failed; removed when it succeeds
lock-I-of-N        held (flock) while shard I of N runs: it goes with the process, however that ends
partial/           units of a HATS catalogue that is not assembled yet (`xpjax.catalogue.hats`)
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xpjax.catalogue import hats
from xpjax.catalogue.job import STATE, Job, Unit
from xpjax.catalogue.locks import Busy, NoLocks, flock, read_json, write_json
from xpjax.catalogue.parts import UNPLACED
from xpjax.core.errors import XpjaxError, say
from xpjax.core.status import Status
from xpjax.core.version import __version__
from xpjax.io.atomic import expanded
from xpjax.xp import Store

LATELY = 100
"""Units whose pace tells how long the others will take."""
JOB = ("options", "digest", "units")
"""Entries of `job.json` that are needed."""


def check_shard(shard: tuple[int, int]) -> None:
    """Raise XpjaxError for a shard (i, n) that there is not."""
    number, of = shard
    if not (of >= 1 and 1 <= number <= of):
        raise XpjaxError(f"shard {number}/{of}: expected i/n with i within 1..n, as in 1/16")


def begin_run(job: Job, store: Store, units: Sequence[Unit]) -> None:
    """Write what is asked for, or compare it with what was. Raises ValueError where it differs."""
    folder = job.output / STATE
    for name in ("units", "failed", "partial"):
        (folder / name).mkdir(exist_ok=True)
    with flock(folder / "lock-job", wait=True):
        before = read_json(folder / "job.json", *JOB)
        options = before.get("options", job.options)
        for name in {**job.options, **options}:
            old, new = options.get(name), job.options.get(name)
            if old != new:
                raise XpjaxError(
                    f"{job.output} was begun with other options: {name} was {old!r}, now {new!r}; give the same ones, "
                    "or another output"
                )
        listed = [[unit.name, len(unit)] for unit in units]
        if before.get("units") != listed:
            record = {"options": job.options, "digest": job.digest, "store": store.path.name, "units": listed}
            write_json(folder / "job.json", record)


def is_assembled(job: Job) -> bool:
    """Whether a HATS catalogue is assembled."""
    return job.format == "hats" and (job.output / STATE / "catalogue.json").exists()


def is_finished(job: Job, unit: Unit, assembled: bool) -> bool:
    """Whether a unit is done: its manifest is there, and its part. Raises ValueError where its input has changed."""
    record = read_json(job.manifest(unit.name))
    if record.get("options") != job.digest:
        return False
    if not assembled:
        part = job.part(unit.name)
        if not part.exists() or part.stat().st_size != record["output"]["size"]:
            return False
    if not unit.file.damage and record["input"]["rows"] != [unit.start, unit.stop]:
        raise XpjaxError(
            f"{unit.file.path} has changed since {unit.name} was done: rows {record['input']['rows']} then, "
            f"{[unit.start, unit.stop]} now; begin another output"
        )
    return True


def finish_run(job: Job, units: Sequence[Unit]) -> bool:
    """Assemble a HATS catalogue when all units of all shards are done; whether the catalogue is whole."""
    done = is_assembled(job)
    if not all(is_finished(job, unit, done) for unit in units):
        return False
    if job.format != "hats" or done:
        return True
    state = job.output / STATE
    try:
        with flock(state / "lock-assemble"):
            if not is_assembled(job):
                parts = [job.part(unit.name) for unit in units]
                guessed = sum(read_json(job.manifest(unit.name)).get(UNPLACED, 0) for unit in units)
                origin = "center of the HEALPix pixel of order 12 in source_id"
                if {"ra", "dec"} <= {*job.keep}:
                    origin = f"ra, dec of the store; of {guessed} rows without these the {origin}"
                told = {"hats_builder": f"xpjax {__version__}", "xpjax_positions": origin}
                write_json(state / "catalogue.json", hats.assemble(parts, job.output, job.hats_rows, told))
            for unit in units:
                job.part(unit.name).unlink(missing_ok=True)
    except Busy:  # another shard does it
        return False
    return True


def remove_stale(job: Job, units: Sequence[Unit], everything: bool) -> None:
    """Remove what killed runs left half done; the lock says that no other run has these units."""
    names = {path.name for unit in units for path in (job.part(unit.name), job.manifest(unit.name))}
    state = job.output / STATE
    folders = [job.output, state, *(state / name for name in ("units", "failed", "partial"))]
    if everything:
        folders += [job.output / "dataset", *(job.output / "dataset").rglob("Dir=*")]
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            if everything or path.name[1:].rsplit(".", 2)[0] in names:
                path.unlink(missing_ok=True)


def forget_run(job: Job) -> None:
    """Remove the state of a run that was refused before its first unit, where no other shard has begun."""
    state = job.output / STATE
    if len([*state.glob("lock-*-of-*")]) > 1 or any((state / "units").iterdir()):
        return
    with contextlib.suppress(OSError):
        shutil.rmtree(state)
        job.output.rmdir()


@contextlib.contextmanager
def hold_shard(job: Job, shard: tuple[int, int], resume: bool) -> Iterator[None]:
    """Hold the lock of a shard; refuse an output with content, unless it is resumed or another shard's.

    Raises Busy, FileExistsError or OSError.
    """
    output, state = job.output, job.output / STATE
    lock = state / f"lock-{shard[0]}-of-{shard[1]}"
    begun = state.exists()
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"the output {output} is a file; name a directory")
    if not begun and output.exists() and any(output.iterdir()):
        raise FileExistsError(f"the output {output} has content, and not of `xpjax catalogue`; name another directory")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"no directory {output.parent} for the output {output.name}; make it first")
    output.mkdir(exist_ok=True)
    state.mkdir(exist_ok=True)
    again = lock.exists() or (begun and shard[1] == 1)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(flock(lock))
        except NoLocks:
            with contextlib.suppress(OSError):
                if not begun:  # as if nobody had been here
                    lock.unlink()
                    state.rmdir()
                    output.rmdir()
            raise
        for other in state.glob("lock-*-of-*"):
            # Shards of another number would have units in common.
            if other.name.rsplit("-", 1)[1] != str(shard[1]):
                with flock(other, note=False):
                    pass
        if again and not resume:
            option = say("resume=True", "--resume")
            raise FileExistsError(f"the output {output} has content; go on with it with {option}, or name another one")
        yield


def totals(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sources, rows, and counts by status bit in the order of the bits, of several finished units."""
    counts: collections.Counter[str] = collections.Counter()
    for record in records:
        counts.update(record["status"])
    status = {name: counts[name] for name in ("OK", *(str(bit.name) for bit in Status if bit)) if name in counts}
    return {**{name: sum(record[name] for record in records) for name in ("sources", "rows")}, "status": status}


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """Tell how far a catalogue is.

    Parameters
    ----------
    output : Path
        Directory of the catalogue.
    options : mapping
        What the rows depend on.
    finished : tuple of str
        Names of the finished units.
    failed : mapping of str to str
        Why units failed, by name.
    left : tuple of str
        Names of the units that are neither finished nor failed.
    sources, sources_failed, sources_left : int
        Sources of the finished units, of the failed ones, and of those left.
    rows : int
        Rows of the finished units.
    status : mapping of str to int
        How many sources of the finished units have each bit of `Status`.
    seconds : float
        Time that the finished units took [s].
    bytes : int
        What the output takes on the disk.
    rate : float
        Sources per second of the units that were finished last, over all shards; NaN of fewer than two.
    running : tuple of str
        Shards at work, such as 3/16.
    complete : bool
        Whether the catalogue is whole.

    Examples
    --------
    >>> xpjax.xp.write_store_file("store.h5", xpjax.simulate_sources(20, seed=1))
    >>> xpjax.run_catalogue("store.h5", "sdss", "SDSS", errors=False).seconds > 0
    True
    >>> status = xpjax.catalogue.read_status("sdss")
    >>> status.finished, status.left, status.complete
    (('store',), (), True)
    """

    output: Path
    options: Mapping[str, Any]
    finished: tuple[str, ...]
    failed: Mapping[str, str]
    left: tuple[str, ...]
    sources: int
    sources_failed: int
    sources_left: int
    rows: int
    status: Mapping[str, int]
    seconds: float
    bytes: int
    rate: float
    running: tuple[str, ...]
    complete: bool


def read_status(output: str | os.PathLike[str]) -> RunStatus:
    """Read how far the catalogue in a directory is, from the manifests in it.

    Parameters
    ----------
    output : path
        Directory of the catalogue.

    Returns
    -------
    RunStatus
        Units that are finished, failed and left, rows, and counts by status.

    Raises
    ------
    XpjaxError
        If the directory holds no run.

    Examples
    --------
    >>> xpjax.xp.write_store_file("store.h5", xpjax.simulate_sources(20, seed=1))
    >>> report = xpjax.run_catalogue("store.h5", "sdss", "SDSS", errors=False, shard=(1, 2))
    >>> xpjax.catalogue.read_status("sdss").complete
    True
    """
    output = expanded(output)
    state = output / STATE
    plan = read_json(state / "job.json", *JOB)
    if not plan:
        raise XpjaxError(f"{output} holds no catalogue run (no {STATE}/job.json)")
    done, failed, left, n = [], {}, [], dict(plan["units"])
    ends: list[tuple[float, int]] = []
    for name in n:
        record = read_json(manifest := state / "units" / f"{name}.json")
        if record.get("options") == plan["digest"]:
            done.append(record)
            ends.append((manifest.stat().st_mtime, record["sources"]))
        elif failure := read_json(state / "failed" / f"{name}.json"):
            failed[name] = failure["error"]
        else:
            left.append(name)
    running = []
    for path in sorted(state.glob("lock-*-of-*")):
        try:
            with flock(path, note=False):
                pass
        except Busy:
            running.append(path.name.removeprefix("lock-").replace("-of-", "/"))
        except NoLocks:  # then it is not known
            break
    whole = plan["options"]["format"] != "hats" or (state / "catalogue.json").exists()
    return RunStatus(
        output, plan["options"], tuple(record["unit"] for record in done), failed, tuple(left), **totals(done),
        sources_failed=sum(n[name] for name in failed), sources_left=sum(n[name] for name in left),
        seconds=sum(record["seconds"] for record in done), bytes=disk_used(output), rate=_rate(ends),
        running=tuple(running),
        complete=whole and 0 < len(n) == len(done),
    )  # fmt: skip


def _rate(ends: Sequence[tuple[float, int]]) -> float:
    """Sources per second of the units that ended last, from when each did and its sources."""
    last = sorted(ends)[-LATELY:]
    if len(last) < 2 or last[-1][0] <= last[0][0]:
        return float("nan")
    return sum(n for _, n in last[1:]) / (last[-1][0] - last[0][0])


def disk_used(output: Path) -> int:
    """Bytes of all files in a directory, whatever comes and goes in it meanwhile."""
    total = 0
    for folder, _, names in os.walk(output):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_size
    return total
