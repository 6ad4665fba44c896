"""The report of a calibration: what its page says and shows, in its order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, Unpack

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import json_entry
from xpjax.survey import FrameFlag, Observations, RowFlag
from xpjax.survey.exposures import Calibrated, Calibration
from xpjax.survey.joint import JointSolution
from xpjax.survey.reading import SurveyCalibration
from xpjax.survey.report.compared import (
    difference_figures,
    difference_table,
    differences_from,
    nothing_to_compare,
    validation_figures,
)
from xpjax.survey.report.drawing import MMAG, MOST_BANDS, label_of, rounded_text
from xpjax.survey.report.evidence import Evidence, band_numbers
from xpjax.survey.report.flats import all_flats, flat_figures, flat_table, flats_text
from xpjax.survey.report.gather import EvidenceOptions, gather_evidence
from xpjax.survey.report.joint_evidence import JointEvidence
from xpjax.survey.report.joint_page import joint_of, joint_sections, joint_summary
from xpjax.survey.report.layout import PAGE, Figure, Page, Section, Table, check_page, made_by, write_page
from xpjax.survey.report.residuals import (
    budget_figures,
    budget_table,
    how_to_hold_out,
    pull_figures,
    residual_figures,
    sky_figures,
)
from xpjax.survey.report.scr_page import scr_of, scr_sections, scr_summary
from xpjax.survey.report.stars import light_curve_figures, repeatability_figures, xpsp_figures
from xpjax.survey.report.statistics import noted
from xpjax.survey.report.terms import color_figures, term_tables
from xpjax.survey.report.zero_points import (
    night_figures,
    nights_text,
    zero_point_figures,
    zero_point_tables,
)
from xpjax.survey.scr import ScrSolution


def sections_of(evidence: Evidence, account: Sequence[str] = ()) -> tuple[list[Section], dict[str, str]]:
    """The sections of the page in their order; and what could not be made, with what it would need."""
    missing: dict[str, str] = {}

    def made(title: str, make: Callable[[Evidence], list[Figure]]) -> list[Figure]:
        with noted(missing, title):
            return make(evidence)
        return []

    zero_points = made("Zero-points against time and airmass", zero_point_figures)
    zero_points += made("Zero-points about nights", night_figures)
    sections = [
        Section("Zero-points", (), zero_points, [band_table(evidence), *zero_point_tables(evidence)]),
        Section("Terms of the model", (), made("Color terms", color_figures), term_tables(evidence)),
        _flats(evidence, missing),
        _residuals(evidence, missing),
        Section("Error budget", (), made("Error budget", budget_figures), [budget_table(evidence)]),
        Section("The sky", (), made("Sky map of residuals", sky_figures)),
        Section("Repeatability", (), made("Repeatability", repeatability_figures)),
        _light_curves(evidence, missing),
        *_comparisons(evidence, missing),
        Section("XPSP - SCR", (), made("XPSP - SCR", xpsp_figures)),
        Section("Validation exposures", (), made("Validation exposures", validation_figures)),
        _rows(evidence, account),
    ]
    if len(evidence.bands) > MOST_BANDS:
        missing[f"Figures of {', '.join(evidence.bands[MOST_BANDS:])}"] = f"{MOST_BANDS} bands are drawn"
    return sections, missing


def _flats(evidence: Evidence, missing: dict[str, str]) -> Section:
    with noted(missing, "Flats"):
        flats, without = all_flats(evidence)
        missing.update(without)
        return Section("Flats", flats_text(evidence), flat_figures(evidence, flats), [flat_table(flats)])
    return Section("Flats")


def _residuals(evidence: Evidence, missing: dict[str, str]) -> Section:
    """Residuals against everything, and in units of their errors."""
    figures = list[Figure]()
    with noted(missing, "Residuals"):
        figures, without = residual_figures(evidence)
        missing.update(without)
    with noted(missing, "Pulls"):
        figures += pull_figures(evidence)
    if evidence.cross_validation is None:
        missing["Held-out residuals"] = how_to_hold_out()
    return Section("Residuals", (), figures, [residual_table(evidence)])


def _light_curves(evidence: Evidence, missing: dict[str, str]) -> Section:
    with noted(missing, "Light curves"):
        figures, periods = light_curve_figures(evidence)
        return Section("Light curves", (), figures, [periods])
    return Section("Light curves")


def _comparisons(evidence: Evidence, missing: dict[str, str]) -> list[Section]:
    """A section for each set of other zero-points."""
    sections = []
    if not evidence.differences:
        missing["Comparison of zero-points"] = nothing_to_compare()
    for name in evidence.differences:
        title = f"Comparison with {name}"
        with noted(missing, title):
            figures, without = difference_figures(evidence, differences_from(evidence, name))
            missing.update(without)
            sections.append(Section(title, (), figures, [difference_table(evidence, name)]))
    return sections


def _rows(evidence: Evidence, account: Sequence[str]) -> Section:
    """What happened to rows, and flags."""
    kinds: list[tuple[str, Mapping[Any, int]]] = [
        ("frames", FrameFlag.counts(evidence.solution.fits.status)),
        ("measurements", RowFlag.counts(evidence.rows["status"])),
    ]
    tables = [
        Table(f"Flags of {what}.", ("flag", what, "meaning"), [(str(b.name), n, b.meaning) for b, n in counts.items()])
        for what, counts in kinds if counts
    ]  # fmt: skip
    return Section("Selections and flags", items=account, tables=tables)


# --- numbers of the bands ---------------------------------------------------------------------------------------------


def _cells(evidence: Evidence, names: Sequence[str], digits: int = 2) -> list[list[str | int]]:
    """The band and these numbers of each band, magnitudes in mmag."""
    numbers = band_numbers(evidence)
    rows: list[list[str | int]] = [[label_of(band)] for band in numbers.columns["band"]]
    for name in names:
        scale = MMAG if numbers.units.get(name) else 1
        for row, value in zip(rows, numbers.columns[name].tolist(), strict=True):
            row.append(int(value) if name.startswith("n_") else rounded_text(scale * value, digits))
    return rows


def band_table(evidence: Evidence) -> Table:
    """The zero-points of each band in numbers."""
    names = (
        "n_frame", "n_refused", "n_standard", "n_outlier", "zero_point_scatter", "zero_point_error",
        "zero_point_systematic",
    )  # fmt: skip
    rows = _cells(evidence, names)
    caption = (
        "The bands: numbers of frames and of measurements of standards; zero-points in mmag. About nights: 1.48 MAD "
        f"about {nights_text(evidence)}. The systematic error is common to all frames."
    )
    if any(row[-1] == "-" for row in rows):
        caption += (
            " Where it is not stated, the standards came without errors of models (columns.model_error, or "
            "systematic_error for all of them), and pulls do not include them."
        )
        rows = [[*row[:-1], "not stated" if row[-1] == "-" else row[-1]] for row in rows]
    header = ("band", "frames", "no zero-point", "standards", "outliers", "about nights", "error", "systematic error")
    return Table(caption, header, rows)


def residual_table(evidence: Evidence) -> Table:
    """Residuals of each band in numbers, fitted beside held out."""
    kinds = ("residual", "cross_validation")
    names = ("error_floor", *(f"{kind}_{number}" for kind in kinds for number in ("scatter", "rms", "pull")))
    header = ("band", "error floor", "fitted: 1.48 MAD", "std", "pull", "held out: 1.48 MAD", "std", "pull")
    caption = (
        "Residuals of the standards [mmag], outliers included. Fitted: of the stars that made the fit. Held out: "
        "cross-validation, of fits without the star. The error floor is the scatter beyond the errors; a pull is "
        "1.48 MAD of residual / error."
    )
    if evidence.cross_validation is None:
        caption += f" Held-out residuals: {how_to_hold_out()}."
    return Table(caption, header, _cells(evidence, names))


def summary_of(evidence: Evidence) -> list[str]:
    """What a reader has to know first."""
    record: Mapping[str, Any] = evidence.solution.record
    frames, fits, bands = evidence.solution.frames, evidence.solution.fits, evidence.bands
    numbers = band_numbers(evidence).columns
    nights = len(np.unique(frames.night[frames.night != ""]))
    told = (
        f"{len(evidence.rows['star']):,} measurements on {len(frames):,} frames (exposures by band and detector) in "
        f"{len(bands)} band{'s' * (len(bands) != 1)}{f' and {nights} nights' if nights > 1 else ''}. "
        f"{np.isfinite(fits.zero_point).sum():,} frames have a zero-point."
    )
    if evidence.cross_validation is not None:
        held = ", ".join(
            f"{f'{band} ' * bool(band)}{rounded_text(MMAG * a, 1)} ({rounded_text(MMAG * b, 1)})"
            for band, a, b in zip(bands, numbers["cross_validation_scatter"], numbers["residual_scatter"], strict=True)
        )
        told += f" Scatter of the standards (1.48 MAD) held out, and in the fit: {held} mmag."
    else:
        told += (
            f" All residuals on this page are of stars that took part in the fit, and flatter it: {how_to_hold_out()}."
        )
    return [told, *made_by(record)]


# --- the file ---------------------------------------------------------------------------------------------------------


AnySolution: TypeAlias = (
    str
    | Path
    | Evidence
    | SurveyCalibration
    | tuple[Calibration, Calibrated]
    | JointEvidence
    | JointSolution
    | tuple[JointSolution, Observations]
    | ScrSolution
)
"""What a report is of: a directory, evidence, or a solution in memory."""


def write_report(
    solution: AnySolution,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    **evidence: Unpack[EvidenceOptions],
) -> Page:
    """Write the report of a calibration, joint solution or color regression: a page, its figures beside it.

    Parameters
    ----------
    solution : Evidence, or as for `gather_evidence`; or of a joint solution
        Evidence that was gathered, the directory of a calibration, or a calibration in memory. Or the directory that
        `xpjax survey solve` wrote, or a pair of a JointSolution and the observations that it was solved for; or the
        directory that `xpjax survey scr` wrote, or a ScrSolution.
    output : str or Path, optional
        HTML file, by default report.html in the directory. The folder of its figures is called like the file, with
        `_figures` in place of the suffix. All are written whole or not at all.
    overwrite : bool
        Whether a file that exists is replaced.
    **evidence
        Arguments of `gather_evidence`, such as `catalogues`, `compare` and `camera`; of a joint solution `catalogues`
        alone, of a stellar color regression `tiles`, with `ra`, `dec` and `time`.

    Returns
    -------
    Page
        `path` of the page; `sections` in their order, each with `title`, `text`, `tables` and `figures`, whose `make()`
        gives a matplotlib figure; and `missing`, what could not be made, with what that would need.

    Raises
    ------
    XpjaxError, OSError
        If the output cannot be written, or the evidence not gathered.

    Examples
    --------
    >>> from xpjax.survey import SurveySetup, SimulatedSurvey, exposures, report
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> settings = exposures.CalibrationSettings(exposures.ExposureModel(position_order=1, color_order=0))
    >>> evidence = report.gather_evidence(exposures.calibrate(observations, settings))
    >>> page = report.write_report(evidence, "report.html")
    >>> page.sections[0].title, page.missing["Color terms"]
    ('Zero-points', 'the model has no color term (model.color_order)')
    """
    folder = Path(solution) if isinstance(solution, str | Path) else None
    if folder is not None and folder.is_file():  # joint.h5 itself
        folder = folder.parent
    if output is None and folder is None:
        raise XpjaxError("the report of a calibration in memory needs the name of a file: give output=")
    target = (folder or Path()) / PAGE if output is None else Path(output)
    check_page(target, overwrite=overwrite)
    name = target.stem if folder is None else folder.resolve().name
    other: Any = solution  # what is none of these is refused by `gather_evidence`
    joint, scr = joint_of(solution, evidence), scr_of(solution, evidence)
    if scr is not None:
        title, summary, (sections, missing) = "Stellar color regression", scr_summary(scr), scr_sections(scr)
    elif joint is not None:
        title, summary, (sections, missing) = "Joint solution", joint_summary(joint), joint_sections(joint)
    else:
        known = solution if isinstance(solution, Evidence) else gather_evidence(other, **evidence)
        account = json_entry(known.solution.record, "account", "[]")
        title, summary, (sections, missing) = "Survey calibration", summary_of(known), sections_of(known, account)
    return write_page(
        target.parent, f"{title}: {name}", summary, sections, missing, name=target.name, overwrite=overwrite
    )
