"""Zero-points, flat fields and nights, exposure by exposure.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.exposures.aperture import aperture_correction as aperture_correction
from xpjax.survey.exposures.apply import apply_calibration
from xpjax.survey.exposures.calibrate import (
    calibrate,
    calibrated_part as calibrated_part,
    prepare as prepare,
)
from xpjax.survey.exposures.cross_validation import (
    ZERO_POINT as CROSS_VALIDATION_COLUMNS,  # noqa: F401
    CrossValidation,
    cross_validate,
)
from xpjax.survey.exposures.evaluate import evaluate as evaluate
from xpjax.survey.exposures.files import read_calibrated, read_solution, write_solution
from xpjax.survey.exposures.fit import (
    determined_terms as determined_terms,
    fit_exposures,
    standards as usable_standards,  # noqa: F401
)
from xpjax.survey.exposures.flat import epochs as epochs, error_floor as error_floor
from xpjax.survey.exposures.flat_table import flat_table
from xpjax.survey.exposures.model import (
    ExposureModel,
    Extent as Extent,
    Scaling as Scaling,
    extent as extent,
    scaling as scaling,
    scaling_of as scaling_of,
)
from xpjax.survey.exposures.nights import night_line as night_line
from xpjax.survey.exposures.results import ExposureFits as ExposureFits
from xpjax.survey.exposures.settings import CalibrationSettings
from xpjax.survey.exposures.solution import Calibrated, Calibration, join_solutions as join_solutions
from xpjax.survey.exposures.steps import Part as Part, Step as Step, steps as steps
from xpjax.survey.exposures.wide import wide_table

__all__ = [
    "Calibrated",
    "Calibration",
    "CalibrationSettings",
    "CrossValidation",
    "ExposureModel",
    "apply_calibration",
    "calibrate",
    "cross_validate",
    "fit_exposures",
    "flat_table",
    "read_calibrated",
    "read_solution",
    "wide_table",
    "write_solution",
]
