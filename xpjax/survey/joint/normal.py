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
`DeviceRows` the same on one or several JAX devices, each of which has some of the stars.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import linalg, sparse

from xpjax.core import engine
from xpjax.core.linalg import dot

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
PROBE_ZERO = 1e-3
"""What is left of a random vector of length sqrt(p) where nothing is undetermined, at most."""


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

    def each(self, function: Callable[[int, slice, slice], Any], n_row: int = CHUNK) -> list[Any]:
        """function(number, slots, rows) of runs of stars with so many rows, in as many threads as there are cores."""
        jobs = [(i, chunk, self.rows(chunk)) for i, chunk in enumerate(self.chunks(n_row))]
        if len(jobs) == 1:
            return [function(*jobs[0])]
        return _threads(lambda job: function(*job), jobs)

    def times(self, inverse: np.ndarray, values: np.ndarray) -> np.ndarray:
        """inverse, (n_slot,) or (n_star, n_band, n_band), times values (n_slot,)."""
        if inverse.ndim == 1:
            return inverse * values
        return np.einsum("sij,sj->si", inverse, values.reshape(self.n_star, self.n_band)).ravel()


Preconditioner = Callable[[np.ndarray], np.ndarray]
"""An approximate R^-1 (p,) -> (p,), symmetric and positive."""


class Rows(Protocol):
    """What a solution asks of its rows, wherever they live; arrays (n,) are in the order of the sorted rows."""

    layout: Layout
    slots: Slots
    column: np.ndarray
    value: np.ndarray

    def predict(self, p: np.ndarray) -> np.ndarray:
        """A p (n,)."""

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of values (n,) in each slot (n_slot,)."""

    def adjoint(self, values: np.ndarray) -> np.ndarray:
        """A' values (n_column,)."""

    def operator(self, weight: np.ndarray, inverse: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """x -> (A'WA - B' D^-1 B) x."""

    def normal(self, weight: np.ndarray, inverse: np.ndarray, *, single: bool) -> tuple[np.ndarray, np.ndarray]:
        """A'WA - B' D^-1 B, dense, its upper triangle in Fortran order; and the diagonal of A'WA.

        single: float32 will do.
        """

    def diagonal(self, weight: np.ndarray) -> np.ndarray:
        """The diagonal of A'WA."""

    def replace(self, b: int, values: np.ndarray) -> None:
        """Give block b other values (n, width)."""


class HostRows:
    """Rows in memory: columns (n, k) and values (n, k), float64."""

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
        return _total(self.slots.each(lambda i, _, rows: self._transposed[i] @ values[rows]))

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
                first, last = slot[chunk.start] // m, slot[chunk.stop - 1] // m + 1
                whole = np.zeros((last - first) * m)
                whole[slot[chunk] - first * m] = s
                whole = np.einsum("sij,sj->si", inverse[first:last], whole.reshape(-1, m)).ravel()
                s = whole[slot[chunk] - first * m]
            s = np.repeat(s, self.slots.counts(chunk))
            s *= w
            t -= s
            return self._transposed[i] @ t

        return lambda x: _total(self.slots.each(functools.partial(one, x)))

    def normal(self, weight: np.ndarray, inverse: np.ndarray, *, single: bool) -> tuple[np.ndarray, np.ndarray]:
        """A'WA - B' D^-1 B and the diagonal of A'WA; see `Rows`."""
        p = self.layout.n_column
        matrix = np.zeros((p, p), order="F")
        for start in range(0, len(weight), HISTOGRAM_ROWS):
            self._add_histograms(matrix, slice(start, start + HISTOGRAM_ROWS), weight)
        diagonal = np.diagonal(matrix).copy()
        if single:
            matrix = matrix.astype(np.float32)
        root = _root(inverse)
        n_slot, counts = len(self.slots.slot), np.diff(self.slots.bounds) * float(self.column.shape[1])
        n_filled = np.minimum(counts, p)
        if (n_filled**2).sum() / SPARSE_PAIRS < n_slot * float(p) * p / DENSE_FLOPS:
            self._subtract_sparse(matrix, weight, root)
        else:
            self._subtract_dense(matrix, weight, root)
        return matrix, diagonal

    def _add_histograms(self, matrix: np.ndarray, rows: slice, weight: np.ndarray) -> None:
        """Add A'WA of some rows to the upper triangle."""
        layout, w = self.layout, weight[rows]
        n_block = len(layout.size)
        places = _threads(lambda b: _place(self, b, rows), range(n_block))

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

        _threads(one, itertools.combinations_with_replacement(range(n_block), 2))

    def _subtract_dense(self, matrix: np.ndarray, weight: np.ndarray, root: np.ndarray) -> None:
        """Subtract B' D^-1 B as (L'B)'(L'B), L L' = D^-1, some stars at a time."""
        layout, slots, m = self.layout, self.slots, self.slots.n_band
        per_slot = max(1.0, len(weight) / max(len(slots.slot), 1))
        syrk = linalg.blas.get_blas_funcs("syrk", (matrix,))
        for chunk in slots.chunks(int(max(DENSE_BYTES / (matrix.itemsize * layout.n_column), 1) * per_slot)):
            rows = self.slots.rows(chunk)
            first, last = slots.slot[chunk.start] // m, slots.slot[chunk.stop - 1] // m + 1
            local, n = slots.slot[chunk] - first * m, (last - first) * m
            of_row = np.repeat(local, self.slots.counts(chunk))
            dense = np.empty((n, layout.n_column), matrix.dtype)
            fill = functools.partial(self._fill, dense, rows, of_row, weight[rows])
            _threads(fill, range(len(layout.size)))
            if m == 1:
                dense *= root[first:last, None].astype(dense.dtype)
            else:
                shaped = dense.reshape(-1, m, layout.n_column)
                turned = np.swapaxes(root[first:last], 1, 2).astype(dense.dtype)
                dense = np.matmul(turned, shaped).reshape(n, -1)
            syrk(-1.0, dense.T, 1.0, matrix, overwrite_c=1)

    def _fill(self, dense: np.ndarray, rows: slice, slot: np.ndarray, weight: np.ndarray, b: int) -> None:
        """Put the columns of block b of B into dense (n, n_column), for rows of these slots (counted from zero)."""
        layout, n = self.layout, len(dense)
        index = slot * layout.size[b] + _place(self, b, rows)
        for k in range(layout.width[b]):
            sums = np.bincount(index, weight * self.value[rows, layout.first[b] + k], n * layout.size[b])
            dense[:, layout.columns(b)][:, k :: layout.width[b]] = sums.reshape(n, -1)

    def _subtract_sparse(self, matrix: np.ndarray, weight: np.ndarray, root: np.ndarray) -> None:
        """The same by sparse products, for stars that are seen a few times each."""
        slots, m, k = self.slots, self.slots.n_band, self.column.shape[1]
        for chunk in slots.chunks(HISTOGRAM_ROWS // 4):
            rows = self.slots.rows(chunk)
            first, last = slots.slot[chunk.start] // m, slots.slot[chunk.stop - 1] // m + 1
            of_row = np.repeat(np.repeat(slots.slot[chunk] - first * m, self.slots.counts(chunk)), k)
            entries = (weight[rows, None] * self.value[rows]).ravel()
            b = sparse.csr_array(
                (entries, (of_row, self.column[rows].ravel())), shape=((last - first) * m, self.layout.n_column)
            )
            b.sum_duplicates()
            if m == 1:
                left = sparse.diags_array(root[first:last])
            else:
                left = sparse.block_diag([r.T for r in root[first:last]], format="csr")
            b = left @ b
            matrix -= (b.T @ b).toarray(order="F")

    def diagonal(self, weight: np.ndarray) -> np.ndarray:
        """The diagonal of A'WA."""

        def one(_: int, __: slice, rows: slice) -> np.ndarray:
            entries = weight[rows, None] * self.value[rows] ** 2
            return np.bincount(self.column[rows].ravel(), entries.ravel(), self.layout.n_column)

        return _total(self.slots.each(one))

    def replace(self, b: int, values: np.ndarray) -> None:
        """Give block b other values (n, width)."""
        first = self.layout.first[b]
        self.value[:, first : first + self.layout.width[b]] = values


def _threads(function: Callable[[Any], Any], jobs: Iterable[Any]) -> list[Any]:
    """function of each job, in as many threads as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, jobs))


def _place(rows: Rows, b: int, some: slice) -> np.ndarray:
    """The place of block b that each of some rows belongs to, as indices for histograms."""
    place = rows.column[some, rows.layout.first[b]].astype(np.intp)
    place -= rows.layout.start[b]
    return place // rows.layout.width[b] if rows.layout.width[b] > 1 else place


def _diagonal_blocks(rows: Rows, weight: np.ndarray, inverse: np.ndarray) -> list[np.ndarray]:
    """Diagonal blocks (size, width, width) of R of each block of terms, as if stars were in each place once."""
    slots, layout = rows.slots, rows.layout
    own = inverse if inverse.ndim == 1 else np.diagonal(inverse, axis1=1, axis2=2).ravel()
    share = np.repeat(own[slots.slot], np.diff(slots.bounds))
    out = []
    for b in range(len(layout.size)):
        total = np.zeros((layout.size[b], layout.width[b], layout.width[b]))
        for start in range(0, len(weight), HISTOGRAM_ROWS):
            some = slice(start, start + HISTOGRAM_ROWS)
            w = weight[some] * (1 - weight[some] * share[some])
            place, first = _place(rows, b, some), layout.first[b]
            for j in range(layout.width[b]):
                wj = w * rows.value[some, first + j]
                for k in range(j, layout.width[b]):
                    total[:, j, k] += np.bincount(place, wj * rows.value[some, first + k], layout.size[b])
                    total[:, k, j] = total[:, j, k]
        out.append(total)
    return out


def block_preconditioner(
    rows: Rows, weight: np.ndarray, inverse: np.ndarray, precision: np.ndarray, diagonal: np.ndarray
) -> Preconditioner:
    """The inverses of the diagonal blocks of R, a block for each place of a term; diagonal (n_column,) of A'WA + P."""
    layout, inverses = rows.layout, []
    for b, made in enumerate(_diagonal_blocks(rows, weight, inverse)):
        width = layout.width[b]
        own, seen = (part[layout.columns(b)].reshape(-1, width) for part in (precision, diagonal))
        size = np.sqrt(np.where(seen > 0, seen, 1.0))
        scaled = (made + own[:, :, None] * np.eye(width)) / size[:, :, None] / size[:, None, :]
        value, vector = np.linalg.eigh(scaled)
        # Empty places, and combinations of which stars leave rounding alone, stay as they are.
        root = vector / np.sqrt(np.where(value > SINGULAR, value, 1.0))[:, None, :] / size[:, :, None]
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


def _total(parts: Sequence[np.ndarray]) -> np.ndarray:
    out = parts[0]
    for part in parts[1:]:
        out = out + part
    return out


def _root(inverse: np.ndarray) -> np.ndarray:
    """L of L L' = D^-1: (n_slot,), or (n_star, n_band, n_band), where a star that is left out has zeros."""
    if inverse.ndim == 1:
        return np.sqrt(inverse)
    values, vectors = np.linalg.eigh(inverse)
    return vectors * np.sqrt(np.maximum(values, 0))[:, None, :]


# --- on devices -------------------------------------------------------------------------------------------------------


class DeviceRows:
    """The same on JAX devices in float64: each part of the stars is padded to one size, each device has some parts."""

    def __init__(
        self,
        layout: Layout,
        slots: Slots,
        column: np.ndarray,
        value: np.ndarray,
        devices: Any = None,
        dense_bytes: int = 2 << 30,
    ) -> None:
        self.layout, self.slots, self.column, self.value = layout, slots, column, value
        chosen = engine.find_devices(devices)
        self._mesh = Mesh(np.array(chosen), (engine.AXIS,))
        self._sharding = NamedSharding(self._mesh, PartitionSpec(engine.AXIS))
        n_device = len(chosen)
        rounds = max(-(-slots.n_slot * layout.n_column * 8 // (dense_bytes * n_device)), 1)
        chunks = slots.chunks(-(-len(column) // (rounds * n_device)))
        self._bounds = [slice(int(slots.bounds[c.start]), int(slots.bounds[c.stop])) for c in chunks]
        m = slots.n_band
        self._stars = [slice(int(slots.slot[c.start]) // m, int(slots.slot[c.stop - 1]) // m + 1) for c in chunks]
        self._rounds = [slice(i, min(i + n_device, len(chunks))) for i in range(0, len(chunks), n_device)]
        self._n_device = n_device
        self._n_row = max(b.stop - b.start for b in self._bounds)
        self._n_star = max(s.stop - s.start for s in self._stars)
        counts = np.diff(slots.bounds)
        of_row = np.repeat(slots.slot, counts)
        local = [of_row[b] - s.start * m for b, s in zip(self._bounds, self._stars, strict=True)]
        self._kernels = _device_kernels(self._mesh, layout.n_column, self._n_star * m, m)
        self._column, self._value = self._split(column), self._split(value)
        self._slot = [
            self._put([local[i] for i in range(len(chunks))[part]], self._n_row, np.int32) for part in self._rounds
        ]

    def _put(self, parts: Sequence[np.ndarray], n: int, dtype: Any) -> jax.Array:
        """Arrays of one round, padded with zeros to n rows, one for each device."""
        shape = next(iter(parts)).shape[1:]
        out = np.zeros((self._n_device, n, *shape), dtype)
        for k, part in enumerate(parts):
            out[k, : len(part)] = part
        with engine.precision(True):
            return jax.device_put(out, self._sharding)

    def _split(self, values: np.ndarray) -> list[jax.Array]:
        dtype = np.int32 if values.dtype.kind in "iu" else np.float64
        return [self._put([values[b] for b in self._bounds[part]], self._n_row, dtype) for part in self._rounds]

    def _split_stars(self, inverse: np.ndarray) -> list[jax.Array]:
        shaped = inverse if inverse.ndim == 3 else inverse[:, None, None]
        return [self._put([shaped[s] for s in self._stars[part]], self._n_star, np.float64) for part in self._rounds]

    def _join(self, found: Sequence[jax.Array]) -> np.ndarray:
        """Rows of all rounds in one array, without padding."""
        parts = [np.asarray(a)[k, : b.stop - b.start] for a, p in zip(found, self._rounds, strict=True)
                 for k, b in enumerate(self._bounds[p])]  # fmt: skip
        return np.concatenate(parts)

    def _call(self, name: str, *arguments: Any) -> list[Any]:
        """A kernel on every round; arguments that are lists have an entry a round."""
        with engine.precision(True):
            return [
                self._kernels[name](*(a[k] if isinstance(a, list) else a for a in arguments))
                for k in range(len(self._rounds))
            ]

    def predict(self, p: np.ndarray) -> np.ndarray:
        """A p (n,)."""
        return self._join(self._call("predict", p, self._column, self._value))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum of values (n,) in each slot (n_slot,)."""
        found = self._call("sums", self._split(values), self._slot)
        out = np.zeros(self.slots.n_slot)
        m = self.slots.n_band
        for a, part in zip(found, self._rounds, strict=True):
            for k, star in enumerate(self._stars[part]):
                out[star.start * m : star.stop * m] = np.asarray(a)[k, : (star.stop - star.start) * m]
        return out

    def adjoint(self, values: np.ndarray) -> np.ndarray:
        """A' values (n_column,)."""
        return np.asarray(_total(self._call("adjoint", self._split(values), self._column, self._value)))

    def operator(self, weight: np.ndarray, inverse: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """x -> (A'WA - B' D^-1 B) x."""
        w, d = self._split(weight), self._split_stars(inverse)

        def apply(x: np.ndarray) -> np.ndarray:
            return np.asarray(_total(self._call("operator", x, w, d, self._slot, self._column, self._value)))

        return apply

    def normal(self, weight: np.ndarray, inverse: np.ndarray, *, single: bool) -> tuple[np.ndarray, np.ndarray]:
        """A'WA - B' D^-1 B and the diagonal of A'WA, always in float64; see `Rows`."""
        w, root = self._split(weight), self._split_stars(_root(inverse))
        found = self._call("normal", w, root, self._slot, self._column, self._value)
        return np.asfortranarray(np.asarray(_total(found))), self.diagonal(weight)

    def diagonal(self, weight: np.ndarray) -> np.ndarray:
        """The diagonal of A'WA."""
        with engine.precision(True):
            squares = [value**2 for value in self._value]
        return np.array(_total(self._call("adjoint", self._split(weight), self._column, squares)))

    def replace(self, b: int, values: np.ndarray) -> None:
        """Give block b other values (n, width)."""
        first = self.layout.first[b]
        self.value[:, first : first + self.layout.width[b]] = values
        new = self._split(values)
        with engine.precision(True):
            self._value = [
                old.at[:, :, first : first + self.layout.width[b]].set(made)
                for old, made in zip(self._value, new, strict=True)
            ]


@functools.lru_cache(maxsize=16)
def _device_kernels(mesh: Mesh, n_column: int, n_slot: int, m: int) -> dict[str, Callable[..., Any]]:
    """Jitted kernels of one round: arrays with the devices as their first axis; sums over devices where rows end."""
    k_star = n_slot // m

    def predict(p: Any, column: Any, value: Any) -> Any:
        """A p (n,)."""
        return jnp.sum(value * p[column], axis=1)

    def sums(values: Any, slot: Any) -> Any:
        """Sum of values (n,) in each slot (n_slot,)."""
        return jax.ops.segment_sum(values, slot, n_slot)

    def adjoint(values: Any, column: Any, value: Any) -> Any:
        """A' values (n_column,)."""
        whole = jnp.zeros(n_column, value.dtype).at[column].add(value * values[:, None])
        return jax.lax.psum(whole, engine.AXIS)

    def operator(x: Any, weight: Any, inverse: Any, slot: Any, column: Any, value: Any) -> Any:
        """x -> (A'WA - B' D^-1 B) x."""
        t = weight * predict(x, column, value)
        s = jnp.einsum("sij,sj->si", inverse, sums(t, slot).reshape(k_star, m), precision="highest").ravel()
        return adjoint(t - weight * s[slot], column, value)

    def normal(weight: Any, root: Any, slot: Any, column: Any, value: Any) -> Any:
        """A'WA - B' D^-1 B and the diagonal of A'WA; see `Rows`."""
        entry = weight[:, None] * value
        matrix = jnp.zeros((n_column, n_column), value.dtype)
        for j in range(column.shape[1]):
            matrix = matrix.at[column[:, j, None], column].add(entry[:, j, None] * value)
        dense = jnp.zeros((n_slot, n_column), value.dtype).at[slot[:, None], column].add(entry)
        dense = jnp.einsum("sji,sjp->sip", root, dense.reshape(k_star, m, n_column), precision="highest")
        dense = dense.reshape(n_slot, n_column)
        return jax.lax.psum(matrix - dot(dense.T, dense), engine.AXIS)

    rows, all_alike = PartitionSpec(engine.AXIS), PartitionSpec()

    def sharded(function: Callable[..., Any], shared: int, out: PartitionSpec) -> Callable[..., Any]:
        def one(*arguments: Any) -> Any:
            found = function(*arguments[:shared], *(a[0] for a in arguments[shared:]))
            return found[None] if out == rows else found

        def call(*arguments: Any) -> Any:
            specs = tuple(all_alike if i < shared else rows for i in range(len(arguments)))
            return jax.shard_map(one, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)(*arguments)

        return jax.jit(call)

    return {
        "predict": sharded(predict, 1, rows), "sums": sharded(sums, 0, rows),
        "adjoint": sharded(adjoint, 0, all_alike), "operator": sharded(operator, 1, all_alike),
        "normal": sharded(normal, 0, all_alike),
    }  # fmt: skip


# --- solving ----------------------------------------------------------------------------------------------------------


class NotDetermined(Exception):
    """Some combinations of columns are not determined: null (n_column, n_null), each with columns of scale one."""

    def __init__(self, null: np.ndarray) -> None:
        super().__init__(f"{null.shape[1]} combinations of columns are not determined")
        self.null = null


@dataclasses.dataclass(frozen=True)
class Factor:
    """The Cholesky factor of R scaled to a unit diagonal: R^-1 v = scale * solve(scale * v)."""

    lower: tuple[np.ndarray, bool]
    scale: np.ndarray

    def solve(self, right: np.ndarray) -> np.ndarray:
        """R^-1 right, for right (p,) or (p, k), in the precision of the factor."""
        scale = self.scale if right.ndim == 1 else self.scale[:, None]
        scaled = (scale * right).astype(self.lower[0].dtype)
        return scale * linalg.cho_solve(self.lower, scaled, check_finite=False)

    @property
    def single(self) -> bool:
        """Whether it is of float32: a preconditioner, no more."""
        return self.lower[0].dtype == np.float32


def factorise(matrix: np.ndarray, diagonal: np.ndarray) -> Factor:
    """Factor of R given by its upper triangle in Fortran order, which is overwritten.

    diagonal (p,): that of A'WA + P: what R would be scaled to if star magnitudes were known, so that scaled eigenvalues
    lie in 0..1 and say what part of the information is left. Columns without data have none and get ones.
    Raises NotDetermined, with the null space, where R is singular; in float32 LinAlgError.
    """
    empty = ~(diagonal > 0)
    scale = 1 / np.sqrt(np.where(empty, 1.0, diagonal))
    matrix *= scale[:, None]
    matrix *= scale
    matrix[empty, empty] = 1.0
    own = np.diagonal(matrix).copy()
    if matrix.dtype == np.float32:
        return Factor(linalg.cho_factor(matrix, lower=False, overwrite_a=True, check_finite=False), scale)
    _mirror(matrix)
    try:
        # LAPACK writes the upper triangle alone: the lower one keeps the matrix, should it be singular.
        factor, _ = linalg.cho_factor(matrix, lower=False, overwrite_a=True, check_finite=False)
        if linalg.lapack.dpocon(factor, 1.0, uplo="U")[0] > SINGULAR / 10:
            return Factor((factor, False), scale)
    except linalg.LinAlgError:
        pass
    lower = np.tril(matrix, -1)
    whole = lower + lower.T
    whole[np.diag_indices(len(whole))] = own
    null = null_space(whole)
    if not null.shape[1]:  # weak, but there: as far as rounding lets it
        return Factor(linalg.cho_factor(whole + 1e-14 * np.eye(len(whole))), scale)
    raise NotDetermined(null * scale[:, None])


def _mirror(matrix: np.ndarray, step: int = 512) -> None:
    """Copy the upper triangle of a Fortran-ordered matrix to the lower one, in place."""
    for i in range(0, len(matrix), step):
        block = slice(i, i + step)
        square = matrix[block, block]
        matrix[block, block] = np.triu(square) + np.triu(square, 1).T
        matrix[i + step :, block] = matrix[block, i + step :].T


def null_space(matrix: np.ndarray) -> np.ndarray:
    """Vectors (p, k) that span the null space of a scaled symmetric matrix (p, p), by inverse iteration."""
    p = len(matrix)
    factor = linalg.cho_factor(matrix + 1e-3 * SINGULAR * np.eye(p))
    rng, n = np.random.default_rng(0), 16
    while True:
        n = min(n, p)
        vectors = rng.normal(size=(p, n))
        for _ in range(3):
            vectors = linalg.qr(linalg.cho_solve(factor, vectors), mode="economic")[0]
        values, turn = linalg.eigh(vectors.T @ matrix @ vectors)
        zero = values < SINGULAR
        if not zero.all() or n == p:
            return vectors @ turn[:, zero]
        n *= 4


def probe_null_space(
    apply: Callable[[np.ndarray], np.ndarray],
    precondition: Preconditioner,
    scale: np.ndarray,
    *,
    tolerance: float = 1e-9,
) -> np.ndarray:
    """Vectors (p, k) that span the null space of R, which is known by its products alone.

    What conjugate gradients cannot find again of a random x, given R x, lies there: x less the solution. As many x as
    it takes until some combination of them has nothing left. scale (p,): 1 / sqrt(diagonal), zero for empty columns.
    """
    rng, n = np.random.default_rng(0), 8
    found = np.empty((len(scale), 0))
    while True:
        for _ in range(n - found.shape[1]):
            x = scale * rng.normal(size=len(scale))
            z = conjugate_gradients(apply, apply(x), precondition, tolerance=tolerance)[0]
            found = np.column_stack([found, x - z])
        weight = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)[:, None]
        vectors, size, _ = np.linalg.svd(found * weight, full_matrices=False)
        rank = int((size > PROBE_ZERO * max(size[0], 1.0)).sum())
        if rank < n or n >= len(scale):
            return vectors[:, :rank] * scale[:, None]
        n *= 2


def conjugate_gradients(
    apply: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
    precondition: Preconditioner,
    *,
    tolerance: float,
    max_steps: int = 2000,
) -> tuple[np.ndarray, int, bool]:
    """x with apply(x) = right, steps, and whether sqrt(r' precondition r) came below the tolerance.

    With a preconditioner near the inverse that root is how many standard deviations x is off by, all columns together.
    """
    x, residual = np.zeros_like(right), right.copy()
    z = precondition(residual)
    direction, rho = z.copy(), float(residual @ z)
    for step in range(max_steps):
        if rho <= tolerance**2:
            return x, step, True
        image = apply(direction)
        curvature = float(direction @ image)
        if not curvature > 0:
            return x, step, False
        alpha = rho / curvature
        x += alpha * direction
        residual -= alpha * image
        z = precondition(residual)
        new = float(residual @ z)
        direction = z + (new / rho) * direction
        rho = new
    return x, max_steps, False
