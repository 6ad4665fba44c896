"""Constants of robust statistics, by their definitions."""

import numpy as np
import pytest
from scipy import stats

from xpjax.survey.robust import HUBER, MAD, SCALE, TUKEY

Z = np.linspace(-12, 12, 240_001)


def mean(values: np.ndarray) -> float:
    """Over normal errors."""
    return float(np.trapezoid(values * stats.norm.pdf(Z), Z))


def test_tuning_constants_are_95_percent_efficient() -> None:
    """Of an M-estimate of location: (E psi')^2 / E psi^2."""
    inside = np.maximum(1 - (Z / TUKEY) ** 2, 0)
    tukey = mean(inside * (1 - 5 * (Z / TUKEY) ** 2)) ** 2 / mean((Z * inside**2) ** 2)
    huber = mean(np.abs(Z) < HUBER) ** 2 / mean(np.clip(Z, -HUBER, HUBER) ** 2)
    assert tukey == pytest.approx(0.95, abs=1e-3)
    assert huber == pytest.approx(0.95, abs=1e-3)


def test_scales_are_those_of_normal_errors() -> None:
    assert pytest.approx(1 / stats.norm.ppf(0.75), rel=1e-5) == MAD
    assert mean(1 - np.maximum(1 - (Z / SCALE) ** 2, 0) ** 3) == pytest.approx(0.5, abs=1e-4)
