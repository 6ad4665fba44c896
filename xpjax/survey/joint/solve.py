"""One solution for star magnitudes and all terms of a survey at once.

    M_star,band = m + sum of terms + noise,   variance = error^2 + floor_band^2

minimised over every column of the terms and every star's magnitude, which is eliminated exactly (see
`normal`). Spectra may give prior magnitudes, with their covariance between the bands of a star. Outliers
are met by iteratively reweighted least squares, then by a clip that lets points back in, until nothing changes:

- a residual is judged by what its star's other measurements leave uncertain: by r / sqrt(v - D^-1) where it takes part
  and r / sqrt(v + D^-1) where it does not, so that stars with few measurements do not lose them to each other;
- a star loses at most a tenth of its measurements in a pass, but one: the worst. Points that come and go stay out;
- a star without a prior needs `min_observations` that are left, or takes no part; it is looked at again in every pass;
- the floor of a band is an S-estimate of these residuals, as for single frames (`xpjax.survey.exposures.zeropoint`).

Terms whose columns act non-linearly (`Transmission`) are linearised anew in every pass: Gauss-Newton. A combination of
columns that no data determine is found and told by the terms in it, and the fit refused: constraints or priors must say
what it is to be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import linalg, sparse

from xpjax.core.errors import XpjaxError
from xpjax.survey import Observations, RowFlag
from xpjax.survey.exposures import ExposureModel, scaling
from xpjax.survey.joint.covariance import noise_of_spectra
from xpjax.survey.joint.gauge import decided, describe_null, open_combinations, refusal, unfixed
from xpjax.survey.joint.normal import (
    SINGULAR,
    Factor,
    NotDetermined,
    block_preconditioner,
    conjugate_gradients,
    factorise,
)
from xpjax.survey.joint.rows import SortedRows, fill_rows, row_flags, sort_rows
from xpjax.survey.joint.solution import HeldOut, JointSolution, Uncertainty
from xpjax.survey.joint.star_prior import StarPrior, coupled_precision, model_precision
from xpjax.survey.joint.terms import Block, Constraint, Term, column_name
from xpjax.survey.joint.transmission import Prepared, Transmission
from xpjax.survey.joint.weights import Weights, robust_weight

ROBUST_PASSES, PASSES = 12, 50
"""Most passes of the reweighting, and in all."""
LOOSE, TIGHT = 0.03, 1e-8
"""Where conjugate gradients end: by how many standard deviations all columns together are off, on the way and last."""
SINGLE = 2000
"""Columns beyond which the preconditioner is formed in float32."""
STALE = 40
"""Steps of conjugate gradients beyond which the preconditioner is made anew."""


@dataclasses.dataclass(frozen=True)
class JointModel:
    """What is fitted and how. Raises ValueError for what cannot be.

    terms and constraints as in `terms`. star_prior: the model magnitudes of the observations, with their
    errors, are priors of the stars' magnitudes. robust "huber", "tukey" or "none"; clip [sigma], 0 for none.
    error_floor [mag], None: fitted for each band. min_observations of a star without prior. size: x and y from..to
    [pixels], None: what the rows of each detector span; color_zero [mag], None: the median. dense: most columns whose
    normal equations are formed.
    """

    terms: tuple[Term, ...]
    constraints: tuple[Constraint, ...] = ()
    star_prior: bool = False
    robust: str = "huber"
    clip: float = 5.0
    error_floor: float | None = None
    min_observations: int = 10
    size: tuple[float, float, float, float] | None = None
    color_zero: float | None = None
    dense: int = 20_000

    def __post_init__(self) -> None:
        if not self.terms:
            raise XpjaxError("a joint solution needs at least one term")
        names = [term.name for term in self.terms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise XpjaxError(f"terms of the same name {twice}: rename one")
        if self.robust not in ("huber", "tukey", "none"):
            raise XpjaxError(f'robust must be "huber", "tukey" or "none", not {self.robust!r}')
        if not self.clip >= 0:
            raise XpjaxError(f"clip must not be negative: {self.clip!r}")
        if self.error_floor is not None and not self.error_floor >= 0:
            raise XpjaxError(f"error_floor must be zero or more magnitudes, or left out: {self.error_floor!r}")
        if not self.min_observations >= 1:
            raise XpjaxError(f"min_observations must be at least 1, not {self.min_observations!r}")


def solve_joint(
    observations: Observations,
    model: JointModel,
    *,
    prior: StarPrior | None = None,
    held_out_frames: np.ndarray | None = None,
    held_out_stars: np.ndarray | None = None,
    devices: Any = None,
) -> JointSolution:
    """Solve for all terms and star magnitudes at once; see the module.

    prior: of the stars' magnitudes, instead of the model's `star_prior`. held_out_frames (n_frame,), held_out_stars
    (n,) of rows: masks of what is kept back and looked at afterwards. devices: None for NumPy and SciPy on a CPU and
    JAX where its first device is another; else as in `engine.find_devices`, on JAX.

    Raises ValueError where no row can be used, where data and constraints leave combinations of columns undetermined
    (naming their terms), and for numbers that are not finite (naming the term).
    """
    fit = Fit(observations, model, prior, held_out_frames, held_out_stars, devices)
    fit.run()
    return fit.solution()


def prepare(observations: Observations, model: JointModel, prior: StarPrior | None = None) -> Fit:
    """Rows sorted by star and all that a solution needs, before it is solved."""
    return Fit(observations, model, prior, None, None, None)


class Fit:
    """A joint solution in the making: rows sorted by star, and what is known of them so far."""

    def __init__(
        self,
        o: Observations,
        model: JointModel,
        prior: StarPrior | None,
        held_out_frames: np.ndarray | None,
        held_out_stars: np.ndarray | None,
        devices: Any,
    ) -> None:
        self.o, self.model = o, model
        self.scale = scaling(o, ExposureModel(color_zero=model.color_zero), model.size)
        self.blocks: list[Block] = []
        self.nonlinear: list[tuple[int, Prepared]] = []
        for term in model.terms:
            if isinstance(term, Transmission):
                prepared = term.prepare(o)
                self.nonlinear.append((len(self.blocks), prepared))
                self.blocks += prepared.blocks
            else:
                self.blocks += term.blocks(o, self.scale)
        self.flags = row_flags(o, self.blocks)
        found = sort_rows(o, self.flags)
        self.star, self.bands, self.order = found.star, found.bands, found.order
        self.star_precision, self.star_right, coupled = self._star_prior(prior, found)
        self.slots = found.slots(coupled)
        self.rows, self.y, sigma = fill_rows(o, self.blocks, self.order, self.slots, devices)
        self._keep_back(held_out_frames, held_out_stars, sigma)
        self.weights = Weights(
            self.slots, sigma, found.band, len(self.bands), model.robust, model.clip, model.error_floor
        )
        self.mean = np.concatenate([b.mean for b in self.blocks])
        self.precision = np.concatenate([b.sigma for b in self.blocks]) ** -2.0
        self.place_groups = [_place_group(b, o) for b in self.blocks]
        # Rows are in self.rows now: what terms made of them would be held a second time.
        self.blocks = [dataclasses.replace(b, index=np.empty(0, np.int32), values=()) for b in self.blocks]
        for _, prepared in self.nonlinear:
            prepared.blocks = ()
        self.p = self.mean.copy()
        self.passes = self.steps = 0
        self.final = self.converged = False
        self.null = np.empty((len(self.p), 0))
        self.gauge: tuple[str, ...] = ()
        self.weight = np.zeros(len(self.order))
        self.active = np.ones(self.slots.n_slot, bool)
        self._constraints(len(self.p))

    def _star_prior(self, prior: StarPrior | None, found: SortedRows) -> tuple[np.ndarray, np.ndarray, bool]:
        """Precision (n_slot,) or (n_star, n_band, n_band) of stars, precision times mean, bands coupled or not."""
        n_slot = len(found.star) * len(found.bands)
        spectra = [one for _, one in self.nonlinear if one.term.star_prior]
        if len(spectra) + (prior is not None) + self.model.star_prior > 1:
            raise XpjaxError("stars have one prior: of the terms' spectra, or given, or of the models; take one")
        if spectra:
            prior = StarPrior(found.star, found.bands, *spectra[0].star_prior(found.star, found.bands))
        if prior is not None:
            return coupled_precision(prior, found.star, found.bands)
        if not self.model.star_prior:
            return np.zeros(n_slot), np.zeros(n_slot), False
        o, usable = self.o, found.usable
        return *model_precision(o.model[usable], o.model_error[usable], found.code, n_slot), False

    def _keep_back(self, frames: np.ndarray | None, stars: np.ndarray | None, sigma: np.ndarray) -> None:
        """Mark frames (n_frame,) and stars (n,) that are kept back; the frames' rows count for nothing."""
        self.held_frames = np.zeros(len(self.o.frames), bool) if frames is None else np.asarray(frames, bool)
        if self.held_frames.any():
            rows = self.held_frames[self.o.frame]
            sigma[rows[self.order]] = np.inf
            self.flags[rows] |= np.uint32(RowFlag.HELD_OUT)
        self.held_slot = np.zeros(self.slots.n_slot, bool)
        if stars is not None:
            chosen = np.asarray(stars, bool)
            self.held_slot[np.repeat(self.slots.slot, np.diff(self.slots.bounds))[chosen[self.order]]] = True
            self.flags[chosen] |= np.uint32(RowFlag.HELD_OUT)

    def _constraints(self, n_column: int) -> None:
        """The coefficients and values of all constraints."""
        seen, kept = np.zeros(n_column, bool), self.weights.kept
        for k in range(self.rows.column.shape[1]):
            mine = self.rows.column[:, k] if kept.all() else self.rows.column[kept, k]
            seen |= np.bincount(mine, minlength=n_column) > 0
        self.seen = seen | (self.precision > 0)
        equations, values = [], []
        for one in self.model.constraints:
            at = 0
            for block, group in zip(self.blocks, self.place_groups, strict=True):
                columns = slice(at, at + block.n_column)
                at = columns.stop
                if block.name == one.term:
                    for row in one.rows(block, seen[columns], group):
                        whole = np.zeros(n_column)
                        whole[columns] = row
                        equations.append(whole)
                        values.append(one.value)
                    break
            else:
                raise XpjaxError(f"a constraint names {one.term!r}; terms are {[b.name for b in self.blocks]}")
        self.equations = np.array(equations).reshape(-1, n_column)
        self.targets = np.array(values)

    # --- weights ------------------------------------------------------------------------------------------------------

    def _reweigh(self) -> None:
        """Weights from errors, floors, clips and stages; and which stars take part."""
        slots = self.slots
        count = self.weights.write(self.weight)
        self.count = count
        enough = (count >= self.model.min_observations) | (self._prior_diagonal() > 0)
        self.active = enough & ~self.held_slot
        self.inverse = self._inverse(self.rows.sums(self.weight))
        if self.active[slots.slot].all():
            self.fit_weight = self.weight
        else:
            self.fit_weight = self.weight * np.repeat(self.active[slots.slot], np.diff(slots.bounds))
        # Of stars that take no part nothing must reach R, though they have magnitudes of their own.
        self.fit_inverse = self.inverse if slots.n_band > 1 else np.where(self.active, self.inverse, 0.0)

    def _inverse(self, sums: np.ndarray) -> np.ndarray:
        """D^-1, zero for slots without information."""
        if self.star_precision.ndim == 1:
            total = sums + self.star_precision
            return np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        m = self.slots.n_band
        total = self.star_precision + sums.reshape(-1, m)[:, :, None] * np.eye(m)
        none = np.diagonal(total, axis1=1, axis2=2) <= 0
        total = total + none[:, :, None] * np.eye(m)
        return np.where(none[:, :, None] | none[:, None, :], 0.0, np.linalg.inv(total))

    def _own(self) -> np.ndarray:
        """The diagonal of D^-1 (n_slot,)."""
        return self.inverse if self.inverse.ndim == 1 else np.diagonal(self.inverse, axis1=1, axis2=2).ravel()

    def _evaluate(self) -> None:
        """Calibrated magnitudes y + A p of all rows and the stars' magnitudes, at the columns as they are."""
        self.fitted = self.rows.predict(self.p)
        self.fitted += self.y
        self._average()

    def _average(self) -> None:
        """The stars' magnitudes at the weights as they are."""
        self.magnitude = self.slots.times(self.inverse, self.rows.sums(self.weight * self.fitted) + self.star_right)

    def _linearise(self) -> None:
        """Non-linear terms at the columns as they are: their derivatives, and y such that y + A p is exact there."""
        for first, prepared in self.nonlinear:
            layout = self.rows.layout
            mine = [layout.columns(first + k) for k in range(len(prepared.groups))]
            if prepared.term.star_prior and self.passes:
                known = np.where(self._own() > 0, self.magnitude, np.nan).reshape(len(self.star), -1)
                again = prepared.star_prior(self.star, self.bands, known)
                moved = StarPrior(self.star, self.bands, *again)
                self.star_precision, self.star_right, _ = coupled_precision(moved, self.star, self.bands)
                self.inverse = self._inverse(self.rows.sums(self.weight))
            values = prepared.limited([self.p[columns] for columns in mine])
            for columns, value in zip(mine, values, strict=True):
                self.p[columns] = value
            added, slopes = prepared.evaluate(values)
            for slope, value, (index, _) in zip(slopes, values, prepared.groups, strict=True):
                added -= slope * value[index][self.o.frame]
            added = added[self.order]
            if not np.isfinite(added).all():
                raise XpjaxError(f"{prepared.term.name}: the fit ran where spectra have no light; give priors")
            self.y = self.o.magnitude[self.order] + added
            for k, slope in enumerate(slopes):
                self.rows.replace(first + k, slope[self.order][:, None])

    # --- steps --------------------------------------------------------------------------------------------------------

    def _gradient(self) -> np.ndarray:
        """A'W (y + A p - M) and what priors and constraints add to it."""
        spread = np.repeat(self.magnitude[self.slots.slot], np.diff(self.slots.bounds))
        np.subtract(self.fitted, spread, out=spread)
        spread *= self.fit_weight
        out = self.rows.adjoint(spread) + self.precision * (self.p - self.mean)
        return out + self.stiff.T @ (self.stiff @ self.p - self.stiff_targets)

    def _prepare(self, *, single: bool) -> None:
        """The preconditioner at the present weights: the factor of R, or its blocks where it is too large.

        single: in float32, half the work; conjugate gradients make up for it.
        """
        dense = len(self.p) <= self.model.dense
        if dense:
            matrix, diagonal = self.rows.normal(self.fit_weight, self.fit_inverse, single=single)
        else:
            diagonal = self.rows.diagonal(self.fit_weight)
        diagonal += self.precision
        scale = np.where(diagonal > 0, diagonal, 1.0)
        # Constraints as stiff as the data, neither more nor less: the solution does not depend on it.
        size = 1 / np.sqrt(np.maximum((self.equations**2 / scale).sum(axis=1), np.finfo(float).tiny))
        self.stiff, self.stiff_targets = self.equations * size[:, None], self.targets * size
        self.diagonal = diagonal
        if not np.isfinite(diagonal).all():
            bad = int(np.flatnonzero(~np.isfinite(diagonal))[0])
            raise XpjaxError(f"numbers that are not finite reached {column_name(self.blocks, bad)}; look at its rows")
        if not dense:
            self.factor: Factor | None = None
            self.precondition = block_preconditioner(
                self.rows, self.fit_weight, self.fit_inverse, self.precision, diagonal
            )
            return
        matrix[np.diag_indices(len(matrix))] += self.precision
        for row in self.stiff:
            busy = np.flatnonzero(row)
            matrix[np.ix_(busy, busy)] += np.outer(row[busy], row[busy])
        try:
            self.factor = factorise(matrix, diagonal)
        except NotDetermined as lost:
            raise XpjaxError(refusal(describe_null(lost.null, self.blocks, scale))) from None
        except linalg.LinAlgError:  # float32 does not do
            return self._prepare(single=False)
        self.precondition = self.factor.solve

    def _explain(self) -> None:
        """Find and name what constraints decide and data do not; refuse what neither does."""
        scale = np.where(self.diagonal > 0, self.diagonal, 1.0)
        if self.factor is not None and not self.factor.single:
            self.null = decided(self.factor, self.stiff)
        else:
            root = np.where(self.diagonal > 0, 1 / np.sqrt(scale), 0.0)
            self.null = open_combinations(self.rows, self.fit_weight, self.fit_inverse, self.precision, root)
            if (free := unfixed(self.null, self.stiff)).shape[1]:
                raise XpjaxError(refusal(describe_null(free, self.blocks, scale)))
        self.gauge = tuple(describe_null(self.null, self.blocks, scale))

    def _operator(self) -> Callable[[np.ndarray], np.ndarray]:
        plain = self.rows.operator(self.fit_weight, self.fit_inverse)
        return lambda x: plain(x) + self.precision * x + self.stiff.T @ (self.stiff @ x)

    def _step(self, tolerance: float) -> float:
        """Move the columns to where the present weights have them; the move in standard deviations, all together."""
        right = -self._gradient()
        moved = float(np.sqrt(max(float(right @ self.precondition(right)), 0.0)))
        tolerance = max(min(tolerance, 0.1 * moved), TIGHT, 1e-13 * moved)
        change, steps, done = conjugate_gradients(self._operator(), right, self.precondition, tolerance=tolerance)
        self.steps += steps
        self.settled = done
        self.p = self.p + change
        self._project()
        if steps > STALE and self.factor is not None:
            self._prepare(single=self.factor.single)
        return moved

    def _project(self) -> None:
        """Put the columns where the constraints hold exactly, at the least cost, should they not."""
        if not len(self.equations):
            return
        off = self.equations @ self.p - self.targets
        if self.null.shape[1] == len(self.equations):
            # They fix what data leave open: moving along that changes nothing else.
            self.p = self.p - self.null @ np.linalg.solve(self.equations @ self.null, off)
        elif self.final and np.abs(off).max() > 1e-9 * max(1.0, np.abs(self.targets).max()):
            across = self.solve(self.equations.T)
            self.p = self.p - across @ np.linalg.solve(self.equations @ across, off)

    def solve(self, right: np.ndarray) -> np.ndarray:
        """R^-1 right for right (n_column, k), at the present weights, constraints as stiff as the data."""
        operator = self._operator()
        out = np.empty_like(right)
        for k in range(right.shape[1]):
            out[:, k] = conjugate_gradients(operator, right[:, k], self.precondition, tolerance=1e-10)[0]
        return out

    # --- passes -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Reweigh, solve, judge, until nothing changes."""
        model = self.model
        if self.nonlinear:
            self._linearise()
        self._reweigh()
        self._prepare(single=len(self.p) > SINGLE)
        self._explain()
        self._evaluate()
        moved = self._step(LOOSE)
        clipping = self.weights.robust is None
        while self.passes < PASSES:
            self.passes += 1
            self._evaluate()
            if self.nonlinear:
                self._linearise()
                self._evaluate()
            changed = self._judge(clipping)
            if not clipping and (self.passes >= ROBUST_PASSES or moved < 0.1 * np.sqrt(len(self.p)) + 1e-3):
                if model.clip or moved < 1e-3:
                    clipping = True
                    if model.clip:
                        self.weights.robust = None
                        self._judge(clipping)
                        changed = True
            elif clipping and self.final and not changed and moved < 1e-3 and self.settled:
                self.converged = True
                break
            self.final = clipping and not changed
            self._reweigh()
            self._average()
            moved = self._step(TIGHT if self.final else LOOSE)
        if not self.converged:
            self._evaluate()
        if self.nonlinear:
            self._linearise()
            self._evaluate()

    def _judge(self, clipping: bool) -> bool:
        """Let the weights follow the residuals; whether anything changed."""
        return self.weights.judge(self.fitted, self.magnitude, self._own(), self.active, self.count, clipping)

    # --- results ------------------------------------------------------------------------------------------------------

    def columns_covariance(self, right: np.ndarray) -> np.ndarray:
        """cov(p) right (n_column, k) at the final weights, within what constraints leave free."""
        out = self.inverse_of_normal(right)
        if self.noise is None:
            self.noise = [self._noise(*one) for one in self.nonlinear if one[1].term.star_prior]
        for across, middle in self.noise:
            out += across @ (middle @ (across.T @ right))
        return out

    noise: list[tuple[np.ndarray, np.ndarray]] | None = None

    def _noise(self, first: int, prepared: Prepared) -> tuple[np.ndarray, np.ndarray]:
        """What noisy spectra add to R^-1: U and what is between U and U', see `xpjax.survey.joint.covariance`."""
        m = len(self.bands)
        slot = np.repeat(self.slots.slot, np.diff(self.slots.bounds))
        solved = self.inverse if self.inverse.ndim == 3 else self.inverse.reshape(-1, m)[:, :, None] * np.eye(m)
        parts = [self.rows.layout.columns(first + k) for k in range(len(prepared.groups))]
        found = noise_of_spectra(
            prepared, parts, prepared.slope_noise(self.star, self.bands, solved), solved, slot // m, slot % m,
            self.o.frame[self.order], self.fit_weight,
        )  # fmt: skip
        unit = np.zeros((len(self.p), len(found.columns)))
        unit[found.columns, np.arange(len(found.columns))] = 1.0
        across = self.inverse_of_normal(unit)
        return across, found.correction(across[found.columns])

    def inverse_of_normal(self, right: np.ndarray) -> np.ndarray:
        """R^-1 right (n_column, k) at the final weights, less what constraints hold fixed."""
        if self.factor is not None and not self.exact:
            self._prepare(single=False)
            self.exact = True
        out = self.factor.solve(right) if self.factor is not None else self.solve(right)
        if len(self.equations):
            if self.across is None:
                made = self.factor.solve(self.equations.T) if self.factor is not None else self.solve(self.equations.T)
                self.across = made
            held = np.linalg.solve(self.equations @ self.across, self.equations @ out)
            out = out - self.across @ held
        return np.where(self.seen[:, None], out, 0.0)

    exact = False
    across: np.ndarray | None = None

    def star_rows(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """D^-1 B (k, n_column) of slots, and their block of D^-1 (k, k)."""
        m, n_column = self.slots.n_band, len(self.p)
        rows, alike = np.zeros((len(slots), n_column)), np.zeros((len(slots), len(slots)))
        for k, slot in enumerate(slots.tolist()):
            star = slot // m
            for band in range(m):
                one = star * m + band
                factor = self.inverse[slot] if self.inverse.ndim == 1 else self.inverse[star, slot % m, band]
                rows[k] += factor * self._star_sums(one)
            for j, other in enumerate(slots.tolist()):
                if other // m == star:
                    both = self.inverse[slot] if self.inverse.ndim == 1 else self.inverse[star, slot % m, other % m]
                    alike[k, j] = both
        return rows, alike

    def _star_sums(self, slot: int) -> np.ndarray:
        """B (n_column,) of one slot."""
        k = int(np.searchsorted(self.slots.slot, slot))
        if k == len(self.slots.slot) or self.slots.slot[k] != slot:
            return np.zeros(len(self.p))
        rows = slice(int(self.slots.bounds[k]), int(self.slots.bounds[k + 1]))
        entries = self.weight[rows, None] * self.rows.value[rows]
        return np.bincount(self.rows.column[rows].ravel(), entries.ravel(), len(self.p))

    def solution(self) -> JointSolution:
        """The record of it all."""
        o, slots, n_star = self.o, self.slots, len(self.star)
        shape = (n_star, len(self.bands))
        residual, (used, clipped) = np.empty(len(o)), np.zeros((2, len(o)), bool)
        if len(self.order) < len(o):
            residual[:] = np.nan

        def one(_: int, chunk: slice, rows: slice) -> float:
            slot, counts, place = slots.slot[chunk], slots.counts(chunk), self.order[rows]
            left = np.repeat(self.magnitude[slot], counts) - self.fitted[rows]
            residual[place] = left
            used[place] = self.weights.kept[rows] & np.repeat(self.active[slot], counts)
            clipped[place] = ~self.weights.kept[rows] & np.isfinite(self.weights.sigma[rows])
            left *= left
            return float(left @ self.fit_weight[rows])

        chi2 = sum(slots.each(one)) + self._penalty()
        self.flags[clipped] |= np.uint32(RowFlag.OUTLIER)
        self.flags[used] |= np.uint32(RowFlag.STANDARD)
        known = (self._own() > 0).reshape(shape)
        value = np.where(self.seen, self.p, np.nan)
        n_free = (
            int(used.sum()) - int((self.active & (self.count > 0)).sum()) - int(self.seen.sum()) + len(self.equations)
        )
        n_free += int((self._prior_diagonal() > 0)[self.active & (self.count > 0)].sum()) + int(
            (self.precision > 0).sum()
        )
        return JointSolution(
            self.model.terms, o.frames, self.scale, tuple(self.blocks), value, self.star, self.bands,
            np.where(known, self.magnitude.reshape(shape), np.nan), self.count.reshape(shape).astype(int),
            (~self.active & (self.count > 0) & ~self.held_slot).reshape(shape), residual, used, clipped, self.flags,
            np.sqrt(self.weights.floor), self.gauge, chi2, n_free, self.converged, self.passes, self.steps,
            self._held_out(), Uncertainty(self.columns_covariance, self.star_rows),
        )  # fmt: skip

    def _prior_diagonal(self) -> np.ndarray:
        """Precision (n_slot,) that stars have beforehand."""
        own = self.star_precision
        return own if own.ndim == 1 else np.diagonal(own, axis1=1, axis2=2).ravel()

    def _penalty(self) -> float:
        """Chi2 of the priors: of columns, and of the magnitudes of stars that take part."""
        part = self.active & (self.count > 0)
        off = self.precision @ (self.p - self.mean) ** 2
        shaped = self.star_precision
        if shaped.ndim == 1:
            mean = np.divide(self.star_right, shaped, out=np.zeros_like(shaped), where=shaped > 0)
            return float(off + (shaped * (self.magnitude - mean) ** 2)[part].sum())
        inverse = np.linalg.pinv(shaped, hermitian=True)
        mean = np.einsum("sij,sj->si", inverse, self.star_right.reshape(shaped.shape[:2]))
        left = self.magnitude.reshape(mean.shape) - mean
        stars = part.reshape(mean.shape).any(axis=1)
        return float(off + np.einsum("si,sij,sj->", left[stars], shaped[stars], left[stars]))

    def _held_out(self) -> HeldOut | None:
        """Residuals of stars and exposures kept back."""
        if not (self.held_slot.any() or self.held_frames.any()):
            return None
        n = len(self.o)
        residual, error = np.full(n, np.nan), np.full(n, np.nan)
        counts = np.diff(self.slots.bounds)
        of_row = np.repeat(self.slots.slot, counts)
        spread, own = self.magnitude[of_row], self._own()[of_row]
        mine = self.held_slot[of_row] & np.isfinite(self.weights.sigma)
        total = self.weights.variance()
        rows = self.order[mine]
        # Of a star's own mean: an error smaller by its share. A clipped row has none; a star's only one says nothing.
        variance = np.where(self.weight > 0, total - own, total + own)[mine]
        variance[variance < SINGULAR * total[mine]] = np.nan
        residual[rows] = np.where(np.isnan(variance), np.nan, (spread - self.fitted)[mine])
        error[rows] = np.sqrt(variance)
        back = ~np.isfinite(self.weights.sigma) & self.active[of_row] & (own > 0)
        if back.any():
            variance = self.o.magnitude_error[self.order[back]] ** 2 + own[back]
            band = self.weights.band
            variance += self.weights.floor[0 if band is None else band[back]]
            off = self._own_columns(back, (spread - self.fitted)[back], variance)
            residual[self.order[back]], error[self.order[back]] = off, np.sqrt(variance)
        return HeldOut(residual, error)

    def _own_columns(self, back: np.ndarray, off: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Residuals of exposures kept back once the columns that they alone have are fitted to them, robustly."""
        new = ~self.seen
        place = np.cumsum(new) - 1
        column, value = self.rows.column[back], self.rows.value[back]
        good = new[column] & (value != 0)
        at = np.repeat(np.arange(len(off)), good.sum(axis=1))
        design = sparse.csr_array((value[good], (at, place[column[good]])), shape=(len(off), int(new.sum())))
        left = np.zeros(len(off))  # so that all count at first
        for kind in ("huber", "huber", "huber", "huber", "tukey", "tukey", "tukey"):
            weight = robust_weight(kind, np.abs(left) / np.sqrt(variance)) / variance
            matrix = (design.T @ sparse.diags_array(weight) @ design).tocsc()
            diagonal = matrix.diagonal()
            matrix = matrix + sparse.diags_array(np.where(diagonal > 0, 1e-12 * diagonal, 1.0))
            found = sparse.linalg.spsolve(matrix, design.T @ (weight * off))
            left = off - design @ np.atleast_1d(found)
        return left


def _place_group(block: Block, o: Observations) -> np.ndarray:
    """The group (n_place,) of each place of a block: its own, or the band; places of several bands are one group."""
    if block.group is not None:
        return block.group
    names, band = np.unique(o.frames.band, return_inverse=True)
    n = len(block.labels)
    if len(names) == 1:
        return np.zeros(n, int)
    low, high = np.full(n, len(names)), np.full(n, -1)
    rows = block.index >= 0
    np.minimum.at(low, block.index[rows], band[o.frame[rows]])
    np.maximum.at(high, block.index[rows], band[o.frame[rows]])
    return np.where(low == high, low, -1)
