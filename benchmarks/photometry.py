"""Coefficients in host memory to 12 magnitudes, with and without errors, against GaiaXPy and the copy limit."""

from __future__ import annotations

import numpy as np

import xpjax
from benchmarks.harness import Row, copy_limit, measure, product_limit
from benchmarks.peers import gaiaxpy_generate, reference_flux
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable, XPCoefficients

SYSTEM = "JPLUS"


def run(quick: bool) -> list[Row]:
    system = xpjax.load_system(SYSTEM)
    n, n_error, n_peer = (200_000, 20_000, 500) if quick else (2_000_000, 100_000, 10_000)
    repeats = 3 if quick else 5
    base = simulate.simulate_sources(n_error, seed=1)
    plain = tile(base, n)

    copy = copy_limit()
    rows = []
    # float32 in and out: 110 coefficients; flux and magnitude in 12 bands and a status word.
    moved = 4 * (system.release.n_basis_total + 2 * system.n_band + 1)
    magnitudes = measure(
        "photometry",
        f"{system.n_band} magnitudes, no errors",
        n,
        lambda: xpjax.photometry(plain, system, errors=False),
        repeats,
        bytes_per_source=moved,
    )
    magnitudes.error, magnitudes.error_of = flux_error_bound(base, system)
    magnitudes.ratios["copy limit"] = magnitudes.bandwidth / copy
    magnitudes.ratios["matrix product alone"] = magnitudes.rate / product_limit(
        system.release.n_basis_total, system.n_band
    )
    magnitudes.note = f"copy limit {copy / 1e9:.1f} GB/s read + written: numpy.copyto, float32, a slice a core"
    rows.append(magnitudes)

    moved = 4 * (2 * system.release.n_basis_total + system.release.n_pair_total + 4 * system.n_band + 1)
    errors = measure(
        "photometry",
        f"{system.n_band} magnitudes, full-correlation errors",
        n_error,
        lambda: xpjax.photometry(base, system),
        repeats,
        bytes_per_source=moved,
    )
    part = base[:2000]
    exact = xpjax.photometry(part, system, float64=True).flux_error
    errors.error = float(np.nanmax(np.abs(xpjax.photometry(part, system).flux_error / exact - 1)))
    errors.error_of = "flux error, relative to float64"
    errors.ratios["copy limit"] = errors.bandwidth / copy
    rows.append(errors)

    try:
        peer = gaiaxpy_generate(base[:n_peer], SYSTEM)
    except ImportError:
        return rows
    rows.append(peer)
    magnitudes.ratios["gaiaxpy generate"] = magnitudes.rate / peer.rate
    errors.ratios["gaiaxpy generate"] = errors.rate / peer.rate
    return rows


def tile(table: SourceTable, n: int) -> XPCoefficients:
    """Coefficients of n sources, repeated from a table, where a reader would put them."""
    value = xpjax.core.engine.aligned((n, table.release.n_basis_total))
    for start in range(0, n, len(table)):
        value[start : start + len(table)] = table.coefficients.value[: n - start]
    return XPCoefficients(value, release=table.release)


def flux_error_bound(table: SourceTable, system: xpjax.PhotometricSystem) -> tuple[float, str]:
    """The worst error of float32 fluxes, relative to sum |c_i r_i|, of bands that are plain products."""
    exact, sums = reference_flux(table, system)
    found = xpjax.photometry(table, system, errors=False).flux
    plain = ~np.array(system.standardized)
    return float(np.max((np.abs(found - exact) / sums)[:, plain])), "flux, relative to sum |c_i r_i|"
