"""Calibrating rows that took no part: other stars of the frames of a solution, and new frames.

Of a new frame the zero-point alone is fitted, or taken from its night; flat and color terms are those of its band and
detector.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError, say
from xpjax.survey import FrameFlag, Frames, Observations, with_nights
from xpjax.survey.exposures.calibrate import calibrate_rows
from xpjax.survey.exposures.evaluate import evaluate
from xpjax.survey.exposures.fit import fit_exposures, standards
from xpjax.survey.exposures.flat import Standards, epochs
from xpjax.survey.exposures.levels import levels
from xpjax.survey.exposures.model import ExposureModel, Scaling
from xpjax.survey.exposures.nights import frozen_terms, steep_color, take_night
from xpjax.survey.exposures.results import ExposureFits
from xpjax.survey.exposures.solution import Calibrated, Calibration

SAME_TIME = 0.01
"""By how much the time of an exposure may be off its time in a solution [d]."""


def apply_calibration(solution: Calibration, observations: Observations, *, devices: Devices = None) -> Calibrated:
    """Calibrate rows that took no part: other stars of the frames of a solution, and new frames.

    A frame is known by exposure, band and detector. A new frame takes the mean terms and the stacked flat of its band
    and detector: its zero-point alone is fitted if it has standards (FrameFlag.FROZEN), else it is that of its night,
    or the frame is refused.

    Parameters
    ----------
    solution : Calibration
        The solution.
    observations : Observations
        Measurements.
    devices : str or int, optional
        Device; by default the first of JAX.

    Returns
    -------
    Calibrated
        Magnitudes of all rows, with the fits of their frames.

    Raises
    ------
    XpjaxError
        If the solution has no frame of a band and detector, or another time for an exposure of this name.

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup, exposures
    >>> observations, _ = SimulatedSurvey(SurveySetup(n_exposure=3, n_star=60, seed=1)).observe()
    >>> solution, calibrated = exposures.calibrate(observations)
    >>> again = exposures.apply_calibration(solution, observations[::2])
    >>> bool(np.allclose(again.magnitude, calibrated.magnitude[::2], rtol=0, atol=1e-12))
    True
    """
    o, old = observations, solution.fits
    place, alike = _places(solution, o)
    o = _renamed(solution.standards, _timed(solution.frames, o, place), place)
    if old.terms.n_amplifier == 1:
        o = dataclasses.replace(o, amplifier=np.zeros(len(o), np.int32))
    scale = Scaling(old.scaling.box[alike], old.scaling.color_zero, old.scaling.magnitude_zero)
    offset = None
    if solution.flats is not None:
        u, v = scale.places(o.frame, o.x, o.y)
        ages = epochs(o.frames, solution.settings.epoch)
        offset = solution.flats.at(solution.flats.groups(o.frames, ages)[o.frame], u, v)
    fits = _taken(old, place, alike, scale)
    new = np.flatnonzero(place < 0)
    if len(new):
        fits = _with_new_frames(solution, o, fits, offset, new, alike, devices)
    fits = fits.flagged(_lacks_airmass(solution.frames, o.frames), FrameFlag.NO_AIRMASS)
    return calibrate_rows(solution, o, place, fits, offset, devices)[0]


def _lacks_airmass(solved: Frames, frames: Frames) -> np.ndarray:
    """Which frames (n_frame,) have no airmass, where others or those of the solution have one."""
    known = np.isfinite(frames.airmass)
    return ~known & (known.any() | np.isfinite(solved.airmass).any())


def _places(solution: Calibration, o: Observations) -> tuple[np.ndarray, np.ndarray]:
    """For each frame (n_frame,) the frame of the solution that it is, -1 for none, and one of its band and detector."""
    frames = solution.frames
    keys = [tuple(key) for key in zip(o.frames.exposure, o.frames.band, o.frames.detector, strict=True)]
    known = {key: k for k, key in enumerate(zip(frames.exposure, frames.band, frames.detector, strict=True))}
    place = np.array([known.get(key, -1) for key in keys], int)
    same = {(b, d): k for k, (b, d) in enumerate(zip(frames.band, frames.detector, strict=True))}
    alike = np.array([same.get(key[1:], -1) for key in keys], int)
    alike[(alike < 0) & (np.bincount(o.frame[np.isfinite(o.magnitude)], minlength=len(keys)) == 0)] = 0  # nothing to do
    if len(keys) and (alike < 0).any():
        k = int(np.argmax(alike < 0))
        have = sorted({" ".join(filter(None, pair)) or "(unnamed)" for pair in same})
        raise XpjaxError(
            f"{o.frames.name(k)}: the solution has no frame of band {str(keys[k][1])!r} and detector "
            f"{str(keys[k][2])!r}; it has {have}"
        )
    return place, alike


def _timed(solved: Frames, o: Observations, place: np.ndarray) -> Observations:
    """The observations with times and nights of a solution's frames at `place`; others join its nights by their times.

    A file alone does not say in which night of the survey it is, nor what was the middle of an exposure in many files.
    """
    frames, old = o.frames, place >= 0
    if len(solved):
        off = np.where(old, np.abs(frames.time - solved.time[place]), np.nan)
        if (off > SAME_TIME).any():
            k = int(np.nanargmax(off))
            raise XpjaxError(
                f"{frames.name(k)}: its time is {frames.time[k]:.5f}, that of the solution's exposure of this name "
                f"{solved.time[place[k]]:.5f}: it is another exposure; say so with {say('new=True', '--new')} or "
                f"{say('exposure=', '--exposure')}, or mend the time"
            )
        times = {name: np.where(old, getattr(solved, name)[place], getattr(frames, name)) for name in ("night", "time")}
        frames = dataclasses.replace(frames, **times)
    return with_nights(dataclasses.replace(o, frames=frames), known=solved)


def _renamed(known: Standards, o: Observations, place: np.ndarray) -> Observations:
    """The observations, where a nameless detection at the very place of a nameless standard of its frame is that one.

    Names by position depend on the files that are read together; the numerical flat of a standard must not contain it.
    """
    if (known.star.dtype.kind in "iu") != (o.star.dtype.kind in "iu"):
        return o
    nameless = [a < 0 if a.dtype.kind in "iu" else np.char.startswith(a, "-") for a in (known.star, o.star)]
    theirs = np.flatnonzero(nameless[0] & np.isfinite(known.x + known.y) & np.isin(known.frame, place))
    mine = np.flatnonzero(nameless[1] & np.isfinite(o.x + o.y))
    if not len(theirs) or not len(mine):
        return o
    keys = [np.stack([known.frame, known.x, known.y], 1)[theirs], np.stack([place[o.frame], o.x, o.y], 1)[mine]]
    _, code = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    code, n = code.ravel(), len(theirs)
    at = np.full(len(code), -1)
    at[code[:n]] = theirs
    at[np.flatnonzero(np.bincount(code[:n], minlength=len(code)) != 1)] = -1
    found = at[code[n:]]
    star = o.star.astype(np.result_type(o.star, known.star))
    star[mine[found >= 0]] = known.star[found[found >= 0]]
    return dataclasses.replace(o, star=star)


def _taken(old: ExposureFits, place: np.ndarray, alike: np.ndarray, scale: Scaling) -> ExposureFits:
    """The fits of frames at `place`; NaN for -1."""
    none = place < 0
    fits = old[np.where(none, alike, place)]
    arrays = fits.arrays()
    for array in arrays.values():
        array[none] = np.nan if array.dtype.kind == "f" else 0
    return dataclasses.replace(fits, scaling=scale, **arrays)


def _with_new_frames(
    solution: Calibration,
    o: Observations,
    fits: ExposureFits,
    offset: np.ndarray | None,
    new: np.ndarray,
    alike: np.ndarray,
    devices: Devices,
) -> ExposureFits:
    """The fits with those of frames that the solution has not: zero-point fitted, the rest frozen."""
    out, model = fits.arrays(), solution.settings.model
    mean, variance = frozen_terms(solution.frames, solution.fits)
    out["value"][new] = mean[alike[new]]
    out["covariance"][new] = [np.diag(variance[k]) for k in alike[new]]
    out["common_covariance"][new] = solution.fits.common_covariance[alike[new]]
    out["active"][new] = True
    shifted = out["value"].copy()
    shifted[new, 0] = 0.0
    frozen = dataclasses.replace(fits, **{**out, "value": shifted})
    # The constant alone, after terms and flat that are frozen.
    added = evaluate(frozen, o, devices)
    constant = ExposureModel(
        position_order=0, color_order=0, magnitude_order=0, color_zero=0.0, magnitude_zero=0.0, robust=model.robust,
        clip=model.clip, error_floor=model.error_floor,
    )  # fmt: skip
    moved = dataclasses.replace(o, model=o.model - added.taken)
    fit = functools.partial(
        fit_exposures, moved, use=standards(o, model)[0] & np.isin(o.frame, new), scale=frozen.scaling,
        devices=devices, offset=added.added + (0.0 if offset is None else offset),
    )  # fmt: skip
    one = fit(constant)
    done = new[one.n_standard[new] > 0]
    out["value"][done, 0] = one.value[done, 0]
    out["covariance"][done, 0, :] = out["covariance"][done, :, 0] = 0.0
    out["covariance"][done, 0, 0] = one.covariance[done, 0, 0]
    # The median over the detector of all that is frozen; the zero-point is that and the constant.
    grid = np.median(levels(o.frames, frozen, solution.flats, solution.settings.epoch), axis=1)
    out["zero_point"][done] = one.value[done, 0] + grid[done]
    single = ("zero_point_error", "zero_point_common", "model_systematic", "floor", "scatter", "rms")
    for name in (*single, "n_standard", "n_used"):
        out[name][done] = getattr(one, name)[done]
    out["status"][done] = one.status[done] | np.uint32(FrameFlag.FROZEN)
    for k in np.setdiff1d(new, done):
        _from_night(solution, o.frames, int(k), float(grid[k]), out)
    made = dataclasses.replace(fits, **out)
    if "color_1" in made.terms.names:  # which is not fitted: what it would be tells another filter
        left = fit(dataclasses.replace(constant, color_order=1))
        left.value[:, left.terms.names.index("color_1")] += made.value[:, made.terms.names.index("color_1")]
        made = made.flagged(done[steep_color(left)[done]], FrameFlag.STEEP_COLOR)
    return made


def _from_night(solution: Calibration, frames: Frames, k: int, grid: float, out: dict[str, np.ndarray]) -> None:
    """Fill in a new frame k without standards from the frames of its night, or leave it refused."""
    old, known = solution.fits, solution.frames
    out["status"][k] |= np.uint32(FrameFlag.NO_STANDARDS)
    night = frames.night[k]
    others = np.flatnonzero(
        (known.night == night) & (known.band == frames.band[k]) & (known.detector == frames.detector[k])
        & np.isfinite(old.zero_point)
    )  # fmt: skip
    if not night or len(others) < 3:
        out["value"][k] = np.nan
        return
    take_night(known, old, others, k, frames.airmass[k], out)
    out["value"][k, 0] = out["zero_point"][k] - grid
    out["covariance"][k, 0, 0] = out["zero_point_error"][k] ** 2
    out["status"][k] |= np.uint32(FrameFlag.FROZEN)
