"""Curves that are moved, widened and tilted; where a fit starts from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import xpjax
from tests.synthetic.helpers import gaussian
from xpjax.synthetic.chain import TransmissionChain
from xpjax.synthetic.passband import Passband
from xpjax.synthetic.warp import find_start, prepare_curve, warp_passband


def test_a_gaussian_is_moved_and_widened() -> None:
    band = dataclasses.replace(gaussian(1.0, name="g"), detector="energy", magnitude="ST", zero_point=-26.0)
    same, moved, wider = warp_passband(band), warp_passband(band, shift=3.0), warp_passband(band, width=0.1)
    assert moved.mean_wavelength - same.mean_wavelength == pytest.approx(3.0, abs=1e-6)
    assert wider.fwhm / same.fwhm == pytest.approx(1.1, rel=1e-3)
    assert (moved.name, moved.detector, moved.magnitude, moved.zero_point) == ("g", "energy", "ST", -26.0)
    at = np.interp(band.wavelength, same.wavelength, same.transmission)
    np.testing.assert_allclose(at, band.transmission, atol=2e-4)
    with pytest.raises(xpjax.XpjaxError, match="no parameter shft"):
        warp_passband(band, shft=1.0)


def test_a_tilt_moves_light_and_no_edges() -> None:
    band = xpjax.load_passbands("sdss2010")["r"]
    tilted = warp_passband(band, tilt=0.1)
    assert tilted.mean_wavelength > band.mean_wavelength + 0.5
    assert tilted.fwhm == pytest.approx(band.fwhm, rel=0.05)


def test_where_a_fit_starts_from() -> None:
    start, band, label = find_start("sdss2010:r", free=False)
    assert isinstance(start, Passband)
    assert (start.name, band, label) == ("r", None, "sdss2010")
    start, band, label = find_start("minisitian:g", free=False)
    assert isinstance(start, TransmissionChain)
    assert (band, label) == ("g", "MiniSiTian")
    assert prepare_curve(start, band, None, None)[2] == ["zero_point", "filter_shift"]
    start, band, _ = find_start("minisitian:g", free=True)
    assert isinstance(start, Passband)
    assert prepare_curve(start, band, None, 20.0)[2] == ["zero_point", "shift"]
    with pytest.raises(xpjax.XpjaxError, match=r"curve minisitian has the passbands .* as in minisitian:g"):
        find_start("minisitian", free=False)
