"""The store: a directory of HDF5 files of XP sources, one per Gaia range, read at the speed of the disk.

`xpjax.xp.store.format` has the layout of the files, which h5py alone can read. The names of the modules beside this
one are found here too.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.engine import aligned
from xpjax.core.errors import XpjaxError
from xpjax.core.release import Release
from xpjax.io.atomic import expanded
from xpjax.io.hdf5 import open_hdf5
from xpjax.xp.sources import SourceTable, XPCoefficients
from xpjax.xp.store.file import StoreFile, open_store_file
from xpjax.xp.store.format import (
    BLOCK,
    CORRELATIONS,
    FORMAT,
    HEALPIX_LEVEL,
    HEALPIX_SHIFT,
    MISSING,
    SCALE,
    SUFFIX,
    UNITS,
    VERSION,
    G,
    StoreError,
    plain_attribute,
)
from xpjax.xp.store.sky import as_cone, cone_ranges, in_range, on_sky, pixel_centers, pixel_ranges, separation, within
from xpjax.xp.store.writer import StoreWriter, write_store_file

__all__ = [
    "BLOCK",
    "CORRELATIONS",
    "FORMAT",
    "HEALPIX_LEVEL",
    "HEALPIX_SHIFT",
    "MISSING",
    "SCALE",
    "SUFFIX",
    "UNITS",
    "VERSION",
    "Store",
    "StoreError",
    "StoreFile",
    "StoreWriter",
    "is_store",
    "on_sky",
    "open_store",
    "pixel_centers",
    "write_store_file",
]


def open_store(path: str | os.PathLike[str]) -> Store:
    """A store: a directory of store files, or one of them; nothing but the attributes of the files is read.

    A file of a directory that is too damaged to be opened is listed with its `damage`, and reading it raises
    StoreError. Raises FileNotFoundError, and ValueError for files that are no store files or of several releases.
    """
    path = expanded(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or directory")
    if not path.is_dir():
        file = open_store_file(path)
        if file.damage:
            raise StoreError(file.damage)
        return Store(path, (file,))
    files = [open_store_file(member) for member in sorted(path.glob(f"*{SUFFIX}"))]
    whole = [file for file in files if not file.damage]
    if not whole:
        raise XpjaxError(files[0].damage if files else f"{path}: no store file (*{SUFFIX}) in this directory")
    first = whole[0]
    for file in whole:
        if (file.release.n_basis, file.release.xp) != (first.release.n_basis, first.release.xp):
            raise XpjaxError(
                f"{path}: {file.path.name} is of {file.release.name} {file.release.n_basis}, {first.path.name} of "
                f"{first.release.name} {first.release.n_basis}; keep each release in a directory of its own"
            )
    files = [dataclasses.replace(file, release=first.release) if file.damage else file for file in files]
    return Store(path, tuple(sorted(files, key=lambda file: (bool(file.damage), file.source_ids[0], file.name))))


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a store file, or a directory that holds one."""
    path = expanded(path)
    if path.is_dir():
        return any(is_store(member) for member in path.glob(f"*{SUFFIX}"))
    if path.suffix != SUFFIX or not path.is_file():
        return False
    try:
        with open_hdf5(path) as file:
            return plain_attribute(file.attrs.get("format")) == FORMAT
    except OSError:
        return False


@dataclasses.dataclass(frozen=True, eq=False)
class Store:
    """Store files, by their first source_id; `open_store` makes one."""

    path: Path
    files: tuple[StoreFile, ...]

    def __len__(self) -> int:
        return sum(len(file) for file in self.files)

    def __bool__(self) -> bool:
        return True

    @property
    def _whole(self) -> tuple[StoreFile, ...]:
        return tuple(file for file in self.files if not file.damage)

    @property
    def release(self) -> Release:
        """The data release of all files."""
        return self.files[0].release

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the further columns that all files have."""
        return tuple(n for n in self._whole[0].columns if all(n in file.columns for file in self._whole))

    @property
    def has_errors(self) -> bool:
        """Whether all files have errors."""
        return all(file.has_errors for file in self._whole)

    @property
    def correlations(self) -> str:
        """none where a file is without; else int16 where a file is in fixed point, else float32."""
        return min((file.correlations for file in self._whole), key=("none", "int16", "float32").index)

    def verify(self) -> list[str]:
        """What is wrong with the files, a line each; empty where all is well."""
        return [problem for file in self.files for problem in file.verify()]

    def read(self, *, columns: Sequence[str] | None = None, **options: Any) -> SourceTable:
        """All sources; columns None stands for those that all files have. Options and errors as of `StoreFile.read`."""
        names = self.columns if columns is None else columns
        return _joined([file.read(columns=names, **options) for file in self.files], self)

    def select(
        self,
        source_ids: Any = None,
        *,
        healpix: tuple[int, Any] | None = None,
        cone: tuple[float, float, float] | None = None,
        magnitude: tuple[float, float] | None = None,
        columns: Sequence[str] | None = None,
        errors: bool = True,
        correlations: bool = True,
        check: bool = True,
    ) -> SourceTable:
        """The sources that meet all conditions, in the order of the files: for selections that fit in memory.

        source_ids: (m,) integers. healpix: level 0..12 and nested pixels of it, as source_id has them. cone: ra, dec
        and radius in degrees, or Quantities; positions are the columns ra and dec, else the centers of the level-12
        pixels of source_id. magnitude: the least and the greatest phot_g_mean_mag, both included. columns: None for
        those that all files have. check reads whole blocks of 4,096 rows for each source: False is faster for
        scattered ones.

        Raises StoreError, and ValueError for conditions that the store cannot answer.
        """
        names = self.columns if columns is None else tuple(columns)
        wanted = None if source_ids is None else _as_ids(source_ids)
        ranges = [] if wanted is None else [(int(i), int(i) + 1) for i in wanted]
        cone = None if cone is None else as_cone(*cone)
        pixels = pixel_ranges(*healpix) if healpix is not None else None
        disc = cone_ranges(*cone) if cone is not None else None
        parts = []
        for file in self.files:
            if file.damage:
                raise StoreError(file.damage)
            low, high = file.source_ids
            candidates = [part for part in (pixels, disc) if part is not None]
            if wanted is not None:
                near = np.searchsorted(wanted, [low, high + 1])
                candidates.append(np.array(ranges[near[0] : near[1]], np.int64).reshape(-1, 2))
            if not all(((part[:, 0] <= high) & (part[:, 1] > low)).any() for part in candidates) or not len(file):
                continue
            ids = file.scalars("source_id", check)
            keep = np.ones(len(file), bool)
            for part in candidates:
                keep &= within(ids, part)
            rows = np.flatnonzero(keep)
            if magnitude is not None and len(rows):
                rows = rows[in_range(file.scalars(G, check)[rows], *magnitude)]
            if cone is not None and len(rows):
                rows = rows[separation(*file.positions(ids, rows, check), *cone[:2]) <= cone[2]]
            if len(rows):
                options: dict[str, Any] = {"errors": errors, "correlations": correlations, "check": check}
                parts.append(file.take(rows, columns=names, **options))
        return _joined(parts, self, columns=names, errors=errors, correlations=correlations)


def _as_ids(source_ids: Any) -> np.ndarray:
    """Ids (m,), each once. Raises XpjaxError for numbers that may have been rounded."""
    ids = np.asarray(source_ids)
    if ids.size and ids.dtype.kind not in "iu":
        raise XpjaxError(f"source ids are integers of 64 bits, not {ids.dtype}: read them as integers or text")
    return np.unique(ids.astype(np.int64))


def _joined(parts: Sequence[SourceTable], store: Store, **options: Any) -> SourceTable:
    """One table of several; without any, an empty one."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return store._whole[0].read(0, 0, **options)
    release, found = store.release, [part.coefficients for part in parts]
    n = sum(map(len, parts))

    def joined(name: str, width: int) -> np.ndarray | None:
        arrays = [getattr(c, name) for c in found]
        if any(array is None for array in arrays):
            return None
        out = aligned((n, width), np.result_type(*arrays))
        return np.concatenate(arrays, out=out)

    coefficients: Any = (
        joined("value", release.n_basis_total),
        joined("error", release.n_basis_total),
        joined("correlation", release.n_pair_total),
        joined("n_relevant", len(release.xp)),
        release,
    )
    return SourceTable(
        np.concatenate([part.source_id for part in parts]),
        XPCoefficients(*coefficients),
        np.concatenate([part.status for part in parts]),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
        str(store.path),
    )
