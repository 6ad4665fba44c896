"""The model and the cuts that the data can pay for: by the number of standards, of exposures, and by cross-validation.

Ten standards for each term of an exposure leave its zero-point an error that is hardly larger than without terms. A
stacked flat needs exposures; a hundred standards in a cell make the error of the cell a tenth of that of a standard.
The numerical flat, a local fit to the nearest standards, adds noise where there is nothing to correct: cross-validation
says whether it helps, and exposures count by their precision there, as flats are seen in the precise ones.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from xpjax.survey import Observations
from xpjax.survey.exposures import CalibrationSettings, ExposureModel, cross_validate, usable_standards

PER_TERM = 10
"""Standards that each term of an exposure is to have."""
LADDER = ((2, 2), (1, 2), (1, 1), (0, 1), (0, 0))
"""Orders in position and color, from the model of the mini-SiTian and J-PLUS papers down."""
FLAT_STANDARDS = 100
"""Standards of an exposure from which a fit to the 20 nearest ones is local."""
STACK_EXPOSURES, PER_CELL, CELLS = 10, 100, (8, 30)
"""Exposures of a stacked flat, standards in its cells, and cells along a side, from and to."""
GAIN = -0.01
"""By how much the numerical flat must change the scatter in cross-validation, relative to it."""
FOLDS, FRAMES = 5, 12
"""Folds of that cross-validation, and frames that are looked at."""
FEWEST = 3
"""Standards that an exposure should have in any case."""
NARROW = 0.2
"""Standards within so small a range of colors [mag] do not determine a color term."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """Entries of [model] with the reasons, by name; and what is worth knowing."""

    entries: dict[str, Any]
    reasons: dict[str, str]
    notes: tuple[str, ...] = ()


def choose_model(o: Observations, *, color: bool, n_frame: float) -> Choice:
    """The model for exposures such as these, `n_frame` of a band and detector. color: whether stars have one."""
    place = bool(np.isfinite(o.x).any() and np.isfinite(o.y).any())
    plain = ExposureModel(position_order=0, color_order=0, magnitude_order="auto")
    rows, _ = usable_standards(o, plain)
    count = np.bincount(o.frame[rows], minlength=len(o.frames))
    n = float(np.median(count[count > 0])) if count.any() else 0.0
    entries: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    spread = 0.0
    if color and (known := o.color[rows][np.isfinite(o.color[rows])]).size:
        spread = float(np.subtract(*np.percentile(known, [95, 5])))
    color = color and spread > NARROW
    position, colors = next(
        (p, c) for p, c in LADDER
        if (place or not p) and (color or not c) and (p + 1) * (p + 2) // 2 + c <= max(n / PER_TERM, 1)
    )  # fmt: skip
    if color and not place and n >= 4 * PER_TERM:
        colors = 2
    seen = f"{n:,.0f} standards on the median exposure"
    entries |= {"position_order": position, "color_order": colors}
    reasons["position_order"] = f"{seen}, {PER_TERM} for each term" if place else "no positions on the detector"
    reasons["color_order"] = (
        f"colors of standards span {spread:.2f} mag" if color else
        f"colors of standards span {spread:.2f} mag only" if spread else "there is no color"
    )  # fmt: skip
    if place and n >= FLAT_STANDARDS:
        _choose_flat(o, entries, reasons, n, n_frame)
    notes = []
    if few := int(np.count_nonzero(count < FEWEST)):
        notes.append(f"{few} of {len(count)} exposures that were looked at have fewer than {FEWEST} standards")
    return Choice(entries, reasons, tuple(notes))


def _choose_flat(
    o: Observations, entries: dict[str, Any], reasons: dict[str, str], n_standard: float, n_frame: float
) -> None:
    """A stacked flat where there are exposures and standards for it, else a numerical one where it helps."""
    total = n_frame * n_standard
    bins = int(min(np.sqrt(total / PER_CELL), CELLS[1]))
    if n_frame >= STACK_EXPOSURES and bins >= CELLS[0]:
        entries |= {"stacked_flat": True, "bins": bins}
        reasons["stacked_flat"] = f"some {n_frame:,.0f} exposures of a band and detector share it"
        reasons["bins"] = f"{total / bins**2:,.0f} standards in a cell"
        return
    model = ExposureModel(position_order=entries["position_order"], color_order=entries["color_order"])
    sample = o.on_frames(np.unique(np.linspace(0, len(o.frames) - 1, FRAMES).astype(int)))
    without, with_it = (
        cross_validate(sample, CalibrationSettings(model, numerical_flat=flat), folds=FOLDS).scatter
        for flat in (False, True)
    )
    known = np.isfinite(without) & np.isfinite(with_it) & (without > 0) & (with_it > 0)
    if not known.any():
        return
    change = np.average(np.log(with_it[known] / without[known]), weights=without[known] ** -2)
    entries["numerical_flat"] = bool(change < GAIN)
    reasons["numerical_flat"] = (
        f"it changes the scatter of {int(known.sum())} exposures in cross-validation, weighted by precision, by "
        f"{100 * change:+.1f} %"
    )


ERROR_LIMITS = (0.05, 0.1)
"""Limits of magnitude errors [mag]: fainter stars are biased by the limit of detection, and weigh little."""


def error_limit(o: Observations) -> float:
    """The limit that leaves most exposures standards enough for a model in position and color, else the larger one."""
    good = np.isfinite(o.model + o.magnitude) & (o.excluded == 0) & (o.magnitude_error < ERROR_LIMITS[0])
    count = np.bincount(o.frame[good], minlength=len(o.frames))
    return ERROR_LIMITS[0] if np.median(count) >= 9 * PER_TERM else ERROR_LIMITS[1]
