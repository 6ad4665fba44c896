"""Photometric systems, and synthetic magnitudes in them.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.synthetic.absolute import GAIA as GAIA
from xpjax.synthetic.absolute import gaia_scale, scaled_photometry
from xpjax.synthetic.absolute import read_terms as read_terms
from xpjax.synthetic.atmosphere import RANGES as RANGES
from xpjax.synthetic.atmosphere import Atmosphere
from xpjax.synthetic.chain import Curve, TransmissionChain, read_chain
from xpjax.synthetic.files.folders import filters_folder as filters_folder
from xpjax.synthetic.files.folders import shipped_passbands as shipped_passbands
from xpjax.synthetic.files.gaiaxpy_files import find_gaiaxpy as find_gaiaxpy
from xpjax.synthetic.files.gaiaxpy_files import read_gaiaxpy, write_gaiaxpy
from xpjax.synthetic.files.passband_files import find_passbands as find_passbands
from xpjax.synthetic.files.passband_files import read_passbands, write_passbands
from xpjax.synthetic.files.passband_files import read_spectrum as read_spectrum
from xpjax.synthetic.files.svo import fetch_passbands
from xpjax.synthetic.fit import PassbandFit, fit_passband, warped
from xpjax.synthetic.magnitude import AnySystem as AnySystem
from xpjax.synthetic.magnitude import Photometer, Photometry, photometry
from xpjax.synthetic.magnitude import as_system as as_system
from xpjax.synthetic.magnitude import color_corrected as color_corrected
from xpjax.synthetic.magnitude import photometry_kernel as photometry_kernel
from xpjax.synthetic.observed import observed_magnitudes
from xpjax.synthetic.passband import Passband, PassbandSet
from xpjax.synthetic.projection import MOSTLY as MOSTLY
from xpjax.synthetic.projection import PassbandOperator as PassbandOperator
from xpjax.synthetic.projection import band_weights as band_weights
from xpjax.synthetic.projection import (
    corrected_system,
    fwhm,
    load_passbands,
    mean_wavelength,
    passband_system,
    pivot_wavelength,
    share_outside,
    vega_zero_point,
    zero_point,
)
from xpjax.synthetic.projection import curves_of as curves_of
from xpjax.synthetic.projection import cut_off as cut_off
from xpjax.synthetic.projection import interpolation as interpolation
from xpjax.synthetic.projection import passband_operator as passband_operator
from xpjax.synthetic.projection import published_name as published_name
from xpjax.synthetic.projection import quadrature as quadrature
from xpjax.synthetic.projection import with_zero_points as with_zero_points
from xpjax.synthetic.recover import recover_passbands
from xpjax.synthetic.system import G_BAND as G_BAND
from xpjax.synthetic.system import G_SYSTEM as G_SYSTEM
from xpjax.synthetic.system import ColorEquation as ColorEquation
from xpjax.synthetic.system import PhotometricSystem, available_systems, load_system
from xpjax.synthetic.system import select_bands as select_bands
from xpjax.synthetic.system import stack as stack

__all__ = [
    "Atmosphere",
    "Curve",
    "Passband",
    "PassbandFit",
    "PassbandSet",
    "Photometer",
    "PhotometricSystem",
    "Photometry",
    "TransmissionChain",
    "available_systems",
    "corrected_system",
    "fetch_passbands",
    "fit_passband",
    "fwhm",
    "gaia_scale",
    "load_passbands",
    "load_system",
    "mean_wavelength",
    "observed_magnitudes",
    "passband_system",
    "photometry",
    "pivot_wavelength",
    "read_chain",
    "read_gaiaxpy",
    "read_passbands",
    "recover_passbands",
    "scaled_photometry",
    "share_outside",
    "vega_zero_point",
    "warped",
    "write_gaiaxpy",
    "write_passbands",
    "zero_point",
]
