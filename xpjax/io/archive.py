"""Read XP coefficients, in any format of the Gaia archive or from a table in memory, into a `SourceTable`.

Two steps: a loader per format gives named columns, and `_assemble` makes records of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from xpjax.errors import XpjaxError
from xpjax.io import _cells
from xpjax.io._cells import Column, Vectors
from xpjax.io._loaders import ARRAY_FIELDS, ARRAYS, Table, listed, load
from xpjax.io.store import is_store, open_store
from xpjax.records import DR3, Release, SourceTable, Status, XPCoefficients


def read(
    source: Any,
    *,
    release: Release | None = None,
    dtype: DTypeLike | None = None,
    keep: Sequence[str] | None = None,
) -> SourceTable:
    """Sources from a file, a table in memory, or a list of these, as host arrays with one status word a row.

    source: a path to csv, ecsv, fits, VOTable, avro, parquet or xpjax's h5, a store (`xpjax ingest`) or one of its
    files, a pandas DataFrame, an astropy or pyarrow Table, a structured NumPy array or FITS_rec, a dict of columns, a
    SourceTable (returned as it is, but for what is asked for here), or a list of any of these, joined in order.
    release: None takes the numbers of basis functions from the input. dtype: None (as in the input; text is
    float64), float32 or float64. keep: None (every column of scalars), or the names of the columns to keep.

    Correlations may be packed strict lower triangles or square; covariances (which are without the squared standard
    deviation of the fit) are turned into errors and correlations. Kept integers with missing values become float64
    with NaN, or keep int64 with 0 where float64 would lose digits; text columns of which most cells are numbers are
    numbers, and the odd cells NaN and `Status.CELL_REPAIRED`.

    Raises FileNotFoundError, and ValueError where the input as a whole can't be used; rows that can't are flagged.
    """
    if release is not None and not isinstance(release, Release):
        raise XpjaxError(f"release must be an xpjax Release, such as DR3, not {release!r}")
    if dtype is not None and np.dtype(dtype) not in (np.float32, np.float64):
        raise XpjaxError(f"dtype must be None, float32 or float64, not {dtype!r}")
    keep = [keep] if isinstance(keep, str) else keep
    xp = (release or DR3).xp
    sources = source if isinstance(source, list | tuple) else [source]
    if not sources:
        raise XpjaxError("the list of sources is empty; expected at least one file or table")
    items = [item if isinstance(item, SourceTable) else _load(item, xp) for item in sources]
    ready = [item.release for item in items if isinstance(item, SourceTable)]
    release = release or next(iter(ready), None) or _infer_release([t for t in items if isinstance(t, Table)])
    parts = [
        _as_asked(item, release, dtype, keep)
        if isinstance(item, SourceTable)
        else _assemble(item, release, dtype, keep)
        for item in items
    ]
    if len(parts) == len(ready) == 1:
        return parts[0]
    joined = parts[0] if len(parts) == 1 else _concatenate(parts)
    joined.status[_repeated(joined.source_id)] |= np.uint32(Status.DUPLICATE)
    return joined


def _load(source: Any, xp: Sequence[str]) -> Table | SourceTable:
    """The columns of one input, or its sources where it is a store, which has them ready."""
    if isinstance(source, str | os.PathLike) and is_store(source):
        return open_store(source).read()
    return load(source, xp)


def _as_asked(table: SourceTable, release: Release, dtype: DTypeLike | None, keep: Sequence[str] | None) -> SourceTable:
    """The same table, or one with the kept columns and the type that are asked for. Raises ValueError."""
    c = table.coefficients
    if (c.release.n_basis, c.release.xp) != (release.n_basis, release.xp):
        raise XpjaxError(
            f"{table.origin}: a table of {c.release.name} with {c.release.n_basis} basis functions, expected "
            f"{release.n_basis} ({release.name}); read each release by itself"
        )
    if keep is not None:
        scalars: dict[str, Column] = {"source_id": table.source_id, **table.columns}
        columns, _ = _kept(Table(scalars, len(table), table.origin), keep, release.xp)
        table = dataclasses.replace(table, columns=columns)
    if dtype is not None and any(a is not None and a.dtype != dtype for a in (c.value, c.error, c.correlation)):
        value, error, correlation = (
            None if a is None else np.asarray(a, dtype) for a in (c.value, c.error, c.correlation)
        )
        coefficients = _coefficients(value, error, correlation, c.n_relevant, c.release)
        table = dataclasses.replace(table, coefficients=coefficients)
    return table


# Columns to records


def _assemble(table: Table, release: Release, dtype: DTypeLike | None, keep: Sequence[str] | None) -> SourceTable:
    """A SourceTable of one input; all but the marks of duplicates."""
    source_id, no_id = _source_ids(table)
    table = _cast(table, dtype, release.xp)
    status = np.where(no_id, np.uint32(Status.ID_MISSING), np.uint32(0))
    blocks = [_photometer(table, xp, n_basis, release) for xp, n_basis in zip(release.xp, release.n_basis, strict=True)]

    def joined(name: str, sizes: Sequence[int], kind: DTypeLike | None) -> np.ndarray | None:
        """One array of all XPs; None where no XP has it, NaN for an XP that has none."""
        arrays = [getattr(block, name) for block in blocks]
        found = [array for array in arrays if array is not None]
        if not found:
            return None
        kind = kind or np.result_type(*found)
        blocks_or_nan = [
            np.full((table.n, size), np.nan, kind) if array is None else array
            for array, size in zip(arrays, sizes, strict=True)
        ]
        return np.concatenate(blocks_or_nan, axis=1, dtype=kind, casting="same_kind")

    for block in blocks:
        status |= block.status
    value = joined("value", release.n_basis, dtype)
    error = joined("error", release.n_basis, dtype)
    correlation = joined("correlation", release.n_pair, dtype)
    n_relevant = None
    if any(f"{xp}_n_relevant_bases" in table.columns for xp in release.xp):
        n_relevant = np.stack([block.n_relevant for block in blocks], axis=1)
        for block in blocks:
            status[block.repaired_n_relevant] |= np.uint32(Status.CELL_REPAIRED)
    columns, repaired = _kept(table, keep, release.xp)
    status[repaired] |= np.uint32(Status.CELL_REPAIRED)
    coefficients = _coefficients(value, error, correlation, n_relevant, release)
    return SourceTable(source_id, coefficients, status, columns, table.origin)


def _coefficients(value: Any, error: Any, correlation: Any, n_relevant: Any, release: Release) -> XPCoefficients:
    """XPCoefficients of NumPy arrays, which its annotations, made for JAX, don't name."""
    return XPCoefficients(value, error, correlation, n_relevant, release)


def _cast(table: Table, dtype: DTypeLike | None, xp: Sequence[str]) -> Table:
    """The table with arrays of the type asked for, before they are checked: what overflows float32 is a bad row."""
    if dtype is None:
        return table
    names = [f"{band}_{field}" for band in xp for field in ARRAYS[:3]]
    with np.errstate(over="ignore"):
        cast = {
            name: dataclasses.replace(column, flat=column.flat.astype(dtype, copy=False))
            for name in names
            if isinstance(column := table.columns.get(name), Vectors)
        }
    return dataclasses.replace(table, columns={**table.columns, **cast})


@dataclasses.dataclass(frozen=True)
class _Photometer:
    """What one XP contributes: value, error (n, n_basis), correlation (n, n_pair), n_relevant and status (n,)."""

    value: np.ndarray
    error: np.ndarray | None
    correlation: np.ndarray | None
    n_relevant: np.ndarray
    status: np.ndarray
    repaired_n_relevant: np.ndarray


def _photometer(table: Table, xp: str, n_basis: int, release: Release) -> _Photometer:
    """Coefficients, errors and correlations of one XP. Raises ValueError where no row of a column fits."""
    bit = {name: np.uint32(Status[f"{xp.upper()}_{name}"]) for name in ("MISSING", "BAD", "NO_ERROR")}
    vectors = _vectors(table, f"{xp}_coefficients", release, n_basis)
    assert vectors is not None  # load refuses tables without
    value = vectors.rows(n_basis)
    missing = (vectors.length == 0) | ((vectors.length == n_basis) & np.isnan(value).all(axis=1))
    good = (vectors.length == n_basis) & np.isfinite(value).all(axis=1)
    value = _blanked(value, ~good)
    status = np.where(missing, bit["MISSING"], np.where(good, np.uint32(0), bit["BAD"]))

    error, correlation, odd_deviation = _uncertainty(table, xp, n_basis, release)
    usable = np.zeros(table.n, bool) if error is None or correlation is None else good.copy()
    for array in (error, correlation):
        if array is not None:
            usable &= np.isfinite(array).all(axis=1)
    error = None if error is None else _blanked(error, ~(good & np.isfinite(error).all(axis=1)))
    correlation = None if correlation is None else _blanked(correlation, ~usable)
    status |= np.where(good & ~usable, bit["NO_ERROR"], np.uint32(0))
    status |= np.where(odd_deviation, np.uint32(Status.CELL_REPAIRED), np.uint32(0))

    n_relevant, _ = _numbers(table, f"{xp}_n_relevant_bases")
    plausible = (n_relevant >= 1) & (n_relevant <= n_basis) & (n_relevant == np.round(n_relevant))
    n_relevant = np.where(good, np.where(plausible, n_relevant, n_basis), 0).astype(np.int32)
    return _Photometer(value, error, correlation, n_relevant, status, good & ~plausible)


def _uncertainty(
    table: Table, xp: str, n_basis: int, release: Release
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
    """Errors and correlations, NaN in rows without; None where no column holds them; and odd standard deviations."""
    error = correlation = None
    odd = np.zeros(table.n, bool)
    pairs = n_basis * (n_basis - 1) // 2
    triangle, square = pairs + n_basis, n_basis**2
    vectors = _vectors(table, f"{xp}_coefficient_errors", release, n_basis)
    if vectors is not None:
        error = vectors.rows(n_basis)
        error = _blanked(error, ~(np.isfinite(error) & (error >= 0)).all(axis=1))
    vectors = _vectors(table, f"{xp}_coefficient_correlations", release, pairs, triangle, square)
    if vectors is not None:
        correlation = _triangle(vectors, n_basis, strict=True)
        # Printed single precision may pass 1 by a rounding; more than that is no correlation.
        correlation = _blanked(correlation, ~(np.abs(correlation) < 1.001).all(axis=1))
    for name in (f"{xp}_coefficient_covariances", f"{xp}_covariance_matrix"):
        vectors = _vectors(table, name, release, triangle, square)
        if vectors is None or not ((vectors.length > 0) & (_blank(error) | _blank(correlation))).any():
            continue  # nothing that the errors and correlations do not give
        if f"{xp}_standard_deviation" not in table.columns:
            raise XpjaxError(
                f"{table.origin}: {name} needs the column {xp}_standard_deviation, because archive covariances are "
                f"without its square; add it (1 where the covariances are complete)"
            )
        deviation, odd = _numbers(table, f"{xp}_standard_deviation")
        derived = _from_covariance(_triangle(vectors, n_basis, strict=False), n_basis, deviation)
        error, correlation = (_filled(own, other) for own, other in zip((error, correlation), derived, strict=True))
    return error, correlation, odd


def _from_covariance(packed: np.ndarray, n_basis: int, deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n, n_basis) and correlations (n, n_pair) from row-major lower triangles with the diagonal."""
    row, column = np.tril_indices(n_basis)
    diagonal = row == column
    scale = np.sqrt(np.where(packed[:, diagonal] > 0, packed[:, diagonal], np.nan), dtype=np.float64)
    row, column = row[~diagonal], column[~diagonal]
    correlation = packed[:, ~diagonal] / (scale[:, row] * scale[:, column])
    error = scale * np.where(deviation > 0, deviation, np.nan)[:, None]
    return error.astype(packed.dtype), correlation.astype(packed.dtype)


def _triangle(vectors: Vectors, n_basis: int, strict: bool) -> np.ndarray:
    """(n, n_pair), or with the diagonal where not strict: lower triangles by rows, however the rows are stored."""
    row, column = np.tril_indices(n_basis)
    wanted = row != column if strict else np.ones(len(row), bool)
    pairs = n_basis * (n_basis - 1) // 2
    pick: dict[int, np.ndarray | slice] = {n_basis**2: (row * n_basis + column)[wanted], len(row): wanted}
    if strict:
        pick[pairs] = slice(None)
    for size, columns in pick.items():
        if (vectors.length == size).all():
            return vectors.rows(size)[:, columns]
    out = np.full((len(vectors), int(wanted.sum())), np.nan, vectors.flat.dtype)
    for size, columns in pick.items():
        rows = vectors.length == size
        if rows.any():
            out[rows] = vectors.rows(size)[rows][:, columns]
    return out


_SAY_RELEASE = "release= in Python, --instrument FILE.h5 or --system FILE.h5 of that release on the command line"


def _vectors(table: Table, name: str, release: Release, *sizes: int) -> Vectors | None:
    """The array column, None where there is none. Raises ValueError where rows have data and none fits."""
    vectors = table.columns.get(name)
    if vectors is None:
        return None
    assert isinstance(vectors, Vectors)
    if not vectors.length.any() or np.isin(vectors.length, sizes).any():
        return vectors
    row = int(np.flatnonzero(vectors.length)[0])
    expected = f"expected an array of {' or '.join(map(str, sizes))} numbers ({release.name})"
    where = f"{table.origin}: row {row + 1}: {name}"
    if (vectors.length <= 0).all():
        raise XpjaxError(
            f"{where} is {vectors.unreadable}, {expected}, such as (1.5, 2.5) or [1.5,2.5], and so in every row; "
            f"mend the column, or empty its cells where there are no data"
        )
    found = f"has {vectors.length[row]} numbers" if vectors.length[row] > 0 else f"is {vectors.unreadable}"
    raise XpjaxError(
        f"{where} {found}, {expected}, and no other row fits; for a release with other numbers of basis functions "
        f"pass {_SAY_RELEASE}; or download the file again"
    )


def _blanked(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The array with NaN in these rows; a copy only where there are any."""
    return np.where(rows[:, None], array.dtype.type(np.nan), array) if rows.any() else array


def _blank(array: np.ndarray | None) -> np.ndarray:
    """Which rows have NaN: all where there is no array."""
    return np.ones(1, bool) if array is None else np.isnan(array).any(axis=1)


def _filled(array: np.ndarray | None, other: np.ndarray) -> np.ndarray:
    """The array, with rows of the other one where it has NaN."""
    return other if array is None else np.where(_blank(array)[:, None], other, array)


def _infer_release(tables: Sequence[Table]) -> Release:
    """DR3, or the release that all rows of all tables agree on. Raises ValueError where they don't."""
    sizes, names = [], {table.release for table in tables} - {None, DR3.name}
    for xp, standard in zip(DR3.xp, DR3.n_basis, strict=True):
        found = [_infer_size(table, xp, standard) for table in tables]
        distinct = {size: table.origin for table, size in zip(tables, found, strict=True) if size is not None}
        if len(distinct) > 1:
            listed = ", ".join(f"{size} in {origin}" for size, origin in distinct.items())
            raise XpjaxError(f"{xp}_coefficients has different lengths: {listed}; read each release by itself")
        sizes.append(next(iter(distinct), standard))
    if tuple(sizes) == DR3.n_basis:
        return DR3
    return Release((len(names) == 1 and names.pop()) or "+".join(map(str, sizes)), tuple(sizes))


def _infer_size(table: Table, xp: str, standard: int) -> int | None:
    """Number of basis functions of one XP, None where no row tells. Raises ValueError where rows contradict."""
    vectors = table.columns[f"{xp}_coefficients"]
    assert isinstance(vectors, Vectors)
    lengths, counts = np.unique(vectors.length[vectors.length > 0], return_counts=True)
    if not len(lengths):
        return None
    if 2 * counts[lengths == standard].sum() >= counts.sum():
        return standard  # the rows that differ are bad rows
    size = int(lengths[0])
    advice = f"to say which is right pass {_SAY_RELEASE}; or download the file again"
    if len(lengths) > 1 or size < 2:
        common = lengths[counts.argmax()]
        row = int(np.flatnonzero((vectors.length > 0) & ((vectors.length != common) | (size < 2)))[0])
        raise XpjaxError(
            f"{table.origin}: row {row + 1}: {xp}_coefficients has {vectors.length[row]} numbers, expected {standard} "
            f"({DR3.name}), or one other number in all rows, not {', '.join(map(str, lengths))}; {advice}"
        )
    stated, _ = _numbers(table, f"{xp}_n_parameters")
    others = np.flatnonzero((vectors.length > 0) & np.isfinite(stated) & (stated != size))
    witnesses = [(f"{xp}_n_parameters is {stated[i]:g}", int(i)) for i in others[:1]]
    errors = table.columns.get(f"{xp}_coefficient_errors")
    if isinstance(errors, Vectors) and not (errors.length == size).any() and (errors.length > 0).any():
        row = int(np.flatnonzero(errors.length > 0)[0])
        witnesses.append((f"{xp}_coefficient_errors has {errors.length[row]}", row))
    if witnesses:
        other, row = witnesses[0]
        raise XpjaxError(
            f"{table.origin}: row {row + 1}: {xp}_coefficients has {size} numbers, but {other}; expected {standard} "
            f"({DR3.name}), or one other number throughout; {advice}"
        )
    return size


def _source_ids(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """source_id (n,) int64, 0 where it is missing or odd, and where that is. Raises ValueError."""
    column = table.columns["source_id"]
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        big = column > np.iinfo(np.int64).max if column.dtype.kind == "u" else np.zeros(table.n, bool)
        ids = np.where(np.ma.getmaskarray(column) | np.ma.getdata(big), 0, np.ma.getdata(column)).astype(np.int64)
        ids[ids < 0] = 0
        return ids, ids == 0
    ids = np.zeros(table.n, np.int64)
    odd = []
    cells: Any = column
    if _is_float(column):
        cells = np.ma.filled(cells, np.nan)
    for i, cell in enumerate(cells):
        if _cells.is_missing(cell):
            continue
        number = _cells.integer(cell)
        if number is None:
            odd.append(i)
        elif number > 0:
            ids[i] = number
    if odd and (_is_float(column) or not ids.any()):
        raise XpjaxError(
            f"{table.origin}: row {odd[0] + 1}: source_id is {_cells.abridged(cells[odd[0]])}, expected an integer of "
            f"up to 19 digits, which floating-point numbers do not hold; give it as int64 or as text (pandas: 'Int64')"
        )
    return ids, ids == 0


def _is_float(column: Column) -> bool:
    return isinstance(column, np.ndarray) and column.dtype.kind == "f"


def _repeated(source_id: np.ndarray) -> np.ndarray:
    """Which ids, 0 apart, stand in an earlier row too."""
    repeated = np.ones(len(source_id), bool)
    repeated[np.unique(source_id, return_index=True)[1]] = False
    return repeated & (source_id != 0)


def _numbers(table: Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column of numbers (n,) float64, NaN where missing or odd or where there is no column; and where it is odd."""
    column = table.columns.get(name)
    out, odd = np.full(table.n, np.nan), np.zeros(table.n, bool)
    if isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind in "fiub":
        return np.ma.filled(column.astype(np.float64), np.nan), odd
    cells: Any = () if column is None or isinstance(column, Vectors) else column
    for i, cell in enumerate(cells):
        if not _cells.is_missing(cell):
            try:
                out[i] = _cells.parse_number(str(cell))
            except ValueError:
                odd[i] = True
    return out, odd


# Other columns


def _kept(table: Table, keep: Sequence[str] | None, xp: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The other columns, and which rows have a cell that is no number in a column of numbers. Raises ValueError."""
    known = {"source_id", *(f"{band}_{field}" for band in xp for field in ARRAY_FIELDS)}
    free = {name: column for name, column in table.columns.items() if name not in known}
    arrays = [name for name in keep or () if name.lower() in known - {"source_id"}]
    if arrays:
        raise XpjaxError(
            f"{table.origin}: keep: {', '.join(arrays)} cannot be kept: coefficients, their errors, correlations and "
            f"covariances stay in the input; leave it out"
        )
    if keep is None:
        relevant = {f"{band}_n_relevant_bases" for band in xp}
        wanted: dict[str, str | None] = {name: name for name in free if name not in relevant}
    else:
        folded = {name.lower(): name for name in free}
        wanted = {
            name: name if name in free else folded.get(name.lower()) for name in keep if name.lower() not in known
        }
    columns, repaired = {}, np.zeros(table.n, bool)
    for name, stored in wanted.items():
        if stored is None:
            close = difflib.get_close_matches(name.lower(), folded, n=3) if free else []
            hint = f"did you mean {', '.join(folded[match] for match in close)}?" if close else listed(table.columns)
            raise XpjaxError(f"{table.origin}: keep: no column {name!r}; {hint}")
        plain = _cells.plain(free[stored])
        if plain is None and keep is None:
            continue  # vectors are kept only by name
        columns[name], odd = plain or (_cells.plain_vectors(free[stored]), np.zeros(table.n, bool))
        repaired |= odd
    return columns, repaired


def _concatenate(parts: Sequence[SourceTable]) -> SourceTable:
    """The rows of all parts; what one part lacks is NaN, no truncation, or an empty text."""
    release = parts[0].release
    status = np.concatenate([part.status for part in parts])

    def optional(name: str) -> np.ndarray | None:
        arrays = [getattr(part.coefficients, name) for part in parts]
        found = [array for array in arrays if array is not None]
        if not found:
            return None
        shape, dtype = found[0].shape[1], np.result_type(*found)
        return np.concatenate(
            [
                np.full((len(part), shape), np.nan, dtype) if array is None else array
                for part, array in zip(parts, arrays, strict=True)
            ]
        )

    n_relevant = None
    if any(part.coefficients.n_relevant is not None for part in parts):
        n_relevant = np.concatenate([_all_relevant(part) for part in parts])
    columns = {}
    for name in dict.fromkeys(name for part in parts for name in part.columns):
        columns[name] = _cells.join_columns([part.columns.get(name) for part in parts], [len(part) for part in parts])
    value, error, correlation = (optional(name) for name in ("value", "error", "correlation"))
    coefficients = _coefficients(value, error, correlation, n_relevant, release)
    origin = f"{parts[0].origin} and {len(parts) - 1} more"
    return SourceTable(np.concatenate([part.source_id for part in parts]), coefficients, status, columns, origin)


def _all_relevant(part: SourceTable) -> np.ndarray:
    """n_relevant (n, n_xp) of a part: all basis functions where the input does not say."""
    if part.coefficients.n_relevant is not None:
        return np.asarray(part.coefficients.n_relevant)
    values = np.asarray(part.coefficients.value)
    present = [~np.isnan(values[:, block]).any(axis=1) for block in part.release.slices]
    return np.stack([n * here for n, here in zip(part.release.n_basis, present, strict=True)], 1).astype(np.int32)
