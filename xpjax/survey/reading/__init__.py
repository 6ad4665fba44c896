"""Surveys from their files: survey.toml, tables of detections, standards, airmass.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.reading.airmass import to_reference as to_reference
from xpjax.survey.reading.config import Config, read_config
from xpjax.survey.reading.config import check_names as check_names
from xpjax.survey.reading.config import config_from as config_from
from xpjax.survey.reading.config import detector_size as detector_size
from xpjax.survey.reading.config import files_relative_to as files_relative_to
from xpjax.survey.reading.config import named_correction as named_correction
from xpjax.survey.reading.config import read_toml as read_toml
from xpjax.survey.reading.config import with_band as with_band
from xpjax.survey.reading.tables import Reading, read_observations
from xpjax.survey.reading.tables import has_identity as has_identity

__all__ = ["Config", "Reading", "read_config", "read_observations"]
