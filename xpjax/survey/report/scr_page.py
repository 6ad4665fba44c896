"""The report of a stellar color regression: relations, residuals, zero-points of tiles, two methods, repeatability."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.io.catalogue import read_catalogue
from xpjax.survey.report.drawing import (
    BLUE,
    GREEN,
    MMAG,
    RED,
    chunks,
    draw_density,
    draw_gaussian,
    draw_maps,
    draw_trend,
    dress,
    ends_of,
    in_parts,
    is_left,
    label_of,
    limits_about,
    panels,
    plain,
    rounded_text,
    rows_of_panels,
    shared_legend,
    since,
)
from xpjax.survey.report.joint_terms import with_error
from xpjax.survey.report.layout import Figure, Section, Table, made_by
from xpjax.survey.report.statistics import ENOUGH, Missing, median, noted, spread
from xpjax.survey.scr import ScrSolution, read_scr

if TYPE_CHECKING:
    import matplotlib.figure

FILES = ("coefficients.ecsv", "predicted.parquet")
LABELS = {"bp_rp": "BP - RP [mag]", "teff": "Teff [K]", "feh": "[Fe/H] [dex]", "reddening": "reddening [mag]"}
OF_TILES = ("ra", "dec", "time")
CONSTANT = "constant"
"""The term that holds the zero of the zero-points, some 24 mag."""


@dataclasses.dataclass(frozen=True)
class ScrEvidence:
    """A stellar color regression, and `ra`, `dec` [deg], `time` [d] (n,) of the rows of its zero-points, if known."""

    solution: ScrSolution
    tiles: Mapping[str, np.ndarray]

    @property
    def bands(self) -> list[str]:
        """Names of the bands that could be fitted."""
        return list(self.solution.regressions)

    def column(self, name: str) -> np.ndarray:
        """A column (n_star,) of the stars; NaN where a solution of an older version lacks it."""
        columns = self.solution.predicted.columns
        return np.asarray(columns.get(name, np.full(len(self.solution.predicted), np.nan)), float)

    def residual(self, band: str) -> np.ndarray:
        """Residuals (n_star,) [mag] of the stars that made the fit; NaN for all others."""
        return np.where(self.column(f"{band}_used") > 0, self.column(f"{band}_residual"), np.nan)


def scr_of(solution: Any, options: Mapping[str, Any]) -> ScrEvidence | None:
    """The evidence of a stellar color regression, None where a report is of something else.

    solution: a directory that `xpjax survey scr` wrote, or a ScrSolution; options: of `write_report`, of which `tiles`
    has an effect. Raises XpjaxError for others.
    """
    folder = Path(solution) if isinstance(solution, str | Path) else None
    is_folder = folder is not None and all((folder / name).is_file() for name in FILES)
    if not (is_folder or isinstance(solution, ScrSolution)):
        return None
    without = [name for name, value in options.items() if value and name != "tiles"]
    if without:
        what = say(f"{without[0]}=", f"--{without[0]}")
        raise XpjaxError(f"{what} has no effect on the report of a stellar color regression: leave it out")
    found = read_scr(folder) if folder is not None else solution
    return ScrEvidence(found, _tiles(options.get("tiles"), found))


def _tiles(path: str | Path | None, solution: ScrSolution) -> dict[str, np.ndarray]:
    """Columns of numbers of a table of tiles, for the rows of zero-points."""
    if path is None:
        return {}
    columns = read_catalogue(path).columns
    key = next((name for name in ("tile", "exposure") if name in columns), None)
    known = [name for name in OF_TILES if name in columns]
    if key is None or not known:
        raise XpjaxError(
            f"{Path(path).name} needs a column tile or exposure, and some of {', '.join(OF_TILES)}; it has "
            f"{', '.join(list(columns)[:20])}"
        )
    row = {name: k for k, name in enumerate(columns[key].astype(str).tolist())}
    at = np.array([row.get(name, -1) for name in solution.zero_points.tile.astype(str).tolist()])
    return {name: np.where(at >= 0, np.asarray(columns[name], float)[at], np.nan) for name in known}


# --- sections ---------------------------------------------------------------------------------------------------------


def scr_sections(evidence: ScrEvidence) -> tuple[list[Section], dict[str, str]]:
    """The sections of the page in their order; and what could not be made, with what it would need."""
    missing = dict(evidence.solution.failed)

    def made(title: str, make: Callable[[ScrEvidence], list[Figure]]) -> list[Figure]:
        with noted(missing, title):
            return make(evidence)
        return []

    sections = [
        Section("Color relations", tables=[relation_table(evidence), *coefficient_tables(evidence)],
                figures=made("Color relations", relation_figures)),
        Section("Residuals", figures=made("Residuals against labels", residual_figures)),
        Section("Zero-points of tiles", tables=[tile_table(evidence)],
                figures=made("Zero-points of tiles", zero_point_figures)
                + made("Sky map of zero-points", map_figures)),
        Section("Two methods on one scale", tables=_full(scale_table(evidence)),
                figures=made("Difference of the methods", method_figures)),
        Section("Repeatability between tiles", figures=made("Repeatability between tiles", repeat_figures)),
        Section("Selections", items=list(evidence.solution.notes)),
    ]  # fmt: skip
    return sections, missing


def _full(table: Table) -> list[Table]:
    """The table in a list, unless it has no row."""
    return [table] if table.rows else []


def scr_summary(evidence: ScrEvidence) -> list[str]:
    """What a reader has to know first."""
    found = evidence.solution
    tiles = len(np.unique(found.zero_points.tile))
    scatters = ", ".join(f"{label_of(b)} {rounded_text(MMAG * one.scatter, 1)}" for b, one in found.regressions.items())
    text = (
        f"Stellar color regression of {len(found.predicted):,} rows of stars on {tiles:,} tiles in "
        f"{len(evidence.bands)} band{'s' * (len(evidence.bands) != 1)}. Scatter of single stars about the "
        f"relations (1.48 MAD): {scatters} mmag. All "
        "residuals on this page are of stars that made the fit."
    )
    if found.zero_points.n_missing:
        text += f" {found.zero_points.n_missing:,} zero-points are missing."
    return [text, *made_by(found.predicted.meta)]


# --- relations --------------------------------------------------------------------------------------------------------


def relation_table(evidence: ScrEvidence) -> Table:
    """The relation of each band in numbers."""
    rows = []
    for band, one in evidence.solution.regressions.items():
        middle = one.label_range.mean(axis=0)
        unit = np.eye(len(one.names))
        slope = np.array([dataclasses.replace(one, value=e).reddening_coefficient(middle[None])[0] for e in unit])
        error = float(np.sqrt(max(slope @ one.covariance @ slope, 0)))
        residual = evidence.residual(band)
        span = (f"{low:.0f}..{high:.0f}" if j == 0 else f"{low:.2f}..{high:.2f}"
                for j, (low, high) in enumerate(one.label_range.T))  # fmt: skip
        rows.append(
            (label_of(band), f"G_{one.gaia} - {label_of(band)}", one.n_used, len(one.names),
             with_error(float(one.reddening_coefficient(middle[None])[0]), error),
             *(rounded_text(MMAG * v, 1) for v in (one.scatter, spread(residual)[1], one.floor)),
             *span, "yes" if one.converged else "no")
        )  # fmt: skip
    header = (
        "band", "color", "stars", "terms", "R", "1.48 MAD", "std", "floor", "Teff [K]", "[Fe/H]", "reddening",
        "clipping converged",
    )  # fmt: skip
    caption = (
        "Color relations: stars of the fit; R, the reddening coefficient of the color in the middle of the labels; "
        "scatter of residuals and the part beyond errors (floor) [mmag]; labels that 99 % of the stars are within."
    )
    return Table(caption, header, rows)


def coefficient_tables(evidence: ScrEvidence) -> list[Table]:
    """Coefficients with errors, six bands beside each other."""
    tables, found = [], evidence.solution.regressions
    for part in chunks(evidence.bands, 6):
        names = dict.fromkeys(name for band in part for name in found[band].names)
        cells = {
            band: {
                name: with_error(*((value, error) if name == CONSTANT else (MMAG * value, MMAG * error)))
                for name, value, error in zip(found[band].names, found[band].value, found[band].error, strict=True)
            }
            for band in part
        }
        units = {CONSTANT: "mag"}
        rows = [(name, units.get(name, "mmag"), *(cells[band].get(name, "-") for band in part)) for name in names]
        one = found[part[0]]
        caption = (
            f"Coefficients of labels scaled to (label - zero) / scale: Teff {one.zero[0]:g}, {one.scale[0]:g} "
            f"K; [Fe/H] {one.zero[1]:g}, {one.scale[1]:g}; reddening {one.zero[2]:g}, {one.scale[2]:g} mag."
        )
        tables.append(Table(caption, ("term", "unit", *map(label_of, part)), rows))
    return tables


def relation_figures(evidence: ScrEvidence) -> list[Figure]:
    """Intrinsic colors of the stars of the fit against Teff, with the relation. Raises Missing."""
    labels = np.stack([evidence.column(name) for name in ("teff", "feh", "reddening")], axis=1)
    good = {band: np.isfinite(evidence.residual(band) + labels.sum(axis=1)) for band in evidence.bands}
    bands = [band for band in evidence.bands if good[band].sum() >= ENOUGH]
    if not bands:
        raise Missing("the solution has no labels of stars: make it anew with xpjax survey scr")
    caption = (
        "Intrinsic colors of the stars that made the fit, without reddening and zero-points of tiles, against Teff, "
        "and the relation at the median [Fe/H] and at the 10 % and 90 % of the stars (lines)."
    )

    def draw(part: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        for band, axes in zip(part, panels(figure, len(part), 2, 3.2), strict=True):
            one, mine = evidence.solution.regressions[band], labels[good[band]]
            value = one.intrinsic(mine) + evidence.residual(band)[good[band]]
            draw_density(axes, mine[:, 0], value, *limits_about(value, 6.0), "0.5")
            at = np.linspace(*ends_of(mine[:, 0]), 100)
            for share, paint in zip((10, 50, 90), (GREEN, RED, BLUE), strict=True):
                feh = float(np.percentile(mine[:, 1], share))
                curve = one.intrinsic(np.stack([at, np.full(100, feh), np.full(100, one.zero[2])], axis=1))
                axes.plot(at, curve, color=paint, lw=1.4, label=f"[Fe/H] = {feh:.2f}")
            dress(axes, "Teff [K]", f"{plain(f'G_{one.gaia} - {label_of(band)}')} [mag]", plain(band))

    return in_parts("Color relations", bands, 6, caption, draw)


def residual_figures(evidence: ScrEvidence) -> list[Figure]:
    """Residuals of each band against color and labels. Raises Missing."""
    known = {name: evidence.column(name) for name in LABELS}
    known = {name: values for name, values in known.items() if len(np.unique(values[np.isfinite(values)])) > 1}
    if not known:
        raise Missing("the solution has no labels of stars: make it anew with xpjax survey scr")
    bands = [band for band in evidence.bands if np.isfinite(evidence.residual(band)).sum() >= ENOUGH]
    caption = (
        "Residuals of the stars that made the fit (color - relation - zero-point of the tile) against color and "
        "labels: medians in bins of equal numbers with their errors, and 1.48 MAD as a band."
    )

    def draw(part: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        grid = rows_of_panels(figure, len(part), [1.0] * len(known), 2.2)
        for band, line in zip(part, grid, strict=True):
            value = MMAG * evidence.residual(band)
            for (name, x), axes in zip(known.items(), line, strict=True):
                draw_density(axes, x, value, *limits_about(value), "0.5")
                draw_trend(axes, x, value, BLUE)
                axes.axhline(0, color="0.5", lw=0.6, zorder=0)
                dress(axes, LABELS[name] if line is grid[-1] or band == part[-1] else "")
            line[0].set_ylabel(f"{plain(band, ': ')}residual [mmag]", fontsize=9)

    return in_parts("Residuals against labels", bands, 4, caption, draw)


# --- tiles ------------------------------------------------------------------------------------------------------------


def tile_table(evidence: ScrEvidence) -> Table:
    """Zero-points of the tiles of each band in numbers."""
    found, rows = evidence.solution.zero_points, list[tuple[str | int, ...]]()
    for band in evidence.bands:
        mine = found.band == band
        numbers = (spread(found.value[mine])[0], median(found.error[mine]), median(found.systematic[mine]))
        by_method = (int(((found.method == name) & mine).sum()) for name in found.names)
        rows.append(
            (label_of(band), *by_method, int((mine & ~np.isfinite(found.value)).sum()),
             rounded_text(median(found.value[mine]), 4), *(rounded_text(MMAG * number) for number in numbers))
        )  # fmt: skip
    header = (
        "band",
        *(f"by {name}" for name in found.names),
        "none",
        "median [mag]",
        "1.48 MAD",
        "error",
        "systematic",
    )
    caption = "Zero-points of tiles: numbers by method; median; scatter and median errors [mmag]. See zeropoints.ecsv."
    return Table(caption, header, rows)


def zero_point_figures(evidence: ScrEvidence) -> list[Figure]:
    """Zero-points of tiles against time, or in their order, and their histogram. Raises Missing."""
    found = evidence.solution.zero_points
    bands = [band for band in evidence.bands if np.isfinite(found.value[found.band == band]).sum() >= 3]
    if not bands:
        raise Missing("no band has three tiles with zero-points")
    time = evidence.tiles.get("time")
    timed = time is not None and np.isfinite(time).any()
    where = "time" if timed else f"the order of the tiles (for times: {say('tiles=', '--tiles')} with a column time)"
    caption = (
        f"Zero-points of tiles less their median, with their errors, against {where}, by method; right: histogram, "
        "with a Gaussian fitted to its core."
    )

    def draw(part: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        grid = rows_of_panels(figure, len(part), (2, 1), 2.2)
        for band, (left, right) in zip(part, grid, strict=True):
            mine = found.band == band
            value, error = MMAG * (found.value[mine] - median(found.value[mine])), MMAG * found.error[mine]
            x, label = (
                since(time[mine]) if timed and time is not None else (np.arange(mine.sum()), "number of the tile")
            )
            for name, paint in zip(found.names, (BLUE, RED), strict=True):
                own = (found.method[mine] == name) & np.isfinite(x)
                if own.any():
                    left.errorbar(x[own], value[own], error[own], fmt="o", ms=2.5, lw=0.6, color=paint, label=name)
            draw_gaussian(right, value, "")
            dress(left, label, "zero-point - median [mmag]", plain(band), legend=False)
            dress(right, "zero-point - median [mmag]")
        shared_legend(figure, grid[0, 0])

    return in_parts("Zero-points of tiles", bands, 4, caption, draw)


def map_figures(evidence: ScrEvidence) -> list[Figure]:
    """Zero-points of tiles on the sky. Raises Missing."""
    found = evidence.solution.zero_points
    if not {"ra", "dec"} <= set(evidence.tiles):
        raise Missing(f"tiles have no ra and dec ({say('tiles=', '--tiles')})")
    ra, dec = evidence.tiles["ra"], evidence.tiles["dec"]
    if not np.isfinite(ra + dec + found.value).any():
        raise Missing("no tile with a zero-point has a position")

    def draw(part: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        points = {}
        for band in part:
            mine = found.band == band
            points[band] = (ra[mine], dec[mine], MMAG * (found.value[mine] - median(found.value[mine])))
        draw_maps(points, "zero-point - median [mmag]", figure, most=len(ra))

    caption = "Zero-points of tiles less their median on the sky (sinusoidal projection), East to the left."
    return in_parts("Sky map of zero-points", evidence.bands, 6, caption, draw)


# --- two methods, and tiles that overlap ------------------------------------------------------------------------------


def scale_table(evidence: ScrEvidence) -> Table:
    """The difference of the methods in each band."""
    found = evidence.solution.zero_points
    one, two = found.names
    rows = [
        (label_of(band), scale.n_overlap, with_error(MMAG * scale.offset, MMAG * scale.offset_error),
         rounded_text(MMAG * scale.scatter))
        for band, scale in found.scales.items() if scale.n_overlap
    ]  # fmt: skip
    caption = (
        f"Zero-points by {one} less those by {two} [mmag] on tiles that have both: the offset that is taken off "
        f"those by {two}, and the scatter of tiles beyond their errors, which is added to theirs."
    )
    return Table(caption, ("band", "tiles with both", "offset", "scatter beyond errors"), rows)


def method_figures(evidence: ScrEvidence) -> list[Figure]:
    """Histograms of the difference of the methods, tile by tile. Raises Missing."""
    found = evidence.solution.zero_points
    difference = MMAG * (found.first.value - found.second.value)
    bands = [band for band in evidence.bands if np.isfinite(difference[found.band == band]).sum() >= ENOUGH]
    one, two = found.names
    if not bands:
        raise Missing(f"no band has {ENOUGH} tiles with zero-points by {one} and by {two} (columns.model)")

    def draw(part: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        for band, axes in zip(part, panels(figure, len(part)), strict=True):
            draw_gaussian(axes, difference[found.band == band], "")
            dress(axes, f"{one} - {two} [mmag]", "tiles" if is_left(axes) else "", plain(band))
            axes.set_ylim(0, 1.3 * axes.get_ylim()[1])

    caption = f"Zero-points by {one} less those by {two} of each tile, before they are brought to one scale."
    return in_parts("Difference of the methods", bands, 9, caption, draw)


def repeats(evidence: ScrEvidence, band: str) -> np.ndarray:
    """Differences (n,) [mag] of the calibrated magnitudes of one star on two tiles, neighbors in the table's order.

    A star has the same relation on both: what differs of its residuals is its calibrated magnitude.
    """
    columns = evidence.solution.predicted.columns
    star, tile = (np.unique(columns[name].astype(str), return_inverse=True)[1] for name in ("star", "tile"))
    residual = evidence.residual(band)
    order = np.lexsort((tile, star))
    order = order[np.isfinite(residual[order])]
    same = (star[order][1:] == star[order][:-1]) & (tile[order][1:] != tile[order][:-1])
    return residual[order][:-1][same] - residual[order][1:][same]


def repeat_figures(evidence: ScrEvidence) -> list[Figure]:
    """Histograms of the differences of stars on two tiles. Raises Missing."""
    found = {band: MMAG * repeats(evidence, band) for band in evidence.bands}
    bands = [band for band, values in found.items() if len(values) >= ENOUGH]
    if not bands:
        raise Missing(f"no band has {ENOUGH} stars on two tiles (columns.star)")

    def draw(part: tuple[str, ...], figure: matplotlib.figure.Figure) -> None:
        for band, axes in zip(part, panels(figure, len(part)), strict=True):
            draw_gaussian(axes, found[band], "")
            dress(axes, "difference [mmag]", "stars" if is_left(axes) else "", plain(band))
            axes.set_ylim(0, 1.3 * axes.get_ylim()[1])

    caption = (
        "Calibrated magnitudes of stars on two tiles that overlap, one less the other: sigma is that of two "
        "measurements and of the zero-points of both tiles."
    )
    return in_parts("Repeatability between tiles", bands, 9, caption, draw)
