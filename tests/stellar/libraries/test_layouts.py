"""The commands of the guide's page on grids, each run on a small library that is laid out as the one that it is for."""

from __future__ import annotations

import gzip
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tests.cli.helpers import xp
from xpjax.stellar import read_grid
from xpjax.stellar.libraries import read_library

GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "grids.md"
LINES = GUIDE.read_text().replace("\\\n", " ")
COMMANDS = [shlex.split(line) for line in re.findall(r"^    xpjax (labels grid build .*)$", LINES, re.M)]
NODES = [(t, g, z) for t in (5000, 5500, 6000) for g in (4.0, 4.5) for z in (-0.5, 0.0)]
WAVE = np.geomspace(3000.0, 11500.0, 6000)
"""Wavelengths [Angstrom]."""


def flux(teff: float, logg: float, mh: float) -> np.ndarray:
    """Spectra that tell their labels apart: a black body with a line as deep as its [M/H] and as wide as its log g."""
    line = (0.3 + 0.2 * mh) * np.exp(-0.5 * ((WAVE - 5200) / (30 * logg)) ** 2)
    return (WAVE / 5000) ** -5 / np.expm1(1.4388e8 / (WAVE * teff)) * (1 - line) * 1e9


def text(*columns: np.ndarray) -> bytes:
    return "\n".join(" ".join(f"{x:.7e}" for x in row) for row in zip(*columns, strict=True)).encode()


def phoenix(home: Path) -> None:
    home.mkdir()
    fits.PrimaryHDU(WAVE).writeto(home / "WAVE_PHOENIX-ACES-AGSS-COND-2011.fits")
    for teff, logg, mh in NODES:
        name = f"lte{teff:05}-{logg:.2f}{mh - 1e-9:+.1f}.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits"
        image = fits.PrimaryHDU(flux(teff, logg, mh))
        image.header["BUNIT"] = "erg/s/cm^2/cm"
        folder = home / f"Z{mh - 1e-9:+.1f}"
        folder.mkdir(exist_ok=True)
        image.writeto(folder / name)
    # Enhanced in alpha elements: it is not meant.
    (folder / "lte05000-4.00-0.0.Alpha=+0.20.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits").write_bytes(b"")


def bosz(home: Path) -> None:
    home.mkdir()
    (home / "bosz2024_wave_r500.txt").write_bytes(text(WAVE))
    for teff, logg, mh in NODES:
        name = f"bosz2024_mp_t{teff}_g{logg:+.1f}_m{mh:+.2f}_a+0.00_c+0.00_v2_r500_resam.txt.gz"
        content = text(flux(teff, logg, mh), np.full_like(WAVE, 5.0))
        folder = home / "r500" / f"m{mh:+.2f}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(gzip.compress(content))
    (folder / name.replace("a+0.00", "a+0.25")).write_bytes(gzip.compress(content))


def marcs(home: Path) -> None:
    home.mkdir()
    (home / "flx_wavelengths.vac.gz").write_bytes(gzip.compress(text(WAVE)))
    for teff, logg, mh in NODES:
        name = (
            f"p{teff}_g{logg:+.1f}_m0.0_t02_st_z{mh:+.2f}_a{-0.4 * mh:+.2f}_c+0.00_n+0.00_o+0.00_r+0.00_s+0.00.flx.gz"
        )
        (home / name).write_bytes(gzip.compress(text(flux(teff, logg, mh))))


def coelho(home: Path) -> None:
    home.mkdir()
    for teff, logg, mh in NODES:
        image = fits.PrimaryHDU(flux(teff, logg, mh))
        step = np.log10(WAVE[1] / WAVE[0])
        labels = {"TEFF": teff, "LOG_G": logg, "FEH": mh, "AFE": 0.0}
        image.header.update({"CRVAL1": np.log10(WAVE[0]), "CD1_1": step, "CRPIX1": 1, **labels})
        image.writeto(home / f"t{teff:05}_g{logg:+.1f}_{'m' if mh < 0 else 'p'}{abs(round(10 * mh)):02}p00_sed.fits")
    image.writeto(home / "t05000_g+4.0_p00p04_sed.fits")


def ferre(path: Path) -> None:
    head = [
        "&SYNTH", "SYNTHFILE_INTERNAL = 'made'", "N_OF_DIM = 3", "N_P = 3 2 2", f"NPIX = {len(WAVE)}",
        "LABEL(1) = 'TEFF'", "LABEL(2) = 'LOGG'", "LABEL(3) = 'METALS'",
        "LLIMITS = 5000 4.0 -0.5", "STEPS = 500 0.5 0.5",
        f"WAVE = {np.log10(WAVE[0]):.12f} {np.log10(WAVE[1] / WAVE[0]):.12e}", "LOGW = 1", "/",
    ]  # fmt: skip
    path.write_bytes("\n".join(head).encode() + b"\n" + b"\n".join(text(*flux(*n)[:, None]) for n in NODES))


LAYOUTS = {"phoenix": phoenix, "bosz": bosz, "marcs": marcs, "s_coelho14_sed": coelho, "nsc1.dat": ferre}


def test_the_guide_has_a_command_for_each_library() -> None:
    assert {command[4] for command in COMMANDS} == {*LAYOUTS, "ck04models", "nextgen_1nm.npz"}


@pytest.mark.parametrize(("source", "command"), [pytest.param(c[4], c, id=c[4]) for c in COMMANDS if c[4] in LAYOUTS])
def test_commands_of_the_guide(
    source: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    LAYOUTS[source](tmp_path / source)
    command = ["20" if word == "xp" else word for word in command]  # the layout is in question, not the resolution
    result = xp(*command)
    assert result.exit_code == 0, result.stderr
    grid = read_grid(command[command.index("-o") + 1])
    assert (grid.names, grid.shape) == (("teff", "logg", "mh"), (3, 2, 2))
    assert [x.tolist() for x in grid.nodes] == [[5000, 5500, 6000], [4.0, 4.5], [-0.5, 0.0]]
    assert not grid.holes.any()
    near = np.abs(np.asarray(grid.wavelength) - 800).argmin()
    blue = np.abs(np.asarray(grid.wavelength) - 420).argmin()
    for index, node in zip(np.ndindex(grid.shape), NODES, strict=True):
        model = np.interp([420, 800], WAVE / 10, flux(*node))
        ours = np.asarray(grid.flux)[index]
        assert ours[blue] / ours[near] == pytest.approx(model[0] / model[1], rel=0.02)


def test_columns_and_logarithms_that_are_said_are_checked(tmp_path: Path) -> None:
    bosz(tmp_path / "b")
    options = {"pattern": "bosz*_t{teff}_g{logg}_m{mh}_a+0.00*", "unit": "Angstrom", "medium": "vacuum"}
    apart = {"wavelengths": tmp_path / "b" / "bosz2024_wave_r500.txt", **options}
    with pytest.raises(ValueError, match=r"2 columns, expected one; leave out .* or say by flux_column= which of them"):
        list(read_library("files", tmp_path / "b", **apart))
    with pytest.raises(ValueError, match=r"2 columns, and flux_column=3; name one of these"):
        list(read_library("files", tmp_path / "b", flux_column=3, **apart))
    with pytest.raises(ValueError, match=r"flux_column=1: the number of a column of text files"):
        read_library("files", tmp_path / "b", flux_column=1, **options)
    (second, *_) = read_library("files", tmp_path / "b", flux_column=2, **apart)
    assert np.all(second.flux == 5)
    coelho(tmp_path / "c")
    how = {"pattern": "t*p00_sed.fits", "keywords": {"teff": "TEFF", "logg": "LOG_G", "mh": "FEH"}, "medium": "vacuum"}
    with pytest.raises(ValueError, match="are they logarithms that the file does not call so"):
        list(read_library("files", tmp_path / "c", unit="Angstrom", **how))
    for file in (tmp_path / "c").glob("*p00_sed.fits"):
        fits.setval(file, "CTYPE1", value="LN(WAVELENGTH)")
    with pytest.raises(ValueError, match=r"contradicts unit='log10\(Angstrom\)'; leave that out, or mend the file"):
        list(read_library("files", tmp_path / "c", unit="log10(Angstrom)", **how))
