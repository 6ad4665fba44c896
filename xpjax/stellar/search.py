"""Where fits start: the sum of squares at all nodes of a grid and places halfway, by one product for each star."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core.linalg import IN_BOUNDS, dot
from xpjax.core.records import AnyArray
from xpjax.stellar.interpolation import Interpolator

SCAN_COMPONENTS = 8
"""Components in the search for starts: enough to tell valleys apart, at a fraction of the cost of all."""
SCAN_PLACES = 4096
"""Places searched at most."""


class Search(eqx.Module):
    """Places searched for starts: labels, their numbers along each label, t, and what products of it are summed."""

    labels: Float[AnyArray, "n_place n_label"]
    index: tuple[Float[AnyArray, " n_place"], ...]
    t: Float[AnyArray, "n_place n_component_and_1"]
    linear: Float[AnyArray, "n_scan n_place"]
    square: Float[AnyArray, "n_scan_triangle n_place"]
    """Products of the rows of linear, those below the diagonal twice."""


def find_starts(
    search: Search,
    matrix: Array,
    product: Array,
    norm: Array | None,
    prior: Callable[[Array], Array],
    starts: int,
    n_continuum: int,
) -> tuple[Array, Array, Array]:
    """Labels (n_start, n_label), amplitudes (n_start, n_continuum) and t of the best places, each away from others.

    matrix and product: G'WG and G'WO. norm: what averages a model over the samples used, or None. prior: deviations
    from the prior in sigmas at labels (n, n_label). n_continuum: how many amplitudes are fitted, 0 for none.
    """
    n, wide = len(search.linear), matrix.dtype
    # Places need no more than float32, whatever the fit is computed in.
    given = matrix[np.tril_indices(n)], product[:n], search.square, search.linear
    triangle, falling, squares, lines = (jnp.asarray(x, jnp.float32) for x in given)
    if n_continuum or norm is not None:
        square, linear = dot(triangle, squares), dot(falling, lines)
        amplitude = linear / square if norm is None else 1 / dot(norm[:n].astype(jnp.float32), lines)
        value = amplitude * (amplitude * square - 2 * linear)
    else:  # one product is half the time
        value = dot(jnp.concatenate([triangle, -2 * falling]), jnp.concatenate([squares, lines]))
        amplitude = jnp.ones_like(value)
    value = value + jnp.sum(prior(jnp.asarray(search.labels)) ** 2, axis=-1).astype(jnp.float32)
    number = jnp.arange(value.shape[0], dtype=value.dtype)
    chosen = []
    for _ in range(starts):
        # What argmin does, in two passes that XLA makes vectors of on a CPU: five times faster.
        best = jnp.min(jnp.where(value <= jnp.min(value), number, value.shape[0] - 1)).astype(jnp.int32)
        chosen.append(best)
        near = [jnp.abs(index - index.at[best].get(**IN_BOUNDS)) <= 1 for index in map(jnp.asarray, search.index)]
        value = jnp.where(functools.reduce(jnp.logical_and, near), jnp.inf, value)
    rows, amplitude = jnp.stack(chosen), amplitude.astype(wide)
    t = jnp.asarray(search.t)[rows] * amplitude[rows][:, None]
    t = jnp.pad(t, ((0, 0), (0, len(matrix) - t.shape[1])))
    amplitudes = jnp.pad(amplitude[rows][:, None], ((0, 0), (0, max(n_continuum - 1, 0))))
    return jnp.asarray(search.labels)[rows], amplitudes[:, :n_continuum], t


def make_search(grid: Interpolator, places: int = SCAN_PLACES) -> Search:
    """The places of a grid that are searched, so many at most, made once for each grid."""
    return _searched(_Same(grid), places)


@dataclasses.dataclass(frozen=True)
class _Same:
    """A grid that is equal to itself only: a key to what was made of it."""

    grid: Interpolator

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.grid is other.grid

    def __hash__(self) -> int:
        return id(self.grid)


@functools.lru_cache(maxsize=4)  # a survey's pieces are fitted one after the other on one grid
def _searched(key: _Same, places: int) -> Search:
    labels, index, a = _places(key.grid, places)
    whole = np.concatenate([np.ones((len(labels), 1)), a], axis=1)
    t = whole[:, : SCAN_COMPONENTS + 1]
    i, j = np.tril_indices(t.shape[1])
    square = t[:, i] * t[:, j] * np.where(i == j, 1, 2)
    return Search(labels, index, whole, t.T, square.T)


def _places(grid: Interpolator, most: int) -> tuple[np.ndarray, tuple[np.ndarray, ...], np.ndarray]:
    """Labels (n_place, n_label) of the places searched for starts, their numbers along each label, and components."""
    # What one step from node to node changes, in the median: the labels that matter most are searched most finely.
    steps = [np.diff(grid.coefficient, axis=label) for label in range(len(grid.nodes))]
    change = [np.sqrt(np.median(np.sum(step**2, axis=-1))) for step in steps]
    parts = np.zeros(len(change), int)  # steps are divided by 2^parts

    def lines(parts: np.ndarray) -> list[np.ndarray]:
        return [_subdivided(np.asarray(x), int(k)) for x, k in zip(grid.nodes, parts, strict=True)]

    def number(parts: np.ndarray) -> float:
        return float(np.prod([float(len(x)) for x in lines(parts)]))

    one = np.eye(len(change), dtype=int)
    while number(parts) > most and any(len(x) > 2 for x in lines(parts)):
        least = [c / 2.0**k if len(x) > 2 else np.inf for c, k, x in zip(change, parts, lines(parts), strict=True)]
        parts = parts - one[np.argmin(least)]
    while number(finer := parts + one[np.argmax(change / 2.0**parts)]) <= most:
        parts = finer
    places = lines(parts)
    index = np.stack(np.meshgrid(*[np.arange(len(line)) for line in places], indexing="ij"), axis=-1)
    index = index.reshape(-1, len(places)).astype(np.int32)
    labels = np.stack([line[k] for line, k in zip(places, index.T, strict=True)], axis=1)
    cells = [_cells(x, line) for x, line in zip(grid.nodes, places, strict=True)]
    whole = np.asarray(grid.whole)[tuple(cell[k] for cell, k in zip(cells, index.T, strict=True))]
    # Label by label: places are on lines, and these few sums for each need no program.
    values = np.asarray(grid.coefficient)
    for label, (line, cell) in enumerate(zip(places, cells, strict=True)):
        values = np.moveaxis(np.tensordot(_shares(grid, label, line, cell), values, axes=(1, label)), 0, label)
    return labels[whole], tuple(index[whole].T.astype(float)), values.reshape(len(whole), -1)[whole]


def _cells(nodes: AnyArray, x: np.ndarray) -> np.ndarray:
    """The cells (n,) of a label in which its values (n,) lie."""
    return np.clip(np.searchsorted(np.asarray(nodes), x, side="right") - 1, 0, len(nodes) - 2)


def _shares(grid: Interpolator, label: int, x: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """What values (n,) of a label take of each of the coefficients along it (n, n_coefficient)."""
    left, length, start, weight = (
        np.asarray(table)[label, cell] for table in (grid.left, grid.length, grid.start, grid.weight)
    )
    width = weight.shape[-1]
    power = ((x - left) / length)[:, None] ** np.arange(width)
    share = np.zeros((len(x), np.shape(grid.coefficient)[label]))
    share[np.arange(len(x))[:, None], start[:, None] + np.arange(width)] = np.einsum("np,npw->nw", power, weight)
    return share


def _subdivided(x: np.ndarray, k: int) -> np.ndarray:
    """Nodes with their steps divided by 2^k; for negative k every 2^-k th node, and the last."""
    if k < 0:
        return x[np.unique(np.append(np.arange(0, len(x), 2**-k), len(x) - 1))]
    share = np.arange(2**k) / 2**k
    return np.append((x[:-1, None] + np.diff(x)[:, None] * share).reshape(-1), x[-1])
