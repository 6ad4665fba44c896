"""Many realizations of one small field in one batched run: do errors hold, and how far do estimates scatter?

The same rows, terms and errors as a joint solution, with other magnitudes: simulated, or bootstrapped. Each realization
is one source of the engine, solved densely with its stars eliminated; transmission terms by Gauss-Newton steps.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import dot
from xpjax.core.records import AnyArray, Record
from xpjax.survey import Observations
from xpjax.survey.joint.curves import BandCurves
from xpjax.survey.joint.fit import Fit
from xpjax.survey.joint.priors import StarPrior
from xpjax.survey.joint.problem import JointModel, prepare_joint
from xpjax.survey.joint.transmission import PreparedTransmission

STEPS = 4
"""Gauss-Newton steps: transmission terms are nearly linear."""
STIFF = 1e4
"""How much stiffer than the data constraints are; their part of the covariance is as much smaller."""


class _Band(eqx.Module):
    """The curves of one band, and which frames are in it."""

    curves: BandCurves
    frames: Int[AnyArray, " n_own"]


class _Field(eqx.Module):
    """What all realizations share; rows sorted by star, columns of linear terms first."""

    design: Float[AnyArray, "n n_linear"]
    slot: Int[AnyArray, " n"]
    weight: Float[AnyArray, " n"]
    star_precision: Float[AnyArray, " n_slot"]
    precision: Float[AnyArray, " n_column"]
    mean: Float[AnyArray, " n_column"]
    equations: Float[AnyArray, "n_constraint n_column"]
    targets: Float[AnyArray, " n_constraint"]
    bands: tuple[_Band, ...]
    group: Int[AnyArray, "n_frame n_parameter"]
    """Column of each parameter, among those of the transmission, for each frame."""
    airmass: Float[AnyArray, " n_frame"]
    reference: Float[AnyArray, "n_frame n_basis_total"]
    spectrum: Float[AnyArray, "n n_basis_total"]
    frame: Int[AnyArray, " n"]


class _Sky(eqx.Module):
    magnitude: Float[AnyArray, " n"]
    star: Float[AnyArray, " n_slot"]


def _added(change: Array, field: _Field) -> Array:
    """What transmission terms add to every row (n,)."""
    reference = jnp.asarray(field.reference)
    projection = jnp.zeros_like(reference)
    for band in field.bands:
        mine = jax.vmap(band.curves.projection)(change[field.group[band.frames]], field.airmass[band.frames])
        projection = projection.at[band.frames].set(mine)
    flux = jnp.sum(field.spectrum * projection[field.frame], axis=1)
    return 2.5 * jnp.log10(flux / jnp.sum(field.spectrum * reference[field.frame], axis=1))


def _kernel(field: _Field, sky: _Sky) -> tuple[Array, Array]:
    """Columns (n_column,) and their errors of one realization."""
    n_slot, n_linear = field.star_precision.shape[0], field.design.shape[1]
    weight, slot = jnp.asarray(field.weight), jnp.asarray(field.slot)
    total = jax.ops.segment_sum(weight, slot, n_slot) + field.star_precision
    inverse = jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 0)

    def solve(value: Array) -> tuple[Array, Array]:
        design, fitted = jnp.asarray(field.design), sky.magnitude + dot(field.design, value[:n_linear])
        if field.bands:
            change = value[n_linear:]
            fitted = fitted + _added(change, field)
            design = jnp.concatenate([design, jax.jacfwd(_added)(change, field)], axis=1)
        sums = jax.ops.segment_sum(weight * fitted, slot, n_slot) + field.star_precision * sky.star
        residual = fitted - (inverse * sums)[slot]
        weighted = weight[:, None] * design
        stars = jax.ops.segment_sum(weighted, slot, n_slot)
        matrix = dot(design.T, weighted) - dot(stars.T, inverse[:, None] * stars) + jnp.diag(field.precision)
        right = dot(weighted.T, residual) + field.precision * (value - field.mean)
        scale = jnp.sqrt(jnp.sum(weighted * design, axis=0) + field.precision)
        hold = field.equations * jnp.sqrt(STIFF / jnp.sum((field.equations / scale) ** 2, axis=1))[:, None]
        off = dot(field.equations, value) - field.targets
        right = right + dot(hold.T, off * jnp.linalg.norm(hold, axis=1) / jnp.linalg.norm(field.equations, axis=1))
        matrix = (matrix + dot(hold.T, hold)) / scale[:, None] / scale
        factor = jnp.linalg.cholesky(matrix)
        moved = jax.scipy.linalg.cho_solve((factor, True), right / scale) / scale
        return value - moved, jnp.diagonal(jax.scipy.linalg.cho_solve((factor, True), jnp.eye(len(scale)))) / scale**2

    def step(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        return solve(state[0])

    start = jnp.asarray(field.mean)
    value, variance = jax.lax.fori_loop(0, STEPS if field.bands else 2, step, (start, jnp.zeros_like(start)))
    return value, jnp.sqrt(variance)


@dataclasses.dataclass(frozen=True, repr=False)
class Realizations(Record):
    """Columns value (k, n_column) of each realization, and their errors (k, n_column)."""

    value: np.ndarray
    error: np.ndarray


def solve_realizations(
    observations: Observations,
    model: JointModel,
    magnitude: np.ndarray,
    *,
    star_magnitude: np.ndarray | None = None,
    prior: StarPrior | None = None,
    devices: Any = None,
) -> Realizations:
    """Solve a field again and again with other magnitudes; see the module.

    magnitude (k, n): instrumental, of the rows of the observations. star_magnitude (k, n_star): prior magnitudes, where
    the stars have a prior, in the order of their ids; by default the prior's own. Columns come in the order of
    `JointSolution.value`. Least squares without clipping; spectra of transmission terms stay as they are (their
    `star_prior` must be off, and bands of stars not coupled). Raises ValueError where that is not so, and for more than
    one transmission term.
    """
    problem = prepare_joint(observations, model, prior=prior)
    curved = [one for one in problem.nonlinear if isinstance(one.term, PreparedTransmission)]
    priors = any(one.start.star_prior is not None for one in problem.nonlinear)
    if problem.prior.coupled or priors or len(curved) < len(problem.nonlinear) or len(curved) > 1:
        raise XpjaxError("realizations are of one transmission term at most, without star_prior, and bands uncoupled")
    magnitude = np.atleast_2d(magnitude)
    if magnitude.shape[1] != len(observations):
        raise XpjaxError(f"{magnitude.shape[1]} magnitudes for {len(observations)} rows")
    rows, order = problem.rows, problem.sorted.order
    layout = rows.layout
    first = curved[0].blocks.start if curved else len(layout.size)
    if curved and curved[0].blocks.stop < len(layout.size):
        raise XpjaxError("put the transmission term last")
    n, n_column = len(order), layout.n_column
    n_linear = layout.start[first] if curved else n_column
    width = layout.first[first] if curved else rows.column.shape[1]
    design = np.zeros((n, n_linear))
    np.add.at(design, (np.arange(n)[:, None], rows.column[:, :width]), rows.value[:, :width])
    mean = problem.prior.mean()
    star = np.broadcast_to(mean, (len(magnitude), len(mean))) if star_magnitude is None else np.asarray(star_magnitude)
    if curved:
        curves = _curves(curved[0].term, order, [s - n_linear for s in layout.start[first:]])
    else:
        empty = np.zeros((0, 0))
        curves = {"bands": (), "group": np.zeros((0, 0), np.int32), "airmass": np.zeros(0), "reference": empty,
                  "spectrum": empty, "frame": np.zeros(0, np.int32)}  # fmt: skip
    fit = Fit(problem, rows, observations.magnitude, None, None)
    if not fit.seen.all():
        raise XpjaxError("some columns have no data: leave out their places")
    field = _Field(
        design, rows.slots.row_slot.astype(np.int32), 1 / fit.weights.variance(), problem.prior.precision,
        problem.columns.precision, problem.columns.mean, fit.equations.equations, fit.equations.targets, **curves,
    )  # fmt: skip
    out = engine.run(
        _kernel, field, _Sky(magnitude[:, order], star), float64=True, devices=devices, work_bytes=16 * n * n_column
    )
    return Realizations(*out)


def _curves(prepared: Any, order: np.ndarray, starts: list[int]) -> dict[str, Any]:
    """The parts of a field that a transmission term has."""
    frames = prepared.frames
    reference = np.stack([prepared.reference[str(band)] for band in frames.band])
    scale = np.abs(reference).max()
    columns = zip(prepared.parameters, starts, strict=True)
    group = np.stack([one.groups.index + start for one, start in columns], axis=1)
    bands = []
    for band, curves in prepared.curves.items():
        operator = dataclasses.replace(curves.operator, response=np.asarray(curves.operator.response) / scale)
        mine = np.flatnonzero(frames.band == band).astype(np.int32)
        bands.append(_Band(dataclasses.replace(curves, operator=operator), mine))
    return {
        "bands": tuple(bands), "group": group.astype(np.int32), "airmass": prepared.airmass(),
        "reference": reference / scale, "spectrum": prepared.coefficients[prepared.star[order]],
        "frame": prepared.frame[order].astype(np.int32),
    }  # fmt: skip
