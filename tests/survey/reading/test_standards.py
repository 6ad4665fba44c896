"""Standards from a table of their own."""

import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from tests.survey.reading.helpers import (
    BY_POSITION,
    COLUMNS,
    GAP,
    PLACED,
    SUFFIXES,
    N,
    config,
    data,
    pick,
    standards,
    with_gap,
)
from xpjax.io.catalogue import write
from xpjax.survey.reading.tables import read_observations
from xpjax.xp import simulate


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
    # Positions of Gaia DR4 are of another epoch, which its tables state.
    motion["ref_epoch"] = 2017.5
    motion.write(tmp_path / "ref.fits", overwrite=True)
    for when, matched in (("J2009.5", N), ("J2008.0", 0)):
        reading = read_observations({"e": seen}, config(PLACED, tmp_path, standards={**said, "epoch": when}))
        assert reading.account.n_matched == matched
    motion["ref_epoch"][:2] = 2016.0
    motion.write(tmp_path / "ref.fits", overwrite=True)
    with pytest.raises(ValueError, match=r"ref_epoch is 2016 and 2017\.5: give standards with positions of one epoch"):
        read_observations({"e": seen}, config(PLACED, tmp_path, standards={**said, "epoch": "J2009.5"}))


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".csv"])
def test_coefficients_are_no_magnitudes(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"xp{suffix}", simulate.simulate_sources(3, seed=1))
    seen = pick(data(), "source_id", "MAG", "ERR")
    for columns in (COLUMNS, {"star": "source_id", "magnitude": "MAG"}):
        chosen = config(columns, tmp_path, standards={"file": f"xp{suffix}"})
        with pytest.raises(ValueError, match="holds XP coefficients, not magnitudes: make magnitudes"):
            read_observations({"e": seen}, chosen)
