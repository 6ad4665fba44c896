"""Physical constants and photometric references, SI units, each with its source."""

import math

SPEED_OF_LIGHT = 2.99792458e8
"""c [m/s], exact (CGPM 1983)."""

PLANCK = 6.62607004e-34
"""h [J s], CODATA 2014: the value of the Gaia parameter database, with which the instrument models were built."""

PUPIL_AREA = 0.7278
"""Gaia's telescope pupil [m2] (Montegriffo et al. 2023, A&A 674 A3)."""

AB_ZERO_POINT = -56.10
"""Zero point [mag] of AB magnitudes for fluxes in W m-2 Hz-1, -48.60 in cgs: 0 mag is 3630.78 Jy (Oke & Gunn 1983)."""

ST_ZERO_POINT = -26.10
"""Zero point [mag] of ST magnitudes for fluxes in W m-2 nm-1: -21.10 in erg s-1 cm-2 A-1 (Koornneef et al. 1986)."""

VEGA_FLUX = 3.62286e-11
"""Flux density [W m-2 nm-1] at 550.0 nm of the alpha Lyr reference of Gaia's Vega magnitudes (Riello et al. 2021,
A&A 649 A3)."""

FLUX_UNIT = 1e-18
"""Internal unit of absolute spectra [W m-2 nm-1], so that float32 and its squares stay in range."""

XP_RANGE = (330.0, 1050.0)
"""Wavelengths [nm] at which absolute XP spectra may be sampled (De Angeli et al. 2023, A&A 674 A2)."""

PSEUDO_RANGE = (-10.0, 70.0)
"""Pseudo-wavelengths at which internal XP spectra may be sampled."""

MERGE_RANGE = (635.0, 643.0)
"""Wavelengths [nm] between which BP hands over linearly to RP (Montegriffo et al. 2023)."""

SIGMA_PER_FWHM = 1 / (8 * math.log(2)) ** 0.5
"""Standard deviation of a Gaussian over its full width at half maximum."""

POGSON = 2.5 / math.log(10.0)
"""Magnitudes per relative flux, 2.5 / ln(10)."""

FLUX_PER_MAGNITUDE = 0.4 * math.log(10.0)
"""Relative flux per magnitude, 0.4 ln(10)."""

MAD = 1.482602
"""Times the median absolute deviation is the standard deviation of normal errors."""
