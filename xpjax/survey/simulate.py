"""Simulated surveys with known truth: what each star, exposure and place of the detector was given.

Instrumental magnitude = natural magnitude - correction + noise, and

    correction(e, x, y) = zero_point - k (X - 1) - cloud + flat(x, y) [large, medium and small scales]
    model = natural magnitude + color term + what the standard is wrong by, the same on every exposure
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.atomic import check_products, write_bytes
from xpjax.io.catalogue import write
from xpjax.survey.columns import OutputColumn, provenance, tabulate
from xpjax.survey.noise import Camera
from xpjax.survey.observations import Observations, concatenate, make_observations


@dataclasses.dataclass(frozen=True)
class SurveySetup:
    """Set what a simulated survey is like; the defaults are a small mini-SiTian field (Xiao et al. 2025).

    Parameters
    ----------
    n_exposure : int
        Number of exposures.
    n_star : int
        Number of stars; those that fall on the detector are seen.
    n_night : int
        Number of nights.
    size : (float, float) [pixel]
        Size of the detector.
    bright, faint : float [mag]
        Limits of the magnitudes of the stars.
    dither : float
        Largest offset of an exposure, as a part of the detector.
    flat : (float, float, float) [mag]
        Peak of the large-scale flat, rms of the medium scales (waves of 1/5 to 1/2 of the detector) and of the small
        scales (1/60 to 1/30).
    color_term : (float, float) [mag]
        Color term of the models for each magnitude of color, and for its square.
    magnitude_term : float
        Slope of the instrumental magnitudes with magnitude.
    extinction : float [mag]
        Extinction for each unit of airmass.
    cloudy : float
        Part of the nights with clouds.
    variable : float
        Part of the stars that vary.
    outlier : float
        Part of the measurements that are outliers.
    standard_error : float [mag]
        Error of the models beyond their stated errors.
    camera : Camera
        Telescope and detector, for the noise.
    seed : int
        The same seed gives the same survey.
    correction : str
        Linear correction of the mock spectra, which have no systematic errors of their own.

    Examples
    --------
    >>> xpjax.survey.SurveySetup(n_exposure=3).n_exposure
    3
    """

    n_exposure: int = 60
    n_star: int = 2200
    n_night: int = 5
    size: tuple[float, float] = (9576.0, 6388.0)
    bright: float = 11.5
    faint: float = 16.5
    dither: float = 0.05
    flat: tuple[float, float, float] = (0.05, 0.005, 0.0005)
    color_term: tuple[float, float] = (0.010, -0.004)
    magnitude_term: float = 0.0
    extinction: float = 0.25
    cloudy: float = 0.2
    variable: float = 0.01
    outlier: float = 0.01
    standard_error: float = 0.002
    camera: Camera = dataclasses.field(default_factory=Camera)
    seed: int = 0
    correction: str = "none"


COLOR_ZERO, MAGNITUDE_ZERO = 1.0, 13.0
"""Where color and magnitude terms are zero."""


@dataclasses.dataclass(frozen=True)
class Truth:
    """Of each row: natural magnitude, correction (added to the instrumental one) and theoretical error, (n,) [mag]."""

    magnitude: np.ndarray
    correction: np.ndarray
    error: np.ndarray
    disturbed: np.ndarray
    """Whether the star varies or the measurement was spoilt."""


class SimulatedSurvey:
    """Simulate a survey: stars and flats are drawn at once, exposures when asked for, always the same ones.

    Parameters
    ----------
    setup : SurveySetup, optional
        What is simulated.

    Raises
    ------
    XpjaxError
        If there are no exposures, stars or nights.

    Notes
    -----
    Instrumental magnitude = natural magnitude - correction + noise, with correction(e, x, y) = zero_point - k (X - 1) -
    cloud + flat(x, y), and model = natural magnitude + color term + error of the standard, the same on every exposure.

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
        if s.n_exposure < 1 or s.n_star < 1 or s.n_night < 1:
            raise XpjaxError(f"a survey needs exposures, stars and nights, not {s}")
        rng = np.random.default_rng([s.seed, 0])
        self.star, self.magnitude, self.model, self.model_error, self.color = _standards(s, rng)
        n = len(self.star)
        self.place = rng.uniform(-2 * s.dither, 1 + 2 * s.dither, (n, 2))
        self.varies = rng.random(n) < s.variable
        self.amplitude = np.where(self.varies, rng.uniform(0.03, 0.3, n), 0.0)
        self.period, self.phase = np.exp(rng.uniform(np.log(0.1), np.log(10), n)), rng.uniform(0, 2 * np.pi, n)
        self._large = rng.normal(size=5) * np.array([1, 1, 1, 0.7, 1])
        self._waves = [_waves(rng, 40, low, high) for low, high in ((2, 5), (30, 60))]
        grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 50)] * 2), axis=-1).reshape(-1, 2)
        self._scale = 1.0
        self._scale = 1 / np.abs(self._quadratic(grid)).max()
        self._fit = [1.0, 1.0]
        self._fit = [1 / _wave(grid, waves).std() for waves in self._waves]
        self.night = np.arange(s.n_exposure) * s.n_night // s.n_exposure
        hours = np.concatenate([np.linspace(-0.17, 0.17, m) for m in np.bincount(self.night, minlength=s.n_night)])
        self.time = 60000.0 + self.night + 0.7 + hours
        self.airmass = 1.02 + 22 * hours**2
        clouds = (rng.random(s.n_night) < s.cloudy)[self.night]
        self.cloud = np.where(clouds, rng.uniform(0.0, 0.4, s.n_exposure), 0.0)
        self.zero_point = (
            s.camera.zero_point
            + rng.normal(0, 0.01, s.n_night)[self.night]
            - s.extinction * (self.airmass - 1)
            - self.cloud
        )

    def _quadratic(self, place: np.ndarray) -> np.ndarray:
        u, v = 2 * place.T - 1
        return self._scale * (self._large @ np.stack([u, v, u * u - 1 / 3, u * v, v * v - 1 / 3]))

    def flat(self, place: np.ndarray, grain: bool = True) -> np.ndarray:
        """The flat (n,) [mag] at places (n, 2), in units of the detector; constant in time. grain: its small scales."""
        large, medium, small = self.setup.flat
        small = small if grain else 0.0
        out = large * self._quadratic(place)
        for amplitude, waves, norm in zip((medium, small), self._waves, self._fit, strict=True):
            if amplitude:
                out += amplitude * norm * _wave(place, waves)
        return out

    def correction(self, e: int, place: np.ndarray, grain: bool = True) -> np.ndarray:
        """What is to be added to instrumental magnitudes at places (n, 2) on exposure e [mag], at magnitude 13.

        Clouds are not even: one long wave over the field, 2 % of their depth.
        """
        direction, phase = np.random.default_rng([self.setup.seed, 2, e]).uniform(0, 2 * np.pi, 2)
        wave = np.cos(place @ np.array([np.cos(direction), np.sin(direction)]) + phase)
        return self.zero_point[e] + self.flat(place, grain) - 0.02 * self.cloud[e] * wave

    def true_zero_points(self, exposures: Iterable[int] | None = None) -> np.ndarray:
        """Medians of the correction over 20 x 20 places, as fitted zero-points are defined.

        Without the flat's grain, which 400 places only sample.
        """
        axis = (np.arange(20) + 0.5) / 20
        grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        every = range(self.setup.n_exposure) if exposures is None else exposures
        return np.array([np.median(self.correction(int(e), grid, grain=False)) for e in every])

    def observe(self, exposures: Iterable[int] | None = None) -> tuple[Observations, Truth]:
        """Measurements on these exposures (all by default), and the truth about each row."""
        every = range(self.setup.n_exposure) if exposures is None else exposures
        parts, truths = zip(*(self._expose(int(e)) for e in every), strict=True)
        whole = Truth(*(np.concatenate([getattr(t, f.name) for t in truths]) for f in dataclasses.fields(Truth)))
        return concatenate(parts), whole

    def _expose(self, e: int) -> tuple[Observations, Truth]:
        s = self.setup
        rng = np.random.default_rng([s.seed, 1, e])
        shift = rng.uniform(-s.dither, s.dither, 2) if s.dither else np.zeros(2)
        place = self.place + shift
        seen = np.flatnonzero(((place > 0) & (place < 1)).all(axis=1))
        place = place[seen]
        wave = np.sin(2 * np.pi * self.time[e] / self.period[seen] + self.phase[seen])
        natural = self.magnitude[seen] + self.amplitude[seen] * wave
        correction = self.correction(e, place) + s.magnitude_term * (natural - MAGNITUDE_ZERO)
        loss = s.camera.zero_point - correction
        noise = s.camera.noise(natural + loss, self.airmass[e])
        stated = np.sqrt(noise["photon"] ** 2 + noise["sky"] ** 2 + noise["read"] ** 2)
        spoilt = rng.random(len(seen)) < s.outlier
        wrong = np.where(spoilt, rng.choice([-1, 1], len(seen)) * rng.uniform(0.05, 1, len(seen)), 0.0)
        magnitude = natural - correction + rng.normal(size=len(seen)) * noise["total"] + wrong
        x, y = (place * np.array(s.size)).T
        part = make_observations(
            self.star[seen], x, y, magnitude, stated, self.model[seen], color=self.color[seen],
            model_error=self.model_error[seen], exposure=f"e{e:05d}", night=f"n{self.night[e]:03d}",
            time=self.time[e], airmass=self.airmass[e],
        )  # fmt: skip
        return part, Truth(natural, correction, noise["total"], spoilt | self.varies[seen])


def _waves(rng: np.random.Generator, n: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Wave vectors (n, 2) of low..high waves over the detector, and phases (n,)."""
    k, angle = 2 * np.pi * rng.uniform(low, high, n), rng.uniform(0, 2 * np.pi, n)
    return np.stack([k * np.cos(angle), k * np.sin(angle)], axis=1), rng.uniform(0, 2 * np.pi, n)


def _wave(place: np.ndarray, waves: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    vectors, phases = waves
    out = np.zeros(len(place))
    for vector, phase in zip(vectors, phases, strict=True):
        out += np.cos(place @ vector + phase)
    return out


def _standards(s: SurveySetup, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Ids, true magnitudes, model magnitudes with their errors, and BP-RP of mock XP sources, in SDSS g."""
    from xpjax.synthetic import photometry
    from xpjax.xp import simulate_sources

    ids, parts = [], []
    seed, missing = s.seed, s.n_star
    while missing > 0:
        table = simulate_sources(2 * missing + 200, seed=seed)
        result = photometry(table, "SDSS", correction=s.correction)
        k = result.system.names.index("g")
        magnitude, error = np.asarray(result.magnitude)[:, k], np.asarray(result.magnitude_error)[:, k]
        color = np.asarray(table.columns["bp_rp"], float)
        good = (magnitude > s.bright) & (magnitude < s.faint) & (error < 0.03) & (color < 2.5)
        chosen = np.flatnonzero(good)[:missing]
        ids.append(table.source_id[chosen])
        parts.append(np.stack([magnitude, error, color])[:, chosen].astype(float))
        missing, seed = missing - len(chosen), seed + 1
    magnitude, error, color = np.concatenate(parts, axis=1)
    # Healpix-like ids of small mocks may repeat.
    star = np.concatenate(ids)
    star = star if len(np.unique(star)) == len(star) else np.arange(1, len(star) + 1)
    c = color - COLOR_ZERO
    term = s.color_term[0] * c + s.color_term[1] * c**2
    wrong = rng.normal(size=len(star)) * np.hypot(error, s.standard_error)
    return star, magnitude, magnitude + term + wrong, error, color


OBSERVED = (
    OutputColumn("star", lambda r: r[0].star, "", "Identifier of the star"),
    OutputColumn("exposure", lambda r: r[0].frames.exposure[r[0].frame], "", "Exposure"),
    OutputColumn("night", lambda r: r[0].frames.night[r[0].frame], "", "Night"),
    OutputColumn("time", lambda r: r[0].frames.time[r[0].frame], "d", "Time of the exposure"),
    OutputColumn("airmass", lambda r: r[0].frames.airmass[r[0].frame], "", "Airmass of the exposure"),
    OutputColumn("x", lambda r: r[0].x, "pixel", "Position along the x axis of the detector"),
    OutputColumn("y", lambda r: r[0].y, "pixel", "Position along the y axis of the detector"),
    OutputColumn("magnitude", lambda r: r[0].magnitude, "mag", "Instrumental magnitude"),
    OutputColumn("magnitude_error", lambda r: r[0].magnitude_error, "mag", "Error of the instrumental magnitude"),
    OutputColumn("model", lambda r: r[0].model, "mag", "Model magnitude of the star from its XP spectrum"),
    OutputColumn("model_error", lambda r: r[0].model_error, "mag", "Error of the model magnitude"),
    OutputColumn("color", lambda r: r[0].color, "mag", "Color BP - RP of the star"),
    OutputColumn("true_magnitude", lambda r: r[1].magnitude, "mag", "True magnitude in the natural system"),
    OutputColumn("true_correction", lambda r: r[1].correction, "mag", "True calibrated minus instrumental magnitude"),
)
"""Columns of simulated observations and the truth about them."""
EXPOSURES = (
    OutputColumn("exposure", lambda s: np.array([f"e{e:05d}" for e in range(len(s.time))]), "", "Exposure"),
    OutputColumn("night", lambda s: np.array([f"n{night:03d}" for night in s.night]), "", "Night"),
    OutputColumn("time", lambda s: s.time, "d", "Time of the exposure"),
    OutputColumn("airmass", lambda s: s.airmass, "", "Airmass of the exposure"),
    OutputColumn("true_zero_point", lambda s: s.true_zero_points(), "mag", "True zero-point"),
    OutputColumn("cloud", lambda s: s.cloud, "mag", "Extinction by clouds"),
)
OBSERVATIONS, TRUTH, CONFIG = "observations.parquet", "exposures.ecsv", "survey.toml"


def simulate_survey(
    setup: SurveySetup | None = None,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    record: Mapping[str, Any] | None = None,
) -> SimulatedSurvey:
    """Simulate a survey with known truth, and write its files where an output is given.

    Parameters
    ----------
    setup : SurveySetup, optional
        What is simulated.
    output : str or Path, optional
        Directory for `observations.parquet`, `exposures.ecsv` with the true zero-points, and `survey.toml`.
    overwrite : bool
        Whether to replace files that exist.
    record : mapping, optional
        Metadata of the files.

    Returns
    -------
    SimulatedSurvey
        The survey.

    Raises
    ------
    FileExistsError
        If a file exists, unless overwrite.

    Examples
    --------
    >>> setup = xpjax.survey.SurveySetup(n_exposure=2, n_star=30, n_night=1, seed=1)
    >>> survey = xpjax.survey.simulate_survey(setup, "mock")
    >>> len(xpjax.read_table("mock/exposures.ecsv"))
    2
    """
    made = SimulatedSurvey(setup)
    if output is None:
        return made
    folder, s = Path(output), made.setup
    check_products(folder, OBSERVATIONS, TRUTH, CONFIG, overwrite=overwrite)
    about = {**(record or {}), **provenance(), "correction": Path(s.correction).name}
    plain = ("star", "exposure", "night", "time", "airmass", "x", "y", "magnitude", "magnitude_error", "model")
    text = "[columns]\n" + "".join(f'{name} = "{name}"\n' for name in (*plain, "model_error", "color"))
    text += f"\n[model]\nposition_order = 2\ncolor_order = 2\ncolor_zero = {COLOR_ZERO}\n"
    text += f"size = [{s.size[0]:g}, {s.size[1]:g}]\nstacked_flat = true\nnumerical_flat = false\n"
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / OBSERVATIONS, tabulate(OBSERVED, made.observe(), about), overwrite=overwrite)
    write(folder / TRUTH, tabulate(EXPOSURES, made, about), overwrite=overwrite)
    write_bytes(folder / CONFIG, text.encode())
    return made
