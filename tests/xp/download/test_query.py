"""Queries of the made archive: cones, ADQL, columns of gaia_source, jobs, errors and logins."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.archive.server import MadeArchive, Mood
from tests.archive.tap import Tap, gaia_source_of
from xpjax.core.archive import ARCHIVES, SOURCE_COLUMNS
from xpjax.core.errors import XpjaxError
from xpjax.xp.download import query
from xpjax.xp.download.query import find_sources, gaia_source, login, run_query
from xpjax.xp.download.request import Client, Refused
from xpjax.xp.wanted import Cone

DR3, DR4 = ARCHIVES
CONE = Cone(60.0, -10.0, 0.3, gmax=15.0)


@pytest.fixture(scope="module")
def sky() -> dict[str, np.ndarray]:
    """gaia_source of 400 sources, 20 of them without spectra."""
    sources = xpjax.simulate_sources(400, seed=2, correlations=False)
    return gaia_source_of(sources, without=sources.source_id[:20])


@pytest.fixture(autouse=True)
def _quick_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "FIRST_PAUSE", 0.001)


def served(tap: Tap, mood: Mood | None = None) -> Iterator[Client]:
    with MadeArchive(xpjax.simulate_sources(1), mood, tap=tap) as archive:
        yield Client(archive.url)


@pytest.fixture
def tap(sky: dict[str, np.ndarray]) -> Tap:
    return Tap({"gaiadr3.gaia_source": sky})


@pytest.fixture
def client(tap: Tap) -> Iterator[Client]:
    yield from served(tap)


def distance(sky: dict[str, np.ndarray], ra: float, dec: float) -> np.ndarray:
    """Degrees on the sphere, by vectors."""
    a, d = np.radians([sky["ra"], sky["dec"]])
    a0, d0 = np.radians([ra, dec])
    unit = np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    return np.degrees(np.arccos(np.array([np.cos(d0) * np.cos(a0), np.cos(d0) * np.sin(a0), np.sin(d0)]) @ unit))


def test_a_cone(client: Client, tap: Tap, sky: dict[str, np.ndarray]) -> None:
    found = find_sources(CONE, client, DR3)
    inside = (distance(sky, CONE.ra, CONE.dec) <= CONE.radius) & (sky["phot_g_mean_mag"] <= 15)
    rows = np.flatnonzero(inside & sky["has_xp_continuous"])
    rows = rows[np.argsort(sky["source_id"][rows])]
    assert 5 < len(rows) < inside.sum()
    np.testing.assert_array_equal(found.source_id, sky["source_id"][rows])
    assert list(found.columns) == list(SOURCE_COLUMNS)
    for name, column in found.columns.items():
        np.testing.assert_array_equal(column, sky[name][rows])
        assert column.dtype == sky[name].dtype
    assert not found.notes
    assert "teff_gspphot" not in tap.said[-1]


def test_adql_keeps_what_it_selects(client: Client, sky: dict[str, np.ndarray]) -> None:
    text = "SELECT TOP 9 source_id, teff_gspphot, ruwe * 2 AS twice FROM gaiadr3.gaia_source ORDER BY dec"
    found = find_sources(text, client, DR3)
    rows = np.argsort(sky["dec"])[:9]
    np.testing.assert_array_equal(found.source_id, sky["source_id"][rows])
    np.testing.assert_array_equal(found.columns["teff_gspphot"], sky["teff_gspphot"][rows])
    np.testing.assert_allclose(found.columns["twice"], 2.0 * sky["ruwe"][rows])


def test_columns_of_ids_in_any_order(client: Client, tap: Tap, sky: dict[str, np.ndarray]) -> None:
    rows = np.random.default_rng(1).integers(0, 400, 50)
    ids = np.r_[sky["source_id"][rows], 77, 0]
    found = gaia_source(ids, client, DR3)
    np.testing.assert_array_equal(found.source_id, ids)
    for name, column in found.columns.items():
        np.testing.assert_array_equal(column[:-2], sky[name][rows])
        assert np.isnan(column[-2:]).all()
        assert column.dtype == sky[name].dtype
    assert "2 of 52 sources are not in gaiadr3.gaia_source" in found.notes[0]
    assert not [said for said in tap.said if "/async" in said]


def test_many_ids_in_several_requests(client: Client, tap: Tap, sky: dict[str, np.ndarray], monkeypatch) -> None:
    monkeypatch.setattr(query, "MOST_ROWS", 150)
    told: list[int] = []
    found = gaia_source(sky["source_id"], client, DR3, progress=told.append)
    assert told == [150, 300, 400]
    for name, column in found.columns.items():
        np.testing.assert_array_equal(column, sky[name])


@pytest.mark.parametrize("schema", [True, False])
def test_columns_that_a_release_lacks(sky: dict[str, np.ndarray], schema: bool) -> None:
    names = {"has_xp_continuous": "has_mean_spectrum_xp"}
    columns = {names.get(name, name): column for name, column in sky.items() if name != "phot_bp_rp_excess_factor"}
    for client in served(Tap({"gaiadr4.gaia_source": columns}, schema=schema)):
        found = find_sources(CONE, client, DR4)
        assert len(found) == 77
        assert [*found.columns] == [name for name in SOURCE_COLUMNS if name != "phot_bp_rp_excess_factor"]
        assert found.notes == ("gaiadr4.gaia_source has no phot_bp_rp_excess_factor: left out",)
        own = gaia_source(found.source_id, client, DR4)
        for name, column in found.columns.items():
            np.testing.assert_array_equal(own.columns[name], column)


def test_a_release_that_does_not_tell_who_has_spectra(sky: dict[str, np.ndarray]) -> None:
    columns = {name: column for name, column in sky.items() if name != "has_xp_continuous"}
    for client in served(Tap({"gaiadr4.gaia_source": columns})):
        found = find_sources(CONE, client, DR4, product="epoch")
        assert any("does not tell which sources have spectra" in note for note in found.notes)
        assert len(found) == ((distance(sky, 60, -10) <= 0.3) & (sky["phot_g_mean_mag"] <= 15)).sum()


def test_what_the_archive_has_cut_is_an_error(sky: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    text = "SELECT source_id FROM gaiadr3.gaia_source"
    for client in served(Tap({"gaiadr3.gaia_source": sky}, most_rows=100)):
        with pytest.raises(XpjaxError, match=r"cut .* after 100 rows; narrow it .*partial=True"):
            find_sources(text, client, DR3)
        found = find_sources(text, client, DR3, partial=True)
        assert len(found) == 100
        assert found.notes == ("the archive has cut the result of the query after 100 rows",)
        with pytest.raises(XpjaxError, match="cut"):
            gaia_source(sky["source_id"], client, DR3)
    # Jobs of those who are not logged in end at a number of rows without a word.
    monkeypatch.setattr(query, "MOST_JOB_ROWS", 400)
    for client in served(Tap({"gaiadr3.gaia_source": sky})):
        with pytest.raises(XpjaxError, match="cut"):
            find_sources(text, client, DR3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT ra, dec FROM gaiadr3.gaia_source", r"the query has no column of source ids: ra, dec; add source_id"),
        ("SELECT source_id, nonsense FROM gaiadr3.gaia_source", r"could not run the query: .*no such column: nonsense"),
        ("SELECT source_id FROM gaiadr9.gaia_source", r"no such table: gaiadr9.gaia_source"),
    ],
)
def test_queries_that_are_wrong(client: Client, text: str, message: str) -> None:
    with pytest.raises(XpjaxError, match=message):
        find_sources(text, client, DR3)


def test_small_queries_are_refused_at_once(client: Client) -> None:
    with pytest.raises(Refused, match="no such column: nonsense") as refused:
        run_query(client, "SELECT nonsense FROM gaiadr3.gaia_source", small=True)
    assert refused.value.status == 400


def test_logins(client: Client, tap: Tap) -> None:
    login(client, "me", "secret")
    assert tap.logins == ["/tap-server/login", "/data-server/login"]
    with pytest.raises(XpjaxError, match=r"the login of 'you' failed: .*Bad credentials.*; check name and password"):
        login(client, "you", "secret")


def test_a_job_that_does_not_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "LONGEST_JOB", 0.0)
    with pytest.raises(XpjaxError, match="still runs after"):
        find_sources("SELECT source_id FROM gaiadr3.gaia_source", client, DR3)


def test_queries_pass_through_a_hostile_archive(
    tap: Tap, sky: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    for client in served(tap, Mood(busy=3, fail=0.3)):
        found = find_sources(CONE, client, DR3)
        assert len(found) > 5
        np.testing.assert_array_equal(gaia_source(found.source_id, client, DR3).columns["ra"], found.columns["ra"])


@pytest.mark.parametrize(
    "place", [(60.0, 91.0, 1.0), (400.0, 0.0, 1.0), (60.0, 0.0, 0.0), (60.0, 0.0, np.nan), (60.0, 0.0, 1.0, np.inf)]
)
def test_cones_that_are_none(place: tuple[float, ...]) -> None:
    with pytest.raises(XpjaxError, match=r"cone"):
        Cone(*place)


def test_a_file_has_what_the_query_selects(tmp_path: Path, sky: dict[str, np.ndarray]) -> None:
    sources = dataclasses.replace(xpjax.simulate_sources(400, seed=2, correlations=False), columns={})
    text = "SELECT source_id, teff_gspphot, ra FROM gaiadr3.gaia_source WHERE dec < -10 ORDER BY ra"
    rows = np.flatnonzero(sky["dec"] < -10)
    rows = rows[np.argsort(sky["ra"][rows])]
    with MadeArchive(sources, tap=Tap({"gaiadr3.gaia_source": sky})) as archive:
        table = xpjax.fetch(text, host=archive.url)
        bare = xpjax.fetch(text, host=archive.url, gaia_source=False)
    np.testing.assert_array_equal(table.source_id, sky["source_id"][rows])
    np.testing.assert_array_equal(table.columns["teff_gspphot"], sky["teff_gspphot"][rows])
    assert [*table.columns][-1] == "teff_gspphot"
    np.testing.assert_array_equal(table.columns["pmra"], sky["pmra"][rows])
    np.testing.assert_array_equal(bare.columns["ra"], sky["ra"][rows])
    assert "pmra" not in bare.columns
