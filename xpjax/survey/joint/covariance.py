"""Covariances of a joint solution: of its columns, and of the stars' magnitudes with them.

    cov(p) = R^-1,   cov(M) = D^-1 + D^-1 B cov(p) B' D^-1

within what constraints leave free. Where spectra with errors are parameters as well, `noise` adds to it.
"""

from __future__ import annotations

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.survey.joint.fit import Fit

BATCH = 512
"""Right-hand sides that are solved for at once."""


class Uncertainty:
    """What covariances and errors of a solution come from."""

    def inverse(self, right: np.ndarray) -> np.ndarray:
        """cov(p) right (n_column, k)."""
        raise NotImplementedError

    def star_rows(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """D^-1 B (k, n_column) of slots (a star in a band), and their block of D^-1 (k, k)."""
        raise NotImplementedError

    def errors(self, columns: np.ndarray, n_column: int) -> np.ndarray:
        """Standard errors (k,) of columns."""
        out = np.empty(len(columns))
        for start in range(0, len(columns), BATCH):
            some = columns[start : start + BATCH]
            right = np.zeros((n_column, len(some)))
            right[some, np.arange(len(some))] = 1.0
            variance = self.inverse(right)[some, np.arange(len(some))]
            out[start : start + BATCH] = np.sqrt(np.maximum(variance, 0.0))
        return out

    def star_errors(self, slots: np.ndarray) -> np.ndarray:
        """Standard errors (k,) of slots, of measurements and terms together."""
        out = np.empty(len(slots))
        for start in range(0, len(slots), BATCH):
            rows, own = self.star_rows(slots[start : start + BATCH])
            variance = np.diagonal(own) + np.einsum("ij,ji->i", rows, self.inverse(rows.T))
            out[start : start + BATCH] = np.sqrt(np.maximum(variance, 0.0))
        return out


class StoredUncertainty(Uncertainty):
    """Errors, and the covariance (n_column, n_column) of the columns, as a file has them."""

    def __init__(self, covariance: np.ndarray | None, error: np.ndarray, star_error: np.ndarray) -> None:
        self.covariance, self.error, self.star_error = covariance, error, star_error

    def inverse(self, right: np.ndarray) -> np.ndarray:
        """cov(p) right (n_column, k). Raises XpjaxError where the file has no covariance."""
        if self.covariance is None:
            raise XpjaxError("the file of the solution has errors and no covariance: write it with covariance=True")
        return np.nan_to_num(self.covariance) @ right

    def star_rows(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nothing where there are no slots. Raises XpjaxError otherwise: files have no covariances of stars."""
        if len(slots):
            raise XpjaxError("a solution read from a file has errors of stars and no covariances: solve it again")
        return np.zeros((0, len(self.error))), np.zeros((0, 0))

    def errors(self, columns: np.ndarray, n_column: int) -> np.ndarray:
        """Standard errors (k,) of columns."""
        return self.error[columns]

    def star_errors(self, slots: np.ndarray) -> np.ndarray:
        """Standard errors (k,) of slots."""
        return self.star_error[slots]


class FitUncertainty(Uncertainty):
    """Covariances of a finished fit, at its final weights; factors are made when they are first needed."""

    def __init__(self, fit: Fit) -> None:
        self.fit, self.equations = fit, fit.equations
        self._exact = False
        self._across: np.ndarray | None = None
        self._noise: list[tuple[np.ndarray, np.ndarray]] | None = None

    def inverse(self, right: np.ndarray) -> np.ndarray:
        """cov(p) right (n_column, k), within what constraints leave free."""
        out = self._inverse(right)
        if self._noise is None:
            self._noise = self._noises()
        for across, middle in self._noise:
            out += across @ (middle @ (across.T @ right))
        return out

    def _inverse(self, right: np.ndarray) -> np.ndarray:
        """R^-1 right (n_column, k), less what constraints hold fixed."""
        equations = self.equations
        if equations.factor is not None and not self._exact:
            equations.factorize(single=False)
            self._exact = True
        solve = equations.solve if equations.factor is None else equations.factor.solve
        out = solve(right)
        hold = equations.equations
        if len(hold):
            if self._across is None:
                self._across = solve(hold.T)
            out = out - self._across @ np.linalg.solve(hold @ self._across, hold @ out)
        return np.where(self.fit.seen[:, None], out, 0.0)

    def _noises(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """What noisy derivatives of each term add to R^-1: U, and what is between U and U'; see `noise`."""
        fit, problem, slots = self.fit, self.fit.problem, self.fit.stars.slots
        m, inverse, out = len(problem.sorted.bands), fit.stars.inverse, []
        solved = inverse if inverse.ndim == 3 else inverse.reshape(-1, m)[:, :, None] * np.eye(m)
        for one, last in zip(problem.nonlinear, fit.linear, strict=True):
            columns = [self.equations.rows.layout.columns(b) for b in one.blocks]
            order, weight = problem.sorted.order, self.equations.weight
            found = one.term.noise(last, columns, solved, order, slots.row_slot, weight)
            if found is not None:
                unit = np.zeros((len(fit.p), len(found.columns)))
                unit[found.columns, np.arange(len(found.columns))] = 1.0
                across = self._inverse(unit)
                out.append((across, found.correction(across[found.columns])))
        return out

    def star_rows(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """D^-1 B (k, n_column) of slots, and their block of D^-1 (k, k)."""
        inverse, m = self.fit.stars.inverse, self.fit.stars.slots.n_band
        rows, alike = np.zeros((len(slots), len(self.fit.p))), np.zeros((len(slots), len(slots)))
        for k, slot in enumerate(slots.tolist()):
            star = slot // m
            for band in range(m):
                factor = inverse[slot] if inverse.ndim == 1 else inverse[star, slot % m, band]
                rows[k] += factor * self._star_sums(star * m + band)
            for j, other in enumerate(slots.tolist()):
                if other // m == star:
                    alike[k, j] = inverse[slot] if inverse.ndim == 1 else inverse[star, slot % m, other % m]
        return rows, alike

    def _star_sums(self, slot: int) -> np.ndarray:
        """B (n_column,) of one slot."""
        slots, rows = self.fit.stars.slots, self.equations.rows
        k = int(np.searchsorted(slots.slot, slot))
        if k == len(slots.slot) or slots.slot[k] != slot:
            return np.zeros(len(self.fit.p))
        mine = slice(int(slots.bounds[k]), int(slots.bounds[k + 1]))
        entries = self.fit.weight[mine, None] * rows.value[mine]
        return np.bincount(rows.column[mine].ravel(), entries.ravel(), len(self.fit.p))
