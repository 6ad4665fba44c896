"""Which exposures a simulated survey takes: times, air, weather, pointings, and where stars fall on the detectors."""

from __future__ import annotations

import numpy as np

from xpjax.survey.simulation.setup import SurveySetup

GAP = 0.01
"""Distance between detectors, as a part of their size."""
START, MIDNIGHT = 60000.0, 0.7
"""First day of the survey, and the middle of its nights in days: modified Julian dates."""
SEEING = 1.3
"""Median seeing [arcsec]."""
GAIA_EPOCH = 2016.0
J2000_MJD, J2000_YEAR, YEAR = 51544.5, 2000.0, 365.25


class Plan:
    """The exposures, (n_exposure,) arrays: night, time [d], airmass, seeing [arcsec], cloud [mag], band and tile.

    parts, (n_exposure,) [mag] each: what the level and the air of a night, drifts and the aperture add to the
    zero-point; gray (n_exposure,) [mag]: all of them, less clouds. extinction (n_exposure,) [mag/airmass]: of the
    night, beside the chain's.
    """

    def __init__(self, s: SurveySetup, n_band: int, rng: np.random.Generator) -> None:
        self.setup, number, e = s, np.arange(s.n_exposure), s.effects
        self.night = number * s.n_night // s.n_exposure
        hours = np.concatenate([np.linspace(-0.17, 0.17, m) for m in np.bincount(self.night, minlength=s.n_night)])
        self.time = START + self.night + MIDNIGHT + hours
        self.airmass = 1.02 + 22 * hours**2
        self.seeing = SEEING * np.exp(rng.normal(0, 0.15, s.n_exposure))
        clouds = (rng.random(s.n_night) < e.cloudy)[self.night]
        self.cloud = np.where(clouds, rng.uniform(0.0, 0.4, s.n_exposure), 0.0)
        self.band, self.tile = number % n_band, number // n_band % (s.tiles[0] * s.tiles[1])
        level, slope, *drift = rng.normal(size=(4, s.n_night))[:, self.night]
        phase = hours / 0.17
        self.extinction = e.extinction * slope
        self.parts = {
            "night_level": 0.01 * level, "night_air": -self.extinction * (self.airmass - 1),
            "drift": e.drift * (drift[0] * phase + drift[1] * phase**2),
            "aperture": -e.aperture * (self.seeing - SEEING),
        }  # fmt: skip
        self.gray = sum(self.parts.values()) - self.cloud
        self.shift = rng.uniform(-s.dither, s.dither, (s.n_exposure, 2)) if s.dither else np.zeros((s.n_exposure, 2))
        self._waves = rng.uniform(0, 2 * np.pi, (s.n_exposure, 2))

    def cloud_waves(self, e: int, place: np.ndarray) -> np.ndarray:
        """Clouds are not even: one long wave (n,) [mag] over the field, 2 % of their depth."""
        direction, phase = self._waves[e]
        wave = np.cos(place @ np.array([np.cos(direction), np.sin(direction)]) + phase)
        return -0.02 * self.cloud[e] * wave

    @property
    def years(self) -> np.ndarray:
        """Time (n_exposure,) since the epoch of Gaia's positions [yr]."""
        return J2000_YEAR + (self.time - J2000_MJD) / YEAR - GAIA_EPOCH

    # The sky

    @property
    def whole(self) -> np.ndarray:
        """Width and height of the field in detectors, with the gaps between them."""
        n = np.array(self.setup.detectors)
        return n + GAP * (n - 1)

    @property
    def field(self) -> np.ndarray:
        """Width and height of the field [deg]."""
        return self.whole * np.array(self.setup.size) * self.setup.camera.pixel / 3600

    def tile_center(self, tile: int) -> tuple[float, float]:
        """Right ascension and declination [deg] of the center of a tile."""
        s = self.setup
        along, up = tile % s.tiles[0] - (s.tiles[0] - 1) / 2, tile // s.tiles[0] - (s.tiles[1] - 1) / 2
        step = self.field * (1 - s.overlap)
        dec = s.center[1] + up * step[1]
        return float((s.center[0] + along * step[0] / np.cos(np.radians(dec))) % 360), float(dec)

    @property
    def area(self) -> tuple[np.ndarray, np.ndarray]:
        """Range of right ascension about the center, and of declination, that holds all fields [deg]."""
        s, reach = self.setup, self.field * (0.5 + 2 * self.setup.dither)
        half = self.field * (1 - s.overlap) * (np.array(s.tiles) - 1) / 2 + reach
        dec = np.clip(s.center[1] + half[1] * np.array([-1, 1]), -89, 89)
        return half[0] / np.cos(np.radians(np.abs(dec).max())) * np.array([-1, 1]), dec

    def focal_plane(self, e: int, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Places (n, 2) in detectors from the lower left one on exposure e, of positions [deg]; NaN behind the sky."""
        s = self.setup
        ra_0, dec_0 = np.radians(self.tile_center(int(self.tile[e])))
        a, d = np.radians(ra) - ra_0, np.radians(dec)
        depth = np.sin(dec_0) * np.sin(d) + np.cos(dec_0) * np.cos(d) * np.cos(a)
        east = np.cos(d) * np.sin(a)
        north = np.cos(dec_0) * np.sin(d) - np.sin(dec_0) * np.cos(d) * np.cos(a)
        with np.errstate(invalid="ignore", divide="ignore"):
            plane = np.where(depth > 0, np.stack([-east, north]) / depth, np.nan).T
        detectors = np.degrees(plane) * 3600 / s.camera.pixel / np.array(s.size)
        return detectors + self.whole / 2 + self.shift[e]

    def on_detector(self, d: int, focal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which places in the focal plane are on detector d, and where on it (k, 2), 0 to 1."""
        place = focal - self._corner(d)
        seen = np.flatnonzero(((place > 0) & (place < 1)).all(axis=1))
        return seen, place[seen]

    def off_axis(self, d: int, place: np.ndarray) -> np.ndarray:
        """Squared distance (n,) from the center of the field, 1 at its corners."""
        away = (place + self._corner(d) - self.whole / 2) * np.array(self.setup.size)
        return np.sum(away**2, axis=1) / np.sum((self.whole / 2 * np.array(self.setup.size)) ** 2)

    def _corner(self, d: int) -> np.ndarray:
        """Place of the lower left corner of a detector in the focal plane."""
        return np.array([d % self.setup.detectors[0], d // self.setup.detectors[0]]) * (1 + GAP)
