"""Whole tables as a `Catalogue`, and sets of observation catalogues by their exposures."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from xpjax.io.tables import Table, open_table, split_part
from xpjax.records import Catalogue


def read_catalogue(source: str | os.PathLike[str] | Any) -> Catalogue:
    """All columns of a table, with units, descriptions, arrays stored once and metadata, as `write` wrote them.

    source: as for `open_table`. Missing numbers are NaN, missing text is empty; see `Column.plain`. CSV has no units,
    descriptions or metadata, and its floats come as float64. Raises XpjaxError for columns that no catalogue holds.
    """
    table = open_table(source)
    table.load(table.names)
    columns = {name: _plain(table, name) for name in table.names}
    units = {name: field.unit for name, field in table.fields.items() if field.unit} | table.shared_units
    told = {name: field.description for name, field in table.fields.items() if field.description}
    shared = dict(table.shared)
    if isinstance(source, str | os.PathLike) and "wavelength" not in columns:
        shared |= _beside(source)
    return Catalogue(columns, units, told, shared, table.meta)


def _plain(table: Table, name: str) -> np.ndarray:
    column = table.column(name)
    if not column.is_text and column.values.ndim > 1:
        values = column.values
        if column.missing.any() and values.dtype.kind in "iub":
            values = values.astype(np.float64)
        return np.where(column.missing, np.nan, values) if column.missing.any() else values
    return column.plain()


def _beside(source: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The wavelengths that lie beside a CSV file, which holds no arrays for all rows: NAME_wavelength.csv."""
    path, _ = split_part(source)
    suffix = next((suffix for suffix in (".csv.gz", ".csv") if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        return {}
    sidecar = path.with_name(f"{path.name[: -len(suffix)]}_wavelength.csv")
    return {"wavelength": open_table(sidecar).column("wavelength").numbers()} if sidecar.is_file() else {}
