"""A survey calibrated in units, by night or band, on any number of machines: killed, resumed and never losing work."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xpjax.catalogue.dask import connected, run_tasks
from xpjax.catalogue.locks import Busy, flock
from xpjax.catalogue.state import check_shard
from xpjax.catalogue.survey_files import read_plan
from xpjax.catalogue.survey_job import (
    PRODUCTS,
    READ,
    SurveyJob,
    at_work,
    begin,
    clean,
    is_complete,
    names_of_batches,
    read_job,
)
from xpjax.catalogue.survey_units import do_item, reduce_phase
from xpjax.core import engine
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import json_entry
from xpjax.io.atomic import expanded
from xpjax.io.tables import split_part
from xpjax.survey import provenance
from xpjax.survey.exposures import Calibration, read_solution
from xpjax.survey.reading import (
    SurveyConfig,
    all_calibrated,
    check_units,
    config_of_parts,
    frame_lines,
    name_tables,
    read_config,
)

PAUSE = 0.2
"""Seconds between looks at what other processes do."""
Progress = Callable[[str, int, int], None]
"""Called with the name of a phase, its items that are done, and all of them."""


@dataclasses.dataclass(frozen=True)
class UnitsReport:
    """Tell what a calibration in units did.

    Parameters
    ----------
    output : Path
        Directory of the products.
    units : tuple of str
        Names of all units.
    finished : tuple of str
        Those that this process finished; others were before, or by other processes.
    rows, calibrated : int
        Measurements of all units, and those that have a calibrated magnitude.
    seconds : float
        Duration [s].

    Examples
    --------
    >>> columns = {"star": "id", "magnitude": "m", "magnitude_error": "e", "model": "M", "night": "night"}
    >>> config = {"columns": columns, "model": {"position_order": 0, "color_order": 0, "magnitude_order": 0}}
    >>> k = np.arange(20)
    >>> for name in ("a", "b"):
    ...     table = {"id": k, "m": 14 + k / 9, "e": np.full(20, 0.01), "M": 17 + k / 9, "night": [name] * 20}
    ...     xpjax.write(f"{name}.parquet", table)
    >>> report = xpjax.catalogue.calibrate_units(["a.parquet", "b.parquet"], config, "solution")
    >>> report.units, report.rows, report.solution().fits.zero_point.round(3).tolist()
    (('a', 'b'), 40, [3.0, 3.0])
    """

    output: Path
    units: tuple[str, ...]
    finished: tuple[str, ...]
    rows: int
    calibrated: int
    seconds: float

    def solution(self) -> Calibration:
        """Return the solution of the whole survey.

        Returns
        -------
        Calibration
            What `solution.h5` holds.
        """
        return read_solution(self.output)

    @property
    def complete(self) -> bool:
        """Whether every exposure that has a name and a band has a zero-point."""
        solution = self.solution()
        return all_calibrated(solution.frames, solution.fits)

    def lines(self) -> list[str]:
        """What is worth telling."""
        solution = self.solution()
        return [*json_entry(solution.record, "account"), *frame_lines(solution.frames, solution.fits)]


def calibrate_units(
    files: Sequence[str | os.PathLike[str]],
    config: SurveyConfig | str | Path | Mapping[str, object],
    output: str | os.PathLike[str],
    *,
    units: str = "night",
    keep: Sequence[str] = (),
    shard: tuple[int, int] = (1, 1),
    dask: str | None = None,
    devices: str | int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    record: Mapping[str, object] | None = None,
) -> UnitsReport:
    """Calibrate a survey in units, by night or band: any number of processes share the work.

    No more than one unit, or some of the files, is in memory. The same call again, here or on another machine that sees
    the output, takes up what is left; what a killed process was at is done again.

    Parameters
    ----------
    files : sequence of path
        Tables of detections.
    config : SurveyConfig, path or mapping
        What the columns mean, the standards and the model.
    output : path
        Directory for `zeropoints.ecsv` and `solution.h5`, and `units/NAME/` with the products of each unit.
    units : {"night", "band", "night+band"}
        What exposures of a unit have in common.
    keep : sequence of str
        Columns of the tables to pass on.
    shard : (int, int)
        (i, n): begin with every n-th item from the i-th on, for one of n processes, and then help the others.
    dask : str, optional
        "local", a number of local workers, or the address of a Dask scheduler whose workers see the same files.
    devices : str or int, optional
        Device; by default the first of JAX.
    overwrite : bool
        Whether to replace products of another run.
    progress : callable, optional
        Called with the name of a phase, the number of its items that are done, and of all.
    record : mapping, optional
        Metadata of the products.

    Returns
    -------
    UnitsReport
        The units, and what was calibrated.

    Raises
    ------
    XpjaxError
        If configuration or tables are wrong, or the output was begun with other ones.
    FileExistsError
        If the output has other products, unless overwrite.

    Notes
    -----
    Results are those of `calibrate_survey`, of which units make the sums one by one: they agree to rounding, 1e-12 mag.

    Examples
    --------
    >>> columns = {"star": "id", "magnitude": "m", "magnitude_error": "e", "model": "M", "night": "night"}
    >>> config = {"columns": columns, "model": {"position_order": 0, "color_order": 0, "magnitude_order": 0}}
    >>> k = np.arange(20)
    >>> for name in ("a", "b"):
    ...     table = {"id": k, "m": 14 + k / 9, "e": np.full(20, 0.01), "M": 17 + k / 9, "night": [name] * 20}
    ...     xpjax.write(f"{name}.parquet", table)
    >>> xpjax.catalogue.calibrate_units(["a.parquet", "b.parquet"], config, "solution").units
    ('a', 'b')
    """
    started = time.perf_counter()
    check_units(units)
    _check_shard(shard, dask)
    job = begin(_job(files, config, output, units, keep, devices, record), overwrite=overwrite)
    finished = _finish(job, dask, shard, progress)
    names = [name for name, _ in read_job(job)["units"]]
    rows, done = (sum(job.finished(name)[what] for name in names) for what in ("rows", "calibrated"))
    return UnitsReport(job.output, tuple(names), finished, rows, done, time.perf_counter() - started)


def _check_shard(shard: tuple[int, int], dask: str | None) -> None:
    check_shard(shard)
    if dask is not None and shard != (1, 1):
        raise XpjaxError(
            f"{say('shard=', '--shard')} has no effect with {say('dask=', '--dask')}, which shares all units out among "
            "its workers: leave one of them out"
        )


def _finish(job: SurveyJob, dask: str | None, shard: tuple[int, int], progress: Progress | None) -> tuple[str, ...]:
    """Do what is left of a job; the units that were finished here."""
    finished: list[str] = []
    if dask is None:
        engine.find_devices(job.devices)
    if is_complete(job):
        clean(job)
        return ()
    try:
        with at_work(job), _workers(job, dask, shard) as work:
            for phase in job.phases:
                mine = _do_phase(job, phase, work, progress)
                finished += mine if phase == PRODUCTS else []
    except FileNotFoundError:  # another process has ended the work, and removed what was in progress
        if not is_complete(job):
            raise
    return tuple(finished)


def _job(
    files: Sequence[str | os.PathLike[str]],
    config: SurveyConfig | str | Path | Mapping[str, Any],
    output: str | os.PathLike[str],
    units: str,
    keep: Sequence[str],
    devices: str | int | None,
    record: Mapping[str, Any] | None,
) -> SurveyJob:
    """What is to be done. Raises XpjaxError, also for files that are not there."""
    paths = [expanded(file).absolute() for file in files]
    if not paths:
        raise XpjaxError("there are no files to calibrate")
    chosen = config if isinstance(config, SurveyConfig) else read_config(config)
    named = name_tables(paths, chosen)
    settled = config_of_parts(paths, chosen)
    about = {**provenance(), **(record or {})}
    called = {str(split_part(path)[0]): str(split_part(file)[0]) for path, file in zip(paths, files, strict=True)}
    whole = expanded(output).absolute()
    return SurveyJob(
        whole, tuple(map(str, paths)), settled.table, settled.folder, dict(named.files), units, tuple(keep), devices,
        about, called,
    )  # fmt: skip


Work = Callable[[str, list[str]], Iterator[str]]
"""Does items of a phase, by name; gives the name of each that is done, and ends when all are, whoever did them."""


@contextlib.contextmanager
def _workers(job: SurveyJob, dask: str | None, shard: tuple[int, int]) -> Iterator[Work]:
    """What does the items of a phase: this process with others like it, or Dask's workers."""
    if dask is None:
        yield lambda phase, names: _work(job, phase, names, shard)
        return
    with connected(dask) as client:

        def on_dask(phase: str, names: list[str]) -> Iterator[str]:
            tasks = {name: (job, phase, name) for name in names}
            for name, _, error in run_tasks(client, do_item, tasks, f"{job.digest}-{phase}"):
                if isinstance(error, XpjaxError | OSError):
                    raise error
                if error is not None:
                    said = f"{phase} of {name} failed: {type(error).__name__}: {error}"
                    raise XpjaxError(f"{said}; the same call again takes it up") from error
                yield name

        yield on_dask


def _do_phase(job: SurveyJob, phase: str, work: Work, progress: Progress | None) -> list[str]:
    """Do what is left of a phase; the items that were done here."""
    told = job.told(phase)
    if told.exists() or is_complete(job):
        return []
    names = names_of_batches(job) if phase == READ else list(read_plan(job.told(READ)).units)
    left = [name for name in names if not is_done(job, phase, name)]
    mine = []
    for k, name in enumerate(work(phase, left), len(names) - len(left) + 1):
        mine.append(name)
        if progress is not None:
            progress(phase, k, len(names))
    if not is_complete(job):
        with flock(job.lock(phase, "whole"), wait=True):
            if not (told.exists() or is_complete(job)):
                reduce_phase(job, phase)
    return mine


def is_done(job: SurveyJob, phase: str, name: str) -> bool:
    """Whether an item of a phase is done."""
    if phase == PRODUCTS:
        return bool(job.finished(name))
    return job.share(phase, name).exists() or job.told(phase).exists() or is_complete(job)


def _work(job: SurveyJob, phase: str, names: list[str], shard: tuple[int, int]) -> Iterator[str]:
    """Do items that no other process is at, a shard's own first, until all are done."""
    number, of = shard
    own = names[number - 1 :: of]
    left = [*own, *(name for name in names if name not in {*own})]
    while left:
        for name in list(left):
            if not is_done(job, phase, name):
                try:
                    with flock(job.lock(phase, name)):
                        if not is_done(job, phase, name):
                            do_item(job, phase, name)
                            yield name
                except Busy:
                    continue
            left.remove(name)
        if left:
            time.sleep(PAUSE)
