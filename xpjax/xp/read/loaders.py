"""What an input is, and which reader it needs: text, AVRO, another file of a table, or a table in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike

from xpjax.core.archive import MEMBERS
from xpjax.core.errors import XpjaxError
from xpjax.core.release import Release
from xpjax.io.streams import PACKED, File, check_file, members, packing, reading
from xpjax.io.tables import open_file, open_table, split_part
from xpjax.xp.read.formats import load_avro, of_table, pairs_of
from xpjax.xp.read.hats import is_hats, partitions
from xpjax.xp.read.layout import Table, make_table, stated_in
from xpjax.xp.read.nested import archive_layout
from xpjax.xp.read.text import PACKED_RATIO, TextReader
from xpjax.xp.read.transits import in_days, time_units

TEXT = (".csv", ".ecsv")
SUFFIXES = (*TEXT, ".fits", ".fit", ".vot", ".votable", ".xml", ".avro", ".parquet", ".h5", ".hdf5")
"""What can be read, besides what is packed: these with one of `PACKED` after them, and zip files of them."""


def load(
    source: Any,
    xp: Sequence[str],
    dtype: DTypeLike | None = None,
    columns: Mapping[str, str] | None = None,
    release: Release | None = None,
) -> list[Table]:
    """The tables of one input, under archive names. Raises FileNotFoundError and ValueError.

    dtype: what text becomes where it is coefficients, errors or correlations; None is float64. columns: which column is
    what, where names do not say it (`archive_layout`); release: where it is known.
    """
    if isinstance(source, str | os.PathLike):
        if is_hats(source):
            files = [file for files in partitions(source).values() for file in files]
            return [table for file in files for table in load(file, xp, dtype, columns, release)]
        path, part = split_part(source)
        tables = [table for file in files_of(path) for table in _load_file(file, part, xp, dtype, columns, release)]
        kinds = [{*table.columns} for table in tables]
        if any(kind != kinds[0] for kind in kinds):
            others = ", ".join(table.origin for table in tables)
            raise XpjaxError(f"{source}: holds tables of different columns: {others}; unzip it and give one of them")
        return tables
    source = in_days(source)
    if isinstance(source, Mapping) and columns is None:
        named = {str(name): unit for name, column in source.items() if (unit := getattr(column, "unit", None))}
        units = time_units(map(str, source), {name: str(unit) for name, unit in named.items()})
        return [make_table(source.items(), xp, "memory", units=units)]
    table = archive_layout(open_table(source), xp, columns, release)
    units = time_units(table.names, {name: field.unit for name, field in table.fields.items()})
    return [make_table(pairs_of(table, xp), xp, table.origin, stated_in({**table.meta, **table.header}), units)]


def files_of(source: str | os.PathLike[str]) -> list[File]:
    """The file of a path, or the members of a zip file that hold XP coefficients. Raises as `load`."""
    path = Path(os.path.expanduser(source))
    check_file(path)
    if packing(path) != ".zip":
        stem_of(path)
        return [File(path)]
    with reading(path, "zip"):
        inside = members(path)
    known = [name for name in inside if Path(name).suffix.lower() in SUFFIXES]
    # The archive's zip files may have a file of each product.
    known = [name for name in known if Path(name).name.upper().startswith(MEMBERS)] or known
    if not known:
        raise XpjaxError(
            f"{path}: a zip file of {', '.join(inside[:5]) or 'nothing'}; expected files that end in one of "
            f"{', '.join(SUFFIXES)}"
        )
    return [File(path, name) for name in sorted(known)]


def stem_of(path: Path) -> str:
    """The name of a file without the suffixes that tell its format. Raises ValueError for an unknown suffix."""
    name = path.name
    packed = next((suffix for suffix in PACKED if name.lower().endswith(suffix)), "")
    name = name[: len(name) - len(packed)]
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    if not suffix and packed != ".zip":
        raise XpjaxError(
            f"{path}: unknown suffix {path.suffix.lower()!r}; expected one of {', '.join(SUFFIXES)}, or one of these "
            f"and {', '.join(PACKED)}"
        )
    return name[: len(name) - len(suffix)]


def _load_file(
    file: File,
    part: str,
    xp: Sequence[str],
    dtype: DTypeLike | None,
    columns: Mapping[str, str] | None,
    release: Release | None,
) -> list[Table]:
    if file.suffix in TEXT and not part and columns is None:
        with reading(file.path, "text"), file.open(ahead=True) as stream:
            n_byte = file.path.stat().st_size * (PACKED_RATIO if packing(file.path) else 1)
            return [TextReader(stream, file.origin, xp, dtype=dtype).whole(n_byte)]
    if file.suffix == ".avro":
        if columns is not None:
            raise XpjaxError(f"{file.origin}: columns are named for tables, not for AVRO; leave them out")
        with reading(file.path, "AVRO"):
            return load_avro(file, xp)
    return [of_table(table, xp, columns, release) for table in open_file(file, part)]
