"""`xpjax fetch`, and --ids of other commands, against the made archive."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.archive.server import MadeArchive, Mood, Reply, Request, error_page
from tests.archive.tap import Tap, gaia_source_of
from tests.cli.helpers import files, xp
from xpjax import SourceTable
from xpjax.core import archive as names
from xpjax.core.errors import XpjaxError
from xpjax.core.release import DR4
from xpjax.xp.download import job, query, request

GONE = 4
"""Sources that have no spectra."""


@pytest.fixture(scope="module")
def made() -> SourceTable:
    return xpjax.simulate_sources(40, seed=4, dtype=np.float64)


@pytest.fixture(scope="module")
def gone(made: SourceTable) -> list[int]:
    return np.sort(made.source_id)[-GONE:].tolist()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(request, "PATIENCE", request.Patience(first=0.002, longest=0.01, total=20.0, unanswered=0.5))
    monkeypatch.setattr(query, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("XPJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def tap_of(sources: SourceTable, without: list[int], **options: int) -> Tap:
    return Tap({"gaiadr3.gaia_source": gaia_source_of(sources, without)}, **options)


@pytest.fixture
def archive(made: SourceTable, gone: list[int]) -> Iterator[MadeArchive]:
    with MadeArchive(made, Mood(without=gone), tap=tap_of(made, gone)) as archive:
        yield archive


def ids_file(ids: np.ndarray, name: str = "ids.txt") -> str:
    Path(name).write_text("\n".join(map(str, ids)))
    return name


# --- the ways to say which sources ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_way_gives_the_same_file() -> None:
    """300 ids as arguments, by a file, by the column of a table, by ADQL, by a cone, and in Python."""
    sources = xpjax.simulate_sources(310, seed=5, correlations=False, dtype=np.float64)
    ids = np.sort(sources.source_id)
    without, ids = ids[300:], ids[:300]
    ids_file(ids)
    xpjax.write("stars.fits", {"ra": np.arange(300.0), "gaia": ids})
    xpjax.write("stars.csv", {"ra": np.arange(300.0), "source_id": ids})
    adql = "SELECT source_id FROM gaiadr3.gaia_source WHERE has_xp_continuous = 'True' ORDER BY source_id"
    Path("query.adql").write_text(f"-- all that have spectra\n{adql};\n")
    ways = {
        "list": ids.tolist(),
        "lines": ["--ids", "ids.txt"],
        "column": ["--ids", "stars.fits:gaia"],
        "table": ["--ids", "stars.csv"],
        "adql": ["--query", adql],
        "query": ["--query", "query.adql"],
        "cone": ["--cone", "60,-10,1"],
        "gmax": ["--cone", "60,-10,1", "--gmax", "30"],
    }
    with MadeArchive(sources, tap=tap_of(sources, without.tolist())) as archive:
        for way, arguments in ways.items():
            done = xp("fetch", *arguments, "-o", f"{way}.parquet", "--host", archive.url, "--no-cache")
            assert done.exit_code == 0, done.output
            assert "300 source ids, 300 with spectra written" in done.stderr
        xpjax.fetch(ids, output="python.parquet", host=archive.url, cache=False)
        table = xpjax.fetch(ids, host=archive.url, cache=False)
    contents = {way: Path(f"{way}.parquet").read_bytes() for way in [*ways, "python"]}
    assert len({*contents.values()}) == 1, {way: len(content) for way, content in contents.items()}
    back = xpjax.read("list.parquet")
    np.testing.assert_array_equal(back.source_id, ids)
    np.testing.assert_array_equal(table.source_id, ids)
    rows = np.argsort(sources.source_id)[:300]
    np.testing.assert_array_equal(back.coefficients.value, sources.coefficients.value[rows])
    expected = gaia_source_of(sources)
    for name in names.SOURCE_COLUMNS:
        np.testing.assert_array_equal(back.columns[name], expected[name][rows])
        np.testing.assert_array_equal(table.columns[name], expected[name][rows])


def test_a_summary(archive: MadeArchive, made: SourceTable, gone: list[int]) -> None:
    ids = made.source_id
    text = "source_id,ra\n" + "".join(f"{one},1\n" for one in [*ids, *ids[:3]]) + ",2\n"
    Path("stars.csv").write_text(text)
    done = xp("fetch", "--ids", "stars.csv", "-o", "xp.h5", "--host", archive.url)
    assert done.exit_code == 0, done.output
    assert "40 source ids, 36 with spectra written to xp.h5\n" in done.stderr
    assert "4 without spectra, named in xp_missing.csv" in done.stderr
    assert "3 ids were given more than once" in done.stderr
    assert "1 cells are empty or no source ids" in done.stderr
    assert done.stdout == ""
    assert xpjax.read_table("xp_missing.csv")["source_id"].tolist() == [one for one in ids.tolist() if one in gone]
    assert xpjax.read("xp.h5").source_id.tolist() == [one for one in ids.tolist() if one not in gone]
    again = xp("fetch", "--ids", "stars.csv", "-o", "again.csv", "--host", archive.url, "-q")
    assert (again.exit_code, again.output) == (0, "")
    asked = len(archive.requests)
    third = xp("fetch", "--ids", "stars.csv", "-o", "third.parquet", "--host", archive.url)
    assert "36 with spectra written to third.parquet, 36 of them from the cache" in third.stderr
    assert len(archive.requests) == asked


def test_without_gaia_source_and_into_a_store(archive: MadeArchive, made: SourceTable) -> None:
    done = xp("fetch", *made.source_id[:5], "-o", "store", "--no-gaia-source", "--host", archive.url)
    assert done.exit_code == 0, done.output
    assert len(xpjax.open_store("store")) == np.isin(made.source_id[:5], xpjax.read("store").source_id).sum()
    assert not [path for path in archive.seen if "tap" in path]
    refused = xp("fetch", made.source_id[0], "-o", "store", "--host", archive.url)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr


def test_adql_brings_its_columns(archive: MadeArchive, made: SourceTable) -> None:
    adql = "SELECT source_id, teff_gspphot FROM gaiadr3.gaia_source WHERE phot_g_mean_mag < 14"
    done = xp("fetch", "--query", adql, "-o", "xp.parquet", "--host", archive.url)
    assert done.exit_code == 0, done.output
    back, sky = xpjax.read("xp.parquet"), gaia_source_of(made)
    rows = [made.source_id.tolist().index(one) for one in back.source_id.tolist()]
    np.testing.assert_array_equal(back.columns["teff_gspphot"], sky["teff_gspphot"][rows])
    assert (back.columns["phot_g_mean_mag"] < 14).all()


def test_a_release_that_lacks_columns() -> None:
    sources = xpjax.simulate_sources(12, seed=6, release=DR4, correlations=False, dtype=np.float64)
    sky = gaia_source_of(sources)
    del sky["phot_bp_rp_excess_factor"]
    sky["has_mean_spectrum_xp"] = sky.pop("has_xp_continuous")
    tap = Tap({"gaiadr4.gaia_source": sky})
    with MadeArchive(sources, release="Gaia DR4", tap=tap) as archive:
        done = xp("fetch", "--cone", "60,-10,1", "--release", "DR4", "-o", "xp.parquet", "--host", archive.url)
    assert done.exit_code == 0, done.output
    assert "gaiadr4.gaia_source has no phot_bp_rp_excess_factor: left out" in done.stderr
    back = xpjax.read("xp.parquet")
    assert (back.release, len(back)) == (DR4, 12)
    assert "phot_bp_rp_excess_factor" not in back.columns
    order = np.argsort(sources.source_id)
    np.testing.assert_array_equal(back.columns["ruwe"], sky["ruwe"][order])
    np.testing.assert_array_equal(back.coefficients.value, sources.coefficients.value[order])


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing source ids: give ids, --ids, --query or --cone"),
        (["5", "--cone", "1,2,3"], "Too much at once"),
        (["--cone", "1,2"], "--cone '1,2': expected RA,DEC,RADIUS"),
        (["--cone", "1,99,3"], "dec within -90..90"),
        (["5", "--gmax", "12"], "--gmax is for --cone"),
        (["Vega"], "'Vega' is no source id"),
        (["Gaia DR2 4295806720"], "another release than Gaia DR3"),
        (["5", "--release", "DR7"], "unknown release 'DR7'; expected one of Gaia DR3, Gaia DR4"),
        (["5", "--product", "epoch"], "has no epoch spectra"),
        (["--ids", "nowhere.csv"], "nowhere.csv: no such file of source ids"),
        (["--ids", "stars.csv:gaia"], "has no column 'gaia'"),
        (["--ids", "bare.csv"], "FILE:COLUMN"),
        (["--query", "nowhere.adql"], "is no ADQL query, and no such file exists"),
        (["--query", "stars.csv"], "holds no ADQL query"),
        (["--query", "cut.csv.gz"], "cut.csv.gz: the file is truncated; download it again"),
        (["--ids", "cut.csv.gz"], "cut.csv.gz: the file is truncated; download it again"),
        (["5", "--host", "gea.esac.esa.int"], "is no address"),
        (["5", "-o", "xp.docx"], "xp.docx"),
    ],
)
def test_wrong_calls(arguments: list[str], message: str) -> None:
    Path("stars.csv").write_text("source_id,ra\n4295806720,1\n")
    Path("bare.csv").write_text("ra,dec\n1,2\n")
    Path("cut.csv.gz").write_bytes(gzip.compress(b"source_id\n4295806720\n")[:-9])
    output = [] if "-o" in arguments else ["-o", "xp.parquet"]
    host = [] if "--host" in arguments else ["--host", "http://127.0.0.1:9"]
    done = xp("fetch", *arguments, *output, *host)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.stderr.split())
    assert {*files(Path())} <= {"bare.csv", "cache", "cut.csv.gz", "stars.csv"}


def test_no_network() -> None:
    for command in (["fetch"], ["photometry", "--system", "SDSS"]):
        ids = ["--ids", ids_file(np.array([4295806720]))]
        started = time.monotonic()
        done = xp(*command, *ids, "-o", "xp.parquet", "--host", "http://127.0.0.1:9")
        assert time.monotonic() - started < 60
        assert done.exit_code == 2
        for word in ("no answer from http://127.0.0.1:9", "HTTPS_PROXY", "--host", "xpjax photometry FILE"):
            assert word in done.stderr
    assert files(Path()) == ["cache", "ids.txt"]


def test_none_has_spectra(archive: MadeArchive, gone: list[int]) -> None:
    done = xp("fetch", *gone, "-o", "xp.parquet", "--host", archive.url)
    assert done.exit_code == 2
    assert "no mean spectra of these 4 sources of Gaia DR3" in done.stderr
    assert "--release" in done.stderr


def test_what_the_archive_has_cut(made: SourceTable, gone: list[int]) -> None:
    with MadeArchive(made, tap=tap_of(made, gone, most_rows=7)) as archive:
        call = ["fetch", "--cone", "60,-10,1", "--no-gaia-source", "-o", "xp.parquet", "--host", archive.url]
        done = xp(*call)
        assert done.exit_code == 2
        assert "has cut the result of the query after 7 rows" in done.stderr
        assert "--partial" in done.stderr
        done = xp(*call, "--partial")
    assert done.exit_code == 0, done.output
    assert "7 source ids, 7 with spectra" in done.stderr
    assert "has cut the result" in done.stderr


def test_accounts(archive: MadeArchive, made: SourceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    call = ["fetch", made.source_id.min(), "-o", "xp.parquet", "--host", archive.url, "--username", "me"]
    monkeypatch.setenv("XPJAX_PASSWORD", "wrong")
    done = xp(*call)
    assert done.exit_code == 2
    assert "the login of 'me' failed" in done.stderr
    monkeypatch.setenv("XPJAX_PASSWORD", "secret")
    assert xp(*call).exit_code == 0
    assert archive.tap is not None
    assert archive.tap.logins == ["/tap-server/login", "/data-server/login"]


# --- what is left goes on ---------------------------------------------------------------------------------------------


def test_batches_that_fail_are_left_for_the_same_command(
    archive: MadeArchive, made: SourceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MOST_IDS", 10)
    monkeypatch.setattr(job, "AT_ONCE", 1)
    ids = ids_file(made.source_id)

    def worse(asked: Request) -> Reply:  # a few ids, to see how the archive is asked, and a batch
        return archive.data(asked) if archive.n_data < 2 else error_page(403, "Come back later")

    archive.routes["data-server/data"] = worse
    for command in (["fetch"], ["photometry", "--system", "SDSS"]):
        done = xp(*command, "--ids", ids, "-o", "xp.parquet", "--host", archive.url)
        assert done.exit_code == 1, done.output
        assert "have come home, then: " in done.stderr
        assert "Come back later" in done.stderr
        assert "the same command goes on from there" in done.stderr
        assert files(Path()) == ["cache", "ids.txt"]
        archive.n_data = 0
    archive.routes["data-server/data"] = archive.data
    archive.asked.clear()
    assert xp("fetch", "--ids", ids, "-o", "xp.parquet", "--host", archive.url).exit_code == 0
    assert sum(archive.asked.values()) < 40
    assert len(xpjax.read("xp.parquet")) == 36


@pytest.mark.slow
def test_a_killed_command_goes_on(made: SourceTable, gone: list[int]) -> None:
    """kill -9 in the middle; the same command then asks for the rest, and writes the same file to the bit."""
    ids = ids_file(made.source_id)
    code = "from xpjax.core import archive; archive.MOST_IDS = 4; from xpjax.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with MadeArchive(made, Mood(without=gone, slow=0.2), tap=tap_of(made, gone)) as archive:
        assert xp("fetch", "--ids", ids, "-o", "whole.parquet", "--host", archive.url, "--no-cache").exit_code == 0
        archive.asked.clear()
        call = [sys.executable, "-c", code, "fetch", "--ids", ids, "-o", "xp.parquet", "--host", archive.url]
        with subprocess.Popen(call, env=environment) as process:
            while sum(archive.asked.values()) < 20:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not Path("xp.parquet").exists()
        archive.asked.clear()
        subprocess.run(call, env=environment, check=True)
        assert sum(archive.asked.values()) < 36
    assert Path("xp.parquet").read_bytes() == Path("whole.parquet").read_bytes()


# --- --ids of other commands ------------------------------------------------------------------------------------------


def same(one: str, other: str) -> None:
    """Files of the same columns, to the bit."""
    a, b = xpjax.read_table(one), xpjax.read_table(other)
    assert list(a.columns) == list(b.columns)
    for name in a.columns:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.slow
def test_photometry_of_ids_is_that_of_the_file(archive: MadeArchive, made: SourceTable, gone: list[int]) -> None:
    ids = ids_file(made.source_id)
    how = ["--system", "JPLUS", "--keep", "ruwe,bp_rp"]
    done = xp("photometry", "--ids", ids, *how, "-o", "mags.parquet", "--host", archive.url)
    assert done.exit_code == 0, done.output
    assert "4 ids without spectra are named in mags_missing.csv" in done.stderr
    assert sorted(xpjax.read_table("mags_missing.csv")["source_id"].tolist()) == gone
    assert "36 sources read from the archive, 36 rows written to mags.parquet" in done.stderr
    assert xp("fetch", "--ids", ids, "-o", "xp.parquet", "--host", archive.url).exit_code == 0
    assert xp("photometry", "xp.parquet", *how, "-o", "of_file.parquet").exit_code == 0
    same("mags.parquet", "of_file.parquet")
    with pytest.warns(UserWarning, match="4 of 40 sources have no spectra"):
        table = xpjax.fetch(made.source_id, host=archive.url)
    python = xpjax.photometry(xpjax.read(table, dtype=np.float32), "JPLUS").catalogue({})  # as commands read
    found = xpjax.read_table("mags.parquet")
    assert len(python.columns) > 40
    for name, column in python.columns.items():
        np.testing.assert_array_equal(found[name], column)


@pytest.mark.slow
def test_spectra_of_ids_are_those_of_the_file(archive: MadeArchive, made: SourceTable) -> None:
    ids, host = ids_file(made.source_id), ["--host", archive.url]
    assert xp("fetch", "--ids", ids, "-o", "xp.fits", *host).exit_code == 0
    how = ["--wavelength", "400:900:50"]
    assert xp("spectra", "--ids", ids, *how, "-o", "a.h5", *host).exit_code == 0
    assert xp("spectra", "xp.fits", *how, "-o", "b.h5").exit_code == 0
    one, other = xpjax.xp.read_spectra("a.h5"), xpjax.xp.read_spectra("b.h5")
    np.testing.assert_array_equal(one.flux, other.flux)
    np.testing.assert_array_equal(one.flux_error, other.flux_error)


@pytest.mark.slow
def test_labels_of_ids_are_fitted_to_what_is_in_the_file(
    archive: MadeArchive, made: SourceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, host = ids_file(made.source_id), ["--host", archive.url]
    assert xp("fetch", "--ids", ids, "-o", "xp.fits", *host).exit_code == 0
    x, teff = np.arange(340.0, 1010.0, 10.0), np.array([4000.0, 5000.0, 6000.0])
    grid = xpjax.stellar.StellarGrid((teff,), 1 - (x - 670) / teff[:, None], x, ("teff",))
    xpjax.stellar.write_grid(grid, "grid.h5")
    how = ["--grid", "grid.h5", "--error-floor", "0.02", "--keep", "ruwe", "--correction", "none", "--starts", "1"]
    fitted: list[SourceTable] = []
    fit = xpjax.stellar.LabelFitter.__call__

    def once(fitter: xpjax.stellar.LabelFitter, sources: SourceTable, **options: object) -> object:
        fitted.append(sources)
        if len(fitted) > 1:
            raise XpjaxError("fitted before")  # to compile it again takes long, and shows nothing more
        return fit(fitter, sources, **options)

    monkeypatch.setattr(xpjax.stellar.LabelFitter, "__call__", once)
    done = xp("labels", "fit", "--ids", ids, *how, "-o", "a.parquet", *host)
    assert done.exit_code == 0, done.output
    assert "36 spectra fitted, 36 rows written" in done.stderr
    assert xp("labels", "fit", "xp.fits", *how, "-o", "b.parquet").exit_code == 2
    one, other = fitted
    found = xpjax.read_table("a.parquet")
    for name, column in {"source_id": one.source_id, "ruwe": one.columns["ruwe"]}.items():
        np.testing.assert_array_equal(found[name], column)
    np.testing.assert_array_equal(one.source_id, other.source_id)
    np.testing.assert_array_equal(one.columns["ruwe"], other.columns["ruwe"])
    for name in ("value", "error", "correlation"):
        a, b = (getattr(table.coefficients, name) for table in fitted)
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("command", [["photometry", "--system", "SDSS"], ["spectra"]])
def test_ids_in_the_place_of_files(command: list[str]) -> None:
    Path("xp.csv").write_text("source_id\n5\n")
    for more, message in (
        ([], "Missing argument 'INPUT...': name files, or fetch sources by --ids."),
        (["xp.csv", "--ids", "xp.csv"], "--ids fetches spectra in the place of INPUT: give one of both."),
        (["xp.csv", "--no-cache"], "--cache is for --ids: leave it out."),
        (["xp.csv", "--product", "epoch"], "--product is for --ids: leave it out."),
    ):
        done = xp(*command, *more, "-o", "out.parquet")
        assert done.exit_code == 2
        assert message in " ".join(done.stderr.split())
