"""The report of a joint solution: what its page says and shows, in its order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import json_entry
from xpjax.survey.joint import JointSolution, find_joint
from xpjax.survey.report.drawing import MMAG, label_of, rounded_text
from xpjax.survey.report.joint_correlation import correlation_figures
from xpjax.survey.report.joint_curves import all_curves, curve_figures, curve_table, field_figures, parameter_table
from xpjax.survey.report.joint_evidence import JointEvidence, joint_evidence
from xpjax.survey.report.joint_maps import flat_figures, flat_maps, flat_table, instrument_figures, sky_figures
from xpjax.survey.report.joint_residuals import (
    flag_table,
    how_to_hold_out,
    outlier_table,
    pull_figures,
    quality_table,
    residual_figures,
    sky_residual_figures,
    star_figures,
)
from xpjax.survey.report.joint_shapes import shape_figures
from xpjax.survey.report.joint_terms import (
    color_figures,
    model_table,
    term_table,
    value_figures,
    value_tables,
    zero_point_figures,
)
from xpjax.survey.report.layout import Figure, Section, made_by
from xpjax.survey.report.statistics import noted, spread


def joint_of(solution: Any, options: Mapping[str, Any]) -> JointEvidence | None:
    """The evidence of a joint solution, None where a report is of something else.

    solution: a directory or file, evidence, or a pair of a solution and its observations; options: of `write_report`.
    Raises XpjaxError for options that have no effect.
    """
    found, *observations = solution if isinstance(solution, tuple) else (solution,)
    is_file = isinstance(found, str | Path) and find_joint(found) is not None
    if not (is_file or isinstance(found, JointSolution | JointEvidence)):
        return None
    without = [name for name, value in options.items() if value and name != "catalogues"]
    if without:
        name = without[0]
        raise XpjaxError(
            f"{say(f'{name}=', f'--{name}')} has no effect on the report of a joint solution: leave it out"
        )
    if isinstance(found, JointEvidence):
        return found
    return joint_evidence(found, observations[0] if observations else None, options.get("catalogues", ()))


def joint_sections(evidence: JointEvidence) -> tuple[list[Section], dict[str, str]]:
    """The sections of the page in their order; and what could not be made, with what it would need."""
    missing: dict[str, str] = {}

    def made(title: str, make: Callable[[JointEvidence], list[Figure]]) -> list[Figure]:
        with noted(missing, title):
            return make(evidence)
        return []

    sections = [
        _model(evidence),
        Section("Zero-points", figures=made("Zero-points against time and airmass", zero_point_figures)),
        Section("Values of the terms", figures=made("Values of other terms", value_figures),
                tables=[term_table(evidence), *value_tables(evidence)]),
        Section("Color terms", figures=made("Color terms", color_figures)),
        _shapes(evidence, missing),
        _flats(evidence, missing),
        _transmission(evidence, missing, made),
        Section("XP's own errors", figures=made("Sky map of XP's errors", sky_figures)
                + made("XP's error against wavelength", instrument_figures)),
        Section("Correlations", figures=made("Correlation of parameters", correlation_figures)),
        _residuals(evidence, missing, made),
        Section("Stars", figures=made("Scatter of stars", star_figures)),
        Section("Selections and flags", items=json_entry(evidence.solution.meta, "account", "[]"),
                tables=[flag_table(evidence), *_full(outlier_table(evidence))]),
    ]  # fmt: skip
    return sections, missing


def _full(table: Any) -> list[Any]:
    """The table in a list, unless it has no row."""
    return [table] if table.rows else []


def _model(evidence: JointEvidence) -> Section:
    """Terms in words, constraints, and what they decide."""
    found, text = evidence.solution, list[str]()
    said = [] if found.model is None else found.model.describe()[len(found.terms) :]
    if said:
        text.append(f"Constraints: {'; '.join(said)}.")
    prior = any(term.star_prior for term in found.terms) or (found.model is not None and found.model.star_prior)
    text.append(
        "Stars have prior magnitudes from XP spectra or models: these set the zero of the magnitudes."
        if prior
        else "Stars have no prior magnitudes: the zero of the magnitudes is a matter of the constraints."
    )
    if found.gauge:
        text.append("What constraints decide, and the data do not (gauges):")
    else:
        text.append("The data and the priors determine all columns: constraints decide nothing (no gauge).")
    return Section("Model", text, tables=[model_table(evidence)], items=list(found.gauge))


def _shapes(evidence: JointEvidence, missing: dict[str, str]) -> Section:
    figures, without = shape_figures(evidence)
    missing.update(without)
    return Section("Air, response, drift and seeing", figures=figures)


def _flats(evidence: JointEvidence, missing: dict[str, str]) -> Section:
    with noted(missing, "Flats"):
        maps = flat_maps(evidence)
        figures, without = flat_figures(maps)
        missing.update(without)
        return Section("Flats", figures=figures, tables=[flat_table(maps)])
    return Section("Flats")


def _transmission(evidence: JointEvidence, missing: dict[str, str], made: Callable[..., list[Figure]]) -> Section:
    with noted(missing, "Transmission before and after"):
        curves = all_curves(evidence)
        figures = [*curve_figures(curves), *made("Transmission over the detector", field_figures)]
        return Section("Transmission", figures=figures, tables=[parameter_table(evidence), curve_table(curves)])
    return Section("Transmission")


def _residuals(evidence: JointEvidence, missing: dict[str, str], made: Callable[..., list[Figure]]) -> Section:
    figures = list[Figure]()
    with noted(missing, "Residuals"):
        figures, without = residual_figures(evidence)
        missing.update(without)
    if evidence.solution.held_out is None:
        missing["Held-out residuals"] = how_to_hold_out()
    figures += made("Pulls", pull_figures) + made("Sky map of residuals", sky_residual_figures)
    return Section("Residuals", figures=figures, tables=[quality_table(evidence)])


def joint_summary(evidence: JointEvidence) -> list[str]:
    """What a reader has to know first."""
    found, held = evidence.solution, evidence.held_out
    nights = len(np.unique(found.frames.night[found.frames.night != ""]))
    bands = len(found.bands)
    text = (
        f"One least-squares solution of {int(found.frame_counts().sum()):,} measurements of {len(found.star):,} stars "
        f"on {len(found.frames):,} frames in {bands} band{'s' * (bands != 1)}"
        f"{f' and {nights} nights' if nights > 1 else ''}, for {len(found.value):,} values of "
        f"{len(found.terms)} term{'s' * (len(found.terms) != 1)} and the magnitudes of the stars. "
        f"chi2 is {found.chi2:,.0f} for "
        f"{found.degrees_of_freedom:,} degrees of freedom ({found.chi2 / max(found.degrees_of_freedom, 1):.3f})."
    )  # fmt: skip
    if found.rows.earlier is not None:
        text += (
            f" It extends an earlier solution of {int(found.rows.earlier[0].sum()):,} measurements: residuals on this "
            "page are of the others."
        )
    if not found.converged:
        text += " THE FIT HAS NOT CONVERGED: look at the terms that are nearly degenerate, and give priors."
    if np.isfinite(held).any():
        numbers = []
        for band in evidence.bands:
            mine = evidence.of_band(band)
            both = (spread(held[mine])[0], spread(found.residual[mine & found.used])[0])
            numbers.append(f"{band} {rounded_text(MMAG * both[0], 1)} ({rounded_text(MMAG * both[1], 1)})".strip())
        text += f" Scatter (1.48 MAD) of what was kept back, and in the fit: {', '.join(numbers)} mmag."
    else:
        text += (
            f" All residuals on this page are of measurements that were fitted, and flatter it: {how_to_hold_out()}."
        )
    floors: Any = found.meta.get("sky_floor", {})
    if floors:
        said = ", ".join(f"{label_of(band)} {MMAG * floor:.1f}" for band, floor in floors.items())
        text += f" Zero-points and stars have beside their errors a common one of XP's errors on the sky: {said} mmag."
    if found.field_floor:
        said = ", ".join(f"{label_of(name)} {MMAG * floor:.1f}" for name, floor in found.field_floor.items())
        text += (
            f" Stars at one place of the detector have residuals in common, which no term has: {said} mmag. Errors "
            "allow for it; a finer flat fits it."
        )
    return [text, *made_by(found.meta)]
