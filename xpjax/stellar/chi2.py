"""chi2 of one star's normalized data, whose errors are independent, or correlated as the noise of its coefficients is.

Samples of a spectrum see the noise of its coefficients, and what is added to it sample by sample: their covariance is
C = F + B'KB, with F diagonal, B the rows that sample the coefficients and K = LL' their covariance. By Woodbury's
identity

    r' C^-1 r = r' F^-1 r - y'y,    y = (1 + L'SL)^-1/2 L' B F^-1 r,    S = B F^-1 B':

data and models are lengthened by their y, which have the weight -1. All stars have one B, so that S, B F^-1 G' and
G F^-1 G' of all are products of their weights with products of rows that are made once. BP and RP meet in few samples:
their matrices are decomposed one after the other, the second without what the first sees of it. Where F is small the
two terms cancel: this takes float64.

What models and instrument are wrong by in all stars alike, A'A of few templates A, adds to any covariance. With
z = (1 + A W A')^-1 A W r for each row of data and models,

    r' (W^-1 + A'A)^-1 r = (r - A'z)' W (r - A'z) + z'z

for residuals r, and the first term's gradient alone is that of both. No large terms cancel here, and an error of z
counts in second order: float32 will do. z'z is the part of chi2, and of what is known of labels, that is common.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.linalg import IN_BOUNDS, dot, triangle_index, unpack
from xpjax.core.records import AnyArray
from xpjax.xp import XPCoefficients, covariance, masked, reduced, usable

BLOCK = 16
"""Size of the blocks in which matrices are decomposed: the best of 6..23 on a CPU, and little to compile."""
NEGLIGIBLE, IMPOSSIBLE = 1e-9, -0.01
"""Pivots of correlation matrices: below the first no noise is left; rounding alone makes none of the second."""


class Part(NamedTuple):
    """Some of the data (n,), rows (n_column, n) that model them, their weights (n,), and rows of common errors.

    templates (n_template, n): of errors common to stars.
    """

    value: Array
    rows: AnyArray
    weight: Array
    templates: Array | None = None


class Data(NamedTuple):
    """Parts of the data of one star: chi2 = sum weight (value - t rows)^2 without errors common to stars.

    square, inverse (n_template, n_template): 1 + A W A' where there are such errors, and its inverse.
    """

    parts: tuple[Part, ...]
    square: Array | None = None
    inverse: Array | None = None

    def freed(self, of: Callable[[Part], Array]) -> tuple[list[Array], Array | None]:
        """Residuals (..., n) of each part without what is common to stars, and how much of each template that is."""
        left = [of(part) for part in self.parts]
        if self.inverse is None:
            return left, None
        templates = [jnp.asarray(part.templates) for part in self.parts]
        whole = _sum(dot(r * p.weight, a.T) for r, p, a in zip(left, self.parts, templates, strict=True))
        z = dot(whole, self.inverse)
        return [r - dot(z, a) for r, a in zip(left, templates, strict=True)], z

    def chi2(self, t: Array) -> Array:
        """The sum of squared residuals of a model."""
        left, z = self.freed(lambda part: part.value - dot(t, part.rows))
        own = _sum(jnp.sum(part.weight * r**2) for r, part in zip(left, self.parts, strict=True))
        return own if z is None else own + jnp.sum(z**2)

    def gradient(self, t: Array) -> Array:
        """G'W(O - G t), with the weights W of all errors."""
        return self._against(lambda part: part.value - dot(t, part.rows))

    def product(self) -> Array:
        """G'WO, with the weights W of all errors."""
        return self._against(lambda part: part.value)

    def _against(self, of: Callable[[Part], Array]) -> Array:
        left = self.freed(of)[0]
        return _sum(dot(p.weight * r, p.rows.T) for r, p in zip(left, self.parts, strict=True))

    def expected(self, spread: Spread, share: Array, t: Array, rows: Array, inverse: Array) -> Array:
        """chi2 that noise and what is common let expect, less the part that parameters take.

        spread: of one star, over its mean: a sum of samples times share (n,). t (n_column,) and rows (m, n_column): the
        model, and its changes with parameters, whose covariance is inverse (m, m). tr(S N) - tr(inverse U N U'),
        U = G S, with the weights S of all errors and the covariance N of noise and what is common: errors that hold
        more than these are not counted.
        """
        (part,) = self.parts
        gray, first, out = dot(t, part.rows), 0, jnp.zeros((), part.weight.dtype)
        (left,), shared = self.freed(lambda part: dot(rows, part.rows))
        taken = part.weight * left
        common = None if self.inverse is None else part.weight * jnp.asarray(part.templates)
        if self.inverse is not None and shared is not None:  # which are U A'
            out += len(self.inverse) - jnp.trace(self.inverse) - traced(inverse, shared)
        whole = dot(part.weight, gray**2)
        for matrix, (i, j) in zip(spread.reach.matrix, spread.reach.support, strict=True):
            error = spread.error[first : first + len(matrix)]
            first += len(matrix)
            # What is normalized by its mean has no noise there.
            mean, weight = dot(matrix, share[i:j]), part.weight[i:j]
            own = dot(matrix**2, weight) - 2 * mean * dot(matrix, weight * gray[i:j]) + mean**2 * whole
            out += dot(error**2, own)
            out -= traced(inverse, _met_by(taken, i, j, matrix, gray, mean) * error)
            if common is not None and self.inverse is not None and self.square is not None:
                y = _met_by(common, i, j, matrix, gray, mean) * error
                z = dot(self.inverse, y)  # whose errors count in second order so: the inverse's are large in float32
                out -= jnp.sum(z * (2 * y - dot(self.square, z)))
        return out

    def noise(self, rows: Array) -> Array:
        """The squares of weights (m, n_column) of models, as they count in the noise, and not in what is common."""
        left = self.freed(lambda part: dot(rows, part.rows))[0]
        return _sum(jnp.sum(r**2 * p.weight, axis=1) for r, p in zip(left, self.parts, strict=True))

    def widened(self, matrix: Array, across: Array | None = None, own: Array | None = None) -> tuple[Data, Array]:
        """Data whose errors are wider by their templates, and their G'WG: with G'WG before, A W G' and A W A'."""
        if across is None or own is None:
            weighted = [jnp.asarray(part.templates) * part.weight for part in self.parts]
            across = _sum(dot(w, p.rows.T) for w, p in zip(weighted, self.parts, strict=True))
            own = _sum(dot(w, jnp.asarray(p.templates).T) for w, p in zip(weighted, self.parts, strict=True))
        one = jnp.eye(len(across), dtype=matrix.dtype)
        made = divided_by_root(one + own, jnp.concatenate([across, one], axis=1))
        y, root = made[:, : across.shape[1]], made[:, across.shape[1] :]
        return self._replace(square=one + own, inverse=dot(root.T, root)), matrix - dot(y.T, y)


def _met_by(left: Array, i: int, j: int, matrix: AnyArray, gray: Array, mean: Array) -> Array:
    """Products (m, p) of rows left (m, n) with rows (p, j - i) on some samples, less their means (p,) times gray."""
    return dot(left[:, i:j], jnp.asarray(matrix).T) - dot(left, gray)[:, None] * mean


def traced(matrix: Array, columns: Array) -> Array:
    """The trace of C' matrix C, of columns C (m, k)."""
    return jnp.sum(columns * dot(matrix, columns))


def _sum(arrays: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, arrays)


class Reach(eqx.Module):
    """How the noise of coefficients reaches the samples of spectra: a matrix B (p, n of its samples) for each XP.

    support: the samples [start, stop) of each XP. Rows are of the coefficients, or of their subspace where covariances
    are compact.
    """

    matrix: tuple[Float[AnyArray, "p n_seen"], ...]
    support: tuple[tuple[int, int], ...] = eqx.field(static=True)


class Seen(eqx.Module):
    """A reach with products of the rows of each XP, sample by sample: with each other, and with columns of models."""

    reach: Reach
    square: tuple[Float[AnyArray, "n_seen p_triangle"], ...]
    by_column: tuple[Float[AnyArray, "n_seen p_times_column"], ...]


def seen_with(reach: Reach, columns: np.ndarray) -> Seen:
    """The products of a reach, with the columns (n_column, n) of models too, on the host."""
    matrix, by_column = [np.asarray(b, float) for b in reach.matrix], []
    square = [np.ascontiguousarray((b[i] * b[j]).T) for b in matrix for i, j in [triangle_index(len(b))]]
    for b, (start, stop) in zip(matrix, reach.support, strict=True):
        by_column.append(np.ascontiguousarray((b[:, None] * columns[:, start:stop]).reshape(-1, b.shape[1]).T))
    return Seen(reach, tuple(square), tuple(by_column))


class Noise(NamedTuple):
    """The noise of stars' samples: that of their coefficients, as far as it reaches."""

    reach: Reach
    source: XPCoefficients


class Spread(NamedTuple):
    """What the noise of stars' samples is made of: errors (n, n_coefficient), in the unit of samples, as they reach."""

    reach: Reach
    error: AnyArray


def _covariances(reach: Reach, source: XPCoefficients) -> list[Array]:
    """Covariances (p, p) of each XP, in any one unit.

    An XP that is missing has no noise.
    """
    available = usable(source)
    source = masked(source, False)
    every = range(len(reach.matrix))
    own = [covariance(source, k) if source.covariance is None else reduced(source.covariance, k) for k in every]
    own = [jnp.where(ok & jnp.all(jnp.isfinite(matrix)), matrix, 0) for ok, matrix in zip(available, own, strict=True)]
    unit = jnp.max(jnp.stack([jnp.max(jnp.diagonal(matrix)) for matrix in own]))
    return [matrix / jnp.where(unit > 0, unit, 1) for matrix in own]


def correlated(
    own: Part, products: AnyArray, seen: Seen, source: XPCoefficients, sigma: Array, floor: Array, used: Array
) -> tuple[Data, Array]:
    """Data for the covariance sigma R sigma + floor, R being the correlations from a source's noise; and their G'WG.

    products: of columns. NaN where a sample has an error and the coefficients have none there, and for matrices that
    are no covariances.
    """
    n, support, matrix = len(sigma), seen.reach.support, seen.reach.matrix
    noise = _covariances(seen.reach, source)
    spread = [_variance(c, square) for c, square in zip(noise, seen.square, strict=True)]
    variance = jnp.stack([jnp.pad(v, (a, n - b)) for v, (a, b) in zip(spread, support, strict=True)]).sum(0)
    some = used & (variance > 0)
    weight = jnp.where(used, 1 / floor, 0) * jnp.where(jnp.any(used & (sigma > 0) & ~some), jnp.nan, 1)
    gain = jnp.where(some, sigma * jax.lax.rsqrt(jnp.where(some, variance, 1)), 0)
    single = gain * weight
    roots, right = [_root(c) for c in noise], []
    rows = own.value[None] if own.templates is None else jnp.concatenate([own.value[None], own.templates])
    for root, b, by_column, (i, j) in zip(roots, matrix, seen.by_column, support, strict=True):
        columns = dot(single[i:j], by_column).reshape(len(b), -1)
        right.append(dot(root, jnp.concatenate([columns, dot(rows[:, i:j] * single[i:j], b.T).T], axis=1)))
    own_blocks = [_symmetric(dot((gain * single)[i:j], s)) for s, (i, j) in zip(seen.square, support, strict=True)]
    capacity = [dot(dot(root, block), root.T) for root, block in zip(roots, own_blocks, strict=True)]
    met = _met(seen.reach, roots, gain * jnp.sqrt(weight))
    y, n_column = _lengthened(capacity, met, right).T, len(own.rows)
    templates = None if own.templates is None else y[n_column + 1 :]
    tail = Part(y[n_column], y[:n_column], -jnp.ones_like(y[0]), templates)
    whole = dot(weight, products).reshape(n_column, n_column) - dot(tail.rows, tail.rows.T)
    return Data((own._replace(weight=weight), tail)), whole


def _met(reach: Reach, roots: Sequence[Array], gain: Array) -> tuple[Array, Array]:
    """P (p, m) and Q (q, m), where PQ' is the product of BP's and RP's rows on the m samples that both reach."""
    start = max(a for a, _ in reach.support)
    stop = max(min(b for _, b in reach.support), start)
    one, other = (
        dot(root, matrix[:, start - a : stop - a] * gain[start:stop])
        for root, matrix, (a, _) in zip(roots, reach.matrix, reach.support, strict=True)
    )
    if one.shape[1] <= len(other):
        return one, other
    return dot(one, other.T), jnp.eye(len(other), dtype=other.dtype)


def _lengthened(capacity: Sequence[Array], met: tuple[Array, Array], right: Sequence[Array]) -> Array:
    """(1 + C)^-1/2 times columns (p + q, m): C of a block (p, p), one (q, q), and PQ' between them."""
    (bp, rp), (p, q), m = [c + jnp.eye(len(c), dtype=c.dtype) for c in capacity], met, right[0].shape[1]
    table = divided_by_root(bp, jnp.concatenate([right[0], p], axis=1))
    y, seen = table[:, :m], table[:, m:]
    rp = rp - dot(dot(q, dot(seen.T, seen)), q.T)
    return jnp.concatenate([y, divided_by_root(rp, right[1] - dot(q, dot(seen.T, y)))])


def _variance(noise: Array, square: AnyArray) -> Array:
    """Variances (n_seen,) of samples from a covariance (p, p); square: products of the rows that sample."""
    rows, columns = triangle_index(len(noise))
    return dot(noise[rows, columns] * np.where(rows == columns, 1, 2), square.T)


def _symmetric(triangle: Array) -> Array:
    """A matrix (p, p) of its lower triangle."""
    return triangle[triangle_places(int((2 * len(triangle)) ** 0.5))]


def triangle_places(n: int) -> np.ndarray:
    """Where in its lower triangle, row by row, the elements of a symmetric matrix (n, n) are."""
    rows, columns = triangle_index(n)
    place = np.zeros((n, n), np.int32)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return place


def whitened(own: Part, correlation: Array, sigma: Array, floor: Array, used: Array) -> tuple[Data, Array]:
    """Data and rows in which the noise is one and uncorrelated, for the covariance sigma R sigma + floor; their G'WG.

    Samples that are not used have no covariance with others and no model.
    """
    sigma = jnp.where(used, sigma, 0)
    covariance = unpack(correlation, len(sigma)) * sigma[:, None] * sigma[None, :]
    # Where sigma is zero nothing may leak in from correlations that are not finite.
    covariance = jnp.where(sigma[:, None] * sigma[None, :] > 0, covariance, 0)
    covariance = covariance + jnp.diag(jnp.where(used, floor, 1))
    given = [own.value[None], jnp.asarray(own.rows), *([] if own.templates is None else [own.templates])]
    white = divided_by_root(covariance, jnp.where(used, jnp.concatenate(given), 0).T).T
    n = len(own.rows) + 1
    part = Part(white[0], white[1:n], jnp.ones_like(white[0]), None if own.templates is None else white[n:])
    return Data((part,)), dot(part.rows, part.rows.T)


def least_squares(matrix: Array, right: Array) -> Array:
    """matrix^-1 right (n,) for a small positive definite matrix (n, n); NaN for another."""
    size = jax.lax.rsqrt(jnp.diagonal(matrix))
    root = _inverse_root(matrix * size[:, None] * size)
    return dot(dot(root, right * size), root) * size


def _root(matrix: Array) -> Array:
    """L' (n, n) with LL' = matrix, which may be singular; NaN where it has negative eigenvalues."""
    n = len(matrix)
    size = jnp.sqrt(jnp.diagonal(matrix))
    inverse = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
    parts = _rows_of_root(matrix * inverse[:, None] * inverse, n, singular=True)
    return jnp.concatenate([jnp.pad(part, ((0, 0), (n - part.shape[1], 0))) for part in parts]) * size


def divided_by_root(matrix: Array, columns: Array) -> Array:
    """L^-1 columns (n, m) with LL' = matrix (n, n); NaN where it is not positive definite."""
    n, m = columns.shape
    return jnp.concatenate([part[:, -m:] for part in _rows_of_root(jnp.concatenate([matrix, columns], axis=1), n)])


def _rows_of_root(table: Array, n: int, singular: bool = False) -> Iterator[Array]:
    """L^-1 table, with LL' the first n columns of a table (n, n + m): its rows from the diagonal on, block by block.

    Products of matrices do the work: the LAPACK that XLA calls for every matrix of a batch starts threads for each,
    which trip over each other, and over those of the engine, on a busy machine.
    """
    while n:
        size = -(-n // -(-n // BLOCK))  # blocks of equal size
        part = dot(_inverse_root(table[:size, :size], singular), table[:size])
        yield part
        table = table[size:, size:] - dot(part[:, size:n].T, part[:, size:])
        n -= size


def _inverse_root(matrix: Array, singular: bool = False) -> Array:
    """L^-1 (n, n) with LL' = matrix, by elimination; singular: with rows of zeros where nothing is left."""
    n = len(matrix)
    number = jnp.arange(n)
    least = NEGLIGIBLE if singular else 0

    def eliminate(i: Any, table: Array) -> Array:
        row, column = table.at[i].get(**IN_BOUNDS), table.at[:, i].get(**IN_BOUNDS)
        own = row.at[i].get(**IN_BOUNDS)
        pivot = jnp.where(own > least, own, jnp.inf if singular else jnp.nan)
        return table - jnp.where(number > i, column / pivot, 0)[:, None] * row

    table = jax.lax.fori_loop(0, n, eliminate, jnp.concatenate([matrix, jnp.eye(n, dtype=matrix.dtype)], axis=1))
    pivots = jnp.diagonal(table)
    none = jnp.where(pivots < IMPOSSIBLE, jnp.nan, 0) if singular else jnp.nan
    return table[:, n:] * jnp.where(pivots > least, jax.lax.rsqrt(pivots), none)[:, None]
