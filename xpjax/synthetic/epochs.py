"""Light curves of sources: from epoch spectra, or from photometry of them, in memory, files and stores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Unpack

from xpjax.core.errors import XpjaxError, say
from xpjax.io.atomic import expanded
from xpjax.io.streams import plain_suffix
from xpjax.io.tables import open_table
from xpjax.synthetic.light_curve import LightCurve, days, gaia_id
from xpjax.synthetic.magnitude import Photometry, PhotometryOptions, photometry, read_photometry
from xpjax.synthetic.projection import AnySystem, as_system
from xpjax.xp import AnySources, as_sources, is_hats, is_store, open_store

FIND = "find"
"""The period that means: find it."""


class LightCurveOptions(PhotometryOptions, total=False):
    """Options of `photometry`, and of `passband_system`."""

    extrapolate: str | None
    allow_outside: bool


def lightcurve(
    sources: Photometry | AnySources,
    source_id: int | None = None,
    system: AnySystem | Sequence[AnySystem] | None = None,
    *,
    bands: str | Sequence[str] | None = None,
    period: float | str | None = None,
    epoch: float | None = None,
    bins: int | None = None,
    **options: Unpack[LightCurveOptions],
) -> LightCurve:
    """Make the light curve of a source through any filters, from epoch spectra or from photometry of them.

    Parameters
    ----------
    sources : Photometry, or what `xpjax.photometry` takes
        Photometry of epoch spectra or its file, or epoch spectra: a SourceTable, file, table or store.
    source_id : int, optional
        The source; by default the only one there is.
    system : PhotometricSystem, str, Passband, PassbandSet, or a list of these
        The filters of spectra, as for `xpjax.photometry`; of a file of photometry only where it is no published system.
    bands : str or sequence of str, optional
        Some of the bands; by default all.
    period : float or "find", optional [d]
        Fold with this period, or with one that is found; `search.aliases` has others that fit as well.
    epoch : float, optional [d]
        Where phase is zero, on the scale of the times; by default the first transit.
    bins : int, optional
        Average fluxes in so many bins, of phase where the light curve is folded, else of time.
    **options
        As of `xpjax.photometry`: correction, truncate, float64, devices; of passbands also extrapolate and
        allow_outside, as of `xpjax.passband_system`.

    Returns
    -------
    LightCurve
        The transits by time, or bins of them: magnitudes, fluxes and errors in every band.

    Raises
    ------
    XpjaxError
        If these are mean spectra, there is no such source, or no period stands out from chance and its aliases.

    Notes
    -----
    Transits that lack BP or RP have no magnitude in bands that need it. Errors are those of one transit.

    Examples
    --------
    >>> stars = xpjax.simulate_sources(3, seed=1, transits=30)
    >>> curve = xpjax.lightcurve(stars, stars.source_id[0], "SDSS:g,r", period=0.61, bins=6)
    >>> curve.magnitude.shape, curve.number.shape
    ((6, 2), (6, 2))
    """
    if isinstance(period, str) and period != FIND:
        raise XpjaxError(f"period is a number of days or {FIND!r}, not {period!r}")
    if period is None and epoch is not None:
        raise XpjaxError(f"an epoch is of a period: give {say('period=', '--period')}")
    # Whatever is wrong is told before anything is read.
    known = None if period is None or isinstance(period, str) else days(period, "a period", above=0)
    epoch = None if epoch is None else days(epoch, "an epoch")
    source_id = None if source_id is None else gaia_id(source_id)
    curve = _photometry(sources, source_id, system, dict(options)).lightcurve(source_id, bands)
    if period is not None:
        curve = curve.fold(known, epoch)
    return curve if bins is None else curve.bin(bins)


def _photometry(sources: Any, source_id: int | None, system: Any, options: dict[str, Any]) -> Photometry:
    """The magnitudes of the source's transits, or of all sources where photometry is given. Raises XpjaxError."""
    if isinstance(sources, LightCurve):
        raise XpjaxError("this is a light curve already: fold and bin are its own methods")
    ready, is_path = isinstance(sources, Photometry), isinstance(sources, str | os.PathLike)
    if ready or (is_path and _has_magnitudes(sources)):
        given = [name for name, value in options.items() if value not in (None, False, "none")]
        if given or (ready and system is not None):
            raise XpjaxError(f"photometry is taken as it is: leave out {', '.join(given) or 'system'}")
        return sources if ready else read_photometry(sources, None if system is None else as_system(system))
    if system is None:
        raise XpjaxError(f"epoch spectra need filters: name them by {say('system=', '--system or --passbands')}")
    if is_path and is_store(sources):
        store = open_store(sources)
        table = store.read() if source_id is None else store.select([source_id])
    else:
        table = as_sources(sources)
    if source_id is not None:
        mine = table.source_id == source_id
        if not mine.any():
            raise XpjaxError(f"{os.fspath(sources) if is_path else table.origin}: no source {source_id}")
        table = table[mine]
    if not table.is_epoch:
        raise XpjaxError(
            f"{table.origin} has mean spectra: a light curve needs epoch spectra, with the columns transit_id and time"
        )
    projecting = {name: options.pop(name) for name in ("extrapolate", "allow_outside") if name in options}
    bands = as_system(system, release=table.release, **projecting)
    return photometry(table, bands, **options)


def _has_magnitudes(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds photometry: magnitudes, and no coefficients. Raises XpjaxError for what has neither."""
    path = expanded(path)
    if is_store(path) or is_hats(path) or plain_suffix(path) == ".avro":
        return False
    if path.is_dir():
        raise XpjaxError(
            f"{path} is a directory, and no store: give one file of it, with epoch spectra or magnitudes of them "
            "(a catalogue's files have magnitudes)"
        )
    names = {*open_table(path).names}
    if "transit_id" not in names and any(name.replace("_mag_", "_number_") in names - {name} for name in names):
        raise XpjaxError(f"{path} is a light curve in bins, which have no transits: give what it was made of")
    return any("_mag_" in name for name in names) and "bp_coefficients" not in {name.lower() for name in names}
