"""Coefficients, bases, instrument models and spectra.

`__all__` is public. What else is imported here serves other rooms of xpjax, and may change.
"""

from xpjax.xp.asked import asked_sources as asked_sources, keeping as keeping
from xpjax.xp.coefficients import (
    BAD as BAD,
    NO_ERROR as NO_ERROR,
    check_truncation as check_truncation,
    coefficient_errors as coefficient_errors,
    covariance as covariance,
    covariance_matrix,
    mark_no_errors as mark_no_errors,
    masked as masked,
    merge_status as merge_status,
    pair_products as pair_products,
    possible_variance as possible_variance,
    run_guarded as run_guarded,
    usable as usable,
)
from xpjax.xp.compact import (
    COMPACT as COMPACT,
    LEADING as LEADING,
    CompactCovariance as CompactCovariance,
    Subspace as Subspace,
    packed_variance as packed_variance,
    reduced as reduced,
)
from xpjax.xp.correction import (
    DISTANCE_MEANING as DISTANCE_MEANING,
    FADE as FADE,
    NONE as NONE,
    STANDARD as STANDARD,
    AnyLinear as AnyLinear,
    Domain as Domain,
    LinearCorrection,
    change_samples as change_samples,
    is_linear as is_linear,
    load_correction,
    named_correction as named_correction,
    write_correction,
)
from xpjax.xp.download.job import (
    FetchProgress as FetchProgress,
    FetchReport as FetchReport,
    Unfinished as Unfinished,
    fetch,
)
from xpjax.xp.figures import FIRST_SPECTRA as FIRST_SPECTRA, AnySpectra as AnySpectra, draw_spectra as draw_spectra
from xpjax.xp.functional import coefficients_of as coefficients_of, mapped as mapped
from xpjax.xp.instrument import (
    Instrument,
    check_release as check_release,
    dispersion as dispersion,
    load_instrument,
    merge_weights as merge_weights,
    open_model as open_model,
)
from xpjax.xp.inverse import (
    check_uncorrected as check_uncorrected,
    coefficients_of_samples,
    correct_samples as correct_samples,
)
from xpjax.xp.lines import extrema
from xpjax.xp.observation import (
    RELATIVE as RELATIVE,
    ObserveOptions as ObserveOptions,
    check_noise as check_noise,
    observation_matrix,
    observe as observe,
)
from xpjax.xp.read.archive import as_sources as as_sources, read, read_for as read_for
from xpjax.xp.read.hats import is_hats as is_hats, partitions as partitions
from xpjax.xp.read.layout import repeated as repeated
from xpjax.xp.read.nested import further_columns as further_columns, used_columns as used_columns
from xpjax.xp.read.peek import peek_release as peek_release
from xpjax.xp.read.spectra_files import (
    agreed_length as agreed_length,
    flux_factor as flux_factor,
    read_spectra,
    read_told as read_told,
    source_ids as source_ids,
    the_same as the_same,
    wavelength_axis as wavelength_axis,
)
from xpjax.xp.sampled import Spectra
from xpjax.xp.simulate import simulate_sources, true_coefficients as true_coefficients
from xpjax.xp.sources import (
    HEALPIX_LEVEL as HEALPIX_LEVEL,
    TRANSIT as TRANSIT,
    TRANSIT_MEANINGS as TRANSIT_MEANINGS,
    TRANSIT_UNITS as TRANSIT_UNITS,
    AnySources as AnySources,
    SourceTable,
    XPCoefficients,
    concatenate as concatenate,
)
from xpjax.xp.spectrum import INTERNAL_GRID as INTERNAL_GRID, Sampler as Sampler, spectra
from xpjax.xp.store.file import StoreFile as StoreFile
from xpjax.xp.store.format import StoreError as StoreError, crc32 as crc32
from xpjax.xp.store.ingest import ingest
from xpjax.xp.store.sky import on_sky as on_sky, pixel_centers as pixel_centers
from xpjax.xp.store.store import Store, is_store as is_store, open_store
from xpjax.xp.store.writer import write_store_file
from xpjax.xp.wanted import AnyIds as AnyIds, Cone as Cone, is_query as is_query, wanted_ids as wanted_ids
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
    "covariance_matrix",
    "extrema",
    "fetch",
    "ingest",
    "load_correction",
    "load_instrument",
    "observation_matrix",
    "open_store",
    "read",
    "read_spectra",
    "simulate_sources",
    "spectra",
    "variable_grid",
    "write_correction",
    "write_store_file",
]
