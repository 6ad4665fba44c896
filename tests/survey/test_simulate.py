"""Simulated surveys."""

import numpy as np
import pytest

from xpjax.survey.simulate import SimulatedSurvey, SurveySetup


def test_simulated_exposures_are_the_same_however_asked() -> None:
    survey = SimulatedSurvey(SurveySetup(n_exposure=4, n_star=100, n_night=2))
    whole, truth = survey.observe()
    part, _ = survey.observe([2])
    mine = whole.frame == 2
    np.testing.assert_array_equal(part.magnitude, whole.magnitude[mine])
    good = ~truth.disturbed
    off = (whole.magnitude + truth.correction - truth.magnitude)[good] / truth.error[good]
    assert off.std() == pytest.approx(1, abs=0.15)
    with pytest.raises(ValueError, match="needs exposures"):
        SimulatedSurvey(SurveySetup(n_exposure=0))
