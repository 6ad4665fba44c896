"""Calibrations in units: equal to one of everything, whatever is killed, and refused where they cannot be."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.catalogue.made_survey import COLUMNS, CONFIG, measurements, write_survey
from xpjax.catalogue import survey, survey_units
from xpjax.catalogue.state import read_status
from xpjax.catalogue.survey import calibrate_units
from xpjax.core.errors import XpjaxError
from xpjax.survey.exposures.results import FRAME_ARRAYS
from xpjax.survey.exposures.solution import Calibration
from xpjax.survey.reading.calibration import SurveyCalibration, apply_survey, calibrate_survey
from xpjax.survey.report import gather_evidence

PLAIN = {**CONFIG, "model": {"position_order": 0, "color_order": 0, "magnitude_order": 0}}
Made = tuple[list[Path], SurveyCalibration, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Files, and the calibration of all of them by one process."""
    folder = tmp_path_factory.mktemp("survey")
    files = write_survey(folder / "tables")
    return files, calibrate_survey(files, CONFIG, folder / "one", keep=["kept"]), folder / "one"


def same_solutions(found: Calibration, want: Calibration, atol: float = 1e-9) -> None:
    for name in ("exposure", "band", "detector", "night"):
        assert getattr(found.frames, name).tolist() == getattr(want.frames, name).tolist()
    for name in FRAME_ARRAYS:
        np.testing.assert_allclose(getattr(found.fits, name), getattr(want.fits, name), rtol=0, atol=atol, err_msg=name)
    np.testing.assert_allclose(found.common_floor, want.common_floor, rtol=0, atol=atol)
    assert found.flats is not None
    assert want.flats is not None
    np.testing.assert_allclose(found.flats.value, want.flats.value, rtol=0, atol=atol)
    np.testing.assert_allclose(found.flats.error, want.flats.error, rtol=1e-9)
    assert found.standards.star.tolist() == want.standards.star.tolist()
    np.testing.assert_allclose(found.standards.residual, want.standards.residual, rtol=0, atol=atol)


def same_measurements(found: pd.DataFrame, want: pd.DataFrame, atol: float = 1e-9) -> None:
    assert list(found.columns) == list(want.columns)
    for name, column in want.items():
        if column.dtype.kind == "f":
            np.testing.assert_allclose(found[name], column, rtol=0, atol=atol, err_msg=str(name))
        else:
            assert found[name].tolist() == column.tolist(), name


def products(output: Path) -> dict[str, Any]:
    """Everything that was written, but for dates."""
    out: dict[str, Any] = {}
    for path in sorted(output.rglob("*.parquet")):
        out[str(path.relative_to(output))] = pd.read_parquet(path).to_csv(float_format="%.17g")
    for path in sorted(output.rglob("*.ecsv")):
        out[str(path.relative_to(output))] = [x for x in path.read_text().splitlines() if not x.startswith("#")]
    return out


@pytest.mark.slow
@pytest.mark.parametrize("units", ["night", "band", "night+band"])
def test_units_give_what_one_process_gives(made: Made, tmp_path: Path, units: str) -> None:
    files, whole, one = made
    report = calibrate_units(files, CONFIG, tmp_path / "out", units=units, keep=["kept"])
    assert len(report.units) == {"night": 4, "band": 2, "night+band": 8}[units]
    assert report.complete
    assert whole.solution.flats is not None
    assert (whole.fits.status & 128).any()  # exposures that lean on their night
    assert (whole.solution.common_floor > 1e-3).any()
    same_solutions(report.solution(), whole.solution)
    same_measurements(measurements(tmp_path / "out"), measurements(one))
    assert report.rows == len(whole.calibrated)
    assert sorted(path.name for path in (tmp_path / "out" / "_xpjax").iterdir()) == ["job.json", "lock-job", "units"]
    assert read_status(tmp_path / "out").complete


@pytest.mark.slow
def test_a_share_that_is_lost_would_be_seen(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, whole, _ = made
    reduce = survey.reduce_phase

    def without_one(job: Any, phase: str) -> None:
        if phase == "flats-2":
            shares = sorted((job.work / "shares" / phase).iterdir())
            shutil.copy(shares[0], shares[1])
        reduce(job, phase)

    monkeypatch.setattr(survey, "reduce_phase", without_one)
    report = calibrate_units(files, CONFIG, tmp_path / "out")
    with pytest.raises(AssertionError, match="Not equal"):
        same_solutions(report.solution(), whole.solution)


@pytest.mark.slow
def test_a_solution_of_units_is_applied_as_any_other(made: Made, tmp_path: Path) -> None:
    files, _, one = made
    calibrate_units(files, CONFIG, tmp_path / "out")
    found = apply_survey(files[3], tmp_path / "out")
    unit = apply_survey(files[3], tmp_path / "out" / "units" / "night-1")
    want = apply_survey(files[3], one)
    np.testing.assert_allclose(found.calibrated.magnitude, want.calibrated.magnitude, rtol=0, atol=1e-9)
    np.testing.assert_allclose(unit.calibrated.magnitude, want.calibrated.magnitude, rtol=0, atol=1e-9)
    assert len(gather_evidence(tmp_path / "out").rows["star"]) == len(measurements(one))


class Killed(BaseException):
    """What a process does not survive."""


@pytest.mark.slow
def test_what_was_stopped_anywhere_ends_in_the_same_bits(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, _, _ = made
    calibrate_units(files, CONFIG, tmp_path / "whole")
    want = products(tmp_path / "whole")
    do, write, calls = survey.do_item, survey_units.write_json, iter(range(10_000))

    def dies(job: Any, phase: str, name: str) -> str:
        if next(calls) % 5 == 4:
            raise Killed
        return do(job, phase, name)

    def dies_late(path: Path, record: Any) -> None:
        if next(calls) % 3 == 2:
            raise Killed
        write(path, record)

    monkeypatch.setattr(survey, "do_item", dies)
    monkeypatch.setattr(survey_units, "write_json", dies_late)
    deaths, report = 0, None
    while report is None:
        try:
            report = calibrate_units(files, CONFIG, tmp_path / "out", shard=(1 + deaths % 3, 3))
        except Killed:
            deaths += 1
    assert deaths > 5
    assert products(tmp_path / "out") == want
    again = calibrate_units(files, CONFIG, tmp_path / "out")
    assert again.finished == ()
    assert again.units == report.units


def command(files: list[Path], config: Path, output: Path) -> subprocess.Popen[bytes]:
    call = [sys.executable, "-m", "xpjax.cli", "survey", "calibrate", *map(str, files), "--config", str(config)]
    return subprocess.Popen([*call, "--units", "night", "-o", str(output), "-q"], cwd=output.parent)


def wait_for(what: Any, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_process_loses_only_its_unit(made: Made, tmp_path: Path) -> None:
    files, whole, _ = made
    config = tmp_path / "survey.toml"
    columns = "\n".join(f'{name} = "{column}"' for name, column in COLUMNS.items())
    model = "position_order = 1\ncolor_order = 1\nstacked_flat = true\nbins = 6\nfew = 30\n"
    config.write_text(f"[columns]\n{columns}\n[model]\n{model}")
    output = tmp_path / "out"
    first, second = command(files, config, output), command(files, config, output)
    wait_for(lambda: list(output.glob("_xpjax/*/told/prepare.h5")) or second.poll() is not None)
    os.kill(first.pid, signal.SIGKILL)
    assert second.wait(120) == 0
    assert first.wait(10) == -signal.SIGKILL
    same_solutions(survey.read_solution(output), whole.solution)
    assert len(measurements(output)) == len(whole.calibrated)


@pytest.mark.slow
def test_a_killed_dask_workers_units_are_done_by_another(made: Made, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    files, output = made[0], tmp_path / "out"
    whole = calibrate_survey(files, PLAIN)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        worker = next(iter(client.run(os.getpid).values()))
        killed: list[str] = []

        def progress(phase: str, done: int, of: int) -> None:
            if phase == "prepare" and not killed:
                killed.append(phase)
                os.kill(worker, signal.SIGKILL)

        report = calibrate_units(files, PLAIN, output, dask=cluster.scheduler_address, progress=progress)
    assert killed
    assert report.complete
    np.testing.assert_allclose(report.solution().fits.zero_point, whole.fits.zero_point, rtol=0, atol=1e-9)


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    files = write_survey(tmp_path / "tables", 8)[:2]
    out = tmp_path / "out"
    for change, said in (
        ({"units": "week"}, "no units 'week'"),
        ({"shard": (3, 2)}, "shard 3/2"),
        ({"files": []}, "no files"),
        ({"config": {**CONFIG, "standards": {"file": {"source_id": np.arange(3)}}}}, "in memory"),
    ):
        options: dict[str, Any] = {"files": files, "config": CONFIG, "output": out, **change}
        with pytest.raises(XpjaxError, match=said):
            calibrate_units(**options)
    with pytest.raises(FileNotFoundError):
        calibrate_units([tmp_path / "none.parquet"], CONFIG, out)
    assert not out.exists()
    out.mkdir()
    (out / "zeropoints.ecsv").write_text("of another run")
    with pytest.raises(FileExistsError, match=r"zeropoints\.ecsv exists"):
        calibrate_units(files, CONFIG, out)


@pytest.mark.slow
def test_an_output_of_other_options_is_refused_or_begun_anew(tmp_path: Path) -> None:
    files = write_survey(tmp_path / "tables", 8)[:3]
    out = tmp_path / "out"
    calibrate_units(files, PLAIN, out)
    for change, said in (
        ({"units": "band"}, "units was 'night', now 'band'"),
        ({"files": files[:2]}, "other files: t02.parquet"),
        ({"config": {**PLAIN, "model": {**PLAIN["model"], "clip": 5.0}}}, "another configuration"),
    ):
        options: dict[str, Any] = {"files": files, "config": PLAIN, "output": out, **change}
        with pytest.raises(XpjaxError, match=said):
            calibrate_units(**options)
    report = calibrate_units(files, PLAIN, out, units="band", overwrite=True)
    assert report.finished == report.units == ("g", "r")
    assert sorted(path.name for path in (out / "units").iterdir()) == ["g", "r"]
    assert dataclasses.replace(report, seconds=0).rows == len(measurements(out))


@pytest.mark.slow
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    files = write_survey(tmp_path / "tables", 8)[:3]
    files[1].write_bytes(b"no table")
    with pytest.raises((XpjaxError, OSError), match=r"t01\.parquet"):
        calibrate_units(files, CONFIG, tmp_path / "out")
    assert not (tmp_path / "out" / "zeropoints.ecsv").exists()


@pytest.mark.slow
def test_other_options_wait_until_no_process_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_survey(tmp_path / "tables", 8)[:3]
    out, inside = tmp_path / "out", []

    def meanwhile(phase: str, done: int, of: int) -> None:
        if phase == "nights":
            with pytest.raises(XpjaxError, match="another run is at work"):
                calibrate_units(files, PLAIN, out, units="band", overwrite=True)
            inside.append(phase)

    assert calibrate_units(files, PLAIN, out, progress=meanwhile).complete
    assert inside
    wrong = {**PLAIN, "columns": {**COLUMNS, "magnitude": "NONE"}}
    with pytest.raises(XpjaxError, match="NONE"):
        calibrate_units(files, wrong, tmp_path / "new")
    assert calibrate_units(files, PLAIN, tmp_path / "new").complete  # nothing had been done
