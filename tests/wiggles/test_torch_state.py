"""Networks of PyTorch, without torch."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import xpjax
from tests.wiggles.helpers import star_features
from xpjax.wiggles.limits import applicable
from xpjax.wiggles.torch_state import network_from_torch


def test_torch_states(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = [14, 8, 6, 330]
    state = {}
    for k, (a, b) in enumerate(itertools.pairwise(sizes)):
        state[f"net.{2 * k}.weight"], state[f"net.{2 * k}.bias"] = rng.normal(size=(b, a)), rng.normal(size=b)
    scaler = {"mean_": rng.normal(size=14), "scale_": rng.uniform(1, 2, 14)}
    output = {"mean": rng.normal(size=330), "scale": rng.uniform(1, 2, 330)}
    names = star_features().names
    np.savez(tmp_path / "state.npz", **state)
    model = network_from_torch(tmp_path / "state.npz", scaler, names=names, output_scaler=output)
    x = rng.normal(size=14)
    h = (x - scaler["mean_"]) / scaler["scale_"]
    for k in range(3):
        h = state[f"net.{2 * k}.weight"] @ h + state[f"net.{2 * k}.bias"]
        h = np.maximum(h, 0) if k < 2 else h
    with xpjax.core.engine.precision(True):
        found = np.asarray(model.pattern(x))
    np.testing.assert_allclose(found, h * output["scale"] + output["mean"], rtol=1e-5, atol=1e-5)
    assert applicable(model, star_features())[0].mean() > 0.9
    with pytest.raises(ValueError, match="Linear layers"):
        network_from_torch({"a.weight": np.zeros((3, 3, 3)), "a.bias": np.zeros(3)}, scaler, names=names)
    with pytest.raises(ValueError, match="do not lead from"):
        network_from_torch({"a.weight": np.zeros((3, 3)), "a.bias": np.zeros(3)}, scaler, names=names)
    with pytest.raises(ValueError, match="mean_ and scale_"):
        network_from_torch(state, {"mean_": scaler["mean_"]}, names=names)
