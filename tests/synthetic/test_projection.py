"""Passbands as projections: against GaiaXPy's published systems with speclite's curves, laws, gradients, refusals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xpjax
from tests.synthetic.helpers import GRID, gaussian, magnitudes, speclite
from xpjax.core.release import DR3
from xpjax.synthetic.passband import Passband, PassbandSet
from xpjax.synthetic.projection import as_system, passband_operator, passband_system
from xpjax.xp.instrument import load_instrument


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


# --- laws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", ["photon", "energy"])
@pytest.mark.parametrize("magnitude", ["AB", "ST"])
def test_coefficients_and_sampled_spectra_agree(stars: xpjax.SourceTable, detector: str, magnitude: str) -> None:
    """The projection against the long way: a finely sampled spectrum through the same curve."""
    band = gaussian(2.0, 620.0, 25.0, detector=detector, magnitude=magnitude)
    spectra = xpjax.spectra(stars, np.arange(430, 820, 0.1), errors=False, float64=True)
    expected = band.mean_flux(spectra.wavelength, spectra.flux)
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
    assert 0.05 < u.cut_off < 0.1
    assert g.cut_off == 0
    with pytest.raises(ValueError, match=r"uJAVA is recovered within.*measured curve"):
        passband_system(u, extrapolate="linear")
    passband_system(g, extrapolate="linear")
    passband_system(dataclasses.replace(u, meta={"kind": "measured"}), extrapolate="linear")
    # What is said of fluxes: means over the part within.
    stars = xpjax.simulate_sources(20, seed=1, dtype=np.float64)
    published, own = (xpjax.photometry(stars, s, float64=True) for s in ("JPLUS:uJAVA", passband_system(u)))
    np.testing.assert_allclose(own.magnitude, published.magnitude, atol=1e-4)
    np.testing.assert_allclose(published.flux / own.flux, 1 - u.cut_off, rtol=1e-4)


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


def test_systems_of_names_and_passbands(stars: xpjax.SourceTable) -> None:
    """Side by side, corrected or not, as one by one."""
    u = PassbandSet("Mine", (gaussian(1.0, 345.0, 12.0, name="u"),))
    options = {"extrapolate": "linear", "correction": "standard"}
    system = as_system(["JPLUS:gJPLUS", u, xpjax.load_system("SDSS:r")], **options)
    assert system.columns == ("Jplus_gJPLUS", "Mine_u", "Sdss_r")
    np.testing.assert_array_equal(system.projection[:, [1]], passband_system(u, **options).projection)
    plain = as_system(["JPLUS:gJPLUS", u])
    assert not np.array_equal(plain.projection, system.projection[:, :2])
    with pytest.raises(xpjax.XpjaxError, match="bands of the same name: Mine_u; give these passbands another label"):
        as_system([u, u])
    with pytest.raises(xpjax.XpjaxError, match="bands asked for twice"):
        as_system(["SDSS", "SDSS:g"])
