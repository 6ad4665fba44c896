"""`xpjax catalogue`: its two forms, exit statuses and messages."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import xp
from xpjax.io.catalogue import read_catalogue
from xpjax.xp import open_store, simulate, write_store_file


@pytest.fixture
def store(tmp_path: Path) -> Path:
    table = simulate.simulate_sources(120, seed=2)
    (tmp_path / "store").mkdir()
    for k in range(3):
        write_store_file(tmp_path / "store" / f"XP_{k}.h5", table[40 * k : 40 * k + 40])
    return tmp_path / "store"


def break_file(store: Path) -> bytes:
    """Flip a bit of XP_1; returns its bytes before."""
    path = store / "XP_1.h5"
    offset = open_store(path).files[0]._datasets["rp_coefficients"].offset + 99
    whole = path.read_bytes()
    path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
    return whole


def test_a_store_becomes_a_catalogue(store: Path, tmp_path: Path) -> None:
    output = tmp_path / "jplus"
    done = xp("catalogue", store, "--system", "JPLUS:gJPLUS,rJPLUS", "--output", output, "--keep", "ra,dec")
    assert done.exit_code == 0
    assert done.stdout == ""
    assert "120 sources read from 3 units, 120 rows written to jplus" in done.stderr
    assert sorted(path.name for path in output.glob("*.parquet")) == ["XP_0.parquet", "XP_1.parquet", "XP_2.parquet"]
    part = read_catalogue(output / "XP_0.parquet")
    assert {"source_id", "Jplus_mag_gJPLUS", "Jplus_mag_error_rJPLUS", "ra", "dec", "xp_status"} <= {*part.columns}
    assert part.units["Jplus_mag_gJPLUS"] == "mag"
    status = xp("catalogue", "status", output)
    assert status.exit_code == 0
    assert "finished 3 120 120" in " ".join(status.stdout.split())
    assert "the catalogue is whole" in status.stdout


def test_run_may_be_named_and_options_may_come_first(store: Path, tmp_path: Path) -> None:
    assert xp("catalogue", "run", store, "--system", "JPLUS", "-o", tmp_path / "a", "--no-errors").exit_code == 0
    assert xp("catalogue", "--system", "JPLUS", "-o", tmp_path / "b", store, "--no-errors").exit_code == 0
    a, b = (read_catalogue(tmp_path / name / "XP_2.parquet").columns for name in "ab")
    np.testing.assert_array_equal(a["Jplus_mag_gJPLUS"], b["Jplus_mag_gJPLUS"])


def test_help_names_both_forms() -> None:
    text = xp("catalogue", "--help").output
    assert "xpjax catalogue store --system JPLUS" in text
    assert "status" in text
    assert "--shard I/N" in xp("catalogue", "run", "--help").output


def test_units_that_fail_are_named_and_the_exit_status_is_one(store: Path, tmp_path: Path) -> None:
    whole = break_file(store)
    call = ("catalogue", store, "--system", "JPLUS", "--no-errors", "-o", tmp_path / "out")
    done = xp(*call)
    assert done.exit_code == 1
    assert "unit XP_1 failed: " in done.stderr
    assert "rp_coefficients" in done.stderr
    assert "80 rows written" in done.stderr
    status = " ".join(xp("catalogue", "status", tmp_path / "out").stdout.split())
    assert "failed 1 40" in status
    assert "failed: XP_1: " in status
    (store / "XP_1.h5").write_bytes(whole)
    again = xp(*call, "--resume")
    assert again.exit_code == 0
    assert "2 units were finished before" in again.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--system", "JPLUS", "--where", "open('x')"], "not understood"),
        (["--system", "JPLUS", "--where", "parallax > 1"], "no columns parallax"),
        (["--system", "JPLUS", "--shard", "0/4"], "expected I/N"),
        (["--system", "nothing"], "unknown photometric system"),
        ([], "--passbands"),
        (["--system", "JPLUS", "--extrapolate", "linear"], "are for --passbands"),
    ],
    ids=str,
)
def test_wrong_calls_are_refused(options: list[str], message: str, store: Path, tmp_path: Path) -> None:
    done = xp("catalogue", store, "-o", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_with_content_is_refused(store: Path, tmp_path: Path) -> None:
    call = ("catalogue", store, "--system", "JPLUS", "--no-errors", "-o", tmp_path / "out")
    assert xp(*call, "--shard", "1/2").exit_code == 0
    assert "other shards" in xp(*call, "--shard", "1/2", "--resume").stderr
    again = xp(*call, "--shard", "1/2")
    assert again.exit_code == 2
    assert "--resume" in again.stderr
    other = xp(*call, "--shard", "2/2", "--where", "bp_rp > 1")
    assert other.exit_code == 2
    assert "where was None" in other.stderr
    assert xp("catalogue", "status", store).exit_code == 2


def test_a_hats_catalogue_is_made(store: Path, tmp_path: Path) -> None:
    done = xp("catalogue", store, "--system", "JPLUS", "--no-errors", "--format", "hats", "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert (tmp_path / "out" / "dataset" / "_metadata").exists()
    assert "hats_nrows=120" in (tmp_path / "out" / "hats.properties").read_text()


def test_hats_without_positions_is_told(tmp_path: Path) -> None:
    bare = dataclasses.replace(simulate.simulate_sources(5, seed=1, correlations=False), columns={})
    write_store_file(tmp_path / "s.h5", bare)
    options = ("--system", "JPLUS", "--no-errors", "--format", "hats")
    done = xp("catalogue", tmp_path / "s.h5", *options, "--output", tmp_path / "out")
    assert done.exit_code == 0
    assert "5 rows have no ra and dec in the store, or impossible ones: they are at the center of" in done.stderr


def test_quiet_runs_tell_failures_alone(store: Path, tmp_path: Path) -> None:
    call = ("catalogue", store, "--system", "JPLUS", "--no-errors")
    done = xp(*call, "--output", tmp_path / "a", "-q")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    break_file(store)
    done = xp(*call, "--output", tmp_path / "b", "-q")
    assert done.exit_code == 1
    assert done.stderr.startswith("unit XP_1 failed: ")
    assert "1 units failed" in done.stderr


def test_an_address_that_is_none(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    done = xp("catalogue", store, "--system", "JPLUS", "-o", tmp_path / "a", "--dask", "foo")
    assert done.exit_code == 2
    assert "no Dask workers by 'foo'" in done.stderr


@pytest.mark.slow
def test_dask_is_silent(store: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    code = "import sys; from xpjax.cli import main\nif __name__ == '__main__': main(sys.argv[1:])"
    (tmp_path / "call.py").write_text(code)
    call = ["catalogue", str(store), "--system", "JPLUS", "--no-errors", "-o", str(tmp_path / "a"), "--dask", "local"]
    done = subprocess.run([sys.executable, str(tmp_path / "call.py"), *call], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "120 sources read" in done.stderr
    assert "distributed" not in done.stderr
    assert "INFO" not in done.stderr


def test_a_store_without_correlations_is_told(tmp_path: Path) -> None:
    """Before anything is computed, with the estimate, and at the end, unless no errors are asked for."""
    store, command = tmp_path / "store", ("--system", "JPLUS", "-o", tmp_path / "out")
    store.mkdir()
    write_store_file(store / "a.h5", simulate.simulate_sources(5, correlations=False), correlations="none")
    for more in (("--estimate",), ()):
        done = xp("catalogue", store, *command, *more)
        assert done.exit_code == 0
        assert "the store has no correlations: all errors are NaN; --no-errors" in done.stderr
        assert ("all rows came without usable errors or correlations" in done.stderr) == (not more)
    silent = xp("catalogue", store, "--system", "JPLUS", "-o", tmp_path / "bare", "--no-errors")
    assert "correlations" not in silent.stderr
    write_store_file(store / "b.h5", simulate.simulate_sources(3, seed=2))
    some = xp("catalogue", store, "--system", "JPLUS", "-o", tmp_path / "some")
    assert "1 of 2 files have no correlations, such as a.h5" in some.stderr
    assert "BP of 5 of 8 rows and RP of 5 of 8 rows came without usable errors" in some.stderr


@pytest.mark.slow
def test_labels_of_truncated_spectra_take_compact_covariances(tmp_path: Path) -> None:
    sources = simulate.simulate_sources(6, seed=1)
    found = {}
    for kind in ("compact", "float32"):
        write_store_file(tmp_path / f"{kind}.h5", sources, correlations=kind)
        options = ("--truncate", "--ebv", 0, "--output", tmp_path / kind)
        done = xp("catalogue", "labels", tmp_path / f"{kind}.h5", *options)
        assert done.exit_code == 0, done.stderr
        found[kind] = read_catalogue(next((tmp_path / kind).rglob("*.parquet"))).columns
    assert np.all(found["compact"]["dof"] < 200), "samples are not independent"
    for name, most in (("teff", 0.02), ("dof", 0.02), ("chi2", 0.02)):
        np.testing.assert_allclose(found["compact"][name], found["float32"][name], rtol=most)
