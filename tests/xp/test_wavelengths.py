"""Grids of wavelengths."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xpjax.xp import constant_grid, variable_grid


def test_a_constant_grid_has_equal_ratios() -> None:
    grid = constant_grid()
    assert len(grid) == 330
    np.testing.assert_allclose(grid[1:] / grid[:-1], (990 / 360) ** (1 / 329))


def test_steps_of_a_variable_grid_are_shares_of_a_resolution_element() -> None:
    at = np.linspace(300.0, 1100.0, 50)
    power = 30 + 0.1 * (at - 300)
    grid = variable_grid(at, power, n=500, limits=(400.0, 900.0))
    np.testing.assert_allclose(grid[[0, -1]], [400, 900])
    middle = 0.5 * (grid[1:] + grid[:-1])
    share = np.diff(grid) * np.interp(middle, at, power) / middle
    np.testing.assert_allclose(share, share.mean(), rtol=1e-4)


def test_grids() -> None:
    grid = constant_grid()
    assert len(grid) == 330
    np.testing.assert_allclose(np.diff(np.log(grid)), np.log(990 / 360) / 329, rtol=1e-9)
    own = variable_grid([350.0, 1000.0], [50.0, 50.0], 100, (400.0, 800.0))
    np.testing.assert_allclose(own, np.geomspace(400, 800, 100), rtol=1e-6)


def test_the_variable_grid_of_the_paper(shared: Callable[[str], Path]) -> None:
    """270 points from 360 to 992.1 nm with one share of a resolution element; it is a fifth, not a half."""
    table = np.loadtxt(shared("xp_lsf/xp_resolution.csv"), delimiter=",", skiprows=1)
    grid = variable_grid(table[:, 0], table[:, 1])
    assert (len(grid), grid[0], grid[-1]) == (270, 360.0, 992.1)
    middle = 0.5 * (grid[1:] + grid[:-1])
    share = np.diff(grid) / middle * np.interp(middle, table[:, 0], table[:, 1])
    np.testing.assert_allclose(share, np.median(share), rtol=0.02)
    assert np.median(share) == pytest.approx(0.2, rel=0.02)
