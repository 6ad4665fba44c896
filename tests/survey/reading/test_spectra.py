"""XP spectra as standards, against `xpjax.photometry` called by hand."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpjax
from tests.archive.server import MadeArchive, Mood
from tests.archive.tap import Tap, gaia_source_of
from xpjax.core.ids import places_of
from xpjax.core.sky import cells_of
from xpjax.core.status import Status
from xpjax.survey import RowFlag
from xpjax.survey.exposures import read_solution
from xpjax.survey.joint import apply_joint, solve_survey
from xpjax.survey.reading import apply_survey, calibrate_survey, read_observations, spectra
from xpjax.survey.reading.config import config_from, files_relative_to
from xpjax.survey.reading.sections import IN_MEMORY
from xpjax.survey.reading.tables import SurveyReading
from xpjax.synthetic import photometry, read_chain
from xpjax.xp import SourceTable
from xpjax.xp.download import query, request

N = 50
YEARS = {60000.0: 2023.15127, 63652.5: 2033.15127}
COLUMNS = {
    "ra": "RA", "dec": "DEC", "magnitude": "MAG", "magnitude_error": "ERR", "band": "BAND", "airmass": "X",
    "time": "MJD", "exposure": "EXP",
}  # fmt: skip
MODEL = {"position_order": 0, "color_order": 0, "magnitude_order": 0}
CHAIN, SDSS = {"chain": "minisitian"}, {"system": "SDSS"}
OUTSIDE = int(Status.OUTSIDE_TRAINING | Status.NOT_CORRECTED)


@pytest.fixture(scope="module")
def stars() -> SourceTable:
    """Mock sources with positions that their ids encode, and proper motions of 0.3 arcsec/yr."""
    made = xpjax.simulate_sources(N, seed=3)
    rng = np.random.default_rng(1)
    ra, dec = 150 + rng.uniform(0, 0.4, N), 2 + rng.uniform(0, 0.4, N)
    ids = (cells_of(ra, dec, 4096) << 35) + 128 * np.arange(N) + 1
    more = {"ra": ra, "dec": dec, "pmra": np.full(N, 300.0), "pmdec": np.full(N, -300.0), "ruwe": np.full(N, 1.0)}
    return dataclasses.replace(made, source_id=ids, columns={**made.columns, **more})


@pytest.fixture(scope="module")
def folder(stars: SourceTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spectra")
    xpjax.write(path / "xp.parquet", stars)
    xpjax.write(path / "part1.parquet", stars[:30])
    xpjax.write(path / "part2.parquet", stars[25:])
    xpjax.ingest([path / "xp.parquet"], path / "store", correlations="float32")
    return path


def detections(stars: SourceTable, **more: Any) -> dict[str, Any]:
    """Two exposures in g and r, of airmass 1 and 2 and ten years apart, at the stars' positions of that time."""
    parts = []
    for k, (mjd, year) in enumerate(YEARS.items()):
        for band in "gr":
            shift = (year - 2016.0) * 300 / 3.6e6
            dec = stars.columns["dec"] - shift
            ra = stars.columns["ra"] + shift / np.cos(np.deg2rad(stars.columns["dec"]))
            parts.append({
                "RA": ra, "DEC": dec, "MAG": stars.columns["phot_g_mean_mag"] - 25, "ERR": np.full(N, 0.01),
                "BAND": np.full(N, band), "X": np.full(N, 1.0 + k), "MJD": np.full(N, mjd),
                "EXP": np.full(N, f"e{k}"), "ID": stars.source_id, "NUMBER": np.arange(N) + 1,
            })  # fmt: skip
    return {**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, **more}


def said(passband: dict[str, Any] | None = None, columns: dict[str, Any] | None = None, **standards: Any) -> dict:
    return {
        "columns": {k: v for k, v in {**COLUMNS, **(columns or {})}.items() if v}, "model": MODEL,
        "standards": standards or {"spectra": "xp.parquet"}, "passband": passband or SDSS,
    }  # fmt: skip


def observed(folder: Path, stars: SourceTable, *args: Any, table: Any = None, **standards: Any) -> SurveyReading:
    return read_observations({"all": table or detections(stars)}, config_from(said(*args, **standards), folder))


@pytest.mark.parametrize(
    ("passband", "system", "bands"),
    [
        (SDSS, "SDSS", "gr"),
        pytest.param(CHAIN, None, "gr", marks=pytest.mark.slow),
        pytest.param(
            {"system": "JPLUS", "bands": {"g": "gJPLUS", "r": "rJPLUS"}}, "JPLUS", ("gJPLUS", "rJPLUS"),
            marks=pytest.mark.slow,
        ),
        pytest.param({"files": "curves"}, "curves", "gr", marks=pytest.mark.slow),
    ],
    ids=["system", "chain", "names", "files"],
)  # fmt: skip
def test_models_are_those_of_photometry(
    folder: Path, stars: SourceTable, passband: dict[str, Any], system: Any, bands: Any
) -> None:
    if system == "curves":
        from xpjax.core.shipped import filters_folder

        passband = {"files": {band: str(filters_folder() / "panstarrs" / f"{band}.ecsv") for band in "gr"}}
        system = xpjax.load_passbands("panstarrs:g,r")
    system = read_chain("minisitian").passbands() if system is None else system
    reading = observed(folder, stars, passband)
    o, seen = reading.observations, photometry(stars, system, correction="standard", float64=True)
    place = places_of(o.star, stars.source_id)
    assert (place >= 0).all()
    for band, name in zip("gr", bands, strict=True):
        rows = np.flatnonzero((o.frames.band == band)[o.frame] & np.isfinite(o.model))
        k, at = seen.system.names.index(name), place[rows]
        assert len(rows) > N
        np.testing.assert_allclose(o.model[rows], seen.magnitude[at, k], rtol=0, atol=1e-9)
        np.testing.assert_allclose(o.model_error[rows], seen.magnitude_error[at, k], rtol=0, atol=1e-9)
        known = np.nan_to_num(seen.systematic[at, k])
        left = o.model_systematic[rows]
        floor = left**2 - known**2  # of XP on the sky: one value for a frame
        assert all(np.ptp(floor[o.frame[rows] == frame]) < 1e-15 for frame in np.unique(o.frame[rows]))
        assert (floor > 0.0015**2).all()
    outside = (o.excluded & np.uint32(RowFlag.OUTSIDE_DOMAIN)) > 0
    np.testing.assert_array_equal(outside, (seen.status[place] & OUTSIDE) > 0)
    assert 0 < outside.sum() < len(o) / 2
    raw = photometry(stars, system, errors=False, float64=True)
    assert np.nanmax(np.abs(raw.magnitude - seen.magnitude)) > 1e-3  # so that the comparison can fail
    assert any(
        "outside the domain of the correction standard: no standards" in line for line in reading.account.lines()
    )


def test_errors_are_those_of_the_covariance(folder: Path, stars: SourceTable) -> None:
    """Magnitudes of spectra drawn about the stars' own scatter by the stated errors."""
    c, rng = stars.coefficients, np.random.default_rng(5)
    value = np.array(c.value, float)
    for xp, block in zip(c.release.xp, c.release.slices, strict=True):
        root = np.linalg.cholesky(xpjax.covariance_matrix(stars, xp))
        value[:, block] += np.einsum("nij,nj->ni", root, rng.normal(size=root.shape[:2]))
    drawn = dataclasses.replace(stars, coefficients=dataclasses.replace(c, value=value))
    o = observed(folder, stars).observations
    seen = photometry(drawn, "SDSS", correction="standard", errors=False, float64=True)
    place = places_of(o.star, stars.source_id)
    pulls = []
    for band in "gr":
        rows = np.flatnonzero((o.frames.band == band)[o.frame] & np.isfinite(o.model) & (o.excluded == 0))[: N - 10]
        pulls.append((seen[band][place[rows]] - o.model[rows]) / o.model_error[rows])
    assert 0.8 < np.std(pulls) < 1.2


def test_standards_are_carried_to_the_time_of_each_exposure(folder: Path, stars: SourceTable) -> None:
    reading = observed(folder, stars)
    assert (reading.account.n_matched, reading.account.n_ambiguous) == (4 * N, 0)
    np.testing.assert_array_equal(reading.observations.star, np.tile(stars.source_id, 4))
    assert any("time of each exposure, J2023.15 to J2033.15" in line for line in reading.account.lines())
    fixed = observed(folder, stars, spectra="xp.parquet", epoch=YEARS[60000.0])
    assert fixed.account.n_matched == 2 * N
    still = observed(folder, stars, spectra="xp.parquet", years=0)
    assert still.account.n_matched == 0
    assert "no detection lies within 1 arcsec of a standard" in still.account.notes[0]
    untimed = observed(folder, stars, None, {"time": None}, spectra="xp.parquet")
    assert untimed.account.n_matched == 0
    assert any("200 rows have no time" in line for line in untimed.account.lines())


@pytest.mark.parametrize("named", ["part*.parquet", "**/part?.parquet", ["part1.parquet", "part2.parquet"], "store"])
def test_several_files_and_stores(folder: Path, stars: SourceTable, named: Any) -> None:
    # Of a store positions are kept, and no proper motions.
    motion = {} if named == "store" else {"epoch": YEARS[60000.0]}
    table = detections(stars)
    if named == "store":
        table |= {"RA": np.tile(stars.columns["ra"], 4), "DEC": np.tile(stars.columns["dec"], 4)}
    one = observed(folder, stars, table=table, spectra="xp.parquet", **(motion or {"years": 0}))
    found = observed(folder, stars, table=table, spectra=named, **motion)
    np.testing.assert_array_equal(found.observations.star, one.observations.star)
    np.testing.assert_allclose(found.observations.model, one.observations.model, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.observations.model_error, one.observations.model_error, rtol=0, atol=1e-9)
    lines = "\n".join(found.account.lines())
    assert ("5 spectra are repeated" in lines) == (named != "store")
    assert ("no proper motions: stars are matched where it lists them" in lines) == (named == "store")


def test_only_the_field_is_kept(folder: Path, stars: SourceTable) -> None:
    table = detections(stars)
    near = np.tile(stars.columns["ra"] < 150.05, 4)
    some = {name: column[near] for name, column in table.items()}
    chosen = config_from(said(spectra="part*.parquet"), folder)
    field = spectra.Field(pixels=np.unique(cells_of(some["RA"], some["DEC"], 512)))
    found = spectra.open_spectra(chosen.standards, folder, field)
    assert set(stars.source_id[stars.columns["ra"] < 150.05]) <= set(found.stars.source_id)
    assert len(found.stars) < N
    assert found.stars.coefficients.error is None
    reading = read_observations({"some": some}, chosen)
    assert len(reading.spectra) == len(np.unique(reading.observations.star))
    far = {**some, "RA": some["RA"] + 90}
    with pytest.raises(ValueError, match=r"no spectrum of part1.parquet, part2.parquet lies in the field"):
        read_observations({"far": far}, chosen)


def test_fields_apart_are_cones_of_their_own() -> None:
    """Also across right ascension 0, and every detection lies in one of them."""
    rng = np.random.default_rng(2)
    ra = np.concatenate([rng.uniform(-0.4, 0.4, 500), 20 + rng.uniform(0, 1.5, 500)])
    dec = np.concatenate([rng.uniform(-60.3, -60, 500), rng.uniform(10, 11, 500)])
    cones = spectra.Field(pixels=np.unique(cells_of(ra, dec, 512))).cones()
    assert len(cones) == 2
    away = np.array([
        np.hypot(((ra - a + 180) % 360 - 180) * np.cos(np.deg2rad(dec)), dec - d) - r for a, d, r in cones
    ])  # fmt: skip
    assert (away.min(axis=0) < 0).all()
    assert max(r for *_, r in cones) < 1.1


def test_identifiers_where_they_are_gaias(folder: Path, stars: SourceTable) -> None:
    moved = detections(stars) | {"RA": np.full(4 * N, 10.0)}
    found = observed(folder, stars, None, {"star": "ID"}, table=moved, spectra="xp.parquet")
    assert found.account.n_matched == 4 * N
    np.testing.assert_array_equal(found.observations.star, moved["ID"])
    assert any("matched by identifier" in line for line in found.account.lines())
    placed = observed(folder, stars, None, {"star": "NUMBER"}, spectra="xp.parquet")
    np.testing.assert_array_equal(placed.observations.star, moved["ID"])
    with pytest.raises(ValueError, match="nothing tells whose"):
        observed(folder, stars, None, {"ra": None, "dec": None}, spectra="xp.parquet")


def test_colors_and_magnitudes_of_gaia_or_of_spectra(folder: Path, stars: SourceTable) -> None:
    color = np.array(stars.columns["bp_rp"], float)
    seen = photometry(stars, "Gaia_DR3_Vega", errors=False, float64=True)
    own = observed(folder, stars).observations.color
    np.testing.assert_allclose(own, np.tile(color, 4), rtol=0, atol=1e-6)
    bare = {n: c for n, c in stars.columns.items() if n not in ("bp_rp", "phot_g_mean_mag", "phot_rp_mean_mag")}
    table = spectra.open_spectra(
        config_from(said(spectra=dataclasses.replace(stars, columns=bare))).standards, folder, None
    ).table()
    np.testing.assert_allclose(table.column("bp_rp").numbers(), seen["BP"] - seen["RP"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(table.column("phot_g_mean_mag").numbers(), seen["G"], rtol=0, atol=1e-9)
    color[::2] = np.nan
    gaps = {**bare, "bp_rp": color}
    mixed = spectra.open_spectra(
        config_from(said(spectra=dataclasses.replace(stars, columns=gaps))).standards, folder, None
    ).table()
    np.testing.assert_allclose(mixed.column("bp_rp").numbers()[1::2], color[1::2])
    np.testing.assert_allclose(mixed.column("bp_rp").numbers()[::2], (seen["BP"] - seen["RP"])[::2])


@pytest.mark.slow
def test_the_systematic_error_is_common(folder: Path, stars: SourceTable, tmp_path: Path) -> None:
    """More exposures do not lower it, it is apart from the errors of single stars, and it lasts through files."""
    chosen = config_from(said(), folder)
    table = detections(stars)
    found = calibrate_survey({"all": table}, chosen, tmp_path / "solution")
    o, fits = found.calibrated.observations, found.fits
    used = fits.used & (o.frame == 0)
    low, high = o.model_systematic[used].min(), o.model_systematic[used].max()
    assert low <= fits.model_systematic[0] <= high
    assert low > 0.002
    whole = found.solution.zero_point_systematic()
    np.testing.assert_allclose(whole, np.hypot(fits.zero_point_common, fits.model_systematic))
    few = calibrate_survey({"all": {n: c[: 2 * N] for n, c in table.items()}}, chosen)
    np.testing.assert_allclose(few.fits.model_systematic, fits.model_systematic[:2])
    none = calibrate_survey({"all": table}, config_from(said({**SDSS, "correction": "none"}), folder))
    assert any("their systematic errors are not known" in line for line in none.account.lines())
    assert (none.fits.model_systematic < fits.model_systematic).all()
    again = read_solution(tmp_path / "solution")
    np.testing.assert_array_equal(again.zero_point_systematic(), whole)
    applied = apply_survey({"all": table}, tmp_path / "solution").calibrated
    np.testing.assert_allclose(applied.magnitude, found.calibrated.magnitude, rtol=0, atol=1e-9)
    np.testing.assert_allclose(applied.systematic_error, found.calibrated.systematic_error, rtol=0, atol=1e-9)
    new = {**table, "EXP": np.char.add("new", table["EXP"])}
    fresh = apply_survey({"all": new}, tmp_path / "solution", new=True).calibrated
    np.testing.assert_allclose(fresh.fits.model_systematic, fits.model_systematic, rtol=0.05)


@pytest.mark.slow
def test_a_joint_solution_takes_them_as_priors(folder: Path, stars: SourceTable) -> None:
    terms = {"term": [{"kind": "zero_point"}], "joint": {"min_observations": 1}}
    whole = said(CHAIN, spectra=str(folder / "xp.parquet"))
    rest = {name: part for name, part in whole.items() if name != "model"}
    found, reading = solve_survey({**rest, **terms}, {"all": detections(stars)})
    outside = ~np.isfinite(reading.observations.model)
    assert 0 < outside.sum() < len(outside) / 2
    assert found.used[outside].any()  # they take part, without a prior
    assert any("are without the systematic error of the models" in note for note in reading.account.notes)
    assert found.converged
    shape = {"kind": "transmission", "parameters": {"filter_shift": {"per": "band", "prior": 2.0}}}
    moved, _ = solve_survey(
        {**rest, "joint": {"min_observations": 1}, "term": [{"kind": "zero_point"}, shape]}, {"all": detections(stars)}
    )
    assert "transmission" in str(moved)


def test_fetched_spectra_are_kept_and_used_again(
    folder: Path, stars: SourceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def fetch(wanted: Any, output: Path) -> Any:
        asked.append(wanted)
        if len(asked) == 1:
            raise ConnectionError("the archive does not answer")
        xpjax.write(output, stars)
        return xpjax.xp.FetchReport(output, N, N, np.zeros(0), None, 0, 0, 0, 1, 1, 0.0)

    monkeypatch.setattr(spectra, "fetch", fetch)
    with pytest.raises(ConnectionError):
        observed(tmp_path, stars, fetch=True)
    assert not list(tmp_path.iterdir())
    one = observed(tmp_path, stars, fetch=True)
    ra, dec, radius = asked[1]
    away = np.hypot((stars.columns["ra"] - ra) * np.cos(np.deg2rad(dec)), stars.columns["dec"] - dec)
    assert away.max() < radius < 1
    dithered = detections(stars)
    some = {name: column[:30] for name, column in dithered.items()}
    two = observed(tmp_path, stars, table=some, fetch=True)
    assert len(asked) == 2, "a part of the field is in the file of the whole"
    assert any("fetched before" in line for line in two.account.lines())
    np.testing.assert_array_equal(two.observations.model, one.observations.model[:30])
    observed(tmp_path, stars, None, {"star": "ID"}, fetch=True, match="source_id")
    np.testing.assert_array_equal(asked[2], np.sort(stars.source_id))
    observed(tmp_path, stars, None, {"star": "ID"}, fetch=True, match="source_id")
    assert len(asked) == 3
    wide = {**dithered, "RA": np.linspace(150, 170, 4 * N), "DEC": np.full(4 * N, 2.0)}
    with pytest.raises(ValueError, match="fetch = true takes fields of up to 10"):
        observed(tmp_path, stars, table=wide, fetch=True)


def test_a_table_of_gaia_beside_spectra(folder: Path, stars: SourceTable, tmp_path: Path) -> None:
    columns = {name: stars.columns[name] for name in ("ra", "dec", "pmra", "pmdec", "bp_rp")}
    xpjax.write(tmp_path / "gaia.csv", xpjax.core.records.Catalogue({"source_id": stars.source_id, **columns}))
    bare = dataclasses.replace(stars, columns={})
    found = observed(tmp_path, stars, spectra=bare, file="gaia.csv")
    np.testing.assert_allclose(found.observations.model, observed(folder, stars).observations.model, atol=1e-9)


@pytest.mark.parametrize(
    ("passband", "columns", "standards", "message"),
    [
        ({}, {}, {"spectra": "x", "fetch": True}, "spectra and fetch = true"),
        ({}, {}, {"radius": 2.0}, "names no standards"),
        ({"chain": "c", "system": "SDSS"}, {}, {"spectra": "x"}, "has chain and system: give one"),
        ({"airmass": 1.2}, {}, {"spectra": "x"}, "names no passbands"),
        ({"system": "SDSS", "airmass": 1.2}, {}, {"spectra": "x"}, "airmass is that of a chain"),
        ({"system": "SDSS", "unit": "nm"}, {}, {"spectra": "x"}, "unit is of curves in files"),
        ({"chain": "c", "sources": "s"}, {}, {"spectra": "x"}, "both name XP spectra"),
        ({"chain": "c"}, {}, {"file": "x"}, "needs XP spectra"),
        ({"chain": "c", "correction": "none", "domain": False}, {}, {"spectra": "x"}, "domain has no effect"),
        ({"system": "SDSS"}, {"model": "M"}, {"spectra": "x"}, "system has no effect: columns have the models"),
        ({"chain": "c", "airmass": 1.2}, {"airmass": None}, {"spectra": "x"}, "needs columns.airmass"),
        ({"system": "SDSS"}, {}, {"spectra": "x", "epoch": "soon"}, "expected a year, such as 2021.5"),
    ],
)
def test_what_the_configuration_may_not_say(
    passband: dict[str, Any], columns: dict[str, Any], standards: dict[str, Any], message: str
) -> None:
    table = said(passband, columns, **standards)
    table["passband"] = passband or SDSS
    with pytest.raises(ValueError, match=message):
        config_from(table)


def test_a_band_without_a_passband_says_which_is_near(folder: Path, stars: SourceTable) -> None:
    with pytest.raises(ValueError, match=r"JPLUS has no band 'g'.*bands = \{ g = \"gJPLUS\" \}"):
        observed(folder, stars, {"system": "JPLUS"})
    with pytest.raises(ValueError, match=r"no file .*none.parquet with the spectra of \[standards\]"):
        observed(folder, stars, spectra="none.parquet")
    with pytest.raises(ValueError, match=r"the band of the detections has no name: name columns\.band"):
        observed(folder, stars, None, {"band": None}, spectra="xp.parquet")
    without = said()
    del without["passband"]
    with pytest.raises(ValueError, match=r"has spectra, and no \[passband\]"):
        config_from(without)


def test_files_of_every_kind_move_with_a_solution(tmp_path: Path) -> None:
    old, new = tmp_path, tmp_path / "out"
    table = said({"files": {"g": "g.dat"}, "correction": "half.h5"}, spectra=["a.h5", "xp/*.parquet"])
    moved = files_relative_to(table, old, new)
    assert moved["standards"]["spectra"] == ["../a.h5", "../xp/*.parquet"]
    assert moved["passband"] == {"files": {"g": "../g.dat"}, "correction": "../half.h5"}
    fetched = files_relative_to(said(CHAIN, fetch=True), old, new)
    assert fetched["standards"]["fetch"] == ".."
    assert fetched["passband"]["chain"] == "minisitian"
    memory = files_relative_to(said(spectra=xpjax.simulate_sources(2, seed=1)), old, new)
    assert memory["standards"]["spectra"] == IN_MEMORY
    json.dumps(memory)
    with pytest.raises(ValueError, match="spectra of the solution were in memory: give config="):
        spectra.open_spectra(config_from(memory).standards, tmp_path, None)


@pytest.mark.slow
def test_real_stars(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """Real coefficients with their correlations, a table of Gaia beside them, and detections where stars are now."""
    table = xpjax.read(shared("xp/xp_bright_corr_20.parquet"))
    gaia = xpjax.read_table(shared("xp/xp_bright_gaia_source.parquet")).columns
    mine = np.isin(gaia["source_id"], table.source_id)
    years = 2023.15127 - 2016.0
    ra, dec, pm_ra, pm_dec = (np.asarray(gaia[name], float)[mine] for name in ("ra", "dec", "pmra", "pmdec"))
    seen = {
        "RA": ra + years * pm_ra / 3.6e6 / np.cos(np.deg2rad(dec)), "DEC": dec + years * pm_dec / 3.6e6,
        "MAG": np.asarray(gaia["phot_g_mean_mag"], float)[mine] - 25, "ERR": np.full(mine.sum(), 0.01),
        "BAND": np.full(mine.sum(), "g"), "X": np.full(mine.sum(), 1.3), "MJD": np.full(mine.sum(), 60000.0),
        "EXP": np.full(mine.sum(), "e"),
    }  # fmt: skip
    reading = observed(
        shared("xp"), table, CHAIN, table=seen, spectra="xp_bright_corr_20.parquet",
        file="xp_bright_gaia_source.parquet",
    )  # fmt: skip
    o = reading.observations
    assert len(o) == reading.account.n_matched > 15
    by_hand = photometry(table, read_chain("minisitian").passbands(), correction="standard", float64=True)
    place = places_of(o.star, table.source_id)
    np.testing.assert_allclose(o.model, by_hand.magnitude[place, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(o.model_error, by_hand.magnitude_error[place, 0], rtol=0, atol=1e-9)


@pytest.mark.slow
def test_the_archive_itself(stars: SourceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cone and identifiers through `xpjax.fetch`, from an archive that answers as Gaia's does."""
    monkeypatch.setenv("XPJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(request, "PATIENCE", request.Patience(first=0.002, longest=0.01, total=20.0, unanswered=0.5))
    monkeypatch.setattr(query, "FIRST_PAUSE", 0.001)
    columns = {name: stars.columns[name] for name in ("ra", "dec", "pmra", "pmdec")}
    tap = Tap({"gaiadr3.gaia_source": {**gaia_source_of(stars), **columns}})
    with MadeArchive(stars, Mood(), tap=tap) as archive:
        monkeypatch.setattr(spectra, "fetch", functools.partial(xpjax.fetch, host=archive.url))
        (tmp_path / "survey").mkdir()
        for star in (None, "ID"):
            found = observed(tmp_path / "survey", stars, None, {"star": star}, fetch=True)
            assert found.account.n_matched == 4 * N
            np.testing.assert_allclose(
                found.observations.model, observed(tmp_path, stars, spectra=stars).observations.model, atol=1e-5
            )
    assert len(list((tmp_path / "survey").glob("gaia_xp_*.parquet"))) == 2


def test_a_band_without_a_passband_costs_its_exposures_alone(folder: Path, stars: SourceTable) -> None:
    table = detections(stars)
    table["BAND"] = np.where((table["BAND"] == "r") & (table["EXP"] == "e1"), "q", table["BAND"])
    reading = observed(folder, stars, table=table)
    o = reading.observations
    lost = (o.frames.band == "q")[o.frame]
    assert np.isnan(o.model[lost]).all()
    whole = observed(folder, stars).observations
    np.testing.assert_array_equal(o.model[~lost], whole.model[~lost])
    line = next(line for line in reading.account.lines() if "has no q" in line)
    assert line.startswith("WARNING: [passband] has no q: not calibrated are e1 q; name their passbands")
    table["BAND"] = np.full(len(lost), "q")
    with pytest.raises(ValueError, match="has no band 'q'"):
        observed(folder, stars, table=table)


@pytest.mark.slow
def test_exposures_without_airmass_stay_at_their_own_and_are_named(folder: Path, stars: SourceTable) -> None:
    table = detections(stars)
    table["X"] = np.where(table["EXP"] == "e1", np.nan, table["X"] + 0.5)
    reading = observed(folder, stars, CHAIN, table=table)
    o = reading.observations
    moved = o.magnitude - table["MAG"]
    assert (moved[table["EXP"] == "e1"] == 0).all()
    assert np.abs(moved[table["EXP"] == "e0"]).max() > 1e-3
    line = next(line for line in reading.account.lines() if "have no airmass" in line)
    assert line.startswith(
        "WARNING: 2 of 4 frames have no airmass, and are not brought to airmass 1.2 as the others are"
    )
    assert "e1 g, e1 r" in line


def test_a_folder_of_files_is_read(folder: Path, stars: SourceTable, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    xpjax.write(tmp_path / "part1.parquet", stars[:30])
    xpjax.write(tmp_path / "deep" / "part2.parquet", stars[30:])
    (tmp_path / "README.txt").write_text("no spectra")
    found = observed(folder, stars, spectra=str(tmp_path)).observations
    np.testing.assert_array_equal(found.model, observed(folder, stars).observations.model)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="is a folder without spectra: expected Parquet"):
        observed(folder, stars, spectra=str(tmp_path / "none"))


@pytest.mark.slow
def test_other_tables_may_call_bands_otherwise(folder: Path, stars: SourceTable) -> None:
    first = calibrate_survey({"all": detections(stars)}, config_from(said(), folder)).solution
    table = detections(stars)
    table["BAND"] = np.char.add("sdss ", table["BAND"])
    chosen = config_from(said({**SDSS, "bands": {"sdss g": "g", "sdss r": "r"}}), folder)
    mine, again = (
        apply_survey({"all": one}, first, config=given).calibrated
        for one, given in ((table, chosen), (detections(stars), config_from(said(), folder)))
    )
    assert mine.observations.frames.band.tolist() == ["g", "r", "g", "r"]
    np.testing.assert_array_equal(mine.magnitude, again.magnitude)
    assert np.isfinite(mine.magnitude).all()


@pytest.mark.slow
@pytest.mark.parametrize("passband", [SDSS, CHAIN])
def test_other_tables_of_a_joint_solution_may_call_bands_otherwise(
    folder: Path, stars: SourceTable, passband: dict[str, Any]
) -> None:
    def config(**bands: str) -> dict[str, Any]:
        whole = said({**passband, "bands": bands} if bands else passband, spectra=str(folder / "xp.parquet"))
        rest = {name: part for name, part in whole.items() if name != "model"}
        return {**rest, "term": [{"kind": "zero_point"}], "joint": {"min_observations": 1}}

    table = detections(stars)
    early = table["MJD"] == min(YEARS)
    nights = [{name: values[rows] for name, values in table.items()} for rows in (early, ~early)]
    other = {**nights[1], "BAND": np.char.add("sdss ", nights[1]["BAND"])}
    renamed = config(**{"sdss g": "g", "sdss r": "r"})
    first, _ = solve_survey(config(), {"all": nights[0]})
    mine, again = (apply_joint(first, {"b": one}, config=c) for one, c in ((other, renamed), (nights[1], config())))
    np.testing.assert_array_equal(mine.columns["magnitude"], again.columns["magnitude"])
    assert np.isfinite(mine.columns["magnitude"]).all()
    assert set(mine.columns["band"].tolist()) == {"g", "r"}
    longer, _ = solve_survey(renamed, {"b": other}, extend=first)
    assert longer.bands == ("g", "r")
    assert longer.converged
    own = json.loads(first.meta["config"])
    own["standards"]["spectra"] = "gone/xp.parquet"
    moved = dataclasses.replace(first, meta={**first.meta, "config": json.dumps(own)})
    with pytest.raises(ValueError, match=r"there is no gone/xp.parquet: was the solution moved .* config="):
        apply_joint(moved, {"b": nights[1]})


def test_curves_without_an_atmosphere_are_told(folder: Path, stars: SourceTable) -> None:
    from xpjax.core.shipped import filters_folder

    files = {"files": {band: str(filters_folder() / "panstarrs" / f"{band}.ecsv") for band in "gr"}}
    assert any("passbands have no atmosphere" in line for line in observed(folder, stars, files).account.lines())
    assert not any("no atmosphere" in line for line in observed(folder, stars).account.lines())
