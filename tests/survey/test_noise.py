"""Laws of noise at published values."""

import numpy as np
import pytest

from xpjax.survey.noise import CCD, Camera, scintillation_osborn, scintillation_young


def test_noise_laws_at_published_values() -> None:
    """Young's law at 1 m, 1 s, sea level, zenith: 0.09 100^-2/3 / sqrt 2; Osborn's at C_Y = 1.5."""
    assert scintillation_young(1.0, 1.0, 1.0, 0.0) == pytest.approx(0.0029539, rel=1e-4)
    assert scintillation_osborn(1.0, 1.0, 1.0, 0.0) == pytest.approx(1.5 * np.sqrt(1e-5), rel=1e-12)
    assert scintillation_osborn(1.0, 4.0, 2.0, 8000.0) == pytest.approx(1.5 * np.sqrt(1e-5 / 4 * 8) / np.e, rel=1e-12)
    parts = Camera().noise(np.array([13.0, 16.0]))
    square = sum(parts[name] ** 2 for name in ("photon", "sky", "read", "scintillation"))
    np.testing.assert_allclose(parts["total"], np.sqrt(square))
    assert 0.001 < parts["total"][0] < 0.005
    assert CCD.noise(np.array([16.0]))["total"][0] > 0
