"""Transmission chains: the product law, every parameter's gradient, TOML files and what is refused."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.table import Table
from scipy.integrate import trapezoid

from tests.synthetic.helpers import X, bell
from xpjax.core.shipped import filters_folder
from xpjax.synthetic.atmosphere import Atmosphere
from xpjax.synthetic.chain import Curve, Element, TransmissionChain


def component(name: str, column: str = "transmission") -> np.ndarray:
    table = Table.read(filters_folder() / "components" / f"{name}.ecsv", format="ascii.ecsv")
    return np.interp(X, table["wavelength"], table[column])


def test_the_chain_is_the_product_of_its_parts(chain: TransmissionChain) -> None:
    plain = {"water": 0.0, "oxygen": 0.0, "detector_slope": 0.0, "filter_shift": 0.0, "filter_scale": 1.0}
    atmosphere = 10 ** (-0.4 * 1.2 * component("sites/xinglong", "extinction"))
    common = atmosphere * component("optics/aluminium") ** 2 * 0.9 * component("detectors/imx455")
    with jax.enable_x64(True):
        for band, center, middle, half in (("g", 480, 480, 100), ("r", 640, 650, 110)):
            own = chain.transmission(X, band, **plain)
            curve = np.where(np.abs(X - middle) < half, bell(X, center, 60), 0.0)
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
        # The bell's center is 480; its table ends at 100 nm from it.
        expected = bell((X - 3.0 - 480.0) / 1.1 + 480.0, 480, 60) * np.exp(0.05 * (X - 600.0) / 100.0)
        inside = np.abs(X - 483.0) < 105
        np.testing.assert_allclose(own[inside], expected[inside], atol=5e-5)
        assert not own[np.abs(X - 483.0) > 110.1].any()
        mean = trapezoid(own * X, X) / trapezoid(own, X)
        assert float(flat.filters[0].center) == pytest.approx(480.0, abs=0.01)
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


def test_a_chain_prints_its_parameters(chain: TransmissionChain) -> None:
    assert repr(chain) == "TransmissionChain('Test', bands g, r, 330..1050 nm)"
    lines = str(chain).splitlines()
    assert len(lines) == 1 + len(chain.parameters)
    told = {line.split()[0]: line for line in lines[1:]}
    assert told["water"].endswith("5 mm: precipitable water at the zenith")
    assert told["filter_shift"].endswith("0 1.5 nm: shift of each filter to the red")
    assert told["corrector"].endswith("0.9: factor on the transmission of this part")
