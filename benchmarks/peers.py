"""What others do with the same sources: GaiaXPy's public functions, and plain NumPy as the float64 reference."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator

import numpy as np
import pandas as pd

import xpjax
from benchmarks.harness import Row, measure
from xpjax.xp.sources import SourceTable


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """GaiaXPy without its progress bars, whose stream is chosen when it is imported."""
    before = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(null)


def frame(table: SourceTable) -> pd.DataFrame:
    """The sources as GaiaXPy takes them: a DataFrame with array cells."""
    c, release = table.coefficients, table.release
    data = {"source_id": table.source_id}
    for k, xp in enumerate(release.xp):
        value = c.value[:, release.slices[k]].astype(float)
        data[f"{xp}_coefficients"] = list(value)
        data[f"{xp}_coefficient_errors"] = list(c.error[:, release.slices[k]].astype(float))
        data[f"{xp}_coefficient_correlations"] = list(c.correlation[:, release.pair_slices[k]].astype(float))
        data[f"{xp}_n_parameters"] = np.full(len(table), float(release.n_basis[k]))
        data[f"{xp}_standard_deviation"] = np.ones(len(table))
        data[f"{xp}_n_relevant_bases"] = c.n_relevant[:, k]
        data[f"{xp}_basis_function_id"] = 56 + k
    return pd.DataFrame(data)


def gaiaxpy_generate(table: SourceTable, system: str) -> Row:
    """GaiaXPy's `generate` on a DataFrame."""
    from gaiaxpy import PhotometricSystem, generate

    data = frame(table)

    def call() -> None:
        with quiet():
            generate(data.copy(), PhotometricSystem[system], save_file=False)

    return measure("photometry", "gaiaxpy generate, DataFrame", len(table), call, repeats=0)


def gaiaxpy_calibrate(table: SourceTable) -> Row:
    """GaiaXPy's `calibrate` on a DataFrame, 343 samples."""
    from gaiaxpy import calibrate

    data = frame(table)

    def call() -> None:
        with quiet():
            calibrate(data.copy(), save_file=False)

    return measure("spectra", "gaiaxpy calibrate, DataFrame", len(table), call, repeats=0)


def reference_flux(table: SourceTable, system: xpjax.PhotometricSystem) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes (n, n_band) in float64 by NumPy, and sum |c_i r_i|."""
    projection = np.asarray(system.projection) * np.asarray(system.scale)
    value = table.coefficients.value.astype(float)
    return value @ projection, np.abs(value) @ np.abs(projection)
