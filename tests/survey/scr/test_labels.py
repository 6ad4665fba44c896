"""Polynomials in labels, and their means over Gaussians."""

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss

from xpjax.survey.scr.labels import mean_monomials, terms


def test_terms_are_the_papers() -> None:
    assert len(terms(3)) == 10 + 1
    assert len(terms(2)) == 6 + 1
    assert len(terms(2, "quadratic")) == 6 + 6
    for bad in (0, 4, "3"):
        with pytest.raises(ValueError, match="order must be"):
            terms(bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reddening must be"):
        terms(3, "cubic")


def test_mean_monomials_are_gaussian_integrals(rng: np.random.Generator) -> None:
    root = rng.normal(size=(3, 3))
    center = rng.normal(size=3)
    exponents = [e for e in np.ndindex(4, 3, 3)]
    got = mean_monomials(center[None], (root @ root.T)[None], exponents)[0]
    x, w = hermegauss(8)
    nodes = np.stack(np.meshgrid(x, x, x, indexing="ij"), -1).reshape(-1, 3) @ root.T + center
    weight = np.einsum("i,j,k->ijk", w, w, w).ravel() / w.sum() ** 3
    expected = [(weight * np.prod(nodes ** np.array(e), axis=1)).sum() for e in exponents]
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    plain = mean_monomials(center[None], None, exponents)[0]
    assert np.abs(plain / expected - 1).max() > 0.1  # the comparison would see a covariance that is left out
