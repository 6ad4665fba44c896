"""`magnitudes`, `fluxes` and `sampled_spectra` against the host's functions, finite differences, and within JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import xpjax
from tests.dr4 import KEEP, make_models
from tests.marks import slow_after
from xpjax.synthetic import PassbandSet, TransmissionChain, read_chain, warp_passband
from xpjax.xp import LinearCorrection

GRID = np.arange(400.0, 900.0, 20.0)
BANDS = "JPLUS:uJAVA,J0395,gJPLUS,rJPLUS,zJPLUS"


@cache
def stars(n: int = 300) -> np.ndarray:
    """Coefficients (n, 110) in float64."""
    return np.asarray(xpjax.simulate_sources(n, seed=3).coefficients.value, float)


@cache
def bad() -> np.ndarray:
    """Coefficients of stars without BP, without RP, without either, without light, with a bad number, dark; and one."""
    c = stars()[:7].astype(np.float32)
    c[0, :55], c[1, 55:], c[2], c[3], c[4, 60] = np.nan, np.nan, np.nan, 0, np.inf
    c[5] *= -1
    return c


@cache
def chain() -> TransmissionChain:
    return read_chain("minisitian")


@cache
def standard() -> LinearCorrection:
    made = xpjax.load_correction("standard")
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("system", "correction"),
    slow_after(1, [("JPLUS", None), ("JPLUS", "standard"), ("SDSS_Std", None), ("Gaia_DR3_Vega", "standard")]),
)
@pytest.mark.parametrize("float64", [False, True])
def test_systems_are_those_of_the_host_to_the_bit(system: str, correction: str | None, float64: bool) -> None:
    c = stars().astype(float if float64 else np.float32)
    host = xpjax.photometry(c, system, correction=correction, float64=float64)
    with jax.enable_x64(float64):
        magnitude = xpjax.magnitudes(c, system, correction=correction)
        flux = xpjax.fluxes(c, system, correction=correction)
    assert magnitude.dtype == c.dtype == host.magnitude.dtype
    # The host puts what color equations give in place itself: two programs, and the last bit is the compiler's.
    last = np.finfo(c.dtype).eps if host.system.color_equations else 0.0
    np.testing.assert_allclose(magnitude, host.magnitude, rtol=last, atol=16 * last)  # of colors of faint stars
    np.testing.assert_allclose(flux, host.flux, rtol=last, atol=0)
    assert not np.array_equal(xpjax.magnitudes(c * np.float32(1.000001), system, correction=correction), magnitude)


@pytest.mark.slow
@pytest.mark.parametrize("correction", [None, "standard"])
def test_bands_of_a_chain_and_of_curves(correction: str | None) -> None:
    """The host projects curves in float64; in float32 a curve and its projection are rounded, to some 1e-6 of both."""
    moved = chain().with_parameters(airmass=1.7, water=8.0, filter_shift=np.array([1.0, 0.0, -2.0]))
    curves = xpjax.load_passbands("sdss2010:g,r")
    warped = PassbandSet("sdss2010", tuple(warp_passband(band, shift=2.0, blue_edge=1.0) for band in curves))
    for float64, most in ((False, 2e-5), (True, 1e-12)):
        c = stars().astype(float if float64 else np.float32)
        options: dict[str, Any] = {"correction": correction, "float64": float64, "errors": False}
        with jax.enable_x64(float64):
            shift = jnp.array([1.0, 0.0, -2.0])
            parameters = {"airmass": 1.7, "water": 8.0, "filter_shift": shift}
            found = np.asarray(xpjax.magnitudes(c, chain(), correction=correction, **parameters))
            own = np.asarray(xpjax.magnitudes(c, curves, correction=correction, shift=2.0, blue_edge=jnp.ones(2)))
        np.testing.assert_allclose(found, xpjax.photometry(c, moved, **options).magnitude, rtol=0, atol=most)
        np.testing.assert_allclose(own, xpjax.photometry(c, warped, **options).magnitude, rtol=0, atol=most)
        assert np.abs(found - xpjax.photometry(c, chain(), **options).magnitude).max() > 1e-3


@pytest.mark.parametrize(
    "options", slow_after(1, [{}, {"correction": "standard"}, {"correction": "standard", "resolution": "full"}])
)
@pytest.mark.parametrize("float64", [False, True])
def test_spectra_are_those_of_the_host(options: dict[str, str], float64: bool) -> None:
    """The host sums a complete star's coefficients at once, a pure function those of each XP: roundings differ."""
    c = stars().astype(float if float64 else np.float32)
    host = xpjax.spectra(c, GRID, float64=float64, errors=False, **options).flux
    with jax.enable_x64(float64):
        found = np.asarray(xpjax.sampled_spectra(c, GRID, **options))
    assert found.dtype == c.dtype
    peak = np.abs(host).max(axis=1, keepdims=True)
    np.testing.assert_allclose(found / peak, host / peak, rtol=0, atol=1e-14 if float64 else 2e-6)
    if options:
        plain = xpjax.spectra(c, GRID, float64=float64, errors=False).flux
        assert np.abs((plain - host) / peak).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("correction", [None, "standard"])
def test_bad_stars_are_nan_where_the_host_says_so_and_have_finite_derivatives(correction: str | None) -> None:
    c = bad()
    host = xpjax.photometry(c, BANDS, correction=correction)
    spectra = xpjax.spectra(c, GRID, correction=correction)
    np.testing.assert_allclose(xpjax.magnitudes(c, BANDS, correction=correction), host.magnitude, rtol=0, atol=1e-5)
    found = xpjax.sampled_spectra(c, GRID, correction=correction)
    assert np.array_equal(np.isnan(found), np.isnan(spectra.flux))
    np.testing.assert_allclose(found * 1e17, spectra.flux * 1e17, rtol=2e-5, atol=1e-5)
    functions: list[Callable[[Any], Any]] = [
        lambda c: jnp.nansum(xpjax.magnitudes(c, BANDS, correction=correction)),
        lambda c: jnp.nansum(xpjax.fluxes(c, BANDS, correction=correction) * 1e30),
        lambda c: jnp.nansum(xpjax.sampled_spectra(c, GRID, correction=correction) * 1e18),
    ]
    for function in functions:
        slope = np.asarray(jax.grad(function)(c))
        assert np.all(np.isfinite(slope))
        assert np.any(slope[-1] != 0)
        assert not np.any(slope[2])


def differences(function: Callable[[Any], Any], at: np.ndarray, along: np.ndarray, step: float) -> np.ndarray:
    """Derivative along a direction by differences of fourth order."""
    f = [np.asarray(function(at + k * step * along)) for k in (-2, -1, 1, 2)]
    return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step)


CASES: dict[str, Callable[[], tuple[Callable[[Any], Any], np.ndarray, float]]] = {
    "coefficients": lambda: (lambda c: xpjax.magnitudes(c, BANDS), stars()[:3], 1e-4),
    "coefficients of a corrected system": lambda: (
        lambda c: xpjax.magnitudes(c, BANDS, correction=standard()),
        stars()[:3],
        1e-4,
    ),
    "chain": lambda: (
        lambda p: xpjax.magnitudes(stars()[:3], chain(), airmass=p[0], water=p[1], filter_shift=p[2:5]),
        np.array([1.3, 6.0, 0.4, 0.1, -0.3]),
        1e-3,
    ),
    "passband": lambda: (
        lambda p: xpjax.magnitudes(stars()[:3], curves_of_two(), shift=p[:2], width=p[2], blue_edge=p[3], bend=p[4]),
        np.array([0.3, -0.4, 0.01, 0.2, 0.02]),
        1e-4,
    ),
    "change of a correction": lambda: (
        lambda d: xpjax.magnitudes(stars()[:3], "JPLUS:gJPLUS,J0515", correction=changed(d)),
        np.asarray(standard().change),
        1e-3,
    ),
    "change, through a chain": lambda: (
        lambda d: xpjax.magnitudes(stars()[:3], chain(), correction=changed(d)),
        np.asarray(standard().change),
        1e-3,
    ),
    "change, of spectra": lambda: (
        lambda d: xpjax.sampled_spectra(stars()[:3], GRID, correction=changed(d)) * 1e17,
        np.asarray(standard().change),
        1e-3,
    ),
}


@cache
def curves_of_two() -> PassbandSet:
    return xpjax.load_passbands("sdss2010:g,i")


def changed(change: Any) -> LinearCorrection:
    return dataclasses.replace(standard(), change=change)


@pytest.mark.parametrize("name", slow_after(1, list(CASES)))
def test_derivatives_are_those_of_finite_differences(name: str) -> None:
    function, at, step = CASES[name]()
    along = np.random.default_rng(5).standard_normal(at.shape) * np.abs(at).mean()
    with jax.enable_x64(True):
        value, slope = map(np.asarray, jax.jvp(function, (jnp.asarray(at),), (jnp.asarray(along),)))
        expected = differences(function, at, along, step)
        weight = np.random.default_rng(6).standard_normal(value.shape)
        back = np.asarray(jax.grad(lambda x: jnp.sum(function(x) * weight))(jnp.asarray(at)))
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(slope / scale, expected / scale, rtol=0, atol=1e-7)
    np.testing.assert_allclose(np.sum(back * along), np.sum(expected * weight), rtol=1e-6)
    assert np.abs(slope / scale - 1.001 * expected / scale).max() > 1e-7


@pytest.mark.slow
def test_what_one_tries_first_works_under_jit() -> None:
    c = stars().astype(np.float32)
    expected = xpjax.magnitudes(c, BANDS)
    system = xpjax.load_system(BANDS)
    np.testing.assert_array_equal(jax.jit(xpjax.magnitudes, static_argnums=1)(c, BANDS), expected)
    np.testing.assert_array_equal(jax.jit(lambda c: xpjax.magnitudes(c, system))(c), expected)
    np.testing.assert_allclose(jax.jit(xpjax.magnitudes)(c, system), expected, rtol=0, atol=1e-5)
    corrected = xpjax.synthetic.as_system(BANDS, "standard")
    expected = xpjax.magnitudes(c, BANDS, correction="standard")
    np.testing.assert_allclose(jax.jit(xpjax.magnitudes)(c, corrected), expected, rtol=0, atol=1e-5)
    by_leaf = jax.jit(lambda c, k: xpjax.magnitudes(c, BANDS, correction=k))
    np.testing.assert_allclose(by_leaf(c, standard()), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_chains_are_pytrees() -> None:
    c = stars().astype(np.float32)
    expected = xpjax.magnitudes(c, chain(), airmass=2.0)
    moved = chain().with_parameters(airmass=2.0)
    np.testing.assert_allclose(jax.jit(xpjax.magnitudes)(c, moved), expected, rtol=0, atol=1e-5)
    both = jax.tree.map(lambda a, b: jnp.stack([jnp.asarray(a), jnp.asarray(b)]), chain(), moved)
    several = jax.vmap(xpjax.magnitudes, in_axes=(None, 0))(c, both)
    np.testing.assert_allclose(several[1], expected, rtol=0, atol=1e-5)
    assert np.abs(several[0] - several[1]).max() > 1e-3
    by_keyword = jax.vmap(lambda airmass: xpjax.magnitudes(c, chain(), airmass=airmass))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(by_keyword[1], expected, rtol=0, atol=1e-5)
    slope = jax.grad(lambda chain: xpjax.magnitudes(c, chain).sum())(moved)
    assert isinstance(slope, TransmissionChain)
    assert float(slope.atmosphere.airmass) != 0


@pytest.mark.slow
def test_any_batch_shape_and_one_star() -> None:
    c = stars().astype(np.float32)
    flat = np.asarray(xpjax.magnitudes(c, BANDS))
    shaped = xpjax.magnitudes(c[:40].reshape(2, 4, 5, 110), BANDS)
    np.testing.assert_allclose(shaped.reshape(40, -1), flat[:40], rtol=0, atol=1e-5)
    np.testing.assert_allclose(xpjax.magnitudes(c[7], BANDS), flat[7], rtol=0, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(lambda x: xpjax.magnitudes(x, BANDS))(c), flat, rtol=0, atol=1e-5)
    assert xpjax.sampled_spectra(c[:6].reshape(2, 3, 110), GRID).shape == (2, 3, len(GRID))
    assert xpjax.magnitudes(c[:0], BANDS).shape == (0, 5)


@pytest.mark.slow
def test_devices_share_stars_by_shard_map() -> None:
    c = stars().astype(np.float32)
    mesh = Mesh(np.array(jax.devices()), ("star",))
    rows = PartitionSpec("star")
    measure = jax.shard_map(lambda c: xpjax.magnitudes(c, BANDS), mesh=mesh, in_specs=rows, out_specs=rows)
    placed = jax.device_put(c, NamedSharding(mesh, rows))
    np.testing.assert_allclose(jax.jit(measure)(placed), xpjax.magnitudes(c, BANDS), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_errors_are_a_jacobian_away() -> None:
    """J K J' with the covariances of the coefficients gives the errors of `photometry`."""
    sources = xpjax.simulate_sources(5, seed=3)
    c = np.asarray(sources.coefficients.value, float)
    host = xpjax.photometry(sources, BANDS, float64=True)
    with jax.enable_x64(True):
        slope = jax.vmap(jax.jacrev(lambda c: xpjax.magnitudes(c, BANDS)))(jnp.asarray(c))
        parts = zip(np.split(np.asarray(slope), 2, axis=-1), ("bp", "rp"), strict=True)
        variance = sum(np.einsum("nbi,nij,nbj->nb", j, xpjax.covariance_matrix(sources, xp), j) for j, xp in parts)
    np.testing.assert_allclose(np.sqrt(variance), host.magnitude_error, rtol=1e-9)


@pytest.mark.slow
def test_another_release_is_told_by_the_number_of_coefficients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_models(tmp_path)
    monkeypatch.setenv("XPJAX_DATA", str(tmp_path))
    c = stars()[:3].astype(np.float32)
    c[:, 51:55] = 0
    expected = xpjax.magnitudes(c, "SDSS")
    np.testing.assert_allclose(xpjax.magnitudes(c[:, KEEP], "SDSS"), expected, rtol=0, atol=1e-5)
    spectra = xpjax.sampled_spectra(c, GRID)
    np.testing.assert_allclose(xpjax.sampled_spectra(c[:, KEEP], GRID), spectra, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: xpjax.magnitudes(np.ones((3, 109), np.float32), "SDSS"), "109 coefficients.*expected 110 of Gaia DR3"),
        (lambda: xpjax.magnitudes(np.ones((3, 110), int), "SDSS"), "must be floats"),
        (lambda: xpjax.magnitudes("xp.csv", "SDSS"), "not a str; xpjax.photometry"),
        (lambda: xpjax.magnitudes(xpjax.simulate_sources(2, seed=1), "SDSS"), "not a SourceTable"),
        (lambda: xpjax.magnitudes(stars(), "SDSS", airmass=2.0), "no parameters.*read_chain"),
        (lambda: xpjax.magnitudes(stars(), "nothing"), "nothing"),
        (lambda: xpjax.magnitudes(stars(), chain(), airmas=2.0), "did you mean 'airmass'"),
        (lambda: xpjax.fluxes(stars(), curves_of_two(), shif=2.0), "no parameter shif"),
        (lambda: xpjax.sampled_spectra(stars(), [900.0, 800.0]), "ascend"),
        (lambda: jax.jit(xpjax.sampled_spectra)(stars(), GRID), "grid must be known"),
    ],
)
def test_wrong_input_says_what_to_do(call: Callable[[], object], said: str) -> None:
    with pytest.raises(xpjax.XpjaxError, match=said):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda c: xpjax.photometry(c, "SDSS").magnitude,
        lambda c: xpjax.photometry(xpjax.XPCoefficients(c), "SDSS").magnitude,
        lambda c: xpjax.spectra(c).flux,
        lambda c: xpjax.photometry(stars(), chain().with_parameters(airmass=c[0, 0])).magnitude,
        lambda c: xpjax.photometry(stars(), dataclasses.replace(system(), zero_point=c[0, :5])).magnitude,
    ],
    ids=["array", "coefficients", "spectra", "chain", "system"],
)
def test_the_hosts_functions_name_the_pure_ones(call: Callable[[Any], Any]) -> None:
    with pytest.raises(xpjax.XpjaxError, match=r"traced arrays.*xpjax\.magnitudes"):
        jax.jit(call)(jnp.asarray(stars()[:3]))
    with pytest.raises(xpjax.XpjaxError, match="traced arrays"):
        jax.grad(lambda c: call(c).sum())(jnp.asarray(stars()[:3]))


@cache
def system() -> Any:
    return xpjax.load_system("SDSS")


def test_a_correction_is_a_pytree_of_its_change() -> None:
    leaves, tree = jax.tree.flatten(standard())
    assert len(leaves) == 1
    assert leaves[0] is standard().change
    twice = jax.tree.map(lambda x: 2 * x, standard())
    assert isinstance(twice, LinearCorrection)
    assert jax.tree.structure(twice) == tree
    assert jax.tree.structure(dataclasses.replace(standard(), name="other")) != tree
    c = stars()[:3].astype(np.float32)
    none = jax.tree.map(jnp.zeros_like, standard())
    found = xpjax.magnitudes(c, BANDS, correction=none)
    np.testing.assert_allclose(found, xpjax.magnitudes(c, BANDS), rtol=0, atol=2e-6)
