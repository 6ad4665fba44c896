"""Training on made patterns: what it finds, that it repeats, survives kill -9, and refuses what it cannot learn."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from xpjax.extinction import AV_PER_SFD, R_V
from xpjax.wiggles.features import Features
from xpjax.wiggles.meaning import Meaning
from xpjax.wiggles.network import WiggleCorrection, systematic_error
from xpjax.wiggles.residuals import Residuals, read_residuals, write_residuals
from xpjax.wiggles.training import (
    Step,
    TrainingSettings,
    predict,
    remaining,
    remove_checkpoints,
    split_sources,
    train_network,
)

QUICK = TrainingSettings(widths=(32, 32), epochs=60, batch=128)
NAMES = ("BP-RP", "G", "E(B-V)")


def truth(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Wiggles (n, m) of 2 % with zero mean whose phase and size follow the features."""
    color, g, ebv = x.T[:, :, None]
    out = 0.03 * np.sin(grid / 25 + 2 * color) * np.exp(-(grid - 360) / 300) * (1 + 0.1 * (g - 14) - 0.3 * ebv)
    return out - out.mean(axis=1, keepdims=True)


def made(n: int = 1500, noise: float = 0.002, seed: int = 0, **fields: Any) -> Residuals:
    rng = np.random.default_rng(seed)
    grid = np.geomspace(360.0, 990.0, 60)
    x = np.stack([rng.uniform(0, 3, n), rng.uniform(10, 17, n), rng.exponential(0.2, n)], axis=1)
    noisy = noise * rng.normal(size=(n, len(grid)))
    noisy -= noisy.mean(axis=1, keepdims=True)
    how = Meaning("additive", "dereddened", "ccm89", R_V, AV_PER_SFD, truncate=False)
    record: dict[str, Any] = {"residual": truth(x, grid) + noisy, "features": x, "wavelength": grid, "meaning": how}
    return Residuals(np.arange(1, n + 1), NAMES, **{**record, **fields})


def same(a: WiggleCorrection, b: WiggleCorrection) -> bool:
    pairs = [
        (x, y)
        for one, other in zip(a.networks, b.networks, strict=True)
        for x, y in zip((*one.weight, *one.bias), (*other.weight, *other.bias), strict=True)
    ]
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.fixture(scope="module")
def trained() -> WiggleCorrection:
    return train_network(made(), QUICK)


def test_it_finds_the_pattern_on_stars_that_it_has_not_seen(trained: WiggleCorrection) -> None:
    new = made(500, seed=9)
    pattern = truth(new.features, new.wavelength)
    found = predict(trained, new.stars)
    left = np.sqrt(np.mean((found - pattern) ** 2))
    assert left < 0.2 * np.sqrt(np.mean(pattern**2)), left
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-7)
    record = json.loads(trained.record)
    assert record["test_rms_after"] == pytest.approx(np.hypot(0.002, left), rel=0.1)
    assert record["test_loss"][0] == pytest.approx(record["test_rms_after"] ** 2, rel=1e-3)
    assert record["n_split"] == [900, 300, 300]
    losses = np.array(record["history"][0])
    assert losses[-1, 1] < 0.2 * losses[0, 1]


def test_the_table_tells_what_is_left(trained: WiggleCorrection) -> None:
    new = made(500, seed=9)
    told = systematic_error(trained, new.stars)
    assert np.sqrt(np.mean(told**2)) == pytest.approx(np.sqrt(np.mean(remaining(trained, new) ** 2)), rel=0.1)
    assert trained.systematic is not None
    assert trained.systematic.value.shape[0] > 3


def test_same_seed_same_weights_and_another_seed_others(trained: WiggleCorrection) -> None:
    short = dataclasses.replace(QUICK, epochs=3)
    a, b, c = (train_network(made(), dataclasses.replace(short, seed=seed)) for seed in (0, 0, 1))
    assert same(a, b)
    assert not same(a, c)


@pytest.mark.slow
def test_resumed_is_the_same_as_not_interrupted(tmp_path: Path) -> None:
    data, settings = made(300), dataclasses.replace(QUICK, epochs=12)
    whole = train_network(data, settings, n_network=2)
    path = tmp_path / "check"

    class Stop(Exception):
        pass

    def stop(step: Step) -> None:
        if (step.member, step.epoch) == (1, 8):
            raise Stop

    with pytest.raises(Stop):
        train_network(data, settings, n_network=2, checkpoint=path, checkpoint_epochs=5, progress=stop)
    seen = []
    resumed = train_network(
        data, settings, n_network=2, checkpoint=path, progress=lambda s: seen.append((s.member, s.epoch))
    )
    assert seen[0] == (1, 6)
    assert same(whole, resumed)
    assert json.loads(whole.record)["history"] == json.loads(resumed.record)["history"]
    with pytest.raises(ValueError, match="other residuals or settings"):
        train_network(data, dataclasses.replace(settings, seed=4), checkpoint=path)
    remove_checkpoints(path, 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_killed_and_resumed_is_the_same(tmp_path: Path) -> None:
    data, settings = made(300), dataclasses.replace(QUICK, epochs=400, stop=1000, patience=1000)
    write_residuals(tmp_path / "residuals.h5", data)
    code = (
        "import sys; from xpjax.wiggles.residuals import read_residuals; from xpjax.wiggles.training import *; "
        "train(read_residuals(sys.argv[1]), "
        "Settings(widths=(32, 32), epochs=1000000, batch=128, stop=1000, patience=1000), checkpoint=sys.argv[2], "
        "checkpoint_epochs=7)"
    )
    check = tmp_path / "check"
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "residuals.h5"), str(check)])
    deadline = time.monotonic() + 120
    while not Path(f"{check}.0").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    resumed = train_network(read_residuals(tmp_path / "residuals.h5"), settings, checkpoint=check)
    assert len(json.loads(resumed.record)["history"][0]) >= 400
    whole = train_network(data, dataclasses.replace(settings, epochs=len(json.loads(resumed.record)["history"][0])))
    assert same(whole, resumed)


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
    assert np.std(predict(missing, data.stars) - clean) < 1.5 * np.std(predict(full, data.stars) - clean)


@pytest.mark.slow
def test_an_ensemble_is_better_and_tells_its_scatter(trained: WiggleCorrection) -> None:
    model = train_network(made(), dataclasses.replace(QUICK, epochs=25), n_network=3)
    new = made(300, seed=8)
    pattern = truth(new.features, new.wavelength)
    each = [predict(dataclasses.replace(model, networks=(n,)), new.stars) for n in model.networks]
    alone = np.mean([np.std(p - pattern) for p in each])
    assert np.std(predict(model, new.stars) - pattern) < alone


@pytest.mark.slow
def test_plateaus_halve_the_rate_and_training_stops() -> None:
    rng = np.random.default_rng(0)
    data = made(200)
    data = dataclasses.replace(data, residual=0.02 * rng.normal(size=data.residual.shape))
    model = train_network(data, TrainingSettings(widths=(8,), epochs=400, batch=40, patience=3, stop=10))
    history = np.array(json.loads(model.record)["history"][0])
    assert len(history) < 400
    rates = history[:, 2]
    assert set(np.round(np.log2(rates[:-1] / rates[1:]), 6)) <= {0.0, 1.0}
    best = int(np.argmin(history[:, 1]))
    assert len(history) - 1 - best == 10
    np.testing.assert_allclose(rates[best + 4 : best + 7], rates[best + 3] / 2)


def test_files(tmp_path: Path) -> None:
    data = made(20, weight=np.ones((20, 60)), ebv=np.zeros(20))
    write_residuals(tmp_path / "r.h5", data)
    back = read_residuals(tmp_path / "r.h5")
    for name in ("source_id", "features", "wavelength", "residual", "weight", "ebv"):
        np.testing.assert_array_equal(getattr(back, name), getattr(data, name))
    assert back.names == NAMES
    with pytest.raises(FileExistsError):
        write_residuals(tmp_path / "r.h5", data)
    with h5py.File(tmp_path / "r.h5", "a") as file:
        del file["residual"]
    with pytest.raises(ValueError, match="no file of residuals"):
        read_residuals(tmp_path / "r.h5")


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


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"residual": np.zeros((200, 59))}, r"residual has shape \(200, 59\), expected \(200, 60\)"),
        ({"features": np.zeros((200, 2))}, "features have shape"),
        ({"weight": np.ones((3, 60))}, "weight has shape"),
        ({"weight": -np.ones((200, 60))}, "negative"),
        ({"wavelength": np.linspace(900, 400, 60)}, "ascend"),
    ],
)
def test_wrong_shapes(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        made(200, **change)


@pytest.mark.parametrize(
    "change",
    [{"widths": ()}, {"epochs": 0}, {"learning_rate": 1e-9}, {"split": (0.9, 0.1, 0.1)}],
)
def test_wrong_settings(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"widths|epochs|rate|split"):
        TrainingSettings(**change)


@pytest.mark.slow
def test_one_feature_and_names() -> None:
    model = train_network(made(200), dataclasses.replace(QUICK, epochs=2), names=("BP-RP",))
    assert model.names == ("BP-RP",)
    assert np.isnan(predict(model, Features(np.arange(1), NAMES, np.full((1, 3), np.nan)))).all()
