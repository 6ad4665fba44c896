"""Lists and figures."""

from pathlib import Path

import pytest

import xpjax
from tests.cli.helpers import xp


def test_systems() -> None:
    listed = xp("systems")
    assert listed.exit_code == 0
    assert len(listed.stdout.splitlines()) == 2 + len(xpjax.available_systems())
    one = xp("systems", "jplus").stdout
    assert "Jplus: AB magnitudes" in one
    assert "gJPLUS  481" in one


def test_info() -> None:
    result = xp("info")
    assert result.exit_code == 0
    for text in (xpjax.__version__, "jax", "devices", "v375wi/v142r, Gaia DR3 (default)", "from GaiaXPy 2.1.5"):
        assert text in result.stdout


def test_plot(inputs: Path, tmp_path: Path) -> None:
    """Spectra, photometry and XP coefficients; the figure is refused where it exists."""
    xp("spectra", inputs / "sources.fits", "-o", tmp_path / "s.csv")
    xp("photometry", inputs / "sources.fits", "--system", "SDSS", "-o", tmp_path / "p.fits")
    for name, extra in (("s.csv", ("--source", 3 << 40, "--system", "JPLUS")), ("p.fits", ())):
        result = xp("plot", tmp_path / name, *extra)
        assert result.exit_code == 0, result.stderr
        assert (tmp_path / name).with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert xp("plot", tmp_path / name, *extra).exit_code == 2
        assert xp("plot", tmp_path / name, *extra, "--overwrite").exit_code == 0
    assert xp("plot", inputs / "sources.csv.gz", "-o", tmp_path / "x.pdf").exit_code == 0
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    call = ("--bands", "u,z,g", "--limits", 0, 3, "--source", 3 << 40, "-o", tmp_path / "chosen.svg")
    assert xp("plot", tmp_path / "p.fits", *call).exit_code == 0
    xp("spectra", inputs / "sources.fits", "--correction", "standard", "-o", tmp_path / "better.h5")
    both = (tmp_path / "s.csv", tmp_path / "better.h5", "--limits", 400, 700, "-o", tmp_path / "both.png")
    assert xp("plot", *both).exit_code == 0
    for call in (("s.csv", "--bands", "u,z,g"), ("p.fits", "--bands", "u,z"), ("s.csv", "--limits", 10, 20)):
        assert xp("plot", tmp_path / call[0], *call[1:], "-o", tmp_path / "no.png").exit_code == 2
    for call in (("s.csv", "--source", 9), ("p.fits", "--source", 9), ("p.fits", "--system", "JPLUS")):
        assert xp("plot", tmp_path / call[0], *call[1:], "-o", tmp_path / "no.png").exit_code == 2
    assert not (tmp_path / "no.png").exists()


def test_plot_without_sources(inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "head.csv").write_text((inputs / "sources.csv").read_text().partition("\n")[0] + "\n")
    xp("spectra", tmp_path / "head.csv", "-o", tmp_path / "s.csv")
    xp("photometry", tmp_path / "head.csv", "--system", "SDSS", "-o", tmp_path / "p.h5")
    for name in ("head.csv", "s.csv", "p.h5"):
        result = xp("plot", tmp_path / name, "-o", tmp_path / "no.png")
        assert result.exit_code == 2
        assert f"{name}: the file has no sources" in result.stderr


@pytest.mark.slow
def test_plot_of_internal_spectra_takes_no_system(inputs: Path, tmp_path: Path) -> None:
    xp("spectra", inputs / "sources.fits", "--internal", "-o", tmp_path / "s.h5")
    assert xp("plot", tmp_path / "s.h5").exit_code == 0
    result = xp("plot", tmp_path / "s.h5", "--system", "JPLUS", "-o", tmp_path / "no.png")
    assert result.exit_code == 2
    assert "internal spectra" in result.stderr
