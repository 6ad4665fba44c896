"""Compact covariances: what passbands and samples can see of the covariance of the coefficients, stored projected.

For each XP, with the constant matrices of a `Subspace`, a covariance K (n_basis, n_basis) becomes

    M = reduce' K reduce (p, p)    and    r' K r = q' M q,  q = query r (p,)

for every projection r in the subspace. M is whitened by the mean covariance of the population, hence near a multiple of
one: its lower triangle in int16 with one scale a source holds errors to 1e-4. An error is then one product with weights
q_a q_b, and nothing is gathered. Projections outside the subspace are refused by what the mean covariance says of the
part that is lost.
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
COMPACT = ("compact", "complete")
"""The subspace of uncorrected passbands and samples, and the whole space, which linear corrections draw on."""
FULL = 32767
"""The largest count."""
MULTIPLE = 32
"""Rows of counts are padded with zeros to a multiple of this, 64 bytes: products are a fifth faster."""
LOST = 3e-3
"""The largest part of a projection's error that may lie outside the subspace."""
MANY = 1000
"""Sources from which on one thread of BLAS is asked for."""
ROWS = 64
"""Sources that are reduced at a time: their matrices stay in the cache."""


@dataclasses.dataclass(frozen=True, eq=False)
class Subspace:
    """What a passband or a sample can see of the coefficients' covariance: constant matrices of each XP, in float64.

    reduce (n_basis, p), query (p, n_basis) with query reduce = 1, and mean (n_basis, n_basis), the covariance of
    ordinary sources up to a factor. Equal subspaces have the same `name`, a checksum of the matrices.
    """

    release: Release
    reduce: tuple[np.ndarray, ...]
    query: tuple[np.ndarray, ...]
    mean: tuple[np.ndarray, ...]

    @functools.cached_property
    def name(self) -> str:
        """A checksum of the matrices."""
        digest = hashlib.sha256()
        for matrix in (*self.reduce, *self.query, *self.mean):
            digest.update(np.ascontiguousarray(matrix, "<f8").tobytes())
        return digest.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subspace) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Subspace({self.release.name}, {' + '.join(map(str, self.sizes))} dimensions, {self.name})"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Dimensions p of each XP."""
        return tuple(len(query) for query in self.query)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of a packed row of each XP: the lower triangle with the diagonal, and zeros at the end."""
        return tuple(-(-p * (p + 1) // 2 // MULTIPLE) * MULTIPLE for p in self.sizes)

    @property
    def kind(self) -> str:
        """Which of `COMPACT` the subspace is of."""
        return COMPACT[self.sizes == self.release.n_basis]

    def seen(self, vectors: np.ndarray, xp: int) -> np.ndarray:
        """The projections q (p, n_out) of one XP of vectors r (n_basis_total, n_out)."""
        return np.asarray(self.query[xp] @ np.asarray(vectors, float)[self.release.slices[xp]])

    def weights(self, vectors: np.ndarray, xp: int) -> np.ndarray:
        """Weights (width, n_out) of the packed M of one XP, for variances of vectors (n_basis_total, n_out)."""
        rows, columns = triangle_index(self.sizes[xp])
        q = self.seen(vectors, xp)
        made = np.zeros((self.widths[xp], q.shape[1]))
        np.multiply(q[rows], q[columns], out=made[: len(rows)])
        made[: len(rows)][rows != columns] *= 2
        return made

    def residual(self, vectors: np.ndarray) -> np.ndarray:
        """The part (n_out,) of the error of vectors (n_basis_total, n_out) outside the subspace, in the mean."""
        vectors = np.asarray(vectors, float)
        whole, lost = np.zeros((2, vectors.shape[1]))
        for xp, rows in enumerate(self.release.slices):
            own = np.einsum("ib,ij,jb->b", vectors[rows], self.mean[xp], vectors[rows], optimize=True)
            lost += np.maximum(own - (self.seen(vectors, xp) ** 2).sum(axis=0), 0)
            whole += own
        return np.sqrt(np.where(whole > 0, lost, 0) / np.where(whole > 0, whole, 1))

    def check(self, vectors: AnyArray, name: Callable[[int], str], corrected: bool = False) -> None:
        """Raise XpjaxError where a projection (n_basis_total, n_out) is outside; name(k): what the k-th is called.

        corrected: by a linear correction, without which it may be inside.
        """
        found = self.residual(np.asarray(vectors))
        worst = int(np.argmax(found)) if len(found) else 0
        if len(found) and not found[worst] <= LOST:
            options = [say("correction=None", "--correction none")] * corrected + [say("errors=False", "--no-errors")]
            raise XpjaxError(
                f"compact covariances do not hold the error of {name(worst)}: {found[worst]:.1%} of it lies outside "
                f"their {' + '.join(map(str, self.sizes))} dimensions (at most {LOST:.1%} may), which are those of "
                f"uncorrected passbands and spectra of {self.release.name}; {remedy(self.kind == 'compact')}, or "
                f"leave out what needs them: {' or '.join(options)}"
            )


def remedy(complete: bool = False) -> str:
    """Where covariances are to come from that serve what compact ones do not; complete: or those of all dimensions."""
    kinds = "complete, int16 or float32" if complete else "int16 or float32"
    return f"ingest the files with {say('correlations=', '--correlations')} {kinds}, or use the files themselves"


@functools.lru_cache(maxsize=8)
def load_subspace(release: Release, kind: str = "compact") -> Subspace:
    """The subspace of a release, of `COMPACT`, as shipped. Raises XpjaxError where there is none."""
    return _loaded(release_file("covariance", release), kind)


@functools.lru_cache(maxsize=8)
def _loaded(path: Path, kind: str) -> Subspace:
    arrays, attributes = read_model(path, FORMAT, VERSION, "subspace of covariances", "tools/build_covariance.py")
    release = release_of(attributes)
    sizes = release.n_basis if kind == "complete" else attributes["leading"]
    cut = [(arrays.group(xp), int(p)) for xp, p in zip(release.xp, sizes, strict=True)]
    return Subspace(
        release,
        tuple(np.ascontiguousarray(own["reduce"][:, :p]) for own, p in cut),
        tuple(own["query"][:p] for own, p in cut),
        tuple(own["mean"] for own, _ in cut),
    )


def subspace_of(arrays: Mapping[str, Any], release: Release) -> Subspace:
    """The subspace of arrays `{xp}/reduce`, `{xp}/query` and `{xp}/mean`, as `as_arrays` gives them."""
    fields = (tuple(np.asarray(arrays[f"{xp}/{f}"]) for xp in release.xp) for f in ("reduce", "query", "mean"))
    return Subspace(release, *fields)


def as_arrays(subspace: Subspace) -> dict[str, np.ndarray]:
    """The matrices of a subspace by name."""
    return {
        f"{xp}/{field}": getattr(subspace, field)[k]
        for k, xp in enumerate(subspace.release.xp)
        for field in ("reduce", "query", "mean")
    }


class CompactCovariance(eqx.Module):
    """The covariance of the coefficients of one source, or of many on a leading axis, in a subspace.

    packed: for each XP the lower triangle of M with its diagonal, row by row (..., width), int16, zeros at the end;
    scale (..., n_xp): what these are multiplied by, NaN where an XP has no errors. subspace: what M is in.
    """

    packed: tuple[Int[AnyArray, "*batch width"], ...]
    scale: Float[AnyArray, "*batch n_xp"]
    subspace: Subspace = eqx.field(static=True)


def packed_variance(covariance: CompactCovariance, xp: int, weights: Float[AnyArray, "width n_out"]) -> Array:
    """Variances (n_out,) of one source that one XP contributes to; weights of `Subspace.weights`."""
    return dot(covariance.packed[xp].astype(covariance.scale.dtype), weights) * covariance.scale[xp]


def reduced(covariance: CompactCovariance, xp: int) -> Float[Array, "p p"]:
    """M (p, p) of one XP of one source, in squared units of the coefficients."""
    p = covariance.subspace.sizes[xp]
    rows, columns = triangle_index(p)
    place = np.zeros((p, p), np.int32)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return jnp.asarray(covariance.packed[xp], covariance.scale.dtype)[place] * covariance.scale[xp]


def expanded(covariance: CompactCovariance, xp: int) -> Float[Array, "n_basis n_basis"]:
    """K (n_basis, n_basis) of one XP of one source, right for projections in the subspace and for these alone."""
    query = jnp.asarray(covariance.subspace.query[xp], covariance.scale.dtype)
    return dot(query.T, dot(reduced(covariance, xp), query))


def compressed(
    error: np.ndarray, correlation: np.ndarray, release: Release, kind: str = "compact"
) -> CompactCovariance:
    """Compact covariances of errors (n, n_basis_total) and packed correlations (n, n_pair_total), on the host."""
    subspace = load_subspace(release, kind)
    # The change of threads itself takes the time of a hundred sources.
    with one_blas_thread() if len(error) > MANY else contextlib.nullcontext():
        made = [
            _reduce(error[:, rows], correlation[:, pairs], subspace, k)
            for k, (rows, pairs) in enumerate(zip(release.slices, release.pair_slices, strict=True))
        ]
    return CompactCovariance(tuple(counts for counts, _ in made), np.stack([scale for _, scale in made], 1), subspace)


def _reduce(error: np.ndarray, correlation: np.ndarray, subspace: Subspace, xp: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts (n, width) and scales (n,) of one XP; in float32, some sources at a time, errors over the largest."""
    reduce = np.ascontiguousarray(subspace.reduce[xp], np.float32)
    n, (n_basis, p) = len(error), reduce.shape
    rows, columns = triangle_index(p)
    packed = aligned((n, subspace.widths[xp]), np.int16)
    packed[:, len(rows) :] = 0
    scale = np.empty(n, np.float32)
    place = np.full((n_basis, n_basis), correlation.shape[1])
    low, high = triangle_index(n_basis, -1)
    place[low, high] = place[high, low] = np.arange(correlation.shape[1])
    # Always as many rows: what comes of a source does not depend on its neighbors.
    e, ones = np.zeros((ROWS, n_basis), np.float32), np.ones((ROWS, correlation.shape[1] + 1), np.float32)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for start in range(0, n, ROWS):
            part = slice(start, min(start + ROWS, n))
            m = part.stop - start
            level = error[part].max(axis=1)
            e[:m] = error[part] / np.where(level > 0, level, 1)[:, None]
            ones[:m, :-1] = correlation[part]
            matrix = ones.take(place.ravel(), axis=1).reshape(ROWS, n_basis, n_basis)
            matrix *= e[:, :, None]
            matrix *= e[:, None, :]
            half = (matrix.reshape(-1, n_basis) @ reduce).reshape(ROWS, n_basis, p)
            full = np.matmul(reduce.T, half[:m]).reshape(m, p * p).take(rows * p + columns, axis=1)
            largest = np.maximum(full.max(axis=1), -full.min(axis=1))
            one = (largest.astype(float) * level.astype(float) ** 2 / FULL).astype(np.float32)
            # What float32 rounds to zero is no error of zero.
            known = np.isfinite(largest) & np.isfinite(one) & (level >= 0) & ((one > 0) | (largest == 0))
            full *= np.where(known & (largest > 0), FULL / np.where(largest > 0, largest, 1), 0)[:, None]
            full[~known] = 0
            packed[part, : len(rows)] = np.rint(full)
            scale[part] = np.where(known, one, np.nan)
    return packed, scale


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
    packed = tuple(aligned((sum(sizes), width), np.int16) for width in subspace.widths)
    scale = np.full((sum(sizes), len(packed)), np.nan, np.float32)
    start = 0
    for part, n in zip(parts, sizes, strict=True):
        rows = slice(start, start := start + n)
        for k, target in enumerate(packed):
            target[rows] = 0 if part is None else part.packed[k]
        if part is not None:
            scale[rows] = part.scale
    return CompactCovariance(packed, scale, subspace)
