"""Statistics of a report: against SciPy, NumPy and what was put in."""

import numpy as np
import pytest
from scipy import stats

from xpjax.survey.report.statistics import Missing, cell_means, gaussian, structure, trend


def test_gaussians_are_those_of_scipy_without_the_tails() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(2.0, 0.5, 20_000)
    mean, sigma = gaussian(np.concatenate([values, rng.uniform(-50, 50, 400), [np.nan]]))
    expected = stats.norm.fit(values)
    assert mean == pytest.approx(expected[0], abs=0.01)
    assert sigma == pytest.approx(expected[1], rel=0.02)
    assert stats.norm.fit(np.concatenate([values, rng.uniform(-50, 50, 400)]))[1] > 5 * sigma
    assert np.isnan(gaussian(np.ones(3))[1])


def test_trends_are_medians_of_scipys_bins() -> None:
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 10, 5000)
    y = 0.1 * x + rng.normal(size=5000)
    y[::50] = 1e3
    found = trend(x, y, 10)
    expected, _, _ = stats.binned_statistic(x, y, "median", bins=np.quantile(x, np.linspace(0, 1, 11)))
    np.testing.assert_allclose(found.median, expected, atol=0.02)
    assert np.abs(found.median - 0.1 * found.x).max() < 4 * found.error.max()
    assert np.median(found.error) == pytest.approx(1.2533 / np.sqrt(500), rel=0.15)
    with pytest.raises(Missing, match="one value"):
        trend(np.ones(50), y[:50])


def test_structure_is_what_was_put_in_beyond_the_noise() -> None:
    rng = np.random.default_rng(3)
    u, v = rng.uniform(-1, 1, (2, 40_000))
    wave = (
        0.004 * np.sqrt(2) * np.sin(6 * u) * np.sin(9 * v + 1) / np.std(np.sin(6 * u) * np.sin(9 * v + 1)) / np.sqrt(2)
    )
    noise = rng.normal(size=40_000) * 0.02
    assert structure(u, v, wave + noise, np.full(40_000, 0.02**2)) == pytest.approx(0.004, rel=0.1)
    assert structure(u, v, noise, np.full(40_000, 0.02**2)) < 0.001
    mean, variance = cell_means(u, v, noise, np.full(40_000, 0.02**2), 2)
    lower_left = (u < 0) & (v < 0)
    assert mean[0, 0] == pytest.approx(noise[lower_left].mean(), rel=1e-9)
    assert variance[0, 0] == pytest.approx(0.02**2 / lower_left.sum(), rel=1e-9)
