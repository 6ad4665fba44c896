"""Surveys calibrated with XP standards and spectroscopy.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

import importlib
from typing import TYPE_CHECKING, Any

from xpjax.survey.columns import (
    OutputColumn as OutputColumn,
    SurveyTable as SurveyTable,
    origin_columns as origin_columns,
    provenance as provenance,
    tabulate as tabulate,
)
from xpjax.survey.gaia import correct_gaia as correct_gaia
from xpjax.survey.identity import (
    Named as Named,
    check_one_place as check_one_place,
    detection_ids as detection_ids,
    name_exposures as name_exposures,
    position_ids as position_ids,
    rejoin_stars as rejoin_stars,
    settle_stars as settle_stars,
    stem as stem,
)
from xpjax.survey.matching import (
    Match as Match,
    match_ids as match_ids,
    match_positions as match_positions,
    separation as separation,
    unit_vectors as unit_vectors,
)
from xpjax.survey.noise import CAMERAS as CAMERAS, Camera
from xpjax.survey.observations import (
    MISSING as MISSING,
    REFUSED as REFUSED,
    STEEP as STEEP,
    SUSPECT as SUSPECT,
    FrameFlag,
    Frames as Frames,
    Observations,
    Origin as Origin,
    RowFlag,
    concatenate as concatenate,
    group_median as group_median,
    lacks_airmass as lacks_airmass,
    make_observations,
    with_nights as with_nights,
)
from xpjax.survey.robust import (
    HUBER as HUBER,
    LEAST_VARIANCE as LEAST_VARIANCE,
    MAD as MAD,
    SCALE as SCALE,
    TUKEY as TUKEY,
)
from xpjax.survey.selection import (
    CUTS as CUTS,
    Selected as Selected,
    absent_columns as absent_columns,
    check_limits as check_limits,
    expand as expand,
    select,
)
from xpjax.survey.simulation.files import simulate_survey
from xpjax.survey.simulation.setup import SurveyEffects, SurveySetup
from xpjax.survey.simulation.survey import SimulatedSurvey
from xpjax.survey.sky_floor import (
    SKY_NSIDE as SKY_NSIDE,
    SKY_SIGMA as SKY_SIGMA,
    sky_draws as sky_draws,
    sky_floor as sky_floor,
)

__all__ = [
    "Camera",
    "FrameFlag",
    "Observations",
    "RowFlag",
    "SimulatedSurvey",
    "SurveyEffects",
    "SurveySetup",
    "make_observations",
    "select",
    "simulate_survey",
]

ROOMS = ("exposures", "joint", "reading", "report", "scr")
"""Rooms above this one, loaded when they are first used."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """A room by its name."""
        if name in ROOMS:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
