"""How exact are magnitudes and errors? All published systems on files of real sources, against GaiaXPy, live.

In float64 and float32: the worst relative differences of fluxes, flux errors and spectra, the worst flux error relative
to sum |c_i r_i|, which share of magnitudes agrees to 1e-5 mag, and the bands where the others lie.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import xpjax
from benchmarks.harness import DATA, Row, absent
from benchmarks.peers import frame, quiet
from xpjax.xp.sources import SourceTable, XPCoefficients

NAMES = ("xp_random_1200.fits", "xp_blue_1800.fits", "xp_bright_corr_20.parquet", "formats/XP_CONTINUOUS_RAW.csv")
FILES = tuple(DATA / "xp" / name for name in NAMES)
GRID = np.arange(340.0, 1040.0, 3.3)


def complete(table: SourceTable) -> SourceTable:
    """The table with ones and zeros where it has no errors and correlations: GaiaXPy asks for them."""
    c, n = table.coefficients, len(table)
    release = table.release
    error = np.ones_like(c.value) if c.error is None else c.error
    correlation = np.zeros((n, release.n_pair_total)) if c.correlation is None else c.correlation
    relevant = np.tile(release.n_basis, (n, 1)) if c.n_relevant is None else c.n_relevant
    coefficients = XPCoefficients(c.value, error, correlation, relevant, release)
    return SourceTable(table.source_id, coefficients, table.status, {}, table.origin)


def compared(path: Path) -> list[Row]:
    """Rows of one file, in both precisions."""
    table = xpjax.read(path)
    name = path.stem + " with correlations" * (table.coefficients.correlation is not None)
    table = complete(table)
    theirs = gaiaxpy(table)
    rows = []
    for float64 in (True, False):
        case = f"{name}, float{64 if float64 else 32}"
        rows += [*magnitudes(case, table, theirs, float64), *spectra(case, table, theirs, float64)]
    return rows


def gaiaxpy(table: SourceTable) -> dict[str, Any]:
    """Photometry and spectra of GaiaXPy, as frames."""
    from gaiaxpy import PhotometricSystem, calibrate, generate

    data = frame(table)
    with quiet():
        systems = [PhotometricSystem[name] for name in xpjax.available_systems()]
        return {
            "photometry": generate(data.copy(), systems, save_file=False),
            "default grid": calibrate(data.copy(), save_file=False)[0],
            "custom grid": calibrate(data.copy(), sampling=GRID, save_file=False)[0],
        }


def magnitudes(case: str, table: SourceTable, theirs: dict[str, Any], float64: bool) -> list[Row]:
    """Fluxes, flux errors and magnitudes of all bands."""
    system = xpjax.load_system(*xpjax.available_systems())
    pairs = list(zip(system.labels, system.names, strict=True))
    expected = {
        kind: theirs["photometry"][[f"{a}_{kind}_{b}" for a, b in pairs]].to_numpy(float)
        for kind in ("mag", "flux", "flux_error")
    }
    sums = np.abs(table.coefficients.value.astype(float)) @ np.abs(projection(system))
    linear = np.ones(system.n_band, bool)
    linear[[e.band for e in system.color_equations]] = False
    started = time.perf_counter()
    found = xpjax.photometry(table, system, float64=float64)
    seconds = time.perf_counter() - started
    difference = np.abs(found.magnitude - expected["mag"])
    both = np.isfinite(difference)
    flux = Row("exactness", f"{case}, fluxes", len(table), seconds)
    flux.error, flux.error_of = relative(found.flux, expected["flux"]), "flux, relative"
    flux.ratios = {
        "over sum |c r|": float(np.nanmax((np.abs(found.flux - expected["flux"]) / sums)[:, linear])),
        "magnitudes within 1e-5": float(np.mean(difference[both] <= 1e-5)),
        "worst magnitude": float(difference[both].max()),
        "NaN in one only": float(np.sum(np.isnan(found.magnitude) != np.isnan(expected["mag"]))),
    }
    far = Counter(system.columns[k] for k in np.nonzero(both & (difference > 1e-5))[1])
    flux.note = "beyond 1e-5 mag: " + (", ".join(f"{name} {count}" for name, count in far.most_common()) or "none")
    error = Row("exactness", f"{case}, flux errors", len(table), seconds)
    error.error, error.error_of = relative(found.flux_error, expected["flux_error"]), "flux error, relative"
    return [flux, error]


def projection(system: xpjax.PhotometricSystem) -> np.ndarray:
    return np.asarray(system.projection) * np.asarray(system.scale)


def spectra(case: str, table: SourceTable, theirs: dict[str, Any], float64: bool) -> list[Row]:
    """Spectra on the default and another grid."""
    rows = []
    value = np.abs(table.coefficients.value.astype(float))
    for name, points in (("default grid", None), ("custom grid", GRID)):
        started = time.perf_counter()
        ours = xpjax.spectra(table, points, float64=float64)
        row = Row("exactness", f"{case}, {name}", len(table), time.perf_counter() - started)
        flux, error = (np.stack(theirs[name][column]) for column in ("flux", "flux_error"))
        unit = value @ np.abs(np.asarray(xpjax.load_instrument().design(points).value)) * 1e-18
        row.error, row.error_of = float(np.max(np.abs(ours.flux - flux) / unit)), "flux, relative to sum |c d|"
        row.ratios = {"flux, relative": relative(ours.flux, flux), "error, relative": relative(ours.flux_error, error)}
        rows.append(row)
    return rows


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest relative difference where both are finite."""
    both = np.isfinite(found) & np.isfinite(expected) & (expected != 0)
    return float(np.max(np.abs(found[both] - expected[both]) / np.abs(expected[both])))


def run(quick: bool) -> list[Row]:
    """A quick run: the two small files."""
    try:
        import gaiaxpy  # noqa: F401
    except ImportError:
        return [absent("exactness", "magnitudes and spectra", "gaiaxpy is not installed")]
    rows = []
    for path in FILES[2:] if quick else FILES:
        rows += compared(path) if path.exists() else [absent("exactness", path.name, f"no {path}")]
    return rows
