"""Compact covariances: the covariance of the coefficients in axes where what passbands and samples see comes first.

For each XP, with the constant matrices of a `Subspace`, a covariance K (n_basis, n_basis) becomes

    M = reduce' K reduce    and    r' K r = q' M q,  q = query r

for every projection r. M is whitened by the mean covariance of the population, hence near a multiple of one. Whatever
an uncorrected passband or sample sees lies in the p leading axes: the lower triangle of that block, in int16 with one
scale a source, holds errors to 1e-4. A linear correction draws on the other axes too: the rest of the triangle, of
which less is drawn, is kept beside it in int8, in units of the typical size of each element, with one more scale a
source; elements that most is drawn on have a second int8, of what the first leaves. An error is one product with
weights q_a q_b of each part that it needs, and nothing is gathered. Whether the leading block serves a projection is
judged by what the mean covariance says of the part outside.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from xpjax.core.engine import aligned
from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import dot, triangle_index
from xpjax.core.paths import release_file
from xpjax.core.process import one_blas_thread
from xpjax.core.records import AnyArray
from xpjax.core.release import Release, release_of
from xpjax.io.hdf5 import read_model

FORMAT = "xpjax covariance subspace"
VERSION = 1
COMPACT = "compact"
"""What files and options call these covariances."""
LEADING = "leading"
"""What readers are asked for where the leading block serves."""
FULL, REST = 32767, 127
"""The largest counts, of the leading block and of the rest."""
SECOND = 2 * REST
"""Second counts are in units of the first ones over this."""
MULTIPLE = 32
"""Rows of counts are padded with zeros to a multiple of this, 64 bytes: products are a fifth faster."""
LOST = 3e-3
"""The largest part of a projection's error that may lie outside the axes that are used."""
MANY = 1000
"""Sources from which on one thread of BLAS is asked for."""
ROWS = 32
"""Sources that are reduced at a time: their matrices stay in the cache."""
AT_ONCE, NARROW = 64, 32
"""Sources whose counts are made numbers at a time, and the most columns of weights for which that is quicker."""
LANES = 8
"""Widths of matrices that are reduced are multiples of this: numbers of a vector."""


@dataclasses.dataclass(frozen=True, eq=False)
class Subspace:
    """The axes of compact covariances, all of them or the leading ones: constant matrices of each XP, in float64.

    reduce (n_basis, n_basis), query, its inverse, and mean (n_basis, n_basis), the covariance of ordinary sources up to
    a factor. n_leading: how many axes of each XP lead; size: the typical size of each element of the triangle after
    their block, and again: which of these have a second count. whole: whether all axes are used. Equal subspaces have
    the same `name`, a checksum of the matrices.
    """

    release: Release
    reduce: tuple[np.ndarray, ...]
    query: tuple[np.ndarray, ...]
    mean: tuple[np.ndarray, ...]
    size: tuple[np.ndarray, ...]
    again: tuple[np.ndarray, ...]
    n_leading: tuple[int, ...]
    whole: bool = True

    @functools.cached_property
    def name(self) -> str:
        """A checksum of the matrices."""
        digest = hashlib.sha256(str((self.n_leading, self.whole)).encode())
        for matrix in (*self.reduce, *self.query, *self.mean, *self.size, *self.again):
            digest.update(np.ascontiguousarray(matrix, "<f8").tobytes())
        return digest.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subspace) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Subspace({self.release.name}, {' + '.join(map(str, self.sizes))} dimensions, {self.name})"

    @functools.cached_property
    def leading(self) -> Subspace:
        """The leading axes alone."""
        return dataclasses.replace(self, whole=False)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Dimensions p of each XP that are used."""
        return self.release.n_basis if self.whole else self.n_leading

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of a row of each XP's leading block: lower triangle with the diagonal, and zeros at the end."""
        return tuple(-(-p * (p + 1) // 2 // MULTIPLE) * MULTIPLE for p in self.n_leading)

    @property
    def rest_widths(self) -> tuple[int, ...]:
        """Numbers of a row of the rest of each XP: first counts, and second ones."""
        return tuple(len(size) + len(again) for size, again in zip(self.size, self.again, strict=True))

    @property
    def n_bytes(self) -> int:
        """Bytes of a source: counts and scales of what is used."""
        rest = sum(self.rest_widths) + 4 * len(self.size) if self.whole else 0
        return 2 * sum(self.widths) + 4 * len(self.widths) + rest

    @property
    def n_numbers(self) -> int:
        """Counts of a source of what is used."""
        return sum(self.widths) + (sum(self.rest_widths) if self.whole else 0)

    def seen(self, vectors: np.ndarray, xp: int) -> np.ndarray:
        """The projections q (p, n_out) of one XP of vectors r (n_basis_total, n_out)."""
        query = self.query[xp][: self.sizes[xp]]
        return np.asarray(query @ np.asarray(vectors, float)[self.release.slices[xp]])

    def weights(self, vectors: np.ndarray, xp: int) -> tuple[np.ndarray, ...]:
        """Weights of one XP's counts, for variances of vectors (n_basis_total, n_out).

        (width, n_out) of the leading block, and with all axes (rest_width, n_out) of the rest.
        """
        rows, columns = triangle_index(self.sizes[xp])
        q, n = self.seen(vectors, xp), self.n_leading[xp] * (self.n_leading[xp] + 1) // 2
        made = np.zeros((self.widths[xp], q.shape[1]))
        every = q[rows] * q[columns]
        every[rows != columns] *= 2
        made[:n] = every[:n]
        if not self.whole:
            return (made,)
        rest = every[n:] * self.size[xp][:, None]
        return made, np.concatenate([rest, rest[self.again[xp]] / SECOND])

    def residual(self, vectors: np.ndarray) -> np.ndarray:
        """The part (n_out,) of the error of vectors (n_basis_total, n_out) outside the axes, in the mean."""
        vectors = np.asarray(vectors, float)
        whole, lost = np.zeros((2, vectors.shape[1]))
        for xp, rows in enumerate(self.release.slices):
            own = np.einsum("ib,ij,jb->b", vectors[rows], self.mean[xp], vectors[rows], optimize=True)
            lost += np.maximum(own - (self.seen(vectors, xp) ** 2).sum(axis=0), 0)
            whole += own
        return np.sqrt(np.where(whole > 0, lost, 0) / np.where(whole > 0, whole, 1))

    def check(self, vectors: AnyArray, name: Callable[[int], str]) -> Subspace:
        """The leading axes where they serve projections (n_basis_total, n_out), or all of them.

        name(k): what the k-th projection is called. Raises XpjaxError where a projection is outside.
        """
        found = self.leading.residual(np.asarray(vectors))
        if np.all(found <= LOST):
            return self.leading
        if self.whole:
            found = self.residual(np.asarray(vectors))
            if np.all(found <= LOST):
                return self
        worst = int(np.argmax(found))
        wanted = remedy() if self.whole else f"read the sources without correlations={LEADING!r}"
        raise XpjaxError(
            f"compact covariances do not hold the error of {name(worst)}: {found[worst]:.1%} of it lies outside their "
            f"{' + '.join(map(str, self.sizes))} dimensions of {self.release.name} (at most {LOST:.1%} may); {wanted}, "
            f"or leave errors out: {say('errors=False', '--no-errors')}"
        )


def remedy() -> str:
    """Where covariances are to come from that serve what compact ones do not."""
    return (
        f"ingest the files with {say('correlations=', '--correlations')} int16 or float32, or use the files themselves"
    )


@functools.lru_cache(maxsize=8)
def load_subspace(release: Release) -> Subspace:
    """The subspace of a release as shipped. Raises XpjaxError where there is none."""
    return _loaded(release_file("covariance", release))


@functools.lru_cache(maxsize=8)
def _loaded(path: Path) -> Subspace:
    arrays, attributes = read_model(path, FORMAT, VERSION, "subspace of covariances", "tools/build_covariance.py")
    return subspace_of(arrays, release_of(attributes))


FIELDS = ("reduce", "query", "mean", "size", "again")


def subspace_of(arrays: Mapping[str, Any], release: Release) -> Subspace:
    """The subspace of arrays `{xp}/reduce` and so on, as `as_arrays` gives them."""
    fields: Any = {field: tuple(np.asarray(arrays[f"{xp}/{field}"]) for xp in release.xp) for field in FIELDS}
    return Subspace(release, **fields, n_leading=tuple(int(arrays[f"{xp}/n_leading"]) for xp in release.xp))


def as_arrays(subspace: Subspace) -> dict[str, np.ndarray]:
    """The arrays of a subspace by name."""
    return {
        f"{xp}/{field}": np.asarray(getattr(subspace, field)[k])
        for k, xp in enumerate(subspace.release.xp)
        for field in (*FIELDS, "n_leading")
    }


class CompactCovariance(eqx.Module):
    """The covariance of the coefficients of one source, or of many on a leading axis, in the axes of a subspace.

    packed: for each XP the lower triangle of the leading block of M with its diagonal, row by row (..., width), int16,
    zeros at the end; scale (..., n_xp): what these are multiplied by, NaN where an XP has no errors. rest and
    rest_scale: the same of the further rows of the triangle, int8, times the sizes of the subspace; None where the
    subspace is of the leading axes. subspace: what M is in.
    """

    packed: tuple[Int[AnyArray, "*batch width"], ...]
    scale: Float[AnyArray, "*batch n_xp"]
    subspace: Subspace = eqx.field(static=True)
    rest: tuple[Int[AnyArray, "*batch rest_width"], ...] | None = None
    rest_scale: Float[AnyArray, "*batch n_xp"] | None = None

    def among(self, subspace: Subspace) -> CompactCovariance:
        """The same in the leading axes alone, where the subspace is of these."""
        if subspace.whole:
            return self
        return CompactCovariance(self.packed, self.scale, self.subspace.leading)

    @property
    def parts(self) -> tuple[tuple[AnyArray, ...], tuple[AnyArray, ...]]:
        """Counts of each XP, of the leading block and then of the rest, and the scales of both."""
        if self.rest is None or self.rest_scale is None:
            return self.packed, (self.scale,)
        return (*self.packed, *self.rest), (self.scale, self.rest_scale)


def packed_variance(covariance: CompactCovariance, xp: int, weights: Sequence[Float[AnyArray, "width n_out"]]) -> Array:
    """Variances (n_out,) of one source that one XP contributes to; weights of `Subspace.weights`."""
    made = _weighed(covariance.packed[xp], weights[0]) * covariance.scale[xp]
    if len(weights) == 1:
        return made
    assert covariance.rest is not None
    assert covariance.rest_scale is not None
    return made + _weighed(covariance.rest[xp], weights[1]) * covariance.rest_scale[xp]


@jax.custom_batching.custom_vmap
def _weighed(counts: Int[AnyArray, " width"], weight: Float[AnyArray, "width n_out"]) -> Array:
    """counts @ weight (n_out,), in the weights' precision."""
    return dot(counts.astype(weight.dtype), weight)


@_weighed.def_vmap
def _weighed_rows(n: int, batched: Sequence[bool], counts: AnyArray, weight: AnyArray) -> tuple[Array, bool]:
    """Of many sources; on CPUs some at a time, so that their counts as numbers stay in the cache: 0.4 of 2.1 us."""

    def whole(counts: AnyArray, weight: AnyArray) -> Array:
        return dot(counts.astype(weight.dtype), weight)

    def parted(counts: AnyArray, weight: AnyArray) -> Array:
        parts = counts.reshape(-1, AT_ONCE, counts.shape[-1])
        return jax.lax.map(lambda part: whole(part, weight), parts).reshape(n, -1)

    if list(batched) != [True, False]:
        axes = tuple(0 if one else None for one in batched)
        return jax.vmap(whole, in_axes=axes)(counts, weight), True
    if n % AT_ONCE or n == AT_ONCE or weight.shape[-1] > NARROW:
        return whole(counts, weight), True
    return jax.lax.platform_dependent(counts, weight, cpu=parted, default=whole), True


def reduced(covariance: CompactCovariance, xp: int) -> Float[Array, "p p"]:
    """M (p, p) of one XP of one source, in squared units of the coefficients."""
    subspace, dtype = covariance.subspace, covariance.scale.dtype
    values = jnp.asarray(covariance.packed[xp], dtype) * covariance.scale[xp]
    if covariance.rest is not None:
        assert covariance.rest_scale is not None
        size, again = subspace.size[xp], subspace.again[xp]
        second = np.full(len(size), len(again), np.int32)
        second[again] = np.arange(len(again))
        counts = jnp.asarray(covariance.rest[xp], dtype)
        added = jnp.concatenate([counts[len(size) :] / SECOND, jnp.zeros(1, dtype)])[second]
        rest = (counts[: len(size)] + added) * (jnp.asarray(size, dtype) * covariance.rest_scale[xp])
        p = subspace.n_leading[xp]
        values = jnp.concatenate([values[: p * (p + 1) // 2], rest])
    p = subspace.sizes[xp]
    rows, columns = triangle_index(p)
    place = np.zeros((p, p), np.int32)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return values[place]


def expanded(covariance: CompactCovariance, xp: int) -> Float[Array, "n_basis n_basis"]:
    """K (n_basis, n_basis) of one XP of one source, right for projections in the axes that are used alone."""
    subspace = covariance.subspace
    query = jnp.asarray(subspace.query[xp][: subspace.sizes[xp]], covariance.scale.dtype)
    return dot(query.T, dot(reduced(covariance, xp), query))


def compressed(error: np.ndarray, correlation: np.ndarray, release: Release) -> CompactCovariance:
    """Compact covariances of errors (n, n_basis_total) and packed correlations (n, n_pair_total), on the host."""
    subspace = load_subspace(release)
    # The change of threads itself takes the time of a hundred sources.
    with one_blas_thread() if len(error) > MANY else contextlib.nullcontext():
        made = [
            _reduce(error[:, rows], correlation[:, pairs], subspace, k)
            for k, (rows, pairs) in enumerate(zip(release.slices, release.pair_slices, strict=True))
        ]
    packed, scale, rest, rest_scale = zip(*made, strict=True)
    return CompactCovariance(packed, np.stack(scale, 1), subspace, rest, np.stack(rest_scale, 1))


def _reduce(error: np.ndarray, correlation: np.ndarray, subspace: Subspace, xp: int) -> tuple[np.ndarray, ...]:
    """Counts and scales of one XP, of the leading block and of the rest: `CompactCovariance`'s.

    In float32, some sources at a time, errors over the largest.
    """
    size, again = subspace.size[xp].astype(np.float32), subspace.again[xp]
    n, n_basis, p = len(error), len(subspace.reduce[xp]), subspace.n_leading[xp]
    n_block = p * (p + 1) // 2
    # Products of whole vectors are a quarter faster: rows and columns of zeros at the end.
    width = -(-n_basis // LANES) * LANES
    reduce = np.zeros((n_basis, width), np.float32)
    reduce[:, :n_basis] = subspace.reduce[xp]
    packed, rest = aligned((n, subspace.widths[xp]), np.int16), aligned((n, subspace.rest_widths[xp]), np.int8)
    packed[:, n_block:] = 0
    scale, rest_scale = np.empty((2, n), np.float32)
    place = _places(n_basis, width)
    rows, columns = triangle_index(n_basis)
    triangle = rows * width + columns
    full = np.ones((ROWS, correlation.shape[1] + 2), np.float32)
    full[:, -1] = 0
    # The same memory for all: fresh pages cost as much as what is done with them.
    matrix, own, half, made = (
        np.empty((ROWS, *shape), np.float32)
        for shape in ((width, n_basis), (n_basis, width), (width, width), (width, width))
    )
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for start in range(0, n, ROWS):
            part = slice(start, min(start + ROWS, n))
            m = part.stop - start
            level = error[part].max(axis=1)
            e = (error[part] / np.where(level > 0, level, 1)[:, None]).astype(np.float32)
            full[:m, :-2] = correlation[part]
            full[:m].take(place, axis=1, out=matrix[:m].reshape(m, -1), mode="clip")
            np.multiply(reduce, e[:, :, None], out=own[:m])
            _whiten(matrix[:m], own[:m], half[:m], made[:m])
            values = made[:m].reshape(m, -1).take(triangle, axis=1)
            block, other = values[:, :n_block], values[:, n_block:]
            other /= size
            largest = [np.maximum(values.max(axis=1), -values.min(axis=1)) for values in (block, other)]
            one, more = (_scale(x, level, most) for x, most in zip(largest, (FULL, REST), strict=True))
            known = np.isfinite(one) & np.isfinite(more)
            packed[part, :n_block] = np.rint(_counts(block, largest[0], known, FULL))
            counts = _counts(other, largest[1], known, REST)
            rest[part, : len(size)] = first = np.rint(counts)
            rest[part, len(size) :] = np.rint((counts - first)[:, again] * SECOND)
            scale[part], rest_scale[part] = np.where(known, one, np.nan), np.where(known, more, np.nan)
    return packed, scale, rest, rest_scale


def _places(n_basis: int, width: int) -> np.ndarray:
    """Of each element of matrices (width, n_basis) its place among packed correlations, a one and a zero at the end."""
    n_pair = n_basis * (n_basis - 1) // 2
    place = np.full((width, n_basis), n_pair + 1)
    low, high = triangle_index(n_basis, -1)
    place[low, high] = place[high, low] = np.arange(n_pair)
    np.fill_diagonal(place, n_pair)
    return place.ravel()


def _whiten(correlation: np.ndarray, reduce: np.ndarray, half: np.ndarray, made: np.ndarray) -> None:
    """Put the lower triangle of reduce' R reduce into made (m, width, width); R reduce into half, of the same shape.

    correlation R (m, width, n), reduce (m, n, width). One by one, so that what comes of a source does not depend on its
    neighbors; a quarter of made, above the diagonal, is not computed.
    """
    cut, turned = reduce.shape[2] // 2, reduce.transpose(0, 2, 1)
    np.matmul(correlation, reduce, out=half)
    half = half[:, : reduce.shape[1]]
    np.matmul(turned[:, cut:], half, out=made[:, cut:])
    np.matmul(turned[:, :cut], half[:, :, :cut], out=made[:, :cut, :cut])


def _scale(largest: np.ndarray, level: np.ndarray, most: int) -> np.ndarray:
    """What one count of values of this largest (m,), times the square of a level (m,), is (m,); NaN if not known."""
    one = (largest.astype(float) * level.astype(float) ** 2 / most).astype(np.float32)
    # What float32 rounds to zero is no error of zero.
    known = np.isfinite(largest) & np.isfinite(one) & (level >= 0) & ((one > 0) | (largest == 0))
    return np.where(known, one, np.nan)


def _counts(values: np.ndarray, largest: np.ndarray, known: np.ndarray, most: int) -> np.ndarray:
    """Values (m, k) in units in which the largest (m,) is `most`; zero where they are not known."""
    counts = values * np.where(known & (largest > 0), most / np.where(largest > 0, largest, 1), 0)[:, None]
    counts[~known] = 0
    return counts


def concatenate_covariances(parts: Sequence[CompactCovariance | None], sizes: Sequence[int], fill: bool) -> Any:
    """Compact covariances of tables one after the other; sizes: their rows. None where one has none, unless fill.

    fill: tables without any have no errors. Raises XpjaxError where subspaces differ.
    """
    found = [part for part in parts if part is not None]
    subspace = found[0].subspace
    if others := [part.subspace for part in found if part.subspace != subspace]:
        raise XpjaxError(
            f"compact covariances in {subspace} and in {others[0]} cannot be joined; ingest all files with the same "
            f"{say('correlations=', '--correlations')}, or use each by itself"
        )
    if len(found) < len(parts) and not fill:
        return None
    counts = found[0].parts[0]
    packed = tuple(aligned((sum(sizes), one.shape[1]), one.dtype) for one in counts)
    scales = tuple(np.full((sum(sizes), len(subspace.sizes)), np.nan, np.float32) for _ in found[0].parts[1])
    start = 0
    for part, n in zip(parts, sizes, strict=True):
        rows = slice(start, start := start + n)
        for k, target in enumerate(packed):
            target[rows] = 0 if part is None else part.parts[0][k]
        for k, target in enumerate(scales):
            target[rows] = np.nan if part is None else part.parts[1][k]
    n_xp = len(subspace.sizes)
    rest = (packed[n_xp:], scales[1]) if subspace.whole else ()
    return CompactCovariance(packed[:n_xp], scales[0], subspace, *rest)
