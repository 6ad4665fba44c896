"""HATS catalogues: every row once, by position, as the packages of others read them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.catalogue.helpers import SIZES, expected, same
from xpjax.catalogue import hats
from xpjax.catalogue.run import run_catalogue
from xpjax.xp import write_store_file
from xpjax.xp.sources import SourceTable


def test_pixels_are_the_largest_with_few_enough_rows() -> None:
    from xpjax.catalogue.hats import choose_pixels

    counts = np.zeros(12 * 4**3, np.int64)
    counts[:64] = 2  # pixel 0 of order 0: 128 rows
    counts[64] = 50  # pixel 1 of order 0: one child of order 3
    counts[700] = 5
    pixels = [(p.order, p.number, p.rows) for p in choose_pixels(counts, 40)]
    assert pixels == [(1, 0, 32), (1, 1, 32), (1, 2, 32), (1, 3, 32), (3, 64, 50), (0, 10, 5)]


def test_hats_has_every_row_once_by_position(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    from astropy import units as u
    from astropy_healpix import lonlat_to_healpix

    output = tmp_path / "out"
    report = run_catalogue(store, output, "JPLUS", format="hats", keep=["bp_rp"], hats_rows=40)
    assert report.complete
    want = expected(sources, ("ra", "dec", "bp_rp"))
    found = pq.read_table(output / "dataset").to_pandas().sort_values("source_id")
    for name, column in want.items():
        same(found[name].to_numpy(), column, name)
    index = lonlat_to_healpix(want["ra"] * u.deg, want["dec"] * u.deg, 2**29, order="nested")
    np.testing.assert_array_equal(found["_healpix_29"], index)
    assert not found["position_from_source_id"].any()
    assert not list((output / "_xpjax" / "partial").iterdir())
    assert run_catalogue(store, output, "JPLUS", format="hats", keep=["bp_rp"], hats_rows=40, resume=True).skipped


@pytest.mark.slow
def test_hats_is_taken_up_while_it_is_assembled(
    store: Path, sources: SourceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"

    def interrupted(*args: object, **options: object) -> None:
        assemble(*args, **options, progress=stop)  # type: ignore[arg-type]

    def stop(done: int, of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    assemble = hats.assemble
    monkeypatch.setattr(hats, "assemble", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_catalogue(store, output, "JPLUS", format="hats", errors=False, hats_rows=100)
    assert not (output / "properties").exists()
    monkeypatch.undo()
    report = run_catalogue(store, output, "JPLUS", format="hats", errors=False, hats_rows=100, resume=True)
    assert report.complete
    assert len(report.skipped) == len(SIZES)
    check_hats(output, sources)


def test_hats_without_positions_says_so(sources: SourceTable, tmp_path: Path) -> None:
    from astropy.coordinates import SkyCoord

    bare = dataclasses.replace(sources[:100], columns={})
    write_store_file(tmp_path / "XP_0.h5", bare)
    run_catalogue(tmp_path / "XP_0.h5", tmp_path / "out", "JPLUS", format="hats", errors=False)
    import pyarrow.parquet as pq

    found = pq.read_table(tmp_path / "out" / "dataset").to_pandas().set_index("source_id").loc[bare.source_id]
    assert found["position_from_source_id"].all()
    true = SkyCoord(sources.columns["ra"][:100], sources.columns["dec"][:100], unit="deg")
    assert true.separation(SkyCoord(found["ra"], found["dec"], unit="deg")).arcsec.max() < 60
    assert "xpjax_positions=center" in (tmp_path / "out" / "properties").read_text()


IMPOSSIBLE = [(-999.0, -999.0), (10.0, 91.0), (361.0, 0.0), (np.inf, 0.0), (0.0, np.nan), (-181.0, 0.0), (99.0, -99.0)]


def test_hats_has_no_impossible_positions(sources: SourceTable, tmp_path: Path) -> None:
    """Such rows lie where their source_id says, are flagged and counted; an ra below zero is one above."""
    import pyarrow.parquet as pq

    table = sources[np.arange(20, 40)]
    ra, dec = table.columns["ra"].copy(), table.columns["dec"].copy()
    ra[: len(IMPOSSIBLE)], dec[: len(IMPOSSIBLE)] = np.transpose(IMPOSSIBLE)
    ra[-1] -= 360 * (ra[-1] > 180)
    bad = dataclasses.replace(table, columns={"ra": ra, "dec": dec})
    write_store_file(tmp_path / "XP_0.h5", bad)
    report = run_catalogue(tmp_path / "XP_0.h5", tmp_path / "out", "JPLUS", format="hats", errors=False)
    assert report.unplaced == len(IMPOSSIBLE)
    found = pq.read_table(tmp_path / "out" / "dataset").to_pandas().set_index("source_id").loc[bad.source_id]
    assert found["position_from_source_id"].tolist() == [True] * len(IMPOSSIBLE) + [False] * (20 - len(IMPOSSIBLE))
    offset = np.hypot(
        (found["ra"] - table.columns["ra"]) * np.cos(np.radians(found["dec"])), found["dec"] - table.columns["dec"]
    )
    assert offset.max() * 3600 < 60
    assert f"of {len(IMPOSSIBLE)} rows without these the center" in (tmp_path / "out" / "properties").read_text()


def check_hats(output: Path, sources: SourceTable) -> None:
    """What the packages of others say of the catalogue."""
    validation = pytest.importorskip("hats.io.validation")
    assert validation.is_valid_catalog(output, strict=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_hats_and_lsdb_read_the_catalogue(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    from astropy.coordinates import SkyCoord

    lsdb = pytest.importorskip("lsdb")
    output = tmp_path / "out"
    run_catalogue(store, output, "JPLUS", format="hats", errors=False, hats_rows=60)
    check_hats(output, sources)
    opened = lsdb.open_catalog(output)
    assert len(opened) == len(sources)
    assert len(opened.get_healpix_pixels()) > 12
    place = SkyCoord(sources.columns["ra"], sources.columns["dec"], unit="deg")
    cone = opened.cone_search(float(place[0].ra.deg), float(place[0].dec.deg), 20 * 3600).compute()
    inside = place.separation(place[0]).deg <= 20
    assert inside.sum() > 3
    assert sorted(cone["source_id"]) == sorted(sources.source_id[inside])
    matched = opened.crossmatch(opened, radius_arcsec=1, suffixes=("_a", "_b")).compute()
    assert len(matched) == len(sources)
    assert (matched["source_id_a"] == matched["source_id_b"]).all()
