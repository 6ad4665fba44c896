"""Zero-points of tiles from two methods on one scale: SCR where there is spectroscopy, XPSP elsewhere.

The zero-point of a tile is model minus instrumental magnitude. Both methods know it up to a constant of their own; the
constant between them is measured on the tiles that have both, and the scatter of these differences beyond their errors
is the uncertainty of one tile of the second method (Xiao et al. 2023: 91 % of J-PLUS's tiles by SCR, 9 % by XPSP).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record, Rows
from xpjax.survey import MAD, group_median
from xpjax.survey.exposures import error_floor

FEWEST = 3
"""Stars that a tile needs, and tiles that an offset needs."""
ROUNDS = 20


@dataclasses.dataclass(frozen=True, repr=False)
class BandZeroPoints(Record, Rows):
    """Zero-points (n_tile,) of one band with errors [mag], NaN where there is none; count: stars of each."""

    row_fields = ("value", "error", "count")

    value: np.ndarray
    error: np.ndarray
    count: np.ndarray


def tile_zero_points(
    difference: np.ndarray, error: np.ndarray, tile: np.ndarray, n_tile: int, *, clip: float = 3.0
) -> BandZeroPoints:
    """Weighted means of model - instrumental magnitudes (n,) in each tile, with an error floor that all tiles share.

    error (n,) [mag]; tile (n,): numbers from 0. Stars beyond clip [sigma] of the mean are outliers, 0 for none; a star
    that fits again returns. Rows with NaN are ignored; a tile with fewer than three stars has no zero-point.
    """
    good = np.isfinite(difference) & (error >= 0) & (tile >= 0)
    d, variance, tile = difference[good], error[good] ** 2, tile[good]
    value = group_median(d, tile, n_tile)
    floor, used = 0.0, np.ones(len(d), bool)
    for _ in range(ROUNDS):
        residual = d - value[tile]
        floor = float(error_floor(residual, variance, np.zeros(len(d), int), 1)[0]) if len(d) else 0.0
        total = np.maximum(variance + floor**2, 1e-12)
        pull = np.abs(residual) / np.sqrt(total)
        before = used
        used = pull < clip * min(1.0, MAD * np.median(pull)) if clip and len(d) else used
        weight = np.where(used, 1 / total, 0)
        whole = np.bincount(tile, weight, n_tile)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = np.where(whole > 0, np.bincount(tile, weight * d, n_tile) / whole, value)
        if (before == used).all():
            break
    count = np.bincount(tile, used, n_tile).astype(int)
    enough = count >= FEWEST
    with np.errstate(divide="ignore"):
        return BandZeroPoints(np.where(enough, value, np.nan), np.where(enough, whole**-0.5, np.nan), count)


@dataclasses.dataclass(frozen=True)
class ScaleOffset:
    """The difference of two methods in one band [mag]: first minus second on n_overlap tiles, NaN without them.

    scatter: of the difference of a tile beyond its errors, put down to the second method.
    """

    offset: float = np.nan
    offset_error: float = np.nan
    scatter: float = np.nan
    n_overlap: int = 0


@dataclasses.dataclass(frozen=True, repr=False)
class HomogenizedBand(Record, Rows):
    """One zero-point for each tile (n_tile,) on the scale of the first method; NaN where no method gives one.

    error: of the tile alone; systematic: of the offset, common to all tiles of the second method. method (n_tile,): a
    name, or "" for none.
    """

    row_fields = ("value", "error", "systematic", "method")

    value: np.ndarray
    error: np.ndarray
    systematic: np.ndarray
    method: np.ndarray
    scale: ScaleOffset


def homogenize_band(
    first: BandZeroPoints, second: BandZeroPoints, names: tuple[str, str] = ("SCR", "XPSP"), fewest: int = FEWEST
) -> HomogenizedBand:
    """Zero-points by the first method where it has `fewest` stars, by the second, less the offset, elsewhere.

    Where the first has no tile at all the second stands as it is. Where it has, but fewer than three together with the
    second, nothing ties the two: the second's tiles are left without a zero-point. Raises ValueError for tiles that do
    not match.
    """
    if first.value.shape != second.value.shape:
        raise XpjaxError(f"zero-points of {len(first.value)} and of {len(second.value)} tiles: give the same tiles")
    one = np.isfinite(first.value) & (first.count >= fewest)
    two = np.isfinite(second.value) & (second.count >= fewest)
    both = one & two
    n = int(both.sum())
    offset = offset_error = scatter = np.nan
    if n >= FEWEST:
        d, variance = (first.value - second.value)[both], (first.error**2 + second.error**2)[both]
        offset, used = float(np.median(d)), np.ones(n, bool)
        for _ in range(ROUNDS):
            scatter = float(error_floor(d - offset, variance, np.zeros(n, int), 1)[0])
            total = np.maximum(variance + scatter**2, 1e-12)
            before, used = used, np.abs(d - offset) < 4 * np.sqrt(total)
            weight = used / total
            offset, offset_error = float(weight @ d / weight.sum()), float(weight.sum() ** -0.5)
            if (before == used).all():
                break
    elif not one.any():
        offset, offset_error, scatter = 0.0, 0.0, 0.0
    use_two = two & ~one & np.isfinite(offset)
    value = np.where(one, first.value, np.where(use_two, second.value + offset, np.nan))
    error = np.where(one, first.error, np.where(use_two, np.hypot(second.error, scatter), np.nan))
    systematic = np.where(one, 0.0, np.where(use_two, offset_error, np.nan))
    method = np.where(one, names[0], np.where(use_two, names[1], ""))
    scale = ScaleOffset(offset, offset_error, scatter, n) if one.any() else ScaleOffset(n_overlap=n)
    return HomogenizedBand(value, error, systematic, method, scale)
