"""Ingest: bulk files, and every other format that `xpjax.read` knows, into a store of one file each.

Text is read block by block, and only what is stored is looked at; other formats are read as a whole. What is stored is
what `xpjax.read(path, dtype=numpy.float32)` gives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import multiprocessing.connection
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.archive import TIME, TRANSIT
from xpjax.core.errors import XpjaxError, command_line, on_command_line, say
from xpjax.core.process import keep_memory, one_blas_thread
from xpjax.core.release import DR3, Release, find_release
from xpjax.core.status import Status
from xpjax.io.atomic import expanded, remove_abandoned
from xpjax.io.streams import reading
from xpjax.xp.compact import COMPACT
from xpjax.xp.read.assemble import assemble
from xpjax.xp.read.formats import File
from xpjax.xp.read.gaia_source import JOINED, gaia_columns, join
from xpjax.xp.read.layout import ARRAY_FIELDS, Table, repeated
from xpjax.xp.read.loaders import TEXT, files_of, load, stem_of
from xpjax.xp.read.releases import check_table, infer_release, of_release, untold
from xpjax.xp.read.text import TextReader
from xpjax.xp.read.transits import transit_names
from xpjax.xp.sources import SourceTable
from xpjax.xp.store.format import CORRELATIONS, SUFFIX, StoreError
from xpjax.xp.store.store import is_store, open_store
from xpjax.xp.store.writer import StoreWriter, check_correlations

CONVERTED_BYTES = 2**27
"""Bytes of a store file that are converted at a time."""
KEPT = {**{f"{xp}_standard_deviation": np.float32 for xp in DR3.xp}, **JOINED}
"""Further columns that a store file has where its input has them."""


@dataclasses.dataclass(frozen=True)
class Ingested:
    """One file that is in the store: sources, flagged ones, ones found in gaia_source, seconds, what is to be told."""

    name: str
    output: Path
    sources: int
    flagged: int
    joined: int
    seconds: float
    note: str = ""


@dataclasses.dataclass(frozen=True)
class IngestReport:
    """What `ingest` did: files done, skipped because they were there, and failed, by name with the reason."""

    done: tuple[Ingested, ...]
    skipped: tuple[str, ...]
    failures: dict[str, str]

    @property
    def sources(self) -> int:
        """Sources of the files done."""
        return sum(file.sources for file in self.done)

    @property
    def flagged(self) -> int:
        """Sources of the files done that have a bit of `xp_status`."""
        return sum(file.flagged for file in self.done)

    @property
    def joined(self) -> int:
        """Sources of the files done that were found in gaia_source."""
        return sum(file.joined for file in self.done)


def ingest(
    files: Sequence[str | os.PathLike[str]],
    store_dir: str | os.PathLike[str],
    *,
    correlations: str = "none",
    processes: int = 1,
    gaia_source: Sequence[str | os.PathLike[str]] = (),
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[Ingested | str], None] | None = None,
    release: Release | str | None = None,
) -> IngestReport:
    """Turn files of XP coefficients into a store: one HDF5 file for each.

    A store may hold files of several data releases; whoever reads it says which one.

    Parameters
    ----------
    files : sequence of paths
        Files in any format that `xpjax.read` knows; files of another store where they are to hold less of correlations.
    store_dir : path
        Directory of the store, which is made; its files have the names of the inputs.
    correlations : str
        What is stored for errors: `none`, `compact`, `int16` or `float32` (glossary: compact covariance).
    processes : int
        How many files at once, each in a process of its own. Processes import the calling script: guard it with
        `if __name__ == "__main__"`.
    gaia_source : sequence of paths
        Files of gaia_source whose ra, dec, phot_g_mean_mag, bp_rp (or phot_bp_mean_mag and phot_rp_mean_mag), ebv
        and ebv_error are joined by source_id; NaN where they lack a source.
    overwrite : bool
        Whether to replace store files that exist.
    resume : bool
        Whether to leave out the files whose store file exists.
    progress : callable, optional
        Called with each file that is done (`Ingested`), or the name of one that failed.
    release : Release or str, optional
        The data release of the files, such as "Gaia DR4"; by default each file tells, as `xpjax.read` says.

    Returns
    -------
    IngestReport
        The files `done`, `skipped`, and the `failures` by name with the reason. A file that fails leaves no store file
        and does not stop the others.

    Raises
    ------
    XpjaxError
        If the call is wrong, before anything is read.
    OSError
        If a file is missing, or store files exist.

    Warns
    -----
    UserWarning
        If a file does not tell its release and is taken as Gaia DR3.

    Examples
    --------
    >>> report = xpjax.ingest(["xp.parquet"], "store", correlations="float32")
    >>> report.sources, report.failures
    (50, {})
    """
    paths, store_dir = [expanded(path) for path in files], expanded(store_dir)
    outputs = _outputs(paths, store_dir, correlations, processes)
    skipped = _present(outputs, correlations, overwrite, resume)
    said = None if release is None else find_release(release)
    catalogues = [expanded(path) for path in gaia_source]
    columns = gaia_columns(catalogues)
    store_dir.mkdir(parents=True, exist_ok=True)
    remove_abandoned(store_dir)
    tasks = [
        _Task(path, output, correlations, tuple(catalogues), columns, overwrite or resume, said)
        for path, output in outputs.items()
        if path.name not in skipped
    ]
    done, failures = _done(tasks, processes, progress)
    order = {path.name: i for i, path in enumerate(paths)}
    done.sort(key=lambda file: order[file.name])
    return IngestReport(tuple(done), tuple(skipped), dict(sorted(failures.items(), key=lambda item: order[item[0]])))


def _done(
    tasks: Sequence[_Task], processes: int, progress: Callable[[Ingested | str], None] | None
) -> tuple[list[Ingested], dict[str, str]]:
    """Do the tasks; the files that are done as they end, and why others failed. Warns of what is to be told."""
    done, failures = [], {}
    for task, result in _run(tasks, min(processes, len(tasks))):
        if isinstance(result, Ingested):
            done.append(result)
            if result.note:
                warnings.warn(result.note, stacklevel=3)
        else:
            failures[task.path.name] = result
        if progress is not None:
            progress(result if isinstance(result, Ingested) else task.path.name)
    return done, failures


def _outputs(paths: Sequence[Path], store_dir: Path, correlations: str, processes: int) -> dict[Path, Path]:
    """The store file of each input. Raises XpjaxError and FileNotFoundError for a wrong call."""
    check_correlations(correlations)
    if not paths:
        raise XpjaxError("no files to ingest")
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
    if processes < 1:
        raise XpjaxError(f"the number of processes must be positive, not {processes}")
    outputs = {path: store_dir / f"{stem_of(path)}{SUFFIX}" for path in paths}
    twice = [name for name, count in Counter(path.name for path in outputs.values()).items() if count > 1]
    if twice:
        raise XpjaxError(f"several inputs would become {twice[0]}: rename one, or use two stores")
    return outputs


def _present(outputs: Mapping[Path, Path], correlations: str, overwrite: bool, resume: bool) -> list[str]:
    """Names of inputs whose store file is there. Raises FileExistsError and ValueError."""
    there = {path: output for path, output in outputs.items() if output.exists()}
    if overwrite or not there:
        return []
    if not resume:
        first = next(iter(there.values()))
        raise FileExistsError(
            f"{len(there)} of {len(outputs)} store files exist, such as {first}; {say('resume=True', '--resume')} "
            f"leaves these as they are, {say('overwrite=True', '--overwrite')} makes them again"
        )
    skipped = []
    for path, output in there.items():
        try:
            (file,) = open_store(output).files
        except StoreError:
            continue  # damaged: made again
        if file.correlations != correlations and len(file):
            raise XpjaxError(
                f"{output}: holds correlations as {file.correlations!r}, not {correlations!r}; use another store, or "
                f"{say('overwrite=True', '--overwrite')}"
            )
        if file.attrs.get("source_bytes") == path.stat().st_size:
            skipped.append(path.name)
    return skipped


# --- processes --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Task:
    """One file to ingest."""

    path: Path
    output: Path
    correlations: str
    gaia_source: tuple[Path, ...]
    columns: tuple[str, ...]
    overwrite: bool
    release: Release | None = None


def _run(tasks: Sequence[_Task], processes: int) -> Iterator[tuple[_Task, Ingested | str]]:
    """Every task and what became of it, or why it failed, as they end."""
    if processes <= 1:
        yield from ((task, _attempt(task)) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")

    def start() -> tuple[Any, Any]:
        here, there = context.Pipe()
        worker = context.Process(target=_work, args=(there, on_command_line()), daemon=True)
        worker.start()
        there.close()
        return here, worker

    waiting = list(tasks[::-1])
    idle = [start() for _ in range(processes)]
    busy: dict[Any, tuple[Any, _Task]] = {}
    try:
        while waiting or busy:
            while waiting and idle:
                pipe, worker = idle.pop()
                busy[pipe] = worker, waiting.pop()
                with contextlib.suppress(OSError):  # where it is dead, waiting for it says so
                    pipe.send(busy[pipe][1])
            for ready in multiprocessing.connection.wait(list(busy)):
                worker, task = busy.pop(ready)
                result: Ingested | str
                try:
                    result = ready.recv()  # type: ignore[union-attr, call-arg, assignment]
                    idle.append((ready, worker))
                except (EOFError, OSError):
                    # Killed, by the system for its memory or by someone: its file has failed, the others go on.
                    worker.join()
                    result = f"{task.path}: the process that read it ended with exit code {worker.exitcode}"
                    if waiting:
                        idle.append(start())
                yield task, result
    finally:
        for pipe, worker in idle:
            pipe.close()
            worker.join()
        for worker, _ in busy.values():
            worker.terminate()
            worker.join()


def _work(pipe: Any, commanded: bool) -> None:
    """A worker: task after task, until the other side closes the pipe; its messages are those of who called."""
    keep_memory()
    # Workers are one a core: threads of their own would wait for each other.
    with one_blas_thread(), command_line() if commanded else contextlib.nullcontext():
        try:
            while True:
                pipe.send(_attempt(pipe.recv()))
        except (EOFError, OSError, KeyboardInterrupt):
            return


@one_blas_thread()
def _attempt(task: _Task) -> Ingested | str:
    try:
        return _ingest_file(task)
    except (XpjaxError, OSError) as exc:
        return str(exc)
    except MemoryError:
        return f"{task.path}: not enough memory; ingest with fewer {say('processes=', '--processes')}"
    except Exception as exc:  # this file fails, the others must not
        return f"{task.path}: this is a bug in xpjax: {type(exc).__name__}: {exc}"


def _ingest_file(task: _Task) -> Ingested:
    started = time.perf_counter()
    correlations = task.correlations != "none"
    if is_store(task.path):
        return _converted(task, started)
    files = files_of(task.path)
    try:
        if len(files) > 1 or files[0].suffix not in TEXT:
            raise _UndecidedError
        n, status, joined = _write(task, _blocks(files[0], task.release, correlations))
        told = True
    except _UndecidedError:
        tables = _tables(task.path, correlations)
        release, told = (task.release, True) if task.release else infer_release(tables)
        for table in tables:
            check_table(table, release)
        sources = (_sources(table, release, correlations)[0] for table in tables)
        n, status, joined = _write(task, sources)
    seconds = time.perf_counter() - started
    if not correlations:  # then nobody has errors, which is no news of a source
        status = status & ~np.uint32(sum(Status[f"{xp.upper()}_NO_ERROR"] for xp in DR3.xp))
    note = "" if told else untold(str(task.path))
    return Ingested(task.path.name, task.output, n, int(np.count_nonzero(status)), joined, seconds, note)


def _converted(task: _Task, started: float) -> Ingested:
    """A file of another store with less of its correlations; all else, and where it is from, stays. Raises."""
    (file,) = open_store(task.path).files
    have, order = file.correlations, CORRELATIONS.index
    if have == task.correlations:
        raise XpjaxError(f"{task.path}: is a store file with correlations as {have!r} already; it needs no ingest")
    if order(have) < order(task.correlations) or (have == COMPACT and task.correlations != "none"):
        raise XpjaxError(
            f"{task.path}: holds correlations as {have!r}, of which {task.correlations!r} cannot be made: ingest the "
            "file that it was made from"
        )
    attrs = {name: value for name, value in file.attrs.items() if name in ("source", "gaia_source_joined")}
    attrs |= {"source_bytes": task.path.stat().st_size}
    options: dict[str, Any] = {"correlations": task.correlations, "overwrite": task.overwrite, "attrs": attrs}
    kept: dict[str, Any] = {"columns": None, "correlations": task.correlations != "none"}
    flagged = 0
    with StoreWriter(task.output, file.release, units=file.units, **options) as writer:
        for start, stop in file.batches(CONVERTED_BYTES) if len(file) else [(0, 0)]:
            table = file.read(start, stop, **kept)
            flagged += int(np.count_nonzero(table.status))
            writer.append(table)
    joined = int(file.attrs.get("gaia_source_joined", 0))
    return Ingested(task.path.name, task.output, len(file), flagged, joined, time.perf_counter() - started)


def _write(task: _Task, blocks: Iterator[SourceTable]) -> tuple[int, np.ndarray, int]:
    """Blocks as a store file; the number of sources, their status, and how many gaia_source has."""
    first = next(blocks)
    _refuse_other(task.output, first.release)
    attrs: dict[str, Any] = {"source": task.path.name, "source_bytes": task.path.stat().st_size}
    with StoreWriter(
        task.output, first.release, correlations=task.correlations, overwrite=task.overwrite, attrs=attrs
    ) as writer:
        status, own = [], []
        for table in itertools.chain([first], blocks):
            writer.append(table)
            status.append(table.status)
            own.append(table.columns)
        ids = writer.source_id
        transits = np.concatenate([part["transit_id"] for part in own]) if first.is_epoch else None
        twice = repeated(ids, transits) * np.uint32(Status.DUPLICATE)
        columns, found = join(ids, task.gaia_source, task.columns)
        for name, column in columns.items():
            if name in first.columns:  # the file's own, where gaia_source has nothing
                mine = np.concatenate([part[name] for part in own])
                np.copyto(column, mine, where=np.isnan(column), casting="same_kind")
        if task.gaia_source:
            attrs = {"gaia_source_joined": int(found.sum())}
        writer.complete(twice, columns, attrs)
        return len(ids), np.concatenate(status) | twice, int(found.sum())


def _refuse_other(output: Path, release: Release) -> None:
    """Raise XpjaxError where a store file of another release would be replaced: it is not the same one made again."""
    with contextlib.suppress(StoreError):  # a damaged one is made again
        if output.exists() and not open_store(output).release.fits(release):
            raise XpjaxError(
                f"{output} is of {open_store(output).release.name}, this file of {release.name}: rename the file, or "
                "use another store"
            )


# --- sources ----------------------------------------------------------------------------------------------------------


class _UndecidedError(XpjaxError):
    """Not all blocks of a file say the same of it: it is read as a whole, which decides, or says what is wrong."""


def _is_flag(name: str) -> bool:
    return "flag" in name.lower()


def _is_read(name: str, correlations: bool) -> bool:
    """Whether a column is read, by its archive name; flags and times are stored of epoch spectra alone."""
    if name.lower() in (*TRANSIT, *TIME) or _is_flag(name):
        return True
    fields = {*ARRAY_FIELDS, "n_relevant_bases", "n_parameters"}
    fields -= set() if correlations else {"coefficient_correlations"}
    return name == "source_id" or name in KEPT or name in {f"{xp}_{field}" for xp in DR3.xp for field in fields}


def _blocks(file: File, release: Release | None, correlations: bool) -> Iterator[SourceTable]:
    """The sources of a text file, some dozens at a time. Raises _UndecidedError, and ValueError for damaged files."""
    with reading(file.path, "text"), file.open() as stream:
        wanted = functools.partial(_is_read, correlations=correlations)
        for table in TextReader(stream, file.origin, DR3.xp, dtype=np.float32, wanted=wanted).blocks():
            try:
                if release is None:
                    release, told = infer_release([table])
                    if not told:
                        raise _UndecidedError
                alike = of_release(table, release)
                sources, complete = _sources(table, release, correlations)
            except ValueError as error:
                raise _UndecidedError from error
            if not (alike and complete):
                raise _UndecidedError
            yield sources


def _tables(path: Path, correlations: bool) -> list[Table]:
    """The tables of a file of any format, of the columns that are read. Raises ValueError."""
    return [
        dataclasses.replace(table, columns={n: c for n, c in table.columns.items() if _is_read(n, correlations)})
        for table in load(path, DR3.xp, np.float32)
    ]


def _sources(table: Table, release: Release, correlations: bool) -> tuple[SourceTable, bool]:
    """Sources with the columns of `KEPT` that are numbers; and whether all are. Epoch spectra with their flags too."""
    names = [name for name in KEPT if name in table.columns]
    flags = [name for name in table.columns if _is_flag(name) and transit_names(table.columns)[0] is not None]
    read = assemble(table, release, np.float32, [*names, *flags])
    columns = {
        name: np.asarray(column, KEPT[name]) for name in names if (column := read.columns[name]).dtype.kind in "iuf"
    }
    complete = len(columns) == len(names)
    columns = read.transits | columns | {name: _whole(read.columns[name]) for name in flags if _is_plain(read, name)}
    return dataclasses.replace(read if correlations else _dropped(read), columns=columns), complete


def _is_plain(table: SourceTable, name: str) -> bool:
    """Whether a column holds a number a row."""
    return table.columns[name].ndim == 1 and table.columns[name].dtype.kind in "iufb"


def _whole(flags: np.ndarray) -> np.ndarray:
    """Flags as integers, -1 (every bit) where they are missing."""
    return (np.where(np.isnan(flags), -1, flags) if flags.dtype.kind == "f" else flags).astype(np.int64)


def _dropped(table: SourceTable) -> SourceTable:
    """Without correlations (from covariances), and with the bits that say so."""
    c = table.coefficients
    if c.correlation is None:
        return table
    status = table.status.copy()
    for xp in c.release.xp:
        gone = Status[f"{xp.upper()}_MISSING"] | Status[f"{xp.upper()}_BAD"]
        status |= np.where(status & np.uint32(gone), np.uint32(0), np.uint32(Status[f"{xp.upper()}_NO_ERROR"]))
    return dataclasses.replace(table, coefficients=dataclasses.replace(c, correlation=None), status=status)
