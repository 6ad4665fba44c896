"""Solving normal equations: Cholesky factors, null spaces, and conjugate gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import linalg

from xpjax.survey.joint.normal import SINGULAR, Preconditioner

PROBE_ZERO = 1e-3
"""What is left of a random vector of length sqrt(p) where nothing is undetermined, at most."""


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

    def packed(self) -> dict[str, np.ndarray]:
        """The upper triangle of the factor in float32, row by row, which does for a preconditioner; and its scale."""
        return {"factor": self.lower[0][np.triu_indices(len(self.scale))].astype(np.float32), "scale": self.scale}

    @classmethod
    def unpacked(cls, factor: np.ndarray, scale: np.ndarray) -> Factor:
        """The factor of `packed` arrays."""
        upper = np.zeros((len(scale),) * 2, np.float32, order="F")
        upper[np.triu_indices(len(scale))] = factor
        return cls((upper, False), scale)


def factorize(matrix: np.ndarray, diagonal: np.ndarray) -> Factor:
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
