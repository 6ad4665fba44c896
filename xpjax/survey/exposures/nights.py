"""Nights: mean terms of the frames of one night, band and detector, and frames that differ from the others.

Frames with few standards lean on their night for flat and color terms; frames without take its zero-point at their
airmass; frames that look cloudy, scattered or drifting are flagged.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xpjax.core.records import Record
from xpjax.survey import MAD, STEEP, FrameFlag, Frames, lacks_airmass
from xpjax.survey.exposures.results import ExposureFits, Prior
from xpjax.survey.exposures.settings import CalibrationSettings


@dataclasses.dataclass(frozen=True, repr=False)
class FrameTerms(Record):
    """Terms of the frames of a survey, or of a part of it, as others of their night lean on them; arrays (n_frame, ..).

    value, variance (n_frame, n_term): variance by noise and common errors; n_used, n_standard, and lowered: whether
    orders were lowered.
    """

    night: np.ndarray
    band: np.ndarray
    detector: np.ndarray
    value: np.ndarray
    variance: np.ndarray
    n_used: np.ndarray
    n_standard: np.ndarray
    lowered: np.ndarray

    @classmethod
    def of(cls, frames: Frames, fits: ExposureFits) -> FrameTerms:
        """The terms of fits."""
        variance = np.diagonal(fits.covariance + fits.common_covariance, axis1=1, axis2=2)
        lowered = (fits.status & np.uint32(FrameFlag.LOWERED)) > 0
        names = frames.night, frames.band, frames.detector
        return cls(*names, fits.value, variance, fits.n_used, fits.n_standard, lowered)

    def mean(self, few: int, *fields: str) -> tuple[np.ndarray, np.ndarray]:
        """The mean terms (n_frame, n_term) of well-measured frames alike in `fields`, and the variance between frames.

        NaN where fewer than three frames are. A term's variance is what one more frame would differ by.
        """
        keys = np.stack([getattr(self, name).astype(str) for name in fields], axis=1)
        group = np.unique(keys, axis=0, return_inverse=True)[1].ravel() if len(keys) else np.zeros(0, int)
        mean, variance = np.full_like(self.value, np.nan), np.full_like(self.value, np.nan)
        good = (self.n_used >= few) & ~self.lowered
        for k in range(group.max(initial=-1) + 1):
            mine = group == k
            chosen = np.flatnonzero(mine & good)
            if len(chosen) < 3:
                continue
            value, own = self.value[chosen], self.variance[chosen]
            middle = np.median(value, axis=0)
            spread = (MAD * np.median(np.abs(value - middle), axis=0)) ** 2
            mean[mine], variance[mine] = middle, np.maximum(spread, np.median(own, axis=0) / len(chosen)) + 1e-12
        return mean, variance


def mean_terms(frames: Frames, fits: ExposureFits, few: int, *fields: str) -> tuple[np.ndarray, np.ndarray]:
    """As `FrameTerms.mean`, of fits."""
    return FrameTerms.of(frames, fits).mean(few, *fields)


def night_prior(terms: FrameTerms, few: int | None) -> Prior | None:
    """For frames with few standards, what the night's other frames (else the band's) say of all but the constant."""
    n_term = terms.value.shape[1]
    few = few if few is not None else 3 * n_term
    weak = (terms.n_standard < few) & (terms.n_standard > 0)
    if not weak.any() or n_term == 1:
        return None
    mean, variance = terms.mean(few, "night", "band", "detector")
    wider = terms.mean(few, "band", "detector")
    missing = ~np.isfinite(mean)
    mean, variance = np.where(missing, wider[0], mean), np.where(missing, wider[1], variance)
    known = np.isfinite(mean) & weak[:, None]
    known[:, 0] = False
    if not known.any():
        return None
    return Prior(np.where(known, mean, 0.0), np.where(known, 1 / np.where(known, variance, 1.0), 0.0))


def night_line(frames: Frames, zero_point: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, float]:
    """Zero-point against airmass of one night's frames (indices), robustly: (constant, slope) and scatter."""
    z, air = zero_point[chosen], frames.airmass[chosen]
    slope = 0.0
    if np.isfinite(air).all() and len(air) >= 5 and np.ptp(air) > 0.2:
        pairs = np.triu_indices(len(air), 1)
        run = air[pairs[0]] - air[pairs[1]]
        far = np.abs(run) > 0.05
        if far.any():  # Theil's slope bears a third of cloudy frames
            slope = float(np.median((z[pairs[0]] - z[pairs[1]])[far] / run[far]))
    level = z - slope * (np.nan_to_num(air, nan=1.0) - 1)
    middle = float(np.median(level))
    return np.array([middle, slope]), float(MAD * np.median(np.abs(level - middle)))


def fall_back(frames: Frames, fits: ExposureFits) -> ExposureFits:
    """Frames without standards take zero-point and terms from their night, with its scatter as error; flagged."""
    refused = (fits.status & np.uint32(FrameFlag.NO_STANDARDS)) > 0
    if not refused.any():
        return fits
    mean, variance = mean_terms(frames, fits, 1, "night", "band", "detector")
    group, _ = frames.group("night", "band", "detector")
    known_night = frames.night != ""
    out = fits.arrays()
    for k in np.flatnonzero(refused & known_night & np.isfinite(mean).all(axis=1)):
        others = np.flatnonzero((group == group[k]) & np.isfinite(fits.zero_point) & ~refused)
        take_night(frames, fits, others, int(k), frames.airmass[k], out)
        out["value"][k] = mean[k]
        out["value"][k, 0] += out["zero_point"][k] - np.median(fits.zero_point[others])
        out["covariance"][k] = np.diag([out["zero_point_error"][k] ** 2, *variance[k, 1:]])
        out["common_covariance"][k] = np.median(fits.common_covariance[others], axis=0)
    return dataclasses.replace(fits, **out)


def take_night(
    frames: Frames, fits: ExposureFits, others: np.ndarray, k: int, airmass: float, out: dict[str, np.ndarray]
) -> None:
    """Fill in, in place, zero-point and floor of frame k of `out` by frames (indices) of its night."""
    line, scatter = night_line(frames, fits.zero_point, others)
    out["zero_point"][k] = line[0] + line[1] * (airmass - 1 if np.isfinite(airmass) else 0.0)
    out["zero_point_error"][k] = max(scatter, 1e-4)
    out["zero_point_common"][k] = np.median(fits.zero_point_common[others])
    out["model_systematic"][k] = np.median(fits.model_systematic[others])
    out["floor"][k] = np.median(fits.floor[others])
    out["status"][k] |= np.uint32(FrameFlag.NIGHT_FALLBACK)


def judge(frames: Frames, fits: ExposureFits, settings: CalibrationSettings) -> ExposureFits:
    """Flag frames that look cloudy, scattered or drifting beside the others of their night (five at least).

    Flagged too are steep color terms, and frames without an airmass beside others that have one.
    """
    group, first = frames.group("night", "band", "detector")
    status = fits.status.copy()
    for k in range(len(first)):
        mine = np.flatnonzero((group == k) & np.isfinite(fits.zero_point))
        if len(mine) < 5:
            continue
        line, _ = night_line(frames, fits.zero_point, mine)
        air = np.nan_to_num(frames.airmass[mine], nan=1.0) - 1
        off = fits.zero_point[mine] - line[0] - line[1] * air
        noise = 5 * fits.zero_point_error[mine]
        status[mine[off < -np.maximum(settings.cloud, noise)]] |= np.uint32(FrameFlag.CLOUD)
        status[mine[off > np.maximum(settings.cloud, noise)]] |= np.uint32(FrameFlag.DRIFT)
        typical = np.median(fits.floor[mine])
        status[mine[fits.floor[mine] > settings.scatter * max(typical, 1e-3)]] |= np.uint32(FrameFlag.SCATTER)
    status[lacks_airmass(frames)] |= np.uint32(FrameFlag.NO_AIRMASS)
    status[steep_color(fits)] |= np.uint32(FrameFlag.STEEP_COLOR)
    return dataclasses.replace(fits, status=status)


def steep_color(fits: ExposureFits) -> np.ndarray:
    """Frames (n_frame,) whose color term is that of another filter, beyond three errors."""
    if "color_1" not in fits.terms.names:
        return np.zeros(len(fits), bool)
    k = fits.terms.names.index("color_1")
    error = np.sqrt(fits.covariance[:, k, k] + fits.common_covariance[:, k, k])
    return np.isfinite(fits.zero_point) & (np.abs(fits.value[:, k]) - 3 * error > STEEP)


def frozen_terms(frames: Frames, fits: ExposureFits) -> tuple[np.ndarray, np.ndarray]:
    """Mean terms of each frame's band and detector, and variances; of the best frame where fewer than three are."""
    mean, variance = mean_terms(frames, fits, 1, "band", "detector")
    group, first = frames.group("band", "detector")
    for k in range(len(first)):
        mine = np.flatnonzero(group == k)
        if np.isfinite(mean[mine[0]]).all():
            continue
        best = mine[np.argmax(np.where(np.isfinite(fits.zero_point[mine]), fits.n_used[mine], -1))]
        mean[mine] = np.nan_to_num(fits.value[best])
        variance[mine] = np.nan_to_num(np.diagonal(fits.covariance[best] + fits.common_covariance[best]))
    return mean, variance
