"""Epoch spectra: rows by source and transit, whatever the format and whoever wrote the times."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpjax
from xpjax.core.archive import TIME_ORIGIN, TRANSIT
from xpjax.core.errors import XpjaxError
from xpjax.core.status import Status
from xpjax.io import catalogue
from xpjax.xp import SourceTable
from xpjax.xp.read.layout import repeated

TRANSITS = 5
LIMIT = 2**53


@pytest.fixture(scope="module")
def epochs() -> SourceTable:
    made = xpjax.simulate_sources(4, seed=2, transits=TRANSITS)
    return dataclasses.replace(made, columns={**made.columns, "bp_flags": np.arange(len(made), dtype=np.int16)})


@pytest.fixture(scope="module")
def columns(epochs: SourceTable) -> dict[str, Any]:
    """As a dict of columns, for wrong and odd inputs."""
    return dict(epochs[:6].catalogue().columns)


def test_a_table_of_epoch_spectra_says_so(epochs: SourceTable) -> None:
    assert epochs.is_epoch
    assert list(epochs.transits) == ["transit_id", "time"]
    assert "20 epoch spectra of 4 sources" in repr(epochs)
    assert list(epochs.catalogue().columns)[:3] == ["source_id", "transit_id", "time"]
    assert epochs.to_table()["time"].unit == "d"
    mean = xpjax.simulate_sources(2)
    assert not mean.is_epoch
    assert mean.transits == {}
    assert "epoch" not in repr(mean)


@pytest.mark.parametrize("suffix", [s for s in catalogue.SUFFIXES if s != ".xml"])
def test_every_format_gives_the_rows_back(epochs: SourceTable, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"epochs{suffix}"
    xpjax.write(path, epochs)
    found = xpjax.read(path, dtype=np.float32)
    assert found.columns["transit_id"].dtype == np.int64
    assert (found.columns["transit_id"] > LIMIT).all()
    for name in ("transit_id", "time", "bp_flags"):
        np.testing.assert_array_equal(found.columns[name], epochs.columns[name])
    np.testing.assert_array_equal(found.source_id, epochs.source_id)
    np.testing.assert_array_equal(found.coefficients.value, epochs.coefficients.value)
    np.testing.assert_array_equal(found.status, epochs.status)


def test_kept_columns_leave_transits(epochs: SourceTable, tmp_path: Path) -> None:
    xpjax.write(tmp_path / "epochs.parquet", epochs)
    for keep in ([], ["ra"], ["time", "ra"]):
        found = xpjax.read(tmp_path / "epochs.parquet", keep=keep)
        assert list(found.columns) == ["transit_id", "time", *(["ra"] if keep else [])]
    assert list(xpjax.read(epochs, keep=["ra"]).columns) == ["transit_id", "time", "ra"]


def test_binary2_with_arrays_of_any_length(epochs: SourceTable, tmp_path: Path) -> None:
    """As DataLink sends them: BINARY2, arrays of variable length, empty where an XP is missing, masks as int16."""
    from astropy.table import MaskedColumn, Table

    release, value = epochs.release, epochs.coefficients.value
    table = Table({"source_id": epochs.source_id, "transit_id": epochs.columns["transit_id"]})
    table["obs_time"] = MaskedColumn(epochs.columns["time"], unit="d", mask=np.arange(len(epochs)) == 3)
    table["bp_flags"] = MaskedColumn(np.where(np.arange(len(epochs)) % 2, -32768, 5).astype(np.int16))
    for xp, rows in zip(release.xp, release.slices, strict=True):
        there = [row[~np.isnan(row)].astype(float) for row in value[:, rows]]
        cells = [np.ma.array(row, mask=np.zeros(len(row), bool)) for row in there]
        table[f"{xp}_coefficients"] = np.empty(len(epochs), object)
        table[f"{xp}_coefficients"][:] = cells
    table.write(tmp_path / "epochs.vot", format="votable", tabledata_format="binary2")
    found = xpjax.read(tmp_path / "epochs.vot", dtype=np.float32)
    np.testing.assert_array_equal(found.coefficients.value, value)
    np.testing.assert_array_equal(found.columns["transit_id"], epochs.columns["transit_id"])
    np.testing.assert_array_equal(found.columns["bp_flags"][:2], [5, -32768])
    expected = epochs.columns["time"].copy()
    expected[3] = np.nan
    np.testing.assert_array_equal(found.columns["time"], expected)
    missing = np.uint32(Status.BP_MISSING | Status.RP_MISSING)
    np.testing.assert_array_equal(found.status & missing, epochs.status & missing)
    np.testing.assert_array_equal((found.status & np.uint32(Status.TIME_MISSING)) > 0, np.arange(len(epochs)) == 3)


def test_csv_with_empty_cells(columns: dict[str, Any], epochs: SourceTable, tmp_path: Path) -> None:
    path = tmp_path / "epochs.csv"
    xpjax.write(path, epochs[:4])
    lines = path.read_text().splitlines()
    names = lines[0].split(",")
    assert names[:3] == ["source_id", "transit_id", "time"]
    cells = lines[1].split(",", 3)
    lines[1] = ",".join([cells[0], "", "", cells[3]])
    path.write_text("\n".join(lines))
    found = xpjax.read(path)
    assert found.columns["transit_id"][0] == 0
    assert np.isnan(found.columns["time"][0])
    assert Status(int(found.status[0])) & Status.TRANSIT_MISSING
    assert Status(int(found.status[0])) & Status.TIME_MISSING
    np.testing.assert_array_equal(found.columns["transit_id"][1:], epochs.columns["transit_id"][1:4])


def test_duplicates_are_pairs(columns: dict[str, Any]) -> None:
    twice = np.uint32(Status.DUPLICATE)
    found = xpjax.read(columns)
    assert not (found.status & twice).any()
    again = xpjax.read([found, found[2:4]])
    np.testing.assert_array_equal((again.status & twice) > 0, np.arange(8) > 5)
    ids, transits = np.array([1, 1, 2, 1, 0, 0, 1]), np.array([7, 8, 7, 7, 7, 7, 0])
    np.testing.assert_array_equal(repeated(ids, transits), [0, 0, 0, 1, 0, 0, 0])


@pytest.mark.parametrize("spelling", ["TRANSIT_ID", "transitid"])
def test_spellings(columns: dict[str, Any], spelling: str) -> None:
    changed = {spelling if name == "transit_id" else name: column for name, column in columns.items()}
    changed["g_transit_time"] = changed.pop("time")
    found = xpjax.read(changed)
    np.testing.assert_array_equal(found.columns["transit_id"], columns["transit_id"])
    np.testing.assert_array_equal(found.columns["time"], columns["time"])
    assert spelling not in {*found.columns} - {*TRANSIT}


def test_the_first_time_that_there_is(columns: dict[str, Any]) -> None:
    time = columns["time"]
    missing = np.arange(6) < 2
    changed = {name: column for name, column in columns.items() if name != "time"}
    changed["bp_obs_time"], changed["rp_obs_time"] = np.where(missing, np.nan, time), time + 1
    found = xpjax.read(changed)
    np.testing.assert_array_equal(found.columns["time"], np.where(missing, time + 1, time))
    del changed["bp_obs_time"], changed["rp_obs_time"]
    found = xpjax.read(changed)
    assert np.isnan(found.columns["time"]).all()
    assert (found.status & np.uint32(Status.TIME_MISSING)).all()


def test_times_of_every_kind(columns: dict[str, Any], tmp_path: Path) -> None:
    from astropy import units
    from astropy.table import Table
    from astropy.time import Time

    days = columns["time"]
    moment = Time(TIME_ORIGIN, days, format="jd", scale="tcb")
    for time, accuracy in (
        (days * 86400 * units.s, 1e-9),
        (TIME_ORIGIN + days, 1e-9),
        (TIME_ORIGIN - 2400000.5 + days, 1e-9),
        (moment, 1e-9),
        (moment.utc, 1e-7),
        (moment.isot, 1e-8),
        (moment.datetime64, 1e-8),
    ):
        changed = {**columns, "time": time}
        np.testing.assert_allclose(xpjax.read(changed).columns["time"], days, atol=accuracy)
    table = Table({**{name: np.asarray(column) for name, column in columns.items()}, "time": moment.utc})
    np.testing.assert_allclose(xpjax.read(table).columns["time"], days, atol=1e-7)
    table["time"] = units.Quantity(days, "d").to("hour")
    for name in ("a.ecsv", "a.fits", "a.vot", "a.parquet"):
        columns_of = catalogue.columns_of(table)
        catalogue.write(tmp_path / name, columns_of)
        np.testing.assert_allclose(xpjax.read(tmp_path / name).columns["time"], days, rtol=1e-12)
    table["time"] = units.Quantity(days, "m")
    with pytest.raises(XpjaxError, match="column time has the unit 'm', which is none of a time"):
        xpjax.read(table)


def test_lengths_of_time_are_days(columns: dict[str, Any]) -> None:
    import datetime

    import pandas as pd
    from astropy.time import TimeDelta

    days = columns["time"]
    lengths = (days * 86400e6).astype("m8[us]")
    frame = pd.DataFrame({name: list(c) if c.ndim > 1 else c for name, c in columns.items()})
    moments = pd.Timestamp("2010-01-01", tz="UTC") + pd.to_timedelta(lengths)
    for source in (
        *({**columns, "time": time} for time in (lengths, pd.Series(lengths), TimeDelta(days, format="jd"))),
        *(frame.assign(time=time) for time in (lengths, moments)),
    ):
        np.testing.assert_allclose(xpjax.read(source).columns["time"], days, atol=1e-9)
    with pytest.raises(XpjaxError, match=r"column time has '\d+ days, .*'; expected days since 2010"):
        xpjax.read({**columns, "time": [datetime.timedelta(float(day)) for day in days]})


def test_times_in_units_that_nobody_stated(columns: dict[str, Any], tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from astropy import units

    days = columns["time"]
    julian = days + TIME_ORIGIN
    for time in (days * 86400, days * 86400e9, days * 86400 + 1262304000, days * 24e3, -days * 10):
        with pytest.raises(XpjaxError, match=r"column time has times as .* Julian dates .*: state the unit of times"):
            xpjax.read({**columns, "time": time})
    with pytest.raises(XpjaxError, match=r"times as .* d; expected days since 2010.0 .*: give days$"):
        xpjax.read({**columns, "time": days * 1e5 * units.d})
    for coarse in (julian, julian - 2400000.5):
        with pytest.raises(XpjaxError, match=r"column time is float32, whose numbers as .* d apart; expected float64"):
            xpjax.read({**columns, "time": coarse.astype(np.float32)})
    np.testing.assert_allclose(xpjax.read({**columns, "time": days.astype("f4")}).columns["time"], days, atol=3e-4)
    epochs = pa.table({name: list(column) for name, column in columns.items() if name != "time"})
    pq.write_table(epochs.append_column("time", pa.array((days * 1e6).astype("m8[us]"))), tmp_path / "a.parquet")
    with pytest.raises(XpjaxError, match=r"column 'time' holds duration"):
        xpjax.read(tmp_path / "a.parquet")
    # A row among plausible ones costs itself, and what is not needed costs nothing.
    for time in (days, julian, julian - 2400000.5):
        odd = np.where(np.arange(6) == 2, 1e17, time)
        found = xpjax.read({**columns, "time": odd, "bp_obs_time": np.where(np.arange(6) == 2, np.nan, days)})
        np.testing.assert_allclose(found.columns["time"], np.where(np.arange(6) == 2, np.nan, days), atol=1e-9)
        lost = np.uint32(Status.TIME_MISSING | Status.CELL_REPAIRED)
        np.testing.assert_array_equal((found.status & lost) == lost, np.arange(6) == 2)
    found = xpjax.read({**columns, "bp_obs_time": days * 1e17})
    np.testing.assert_array_equal(found.columns["time"], days)


def test_wrong_tables_are_refused_by_name(columns: dict[str, Any], epochs: SourceTable) -> None:
    with pytest.raises(XpjaxError, match=r"transit_id is .*which floating-point numbers do not hold"):
        xpjax.read({**columns, "transit_id": columns["transit_id"].astype(float)})
    nested = np.empty(6, object)
    nested[:] = [[1, 2]] * 6
    with pytest.raises(XpjaxError, match="has an array for each source; expected a row for each source and transit"):
        xpjax.read({**columns, "transit_id": nested})
    samples = {name: column for name, column in columns.items() if "coefficient" not in name}
    with pytest.raises(
        XpjaxError, match=r"epoch spectra .* without coefficients: no bp_coefficients.*samples of epoch"
    ):
        xpjax.read({**samples, "flux": np.ones((6, 60))})
    with pytest.raises(XpjaxError, match=r"mean spectra, .* has epoch spectra .*; read each by itself"):
        xpjax.read([xpjax.simulate_sources(2), epochs])


def test_gaiaxpys_interface_refuses_transits(epochs: SourceTable, tmp_path: Path) -> None:
    import pandas as pd

    from xpjax.compat.gaiaxpy import PhotometricSystem, calibrate, generate

    c = epochs.catalogue().columns
    frame = pd.DataFrame({name: list(column) if column.ndim > 1 else column for name, column in c.items()})
    for xp in ("bp", "rp"):
        frame[f"{xp}_standard_deviation"] = 1.0
    xpjax.write(tmp_path / "epochs.fits", epochs)
    with pytest.raises(ValueError, match="epoch spectra"):
        calibrate(frame, save_file=False)
    with pytest.raises(ValueError, match="epoch spectra"):
        generate(str(tmp_path / "epochs.fits"), photometric_system=PhotometricSystem.SDSS, save_file=False)
