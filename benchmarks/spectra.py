"""Coefficients in host memory to 343-sample absolute spectra, with and without errors, against GaiaXPy."""

from __future__ import annotations

import numpy as np

import xpjax
from benchmarks.harness import Row, beside_correlations, compacted, copy_limit, measure, product_limit
from benchmarks.peers import gaiaxpy_calibrate
from xpjax.xp import Sampler, simulate
from xpjax.xp.sources import XPCoefficients


def run(quick: bool) -> list[Row]:
    n, n_error, n_peer, repeats = (50_000, 5_000, 300, 2) if quick else (500_000, 50_000, 10_000, 3)
    base = simulate.simulate_sources(n_error, seed=2)
    value = xpjax.core.engine.aligned((n, base.release.n_basis_total))
    value[:] = np.resize(base.coefficients.value, value.shape)
    copy = copy_limit()
    n_sample = len(xpjax.load_instrument().wavelength)
    flux = measure(
        "spectra",
        f"{n_sample} fluxes, no errors",
        n,
        lambda: xpjax.spectra(XPCoefficients(value), errors=False),
        repeats,
        bytes_per_source=4 * (base.release.n_basis_total + n_sample + 1),
    )
    part = base[:2000]
    exact, found = xpjax.spectra(part, float64=True), xpjax.spectra(part)
    sums = np.abs(part.coefficients.value.astype(float)) @ np.abs(xpjax.load_instrument().design().value) * 1e-18
    flux.error = float(np.max(np.abs(found.flux - exact.flux) / sums))
    flux.error_of = "flux, relative to sum |c_i d_i|"
    errors = measure(
        "spectra",
        f"{n_sample} fluxes, full-correlation errors",
        n_error,
        lambda: xpjax.spectra(base),
        repeats,
        bytes_per_source=4 * (2 * base.release.n_basis_total + base.release.n_pair_total + 2 * n_sample + 1),
    )
    errors.error = float(np.max(np.abs(found.flux_error / exact.flux_error - 1)))
    errors.error_of = "flux error, relative to float64"
    for row in (flux, errors):
        row.ratios["copy limit"] = row.bandwidth / copy
    flux.ratios["matrix product alone"] = flux.rate / product_limit(base.release.n_basis_total, n_sample)
    packed, options = compacted(base), {"truncate": False, "correlation": False, "float64": False, "devices": None}
    sampler = Sampler.of(base.release, errors=True, **options)
    covariance = packed.coefficients.covariance
    assert covariance is not None
    compact = measure(
        "spectra",
        f"{n_sample} fluxes, errors of compact covariances",
        n_error,
        lambda: sampler(packed),
        repeats,
        bytes_per_source=4 * (base.release.n_basis_total + 2 * n_sample + 1) + covariance.subspace.leading.n_bytes,
    )
    beside_correlations(compact, lambda: sampler(packed), lambda: sampler(base), repeats)
    compact.error = float(np.max(np.abs(xpjax.spectra(packed[:2000]).flux_error / exact.flux_error - 1)))
    compact.error_of = "flux error, relative to float64 with correlations"
    rows = [flux, errors, compact]
    try:
        peer = gaiaxpy_calibrate(base[:n_peer])
    except ImportError:
        return rows
    for row in rows:
        row.ratios["gaiaxpy calibrate"] = row.rate / peer.rate
    return [*rows, peer]
