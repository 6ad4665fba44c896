"""`xpjax survey report`: one page of a calibration."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import files, xp
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import read_catalogue, write

pytestmark = pytest.mark.filterwarnings("ignore:.*Axes.*")


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated survey, calibrated with cross-validation, and two exposures for validation."""
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
        "survey",
        "apply",
        folder / "late.parquet",
        "--solution",
        folder / "sol",
        "--new",
        "-o",
        folder / "validation.parquet",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return folder


def sections(page: str) -> dict[str, str]:
    return dict(re.findall(r"<h2>([^<]*)</h2>(.*?)(?=<h2>|</body>)", page, re.DOTALL))


@pytest.mark.slow
def test_one_page_with_numbers_and_figures(survey: Path) -> None:
    assert "cross_validation.parquet" in files(survey / "sol")
    exposures = read_catalogue(survey / "sol" / "zeropoints.ecsv").columns["exposure"]
    rng = np.random.default_rng(0)
    n = len(exposures)
    places = {"ra": rng.uniform(0, 9, n), "dec": rng.uniform(0, 9, n), "ebv": rng.random(n)}
    write(survey / "tiles.ecsv", Catalogue({"exposure": exposures, **places}))
    done = xp(
        "survey", "report", survey / "sol", "--catalogue", survey / "early.parquet",
        "--validation", survey / "validation.parquet", "--compare", survey / "mock" / "exposures.ecsv",
        "--tiles", survey / "tiles.ecsv", "--camera", "cmos",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    page = (survey / "sol" / "report.html").read_text()
    found = sections(page)
    without = [title for title, text in found.items() if "Not made" in text]
    assert set(without) <= {"XPSP - SCR", "Correlation of bands", "Light curves"}
    assert len(re.findall(r"src='data:image/png;base64,iVBOR", page)) == len(re.findall("<img", page)) >= 10
    assert "<td class=n>12</td>" in found["Numbers"]
    cells = re.findall(r"<td class=n>([\d.]+)</td>", found["Comparison with exposures.ecsv"])
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
    assert "--validation" in found["Validation exposures"]
    assert "<img" in found["Residuals"]
    assert "<img" in found["Cross-validation"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "page.txt"), "suffix of a report is .html"),
        (("--camera", "pinhole"), "give cmos, ccd or the TOML file"),
        (("--period", "7"), "expected NAME=NUMBER"),
        (("--tiles", "SURVEY/early.parquet"), "none of the columns ra, dec, ebv, rv"),
        (("--compare", "SURVEY/early.parquet"), "no column zero_point"),
        (("--validation", "SURVEY/early.parquet"), "no column 'residual'"),
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
