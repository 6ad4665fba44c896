"""Integers that float64 would round stay missing where they are missing, in every format and through every door."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from xpjax.core.conditions import parse_where
from xpjax.core.records import Catalogue
from xpjax.io.columns import join_columns
from xpjax.io.gaps import with_filler, without_filler
from xpjax.io.results import arrow_table, astropy_table
from xpjax.xp import SourceTable, open_store, write_store_file

BIG = 2**60 + 1
CELLS = [BIG, None, BIG + 2, 7, None]
IDS = np.ma.array([BIG, 0, BIG + 2, 7, 0], mask=[cell is None for cell in CELLS])


@pytest.fixture(scope="module")
def sources() -> SourceTable:
    table = xpjax.simulate_sources(len(CELLS), seed=1)
    return dataclasses.replace(table, columns={**table.columns, "other_id": IDS})


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "ecsv", "fits", "ldac", "vot", "parquet", "h5"])
def test_every_format_says_what_is_missing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    xpjax.write(path, Catalogue({"source_id": np.arange(1, 6), "other_id": IDS}))
    assert xpjax.read_table(path)["other_id"].tolist() == CELLS


def test_others_see_it_too(tmp_path: Path) -> None:
    from astropy.table import Table

    made = Catalogue({"other_id": IDS})
    for suffix in ("fits", "vot"):
        xpjax.write(tmp_path / f"a.{suffix}", made)
        assert Table.read(tmp_path / f"a.{suffix}")["other_id"].tolist() == CELLS
    xpjax.write(tmp_path / "a.csv", made)
    cells = [line.strip('"') for line in (tmp_path / "a.csv").read_text().splitlines()[1:]]
    assert cells == ["" if cell is None else str(cell) for cell in CELLS]
    assert arrow_table(made)["other_id"].to_pylist() == CELLS
    assert astropy_table(made)["other_id"].tolist() == CELLS


def test_tables_are_joined() -> None:
    whole = join_columns([IDS[:2], np.array([3, 4]), None, np.array([np.nan, 5.0])], [2, 2, 1, 2])
    assert whole.tolist() == [BIG, None, 3, 4, None, None, 5]
    assert join_columns([IDS[3:], np.array([0.5])], [2, 1]).tolist()[::2] == [7, 0.5]
    assert join_columns([IDS[:2], np.array(["a"])], [2, 1]).tolist() == [str(BIG), "", "a"]


def test_what_is_missing_meets_no_condition() -> None:
    columns = {"other_id": IDS, "g": np.arange(5.0)}
    assert parse_where("other_id >= 0")(columns).tolist() == [True, False, True, True, False]
    assert parse_where("other_id > 7 or g > 3")(columns).tolist() == [True, False, True, False, True]


def test_a_filler_and_back() -> None:
    assert without_filler(with_filler(IDS)).tolist() == CELLS
    assert without_filler(np.array([1, 2])).tolist() == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet", "fits", "hdf5"])
def test_stores_and_catalogues(sources: SourceTable, tmp_path: Path, form: str) -> None:
    write_store_file(tmp_path / "a.h5", sources)
    assert open_store(tmp_path / "a.h5").read().columns["other_id"].tolist() == CELLS
    assert sources.to_pandas()["other_id"].isna().tolist() == IDS.mask.tolist()
    xpjax.write(tmp_path / "src.parquet", sources)
    assert xpjax.read(tmp_path / "src.parquet").columns["other_id"].tolist() == CELLS
    report = xpjax.run_catalogue(
        tmp_path / "a.h5", tmp_path / "out", "SDSS", errors=False, keep=["other_id"], format=form
    )
    assert not report.failed
    suffix = {"parquet": "parquet", "fits": "fits", "hdf5": "h5"}[form]
    assert xpjax.read_table(tmp_path / "out" / f"a.{suffix}")["other_id"].tolist() == CELLS


@pytest.mark.slow
def test_hats_catalogues(sources: SourceTable, tmp_path: Path) -> None:
    write_store_file(tmp_path / "a.h5", sources)
    xpjax.catalogue.export_hats(tmp_path / "a.h5", tmp_path / "hats", hats_rows=1)
    found = xpjax.read(tmp_path / "hats")
    kept = xpjax.run_catalogue(tmp_path / "hats", tmp_path / "out", "SDSS", errors=False, keep=["other_id"])
    assert not kept.failed
    parts = [xpjax.read_table(path) for path in sorted((tmp_path / "out").glob("*.parquet"))]
    rows = {int(row["source_id"]): row["other_id"] for part in parts for row in part}
    again = dict(zip(found.source_id.tolist(), found.columns["other_id"].tolist(), strict=True))
    for source_id, cell in zip(sources.source_id.tolist(), CELLS, strict=True):
        assert again[source_id] == cell
        own = rows[source_id]
        assert cell is None if own is np.ma.masked or np.isnan(own) else int(own) == cell
