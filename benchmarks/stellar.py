"""Stellar labels on the regular block of NextGen: how exact, how many are missed, how fast.

Needs ../shared/data/grids/nextgen beside the project; without it the tests' made grid stands in, and rows say so.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

from benchmarks.harness import Row, measure
from tests.stellar.helpers import made_grid, tensor
from xpjax.linalg import pack
from xpjax.stellar.fit import StellarFit, fit_stars, interpolation_error
from xpjax.stellar.grid import StellarGrid, build_grid
from xpjax.stellar.interpolation import Interpolator, interpolator, model_spectra

NEXTGEN = Path(__file__).parents[2] / "shared" / "data" / "grids" / "nextgen" / "nextgen_1nm_300_1100.npz"
BLOCK = {"teff": (4000, 7000, 200), "logg": (3.5, 5.0, 0.5), "mh": (-1.5, 0.0, 0.5)}
SNR = 100.0


def block() -> tuple[StellarGrid, str]:
    if NEXTGEN.exists():
        return build_grid("nextgen", NEXTGEN, limits=BLOCK), "NextGen 4000..7000 K, logg 3.5..5, [M/H] -1.5..0"
    return made_grid(), "made grid: NextGen is not present"


def labels_in(grid: StellarGrid, n: int, seed: int) -> np.ndarray:
    low, high = ([x[i] for x in grid.nodes] for i in (0, -1))
    return np.random.default_rng(seed).uniform(low, high, (n, len(grid.names)))


def noisy(truth: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    noise = truth / SNR
    flux = truth + noise * np.random.default_rng(seed).normal(size=truth.shape)
    return flux.astype(np.float32), noise.astype(np.float32)


def mad(x: np.ndarray) -> np.ndarray:
    return 1.4826 * np.nanmedian(np.abs(x - np.nanmedian(x, axis=0)), axis=0)


def missed(model: Interpolator, labels: np.ndarray, flux: np.ndarray, error: np.ndarray, fit: StellarFit) -> float:
    """Fraction of fits whose chi2 is above that of the truth."""
    mean = flux.mean(axis=1, keepdims=True, dtype=float)
    truth = model_spectra(model, labels, float64=True)
    return float(np.mean(fit.chi2 > np.sum(((flux / mean - truth) / (error / mean)) ** 2, axis=1) + 0.05))


def describe(row: Row, fit: StellarFit, labels: np.ndarray) -> Row:
    good = fit.status == 0
    pull = mad(((fit.labels - labels) / fit.error)[good])
    for k, name in enumerate(fit.names):
        row.ratios[f"1.48 MAD {name}"] = float(mad(fit.labels - labels)[k])
        row.ratios[f"pull {name}"] = float(pull[k])
    row.ratios["converged inside"] = float(good.mean())
    return row


def accuracy(grid: StellarGrid, note: str, quick: bool) -> list[Row]:
    """Mocks made with the fit's own interpolator, and with others."""
    n = 5000 if quick else 40_000
    labels = labels_in(grid, n, 0)
    rows = []
    for kind in ("spline", "local"):
        model = interpolator(grid, kind=kind)
        flux, error = noisy(model_spectra(interpolator(grid, kind=kind, components=None), labels, float64=True))
        start = time.perf_counter()
        fit = fit_stars(flux, error, model)
        row = Row("stellar", f"own mocks, S/N 100, {kind}", n, time.perf_counter() - start, note=note)
        row.error, row.error_of = missed(model, labels, flux, error, fit), "fraction of missed minima"
        rows.append(describe(row, fit, labels))
    some = labels[: 400 if quick else 3000]
    for name, one in (("PCHIP", PchipInterpolator), ("Akima", Akima1DInterpolator)):
        flux, error = noisy(tensor(grid, some, one))
        for kind in ("spline", "local"):
            start = time.perf_counter()
            fit = fit_stars(flux, error, interpolator(grid, kind=kind))
            row = Row("stellar", f"mocks by scipy's {name}, {kind}", len(some), time.perf_counter() - start, note=note)
            rows.append(describe(row, fit, some))
    return rows


def systematic(grid: StellarGrid, note: str) -> list[Row]:
    """Left-out nodes beside the formal errors."""
    rows = []
    labels = labels_in(grid, 1000, 3)
    for kind in ("spline", "local"):
        start = time.perf_counter()
        found = interpolation_error(grid, kind=kind)
        row = Row("stellar", f"left-out nodes, {kind}", int(found.count.sum()), time.perf_counter() - start, note=note)
        formal = np.nanmedian(
            fit_stars(*noisy(model_spectra(grid, labels)), interpolator(grid, kind=kind)).error, axis=0
        )
        for k, name in enumerate(grid.names):
            row.ratios[f"{name} left out"] = float(np.sqrt(np.nansum(found.rms[:, k] ** 2)))
            row.ratios[f"{name} at own spacing"] = float(found.own[k])
            row.ratios[f"{name} formal, S/N 100"] = float(formal[k])
        rows.append(row)
    return rows


def speed(grid: StellarGrid, note: str, quick: bool) -> list[Row]:
    model = interpolator(grid)
    n = 20_000 if quick else 100_000
    labels = labels_in(grid, n, 5)
    flux, error = noisy(model_spectra(model, labels))
    rows = [
        measure("stellar", f"fit, {case}", n, lambda o=options: fit_stars(flux, error, model, **o), 5, note=note)
        for case, options in (
            ("diagonal errors, two starts", {"starts": 2}),
            ("diagonal errors, three starts", {}),
            ("diagonal errors, one start", {"starts": 1}),
            ("fitted amplitude", {"normalisation": "scale"}),
        )
    ]
    few = 256 if quick else 1024
    size = flux.shape[1]
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    packed = np.asarray(pack(0.9 * np.exp(-distance / 6) + 0.1 * np.eye(size)), np.float32)
    packed = np.tile(packed, (few, 1))
    rows.append(
        measure(
            "stellar",
            "fit, full covariance",
            few,
            lambda: fit_stars(flux[:few], error[:few], model, correlation=packed),
            3,
            note=note,
        )
    )
    for row in rows[1:]:
        row.ratios["time over diagonal, two starts"] = rows[0].rate / row.rate
    return rows


def run(quick: bool) -> list[Row]:
    grid, note = block()
    rows = speed(grid, note, quick) + accuracy(grid, note, quick)
    return rows if quick else rows + systematic(grid, note)
