"""Resumable runs: equal to `xpjax.photometry` row for row, whatever happens on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

import xpjax
from tests.catalogue.helpers import SIZES, check, expected, leftovers, rows_of, write_store
from xpjax.catalogue import job, plan
from xpjax.catalogue.run import run_catalogue
from xpjax.catalogue.state import read_status
from xpjax.core import engine
from xpjax.core.conditions import parse_where
from xpjax.core.status import Status
from xpjax.xp import open_store, write_store_file
from xpjax.xp.sources import SourceTable

# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["parquet", "fits", "hdf5"])
def test_rows_are_those_of_photometry(format: str, store: Path, sources: SourceTable, tmp_path: Path) -> None:
    report = run_catalogue(store, tmp_path / "out", "JPLUS", format=format, keep=["bp_rp", "ra"])
    assert report.complete
    assert (report.rows, report.sources, report.failed) == (len(sources), len(sources), {})
    check(tmp_path / "out", expected(sources, ("bp_rp", "ra")))
    assert report.status["BP_MISSING"] == 1
    assert report.status["NONPOSITIVE_FLUX"] >= 2
    assert not leftovers(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"errors": False},
        {"errors": False, "truncate": True},
        {"error_correction": True},
        {"float64": True, "errors": False},
    ],
    ids=str,
)
def test_options_are_those_of_photometry(
    options: dict[str, bool], store: Path, sources: SourceTable, tmp_path: Path
) -> None:
    run_catalogue(store, tmp_path / "out", "JPLUS", **options)  # type: ignore[arg-type]
    check(tmp_path / "out", expected(sources, **options))


def test_rows_do_not_depend_on_chunks_and_units(
    store: Path, sources: SourceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "CHUNK_BYTES", 1)
    monkeypatch.setattr(job, "BLOCK_ROWS", 64)
    monkeypatch.setattr(plan, "units_of", lambda opened, units=job.units_of: units(opened, 128))
    report = run_catalogue(store, tmp_path / "out", "JPLUS")
    assert len(report.finished) == 3 + 2 + 1 + 3 + 1
    check(tmp_path / "out", expected(sources))


def test_a_job_compiles_one_batch_whatever_its_units(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = set()
    inner = engine._compiled

    def compiled(kernel: engine.Kernel, mesh: jax.sharding.Mesh) -> Callable[..., object]:
        function = inner(kernel, mesh)

        def call(constants: object, part: object) -> object:
            shapes.add((kernel, jax.tree.leaves(part)[0].shape))
            return function(constants, part)

        return call

    monkeypatch.setattr(engine, "_compiled", compiled)
    run_catalogue(store, tmp_path / "out", "JPLUS")
    assert len(shapes) == 2  # one for all sources, one for those that are done again in float64


def test_a_store_without_correlations_has_no_errors(sources: SourceTable, tmp_path: Path) -> None:
    write_store_file(tmp_path / "XP_0.h5", sources[:50], correlations="none")
    run_catalogue(tmp_path / "XP_0.h5", tmp_path / "out", "JPLUS")
    found = rows_of(tmp_path / "out").columns
    assert np.isnan(found["Jplus_mag_error_gJPLUS"]).all()
    assert (found["xp_status"] & Status.RP_NO_ERROR).all()
    assert np.isfinite(found["Jplus_mag_rJPLUS"]).any()


@pytest.mark.slow
def test_passbands_make_a_catalogue_too(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    band = xpjax.Passband("box", np.array([500.0, 501.0, 600.0, 601.0]), np.array([0.0, 1.0, 1.0, 0.0]))
    run_catalogue(store, tmp_path / "out", [xpjax.PassbandSet("mine", (band,)), "SDSS"], errors=False)
    found = rows_of(tmp_path / "out").columns
    want = xpjax.photometry(sources[np.argsort(sources.source_id)], band, errors=False)
    np.testing.assert_allclose(found["mine_mag_box"], want.magnitude[:, 0], rtol=1e-6)
    assert "Sdss_mag_g" in found


def test_the_source_without_bp_has_a_row(shared: Callable[[str], Path], tmp_path: Path) -> None:
    table = xpjax.read(shared("xp/formats/XP_CONTINUOUS_RAW_with_missing_BP.csv"))
    write_store_file(tmp_path / "XP_0.h5", table)
    run_catalogue(tmp_path / "XP_0.h5", tmp_path / "out", "JPLUS")
    found = rows_of(tmp_path / "out").columns
    (row,) = np.flatnonzero(found["source_id"] == 5405570973190252288)
    assert found["xp_status"][row] & Status.BP_MISSING
    assert len(found["source_id"]) == len(table)


# --- where ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "phot_g_mean_mag < 16 and bp_rp > 0.5",
        "not (14 <= phot_g_mean_mag < 16) or bp_rp - 1 > 2 ** -1",
        "xp_status == 0",
        "xp_status & 128 == 0 and -30 < dec",
    ],
)
def test_where_chooses_rows(text: str, store: Path, sources: SourceTable, tmp_path: Path) -> None:
    report = run_catalogue(store, tmp_path / "out", "JPLUS", errors=False, where=text)
    names = {"xp_status": sources.status, **sources.columns}
    python = text.replace("xp_status &", "(int(xp_status)) &")
    mask = np.array([eval(python, {}, {n: float(c[k]) for n, c in names.items()}) for k in range(len(sources))])
    assert 0 < mask.sum() < len(sources)
    assert (report.rows, report.sources) == (mask.sum(), len(sources))
    check(tmp_path / "out", expected(sources[mask], errors=False))


def test_where_keeps_the_digits_of_a_source_id(sources: SourceTable) -> None:
    one = int(sources.source_id[0])
    ids = np.array([one - 1, one, one + 1])
    np.testing.assert_array_equal(parse_where(f"source_id == {one}")({"source_id": ids}), [False, True, False])


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "bp_rp.real > 1",
        "abs(bp_rp) > 1",
        "bp_rp[0] > 1",
        "'a' < 'b'",
        "[x for x in bp_rp]",
        "lambda: 1",
        "bp_rp > 1; ra",
        "bp_rp := 1",
        "True",
        "bp_rp is 1",
        "bp_rp >",
        "",
        "bp_rp + 1",
        "no_such_column > 1",
        "bp_rp & 1 == 0",
        "source_id < 99999999999999999999",
        "9 ** 9 ** 9 ** 9",
        "(" * 500 + "1" + ")" * 500,
    ],
)
def test_where_refuses_all_but_conditions(text: str, store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"where|no columns"):
        run_catalogue(store, tmp_path / "out", "JPLUS", where=text or " ")
    assert not (tmp_path / "out").exists()


def test_a_flipped_byte_fails_its_unit_only(sources: SourceTable, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store, output = write_store(sources, tmp_path / "store"), tmp_path / "out"
    file = open_store(store / "XP_1.h5").files[0]
    offset = file._datasets["bp_coefficients"].offset + 1000
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 16]) + whole[offset + 1 :])
    report = run_catalogue(store, output, "JPLUS", errors=False)
    assert list(report.failed) == ["XP_1"]
    assert "bp_coefficients" in report.failed["XP_1"]
    assert not report.complete
    assert len(report.finished) == 4
    assert not leftovers(output)
    assert not (output / "XP_1.parquet").exists()
    found = read_status(output)
    assert (list(found.failed), found.sources_failed) == (["XP_1"], SIZES[1])
    file.path.write_bytes(whole)
    report = run_catalogue(store, output, "JPLUS", errors=False, resume=True)
    assert (report.finished, report.complete) == (("XP_1",), True)
    assert not read_status(output).failed
    check(output, expected(sources, errors=False))


def test_the_manifest_says_what_was_done(store: Path, tmp_path: Path) -> None:
    import zlib

    run_catalogue(store, tmp_path / "out", "JPLUS", errors=False)
    record = json.loads((tmp_path / "out" / "_xpjax" / "units" / "XP_0.json").read_bytes())
    part = tmp_path / "out" / "XP_0.parquet"
    assert record["output"]["crc32"] == f"{zlib.crc32(part.read_bytes()):08x}"
    assert record["output"]["size"] == part.stat().st_size
    assert record["input"] | {"checksum": ""} == {
        "name": "XP_0.h5",
        "rows": [0, SIZES[0]],
        "size": (store / "XP_0.h5").stat().st_size,
        "checksum": "",
    }
    assert record["rows"] == record["sources"] == SIZES[0]
    assert record["version"] == xpjax.__version__
    assert record["status"]["BP_MISSING"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "csv"}, "no format"),
        ({"keep": ["nothing"]}, "no columns nothing"),
        ({"keep": ["_healpix_29"], "format": "hats"}, "no columns"),
        ({"devices": "tpu:3"}, "device"),
    ],
    ids=str,
)
def test_wrong_calls_write_nothing(options: dict[str, object], message: str, store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run_catalogue(store, tmp_path / "out", "JPLUS", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


# --- in a process of its own ------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from xpjax.catalogue import run_catalogue
moment, done, rename = int(sys.argv[3]), 0, os.replace
def replace(a, b):
    global done
    done += 1
    if done == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(a, b)
os.replace = replace
run_catalogue(sys.argv[1], sys.argv[2], "JPLUS", errors=False, resume=True)
"""


@pytest.mark.slow
def test_a_killed_run_is_taken_up(store: Path, sources: SourceTable, tmp_path: Path) -> None:
    output = tmp_path / "out"
    # Before job.json is there; before a part, and before its manifest, has its name.
    for moment in (1, 2, 3):
        command = [sys.executable, "-c", KILLED, str(store), str(output), str(moment)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
        assert leftovers(output)
    report = run_catalogue(store, output, "JPLUS", errors=False, resume=True)
    assert report.complete
    assert not leftovers(output)
    check(output, expected(sources, errors=False))


FULL = """
import json, resource, sys
from xpjax.catalogue import run_catalogue
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
report = run_catalogue(sys.argv[1], sys.argv[2], "JPLUS", errors=False, format=sys.argv[3])
print(json.dumps({"finished": report.finished, "failed": report.failed}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("format", ["parquet", "hdf5"])
def test_a_full_disk_fails_units_that_do_not_fit(
    format: str, store: Path, sources: SourceTable, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-c", FULL, str(store), str(output), format]
    report = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert sorted(report["finished"]) == ["XP_2", "XP_4"]
    assert sorted(report["failed"]) == ["XP_0", "XP_1", "XP_3"]
    assert all("File too large" in message for message in report["failed"].values())
    assert not leftovers(output)
    assert len([path for path in output.iterdir() if path.is_file()]) == 2
    assert run_catalogue(store, output, "JPLUS", errors=False, format=format, resume=True).complete
    check(output, expected(sources, errors=False))
