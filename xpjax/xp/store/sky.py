"""Places on the sky by source_id and by position: nested HEALPix pixels, cones, and what is no place at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.sky import HEALPIX_LEVEL, HEALPIX_SHIFT, on_sky as on_sky, pixel_centers as pixel_centers
from xpjax.core.units import degrees


def pixel_ranges(level: int, pixels: Any) -> np.ndarray:
    """Ranges [first, last) of source_id (m, 2), ascending and apart, of nested pixels. Raises ValueError."""
    pixels = np.unique(np.atleast_1d(np.asarray(pixels)))
    if not 0 <= level <= HEALPIX_LEVEL or pixels.dtype.kind not in "iu":
        raise XpjaxError(f"HEALPix pixels are integers at a level of 0..{HEALPIX_LEVEL}, not {pixels} at level {level}")
    if len(pixels) and (pixels[0] < 0 or pixels[-1] >= 12 << 2 * level):
        raise XpjaxError(f"HEALPix level {level} has the pixels 0..{(12 << 2 * level) - 1}, not {pixels[[0, -1]]}")
    starts = np.flatnonzero(np.diff(pixels, prepend=-2) != 1)
    stops = np.append(starts[1:], len(pixels)) if len(starts) else starts
    shift = HEALPIX_SHIFT + 2 * (HEALPIX_LEVEL - level)
    edges = np.stack([pixels[starts], pixels[stops - 1] + 1], axis=1).astype(np.int64) if len(starts) else pixels
    return edges.reshape(-1, 2) << shift


def as_cone(ra: Any, dec: Any, radius: Any) -> tuple[float, float, float]:
    """Center and radius of a cone in degrees, of numbers or Quantities. Raises XpjaxError."""
    names = ("ra", "dec", "radius")
    a, d, r = (float(degrees(value, f"cone: {name}")) for name, value in zip(names, (ra, dec, radius), strict=True))
    return a, d, r


def cone_ranges(ra: float, dec: float, radius: float) -> np.ndarray:
    """Ranges of source_id (m, 2) that hold a cone [deg], and sources a little beyond it. Raises ValueError."""
    from astropy import units
    from astropy_healpix.core import healpix_cone_search

    if not (np.isfinite([ra, dec, radius]).all() and -90 <= dec <= 90 and 0 <= radius <= 180):
        raise XpjaxError(
            f"a cone is ra, dec, radius in degrees, dec in -90..90 and radius in 0..180, not {ra, dec, radius}"
        )
    level = 8 if radius < 10 else 5
    # Stars have moved since source_id was given, and the search is for pixels, not for points: a pixel more.
    margin = np.degrees(np.sqrt(np.pi / 3) / (1 << level))
    pixels = healpix_cone_search(
        ra * units.deg, dec * units.deg, min(radius + margin, 180) * units.deg, 1 << level, order="nested"
    )
    return pixel_ranges(level, pixels)


def within(ids: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Which ids (n,) lie in ascending ranges [first, last) (m, 2)."""
    place = np.searchsorted(ranges[:, 0], ids, side="right") - 1
    return (place >= 0) & (ids < ranges[np.maximum(place, 0), 1])


def separation(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Angles [deg] from one point, by the haversine formula, which is exact for small ones."""
    x, y, x0, y0 = np.radians(ra), np.radians(dec), np.radians(ra0), np.radians(dec0)
    h = np.sin((y - y0) / 2) ** 2 + np.cos(y) * np.cos(y0) * np.sin((x - x0) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.minimum(h, 1))))
