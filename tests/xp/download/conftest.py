"""Made sources, and archives that answer without long pauses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import xpjax
from xpjax import SourceTable
from xpjax.xp.download import request


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Short pauses, and a cache of each test's own."""
    monkeypatch.setattr(request, "PATIENCE", request.Patience(first=0.002, longest=0.01, total=20.0, unanswered=0.5))
    monkeypatch.setenv("XPJAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def made() -> SourceTable:
    """Sources as the archive has them: coefficients in double, errors and correlations in single precision."""
    return single(xpjax.simulate_sources(240, seed=11, dtype=np.float64))


def single(sources: SourceTable) -> SourceTable:
    c = sources.coefficients
    error, correlation = (None if a is None else a.astype(np.float32) for a in (c.error, c.correlation))
    return dataclasses.replace(sources, coefficients=dataclasses.replace(c, error=error, correlation=correlation))
