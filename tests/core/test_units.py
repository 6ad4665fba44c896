"""A unit is converted or refused, wherever wavelengths and angles are taken; it is never stripped."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Column, MaskedColumn

import xpjax
from xpjax.core.errors import XpjaxError
from xpjax.core.units import (
    degrees,
    in_unit,
    is_length,
    is_percent,
    is_plain,
    is_unit,
    nanometers,
    to_nm,
    to_plain,
    unit_factor,
)
from xpjax.extinction import ccm89, extinction_curve
from xpjax.synthetic.atmosphere import Atmosphere, aerosol_depth, ozone_depth, rayleigh_depth
from xpjax.synthetic.chain import Curve
from xpjax.xp import simulate
from xpjax.xp.correction import load_correction
from xpjax.xp.instrument import merge_weights

GRID = np.arange(400.0, 900.0, 4.0)


@pytest.mark.parametrize(
    "given",
    [
        [4000.0, 5000.0] * u.AA,
        [4e-7, 5e-7] * u.m,
        [400 * u.nm, 5000 * u.AA],
        Column([4000.0, 5000.0], unit="Angstrom"),
        Column([400.0, 500.0]),
        [400.0, 500.0],
    ],
)
def test_wavelengths_are_converted(given: Any) -> None:
    np.testing.assert_allclose(np.asarray(nanometers(given), float), [400, 500], rtol=1e-14)


def test_masked_values_are_missing() -> None:
    for given in (
        MaskedColumn([4000.0, 5000.0], mask=[True, False], unit="Angstrom"),
        np.ma.array([1, 500], mask=[1, 0]),
    ):
        np.testing.assert_allclose(nanometers(given), [np.nan, 500])


def test_angles_are_converted() -> None:
    np.testing.assert_allclose(degrees([np.pi, 2.0] * u.rad), [180, np.degrees(2)])
    with pytest.raises(XpjaxError, match="ra has the unit m; expected angles, such as deg or rad"):
        degrees([1.0] * u.m, "ra")


@pytest.mark.parametrize(("given", "found"), [([1.0] * u.s, "s"), ([1.0] * u.dimensionless_unscaled, "")])
def test_other_units_are_refused(given: Any, found: str) -> None:
    with pytest.raises(XpjaxError, match=f"wavelength has the unit {found}; expected wavelengths"):
        nanometers(given)
    with pytest.raises(XpjaxError, match="flux has the unit"):
        in_unit(given, "W m-2 nm-1", "flux")
    with pytest.raises(XpjaxError, match=r"\['nm', 'no unit'\]"):
        nanometers([1 * u.nm, 2])


def _thing() -> Any:
    return xpjax.load_instrument()


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "design": lambda x: np.asarray(_thing().design(x).value),
    "smoothed_design": lambda x: np.asarray(_thing().smoothed_design(x).value),
    "resolution": lambda x: _thing().resolution(x),
    "line_spread": lambda x: _thing().line_spread(x, x),
    "merge_weights": merge_weights,
    "correction at": lambda x: load_correction("standard").at(x),  # type: ignore[union-attr]
    "correction left_at": lambda x: load_correction("standard").left_at(x),  # type: ignore[union-attr]
    "extinction_curve": extinction_curve,
    "ccm89": ccm89,
    "rayleigh_depth": rayleigh_depth,
    "ozone_depth": ozone_depth,
    "aerosol_depth": lambda x: aerosol_depth(x, 0.1),
    "atmosphere": lambda x: Atmosphere().transmission(x),
    "curve": lambda x: Curve(x, np.linspace(0, 1, len(x))).center,
    "passband": lambda x: xpjax.Passband("r", x, np.ones(len(x))).wavelength,
    "band_flux": lambda x: xpjax.Passband("r", [500, 600, 700], [0, 1, 0]).mean_flux(x, np.linspace(1, 2, len(x))),
    "vega_zero_point": lambda x: xpjax.Passband("r", [500, 600, 700], [0, 1, 0]).vega_zero_point(
        x, np.linspace(1, 2, len(x))
    ),
}


SLOW = ("atmosphere", "ccm89", "ozone_depth")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in FUNCTIONS])
def test_public_functions_convert_or_refuse(name: str) -> None:
    function = FUNCTIONS[name]
    np.testing.assert_allclose(function(10 * GRID * u.AA), function(GRID), rtol=2e-6)
    with pytest.raises(XpjaxError, match="has the unit s; expected wavelengths"):
        function(GRID * u.s)


def test_spectra_on_angstrom() -> None:
    sources = simulate.simulate_sources(3, seed=1)
    expected, found = xpjax.spectra(sources, GRID), xpjax.spectra(sources, 10 * GRID * u.AA)
    np.testing.assert_allclose(found.wavelength, GRID)
    np.testing.assert_allclose(found.flux, expected.flux, rtol=1e-6)
    with pytest.raises(XpjaxError, match="pseudo-wavelength has the unit nm; expected numbers without one"):
        xpjax.spectra(sources, np.arange(60) * u.nm, internal=True)


@pytest.mark.parametrize(("factor", "guess"), [(10, "Angstrom"), (1e-3, "micrometers")])
def test_numbers_that_look_like_another_unit(factor: float, guess: str) -> None:
    with pytest.raises(XpjaxError, match=rf"where XP spectra are defined; are these {guess}\?.*astropy Quantity"):
        xpjax.load_instrument().design(factor * GRID)
    with pytest.raises(XpjaxError, match=r"where XP spectra are defined$"):
        xpjax.load_instrument().design(np.arange(1000.0, 2000.0))


@pytest.mark.parametrize(
    ("word", "kind", "expected"),
    [
        ("Angstroms", "wavelength", 0.1), ("[nm]", "wavelength", 1), ("Å", "wavelength", 0.1),
        ("um", "wavelength", 1e3),
        ("mag(AB)", "magnitude", 1), ("ABmag", "magnitude", 1), ("mmag", "magnitude", 1e-3), ("h:m:s", "angle", 15),
        ("h", "angle", 15), ("hours", "time", 1 / 24), ("'", "angle", 1 / 60), ("arcsec/yr", "proper motion", 1000),
        ("mas yr-1", "proper motion", 1), ("s", "time", 1 / 86400), ("MJD", "time", 1), ("--", "time", 1),
        (None, "time", 1),
    ],
)  # fmt: skip
def test_words_of_a_kind(word: str | None, kind: str, expected: float) -> None:
    assert unit_factor(word, kind) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("word", "kind"), [("Jy", "magnitude"), ("dB", "magnitude"), ("mag", "angle"), ("h", "wavelength")]
)
def test_words_of_another_kind(word: str, kind: str) -> None:
    with pytest.raises(XpjaxError, match=f"the unit '{word}', which is none of a {kind}"):
        unit_factor(word, kind)


def test_wavelengths_and_transmissions_of_files() -> None:
    x = np.array([4001.0, 5000.0])
    assert to_nm(x, "AA", "a")[0] == 400.1
    assert to_nm(x, "micrometers", "a")[0] == 4001e3
    np.testing.assert_allclose(to_nm(x, "0.1 nm", "a"), x / 10)
    with pytest.raises(XpjaxError, match="a: 'Hz' is no unit of wavelengths; pass unit=: nm, Angstrom, um or another"):
        to_nm(x, "Hz", "a")
    assert to_plain(x, "per cent", "T", "a")[1] == 50
    assert to_plain(x, "Throughput", "T", "a") is x
    with pytest.raises(XpjaxError, match="the column T is in nm, expected a plain fraction"):
        to_plain(x, "nm", "T", "a")
    told = [(is_length(w), is_percent(w), is_plain(w), is_unit(w)) for w in ("microns", "pct", "QE", "---")]
    assert told == [(True, False, False, True), (False, True, False, True), (False, False, True, True), (False,) * 4]
