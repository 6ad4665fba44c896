"""The reduced normal equations of a joint solution: star magnitudes are eliminated exactly, the terms' columns stay.

Row i measures, in slot s (a star in a band), y_i + a_i p = M_s with weight w_i; p are the columns of all terms, a_i is
sparse. With S the rows of each slot, W = diag(w), C the prior covariance of the bands of each star, P of the columns:

    D = S'WS + C^-1,   M = D^-1 (S'W (y + A p) + C^-1 x),   B = S'WA
    R = A'WA + P - B' D^-1 B,   R dp = -A'W (y + A p - M) - P (p - mean)

D is diagonal, or has a block of bands by bands for each star whose prior couples them. R is formed once by histograms
(A'WA) and a symmetric rank-k update, or sparse products where stars are seen seldom (B' D^-1 B); later weights are met
by conjugate gradients with its Cholesky factor as the preconditioner. Where R is too large it is never formed: R x is
two sparse products and a segmented sum, and the diagonal blocks of the terms are the preconditioner.

Rows are sorted by star and worked on in chunks of whole stars: each fits the cache. `HostRows` is NumPy and SciPy,
`devices.DeviceRows` the same on one or several JAX devices, each of which has some of the stars.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy import linalg, sparse

CHUNK = 150_000
"""Rows of a chunk: 12 MB of columns and values."""
HISTOGRAM_ROWS = 2_000_000
"""Rows of one histogram, so that its table of blocks by blocks is small beside them."""
DENSE_BYTES = 64 << 20
"""Of the dense rows of B that one rank-k update takes."""
DENSE_FLOPS, SPARSE_PAIRS = 6e10, 1e8
"""A second of a rank-k update, and of a sparse product: which of both is quicker."""
SINGULAR = 1e-9
"""Scaled eigenvalues below this are zero."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the blocks of terms have their columns: block b has size[b] places of width[b] columns from start[b] on."""

    start: tuple[int, ...]
    width: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def n_column(self) -> int:
        """Columns in all."""
        return sum(w * n for w, n in zip(self.width, self.size, strict=True))

    @property
    def first(self) -> tuple[int, ...]:
        """Of each block, its first entry in a row's list of columns."""
        return tuple(np.cumsum([0, *self.width])[:-1].tolist())

    def columns(self, b: int) -> slice:
        """The columns of block b."""
        return slice(self.start[b], self.start[b] + self.width[b] * self.size[b])


@dataclasses.dataclass(frozen=True)
class Slots:
    """Rows by slot: those of filled slot k (number slot[k] = star * n_band + band) are bounds[k]..bounds[k + 1].

    n_band is 1 where no prior couples bands: every star in a band is then a star of its own.
    """

    bounds: np.ndarray
    slot: np.ndarray
    n_star: int
    n_band: int

    @property
    def n_slot(self) -> int:
        """Slots in all, empty ones too."""
        return self.n_star * self.n_band

    def chunks(self, n_row: int) -> list[slice]:
        """Runs of filled slots of whole stars with at least so many rows each."""
        star = self.slot // self.n_band
        ends = np.flatnonzero(np.diff(star, append=-1)) + 1
        out, first = [], 0
        rows = self.bounds[ends]
        while first < len(self.slot):
            k = int(np.searchsorted(rows, self.bounds[first] + n_row))
            last = int(ends[min(k, len(ends) - 1)])
            out.append(slice(first, last))
            first = last
        return out

    def rows(self, chunk: slice) -> slice:
        """The rows of a run of filled slots."""
        return slice(int(self.bounds[chunk.start]), int(self.bounds[chunk.stop]))

    def counts(self, chunk: slice) -> np.ndarray:
        """Rows of each filled slot of a run."""
        return np.diff(self.bounds[chunk.start : chunk.stop + 1])

    def starts(self, chunk: slice) -> np.ndarray:
        """First row of each filled slot, counted within the run."""
        return self.bounds[chunk] - self.bounds[chunk.start]

    def stars(self, chunk: slice) -> slice:
        """The stars of a run of filled slots."""
        return slice(int(self.slot[chunk.start]) // self.n_band, int(self.slot[chunk.stop - 1]) // self.n_band + 1)

    def of_rows(self, values: np.ndarray) -> np.ndarray:
        """Values (n_slot,) of slots as those (n,) of their rows."""
        return np.repeat(values[self.slot], np.diff(self.bounds))

    @property
    def row_slot(self) -> np.ndarray:
        """The slot (n,) of each row."""
        return np.repeat(self.slot, np.diff(self.bounds))

    def each(self, function: Callable[[int, slice, slice], Any], n_row: int = CHUNK) -> list[Any]:
        """function(number, slots, rows) of runs of stars with so many rows, in as many threads as there are cores."""
        jobs = [(i, chunk, self.rows(chunk)) for i, chunk in enumerate(self.chunks(n_row))]
        if len(jobs) == 1:
            return [function(*jobs[0])]
        return in_threads(lambda job: function(*job), jobs)

    def times(self, inverse: np.ndarray, values: np.ndarray) -> np.ndarray:
        """inverse, (n_slot,) or (n_star, n_band, n_band), times values (n_slot,)."""
        if inverse.ndim == 1:
            return inverse * values
        return np.einsum("sij,sj->si", inverse, values.reshape(self.n_star, self.n_band)).ravel()


Preconditioner = Callable[[np.ndarray], np.ndarray]
"""An approximate R^-1 (p,) -> (p,), symmetric and positive."""


class HostRows:
    """Rows in memory: columns (n, k) and values (n, k), float64; arrays (n,) are in the order of the sorted rows."""

    def __init__(self, layout: Layout, slots: Slots, column: np.ndarray, value: np.ndarray) -> None:
        self.layout, self.slots, self.column, self.value = layout, slots, column, value
        self._matrices, self._transposed = [], []
        for chunk in slots.chunks(CHUNK):
            rows = slots.rows(chunk)
            n, k = rows.stop - rows.start, column.shape[1]
            ends = np.arange(0, n * k + 1, k, dtype=np.int32)
            parts = value[rows].reshape(-1), column[rows].reshape(-1), ends
            self._matrices.append(_shared(sparse.csr_array((n, layout.n_column)), *parts))
            self._transposed.append(_shared(sparse.csc_array((layout.n_column, n)), *parts))

    def copy(self) -> HostRows:
        """The same with values of its own, for `replace`."""
        return HostRows(self.layout, self.slots, self.column, self.value.copy())

    def predict(self, p: np.ndarray) -> np.ndarray:
        """A p (n,)."""
        out = np.empty(len(self.column))

        def one(i: int, _: slice, rows: slice) -> None:
            out[rows] = self._matrices[i] @ p

        self.slots.each(one)
        return out

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of values (n,) in each slot (n_slot,)."""
        out = np.zeros(self.slots.n_slot)

        def one(_: int, chunk: slice, rows: slice) -> None:
            out[self.slots.slot[chunk]] = np.add.reduceat(values[rows], self.slots.starts(chunk))

        self.slots.each(one)
        return out

    def adjoint(self, values: np.ndarray) -> np.ndarray:
        """A' values (n_column,)."""
        return sum_parts(self.slots.each(lambda i, _, rows: self._transposed[i] @ values[rows]))

    def operator(self, weight: np.ndarray, inverse: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """x -> (A'WA - B' D^-1 B) x."""
        m, slot = self.slots.n_band, self.slots.slot

        def one(x: np.ndarray, i: int, chunk: slice, rows: slice) -> np.ndarray:
            w = weight[rows]
            t = self._matrices[i] @ x
            t *= w
            s = np.add.reduceat(t, self.slots.starts(chunk))
            if m == 1:
                s *= inverse[slot[chunk]]
            else:  # a chunk has whole stars
                stars = self.slots.stars(chunk)
                local = slot[chunk] - stars.start * m
                whole = np.zeros((stars.stop - stars.start) * m)
                whole[local] = s
                s = np.einsum("sij,sj->si", inverse[stars], whole.reshape(-1, m)).ravel()[local]
            s = np.repeat(s, self.slots.counts(chunk))
            s *= w
            t -= s
            return self._transposed[i] @ t

        return lambda x: sum_parts(self.slots.each(functools.partial(one, x)))

    def normal(self, weight: np.ndarray, inverse: np.ndarray, *, single: bool) -> tuple[np.ndarray, np.ndarray]:
        """A'WA - B' D^-1 B, dense, its upper triangle in Fortran order; and the diagonal of A'WA.

        single: float32 will do.
        """
        p, matrix = self.layout.n_column, self.gram(weight)
        diagonal = np.diagonal(matrix).copy()
        if single:
            matrix = matrix.astype(np.float32)
        root = root_of(inverse)
        n_slot, counts = len(self.slots.slot), np.diff(self.slots.bounds) * float(self.column.shape[1])
        n_filled = np.minimum(counts, p)
        if (n_filled**2).sum() / SPARSE_PAIRS < n_slot * float(p) * p / DENSE_FLOPS:
            self._subtract_sparse(matrix, weight, root)
        else:
            self._subtract_dense(matrix, weight, root)
        return matrix, diagonal

    def count(self, some: np.ndarray) -> np.ndarray:
        """How many of some rows, a mask (n,), each column (n_column,) has."""
        columns, n = self.column if some.all() else self.column[some], self.layout.n_column
        return np.sum([np.bincount(columns[:, k], minlength=n) for k in range(columns.shape[1])], axis=0)

    def gram(self, weight: np.ndarray) -> np.ndarray:
        """A'WA, dense, its upper triangle in Fortran order."""
        matrix = np.zeros((self.layout.n_column,) * 2, order="F")
        for start in range(0, len(weight), HISTOGRAM_ROWS):
            self._add_histograms(matrix, slice(start, start + HISTOGRAM_ROWS), weight)
        return matrix

    def cross(self, weight: np.ndarray, wanted: np.ndarray) -> Any:
        """B (k, n_column), sparse: S'WA of slots (k,) by their numbers."""
        slots, width = self.slots, self.column.shape[1]
        if not len(slots.slot):
            return sparse.csr_array((len(wanted), self.layout.n_column))
        place = np.minimum(np.searchsorted(slots.slot, wanted), len(slots.slot) - 1)
        counts = np.where(slots.slot[place] == wanted, np.diff(slots.bounds)[place], 0)
        ends = np.cumsum(counts)
        rows = np.repeat(slots.bounds[place] - ends + counts, counts) + np.arange(ends[-1] if len(ends) else 0)
        entries = (weight[rows, None] * self.value[rows]).ravel()
        bounds = np.append(0, ends * width)
        out = sparse.csr_array((entries, self.column[rows].ravel(), bounds), shape=(len(wanted), self.layout.n_column))
        out.sum_duplicates()
        return out

    def _add_histograms(self, matrix: np.ndarray, rows: slice, weight: np.ndarray) -> None:
        """Add A'WA of some rows to the upper triangle."""
        layout, w = self.layout, weight[rows]
        n_block = len(layout.size)
        places = in_threads(lambda b: place_of(self, b, rows), range(n_block))

        def one(pair: tuple[int, int]) -> None:
            a, b = pair
            same = a == b
            index = places[a] if same else places[a] * layout.size[b] + places[b]
            for j in range(layout.width[a]):
                wj = w * self.value[rows, layout.first[a] + j]
                for k in range(j if same else 0, layout.width[b]):
                    entries = wj * self.value[rows, layout.first[b] + k]
                    n = layout.size[a] * (1 if same else layout.size[b])
                    sums = np.bincount(index, entries, n)
                    if same:
                        diagonal = layout.start[a] + np.arange(layout.size[a]) * layout.width[a]
                        matrix[diagonal + j, diagonal + k] += sums
                    else:
                        left, right = matrix[layout.columns(a)][j :: layout.width[a]], layout.columns(b)
                        left[:, right][:, k :: layout.width[b]] += sums.reshape(layout.size[a], layout.size[b])

        in_threads(one, itertools.combinations_with_replacement(range(n_block), 2))

    def _subtract_dense(self, matrix: np.ndarray, weight: np.ndarray, root: np.ndarray) -> None:
        """Subtract B' D^-1 B as (L'B)'(L'B), L L' = D^-1, some stars at a time."""
        layout, slots, m = self.layout, self.slots, self.slots.n_band
        per_slot = max(1.0, len(weight) / max(len(slots.slot), 1))
        syrk = linalg.blas.get_blas_funcs("syrk", (matrix,))
        for chunk in slots.chunks(int(max(DENSE_BYTES / (matrix.itemsize * layout.n_column), 1) * per_slot)):
            rows = self.slots.rows(chunk)
            stars = slots.stars(chunk)
            n = (stars.stop - stars.start) * m
            of_row = np.repeat(slots.slot[chunk] - stars.start * m, slots.counts(chunk))
            dense = np.empty((n, layout.n_column), matrix.dtype)
            fill = functools.partial(self._fill, dense, rows, of_row, weight[rows])
            in_threads(fill, range(len(layout.size)))
            if m == 1:
                dense *= root[stars, None].astype(dense.dtype)
            else:
                shaped = dense.reshape(-1, m, layout.n_column)
                turned = np.swapaxes(root[stars], 1, 2).astype(dense.dtype)
                dense = np.matmul(turned, shaped).reshape(n, -1)
            syrk(-1.0, dense.T, 1.0, matrix, overwrite_c=1)

    def _fill(self, dense: np.ndarray, rows: slice, slot: np.ndarray, weight: np.ndarray, b: int) -> None:
        """Put the columns of block b of B into dense (n, n_column), for rows of these slots (counted from zero)."""
        layout, n = self.layout, len(dense)
        index = slot * layout.size[b] + place_of(self, b, rows)
        for k in range(layout.width[b]):
            sums = np.bincount(index, weight * self.value[rows, layout.first[b] + k], n * layout.size[b])
            dense[:, layout.columns(b)][:, k :: layout.width[b]] = sums.reshape(n, -1)

    def _subtract_sparse(self, matrix: np.ndarray, weight: np.ndarray, root: np.ndarray) -> None:
        """The same by sparse products, for stars that are seen a few times each."""
        slots, m, k = self.slots, self.slots.n_band, self.column.shape[1]
        for chunk in slots.chunks(HISTOGRAM_ROWS // 4):
            rows = self.slots.rows(chunk)
            stars = slots.stars(chunk)
            of_row = np.repeat(np.repeat(slots.slot[chunk] - stars.start * m, slots.counts(chunk)), k)
            entries = (weight[rows, None] * self.value[rows]).ravel()
            shape = (stars.stop - stars.start) * m, self.layout.n_column
            b = sparse.csr_array((entries, (of_row, self.column[rows].ravel())), shape=shape)
            b.sum_duplicates()
            if m == 1:
                left = sparse.diags_array(root[stars])
            else:
                left = sparse.block_diag([r.T for r in root[stars]], format="csr")
            b = left @ b
            matrix -= (b.T @ b).toarray(order="F")

    def diagonal(self, weight: np.ndarray) -> np.ndarray:
        """The diagonal of A'WA."""

        def one(_: int, __: slice, rows: slice) -> np.ndarray:
            entries = weight[rows, None] * self.value[rows] ** 2
            return np.bincount(self.column[rows].ravel(), entries.ravel(), self.layout.n_column)

        return sum_parts(self.slots.each(one))

    def replace(self, b: int, values: np.ndarray) -> None:
        """Give block b other values (n, width)."""
        first = self.layout.first[b]
        self.value[:, first : first + self.layout.width[b]] = values


def in_threads(function: Callable[[Any], Any], jobs: Iterable[Any]) -> list[Any]:
    """function of each job, in as many threads as there are cores; those threads do their own jobs one by one."""
    if getattr(_HERE, "is_worker", False):
        return [function(job) for job in jobs]
    return list(_pool().map(function, jobs))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """Threads that stay: starting them takes longer than the products of a night."""

    def begin() -> None:
        _HERE.is_worker = True

    return ThreadPoolExecutor(os.cpu_count(), "xpjax-joint", begin)


_HERE = threading.local()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads are not in a child


def place_of(rows: HostRows, b: int, some: slice) -> np.ndarray:
    """The place of block b that each of some rows belongs to, as indices for histograms."""
    place = rows.column[some, rows.layout.first[b]].astype(np.intp)
    place -= rows.layout.start[b]
    return place // rows.layout.width[b] if rows.layout.width[b] > 1 else place


def block_preconditioner(
    rows: HostRows, weight: np.ndarray, inverse: np.ndarray, precision: np.ndarray, diagonal: np.ndarray
) -> Preconditioner:
    """The inverses of the diagonal blocks of R, a block for each place of a term; diagonal (n_column,) of A'WA + P.

    Blocks are those that R has if stars are in each place once.
    """
    layout, inverses, share = rows.layout, [], rows.slots.of_rows(diagonal_of(inverse))
    for b, (size, width, first) in enumerate(zip(layout.size, layout.width, layout.first, strict=True)):
        made = np.zeros((size, width, width))
        for start in range(0, len(weight), HISTOGRAM_ROWS):
            some = slice(start, start + HISTOGRAM_ROWS)
            w = weight[some] * (1 - weight[some] * share[some])
            place = place_of(rows, b, some)
            for j, k in itertools.combinations_with_replacement(range(width), 2):
                entries = w * rows.value[some, first + j] * rows.value[some, first + k]
                made[:, j, k] += np.bincount(place, entries, size)
                made[:, k, j] = made[:, j, k]
        own, seen = (part[layout.columns(b)].reshape(-1, width) for part in (precision, diagonal))
        scale = np.sqrt(np.where(seen > 0, seen, 1.0))
        scaled = (made + own[:, :, None] * np.eye(width)) / scale[:, :, None] / scale[:, None, :]
        value, vector = np.linalg.eigh(scaled)
        # Empty places, and combinations of which stars leave rounding alone, stay as they are.
        root = vector / np.sqrt(np.where(value > SINGULAR, value, 1.0))[:, None, :] / scale[:, :, None]
        inverses.append(root @ np.swapaxes(root, 1, 2))

    def apply(right: np.ndarray) -> np.ndarray:
        out = np.empty_like(right)
        for b, one in enumerate(inverses):
            part = right[layout.columns(b)].reshape(-1, layout.width[b])
            out[layout.columns(b)] = np.einsum("pij,pj->pi", one, part).ravel()
        return np.where(diagonal > 0, out, 0.0)

    return apply


def _shared(matrix: Any, data: np.ndarray, indices: np.ndarray, ends: np.ndarray) -> Any:
    """A sparse matrix on these very arrays: SciPy's constructors, and transposes, would copy them."""
    matrix.data, matrix.indices, matrix.indptr = data, indices, ends
    return matrix


def sum_parts(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of arrays, in their order."""
    return sum(parts[1:], start=parts[0])


def diagonal_of(matrix: np.ndarray) -> np.ndarray:
    """The diagonal (n_slot,) of a matrix kept as one, or as blocks (n_star, n_band, n_band)."""
    return matrix if matrix.ndim == 1 else np.diagonal(matrix, axis1=1, axis2=2).ravel()


def root_of(inverse: np.ndarray) -> np.ndarray:
    """L of L L' = D^-1: (n_slot,), or (n_star, n_band, n_band), where a star that is left out has zeros."""
    if inverse.ndim == 1:
        return np.sqrt(inverse)
    values, vectors = np.linalg.eigh(inverse)
    return vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
