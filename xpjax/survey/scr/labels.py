"""Stellar labels, scaled, and polynomials in them: the terms of a color regression.

Labels are (T, F, E): effective temperature, [Fe/H] and reddening, scaled to (label - ZERO) / SCALE. Terms are products
of powers of scaled labels. The mean of a term over a Gaussian of true labels is exact (Stein's lemma).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError

LABELS = ("teff", "feh", "reddening")
ZERO, SCALE = (6000.0, 0.0, 0.0), (500.0, 0.5, 1.0)
"""Zero and unit of scaled labels: the papers' sample lies within -2..1."""

Exponents = tuple[int, ...]


def terms(order: int, reddening: str | float = "constant") -> tuple[Exponents, ...]:
    """Exponents of (T, F, E) of the terms: the intrinsic ones by total order, the constant first, then those of R.

    order 1..3. reddening: "constant", or "quadratic" for E times a quadratic in (T, E); a number is a known constant.
    """
    if order not in (1, 2, 3):
        raise XpjaxError(f"order must be 1, 2 or 3, not {order!r}")
    intrinsic = [(total - j, j, 0) for total in range(order + 1) for j in range(total + 1)]
    if reddening == "quadratic":
        return (*intrinsic, *((total - j, 0, 1 + j) for total in range(3) for j in range(total + 1)))
    if reddening == "constant" or (isinstance(reddening, int | float) and np.isfinite(reddening)):
        return (*intrinsic, (0, 0, 1))
    raise XpjaxError(f'reddening must be "constant", "quadratic" or a number, not {reddening!r}')


def mean_monomials(z: np.ndarray, covariance: np.ndarray | None, exponents: Sequence[Exponents]) -> np.ndarray:
    """Means (n, n_term) of products of powers of z + u, u ~ N(0, covariance); covariance (n, d, d), None for zero.

    Stein's lemma, one power after the other: E[x_d p(x)] = z_d E[p] + sum_c S_dc E[dp/dx_c].
    """
    n, d = z.shape
    known: dict[Exponents, np.ndarray] = {(0,) * d: np.ones(n)}

    def lower(e: Exponents, k: int) -> Exponents:
        return tuple(p - (j == k) for j, p in enumerate(e))

    def mean(e: Exponents) -> np.ndarray:
        if e not in known:
            k = next(j for j, p in enumerate(e) if p)
            rest = lower(e, k)
            value = z[:, k] * mean(rest)
            for c, power in enumerate(rest):
                if power and covariance is not None:
                    value = value + power * covariance[:, k, c] * mean(lower(rest, c))
            known[e] = value
        return known[e]

    return np.stack([mean(e) for e in exponents], axis=1)


def gradient(z: np.ndarray, value: np.ndarray, exponents: Sequence[Exponents]) -> np.ndarray:
    """Derivatives (n, d) of the polynomial at z (n, d)."""
    out = np.zeros_like(z)
    for v, e in zip(value, exponents, strict=True):
        for k, power in enumerate(e):
            if power:
                rest = [p - (j == k) for j, p in enumerate(e)]
                out[:, k] += v * power * np.prod(z ** np.array(rest), axis=1)
    return out


def quadratic_form(vector: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """v' M v of rows: vector (n, k), matrix (k, k) or (n, k, k)."""
    return np.einsum("ni,...ij,nj->n" if matrix.ndim == 2 else "ni,nij,nj->n", vector, matrix, vector)


def scaled(
    color: np.ndarray,
    error: np.ndarray,
    labels: np.ndarray,
    covariance: np.ndarray | None,
    zero: Any = ZERO,
    scale: Any = SCALE,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scaled labels (n, 3) and their covariance (n, 3, 3)."""
    n = len(color)
    if np.shape(error) != (n,) or np.shape(labels) != (n, 3):
        raise XpjaxError(
            f"expected {n} errors and labels ({n}, 3) of {', '.join(LABELS)} for {n} colors, found shapes "
            f"{np.shape(error)} and {np.shape(labels)}"
        )
    z = (np.asarray(labels, float) - np.asarray(zero, float)) / np.asarray(scale, float)
    if covariance is None:
        return z, None
    if np.shape(covariance) not in ((3, 3), (n, 3, 3)):
        raise XpjaxError(f"label_covariance must be (3, 3) or ({n}, 3, 3), found {np.shape(covariance)}")
    scaled = np.asarray(covariance, float) / np.outer(scale, scale)
    return z, np.array(np.broadcast_to(scaled, (n, 3, 3)))


def tuples(exponents: np.ndarray) -> list[Exponents]:
    """Exponents (k, 3) as tuples."""
    return [tuple(map(int, e)) for e in exponents]
