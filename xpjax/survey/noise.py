"""Noise of aperture photometry: photons, sky, read-out and scintillation, as relative flux and in magnitudes."""

from __future__ import annotations

import dataclasses

import numpy as np

from xpjax.core.constants import POGSON

SCALE_HEIGHT = 8000.0
"""Of the turbulence [m], in both laws of scintillation."""


def scintillation_young(
    diameter: float, exposure_time: np.ndarray | float, airmass: np.ndarray | float, altitude: float
) -> np.ndarray:
    """Relative flux by scintillation: 0.09 D^-2/3 X^1.75 exp(-h / 8000 m) / sqrt(2 t) (Young 1967, AJ 72, 747).

    diameter [m] (in the law in cm), exposure_time [s], altitude [m].
    """
    time, air = np.asarray(exposure_time, float), np.asarray(airmass, float)
    return 0.09 * (100 * diameter) ** (-2 / 3) * air**1.75 * np.exp(-altitude / SCALE_HEIGHT) / np.sqrt(2 * time)


def scintillation_osborn(
    diameter: float,
    exposure_time: np.ndarray | float,
    airmass: np.ndarray | float,
    altitude: float,
    coefficient: float = 1.5,
) -> np.ndarray:
    """Relative flux by scintillation: sqrt(10e-6 C^2 D^-4/3 t^-1 X^3 exp(-2h / 8000 m)).

    Osborn et al. (2015, MNRAS 452, 1707); diameter [m], exposure_time [s], altitude [m]; coefficient: C_Y, 1.5 at the
    median site.
    """
    time, air = np.asarray(exposure_time, float), np.asarray(airmass, float)
    square = 10e-6 * coefficient**2 * diameter ** (-4 / 3) / time * air**3 * np.exp(-2 * altitude / SCALE_HEIGHT)
    return np.sqrt(square)


@dataclasses.dataclass(frozen=True)
class Camera:
    """Describe a telescope and its detector, for the noise of aperture photometry.

    The defaults are a mini-SiTian telescope with its CMOS camera (Xiao et al. 2025).

    Parameters
    ----------
    diameter : float [m]
        Diameter of the aperture.
    altitude : float [m]
        Altitude of the site.
    exposure_time : float [s]
        Exposure time.
    zero_point : float [mag]
        Magnitude of one electron per second outside the atmosphere.
    sky : float [mag arcsec-2]
        Brightness of the sky.
    pixel : float [arcsec]
        Size of a pixel.
    aperture : float [pixel]
        Radius of the photometric aperture.
    read_noise : float [electron]
        Read noise of a pixel.
    noisy_pixels : float
        Part of the pixels whose read noise is ten times that ("salt and pepper" of CMOS detectors), 0 for a CCD.

    Examples
    --------
    >>> noise = xpjax.survey.Camera().noise(np.array([12.0, 16.0]), airmass=1.2)
    >>> (noise["total"] * 1e3).round(1).tolist()
    [1.0, 5.5]
    """

    diameter: float = 0.30
    altitude: float = 900.0
    exposure_time: float = 300.0
    zero_point: float = 22.3
    sky: float = 20.0
    pixel: float = 0.86
    aperture: float = 5.0
    read_noise: float = 1.03
    noisy_pixels: float = 0.01

    @property
    def n_pixel(self) -> float:
        """Pixels in the aperture."""
        return np.pi * self.aperture**2

    def noise(self, magnitude: np.ndarray, airmass: np.ndarray | float = 1.2) -> dict[str, np.ndarray]:
        """Return the errors of magnitudes by their causes.

        Parameters
        ----------
        magnitude : (n,) array [mag]
            Magnitudes as the detector sees them, with extinction.
        airmass : float or (n,) array
            Airmass.

        Returns
        -------
        dict of str to (n,) array [mag]
            Errors by photons ("photon"), sky ("sky"), read noise ("read") and scintillation ("scintillation", after
            Osborn et al. 2015), and their root sum square ("total").
        """
        flux = 10 ** (-0.4 * (np.asarray(magnitude, float) - self.zero_point)) * self.exposure_time
        sky = 10 ** (-0.4 * (self.sky - self.zero_point)) * self.pixel**2 * self.n_pixel * self.exposure_time
        read = self.read_noise**2 * self.n_pixel * (1 + 99 * self.noisy_pixels)
        parts = {
            "photon": POGSON / np.sqrt(flux),
            "sky": POGSON * np.sqrt(sky) / flux,
            "read": POGSON * np.sqrt(read) / flux,
            "scintillation": np.broadcast_to(
                POGSON * scintillation_osborn(self.diameter, self.exposure_time, airmass, self.altitude), flux.shape
            ),
        }
        return {**parts, "total": np.sqrt(sum(part**2 for part in parts.values()))}


CCD = Camera(diameter=0.83, altitude=1957.0, exposure_time=30.0, zero_point=24.5, sky=21.0, pixel=0.55, aperture=5.5,
             read_noise=4.0, noisy_pixels=0.0)  # fmt: skip
"""A survey telescope with a CCD, in size and site like the one of J-PLUS."""
CAMERAS = {"cmos": Camera(), "ccd": CCD}
"""Cameras by name."""
