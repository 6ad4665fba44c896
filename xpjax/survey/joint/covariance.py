"""Covariances of a joint solution: of its columns, and of the stars' magnitudes with them.

    cov(p) = R^-1,   cov(M) = D^-1 + D^-1 B cov(p) B' D^-1

within what constraints leave free. Where spectra with errors are parameters as well, `noise` adds to it, and
`field_floor` where stars at one place of the detector share residuals that no term holds. Where terms
describe what prior magnitudes are wrong by, cov(M) has D^-1 B - G in place of D^-1 B; see `reference`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.survey.joint.field_floor import FieldFloor, find_field_floor
from xpjax.survey.joint.fit import Fit
from xpjax.survey.joint.information import Information, gain_rows, gather

FORMED = 2000
"""Columns up to which their covariance is formed once."""
ROUNDING = 1e-9
"""Part of a column that constraints leave open where they fix it."""
BATCH = 512
"""Right-hand sides that are solved for at once."""


def unit_columns(columns: np.ndarray, n_column: int) -> np.ndarray:
    """Right-hand sides (n_column, k) with a one for each of some columns."""
    out = np.zeros((n_column, len(columns)))
    out[columns, np.arange(len(columns))] = 1.0
    return out


class Uncertainty:
    """What covariances and errors of a solution come from.

    field: what stars at one place of the detector share, None where they share nothing.
    """

    field: FieldFloor | None

    def inverse(self, right: np.ndarray) -> np.ndarray:
        """cov(p) right (n_column, k)."""
        raise NotImplementedError

    def star_rows(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """D^-1 B (k, n_column) of slots (a star in a band), and their block of D^-1 (k, k)."""
        raise NotImplementedError

    def information(self) -> Information:
        """What the measurements say, for further ones. Raises XpjaxError where that is not kept."""
        raise NotImplementedError

    def field_floor(self) -> Mapping[str, float]:
        """Standard deviations [mag] of what stars at one place of the detector share, where they do."""
        return {} if self.field is None else self.field.sigma

    def errors(self, columns: np.ndarray, n_column: int) -> np.ndarray:
        """Standard errors (k,) of columns."""
        return self.errors_of(columns, lambda some: (unit_columns(some, n_column).T, 0.0))

    def star_errors(self, slots: np.ndarray) -> np.ndarray:
        """Standard errors (k,) of slots, of measurements and terms together."""

        def one(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows, own = self.star_rows(some)
            return rows, np.diagonal(own)

        return self.errors_of(slots, one)

    def errors_of(self, wanted: np.ndarray, combinations: Callable[[np.ndarray], tuple[np.ndarray, Any]]) -> np.ndarray:
        """Standard errors (k,) of combinations of columns.

        combinations: the coefficients (k, n_column) of some that are wanted, and variances (k,) beside the columns'.
        """
        out = np.empty(len(wanted))
        for start in range(0, len(wanted), BATCH):
            rows, own = combinations(wanted[start : start + BATCH])
            variance = own + np.einsum("ij,ji->i", rows, self.inverse(rows.T))
            out[start : start + BATCH] = np.sqrt(np.maximum(variance, 0.0))
        return out


class StoredUncertainty(Uncertainty):
    """Errors, the covariance (n_column, n_column) of the columns, and normal equations, as a file has them.

    known: normal equations, or why there are none; reference (n_column,): which columns are of terms of the reference;
    field: see `Uncertainty`.
    """

    def __init__(
        self,
        covariance: np.ndarray | None,
        error: np.ndarray,
        star_error: np.ndarray,
        known: Information | str,
        reference: np.ndarray,
        field: FieldFloor | None = None,
    ) -> None:
        self.covariance, self.error, self.star_error = covariance, error, star_error
        self.known, self.reference, self.field = known, reference, field

    def inverse(self, right: np.ndarray) -> np.ndarray:
        """cov(p) right (n_column, k). Raises XpjaxError where the file has no covariance."""
        if self.covariance is None:
            raise XpjaxError("the file of the solution has errors and no covariance: write it with covariance=True")
        return np.nan_to_num(self.covariance) @ right

    def star_rows(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """D^-1 B - G (k, n_column) of slots, and their block of D^-1 (k, k).

        Raises XpjaxError for slots where the file has no normal equations.
        """
        if not len(slots):
            return np.zeros((0, len(self.error))), np.zeros((0, 0))
        if isinstance(self.known, str):
            raise XpjaxError("a solution read from a file has errors of stars and no covariances: solve it again")
        rows, alike = self.known.star_rows(slots, self.reference)
        if self.field is not None:
            alike = alike + self.field.of_stars(rows, self.known.cell_rows(slots, self.field.cells))
        return rows, alike

    def information(self) -> Information:
        """What the measurements say. Raises XpjaxError where the file does not have it."""
        if isinstance(self.known, str):
            raise XpjaxError(self.known)
        return self.known

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
        self._slots = self._star_errors = np.empty(0)

    def inverse(self, right: np.ndarray) -> np.ndarray:
        """cov(p) right (n_column, k), within what constraints leave free."""
        return self._covariance @ right if len(right) <= FORMED else self._solved(right)

    @functools.cached_property
    def _covariance(self) -> np.ndarray:
        """cov(p) (n_column, n_column)."""
        return self._solved(np.eye(len(self.fit.p)))

    def _solved(self, right: np.ndarray) -> np.ndarray:
        """cov(p) right (n_column, k), by solving for it."""
        out = self._inverse(right)
        for across, middle in self._noise:
            out += across @ (middle @ (across.T @ right))
        if self.field is not None:
            out += self.field.of_columns(right)
        return out

    @functools.cached_property
    def field(self) -> FieldFloor | None:  # type: ignore[override]
        """What stars at one place of the detector share; None where they share nothing."""
        return find_field_floor(self.fit, self._inverse)

    def star_errors(self, slots: np.ndarray) -> np.ndarray:
        """Standard errors (k,) of slots; those of the last call are kept, as every table asks for them."""
        if not np.array_equal(slots, self._slots):
            self._slots, self._star_errors = slots, super().star_errors(slots)
        return self._star_errors

    @functools.cached_property
    def _solve(self) -> Callable[[np.ndarray], np.ndarray]:
        """R^-1 (n_column, k) -> (n_column, k)."""
        if not self.equations.dense:
            return self.equations.solve
        return self.equations.exact().solve

    @functools.cached_property
    def _across(self) -> np.ndarray:
        """R^-1 H', H the constraints."""
        return self._solve(self.equations.equations.T)

    def _inverse(self, right: np.ndarray) -> np.ndarray:
        """R^-1 right (n_column, k), less what constraints hold fixed."""
        right = np.where(self._fixed[:, None], 0.0, right)
        out, hold = self._solve(right), self.equations.equations
        if len(hold):
            out = out - self._across @ np.linalg.solve(hold @ self._across, hold @ out)
        out[self._fixed] = 0.0
        return out

    @functools.cached_property
    def _fixed(self) -> np.ndarray:
        """Columns (n_column,) that do not move: without data, or that constraints alone say."""
        fixed, hold = ~self.fit.seen, self.equations.equations
        busy = np.flatnonzero((hold != 0).any(axis=0))
        if len(busy):
            alone = np.linalg.pinv(hold[:, busy]) * hold[:, busy].T
            fixed[busy[alone.sum(axis=1) > 1 - ROUNDING]] = True
        return fixed

    @functools.cached_property
    def _noise(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """What noisy derivatives of each term add to R^-1: U, and what is between U and U'; see `noise`."""
        fit, found = self.fit, self.fit.problem.sorted
        m, inverse, out = len(found.bands), fit.stars.inverse, []
        solved = inverse if inverse.ndim == 3 else inverse.reshape(-1, m)[:, :, None] * np.eye(m)
        for one, last in zip(fit.problem.nonlinear, fit.linear, strict=True):
            if (slopes := one.term.noise(last, solved)) is not None:
                columns = [self.equations.rows.layout.columns(b) for b in one.blocks]
                slot = fit.stars.slots.row_slot
                noise = slopes.summed(columns, solved, found.order, slot, self.equations.weight)
                across = self._inverse(unit_columns(noise.columns, len(fit.p)))
                out.append((across, noise.correction(across[noise.columns])))
        return out

    def star_rows(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """D^-1 B - G (k, n_column) of slots, and their block of D^-1 (k, k)."""
        m = self.fit.stars.slots.n_band
        whole = (slots[:, None] // m * m + np.arange(m)).ravel()
        rows, alike = gain_rows(slots, self.fit.stars.inverse, self.equations.rows.cross(self.fit.weight, whole))
        if self.fit.reference is not None:
            rows -= self.fit.reference[slots].toarray()
        if self.field is not None:
            alike = alike + self.field.of_stars(rows, self.field.stars[slots].toarray())
        return rows, alike

    def information(self) -> Information:
        """What the measurements of the fit say."""
        return gather(self.fit)
