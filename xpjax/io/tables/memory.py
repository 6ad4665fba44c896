"""Tables in memory: pandas, astropy, Arrow, structured arrays, records of xpjax, dicts of columns."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.io.tables.arrow import arrow_raw, leaves, memory_arrow
from xpjax.io.tables.fits import from_records
from xpjax.io.tables.raw import Raw, plain
from xpjax.io.tables.table import Field, Table
from xpjax.io.words import is_missing

KNOWN = "a path, a pandas DataFrame, an astropy or pyarrow Table, a structured NumPy array or a dict of columns"


def from_memory(source: Any) -> Table:
    """A table of what is in memory. Raises XpjaxError for what is none."""
    if not isinstance(source, Catalogue) and hasattr(source, "catalogue"):  # a result of xpjax
        source = source.catalogue()
    pandas, arrow, astropy = (sys.modules.get(name) for name in ("pandas", "pyarrow", "astropy.table"))
    if isinstance(source, Catalogue):
        columns = source.columns
        fields = [Field(name, source.units.get(name), source.descriptions.get(name)) for name in columns]
        units = {name: unit for name, unit in source.units.items() if name in source.shared}
        told = {"header": source.meta, "meta": source.meta, "shared": source.shared, "shared_units": units}
        return _table(fields, columns.__getitem__, len(source), **told)
    if isinstance(source, Mapping):
        columns = {str(name): column for name, column in source.items()}
        sizes = {name: _length(column, name) for name, column in columns.items()}
        if len({*sizes.values()}) > 1:
            raise XpjaxError(f"the columns of a table have different lengths: {sizes}")
        fields = [Field(name, _unit(column)) for name, column in columns.items()]
        return _table(fields, columns.__getitem__, next(iter(sizes.values()), 0))
    if pandas is not None and isinstance(source, pandas.DataFrame):
        if any(source.index.names) and not {*source.index.names} & {*source.columns}:
            source = source.reset_index()
        units, places = source.attrs.get("units", {}), _pandas_columns(source)
        shared = {name: np.asarray(values) for name, values in source.attrs.get("shared", {}).items()}
        told = {"shared": shared, "shared_units": {name: units[name] for name in shared if name in units}}
        fields = [Field(name, units.get(name)) for name, _, _ in places]
        found = {name: (place, path) for name, place, path in reversed(places)}

        def column(name: str) -> Any:
            place, path = found[name]
            series = source.iloc[:, place]
            return arrow_raw(_structures(series), f"memory: column {name!r}", path) if path else series

        return _table(fields, column, len(source), **told)
    if arrow is not None and isinstance(source, arrow.Table):
        return memory_arrow(source)
    if astropy is not None and isinstance(source, astropy.Table):
        fields = [Field(name, _unit(source[name]), getattr(source[name].info, "description", None)) for name in
                  source.colnames]  # fmt: skip
        meta = {str(key): value for key, value in source.meta.items()}
        named = meta.pop("shared", ())  # as the ECSV files of xpjax have them
        shared = {name: np.asarray(v) for name, v in meta.items() if isinstance(v, np.ndarray) or name in named}
        meta = {name: value for name, value in meta.items() if name not in shared and _is_plain(value)}
        header = {name: value for name, value in meta.items() if np.ndim(value) == 0}
        return _table(fields, source.__getitem__, len(source), header=header, meta=meta, shared=shared)
    fits = sys.modules.get("astropy.io.fits")
    if fits is not None and isinstance(source, fits.FITS_rec):
        return from_records(source)
    if isinstance(source, np.ndarray) and source.dtype.names and source.ndim == 1:
        return _table([Field(name) for name in source.dtype.names], source.__getitem__, len(source))
    raise XpjaxError(f"can't read a table from {type(source).__name__}; expected {KNOWN}")


def _pandas_columns(frame: Any) -> list[tuple[str, int, tuple[str, ...]]]:
    """The columns of a data frame by name, with their place; those within structures with the path there too."""
    out: list[tuple[str, int, tuple[str, ...]]] = []
    for place, name in enumerate(map(str, frame.columns)):
        kind = getattr(frame.dtypes.iloc[place], "pyarrow_dtype", None)  # of Arrow's columns, and of nested ones
        if kind is None:
            out.append((name, place, ()))
        else:
            import pyarrow as pa

            out += [(".".join(path), place, path[1:]) for _, path, _ in leaves([pa.field(name, kind)])]
    return out


def _structures(series: Any) -> Any:
    """A column of a data frame that holds structures, as Arrow has it; nested-pandas keeps them as lists, or not."""
    import pyarrow as pa

    found = getattr(series.array, "struct_array", None)
    return pa.array(series.array) if found is None else found


def _is_plain(value: Any) -> bool:
    """Whether metadata are text, a number, or a list of these."""
    cells = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(cell, str | bool | int | float | np.generic) for cell in cells)


def _length(column: Any, name: str) -> int:
    """The number of rows of a column. Raises XpjaxError for a single value."""
    if not isinstance(column, str | bytes):
        with contextlib.suppress(TypeError):
            return len(column)
    raise XpjaxError(f"memory: column {name!r} is one value, expected one for each row: give a list")


def _unit(column: Any) -> str | None:
    unit = getattr(column, "unit", None)
    return None if unit is None else str(unit)


def _table(fields: Iterable[Field], get: Callable[[str], Any], n: int, **told: Any) -> Table:
    def pull(names: Sequence[str]) -> dict[str, Raw]:
        columns = {name: get(name) for name in names}
        return {n: c if isinstance(c, Raw) else raw(c, f"memory: column {n!r}") for n, c in columns.items()}

    return Table("memory", fields, n, pull, **told)


def raw(column: Any, where: str) -> Raw:
    """A column of any kind. Raises XpjaxError for objects that are no numbers, text or dates."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(column, pandas.Series):
        if not isinstance(column.dtype, np.dtype) or column.dtype == object:
            return _objects(column, where)
        column = column.to_numpy()
    if hasattr(column, "mjd"):
        column = np.ma.masked_array(np.asarray(getattr(column.mjd, "unmasked", column.mjd)), np.array(column.mask))
    if hasattr(column, "unit") and hasattr(column, "value"):
        column = np.ma.asarray(column.value) if hasattr(column.value, "mask") else column.value
    arrow = sys.modules.get("pyarrow")
    if arrow is not None and isinstance(column, arrow.Array | arrow.ChunkedArray):
        return arrow_raw(column, where)
    array = np.zeros(0, object) if isinstance(column, list | tuple) else np.ma.asanyarray(column)
    if array.dtype == object:
        return _objects(column, where)
    values, missing = np.asarray(np.ma.getdata(array)), np.ma.getmaskarray(array).copy()
    if values.dtype.kind == "M":
        return Raw(values, missing | np.isnat(values))
    return plain(values, missing, where)


def _objects(column: Any, where: str) -> Raw:
    """Objects of Python as Arrow understands them: integers with None stay integers."""
    import pyarrow as pa

    mask = np.ma.getmaskarray(column) if np.ma.isMaskedArray(column) else None
    cells = np.ma.getdata(column) if mask is not None else column
    try:
        found = pa.array(cells, from_pandas=True, mask=mask)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError, TypeError):
        items = list(cells)
        if any(isinstance(cell, list | tuple | dict | np.ndarray) and not is_missing(cell) for cell in items):
            raise XpjaxError(f"{where} holds objects such as {type(items[0]).__name__}; name another column") from None
        blank = [is_missing(cell) or (mask is not None and mask[i]) for i, cell in enumerate(items)]
        found = pa.array([None if gone else str(cell) for cell, gone in zip(items, blank, strict=True)], pa.string())
    return arrow_raw(found, where)
