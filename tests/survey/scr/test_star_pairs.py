"""Reddening from star pairs."""

import numpy as np

from xpjax.survey.scr.star_pairs import star_pair_reddening


def test_star_pairs_measure_reddening() -> None:
    rng = np.random.default_rng(2)
    n = 4000
    labels = np.stack([rng.uniform(5400, 6600, n), rng.uniform(4, 4.6, n), rng.normal(-0.3, 0.2, n)], axis=1)
    true = np.where(np.arange(n) % 4 == 0, rng.gamma(2, 0.05, n), 0.005)
    error = np.full(n, 0.003)
    color = 0.75 - 2.4e-4 * (labels[:, 0] - 6000) + 8e-8 * (labels[:, 0] - 6000) ** 2 + 0.04 * labels[:, 2]
    color = color + true + error * rng.normal(size=n)
    found, sigma = star_pair_reddening(color, error, labels, true < 0.01, 0.005)
    good = np.isfinite(found)
    assert good.mean() > 0.9
    pull = ((found - true) / sigma)[good]
    assert 0.8 < pull.std() < 1.25
    assert abs(pull.mean()) < 0.15
    far = star_pair_reddening(color[:1], error[:1], labels[:1], np.ones(1, bool))
    assert np.isnan(far[0]).all()
