"""Made corrections, spectra corrected by hand, training sets, and stars with their features."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

import xpjax
from xpjax.extinction import AV_PER_SFD, R_V, extinction_curve
from xpjax.wiggles.epochs import TrainingSettings
from xpjax.wiggles.features import Features, check_names, make_features
from xpjax.wiggles.limits import Limits
from xpjax.wiggles.meaning import Meaning
from xpjax.wiggles.network import BLEND, Network, WiggleCorrection
from xpjax.wiggles.residuals import Residuals
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable
from xpjax.xp.wavelengths import constant_grid

ANY = Limits(None, None, None)


QUICK = TrainingSettings(widths=(32, 32), epochs=60, batch=128)


NAMES = ("BP-RP", "G", "E(B-V)")


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


def fine_grid(model: WiggleCorrection) -> np.ndarray:
    """Dense samples that hold the correction's own wavelengths and the ends of its blend."""
    own = np.asarray(model.wavelength)
    ends = [own[0] - float(model.blend), own[-1] + float(model.blend)]
    return np.unique(np.concatenate([np.arange(330.0, 1050.0, 0.1), own, ends, [1050.0]]))


def by_hand(model: WiggleCorrection, flux: np.ndarray, grid: np.ndarray, table: Features) -> np.ndarray:
    """The paper's steps one after another, in NumPy: deredden, normalize, add, rescale, redden."""
    out = []
    own = np.asarray(model.wavelength)
    per = float(model.per_ebv) if model.dereddens else 0.0
    for f, x, ebv in zip(flux, table.select(model.names).value, table.ebv, strict=True):
        patterns = []
        for network in model.networks:
            h = (x - model.feature_mean) / model.feature_scale
            for k, (weight, bias) in enumerate(zip(network.weight, network.bias, strict=True)):
                h = h @ weight + bias
                h = np.maximum(h, 0) if k < len(network.weight) - 1 else h
            patterns.append(h)
        w = np.interp(grid, own, np.mean(patterns, axis=0))
        t = np.clip(np.maximum(own[0] - grid, grid - own[-1]) / float(model.blend), 0, 1)
        w *= 1 - t**2 * (3 - 2 * t)
        if model.kind == "multiplicative":
            out.append(f * (1 + w))
            continue
        clear = f * 10 ** (0.4 * per * ebv * extinction_curve(grid))
        mean = np.mean(CubicSpline(grid, clear)(own))
        out.append(mean * (clear / mean + w) * 10 ** (-0.4 * per * ebv * extinction_curve(grid)))
    return np.array(out)


@functools.cache
def fine_spectra(n: int = 60) -> xpjax.xp.Spectra:
    return xpjax.spectra(stars()[:n], fine_grid(made_model()), errors=False, float64=True)


def truth(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Wiggles (n, m) of 2 % with zero mean whose phase and size follow the features."""
    color, g, ebv = x.T[:, :, None]
    out = 0.03 * np.sin(grid / 25 + 2 * color) * np.exp(-(grid - 360) / 300) * (1 + 0.1 * (g - 14) - 0.3 * ebv)
    return out - out.mean(axis=1, keepdims=True)


def made(n: int = 1500, noise: float = 0.002, seed: int = 0, **fields: Any) -> Residuals:
    rng = np.random.default_rng(seed)
    grid = np.geomspace(360.0, 990.0, 60)
    x = np.stack([rng.uniform(0, 3, n), rng.uniform(10, 17, n), rng.exponential(0.2, n)], axis=1)
    noisy = noise * rng.normal(size=(n, len(grid)))
    noisy -= noisy.mean(axis=1, keepdims=True)
    how = Meaning("additive", "dereddened", "ccm89", R_V, AV_PER_SFD, truncate=False)
    record: dict[str, Any] = {"residual": truth(x, grid) + noisy, "features": x, "wavelength": grid, "meaning": how}
    return Residuals(np.arange(1, n + 1), NAMES, **{**record, **fields})


def same(a: WiggleCorrection, b: WiggleCorrection) -> bool:
    pairs = [
        (x, y)
        for one, other in zip(a.networks, b.networks, strict=True)
        for x, y in zip((*one.weight, *one.bias), (*other.weight, *other.bias), strict=True)
    ]
    return all(np.array_equal(x, y) for x, y in pairs)
