"""Zero-points, flat fields and nights, exposure by exposure.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.exposures.aperture import aperture_correction as aperture_correction
from xpjax.survey.exposures.files import read_solution, write_solution
from xpjax.survey.exposures.flat import epochs as epochs
from xpjax.survey.exposures.flat import error_floor as error_floor
from xpjax.survey.exposures.flat import stack as stack
from xpjax.survey.exposures.held_out import cross_validate
from xpjax.survey.exposures.model import ExposureModel
from xpjax.survey.exposures.model import Scaling as Scaling
from xpjax.survey.exposures.model import scaling as scaling
from xpjax.survey.exposures.nights import night_line as night_line
from xpjax.survey.exposures.solution import Calibration, CalibrationSettings, apply_calibration, calibrate
from xpjax.survey.exposures.solution import apply_calibration_with_fits as apply_calibration_with_fits
from xpjax.survey.exposures.solution import provenance as provenance
from xpjax.survey.exposures.wide import wide_table
from xpjax.survey.exposures.zeropoint import ExposureFits as ExposureFits
from xpjax.survey.exposures.zeropoint import evaluate as evaluate
from xpjax.survey.exposures.zeropoint import fit_exposures

__all__ = [
    "Calibration",
    "CalibrationSettings",
    "ExposureModel",
    "apply_calibration",
    "calibrate",
    "cross_validate",
    "fit_exposures",
    "read_solution",
    "wide_table",
    "write_solution",
]
