"""Any input as named columns: a loader for each format of the Gaia archive, and for tables in memory."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import itertools
import os
import re
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from xpjax.errors import XpjaxError
from xpjax.io import _cells
from xpjax.io._cells import Column, Text, Vectors

ARRAYS = ("coefficients", "coefficient_errors", "coefficient_correlations", "coefficient_covariances")
ARRAY_FIELDS = (*ARRAYS, "covariance_matrix")


@dataclasses.dataclass(frozen=True)
class Table:
    """An input as columns of equal length n; `release` is the name of the release where the input states one."""

    columns: Mapping[str, Column]
    n: int
    origin: str
    release: str | None = None


def load(source: Any, xp: Sequence[str]) -> Table:
    """The columns of one input, under archive names. Raises FileNotFoundError and ValueError."""
    if isinstance(source, str | os.PathLike):
        return _load_file(Path(os.path.expanduser(source)), xp)
    pandas, arrow, astropy = (sys.modules.get(name) for name in ("pandas", "pyarrow", "astropy.table"))
    if isinstance(source, Mapping):
        pairs: Iterable[tuple[str, Any]] = source.items()
    elif pandas is not None and isinstance(source, pandas.DataFrame):
        pairs = _from_pandas(source)
    elif arrow is not None and isinstance(source, arrow.Table):
        pairs = _from_arrow(source)
    elif astropy is not None and isinstance(source, astropy.Table):
        pairs = _from_astropy(source)
    elif isinstance(source, np.ndarray) and source.dtype.names and source.ndim == 1:
        pairs = _from_structured(source)
    else:
        raise XpjaxError(
            f"can't read from {type(source).__name__}; expected a path, a pandas DataFrame, an astropy or pyarrow "
            f"Table, a structured NumPy array, a dict of columns, a SourceTable, or a list of these"
        )
    return _table(pairs, xp, "memory")


def _load_file(path: Path, xp: Sequence[str]) -> Table:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise XpjaxError(f"{path}: is a directory; pass the files in it, as a list")
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    suffix = "".join(suffixes) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])
    loader = SUFFIXES.get(suffix)
    if loader is None:
        raise XpjaxError(f"{path}: unknown suffix {suffix!r}; expected one of {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise XpjaxError(f"{path}: the file is empty; download it again")
    if suffix.endswith(".gz"):
        _check_gzip(path)
    return loader(path, xp)


def _check_gzip(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            raise XpjaxError(f"{path}: not a gzip file; download it again, or drop .gz from its name if it is plain")


def _table(pairs: Iterable[tuple[str, Any]], xp: Sequence[str], origin: str, release: str | None = None) -> Table:
    """Columns under archive names, checked: present, unique and of one length. Raises ValueError."""
    columns: dict[str, Column] = {}
    for raw_name, raw in pairs:
        name = _archive_name(str(raw_name), xp)
        if name in columns:
            raise XpjaxError(f"{origin}: the column {name} is there twice; rename one")
        try:
            columns[name] = _cells.as_vectors(raw) if _is_array(name, xp) else _cells.as_scalars(raw)
        except (TypeError, ValueError) as error:
            raise XpjaxError(f"{origin}: column {name}: {error}") from error
    _check_names(list(columns), xp, origin)
    n = len(columns["source_id"])
    for name, column in columns.items():
        if len(column) != n:
            raise XpjaxError(f"{origin}: column {name} has {len(column)} rows, expected {n} as source_id has")
    return Table(columns, n, origin, release)


def _check_names(names: Sequence[str], xp: Sequence[str], origin: str) -> None:
    """Raises ValueError unless the columns that every input needs are there."""
    needed = ["source_id", *(f"{band}_coefficients" for band in xp)]
    absent = [name for name in needed if name not in names]
    if absent:
        raise _InputError(
            f"{origin}: wrong columns: no {', '.join(absent)}; {listed(names)}; expected the archive's XP_CONTINUOUS "
            f"columns (an XP without data needs its column too, with empty cells)"
        )


def listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"found {', '.join(name[:40] for name in names[:20]) or 'none'}{more}"


def _archive_name(name: str, xp: Sequence[str]) -> str:
    """Archive columns in lower case, as some tools write SOURCE_ID; other names as they are, less spaces around."""
    name, lower = name.strip(), name.strip().lower()
    return lower if lower in ("source_id", "solution_id") or lower.startswith(tuple(f"{x}_" for x in xp)) else name


def _is_array(name: str, xp: Sequence[str]) -> bool:
    return name in {f"{band}_{field}" for band in xp for field in ARRAY_FIELDS}


def _from_pandas(frame: Any) -> Iterator[tuple[str, Any]]:
    if "source_id" not in [str(name).lower() for name in frame.columns] and any(frame.index.names):
        frame = frame.reset_index()
    for i, name in enumerate(frame.columns):
        series = frame.iloc[:, i]
        plain = isinstance(series.dtype, np.dtype) and series.dtype != object
        yield str(name), series.to_numpy() if plain else series.to_numpy(object, na_value=None)


def _from_astropy(table: Any) -> Iterator[tuple[str, Any]]:
    for name in table.colnames:
        column = table[name]
        yield name, getattr(column, "value", column)


def _from_structured(array: np.ndarray) -> Iterator[tuple[str, Any]]:
    fits = sys.modules.get("astropy.io.fits")
    if fits is not None and isinstance(array, fits.FITS_rec):
        from astropy.table import Table

        # astropy knows which integers stand for missing ones.
        yield from _from_astropy(Table.read(fits.BinTableHDU(array), mask_invalid=False))
        return
    for name in array.dtype.names or ():
        yield name, array[name]


def _from_arrow(table: Any) -> Iterator[tuple[str, Any]]:
    import pyarrow
    import pyarrow.compute

    kind = pyarrow.types
    for name, column in zip(table.column_names, table.columns, strict=True):
        if re.fullmatch(r"__index_level_\d+__", name):  # pandas wrote its row numbers
            continue
        if kind.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        is_list = kind.is_list(column.type) or kind.is_large_list(column.type) or kind.is_fixed_size_list(column.type)
        if is_list and (kind.is_floating(column.type.value_type) or kind.is_integer(column.type.value_type)):
            yield name, _cells.join([_arrow_vectors(chunk) for chunk in column.chunks])
        elif kind.is_integer(column.type) or kind.is_floating(column.type):
            mask = column.is_null().to_numpy()
            numbers = column.fill_null(0).to_numpy()
            yield name, np.ma.array(numbers, mask=mask) if mask.any() else numbers
        else:
            yield name, column.to_pylist()


def _arrow_vectors(chunk: Any) -> Vectors:
    """A chunk of lists of numbers; null lists are missing, null numbers NaN."""
    import pyarrow
    import pyarrow.compute

    length = pyarrow.compute.fill_null(pyarrow.compute.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
    numbers = chunk.flatten()
    if numbers.type != pyarrow.float32():
        numbers = numbers.cast(pyarrow.float64())
    return Vectors(numbers.to_numpy(zero_copy_only=False), length.astype(np.int64))


class _InputError(ValueError):
    """A ValueError whose message is complete."""


@contextmanager
def _as_value_error(path: Path, kind: str) -> Iterator[None]:
    """Damaged files raise nearly anything from the libraries that read them: say which file, and what to do."""
    try:
        yield
    except (_InputError, MemoryError):
        raise
    except EOFError as error:
        raise XpjaxError(f"{path}: the file is {_damage(path)}; download it again ({error})") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise XpjaxError(f"{path}: the file is corrupt; download it again ({error})") from error
    except Exception as error:
        detail = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise XpjaxError(
            f"{path}: can't be read as {kind}; download it again, or mend its suffix ({detail})"
        ) from error


def _damage(path: Path) -> str:
    """What is wrong with a file that ends too early: corrupt, where a whole gzip stream has something after it."""
    stream = zlib.decompressobj(31)
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return "truncated"
        file.seek(0)
        try:
            while not stream.eof and (block := file.read(1 << 16)):
                stream.decompress(block)
        except zlib.error:
            return "corrupt"
    return "corrupt" if stream.eof else "truncated"


def _load_fits(path: Path, xp: Sequence[str]) -> Table:
    from astropy.table import Table
    from astropy.utils.exceptions import AstropyWarning

    with _as_value_error(path, "FITS"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = Table.read(path, format="fits", mask_invalid=False, memmap=False)
        pairs = list(_from_astropy(table))
    for warning in caught:
        if issubclass(warning.category, AstropyWarning) and "truncated" in str(warning.message):
            raise XpjaxError(f"{path}: the file is truncated; download it again")
    return _table(pairs, xp, str(path))


def _load_votable(path: Path, xp: Sequence[str]) -> Table:
    from astropy.io.votable import parse

    with _as_value_error(path, "VOTable"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # archive VOTables break small rules of the standard
        table = parse(path, verify="ignore").get_first_table().to_table(use_names_over_ids=True)
        pairs = list(_from_astropy(table))
    return _table(pairs, xp, str(path))


def _load_parquet(path: Path, xp: Sequence[str]) -> Table:
    with _as_value_error(path, "parquet"):
        import pyarrow.parquet

        pairs = list(_from_arrow(pyarrow.parquet.read_table(path)))
    return _table(pairs, xp, str(path))


def _load_hdf5(path: Path, xp: Sequence[str]) -> Table:
    """Root datasets with one row a source; other datasets and groups are left."""
    import h5py

    with _as_value_error(path, "HDF5"), h5py.File(path) as file:
        release = file.attrs.get("release")
        release = release.decode() if isinstance(release, bytes) else release
        shapes = {name: item.shape for name, item in file.items() if isinstance(item, h5py.Dataset) and item.shape}
        _check_names([_archive_name(name, xp) for name in shapes], xp, str(path))
        n = next((shape[0] for name, shape in shapes.items() if name.lower() == "source_id"), None)
        pairs = []
        for name, shape in shapes.items():
            known = _archive_name(name, xp)
            if shape[0] == n or known == "source_id" or _is_array(known, xp):
                text = h5py.check_string_dtype(file[name].dtype)
                pairs.append((name, file[name].asstr()[()] if text else file[name][()]))
    return _table(pairs, xp, str(path), None if release is None else str(release))


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


def _load_avro(path: Path, xp: Sequence[str]) -> Table:
    """Flat records with archive names, or the archive's nested ones."""
    with _as_value_error(path, "AVRO"):
        import fastavro

        with path.open("rb") as stream:
            reader = fastavro.reader(stream)
            records: list[Any] = list(reader)
            records = [dict(_avro_leaves(record)) for record in records]
            # The schema names what no record fills, such as BP in a file of sources without BP.
            names = dict.fromkeys(itertools.chain(_avro_names(reader.writer_schema, {}), *records))
    return _table(((name, [record.get(name) for record in records]) for name in names), xp, str(path))


def _avro_leaves(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
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


def _load_text(path: Path, xp: Sequence[str]) -> Table:
    """CSV and ECSV, plain or gzipped: array cells are parsed in batches, so that memory never holds all the text."""
    with _as_value_error(path, "text"):
        with _open_text(path) as stream:
            names, delimiter = _text_header(stream, path)
            _check_names([_archive_name(name, xp) for name in names], xp, str(path))
            columns = _text_columns(_fast_batches(stream, names, delimiter), names, xp)
        if columns is None:
            with _open_text(path) as stream:
                _text_header(stream, path)
                columns = _text_columns(_careful_batches(stream, names, delimiter, path), names, xp)
    return _table(zip(names, columns or (), strict=True), xp, str(path))


def _open_text(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    if not zipped:
        return path.open("rb")
    from isal import igzip

    return igzip.open(path, "rb")


def _text_header(stream: IO[bytes], path: Path) -> tuple[list[str], str]:
    """Column names and delimiter; the stream then stands at the first row. Raises ValueError."""
    delimiter = ","
    for line in iter(stream.readline, b""):
        text = line.decode("utf-8-sig").strip()
        if text.startswith("# %ECSV"):
            delimiter = " "  # the standard's default
        elif match := re.match(r"#\s*delimiter:\s*['\"]?(\\t|.)", text):
            delimiter = match[1].replace("\\t", "\t")
        elif text and not text.startswith("#"):
            return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True)), delimiter
    raise _InputError(f"{path}: the file is empty; expected a line of column names; download it again")


def _text_columns(
    batches: Iterable[Sequence[list[str]] | None], names: Sequence[str], xp: Sequence[str]
) -> list[Vectors | Text] | None:
    """Columns from batches of text; None where a batch could not be made."""
    arrays = [_is_array(_archive_name(name, xp), xp) for name in names]
    vectors: list[list[Vectors]] = [[] for _ in names]
    texts = [Text() for _ in names]
    for batch in batches:
        if batch is None:
            return None
        for i, cells in enumerate(batch):
            if arrays[i]:
                vectors[i].append(_cells.from_texts(cells))
            else:
                texts[i].extend(cells)
    return [_cells.join(vectors[i]) if arrays[i] else texts[i] for i in range(len(names))]


def _fast_batches(stream: IO[bytes], names: Sequence[str], delimiter: str) -> Iterator[Sequence[list[str]] | None]:
    """Rows as Arrow reads them, many at a time; None where anything is odd, for the careful reader to say what."""
    import pyarrow
    import pyarrow.csv

    numbered = [str(i) for i in range(len(names))]  # Arrow wants unique names
    try:
        reader = pyarrow.csv.open_csv(
            pyarrow.PythonFile(stream, "r"),
            pyarrow.csv.ReadOptions(column_names=numbered, use_threads=False, block_size=1 << 24),
            pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(numbered, pyarrow.string()), strings_can_be_null=False
            ),
        )
        for batch in reader:
            # A quote that is not closed swallows the lines that follow it.
            if any(b"\n" in bytes(column.buffers()[2] or b"") for column in batch.columns):
                yield None
            yield [column.to_pylist() for column in batch.columns]
    except pyarrow.ArrowInvalid:
        yield None


def _careful_batches(
    stream: IO[bytes], names: Sequence[str], delimiter: str, path: Path
) -> Iterator[Sequence[list[str]]]:
    """Rows as the csv module reads them, with spaces around quotes and comments. Raises ValueError naming the row."""
    lines: Iterable[str] = (line for line in io.TextIOWrapper(stream, "utf-8", newline="") if not line.startswith("#"))
    if not delimiter.isspace():
        spaces = re.compile(rf'"[ \t]+(?={re.escape(delimiter)}|[\r\n]|$)')
        lines = (spaces.sub('"', line) for line in lines)
    row, rows = 0, []
    try:
        for cells in csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True):
            if not "".join(cells).strip() and len(cells) < 2:
                continue  # a blank line
            row += 1
            if len(cells) != len(names):
                raise _InputError(
                    f"{path}: row {row} has {len(cells)} cells, expected {len(names)} as the header has; a comma or a "
                    f"quote is missing there, or the file is truncated: mend the row or download the file again"
                )
            rows.append(cells)
            if len(rows) == 500:
                yield list(map(list, zip(*rows, strict=True)))
                rows = []
    except csv.Error as error:
        raise _InputError(
            f"{path}: row {row + 1}: {error}; expected cells with closed quotes; the file may be truncated: mend the "
            f"row or download the file again"
        ) from error
    if rows:
        yield list(map(list, zip(*rows, strict=True)))


SUFFIXES: Mapping[str, Callable[[Path, Sequence[str]], Table]] = {
    **dict.fromkeys((".csv", ".csv.gz", ".ecsv", ".ecsv.gz"), _load_text),
    **dict.fromkeys((".fits", ".fits.gz", ".fit", ".fit.gz"), _load_fits),
    **dict.fromkeys((".vot", ".vot.gz", ".votable", ".votable.gz", ".xml", ".xml.gz"), _load_votable),
    ".avro": _load_avro,
    ".parquet": _load_parquet,
    **dict.fromkeys((".h5", ".hdf5"), _load_hdf5),
}
"""What can be read: the loader of each suffix."""
