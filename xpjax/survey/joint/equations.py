"""The normal equations of a joint solution at its present weights, with the priors and constraints of its columns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import linalg

from xpjax.core.errors import XpjaxError
from xpjax.survey.joint.blocks import column_name
from xpjax.survey.joint.constraints import equations_of
from xpjax.survey.joint.factor import Factor, NotDetermined, conjugate_gradients, factorize
from xpjax.survey.joint.gauge import decided, describe_null, open_combinations, refusal, unfixed
from xpjax.survey.joint.normal import HostRows, Preconditioner, block_preconditioner
from xpjax.survey.joint.problem import Columns, JointModel

TIGHT = 1e-8
"""Where conjugate gradients end at the last: by how many standard deviations all columns together are off."""
STALE = 40
"""Steps of conjugate gradients beyond which the preconditioner is made anew."""


class Equations:
    """R dp = right for the rows' present weights.

    held: constraints. dense: whether R is formed. weight (n,) and inverse: those that R is of, D^-1 of stars that take
    part; null (n_column, k): combinations that constraints decide.
    """

    weight: np.ndarray
    inverse: np.ndarray
    factor: Factor | None
    precondition: Preconditioner

    def __init__(self, rows: HostRows, columns: Columns, model: JointModel, count: np.ndarray) -> None:
        self.rows, self.columns, self.dense = rows, columns, len(columns.mean) <= model.dense
        self.held = equations_of(model.constraints, columns.blocks, columns.groups, count)
        self.null = np.empty((len(columns.mean), 0))

    @property
    def equations(self) -> np.ndarray:
        """Coefficients (n_equation, n_column) of constraints."""
        return self.held.coefficients

    @property
    def targets(self) -> np.ndarray:
        """Values (n_equation,) of constraints."""
        return self.held.values

    def gradient(self, p: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """A'W residual and what priors and constraints add to it; the residuals (n,) are overwritten."""
        residual *= self.weight
        out = self.rows.adjoint(residual) + self.columns.precision * (p - self.columns.mean)
        return out + self.stiff.T @ (self.stiff @ p - self.stiff_targets)

    def factorize(self, *, single: bool) -> None:
        """Make the preconditioner at the present weights: the factor of R, or its blocks where it is too large.

        single: in float32, half the work; conjugate gradients make up for it. Raises XpjaxError for numbers that are
        not finite, and where data and constraints leave columns undetermined.
        """
        precision, rows = self.columns.precision, self.rows
        if self.dense:
            matrix, diagonal = rows.normal(self.weight, self.inverse, single=single)
        else:
            diagonal = rows.diagonal(self.weight)
        diagonal += precision
        self.set_stiffness(diagonal)
        if not self.dense:
            self.factor = None
            self.precondition = block_preconditioner(rows, self.weight, self.inverse, precision, diagonal)
            return
        matrix[np.diag_indices(len(matrix))] += precision
        for row in self.stiff:
            busy = np.flatnonzero(row)
            matrix[np.ix_(busy, busy)] += np.outer(row[busy], row[busy])
        try:
            self.factor = factorize(matrix, diagonal)
        except NotDetermined as lost:
            scale = np.where(diagonal > 0, diagonal, 1.0)
            raise XpjaxError(refusal(describe_null(lost.null, self.columns.blocks, scale))) from None
        except linalg.LinAlgError:  # float32 does not do
            return self.factorize(single=False)
        self.precondition = self.factor.solve

    def exact(self) -> Factor:
        """The factor of R at the present weights, in float64. Raises XpjaxError as `factorize`."""
        self.factorize(single=False)
        assert self.factor is not None
        return self.factor

    def set_stiffness(self, diagonal: np.ndarray) -> None:
        """Make constraints as stiff as the data, neither more nor less: the solution does not depend on it.

        diagonal (n_column,): of A'WA + P. Raises XpjaxError where it is not finite.
        """
        if len(bad := np.flatnonzero(~np.isfinite(diagonal))):
            name = column_name(self.columns.blocks, int(bad[0]))
            raise XpjaxError(f"numbers that are not finite reached {name}; look at its rows")
        scale = np.where(diagonal > 0, diagonal, 1.0)
        size = 1 / np.sqrt(np.maximum((self.equations**2 / scale).sum(axis=1), np.finfo(float).tiny))
        self.stiff, self.stiff_targets = self.equations * size[:, None], self.targets * size
        self.diagonal = diagonal

    def find_gauge(self) -> tuple[str, ...]:
        """Find and name what constraints decide and data do not. Raises XpjaxError for what neither does."""
        scale = np.where(self.diagonal > 0, self.diagonal, 1.0)
        blocks = self.columns.blocks
        if self.factor is not None and not self.factor.single:
            self.null = decided(self.factor, self.stiff)
        else:
            root = np.where(self.diagonal > 0, 1 / np.sqrt(scale), 0.0)
            self.null = open_combinations(self.rows, self.weight, self.inverse, self.columns.precision, root)
            if (free := unfixed(self.null, self.stiff)).shape[1]:
                raise XpjaxError(refusal(describe_null(free, blocks, scale)))
        return tuple(describe_null(self.null, blocks, scale))

    def operator(self) -> Callable[[np.ndarray], np.ndarray]:
        """x -> R x, priors and constraints included."""
        plain, precision = self.rows.operator(self.weight, self.inverse), self.columns.precision
        return lambda x: plain(x) + precision * x + self.stiff.T @ (self.stiff @ x)

    def step(self, right: np.ndarray, tolerance: float) -> tuple[np.ndarray, float, int, bool]:
        """R^-1 right; its length in standard deviations, steps of conjugate gradients, and whether they ended.

        tolerance: by how many standard deviations all columns together may be off.
        """
        moved = float(np.sqrt(max(float(right @ self.precondition(right)), 0.0)))
        tolerance = max(min(tolerance, 0.1 * moved), TIGHT, 1e-13 * moved)
        change, steps, done = conjugate_gradients(self.operator(), right, self.precondition, tolerance=tolerance)
        return change, moved, steps, done

    def refresh(self, steps: int) -> None:
        """Make the factor anew where conjugate gradients took too many steps with it."""
        if steps > STALE and self.factor is not None:
            self.factorize(single=self.factor.single)

    def project(self, p: np.ndarray, *, exact: bool) -> np.ndarray:
        """The columns put where the constraints hold, at the least cost; exact: also those that data contradict."""
        if not len(self.equations):
            return p
        off = self.equations @ p - self.targets
        if self.null.shape[1] == len(self.equations):
            # They fix what data leave open: moving along that changes nothing else.
            return p - self.null @ np.linalg.solve(self.equations @ self.null, off)
        if exact and np.abs(off).max() > 1e-9 * max(1.0, np.abs(self.targets).max()):
            across = self.solve(self.equations.T)
            return p - across @ np.linalg.solve(self.equations @ across, off)
        return p

    def solve(self, right: np.ndarray) -> np.ndarray:
        """R^-1 right for right (n_column, k), at the present weights, constraints as stiff as the data."""
        operator = self.operator()
        out = np.empty_like(right)
        for k in range(right.shape[1]):
            out[:, k] = conjugate_gradients(operator, right[:, k], self.precondition, tolerance=1e-10)[0]
        return out

    def free_inverse(self, right: np.ndarray) -> np.ndarray:
        """Cov(p) right (n_column, k): R^-1 right less what constraints hold fixed."""
        solve, hold = self.exact().solve if self.dense else self.solve, self.equations
        out = solve(right)
        if not len(hold):
            return out
        across = solve(hold.T)
        return out - across @ np.linalg.solve(hold @ across, hold @ out)
