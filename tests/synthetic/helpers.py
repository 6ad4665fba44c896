"""Made passbands and chains, and curves of others."""

from __future__ import annotations

import numpy as np

import xpjax
from xpjax.synthetic.passband import Passband

X = np.arange(380.23, 900.0, 0.71)
TOML = """
name = "Test"
wavelength = [330, 1050, 2]
[atmosphere]
site = "xinglong"
airmass = 1.2
water = 5.0
[[optics]]
curve = "aluminium"
count = 2
[[optics]]
name = "corrector"
value = 0.9
[detector]
curve = "imx455"
slope = 0.02
[filter.g]
curve = "g.csv"
[filter.r]
curve = "r.txt"
unit = "angstrom"
shift = 1.5
scale = 1.02
"""
GRID = np.arange(400.0, 601.0)


def gaussian(
    step: float, center: float = 520.0, sigma: float = 30.0, name: str = "made", **options: object
) -> Passband:
    grid = np.arange(center - 6 * sigma, center + 6 * sigma + step / 2, step)
    return Passband(name, grid, 0.9 * np.exp(-0.5 * ((grid - center) / sigma) ** 2), **options)  # type: ignore[arg-type]


def speclite(name: str, **options: object) -> Passband:
    from speclite.filters import load_filter

    curve = load_filter(name)
    short = name.split("-")[1]
    return Passband(short, curve.wavelength / 10, np.asarray(curve.response), **options)  # type: ignore[arg-type]


def magnitudes(sources: object, system: object) -> np.ndarray:
    return xpjax.photometry(sources, system, errors=False, float64=True).magnitude  # type: ignore[arg-type]


def bell(x: np.ndarray, center: float, width: float) -> np.ndarray:
    return 0.9 * np.exp(-0.5 * ((x - center) / width) ** 4)
