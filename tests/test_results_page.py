"""The page of results says what stored files hold, of each promise once, and does not hide what was not met."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks import harness
from benchmarks.page import page


def lines(text: str, start: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| {start}")]


def test_figures_are_those_of_the_stored_files() -> None:
    stored = {}
    for path in sorted(
        harness.RESULTS.glob("cpu*.json"), key=lambda path: json.loads(path.read_text()).get("date", "")
    ):
        if "quick" not in path.stem:
            rows = json.loads(path.read_text())["rows"]
            stored |= {row["case"]: (row, path.name) for row in rows if row["stage"] == "gaiaxpy"}
    row, name = stored["generate JPLUS, DataFrame"]
    (cells,) = lines(page(), "gaiaxpy: generate JPLUS, DataFrame")
    assert cells[3:5] == [f"{row['ratios']['gaiaxpy']:.4g}", f"{row['n']:,}"]
    assert any(line.startswith(f"{cells[6]}. {name}: ") for line in page().splitlines())


def test_what_is_not_met_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    case = "generate JPLUS, DataFrame"
    (before,) = lines(page(), f"gaiaxpy: {case}")
    rows = harness.stored_with_source("cpu")
    slow = [(dataclasses.replace(r, ratios={"gaiaxpy": 0.5}) if r.case == case else r, told) for r, told in rows]
    monkeypatch.setattr(harness, "stored_with_source", lambda platform: slow)
    (after,) = lines(page(), f"gaiaxpy: {case}")
    assert before[5] == "met"
    assert after[3] == "0.5"
    assert after[5] == "NOT MET"
