"""From spectra to coefficients: spectra and magnitudes come back, real stars are met, noise and gradients are right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy import units
from scipy.interpolate import CubicSpline

import xpjax
from xpjax.core.release import DR4
from xpjax.extinction import extinction_curve, transmission
from xpjax.stellar.libraries import read_library
from xpjax.wiggles import read_pairs
from xpjax.xp import observation_matrix
from xpjax.xp.basis import HermiteBasis

X = np.arange(290.0, 1120.01, 0.5)
FINE = np.arange(290.0, 1120.01, 0.05)
SYSTEMS = {"JPLUS": None, "panstarrs": "g,r,i,z", "sdss2010": "g,r,i"}
"""Passbands that XP sees in whole."""
NARROW = ("J0378", "J0395", "J0410", "J0430", "J0515", "J0660", "J0861")


def planck(teff: float) -> np.ndarray:
    """A black body with smooth edges and lines, as of a star of spectral type A to K: f per wavelength, (m,)."""
    flux = (550 / X) ** 5 / np.expm1(14387769 / (X * teff)) * np.expm1(14387769 / (550 * teff))
    hot, cool = np.clip((teff - 5500) / 4000, 0, 1), np.clip((6500 - teff) / 2500, 0, 1)
    lines = [(656.5, 2.5, 0.25 * hot), (486.3, 2.5, 0.25 * hot), (434.2, 2.5, 0.25 * hot), (410.3, 2.5, 0.25 * hot)]
    lines += [(430.5, 3.0, 0.3 * cool), (517.5, 3.0, 0.3 * cool), (589.4, 1.0, 0.3 * cool), (854.4, 1.0, 0.2 * cool)]
    for center, sigma, depth in lines:
        flux = flux * (1 - depth * np.exp(-0.5 * ((X - center) / sigma) ** 2))
    return 1e-16 * flux


STARS = np.stack([planck(teff) for teff in (4000, 4700, 5500, 6500, 7700, 9500)])


def design(instrument: xpjax.Instrument, at: np.ndarray, smoothed: bool = False) -> np.ndarray:
    made = instrument.smoothed_design(at) if smoothed else instrument.design(at)
    return np.asarray(made.value, float) * float(made.scale)


def smoothed(flux: np.ndarray, x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Spectra (n, m) seen with a Gaussian of XP's resolving power: sums over a fine grid, one wavelength at a time."""
    fine = CubicSpline(x, flux, axis=1)(FINE)
    out = []
    for center, power in zip(at, xpjax.load_instrument().resolution(at), strict=True):
        weight = np.exp(-0.5 * ((FINE - center) / (center / power / 2.354820045)) ** 2)
        out.append(fine @ weight / weight.sum())
    return np.stack(out, axis=1)


def magnitudes(flux: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """AB magnitudes by band, by the trapezoidal rule on a fine grid, of photons counted."""
    fine, found = CubicSpline(x, flux, axis=1)(FINE), {}
    for name, bands in SYSTEMS.items():
        for band in xpjax.load_passbands(f"{name}:{bands}" if bands else name):
            curve = np.interp(FINE, band.wavelength, band.transmission, left=0, right=0)
            norm = 2.99792458e17 * np.trapezoid(curve / FINE, FINE)
            mean = np.trapezoid(fine * curve * FINE, FINE, axis=1) / norm
            found[f"{name}_{band.name}"] = -2.5 * np.log10(mean) + band.flux_zero_point
    return found


def differences(sources: xpjax.SourceTable, flux: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """Magnitudes of the coefficients less those of the spectra themselves [mmag], by band."""
    scale = 10 ** (-0.4 * (sources.columns["phot_g_mean_mag"] - 15))
    direct = magnitudes(flux, x)
    found = {}
    for name, bands in SYSTEMS.items():
        system = xpjax.passband_system(xpjax.load_passbands(f"{name}:{bands}" if bands else name))
        mean = sources.coefficients.value @ (np.asarray(system.projection, float) * np.asarray(system.scale))
        made = -2.5 * np.log10(mean) + np.asarray(system.zero_point)
        for k, band in enumerate(system.names):
            found[band if name == "JPLUS" else f"{name}_{band}"] = 1e3 * (made[:, k] - direct[f"{name}_{band}"])
    assert scale.shape == (len(flux),)
    return found


def test_spectra_and_magnitudes_come_back() -> None:
    """0.3 % RMS at XP's resolution on 400..900 nm; 2 mmag in broad bands, 10 mmag in narrow ones: A to K."""
    sources = xpjax.observe(X, STARS)
    at = np.arange(400.0, 900.1, 2.0)
    seen = sources.coefficients.value @ design(xpjax.load_instrument(), at, smoothed=True)
    off = seen / smoothed(STARS, X, at) - 1
    assert np.sqrt(np.mean(off**2, axis=1)).max() < 3e-3
    assert np.all(sources.columns["xp_misfit"] < 5e-3)
    for band, off in differences(sources, STARS, X).items():
        assert np.abs(off).max() < (10 if band in NARROW else 2), band
    # Another response is seen at once.
    wrong = sources.coefficients.value @ observed_wrongly(at)
    assert np.sqrt(np.mean((wrong / smoothed(STARS, X, at) - 1) ** 2, axis=1)).max() > 5e-3


def observed_wrongly(at: np.ndarray) -> np.ndarray:
    """The smoothed design matrix of the other instrument model of DR3."""
    return design(xpjax.load_instrument("v211w/v142r"), at, smoothed=True)


@pytest.mark.slow
def test_castelli_and_kurucz_come_back(shared: Callable[[str], Path]) -> None:
    """The table of the guide: A to K, dwarfs and giants, [M/H] 0 and -1; what XP loses is bounded too."""
    labels, flux = [], []
    for folder in ("ckp00", "ckm10"):
        for part in read_library("ck04", shared(f"grids/ck04/{folder}"), limits={"teff": (4000, 9500, 500)}):
            rows = (part.labels[:, 1] == 4.5) | ((part.labels[:, 1] == 2.5) & (part.labels[:, 0] < 6000))
            labels.append(part.labels[rows])
            flux.append(part.flux[rows] / part.flux[rows].mean(axis=1, keepdims=True))
            x = part.wavelength
    stars, teff = np.concatenate(flux) * 1e-17, np.concatenate(labels)[:, 0]
    x, stars = x[(x > 250) & (x < 1300)], stars[:, (x > 250) & (x < 1300)]
    sources = xpjax.observe(x, stars)
    at = np.arange(400.0, 900.1, 1.0)
    seen = sources.coefficients.value @ design(xpjax.load_instrument(), at, smoothed=True)
    off = seen / smoothed(stars, x, at) - 1
    rms = np.sqrt(np.mean(off**2, axis=1))
    red = np.sqrt(np.mean(off[:, at > 440] ** 2, axis=1))
    assert np.median(rms) < 4e-3
    assert rms.max() < 8e-3
    assert np.median(red) < 2e-3
    assert red.max() < 5e-3
    assert rms[(teff > 5200) & (teff < 7200)].max() < 3.5e-3
    lost = {"J0378": 30, "J0395": 60}  # Ca II H and K, and what is below, are narrower than XP sees
    for band, error in differences(sources, stars, x).items():
        assert np.abs(error).max() < lost.get(band, 10 if band in NARROW else 2.5), band


@pytest.mark.slow
def test_coefficients_are_those_of_real_stars(shared: Callable[[str], Path]) -> None:
    """CALSPEC stars: internal spectra to 0.6 % RMS of their peak, XP's own systematic errors included."""
    pairs = read_pairs(shared("calspec/xp_calspec_pairs.parquet"))
    pairs = pairs[np.isfinite(pairs.reference[:, 20:-20]).all(axis=1)]
    model = xpjax.load_instrument()
    x = model.wavelength
    spectra = np.stack([np.interp(x, x[np.isfinite(r)], r[np.isfinite(r)]) for r in pairs.reference])
    inside = (x > 400) & (x < 900)
    spectra *= ((pairs.coefficients @ model.default_design)[:, inside].mean(1) / spectra[:, inside].mean(1))[:, None]
    cool = np.isin([str(kind)[:1] for kind in pairs.kind], ["F", "G", "K"])
    assert cool.sum() > 10
    value = xpjax.observe(x, spectra, errors=False, extend=True).coefficients.value
    u = np.arange(0.0, 60.0, 0.25)
    for rows, xp in zip(model.release.slices, model.release.xp, strict=True):
        bases = model.internal["hermite"][xp](u)
        true, made = (c[cool][:, rows] @ bases for c in (pairs.coefficients, value))
        off = (made - true) / true.max(axis=1, keepdims=True)
        assert 0.0 < np.sqrt(np.mean(off**2)) < 0.006, xp


def test_corrected_spectra_of_sources_with_a_correction_are_those_given() -> None:
    """What has the correction's errors is off by as much as XP is, not by more, and comes back by the correction."""
    at = np.arange(400.0, 900.0, 2.0)
    model = xpjax.load_instrument()
    value = xpjax.observe(X, STARS, correction="standard", errors=False).coefficients.value
    true = smoothed(STARS, X, at)
    back = value @ design(model.corrected("standard"), at, smoothed=True) / true - 1
    uncorrected = value @ design(model, at, smoothed=True) / true - 1
    assert np.sqrt(np.mean(back**2, axis=1)).max() < 0.009
    assert 0.004 < np.sqrt(np.mean(uncorrected**2, axis=1)).max() < 0.03
    assert np.sqrt(np.mean(uncorrected[:, (at > 640) & (at < 700)] ** 2, axis=1)).max() < 0.05


def test_what_begins_within_xp_is_refused_or_a_guess() -> None:
    """Bands that see what a spectrum lacks cannot be told: spectra that begin at 336 nm have to be extended."""
    cut = X >= 336
    with pytest.raises(ValueError, match=r"cover 336..1120 nm .*XP needs 330..1050 nm; .*extend=True"):
        xpjax.observe(X[cut], STARS[:, cut])
    extended = xpjax.observe(X[cut], STARS[:, cut], extend=True)
    bands = xpjax.load_passbands("JPLUS")[["gJPLUS", "rJPLUS", "J0515"]]
    whole, part = (xpjax.photometry(s, bands).magnitude for s in (xpjax.observe(X, STARS), extended))
    assert np.abs(whole - part).max() < 2e-3


def test_the_matrix_is_the_map_and_integrates_cubics() -> None:
    """Finer samples of the same curve give the same coefficients; samples far beyond XP have no weight."""
    coarse = X[::4]
    matrix = observation_matrix(coarse)
    value = STARS[:, ::4] @ matrix
    assert np.allclose(xpjax.observe(coarse, STARS[:, ::4]).coefficients.value, value, rtol=1e-12)
    fine = observation_matrix(FINE[::5])
    peak = np.abs(value).max(axis=1, keepdims=True)
    again = CubicSpline(coarse, STARS[:, ::4], axis=1)(FINE[::5]) @ fine
    assert np.abs((again - value) / peak).max() < 2e-4
    wild = np.where((X < 320) | (X > 1060), np.nan, STARS)
    assert np.allclose(
        xpjax.observe(X, wild).coefficients.value, xpjax.observe(X, STARS).coefficients.value, rtol=1e-12
    )
    # Spectra of coefficients are observed as these coefficients, but for what no absolute spectrum shows.
    real = np.asarray(xpjax.simulate_sources(20, seed=4).coefficients.value, float)
    grid = np.arange(330.0, 1050.1, 0.5)
    bases = design(xpjax.load_instrument(), np.arange(400.0, 1000.0))
    back = real @ design(xpjax.load_instrument(), grid) @ observation_matrix(grid) @ bases
    assert (
        np.abs(
            back / (real @ bases).mean(axis=1, keepdims=True) - (real @ bases) / (real @ bases).mean(1)[:, None]
        ).max()
        < 0.05
    )


def test_gradients_are_finite_differences() -> None:
    """Of a magnitude with respect to E(B-V), R_V and the flux, through the reddening law."""
    used = (X >= 329) & (X <= 1051)
    matrix = observation_matrix(X[used])
    system = xpjax.load_system("JPLUS:J0410")
    band = np.asarray(system.projection, float)[:, 0] * np.asarray(system.scale)[0]
    curve = extinction_curve(X[used])

    def magnitude(ebv: jax.Array, flux: jax.Array) -> jax.Array:
        return -2.5 * jnp.log10(jnp.dot(flux * transmission(curve, ebv), matrix @ band))

    with xpjax.precision(True):
        flux = jnp.asarray(STARS[2][used])
        slope, per_flux = jax.grad(magnitude, argnums=(0, 1))(jnp.asarray(0.1), flux)
        step = 1e-4
        numeric = (magnitude(jnp.asarray(0.1 + step), flux) - magnitude(jnp.asarray(0.1 - step), flux)) / (2 * step)
        assert float(slope) == pytest.approx(float(numeric), rel=1e-6)
        assert 2.742 * 1.3 < float(slope) < 2.742 * 1.6  # A(410 nm) / A_V = 1.4
        for k in (100, 163, 400):
            bump = jnp.zeros_like(flux).at[k].set(1e-3 * flux[k])
            numeric = (magnitude(jnp.asarray(0.1), flux + bump) - magnitude(jnp.asarray(0.1), flux - bump)) / 2e-3
            assert float(per_flux[k] * flux[k]) == pytest.approx(float(numeric), rel=1e-4, abs=1e-9)


def test_noise_has_the_covariance_that_is_stated() -> None:
    n = 400
    stars = np.broadcast_to(STARS[2], (n, len(X)))
    noisy = xpjax.observe(X, stars, g_mag=16.0, noise=3)
    true = xpjax.observe(X, stars[:1], g_mag=16.0).coefficients.value
    for name, rows in zip(noisy.release.xp, noisy.release.slices, strict=True):
        covariance = xpjax.covariance_matrix(noisy[:1], name)[0]
        off = (noisy.coefficients.value - true)[:, rows]
        chi2 = np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off)
        size = len(covariance)
        assert chi2.mean() == pytest.approx(size, abs=5 * np.sqrt(2 * size / n))
        assert chi2.std() == pytest.approx(np.sqrt(2 * size), rel=0.2)
        assert 1.1**2 * chi2.mean() > size + 5 * np.sqrt(2 * size / n)  # a tenth more would be seen
        plain = np.diag(np.diag(covariance))
        alone = np.einsum("ni,ij,nj->n", off, np.linalg.inv(plain), off)
        assert np.corrcoef(chi2, alone)[0, 1] < 0.95
    assert np.array_equal(noisy.coefficients.value, xpjax.observe(X, stars, g_mag=16.0, noise=3).coefficients.value)
    assert not np.array_equal(noisy.coefficients.value, xpjax.observe(X, stars, g_mag=16.0, noise=4).coefficients.value)


def test_errors_are_those_of_sources_of_this_magnitude() -> None:
    """Simulated sources of like G and BP-RP have them in the median."""
    made = xpjax.observe(X, STARS[2:3], g_mag=15.0)
    color = made.columns["bp_rp"][0]
    mock = xpjax.simulate_sources(20_000, seed=2, correlations=False)
    near = (np.abs(mock.columns["phot_g_mean_mag"] - 15) < 0.25) & (np.abs(mock.columns["bp_rp"] - color) < 0.1)
    assert near.sum() > 20
    ratio = made.coefficients.error[0] / np.median(np.asarray(mock.coefficients.error)[near], axis=0)
    assert np.median(ratio) == pytest.approx(1, abs=0.1)
    assert np.all(np.abs(np.log(ratio)) < 0.5)
    fainter = xpjax.observe(X, STARS[2:3], g_mag=17.0).coefficients.error[0]
    assert np.all(fainter < made.coefficients.error[0])
    assert made.coefficients.n_relevant.min() > 3
    assert made.columns["xp_correlation_extrapolated"].dtype == bool


def test_magnitudes_and_units() -> None:
    made = xpjax.observe(X, STARS, g_mag=np.arange(12.0, 18.0))
    system = xpjax.load_system("Gaia_DR3_Vega")
    mean = made.coefficients.value @ (np.asarray(system.projection, float) * np.asarray(system.scale))
    magnitude = -2.5 * np.log10(mean) + np.asarray(system.zero_point)
    assert np.allclose(magnitude[:, 0], np.arange(12.0, 18.0), atol=1e-9)
    assert np.allclose(magnitude[:, 1] - magnitude[:, 2], made.columns["bp_rp"], atol=1e-9)
    assert made.columns["bp_rp"][0] > made.columns["bp_rp"][-1]
    plain = xpjax.observe(X, STARS).coefficients.value
    cgs = (STARS * units.W / units.m**2 / units.nm).to("erg s-1 cm-2 AA-1")
    jansky = (STARS * units.W / units.m**2 / units.nm).to("Jy", equivalencies=units.spectral_density(X * units.nm))
    for flux in (cgs, jansky):
        assert np.allclose(xpjax.observe(X * 10 * units.AA, flux).coefficients.value, plain, rtol=1e-9)
    one = xpjax.observe(X, STARS[0])
    assert np.allclose(one.coefficients.value, plain[:1], rtol=1e-9)
    red = xpjax.observe(X, STARS, ebv=0.3)
    assert np.all(red.columns["bp_rp"] > xpjax.observe(X, STARS).columns["bp_rp"] + 0.2)
    spectra = xpjax.spectra(xpjax.simulate_sources(3, seed=1), np.arange(330.0, 1051.0), errors=False, float64=True)
    again = xpjax.observe(spectra)
    assert np.array_equal(again.source_id, spectra.source_id)


def test_what_cannot_be_observed_is_told() -> None:
    cases: list[tuple[str, Callable[[], object]]] = [
        (
            r"cover 400..1000 nm .*XP needs 330..1050 nm; .*extend=True",
            lambda: xpjax.observe(X[220:1421], STARS[:, 220:1421]),
        ),
        ("cover 500..1000 nm", lambda: xpjax.observe(X[420:1421], STARS[:, 420:1421], extend=True)),
        ("ascending", lambda: xpjax.observe(X[::-1], STARS)),
        (r"shape \(6, 1661\), expected \(n, 1660\)", lambda: xpjax.observe(X[:-1], STARS)),
        ("Give G by g_mag=", lambda: xpjax.observe(X, 1e20 * STARS)),
        ("no flux", lambda: xpjax.observe(X)),
        ("Gaia DR4", lambda: xpjax.observe(X, STARS, release="DR4", instrument=xpjax.load_instrument())),
        ("g_mag has shape", lambda: xpjax.observe(X, STARS, g_mag=np.ones(5))),
        ("unit", lambda: xpjax.observe(X, STARS * units.K)),
    ]
    for message, call in cases:
        with pytest.raises(xpjax.XpjaxError, match=message):
            call()
    bad = STARS.copy()
    bad[1, 700] = np.nan
    bad[2] *= -1
    made = xpjax.observe(X, bad, g_mag=15.0, noise=1)
    both = xpjax.Status.BP_BAD | xpjax.Status.RP_BAD
    assert made.status.tolist() == [0, both, both, 0, 0, 0]
    assert np.isnan(made.coefficients.value[1:3]).all()
    assert np.isfinite(made.coefficients.value[[0, 3, 4, 5]]).all()
    short = xpjax.observe(X[220:1421], STARS[:, 220:1421], extend=True).coefficients.value
    bases = design(xpjax.load_instrument(), np.arange(420.0, 900.0))
    assert np.abs(short @ bases / (xpjax.observe(X, STARS).coefficients.value @ bases) - 1).max() < 0.05
    far = xpjax.observe(X, STARS * (1 + 30 * np.exp(-0.5 * ((X - 501) / 1) ** 2)), correction="standard", errors=False)
    assert np.all(far.status & xpjax.Status.OUTSIDE_TRAINING)
    assert np.all(far.columns["xp_misfit"] > 0.02)  # an emission line is narrower than XP can follow


def test_another_release() -> None:
    """DR3's instrument, cut to the basis functions of DR4: the spectra come back through its own design matrix."""
    model = xpjax.load_instrument()
    sizes = dict(zip(DR4.xp, DR4.n_basis, strict=True))
    keep = np.concatenate(
        [np.arange(r.start, r.start + n) for r, n in zip(model.release.slices, DR4.n_basis, strict=True)]
    )
    absolute = {
        xp: dataclasses.replace(one, transformation=one.transformation[: sizes[xp]])
        for xp, one in model.absolute.items()
    }
    internal = {
        xp: HermiteBasis(one.transformation[: sizes[xp]], one.pseudo_range, one.normalized_range)
        for xp, one in model.internal["hermite"].items()
        if isinstance(one, HermiteBasis)
    }
    fourth = dataclasses.replace(
        model, release=DR4, absolute=absolute, internal={"hermite": internal}, default_design=model.default_design[keep]
    )
    made = xpjax.observe(X, STARS, g_mag=16.0, noise=1, instrument=fourth)
    assert made.release == DR4
    assert made.coefficients.correlation is not None
    assert made.columns["phot_g_mean_mag"] == pytest.approx(16)
    true = xpjax.observe(X, STARS, instrument=fourth).coefficients.value
    at = np.arange(400.0, 900.1, 2.0)
    off = true @ design(fourth, at, smoothed=True) / smoothed(STARS, X, at) - 1
    assert np.sqrt(np.mean(off**2, axis=1)).max() < 5e-3
    assert xpjax.observe(X, STARS, instrument=fourth, release="Gaia DR4").release == DR4


def test_a_magnitude_that_no_source_has_costs_its_row() -> None:
    """Where G is given for each row; the others are as without it. One for all rows is refused, as is no number."""
    with pytest.warns(UserWarning, match=r"row 2 \(source_id 2\), G = 99.0; row 4 .*G = -30.0: no source has this G"):
        made = xpjax.observe(X, STARS[:5], g_mag=[15, 99, 16, -30, np.nan], noise=1)
    both = int(xpjax.Status.BP_BAD | xpjax.Status.RP_BAD)
    assert made.status.tolist() == [0, both, 0, both, both]
    good = xpjax.observe(X, STARS[:5], g_mag=[15, 15, 16, 15, 15], noise=1)
    for name in ("value", "error", "correlation"):
        found, expected = (getattr(table.coefficients, name)[[0, 2]] for table in (made, good))
        assert np.allclose(found, expected, rtol=1e-12)
    assert np.isnan(made.coefficients.value[[1, 3, 4]]).all()
    assert np.isnan(made.columns["phot_g_mean_mag"][[1, 3, 4]]).all()
    with pytest.warns(UserWarning, match=r"row 1 .*no source has this G"):  # a star in no unit of flux among others
        assert xpjax.observe(X, STARS[:2] * [[1e20], [1.0]]).status.tolist() == [both, 0]
    for g_mag, message in (
        (99, "no source has known errors"),
        (np.nan, "g_mag= is nan"),
        ("bright", "g_mag is 'bright'"),
    ):
        with pytest.raises(xpjax.XpjaxError, match=message):
            xpjax.observe(X, STARS[:2], g_mag=g_mag)
    assert np.isfinite(xpjax.observe(X, STARS[:1], g_mag=99, errors=False).coefficients.value).all()


@pytest.mark.parametrize("noise", [-1, 1.5, True, "1", (1, -2), (), [1, 0.5], np.array(1.0)])
def test_seeds_that_are_none(noise: object) -> None:
    with pytest.raises(xpjax.XpjaxError, match=r"noise= is .*expected a seed, a whole number of at least 0"):
        xpjax.observe(X, STARS[:1], g_mag=15.0, noise=noise)  # type: ignore[arg-type]


def test_seeds_of_any_kind() -> None:
    made = [xpjax.observe(X, STARS[:1], g_mag=15.0, noise=k).coefficients.value for k in (3, np.int64(3), np.uint8(3))]
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])
    first, second = (xpjax.observe(X, STARS[:1], g_mag=15.0, noise=k).coefficients.value for k in ([3, 1], (3, 2)))
    assert not np.allclose(first, second, rtol=1e-6)


def test_unknown_laws_are_refused_without_dust_too() -> None:
    for ebv in (0.0, 0.1):
        with pytest.raises(xpjax.XpjaxError, match=r"unknown extinction law 'nope'; choose from ccm89, "):
            xpjax.observe(X, STARS[:1], g_mag=15.0, ebv=ebv, law="nope")


def test_repeated_ids_are_flagged() -> None:
    x = np.arange(330.0, 1051.0)
    spectra = xpjax.spectra(xpjax.simulate_sources(4, seed=1), x, errors=False, float64=True)
    spectra = dataclasses.replace(spectra, source_id=np.array([5, 0, 5, 6]))
    made = xpjax.observe(spectra)
    assert made.source_id.tolist() == [5, 0, 5, 6]
    assert made.status.tolist() == [0, int(xpjax.Status.ID_MISSING), int(xpjax.Status.DUPLICATE), 0]
