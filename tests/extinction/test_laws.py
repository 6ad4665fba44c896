"""Reddening laws against dust_extinction."""

import jax
import numpy as np
import pytest
from astropy import units

from xpjax import extinction

GRID = np.linspace(322.0, 1050.0, 500)


@pytest.mark.parametrize("r_v", [2.2, 3.1, 5.0])
@pytest.mark.parametrize(("name", "peer"), [("ccm89", "CCM89"), ("odonnell94", "O94")])
def test_laws_equal_dust_extinction(name: str, peer: str, r_v: float) -> None:
    averages = pytest.importorskip("dust_extinction.parameter_averages")
    expected = getattr(averages, peer)(Rv=r_v)(GRID * units.nm)
    np.testing.assert_allclose(extinction.extinction_curve(GRID, name, r_v), expected, rtol=1e-12)
    own = {"ccm89": extinction.ccm89, "odonnell94": extinction.odonnell94}[name](GRID.astype(np.float32), r_v)
    np.testing.assert_allclose(own, expected, rtol=1e-5)


@pytest.mark.parametrize("r_v", [2.2, 3.1, 5.0])
def test_f19_equals_dust_extinction(r_v: float) -> None:
    averages = pytest.importorskip("dust_extinction.parameter_averages")
    wide = np.geomspace(303.1, 3333.0, 900)
    expected = averages.F19(Rv=r_v)(wide * units.nm)
    np.testing.assert_allclose(extinction.extinction_curve(wide, "F19", r_v), expected, rtol=3e-6)
    assert np.abs(extinction.extinction_curve(wide, "ccm89", r_v) - expected).max() > 0.02


def test_further_laws_come_from_dust_extinction() -> None:
    averages = pytest.importorskip("dust_extinction.parameter_averages")
    np.testing.assert_array_equal(extinction.extinction_curve(GRID, "g23"), averages.G23(Rv=3.1)(GRID * units.nm))


def test_the_laws_are_one_in_v_and_differentiable() -> None:
    assert abs(float(extinction.ccm89(1e3 / 1.82)) - 1) < 1e-6
    slope = jax.grad(lambda r_v: extinction.ccm89(np.float32(450.0), r_v))(3.1)
    assert np.isfinite(slope)
    assert slope != 0


def test_beyond_the_range() -> None:
    assert np.isnan(extinction.ccm89(250.0))
    with pytest.raises(ValueError, match=r"303.*200"):
        extinction.extinction_curve(np.array([200.0, 500.0]))
    with pytest.raises(ValueError, match="unknown extinction law 'xyz'"):
        extinction.extinction_curve(GRID, "xyz")


def test_transmission_and_its_inverse() -> None:
    curve = extinction.extinction_curve(GRID)
    ebv = np.array([0.0, 0.1, 1.0])
    seen = np.asarray(extinction.transmission(curve, ebv))
    assert seen.shape == (3, len(GRID))
    np.testing.assert_array_equal(seen[0], 1.0)
    np.testing.assert_allclose(seen * extinction.transmission(curve, -ebv), 1.0, rtol=1e-5)
    np.testing.assert_allclose(-2.5 * np.log10(seen[1]) / curve, 0.2742, rtol=1e-5)
