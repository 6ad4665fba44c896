"""Rows of the archive's tables on disk, by source_id: parts that are whole or not there, and ids without rows.

A folder has parts, `part-HASH.h5`, and `missing.csv`. A part is named after the ids in it, so that whoever fetches the
same ids writes the same file, and is renamed into place when it is whole: a kill leaves no half of one, and processes
need no lock. Small parts are merged when there are many. To empty the cache is to remove the folder.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import say
from xpjax.io.atomic import ABANDONED, explain, remove_abandoned, write_bytes
from xpjax.io.columns import join_columns
from xpjax.io.hdf5 import open_hdf5

FORMAT, VERSION = "xpjax-download", 2
KEY = "source_id"
SMALL, MOST_SMALL = 1000, 32
"""Parts of fewer rows are small; when there are so many small ones, they are merged."""
CHUNK = 64
"""Rows that share a checksum in a part."""
MISSING_DAYS = 7
"""After so many days ids without rows are asked for again."""

Columns = dict[str, np.ndarray]
_WRITING = threading.Lock()
"""Threads that write the same part at the same time would share its temporary file."""


def cache_root() -> Path:
    """Where caches are: XPJAX_CACHE, or xpjax in XDG_CACHE_HOME, or in ~/.cache."""
    if own := os.environ.get("XPJAX_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "xpjax"


class Cache:
    """The rows in one folder, which is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(folder)
            for old in folder.glob(".scratch-*"):
                if time.time() - old.stat().st_mtime > 6 * ABANDONED:
                    shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            told = explain(error, folder)
            raise type(told)(
                f"{told} for the cache: set XPJAX_CACHE, or leave it out by {say('cache=False', '--no-cache')}"
            ) from error
        self._ids: dict[str, np.ndarray] = {}
        self._names: list[str] = []
        self._index = np.empty(0, np.int64), np.empty(0, np.int64)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for files that are not needed afterwards, on the same disk."""
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=self.folder, ignore_cleanup_errors=True) as name:
            yield Path(name)

    # --- in

    def add(self, columns: Mapping[str, np.ndarray]) -> str:
        """Keep rows, at least one; all rows of an id are added together. The name of the part."""
        order = np.argsort(columns[KEY], kind="stable")
        columns = {name: np.asarray(column)[order] for name, column in columns.items()}
        text = hashlib.sha256(np.unique(columns[KEY]).astype("<i8").tobytes()).hexdigest()[:24]
        name = f"part-{text}.h5"
        data = _encoded(columns)
        with _WRITING:
            write_bytes(self.folder / name, data)
        return name

    def add_missing(self, ids: np.ndarray) -> None:
        """Note ids that have no rows, with today's date."""
        if not len(ids):
            return
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        # What a killed process left of its last line is closed by the first line break.
        lines = "\n" + "".join(f"{one},{today}\n" for one in ids.tolist())
        path = self.folder / "missing.csv"
        try:
            with path.open("ab", buffering=0) as stream:
                stream.write(lines.encode())
                os.fsync(stream.fileno())
        except OSError as error:
            raise explain(error, path) from error

    def merge(self) -> None:
        """Make one part of the small ones, where there are many."""
        self._places(np.empty(0, np.int64))
        small = [name for name, ids in self._ids.items() if len(ids) < SMALL]
        if len(small) < MOST_SMALL:
            return
        kinds: dict[tuple[Any, ...], list[str]] = {}
        read = {name: columns for name in small if (columns := self._read(name)) is not None}
        for name, columns in read.items():
            kinds.setdefault(tuple((n, c.shape[1:]) for n, c in columns.items()), []).append(name)
        for names in kinds.values():
            seen, kept = np.empty(0, np.int64), []
            for name in names:
                rows = ~np.isin(read[name][KEY], seen)
                kept.append({n: c[rows] for n, c in read[name].items()})
                seen = np.concatenate([seen, read[name][KEY]])
            sizes = [len(part[KEY]) for part in kept]
            whole = self.add({n: join_columns([part[n] for part in kept], sizes) for n in kept[0]})
            for name in {*names} - {whole}:
                (self.folder / name).unlink(missing_ok=True)

    # --- out

    def has(self, ids: np.ndarray) -> np.ndarray:
        """Which of these ids have rows."""
        return self._places(ids) >= 0

    def is_missing(self, ids: np.ndarray, days: float = MISSING_DAYS) -> np.ndarray:
        """Which of these ids were noted to have no rows, at most so many days ago."""
        try:
            text = (self.folder / "missing.csv").read_text("ascii", "replace")
        except FileNotFoundError:
            return np.zeros(len(ids), bool)
        oldest = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)).date().isoformat()
        noted = re.findall(r"^(\d{1,19}),(\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
        return np.isin(ids, np.array([int(one) for one, date in noted if date >= oldest], np.int64))

    def take(self, ids: np.ndarray) -> list[Columns]:
        """The rows of these ids, those of an id from one part; parts by the first of their ids here.

        A part that is damaged is told, removed, and has no rows.
        """
        left, out = ids, []
        for _ in range(5):  # another process may merge parts meanwhile: then what is left is found in another one
            places, names = self._places(left), self._names
            for k in np.unique(places[places >= 0]).tolist():
                if (columns := self._read(names[k], left[places == k])) is not None:
                    out.append((int(np.flatnonzero(np.isin(ids, columns[KEY]))[0]), columns))
            left = left[~np.isin(left, np.concatenate([np.empty(0, np.int64), *(part[KEY] for _, part in out)]))]
            if not len(left) or (self._places(left) < 0).all():
                break
        return [columns for _, columns in sorted(out, key=lambda item: item[0])]

    def _places(self, ids: np.ndarray) -> np.ndarray:
        """The part, by its number, that has each id; -1 for none."""
        names = sorted(path.name for path in self.folder.glob("part-*.h5"))
        if names != self._names:
            for name in names:
                if name not in self._ids and (columns := self._read(name, only=[KEY])) is not None:
                    self._ids[name] = columns[KEY]
            self._names = [name for name in names if name in self._ids]
            self._ids = {name: self._ids[name] for name in self._names}
            every = np.concatenate([np.empty(0, np.int64), *self._ids.values()])
            number = np.repeat(np.arange(len(self._ids)), [len(part) for part in self._ids.values()])
            unique, first = np.unique(every, return_index=True)
            self._index = unique, number[first]
        known, number = self._index
        if not len(known):
            return np.full(len(ids), -1)
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[at] == ids, number[at], -1)

    def _read(self, name: str, ids: np.ndarray | None = None, only: Sequence[str] | None = None) -> Columns | None:
        """Columns of a part, of some ids or of all; None where it is gone, or damaged, which is told."""
        path = self.folder / name
        try:
            with open_hdf5(path) as file:
                if file.attrs.get("format") != FORMAT.encode() or int(file.attrs["format_version"]) > VERSION:
                    raise OSError("another format")
                names = only or json.loads(file.attrs["columns"])
                rows: Any = slice(None)
                if ids is not None:
                    rows = np.flatnonzero(np.isin(file[KEY][:], ids))
                return {one: _rows(file[one], rows) for one in names}
        except FileNotFoundError:
            return None
        except MemoryError:
            raise
        except Exception as error:  # damage makes HDF5 and its readers raise nearly anything
            warnings.warn(f"{path} is damaged ({error}): removed, its sources are fetched again", stacklevel=2)
            path.unlink(missing_ok=True)
            return None


def _encoded(columns: Mapping[str, np.ndarray]) -> bytes:
    """A part as bytes: the same columns give the same bytes."""
    import h5py

    buffer = io.BytesIO()
    # From this version on HDF5 has checksums of what it writes for itself: damage is told, where it could hang.
    with h5py.File(buffer, "w", track_order=True, libver=("v110", "v110")) as file:
        # Text of fixed length: that of any length lies in heaps, which have no checksums.
        held = np.bytes_(FORMAT.encode()), np.bytes_(json.dumps([*columns]).encode())
        file.attrs.update({"format": held[0], "format_version": VERSION, "columns": held[1]})
        for name, column in columns.items():
            text = column.dtype.kind == "U"
            if text:
                column = np.char.encode(column, "utf-8")
                column = column.astype(f"S{max(column.dtype.itemsize, 1)}")
            chunks = (min(CHUNK if column.ndim > 1 else CHUNK * CHUNK, len(column)), *column.shape[1:])
            data = file.create_dataset(name, data=column, chunks=chunks, fletcher32=True, track_times=False)
            data.attrs["text"] = text
    return buffer.getvalue()


def _rows(data: Any, rows: Any) -> np.ndarray:
    """Rows of a column: few are read by themselves, many with all others."""
    few = not isinstance(rows, slice) and 8 * len(rows) < len(data)
    array = data[rows] if few and len(rows) else data[:][rows]
    return np.char.decode(array, "utf-8") if data.attrs["text"] else array
