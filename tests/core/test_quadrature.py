"""Integrals over sampled curves."""

from __future__ import annotations

import numpy as np
import pytest

from xpjax.core.quadrature import quadrature


def test_quadrature_is_exact_and_does_not_overshoot_steps() -> None:
    box = np.array([500.0, 500.01, 600.0, 600.01])
    nodes, weights, matrix = quadrature(box)
    curve = matrix @ np.array([0.0, 1.0, 1.0, 0.0])
    assert curve.min() >= 0
    assert curve.max() <= 1 + 1e-12
    assert weights @ curve == pytest.approx(100.0, rel=1e-12)
    # A parabola is reproduced exactly where the grid is even, but for the straight ends.
    even = np.arange(400.0, 440.0, 2.0)
    nodes, weights, matrix = quadrature(even, (411.3,))
    inner = (nodes >= 402) & (nodes <= 436)
    np.testing.assert_allclose((matrix @ (even - 410) ** 2)[inner], ((nodes - 410) ** 2)[inner], atol=1e-9)
    # A break is an end of intervals: integrals up to it are exact.
    left = nodes < 411.3
    assert weights[left].sum() == pytest.approx(11.3, rel=1e-12)
    np.testing.assert_allclose(matrix @ np.ones(len(even)), 1, rtol=1e-13)
