"""A made correction, and stars with their features."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np

from xpjax.extinction import AV_PER_SFD, R_V
from xpjax.wiggles.features import Features, check_names, make_features
from xpjax.wiggles.network import BLEND, Network, WiggleCorrection
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable
from xpjax.xp.wavelengths import constant_grid


@functools.cache
def stars(n: int = 300, seed: int = 5, correlations: bool = False) -> SourceTable:
    """n sources bright enough that every synthetic magnitude is there."""
    table = simulate.simulate_sources(3 * n, seed=seed, correlations=correlations, dtype=np.float64)
    complete = np.isfinite(make_features(table, "no-ebv", float64=True).value).all(axis=1)
    return table[np.flatnonzero(complete & (table.columns["phot_g_mean_mag"] < 17))[:n]]


@functools.cache
def star_features(n: int = 300, seed: int = 5, top_ebv: float = 0.8) -> Features:
    ebv = np.random.default_rng(seed).uniform(0.0, top_ebv, n)
    return make_features(stars(n, seed), ebv=ebv, float64=True)


def made_model(
    widths: tuple[int, ...] = (16, 24),
    names: str | tuple[str, ...] = "paper",
    n_network: int = 1,
    amplitude: float = 0.04,
    wavelength: np.ndarray | None = None,
    smooth: float = 0.0,
    **fields: Any,
) -> WiggleCorrection:
    """Random weights that make patterns of some percent, white or smooth over some nm, for `star_features`."""
    rng = np.random.default_rng(11)
    names = check_names(names)
    grid = constant_grid() if wavelength is None else wavelength
    sizes = (len(names), *widths, len(grid))
    networks = []
    for _ in range(n_network):
        weight = [rng.normal(size=s) * np.sqrt(2 / s[0]) for s in itertools.pairwise(sizes)]
        weight[-1] *= amplitude / 2
        bias = [0.1 * rng.normal(size=n) for n in sizes[1:]]
        bias[-1] *= amplitude
        if smooth:
            far = (grid[:, None] - grid) / smooth
            kernel = np.exp(-0.5 * far**2)
            kernel /= np.sqrt((kernel**2).sum(axis=0))
            weight[-1], bias[-1] = weight[-1] @ kernel, bias[-1] @ kernel
        networks.append(Network(tuple(weight), tuple(bias)))
    value = star_features().select(names).value
    good = value[np.isfinite(value).all(axis=1)]
    defaults: dict[str, Any] = {
        "low": good.min(axis=0),
        "high": good.max(axis=0),
        "blend": np.asarray(BLEND),
        "r_v": np.asarray(R_V),
        "per_ebv": np.asarray(AV_PER_SFD),
        "systematic": None,
    }
    return WiggleCorrection(
        tuple(networks), good.mean(axis=0), good.std(axis=0), wavelength=grid, names=names, **{**defaults, **fields}
    )
