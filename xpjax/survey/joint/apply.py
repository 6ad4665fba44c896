"""Joint solutions applied to rows that took no part: other stars of their frames, and new frames.

A frame is known by exposure, band and detector. A frame without a value of its own in every term takes the mean of the
frames of its band and detector, and a constant on top, fitted to stars of the solution, and to other standards where
stars of the solution have their models as priors:

    z_f = sum_j w_j (M_j - m_j - a_j p) / sum_j w_j,   1 / w_j = error_j^2 + floor^2 + var(M_j)

so that its rows have the errors of (a_i + g) p, g = sum_j w_j (dM_j/dp - a_j) / sum_j w_j, and those of the stars used.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.ids import places_of
from xpjax.core.records import Record, json_entry
from xpjax.core.types import AnyTables
from xpjax.survey import (
    LEAST_VARIANCE,
    MAD,
    MISSING,
    FrameFlag,
    Frames,
    Observations,
    RowFlag,
    SurveyTable,
    group_median,
    origin_columns,
    provenance,
    tabulate,
    with_nights,
)
from xpjax.survey.joint.blocks import Block
from xpjax.survey.joint.columns import APPLIED, MEASUREMENTS
from xpjax.survey.joint.config import read_further
from xpjax.survey.joint.covariance import unit_columns
from xpjax.survey.joint.design import Entries
from xpjax.survey.joint.files import read_joint_solution
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.weights import robust_weight

SAME_TIME = 0.01
"""By how much the time of an exposure may be off its time in a solution [d]."""
KINDS = ("huber",) * 4 + ("tukey",) * 4
"""Robust weights of the passes that fit a constant."""


def apply_joint(
    solution: JointSolution | str | Path,
    observations: Observations | AnyTables,
    *,
    config: str | Path | Mapping[str, object] | None = None,
    exposure: str | None = None,
    new: bool = False,
    keep: Sequence[str] = (),
) -> SurveyTable:
    """Calibrate measurements that took no part with a joint solution: other stars of its frames, and new frames.

    Parameters
    ----------
    solution : JointSolution or path
        The solution, or its file.
    observations : Observations, or path, table, list of these, or mapping
        Measurements, in Python with what terms need of them (`JointSolution.with_terms`); or files and tables of
        detections, which the solution's own configuration says how to read.
    config : path or mapping, optional
        What the columns of files and tables mean; by default as in the solution.
    exposure : str, optional
        The exposure of all files and tables, where no column says it.
    new : bool
        Whether these are new exposures, even if their files are called as those of the solution.
    keep : sequence of str
        Columns of the tables to pass on.

    Returns
    -------
    SurveyTable
        The columns of `JointSolution.calibrated`; the error of the terms' correction, and FrameFlag bits of the
        exposure. A frame that the solution does not have is fitted a zero-point to stars of the solution, or to other
        standards where stars have their models as priors (FrameFlag.FROZEN), or is refused.

    Raises
    ------
    XpjaxError
        If the solution has no such band and detector or another time for an exposure of this name, if terms lack their
        data, or configuration and tables are wrong.

    Notes
    -----
    Calibrated magnitudes are m + sum of terms; terms of the reference, as maps of XP's own errors, are of the stars
    and not of the measurements.

    Examples
    --------
    >>> from xpjax.survey.joint import Constraint, JointModel, ZeroPoint, apply_joint, solve_joint
    >>> star, exposure = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    >>> magnitude = 15.0 + 0.1 * star - np.repeat([0.0, 0.1, 0.2], 20)
    >>> zero, error = np.zeros(60), np.full(60, 0.01)
    >>> rows = xpjax.survey.make_observations(star, zero, zero, magnitude, error, None, exposure=exposure)
    >>> model = JointModel((ZeroPoint(),), (Constraint("zero_point"),), error_floor=0.0, min_observations=1)
    >>> solution = solve_joint(rows, model)
    >>> applied = apply_joint(solution, rows[::7])
    >>> bool(np.allclose(applied.columns["magnitude"], solution.calibrated(rows).columns["magnitude"][::7], atol=1e-9))
    True
    """
    found = solution if isinstance(solution, JointSolution) else read_joint_solution(solution)
    lines: list[str] = []
    made = {f"solution_{name}": found.meta[name] for name in ("version", "date", "inputs") if name in found.meta}
    if not isinstance(observations, Observations):
        found, reading = read_further(found, observations, config=config, exposure=exposure, new=new, keep=keep)
        observations, lines = reading.observations, reading.account.lines()
    elif config is not None or exposure is not None or new or keep:
        raise XpjaxError("config, exposure, new and keep are of files and tables: leave them out for observations")
    known = found.meta
    found, fitted = _applied(found, observations)
    lines += fitted.lines()
    meta = {**made, **provenance(), "account": json.dumps(lines)}
    amplifiers = json_entry(known, "amplifiers", "[]")
    origin = origin_columns(observations, [column.name for column in (*MEASUREMENTS, *APPLIED)], amplifiers)
    table = tabulate((*MEASUREMENTS, *APPLIED, *origin), found, meta)
    return SurveyTable(table.columns, table.units, table.descriptions, table.meta)


@dataclasses.dataclass(frozen=True, repr=False)
class NewFrames(Record):
    """Constants of frames (n_frame,) that lack values of their own, NaN for others and those without stars.

    status: FrameFlag bits; count: stars used. used and clipped (n,): rows that were.
    """

    frames: Frames
    constant: np.ndarray
    status: np.ndarray
    count: np.ndarray
    used: np.ndarray
    clipped: np.ndarray

    def lines(self) -> list[str]:
        """What is worth telling."""
        out = []
        for flag, what in ((FrameFlag.FROZEN, "new exposures, zero-points fitted to stars of the solution"),
                           (FrameFlag.NO_STANDARDS, "new exposures refused: no star of the solution")):  # fmt: skip
            mine = np.flatnonzero(self.status & np.uint32(flag))
            if len(mine):
                few = ", ".join(self.frames.name(int(k)) for k in mine[:5]) + ", ..." * (len(mine) > 5)
                out.append(f"{len(mine):,} {what}: {few}")
        return out


def _applied(solution: JointSolution, given: Observations) -> tuple[Any, NewFrames]:
    """Rows calibrated by a solution, for the columns of their table; and what became of new frames."""
    _check_known(solution, given.frames)
    named = with_nights(given, known=solution.frames)
    made = solution.design.entries(named, solution.value, solution.magnitudes)
    o, bands = made.observations, solution.bands
    star = places_of(o.star, solution.star)
    band = np.array([bands.index(b) if b in bands else 0 for b in o.frames.band.tolist()])[o.frame]
    truth = np.where(star >= 0, solution.magnitude[star, band], np.nan)
    slot = np.where(np.isfinite(truth), star * len(bands) + band, -1)
    values, spread, lacking = _values(solution, made)
    seen = np.where(np.abs(o.magnitude) < MISSING, o.magnitude, np.nan)
    magnitude = seen + made.offset + np.einsum("nk,nk->n", made.slope, values)
    target = truth
    if solution.model is not None and solution.model.star_prior and not solution.design.of_reference.any():
        target = np.where(np.isfinite(truth), truth, o.model)
    weight, fitted = _constants(solution, o, lacking, target - magnitude, slot, band)
    magnitude += np.where(lacking, fitted.constant, 0.0)[o.frame]
    error = _errors(solution, made, spread, weight, fitted, slot, band)
    flags = _flags(o, made, magnitude, fitted)
    return SimpleNamespace(
        observations=given, magnitude=magnitude, truth=truth, residual=truth - magnitude, used=fitted.used, flags=flags,
        correction_error=np.where(np.isfinite(magnitude), error, np.nan), exposure_status=fitted.status[o.frame],
    ), fitted  # fmt: skip


def _check_known(solution: JointSolution, frames: Frames) -> None:
    """Raise XpjaxError for bands and detectors that the solution does not have, and frames of another time."""
    own = solution.frames
    pairs = set(zip(own.band.tolist(), own.detector.tolist(), strict=True))
    known = {own.name(k): k for k in range(len(own))}
    for k in range(len(frames)):
        if (pair := (str(frames.band[k]), str(frames.detector[k]))) not in pairs:
            have = sorted({" ".join(filter(None, one)) or "(unnamed)" for one in pairs})
            raise XpjaxError(
                f"{frames.name(k)}: the solution has no frame of band {pair[0]!r} and detector {pair[1]!r}; it has "
                f"{have}"
            )
        place = known.get(frames.name(k))
        if place is not None and abs(frames.time[k] - own.time[place]) > SAME_TIME:
            raise XpjaxError(
                f"{frames.name(k)}: its time is {frames.time[k]:.5f}, that of the solution's exposure of this name "
                f"{own.time[place]:.5f}: it is another exposure; say so with {say('new=True', '--new')} or "
                f"{say('exposure=', '--exposure')}, or mend the time"
            )


def _values(solution: JointSolution, made: Entries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (n, k) of the columns of rows, what they may be off by where others stand for them, and lacking frames.

    NaN in places that the solution does not have, or has no data for. Where a place is a group of frames, the median of
    those of the same band and detector stands for it; such frames (n_frame,) lack values of their own.
    """
    o, column = made.observations, made.column
    values = np.where(column >= 0, solution.value[column], np.nan)
    spread, lacking = np.zeros_like(values), np.zeros(len(o.frames), bool)
    for j, (block, part) in enumerate(zip(made.blocks, made.parts, strict=True)):
        lost = np.isnan(values[:, j])
        if block.group is not None or not lost.any():
            continue
        columns = solution.places(block.name, part)
        for k in np.unique(o.frame[lost]).tolist():
            mine = lost & (o.frame == k)
            values[mine, j], spread[mine, j] = _typical(solution, solution.block(block.name), columns, o.frames, k)
            lacking[k] = True
    return values, spread, lacking


def _typical(solution: JointSolution, block: Block, columns: np.ndarray, frames: Frames, k: int) -> tuple[float, float]:
    """The median of a part's columns (n_place,) in places of the band and detector of frame k, and their spread."""
    alike = np.isfinite(solution.value[columns])
    for name in ("band", "detector"):
        same = alike & (block.keys[name] == getattr(frames, name)[k]) if name in block.keys else alike
        alike = same if same.any() else alike
    if not alike.any():
        part = next(iter(block.parts))
        return part.mean, part.prior or 0.0
    value, error = solution.value[columns[alike]], solution.error(columns[alike])
    middle = float(np.median(value))
    return middle, float(np.hypot(MAD * np.median(np.abs(value - middle)), np.median(error) / np.sqrt(len(value))))


def _constants(
    solution: JointSolution, o: Observations, lacking: np.ndarray, off: np.ndarray, slot: np.ndarray, band: np.ndarray
) -> tuple[np.ndarray, NewFrames]:
    """Weights (n,) and constants of frames that lack values (n_frame,): robust means of off (n,) over their stars.

    slot (n,): of stars of the solution, -1 for standards that it does not have.
    """
    n_frame, weight = len(o.frames), np.zeros(len(o))
    good = lacking[o.frame] & np.isfinite(off) & (o.magnitude_error > 0) & (o.excluded == 0)
    rows = np.flatnonzero(good)
    frame, mine = o.frame[rows], off[rows]
    star_error, solved = o.model_error[rows].astype(float), slot[rows] >= 0
    known, place = np.unique(slot[rows][solved], return_inverse=True)
    star_error[solved] = solution.uncertainty.star_errors(known)[place]
    noise = o.magnitude_error[rows] ** 2 + np.asarray(solution.floor)[band[rows]] ** 2
    variance = np.maximum(noise + star_error**2, LEAST_VARIANCE)
    middle = group_median(mine, frame, n_frame)
    clip = np.inf if solution.model is None or not solution.model.clip else solution.model.clip
    for kind in KINDS:
        z = np.abs(mine - middle[frame]) / np.sqrt(variance)
        w = robust_weight(kind, z) / variance
        total = np.bincount(frame, w, n_frame)
        middle = np.divide(np.bincount(frame, w * mine, n_frame), total, out=middle, where=total > 0)
    kept = np.abs(mine - middle[frame]) <= clip * np.sqrt(variance)
    w = kept / variance
    total = np.bincount(frame, w, n_frame)
    constant = np.divide(np.bincount(frame, w * mine, n_frame), total, out=np.full(n_frame, np.nan), where=total > 0)
    weight[rows] = w
    used, clipped = np.zeros((2, len(o)), bool)
    used[rows], clipped[rows] = kept, ~kept
    done = np.isfinite(constant)
    status = np.where(lacking, np.where(done, np.uint32(FrameFlag.FROZEN), np.uint32(FrameFlag.NO_STANDARDS)), 0)
    count = np.bincount(frame[kept], minlength=n_frame)
    return weight, NewFrames(o.frames, constant, status.astype(np.uint32), count, used, clipped)


def _errors(
    solution: JointSolution,
    made: Entries,
    spread: np.ndarray,
    weight: np.ndarray,
    fitted: NewFrames,
    slot: np.ndarray,
    band: np.ndarray,
) -> np.ndarray:
    """Standard errors (n,) [mag] of what is added to rows; NaN where the solution does not hold what they need."""
    o, n = made.observations, len(solution.value)
    known = (made.column >= 0) & np.isfinite(solution.value[made.column])
    slope = np.where(known, np.nan_to_num(made.slope), 0.0)
    columns = np.unique(made.column[known]) if known.any() else np.zeros(1, int)
    try:
        across = solution.uncertainty.inverse(unit_columns(columns, n))
    except XpjaxError:
        return np.full(len(o), np.nan)
    covariance, at = across[columns], np.searchsorted(columns, np.where(known, made.column, columns[:1]))
    variance = np.zeros(len(o))
    for j, k in itertools.product(range(slope.shape[1]), repeat=2):
        variance += slope[:, j] * slope[:, k] * covariance[at[:, j], at[:, k]]
    off, column = made.slope.copy(), made.column.clip(0)
    for frame in np.flatnonzero(np.isfinite(fitted.constant)).tolist():
        mine = np.flatnonzero(o.frame == frame)
        stars = mine[weight[mine] > 0]
        w = weight[stars] / weight[stars].sum()
        try:
            gain, alike = _star_rows(solution, o, stars, slot)
        except XpjaxError:
            variance[mine] = np.nan
            continue
        gain = w @ gain - np.bincount(column[stars].ravel(), (w[:, None] * slope[stars]).ravel(), n)
        back = solution.uncertainty.inverse(gain[:, None])[:, 0]
        noise = o.magnitude_error[stars] ** 2 + np.asarray(solution.floor)[band[stars]] ** 2
        variance[mine] += 2 * (slope[mine] * back[column[mine]]).sum(axis=1)
        variance[mine] += gain @ back + w**2 @ noise + w @ alike @ w
        off[mine] -= w @ made.slope[stars]
    variance += (np.nan_to_num(off) ** 2 * spread**2).sum(axis=1)
    return np.sqrt(np.maximum(variance, 0.0))


def _star_rows(
    solution: JointSolution, o: Observations, stars: np.ndarray, slot: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """dM/dp (k, n_column) and the covariance (k, k) beside the columns' of the magnitudes of some rows' stars."""
    solved = np.flatnonzero(slot[stars] >= 0)
    rows, alike = np.zeros((len(stars), len(solution.value))), np.diag(o.model_error[stars].astype(float) ** 2)
    rows[solved], alike[np.ix_(solved, solved)] = solution.uncertainty.star_rows(slot[stars[solved]])
    return rows, alike


def _flags(o: Observations, made: Entries, magnitude: np.ndarray, fitted: NewFrames) -> np.ndarray:
    """RowFlag bits (n,)."""
    flags = np.array(o.excluded, np.uint32)
    refused = (fitted.status & np.uint32(FrameFlag.NO_STANDARDS))[o.frame] > 0
    no_magnitude = ~(np.abs(o.magnitude) < MISSING)
    color = np.array(["color" in block.name for block in made.blocks], bool)
    lost = ~np.isfinite(made.slope)
    for bad, flag in (
        (no_magnitude, RowFlag.NO_MAGNITUDE),
        (~(o.magnitude_error > 0), RowFlag.NO_ERROR),
        (lost[:, color].any(axis=1), RowFlag.NO_MODEL),
        (refused, RowFlag.EXPOSURE_REFUSED),
        (fitted.used, RowFlag.STANDARD),
        (fitted.clipped, RowFlag.OUTLIER),
    ):
        flags[bad] |= np.uint32(flag)
    unknown = np.isnan(magnitude) & ~no_magnitude & ~refused & ((flags & np.uint32(RowFlag.NO_MODEL)) == 0)
    flags[unknown] |= np.uint32(RowFlag.NO_POSITION)
    return flags
