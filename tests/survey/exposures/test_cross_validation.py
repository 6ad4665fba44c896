"""Cross-validation on made stars and on a real field."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.survey import PUBLISHED, real_field
from tests.survey.exposures.helpers import SETTINGS, made
from xpjax.survey.exposures.calibrate import calibrate
from xpjax.survey.exposures.cross_validation import cross_validate
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.observations import concatenate


@pytest.mark.slow
def test_residuals_of_cross_validation_are_as_large_as_their_errors() -> None:
    o = concatenate([made(k, name=f"e{k}", noise=0.006) for k in range(4)])
    held = cross_validate(o, SETTINGS, folds=5)
    assert np.std(held.residual / held.error) == pytest.approx(1, abs=0.1)
    assert held.number.tolist() == [300] * 4
    # Fitted stars scatter less than stars left out, or nothing was left out.
    _, rows = calibrate(o, SETTINGS)
    assert np.std(rows.residual) < np.std(held.residual)


@pytest.mark.slow
def test_cross_validation_of_the_real_field(shared: Callable[[str], Path]) -> None:
    shared("splus/stripe82_0001_400.fits")
    field = real_field(tuple(PUBLISHED))
    held = cross_validate(field, CalibrationSettings(numerical_flat=True), folds=5)
    for k, band in enumerate(field.frames.band):
        assert 1e3 * held.scatter[k] < PUBLISHED[band]
        assert held.rms[k] > 0.2  # bad matches are still among them
    pull = np.abs(held.residual / held.error)
    assert 1.4826 * np.nanmedian(pull) == pytest.approx(1, abs=0.1)
