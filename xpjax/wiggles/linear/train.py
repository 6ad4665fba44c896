"""From pairs to a linear correction: the change, where it holds, and what it leaves, known from pairs left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.version import __version__
from xpjax.wiggles.linear.domain import make_domain
from xpjax.wiggles.linear.evidence import Evidence, learning_curve, robust
from xpjax.wiggles.linear.fit import LEVEL_RANGE, LinearSettings, Population, Training
from xpjax.wiggles.linear.pairs import Pairs
from xpjax.xp import LinearCorrection

STEPS = 2
"""Of weighing the stars by how well they fit."""
OUTLIER = 3.0
"""Standard deviations to which a star's residual is drawn in before it enters the covariance of what is left."""
FLOOR = 0.001
"""Relative error that all references share: CALSPEC and SNfactory differ by 0.0 to 1.4 mmag in bands, the median of 13
stars. What each star's reference errs by itself (0.33 %) is in the spectra that are left out already."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A linear correction, the evidence of pairs that were left out, and the learning curve (number -> median RMS)."""

    correction: LinearCorrection
    evidence: Evidence
    curve: Mapping[int, float]


def train_linear(
    pairs: Pairs,
    population: Population,
    settings: LinearSettings | None = None,
    *,
    name: str = "own",
    floor: float = FLOOR,
    sizes: Sequence[int] = (),
    meta: Mapping[str, Any] | None = None,
) -> Trained:
    """Train a linear correction on pairs, and judge it on pairs left out.

    population: ordinary stars, which say what directions of the coefficients are normal. name: of the correction.
    floor: relative standard error that all references share. sizes: numbers of pairs of the learning curve. Raises
    ValueError for fewer than 10 pairs.

    >>> made = train_linear(read_pairs("pairs.parquet"), Population.known(linear_correction("standard")))
    """
    if len(pairs) < 10:
        raise XpjaxError(f"{len(pairs)} pairs are too few for a correction: give 10 or more, better 40")
    model, chosen = pairs.instrument, settings or LinearSettings()
    training = Training(pairs, population, chosen)
    domain = make_domain(pairs, population)
    distance = np.asarray(domain.distance(pairs.coefficients, model.release))
    for _ in range(STEPS):
        training.weigh(training.left_out(), distance)
    evidence = Evidence.of(pairs, training.left_out(), distance, float(domain.limit))
    change = training.fit()
    correction = LinearCorrection(
        name,
        model.model,
        model.release,
        model.wavelength,
        change,
        what_is_left(evidence),
        floor,
        domain,
        population.center,
        population.root(),
        LEVEL_RANGE,
        population.center @ (model.default_design + change),
        {
            "version": __version__,
            "n_pair": len(pairs),
            "pairs": [str(n) for n in pairs.name],
            "settings": dataclasses.asdict(chosen),
            **(meta or {}),
        },
    )
    return Trained(correction, evidence, learning_curve(training, sizes))


def what_is_left(evidence: Evidence) -> np.ndarray:
    """Root (n, m) of the covariance of relative errors of pairs that were left out, at d^2 = 0.

    Residuals over sqrt(1 + d^2) and the root of their number, drawn in to OUTLIER robust standard deviations.
    """
    ratio = evidence.after / evidence.reference - 1
    ratio = np.where(np.isfinite(ratio), ratio, 0) / np.sqrt(1 + evidence.distance)[:, None]
    most = OUTLIER * robust(ratio)
    return np.asarray(np.clip(ratio, -most, most) / np.sqrt(len(ratio)))
