"""Evidence from files and from memory, and the page in one call."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from xpjax.core.records import Catalogue
from xpjax.io.catalogue import write
from xpjax.survey import SimulatedSurvey, SurveySetup, simulate_survey
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.files import write_solution
from xpjax.survey.exposures.model import ExposureModel
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.noise import CCD, Camera
from xpjax.survey.reading import SurveyCalibration, calibrate_survey
from xpjax.survey.report import Evidence, gather_evidence, write_report
from xpjax.survey.report.camera import load_camera

CONFIG = """
[columns]
star = "star"
exposure = "exposure"
detector = "detector"
band = "band"
x = "x"
y = "y"
magnitude = "magnitude"
magnitude_error = "magnitude_error"
model = "model"
[model]
position_order = 1
color_order = 0
[camera]
diameter = 1.5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    made = simulate_survey(SurveySetup(n_exposure=3, n_star=80, n_night=1, bands=("g",), seed=1), folder / "mock")
    rows, _ = made.observe()
    frames = rows.frames
    columns = {name: getattr(rows, name) for name in ("star", "x", "y", "magnitude", "magnitude_error", "model")}
    names = {"exposure": frames.exposure, "detector": frames.detector, "band": frames.band}
    columns |= {name: values[rows.frame] for name, values in names.items()}
    write(folder / "observations.parquet", Catalogue(columns))
    (folder / "survey.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> SurveyCalibration:
    table, config = folder / "observations.parquet", folder / "survey.toml"
    return calibrate_survey(table, config, folder / "solution", folds=2)


def same(one: Evidence, two: Evidence) -> None:
    for name in ("residual", "magnitude", "frame"):
        np.testing.assert_array_equal(one.rows[name], two.rows[name])
    for name, column in one.catalogue().columns.items():
        np.testing.assert_array_equal(column, two.catalogue().columns[name])


def test_colors_of_all_stars_are_among_the_products(tmp_path: Path) -> None:
    """Of stars that are no standards too, and beside units that have none."""
    o, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, n_night=1, bands=("g",), seed=1)).observe()
    o = dataclasses.replace(o, model=np.where(o.star % 3 == 0, np.nan, o.model))
    settings = CalibrationSettings(ExposureModel(position_order=1, color_order=0))
    solution, calibrated = calibrate(o, settings)
    write_solution(tmp_path / "solution.h5", solution)
    write(tmp_path / "calibrated.parquet", calibrated)
    found = gather_evidence(tmp_path).rows
    np.testing.assert_array_equal(found["color"], o.color)
    assert np.isfinite(found["color"][np.isnan(found["residual"])]).any()
    first = len(o) // 2
    (tmp_path / "calibrated.parquet").unlink()
    table = calibrated.catalogue()
    for name, part, lost in (("a", slice(first), ()), ("b", slice(first, None), ("color",))):
        (tmp_path / "units" / name).mkdir(parents=True)
        columns = {key: column[part] for key, column in table.columns.items() if key not in lost}
        write(tmp_path / "units" / name / "calibrated.parquet", Catalogue(columns))
    units = gather_evidence(tmp_path).rows
    np.testing.assert_array_equal(units["color"][:first], o.color[:first])
    known, standard = (np.isfinite(units[name])[first:] for name in ("color", "residual"))
    assert not (known & ~standard).any()  # of the standards that the solution holds
    assert known.sum() > 0.9 * standard.sum()


@pytest.mark.slow
def test_files_and_memory_are_the_same_evidence(folder: Path, found: SurveyCalibration) -> None:
    evidence = gather_evidence(folder / "solution", compare=[folder / "mock" / "truth" / "exposures.ecsv"])
    same(gather_evidence(found), evidence)
    assert np.isfinite(evidence.catalogue().columns["cross_validation_rms"]).all()
    assert np.isfinite(evidence.differences["exposures.ecsv"]).all()
    assert evidence.camera is not None
    assert evidence.camera.diameter == 1.5  # of survey.toml
    assert gather_evidence(folder / "solution", camera="ccd").camera == CCD
    table = evidence.to_table()
    assert table["residual_rms"].unit == "mag"
    assert all(table[name].description for name in table.colnames)
    assert len(repr(evidence)) < 2000


@pytest.mark.slow
def test_a_report_is_one_call(folder: Path, found: SurveyCalibration, tmp_path: Path) -> None:
    made = write_report(folder / "solution", compare=[folder / "mock" / "truth" / "exposures.ecsv"])
    assert "Held-out residuals" not in made.missing
    assert made.path == folder / "solution" / "report.html"
    page = made.path.read_text()
    assert "Comparison with exposures.ecsv" in page
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_report(folder / "solution")
    with pytest.raises(ValueError, match="give output="):
        write_report(found)
    with pytest.raises(ValueError, match=r"suffix of a report is \.html"):
        write_report(found, tmp_path / "page.txt")
    assert not list(tmp_path.iterdir())


def test_a_calibration_in_memory_is_evidence() -> None:
    rows, _ = SimulatedSurvey(SurveySetup(n_exposure=2, n_star=60, n_night=1, seed=1)).observe()
    evidence = gather_evidence(calibrate(rows, CalibrationSettings(ExposureModel(1, 0))), periods={"7": 0.5})
    assert len(evidence.rows["x"]) == len(rows)
    assert evidence.periods == {"7": 0.5}


def test_cameras_by_name_and_from_files(tmp_path: Path) -> None:
    assert load_camera("CMOS") == Camera()
    for name, text in (("alone", "diameter = 2\n"), ("section", "[camera]\ndiameter = 2.0\n")):
        (tmp_path / name).write_text(text)
        assert load_camera(tmp_path / name) == Camera(diameter=2.0)
    (tmp_path / "wrong").write_text("diametre = 1.0\n")
    with pytest.raises(ValueError, match=r"did you mean diameter\?"):
        load_camera(tmp_path / "wrong")
    (tmp_path / "text").write_text('diameter = "big"\n')
    with pytest.raises(ValueError, match="expected a number"):
        load_camera(tmp_path / "text")
    with pytest.raises(ValueError, match="give cmos, ccd or the TOML file"):
        load_camera("pinhole")
