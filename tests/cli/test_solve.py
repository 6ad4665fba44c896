"""`xpjax survey solve`: tables to one solution; refusals that say what to do; nothing written where refused."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from benchmarks.joint import dithered, plain_model
from tests.cli.helpers import files, xp
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import read_catalogue, write
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
    assert xp(*call, "--overwrite", "--device", "cpu").exit_code == 0
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
