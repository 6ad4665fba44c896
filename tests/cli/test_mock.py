"""Mock sources and the demonstration."""

from pathlib import Path

import numpy as np

import xpjax
from tests.cli.helpers import files, xp
from xpjax.io import catalogue


def test_simulate(tmp_path: Path) -> None:
    for name, seed in (("a.parquet", 1), ("b.csv", 1), ("c.parquet", 2)):
        result = xp("simulate", "-n", 5, "--seed", seed, "-o", tmp_path / name)
        assert result.exit_code == 0, result.stderr
    a, b, c = (xpjax.read(tmp_path / name).coefficients for name in ("a.parquet", "b.csv", "c.parquet"))
    assert np.array_equal(a.value, b.value.astype(np.float32))  # text is read as float64
    assert not np.array_equal(a.value, c.value)
    assert a.correlation is not None
    assert xp("simulate", "-n", 5, "-o", tmp_path / "a.parquet").exit_code == 2
    xp("simulate", "-n", 5, "--no-correlations", "-o", tmp_path / "d.parquet")
    assert xpjax.read(tmp_path / "d.parquet").coefficients.correlation is None


def test_demo(tmp_path: Path) -> None:
    result = xp("demo", "-n", 300, "--output-dir", tmp_path / "demo")
    assert result.exit_code == 0, result.stderr
    assert files(tmp_path / "demo") == ["photometry.parquet", "photometry.png", "sources.parquet", "spectra.png"]
    assert "300 sources in 17 bands" in result.stdout
    assert "Try next:" in result.stdout
    assert len(catalogue.read_catalogue(tmp_path / "demo" / "photometry.parquet")) == 300
    again = xp("demo", "-n", 300, "--output-dir", tmp_path / "demo")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
