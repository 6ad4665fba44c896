"""Transmission curves on disk: every format, what is odd in real files, and what is refused."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.oracles import worst
from xpjax.core import shipped
from xpjax.core.constants import SPEED_OF_LIGHT
from xpjax.core.shipped import shipped_passbands
from xpjax.synthetic.files import passband_files
from xpjax.synthetic.files.passband_files import find_passbands, read_curve, read_passbands, write_passbands
from xpjax.synthetic.passband import Passband, PassbandSet

WAVELENGTH = np.arange(400.0, 501.0, 4.0)
TRANSMISSION = np.round(0.7 * np.exp(-(((WAVELENGTH - 455) / 22) ** 4)), 6)

SVO = """<?xml version="1.0"?>
<VOTABLE version="1.1" xsi:schemaLocation="http://www.ivoa.net/xml/VOTable/v1.1"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <INFO name="QUERY_STATUS" value="OK"/>
  <RESOURCE type="results">
    <TABLE utype="photdm:PhotometryFilter.transmissionCurve.spectrum">
    {params}
      <FIELD name="Wavelength" utype="spec:Data.SpectralAxis.Value" ucd="em.wl" unit="Angstrom" datatype="float"/>
      <FIELD name="Transmission" utype="spec:Data.FluxAxis.Value" ucd="phys.transmission" unit="" datatype="float"/>
      <DATA><TABLEDATA>
{rows}
      </TABLEDATA></DATA>
    </TABLE>
  </RESOURCE>
</VOTABLE>
"""
SVO_PARAMS = {
    "FilterProfileService": "ivo://svo/fps",
    "filterID": "Made/CAM1.B",
    "WavelengthUnit": "Angstrom",
    "Description": "A made blue band",
    "PhotSystem": "Made",
    "DetectorType": "1",
    "Band": "B",
    "Instrument": "CAM1",
    "Facility": "Made",
    "ProfileReference": "http://example.org/curve",
    "Comments": "",
    "PhotCalID": "Made/CAM1.B/Vega",
    "MagSys": "Vega",
    "ZeroPoint": 4000.5,
    "ZeroPointUnit": "Jy",
    "ZeroPointType": "Pogson",
}


def svo(**params: Any) -> str:
    """A VOTable in the layout of the SVO Filter Profile Service; None leaves a parameter out."""
    values = {k: v for k, v in {**SVO_PARAMS, **params}.items() if v is not None}
    lines = [
        f'<PARAM name="{name}" value="{value}" '
        + ('datatype="char" arraysize="*"/>' if isinstance(value, str) else 'unit="" datatype="double"/>')
        for name, value in values.items()
    ]
    rows = [f"<TR><TD>{10 * x:.1f}</TD><TD>{t!r}</TD></TR>" for x, t in zip(WAVELENGTH, TRANSMISSION.tolist())]
    return SVO.format(params="\n    ".join(lines), rows="\n".join(rows))


def text(wavelength: np.ndarray = WAVELENGTH, transmission: np.ndarray = TRANSMISSION, mark: str = " ") -> str:
    return "".join(f"{x!r}{mark}{t!r}\n" for x, t in zip(wavelength.tolist(), transmission.tolist(), strict=True))


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Write a file, by default a text, and return its path."""

    def write(content: str | bytes, name: str = "B.dat") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def only(path: Path, **options: Any) -> Passband:
    (band,) = read_passbands(path, **options)
    return band


def same(found: Passband, expected: Passband) -> bool:
    """Whether two passbands agree in every digit and entry."""
    plain = ("name", "detector", "magnitude", "zero_point", "meta")
    return (
        all(getattr(found, name) == getattr(expected, name) for name in plain)
        and found.wavelength.tobytes() == expected.wavelength.tobytes()
        and found.transmission.tobytes() == expected.transmission.tobytes()
    )


# --- own files --------------------------------------------------------------------------------------------------------


def odd_band(rng: np.random.Generator, name: str, low: float, **options: Any) -> Passband:
    return Passband(name, low + np.cumsum(rng.uniform(1e-3, 9, 300)), rng.uniform(0, 1, 300), **options)


def test_a_set_comes_back_in_every_digit(tmp_path: Path, rng: np.random.Generator) -> None:
    meta = {"kind": "recovered", "reference": "Someone et al. (2020): a 'title', and #1", "residual": 1.25e-6, "n": 3}
    bands = PassbandSet(
        "Own_1",
        (
            odd_band(rng, "z", 800, meta=meta),
            odd_band(rng, "g.2", 350, detector="energy", magnitude="Vega", zero_point=-26.123456789012345),
            odd_band(rng, "G.2_4", 500),
            odd_band(rng, "G.2", 400, magnitude="ST"),
        ),
        {"site": "none", "airmass": 1.2},
    )
    write_passbands(tmp_path / "own", bands)
    found = read_passbands(tmp_path / "own")
    assert (found.label, found.names, found.meta) == ("Own_1", bands.names, bands.meta)
    assert all(map(same, found, bands))
    assert len({p.name.lower() for p in (tmp_path / "own").iterdir()}) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["own"]


def test_one_passband_in_one_file(tmp_path: Path, rng: np.random.Generator) -> None:
    band = odd_band(rng, "H_alpha", 600, meta={"flag": True, "list": [1, 2.5, "x"]})
    write_passbands(tmp_path / "file.ecsv", band)
    found = read_passbands(tmp_path / "file.ecsv")
    assert found.label == "file"
    assert same(found["H_alpha"], band)
    write_passbands(tmp_path / "folder", band)
    assert same(only(tmp_path / "folder"), band)


def test_astropy_reads_own_files(tmp_path: Path, rng: np.random.Generator) -> None:
    from astropy.table import QTable

    band = odd_band(rng, "r", 600, zero_point=-56.2)
    write_passbands(tmp_path / "r.ecsv", band)
    table = QTable.read(tmp_path / "r.ecsv")
    assert np.array_equal(table["wavelength"].to_value("nm"), band.wavelength)
    assert np.array_equal(table["transmission"], band.transmission)
    assert table.meta["zero_point"] == -56.2


def test_own_file_as_a_person_writes_it(put: Callable[..., Path]) -> None:
    header = """# %ECSV 1.0
# ---
# delimiter: ','
# datatype:
# - {name: Wavelength, unit: um, datatype: float64}
# - {name: error, datatype: float64}
# - {name: Transmission, unit: '%', datatype: float64}
# meta: {label: My system, detector: energy, zero_point: -25, magnitude: Vega, licence: CC-0}
Wavelength,error,Transmission
0.40,0.1,10
0.41,0.1,25

0.42,0.1,5
"""
    found = read_passbands(put(header, "blue.ecsv"))
    assert (found.label, found.names) == ("My_system", ("blue",))
    band = found["blue"]
    assert worst(band.wavelength, np.array([400.0, 410, 420])) < 1e-15
    assert worst(band.transmission, np.array([0.1, 0.25, 0.05])) < 1e-15
    assert (band.detector, band.magnitude, band.zero_point, band.meta) == ("energy", "Vega", -25.0, {"licence": "CC-0"})


def test_the_order_of_a_folder(tmp_path: Path, rng: np.random.Generator) -> None:
    bands = PassbandSet("s", (odd_band(rng, "red", 700), odd_band(rng, "blue", 350)))
    write_passbands(tmp_path / "s", bands)
    assert read_passbands(tmp_path / "s").names == ("red", "blue")
    write_passbands(tmp_path / "s" / "middle.ecsv", odd_band(rng, "middle", 500))
    assert read_passbands(tmp_path / "s").names == ("blue", "middle", "red"), "one file without order: by wavelength"
    files = [tmp_path / "s" / f"{name}.ecsv" for name in ("middle", "red")]
    assert read_passbands(files).names == ("middle", "red"), "a list is in its own order"


def test_a_folder_is_written_whole_and_not_over_another(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bands = PassbandSet("s", (odd_band(rng, "a", 400), odd_band(rng, "b", 500)))
    with pytest.raises(FileNotFoundError, match="make it first"):
        write_passbands(tmp_path / "no" / "s", bands)
    with pytest.raises(ValueError, match="holds one passband, not 2"):
        write_passbands(tmp_path / "s.ecsv", bands)

    def full(path: Path, data: bytes) -> None:
        if path.name == "b.ecsv":
            raise OSError(28, "No space left on device")
        Path(path).write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(passband_files, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            write_passbands(tmp_path / "s", bands)
    assert not list(tmp_path.iterdir())

    write_passbands(tmp_path / "s", bands)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_passbands(tmp_path / "s", bands)
    write_passbands(tmp_path / "s", bands, overwrite=True)
    with pytest.raises(ValueError, match=r"\['b.ecsv'\], which would join s"):
        write_passbands(tmp_path / "s", bands[["a"]], overwrite=True)
    with pytest.raises(FileExistsError, match="overwrite"):
        write_passbands(tmp_path / "s" / "a.ecsv", bands["a"])
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="name a folder"):
        write_passbands(tmp_path / "file", bands)


def test_shipped_passbands_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    write_passbands(tmp_path / "J_PLUS", odd_band(rng, "g", 400))
    for name, file in (("mini", "system.toml"), ("components", "m1.ecsv"), ("empty", "README.md")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("")
    monkeypatch.setattr(shipped, "filters_folder", lambda: tmp_path)
    assert shipped_passbands() == {"J_PLUS": tmp_path / "J_PLUS", "mini": tmp_path / "mini"}
    assert find_passbands("jplus") == find_passbands("JPLUS") == tmp_path / "J_PLUS"
    assert find_passbands(tmp_path / "empty") == tmp_path / "empty"
    with pytest.raises(ValueError, match="did you mean J_PLUS"):
        find_passbands("jpas")
    with pytest.raises(ValueError, match="mini"):
        find_passbands("xyzzy")
    with pytest.raises(ValueError, match="holds no curves but a transmission chain"):
        read_passbands(tmp_path / "mini")


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "factor", "unit", "guessed"),
    [
        ("", 10, None, True),
        ("", 1, None, True),
        ("", 1e-3, None, True),
        ("", 1e-9, "m", False),
        ("", 10, "Angstroms", False),
        ("# wavelength [Angstrom], transmission\n", 10, None, False),
        ("# band of Ångström\n", 10, None, False),
        ("wavelength_nm throughput\n", 1, None, False),
        ("# lambda (A)  T\n", 10, None, False),
        ("Wavelength(micron) Response\n", 1e-3, None, False),
        ("# the filter is 10 nm wide, wavelengths in Angstrom\n", 10, None, True),
        ("col0 col1\n", 1, None, True),
    ],
)
def test_units_are_taken_from_the_header_or_guessed_and_said(
    put: Callable[..., Path], header: str, factor: float, unit: str | None, guessed: bool
) -> None:
    band = only(put(header + text(WAVELENGTH * factor)), unit=unit)
    assert worst(band.wavelength, WAVELENGTH) < 1e-14
    units = {1: "nm", 10: "Angstrom", 1e-3: "um"}
    assert band.meta.get("wavelength_unit_guessed") == (units[factor] if guessed else None)
    assert (band.name, band.detector, band.magnitude, band.zero_point) == ("B", "photon", "AB", None)


def test_comments_of_any_kind_are_skipped(put: Callable[..., Path]) -> None:
    rows = text(WAVELENGTH).splitlines()
    rows[3] += "  # after a row"
    plain = only(put(text(WAVELENGTH), "plain.dat"))
    for mark in "#!%":
        band = only(put(f"{mark} one\n{mark} two, nm\n" + "\n".join(rows) + f"\n{mark} last\n"))
        assert np.array_equal(band.wavelength, plain.wavelength)
        assert np.array_equal(band.transmission, plain.transmission)
        assert "wavelength_unit_guessed" not in band.meta


def test_curves_are_read_as_they_stand(put: Callable[..., Path]) -> None:
    """For parts of chains: whatever the format, ascending, not clipped, with the header."""
    x, t, meta = read_curve(put(text(WAVELENGTH[::-1] * 10)))
    assert worst(x, WAVELENGTH) < 1e-14
    assert np.array_equal(t, read_passbands(put(text(WAVELENGTH[::-1]))).passbands[0].transmission)
    assert meta["wavelength_unit_guessed"] == "Angstrom"
    header = "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: wavelength, unit: nm, datatype: float64}\n"
    header += "# - {name: extinction, unit: mag, datatype: float64}\n"
    site = put(header + "wavelength extinction\n300 4.5\n900 0.1\n")
    assert read_curve(site, extinction=True)[1].tolist() == [4.5, 0.1]
    with pytest.raises(ValueError, match="the column extinction is no transmission"):
        read_curve(site)


def test_angstroms_become_the_nearest_nanometres(put: Callable[..., Path]) -> None:
    assert list(only(put("4001 0.1\n4003.7 0.2\n")).wavelength) == [400.1, 400.37]


@pytest.mark.parametrize("mark", [" ", "\t", ",", ", ", ";", " ; "])
def test_marks_between_columns_headers_and_descending_rows(put: Callable[..., Path], mark: str) -> None:
    body = text(WAVELENGTH[::-1], TRANSMISSION[::-1], mark).replace("\n", "\r\n")
    band = only(put(f"# a comment at 20 °C\n\nlambda{mark}trans\n{body}# the end\n\n".encode("latin-1")))
    assert np.array_equal(band.wavelength, WAVELENGTH)
    assert np.array_equal(band.transmission, TRANSMISSION)


def test_columns_are_found_by_their_names(put: Callable[..., Path]) -> None:
    rows = [f"{k},{t!r},{x!r},0.1" for k, (x, t) in enumerate(zip(WAVELENGTH.tolist(), TRANSMISSION.tolist()))]
    for header in ("n,throughput,wave,std", "# n,Transmission,wavelength,std"):
        band = only(put("\n".join([header, *rows])))
        assert np.array_equal(band.transmission, TRANSMISSION)
    swapped = "\n".join(["transmission wavelength", *(f"{t!r} {x!r}" for x, t in zip(WAVELENGTH, TRANSMISSION))])
    assert np.array_equal(only(put(swapped.replace("np.float64(", "").replace(")", ""))).wavelength, WAVELENGTH)
    with pytest.raises(ValueError, match=r"4 column\(s\) without names, expected two"):
        only(put("\n".join(rows)))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    steps=st.lists(st.floats(1e-3, 50), min_size=1, max_size=40),
    samples=st.data(),
    mark=st.sampled_from([" ", "\t", ",", ";", "   "]),
    down=st.booleans(),
    comment=st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20),
)
def test_any_curve_written_as_text_is_read(
    tmp_path_factory: pytest.TempPathFactory, steps: list[float], samples: Any, mark: str, down: bool, comment: str
) -> None:
    x = 300 + np.cumsum(steps)
    t = np.array(samples.draw(st.lists(st.floats(0, 1), min_size=len(x), max_size=len(x))))
    if len(x) < 2 or not t.any() or np.any(np.diff(x) <= 0):
        return
    order = slice(None, None, -1 if down else 1)
    path = tmp_path_factory.mktemp("any") / "x.txt"
    path.write_text(f"# {comment}\n{text(x[order], t[order], mark)}", encoding="utf-8")
    band = only(path, unit="nm")
    assert np.array_equal(band.wavelength, x)
    assert np.array_equal(band.transmission, t)


def test_clip_and_normalize_are_said(put: Callable[..., Path]) -> None:
    path = put("400 -0.01\n410 80\n420 -1e-9\n430 40\n")
    with pytest.raises(ValueError, match=r"B\.dat.*-0\.01 at 400 nm is negative.*clip=True"):
        only(path)
    with pytest.raises(ValueError, match=r"80 at 410 nm is above one; divide percent by 100.*normalize=True"):
        only(path, clip=True)
    band = only(path, clip=True, normalize=True)
    assert list(band.transmission) == [0, 1, 0, 0.5]
    assert (band.meta["clipped"], band.meta["normalized_by"]) == (2, 80.0)
    assert "clipped" not in only(put("400 0.1\n410 0.8\n"), clip=True).meta


def test_labels_names_and_options(put: Callable[..., Path]) -> None:
    files = [put(text(WAVELENGTH + 100 * k), f"set a/F{k} x.dat") for k in range(3)]
    found = read_passbands(files[0].parent)
    assert (found.label, found.names) == ("set_a", ("F0_x", "F1_x", "F2_x"))
    found = read_passbands(
        [str(file) for file in files], names=["u", "g", "r"], label="S", detector="energy", magnitude="ST"
    )
    assert (found.label, found.names) == ("S", ("u", "g", "r"))
    assert {(b.detector, b.magnitude) for b in found} == {("energy", "ST")}
    with pytest.raises(ValueError, match="names must be 3 names"):
        read_passbands(files, names=["u"])
    with pytest.raises(ValueError, match="names must be 1 names"):
        read_passbands(files[0], names="u")


# --- files that are refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("# only words\n", "no rows"),
        ("wave trans\n", "no rows of numbers"),
        ("400 0.5\n", r"1 row\(s\) of numbers"),
        ("400 0.1\n410 0.2\n405 0.3\n", "line 3: the wavelengths are not monotonic: 405 nm follows 410 nm; sort"),
        ("420 0.1\n410 0.2\n\n415 0.3\n400 0\n", "line 4: the wavelengths are not monotonic"),
        ("400 0.1\n400 0.2\n410 0\n", "line 2: the wavelengths are not monotonic.*drop repeated"),
        ("400 0.1\n410 nan\n", r"line 2: the transmission is missing \('nan'\); drop the row"),
        ("400 0.1\ninf 0.2\n", "line 2: the wavelength is inf"),
        ("400 0.1\n410 n/a\n", r"line 2: the transmission is missing \('n/a'\); drop the row"),
        ("400,0.1\n410,\n", r"line 2: the transmission is missing \(''\)"),
        ("400;0,1\n410;0,2\n", "line 1: the transmission '0,1' is no number; write decimal points"),
        ("400 0.1\n410 0.2 0.3\n", "line 2: 3 cell.*expected 2"),
        ("400\n410\n", r"1 column\(s\)"),
        ("400 0\n410 0\n", "zero everywhere"),
        ("40 0.1\n41 0.2\n", "header names no unit, and the wavelengths lie within 40..41; pass unit="),
        (
            "# 10 nm steps\n4000 0.1\n4100 0.2\n",
            "comments say nm.*within 4000..4100 but look like Angstrom; pass unit=",
        ),
        ("-5 0.1\n410 0.2\n", "not positive"),
        (b"SIMPLE  =                    T", "can't be read as a FITS table"),
        (gzip.compress(b"400 0.1\n410 0.2\n", mtime=0)[:-9], "truncated; download it again"),
        (b"\x89PNG\r\n\x00\x00", "a binary file"),
        ("<html><body>404</body></html>", "a VOTable of a transmission curve"),
        ("# %ECSV 1.0\n# ---\n# datatype: [\na b\n", "header cannot be read"),
    ],
)
def test_bad_files_are_refused_with_place_and_remedy(
    put: Callable[..., Path], content: str | bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"B\.dat: (.*){message}"):
        only(put(content))


ECSV = "# %ECSV 1.0\n# ---\n# datatype:\n# - {{name: {}}}\n# - {{name: {}}}\n# meta: {{{}}}\n{}\n400 0.1\n410 {}\n"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("a, datatype: float64", "b, datatype: float64", "", "a b", 1), r"columns are \['a', 'b'\], expected"),
        (
            ("wavelength, datatype: float64", "transmission, datatype: float64", "", "wavelength transmission", 1),
            "has no unit",
        ),
        (("wavelength, unit: Hz", "transmission", "", "wavelength transmission", 1), "'Hz' is no unit of wavelengths"),
        (("wavelength, unit: furlongs", "transmission", "", "wavelength transmission", 1), "'furlongs' is no unit"),
        (
            ("wavelength, unit: nm", "transmission, unit: nm", "", "wavelength transmission", 1),
            "expected a plain fraction",
        ),
        (
            ("wavelength, unit: nm", "transmission", "zero_point: old", "wavelength transmission", 1),
            "zero_point.* is 'old'",
        ),
        (("wavelength, unit: nm", "transmission", "detector: eye", "wavelength transmission", 1), "detector 'eye'"),
        (
            ("wavelength, unit: nm", "transmission", "magnitude: Johnson", "wavelength transmission", 1),
            "magnitude 'Johnson'",
        ),
        (
            ("wavelength, unit: nm", "transmission", "", "wavelength transmission", '""'),
            r"line 9: the transmission is missing \(''\)",
        ),
    ],
)
def test_bad_ecsv_files(put: Callable[..., Path], parts: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=rf"x\.ecsv: (.*){message}"):
        only(put(ECSV.format(*parts), "x.ecsv"))


def test_bad_paths(put: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        read_passbands(tmp_path / "absent.dat")
    with pytest.raises(ValueError, match="holds no curves: no file with a suffix"):
        read_passbands(tmp_path)
    with pytest.raises(ValueError, match="list of passband files is empty"):
        read_passbands([])
    put("See the paper.", "README.txt")
    put("hidden", ".x.dat")
    files = [put(text(), "one/B.dat"), put(text(), "two/B.dat")]
    with pytest.raises(ValueError, match=r"one.B\.dat and .*two.B\.dat both have a passband 'B'; give names="):
        read_passbands(files)
    assert read_passbands(files, names=["B1", "B2"]).label == "passbands"
    put(text(), "b.dat")
    assert read_passbands(tmp_path).names == ("b",), "neither the README nor the hidden file"
    with pytest.raises(ValueError, match="'parsec2' is no unit of wavelengths"):
        read_passbands(tmp_path, unit="parsec2")
    if os.getuid():
        (tmp_path / "b.dat").chmod(0)
        with pytest.raises(PermissionError):
            read_passbands(tmp_path)


# --- other people's formats -------------------------------------------------------------------------------------------


def test_svo_votable(put: Callable[..., Path]) -> None:
    found = read_passbands(put(svo(), "anything.xml"))
    band = found["B"]
    assert (found.label, band.detector, band.magnitude) == ("CAM1", "photon", "Vega")
    assert worst(band.wavelength, WAVELENGTH) < 1e-6
    assert worst(band.transmission, TRANSMISSION) < 1e-6
    assert band.meta["source"] == "SVO Filter Profile Service, Made/CAM1.B"
    assert band.meta["reference"] == "http://example.org/curve"
    assert band.meta["zero_point_jy"] == 4000.5


@pytest.mark.parametrize(("detector", "kind"), [("photon", "1"), ("energy", "0")])
@pytest.mark.parametrize("reference", [0.0, 0.03])
def test_svo_zero_points_are_those_of_our_fluxes(
    put: Callable[..., Path], detector: str, kind: str, reference: float
) -> None:
    """A star with the zero point's f_nu, seen as f_lambda at the pivot wavelength of our integrals, has Mag0."""
    band = only(put(svo(DetectorType=kind, Mag0=reference)))
    assert band.detector == detector
    pivot = band.pivot_wavelength
    mean_flux = 4000.5e-26 * SPEED_OF_LIGHT / (pivot * 1e-9) ** 2 * 1e-9
    assert band.zero_point is not None
    assert abs(-2.5 * np.log10(mean_flux) + band.zero_point - reference) < 1e-4
    stated = only(put(svo(DetectorType=kind, Mag0=reference, WavelengthPivot=10 * pivot)))
    assert stated.zero_point is not None
    assert abs(-2.5 * np.log10(mean_flux) + stated.zero_point - reference) < 1e-12


def test_the_services_own_reply() -> None:
    """2MASS H as astroquery ships it: no DetectorType, and a pivot wavelength that only an energy counter has.

    1024 Jy is 1.133e-9 W m-2 um-1 (Cohen et al. 2003, AJ 126, 1090).
    """
    home = pytest.importorskip("astroquery.svo_fps")
    path = Path(home.__file__).parent / "tests" / "data" / "svo_fps_ID=2MASS.2MASS.H.xml"
    if not path.exists():
        pytest.skip("this astroquery comes without its tests' data")
    found = read_passbands(path)
    band = found["H"]
    assert (found.label, band.detector, band.meta["detector_from"]) == ("2MASS", "energy", "WavelengthPivot")
    assert abs(band.pivot_wavelength - 1645.7505) < 0.1
    assert band.zero_point is not None
    assert abs(10 ** (0.4 * band.zero_point) / 1.133e-12 - 1) < 1e-3


def test_svo_magnitude_systems(put: Callable[..., Path]) -> None:
    assert only(put(svo(MagSys="AB", ZeroPoint=3631.0))).zero_point is None
    other = only(put(svo(MagSys="AB", ZeroPoint=3700.0)))
    assert other.zero_point == pytest.approx(2.5 * np.log10(3700e-26), abs=1e-12)
    st_band = only(put(svo(MagSys="ST", ZeroPoint=3000.0)))
    assert (st_band.magnitude, st_band.zero_point) == ("ST", None)
    forced = only(put(svo()), magnitude="AB")
    assert (forced.magnitude, forced.zero_point) == ("AB", None)
    assert only(put(svo(MagSys="Unknown")), magnitude="Vega").zero_point is None
    with pytest.raises(
        ValueError,
        match="MagSys 'Unknown' is not understood, expected the magnitude system AB, ST or Vega; pass magnitude=",
    ):
        only(put(svo(MagSys="Unknown")))
    with pytest.raises(ValueError, match=r"neither DetectorType nor WavelengthPivot.*detector="):
        only(put(svo(DetectorType=None)))
    assert only(put(svo(DetectorType=None)), detector="energy").detector == "energy"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (svo()[:-300], "can't be read as a VOTable of a transmission curve"),
        (svo().replace("Transmission", "Flux"), r"the columns are \['Wavelength', 'Flux'\], expected wavelength and"),
        (
            '<?xml version="1.0"?><VOTABLE version="1.1"><INFO name="QUERY_STATUS" value="ERROR"/></VOTABLE>',
            "expected a VOTable of a transmission curve, found no table",
        ),
    ],
)
def test_broken_votables(put: Callable[..., Path], content: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"x\.xml: {message}"):
        only(put(content, "x.xml"))


PAR = """# a made file, "lambda" in Angstroms
typedef struct {{
  double lambda;
  double pass;{extra}
}} KFILTER;

{rows}
"""


@pytest.mark.parametrize("extra", ["", "\n  double pass_1_0;"])
def test_sedpy_par(put: Callable[..., Path], extra: str) -> None:
    more = " 0.9" if extra else ""
    rows = "\n".join(f"KFILTER  {10 * x:.1f}  {t!r}{more}" for x, t in zip(WAVELENGTH, TRANSMISSION.tolist()))
    band = only(put(PAR.format(extra=extra, rows=rows), "made_b.par"))
    assert band.name == "made_b"
    assert np.array_equal(band.wavelength, WAVELENGTH)
    assert np.array_equal(band.transmission, TRANSMISSION)
    assert (band.detector, band.magnitude) == ("photon", "AB")


def test_bad_par(put: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="line 7: the transmission 'x' is no number"):
        only(put(PAR.format(extra="", rows="KFILTER 4000 x\nKFILTER 4100 0.1"), "a.par"))
    with pytest.raises(ValueError, match="expected lambda and pass"):
        only(put(PAR.replace("pass", "flux").format(extra="", rows="KFILTER 4000 0.1"), "a.par"))
    assert only(put("# in Angstroms\n4000 0.1\n4100 0.2\n", "plain.par")).wavelength[0] == 400


def test_speclite_files_are_read_as_speclite_reads_them() -> None:
    from speclite import filters

    folder = Path(filters.__file__).parent / "data" / "filters"
    for group in ("sdss2010", "bessell", "decamDR1", "gaiadr3", "lsst2023", "panstarrs"):
        files = sorted(folder.glob(f"{group}-*.ecsv"))
        found = read_passbands(files, clip=True)
        assert found.label == group
        for band in found:
            theirs = filters.load_filter(f"{group}-{band.name}")
            assert (band.detector, band.magnitude) == ("photon", "AB")
            # speclite leaves out all but one of the zeros at both ends.
            part = slice(*np.searchsorted(10 * band.wavelength, theirs.wavelength[[0, -1]] + [-0.01, 0.01]))
            assert worst(10 * band.wavelength[part], theirs.wavelength) < 1e-14
            # Some of its tables are float32.
            assert worst(band.transmission[part], np.clip(theirs.response, 0, None)) < 1e-7
            assert not np.delete(band.transmission, np.arange(*part.indices(len(band.wavelength)))).any()


def test_real_curves_of_splus(shared: Callable[[str], Path]) -> None:
    files = sorted(shared("splus/filters").glob("*.dat"))
    with pytest.raises(ValueError, match=r"SPLUS_F861\.dat.*negative.*clip=True"):
        read_passbands(files)
    found = read_passbands(shared("splus/filters"), clip=True)
    assert found.names[:3] == ("SPLUS_U", "SPLUS_F378", "SPLUS_F395")
    assert found.names[-1] == "SPLUS_Z"
    assert found.meta == {}
    for band in found:
        table = np.loadtxt(shared("splus/filters") / f"{band.name}.dat")
        assert worst(band.wavelength, table[:, 0] / 10) < 1e-15
        assert np.array_equal(band.transmission, np.clip(table[:, 1], 0, None))
        assert band.meta["wavelength_unit_guessed"]


def test_real_measurements_of_splus(shared: Callable[[str], Path]) -> None:
    """The same filters as measured, in nm: one with three named columns, the other with two called col0 and col1."""
    home = shared("splus/filters_official")
    for csv, ascii_file in (("J0395.csv", "20150922C080F039502.ascii"), ("gSDSS.csv", "20150924C080gSDSS02.ascii")):
        named, plain = only(home / csv), only(home / ascii_file)
        assert np.array_equal(named.wavelength, plain.wavelength)
        assert np.abs(named.transmission - plain.transmission).max() < 1e-6
    with pytest.raises(ValueError, match="expected two, or wavelength and transmission"):
        read_passbands(home / "central_wavelengths.csv")
