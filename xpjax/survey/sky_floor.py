"""The floor of XP on the sky: how far a mean over many stars of one field can be off.

XP's magnitudes have errors that neighboring stars share, along the scan pattern of the satellite. DESI Legacy Survey
magnitudes less those of XP scatter by 4.7, 3.7 and 4.4 mmag in g, r and z from cell to cell of 27 arcmin. More stars in
a cell do not lower that: a mean over a field has the standard error

    sigma sqrt(sum_c w_c^2) / sum_c w_c

with w_c the weight of all stars in cell c, and cells independent of each other. A map of cells can be fitted where
exposures overlap: a `sky` term of a joint solution.
"""

from __future__ import annotations

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.sky import cells_of

SKY_SIGMA, SKY_NSIDE = 0.004, 128
"""Standard deviation [mag] of XP's errors from cell to cell, and the cells: HEALPix of 27 arcmin."""


def sky_floor(
    ra: np.ndarray,
    dec: np.ndarray,
    group: np.ndarray | None = None,
    *,
    weight: np.ndarray | None = None,
    sigma: float = SKY_SIGMA,
    nside: int = SKY_NSIDE,
) -> np.ndarray:
    """Compute the standard errors of means over fields of stars that XP's errors on the sky leave.

    Parameters
    ----------
    ra, dec : (n,) array [deg]
        Positions of the standards. Those that are not known are left out.
    group : (n,) int array, optional
        The field of each star, from 0, such as its exposure; by default all are one field.
    weight : (n,) array, optional
        Weights of the stars in the mean, such as inverse variances; by default equal.
    sigma : float [mag]
        Standard deviation of XP's errors from cell to cell.
    nside : int
        Cells: HEALPix of 58.6 / nside degrees.

    Returns
    -------
    (n_group,) array [mag]
        Standard errors of the means, to be added in quadrature; sigma for a field without positions. They are common
        to all exposures of a field.

    Raises
    ------
    XpjaxError
        If arrays have different lengths, or sigma is negative.

    Notes
    -----
    sigma sqrt(sum_c w_c^2) / sum_c w_c, with w_c the weight of all stars in cell c. The default is what DESI Legacy
    Survey magnitudes show.

    Examples
    --------
    >>> ra, dec = np.random.default_rng(1).uniform(10.0, 12.0, (2, 500))
    >>> (1e3 * xpjax.survey.sky_floor(ra, dec)).round(1)
    array([0.9])
    """
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    field = np.zeros(len(ra), int) if group is None else np.asarray(group)
    own = np.ones(len(ra)) if weight is None else np.asarray(weight, float)
    if {len(dec), len(field), len(own)} != {len(ra)}:
        raise XpjaxError(
            f"ra, dec, group and weight have {len(ra)}, {len(dec)}, {len(field)} and {len(own)} values, expected equal "
            "numbers"
        )
    if not sigma >= 0:
        raise XpjaxError(f"sigma must be zero or more magnitudes, not {sigma!r}")
    n_group = int(field.max(initial=-1)) + 1 if group is not None else 1
    cell = cells_of(ra, dec, nside)
    used = (cell >= 0) & (own > 0)
    kinds, code = np.unique(np.stack([field[used], cell[used]], axis=1), axis=0, return_inverse=True)
    share = np.bincount(code.ravel(), own[used], len(kinds))
    total = np.bincount(kinds[:, 0], share, n_group)
    square = np.bincount(kinds[:, 0], share**2, n_group)
    return sigma * np.sqrt(np.divide(square, total**2, out=np.ones(n_group), where=total > 0))


def sky_draws(cell: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws (n_cell, number) [mag] of XP's errors in the distinct cells among `cell` (n,), and the cell of each (n,).

    A cell has the same draws wherever it is asked for, and -1 has zeros.
    """
    kinds, code = np.unique(cell, return_inverse=True)
    draws = np.zeros((len(kinds), number))
    for k in np.flatnonzero(kinds >= 0):
        draws[k] = SKY_SIGMA * np.random.default_rng(kinds[k]).standard_normal(number)
    return draws, code.ravel()
