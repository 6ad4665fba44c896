"""From a store to a catalogue, file by file: resumable runs that are killed, shared out and never lose work.

A unit is a store file (or a million rows of a longer one). The folder `_xpjax` of the output holds the state:

    job.json           what was asked for and the units; another question on the same output is refused
    units/NAME.json    manifest of a finished unit: input and output with checksums, rows, counts by status, version
    failed/NAME.json   why a unit failed; removed when it succeeds
    lock-I-of-N        held (flock) while shard I of N runs: it goes with the process, however that ends
    partial/           units of a HATS catalogue that is not assembled yet (`xpjax.catalogue.hats`)

A part is written under a temporary name, synced, renamed, and only then its manifest is: a unit is finished or was
never begun. Within a run three threads pass chunks on, a bounded number of bytes each: one reads and checks, one
computes in batches of a fixed size, one writes; memory does not depend on the input.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import itertools
import json
import logging
import operator
import os
import socket
import time
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np

from xpjax.catalogue import hats
from xpjax.catalogue.products import Content, Labels, Magnitudes
from xpjax.core import engine
from xpjax.core.conditions import parse_where
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue
from xpjax.core.status import Status
from xpjax.io import catalogue
from xpjax.io.atomic import whole_files, write_bytes
from xpjax.io.hdf5 import NO_LOCKS, locks_wanted
from xpjax.stellar import LabelFitter
from xpjax.synthetic import AnySystem, Photometer, as_system
from xpjax.wiggles import linear_and_network
from xpjax.xp import Store, StoreError, StoreFile, crc32, open_store

if TYPE_CHECKING:
    import pyarrow

T = TypeVar("T")

FORMATS = ("parquet", "hats", "fits", "hdf5")
SUFFIXES = {"parquet": ".parquet", "hats": ".arrow", "fits": ".fits", "hdf5": ".h5"}
JOB = ("options", "digest", "units")
"""Entries of `job.json` that are needed."""
STATE = "_xpjax"
"""Readers of a folder of Parquet files pass over names that begin with an underscore."""
UNIT_ROWS = 2**20
"""The most rows of a unit: what FITS, HDF5 and HATS parts hold in memory."""
CHUNK_BYTES = 2**27
"""Bytes of sources read at a time; one chunk is read, one waits, one is computed."""
BLOCK_ROWS = 4096
"""Chunks are whole blocks of the store's checksums, so that none is read twice."""
HATS_ROWS = 1_000_000
SEALING = 4
"""Parts that may wait to be synced and named while others are written."""
_REMEDY = "remove the file if another program wrote it, or begin another output"
UNPLACED = "unplaced"
"""Entry of a manifest: how many rows of a HATS catalogue have no position of their own."""


class Busy(XpjaxError):
    """Another run works on the same output."""


class NoLocks(XpjaxError):
    """The file system of the output has no locks, and the user has not said that none are needed."""


# --- what to do -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Unit:
    """Rows start to stop of a store file, done as a whole; name is that of its part of the output."""

    name: str
    file: StoreFile
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def input(self) -> dict[str, Any]:
        """Name, rows and size of the input."""
        size = self.file.path.stat().st_size
        return {"name": self.file.path.name, "rows": [self.start, self.stop], "size": size}


def units_of(store: Store, rows: int = UNIT_ROWS) -> list[Unit]:
    """The units of a store, in its order. Raises ValueError for two of one name."""
    units = []
    for file in store.files:
        n = len(file)
        if n <= rows:
            units.append(Unit(file.name, file, 0, n))
            continue
        starts = range(0, n, rows)
        units += [Unit(f"{file.name}.{k:04d}", file, s, min(s + rows, n)) for k, s in enumerate(starts)]
    names = [unit.name for unit in units]
    if len({*names}) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise XpjaxError(f"{store.path}: units of the same name: {twice[:5]}; rename these store files")
    return units


@dataclasses.dataclass(frozen=True)
class Job:
    """All that a process needs to do units of a catalogue; plain data, which can be sent to other machines."""

    output: Path
    content: Content
    format: str = "parquet"
    where: str | None = None
    keep: tuple[str, ...] = ()
    hats_rows: int = HATS_ROWS
    chunk: int = 0
    """Rows of a usual chunk: batches divide it evenly, in every process and however often the run is taken up."""

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """What the rows depend on, as JSON: a run is only resumed with the same."""
        own: dict[str, Any] = {"format": self.format, "where": self.where, "keep": list(self.keep)}
        if self.format == "hats":
            own["hats_rows"] = self.hats_rows
        return {**own, **self.content.options}

    @property
    def digest(self) -> str:
        """The options in short."""
        return hashlib.sha256(json.dumps(self.options, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def columns(self) -> tuple[str, ...]:
        """The further columns of the store that are read."""
        names = [*self.keep]
        if self.where:
            names += [name for name in parse_where(self.where).names if name not in ("source_id", "xp_status")]
        return tuple(dict.fromkeys((*names, *self.content.columns)))

    def part(self, name: str) -> Path:
        """Where the part of a unit lies."""
        folder = self.output / STATE / "partial" if self.format == "hats" else self.output
        return folder / f"{name}{SUFFIXES[self.format]}"

    def manifest(self, name: str) -> Path:
        """Where the manifest of a finished unit lies."""
        return self.output / STATE / "units" / f"{name}.json"

    def failure(self, name: str) -> Path:
        """Where it is written why a unit failed."""
        return self.output / STATE / "failed" / f"{name}.json"


# --- the three stages -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Piece:
    """What the stages pass on: some rows of a unit (a SourceTable, later a Photometry), or why it failed."""

    unit: Unit
    n_read: int = 0
    body: Any = None
    error: Exception | None = None


def _chunk_rows(job: Job, file: StoreFile) -> int:
    row = file.row_bytes(job.content.errors, job.content.errors)
    return max(CHUNK_BYTES // (row * BLOCK_ROWS), 1) * BLOCK_ROWS


def _read(job: Job, units: Iterable[Unit]) -> Iterator[_Piece]:
    """The sources of each unit, chunk by chunk, those that are wanted; a unit without any gives one empty chunk."""
    condition = parse_where(job.where) if job.where else None
    errors = job.content.errors
    for unit in units:
        try:
            step = _chunk_rows(job, unit.file)
            for start in range(unit.start, unit.stop, step) or [unit.start]:
                stop = min(start + step, unit.stop)
                options: dict[str, Any] = {"errors": errors, "correlations": errors, "columns": job.columns}
                table = unit.file.read(start, stop, **options)
                if condition is not None:
                    mask = condition({**table.columns, "source_id": table.source_id, "xp_status": table.status})
                    table = table if mask.all() else table[np.flatnonzero(mask)]
                yield _Piece(unit, stop - start, table)
                del table
        except Exception as exc:
            yield _Piece(unit, error=exc)


def _compute(job: Job, pieces: Iterable[_Piece], devices: Any) -> Iterator[_Piece]:
    import xpjax

    make = job.content.maker(job.chunk, devices)
    made = {"where": job.where or "", "version": xpjax.__version__}
    for piece in pieces:
        if piece.error is None:
            try:
                table = piece.body
                kept = {name: table.columns[name] for name in job.keep}
                result = make(table).catalogue(kept)
                units = _known_units(piece.unit, job) | dict(result.units)
                result = dataclasses.replace(result, units=units, meta={**result.meta, **made})
                piece = dataclasses.replace(piece, body=result)
                del table, kept, result
            except Exception as exc:
                piece = _Piece(piece.unit, error=exc)
        yield piece
        del piece


def _known_units(unit: Unit, job: Job) -> dict[str, str]:
    return {name: text for name, text in unit.file.units.items() if name in job.keep}


def _write(job: Job, unit: Unit, pieces: Iterable[_Piece], pool: ThreadPoolExecutor) -> Callable[[], dict[str, Any]]:
    """Write the part of a unit; it is synced and named, and its manifest written, in the pool: the disk takes its time.

    What is returned waits for that and gives the manifest, or where anything failed the record of it.
    """
    import xpjax

    started = time.perf_counter()
    record: dict[str, Any] = {"unit": unit.name, "version": xpjax.__version__, "options": job.digest}
    counts = np.zeros(0, np.int64)
    n_read = 0

    def bodies() -> Iterator[Catalogue]:
        nonlocal counts, n_read
        for piece in pieces:
            if piece.error is not None:
                raise piece.error
            n_read += piece.n_read
            found = np.bincount(piece.body.columns["xp_status"])
            total = np.zeros(max(len(counts), len(found)), np.int64)
            total[: len(counts)] += counts
            total[: len(found)] += found
            counts = total
            yield piece.body

    def seal(part: contextlib.ExitStack, written: dict[str, int]) -> dict[str, Any]:
        try:
            part.close()
            final = job.part(unit.name)
            manifest = {
                **record,
                "input": {**unit.input, "checksum": input_checksum(unit.file)},
                "output": {
                    "name": final.name,
                    "size": final.stat().st_size,
                    "crc32": _file_crc32(final),
                    "rows": written["rows"],
                },
                "sources": n_read,
                **written,
                "status": _by_bit(counts),
                "seconds": round(time.perf_counter() - started, 3),
            }
            _write_json(job.manifest(unit.name), manifest)
            job.failure(unit.name).unlink(missing_ok=True)
        except Exception as exc:
            return failed(exc)
        return manifest

    def failed(exc: Exception) -> dict[str, Any]:
        message = str(exc) if isinstance(exc, ValueError | OSError) else f"{type(exc).__name__}: {exc}"
        failure = {**record, "error": message or type(exc).__name__}
        with contextlib.suppress(OSError):  # of a full disk
            _write_json(job.failure(unit.name), failure)
        return failure

    try:
        with contextlib.ExitStack() as part:
            temporary = part.enter_context(whole_files())
            written = _WRITERS[job.format](temporary(job.part(unit.name)), bodies())
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


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    write_bytes(path, json.dumps(record).encode())


def _read_json(path: Path, *keys: str) -> dict[str, Any]:
    """A record, empty where there is none. Raises XpjaxError for a file that is none or is without these keys."""
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise XpjaxError(f"{path}: no record of a catalogue run ({error}); {_REMEDY}") from error
    absent = [key for key in keys if key not in record] if isinstance(record, dict) else [*keys]
    if absent or not isinstance(record, dict):
        raise XpjaxError(f"{path}: no record of a catalogue run (without {', '.join(absent) or 'entries'}); {_REMEDY}")
    return record


def _process(
    job: Job, units: Sequence[Unit], devices: Any, progress: engine.Progress | None
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


# --- parts ------------------------------------------------------------------------------------------------------------


def _table(part: Catalogue) -> pyarrow.Table:
    """A catalogue as an Arrow table, without nulls; units and metadata are where `read_catalogue` finds them."""
    import pyarrow as pa

    def field(name: str, kind: pyarrow.DataType) -> pyarrow.Field:
        notes = {"unit": part.units.get(name), "description": part.descriptions.get(name)}
        return pa.field(name, kind, nullable=False, metadata={key: text for key, text in notes.items() if text})

    def array(column: np.ndarray) -> pyarrow.Array:
        """In place, and without pandas, which `pyarrow.array` imports for half a second."""
        if column.dtype.kind not in "iuf" or column.ndim > 1:
            return pa.array(np.ascontiguousarray(column))
        values = pa.py_buffer(np.ascontiguousarray(column))
        return pa.Array.from_buffers(pa.from_numpy_dtype(column.dtype), len(column), [None, values])

    arrays = [array(column) for column in part.columns.values()]
    fields = [field(name, array.type) for name, array in zip(part.columns, arrays, strict=True)]
    notes = json.dumps({"meta": dict(part.meta)}).encode()
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={b"xpjax": notes}))


Writer = Callable[[Path, Iterable[Catalogue]], dict[str, int]]
"""Writes the part of a unit; what its manifest says of the rows."""


def _write_parquet(path: Path, parts: Iterable[Catalogue]) -> dict[str, int]:
    """Row groups as they come."""
    return {"rows": hats.write_parquet(path, (_table(part) for part in parts))}


def _write_whole(kind: str) -> Writer:
    def write(path: Path, parts: Iterable[Catalogue]) -> dict[str, int]:
        whole = catalogue._plain(catalogue.concatenate(list(parts)))
        catalogue._FORMATS[kind](path, whole)
        return {"rows": len(whole)}

    return write


def _write_partial(path: Path, parts: Iterable[Catalogue]) -> dict[str, int]:
    """The rows of a unit by position, for `hats.assemble`."""
    whole = hats.positioned(catalogue.concatenate(list(parts)))
    hats.write_partial(path, _table(whole))
    return {"rows": len(whole), UNPLACED: int(whole.columns[hats.GUESSED].sum())}


_WRITERS: dict[str, Writer] = {
    "parquet": _write_parquet,
    "hats": _write_partial,
    "fits": _write_whole(".fits"),
    "hdf5": _write_whole(".h5"),
}


# --- runs -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class RunReport:
    """What a run did: units finished now and before, why others failed, rows, counts by status, seconds.

    sources were read now and rows written; complete: the catalogue is whole, all units of all shards are in it;
    unplaced: rows of a HATS catalogue without a position of their own, at the center of source_id's pixel.
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
    fitter: LabelFitter | None = None,
    format: str = "parquet",
    errors: bool = True,
    truncate: bool = False,
    error_correction: bool = False,
    float64: bool = False,
    where: str | None = None,
    keep: Sequence[str] = (),
    shard: tuple[int, int] = (1, 1),
    resume: bool = False,
    devices: Any = None,
    dask: str | None = None,
    progress: engine.Progress | None = None,
    hats_rows: int = HATS_ROWS,
    correction: Any = None,
    systematic: bool = False,
) -> RunReport:
    """Synthetic photometry, or stellar labels, of a store as a catalogue in a directory, a part for each store file.

    Every source has a row, bad ones flagged in xp_status, unless `where` (see `parse_where`) leaves it out; columns are
    those of `Photometry.catalogue`. systems, errors, truncate, error_correction, float64 and devices: as for
    `xpjax.photometry`. keep: columns of the store to pass on. format: parquet, fits or hdf5, a file each; or hats, one
    catalogue in pixels of at most hats_rows, made when all units are done. shard (i, n): every n-th unit, the i-th of
    1..n. dask: "local", or the address of a scheduler. progress is called with the number of sources done. correction:
    a linear one as for `photometry`, or a `Correcting` for a network, whose columns the store must have. systematic:
    columns too of what a linear one leaves; metadata have it at d^2 = 0, and it grows as sqrt(1 + d^2). fitter, instead
    of systems: the rows are its fits; errors, truncate, correction and float64 are then its own.

    resume goes on with what another run left: finished units are not done again. A unit that fails is named in the
    report, and the others are done. Raises ValueError, before anything is written, for wrong options, and on a resumed
    run for other ones; Busy where another run is at work; FileExistsError for an output with content, without resume.
    """
    started, store = time.perf_counter(), store if isinstance(store, Store) else open_store(store)
    if (systems is None) == (fitter is None):
        raise XpjaxError("give systems for magnitudes, or a fitter for stellar labels")
    content: Content
    if fitter is not None:
        content = Labels(fitter)
    else:
        linear, network = linear_and_network(correction)
        bands = as_system(systems, linear)  # type: ignore[arg-type]
        content = Magnitudes(Photometer(bands, errors, truncate, error_correction, float64), network, systematic)
    output = catalogue.expanded(output).absolute()
    job = _checked(store, Job(output, content, format, where, tuple(keep), hats_rows))
    number, of = shard
    if not (of >= 1 and 1 <= number <= of):
        raise XpjaxError(f"shard {number}/{of}: expected i/n with i within 1..n, as in 1/16")
    if dask is None:
        engine.find_devices(devices)
    units = units_of(store)
    chunk = int(np.median([min(len(unit), _chunk_rows(job, unit.file)) for unit in units]))
    job = dataclasses.replace(job, chunk=max(chunk, 1))
    with _locked(job, shard, resume):
        _begin(job, store, units)
        own = units[number - 1 :: of]
        _remove_stale(job, own, everything=of == 1)
        assembled = _is_assembled(job)
        todo = [unit for unit in own if not _finished(job, unit, assembled)]
        names = {unit.name for unit in todo}
        stream = _process(job, todo, devices, progress) if dask is None else _on_dask(job, todo, dask, progress)
        with contextlib.closing(stream):
            records = list(stream)
        complete = _finish(job, units)
    good = [record for record in records if "error" not in record]
    return RunReport(
        job.output,
        tuple(record["unit"] for record in good),
        tuple(unit.name for unit in own if unit.name not in names),
        {record["unit"]: record["error"] for record in records if "error" in record},
        sum(record["sources"] for record in good),
        sum(record["rows"] for record in good),
        _summed(record["status"] for record in good),
        time.perf_counter() - started,
        complete,
        sum(record.get(UNPLACED, 0) for record in good),
    )


def _checked(store: Store, job: Job) -> Job:
    """The job, its questions answerable by the store. Raises ValueError."""
    if job.format not in FORMATS:
        raise XpjaxError(f"no format {job.format!r}; choose from {', '.join(FORMATS)}")
    if job.hats_rows < 1:
        raise XpjaxError(f"a pixel of a HATS catalogue needs at least one row, not {job.hats_rows}")
    job.content.check(store.release, store.path)
    if job.format == "hats":
        positions = tuple(name for name in ("ra", "dec") if name in store.columns)
        if len(positions) == 2:
            job = dataclasses.replace(job, keep=tuple(dict.fromkeys((*positions, *job.keep))))
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
    part = job.content.empty(table, {name: table.columns[name] for name in job.keep})
    if part is None:
        return job
    if job.format == "hats":
        taken = [name for name in (hats.INDEX, hats.GUESSED) if name in part.columns]
        if taken:
            raise XpjaxError(f"cannot keep columns {taken}: a HATS catalogue has columns of these names")
    if job.format == "fits" and len(part.columns) > catalogue.FITS_COLUMNS:
        raise XpjaxError(
            f"a FITS table holds {catalogue.FITS_COLUMNS} columns, this catalogue has {len(part.columns)}; choose "
            "parquet, or fewer systems"
        )
    return job


def _begin(job: Job, store: Store, units: Sequence[Unit]) -> None:
    """Write what is asked for, or compare it with what was. Raises ValueError where it differs."""
    folder = job.output / STATE
    for name in ("units", "failed", "partial"):
        (folder / name).mkdir(exist_ok=True)
    with _flock(folder / "lock-job", wait=True):
        before = _read_json(folder / "job.json", *JOB)
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
            _write_json(folder / "job.json", record)


def _is_assembled(job: Job) -> bool:
    return job.format == "hats" and (job.output / STATE / "catalogue.json").exists()


def _finished(job: Job, unit: Unit, assembled: bool) -> bool:
    """Whether a unit is done: its manifest is there, and its part. Raises ValueError where its input has changed."""
    record = _read_json(job.manifest(unit.name))
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


def _finish(job: Job, units: Sequence[Unit]) -> bool:
    """Assemble a HATS catalogue when all units of all shards are done; whether the catalogue is whole."""
    import xpjax

    done = _is_assembled(job)
    if not all(_finished(job, unit, done) for unit in units):
        return False
    if job.format != "hats" or done:
        return True
    state = job.output / STATE
    try:
        with _flock(state / "lock-assemble"):
            if not _is_assembled(job):
                parts = [job.part(unit.name) for unit in units]
                guessed = sum(_read_json(job.manifest(unit.name)).get(UNPLACED, 0) for unit in units)
                origin = "center of the HEALPix pixel of order 12 in source_id"
                if {"ra", "dec"} <= {*job.keep}:
                    origin = f"ra, dec of the store; of {guessed} rows without these the {origin}"
                counts = hats.assemble(
                    parts,
                    job.output,
                    job.hats_rows,
                    {"hats_builder": f"xpjax {xpjax.__version__}", "xpjax_positions": origin},
                )
                _write_json(state / "catalogue.json", counts)
            for unit in units:
                job.part(unit.name).unlink(missing_ok=True)
    except Busy:  # another shard does it
        return False
    return True


def _remove_stale(job: Job, units: Sequence[Unit], everything: bool) -> None:
    """Remove what killed runs left half done; the lock says that no other run has these units."""
    names = {path.name for unit in units for path in (job.part(unit.name), job.manifest(unit.name))}
    state = job.output / STATE
    folders = [job.output, state, *(state / name for name in ("units", "failed", "partial"))]
    if everything:
        folders += (job.output / "dataset").rglob("Dir=*")
        folders.append(job.output / "dataset")
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            if everything or path.name[1:].rsplit(".", 2)[0] in names:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(job: Job, shard: tuple[int, int], resume: bool) -> Iterator[None]:
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
            stack.enter_context(_flock(lock))
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
                with _flock(other, note=False):
                    pass
        if again and not resume:
            option = say("resume=True", "--resume")
            raise FileExistsError(f"the output {output} has content; go on with it with {option}, or name another one")
        yield


@contextlib.contextmanager
def _flock(path: Path, *, wait: bool = False, note: bool = True) -> Iterator[IO[str]]:
    """Hold a lock that goes with the process. Raises Busy where another process has it, NoLocks where there are none.

    HDF5_USE_FILE_LOCKING=FALSE in the environment says to go on without locks there.
    """
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise Busy(
                f"{path.parent.parent}: another run is at work on this output ({holder}); wait for it, or stop it"
            ) from None
        except OSError as exc:
            if exc.errno not in NO_LOCKS:
                raise
            if locks_wanted():
                raise NoLocks(
                    f"{path}: the file system has no locks; set HDF5_USE_FILE_LOCKING=FALSE to go on without them, and "
                    "start no second run on the same units, or choose an output on another disk"
                ) from exc
        if note:
            handle.truncate(0)
            handle.write(f"process {os.getpid()} on {socket.gethostname()}")
            handle.flush()
        yield handle


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts by status bit of several units, in the order of the bits."""
    total: dict[str, int] = {}
    for part in counts:
        for name, n in part.items():
            total[name] = total.get(name, 0) + n
    order = ["OK", *(str(bit.name) for bit in Status if bit)]
    return {name: total[name] for name in order if name in total}


# --- status -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """How far a catalogue is: units finished, failed (with the reason) and left, rows, counts by status.

    sources were read for the finished units, the others are in the failed ones and left; running: shards at work.
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
    running: tuple[str, ...]
    complete: bool


def catalogue_status(output: str | os.PathLike[str]) -> RunStatus:
    """How far the catalogue in a directory is, from the manifests in it. Raises ValueError where there is none."""
    output = catalogue.expanded(output)
    state = output / STATE
    plan = _read_json(state / "job.json", *JOB)
    if not plan:
        raise XpjaxError(f"{output} holds no catalogue run (no {STATE}/job.json)")
    done, failed, left = [], {}, []
    n_failed = n_left = 0
    for name, n in plan["units"]:
        record = _read_json(state / "units" / f"{name}.json")
        if record.get("options") == plan["digest"]:
            done.append(record)
            continue
        failure = _read_json(state / "failed" / f"{name}.json")
        if failure:
            failed[name] = failure["error"]
            n_failed += n
        else:
            left.append(name)
            n_left += n
    running = []
    for path in sorted(state.glob("lock-*-of-*")):
        try:
            with _flock(path, note=False):
                pass
        except Busy:
            running.append(path.name.removeprefix("lock-").replace("-of-", "/"))
        except NoLocks:  # then it is not known
            break
    whole = plan["options"]["format"] != "hats" or (state / "catalogue.json").exists()
    return RunStatus(
        output,
        plan["options"],
        tuple(record["unit"] for record in done),
        failed,
        tuple(left),
        sum(record["sources"] for record in done),
        n_failed,
        n_left,
        sum(record["rows"] for record in done),
        _summed(record["status"] for record in done),
        sum(record["seconds"] for record in done),
        tuple(running),
        whole and len(done) == len(plan["units"]),
    )


# --- Dask -------------------------------------------------------------------------------------------------------------


def do_unit(job: Job, unit: Unit) -> dict[str, Any]:
    """One unit on a worker, alone: as often as it is asked for, the outcome is the same."""
    (record,) = _process(job, [unit], None, None)
    return record


def _on_dask(
    job: Job, units: Sequence[Unit], address: str, progress: engine.Progress | None
) -> Generator[dict[str, Any]]:
    """Do units on Dask workers, as many at a time as keep them busy; a killed worker's unit is done by another."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise XpjaxError("Dask is not installed: pip install 'xpjax[dask]'") from None

    if not units:
        return
    # Workers elsewhere have other working directories.
    files = [dataclasses.replace(unit.file, path=unit.file.path.absolute()) for unit in units]
    units = [dataclasses.replace(unit, file=file) for unit, file in zip(units, files, strict=True)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_warnings_alone())
        target = stack.enter_context(_local_cluster()) if address == "local" else address
        try:
            client = stack.enter_context(Client(target))
            client.wait_for_workers(1, timeout=60)
        except (ValueError, OSError) as error:
            raise XpjaxError(
                f"no Dask workers by {address!r} ({error}): give local, or the address of a scheduler with workers, "
                "as in tcp://HOST:8786"
            ) from error
        waiting = iter(units)
        running = {}

        def submit() -> Any:
            unit = next(waiting, None)
            if unit is None:
                return None
            future = client.submit(do_unit, job, unit, key=f"{job.digest}-{unit.name}-{time.time_ns()}", pure=False)
            running[future.key] = unit
            return future

        ahead = max(2 * sum(client.nthreads().values()), 4)
        futures = as_completed([f for f in (submit() for _ in range(min(ahead, len(units)))) if f is not None])
        done = 0
        for future in futures:
            unit = running.pop(future.key)
            try:
                record = future.result()
            except Exception as exc:  # a worker that dies of this unit each time
                record = {"unit": unit.name, "options": job.digest, "error": f"{type(exc).__name__}: {exc}"}
                with contextlib.suppress(OSError):
                    _write_json(job.failure(unit.name), record)
            done += len(unit)
            if progress is not None:
                progress(done)
            yield record
            more = submit()
            if more is not None:
                futures.add(more)


@contextlib.contextmanager
def _warnings_alone() -> Iterator[None]:
    """Keep from the terminal what Dask tells of its ordinary doings."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(max(before, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(before)


def _local_cluster() -> Any:
    """Workers on this machine, a process each: one for each GPU, which it alone sees, or one for two cores."""
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = _gpus()
    environments = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    environments = environments or [{} for _ in range(max((os.cpu_count() or 1) // 2, 2))]
    workers = {
        k: {"cls": Nanny, "options": {"nthreads": 1, "env": env, "memory_limit": 0, "silence_logs": logging.WARNING}}
        for k, env in enumerate(environments)
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard": False, "host": "127.0.0.1"}}
    return SpecCluster(workers=workers, scheduler=scheduler)


def _gpus() -> list[str]:
    """Names of the NVIDIA GPUs that this process may use, without starting JAX on them; none where JAX is for CPUs."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name != "-1"]
    found = Path("/proc/driver/nvidia/gpus")
    return [str(k) for k in range(len(list(found.iterdir())))] if found.is_dir() else []
