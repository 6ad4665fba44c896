"""How exact are magnitudes and errors? All published systems on files of real sources, against GaiaXPy, live.

    python -m benchmarks.exactness FILE [FILE ...]

Prints, in float64 and float32, the worst relative differences of fluxes, flux errors and spectra, the worst flux error
relative to sum |c_i r_i|, which share of magnitudes agrees to 1e-5 mag, and the bands where the others lie.
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np

import xpjax
from benchmarks.peers import frame, quiet
from xpjax.records import SourceTable, XPCoefficients


def complete(table: SourceTable) -> SourceTable:
    """The table with ones and zeros where it has no errors and correlations: GaiaXPy asks for them."""
    c, n = table.coefficients, len(table)
    release = table.release
    error = np.ones_like(c.value) if c.error is None else c.error
    correlation = np.zeros((n, release.n_pair_total)) if c.correlation is None else c.correlation
    relevant = np.tile(release.n_basis, (n, 1)) if c.n_relevant is None else c.n_relevant
    coefficients = XPCoefficients(c.value, error, correlation, relevant, release)
    return SourceTable(table.source_id, coefficients, table.status, {}, table.origin)


def report(path: str) -> None:
    from gaiaxpy import PhotometricSystem, calibrate, generate

    table = xpjax.read(path)
    known = table.coefficients.correlation is not None
    table = complete(table)
    names = xpjax.available_systems()
    system = xpjax.system(*names)
    data = frame(table)
    grid = np.arange(340.0, 1040.0, 3.3)
    with quiet():
        photometry = generate(data.copy(), [PhotometricSystem[name] for name in names], save_file=False)
        spectra, _ = calibrate(data.copy(), save_file=False)
        custom, _ = calibrate(data.copy(), sampling=grid, save_file=False)
    pairs = list(zip(system.labels, system.names, strict=True))
    expected = {
        k: photometry[[f"{a}_{k}_{b}" for a, b in pairs]].to_numpy(float) for k in ("mag", "flux", "flux_error")
    }
    value = table.coefficients.value.astype(float)
    sums = np.abs(value) @ np.abs(np.asarray(system.projection) * np.asarray(system.scale))
    linear = np.ones(system.n_band, bool)
    linear[[e.band for e in system.color_equations]] = False
    print(f"{path}: {len(table)} sources, {system.n_band} bands, errors {'known' if known else 'made'}")
    for float64 in (True, False):
        found = xpjax.photometry(table, system, float64=float64)
        difference = np.abs(found.magnitude - expected["mag"])
        both = np.isfinite(difference)
        odd = np.sum(np.isnan(found.magnitude) != np.isnan(expected["mag"]))
        print(
            f"  float{64 if float64 else 32}: flux {relative(found.flux, expected['flux']):.1e}, "
            f"flux error {relative(found.flux_error, expected['flux_error']):.1e} (relative); "
            f"flux / sum|c r| {np.nanmax(np.abs(found.flux - expected['flux'])[:, linear] / sums[:, linear]):.1e}; "
            f"magnitude worst {difference[both].max():.1e}, {100 * np.mean(difference[both] <= 1e-5):.3f} % within "
            f"1e-5 of {both.sum()}; NaN in one only {odd}"
        )
        far = Counter(system.columns[k] for k in np.nonzero(both & (difference > 1e-5))[1])
        if far:
            print("    beyond 1e-5 mag:", ", ".join(f"{name} {count}" for name, count in far.most_common()))
        for name, reference, points in (("default grid", spectra, None), ("custom grid", custom, grid)):
            ours = xpjax.spectra(table, points, float64=float64)
            flux, error = np.stack(reference.flux), np.stack(reference.flux_error)
            unit = np.abs(value) @ np.abs(np.asarray(xpjax.instrument().design(points).value)) * 1e-18
            print(
                f"    spectra, {name}: flux / sum|c d| {np.max(np.abs(ours.flux - flux) / unit):.1e}, "
                f"flux {relative(ours.flux, flux):.1e}, error {relative(ours.flux_error, error):.1e} (relative)"
            )


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest relative difference where both are finite."""
    both = np.isfinite(found) & np.isfinite(expected) & (expected != 0)
    return float(np.max(np.abs(found[both] - expected[both]) / np.abs(expected[both])))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        report(argument)
