"""Stellar color regression.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.scr.config import OWN as OWN
from xpjax.survey.scr.law import ColorRegression, predict_scr, read_regressions
from xpjax.survey.scr.regression import ColorModel, fit_scr
from xpjax.survey.scr.run import ScrSolution, read_scr, run_scr
from xpjax.survey.scr.zero_points import (
    HomogenizedZeroPoints,
    TileZeroPoints,
    homogenize,
    read_homogenized,
    read_zero_points,
)

__all__ = [
    "ColorModel",
    "ColorRegression",
    "HomogenizedZeroPoints",
    "ScrSolution",
    "TileZeroPoints",
    "fit_scr",
    "homogenize",
    "predict_scr",
    "read_homogenized",
    "read_regressions",
    "read_scr",
    "read_zero_points",
    "run_scr",
]
