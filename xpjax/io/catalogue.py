"""Catalogues on disk: one table in, one file out, in the format of the file's suffix; all or nothing.

Arrays that all rows share (`wavelength`) are stored once: an HDF5 dataset, the metadata of ECSV and Parquet, a second
table in FITS, a PARAM in VOTable, and beside CSV, which has no metadata, a second file `NAME_wavelength.csv`.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import io
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from xpjax.errors import XpjaxError
from xpjax.io import _cells
from xpjax.records import Catalogue, SourceTable

if TYPE_CHECKING:
    import pyarrow
    from astropy.table import Table

FITS_COLUMNS = 999
"""The most columns a FITS table may have (FITS standard 4.0, section 7.3.1)."""


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False, shared: Iterable[str] = ()) -> None:
    """Refuse an output before anything is computed: unknown suffix, existing file, directory that takes no file.

    `shared` names the arrays stored once, which need a second file beside CSV. Raises ValueError or OSError.
    """
    path = expanded(path)
    for target in [path, *_sidecars(path, shared).values()]:
        if target.is_dir():
            raise IsADirectoryError(f"the output {target} is a directory; name a file in it")
        if not target.parent.exists():
            raise FileNotFoundError(f"no directory {target.parent} for the output {target.name}; make it first")
        if not target.parent.is_dir():
            raise NotADirectoryError(f"{target.parent} is no directory: the output {target.name} cannot lie in it")
        if target.exists() and not overwrite:
            raise FileExistsError(f"the output {target} exists; name another one, or overwrite it with --overwrite")
    try:
        # access(2) says yes to root on a read-only file system: only a trial tells.
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as exc:
        raise _explain(exc, path) from exc


def write(path: str | os.PathLike[str], table: Any, *, overwrite: bool = False) -> None:
    """Write a table in the format of the suffix: csv, csv.gz, ecsv, fits, vot, xml, parquet, h5 or hdf5.

    table: a Catalogue, what has one (Photometry, Spectra), or a SourceTable, which `xpjax.read` reads back. The file
    appears under its name when it is whole; otherwise nothing does. Raises ValueError for what the format cannot hold
    and OSError where the disk refuses.
    """
    path = expanded(path)
    if isinstance(table, SourceTable):
        catalogue = from_sources(table)
    else:
        catalogue = table if isinstance(table, Catalogue) else table.catalogue()
    writer = _FORMATS[_suffix(path)][0]
    check_output(path, overwrite=overwrite, shared=catalogue.shared)
    catalogue = _plain(catalogue)
    with _whole_files() as temporary:
        for name, sidecar in _sidecars(path, catalogue.shared).items():
            _write_csv(temporary(sidecar), Catalogue({name: catalogue.shared[name]}))
        writer(temporary(path), catalogue)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all, over an old one; raises OSError, which names file and remedy."""
    with _whole_files() as temporary:
        temporary(expanded(path)).write_bytes(data)


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path, with `~` as the home directory."""
    return Path(os.path.expanduser(path))


def read_catalogue(path: str | os.PathLike[str]) -> Catalogue:
    """Read back what `write` wrote; CSV has no units, descriptions or metadata, and its floats come as float64."""
    path = expanded(path)
    reader = _FORMATS[_suffix(path)][1]
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    return reader(path)


def concatenate(parts: Sequence[Catalogue]) -> Catalogue:
    """Join catalogues with the same columns row by row, in order; all else comes from the first.

    Integers keep their digits, and text and numbers together become text.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        if list(part.columns) != list(first.columns):
            raise XpjaxError(
                f"catalogues with different columns cannot be joined: {sorted({*part.columns} ^ {*first.columns})}"
            )
    sizes = [len(part) for part in parts]
    columns = {name: _cells.join_columns([part.columns[name] for part in parts], sizes) for name in first.columns}
    return Catalogue(columns, first.units, first.descriptions, first.shared, first.meta)


def from_sources(table: SourceTable) -> Catalogue:
    """XP coefficients as the archive's columns (`bp_coefficients`, ...), then the table's other columns."""
    c, release = table.coefficients, table.release
    columns: dict[str, Any] = {"source_id": table.source_id}
    for i, xp in enumerate(release.xp):
        columns[f"{xp}_n_parameters"] = np.full(len(table), release.n_basis[i], np.int16)
        if c.n_relevant is not None:
            columns[f"{xp}_n_relevant_bases"] = np.asarray(c.n_relevant)[:, i]
        columns[f"{xp}_coefficients"] = c.value[:, release.slices[i]]
        if c.error is not None:
            columns[f"{xp}_coefficient_errors"] = c.error[:, release.slices[i]]
        if c.correlation is not None:
            columns[f"{xp}_coefficient_correlations"] = c.correlation[:, release.pair_slices[i]]
    return Catalogue({**columns, **table.columns}, meta={"release": release.name})


# --- one file or none -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _whole_files() -> Iterator[Callable[[Path], Path]]:
    """Give temporary names beside the final ones; on leaving, move them there if all went well, else remove them."""
    pending: dict[Path, Path] = {}

    def temporary(final: Path) -> Path:
        pending[final] = final.with_name(f".{final.name}.{os.getpid()}.tmp")
        return pending[final]

    try:
        try:
            yield temporary
            for temp in pending.values():
                with temp.open("rb+") as handle:
                    os.fsync(handle.fileno())
            for final, temp in pending.items():
                os.replace(temp, final)
        except OSError as exc:
            raise _explain(exc, [*pending][-1]) from exc
    finally:
        for temp in pending.values():
            temp.unlink(missing_ok=True)


ABANDONED = 600.0
"""Seconds without a write after which a temporary file whose process is gone here is taken to be abandoned."""


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder; on other machines too, they stand still."""
    for path in folder.glob(".*.tmp"):
        process = path.name.split(".")[-2]
        with contextlib.suppress(OSError):  # another run may have been quicker
            if process.isdigit() and not _lives(int(process)) and time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _explain(exc: OSError, path: Path) -> OSError:
    """The same error, naming the output and the remedy."""
    remedies = {
        errno.ENOSPC: "free some space or choose an output on another disk",
        errno.EDQUOT: "your quota is used up: free some space or choose an output on another disk",
        errno.EFBIG: "the file would be larger than this disk or your limits (ulimit -f) allow; write several files",
        errno.EROFS: "the disk is read-only; choose an output on another one",
        errno.EACCES: "you may not write there; choose another directory",
    }
    number, origin = exc.errno, exc.__context__
    while number is None and origin is not None:  # libraries raise their own in the place of the system's
        number, origin = getattr(origin, "errno", None), origin.__context__
    reason = os.strerror(number) if number else str(exc).partition("\n")[0]
    remedy = f"; {remedies[number]}" if number in remedies else ""
    new = type(exc)(f"cannot write {path}: {reason}{remedy}")
    new.errno = number
    return new


# --- plain arrays -----------------------------------------------------------------------------------------------------


def _plain(catalogue: Catalogue) -> Catalogue:
    """Columns as native NumPy numbers, bools or text of one length, missing ones as NaN or ''; units as ASCII text."""
    columns = {name: _plain_array(name, column) for name, column in catalogue.columns.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len({*lengths.values()}) > 1:
        raise XpjaxError(f"the columns of a catalogue have different lengths: {lengths}")
    shared = {name: _plain_array(name, array) for name, array in catalogue.shared.items()}
    return Catalogue(columns, catalogue.units, catalogue.descriptions, shared, catalogue.meta)


def _plain_array(name: str, column: Any) -> np.ndarray:
    if isinstance(column, np.ma.MaskedArray) and column.mask.any():
        numeric = column.dtype.kind in "iufb"
        kind = np.result_type(column.dtype, np.float32) if numeric else column.dtype
        column = np.ma.filled(column.astype(kind), np.nan if numeric else "")
    array = np.asarray(column)
    if array.dtype.kind in "OS":
        cells = [cell.decode() if isinstance(cell, bytes) else "" if cell is None else cell for cell in array.ravel()]
        array = np.array(cells).reshape(array.shape) if cells else array.astype(str)
    if array.dtype.kind not in "iufbU" or array.ndim not in (1, 2):
        raise XpjaxError(f"column {name!r} of type {array.dtype} and shape {array.shape} cannot be written")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _meta(catalogue: Catalogue) -> dict[str, Any]:
    return {str(name): value.tolist() if hasattr(value, "tolist") else value for name, value in catalogue.meta.items()}


# --- CSV and ECSV -----------------------------------------------------------------------------------------------------


def _sidecars(path: Path, shared: Iterable[str]) -> dict[str, Path]:
    """The files beside a CSV file that hold its shared arrays, by name; none for other formats."""
    suffix = _suffix(path)
    stem = path.name[: -len(suffix)]
    return {name: path.with_name(f"{stem}_{name}.csv") for name in shared if suffix in (".csv", ".csv.gz")}


def _text_cells(values: np.ndarray, *, null: bool) -> pyarrow.Array:
    """A column as CSV cells: the shortest digits that read back exactly, `[a,b]` for arrays, no NaN if `null`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if values.dtype.kind == "b":
        return pc.if_else(pa.array(values), "True", "False")
    if values.ndim == 1:
        return pa.array(values, from_pandas=null)
    if values.dtype.kind == "U":
        return pa.array([json.dumps(row) for row in values.tolist()])
    text = pc.cast(pa.array(values.ravel()), pa.string())
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        # Array cells are JSON as Python reads it.
        text = pc.replace_substring(pc.replace_substring(text, "inf", "Infinity"), "nan", "NaN")
    offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1]))
    return pc.binary_join_element_wise("[", pc.binary_join(pa.ListArray.from_arrays(offsets, text), ","), "]", "")


def _write_text(handle: IO[bytes], header: str, columns: Mapping[str, np.ndarray], *, null: bool) -> None:
    """Write header and rows, some million cells at a time: the text of an array is longer than its numbers."""
    import pyarrow as pa
    import pyarrow.csv

    handle.write(header.encode())
    n_row = len(next(iter(columns.values()))) if columns else 0
    step = max(1, (1 << 22) // max(1, sum(column[:1].size for column in columns.values())))
    for start in range(0, n_row, step):
        cells = [_text_cells(column[start : start + step], null=null) for column in columns.values()]
        pa.csv.write_csv(pa.table(cells, names=list(columns)), handle, pa.csv.WriteOptions(include_header=False))


def _write_csv(path: Path, catalogue: Catalogue, opener: Callable[..., IO[bytes]] = open) -> None:
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(catalogue.columns)
    with opener(path, "wb") as handle:
        _write_text(handle, header.getvalue(), catalogue.columns, null=True)


def _write_csv_gz(path: Path, catalogue: Catalogue) -> None:
    from isal import igzip

    _write_csv(path, catalogue, igzip.open)


def _write_ecsv(path: Path, catalogue: Catalogue) -> None:
    # astropy writes the header; rows go through Arrow, which is some 50 times faster and as exact.
    header = io.StringIO()
    table = _astropy_table(catalogue)
    table.meta.update(_meta(catalogue), **{name: array.tolist() for name, array in catalogue.shared.items()})
    table.meta["shared"] = list(catalogue.shared)
    table.write(header, format="ascii.ecsv", delimiter=",")
    with path.open("wb") as handle:
        _write_text(handle, header.getvalue(), catalogue.columns, null=False)


def _astropy_table(catalogue: Catalogue, rows: slice = slice(0)) -> Table:
    """The columns with units and descriptions as an astropy table; by default without rows."""
    from astropy.table import Column, Table
    from astropy.units import Unit

    return Table(
        [
            Column(
                column[rows],
                name,
                unit=Unit(catalogue.units[name], parse_strict="silent") if catalogue.units.get(name) else None,
                description=catalogue.descriptions.get(name),
            )
            for name, column in catalogue.columns.items()
        ]
    )


def _read_csv(path: Path) -> Catalogue:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    def array(name: str, column: pyarrow.ChunkedArray) -> np.ndarray:
        if pa.types.is_null(column.type):
            return np.full(len(column), np.nan)
        if not pa.types.is_string(column.type) or not len(column):
            return column.to_numpy()
        if not pc.all(pc.starts_with(column, "[")).as_py():
            return np.array(column.to_pylist(), str)
        lists = pc.split_pattern(pc.utf8_slice_codeunits(column, 1, -1), ",")
        lengths = pc.unique(pc.list_value_length(lists)).to_pylist()
        if len(lengths) != 1:
            raise XpjaxError(f"{path}: the arrays of column {name!r} have different lengths: {sorted(lengths)[:9]}")
        return pc.cast(pc.list_flatten(lists), pa.float64()).to_numpy().reshape(len(column), -1)

    with pa.input_stream(path) as stream:
        table = pa.csv.read_csv(
            stream,
            # A row of arrays is longer than the default block.
            pa.csv.ReadOptions(block_size=1 << 26),
            convert_options=pa.csv.ConvertOptions(null_values=[""], strings_can_be_null=False),
        )
    columns = {name: array(name, column) for name, column in zip(table.column_names, table.columns)}
    sidecar = _sidecars(path, ["wavelength"])["wavelength"]
    shared = _read_csv(sidecar).columns if sidecar.is_file() and "wavelength" not in columns else {}
    return Catalogue(columns, shared=shared)


def _read_ecsv(path: Path) -> Catalogue:
    from astropy.table import Table

    # A cell of correlations is longer than what Python's reader of CSV, which astropy uses, takes by default.
    limit = csv.field_size_limit(2**31 - 1)
    try:
        table = Table.read(path, format="ascii.ecsv")
    finally:
        csv.field_size_limit(limit)
    meta = dict(table.meta)
    shared = {name: np.asarray(meta.pop(name)) for name in meta.pop("shared", [])}
    return _from_astropy(table, shared, meta)


def _from_astropy(table: Table, shared: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Catalogue:
    columns = {str(name): _plain_array(name, table[name]) for name in table.colnames}
    units = {name: str(table[name].unit) for name in columns if table[name].unit}
    descriptions = {name: str(table[name].description) for name in columns if table[name].description}
    return Catalogue(columns, units, descriptions, shared, meta)


# --- FITS -------------------------------------------------------------------------------------------------------------


class _Stream(io.BufferedWriter):
    """A file that astropy writes to as to a stream: NumPy's own way to disk loses the system's reason of a failure."""

    def seekable(self) -> bool:
        """No, though it is."""
        return False


def _write_fits(path: Path, catalogue: Catalogue) -> None:
    from astropy.io import fits
    from astropy.table import Table

    if len(catalogue.columns) > FITS_COLUMNS:
        raise XpjaxError(
            f"{path.name.split('.')[1]}: a FITS table holds {FITS_COLUMNS} columns and this catalogue has "
            f"{len(catalogue.columns)}; write .parquet, .h5 or .vot, or choose fewer systems"
        )
    encoded = {
        name: np.char.encode(column, "utf-8") if column.dtype.kind == "U" else column
        for name, column in catalogue.columns.items()
    }
    hdu = fits.table_to_hdu(Table(encoded))
    hdu.name = "CATALOGUE"
    for i, name in enumerate(catalogue.columns, 1):
        if catalogue.units.get(name):
            hdu.header[f"TUNIT{i}"] = catalogue.units[name]
        if catalogue.descriptions.get(name):
            hdu.header[f"TCOMM{i}"] = catalogue.descriptions[name]
    # One JSON value is read back exactly; FITS keywords have eight characters and no lists.
    hdu.header["XPJAX"] = json.dumps(_meta(catalogue))
    tables = [fits.table_to_hdu(Table({name: array})) for name, array in catalogue.shared.items()]
    for table, name in zip(tables, catalogue.shared, strict=True):
        table.name = name.upper()
        if catalogue.units.get(name):
            table.header["TUNIT1"] = catalogue.units[name]
    with _Stream(path.open("wb", buffering=0)) as handle:
        fits.HDUList([fits.PrimaryHDU(), hdu, *tables]).writeto(handle)


def _read_fits(path: Path) -> Catalogue:
    from astropy.io import fits

    with fits.open(path, memmap=False) as hdus:
        hdu = hdus[1]
        columns = {name: _plain_array(name, hdu.data[name]) for name in hdu.columns.names}
        header = [(name, hdu.header.get(f"TUNIT{i}"), hdu.header.get(f"TCOMM{i}")) for i, name in enumerate(columns, 1)]
        shared = {name: _plain_array(name, table.data[name]) for table in hdus[2:] for name in table.columns.names}
        units = {name: unit for name, unit, _ in header if unit}
        units |= {table.columns.names[0]: table.header["TUNIT1"] for table in hdus[2:] if "TUNIT1" in table.header}
        meta = json.loads(hdu.header.get("XPJAX", "{}"))
    return Catalogue(columns, units, {name: text for name, _, text in header if text}, shared, meta)


# --- VOTable ----------------------------------------------------------------------------------------------------------


def _write_votable(path: Path, catalogue: Catalogue) -> None:
    from astropy.io.votable import from_table
    from astropy.io.votable.exceptions import W50
    from astropy.io.votable.tree import Info, Param

    # VOTable knows no unsigned integers.
    signed = {n: c.astype(np.int64) if c.dtype.kind == "u" else c for n, c in catalogue.columns.items()}
    votable = from_table(_astropy_table(dataclasses.replace(catalogue, columns=signed), slice(None)))
    votable.set_all_tables_format("binary")
    table = votable.get_first_table()
    for name, array in catalogue.shared.items():
        kind = {"f4": "float", "f8": "double", "i8": "long", "i4": "int"}[array.dtype.str[1:]]
        unit = catalogue.units.get(name)
        table.params.append(Param(votable, name=name, datatype=kind, arraysize=str(array.size), value=array, unit=unit))
    for name, value in _meta(catalogue).items():
        table.infos.append(Info(name=name, value=json.dumps(value)))
    with path.open("wb") as handle, warnings.catch_warnings():
        # The standard knows no electrons; readers take the unit as text.
        warnings.simplefilter("ignore", W50)
        votable.to_xml(handle)


def _read_votable(path: Path) -> Catalogue:
    from astropy.io.votable import parse_single_table
    from astropy.io.votable.exceptions import W50

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", W50)
        element = parse_single_table(path)
    shared = {param.name: _plain_array(param.name, param.value) for param in element.params}
    meta = {}
    for info in element.infos:
        with contextlib.suppress(json.JSONDecodeError):
            meta[info.name] = json.loads(info.value)
    catalogue = _from_astropy(element.to_table(use_names_over_ids=True), shared, meta)
    units = {param.name: str(param.unit) for param in element.params if param.unit}
    return Catalogue(catalogue.columns, {**catalogue.units, **units}, catalogue.descriptions, shared, meta)


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _write_parquet(path: Path, catalogue: Catalogue) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    def cells(values: np.ndarray) -> pyarrow.Array:
        flat = pa.array(values.ravel())
        return flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])

    def field(name: str, kind: pyarrow.DataType) -> pyarrow.Field:
        notes = {"unit": catalogue.units.get(name), "description": catalogue.descriptions.get(name)}
        return pa.field(name, kind, metadata={key: text for key, text in notes.items() if text})

    arrays = [cells(column) for column in catalogue.columns.values()]
    shared = {name: array.tolist() for name, array in catalogue.shared.items()}
    units = {name: catalogue.units[name] for name in shared if name in catalogue.units}
    notes = {"meta": _meta(catalogue), "shared": shared, "shared_units": units}
    schema = pa.schema(
        [field(name, array.type) for name, array in zip(catalogue.columns, arrays, strict=True)],
        metadata={b"xpjax": json.dumps(notes).encode()},
    )
    pa.parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


def _read_parquet(path: Path) -> Catalogue:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet

    def array(column: pyarrow.ChunkedArray) -> np.ndarray:
        if pa.types.is_nested(column.type):
            return pc.list_flatten(column).to_numpy().reshape(len(column), getattr(column.type, "list_size", -1))
        return np.array(column.to_pylist(), str) if pa.types.is_string(column.type) else column.to_numpy()

    table = pa.parquet.read_table(path)
    notes = json.loads((table.schema.metadata or {}).get(b"xpjax", b"{}"))
    fields = {field.name: field.metadata or {} for field in table.schema}
    return Catalogue(
        {name: array(column) for name, column in zip(table.column_names, table.columns, strict=True)},
        {name: text[b"unit"].decode() for name, text in fields.items() if b"unit" in text}
        | notes.get("shared_units", {}),
        {name: text[b"description"].decode() for name, text in fields.items() if b"description" in text},
        {name: np.asarray(values) for name, values in notes.get("shared", {}).items()},
        notes.get("meta", {}),
    )


# --- HDF5 -------------------------------------------------------------------------------------------------------------


class _Deaf(io.FileIO):
    """A file that keeps the first error for later: HDF5 crashes the process where a write or a closing fails."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """All of the data, unless something has failed."""
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and self.error is None:
                left = left[super().write(left) :]
        except OSError as exc:
            self.error = exc
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size, which may also be too large for the disk."""
        try:
            return super().truncate(size)
        except OSError as exc:
            self.error = self.error or exc
            return size or 0


def _write_hdf5(path: Path, catalogue: Catalogue) -> None:
    import h5py

    with _Deaf(path, "w+") as handle:
        with h5py.File(handle, "w", track_order=True) as file:
            for name, array in {**catalogue.columns, **catalogue.shared}.items():
                text = array.dtype.kind == "U"
                data = file.create_dataset(
                    name, data=array.astype(object) if text else array, dtype=h5py.string_dtype() if text else None
                )
                for key, note in (("unit", catalogue.units), ("description", catalogue.descriptions)):
                    if note.get(name):
                        data.attrs[key] = note[name]
                if name in catalogue.shared:
                    data.attrs["shared"] = True
            file.attrs.update(_meta(catalogue))
        if handle.error is not None:
            raise handle.error


def _read_hdf5(path: Path) -> Catalogue:
    import h5py

    with h5py.File(path) as file:
        data = {
            name: np.asarray(item.asstr()[()], str) if h5py.check_string_dtype(item.dtype) else item[()]
            for name, item in file.items()
        }
        notes = {name: dict(item.attrs) for name, item in file.items()}
        meta = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in file.attrs.items()}
    return Catalogue(
        {name: array for name, array in data.items() if "shared" not in notes[name]},
        {name: note["unit"] for name, note in notes.items() if "unit" in note},
        {name: note["description"] for name, note in notes.items() if "description" in note},
        {name: array for name, array in data.items() if "shared" in notes[name]},
        meta,
    )


_FORMATS: dict[str, tuple[Callable[[Path, Catalogue], None], Callable[[Path], Catalogue]]] = {
    ".csv": (_write_csv, _read_csv),
    ".csv.gz": (_write_csv_gz, _read_csv),
    ".ecsv": (_write_ecsv, _read_ecsv),
    ".fits": (_write_fits, _read_fits),
    ".vot": (_write_votable, _read_votable),
    ".xml": (_write_votable, _read_votable),
    ".parquet": (_write_parquet, _read_parquet),
    ".h5": (_write_hdf5, _read_hdf5),
    ".hdf5": (_write_hdf5, _read_hdf5),
}

SUFFIXES = tuple(_FORMATS)
"""The suffixes of the formats that can be written."""


def _suffix(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise XpjaxError(f"{path.name}: the suffix names the format, and is one of {', '.join(SUFFIXES)}")
