"""`xpjax survey homogenize`: zero-points by two methods on one scale."""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.helpers import xp
from xpjax.core.records import Catalogue
from xpjax.io.catalogue import read_catalogue, write


def methods(folder: Path) -> np.ndarray:
    """Tables of two methods over 60 tiles and two bands, the first of which lacks a tenth; the truth."""
    rng = np.random.default_rng(1)
    tiles = np.array([f"t{k:02d}" for k in range(60)])
    true = rng.normal(0, 0.03, (2, 60))
    for name, key, offset, noise in (("scr", "tile", 0.0, 0.001), ("xpsp", "exposure", -0.02, 0.003)):
        columns: dict[str, list[np.ndarray]] = {key: [], "band": [], "zero_point": [], "zero_point_error": []}
        for k, band in enumerate(("g", "r")):
            rows = np.arange(60) >= 6 if name == "scr" else np.arange(60) >= 0
            columns[key].append(tiles[rows])
            columns["band"].append(np.full(rows.sum(), band))
            columns["zero_point"].append((true[k] + offset * (k + 1) + noise * rng.normal(size=60))[rows])
            columns["zero_point_error"].append(np.full(rows.sum(), noise))
        table = {key_: np.concatenate(parts) for key_, parts in columns.items()}
        write(folder / f"{name}.ecsv", Catalogue({**table, "n_used": np.full(len(table["band"]), 50)}))
    return true


def test_two_methods_on_one_scale(tmp_path: Path) -> None:
    true = methods(tmp_path)
    call = ("survey", "homogenize", tmp_path / "scr.ecsv", tmp_path / "xpsp.ecsv", "-o", tmp_path / "both.ecsv")
    done = xp(*call)
    assert done.exit_code == 0, done.stderr
    assert "g: 54 by SCR, 6 by XPSP; SCR - XPSP = 20." in done.stderr
    c = read_catalogue(tmp_path / "both.ecsv").columns
    assert len(c["tile"]) == 120
    for k, band in enumerate(("g", "r")):
        mine = c["band"] == band
        pull = (c["zero_point"][mine] - true[k]) / np.hypot(c["zero_point_error"], c["zero_point_systematic"])[mine]
        assert np.std(pull[:6]) < 2.5
        assert np.std(pull[6:]) == pytest.approx(1, abs=0.3)
        assert (c["method"][mine][:6] == "XPSP").all()
    assert xp(*call).exit_code == 2
    assert xp(*call, "--overwrite", "--names", "SCR").exit_code == 2


def test_methods_without_a_common_tile(tmp_path: Path) -> None:
    methods(tmp_path)
    two = read_catalogue(tmp_path / "xpsp.ecsv")
    others = {**two.columns, "exposure": np.char.add("u", two.columns["exposure"])}
    write(tmp_path / "others.ecsv", Catalogue(others))
    done = xp("survey", "homogenize", tmp_path / "scr.ecsv", tmp_path / "others.ecsv", "-o", tmp_path / "both.ecsv")
    assert done.exit_code == 2
    assert "no tile in common" in done.stderr
    mixed = {k: np.concatenate([v[:6], two.columns[k][:7]]) for k, v in others.items()}
    write(tmp_path / "mixed.ecsv", Catalogue(mixed))
    done = xp("survey", "homogenize", tmp_path / "scr.ecsv", tmp_path / "mixed.ecsv", "-o", tmp_path / "both.ecsv")
    assert done.exit_code == 1
    assert "nothing ties the second to the first" in done.stderr
