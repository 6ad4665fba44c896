"""`xpjax store`: statuses, messages, and what photometry makes of a store."""

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest

import xpjax
from benchmarks import bulkfile
from tests.cli.helpers import files, xp
from tests.xp.store.test_store import flip
from xpjax.io import catalogue
from xpjax.xp import open_store, simulate
from xpjax.xp.read.archive import read


@pytest.fixture(scope="module")
def bulk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two bulk files, and the gaia_source of their sources."""
    folder = tmp_path_factory.mktemp("bulk")
    table = simulate.simulate_sources(16, seed=3)
    bulkfile.write(folder / "a.csv.gz", bulkfile.text(table[:8], missing_bp=(2,)))
    bulkfile.write(folder / "b.csv", bulkfile.text(table[8:]))
    columns = {name: table.columns[name][1:] for name in ("ra", "dec", "phot_g_mean_mag", "bp_rp")}
    catalogue.write(folder / "gaia.fits", catalogue.Catalogue({"source_id": table.source_id[1:], **columns}))
    return folder


@pytest.fixture(scope="module")
def made(bulk: Path) -> Path:
    folder = bulk / "store"
    options = ("--correlations", "float32", "--gaia-source", bulk / "gaia.fits")
    assert xp("store", "ingest", bulk / "a.csv.gz", bulk / "b.csv", "--store", folder, *options).exit_code == 0
    return folder


def test_ingest_tells_what_it_did(bulk: Path, tmp_path: Path) -> None:
    command = ("store", "ingest", bulk / "a.csv.gz", bulk / "b.csv", "--store", tmp_path / "s")
    done = xp(*command, "--gaia-source", bulk / "gaia.fits")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "16 sources of 2 files stored" in done.stderr
    assert "1 flagged in xp_status" in done.stderr
    assert "15 found in gaia_source; 1 were not" in done.stderr
    again = xp(*command)
    assert again.exit_code == 2
    assert "2 of 2 store files exist" in again.stderr
    assert "2 files were in the store" in xp(*command, "--resume").stderr
    assert xp(*command, "--overwrite").exit_code == 0
    assert xp(*command, "--overwrite", "--correlations", "int8").exit_code == 2


def test_a_file_that_fails_is_named_and_the_status_is_1(bulk: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv.gz").write_bytes((bulk / "a.csv.gz").read_bytes()[:900])
    done = xp("store", "ingest", tmp_path / "bad.csv.gz", bulk / "b.csv", "--store", tmp_path / "s")
    assert done.exit_code == 1
    assert "failed: bad.csv.gz: " in done.stderr
    assert "truncated" in done.stderr
    assert files(tmp_path / "s") == ["b.h5"]


def test_info(made: Path) -> None:
    shown = xp("store", "info", made, "--files").stdout
    for text in ("16", "Gaia DR3, 55 + 55", "float32", "phot_g_mean_mag", "a.csv.gz", "b.csv"):
        assert text in shown
    assert "16" in xp("store", "info", made).stdout
    assert "8" in xp("store", "info", made / "a.h5").stdout
    assert xp("store", "info", made.parent / "b.csv").exit_code == 2


def test_verify(made: Path, tmp_path: Path) -> None:
    done = xp("store", "verify", made)
    assert (done.exit_code, done.stdout) == (0, "16 sources in 2 files: all checksums agree\n")
    for path in made.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    flip(tmp_path / "b.h5", "bp_coefficients", 3)
    done = xp("store", "verify", tmp_path)
    assert done.exit_code == 1
    assert "b.h5: bp_coefficients: rows 0..7 are damaged" in done.stderr


@pytest.mark.parametrize("suffix", [".h5", ".parquet", ".csv"])
def test_select_writes_what_can_be_read(made: Path, tmp_path: Path, suffix: str) -> None:
    table = read(made)
    ids = table.source_id[[1, 9]]
    (tmp_path / "ids.csv").write_text(f"x,source_id\n1,{ids[1]}\n")
    command = ("store", "select", made, "-o", tmp_path / f"out{suffix}")
    done = xp(*command, "--source-id", ids[0], "--source-ids", tmp_path / "ids.csv")
    assert done.exit_code == 0
    assert "2 of 16 sources" in done.stderr
    found = read(tmp_path / f"out{suffix}", dtype=np.float32)
    np.testing.assert_array_equal(found.source_id, ids)
    np.testing.assert_array_equal(found.coefficients.value, table.coefficients.value[[1, 9]])
    np.testing.assert_array_equal(found.coefficients.correlation, table.coefficients.correlation[[1, 9]])
    assert xp(*command, "--source-id", ids[0]).exit_code == 2


def test_select_in_all_ways(made: Path, tmp_path: Path) -> None:
    table = read(made)
    ra, dec, g = (table.columns[name] for name in ("ra", "dec", "phot_g_mean_mag"))
    pixel = int(table.source_id[4] >> 59)
    for k, (option, value, chosen) in enumerate(
        (
            ("--healpix", f"0:{pixel}", table.source_id >> 59 == pixel),
            ("--cone", f"{ra[4]},{dec[4]},0.001", np.arange(16) == 4),
            ("--magnitude", f"{g[4] - 1}:{g[4] + 1}", np.abs(g - g[4]) <= 1),
        )
    ):
        assert xp("store", "select", made, "-o", tmp_path / f"{k}.h5", option, value).exit_code == 0
        found = open_store(tmp_path / f"{k}.h5").read()
        np.testing.assert_array_equal(found.source_id, table.source_id[chosen])
    for k, wrong in enumerate(
        (["--cone", "1,2"], ["--magnitude", "a:b"], ["--healpix", "x:1"], ["--healpix", "2"], ["--source-id", "z"], [])
    ):
        done = xp("store", "select", made, "-o", tmp_path / f"wrong{k}.h5", *wrong)
        assert done.exit_code == 2
        assert (wrong[0] if wrong else "Missing a condition") in done.stderr
    assert files(tmp_path) == ["0.h5", "1.h5", "2.h5"]


@pytest.mark.slow
def test_photometry_of_a_store_file_is_that_of_its_source(bulk: Path, made: Path, tmp_path: Path) -> None:
    for path, name in ((made / "a.h5", "store"), (bulk / "a.csv.gz", "bulk")):
        done = xp("photometry", path, "--system", "JPLUS", "-o", tmp_path / f"{name}.parquet")
        assert done.exit_code == 0
    ours, plain = (catalogue.read_catalogue(tmp_path / f"{name}.parquet") for name in ("store", "bulk"))
    assert list(ours.columns) == list(plain.columns)
    for name, column in plain.columns.items():
        np.testing.assert_array_equal(ours.columns[name], column)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (("--source-id", "abc"), "--source-id: 'abc' is no whole number"),
        (("--source-id", "99999999999999999999"), "'99999999999999999999' is no whole number from 0 on that fits"),
        (("--source-id", "1.5"), "'1.5' is no whole number"),
        (("--source-ids", "{}/binary.txt"), "binary.txt: no table that is known"),
        (("--source-ids", "{}/words.txt"), "words.txt: line 3: 'abc' is no source id"),
        (("--source-ids", "{}/other.csv"), "other.csv has no column of source ids: id, name"),
        (("--healpix", "5:"), "--healpix: '' is no whole number"),
        (("--healpix", "a:1"), "--healpix: 'a' is no whole number"),
        (("--cone", "1,2"), "expected RA,DEC,RADIUS"),
        (("--cone", "1,200,3"), "dec in -90..90"),
        (("--magnitude", "a:b"), "expected MIN:MAX"),
    ],
)
def test_wrong_conditions(made: Path, tmp_path: Path, condition: tuple[str, str], message: str) -> None:
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)))
    (tmp_path / "words.txt").write_text("12\n\nabc\n")
    (tmp_path / "other.csv").write_text("id,name\n1,2\n")
    result = xp("store", "select", made, *(part.format(tmp_path) for part in condition), "-o", tmp_path / "o.h5")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "o.h5").exists()


def test_ids_of_text_files(made: Path, tmp_path: Path) -> None:
    """Packed, with gaps and comments."""
    known = open_store(made).read().source_id[:2]
    text = f"name,source_id\n# a comment\na,{known[0]}\nc,\nd,{known[1]}\ne,null\n"
    (tmp_path / "ids.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert xp("store", "select", made, "--source-ids", tmp_path / "ids.csv.gz", "-o", tmp_path / "o.h5").exit_code == 0
    assert sorted(read(tmp_path / "o.h5").source_id) == sorted(known)


def test_ids_that_are_not_in_the_store_are_told(made: Path, tmp_path: Path) -> None:
    known = open_store(made).read().source_id
    xpjax.write(tmp_path / "ids.parquet", {"gaia": np.array([known[3], 77, known[5], 78])})
    command = ("store", "select", made, "--source-ids", f"{tmp_path / 'ids.parquet'}:gaia")
    done = xp(*command, "-o", tmp_path / "o.h5")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.splitlines() == [
        f"2 of 4 source ids are not in {made}: 77, 78",
        "2 of 16 sources written to o.h5",
    ]
    done = xp(*command, "--magnitude", "0:1", "-o", tmp_path / "p.h5")
    assert f"4 of 4 source ids are not in {made}, or do not meet the other conditions: 77, 78, " in done.stderr
    with pytest.warns(UserWarning, match="1 of 2 source ids are not in"):
        assert len(open_store(made).select([known[0], 77])) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(open_store(made).select(known[:2])) == 2
        assert len(open_store(made).select([77])) == 0


def test_a_damaged_list_of_ids_is_told(made: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"source_id\n" + b"12345678901\n" * 20)[:-9])
    done = xp("store", "select", made, "--source-ids", tmp_path / "cut.csv.gz", "-o", tmp_path / "o.h5")
    assert done.exit_code == 2
    assert "cut.csv.gz: the file is truncated; download it again" in done.stderr


def test_quiet(bulk: Path, tmp_path: Path) -> None:
    done = xp("store", "ingest", bulk / "b.csv", "--store", tmp_path / "s", "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    assert "failed: bad.csv: " in xp("store", "ingest", tmp_path / "bad.csv", "--store", tmp_path / "s", "-q").stderr
