"""Coefficients in host memory to 12 magnitudes, with and without errors, against GaiaXPy and the copy limit."""

from __future__ import annotations

import numpy as np

import xpjax
from benchmarks.harness import Row, beside_correlations, compacted, copy_limit, measure, product_limit
from benchmarks.peers import gaiaxpy_generate, reference_flux
from xpjax.synthetic import Photometer, as_system
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
    every = as_system(list(xpjax.available_systems()))
    compact = [compact_errors(base, system, repeats), compact_errors(base[: n_error * 2 // 5], every, repeats)]
    corrected = as_system(SYSTEM, "standard")
    rows += [*compact, compact_errors(base[: n_error * 2 // 5], corrected, repeats)]
    try:
        peer = gaiaxpy_generate(base[:n_peer], SYSTEM)
    except ImportError:
        return rows
    rows.append(peer)
    for row in (magnitudes, errors, compact[0]):
        row.ratios["gaiaxpy generate"] = row.rate / peer.rate
    return rows


def compact_errors(table: SourceTable, system: xpjax.PhotometricSystem, repeats: int) -> Row:
    """Magnitudes with errors from compact covariances, beside the same from correlations."""
    packed, photometer = compacted(table), Photometer(system)
    covariance = packed.coefficients.covariance
    assert covariance is not None
    release, axes = system.release, photometer.serving(covariance.subspace)
    row = measure(
        "photometry",
        f"{'corrected: ' * axes.whole}{system.n_band} magnitudes, errors of compact covariances",
        len(table),
        lambda: photometer(packed),
        repeats,
        bytes_per_source=4 * (release.n_basis_total + 4 * system.n_band + 1) + axes.n_bytes,
    )
    beside_correlations(row, lambda: photometer(packed), lambda: photometer(table), repeats)
    part, plain = slice(0, 2000), ~np.array(system.standardized)  # others have errors that grow with flux / bias
    exact = xpjax.photometry(table[part], system, float64=True).flux_error
    off = np.abs(photometer(packed[part]).flux_error / exact - 1)  # type: ignore[operator]
    row.error, row.error_of = float(np.nanmax(off[:, plain])), "flux error, relative to float64 with correlations"
    if not axes.whole:
        drawn = [int(n) for n in system.needs.sum(axis=1)]
        product = sum(1 / product_limit(width, n) for width, n in zip(axes.widths, drawn, strict=True))
        row.ratios["matrix products alone"] = row.rate * product
    return row


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
