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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, command_line, on_command_line, say
from xpjax.core.release import DR3, Release
from xpjax.core.status import Status
from xpjax.io.atomic import expanded, remove_abandoned
from xpjax.io.streams import reading
from xpjax.xp.read.assemble import assemble, infer_release, of_release
from xpjax.xp.read.formats import File
from xpjax.xp.read.gaia_source import JOINED, gaia_columns, join
from xpjax.xp.read.layout import ARRAY_FIELDS, Table, repeated
from xpjax.xp.read.loaders import TEXT, files_of, load, stem_of
from xpjax.xp.read.text import TextReader
from xpjax.xp.sources import SourceTable
from xpjax.xp.store.format import CORRELATIONS, SUFFIX, StoreError
from xpjax.xp.store.store import is_store, open_store
from xpjax.xp.store.writer import StoreWriter

KEPT = {**{f"{xp}_standard_deviation": np.float32 for xp in DR3.xp}, **JOINED}
"""Further columns that a store file has where its input has them."""


@dataclasses.dataclass(frozen=True)
class Ingested:
    """One file that is in the store: sources, flagged ones, ones found in gaia_source, seconds."""

    name: str
    output: Path
    sources: int
    flagged: int
    joined: int
    seconds: float


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
) -> IngestReport:
    """Turn files of XP coefficients into a store: one HDF5 file for each.

    Parameters
    ----------
    files : sequence of paths
        Files in any format that `xpjax.read` knows.
    store_dir : path
        Directory of the store, which is made; its files have the names of the inputs.
    correlations : str
        What is stored of correlations, which errors need: `none`, `float32` (12 kB a source), or `int16` (fixed point
        to 1.5e-5).
    processes : int
        How many files at once, each in a process of its own. Processes import the calling script: guard it with
        `if __name__ == "__main__"`.
    gaia_source : sequence of paths
        Files of gaia_source whose ra, dec, phot_g_mean_mag, bp_rp (or phot_bp_mean_mag and phot_rp_mean_mag) and ebv
        are joined by source_id; NaN where they lack a source.
    overwrite : bool
        Whether to replace store files that exist.
    resume : bool
        Whether to leave out the files whose store file exists.
    progress : callable, optional
        Called with each file that is done (`Ingested`), or the name of one that failed.

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

    Examples
    --------
    >>> report = xpjax.ingest(["xp.parquet"], "store", correlations="float32")
    >>> report.sources, report.failures
    (50, {})
    """
    paths, store_dir = [expanded(path) for path in files], expanded(store_dir)
    outputs = _outputs(paths, store_dir, correlations, processes)
    skipped = _present(outputs, correlations, overwrite, resume)
    catalogues = [expanded(path) for path in gaia_source]
    columns = gaia_columns(catalogues)
    store_dir.mkdir(parents=True, exist_ok=True)
    remove_abandoned(store_dir)
    tasks = [
        _Task(path, output, correlations, tuple(catalogues), columns, overwrite or resume)
        for path, output in outputs.items()
        if path.name not in skipped
    ]
    done, failures = [], {}
    for task, result in _run(tasks, min(processes, len(tasks))):
        if isinstance(result, Ingested):
            done.append(result)
        else:
            failures[task.path.name] = result
        if progress is not None:
            progress(result if isinstance(result, Ingested) else task.path.name)
    order = {path.name: i for i, path in enumerate(paths)}
    done.sort(key=lambda file: order[file.name])
    return IngestReport(tuple(done), tuple(skipped), dict(sorted(failures.items(), key=lambda item: order[item[0]])))


def _outputs(paths: Sequence[Path], store_dir: Path, correlations: str, processes: int) -> dict[Path, Path]:
    """The store file of each input. Raises XpjaxError and FileNotFoundError for a wrong call."""
    if correlations not in CORRELATIONS:
        raise XpjaxError(f"correlations must be one of {', '.join(CORRELATIONS)}, not {correlations!r}")
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
    with command_line() if commanded else contextlib.nullcontext():
        try:
            while True:
                pipe.send(_attempt(pipe.recv()))
        except (EOFError, OSError, KeyboardInterrupt):
            return


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
        raise XpjaxError(f"{task.path}: is a store file already; it needs no ingest")
    files = files_of(task.path)
    try:
        if len(files) > 1 or files[0].suffix not in TEXT:
            raise _UndecidedError
        n, status, joined = _write(task, _blocks(files[0], correlations))
    except _UndecidedError:
        n, status, joined = _write(task, _whole(task.path, correlations))
    seconds = time.perf_counter() - started
    if not correlations:  # then nobody has errors, which is no news of a source
        status = status & ~np.uint32(sum(Status[f"{xp.upper()}_NO_ERROR"] for xp in DR3.xp))
    return Ingested(task.path.name, task.output, n, int(np.count_nonzero(status)), joined, seconds)


def _write(task: _Task, blocks: Iterator[SourceTable]) -> tuple[int, np.ndarray, int]:
    """Blocks as a store file; the number of sources, their status, and how many gaia_source has."""
    first = next(blocks)
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
        twice = repeated(ids) * np.uint32(Status.DUPLICATE)
        columns, found = join(ids, task.gaia_source, task.columns)
        for name, column in columns.items():
            if name in first.columns:  # the file's own, where gaia_source has nothing
                mine = np.concatenate([part[name] for part in own])
                np.copyto(column, mine, where=np.isnan(column), casting="same_kind")
        if task.gaia_source:
            attrs = {"gaia_source_joined": int(found.sum())}
        writer.complete(twice, columns, attrs)
        return len(ids), np.concatenate(status) | twice, int(found.sum())


# --- sources ----------------------------------------------------------------------------------------------------------


class _UndecidedError(XpjaxError):
    """Not all blocks of a file say the same of it: it is read as a whole, which decides, or says what is wrong."""


def _is_read(name: str, correlations: bool) -> bool:
    """Whether a column is read, by its archive name."""
    fields = {*ARRAY_FIELDS, "n_relevant_bases", "n_parameters"}
    fields -= set() if correlations else {"coefficient_correlations"}
    return name == "source_id" or name in KEPT or name in {f"{xp}_{field}" for xp in DR3.xp for field in fields}


def _blocks(file: File, correlations: bool) -> Iterator[SourceTable]:
    """The sources of a text file, some dozens at a time. Raises _UndecidedError, and ValueError for damaged files."""
    release = None
    with reading(file.path, "text"), file.open() as stream:
        wanted = functools.partial(_is_read, correlations=correlations)
        for table in TextReader(stream, file.origin, DR3.xp, dtype=np.float32, wanted=wanted).blocks():
            try:
                release = release or infer_release([table])
                alike = of_release(table, release)
                sources, complete = _sources(table, release, correlations)
            except ValueError as error:
                raise _UndecidedError from error
            if not (alike and complete):
                raise _UndecidedError
            yield sources


def _whole(path: Path, correlations: bool) -> Iterator[SourceTable]:
    """The sources of the tables of a file of any format. Raises ValueError."""
    tables = [
        dataclasses.replace(table, columns={n: c for n, c in table.columns.items() if _is_read(n, correlations)})
        for table in load(path, DR3.xp, np.float32)
    ]
    release = infer_release(tables)
    yield from (_sources(table, release, correlations)[0] for table in tables)


def _sources(table: Table, release: Release, correlations: bool) -> tuple[SourceTable, bool]:
    """Sources with the columns of `KEPT` that are numbers; and whether all are."""
    names = [name for name in KEPT if name in table.columns]
    read = assemble(table, release, np.float32, names)
    columns = {
        name: np.asarray(column, KEPT[name]) for name, column in read.columns.items() if column.dtype.kind in "iuf"
    }
    read = dataclasses.replace(read if correlations else _dropped(read), columns=columns)
    return read, len(columns) == len(names)


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
