"""Transmission chains: the product law, every parameter's gradient, TOML files and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.table import Table
from scipy.integrate import trapezoid

from xpjax.synthetic.atmosphere import Atmosphere
from xpjax.synthetic.chain import KINDS, Curve, Element, TransmissionChain, read_chain
from xpjax.synthetic.files.folders import filters_folder

X = np.arange(380.23, 900.0, 0.71)

TOML = """
name = "Test"
wavelength = [330, 1050, 2]
[atmosphere]
site = "xinglong"
airmass = 1.2
water = 5.0
[[optics]]
curve = "aluminium"
count = 2
[[optics]]
name = "corrector"
value = 0.9
[detector]
curve = "imx455"
slope = 0.02
[filter.g]
curve = "g.csv"
[filter.r]
curve = "r.txt"
unit = "angstrom"
shift = 1.5
scale = 1.02
"""


def bell(x: np.ndarray, centre: float, width: float) -> np.ndarray:
    return 0.9 * np.exp(-0.5 * ((x - centre) / width) ** 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x = np.arange(380.0, 580.5, 0.5)
    (tmp_path / "g.csv").write_text(
        "wavelength,transmission\n" + "\n".join(f"{a},{b:.8f}" for a, b in zip(x, bell(x, 480, 60)))
    )
    x = np.arange(760.0, 539.9, -0.5)  # descending, in Angstrom
    (tmp_path / "r.txt").write_text("# r\n" + "\n".join(f"{10 * a} {b:.8f}" for a, b in zip(x, bell(x, 640, 60))))
    (tmp_path / "system.toml").write_text(TOML)
    return tmp_path


@pytest.fixture
def chain(folder: Path) -> TransmissionChain:
    return read_chain(folder / "system.toml")


def component(name: str, column: str = "transmission") -> np.ndarray:
    table = Table.read(filters_folder() / "components" / f"{name}.ecsv", format="ascii.ecsv")
    return np.interp(X, table["wavelength"], table[column])


def test_the_chain_is_the_product_of_its_parts(chain: TransmissionChain) -> None:
    plain = {"water": 0.0, "oxygen": 0.0, "detector_slope": 0.0, "filter_shift": 0.0, "filter_scale": 1.0}
    atmosphere = 10 ** (-0.4 * 1.2 * component("sites/xinglong", "extinction"))
    common = atmosphere * component("optics/aluminium") ** 2 * 0.9 * component("detectors/imx455")
    with jax.enable_x64(True):
        for band, centre, middle, half in (("g", 480, 480, 100), ("r", 640, 650, 110)):
            own = chain.transmission(X, band, **plain)
            curve = np.where(np.abs(X - middle) < half, bell(X, centre, 60), 0.0)
            np.testing.assert_allclose(own, common * curve, atol=2e-5)
        both = chain.curves(X, **plain)
        assert both.shape == (2, len(X))
        np.testing.assert_allclose(both[1], own, rtol=1e-12)


def test_shift_scale_and_slope_do_what_they_say(chain: TransmissionChain) -> None:
    with jax.enable_x64(True):
        flat = TransmissionChain(
            "flat", ("g",), (chain.filters[0],), X, filter_shift=3.0, filter_scale=1.1, detector_slope=0.05
        )
        own = np.asarray(flat.transmission(X, "g"))
        # The bell's centre is 480; its table ends at 100 nm from it.
        expected = bell((X - 3.0 - 480.0) / 1.1 + 480.0, 480, 60) * np.exp(0.05 * (X - 600.0) / 100.0)
        inside = np.abs(X - 483.0) < 105
        np.testing.assert_allclose(own[inside], expected[inside], atol=5e-5)
        assert not own[np.abs(X - 483.0) > 110.1].any()
        mean = trapezoid(own * X, X) / trapezoid(own, X)
        assert float(flat.filters[0].centre) == pytest.approx(480.0, abs=0.01)
        assert mean == pytest.approx(483.0, abs=1.5)
        np.testing.assert_allclose(
            flat.with_parameters(detector_slope=0.0).transmission([600.0], "g"), flat.transmission([600.0], "g")
        )


PARAMETERS = [
    *("airmass", "water", "ozone", "aerosol", "angstrom", "pressure", "oxygen", "aluminium", "corrector"),
    *("filter_shift", "filter_scale", "detector", "detector_slope"),
]


def test_all_parameters_are_in_one_mapping(chain: TransmissionChain) -> None:
    assert sorted(chain.parameters) == sorted(PARAMETERS)
    assert float(chain.parameters["airmass"]) == 1.2
    np.testing.assert_array_equal(chain.parameters["filter_shift"], [0.0, 1.5])
    changed = chain.with_parameters(airmass=2.0, corrector=0.5, filter_scale=[1.0, 0.9], detector=0.7)
    assert float(changed.parameters["airmass"]) == 2.0
    assert float(changed.parameters["corrector"]) == 0.5
    assert float(changed.parameters["detector"]) == 0.7
    np.testing.assert_array_equal(changed.parameters["filter_scale"], [1.0, 0.9])
    assert float(changed.parameters["water"]) == 5.0


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(chain: TransmissionChain) -> None:
    with jax.enable_x64(True):
        start = {name: float(np.asarray(value).ravel()[-1]) for name, value in chain.parameters.items()}
        function = jax.jit(lambda values: chain.transmission(X, "r", **values))
        forward = jax.jit(jax.jacfwd(function))(start)
        back = jax.jit(jax.grad(lambda values: function(values).sum()))(start)
        for name in PARAMETERS:
            own, step = np.asarray(forward[name]), 1e-6 * max(abs(start[name]), 0.1)
            up, down = (function({**start, name: start[name] + s}) for s in (step, -step))
            assert np.abs(own).max() > 1e-6, name
            # No step reaches over a sample of the filter's table, at which the slope changes.
            bound = 2e-8 * max(1.0, np.abs(own).max())
            np.testing.assert_allclose(own, (up - down) / (2 * step), rtol=2e-5, atol=bound, err_msg=name)
            assert float(back[name]) == pytest.approx(own.sum(), rel=1e-9), name


@pytest.mark.slow
def test_gradients_reach_parameters_and_curves(chain: TransmissionChain) -> None:
    def magnitude(c: TransmissionChain) -> jax.Array:
        t = c.transmission(X, "g")
        return -2.5 * jnp.log10(jnp.sum(t * (X / 500.0) ** 2) / jnp.sum(t))

    gradient = eqx.filter_jit(eqx.filter_grad(magnitude))(chain)
    for value in gradient.parameters.values():
        assert np.isfinite(value).all()
    assert float(jnp.abs(gradient.filters[0].transmission).max()) > 0
    assert float(jnp.abs(gradient.detector.curve.transmission).max()) > 0
    assert not np.asarray(gradient.filters[1].transmission).any()


@pytest.mark.slow
def test_shift_of_an_integral_meets_finite_differences_on_the_tables_own_samples(chain: TransmissionChain) -> None:
    x = np.arange(540.0, 760.5, 0.5)

    def mean(shift: float) -> jax.Array:
        t = chain.transmission(x, "r", filter_shift=shift, filter_scale=1.0)
        return jnp.sum(t * x) / jnp.sum(t)

    with jax.enable_x64(True):
        slope = float(jax.grad(mean)(0.0))
        assert slope == pytest.approx(float(mean(2.0) - mean(-2.0)) / 4.0, rel=0.01)


@pytest.mark.slow
def test_float32_is_good_to_1e_5(chain: TransmissionChain) -> None:
    with jax.enable_x64(True):
        exact = np.asarray(chain.curves(X))
    np.testing.assert_allclose(chain.curves(X), exact, atol=1e-5)


@pytest.mark.slow
def test_in_space_and_by_hand() -> None:
    box = Curve(np.array([500.0, 600.0]), np.array([1.0, 1.0]))
    chain = TransmissionChain("Space", ("box",), (box,), np.arange(400.0, 701.0))
    own = np.asarray(chain.transmission(None, "box"))
    assert own.sum() == 101
    assert chain.kind == "computed"  # the ideal detector
    assert "airmass" not in chain.parameters
    with pytest.raises(ValueError, match="has no parameter 'airmass'"):
        chain.transmission(None, "box", airmass=1.5)
    with pytest.raises(ValueError, match="has no band 'bix'; did you mean 'box'"):
        chain.transmission(None, "bix")
    with pytest.raises(ValueError, match="filter_scale"):
        chain.transmission(None, "box", filter_scale=-1.0)
    ground = dataclasses.replace(chain, atmosphere=Atmosphere(airmass=2.0), optics=(Element("lens", None, 0.5),))
    assert float(ground.transmission(None, "box", lens=0.25).max()) < 0.25
    with pytest.raises(ValueError, match=r"airmass = 0\.5"):
        ground.transmission(None, "box", airmass=0.5)
    with pytest.raises(ValueError, match="may not be called"):
        dataclasses.replace(chain, optics=(Element("water"),))
    with pytest.raises(ValueError, match="same name"):
        dataclasses.replace(chain, optics=(Element("a"), Element("a")))
    with pytest.raises(ValueError, match="1 bands and 2 filters"):
        dataclasses.replace(chain, filters=(box, box))


def test_passbands_of_a_chain(chain: TransmissionChain) -> None:
    made = chain.passbands()
    assert made.names == ("g", "r")
    assert made.label == "Test"
    assert made["g"].wavelength[0] == 330
    assert (made["g"].magnitude, made["g"].detector) == ("AB", "photon")
    assert made["g"].meta["kind"] == "stand-in"
    assert made["g"].transmission.dtype == np.float64
    with jax.enable_x64(True):
        np.testing.assert_allclose(made["g"].transmission, chain.transmission(None, "g"))


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


def test_filters_folder_is_found_in_a_wheel_and_a_clone(tmp_path: Path) -> None:
    package = tmp_path / "xpjax"
    package.mkdir()
    with pytest.raises(FileNotFoundError, match="reinstall"):
        filters_folder(package)
    (tmp_path / "filters").mkdir()
    assert filters_folder(package) == tmp_path / "filters"
    (package / "_filters").mkdir()
    assert filters_folder(package) == package / "_filters"
