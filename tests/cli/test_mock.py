"""Mock sources and the demonstration."""

from pathlib import Path

import numpy as np
import pytest

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


def test_simulate_observes_spectra(tmp_path: Path) -> None:
    """As Python does with the same numbers; what does not go together is refused."""
    x = np.arange(3200.0, 10801.0, 10.0)
    flux = np.exp(-26000 / x)
    np.savetxt(tmp_path / "star.txt", np.stack([x, flux], axis=1))
    star = ["--spectra", tmp_path / "star.txt", "--unit", "Angstrom", "--medium", "vacuum"]
    result = xp("simulate", *star, "--g-mag", 15, "--ebv", 0.1, "--seed", 4, "-o", tmp_path / "a.parquet")
    assert result.exit_code == 0, result.stderr
    assert "1 observed sources written" in result.stderr
    made = xpjax.read(tmp_path / "a.parquet", dtype=np.float64, keep=["phot_g_mean_mag", "spectrum"])
    same = xpjax.observe(x / 10, flux, g_mag=15.0, ebv=0.1, noise=4)
    assert np.allclose(made.coefficients.value, same.coefficients.value, rtol=1e-12)
    assert np.allclose(made.coefficients.error, same.coefficients.error, rtol=1e-12)
    assert made.columns["phot_g_mean_mag"] == pytest.approx([15.0], abs=1e-9)
    assert made.columns["spectrum"] == ["star"]
    clean = xp("simulate", *star, "--g-mag", 15, "--no-noise", "--no-correlations", "-o", tmp_path / "b.fits")
    assert clean.exit_code == 0, clean.stderr
    plain = xpjax.read(tmp_path / "b.fits", dtype=np.float64)
    assert np.allclose(plain.coefficients.value, xpjax.observe(x / 10, flux, g_mag=15.0).coefficients.value, rtol=1e-12)
    assert plain.coefficients.correlation is None
    for arguments, message in (
        (star, "--g-mag, or --flux-unit"),
        ([*star, "-n", 3], "-n is for mock sources"),
        (["--g-mag", 15], "--g-mag: for --spectra"),
        (star[:2], "--unit"),
        ([*star, "--g-mag", 15, "--release", "DR9"], "unknown release"),
        ([*star, "--g-mag", 15, "--law", "nothing", "--ebv", 1], "unknown extinction law"),
        ([*star, "--g-mag", 15, "--law", "nothing"], "unknown extinction law"),
        ([*star, "--flux-unit", "Jy", "--per", "wavelength"], "--per wavelength contradicts --flux-unit Jy"),
        ([*star, "--g-mag", 99], "no source has known errors"),
        ([*star, "--g-mag", "nan"], "--g-mag is nan"),
    ):
        refused = xp("simulate", *arguments, "-o", tmp_path / "c.parquet")
        assert refused.exit_code == 2, arguments
        assert message in refused.stderr, refused.stderr
    assert not (tmp_path / "c.parquet").exists()
