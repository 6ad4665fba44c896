"""Stellar labels: grids of model spectra, their interpolation, and batched fits.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.core.status import FitStatus
from xpjax.stellar.description import describe_grid
from xpjax.stellar.dust import redden
from xpjax.stellar.figures import plot_grid as plot_grid
from xpjax.stellar.fit import fit_labels
from xpjax.stellar.fitter import DEFAULT_CORRECTION as DEFAULT_CORRECTION, LabelFitter
from xpjax.stellar.grid import StellarGrid, build_grid
from xpjax.stellar.grid_file import read_grid, shipped_grids as shipped_grids, write_grid
from xpjax.stellar.interpolation import interpolate_grid, model_spectra
from xpjax.stellar.label_files import fit_label_files
from xpjax.stellar.learned import learn_errors
from xpjax.stellar.residuals import residuals_of_fits
from xpjax.stellar.results import LabelFits, StellarFit as StellarFit, read_labels, select_labels
from xpjax.stellar.seds import observe_files
from xpjax.stellar.validation import interpolation_error

__all__ = [
    "FitStatus", "LabelFits", "LabelFitter", "StellarGrid", "build_grid", "describe_grid", "fit_label_files",
    "fit_labels", "interpolate_grid", "interpolation_error", "learn_errors", "model_spectra", "observe_files",
    "read_grid", "read_labels", "redden", "residuals_of_fits", "select_labels", "write_grid",
]  # fmt: skip
