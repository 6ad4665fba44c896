"""Columns in the archive's layout as records: sizes checked, and each row judged by itself."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from xpjax.core.errors import XpjaxError, say
from xpjax.core.release import DR3, Release
from xpjax.core.status import Status
from xpjax.io.cells import Vectors
from xpjax.io.columns import plain, plain_vectors
from xpjax.xp.read.layout import ARRAY_FIELDS, ARRAYS, STORED_STATUS, Table, ids_of, listed, numbers
from xpjax.xp.read.releases import say_release
from xpjax.xp.read.transits import transit_names, transits_of
from xpjax.xp.sources import TRANSIT, SourceTable, XPCoefficients


def assemble(table: Table, release: Release, dtype: DTypeLike | None, keep: Sequence[str] | None) -> SourceTable:
    """A SourceTable of one input; all but the marks of duplicates."""
    if any(f"{xp}_covariance_scale" in table.columns for xp in release.xp):
        raise XpjaxError(
            f"{table.origin} holds compact covariances, which are read from store files alone: write the sources by "
            f"{say('xpjax.xp.write_store_file', '`xpjax store select ... -o FILE.h5`')}"
        )
    source_id, no_id = ids_of(table)
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
        whole = _side_by_side(found, sum(sizes))
        if whole is not None and whole.dtype == kind:
            return whole
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
    transits, bits = transits_of(table)
    status |= bits
    columns, repaired = kept(table, keep, release.xp)
    columns = transits | columns
    status[repaired] |= np.uint32(Status.CELL_REPAIRED)
    status = _with_stored(status, table, release)
    assert value is not None  # tables without coefficients are refused
    coefficients = XPCoefficients(value, error, correlation, n_relevant, release)
    return SourceTable(source_id, coefficients, status, columns, table.origin)


_READING = (
    *(Status[f"{xp.upper()}_{bit}"] for xp in DR3.xp for bit in ("MISSING", "BAD", "NO_ERROR")),
    *(Status.ID_MISSING, Status.DUPLICATE, Status.CELL_REPAIRED, Status.TRANSIT_MISSING, Status.TIME_MISSING),
)
"""What is found when sources are read; other bits are those of a result."""


def _with_stored(status: np.ndarray, table: Table, release: Release) -> np.ndarray:
    """Status bits (n,) with those of an earlier reading, which knew why coefficients are not there."""
    if STORED_STATUS not in table.columns:
        return status
    stored = np.nan_to_num(numbers(table, STORED_STATUS)[0]).astype(np.uint32) & np.uint32(sum(_READING))
    for xp in release.xp:
        gone = np.uint32(Status[f"{xp.upper()}_MISSING"] | Status[f"{xp.upper()}_BAD"])
        status = np.where(stored & gone != 0, status & ~gone, status)
    return status | stored


def _side_by_side(arrays: Sequence[np.ndarray], width: int) -> np.ndarray | None:
    """The array (n, width) that these arrays are all columns of, in order, as text is read; None where it is none."""
    base = arrays[0].base
    if not isinstance(base, np.ndarray) or base.ndim != 2 or base.shape[1] != width:
        return None
    at = base.__array_interface__["data"][0]
    for array in arrays:
        if array.base is not base or array.strides != base.strides or array.__array_interface__["data"][0] != at:
            return None
        at += array.shape[1] * base.itemsize
    return base[: len(arrays[0])] if sum(array.shape[1] for array in arrays) == width else None


def _cast(table: Table, dtype: DTypeLike | None, xp: Sequence[str]) -> Table:
    """The table with arrays of the type asked for, before they are checked: what overflows float32 is a bad row."""
    if dtype is None:
        return table
    names = [f"{band}_{field}" for band in xp for field in ARRAYS[:3]]
    with np.errstate(over="ignore"):
        cast = {
            name: dataclasses.replace(
                column,
                values=column.values.astype(dtype, copy=False),
                others={i: other.astype(dtype) for i, other in column.others.items()},
            )
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
    good = _within(value, -np.inf, np.inf)
    missing = (vectors.length == 0) | ((vectors.length == n_basis) & ~good)
    if missing.any():
        missing[missing] = np.isnan(value[missing]).all(axis=1)
    value = _blanked(value, ~good)
    status = np.where(missing, bit["MISSING"], np.where(good, np.uint32(0), bit["BAD"]))

    error, correlation, odd_deviation = _uncertainty(table, xp, n_basis, release)
    usable = good & error.good & correlation.good
    status |= np.where(good & ~usable, bit["NO_ERROR"], np.uint32(0))
    status |= np.where(odd_deviation, np.uint32(Status.CELL_REPAIRED), np.uint32(0))

    n_relevant, _ = numbers(table, f"{xp}_n_relevant_bases")
    plausible = (n_relevant >= 1) & (n_relevant <= n_basis) & (n_relevant == np.round(n_relevant))
    n_relevant = np.where(good, np.where(plausible, n_relevant, n_basis), 0).astype(np.int32)
    return _Photometer(
        value,
        None if error.array is None else _blanked(error.array, ~(good & error.good)),
        None if correlation.array is None else _blanked(correlation.array, ~usable),
        n_relevant,
        status,
        good & ~plausible,
    )


@dataclasses.dataclass(frozen=True)
class _Judged:
    """An array (n, k), if there is one, and which rows are good (n,)."""

    array: np.ndarray | None
    good: np.ndarray

    def filled(self, other: np.ndarray) -> _Judged:
        """With the other array's rows where they are not good."""
        if self.array is None:
            return _Judged(other, _within(other, -np.inf, np.inf))
        array = np.where(self.good[:, None], self.array, other)
        return _Judged(array, self.good | _within(array, -np.inf, np.inf))


def _uncertainty(table: Table, xp: str, n_basis: int, release: Release) -> tuple[_Judged, _Judged, np.ndarray]:
    """Errors, correlations, and where a standard deviation is odd."""
    error = correlation = _Judged(None, np.zeros(table.n, bool))
    odd = np.zeros(table.n, bool)
    pairs = n_basis * (n_basis - 1) // 2
    triangle, square = pairs + n_basis, n_basis**2
    vectors = _vectors(table, f"{xp}_coefficient_errors", release, n_basis)
    if vectors is not None:
        array = vectors.rows(n_basis)
        error = _Judged(array, _within(array, 0.0, np.inf))
    vectors = _vectors(table, f"{xp}_coefficient_correlations", release, pairs, triangle, square)
    if vectors is not None:
        array = _triangle(vectors, n_basis, strict=True)
        # Printed single precision may pass 1 by a rounding; more than that is no correlation.
        correlation = _Judged(array, _within(array, -1.001, 1.001))
    for name in (f"{xp}_coefficient_covariances", f"{xp}_covariance_matrix"):
        vectors = _vectors(table, name, release, triangle, square)
        if vectors is None or not ((vectors.length > 0) & ~(error.good & correlation.good)).any():
            continue  # nothing that the errors and correlations do not give
        if f"{xp}_standard_deviation" not in table.columns:
            raise XpjaxError(
                f"{table.origin}: {name} needs the column {xp}_standard_deviation, because archive covariances are "
                f"without its square; add it (1 where the covariances are complete)"
            )
        deviation, odd = numbers(table, f"{xp}_standard_deviation")
        derived = _from_covariance(_triangle(vectors, n_basis, strict=False), n_basis, deviation)
        error, correlation = error.filled(derived[0]), correlation.filled(derived[1])
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
    found = [size for size in pick if (vectors.length == size).any()]
    if len(found) == 1:
        return vectors.rows(found[0])[:, pick[found[0]]]
    out = np.full((len(vectors), int(wanted.sum())), np.nan, vectors.values.dtype)
    for size in found:
        rows = vectors.length == size
        out[rows] = vectors.rows(size)[rows][:, pick[size]]
    return out


def _vectors(table: Table, name: str, release: Release, *sizes: int) -> Vectors | None:
    """The array column, None where there is none. Raises ValueError where rows have data and none fits."""
    vectors = table.columns.get(name)
    if vectors is None:
        return None
    assert isinstance(vectors, Vectors)
    if not vectors.length.any() or any((vectors.length == size).any() for size in sizes):
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
        f"pass {say_release()}{say('', ', or instruments and systems of that release')}; or download the file again"
    )


def _within(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Which rows have only finite numbers from low to high; looks at each number twice, where all are."""
    limits = np.finfo(array.dtype)
    low, high = max(low, float(limits.min)), min(high, float(limits.max))
    good = np.ones(len(array), bool)
    step = 128  # rows that stay in the cache
    for start in range(0, len(array), step):
        part = array[start : start + step]
        if not (part.min() >= low and part.max() <= high):  # comparisons with NaN are false
            good[start : start + step] = ((part >= low) & (part <= high)).all(axis=1)
    return good


def _blanked(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The array with NaN in these rows; a copy only where they are not NaN already."""
    if not rows.any() or np.isnan(array[rows]).all():
        return array
    return np.where(rows[:, None], array.dtype.type(np.nan), array)


def kept(table: Table, keep: Sequence[str] | None, xp: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The other columns, and which rows have a cell that is no number in a column of numbers. Raises ValueError."""
    known = {"source_id", STORED_STATUS, *(f"{band}_{field}" for band in xp for field in ARRAY_FIELDS)}
    free = {name: column for name, column in table.columns.items() if name not in known}
    arrays = [name for name in keep or () if name.lower() in known - {"source_id"}]
    transit, times = transit_names(table.columns)
    if transit is not None:
        known |= {*TRANSIT}
    if arrays:
        raise XpjaxError(
            f"{table.origin}: keep: {', '.join(arrays)} cannot be kept: coefficients, their errors, correlations and "
            f"covariances stay in the input; leave it out"
        )
    if keep is None:
        others = {transit, *times[:1], *(f"{band}_n_relevant_bases" for band in xp)}
        wanted: dict[str, str | None] = {name: name for name in free if name not in others}
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
        scalars = plain(free[stored])
        if scalars is None and keep is None:
            continue  # vectors are kept only by name
        columns[name], odd = scalars or (plain_vectors(free[stored]), np.zeros(table.n, bool))
        repaired |= odd
    return columns, repaired
