"""A made store for the tests of catalogues."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.catalogue.helpers import SIZES, bad_sources, write_store
from xpjax.xp import simulate
from xpjax.xp.sources import SourceTable


@pytest.fixture(scope="session")
def sources() -> SourceTable:
    return bad_sources(simulate.simulate_sources(sum(SIZES), seed=11))


@pytest.fixture(scope="session")
def store(sources: SourceTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(sources, tmp_path_factory.mktemp("store"))
