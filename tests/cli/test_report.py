"""`xpjax survey report` and `homogenise`: one page of a solution, and zero-points by two methods on one scale."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import files, xp
from xpjax.cli.homogenise import read_zero_points
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import read_catalogue, write

pytestmark = pytest.mark.filterwarnings("ignore:.*Axes.*")


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated survey, calibrated, with stars and exposures kept back."""
    folder = tmp_path_factory.mktemp("survey")
    call = ("survey", "simulate", "-o", folder / "mock", "--exposures", 14, "--stars", 300, "--nights", 2)
    assert xp(*call, "--variables", 0.02).exit_code == 0
    table = read_catalogue(folder / "mock" / "observations.parquet")
    late = np.isin(table.columns["exposure"], ["e00006", "e00013"])
    for name, rows in (("early", ~late), ("late", late)):
        write(folder / f"{name}.parquet", Catalogue({k: v[rows] for k, v in table.columns.items()}))
    config = folder / "mock" / "survey.toml"
    config.write_text(config.read_text().replace("stacked_flat = true", "stacked_flat = true\nbins = 8"))
    done = xp("survey", "calibrate", folder / "early.parquet", "--config", config, "-o", folder / "sol", "--folds", 2)
    assert done.exit_code == 0, done.stderr
    done = xp(
        "survey", "apply", folder / "late.parquet", "--solution", folder / "sol", "--new", "-o", folder / "held.parquet"
    )
    assert done.exit_code == 0, done.stderr
    return folder


def sections(page: str) -> dict[str, str]:
    return dict(re.findall(r"<h2>([^<]*)</h2>(.*?)(?=<h2>|</body>)", page, re.DOTALL))


@pytest.mark.slow
def test_one_page_with_numbers_and_figures(survey: Path) -> None:
    assert "held_out.parquet" in files(survey / "sol")
    exposures = read_catalogue(survey / "sol" / "zeropoints.ecsv").columns["exposure"]
    rng = np.random.default_rng(0)
    n = len(exposures)
    places = {"ra": rng.uniform(0, 9, n), "dec": rng.uniform(0, 9, n), "ebv": rng.random(n)}
    write(survey / "tiles.ecsv", Catalogue({"exposure": exposures, **places}))
    done = xp(
        "survey", "report", survey / "sol", "--catalogue", survey / "early.parquet", "--held-out",
        survey / "held.parquet", "--compare", survey / "mock" / "exposures.ecsv", "--tiles", survey / "tiles.ecsv",
        "--camera", "cmos",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    page = (survey / "sol" / "report.html").read_text()
    found = sections(page)
    without = [title for title, text in found.items() if "Not made" in text]
    assert set(without) <= {"XPSP - SCR", "Correlation of bands", "Light curves"}
    assert len(re.findall(r"src='data:image/png;base64,iVBOR", page)) == len(re.findall("<img", page)) >= 10
    assert "<td class=n>12</td>" in found["Numbers"]
    cells = re.findall(r"<td class=n>([\d.]+)</td>", found["Beside exposures.ecsv"])
    assert 0.3 < float(cells[-1]) < 2  # the pull
    assert "OUTLIER" in found["Flags of measurements"]
    assert "not made: XPSP - SCR: no table of stars" in done.stderr
    again = xp("survey", "report", survey / "sol")
    assert again.exit_code == 2
    assert "exists" in again.stderr


@pytest.mark.slow
def test_a_plain_report_says_what_it_lacks(survey: Path, tmp_path: Path) -> None:
    done = xp("survey", "report", survey / "sol", "-o", tmp_path / "plain.html")
    assert done.exit_code == 0, done.stderr
    found = sections((tmp_path / "plain.html").read_text())
    assert "nothing to compare with (--compare)" in found["Histograms of zero-point differences"]
    assert "--held-out" in found["Exposures kept back"]
    assert "<img" in found["Residuals"]
    assert "<img" in found["Stars kept back"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "page.txt"), "suffix of a report is .html"),
        (("--camera", "pinhole"), "give cmos, ccd or the TOML file"),
        (("--period", "7"), "expected NAME=NUMBER"),
        (("--tiles", "SURVEY/early.parquet"), "none of the columns ra, dec, ebv, rv"),
        (("--compare", "SURVEY/early.parquet"), "no column zero_point"),
        (("--held-out", "SURVEY/early.parquet"), "no column 'residual'"),
    ],
)
def test_what_a_report_refuses(survey: Path, tmp_path: Path, options: tuple[str, str], message: str) -> None:
    given = [str(tmp_path / o) if o == "page.txt" else o.replace("SURVEY", str(survey)) for o in options]
    target = () if "-o" in options else ("-o", tmp_path / "r.html")
    done = xp("survey", "report", survey / "sol", *given, *target)
    assert done.exit_code == 2
    assert message in done.stderr
    assert files(tmp_path) == []


@pytest.mark.slow
def test_a_camera_of_ones_own(survey: Path, tmp_path: Path) -> None:
    (tmp_path / "camera.toml").write_text("diameter = 1.0\naltitude = 2000\n")
    page = ("-o", tmp_path / "r.html", "--camera")
    assert xp("survey", "report", survey / "sol", *page, tmp_path / "camera.toml").exit_code == 0
    (tmp_path / "wrong.toml").write_text("diametre = 1.0\n")
    done = xp("survey", "report", survey / "sol", "--overwrite", *page, tmp_path / "wrong.toml")
    assert done.exit_code == 2
    assert "did you mean diameter?" in done.stderr


def test_a_folder_that_is_no_solution(tmp_path: Path) -> None:
    done = xp("survey", "report", tmp_path)
    assert done.exit_code == 2
    assert "no solution" in done.stderr


def test_zero_points_in_other_units_and_without_a_systematic_error(tmp_path: Path) -> None:
    columns = {"exposure": np.array(["a", "b"]), "zero_point": np.array([24100.0, 24200.0])}
    errors = {"zero_point_error": np.array([3.0, 3.0]), "zero_point_systematic": np.array([4.0, np.nan])}
    units = dict.fromkeys(("zero_point", *errors), "mmag")
    write(tmp_path / "z.ecsv", Catalogue({**columns, **errors}, units))
    found = read_zero_points(tmp_path / "z.ecsv")
    np.testing.assert_allclose(found.value, [24.1, 24.2])
    np.testing.assert_allclose(found.error, [0.005, 0.003])


# --- homogenise -------------------------------------------------------------------------------------------------------


def methods(folder: Path) -> np.ndarray:
    """Tables of two methods over 60 tiles and two bands, the first of which lacks a tenth; the truth."""
    rng = np.random.default_rng(1)
    tiles = np.array([f"t{k:02d}" for k in range(60)])
    true = rng.normal(0, 0.03, (2, 60))
    for name, key, offset, noise in (("scr", "tile", 0.0, 0.001), ("xpsp", "exposure", -0.02, 0.003)):
        columns: dict[str, list[np.ndarray]] = {key: [], "band": [], "zero_point": [], "zero_point_error": []}
        for k, band in enumerate(("g", "r")):
            rows = np.arange(60) >= 6 if name == "scr" else np.arange(60) >= 0
            columns[key].append(tiles[rows])
            columns["band"].append(np.full(rows.sum(), band))
            columns["zero_point"].append((true[k] + offset * (k + 1) + noise * rng.normal(size=60))[rows])
            columns["zero_point_error"].append(np.full(rows.sum(), noise))
        table = {key_: np.concatenate(parts) for key_, parts in columns.items()}
        write(folder / f"{name}.ecsv", Catalogue({**table, "n_used": np.full(len(table["band"]), 50)}))
    return true


def test_two_methods_on_one_scale(tmp_path: Path) -> None:
    true = methods(tmp_path)
    call = ("survey", "homogenise", tmp_path / "scr.ecsv", tmp_path / "xpsp.ecsv", "-o", tmp_path / "both.ecsv")
    done = xp(*call)
    assert done.exit_code == 0, done.stderr
    assert "g: 54 by SCR, 6 by XPSP; SCR - XPSP = 20." in done.stderr
    c = read_catalogue(tmp_path / "both.ecsv").columns
    assert len(c["tile"]) == 120
    for k, band in enumerate(("g", "r")):
        mine = c["band"] == band
        pull = (c["zero_point"][mine] - true[k]) / np.hypot(c["zero_point_error"], c["zero_point_systematic"])[mine]
        assert np.std(pull[:6]) < 2.5
        assert np.std(pull[6:]) == pytest.approx(1, abs=0.3)
        assert (c["method"][mine][:6] == "XPSP").all()
    assert xp(*call).exit_code == 2
    assert xp(*call, "--overwrite", "--names", "SCR").exit_code == 2


def test_methods_without_a_common_tile(tmp_path: Path) -> None:
    methods(tmp_path)
    two = read_catalogue(tmp_path / "xpsp.ecsv")
    others = {**two.columns, "exposure": np.char.add("u", two.columns["exposure"])}
    write(tmp_path / "others.ecsv", Catalogue(others))
    done = xp("survey", "homogenise", tmp_path / "scr.ecsv", tmp_path / "others.ecsv", "-o", tmp_path / "both.ecsv")
    assert done.exit_code == 2
    assert "no tile in common" in done.stderr
    mixed = {k: np.concatenate([v[:6], two.columns[k][:7]]) for k, v in others.items()}
    write(tmp_path / "mixed.ecsv", Catalogue(mixed))
    done = xp("survey", "homogenise", tmp_path / "scr.ecsv", tmp_path / "mixed.ecsv", "-o", tmp_path / "both.ecsv")
    assert done.exit_code == 1
    assert "nothing ties the second to the first" in done.stderr
