"""`xpjax catalogue --estimate`, and what a run tells of itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.helpers import xp
from xpjax.xp import simulate, write_store_file


@pytest.fixture
def call(tmp_path: Path) -> tuple[object, ...]:
    """A run over a store of three files."""
    table = simulate.simulate_sources(90, seed=2, correlations=False)
    (tmp_path / "store").mkdir()
    for k in range(3):
        write_store_file(tmp_path / "store" / f"XP_{k}.h5", table[30 * k : 30 * k + 30], correlations="none")
    return ("catalogue", tmp_path / "store", "--system", "JPLUS", "--no-errors", "-o", tmp_path / "jplus")


def test_an_estimate_is_told_and_nothing_done(call: tuple[object, ...], tmp_path: Path) -> None:
    done = xp(*call, "--estimate")
    assert done.exit_code == 0
    told = " ".join(done.stdout.split())
    assert "left to be done 90 sources in 3 units" in told
    for word in ("to be read 4", "free on the disk", "time, store on the disk", "memory", "measured on 90 sources"):
        assert word in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_run_begins_with_its_plan(call: tuple[object, ...], tmp_path: Path) -> None:
    done = xp(*call, "--shard", "1/3")
    assert done.stderr.startswith("30 sources in 1 unit: 14 kB to read, 3 kB to write, ")
    done = xp(*call, "--resume")
    assert done.stderr.startswith("60 sources in 2 units: ")
    assert " kB on disk" in xp("catalogue", "status", tmp_path / "jplus").stdout
    assert "left to be done 0 sources in 0 units" in " ".join(xp(*call, "--estimate").stdout.split())


def test_a_disk_without_room_is_told(call: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2000))
    done = xp(*call, "--estimate")
    assert done.exit_code == 1
    assert "the disk has no room for it: " in done.stderr
    done = xp(*call)
    assert done.exit_code == 2
    assert "jplus: the catalogue needs 9 kB more, and its disk has 2 kB free" in done.stderr
    assert "--no-errors, fewer systems or columns, or a condition on the sources (--where)" in done.stderr
    assert not (tmp_path / "jplus").exists()
