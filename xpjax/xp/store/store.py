"""The store: a directory of HDF5 files of XP sources, one per Gaia range, read at the speed of the disk.

`xpjax.xp.store.format` has the layout of the files, which h5py alone can read.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core.errors import XpjaxError, say
from xpjax.core.release import Release, find_release
from xpjax.io.atomic import expanded
from xpjax.io.hdf5 import model_kind
from xpjax.xp.sources import SourceTable, concatenate
from xpjax.xp.store.file import StoreFile, open_store_file
from xpjax.xp.store.format import CORRELATIONS, FORMAT, SUFFIX, G, StoreError
from xpjax.xp.store.ids import as_ids
from xpjax.xp.store.sky import as_cone, cone_ranges, pixel_ranges, separation, within
from xpjax.xp.wanted import AnyIds


def open_store(path: str | os.PathLike[str], release: Release | str | None = None) -> Store:
    """Open a store, or one of its files; nothing but the attributes of the files is read.

    Parameters
    ----------
    path : path
        A directory of store files, or one of them.
    release : Release or str, optional
        Only the files of this data release, such as "Gaia DR4"; by default all.

    Returns
    -------
    Store
        The store. A file of a directory that is too damaged to be opened is listed with its `damage`; reading it raises
        StoreError.

    Raises
    ------
    FileNotFoundError
        If there is no such file or directory.
    XpjaxError
        If the files are no store files, or none is of the release.

    Examples
    --------
    >>> report = xpjax.ingest(["xp.parquet"], "store")
    >>> len(xpjax.open_store("store"))
    50
    """
    path = expanded(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or directory")
    if not path.is_dir():
        file = open_store_file(path)
        if file.damage:
            raise StoreError(file.damage)
        return _only(Store(path, (file,)), release)
    files = [open_store_file(member) for member in sorted(path.glob(f"*{SUFFIX}"))]
    if all(file.damage for file in files):
        raise XpjaxError(files[0].damage if files else f"{path}: no store file (*{SUFFIX}) in this directory")
    kinds = {file.is_epoch: file.name for file in files if not file.damage}
    if len(kinds) > 1:
        raise XpjaxError(
            f"{path}: {kinds[True]} has epoch spectra (transit_id), {kinds[False]} mean spectra; keep each in a store "
            "of its own"
        )
    order = sorted(files, key=lambda file: (bool(file.damage), file.source_ids[0], file.name))
    return _only(Store(path, tuple(order)), release)


def _only(store: Store, release: Release | str | None) -> Store:
    return store if release is None else store.only(release)


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a store file, or a directory that holds one."""
    path = expanded(path)
    if path.is_dir():
        return any(is_store(member) for member in path.glob(f"*{SUFFIX}"))
    return path.suffix == SUFFIX and path.is_file() and model_kind(path) == FORMAT


@dataclasses.dataclass(frozen=True, eq=False)
class Store:
    """Hold the files of a store, in the order of their first source_id; `xpjax.open_store` makes one.

    Parameters
    ----------
    path : Path
        The directory, or the file.
    files : tuple of StoreFile
        The files; each has `read(start, stop)`, `take(rows)`, `batches(max_bytes)` and `verify()`.

    Examples
    --------
    >>> report = xpjax.ingest(["xp.parquet"], "store")
    >>> store = xpjax.open_store("store")
    >>> bright = store.select(magnitude=(4.0, 17.0), cone=(266.4, -28.9, 90.0))
    >>> store.verify()
    []
    """

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
    def releases(self) -> tuple[Release, ...]:
        """The data releases that the files are of; those of damaged files are not known."""
        found: list[Release] = []
        for file in self._whole:
            if not any(file.release.fits(other) for other in found):
                found.append(file.release)
        return tuple(sorted(found, key=lambda release: release.name))

    @property
    def release(self) -> Release:
        """The data release of all files. Raises XpjaxError where there are several."""
        if len(self.releases) > 1:
            raise _several(self.path, [f"{len(self.only(one)):,} sources of {one.name}" for one in self.releases])
        return self.releases[0]

    def only(self, release: Release | str) -> Store:
        """The files of one data release, and damaged ones, of which it is not known. Raises XpjaxError for none."""
        wanted = find_release(release)
        if not any(one.fits(wanted) for one in self.releases):
            raise XpjaxError(
                f"{self.path} has no file of {wanted.name} {wanted.n_basis}; it has files of "
                f"{', '.join(f'{one.name} {one.n_basis}' for one in self.releases)}"
            )
        return Store(self.path, tuple(file for file in self.files if file.damage or file.release.fits(wanted)))

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
        """The least that a file holds: none, compact, int16 or float32 (`format.CORRELATIONS`)."""
        return min((file.correlations for file in self._whole), key=CORRELATIONS.index)

    def verify(self) -> list[str]:
        """What is wrong with the files, a line each; empty where all is well."""
        return [problem for file in self.files for problem in file.verify()]

    def read(
        self,
        *,
        release: Release | str | None = None,
        columns: Sequence[str] | None = None,
        errors: bool = True,
        correlations: bool | str = True,
        check: bool = True,
    ) -> SourceTable:
        """Read all sources.

        Parameters
        ----------
        release : Release or str, optional
            The data release to read, of a store with files of several.
        columns : sequence of str, optional
            Further columns to read; by default those that all files have.
        errors, correlations, check
            As of `select`.

        Returns
        -------
        SourceTable
            The sources, in the order of the files.

        Raises
        ------
        StoreError
            If a file is damaged.
        XpjaxError
            If the store has files of several releases and none is said.
        """
        options: dict[str, Any] = {"errors": errors, "correlations": correlations, "check": check}
        if release is not None:
            return self.only(release).read(columns=columns, **options)
        self.release  # noqa: B018  # refuses several
        names = self.columns if columns is None else columns
        return _joined([file.read(columns=names, **options) for file in self.files], self)

    def select(
        self,
        source_ids: AnyIds | None = None,
        *,
        healpix: tuple[int, ArrayLike] | None = None,
        cone: tuple[float, float, float] | None = None,
        magnitude: tuple[float, float] | None = None,
        columns: Sequence[str] | None = None,
        errors: bool = True,
        correlations: bool | str = True,
        check: bool = True,
        release: Release | str | None = None,
    ) -> SourceTable:
        """Read the sources that meet all conditions.

        Parameters
        ----------
        source_ids : (m,) array of int, table, path, or list of ids and paths, optional
            Identifiers, or files of them, as `xpjax.fetch` takes them: one a line, or a table with a column source_id.
        healpix : tuple of int and array of int, optional
            Level 0..12, and nested pixels of it, as source_id has them.
        cone : tuple of three floats [deg], optional
            ra, dec and radius, or Quantities. Positions are the columns ra and dec, else the centers of the level-12
            pixels of source_id, to 1 arcmin.
        magnitude : tuple of two floats [mag], optional
            The least and the greatest phot_g_mean_mag, both included.
        columns : sequence of str, optional
            Further columns to read; by default those that all files have.
        errors, correlations : bool
            Whether to read errors and correlations; correlations may be "leading": of compact covariances the part that
            errors of uncorrected passbands and spectra need.
        check : bool
            Whether to verify the checksums of all blocks of 4,096 rows that are touched; not to is faster for scattered
            sources.
        release : Release or str, optional
            The data release to read, of a store with files of several.

        Returns
        -------
        SourceTable
            The sources, in the order of the files.

        Raises
        ------
        StoreError
            If a file is damaged.
        XpjaxError
            If the store cannot answer a condition, or what meets them is of several releases and none is said.

        Warns
        -----
        UserWarning
            If some of several source_ids are not among what is read.
        """
        store = self if release is None else self.only(release)
        only = store.releases[0] if len(store.releases) == 1 else None
        conditions = _Conditions.of(source_ids, healpix, cone, magnitude, only)
        found: list[tuple[StoreFile, np.ndarray]] = []
        for file in store.files:
            if file.damage:
                raise StoreError(file.damage)
            rows = conditions.rows(file, check)
            if len(rows):
                found.append((file, rows))
        chosen = Store(self.path, tuple(file for file, _ in found) or store._whole[:1])
        if len(chosen.releases) > 1:
            said = []
            for one in chosen.releases:
                n = sum(len(rows) for file, rows in found if file.release.fits(one))
                said.append(f"{n:,} of these sources are of {one.name}")
            raise _several(self.path, said)
        names = store.only(chosen.release).columns if columns is None else tuple(columns)
        options: dict[str, Any] = {"columns": names, "errors": errors, "correlations": correlations}
        table = _joined([file.take(rows, check=check, **options) for file, rows in found], store, **options)
        if lacking := conditions.without(table.source_id, str(self.path)):
            warnings.warn(lacking, stacklevel=2)
        return table


def _several(path: Path, said: Sequence[str]) -> XpjaxError:
    option = say("release=", "--release")
    return XpjaxError(f"{path} holds several data releases: {', '.join(said)}; say which one by {option}")


@dataclasses.dataclass(frozen=True)
class _Conditions:
    """What sources are to meet: ids (m,), ranges (m, 2) of source_id, a cone [deg], a range of magnitudes."""

    ids: np.ndarray | None
    ranges: tuple[np.ndarray, ...]
    cone: tuple[float, float, float] | None
    magnitude: tuple[float, float] | None

    @classmethod
    def of(cls, source_ids: Any, healpix: Any, cone: Any, magnitude: Any, release: Release | None) -> _Conditions:
        """The conditions of a call; release: that of the store. Raises XpjaxError."""
        cone = None if cone is None else as_cone(*cone)
        ranges = [] if healpix is None else [pixel_ranges(*healpix)]
        ranges += [] if cone is None else [cone_ranges(*cone)]
        return cls(None if source_ids is None else as_ids(source_ids, release), tuple(ranges), cone, magnitude)

    def without(self, found: np.ndarray, where: str) -> str:
        """What to tell of ids that are not among those found (n,); empty for none, and for one id that is alone."""
        lacking = np.empty(0) if self.ids is None or len(self.ids) == 1 else np.setdiff1d(self.ids, found)
        if self.ids is None or not len(lacking):
            return ""
        others = bool(self.ranges) or self.cone is not None or self.magnitude is not None
        listed = ", ".join(map(str, lacking[:5].tolist())) + (", ..." if len(lacking) > 5 else "")
        said = f"{len(lacking):,} of {len(self.ids):,} source ids are not in {where}"
        return f"{said}{', or do not meet the other conditions' if others else ''}: {listed}"

    def rows(self, file: StoreFile, check: bool) -> np.ndarray:
        """The rows of a file that meet all conditions, ascending."""
        low, high = file.source_ids
        ranges = [*self.ranges]
        if self.ids is not None:
            near = np.searchsorted(self.ids, [low, high + 1])
            own = self.ids[near[0] : near[1]]
            ranges.append(np.stack([own, own + 1], axis=1))
        if not all(((part[:, 0] <= high) & (part[:, 1] > low)).any() for part in ranges) or not len(file):
            return np.empty(0, np.int64)
        ids = file.scalars("source_id", check)
        keep = np.ones(len(file), bool)
        for part in ranges:
            keep &= within(ids, part)
        rows = np.flatnonzero(keep)
        if self.magnitude is not None and len(rows):
            g = file.scalars(G, check)[rows]
            rows = rows[(g >= self.magnitude[0]) & (g <= self.magnitude[1])]
        if self.cone is not None and len(rows):
            rows = rows[separation(*file.positions(ids, rows, check), *self.cone[:2]) <= self.cone[2]]
        return rows


def _joined(parts: Sequence[SourceTable], store: Store, **options: Any) -> SourceTable:
    """One table of several; without any, an empty one."""
    if not parts:
        return store._whole[0].read(0, 0, **options)
    return parts[0] if len(parts) == 1 else concatenate(parts, str(store.path), fill=False)
