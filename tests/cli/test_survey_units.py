"""`xpjax survey calibrate --units`: by the command line as by Python."""

from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.catalogue.made_survey import COLUMNS, write_survey
from tests.cli.helpers import xp
from xpjax.catalogue.survey import calibrate_units
from xpjax.survey.exposures.files import read_solution

MODEL = {"position_order": 0, "color_order": 0, "magnitude_order": 0}


@pytest.fixture
def call(tmp_path: Path) -> list[object]:
    """The command without output and units, of three exposures."""
    files, config = write_survey(tmp_path / "tables", 8)[:3], tmp_path / "survey.toml"
    entries = {"columns": COLUMNS, "model": MODEL}
    lines = [f"[{name}]\n" + "\n".join(f"{k} = {v!r}" for k, v in part.items()) for name, part in entries.items()]
    config.write_text("\n".join(lines))
    return ["survey", "calibrate", *files, "--config", config]


@pytest.mark.slow
def test_files_are_called_as_in_the_call(call: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = [Path(str(x)).relative_to(tmp_path) if str(x).endswith(".parquet") else x for x in call]
    for more in ((), ("--units", "band")):
        output = f"out{len(more)}"
        assert xp(*relative, "-o", output, *more).exit_code == 0
        tables = [xpjax.read_table(path) for path in sorted(Path(output).rglob("calibrated.parquet"))]
        named = {name for table in tables for name in np.unique(table["file"]).tolist()}
        assert named == {str(x) for x in relative if str(x).endswith(".parquet")}


@pytest.mark.slow
def test_units_are_calibrated_and_told(call: list[object], tmp_path: Path) -> None:
    done = xp(*call, "-o", tmp_path / "out", "--units", "band", "--shard", "2/3", "--keep", "kept")
    assert done.exit_code == 0, done.stderr
    assert "measurements calibrated in 2 units, 2 of them here" in done.stderr
    assert "zero-point" in done.stderr
    config = {"columns": COLUMNS, "model": MODEL}
    files = [path for path in call if str(path).endswith(".parquet")]
    report = calibrate_units(files, config, tmp_path / "python", units="band", keep=["kept"])  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_solution(tmp_path / "out").fits.value, report.solution().fits.value)
    again = xp(*call, "-o", tmp_path / "out", "--units", "band", "--shard", "2/3", "--keep", "kept")
    assert "in 2 units, 0 of them here" in again.stderr
    other = xp(*call, "-o", tmp_path / "out", "--units", "band")
    assert other.exit_code == 2
    assert "keep was ['kept'], now []" in other.stderr
    status = xp("catalogue", "status", tmp_path / "out")
    assert "the catalogue is whole" in status.output


def test_options_without_effect_are_refused(call: list[object], tmp_path: Path) -> None:
    for more, said in (
        (("--shard", "1/2"), "--shard has no effect without --units"),
        (("--dask", "local"), "--dask has no effect without --units"),
        (("--units", "night", "--shard", "1/2", "--dask", "local"), "--shard has no effect with --dask"),
        (("--units", "night", "--folds", "3"), "--folds needs all measurements"),
        (("--units", "night", "--wide"), "--wide needs all measurements"),
        (("--units", "night", "--shard", "3/2"), "expected I/N"),
    ):
        done = xp(*call, "-o", tmp_path / "out", *more)
        assert done.exit_code == 2
        assert said in done.stderr
        assert not (tmp_path / "out").exists()
