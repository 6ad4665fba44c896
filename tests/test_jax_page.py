"""The page on JAX runs as it stands, and finds what it says that it finds."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpjax

PAGE = Path(xpjax.__file__).parents[1] / "docs" / "guide" / "jax.md"
SAMPLING = "import numpyro"


@cache
def followed() -> dict[str, Any]:
    """Names after all blocks of the page have run in order, those with numpyro left out."""
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    for block in blocks:
        if SAMPLING not in block:
            exec(block, names)
    return names


@pytest.mark.slow
def test_results_are_those_of_the_host() -> None:
    names = followed()
    c, stars = names["c"], names["stars"]
    host = xpjax.photometry(stars, "JPLUS")
    for name in ("magnitudes", "fast", "shared"):
        np.testing.assert_allclose(names[name], host.magnitude, rtol=0, atol=2e-5)
    np.testing.assert_allclose(names["error"], host.magnitude_error[:20], rtol=1e-3)
    np.testing.assert_allclose(names["exact"], xpjax.photometry(c, "JPLUS", float64=True).magnitude, rtol=1e-12)
    chain = names["chain"]
    for k, site in enumerate(names["sites"]):
        expected = xpjax.photometry(c, site.passbands()).magnitude
        np.testing.assert_allclose(names["at_sites"][k], expected, rtol=0, atol=2e-5)
    thick = xpjax.photometry(c, chain.with_parameters(airmass=2.5).passbands()).magnitude
    np.testing.assert_allclose(names["through_air"][-1], thick, rtol=0, atol=2e-5)
    corrected = xpjax.photometry(c, "JPLUS", correction="standard").magnitude
    np.testing.assert_allclose(names["share"](1.0), corrected, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_the_fit_finds_what_was_put_in() -> None:
    names = followed()
    assert names["losses"][-1] < 1e-3 * names["losses"][0]
    found = {name: float(value) for name, value in names["fitted"].items()}
    assert found["shift"] == pytest.approx(1.5, abs=0.05)
    assert found["blue_edge"] == pytest.approx(-2.0, abs=0.1)
    assert found["zero_point"] == pytest.approx(0.03, abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("numpyro") is None, reason="numpyro is not installed: the extra jax")
def test_the_posterior_holds_what_was_put_in() -> None:
    names = dict(followed())
    (block,) = re.findall(r"^```python\n(import numpyro.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    exec(block, names)
    for name, true in {"shift": 1.5, "blue_edge": -2.0, "zero_point": 0.03}.items():
        sample = np.asarray(names["posterior"][name])
        assert np.abs(sample.mean() - true) < 4 * sample.std()
    assert np.std(names["posterior"]["shift"]) < 1.0  # the prior has 3
