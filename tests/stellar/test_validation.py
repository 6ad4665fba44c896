"""What nodes that are left out do to labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import least_squares

from tests.stellar.helpers import NAMES, NODES, made_grid
from xpjax.stellar.interpolation import Interpolator, interpolate_grid, model_spectra
from xpjax.stellar.validation import interpolation_error


def test_what_was_filled_is_no_truth() -> None:
    whole = made_grid()
    filled = np.zeros((4, 4), bool)
    filled[1, 2] = True
    grid = dataclasses.replace(
        whole, nodes=(NODES[0][2:6], NODES[1]), flux=whole.flux[2:6, :, 3], names=NAMES[:2], filled=filled
    )
    np.testing.assert_array_equal(interpolation_error(grid, components=10, starts=1).count, [3, 3])


@pytest.mark.slow
def test_interpolation_error_is_that_of_missing_nodes() -> None:
    whole = made_grid()
    grid = dataclasses.replace(whole, nodes=(NODES[0][2:6], NODES[1]), flux=whole.flux[2:6, :, 3], names=NAMES[:2])
    found = interpolation_error(grid, components=10, float64=True)
    np.testing.assert_array_equal(found.count, [4, 4])
    # By hand: each inner Teff left out, its inner spectra fitted by scipy with what remains.
    off, wrong = [], []
    for left in (1, 2):
        keep = np.delete(np.arange(4), left)
        rest = dataclasses.replace(grid, nodes=(grid.nodes[0][keep], grid.nodes[1]), flux=grid.flux[keep])
        model = interpolate_grid(rest, components=10)
        for j in (1, 2):
            truth, flux = np.array([grid.nodes[0][left], grid.nodes[1][j]]), grid.flux[left, j]

            def residual(x: np.ndarray, flux: np.ndarray = flux, model: Interpolator = model) -> np.ndarray:
                return (model_spectra(model, [x * [1000, 1]], float64=True)[0] / flux - 1) / 0.01

            off.append(least_squares(residual, truth / [1000, 1], xtol=1e-12).x * [1000, 1] - truth)
            wrong.append(model_spectra(model, truth[None], float64=True)[0] - flux)
    np.testing.assert_allclose(found.rms[0], np.sqrt(np.mean(np.square(off), axis=0)), rtol=1e-2)
    np.testing.assert_allclose(found.flux_rms[0], np.sqrt(np.mean(np.square(wrong))), rtol=1e-3)
    np.testing.assert_allclose(found.own, np.sqrt(np.sum((found.rms / 8) ** 2, axis=0)))
