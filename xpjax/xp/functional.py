"""Sampled spectra as a pure function of arrays, for JAX's own transformations: what `spectra` computes, and no more."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import dot
from xpjax.core.records import AnyArray
from xpjax.core.release import RELEASES, Release
from xpjax.core.units import nanometers
from xpjax.xp.coefficients import masked, usable
from xpjax.xp.correction import Domain, LinearCorrection
from xpjax.xp.instrument import DesignMatrix, Instrument, load_instrument
from xpjax.xp.sources import XPCoefficients
from xpjax.xp.spectrum import sampling, spectrum_kernel

HOST = "xpjax.photometry and xpjax.spectra take files, tables and sources"
"""What takes anything that is no array."""


def coefficients_of(coefficients: Any) -> tuple[Array, Release]:
    """Coefficients as a JAX array of float32 or float64, and the release of which there are so many.

    Raises XpjaxError for what is no array of floats, or of another size.
    """
    try:
        value = jnp.asarray(coefficients)
    except (TypeError, ValueError) as error:
        found = type(coefficients).__name__
        raise XpjaxError(f"coefficients must be an array (..., n_basis_total), not a {found}; {HOST}") from error
    if not jnp.issubdtype(value.dtype, jnp.floating) or value.ndim < 1:
        raise XpjaxError(f"coefficients must be floats (..., n_basis_total), found {value.dtype} {value.shape}")
    known = [release for release in RELEASES if release.n_basis_total == value.shape[-1]]
    if not known:
        sizes = ", ".join(f"{release.n_basis_total} of {release.name}" for release in RELEASES)
        raise XpjaxError(f"{value.shape[-1]} coefficients, in an array of shape {value.shape}; expected {sizes}, last")
    return value.astype(jnp.promote_types(value.dtype, jnp.float32)), known[0]


def mapped(kernel: engine.Kernel, constants: Any, value: Array, release: Release) -> Any:
    """A kernel of one source over coefficients (..., n_basis_total), with constants in their precision."""

    def cast(x: Any) -> Any:
        return jnp.asarray(x, value.dtype) if jnp.issubdtype(jnp.result_type(x), jnp.floating) else x

    source = XPCoefficients(value, release=release)
    return engine.over_axes(kernel, value.ndim - 1)(jax.tree.map(cast, constants), source)


def sampled_spectra(
    coefficients: ArrayLike,
    wavelength: ArrayLike | None = None,
    *,
    instrument: Instrument | None = None,
    correction: LinearCorrection | str | None = None,
    resolution: str | None = None,
) -> Float[Array, "*batch n_sample"]:
    """Sample absolute spectra of coefficients, as a pure function for jit, grad, vmap and shard_map.

    Parameters
    ----------
    coefficients : (..., n_basis_total) array
        Coefficients, those of BP before those of RP; NaN throughout an XP that is missing. Their precision is that of
        the result: float64 needs `jax.enable_x64`.
    wavelength : (n_sample,) array [nm], optional
        Ascending grid within 330..1050 nm, known when JAX traces; by default 336, 338, ... 1020 nm.
    instrument : Instrument, optional
        Instrument model; by default that of the release with as many coefficients.
    correction : LinearCorrection or str, optional
        As of `xpjax.spectra`; by default that of the instrument, none. A pytree whose leaf is the change.
    resolution : {"full", "xp"}, optional
        As of `xpjax.spectra`.

    Returns
    -------
    (..., n_sample) array [W m-2 nm-1]
        Fluxes, as `xpjax.spectra` has them; NaN at samples that need a missing XP. Derivatives there are zero.

    Raises
    ------
    XpjaxError
        If the grid is bad, or the coefficients are no array of floats of a known release.

    See Also
    --------
    xpjax.spectra : Spectra with errors, correlations and status, of files, tables and any number of sources.

    Notes
    -----
    flux = c D with the design matrix D (Montegriffo et al. 2023, A&A 674, A3). Fluxes of some 1e-17 have squares that
    float32 does not hold: divide by a typical flux before summing squares.

    Examples
    --------
    >>> import jax
    >>> stars = xpjax.simulate_sources(5, seed=1).coefficients.value
    >>> jax.jit(xpjax.sampled_spectra)(stars).shape
    (5, 343)
    """
    value, release = coefficients_of(coefficients)
    model = load_instrument(release=release) if instrument is None else instrument
    if model.release.n_basis_total != value.shape[-1]:
        raise XpjaxError(f"{value.shape[-1]} coefficients, and an instrument of {model.release.n_basis_total}")
    if engine.is_traced(wavelength):
        raise XpjaxError("the grid must be known when JAX traces: close over it, or name it in static_argnums")
    grid = None if wavelength is None else np.asarray(nanometers(wavelength), float)
    if correction is not None:
        model = model.corrected(correction)
    if model.correction is None:
        design = sampling(model, grid, resolution=resolution).design
        return mapped(spectrum_kernel(), design, value, model.release)["flux"]
    domain, bare = model.correction.domain, dataclasses.replace(model, correction=None)
    how = sampling(model, grid, resolution=resolution)
    designs = how.design, *(sampling(bare, grid, resolution=r).design for r in (how.resolution, "full"))
    return mapped(_faded, (*designs, domain.rows(model.release), domain), value, model.release)


def _faded(
    constants: tuple[DesignMatrix, DesignMatrix, DesignMatrix, AnyArray, Domain], source: XPCoefficients
) -> Array:
    """Flux (n_sample,) with the share of a correction that a star has by its distance d^2; without an XP with none.

    constants: design matrices with the correction, and without, at its resolution and at the full one; `Domain.rows`.
    """
    *designs, rows, domain = constants
    corrected, raw, full = (spectrum_kernel()(design, source)["flux"] for design in designs)
    complete = jnp.all(usable(source))
    seen = dot(masked(source, False).value, rows)
    distance = domain.squared(seen[:-1], seen[-1])
    known = complete & (distance < jnp.inf)
    limit = jnp.asarray(domain.limit)
    share = limit / jnp.maximum(jnp.where(known, distance, limit), limit)
    return jnp.where(known, (1 - share) * raw + share * corrected, full)
