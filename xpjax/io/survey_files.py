"""Tables of observations on disk: FITS, SExtractor's FITS_LDAC and text, Parquet, ECSV, CSV, VOTable and HDF5.

All come as a `Catalogue`: columns, and in `meta` what the file's header says. In FITS_LDAC the image's header lies in
a table of its own, one string of cards; it is read as a header.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.errors import XpjaxError
from xpjax.io import catalogue
from xpjax.records import Catalogue

LDAC_TABLE, LDAC_HEADER = "LDAC_OBJECTS", "LDAC_IMHEAD"
FITS_SUFFIXES = (".fits", ".fit", ".cat", ".ldac", ".fits.gz", ".fits.fz")


def read_observation_table(path: str | os.PathLike[str]) -> Catalogue:
    """A table of measurements, one row each, in any format that is known; meta holds header keywords in capitals.

    In a FITS file it is the table LDAC_OBJECTS if there is one, else the first table. Raises FileNotFoundError, and
    ValueError for a file that cannot be read as a table, naming it.
    """
    path = catalogue.expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if path.name.lower().endswith(FITS_SUFFIXES):
        return _read_sextractor(path) if _is_text(path) else _read_fits(path)
    try:
        return catalogue.read_catalogue(path)
    except ValueError:
        raise
    except Exception as error:  # libraries raise what they like for a damaged file
        raise XpjaxError(f"{path} cannot be read as {path.suffix}: {error}") from error


def read_catalogues(paths: Sequence[Path], exposure: str | None = None) -> dict[str, Catalogue]:
    """Catalogues by exposure: of this name, or named as their files, with numbers where names repeat."""
    tables: dict[str, Catalogue] = {}
    for path in paths:
        stem = exposure or path.name.partition(".")[0]
        name, k = stem, 2
        while name in tables:
            name, k = f"{stem}_{k}", k + 1
        tables[name] = read_observation_table(path)
    return tables


def _is_text(path: Path) -> bool:
    """Whether a catalogue is SExtractor's text, which begins with `#`, and no FITS."""
    with path.open("rb") as handle:
        return handle.read(1) == b"#"


def _read_sextractor(path: Path) -> Catalogue:
    """SExtractor's ASCII_HEAD; parameters of several numbers (MAG_APER) are NAME, NAME_1, ..., and one array here."""
    from astropy.table import Table

    try:
        table = Table.read(path, format="ascii.sextractor")
    except Exception as error:  # libraries raise what they like for a damaged file
        raise XpjaxError(f"{path} cannot be read as SExtractor's text: {error}") from error
    columns = {name: _native(table[name]) for name in table.colnames}
    out: dict[str, np.ndarray] = {}
    for name, column in columns.items():
        stem, _, number = name.rpartition("_")
        if number.isdigit() and stem in columns and f"{stem}_1" in columns:
            out[stem] = np.column_stack([out[stem], column])
        else:
            out[name] = column
    return Catalogue(out)


def _read_fits(path: Path) -> Catalogue:
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as hdus:
            tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
            chosen = [hdu for hdu in tables if hdu.name == LDAC_TABLE] or tables
            if not chosen:
                raise XpjaxError(f"{path} has no table; give a catalogue, not an image")
            meta: dict[str, Any] = {}
            for hdu in (hdus[0], chosen[0]):
                meta |= _cards(hdu.header)
            for hdu in tables:
                if hdu.name == LDAC_HEADER and len(hdu.data):
                    meta |= _cards(_image_header(hdu.data))
            columns = {name: _native(chosen[0].data[name]) for name in chosen[0].columns.names}
    except OSError as error:
        raise XpjaxError(f"{path} cannot be read as FITS: {error}") from error
    return Catalogue(columns, meta=meta)


def _native(column: Any) -> np.ndarray:
    """A column as native numbers or text; integers with nulls become floats."""
    array = np.ma.filled(column.astype(float), np.nan) if np.ma.isMaskedArray(column) else np.asarray(column)
    if array.dtype.kind == "S":
        return np.char.decode(array, "latin-1")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("=")) if array.dtype.kind in "iufb" else array


def _image_header(data: Any) -> Any:
    """The header that LDAC_IMHEAD keeps as one cell of text, 80 characters a card."""
    from astropy.io import fits

    cell = np.asarray(data.field(0)[0]).ravel()
    text = "".join(part.decode("latin-1") if isinstance(part, bytes) else str(part).ljust(80) for part in cell)
    return fits.Header.fromstring(text)


def _cards(header: Any) -> dict[str, Any]:
    """Keywords with plain values."""
    return {key: value for key, value in header.items() if key and isinstance(value, bool | int | float | str)}


def write_observation_table(path: str | os.PathLike[str], table: Catalogue, *, overwrite: bool = False) -> None:
    """Write a table: `.ldac` and `.cat` as FITS_LDAC with `meta` as the image's header, others as `xpjax.write` does.

    The file appears whole or not at all. Raises ValueError for what the format cannot hold, and OSError.
    """
    path = catalogue.expanded(path)
    if not path.name.lower().endswith((".ldac", ".cat")):
        catalogue.write(path, table, overwrite=overwrite)
        return
    import io

    from astropy.io import fits
    from astropy.table import Table

    if path.exists() and not overwrite:
        raise FileExistsError(f"the output {path} exists; name another one, or overwrite it with --overwrite")
    header = fits.Header()
    for key, value in table.meta.items():
        if isinstance(value, bool | int | float | str):
            header[str(key)[:8].upper()] = value
    text = header.tostring(sep="", endcard=True, padding=False)
    cards = np.array([[text[k : k + 80] for k in range(0, len(text), 80)]])
    image = fits.BinTableHDU.from_columns(
        [fits.Column("Field Header Card", f"{cards.size * 80}A", dim=f"(80, {cards.size})", array=cards)]
    )
    image.name = LDAC_HEADER
    objects = fits.table_to_hdu(Table({name: np.asarray(column) for name, column in table.columns.items()}))
    objects.name = LDAC_TABLE
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), image, objects]).writeto(buffer)
    catalogue.write_bytes(path, buffer.getvalue())
