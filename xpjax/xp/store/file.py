"""A file of a store: opened, read and verified."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from xpjax.core.engine import aligned
from xpjax.core.errors import XpjaxError, say
from xpjax.core.release import Release, release_of
from xpjax.io.gaps import without_filler
from xpjax.io.hdf5 import open_hdf5, plain_attribute
from xpjax.xp.compact import COMPACT, LEADING, CompactCovariance, Subspace, load_subspace, subspace_of
from xpjax.xp.sources import TRANSIT, SourceTable, XPCoefficients
from xpjax.xp.store.blocks import Dataset, by_block, damage, store_values
from xpjax.xp.store.format import BLOCK, FORMAT, VERSION, StoreError, attributes_checksum, crc32, id_range
from xpjax.xp.store.sky import on_sky, pixel_centers

PIECE = 1 << 20
"""Bytes read, checked and copied at a time: they stay in the cache."""


def open_store_file(path: Path) -> StoreFile:
    """A store file by its attributes; one that is too damaged has its `damage`. Raises XpjaxError for other files."""
    try:
        with open_hdf5(path) as file:
            attrs = {name: plain_attribute(value) for name, value in file.attrs.items()}
    except XpjaxError:  # another process writes it
        raise
    except OSError as exc:
        what = "the file is damaged or truncated" if _is_hdf5(path) else "no HDF5 file, or its first bytes are damaged"
        return StoreFile(path, {}, damage=f"{path}: {what}; `xpjax store ingest` makes store files ({exc})")
    except Exception as exc:  # h5py raises nearly anything where the heap of the attributes is damaged
        return StoreFile(path, {}, damage=f"{path}: the attributes are damaged; ingest it again ({exc})")
    if "format_version" not in attrs or "release_n_basis" not in attrs:
        raise XpjaxError(f"{path}: no xpjax store file (no attributes format_version, release_n_basis)")
    if attrs.get("checksum") != attributes_checksum(attrs):
        return StoreFile(path, {}, damage=f"{path}: the attributes are damaged (checksum differs); ingest it again")
    if attrs["format"] != FORMAT or attrs["format_version"] > VERSION:
        raise XpjaxError(f"{path}: {attrs['format']} of version {attrs['format_version']}; this xpjax knows {VERSION}")
    return StoreFile(path, attrs, release_of(attrs))


def _is_hdf5(path: Path) -> bool:
    """Whether a file begins nearly as HDF5 does: one damaged byte in the signature is forgiven."""
    with path.open("rb") as stream:
        return sum(a == b for a, b in zip(stream.read(8), b"\x89HDF\r\n\x1a\n", strict=False)) >= 7


@dataclasses.dataclass(frozen=True, eq=False)
class StoreFile:
    """One file of a store; opened while it is read only, so that any number of them can be held and sent to processes.

    attrs: its attributes; damage: what is wrong with a file that cannot be opened, else empty.
    """

    path: Path
    attrs: dict[str, Any]
    release: Release = dataclasses.field(default_factory=lambda: Release("unknown", (1, 1)))
    damage: str = ""

    @property
    def name(self) -> str:
        """The name of the file without its suffix."""
        return self.path.stem

    def __len__(self) -> int:
        return int(self.attrs.get("n_rows", 0))

    def __bool__(self) -> bool:
        return True  # a file without sources is a file

    @property
    def source_ids(self) -> tuple[int, int]:
        """The least and the greatest source_id, missing ones left out."""
        return int(self.attrs.get("first_source_id", 0)), int(self.attrs.get("last_source_id", 0))

    @property
    def correlations(self) -> str:
        """How correlations are stored: none, compact, int16 or float32 (`format.CORRELATIONS`)."""
        return str(self.attrs.get("correlations", "none"))

    @property
    def has_errors(self) -> bool:
        """Whether errors of the coefficients are stored."""
        return bool(self.attrs.get("errors", False))

    @property
    def units(self) -> dict[str, str]:
        """Units of the further columns that have one."""
        return dict(json.loads(self.attrs.get("units", "{}")))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the further columns."""
        return tuple(json.loads(self.attrs.get("columns", "[]")))

    @property
    def is_epoch(self) -> bool:
        """Whether the rows are epoch spectra; transit_id and time are read whatever columns are asked for."""
        return all(name in self.columns for name in TRANSIT)

    @functools.cached_property
    def _datasets(self) -> dict[str, Dataset]:
        """Every dataset of the root. Raises StoreError."""
        import h5py

        if self.damage:
            raise StoreError(self.damage)
        found = {}
        try:
            with open_hdf5(self.path) as file:
                for name, item in file.items():
                    if isinstance(item, h5py.Dataset):
                        if item.shape[0] != len(self) or item.chunks is not None:
                            raise StoreError(f"{self.path}: {name}: expected {len(self)} contiguous rows")
                        width = item.shape[1] if item.ndim > 1 else 0
                        found[name] = Dataset(item.id.get_offset() or 0, np.dtype(item.dtype.str), width)
            plan = {name: [item.dtype.str, item.width] for name, item in found.items()}
            if plan != json.loads(self.attrs["datasets"]):
                raise StoreError(f"{self.path}: other datasets than the attributes say; ingest it again")
        except (XpjaxError, FileNotFoundError):
            raise
        except Exception as exc:
            raise StoreError(f"{self.path}: the file is damaged; ingest it again ({exc})") from exc
        return found

    @functools.cached_property
    def checksums(self) -> dict[str, np.ndarray]:
        """CRC-32 of each block of rows, by dataset. Raises StoreError."""
        try:
            with open_hdf5(self.path) as file:
                found = {name: file["checksum"][name][()] for name in self._datasets}
        except (OSError, KeyError, RuntimeError) as exc:
            raise StoreError(f"{self.path}: the checksums are damaged; ingest it again ({exc})") from exc
        for name, values in found.items():
            if values.shape != (-(-len(self) // BLOCK),):
                raise StoreError(f"{self.path}: {name}: {len(values)} checksums for {len(self)} rows; ingest it again")
        return found

    def row_bytes(self, correlations: bool | str = True, errors: bool = True) -> int:
        """Bytes in memory of a source as `read` gives it, without further columns."""
        release = self.release
        n = release.n_basis_total * (1 + (errors and self.has_errors))
        size = 4 * n
        if correlations and self.correlations == COMPACT:
            size += self._axes(correlations).n_bytes
        elif correlations and self.correlations != "none":
            size += 4 * release.n_pair_total
        # source_id, status and n_relevant come with it
        return size + 8 + 4 + 4 * len(release.xp)

    def _axes(self, correlations: bool | str) -> Subspace:
        """The axes of compact covariances that are read."""
        return self.subspace.leading if correlations == LEADING else self.subspace

    @functools.cached_property
    def subspace(self) -> Subspace:
        """The subspace of compact covariances: the shipped one, or that of the file. Raises StoreError."""
        with contextlib.suppress(XpjaxError):
            shipped = load_subspace(self.release)
            if shipped.name == self.attrs["covariance_subspace"]:
                return shipped
        return self._own_subspace()

    def _own_subspace(self) -> Subspace:
        """The subspace that the file holds. Raises StoreError."""
        try:
            with open_hdf5(self.path) as file:
                groups = file["covariance_subspace"]
                arrays = {f"{xp}/{name}": a[()] for xp, own in groups.items() for name, a in own.items()}
            found = subspace_of(arrays, self.release)
        except (OSError, KeyError, RuntimeError) as exc:
            raise StoreError(f"{self.path}: the covariance_subspace is damaged; ingest it again ({exc})") from exc
        if found.name != self.attrs["covariance_subspace"]:
            raise StoreError(f"{self.path}: the covariance_subspace is damaged (checksum differs); ingest it again")
        return found

    def batches(
        self, max_bytes: int, *, errors: bool = True, correlations: bool | str = True
    ) -> Iterator[tuple[int, int]]:
        """(start, stop) of row ranges that need at most max_bytes in memory each, in whole blocks of 4,096 rows.

        One block is the least. Raises StoreError for a damaged file.
        """
        if self.damage:
            raise StoreError(self.damage)
        step = max(max_bytes // (self.row_bytes(correlations, errors) * BLOCK), 1) * BLOCK
        return ((start, min(start + step, len(self))) for start in range(0, len(self), step))

    def read(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        errors: bool = True,
        correlations: bool | str = True,
        columns: Sequence[str] | None = (),
        check: bool = True,
        into: SourceTable | None = None,
    ) -> SourceTable:
        """The sources of rows start to stop: float32, BP and RP joined, on 64-byte boundaries; n_relevant int32.

        correlations: "leading" for the leading block of compact covariances alone, without what corrections draw on.
        columns: names of further columns, None for all of them. check: verify the checksums of all blocks of 4,096
        rows that are touched. into: a table that an earlier read gave and that is done with: where it is long enough
        its arrays are filled again, which spares the system from clearing new memory. Raises StoreError naming file,
        dataset and rows, ValueError for rows or columns that are not there.
        """
        stop = len(self) if stop is None else stop
        if self.damage:
            raise StoreError(self.damage)
        if not 0 <= start <= stop <= len(self):
            raise XpjaxError(f"{self.path}: rows {start}..{stop} asked for, the file has {len(self)}")
        options: dict[str, Any] = {"errors": errors, "correlations": correlations, "columns": columns, "check": check}
        return self._table([(start, stop)], **options, into=into)

    def take(self, rows: np.ndarray, **options: Any) -> SourceTable:
        """The sources of some rows (m,), ascending; options errors, correlations, columns and check as of `read`.

        check reads whole blocks, which few rows may not need. Raises ValueError.
        """
        rows = np.asarray(rows, np.int64)
        if self.damage:
            raise StoreError(self.damage)
        if len(rows) and (rows[0] < 0 or rows[-1] >= len(self) or (np.diff(rows) <= 0).any()):
            raise XpjaxError(f"{self.path}: rows must ascend within 0..{len(self) - 1}")
        edges = np.flatnonzero(np.diff(rows) != 1) + 1
        runs = [(int(part[0]), int(part[-1]) + 1) for part in np.split(rows, edges) if len(part)]
        return self._table(runs, **options)

    def _table(
        self,
        runs: Sequence[tuple[int, int]],
        *,
        errors: bool = True,
        correlations: bool | str = True,
        columns: Sequence[str] | None = (),
        check: bool = True,
        into: SourceTable | None = None,
    ) -> SourceTable:
        release, n = self.release, sum(stop - start for start, stop in runs)
        old = None if into is None else into.coefficients
        columns = self.columns if columns is None else columns
        columns = tuple(dict.fromkeys((*TRANSIT, *columns))) if self.is_epoch else columns
        absent = [name for name in columns if name not in self.columns]
        if absent:
            raise XpjaxError(f"{self.path}: no column {', '.join(absent)}; it has {', '.join(self.columns) or 'none'}")
        with open(self.path, "rb", buffering=0) as stream:

            def fill(name: str, out: np.ndarray) -> np.ndarray:
                self._fill(stream, name, runs, out, check)
                return out

            def column(name: str) -> np.ndarray:
                out = fill(name, self._empty(name, n))
                return np.char.decode(out, "utf-8") if out.dtype.kind == "S" else out

            def room(width: int, used: Any, dtype: Any = np.float32) -> np.ndarray:
                fits = isinstance(used, np.ndarray) and used.dtype == dtype and used.shape[1:] == (width,)
                return used[:n] if fits and len(used) >= n else aligned((n, width), dtype)

            def joined(field: str, slices: Sequence[slice], used: Any) -> np.ndarray:
                out = room(slices[-1].stop, used)
                for xp, part in zip(release.xp, slices, strict=True):
                    fill(f"{xp}_{field}", out[:, part])
                return out

            def counts(field: str, widths: Sequence[int], used: Any, dtype: Any) -> tuple[Any, np.ndarray]:
                rooms = (room(w, u, dtype) for w, u in zip(widths, used or [None] * len(widths), strict=True))
                found = tuple(fill(f"{xp}_{field}", out) for xp, out in zip(release.xp, rooms, strict=True))
                return found, np.stack([column(f"{xp}_{field}_scale") for xp in release.xp], axis=1)

            value = joined("coefficients", release.slices, old and old.value)
            error = correlation = n_relevant = covariance = None
            if errors and self.has_errors:
                error = joined("coefficient_errors", release.slices, old and old.error)
            if correlations and self.correlations == COMPACT:
                axes, was = self._axes(correlations), old and old.covariance
                block = counts("covariance", axes.widths, was and was.packed, np.int16)
                rest = counts("covariance_rest", axes.rest_widths, was and was.rest, np.int8) if axes.whole else ()
                covariance = CompactCovariance(*block, axes, *rest)
            elif correlations and self.correlations != "none":
                correlation = joined("coefficient_correlations", release.pair_slices, old and old.correlation)
            if f"{release.xp[0]}_n_relevant_bases" in self._datasets:
                n_relevant = np.empty((n, len(release.xp)), np.int32)
                for k, xp in enumerate(release.xp):
                    fill(f"{xp}_n_relevant_bases", n_relevant[:, k])
            return SourceTable(
                column("source_id"),
                XPCoefficients(value, error, correlation, n_relevant, release, covariance),
                column("xp_status"),
                {name: column(name) if name in TRANSIT else without_filler(column(name)) for name in columns},
                str(self.path),
            )

    def _dataset(self, name: str) -> Dataset:
        if name not in self._datasets:
            raise StoreError(f"{self.path}: {name}: no such dataset; ingest the file again")
        return self._datasets[name]

    def _empty(self, name: str, n: int) -> np.ndarray:
        item = self._dataset(name)
        return np.empty((n, item.width) if item.width else n, item.dtype)

    def scalars(self, name: str, check: bool) -> np.ndarray:
        """A whole column of scalars. Raises ValueError."""
        if name not in self._datasets:
            option = say("gaia_source=[FILE]", "--gaia-source FILE")
            raise XpjaxError(f"{self.path}: no column {name}; ingest with {option} to join it")
        out = self._empty(name, len(self))
        with open(self.path, "rb", buffering=0) as stream:
            self._fill(stream, name, [(0, len(self))], out, check)
        return out

    def positions(self, ids: np.ndarray, rows: np.ndarray, check: bool) -> tuple[np.ndarray, np.ndarray]:
        """ra and dec [deg] of rows: the columns, or where they are no place on the sky the centers of the pixels."""
        if not {"ra", "dec"} <= {*self._datasets}:
            return pixel_centers(ids[rows])
        ra, dec = (self.scalars(name, check)[rows] for name in ("ra", "dec"))
        absent = ~on_sky(ra, dec)
        if absent.any():
            ra[absent], dec[absent] = pixel_centers(ids[rows[absent]])
        return ra, dec

    def _fill(
        self, stream: IO[bytes], name: str, runs: Sequence[tuple[int, int]], out: np.ndarray, check: bool
    ) -> None:
        """Read ascending runs of rows of a dataset into the rows of an array. Raises StoreError."""
        for problem in self._walk(stream, name, runs, out, check):
            raise StoreError(problem)

    def _walk(
        self, stream: IO[bytes], name: str, runs: Sequence[tuple[int, int]], out: np.ndarray | None, check: bool = True
    ) -> Iterator[str]:
        """Read in pieces that fit the cache; what is said of each block, of those that runs touch, that is damaged."""
        item, n = self._dataset(name), len(self)
        rows = max(PIECE // item.row_bytes, 1)
        scratch = self._empty(name, min(rows, n))
        target = 0
        expected = self.checksums[name] if check else np.zeros(0)
        blocks = ((k * BLOCK, min((k + 1) * BLOCK, n), parts) for k, parts in by_block(runs))
        for first, end, parts in blocks if check else ((*run, [run]) for run in runs):
            crc = 0
            # What is stored as it is used is read where it belongs.
            direct = out is not None and out.dtype == item.dtype and out.flags.c_contiguous and parts == [(first, end)]
            for low in range(first, end, rows):
                high = min(low + rows, end)
                room = out[target : target + high - low] if direct and out is not None else scratch[: high - low]
                piece = self._piece(stream, name, low, room)
                crc = crc32()(piece, crc) if check else 0
                target += (high - low) * direct
                for start, stop in parts if not direct else ():
                    a, b = max(start, low), min(stop, low + len(piece))
                    if out is not None and a < b:
                        store_values(piece[a - low : b - low], out[target : target + b - a])
                        target += b - a
            if check and crc != expected[first // BLOCK]:
                yield damage(self.path, name, first, end, crc, int(expected[first // BLOCK]))

    def _piece(self, stream: IO[bytes], name: str, low: int, piece: np.ndarray) -> np.ndarray:
        item, high = self._datasets[name], low + len(piece)
        stream.seek(item.offset + low * item.row_bytes)
        view = memoryview(piece.data).cast("B") if piece.size else memoryview(b"")
        while view:
            got = stream.readinto(view)  # type: ignore[attr-defined]
            if not got:
                raise StoreError(f"{self.path}: {name}: the file is truncated at rows {low}..{high - 1}; ingest again")
            view = view[got:]
        return piece

    def verify(self) -> list[str]:
        """Compare every checksum with the data; what is wrong, a line each, naming file, dataset and rows."""
        problems: list[str] = []
        try:
            names = list(self._datasets)
            with open(self.path, "rb", buffering=0) as stream:
                for name in names:
                    problems += list(self._walk(stream, name, [(0, len(self))], None))
            if self.correlations == COMPACT:
                self._own_subspace()
            if not problems and len(self):
                ids = self.read(errors=False, correlations=False, check=False).source_id
                if self.source_ids != id_range(ids):
                    problems.append(f"{self.path}: source_id: not in the range that the attributes say")
        except (StoreError, OSError) as exc:
            problems.append(str(exc))
        return problems
