"""Surveys from untidy tables: ids with gaps, several tables, tables in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

from tests.survey.reading.helpers import COLUMNS, GAP, SUFFIXES, N, config, data, with_gap
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import write
from xpjax.survey.reading.tables import SurveyReading, read_observations


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ids_with_gaps_stay_exact(tmp_path: Path, suffix: str) -> None:
    made = with_gap(tmp_path / f"f{suffix}", data(), "source_id")
    reading = read_observations([made], config())
    known = np.arange(N) != GAP
    star = reading.observations.star
    assert star.dtype == np.int64
    np.testing.assert_array_equal(star[known], data()["source_id"][known])
    assert star[GAP] < 0
    assert reading.observations.origin is not None
    home = reading.observations.origin.columns["source_id"]
    assert home.dtype == np.int64
    np.testing.assert_array_equal(home[known], data()["source_id"][known])
    assert home[GAP] == 0


def test_covariates_with_gaps_are_missing_there(tmp_path: Path) -> None:
    path = with_gap(tmp_path / "f.parquet", {**data(), "counts": np.arange(N)}, "counts")
    values = read_observations([path], config(), further=["counts"]).further["counts"]
    np.testing.assert_array_equal(np.isnan(values), np.arange(N) == GAP)
    assert values[0] == 0
    with pytest.raises(ValueError, match="no column 'count' for a covariate; did you mean counts"):
        read_observations([path], config(), further=["count"])


def mosaic(path: Path, ldac: bool) -> Path:
    """Three detectors in a FITS file, each with its own airmass in its header."""
    units: list[Any] = [fits.PrimaryHDU()]
    for k in range(3):
        header = fits.Header([("AIRMASS", 1.1 + 0.1 * k)])
        table = fits.table_to_hdu(Table({**data(seed=k), "MAG": data()["MAG"] + k}))
        table.name = f"CCD{k + 1}"
        if ldac:
            text = header.tostring(sep="", endcard=True, padding=False)
            column = fits.Column("Field Header Card", f"{len(text)}A", array=np.array([text]))
            units.append(fits.BinTableHDU.from_columns([column], name="LDAC_IMHEAD"))
            table.name = "LDAC_OBJECTS"
        else:
            table.header.update(header)
        units.append(table)
    fits.HDUList(units).writeto(path)
    return path


@pytest.mark.parametrize("ldac", [False, True])
def test_tables_of_a_file_are_detectors_with_their_own_headers(tmp_path: Path, ldac: bool) -> None:
    path = mosaic(tmp_path / ("m.cat" if ldac else "m.fits"), ldac)
    reading = read_observations([path], config({**COLUMNS, "airmass": {"header": "AIRMASS"}}))
    o = reading.observations
    assert len(o) == 3 * N
    np.testing.assert_allclose(o.frames.airmass, [1.1, 1.2, 1.3])
    assert o.frames.detector.tolist() == (["2", "4", "6"] if ldac else ["CCD1", "CCD2", "CCD3"])
    np.testing.assert_allclose(o.magnitude, np.concatenate([data()["MAG"] + k for k in range(3)]))
    assert any("3 tables of like columns, taken for detectors" in note for note in reading.account.notes)
    assert o.origin is not None
    assert o.origin.row.tolist() == [*range(1, N + 1)] * 3
    parts = [f"{path}[{name}]" for name in o.frames.detector[::-1]]  # each alone is the same detector
    again = read_observations(parts, config({**COLUMNS, "airmass": {"header": "AIRMASS"}})).observations.frames
    assert again.detector.tolist() == o.frames.detector[::-1].tolist()
    np.testing.assert_allclose(again.airmass, [1.3, 1.2, 1.1])
    assert set(again.exposure.tolist()) == set(o.frames.exposure.tolist())


def test_tables_of_other_columns_are_named_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "two.fits"
    parts = [fits.table_to_hdu(Table(data())), fits.table_to_hdu(Table({"a": [1, 2]}))]
    parts[0].name, parts[1].name = "STARS", "LOG"
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(path)
    with pytest.raises(ValueError, match=r"several tables of different columns: 1 \(12 rows.*name one"):
        read_observations([path], config())
    one = read_observations([f"{path}[STARS]"], config()).observations
    assert len(one) == N
    assert one.frames.detector.tolist() == ["STARS"]


def test_amplifiers_have_one_code_in_all_files() -> None:
    chosen = config({**COLUMNS, "amplifier": "AMP"}, model={"amplifiers": True})
    parts = {"a": {**data(), "AMP": ["left"] * N}, "b": {**data(), "AMP": ["right"] * N}}
    whole = read_observations(parts, chosen)
    assert whole.amplifiers == ("left", "right")
    assert whole.observations.amplifier.tolist() == [0] * N + [1] * N
    again = read_observations({"b": parts["b"]}, chosen, amplifiers=whole.amplifiers)
    assert again.observations.amplifier.tolist() == [1] * N
    with pytest.raises(ValueError, match="no amplifier 'top'"):
        read_observations({"c": {**data(), "AMP": ["top"] * N}}, chosen, amplifiers=whole.amplifiers)


@pytest.mark.parametrize("key", ["exposure", "band", "detector"])
def test_rows_whose_frame_nobody_names_are_not_calibrated(key: str) -> None:
    names = np.array(["one"] * N, object)
    names[GAP] = None
    table = pd.DataFrame({**data(), "NAME": names})
    reading = read_observations([table], config({**COLUMNS, key: "NAME"}), exposure=None)
    np.testing.assert_array_equal(np.isnan(reading.observations.magnitude), np.arange(N) == GAP)
    assert any(f"1 rows have no {key}: not calibrated" in note for note in reading.account.notes)


def same(one: SurveyReading, two: SurveyReading) -> None:
    for name in ("star", "x", "magnitude", "magnitude_error", "model", "color", "frame", "excluded"):
        np.testing.assert_array_equal(getattr(one.observations, name), getattr(two.observations, name))


def test_tables_in_memory_are_as_files_are(tmp_path: Path) -> None:
    import pyarrow as pa

    table = data()
    write(tmp_path / "e.parquet", Catalogue(table))
    chosen = config({**COLUMNS, "x": "X", "y": "Y"})
    expected = read_observations([tmp_path / "e.parquet"], chosen)
    assert expected.observations.frames.exposure.tolist() == ["e"]
    for made in (table, Table(table), pd.DataFrame(table), pa.table(table)):
        same(read_observations({"e": made}, chosen), expected)
        same(read_observations(made, chosen), expected)
        same(read_observations([made], chosen, exposure="e"), expected)
    with pytest.raises(ValueError, match="tables in memory have no names"):
        read_observations([table, table], chosen)
    named = {**table, "EXP": np.array(["e"] * N)}
    both = read_observations([pd.DataFrame(named)], config({**COLUMNS, "exposure": "EXP"})).observations
    assert both.origin is not None
    assert both.origin.files == ("table 1",)
