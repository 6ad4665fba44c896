"""Recovered passbands: they reproduce the projection vectors that they came from, and look like passbands."""

from __future__ import annotations

import numpy as np
import pytest

import xpjax
from xpjax.records import DR3
from xpjax.synthetic.recover import recover_passbands
from xpjax.synthetic.system import from_projection


def test_a_known_passband_is_recovered() -> None:
    grid = np.arange(330.0, 1050.1, 0.5)
    curve = np.exp(-0.5 * ((grid - 620) / 40) ** 4)
    design = np.asarray(xpjax.instrument().design(grid).value)
    vector = np.trapezoid(design * grid * curve, grid, axis=1)[:, None]
    system = from_projection(vector, np.zeros(1), ("made",), "Made", DR3, model="v375wi/v142r")
    wavelength, transmission, residual = recover_passbands(system)
    assert residual[0] < 1e-4
    expected = np.interp(wavelength, grid, curve)
    assert np.corrcoef(transmission[:, 0], expected)[0, 1] > 0.995  # XP does not resolve the ripples that remain
    assert np.corrcoef(np.roll(transmission[:, 0], 5), expected)[0, 1] < 0.99


def test_published_passbands_lie_where_they_should() -> None:
    system = xpjax.system("SDSS")
    wavelength, transmission, residual = recover_passbands(system)
    assert np.all(transmission >= 0)
    assert np.all(residual < 2e-3)
    mean = (wavelength[:, None] * transmission).sum(0) / transmission.sum(0)
    np.testing.assert_allclose(mean[1:], system.mean_wavelength[1:], atol=1.5)  # u reaches beyond XP


def test_the_model_must_be_known() -> None:
    with pytest.raises(ValueError, match="does not name its instrument model"):
        recover_passbands(from_projection(np.ones((110, 1)), np.zeros(1), ("x",), "Made", DR3))
