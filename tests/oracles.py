"""References that nobody here wrote: GaiaXPy run live, and comparisons by relative tolerance."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pandas as pd

from xpjax.xp.sources import SourceTable, XPCoefficients


def gaiaxpy_frame(table: SourceTable, rows: slice | np.ndarray = slice(None)) -> pd.DataFrame:
    """The sources as a DataFrame with array cells, as GaiaXPy takes them; an XP that is missing has None cells.

    Where a table has no errors or correlations, ones and zeros stand in: fluxes do not depend on them.
    """
    table = table[rows]
    c, release = table.coefficients, table.release
    data: dict[str, list[Any]] = {"source_id": list(table.source_id)}
    for k, xp in enumerate(release.xp):
        value = c.value[:, release.slices[k]].astype(float)
        n, n_basis = value.shape
        error = np.ones_like(value) if c.error is None else c.error[:, release.slices[k]].astype(float)
        correlation = (
            np.zeros((n, release.n_pair[k]))
            if c.correlation is None
            else c.correlation[:, release.pair_slices[k]].astype(float)
        )
        there = ~np.all(np.isnan(value), axis=1)

        def cells(array: np.ndarray, there: np.ndarray = there) -> list[Any]:
            return [row if ok else np.nan for row, ok in zip(array, there, strict=True)]

        data[f"{xp}_coefficients"] = cells(value)
        data[f"{xp}_coefficient_errors"] = cells(error)
        data[f"{xp}_coefficient_correlations"] = cells(correlation)
        data[f"{xp}_n_parameters"] = [float(n_basis) if ok else np.nan for ok in there]
        data[f"{xp}_standard_deviation"] = [1.0 if ok else np.nan for ok in there]
        relevant = np.full(n, n_basis) if c.n_relevant is None else c.n_relevant[:, k]
        data[f"{xp}_n_relevant_bases"] = list(relevant)
        data[f"{xp}_basis_function_id"] = [56 + k] * n
    return pd.DataFrame(data)


def generate(table: SourceTable, systems: list[str], **options: Any) -> pd.DataFrame:
    """GaiaXPy's synthetic photometry."""
    from gaiaxpy import PhotometricSystem, generate as reference

    members = [PhotometricSystem[name] for name in systems]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return reference(gaiaxpy_frame(table), members, save_file=False, **options)


def calibrate(table: SourceTable, sampling: np.ndarray | None, bp_model: str, **options: Any) -> pd.DataFrame:
    """GaiaXPy's absolute spectra."""
    from gaiaxpy.calibrator.calibrator import _calibrate as reference

    with contextlib.redirect_stdout(io.StringIO()):
        frame, _ = reference(
            gaiaxpy_frame(table), sampling=sampling, save_file=False, bp_model=bp_model, disable_info=True, **options
        )
    return frame


def convert(table: SourceTable, **options: Any) -> pd.DataFrame:
    """GaiaXPy's internal spectra."""
    from gaiaxpy.converter.converter import _convert as reference

    with contextlib.redirect_stdout(io.StringIO()):
        frame, _ = reference(gaiaxpy_frame(table), save_file=False, disable_info=True, **options)
    return frame


def worst(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest relative difference; infinite where one is NaN and the other is not, or shapes differ."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    if found.shape != expected.shape or np.any(np.isnan(found) != np.isnan(expected)):
        return np.inf
    scale = np.where(expected == 0, 1.0, np.abs(expected))
    return float(np.nanmax(np.abs(found - expected) / scale, initial=0.0))


def coefficients(rng: np.random.Generator, n: int = 6) -> XPCoefficients:
    """Made coefficients with a positive flux in most bands, errors and proper correlations."""
    shape = np.exp(-np.arange(55) / 6.0)
    value = 300.0 * np.concatenate([shape, shape]) * rng.normal(size=(n, 110))
    value[:, [0, 55]] = rng.uniform(500, 3000, size=(n, 2))
    error = rng.uniform(0.5, 1.5, size=(n, 110)) * np.concatenate([shape, shape]) + 0.2
    correlation = np.empty((n, 2970))
    for row in range(n):
        for k in range(2):
            draws = rng.normal(size=(55, 80)) + 0.4 * rng.normal(size=80)
            correlation[row, 1485 * k : 1485 * (k + 1)] = np.corrcoef(draws)[np.tril_indices(55, -1)]
    return XPCoefficients(value, error, correlation, rng.integers(5, 56, size=(n, 2)))
