"""Every figure is made or says why not; one page, whole or not at all."""

import numpy as np
import pytest

from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.page import report_page, sections


@pytest.mark.slow
def test_every_figure_is_made_or_says_why_not(evidence: Evidence) -> None:
    made = {section.title: section for section in sections(evidence)}
    without = {name: section.missing for name, section in made.items() if section.figure is None}
    assert set(without) == {"XPSP - SCR", "Light curves", "Cross-validation", "Validation exposures"}
    assert "stars=" in without["XPSP - SCR"]
    assert "cross_validation=" in without["Cross-validation"]
    page = report_page("a <b>", evidence, list(made.values()), ["cut flags: 3 removed"]).decode()
    assert page.count("<img ") == len(made) - len(without)
    assert page.count("Not made: ") == len(without)
    assert "a &lt;b&gt;" in page
    assert "cut flags: 3 removed" in page
    assert "<script" not in page
    assert "http" not in page.split("</style>")[0]


def test_rows_without_anything_are_no_crash(evidence: Evidence) -> None:
    rows = {k: (v * np.nan if v.dtype.kind == "f" else v) for k, v in evidence.rows.items()}
    bare = Evidence(evidence.solution, rows)
    made = sections(bare)
    assert {s.title for s in made if s.figure is not None} <= {"Flats before and after", "Zero-points of the nights"}
    none = Evidence(evidence.solution, {k: v[:0] for k, v in rows.items()})
    assert report_page("none", none, sections(none))
