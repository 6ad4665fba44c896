"""Tables that `xpjax.io.tables` reads, and AVRO, as columns under the archive's names."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.release import Release
from xpjax.io import tables
from xpjax.io.cells import from_flat
from xpjax.io.streams import File
from xpjax.xp.read.layout import Table, archive_name, check_names, is_array, make_table, stated_in
from xpjax.xp.read.nested import archive_layout
from xpjax.xp.read.transits import time_units, transit_names

Pairs = Iterator[tuple[str, Any]]


def of_table(
    table: tables.Table,
    xp: Sequence[str],
    columns: Mapping[str, str] | None = None,
    release: Release | None = None,
) -> Table:
    """A table under archive names; columns, release: see `archive_layout`.

    Warns where a server cut the table. Raises XpjaxError for a name that is there twice, and as `make_table`.
    """
    table = archive_layout(table, xp, columns, release)
    if table.repeated:
        name = archive_name(min(table.repeated), xp)
        raise XpjaxError(f"{table.origin}: the column {name} is there twice; rename one")
    check_names([archive_name(name, xp) for name in table.names], xp, table.origin)
    for note in table.notes:
        warnings.warn(note, stacklevel=2)
    units = time_units(table.names, {name: field.unit for name, field in table.fields.items()})
    return make_table(pairs_of(table, xp), xp, table.origin, stated_in({**table.meta, **table.header}), units)


def pairs_of(table: tables.Table, xp: Sequence[str]) -> Pairs:
    """Columns by name, as `make_table` takes them; others that the table layer cannot read are left."""
    table.load(table.names)
    for name in table.names:
        try:
            raw = table.raw(name)
        except XpjaxError:
            known = archive_name(name, xp)
            if is_array(known, xp) or known == "source_id" or name in transit_names(table.names)[1]:
                raise
            continue
        if isinstance(raw.values, tables.Ragged):
            yield name, from_flat(raw.values.flat, raw.values.length)
        elif not isinstance(raw.values, np.ndarray):
            yield name, raw.values.to_pylist()
        elif raw.missing.any() and raw.missing.shape == raw.values.shape:
            yield name, np.ma.array(raw.values, mask=raw.missing)
        else:
            yield name, raw.values


_AVRO_NAMES = {
    "parameters": "coefficients",
    "formalErrors": "coefficient_errors",
    "covariance": "coefficient_covariances",
    "basisFunctionSetDefId": "basis_function_id",
    "NRelevantBases": "n_relevant_bases",
    "numberOfParameters": "n_parameters",
    "numberOfMeasurements": "n_measurements",
    "numberOfRejectedMeasurements": "n_rejected_measurements",
}
"""Leaves of the archive's AVRO records whose column names are not the same words in snake case."""


def load_avro(file: File, xp: Sequence[str]) -> list[Table]:
    """Flat records with archive names, or the archive's nested ones."""
    import fastavro

    with file.open() as stream:
        reader = fastavro.reader(stream)
        records: list[Any] = [dict(_avro_leaves(record)) for record in list[Any](reader)]
        # The schema names what no record fills, such as BP in a file of sources without BP.
        names = dict.fromkeys(itertools.chain(_avro_names(reader.writer_schema, {}), *records))
    return [make_table(((n, [record.get(n) for record in records]) for n in names), xp, file.origin)]


def _avro_leaves(record: Mapping[str, Any], prefix: str = "") -> Pairs:
    """Names and values of a record without its nesting."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _avro_leaves(value, _avro_prefix(key, prefix))
        else:
            yield _avro_name(key, prefix), value


def _avro_names(schema: Any, known: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Names of the leaves of a record schema, in order; `known` collects the types that are used again by name."""
    known[schema["name"]] = schema
    for field in schema["fields"]:
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        records = [known.get(kind) if isinstance(kind, str) else kind for kind in kinds]
        record = next((r for r in records if r is not None and r["type"] == "record"), None)
        if record is None:
            yield _avro_name(field["name"], prefix)
        else:
            yield from _avro_names(record, known, _avro_prefix(field["name"], prefix))


def _avro_prefix(key: str, prefix: str) -> str:
    return f"{key.removesuffix('Spec')}_" if key.endswith("Spec") else prefix


def _avro_name(key: str, prefix: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)
    return prefix + _AVRO_NAMES.get(key, key if words == key else words.lower())
