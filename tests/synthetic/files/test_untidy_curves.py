"""Transmission curves as other programs and people leave them: what their headers say is read, doubt is refused."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table

from tests.oracles import worst
from tests.synthetic.files.test_passband_files import TRANSMISSION, WAVELENGTH, only, put, svo, text
from xpjax.core.constants import SPEED_OF_LIGHT
from xpjax.core.errors import XpjaxError, command_line
from xpjax.synthetic.files.passband_files import read_curve, read_passbands, read_spectrum, write_passbands
from xpjax.synthetic.passband import Passband

Put = Callable[..., Path]
ROWS = text(WAVELENGTH * 10)
__all__ = ["put"]  # a fixture


def refused(message: str, path: Path, **options: Any) -> None:
    with pytest.raises(XpjaxError, match=rf"{path.name}: (.*){message}"):
        only(path, **options)


def same_curve(band: Passband) -> bool:
    return worst(band.wavelength, WAVELENGTH) < 1e-6 and np.abs(band.transmission - TRANSMISSION).max() < 1e-6


# --- headers of text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "# DETECTOR\tenergy",
        "# DETECTOR energy",
        "# detector: energy",
        "#Detector = Energy",
        "# DetectorType: 0",
        "# DetectorType\t0",
        "! detector type = energy counter",
        "% DETECTOR energy-counting",
        "## DETECTOR = 'energy' / what it counts",
        "# Detector energy integrating",
        "# an energy counter\n# energy-counting",
        "# response type: energy",
    ],
)
def test_the_detector_of_a_header(put: Put, line: str) -> None:
    band = only(put(f"# a curve\n{line}\n#\n{ROWS}"))
    assert band.detector == "energy"
    assert same_curve(band)
    assert only(put(f"{line}\n{ROWS}"), detector="photon").detector == "photon", "the option replaces what is said"


@pytest.mark.parametrize(
    "line", ["# DETECTOR photon", "# DetectorType = 1", "# detector: photon counting", "# detector"]
)
def test_photon_counters(put: Put, line: str) -> None:
    assert only(put(f"{line}\n{ROWS}")).detector == "photon"


@pytest.mark.parametrize(
    "line",
    [
        "# Detector response of the CCD included",
        "# the detector was an energy-counting bolometer, later",
        "# magnitude limits of the survey",
        "# Name of the maker: lost",
        "# system of three lenses",
    ],
)
def test_prose_is_no_header(put: Put, line: str) -> None:
    band = only(put(f"{line}\n{ROWS}"))
    assert (band.name, band.detector, band.magnitude) == ("B", "photon", "AB")


@pytest.mark.parametrize(
    ("line", "magnitude"),
    [
        ("# magnitude: Vega", "Vega"),
        ("# MagSys = VEGAMAG", "Vega"),
        ("# MAGSYS\tvega", "Vega"),
        ("# Magnitude system: ST", "ST"),
        ("# magsys STmag", "ST"),
        ("# PhotSystem: Vega", "Vega"),
        ("# Vega magnitudes", "Vega"),
        ("# PhotSystem: Johnson", "AB"),
        ("# magnitude: ABMAG", "AB"),
    ],
)
def test_the_magnitude_system_of_a_header(put: Put, line: str, magnitude: str) -> None:
    found = read_passbands(put(f"{line}\n{ROWS}"))
    assert found["B"].magnitude == magnitude
    assert found.label in ("B", "Johnson")
    assert only(put(f"{line}\n{ROWS}"), magnitude="ST").magnitude == "ST"


def test_what_is_not_understood_is_refused_by_its_line(put: Put) -> None:
    path = put(f"# a curve\n# DETECTOR bolometric\n{ROWS}")
    refused(
        r"line 2: DETECTOR 'bolometric' is not understood, expected photon or energy; pass detector=\"photon\"", path
    )
    with command_line():
        refused("pass --detector photon or --detector energy", path)
    assert only(path, detector="energy").detector == "energy"
    path = put(f"# MagSys: Johnson\n{ROWS}")
    refused("line 1: MagSys 'Johnson' is not understood, expected the magnitude system AB, ST or Vega; pass magn", path)
    assert only(path, magnitude="Vega").magnitude == "Vega"
    refused(
        "DETECTOR 'energy' contradicts line 2: DetectorType '1'", put(f"# DETECTOR energy\n# DetectorType: 1\n{ROWS}")
    )
    refused("line 1: WAVELENGTH_UNIT: 'furlong' is no unit", put(f"# WAVELENGTH_UNIT furlong\n{ROWS}"))
    assert same_curve(only(put(f"# WAVELENGTH_UNIT furlong\n{ROWS}"), unit="Angstrom"))


def test_zero_points_of_a_header(put: Put) -> None:
    head = "# MagSys: Vega\n# DetectorType: 1\n"
    ours = only(put(f"# magnitude: Vega\n# zero_point: -26.125\n{ROWS}"))
    assert (ours.magnitude, ours.zero_point) == ("Vega", -26.125)
    assert only(put(f"# magnitude: Vega\n# ZP = -26.125 mag\n{ROWS}")).zero_point == -26.125
    assert only(put(f"# magnitude: Vega\n# zero_point: -26\n{ROWS}"), magnitude="AB").zero_point is None
    pivot = np.sqrt(
        np.trapezoid(TRANSMISSION * WAVELENGTH, WAVELENGTH) / np.trapezoid(TRANSMISSION / WAVELENGTH, WAVELENGTH)
    )
    expected = 2.5 * np.log10(4000.5e-26 * SPEED_OF_LIGHT / (pivot * 1e-9) ** 2 * 1e-9)
    f_lambda = 4000.5e-26 * SPEED_OF_LIGHT / (pivot * 1e-9) ** 2 * 1e-7  # erg s-1 cm-2 Angstrom-1
    for line in (
        "# ZeroPoint = 4000.5 Jy",
        "# ZeroPoint: 4000.5",
        "# ZeroPoint (Jy): 4000.5",
        "# zero_point_jy = 4000.5",
        "# ZeroPoint\t4000.5\n# ZeroPointUnit\tJy",
        f"# zero_point: {f_lambda!r} erg/s/cm2/AA".replace("np.float64(", "").replace(")", ""),
    ):
        band = only(put(f"{head}{line}\n{ROWS}"))
        assert band.zero_point == pytest.approx(expected, abs=1e-6), line
    refused("line 1: zero_point '25.3' is no zero point of fluxes", put(f"# zero_point: 25.3\n{ROWS}"))
    refused("line 1: zero_point '25.3 mag' is no zero point", put(f"# zero_point: 25.3 mag\n{ROWS}"))
    refused("line 1: ZeroPoint is in 'parsec', expected Jy", put(f"# ZeroPoint: 3 parsec\n{ROWS}"))
    refused("zero_point is 'old', expected a number", put(f"# zero_point: old\n{ROWS}"))


def test_a_pyphot_file_and_one_with_the_services_words(put: Put) -> None:
    rows = text(WAVELENGTH * 10, mark=",")
    head = "# WAVELENGTH_UNIT\tAA\n# DETECTOR\tenergy\n# COMPNAME\tMADE_V\n# NAME\tMADE_V\n#\n"
    band = only(put(f"{head}## WAVELENGTH\tAA\tfilter wavelength definition\nWAVELENGTH,THROUGHPUT\n{rows}", "x.csv"))
    assert (band.name, band.detector) == ("MADE_V", "energy")
    assert "wavelength_unit_guessed" not in band.meta
    assert same_curve(band)
    head = "# filterID: Made/CAM1.B\n# DetectorType: 0\n# MagSys: AB\n# Facility: Made\n# WavelengthUnit: Angstrom\n"
    found = read_passbands(put(head + ROWS))
    band = found["B"]
    assert (found.label, band.detector, band.meta["filter_id"]) == ("CAM1", "energy", "Made/CAM1.B")
    assert "wavelength_unit_guessed" not in band.meta


def test_words_of_others_in_ecsv_par_and_fits(put: Put, tmp_path: Path) -> None:
    head = "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: wavelength, unit: Angstrom, datatype: float64}\n"
    head += "# - {name: response, datatype: float64}\n# meta: {DETECTOR: energy, MagSys: Vega, note: kept}\n"
    band = only(put(f"{head}wavelength response\n{ROWS}", "x.ecsv"))
    assert (band.detector, band.magnitude, band.meta) == ("energy", "Vega", {"note": "kept"})
    rows = "\n".join(f"KFILTER {row}" for row in ROWS.splitlines())
    band = only(put(f"# magnitude: Vega\n# zero_point: -26.5\n# detector: energy\n{rows}", "x.par"))
    assert (band.detector, band.magnitude, band.zero_point) == ("energy", "Vega", -26.5)
    table = Table({"WAVELENGTH": WAVELENGTH * units.nm, "THROUGHPUT": TRANSMISSION}, meta={"DETECTOR": "energy"})
    table.write(tmp_path / "x.fits")
    assert only(tmp_path / "x.fits").detector == "energy"


# --- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        "wavelength[Angstrom],transmission[%]",
        "# wavelength (AA), transmission (%)",
        "# Wavelength [Angstrom]   Transmission [%]",
        "Wavelength Angstrom Transmission %",
        "# WAVELENGTH_UNIT AA\n# transmission in percent",
        "# units: Angstrom, percent",
        "# Transmission: %",
        "wave,transmission_percent",
        "wave,T(%)",
        "wave,%T",
    ],
)
def test_percent_are_converted_where_the_header_says_so(put: Put, head: str) -> None:
    rows = text(WAVELENGTH * 10, TRANSMISSION * 100, mark="," if "," in head else " ")
    assert same_curve(only(put(f"{head}\n{rows}")))


def test_percent_in_doubt(put: Put) -> None:
    refused("above one; divide percent by 100", put(text(WAVELENGTH, TRANSMISSION * 100)))
    refused("above one; divide percent by 100", put("# known to 1 percent\n" + text(WAVELENGTH, TRANSMISSION * 100)))
    assert same_curve(only(put("# known to 1 percent\n" + text())))
    refused(
        "line 1: 'transmission in percent' speaks of percent, but .* not above one",
        put("# transmission in percent\n" + text()),
    )
    faint = only(put(text(WAVELENGTH, TRANSMISSION, ",").join(["wave,transmission[%]\n", ""])))
    assert np.abs(faint.transmission - TRANSMISSION / 100).max() < 1e-15
    refused(r"the column T\(mag\) is no transmission", put("wave,T(mag)\n" + text(mark=",")))


@pytest.mark.parametrize(
    ("head", "unit"),
    [
        ("wavelength_nm transmission", "Angstrom"),
        ("# WAVELENGTH_UNIT nm", "Angstrom"),
        ("# WAVELENGTH_UNIT: nm\nwavelength[Angstrom] transmission", None),
        ("# wavelength = nm\n# units: um", None),
    ],
)
def test_units_that_contradict_are_refused(put: Put, head: str, unit: str | None) -> None:
    refused("says .*, but .* says .*; leave out or mend one", put(f"{head}\n{text()}"), unit=unit)


def test_the_option_for_units_holds_where_files_state_none(put: Put, tmp_path: Path) -> None:
    assert same_curve(only(put("# steps of 4 nm\n" + ROWS), unit="Angstrom"))
    assert same_curve(only(put("# WAVELENGTH_UNIT AA\n" + ROWS), unit="angstroms"))
    write_passbands(tmp_path / "own.ecsv", Passband("x", WAVELENGTH, TRANSMISSION))
    refused("unit= says Angstrom, but the column wavelength says nm", tmp_path / "own.ecsv", unit="Angstrom")
    refused("unit= says nm, but the column Wavelength says", put(svo(), "x.xml"), unit="nm")
    refused(
        "unit= says nm, but the column wavelength says Angstrom",
        put("KFILTER 4000 0.1\nKFILTER 4100 0\n", "x.par"),
        unit="nm",
    )


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("loglam transmission", "the column loglam is no wavelength; convert it"),
        ("log_wave transmission", "the column log_wave is no wavelength"),
        ("log10(lambda) T", r"the column log10\(lambda\) is no wavelength"),
        ("wavelength_log,transmission", "the column wavelength_log is no wavelength"),
        ("lnlambda trans", "the column lnlambda is no wavelength"),
        ("wavelength[log(Angstrom)] T", r"the column wavelength\[log\(Angstrom\)\] is no wavelength"),
        ("frequency,transmission", "the column frequency is no wavelength"),
        ("nu T", "the column nu is no wavelength"),
        ("wavenumber T", "the column wavenumber is no wavelength"),
        ("wavelength[Hz] T", r"the column wavelength\[Hz\] is no wavelength"),
        ("wavelength[1/cm] T", "'1/cm' is no unit of wavelengths"),
        ("energy_ev T", "the column energy_ev is no wavelength"),
        ("# frequency [THz], transmission", r"the column frequency \[THz\] is no wavelength"),
        ("# log10 of the wavelength, and the transmission of it all", "line 1: .* speaks of 'log10"),
        ("# WAVELENGTH_UNIT Hz", "line 1: WAVELENGTH_UNIT: 'Hz' is no unit of wavelengths"),
    ],
)
def test_axes_that_are_no_wavelengths(put: Put, head: str, message: str) -> None:
    mark = "," if "," in head and not head.startswith("#") else " "
    refused(message, put(f"{head}\n{text(WAVELENGTH * 10, mark=mark)}"))


def test_frequencies_are_not_taken_for_angstroms(put: Put) -> None:
    refused("the header names no unit", put(text(3e17 / WAVELENGTH[::-1], TRANSMISSION)))


# --- columns and cells ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "wave throughput throughput_atm",
            "columns throughput and throughput_atm may each be the transmission; keep one",
        ),
        ("wave_nm wave_um trans", "columns wave_nm and wave_um may each be the wavelength"),
        ("wave trans trans", "columns trans and trans may each be the transmission"),
        ("wavelength transmission transmission", "columns transmission and transmission may each"),
        ("wave wave trans", "columns wave and wave may each be the wavelength"),
        ("wave trans", r"line 1: 'wave trans' names not 3 columns"),
    ],
)
def test_columns_in_doubt(put: Put, names: str, message: str) -> None:
    refused(message, put(f"{names}\n400 0.1 0.2\n410 0.3 0.1\n"))


def test_columns_without_doubt(put: Put) -> None:
    rows = "".join(f"{x!r} {t!r} a 0.9 null\n" for x, t in zip(WAVELENGTH.tolist(), TRANSMISSION.tolist(), strict=True))
    for names in ("wave trans quality trans_err y", "wavelength transmission q transmission_atm wave_err"):
        assert same_curve(only(put(f"{names}\n{rows}"))), "nobody asks for the other columns"


def test_ecsv_columns_by_name(put: Put, tmp_path: Path) -> None:
    table = Table({"wave": WAVELENGTH * units.nm, "trans": TRANSMISSION, "note": ["a b"] * len(WAVELENGTH)})
    table.write(tmp_path / "x.ecsv")
    assert same_curve(only(tmp_path / "x.ecsv")), "cells in quotes hold blanks"
    table["trans2"] = 0.5
    table.write(tmp_path / "x.ecsv", overwrite=True)
    refused("columns trans and trans2 may each be the transmission", tmp_path / "x.ecsv")
    content = (tmp_path / "x.ecsv").read_text()
    refused("expected the names", put(content.replace("wave trans note", "trans wave note"), "y.ecsv"))
    refused("columns trans and trans may each", put(content.replace("trans2", "trans"), "z.ecsv"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("400,5;0,9\n410,5;0,5\n", "line 1: the wavelength '400,5' is no number; write decimal points, not commas"),
        ("400,5 0,9\n410,5 0,5\n", "line 1: the wavelength '400,5' is no number; write decimal points"),
        ("400,5\t0,9\n410,5\t0,5\n", "line 1: the wavelength '400,5' is no number; write decimal points"),
        ("wave,trans\n400,0,9\n410,1,0\n", "line 1: 'wave,trans' names not 3 columns.*decimal points"),
        ("400,0.9\n410,0,5\n", "line 2: 3 cell.*decimal points"),
        ("400 0.1\n4_10 0.2\n", "line 2: the wavelength '4_10' is no number"),
        *(
            (f"400;0.1\n410;{word}\n", r"line 2: the transmission is missing")
            for word in ("null", "N/A", "--", "None", r"\N")
        ),
        ("NA 0.3\n400 0.1\n410 0.2\n", "line 1: the wavelength is missing"),
    ],
)
def test_cells_that_are_no_numbers(put: Put, rows: str, message: str) -> None:
    refused(message, put(rows))


def test_exponents_of_fortran(put: Put) -> None:
    band = only(put("4.0000D+03 1.0D-01\n4.1000d+03 2.5D-01\n"))
    assert (band.wavelength.tolist(), band.transmission.tolist()) == ([400, 410], [0.1, 0.25])


# --- packed files, VOTable and FITS -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_packed_files(put: Put, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = put(pack(b"# DETECTOR energy\n" + ROWS.encode()), f"set/B.dat{suffix}")
    band = only(path)
    assert (band.name, band.detector) == ("B", "energy")
    assert same_curve(band)
    put(pack(svo().encode()), f"set/C.xml{suffix}")
    assert sorted(read_passbands(path.parent, names=["1", "2"]).names) == ["1", "2"], "found in a folder"


def test_zip_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "B.dat.zip", "w") as archive:
        archive.writestr("B.dat", ROWS)
    assert same_curve(only(tmp_path / "B.dat.zip"))
    with zipfile.ZipFile(tmp_path / "B.dat.zip", "a") as archive:
        archive.writestr("C.dat", ROWS)
    refused("a zip file with 2 files", tmp_path / "B.dat.zip")


def test_votables_that_are_not_quite_the_services(put: Put) -> None:
    plain = svo().replace('unit="Angstrom"', 'unit=""')
    assert same_curve(only(put(plain))), "the unit of PARAM WavelengthUnit"
    nm = svo(WavelengthUnit="um").replace('unit="Angstrom"', 'unit=""')
    assert worst(only(put(nm)).wavelength, WAVELENGTH * 1e4) < 1e-6
    refused("says Angstrom, but header: WavelengthUnit says um", put(svo(WavelengthUnit="um")))
    percent = svo().replace('phys.transmission" unit=""', 'phys.transmission" unit="%"')
    assert np.abs(only(put(percent)).transmission - TRANSMISSION / 100).max() < 1e-6
    start, end = svo().index("<TABLE "), svo().index("</TABLE>") + len("</TABLE>")
    one = svo()[start:end]
    other = one.replace("<TABLE ", '<TABLE name="second" ')
    refused("holds 2 TABLE elements, number 1, second; save each curve", put(svo().replace(one, one + other)))
    cut = svo().replace("</TABLE>", '</TABLE><INFO name="QUERY_STATUS" value="OVERFLOW"/>')
    refused("QUERY_STATUS is OVERFLOW: rows were cut off", put(cut))
    gap = svo().replace(f"<TR><TD>{10 * WAVELENGTH[1]:.1f}</TD><TD>{TRANSMISSION[1]}</TD>", "<TR><TD>4040</TD><TD/>")
    assert gap != svo()
    refused("row 2: the transmission is nan", put(gap))


def curve_table(*, null: bool = False) -> fits.BinTableHDU:
    """A table of scaled integers, with a null in its fourth row."""
    scaled = np.round(TRANSMISSION * 1e4).astype(np.int16)
    scaled[3] = -32768 if null else scaled[3]
    columns = [
        fits.Column("WAVELENGTH", "D", unit="ANGSTROMS", array=WAVELENGTH * 10),
        fits.Column("THROUGHPUT", "I", unit="TRANSMISSION", array=scaled, null=-32768),
        fits.Column("NOTE", "2A", array=["ab"] * len(WAVELENGTH)),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="CURVE")
    table.header["XSCAL2"] = 1e-4
    return table


def write_fits(path: Path, *hdus: Any) -> Path:
    """A file of these tables, in which XSCAL is TSCAL: astropy would scale the integers as it sets it."""
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
    path.write_bytes(path.read_bytes().replace(b"XSCAL2", b"TSCAL2"))
    return path


def test_fits_tables(tmp_path: Path) -> None:
    path = write_fits(tmp_path / "B.fits", curve_table())
    band = only(path)
    assert band.name == "B"
    assert worst(band.wavelength, WAVELENGTH) < 1e-14
    assert np.abs(band.transmission - TRANSMISSION).max() < 1e-4
    (tmp_path / "B.fits.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert only(tmp_path / "B.fits.gz").name == "B"
    refused("row 4: the transmission is nan", write_fits(tmp_path / "n.fits", curve_table(null=True)))
    refused("holds 2 tables, CURVE, CURVE", write_fits(tmp_path / "two.fits", curve_table(), curve_table()))
    other = fits.BinTableHDU.from_columns([fits.Column("X", "D", array=[1.0, 2.0])])
    assert only(write_fits(tmp_path / "other.fits", other, curve_table())).name == "other"
    refused(r"no table with a column wavelength; it has the columns \['X'\]", write_fits(tmp_path / "x.fits", other))
    log = fits.BinTableHDU.from_columns([fits.Column(n, "D", array=TRANSMISSION) for n in ("LOGLAM", "T")])
    refused("the column LOGLAM is no wavelength", write_fits(tmp_path / "log.fits", log))
    refused("no table with a column wavelength", write_fits(tmp_path / "image.fits", fits.ImageHDU(np.ones((3, 3)))))
    twice = [fits.Column(name, "D", array=WAVELENGTH) for name in ("WAVELENGTH", "THROUGHPUT", "XHROUGHPUT")]
    path = write_fits(tmp_path / "twice.fits", fits.BinTableHDU.from_columns(twice))
    path.write_bytes(path.read_bytes().replace(b"XHROUGHPUT", b"THROUGHPUT"))
    refused("several columns are called THROUGHPUT", path)


def test_parts_of_chains_in_percent(put: Put) -> None:
    x, t, _ = read_curve(put("wavelength[nm] reflectance[%]\n400 90\n410 80\n"))
    assert (x.tolist(), t.tolist()) == ([400, 410], [0.9, 0.8])
    refused("the column extinction is no transmission", put("wavelength extinction\n400 0.5\n410 0.4\n"))


# --- spectra of alpha Lyr ---------------------------------------------------------------------------------------------


def test_spectra_leave_out_rows_without_a_number(put: Put, tmp_path: Path) -> None:
    x = np.arange(300.0, 800.0, 5.0)
    rows = "".join(f"{10 * a},{a},1\n" for a in x.tolist())
    path = put(f"wavelength_A,flux,err\n2900,null,1\n2950,,1\n{rows}")
    wavelength, flux = read_spectrum(path)
    assert worst(wavelength, x) < 1e-14
    assert np.array_equal(flux, x)
    Table({"WAVELENGTH": x * units.nm, "FLUX": x * units.Jy}).write(tmp_path / "x.fits")
    with pytest.raises(XpjaxError, match=r"FLUX \[Jy\] is per frequency"):
        read_spectrum(tmp_path / "x.fits")


# --- records ----------------------------------------------------------------------------------------------------------

X, T = np.array([400.0, 500, 600]), np.array([0.1, 0.9, 0.2])


@pytest.mark.parametrize(
    ("wavelength", "transmission"),
    [
        (X * 10 * units.AA, T * 100 * units.percent),
        (Column(X / 1000, unit="um"), Column(T * 100, unit="%")),
        (MaskedColumn(X, unit="nm"), MaskedColumn(T)),
        (np.ma.array(X, mask=[False, False, False]), np.ma.array(T)),
        (X.tolist(), T * units.dimensionless_unscaled),
        (X[::-1] * units.nm, T[::-1]),
    ],
)
def test_quantities_columns_and_masked_arrays(wavelength: Any, transmission: Any) -> None:
    band = Passband("x", wavelength, transmission)
    assert worst(band.wavelength, X) < 1e-14
    assert worst(band.transmission, T) < 1e-14
    assert type(band.transmission) is np.ndarray


@pytest.mark.parametrize(
    ("wavelength", "transmission", "message"),
    [
        (X, np.ma.array(T, mask=[False, True, False]), "transmission of sample 2 is masked; drop the sample"),
        (np.ma.array(X, mask=[False, False, True]), T, "wavelength of sample 3 is masked"),
        (X, MaskedColumn(T, mask=[True, False, False]), "transmission of sample 1 is masked"),
        (X[::-1] * units.THz, T, "wavelength has the unit THz; expected wavelengths"),
        (X / units.cm, T, "wavelength has the unit 1 / cm; expected wavelengths"),
        (X * units.one, T, "wavelength has the unit ; expected wavelengths"),
        (X, T * units.mag, "transmission has the unit mag; expected numbers"),
        (X, Column(T, unit="nm"), "transmission has the unit nm; expected numbers"),
        (X, ["a", "b", "c"], "transmission is no list of numbers"),
        (X, [0.1, None, 0.2], "transmission of sample 2 is nan"),
    ],
)
def test_samples_that_are_refused(wavelength: Any, transmission: Any, message: str) -> None:
    with pytest.raises(XpjaxError, match=f"passband x: {message}"):
        Passband("x", wavelength, transmission)
