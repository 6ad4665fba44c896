"""Stellar color regression.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.survey.scr.camera import Stars, read_scr_config
from xpjax.survey.scr.homogenize import Homogenized as Homogenized
from xpjax.survey.scr.homogenize import TileZeroPoints, homogenize, zero_point_table
from xpjax.survey.scr.regression import ColorRegression, coefficient_table

__all__ = [
    "ColorRegression",
    "Stars",
    "TileZeroPoints",
    "coefficient_table",
    "homogenize",
    "read_scr_config",
    "zero_point_table",
]
