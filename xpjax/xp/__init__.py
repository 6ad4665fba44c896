"""Coefficients, bases, instrument models and spectra.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.xp.coefficients import BAD as BAD
from xpjax.xp.coefficients import NO_ERROR as NO_ERROR
from xpjax.xp.coefficients import as_sources as as_sources
from xpjax.xp.coefficients import covariance as covariance
from xpjax.xp.coefficients import covariance_matrix
from xpjax.xp.coefficients import mark_no_errors as mark_no_errors
from xpjax.xp.coefficients import masked as masked
from xpjax.xp.coefficients import merge_status as merge_status
from xpjax.xp.coefficients import pair_products as pair_products
from xpjax.xp.coefficients import possible_variance as possible_variance
from xpjax.xp.coefficients import run_guarded as run_guarded
from xpjax.xp.coefficients import usable as usable
from xpjax.xp.correction import DISTANCE_MEANING as DISTANCE_MEANING
from xpjax.xp.correction import FADE as FADE
from xpjax.xp.correction import NONE as NONE
from xpjax.xp.correction import STANDARD as STANDARD
from xpjax.xp.correction import Domain as Domain
from xpjax.xp.correction import LinearCorrection, load_correction, write_correction
from xpjax.xp.correction import is_linear as is_linear
from xpjax.xp.correction import named_correction as named_correction
from xpjax.xp.instrument import DEFAULT_MODEL as DEFAULT_MODEL
from xpjax.xp.instrument import Instrument, load_instrument
from xpjax.xp.instrument import check_grid as check_grid
from xpjax.xp.instrument import dispersion as dispersion
from xpjax.xp.instrument import merge_weights as merge_weights
from xpjax.xp.instrument import open_model as open_model
from xpjax.xp.instrument import read_release as read_release
from xpjax.xp.inverse import check_uncorrected as check_uncorrected
from xpjax.xp.inverse import coefficients_of_samples, correct_samples
from xpjax.xp.lines import extrema
from xpjax.xp.read.archive import read
from xpjax.xp.read.fetch import fetch as fetch
from xpjax.xp.read.spectra_files import flux_factor as flux_factor
from xpjax.xp.read.spectra_files import read_sampled
from xpjax.xp.read.spectra_files import source_ids as source_ids
from xpjax.xp.read.spectra_files import the_same as the_same
from xpjax.xp.read.spectra_files import wavelengths as wavelengths
from xpjax.xp.simulate import simulate_sources
from xpjax.xp.sources import SourceTable, XPCoefficients
from xpjax.xp.spectrum import INTERNAL_GRID as INTERNAL_GRID
from xpjax.xp.spectrum import Spectra, spectra
from xpjax.xp.store.file import StoreFile as StoreFile
from xpjax.xp.store.format import SUFFIX as SUFFIX
from xpjax.xp.store.format import StoreError as StoreError
from xpjax.xp.store.format import crc32 as crc32
from xpjax.xp.store.ingest import Ingested as Ingested
from xpjax.xp.store.ingest import ingest
from xpjax.xp.store.sky import on_sky as on_sky
from xpjax.xp.store.sky import pixel_centers as pixel_centers
from xpjax.xp.store.store import HEALPIX_LEVEL as HEALPIX_LEVEL
from xpjax.xp.store.store import Store, open_store
from xpjax.xp.store.store import is_store as is_store
from xpjax.xp.store.writer import write_store_file
from xpjax.xp.wavelengths import constant_grid, variable_grid

__all__ = [
    "Instrument",
    "LinearCorrection",
    "SourceTable",
    "Spectra",
    "Store",
    "XPCoefficients",
    "coefficients_of_samples",
    "constant_grid",
    "correct_samples",
    "covariance_matrix",
    "extrema",
    "ingest",
    "load_correction",
    "load_instrument",
    "open_store",
    "read",
    "read_sampled",
    "simulate_sources",
    "spectra",
    "variable_grid",
    "write_correction",
    "write_store_file",
]
