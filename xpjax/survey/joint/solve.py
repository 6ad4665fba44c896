"""One solution for star magnitudes and all terms of a survey at once; `fit` says how."""

from __future__ import annotations

import numpy as np

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError
from xpjax.survey import Observations, RowFlag
from xpjax.survey.joint.covariance import FitUncertainty
from xpjax.survey.joint.design import Design, StarMagnitudes
from xpjax.survey.joint.fit import Fit
from xpjax.survey.joint.held_out import held_out
from xpjax.survey.joint.normal import diagonal_of
from xpjax.survey.joint.priors import StarPrior
from xpjax.survey.joint.problem import JointModel, JointProblem, prepare_joint
from xpjax.survey.joint.solution import FitQuality, JointSolution, RowResults


def solve_joint(
    observations: Observations,
    model: JointModel,
    *,
    prior: StarPrior | None = None,
    held_out_frames: np.ndarray | None = None,
    held_out_stars: np.ndarray | None = None,
    devices: Devices = None,
) -> JointSolution:
    """Solve for all terms of a survey and all star magnitudes at once.

    Parameters
    ----------
    observations : Observations
        Measurements of stars on frames.
    model : JointModel
        Terms, constraints and settings.
    prior : StarPrior or None
        Prior magnitudes of the stars, instead of the model's `star_prior`.
    held_out_frames : (n_frame,) array of bool or None
        Frames that are kept back for cross-validation.
    held_out_stars : (n,) array of bool or None
        Rows of stars that are kept back for cross-validation.
    devices
        None for NumPy and SciPy on a CPU, and JAX where its first device is another; else a name such as "gpu".

    Returns
    -------
    JointSolution
        Values of all terms and star magnitudes, with their covariance.

    Raises
    ------
    XpjaxError
        If no row can be used, data and constraints leave combinations of columns undetermined (naming their terms), or
        numbers are not finite (naming the term).

    Notes
    -----
    M_star,band = m + sum of terms + noise, variance = error^2 + floor_band^2, minimized over all columns of the terms
    and all star magnitudes, which are eliminated exactly; outliers are met by iteratively reweighted least squares and
    then clipped, and non-linear terms linearized in every pass (Gauss-Newton).

    Examples
    --------
    >>> from xpjax.survey.joint import Constraint, JointModel, ZeroPoint, solve_joint
    >>> star, exposure = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    >>> magnitude = 15.0 + 0.1 * star - np.repeat([0.0, 0.1, 0.2], 20)
    >>> zero, error = np.zeros(60), np.full(60, 0.01)
    >>> rows = xpjax.survey.make_observations(star, zero, zero, magnitude, error, None, exposure=exposure)
    >>> model = JointModel((ZeroPoint(),), (Constraint("zero_point"),), error_floor=0.0, min_observations=1)
    >>> value, error = solve_joint(rows, model).term("zero_point")
    >>> value.round(3).tolist()
    [-0.1, 0.0, 0.1]
    """
    problem = prepare_joint(observations, model, prior=prior, devices=devices)
    return solution_of(Fit(problem, problem.rows, observations.magnitude, held_out_frames, held_out_stars))


def solve_prepared(
    problem: JointProblem,
    *,
    magnitude: np.ndarray | None = None,
    held_out_frames: np.ndarray | None = None,
    held_out_stars: np.ndarray | None = None,
) -> JointSolution:
    """Solve prepared observations, as often as is wanted: for cross-validation, or with other magnitudes.

    Parameters
    ----------
    problem : JointProblem
        Observations from `prepare_joint`.
    magnitude : (n,) array or None [mag]
        Instrumental magnitudes instead of those of the observations, finite for every row that is used.
    held_out_frames : (n_frame,) array of bool or None
        Frames that are kept back for cross-validation.
    held_out_stars : (n,) array of bool or None
        Rows of stars that are kept back for cross-validation.

    Returns
    -------
    JointSolution
        The solution, as of `solve_joint`.

    Raises
    ------
    XpjaxError
        As `solve_joint`, and for magnitudes that are not one for each row, or not finite.

    Examples
    --------
    >>> from xpjax.survey.joint import Constraint, JointModel, ZeroPoint, prepare_joint, solve_prepared
    >>> star, exposure = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    >>> zero, error = np.zeros(60), np.full(60, 0.01)
    >>> rows = xpjax.survey.make_observations(star, zero, zero, 15.0 + 0.1 * star, error, None, exposure=exposure)
    >>> model = JointModel((ZeroPoint(),), (Constraint("zero_point"),), error_floor=0.0, min_observations=1)
    >>> problem = prepare_joint(rows, model)
    >>> shifted = rows.magnitude + np.repeat([0.3, 0.0, 0.0], 20)
    >>> solve_prepared(problem, magnitude=shifted).value.round(3).tolist()
    [-0.2, 0.1, 0.1]
    """
    o = problem.observations
    if magnitude is None:
        magnitude = o.magnitude
    elif np.shape(magnitude) != (len(o),):
        raise XpjaxError(f"{np.shape(magnitude)} magnitudes for {len(o)} rows of observations")
    elif not np.isfinite(magnitude[problem.sorted.order]).all():
        raise XpjaxError("magnitudes must be finite for every row that the prepared observations use")
    # Non-linear terms change the rows, and the problem may be solved again.
    rows = problem.rows.copy() if problem.nonlinear else problem.rows
    return solution_of(Fit(problem, rows, magnitude, held_out_frames, held_out_stars))


def solution_of(fit: Fit) -> JointSolution:
    """Run a fit, and return its record."""
    gauge, problem, stars, o = fit.run(), fit.problem, fit.stars, fit.problem.observations
    part = stars.active & (stars.count > 0)
    shape = (len(problem.sorted.star), len(problem.sorted.bands))
    rows, chi2 = _rows(fit)
    chi2 += fit.chi2(part)
    n_free = int(stars.count[part].sum()) - int(part.sum()) - int(fit.seen.sum()) + len(fit.equations.equations)
    n_free += int((diagonal_of(problem.prior.precision) > 0)[part].sum()) + int((problem.columns.precision > 0).sum())
    known, true = fit.without_reference()
    magnitudes = StarMagnitudes(
        problem.sorted.star, problem.sorted.bands, np.where(known, true, np.nan).reshape(shape),
        stars.count.reshape(shape).astype(int),
        (~stars.active & (stars.count > 0) & ~fit.kept_back.slots).reshape(shape), np.sqrt(fit.weights.floor),
    )  # fmt: skip
    return JointSolution(
        Design(problem.model.terms, o.frames, problem.scale, problem.columns.blocks),
        np.where(fit.seen, fit.p, np.nan), gauge, magnitudes, rows,
        FitQuality(chi2, n_free, fit.converged, fit.passes, fit.steps), FitUncertainty(fit), model=problem.model,
    )  # fmt: skip


def _rows(fit: Fit) -> tuple[RowResults, float]:
    """Residuals and flags of all rows, and the chi2 of those that were used."""
    o, slots, order, weights = fit.problem.observations, fit.stars.slots, fit.problem.sorted.order, fit.weights
    residual, (used, clipped) = np.full(len(o), np.nan), np.zeros((2, len(o)), bool)

    def one(_: int, chunk: slice, rows: slice) -> float:
        slot, counts, place = slots.slot[chunk], slots.counts(chunk), order[rows]
        left = np.repeat(fit.stars.magnitude[slot], counts) - fit.fitted[rows]
        residual[place] = left
        used[place] = weights.kept[rows] & np.repeat(fit.stars.active[slot], counts)
        clipped[place] = ~weights.kept[rows] & np.isfinite(weights.sigma[rows])
        left *= left
        return float(left @ fit.equations.weight[rows])

    chi2 = sum(slots.each(one))
    back = np.flatnonzero(fit.kept_back.rows[order])  # of a frame that is kept back nothing says its zero-point
    entries = fit.equations.rows
    unknown = (~fit.seen[entries.column[back]] & (entries.value[back] != 0)).any(axis=1)
    residual[order[back[unknown]]] = np.nan
    flags, lost = fit.problem.flags.copy(), fit.problem.lost.row
    magnitude, lacking = fit.lost_magnitudes()
    flags[lost] |= lacking
    for rows, flag in ((fit.kept_back.rows, RowFlag.HELD_OUT), (clipped, RowFlag.OUTLIER), (used, RowFlag.STANDARD)):
        flags[rows] |= np.uint32(flag)
    return RowResults(o.frame, residual, used, clipped, flags, held_out(fit), lost=lost, lost_magnitude=magnitude), chi2
