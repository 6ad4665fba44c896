"""What is odd about measurements before anything is fitted: passbands, positions, times, repeated rows, sizes.

`alarms` are of what makes numbers wrong, and every calibration tells them; `hints` are told by checks alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpjax.survey import Observations, RowFlag
from xpjax.survey.exposures import usable_standards
from xpjax.survey.reading.config import SurveyConfig
from xpjax.survey.reading.filters import wrong_passbands
from xpjax.survey.reading.look import few
from xpjax.survey.reading.standards import EPOCHS, julian_years
from xpjax.xp import SourceTable

SENSIBLE: dict[str, tuple[float, float, str]] = {
    "magnitude": (-35.0, 35.0, "mag"),
    "magnitude_error": (1e-5, 0.5, "mag"),
    "model": (-2.0, 25.0, "mag"),
    "color": (-1.5, 7.0, "mag"),
    "airmass": (1.0, 3.0, ""),
    "x": (-1e3, 1e6, "pixel"),
    "y": (-1e3, 1e6, "pixel"),
}
"""Where 9 of 10 values of a kind are expected, and their unit."""
SHIFT = 0.2
"""A median offset of positions [arcsec] that is told."""
YEARS = 2.0
"""Proper motions over this time [yr] between detections and standards, or from an epoch to the exposures, are told."""
SAME = 0.5
"""Exposures that have more than this part of their rows in common are the same data twice."""


def alarms(
    o: Observations,
    config: SurveyConfig,
    spectra: SourceTable | None,
    good: np.ndarray | None = None,
    offsets: Sequence[np.ndarray] = (),
) -> list[str]:
    """What makes numbers wrong without a message from any fit.

    spectra: of the standards; good (n,): rows that may be standards, by default those of the model; offsets: as in an
    `Account`.
    """
    good = usable_standards(o, config.settings.model)[0] if good is None else good
    out = wrong_passbands(o, good, config, spectra)
    out += _times(o, config)
    if offsets:
        epoch = None if config.standards is None else config.standards.epoch
        out += _positions(np.concatenate(offsets, axis=1), epoch)
    return out + _repeated(o) + _doubled(o)


def hints(o: Observations, good: np.ndarray, *, spectral: bool, color: bool) -> list[str]:
    """What is odd about numbers of rows, `good` (n,) of which are standards.

    spectral: whether these are XP spectra; color: whether there is a color term.
    """
    out = _ranges(o)
    keys = np.stack([np.unique(o.star, return_inverse=True)[1], o.frame])[:, good]
    twice = len(keys.T) - len(np.unique(keys, axis=1).T)
    if twice:
        out.append(f"{twice:,} standards come more than once on a frame")
    known = o.color[good & np.isfinite(o.color)]
    if color and len(known):
        low, high = np.percentile(known, [5, 95])
        if high - low < 0.2:
            out.append(f"colors of the standards span {low:.2f} to {high:.2f} mag only: no color term is determined")
    if good.any() and not (o.model_error[good] > 0).any() and np.isfinite(o.model).any():
        why = "the spectra have no correlations, or no errors" if spectral else "no column has them"
        out.append(f"models have no errors ({why}): errors that all exposures share are not known")
    several = np.bincount(o.frames.group("band", "detector")[0]).max(initial=0) > 1
    if several and not np.isfinite(o.frames.time).any() and (o.frames.night == "").all():
        out.append("exposures have neither times nor nights: weak exposures cannot lean on their night")
    return out + _detectors(o)


def _ranges(o: Observations) -> list[str]:
    """Values that are not of the size that their kind has."""
    out = []
    for name, (low, high, unit) in SENSIBLE.items():
        values = getattr(o, name) if hasattr(o, name) else getattr(o.frames, name)
        known = values[np.isfinite(values)]
        if not len(known):
            continue
        a, b = np.percentile(known, [5, 95])
        if a < low or b > high:
            said = f"{name} is {a:.4g} to {b:.4g} {unit}".rstrip()
            hint = ": are they in percent or millimagnitudes?" if name == "magnitude_error" and b > high else ""
            out.append(f"{said}, expected {low:g} to {high:g}{hint}")
    errors = o.magnitude_error[o.magnitude_error > 0]
    if len(errors) and len(np.unique(errors)) == 1 and len(errors) > 2:
        out.append(f"all magnitude errors are {errors[0]:.4g}")
    return out


def _detectors(o: Observations) -> list[str]:
    """Detectors that are as many as exposures, each seen once: a keyword that counts exposures is none of detectors."""
    frames = o.frames
    pairs = {*zip(frames.exposure.tolist(), frames.detector.tolist(), strict=True)}
    exposures, detectors = ({one[k] for one in pairs} for k in (0, 1))
    if len(pairs) < 4 or not len(pairs) == len(exposures) == len(detectors):
        return []
    return [
        f"each of the {len(pairs):,} exposures has a detector of its own ({few(sorted(detectors), 3)}): does "
        "columns.detector count exposures? flats and color terms are common to the exposures of a detector"
    ]


def _times(o: Observations, config: SurveyConfig) -> list[str]:
    """Times of two kinds in one column, and an epoch of the standards that is far from the exposures."""
    time = o.frames.time
    kinds = [np.flatnonzero((time > low) & (time < high)) for low, high, _ in EPOCHS]
    out = []
    if all(map(len, kinds)):
        modified, julian = (few([o.frames.name(int(k)) for k in kind], 2) for kind in kinds)
        out.append(
            f"times are modified Julian days ({len(kinds[0]):,} frames: {modified}) and Julian days "
            f"({len(kinds[1]):,}: {julian}): nights are wrong; give one of them"
        )
    said = config.standards
    years = julian_years(time)
    if said is not None and isinstance(said.epoch, int | float) and np.isfinite(years).any():
        years = np.nanmedian(years)
        if abs(said.epoch - years) > YEARS:
            out.append(
                f"[standards] epoch = {said.epoch:g}, and the exposures are of J{years:.1f}: standards are carried to "
                f'wrong places; give epoch = {years:.1f}, or "time" for that of each exposure'
            )
    return out


def _positions(offsets: np.ndarray, epoch: float | str | None) -> list[str]:
    """Offsets of detections from their standards beside proper motions of these (4, n) [arcsec, arcsec/yr].

    Whether they are about zero, and whether they go with proper motions, so that the epoch [yr] is another one.
    """
    at, motion = offsets[:2], offsets[2:]
    n = at.shape[1]
    if n < 3:
        return []
    (east, north), out = np.median(at, axis=1), []
    error = 1.25 * at.std(axis=1) / np.sqrt(n)
    if np.hypot(east, north) > max(SHIFT, 5 * float(np.hypot(*error))):
        out.append(
            f"positions are off by {np.hypot(east, north):.2f} arcsec from those of the standards ({east:+.2f} to the "
            f"east, {north:+.2f} to the north): mend the astrometry, or name the epoch of the standards"
        )
    left = (at - np.array([[east], [north]])).ravel()
    moved = (motion - np.median(motion, axis=1)[:, None]).ravel()
    if (moved != 0).sum() < 20:
        return out
    years = 0.0
    for _ in range(5):
        off = left - years * moved
        scatter = max(1.4826 * float(np.median(np.abs(off))), 1e-4)
        used = np.abs(off) < 4 * scatter
        square = float(np.sum(moved[used] ** 2))
        years = float(np.sum(left[used] * moved[used])) / max(square, 1e-30)
    if abs(years) > max(YEARS, 5 * scatter / np.sqrt(max(square, 1e-30))):
        mend = "mend columns.time, or name [standards] epoch"
        if isinstance(epoch, int | float):
            mend = f"[standards] epoch = {epoch + years:.1f} mends it"
        out.append(
            f"detections lie where proper motions carry the standards {abs(years):.1f} yr "
            f"{'later' if years > 0 else 'earlier'} than they are carried: {mend}"
        )
    return out


def _repeated(o: Observations) -> list[str]:
    """Exposures that have the rows of another one, to the last digit."""
    if len(o.frames) < 2 or not len(o):
        return []
    rows = np.flatnonzero(np.isfinite(o.magnitude))
    number = np.unique(o.star[rows], return_inverse=True)[1]
    columns = [np.nan_to_num(v[rows]) for v in (o.magnitude, o.magnitude_error, o.x, o.y)]
    order = np.lexsort([number, *columns])
    alike = np.ones(max(len(order) - 1, 0), bool)
    for column in (number, *columns):
        alike &= np.diff(column[order]) == 0
    frame = o.frame[rows][order]
    first, second = frame[:-1][alike], frame[1:][alike]
    other = first != second
    if not other.any():
        return []
    pairs, count = np.unique(np.sort(np.stack([first, second])[:, other], axis=0), axis=1, return_counts=True)
    size = np.bincount(o.frame[rows], minlength=len(o.frames))
    same = count > np.maximum(SAME * np.minimum(*size[pairs]), 2)
    if not same.any():
        return []
    named = [" and ".join(o.frames.name(int(k)) for k in pair) for pair in pairs.T[same]]
    return [
        f"the same rows come twice, in {few(named)} ({int(count[same].sum()):,} rows): each counts as a measurement of "
        "its own; leave one of the tables out"
    ]


def _doubled(o: Observations) -> list[str]:
    """Frames that have rows several times, to the last digit."""
    again = o.frame[(o.excluded & np.uint32(RowFlag.DUPLICATE)) > 0]
    if not len(again):
        return []
    named = few([o.frames.name(int(k)) for k in np.unique(again)])
    return [
        f"{len(again):,} rows come again on the same frame, to the last digit, in {named}: each measurement counts "
        "once (RowFlag DUPLICATE); give each table once, under its own exposure, and each row once"
    ]
