"""Fitted transmission curves: derivatives, what was put in comes out, with errors that are right."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xpjax
from xpjax.core import engine
from xpjax.core.status import Status
from xpjax.synthetic.chain import TransmissionChain
from xpjax.synthetic.chain_file import read_chain
from xpjax.synthetic.fit import fit_passband
from xpjax.synthetic.fitted import PassbandFit
from xpjax.synthetic.passband import Passband
from xpjax.synthetic.projection import passband_operator
from xpjax.synthetic.warp import warped
from xpjax.xp import simulate

TRUTH = {"shift": 2.0, "width": 0.03, "tilt": 0.05}
ERROR = 0.01


@pytest.fixture(scope="module")
def stars() -> xpjax.SourceTable:
    return simulate.simulate_sources(2000, seed=3, correlations=False, dtype=np.float64)


def broad(name: str = "g") -> Passband:
    """Like a survey's g: steep edges, a rounded top."""
    x = np.arange(370.0, 570.1, 1.0)
    edges = 1 / (1 + np.exp(-(x - 400) / 3)) / (1 + np.exp((x - 540) / 3))
    return Passband(name, x, 0.8 * edges * (1 + 0.001 * (x - 470)) * (1 - ((x - 480) / 400) ** 2))


def changed(band: Passband, **change: float) -> Passband:
    curve = warped(band)
    with engine.precision(float64=True):
        values = np.asarray(curve({name: jnp.asarray(v) for name, v in change.items()}))
    return Passband(band.name, np.asarray(curve.grid), np.clip(values, 0, None) / max(values.max(), 1))


def observed(stars: xpjax.SourceTable, band: Passband | xpjax.PassbandSet, seed: int, error: float = ERROR) -> Any:
    true = xpjax.photometry(stars, band, errors=False, float64=True).magnitude[:, 0]
    return true + np.random.default_rng(seed).normal(0, error, len(true))


# --- derivatives ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shift", "width", "blue_edge", "red_edge", "tilt", "bend"])
def test_derivatives_of_magnitudes(stars: xpjax.SourceTable, name: str) -> None:
    curve = warped(broad())
    operator = passband_operator(np.asarray(curve.grid))
    response = np.asarray(operator.response) / np.asarray(operator.norm).max() * 1e30
    c = stars.coefficients.value[:5].astype(float)
    with engine.precision(float64=True):

        def magnitude(value: jax.Array) -> jax.Array:
            t = curve({name: value})
            return -2.5 * jnp.log10(jnp.asarray(c) @ (response @ t) / (operator.norm @ t))

        at = jnp.asarray(0.02)
        exact = jax.jacobian(magnitude)(at)
        numeric = (magnitude(at + 1e-4) - magnitude(at - 1e-4)) / 2e-4
    np.testing.assert_allclose(exact, numeric, rtol=1e-4, atol=3e-6)


CHAIN = {"airmass": 1.2, "water": 5.0, "filter_shift": 0.1, "filter_scale": 1.01, "detector_slope": 0.02}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CHAIN))
def test_derivatives_through_a_transmission_chain(stars: xpjax.SourceTable, name: str) -> None:
    chain = minisitian()
    grid = np.asarray(chain.wavelength)
    operator = passband_operator(grid)
    response = np.asarray(operator.response) / np.asarray(operator.norm).max() * 1e30
    c = stars.coefficients.value[:5].astype(float)
    with engine.precision(float64=True):

        def magnitude(value: jax.Array) -> jax.Array:
            t = chain.transmission(jnp.asarray(grid), "i", **{name: value})
            return -2.5 * jnp.log10(jnp.asarray(c) @ (response @ t) / (operator.norm @ t))

        at = jnp.asarray(CHAIN[name])
        exact = jax.jacobian(magnitude)(at)
        numeric = (magnitude(at + 1e-4) - magnitude(at - 1e-4)) / 2e-4
    np.testing.assert_allclose(exact, numeric, rtol=1e-4, atol=3e-6)


def minisitian() -> TransmissionChain:
    from xpjax.core.shipped import filters_folder

    return read_chain(filters_folder() / "minisitian" / "system.toml")


# --- what was put in comes out ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [("shift",), ("zero_point", "shift", "width"), ("zero_point", "shift", "width", "tilt")]
)
def test_pulls_over_100_seeds(stars: xpjax.SourceTable, names: tuple[str, ...]) -> None:
    """2000 stars at 10 mmag: errors are those that the scatter of many fits shows."""
    change = {name: TRUTH[name] for name in names if name in TRUTH}
    truth = {**change, "zero_point": 0.05 if "zero_point" in names else 0.0}
    true_band = changed(broad(), **change)
    exact = observed(stars, true_band, 0, error=0.0) + truth["zero_point"]
    rng = np.random.default_rng(11)
    fits = [fit_passband(stars, exact + rng.normal(0, ERROR, len(exact)), ERROR, broad(), names) for _ in range(100)]
    assert all(fit.converged for fit in fits)
    for name in names:
        pulls = np.array([(fit[name][0] - truth[name]) / fit[name][1] for fit in fits])
        assert 0.85 < pulls.std() < 1.15
        assert abs(pulls.mean()) < 0.35
    center = np.array([fit.effective_wavelength for fit in fits]) - true_band.mean_wavelength
    assert np.sqrt(np.mean(center**2)) < 0.1
    assert 0.85 < np.std(center / [fit.effective_wavelength_error for fit in fits]) < 1.15
    if names == ("shift",):
        assert max(abs(fit["shift"][0] - 2.0) for fit in fits) < 0.2
    if "tilt" in names:
        pairs = [(a, b) for a, b, _ in fits[0].degenerate]
        assert ("tilt", "shift") in pairs or ("shift", "tilt") in pairs


def test_the_fitted_curve_is_the_true_one(stars: xpjax.SourceTable) -> None:
    true_band = changed(broad(), shift=2.0, width=0.03)
    fit = fit_passband(stars, observed(stars, true_band, 1, 1e-5), 1e-5, broad(), ("zero_point", "shift", "width"))
    assert fit["shift"][0] == pytest.approx(2.0, abs=2e-3)
    assert fit["width"][0] == pytest.approx(0.03, abs=1e-4)
    both = np.arange(380.0, 565.0)
    a, b = (np.interp(both, p.wavelength, p.transmission) for p in (fit.passband, true_band))
    np.testing.assert_allclose(a / a.max(), b / b.max(), atol=2e-3)
    assert fit.passband.meta["kind"] == "fitted"
    assert fit.effective_wavelength == pytest.approx(fit.passband.mean_wavelength, abs=2e-3)
    np.testing.assert_allclose(fit.magnitude, observed(stars, true_band, 0, 0.0), atol=1e-4)


@pytest.mark.slow
def test_edges_move_by_themselves(stars: xpjax.SourceTable) -> None:
    true_band = changed(broad(), blue_edge=1.5)
    fit = fit_passband(stars, observed(stars, true_band, 2, 1e-4), 1e-4, broad(), ("blue_edge", "red_edge"))
    assert fit["blue_edge"][0] == pytest.approx(1.5, abs=0.02)
    assert fit["red_edge"][0] == pytest.approx(0.0, abs=0.02)
    half = np.interp(400, *_half(true_band)) - np.interp(400, *_half(broad()))
    assert half < 0  # less light where the blue edge was


def _half(band: Passband) -> tuple[np.ndarray, np.ndarray]:
    return band.wavelength, band.transmission


@pytest.mark.slow
def test_free_form_finds_a_dip(stars: xpjax.SourceTable) -> None:
    """A broad absorption that no parameter describes: the free form finds it, within its errors, and its place."""
    band = broad()
    dip = 1 - 0.25 * np.exp(-0.5 * ((band.wavelength - 450) / 15) ** 2)
    true_band = Passband("g", band.wavelength, band.transmission * dip)
    fit = fit_passband(
        stars, observed(stars, true_band, 4, 0.002), 0.002, band, ("zero_point",), free=10.0, roughness=0.05
    )
    assert fit.converged
    x = np.arange(420.0, 530.0)
    ratio = np.interp(x, fit.passband.wavelength, fit.passband.transmission) / np.interp(
        x, band.wavelength, band.transmission
    )
    assert abs(x[np.argmin(ratio)] - 450) < 6
    assert ratio.min() / np.median(ratio[x > 490]) == pytest.approx(0.75, abs=0.08)
    assert fit.effective_wavelength == pytest.approx(true_band.mean_wavelength, abs=0.15)


@pytest.mark.slow
def test_a_chain_is_fitted_by_its_own_parameters(stars: xpjax.SourceTable) -> None:
    chain = minisitian()
    true = chain.with_parameters(airmass=1.6, filter_shift=1.0).passbands()["g"]
    fit = fit_passband(
        stars,
        observed(stars, true, 5, 1e-4),
        1e-4,
        chain,
        ("zero_point", "airmass", "filter_shift"),
        band="g",
    )
    assert fit["airmass"][0] == pytest.approx(1.6, abs=max(5 * fit["airmass"][1], 0.02))
    assert fit["filter_shift"][0] == pytest.approx(1.0, abs=max(5 * fit["filter_shift"][1], 0.02))
    assert fit.effective_wavelength == pytest.approx(true.mean_wavelength, abs=0.02)


# --- errors, outliers, refusals ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_errors_of_the_spectra_are_added() -> None:
    table = simulate.simulate_sources(300, seed=5)
    exact = observed(table, broad(), 0, 0.0)
    with_xp = fit_passband(table, exact, 0.001, broad(), ("shift",))
    without = fit_passband(table, exact, 0.001, broad(), ("shift",), xp_errors=False)
    assert with_xp["shift"][1] > 1.2 * without["shift"][1]


@pytest.mark.slow
def test_outliers_are_clipped_and_come_back(stars: xpjax.SourceTable) -> None:
    magnitude = observed(stars, changed(broad(), shift=2.0), 6)
    bad = np.arange(0, len(magnitude), 50)
    magnitude[bad] += 0.5
    dragged = fit_passband(stars, magnitude, ERROR, broad())
    clean = fit_passband(stars, magnitude, ERROR, broad(), clip=4.0)
    assert abs(clean["shift"][0] - 2.0) < 5 * clean["shift"][1]
    assert not clean.used[bad].any()
    assert clean.used.sum() > len(magnitude) - len(bad) - 5
    assert abs(dragged["zero_point"][0]) > 5 * abs(clean["zero_point"][0])


@pytest.mark.slow
def test_missing_magnitudes_and_bad_stars_cost_only_themselves(stars: xpjax.SourceTable) -> None:
    magnitude, error = observed(stars, broad(), 7), np.full(len(stars), ERROR)
    coefficients = stars.coefficients.value.copy()
    coefficients[3, 5] = np.nan
    magnitude[:2], error[2], error[4] = np.nan, 0.0, np.inf
    fit = fit_passband(coefficients, magnitude, error, broad())
    assert not fit.used[:5].any()
    assert fit.used[5:].all()
    assert np.isnan(fit.magnitude[3])
    assert fit.converged


@pytest.mark.slow
def test_priors_hold_what_the_stars_do_not_tell(stars: xpjax.SourceTable) -> None:
    magnitude = observed(stars, changed(broad(), shift=1.0), 8)
    names = ("zero_point", "shift", "width", "tilt")
    loose = fit_passband(stars, magnitude, ERROR, broad(), names)
    held = fit_passband(stars, magnitude, ERROR, broad(), names, priors={"tilt": 0.005})
    assert held["tilt"][1] < 0.0051
    assert held["shift"][1] < 0.6 * loose["shift"][1]
    assert "degenerate: " in str(loose)
    assert isinstance(held, PassbandFit)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": ("shft",)}, "no parameter shft; choose from"),
        ({"parameters": ("tilt",), "free": 10.0}, "no parameter tilt"),
        ({"free": -1.0}, "spacing of the nodes"),
        ({"priors": {"width": 0.1}}, "prior width = 0.1"),
        ({"priors": {"shift": 0.0}}, "above zero"),
        ({"error": np.ones(3)}, "expected 2000 magnitudes and errors"),
        ({"error": np.nan}, "0 of 2000 stars"),
    ],
)
def test_refusals(stars: xpjax.SourceTable, change: dict[str, Any], message: str) -> None:
    arguments = {"error": ERROR, "curve": broad(), **change}
    with pytest.raises(ValueError, match=message):
        fit_passband(stars, np.full(len(stars), 15.0), **arguments)


def test_refusals_of_chains(stars: xpjax.SourceTable) -> None:
    with pytest.raises(ValueError, match="band None is not in the chain"):
        fit_passband(stars, np.full(len(stars), 15.0), ERROR, minisitian(), ("airmass",))
    with pytest.raises(ValueError, match="no parameter shift"):
        fit_passband(stars, np.full(len(stars), 15.0), ERROR, minisitian(), ("shift",), band="g")


@pytest.mark.slow
def test_magnitudes_that_are_none_do_not_converge(stars: xpjax.SourceTable) -> None:
    """The same magnitude for every star drives the curve away: that is said, and the start is given back."""
    lost = fit_passband(stars, np.full(len(stars), 15.0), ERROR, broad(), ("shift",))
    assert not lost.converged
    assert "NOT CONVERGED" in str(lost)
    with pytest.raises(KeyError, match="was not fitted"):
        lost["tilt"]


def test_the_linear_correction_of_the_spectra(stars: xpjax.SourceTable) -> None:
    """Magnitudes of corrected spectra give the curve back with the correction, another one without."""
    true = xpjax.photometry(stars, broad(), correction="standard", errors=False, float64=True)
    magnitude = true.magnitude[:, 0]
    found, raw = (fit_passband(stars, magnitude, 0.002, broad(), ("shift",), correction=c) for c in ("standard", None))
    assert abs(found["shift"][0]) < 1e-2
    assert abs(raw["shift"][0]) > 3 * abs(found["shift"][0]) + 0.01
    assert found.passband.meta["correction"] == "standard"
    far = (true.status & np.uint32(Status.OUTSIDE_TRAINING)) > 0
    assert not (found.used & far).any()
