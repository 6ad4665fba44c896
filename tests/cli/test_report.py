"""`xpjax survey report`: one page of a calibration."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import files, xp
from tests.survey.report.conftest import BANDS, N_FRAME, two_bands
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import read_catalogue, write

CONFIG = """
[columns]
star = "star"
exposure = "exposure"
band = "band"
time = "time"
airmass = "airmass"
x = "x"
y = "y"
magnitude = "magnitude"
magnitude_error = "magnitude_error"
model = "model"
color = "bp_rp"
[model]
position_order = 2
magnitude_order = 0
color_zero = 1.0
stacked_flat = true
bins = 8
"""


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bands of eight exposures, calibrated with cross-validation but for the last of each, for validation."""
    folder, o = tmp_path_factory.mktemp("survey"), two_bands()
    columns = {name: getattr(o, name) for name in ("star", "x", "y", "magnitude", "magnitude_error", "model")}
    of_frames = {name: getattr(o.frames, name)[o.frame] for name in ("exposure", "band", "time", "airmass")}
    late = np.isin(of_frames["exposure"], [f"e{N_FRAME - 1}"])
    for name, rows in (("early", ~late), ("late", late)):
        whole = columns | of_frames | {"bp_rp": o.color}
        write(folder / f"{name}.parquet", Catalogue({k: v[rows] for k, v in whole.items()}))
    names = np.array([f"e{k}" for k in range(N_FRAME)] * 2)
    truth = {"exposure": names, "band": np.repeat(BANDS, N_FRAME), "zero_point": np.full(len(names), 3.0)}
    write(folder / "truth.ecsv", Catalogue(truth))
    (folder / "survey.toml").write_text(CONFIG)
    call = ("survey", "calibrate", folder / "early.parquet", "--config", folder / "survey.toml")
    done = xp(*call, "-o", folder / "sol", "--folds", 2)
    assert done.exit_code == 0, done.stderr
    call = ("survey", "apply", folder / "late.parquet", "--solution", folder / "sol")
    done = xp(*call, "--new", "-o", folder / "validation.parquet")
    assert done.exit_code == 0, done.stderr
    return folder


def sections(page: str) -> dict[str, str]:
    return dict(re.findall(r"<h2>([^<]*)</h2>(.*?)</section>", page, re.DOTALL))


@pytest.mark.slow
def test_one_page_with_numbers_and_figures(survey: Path) -> None:
    assert "cross_validation.parquet" in files(survey / "sol")
    exposures = np.unique(read_catalogue(survey / "sol" / "zeropoints.ecsv").columns["exposure"])
    rng = np.random.default_rng(0)
    n = len(exposures)
    places = {"ra": rng.uniform(0, 9, n), "dec": rng.uniform(0, 9, n), "ebv": rng.random(n)}
    write(survey / "tiles.ecsv", Catalogue({"exposure": exposures, **places}))
    done = xp(
        "survey", "report", survey / "sol", "--catalogue", survey / "early.parquet",
        "--validation", survey / "validation.parquet", "--compare", survey / "truth.ecsv",
        "--tiles", survey / "tiles.ecsv", "--camera", "cmos",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    page = (survey / "sol" / "report.html").read_text()
    found = sections(page)
    assert {"XPSP - SCR", "The sky"}.isdisjoint(found)
    assert {"Validation exposures", "Repeatability", "Comparison with truth.ecsv"} <= set(found)
    images = re.findall(r"<img src='report_figures/([^']*)'", page)
    assert sorted(images) == files(survey / "sol" / "report_figures")
    assert len(images) >= 14
    assert f"<td class=n>{N_FRAME - 1}</td>" in found["Zero-points"]
    cells = re.findall(r"<td class=n>([\d.]+)</td>", found["Comparison with truth.ecsv"])
    assert 0.3 < float(cells[-1]) < 2  # the pull
    assert "STANDARD" in found["Selections and flags"]
    assert "no table of stars with magnitudes by SCR and XPSP (--stars)" in found["What could not be made"]
    assert "not made: XPSP - SCR: no table of stars" in done.stderr
    assert f"{len(images)} figures, to " in done.stderr
    again = xp("survey", "report", survey / "sol")
    assert again.exit_code == 2
    assert "exists" in again.stderr


@pytest.mark.slow
def test_a_plain_report_says_what_it_lacks(survey: Path, tmp_path: Path) -> None:
    (tmp_path / "camera.toml").write_text("diameter = 1.0\naltitude = 2000\n")
    call = ("survey", "report", survey / "sol", "-o", tmp_path / "plain.html", "--camera")
    done = xp(*call, tmp_path / "camera.toml")
    assert done.exit_code == 0, done.stderr
    assert files(tmp_path) == ["camera.toml", "plain.html", "plain_figures"]
    found = sections((tmp_path / "plain.html").read_text())
    lacking = found["What could not be made"]
    assert "Comparison of zero-points: nothing to compare with (--compare)" in lacking
    assert "--validation" in lacking
    assert "<img" in found["Residuals"]
    assert "held out" in found["Residuals"]
    assert "alt='Color terms'" in found["Terms of the model"]
    (tmp_path / "wrong.toml").write_text("diametre = 1.0\n")
    done = xp(*call, tmp_path / "wrong.toml", "--overwrite")
    assert done.exit_code == 2
    assert "did you mean diameter?" in done.stderr


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


def test_a_folder_that_is_no_solution(tmp_path: Path) -> None:
    done = xp("survey", "report", tmp_path)
    assert done.exit_code == 2
    assert "no solution" in done.stderr
