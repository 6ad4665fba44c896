"""Exported systems: GaiaXPy, run live, loads them and gives the same magnitudes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import xpjax
from tests.marks import slow_after
from tests.oracles import gaiaxpy_frame, worst
from xpjax.core.release import Release
from xpjax.synthetic.files.gaiaxpy_files import write_gaiaxpy
from xpjax.synthetic.passband import Passband, PassbandSet
from xpjax.synthetic.projection import passband_system
from xpjax.synthetic.system import PhotometricSystem, from_projection, stack
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable

REAL = "xp/xp_bright_corr_20.parquet"


def bump(name: str, center: float, width: float, **options: Any) -> Passband:
    wavelength = np.arange(center - 3 * width, center + 3 * width, 1.0)
    return Passband(name, wavelength, np.exp(-(np.abs((wavelength - center) / width) ** 4)), **options)


def ab_system() -> PhotometricSystem:
    bands = (bump("u", 380, 15), bump("F640", 640, 10), bump("wide", 700, 100, detector="energy"))
    return passband_system(PassbandSet("Own", bands))


def vega_system() -> PhotometricSystem:
    bands = [bump(n, x, 40, magnitude="Vega", zero_point=z) for n, x, z in (("B", 440, -25.5), ("V", 550, -26.1))]
    return passband_system(PassbandSet("OwnVega", tuple(bands)))


def loaded(folder: Path, table: SourceTable, names: list[str], **options: Any) -> Any:
    """GaiaXPy's photometry in the systems of a folder."""
    from gaiaxpy import generate, load_additional_systems

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        known = load_additional_systems(str(folder))
        members = [known[name] for name in names]
        return generate(gaiaxpy_frame(table), members, save_file=False, **options)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """GaiaXPy remembers a folder in a file of its own until it is told to forget."""
    yield
    from gaiaxpy import remove_additional_systems

    with contextlib.redirect_stdout(io.StringIO()):
        remove_additional_systems()


@pytest.fixture(scope="module")
def sources() -> SourceTable:
    return simulate.simulate_sources(6, seed=3, dtype=np.float64)


def compare(table: SourceTable, system: PhotometricSystem, folder: Path) -> dict[str, float]:
    """The largest difference of magnitudes [mag], and relative ones of fluxes and their errors."""
    members = write_gaiaxpy(folder, system)
    theirs = loaded(folder, table, list(members))
    ours = xpjax.photometry(table, system, float64=True)
    found: dict[str, float] = dict.fromkeys(("mag", "flux", "flux_error"), 0.0)
    for k, (label, name) in enumerate(zip(system.labels, system.names, strict=True)):
        columns = {what: theirs[f"USER_{label}_{what}_{name}"].to_numpy(float) for what in found}
        usual = np.abs(ours.magnitude[:, k] - columns["mag"])
        assert np.array_equal(np.isnan(ours.magnitude[:, k]), np.isnan(columns["mag"]))
        assert np.isfinite(usual).any()
        found["mag"] = max(found["mag"], float(np.nanmax(usual)))
        found["flux"] = max(found["flux"], worst(ours.flux[:, k], columns["flux"]))
        assert ours.flux_error is not None
        found["flux_error"] = max(found["flux_error"], worst(ours.flux_error[:, k], columns["flux_error"]))
    return found


@pytest.mark.parametrize("make", slow_after(1, [ab_system, vega_system]))
def test_gaiaxpy_gives_the_same_through_the_exported_file(
    make: Callable[[], PhotometricSystem], tmp_path: Path, sources: SourceTable
) -> None:
    found = compare(sources, make(), tmp_path / "systems")
    assert found["mag"] < 1e-12, found
    assert found["flux"] < 1e-12, found
    assert found["flux_error"] < 1e-12, found


@pytest.mark.slow
def test_several_systems_and_a_published_standardized_one(tmp_path: Path, sources: SourceTable) -> None:
    """A flux bias is added by GaiaXPy because the name ends in Std; units differ between the files."""
    std = xpjax.load_system("PanSTARRS1_Std")
    assert np.any(std.flux_bias != 0)
    found = compare(sources, stack([ab_system(), vega_system(), std]), tmp_path)
    assert found["mag"] < 1e-12, found
    assert len(list(tmp_path.glob("*.gaiaXPy_dr3_xpjax.xml"))) == 3


def test_real_sources(tmp_path: Path, shared: Callable[[str], Path]) -> None:
    table = xpjax.read(shared(REAL), dtype=np.float64)[:20]
    found = compare(table, stack([ab_system(), vega_system()]), tmp_path)
    assert found["mag"] < 1e-12, found


def test_a_wrong_scale_would_be_seen(tmp_path: Path, sources: SourceTable) -> None:
    """The comparison is shown to fail: the scaled vectors are not the physical ones."""
    system = ab_system()
    wrong = dataclasses.replace(system, scale=system.scale * (1 + 1e-6))
    write_gaiaxpy(tmp_path, wrong)
    theirs = loaded(tmp_path, sources, ["USER_Own"])["USER_Own_mag_u"].to_numpy(float)
    assert np.nanmax(np.abs(theirs - xpjax.photometry(sources, system, float64=True)["u"])) > 1e-7


def test_every_digit_is_in_the_file(tmp_path: Path) -> None:
    system = vega_system()
    (path,) = write_gaiaxpy(tmp_path, system).values()
    assert path.name == "OwnVega.gaiaXPy_dr3_xpjax.xml"
    root = ElementTree.parse(path).getroot()

    def array(tag: str) -> np.ndarray:
        return np.array([float(node.text or "") for node in root.findall(f"{tag}/value")])

    physical = np.asarray(system.projection) * np.asarray(system.scale)
    for xp, rows in zip(system.release.xp, system.release.slices, strict=True):
        assert np.array_equal(array(f"XpSampling/{xp}SampledBases").reshape(2, -1), physical[rows].T)
    assert np.array_equal(array("zeropoints"), system.zero_point)
    assert np.array_equal(array("XpMerge/sampleMeanWavelengths"), system.mean_wavelength)
    assert [node.text for node in root.findall("bands/item")] == ["B", "V"]


def test_existing_files_and_other_versions(tmp_path: Path) -> None:
    system = ab_system()
    write_gaiaxpy(tmp_path, system)
    with pytest.raises(FileExistsError, match="overwrite"):
        write_gaiaxpy(tmp_path, system)
    write_gaiaxpy(tmp_path, system, overwrite=True)
    with pytest.raises(ValueError, match=r"another version.*Own\.gaiaXPy_dr3_xpjax\.xml"):
        write_gaiaxpy(tmp_path, vega_system(), version="v2")
    with pytest.raises(ValueError, match="version 'a_b'"):
        write_gaiaxpy(tmp_path / "new", system, version="a_b")
    below = tmp_path / "below"
    write_gaiaxpy(below, system, name="Other")
    with pytest.raises(ValueError, match="lies deeper"):
        write_gaiaxpy(tmp_path, system, name="Other")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(NotADirectoryError, match="name a folder"):
        write_gaiaxpy(file, system)


def test_what_gaiaxpy_cannot_hold_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "never"
    system = ab_system()
    for name in ("my system", "a.b", "USER_x", "7band", "a-b"):
        with pytest.raises(ValueError, match="cannot be the name"):
            write_gaiaxpy(folder, system, name=name)
    with pytest.raises(ValueError, match=r"\['u'\] have color equations"):
        write_gaiaxpy(folder, xpjax.load_system("SDSS_Std"))
    with pytest.raises(ValueError, match="rename it"):
        write_gaiaxpy(folder, xpjax.load_system("PanSTARRS1_Std"), name="Mine")
    with pytest.raises(ValueError, match="one name for the systems"):
        write_gaiaxpy(folder, stack([system, vega_system()]), name="Both")
    with pytest.raises(ValueError, match="'_g'"):
        write_gaiaxpy(folder, dataclasses.replace(system, names=("_g", "r", "i")))
    release = Release("later", (4, 5), ("blue", "red"))
    other = from_projection(np.ones((9, 1)), np.zeros(1), ("x",), "Later", release)
    with pytest.raises(ValueError, match="BP and RP only"):
        write_gaiaxpy(folder, other)
    assert not folder.exists()
