"""Functions of surveys take tables of every kind, in memory and in files, and find the same in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.table import QTable, Table

import xpjax
from xpjax.core.records import Catalogue
from xpjax.survey import SurveyTable
from xpjax.survey.joint import JointSolution, apply_joint, check_joint, solve_survey
from xpjax.survey.reading import (
    SurveyCalibration,
    apply_survey,
    calibrate_survey,
    check_survey,
    initial_config,
    read_config,
    read_observations,
)
from xpjax.survey.scr import run_scr

N = 20
UNITS = {"m": "mag", "s": "mag", "model": "mag", "c": "mag"}
COLUMNS = {"star": "id", "exposure": "e", "magnitude": "m", "magnitude_error": "s"}
MODEL = {"position_order": 0, "color_order": 0, "magnitude_order": 0}
SURVEY: dict[str, Any] = {"columns": {**COLUMNS, "model": "model", "color": "c"}, "model": MODEL}
JOINT: dict[str, Any] = {
    "columns": COLUMNS, "joint": {"min_observations": 1}, "term": [{"kind": "zero_point"}],
    "constraint": [{"term": "zero_point"}],
}  # fmt: skip
REGRESSION: dict[str, Any] = {
    "columns": {name: name for name in ("teff", "feh", "reddening", "bp", "rp", "tile")}
    | {"magnitude": "i", "magnitude_error": 0.01},
    "regression": {"order": 1}, "band": [{"name": "i", "gaia": "RP"}],
}  # fmt: skip


def with_units(columns: Mapping[str, np.ndarray]) -> QTable:
    table = QTable(dict(columns))
    for name in set(UNITS) & set(columns):
        table[name].unit = UNITS[name]
    return table


def records(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.rec.fromarrays(list(columns.values()), names=",".join(columns)).view(np.ndarray)


KINDS: dict[str, Callable[[Mapping[str, np.ndarray]], Any]] = {
    "catalogue": Catalogue,
    "result": lambda columns: SurveyTable(columns, {}, {}),
    "astropy": lambda columns: Table(dict(columns)),
    "quantities": with_units,
    "pandas": lambda columns: pd.DataFrame(dict(columns)),
    "arrow": lambda columns: pa.table(dict(columns)),
    "structured array": records,
    "lists": lambda columns: {name: column.tolist() for name, column in columns.items()},
}
"""What becomes of columns, which functions then take."""


@cache
def night() -> Mapping[str, np.ndarray]:
    """Three exposures of the same stars, with zero-points 1 mag apart."""
    rng, k = np.random.default_rng(1), np.tile(np.arange(N), 3)
    exposure = np.repeat(["a", "b", "c"], N)
    true = 14 + k / 9
    seen = true + np.repeat([0, 1, 2], N) + rng.normal(0, 0.01, 3 * N)
    return {
        "id": 4_100_000_000_000_000_001 + k, "e": exposure, "m": seen, "s": np.full(3 * N, 0.01),
        "model": true + 3, "c": 1 + 0.01 * k,
    }  # fmt: skip


@cache
def stars() -> Mapping[str, np.ndarray]:
    """Stars with labels, for a color regression."""
    rng, means = np.random.default_rng(0), {"teff": 5900, "feh": -0.3, "reddening": 0.1, "bp": 14, "rp": 14}
    made = {name: rng.normal(mean, 0.05 * (1 + mean), 400) for name, mean in means.items()}
    made["i"] = made["rp"] - 0.3 * made["reddening"] + rng.normal(0, 0.01, 400)
    return made | {"tile": np.repeat(["one", "two"], 200)}


@cache
def calibrated() -> SurveyCalibration:
    return calibrate_survey(night(), SURVEY)


@cache
def solved() -> JointSolution:
    return solve_survey(JOINT, night())[0]


OF_DETECTIONS: dict[str, Callable[[Any], Any]] = {
    "read_observations": lambda table: read_observations(table, read_config(SURVEY)).observations.magnitude,
    "check_survey": lambda table: check_survey(table, SURVEY).lines(),
    "initial_config": lambda table: initial_config(table).table,
    "calibrate_survey": lambda table: calibrate_survey(table, SURVEY, keep=["model"]).solution.fits.zero_point,
    "calibrate_survey, tables by name": lambda table: calibrate_survey({"x": table}, OWN).solution.fits.zero_point,
    "calibrate_survey, a list": lambda table: calibrate_survey([table], SURVEY).solution.fits.zero_point,
    "apply_survey": lambda table: apply_survey(table, calibrated().solution, config=SURVEY).calibrated.magnitude,
    "check_joint": lambda table: check_joint(table, JOINT).lines(),
    "solve_survey": lambda table: solve_survey(JOINT, table)[0].value,
    "apply_joint": lambda table: apply_joint(solved(), table, config=JOINT).columns["magnitude"],
}
OWN = {**SURVEY, "columns": {name: column for name, column in SURVEY["columns"].items() if name != "exposure"}}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OF_DETECTIONS)
def test_detections_may_be_any_table(name: str, kind: str) -> None:
    function = OF_DETECTIONS[name]
    np.testing.assert_array_equal(function(KINDS[kind](night())), function(night()))


@pytest.mark.parametrize("kind", KINDS)
def test_stars_of_a_regression_may_be_any_table(kind: str) -> None:
    found, expected = (run_scr(table, REGRESSION) for table in (KINDS[kind](stars()), stars()))
    np.testing.assert_array_equal(found.regressions["i"].value, expected.regressions["i"].value)
    assert found.zero_points.tile.tolist() == ["one", "two"]


@pytest.mark.parametrize("suffix", [".fits", ".ecsv", ".parquet", ".csv"])
def test_files_are_read_as_tables_are(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"night{suffix}"
    xpjax.write(path, Catalogue(night()))
    found, expected = (calibrate_survey(source, SURVEY).solution for source in (path, night()))
    np.testing.assert_allclose(found.fits.zero_point, expected.fits.zero_point, rtol=1e-12)
