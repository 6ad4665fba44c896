"""The page of a calibration: every figure is made or says why not; it is written whole or not at all."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xpjax.survey.reading import calibrate_survey
from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.gather import gather_evidence
from xpjax.survey.report.layout import write_page
from xpjax.survey.report.page import band_table, residual_table, sections_of, summary_of


@pytest.mark.slow
def test_every_figure_is_made_or_says_why_not(tested: Evidence, tmp_path: Path) -> None:
    sections, missing = sections_of(tested, ["cut flags: 3 removed"])
    assert set(missing) == {"XPSP - SCR", "Light curves", "Validation exposures", "Sky map of residuals"}
    assert "stars=" in missing["XPSP - SCR"]
    made = write_page(tmp_path, "a <b>", summary_of(tested), sections, missing)
    assert made.missing == missing
    page = made.path.read_text()
    assert page.count("<img ") == sum(len(section.figures) for section in sections) >= 12
    assert "Comparison with truth" in page
    assert "cut flags: 3 removed" in page
    for section in sections:
        for table in section.tables:
            assert {len(row) for row in table.rows} <= {len(table.columns)}


@pytest.mark.slow
def test_the_page_of_a_real_field(shared: Callable[[str], Path]) -> None:
    columns = {
        "star": "source_id", "ra": "RAJ2000", "dec": "DEJ2000", "x": "X", "y": "Y", "magnitude": "SPLUS_{band}",
        "magnitude_error": "SPLUS_{band}_err", "model": "SPLUS_{band}_mod", "bands": ["R"],
        "color": ["SPLUS_G_mod", "SPLUS_I_mod"],
    }  # fmt: skip
    config = {"columns": columns, "model": {"numerical_flat": True}}
    evidence = gather_evidence(calibrate_survey(shared("splus/stripe82_0001_400.fits"), config, folds=3))
    sections, missing = sections_of(evidence)
    figures = {figure.name: figure for section in sections for figure in section.figures}
    assert set(figures) == {"Color terms", "Flats", "Residuals", "Pulls", "Error budget", "Sky map of residuals"}
    assert figures["Residuals"].make().axes[1].get_xlabel() == "SPLUS_G_mod - SPLUS_I_mod [mag]"
    assert figures["Sky map of residuals"].make().axes[0].get_xlabel() == "(RA - 359.94\u00b0) cos Dec [deg]"
    assert {"Residuals against airmass", "Residuals against time"} <= set(missing)
    assert 9 < float(residual_table(evidence).rows[0][5]) < 13


def test_fitted_and_held_out_stand_beside_each_other(evidence: Evidence, tested: Evidence) -> None:
    row = dict(zip(range(8), residual_table(tested).rows[0], strict=True))
    assert 0 < float(row[2]) < float(row[5])
    assert "held out, and in the fit: g " in summary_of(tested)[0]
    assert residual_table(evidence).rows[0][5:] == ["-", "-", "-"]
    assert "folds" in residual_table(evidence).caption
    assert "took part in the fit, and flatter it" in summary_of(evidence)[0]
    assert "folds" in sections_of(evidence)[1]["Held-out residuals"]


def test_what_was_not_given_is_not_stated(evidence: Evidence) -> None:
    table = band_table(evidence)  # no errors of models
    assert {row[-1] for row in table.rows} == {"not stated"}
    assert "came without errors of models" in table.caption
    settings = dataclasses.replace(evidence.solution.settings, systematic_error=0.004)
    given = dataclasses.replace(evidence, solution=dataclasses.replace(evidence.solution, settings=settings))
    assert float(band_table(given).rows[0][-1]) == pytest.approx(4, rel=0.2)
    n = len(evidence.solution.frames)
    blind = dataclasses.replace(evidence.solution.frames, night=np.full(n, ""), airmass=np.full(n, np.nan))
    told = band_table(dataclasses.replace(evidence, solution=dataclasses.replace(evidence.solution, frames=blind)))
    assert "the median of all frames (nights are not known); airmasses are not known" in told.caption


@pytest.mark.slow
def test_rows_without_anything_are_no_crash(evidence: Evidence, tmp_path: Path) -> None:
    rows = {k: (v * np.nan if v.dtype.kind == "f" else v) for k, v in evidence.rows.items()}
    sections, missing = sections_of(Evidence(evidence.solution, rows))
    drawn = {section.title for section in sections if section.figures}
    assert drawn <= {"Zero-points", "Flats"}
    assert {"Residuals", "Pulls", "Error budget", "Color terms", "Comparison of zero-points"} <= set(missing)
    none = Evidence(evidence.solution, {k: v[:0] for k, v in rows.items()})
    assert write_page(tmp_path, "none", summary_of(none), *sections_of(none)).path.is_file()
