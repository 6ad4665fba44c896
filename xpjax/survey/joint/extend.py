"""Joint solutions extended by a further night, without solving for all nights anew.

What the solution knows of its measurements (`information`) stands beside the rows of the new night: stars' magnitudes,
shared columns and those of earlier frames all move to where both have them, and new frames get columns of their own.
The same passes as for a new solution find outliers among the new rows, and error floors of their bands; weights, clips
and floors of earlier ones stay as they are. Non-linear terms are linear in the earlier rows, about the earlier values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from xpjax.core.errors import XpjaxError
from xpjax.core.records import concatenate_records
from xpjax.survey import Frames, Observations, with_nights
from xpjax.survey.joint.blocks import Block
from xpjax.survey.joint.constraints import place_group
from xpjax.survey.joint.design import StarMagnitudes
from xpjax.survey.joint.fit import Fit
from xpjax.survey.joint.information import Information
from xpjax.survey.joint.normal import HostRows
from xpjax.survey.joint.priors import SlotPrior, StarPrior
from xpjax.survey.joint.problem import Columns, JointProblem, NonLinear, prior_of
from xpjax.survey.joint.rows import SortedRows, fill_rows, lost_rows, row_flags, sort_rows
from xpjax.survey.joint.solution import JointSolution, RowResults
from xpjax.survey.joint.solve import solution_of
from xpjax.survey.joint.update import ExtendedEquations, ExtendedRows

TIGHT = 1e-4
"""Where conjugate gradients end: by how many standard deviations all columns together are off."""

STALE = 1.1
"""By how much all weights may differ, as a new error floor makes them, from those that equations were prepared at."""
ENOUGH = 50
"""Rows of a band that have an error floor of their own; that of earlier rows stands for fewer."""


class ExtendedFit(Fit):
    """The fit of new rows, with all that earlier rows say."""

    _formed: float
    """The sum of the weights that the equations were prepared at."""

    def __init__(self, problem: JointProblem, rows: ExtendedRows, magnitude: np.ndarray, floor: np.ndarray) -> None:
        self.before = before = rows.before
        self._known = self._sums = np.empty(0)
        super().__init__(problem, rows, magnitude, None, None)
        self.p, self.tight = before.value.copy(), TIGHT
        self.equations: ExtendedEquations = ExtendedEquations(rows, problem.columns, problem.model, self.count)
        self.weights.kept &= rows.kept
        known, band = np.isfinite(floor), 0 if self.weights.band is None else self.weights.band
        self.weights.floor[known] = floor[known] ** 2
        self.weights.open_floor &= ~known | (
            np.bincount(np.broadcast_to(band, len(self.y)), minlength=len(floor)) >= ENOUGH
        )
        self.measured |= before.weight > 0

    def _find_reference(self, rows: HostRows) -> Any:
        new = super()._find_reference(rows)
        if new is None:
            return None
        # Of earlier stars B has it, times their weights.
        mine = np.concatenate([np.full(b.n_column, b.of_reference) for b in self.problem.columns.blocks])
        only = self.before.weight.copy()
        only[rows.slots.slot] = 0.0
        share = np.divide(1.0, only, out=np.zeros_like(only), where=only > 0)
        earlier = sparse.diags_array(share) @ self.before.cross @ sparse.diags_array(mine.astype(float))
        return (new + earlier).tocsr()

    def _form(self) -> tuple[str, ...]:
        self._formed = float(self.equations.weight.sum())
        return self.equations.prepare()

    def _step(self, tolerance: float, *, final: bool) -> tuple[float, bool]:
        """On the way only columns that no earlier row has move, as what is judged are new rows; all where earlier ones
        have to leave what a constraint bent.
        """
        if final or self.unbending:
            return super()._step(tolerance, final=True)
        left, columns = self.fitted - self.stars.slots.of_rows(self.stars.magnitude), self.problem.columns
        right = -self.equations.rows.adjoint(self.equations.weight * left) - columns.precision * (self.p - columns.mean)
        change = self.equations.start(right)
        self.p = self.p + change
        return float(np.sqrt(max(float(right @ change), 0.0))), True

    def _reweigh(self) -> None:
        self._take_earlier()
        super()._reweigh()
        self.stars.count = self.stars.count + self.before.count
        if self.passes and not 1 / STALE < self.equations.weight.sum() / self._formed < STALE:
            self._form()

    def _average(self) -> None:
        self._take_earlier()
        super()._average()

    def _take_earlier(self) -> None:
        """Earlier rows at the columns as they are, as a prior of the stars' magnitudes."""
        prior, before = self.problem.prior, self.before
        weight = before.weight
        if prior.coupled:
            m = prior.precision.shape[1]
            weight = weight.reshape(-1, m)[:, :, None] * np.eye(m)
        known = self.p[before.place]
        if not np.array_equal(known, self._known):  # most passes leave earlier columns as they are
            self._known, self._sums = known, before.sums(self.p)
        self.stars.prior = SlotPrior(prior.precision + weight, prior.right + self._sums)

    def _gradient(self, residual: np.ndarray) -> np.ndarray:
        return super()._gradient(residual) + self.before.gradient(self.p, self.stars.magnitude)

    def chi2(self, part: np.ndarray) -> float:
        """Chi2 of priors and of earlier rows."""
        columns, magnitude = self.problem.columns, self.stars.magnitude
        own = float(columns.precision @ (self.p - columns.mean) ** 2) + self.problem.prior.chi2(magnitude, part)
        return own + self.before.chi2_at(self.p, magnitude)


def extend_joint(
    solution: JointSolution, observations: Observations, *, prior: StarPrior | None = None
) -> JointSolution:
    """Extend a joint solution by further exposures, without the measurements of earlier ones.

    Parameters
    ----------
    solution : JointSolution
        The solution, with its normal equations: from `solve_joint`, `extend_joint` or a file that has them.
    observations : Observations
        Measurements of exposures that the solution does not have.
    prior : StarPrior or None
        Prior magnitudes of stars that the solution has none of.

    Returns
    -------
    JointSolution
        The solution of all exposures, with the residuals of the new measurements.

    Raises
    ------
    XpjaxError
        If the solution has one of the exposures already, does not hold its normal equations, or cannot be extended:
        with measurements kept back, with spectra as parameters, or with more columns than are solved densely. Also as
        `solve_joint`.

    Notes
    -----
    The normal equations of earlier measurements are added to those of the new ones, so that star magnitudes, shared
    terms and those of earlier exposures are what a solution of all measurements gives, as long as weights are the same:
    those of earlier measurements, their clips and error floors, stay as they were. The new ones of a band have an error
    floor of their own where there are 50 or more (`exposures()` has that of each frame; `floor` is that of all): with
    the same floors for each row values are within 0.01 errors, while one solution of all fits one floor to all rows,
    whose other weights may move values by a tenth or two of their errors. What stars at one place of the detector
    share (`field_floor`) is found anew of all measurements. Non-linear terms are linear in earlier measurements.

    Examples
    --------
    >>> from xpjax.survey.joint import Constraint, JointModel, ZeroPoint, extend_joint, solve_joint
    >>> star, exposure = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    >>> magnitude = 15.0 + 0.1 * star - np.repeat([0.0, 0.1, 0.2], 20)
    >>> zero, error = np.zeros(60), np.full(60, 0.01)
    >>> rows = xpjax.survey.make_observations(star, zero, zero, magnitude, error, None, exposure=exposure)
    >>> model = JointModel((ZeroPoint(),), (Constraint("zero_point"),), error_floor=0.0, min_observations=1)
    >>> first = solve_joint(rows.on_frames(np.array([0, 1])), model)
    >>> np.diff(extend_joint(first, rows.on_frames(np.array([2]))).value).round(3).tolist()
    [0.1, 0.1]
    """
    before = solution.uncertainty.information()
    o = joined_frames(solution.frames, observations)
    fit = _prepared(solution, before, o, prior)
    found = solution_of(fit)
    n, n_frame, results = len(o), len(o.frames), found.rows
    more = (0, n_frame - len(solution.frames))
    count, square = (np.pad(sums, more) for sums in solution.rows.of_frames(len(solution.frames)))
    # Earlier rows of stars that had too few: some take part now.
    late = n + np.flatnonzero(results.used[n:])
    frame = fit.problem.observations.frame[late]
    square = square + np.bincount(frame, results.residual[late] ** 2, n_frame)
    floors = np.concatenate([solution.frame_floor(), found.frame_floor()[len(solution.frames) :]])
    rows = dataclasses.replace(
        results, frame=o.frame, frame_floor=floors, earlier=(count + np.bincount(frame, minlength=n_frame), square),
        **{name: getattr(results, name)[:n] for name in ("residual", "used", "clipped", "flags")},
    )  # fmt: skip
    return dataclasses.replace(found, rows=rows, magnitudes=_with_floor(found, floors, rows), meta=solution.meta)


def _with_floor(found: JointSolution, floors: np.ndarray, rows: RowResults) -> StarMagnitudes:
    """The magnitudes of stars with the error floor of all measurements of each band; floors (n_frame,): of frames."""
    count, band = rows.of_frames(len(floors))[0], found.frames.band
    square = [np.average(floors[mine] ** 2, weights=np.maximum(count[mine], 1e-9))
              for mine in (band == name for name in found.bands)]  # fmt: skip
    return dataclasses.replace(found.magnitudes, floor=np.sqrt(square))


def joined_frames(frames: Frames, o: Observations) -> Observations:
    """The observations with a solution's frames before their own. Raises XpjaxError for frames that are among them."""
    known = {frames.name(k) for k in range(len(frames))}
    if twice := [name for k in range(len(o.frames)) if (name := o.frames.name(k)) in known]:
        raise XpjaxError(
            f"the solution has {len(twice):,} of these frames already, such as {twice[0]!r}: extend it by other "
            "exposures alone"
        )
    named = with_nights(o, known=frames)
    both = concatenate_records([frames, named.frames])
    return dataclasses.replace(named, frames=both, frame=(named.frame + len(frames)).astype(np.int32))


def _prepared(solution: JointSolution, before: Information, o: Observations, prior: StarPrior | None) -> ExtendedFit:
    """The fit of these rows, on the frames of the solution and their own, beside what is known."""
    assert solution.model is not None
    model = dataclasses.replace(solution.model, terms=solution.terms)
    scale = solution.design.scaling_of(o, model)
    terms = [term.prepare(o, scale) for term in model.terms]
    own = [
        dataclasses.replace(block, of_reference=one.of_reference)
        for one, term in zip(model.terms, terms, strict=True)
        for block in term.blocks
    ]
    blocks = [_extended(old, new) for old, new in zip(solution.blocks, own, strict=True)]
    flags = row_flags(o, blocks)
    found = _among(solution.star, sort_rows(o, flags))
    nonlinear, first = [], 0
    for one, term in zip(model.terms, terms, strict=True):
        numbers = range(first, first := first + len(term.blocks))
        if not term.linear:
            nonlinear.append(NonLinear(one.name, numbers, term, term.begin(found.star, found.bands)))
    n_band = len(found.bands)
    star = np.searchsorted(found.star, solution.star)
    band = np.array([found.bands.index(name) for name in solution.bands])
    slots = (star[:, None] * n_band + band).ravel()
    new = prior_of(o, model, [prior, *(one.start.star_prior for one in nonlinear)], found)
    both = _joined_prior(before.prior, star, band, new, n_band)
    columns = Columns(
        tuple(block.without_rows() for block in blocks),
        tuple(
            _joined_group(group, block, solution.bands, found.bands, o)
            for group, block in zip(before.groups, blocks, strict=True)
        ),
    )
    starts = np.cumsum([0, *(block.n_column for block in blocks)])
    place = np.concatenate([np.arange(b.n_column) + start for b, start in zip(solution.blocks, starts, strict=False)])
    moved = before.moved(place, slots, columns.mean.copy(), len(found.star) * n_band, columns.groups)
    rows, found, whole = _rows(blocks, found, both.coupled, o, moved)
    lost = lost_rows(o, blocks, flags)
    flags = np.append(flags, np.zeros(len(whole) - len(o), np.uint32))
    problem = JointProblem(whole, model, scale, columns, tuple(nonlinear), flags, found, both, rows, lost)
    floor = np.full(n_band, np.nan)
    floor[band] = solution.floor
    return ExtendedFit(problem, rows, whole.magnitude, floor)


def _extended(old: Block, new: Block) -> Block:
    """A block with the places of a solution, then those that only new rows have. Raises XpjaxError for other parts."""
    if [part.name for part in old.parts] != [part.name for part in new.parts] or old.name != new.name:
        raise XpjaxError(f"{new.name} has other parts than {old.name} of the solution: extend it by the same terms")
    known = {label: k for k, label in enumerate(old.labels)}
    fresh = [k for k, label in enumerate(new.labels) if label not in known]
    labels = (*old.labels, *(new.labels[k] for k in fresh))
    known |= {label: len(known) + k for k, label in enumerate(labels[len(known) :])}
    place = np.array([known[label] for label in new.labels], np.int32)
    keys = {name: np.concatenate([old.keys[name], values[fresh]]) for name, values in new.keys.items()}
    group = None if new.group is None or old.group is None else np.concatenate([old.group, new.group[fresh]])
    sigmas = None if new.sigmas is None or old.sigmas is None else np.concatenate([old.sigmas, new.sigmas[fresh]])
    index = np.where(new.index >= 0, place[new.index], np.int32(-1))
    return dataclasses.replace(new, index=index, labels=labels, keys=keys, group=group, sigmas=sigmas)


def _joined_group(
    old: np.ndarray, block: Block, bands: Sequence[str], known: Sequence[str], o: Observations
) -> np.ndarray:
    """The group of each place of an extended block for constraints, see `place_group`; bands: of the solution."""
    out = place_group(block, o)
    if block.group is not None or len(known) == 1:
        return out
    number = np.append([known.index(band) for band in bands], -1)
    earlier, n = number[old], len(old)
    seen = np.bincount(block.index[block.index >= 0], minlength=len(out))[:n] > 0
    out[:n] = np.where(~seen | (out[:n] == earlier), earlier, -1)
    return out


def _among(star: np.ndarray, found: SortedRows) -> SortedRows:
    """Sorted rows with the slots of a solution's stars (n_star,) among their own."""
    if (star.dtype.kind in "iu") != (found.star.dtype.kind in "iu"):
        raise XpjaxError(
            "stars are named by numbers in one of the solution and the new measurements, by text in the other"
        )
    both, n_band = np.union1d(star, found.star), len(found.bands)
    place = np.searchsorted(both, found.star)
    code, filled = (place[a // n_band] * n_band + a % n_band for a in (found.code, found.filled))
    return dataclasses.replace(found, star=both, code=code, filled=filled)


def _joined_prior(old: SlotPrior, star: np.ndarray, band: np.ndarray, new: SlotPrior, n_band: int) -> SlotPrior:
    """Priors of all slots: a star keeps what it had. star, band: where the solution's stars and bands are."""
    place = (star[:, None] * n_band + band).ravel()
    if not (old.coupled or new.coupled):
        own = np.where(old.precision > 0, old.precision, new.precision[place])
        precision, right = new.precision.copy(), new.right.copy()
        precision[place], right[place] = own, np.where(old.precision > 0, old.right, new.right[place])
        return SlotPrior(precision, right)
    n_star, m = len(new.right) // n_band, len(band)
    precision = (new.precision if new.coupled else new.precision.reshape(n_star, -1, 1) * np.eye(n_band)).copy()
    earlier = old.precision if old.coupled else old.precision.reshape(len(star), -1, 1) * np.eye(m)
    right = new.right.reshape(n_star, n_band).copy()
    known = (np.diagonal(earlier, axis1=1, axis2=2) > 0).any(axis=1)  # the bands of a star go together
    precision[star[known]], right[star[known]] = 0.0, 0.0
    precision[star[known][:, None, None], band[:, None], band] = earlier[known]
    right[star[known][:, None], band] = old.right.reshape(-1, m)[known]
    return SlotPrior(precision, right.ravel())


def _rows(
    blocks: Sequence[Block], found: SortedRows, coupled: bool, o: Observations, before: Information
) -> tuple[ExtendedRows, SortedRows, Observations]:
    """New rows, and earlier ones of stars that took no part, sorted together; and observations with both."""
    made = fill_rows(blocks, found.order, found.slots(coupled), None)
    spare, n = before.spare, len(before.spare.slot)
    code = np.append(np.repeat(found.filled, np.diff(found.bounds)), spare.slot)
    turn = np.argsort(code, kind="stable")
    filled, first = np.unique(code[turn], return_index=True)
    order = np.append(found.order, len(o) + np.arange(n))[turn]
    joined = dataclasses.replace(found, order=order, filled=filled, bounds=np.append(first, len(code)).astype(np.int64))
    column, value = (np.concatenate(pair)[turn] for pair in ((made.column, spare.column), (made.value, spare.value)))
    rows = ExtendedRows(made.layout, joined.slots(coupled), column, value, before)
    rows.kept = np.append(np.ones(len(found.order), bool), spare.kept)[turn]
    if not n:
        return rows, joined, o
    new = dataclasses.replace(o, origin=None)
    star = found.star[spare.slot // len(found.bands)].astype(o.star.dtype)
    earlier = dataclasses.replace(
        new[np.zeros(n, int)], frame=spare.frame, star=star, magnitude=spare.magnitude, magnitude_error=spare.error,
        x=spare.x, y=spare.y, excluded=np.zeros(n, np.uint32),
    )  # fmt: skip
    return rows, joined, concatenate_records([new, earlier])
