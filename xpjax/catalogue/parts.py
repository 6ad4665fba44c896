"""Parts of a catalogue: the rows of a unit as a file of the format that was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from xpjax.catalogue import hats
from xpjax.core.records import Catalogue
from xpjax.io.arrow import to_arrow
from xpjax.io.catalogue import concatenate, write_as

if TYPE_CHECKING:
    import pyarrow

UNPLACED = "unplaced"
"""Entry of a manifest: how many rows of a HATS catalogue have no position of their own."""

WHOLE = ("source_id", "transit_id", hats.INDEX)
"""Integers of 64 bits that are never missing, or 0 where they are."""


def _table(part: Catalogue) -> pyarrow.Table:
    """A catalogue as an Arrow table, nulls among integers alone; units and metadata are as `read_catalogue` expects."""
    import pyarrow as pa

    def field(name: str, kind: pyarrow.DataType) -> pyarrow.Field:
        notes = {"unit": part.units.get(name), "description": part.descriptions.get(name)}
        # Later rows may have gaps where the first ones have none.
        gaps = kind in (pa.int64(), pa.uint64()) and name not in WHOLE
        return pa.field(name, kind, nullable=gaps, metadata={key: text for key, text in notes.items() if text})

    arrays = [to_arrow(column) for column in part.columns.values()]
    fields = [field(name, array.type) for name, array in zip(part.columns, arrays, strict=True)]
    notes = json.dumps({"meta": dict(part.meta)}).encode()
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={b"xpjax": notes}))


Writer = Callable[[Path, Iterable[Catalogue]], dict[str, int]]
"""Writes the part of a unit; what its manifest says of the rows."""


def _write_parquet(path: Path, parts: Iterable[Catalogue]) -> dict[str, int]:
    """Row groups as they come."""
    return {"rows": hats.write_parquet(path, (_table(part) for part in parts))}


def _write_whole(kind: str) -> Writer:
    def write(path: Path, parts: Iterable[Catalogue]) -> dict[str, int]:
        whole = concatenate(list(parts))
        write_as(kind, path, whole)
        return {"rows": len(whole)}

    return write


def _write_partial(path: Path, parts: Iterable[Catalogue]) -> dict[str, int]:
    """The rows of a unit by position, for `hats.assemble`."""
    whole = hats.positioned(concatenate(list(parts)))
    hats.write_partial(path, _table(whole))
    return {"rows": len(whole), UNPLACED: int(whole.columns[hats.GUESSED].sum())}


WRITERS: dict[str, Writer] = {
    "parquet": _write_parquet,
    "hats": _write_partial,
    "fits": _write_whole(".fits"),
    "hdf5": _write_whole(".h5"),
}
