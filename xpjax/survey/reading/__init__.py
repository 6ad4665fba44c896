"""Surveys from their files: survey.toml, tables of detections, standards, airmass.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.reading.calibration import SurveyCalibration, apply_survey, calibrate_survey
from xpjax.survey.reading.config import (
    SurveyConfig,
    config_from as config_from,
    named_correction as named_correction,
    read_config,
    read_setup as read_setup,
    with_band as with_band,
)
from xpjax.survey.reading.sections import OWN as OWN, SECTIONS as SECTIONS, SIZE as SIZE, Selection as Selection
from xpjax.survey.reading.tables import SurveyReading as SurveyReading, read_observations

__all__ = [
    "SurveyCalibration",
    "SurveyConfig",
    "apply_survey",
    "calibrate_survey",
    "read_config",
    "read_observations",
]
