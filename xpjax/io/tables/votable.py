"""VOTables: nulls, units, several tables, results that the server cut."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.streams import File
from xpjax.io.tables.raw import Raw, arrays, plain, text
from xpjax.io.tables.table import Field, Table


def open_votable(file: File) -> list[Table]:
    """The tables of a VOTable that have rows; the first where none has."""
    from astropy.io.votable import parse

    path = file.origin
    with warnings.catch_warnings(), file.open() as stream:
        warnings.simplefilter("ignore")  # archives break small rules of the standard
        votable = parse(stream, verify="ignore", filename=path)
    found = list(votable.iter_tables())
    if not found:
        raise XpjaxError(f"{path} has no table; download it again")
    elements = [element for element in found if len(element.array)] or found[:1]
    header = {str(info.name): info.value for resource in votable.resources for info in resource.infos}
    tables = [
        _table(f"{path}[{element.name or k + 1}]" if len(elements) > 1 else path, element, header, str(k + 1))
        for k, element in enumerate(elements)
    ]
    if str(header.get("QUERY_STATUS", "")).upper() == "OVERFLOW":
        for table in tables:
            table.notes.append(f"{path}: the server cut this result (QUERY_STATUS OVERFLOW): rows are lacking")
    return tables


def _table(origin: str, element: Any, header: dict[str, Any], part: str) -> Table:
    fields = [
        Field(str(f.name or f.ID), None if f.unit is None else str(f.unit), f.description) for f in element.fields
    ]
    keys = [f.ID or f.name for f in element.fields]
    names = [field.name for field in fields]

    def pull(wanted: Sequence[str]) -> dict[str, Raw]:
        return {name: _raw(element.array[keys[names.index(name)]], f"{origin}: column {name!r}") for name in wanted}

    shared = {param.name: np.asarray(param.value) for param in element.params if np.ndim(param.value) == 1}
    own = {param.name: param.value for param in element.params if np.ndim(param.value) == 0}
    meta = {}
    for info in element.infos:
        with contextlib.suppress(json.JSONDecodeError, TypeError):
            meta[info.name] = json.loads(info.value)
    units = {param.name: str(param.unit) for param in element.params if param.unit and param.name in shared}
    header = {**header, **own, **meta}
    return Table(
        origin, fields, len(element.array), pull, header=header, meta=meta, shared=shared, shared_units=units, part=part
    )


def _raw(column: Any, where: str) -> Raw:
    values, mask = np.ma.getdata(column), np.ma.getmaskarray(column)
    if values.dtype == object:
        kinds = {type(cell) for cell in values} - {type(None)}
        if kinds <= {str, bytes}:
            return text(values.tolist(), mask)
        return arrays(
            [np.zeros(0) if cell is None else np.ma.filled(np.ma.asarray(cell, float), np.nan) for cell in values]
        )
    return plain(values, mask, where)
