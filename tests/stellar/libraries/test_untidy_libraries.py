"""Model spectra from untidy files: logarithmic axes, headers against options, nulls, packed files, signs in names."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.io import fits

from tests.stellar.libraries.test_files import write_ferre, write_nextgen
from xpjax.core.errors import XpjaxError
from xpjax.stellar.libraries import read_library
from xpjax.stellar.libraries.library import to_vacuum

LINEAR = np.linspace(320.0, 1050.0, 74)
"""Wavelengths [nm] in steps of 10 nm."""
LOG = np.geomspace(320.0, 1050.0, 74)
STEP = np.log(1050.0 / 320.0) / 73
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def flux(teff: float) -> np.ndarray:
    return 1 + teff / 5000 * np.linspace(0, 1, 74)


def image(path: Path, teff: float = 5000.0, **header: Any) -> Path:
    hdu = fits.PrimaryHDU(flux(teff))
    hdu.header.update({key.replace("__", "-"): value for key, value in header.items()})
    hdu.writeto(path)
    return path


def table(path: Path, *columns: fits.Column, **header: Any) -> Path:
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header.update(header)
    hdu.writeto(path)
    return path


def column(name: str, value: np.ndarray, unit: str | None = None, kind: str = "D", **more: Any) -> fits.Column:
    return fits.Column(name, kind, unit, array=value, **more)


def text(path: Path, head: str = "", line: str = "{x:.9g} {y:.9g}", wavelength: np.ndarray = LINEAR) -> Path:
    rows = [line.format(x=x, y=y) for x, y in zip(wavelength, flux(5000), strict=True)]
    path.write_text("\n".join([*([head] if head else []), *rows]) + "\n")
    return path


def read(folder: Path, **options: Any) -> Any:
    """The only spectrum of a folder."""
    (part,) = read_library("files", folder, **{"pattern": "t{teff}.*"} | options)
    return part


# --- axes of images ---------------------------------------------------------------------------------------------------

NATURAL = {"CRVAL1": np.log(3200), "CDELT1": STEP, "CRPIX1": 1.0}
DECIMAL = {"CRVAL1": np.log10(3200), "CDELT1": STEP / np.log(10), "CRPIX1": 1.0}
STANDARD = {"CRVAL1": 3200.0, "CDELT1": 3200 * STEP, "CRPIX1": 1.0}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (STANDARD | {"CTYPE1": "WAVE-LOG", "CUNIT1": "Angstrom"}, LOG),
        # The reference value need not be that of the first sample.
        (
            {
                "CRVAL1": LOG[20] * 1e-9,
                "CDELT1": LOG[20] * 1e-9 * STEP,
                "CRPIX1": 21,
                "CTYPE1": "WAVE-LOG",
                "CUNIT1": "m",
            },
            LOG,
        ),
        (NATURAL | {"CTYPE1": "WAVE-LOG", "CUNIT1": "Angstrom"}, LOG),
        (NATURAL | {"CTYPE1": "AWAV-LOG", "CUNIT1": "Angstrom"}, to_vacuum(LOG)),
        (DECIMAL | {"CTYPE1": "WAVE-LOG", "CUNIT1": "Angstrom"}, LOG),
        (DECIMAL | {"CTYPE1": "LINEAR", "DC__FLAG": 1, "CUNIT1": "Angstrom", "VACUUM": True}, LOG),
        (
            DECIMAL | {"CTYPE1": "LINEAR", "DC__FLAG": 1, "WAT1_001": "label=Wavelength units=Angstroms", "VACUUM": 1},
            LOG,
        ),
        (DECIMAL | {"CTYPE1": "LOG10(LAMBDA)", "CUNIT1": "Angstrom", "AIRORVAC": "air"}, to_vacuum(LOG)),
        (DECIMAL | {"CTYPE1": "WAVE", "CUNIT1": "log10(Angstrom)"}, LOG),
        (NATURAL | {"CTYPE1": "LN(WAVELENGTH)", "CUNIT1": "Angstrom", "AIRORVAC": "vac"}, LOG),
        (NATURAL | {"CTYPE1": "LOG-LAMBDA", "CUNIT1": "Angstrom", "AIRORVAC": "vac"}, LOG),
        (NATURAL | {"CRVAL1": np.log(3.2e-7), "CTYPE1": "LOG(WAVE)", "CUNIT1": "m", "MEDIUM": "vacuum"}, LOG),
        ({"CRVAL1": 320.0, "CDELT1": 10.0, "CTYPE1": "WAVE", "CUNIT1": "nm"}, LINEAR),
        ({"CRVAL1": 3.2e-5, "CDELT1": 1e-6, "CTYPE1": "WAVE", "CUNIT1": "cm"}, LINEAR),
        ({"CRVAL1": 3.2e-7, "CD1_1": 1e-8, "CDELT1": 1e-8, "CTYPE1": "AWAV", "CUNIT1": "m"}, to_vacuum(LINEAR)),
    ],
)
def test_axes(tmp_path: Path, header: dict[str, Any], expected: np.ndarray) -> None:
    image(tmp_path / "t5000.fits", **header)
    part = read(tmp_path)
    assert np.allclose(part.wavelength, expected, rtol=1e-9)
    assert np.array_equal(part.flux[0], flux(5000))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"CRVAL1": 3200.0, "CDELT1": 100.0, "CD1_1": 1.0}, r"CDELT1 = 100 contradicts CD1_1 = 1 as the step"),
        ({"CRVAL1": 3200.0, "CDELT1": 100.0, "CTYPE1": "FREQ"}, r"CTYPE1 = 'FREQ'.*: not known as an axis of wavel"),
        ({"CRVAL1": 3200.0, "CDELT1": 100.0, "CTYPE1": "WAVE-TAB"}, r"CTYPE1 = 'WAVE-TAB'.*: not known as an axis"),
        ({"CRVAL1": 3200.0, "CDELT1": 100.0, "CTYPE1": "MULTISPE"}, r"CTYPE1 = 'MULTISPE'.*: not known as an axis"),
        (
            DECIMAL | {"CTYPE1": "LINEAR"},
            r"CTYPE1 = 'LINEAR', CRVAL1 = 3.5.*0.350515..0.402.* nm, expected within 10 nm",
        ),
        (NATURAL | {"CTYPE1": "LOG10"}, r"CTYPE1 = 'LOG10'.*as decimal logarithms.* nm, expected within 10 nm"),
        # Micrometers: both logarithms give optical wavelengths.
        (
            NATURAL | {"CRVAL1": np.log(0.32), "CTYPE1": "LOGLAM", "CUNIT1": "um"},
            r"CTYPE1 = 'LOGLAM'.*: cannot tell which logarithm it is: as decimal logarithms 72.*; as natural log.* 320",
        ),
        (STANDARD | {"CTYPE1": "AWAV-LOG"}, r"CTYPE1 = AWAV-LOG \(wavelengths in air\) contradicts medium='vacuum'"),
        (STANDARD | {"CTYPE1": "WAVE-LOG", "CUNIT1": "nm"}, r"CUNIT1 = nm contradicts unit='Angstrom'"),
        (STANDARD | {"CTYPE1": "WAVE-LOG", "AIRORVAC": "air"}, r"\(wavelengths in vacuum\) contradicts AIRORVAC = air"),
        (STANDARD | {"CTYPE1": "WAVE-LOG", "BUNIT": "erg/s/cm2/Hz"}, r"BUNIT = .*Hz contradicts per='wavelength'"),
        (STANDARD | {"CTYPE1": "WAVE-LOG", "BUNIT": "ph/s/cm2/A"}, r"BUNIT = ph/.*: expected a flux of energy"),
        (STANDARD | {"CTYPE1": "WAVE-LOG", "SPEC_RP": 20000.0}, r"SPEC_RP = 20000 contradicts own_resolution=5000"),
    ],
)
def test_axes_that_are_refused(tmp_path: Path, header: dict[str, Any], message: str) -> None:
    image(tmp_path / "t5000.fits", **header)
    unit = "um" if header.get("CUNIT1") == "um" else "Angstrom"
    options = {"medium": "vacuum", "unit": unit, "per": "wavelength", "own_resolution": 5000.0}
    with pytest.raises(XpjaxError, match=rf"t5000.fits.*{message}"):
        read(tmp_path, **options)


def test_what_headers_say_is_used(tmp_path: Path) -> None:
    image(tmp_path / "t5000.fits", **STANDARD, CTYPE1="WAVE-LOG", CUNIT1="Angstrom", BUNIT="Jy", SPEC_RP=500.0)
    part = read(tmp_path)
    assert np.allclose(part.flux[0], flux(5000) / LOG**2)
    assert np.allclose(np.sqrt(part.variance * 8 * np.log(2)), LOG / 500)
    agreeing = read(tmp_path, unit="angstroms", medium="vacuum", per="frequency", own_resolution=501)
    assert np.array_equal(agreeing.flux, part.flux)
    # Goettingen's unit is per centimeter of wavelength.
    fits.setval(tmp_path / "t5000.fits", "BUNIT", value="erg/s/cm^2/cm")
    assert np.array_equal(read(tmp_path, per="wavelength").flux[0], flux(5000))
    with pytest.raises(XpjaxError, match=r"BUNIT = erg/s/cm\^2/cm contradicts per='frequency'"):
        read(tmp_path, per="frequency")


def test_a_file_among_others_in_another_medium(tmp_path: Path) -> None:
    for teff, kind in ((5000, "WAVE"), (6000, "AWAV")):
        image(tmp_path / f"t{teff}.fits", teff, CRVAL1=320.0, CDELT1=10.0, CTYPE1=kind, CUNIT1="nm")
    with pytest.raises(XpjaxError, match=r"t6000.fits: CTYPE1 = AWAV .* contradicts t5000.fits, whose .* in vacuum"):
        list(read_library("files", tmp_path, pattern="t{teff}.*"))


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "unit", "expected"),
    [
        ("LOGLAM", np.log10(10 * LOG), None, LOG),
        ("loglam", np.log(10 * LOG), None, LOG),
        ("lnlam", np.log(10 * LOG), None, LOG),
        ("ln_wave", np.log(10 * LOG), None, LOG),
        ("LOG10_WAVE", np.log10(10 * LOG), "Angstrom", LOG),
        ("WAVE", np.log10(10 * LOG), "log(Angstrom)", LOG),
        ("lambda", 10 * LOG, "AA", LOG),
        ("Wavelength", LOG * 1e-9, "m", LOG),
    ],
)
def test_columns_of_wavelengths(tmp_path: Path, name: str, value: np.ndarray, unit: str | None, expected: Any) -> None:
    columns = [column("FLUX_ERR", flux(1)), column(name, value, unit), column("FLUX", flux(5000))]
    table(tmp_path / "t5000.fits", *columns)
    part = read(tmp_path, medium="vacuum", unit=None if unit else "Angstrom")
    assert np.allclose(part.wavelength, expected, rtol=1e-9)
    assert np.array_equal(part.flux[0], flux(5000))


def test_columns_tell_medium_unit_and_what_flux_is_per(tmp_path: Path) -> None:
    path = tmp_path / "t5000.fits"
    table(path, column("wave_air", 10 * LOG, "Angstrom"), column("flux", flux(5000), "erg s-1 cm-2 Hz-1"))
    part = read(tmp_path)
    assert np.allclose(part.wavelength, to_vacuum(LOG))
    assert np.allclose(part.flux[0], flux(5000) / to_vacuum(LOG) ** 2)
    for options, message in (
        ({"medium": "vacuum"}, "column wave_air contradicts medium='vacuum'"),
        ({"unit": "nm"}, "TUNIT1 = Angstrom contradicts unit='nm'"),
        ({"per": "wavelength"}, "TUNIT2 = erg s-1 cm-2 Hz-1 contradicts per='wavelength'"),
    ):
        with pytest.raises(XpjaxError, match=rf"t5000.fits: {message}"):
            read(tmp_path, **options)


def test_nulls_of_fits(tmp_path: Path) -> None:
    raw = np.arange(74, dtype=np.int16)
    raw[5] = -1
    hdu = fits.BinTableHDU.from_columns([column("wave", LINEAR, "nm"), column("flux", raw, kind="I", null=-1)])
    hdu.header.update({"TSCAL2": 0.5, "TZERO2": 10.0})
    hdu.writeto(tmp_path / "t5000.fits")
    with pytest.raises(XpjaxError, match=r"t5000.fits: the flux of the model \(5000\) is nan at sample 6"):
        read(tmp_path, medium="vacuum")
    raw[5] = 5
    hdu = fits.BinTableHDU.from_columns([column("wave", LINEAR, "nm"), column("flux", raw, kind="I", null=-1)])
    hdu.header.update({"TSCAL2": 0.5, "TZERO2": 10.0})
    hdu.writeto(tmp_path / "t5000.fits", overwrite=True)
    assert np.allclose(read(tmp_path, medium="vacuum").flux[0], 10 + 0.5 * np.arange(74))
    picture = fits.PrimaryHDU(np.arange(74, dtype=np.int16))
    picture.header.update({"BLANK": 7, "CRVAL1": 320.0, "CDELT1": 10.0, "CUNIT1": "nm"})
    picture.writeto(tmp_path / "t5000.fits", overwrite=True)
    with pytest.raises(XpjaxError, match=r"the flux of the model \(5000\) is nan at sample 8"):
        read(tmp_path, medium="vacuum")


def test_tables_of_text_within_fits(tmp_path: Path) -> None:
    path = tmp_path / "t5000.fits"
    columns = [
        fits.Column("wave", "F12.5", "nm", array=LINEAR, ascii=True),
        fits.Column("flux", "F12.5", array=np.arange(100.0, 174.0), null="NULL", ascii=True),
    ]
    fits.TableHDU.from_columns(columns).writeto(path)
    assert np.array_equal(read(tmp_path, medium="vacuum").flux[0], np.arange(100.0, 174.0))
    for word in (b"     NULL", b"         "):
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"105.00000", word))
        with pytest.raises(XpjaxError, match=r"the flux of the model \(5000\) is nan at sample 6"):
            read(tmp_path, medium="vacuum")
        path.write_bytes(whole)


def test_columns_and_tables_that_are_alike(tmp_path: Path) -> None:
    path, wave, one = tmp_path / "t5000.fits", column("wave", LINEAR, "nm"), column("flux", flux(5000))
    table(path, wave, one, column("other", flux(1)))
    with fits.open(path, mode="update") as hdus:
        hdus[1].header["TTYPE3"] = "flux"
    with pytest.raises(XpjaxError, match=r"t5000.fits: extension 1: 2 columns are called flux; rename or drop"):
        read(tmp_path, medium="vacuum")
    hdu = fits.BinTableHDU.from_columns([wave, column("flux_a", flux(1)), column("flux_b", flux(2))])
    hdu.writeto(path, overwrite=True)
    with pytest.raises(XpjaxError, match=r"t5000.fits: extension 1: columns flux_a, flux_b are alike"):
        read(tmp_path, medium="vacuum")
    first, second = (fits.BinTableHDU.from_columns([wave, one], name=name) for name in ("DISK", "LIMB"))
    fits.HDUList([fits.PrimaryHDU(), first, second]).writeto(path, overwrite=True)
    with pytest.raises(XpjaxError, match=r"expected one spectrum, .*found extension 1 DISK; extension 2 LIMB"):
        read(tmp_path, medium="vacuum")
    # One is the spectrum, whatever else lies beside it, and before it.
    other = fits.BinTableHDU.from_columns([column("H", np.ones(3)), column("He", np.ones(3))], name="ABUNDANCES")
    error = fits.ImageHDU(np.ones(74), name="SIGMA")
    fits.HDUList([fits.PrimaryHDU(), error, other, first]).writeto(path, overwrite=True)
    assert np.array_equal(read(tmp_path, medium="vacuum").flux[0], flux(5000))


def test_wavelengths_apart_and_of_a_files_own(tmp_path: Path) -> None:
    grid = tmp_path / "WAVE.fits"
    table(grid, column("loglam_air", np.log10(10 * LOG)))
    image(tmp_path / "t5000.fits")
    assert np.allclose(read(tmp_path, wavelengths=grid, unit="Angstrom").wavelength, to_vacuum(LOG))
    table(tmp_path / "t5000.FITS", column("wave", LINEAR, "nm"), column("flux", flux(5000)))
    (tmp_path / "t5000.fits").unlink()
    with pytest.raises(XpjaxError, match=r"has wavelengths of its own, wave; leave out wavelengths="):
        read(tmp_path, wavelengths=grid, unit="Angstrom")
    (tmp_path / "t5000.FITS").unlink()
    text(tmp_path / "t5000.txt")
    with pytest.raises(XpjaxError, match=r"t5000.txt: 2 columns, expected one; .*leave out wavelengths="):
        read(tmp_path, wavelengths=grid, unit="Angstrom")


# --- text, packed files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*PACKERS, ".zip"])
def test_packed_files(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    hdu = fits.BinTableHDU.from_columns([column("wave", LINEAR, "nm"), column("flux", flux(6000))])
    hdu.writeto(buffer)
    plain = {"t5000.txt": text(tmp_path / "x").read_bytes(), "t6000.fits": buffer.getvalue()}
    for name, content in plain.items():
        path = tmp_path / f"{name}{suffix}"
        if suffix == ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(name, content)
        else:
            path.write_bytes(PACKERS[suffix](content))
    one, two = read_library("files", tmp_path, pattern="t{teff}.*", medium="vacuum", unit="nm")
    assert np.allclose(one.flux[0], flux(5000))
    assert np.array_equal(two.flux[0], flux(6000))
    if suffix:
        path.write_bytes(path.read_bytes()[:-300])
        with pytest.raises(XpjaxError, match=r"t6000.fits"):
            list(read_library("files", tmp_path, pattern="t{teff}.*", medium="vacuum", unit="nm"))


@pytest.mark.parametrize(
    ("head", "line"),
    [
        ("# a model", "{x} {y}"),
        ("! a model\n% of 5000 K", "  {x},\t{y} ! here"),
        ("\n#\n", "{x}D0   {y}d+00"),
        ("", "{x} {y} nan text"),
    ],
)
def test_text(tmp_path: Path, head: str, line: str) -> None:
    text(tmp_path / "t5000.txt", head, line)
    part = read(tmp_path, medium="vacuum", unit="nm")
    assert np.allclose(part.wavelength, LINEAR)
    assert np.allclose(part.flux[0], flux(5000))


@pytest.mark.parametrize("word", ["null", "N/A", "--", "nan", "", "1_0", "inf", "\\N"])
def test_text_without_a_number(tmp_path: Path, word: str) -> None:
    lines = text(tmp_path / "t5000.txt", "# a model", "{x},{y},7").read_text().splitlines()
    lines[4] = f"350,{word},7"
    (tmp_path / "t5000.txt").write_text("\n".join(lines))
    with pytest.raises(XpjaxError, match=r"t5000.txt: line 5: expected numbers, found '350 "):
        read(tmp_path, medium="vacuum", unit="nm")


def test_comments_tell_unit_and_medium(tmp_path: Path) -> None:
    text(tmp_path / "t5000.txt", "# air wavelength [Angstrom]  flux [W/m2/nm]", wavelength=10 * LINEAR)
    assert np.allclose(read(tmp_path).wavelength, to_vacuum(LINEAR))
    with pytest.raises(XpjaxError, match=r"t5000.txt: the comment 'air wavelength .*' contradicts unit='nm'"):
        read(tmp_path, unit="nm")
    with pytest.raises(XpjaxError, match=r"the comment 'air wavelength .*' contradicts medium='vacuum'"):
        read(tmp_path, medium="vacuum")


# --- names of files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("lte*-{logg}{mh}.txt", "lte05000-4.50-0.5.txt", (4.5, -0.5)),
        ("lte*-{logg}{mh}*", "lte05000-4.50+0.5.PHOENIX.txt", (4.5, 0.5)),
        ("lte{teff}-{logg}{mh}*", "lte05000-4.50-0.0.PHOENIX.txt", (5000, 4.5, 0)),
        ("t{teff}g{logg}*{mh}.txt", "t05000g4.5m-0.5.txt", (5000, 4.5, -0.5)),
        ("t{teff}g{logg}*{mh}.txt", "t05000g4.5_m0.5.txt", (5000, 4.5, -0.5)),
        ("*{mh/10}t{teff}g*", "am05t5000g45.txt", (-0.5, 5000)),
        ("*{mh/10}t{teff}g*", "ap05t5000g45.txt", (0.5, 5000)),
        ("t{teff}*{alpha}.txt", "t5000_feh-0.5.txt", (5000, -0.5)),
        ("t{teff}_*{alpha}.txt", "t5000_a-.5.txt", (5000, -0.5)),
        ("*_{teff}_*", "v2_12000_x.txt", (12000,)),
    ],
)
def test_patterns_keep_signs(tmp_path: Path, pattern: str, name: str, expected: tuple[float, ...]) -> None:
    text(tmp_path / name)
    library = read_library("files", tmp_path, pattern=pattern, medium="vacuum", unit="nm")
    (part,) = library
    assert part.labels[0].tolist() == list(expected)
    assert [low for _, low, _ in library.found().values()] == list(expected)


def test_names_that_could_be_misread(tmp_path: Path) -> None:
    options = {"medium": "vacuum", "unit": "nm"}
    text(tmp_path / "lte05000-4.50.txt")
    # A number is not cut in two.
    with pytest.raises(XpjaxError, match=r"no file name is like .*found lte05000-4.50.txt; .*must have a sign"):
        read(tmp_path, pattern="lte{teff}-{logg}{mh}.*", **options)
    text(tmp_path / "dim5000.dat")
    with pytest.raises(XpjaxError, match=r"dim5000.dat: a model has teff -5000; .*write more of its name into the pat"):
        read(tmp_path, pattern="*{teff}.dat", **options)


def test_two_files_with_the_same_labels(tmp_path: Path) -> None:
    text(tmp_path / "t5000.txt")
    text(tmp_path / "t05000.0.txt")
    with pytest.raises(XpjaxError, match=r"t05000.0.txt and .*t5000.txt have the same labels, teff 5000;"):
        list(read_library("files", tmp_path, pattern="t{teff}.txt", medium="vacuum", unit="nm"))


def test_labels_found(tmp_path: Path) -> None:
    path = write_nextgen(tmp_path / "g.npz", np.array([[5000, 4.5, 0], [6000, 4.5, 0], [6000, 4.0, -1]]))
    library = read_library("nextgen", path)
    assert library.found() == {}
    list(library)
    assert library.found() == {"teff": (2, 5000, 6000), "logg": (2, 4.0, 4.5), "mh": (2, -1, 0)}


# --- other formats ----------------------------------------------------------------------------------------------------


def test_ferre_with_fortrans_numbers(tmp_path: Path) -> None:
    path = write_ferre(tmp_path / "g.dat")
    (plain,) = read_library("ferre", path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.replace("e+00", "D+00") if "&" not in line else line for line in lines))
    (part,) = read_library("ferre", path, medium="vacuum")
    assert np.array_equal(part.flux, plain.flux)
    path.write_text("\n".join([*lines[:-1], "NaN " + lines[-1].partition(" ")[2]]))
    with pytest.raises(XpjaxError, match=rf"g.dat: line {len(lines)}: value 1 is NaN"):
        list(read_library("ferre", path))
    path.write_text("\n".join(lines).replace("LOGW = 0", "LOGW = 3"))
    with pytest.raises(XpjaxError, match=r"g.dat: LOGW = 3; expected 0, 1"):
        read_library("ferre", path)


def test_limits_as_quantities(tmp_path: Path) -> None:
    path = write_nextgen(tmp_path / "g.npz", np.array([[5000, 4.5, 0], [6000, 4.5, 0]]))
    (part,) = read_library("nextgen", path, limits={"teff": (5.5 * units.kK, None)})
    assert part.labels[:, 0].tolist() == [6000]
    with pytest.raises(XpjaxError, match="limits of teff has the unit m; expected values in K"):
        read_library("nextgen", path, limits={"teff": (5.5 * units.m, None)})
