"""A made grid: smooth spectra of three labels with degeneracies, on few samples; and stars whose models are wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache

import numpy as np

import xpjax
from xpjax.stellar import StellarGrid, interpolate_grid, model_spectra, read_grid
from xpjax.xp import SourceTable

NODES = (
    np.array([4000.0, 4200, 4400, 4600, 4800, 5000, 5400, 5800, 6200]),
    np.array([3.5, 4.0, 4.5, 5.0]),
    np.array([-1.5, -1.0, -0.5, 0.0, 0.3]),
)
WAVELENGTH = np.geomspace(360.0, 990.0, 80)
NAMES = ("teff", "logg", "mh")


def spectrum(labels: np.ndarray, wavelength: np.ndarray = WAVELENGTH) -> np.ndarray:
    """Mean-normalized spectra (..., n) of labels (..., 3): a black body, bands that depend on all labels, a break."""
    teff, logg, mh = (np.asarray(labels, float)[..., i, None] for i in range(3))
    x = wavelength
    flux = x**-5.0 / np.expm1(1.4388e7 / (x * teff))
    strength = 0.3 * np.exp(0.8 * mh) * (5500 / teff) ** 2
    flux = flux * np.exp(-strength * np.exp(-(((x - 430) / 30) ** 2)) * (1 + 0.3 * (logg - 4)))
    flux = flux * np.exp(-0.25 * (5000 / teff) ** 4 * np.exp(-(((x - 517) / 15) ** 2)) * (0.6 + 0.5 * (logg - 4)))
    flux = flux * (1 + 0.1 * np.exp(0.5 * mh) * np.tanh((x - 400) / 8))
    flux = flux * (1 - 0.08 * (teff / 6000) ** 3 * np.exp(-(((x - 656) / 9) ** 2)) * (1 - 0.2 * (logg - 4)))
    return flux / flux.mean(axis=-1, keepdims=True)


def made_grid(nodes: tuple[np.ndarray, ...] = NODES, holes: tuple[tuple[int, ...], ...] = ()) -> StellarGrid:
    flux = spectrum(np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1))
    for hole in holes:
        flux[hole] = np.nan
    return StellarGrid(nodes, flux, WAVELENGTH, NAMES)


def tensor(grid: StellarGrid, labels: np.ndarray, one: Callable[..., Callable[[float], np.ndarray]]) -> np.ndarray:
    """Spectra by a one-dimensional interpolator of scipy, label after label."""
    out = []
    for point in labels:
        values = np.asarray(grid.flux)
        for nodes, x in zip(grid.nodes, point, strict=True):
            values = one(nodes, values, axis=0)(x)
        out.append(values)
    return np.array(out)


def made_labels(n: int, seed: int = 0) -> np.ndarray:
    low, high = ([x[i] for x in NODES] for i in (0, -1))
    return np.random.default_rng(seed).uniform(low, high, (n, 3))


LABEL_ERROR = np.array([40.0, 0.05, 0.04])


@cache
def warm_grid() -> StellarGrid:
    """The shipped grid without the errors that it has, and cool, hot and extreme models."""
    grid = read_grid("ck04").select({"teff": (4500, 7500), "logg": (3.5, 5), "mh": (-1.5, 0.5)})
    return dataclasses.replace(grid, systematic=None, systematic_variance=None)


@cache
def wrong_stars(n: int, wrong: float = 1.0) -> tuple[SourceTable, np.ndarray, np.ndarray, np.ndarray]:
    """Sources whose models are wrong in four common ways, their labels, E(B-V), and the ways (4, n_wavelength)."""
    rng, x = np.random.default_rng(5), np.asarray(warm_grid().wavelength, float)
    labels = np.column_stack([rng.uniform(5000, 7000, n), rng.uniform(4.0, 4.6, n), rng.uniform(-0.8, 0.2, n)])
    ebv = rng.exponential(0.05, n).clip(0, 0.3)
    ways = wrong * np.stack(
        [0.015 * np.sin(x / 60), 0.01 * np.cos(x / 35), 0.02 * np.exp(-(((x - 430) / 20) ** 2)), 0.006 * np.sin(x / 14)]
    )
    flux = model_spectra(interpolate_grid(warm_grid()), labels, float64=True) * (1 + rng.normal(size=(n, 4)) @ ways)
    made = xpjax.observe(x, flux, g_mag=rng.uniform(9, 12, n), ebv=ebv, noise=3, extend=True, correction="standard")
    columns = {"ebv_known": ebv, "ebv_known_error": np.full(n, 0.01)}
    ids = np.arange(1, n + 1) << 35
    return dataclasses.replace(made, source_id=ids, columns=columns), labels, ebv, ways


def known_labels(n: int, wrong: float = 1.0) -> dict[str, np.ndarray]:
    """Labels of these stars as spectroscopy has them."""
    (table, labels, ebv, _), rng = wrong_stars(n, wrong), np.random.default_rng(6)
    found = {"source_id": table.source_id, "ebv": ebv, "ebv_error": np.full(n, 0.01)}
    for k, name in enumerate(warm_grid().names):
        found[name] = labels[:, k] + rng.normal(size=n) * LABEL_ERROR[k]
        found[f"{name}_error"] = np.full(n, LABEL_ERROR[k])
    return found
