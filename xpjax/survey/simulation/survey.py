"""Simulated surveys with known truth: what each star, exposure and place of the detector was given."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

from xpjax.core.records import Rows
from xpjax.core.sky import cells_of
from xpjax.survey.observations import Observations, concatenate, make_observations
from xpjax.survey.simulation.flat import Flat
from xpjax.survey.simulation.passbands import Magnitudes, Models, open_chain
from xpjax.survey.simulation.plan import SEEING, Plan
from xpjax.survey.simulation.setup import SurveySetup
from xpjax.survey.simulation.stars import make_stars, true_correction
from xpjax.survey.sky_floor import SKY_NSIDE, sky_floor
from xpjax.xp import load_correction

MAGNITUDE_ZERO = 13.0
"""Where magnitude terms are zero."""
PLACES = np.stack(np.meshgrid(*[(np.arange(20) + 0.5) / 20] * 2), axis=-1).reshape(-1, 2)
"""Places over which zero-points are medians."""
NEAR = 0.3
"""Reach [mag] in color of the stars that tell a color term's value at a color."""
FAINTEST = 0.2
"""Largest error [mag] of what is detected."""


@dataclasses.dataclass(frozen=True)
class Truth(Rows):
    """Of each row: natural magnitude, correction (added to the instrumental one) and theoretical error, (n,) [mag].

    flat, response (n,) [mag]: parts of the correction, of the place on the detector and of the light; filter_shift (n,)
    [nm]: of the true filter at the place from the described one.
    """

    row_fields = ("magnitude", "correction", "error", "flat", "response", "filter_shift", "disturbed")

    magnitude: np.ndarray
    correction: np.ndarray
    error: np.ndarray
    flat: np.ndarray
    response: np.ndarray
    filter_shift: np.ndarray
    disturbed: np.ndarray
    """Whether the star varies or the measurement was spoilt."""


@dataclasses.dataclass(frozen=True)
class Detections(Rows):
    """What one detector measured on one exposure: rows of the stars (n,), places [pixel], positions [deg], magnitudes
    and stated errors [mag], flags as SExtractor's; and the truth."""

    row_fields = ("star", "x", "y", "ra", "dec", "magnitude", "error", "flags", "truth")

    star: np.ndarray
    x: np.ndarray
    y: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    magnitude: np.ndarray
    error: np.ndarray
    flags: np.ndarray
    truth: Truth


class SimulatedSurvey:
    """Simulate a survey: stars and flats are drawn at once, exposures when asked for, always the same ones.

    Parameters
    ----------
    setup : SurveySetup, optional
        What is simulated.

    Raises
    ------
    XpjaxError
        If the setup names a chain or a band that is none.

    Notes
    -----
    Instrumental magnitude = natural magnitude - correction + noise. The natural magnitude is that of the true spectrum
    through the true chain at the exposure's airmass; the correction, as a function of the place, is zero-point +
    flat(x, y), with nights, air, clouds, seeing and detectors in the zero-point. A frame is an exposure on a detector.

    Examples
    --------
    >>> from xpjax.survey import SimulatedSurvey, SurveySetup
    >>> survey = SimulatedSurvey(SurveySetup(n_exposure=2, n_star=30, n_night=1, seed=1))
    >>> observations, truth = survey.observe()
    >>> len(observations.frames), len(observations) == len(truth.magnitude)
    (2, True)
    """

    def __init__(self, setup: SurveySetup | None = None) -> None:
        self.setup = s = setup or SurveySetup()
        streams = [np.random.default_rng([s.seed, k]) for k in range(6)]
        self.n_detector = s.detectors[0] * s.detectors[1]
        self.plan = Plan(s, len(open_chain(s).bands), streams[0])
        self.stars = make_stars(s, self.plan, streams[1])
        self.xp_correction, self.instrument_error = true_correction(s, streams[2])
        self.magnitudes = Magnitudes(s, self.stars.true, self.xp_correction, self.plan.airmass, streams[3])
        self.flats = [Flat(s.effects.flat, streams[4]) for _ in range(len(self.bands) * self.n_detector)]
        offset = streams[4].normal(0, s.effects.detector_offset, len(self.flats))
        self.detector_offset = offset if self.n_detector > 1 else np.zeros(len(self.flats))
        n, rng = len(self.stars), streams[5]
        self.varies = rng.random(n) < s.effects.variable
        self.amplitude = np.where(self.varies, rng.uniform(0.03, 0.3, n), 0.0)
        self.period = np.exp(rng.uniform(np.log(0.1), np.log(10), n))
        self.phase = rng.uniform(0, 2 * np.pi, n)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""
        return self.magnitudes.bands

    # Frames

    def __len__(self) -> int:
        """The number of frames."""
        return self.setup.n_exposure * self.n_detector

    def names(self, f: int) -> dict[str, str]:
        """What exposure, band, detector, night and field of a frame are called."""
        e, d = divmod(f, self.n_detector)
        return {
            "exposure": f"e{e:05d}", "band": self.bands[self.plan.band[e]], "detector": f"ccd{d + 1}",
            "night": f"n{self.plan.night[e]:03d}", "field": f"field{self.plan.tile[e] + 1}",
        }  # fmt: skip

    def zero_point(self, f: int) -> float:
        """What is added to instrumental magnitudes [mag], but for the flat."""
        e, d = divmod(f, self.n_detector)
        band = int(self.plan.band[e])
        of_band = self.magnitudes.zero_point(band, float(self.plan.airmass[e]))
        offset = self.detector_offset[band * self.n_detector + d]
        return self.setup.camera.zero_point + of_band + self.plan.gray[e] + offset

    def flat(self, place: np.ndarray, grain: bool = True, f: int = 0) -> np.ndarray:
        """The flat (n,) [mag] at places (n, 2), in units of the detector, of a frame. grain: its small scales."""
        e, d = divmod(f, self.n_detector)
        return self.flats[self.plan.band[e] * self.n_detector + d](place, grain)

    def correction(self, f: int, place: np.ndarray, grain: bool = True) -> np.ndarray:
        """What is to be added to instrumental magnitudes at places (n, 2) on a frame [mag], at magnitude 13."""
        return self.zero_point(f) + self.flat(place, grain, f) + self.plan.cloud_waves(f // self.n_detector, place)

    def color_term(self, f: int, color_zero: float | None = None) -> tuple[float, float]:
        """Model less natural magnitude [mag] of stars of a color, and its slope; by default of their median color.

        Of stars with true spectra, by a line through those near the color.
        """
        e, color = f // self.n_detector, self.stars.color
        zero = self.color_zero if color_zero is None else color_zero
        off = self.magnitudes.color_term(int(self.plan.band[e]), float(self.plan.airmass[e]))
        near = np.flatnonzero((np.abs(color - zero) < NEAR) & np.isfinite(off))
        slope, value = np.polyfit(color[near] - zero, off[near], 1) if len(near) > 5 else (0.0, np.nanmedian(off))
        return float(value), float(slope)

    @functools.cached_property
    def color_zero(self) -> float:
        """The median color BP - RP of the stars with spectra, to 0.01 mag: where color terms are zero by default."""
        return float(np.round(np.median(self.stars.color[self.stars.has_xp]), 2))

    def true_zero_points(self, frames: Iterable[int] | None = None, color_zero: float | None = None) -> np.ndarray:
        """Medians of the correction over 20 x 20 places, as fitted zero-points are defined, at color_zero.

        Without the flat's grain, which 400 places only sample.
        """
        every = range(len(self)) if frames is None else frames
        return np.array(
            [
                np.median(self.correction(int(f), PLACES, grain=False)) + self.color_term(int(f), color_zero)[0]
                for f in every
            ]
        )

    # Measurements

    def expose(self, f: int) -> Detections:
        """What a detector measures on an exposure."""
        s, plan, (e, d) = self.setup, self.plan, divmod(f, self.n_detector)
        rng = np.random.default_rng([s.seed, 6, f])
        positions = np.stack(self.stars.positions(float(plan.years[e])))
        seen, place = plan.on_detector(d, plan.focal_plane(e, *positions))
        shift = -s.effects.field_shift * plan.off_axis(d, place)
        natural = self._natural(seen, e, shift)
        gray, response = self.correction(f, place), self._by_magnitude(natural, e)
        correction, filter_shift = gray + response, shift + self.magnitudes.filter_shift[plan.band[e]]
        noise = s.camera.noise(natural + s.camera.zero_point - correction, float(plan.airmass[e]))
        spoilt = rng.random(len(seen)) < s.effects.outlier
        wrong = np.where(spoilt, rng.choice([-1, 1], len(seen)) * rng.uniform(0.05, 1, len(seen)), 0.0)
        magnitude = natural - correction + rng.normal(size=len(seen)) * noise["total"] + wrong
        x, y = (place * np.array(s.size)).T + rng.normal(0, 0.02, (2, len(seen)))
        ra, dec = positions[:, seen] + rng.normal(0, 0.03 / 3600, (2, len(seen)))
        flags = np.where(spoilt & (rng.random(len(seen)) < 0.5), 2, 0).astype(np.int16)
        parts = gray - self.zero_point(f), response, filter_shift
        truth = Truth(natural, correction, noise["total"], *parts, spoilt | self.varies[seen])
        stated = np.sqrt(noise["photon"] ** 2 + noise["sky"] ** 2 + noise["read"] ** 2)
        made = Detections(seen, x, y, ra, dec, magnitude, stated, flags, truth)
        return made[noise["total"] < FAINTEST]

    def _natural(self, star: np.ndarray, e: int, shift: np.ndarray) -> np.ndarray:
        """Magnitudes (n,) [mag] of stars through the true passband, shifted by so many nm, at exposure e."""
        plan = self.plan
        wave = np.sin(2 * np.pi * plan.time[e] / self.period[star] + self.phase[star])
        true = self.magnitudes.true(star, int(plan.band[e]), float(plan.airmass[e]), shift)
        return true + self.amplitude[star] * wave

    def _by_magnitude(self, natural: np.ndarray, e: int) -> np.ndarray:
        """The parts (n,) [mag] of the correction that go with a star's counts."""
        effects, counts = self.setup.effects, 10 ** (-0.4 * (natural - self.setup.bright))
        peaks = counts * (SEEING / self.plan.seeing[e]) ** 2
        slope = effects.magnitude_term * (natural - MAGNITUDE_ZERO)
        return slope - effects.nonlinearity * counts - effects.brighter_fatter * peaks

    @functools.cached_property
    def xp_in_bands(self) -> np.ndarray:
        """What XP's errors mean in each band: see `Magnitudes.xp_errors`."""
        known = load_correction(self.setup.correction)
        return self.magnitudes.xp_errors(self.stars.true, known, self.xp_correction)

    @functools.cached_property
    def models(self) -> Models:
        """Model magnitudes of the stars with XP spectra, through the described chain."""
        return self.magnitudes.models(self.stars.table, self.setup.correction)

    def observe(self, exposures: Iterable[int] | None = None) -> tuple[Observations, Truth]:
        """Measurements on these exposures (all by default), and the truth about each row."""
        every = range(self.setup.n_exposure) if exposures is None else exposures
        frames = [int(e) * self.n_detector + d for e in every for d in range(self.n_detector)]
        parts, truths = zip(*(self._observed(f) for f in frames), strict=True)
        whole = Truth(*(np.concatenate([getattr(t, name) for t in truths]) for name in Truth.row_fields))
        return concatenate(parts), whole

    def _observed(self, f: int) -> tuple[Observations, Truth]:
        e, rows = f // self.n_detector, self.expose(f)
        has = self.stars.has_xp[rows.star]
        model, error, left = self.models.at(rows.star, int(self.plan.band[e]), float(self.plan.airmass[e]))
        floor = sky_floor(rows.ra[has], rows.dec[has], sigma=self.setup.effects.sky)
        names = self.names(f)
        part = make_observations(
            self.stars.star[rows.star], rows.x, rows.y, rows.magnitude, rows.error, np.where(has, model, np.nan),
            color=np.where(has, self.stars.color[rows.star], np.nan), model_error=np.where(has, error, np.nan),
            time=float(self.plan.time[e]), airmass=float(self.plan.airmass[e]), cut=rows.flags > 0,
            exposure=names["exposure"], band=names["band"], detector=names["detector"], night=names["night"],
        )  # fmt: skip
        systematic = np.hypot(np.where(has, left, 0.0), floor)
        cell = cells_of(rows.ra, rows.dec, SKY_NSIDE) if self.setup.effects.sky else None
        return dataclasses.replace(part, model_systematic=systematic, sky_cell=cell), rows.truth
