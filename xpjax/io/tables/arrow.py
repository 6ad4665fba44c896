"""Columns of Arrow, and Parquet files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.streams import File
from xpjax.io.tables.raw import Raw, text, uneven
from xpjax.io.tables.table import Field, Pull, Table


def arrow_raw(column: Any, where: str) -> Raw:
    """A column of Arrow as numbers, text, dates or arrays. Raises XpjaxError for structures."""
    import pyarrow as pa

    kind = pa.types
    column = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if kind.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    missing = column.is_null().to_numpy()
    if kind.is_null(column.type):
        return Raw(np.full(len(column), np.nan), np.ones(len(column), bool))
    if kind.is_string(column.type) or kind.is_large_string(column.type):
        return text(column)
    if kind.is_binary(column.type) or kind.is_large_binary(column.type) or kind.is_fixed_size_binary(column.type):
        return text(column.to_pylist())
    if kind.is_decimal(column.type):
        try:
            column = column.cast(pa.float64() if column.type.scale else pa.int64())
        except pa.ArrowInvalid as error:
            raise XpjaxError(f"{where} holds decimals that do not fit ({error}); write int64 or float64") from None
    if kind.is_float16(column.type):
        column = column.cast(pa.float32())
    if kind.is_integer(column.type):
        return Raw(column.fill_null(0).to_numpy(), missing)
    if kind.is_floating(column.type):
        numbers = column.fill_null(float("nan")).to_numpy()
        return Raw(numbers, missing | np.isnan(numbers))
    if kind.is_boolean(column.type):
        return Raw(column.fill_null(False).to_numpy(), missing)
    if kind.is_timestamp(column.type) or kind.is_date(column.type):
        return Raw(column.cast(pa.timestamp("us")).to_numpy(), missing)
    if kind.is_list(column.type) or kind.is_large_list(column.type) or kind.is_fixed_size_list(column.type):
        return _lists(column, missing, where)
    raise XpjaxError(f"{where} holds {column.type}, expected numbers or text; name another column, or leave it out")


def _lists(column: Any, missing: np.ndarray, where: str) -> Raw:
    import pyarrow as pa
    import pyarrow.compute as pc

    inner = column.type.value_type
    if not (pa.types.is_integer(inner) or pa.types.is_floating(inner)):
        raise XpjaxError(f"{where} holds lists of {inner}, expected numbers; name another column, or leave it out")
    lengths = np.where(missing, 0, pc.fill_null(pc.list_value_length(column), 0).to_numpy()).astype(np.int64)
    parts = []
    for chunk in column.chunks:
        # Null lists of a fixed size have numbers beneath: only valid ones are taken.
        flat = chunk.drop_null().flatten()
        if flat.null_count or pa.types.is_float16(flat.type):
            flat = pc.fill_null(flat.cast(pa.float64()), float("nan"))
        parts.append(flat.to_numpy(zero_copy_only=False))
    return uneven(np.concatenate(parts) if len(parts) != 1 else parts[0], lengths)


def open_parquet(file: File) -> list[Table]:
    """The table of a Parquet file; only the columns that are asked for are read."""
    import pyarrow.parquet

    source, path = file.source(), file.origin
    with pyarrow.parquet.ParquetFile(source) as opened:
        schema, n = opened.schema_arrow, opened.metadata.num_rows

    def pull(names: Sequence[str]) -> dict[str, Raw]:
        with pyarrow.parquet.ParquetFile(source) as opened:
            read = opened.read(columns=list(names))
        out = {}
        for name in names:
            place = read.schema.get_field_index(name)
            if place < 0:  # a column that Arrow takes for a path into another one
                raise XpjaxError(f"{path}: column {name!r} cannot be told from the parts of another one; rename it")
            out[name] = arrow_raw(read.column(place), f"{path}: column {name!r}")
        return out

    return [_of_schema(path, schema, n, pull)]


def memory_arrow(table: Any) -> Table:
    """A pyarrow Table."""

    def pull(names: Sequence[str]) -> dict[str, Raw]:
        return {name: arrow_raw(table.column(name), f"memory: column {name!r}") for name in names}

    return _of_schema("memory", table.schema, table.num_rows, pull)


def _of_schema(origin: str, schema: Any, n: int, pull: Pull) -> Table:
    """A table with the units, descriptions and metadata of a schema: what xpjax, astropy or others wrote into it."""
    units = _stated_units(schema)
    fields = [
        Field(f.name, units.get(f.name), _decoded(f.metadata, b"description"))
        for f in schema
        if not f.name.startswith("__index_level_")
    ]
    notes = json.loads((schema.metadata or {}).get(b"xpjax", b"{}"))
    shared = {name: np.asarray(values) for name, values in notes.get("shared", {}).items()}
    meta, units = notes.get("meta"), notes.get("shared_units")
    return Table(origin, fields, n, pull, header=meta, meta=meta, shared=shared, shared_units=units)


def _decoded(metadata: Any, key: bytes) -> str | None:
    found = (metadata or {}).get(key)
    return None if found is None else found.decode()


def _stated_units(schema: Any) -> dict[str, str]:
    """Units by column: of a field's own metadata, or of the header that astropy writes."""
    out = {f.name: unit for f in schema if (unit := _decoded(f.metadata, b"unit") or _decoded(f.metadata, b"units"))}
    header = (schema.metadata or {}).get(b"table_meta_yaml")
    if header:
        from xpjax.io.tables.ecsv import stated_units

        out = stated_units(header.decode().splitlines()) | out
    return out
