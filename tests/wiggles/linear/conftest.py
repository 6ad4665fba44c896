"""Pairs, and what is trained on them once."""

from __future__ import annotations

import numpy as np
import pytest

import xpjax
from tests.wiggles.linear.helpers import N, stars, wrong
from xpjax.wiggles.linear.fit import (
    Population,
    Training,
)
from xpjax.wiggles.linear.pairs import Pairs
from xpjax.wiggles.linear.train import Trained, train_linear
from xpjax.xp import simulate


@pytest.fixture(scope="session")
def population() -> Population:
    table = simulate.simulate_sources(4000, 9, correlations=False, dtype=np.float64)
    g = np.asarray(table.columns["phot_g_mean_mag"], float)
    return Population.of(np.asarray(table.coefficients.value, float)[g < 15], xpjax.load_instrument())


@pytest.fixture(scope="session")
def pairs() -> Pairs:
    model, value = xpjax.load_instrument(), stars(N, 3)
    assert len(value) == N
    true = value @ (model.default_design + wrong(model))
    names = np.array([f"mock {k}" for k in range(N)])
    return Pairs(names, np.array(["A0V", "G2V"] * (N // 2)), value, 3e7 * true, model)


@pytest.fixture(scope="session")
def training(pairs: Pairs, population: Population) -> Training:
    return Training(pairs, population)


@pytest.fixture(scope="session")
def trained(pairs: Pairs, population: Population) -> Trained:
    return train_linear(pairs, population, name="mock", sizes=(10, 20))
