"""Prior magnitudes of stars: from XP spectra with the covariance that these give them between bands, or of models."""

from __future__ import annotations

import dataclasses
from typing import Any

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
from xpjax.synthetic import PhotometricSystem, as_system, photometry
from xpjax.xp import XPCoefficients, as_sources, covariance, masked


@dataclasses.dataclass(frozen=True, repr=False)
class StarPrior(Record):
    """Prior magnitudes of stars: star (n,), bands (n_band), magnitude (n, n_band), covariance (n, n_band, n_band).

    NaN where there is none. Covariances between bands couple them: a star's bands are then eliminated together.
    Raises ValueError for shapes that do not fit.
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
    sources: Any, system: Any, *, bands: tuple[str, ...] = (), floor: float = 0.0, correction: Any = None
) -> StarPrior:
    """Prior magnitudes from XP spectra in a photometric system, with their full covariance between bands.

    sources and system as for `xpjax.photometry`; sources need errors and correlations. bands: what observations call
    the system's bands, by default their names. floor [mag]: added in quadrature to each band of each star, for what
    spectra are off by beyond their errors. correction: a linear one, as for `photometry`. Stars beyond its
    domain have no prior, those without light in a band none there.
    """
    chosen = as_system(system, correction)
    table = as_sources(sources, chosen.release)
    if table.coefficients.error is None or table.coefficients.correlation is None:
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


def coupled_precision(
    prior: StarPrior, star: np.ndarray, bands: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Precision of stars (n_star,) in bands, precision times mean (n_star n_band,), and whether bands are coupled.

    Precision is (n_star, n_band, n_band) where they are and (n_star n_band,) where not; zero without prior. Raises
    ValueError for a prior without star or without one of the bands, and for covariances that are not finite.
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
        return precision, right, True
    return np.diagonal(precision, axis1=1, axis2=2).ravel().copy(), right, False


def model_precision(
    magnitude: np.ndarray, error: np.ndarray, code: np.ndarray, n_slot: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same (n_slot,) of model magnitudes and errors (n,) that rows have, each of the slot `code` (n,)."""
    good = np.isfinite(magnitude) & (error >= 0)
    # A star has one model; should rows differ, their mean counts.
    number = np.bincount(code[good], minlength=n_slot)
    count = np.maximum(number, 1)
    mean = np.bincount(code[good], magnitude[good], n_slot) / count
    variance = np.bincount(code[good], error[good] ** 2, n_slot) / count
    precision = np.where(number > 0, 1 / np.maximum(variance, LEAST_VARIANCE), 0.0)
    return precision, precision * mean
