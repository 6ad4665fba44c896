"""Chains from TOML: parts that are shipped, and files that are refused with place and remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from astropy.table import Table

from tests.synthetic.helpers import TOML, X
from xpjax.core.shipped import filters_folder
from xpjax.synthetic.chain import KINDS
from xpjax.synthetic.chain_file import read_chain

WRONG = {
    # what is changed in the TOML, and what the message must say
    "no name": ('name = "Test"', "", "key 'name' is missing"),
    "unknown top key": ('name = "Test"', 'name = "Test"\nmagnitud = "AB"', "unknown key 'magnitud'; did you mean"),
    "magnitude": ('name = "Test"', 'name = "Test"\nmagnitude = "AC"', "magnitude 'AC'"),
    "detector type": ('name = "Test"', 'name = "Test"\ndetector_type = "eye"', "detector_type 'eye'"),
    "name is a number": ('name = "Test"', "name = 7", "expected text in quotes"),
    "grid": ("[330, 1050, 2]", "[1050, 330, 2]", r"expected \[first, last, step\]"),
    "grid of texts": ("[330, 1050, 2]", '"all"', r"expected \[first, last, step\]"),
    "unknown key of the atmosphere": ("airmass = 1.2", "airmas = 1.2", r"\[atmosphere\] unknown key 'airmas'; did you"),
    "airmass": ("airmass = 1.2", "airmass = 0.9", r"\[atmosphere\] airmass = 0.9: expected a number from 1"),
    "airmass is text": ("airmass = 1.2", 'airmass = "1.2"', "airmass = '1.2': expected a number"),
    "airmass is nan": ("airmass = 1.2", "airmass = nan", "airmass = nan: expected a number"),
    "water": ("water = 5.0", "water = -1", r"water = -1: expected a number from 0"),
    "oxygen": ("water = 5.0", "oxygen = 1", "oxygen = 1: expected true or false"),
    "altitude twice": ("water = 5.0", "altitude = 900\npressure = 910", "give one of them"),
    "neither site nor altitude": ('site = "xinglong"', "", 'needs site = "NAME", or altitude'),
    "unknown site": ('"xinglong"', '"xinglon"', "is no component; did you mean 'xinglong'"),
    "missing site file": ('"xinglong"', '"nowhere.dat"', "relative to the TOML file"),
    "curve and value": ("count = 2", "value = 0.9", "needs either curve or value"),
    "neither curve nor value": ("value = 0.9", "", "needs either curve or value"),
    "count": ("count = 2", "count = 1.5", "expected a whole number"),
    "value": ("value = 0.9", "value = 1.1", "value = 1.1: expected a number"),
    "nameless value": ('name = "corrector"', "", "key 'name' is missing"),
    "optics with one bracket": ("[[optics]]", "[optics]", "two brackets|not TOML"),
    "reserved name": ('"corrector"', '"airmass"', "names of other parameters"),
    "detector": ('"imx455"', '"imx45"', "did you mean 'imx455'"),
    "slope": ("slope = 0.02", "slope = true", "slope = True: expected a number"),
    "unit of a text": ('unit = "angstrom"', 'unit = "mile"', r"\[filter.r\] .*'mile' is no unit of wavelengths"),
    "unit left out": ('unit = "angstrom"', "", 'add unit = "angstrom"'),
    "filter": ('"g.csv"', '"h.csv"', "no file"),
    "filter outside": ("[330, 1050, 2]", "[450, 1050, 2]", "of the filter lies outside"),
    "scale": ("scale = 1.02", "scale = 0", "scale = 0: expected a number"),
    "component too short": ("[330, 1050, 2]", "[250, 1050, 2]", "xinglong.ecsv covers 300 to 1100 nm"),
    "broken": ("[atmosphere]", "[atmosphere", "is not TOML"),
    "no section": ("[detector]", "[detectors]", "unknown key 'detectors'; did you mean 'detector'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused_with_place_and_remedy(case: str, folder: Path) -> None:
    old, new, message = WRONG[case]
    path = folder / "system.toml"
    assert old in TOML
    path.write_text(TOML.replace(old, new))
    with pytest.raises(ValueError, match=message) as refusal:
        read_chain(path)
    assert str(path) in str(refusal.value)


def test_no_filter_and_no_file_are_refused(folder: Path) -> None:
    path = folder / "system.toml"
    path.write_text(TOML[: TOML.index("[filter.g]")])
    with pytest.raises(ValueError, match=r"no filters; add a section \[filter.NAME\]"):
        read_chain(path)
    with pytest.raises(ValueError, match="no such file"):
        read_chain(folder / "other.toml")


BAD_CURVES = {
    "percent": ("400 10\n500 90\n600 10\n", "transmission 10 at 400 nm; expected 0 to 1"),
    "negative": ("400 0\n500 -0.1\n600 0\n", "transmission -0.1 at 500 nm"),
    "repeated": (
        "400 0\n500 0.5\n500 0.6\n600 0\n",
        "line 3: the wavelengths are not monotonic: 500 nm follows 500 nm",
    ),
    "text": ("400 0\n500 x\n600 0\n", "line 2: the transmission 'x' is no number; drop the row"),
    "one column": ("400\n500\n600\n", "1 column.s. without names, expected two"),
    "empty": ("# nothing\n", "no rows"),
    "one row": ("500 1\n", "a curve has two or more"),
    "nan": ("400 0\n500 nan\n600 0\n", "line 2: the transmission is missing"),
    "zero": ("400 0\n500 0\n600 0\n", "zero everywhere"),
}


@pytest.mark.parametrize("case", BAD_CURVES)
def test_bad_curves_are_refused(case: str, folder: Path) -> None:
    content, message = BAD_CURVES[case]
    (folder / "g.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as refusal:
        read_chain(folder / "system.toml")
    assert "g.csv" in str(refusal.value)


def test_bad_ecsv_is_refused(folder: Path) -> None:
    path = folder / "own.ecsv"
    (folder / "system.toml").write_text(TOML.replace("g.csv", "own.ecsv"))
    table = Table({"wavelength": [400.0, 500.0, 600.0], "transmission": [0.0, 0.5, 0.0]})
    for change, message in (
        (lambda t: None, "no unit"),
        (lambda t: t.meta.update(kind="guessed"), "kind 'guessed'"),
        (lambda t: t.rename_column("transmission", "t"), "expected wavelength and transmission"),
    ):
        made = table.copy()
        if message != "no unit":
            made["wavelength"].unit = "nm"
        change(made)
        made.write(path, format="ascii.ecsv", overwrite=True)
        with pytest.raises(ValueError, match=message) as refusal:
            read_chain(folder / "system.toml")
        assert "own.ecsv" in str(refusal.value)
    path.write_text("nothing")
    with pytest.raises(ValueError, match="no rows of numbers"):
        read_chain(folder / "system.toml")
    table["wavelength"] = table["wavelength"] / 1000.0
    table["wavelength"].unit = "um"
    table.write(path, format="ascii.ecsv", overwrite=True)
    np.testing.assert_allclose(read_chain(folder / "system.toml").filters[0].wavelength, [400.0, 500.0, 600.0])


@pytest.mark.slow
def test_atmosphere_without_site_and_site_of_ones_own(folder: Path) -> None:
    path = folder / "system.toml"
    path.write_text(TOML.replace('site = "xinglong"', "altitude = 900\nozone = 320\naerosol = 0.05\nangstrom = 0.7"))
    with jax.enable_x64(True):
        formulas = np.asarray(read_chain(path).transmission(X, "g"))
        (folder / "system.toml").write_text(TOML)
        np.testing.assert_allclose(formulas, read_chain(path).transmission(X, "g"), atol=3e-4)
    (folder / "site.dat").write_text("3000 0.9\n11000 0.1\n")
    path.write_text(TOML.replace('"xinglong"', '"site.dat"\nunit = "angstrom"\nozone = 0\naerosol = 0'))
    site = read_chain(path)
    assert site.atmosphere is not None
    np.testing.assert_allclose(site.atmosphere.extinction(X), 0.9 - 0.8 * (X - 300) / 800, atol=1e-6)


@pytest.mark.slow
def test_minisitian_is_the_product_of_published_parts(shared: Callable[[str], Path], tmp_path: Path) -> None:
    chain = read_chain(filters_folder() / "minisitian" / "system.toml")
    assert chain.bands == ("g", "r", "i")
    assert chain.kind == "stand-in"
    x = np.arange(400.0, 900.0, 1.0)
    t = np.asarray(chain.curves(x))
    assert 0.3 < t.max() < 0.8
    # The measured extinction of Xinglong and sensor take the place of the computed and the drawn one.
    text = (filters_folder() / "minisitian" / "system.toml").read_text()
    text = text.replace('"xinglong"', f'"{shared("extinction/baoextinct.dat")}"\nunit = "angstrom"\naltitude = 900')
    text = text.replace('"imx455"', f'"{shared("detector/imx455.csv")}"').replace("[320, 1060, 1]", "[340, 970, 1]")
    for band in "gri":
        text = text.replace(f'"{band}.ecsv"', f'"{filters_folder() / "minisitian" / band}.ecsv"')
    (tmp_path / "real.toml").write_text(text.replace("altitude = 900", "altitude = 900\nozone = 0\naerosol = 0"))
    real = read_chain(tmp_path / "real.toml")
    own = np.asarray(real.curves(x))
    with jax.enable_x64(True):
        site = np.loadtxt(shared("extinction/baoextinct.dat"))
        qe = np.loadtxt(shared("detector/imx455.csv"), delimiter=",", skiprows=1)
        both = 10 ** (-0.48 * np.interp(x, site[:, 0] / 10, site[:, 1])) * np.interp(x, qe[:, 0], qe[:, 1])
    for band, curve in zip("gri", own):
        filter_ = Table.read(filters_folder() / "minisitian" / f"{band}.ecsv", format="ascii.ecsv")
        alone = np.interp(x, filter_["wavelength"], filter_["transmission"], 0, 0)
        np.testing.assert_allclose(curve, both * alone, atol=3e-6)
    # Stand-ins move mean wavelengths by little.
    for mine, truth in zip(t, own):
        assert (mine * x).sum() / mine.sum() == pytest.approx((truth * x).sum() / truth.sum(), abs=1.0)


def test_drawn_sensor_is_like_the_measured_one(shared: Callable[[str], Path]) -> None:
    measured = np.loadtxt(shared("detector/imx455.csv"), delimiter=",", skiprows=1)
    table = Table.read(filters_folder() / "components" / "detectors" / "imx455.ecsv", format="ascii.ecsv")
    assert table.meta["kind"] == "stand-in"
    difference = np.interp(measured[:, 0], table["wavelength"], table["transmission"]) - measured[:, 1]
    assert np.abs(difference).max() < 0.05


def test_every_curve_shipped_says_what_it_is() -> None:
    files = sorted((filters_folder() / "components").rglob("*.ecsv"))
    files += sorted((filters_folder() / "minisitian").glob("*.ecsv"))
    assert {f.parent.name for f in files} == {"sites", "detectors", "optics", "minisitian"}
    for file in files:
        table = Table.read(file, format="ascii.ecsv")
        assert table.meta["kind"] in KINDS
        assert table.meta["name"] == file.stem
        for key in ("source", "reference", "license"):
            assert table.meta[key]
        assert str(table["wavelength"].unit) == "nm"
        if file.parent.name == "minisitian":
            assert (table.meta["detector"], table.meta["magnitude"]) == ("photon", "AB")
        if file.parent.name != "sites":
            assert 0 <= min(table["transmission"]) <= max(table["transmission"]) <= 1


def test_shipped_chains_by_name() -> None:
    named, file = read_chain("minisitian"), read_chain(filters_folder() / "minisitian" / "system.toml")
    assert repr(read_chain(filters_folder() / "minisitian")) == repr(named)
    np.testing.assert_array_equal(named.passbands()["g"].transmission, file.passbands()["g"].transmission)
