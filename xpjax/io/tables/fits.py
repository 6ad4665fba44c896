"""FITS tables: nulls, scaled integers, units; FITS_LDAC with the image's header beside each table."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.streams import File
from xpjax.io.tables.raw import Raw, arrays, plain, text
from xpjax.io.tables.table import Field, Table

LDAC_TABLE, LDAC_HEADER = "LDAC_OBJECTS", "LDAC_IMHEAD"


def open_fits(file: File) -> list[Table]:
    """The tables of a FITS file: LDAC_OBJECTS, each with its image's header, where there are such; else all."""
    from astropy.io import fits

    path = file.origin
    with _opened(file) as hdus:
        places = [k for k, hdu in enumerate(hdus) if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        if not places:
            raise XpjaxError(f"{path} has no table; give a catalogue, not an image, or download it again")
        objects = [k for k in places if hdus[k].name == LDAC_TABLE]
        own = [k for k in places if "XPJAX" in hdus[k].header]
        chosen = objects or own or [k for k in places if hdus[k].name != LDAC_HEADER]
        if not chosen:
            raise XpjaxError(f"{path} ends after {LDAC_HEADER}, before its table; download it again")
        primary = _cards(hdus[0].header)
        tables = []
        for k in chosen:
            header = primary | _cards(hdus[k].header)
            before = [j for j in places if j < k and hdus[j].name == LDAC_HEADER]
            if objects and before and len(hdus[before[-1]].data):
                header |= _cards(_image_header(hdus[before[-1]].data))
            tables.append(_table(file, hdus, k, len(chosen) > 1, header))
        if own and not objects:
            others = [k for k in places if k > own[0] and k not in own]
            tables[0].shared, tables[0].shared_units = _shared(hdus, others)
            tables[0].meta = json.loads(hdus[own[0]].header["XPJAX"])
    return tables


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    """The HDUs of a file, packed or not. Raises XpjaxError for a truncated one."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with fits.open(file.source(), memmap=False) as hdus:
            last = hdus.fileinfo(len(hdus) - 1)  # reads all headers
            yield hdus
    said = [str(warning.message) for warning in caught if issubclass(warning.category, AstropyWarning)]
    cut = any("truncated" in text for text in said)
    if not cut and any("Error validating header" in text for text in said):  # or there are bytes after the last table
        with file.open() as rest:
            rest.seek(last["datLoc"] + last["datSpan"])
            cut = rest.read(8) == b"XTENSION"
    if cut:
        raise XpjaxError(f"{file.origin}: the file is truncated; download it again")


def _table(file: File, hdus: Any, k: int, several: bool, header: dict[str, Any]) -> Table:
    hdu, path = hdus[k], file.origin
    n_column = int(hdu.header["TFIELDS"])
    names = [str(hdu.header.get(f"TTYPE{i}", f"col{i}")).strip() for i in range(1, n_column + 1)]
    fields = [Field(name, hdu.header.get(f"TUNIT{i}"), hdu.header.get(f"TCOMM{i}")) for i, name in enumerate(names, 1)]
    part = str(k)
    origin = f"{path}[{hdu.name or k}]" if several and hdu.name and hdu.name != LDAC_TABLE else path
    origin = f"{path}[{k}]" if several and origin == path else origin

    def pull(wanted: Sequence[str]) -> dict[str, Raw]:
        with _opened(file) as again:
            for i, name in enumerate(names, 1):
                if name in out.repeated:
                    again[k].header[f"TTYPE{i}"] = f"col{i}"  # astropy reads no table with a name twice
            return {name: _raw(again[k], names.index(name), f"{origin}: column {name!r}") for name in wanted}

    out = Table(origin, fields, int(hdu.header["NAXIS2"]), pull, header=header, part=part)
    folded = Counter(name.lower() for name in names)
    out.repeated |= {name for name in names if folded[name.lower()] > 1}  # names in FITS have no case
    return out


def from_records(records: Any) -> Table:
    """Records of astropy's FITS in memory."""
    source = SimpleNamespace(columns=records.columns, data=records)
    names = list(records.columns.names)

    def pull(wanted: Sequence[str]) -> dict[str, Raw]:
        return {name: _raw(source, names.index(name), f"memory: column {name!r}") for name in wanted}

    return Table("memory", [Field(c.name, c.unit) for c in records.columns], len(records), pull)


def _raw(hdu: Any, place: int, where: str) -> Raw:
    """A column by its place, with the null values of the header missing."""
    from astropy.io import fits

    column = hdu.columns[place]
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
    return plain(np.asarray(data), missing, where)


def _variable(data: Any, where: str) -> Raw:
    """Arrays of variable length."""
    rows = [np.asarray(row) for row in data]
    if any(row.dtype.kind not in "iuf" for row in rows):
        raise XpjaxError(f"{where} holds arrays of {rows[0].dtype}, expected numbers; name another column")
    return arrays([row.astype(np.float64) for row in rows])


def _decoded(data: np.ndarray) -> list[str]:
    if data.dtype.kind == "S":
        data = np.array([cell.decode("utf-8", "replace") for cell in data.ravel()]).reshape(data.shape)
    return [str(cell).rstrip() for cell in (data if data.ndim == 1 else [" ".join(row) for row in data])]


def _shared(hdus: Any, places: Sequence[int]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays that xpjax wrote once for all rows, as tables after its own."""
    arrays, units = {}, {}
    for k in places:
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
