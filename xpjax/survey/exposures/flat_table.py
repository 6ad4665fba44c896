"""Stacked flats of a solution as a table of cells."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xpjax.survey import OutputColumn, SurveyTable, provenance, tabulate
from xpjax.survey.exposures.flat import epochs, stack
from xpjax.survey.exposures.solution import Calibration


def flat_table(
    solution: Calibration,
    *,
    bins: int = 30,
    smooth: float = 0.0,
    epoch: str | float = "all",
    record: Mapping[str, object] | None = None,
) -> SurveyTable:
    """Tabulate the stacked flats of a solution, cell by cell.

    Parameters
    ----------
    solution : Calibration
        The solution; a flat that it holds is part of the result.
    bins : int
        Number of cells along a side.
    smooth : float [cell]
        Standard deviation of a Gaussian that smooths the flat.
    epoch : str or float [d]
        Exposures that share a flat: "all", "night", or those of so many days.
    record : mapping, optional
        Metadata of the table.

    Returns
    -------
    SurveyTable
        One row for each cell of each band, detector and epoch: `x`, `y` [pixel], `flat`, `flat_error` [mag],
        `n_measurement`.

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup, exposures
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> solution, _ = exposures.calibrate(observations)
    >>> len(exposures.flat_table(solution, bins=4))
    48
    """
    s, frames, residual = solution.standards, solution.frames, solution.standards.residual
    u, v = solution.fits.scaling.places(s.frame, s.x, s.y)
    if solution.flats is not None:
        own = solution.flats.groups(frames, epochs(frames, solution.settings.epoch))
        residual = residual + solution.flats.at(own[s.frame], u, v)
    made = stack(
        frames, s.frame, s.star, u, v, residual, s.variance, bins=bins, smooth=smooth, epoch=epoch,
        star_offsets=solution.settings.star_offsets,
    )  # fmt: skip
    box = solution.fits.scaling.box[0]
    center = (np.arange(bins) + 0.5) / bins
    group, i, j = (index.ravel() for index in np.indices((len(made.labels), bins, bins)))
    x, y = box[0] + (box[1] - box[0]) * center[j], box[2] + (box[3] - box[2]) * center[i]
    columns = (
        OutputColumn.of("band", made.labels[group, 0], "", "Band"),
        OutputColumn.of("detector", made.labels[group, 1], "", "Detector"),
        OutputColumn.of("epoch", made.labels[group, 2], "", "Epoch of the flat"),
        OutputColumn.of("x", x, "pixel", "Center of the cell along x"),
        OutputColumn.of("y", y, "pixel", "Center of the cell along y"),
        OutputColumn.of("flat", made.value.ravel(), "mag", "Flat, added to instrumental magnitudes"),
        OutputColumn.of("flat_error", made.error.ravel(), "mag", "Error of the flat; infinite in an empty cell"),
        OutputColumn.of("n_measurement", made.count.ravel(), "", "Number of measurements in the cell"),
    )
    table = tabulate(columns, made, {**solution.record, **(record or {}), **provenance()})
    return SurveyTable(table.columns, table.units, table.descriptions, table.meta)
