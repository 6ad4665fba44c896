"""Networks and their files."""

from __future__ import annotations

from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from tests.wiggles.helpers import made_model
from xpjax.wiggles.network import SystematicTable, read_network, write_network


def test_files(tmp_path: Path) -> None:
    table = SystematicTable(np.zeros(1), np.zeros(1), np.zeros(1), np.zeros((1, 1, 1, 330)))
    model = made_model(n_network=11, kind="multiplicative", truncate=True, record='{"a": 1}', systematic=table)
    path = tmp_path / "model.h5"
    write_network(path, model)
    back = read_network(path)
    assert jax.tree.structure(back) == jax.tree.structure(model)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(model), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(FileExistsError):
        write_network(path, model)
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(ValueError, match="version 99"):
        read_network(path)
    (tmp_path / "other.h5").write_text("x")
    with pytest.raises(ValueError, match="no file of a wiggle correction"):
        read_network(tmp_path / "other.h5")


def test_a_network_is_told_in_a_line() -> None:
    model = made_model(n_network=2, record='{"history": [[0.1, 0.2]], "settings": {}}')
    said = repr(model)
    assert len(said) < 250
    assert said.startswith("WiggleCorrection(2 networks of hidden layers 16, 24, features g-i, ")
    assert "history" not in said
    assert model.training["history"] == [[0.1, 0.2]]
    assert model.summary() == [], "it was not trained here"
