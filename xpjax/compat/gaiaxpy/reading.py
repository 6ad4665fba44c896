"""What the functions are given, file, frame, ids or query, as a SourceTable and the columns that are passed on."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xpjax.compat.gaiaxpy.errors import InvalidBandError, InvalidExtensionError, MissingColumnError
from xpjax.compat.gaiaxpy.frames import ARRAYS, SCALARS, plain_frame
from xpjax.core.archive import TRANSIT
from xpjax.core.release import DR3
from xpjax.xp import SourceTable, fetch, read

if TYPE_CHECKING:
    import pandas as pd

AnyInput: TypeAlias = "pd.DataFrame | str | Path | list[int] | list[str]"
"""What functions are given: a frame, a file, source ids, or an ADQL query."""
AnyColumns: TypeAlias = str | list[str] | dict[str, str] | dict[str, list[str]]
"""Further columns: a name, names, or new names with the old ones."""
VERSION = "2.1.5"
FORMATS = ("avro", "csv", "ecsv", "fits", "xml")
FURTHER = ("gz", "bz2", "xz", "zip", "fit", "vot", "votable", "parquet", "h5", "hdf5")
"""Suffixes that GaiaXPy does not read and `xpjax.read` does; they are saved as csv."""


@dataclasses.dataclass(frozen=True)
class Input:
    """Sources, standard deviations (n, n_xp) of their fits, the format of the input and the columns passed on."""

    sources: SourceTable
    deviation: np.ndarray
    extension: str
    additional: pd.DataFrame


def read_input(
    content: AnyInput,
    *,
    truncation: bool = False,
    additional: Mapping[str, list[str]] | None = None,
    username: str | None = None,
    password: str | None = None,
) -> Input:
    """Read what a function is given: a DataFrame, a path, a list of source ids, or an ADQL query.

    Raises ValueError for anything else, InvalidExtensionError for an unknown suffix, MissingColumnError where columns
    are missing.
    """
    import pandas as pd

    additional = additional or {}
    _check_names(additional, truncation)
    extension = "csv"
    if isinstance(content, pd.DataFrame):
        given: Any = content
    elif isinstance(content, str | Path) and os.path.isfile(content):
        given, suffix = Path(content), os.path.splitext(content)[1][1:].lower()
        if suffix not in FORMATS + FURTHER:
            raise InvalidExtensionError(f"{content}: unknown suffix {suffix!r}; expected one of {', '.join(FORMATS)}")
        extension = suffix if suffix in FORMATS else "csv"
    elif isinstance(content, list) or (isinstance(content, str) and content.lower().startswith("select")):
        given = _fetched(content, username, password)
    else:
        raise ValueError(f"{content!r} is no DataFrame, no file that exists, no list of source ids and no ADQL query")
    sources = None
    if not isinstance(given, SourceTable):
        given = _with_plain_id(given)
        _check_frame(given, truncation)
        sources = plain_frame(given, truncation)
    if sources is None:
        sources = read(given, dtype=np.float64)
        _refuse_transits(sources.columns)
        _check_columns(sources, truncation)
    if isinstance(given, SourceTable):
        columns = {"source_id": given.source_id, **given.columns}
        given = pd.DataFrame({name: _plain(column) for name, column in columns.items()})
    deviation = np.stack([np.asarray(sources.columns[f"{xp}_standard_deviation"], float) for xp in sources.release.xp])
    return Input(sources, deviation.T, extension, _additional(given, extension, sources, additional))


def _fetched(wanted: list[Any] | str, username: str | None, password: str | None) -> SourceTable:
    """The sources of a list of ids, or those that a query finds. Raises ValueError where none has spectra."""
    if not len(wanted):
        raise ValueError("the list of source ids is empty; give at least one")
    found: Any = fetch(wanted, release=DR3, gaia_source=False, username=username, password=password)
    return found  # a table: there is no output


def _needed(truncation: bool) -> list[str]:
    fields = (*SCALARS, *ARRAYS, *(("n_relevant_bases",) if truncation else ()))
    return ["source_id", *(f"{xp}_{field}" for xp in DR3.xp for field in fields)]


def _with_plain_id(given: Any) -> Any:
    """A frame with `source_id` for what the archive's newer downloads call SOURCE_ID; anything else as it is."""
    columns = [*getattr(given, "columns", ())]
    upper = [name for name in columns if str(name).lower() == "source_id"]
    return given.rename(columns={upper[0]: "source_id"}) if upper and "source_id" not in columns else given


def _refuse_transits(columns: Iterable[Any]) -> None:
    """ValueError for epoch spectra: GaiaXPy's results have a row for each source, and know of no transits."""
    if {str(name).lower() for name in columns} & {*TRANSIT}:
        raise ValueError(
            "these are epoch spectra (transit_id), of which GaiaXPy's functions know nothing: xpjax.photometry, "
            "xpjax.spectra and xpjax.lightcurve take them, and keep transit_id and time"
        )


def _check_frame(given: Any, truncation: bool) -> None:
    """MissingColumnError for a frame without the columns that GaiaXPy needs; ValueError for epoch spectra."""
    columns = getattr(given, "columns", None)
    _refuse_transits(() if columns is None else columns)
    missing = [] if columns is None else [name for name in _needed(truncation) if name not in columns]
    if missing:
        raise MissingColumnError(f"the DataFrame has no columns {missing}")


def _check_columns(sources: SourceTable, truncation: bool) -> None:
    """MissingColumnError for a file without the columns that errors, and truncation, need."""
    c, columns = sources.coefficients, sources.columns
    missing = [f"{xp}_{name}" for xp in sources.release.xp for name in SCALARS if f"{xp}_{name}" not in columns]
    missing += [name for name, array in (("errors", c.error), ("correlations", c.correlation)) if array is None]
    if truncation and c.n_relevant is None:
        missing.append("n_relevant_bases")
    if missing:
        raise MissingColumnError(f"{sources.origin} has no columns {missing}")


# --- additional columns -----------------------------------------------------------------------------------------------


def named_columns(additional: AnyColumns | None) -> dict[str, list[str]]:
    """`additional_columns` in one form: name in the output -> [name in the input], or the keys down an AVRO record."""
    if additional is None:
        return {}
    if isinstance(additional, str):
        return {additional: [additional]}
    if isinstance(additional, list):
        return {name: [name] for name in additional}
    if isinstance(additional, dict):
        return {name: value if isinstance(value, list) else [value] for name, value in additional.items()}
    raise ValueError(f"additional_columns must be a name, a list or a dict of names, not {additional!r}")


def _check_names(additional: Mapping[str, list[str]], truncation: bool) -> None:
    """ValueError where a column that is needed would be renamed, or another one would take its name."""
    needed = _needed(truncation)
    renamed = {new: old for new, old in additional.items() if old != [new]}
    bad = [new for new, old in renamed.items() if new in needed or (len(old) == 1 and old[0] in needed)]
    if bad:
        raise ValueError(f"additional columns {bad} would rename, or take the name of, columns that are needed")


def _additional(given: Any, extension: str, sources: SourceTable, additional: Mapping[str, list[str]]) -> pd.DataFrame:
    """The additional columns, in the types that GaiaXPy gives them; the index runs from 0."""
    import pandas as pd

    if not additional:
        return pd.DataFrame(index=range(len(sources)))
    if extension == "avro":
        return cast(pd.DataFrame(_avro_values(given, additional)))
    for new, old in additional.items():
        if len(old) != 1 or not old[0]:
            raise ValueError(f"additional column {new!r}: only AVRO records have nested names, found {old}")
    names = [old[0] for old in additional.values()]
    columns: Any = _array_cells(sources, names)
    names = [name for name in names if name not in columns]
    if isinstance(given, pd.DataFrame):
        present = [name for name in names if name in given.columns]
        columns |= dict(cast(given[present].reset_index(drop=True)))
    else:
        columns |= _file_columns(given, extension, sources, names)
    missing = [name for name in names if name not in columns]
    if missing:
        raise MissingColumnError(f"{sources.origin} has no columns {missing}, asked for as additional columns")
    return cast(pd.DataFrame({new: _plain(columns[old[0]]) for new, old in additional.items()}))


def _array_cells(sources: SourceTable, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of the names that are coefficients, errors or correlations (as matrices): one array a row, or NaN."""
    c, release = sources.coefficients, sources.release
    found = {}
    for xp, n, rows, pairs in zip(release.xp, release.n_basis, release.slices, release.pair_slices, strict=True):
        for field, array, part in zip(ARRAYS, (c.value, c.error, c.correlation), (rows, rows, pairs), strict=True):
            if f"{xp}_{field}" in names and array is not None:
                cells = np.asarray(array[:, part])
                there = np.isfinite(cells).all(axis=1)
                if part is pairs:
                    square = np.tile(np.eye(n, dtype=cells.dtype), (len(cells), 1, 1))
                    i, j = np.tril_indices(n, -1)
                    square[:, i, j] = square[:, j, i] = cells
                    cells = square
                found[f"{xp}_{field}"] = objects([x if ok else np.nan for x, ok in zip(cells, there, strict=True)])
    return found


def _file_columns(path: Path, extension: str, sources: SourceTable, names: Sequence[str]) -> dict[str, Any]:
    """Columns of scalars of a file, in the types that pandas gives them. Raises MissingColumnError."""
    if extension in ("fits", "xml") and names:  # integers that may be missing keep their width
        from astropy.table import Table

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = Table.read(path)
        present = [name for name in names if name in table.colnames]
        return dict(table[present].to_pandas()) if present else {}
    columns: dict[str, Any] = {"source_id": sources.source_id, **sources.columns}
    absent = [name for name in names if name not in columns]
    if absent:
        with _as_missing():
            columns |= read(path, keep=absent).columns
    return columns


@contextlib.contextmanager
def _as_missing() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise MissingColumnError(str(error)) from error


def _plain(column: Any) -> Any:
    """A column for pandas, which takes no two axes."""
    return list(column) if getattr(column, "ndim", 1) > 1 else column


def _avro_values(path: Path, additional: Mapping[str, list[str]]) -> dict[str, list[Any]]:
    """Values of nested records; NaN below a null. Raises MissingColumnError."""
    import fastavro

    out: dict[str, list[Any]] = {new: [] for new in additional}
    with path.open("rb") as stream:
        for record in fastavro.reader(stream):
            for new, keys in additional.items():
                value: Any = record
                for key in keys:
                    if isinstance(value, Mapping) and key not in value:
                        raise MissingColumnError(f"{path}: no field {keys}, asked for as additional column {new!r}")
                    value = value[key] if isinstance(value, Mapping) else np.nan
                out[new].append(np.array(value) if isinstance(value, list) else value)
    return out


_TYPES = (
    (re.compile(r"(source|solution)_id"), "Int64"),
    (re.compile(r"(bp|rp)_n_parameters"), "Int16"),
    (re.compile(r"(bp|rp)_(standard_deviation|chi_squared|relative_shrinking)"), "Float64"),
    (re.compile(r"(bp|rp)_(n_\w+|num_of_\w+|degrees_of_freedom|basis_function_id)"), "Int64"),
)


def cast(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame itself, its columns of the archive now in pandas' nullable types, as GaiaXPy returns them."""
    for name in frame.columns:
        kind = next((kind for pattern, kind in _TYPES if pattern.fullmatch(str(name))), None)
        if kind is not None:
            frame[name] = frame[name].astype(kind)
    return frame


# --- small things that all functions share ----------------------------------------------------------------------------


def parse_band(band: Any) -> str:
    """'bp' or 'rp'. Raises InvalidBandError."""
    one = band[0] if isinstance(band, list) and len(band) == 1 else band
    if isinstance(one, str) and one.lower() in DR3.xp:
        return one.lower()
    raise InvalidBandError(band)


_BARS = {
    "calibrate": ("Calibrating data", "spec"),
    "convert": ("Converting data", "spec"),
    "generate": ("Generating photometry", "spec"),
    "correct": ("Correcting systems", "syst"),
    "color": ("Applying colour equation", "syst"),
    "lines": ("Finding lines", "spec"),
}


@contextlib.contextmanager
def progress_bar(key: str, total: int) -> Iterator[Callable[[int], object]]:
    """A progress bar on standard output, and the function that is told how many are done."""
    from tqdm import tqdm

    desc, unit = _BARS[key]
    with tqdm(total=total, desc=desc, unit=unit, leave=False, colour="#509faf", file=sys.stdout) as bar:
        yield lambda done: bar.update(done - bar.n)


def objects(cells: Sequence[Any] | np.ndarray) -> np.ndarray:
    """(n,) of objects, one cell a row."""
    out = np.empty(len(cells), object)
    for i, cell in enumerate(cells):
        out[i] = cell
    return out
