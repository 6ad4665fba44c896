"""From pairs to a linear correction: the change, where it holds, and what it leaves, known from pairs left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.version import __version__
from xpjax.wiggles.linear.domain import make_domain
from xpjax.wiggles.linear.evidence import Evidence, learning_curve, robust
from xpjax.wiggles.linear.figures import figure
from xpjax.wiggles.linear.fit import LEVEL_RANGE, LinearSettings, Population, Training
from xpjax.wiggles.linear.pairs import Pairs, read_pairs
from xpjax.xp import NONE, STANDARD, AnySources, Instrument, LinearCorrection, as_sources, load_correction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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

    def report(self) -> str:
        """Errors of spectra and magnitudes of every pair as corrected without it, as a table in text."""
        curve = [f"trained on {n} pairs: the others' median RMS is {left:.2%}" for n, left in self.curve.items()]
        return "\n".join([*self.evidence.table(self.correction), *curve])

    def plot(self) -> Figure:
        """The change, what it leaves of pairs left out, and the learning curve."""
        return figure(self.correction, self.evidence, self.evidence.pairs.instrument, self.curve)


def train_linear(
    pairs: Pairs | str | Path,
    population: LinearCorrection | AnySources | Population | None = None,
    settings: LinearSettings | None = None,
    *,
    name: str = "own",
    floor: float = FLOOR,
    sizes: Sequence[int] = (),
    meta: Mapping[str, object] | None = None,
) -> Trained:
    """Train a linear correction on pairs of XP and reference spectra, and judge it on pairs left out.

    Parameters
    ----------
    pairs : Pairs, str or Path
        The pairs, or their file.
    population : optional
        Ordinary stars, which say what coefficients are normal: a linear correction's, or XP coefficients as
        `xpjax.read` reads them; by default those of the standard correction.
    settings : LinearSettings, optional
        Priors and weights.
    name : str
        Name of the correction.
    floor : float
        Relative standard error that all references share.
    sizes : sequence of int
        Numbers of pairs of the learning curve.
    meta : mapping, optional
        Further metadata of the correction.

    Returns
    -------
    Trained
        The `correction`, and `evidence` of pairs left out, which `report()` tells and `plot()` draws.

    Raises
    ------
    XpjaxError
        For fewer than 10 pairs, and a name that is taken.

    Notes
    -----
    With x the XP spectrum and T the reference, both over the mean flux of x within 400..990 nm,
    T - x = sum_q a_q(l) d^q x / du^q + b(l) + w(l) . z + noise, q = 0, 2, 4: a local operator with Gaussian processes
    a_q in pseudo-wavelength u, and a linear map of whitened coefficients z (`xpjax.wiggles.linear.fit`).

    Examples
    --------
    >>> xpjax.wiggles.train_linear("pairs.parquet", name="standard")
    Traceback (most recent call last):
    xpjax.core.errors.XpjaxError: name='standard': this name is taken, and outputs would tell of another correction; ...
    """
    _check_name(name)
    pairs = pairs if isinstance(pairs, Pairs) else read_pairs(pairs)
    if len(pairs) < 10:
        raise XpjaxError(f"{len(pairs)} pairs are too few for a correction: give 10 or more, better 40")
    model, chosen = pairs.instrument, settings or LinearSettings()
    training = Training(pairs, ordinary := _population(population, model), chosen)
    domain = make_domain(pairs, ordinary)
    distance = domain.distance(pairs.coefficients, model.release)
    for _ in range(STEPS):
        training.weigh(training.left_out(), distance)
    evidence = Evidence.of(pairs, training.left_out(), distance, float(domain.limit))
    told = {"n_pair": len(pairs), "pairs": [str(n) for n in pairs.name], "settings": dataclasses.asdict(chosen)}
    seen_by, change, left = (model.model, model.release, model.wavelength), training.fit(), what_is_left(evidence)
    center, root, record = ordinary.center, ordinary.root(), {"version": __version__, **told, **(meta or {})}
    seen = center @ (model.default_design + change)
    correction = LinearCorrection(name, *seen_by, change, left, floor, domain, center, root, LEVEL_RANGE, seen, record)
    return Trained(correction, evidence, learning_curve(training, sizes))


def _check_name(name: str) -> None:
    if name in (STANDARD, NONE):
        option = say(f"name={name!r}", f"--name {name}")
        raise XpjaxError(f"{option}: this name is taken, and outputs would tell of another correction; choose one")


def _population(given: Any, model: Instrument) -> Population:
    """Ordinary stars as they are, of a linear correction, or of XP coefficients."""
    if isinstance(given, Population):
        return given
    known = load_correction() if given is None else given
    if isinstance(known, LinearCorrection):
        return Population.known(known)
    return Population.of(np.asarray(as_sources(known).coefficients.value, float), model)


def what_is_left(evidence: Evidence) -> np.ndarray:
    """Root (n, m) of the covariance of relative errors of pairs that were left out, at d^2 = 0.

    Residuals over sqrt(1 + d^2) and the root of their number, drawn in to OUTLIER robust standard deviations.
    """
    ratio = evidence.after / evidence.reference - 1
    ratio = np.where(np.isfinite(ratio), ratio, 0) / np.sqrt(1 + evidence.distance)[:, None]
    most = OUTLIER * robust(ratio)
    return np.asarray(np.clip(ratio, -most, most) / np.sqrt(len(ratio)))
