"""What a network predicts, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest

from tests.wiggles.helpers import made
from xpjax.wiggles.judgment import remaining
from xpjax.wiggles.network import WiggleCorrection
from xpjax.wiggles.spectra import systematic_error


def test_the_table_tells_what_is_left(trained: WiggleCorrection) -> None:
    new = made(500, seed=9)
    told = systematic_error(trained, new.stars)
    assert np.sqrt(np.mean(told**2)) == pytest.approx(np.sqrt(np.mean(remaining(trained, new) ** 2)), rel=0.1)
    assert trained.systematic is not None
    assert trained.systematic.value.shape[0] > 3
