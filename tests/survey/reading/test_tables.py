"""Surveys from untidy tables: ids with gaps, several tables, joins, units, cuts, kept columns, refusals."""

import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from xpjax.core.records import Catalogue
from xpjax.io.catalogue import write
from xpjax.survey.observations import RowFlag
from xpjax.survey.reading.config import Config, config_from
from xpjax.survey.reading.tables import Reading, read_observations
from xpjax.xp import simulate

N = 12
FIRST_ID = 4_100_000_000_000_000_000
COLUMNS = {"star": "source_id", "magnitude": "MAG", "magnitude_error": "ERR", "model": "MOD", "color": "COL"}
PLACED = {"ra": "RA", "dec": "DEC", "magnitude": "MAG", "magnitude_error": "ERR", "model": "MOD"}
BY_POSITION = {"file": "ref.fits", "match": "position"}
GAP = 5


def data(n: int = N, seed: int = 0) -> dict[str, Any]:
    """A made field: ids that float64 cannot tell apart, positions an arcminute apart."""
    rng = np.random.default_rng(seed)
    k = np.arange(n)
    return {
        "source_id": FIRST_ID + 128 * k, "X": rng.uniform(0, 4000, n), "Y": rng.uniform(0, 4000, n),
        "RA": 150 + k / 60, "DEC": np.full(n, 2.0), "MAG": 14 + 0.1 * k, "ERR": np.full(n, 0.01), "MOD": 17 + 0.1 * k,
        "COL": 1 + 0.01 * k,
    }  # fmt: skip


def config(columns: dict[str, Any] | None = None, folder: Path = Path(), **sections: Any) -> Config:
    model = {"position_order": 0, **sections.pop("model", {})}
    return config_from({"columns": columns or COLUMNS, "model": model, **sections}, folder)


def pick(table: dict[str, Any], *names: str, rows: Any = slice(None)) -> dict[str, Any]:
    return {name: np.asarray(table[name])[rows] for name in names or table}


def standards(folder: Path, table: dict[str, Any], name: str = "ref.fits") -> None:
    Table({"ra" if k == "RA" else "dec" if k == "DEC" else k: v for k, v in table.items()}).write(folder / name)


def with_gap(path: Path, table: dict[str, Any], *gaps: str) -> Path:
    """The table in a file, without the values of these integer columns in row GAP."""
    if path.suffix == ".parquet":
        frame = pd.DataFrame(table)
        for name in gaps:
            frame[name] = frame[name].astype("Int64")
            frame.loc[GAP, name] = pd.NA
        frame.to_parquet(path)
        return path
    made = Table(table, masked=True)
    for name in gaps:
        made[name] = MaskedColumn(table[name], mask=np.arange(len(table[name])) == GAP, fill_value=-9999)
    options = {".fits": {}, ".vot": {"format": "votable"}, ".csv": {"format": "ascii.csv"}}.get(path.suffix, {})
    made.write(path, **options)
    return path


SUFFIXES = (".parquet", ".fits", ".ecsv", ".csv", ".vot")


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


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_standards_with_gaps_meet_their_own_stars(tmp_path: Path, suffix: str) -> None:
    table = data()
    with_gap(tmp_path / f"ref{suffix}", pick(table, "source_id", "MOD", "COL"), "source_id")
    seen = with_gap(tmp_path / f"seen{suffix}", pick(table, "source_id", "MAG", "ERR"), "source_id")
    chosen = config(folder=tmp_path, standards={"file": f"ref{suffix}"})
    reading = read_observations([seen], chosen)
    known = np.arange(N) != GAP
    np.testing.assert_allclose(reading.observations.model[known], table["MOD"][known])
    assert np.isnan(reading.observations.model[GAP])
    assert reading.account.n_matched == N - 1


def test_detections_without_a_mask_for_missing_ids_are_no_standards(tmp_path: Path) -> None:
    table = data()
    ids = table["source_id"].copy()
    ids[:3] = -999
    model = {name: table[name][2:] for name in ("MOD", "COL")}
    standards(tmp_path, {"source_id": np.r_[table["source_id"][3:], -999], **model})
    seen = {**pick(table, "MAG", "ERR"), "source_id": ids}
    reading = read_observations({"e": seen}, config(folder=tmp_path, standards={"file": "ref.fits"}))
    assert np.isnan(reading.observations.model[:3]).all()
    assert len(np.unique(reading.observations.star)) == N
    assert any("3 names of stars are -999, several on one exposure" in note for note in reading.account.notes)


def test_rounded_ids_and_ids_of_two_kinds_are_refused(tmp_path: Path) -> None:
    rounded = {**data(), "source_id": data()["source_id"].astype(float)}
    with pytest.raises(ValueError, match="source_id"):
        read_observations({"e": rounded}, config())
    standards(tmp_path, {"source_id": [f"star {k}" for k in range(N)], "MOD": data()["MOD"], "COL": data()["COL"]})
    with pytest.raises(ValueError, match=r"identifiers are text, those of .* integers"):
        read_observations({"e": pick(data(), "source_id", "MAG", "ERR")}, config(
            folder=tmp_path, standards={"file": "ref.fits"}))  # fmt: skip


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


@pytest.mark.parametrize(
    "make",
    [lambda v: [decimal.Decimal(f"{x:.4f}") for x in v], lambda v: [f"{x:.4f}" for x in v],
     lambda v: np.round(v * 10).astype(int), lambda v: pd.array(np.round(v * 10), "Int64")],
    ids=["decimal", "text", "integer", "nullable"],
)  # fmt: skip
def test_rows_without_a_partner_have_no_model(tmp_path: Path, make: Callable[[np.ndarray], Any]) -> None:
    table = data()
    pd.DataFrame({"source_id": table["source_id"][:4], "MOD": make(table["MOD"][:4])}).to_parquet(
        tmp_path / "r.parquet"
    )
    chosen = config({k: v for k, v in COLUMNS.items() if k != "color"}, tmp_path, standards={"file": "r.parquet"})
    o = read_observations({"e": pick(table, "source_id", "MAG", "ERR")}, chosen).observations
    assert np.isnan(o.model[4:]).all()
    scale = 10 if o.model[0] > 100 else 1  # beyond 90 a magnitude is missing, so these are not of integers
    expected = np.where(np.round(table["MOD"][:4] * 10) >= 90, np.nan, 0) if np.isnan(o.model[0]) else table["MOD"][:4]
    np.testing.assert_allclose(o.model[:4] / scale, expected)


def test_words_bits_and_truth_of_standards_are_missing_too(tmp_path: Path) -> None:
    table = data()
    frame = pd.DataFrame({"source_id": table["source_id"][:4], "MOD": table["MOD"][:4], "COL": table["COL"][:4]})
    frame["phot_variable_flag"], frame["flags"] = "VARIABLE", np.array([4, 4, 0, 4])
    frame["field"], frame["known"] = "north", True
    frame.to_parquet(tmp_path / "r.parquet")
    chosen = config(
        {**COLUMNS, "night": "field"}, tmp_path, standards={"file": "r.parquet"},
        selection={"cuts": ["variability", "flags"]},
    )  # fmt: skip
    reading = read_observations({"e": pick(table, "source_id", "MAG", "ERR")}, chosen)
    assert reading.account.removed == {"variability": 4, "flags": 3}
    with pytest.raises(ValueError, match="holds true and false"):
        read_observations({"e": pick(table, "source_id", "MAG", "ERR")}, config(
            {**COLUMNS, "model": "known"}, tmp_path, standards={"file": "r.parquet"}))  # fmt: skip


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
    ("ra", "dec", "said"),
    [
        (1.0, 1.0, "the nearest is"),
        (np.pi / 180, np.pi / 180, "positions of the standards look like radians"),
        (1 / 15, 1.0, "positions of the standards look like hours"),
    ],
)
def test_a_miss_says_how_near(tmp_path: Path, ra: float, dec: float, said: str) -> None:
    table = data()
    shift = 30 / 3600 if ra == 1.0 else 0.0
    standards(tmp_path, {"source_id": table["source_id"], "MOD": table["MOD"], "RA": table["RA"] * ra,
                         "DEC": (table["DEC"] + shift) * dec})  # fmt: skip
    seen = pick(table, "RA", "DEC", "MAG", "ERR")
    reading = read_observations({"e": seen}, config(PLACED, tmp_path, standards=BY_POSITION))
    assert reading.account.n_matched == 0
    assert said in reading.account.notes[0]
    if shift:
        assert "30 arcsec" in reading.account.notes[0]


def test_proper_motions_and_their_units_carry_standards(tmp_path: Path) -> None:
    table = data()
    motion = Table({"source_id": table["source_id"], "MOD": table["MOD"], "ra": table["RA"], "dec": table["DEC"]})
    motion["pmra"] = np.full(N, 1.0) * u.arcsec / u.yr
    motion["pmdec"] = np.full(N, -0.5) * u.arcsec / u.yr
    motion.write(tmp_path / "ref.fits")
    seen = pick(table, "RA", "DEC", "MAG", "ERR")
    seen["RA"] = seen["RA"] - 8 / 3600 / np.cos(np.deg2rad(2))
    seen["DEC"] = seen["DEC"] + 4 / 3600
    said = {**BY_POSITION, "pm_ra": "pmra", "pm_dec": "pmdec"}
    for when, matched in (({"epoch": "J2008.0"}, N), ({"years": -8}, N), ({"epoch": 2024.0}, 0)):
        reading = read_observations({"e": seen}, config(PLACED, tmp_path, standards={**said, **when}))
        assert reading.account.n_matched == matched
    with pytest.raises(ValueError, match="no column 'pmRA'"):
        read_observations({"e": seen}, config(PLACED, tmp_path, standards={**said, "pm_ra": "pmRA"}))


BAND = [{"name": "g", "magnitude": "MAG"}, {"name": "r", "magnitude": "MAG"}]


@pytest.mark.parametrize(
    ("columns", "sections", "message"),
    [
        ({"x": "X"}, {}, "x and no y"),
        ({"dec": "DEC"}, {}, "dec and no ra"),
        ({"apertures": "A"}, {}, "magnitude and apertures"),
        ({"aperture_errors": "A"}, {}, "aperture_errors and no apertures"),
        ({"model": None, "model_error": "E"}, {}, "model_error and no model"),
        ({"amplifier": "A"}, {}, "columns.amplifier has no effect"),
        ({}, {"band": BAND}, "bands g and r have the same magnitudes, MAG"),
        ({}, {"standards": {"file": "r", "radius": 2}}, "radius has no effect with match"),
        ({}, {"standards": {**BY_POSITION, "pm_ra": "p"}}, "pm_ra and no pm_dec"),
        ({}, {"standards": {**BY_POSITION, "ra": "p"}}, "ra and no dec"),
        ({}, {"standards": {**BY_POSITION, "epoch": 2000.0}}, "epoch moves no position without"),
        (
            {},
            {"standards": {**BY_POSITION, "pm_ra": "p", "pm_dec": "q", "epoch": 2000.0, "years": 1}},
            "epoch and years, which say the same",
        ),
        ({}, {"selection": {"limits": {"ruwe": 1.2}}}, "limit 'ruwe' has no effect without cuts"),
        ({}, {"selection": {"cuts": ["flags"], "limits": {"ruwe": 1.2}}}, "no limit 'ruwe' in the cuts"),
        ({}, {"model": {"neighbors": 30}}, "neighbors has no effect without numerical_flat"),
        ({}, {"model": {"position_order": 2}}, "position_order = 2 needs columns.x and columns.y"),
        ({}, {"model": {"stacked_flat": True}}, "stacked_flat = true needs columns.x and columns.y"),
        ({}, {"model": {"numerical_flat": True}}, "or set numerical_flat = false"),
        ({"color": None}, {"model": {"color_order": 2}}, "color_order = 2 needs columns.color"),
        ({}, {"model": {"amplifiers": True}}, "amplifiers = true needs columns.amplifier"),
        ({}, {"model": {"size": [10, 10]}}, "size has no effect without position terms"),
        ({}, {"model": {"color_order": 0, "color_zero": 1.0}}, "color_zero has no effect"),
        ({}, {"model": {"magnitude_order": 0, "magnitude_zero": 1.0}}, "magnitude_zero has no effect"),
        ({"star": 5}, {}, "star = 5: expected the name of one column"),
        ({"ra": 10.0, "dec": "DEC"}, {}, "ra = 10.0: expected the name of one column"),
        ({"bands": "gr"}, {}, "bands = 'gr': expected a list"),
        ({}, {"standards": "ref.fits"}, r"expected a section, \[standards\]"),
        ({}, {"selection": {"cuts": "ruwe"}}, "cuts = 'ruwe': expected a list"),
        ({}, {"selection": {"cuts": ["ruwe"], "limits": {"ruwe": "1.4"}}}, "limit ruwe = '1.4': expected a number"),
        (
            {"airmass": 1.2},
            {"passband": {"chain": "c", "sources": "s", "models": True}},
            "models = true replaces columns.model",
        ),
    ],
)
def test_settings_without_effect_are_refused(columns: dict[str, Any], sections: dict[str, Any], message: str) -> None:
    mapping = {k: v for k, v in {**COLUMNS, **columns}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        config(mapping, **sections)


@pytest.mark.parametrize(
    "key", ["star", "x", "magnitude_error", "model", "color", "exposure", "night", "time", "airmass", "flags", "ruwe"]
)
def test_a_column_that_is_named_must_exist(key: str) -> None:
    mapping = {**COLUMNS, "x": "X", "y": "Y", key: "absent"}
    with pytest.raises(ValueError, match="memory has no column 'absent' for"):
        read_observations([data()], config(mapping), exposure="e")


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


def same(one: Reading, two: Reading) -> None:
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


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".csv"])
def test_coefficients_are_no_magnitudes(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"xp{suffix}", simulate.simulate_sources(3, seed=1))
    seen = pick(data(), "source_id", "MAG", "ERR")
    for columns in (COLUMNS, {"star": "source_id", "magnitude": "MAG"}):
        chosen = config(columns, tmp_path, standards={"file": f"xp{suffix}"})
        with pytest.raises(ValueError, match="holds XP coefficients, not magnitudes: make magnitudes"):
            read_observations({"e": seen}, chosen)


def test_flags_of_rows_that_a_cut_takes() -> None:
    table = {**data(), "FLAGS": np.arange(N) % 3}
    chosen = config({**COLUMNS, "flags": "FLAGS"}, selection={"cuts": ["flags"]})
    o = read_observations({"e": table}, chosen).observations
    np.testing.assert_array_equal((o.excluded & np.uint32(RowFlag.CUT)) > 0, table["FLAGS"] > 0)
