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
what it is to be. Constraints of what data and priors know are left out until nothing changes: outliers and floors are
those of the data, not of what a constraint bends. Then they hold, at these weights.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, TypeAlias

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Record
from xpjax.survey import RowFlag
from xpjax.survey.joint.blocks import Linear
from xpjax.survey.joint.equations import TIGHT, Equations
from xpjax.survey.joint.gauge import ALONE, CONTRADICTION, beyond, independent
from xpjax.survey.joint.normal import HostRows, diagonal_of, place_of
from xpjax.survey.joint.priors import slot_prior
from xpjax.survey.joint.problem import JointProblem
from xpjax.survey.joint.reference import reference_rows
from xpjax.survey.joint.weights import Stars, Weights

ROBUST_PASSES, PASSES = 12, 50
"""Most passes of the reweighting, and in all."""
SETTLED = 1e-3
"""Standard deviations that the last pass may move columns by, all together."""
ONWARD = 3
"""Damped steps in one direction after which steps grow again."""
CONTRADICTED = 5.0
"""Errors that a constraint may be off what data and priors say of it without the constraint, else a warning."""
SAME = 1e-6
"""Difference, in the unit of a constraint, up to which two say the same."""
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
    p; weight. p (n_column,); count (n_column,): rows of columns; seen: with data or a prior. linear: non-linear
    terms about p. before: what is known of earlier rows, see `information`.
    """

    fitted: np.ndarray
    linear: list[Linear]
    before: Any = None
    converged = False
    passes = 0
    steps = 0
    unbending = False
    """Whether constraints are left out that data and priors decide."""
    bent = False
    """Whether constraints hold that data and priors decide, at weights that the fit without them has."""

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
        self.count = np.maximum(rows.count(self.weights.kept), columns.precision > 0)
        self.seen = self.count > 0
        self.equations = Equations(rows, columns, model, self.count)
        self.p = columns.mean.copy()
        self.tight = TIGHT
        self._damping, self._onward, self._last = False, 0, (np.zeros_like(self.p), 0.0)
        self.linear = [one.start for one in problem.nonlinear]
        self._lost_added = [np.zeros(len(problem.lost.row)) for _ in self.linear]
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

    def lost_magnitudes(self) -> tuple[np.ndarray, np.ndarray]:
        """Calibrated magnitudes (k,) of rows that are kept out, and RowFlag bits of what their columns lack."""
        lost, blocks, layout = self.problem.lost, self.problem.columns.blocks, self.equations.rows.layout
        magnitude = self.magnitude[lost.row] + np.sum(self._lost_added, axis=0)
        flags, nonlinear = np.zeros(len(lost.row), np.uint32), {b for one in self.problem.nonlinear for b in one.blocks}
        for b, (block, first) in enumerate(zip(blocks, layout.first, strict=True)):
            for k in range(first, first + len(block.parts)):
                column = lost.column[:, k]
                unknown = (column >= 0) & ~self.seen[column] & (lost.value[:, k] != 0)
                flags[unknown] |= np.uint32(RowFlag.EXPOSURE_REFUSED if block.group is None else RowFlag.NO_POSITION)
                added = np.where((column < 0) | unknown, np.nan, lost.value[:, k] * self.p[column])
                magnitude += np.where(np.isnan(added), np.nan, 0.0) if b in nonlinear else added
        return magnitude, flags

    def chi2(self, part: np.ndarray) -> float:
        """Chi2 of priors of columns, and of slots (n_slot,) that take part."""
        columns = self.problem.columns
        own = float(columns.precision @ (self.p - columns.mean) ** 2)
        return own + self.stars.prior.chi2(self.stars.magnitude, part)

    def _find_reference(self, rows: HostRows) -> Any:
        """What terms of the reference add to stars, sparse (n_slot, n_column); None where there are none."""
        return reference_rows(rows, self.problem.columns.blocks)

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
            self._lost_added[k] = made.added[self.problem.lost.row]
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
        gauge = (*self.begin(), *self.equations.held.notes, *self.judge_constraints())
        free = self.converged
        self._passes()
        self.converged &= free or not self.bent
        return gauge

    def judge_constraints(self) -> tuple[str, ...]:
        """Solve without the constraints that data and priors decide, if there are any: what these say of them.

        Raises XpjaxError for constraints that contradict each other, or these without being forced.
        """
        equations = self.equations
        held, (extra, beside) = equations.held, beyond(equations.null, equations.stiff)
        if not extra.any():
            return ()
        equations.held, self.unbending = held[~extra], True
        self._form()
        self._passes()
        self.unbending = False
        rows, others = held[extra], [held[one].words for one in beside[extra]]
        across = equations.free_inverse(rows.coefficients.T)
        value, covariance = rows.coefficients @ self.p, rows.coefficients @ across
        least = (rows.coefficients**2 / np.where(equations.diagonal > 0, equations.diagonal, 1.0)).sum(axis=1)
        new, left = independent(covariance, rows.values - value, least)
        off = np.abs(value - rows.values) / np.sqrt(np.maximum(np.diagonal(covariance), np.finfo(float).tiny))
        said, wrong, refused = [], [], []
        for k, word in enumerate(rows.words):
            if not new[k]:  # among others
                alike = covariance[:k, k] ** 2 > ALONE * least[:k] * least[k]
                before = [rows.words[j] for j in np.flatnonzero(new[:k] & alike)]
                already = " and ".join([*others[k], *before])
                if abs(left[k]) > SAME * max(1.0, abs(rows.values[k])):
                    wrong.append(f"{word}, though by {already} it is {rows.values[k] - left[k]:.6g}")
                said.append(f"{word}, which {already} had fixed")
                continue
            decider = " and ".join([self._decider(across[:, k]), *others[k]])
            said.append(f"{word}, though by {decider} it is {_with_error(value[k], np.sqrt(covariance[k, k]))}")
            if off[k] > CONTRADICTED:
                said[-1] += f", {off[k]:.3g} errors off"
                if not rows.forced[k]:
                    refused.append(said[-1])
                said[-1] = f"{CONTRADICTION}{said[-1]}. The constraint holds, and everything else gives way to it"
        if wrong:
            raise XpjaxError(f"constraints contradict each other: {'; '.join(wrong)}. Leave one of them out")
        if refused:
            raise XpjaxError(
                f"contradicted constraints: {'; '.join(refused)}. Everything else would give way: leave the constraint "
                "out, or what it contradicts, a prior or another constraint (glossary: gauge); if it is meant, "
                f"{say('Constraint(force=True)', 'force = true in its [[constraint]]')} holds it"
            )
        equations.held = held[~extra | np.isin(np.arange(len(extra)), np.flatnonzero(extra)[new])]
        self._form()
        self.bent = True
        return tuple(said)

    def _decider(self, direction: np.ndarray) -> str:
        """What says most of a direction (n_column,) of the columns: data, or priors of a term or of the stars."""
        columns, slots = self.problem.columns, self.stars.slots
        own, edges = columns.precision * direction**2, np.cumsum([0, *(b.n_column for b in columns.blocks)])
        shares = {
            f"the prior of {block.name}": float(own[first:last].sum())
            for block, (first, last) in zip(columns.blocks, itertools.pairwise(edges), strict=True)
        }
        cross = self.equations.rows.cross(self.equations.weight, np.arange(slots.n_slot))
        moved = slots.times(self.equations.inverse, cross @ direction)
        precision = self.problem.prior.precision
        if precision.ndim > 1:
            moved = moved.reshape(len(precision), -1)
            shares["the priors of star magnitudes"] = float(np.einsum("si,sij,sj->", moved, precision, moved))
        else:
            shares["the priors of star magnitudes"] = float(precision @ moved**2)
        whole = self.equations.operator()(direction) - self.equations.stiff.T @ (self.equations.stiff @ direction)
        shares["the data"] = float(direction @ whole) - sum(shares.values())
        return max(shares, key=lambda name: shares[name])

    def _passes(self) -> None:
        """Reweigh, solve, judge, until nothing changes; where constraints bend the fit, at the weights that it has."""
        model, nonlinear, last = self.problem.model, bool(self.linear), self.passes + PASSES
        self._evaluate()
        (moved, settled), final = self._step(LOOSE, final=False), False
        clipping, self.converged = self.bent or self.weights.robust is None, False
        while self.passes < last:
            self.passes += 1
            self._evaluate()
            if nonlinear:
                self._linearize()
                self._evaluate()
            changed = not self.bent and self.weights.judge(self.fitted, clipping)
            if not clipping and (self.passes >= ROBUST_PASSES or moved < 0.1 * np.sqrt(len(self.p)) + 1e-3):
                if model.clip or moved < 1e-3:
                    clipping = True
                    if model.clip:
                        self.weights.robust = None
                        self.weights.judge(self.fitted, clipping)
                        changed = True
            elif clipping and final and not changed and settled and moved < SETTLED:
                self.converged = True
                break
            ahead = final and clipping and not self.bent and self.weights.look_ahead()
            final = clipping and (ahead or not changed)
            self._reweigh()
            self._average()
            moved, settled = self._step(self.tight if final else LOOSE, final=final)
        if not self.converged:
            self._evaluate()
        for _ in range(2 * nonlinear):  # spectra and magnitudes agree, so that other rows get the same
            self._linearize()
            self._evaluate()

    def _gradient(self, residual: np.ndarray) -> np.ndarray:
        """Half the gradient of chi2 in the columns, of residuals (n,) that are overwritten."""
        return self.equations.gradient(self.p, residual)

    def _step(self, tolerance: float, *, final: bool) -> tuple[float, bool]:
        """Move the columns to where the present weights have them.

        Returns the move in standard deviations, all together, and whether conjugate gradients ended.
        """
        spread = self.stars.slots.of_rows(self.stars.magnitude)
        np.subtract(self.fitted, spread, out=spread)
        right = -self._gradient(spread)
        change, moved, steps, settled = self.equations.step(right, tolerance)
        self.steps += steps
        if self.linear and final:
            change, moved = self._damped(right, change, moved)
        before, self.p = self.p, self.equations.project(self.p + change, exact=final)
        if final and self.equations.null.shape[1] < len(self.equations.equations):
            # Constraints that data contradict take back what a step moves.
            change = self.p - before
            moved = float(np.sqrt(max(float(change @ self.equations.operator()(change)), 0.0)))
        self.equations.refresh(steps)
        self._last = self.p - before, moved
        self._damping = self._damping and final
        return moved, settled

    def _damped(self, right: np.ndarray, change: np.ndarray, moved: float) -> tuple[np.ndarray, float]:
        """A step of non-linear terms and its length: once a step takes most of the last one back, half as long as that.

        Where a curve has a kink, derivatives are those of one side, and whole steps go to and fro between both sides:
        halves find the kink between them. Thrice the same way, and steps may be longer again.
        """
        last, length = self._last
        back = float(right @ last) < 0
        self._onward = 0 if back else self._onward + 1
        if back and moved > 0.5 * length:
            self._damping = True
        if not self._damping:
            return change, moved
        limit = 0.5 * length if self._onward < ONWARD else 2 * length
        share = min(1.0, limit / moved) if moved > 0 else 1.0
        return share * change, share * moved


def _with_error(value: float, error: float) -> str:
    """A value and its error, to two digits of the error."""
    digits = min(max(1 - int(np.floor(np.log10(max(error, 1e-12)))), 0), 12)
    return f"{round(value, digits) + 0.0:.{digits}f} +- {error:.{digits}f}"
