"""What a report shows of the transmission that a joint solution finds: before and after, with bands of error.

A chain with parameters p has the curves T(l; p). The solution changes the mean of each parameter over the frames of a
band by c with the covariance C. Curves have the area of the reference, for a gray change is one of zero-points:

    R(l; p) = T(l; p) int T(l; p_0) dl / int T(l; p) dl,      var R = (dR/dp) C (dR/dp)'
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from xpjax.core.engine import precision
from xpjax.core.errors import XpjaxError
from xpjax.survey.report.drawing import (
    BLUE,
    RED,
    chunks,
    color_bar,
    dress,
    label_of,
    panels,
    part_of,
    plain,
    rounded_text,
    shared_legend,
)
from xpjax.survey.report.joint_evidence import JointEvidence, kind_of_term
from xpjax.survey.report.joint_maps import detector_height, polynomial
from xpjax.survey.report.joint_terms import in_unit, with_error
from xpjax.survey.report.layout import WIDTH, Figure, Table
from xpjax.survey.report.statistics import Missing
from xpjax.synthetic import TransmissionChain

if TYPE_CHECKING:
    import matplotlib.figure

STEP = 0.5
"""Sampling [nm] of the curves."""
MARGIN = 10.0
"""How far [nm] they reach beyond the filter's table."""
PLACES = {"center": (0.0, 0.0), "corner": (1.0, 1.0)}
"""Places (u, v) of the detector that have curves where a parameter varies over it."""
CELLS = 40


@dataclasses.dataclass(frozen=True)
class Change:
    """The mean change of parameters (k,) of a chain over the frames of a band at a place of the detector.

    names, units (k,); value (k,); combinations (k, n_column) of the solution's columns.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    value: np.ndarray
    combinations: np.ndarray


@dataclasses.dataclass(frozen=True)
class BandCurve:
    """The transmission of a band at wavelengths (n,) [nm]: before, after at a place, and the error of after, or None.

    mean: wavelength [nm] before, after and its error.
    """

    band: str
    place: str
    wavelength: np.ndarray
    before: np.ndarray
    after: np.ndarray
    error: np.ndarray | None
    mean: tuple[float, float, float]


def parameter_blocks(evidence: JointEvidence, term: str) -> dict[str, list[tuple[str, Any]]]:
    """Blocks of a transmission term by parameter: the names of their parts of the field ("" the constant), and they."""
    out: dict[str, list[tuple[str, Any]]] = {}
    for block in evidence.solution.blocks:
        if block.name.startswith(f"{term} "):
            name, _, part = block.name.removeprefix(f"{term} ").partition(" ")
            out.setdefault(name, []).append((part, block))
    return out


def part_at(evidence: JointEvidence, name: tuple[str, str, str], band: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The value (n,) of a part of a parameter's field (term, parameter, part) at scaled places of the detector.

    One for the constant; a power of the distance from the optical center in half diagonals; a Chebyshev polynomial.
    """
    term, parameter, part = name
    if not part.startswith("r"):
        return polynomial(part, u, v)
    left, right, low, high = box_of_band(evidence, band)
    wide, tall, center = right - left, high - low, evidence.transmissions[term].parameters[parameter].center
    x, y = (0.5 * (left + right), 0.5 * (low + high)) if center is None else center
    own = (left + 0.5 * wide * (u + 1) - x) ** 2 + (low + 0.5 * tall * (v + 1) - y) ** 2
    return (4 * own / (wide**2 + tall**2)) ** (int(part[1:]) // 2)


def box_of_band(evidence: JointEvidence, band: str) -> np.ndarray:
    """x and y from..to [pixel] of the first frame of a band."""
    found = evidence.solution
    return found.design.scaling.box[np.flatnonzero(found.frames.band == band)[0]]


def chain_of(evidence: JointEvidence, term: str) -> TransmissionChain:
    """The reference chain of a transmission term."""
    chain = evidence.transmissions[term].chain
    assert isinstance(chain, TransmissionChain)
    return chain


def mean_change(evidence: JointEvidence, term: str, band: str, place: tuple[float, float]) -> Change:
    """The mean change of parameters on frames of a band at a place of the detector. Raises Missing without data."""
    found = evidence.solution
    frames = np.flatnonzero(found.frames.band == band)
    u, v = (np.array([one]) for one in place)
    names, units, rows = [], [], []
    for name, parts in parameter_blocks(evidence, term).items():
        row = np.zeros(len(found.value))
        for part, block in parts:
            columns = found.places(block.name)
            weight = evidence.places_of(block, frames) * np.isfinite(found.value[columns])
            if weight.sum():
                row[columns] = weight / weight.sum() * float(part_at(evidence, (term, name, part), band, u, v)[0])
        if row.any():
            names.append(name)
            units.append(parts[0][1].parts[0].unit)
            rows.append(row)
    if not rows:
        raise Missing(f"no parameter of {term} has data")
    matrix = np.array(rows)
    return Change(tuple(names), tuple(units), matrix @ np.nan_to_num(found.value), matrix)


def band_curve(evidence: JointEvidence, term: str, band: str, place: str) -> BandCurve:
    """The transmission of a band before and after, at a place of the detector. Raises Missing."""
    chain = chain_of(evidence, term)
    change = mean_change(evidence, term, band, PLACES[place])
    table = np.asarray(chain.filters[chain.bands.index(band)].wavelength)
    grid = np.arange(table[0] - MARGIN, table[-1] + MARGIN + STEP, STEP)
    with precision(float64=True):
        curve = functools.partial(_normalized, chain, band, change.names, grid)
        zero, at = np.zeros(len(change.names)), jnp.asarray(change.value)
        before, after = (np.asarray(curve(p)) for p in (zero, at))
        slope = np.asarray(jax.jacfwd(curve)(at))
    first, last = (float((t * grid).sum() / t.sum()) for t in (before, after))
    try:
        covariance = evidence.solution.covariance(change.combinations)
    except XpjaxError:  # a file of many columns has none
        return BandCurve(band, place, grid, before, after, None, (first, last, np.nan))
    error = np.sqrt(np.maximum(np.einsum("nk,kl,nl->n", slope, covariance, slope), 0))
    moved = slope.T @ (grid - last) / after.sum()
    return BandCurve(
        band, place, grid, before, after, error, (first, last, float(np.sqrt(max(moved @ covariance @ moved, 0))))
    )


def _normalized(chain: TransmissionChain, band: str, names: tuple[str, ...], grid: np.ndarray, change: Any) -> Any:
    """The curve (n,) of a band with changed parameters, of the area that it has without."""
    own = chain.parameters
    values = {name: own[name] + change[k] for k, name in enumerate(names)}
    before = chain.transmission(grid, band)
    after = chain.transmission(grid, band, **values)
    return after * before.sum() / after.sum()


def all_curves(evidence: JointEvidence) -> dict[str, list[BandCurve]]:
    """The curves of all bands by transmission term, at the center, and at a corner where something varies.

    Raises Missing.
    """
    terms = [term.name for term in evidence.solution.terms if kind_of_term(term) == "transmission"]
    if not terms:
        raise Missing("the model has no transmission term")
    out: dict[str, list[BandCurve]] = {}
    for name in terms:
        if name not in evidence.transmissions:
            raise Missing(f"the file of the chain of {name} is not found")
        varies = any(part for parts in parameter_blocks(evidence, name).values() for part, _ in parts)
        out[name] = [
            band_curve(evidence, name, band, place)
            for band in evidence.bands
            for place in [*PLACES][: 1 + varies]
        ]  # fmt: skip
    return out


def curve_figures(curves: dict[str, list[BandCurve]]) -> list[Figure]:
    """Transmission before and after of each band, and their difference."""
    figures = []
    for term, every in curves.items():
        bands = list(dict.fromkeys(one.band for one in every))
        caption = (
            f"Transmission of the bands ({term}) before (dashed) and after the solution, means over frames, at the "
            "chain's own airmass and of equal areas: a gray change is one of zero-points. Below: after - before in % "
            "of the maximum, with the error (1 sigma) that the covariance of the parameters propagates to."
        )
        if any(one.error is None for one in every):
            caption += " The file has no covariance (many columns): errors of curves are not known."
        if any(one.place != "center" for one in every):
            caption += " Blue: in the center of the detector; red: in the corner of largest x and y."
        for part in chunks(bands, 6):
            shown = [one for one in every if one.band in part]
            name = part_of(f"Transmission of {term}" if len(curves) > 1 else "Transmission", part, bands)
            figures.append(Figure(name, caption, functools.partial(_draw_curves, shown, part)))
    return figures


def _draw_curves(curves: list[BandCurve], bands: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    across = min(len(bands), 3)
    down = -(-len(bands) // across)
    figure.set_size_inches(WIDTH * max(across, 1.5) / 3, 4.0 * down)
    ratios, several = [2.0, 1.4] * down, len({one.place for one in curves}) > 1
    grid = figure.subplots(2 * down, across, squeeze=False, height_ratios=ratios)
    for k, band in enumerate(bands):
        upper, lower = (grid[2 * (k // across) + j, k % across] for j in (0, 1))
        for one in (c for c in curves if c.band == band):
            paint = BLUE if one.place == "center" else RED
            x, top = one.wavelength, float(one.before.max())
            if one.place == "center":
                upper.plot(x, one.before, color="0.4", lw=1, ls="--", label="before")
            upper.plot(
                x, one.after, color=paint, lw=1.2, label=f"after, {one.place} of the detector" if several else "after"
            )
            off = 100 * (one.after - one.before) / top
            lower.plot(x, off, color=paint, lw=1)
            if one.error is not None:
                upper.fill_between(x, one.after - one.error, one.after + one.error, color=paint, alpha=0.3, lw=0)
                width = 100 * one.error / top
                lower.fill_between(x, off - width, off + width, color=paint, alpha=0.3, lw=0)
        lower.axhline(0, color="0.5", lw=0.6, zorder=0)
        lower.sharex(upper)
        dress(upper, "", "transmission" if k % across == 0 else "", plain(band), legend=False)
        dress(lower, "wavelength [nm]", "change [%]" if k % across == 0 else "", legend=False)
    for k in range(len(bands), across * down):
        for j in (0, 1):
            grid[2 * (k // across) + j, k % across].axis("off")
    shared_legend(figure, grid[0, 0])


def curve_table(curves: dict[str, list[BandCurve]]) -> Table:
    """Mean wavelengths of the bands before and after."""
    rows = [
        (label_of(one.band), one.place, f"{one.mean[0]:.2f}", f"{one.mean[1]:.2f}",
         with_error(one.mean[1] - one.mean[0], one.mean[2]))
        for every in curves.values() for one in every
    ]  # fmt: skip
    caption = "Mean wavelengths [nm] of the transmission, int T l dl / int T dl, before and after, and their change."
    return Table(caption, ("band", "place", "before", "after", "change"), rows)


def parameter_table(evidence: JointEvidence) -> Table:
    """Parameters of each chain over the frames of each band: reference, and mean change with its error."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for term in evidence.transmissions:
        chain = chain_of(evidence, term)
        for band in evidence.bands:
            change = mean_change(evidence, term, band, PLACES["center"])
            error = evidence.combined(change.combinations, np.eye(len(change.names)))[1]
            for k, name in enumerate(change.names):
                own = np.ravel(np.asarray(chain.parameters[name]))
                before = float(own[chain.bands.index(band)] if len(own) > 1 else own[0])
                row = (name, f"{before:.4g}", with_error(change.value[k], error[k]), change.units[k])
                alike.setdefault(row, []).append(label_of(band))
    rows = [(row[0], ", ".join(bands), *row[1:]) for row, bands in sorted(alike.items(), key=lambda one: one[0][0])]
    caption = "Parameters of the chain: reference, and mean change over the frames of a band, in the detector's center."
    return Table(caption, ("parameter", "bands", "reference", "change", "unit"), rows)


# --- over the detector ------------------------------------------------------------------------------------------------


def field_figures(evidence: JointEvidence) -> list[Figure]:
    """Parameters over the detector, those that vary there. Raises Missing."""
    maps = []
    for term in evidence.transmissions:
        for name, parts in parameter_blocks(evidence, term).items():
            if len(parts) > 1:
                maps += [(term, name, parts[0][1].parts[0].unit, band) for band in evidence.bands]
    if not maps:
        raise Missing("no parameter of a transmission varies over the detector")
    caption = (
        "Parameters of the transmission over the detector: mean change over the frames of a band. Contours: its error."
    )
    return [
        Figure(f"Transmission over the detector{f' {k + 1}' * (len(maps) > 6)}", caption,
               functools.partial(_draw_fields, evidence, part))
        for k, part in enumerate(chunks(maps, 6))
    ]  # fmt: skip


def _draw_fields(
    evidence: JointEvidence, maps: tuple[tuple[str, str, str, str], ...], figure: matplotlib.figure.Figure
) -> None:
    height = detector_height(box_of_band(evidence, maps[0][3]))
    for (term, name, unit, band), axes in zip(maps, panels(figure, len(maps), 2, height), strict=True):
        box = box_of_band(evidence, band)
        value, error = field_of(evidence, term, name, band)
        shown = axes.imshow(
            value, origin="lower", extent=tuple(box), cmap="viridis",
            aspect="equal" if 0.5 < np.ptp(box[:2]) / np.ptp(box[2:]) < 2 else "auto",
        )  # fmt: skip
        if np.isfinite(error).all() and np.ptp(error) > 1e-3 * error.max():
            lines = axes.contour(error, 4, origin="lower", extent=tuple(box), colors="w", linewidths=0.8)
            axes.clabel(lines, fontsize=7, fmt=lambda value: rounded_text(value, 3))
        color_bar(axes, shown, f"change of {name}{in_unit(unit)}", extend="neither")
        dress(axes, "x [pixel]", "y [pixel]", plain(band), legend=False)


def field_of(evidence: JointEvidence, term: str, name: str, band: str) -> tuple[np.ndarray, np.ndarray]:
    """The change of a parameter and its error on CELLS x CELLS cells of the detector, rows along y."""
    found = evidence.solution
    frames = np.flatnonzero(found.frames.band == band)
    rows, basis = [], []
    at = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    u, v = (a.ravel() for a in np.meshgrid(at, at))
    for part, block in parameter_blocks(evidence, term)[name]:
        columns = found.places(block.name)
        weight = evidence.places_of(block, frames) * np.isfinite(found.value[columns])
        row = np.zeros(len(found.value))
        row[columns] = weight / max(weight.sum(), 1)
        rows.append(row)
        basis.append(part_at(evidence, (term, name, part), band, u, v))
    matrix, shapes = np.array(rows), np.array(basis)
    value, error = evidence.combined(matrix, shapes)
    return value.reshape(CELLS, CELLS), error.reshape(CELLS, CELLS)
