"""Passbands as projections: against GaiaXPy's published systems with speclite's curves, laws, gradients, refusals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import xpjax
from tests.marks import slow_after
from xpjax.core.release import DR3
from xpjax.synthetic.passband import Passband, PassbandSet
from xpjax.synthetic.projection import (
    band_flux,
    cut_off,
    fwhm,
    mean_wavelength,
    passband_operator,
    passband_system,
    pivot_wavelength,
    quadrature,
    share_outside,
    vega_zero_point,
    zero_point,
)
from xpjax.xp.instrument import load_instrument

GRID = np.arange(400.0, 601.0)


def gaussian(
    step: float, center: float = 520.0, sigma: float = 30.0, name: str = "made", **options: object
) -> Passband:
    grid = np.arange(center - 6 * sigma, center + 6 * sigma + step / 2, step)
    return Passband(name, grid, 0.9 * np.exp(-0.5 * ((grid - center) / sigma) ** 2), **options)  # type: ignore[arg-type]


def speclite(name: str, **options: object) -> Passband:
    from speclite.filters import load_filter

    curve = load_filter(name)
    short = name.split("-")[1]
    return Passband(short, curve.wavelength / 10, np.asarray(curve.response), **options)  # type: ignore[arg-type]


def magnitudes(sources: object, system: object) -> np.ndarray:
    return xpjax.photometry(sources, system, errors=False, float64=True).magnitude  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stars() -> object:
    return xpjax.read(simulated())


def simulated() -> object:
    from xpjax.xp import simulate

    return simulate.simulate_sources(300, seed=7, correlations=False, dtype=np.float64)


# --- against what nobody here wrote ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "group", "bands", "bound"),
    [
        ("PanSTARRS1", "panstarrs", "griz", 1.1e-5),
        ("DECam", "decamDR1", "griz", 1.1e-5),
        ("SDSS", "sdss2010", "griz", 2e-4),
    ],
)
def test_speclite_curves_give_the_published_systems(
    shared: Callable[[str], Path], system: str, group: str, bands: str, bound: float
) -> None:
    """99 % of 1200 random stars: to 1e-5 relative (PS1, DECam) and 2e-4 mag (SDSS, whose curves speclite trims)."""
    sources = xpjax.read(shared("xp/xp_random_1200.fits"), dtype=np.float64)
    published = xpjax.load_system(system)
    mine = passband_system(PassbandSet(group, tuple(speclite(f"{group}-{b}") for b in bands)))
    difference = magnitudes(sources, mine) - magnitudes(sources, published)[:, [_find(published, b) for b in bands]]
    assert np.all(np.nanpercentile(np.abs(difference), 99, axis=0) < bound)
    # The comparison fails where a curve is moved by 0.1 nm.
    moved = speclite(f"{group}-r")
    moved = dataclasses.replace(moved, wavelength=moved.wavelength + 0.1)
    difference = (
        magnitudes(sources, passband_system(moved))[:, 0] - magnitudes(sources, published)[:, _find(published, "r")]
    )
    assert np.nanpercentile(np.abs(difference), 99) > bound


def _find(system: xpjax.PhotometricSystem, band: str) -> int:
    return next(i for i, name in enumerate(system.names) if name in (band, f"{band}p"))


def test_published_vectors_are_reproduced() -> None:
    """The projection vectors themselves, in the norm of the coefficient space (no stars needed)."""
    published = xpjax.load_system("DECam")
    vectors = np.asarray(published.projection * published.scale)
    for band in "griz":
        vector = vectors[:, _find(published, band)]
        mine = passband_system(speclite(f"decamDR1-{band}"))
        mine_vector = np.asarray(mine.projection * mine.scale)[:, 0]
        assert np.linalg.norm(mine_vector - vector) < 1.5e-3 * np.linalg.norm(vector)  # speclite trims the ends
        assert mine.mean_wavelength[0] == pytest.approx(published.mean_wavelength[_find(published, band)], abs=0.01)


@pytest.mark.parametrize("name", ["sdss2010-r", "lsst2023-g", "decam2014-z", "bessell-V"])
def test_ab_flux_of_a_sampled_spectrum_is_speclites(name: str) -> None:
    import astropy.units as u
    from speclite.filters import load_filter

    curve = load_filter(name)
    grid = np.arange(300.0, 1200.0, 0.1)
    flux = 1e-17 * (grid / 500) ** -2 * (1 + 0.2 * np.sin(grid / 40))
    expected = curve.get_ab_magnitude(flux * u.W / u.m**2 / u.nm, grid * u.nm) + 2.5 * np.log10(3630.7805 / 3631)
    mine = -2.5 * np.log10(band_flux(speclite(name), grid, flux)) + zero_point(speclite(name))
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
        mine = vega_zero_point(speclite(f"gaiadr3-{band}", magnitude="Vega"), data["WAVELENGTH"] / 10, np.exp(flux))
        assert mine == pytest.approx(published.zero_point[published.names.index(band)], abs=5e-4)


# --- laws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", ["photon", "energy"])
@pytest.mark.parametrize(("center", "sigma"), slow_after(1, [(640.0, 0.5), (345.0, 8.0), (520.0, 30.0), (950.0, 12.0)]))
def test_3631_jansky_is_magnitude_zero(detector: str, center: float, sigma: float) -> None:
    made = gaussian(sigma / 8, center, sigma, detector=detector)
    grid = np.linspace(250, 1200, 200_001)
    flux = 3630.78e-26 * 2.99792458e17 / grid**2
    assert -2.5 * np.log10(band_flux(made, grid, flux)) - 56.10 == pytest.approx(0, abs=1e-6)
    st = dataclasses.replace(made, magnitude="ST")
    assert -2.5 * np.log10(band_flux(st, grid, np.full_like(grid, 3.63078e-11))) - 26.10 == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("detector", ["photon", "energy"])
@pytest.mark.parametrize("magnitude", ["AB", "ST"])
def test_coefficients_and_sampled_spectra_agree(stars: xpjax.SourceTable, detector: str, magnitude: str) -> None:
    """The projection against the long way: a finely sampled spectrum through the same curve."""
    band = gaussian(2.0, 620.0, 25.0, detector=detector, magnitude=magnitude)
    spectra = xpjax.spectra(stars, np.arange(430, 820, 0.1), errors=False, float64=True)
    expected = band_flux(band, spectra.wavelength, spectra.flux)
    result = xpjax.photometry(stars, band, errors=False, float64=True)
    np.testing.assert_allclose(result.flux[:, 0], expected, rtol=4e-5)  # faint stars: BP and RP disagree
    offset = -56.10 if magnitude == "AB" else -26.10
    np.testing.assert_allclose(result.magnitude[:, 0], -2.5 * np.log10(expected) + offset, atol=5e-5)
    np.testing.assert_allclose(np.median(result.flux[:, 0] / expected), 1, rtol=3e-6)
    assert result.system.flux_unit == ("W m-2 Hz-1" if magnitude == "AB" else "W m-2 nm-1",)


def test_fluxes_are_additive(stars: xpjax.SourceTable) -> None:
    """int f (T1 + T2) = int f T1 + int f T2, weighted by the norms."""
    one = gaussian(2.0, 500.0)
    two = Passband("two", one.wavelength, one.transmission[::-1] ** 3)
    both = Passband("both", one.wavelength, (one.transmission + two.transmission) / 2)
    operator = passband_operator(one.wavelength)
    f = [xpjax.photometry(stars, b, errors=False, float64=True).flux[:, 0] for b in (one, two, both)]
    n = [operator.norm @ b.transmission for b in (one, two, both)]
    np.testing.assert_allclose(f[2] * n[2], (f[0] * n[0] + f[1] * n[1]) / 2, rtol=1e-11)


@pytest.mark.parametrize("step", [1.0, 2.0, 4.0])
def test_finer_sampling_of_a_smooth_curve_changes_nothing(stars: xpjax.SourceTable, step: float) -> None:
    coarse, fine = (magnitudes(stars, gaussian(s, sigma=20.0)) for s in (step, step / 2))
    assert np.nanmax(np.abs(coarse - fine)) < 1e-5


def test_a_constant_factor_changes_nothing(stars: xpjax.SourceTable) -> None:
    band = gaussian(1.0)
    dimmed = dataclasses.replace(band, transmission=0.01 * band.transmission)
    np.testing.assert_allclose(magnitudes(stars, dimmed), magnitudes(stars, band), rtol=0, atol=1e-12)


def test_quadrature_is_exact_and_does_not_overshoot_steps() -> None:
    box = np.array([500.0, 500.01, 600.0, 600.01])
    nodes, weights, matrix = quadrature(box)
    curve = matrix @ np.array([0.0, 1.0, 1.0, 0.0])
    assert curve.min() >= 0
    assert curve.max() <= 1 + 1e-12
    assert weights @ curve == pytest.approx(100.0, rel=1e-12)
    # A parabola is reproduced exactly where the grid is even, but for the straight ends.
    even = np.arange(400.0, 440.0, 2.0)
    nodes, weights, matrix = quadrature(even, (411.3,))
    inner = (nodes >= 402) & (nodes <= 436)
    np.testing.assert_allclose((matrix @ (even - 410) ** 2)[inner], ((nodes - 410) ** 2)[inner], atol=1e-9)
    # A break is an end of intervals: integrals up to it are exact.
    left = nodes < 411.3
    assert weights[left].sum() == pytest.approx(11.3, rel=1e-12)
    np.testing.assert_allclose(matrix @ np.ones(len(even)), 1, rtol=1e-13)


def test_widths_and_wavelengths_are_scipys() -> None:
    band = gaussian(2.0, 700.0, 15.0)

    def moment(p: float) -> float:
        return quad(lambda x: x**p * np.exp(-0.5 * ((x - 700) / 15) ** 2), 610, 790, epsabs=0, epsrel=1e-12)[0]

    assert mean_wavelength(band) == pytest.approx(moment(1) / moment(0), rel=1e-7)
    assert pivot_wavelength(band) == pytest.approx(np.sqrt(moment(1) / moment(-1)), rel=1e-7)
    assert fwhm(band) == pytest.approx(15 * np.sqrt(8 * np.log(2)), rel=1e-3)
    energy = dataclasses.replace(band, detector="energy")
    assert pivot_wavelength(energy) == pytest.approx(np.sqrt(moment(0) / moment(-2)), rel=1e-7)


# --- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_gradient_with_respect_to_transmission_samples(stars: xpjax.SourceTable) -> None:
    band = gaussian(5.0)
    operator = passband_operator(band.wavelength)
    coefficients = stars.coefficients.value[:3].astype(float)
    scale = np.abs(operator.response).max() / np.abs(operator.norm).max()
    operator = dataclasses.replace(operator, response=operator.response / scale)
    with jax.enable_x64(True):

        def magnitude(transmission: jax.Array) -> jax.Array:
            return -2.5 * jnp.log10(jnp.asarray(coefficients) @ operator.projection(transmission))

        exact = jax.jacobian(magnitude)(jnp.asarray(band.transmission))
        for k in (30, 36, 41):
            step = 1e-4 * jnp.eye(len(band.wavelength))[k]
            t = jnp.asarray(band.transmission)
            numeric = (magnitude(t + step) - magnitude(t - step)) / 2e-4
            np.testing.assert_allclose(exact[:, k], numeric, rtol=2e-6, atol=1e-9)


# --- outside XP -----------------------------------------------------------------------------------------------------


def test_share_outside_is_the_integral() -> None:
    band = gaussian(1.0, 330.0, 20.0)
    assert share_outside(band) == pytest.approx(
        quad(lambda x: x * np.exp(-0.5 * ((x - 330) / 20) ** 2), 210, 330)[0]
        / quad(lambda x: x * np.exp(-0.5 * ((x - 330) / 20) ** 2), 210, 450)[0],
        rel=1e-4,
    )
    assert share_outside(band, "linear") < share_outside(band)
    assert share_outside(gaussian(1.0)) == 0
    assert share_outside(Passband("k", GRID + 1500, np.ones(len(GRID)))) == 1


def test_a_band_mostly_outside_is_refused_unless_asked_for(stars: xpjax.SourceTable) -> None:
    blue = gaussian(1.0, 320.0, 12.0, name="u")
    with pytest.raises(ValueError, match=r"% of passband u .* lies outside 330..1050 nm.*allow_outside=True"):
        passband_system(blue)
    assert passband_system(blue, allow_outside=True).n_band == 1
    with pytest.raises(ValueError, match="in Angstrom"):
        passband_system(Passband("g", GRID * 10, np.ones(len(GRID))), allow_outside=True)
    with pytest.raises(ValueError, match="micrometres"):
        passband_system(Passband("g", GRID / 1000, np.ones(len(GRID))))


def test_light_outside_is_missed_not_guessed(stars: xpjax.SourceTable) -> None:
    """Numerator over XP, denominator over the whole curve."""
    half = Passband("half", np.array([260.0, 400.0]), np.ones(2), magnitude="ST")
    inside = Passband("inside", np.array([330.0, 400.0]), np.ones(2), magnitude="ST")
    f = [xpjax.photometry(stars, b, errors=False, float64=True).flux[:, 0] for b in (half, inside)]
    ratio = (400**2 - 330**2) / (400**2 - 260**2)
    np.testing.assert_allclose(f[0], f[1] * ratio, rtol=1e-10)


def test_blue_extrapolation_is_numpys_line(stars: xpjax.SourceTable) -> None:
    """The straight line fitted to 336..382 nm stands in for 322..336 nm; without it nothing does."""
    band = Passband("u", np.arange(322.0, 336.1, 0.5), np.ones(29), magnitude="ST")
    fit = np.arange(336.0, 382.1, 2.0)
    spectra = xpjax.spectra(stars, fit, errors=False, float64=True).flux
    x = np.linspace(322, 336, 10001)
    line = np.stack([np.polyval(np.polyfit(fit - 350, f, 1), x - 350) for f in spectra])
    expected = np.trapezoid(line * x, x) / np.trapezoid(x, x)
    system = passband_system(band, extrapolate="linear")
    got = xpjax.photometry(stars, system, errors=False, float64=True).flux[:, 0]
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())
    with pytest.raises(ValueError, match="not one of"):
        passband_system(band, extrapolate="cubic")


def test_recovered_curves_that_are_cut_are_not_extrapolated() -> None:
    """Their zero points already stand for the light below 330 nm: 0.07 mag would be counted twice."""
    u, g = xpjax.load_passbands("JPLUS:uJAVA,gJPLUS")
    assert 0.05 < cut_off(u) < 0.1
    assert cut_off(g) == 0
    with pytest.raises(ValueError, match=r"uJAVA is recovered within.*measured curve"):
        passband_system(u, extrapolate="linear")
    passband_system(g, extrapolate="linear")
    passband_system(dataclasses.replace(u, meta={"kind": "measured"}), extrapolate="linear")
    # What is said of fluxes: means over the part within.
    stars = xpjax.simulate_sources(20, seed=1, dtype=np.float64)
    published, own = (xpjax.photometry(stars, s, float64=True) for s in ("JPLUS:uJAVA", passband_system(u)))
    np.testing.assert_allclose(own.magnitude, published.magnitude, atol=1e-4)
    np.testing.assert_allclose(published.flux / own.flux, 1 - cut_off(u), rtol=1e-4)


# --- zero points and sets -------------------------------------------------------------------------------------------


def test_vega_without_a_zero_point_is_refused(stars: xpjax.SourceTable) -> None:
    band = gaussian(1.0, magnitude="Vega")
    with pytest.raises(ValueError, match="Vega magnitudes but no zero point"):
        passband_system(band)
    given = dataclasses.replace(band, zero_point=-26.0)
    st = dataclasses.replace(band, magnitude="ST")
    np.testing.assert_allclose(magnitudes(stars, given) - magnitudes(stars, st), 0.10, atol=1e-12)


def test_magnitude_systems_may_be_mixed_in_order(stars: xpjax.SourceTable) -> None:
    bands = (gaussian(1.0, name="a"), gaussian(1.0, name="b", magnitude="ST"), gaussian(1.0, 700.0, name="c"))
    system = passband_system(PassbandSet("Mine", bands))
    assert system.columns == ("Mine_a", "Mine_b", "Mine_c")
    assert system.flux_unit == ("W m-2 Hz-1", "W m-2 nm-1", "W m-2 Hz-1")
    for k, band in enumerate(bands):
        np.testing.assert_allclose(magnitudes(stars, system)[:, k], magnitudes(stars, band)[:, 0], atol=1e-12)


def test_passbands_beside_published_systems(stars: xpjax.SourceTable) -> None:
    result = xpjax.photometry(stars, [PassbandSet("Mine", (gaussian(1.0, name="g"),)), "JPLUS"], errors=False)
    assert result.system.columns[:2] == ("Mine_g", "Jplus_uJAVA")
    with pytest.raises(ValueError, match="must be a PhotometricSystem, passbands"):
        xpjax.photometry(stars, 3)  # type: ignore[arg-type]


def test_another_release() -> None:
    """Passbands follow the instrument they are given."""
    model = load_instrument()
    assert passband_system(gaussian(1.0), instrument=model).release == DR3
    other = load_instrument("v211w/v142r")
    a, b = (passband_system(gaussian(1.0, 420.0), instrument=m).projection for m in (model, other))
    assert not np.allclose(a, b, rtol=1e-3)


# --- curves that are refused ------------------------------------------------------------------------------------------


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
        band_flux(gaussian(1.0), grid, flux)
