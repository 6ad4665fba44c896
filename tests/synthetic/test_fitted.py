"""Fits of transmission curves as tables, as passbands, and back from files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.synthetic.helpers import gaussian
from xpjax.synthetic.fitted import PassbandFit, read_passband_fit
from xpjax.synthetic.warp import warp_passband


@pytest.fixture(scope="module")
def fit() -> PassbandFit:
    band = dataclasses.replace(gaussian(1.0, name="g"), zero_point=-56.2, meta={"kind": "fitted", "n": 3})
    covariance = np.array([[4e-6, 1.9e-6], [1.9e-6, 1e-6]])
    value, error = np.array([0.05, 2.0]), np.sqrt(np.diagonal(covariance))
    used = np.array([True] * 9 + [False])
    names = ("zero_point", "shift")
    return PassbandFit(names, value, error, covariance, band, 520.1, 0.2, np.arange(10.0), used, 8.5, 7, True, "Mine")


@pytest.mark.parametrize("suffix", ["ecsv", "parquet", "h5", "fits", "vot"])
def test_a_fit_comes_back_from_its_file(fit: PassbandFit, tmp_path: Path, suffix: str) -> None:
    xpjax.write(tmp_path / f"fit.{suffix}", fit)
    found = read_passband_fit(tmp_path / f"fit.{suffix}")
    assert found.names == fit.names
    for name in ("value", "error", "covariance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(fit, name))
    for name in ("effective_wavelength", "effective_wavelength_error", "chi2", "degrees_of_freedom", "label"):
        assert getattr(found, name) == getattr(fit, name)
    assert found.converged is True
    for name in ("wavelength", "transmission"):
        np.testing.assert_array_equal(getattr(found.passband, name), getattr(fit.passband, name))
    assert (found.passband.zero_point, found.passband.meta) == (-56.2, {"kind": "fitted", "n": 3})
    assert (found.magnitude, found.used, found.n_star) == (None, None, 9)
    assert str(found) == str(fit)


def test_the_error_of_a_shifted_curve_is_its_slope_times_the_error_of_the_shift(tmp_path: Path) -> None:
    """Held against finite differences of the warped curve, in the fit, in its figure and from its file."""
    stars, g = xpjax.simulate_sources(200, seed=1), xpjax.load_passbands("minisitian")["g"]
    observed = xpjax.photometry(stars, g, errors=False)["g"] + 0.05
    fit = xpjax.fit_passband(stars, observed, 0.01, g, ("zero_point", "shift"))
    value, error = fit["shift"]
    x = fit.passband.wavelength
    start, low, high = (
        np.interp(x, moved.wavelength, moved.transmission, left=0, right=0)
        for moved in (warp_passband(g, shift=shift) for shift in (0.0, value - 0.01, value + 0.01))
    )
    expected = np.abs(high - low) / 0.02 * error
    np.testing.assert_allclose(fit.transmission_error, expected, atol=0.02 * expected.max())
    xpjax.write(tmp_path / "fit.h5", fit)
    back = read_passband_fit(tmp_path / "fit.h5")
    np.testing.assert_array_equal(back.transmission_error, fit.transmission_error)
    top, bottom = back.plot().axes
    band = top.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx((fit.passband.transmission + fit.transmission_error).max())
    change = bottom.lines[0].get_ydata()
    np.testing.assert_allclose(change, fit.passband.transmission - start, atol=1e-6)


def test_a_fit_of_an_earlier_version_has_no_figure(fit: PassbandFit) -> None:
    with pytest.raises(xpjax.XpjaxError, match="fit anew to plot it"):
        fit.plot()


def test_other_files_are_refused(tmp_path: Path) -> None:
    xpjax.write(tmp_path / "stars.ecsv", xpjax.photometry(xpjax.simulate_sources(3, seed=1), "SDSS"))
    with pytest.raises(xpjax.XpjaxError, match="it is no fit of a transmission curve"):
        read_passband_fit(tmp_path / "stars.ecsv")


def test_a_fit_as_a_table_and_as_passbands(fit: PassbandFit) -> None:
    assert fit.to_table()["covariance"].shape == (2, 2)
    assert fit.to_pandas()["parameter"].tolist() == ["zero_point", "shift"]
    assert "2 rows" in fit._repr_html_()
    assert len(repr(fit)) < 1000
    made = fit.passbands
    assert (made.label, made.names) == ("Mine_fit", ("g",))
    assert made["g"].meta["fit_value"] == [0.05, 2.0]
    assert made["g"].meta["fit_stars"] == 9
    assert fit.degenerate[0][:2] == ("shift", "zero_point")
    assert "degenerate: shift and zero_point, correlation +0.950" in str(fit)
