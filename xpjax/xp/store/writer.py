"""Write store files, whole or not at all: from one table, or block by block in bounded memory."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.release import Release, other_release, release_attributes
from xpjax.io.atomic import DeafFile, behind_link, check_output, expanded, explain, whole_files
from xpjax.io.gaps import filler, with_filler
from xpjax.xp.compact import COMPACT, LEADING, Subspace, as_arrays, remedy
from xpjax.xp.sources import HEALPIX_SHIFT, TRANSIT_UNITS, UNITS, SourceTable, XPCoefficients
from xpjax.xp.store.format import (
    BLOCK,
    CORRELATIONS,
    FORMAT,
    MISSING,
    SCALE,
    SUFFIX,
    VERSION,
    attributes_checksum,
    crc32,
    held_attribute,
    id_range,
)


def write_store_file(
    path: str | os.PathLike[str],
    table: SourceTable,
    *,
    correlations: str | None = None,
    overwrite: bool = False,
    attrs: Mapping[str, object] | None = None,
    units: Mapping[str, str] | None = None,
) -> None:
    """Write sources as one store file, whole or not at all.

    Parameters
    ----------
    path : path
        File to write, .h5.
    table : SourceTable
        The sources.
    correlations : str, optional
        What is stored of correlations: `none`, `compact` covariances, `int16`, in fixed point to 1.5e-5,
        or `float32`; by default what the table has, correlations as float32.
    overwrite : bool
        Whether to replace a file that exists.
    attrs : mapping, optional
        Further attributes of the file, text and numbers.
    units : mapping, optional
        Units of further columns, by name.

    Raises
    ------
    XpjaxError
        If a column is neither numbers nor text, or correlations are asked for where there are compact covariances.
    OSError
        If the file exists, or the disk refuses; the message names file and remedy.

    Examples
    --------
    >>> xpjax.xp.write_store_file("part.h5", xpjax.simulate_sources(5, seed=1))
    >>> len(xpjax.open_store("part.h5"))
    5
    """
    options: dict[str, Any] = {"correlations": correlations, "overwrite": overwrite, "attrs": attrs, "units": units}
    with StoreWriter(path, table.release, spill=False, **options) as writer:
        writer.append(table)


class StoreWriter:
    """Write a store file from blocks of sources of any size; the file appears under its name when it is whole.

        with StoreWriter("part.h5", release) as writer:
            for table in tables:
                writer.append(table)

    Contiguous datasets need their size beforehand, and the rows of a compressed file are known only after it has been
    read: each dataset waits in a temporary file without a name beside the output, and is copied to its place at the
    end. Memory holds one block. With spill=False blocks are kept in memory instead. All blocks have the columns of the
    first. correlations: one of `CORRELATIONS`, what is stored of those that blocks have, by default as the first has
    them; attrs: further attributes of the file (text and numbers); units: of further columns, by name. Raises
    ValueError and OSError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        release: Release,
        *,
        correlations: str | None = None,
        overwrite: bool = False,
        attrs: Mapping[str, Any] | None = None,
        units: Mapping[str, str] | None = None,
        spill: bool = True,
    ) -> None:
        self.path, self.release = expanded(path), release
        if correlations is not None:
            check_correlations(correlations)
        if self.path.suffix != SUFFIX:
            raise XpjaxError(f"{self.path}: the name of a store file ends in {SUFFIX}")
        check_output(self.path, overwrite=overwrite)
        self.n = 0
        self._correlations = correlations
        self._subspace: Subspace | None = None
        self._attrs, self._units = dict(attrs or {}), {**UNITS, **(units or {})}
        self._directory = behind_link(self.path).parent if spill else None
        self._columns: dict[str, _Column] = {}
        self._further: tuple[str, ...] = ()
        self._ids: list[np.ndarray] = []
        self._status: list[np.ndarray] = []

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            for column in self._columns.values():
                column.close()

    def append(self, table: SourceTable) -> None:
        """Add sources after those that are there."""
        if not table.release.fits(self.release):
            raise other_release(table.origin, table.release, self.release)
        block = self._block(table)
        if not self._ids:
            self._units = {**(TRANSIT_UNITS if table.is_epoch else {}), **self._units}
            self._further = tuple(table.columns)
            self._columns = {name: _Column(array, self._directory) for name, array in block.items()}
        if {*block} != {*self._columns}:
            raise XpjaxError(
                f"{table.origin}: a block with other columns than the first one: {sorted({*block} ^ {*self._columns})}"
            )
        # A reader may fill its buffers again; columns of scalars wait in memory.
        block = {n: a.copy() if self._directory and a.ndim == 1 else a for n, a in block.items()}
        try:
            for name, array in block.items():
                self._columns[name].append(name, array)
        except OSError as exc:
            raise explain(exc, self.path) from exc
        self._ids.append(block["source_id"])
        self._status.append(np.array(table.status, np.uint32))
        self.n += len(table)

    @property
    def source_id(self) -> np.ndarray:
        """The ids of all sources so far (n,)."""
        return np.concatenate([np.empty(0, np.int64), *self._ids])

    def complete(self, status: np.ndarray, columns: Mapping[str, np.ndarray], attrs: Mapping[str, Any]) -> None:
        """After the last block: status bits (n,) to add, columns (n,) to add or replace, and further attributes."""
        self._status = [np.concatenate([np.empty(0, np.uint32), *self._status]) | status]
        for name, column in columns.items():
            array = _storable(name, column)
            self._columns[name] = _Column(array, self._directory)
            self._columns[name].append(name, array)
            if name not in self._further:
                self._further += (name,)
        self._attrs.update(attrs)

    def _block(self, table: SourceTable) -> dict[str, np.ndarray]:
        """The datasets of a block, as they are stored."""
        if self._correlations is None:
            compact = table.coefficients.covariance
            self._correlations = "float32" if compact is None else COMPACT
        c, release = self._as_stored(table), self.release
        block: dict[str, np.ndarray] = {"source_id": np.asarray(table.source_id, np.int64)}
        for k, xp in enumerate(release.xp):
            block[f"{xp}_coefficients"] = np.asarray(c.value[:, release.slices[k]], np.float32)
            if c.error is not None:
                block[f"{xp}_coefficient_errors"] = np.asarray(c.error[:, release.slices[k]], np.float32)
            if c.correlation is not None and self._correlations != "none":
                packed = np.asarray(c.correlation[:, release.pair_slices[k]], np.float32)
                packed = _fixed_point(packed) if self._correlations == "int16" else packed
                block[f"{xp}_coefficient_correlations"] = packed
            if c.covariance is not None:
                counts, scales = c.covariance.parts
                for j, (name, scale) in enumerate(zip(("covariance", "covariance_rest"), scales, strict=True)):
                    block[f"{xp}_{name}"] = np.asarray(counts[j * len(release.xp) + k])
                    block[f"{xp}_{name}_scale"] = np.asarray(scale[:, k], np.float32)
            if c.n_relevant is not None:
                block[f"{xp}_n_relevant_bases"] = np.asarray(c.n_relevant)[:, k].astype(np.int16)
        twice = [name for name in table.columns if name in block or name in ("xp_status", "checksum")]
        if twice:
            raise XpjaxError(f"{table.origin}: columns {twice} have the names of datasets of the store; rename them")
        return block | {name: _storable(name, column) for name, column in table.columns.items()}

    def _as_stored(self, table: SourceTable) -> XPCoefficients:
        """The coefficients with correlations or covariances of the kind that is stored. Raises XpjaxError."""
        c, kind = table.coefficients, str(self._correlations)
        if kind != COMPACT:
            if c.covariance is not None and kind != "none":
                raise XpjaxError(
                    f"{table.origin} has compact covariances, of which no correlations can be made: store them as they "
                    f"are, {remedy()}"
                )
            return dataclasses.replace(c, covariance=None)
        c = c.compact()
        compact = c.covariance
        if compact is None:
            return c
        if not compact.subspace.whole:
            raise XpjaxError(
                f"{table.origin} has the leading part of compact covariances alone: read the sources without "
                f"correlations={LEADING!r}"
            )
        self._subspace = self._subspace or compact.subspace
        if compact.subspace != self._subspace:
            raise XpjaxError(
                f"{table.origin} has covariances in {compact.subspace}, not in {self._subspace}: store them by "
                f"themselves, {remedy()}"
            )
        return c

    def _finish(self) -> None:
        if not self._columns:
            none = XPCoefficients(np.empty((0, self.release.n_basis_total), np.float32), release=self.release)
            self.append(SourceTable(np.empty(0, np.int64), none, np.empty(0, np.uint32)))
        status = np.concatenate(self._status)
        self._columns["xp_status"] = _Column(status, None)
        self._columns["xp_status"].append("xp_status", status)
        with whole_files() as temporary:
            path = temporary(self.path)
            offsets = self._lay_out(path)
            with path.open("rb+", buffering=0) as stream:
                for name, column in self._columns.items():
                    stream.seek(offsets[name])
                    column.copy(stream)

    def _lay_out(self, path: Path) -> dict[str, int]:
        """Write all of the file but its data; where they belong."""
        import h5py

        offsets: dict[str, int] = {}
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.CONTIGUOUS)
        plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        # From this version on HDF5 has checksums of what it writes for itself.
        options: dict[str, Any] = {
            "libver": ("v110", "v110"),
            "alignment_threshold": BLOCK,
            "alignment_interval": BLOCK,
        }
        with DeafFile(path, "w+") as handle:
            with h5py.File(handle, "w", **options) as file:
                for name, column in self._columns.items():
                    shape = (self.n, column.width) if column.width else (self.n,)
                    kind = h5py.h5t.py_create(column.dtype, logical=True)
                    data = h5py.Dataset(
                        h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=plan)
                    )
                    offsets[name] = data.id.get_offset() or 0
                    if name in self._further and name in self._units:
                        data.attrs["unit"] = held_attribute(self._units[name])
                    if name in self._further and column.dtype.str[1:] in ("i8", "u8"):
                        data.attrs["_FillValue"] = filler(column.dtype)
                    if name.endswith("_correlations") and column.dtype == np.int16:
                        data.attrs["scale"] = SCALE
                    file[f"checksum/{name}"] = np.array(column.checksums(), np.uint32)
                for name, matrix in as_arrays(self._subspace).items() if self._subspace else ():
                    file[f"covariance_subspace/{name}"] = matrix
                file.attrs.update({name: held_attribute(value) for name, value in self._attributes().items()})
            if handle.error is not None:
                raise handle.error
        return offsets

    def _attributes(self) -> dict[str, Any]:
        import xpjax

        ids, release = self.source_id, self.release
        first, last = id_range(ids)
        shift = HEALPIX_SHIFT + 8
        stored = f"{release.xp[0]}_coefficient_correlations" in self._columns or self._subspace is not None
        attrs: dict[str, Any] = {
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **self._attrs,
            "format": FORMAT,
            "format_version": 1 if self._subspace is None else VERSION,
            **({} if self._subspace is None else {"covariance_subspace": self._subspace.name}),
            **release_attributes(release),
            "n_rows": self.n,
            "correlations": self._correlations if stored else "none",
            "errors": f"{release.xp[0]}_coefficient_errors" in self._columns,
            "datasets": json.dumps({name: [c.dtype.str, c.width] for name, c in self._columns.items()}),
            "columns": json.dumps(self._further),
            "units": json.dumps({name: self._units[name] for name in self._further if name in self._units}),
            "first_source_id": first,
            "last_source_id": last,
            "first_healpix_8": first >> shift,
            "last_healpix_8": last >> shift,
            "sorted": bool((np.diff(ids) >= 0).all()),
            "xpjax_version": xpjax.__version__,
        }
        return {**attrs, "checksum": attributes_checksum(attrs)}


def check_correlations(kind: str) -> None:
    """Raise XpjaxError for what is none of `CORRELATIONS`."""
    if kind not in CORRELATIONS:
        raise XpjaxError(f"correlations must be one of {', '.join(CORRELATIONS)}, not {kind!r}")


class _Column:
    """A dataset on its way: its bytes in memory or in a file without a name, and checksums of its blocks of rows."""

    def __init__(self, first: np.ndarray, directory: Path | None) -> None:
        self.dtype, self.width = first.dtype, first.shape[1] if first.ndim > 1 else 0
        # Columns of scalars are small: they stay in memory.
        spilt = self.width and directory is not None
        self._file = tempfile.TemporaryFile(dir=directory, buffering=0) if spilt else None  # noqa: SIM115
        self._parts: list[np.ndarray] = []
        self._whole: list[int] = []
        self._rows = self._crc = 0

    def append(self, name: str, array: np.ndarray) -> None:
        """Add rows. Raises ValueError where they do not go with the first ones."""
        if (array.shape[1] if array.ndim > 1 else 0) != self.width or not np.can_cast(array.dtype, self.dtype):
            raise XpjaxError(f"{name}: a block of {array.dtype} {array.shape[1:]} after blocks of {self.dtype}")
        array = np.array(array, self.dtype, order="C", copy=None)
        start = 0
        while start < len(array):
            stop = min(start + BLOCK - self._rows, len(array))
            self._crc = crc32()(array[start:stop].view(np.uint8), self._crc)
            self._rows += stop - start
            if self._rows == BLOCK:
                self._whole.append(self._crc)
                self._rows = self._crc = 0
            start = stop
        if self._file is None:
            self._parts.append(array)
        else:
            _write_all(self._file, array)

    def checksums(self) -> list[int]:
        """CRC-32 of each block of rows."""
        return [*self._whole, self._crc] if self._rows else self._whole

    def copy(self, target: IO[bytes]) -> None:
        """Write all of it where the target stands."""
        for part in self._parts:
            _write_all(target, part)
        if self._file is not None:
            self._file.seek(0)
            while piece := self._file.read(1 << 22):
                _write_all(target, piece)

    def close(self) -> None:
        """Let go of the bytes."""
        self._parts = []
        if self._file is not None:
            self._file.close()


def _write_all(stream: IO[bytes], data: Any) -> None:
    view = memoryview(data).cast("B") if len(data) else memoryview(b"")
    while view:
        view = view[stream.write(view) :]


def _fixed_point(correlation: np.ndarray) -> np.ndarray:
    """Correlations as int16; those beyond one by a rounding are one."""
    with np.errstate(invalid="ignore"):
        scaled = np.rint(np.clip(correlation, -1, 1) / SCALE)
        return np.where(np.isnan(scaled), MISSING, scaled.astype(np.int16))


def _storable(name: str, column: Any) -> np.ndarray:
    """A further column as numbers or text of fixed width. Raises ValueError."""
    if np.ma.isMaskedArray(column):
        whole = column.dtype.kind in "iu" and column.dtype.itemsize == 8
        column = with_filler(column) if whole else np.ma.filled(column.astype(float), np.nan)
    array = np.asarray(column)
    if array.dtype == object and all(isinstance(cell, str) for cell in array.ravel()):
        array = array.astype(str)
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
        array = array.astype(f"S{max(array.dtype.itemsize, 1)}")
    if array.dtype.kind not in "iufbS" or array.ndim not in (1, 2):
        raise XpjaxError(f"column {name}: {array.dtype} with {array.ndim} axes cannot be stored; leave it out")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
