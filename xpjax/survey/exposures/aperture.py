"""Aperture correction: the best aperture's magnitudes brought to the whole star's light, exposure by exposure.

The best aperture has the smallest median error; the reference is the first beyond which the growth curve of bright
stars gains less than `flat` magnitudes. Their difference is a quadratic in X and Y, fitted robustly to bright stars and
added to every one (Xiao et al. 2025).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.survey import Observations, group_median
from xpjax.survey.exposures.evaluate import evaluate
from xpjax.survey.exposures.fit import fit_exposures
from xpjax.survey.exposures.model import ExposureModel


@dataclasses.dataclass(frozen=True)
class Apertures:
    """Corrected magnitudes and errors (n,) [mag]; for each frame the best and the reference aperture, and the growth.

    growth (n_frame, n_aperture): median magnitude less the reference's; correction (n,): what was added.
    """

    magnitude: np.ndarray
    magnitude_error: np.ndarray
    correction: np.ndarray
    best: np.ndarray
    reference: np.ndarray
    growth: np.ndarray


def aperture_correction(
    observations: Observations,
    magnitudes: np.ndarray,
    errors: np.ndarray | None = None,
    *,
    bright: np.ndarray | None = None,
    order: int = 2,
    flat: float = 1e-3,
    brightest: int = 500,
) -> Apertures:
    """Correct magnitudes (n, n_aperture), apertures ascending, at the places and on the frames of the observations.

    bright (n,): stars that may tell (unsaturated, alone); the `brightest` of them on each frame do. Without errors the
    best aperture is the reference itself. Raises ValueError for fewer than two apertures.
    """
    o, n_frame = observations, len(observations.frames)
    m = np.where(np.isfinite(magnitudes) & (np.abs(magnitudes) < 90), magnitudes, np.nan)
    n_aperture = m.shape[1]
    if n_aperture < 2:
        raise XpjaxError("an aperture correction needs two apertures or more")
    e = None if errors is None else np.where(np.isfinite(errors) & (errors > 0) & (errors < 90), errors, np.nan)
    tell = np.isfinite(m).all(axis=1) & (True if bright is None else bright)
    order_of = np.lexsort((m[:, -1], ~tell, o.frame))
    rank = np.empty(len(o), int)
    start = np.searchsorted(o.frame[order_of], np.arange(n_frame))
    rank[order_of] = np.arange(len(o)) - start[o.frame[order_of]]
    tell &= rank < brightest
    steps = np.stack(
        [group_median(m[tell, k + 1] - m[tell, k], o.frame[tell], n_frame) for k in range(n_aperture - 1)], axis=1
    )
    ended = np.abs(np.nan_to_num(steps)) < flat
    reference = np.where(ended.any(axis=1), ended.argmax(axis=1), n_aperture - 1)
    growth = np.concatenate([np.zeros((n_frame, 1)), np.cumsum(np.nan_to_num(steps), axis=1)], axis=1)
    growth = growth - np.take_along_axis(growth, reference[:, None], axis=1)
    best = reference.copy()
    if e is not None:
        typical = np.stack([group_median(e[tell, k], o.frame[tell], n_frame) for k in range(n_aperture)], axis=1)
        known = np.isfinite(typical).all(axis=1)
        best[known] = np.minimum(np.argmin(np.where(known[:, None], typical, 0), axis=1)[known], reference[known])
    rows = np.arange(len(o))
    mine, whole = m[rows, best[o.frame]], m[rows, reference[o.frame]]
    own = np.full(len(o), np.nan) if e is None else e[rows, best[o.frame]]
    error = None if e is None else np.sqrt(np.maximum(e[rows, reference[o.frame]] ** 2 - own**2, 1e-8))
    pair = dataclasses.replace(
        o, magnitude=mine, magnitude_error=np.full(len(o), np.nan) if error is None else error,
        model=np.where(tell, whole, np.nan), model_error=np.zeros(len(o)),
    )  # fmt: skip
    fits = fit_exposures(pair, ExposureModel(position_order=order, color_order=0, magnitude_order=0))
    parts = evaluate(fits, pair)
    # A frame where nothing tells keeps its best aperture, uncorrected but for the growth curve's zero.
    correction = np.where(best[o.frame] == reference[o.frame], 0.0, np.nan_to_num(parts.added))
    return Apertures(mine + correction, np.hypot(own, np.nan_to_num(parts.error)), correction, best, reference, growth)
