"""Grids of wavelengths that a user gives: checked before anything is computed on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpjax.core.constants import XP_RANGE
from xpjax.core.errors import XpjaxError, say
from xpjax.core.units import in_unit


def check_grid(grid: Any, limits: tuple[float, float], name: str, unit: str) -> np.ndarray:
    """The grid as float64 (n,), or XpjaxError that says what is wrong: unit, shape, values, order or range."""
    array = np.asarray(in_unit(grid, unit, f"the {name} grid"), float)
    if array.ndim != 1 or array.size == 0:
        raise XpjaxError(f"{name} grid must be one-dimensional and not empty, found shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise XpjaxError(f"{name} grid has {np.sum(~np.isfinite(array))} values that are not finite")
    steps = np.diff(array)
    if np.any(steps <= 0):
        k = int(np.argmax(steps <= 0))
        raise XpjaxError(f"{name} grid must ascend: {array[k]:g} is followed by {array[k + 1]:g}; sort it first")
    inside = np.clip(array, *limits)
    if np.abs(inside - array).max() > 1e-9:  # numpy.arange ends a rounding beyond
        span = f"{limits[0]:g}..{limits[1]:g} {unit}".strip()
        raise XpjaxError(
            f"{name} grid {array[0]:g}..{array[-1]:g} goes beyond {span}, where XP spectra are defined"
            + _hint(array, unit)
        )
    return inside


def _hint(grid: np.ndarray, unit: str) -> str:
    """What else than nm the numbers of a grid beyond XP's wavelengths may be."""
    if unit != "nm":
        return ""
    for other, factor, how in (("Angstrom", 0.1, "Divide them by 10"), ("micrometers", 1e3, "Multiply them by 1000")):
        if XP_RANGE[0] / 2 < factor * grid[0] and factor * grid[-1] < 2 * XP_RANGE[1]:
            remedy = say(", or pass them as an astropy Quantity", ": --wavelength is in nm")
            return f"; are these {other}? {how}{remedy}"
    return ""
