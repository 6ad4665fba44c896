"""tools/build_instrument.py: the shipped files come back, and a made release goes from its configuration to magnitudes.

Oracles are SciPy, which evaluates what is in the configuration, and GaiaXPy's own code run on it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

import xpjax
from tests import oracles
from tests.xp import made_release as made
from xpjax.core.paths import DATA
from xpjax.core.release import DR4
from xpjax.xp import dispersion

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "build_instrument.py"
X = np.arange(331.0, 1059.0, 3.7)
pytestmark = pytest.mark.slow


def run(arguments: list[str], *path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python of its own, with folders before those of installed packages."""
    search = os.pathsep.join(map(str, [*path, ROOT]))
    known = {**os.environ, "PYTHONPATH": search, "JAX_PLATFORMS": "cpu", **environment}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=known, check=False)


@pytest.fixture(scope="module")
def tool() -> Any:
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location("build_instrument", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a made GaiaXPy, as pip installs it."""
    folder = tmp_path_factory.mktemp("site")
    made.write_package(folder)
    return folder


@pytest.fixture(scope="module")
def data(site: Path) -> Path:
    """Files of Gaia DR4, made on the day that pip has a GaiaXPy with it, and a csv of sources."""
    folder = site / "xpjax"
    done = run([str(TOOL), "--output", str(folder)], site)
    assert done.returncode == 0, done.stderr
    assert "Gaia DR4, models v500h/v200h, v501s/v201s (default v500h/v200h), bases bspline" in done.stdout
    made.write_sources(folder / "dr4.csv", made.sources())
    return folder


@pytest.fixture
def dr4(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where xpjax finds it by release."""
    monkeypatch.setenv("XPJAX_DATA", str(data))
    return data


def everything(path: Path) -> dict[str, Any]:
    """All datasets, to the bit, and attributes of an HDF5 file."""
    found: dict[str, Any] = {}

    def see(name: str, item: Any) -> None:
        found.update({f"{name}@{key}": np.asarray(value).tolist() for key, value in item.attrs.items()})
        if isinstance(item, h5py.Dataset):
            value = item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]
            found[name] = value.tolist() if value.dtype == object else (value.dtype, value.shape, value.tobytes())

    with h5py.File(path) as file:
        see("", file)
        file.visititems(see)
    return found


def test_shipped_files_come_back_to_the_bit(tool: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool.main(["--output", str(tmp_path)])
    assert "HalphaCustomAb Halpha01nm is refused" in capsys.readouterr().err
    for name in ("instrument", "systems", "broken"):
        new, shipped = everything(tmp_path / f"{name}_dr3.h5"), everything(DATA / f"{name}_dr3.h5")
        assert new == shipped
    assert len(shipped) > 10


def test_the_files_say_what_they_are_of(dr4: Path) -> None:
    instrument = xpjax.load_instrument(release="dr4")
    assert (instrument.release, instrument.model) == (DR4, "v500h/v200h")
    assert instrument.merge_range == made.RAMP
    assert instrument.wavelength_range == (330.0, 1062.0)
    assert instrument.internal_basis == "bspline"
    assert instrument.provenance["source_version"] == made.VERSION
    hashes = json.loads(instrument.provenance["source_sha256"])
    assert {"MeanBases.xml", "bpC05_v501s_bases.csv", "filters/XpFilter_v500hv200h.xml"} <= hashes.keys()
    assert xpjax.available_systems(release="Gaia DR4") == ("Broken_AB", "Gaia_DR4_Vega", "Late_AB", "Made_Std")
    system = xpjax.load_system("made_std", release="Gaia DR4")
    assert (system.release, system.model, system.standardized) == (DR4, "v500h/v200h", (True,) * 3)
    with pytest.raises(ValueError, match=r"band bad of BrokenAb is refused.*broken in GaiaXPy 3\.0\.0.*2e61"):
        xpjax.load_system("Broken_AB:bad", release=DR4)
    assert xpjax.load_system("Broken_AB", release=DR4).names == ("ok",)
    assert set(dispersion(DR4)) == {"bp", "rp"}


@pytest.mark.parametrize("kind", ["hermite", "bspline"])
def test_design_matrices_equal_scipy(dr4: Path, kind: str) -> None:
    instrument = xpjax.load_instrument("/".join(made.MODELS[kind]), release=DR4)
    for grid in (None, X):
        design = instrument.design(grid)
        found, expected = np.asarray(design.value) * design.scale, made.design(kind, made.GRID if grid is None else X)
        assert np.abs(found - expected).max() < 1e-11 * np.abs(expected).max()
    other = made.design("bspline" if kind == "hermite" else "hermite", X)
    assert np.abs(found - other).max() > 0.1 * np.abs(found).max()


def test_spectra_equal_scipy(dr4: Path) -> None:
    table, given = xpjax.read(dr4 / "dr4.csv"), made.sources()
    value = np.concatenate([given[f"{xp}_coefficients"] for xp in made.SIZES], axis=1)
    assert table.release == DR4
    found = xpjax.spectra(table, X, float64=True)
    assert oracles.worst(found.flux, value @ made.design("hermite", X)) < 1e-9
    assert xpjax.spectra(dr4 / "dr4.csv", errors=False).flux.shape == (5, len(made.GRID))
    u = np.linspace(0.1, 59.9, 200)
    inside = xpjax.spectra(table, u, internal=True, errors=False, float64=True)
    for k, xp in enumerate(made.SIZES):
        assert oracles.worst(inside.flux[:, k], given[f"{xp}_coefficients"] @ made.internal_design(xp, u)) < 1e-9


@pytest.mark.parametrize("kind", ["hermite", "bspline"])
def test_passbands_equal_quadrature(dr4: Path, kind: str) -> None:
    """Curves beyond 1050 nm too, which this release sees."""
    instrument = xpjax.load_instrument("/".join(made.MODELS[kind]), release=DR4)
    x = np.arange(330.0, 1062.01, 0.05)
    for low, high in ((450, 540), (930, 1055)):
        t = made.box(low, high, 5)(x)
        band = xpjax.synthetic.Passband("b", x, t)
        system = xpjax.passband_system(band, instrument=instrument)
        expected = np.trapezoid(made.design(kind, x) * t * x, x, axis=1) / (1e9 * made.LIGHT * np.trapezoid(t / x, x))
        found = np.asarray(system.projection)[:, 0] * float(system.scale[0])
        assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


def magnitudes(value: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes and magnitudes (n, n_band) of coefficients, straight from the configuration."""
    flux = value @ made.projection("hermite", name) + made.biases(name)
    magnitude = -2.5 * np.log10(flux) + made.zero_points(name)
    if name.endswith("Std"):
        color = magnitude[:, 1] - magnitude[:, 2]
        assert (np.clip(color, *made.COLOR_RANGE) == color).all()
        magnitude[:, 0] += np.polynomial.polynomial.polyval(color, made.POLYNOMIAL)
        flux[:, 0] = 10 ** (-0.4 * (magnitude[:, 0] - made.zero_points(name)[0]))
    return flux, magnitude


def test_photometry_equals_scipy_three_ways(dr4: Path, tmp_path: Path) -> None:
    """With arrays, with a file and on the command line: systems are found by the release of the data."""
    from click.testing import CliRunner

    from xpjax.cli import main

    table = xpjax.read(dr4 / "dr4.csv")
    value = np.asarray(table.coefficients.value, float)
    names = ["Gaia_DR4_Vega", "Made_Std", "Late_AB"]
    expected = np.concatenate([magnitudes(value, name)[1] for name in names], axis=1)
    found = xpjax.photometry(table, names, float64=True)
    assert np.abs(found.magnitude - expected).max() < 1e-9
    assert np.isfinite(found.magnitude_error).all()
    arrays = xpjax.photometry(value, names, float64=True)
    np.testing.assert_array_equal(arrays.magnitude, found.magnitude)
    again = xpjax.photometry(dr4 / "dr4.csv", names)
    assert np.abs(again.magnitude - expected).max() < 1e-4
    output = tmp_path / "mags.csv"
    options = [part for name in names for part in ("--system", name)]
    done = CliRunner().invoke(main, ["photometry", str(dr4 / "dr4.csv"), *options, "-o", str(output)])
    assert done.exit_code == 0, done.output
    written = pd.read_csv(output)
    columns = [f"{made.label(name)}_mag_{band}" for name in names for band in made.CURVES[name]]
    assert np.abs(written[columns].to_numpy() - expected).max() < 1e-4
    spectra = ["spectra", str(dr4 / "dr4.csv"), "--wavelength", "400:1060:5", "--no-errors"]
    done = CliRunner().invoke(main, [*spectra, "-o", str(tmp_path / "spectra.h5")])
    assert done.exit_code == 0, done.output
    with h5py.File(tmp_path / "spectra.h5") as file:
        known = value @ made.design("hermite", file["wavelength"][()])
        assert np.abs(file["flux"][()] - known).max() < 1e-5 * np.abs(known).max()


def test_factors_on_errors_go_by_the_releases_own_g(dr4: Path) -> None:
    table = xpjax.read(dr4 / "dr4.csv")
    g = magnitudes(np.asarray(table.coefficients.value, float), "Gaia_DR4_Vega")[1][:, 0]
    plain, factored = (
        xpjax.photometry(table, "Gaia_DR4_Vega", float64=True, error_correction=on).flux_error for on in (False, True)
    )
    low, middle, table_ = made.FACTOR_BINS[:-1], made.FACTOR_BINS[:-1] + 0.5, made.factors("Gaia_DR4_Vega")
    nodes = np.sort(np.concatenate([low, middle]))
    expected = np.stack([np.interp(g, nodes, np.repeat(table_[:, k], 2)) for k in range(3)], axis=1)
    assert oracles.worst(factored / plain, expected) < 1e-9


def test_ties_go_by_the_releases_own_g(dr4: Path) -> None:
    table = xpjax.read(dr4 / "dr4.csv")
    result = xpjax.photometry(table, "Gaia_DR4_Vega", float64=True, errors=False)
    tied = xpjax.synthetic.tie_to_gaia(table, result, given=np.full(5, 15.0))
    np.testing.assert_allclose(tied["G"], 15.0, atol=1e-9)


ORACLE = """
import sys, numpy as np, gaiaxpy
from gaiaxpy import PhotometricSystem as P
table, out = sys.argv[1:]
assert gaiaxpy.__version__ == "3.0.0", gaiaxpy.__file__
x = np.arange(331.0, 1059.0, 3.7)
absolute, _ = gaiaxpy.calibrate(table, sampling=x, save_file=False)
default, grid = gaiaxpy.calibrate(table, save_file=False)
inside, _ = gaiaxpy.convert(table, sampling=np.linspace(0.1, 59.9, 200), save_file=False)
systems = [P.Gaia_DR4_Vega, P.Made_Std, P.Late_AB]
photometry = gaiaxpy.generate(table, systems, save_file=False, error_correction=True)
stack = lambda frame, name: np.stack(list(frame[name]))
np.savez(out, absolute=stack(absolute, "flux"), absolute_error=stack(absolute, "flux_error"), grid=grid,
         default=stack(default, "flux"), inside=stack(inside, "flux"), inside_error=stack(inside, "flux_error"),
         columns=np.array(list(photometry.columns)), photometry=photometry.to_numpy(float))
"""


def test_everything_equals_gaiaxpy_run_on_the_configuration(dr4: Path, site: Path, tmp_path: Path) -> None:
    done = run(["-c", ORACLE, str(dr4 / "dr4.csv"), str(tmp_path / "oracle.npz")], site)
    assert done.returncode == 0, done.stderr
    oracle = np.load(tmp_path / "oracle.npz")
    table = xpjax.read(dr4 / "dr4.csv", dtype=np.float64)
    found = xpjax.spectra(table, X, float64=True)
    assert oracles.worst(found.flux, oracle["absolute"]) < 1e-9
    assert oracles.worst(found.flux_error, oracle["absolute_error"]) < 1e-9
    assert oracles.worst(xpjax.spectra(table, errors=False, float64=True).flux, oracle["default"]) < 1e-9
    inside = xpjax.spectra(table, np.linspace(0.1, 59.9, 200), internal=True, float64=True)
    assert oracles.worst(inside.flux.reshape(-1, 200), oracle["inside"]) < 1e-9
    assert oracles.worst(inside.flux_error.reshape(-1, 200), oracle["inside_error"]) < 1e-9
    names = ["Gaia_DR4_Vega", "Made_Std", "Late_AB"]
    mine = xpjax.photometry(table, names, float64=True, error_correction=True)
    theirs = pd.DataFrame(oracle["photometry"], columns=oracle["columns"])
    for kind, array in (("mag", mine.magnitude), ("flux", mine.flux), ("flux_error", mine.flux_error)):
        columns = [f"{s}_{kind}_{b}" for s, b in zip(mine.system.labels, mine.system.names, strict=True)]
        assert oracles.worst(array, theirs[columns].to_numpy()) < 1e-9, kind
    # A wrong answer is seen: the other model's spectra differ.
    other = xpjax.load_instrument("v501s/v201s", release=DR4)
    assert oracles.worst(xpjax.spectra(table, X, instrument=other, float64=True).flux, oracle["absolute"]) > 1e-2


def test_a_default_in_splines(tool: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Systems of the model with inverse bases in B-splines make it the default; the release is found by its sizes."""
    made.write_config(tmp_path / "config", "bspline")
    tool.main(["--config", str(tmp_path / "config"), "--output", str(tmp_path)])
    assert "no gaiaxpy-*.dist-info" in capsys.readouterr().err
    instrument = xpjax.load_instrument(path=tmp_path / "instrument_dr4.h5")
    assert instrument.model == "v501s/v201s"
    system = xpjax.load_system("Late_AB", path=tmp_path / "systems_dr4.h5")
    x = np.arange(330.0, 1062.1, 0.25)
    band = xpjax.synthetic.Passband("y", x, made.CURVES["Late_AB"]["y"](x))
    ours = xpjax.passband_system(band, instrument=instrument)
    one, two = (np.asarray(s.projection)[:, 0] * float(s.scale[0]) for s in (system, ours))
    assert np.abs(one - two).max() < 1e-5 * np.abs(one).max()


def refused(tool: Any, *arguments: str | Path) -> str:
    """What the tool says when it refuses."""
    with pytest.raises(SystemExit) as stopped:
        tool.main([*map(str, arguments)])
    return str(stopped.value)


REMOVED_BAND = re.compile("<item>i</item>")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("rpC05_v200h_response.csv", None, "design matrices of the pair|systems of 0|no rp model|has only"),
        ("MeanBases.xml", None, r"has no file MeanBases\.xml"),
        ("MeanBases.xml", lambda t: t.replace("<order>4</order>", "<order>5</order>", 1), "expected 51 x 50"),
        ("config.ini", lambda t: t.replace("response =", "answer ="), r"no response in \[calibrator\]"),
        ("filters/XpFilter_MadeStd_v500hv200h.xml", None, "names Made_Std, but filters/ has no file"),
        ("filters/XpFilter_MadeStd_v500hv200h.xml", lambda t: REMOVED_BAND.sub("", t), "for 2 bands"),
        ("colour_eq_files/MadeStd_colour_eq.ini", lambda t: t.replace("g-i", "g-z"), "names the band z"),
        (
            "filters/XpFilter_v500hv200h.xml",
            lambda t: t.replace("<rpWeights><value>0.0", "<rpWeights><value>0.5"),
            "do not add up to one",
        ),
        (
            "correction_tables/DIDREQ-465-MadeStd-correction-factors.csv",
            lambda t: t.replace("factor_g", "factor_q"),
            "not those of MadeStd",
        ),
        ("bpC05_v500h_bases.csv", lambda t: t.replace("\n51,-2.0", "\n51,-5.0"), "differ by .* of the maximum"),
    ],
)
def test_what_is_absent_or_does_not_fit_is_said(
    tool: Any, site: Path, tmp_path: Path, name: str, change: Any, said: str
) -> None:
    """One file changed, or removed (None); nothing is written then."""
    shutil.copytree(site / "gaiaxpy" / "config", tmp_path / "config")
    path = tmp_path / "config" / name
    path.unlink() if change is None else path.write_text(change(path.read_text()))
    assert re.search(said, refused(tool, "--config", tmp_path / "config", "--output", tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*"))


def test_other_sizes_than_the_releases_are_refused(tool: Any, site: Path, tmp_path: Path) -> None:
    said = refused(tool, "--config", site / "gaiaxpy", "--release", "Gaia DR3", "--output", tmp_path)
    assert "has 51 + 55 basis functions, but xpjax knows Gaia DR3 with 55 + 55" in said
    assert "has no config.ini" in refused(tool, "--config", tmp_path, "--output", tmp_path)


def test_releases_do_not_mix(dr4: Path) -> None:
    table, old = xpjax.read(dr4 / "dr4.csv"), xpjax.simulate_sources(3, seed=1)
    with pytest.raises(ValueError, match=r"\(51, 55\).*Gaia DR3 with \(55, 55\)"):
        xpjax.spectra(table, instrument=xpjax.load_instrument())
    with pytest.raises(ValueError, match=r"\(55, 55\).*Gaia DR4 with \(51, 55\)"):
        xpjax.photometry(old, xpjax.load_system("Late_AB", release=DR4))
    with pytest.raises(ValueError, match=r"unknown photometric system 'none of these' of Gaia DR4"):
        xpjax.photometry(table, "none of these")
    with pytest.raises(ValueError, match=r"'JPLUS' is no published photometric system of Gaia DR4, but passbands"):
        xpjax.photometry(table, "JPLUS")
    with pytest.raises(ValueError, match=r"correction standard is for Gaia DR3 .* not for Gaia DR4 .* leave it out"):
        xpjax.photometry(table, "Late_AB", correction="standard")
    with pytest.raises(ValueError, match=r"instrument_dr4\.h5 is for Gaia DR4 .*, not for Gaia DR3"):
        xpjax.load_instrument(path=dr4 / "instrument_dr4.h5", release="Gaia DR3")


def test_commands_list_the_files_of_a_release(dr4: Path) -> None:
    from click.testing import CliRunner

    from xpjax.cli import main

    listed = CliRunner().invoke(main, ["systems", "--release", "DR4"])
    assert listed.exit_code == 0, listed.output
    assert re.search(r"Made_Std +AB +u g i", listed.output)
    one = CliRunner().invoke(main, ["systems", "late_ab", "--release", "dr4"])
    assert "LateAb: AB magnitudes, release Gaia DR4" in one.output
    info = CliRunner().invoke(main, ["info"]).output
    assert str(dr4) in info
    assert re.search(r"model +v500h/v200h, Gaia DR4 \(default\)", info)
    assert re.search(r"instrument_dr4\.h5 +Gaia DR4 XP instrument models, from GaiaXPy 3\.0\.0", info)


def test_lines_go_by_the_releases_own_dispersion(dr4: Path) -> None:
    """GaiaXPy's interface: extrema of spectra in B-splines, at wavelengths of this release."""
    from xpjax.compat import gaiaxpy

    frame = gaiaxpy.find_extrema(dr4 / "dr4.csv", save_file=False)
    first = frame[frame["source_id"] == 10 * 2**35]
    value = made.sources()
    known = {xp: made.CubicSpline(*made.Photometer(xp, "hermite").dispersion) for xp in made.SIZES}
    checked = 0
    for xp in made.SIZES:
        u = np.linspace(0.5, 59.5, 400_001)
        slope = np.diff(value[f"{xp}_coefficients"][0] @ made.internal_design(xp, u))
        turns = u[np.flatnonzero(np.sign(slope[1:]) != np.sign(slope[:-1])) + 1]
        wavelength = np.sort([x for x in np.asarray(first["wavelength_nm"], float)])
        for at in turns:
            x = np.linspace(300, 1099, 80_000)
            here = x[np.abs(known[xp](x) - at).argmin()]
            low, high = (330, made.RAMP[1]) if xp == "bp" else (made.RAMP[0], made.GRID[-1])
            if low + 1 < here < high - 1:
                assert np.abs(wavelength - here).min() < 0.05, (xp, here)
                checked += 1
    assert checked > 20
    with pytest.raises(ValueError, match="no instrument model"):
        xpjax.load_instrument("v375wi/v142r", release=DR4)


def test_a_release_without_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XPJAX_DATA", str(tmp_path))
    said = r"Gaia DR4 \(51, 55\), but xpjax has {} of DR3 only: .*build_instrument\.py.*XPJAX_DATA"
    with pytest.raises(ValueError, match=said.format("instrument models")):
        xpjax.load_instrument(release="Gaia DR4")
    with pytest.raises(ValueError, match=said.format("photometric systems")):
        xpjax.load_system("JPLUS", release="Gaia DR4")
    shutil.copy(DATA / "instrument_dr3.h5", tmp_path / "instrument_dr4.h5")
    with pytest.raises(ValueError, match=r"instrument_dr4\.h5 is for Gaia DR3"):
        xpjax.load_instrument(release="Gaia DR4")
    monkeypatch.delenv("XPJAX_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "xpjax"))):
        xpjax.load_instrument(release="Gaia DR4")
