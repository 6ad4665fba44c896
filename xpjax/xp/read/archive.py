"""Read XP coefficients, in any format of the Gaia archive or from a table in memory, into a `SourceTable`.

Two steps: a loader per format gives named columns, and `assemble` makes records of them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from xpjax.core.errors import XpjaxError
from xpjax.core.release import DR3, Release
from xpjax.core.status import Status
from xpjax.io.columns import Column, join_columns
from xpjax.xp.read.assemble import assemble, infer_release, kept, make_coefficients
from xpjax.xp.read.layout import Table, repeated
from xpjax.xp.read.loaders import load
from xpjax.xp.sources import SourceTable
from xpjax.xp.store.store import is_store, open_store


def read(
    source: Any,
    *,
    release: Release | None = None,
    dtype: DTypeLike | None = None,
    keep: Sequence[str] | None = None,
) -> SourceTable:
    """Sources from a file, a table in memory, or a list of these, as host arrays with one status word a row.

    source: a path to csv, ecsv, fits, VOTable, avro, parquet or xpjax's h5, packed by gzip, bzip2, xz or zip or not, a
    store (`xpjax ingest`) or one of its files, a pandas DataFrame, an astropy or pyarrow Table, a structured NumPy
    array or FITS_rec, a dict of columns, a SourceTable (returned as it is, but for what is asked for here), or a list
    of any of these, joined in order. Several tables of a file are joined in order, if they have the same columns.
    release: None takes the numbers of basis functions from the input. dtype: None (as in the input; text is
    float64), float32 or float64. keep: None (every column of scalars), or the names of the columns to keep.

    Correlations may be packed strict lower triangles or square; covariances (which are without the squared standard
    deviation of the fit) are turned into errors and correlations. Kept integers with missing values become float64
    with NaN, or keep int64 with 0 where float64 would lose digits; text columns of which most cells are numbers are
    numbers, and the odd cells NaN and `Status.CELL_REPAIRED`.

    Raises FileNotFoundError, and ValueError where the input as a whole can't be used; rows that can't are flagged.
    Warns where a server cut a VOTable short.
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
    items = [item for one in sources for item in _load(one, xp, dtype)]
    ready = [item.release for item in items if isinstance(item, SourceTable)]
    release = release or next(iter(ready), None) or infer_release([t for t in items if isinstance(t, Table)])
    parts = [
        _as_asked(item, release, dtype, keep) if isinstance(item, SourceTable) else assemble(item, release, dtype, keep)
        for item in items
    ]
    if len(parts) == len(ready) == 1:
        return parts[0]
    joined = parts[0] if len(parts) == 1 else concatenate(parts)
    joined.status[repeated(joined.source_id)] |= np.uint32(Status.DUPLICATE)
    return joined


def _load(source: Any, xp: Sequence[str], dtype: DTypeLike | None) -> Sequence[Table | SourceTable]:
    """The tables of one input, or its sources where it has them ready."""
    if isinstance(source, SourceTable):
        return [source]
    if isinstance(source, str | os.PathLike) and is_store(source):
        return [open_store(source).read()]
    return load(source, xp, dtype)


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
        columns, _ = kept(Table(scalars, len(table), table.origin), keep, release.xp)
        table = dataclasses.replace(table, columns=columns)
    if dtype is not None and any(a is not None and a.dtype != dtype for a in (c.value, c.error, c.correlation)):
        value, error, correlation = (
            None if a is None else np.asarray(a, dtype) for a in (c.value, c.error, c.correlation)
        )
        coefficients = make_coefficients(value, error, correlation, c.n_relevant, c.release)
        table = dataclasses.replace(table, coefficients=coefficients)
    return table


def concatenate(parts: Sequence[SourceTable]) -> SourceTable:
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
        columns[name] = join_columns([part.columns.get(name) for part in parts], [len(part) for part in parts])
    value, error, correlation = (optional(name) for name in ("value", "error", "correlation"))
    coefficients = make_coefficients(value, error, correlation, n_relevant, release)
    origin = f"{parts[0].origin} and {len(parts) - 1} more"
    return SourceTable(np.concatenate([part.source_id for part in parts]), coefficients, status, columns, origin)


def _all_relevant(part: SourceTable) -> np.ndarray:
    """n_relevant (n, n_xp) of a part: all basis functions where the input does not say."""
    if part.coefficients.n_relevant is not None:
        return np.asarray(part.coefficients.n_relevant)
    values = np.asarray(part.coefficients.value)
    present = [~np.isnan(values[:, block]).any(axis=1) for block in part.release.slices]
    return np.stack([n * here for n, here in zip(part.release.n_basis, present, strict=True)], 1).astype(np.int32)
