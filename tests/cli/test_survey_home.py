"""Calibrated magnitudes come home: identifiers, files, rows and kept columns, wide tables, files in any order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.cli.helpers import files, xp
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import read_catalogue, write
from xpjax.survey.exposures.calibrate import calibrate as calibrate_rows
from xpjax.survey.reading.config import read_config
from xpjax.survey.reading.tables import read_observations
from xpjax.xp import simulate

N = 80
FIRST_ID = 4_100_000_000_000_000_000
GAP = 7
TOML = """
[columns]
star = "source_id"
x = "X"
y = "Y"
ra = "RA"
dec = "DEC"
magnitude = "{band}"
magnitude_error = "ERR"
model = "{band}_mod"
bands = ["g", "r"]
[model]
position_order = 1
color_order = 0
magnitude_order = 0
numerical_flat = true
"""


def field(seed: int) -> pd.DataFrame:
    """Stars with ids that float64 cannot tell, one without; columns of all kinds, one of them called as ours."""
    rng = np.random.default_rng(seed)
    k = np.arange(N)
    r = rng.uniform(12, 16, N)
    table = pd.DataFrame({
        "source_id": pd.array(FIRST_ID + 128 * k, "Int64"), "X": rng.uniform(0, 100, N), "Y": rng.uniform(0, 100, N),
        "RA": 10 + k / 100, "DEC": np.zeros(N),
        "g": r - 2.5 + rng.normal(0, 0.01, N), "r": r - 3 + rng.normal(0, 0.01, N),
        "ERR": np.full(N, 0.01), "g_mod": r + 0.5, "r_mod": r, "remark": [f"star {i}" for i in k],
        "count": pd.array(k, "Int64"), "magnitude": k / 7,
    })  # fmt: skip
    table.loc[GAP, ["source_id", "count"]] = pd.NA
    return table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two exposures of equal names in two folders, calibrated whole."""
    out = tmp_path_factory.mktemp("home")
    for k in range(2):
        (out / f"n{k}").mkdir()
        field(k).to_parquet(out / f"n{k}" / "img.01.parquet")
    (out / "survey.toml").write_text(TOML)
    done = xp(
        "survey", "calibrate", out / "n0" / "img.01.parquet", out / "n1" / "img.01.parquet", "--config",
        out / "survey.toml", "--keep", "remark,count", "--keep", "magnitude", "--wide", "--folds", 2, "-o", out / "sol",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return out


def test_rows_come_home(folder: Path) -> None:
    c = read_catalogue(folder / "sol" / "calibrated.parquet").columns
    first = np.flatnonzero((c["exposure"] == "n0/img.01") & (c["band"] == "g"))
    table = field(0)
    assert c["row"][first].tolist() == [*range(1, N + 1)]
    assert [Path(name).parts[-2:] for name in np.unique(c["file"])] == [
        ("n0", "img.01.parquet"),
        ("n1", "img.01.parquet"),
    ]
    known = np.arange(N) != GAP
    for name in ("source_id", "star"):
        assert c[name].dtype == np.int64
        np.testing.assert_array_equal(c[name][first][known], table["source_id"][known].astype(np.int64))
    assert c["source_id"][first][GAP] == 0
    assert c["star"][first][GAP] < 0
    assert c["remark"][first].tolist() == table["remark"].tolist()
    np.testing.assert_array_equal(c["count"][first], table["count"].astype("Float64").to_numpy(na_value=np.nan))
    np.testing.assert_array_equal(c["input_magnitude"][first], table["magnitude"])
    np.testing.assert_array_equal(c["ra"][first], table["RA"])


def test_wide_is_a_row_for_each_star(folder: Path) -> None:
    c = read_catalogue(folder / "sol" / "wide.parquet").columns
    assert len(c["star"]) == N  # the nameless detections of both files are one star by position
    assert c["star"].dtype == np.int64
    assert (c["n_g"] == 2).all()
    long = read_catalogue(folder / "sol" / "calibrated.parquet").columns
    one = (long["star"] == c["star"][-1]) & (long["band"] == "r")
    weight = long["magnitude_error"][one] ** -2
    assert c["mag_r"][-1] == pytest.approx(np.average(long["magnitude"][one], weights=weight), abs=1e-9)


def test_files_alone_from_elsewhere_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = read_catalogue(folder / "sol" / "calibrated.parquet").columns
    monkeypatch.chdir(folder / "n1")
    for path, name in (("img.01.parquet", "n1/img.01"), (folder / "n0" / "img.01.parquet", "n0/img.01")):
        out = tmp_path / f"{name[:2]}.parquet"
        done = xp("survey", "apply", path, "--solution", folder / "sol", "-o", out)
        assert done.exit_code == 0, done.stderr
        found = read_catalogue(out).columns
        rows = whole["exposure"] == name
        for column in ("magnitude", "magnitude_error", "systematic_error", "residual", "band", "row"):
            np.testing.assert_array_equal(found[column], whole[column][rows])


def test_python_finds_the_same(folder: Path) -> None:
    config = read_config(folder / "survey.toml")
    reading = read_observations({f"n{k}/img.01": field(k) for k in range(2)}, config)
    _, rows = calibrate_rows(reading.observations, config.settings)
    whole = read_catalogue(folder / "sol" / "calibrated.parquet").columns
    np.testing.assert_array_equal(rows.magnitude, whole["magnitude"])
    np.testing.assert_array_equal(rows.observations.star, whole["star"])


def test_no_column_hides_a_method_of_data_frames(folder: Path, tmp_path: Path) -> None:
    call = ("survey", "flat", folder / "sol", "--bins", 4, "-o", tmp_path / "flat.ecsv")
    assert xp(*call).exit_code == 0
    assert xp("survey", "homogenize", folder / "sol", folder / "sol", "-o", tmp_path / "both.ecsv").exit_code == 0
    assert xp("survey", "simulate", "--exposures", 3, "--stars", 50, "-o", tmp_path / "mock").exit_code == 0
    (tmp_path / "joint.toml").write_text(
        TOML.partition("[model]")[0] + '[joint]\nmin_observations = 2\n[[term]]\nkind = "zero_point"\n'
        '[[constraint]]\nterm = "zero_point"\n'
    )
    paths = [folder / f"n{k}" / "img.01.parquet" for k in range(2)]
    done = xp(
        "survey", "solve", *paths, "--config", tmp_path / "joint.toml", "--keep", "remark", "-o", tmp_path / "joint"
    )
    assert done.exit_code == 0, done.stderr
    assert "remark" in read_catalogue(tmp_path / "joint" / "calibrated.parquet").columns
    tables = [p for f in (folder / "sol", tmp_path) for p in f.rglob("*") if p.suffix in (".parquet", ".ecsv")]
    assert {"cross_validation.parquet", "flat.ecsv", "both.ecsv", "parameters.ecsv", "stars.parquet"} <= {
        p.name for p in tables
    }
    for path in tables:
        names = {*read_catalogue(path).columns} - {"count"}  # the user's own
        assert not names & {*dir(pd.DataFrame)}, path.name


def test_a_store_of_coefficients_is_no_table_of_standards(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "xp.csv", simulate.simulate_sources(3, seed=1))
    assert xp("store", "ingest", tmp_path / "xp.csv", "--store", tmp_path / "store", "-q").exit_code == 0
    (tmp_path / "s.toml").write_text(
        '[columns]\nstar = "source_id"\nmagnitude = "g"\nmodel = "MOD"\n[model]\nposition_order = 0\n'
        '[standards]\nfile = "store"\n'
    )
    call = ("survey", "calibrate", folder / "n0" / "img.01.parquet", "--config", tmp_path / "s.toml")
    done = xp(*call, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "holds XP coefficients, not magnitudes: make magnitudes of them with `xpjax photometry`" in done.stderr
    assert "out" not in files(tmp_path)


def test_messages_name_options(folder: Path, tmp_path: Path) -> None:
    call = ("survey", "calibrate", folder / "n0" / "img.01.parquet", "--config", folder / "survey.toml")
    done = xp(*call, "--keep", "remarks", "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "no column 'remarks' for --keep; did you mean remark" in done.stderr
    twice = xp(*call[:3], folder / "n0" / "img.01.parquet", *call[3:], "-o", tmp_path / "out")
    assert twice.exit_code == 2
    assert "is given twice" in twice.stderr
    (tmp_path / "n9").mkdir()
    field(0).to_parquet(tmp_path / "n9" / "img.01.parquet")
    done = xp(
        "survey", "apply", tmp_path / "n9" / "img.01.parquet", "--solution", folder / "sol", "-o", tmp_path / "o.csv"
    )
    assert done.exit_code == 2
    assert "--exposure" in done.stderr
    assert "--new" in done.stderr


def test_a_row_without_exposure_or_band_costs_only_itself(tmp_path: Path) -> None:
    whole = field(0)
    table = pd.DataFrame({"id": range(N), "X": whole["X"], "Y": whole["Y"], "MAG": whole["r"], "ERR": whole["ERR"]})
    table["MOD"], table["EXP"], table["BAND"] = whole["r_mod"], "e1", "r"
    (tmp_path / "s.toml").write_text(
        '[columns]\nstar = "id"\nx = "X"\ny = "Y"\nmagnitude = "MAG"\nmagnitude_error = "ERR"\nmodel = "MOD"\n'
        'exposure = "EXP"\nband = "BAND"\n[model]\nposition_order = 1\ncolor_order = 0\nmagnitude_order = 0\n'
    )
    table.to_parquet(tmp_path / "whole.parquet")
    call = ("--config", tmp_path / "s.toml", "-o", tmp_path / "sol")
    assert xp("survey", "calibrate", tmp_path / "whole.parquet", *call).exit_code == 0
    table.loc[3, "BAND"] = table.loc[4, "EXP"] = None
    table.to_parquet(tmp_path / "gaps.parquet")
    done = xp(
        "survey", "apply", tmp_path / "gaps.parquet", "--solution", tmp_path / "sol", "-o", tmp_path / "o.parquet"
    )
    assert done.exit_code == 0, done.stderr
    assert "1 rows have no band: not calibrated" in done.stderr
    assert "1 rows have no exposure: not calibrated" in done.stderr
    expected = read_catalogue(tmp_path / "sol" / "calibrated.parquet").columns["magnitude"]
    found = read_catalogue(tmp_path / "o.parquet").columns["magnitude"]
    np.testing.assert_array_equal(found, np.where(np.isin(np.arange(N), [3, 4]), np.nan, expected))
    assert xp("survey", "calibrate", tmp_path / "gaps.parquet", *call, "--overwrite").exit_code == 0


def test_tiles_are_the_same_with_gaps_and_without(tmp_path: Path) -> None:
    tiles = np.arange(500, 506)
    common = {"zero_point_error": np.full(6, 0.01), "n_used": np.full(6, 9)}
    write(tmp_path / "one.ecsv", Catalogue({"tile": tiles, "zero_point": np.full(6, 3.0), **common}))
    gaps = pd.DataFrame({"tile": pd.array(tiles, "Int64"), "zero_point": np.full(6, 3.1), **common})
    gaps.loc[0, "tile"] = pd.NA
    gaps.to_parquet(tmp_path / "two.parquet")
    done = xp("survey", "homogenize", tmp_path / "one.ecsv", tmp_path / "two.parquet", "-o", tmp_path / "both.ecsv")
    assert "SCR - XPSP = -100.00" in done.stderr, done.stderr
    assert "on 5 tiles" in done.stderr
