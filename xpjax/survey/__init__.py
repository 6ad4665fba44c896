"""Surveys calibrated with XP standards and spectroscopy.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.identity import Named as Named
from xpjax.survey.identity import check_one_place as check_one_place
from xpjax.survey.identity import detection_ids as detection_ids
from xpjax.survey.identity import name_exposures as name_exposures
from xpjax.survey.identity import position_ids as position_ids
from xpjax.survey.identity import settle_stars as settle_stars
from xpjax.survey.identity import stem as stem
from xpjax.survey.noise import CCD as CCD
from xpjax.survey.noise import Camera
from xpjax.survey.observations import MISSING as MISSING
from xpjax.survey.observations import REFUSED as REFUSED
from xpjax.survey.observations import SUSPECT as SUSPECT
from xpjax.survey.observations import FrameFlag, Frames, Observations, RowFlag, make_observations
from xpjax.survey.observations import Match as Match
from xpjax.survey.observations import Origin as Origin
from xpjax.survey.observations import columns_home as columns_home
from xpjax.survey.observations import concatenate as concatenate
from xpjax.survey.observations import correct_gaia as correct_gaia
from xpjax.survey.observations import group_median as group_median
from xpjax.survey.observations import match_ids as match_ids
from xpjax.survey.observations import match_positions as match_positions
from xpjax.survey.observations import separation as separation
from xpjax.survey.observations import with_nights as with_nights
from xpjax.survey.robust import HUBER as HUBER
from xpjax.survey.robust import LEAST_VARIANCE as LEAST_VARIANCE
from xpjax.survey.robust import MAD as MAD
from xpjax.survey.robust import SCALE as SCALE
from xpjax.survey.robust import TUKEY as TUKEY
from xpjax.survey.selection import CUTS as CUTS
from xpjax.survey.selection import Selected as Selected
from xpjax.survey.selection import check_limits as check_limits
from xpjax.survey.selection import expand as expand
from xpjax.survey.selection import select
from xpjax.survey.simulate import COLOR_ZERO as COLOR_ZERO
from xpjax.survey.simulate import Setup, Survey
from xpjax.survey.simulate import as_table as as_table

__all__ = [
    "Camera",
    "FrameFlag",
    "Frames",
    "Observations",
    "RowFlag",
    "Setup",
    "Survey",
    "make_observations",
    "select",
]
