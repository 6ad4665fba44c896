"""What XP itself is wrong by on the sky: a map of cells, common to all exposures.

    M_XP = M + a_cell        a_cell of each band ~ N(0, prior^2)

Cells are those of nested HEALPix; 27 arcmin is what XP's scan pattern has been seen at (`xpjax.survey.sky_floor`).
Exposures that overlap tell the map from flats and zero-points. Its mean over the survey is what all zero-points of a
band share: that stays within the prior, sigma over the root of the number of cells, and is part of the errors of the
zero-points and of the stars. Maps of several scales, such as 64 beside 128, add: neighboring cells are then alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.sky import cells_of
from xpjax.survey import SKY_NSIDE, SKY_SIGMA, Observations, sky_floor
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.blocks import Block, Part, Prepared
from xpjax.survey.joint.terms import Term

CELL = 58.6 * 60
"""Side [arcmin] of the cells of nside = 1."""


@dataclasses.dataclass(frozen=True)
class Sky(Term, kind="sky"):
    """Fit a map of what XP's magnitudes are wrong by on the sky, in each band.

    Parameters
    ----------
    name : str
        Name of the term in tables, messages and constraints.
    nside : int
        Cells: HEALPix of 58.6 / nside degrees, a power of two; 128 has 27 arcmin.
    prior : float or mapping of str to float [mag]
        Standard deviation of the cells about zero, or of every band's cells by its name.
    ra, dec : (n,) array [deg] or None
        Positions of all rows; by default those of the tables (columns.ra, columns.dec).

    Raises
    ------
    XpjaxError
        If nside is no power of two, a prior is not above zero, or positions are not known.

    Notes
    -----
    M_XP = M + a_cell: values are XP's magnitudes less true ones. Calibrated magnitudes, and those of stars, are true
    ones. DESI Legacy Survey magnitudes show 4.7, 3.7 and 4.4 mmag in g, r and z in cells of 27 arcmin.

    Examples
    --------
    >>> xpjax.survey.joint.Sky(prior={"g": 0.0047, "r": 0.0037}).describe()
    "sky prior={'g': 0.0047, 'r': 0.0037}"
    """

    name: str = "sky"
    nside: int = SKY_NSIDE
    prior: float | Mapping[str, float] = SKY_SIGMA
    ra: np.ndarray | None = None
    dec: np.ndarray | None = None
    in_python = ("ra", "dec")
    of_reference = True

    def __post_init__(self) -> None:
        if isinstance(self.nside, bool) or self.nside not in [1 << k for k in range(13)]:
            raise XpjaxError(f"{self.name}: nside must be a power of two from 1 to 4096, not {self.nside!r}")
        for sigma in self.prior.values() if isinstance(self.prior, Mapping) else [self.prior]:
            if not sigma > 0:
                raise XpjaxError(f"{self.name}: prior = {sigma!r} must be a standard deviation above zero")

    @property
    def needs(self) -> tuple[str, ...]:
        """Entries of [columns] without which the term means nothing."""
        return ("ra", "dec") if self.ra is None else ()

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """The columns of the term: a place for each cell with stars in each band."""
        o, names = observations, np.unique(observations.frames.band)
        cell = self._cells(o)
        lost = cell < 0
        if lost.all():
            raise XpjaxError(f"{self.name}: no row has a position: give columns.ra and columns.dec")
        band = np.searchsorted(names, o.frames.band)[o.frame]
        code = band * (12 * self.nside**2) + np.where(lost, cell[~lost][0], cell)
        kinds, index = np.unique(code, return_inverse=True)
        own, pixel = kinds // (12 * self.nside**2), kinds % (12 * self.nside**2)
        # A star without a prior magnitude has none that could be wrong.
        derivative = np.where(lost, np.where(np.isfinite(o.model), np.nan, 0.0), 1.0) if lost.any() else None
        side = CELL / self.nside
        part = Part("cell", "mag", derivative, description=f"XP less true magnitude in a cell of {side:.0f} arcmin")
        labels = tuple(f"{names[b]} {p}".strip() for b, p in zip(own, pixel, strict=True))
        keys = {"band": names[own]}
        return Prepared(
            Block(self.name, index.astype(np.int32), labels, (part,), keys, own, sigmas=self._sigmas(names)[own])
        )

    def _cells(self, o: Observations) -> np.ndarray:
        """The cell (n,) of each row, that of its star's first position; -1 where none is known."""
        ra, dec = self.ra, self.dec
        if ra is None or dec is None:
            known: Mapping[str, np.ndarray] = {} if o.origin is None else o.origin.columns
            if "ra" not in known or "dec" not in known:
                raise XpjaxError(f"{self.name} needs positions: name columns.ra and columns.dec, or give ra and dec")
            ra, dec = known["ra"], known["dec"]
        if np.shape(ra) != (len(o),) or np.shape(dec) != (len(o),):
            raise XpjaxError(f"{self.name}: {np.shape(ra)} positions for {len(o)} rows of observations")
        own = cells_of(np.asarray(ra, float), np.asarray(dec, float), self.nside)
        placed = np.flatnonzero(own >= 0)
        star, first = np.unique(o.star[placed], return_index=True)
        if not len(star):
            return own
        place = np.minimum(np.searchsorted(star, o.star), len(star) - 1)
        return np.where(star[place] == o.star, own[placed[first]][place], -1)

    def _sigmas(self, bands: np.ndarray) -> np.ndarray:
        """Prior standard deviations (n_band,)."""
        if not isinstance(self.prior, Mapping):
            return np.full(len(bands), float(self.prior))
        if unknown := [str(band) for band in bands if band not in self.prior]:
            raise XpjaxError(f"{self.name}: prior has no band {unknown[0]!r}, but {list(self.prior)}")
        return np.array([float(self.prior[band]) for band in bands])


def quoted_floor(o: Observations, terms: Sequence[Term], star_prior: bool, used: np.ndarray) -> dict[str, float]:
    """The common error [mag] of each band's zero-points that XP's errors on the sky leave, where no term has them.

    star_prior: whether model magnitudes are priors; used (n,): measurements that were used. Nothing where stars have no
    prior magnitudes, or positions are not known.
    """
    known: Mapping[str, np.ndarray] = {} if o.origin is None else o.origin.columns
    with_prior = star_prior or any(term.star_prior for term in terms)
    if not with_prior or "ra" not in known or "dec" not in known or any(isinstance(term, Sky) for term in terms):
        return {}
    out = {}
    for band in np.unique(o.frames.band):
        rows = np.flatnonzero(used & (o.frames.band == band)[o.frame] & (np.isfinite(o.model) | (not star_prior)))
        rows = rows[np.unique(o.star[rows], return_index=True)[1]]
        out[str(band)] = float(sky_floor(known["ra"][rows], known["dec"][rows])[0])
    return out


def floor_lines(floors: Mapping[str, float]) -> list[str]:
    """What is to be told of `quoted_floor`."""
    if not floors:
        return []
    said = ", ".join(f"{1e3 * floor:.1f} mmag{f' in {band}' if band else ''}" for band, floor in floors.items())
    return [
        f"zero-points and stars have beside their errors a common one of XP's errors on the sky: {said} "
        f"({1e3 * SKY_SIGMA:g} mmag in cells of {CELL / SKY_NSIDE:.0f} arcmin); a sky term fits them"
    ]
