"""A survey from tables to products in one call of Python."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.survey.exposures.helpers import made
from xpjax.io.catalogue import read_catalogue
from xpjax.survey.exposures.files import read_calibrated, read_solution
from xpjax.survey.reading.calibration import apply_survey, calibrate_survey
from xpjax.survey.reading.config import read_config, read_setup

CONFIG: dict[str, Any] = {
    "columns": {"star": "id", "x": "X", "y": "Y", "magnitude": "M", "magnitude_error": "E", "model": "MOD",
                "tile": "t"},
    "model": {"position_order": 1, "color_order": 0, "magnitude_order": 0},
    "joint": {"clip": 5.0}, "term": [{"kind": "zero_point"}], "regression": {"order": 2}, "camera": {"diameter": 1.0},
}  # fmt: skip


def table(seed: int, n: int = 100) -> dict[str, np.ndarray]:
    o = made(seed, n)
    return {"id": o.star, "X": o.x, "Y": o.y, "M": o.magnitude, "E": o.magnitude_error, "MOD": o.model}


def test_one_call_writes_what_it_returns(tmp_path: Path) -> None:
    tables = {f"e{k}": table(k) for k in range(2)}
    found = calibrate_survey(tables, CONFIG, tmp_path / "sol", folds=2, wide=True)
    assert found.complete
    assert sorted(path.name for path in (tmp_path / "sol").iterdir()) == [
        "calibrated.parquet", "cross_validation.parquet", "solution.h5", "wide.parquet", "zeropoints.ecsv",
    ]  # fmt: skip
    rows = read_calibrated(tmp_path / "sol" / "calibrated.parquet")
    np.testing.assert_array_equal(rows.magnitude, found.calibrated.magnitude)
    zero = read_catalogue(tmp_path / "sol" / "zeropoints.ecsv")
    np.testing.assert_array_equal(zero.columns["zero_point"], found.solution.fits.zero_point)
    assert "cross-validation" in zero.descriptions["cross_validation_scatter"]
    tested = read_catalogue(tmp_path / "sol" / "cross_validation.parquet")
    assert {"residual", "error", "magnitude", "status"} <= {*tested.columns}
    assert any("cross-validation in 2 folds" in line for line in found.lines())
    with pytest.raises(FileExistsError, match="overwrite=True"):
        calibrate_survey(tables, CONFIG, tmp_path / "sol")
    again = apply_survey({"e1": tables["e1"]}, tmp_path / "sol", tmp_path / "e1.ecsv")
    mine = found.calibrated.observations.frame == 1
    np.testing.assert_allclose(again.calibrated.magnitude, found.calibrated.magnitude[mine], rtol=0, atol=1e-12)
    assert len(read_catalogue(tmp_path / "e1.ecsv")) == mine.sum()
    assert again.calibrated.record["solution_version"] == found.solution.record["version"]


def test_solutions_in_memory_serve_as_files_do(tmp_path: Path) -> None:
    found = calibrate_survey({"e": table(0)}, CONFIG)
    found.write(tmp_path / "sol")
    solution = read_solution(tmp_path / "sol")
    other = {"e": {**table(0), "M": table(0)["M"] + 0.1}}
    one, two = (apply_survey(other, source).calibrated for source in (found.solution, solution))
    np.testing.assert_array_equal(one.magnitude, two.magnitude)
    with pytest.raises(ValueError, match="needs a directory"):
        apply_survey(other, solution, tmp_path / "x.ecsv", wide=True)
    bare = json.loads(json.dumps(dict(solution.record)))
    bare.pop("config")
    with pytest.raises(ValueError, match="does not say what columns mean: give config="):
        apply_survey(other, type(solution)(**{**vars(solution), "record": bare}))


def test_sections_of_other_commands_are_left_alone() -> None:
    config = read_config(CONFIG)
    assert "tile" not in config.bands[""]
    with pytest.raises(ValueError, match="unknown section 'joynt'; did you mean joint"):
        read_config({**CONFIG, "joynt": {}})
    bands = [{"name": "g", "gaia": "BP", "order": 2, "magnitude": "MG"}, {"name": "r", "gaia": "RP", "magnitude": "MR"}]
    assert read_config({**CONFIG, "band": bands}).bands["r"]["magnitude"] == "MR"


def test_the_setup_of_a_simulation(tmp_path: Path) -> None:
    path = tmp_path / "survey.toml"
    path.write_text('[simulate]\nn_exposure = 3\ncamera = "ccd"\nflat = [0.1, 0, 0]\n[model]\nposition_order = 9\n')
    setup = read_setup(path, n_star=20)
    assert (setup.n_exposure, setup.n_star, setup.camera.altitude) == (3, 20, 1957.0)
    assert setup.effects.flat == (0.1, 0.0, 0.0)
    path.write_text("[simulate]\nn_exposures = 3\n")
    with pytest.raises(ValueError, match=r"survey.toml: unknown entry of \[simulate\] 'n_exposures'; did you mean"):
        read_setup(path)
