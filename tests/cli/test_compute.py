"""Photometry and spectra: results, summaries, and wrong inputs, grids and outputs."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.cli.helpers import N, files, made, xp
from xpjax.core.paths import DATA
from xpjax.core.status import Status
from xpjax.io import catalogue


@pytest.mark.parametrize("suffix", catalogue.SUFFIXES)
def test_photometry_in_every_format(inputs: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"mags{suffix}"
    result = xp("photometry", inputs / "sources.fits", "--system", "jplus", "--system", "SDSS", "--output", output)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert f"6 sources read from 1 file, 6 rows written to mags{suffix}" in result.stderr
    found = catalogue.read_catalogue(output)
    expected = xpjax.photometry(
        xpjax.read(inputs / "sources.fits", dtype=np.float32), xpjax.load_system("JPLUS", "SDSS")
    ).catalogue()
    assert list(found.columns) == list(expected.columns)
    assert {"Jplus_mag_gJPLUS", "Sdss_flux_error_u", "Sdss_mag_error_z", "xp_status"} <= set(found.columns)
    for name, column in expected.columns.items():
        assert np.array_equal(column, found.columns[name].astype(column.dtype), equal_nan=True), name
    assert files(tmp_path) == [output.name]


def test_float64(inputs: Path, tmp_path: Path) -> None:
    xp("photometry", inputs / "sources.parquet", "--system", "SDSS", "--float64", "-o", tmp_path / "mags.h5")
    found = catalogue.read_catalogue(tmp_path / "mags.h5").columns
    expected = xpjax.photometry(xpjax.read(inputs / "sources.parquet", dtype=float), "SDSS", float64=True)
    assert found["Sdss_flux_g"].dtype == np.float64
    assert np.array_equal(found["Sdss_flux_error_g"], expected.flux_error[:, 1])


@pytest.mark.slow
def test_metadata(inputs: Path, tmp_path: Path) -> None:
    """The output says how it was made, and no folder of this machine."""
    systems = tmp_path / "systems.h5"
    systems.write_bytes((DATA / "systems_dr3.h5").read_bytes())
    xp("photometry", inputs / "sources.csv", "--system", systems, "--truncate", "-o", tmp_path / "mags.h5")
    meta = catalogue.read_catalogue(tmp_path / "mags.h5").meta
    assert meta["command"] == "xpjax photometry"
    assert meta["version"] == xpjax.__version__
    assert meta["release"] == "Gaia DR3"
    assert meta["option_truncate"] is True
    assert meta["option_inputs"] == ["sources.csv"]
    assert meta["option_systems"] == ["systems.h5"]
    assert str(tmp_path) not in json.dumps(meta)
    assert str(inputs) not in json.dumps(meta)


def curve(folder: Path, name: str = "my_g.dat", low: float = 400, high: float = 550, head: str = "# nm\n") -> Path:
    """A smooth box as two columns of text [nm]."""
    x = np.arange(low - 20, high + 21, 1.0)
    t = 0.25 * (1 + np.tanh((x - low) / 4)) * (1 - np.tanh((x - high) / 4))
    t[[0, -1]] = 0
    path = folder / name
    path.write_text(head + "\n".join(f"{a} {b:.8f}" for a, b in zip(x, t, strict=True)))
    return path


def test_passbands_as_in_python(inputs: Path, tmp_path: Path) -> None:
    """Systems, then passbands, in their order; every digit as `xpjax.photometry` gives it."""
    path = curve(tmp_path)
    call = ("--passbands", path, "--passbands", "minisitian:r,g", "--system", "SDSS")
    result = xp("photometry", inputs / "sources.fits", *call, "-o", tmp_path / "mags.h5")
    assert result.exit_code == 0, result.stderr
    assert "outside" not in result.stderr
    expected = xpjax.photometry(
        xpjax.read(inputs / "sources.fits", dtype=np.float32),
        ["SDSS", xpjax.load_passbands(path), xpjax.load_passbands("minisitian:r,g")],
    ).catalogue()
    found = catalogue.read_catalogue(tmp_path / "mags.h5")
    assert list(found.columns) == list(expected.columns)
    assert {"Sdss_mag_u", "my_g_flux_error_my_g", "MiniSiTian_mag_error_r"} <= set(found.columns)
    for name, column in expected.columns.items():
        assert np.array_equal(column, found.columns[name], equal_nan=True), name
    assert found.meta["option_passbands"] == ["my_g.dat", "minisitian:r,g"], "no folder of this machine"
    assert found.meta["systems"] == ["Sdss", "my_g", "MiniSiTian"]


def test_passbands_alone_take_the_other_options(inputs: Path, tmp_path: Path) -> None:
    call = ("--passbands", curve(tmp_path), "--truncate", "--no-errors", "--keep", "phot_g_mean_mag", "--float64")
    result = xp("photometry", inputs / "sources.csv", *call, "-o", tmp_path / "mags.parquet")
    assert result.exit_code == 0, result.stderr
    found = catalogue.read_catalogue(tmp_path / "mags.parquet").columns
    assert list(found) == ["source_id", "my_g_mag_my_g", "my_g_flux_my_g", "phot_g_mean_mag", "xp_status"]
    expected = xpjax.photometry(
        xpjax.read(inputs / "sources.csv", dtype=float),
        xpjax.load_passbands(tmp_path / "my_g.dat"),
        truncate=True,
        errors=False,
        float64=True,
    )
    assert np.array_equal(found["my_g_mag_my_g"], expected["my_g"])
    result = xp("photometry", inputs / "sources.csv", *call[:2], "--error-correction", "-o", tmp_path / "no.csv")
    assert result.exit_code == 2
    assert "no error-correction tables for ['my_g']" in result.stderr


def test_light_outside_is_told(inputs: Path, tmp_path: Path) -> None:
    """Once for each band, whatever the number of files; extrapolated on request."""
    path = curve(tmp_path, "u.dat", 327, 380, head="")
    names = (inputs / "sources.csv", inputs / "bare.csv")
    magnitudes = []
    for extrapolate in ("none", "linear"):
        output = tmp_path / f"{extrapolate}.h5"
        result = xp("photometry", *names, "--passbands", path, "--extrapolate", extrapolate, "-o", output)
        assert result.exit_code == 0, result.stderr
        assert "u u: the file states no unit of wavelengths, taken to be 307..400 nm" in result.stderr
        (line,) = [line for line in result.stderr.splitlines() if "outside" in line]
        assert ("is extrapolated to 322 nm" in line) == (extrapolate == "linear")
        assert line.startswith("u u: ")
        assert line.endswith("missed")
        expected = xpjax.photometry(
            xpjax.read(inputs / "sources.csv", dtype=np.float32),
            xpjax.passband_system(xpjax.load_passbands(path), extrapolate=extrapolate),
        )
        magnitudes.append(catalogue.read_catalogue(output).columns["u_mag_u"][:N])
        assert np.array_equal(magnitudes[-1], expected["u"])
    assert not np.array_equal(*magnitudes)


def test_passbands_mostly_outside(inputs: Path, tmp_path: Path) -> None:
    path = curve(tmp_path, "y.dat", 1000, 1200)
    call = ("photometry", inputs / "sources.csv", "--passbands", path, "-o", tmp_path / "mags.csv")
    result = xp(*call)
    assert result.exit_code == 2
    assert "add --allow-outside to have" in result.stderr
    assert files(tmp_path) == ["y.dat"]
    result = xp(*call, "--allow-outside")
    assert result.exit_code == 0, result.stderr
    assert "of the passband lies outside 330..1050 nm, and is missed" in result.stderr


def test_bad_passbands(inputs: Path, tmp_path: Path) -> None:
    path, negative = curve(tmp_path), tmp_path / "negative.dat"
    negative.write_text("# nm\n400 0\n500 0.5\n600 -0.1\n")
    for call, message in (
        (("--passbands", "nosuch"), "no file or folder 'nosuch'"),
        (("--passbands", "minisitian:q"), "MiniSiTian has no passband 'q'"),
        (("--passbands", negative), "--clip to set negative samples to zero; `xpjax passband build` has this option"),
        (("--passbands", path, "--passbands", path), "bands of the same name: my_g_my_g; give these passbands another"),
        (("--system", "SDSS", "--extrapolate", "linear"), "are for --passbands; published systems are fixed"),
        (("--system", "SDSS", "--allow-outside"), "are for --passbands"),
        (("--passbands", path, "--extrapolate", "cubic"), "'cubic' is not one of"),
    ):
        result = xp("photometry", inputs / "sources.csv", *call, "-o", tmp_path / "mags.csv")
        assert result.exit_code == 2, call
        assert message in result.stderr, (call, result.stderr)
    assert files(tmp_path) == ["my_g.dat", "negative.dat"]


def test_files_are_joined_in_order(inputs: Path, tmp_path: Path) -> None:
    """Also where one has correlations and the other none, and where a source comes twice."""
    names = [inputs / name for name in ("bare.csv", "sources.csv", "sources.fits")]
    result = xp("photometry", *names, "--system", "SDSS", "--keep", "phot_g_mean_mag", "-o", tmp_path / "mags.csv")
    assert result.exit_code == 0, result.stderr
    found = catalogue.read_catalogue(tmp_path / "mags.csv").columns
    assert found["source_id"].tolist() == [i << 40 for i in [*range(50, 56), *range(1, 7), *range(1, 7)]]
    assert np.isnan(found["Sdss_flux_error_g"]).tolist() == [True] * 6 + [False] * 12
    assert np.isfinite(found["Sdss_mag_g"]).all()
    assert (found["xp_status"] & Status.DUPLICATE != 0).tolist() == [False] * 12 + [True] * 6
    assert "18 sources read from 3 files" in result.stderr
    assert "12 flagged" in result.stderr
    assert "6  DUPLICATE (128): An earlier row" in result.stderr


def test_absent_errors_are_said(inputs: Path, tmp_path: Path) -> None:
    result = xp("spectra", inputs / "bare.csv", "--correlation", "--wavelength", "400:500:50", "-o", tmp_path / "s.h5")
    assert result.exit_code == 0, result.stderr
    assert "all sources came without usable errors or correlations: errors are NaN there, not guessed" in result.stderr
    found = catalogue.read_catalogue(tmp_path / "s.h5").columns
    assert np.isnan(found["flux_error"]).all()
    assert found["correlation"].shape == (N, 3)
    assert np.isfinite(found["flux"]).all()
    assert (found["xp_status"] == Status.BP_NO_ERROR | Status.RP_NO_ERROR).all()
    result = xp("spectra", inputs / "bare.csv", "--no-errors", "-o", tmp_path / "plain.h5")
    assert "none flagged" in result.stderr
    assert "flux_error" not in catalogue.read_catalogue(tmp_path / "plain.h5").columns


def test_bad_rows_are_counted(tmp_path: Path) -> None:
    """Exit status 0: that row is NaN with its bits, and the rest is right."""
    table = made()
    table.coefficients.value[2, 5] = np.nan
    table.source_id[4] = 0
    catalogue.write(tmp_path / "sources.csv", table.catalogue())
    result = xp("photometry", tmp_path / "sources.csv", "--system", "SDSS", "-o", tmp_path / "mags.csv")
    assert result.exit_code == 0, result.stderr
    assert "1  BP_BAD (4): A BP coefficient is not finite" in result.stderr
    found = catalogue.read_catalogue(tmp_path / "mags.csv").columns
    assert np.isnan(found["Sdss_mag_g"]).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".fits", ".vot", ".parquet", ".h5"])
def test_spectra_in_every_format(inputs: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"spectra{suffix}"
    result = xp("spectra", inputs / "sources.fits", "--wavelength", "400:900:2.5", "--correlation", "-o", output)
    assert result.exit_code == 0, result.stderr
    found = catalogue.read_catalogue(output)
    expected = xpjax.spectra(
        xpjax.read(inputs / "sources.fits", dtype=np.float32), np.arange(201) * 2.5 + 400, correlation=True
    )
    assert np.array_equal(found.shared["wavelength"], expected.wavelength)
    for name in ("flux", "flux_error", "correlation"):
        assert np.array_equal(found.columns[name].astype(np.float32), getattr(expected, name)), name


def test_internal_spectra(inputs: Path, tmp_path: Path) -> None:
    options = ("--internal", "--wavelength", "0:60:30", "--keep", "designation")
    for order in (options, options[1:] + options[:1]):
        result = xp("spectra", inputs / "sources.fits", *order, "-o", tmp_path / "s.h5", "--overwrite")
        assert result.exit_code == 0, result.stderr
        found = catalogue.read_catalogue(tmp_path / "s.h5")
        assert found.columns["xp"].tolist() == ["BP", "RP"] * N
        assert found.columns["flux"].shape == (2 * N, 3)
        assert found.columns["designation"][:3].tolist() == ["Gaia 0", "Gaia 0", "Gaia 1"]
    assert f"{N} sources read from 1 file, {2 * N} rows written" in result.stderr


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("400:410:5", [400, 405, 410]),
        ("400:409.9:5", [400, 405]),
        ("400:400.3:0.1", [400, 400.1, 400.2, 400.3]),
        ("500:500:1", [500]),
        ("1040:1050:4", [1040, 1044, 1048]),
    ],
)
def test_wavelength_grids(inputs: Path, tmp_path: Path, text: str, grid: list[float]) -> None:
    result = xp("spectra", inputs / "sources.fits", "--wavelength", text, "--no-errors", "-o", tmp_path / "s.h5")
    assert result.exit_code == 0, result.stderr
    assert np.allclose(catalogue.read_catalogue(tmp_path / "s.h5").shared["wavelength"], grid, rtol=1e-12)


def test_instrument_model(inputs: Path, tmp_path: Path) -> None:
    for model in ("v211w/v142r", "v375wi/v142r"):
        xp("spectra", inputs / "sources.fits", "--instrument", model, "-o", tmp_path / f"{model[:4]}.h5")
    old, new = (catalogue.read_catalogue(tmp_path / f"{name}.h5").columns["flux"] for name in ("v211", "v375"))
    assert not np.array_equal(old, new)


def test_keep(inputs: Path, tmp_path: Path) -> None:
    output = tmp_path / "mags.parquet"
    keep = ("--keep", "phot_g_mean_mag, designation")
    result = xp("photometry", inputs / "sources.csv.gz", "--system", "SDSS", *keep, "-o", output)
    assert result.exit_code == 0, result.stderr
    found = catalogue.read_catalogue(output).columns
    assert list(found)[-3:] == ["phot_g_mean_mag", "designation", "xp_status"]
    assert np.array_equal(found["phot_g_mean_mag"], made().columns["phot_g_mean_mag"])
    result = xp(
        "photometry", inputs / "sources.csv", "--system", "SDSS", "--keep", "parallax", "-o", tmp_path / "no.csv"
    )
    assert result.exit_code == 2
    assert "parallax" in result.stderr


def test_kept_ids_keep_their_digits(tmp_path: Path) -> None:
    """Across files of which one has none, and one no rows."""
    solution = 4545469030156206080
    for name, ids in (("dup.csv", np.full(N, solution)), ("nosol.csv", np.full(N, np.nan))):
        catalogue.write(tmp_path / name, replace(made(), columns={"solution_id": ids}).catalogue())
    (tmp_path / "head.csv").write_text((tmp_path / "dup.csv").read_text().partition("\n")[0] + "\n")
    names = [tmp_path / name for name in ("head.csv", "dup.csv", "nosol.csv")]
    call = ("--system", "SDSS", "--keep", "solution_id", "-o", tmp_path / "o.csv")
    result = xp("photometry", *names, *call)
    assert result.exit_code == 0, result.stderr
    assert catalogue.read_catalogue(tmp_path / "o.csv").columns["solution_id"].tolist() == [solution] * N + [None] * N


def test_coefficients_are_not_kept(inputs: Path, tmp_path: Path) -> None:
    call = ("photometry", inputs / "sources.csv", "--system", "SDSS", "-o", tmp_path / "o.csv")
    result = xp(*call, "--keep", "bp_coefficients")
    assert result.exit_code == 2
    assert "bp_coefficients cannot be kept" in result.stderr


def test_device(inputs: Path, tmp_path: Path) -> None:
    call = ("photometry", inputs / "sources.fits", "--system", "SDSS", "-o", tmp_path / "mags.csv", "--overwrite")
    for device in ("cpu", "1"):
        assert xp(*call, "--device", device).exit_code == 0
    for device in ("tpu", "1000"):
        result = xp(*call, "--device", device)
        assert result.exit_code == 2
        assert "JAX sees" in result.stderr


def truncated(folder: Path, good: Path) -> Path:
    path = folder / "cut.csv.gz"
    whole = gzip.compress((good / "sources.csv").read_bytes())
    path.write_bytes(whole[: len(whole) // 2])
    return path


def wrong_columns(folder: Path, good: Path) -> Path:
    path = folder / "other.csv"
    path.write_text("source_id,ra,dec\n1,2,3\n")
    return path


def text_for_arrays(folder: Path, good: Path) -> Path:
    path = folder / "text.csv"
    path.write_text("source_id,bp_coefficients,rp_coefficients\n1,many,few\n2,none,some\n")
    return path


def wrong_lengths(folder: Path, good: Path) -> Path:
    path = folder / "short.csv"
    path.write_text('source_id,bp_coefficients,rp_coefficients\n1,"[1,2,3]","[4,5]"\n2,"[1,2,3]","[4,5]"\n')
    return path


def empty(folder: Path, good: Path) -> Path:
    path = folder / "empty.csv"
    path.touch()
    return path


def unknown_suffix(folder: Path, good: Path) -> Path:
    path = folder / "sources.txt"
    path.write_bytes((good / "sources.csv").read_bytes())
    return path


def not_what_it_says(folder: Path, good: Path) -> Path:
    path = folder / "liar.fits"
    path.write_bytes((good / "sources.csv").read_bytes())
    return path


@pytest.mark.parametrize(
    "case", [truncated, wrong_columns, text_for_arrays, wrong_lengths, empty, unknown_suffix, not_what_it_says]
)
@pytest.mark.parametrize("command", [("photometry", "--system", "SDSS"), ("spectra",)])
def test_bad_inputs(inputs: Path, tmp_path: Path, case: Callable[[Path, Path], Path], command: tuple[str, ...]) -> None:
    """One message that names the file, exit status 2, and no output, also after a good file."""
    bad = case(tmp_path, inputs)
    result = xp(*command, inputs / "sources.fits", bad, "--output", tmp_path / "out.csv")
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert bad.name in result.stderr
    assert "Traceback" not in result.stderr
    assert files(tmp_path) == [bad.name]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("900:400:5", "must ascend"),
        ("400:900:-5", "must ascend"),
        ("400:900:0", "must ascend"),
        ("nan:900:5", "must ascend"),
        ("400:900", "expected START:STOP:STEP"),
        ("a:b:c", "expected START:STOP:STEP"),
        ("300:900:5", "300..900 goes beyond 330..1050 nm"),
        ("400:1100:5", "goes beyond 330..1050 nm"),
        ("400:900:1e-9", "more than a million samples"),
    ],
)
def test_bad_grids(inputs: Path, tmp_path: Path, grid: str, message: str) -> None:
    result = xp("spectra", inputs / "sources.csv", "--wavelength", grid, "-o", tmp_path / "out.csv")
    assert result.exit_code == 2
    assert message in result.stderr
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.txt", "the suffix names the format, and is one of .csv"),
        ("nowhere/out.csv", "no directory"),
        ("file/out.csv", "is no directory"),
        ("file.csv", "exists; name another one, or overwrite it with --overwrite"),
        ("spectra.csv", "spectra_wavelength.csv exists"),
    ],
)
def test_bad_outputs(tmp_path: Path, name: str, message: str) -> None:
    """Refused before the input is read, which here is none."""
    for other in ("file", "file.csv", "spectra_wavelength.csv", "broken.csv"):
        (tmp_path / other).touch()
    before = files(tmp_path)
    result = xp("spectra", tmp_path / "broken.csv", "--output", tmp_path / name)
    assert result.exit_code == 2
    assert message in result.stderr
    assert files(tmp_path) == before


def test_every_status_bit_has_a_meaning() -> None:
    assert all(bit.meaning.endswith(".") for bit in Status if bit)
    assert len({bit.meaning for bit in Status if bit}) == len([bit for bit in Status if bit])


@pytest.mark.slow
def test_real_files(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """Every real file runs through both commands, whatever its format."""
    names = [path for path in (shared("xp") / "formats").iterdir() if path.is_file()]
    names += [shared("xp/xp_random_1200.fits"), shared("xp/xp_bright_corr_20.parquet")]
    for path in names:
        for command in (("photometry", "--system", "JPLUS"), ("spectra",)):
            result = xp(*command, path, "-o", tmp_path / "out.h5", "--overwrite")
            assert result.exit_code == 0, (path.name, result.stderr)
