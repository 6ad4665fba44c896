"""What a run is to do: its job, the units of its store, and where their parts and records lie."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpjax.catalogue.products import Content
from xpjax.core.conditions import parse_where
from xpjax.core.errors import XpjaxError
from xpjax.xp import COMPACT, LEADING, Store, StoreFile

FORMATS = ("parquet", "hats", "fits", "hdf5")
SUFFIXES = {"parquet": ".parquet", "hats": ".arrow", "fits": ".fits", "hdf5": ".h5"}
STATE = "_xpjax"
"""Readers of a folder of Parquet files pass over names that begin with an underscore."""
UNIT_ROWS = 2**20
"""The most rows of a unit: what FITS, HDF5 and HATS parts hold in memory."""
CHUNK_BYTES = 2**27
"""Bytes of sources read at a time; one chunk is read, one waits, one is computed."""
BLOCK_ROWS = 4096
"""Chunks are whole blocks of the store's checksums, so that none is read twice."""
HATS_ROWS = 1_000_000


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
        for k, start in enumerate(range(0, n, rows) or [0]):
            units.append(Unit(f"{file.name}.{k:04d}" if n > rows else file.name, file, start, min(start + rows, n)))
    twice = sorted(name for name, n in collections.Counter(unit.name for unit in units).items() if n > 1)
    if twice:
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
    named: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Which column of the input is what, where that was said."""
    chunk: int = 0
    """Rows of a usual chunk: batches divide it evenly, in every process and however often the run is taken up."""

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """What the rows depend on, as JSON: a run is only resumed with the same."""
        hats = {"hats_rows": self.hats_rows} if self.format == "hats" else {}
        own = {"format": self.format, "where": self.where, "keep": list(self.keep)}
        named = {"columns": dict(sorted(self.named.items()))} if self.named else {}
        return {**own, **named, **hats, **self.content.options}

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

    def noise_of(self, file: StoreFile) -> dict[str, Any]:
        """What is read of a file's errors and correlations: of compact covariances, which hold errors, what is used."""
        if not self.content.errors or file.correlations != COMPACT:
            return {"errors": self.content.errors, "correlations": self.content.errors}
        return {"errors": False, "correlations": True if self.content.serving(file.subspace).whole else LEADING}

    def row_bytes(self, file: StoreFile) -> int:
        """Bytes in memory of a source of a store file as it is read."""
        return file.row_bytes(**self.noise_of(file))

    def chunk_rows(self, file: StoreFile) -> int:
        """Rows of a store file that are read at a time."""
        return max(CHUNK_BYTES // (self.row_bytes(file) * BLOCK_ROWS), 1) * BLOCK_ROWS
