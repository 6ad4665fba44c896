"""What the Gaia archive calls things, release by release: the one place to change when it changes.

Sources: the archive's help pages on DataLink and TAP, the data model of Gaia DR3, and drafts of that of Gaia DR4 (May
2026), whose names may still change; where several spellings were seen all are tried, in this order.
"""

from __future__ import annotations

import dataclasses

from xpjax.core.release import DR3, DR4, Release

HOST = "https://gea.esac.esa.int"
"""The archive. `tap-server/tap` answers queries, `data-server/data` gives spectra (DataLink)."""
MOST_IDS = 5000
"""Source ids that one request for spectra may name."""
STRUCTURES = ("INDIVIDUAL", "RAW", "DATAMODEL_GAIA")
"""DATA_STRUCTURE of a request. The first ones are answered today; the last, which the newest clients send, was answered
with HTTP 500 in September 2026."""


@dataclasses.dataclass(frozen=True)
class Archive:
    """Names of one release in the archive.

    release; label: value of RELEASE in requests; mean, epoch: values of RETRIEVAL_TYPE, as spelled in turn, empty where
    the release has no such product; table: gaia_source in TAP; has_mean, has_epoch: its columns that tell which sources
    have spectra, as spelled in turn.
    """

    release: Release
    label: str
    mean: tuple[str, ...]
    epoch: tuple[str, ...]
    table: str
    has_mean: tuple[str, ...]
    has_epoch: tuple[str, ...]


ARCHIVES = (
    Archive(DR3, "Gaia DR3", ("XP_CONTINUOUS",), (), "gaiadr3.gaia_source", ("has_xp_continuous",), ()),
    Archive(
        DR4,
        "Gaia DR4",
        ("MEAN_SPECTRUM_XP", "XP_MEAN_SPECTRUM", "XP_CONTINUOUS"),
        ("EPOCH_SPECTRUM_XP", "XP_EPOCH_SPECTRUM"),
        "gaiadr4.gaia_source",
        ("has_mean_spectrum_xp", "has_xp_mean_spectrum", "has_xp_continuous"),
        ("has_epoch_spectrum_xp", "has_xp_epoch_spectrum"),
    ),
)
MEMBERS = ("XP_CONTINUOUS", "XPCONTINUOUS", "MEAN_SPECTRUM_XP", "XP_MEAN_SPECTRUM", "EPOCH_SPECTRUM_XP", "XP_EPOCH")
"""How names of the files begin, without case, in which the archive packs XP coefficients beside other products."""
SOURCE_COLUMNS = (
    *("ra", "dec", "parallax", "parallax_error", "pmra", "pmdec", "ref_epoch"),
    *("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "bp_rp", "ruwe", "phot_bp_rp_excess_factor"),
)
"""Columns of gaia_source that are fetched beside spectra, where the release has them."""
TRANSIT = ("transit_id", "transitid")
"""Columns of the transit that an epoch spectrum is of, as spelled in turn."""
TIME = ("time", "obs_time", "transit_time", "epoch_time", "observation_time")
"""Columns of the time of a transit, as spelled in turn."""
TIME_ORIGIN = 2455197.5
"""What is added to a time to give a barycentric Julian date (TCB) [d]: the archive counts from 2010-01-01T00:00:00."""
