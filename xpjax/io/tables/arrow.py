"""Columns of Arrow, and Parquet files.

What a structure holds is columns of their own, `STRUCTURE.FIELD`: numbers of structures, and arrays of structures of
lists or of lists of structures, which are two ways to write the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.arrow import from_arrow, nulls
from xpjax.io.streams import File
from xpjax.io.tables.raw import Raw, text, uneven
from xpjax.io.tables.table import Field, Pull, Table


def leaves(fields: Iterable[Any]) -> Iterator[tuple[Any, tuple[str, ...], int]]:
    """The columns that Arrow fields hold, those within structures one by one.

    Each with its path of names, and how many of these lead to what Parquet can read alone.
    """
    import pyarrow as pa

    for field in fields:
        many = is_list(field.type)
        inner = field.type.value_type if many else field.type
        if pa.types.is_struct(inner) and inner.num_fields:
            children = [inner.field(i) for i in range(inner.num_fields)]
            # Of a list of structures each field is a column of arrays.
            below = ((child, (child.name,), 0) for child in children) if many else leaves(children)
            yield from ((child, (field.name, *path), 1 + depth) for child, path, depth in below)
        else:
            yield field, (field.name,), 1


def is_list(kind: Any) -> bool:
    """Whether an Arrow type is of lists."""
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def arrow_raw(column: Any, where: str, path: Sequence[str] = ()) -> Raw:
    """A column of Arrow as numbers, text, dates or arrays; path: of names within structures, see `leaves`.

    Raises XpjaxError for a whole structure.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.types
    column = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if path and kind.is_struct(column.type):
        inner = column.type.field(path[0]).type
        within = pa.chunked_array([pc.struct_field(chunk, [path[0]]) for chunk in column.chunks], inner)
        return arrow_raw(within, where, path[1:])
    if kind.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    missing = nulls(column)
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
        return Raw(_filled(column, missing, 0), missing)
    if kind.is_floating(column.type):
        numbers = _filled(column, missing, np.nan)
        return Raw(numbers, missing | np.isnan(numbers))
    if kind.is_boolean(column.type):
        return Raw(_filled(column, missing, False), missing)
    if kind.is_timestamp(column.type) or kind.is_date(column.type):
        return Raw(column.cast(pa.timestamp("us")).to_numpy(), missing)
    if is_list(column.type):
        return _lists(column, missing, where, path)
    raise XpjaxError(f"{where} holds {column.type}, expected numbers or text; name another column, or leave it out")


def _filled(column: Any, missing: np.ndarray, value: Any) -> np.ndarray:
    """Numbers of a column, as an array of its own, with a value where they are missing."""
    numbers = np.array(from_arrow(column))
    numbers[missing] = value
    return numbers


def _lists(column: Any, missing: np.ndarray, where: str, path: Sequence[str]) -> Raw:
    import pyarrow as pa
    import pyarrow.compute as pc

    inner = column.type.value_type
    inner = inner.field(path[0]).type if path else inner
    if not (pa.types.is_integer(inner) or pa.types.is_floating(inner)):
        raise XpjaxError(f"{where} holds lists of {inner}, expected numbers; name another column, or leave it out")
    lengths = _filled(pc.list_value_length(column), missing, 0).astype(np.int64)
    parts = []
    for chunk in column.chunks:
        # Null lists of a fixed size have numbers beneath: only valid ones are taken.
        flat = chunk.drop_null().flatten()
        flat = pc.struct_field(flat, [path[0]]) if path else flat
        if flat.null_count or pa.types.is_float16(flat.type):
            flat = pc.fill_null(flat.cast(pa.float64()), float("nan"))
        parts.append(from_arrow(flat))
    if not parts:  # a column without rows may have no chunks
        parts = [np.zeros(0, inner.to_pandas_dtype())]
    return uneven(np.concatenate(parts) if len(parts) != 1 else parts[0], lengths)


def open_parquet(file: File) -> list[Table]:
    """The table of a Parquet file; only the columns that are asked for are read."""
    import pyarrow.parquet

    source, origin = file.source(), file.origin
    with pyarrow.parquet.ParquetFile(source) as opened:
        schema, n = opened.schema_arrow, opened.metadata.num_rows

    places = _places(schema)

    def pull(names: Sequence[str]) -> dict[str, Raw]:
        columns = dict.fromkeys(".".join(path[:depth]) for path, depth in (places[name] for name in names))
        with pyarrow.parquet.ParquetFile(source) as opened:
            read = opened.read(columns=list(columns))
        out = {}
        for name in names:
            first, *path = places[name][0]
            place = read.schema.get_field_index(first)
            if place < 0:  # a column that Arrow takes for a path into another one
                raise XpjaxError(f"{origin}: column {name!r} cannot be told from the parts of another one; rename it")
            out[name] = arrow_raw(read.column(place), f"{origin}: column {name!r}", path)
        return out

    return [_of_schema(origin, schema, n, pull)]


def _places(schema: Any) -> dict[str, tuple[tuple[str, ...], int]]:
    """The path and depth of each column by its name (`leaves`); what lies in a structure hides no other column."""
    found = sorted(leaves(schema), key=lambda leaf: -len(leaf[1]))
    return {".".join(path): (path, depth) for _, path, depth in found}


def memory_arrow(table: Any) -> Table:
    """A pyarrow Table."""
    places = _places(table.schema)

    def pull(names: Sequence[str]) -> dict[str, Raw]:
        out = {}
        for name in names:
            first, *path = places[name][0]
            out[name] = arrow_raw(table.column(first), f"memory: column {name!r}", path)
        return out

    return _of_schema("memory", table.schema, table.num_rows, pull)


def _of_schema(origin: str, schema: Any, n: int, pull: Pull) -> Table:
    """A table with the units, descriptions and metadata of a schema: what xpjax, astropy or others wrote into it."""
    units = _stated_units(schema)
    fields = [
        Field(".".join(path), units.get(".".join(path)), _decoded(field.metadata, b"description"))
        for field, path, _ in leaves(schema)
        if not path[0].startswith("__index_level_")
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
    stated = ((path, _decoded(f.metadata, b"unit") or _decoded(f.metadata, b"units")) for f, path, _ in leaves(schema))
    out = {".".join(path): unit for path, unit in stated if unit}
    header = (schema.metadata or {}).get(b"table_meta_yaml")
    if header:
        from xpjax.io.tables.ecsv import stated_units

        out = stated_units(header.decode().splitlines()) | out
    return out
