"""Which stars a network corrects: their features lie within its training set, their labels within limits."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import AnyArray
from xpjax.core.status import Status
from xpjax.wiggles.features import Features
from xpjax.wiggles.network import WiggleCorrection


@dataclasses.dataclass(frozen=True)
class Limits:
    """Labels beyond which a star is not corrected.

    Parameters
    ----------
    teff : float or None [K]
        Stars above this effective temperature are not corrected; None for no limit.
    mh : float or None [dex]
        Stars at or below this metallicity are not corrected.
    av : float or None [mag]
        Stars above this extinction are not corrected.

    Notes
    -----
    The defaults are those of Ye et al. (2024, section 4.4).

    Examples
    --------
    >>> xpjax.wiggles.Limits(teff=10_000, av=None)
    Limits(teff=10000, mh=-2.5, av=None)
    """

    teff: float | None = 8000.0
    mh: float | None = -2.5
    av: float | None = 15.0


def applicable(
    model: WiggleCorrection, stars: Features, *, teff: Any = None, mh: Any = None, limits: Limits | None = None
) -> tuple[Bool[np.ndarray, " n"], np.ndarray]:
    """Which stars are corrected (n,), and status bits (n,) uint32 of the others that say why not.

    Not corrected: features missing or outside the training set's range, E(B-V) missing where it is needed, and Teff,
    [M/H] (n,), where given and known, or A_V beyond the limits (Ye et al. 2024, section 4.4).
    """
    limits = limits or Limits()
    stars = stars.select(model.names)
    x = np.asarray(stars.value, float)
    known = np.isfinite(x)
    missing = ~known.all(axis=1)
    if model.dereddens:
        if stars.ebv is None:
            raise XpjaxError(
                f"this correction dereddens: the features need E(B-V), by {say('ebv=', '--ebv')} or a dataset ebv"
            )
        missing |= ~np.isfinite(stars.ebv)
    # Rounding to float32 must not put the training set's own edge outside.
    margin = 1e-6 * (np.abs(np.asarray(model.low)) + np.abs(np.asarray(model.high)))
    margin = np.where(np.isfinite(margin), margin, 0)
    outside = (known & ((x < np.asarray(model.low) - margin) | (x > np.asarray(model.high) + margin))).any(axis=1)
    beyond = np.zeros(len(stars), bool)
    with np.errstate(invalid="ignore"):
        if teff is not None and limits.teff is not None:
            beyond |= np.asarray(teff) > limits.teff
        if mh is not None and limits.mh is not None:
            beyond |= np.asarray(mh) <= limits.mh
        if stars.ebv is not None and limits.av is not None:
            beyond |= stars.ebv * float(model.per_ebv) > limits.av
    status = np.zeros(len(stars), np.uint32)
    reasons = ((missing, Status.FEATURE_MISSING), (outside, Status.OUTSIDE_TRAINING), (beyond, Status.OUTSIDE_LIMITS))
    for rows, bit in reasons:
        status[rows] |= np.uint32(bit | Status.NOT_CORRECTED)
    return status == 0, status


class Star(eqx.Module):
    """What the kernels are told of one star: scaled features (n_feature,), E(B-V), whether to correct it."""

    x: Float[AnyArray, " n_feature"]
    ebv: Float[AnyArray, ""]
    apply: Bool[AnyArray, ""]
    input_error: Float[AnyArray, " n_input"] | None


def star_inputs(model: WiggleCorrection, stars: Features, apply: np.ndarray, errors: bool) -> Star:
    """The stars with harmless numbers where they are not corrected."""
    stars = stars.select(model.names)
    mean = np.asarray(model.feature_mean, float)
    # Scaled here in float64: magnitudes of 15 in float32 would cost 1e-6 mag before the network sees them.
    x = np.where(apply[:, None], (stars.value - mean) / np.asarray(model.feature_scale, float), 0.0)
    ebv = np.zeros(len(stars)) if stars.ebv is None or not model.dereddens else np.where(apply, stars.ebv, 0.0)
    known = stars.input_error if errors else None
    return Star(x, ebv, apply, None if known is None else np.where(apply[:, None], known, 0.0))
