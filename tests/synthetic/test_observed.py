"""Observed magnitudes of XP sources, joined by source_id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import xpjax
from xpjax.synthetic.observed import match_magnitudes


@pytest.fixture(scope="module")
def xp(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files that have five sources in common."""
    folder, stars = tmp_path_factory.mktemp("xp"), xpjax.simulate_sources(20, seed=5)
    for name, rows in (("a", slice(0, 12)), ("b", slice(7, 20))):
        xpjax.write(folder / f"{name}.parquet", stars[rows])
    return [folder / "a.parquet", folder / "b.parquet"]


def test_sources_are_joined_by_id_and_come_once(xp: list[Path]) -> None:
    ids = xpjax.simulate_sources(20, seed=5).source_id
    rows = np.array([19, 3, 8, 0])
    observed = {"SOURCE_ID": [*ids[rows], 7], "g": [15.0, 16.0, 99.0, 17.0, 18.0], "e": [0.1, 0.2, 0.3, 0.4, 0.5]}
    stars, magnitude, error, said = match_magnitudes(xp, observed, "G", "e")
    known = dict(zip(ids[rows].tolist(), zip(observed["g"][:4], observed["e"][:4], strict=True), strict=True))
    assert sorted(stars.source_id.tolist()) == sorted(known)
    for source, value, sigma in zip(stars.source_id.tolist(), magnitude, error, strict=True):
        assert sigma == known[source][1]
        assert value == known[source][0] or (np.isnan(value) and known[source][0] == 99.0)
    assert said.startswith("4 of 20 XP sources are among the 5 of ")
    assert "1 of these without a magnitude" in said
    assert np.all(match_magnitudes(xp, observed, "g", 0.01)[2] == 0.01)


def test_refusals(xp: list[Path]) -> None:
    ids = xpjax.simulate_sources(20, seed=5).source_id
    for observed, column, message in (
        ({"source_id": ids[[1, 1]], "g": [15.0, 15.0]}, "g", "1 sources come twice or more"),
        ({"source_id": ids[:2], "g": [15.0, 15.0]}, "v", "has no column 'v'"),
        ({"source_id": [1, 2], "g": [15.0, 15.0]}, "g", "no XP source is in"),
    ):
        with pytest.raises(xpjax.XpjaxError, match=message):
            match_magnitudes(xp, observed, column, 0.01)
