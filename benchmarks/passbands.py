"""Passbands: projecting all published bands at once, building systems, fitting a curve, recovered curves."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

import xpjax
from benchmarks.harness import Row, best, measure
from benchmarks.photometry import flux_error_bound, tile
from xpjax.core import engine
from xpjax.synthetic.kernel import project
from xpjax.synthetic.passband import Passband, PassbandSet
from xpjax.synthetic.projection import passband_system
from xpjax.synthetic.recover import GOOD, recover_passbands
from xpjax.xp import simulate
from xpjax.xp.sources import XPCoefficients

WIGGLE = 0.03
MEASURED = ("sdss2010", "panstarrs", "lsst2023", "decamDR1")
MAIN_BANDS = slice(1, 11)
"""J-PLUS without the first and the last, which reach beyond XP."""


def run(quick: bool) -> list[Row]:
    n, repeats, every = (10_000, 2, 4) if quick else (100_000, 7, 1)
    return [projecting(n, repeats), building(repeats), fitting(100), *recovered(every)]


def projecting(n: int, repeats: int) -> Row:
    """All bands at once, against one matrix product of that size."""
    import jax
    import jax.numpy as jnp

    base = simulate.simulate_sources(5000, seed=1, correlations=False)
    sources = tile(base, n)
    system = xpjax.load_system(*xpjax.available_systems())
    row = measure(
        "passbands",
        f"{system.n_band} fluxes and magnitudes",
        n,
        lambda: xpjax.photometry(sources, system, errors=False),
        repeats,
        bytes_per_source=4 * (system.release.n_basis_total + 2 * system.n_band + 1),
    )
    matrix = np.asarray(system.projection, np.float32)
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
    np.asarray(product(sources.value, matrix))
    row.ratios["time of one product"] = row.seconds / best(lambda: np.asarray(product(sources.value, matrix)), repeats)
    bands = dataclasses.replace(system, pair_weight=None, error_correction=None)
    engine.run(_projection, bands, sources)
    row.ratios["fluxes alone, time of one product"] = best(
        lambda: engine.run(_projection, bands, sources), repeats
    ) / best(lambda: np.asarray(product(sources.value, matrix)), repeats)
    row.ratios["time of one NumPy product"] = row.seconds / best(lambda: sources.value @ matrix, repeats)
    row.error, row.error_of = flux_error_bound(base, system)
    return row


def _projection(bands: xpjax.PhotometricSystem, source: XPCoefficients) -> Any:
    return project(bands, source) * bands.scale


def building(repeats: int) -> Row:
    """Twelve curves from their files to a system."""
    row = measure(
        "passbands", "12 curves to a system", 12, lambda: passband_system(xpjax.load_passbands("JPLUS")), repeats
    )
    published = xpjax.load_system("JPLUS")
    mine = passband_system(xpjax.load_passbands("JPLUS"))
    vectors = [np.asarray(s.projection * s.scale) for s in (mine, published)]
    angle = [np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b)) for a, b in zip(*(v.T for v in vectors))]
    row.error, row.error_of = float(max(angle)), "projection vectors, against the published ones"
    row.note = "n is bands"
    return row


def fitting(n_seed: int) -> Row:
    """Shift, width and tilt from 2000 stars at 10 mmag: time, and pulls of every parameter."""
    import jax.numpy as jnp

    from xpjax.synthetic.fit import fit_passband
    from xpjax.synthetic.warp import warped

    truth = {"zero_point": 0.05, "shift": 2.0, "width": 0.03, "tilt": 0.05}
    band = xpjax.load_passbands("JPLUS")["gJPLUS"]
    curve = warped(band)
    with engine.precision(float64=True):
        values = np.asarray(curve({name: jnp.asarray(v) for name, v in truth.items() if name != "zero_point"}))
    true = Passband("g", curve.grid, np.clip(values, 0, None) / values.max())
    stars = simulate.simulate_sources(2000, seed=3, correlations=False, dtype=np.float64)
    exact = xpjax.photometry(stars, true, errors=False, float64=True).magnitude[:, 0] + truth["zero_point"]
    rng = np.random.default_rng(11)
    fits, seconds = [], []
    for _ in range(n_seed):
        observed = exact + rng.normal(0, 0.01, len(exact))
        start = time.perf_counter()
        fits.append(fit_passband(stars, observed, 0.01, band, tuple(truth)))
        seconds.append(time.perf_counter() - start)
    row = Row("passbands", "fit of shift, width and tilt, 2000 stars", len(stars), min(seconds), seconds[0])
    for name, value in truth.items():
        row.ratios[f"pull of {name}"] = float(np.std([(fit[name][0] - value) / fit[name][1] for fit in fits]))
    off = [fit.effective_wavelength - true.mean_wavelength for fit in fits]
    row.error, row.error_of = float(np.sqrt(np.mean(np.square(off)))), "effective wavelength [nm], rms"
    pairs = {f"{a} and {b}": round(r, 3) for a, b, r in fits[0].degenerate}
    row.note = f"{n_seed} seeds; correlations above 0.9: {pairs}"
    return row


def recovered(every: int) -> list[Row]:
    """The shipped curves' residuals, and wiggles of 3 % through curves recovered from vectors of known ones.

    every: one in so many of the known ones.
    """
    bands = [band for name in xpjax.available_systems() for band in xpjax.load_passbands(name)]
    good = sum(band.meta["residual"] < GOOD for band in bands)
    rows = [
        Row(
            "passbands",
            "recovered bands shipped",
            len(bands),
            float("nan"),
            error=float(np.median([band.meta["residual"] for band in bands])),
            error_of="median residual",
            ratios={f"below {GOOD:g}": float(good)},
        )
    ]
    true = [*smoothed(xpjax.load_passbands("JPLUS")).passbands[MAIN_BANDS]]
    true += [band for name in MEASURED for band in xpjax.load_passbands(f"{name}:g,r,i")]
    true = true[::every]
    start = time.perf_counter()
    again = [recover_passbands(passband_system(band))[0] for band in true]
    seconds = time.perf_counter() - start
    for period in (40.0, 80.0):
        worst = max(np.abs(wiggle(a, period) - wiggle(b, period)).max() for a, b in zip(true, again))
        case = f"{WIGGLE:.0%} wiggles of {period:g} nm through recovered curves"
        error_of = f"mmag: J-PLUS's 10 middle bands, warped, and g, r, i of {', '.join(MEASURED)}"
        rows.append(Row("passbands", case, len(true), seconds, error=float(worst), error_of=error_of))
    return rows


def smoothed(bands: PassbandSet) -> PassbandSet:
    """Other curves of the same kind: wider by a tenth and tilted, so that they are not those of a recovery."""
    made = []
    for band in bands:
        center = band.mean_wavelength
        x = center + 1.1 * (band.wavelength - center)
        inside = (x >= 330) & (x <= 1050)
        tilted = band.transmission * (1 + 0.3 * (x - center) / (x[-1] - x[0]))
        made.append(Passband(band.name, x[inside], np.clip(tilted[inside] / tilted.max(), 0, 1)))
    return PassbandSet("true", tuple(made))


def wiggle(band: Passband, period: float) -> np.ndarray:
    """Change [mmag] of a K star's magnitude by wiggles of this period [nm] and eight phases."""
    x = np.arange(300.0, 1150.0, 0.1)
    flux = 1e-15 / (x**5 * (np.exp(14387769 / (x * 4800)) - 1))
    phase = np.linspace(0, 2 * np.pi, 8, endpoint=False)[:, None]
    waved = band.mean_flux(x, flux * (1 + WIGGLE * np.sin(2 * np.pi * x / period + phase)))
    return -2500 * np.log10(waved / band.mean_flux(x, flux))
