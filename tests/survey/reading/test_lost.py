"""What one exposure lacks, or has wrong, costs that exposure alone, and the account names it with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from tests.survey.reading.helpers import COLUMNS, N, config, data
from xpjax.core.errors import XpjaxError
from xpjax.survey.observations import REFUSED, FrameFlag
from xpjax.survey.reading.calibration import apply_survey, calibrate_survey
from xpjax.survey.reading.check import check_survey
from xpjax.survey.reading.config import SurveyConfig
from xpjax.survey.reading.parts import plan_units, read_batch, tell
from xpjax.survey.reading.tables import read_observations

HEADERS = {"band": {"header": "FILTER"}, "airmass": {"header": "AIRMASS"}, "time": {"header": "MJD-OBS"}}
SOUND = {"FILTER": "g", "AIRMASS": 1.2, "MJD-OBS": 60000.5}


def written(folder: Path, *headers: dict[str, Any]) -> list[Path]:
    """A file for each header, whose entries differ from the sound ones as it says; None for no keyword."""
    out = []
    for k, own in enumerate(headers):
        table = fits.BinTableHDU.from_columns(
            [fits.Column(name, "K" if name == "source_id" else "D", array=values) for name, values in data().items()]
        )
        table.header.update({key: value for key, value in {**SOUND, **own}.items() if value is not None})
        table.writeto(folder / f"e{k}.fits")
        out.append(folder / f"e{k}.fits")
    return out


def headers() -> SurveyConfig:
    return config({**COLUMNS, **HEADERS}, model={"color_order": 0, "magnitude_order": 0})


@pytest.mark.parametrize("header", [{"FILTER": None}, {"FILTER": " "}])
def test_a_header_without_a_band_costs_its_exposure(tmp_path: Path, header: dict[str, Any]) -> None:
    files = written(tmp_path, {}, header, {})
    found = check_survey(files, headers())
    assert found.n_standard.tolist() == [N, 0, N]
    assert found.exit_status == 1
    said = "\n".join(found.lines())
    assert f"WARNING: 1 of 3 tables does not say the band, not calibrated: {files[1]}" in said
    with pytest.raises(XpjaxError, match="FILTER for band"):
        check_survey(files[1:2], headers())


@pytest.mark.slow
def test_a_calibration_is_not_complete_then(tmp_path: Path) -> None:
    found = calibrate_survey(written(tmp_path, {}, {"FILTER": None}), headers())
    assert not found.complete
    assert np.isfinite(found.fits.zero_point).tolist() == [True, False]


def test_a_name_of_a_file_without_a_band_costs_its_exposure(tmp_path: Path) -> None:
    columns = {**COLUMNS, "band": {"file": "(0)"}}
    found = check_survey(written(tmp_path, {}, {}), config(columns, model={"color_order": 0}))
    assert found.n_standard.tolist() == [N, 0]
    assert "e1.fits: nothing in its name is the band, (0)" in "\n".join(found.lines())


@pytest.mark.parametrize("airmass", [0.0, 0.5, 99.0, "n/a", None])
def test_an_airmass_that_is_none_is_not_known(tmp_path: Path, airmass: Any) -> None:
    files = written(tmp_path, {}, {"AIRMASS": airmass}, {"AIRMASS": 0.9985})
    reading = read_observations(files, headers())
    np.testing.assert_equal(reading.observations.frames.airmass, [1.2, np.nan, 1.0])
    said = "\n".join(reading.account.lines())
    if isinstance(airmass, float):
        assert f"WARNING: impossible airmasses, expected 1 to 20, are taken as not known: e1 g ({airmass:g})" in said
    else:
        assert "WARNING: 1 of 3 tables does not say the airmass, airmass not known" in said


@pytest.mark.slow
def test_a_zero_point_without_airmass_is_flagged_beside_others(tmp_path: Path) -> None:
    files = written(tmp_path, {}, {"AIRMASS": 0.0}, {})
    found = calibrate_survey(files, headers())
    flagged = (found.zero_points().columns["status"] & np.uint32(FrameFlag.NO_AIRMASS)) > 0
    assert flagged.tolist() == [False, True, False]
    assert np.isfinite(found.fits.zero_point).all()
    alone = calibrate_survey(files[1:2], headers())
    assert not (alone.fits.status & np.uint32(FrameFlag.NO_AIRMASS)).any()


@pytest.mark.slow
@pytest.mark.parametrize("airmass", [None, 0.0])
def test_one_further_exposure_without_airmass_is_calibrated_and_flagged(tmp_path: Path, airmass: Any) -> None:
    one, other, third = (tmp_path / name for name in ("one", "other", "third"))
    for folder in (one, other, third):
        folder.mkdir()
    solution = calibrate_survey(written(one, {}, {}), headers()).solution
    found = apply_survey(written(other, {"AIRMASS": airmass}), solution, config=headers(), new=True, exposure="later")
    assert (found.fits.status & np.uint32(FrameFlag.NO_AIRMASS)).all()
    assert np.isfinite(found.calibrated.magnitude).all()
    with pytest.raises(XpjaxError, match="FILTER for band"):
        apply_survey(written(third, {"FILTER": None}), solution, config=headers(), new=True, exposure="later")


@pytest.mark.slow
def test_an_exposure_that_is_not_calibrated_says_why(tmp_path: Path) -> None:
    found = calibrate_survey({"e0": data(), "e1": {**data(), "MOD": np.full(N, np.nan)}}, config())
    said = [line for line in found.lines() if line.startswith("e1: ")]
    assert said == ["e1: not calibrated. " + " ".join(bit.meaning for bit in REFUSED)]
    assert "nan" not in "\n".join(found.lines())


def test_parts_of_a_survey_tell_the_same(tmp_path: Path) -> None:
    files = written(tmp_path, {}, {"FILTER": None, "AIRMASS": 0.0}, {})
    known = {path.stem: str(path) for path in files}
    batches = [read_batch([path], headers(), known=known) for path in files]
    plan = plan_units([tell(batch) for batch in batches], "band")
    whole = read_observations(files, headers()).account.lines()
    assert [line for line in plan.account.lines() if line.startswith("WARNING")] == [
        line for line in whole if line.startswith("WARNING")
    ]
    with pytest.raises(XpjaxError, match="no header keyword FILTER"):
        plan_units([tell(batches[1])], "band")


def test_bands_are_left_out(tmp_path: Path) -> None:
    files = written(tmp_path, {}, {"FILTER": "u"}, {"FILTER": "r"})
    chosen = config({**COLUMNS, **HEADERS}, model={"color_order": 0}, selection={"bands": ["g", "r"]})
    reading = read_observations(files, chosen)
    assert reading.observations.frames.band.tolist() == ["g", "r"]
    assert len(reading.observations) == 2 * N
    assert f"band u is left out by [selection] bands: {N} rows" in reading.account.lines()
    with pytest.raises(XpjaxError, match=r"no table has any of the bands \['z'\]"):
        read_observations(files, config({**COLUMNS, **HEADERS}, selection={"bands": ["z"]}))
    named = {**COLUMNS, "magnitude": "MAG_{band}", "bands": ["g", "r"]}
    with pytest.raises(XpjaxError, match=r"\[selection\] bands has 'u', which is no band of the survey"):
        config(named, selection={"bands": ["u"]})
