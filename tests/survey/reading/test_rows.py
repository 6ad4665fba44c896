"""What columns mean: units, cuts, kept columns."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table

from tests.survey.reading.helpers import (
    BY_POSITION,
    COLUMNS,
    FIRST_ID,
    GAP,
    PLACED,
    N,
    config,
    data,
    pick,
    standards,
    with_gap,
)
from xpjax.survey.observations import RowFlag
from xpjax.survey.reading.tables import read_observations


def test_the_survey_keeps_its_columns_and_shared_names_say_whose(tmp_path: Path) -> None:
    table = data()
    other = {k: v + 1 for k, v in pick(table, "MAG", "ERR", "MOD", "COL").items()}
    standards(tmp_path, pick({**other, "source_id": table["source_id"]}, rows=slice(6)))
    said = {"file": "ref.fits"}
    with pytest.raises(ValueError, match=r"columns.color = 'COL': both .* \"survey.COL\" or \"standards.COL\""):
        read_observations({"e": table}, config(folder=tmp_path, standards=said))
    chosen = config({**COLUMNS, "model": "standards.MOD", "color": "survey.COL"}, tmp_path, standards=said)
    o = read_observations({"e": table}, chosen).observations
    np.testing.assert_allclose(o.magnitude, table["MAG"])
    np.testing.assert_allclose(o.magnitude_error, table["ERR"])
    np.testing.assert_allclose(o.color, table["COL"])
    np.testing.assert_allclose(o.model[:6], table["MOD"][:6] + 1)
    assert np.isnan(o.model[6:]).all()


def test_units_are_converted_or_refused(tmp_path: Path) -> None:
    table = Table(data())
    table["ERR"] = table["ERR"] * 1000 * u.mmag
    o = read_observations({"e": table}, config()).observations
    np.testing.assert_allclose(o.magnitude_error, 0.01)
    table["ERR"] = data()["ERR"] * u.Jy
    with pytest.raises(ValueError, match=r"'ERR'.*Jy"):
        read_observations({"e": table}, config())
    there = Table({"source_id": data()["source_id"], "MOD": data()["MOD"]})
    there["ra"], there["dec"] = np.deg2rad(data()["RA"]) * u.rad, np.deg2rad(data()["DEC"]) * u.rad
    there.write(tmp_path / "ref.fits")
    seen = pick(data(), "RA", "DEC", "MAG", "ERR")
    reading = read_observations({"e": seen}, config(PLACED, tmp_path, standards=BY_POSITION))
    assert reading.account.n_matched == N
    np.testing.assert_array_equal(reading.observations.star, data()["source_id"])


@pytest.mark.parametrize(
    "key", ["star", "x", "magnitude_error", "model", "color", "exposure", "night", "time", "airmass", "flags", "ruwe"]
)
def test_a_column_that_is_named_must_exist(key: str) -> None:
    mapping = {**COLUMNS, "x": "X", "y": "Y", key: "absent"}
    with pytest.raises(ValueError, match="memory has no column 'absent' for"):
        read_observations({"e": data()}, config(mapping))


def test_cuts_that_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the cut 'ruwe' cannot be made: memory has no column ruwe"):
        read_observations({"e": data()}, config(selection={"cuts": ["ruwe"]}))
    reading = read_observations({"e": data()}, config(selection={"cuts": ["mini_sitian"]}))
    assert "cut flags did not run: no column flags" in reading.account.lines()


def test_gaias_corrections_must_change_something(tmp_path: Path) -> None:
    Table({"G": [10.0, 20.0], "d_G": [0.01, 0.01], "d_BP": [0.02, 0.02], "d_RP": [0.05, 0.05]}).write(
        tmp_path / "c.ecsv"
    )
    table = data()
    gaia = {f"phot_{b}_mean_mag": table["MOD"] + k for k, b in enumerate(("g", "bp", "rp"))}
    standards(tmp_path, {"source_id": table["source_id"], "MOD": table["MOD"], **gaia})
    seen = pick(table, "source_id", "MAG", "ERR")
    said = {"standards": {"file": "ref.fits"}, "gaia": {"corrections": "c.ecsv"}}
    for prefix in ("", "standards."):
        color = [f"{prefix}phot_bp_mean_mag", f"{prefix}phot_rp_mean_mag"]
        o = read_observations({"e": seen}, config({**COLUMNS, "color": color}, tmp_path, **said)).observations
        np.testing.assert_allclose(o.color, -1 + 0.03)
    with pytest.raises(ValueError, match="corrections have no effect: neither"):
        read_observations({"e": seen}, config({**COLUMNS, "color": "MOD"}, tmp_path, **said))


def test_what_is_kept_goes_home_as_it_was(tmp_path: Path) -> None:
    more = {"count": np.arange(N), "remark": [f"n° {k}" for k in range(N)], "magnitude": np.arange(N) / 7}
    path = with_gap(tmp_path / "f.parquet", {**data(), **more, "big": FIRST_ID + np.arange(N)}, "count", "big")
    keep = ["count", "remark", "magnitude", "big"]
    reading = read_observations([path], config(), keep=keep)
    o = reading.observations
    assert o.origin is not None
    home = o.origin.columns
    assert np.isnan(home["count"][GAP])
    assert home["count"][GAP + 1] == GAP + 1
    assert home["big"].dtype == np.int64
    assert home["big"][GAP + 1] == FIRST_ID + GAP + 1
    assert home["remark"].tolist() == more["remark"]
    assert [Path(name).name for name in o.origin.files] == ["f.parquet"]
    with pytest.raises(ValueError, match="no column 'remarks' for keep; did you mean remark"):
        read_observations([path], config(), keep=["remarks"])


def test_flags_of_rows_that_a_cut_takes() -> None:
    table = {**data(), "FLAGS": np.arange(N) % 3}
    chosen = config({**COLUMNS, "flags": "FLAGS"}, selection={"cuts": ["flags"]})
    o = read_observations({"e": table}, chosen).observations
    np.testing.assert_array_equal((o.excluded & np.uint32(RowFlag.CUT)) > 0, table["FLAGS"] > 0)
