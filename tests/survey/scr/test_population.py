"""The distribution of true labels, and what it says of a star."""

import numpy as np
import pytest

from benchmarks.scr import Sky
from xpjax.survey.scr.labels import SCALE, ZERO
from xpjax.survey.scr.population import Population, find_population


def test_the_population_is_what_labels_were_drawn_from() -> None:
    """Measured spreads are too wide by the errors; the population is not."""
    sky = Sky.make(3, 40, 60, common=False)
    found = find_population(sky.labels, sky.covariance)
    center = found.weight @ found.mean
    away = found.mean - center
    whole = np.einsum("k,kij->ij", found.weight, found.covariance + away[:, :, None] * away[:, None])
    true, measured = ((x - ZERO) / SCALE for x in (sky.true, sky.labels))
    np.testing.assert_allclose(np.sqrt(np.diag(whole))[:2], true.std(axis=0)[:2], rtol=0.05)
    np.testing.assert_allclose(found.reddening, [true[:, 2].mean(), true[:, 2].std()], rtol=0.05)
    np.testing.assert_allclose(whole[2, 2], 1, rtol=0.1)
    assert measured[:, 0].std() / np.sqrt(whole[0, 0]) > 1.04
    with pytest.raises(ValueError, match="too few for a population"):
        find_population(sky.labels[:10], sky.covariance[:10])


def test_posterior_is_bayes_theorem(rng: np.random.Generator) -> None:
    """Against sums over a fine grid of true labels, in one dimension that matters."""
    wide = np.array([np.eye(3) * s for s in (0.1, 0.4)])
    p = Population(np.array([0.3, 0.7]), np.array([[-1, 0, 0], [0.5, 0, 0]]), wide, np.zeros(2))
    z, s = np.array([[0.2, 0.0, 0.0]]), np.eye(3)[None] * 0.2
    share, mean, covariance, _ = p.posterior(z, s)
    x = np.linspace(-6, 6, 20001)
    density = sum(
        w * np.exp(-0.5 * (x - m[0]) ** 2 / c[0, 0]) / c[0, 0] ** 1.5 / (1 + 0.2 / c[0, 0])
        for w, m, c in zip(p.weight, p.mean, p.covariance, strict=True)
    )  # the other two dimensions weigh a component by its width at zero
    density = density * np.exp(-0.5 * (x - 0.2) ** 2 / 0.2)
    expected = (density * x).sum() / density.sum()
    square = (density * x**2).sum() / density.sum()
    np.testing.assert_allclose((share * mean[..., 0]).sum(), expected, rtol=1e-6)
    got = (share * (covariance[..., 0, 0] + mean[..., 0] ** 2)).sum()
    np.testing.assert_allclose(got, square, rtol=1e-6)
