"""Integrals over sampled curves: between its samples a curve is a local cubic, and integrals of it are exact.

The published projection vectors were made so: straight lines between samples 1 nm apart, or sums over them, depart by
up to 4e-3 from them. The cubic is linear in the samples: fluxes are additive, and the gradient with respect to a curve
is a constant matrix.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpjax.core.linalg import interpolation

STEP = 0.25
"""Longest piece [nm] of the quadrature: at 330 nm the design matrix changes within 1 nm."""


def quadrature(wavelength: np.ndarray, breaks: Sequence[float] | np.ndarray = ()) -> tuple[np.ndarray, np.ndarray, Any]:
    """Nodes (m,), weights (m,) and the sparse matrix (m, n) from samples at wavelengths (n,) [nm] to the nodes.

    int T g dl = weights @ ((matrix @ T) * g(nodes)): three Gauss-Legendre nodes on every interval, which are first
    divided at the breaks [nm], where g may have a corner or an end, and into pieces of at most 0.25 nm. Bands of one
    system share a grid: the last results are kept, and their arrays are read-only.
    """
    x = np.asarray(wavelength, float)
    return _quadrature(x.tobytes(), tuple(map(float, breaks)))


@functools.lru_cache(maxsize=16)
def _quadrature(samples: bytes, breaks: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, Any]:
    x = np.frombuffer(samples)
    # Wavelengths made from Angstrom are a rounding away from whole numbers.
    within = [b for b in breaks if x[0] < b < x[-1] and np.abs(x - b).min() > 1e-6]
    ends = np.unique(np.concatenate([x, within]))
    pieces = [
        np.linspace(a, b, max(int(np.ceil((b - a) / STEP - 1e-6)), 1) + 1)[:-1] for a, b in itertools.pairwise(ends)
    ]
    ends = np.concatenate([*pieces, ends[-1:]])
    node, weight = np.polynomial.legendre.leggauss(3)
    half = 0.5 * np.diff(ends)[:, None]
    nodes = (0.5 * (ends[:-1] + ends[1:])[:, None] + half * node).ravel()
    weights = (half * weight).ravel()
    nodes.flags.writeable = weights.flags.writeable = False
    return nodes, weights, interpolation(x, nodes)


def between(grid: np.ndarray, low: float, high: float) -> slice:
    """The nodes of an ascending grid from low to high, both included."""
    return slice(int(np.searchsorted(grid, low)), int(np.searchsorted(grid, high, side="right")))
