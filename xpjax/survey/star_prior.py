"""Prior magnitudes of stars from XP spectra, with the covariance that the spectra give them between bands."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax import engine
from xpjax.linalg import dot
from xpjax.records import XPCoefficients
from xpjax.survey.noise import POGSON
from xpjax.synthetic.magnitude import as_system, photometry
from xpjax.synthetic.system import PhotometricSystem
from xpjax.xp.coefficients import as_sources, covariance, masked


@dataclasses.dataclass(frozen=True)
class StarPrior:
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
            raise ValueError(
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


def xp_prior(sources: Any, system: Any, *, bands: tuple[str, ...] = (), floor: float = 0.0) -> StarPrior:
    """Prior magnitudes from XP spectra in a photometric system, with their full covariance between bands.

    sources and system as for `xpjax.photometry`; sources need errors and correlations. bands: what observations call
    the system's bands, by default their names. floor [mag]: added in quadrature to each band of each star, for what
    spectra are off by beyond their errors. Stars without light in a band have none there.
    """
    chosen = as_system(system)
    table = as_sources(sources, chosen.release)
    if table.coefficients.error is None or table.coefficients.correlation is None:
        raise ValueError(f"{table.origin} has no errors or no correlations, so that magnitudes have no covariance")
    names = bands or tuple(chosen.names)
    if len(names) != chosen.n_band:
        raise ValueError(f"{len(names)} names {names} for the {chosen.n_band} bands {chosen.names}")
    n = max(table.release.n_basis)
    found = photometry(table, chosen, float64=True)
    matrix = engine.run(_covariance_kernel, chosen, table.coefficients, float64=True, work_bytes=32 * n * n)
    matrix += floor**2 * np.eye(len(names))
    good = np.isfinite(found.magnitude) & np.isfinite(np.diagonal(matrix, axis1=1, axis2=2))
    return StarPrior(table.source_id, names, np.where(good, found.magnitude, np.nan), matrix)
