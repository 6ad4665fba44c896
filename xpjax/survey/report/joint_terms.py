"""What a report shows of the terms of a joint solution: the model in words, values with errors, maps, correlations."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.survey.report.drawing import (
    MMAG,
    chunks,
    draw_curves,
    draw_errors,
    dress,
    ends_of,
    is_left,
    label_of,
    of_kinds,
    panels,
    plain,
    rows_of_panels,
    shared_legend,
    since,
)
from xpjax.survey.report.joint_evidence import JointEvidence, about_term, bands_of, kind_of_term, name_of
from xpjax.survey.report.joint_maps import polynomial
from xpjax.survey.report.layout import Figure, Table
from xpjax.survey.report.statistics import Missing, median, spread

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes

HELD = 1e-12
"""Errors below this are those of values that a constraint holds."""
FEW = 30
"""Values of a term that a table has; of more a figure has."""
MOST_PARTS = 12
MAPPED = ("flat", "sky")
"""Kinds of terms that are drawn as maps."""
NAMED = 24
"""Places with their names on an axis; of more, their numbers are."""


def with_error(value: float, error: float) -> str:
    """A value and its error, to two digits of the error; a dash where there is none. Constraints leave no error."""
    if not np.isfinite(value):
        return "-"
    if not (np.isfinite(error) and error > HELD):
        return short(value)
    digits = int(np.clip(1 - np.floor(np.log10(error)), 0, 9))
    return f"{value:.{digits}f} \u00b1 {error:.{digits}f}"


def short(value: float, digits: int = 4) -> str:
    """A number of few digits, zero where a constraint holds it there; a dash where there is none."""
    return f"{round(float(value), 12) + 0.0:.{digits}g}" if np.isfinite(value) else "-"


def in_unit(unit: str) -> str:
    """The unit in brackets, for headings and axes."""
    return f" [{unit}]" if unit else ""


# --- tables -----------------------------------------------------------------------------------------------------------


def settings_of(evidence: JointEvidence, term: Any) -> str:
    """What is said of a term beside its defaults."""
    known = evidence.transmissions.get(term.name, term)
    said = known.entry() if getattr(known, "kind", "") else {"": term.describe().removeprefix(kind_of_term(term))}
    rest = {
        name: value for name, value in said.items() if name not in ("kind", "name", "parameters", "sources", "times")
    }
    shown = [f"{name.replace('_', ' ')} {_plainly(value)}".strip() for name, value in rest.items()]
    for name, one in said.get("parameters", {}).items():
        about = ", ".join(
            f"{key.replace('_', ' ')} {_plainly(value)}" for key, value in one.items() if value is not None
        )
        shown.append(f"{name}: {about}")
    return "; ".join(shown) or "defaults"


def _plainly(value: Any) -> str:
    """A value of a setting, without quotes and brackets."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plainly(one)}" for key, one in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value).strip()


def model_table(evidence: JointEvidence) -> Table:
    """The terms in words, with their settings and numbers of columns."""
    found, rows = evidence.solution, list[tuple[str | int, ...]]()
    for term in found.terms:
        mine = [block for block in found.blocks if evidence.term_of(block) is term]
        columns = [np.arange(len(found.value))[found.columns(block.name)] for block in mine]
        values = found.value[np.concatenate(columns)] if columns else np.zeros(0)
        rows.append(
            (term.name, about_term(term), settings_of(evidence, term), len(values), int(np.isnan(values).sum()),
             "XP's magnitudes" if term.of_reference else "measurements")
        )  # fmt: skip
    caption = (
        "The terms. A star's magnitude is that of each measurement plus the sum of the terms of measurements; terms of "
        "XP's magnitudes say what the stars' prior magnitudes are wrong by."
    )
    return Table(caption, ("term", "what it fits", "settings", "columns", "without data", "of"), rows)


def term_table(evidence: JointEvidence) -> Table:
    """A row for each part of each term: median and scatter of its values, median error, prior."""
    found, rows = evidence.solution, list[tuple[str | int, ...]]()
    for block in found.blocks:
        for k, part in enumerate(block.parts):
            value, error = found.term(block.name, part.name)
            sigma = block.sigma[k :: len(block.parts)]
            number = int(np.isfinite(value).sum())
            shown = with_error(value[np.isfinite(value)][0], error[np.isfinite(value)][0]) if number == 1 else "-"
            rows.append(
                (name_of(block, part), part.said(block.name), part.in_unit, number,
                 shown if number < 2 else short(median(value)), short(spread(value)[0], 2) if number > 1 else "-",
                 short(median(error), 2) if number else "-",
                 short(median(sigma), 2) if np.isfinite(sigma).all() else "none")
            )  # fmt: skip
    caption = (
        "Values of the terms: median, 1.48 MAD and median error of all places (frames, nights, cells); the value and "
        "its error where there is one. Prior: standard deviation. All are in parameters.ecsv."
    )
    return Table(caption, ("term", "what the value is", "unit", "values", "median", "1.48 MAD", "error", "prior"), rows)


def value_tables(evidence: JointEvidence) -> list[Table]:
    """Values with errors of the terms that have few."""
    found, rows = evidence.solution, list[tuple[str | int, ...]]()
    for block in found.blocks:
        if block.n_column > FEW or evidence.kind(block) in MAPPED:
            continue
        for part in block.parts:
            value, error = found.term(block.name, part.name)
            rows += [
                (name_of(block, part), label, with_error(v, e), part.in_unit)
                for label, v, e in zip(block.labels, value, error, strict=True)
            ]
    caption = f"Values and errors of the terms that have at most {FEW}; larger ones are in figures and parameters.ecsv."
    return [Table(caption, ("term", "frames", "value", "unit"), rows)] if rows else []


# --- values against time ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Axis:
    """What the values of a block are drawn against: x (n_place,), the label of the axis, names of few places."""

    x: np.ndarray
    label: str
    names: tuple[str, ...] = ()


def axis_of(evidence: JointEvidence, block: Any) -> Axis:
    """Time where places differ in it, else names of places where they are few, else their numbers."""
    time, n = evidence.means(block, "time"), len(block.labels)
    kinds = {*zip(*(block.keys[name].tolist() for name in ("band", "detector") if name in block.keys), strict=True)}
    if block.group is None and np.isfinite(time).all() and n >= 3 * max(len(kinds), 1) and np.ptp(time) > 0:
        x, label = since(time)
        return Axis(x, label)
    if n <= NAMED:
        return Axis(np.arange(n), "", block.labels)
    return Axis(np.arange(n), "number of the value")


def draw_values(axes: Axes, at: Axis, value: np.ndarray, error: np.ndarray, kinds: np.ndarray) -> None:
    """Values with errors, in a color for each kind of place where these are few."""
    draw_errors(axes, at.x, value, error, of_kinds(kinds))
    if at.names:
        shown = [plain(name) for name in at.names]
        axes.set_xticks(range(len(shown)), shown, rotation=90 if sum(map(len, shown)) > 40 else 0)


def zero_point_figures(evidence: JointEvidence) -> list[Figure]:
    """Zero-points against time and airmass, a row for each band. Raises Missing."""
    blocks = [b for b in evidence.solution.blocks if evidence.kind(b) == "zero_point" and len(b.labels) > 2]
    if not blocks:
        raise Missing("no zero-point term has three values")
    figures = []
    for block in blocks:
        names = np.unique(bands_of(block)).tolist()
        for part in chunks(names, 4):
            title = f"Values of {block.name}" + f", {', '.join(map(label_of, part))}" * (len(part) < len(names))
            caption = (
                f"Zero-points ({block.name}) with their errors against time, or in their order where times are not "
                f"known, and airmass where it varies. {len(block.labels):,} values."
            )
            figures.append(Figure(title, caption, functools.partial(_draw_zero_points, evidence, block, part)))
    return figures


def _draw_zero_points(
    evidence: JointEvidence, block: Any, bands: tuple[str, ...], figure: matplotlib.figure.Figure
) -> None:
    value, error = evidence.solution.term(block.name)
    at, air, own = axis_of(evidence, block), evidence.means(block, "airmass"), bands_of(block)
    detector = np.asarray(block.keys.get("detector", np.full(len(value), ""))).astype(str)
    airy = len(np.unique(np.round(air[np.isfinite(air)], 3))) > 1
    grid = rows_of_panels(figure, len(bands), (2, 1) if airy else (1,), 2.3)
    for band, line in zip(bands, grid, strict=True):
        mine = own == band
        for axes, x in zip(line, (at, Axis(air, "airmass")), strict=False):
            draw_values(axes, Axis(x.x[mine], x.label), value[mine], error[mine], detector[mine])
        line[0].set_ylabel(f"{plain(band, ': ')}zero-point [mag]", fontsize=9)
    for axes, x in zip(grid[-1], (at, Axis(air, "airmass")), strict=False):
        axes.set_xlabel(x.label or "number of the value")
    shared_legend(figure, grid[0, 0])


def value_figures(evidence: JointEvidence) -> list[Figure]:
    """Values with errors of all terms that are drawn nowhere else and have many, by place."""
    blocks = [
        b for b in evidence.solution.blocks if b.n_column > FEW and evidence.kind(b) not in ("zero_point", *MAPPED)
    ]
    figures = []
    for block in blocks:
        for part in chunks([one.name for one in block.parts], MOST_PARTS):
            title = f"Values of {block.name}" + f", {part[0]} to {part[-1]}" * (len(part) < len(block.parts))
            caption = f"Values of the term {block.name} with their errors. {len(block.labels):,} values of each part."
            figures.append(Figure(title, caption, functools.partial(_draw_parts, evidence, block, part)))
    return figures


def _draw_parts(evidence: JointEvidence, block: Any, parts: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
    at, units = axis_of(evidence, block), {one.name: one.in_unit for one in block.parts}
    every = panels(figure, len(parts), 2, 2.6 if at.label else 3.2)
    for name, axes in zip(parts, every, strict=True):
        draw_values(axes, at, *evidence.solution.term(block.name, name), bands_of(block))
        axes.axhline(0, color="0.5", lw=0.6, zorder=0)
        dress(axes, at.label, f"{name}{in_unit(units[name])}", legend=False)
    shared_legend(figure, every[0])


# --- color terms ------------------------------------------------------------------------------------------------------


def color_figures(evidence: JointEvidence) -> list[Figure]:
    """Color terms over the colors of the stars, a panel for each band. Raises Missing."""
    blocks = [block for block in evidence.solution.blocks if evidence.kind(block) == "color"]
    if not blocks:
        raise Missing("the model has no color term")
    known = np.isfinite(evidence.rows["color"]).any()
    over = "" if known else " Colors of the stars are not known here: the terms are drawn 1 mag either way."
    figures = []
    for block in blocks:
        bands = np.unique(bands_of(block)).tolist()
        caption = (
            f"Color terms ({block.name}) in the middle of the detector: median of {len(block.labels):,} values (line), "
            "error of one (dark band), and the range of 68 % of them (light band). Zero at the dotted line."
        )
        figures.append(
            Figure(f"Color terms of {block.name}", caption + over,
                   functools.partial(_draw_colors, evidence, block, bands))
        )  # fmt: skip
    return figures


def _draw_colors(evidence: JointEvidence, block: Any, bands: list[str], figure: matplotlib.figure.Figure) -> None:
    zero, color = evidence.solution.design.scaling.color_zero, evidence.rows["color"]
    for band, axes in zip(bands, panels(figure, len(bands)), strict=True):
        mine = (evidence.of_band(band) if band else np.ones(len(color), bool)) & np.isfinite(color)
        low, high = ends_of(color[mine]) if mine.any() else (zero - 1.0, zero + 1.0)
        at = np.linspace(low, high, 60)
        value, error = _color_curves(evidence, block, np.flatnonzero(bands_of(block) == band), at - zero)
        draw_curves(axes, at, MMAG * value, MMAG * error)
        axes.axvline(zero, color="0.5", lw=0.8, ls=":")
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, -0.1), max(high, 0.1))
        dress(axes, f"{evidence.color_name(band)} [mag]", "color term [mmag]" if is_left(axes) else "", plain(band))


def _color_curves(
    evidence: JointEvidence, block: Any, places: np.ndarray, off: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Color terms (n_place, n) [mag] at colors off (n,) their zero, and the median of their errors (n,)."""
    shapes = {}
    for part in block.parts:
        order = int(part.name.split()[0].removeprefix("color_"))
        shapes[part.name] = at_middle(part.name) * off**order
    return curves_of(evidence, block, places, shapes)


def curves_of(
    evidence: JointEvidence, block: Any, places: np.ndarray, shapes: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What a term adds (n_place, n) [mag] in places of a block, and the median of its errors (n,).

    shapes: derivatives (n,) with respect to parts, by name. Raises Missing where no place has values.
    """
    found = evidence.solution
    basis = np.array([*shapes.values()])
    columns = np.array([found.places(block.name, name)[places] for name in shapes]).T
    columns = columns[np.isfinite(found.value[columns]).all(axis=1)]
    if not len(columns):
        raise Missing(f"{block.name} has no values")
    value = np.round(found.value[columns], 12) @ basis
    some = columns[:: -(-len(columns) // 20)]  # twenty say what one is uncertain by
    errors = [evidence.combined(one, basis)[1] for one in some]
    return value, np.median(errors, axis=0)


def at_middle(part: str) -> float:
    """The value of the polynomial that the name of a part ends with, as in "color_1 x2 y", in the middle."""
    return float(polynomial(part.partition(" ")[2], np.zeros(1), np.zeros(1))[0])
