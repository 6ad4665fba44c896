"""The normal equations of new rows beside those of earlier ones (`information`), solved without forming them.

R is that of earlier rows and a little more, so that conjugate gradients need few steps with the earlier factor and,
for columns that only new rows have, their own block of R. What data leave open is found without R as well: null vectors
of R are null vectors of the earlier R with any of the new columns.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import linalg, sparse

from xpjax.core.errors import XpjaxError
from xpjax.survey.joint.equations import STALE, Equations
from xpjax.survey.joint.gauge import describe_null, refusal, unfixed
from xpjax.survey.joint.information import Information
from xpjax.survey.joint.normal import (
    DENSE_BYTES,
    SINGULAR,
    HostRows,
    Layout,
    Preconditioner,
    Slots,
    in_threads,
    root_of,
    sum_parts,
)


class ExtendedRows(HostRows):
    """New rows beside what is known of earlier ones: normal equations are those of both.

    kept (n,): rows that were not clipped before.
    """

    kept: np.ndarray

    def __init__(
        self, layout: Layout, slots: Slots, column: np.ndarray, value: np.ndarray, before: Information
    ) -> None:
        super().__init__(layout, slots, column, value)
        self.before = before
        self.design()

    def design(self) -> None:
        """Make A (n, n_column) of new rows, sparse, on the arrays of columns and values."""
        ends = np.arange(0, self.column.size + 1, self.column.shape[1], dtype=np.int32)
        self.matrix = sparse.csr_array(
            (self.value.reshape(-1), self.column.reshape(-1), ends), shape=(len(self.column), self.layout.n_column)
        )

    def replace(self, b: int, values: np.ndarray) -> None:
        """Give block b other values (n, width)."""
        super().replace(b, values)
        self.design()

    def count(self, some: np.ndarray) -> np.ndarray:
        """How many of some new rows, a mask (n,), and of earlier ones each column (n_column,) has."""
        return super().count(some) + self.before.rows

    def gram(self, weight: np.ndarray) -> np.ndarray:
        """A'WA, dense, its upper triangle in Fortran order."""
        return super().gram(weight) + np.asfortranarray(sparse.triu(self.before.gram).toarray())

    def own_cross(self, weight: np.ndarray) -> Any:
        """B (n_slot, n_column) of new rows, sparse."""
        return super().cross(weight, np.arange(self.slots.n_slot))

    def cross(self, weight: np.ndarray, wanted: np.ndarray) -> Any:
        """B (k, n_column), sparse."""
        return super().cross(weight, wanted) + self.before.cross[wanted]

    def operator(self, weight: np.ndarray, inverse: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """x -> (A'WA - B' D^-1 B) x."""
        gram, parts = self.before.gram, split(self.before.cross, os.cpu_count() or 1)
        own = self.own_cross(weight)

        def apply(x: np.ndarray) -> np.ndarray:
            sums = np.concatenate(in_threads(lambda part: part[1] @ x, parts)) + own @ x
            sums = self.slots.times(inverse, sums)
            out = self.matrix.T @ (weight * (self.matrix @ x)) + gram @ x - own.T @ sums
            return out - sum_parts(in_threads(lambda part: part[1].T @ sums[part[0]], parts))

        return apply

    def normal(self, weight: np.ndarray, inverse: np.ndarray, *, single: bool) -> tuple[np.ndarray, np.ndarray]:
        """A'WA - B' D^-1 B, dense, its upper triangle in Fortran order; and the diagonal of A'WA."""
        matrix = self.gram(weight)
        diagonal, root = np.diagonal(matrix).copy(), root_of(inverse)
        if single:
            matrix = matrix.astype(np.float32)
        cross, m = self.cross(weight, np.arange(self.slots.n_slot)), self.slots.n_band
        left = sparse.diags_array(root) if m == 1 else sparse.block_diag([one.T for one in root], format="csr")
        cross = (left @ cross).tocsr()
        step = max(DENSE_BYTES // (matrix.itemsize * len(matrix)), 1)
        syrk = linalg.blas.get_blas_funcs("syrk", (matrix,))
        for first in range(0, self.slots.n_slot, step):
            dense = cross[first : first + step].toarray().astype(matrix.dtype)
            matrix = syrk(-1.0, dense.T, 1.0, matrix, overwrite_c=1)
        return matrix, diagonal


def split(matrix: Any, n: int) -> list[tuple[slice, Any]]:
    """A sparse matrix as n runs of rows with about as many entries each, on its own arrays."""
    ends = np.searchsorted(matrix.indptr, np.linspace(0, matrix.indptr[-1], n + 1)[1:-1]).tolist()
    out = []
    for first, last in itertools.pairwise([0, *ends, matrix.shape[0]]):
        bounds = matrix.indptr[first : last + 1]
        mine = slice(int(bounds[0]), int(bounds[-1]))
        part = matrix.data[mine], matrix.indices[mine], bounds - bounds[0]
        out.append((slice(first, last), sparse.csr_array(part, shape=(last - first, matrix.shape[1]), copy=False)))
    return out


class ExtendedEquations(Equations):
    """R dp = right for the weights of new rows, beside earlier ones; see the module."""

    rows: ExtendedRows
    start: Preconditioner
    """The columns that only new rows have, at earlier values of all others and without constraints."""

    def prepare(self) -> tuple[str, ...]:
        """Make the preconditioner, find and name what constraints decide. Raises XpjaxError for what nothing does."""
        rows, before, precision = self.rows, self.rows.before, self.columns.precision
        design = rows.matrix
        gram = (design.T @ sparse.diags_array(self.weight) @ design).tocsr()
        self.set_stiffness(before.gram.diagonal() + gram.diagonal() + precision)
        fresh = np.flatnonzero((before.gram.diagonal() == 0) & (self.diagonal > 0))
        cross, inverse = rows.own_cross(self.weight), self._inverse()
        own = cross[:, fresh]
        block = (gram[:, fresh][fresh] - own.T @ (inverse @ own)).toarray() + np.diag(precision[fresh])
        self._find_null(fresh, gram, cross, inverse, block)
        self._precondition(fresh, block, self.stiff[:, fresh])
        scale = np.where(self.diagonal > 0, self.diagonal, 1.0)
        if (free := unfixed(self.null, self.stiff)).shape[1]:
            raise XpjaxError(refusal(describe_null(free, self.columns.blocks, scale)))
        return tuple(describe_null(self.null, self.columns.blocks, scale))

    def refresh(self, steps: int) -> None:
        """Form R and its factor where conjugate gradients took too many steps."""
        if steps > STALE:
            self.factorize(single=False)

    def _inverse(self) -> Any:
        """D^-1 (n_slot, n_slot), sparse."""
        if self.inverse.ndim == 1:
            return sparse.diags_array(self.inverse)
        n, m = self.inverse.shape[:2]
        return sparse.bsr_array((self.inverse, np.arange(n), np.arange(n + 1)), shape=(n * m, n * m)).tocsr()

    def _find_null(self, fresh: np.ndarray, gram: Any, cross: Any, inverse: Any, block: np.ndarray) -> None:
        """Null vectors (n_column, k) of R: of E' R E, E = [earlier null vectors, unit vectors of new columns]."""
        before, k = self.rows.before, self.rows.before.null.shape[1]
        null, precision, own = before.null, self.columns.precision, cross[:, fresh]
        image = before.null_gram + gram @ null + precision[:, None] * null
        sums = before.null_cross + cross @ null
        small = np.empty((k + len(fresh),) * 2)
        small[:k, :k] = null.T @ image - sums.T @ (inverse @ sums)
        small[k:, :k] = image[fresh] - own.T @ (inverse @ sums)
        small[:k, k:], small[k:, k:] = small[k:, :k].T, block
        size = np.concatenate([np.einsum("ij,ij->j", null, image), self.diagonal[fresh]])
        scale = 1 / np.sqrt(np.where(size > 0, size, 1.0))
        values, vectors = np.linalg.eigh(small * scale[:, None] * scale)
        found = scale[:, None] * vectors[:, values < SINGULAR]
        self.null = null @ found[:k]
        self.null[fresh] += found[k:]

    def _precondition(self, fresh: np.ndarray, block: np.ndarray, stiff: np.ndarray) -> None:
        """The earlier factor for columns of earlier rows, the inverse of their block for new ones.

        block (n_fresh, n_fresh) of new columns; stiff (n_equation, n_fresh): constraints.
        """
        before, self.factor = self.rows.before, None
        alone, both = _root(block), _root(block + stiff.T @ stiff)

        def start(right: np.ndarray) -> np.ndarray:
            out = np.zeros_like(right)
            out[fresh] = alone @ (alone.T @ right[fresh])
            return out

        def apply(right: np.ndarray) -> np.ndarray:
            out = np.zeros_like(right)
            out[before.place] = before.factor.solve(right[before.place])
            out[fresh] = both @ (both.T @ right[fresh])
            return out

        self.start, self.precondition = start, apply


def _root(matrix: np.ndarray) -> np.ndarray:
    """L of L L' = the pseudo-inverse of a symmetric matrix."""
    size = 1 / np.sqrt(np.maximum(np.diagonal(matrix), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(matrix * size[:, None] * size)
    good = values > SINGULAR
    return size[:, None] * vectors[:, good] / np.sqrt(values[good])
