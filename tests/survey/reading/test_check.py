"""Checks before a run: what they count, what they find odd, and that a run does what they said."""

from __future__ import annotations

import numpy as np
import pytest

from tests.survey.reading.helpers import BY_POSITION, PLACED, config, data, standards
from xpjax.core.errors import XpjaxError
from xpjax.survey.observations import FrameFlag
from xpjax.survey.reading.calibration import calibrate_survey
from xpjax.survey.reading.check import check_survey


def said(found: object) -> str:
    return "\n".join(found.lines())  # type: ignore[attr-defined]


def test_rows_are_counted_once_by_their_first_reason() -> None:
    table = data(12)
    table["MAG"][:2], table["ERR"][2], table["MOD"][3] = 99.0, 0.0, np.nan
    found = check_survey({"e": table}, config())
    assert found.lost == {
        "no magnitude": 2, "no model magnitude, or no color": 1, "no magnitude error above zero": 1,
    }  # fmt: skip
    assert found.n_standard.tolist() == [8]
    assert found.exit_status == 0


@pytest.mark.slow
def test_a_run_refuses_what_the_check_said() -> None:
    good, bad = data(12), data(12)
    bad["MOD"][:] = np.nan
    tables = {"good": good, "bad": bad}
    found = check_survey(tables, config())
    assert found.exit_status == 1
    assert found.lines()[-1] == "a run would refuse 1 of 2 frames"
    done = calibrate_survey(tables, config())
    assert np.array_equal(found.refused, ~np.isfinite(done.fits.zero_point))
    assert np.array_equal(found.n_standard, done.fits.n_standard)
    assert check_survey({"bad": bad}, config()).exit_status == 2
    with pytest.raises(XpjaxError, match="no column 'NONE'"):
        check_survey(tables, config({"star": "source_id", "magnitude": "NONE", "model": "MOD", "color": "COL"}))


@pytest.mark.slow
def test_terms_are_those_of_the_fit() -> None:
    """One color, stars along a line, and few stars: what the fit finds with them."""
    tables = {name: data(60, seed=k) for k, name in enumerate(("sound", "one color", "a line", "few"))}
    tables["one color"]["COL"][:] = 1.0
    tables["a line"]["Y"] = tables["a line"]["X"].copy()
    tables["few"] = {name: values[:9] for name, values in tables["few"].items()}
    columns = {"star": "source_id", "magnitude": "MAG", "magnitude_error": "ERR", "model": "MOD", "color": "COL",
               "x": "X", "y": "Y"}  # fmt: skip
    rng = np.random.default_rng(1)
    for table in tables.values():
        table["COL"] = table["COL"] * 1.0
        if table is not tables["one color"]:
            table["COL"] = rng.uniform(0.5, 1.5, len(table["COL"]))
    chosen = config(columns, model={"position_order": 2, "color_order": 2, "magnitude_order": 0})
    found, done = check_survey(tables, chosen), calibrate_survey(tables, chosen)
    assert np.array_equal(found.n_term, done.fits.active.sum(axis=1))
    bits = FrameFlag.LOWERED | FrameFlag.ONE_COLOR | FrameFlag.ONE_POSITION
    assert np.array_equal(found.status & np.uint32(bits), done.fits.status & np.uint32(bits))
    assert "1 frame ONE_COLOR: The standards have one color" in said(found)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_an_offset_of_all_positions_is_told(tmp_path: object, shift: float) -> None:
    stars = data(60)
    standards(tmp_path, {name: stars[name] for name in ("source_id", "RA", "DEC")})  # type: ignore[arg-type]
    table = {**stars, "RA": stars["RA"] + shift / 3600 / np.cos(np.radians(2.0))}
    found = check_survey({"e": table}, config(PLACED, tmp_path, standards=BY_POSITION, model={"color_order": 0}))  # type: ignore[arg-type]
    assert f"separations from the standards: median {shift:.3f}" in said(found)
    assert ("positions are off by 0.50 arcsec" in said(found)) == bool(shift)


def test_numbers_of_another_size_are_told() -> None:
    table = data(40)
    table["ERR"] = np.random.default_rng(0).uniform(5, 30, 40)
    found = check_survey({"e": table}, config({**config().bands[""], "airmass": 0.2}))
    assert "are they in percent or millimagnitudes?" in said(found)
    assert "impossible airmasses, expected 1 to 20, are taken as not known: e (0.2)" in said(found)
    assert "standards on a frame: 40\n" in said(found)
    table = {**data(40), "COL": np.full(40, 0.8)}
    assert "colors of the standards span 0.80 to 0.80 mag only" in said(check_survey({"e": table}, config()))
    assert "models have no errors (no column has them)" in said(check_survey({"e": data(40)}, config()))


def test_exposures_are_a_table() -> None:
    found = check_survey({"a": data(12), "b": data(9)}, config())
    table = found.exposures().to_table()
    assert table["exposure"].tolist() == ["a", "b"]
    assert table["n_row"].tolist() == [12, 9]
    assert table["n_standard"].description
