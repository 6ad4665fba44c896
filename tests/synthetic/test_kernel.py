"""The kernel of photometry by itself: gradients, color equations, fluxes that are not positive."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import xpjax
from tests.synthetic.test_magnitude import made
from xpjax.core.status import Status
from xpjax.xp.sources import XPCoefficients


def test_nonpositive_flux_is_nan_and_flagged() -> None:
    c = made().coefficients
    value = c.value.copy()
    value[1] *= -1
    result = xpjax.photometry(XPCoefficients(value), "GaiaDr3Vega")
    assert np.all(np.isnan(result.magnitude[1]))
    assert np.all(result.flux[1] < 0)
    assert result.status[1] & Status.NONPOSITIVE_FLUX


def test_color_equation_beyond_its_range_is_flagged() -> None:
    result = xpjax.photometry(made(), "SDSS_Std", float64=True)
    (equation,) = xpjax.load_system("SDSS_Std").color_equations
    color = result.magnitude[:, equation.blue] - result.magnitude[:, equation.red]
    low, high = equation.color_range
    np.testing.assert_array_equal((result.status & Status.COLOR_EXTRAPOLATED) != 0, (color < low) | (color > high))


@pytest.mark.slow
def test_kernel_can_be_differentiated() -> None:
    import jax

    from xpjax.synthetic.kernel import photometry_kernel

    system = xpjax.load_system("SDSS")
    kernel = photometry_kernel()
    source = XPCoefficients(made().coefficients.value[0].astype("f4"))
    gradient = jax.grad(lambda s: kernel(system, s)["magnitude"][1])(source).value
    step = np.zeros(110)
    step[3] = 1.0
    with_step = xpjax.photometry(np.stack([source.value - step, source.value + step]), system, float64=True)
    assert gradient[3] == pytest.approx((with_step.magnitude[1, 1] - with_step.magnitude[0, 1]) / 2, rel=1e-3)


def test_color_equations_may_be_put_in_place_on_the_host() -> None:
    from xpjax.core import engine
    from xpjax.synthetic.kernel import BY_COLOR, photometry_kernel, put_in_place

    bands = xpjax.load_system("SDSS_Std")
    source = XPCoefficients(made().coefficients.value[:5])
    whole, apart = (engine.run(photometry_kernel(guard=False, apart=one), bands, source) for one in (False, True))
    assert apart["magnitude" + BY_COLOR].shape == (5, 1)
    changed = np.array(apart["magnitude"])
    placed = put_in_place(bands, apart)
    assert sorted(placed) == sorted(whole)
    # They are two programs, and from JAX 0.12 on their last bits may be rounded in different ways.
    unit = 0 if jax.__version_info__ < (0, 12) else 2**-23
    for name, found in placed.items():
        np.testing.assert_allclose(found, whole[name], rtol=unit)
    (equation,) = bands.color_equations
    assert (changed != placed["magnitude"]).any(axis=0).nonzero()[0].tolist() == [equation.band]
