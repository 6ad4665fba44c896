"""Properties that hold whatever the coefficients: linearity, batching, order, truncation."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import xpjax
from tests import oracles
from xpjax.core import engine
from xpjax.synthetic.kernel import photometry_kernel
from xpjax.xp.sources import XPCoefficients

BASE = oracles.coefficients(np.random.default_rng(11), 12)
SYSTEM = xpjax.load_system("SDSS")
finite = st.floats(-1e5, 1e5, allow_nan=False, width=32)
vectors = hnp.arrays(np.float64, (2, 110), elements=finite)
TINY = np.finfo(np.float32).tiny  # below this, AB magnitudes of 38, float32 fluxes are flushed to zero
few = settings(max_examples=25, deadline=None, derandomize=True)


def sums(value: np.ndarray) -> np.ndarray:
    """What rounding errors scale with: sum |c_i r_i|."""
    return np.abs(value) @ np.abs(np.asarray(SYSTEM.projection) * SYSTEM.scale)


def flux(value: np.ndarray, float64: bool) -> np.ndarray:
    return xpjax.photometry(np.atleast_2d(value), SYSTEM, errors=False, float64=float64).flux


@few
@given(vectors, st.floats(1e-3, 1e3), st.booleans())
def test_flux_scales(value: np.ndarray, factor: float, float64: bool) -> None:
    bound = (1e-14 if float64 else 1e-6) * sums(value) * factor + TINY * max(factor, 1)
    assert np.all(np.abs(flux(factor * value, float64) - factor * flux(value, float64)) <= 2 * bound)


@few
@given(vectors, vectors, st.booleans())
def test_flux_adds(a: np.ndarray, b: np.ndarray, float64: bool) -> None:
    bound = (1e-14 if float64 else 1e-6) * (sums(a) + sums(b)) + TINY
    assert np.all(np.abs(flux(a + b, float64) - flux(a, float64) - flux(b, float64)) <= 2 * bound)


@few
@given(st.floats(1e-2, 1e2))
def test_errors_scale_with_the_coefficients_errors(factor: float) -> None:
    one = xpjax.photometry(BASE, SYSTEM, float64=True).flux_error
    scaled = XPCoefficients(BASE.value, factor * BASE.error, BASE.correlation)
    np.testing.assert_allclose(xpjax.photometry(scaled, SYSTEM, float64=True).flux_error, factor * one, rtol=1e-11)


@pytest.mark.slow
@few
@given(st.permutations(range(12)), st.sampled_from([64, 128, None]), st.booleans())
def test_order_and_batches_do_not_matter(order: list[int], rows: int | None, float64: bool) -> None:
    kernel = photometry_kernel(errors=True)
    bands = SYSTEM.with_pair_weights()
    rearranged = XPCoefficients(*(x[order] for x in (BASE.value, BASE.error, BASE.correlation)))
    source = XPCoefficients(BASE.value, BASE.error, BASE.correlation)
    a = engine.run(kernel, bands, source, float64=float64)
    b = engine.run(kernel, bands, rearranged, float64=float64, batch_rows=rows)
    tolerance = 1e-12 if float64 else 2e-5
    np.testing.assert_allclose(b["flux"], a["flux"][order], rtol=tolerance)
    np.testing.assert_allclose(b["flux_error"], a["flux_error"][order], rtol=tolerance)


@few
@given(st.integers(0, 11))
def test_a_batch_is_a_loop(row: int) -> None:
    whole = xpjax.spectra(BASE, float64=True)
    part = XPCoefficients(*(x[row : row + 1] for x in (BASE.value, BASE.error, BASE.correlation)))
    alone = xpjax.spectra(part, float64=True)
    np.testing.assert_allclose(alone.flux_error[0], whole.flux_error[row], rtol=1e-11)
    scale = np.abs(whole.flux[row]).max()
    np.testing.assert_allclose(alone.flux[0], whole.flux[row], atol=1e-13 * scale)


@few
@given(st.tuples(st.integers(1, 55), st.integers(1, 55)))
def test_truncation_is_masking(limits: tuple[int, int]) -> None:
    n = np.tile(np.array(limits), (12, 1))
    keep = np.concatenate([np.arange(55) < limit for limit in limits])
    masked = XPCoefficients(BASE.value * keep, BASE.error * keep, BASE.correlation)
    a = xpjax.spectra(XPCoefficients(BASE.value, BASE.error, BASE.correlation, n), truncate=True, float64=True)
    b = xpjax.spectra(masked, float64=True)
    np.testing.assert_allclose(a.flux, b.flux, rtol=1e-13)
    np.testing.assert_allclose(a.flux_error, b.flux_error, rtol=1e-12)


@pytest.mark.slow
@few
@given(hnp.arrays(np.float64, 9, elements=st.floats(330, 1050), unique=True))
def test_samples_do_not_depend_on_the_grid_around_them(grid: np.ndarray) -> None:
    grid = np.sort(grid)
    whole = xpjax.spectra(BASE, grid, float64=True)
    one = xpjax.spectra(BASE, grid[4:5], float64=True)
    design = np.abs(xpjax.load_instrument().design(grid[4:5]).value) * 1e-18
    assert np.all(np.abs(one.flux - whole.flux[:, 4:5]) <= 1e-13 * np.abs(BASE.value) @ design)
