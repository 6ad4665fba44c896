"""Prior magnitudes of stars: from XP spectra with the covariance that these give them between bands, or of models."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax.core import engine
from xpjax.core.constants import POGSON
from xpjax.core.errors import XpjaxError
from xpjax.core.ids import places_of
from xpjax.core.linalg import dot
from xpjax.core.records import Record
from xpjax.core.status import Status
from xpjax.survey import LEAST_VARIANCE
from xpjax.survey.joint.normal import diagonal_of
from xpjax.synthetic import AnySystem, PhotometricSystem, as_system, photometry, stated_release
from xpjax.xp import AnyLinear, AnySources, XPCoefficients, as_sources, covariance, masked


@dataclasses.dataclass(frozen=True, repr=False)
class StarPrior(Record):
    """Keep prior magnitudes of stars with their covariance between bands.

    Parameters
    ----------
    star : (n,) array
        Ids of the stars, as in the observations.
    bands : tuple of str
        Names of the bands.
    magnitude : (n, n_band) array [mag]
        Magnitudes; NaN where there is no prior.
    covariance : (n, n_band, n_band) array [mag2]
        Covariance between the bands. Where it couples them, the bands of a star are eliminated together.

    Raises
    ------
    XpjaxError
        If shapes do not fit.

    Examples
    --------
    >>> variance = np.full((2, 1, 1), 1e-4)
    >>> xpjax.survey.joint.StarPrior(np.array([7, 8]), ("g",), np.array([[15.1], [16.3]]), variance)
    StarPrior(star=int64[2], bands=('g'), magnitude=float64[2, 1], covariance=float64[2, 1, 1])
    """

    star: np.ndarray
    bands: tuple[str, ...]
    magnitude: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        n, m = len(self.star), len(self.bands)
        if np.shape(self.magnitude) != (n, m) or np.shape(self.covariance) != (n, m, m):
            raise XpjaxError(
                f"a prior of {n} stars in {m} bands: magnitude {np.shape(self.magnitude)} must be {(n, m)}, "
                f"covariance {np.shape(self.covariance)} must be {(n, m, m)}"
            )


def _covariance_kernel(system: PhotometricSystem, source: XPCoefficients) -> Array:
    """Covariance (n_band, n_band) of magnitudes: 1.0857^2 r_a' K r_b / (f_a f_b), BP and RP independent."""
    source = masked(source, truncate=False)
    flux = dot(source.value, system.projection)
    total = jnp.zeros((system.n_band, system.n_band), flux.dtype)
    for k, rows in enumerate(system.release.slices):
        part = system.projection[rows]
        total += dot(part.T, dot(covariance(source, k), part))
    return POGSON**2 * total / flux[:, None] / flux[None, :]


def xp_prior(
    sources: AnySources,
    system: AnySystem | Sequence[AnySystem],
    *,
    bands: tuple[str, ...] = (),
    floor: float = 0.0,
    correction: AnyLinear = None,
) -> StarPrior:
    """Compute prior magnitudes of stars from XP spectra, with their full covariance between bands.

    Parameters
    ----------
    sources
        XP sources with errors and correlations, as for `xpjax.photometry`.
    system
        Photometric system, as for `xpjax.photometry`.
    bands : tuple of str
        Names of the bands in the observations; by default those of the system.
    floor : float [mag]
        Added in quadrature to each band of each star, for errors of the spectra beyond those stated.
    correction
        Linear correction of the spectra, as for `xpjax.photometry`.

    Returns
    -------
    StarPrior
        Magnitudes and covariances; stars outside the domain of the correction have no prior, and those without light
        in a band none there.

    Raises
    ------
    XpjaxError
        If spectra have no errors or correlations, or `bands` are not as many as the system has.

    Notes
    -----
    cov(m_a, m_b) = 1.0857^2 r_a' K r_b / (f_a f_b), with K the covariance of the coefficients, r the projections of the
    passbands and f the fluxes; BP and RP are independent.

    Examples
    --------
    >>> prior = xpjax.survey.joint.xp_prior(xpjax.simulate_sources(5, seed=1), "JPLUS")
    >>> prior.covariance.shape
    (5, 12, 12)
    """
    table = as_sources(sources, stated_release(system))
    chosen = as_system(system, correction, release=table.release)
    if not table.coefficients.has_covariance:
        raise XpjaxError(f"{table.origin} has no errors or no correlations, so that magnitudes have no covariance")
    names = bands or tuple(chosen.names)
    if len(names) != chosen.n_band:
        raise XpjaxError(f"{len(names)} names {names} for the {chosen.n_band} bands {chosen.names}")
    n = max(table.release.n_basis)
    found = photometry(table, chosen, float64=True)
    matrix = engine.run(_covariance_kernel, chosen, table.coefficients, float64=True, work_bytes=32 * n * n)
    matrix += floor**2 * np.eye(len(names))
    good = np.isfinite(found.magnitude) & np.isfinite(np.diagonal(matrix, axis1=1, axis2=2))
    good &= (found.status & np.uint32(Status.OUTSIDE_TRAINING))[:, None] == 0
    return StarPrior(table.source_id, names, np.where(good, found.magnitude, np.nan), matrix)


@dataclasses.dataclass(frozen=True, repr=False)
class SlotPrior(Record):
    """Priors of the slots (a star in a band): precision, and precision times mean `right` (n_slot,), zero for none.

    precision: (n_slot,), or (n_star, n_band, n_band) where a covariance couples the bands of a star.
    """

    precision: np.ndarray
    right: np.ndarray

    @property
    def coupled(self) -> bool:
        """Whether the bands of a star are coupled."""
        return self.precision.ndim > 1

    def inverse(self, sums: np.ndarray) -> np.ndarray:
        """D^-1 for sums of weights (n_slot,), zero for slots without information."""
        if not self.coupled:
            total = sums + self.precision
            return np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        m = self.precision.shape[1]
        total = self.precision + sums.reshape(-1, m)[:, :, None] * np.eye(m)
        none = np.diagonal(total, axis1=1, axis2=2) <= 0
        total = total + none[:, :, None] * np.eye(m)
        return np.where(none[:, :, None] | none[:, None, :], 0.0, np.linalg.inv(total))

    def mean(self) -> np.ndarray:
        """Prior magnitudes (n_slot,), or (n_star, n_band) where bands are coupled; zero for none."""
        if not self.coupled:
            return np.divide(self.right, self.precision, out=np.zeros_like(self.right), where=self.precision > 0)
        inverse = np.linalg.pinv(self.precision, hermitian=True)
        return np.einsum("sij,sj->si", inverse, self.right.reshape(self.precision.shape[:2]))

    def chi2(self, magnitude: np.ndarray, part: np.ndarray) -> float:
        """Chi2 of magnitudes (n_slot,) about the priors, of slots that take part."""
        mean = self.mean()
        if not self.coupled:
            return float((self.precision * (magnitude - mean) ** 2)[part].sum())
        left = magnitude.reshape(mean.shape) - mean
        stars = part.reshape(mean.shape).any(axis=1)
        return float(np.einsum("si,sij,sj->", left[stars], self.precision[stars], left[stars]))


def slot_prior(prior: StarPrior, star: np.ndarray, bands: tuple[str, ...]) -> SlotPrior:
    """The prior of stars (n_star,) in bands.

    Raises ValueError for a prior without star or without one of the bands, and for covariances that are not finite.
    """
    n_band = len(bands)
    column = {name: k for k, name in enumerate(prior.bands)}
    if unknown := [name for name in bands if name not in column]:
        raise XpjaxError(f"the stars' prior has no band {unknown[0]!r}, but {list(prior.bands)}")
    mine = np.array([column[name] for name in bands])
    if not len(prior.star):
        raise XpjaxError("the stars' prior has no star")
    place = places_of(star, prior.star)
    magnitude = np.where(place[:, None] >= 0, prior.magnitude[place][:, mine], np.nan)
    covariance = prior.covariance[place][:, mine][:, :, mine]
    known = np.isfinite(magnitude) & (np.diagonal(covariance, axis1=1, axis2=2) >= 0)
    both = known[:, :, None] & known[:, None, :]
    unit = np.eye(n_band)
    safe = np.where(both, covariance, unit) + LEAST_VARIANCE * unit
    precision = np.where(both, np.linalg.inv(safe), 0.0)
    if not np.isfinite(precision).all():
        bad = star[np.flatnonzero(~np.isfinite(precision).all(axis=(1, 2)))[0]]
        raise XpjaxError(f"the prior covariance of star {bad} is not finite; leave the star out of the prior")
    right = np.einsum("sij,sj->si", precision, np.where(known, magnitude, 0.0)).ravel()
    if n_band > 1 and np.any(np.where(both, covariance, 0.0)[:, ~np.eye(n_band, dtype=bool)]):
        return SlotPrior(precision, right)
    return SlotPrior(diagonal_of(precision).copy(), right)


def model_prior(magnitude: np.ndarray, error: np.ndarray, code: np.ndarray, n_slot: int) -> SlotPrior:
    """The prior of slots whose rows, each of the slot `code` (n,), have model magnitudes and errors (n,)."""
    good = np.isfinite(magnitude) & (error >= 0)
    # A star has one model; should rows differ, their mean counts.
    number = np.bincount(code[good], minlength=n_slot)
    count = np.maximum(number, 1)
    mean = np.bincount(code[good], magnitude[good], n_slot) / count
    variance = np.bincount(code[good], error[good] ** 2, n_slot) / count
    precision = np.where(number > 0, 1 / np.maximum(variance, LEAST_VARIANCE), 0.0)
    return SlotPrior(precision, precision * mean)
