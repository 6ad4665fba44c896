"""A frame whose cells are arrays as a SourceTable that leaves the arrays where they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from xpjax.core.engine import aligned
from xpjax.core.release import DR3
from xpjax.core.status import Status
from xpjax.io.words import is_missing
from xpjax.xp import SourceTable, XPCoefficients

SCALARS = ("n_parameters", "standard_deviation")
ARRAYS = ("coefficients", "coefficient_errors", "coefficient_correlations")
PLAIN = tuple(np.dtype(kind) for kind in ("f8", "f4", "i8", "i4", "i2", "u1"))
LARGEST = float(np.finfo(np.float64).max)
LIMITS = {ARRAYS[0]: (-LARGEST, LARGEST), ARRAYS[1]: (0.0, LARGEST), ARRAYS[2]: (-1.001, 1.001)}
"""Numbers beyond are no coefficients, errors and correlations, and read as NaN."""


class Cells:
    """Cells of arrays, of one column for each XP, as an array (n, k) that is put together where rows are asked for.

    So the engine copies the cells batch by batch, while other batches are computed: no copy of all of them is made.
    """

    dtype = np.dtype(np.float64)

    def __init__(self, columns: Sequence[Sequence[np.ndarray]], sizes: Sequence[int], limits: tuple[float, float]):
        self.columns, self.limits = columns, limits
        self.shape = (len(columns[0]), sum(sizes))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(rows, slice):
            parts: list[Any] = [column[rows] for column in self.columns]
        else:
            chosen = np.arange(len(self))[rows].tolist()
            parts = [[column[i] for i in chosen] for column in self.columns]
        out = aligned((len(parts[0]), self.shape[1]), self.dtype)
        if len(out):
            np.concatenate([*itertools.chain.from_iterable(zip(*parts, strict=True))], out=out.reshape(-1))
        low, high = self.limits
        if len(out) and not (out.min() >= low and out.max() <= high):
            out[~((out >= low) & (out <= high))] = np.nan
        return out[:, *rest] if rest else out

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def plain_frame(given: Any, truncation: bool) -> SourceTable | None:
    """The sources of a frame whose cells are arrays of float64, or missing; None for anything else.

    What `xpjax.read` would give: with a frame at hand, reading is what takes the time.
    """
    columns = getattr(given, "columns", ())
    numbers = [f"{xp}_{name}" for xp in DR3.xp for name in (*SCALARS, "n_relevant_bases") if f"{xp}_{name}" in columns]
    if not len(columns) or not len(given) or any(given[name].dtype not in PLAIN for name in numbers):
        return None
    if given["source_id"].dtype not in (np.int64, np.int32) or (given["source_id"] <= 0).any():
        return None
    sizes = dict(zip(ARRAYS, (DR3.n_basis, DR3.n_basis, DR3.n_pair), strict=True))
    cells = {field: [given[f"{xp}_{field}"].tolist() for xp in DR3.xp] for field in ARRAYS}
    status = np.zeros(len(given), np.uint32)
    for k, xp in enumerate(DR3.xp):
        there = [type(cell) is np.ndarray for cell in cells[ARRAYS[0]][k]]
        if not any(there):  # then it takes more to tell the release
            return None
        for field, size in sizes.items():
            column = cells[field][k]
            if not all(there):
                absent = np.full(size[k], np.nan)
                if not all(ok or is_missing(cell) for ok, cell in zip(there, column, strict=True)):
                    return None
                column = [cell if ok else absent for ok, cell in zip(there, column, strict=True)]
                cells[field][k] = column
            plain = {*map(type, column)} == {np.ndarray}
            if not plain or {*map(attrgetter("dtype", "shape"), column)} != {(Cells.dtype, (size[k],))}:
                return None
        status[~np.array(there, bool)] |= np.uint32(Status[f"{xp.upper()}_MISSING"])
    found = {name: given[name].to_numpy(float) for name in numbers}
    relevant = None
    if truncation:
        stacked = np.stack([found[f"{xp}_n_relevant_bases"] for xp in DR3.xp], axis=1)
        known = (stacked >= 1) & (stacked <= DR3.n_basis) & (stacked == np.round(stacked))
        relevant = np.where(known, stacked, DR3.n_basis).astype(np.int32)
    value, error, correlation = (Cells(cells[field], size, LIMITS[field]) for field, size in sizes.items())
    coefficients: Any = (value, error, correlation, relevant, DR3)
    ids = given["source_id"].to_numpy(np.int64)
    return SourceTable(ids, XPCoefficients(*coefficients), status, found, "the DataFrame")
