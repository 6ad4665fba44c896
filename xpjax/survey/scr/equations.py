"""The least squares of a color regression: coefficients of terms, with the zero-points of tiles eliminated."""

from __future__ import annotations

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.survey.scr.labels import quadratic_form

SINGULAR = 1e-10
"""Terms are degenerate where the smallest singular value of the scaled normal matrix is below this."""


class Equations:
    """Normal equations of coefficients, with the offsets of tiles eliminated, for terms t (n, k).

    speaks (n, k): whether a star contributes to the equation of a term. known: the last coefficient, where it is given.
    """

    def __init__(
        self, t: np.ndarray, speaks: np.ndarray, tile: np.ndarray, n_tile: int, known: float | None = None
    ) -> None:
        self.t, self.speaks, self.tile, self.n_tile, self.known = t, speaks, tile, n_tile, known

    def _by_tile(self, values: np.ndarray) -> np.ndarray:
        """Sums over the stars of each tile."""
        columns = values.reshape(len(values), -1).T
        sums = [np.bincount(self.tile, column, max(self.n_tile, 1)) for column in columns]
        return np.stack(sums, axis=1).reshape(-1, *values.shape[1:])

    def solve(self, y: np.ndarray, weight: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (k,) and offsets of the tiles, NaN without stars; (1,) zero without tiles."""
        self.weight, total = weight, self._by_tile(weight)
        say = self.speaks * weight[:, None] * self.t  # what multiplies a residual in each equation
        t, left = self.t, y
        self.score = say
        if self.n_tile:
            self.inverse = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
            self.mean_terms = self._by_tile(weight[:, None] * t) * self.inverse[:, None]
            mean_say = self._by_tile(say) * self.inverse[:, None]
            mean_y = self._by_tile(weight * y) * self.inverse
            t, left = t - self.mean_terms[self.tile], y - mean_y[self.tile]
            self.score = say - weight[:, None] * mean_say[self.tile]
            self.score[:, 0] = say[:, 0]
        matrix, right = say.T @ t, say.T @ left
        # The constant is the mean color: offsets of tiles have zero mean over the stars.
        matrix[0], right[0] = say[:, 0] @ self.t, say[:, 0] @ y
        free, value = np.ones(len(right), bool), np.zeros(len(right))
        if self.known is not None:
            free[-1], value[-1] = False, self.known
        part = matrix[np.ix_(free, free)]
        scale = np.sqrt(np.abs(np.diagonal(part)))
        scaled = part / np.outer(scale, scale) if (scale > 0).all() else part * 0
        if not np.linalg.svd(scaled, compute_uv=False)[-1] > SINGULAR:
            raise XpjaxError(
                f"{where}: the stars do not determine all terms; lower the order, give the "
                "reddening coefficient as a number, or widen the selection"
            )
        value[free] = np.linalg.solve(scaled, (right - matrix @ value)[free] / scale) / scale
        self.normal, self.free = part, free
        if not self.n_tile:
            return value, np.zeros(1)
        return value, np.where(total > 0, mean_y - self.mean_terms @ value, np.nan)

    def covariance(self, y: np.ndarray, value: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """The sandwich covariance (k, k) of the coefficients: right for any errors of stars that are independent."""
        residual = np.where(self.weight > 0, y - self.t @ value - offset[self.tile], 0)
        score = (self.score * residual[:, None])[:, self.free]
        n = int(np.count_nonzero(self.weight))
        spare = n / max(1, n - len(value) - max(self.n_tile - 1, 0))
        inverse = np.linalg.inv(self.normal)
        out = np.zeros((len(value), len(value)))
        out[np.ix_(self.free, self.free)] = spare * inverse @ (score.T @ score) @ inverse.T
        return out

    def tile_errors(self, variance: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Error of each tile's offset from its stars, from the coefficients (mean tile taken off), and its stars."""
        count = self._by_tile((self.weight > 0).astype(float)).astype(int)
        if not self.n_tile:
            return np.zeros(1), np.zeros(1), count
        own = np.sqrt(self._by_tile(self.weight**2 * variance)) * self.inverse
        mean = self.mean_terms - self.weight @ self.t / self.weight.sum()
        systematic = np.sqrt(np.maximum(quadratic_form(mean, covariance), 0))
        return np.where(count > 0, own, np.nan), np.where(count > 0, systematic, np.nan), count
