"""`xpjax survey solve`: tables to one solution; refusals that say what to do; nothing written where refused."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from benchmarks.joint import dithered, plain_model
from tests.cli.helpers import files, xp
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import read_catalogue, write
from xpjax.survey import FrameFlag
from xpjax.survey.joint import apply_joint, solve_survey
from xpjax.survey.joint.config import read_joint_config
from xpjax.survey.joint.files import read_joint_solution
from xpjax.survey.joint.solve import solve_joint

COLUMNS = """
[columns]
star = "star"
exposure = "exposure"
x = "x"
y = "y"
magnitude = "magnitude"
magnitude_error = "magnitude_error"
color = "color"
"""
MODEL = """
[joint]
robust = "none"
error_floor = 0.0
min_observations = 5
size = [0, 1, 0, 1]
color_zero = 0.0
[[term]]
kind = "zero_point"
[[term]]
kind = "color"
[[term]]
kind = "flat"
bins = 4
per = "detector"
"""
CONSTRAINTS = "".join(f'[[constraint]]\nterm = "{name}"\n' for name in ("zero_point", "color", "flat"))
NAMES = ["calibrated.parquet", "exposures.ecsv", "joint.h5", "parameters.ecsv", "stars.parquet"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    o, _ = dithered(16, 150, bins=4, outlier=0.01)
    columns = {name: getattr(o, name).astype(float) for name in ("x", "y", "magnitude", "magnitude_error", "color")}
    columns |= {"star": o.star.astype(np.int64), "exposure": o.frames.exposure[o.frame]}
    columns["seeing"] = 100 + np.random.default_rng(0).normal(size=len(o))
    columns["magnitude"][3] = 99.0
    path = tmp_path_factory.mktemp("solve") / "field.parquet"
    write(path, Catalogue(columns))
    return path


def test_table_to_solution(table: Path, tmp_path: Path) -> None:
    config, output = tmp_path / "survey.toml", tmp_path / "out"
    config.write_text(COLUMNS + MODEL + CONSTRAINTS + "[model]\nposition_order = 2\n")  # of `survey calibrate`
    call = ("survey", "solve", table, "--config", config, "-o", output)
    result = xp(*call)
    assert result.exit_code == 0, result.stderr
    assert "fixed by a constraint: zero_point" in result.stderr
    assert files(output) == NAMES
    parameters = read_catalogue(output / "parameters.ecsv")
    o, _ = dithered(16, 150, bins=4, outlier=0.01)
    expected = solve_joint(o[np.arange(len(o)) != 3], plain_model(4, min_observations=5))
    np.testing.assert_allclose(parameters.columns["value"], expected.value, atol=1e-9)
    np.testing.assert_allclose(parameters.columns["error"], expected.error(np.arange(len(expected.value))), rtol=1e-6)
    stars = read_catalogue(output / "stars.parquet")
    np.testing.assert_allclose(stars.columns["magnitude"], expected.magnitude[:, 0], atol=1e-9)
    calibrated = read_catalogue(output / "calibrated.parquet")
    assert calibrated.columns["quality"][3] == "NO_MAGNITUDE"
    with h5py.File(output / "joint.h5") as file:
        variance = np.diagonal(file["covariance"][:])
        np.testing.assert_allclose(np.sqrt(np.maximum(variance, 0)), parameters.columns["error"], rtol=1e-6, atol=1e-12)
        assert file["column"][0] == b"zero_point of e00000"
    back = read_joint_solution(output / "joint.h5")
    np.testing.assert_array_equal(back.parameters().columns["error"], parameters.columns["error"])
    assert back.meta["inputs"] == ["field.parquet"]
    exposures = read_catalogue(output / "exposures.ecsv")
    assert exposures.columns["exposure"].tolist() == [f"e{k:05d}" for k in range(16)]
    again = xp(*call)
    assert again.exit_code == 2
    assert "add --overwrite" in again.stderr
    (output / "correction.h5").write_bytes(b"of another model, with an instrument term")
    assert xp(*call, "--overwrite", "--device", "cpu").exit_code == 0
    assert files(output) == NAMES
    np.testing.assert_allclose(read_catalogue(output / "parameters.ecsv").columns["value"], expected.value, atol=1e-9)


def test_covariates_and_what_is_kept_back(table: Path, tmp_path: Path) -> None:
    config, output = tmp_path / "survey.toml", tmp_path / "out"
    more = '[[term]]\nkind = "covariate"\nname = "seeing"\ncolumn = "seeing"\nper = "all"\nprior = 0.1\n'
    model = MODEL.replace("[[term]]", "hold_out_exposures = 8\nhold_out_stars = 10\n[[term]]", 1)
    config.write_text(COLUMNS + model + more + CONSTRAINTS)
    result = xp("survey", "solve", table, "--config", config, "-o", output)
    assert result.exit_code == 0, result.stderr
    assert "kept back" in result.stderr
    parameters = read_catalogue(output / "parameters.ecsv").columns
    mine = parameters["term"] == "seeing"
    assert mine.sum() == 1
    assert 0 < parameters["error"][mine][0] < 1e-3  # columns of 100 are no sentinels
    assert abs(parameters["value"][mine][0]) < 5 * parameters["error"][mine][0]
    assert np.isnan(parameters["value"][parameters["place"] == "e00007"]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (COLUMNS + MODEL, "(1) zero_point: degenerate with the star magnitudes"),
        (COLUMNS + CONSTRAINTS, "there is no term"),
        (COLUMNS + MODEL.replace("bins", "bin"), "unknown entry of a flat term 'bin'; did you mean bins?"),
        (COLUMNS + MODEL.replace('"flat"', '"flut"'), "kind of a [[term]] is one of zero_point"),
        (COLUMNS + MODEL.replace("[joint]", "[joint]\nclips = 3"), "did you mean clip?"),
        (COLUMNS + MODEL.replace("[joint]", "[joint]\nhold_out_stars = 1"), "hold_out_stars = 1"),
        (COLUMNS + MODEL.replace("size = [0, 1, 0, 1]", "size = [1]"), "size is [nx, ny]"),
        (COLUMNS + MODEL + '[[constraint]]\npart = "x"\n', "has no term"),
        (COLUMNS + MODEL + '[[term]]\nkind = "covariate"\nname = "a"\n', "a covariate term has no column"),
        (COLUMNS + MODEL + '[[term]]\nkind = "covariate"\nname = "a"\ncolumn = "seing"\n', "did you mean seeing"),
        (
            COLUMNS + MODEL + '[[term]]\nkind = "transmission"\nchain = "t.toml"\nsources = "s.h5"\n[term.parameters]\n'
            "water = { per = 'night' }\n",
            "t.toml: no such file",
        ),
        ("[columns", "not TOML"),
    ],
)
def test_refusals_leave_nothing(table: Path, tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "survey.toml"
    config.write_text(text)
    result = xp("survey", "solve", table, "--config", config, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert files(tmp_path) == ["survey.toml"]


def test_the_modules_own_example(tmp_path: Path) -> None:
    from xpjax.survey.joint import config as joint_config

    assert joint_config.__doc__ is not None
    text = joint_config.__doc__.split("\n\n", 1)[1]
    path = tmp_path / "survey.toml"
    path.write_text(COLUMNS + 'model = "model"\nmodel_error = "model_error"\n' + text)
    found = read_joint_config(path)
    assert [term.kind for term in found.terms] == ["zero_point", "flat", "covariate", "transmission"]
    assert found.constraints[0].term == "flat"
    with pytest.raises(ValueError, match="magnitude"):
        read_joint_config({"columns": {"star": "s"}, "term": [{"kind": "zero_point"}]})


EXTENDED = '[[term]]\nkind = "seeing"\ncolumn = "seeing"\nper = "detector"\nprior = 0.1\nzero = 100.0\n' + CONSTRAINTS


@pytest.fixture(scope="module")
def nights(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The exposures of all nights but the last, and of the last, as tables; and the solution of the former."""
    folder, columns = tmp_path_factory.mktemp("nights"), read_catalogue(table).columns
    last = columns["exposure"] >= "e00013"
    for name, rows in (("first", ~last), ("last", last)):
        write(folder / f"{name}.parquet", Catalogue({key: values[rows] for key, values in columns.items()}))
    (folder / "survey.toml").write_text(COLUMNS + MODEL + EXTENDED)
    first, joint = folder / "first.parquet", folder / "joint"
    result = xp("survey", "solve", first, "--config", folder / "survey.toml", "-o", joint)
    assert result.exit_code == 0, result.stderr
    return first, folder / "last.parquet", joint / "joint.h5"


def test_a_further_night_extends_a_solution(nights: tuple[Path, Path, Path], table: Path, tmp_path: Path) -> None:
    _, last, joint = nights
    config = joint.parent.parent / "survey.toml"
    result = xp("survey", "solve", last, "--extend", joint, "-o", tmp_path / "more")
    assert result.exit_code == 0, result.stderr
    assert "3 new exposures: e00013, e00014, e00015" in result.stderr
    assert files(tmp_path / "more") == NAMES
    assert xp("survey", "solve", table, "--config", config, "-o", tmp_path / "whole").exit_code == 0
    for name in ("parameters.ecsv", "stars.parquet"):
        ours, theirs = (read_catalogue(tmp_path / folder / name).columns for folder in ("more", "whole"))
        value, error = ("value", "error") if "value" in ours else ("magnitude", "magnitude_error")
        np.testing.assert_array_less(np.abs(ours[value] - theirs[value]), 0.01 * theirs[error] + 1e-12)
        np.testing.assert_allclose(ours[error], theirs[error], rtol=0.01, atol=1e-12)
    ours, theirs = (read_catalogue(tmp_path / folder / "exposures.ecsv").columns for folder in ("more", "whole"))
    np.testing.assert_array_equal(ours["n_used"], theirs["n_used"])
    calibrated = read_catalogue(tmp_path / "more" / "calibrated.parquet").columns
    assert set(calibrated["exposure"].tolist()) == {"e00013", "e00014", "e00015"}
    # In Python the same, and again: the files that made it are known.
    found, _ = solve_survey(None, last, extend=joint)
    np.testing.assert_allclose(found.value, read_catalogue(tmp_path / "more" / "parameters.ecsv").columns["value"])
    for call, message in (
        (("--extend", tmp_path / "more" / "joint.h5"), "has 3 of these frames already"),
        ((), "give --config"),
        (("--extend", joint, "--device", "cpu"), "--device has no effect where a solution is extended"),
    ):
        refused = xp("survey", "solve", last, *call, "-o", tmp_path / "none")
        assert refused.exit_code == 2
        assert message in refused.stderr
    assert not (tmp_path / "none").exists()


def test_a_solution_is_applied(
    nights: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last, joint = nights
    theirs = read_catalogue(joint.parent / "calibrated.parquet").columns
    monkeypatch.chdir(tmp_path)
    for solution in (joint, joint.parent):
        result = xp("survey", "apply", first, "--solution", solution, "-o", "same.parquet", "--overwrite")
        assert result.exit_code == 0, result.stderr
    ours = read_catalogue("same.parquet").columns
    known = np.isfinite(theirs["magnitude"])
    np.testing.assert_allclose(ours["magnitude"][known], theirs["magnitude"][known], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ours["magnitude_error"], theirs["magnitude_error"])
    assert 0 < np.nanmax(ours["correction_error"]) < 0.01
    result = xp("survey", "apply", last, "--solution", joint, "-o", "new", "--keep", "seeing")
    assert result.exit_code == 0, result.stderr
    assert "3 new exposures, zero-points fitted to stars of the solution: e00013, " in result.stderr
    new = read_catalogue("new/calibrated.parquet")
    assert set(new.columns["exposure_status"].tolist()) == {int(FrameFlag.FROZEN)}
    assert {"seeing", "correction_error"} <= set(new.columns)
    assert new.meta["inputs"] == ["last.parquet"]
    table = apply_joint(joint, first, keep=["seeing"])
    np.testing.assert_array_equal(table.columns["magnitude"], ours["magnitude"])
    for option, message in (
        (("--wide",), "--wide has no effect with a joint solution"),
        (("--device", "cpu"), "--device has no effect with a joint solution"),
        (("--exposure", "e00000"), "--exposure has no effect: columns.exposure says which exposure a row is of"),
        (("--new",), "the solution has an exposure 'e00000' already"),
    ):
        refused = xp("survey", "apply", first, "--solution", joint, "-o", "no.parquet", *option)
        assert refused.exit_code == 2
        assert message in refused.stderr
    assert not Path("no.parquet").exists()
