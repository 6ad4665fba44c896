"""Flats of tiles together with the color relation."""

import numpy as np
import pytest

from benchmarks.scr import truth_of
from tests.survey.scr.test_regression import U, stars
from xpjax.survey.observations import make_observations
from xpjax.survey.scr.flats import calibrate_scr
from xpjax.survey.scr.regression import fit_scr


@pytest.mark.slow
def test_flats_of_tiles_are_found_with_the_law() -> None:
    color, error, labels = stars(n=3000, noise=0.006)
    rng = np.random.default_rng(0)
    n, tile = len(color), np.arange(len(color)) % 6
    x, y = rng.uniform(0, 9200, (2, n))
    u, v = x / 4600 - 1, y / 4600 - 1
    zero = rng.normal(0, 0.02, 6)
    flat = 0.02 * u * v + 0.01 * (u**2 - 1 / 3)
    gaia = rng.uniform(14, 16, n)
    o = make_observations(np.arange(n), x, y, gaia - color - zero[tile] - flat, error, None, exposure=tile.astype(str))
    fit, fits, predicted = calibrate_scr(o, gaia, np.zeros(n), labels)
    off = fits.zero_point - zero
    assert np.std(off) < 2e-3
    assert fits.residual.std() < 1.1 * np.sqrt(np.mean(error**2))
    plain = fit_scr(gaia - o.magnitude, error, labels, tile=tile)
    assert plain.residual.std() > 1.2 * fits.residual.std()
    assert np.abs((fit.regression.value - truth_of(U))[-1]) < 4 * fit.regression.error[-1]
    assert np.isfinite(predicted.magnitude).all()
