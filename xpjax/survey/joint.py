"""One solution for star magnitudes and all terms of a survey at once.

    M_star,band = m + sum of terms + noise,   variance = error^2 + floor_band^2

minimised over every column of the terms and every star's magnitude, which is eliminated exactly (see
`xpjax.survey.reduced`). Spectra may give prior magnitudes, with their covariance between the bands of a star. Outliers
are met by iteratively reweighted least squares, then by a clip that lets points back in, until nothing changes:

- a residual is judged by what its star's other measurements leave uncertain: by r / sqrt(v - D^-1) where it takes part
  and r / sqrt(v + D^-1) where it does not, so that stars with few measurements do not lose them to each other;
- a star loses at most a tenth of its measurements in a pass, but one: the worst. Points that come and go stay out;
- a star without a prior needs `min_observations` that are left, or takes no part; it is looked at again in every pass;
- the floor of a band is an S-estimate of these residuals, as for single frames (`xpjax.survey.zeropoint`).

Terms whose columns act non-linearly (`Transmission`) are linearised anew in every pass: Gauss-Newton. A combination of
columns that no data determine is found and told by the terms in it, and the fit refused: constraints or priors must say
what it is to be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import linalg, sparse, special

from xpjax.survey.joint_solution import HeldOut, JointSolution, Uncertainty, column_name, describe_null, refusal
from xpjax.survey.observations import MISSING, Observations, RowFlag
from xpjax.survey.reduced import (
    DeviceRows,
    Factor,
    HostRows,
    Layout,
    NotDetermined,
    Rows,
    Slots,
    conjugate_gradients,
    diagonal_blocks,
    factorise,
)
from xpjax.survey.star_prior import StarPrior
from xpjax.survey.terms import Block, Constraint, Term
from xpjax.survey.transmission import Prepared, Transmission
from xpjax.survey.zeropoint import HUBER, LEAST_VARIANCE, SCALE, TUKEY, Model, scaling

ROBUST_PASSES, PASSES = 12, 50
"""Most passes of the reweighting, and in all."""
LOOSE, TIGHT = 0.03, 1e-8
"""Where conjugate gradients end: by how many standard deviations all columns together are off, on the way and last."""
STALE = 40
"""Steps of conjugate gradients beyond which the preconditioner is made anew."""
FLOOR_SETTLED = 1e-4
"""Relative change of an error variance below which the floor has settled."""


@dataclasses.dataclass(frozen=True)
class JointModel:
    """What is fitted and how. Raises ValueError for what cannot be.

    terms and constraints as in `xpjax.survey.terms`. star_prior: the model magnitudes of the observations, with their
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
            raise ValueError("a joint solution needs at least one term")
        names = [term.name for term in self.terms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"terms of the same name {twice}: rename one")
        if self.robust not in ("huber", "tukey", "none"):
            raise ValueError(f'robust must be "huber", "tukey" or "none", not {self.robust!r}')
        if not self.clip >= 0:
            raise ValueError(f"clip must not be negative: {self.clip!r}")
        if self.error_floor is not None and not self.error_floor >= 0:
            raise ValueError(f"error_floor must be zero or more magnitudes, or left out: {self.error_floor!r}")
        if not self.min_observations >= 1:
            raise ValueError(f"min_observations must be at least 1, not {self.min_observations!r}")


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
        self.scale = scaling(o, Model(color_zero=model.color_zero), model.size)
        self.blocks: list[Block] = []
        self.nonlinear: list[tuple[int, Prepared]] = []
        for term in model.terms:
            if isinstance(term, Transmission):
                prepared = term.prepare(o)
                self.nonlinear.append((len(self.blocks), prepared))
                self.blocks += prepared.blocks
            else:
                self.blocks += term.blocks(o, self.scale)
        self.held_frames = np.zeros(len(o.frames), bool)
        if held_out_frames is not None:
            self.held_frames |= np.asarray(held_out_frames, bool)
        self.flags = _row_flags(o, self.blocks)
        usable = np.flatnonzero(self.flags == 0)
        if not len(usable):
            raise ValueError(f"none of {len(o)} rows can be used: {_reasons(self.flags)}")
        everything = len(usable) == len(o)
        held_rows = self.held_frames[o.frame] if self.held_frames.any() else None
        self._sort(usable, everything, prior)
        self.rows = self._rows(devices)
        rows = self.order
        if held_rows is not None:
            self.sigma[held_rows[rows]] = np.inf
            self.flags[held_rows] |= np.uint32(RowFlag.HELD_OUT)
        self.held_slot = np.zeros(self.slots.n_slot, bool)
        if held_out_stars is not None:
            chosen = np.asarray(held_out_stars, bool)
            self.held_slot[np.repeat(self.slots.slot, np.diff(self.slots.bounds))[chosen[rows]]] = True
            self.flags[chosen] |= np.uint32(RowFlag.HELD_OUT)
        n_column = self.rows.layout.n_column
        self.mean = np.concatenate([b.mean for b in self.blocks])
        self.precision = np.concatenate([b.sigma for b in self.blocks]) ** -2.0
        self.place_groups = [_place_group(b, o) for b in self.blocks]
        # Rows are in self.rows now: what terms made of them would be held a second time.
        self.blocks = [dataclasses.replace(b, index=np.empty(0, np.int32), values=()) for b in self.blocks]
        for _, prepared in self.nonlinear:
            prepared.blocks = ()
        self.p = self.mean.copy()
        self.floor = np.full(len(self.bands), model.error_floor or 0.0) ** 2
        self.kept = np.isfinite(self.sigma)
        self.flips = np.zeros(len(rows), np.uint8)
        self.robust = np.ones(len(rows)) if model.robust != "none" else None
        self.passes = self.steps = 0
        self.final = False
        self.null = np.empty((0, 0))
        self.converged = False
        self.gauge: tuple[str, ...] = ()
        self.weight = np.zeros(len(rows))
        self.active = np.ones(self.slots.n_slot, bool)
        self._constraints(n_column)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _sort(self, usable: np.ndarray, everything: bool, prior: StarPrior | None) -> None:
        """Number stars and slots, sort rows by them, and place the stars' priors."""
        o, frames = self.o, self.o.frames
        names, band = np.unique(frames.band, return_inverse=True)
        self.bands = tuple(str(name) for name in names)
        n_band = len(self.bands)
        star = o.star if everything else o.star[usable]
        self.star, code = _codes(star)
        n_star = len(self.star)
        if n_band > 1:
            frame = o.frame if everything else o.frame[usable]
            code = code * np.int32(n_band) + band.astype(np.int32)[frame]
        precision, right, coupled = self._star_prior(prior, usable, code, n_star)
        table = sparse.coo_array(
            (np.ones(len(code), np.int8), (code, np.arange(len(code), dtype=np.int32))),
            shape=(n_star * n_band, len(code)),
        ).tocsr()
        self.order = table.indices if everything else usable[table.indices]
        filled = np.flatnonzero(np.diff(table.indptr))
        bounds = np.append(table.indptr[filled], len(code)).astype(np.int64)
        self.slot_band = np.tile(np.arange(n_band), n_star)
        self.slots = Slots(bounds, filled, n_star if coupled else n_star * n_band, n_band if coupled else 1)
        self.star_precision, self.star_right = precision, right
        self.row_band = np.repeat(self.slot_band[filled], np.diff(bounds)).astype(np.int8) if n_band > 1 else None

    def _star_prior(
        self, prior: StarPrior | None, usable: np.ndarray, code: np.ndarray, n_star: int
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Precision (n_slot,) or (n_star, n_band, n_band) of stars, precision times mean, bands coupled or not."""
        n_band = len(self.bands)
        n = n_star * n_band
        spectra = [one for _, one in self.nonlinear if one.term.star_prior]
        if len(spectra) + (prior is not None) + self.model.star_prior > 1:
            raise ValueError("stars have one prior: of the terms' spectra, or given, or of the models; take one")
        if spectra:
            prior = StarPrior(self.star, self.bands, *spectra[0].star_prior(self.star, self.bands))
        if prior is not None:
            return self._given_prior(prior)
        if not self.model.star_prior:
            return np.zeros(n), np.zeros(n), False
        o = self.o
        magnitude, error = o.model[usable], o.model_error[usable]
        good = np.isfinite(magnitude) & (error >= 0)
        # A star has one model; should rows differ, their mean counts.
        count = np.maximum(np.bincount(code[good], minlength=n), 1)
        mean = np.bincount(code[good], magnitude[good], n) / count
        variance = np.bincount(code[good], error[good] ** 2, n) / count
        known = np.bincount(code[good], minlength=n) > 0
        precision = np.where(known, 1 / np.maximum(variance, LEAST_VARIANCE), 0.0)
        return precision, precision * mean, False

    def _given_prior(self, prior: StarPrior) -> tuple[np.ndarray, np.ndarray, bool]:
        n_band = len(self.bands)
        column = {name: k for k, name in enumerate(prior.bands)}
        if unknown := [name for name in self.bands if name not in column]:
            raise ValueError(f"the stars' prior has no band {unknown[0]!r}, but {list(prior.bands)}")
        mine = np.array([column[name] for name in self.bands])
        order = np.argsort(prior.star, kind="stable")
        if not len(order):
            raise ValueError("the stars' prior has no star")
        place = np.minimum(np.searchsorted(prior.star[order], self.star), len(order) - 1)
        found = prior.star[order][place] == self.star
        place = order[place]
        magnitude = np.where(found[:, None], prior.magnitude[place][:, mine], np.nan)
        covariance = prior.covariance[place][:, mine][:, :, mine]
        known = np.isfinite(magnitude) & (np.diagonal(covariance, axis1=1, axis2=2) >= 0)
        both = known[:, :, None] & known[:, None, :]
        unit = np.eye(n_band)
        safe = np.where(both, covariance, unit) + LEAST_VARIANCE * unit
        precision = np.where(both, np.linalg.inv(safe), 0.0)
        if not np.isfinite(precision).all():
            bad = self.star[np.flatnonzero(~np.isfinite(precision).all(axis=(1, 2)))[0]]
            raise ValueError(f"the prior covariance of star {bad} is not finite; leave the star out of the prior")
        right = np.einsum("sij,sj->si", precision, np.where(known, magnitude, 0.0)).ravel()
        if n_band > 1 and np.any(np.where(both, covariance, 0.0)[:, ~np.eye(n_band, dtype=bool)]):
            return precision, right, True
        return np.diagonal(precision, axis1=1, axis2=2).ravel().copy(), right, False

    def _rows(self, devices: Any) -> Rows:
        """Columns and values of all blocks, in the order of the stars."""
        starts, widths, sizes = [], [], []
        at = 0
        for block in self.blocks:
            starts.append(at)
            widths.append(len(block.parts))
            sizes.append(len(block.labels))
            at += block.n_column
        layout = Layout(tuple(starts), tuple(widths), tuple(sizes))
        order, k = self.order, sum(widths)
        column, value = np.empty((len(order), k), np.int32), np.empty((len(order), k))
        self.y, self.sigma = np.empty(len(order)), np.empty(len(order), self.o.magnitude_error.dtype)

        def one(_: int, __: slice, rows: slice) -> None:
            mine = order[rows]
            self.y[rows] = self.o.magnitude[mine]
            self.sigma[rows] = self.o.magnitude_error[mine]
            for block, start, first in zip(self.blocks, starts, layout.first, strict=True):
                width = len(block.parts)
                place = np.asarray(block.index, np.int32)[mine] * np.int32(width)
                for j, made in enumerate(block.values):
                    np.add(place, np.int32(start + j), out=column[rows, first + j])
                    value[rows, first + j] = 1.0 if made is None else made[mine]

        self.slots.each(one)
        if devices is None:
            import jax

            devices = None if jax.default_backend() == "cpu" else jax.default_backend()
        if devices is None:
            return HostRows(layout, self.slots, column, value)
        return DeviceRows(layout, self.slots, column, value, devices)

    def _constraints(self, n_column: int) -> None:
        """The coefficients and values of all constraints."""
        seen = np.zeros(n_column, bool)
        for k in range(self.rows.column.shape[1]):
            mine = self.rows.column[:, k] if self.kept.all() else self.rows.column[self.kept, k]
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
                raise ValueError(f"a constraint names {one.term!r}; terms are {[b.name for b in self.blocks]}")
        self.equations = np.array(equations).reshape(-1, n_column)
        self.targets = np.array(values)

    # --- weights ------------------------------------------------------------------------------------------------------

    def _total(self, rows: slice) -> np.ndarray:
        """Error variances of some rows, floor included."""
        floor = self.floor[0] if self.row_band is None else self.floor[self.row_band[rows]]
        return np.maximum(np.square(self.sigma[rows], dtype=float) + floor, LEAST_VARIANCE)

    def error_variance(self) -> np.ndarray:
        """Error variances (n,) of the sorted rows, floor included."""
        return self._total(slice(None))

    def _reweigh(self) -> None:
        """Weights from errors, floors, clips and stages; and which stars take part."""
        slots = self.slots
        count = np.zeros(slots.n_slot)

        def one(_: int, chunk: slice, rows: slice) -> None:
            w = 1 / self._total(rows)
            w *= self.kept[rows]
            if self.robust is not None:
                w *= self.robust[rows]
            self.weight[rows] = w
            count[slots.slot[chunk]] = np.add.reduceat(self.kept[rows], slots.starts(chunk), dtype=float)

        slots.each(one)
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
        self.magnitude = self.slots.times(self.inverse, self.rows.sums(self.weight * self.fitted) + self.star_right)

    def _linearise(self) -> None:
        """Non-linear terms at the columns as they are: their derivatives, and y such that y + A p is exact there."""
        for first, prepared in self.nonlinear:
            layout = self.rows.layout
            mine = [layout.columns(first + k) for k in range(len(prepared.groups))]
            if prepared.term.star_prior and self.passes:
                known = np.where(self._own() > 0, self.magnitude, np.nan).reshape(len(self.star), -1)
                again = prepared.star_prior(self.star, self.bands, known)
                self.star_precision, self.star_right, _ = self._given_prior(StarPrior(self.star, self.bands, *again))
                self.inverse = self._inverse(self.rows.sums(self.weight))
            values = prepared.limited([self.p[columns] for columns in mine])
            for columns, value in zip(mine, values, strict=True):
                self.p[columns] = value
            added, slopes = prepared.evaluate(values)
            for slope, value, (index, _) in zip(slopes, values, prepared.groups, strict=True):
                added -= slope * value[index][self.o.frame]
            added = added[self.order]
            if not np.isfinite(added).all():
                raise ValueError(f"{prepared.term.name}: the fit ran where spectra have no light; give priors")
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

    def _prepare(self) -> None:
        """The preconditioner at the present weights: the factor of R, or its blocks where it is too large."""
        dense = len(self.p) <= self.model.dense
        if dense:
            matrix, diagonal = self.rows.normal(self.fit_weight, self.fit_inverse)
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
            raise ValueError(f"numbers that are not finite reached {self._name(bad)}; look at its rows")
        if not dense:
            self.factor: Factor | None = None
            self.precondition = self._block_preconditioner()
            return
        matrix[np.diag_indices(len(matrix))] += self.precision
        for row in self.stiff:
            busy = np.flatnonzero(row)
            matrix[np.ix_(busy, busy)] += np.outer(row[busy], row[busy])
        try:
            self.factor = factorise(matrix, diagonal)
        except NotDetermined as lost:
            raise ValueError(refusal(describe_null(lost.null, self.blocks, scale))) from None
        self.precondition = self.factor.solve

    def _block_preconditioner(self) -> Callable[[np.ndarray], np.ndarray]:
        blocks = diagonal_blocks(self.rows, self.fit_weight, self.fit_inverse)
        layout, inverses = self.rows.layout, []
        for b, made in enumerate(blocks):
            width = layout.width[b]
            shaped = self.precision[layout.columns(b)].reshape(-1, width)
            whole = made + shaped[:, :, None] * np.eye(width)
            size = np.sqrt(np.maximum(np.diagonal(whole, axis1=1, axis2=2), np.finfo(float).tiny))
            whole = whole / size[:, :, None] / size[:, None, :]
            # Empty places, and combinations that a place does not have, stay as they are.
            inverse = np.linalg.pinv(whole + 1e-8 * np.eye(width), hermitian=True)
            inverses.append(inverse / size[:, :, None] / size[:, None, :])

        def apply(right: np.ndarray) -> np.ndarray:
            out = np.empty_like(right)
            for b, inverse in enumerate(inverses):
                part = right[layout.columns(b)].reshape(-1, layout.width[b])
                out[layout.columns(b)] = np.einsum("pij,pj->pi", inverse, part).ravel()
            return np.where(self.diagonal > 0, out, 0.0)

        return apply

    def _operator(self) -> Callable[[np.ndarray], np.ndarray]:
        plain = self.rows.operator(self.fit_weight, self.fit_inverse)
        return lambda x: plain(x) + self.precision * x + self.stiff.T @ (self.stiff @ x)

    def _step(self, tolerance: float) -> float:
        """Move the columns to where the present weights have them; the move in standard deviations, all together."""
        right = -self._gradient()
        moved = float(np.sqrt(max(right @ self.precondition(right), 0.0)))
        tolerance = max(min(tolerance, 0.1 * moved), TIGHT, 1e-13 * moved)
        change, steps, done = conjugate_gradients(self._operator(), right, self.precondition, tolerance=tolerance)
        self.steps += steps
        self.settled = done
        self.p = self.p + change
        self._project()
        if steps > STALE and self.factor is not None:
            self._prepare()
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

    def _name(self, column: int) -> str:
        for block in self.blocks:
            if column < block.n_column:
                return column_name(block, column)
            column -= block.n_column
        raise IndexError(column)

    # --- passes -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Reweigh, solve, judge, until nothing changes."""
        model = self.model
        if self.nonlinear:
            self._linearise()
        self._reweigh()
        self._prepare()
        self._evaluate()
        moved = self._step(LOOSE)
        self._explain()
        clipping = self.robust is None
        while self.passes < PASSES:
            self.passes += 1
            if self.nonlinear:
                self._evaluate()
                self._linearise()
            self._evaluate()
            changed = self._judge(clipping)
            if not clipping and (self.passes >= ROBUST_PASSES or moved < 0.1 * np.sqrt(len(self.p)) + 1e-3):
                if model.clip or moved < 1e-3:
                    clipping = True
                    if model.clip:
                        self.robust = None
                        self._judge(clipping)
                        changed = True
            elif clipping and self.final and not changed and moved < 1e-3 and self.settled:
                self.converged = True
                break
            self.final = clipping and not changed
            self._reweigh()
            self._evaluate()
            moved = self._step(TIGHT if self.final else LOOSE)
        if self.nonlinear:
            self._evaluate()
            self._linearise()
        self._evaluate()

    def _judge(self, clipping: bool) -> bool:
        """Robust weights, clips and floors from the residuals as they are; whether anything changed."""
        slots, own, clip = self.slots, self._own(), self.model.clip
        limit = np.maximum(self.count // 10, 1)
        # The mean of rho, 1/2 for normal residuals, of those within the clip: beyond it rho is one.
        tail = special.erfc(clip / np.sqrt(2)) if clipping and clip else 0.0
        target = (0.5 - tail) / (1 - tail)

        def one(_: int, chunk: slice, rows: slice) -> tuple[int, np.ndarray | None]:
            slot, counts = slots.slot[chunk], slots.counts(chunk)
            residual = self.fitted[rows] - np.repeat(self.magnitude[slot], counts)
            residual *= residual
            total, spare = self._total(rows), np.repeat(own[slot], counts)
            kept = self.kept[rows]
            # What the star's other measurements leave uncertain; a weight below one gives a row less of its star.
            share = spare if self.robust is None else spare * self.robust[rows]
            expected = np.where(kept, np.maximum(total - share, 1e-9 * total), total + spare)
            square = residual / expected
            within = np.repeat(self.active[slot], counts) & np.isfinite(total)
            band = None if self.row_band is None else self.row_band[rows]
            floor = None
            if self.model.error_floor is None:
                floor = self._floor_sums(square, total, within & kept if clipping and clip else within, band, target)
            changed = 0
            if self.robust is not None:
                self.robust[rows] = _robust_weight(self.model.robust, np.sqrt(square))
            if clipping and clip:
                out = square > clip**2
                worse = np.flatnonzero(out & kept & np.isfinite(total))
                worse = worse[_worst(np.repeat(np.arange(len(slot)), counts)[worse], square[worse], limit[slot])]
                back = np.flatnonzero(~out & ~kept & np.isfinite(total) & (self.flips[rows] < 2))
                changed = len(worse) + len(back)
                if changed:
                    self.kept[rows][worse] = False
                    self.kept[rows][back] = True
                    self.flips[rows][back] += 1
            return changed, floor

        found = slots.each(one)
        changed = sum(f[0] for f in found)
        if self.model.error_floor is None:
            changed += self._move_floor(*np.sum([f[1] for f in found], axis=0))
        return changed > 0

    def _floor_sums(
        self, square: np.ndarray, total: np.ndarray, within: np.ndarray, band: np.ndarray | None, target: float
    ) -> np.ndarray:
        """Of each band (4, n_band): sums of rho - target, of its slope in the floor, of variances and of ones."""
        square, total = square[within], total[within]
        q = np.minimum(square / SCALE**2, 1.0)
        inside = (1 - q) ** 2
        parts = 1 - target - inside * (1 - q), 3 * inside * q / total, total, np.ones_like(total)
        which = np.zeros(len(total), np.int8) if band is None else band[within]
        return np.array([np.bincount(which, part, len(self.bands)) for part in parts])

    def _move_floor(self, excess: np.ndarray, slope: np.ndarray, total: np.ndarray, number: np.ndarray) -> int:
        """A Newton step of each band's floor to where rho has its mean; how many moved by more than is settled."""
        mean = total / np.maximum(number, 1)
        step = np.clip(excess / np.maximum(slope, np.finfo(float).tiny), -0.7 * mean, 3 * mean)
        new = np.where(number > 0, np.maximum(self.floor + step, 0.0), self.floor)
        moved = np.abs(new - self.floor) > FLOOR_SETTLED * mean
        self.floor = new
        return int(moved.sum())

    def _explain(self) -> None:
        """What the constraints decide that the data do not: null vectors of R lie in the span of R^-1 H."""
        if not len(self.stiff) or self.factor is None:
            return
        across = self.factor.solve(self.stiff.T)
        share, turn = linalg.eigh(self.stiff @ across)
        lost = across @ turn[:, share > 1 - 1e-7]
        if lost.shape[1]:
            scale = np.where(self.diagonal > 0, self.diagonal, 1.0)
            self.gauge = tuple(describe_null(lost, self.blocks, scale))
            self.null = lost

    # --- results ------------------------------------------------------------------------------------------------------

    def inverse_of_normal(self, right: np.ndarray) -> np.ndarray:
        """R^-1 right (n_column, k) at the final weights, less what constraints hold fixed."""
        if self.factor is not None and not self.exact:
            self._prepare()
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
            used[place] = self.kept[rows] & np.repeat(self.active[slot], counts)
            clipped[place] = ~self.kept[rows] & np.isfinite(self.sigma[rows])
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
            np.sqrt(self.floor), self.gauge, chi2, n_free, self.converged, self.passes, self.steps,
            self._held_out(), Uncertainty(self.inverse_of_normal, self.star_rows),
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
        mine = self.held_slot[of_row] & np.isfinite(self.sigma)
        total = self.error_variance()
        rows = self.order[mine]
        residual[rows] = (spread - self.fitted)[mine]
        # Of a star's own mean: an error smaller by its share. A clipped row has none.
        weight = self.weight[mine]
        error[rows] = np.sqrt(np.maximum(np.where(weight > 0, total[mine] - own[mine], total[mine] + own[mine]), 0.0))
        back = ~np.isfinite(self.sigma) & self.active[of_row] & (own > 0)
        if back.any():
            variance = self.o.magnitude_error[self.order[back]] ** 2 + own[back]
            variance += self.floor[0] if self.row_band is None else self.floor[self.row_band[back]]
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
            weight = _robust_weight(kind, np.abs(left) / np.sqrt(variance)) / variance
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


def _robust_weight(kind: str, z: np.ndarray) -> np.ndarray:
    """Weights (n,) of residuals z [sigma]."""
    if kind == "huber":
        return HUBER / np.maximum(z, HUBER)
    return np.maximum(1 - (z / TUKEY) ** 2, 0.0) ** 2


def _worst(slot: np.ndarray, square: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Of outliers (n,) sorted by slot the worst `limit[slot]` of each slot: their indices."""
    order = np.lexsort((-square, slot))
    first = np.searchsorted(slot[order], slot[order])
    return order[np.arange(len(order)) - first < limit[slot[order]]]


def _codes(star: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct stars, and the number (n,) of each row's among them."""
    if star.dtype.kind in "iu" and len(star) and star.min() >= 0 and star.max() < 4 * len(star) + 1000:
        present = np.zeros(int(star.max()) + 1, bool)
        present[star] = True
        number = np.cumsum(present, dtype=np.int32) - np.int32(1)
        return np.flatnonzero(present), number[star]
    distinct, code = np.unique(star, return_inverse=True)
    return distinct, code.astype(np.int32)


def _row_flags(o: Observations, blocks: Sequence[Block]) -> np.ndarray:
    """RowFlag bits (n,) of what keeps rows out of the solution."""
    flags = np.array(o.excluded, np.uint32)

    def mark(bad: np.ndarray, flag: RowFlag) -> None:
        if bad.any():
            flags[bad] |= np.uint32(flag)

    mark(~(np.abs(o.magnitude) < MISSING), RowFlag.NO_MAGNITUDE)
    mark(~(o.magnitude_error > 0) | ~np.isfinite(o.magnitude_error), RowFlag.NO_ERROR)
    for block in blocks:
        mark(block.index < 0, RowFlag.NO_POSITION)
        for value in block.values:
            if value is not None:
                mark(~np.isfinite(value), RowFlag.NO_MODEL if "color" in block.name else RowFlag.NO_POSITION)
    return flags


def _reasons(flags: np.ndarray) -> str:
    kinds, number = np.unique(flags, return_counts=True)
    return "; ".join(f"{n} {RowFlag.describe(int(k))}" for k, n in zip(kinds, number, strict=True))
