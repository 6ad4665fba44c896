"""Places on the sky: positions that are none, and the position that Gaia's source_id encodes."""

from __future__ import annotations

import numpy as np

HEALPIX_LEVEL, HEALPIX_SHIFT = 12, 35
"""source_id >> 35 is the nested HEALPix pixel of level 12; each level less is a shift by two bits more."""


def pixel_centers(source_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ra and dec [deg] of the centers of the level-12 HEALPix pixels (0.9 arcmin) that source ids (n,) begin with."""
    from astropy_healpix.core import healpix_to_lonlat

    pixel = np.asarray(source_id) >> HEALPIX_SHIFT
    pixel = np.where((pixel >= 0) & (pixel < 12 << 2 * HEALPIX_LEVEL), pixel, 0)  # of what is no id of Gaia's
    lon, lat = healpix_to_lonlat(pixel, 1 << HEALPIX_LEVEL, order="nested")
    return np.degrees(lon.value), np.degrees(lat.value)


def cells_of(ra: np.ndarray, dec: np.ndarray, nside: int) -> np.ndarray:
    """Nested HEALPix pixels (n,) of positions [deg], of 58.6 / nside degrees; -1 for positions that are none."""
    from astropy import units
    from astropy_healpix.core import lonlat_to_healpix

    good = on_sky(ra, dec)
    out = np.full(len(good), -1, np.int64)
    out[good] = lonlat_to_healpix(ra[good] * units.deg, dec[good] * units.deg, nside, order="nested")
    return out


def cell_centers(pixel: np.ndarray, nside: int) -> tuple[np.ndarray, np.ndarray]:
    """ra and dec [deg] of the centers of nested HEALPix pixels (n,)."""
    from astropy_healpix.core import healpix_to_lonlat

    lon, lat = healpix_to_lonlat(np.asarray(pixel), nside, order="nested")
    return np.degrees(lon.value), np.degrees(lat.value)


def cell_corners(pixel: np.ndarray, nside: int) -> tuple[np.ndarray, np.ndarray]:
    """ra and dec (n, 4) [deg] of the corners of nested HEALPix pixels (n,)."""
    from astropy_healpix.core import boundaries_lonlat

    lon, lat = boundaries_lonlat(np.asarray(pixel), 1, nside, order="nested")
    return np.degrees(lon.value), np.degrees(lat.value)


def on_sky(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Which positions (n,) [deg] are places on the sky: finite, dec within +-90, ra within -180..360.

    Others are often marks such as -999 for a position that is not known.
    """
    with np.errstate(invalid="ignore"):
        return (np.abs(dec) <= 90) & (ra >= -180) & (ra <= 360)
