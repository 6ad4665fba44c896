"""The store: a directory of HDF5 files of XP sources, one per Gaia range, read at the speed of the disk.

Layout of a file of n sources, which h5py alone can read (`h5py.File(path)["bp_coefficients"][10:20]`); every dataset
is contiguous, uncompressed and at the root, one row a source, named as the Gaia archive names it; per XP, here bp:

    source_id                       (n,) int64          0 where the input has none
    bp_coefficients                 (n, n_bp) float32   NaN where the XP is missing or bad
    bp_coefficient_errors           (n, n_bp) float32   with the standard deviation of the fit; absent if the input is
                                                        without, as are the next two
    bp_coefficient_correlations     (n, n_pair)         strict lower triangle by rows; float32, or int16: times the
                                                        attribute `scale`, -32768 is NaN
    bp_n_relevant_bases             (n,) int16          0 where the XP is missing or bad
    xp_status                       (n,) uint32         xpjax.records.Status of the reading
    ra, phot_g_mean_mag, ...        (n,)                further columns, with an attribute `unit`
    checksum/NAME                   (n / 4096,) uint32  CRC-32 of the bytes of each 4,096 rows of the dataset NAME

Attributes of the file: format, format_version, release_name, release_n_basis, release_xp, n_rows, correlations (none,
float32 or int16), errors (bool), datasets (type and width of each, JSON), columns (the further ones, JSON), units (of
these, JSON), first_source_id and last_source_id (the least and the greatest), first_healpix_8 and last_healpix_8 (the
same >> 43), sorted, source, source_bytes, xpjax_version, created, and checksum: the CRC-32 of all other attributes as
JSON with sorted keys. Rows keep the order of the input.

int16 holds a correlation to 1.5e-5: errors of the twelve J-PLUS magnitudes change by 1e-4 of themselves at most.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import itertools
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from xpjax.engine import aligned
from xpjax.errors import XpjaxError
from xpjax.io.catalogue import _Deaf, _explain, _whole_files, check_output, expanded
from xpjax.records import Release, SourceTable, XPCoefficients

FORMAT = "xpjax store"
VERSION = 1
SUFFIX = ".h5"
LONGEST_TEXT = 10_000
"""Characters of an attribute that HDF5 can hold in place: 64 kB at most."""
BLOCK = 4096
"""Rows that share a checksum."""
CORRELATIONS = ("none", "float32", "int16")
SCALE = np.float32(1 / 32767)
"""What an int16 correlation is multiplied by."""
MISSING = np.int16(-32768)
"""The int16 that stands for NaN."""
HEALPIX_LEVEL, HEALPIX_SHIFT = 12, 35
"""source_id >> 35 is the nested HEALPix pixel of level 12; each level less is a shift by two bits more."""
G = "phot_g_mean_mag"
UNITS = {
    "ra": "deg",
    "dec": "deg",
    **dict.fromkeys((G, "phot_bp_mean_mag", "phot_rp_mean_mag", "bp_rp", "ebv"), "mag"),
}
"""Units of columns that are known by name."""
_PIECE = 1 << 20  # bytes read, checked and copied at a time: they stay in the cache


class StoreError(XpjaxError):
    """A store file is damaged; the message names file, dataset and rows."""


# --- reading ----------------------------------------------------------------------------------------------------------


def open_store(path: str | os.PathLike[str]) -> Store:
    """A store: a directory of store files, or one of them; nothing but the attributes of the files is read.

    A file of a directory that is too damaged to be opened is listed with its `damage`, and reading it raises
    StoreError. Raises FileNotFoundError, and ValueError for files that are no store files or of several releases.
    """
    path = expanded(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or directory")
    if not path.is_dir():
        file = _open_file(path)
        if file.damage:
            raise StoreError(file.damage)
        return Store(path, (file,))
    files = [_open_file(member) for member in sorted(path.glob(f"*{SUFFIX}"))]
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
    import h5py

    try:
        with h5py.File(path) as file:
            return _plain(file.attrs.get("format")) == FORMAT
    except OSError:
        return False


def _open_file(path: Path) -> StoreFile:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            attrs = {name: _plain(value) for name, value in file.attrs.items()}
    except OSError as exc:
        what = "the file is damaged or truncated" if _is_hdf5(path) else "no HDF5 file, or its first bytes are damaged"
        return StoreFile(path, {}, damage=f"{path}: {what}; `xpjax ingest` makes store files ({exc})")
    except Exception as exc:  # h5py raises nearly anything where the heap of the attributes is damaged
        return StoreFile(path, {}, damage=f"{path}: the attributes are damaged; ingest it again ({exc})")
    if "format_version" not in attrs or "release_n_basis" not in attrs:
        raise XpjaxError(f"{path}: no xpjax store file (no attributes format_version, release_n_basis)")
    if attrs.get("checksum") != _attributes_checksum(attrs):
        return StoreFile(path, {}, damage=f"{path}: the attributes are damaged (checksum differs); ingest it again")
    if attrs["format"] != FORMAT or attrs["format_version"] > VERSION:
        raise XpjaxError(f"{path}: {attrs['format']} of version {attrs['format_version']}; this xpjax knows {VERSION}")
    release = Release(str(attrs["release_name"]), tuple(attrs["release_n_basis"]), tuple(attrs["release_xp"]))
    return StoreFile(path, attrs, release)


def _is_hdf5(path: Path) -> bool:
    """Whether a file begins nearly as HDF5 does: one damaged byte in the signature is forgiven."""
    with path.open("rb") as stream:
        return sum(a == b for a, b in zip(stream.read(8), b"\x89HDF\r\n\x1a\n", strict=False)) >= 7


def _plain(value: Any) -> Any:
    """An attribute as JSON holds it."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


def _held(value: Any) -> Any:
    """An attribute as HDF5 is to hold it: text of fixed length.

    Other text lies in a heap, where HDF5 may search for ever if one bit of a size is wrong; long text has to.
    """
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) and text and len(text) < LONGEST_TEXT for text in texts):
        return value
    held = np.array([text.encode() for text in texts])
    return held if isinstance(value, list) else held[0]


def _attributes_checksum(attrs: Mapping[str, Any]) -> int:
    rest = {name: value for name, value in attrs.items() if name != "checksum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


@dataclasses.dataclass(frozen=True)
class _Dataset:
    """Where a contiguous dataset lies in the file."""

    offset: int
    dtype: np.dtype
    width: int
    """Numbers a row; 0 for a column of scalars."""

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * max(self.width, 1)


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
        """How correlations are stored: none, float32 or int16."""
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

    @functools.cached_property
    def _datasets(self) -> dict[str, _Dataset]:
        """Every dataset of the root. Raises StoreError."""
        import h5py

        if self.damage:
            raise StoreError(self.damage)
        found = {}
        try:
            with h5py.File(self.path, "r") as file:
                for name, item in file.items():
                    if isinstance(item, h5py.Dataset):
                        if item.shape[0] != len(self) or item.chunks is not None:
                            raise StoreError(f"{self.path}: {name}: expected {len(self)} contiguous rows")
                        width = item.shape[1] if item.ndim > 1 else 0
                        found[name] = _Dataset(item.id.get_offset() or 0, np.dtype(item.dtype.str), width)
            plan = {name: [item.dtype.str, item.width] for name, item in found.items()}
            if plan != json.loads(self.attrs["datasets"]):
                raise StoreError(f"{self.path}: other datasets than the attributes say; ingest it again")
        except (StoreError, FileNotFoundError):
            raise
        except Exception as exc:
            raise StoreError(f"{self.path}: the file is damaged; ingest it again ({exc})") from exc
        return found

    @functools.cached_property
    def _checksums(self) -> dict[str, np.ndarray]:
        import h5py

        try:
            with h5py.File(self.path, "r") as file:
                found = {name: file["checksum"][name][()] for name in self._datasets}
        except (OSError, KeyError, RuntimeError) as exc:
            raise StoreError(f"{self.path}: the checksums are damaged; ingest it again ({exc})") from exc
        for name, values in found.items():
            if values.shape != (-(-len(self) // BLOCK),):
                raise StoreError(f"{self.path}: {name}: {len(values)} checksums for {len(self)} rows; ingest it again")
        return found

    def row_bytes(self, correlations: bool = True, errors: bool = True) -> int:
        """Bytes in memory of a source as `read` gives it, without further columns."""
        release = self.release
        n = release.n_basis_total * (1 + (errors and self.has_errors))
        n += release.n_pair_total * (correlations and self.correlations != "none")
        # source_id, status and n_relevant come with it
        return 4 * n + 8 + 4 + 4 * len(release.xp)

    def batches(self, max_bytes: int, *, errors: bool = True, correlations: bool = True) -> Iterator[tuple[int, int]]:
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
        correlations: bool = True,
        columns: Sequence[str] | None = (),
        check: bool = True,
        into: SourceTable | None = None,
    ) -> SourceTable:
        """The sources of rows start to stop: float32, BP and RP joined, on 64-byte boundaries; n_relevant int32.

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
        return self._table([(start, stop)], stop - start, errors, correlations, columns, check, into)

    def take(
        self,
        rows: np.ndarray,
        *,
        errors: bool = True,
        correlations: bool = True,
        columns: Sequence[str] | None = (),
        check: bool = True,
    ) -> SourceTable:
        """The sources of some rows (m,), ascending; as `read`. check reads whole blocks, which few rows may not need.

        Raises ValueError.
        """
        rows = np.asarray(rows, np.int64)
        if self.damage:
            raise StoreError(self.damage)
        if len(rows) and (rows[0] < 0 or rows[-1] >= len(self) or (np.diff(rows) <= 0).any()):
            raise XpjaxError(f"{self.path}: rows must ascend within 0..{len(self) - 1}")
        edges = np.flatnonzero(np.diff(rows) != 1) + 1
        runs = [(int(part[0]), int(part[-1]) + 1) for part in np.split(rows, edges) if len(part)]
        return self._table(runs, len(rows), errors, correlations, columns, check)

    def _table(
        self,
        runs: Sequence[tuple[int, int]],
        n: int,
        errors: bool,
        correlations: bool,
        columns: Sequence[str] | None,
        check: bool,
        into: SourceTable | None = None,
    ) -> SourceTable:
        release = self.release
        old = None if into is None else into.coefficients
        columns = self.columns if columns is None else columns
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

            def joined(field: str, slices: Sequence[slice], used: Any) -> np.ndarray:
                shape = (n, slices[-1].stop)
                fits = isinstance(used, np.ndarray) and used.dtype == np.float32 and used.shape[1:] == shape[1:]
                out = used[:n] if fits and len(used) >= n else aligned(shape)
                for xp, part in zip(release.xp, slices, strict=True):
                    fill(f"{xp}_{field}", out[:, part])
                return out

            value = joined("coefficients", release.slices, old and old.value)
            error = (
                joined("coefficient_errors", release.slices, old and old.error) if errors and self.has_errors else None
            )
            correlation = None
            if correlations and self.correlations != "none":
                correlation = joined("coefficient_correlations", release.pair_slices, old and old.correlation)
            n_relevant = None
            if f"{release.xp[0]}_n_relevant_bases" in self._datasets:
                n_relevant = np.empty((n, len(release.xp)), np.int32)
                for k, xp in enumerate(release.xp):
                    fill(f"{xp}_n_relevant_bases", n_relevant[:, k])
            coefficients: Any = (value, error, correlation, n_relevant, release)
            return SourceTable(
                column("source_id"),
                XPCoefficients(*coefficients),
                column("xp_status"),
                {name: column(name) for name in columns},
                str(self.path),
            )

    def _dataset(self, name: str) -> _Dataset:
        if name not in self._datasets:
            raise StoreError(f"{self.path}: {name}: no such dataset; ingest the file again")
        return self._datasets[name]

    def _empty(self, name: str, n: int) -> np.ndarray:
        item = self._dataset(name)
        return np.empty((n, item.width) if item.width else n, item.dtype)

    def _scalars(self, name: str, check: bool) -> np.ndarray:
        """A whole column of scalars. Raises ValueError."""
        if name not in self._datasets:
            raise XpjaxError(f"{self.path}: no column {name}; ingest with --gaia-source to join it")
        out = self._empty(name, len(self))
        with open(self.path, "rb", buffering=0) as stream:
            self._fill(stream, name, [(0, len(self))], out, check)
        return out

    def _positions(self, ids: np.ndarray, rows: np.ndarray, check: bool) -> tuple[np.ndarray, np.ndarray]:
        """ra and dec [deg] of rows: the columns, or where they are absent or NaN the centers of the pixels."""
        if not {"ra", "dec"} <= {*self._datasets}:
            return pixel_centers(ids[rows])
        ra, dec = (self._scalars(name, check)[rows] for name in ("ra", "dec"))
        absent = np.isnan(ra) | np.isnan(dec)
        if absent.any():
            ra[absent], dec[absent] = pixel_centers(ids[rows[absent]])
        return ra, dec

    def _fill(
        self, stream: IO[bytes], name: str, runs: Sequence[tuple[int, int]], out: np.ndarray, check: bool
    ) -> None:
        """Read runs of rows of a dataset into the rows of an array, in pieces that fit the cache."""
        item, n = self._dataset(name), len(self)
        rows = max(_PIECE // item.row_bytes, 1)
        scratch = self._empty(name, min(rows, n))
        target = 0
        if not check:
            for start, stop in runs:
                for low in range(start, stop, rows):
                    piece = self._piece(stream, name, low, min(low + rows, stop), scratch)
                    _store_values(piece, out[target : target + len(piece)])
                    target += len(piece)
            return
        expected = self._checksums[name]
        for block, parts in _by_block(runs):
            end, crc = min((block + 1) * BLOCK, n), 0
            for low in range(block * BLOCK, end, rows):
                piece = self._piece(stream, name, low, min(low + rows, end), scratch)
                crc = _crc32()(piece, crc)
                for start, stop in parts:
                    a, b = max(start, low), min(stop, low + len(piece))
                    if a < b:
                        _store_values(piece[a - low : b - low], out[target : target + b - a])
                        target += b - a
            if crc != expected[block]:
                raise StoreError(_damage(self.path, name, block * BLOCK, end, crc, int(expected[block])))

    def _piece(self, stream: IO[bytes], name: str, low: int, high: int, scratch: np.ndarray) -> np.ndarray:
        item = self._datasets[name]
        piece = scratch[: high - low]
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
            names, expected = list(self._datasets), self._checksums
            with open(self.path, "rb", buffering=0) as stream:
                for name in names:
                    problems += self._verify_dataset(stream, name, expected[name])
            if not problems and len(self):
                ids = self.read(errors=False, correlations=False, check=False).source_id
                if self.source_ids != _id_range(ids):
                    problems.append(f"{self.path}: source_id: not in the range that the attributes say")
        except (StoreError, OSError) as exc:
            problems.append(str(exc))
        return problems

    def _verify_dataset(self, stream: IO[bytes], name: str, expected: np.ndarray) -> list[str]:
        item, n, problems = self._datasets[name], len(self), []
        rows = max(_PIECE // item.row_bytes, 1)
        scratch = self._empty(name, min(rows, n))
        for block in range(len(expected)):
            end, crc = min((block + 1) * BLOCK, n), 0
            for low in range(block * BLOCK, end, rows):
                crc = _crc32()(self._piece(stream, name, low, min(low + rows, end), scratch), crc)
            if crc != expected[block]:
                problems.append(_damage(self.path, name, block * BLOCK, end, crc, int(expected[block])))
        return problems


def _damage(path: Path, name: str, start: int, stop: int, found: int, expected: int) -> str:
    return (
        f"{path}: {name}: rows {start}..{stop - 1} are damaged (CRC-32 {found:08x}, expected {expected:08x}); "
        "ingest the file again or restore it from a copy"
    )


def _by_block(runs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Each block of rows that ascending runs touch, and the runs within it."""
    parts = ((block, run) for run in runs if run[0] < run[1] for block in range(run[0] // BLOCK, -(-run[1] // BLOCK)))
    for block, group in itertools.groupby(parts, key=lambda part: part[0]):
        low, high = block * BLOCK, (block + 1) * BLOCK
        yield block, [(max(start, low), min(stop, high)) for _, (start, stop) in group]


def _store_values(piece: np.ndarray, out: np.ndarray) -> None:
    """Stored numbers as they are used: fixed-point correlations become float32."""
    if piece.dtype == np.int16 and out.dtype == np.float32:
        np.multiply(piece, SCALE, out=out)
        missing = piece == MISSING
        if missing.any():
            out[missing] = np.nan
    else:
        out[...] = piece


@functools.cache
def _crc32() -> Callable[..., int]:
    """isal's CRC-32 where it is installed, several times as fast as zlib's; the values are the same."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    return isal_zlib.crc32


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
        and radius in degrees; positions are the columns ra and dec, else the centers of the level-12 pixels of
        source_id. magnitude: the least and the greatest phot_g_mean_mag, both included. columns: None for those that
        all files have. check reads whole blocks of 4,096 rows for each source: False is faster for scattered ones.

        Raises StoreError, and ValueError for conditions that the store cannot answer.
        """
        names = self.columns if columns is None else tuple(columns)
        wanted = None if source_ids is None else np.unique(np.asarray(source_ids, np.int64))
        ranges = [] if wanted is None else [(int(i), int(i) + 1) for i in wanted]
        pixels = _pixel_ranges(*healpix) if healpix is not None else None
        disc = _cone_ranges(*cone) if cone is not None else None
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
            ids = file._scalars("source_id", check)
            keep = np.ones(len(file), bool)
            for part in candidates:
                keep &= _within(ids, part)
            rows = np.flatnonzero(keep)
            if magnitude is not None and len(rows):
                rows = rows[_in_range(file._scalars(G, check)[rows], *magnitude)]
            if cone is not None and len(rows):
                rows = rows[_separation(*file._positions(ids, rows, check), *cone[:2]) <= cone[2]]
            if len(rows):
                options: dict[str, Any] = {"errors": errors, "correlations": correlations, "check": check}
                parts.append(file.take(rows, columns=names, **options))
        return _joined(parts, self, columns=names, errors=errors, correlations=correlations)


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


# --- places on the sky ------------------------------------------------------------------------------------------------


def pixel_centers(source_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ra and dec [deg] of the centers of the level-12 HEALPix pixels (0.9 arcmin) that source ids (n,) begin with."""
    from astropy_healpix.core import healpix_to_lonlat

    lon, lat = healpix_to_lonlat(source_id >> HEALPIX_SHIFT, 1 << HEALPIX_LEVEL, order="nested")
    return np.degrees(lon.value), np.degrees(lat.value)


def _pixel_ranges(level: int, pixels: Any) -> np.ndarray:
    """Ranges [first, last) of source_id (m, 2), ascending and apart, of nested pixels. Raises ValueError."""
    pixels = np.unique(np.atleast_1d(np.asarray(pixels)))
    if not 0 <= level <= HEALPIX_LEVEL or pixels.dtype.kind not in "iu":
        raise XpjaxError(f"HEALPix pixels are integers at a level of 0..{HEALPIX_LEVEL}, not {pixels} at level {level}")
    if len(pixels) and (pixels[0] < 0 or pixels[-1] >= 12 << 2 * level):
        raise XpjaxError(f"HEALPix level {level} has the pixels 0..{(12 << 2 * level) - 1}, not {pixels[[0, -1]]}")
    starts = np.flatnonzero(np.diff(pixels, prepend=-2) != 1)
    stops = np.append(starts[1:], len(pixels)) if len(starts) else starts
    shift = HEALPIX_SHIFT + 2 * (HEALPIX_LEVEL - level)
    edges = np.stack([pixels[starts], pixels[stops - 1] + 1], axis=1).astype(np.int64) if len(starts) else pixels
    return edges.reshape(-1, 2) << shift


def _cone_ranges(ra: float, dec: float, radius: float) -> np.ndarray:
    """Ranges of source_id (m, 2) that hold a cone [deg], and sources a little beyond it. Raises ValueError."""
    from astropy import units
    from astropy_healpix.core import healpix_cone_search

    if not (np.isfinite([ra, dec, radius]).all() and -90 <= dec <= 90 and 0 <= radius <= 180):
        raise XpjaxError(
            f"a cone is ra, dec, radius in degrees, dec in -90..90 and radius in 0..180, not {ra, dec, radius}"
        )
    level = 8 if radius < 10 else 5
    # Stars have moved since source_id was given, and the search is for pixels, not for points: a pixel more.
    margin = np.degrees(np.sqrt(np.pi / 3) / (1 << level))
    pixels = healpix_cone_search(
        ra * units.deg, dec * units.deg, min(radius + margin, 180) * units.deg, 1 << level, order="nested"
    )
    return _pixel_ranges(level, pixels)


def _within(ids: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Which ids (n,) lie in ascending ranges [first, last) (m, 2)."""
    place = np.searchsorted(ranges[:, 0], ids, side="right") - 1
    return (place >= 0) & (ids < ranges[np.maximum(place, 0), 1])


def _in_range(values: np.ndarray, least: float, greatest: float) -> np.ndarray:
    return (values >= least) & (values <= greatest)


def _separation(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Angles [deg] from one point, by the haversine formula, which is exact for small ones."""
    x, y, x0, y0 = np.radians(ra), np.radians(dec), np.radians(ra0), np.radians(dec0)
    h = np.sin((y - y0) / 2) ** 2 + np.cos(y) * np.cos(y0) * np.sin((x - x0) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.minimum(h, 1))))


# --- writing ----------------------------------------------------------------------------------------------------------


def write_store_file(
    path: str | os.PathLike[str],
    table: SourceTable,
    *,
    correlations: str = "float32",
    overwrite: bool = False,
    attrs: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
) -> None:
    """Write sources as one store file (.h5), whole or not at all; as of `StoreWriter`, which takes them block by block.

    Raises ValueError for columns that are neither numbers nor text, and OSError, which names file and remedy.
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
    first. correlations: none, float32 or int16, what is stored of those that blocks have; attrs: further attributes of
    the file (text and numbers); units: of further columns, by name. Raises ValueError and OSError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        release: Release,
        *,
        correlations: str = "float32",
        overwrite: bool = False,
        attrs: Mapping[str, Any] | None = None,
        units: Mapping[str, str] | None = None,
        spill: bool = True,
    ) -> None:
        self.path, self.release = expanded(path), release
        if correlations not in CORRELATIONS:
            raise XpjaxError(f"correlations must be one of {', '.join(CORRELATIONS)}, not {correlations!r}")
        if self.path.suffix != SUFFIX:
            raise XpjaxError(f"{self.path}: the name of a store file ends in {SUFFIX}")
        check_output(self.path, overwrite=overwrite)
        self.n = 0
        self._correlations = correlations
        self._attrs, self._units = dict(attrs or {}), {**UNITS, **(units or {})}
        self._directory = self.path.parent if spill else None
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
        if (table.release.n_basis, table.release.xp) != (self.release.n_basis, self.release.xp):
            raise XpjaxError(f"{table.origin}: of {table.release.name}, the store file is of {self.release.name}")
        block = self._block(table)
        if not self._ids:
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
            raise _explain(exc, self.path) from exc
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
        c, release = table.coefficients, self.release
        block: dict[str, np.ndarray] = {"source_id": np.asarray(table.source_id, np.int64)}
        for k, xp in enumerate(release.xp):
            block[f"{xp}_coefficients"] = np.asarray(c.value[:, release.slices[k]], np.float32)
            if c.error is not None:
                block[f"{xp}_coefficient_errors"] = np.asarray(c.error[:, release.slices[k]], np.float32)
            if c.correlation is not None and self._correlations != "none":
                packed = np.asarray(c.correlation[:, release.pair_slices[k]], np.float32)
                block[f"{xp}_coefficient_correlations"] = (
                    _fixed_point(packed) if self._correlations == "int16" else packed
                )
            if c.n_relevant is not None:
                block[f"{xp}_n_relevant_bases"] = np.asarray(c.n_relevant)[:, k].astype(np.int16)
        twice = [name for name in table.columns if name in block or name in ("xp_status", "checksum")]
        if twice:
            raise XpjaxError(f"{table.origin}: columns {twice} have the names of datasets of the store; rename them")
        return block | {name: _storable(name, column) for name, column in table.columns.items()}

    def _finish(self) -> None:
        if not self._columns:
            empty: Any = (np.empty((0, self.release.n_basis_total), np.float32), None, None, None, self.release)
            self.append(SourceTable(np.empty(0, np.int64), XPCoefficients(*empty), np.empty(0, np.uint32)))
        status = np.concatenate(self._status)
        self._columns["xp_status"] = _Column(status, None)
        self._columns["xp_status"].append("xp_status", status)
        with _whole_files() as temporary:
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
        with _Deaf(path, "w+") as handle:
            with h5py.File(handle, "w", **options) as file:
                for name, column in self._columns.items():
                    shape = (self.n, column.width) if column.width else (self.n,)
                    kind = h5py.h5t.py_create(column.dtype, logical=True)
                    data = h5py.Dataset(
                        h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=plan)
                    )
                    offsets[name] = data.id.get_offset() or 0
                    if name in self._further and name in self._units:
                        data.attrs["unit"] = _held(self._units[name])
                    if column.dtype == np.int16 and column.width:
                        data.attrs["scale"] = SCALE
                    file[f"checksum/{name}"] = np.array(column.checksums(), np.uint32)
                file.attrs.update({name: _held(value) for name, value in self._attributes().items()})
            if handle.error is not None:
                raise handle.error
        return offsets

    def _attributes(self) -> dict[str, Any]:
        import xpjax

        ids, release = self.source_id, self.release
        first, last = _id_range(ids)
        shift = HEALPIX_SHIFT + 8
        stored = f"{release.xp[0]}_coefficient_correlations" in self._columns
        attrs: dict[str, Any] = {
            **self._attrs,
            "format": FORMAT,
            "format_version": VERSION,
            "release_name": release.name,
            "release_n_basis": list(release.n_basis),
            "release_xp": list(release.xp),
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
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        return {**attrs, "checksum": _attributes_checksum(attrs)}


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
            self._crc = _crc32()(array[start:stop].view(np.uint8), self._crc)
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
    array = np.ma.filled(column.astype(float), np.nan) if np.ma.isMaskedArray(column) else np.asarray(column)
    if array.dtype == object and all(isinstance(cell, str) for cell in array.ravel()):
        array = array.astype(str)
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
        array = array.astype(f"S{max(array.dtype.itemsize, 1)}")
    if array.dtype.kind not in "iufbS" or array.ndim not in (1, 2):
        raise XpjaxError(f"column {name}: {array.dtype} with {array.ndim} axes cannot be stored; leave it out")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _id_range(ids: np.ndarray) -> tuple[int, int]:
    ids = ids[ids != 0]
    return (int(ids.min()), int(ids.max())) if len(ids) else (0, 0)
