"""Surveys from their files: survey.toml, tables of detections, standards, airmass.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.reading.account import Account as Account
from xpjax.survey.reading.airmass import depends_on_airmass as depends_on_airmass, shift_laws as shift_laws
from xpjax.survey.reading.calibration import (
    SurveyCalibration,
    about_survey as about_survey,
    all_calibrated as all_calibrated,
    apply_survey,
    calibrate_survey,
    frame_lines as frame_lines,
)
from xpjax.survey.reading.check import SurveyCheck as SurveyCheck, check_survey, checked as checked
from xpjax.survey.reading.config import (
    SurveyConfig,
    config_from as config_from,
    files_relative_to as files_relative_to,
    named_correction as named_correction,
    read_config,
    read_setup as read_setup,
    with_band as with_band,
)
from xpjax.survey.reading.initial import InitialConfig as InitialConfig, initial_config
from xpjax.survey.reading.odd import alarms as alarms
from xpjax.survey.reading.parts import (
    Batch as Batch,
    UnitPlan as UnitPlan,
    check_units as check_units,
    config_of_parts as config_of_parts,
    name_tables as name_tables,
    plan_units as plan_units,
    read_batch as read_batch,
    tell as tell,
    tell_shifts as tell_shifts,
    unit_observations as unit_observations,
)
from xpjax.survey.reading.passbands import as_called_before as as_called_before, survey_chain as survey_chain
from xpjax.survey.reading.sections import OWN as OWN, SECTIONS as SECTIONS, SIZE as SIZE, Selection as Selection
from xpjax.survey.reading.tables import SurveyReading as SurveyReading, read_observations

__all__ = [
    "SurveyCalibration",
    "SurveyConfig",
    "apply_survey",
    "calibrate_survey",
    "check_survey",
    "initial_config",
    "read_config",
    "read_observations",
]
