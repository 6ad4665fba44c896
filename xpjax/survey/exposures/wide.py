"""Calibrated measurements as a table with a row for each star and columns for each band."""

from __future__ import annotations

import numpy as np

from xpjax.survey import Observations, OutputColumn, RowFlag, SurveyTable, tabulate
from xpjax.survey.exposures.solution import Calibrated


def wide_table(calibrated: Calibrated) -> SurveyTable:
    """Average the measurements of each star in each band.

    Parameters
    ----------
    calibrated : Calibrated
        Measurements; those without a calibrated magnitude take no part.

    Returns
    -------
    SurveyTable
        One row for each star: `star`, `ra` and `dec` [deg] where positions are known, and for each band `mag_{band}`,
        `mag_error_{band}`, `mag_systematic_{band}` [mag] and `n_{band}`; a survey of one band without a name has
        `magnitude`, `magnitude_error`, `magnitude_systematic` and `n_measurement`. NaN where a star has no measurement.

    Notes
    -----
    Means are weighted by 1 / error**2, or plain where a star has no errors; the error of a mean is that of its weights.
    Systematic errors, which measurements of a star have in common, are averaged and do not shrink.

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup, exposures
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> _, calibrated = exposures.calibrate(observations)
    >>> exposures.wide_table(calibrated).to_table().colnames[:5]
    ['star', 'mag_g', 'mag_error_g', 'mag_systematic_g', 'n_g']
    """
    o = calibrated.observations
    star, number = np.unique(o.star, return_inverse=True)
    columns = [OutputColumn.of("star", star, "", "Identifier of the star")]
    columns += _positions(o, number, len(star))
    bands = o.frames.band[o.frame]
    good = np.isfinite(calibrated.magnitude) & ((o.excluded & np.uint32(RowFlag.DUPLICATE)) == 0)
    for band in dict.fromkeys(o.frames.band.tolist()):
        columns += _band(calibrated, band, np.flatnonzero(good & (bands == band)), number, len(star))
    table = tabulate(columns, calibrated, dict(calibrated.record))
    return SurveyTable(table.columns, table.units, table.descriptions, table.meta)


def _positions(o: Observations, number: np.ndarray, n: int) -> list[OutputColumn]:
    """The first known position of each star."""
    if o.origin is None or "ra" not in o.origin.columns:
        return []
    place = {name: o.origin.columns[name] for name in ("ra", "dec")}
    known = np.flatnonzero(np.isfinite(place["ra"]) & np.isfinite(place["dec"]))
    first = np.full(n, -1)
    first[number[known[::-1]]] = known[::-1]
    meaning = {"ra": "Right ascension", "dec": "Declination"}
    return [
        OutputColumn.of(name, np.where(first >= 0, values[first], np.nan), "deg", meaning[name])
        for name, values in place.items()
    ]


def _band(calibrated: Calibrated, band: str, mine: np.ndarray, number: np.ndarray, n: int) -> list[OutputColumn]:
    """Mean, errors and number of measurements of each star in a band; mine: its rows."""
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
    name, tail = ("mag", f"_{band}") if band else ("magnitude", "")
    of = f" in {band}" if band else ""
    return [
        OutputColumn.of(f"{name}{tail}", mean, "mag", f"Mean calibrated magnitude{of}"),
        OutputColumn.of(f"{name}_error{tail}", own, "mag", f"Statistical error of the mean{of}"),
        OutputColumn.of(f"{name}_systematic{tail}", common, "mag", f"Systematic error of the mean{of}"),
        OutputColumn.of(f"n{tail}" if band else "n_measurement", count, "", f"Number of measurements{of}"),
    ]
