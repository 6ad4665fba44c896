"""Settings of a calibration."""

import pytest

from xpjax.survey.exposures.settings import CalibrationSettings


@pytest.mark.parametrize(
    ("entry", "value"), [("neighbors", 2), ("bins", 1), ("interpolation", 2), ("smooth", -1.0), ("epoch", "weekly")]
)
def test_settings_that_cannot_be(entry: str, value: object) -> None:
    with pytest.raises(ValueError, match=entry):
        CalibrationSettings(**{entry: value})  # type: ignore[arg-type]
