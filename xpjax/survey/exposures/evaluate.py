"""The fitted terms at every row of the observations, standard or not."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from xpjax.core import engine
from xpjax.core.linalg import dot
from xpjax.core.records import AnyArray
from xpjax.survey import Observations
from xpjax.survey.exposures.results import ExposureFits

EVALUATED = 4096
"""Rows of every batch of an evaluation: roundings depend on the size, and `apply` is to find the same bits."""


class _Row(eqx.Module):
    u: Float[AnyArray, ""]
    v: Float[AnyArray, ""]
    color: Float[AnyArray, ""]
    magnitude: Float[AnyArray, ""]
    amplifier: Int[AnyArray, ""]
    frame: Int[AnyArray, ""]


def _evaluate_kernel(constants: Any, row: _Row) -> tuple[Array, Array, Array, Array]:
    """Added to the star, taken off the standard, and the two variances of what is added."""
    terms, value, covariance, common, taken = constants
    one = terms.design(*(jnp.atleast_1d(x) for x in (row.u, row.v, row.color, row.magnitude, row.amplifier)))[:, 0]
    mine = value[row.frame]
    added = jnp.where(taken, 0, one)
    variance = dot(added, dot(covariance[row.frame], added))
    alike = dot(added, dot(common[row.frame], added))
    return dot(mine, added), dot(mine, jnp.where(taken, one, 0)), variance, alike


@dataclasses.dataclass(frozen=True)
class TermsAtRows:
    """For each row (n,): what is added to its magnitude, taken off its model, and the errors of what is added [mag]."""

    added: np.ndarray
    taken: np.ndarray
    error: np.ndarray
    common_error: np.ndarray


def evaluate(fits: ExposureFits, observations: Observations, devices: engine.Devices = None) -> TermsAtRows:
    """The fitted terms at every row, standard or not. A color that is missing counts as color_zero."""
    o = observations
    u, v = fits.scaling.places(o.frame, o.x, o.y)
    if not fits.terms.position_order:
        u, v = np.zeros(len(o)), np.zeros(len(o))
    rows = _Row(
        u, v, o.color - fits.scaling.color_zero if fits.terms.color_order else np.zeros(len(o)),
        o.magnitude - fits.scaling.magnitude_zero if fits.terms.magnitude_order else np.zeros(len(o)),
        o.amplifier, o.frame,
    )  # fmt: skip
    constants = (fits.terms, fits.value, fits.covariance, fits.common_covariance, fits.terms.kinds == "color")
    if not len(o):
        return TermsAtRows(*(np.zeros(0) for _ in range(4)))
    added, taken, variance, alike = engine.run(
        _evaluate_kernel, constants, rows, float64=True, devices=devices, batch_rows=EVALUATED
    )
    return TermsAtRows(added, taken, np.sqrt(np.maximum(variance, 0)), np.sqrt(np.maximum(alike, 0)))
