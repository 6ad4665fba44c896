"""Files of XP coefficients as tables of named columns: FITS, VOTable, Parquet, HDF5 and AVRO; text is `text.py`'s."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from xpjax.errors import XpjaxError
from xpjax.io.cells import from_flat
from xpjax.io.layout import Table, archive_name, check_names, is_array, make_table
from xpjax.io.streams import open_bytes, packing, plain_suffix

Pairs = Iterator[tuple[str, Any]]


@dataclasses.dataclass(frozen=True)
class File:
    """A file, or a member of a zip file."""

    path: Path
    member: str = ""

    @property
    def origin(self) -> str:
        """What messages call it."""
        return f"{self.path}[{self.member}]" if self.member else str(self.path)

    @property
    def suffix(self) -> str:
        """What tells its format."""
        return Path(self.member).suffix.lower() if self.member else plain_suffix(self.path)

    def open(self) -> IO[bytes]:
        """Its unpacked bytes."""
        return open_bytes(self.path, self.member)

    def source(self) -> Any:
        """The path of a plain file, or the unpacked bytes in memory: what libraries take."""
        if not packing(self.path):
            return self.path
        with self.open() as stream:
            return io.BytesIO(stream.read())


def load_fits(file: File, xp: Sequence[str]) -> list[Table]:
    """All tables of a FITS file, which must be alike."""
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with fits.open(file.source(), memmap=False) as hdus:
            found = [
                (hdu.name or f"table {k}", hdu.header, [*from_fits(hdu.data)] if hdu.data is not None else [])
                for k, hdu in enumerate(hdus)
                if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)
            ]
    for warning in caught:
        if issubclass(warning.category, AstropyWarning) and "truncated" in str(warning.message):
            raise XpjaxError(f"{file.origin}: the file is truncated; download it again")
    for _, head, pairs in found:  # astropy renames none, and gives the first column for either
        names = [str(head.get(f"TTYPE{k + 1}", "")).strip().lower() for k in range(len(pairs))]
        refuse_twice(names, file.origin)
    return _alike([(name, pairs) for name, _, pairs in found], xp, file.origin, "astropy.table.Table.read(path, hdu=1)")


def from_fits(records: Any) -> Pairs:
    """Columns of FITS records by name, masked where they hold the null value of the header (TNULL)."""
    stored = records.view(np.ndarray)
    for place, column in enumerate(records.columns):
        raw, cells = stored[stored.dtype.names[place]], records.field(place)
        if column.null is not None and raw.dtype.kind in "iu" and cells.dtype != object:
            # The null is a value as it is stored, before TSCAL and TZERO.
            cells = np.ma.array(cells, mask=raw == column.null)
        yield column.name, cells


def load_votable(file: File, xp: Sequence[str]) -> list[Table]:
    """All tables of a VOTable, which must be alike. Warns where the server cut them."""
    from astropy.io.votable import parse

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # archive VOTables break small rules of the standard
        votable = parse(file.source(), verify="ignore")
        found = []
        for k, table in enumerate(votable.iter_tables()):
            refuse_twice([str(field.name).strip() for field in table.fields], file.origin)
            if table.fields:
                pairs = list(from_astropy(table.to_table(use_names_over_ids=True)))
                found.append((table.name or table.ID or f"table {k + 1}", pairs))
    if any(_is_overflow(part) for part in (votable, *votable.resources, *votable.iter_tables())):
        warnings.warn(
            f"{file.origin}: the server cut this result (QUERY_STATUS OVERFLOW): rows are missing; ask for fewer "
            f"sources at once, or raise the limit (MAXREC)",
            stacklevel=2,
        )
    return _alike(found, xp, file.origin, "astropy.table.Table.read(path, table_id=0)")


def _is_overflow(element: Any) -> bool:
    infos = [*element.infos, *(info for inner in getattr(element, "resources", ()) for info in inner.infos)]
    return any(str(i.name).upper() == "QUERY_STATUS" and str(i.value).upper() == "OVERFLOW" for i in infos)


def from_astropy(table: Any) -> Pairs:
    """Columns of an astropy Table by name."""
    for name in table.colnames:
        column = table[name]
        yield name, getattr(column, "value", column)


def _alike(found: Sequence[tuple[str, list[Any]]], xp: Sequence[str], origin: str, how: str) -> list[Table]:
    """The tables of a file; those without columns are left. Raises ValueError unless all have the same columns."""
    found = [(name, pairs) for name, pairs in found if pairs] or [*found[:1]]
    if not found:
        raise XpjaxError(f"{origin}: holds no table; download it again")
    if len(found) == 1:
        return [make_table(found[0][1], xp, origin)]
    kinds = [{archive_name(column, xp) for column, _ in pairs} for _, pairs in found]
    if any(kind != kinds[0] for kind in kinds):
        listed = "; ".join(
            f"{name} (columns {', '.join(column for column, _ in pairs[:4])}{', ...' if len(pairs) > 4 else ''})"
            for name, pairs in found
        )
        raise XpjaxError(
            f"{origin}: holds {len(found)} tables of different columns: {listed}; expected one, or tables of the same "
            f"columns; give the one that is meant as a table in memory, such as {how}, or write it to a file"
        )
    return [make_table(pairs, xp, f"{origin}, table {k}") for k, (_, pairs) in enumerate(found, 1)]


def refuse_twice(names: Sequence[str], origin: str) -> None:
    """Raises ValueError where a name is there twice."""
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise XpjaxError(f"{origin}: the column {twice[0]} is there twice; rename one")


def load_parquet(file: File, xp: Sequence[str]) -> list[Table]:
    """The table of a Parquet file."""
    import pyarrow.parquet

    return [make_table(from_arrow(pyarrow.parquet.read_table(file.source())), xp, file.origin)]


def from_arrow(table: Any) -> Pairs:
    """Columns of an Arrow table by name."""
    import pyarrow

    kind = pyarrow.types
    for name, column in zip(table.column_names, table.columns, strict=True):
        if re.fullmatch(r"__index_level_\d+__", name):  # pandas wrote its row numbers
            continue
        if kind.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        is_list = kind.is_list(column.type) or kind.is_large_list(column.type) or kind.is_fixed_size_list(column.type)
        if is_list and (kind.is_floating(column.type.value_type) or kind.is_integer(column.type.value_type)):
            parts = [_arrow_vectors(chunk) for chunk in column.chunks] or [(np.zeros(0), np.zeros(0, np.int64))]
            flat, length = (p[0] if len(p) == 1 else np.concatenate(p) for p in zip(*parts, strict=True))
            yield name, from_flat(flat, length)
        elif kind.is_integer(column.type) or kind.is_floating(column.type):
            mask = column.is_null().to_numpy()
            numbers = column.fill_null(0).to_numpy()
            yield name, np.ma.array(numbers, mask=mask) if mask.any() else numbers
        else:
            yield name, column.to_pylist()


def _arrow_vectors(chunk: Any) -> tuple[np.ndarray, np.ndarray]:
    """A chunk of lists of numbers, end to end, and their lengths: null lists have none, null numbers are NaN."""
    import pyarrow
    import pyarrow.compute

    length = pyarrow.compute.fill_null(pyarrow.compute.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
    numbers = chunk.flatten()
    if numbers.type != pyarrow.float32():
        numbers = numbers.cast(pyarrow.float64())
    return numbers.to_numpy(zero_copy_only=False), length.astype(np.int64)


def load_hdf5(file: File, xp: Sequence[str]) -> list[Table]:
    """Root datasets with one row a source; other datasets and groups are left."""
    import h5py

    from xpjax.hdf5 import open_hdf5

    source = file.source()
    with open_hdf5(source) if isinstance(source, Path) else h5py.File(source) as root:
        release = root.attrs.get("release")
        release = release.decode() if isinstance(release, bytes) else release
        shapes = {name: item.shape for name, item in root.items() if isinstance(item, h5py.Dataset) and item.shape}
        check_names([archive_name(name, xp) for name in shapes], xp, file.origin)
        n = next((shape[0] for name, shape in shapes.items() if name.lower() == "source_id"), None)
        pairs = []
        for name, shape in shapes.items():
            known = archive_name(name, xp)
            if shape[0] == n or known == "source_id" or is_array(known, xp):
                text = h5py.check_string_dtype(root[name].dtype)
                pairs.append((name, root[name].asstr()[()] if text else root[name][()]))
    return [make_table(pairs, xp, file.origin, None if release is None else str(release))]


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
