"""Whether magnitudes are of the passbands that they are said to be of, told by the colors of stars before any fit.

    model - magnitude = zero-point(frame) + slope * color

The slope is that of the difference between two passbands: hundredths where the curve is that of the filter, several
tenths where curves or filters are exchanged. The passband that the magnitudes are of is the one whose models scatter
least around them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from xpjax.core.ids import places_of
from xpjax.survey import MAD, STEEP, Observations, group_median
from xpjax.survey.reading.config import SurveyConfig
from xpjax.survey.reading.look import few, spread
from xpjax.survey.reading.passbands import open_passband, star_models
from xpjax.synthetic import PassbandSet, TransmissionChain
from xpjax.xp import SourceTable

FEWEST = 10
"""Standards that a slope with color needs, and twice as many a passband that fits better."""
NARROW = 0.1
"""Standards whose colors scatter by less [mag] tell no slope."""
BETTER = 0.7
"""Another passband fits better where its models scatter by less than this part of what those of the own one do."""
STARS = 2000
"""Stars whose magnitudes in all passbands are looked at."""


def color_slopes(difference: np.ndarray, color: np.ndarray, group: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Robust slopes (n,) [mag per mag] of differences with color, each about its group's mean, and their errors; NaN
    where stars are few, or of one color."""
    used = np.isfinite(difference + color)
    slope = error = np.full(n, np.nan)
    for _ in range(8):
        count = np.bincount(group[used], minlength=n)
        with np.errstate(invalid="ignore", divide="ignore"):
            d, c = ((v - (np.bincount(group[used], v[used], n) / count)[group]) for v in (difference, color))
            square = np.bincount(group[used], c[used] ** 2, n)
            slope = np.bincount(group[used], (c * d)[used], n) / square
            told = (count >= FEWEST) & (np.sqrt(square / count) > NARROW)
            off = np.abs(d - slope[group] * c)
            scatter = MAD * group_median(np.where(used, off, np.nan), group, n)
            error = scatter / np.sqrt(square)
        slope = np.where(told, slope, np.nan)
        kept = np.isfinite(difference + color) & ~(off > 4 * np.maximum(scatter, 1e-3)[group])
        if np.array_equal(kept, used):
            break
        used = kept
    return slope, error


@dataclasses.dataclass(frozen=True)
class _Candidates:
    """Magnitudes (n,) of the rows of observations in passbands, by name; own: the passband of each frame (n_frame,)."""

    models: Mapping[str, np.ndarray]
    own: np.ndarray

    def better(self, o: Observations, rows: np.ndarray) -> str:
        """What is to be told of the passband that rows, all of one band, agree with better than with their own."""
        known = rows[np.isfinite(o.model[rows] - o.magnitude[rows])]
        if len(known) < 2 * FEWEST:
            return ""
        own, best, name = _scatter(o, o.model, known), np.inf, ""
        for other, model in self.models.items():
            there = known[np.isfinite(model[known])]
            if other != self.own[o.frame[rows[0]]] and len(there) > max(2 * FEWEST, 0.8 * len(known)):
                found = _scatter(o, model, there)
                best, name = min((best, name), (found, other))
        if not best < BETTER * own:
            return ""
        return f"magnitudes agree better with {name} (scatter {1e3 * best:.0f} mmag, instead of {1e3 * own:.0f})"


def _scatter(o: Observations, model: np.ndarray, rows: np.ndarray) -> float:
    """1.48 MAD of model less magnitude of rows, each about the median of its frame."""
    difference, frame = model[rows] - o.magnitude[rows], o.frame[rows]
    middle = group_median(difference, frame, len(o.frames))
    return float(MAD * np.median(np.abs(difference - middle[frame])))


def wrong_passbands(o: Observations, good: np.ndarray, config: SurveyConfig, spectra: SourceTable | None) -> list[str]:
    """What is odd about the passbands of bands and of exposures, of rows that may be standards `good` (n,)."""
    rows = np.flatnonzero(good & np.isfinite(o.model + o.magnitude))
    bands, of_frame = np.unique(o.frames.band, return_inverse=True)
    n = len(o.frames)
    difference, color, frame = o.model[rows] - o.magnitude[rows], o.color[rows], o.frame[rows]
    slope, error = color_slopes(difference, color, frame, n)
    middle = [group_median(v, frame, n)[frame] for v in (difference, color)]
    pooled = color_slopes(difference - middle[0], color - middle[1], of_frame[frame], len(bands))
    steep, steep_band = (np.abs(one) - 3 * sigma > STEEP for one, sigma in ((slope, error), pooled))
    candidates = _candidates(o, config, spectra)
    out: list[str] = []
    for k, band in enumerate(bands.tolist()):
        mine = of_frame == k
        wrong, told = mine & steep, mine & np.isfinite(slope)
        whole = wrong.sum() > 0.5 * told.sum() if told.any() else bool(steep_band[k])
        chosen = rows[(mine if whole or not wrong.any() else wrong)[frame]]
        fits = candidates.better(o, chosen) if len(chosen) else ""
        if whole:
            typical = np.median(slope[wrong]) if told.any() else pooled[0][k]
            out.append(_steep(f"band {band}".rstrip(), float(typical), fits))
        elif wrong.any():
            named = few([o.frames.name(int(f)) for f in np.flatnonzero(wrong)])
            out.append(_steep(named, float(np.median(slope[wrong])), fits))
        elif fits:
            out.append(f"band {band}: {fits}: is its passband that of another filter?")
    return out


def _steep(what: str, slope: float, better: str) -> str:
    return (
        f"{what}: model less magnitude changes by {slope:+.2f} mag for a magnitude of color: is the passband that of "
        "another filter, or of another system? mend [passband], or the bands of the tables"
        + f"; {better}"
        * bool(better)
    )


def _candidates(o: Observations, config: SurveyConfig, spectra: SourceTable | None) -> _Candidates:
    """Of XP spectra magnitudes in all passbands; of a table of models those of the same stars in the other bands."""
    said = config.passband
    models: dict[str, np.ndarray] = {}
    if spectra is None or said is None or not len(spectra):
        for band in np.unique(o.frames.band).tolist():
            rows = np.flatnonzero((o.frames.band == band)[o.frame] & np.isfinite(o.model))
            place = places_of(o.star, o.star[rows])
            models[f"band {band}"] = np.where(place >= 0, o.model[rows][place] if len(rows) else np.nan, np.nan)
        return _Candidates(models, np.array([f"band {band}" for band in o.frames.band.tolist()]))
    passband = open_passband(said, config.folder)
    bands: PassbandSet | str = passband.passbands() if isinstance(passband, TransmissionChain) else passband
    some = spectra[np.array(spread(range(len(spectra)), STARS))]
    found = star_models(some, bands, config.spectra_correction)
    star = o.star if o.star.dtype.kind in "iu" else np.zeros(len(o), np.int64)
    place = places_of(star, found.star)
    for k, name in enumerate(found.bands):
        models[f"passband {name}"] = np.where(place >= 0, found.model[place, k], np.nan)
    own = [f"passband {said.bands.get(band, band)}" for band in o.frames.band.tolist()]
    if len(found.bands) == 1:
        own = [f"passband {found.bands[0]}"] * len(own)
    return _Candidates(models, np.array(own))
