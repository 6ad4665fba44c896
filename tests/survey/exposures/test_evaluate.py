"""Fitted terms at every row."""

import numpy as np

from tests.survey.exposures.helpers import fit, made, matrix
from xpjax.survey.exposures.evaluate import evaluate


def test_evaluation_is_the_design_at_every_row() -> None:
    o = made()
    found = fit(o)
    parts = evaluate(found, o)
    a = matrix(o)
    np.testing.assert_allclose(parts.added, a[:, :6] @ found.value[0, :6], rtol=1e-12)
    np.testing.assert_allclose(parts.taken, a[:, 6:] @ found.value[0, 6:], rtol=1e-9, atol=1e-15)
    variance = np.einsum("ni,ij,nj->n", a[:, :6], found.covariance[0, :6, :6], a[:, :6])
    np.testing.assert_allclose(parts.error, np.sqrt(variance), rtol=1e-9)
    np.testing.assert_allclose(o.model - o.magnitude - parts.added - parts.taken, found.residual, atol=1e-12)
