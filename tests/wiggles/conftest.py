"""A network that is trained once."""

from __future__ import annotations

import pytest

from tests.wiggles.helpers import QUICK, made
from xpjax.wiggles.network import WiggleCorrection
from xpjax.wiggles.training import train_network


@pytest.fixture(scope="session")
def trained() -> WiggleCorrection:
    return train_network(made(), QUICK)
