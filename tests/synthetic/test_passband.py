"""Transmission curves: against speclite, Gaia's zero points and SciPy's integrals; what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

import xpjax
from tests.marks import slow_after
from tests.synthetic.helpers import GRID, gaussian, speclite
from xpjax.synthetic.passband import Passband, PassbandSet


@pytest.mark.parametrize("name", ["sdss2010-r", "lsst2023-g", "decam2014-z", "bessell-V"])
def test_ab_flux_of_a_sampled_spectrum_is_speclites(name: str) -> None:
    import astropy.units as u
    from speclite.filters import load_filter

    curve = load_filter(name)
    grid = np.arange(300.0, 1200.0, 0.1)
    flux = 1e-17 * (grid / 500) ** -2 * (1 + 0.2 * np.sin(grid / 40))
    expected = curve.get_ab_magnitude(flux * u.W / u.m**2 / u.nm, grid * u.nm) + 2.5 * np.log10(3630.7805 / 3631)
    mine = -2.5 * np.log10(speclite(name).mean_flux(grid, flux)) + speclite(name).flux_zero_point
    assert mine == pytest.approx(
        expected, abs=6e-4 if name == "bessell-V" else 5e-5
    )  # 10-nm samples, rounded by a cubic


def test_vega_zero_points_are_gaias(shared: Callable[[str], Path]) -> None:
    """alpha Lyr by Castelli & Kurucz (9400 K, 3.95, -0.5), scaled at 550.0 nm: Gaia's zero points to 0.5 mmag."""
    from astropy.io import fits

    flux = 0.0
    for temperature, share in ((9250, 0.4), (9500, 0.6)):
        data = fits.getdata(shared(f"grids/ck04/ckm05/ckm05_{temperature}.fits.gz"))
        with np.errstate(divide="ignore"):
            flux = flux + share * (0.9 * np.log(data["g40"]) + 0.1 * np.log(data["g35"]))
    published = xpjax.load_system("Gaia_DR3_Vega")
    for band in ("G", "BP", "RP"):
        mine = speclite(f"gaiadr3-{band}", magnitude="Vega").vega_zero_point(data["WAVELENGTH"] / 10, np.exp(flux))
        assert mine == pytest.approx(published.zero_point[published.names.index(band)], abs=5e-4)


@pytest.mark.parametrize("detector", ["photon", "energy"])
@pytest.mark.parametrize(("center", "sigma"), slow_after(1, [(640.0, 0.5), (345.0, 8.0), (520.0, 30.0), (950.0, 12.0)]))
def test_3631_jansky_is_magnitude_zero(detector: str, center: float, sigma: float) -> None:
    made = gaussian(sigma / 8, center, sigma, detector=detector)
    grid = np.linspace(250, 1200, 200_001)
    flux = 3630.78e-26 * 2.99792458e17 / grid**2
    assert -2.5 * np.log10(made.mean_flux(grid, flux)) - 56.10 == pytest.approx(0, abs=1e-6)
    st = dataclasses.replace(made, magnitude="ST")
    assert -2.5 * np.log10(st.mean_flux(grid, np.full_like(grid, 3.63078e-11))) - 26.10 == pytest.approx(0, abs=1e-6)


def test_widths_and_wavelengths_are_scipys() -> None:
    band = gaussian(2.0, 700.0, 15.0)

    def moment(p: float) -> float:
        return quad(lambda x: x**p * np.exp(-0.5 * ((x - 700) / 15) ** 2), 610, 790, epsabs=0, epsrel=1e-12)[0]

    assert band.mean_wavelength == pytest.approx(moment(1) / moment(0), rel=1e-7)
    assert band.pivot_wavelength == pytest.approx(np.sqrt(moment(1) / moment(-1)), rel=1e-7)
    assert band.fwhm == pytest.approx(15 * np.sqrt(8 * np.log(2)), rel=1e-3)
    energy = dataclasses.replace(band, detector="energy")
    assert energy.pivot_wavelength == pytest.approx(np.sqrt(moment(0) / moment(-2)), rel=1e-7)


def test_share_outside_is_the_integral() -> None:
    band = gaussian(1.0, 330.0, 20.0)
    assert band.share_outside() == pytest.approx(
        quad(lambda x: x * np.exp(-0.5 * ((x - 330) / 20) ** 2), 210, 330)[0]
        / quad(lambda x: x * np.exp(-0.5 * ((x - 330) / 20) ** 2), 210, 450)[0],
        rel=1e-4,
    )
    assert band.share_outside("linear") < band.share_outside()
    assert gaussian(1.0).share_outside() == 0
    assert Passband("k", GRID + 1500, np.ones(len(GRID))).share_outside() == 1


@pytest.mark.parametrize(
    ("wavelength", "transmission", "message"),
    [
        ([400, 500, 450], [0, 1, 0], "not monotonic: sample 2 is 500 nm, sample 3 450 nm"),
        ([400, 500, 500], [0, 1, 0], "not monotonic: sample 2"),
        ([400, 500, 600], [0, np.nan, 0], "transmission of sample 2 is nan"),
        ([400, np.inf, 600], [0, 1, 0], "wavelength of sample 2 is inf"),
        ([400, 500, 600], [0, 98, 0], "98 at 500 nm is above one; divide percent by 100"),
        ([400, 500, 600], [0, 1, -0.01], r"-0.01 at 600 nm is negative; read it with clip=True"),
        ([400, 500, 600], [0, 0, 0], "zero everywhere"),
        ([0, 500, 600], [0, 1, 0], "not positive"),
        ([400], [1], "two lists of equal length"),
        ([400, 500], [1, 1, 0], "two lists of equal length"),
    ],
)
def test_a_curve_that_is_none_is_refused(wavelength: list[float], transmission: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=f"passband g.*{message}"):
        Passband("g", np.array(wavelength, float), np.array(transmission, float))


def test_descending_curves_and_quantities_are_understood() -> None:
    import astropy.units as u

    band = Passband("g", np.array([6000.0, 5000.0, 4000.0]) * u.AA, np.array([0.1, 1, 0.2]) * u.dimensionless_unscaled)
    np.testing.assert_allclose(band.wavelength, [400, 500, 600])
    np.testing.assert_allclose(band.transmission, [0.2, 1, 0.1])
    percent = Passband("g", GRID, np.full(len(GRID), 98.0) * u.percent)
    np.testing.assert_allclose(percent.transmission, 0.98)


def test_names_and_kinds_are_checked() -> None:
    for change, message in (
        ({"name": "my band"}, "without spaces"),
        ({"detector": "ccd"}, "detector 'ccd' is not one of"),
        ({"magnitude": "vega"}, "magnitude 'vega' is not one of"),
        ({"zero_point": np.nan}, "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(gaussian(1.0), **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="same name"):
        PassbandSet("Mine", (gaussian(1.0), gaussian(2.0)))
    with pytest.raises(ValueError, match="no passbands"):
        PassbandSet("Mine", ())
    pair = PassbandSet("Mine", (gaussian(1.0, name="a"), gaussian(1.0, name="b")))
    assert pair[["b"]].names == ("b",)
    assert [b.name for b in pair] == ["a", "b"]
    with pytest.raises(KeyError, match="no passband 'c'"):
        pair["c"]


@pytest.mark.parametrize(
    ("grid", "flux", "message"),
    [
        (np.linspace(500, 700, 50), np.ones(50), "covers 500..700 nm, passband made needs"),
        (np.linspace(700, 300, 50), np.ones(50), "must ascend"),
        (np.linspace(300, 900, 50), np.ones(40), "one for each flux"),
    ],
)
def test_spectra_must_cover_the_curve(grid: np.ndarray, flux: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian(1.0).mean_flux(grid, flux)
