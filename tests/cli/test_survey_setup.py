"""`xpjax survey init` and `check`: from tables to a configuration that runs, and what a run would do."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from tests.cli.helpers import xp
from tests.survey.reading.flavors import field
from xpjax.core.errors import XpjaxError
from xpjax.io.catalogue import read_catalogue
from xpjax.survey.joint.config import solve_survey
from xpjax.survey.reading.check import check_survey
from xpjax.survey.reading.initial import initial_config


def night(folder: Path, *seeds: int) -> list[Path]:
    """Tables of one exposure each, as SExtractor writes them, with models."""
    paths = []
    for seed in seeds:
        c = field(seed)
        table = Table({"X_IMAGE": c["x"], "Y_IMAGE": c["y"], "MODEL": c["model"], "BP_RP": c["color"]})
        for kind in ("PSF", "AUTO"):
            table[f"MAG_{kind}"], table[f"MAGERR_{kind}"] = c["m"], c["e"]
        table.meta.update(FILTER="r", AIRMASS=1.1, EXPID=seed)
        paths.append(folder / f"e{seed}.fits")
        table.write(paths[-1])
    return paths


@pytest.mark.slow
def test_three_commands_from_tables_to_zero_points(tmp_path: Path) -> None:
    paths, toml = night(tmp_path, 1, 2), tmp_path / "survey.toml"
    done = xp("survey", "init", *paths, "-o", toml)
    assert done.exit_code == 0, done.stderr
    assert 'columns.magnitude = "MAG_PSF": likely' in done.stderr
    assert "also there: MAG_AUTO" in done.stderr
    assert toml.read_text() == initial_config(paths).text.replace(str(tmp_path) + "/", "")
    check = xp("survey", "check", *paths, "--config", toml, "-o", tmp_path / "exposures.ecsv")
    assert check.exit_code == 0, check.stderr
    assert check.stdout.splitlines() == check_survey(paths, toml).lines()
    done = xp("survey", "calibrate", *paths, "--config", toml, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    zero = read_catalogue(tmp_path / "out" / "zeropoints.ecsv").columns
    told = read_catalogue(tmp_path / "exposures.ecsv").columns
    assert told["n_standard"].tolist() == zero["n_standard"].tolist()
    assert np.abs(zero["zero_point"] - 25.02).max() < 0.01


def test_entries_are_set_and_left_out(tmp_path: Path) -> None:
    paths, toml = night(tmp_path, 1), tmp_path / "survey.toml"
    options = ("--set", "columns.magnitude=MAG_AUTO", "--set", "columns.airmass=1.3", "--set", "columns.model=none")
    done = xp("survey", "init", *paths, *options, "-o", toml)
    assert done.exit_code == 0, done.stderr
    columns = tomllib.loads(toml.read_text())["columns"]
    assert (columns["magnitude"], columns["magnitude_error"], columns["airmass"]) == ("MAG_AUTO", "MAGERR_AUTO", 1.3)
    assert "model" not in columns
    assert "standards are not known, and nothing can be calibrated: give XP spectra (--spectra)" in done.stderr
    assert xp("survey", "init", *paths, "-o", toml).exit_code == 2  # the output exists
    done = xp("survey", "init", *paths, "--set", "magnitude=MAG_AUTO", "-o", tmp_path / "no.toml")
    assert done.exit_code == 2
    assert "expected SECTION.NAME=VALUE" in done.stderr
    assert not (tmp_path / "no.toml").exists()


def test_check_says_what_would_be_refused(tmp_path: Path) -> None:
    paths, toml = night(tmp_path, 1, 2), tmp_path / "survey.toml"
    toml.write_text(
        '[columns]\nmagnitude = "MAG_PSF"\nmagnitude_error = "MAGERR_PSF"\nmodel = "MODEL"\n'
        "[model]\nposition_order = 0\ncolor_order = 0\n"
    )
    assert xp("survey", "check", *paths, "--config", toml).exit_code == 0
    table = Table.read(paths[1])
    table["MODEL"] = np.nan
    table.write(paths[1], overwrite=True)
    done = xp("survey", "check", *paths, "--config", toml)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "a run would refuse 1 of 2 frames"
    assert xp("survey", "check", paths[1], "--config", toml).exit_code == 2
    toml.write_text(toml.read_text().replace("MODEL", "MODELL"))
    done = xp("survey", "check", *paths, "--config", toml)
    assert done.exit_code == 2
    assert "no column 'MODELL'" in done.stderr


def test_check_of_a_joint_solution_names_what_is_open(tmp_path: Path) -> None:
    star, rng = np.tile(np.arange(30), 3), np.random.default_rng(0)
    table = {"star": star, "exp": np.repeat(["a", "b", "c"], 30), "m": 15 + 0.1 * star + rng.normal(0, 0.01, 90),
             "e": np.full(90, 0.01)}  # fmt: skip
    Table(table).write(tmp_path / "t.fits")
    text = '[columns]\nstar = "star"\nexposure = "exp"\nmagnitude = "m"\nmagnitude_error = "e"\n'
    text += "[joint]\nmin_observations = 1\n" + '[[term]]\nkind = "zero_point"\n'
    (tmp_path / "open.toml").write_text(text)
    (tmp_path / "closed.toml").write_text(text + '[[constraint]]\nterm = "zero_point"\n')
    done = xp("survey", "check", tmp_path / "t.fits", "--config", tmp_path / "open.toml")
    assert done.exit_code == 2
    assert "zero_point of a and zero_point of b and zero_point of c: degenerate with the star magnitudes" in done.stdout
    done = xp("survey", "check", tmp_path / "t.fits", "--config", tmp_path / "closed.toml")
    assert done.exit_code == 0, done.stderr
    assert "decided by constraints, not by data: zero_point of a" in done.stdout
    # The solution says the same.
    with pytest.raises(XpjaxError, match="degenerate with the star magnitudes"):
        solve_survey(tmp_path / "open.toml", tmp_path / "t.fits")


def test_curves_of_bands_are_named_one_by_one(tmp_path: Path) -> None:
    paths = night(tmp_path, 1)
    (tmp_path / "r.dat").write_text("".join(f"{w} {float(560 < w < 700)}\n" for w in range(540, 721, 2)))
    options = ("--passband", f"r={tmp_path / 'r.dat'}", "--set", "standards.fetch=true", "--set", "columns.model=none")
    done = xp("survey", "init", *paths, *options, "-o", tmp_path / "survey.toml")
    assert done.exit_code == 0, done.stderr
    table = tomllib.loads((tmp_path / "survey.toml").read_text())
    assert table["passband"] == {"files": {"r": "r.dat"}}
    assert table["standards"] == {"fetch": True}
    done = xp("survey", "init", *paths, "--passband", "r", "--passband", "g=x", "-o", tmp_path / "no.toml")
    assert done.exit_code == 2
    assert "curves of bands as NAME=FILE" in done.stderr
