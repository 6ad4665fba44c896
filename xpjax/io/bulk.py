"""Ingest: bulk files, and every other format that `xpjax.read` knows, into a store of one file each.

The fast path is for the archive's bulk files (ECSV or CSV, plain or gzipped; arrays as "[a,b]" or "(a, b)"). Rows are
cut at their quotes, what is not stored is not looked at, and numbers are parsed in the cache: by simdjson where
`xpjax[fast]` is installed, else by Arrow; both round to the nearest float64, which is then cast to float32. Rows with
anything odd go through the archive reader, with a good row for company; so does the whole file where rows cannot be
told apart. What is stored is therefore what `xpjax.read(path, dtype=numpy.float32)` gives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import itertools
import multiprocessing
import multiprocessing.connection
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from xpjax.errors import XpjaxError
from xpjax.io import _loaders, archive
from xpjax.io._cells import Vectors
from xpjax.io.catalogue import expanded, remove_abandoned
from xpjax.io.store import CORRELATIONS, SUFFIX, StoreError, StoreWriter, open_store
from xpjax.matching import places_of
from xpjax.records import DR3, Release, SourceTable, Status, XPCoefficients

JOINED = {
    "ra": np.float64,
    "dec": np.float64,
    **dict.fromkeys(("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "bp_rp", "ebv"), np.float32),
}
"""Columns of gaia_source that are joined, or kept where the XP file itself has them."""
KEPT = {**{f"{xp}_standard_deviation": np.float32 for xp in DR3.xp}, **JOINED}
"""Further columns that a store file has where its input has them."""
BULK_SUFFIXES = (".csv", ".csv.gz", ".ecsv", ".ecsv.gz")
CHUNK = 1 << 22
"""Bytes of text at a time: what is cut out of it is still in the cache when it is parsed."""


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
class Report:
    """What `ingest` did: files done, skipped because they were there, and failed, by name with the reason."""

    done: tuple[Ingested, ...]
    skipped: tuple[str, ...]
    failures: dict[str, str]

    @property
    def sources(self) -> int:
        """Sources of the files done."""
        return sum(file.sources for file in self.done)


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
) -> Report:
    """Turn files of XP coefficients into store files of the same name in a directory, which is made if need be.

    correlations: none, float32 or int16. processes: how many files at once, each in a process of its own (which import
    the calling script: guard it with `if __name__ == "__main__"`). gaia_source: files (csv, csv.gz, ecsv, fits,
    parquet) whose ra, dec, phot_g_mean_mag, bp_rp (or phot_bp_mean_mag and phot_rp_mean_mag) and ebv are joined by
    source_id; NaN where they lack a source. resume: leave out the files whose store file is there. progress is called
    with each file that is done, or the name of one that is not.

    A file that fails leaves no store file and does not stop the others; see `Report.failures`. Raises ValueError and
    OSError for a wrong call, before anything is read.
    """
    paths, store_dir = [expanded(path) for path in files], expanded(store_dir)
    if correlations not in CORRELATIONS:
        raise XpjaxError(f"correlations must be one of {', '.join(CORRELATIONS)}, not {correlations!r}")
    if not paths:
        raise XpjaxError("no files to ingest")
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
    if processes < 1:
        raise XpjaxError(f"the number of processes must be positive, not {processes}")
    outputs = {path: store_dir / f"{_stem(path)}{SUFFIX}" for path in paths}
    twice = [name for name, count in Counter(path.name for path in outputs.values()).items() if count > 1]
    if twice:
        raise XpjaxError(f"several inputs would become {twice[0]}: rename one, or use two stores")
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
    return Report(tuple(done), tuple(skipped), dict(sorted(failures.items(), key=lambda item: order[item[0]])))


def _stem(path: Path) -> str:
    """The name of a file without the suffixes that tell its format."""
    for suffix in sorted(_loaders.SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    raise XpjaxError(f"{path}: unknown suffix; expected one of {', '.join(_loaders.SUFFIXES)}")


def _present(outputs: Mapping[Path, Path], correlations: str, overwrite: bool, resume: bool) -> list[str]:
    """Names of inputs whose store file is there. Raises FileExistsError and ValueError."""
    there = {path: output for path, output in outputs.items() if output.exists()}
    if overwrite or not there:
        return []
    if not resume:
        first = next(iter(there.values()))
        raise FileExistsError(
            f"{len(there)} of {len(outputs)} store files exist, such as {first}; --resume leaves these as they are, "
            "--overwrite makes them again"
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
                "--overwrite"
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
        worker = context.Process(target=_work, args=(there,), daemon=True)
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


def _work(pipe: Any) -> None:
    """A worker: task after task, until the other side closes the pipe."""
    try:
        while True:
            pipe.send(_attempt(pipe.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _attempt(task: _Task) -> Ingested | str:
    try:
        return _ingest_file(task)
    except (ValueError, OSError) as exc:
        return str(exc)
    except MemoryError:
        return f"{task.path}: not enough memory; ingest with fewer --processes"
    except Exception as exc:  # a mistake of ours: this file fails, the others must not
        return f"{task.path}: {type(exc).__name__}: {exc}"


def _ingest_file(task: _Task) -> Ingested:
    started = time.perf_counter()
    wanted = task.correlations != "none"
    try:
        if not task.path.name.lower().endswith(BULK_SUFFIXES):
            raise _NotPlainError
        n, status, joined = _write(task, _plain_blocks(task.path, wanted))
    except _NotPlainError:
        n, status, joined = _write(task, iter([_read_whole(task.path, wanted)]))
    seconds = time.perf_counter() - started
    if not wanted:  # then nobody has errors, which is no news of a source
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
        repeated = archive._repeated(ids) * np.uint32(Status.DUPLICATE)
        columns, found = _join(ids, task.gaia_source, task.columns)
        for name, column in columns.items():
            if name in first.columns:  # the file's own, where gaia_source has nothing
                mine = np.concatenate([part[name] for part in own])
                np.copyto(column, mine, where=np.isnan(column), casting="same_kind")
        if task.gaia_source:
            attrs = {"gaia_source_joined": int(found.sum())}
        writer.complete(repeated, columns, attrs)
        return len(ids), np.concatenate(status) | repeated, int(found.sum())


# --- any format -------------------------------------------------------------------------------------------------------


def _read_whole(path: Path, correlations: bool) -> SourceTable:
    """All sources of a file, by the archive reader. Raises ValueError."""
    table = _loaders.load(path, DR3.xp)
    if isinstance(table, SourceTable):
        raise XpjaxError(f"{path}: is a store file already")
    if not correlations:
        table = _without_correlations(table)
    release = archive._infer_release([table])
    kept = [name for name in KEPT if name in table.columns]
    read = archive._assemble(table, release, np.float32, kept)
    columns = {
        name: np.asarray(column, KEPT[name]) for name, column in read.columns.items() if column.dtype.kind in "iuf"
    }
    return dataclasses.replace(read if correlations else _dropped(read), columns=columns)


def _without_correlations(table: _loaders.Table) -> _loaders.Table:
    columns = {n: c for n, c in table.columns.items() if not n.endswith("_coefficient_correlations")}
    return dataclasses.replace(table, columns=columns)


def _dropped(table: SourceTable) -> SourceTable:
    """Without correlations (from covariances), and with the bits that say so."""
    c = table.coefficients
    coefficients: Any = (c.value, c.error, None, c.n_relevant, c.release)
    status = table.status.copy()
    for xp in c.release.xp:
        gone = Status[f"{xp.upper()}_MISSING"] | Status[f"{xp.upper()}_BAD"]
        status |= np.where(status & np.uint32(gone), np.uint32(0), np.uint32(Status[f"{xp.upper()}_NO_ERROR"]))
    return dataclasses.replace(table, coefficients=XPCoefficients(*coefficients), status=status)


# --- bulk files -------------------------------------------------------------------------------------------------------


class _NotPlainError(Exception):
    """The fast path cannot be sure of a file: the archive reader decides."""


def read_plain(path: Path, columns: Collection[str], dtype: DTypeLike = np.float32) -> SourceTable | None:
    """The sources of a file in the archive's own layout, twice as fast as `xpjax.read`, with the columns of `KEPT`.

    None where the file has not all of these columns, or is not plain enough. Raises ValueError for damaged files.
    """
    try:
        parts = list(_plain_blocks(path, True, dtype, columns))
    except _NotPlainError:
        return None
    return parts[0] if len(parts) == 1 else archive._concatenate(parts)


def _plain_blocks(
    path: Path, correlations: bool, dtype: DTypeLike = np.float32, columns: Collection[str] = ()
) -> Iterator[SourceTable]:
    """The sources of a bulk file, some dozens at a time. Raises _NotPlainError, and ValueError for damaged files."""
    if path.stat().st_size == 0:
        raise _NotPlainError
    with _loaders._as_value_error(path, "text"), _loaders._open_text(path) as stream:
        try:
            names, delimiter = _loaders._text_header(stream, path)
        except ValueError as exc:
            raise _KeepError from exc
        layout = _Layout.of(names, delimiter, path, correlations)
        if not {*columns} <= {*layout.names}:
            raise _KeepError
        reader = _Reader(layout, dtype)
        # One buffer for all: fresh memory costs more than what is done with it.
        text, kept, n, odd = bytearray(2 * CHUNK), 0, 0, 0
        while True:
            if len(text) - kept < CHUNK:  # a row longer than a chunk
                text = text + bytes(len(text))
            with memoryview(text) as view:
                got = stream.readinto(view[kept : kept + CHUNK])  # type: ignore[attr-defined]
            stop = kept + got
            rows = list(_rows(text, stop, last=not got))
            if rows:
                yield reader.table(text, rows)
                n, odd = n + len(rows), odd + reader.odd
            if not got:
                break
            start = text.rfind(b"\n", 0, stop) + 1
            text[: stop - start] = text[start:stop]
            kept = stop - start
    if not n or 2 * odd > n:
        raise _NotPlainError


def _rows(text: bytearray, stop: int, last: bool) -> Iterator[tuple[int, int]]:
    """Where rows begin and end; the last bytes are one only at the end of the file."""
    start = 0
    while start < stop:
        end = text.find(b"\n", start, stop)
        if end < 0:
            if not last:
                return
            end = stop
        if text[start:end].strip() if end - start < 2 else text[start] != ord("#"):
            yield start, end
        start = end + 1


class _KeepError(_NotPlainError, _loaders._InputError):
    """A _NotPlainError that `_as_value_error` lets through."""


@dataclasses.dataclass(frozen=True)
class _Layout:
    """Which cell of a row is what: names of all columns, and of the arrays, in order.

    An array directly after another one is `beside` it. What is outside of the quotes, less the commas between such
    neighbours, is one stretch of text before each other array and one after the last; `commas` counts those in each,
    and `scalars` says which cell of all stretches joined has a column.
    """

    path: Path
    names: tuple[str, ...]
    arrays: tuple[str, ...]
    beside: tuple[bool, ...]
    commas: list[int]
    scalars: dict[str, int]
    correlations: bool

    @classmethod
    def of(cls, names: Sequence[str], delimiter: str, path: Path, correlations: bool) -> _Layout:
        """The layout that a line of names means. Raises _NotPlainError where it is no bulk file's."""
        names = [_loaders._archive_name(name, DR3.xp) for name in names]
        arrays = [name for name in names if _loaders._is_array(name, DR3.xp)]
        expected = {f"{xp}_{field}" for xp in DR3.xp for field in _loaders.ARRAYS[:3]}
        relevant = [f"{xp}_n_relevant_bases" for xp in DR3.xp]
        needed = {"source_id", *relevant}
        if delimiter != "," or len({*names}) < len(names) or {*arrays} != expected or not needed <= {*names}:
            raise _KeepError
        places = [names.index(name) for name in arrays]
        edges = [0, *places, len(names) - 1]
        gaps = [high - low for low, high in itertools.pairwise(edges)]
        beside = [k > 0 and gap == 1 for k, gap in enumerate(gaps[:-1])]
        commas = [gap for gap, near in zip(gaps, [*beside, False], strict=True) if not near]
        dropped = [place for place, near in zip(places, beside, strict=True) if near]
        scalars = {
            name: names.index(name) - sum(place < names.index(name) for place in dropped)
            for name in ("source_id", *relevant, *KEPT, *(f"{xp}_n_parameters" for xp in DR3.xp))
            if name in names
        }
        return cls(path, tuple(names), tuple(arrays), tuple(beside), commas, scalars, correlations)


_Row = tuple[list[tuple[int, int]], list[bytes]]
_BRACKETS = {(ord("["), ord("]")), (ord("("), ord(")"))}
_COMMA, _QUOTE = ord(","), ord('"')


class _Reader:
    """Blocks of rows to sources; the release is that of the first block."""

    def __init__(self, layout: _Layout, dtype: DTypeLike) -> None:
        self.layout, self.dtype, self.odd = layout, np.dtype(dtype), 0
        self.kept = {name: np.result_type(kind, self.dtype) for name, kind in KEPT.items()}
        self.parse = _number_parser()
        self.company = b""

    def _begin(self, text: bytearray, rows: Sequence[tuple[int, int]]) -> None:
        """Find out from the first block what release it is. Raises _NotPlainError."""
        layout = self.layout
        cut = [(row, parts) for row in rows if (parts := self._cut(text, *row)) is not None]
        if not cut:
            raise _KeepError
        (start, end), first = cut[0]
        self.company = bytes(text[start:end])
        sizes = []
        for xp in DR3.xp:
            k = layout.arrays.index(f"{xp}_coefficients")
            lengths = Counter(text.count(b",", *parts[0][k]) + 1 for _, parts in cut)
            sizes.append(lengths.most_common(1)[0][0])
        self.release = DR3 if tuple(sizes) == DR3.n_basis else self._release(text, tuple(sizes), first)

    def _release(self, text: bytearray, sizes: tuple[int, ...], row: _Row) -> Release:
        """A release other than DR3, where a row is one all through. Raises _NotPlainError."""
        for xp, size in zip(DR3.xp, sizes, strict=True):
            errors = text.count(b",", *row[0][self.layout.arrays.index(f"{xp}_coefficient_errors")]) + 1
            name = f"{xp}_n_parameters"
            stated = row[1][self.layout.scalars[name]] if name in self.layout.scalars else str(size).encode()
            if size < 2 or errors != size or stated.strip() != str(size).encode():
                raise _KeepError
        return Release("+".join(map(str, sizes)), sizes)

    def _cut(self, text: bytearray, start: int, end: int) -> _Row | None:
        """Where the array cells of a row lie, in order, and the cells outside of quotes; None for an odd row."""
        bounds, outside, at, find = [], [], start, text.find
        for beside in self.layout.beside:
            if beside and at + 1 < end and text[at] == _COMMA and text[at + 1] == _QUOTE:
                first = at + 1
            elif beside or (first := find(b'"', at, end)) < 0:
                return self._odd_row(text, start, end)
            else:
                outside.append(text[at:first])
            second = find(b'"', first + 1, end)
            if second < 0:
                return self._odd_row(text, start, end)
            bounds.append((first + 1, second))
            at = second + 1
            if (text[first + 1], text[second - 1]) not in _BRACKETS:
                return self._odd_row(text, start, end)
        outside.append(text[at:end])
        if [piece.count(b",") for piece in outside] != self.layout.commas or b'"' in outside[-1]:
            return self._odd_row(text, start, end)
        return bounds, b"".join(outside).split(b",")

    def _odd_row(self, text: bytearray, start: int, end: int) -> _Row | None:
        """An odd row. Raises _NotPlainError where a quoted cell goes on in the next line."""
        if text.count(b'"', start, end) % 2:
            raise _KeepError
        return None

    def table(self, text: bytearray, rows: Sequence[tuple[int, int]]) -> SourceTable:
        """The sources of some rows, in order. Raises _NotPlainError."""
        if not self.company:
            self._begin(text, rows)
        layout, release = self.layout, self.release
        cut = [self._cut(text, start, end) for start, end in rows]
        good = [i for i, row in enumerate(cut) if row is not None]
        columns = self._scalars([row[1] for row in cut if row is not None])
        if columns is None:  # row by row, to find the odd ones
            good = [i for i in good if self._scalars([cut[i][1]]) is not None]  # type: ignore[index]
            columns = self._scalars([cut[i][1] for i in good])  # type: ignore[index]
        assert columns is not None
        odd = sorted({*range(len(rows))} - {*good})
        cells = [cut[i][0] for i in good]  # type: ignore[index]
        arrays: dict[str, np.ndarray] = {}
        bad = np.zeros(len(good), bool)
        joined = {
            field: np.empty((len(good), slices[-1].stop), self.dtype)
            for field, slices in zip(
                _loaders.ARRAYS, (release.slices, release.slices, release.pair_slices), strict=False
            )
            if layout.correlations or field != _loaders.ARRAYS[2]
        }
        for k, xp in enumerate(release.xp):
            for field, whole in joined.items():
                name = f"{xp}_{field}"
                place = (release.pair_slices if field == _loaders.ARRAYS[2] else release.slices)[k]
                arrays[name] = whole[:, place]
                column = layout.arrays.index(name)
                with memoryview(text) as view:
                    # Without their brackets, which `_cut` has seen.
                    bodies = [view[row[column][0] + 1 : row[column][1] - 1] for row in cells]
                    self._parse(bodies, arrays[name], bad)
                    del bodies
        table = self._good(joined, arrays, columns)
        self.odd = len(odd) + int(bad.sum())
        if not self.odd:
            return table
        odd += [good[i] for i in np.flatnonzero(bad)]
        kept = [good[i] for i in np.flatnonzero(~bad)]
        parts = ([table[~bad]] if kept else []) + [self._odd([bytes(text[slice(*rows[i])]) for i in odd])]
        together = archive._concatenate(parts) if len(parts) > 1 else parts[0]
        return dataclasses.replace(together[np.argsort([*kept, *odd], kind="stable")], origin=str(layout.path))

    def _scalars(self, rows: Sequence[Sequence[bytes]]) -> dict[str, np.ndarray] | None:
        """The columns of scalars of some rows; None where a cell is missing or odd."""
        out: dict[str, np.ndarray] = {}
        most = {"source_id": 2**63 - 1}
        most |= {f"{xp}_n_relevant_bases": n for xp, n in zip(self.release.xp, self.release.n_basis, strict=True)}
        for name, place in self.layout.scalars.items():
            if name not in most and name not in KEPT:
                continue
            texts = [row[place] for row in rows]
            together = b"".join(texts)
            try:
                if name in KEPT:
                    numbers = np.array([*map(float, texts)], np.float64)
                    if b"_" in together or not np.isfinite(numbers).all():
                        return None
                    out[name] = numbers.astype(self.kept[name])
                else:
                    integers = [*map(int, texts)]
                    if rows and (not together.isdigit() or min(integers) < 1 or max(integers) > most[name]):
                        return None
                    out[name] = np.array(integers, np.int64)
            except ValueError:
                return None
        return out

    def _parse(self, cells: Sequence[memoryview], out: np.ndarray, bad: np.ndarray) -> None:
        """Numbers of cells into the rows of out; bad where a cell is no array of that many numbers."""
        if not cells or self.parse(cells, out):
            return
        for i, cell in enumerate(cells):
            if not self.parse([cell], out[i : i + 1]):
                bad[i] = True
                out[i] = 0

    def _good(
        self, joined: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray], scalars: Mapping[str, np.ndarray]
    ) -> SourceTable:
        """Sources of rows whose cells are all there; the archive reader judges them unless all numbers are sound."""
        layout, release, ids = self.layout, self.release, scalars["source_id"]
        n = len(ids)
        relevant = np.stack([scalars[f"{xp}_n_relevant_bases"] for xp in release.xp], axis=1).astype(np.int32)
        columns = {name: column for name, column in scalars.items() if name in KEPT}
        value, error = joined["coefficients"], joined["coefficient_errors"]
        correlation = joined.get("coefficient_correlations")
        # Comparisons with NaN are false.
        sound = np.isfinite(value).all() and ((error >= 0) & (error < np.inf)).all()
        if correlation is not None:
            sound = sound and (not n or (correlation.max() < 1.001 and correlation.min() > -1.001))
        if sound:
            coefficients: Any = (value, error, correlation, relevant, release)
            status = np.zeros(n, np.uint32)
            if correlation is None:
                status |= np.uint32(sum(Status[f"{xp.upper()}_NO_ERROR"] for xp in release.xp))
            return SourceTable(ids, XPCoefficients(*coefficients), status, columns, str(layout.path))
        vectors = {
            name: Vectors(np.ascontiguousarray(a).ravel(), np.full(n, a.shape[1], np.int64))
            for name, a in arrays.items()
        }
        table = _loaders.Table({**scalars, **vectors}, n, str(layout.path))
        return dataclasses.replace(archive._assemble(table, release, self.dtype, []), columns=columns)

    def _odd(self, lines: Sequence[bytes]) -> SourceTable:
        """Sources of odd rows, by the archive reader. Raises _NotPlainError where they are no rows."""
        layout, release = self.layout, self.release
        text = io.BytesIO(b"\n".join([*lines, self.company, b""]))
        try:
            batches = _loaders._careful_batches(text, layout.names, ",", layout.path)
            found = _loaders._text_columns(batches, layout.names, release.xp)
            table = _loaders._table(zip(layout.names, found or (), strict=True), release.xp, str(layout.path))
            if not layout.correlations:
                table = _without_correlations(table)
            read = archive._assemble(table, release, self.dtype, [])
        except ValueError as exc:
            raise _KeepError from exc
        if len(read) != len(lines) + 1:
            raise _KeepError
        for xp, n_basis in zip(release.xp, release.n_basis, strict=True):
            vectors = table.columns[f"{xp}_coefficients"]
            if release is not DR3 and not np.isin(vectors.length, (0, n_basis)).all():  # type: ignore[union-attr]
                raise _KeepError  # which release it is must be found out from all rows
        columns = {}
        for name in layout.scalars:
            if name in KEPT:
                numbers, repaired = archive._numbers(table, name)
                columns[name] = numbers.astype(self.kept[name])
                read.status[repaired] |= np.uint32(Status.CELL_REPAIRED)
        return dataclasses.replace(read, columns=columns)[: len(lines)]


# --- numbers ----------------------------------------------------------------------------------------------------------

Parser = Callable[[Sequence[memoryview], np.ndarray], bool]
"""parse(cells `a,b`, out (n, k) of floats) -> whether all cells are k numbers; out is then filled."""


_MARK_VALUE = 1.2345678901234567e300
_MARK = b",%b" % str(_MARK_VALUE).encode()
"""After each cell of a text: where it is among the numbers tells how many each cell has."""


@functools.cache
def _number_parser() -> Parser:
    try:
        import simdjson
    except ImportError:
        return _parse_with_arrow
    return functools.partial(_parse_with_simdjson, simdjson.Parser())


def _parse_with_simdjson(parser: Any, cells: Sequence[memoryview], out: np.ndarray) -> bool:
    width = out.shape[1]
    after = _MARK + b","
    # Short cells together, long ones alone: a call has its price, and the text should stay in the first cache.
    step = max((1 << 14) // max(len(cells[0]), 1), 1)
    for start in range(0, len(cells), step):
        part = cells[start : start + step]
        total = (width + 1) * len(part)
        try:
            parsed = parser.parse(b"[%b%b]" % (after.join(part), _MARK))
            length, numbers = len(parsed), np.frombuffer(parsed.as_buffer(of_type="d"))
            del parsed  # the parser takes no more while it lives
        except (ValueError, TypeError, RuntimeError, AttributeError):
            return False
        # The list's own length too: in the buffer lists within it are as if they were not.
        if length != total or len(numbers) != total or (numbers[width :: width + 1] != _MARK_VALUE).any():
            return False
        _cast(numbers.reshape(len(part), width + 1)[:, :width], out[start : start + len(part)])
    return True


def _parse_with_arrow(cells: Sequence[memoryview], out: np.ndarray) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    width = out.shape[1]
    step = max((1 << 18) // max(len(cells[0]), 1), 1)
    for start in range(0, len(cells), step):
        part = cells[start : start + step]
        try:
            bodies = [cell.replace(b", ", b",") if b" " in cell else cell for cell in map(bytes, part)]
            texts = pa.array(bodies, pa.string())
            lists = pc.split_pattern(texts, ",")
            if not pc.all(pc.equal(pc.list_value_length(lists), width)).as_py():
                return False
            numbers = pc.cast(pc.list_flatten(lists), pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            return False
        _cast(numbers.reshape(len(part), width), out[start : start + len(part)])
    return True


def _cast(numbers: np.ndarray, out: np.ndarray) -> None:
    with np.errstate(over="ignore"):  # what overflows float32 is a bad row
        out[...] = numbers


# --- gaia_source ------------------------------------------------------------------------------------------------------


def gaia_columns(files: Iterable[Path]) -> tuple[str, ...]:
    """The columns of `JOINED` that any of these files has. Raises ValueError for a file without source_id."""
    found = set()
    for path in files:
        names = {name.lower() for name in _gaia_names(path)}
        if "source_id" not in names:
            raise XpjaxError(f"{path}: no column source_id; {_loaders.listed(names)}")
        if {"phot_bp_mean_mag", "phot_rp_mean_mag"} <= names:
            names.add("bp_rp")
        if not names & {*JOINED}:
            raise XpjaxError(f"{path}: none of the columns {', '.join(JOINED)}; {_loaders.listed(names)}")
        found |= names & {*JOINED}
    return tuple(name for name in JOINED if name in found)


def _kind(path: Path) -> str:
    name = path.name.lower()
    for kind, suffixes in {
        "text": BULK_SUFFIXES,
        "fits": (".fits", ".fits.gz", ".fit"),
        "parquet": (".parquet",),
    }.items():
        if name.endswith(suffixes):
            return kind
    raise XpjaxError(f"{path}: files of gaia_source are csv, csv.gz, ecsv, fits or parquet")


def _gaia_names(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    kind = _kind(path)
    with _loaders._as_value_error(path, kind):
        if kind == "text":
            with _loaders._open_text(path) as stream:
                return _loaders._text_header(stream, path)[0]
        if kind == "fits":
            from astropy.io import fits

            with fits.open(path) as hdus:
                return list(hdus[1].columns.names)
        import pyarrow.parquet

        return list(pyarrow.parquet.read_schema(path).names)


@functools.lru_cache(maxsize=2)
def _gaia_table(path: Path) -> dict[str, np.ndarray]:
    """source_id, ascending, and the columns of `JOINED` that a file of gaia_source has. Raises ValueError."""
    wanted = {name: name.lower() for name in _gaia_names(path) if name.lower() in ("source_id", *JOINED)}
    kind = _kind(path)
    with _loaders._as_value_error(path, kind):
        read = {"text": _gaia_text, "fits": _gaia_fits, "parquet": _gaia_parquet}[kind]
        table = {wanted[name]: column for name, column in read(path, list(wanted)).items()}
    order = np.argsort(table["source_id"], kind="stable")  # once, for all blocks that are joined
    table = {name: column[order] for name, column in table.items()}
    if "bp_rp" not in table and {"phot_bp_mean_mag", "phot_rp_mean_mag"} <= {*table}:
        table["bp_rp"] = table["phot_bp_mean_mag"] - table["phot_rp_mean_mag"]
    return table


def _gaia_text(path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    import pyarrow as pa
    import pyarrow.csv

    with _loaders._open_text(path) as stream:
        names, delimiter = _loaders._text_header(stream, path)
        table = pa.csv.read_csv(
            pa.PythonFile(stream, "r"),
            pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=1 << 24),
            pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pa.csv.ConvertOptions(
                column_types={n: pa.int64() if n.lower() == "source_id" else pa.float64() for n in wanted},
                include_columns=list(wanted),
                null_values=["", "null", "nan", "NaN", "NULL", "--"],
            ),
        )
    return {name: table[name].to_numpy() for name in wanted}


def _gaia_parquet(path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path, columns=list(wanted))
    return {name: table[name].to_numpy() for name in wanted}


def _gaia_fits(path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    from astropy.io import fits

    with fits.open(path, memmap=False) as hdus:
        return {
            name: np.asarray(hdus[1].data[name]).astype(hdus[1].data[name].dtype.newbyteorder("=")) for name in wanted
        }


def _pixel_range(path: Path) -> tuple[int, int] | None:
    """First and last HEALPix pixel of level 8 that the archive's name of a bulk file says."""
    match = re.search(r"_(\d+)-(\d+)\.", path.name)
    return (int(match[1]), int(match[2])) if match else None


def _join(ids: np.ndarray, files: Sequence[Path], names: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns (n,) of gaia_source for these ids, NaN where no file has them; and which ids were found."""
    columns = {name: np.full(len(ids), np.nan, JOINED[name]) for name in names}
    found = np.zeros(len(ids), bool)
    here = ids[ids != 0] >> 43
    for path in files:
        pixels = _pixel_range(path)
        if not len(here) or (pixels is not None and (pixels[1] < here.min() or pixels[0] > here.max())):
            continue
        table = _gaia_table(path)
        place = places_of(ids, table["source_id"])
        matched = (place >= 0) & (ids != 0)
        for name in names:
            if name in table:
                columns[name][matched] = table[name][place[matched]]
        found |= matched
    return columns, found
