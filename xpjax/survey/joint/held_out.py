"""Cross-validation of a joint solution: residuals of the stars and exposures that were kept back from it."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse

from xpjax.core.records import Record
from xpjax.survey.joint.fit import Fit
from xpjax.survey.joint.normal import SINGULAR
from xpjax.survey.joint.weights import robust_weight


@dataclasses.dataclass(frozen=True, repr=False)
class HeldOut(Record):
    """Residuals of measurements that were kept back; arrays (n,) for all rows of the observations, NaN elsewhere.

    residual: the star's magnitude less the calibrated one; error: the standard deviation expected of it, of the
    measurement and the star's magnitude together. Stars kept back have the mean of their own rows as magnitudes;
    exposures kept back have their own columns fitted to the stars, and all else as the others found it.
    """

    residual: np.ndarray
    error: np.ndarray


def held_out(fit: Fit) -> HeldOut | None:
    """Residuals of stars and exposures kept back from a finished fit; None where there are none."""
    if not (fit.kept_back.slots.any() or fit.kept_back.frames.any()):
        return None
    o, order, slots, weights = fit.problem.observations, fit.problem.sorted.order, fit.stars.slots, fit.weights
    residual, error = np.full(len(o), np.nan), np.full(len(o), np.nan)
    own, off = slots.of_rows(fit.stars.own), slots.of_rows(fit.stars.magnitude) - fit.fitted
    mine = slots.of_rows(fit.kept_back.slots) & np.isfinite(weights.sigma)
    total = weights.variance()
    # Of a star's own mean: an error smaller by its share. A clipped row has none; a star's only one says nothing.
    variance = np.where(fit.weight > 0, total - own, total + own)[mine]
    variance[variance < SINGULAR * total[mine]] = np.nan
    residual[order[mine]] = np.where(np.isnan(variance), np.nan, off[mine])
    error[order[mine]] = np.sqrt(variance)
    back = ~np.isfinite(weights.sigma) & slots.of_rows(fit.stars.active) & (own > 0)
    if back.any():
        variance = o.magnitude_error[order[back]] ** 2 + own[back]
        variance += weights.floor[0 if weights.band is None else weights.band[back]]
        residual[order[back]] = _own_columns(fit, back, off[back], variance)
        error[order[back]] = np.sqrt(variance)
    return HeldOut(residual, error)


def _own_columns(fit: Fit, back: np.ndarray, off: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Residuals of exposures kept back once the columns that they alone have are fitted to them, robustly."""
    new, rows = ~fit.seen, fit.equations.rows
    place = np.cumsum(new) - 1
    column, value = rows.column[back], rows.value[back]
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
