"""Passbands from the command line: lists, tables, figures, own systems, checks, the network's, GaiaXPy's, and fits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.table import Table

import xpjax
from tests.cli.helpers import files, made, xp
from xpjax.core.records import Catalogue
from xpjax.core.shipped import filters_folder, shipped_passbands
from xpjax.io import catalogue
from xpjax.synthetic.chain_file import read_chain
from xpjax.synthetic.files.passband_files import write_passbands
from xpjax.synthetic.passband import DETECTORS, MAGNITUDES, Passband, PassbandSet
from xpjax.xp import simulate

GRID = np.arange(380.0, 570.0)
BOX = 0.25 * (1 + np.tanh((GRID - 400) / 4)) * (1 - np.tanh((GRID - 550) / 4))
BOX[[0, -1]] = 0.0


def text(path: Path, x: np.ndarray = GRID, t: np.ndarray = BOX, head: str = "# wavelength [nm]\n") -> Path:
    path.write_text(head + "\n".join(f"{a} {b:.8f}" for a, b in zip(x, t, strict=True)))
    return path


def box(name: str = "g", **options: Any) -> Passband:
    return Passband(name, GRID, BOX, **options)


def refused(folder: Path, message: str, *call: object) -> None:
    """Exit status 2, one message, and no file that was not there."""
    before = files(folder)
    result = xp("passband", *call)
    assert result.exit_code == 2, result.stdout
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert files(folder) == before


# --- list, show, plot -------------------------------------------------------------------------------------------------


def test_the_group_has_help_and_examples() -> None:
    result = xp("passband", "--help")
    assert result.exit_code == 0
    for name in ("list", "show", "plot", "build", "check", "fetch", "export", "fit"):
        assert f"  {name} " in result.stdout
        assert f"  xpjax passband {name}" in xp("passband", name, "--help").stdout


def test_choices_are_the_records() -> None:
    shown = xp("passband", "build", "--help").stdout
    assert f"[{'|'.join(DETECTORS)}]" in shown
    assert {f"{name}".lower() for name in MAGNITUDES} == {"ab", "st", "vega"}
    assert "[ab|st|vega]" in shown.lower()


def test_list() -> None:
    result = xp("passband", "list")
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.stdout.splitlines()[2:]}
    assert list(rows) == list(shipped_passbands())
    assert rows["minisitian"].split()[:3] == ["minisitian", "3", "chain"]
    assert "stand-in" in rows["minisitian"]
    for name, folder in shipped_passbands().items():
        if not (folder / "system.toml").is_file():
            chosen = xpjax.load_passbands(name)
            assert rows[name].split()[1] == str(len(chosen))
            assert all(str(band.meta["kind"]) in rows[name] for band in chosen)
            assert str(chosen.meta.get("title", chosen.label))[:20] in rows[name]


def test_list_reads_headers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In curves as they are written, with long entries; names of folders without curves are left out."""
    made_set = PassbandSet("Mine", (box(meta={"kind": "measured"}), box("r", meta={"kind": "recovered"})))
    write_passbands(tmp_path / "mine", made_set)
    titled = PassbandSet("Other", (box(meta={"kind": "computed"}),), {"title": "It's one, of 'many': " + "long " * 40})
    write_passbands(tmp_path / "other", titled)
    (tmp_path / "components").mkdir()
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("xpjax.core.shipped.filters_folder", lambda: tmp_path)
    lines = xp("passband", "list").stdout.splitlines()[2:]
    assert lines[0].split() == ["mine", "2", "measured,", "recovered", "Mine"]
    assert lines[1].startswith("other  1      computed             It's one, of 'many': long long")
    assert len(lines) == 2


def test_list_is_quick() -> None:
    code = (
        "import sys; from xpjax.cli import main; main(['passband', 'list'], standalone_mode=False);"
        "heavy = {'jax', 'equinox', 'astropy', 'h5py'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_show(tmp_path: Path) -> None:
    write_passbands(tmp_path / "v.ecsv", box(magnitude="Vega", meta={"kind": "recovered", "residual": 1.24e-6}))
    result = xp("passband", "show", "minisitian:r,g", tmp_path / "v.ecsv")
    assert result.exit_code == 0, result.stderr
    first, second = result.stdout.split("\n\n")
    lines = first.splitlines()
    assert lines[0].startswith("MiniSiTian: 2 passbands, mini-SiTian g r i")
    assert [line.split()[0] for line in lines[3:]] == ["r", "g"]
    assert "residual" not in lines[1]
    row = second.splitlines()[3].split()
    pivot = np.sqrt((550**2 - 400**2) / 2 / np.log(550 / 400))  # of a box
    assert [row[k] for k in (0, 1, 3, 4, 5)] == ["g", "475.00", "150.00", "381..568", "1"]
    assert float(row[2]) == pytest.approx(pivot, abs=0.1)
    assert row[6:] == ["0.00", "%", "photon", "Vega", "none", "recovered", "1.2e-06"]
    # A recovered curve ends at 330 nm, the published band does not.
    row = xp("passband", "show", "JPLUS:uJAVA").stdout.splitlines()[-1].split()
    assert row[6] == f"{100 * xpjax.load_passbands('JPLUS:uJAVA')['uJAVA'].cut_off:.2f}" == "7.83"
    refused(tmp_path, "no file or folder 'nosuch'", "show", "minisitian", "nosuch")
    refused(tmp_path, "MiniSiTian has no passband 'q'; it has", "show", "minisitian:q")


def test_plot(tmp_path: Path) -> None:
    result = xp("passband", "plot", "minisitian", text(tmp_path / "g.dat"), "-o", tmp_path / "figure.png")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    over = ("minisitian:g", tmp_path / "g.dat", "--together", "--limits", 380, 600, "-o", tmp_path / "over.png")
    assert xp("passband", "plot", *over).exit_code == 0
    none = ("no wavelength of a passband from 10 to 20", "plot", "minisitian", "--limits", 10, 20)
    refused(tmp_path, *none, "-o", tmp_path / "none.png")
    refused(tmp_path, "exists", "plot", "minisitian", "-o", tmp_path / "figure.png")
    refused(tmp_path, "the suffix of a figure", "plot", "minisitian", "-o", tmp_path / "figure.txt")
    refused(tmp_path, "no file or folder", "plot", "nosuch", "-o", tmp_path / "other.png")
    assert xp("passband", "plot", "minisitian", "-o", tmp_path / "figure.png", "--overwrite").exit_code == 0


# --- build ------------------------------------------------------------------------------------------------------------


def test_build_from_curves(tmp_path: Path) -> None:
    curves = [text(tmp_path / f"{name}.dat", 10 * GRID + shift, head="") for name, shift in (("b", 100), ("a", 0))]
    call = ("--names", "x,y", "--label", "Mine", "--unit", "Angstrom", "--detector", "energy", "--magnitude", "st")
    result = xp("passband", "build", *curves, *call, "--normalize", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "wrote 2 passbands of Mine (x, y)" in result.stderr
    found = xpjax.load_passbands(tmp_path / "out")
    assert (found.label, found.names) == ("Mine", ("x", "y"))
    assert [(b.detector, b.magnitude, b.transmission.max()) for b in found] == [("energy", "ST", 1.0)] * 2
    assert np.allclose(found["y"].wavelength, GRID)
    assert found.meta["command"] == "xpjax passband build"
    assert found.meta["version"] == xpjax.__version__
    assert str(tmp_path) not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())


def test_build_says_what_is_known_besides(tmp_path: Path) -> None:
    call = ("--meta", "kind=measured", "--meta", "reference=Doe et al., 2025")
    assert xp("passband", "build", text(tmp_path / "g.dat"), *call, "-o", tmp_path / "out").exit_code == 0
    meta = xpjax.load_passbands(tmp_path / "out")["g"].meta
    assert (meta["kind"], meta["reference"]) == ("measured", "Doe et al., 2025")
    refused(tmp_path, "--meta 'kind': expected KEY=TEXT", "build", "minisitian", "--meta", "kind", "-o", tmp_path / "x")


def test_build_a_single_file_and_clip(tmp_path: Path) -> None:
    dipping = BOX.copy()
    dipping[3] = -1e-5
    curve = text(tmp_path / "g.dat", t=dipping)
    refused(tmp_path, "negative; read it with --clip to", "build", curve, "-o", tmp_path / "out.ecsv")
    assert xp("passband", "build", curve, "--clip", "-o", tmp_path / "out.ecsv").exit_code == 0
    assert xpjax.load_passbands(tmp_path / "out.ecsv")["g"].meta["clipped"] == 1


def test_build_from_a_chain(tmp_path: Path) -> None:
    call = ("--set", "airmass=2,water=3", "--set", "filter_shift=1.5", "--label", "High", "--names", "one,two")
    result = xp("passband", "build", "minisitian:r,g", *call, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    chain = read_chain(filters_folder() / "minisitian" / "system.toml")
    expected = chain.with_parameters(airmass=2.0, water=3.0, filter_shift=1.5).passbands()
    found = xpjax.load_passbands(tmp_path / "out")
    assert (found.label, found.names) == ("High", ("one", "two"))
    assert np.array_equal(found["two"].transmission, expected["g"].transmission)
    assert not np.array_equal(found["two"].transmission, chain.passbands()["g"].transmission)
    assert found.meta["option_changes"] == ["airmass=2,water=3", "filter_shift=1.5"]


def vega(folder: Path, name: str) -> Path:
    """A steep made spectrum in Angstrom, in three formats."""
    x = np.arange(2000.0, 12000.0, 2.0)
    f = 1e-9 * (x / 5500) ** -2.0
    f[x < 3900] *= 0.4
    table = Table({"WAVELENGTH": x, "FLUX": f})
    if name.endswith(".fits"):
        table["WAVELENGTH"].unit, table["FLUX"].unit = "Angstrom", "erg / (s cm2 Angstrom)"
        table.write(folder / name)
    elif name.endswith(".ecsv"):
        table["WAVELENGTH"] = (x / 10) * units.nm
        table.write(folder / name)
    else:
        np.savetxt(folder / name, np.stack([x, f], axis=1), header="a made alpha Lyr")
    return folder / name


@pytest.mark.parametrize("name", ["vega.fits", "vega.ecsv", "vega.txt"])
def test_build_with_vega(tmp_path: Path, name: str) -> None:
    curve = text(tmp_path / "g.dat")
    result = xp("passband", "build", curve, "--vega-spectrum", vega(tmp_path, name), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    band = xpjax.load_passbands(tmp_path / "out")["g"]
    x = np.arange(200.0, 1200.0, 0.2)
    f = (x / 550) ** -2.0 * np.where(x < 390 - 1e-6, 0.4, 1.0)
    assert band.magnitude == "Vega"
    assert band.zero_point == pytest.approx(box(magnitude="Vega").vega_zero_point(x, f), abs=1e-6)
    assert name in band.meta["zero_point_from"]


def test_build_with_zero_points(tmp_path: Path) -> None:
    curve = text(tmp_path / "g.dat")
    call = ("build", curve, "--magnitude", "Vega", "-o", tmp_path / "out")
    assert xp("passband", *call, "--zero-points", "-26.2").exit_code == 0
    assert xpjax.load_passbands(tmp_path / "out")["g"].zero_point == -26.2
    refused(tmp_path, "gives 2 numbers for the 1 bands", *call, "--zero-points", "-26.2,-26", "--overwrite")
    refused(tmp_path, "--zero-points x:", *call, "--zero-points", "x", "--overwrite")


def test_build_refusals(tmp_path: Path) -> None:
    curve, out = text(tmp_path / "g.dat"), ("-o", tmp_path / "out")
    spectrum = vega(tmp_path, "vega.txt")
    (tmp_path / "bad.txt").write_text("no spectrum\n")
    np.savetxt(tmp_path / "short.txt", [[600, 1], [700, 0.5]])
    Table({"WAVELENGTH": [400.0, 700.0] * units.nm, "FLUX": [1.0, 2.0] * units.Jy}).write(tmp_path / "fnu.ecsv")
    (tmp_path / "folder").mkdir()
    for call, message in (
        ((curve, "--set", "airmass=1"), "--set changes a transmission chain"),
        ((curve, curve), "both have a passband 'g'"),
        ((curve, tmp_path / "folder"), "is a folder; give one folder by itself, or files"),
        ((tmp_path / "folder",), "holds no curves"),
        ((curve, "--names", "a,b"), "--names gives 2 names for the 1 bands"),
        ((curve, "--label", "a b"), "label 'a b'"),
        ((curve, "--unit", "furlong"), "is no unit of wavelengths"),
        ((curve, "--magnitude", "AB", "--vega-spectrum", spectrum), "leave out --magnitude"),
        ((curve, "--vega-spectrum", tmp_path / "bad.txt"), "no rows of numbers, expected columns of wavelength"),
        ((curve, "--vega-spectrum", tmp_path / "short.txt"), "covers 600..700 nm, and is scaled at 550 nm"),
        ((curve, "--vega-spectrum", tmp_path / "fnu.ecsv"), "per frequency; give it per wavelength"),
        (("minisitian", curve), "is a transmission chain; build it by itself"),
        (("minisitian", "--clip", "--unit", "nm"), "for curves, and minisitian describes a chain; change it there"),
        (("minisitian", "--set", "airmas=1"), "did you mean 'airmass'"),
        (("minisitian", "--set", "airmass=-1"), "airmass"),
        (("minisitian", "--set", "airmass"), "--set 'airmass': expected NAME=NUMBER"),
        (("minisitian:q",), "MiniSiTian has no passband 'q'"),
        (("nosuch",), "no file or folder 'nosuch'"),
    ):
        refused(tmp_path, message, "build", *call, *out)
    refused(tmp_path, "is a file; name a folder", "build", curve, "-o", curve, "--overwrite")
    refused(tmp_path, "no directory", "build", curve, "-o", tmp_path / "nowhere" / "out")
    refused(tmp_path, "a file holds one passband, not 3", "build", "minisitian", "-o", tmp_path / "out.ecsv")
    assert xp("passband", "build", curve, *out).exit_code == 0
    refused(tmp_path, "exists; name another one", "build", curve, *out)
    assert xp("passband", "build", curve, *out, "--overwrite").exit_code == 0


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_of_good_passbands() -> None:
    result = xp("passband", "check", "minisitian")
    assert (result.exit_code, result.stdout) == (0, "MiniSiTian: 3 passbands, all can be used\n")


def test_check_tells_what_is_odd(tmp_path: Path) -> None:
    odd = {
        "blue": (GRID - 72, BOX, "lies outside 330..1050 nm, where XP does not see: fluxes miss that light; --extrap"),
        "coarse": ([400, 420, 440, 460], [0, 0.5, 0.5, 0], "a step of 20 nm at 400 nm"),
        "faint": (GRID, 0.005 * BOX, "the peak is 0.005"),
        "cut": (GRID[50:], BOX[50:], "begins at 430 nm with 100 % of its peak"),
    }
    for name, (x, t, message) in odd.items():
        result = xp("passband", "check", text(tmp_path / f"{name}.dat", np.asarray(x), np.asarray(t)))
        assert result.exit_code == 0, result.stdout
        lines = result.stdout.splitlines()
        assert len(lines) == 2, lines
        assert lines[0].startswith(f"{name} {name}: ")
        assert message in lines[0]
        assert lines[1] == f"{name}: 1 passband, all can be used, 1 remark"
    result = xp("passband", "check", text(tmp_path / "guess.dat", head=""))
    assert "states no unit of wavelengths, which were taken to be 380..569 nm; if they are not, build" in result.stdout


def test_check_of_what_photometry_refuses(tmp_path: Path) -> None:
    write_passbands(tmp_path / "v.ecsv", box("v", magnitude="Vega"))
    text(tmp_path / "red.dat", GRID + 600)
    for name, message in (("v.ecsv", "v v: refused: passband v has Vega magnitudes but no"), ("red.dat", "refused: ")):
        result = xp("passband", "check", tmp_path / name)
        assert result.exit_code == 1
        assert message in result.stdout
        assert "1 refused" in result.stdout
    result = xp("passband", "check", tmp_path / "v.ecsv", "nosuch", "minisitian")
    assert result.exit_code == 2
    assert "nosuch: cannot be read: no file or folder" in result.stdout
    assert "MiniSiTian: 3 passbands, all can be used" in result.stdout


# --- fetch and export -------------------------------------------------------------------------------------------------


class Service:
    """astroquery's SvoFps with one filter."""

    error: Exception | None = None

    def get_filter_list(self, facility: str, *, cache: bool = True) -> Table:
        if self.error is not None:
            raise self.error
        columns = {"filterID": ["CTIO/DECam.g"], "DetectorType": ["1"], "MagSys": ["Vega"], "ZeroPointUnit": ["Jy"]}
        return Table({**columns, "ZeroPoint": [3900.0], "WavelengthMean": [4750.0], "Mag0": [0.0]})

    def get_transmission_data(self, name: str, cache: bool = True) -> Table:
        return Table({"Wavelength": 10 * GRID * units.AA, "Transmission": BOX})


def test_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service, module = Service(), ModuleType("astroquery.svo_fps")
    module.SvoFps = service  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "astroquery", ModuleType("astroquery"))
    monkeypatch.setitem(sys.modules, "astroquery.svo_fps", module)
    out = ("-o", tmp_path / "decam")
    refused(tmp_path, "has no 'CTIO/DECam.k'; did you mean CTIO/DECam.g", "fetch", "CTIO/DECam.k", *out)
    result = xp("passband", "fetch", "CTIO/DECam.g", "--magnitude", "AB", "--label", "decam", *out)
    assert result.exit_code == 0, result.stderr
    found = xpjax.load_passbands(tmp_path / "decam")
    assert (found.label, found.names, found["g"].magnitude) == ("decam", ("g",), "AB")
    assert np.allclose(found["g"].transmission, BOX)
    service.error = TimeoutError("timed out")
    refused(tmp_path, "exists", "fetch", "CTIO/DECam.g", *out)
    refused(tmp_path, "gave no answer", "fetch", "CTIO/DECam.g", "-o", tmp_path / "other")


def test_export(tmp_path: Path) -> None:
    curve = text(tmp_path / "u.dat", GRID - 72)
    result = xp("passband", "export", curve, "--name", "MyU", "--extrapolate", "linear", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert files(tmp_path / "out") == ["MyU.gaiaXPy_dr3_xpjax.xml"]
    assert f'gaiaxpy.load_additional_systems("{tmp_path / "out"}")' in result.stderr
    assert "photometric_system=known.USER_MyU" in result.stderr
    assert "is extrapolated to 322 nm" in result.stderr
    assert xpjax.load_passbands(curve)["u"].share_outside() > 1e-3
    out = ("-o", tmp_path / "other")
    refused(tmp_path, "exists", "export", curve, "--name", "MyU", "-o", tmp_path / "out")
    refused(tmp_path, "cannot be the name of a system", "export", curve, "--name", "my-u", *out)
    refused(tmp_path, "no file or folder", "export", "JPLUSS", *out)
    refused(tmp_path, "add --allow-outside to have", "export", text(tmp_path / "y.dat", GRID + 600), *out)


# --- fit --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with xp1.parquet, xp2.parquet and obs.csv: g moved by 2 nm, 30 mmag off, with odd rows."""
    folder = tmp_path_factory.mktemp("stars")
    table = simulate.simulate_sources(300, seed=3)
    catalogue.write(folder / "xp1.parquet", table[:200].catalogue())
    catalogue.write(folder / "xp2.parquet", table[150:].catalogue())
    moved = Passband("g", GRID + 2.0, BOX)
    magnitude = xpjax.photometry(table, moved, errors=False, float64=True)["g"] + 0.03
    rng = np.random.default_rng(5)
    magnitude += rng.normal(0, 0.003, len(table))
    magnitude[7] += 2.0
    magnitude[[8, 9]] = 99.0, np.nan
    rows = np.delete(rng.permutation(len(table)), slice(0, 20))
    rows = np.union1d(rows, [7, 8, 9])
    columns = {"SOURCE_ID": table.source_id[rows], "mag": magnitude[rows], "err": np.full(len(rows), 0.003)}
    columns["name"] = np.array(["star"] * len(rows))
    strangers = {"SOURCE_ID": [1, 2], "mag": [15.0, 16.0], "err": [0.01, 0.01], "name": ["a", "b"]}
    everyone = {name: np.concatenate([column, np.asarray(strangers[name])]) for name, column in columns.items()}
    for name in ("obs.csv", "obs.fits", "obs.parquet"):
        catalogue.write(folder / name, Catalogue(everyone))
    twice = {name: np.concatenate([column, column[:1]]) for name, column in everyone.items()}
    catalogue.write(folder / "twice.csv", Catalogue(twice))
    text(folder / "g.dat")
    return folder


def fit_call(stars: Path, table: str = "obs.csv", column: str = "mag", error: str = "err") -> tuple[object, ...]:
    inputs = (stars / "xp1.parquet", stars / "xp2.parquet")
    # The magnitudes are of uncorrected spectra.
    made = ("--magnitudes", stars / table, "--column", column, "--error", error, "--correction", "none")
    return ("fit", *inputs, *made)


def numbers(lines: str) -> dict[str, tuple[float, float]]:
    rows = [line.split() for line in lines.splitlines()]
    return {row[0]: (float(row[1]), float(row[3])) for row in rows if len(row) == 4 and row[2] == "+-"}


@pytest.mark.parametrize("table", ["obs.csv", "obs.fits", "obs.parquet"])
def test_fit(stars: Path, tmp_path: Path, table: str) -> None:
    call = ("--curve", stars / "g.dat", "--clip", 5, "--no-xp-errors", "-o", tmp_path / "out.ecsv")
    result = xp("passband", *fit_call(stars, table), *call, "--figure", tmp_path / "fit.svg")
    assert result.exit_code == 0, result.stderr
    assert "effective wavelength" in (tmp_path / "fit.svg").read_text()
    n = len(catalogue.read_catalogue(stars / table)) - 2
    assert f"{n} of 300 XP sources are among the {n + 2} of {table}, 2 of these without a magnitude" in result.stderr
    found = numbers(result.stdout)
    assert found["shift"][0] == pytest.approx(2.0, abs=4 * found["shift"][1])
    assert found["zero_point"][0] == pytest.approx(0.03, abs=4 * found["zero_point"][1])
    assert found["shift"][1] < 0.1
    assert f"{n - 3} stars" in result.stdout, "one clipped, two without a magnitude"
    fitted = xpjax.load_passbands(tmp_path / "out.ecsv")
    assert fitted.label == "g_fit"
    meta = fitted["g"].meta
    assert meta["fit_parameters"] == ["zero_point", "shift"]
    assert meta["fit_value"][1] == pytest.approx(found["shift"][0], rel=1e-4)
    assert np.sqrt(np.diagonal(meta["fit_covariance"])) == pytest.approx(meta["fit_error"])
    assert meta["fit_stars"] == n - 3
    assert fitted.meta["command"] == "xpjax passband fit"
    assert str(stars) not in (tmp_path / "out.ecsv").read_text()
    half = np.interp(0.5, *[a[:100] for a in (fitted["g"].transmission, fitted["g"].wavelength)])
    assert half == pytest.approx(400 + found["shift"][0], abs=0.1)


def test_fit_says_that_spectra_have_no_errors(stars: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.parquet"
    catalogue.write(bare, simulate.simulate_sources(300, seed=3, correlations=False).catalogue())
    call = ("fit", bare, *fit_call(stars)[3:], "--curve", stars / "g.dat", "-o", tmp_path / "out.ecsv")
    said = "the spectra have no errors or no correlations"
    assert said in xp("passband", *call).stderr
    assert said not in xp("passband", *call, "--no-xp-errors", "--overwrite").stderr


@pytest.mark.slow
def test_fit_as_in_python(stars: Path, tmp_path: Path) -> None:
    call = (
        "--curve",
        stars / "g.dat",
        "--fit",
        "zero_point,shift",
        "--fit",
        "tilt",
        "--prior",
        "tilt=0.05",
        "--clip",
        5,
    )
    result = xp("passband", *fit_call(stars, error="0.01"), *call, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    table = xpjax.read([stars / "xp1.parquet", stars / "xp2.parquet"], dtype=float, keep=[])
    table = table[np.unique(table.source_id, return_index=True)[1]]
    observed = catalogue.read_catalogue(stars / "obs.csv").columns
    known = dict(zip(observed["SOURCE_ID"].tolist(), observed["mag"].tolist(), strict=True))
    magnitude = np.array([known.get(i, np.nan) for i in table.source_id.tolist()])
    expected = xpjax.fit_passband(
        table,
        np.where(magnitude > 90, np.nan, magnitude),
        np.asarray(0.01),
        xpjax.load_passbands(stars / "g.dat")["g"],
        ("zero_point", "shift", "tilt"),
        priors={"tilt": 0.05},
        clip=5.0,
    )
    meta = xpjax.load_passbands(tmp_path / "out")["g"].meta
    assert meta["fit_value"] == pytest.approx(expected.value.tolist(), rel=1e-6, abs=1e-8)
    assert meta["fit_chi2"] == pytest.approx(expected.chi2, rel=1e-8)


@pytest.mark.slow
def test_fit_of_a_chain_and_freely(stars: Path, tmp_path: Path) -> None:
    for k, (options, names) in enumerate(
        (
            ((), ["zero_point", "filter_shift"]),
            (("--fit", "filter_shift,filter_scale", "--prior", "filter_scale=0.1"), ["filter_shift", "filter_scale"]),
            (("--fit", "zero_point", "--free", 40), ["zero_point", "free_0"]),
        )
    ):
        out = tmp_path / f"{k}.ecsv"
        result = xp("passband", *fit_call(stars), "--curve", "minisitian:g", *options, "--clip", 5, "-o", out)
        assert result.exit_code == 0, result.stderr
        found = xpjax.load_passbands(out)
        assert found.label == "MiniSiTian_fit"
        assert found["g"].meta["fit_parameters"][:2] == names


def test_fit_refusals(stars: Path, tmp_path: Path) -> None:
    good, out = fit_call(stars), ("-o", tmp_path / "out")
    curve = ("--curve", stars / "g.dat")
    for call, message in (
        ((*good, "--curve", "minisitian"), "has the passbands ['g', 'r', 'i']; name one, as in minisitian:g"),
        ((*good, "--curve", "minisitian:q"), "MiniSiTian has no passband 'q'"),
        ((*good, "--curve", "nosuch:g"), "no file or folder 'nosuch'"),
        ((*good, *curve, "--fit", "shoft"), "no parameter shoft; choose from ['zero_point', 'shift'"),
        ((*good, *curve, "--prior", "shift"), "--prior 'shift': expected NAME=NUMBER"),
        ((*good, *curve, "--prior", "width=1"), "prior width"),
        ((*good, *curve, "--free", "-1"), "spacing of the nodes"),
        ((*fit_call(stars, column="v"), *curve), "obs.csv has no column 'v'; it has SOURCE_ID, mag"),
        ((*fit_call(stars, error="e"), *curve), "obs.csv has no column 'e'"),
        ((*fit_call(stars, column="name"), *curve), "obs.csv: row 1: column 'name'"),
        ((*fit_call(stars, table="twice.csv"), *curve), "twice.csv: 1 sources come twice or more"),
        ((*fit_call(stars, table="g.dat"), *curve), "g.dat has no column 'source_id'"),
    ):
        refused(tmp_path, message, *call, *out)
    (tmp_path / "there").mkdir()
    refused(tmp_path, "exists; name another one", *good, *curve, "-o", tmp_path / "there")
    for name, rows, message in (
        ("strangers.csv", "source_id,mag,err\n1,15,0.1\n", "strangers.csv; are both"),
        ("floats.csv", "source_id,mag,err\n1e5,15,0.1\n", "source_id holds text"),
        ("few.csv", f"source_id,mag,err\n{made().source_id[0]},15,0.1\n", "few.csv; are both"),
        ("none.csv", "id,mag,err\n1,15,0.1\n", "none.csv has no column 'source_id'"),
    ):
        (tmp_path / name).write_text(rows)
        refused(tmp_path, message, *fit_call(stars, table=str(tmp_path / name)), *curve, *out)


def test_real_curves(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """S-PLUS's files: with negative samples, without units, from the published calibration."""
    folder = shared("splus/filters")
    assert xp("passband", "check", folder).exit_code == 2
    result = xp("passband", "build", folder, "--clip", "--label", "SPLUS", "-o", tmp_path / "splus")
    assert result.exit_code == 0, result.stderr
    result = xp("passband", "check", tmp_path / "splus")
    assert result.exit_code == 0
    assert "12 passbands, all can be used" in result.stdout
    assert len(xp("passband", "show", tmp_path / "splus").stdout.splitlines()) == 15
