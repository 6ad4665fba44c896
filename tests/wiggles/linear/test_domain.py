"""Where a linear correction holds."""

from __future__ import annotations

import numpy as np

from xpjax.wiggles.linear.domain import carbon, make_domain, quasar
from xpjax.wiggles.linear.fit import (
    Population,
    behind_dust,
    multiplied,
)
from xpjax.wiggles.linear.pairs import Pairs
from xpjax.xp import simulate


def test_domain_flags_what_is_unusual(pairs: Pairs, population: Population) -> None:
    model, domain = pairs.instrument, make_domain(pairs, population)

    def beyond(value: np.ndarray) -> float:
        return float(np.mean(np.asarray(domain.distance(value, model.release)) > float(domain.limit)))

    assert beyond(pairs.coefficients) == 0
    assert beyond(multiplied(pairs.coefficients[:8], carbon, population, model)) == 1
    assert beyond(multiplied(pairs.coefficients[:8], quasar(1.2), population, model)) > 0.7
    assert beyond(behind_dust(pairs.coefficients, 3.0, population, model)) > 0.9
    mocks = simulate.simulate_sources(8000, 4, correlations=False, dtype=np.float64)
    g, color = (np.asarray(mocks.columns[name], float) for name in ("phot_g_mean_mag", "bp_rp"))
    value = np.asarray(mocks.coefficients.value, float)
    assert beyond(value[(color > 2.6) & (g < 16)]) > 0.9
    # Noise is no distance.
    assert beyond(value[(color < 1.6) & (g > 17)]) < 0.1
