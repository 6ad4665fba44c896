"""Stellar labels on the regular block of NextGen: how exact, how many are missed, how fast.

Needs ../shared/data/grids/nextgen beside the project; without it the tests' made grid stands in, and rows say so.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.interpolate import Akima1DInterpolator, PchipInterpolator, RBFInterpolator

import xpjax
from benchmarks.harness import DATA, Row, measure, product_flops
from tests.stellar.helpers import made_grid, tensor
from xpjax.core import engine
from xpjax.core.status import FitStatus
from xpjax.stellar.chi2 import Noise, Reach
from xpjax.stellar.fit import fit_labels, prepare
from xpjax.stellar.fitter import LabelFitter
from xpjax.stellar.grid import StellarGrid, build_grid
from xpjax.stellar.interpolation import Interpolator, interpolate_grid, model_spectra
from xpjax.stellar.kernel import Options, Star, fit_kernel
from xpjax.stellar.results import StellarFit
from xpjax.stellar.validation import interpolation_error

NEXTGEN = DATA / "grids" / "nextgen" / "nextgen_1nm_300_1100.npz"
BLOCK = {"teff": (4000, 7000, 200), "logg": (3.5, 5.0, 0.5), "mh": (-1.5, 0.0, 0.5)}
SNR = 100.0
SAMPLE_FLOOR = 0.005
MISSED = "fraction of missed minima"
REGIONS = (("teff", (4000, 5000, 6000, 7000)), ("logg", (3.5, 4.0, 4.5, 5.0)), ("mh", (-1.5, -1.3, -1.0, -0.5, 0.0)))
"""Labels and their bounds, between which pulls are told apart."""


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


def work(
    model: Interpolator, starts: int = 3, normalization: str = "mean", systematic: bool = False, doubt: bool = True
) -> dict[str, Any]:
    """Bytes and operations of a fit, fields of a row: in and out, and its products in the first round of steps."""
    scale, n = normalization == "scale", len(np.asarray(model.wavelength))
    star = Star(np.ones(n, "f4"), np.ones(n, "f4"), *[None] * 5)
    kernel = fit_kernel(Options(int(scale), starts, False, False))
    n_label = len(model.names)
    return {
        "bytes_per_source": 4 * (2 * n + n_label + n_label**2 + 4),
        "flops_per_source": product_flops(kernel, prepare(model, 1, np.zeros(n), 0.0, systematic, doubt), star),
    }


def mocks(grid: StellarGrid, note: str, n: int) -> list[Row]:
    """Mocks made with the fit's own interpolator, which has no error."""
    labels = labels_in(grid, n, 0)
    rows = []
    for kind in ("spline", "local"):
        model = interpolate_grid(grid, kind=kind)
        flux, error = noisy(model_spectra(interpolate_grid(grid, kind=kind, components=None), labels, float64=True))
        row, fit = fitted(f"own mocks, S/N 100, {kind}", flux, error, model, note, doubt=False)
        row.error, row.error_of = missed(model, labels, flux, error, fit), MISSED
        rows.append(describe(row, fit, labels))
    return rows


def other_mocks(grid: StellarGrid, note: str, n: int) -> list[Row]:
    """Mocks made with other interpolators."""
    labels = labels_in(grid, n, 0)
    rows = []
    for name, one in (("PCHIP", PchipInterpolator), ("Akima", Akima1DInterpolator)):
        flux, error = noisy(tensor(grid, labels, one))
        for kind in ("spline", "local"):
            model = interpolate_grid(grid, kind=kind)
            for what, doubt in ((kind, True), (f"{kind}, interpolation not doubted", False)):
                row, fit = fitted(f"mocks by scipy's {name}, {what}", flux, error, model, note, doubt=doubt)
                rows.append(describe(row, fit, labels))
    return rows


def with_holes(note: str, n: int) -> list[Row]:
    """All of NextGen, of which 41.8 % of the nodes have no model: mocks of its regular block, and of all its models."""
    if not NEXTGEN.exists():
        return []
    grid, (regular, _) = build_grid("nextgen", NEXTGEN), block()
    models = ~grid.holes if grid.filled is None else ~grid.holes & ~np.asarray(grid.filled)
    labels, size = labels_in(regular, n, 0), np.array([200.0, 0.5, 0.5])
    made = {
        "of the block by scipy's PCHIP": tensor(regular, labels, PchipInterpolator),
        "of all models by scipy's thin plates": RBFInterpolator(
            grid.labels_of(models) / size, np.asarray(grid.flux)[models], neighbors=60
        )(labels / size),
    }
    model, rows = interpolate_grid(grid), []
    for (name, truth), doubt in itertools.product(made.items(), (True, False)):
        case = f"all of NextGen, mocks {name}" + ", interpolation not doubted" * (not doubt)
        row, fit = fitted(case, *noisy(truth), model, note, doubt=doubt)
        describe(row, fit, labels)
        row.ratios |= far_off(fit, labels) | by_region(fit, labels)
        rows.append(row)
    return rows


def far_off(fit: StellarFit, labels: np.ndarray) -> dict[str, float]:
    """Fractions at holes, and far off in any label."""
    off = fit.labels - labels
    return {
        "HOLE": float(np.mean(fit.status & FitStatus.HOLE > 0)),
        "beyond 8 MAD": float(np.mean((np.abs(off) > 8 * mad(off)).any(axis=1))),
        "beyond 8 sigma": float(np.mean((np.abs(off) > 8 * fit.error).any(axis=1))),
        "beyond 3 sigma": float(np.mean((np.abs(off) > 3 * fit.error).any(axis=1))),
    }


def by_region(fit: StellarFit, labels: np.ndarray) -> dict[str, float]:
    """Pulls, and the fraction beyond 8 sigma, between bounds of each label."""
    pull, out = (fit.labels - labels) / fit.error, {}
    for label, bounds in REGIONS:
        x = labels[:, fit.names.index(label)]
        for low, high in itertools.pairwise(bounds):
            rows = (x >= low) & (x < high)
            found = zip(fit.names, mad(pull[rows]), strict=True)
            out |= {f"pull {name}, {label} {low}..{high}": float(one) for name, one in found}
            out[f"beyond 8 sigma, {label} {low}..{high}"] = float(np.mean((np.abs(pull[rows]) > 8).any(axis=1)))
    return out


def fitted(
    case: str, flux: np.ndarray, error: np.ndarray, model: Interpolator, note: str, repeats: int = 0, **options: Any
) -> tuple[Row, StellarFit]:
    """A row of fits with options of `fit_labels`, and what they found."""
    found: list[StellarFit] = []
    fit = functools.partial(fit_labels, flux, error, model, **options)
    row = measure("stellar", case, len(flux), lambda: found.append(fit()), repeats, note=note)
    return dataclasses.replace(row, **work(model, **options)), found[-1]  # counted after: tracing is part of compiling


def systematic(grid: StellarGrid, note: str) -> list[Row]:
    """Left-out nodes beside the formal errors."""
    rows = []
    labels = labels_in(grid, 1000, 3)
    for kind in ("spline", "local"):
        start = time.perf_counter()
        found = interpolation_error(grid, kind=kind)
        row = Row("stellar", f"left-out nodes, {kind}", int(found.count.sum()), time.perf_counter() - start, note=note)
        formal = np.nanmedian(
            fit_labels(*noisy(model_spectra(grid, labels)), interpolate_grid(grid, kind=kind), doubt=False).error,
            axis=0,
        )
        for k, name in enumerate(grid.names):
            row.ratios[f"{name} left out"] = float(np.sqrt(np.nansum(found.rms[:, k] ** 2)))
            row.ratios[f"{name} at own spacing"] = float(found.own[k])
            row.ratios[f"{name} formal, S/N 100"] = float(formal[k])
        rows.append(row)
    return rows


def speed(grid: StellarGrid, note: str, n: int, repeats: int, cases: dict[str, dict[str, Any]]) -> list[Row]:
    """Spectra a second, with options of `fit_labels`; systematic: with eight errors of 1 % common to stars; doubt: with
    those of the grid's interpolation."""
    x = np.linspace(0, np.pi, len(grid.wavelength))
    templates = 0.01 * np.array([np.cos(k * x) for k in range(1, 9)])
    model = interpolate_grid(dataclasses.replace(grid, systematic=templates))
    labels = labels_in(grid, n, 5)
    flux, error = noisy(model_spectra(model, labels))
    rows = []
    for case, own in cases.items():
        options = {"systematic": False, "doubt": False, **own}
        row, fit = fitted(f"fit, {case}", flux, error, model, note, repeats, **options)
        row.error, row.error_of = missed(model, labels, flux, error, fit), MISSED
        row.ratios["time over the first"] = rows[0].rate / row.rate if rows else 1.0
        rows.append(describe(row, fit, labels))
    return rows


def full_covariance(grid: StellarGrid, note: str, n: int = 512) -> list[Row]:
    """Spectra a second where samples have the noise of coefficients, beside the matrix of all samples in float32.

    Labels are compared with those by this matrix in float64.
    """
    model, labels = interpolate_grid(dataclasses.replace(grid, doubt=None)), labels_in(grid, n, 5)
    wavelength = np.asarray(model.wavelength, float)
    table = xpjax.simulate_sources(8 * n, seed=1)
    g = table.columns["phot_g_mean_mag"]
    table = table[np.flatnonzero((g > 13) & (g < 17))[:n]]
    made = xpjax.spectra(table, wavelength, correlation=True)
    error = made.flux_error / made.flux.mean(axis=1, keepdims=True)
    flux = model_spectra(model, labels)
    flux *= 1 + SAMPLE_FLOOR * np.random.default_rng(1).normal(size=flux.shape).astype(np.float32)
    design = xpjax.load_instrument().design(wavelength)
    value = np.asarray(design.value, float)
    star = Star(flux, error, made.correlation, *[None] * 4)
    shared = prepare(model, 1, np.zeros(len(wavelength)), SAMPLE_FLOOR)
    kernel = fit_kernel(Options(0, 3, False, False))

    def dense() -> dict[str, np.ndarray]:
        return engine.run(kernel, shared, star, batch_rows=64)

    some, rows = slice(0, 64), []
    exact = xpjax.spectra(table[some], wavelength, correlation=True, float64=True).correlation
    true = engine.run(kernel, shared, Star(flux[some], error[some], exact, *[None] * 4), float64=True, batch_rows=64)
    sigma = np.sqrt(np.diagonal(true["covariance"], axis1=1, axis2=2))
    matrix = processor(dense)
    for kind, c in (("errors and correlations", table.coefficients), ("compact", table.coefficients.compact())):
        seen = [value[rows] for rows in c.release.slices]
        if c.covariance is not None:
            seen = [c.covariance.subspace.seen(value, k) for k in range(len(seen))]
        parts = tuple(one[:, a:b] for one, (a, b) in zip(seen, design.support, strict=True))
        noise = Noise(Reach(parts, design.support), c.of_errors(True, False))
        fit = functools.partial(fit_labels, flux, error, model, correlation=noise, error_floor=SAMPLE_FLOOR)
        row = measure("stellar", f"fit, full covariance, {kind}", n, fit, 2, note=note)
        row.ratios["processor time of the dense matrix in float32 over this"] = matrix / processor(fit)
        off = np.abs(fit().labels[some] - true["labels"]) / sigma
        row.error, row.error_of = float(np.nanmax(off)), "labels, in errors, against the dense matrix in float64"
        rows.append(row)
    return rows


def by_default(n: int, repeats: int) -> list[Row]:
    """Sources a second as LabelFitter and commands fit them: four labels on ck04, corrected, with common errors."""
    rows = []
    table = xpjax.simulate_sources(n, seed=1)
    compact = dataclasses.replace(table, coefficients=table.coefficients.compact())
    cases = (("", compact, {}), (", E(B-V) known", compact, {"ebv": 0.0}),
             (", without common errors", compact, {"options": {"systematic": False}}))  # fmt: skip
    for name, sources, options in cases:
        fitter = LabelFitter(**options)
        row = measure("stellar", f"labels of sources, ck04{name}", n, functools.partial(fitter, sources), repeats)
        model = fitter.model
        row.note = f"{len(model.names)} labels, {len(model.wavelength)} samples"
        if model.systematic is not None and not options.get("options"):
            row.note += f", {len(model.systematic)} templates"
        rows.append(row)
    return rows


def processor(function: Callable[[], Any], repeats: int = 3) -> float:
    """The least processor time [s] of some calls after the first."""
    function()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return min(taken)


def run(quick: bool) -> list[Row]:
    """A quick run: two starts."""
    grid, note = block()
    two: dict[str, dict[str, Any]] = {
        "diagonal errors, two starts": {"starts": 2},
        "diagonal errors and common ones, two starts": {"starts": 2, "systematic": True},
    }
    if quick:
        return speed(grid, note, 10_000, 1, two)
    others = {
        "diagonal errors, three starts": {},
        "diagonal errors, one start": {"starts": 1},
        "fitted amplitude": {"normalization": "scale"},
        "diagonal errors, common ones and the grid's own, two starts": {"starts": 2, "systematic": True, "doubt": True},
    }
    return [
        *speed(grid, note, 100_000, 5, two | others), *by_default(16_384, 2), *full_covariance(grid, note),
        *mocks(grid, note, 40_000), *other_mocks(grid, note, 3000), *with_holes(note, 3000), *systematic(grid, note),
    ]  # fmt: skip
