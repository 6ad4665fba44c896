"""What a report shows of a joint solution over the detector and on the sky: flats; and of XP's own errors."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.constants import POGSON
from xpjax.core.errors import XpjaxError
from xpjax.core.sky import cell_corners
from xpjax.survey.report.drawing import (
    MMAG,
    both_ways,
    chunks,
    color_bar,
    draw_curves,
    draw_detector,
    dress,
    dress_map,
    label_of,
    map_height,
    on_map,
    panels,
    plain,
    rounded_text,
    sky_middle,
    some_of,
)
from xpjax.survey.report.joint_evidence import JointEvidence, bands_of
from xpjax.survey.report.layout import WIDTH, Figure, Table
from xpjax.survey.report.statistics import Missing, median
from xpjax.xp import load_correction, load_instrument

if TYPE_CHECKING:
    import matplotlib.figure

MOST_MAPS = 12
CELLS = 40


def polynomial(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The Chebyshev polynomial (n,) of a name such as "x2 y" at places scaled to -1..1; one for no name."""
    out = np.ones_like(u)
    for axis, order in re.findall(r"([xy])(\d*)", name):
        out = out * np.cos(int(order or 1) * np.arccos(np.clip(u if axis == "x" else v, -1, 1)))
    return out


@dataclasses.dataclass(frozen=True)
class DetectorMap:
    """Values [mag] on the cells of a detector, rows along y, errors of the cells or NaN, and x, y from..to [pixel]."""

    name: str
    value: np.ndarray
    error: np.ndarray
    box: np.ndarray


def flat_maps(evidence: JointEvidence) -> list[DetectorMap]:
    """The flats of all terms and groups of frames. Raises Missing."""
    found, maps = evidence.solution, list[DetectorMap]()
    for block in (b for b in found.blocks if evidence.kind(b) == "flat"):
        per = np.arange(len(block.labels)) if block.group is None else np.asarray(block.group)
        for group in np.unique(per):
            mine = np.flatnonzero(per == group)
            label = str(block.labels[mine[0]]).rpartition(" ")[0] if block.group is not None else block.labels[mine[0]]
            box = _box_of(evidence, block, int(mine[0]))
            if block.group is not None:
                side = round(np.sqrt(len(mine)))
                value, error = (a[mine].reshape(side, side) for a in found.term(block.name))
            else:
                at = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
                u, v = (a.ravel() for a in np.meshgrid(at, at))
                columns = np.array([found.places(block.name, part.name)[mine[0]] for part in block.parts])
                known = np.isfinite(found.value[columns])
                shapes = np.array([polynomial(part.name, u, v) for part in block.parts])[known]
                value, error = (
                    np.where(known.any(), a, np.nan).reshape(CELLS, CELLS)
                    for a in evidence.combined(columns[known], shapes)
                )
            if np.isfinite(value).any():
                maps.append(DetectorMap(f"{block.name} {label}", value, error, box))
    if not maps:
        raise Missing("the model has no flat")
    return maps


def _box_of(evidence: JointEvidence, block: Any, place: int) -> np.ndarray:
    """x and y from..to [pixel] of the first frame that has a place of a block."""
    frames = evidence.solution.frames
    mine = np.ones(len(frames), bool)
    for name, values in block.keys.items():
        mine &= getattr(frames, name) == values[place]
    box = evidence.solution.design.scaling.box
    return box[np.flatnonzero(mine)[0] if mine.any() else 0]


def detector_height(box: np.ndarray) -> float:
    """Height of a row of two maps of a detector."""
    return 0.8 + 2.8 * float(np.clip(np.ptp(box[2:]) / np.ptp(box[:2]), 0.5, 1.0))


def flat_figures(maps: list[DetectorMap]) -> tuple[list[Figure], dict[str, str]]:
    """The flats in pixels, and those that are not drawn, with the reason."""
    drawn = sorted(maps, key=lambda one: -np.isfinite(one.value).sum())[:MOST_MAPS]
    caption = (
        "Flats of the solution over the detector: what is added to magnitudes. Gray cells have no data. Errors of the "
        "cells are in the table."
    )
    names, shown = chunks(drawn, 6), {one.name for one in drawn}
    left_out = [one.name for one in maps if one.name not in shown]
    reason = f"{len(drawn)} are drawn, those with most cells; the table has all, parameters.ecsv their values"
    why = {some_of("Maps", left_out, len(maps)): reason} if left_out else {}
    figures = [
        Figure(f"Flats{f' {k + 1}' * (len(names) > 1)}", caption, functools.partial(_draw_flats, part))
        for k, part in enumerate(names)
    ]
    return figures, why


def _draw_flats(maps: tuple[DetectorMap, ...], figure: matplotlib.figure.Figure) -> None:
    for one, axes in zip(maps, panels(figure, len(maps), 2, detector_height(maps[0].box)), strict=True):
        limit = both_ways(MMAG * one.value, 99)
        draw_detector(axes, MMAG * one.value, one.box, limit, plain(one.name), "flat [mmag]")


def flat_table(maps: list[DetectorMap]) -> Table:
    """The flats in numbers."""
    rows = list[tuple[str | int, ...]]()
    for one in maps:
        numbers = (np.nanstd(one.value), np.nanmin(one.value), np.nanmax(one.value), median(one.error))
        told = (rounded_text(MMAG * float(value)) for value in numbers)
        rows.append((one.name, int(np.isfinite(one.value).sum()), *told))
    caption = f"Flats [mmag]: rms, extremes and median error of the cells; polynomials on {CELLS} x {CELLS} cells."
    return Table(caption, ("flat", "cells", "rms", "least", "most", "error of a cell"), rows)


def sky_figures(evidence: JointEvidence) -> list[Figure]:
    """Maps of what XP's magnitudes are wrong by on the sky. Raises Missing."""
    blocks = [block for block in evidence.solution.blocks if evidence.kind(block) == "sky"]
    if not blocks:
        raise Missing("the model has no sky term")
    nside = {term.name: int(getattr(term, "nside", 0)) for term in evidence.solution.terms}
    figures = []
    for block in (b for b in blocks if nside[b.name]):
        bands = np.unique(bands_of(block)).tolist()
        caption = (
            f"What XP's magnitudes are wrong by on the sky ({block.name}: XP less true magnitude), in cells of "
            f"{58.6 * 60 / nside[block.name]:.0f} arcmin, East to the left. {len(block.labels):,} cells."
        )
        figures += [
            Figure(f"Sky map of {block.name}, {', '.join(map(label_of, part))}", caption,
                   functools.partial(_draw_sky, evidence, block, nside[block.name], part))
            for part in chunks(bands, 6)
        ]  # fmt: skip
    return figures


def _draw_sky(
    evidence: JointEvidence, block: Any, nside: int, bands: tuple[str, ...], figure: matplotlib.figure.Figure
) -> None:
    from matplotlib.collections import PolyCollection

    value = MMAG * evidence.solution.term(block.name)[0]
    pixel = np.array([int(str(label).split()[-1]) for label in block.labels])
    ra, dec = cell_corners(pixel, nside)
    middle = sky_middle(ra, dec)
    x, y = on_map(ra, dec, middle)
    for band, axes in zip(bands, panels(figure, len(bands), 2, map_height(x.ravel(), y.ravel())), strict=True):
        mine = (bands_of(block) == band) & np.isfinite(value) & (np.ptp(x, axis=1) < 180)
        limit = both_ways(value[mine])
        shown = PolyCollection([*np.stack([x[mine], y[mine]], axis=2)], array=value[mine], cmap="RdBu_r")
        shown.set_clim(-limit, limit)
        axes.add_collection(shown)
        axes.autoscale_view()
        color_bar(axes, shown, "XP less true [mmag]")
        dress_map(axes, middle, plain(band))


def instrument_figures(evidence: JointEvidence) -> list[Figure]:
    """What XP spectra are wrong by against wavelength, by the terms of the instrument. Raises Missing."""
    if not any(evidence.kind(block) == "instrument" for block in evidence.solution.blocks):
        raise Missing("the model has no instrument term")
    made = evidence.correction
    if made is None:
        raise Missing("the correction that the solution makes is not beside it (correction.h5)")
    said: Any = made.meta["survey"]
    try:
        known = load_correction(said["from"])
    except (OSError, XpjaxError) as why:
        raise Missing(f"the correction that the modes are of is not found: {said['from']}") from why
    assert known is not None
    of = load_instrument(release=known.release).corrected(known).design(made.wavelength)
    design = np.asarray(of.value, float) * np.asarray(of.scale, float)
    relative = ((made.change - known.change) * design).sum(axis=0) / (design**2).sum(axis=0)
    error = np.sqrt((made.left[: len(said["modes"])] ** 2).sum(axis=0))
    left = [np.sqrt((one.left_at(made.wavelength) ** 2).sum(axis=0)) for one in (known, made)]
    caption = (
        f"What XP spectra with the correction {known.name} are wrong by, alike in all stars: XP less true magnitude by "
        f"the {len(said['modes'])} modes of the solution, with their errors (dark band). Lines: standard errors of the "
        "spectra by the correction alone (dotted), and with the solution (dashed). A constant stays with the "
        "zero-points, within these errors."
    )
    draw = functools.partial(_draw_instrument, made.wavelength, *(POGSON * a for a in (relative, error, *left)))
    return [Figure("XP's error against wavelength", caption, draw)]


def _draw_instrument(
    wavelength: np.ndarray, value: np.ndarray, error: np.ndarray, before: np.ndarray, after: np.ndarray,
    figure: matplotlib.figure.Figure,
) -> None:  # fmt: skip
    figure.set_size_inches(0.7 * WIDTH, 3.2)
    axes = figure.subplots()
    draw_curves(axes, wavelength, MMAG * value[None], MMAG * error, "modes of the solution")
    for values, style, label in ((before, ":", "error before"), (after, "--", "error after")):
        for sign in (1, -1):
            axes.plot(wavelength, MMAG * sign * values, color="0.4", lw=1, ls=style, label=label if sign > 0 else None)
    axes.axhline(0, color="0.5", lw=0.6, zorder=0)
    dress(axes, "wavelength [nm]", "XP less true [mmag]")
