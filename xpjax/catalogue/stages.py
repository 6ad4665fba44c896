"""The three stages of a unit: its sources are read, its rows computed, its part written, all at the same time.

A part is written under a temporary name, synced, renamed, and only then its manifest is: a unit is finished or was
never begun. Three threads pass chunks on, a bounded number of bytes each: one reads and checks, one computes in batches
of a fixed size, one writes; memory does not depend on the input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import operator
import time
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.catalogue.job import Job, Unit
from xpjax.catalogue.locks import write_json
from xpjax.catalogue.parts import WRITERS
from xpjax.core import engine
from xpjax.core.conditions import parse_where
from xpjax.core.records import Catalogue
from xpjax.core.status import Status
from xpjax.core.version import __version__
from xpjax.io.atomic import whole_files
from xpjax.xp import StoreFile, crc32

SEALING = 4
"""Parts that may wait to be synced and named while others are written."""


@dataclasses.dataclass(frozen=True)
class _Piece:
    """What the stages pass on: some rows of a unit (a SourceTable, later a Photometry), or why it failed."""

    unit: Unit
    n_read: int = 0
    body: Any = None
    error: Exception | None = None


def _read(job: Job, units: Iterable[Unit]) -> Iterator[_Piece]:
    """The sources of each unit, chunk by chunk, those that are wanted; a unit without any gives one empty chunk."""
    condition = parse_where(job.where) if job.where else None
    for unit in units:
        try:
            step = job.chunk_rows(unit.file)
            for start in range(unit.start, unit.stop, step) or [unit.start]:
                stop = min(start + step, unit.stop)
                table = unit.file.read(start, stop, columns=job.columns, **job.noise_of(unit.file))
                if condition is not None:
                    mask = condition({**table.columns, "source_id": table.source_id, "xp_status": table.status})
                    table = table if mask.all() else table[np.flatnonzero(mask)]
                yield _Piece(unit, stop - start, table)
                del table
        except Exception as exc:
            yield _Piece(unit, error=exc)


def _compute(job: Job, pieces: Iterable[_Piece], devices: engine.Devices) -> Iterator[_Piece]:
    make = job.content.maker(job.chunk, devices)
    made = {"where": job.where or "", "version": __version__}
    for piece in pieces:
        if piece.error is None:
            try:
                table = piece.body
                kept = {name: table.columns[name] for name in job.keep}
                known = {name: text for name, text in piece.unit.file.units.items() if name in job.keep}
                result = make(table).catalogue(kept)
                result = dataclasses.replace(result, units={**known, **result.units}, meta={**result.meta, **made})
                piece = dataclasses.replace(piece, body=result)
                del table, kept, result
            except Exception as exc:
                piece = _Piece(piece.unit, error=exc)
        yield piece
        del piece


def _write(job: Job, unit: Unit, pieces: Iterable[_Piece], pool: ThreadPoolExecutor) -> Callable[[], dict[str, Any]]:
    """Write the part of a unit; it is synced and named, and its manifest written, in the pool: the disk takes its time.

    What is returned waits for that and gives the manifest, or where anything failed the record of it.
    """
    started = time.perf_counter()
    record: dict[str, Any] = {"unit": unit.name, "version": __version__, "options": job.digest}
    counts = np.zeros(0, np.int64)
    n_read = 0

    def bodies() -> Iterator[Catalogue]:
        nonlocal counts, n_read
        for piece in pieces:
            if piece.error is not None:
                raise piece.error
            n_read += piece.n_read
            found = np.bincount(piece.body.columns["xp_status"], minlength=len(counts))
            found[: len(counts)] += counts
            counts = found
            yield piece.body

    def seal(part: contextlib.ExitStack, written: dict[str, int]) -> dict[str, Any]:
        try:
            part.close()
            final = job.part(unit.name)
            output = {"name": final.name, "size": final.stat().st_size, "crc32": _file_crc32(final)}
            manifest = {
                **record,
                "input": {**unit.input, "checksum": input_checksum(unit.file)},
                "output": {**output, "rows": written["rows"]},
                "sources": n_read,
                **written,
                "status": _by_bit(counts),
                "seconds": round(time.perf_counter() - started, 3),
            }
            write_json(job.manifest(unit.name), manifest)
            job.failure(unit.name).unlink(missing_ok=True)
        except Exception as exc:
            return failed(exc)
        return manifest

    def failed(exc: Exception) -> dict[str, Any]:
        message = str(exc) if isinstance(exc, ValueError | OSError) else f"{type(exc).__name__}: {exc}"
        failure = {**record, "error": message or type(exc).__name__}
        with contextlib.suppress(OSError):  # of a full disk
            write_json(job.failure(unit.name), failure)
        return failure

    try:
        with contextlib.ExitStack() as part:
            temporary = part.enter_context(whole_files())
            written = WRITERS[job.format](temporary(job.part(unit.name)), bodies())
            whole = part.pop_all()
    except Exception as exc:
        failure = failed(exc)
        return lambda: failure
    return pool.submit(seal, whole, written).result


def _by_bit(counts: np.ndarray) -> dict[str, int]:
    """How many sources have each status bit, and how many none, from counts (n,) of status values."""
    found = {str(bit.name): int(counts[(np.arange(len(counts)) & int(bit)) != 0].sum()) for bit in Status if bit}
    return {"OK": int(counts[:1].sum())} | {name: n for name, n in found.items() if n}


def input_checksum(file: StoreFile) -> str:
    """The CRC-32, in hexadecimal, of all checksums of a store file."""
    crc = 0
    for name, values in sorted(file.checksums.items()):
        crc = zlib.crc32(values.tobytes(), zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"


def _file_crc32(path: Path) -> str:
    crc = 0
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            crc = crc32()(block, crc)
    return f"{crc:08x}"


def process(
    job: Job, units: Sequence[Unit], devices: engine.Devices, progress: engine.Progress | None
) -> Generator[dict[str, Any]]:
    """Do units one after another, reading, computing and writing at the same time; gives the record of each."""
    if not units:
        return
    done = 0

    def counted(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
        nonlocal done
        for piece in pieces:
            done += piece.n_read
            yield piece
            if progress is not None:
                progress(done)

    stream = engine.ahead(_compute(job, engine.ahead(_read(job, units)), devices))
    try:
        with ThreadPoolExecutor(1) as pool:
            waiting: deque[Callable[[], dict[str, Any]]] = deque()
            for unit, group in itertools.groupby(counted(stream), key=operator.attrgetter("unit")):
                waiting.append(_write(job, unit, group, pool))
                if len(waiting) > SEALING:
                    yield waiting.popleft()()
            yield from (record() for record in waiting)
    finally:
        stream.close()
