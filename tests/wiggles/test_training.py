"""Training on made patterns: what it finds, that it repeats, and refuses what it cannot learn."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from tests.wiggles.helpers import NAMES, QUICK, made, same, truth
from xpjax.wiggles.features import Features
from xpjax.wiggles.judgment import predict_residuals
from xpjax.wiggles.network import WiggleCorrection
from xpjax.wiggles.training import split_sources, train_network


def test_it_finds_the_pattern_on_stars_that_it_has_not_seen(trained: WiggleCorrection) -> None:
    new = made(500, seed=9)
    pattern = truth(new.features, new.wavelength)
    found = predict_residuals(trained, new.stars)
    left = np.sqrt(np.mean((found - pattern) ** 2))
    assert left < 0.2 * np.sqrt(np.mean(pattern**2)), left
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-7)
    record = json.loads(trained.record)
    assert record["test_rms_after"] == pytest.approx(np.hypot(0.002, left), rel=0.1)
    assert record["test_loss"][0] == pytest.approx(record["test_rms_after"] ** 2, rel=1e-3)
    assert record["n_split"] == [900, 300, 300]
    losses = np.array(record["history"][0])
    assert losses[-1, 1] < 0.2 * losses[0, 1]


def test_same_seed_same_weights_and_another_seed_others(trained: WiggleCorrection) -> None:
    short = dataclasses.replace(QUICK, epochs=3)
    a, b, c = (train_network(made(), dataclasses.replace(short, seed=seed)) for seed in (0, 0, 1))
    assert same(a, b)
    assert not same(a, c)


@pytest.mark.slow
def test_missing_samples_and_weights() -> None:
    """Samples that are missing, or weigh nothing, may hold anything."""
    data = made(600)
    rng = np.random.default_rng(1)
    gone = rng.random(data.residual.shape) < 0.3
    settings = dataclasses.replace(QUICK, epochs=15)
    missing = train_network(dataclasses.replace(data, residual=np.where(gone, np.nan, data.residual)), settings)
    weighted = train_network(
        dataclasses.replace(data, residual=np.where(gone, 99.0, data.residual), weight=np.where(gone, 0.0, 1.0)),
        settings,
    )
    assert same(missing, weighted)
    full = train_network(data, settings)
    clean = truth(data.features, data.wavelength)
    assert np.std(predict_residuals(missing, data.stars) - clean) < 1.5 * np.std(
        predict_residuals(full, data.stars) - clean
    )


@pytest.mark.slow
def test_an_ensemble_is_better_and_tells_its_scatter(trained: WiggleCorrection) -> None:
    model = train_network(made(), dataclasses.replace(QUICK, epochs=25), n_network=3)
    new = made(300, seed=8)
    pattern = truth(new.features, new.wavelength)
    each = [predict_residuals(dataclasses.replace(model, networks=(n,)), new.stars) for n in model.networks]
    alone = np.mean([np.std(p - pattern) for p in each])
    assert np.std(predict_residuals(model, new.stars) - pattern) < alone


def test_splits() -> None:
    parts = split_sources(1000, (0.6, 0.2, 0.2), 3)
    assert [len(p) for p in parts] == [600, 200, 200]
    assert len(np.unique(np.concatenate(parts))) == 1000
    assert [len(p) for p in split_sources(10, (0.98, 0.01, 0.01), 0)] == [8, 1, 1]


@pytest.mark.slow
def test_rows_that_are_left_out() -> None:
    data = made(400)
    source_id, features, residual = data.source_id.copy(), data.features.copy(), data.residual.copy()
    source_id[0], source_id[2] = 0, source_id[1]
    features[3, 1], residual[4] = np.nan, np.nan
    model = train_network(
        dataclasses.replace(data, source_id=source_id, features=features, residual=residual),
        dataclasses.replace(QUICK, epochs=1),
    )
    record = json.loads(model.record)
    assert record["n_star"] == 396
    assert list(record["n_dropped"].values()) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"features": np.full((200, 3), np.nan)}, "0 of 200 stars.*missing features"),
        ({"features": np.ones((200, 3))}, r"\['BP-RP', 'G', 'E\(B-V\)'\] are the same for all stars"),
        ({"residual": np.zeros((200, 60))}, "nothing to learn"),
        ({"residual": np.full((200, 60), np.nan)}, "no samples"),
    ],
)
def test_what_cannot_be_learned_is_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        train_network(made(200, **change), QUICK)


@pytest.mark.slow
def test_one_feature_and_names() -> None:
    model = train_network(made(200), dataclasses.replace(QUICK, epochs=2), names=("BP-RP",))
    assert model.names == ("BP-RP",)
    assert np.isnan(predict_residuals(model, Features(np.arange(1), NAMES, np.full((1, 3), np.nan)))).all()
