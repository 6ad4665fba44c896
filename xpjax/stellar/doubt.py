"""What the interpolation of a grid may be wrong by at labels, as an error in chi2: sums of the grid's own components.

Two errors are told apart, and added as independent ones. Each node has its doubt d: what the other models around make
of it, less its own spectrum, with half of its variance, for the grid's steps are half as wide. At labels in a cell the
nodes at its corners have weights w that interpolate linearly, and rows sqrt(w) d: their variance is interpolated. And
along each label the spectrum lies between two parabolas, through the nodes to the left and to the right: their
difference is another row, with the same share, which vanishes at nodes.

Rows D are sums of the columns G of the model, so that with M = G'WG, and S = 1 + D M D',

    (W^-1 + G'D'D G)^-1 = W - W G' D' S^-1 D G W

takes products of small matrices alone, whatever the errors of the data are, and no pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from jax import lax
from jaxtyping import Array

from xpjax.core.linalg import dot
from xpjax.stellar.chi2 import Data, Spread, divided_by_root, traced
from xpjax.stellar.grid import StellarGrid

SHARE = 0.7
"""Part of what left-out nodes come back wrong by, and of what two parabolas differ by, that is expected in the grid: of
0.5, 0.7 and 1 the one with which labels of mocks of NextGen are off by as much as their errors say."""
ROWS = 4096
"""Nodes whose spectra are taken apart at a time."""


class Doubted(NamedTuple):
    """Data of one star whose model may be wrong by rows (n_row, n_column); see `Data` for its methods.

    across: their products (n_row, n_column) with G'WG; inverse: S^-1 (n_row, n_row).
    """

    data: Data
    rows: Array
    across: Array
    inverse: Array

    def chi2(self, t: Array) -> Array:
        """The sum of squared residuals of a model."""
        met = dot(self.rows, self.data.gradient(t))
        return self.data.chi2(t) - dot(met, dot(self.inverse, met))

    def gradient(self, t: Array) -> Array:
        """G'W(O - G t), with the weights W of all errors."""
        return self._less(self.data.gradient(t))

    def product(self) -> Array:
        """G'WO, with the weights W of all errors."""
        return self._less(self.data.product())

    def _less(self, falling: Array) -> Array:
        return falling - dot(dot(dot(self.rows, falling), self.inverse), self.across)

    def _freed(self, rows: Array) -> tuple[Array, Array]:
        """Rows (m, n_column) without what counts as doubt, and how they meet it (m, n_row)."""
        met = dot(dot(rows, self.across.T), self.inverse)
        return rows - dot(met, self.rows), met

    def noise(self, rows: Array) -> Array:
        """The squares of weights (m, n_column) of models, as they count in the noise."""
        return self.data.noise(self._freed(rows)[0])

    def expected(self, spread: Spread, share: Array, t: Array, rows: Array, inverse: Array) -> Array:
        """chi2 that noise, doubt and what is common let expect, less the part that parameters take."""
        left, met = self._freed(rows)
        both = jnp.concatenate([self.rows, left])
        own = self.data.expected(spread, share, t, both, jax.scipy.linalg.block_diag(self.inverse, inverse))
        return own + len(self.rows) - jnp.trace(self.inverse) - traced(inverse, met)


def doubted(data: Data, matrix: Array, rows: Array) -> tuple[Doubted, Array]:
    """Data of which the model may be wrong by rows (n_row, n_column), and their G'WG; matrix: that without doubt."""
    across, one = dot(rows, matrix), jnp.eye(len(rows), dtype=matrix.dtype)
    made = divided_by_root(one + dot(across, rows.T), jnp.concatenate([across, one], axis=1))
    y, root = made[:, : across.shape[1]], made[:, across.shape[1] :]
    return Doubted(data, rows, across, dot(root.T, root)), matrix - dot(y.T, y)


def corner_doubts(table: Array, cell: Array, place: Array, doubted: tuple[bool, ...]) -> Array:
    """Rows (n_row, n_component) of doubt at a place 0..1 within a cell (n_label,); table (*node, n_component).

    Corners are independent. Along labels that doubt does not depend on it is interpolated itself.
    """
    block = lax.dynamic_slice(table, [*cell, jnp.int32(0)], (*[2] * len(cell), table.shape[-1]))
    for label, independent in enumerate(doubted):
        share = jnp.stack([1 - place[label], place[label]])
        block = jnp.moveaxis(block, label, -1)
        block = block * jnp.sqrt(share) if independent else dot(block, share)[..., None]
        block = jnp.moveaxis(block, -1, label)
    return block.reshape(-1, block.shape[-1])


def doubt_in_components(
    grid: StellarGrid, known: np.ndarray, basis: np.ndarray, scale: np.ndarray, nodes: Sequence[np.ndarray] | None
) -> dict[str, Any]:
    """What a grid may be wrong by between its nodes, as arguments of an `Interpolator`.

    known (*node,): where there are spectra; basis over scale: the components; nodes: where there are parabolas.
    """
    if grid.doubt is None:
        return {}
    doubt = np.asarray(grid.doubt)
    bent = None
    if nodes is not None:
        made = [_bent_weights(x) for x in nodes]
        n = max(map(len, made))
        bent = np.stack([np.pad(one, ((0, n - len(one)), (0, 0), (0, 0))) for one in made])
    independent = tuple(n > 1 for n in doubt.shape[:-1])
    made_of = _in_components(doubt, np.asarray(grid.flux, float), known, basis / scale, scale)
    return {"doubt": made_of, "bent": bent, "doubted": independent}


def _in_components(
    doubt: np.ndarray, flux: np.ndarray, known: np.ndarray, vectors: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """The share of the doubt of each node that is expected in the grid, in components (*node, n_component).

    doubt (*node or ones, n_wavelength): fractions of the flux (*node, n_wavelength).
    """
    out = np.zeros((*known.shape, len(vectors)))
    places = np.nonzero(known)
    for start in range(0, len(places[0]), ROWS):
        node = tuple(place[start : start + ROWS] for place in places)
        own = tuple(np.minimum(place, n - 1) for place, n in zip(node, doubt.shape[:-1], strict=True))
        change = np.asarray(doubt[own], float) * flux[node]
        change -= flux[node] * change.mean(axis=1, keepdims=True)
        out[node] = SHARE * (np.nan_to_num(change) / scale) @ vectors.T
    return out


def beyond(x: np.ndarray) -> np.ndarray:
    """The nodes with one more at either end, where ghosts are put."""
    return np.concatenate([[2 * x[0] - x[1]], x, [2 * x[-1] - x[-2]]])


def _bent_weights(x: np.ndarray) -> np.ndarray:
    """Polynomials (n_cell, 4, 4) of the share of the difference of two parabolas, of nodes with ghosts at either end.

    In ascending powers of the place within a cell, as of `Interpolator`.
    """
    x = beyond(x)
    weight = np.zeros((len(x) - 3, 4, 4))
    for cell in range(len(weight)):
        place = (x[cell : cell + 4] - x[cell + 1]) / (x[cell + 2] - x[cell + 1])
        for sign, points in ((1, (0, 1, 2)), (-1, (1, 2, 3))):
            for q in points:
                a, b = (place[p] for p in points if p != q)
                polynomial = np.array([a * b, -a - b, 1.0]) / ((place[q] - a) * (place[q] - b))
                weight[cell, :3, q] += sign * SHARE * polynomial
    return weight
