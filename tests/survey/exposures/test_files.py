"""Solutions and calibrated measurements as files."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.survey.exposures.helpers import SETTINGS, nights
from xpjax.io.catalogue import write
from xpjax.survey.exposures.apply import apply_calibration
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.files import VERSION, read_calibrated, read_solution, write_solution
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.observations import Origin


@pytest.mark.parametrize("settings", [SETTINGS, dataclasses.replace(SETTINGS, numerical_flat=True, stacked_flat=True)])
def test_files_and_application_give_the_same_magnitudes(settings: CalibrationSettings, tmp_path: Path) -> None:
    o = nights([300] * 6)
    solution, rows = calibrate(o, settings)
    write_solution(tmp_path / "solution.h5", solution)
    again = read_solution(tmp_path)
    assert again.settings == solution.settings
    assert dict(again.record) == dict(solution.record)
    applied = apply_calibration(again, o)
    for name in ("magnitude", "magnitude_error", "systematic_error", "residual"):
        np.testing.assert_allclose(getattr(applied, name), getattr(rows, name), rtol=1e-12, atol=1e-15)
    with pytest.raises(FileExistsError, match="exists"):
        write_solution(tmp_path / "solution.h5", solution)
    (tmp_path / "other.h5").write_bytes(b"no")
    with pytest.raises(ValueError, match="no solution of a survey"):
        read_solution(tmp_path / "other.h5")


def test_the_format_of_solutions() -> None:
    assert VERSION == 1


def test_measurements_are_read_back(tmp_path: Path) -> None:
    o = nights([60] * 3)
    origin = Origin(("f.fits",), np.zeros(len(o), np.int32), np.arange(len(o)), {"ra": o.x / 100, "dec": o.y / 100})
    o = dataclasses.replace(o, origin=origin, amplifier=np.arange(len(o), dtype=np.int32) % 2)
    _, rows = calibrate(o, SETTINGS, record={"amplifiers": '["left", "right"]'})
    assert rows.catalogue().columns["amplifier"][:2].tolist() == ["left", "right"]
    for name in ("rows.parquet", "rows.ecsv", "rows.fits"):
        write(tmp_path / name, rows)
        again = read_calibrated(tmp_path / name)
        one, two = rows.catalogue().columns, again.catalogue().columns
        assert list(one) == list(two)
        for column, values in one.items():
            np.testing.assert_array_equal(two[column], values)
        part = again[again.magnitude < 18]
        assert len(part) == len(part.to_table()) < len(rows)
    write(tmp_path / "zero.ecsv", calibrate(o, SETTINGS)[0])
    with pytest.raises(ValueError, match="no table of calibrated measurements: it has no column"):
        read_calibrated(tmp_path / "zero.ecsv")
