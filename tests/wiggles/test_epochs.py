"""Epochs: checkpoints that survive kill -9, plateaus, settings."""

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

import numpy as np
import pytest

from tests.wiggles.helpers import QUICK, made, same
from xpjax.wiggles.epochs import Step, TrainingSettings, remove_checkpoints
from xpjax.wiggles.residuals import read_residuals, write_residuals
from xpjax.wiggles.training import train_network


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
        "import sys; from xpjax.wiggles import TrainingSettings, train_network; "
        "train_network(sys.argv[1], "
        "TrainingSettings(widths=(32, 32), epochs=1000000, batch=128, stop=1000, patience=1000), "
        "checkpoint=sys.argv[2], checkpoint_epochs=7)"
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


@pytest.mark.parametrize(
    "change",
    [{"widths": ()}, {"epochs": 0}, {"learning_rate": 1e-9}, {"split": (0.9, 0.1, 0.1)}],
)
def test_wrong_settings(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"widths|epochs|rate|split"):
        TrainingSettings(**change)
