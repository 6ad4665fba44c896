"""HDF5 files: datasets at the root, one a column, or one dataset of records; groups are left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.hdf5 import open_hdf5 as open_path
from xpjax.io.streams import File
from xpjax.io.tables.raw import Raw, plain, text
from xpjax.io.tables.table import Field, Table

_FILLS = ("_FillValue", "missing_value")


def open_hdf5(file: File) -> list[Table]:
    """The tables of an HDF5 file, opened without a lock. Raises XpjaxError where its root holds none."""
    import h5py

    with _opened(file) as root:
        sets = {name: item for name, item in root.items() if isinstance(item, h5py.Dataset) and item.shape}
        records = [name for name, item in sets.items() if item.dtype.names]
        plain = {name: item for name, item in sets.items() if not item.dtype.names and not name.endswith("__")}
        if records:
            return [_records(file, root, name, len(records) > 1) for name in records]
        if not plain:
            groups = [name for name, item in root.items() if isinstance(item, h5py.Group)][:5]
            raise XpjaxError(
                f"{file.origin} has no datasets at its root{f' but the groups {groups}' if groups else ''}; expected "
                "one for each column, of one length"
            )
        return [_datasets(file, root, plain)]


@contextmanager
def _opened(file: File) -> Iterator[Any]:
    import h5py

    source = file.source()
    with open_path(source) if isinstance(source, Path) else h5py.File(source, "r") as root:
        yield root


def _datasets(file: File, root: Any, plain: dict[str, Any]) -> Table:
    path = file.origin
    shared = {name: item for name, item in plain.items() if "shared" in item.attrs}
    rest = {name: item for name, item in plain.items() if name not in shared}
    sizes = Counter(item.shape[0] for item in rest.values())
    n = next((s for s, count in sizes.items() if count == max(sizes.values())), 0)
    columns = {name for name, item in rest.items() if item.shape[0] == n}

    def pull(names: Sequence[str]) -> dict[str, Raw]:
        with _opened(file) as again:
            out = {}
            for name in names:
                if name not in columns:
                    raise XpjaxError(
                        f"{path}: column {name!r} has {again[name].shape[0]} rows, expected {n} as most columns have"
                    )
                out[name] = _raw(again[name], again.get(f"{name}.mask"), f"{path}: column {name!r}")
            return out

    fields = [Field(name, _attribute(item, "unit", "units", "UNIT"), _attribute(item, "description")) for name, item in
              rest.items()]  # fmt: skip
    meta = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in root.attrs.items()}
    units = {name: unit for name, item in shared.items() if (unit := _attribute(item, "unit", "units"))}
    arrays = {name: item[()] for name, item in shared.items()}
    return Table(path, fields, n, pull, header=meta, meta=meta, shared=arrays, shared_units=units)


def _records(file: File, root: Any, name: str, several: bool) -> Table:
    """A dataset of records, as astropy and pandas write tables."""
    item = root[name]
    origin = f"{file.origin}[{name}]" if several else file.origin
    units: dict[str, str] = {}
    described = root.get(f"{name}.__table_column_meta__")
    if described is not None:
        from xpjax.io.tables.ecsv import stated_units

        units = stated_units([line.decode() if isinstance(line, bytes) else str(line) for line in described[()]])

    def pull(names: Sequence[str]) -> dict[str, Raw]:
        with _opened(file) as again:
            data = again[name][()]
        masks = {key: data[f"{key}.mask"] for key in names if f"{key}.mask" in (data.dtype.names or ())}
        return {key: _raw(data[key], masks.get(key), f"{origin}: column {key!r}") for key in names}

    keys = item.dtype.names
    fields = [Field(key, units.get(key)) for key in keys if key.removesuffix(".mask") == key or key[:-5] not in keys]
    return Table(origin, fields, item.shape[0], pull, part=name)


def _raw(item: Any, mask: Any, where: str) -> Raw:
    import h5py

    attributes = item.attrs if isinstance(item, h5py.Dataset) else {}
    data = np.asarray(item[()] if isinstance(item, h5py.Dataset) else item)
    missing = np.zeros(data.shape, bool) if mask is None else np.asarray(mask[()], bool)
    if h5py.check_string_dtype(item.dtype) is not None or data.dtype.kind in "SO":
        if data.ndim != 1 or not all(isinstance(cell, str | bytes) for cell in data.tolist()):
            raise XpjaxError(f"{where} holds {data.dtype}, expected numbers or text; name another column")
        return text(data.tolist(), missing)
    for key in _FILLS:
        if key in attributes:
            missing |= data == np.ravel(attributes[key])[0]
    scale, offset = (np.ravel(attributes.get(key, d))[0] for key, d in (("scale_factor", 1), ("add_offset", 0)))
    if (scale, offset) != (1, 0):  # as netCDF packs numbers
        data = data * float(scale) + float(offset)
    return plain(data, missing, where)


def _attribute(item: Any, *names: str) -> str | None:
    found = next((item.attrs[name] for name in names if name in item.attrs), None)
    if found is None:
        return None
    found = np.ravel(found)[0] if np.size(found) else ""
    return found.decode() if isinstance(found, bytes) else str(found)
