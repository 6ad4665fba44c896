"""Calibrated measurements as a table with a row for each star and columns for each band."""

from __future__ import annotations

import numpy as np

from xpjax.core.records import Catalogue
from xpjax.survey.exposures.solution import Calibrated


def wide_table(calibrated: Calibrated) -> Catalogue:
    """One row for each star: its mean magnitude in every band, errors, and how many measurements it has.

    Parameters
    ----------
    calibrated
        Measurements; those without a calibrated magnitude take no part.

    Returns
    -------
    Catalogue
        Columns ``star``, ``ra`` and ``dec`` [deg] where positions are known, and for each band ``mag_{band}``,
        ``mag_error_{band}``, ``mag_systematic_{band}`` [mag] and ``n_{band}``; a survey of one band without a name
        calls it ``magnitude``. NaN where a star has no measurement.

    Notes
    -----
    Means are weighted by 1 / error**2, or plain where a star has no errors; the error of a mean is that of its weights.
    Systematic errors, which measurements of a star have in common, are averaged and do not shrink.
    """
    o = calibrated.observations
    star, number = np.unique(o.star, return_inverse=True)
    n = len(star)
    columns: dict[str, np.ndarray] = {"star": star}
    units: dict[str, str] = {}
    if o.origin is not None and "ra" in o.origin.columns:
        first = np.full(n, -1)
        known = np.flatnonzero(np.isfinite(o.origin.columns["ra"]) & np.isfinite(o.origin.columns["dec"]))
        first[number[known[::-1]]] = known[::-1]
        for name in ("ra", "dec"):
            columns[name] = np.where(first >= 0, o.origin.columns[name][first], np.nan)
            units[name] = "deg"
    bands = o.frames.band[o.frame]
    good = np.isfinite(calibrated.magnitude)
    for band in dict.fromkeys(o.frames.band.tolist()):
        mine = np.flatnonzero(good & (bands == band))
        error = calibrated.magnitude_error[mine]
        sound = np.isfinite(error) & (error > 0)
        weight = np.where(sound, 1 / np.where(sound, error, 1.0) ** 2, 0.0)
        bare = np.bincount(number[mine], sound, n) == 0  # stars without any error: plain means
        weight = np.where(bare[number[mine]], 1.0, weight)
        count = np.bincount(number[mine], minlength=n)
        with np.errstate(invalid="ignore", divide="ignore"):
            total = np.bincount(number[mine], weight, n)
            mean = np.bincount(number[mine], weight * calibrated.magnitude[mine], n) / total
            common = np.bincount(number[mine], weight * calibrated.systematic_error[mine], n) / total
            own = np.where(bare | (count == 0), np.nan, total**-0.5)
        name = f"_{band}" if band else "nitude"
        tail = f"_{band}" if band else ""
        columns[f"mag{name}"] = mean
        columns[f"mag{'' if band else 'nitude'}_error{tail}"] = own
        columns[f"mag{'' if band else 'nitude'}_systematic{tail}"] = common
        columns[f"n{tail}" if band else "n_measurement"] = count
    units |= {name: "mag" for name in columns if name.startswith("mag")}
    return Catalogue(columns, units, meta=dict(calibrated.record))
