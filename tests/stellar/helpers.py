"""A made grid: smooth spectra of three labels with degeneracies, on few samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpjax.stellar.grid import StellarGrid

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
