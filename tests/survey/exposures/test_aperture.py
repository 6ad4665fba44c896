"""The best aperture brought to the whole star's light."""

import numpy as np
import pytest

from tests.survey.exposures.helpers import made
from xpjax.survey.exposures.aperture import aperture_correction


def test_lost_light_is_put_back() -> None:
    o = made(2)
    lost = 0.2 + 0.05 * ((o.x / 2000 - 1) ** 2 + (o.y / 2000 - 1) ** 2)
    rng = np.random.default_rng(3)
    noise = np.array([0.002, 0.004, 0.006, 0.006])
    light = np.stack([lost, 0.3 * lost, 0 * lost, 0 * lost], axis=1)
    seen = o.magnitude[:, None] + light + rng.normal(size=(len(o), 4)) * noise
    found = aperture_correction(o, seen, np.broadcast_to(noise, seen.shape))
    assert found.best.tolist() == [0]
    assert found.reference.tolist() == [2]
    assert np.abs(found.magnitude - o.magnitude).std() < 0.003
    assert np.abs(found.correction + lost).max() < 0.01
    plain = aperture_correction(o, seen)
    assert plain.best.tolist() == [2]
    assert not plain.correction.any()
    with pytest.raises(ValueError, match="two apertures"):
        aperture_correction(o, seen[:, :1])
