"""What a simulated survey observes, and all that stands between spectra and instrumental magnitudes."""

from __future__ import annotations

import dataclasses

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.survey.noise import Camera
from xpjax.survey.sky_floor import SKY_SIGMA


@dataclasses.dataclass(frozen=True)
class SurveyEffects:
    """Set what a simulated survey suffers from; the defaults are a small mini-SiTian field (Xiao et al. 2025).

    Parameters
    ----------
    flat : (float, float, float) [mag]
        Peak of the large-scale flat, rms of the medium scales (waves of 1/5 to 1/2 of the detector) and of the small
        scales (1/60 to 1/30), of each band and detector.
    detector_offset : float [mag]
        Scatter of the zero-points of detectors.
    extinction : float [mag/airmass]
        Scatter from night to night of the extinction, which the air of the chain gives on average.
    cloudy : float
        Part of the nights with clouds.
    drift : float [mag]
        Change of the zero-point within a night.
    aperture : float [mag/arcsec]
        Light lost from the aperture with each arcsecond of seeing.
    filter_shift : float [nm]
        Scatter of the true filters' shifts from those of the chain: makes color terms.
    field_shift : float [nm]
        Shift of the filters to the blue from the center of the field to its corner.
    magnitude_term : float
        Slope of the instrumental magnitudes with magnitude.
    nonlinearity : float [mag]
        Magnitude that the brightest stars lose in proportion to their counts.
    brighter_fatter : float [mag]
        The same in proportion to counts over the square of the seeing.
    sky : float [mag]
        What XP itself is wrong by on the sky, in cells of 27 arcmin, BP and RP apart.
    instrument : float
        Systematic error of XP spectra, in units of what the linear correction leaves.
    standard_error : float [mag]
        Error of a star's XP spectrum beyond its stated errors, the same at all wavelengths.
    variable : float
        Part of the stars that vary.
    outlier : float
        Part of the measurements that are outliers.
    missing : float
        Part of the stars without an XP spectrum.

    Raises
    ------
    XpjaxError
        If a part is not 0 to 1, or a size is negative.

    Examples
    --------
    >>> xpjax.survey.SurveyEffects(cloudy=0).cloudy
    0
    """

    flat: tuple[float, float, float] = (0.05, 0.005, 0.0005)
    detector_offset: float = 0.05
    extinction: float = 0.02
    cloudy: float = 0.2
    drift: float = 0.005
    aperture: float = 0.02
    filter_shift: float = 1.0
    field_shift: float = 0.0
    magnitude_term: float = 0.0
    nonlinearity: float = 0.0
    brighter_fatter: float = 0.0
    sky: float = SKY_SIGMA
    instrument: float = 1.0
    standard_error: float = 0.002
    variable: float = 0.01
    outlier: float = 0.01
    missing: float = 0.02

    def __post_init__(self) -> None:
        for name in ("cloudy", "variable", "outlier", "missing"):
            if not 0 <= getattr(self, name) <= 1:
                raise XpjaxError(f"{name} is a part, 0 to 1, not {getattr(self, name)!r}")
        for name in ("detector_offset", "extinction", "drift", "filter_shift", "sky", "instrument", "standard_error"):
            if not getattr(self, name) >= 0:
                raise XpjaxError(f"{name} is a size, not negative: {getattr(self, name)!r}")
        if np.shape(self.flat) != (3,):
            raise XpjaxError(f"flat is three magnitudes, of large, medium and small scales, not {self.flat!r}")


@dataclasses.dataclass(frozen=True)
class SurveySetup:
    """Set what a simulated survey observes; the defaults are a small mini-SiTian field (Xiao et al. 2025).

    Parameters
    ----------
    n_exposure : int
        Number of exposures, of all bands together: bands follow each other, and after them tiles.
    n_star : int
        Number of stars on a detector.
    n_night : int
        Number of nights.
    chain : str
        Transmission chain of the telescope: a TOML file, or the name of shipped passbands.
    bands : tuple of str
        Bands that are observed; by default all of the chain.
    tiles : (int, int)
        Number of fields along right ascension and declination.
    overlap : float
        Part of a field that the next one has too.
    center : (float, float) [deg]
        Right ascension and declination of the center of the survey.
    detectors : (int, int)
        Number of detectors along x and y.
    size : (float, float) [pixel]
        Size of a detector.
    dither : float
        Largest offset of an exposure, as a part of the detector.
    bright, faint : float [mag]
        Limits of G.
    camera : Camera
        Telescope and detector, for the noise.
    seed : int
        The same seed gives the same survey.
    correction : str
        Linear correction of XP spectra with which they are the true ones.
    effects : SurveyEffects
        What the survey suffers from.

    Raises
    ------
    XpjaxError
        If there is nothing to observe.

    Examples
    --------
    >>> xpjax.survey.SurveySetup(n_exposure=3).n_exposure
    3
    """

    n_exposure: int = 60
    n_star: int = 2000
    n_night: int = 5
    chain: str = "minisitian"
    bands: tuple[str, ...] = ()
    tiles: tuple[int, int] = (1, 1)
    overlap: float = 0.2
    center: tuple[float, float] = (150.0, 30.0)
    detectors: tuple[int, int] = (1, 1)
    size: tuple[float, float] = (9576.0, 6388.0)
    dither: float = 0.05
    bright: float = 11.5
    faint: float = 16.5
    camera: Camera = dataclasses.field(default_factory=Camera)
    seed: int = 0
    correction: str = "standard"
    effects: SurveyEffects = dataclasses.field(default_factory=SurveyEffects)

    def __post_init__(self) -> None:
        if min(self.n_exposure, self.n_star, self.n_night, *self.tiles, *self.detectors) < 1:
            raise XpjaxError(f"a survey needs exposures, stars, nights, fields and detectors, not {self}")
        if not self.bright < self.faint:
            raise XpjaxError(f"bright = {self.bright:g} and faint = {self.faint:g}: expected bright < faint")
        if not (0 <= self.overlap < 1 and 0 <= self.dither < 0.5):
            raise XpjaxError(f"overlap = {self.overlap:g} is to be 0 to 1, dither = {self.dither:g} 0 to 0.5")
        if not abs(self.center[1]) < 80:
            raise XpjaxError(f"center = {self.center}: expected a declination within 80 degrees of the equator")
