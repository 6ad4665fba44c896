"""FITS tables: nulls, scaled integers, units; FITS_LDAC with the image's header beside each table."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.errors import XpjaxError
from xpjax.io.streams import open_bytes, packing
from xpjax.io.tables.arrow import text
from xpjax.io.tables.table import Field, Raw, Table

LDAC_TABLE, LDAC_HEADER = "LDAC_OBJECTS", "LDAC_IMHEAD"


def open_fits(path: Path) -> list[Table]:
    """The tables of a FITS file: LDAC_OBJECTS, each with its image's header, where there are such; else all."""
    from astropy.io import fits

    with _opened(path) as hdus:
        places = [k for k, hdu in enumerate(hdus) if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        if not places:
            raise XpjaxError(f"{path} has no table; give a catalogue, not an image")
        objects = [k for k in places if hdus[k].name == LDAC_TABLE]
        own = [k for k in places if "XPJAX" in hdus[k].header]
        chosen = objects or own[:1] or [k for k in places if hdus[k].name != LDAC_HEADER]
        shared, shared_units = _shared(hdus, places, own[0]) if own and not objects else ({}, {})
        primary = _cards(hdus[0].header)
        tables = []
        for k in chosen:
            header = primary | _cards(hdus[k].header)
            before = [j for j in places if j < k and hdus[j].name == LDAC_HEADER]
            if objects and before and len(hdus[before[-1]].data):
                header |= _cards(_image_header(hdus[before[-1]].data))
            tables.append(_table(path, hdus, k, len(chosen) > 1, header))
        if own and not objects:
            tables[0].shared, tables[0].shared_units = shared, shared_units
            tables[0].meta = json.loads(hdus[own[0]].header["XPJAX"])
    return tables


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The HDUs of a file, packed or not. Raises XpjaxError for a truncated one."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stream = open_bytes(path) if packing(path) else None
        try:
            with fits.open(stream or path, memmap=False) as hdus:
                len(hdus)  # reads all headers
                yield hdus
        finally:
            if stream is not None:
                stream.close()
    for warning in caught:
        if issubclass(warning.category, AstropyWarning) and "truncated" in str(warning.message):
            raise XpjaxError(f"{path}: the file is truncated; download it again")


def _table(path: Path, hdus: Any, k: int, several: bool, header: dict[str, Any]) -> Table:
    hdu = hdus[k]
    n_column = int(hdu.header["TFIELDS"])
    names = [str(hdu.header.get(f"TTYPE{i}", f"col{i}")).strip() for i in range(1, n_column + 1)]
    fields = [Field(name, hdu.header.get(f"TUNIT{i}"), hdu.header.get(f"TCOMM{i}")) for i, name in enumerate(names, 1)]
    part = str(k)
    origin = f"{path}[{hdu.name or k}]" if several and hdu.name and hdu.name != LDAC_TABLE else str(path)
    origin = f"{path}[{k}]" if several and origin == str(path) else origin

    def pull(wanted: Sequence[str]) -> dict[str, Raw]:
        with _opened(path) as again:
            return {name: _raw(again[k], names.index(name), origin) for name in wanted}

    return Table(origin, fields, int(hdu.header["NAXIS2"]), pull, header=header, part=part)


def _raw(hdu: Any, place: int, origin: str) -> Raw:
    """A column by its place, with the null values of the header missing."""
    from astropy.io import fits

    column, name = hdu.columns[place], hdu.columns.names[place]
    where = f"{origin}: column {name!r}"
    # TNULL is a value as it is stored, before TSCAL and TZERO.
    stored = np.recarray.field(hdu.data, place)
    data = hdu.data.field(place)
    missing = np.zeros(data.shape, bool)
    if isinstance(hdu, fits.TableHDU):
        cells = np.char.strip(np.asarray(stored).astype("U"))
        missing = cells == ""
        if column.null is not None:
            missing |= cells == str(column.null).strip()
    elif column.null is not None and stored.dtype.kind in "iu":
        missing = np.asarray(stored == column.null)
    if data.dtype.kind in "SU":
        return text(_decoded(np.asarray(data)), missing if missing.ndim == 1 else None)
    if column.format.endswith("L") and stored.dtype.kind in "iu":
        missing = np.asarray(stored == 0)
    if data.dtype == object or isinstance(data, fits.column._VLF):
        return _variable(data, where)
    if data.dtype.kind not in "iufbc":
        raise XpjaxError(f"{where} holds {data.dtype}, expected numbers or text; name another column, or leave it out")
    values = np.asarray(data)
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    if values.dtype.kind == "f":
        missing = missing | np.isnan(values)
    return Raw(values, missing)


def _variable(data: Any, where: str) -> Raw:
    """Arrays of variable length, where all are of one."""
    rows = [np.asarray(row) for row in data]
    if len({row.shape for row in rows}) > 1 or (rows and rows[0].dtype.kind not in "iuf"):
        raise XpjaxError(f"{where} holds arrays of different lengths; name another column, or leave it out")
    values = np.stack([np.asarray(row, float) for row in rows]) if rows else np.zeros((0, 1))
    return Raw(values, np.isnan(values))


def _decoded(data: np.ndarray) -> list[str]:
    if data.dtype.kind == "S":
        data = np.array([cell.decode("utf-8", "replace") for cell in data.ravel()]).reshape(data.shape)
    return [str(cell).rstrip() for cell in (data if data.ndim == 1 else [" ".join(row) for row in data])]


def _shared(hdus: Any, places: Sequence[int], own: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays that xpjax wrote once for all rows, as tables after its own."""
    arrays, units = {}, {}
    for k in places:
        if k > own:
            for place, name in enumerate(hdus[k].columns.names):
                arrays[name] = _raw(hdus[k], place, hdus[k].name).values
                if "TUNIT1" in hdus[k].header:
                    units[name] = hdus[k].header["TUNIT1"]
    return arrays, units


def _image_header(data: Any) -> Any:
    """The header that LDAC_IMHEAD keeps as one cell of text, 80 characters a card."""
    from astropy.io import fits

    cell = np.asarray(data.field(0)[0]).ravel()
    text = "".join(part.decode("latin-1") if isinstance(part, bytes) else str(part).ljust(80) for part in cell)
    return fits.Header.fromstring(text)


def _cards(header: Any) -> dict[str, Any]:
    """Keywords with plain values."""
    return {key: value for key, value in header.items() if key and isinstance(value, bool | int | float | str)}
