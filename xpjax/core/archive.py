"""What the Gaia archive calls things, release by release: the one place to change when it changes.

Sources: the archive's help pages on DataLink and TAP, the data model of Gaia DR3, and drafts of that of Gaia DR4 (May
2026), whose names may still change; where several spellings were seen all are tried, in this order.
"""

from __future__ import annotations

import dataclasses

from xpjax.core.release import DR3, DR4, Release, stated_release

HOST = "https://gea.esac.esa.int"
"""The archive. `tap-server/tap` answers queries, `data-server/data` gives spectra (DataLink)."""
MOST_IDS = 5000
"""Source ids that one request for spectra may name."""
MOST_ROWS = 2000
"""Rows of a query that is answered at once; others run as jobs."""
MOST_JOB_ROWS = 3_000_000
"""Rows of a job of somebody who has not logged in: a result of so many is cut."""
STRUCTURES = ("RAW", "INDIVIDUAL", "DATAMODEL_GAIA")
"""DATA_STRUCTURE of a request. RAW is one file of all sources, INDIVIDUAL one for each; both are answered today. The
last, which the newest clients send, was answered with HTTP 500 in September 2026."""


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


def release_of_name(name: str, *, first: bool = False) -> Release | None:
    """The release that the archive's name of a file of XP coefficients tells; None where it doesn't.

    `MEAN_SPECTRUM_XP-Gaia DR4 123.csv` does so twice. `XP_CONTINUOUS_RAW.csv` may be of several releases; first: then
    it is the first of these.
    """
    upper = name.upper()
    if not upper.startswith(MEMBERS):
        return None
    label = upper.find("GAIA")
    if label > 0 and (stated := stated_release(upper[label:])) is not None:
        return stated
    own = [one.release for one in ARCHIVES if upper.startswith(tuple(word.upper() for word in (*one.mean, *one.epoch)))]
    return own[0] if len(own) == 1 or (own and first) else None


SOURCE_COLUMNS = (
    *("ra", "dec", "parallax", "parallax_error", "pmra", "pmdec", "ref_epoch"),
    *("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "bp_rp", "ruwe", "phot_bp_rp_excess_factor"),
)
"""Columns of gaia_source that are fetched beside spectra, where the release has them."""
DROPPED = ("phot_bp_rp_excess_factor", "astrometric_excess_noise_sig")
"""Columns of Gaia DR3's gaia_source that later releases lack: what leans on them is left out, and said to be."""
TRANSIT = ("transit_id", "transitid")
"""Columns of the transit that an epoch spectrum is of, as spelled in turn."""
TIME = (
    *("time", "obs_time", "transit_time", "epoch_time", "observation_time"),
    *("g_transit_time", "bp_obs_time", "rp_obs_time", "bp_time", "rp_time"),
)
"""Columns of the time of a transit; the first one in this order that has a value."""
TIME_ORIGIN = 2455197.5
"""What is added to a time to give a barycentric Julian date (TCB) [d]: the archive counts from 2010-01-01T00:00:00."""
