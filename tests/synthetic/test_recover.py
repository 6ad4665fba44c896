"""Recovered passbands: they are those that the projection vectors were made from, and reproduce them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import simpson

import xpjax
from xpjax.core.linalg import interpolation
from xpjax.core.release import DR3
from xpjax.synthetic.passband import Passband
from xpjax.synthetic.projection import passband_system
from xpjax.synthetic.recover import GOOD, recover_passbands
from xpjax.synthetic.system import PhotometricSystem, from_projection
from xpjax.xp import simulate

MODEL = "v375wi/v142r"
FINE = np.linspace(330.0, 1050.0, 11521)

CURVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "broad": lambda x: np.exp(-0.5 * ((x - 620) / 40) ** 4),
    "medium": lambda x: 1 / (1 + np.exp(-(x - 505) / 1.2)) / (1 + np.exp((x - 522) / 1.2)),
    "narrow": lambda x: np.exp(-0.5 * ((x - 656.3) / 0.85) ** 2),
    "blue": lambda x: np.exp(-0.5 * ((x - 348) / 15) ** 4),
}


def design(model: str = MODEL) -> np.ndarray:
    return np.asarray(xpjax.load_instrument(model).design(FINE).value) * 1e-18


def made(names: list[str]) -> PhotometricSystem:
    """AB vectors to six digits, as they are published."""
    vectors = []
    for name in names:
        curve, whole = CURVES[name](FINE), np.linspace(250, 1100, 34001)
        vector = simpson(design() * FINE * curve, x=FINE) / np.trapezoid(CURVES[name](whole) / whole, whole)
        vectors.append([float(f"{value:.5e}") for value in vector / 299792458e9])
    return from_projection(np.array(vectors).T, np.zeros(len(names)), tuple(names), "Made", DR3, model=MODEL)


def on_grid(band: Passband) -> np.ndarray:
    inside = (band.wavelength[0] <= FINE) & (band.wavelength[-1] >= FINE)
    values = np.zeros(len(FINE))
    values[inside] = interpolation(band.wavelength, FINE[inside]) @ band.transmission
    return values


@pytest.fixture(scope="module")
def recovered() -> dict[str, Passband]:
    return {band.name: band for band in recover_passbands(made(list(CURVES)))}


@pytest.mark.parametrize("name", CURVES)
def test_a_known_passband_is_recovered(recovered: dict[str, Passband], name: str) -> None:
    band = recovered[name]
    assert band.meta["residual"] < 4e-6
    assert "non-negative" in band.meta["method"]
    assert np.all(band.transmission >= 0)
    assert band.transmission.max() == 1
    assert band.transmission[-1] == 0
    assert (band.transmission[0] == 0) == (name != "blue")  # the only one that is cut at 330 nm
    curve = CURVES[name](FINE)
    error = np.abs(on_grid(band) * curve.sum() / on_grid(band).sum() - curve).max()
    limit = {"broad": 0.01, "medium": 0.12, "narrow": 0.35, "blue": 0.01}[name]  # XP resolves no more
    assert error < limit
    # Another curve of the same kind is told apart.
    assert np.abs(CURVES[name](FINE - 1.5) - curve).max() > 2 * error or name == "broad"


def test_the_share_inside_tells_how_much_lies_beyond(recovered: dict[str, Passband]) -> None:
    for name in ("broad", "medium", "narrow"):
        assert recovered[name].meta["inside"] == pytest.approx(1, abs=1e-4)
    whole = np.linspace(250, 1100, 34001)
    weight = CURVES["blue"](whole) / whole
    assert recovered["blue"].meta["inside"] == pytest.approx(weight[whole >= 330].sum() / weight.sum(), abs=2e-3)


def test_wiggles_act_alike_through_recovered_and_true_curves(recovered: dict[str, Passband]) -> None:
    """3 % wiggles of 40 and 80 nm change magnitudes alike to 0.25 and 0.12 mmag, not so through a shifted curve."""

    def response(curve: np.ndarray, period: float) -> np.ndarray:
        phase = np.linspace(0, 2 * np.pi, 8, endpoint=False)[:, None]
        flux = FINE**-2 * curve  # energy units: lambda f_lambda of a hot star
        return -2500 * np.log10((1 + 0.03 * np.sin(2 * np.pi * FINE / period + phase)) @ flux / flux.sum())

    for name in CURVES:
        for period, limit in ((40.0, 0.25), (80.0, 0.12)):
            true = response(CURVES[name](FINE) * (FINE >= 330), period)
            assert np.abs(response(on_grid(recovered[name]), period) - true).max() < limit
            shifted = response(CURVES[name](FINE - 2), period)
            assert np.abs(shifted - true).max() > limit or name == "broad"  # which averages the wiggle out


@pytest.mark.slow
def test_published_bands_reproduce_their_vectors_and_mean_wavelengths() -> None:
    system = xpjax.load_system(
        "JPLUS", "SDSS:g,r,i", "H_Custom:Hbeta_1.0,Halpha_2.0", "Stromgren:u", "HST_WFC3UVIS:f343n"
    )
    inside = np.abs(system.mean_wavelength - 660) < 290
    matrix = design() * FINE
    for k, band in enumerate(recover_passbands(system)):
        curve = on_grid(band)
        # The integrals are SciPy's.
        vector = simpson(matrix * curve, x=FINE)
        wanted = np.asarray(system.projection)[:, k]

        def misfit(model: np.ndarray, target: np.ndarray = wanted) -> float:
            unit = target / np.linalg.norm(target)
            return float(np.linalg.norm(model * (unit @ model) / (model @ model) - unit))

        assert band.meta["residual"] < 4e-6, band.name
        assert misfit(vector) < GOOD, band.name
        assert misfit(simpson(matrix * np.roll(curve, 2), x=FINE)) > 5e-3, band.name  # 0.125 nm off
        if inside[k]:
            assert band.meta["inside"] == pytest.approx(1, abs=5e-3 if "z" in band.name else 6e-5), band.name
            tolerance = 1.0 if "z" in band.name else 0.015
            mean = np.trapezoid(FINE * curve, FINE) / np.trapezoid(curve, FINE)
            assert mean == pytest.approx(system.mean_wavelength[k], abs=tolerance), band.name
        else:
            assert 0.9 < band.meta["inside"] < 1, band.name


@pytest.mark.slow
def test_recovered_bands_give_published_magnitudes() -> None:
    """Also those that are cut at 330 and 1050 nm, whose zero point holds what lies beyond; Vega's zero points too."""
    system = xpjax.load_system("JPLUS:uJAVA,gJPLUS,zJPLUS", "JKC:V,I")
    stars = simulate.simulate_sources(200, seed=5, correlations=False, dtype=np.float64)
    bands = recover_passbands(system)
    assert [band.zero_point is None for band in bands] == [False, True, False, False, False]
    published = xpjax.photometry(stars, system, errors=False, float64=True).magnitude
    for k, band in enumerate(bands):
        mine = xpjax.photometry(stars, passband_system(band), errors=False, float64=True).magnitude[:, 0]
        assert np.nanpercentile(np.abs(mine - published[:, k]), 90) < 6e-5, band.name


def test_a_real_curve_is_recovered_from_its_published_vector() -> None:
    filters = pytest.importorskip("speclite.filters")
    (band,) = recover_passbands(xpjax.load_system("Gaia_DR3_Vega:BP"))
    true = filters.load_filter("gaiadr3-BP")
    expected = np.interp(FINE, true.wavelength / 10, true.response)
    error = on_grid(band) / band.transmission.max() - expected / expected.max()
    assert np.sqrt(np.mean(error**2)) < 2e-3
    shifted = np.interp(FINE - 2, true.wavelength / 10, true.response) / expected.max()
    assert np.sqrt(np.mean((on_grid(band) - shifted) ** 2)) > 6e-3


def test_a_band_that_was_published_with_negative_lobes_is_named() -> None:
    system = xpjax.load_system("PanSTARRS1_Std:zp")
    (positive,) = recover_passbands(system)
    assert positive.meta["residual"] > GOOD
    assert "dips" in positive.meta["method"]
    assert np.all(positive.transmission >= 0)


def test_results_repeat() -> None:
    system = xpjax.load_system("JPLUS:J0410")
    (first,), (second,) = recover_passbands(system), recover_passbands(system)
    np.testing.assert_array_equal(first.transmission, second.transmission)


def test_bad_systems_are_refused() -> None:
    with pytest.raises(ValueError, match="does not name its instrument model"):
        recover_passbands(from_projection(np.ones((110, 1)), np.zeros(1), ("x",), "Made", DR3))
    with pytest.raises(ValueError, match="vector of x is zero"):
        recover_passbands(from_projection(np.zeros((110, 1)), np.zeros(1), ("x",), "Made", DR3, model=MODEL))
    with pytest.raises(ValueError, match="target must be"):
        recover_passbands(xpjax.load_system("JPLUS:J0410"), target=0)
