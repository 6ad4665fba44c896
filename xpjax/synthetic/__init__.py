"""Photometric systems, and synthetic magnitudes in them.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.core.shipped import list_passbands
from xpjax.synthetic.absolute import MagnitudeTerm as MagnitudeTerm, gaia_columns as gaia_columns, tie_to_gaia
from xpjax.synthetic.atmosphere import RANGES as RANGES, Atmosphere
from xpjax.synthetic.chain import Curve, TransmissionChain, parameter_meaning as parameter_meaning
from xpjax.synthetic.chain_file import read_chain
from xpjax.synthetic.checks import (
    PassbandCheck as PassbandCheck,
    check_passbands,
    describe_coverage as describe_coverage,
    describe_passbands,
)
from xpjax.synthetic.epochs import FIND as FIND, lightcurve
from xpjax.synthetic.figures import (
    magnitude_bands as magnitude_bands,
    plot_passbands as plot_passbands,
    plot_photometry as plot_photometry,
)
from xpjax.synthetic.files.gaiaxpy_files import find_gaiaxpy as find_gaiaxpy, read_gaiaxpy, write_gaiaxpy
from xpjax.synthetic.files.passband_files import write_passbands
from xpjax.synthetic.files.svo import fetch_passbands
from xpjax.synthetic.fit import fit_passband
from xpjax.synthetic.fitted import PassbandFit, read_passband_fit
from xpjax.synthetic.kernel import color_corrected as color_corrected, photometry_kernel as photometry_kernel
from xpjax.synthetic.light_curve import LightCurve
from xpjax.synthetic.loading import AnyPassbands as AnyPassbands, curves_of as curves_of, load_passbands
from xpjax.synthetic.magnitude import (
    Photometer as Photometer,
    Photometry,
    photometry as photometry,
    read_photometry,
)
from xpjax.synthetic.observed import match_magnitudes as match_magnitudes
from xpjax.synthetic.passband import Passband, PassbandSet, band_weights as band_weights
from xpjax.synthetic.projection import (
    AnySystem as AnySystem,
    PassbandOperator as PassbandOperator,
    as_system,
    corrected_system as corrected_system,
    passband_operator as passband_operator,
    passband_system,
    stated_release as stated_release,
)
from xpjax.synthetic.published import (
    G_BAND as G_BAND,
    G_SYSTEM as G_SYSTEM,
    available_systems,
    gaia_system as gaia_system,
    load_system,
    published_name as published_name,
    refused_bands as refused_bands,
)
from xpjax.synthetic.recover import recover_passbands
from xpjax.synthetic.system import (
    ColorEquation as ColorEquation,
    PhotometricSystem,
    from_projection as from_projection,
    select_bands as select_bands,
)
from xpjax.synthetic.warp import warp_passband

__all__ = [
    "Atmosphere",
    "Curve",
    "LightCurve",
    "Passband",
    "PassbandFit",
    "PassbandSet",
    "PhotometricSystem",
    "Photometry",
    "TransmissionChain",
    "as_system",
    "available_systems",
    "check_passbands",
    "describe_passbands",
    "fetch_passbands",
    "fit_passband",
    "lightcurve",
    "list_passbands",
    "load_passbands",
    "load_system",
    "passband_system",
    "read_chain",
    "read_gaiaxpy",
    "read_passband_fit",
    "read_photometry",
    "recover_passbands",
    "tie_to_gaia",
    "warp_passband",
    "write_gaiaxpy",
    "write_passbands",
]
