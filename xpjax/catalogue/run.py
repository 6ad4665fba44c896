"""From a store to a catalogue, file by file: resumable runs that are killed, shared out and never lose work.

A unit is a store file (or a million rows of a longer one), done as a whole by `stages`; `state` has what is finished.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from xpjax.catalogue.dask import process_on_dask
from xpjax.catalogue.estimate import RunEstimate, check_room, is_long, of_plan, sampled
from xpjax.catalogue.job import HATS_ROWS, STATE
from xpjax.catalogue.parts import UNPLACED
from xpjax.catalogue.plan import Plan
from xpjax.catalogue.stages import process
from xpjax.catalogue.state import (
    begin_run,
    finish_run,
    forget_run,
    hold_shard,
    is_assembled,
    is_finished,
    remove_stale,
    totals,
)
from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.release import Release
from xpjax.stellar import LabelFitter
from xpjax.synthetic import AnySystem
from xpjax.wiggles import AnyCorrection
from xpjax.xp import Store


@dataclasses.dataclass(frozen=True)
class RunReport:
    """Tell what a run did.

    Parameters
    ----------
    output : Path
        Directory of the catalogue.
    finished, skipped : tuple of str
        Names of the units that were finished now, and before.
    failed : mapping of str to str
        Why units failed, by name.
    sources, rows : int
        Sources that were read now, and rows that were written.
    status : mapping of str to int
        How many sources have each bit of `Status`.
    seconds : float
        Duration [s].
    complete : bool
        Whether the catalogue is whole: all units of all shards are in it.
    unplaced : int, optional
        Rows of a HATS catalogue without a position of their own, at the center of source_id's pixel.

    Examples
    --------
    >>> xpjax.xp.write_store_file("store.h5", xpjax.simulate_sources(20, seed=1))
    >>> report = xpjax.run_catalogue("store.h5", "sdss", "SDSS", errors=False)
    >>> report.rows, report.complete, report.finished
    (20, True, ('store',))
    """

    output: Path
    finished: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: Mapping[str, str]
    sources: int
    rows: int
    status: Mapping[str, int]
    seconds: float
    complete: bool
    unplaced: int = 0


def run_catalogue(
    store: Store | str | os.PathLike[str],
    output: str | os.PathLike[str],
    systems: AnySystem | Sequence[AnySystem] | None = None,
    *,
    errors: bool = True,
    truncate: bool = False,
    error_correction: bool = False,
    float64: bool = False,
    devices: engine.Devices = None,
    correction: AnyCorrection = None,
    fitter: LabelFitter | None = None,
    format: str = "parquet",
    where: str | None = None,
    keep: Sequence[str] = (),
    shard: tuple[int, int] = (1, 1),
    resume: bool = False,
    dask: str | None = None,
    progress: engine.Progress | None = None,
    estimate: Callable[[RunEstimate], object] | None = None,
    hats_rows: int = HATS_ROWS,
    systematic: bool = False,
    release: Release | str | None = None,
    columns: Mapping[str, str] | None = None,
) -> RunReport:
    """Make a catalogue of a store: synthetic photometry or stellar labels, a part for each store file.

    Parameters
    ----------
    store : Store or path
        The sources: a store, or a HATS catalogue, of which each partition is then a file. Bad ones have a row too.
    output : path
        Directory of the catalogue; it is made.
    systems, errors, truncate, error_correction, float64, devices, correction
        As for `xpjax.photometry`; correction may also be a network, whose columns the store must have.
    fitter : LabelFitter, optional
        Fit stellar labels instead; errors, truncate, correction and float64 are then the fitter's own.
    format : {"parquet", "fits", "hdf5", "hats"}, optional
        A file for each store file, or one HATS catalogue in HEALPix pixels, made when all units are done.
    where, keep : str and sequence of str, optional
        Condition on columns of the store, such as "phot_g_mean_mag < 16 and bp_rp > 1"; columns to pass on.
    shard : (int, int), optional
        (i, n): every n-th unit, the i-th of 1..n.
    resume : bool, optional
        Go on with what another run left: finished units are not done again.
    dask : str, optional
        "local", or the address of a Dask scheduler.
    progress, estimate : callable, optional
        Called with the number of sources done; once, first, with a `RunEstimate`, of a long run from a sample of it.
    hats_rows : int, optional
        The most rows in a pixel of a HATS catalogue.
    systematic : bool, optional
        Also write what a linear correction leaves [mag] as columns; metadata have it at d^2 = 0.
    release, columns : optional
        As for `xpjax.read`: which release of several, also of systems by name; which column of HATS catalogues is what.

    Returns
    -------
    RunReport
        What was done; units that failed are named in it.

    Raises
    ------
    XpjaxError
        For wrong options or others than of the run to be resumed, another run at work, or a disk without room.
    FileExistsError
        If the output has content, without resume.

    Examples
    --------
    >>> xpjax.xp.write_store_file("store.h5", xpjax.simulate_sources(20, seed=1))
    >>> xpjax.run_catalogue("store.h5", "sdss", "SDSS", errors=False).rows
    20
    """
    plan = Plan.of(
        store, output, systems, errors=errors, truncate=truncate, error_correction=error_correction, float64=float64,
        correction=correction, fitter=fitter, format=format, where=where, keep=keep, shard=shard, hats_rows=hats_rows,
        systematic=systematic, release=release, columns=columns,
    )  # fmt: skip
    return _run(plan, resume, devices, dask, progress, estimate)


def _run(
    plan: Plan,
    resume: bool,
    devices: engine.Devices,
    dask: str | None,
    progress: engine.Progress | None,
    told: Callable[[RunEstimate], object] | None,
) -> RunReport:
    """Do the units of a shard that are not finished."""
    started = time.perf_counter()
    job, own = plan.job, plan.own
    if dask is None:
        engine.find_devices(devices)
    fresh = not job.output.exists()
    if fresh:  # refused before anything is there
        check_room(plan, of_plan(plan, own))
    with hold_shard(job, plan.shard, resume):
        begin_run(job, plan.store, plan.units)
        remove_stale(job, own, everything=plan.shard[1] == 1)
        assembled = is_assembled(job)
        todo = [unit for unit in own if not is_finished(job, unit, assembled)]
        estimate = of_plan(plan, todo)
        if told is not None:
            if dask is None and is_long(plan, estimate):
                estimate = sampled(plan, todo, estimate, devices, job.output / STATE)
            told(estimate)
        try:
            check_room(plan, estimate)
        except XpjaxError:
            if fresh:
                forget_run(job)
            raise
        stream = process(job, todo, devices, progress) if dask is None else process_on_dask(job, todo, dask, progress)
        with contextlib.closing(stream):
            records = list(stream)
        complete = finish_run(job, plan.units)
    good = [record for record in records if "error" not in record]
    failed = {record["unit"]: record["error"] for record in records if "error" in record}
    names = {unit.name for unit in todo}
    skipped = tuple(unit.name for unit in own if unit.name not in names)
    return RunReport(
        job.output, tuple(record["unit"] for record in good), skipped, failed, **totals(good), complete=complete,
        seconds=time.perf_counter() - started, unplaced=sum(record.get(UNPLACED, 0) for record in good),
    )  # fmt: skip
