"""Made pairs: mock stars seen by an instrument that is wrong."""

from __future__ import annotations

import numpy as np

import xpjax
from xpjax.xp import simulate

N = 32


GRID = xpjax.load_instrument().wavelength


def wrong(model: xpjax.Instrument) -> np.ndarray:
    """The error of an instrument (k, m): a response with waves, and a line spread that is too broad."""
    design = model.default_design
    sharp = np.exp(-0.5 * ((GRID[:, None] - GRID) / 5.0) ** 2)
    sharp /= sharp.sum(axis=1, keepdims=True)
    waves = 0.03 * np.sin(GRID / 25.0) * np.clip((800 - GRID) / 400, 0, 1)
    return np.asarray(design * waves + 0.3 * (design - design @ sharp.T))


def stars(n: int, seed: int) -> np.ndarray:
    """Coefficients of bright mock stars."""
    table = simulate.simulate_sources(60 * n, seed, correlations=False, dtype=np.float64)
    g, color = (np.asarray(table.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    return np.asarray(table.coefficients.value, float)[(g < 13) & (color < 1.6)][:n]
