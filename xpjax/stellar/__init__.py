"""Stellar parameters: model grids, their interpolation, batched fits. Nothing is exported here.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.stellar.fit import fit_labels
from xpjax.stellar.fit import interpolation_error as interpolation_error
from xpjax.stellar.grid import StellarGrid, build_grid, read_grid, write_grid
from xpjax.stellar.grid import check_grid_output as check_grid_output
from xpjax.stellar.interpolation import interpolator, model_spectra, redden
from xpjax.stellar.libraries.library import UNITS as UNITS
from xpjax.stellar.sources import LabelFits, LabelFitter
from xpjax.stellar.sources import grid_digest as grid_digest
from xpjax.stellar.sources import interpolated as interpolated
from xpjax.stellar.sources import selected as selected

__all__ = [
    "LabelFits",
    "LabelFitter",
    "StellarGrid",
    "build_grid",
    "fit_labels",
    "interpolator",
    "model_spectra",
    "read_grid",
    "redden",
    "write_grid",
]
