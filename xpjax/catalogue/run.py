"""From a store to a catalogue, file by file: resumable runs that are killed, shared out and never lose work.

A unit is a store file (or a million rows of a longer one), done as a whole by `stages`; `state` has what is finished.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.catalogue import hats
from xpjax.catalogue.dask import process_on_dask
from xpjax.catalogue.job import FORMATS, HATS_ROWS, Job, units_of
from xpjax.catalogue.partitions import named_columns, open_sources
from xpjax.catalogue.parts import UNPLACED
from xpjax.catalogue.products import Content, Labels, Magnitudes
from xpjax.catalogue.stages import process
from xpjax.catalogue.state import (
    begin_run,
    check_shard,
    finish_run,
    hold_shard,
    is_assembled,
    is_finished,
    remove_stale,
    totals,
)
from xpjax.core import engine
from xpjax.core.conditions import parse_where
from xpjax.core.errors import XpjaxError
from xpjax.core.release import Release
from xpjax.io.atomic import expanded
from xpjax.io.catalogue import FITS_COLUMNS
from xpjax.stellar import LabelFitter
from xpjax.synthetic import AnySystem
from xpjax.xp import Store, StoreError


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
    devices: Any = None,
    correction: Any = None,
    fitter: LabelFitter | None = None,
    format: str = "parquet",
    where: str | None = None,
    keep: Sequence[str] = (),
    shard: tuple[int, int] = (1, 1),
    resume: bool = False,
    dask: str | None = None,
    progress: engine.Progress | None = None,
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
    where : str, optional
        Condition on columns of the store, such as "phot_g_mean_mag < 16 and bp_rp > 1".
    keep : sequence of str, optional
        Columns of the store to pass on.
    shard : (int, int), optional
        (i, n): every n-th unit, the i-th of 1..n.
    resume : bool, optional
        Go on with what another run left: finished units are not done again.
    dask : str, optional
        "local", or the address of a Dask scheduler.
    progress : callable, optional
        Called with the number of sources done.
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
        For wrong options, others than those of the run to be resumed, and where another run is at work.
    FileExistsError
        If the output has content, without resume.

    Examples
    --------
    >>> xpjax.xp.write_store_file("store.h5", xpjax.simulate_sources(20, seed=1))
    >>> xpjax.run_catalogue("store.h5", "sdss", "SDSS", errors=False).rows
    20
    """
    store = open_sources(store, release, columns)
    options = correction, systematic, store.release, errors, truncate, error_correction, float64
    content = _content(systems, fitter, store.release, options)
    job = Job(expanded(output).absolute(), content, format, where, tuple(keep), hats_rows, named_columns(store))
    return _run(store, job, shard, resume, devices, dask, progress)


def _content(systems: Any, fitter: LabelFitter | None, release: Release, options: tuple[Any, ...]) -> Content:
    """What the rows are made of; options: those of `Magnitudes.of`. Raises XpjaxError unless it is one of both."""
    if systems is None and fitter is not None:
        return Labels(fitter, release)
    if systems is not None and fitter is None:
        return Magnitudes.of(systems, *options)
    raise XpjaxError("give systems for magnitudes, or a fitter for stellar labels")


def _run(
    store: Store, job: Job, shard: tuple[int, int], resume: bool, devices: Any, dask: str | None, progress: Any
) -> RunReport:
    """Do the units of a shard that are not finished."""
    started = time.perf_counter()
    job = _checked(store, job)
    check_shard(shard)
    number, of = shard
    if dask is None:
        engine.find_devices(devices)
    units = units_of(store)
    chunk = int(np.median([min(len(unit), job.chunk_rows(unit.file)) for unit in units]))
    job = dataclasses.replace(job, chunk=max(chunk, 1))
    with hold_shard(job, shard, resume):
        begin_run(job, store, units)
        own = units[number - 1 :: of]
        remove_stale(job, own, everything=of == 1)
        assembled = is_assembled(job)
        todo = [unit for unit in own if not is_finished(job, unit, assembled)]
        names = {unit.name for unit in todo}
        stream = process(job, todo, devices, progress) if dask is None else process_on_dask(job, todo, dask, progress)
        with contextlib.closing(stream):
            records = list(stream)
        complete = finish_run(job, units)
    good = [record for record in records if "error" not in record]
    failed = {record["unit"]: record["error"] for record in records if "error" in record}
    skipped = tuple(unit.name for unit in own if unit.name not in names)
    return RunReport(
        job.output, tuple(record["unit"] for record in good), skipped, failed, **totals(good), complete=complete,
        seconds=time.perf_counter() - started, unplaced=sum(record.get(UNPLACED, 0) for record in good),
    )  # fmt: skip


def _checked(store: Store, job: Job) -> Job:
    """The job, its questions answerable by the store. Raises ValueError."""
    if job.format not in FORMATS:
        raise XpjaxError(f"no format {job.format!r}; choose from {', '.join(FORMATS)}")
    if job.hats_rows < 1:
        raise XpjaxError(f"a pixel of a HATS catalogue needs at least one row, not {job.hats_rows}")
    job.content.check(store.release, store.path)
    if job.format == "hats" and {"ra", "dec"} <= {*store.columns}:
        job = dataclasses.replace(job, keep=tuple(dict.fromkeys(("ra", "dec", *job.keep))))
    absent = [name for name in job.columns if name not in store.columns]
    if absent:
        raise XpjaxError(
            f"{store.path} has no columns {', '.join(absent)}; it has source_id, xp_status, "
            f"{', '.join(store.columns) or 'and no others'}"
        )
    table = None
    for file in store.files:
        with contextlib.suppress(StoreError):  # that unit will fail, by name
            table = file.read(0, 0, columns=job.columns)
            break
    if table is None:
        return job
    if job.where:
        parse_where(job.where)({**table.columns, "source_id": table.source_id, "xp_status": table.status})
    job.content.check_errors(table)
    part = job.content.empty(table, {name: table.columns[name] for name in job.keep})
    if part is None:
        return job
    taken = [name for name in (hats.INDEX, hats.GUESSED) if name in part.columns]
    if job.format == "hats" and taken:
        raise XpjaxError(f"cannot keep columns {taken}: a HATS catalogue has columns of these names")
    if job.format == "fits" and len(part.columns) > FITS_COLUMNS:
        raise XpjaxError(
            f"a FITS table holds {FITS_COLUMNS} columns, this catalogue has {len(part.columns)}; choose "
            "parquet, or fewer systems"
        )
    return job
