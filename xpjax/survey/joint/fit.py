"""The passes of a joint solution: reweighted least squares for all columns and star magnitudes at once.

    M_star,band = m + sum of terms + noise,   variance = error^2 + floor_band^2

minimized over every column of the terms and every star's magnitude, which is eliminated exactly (see
`normal`). Spectra may give prior magnitudes, with their covariance between the bands of a star. Outliers
are met by iteratively reweighted least squares, then by a clip that lets points back in, until nothing changes:

- a residual is judged by what its star's other measurements leave uncertain: by r / sqrt(v - D^-1) where it takes part
  and r / sqrt(v + D^-1) where it does not, so that stars with few measurements do not lose them to each other;
- a star loses at most a tenth of its measurements in a pass, but one: the worst. Points that come and go stay out;
- a star without a prior needs `min_observations` that are left, or takes no part; it is looked at again in every pass;
- the floor of a band is an S-estimate of these residuals, as for single frames (`xpjax.survey.exposures.zeropoint`).

Terms whose columns act non-linearly (`Transmission`) are linearized anew in every pass: Gauss-Newton. A combination of
columns that no data determine is found and told by the terms in it, and the fit refused: constraints or priors must say
what it is to be.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey.joint.blocks import Linear
from xpjax.survey.joint.equations import TIGHT, Equations
from xpjax.survey.joint.normal import HostRows, diagonal_of, place_of
from xpjax.survey.joint.priors import slot_prior
from xpjax.survey.joint.problem import JointProblem
from xpjax.survey.joint.reference import reference_rows
from xpjax.survey.joint.weights import Stars, Weights

ROBUST_PASSES, PASSES = 12, 50
"""Most passes of the reweighting, and in all."""
SETTLED, NEARLY = 1e-3, 1e-2
"""Standard deviations that the last pass may move columns by, all together; the second from half of the passes on.

Where derivatives of a tabulated curve jump a little, passes may go to and fro between its two sides for ever.
"""
LOOSE = 0.03
"""Where conjugate gradients end on the way: by how many standard deviations all columns together are off."""
SINGLE = 2000
"""Columns beyond which the preconditioner is formed in float32."""
Choice: TypeAlias = np.ndarray | None
"""A mask, None for none."""


@dataclasses.dataclass(frozen=True, repr=False)
class KeptBack(Record):
    """What is kept back for cross-validation: frames (n_frame,), slots (n_slot,) of stars, and rows (n,) of both."""

    frames: np.ndarray
    slots: np.ndarray
    rows: np.ndarray


def keep_back(problem: JointProblem, frames: Choice, stars: Choice) -> KeptBack:
    """What is kept back where frames (n_frame,) and rows of stars (n,) are."""
    o, slots = problem.observations, problem.rows.slots
    held = np.zeros(len(o.frames), bool) if frames is None else np.asarray(frames, bool)
    chosen = np.zeros(len(o), bool) if stars is None else np.asarray(stars, bool)
    held_slot = np.zeros(slots.n_slot, bool)
    held_slot[slots.row_slot[chosen[problem.sorted.order]]] = True
    return KeptBack(held, held_slot, held[o.frame] | chosen)


class Fit:
    """A joint solution in the making.

    Of the sorted rows (n,): y, instrumental magnitudes with what non-linear terms add but their columns; fitted, y + A
    p; weight. p (n_column,); seen (n_column,): columns with data or a prior. linear: non-linear terms about p. before:
    what is known of earlier rows, see `information`.
    """

    fitted: np.ndarray
    linear: list[Linear]
    before: Any = None
    converged = False
    passes = 0
    steps = 0

    def __init__(
        self, problem: JointProblem, rows: HostRows, magnitude: np.ndarray, frames: Choice, stars: Choice
    ) -> None:
        self.problem, model, order = problem, problem.model, problem.sorted.order
        self.magnitude, self.y = magnitude, np.asarray(magnitude[order], float)
        self.kept_back = keep_back(problem, frames, stars)
        sigma = problem.observations.magnitude_error[order]
        sigma[self.kept_back.frames[problem.observations.frame[order]]] = np.inf
        self.stars = Stars(rows.slots, problem.prior)
        self.weights = Weights(model, self.stars, sigma, problem.sorted)
        self.weight = np.zeros(len(order))
        columns = problem.columns
        self.seen = self._find_seen(rows)
        self.equations = Equations(rows, columns, model, self.seen)
        self.p = columns.mean.copy()
        self.tight = TIGHT
        self.linear = [one.start for one in problem.nonlinear]
        self.reference = self._find_reference(rows)
        self.measured = np.zeros(rows.slots.n_slot, bool)
        self.measured[rows.slots.slot] = True

    # --- weights and magnitudes ---------------------------------------------------------------------------------------

    def _reweigh(self) -> None:
        """Weights from errors, floors, clips and stages; and which stars take part."""
        stars, slots = self.stars, self.stars.slots
        stars.count = self.weights.write(self.weight)
        enough = (stars.count >= self.problem.model.min_observations) | (diagonal_of(stars.prior.precision) > 0)
        stars.active = enough & ~self.kept_back.slots
        stars.inverse = stars.prior.inverse(self.equations.rows.sums(self.weight))
        weight = self.weight
        if not stars.active[slots.slot].all():
            weight = self.weight * slots.of_rows(stars.active)
        # Of stars that take no part nothing must reach R, though they have magnitudes of their own.
        inverse = stars.inverse if slots.n_band > 1 else np.where(stars.active, stars.inverse, 0.0)
        self.equations.weight, self.equations.inverse = weight, inverse

    def _evaluate(self) -> None:
        """Calibrated magnitudes y + A p of all rows and the stars' magnitudes, at the columns as they are."""
        self.fitted = self.equations.rows.predict(self.p)
        self.fitted += self.y
        self._average()

    def _average(self) -> None:
        """The stars' magnitudes at the weights as they are."""
        stars = self.stars
        sums = self.equations.rows.sums(self.weight * self.fitted)
        stars.magnitude = stars.slots.times(stars.inverse, sums + stars.prior.right)

    def without_reference(self) -> tuple[np.ndarray, np.ndarray]:
        """Which slots (n_slot,) have a magnitude, and magnitudes (n_slot,) without what terms of the reference add."""
        stars, known = self.stars, self.stars.own > 0
        if self.reference is None:
            return known, stars.magnitude
        # Without a measurement nothing says where on the reference a star is.
        return known & self.measured, stars.magnitude - self.reference @ self.p

    def chi2(self, part: np.ndarray) -> float:
        """Chi2 of priors of columns, and of slots (n_slot,) that take part."""
        columns = self.problem.columns
        own = float(columns.precision @ (self.p - columns.mean) ** 2)
        return own + self.stars.prior.chi2(self.stars.magnitude, part)

    def _find_reference(self, rows: HostRows) -> Any:
        """What terms of the reference add to stars, sparse (n_slot, n_column); None where there are none."""
        return reference_rows(rows, self.problem.columns.blocks)

    def _find_seen(self, rows: HostRows) -> np.ndarray:
        """Columns (n_column,) that rows which count, or priors, say something of."""
        kept, seen = self.weights.kept, self.problem.columns.precision > 0
        for k in range(rows.column.shape[1]):
            mine = rows.column[:, k] if kept.all() else rows.column[kept, k]
            seen |= np.bincount(mine, minlength=len(seen)) > 0
        return seen

    def _linearize(self) -> None:
        """Non-linear terms at the columns as they are: their derivatives, and y such that y + A p is exact there."""
        rows, stars, found = self.equations.rows, self.stars, self.problem.sorted
        self.y = self.magnitude[found.order]
        for k, one in enumerate(self.problem.nonlinear):
            mine = [rows.layout.columns(b) for b in one.blocks]
            known = None
            if self.passes:
                known = np.where(stars.own > 0, stars.magnitude, np.nan).reshape(len(found.star), -1)
            made = one.term.linearize([self.p[columns] for columns in mine], self.linear[k], known)
            if made.star_prior is not None:
                stars.prior = slot_prior(made.star_prior, found.star, found.bands)
                stars.inverse = stars.prior.inverse(rows.sums(self.weight))
            added = made.added[found.order]
            slopes = [slope[found.order] for slope in made.slopes]
            for b, columns, value, slope in zip(one.blocks, mine, made.values, slopes, strict=True):
                self.p[columns] = value
                added -= slope * value[place_of(rows, b, slice(None))]
            if not np.isfinite(added).all():
                raise XpjaxError(f"{one.name}: the fit ran where spectra have no light; give priors")
            self.y = self.y + added
            for b, slope in zip(one.blocks, slopes, strict=True):
                rows.replace(b, slope[:, None])
            self.linear[k] = dataclasses.replace(made, added=np.empty(0), slopes=[])
        self.reference = self._find_reference(rows)

    # --- passes -------------------------------------------------------------------------------------------------------

    def begin(self) -> tuple[str, ...]:
        """Form the first equations; returns what constraints decide. Raises XpjaxError for what nothing does."""
        if self.linear:
            self._linearize()
        self._reweigh()
        return self._form()

    def _form(self) -> tuple[str, ...]:
        """Form the equations at the present weights; returns what constraints decide, in words."""
        self.equations.factorize(single=len(self.p) > SINGLE)
        return self.equations.find_gauge()

    def run(self) -> tuple[str, ...]:
        """Reweigh, solve, judge, until nothing changes; returns what constraints decide, in words."""
        model, nonlinear = self.problem.model, bool(self.linear)
        gauge = self.begin()
        self._evaluate()
        (moved, settled), final = self._step(LOOSE, final=False), False
        clipping = self.weights.robust is None
        while self.passes < PASSES:
            self.passes += 1
            self._evaluate()
            if nonlinear:
                self._linearize()
                self._evaluate()
            changed = self.weights.judge(self.fitted, clipping)
            if not clipping and (self.passes >= ROBUST_PASSES or moved < 0.1 * np.sqrt(len(self.p)) + 1e-3):
                if model.clip or moved < 1e-3:
                    clipping = True
                    if model.clip:
                        self.weights.robust = None
                        self.weights.judge(self.fitted, clipping)
                        changed = True
            elif clipping and final and not changed and settled and moved < self._limit():
                self.converged = True
                break
            final = clipping and not changed
            self._reweigh()
            self._average()
            moved, settled = self._step(self.tight if final else LOOSE, final=final)
        if not self.converged:
            self._evaluate()
        for _ in range(2 * nonlinear):  # spectra and magnitudes agree, so that other rows get the same
            self._linearize()
            self._evaluate()
        return gauge

    def _gradient(self, residual: np.ndarray) -> np.ndarray:
        """Half the gradient of chi2 in the columns, of residuals (n,) that are overwritten."""
        return self.equations.gradient(self.p, residual)

    def _limit(self) -> float:
        """By how much the last pass may have moved the columns."""
        return SETTLED if self.passes <= PASSES // 2 else NEARLY

    def _step(self, tolerance: float, *, final: bool) -> tuple[float, bool]:
        """Move the columns to where the present weights have them.

        Returns the move in standard deviations, all together, and whether conjugate gradients ended.
        """
        spread = self.stars.slots.of_rows(self.stars.magnitude)
        np.subtract(self.fitted, spread, out=spread)
        right = -self._gradient(spread)
        change, moved, steps, settled = self.equations.step(right, tolerance)
        self.steps += steps
        before, self.p = self.p, self.equations.project(self.p + change, exact=final)
        if final and self.equations.null.shape[1] < len(self.equations.equations):
            # Constraints that data contradict take back what a step moves.
            change = self.p - before
            moved = float(np.sqrt(max(float(change @ self.equations.operator()(change)), 0.0)))
        self.equations.refresh(steps)
        return moved, settled
