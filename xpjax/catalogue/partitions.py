"""HATS catalogues of XP coefficients as the input of a run: each Parquet file of a pixel is read as a store file is."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.release import DR3, Release
from xpjax.io.atomic import expanded
from xpjax.io.tables import open_table
from xpjax.io.tables.arrow import is_list, leaves
from xpjax.xp import TRANSIT, SourceTable, Store, further_columns, is_hats, open_store, partitions, read, used_columns

if TYPE_CHECKING:
    import pyarrow


def open_sources(
    path: Store | str | os.PathLike[str],
    release: Release | str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Store:
    """A store, or a HATS catalogue of which each partition is a file of one.

    release: the one to take of several; columns: which column of a HATS catalogue is what, as for `xpjax.read`. Raises
    as `open_store`, and XpjaxError.
    """
    if not isinstance(path, Store) and is_hats(path):
        store = _open_hats(expanded(path), columns)
        return _one_release(store) if release is None else store.only(release)
    if columns is not None:
        name = path.path if isinstance(path, Store) else path
        option = say("columns=", "--columns")
        raise XpjaxError(f"{name} is a store, whose columns are known; leave {option} out, or give a HATS catalogue")
    store = path if isinstance(path, Store) else open_store(path)
    return store if release is None else store.only(release)


def named_columns(store: Store) -> dict[str, str]:
    """Which column is what, as it was said when a HATS catalogue was opened; nothing of stores."""
    layouts = [file.layout for file in store.files if isinstance(file, Partition)]
    return dict(layouts[0].named or {}) if layouts else {}


def _one_release(store: Store) -> Store:
    """The store. Raises XpjaxError where its files are of several releases, naming one of each."""
    if len(store.releases) > 1:
        firsts = [next(file for file in store.files if file.release.fits(one)) for one in store.releases]
        said = ", ".join(f"{file.path} is of {file.release.name}" for file in firsts)
        option = say("release=", "--release")
        raise XpjaxError(f"{store.path} holds several data releases: {said}; say which one by {option}")
    return store


def _open_hats(path: Path, columns: Mapping[str, str] | None) -> Store:
    """A HATS catalogue as a store. Raises XpjaxError where it has no coefficients, or damaged files."""
    files: list[Any] = []
    known: dict[bytes, _Layout] = {}
    for (order, number), paths in partitions(path).items():
        for k, file in enumerate(paths):
            footer, rows = _footer(file)
            end = footer.serialize().to_pybytes()
            layout = known.get(end) or known.setdefault(end, _Layout.of(file, footer, columns))
            name = f"Norder{order}_Npix{number}" + f"_{k}" * (len(paths) > 1)
            files.append(Partition(file, name, rows, layout))
    # A partition without rows, or without BP, does not tell its release.
    told = [_release(file) for file in files]
    usual = next((release for release in told if release is not None), DR3)
    pairs = zip(files, told, strict=True)
    return Store(path, tuple(dataclasses.replace(file, release=own or usual) for file, own in pairs))


def _footer(path: Path) -> tuple[pyarrow.Schema, int]:
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path)
    except (OSError, ValueError) as error:
        raise XpjaxError(f"{path}: damaged, or no Parquet file ({error}); download it again") from error
    return metadata.schema.to_arrow_schema(), metadata.num_rows


def _release(file: Partition) -> Release | None:
    """The release that the first sources of a partition tell; None of none."""
    if not len(file):
        return None
    used = {n: old for n, old in file.layout.used.items() if n == "source_id" or n.endswith("coefficients")}
    try:
        some = open_table(file.first(64, used.values()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a few rows without BP do not tell it
            table = read(some, columns=used, keep=())
    except (OSError, ValueError):  # what is wrong is said when the partition is read
        return None
    first = table.coefficients.value[:, table.release.slices[0]]
    return table.release if np.isfinite(first).any() else None


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The columns of partitions: used for sources, further ones of scalars, with what units; and what was named."""

    used: Mapping[str, str]
    further: Mapping[str, str]
    units: Mapping[str, str]
    paths: Mapping[str, str]
    named: Mapping[str, str] | None

    @classmethod
    def of(cls, path: Path, schema: pyarrow.Schema, named: Mapping[str, str] | None) -> _Layout:
        """The layout of a file. Raises XpjaxError where it has no coefficients."""
        table = open_table(path)
        used = used_columns(table, DR3.xp, named)
        if "source_id" not in used or not {"coefficients", f"{DR3.xp[0]}_coefficients"} & {*used}:
            option = say(
                'columns={"source_id": ..., "coefficients": ...}', "--columns source_id=NAME,coefficients=NAME"
            )
            there = ", ".join(table.names[:20])
            raise XpjaxError(
                f"{path}: no XP coefficients under names that are known, but {there}; name them by {option}"
            )
        vectors, paths = set(), {}
        for field, names, depth in leaves(schema):
            name = ".".join(names)
            paths[name] = ".".join(names[:depth])
            if is_list(field.type) or depth < len(names):
                vectors.add(name)
        further = {name: old for name, old in further_columns(table, DR3.xp, named).items() if old not in vectors}
        units = {name: unit for name, old in further.items() if (unit := table.fields[old].unit)}
        return cls(used, further, units, paths, named)


@dataclasses.dataclass(frozen=True, eq=False)
class Partition:
    """One Parquet file of a HATS catalogue, read as a `StoreFile` is: a run knows no difference."""

    path: Path
    name: str
    rows: int
    layout: _Layout
    release: Release = DR3
    damage: str = ""

    def __len__(self) -> int:
        return self.rows

    def __bool__(self) -> bool:
        return True

    @property
    def source_ids(self) -> tuple[int, int]:
        """Not known before the file is read."""
        return 0, 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the further columns."""
        return tuple(self.layout.further)

    @property
    def units(self) -> dict[str, str]:
        """Units of the further columns that have one."""
        return dict(self.layout.units)

    @property
    def is_epoch(self) -> bool:
        """Whether the rows are epoch spectra."""
        return all(name in self.layout.further for name in TRANSIT)

    @property
    def has_errors(self) -> bool:
        """Whether there are errors of the coefficients."""
        return any(name.endswith("coefficient_errors") for name in self.layout.used)

    @property
    def correlations(self) -> str:
        """float32, or none."""
        there = any(name.endswith("coefficient_correlations") for name in self.layout.used)
        return "float32" if there else "none"

    def row_bytes(self, correlations: bool = True, errors: bool = True) -> int:
        """Bytes in memory of a source, without further columns; twice what a store needs, as Arrow has them too."""
        n = self.release.n_basis_total * (1 + (errors and self.has_errors))
        n += self.release.n_pair_total * (correlations and self.correlations != "none")
        return 8 * n + 24

    @functools.cached_property
    def checksums(self) -> dict[str, np.ndarray]:
        """The CRC-32 of the footer, which has the places, sizes and limits of all columns."""
        with self.path.open("rb") as stream:
            stream.seek(-8, os.SEEK_END)
            size = int.from_bytes(stream.read(4), "little")
            stream.seek(-8 - size, os.SEEK_END)
            return {"footer": np.array([zlib.crc32(stream.read(size))], np.uint32)}

    def first(self, n: int, columns: Any) -> pyarrow.Table:
        """The first n rows of some columns, without reading groups of rows to their end."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths = list(dict.fromkeys(self.layout.paths[name] for name in columns))
        with pq.ParquetFile(self.path, buffer_size=2**16, pre_buffer=False) as opened:
            return pa.Table.from_batches([next(opened.iter_batches(n, columns=paths))])

    def arrow(self, start: int, stop: int, columns: Any) -> pyarrow.Table:
        """Rows of some columns, by their names in the file; of groups of rows those alone that have them."""
        import pyarrow.parquet as pq

        paths = list(dict.fromkeys(self.layout.paths[name] for name in columns))
        with pq.ParquetFile(self.path) as opened:
            sizes = [opened.metadata.row_group(k).num_rows for k in range(opened.num_row_groups)]
            ends = np.cumsum([0, *sizes])
            groups = [k for k in range(len(sizes)) if ends[k] < stop and ends[k + 1] > start]
            if not groups:
                return opened.schema_arrow.empty_table()
            return opened.read_row_groups(groups, columns=paths).slice(start - int(ends[groups[0]]), stop - start)

    def read(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        errors: bool = True,
        correlations: bool = True,
        columns: Sequence[str] | None = (),
        check: bool = True,
    ) -> SourceTable:
        """The sources of rows start to stop, in float32; see `StoreFile.read`. Raises XpjaxError."""
        stop = len(self) if stop is None else stop
        names = self.columns if columns is None else tuple(columns)
        names = tuple(dict.fromkeys((*TRANSIT, *names))) if self.is_epoch else names
        absent = [name for name in names if name not in self.columns]
        if absent:
            raise XpjaxError(f"{self.path}: no column {', '.join(absent)}; it has {', '.join(self.columns) or 'none'}")
        unused = ("coefficient_errors",) * (not errors) + ("coefficient_correlations",) * (not correlations)
        used = {name: old for name, old in self.layout.used.items() if not name.endswith(unused or "?")}
        wanted = {**used, **{name: self.layout.further[name] for name in names}}
        try:
            part = self.arrow(start, stop, wanted.values())
        except (OSError, ValueError) as error:
            raise XpjaxError(f"{self.path}: rows {start}..{stop - 1}: damaged ({error}); download it again") from error
        opened = open_table(part)
        opened.origin = str(self.path)
        table = read(opened, release=self.release, dtype=np.float32, keep=names, columns=wanted)
        kept = {name: self._whole(part, name, column) for name, column in table.columns.items()}
        return dataclasses.replace(table, columns=kept)

    def _whole(self, part: pyarrow.Table, name: str, column: np.ndarray) -> np.ndarray:
        """A column of int64 as such, masked where missing, whatever the numbers of these rows are."""
        import pyarrow as pa

        old = self.layout.further.get(name, "")
        if column.dtype.kind != "f" or name in TRANSIT or old not in part.column_names:
            return column
        if part.schema.field(old).type != pa.int64():
            return column
        missing = np.isnan(column)
        return np.ma.array(np.where(missing, 0, column).astype(np.int64), mask=missing)
