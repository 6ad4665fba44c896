"""Covariance of the coefficients and its inverse, against GaiaXPy and dense linear algebra."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

import xpjax
from tests import oracles
from xpjax.xp.read.archive import as_sources
from xpjax.xp.sources import XPCoefficients


@pytest.mark.parametrize("xp", ["bp", "rp"])
def test_inverse_covariance_equals_gaiaxpy(xp: str) -> None:
    from gaiaxpy import get_inverse_covariance_matrix, get_inverse_square_root_covariance_matrix

    table = as_sources(oracles.coefficients(np.random.default_rng(5), 3))
    frame = oracles.gaiaxpy_frame(table)
    for b in ("bp", "rp"):  # GaiaXPy takes these packed from files only
        cells = []
        for packed in frame[f"{b}_coefficient_correlations"]:
            matrix = np.eye(55)
            rows, columns = np.tril_indices(55, -1)
            matrix[rows, columns] = matrix[columns, rows] = packed
            cells.append(matrix)
        frame[f"{b}_coefficient_correlations"] = cells
    with contextlib.redirect_stdout(io.StringIO()):
        inverse = get_inverse_covariance_matrix(frame.copy(), xp)[f"{xp}_inverse_covariance"]
        root = get_inverse_square_root_covariance_matrix(frame.copy(), xp)
    root = root[f"{xp}_inverse_square_root_covariance_matrix"]
    assert oracles.worst(xpjax.covariance_matrix(table, xp, "inverse"), np.stack(inverse)) < 1e-7
    found = xpjax.covariance_matrix(table, xp, "inverse_sqrt")
    expected = np.stack(root)
    assert np.max(np.abs(found - expected)) < 1e-10 * np.max(np.abs(expected))


def test_matrices_are_consistent() -> None:
    c = oracles.coefficients(np.random.default_rng(6), 3)
    covariance = xpjax.covariance_matrix(c, "rp")
    inverse = xpjax.covariance_matrix(c, "rp", "inverse")
    root = xpjax.covariance_matrix(c, "rp", "inverse_sqrt")
    np.testing.assert_allclose(np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)), c.error[:, 55:], rtol=1e-12)
    for k, i, r in zip(covariance, inverse, root, strict=True):
        np.testing.assert_allclose(k @ i, np.eye(55), atol=1e-8)
        np.testing.assert_allclose(r.T @ r, i, rtol=1e-9, atol=1e-12 * np.abs(i).max())


def test_a_matrix_that_is_not_positive_definite_gives_nan() -> None:
    c = oracles.coefficients(np.random.default_rng(7), 2)
    correlation = c.correlation.copy()
    correlation[1, :30] = 1.5
    result = xpjax.covariance_matrix(XPCoefficients(c.value, c.error, correlation), "bp", "inverse")
    assert np.all(np.isfinite(result[0]))
    assert np.any(np.isnan(result[1]))


def test_bad_calls_are_refused() -> None:
    c = oracles.coefficients(np.random.default_rng(8), 2)
    with pytest.raises(ValueError, match="no kind 'x'"):
        xpjax.covariance_matrix(c, "bp", "x")
    with pytest.raises(ValueError, match="no XP 'zp'"):
        xpjax.covariance_matrix(c, "zp")
    with pytest.raises(ValueError, match="no errors"):
        xpjax.covariance_matrix(XPCoefficients(c.value), "bp")
    with pytest.raises(ValueError, match="floats"):
        as_sources(np.zeros((2, 110), int))
    with pytest.raises(ValueError, match="pass release="):
        as_sources(np.zeros((2, 100)))


def test_a_single_vector_is_one_source() -> None:
    c = oracles.coefficients(np.random.default_rng(9), 2)
    one = xpjax.photometry(c.value[0], "SDSS", errors=False)
    two = xpjax.photometry(c.value, "SDSS", errors=False)
    np.testing.assert_array_equal(one.flux[0], two.flux[0])
