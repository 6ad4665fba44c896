"""Catalogues on disk: one table in, one file out, in the format of the file's suffix; all or nothing.

Arrays that all rows share (`wavelength`) are stored once: an HDF5 dataset, the metadata of ECSV and Parquet, a second
table in FITS, a PARAM in VOTable, and beside CSV, which has no metadata, a second file `NAME_wavelength.csv`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue, concatenate_records
from xpjax.core.types import AnyTable
from xpjax.io import atomic
from xpjax.io.atomic import DeafFile, expanded, whole_files
from xpjax.io.columns import join_columns
from xpjax.io.csv_rows import write_rows
from xpjax.io.gaps import filler, has_gaps, is_big, with_filler
from xpjax.io.results import arrow_table, astropy_table, plain_meta
from xpjax.io.tables import LDAC_HEADER, LDAC_TABLE, open_table

if TYPE_CHECKING:
    from astropy.table import Table

FITS_COLUMNS = 999
"""The most columns a FITS table may have (FITS standard 4.0, section 7.3.1)."""


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False, shared: Iterable[str] = ()) -> None:
    """Refuse a table before anything is computed: as `atomic.check_output`, and a suffix of no format.

    shared: names of the arrays stored once, which need a second file beside CSV. Raises XpjaxError or OSError.
    """
    path = expanded(path)
    atomic.check_output(path, *_sidecars(path, shared).values(), overwrite=overwrite)


def write(path: str | os.PathLike[str], table: AnyTable, *, overwrite: bool = False) -> None:
    """Write a result as a table in the format of the suffix.

    The file appears under its name when it is whole; otherwise nothing does.

    Parameters
    ----------
    path : str or Path
        The file; its suffix is csv, csv.gz, ecsv, fits, ldac, cat, vot, xml, parquet, h5 or hdf5.
    table : Photometry, Spectra, SourceTable, or another result of xpjax
        What is written. `read_table` reads any of it as a table, `xpjax.read` reads sources back.
    overwrite : bool
        Whether to replace a file of that name.

    Raises
    ------
    XpjaxError
        If the suffix names no format, or the format cannot hold the table.
    OSError
        If the file exists, or the disk refuses.

    Notes
    -----
    Arrays that all rows share (`wavelength`) are stored once: an HDF5 dataset, the metadata of ECSV and Parquet, a
    second table in FITS, a PARAM in VOTable, and beside CSV a second file `NAME_wavelength.csv`.

    Examples
    --------
    >>> stars = xpjax.photometry(xpjax.simulate_sources(3, seed=1), "SDSS")
    >>> xpjax.write("sdss.fits", stars)
    >>> len(xpjax.read_table("sdss.fits"))
    3
    """
    path = expanded(path)
    catalogue = columns_of(table)
    writer = _FORMATS[_suffix(path)]
    check_output(path, overwrite=overwrite, shared=catalogue.shared)
    catalogue = _plain(catalogue)
    with whole_files() as temporary:
        for name, sidecar in _sidecars(path, catalogue.shared).items():
            _write_csv(temporary(sidecar), Catalogue({name: catalogue.shared[name]}))
        writer(temporary(path), catalogue)


def write_as(suffix: str, path: Path, catalogue: Catalogue) -> None:
    """Write a table in the format of a suffix to a file of another name, such as a temporary one."""
    _FORMATS[suffix](path, _plain(catalogue))


def read_catalogue(source: AnyTable) -> Catalogue:
    """All columns of a table, with units, descriptions, arrays stored once and metadata, as `write` wrote them.

    source: as for `xpjax.io.tables.open_table`. Missing numbers are NaN, missing text is empty; see `Column.plain`. CSV
    has no units, descriptions or metadata, and its floats come as float64. Raises XpjaxError for columns that no
    catalogue holds.
    """
    table = open_table(source)
    table.load(table.names)
    columns = {name: table.column(name).plain() for name in table.names}
    units = {name: field.unit for name, field in table.fields.items() if field.unit} | table.shared_units
    told = {name: field.description for name, field in table.fields.items() if field.description}
    shared = dict(table.shared)
    if isinstance(source, str | os.PathLike) and "wavelength" not in columns:
        path = expanded(source)
        beside = _sidecars(path, ["wavelength"]).get("wavelength") if path.name.lower().endswith(SUFFIXES) else None
        if beside is not None and beside.is_file():
            shared["wavelength"] = open_table(beside).column("wavelength").numbers()
    return Catalogue(columns, units, told, shared, table.meta)


def columns_of(source: AnyTable) -> Catalogue:
    """The columns of a result, of a table in memory (astropy, pandas, Arrow), or of a file. Raises XpjaxError."""
    if isinstance(source, Catalogue):
        return source
    return source.catalogue() if hasattr(source, "catalogue") else read_catalogue(source)


def read_table(source: AnyTable) -> Table:
    """Read a table of any format that xpjax writes as an astropy table.

    Parameters
    ----------
    source : str, Path, table or result
        The file, `FILE[NAME]` for one of several tables in a file, or a table in memory (pandas, Arrow, a mapping of
        columns, a result of xpjax).

    Returns
    -------
    astropy.table.Table
        One row for each row of the file. Columns have units and descriptions where the format holds them; `meta` has
        the metadata and what all rows share, such as `wavelength`. Missing numbers are NaN, missing text is empty.

    Raises
    ------
    XpjaxError
        If the file is no table, or a column can be none of numbers, flags and text.

    Examples
    --------
    >>> stars = xpjax.photometry(xpjax.simulate_sources(3, seed=1), "SDSS")
    >>> xpjax.write("sdss.ecsv", stars)
    >>> xpjax.read_table("sdss.ecsv")["Sdss_mag_g"].unit
    Unit("mag")
    """
    return astropy_table(columns_of(source))


def concatenate(parts: Sequence[Catalogue]) -> Catalogue:
    """Join catalogues with the same columns row by row, in order; all else comes from the first.

    Integers keep their digits, and text and numbers together become text.
    """
    return concatenate_records(parts, lambda columns: join_columns(columns, [len(column) for column in columns]))


# --- plain arrays -----------------------------------------------------------------------------------------------------


def _plain(catalogue: Catalogue) -> Catalogue:
    """Columns as native NumPy numbers, bools or text of one length, missing ones as NaN, '' or masked big integers."""
    columns = {name: _plain_array(name, column) for name, column in catalogue.columns.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len({*lengths.values()}) > 1:
        raise XpjaxError(f"the columns of a catalogue have different lengths: {lengths}")
    shared = {name: _plain_array(name, array) for name, array in catalogue.shared.items()}
    return Catalogue(columns, catalogue.units, catalogue.descriptions, shared, catalogue.meta)


def _plain_array(name: str, column: Any) -> np.ndarray:
    if has_gaps(column) and column.ndim == 1 and is_big(column):
        data = np.where(np.ma.getmaskarray(column), 0, np.ma.getdata(column))
        return np.ma.array(data.astype(data.dtype.newbyteorder("=")), mask=np.ma.getmaskarray(column))
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


# --- CSV and ECSV -----------------------------------------------------------------------------------------------------


def _sidecars(path: Path, shared: Iterable[str]) -> dict[str, Path]:
    """The files beside a CSV file that hold its shared arrays, by name; none for other formats."""
    suffix = _suffix(path)
    stem = path.name[: -len(suffix)]
    return {name: path.with_name(f"{stem}_{name}.csv") for name in shared if suffix in (".csv", ".csv.gz")}


def _write_csv(path: Path, catalogue: Catalogue, opener: Callable[..., IO[bytes]] = open) -> None:
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(catalogue.columns)
    with opener(path, "wb") as handle:
        write_rows(handle, header.getvalue(), catalogue.columns, null=True)


def _write_csv_gz(path: Path, catalogue: Catalogue) -> None:
    from isal import igzip

    _write_csv(path, catalogue, igzip.open)


def _write_ecsv(path: Path, catalogue: Catalogue) -> None:
    # astropy writes the header; rows go through Arrow, which is some 50 times faster and as exact.
    header = io.StringIO()
    table = astropy_table(catalogue)[:0]
    table.meta.update({name: array.tolist() for name, array in catalogue.shared.items()})
    table.meta["shared"] = list(catalogue.shared)
    table.write(header, format="ascii.ecsv", delimiter=",")
    with path.open("wb") as handle:
        write_rows(handle, header.getvalue(), catalogue.columns, null=False)


# --- FITS -------------------------------------------------------------------------------------------------------------


class _Stream(io.BufferedWriter):
    """A file that astropy writes to as to a stream: NumPy's own way to disk loses the system's reason of a failure."""

    def seekable(self) -> bool:
        """No, though it is."""
        return False


def _write_fits(path: Path, catalogue: Catalogue) -> None:
    if len(catalogue.columns) > FITS_COLUMNS:
        raise XpjaxError(
            f"{path.name.split('.')[1]}: a FITS table holds {FITS_COLUMNS} columns and this catalogue has "
            f"{len(catalogue.columns)}; write .parquet, .h5 or .vot, or choose fewer systems"
        )
    hdu = _fits_table(catalogue, "CATALOGUE")
    for i, name in enumerate(catalogue.columns, 1):
        if catalogue.descriptions.get(name):
            hdu.header[f"TCOMM{i}"] = catalogue.descriptions[name]
    # One JSON value is read back exactly; FITS keywords have eight characters and no lists.
    hdu.header["XPJAX"] = json.dumps(plain_meta(catalogue))
    tables = [_fits_table(Catalogue({n: array}, catalogue.units), n.upper()) for n, array in catalogue.shared.items()]
    _write_hdus(path, hdu, *tables)


def _fits_table(catalogue: Catalogue, name: str) -> Any:
    """The columns with their units as a table of this name; text is UTF-8, which FITS takes for ASCII."""
    from astropy.io import fits
    from astropy.table import Table

    alike = Counter(n.lower() for n in catalogue.columns)
    if twice := [n for n in catalogue.columns if alike[n.lower()] > 1]:
        raise XpjaxError(f"FITS does not tell the columns {twice} apart: rename one, or write Parquet, HDF5 or VOTable")
    columns = {n: np.char.encode(c, "utf-8") if c.dtype.kind == "U" else c for n, c in catalogue.columns.items()}
    table = Table(columns)
    for key, cells in columns.items():
        if has_gaps(cells):
            table[key].fill_value = filler(cells.dtype)  # becomes TNULL
    hdu = fits.table_to_hdu(table)
    hdu.name = name
    for i, column in enumerate(catalogue.columns, 1):
        if catalogue.units.get(column):
            hdu.header[f"TUNIT{i}"] = catalogue.units[column]
    return hdu


def _write_hdus(path: Path, *hdus: Any) -> None:
    from astropy.io import fits

    with _Stream(path.open("wb", buffering=0)) as handle:
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(handle)


def _write_ldac(path: Path, catalogue: Catalogue) -> None:
    """FITS_LDAC: the metadata are the image's header, one string of cards in a table before that of the objects."""
    from astropy.io import fits

    header = fits.Header()
    for key, value in catalogue.meta.items():
        if isinstance(value, bool | int | float | str):
            header[str(key)[:8].upper()] = value
    text = header.tostring(sep="", endcard=True, padding=False)
    cards = np.array([[text[k : k + 80] for k in range(0, len(text), 80)]])
    column = fits.Column("Field Header Card", f"{cards.size * 80}A", dim=f"(80, {cards.size})", array=cards)
    image = fits.BinTableHDU.from_columns([column])
    image.name = LDAC_HEADER
    _write_hdus(path, image, _fits_table(catalogue, LDAC_TABLE))


# --- VOTable ----------------------------------------------------------------------------------------------------------


def _write_votable(path: Path, catalogue: Catalogue) -> None:
    from astropy.io.votable import from_table
    from astropy.io.votable.exceptions import W50
    from astropy.io.votable.tree import Info, Param

    # VOTable knows no unsigned integers.
    signed = {n: c.astype(np.int64) if c.dtype.kind == "u" else c for n, c in catalogue.columns.items()}
    empty = [name for name, column in signed.items() if column.ndim == 2 and not column.shape[1]]
    if empty:
        raise XpjaxError(f"{empty[0]} has no number in any row, which VOTable cannot hold: write Parquet, FITS or HDF5")
    bare = dataclasses.replace(catalogue, columns=signed, meta={}, shared={})
    bare_table = astropy_table(bare)
    for name, column in signed.items():
        if has_gaps(column):
            bare_table[name].meta["values"] = {"null": filler(column.dtype)}
    votable = from_table(bare_table)
    votable.set_all_tables_format("binary")
    table = votable.get_first_table()
    for name, array in catalogue.shared.items():
        kind = {"f4": "float", "f8": "double", "i8": "long", "i4": "int"}[array.dtype.str[1:]]
        unit = catalogue.units.get(name)
        table.params.append(Param(votable, name=name, datatype=kind, arraysize=str(array.size), value=array, unit=unit))
    for name, value in plain_meta(catalogue).items():
        table.infos.append(Info(name=name, value=json.dumps(value)))
    with path.open("wb") as handle, warnings.catch_warnings():
        # The standard knows no electrons; readers take the unit as text.
        warnings.simplefilter("ignore", W50)
        votable.to_xml(handle)


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _write_parquet(path: Path, catalogue: Catalogue) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(arrow_table(catalogue), path)


# --- HDF5 -------------------------------------------------------------------------------------------------------------


def _write_hdf5(path: Path, catalogue: Catalogue) -> None:
    import h5py

    with DeafFile(path, "w+") as handle:
        with h5py.File(handle, "w", track_order=True) as file:
            for name, array in {**catalogue.columns, **catalogue.shared}.items():
                text = array.dtype.kind == "U"
                cells = array.astype(object) if text else with_filler(array) if has_gaps(array) else array
                data = file.create_dataset(name, data=cells, dtype=h5py.string_dtype() if text else None)
                if has_gaps(array):
                    data.attrs["_FillValue"] = filler(array.dtype)
                for key, note in (("unit", catalogue.units), ("description", catalogue.descriptions)):
                    if note.get(name):
                        data.attrs[key] = note[name]
                if name in catalogue.shared:
                    data.attrs["shared"] = True
            file.attrs.update(plain_meta(catalogue))
        if handle.error is not None:
            raise handle.error


_FORMATS: dict[str, Callable[[Path, Catalogue], None]] = {
    ".csv": _write_csv,
    ".csv.gz": _write_csv_gz,
    ".ecsv": _write_ecsv,
    ".fits": _write_fits,
    ".vot": _write_votable,
    ".xml": _write_votable,
    ".parquet": _write_parquet,
    ".h5": _write_hdf5,
    ".hdf5": _write_hdf5,
}

SUFFIXES = tuple(_FORMATS)
"""The suffixes of the formats that hold every catalogue."""
_FORMATS |= dict.fromkeys((".ldac", ".cat"), _write_ldac)


def _suffix(path: Path) -> str:
    for suffix in _FORMATS:
        if path.name.lower().endswith(suffix):
            return suffix
    raise XpjaxError(f"{path.name}: the suffix names the format, and is one of {', '.join(_FORMATS)}")
