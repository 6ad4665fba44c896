"""What a report shows of exposures: maps of flats, differences of zero-points, scatters of residuals."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from xpjax.survey import group_median
from xpjax.survey.exposures import epochs
from xpjax.survey.report.evidence import Evidence, same_measurements, taken
from xpjax.survey.report.statistics import ENOUGH, Missing, cell_means, median, spread, structure


def flat_maps(evidence: Evidence, band: str, bins: int = 30) -> dict[str, tuple[np.ndarray, float]]:
    """Mean residuals [mag] of the standards in cells of the detector, and their structure beyond their noise.

    By name: before any flat, after the stacked and after the numerical one. Cells are as many as have five standards
    each. Raises Missing.
    """
    solution = evidence.solution
    s, frames = solution.standards, solution.frames
    mine = np.flatnonzero(frames.band[s.frame] == band) if len(s) else np.zeros(0, int)
    u, v = solution.fits.scaling.places(s.frame[mine], s.x[mine], s.y[mine])
    good = np.isfinite(u) & np.isfinite(v) & np.isfinite(s.residual[mine])
    mine, u, v = mine[good], u[good], v[good]
    if len(mine) < 4 * ENOUGH:
        raise Missing("fewer than 20 standards with positions")
    bins = int(np.clip(np.sqrt(len(mine) / ENOUGH), 2, bins))
    residual, variance = s.residual[mine], s.variance[mine]
    values = {"before": residual}
    if solution.flats is not None:
        group = solution.flats.groups(frames, epochs(frames, solution.settings.epoch))[s.frame[mine]]
        values = {"before": residual + solution.flats.at(group, u, v), "after the stacked flat": residual}
    if solution.settings.numerical_flat:
        at = same_measurements(s.frame[mine], s.star[mine], evidence.rows["frame"], evidence.rows["star"])
        values["after the numerical flat"] = taken(evidence.rows["residual"], at)
    maps = {}
    for name, value in values.items():
        known = np.isfinite(value)
        part = u[known], v[known], value[known], variance[known]
        maps[name] = cell_means(*part, bins)[0], structure(*part, bins, min(10, ENOUGH))
    return maps


def table_of_differences(evidence: Evidence, name: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Bands, first frame (n_tile,) of each exposure, and zero-point differences (n_tile, n_band), detectors averaged.

    The median of each band is subtracted: a common offset of its zero-points is a matter of definition.
    """
    frames, difference = evidence.solution.frames, evidence.differences[name]
    tile, first = frames.group("exposure")
    bands = evidence.bands
    out = np.full((len(first), len(bands)), np.nan)
    for k, band in enumerate(bands):
        mine = (frames.band == band) & np.isfinite(difference)
        if mine.any():
            out[:, k] = group_median(difference[mine] - np.median(difference[mine]), tile[mine], len(first))
    return bands, first, out


@dataclasses.dataclass(frozen=True)
class DifferenceNumbers:
    """Zero-points of one band less others [mag]: median, and about it 1.48 MAD and standard deviation; formal: rms of
    our errors; pull: standard deviation of difference / error."""

    band: str
    number: int
    median: float
    scatter: float
    rms: float
    formal: float
    pull: float


def difference_numbers(evidence: Evidence, name: str) -> list[DifferenceNumbers]:
    """What our zero-points differ by from others, a row for each band."""
    out = []
    for band in evidence.bands:
        mine = (evidence.solution.frames.band == band) & np.isfinite(evidence.differences[name])
        value, error = evidence.differences[name][mine], evidence.solution.fits.zero_point_error[mine]
        middle = median(value)
        with np.errstate(invalid="ignore", divide="ignore"):
            pull = float(np.std((value - middle) / error)) if len(value) > 1 else np.nan
        formal = float(np.sqrt(np.mean(error**2))) if len(error) else np.nan
        out.append(DifferenceNumbers(band, len(value), middle, *spread(value), formal, pull))
    return out


def frame_scatters(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """1.48 MAD [mag] of the residuals of each exposure in a table of rows, NaN for a single one."""
    good = np.isfinite(rows["residual"])
    names, code = np.unique(rows["exposure"][good].astype(str), return_inverse=True)
    return np.array([spread(rows["residual"][good][code == k])[0] for k in range(len(names))])
