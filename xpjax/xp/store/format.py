"""How a store file is laid out: its format, attributes and checksums.

Layout of a file of n sources, which h5py alone can read (`h5py.File(path)["bp_coefficients"][10:20]`); every dataset
is contiguous, uncompressed and at the root, one row a source, named as the Gaia archive names it; per XP, here bp:

    source_id                       (n,) int64          0 where the input has none
    bp_coefficients                 (n, n_bp) float32   NaN where the XP is missing or bad
    bp_coefficient_errors           (n, n_bp) float32   with the standard deviation of the fit; absent if the input is
                                                        without, as are the next two
    bp_coefficient_correlations     (n, n_pair)         strict lower triangle by rows; float32, or int16: times the
                                                        attribute `scale`, -32768 is NaN
    bp_covariance                   (n, width) int16    instead of correlations: lower triangle, with the diagonal, by
    bp_covariance_scale             (n,) float32        rows, of the first n_leading rows of M = reduce' K reduce over
                                                        the scale (NaN without errors), zeros at the end
    bp_covariance_rest              (n, width) int8     its other rows, over size and this scale; then 254 times what
    bp_covariance_rest_scale        (n,) float32        rounding left of the elements `again`; see xpjax.xp.compact
    covariance_subspace/bp/...      float64             reduce (n_bp, n_bp), query (n_bp, n_bp), mean (n_bp, n_bp), size
                                                        and again of the rest's elements, n_leading: the variance of c r
                                                        is q' M q with q = query r
    bp_n_relevant_bases             (n,) int16          0 where the XP is missing or bad
    xp_status                       (n,) uint32         xpjax.core.status.Status of the reading
    ra, phot_g_mean_mag, ...        (n,)                further columns, with an attribute `unit`; of epoch spectra
                                                        always transit_id (int64) and time [d], and flags as integers;
                                                        the least int64 (`_FillValue`) stands for a missing one
    checksum/NAME                   (n / 4096,) uint32  CRC-32 of the bytes of each 4,096 rows of the dataset NAME

Attributes of the file: format, format_version (2 with compact covariances, else 1), release_name, release_n_basis,
release_xp, n_rows, correlations (none, compact, int16 or float32), covariance_subspace (a checksum of its
matrices, with compact covariances), errors (bool), datasets (type and width of each, JSON), columns (the further ones,
JSON), units (of these, JSON), first_source_id and last_source_id (the least and the greatest), first_healpix_8 and
last_healpix_8 (the same >> 43), sorted, source, source_bytes, xpjax_version, created, and checksum: the CRC-32 of all
other attributes as JSON with sorted keys. Rows keep the order of the input.

int16 holds a correlation to 1.5e-5: errors of the twelve J-PLUS magnitudes change by 1e-4 of themselves at most; with
compact covariances by 2e-4.
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.xp.compact import COMPACT

FORMAT = "xpjax store"
VERSION = 2
"""The latest; files without compact covariances are of version 1."""
SUFFIX = ".h5"
LONGEST_TEXT = 10_000
"""Characters of an attribute that HDF5 can hold in place: 64 kB at most."""
BLOCK = 4096
"""Rows that share a checksum."""
CORRELATIONS = ("none", COMPACT, "int16", "float32")
"""What a file may hold of correlations, from nothing to all."""
SCALE = np.float32(1 / 32767)
"""What an int16 correlation is multiplied by."""
MISSING = np.int16(-32768)
"""The int16 that stands for NaN."""
G = "phot_g_mean_mag"


class StoreError(XpjaxError):
    """A store file is damaged; the message names file, dataset and rows."""


def held_attribute(value: Any) -> Any:
    """An attribute as HDF5 is to hold it: text of fixed length.

    Other text lies in a heap, where HDF5 may search for ever if one bit of a size is wrong; long text has to.
    """
    texts = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) and text and len(text) < LONGEST_TEXT for text in texts):
        return value
    held = np.array([text.encode() for text in texts])
    return held if isinstance(value, list) else held[0]


def attributes_checksum(attrs: Mapping[str, Any]) -> int:
    """The CRC-32 of all attributes of a file but the one that holds it."""
    rest = {name: value for name, value in attrs.items() if name != "checksum"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


@functools.cache
def crc32() -> Callable[..., int]:
    """isal's CRC-32 where it is installed, several times as fast as zlib's; the values are the same."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    return isal_zlib.crc32


def id_range(ids: np.ndarray) -> tuple[int, int]:
    """The least and the greatest id (n,), missing ones left out."""
    ids = ids[ids != 0]
    return (int(ids.min()), int(ids.max())) if len(ids) else (0, 0)
