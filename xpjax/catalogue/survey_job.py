"""A survey that is calibrated in units: what is to be done, and where what was done lies.

_xpjax/job.json           what was asked for; another question on the same output is refused
_xpjax/DIGEST/rows/       rows of batches of tables, later of units: work in progress with these options
  shares/STEP/            what each batch or unit has to tell the others in a step
  told/STEP.h5            what all of them together say
  locks/                  of what processes are at, and of processes
_xpjax/units/NAME.json    manifest of a finished unit
units/NAME/               its products: zeropoints.ecsv, solution.h5, calibrated.parquet
zeropoints.ecsv, solution.h5    of the whole survey, when all units are finished

A share is written whole or not at all, so that an item of a step is done or was never begun. Each is held by a lock
that goes with its process: any number of processes, on any number of machines that see the output, do what is left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xpjax.catalogue.job import STATE
from xpjax.catalogue.locks import flock, read_json, write_json
from xpjax.catalogue.state import JOB
from xpjax.core.errors import XpjaxError, say
from xpjax.core.version import __version__
from xpjax.io.tables import split_part
from xpjax.survey.exposures import Step, steps
from xpjax.survey.reading import SurveyConfig, config_from, depends_on_airmass

READ, SHIFTS, PREPARE, PRODUCTS = "read", "shifts", "prepare", "products"
BATCHES, BATCH_BYTES = 16, 2**28
"""Least number of batches of many files, and most bytes of one."""


@dataclasses.dataclass(frozen=True)
class SurveyJob:
    """All that a process needs to do its share of a calibration in units; plain data, to be sent to other machines."""

    output: Path
    files: tuple[str, ...]
    table: Mapping[str, Any]
    folder: Path
    """Of the configuration, whose names and values `table` has."""
    known: Mapping[str, str]
    """Files of the exposures, by their names."""
    units: str
    keep: tuple[str, ...] = ()
    devices: str | int | None = None
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    called: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the call says for each of the files, as products name them."""

    @functools.cached_property
    def config(self) -> SurveyConfig:
        """The configuration."""
        return config_from(self.table, self.folder)

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """What the products depend on, as JSON: a run is only taken up with the same."""
        return {
            "format": "survey", "units": self.units, "keep": list(self.keep), "version": __version__,
            "configuration": json.loads(json.dumps(self.table)), "folder": str(self.folder),
            "files": [[name, _size(name)] for name in self.files],
            "further files": sorted(_further(self.table, self.folder)),
        }  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to other machines: nothing that they can find again."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def digest(self) -> str:
        """The options in short."""
        return hashlib.sha256(json.dumps(self.options, sort_keys=True).encode()).hexdigest()[:16]

    @functools.cached_property
    def batches(self) -> tuple[tuple[str, ...], ...]:
        """The files that are read at a time."""
        sizes = [_size(name) for name in self.files]
        most = min(sum(sizes) / BATCHES, BATCH_BYTES)
        out: list[list[str]] = []
        full = 0.0
        for name, size in zip(self.files, sizes, strict=True):
            if not out or full + size > most:
                out.append([])
                full = 0.0
            out[-1].append(name)
            full += size
        return tuple(map(tuple, out))

    @functools.cached_property
    def steps(self) -> dict[str, Step]:
        """The steps of the calibration by the names of their files."""
        return {step.name.replace(" ", "-"): step for step in steps(self.config.settings)}

    @functools.cached_property
    def phases(self) -> tuple[str, ...]:
        """All that is to be done, in order: the first for batches, the others for units."""
        return (READ, *[SHIFTS] * depends_on_airmass(self.config), PREPARE, *self.steps, PRODUCTS)

    @property
    def state(self) -> Path:
        """The folder of what is no product."""
        return self.output / STATE

    @property
    def work(self) -> Path:
        """The folder of work in progress; that of other options is another one."""
        return self.state / self.digest

    def as_called(self, file: str) -> str:
        """A file, or a table in it, as the call names it."""
        path, _ = split_part(Path(file))
        own = self.called.get(str(path))
        return file if own is None else own + file.removeprefix(str(path))

    def rows(self, name: str) -> Path:
        """Where the rows of a batch or unit lie."""
        return self.work / "rows" / f"{name}.h5"

    def share(self, phase: str, name: str) -> Path:
        """Where it lies what a batch or unit has to tell; of the products the manifest."""
        return self.manifest(name) if phase == PRODUCTS else self.work / "shares" / phase / f"{name}.h5"

    def told(self, phase: str) -> Path:
        """Where it lies what all of them say."""
        return self.work / "told" / f"{phase}.h5"

    def lock(self, phase: str, name: str) -> Path:
        """The lock of an item of a phase, or of its reduction."""
        return self.work / "locks" / f"{phase}-{name}"

    def manifest(self, name: str) -> Path:
        """Where the manifest of a finished unit lies."""
        return self.state / "units" / f"{name}.json"

    def products(self, name: str) -> Path:
        """The folder of the products of a unit."""
        return self.output / "units" / name

    def finished(self, name: str) -> dict[str, Any]:
        """The manifest of a unit, empty where it is not finished by this job."""
        found = read_json(self.manifest(name))
        return found if found.get("options") == self.digest else {}


def _size(name: str) -> int:
    return split_part(Path(name))[0].stat().st_size


def _further(value: Any, folder: Path) -> list[list[Any]]:
    """Names and sizes of files that a configuration names."""
    if isinstance(value, Mapping | list | tuple):
        parts = value.values() if isinstance(value, Mapping) else value
        return [found for part in parts for found in _further(part, folder)]
    path = folder / value if isinstance(value, str) and value else None
    return [[value, path.stat().st_size]] if path is not None and path.is_file() else []


PLACES = ("zeropoints.ecsv", "solution.h5")
"""Products of the whole survey."""


def begin(job: SurveyJob, *, overwrite: bool = False) -> SurveyJob:
    """Begin a run, or take up what another one began: gives the job with that one's record.

    Raises FileExistsError for an output with other contents, XpjaxError where it was begun with other options.
    """
    output, state, digest = job.output, job.state, job.digest  # of files that are there
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"the output {output} is a file; name a directory")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"no directory {output.parent} for the output {output.name}; make it first")
    option = say("overwrite=True", "--overwrite")
    there = [name for name in (*PLACES, "calibrated.parquet", "units") if (output / name).exists()]
    if there and not state.exists() and not overwrite:
        raise FileExistsError(f"the output {output / there[0]} exists; name another directory, or add {option}")
    output.mkdir(exist_ok=True)
    state.mkdir(exist_ok=True)
    with flock(state / "lock-job", wait=True):
        before = read_json(state / "job.json", *JOB)
        if before and before["options"].get("format") != job.options["format"]:
            raise FileExistsError(f"the output {output} holds a catalogue; name another directory")
        same = before.get("digest") == digest
        begun = before.get("complete") or (before and any((state / before["digest"]).glob("shares/*/*.h5")))
        if begun and not same and not overwrite:
            raise XpjaxError(
                f"{output} was begun with {_other(before['options'], job.options)}; give the same, another output, or "
                f"{option} to begin anew"
            )
        if before and (not same or (overwrite and before.get("complete"))):
            _clear(job, before["digest"])
            before = {}
        if not before:
            before = {"options": job.options, "digest": digest, "units": [], "record": dict(job.record)}
            write_json(state / "job.json", before)
        (state / "units").mkdir(exist_ok=True)
        (job.work / "locks").mkdir(parents=True, exist_ok=True)
    return dataclasses.replace(job, record=before["record"])


@contextlib.contextmanager
def at_work(job: SurveyJob) -> Iterator[None]:
    """Hold the lock of a process that works on a job, so that no other options replace it."""
    own = job.lock("process", f"{socket.gethostname()}-{os.getpid()}")
    with flock(own):
        yield
    own.unlink(missing_ok=True)


def _other(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between the options of two jobs."""
    for name in new:
        if old.get(name) != new[name]:
            if name == "files":
                a, b = ({str(file): size for file, size in one["files"]} for one in (old, new))
                strange = sorted(set(a.items()) ^ set(b.items()))
                said = f"{Path(strange[0][0]).name} is new, absent or has changed" if strange else "in another order"
                return f"other files: {said}"
            if name in ("configuration", "further files"):
                return "another configuration, or other files that it names"
            return f"other options: {name} was {old.get(name)!r}, now {new[name]!r}"
    return "other options"


def _clear(job: SurveyJob, digest: str) -> None:
    """Remove what an earlier run of this digest left. Raises Busy where a process is at it."""
    for lock in (job.state / digest / "locks").glob("process-*"):
        with flock(lock, note=False):
            pass
    unused([job.state / digest, job.state / "units", job.output / "units"])
    unused([job.output / n for n in (*PLACES, "calibrated.parquet", "wide.parquet", "cross_validation.parquet")])


def note(job: SurveyJob, **entries: Any) -> None:
    """Change entries of `job.json`."""
    with flock(job.state / "lock-job", wait=True):
        write_json(job.state / "job.json", {**read_json(job.state / "job.json", *JOB), **entries})


def read_job(job: SurveyJob) -> dict[str, Any]:
    """What `job.json` says."""
    return read_json(job.state / "job.json", *JOB)


def is_complete(job: SurveyJob) -> bool:
    """Whether all products are there."""
    return bool(read_job(job).get("complete"))


def clean(job: SurveyJob) -> None:
    """Remove what is not needed once all products are there, and what killed processes left half written."""
    for folder in (job.output, job.state, job.state / "units", *(job.output / "units").glob("*")):
        unused([*folder.glob(".*.tmp")])
    unused([job.work])


def names_of_batches(job: SurveyJob) -> list[str]:
    """The batches by name."""
    return [f"{k:06d}" for k in range(len(job.batches))]


def unused(paths: Sequence[Path]) -> None:
    """Remove files and folders that are not needed any more."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
