"""What a report shows of terms of a joint solution that go with one thing: air, light, hours of the night, seeing."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import say
from xpjax.survey.report.drawing import (
    MMAG,
    draw_curves,
    dress,
    ends_of,
    in_parts,
    is_left,
    label_of,
    panels,
    plain,
)
from xpjax.survey.report.joint_evidence import JointEvidence, bands_of
from xpjax.survey.report.joint_terms import curves_of
from xpjax.survey.report.layout import Figure
from xpjax.survey.report.statistics import Missing

if TYPE_CHECKING:
    import matplotlib.figure

POINTS = 80
HOURS = 24.0


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a term is drawn over: x (n,) and its label; its derivatives (n,) by parts, by name; said: more."""

    x: np.ndarray
    label: str
    parts: Mapping[str, np.ndarray]
    said: str = ""


def _over(values: np.ndarray, why: str) -> np.ndarray:
    """Even steps (n,) over what values span. Raises Missing where they span nothing."""
    known = values[np.isfinite(values)]
    if not len(known) or np.ptp(known) == 0:
        raise Missing(why)
    return np.linspace(*ends_of(known, 99.8), POINTS)


def _powers(name: str, x: np.ndarray, order: int) -> dict[str, np.ndarray]:
    return {f"{name}_{k}": x**k for k in range(1, order + 1)}


def extinction_shape(evidence: JointEvidence, term: Any) -> Shape:
    """-k (X - 1), of stars of color_zero."""
    x = _over(evidence.solution.frames.airmass, "all exposures have one airmass")
    return Shape(x, "airmass", {"k": 1 - x})


def drift_shape(evidence: JointEvidence, term: Any) -> Shape:
    """The polynomial in hours."""
    frames = evidence.solution.frames
    first = np.array([min(frames.time[frames.night == night]) for night in frames.night.tolist()])
    x = _over(HOURS * (frames.time - first), "all exposures of a night have one time")
    return Shape(x, "hours of the night", _powers("time", x, term.order))


def nonlinearity_shape(evidence: JointEvidence, term: Any) -> Shape:
    """Over the instrumental magnitude: of a calibrated one less the zero-point of its frame."""
    table, found = evidence.solution.exposures().columns, evidence.solution
    names = [
        b.name for b in found.blocks if evidence.kind(b) == "zero_point" and b.name in table and not b.of_reference
    ]
    if not names:
        raise Missing("no zero-point of a frame tells instrumental magnitudes")
    level = np.sum([np.asarray(table[name], float) for name in names], axis=0)
    x = _over(evidence.rows["magnitude"] - level[evidence.rows["frame"]], "all stars have one magnitude")
    off = x - term.magnitude
    if term.form == "polynomial":
        return Shape(x, "instrumental magnitude [mag]", _powers("magnitude", off, term.order))
    said = f" In seeing of {term.seeing:g}." if term.form == "peak" else ""
    return Shape(x, "instrumental magnitude [mag]", {term.form: 10 ** (-0.4 * off)}, said)


def seeing_shape(evidence: JointEvidence, term: Any) -> Shape:
    """Over the seeing, where it is known."""
    values = evidence.rows.get(term.column) if term.values is None else term.values
    if values is None:
        raise Missing(f"values of {term.column} are not among the products ({say('catalogues=', '--catalogue')})")
    x = _over(np.asarray(values, float), f"{term.column} has one value")
    return Shape(x, term.column or term.name, _powers("seeing", x - term.zero, term.order))


SHAPES = {
    "extinction": extinction_shape, "drift": drift_shape, "nonlinearity": nonlinearity_shape, "seeing": seeing_shape,
}  # fmt: skip
"""Kinds of terms, and what makes their shape. Raise Missing."""


def shape_figures(evidence: JointEvidence) -> tuple[list[Figure], dict[str, str]]:
    """A figure of each such term, a panel for each band; and those that could not be drawn."""
    figures, missing = list[Figure](), dict[str, str]()
    for block in evidence.solution.blocks:
        kind = evidence.kind(block)
        if kind not in SHAPES:
            continue
        name = f"{block.name} over what it goes with"
        try:
            shape = SHAPES[kind](evidence, evidence.term_of(block))
        except Missing as why:
            missing[name.capitalize()] = str(why)
            continue
        bands = np.unique(bands_of(block)).tolist()
        caption = (
            f"What the term {block.name} adds to magnitudes: median of {len(block.labels):,} values (line), error of "
            "one (dark band), and the range of 68 % of them (light band, where there are several in a band)."
        )
        figures += in_parts(
            name, bands, 9, caption + shape.said, functools.partial(_draw_shapes, evidence, block, shape)
        )
    return figures, missing


def _draw_shapes(
    evidence: JointEvidence, block: Any, shape: Shape, bands: tuple[str, ...], figure: matplotlib.figure.Figure
) -> None:
    for band, axes in zip(bands, panels(figure, len(bands)), strict=True):
        value, error = curves_of(evidence, block, np.flatnonzero(bands_of(block) == band), shape.parts)
        draw_curves(axes, shape.x, MMAG * value, MMAG * error)
        axes.axhline(0, color="0.5", lw=0.6, zorder=0)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, -0.1), max(high, 0.1))
        title = f"{plain(block.name)}{', ' * bool(band)}{plain(label_of(band)) if band else ''}"
        dress(axes, shape.label, "added [mmag]" if is_left(axes) else "", title)
