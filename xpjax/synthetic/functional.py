"""Magnitudes and fluxes as pure functions of arrays, for JAX's own transformations: the kernel of `photometry` alone.

Bands are systems, whose projections are ready, or curves with parameters, which are projected where JAX traces them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from xpjax.core.constants import XP_RANGE
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import dot, host_dot
from xpjax.core.quadrature import quadrature
from xpjax.core.release import Release
from xpjax.synthetic.chain import TransmissionChain
from xpjax.synthetic.kernel import photometry_kernel
from xpjax.synthetic.passband import Passband, PassbandSet, power_of
from xpjax.synthetic.projection import LIT, PassbandOperator, as_system, corrected_system, passband_operator
from xpjax.synthetic.system import PhotometricSystem
from xpjax.synthetic.warp import PARAMETERS, check_names, warped
from xpjax.xp import FADE, LinearCorrection, change_samples, coefficients_of, load_correction, load_instrument, mapped

Bands: TypeAlias = (
    PhotometricSystem | TransmissionChain | PassbandSet | Passband | str | Sequence[PhotometricSystem | str]
)
"""What has magnitudes."""


def fluxes(
    coefficients: ArrayLike,
    system: Bands,
    *,
    correction: LinearCorrection | str | None = None,
    extrapolate: str | None = None,
    **parameters: ArrayLike,
) -> Float[Array, "*batch n_band"]:
    """Compute synthetic fluxes of coefficients, as a pure function for jit, grad, vmap and shard_map.

    Parameters
    ----------
    coefficients : (..., n_basis_total) array
        As of `xpjax.magnitudes`.
    system : PhotometricSystem, TransmissionChain, PassbandSet, Passband or str
        As of `xpjax.magnitudes`.
    correction : LinearCorrection or str, optional
        As of `xpjax.magnitudes`.
    extrapolate : {"none", "linear"}, optional
        As of `xpjax.passband_system`, for passbands and chains.
    **parameters : float or (n_band,) array
        As of `xpjax.magnitudes`.

    Returns
    -------
    (..., n_band) array [W m-2 Hz-1 of AB bands, W m-2 nm-1 of others]
        Mean fluxes; NaN in bands that need a missing XP.

    Raises
    ------
    XpjaxError
        As `xpjax.magnitudes`.

    See Also
    --------
    xpjax.photometry : Fluxes with errors and status, of files, tables and any number of sources.

    Notes
    -----
    flux = c r with the projection r of a band (Montegriffo et al. 2023, A&A 674 A33). Fluxes of some 1e-30 have squares
    that float32 does not hold: divide by a typical flux before summing squares, or use magnitudes.

    Examples
    --------
    >>> import jax
    >>> stars = xpjax.simulate_sources(5, seed=1).coefficients.value
    >>> jax.jit(xpjax.fluxes, static_argnums=1)(stars, "SDSS").shape
    (5, 5)
    """
    return _observed(coefficients, system, correction, extrapolate, parameters)["flux"]


def magnitudes(
    coefficients: ArrayLike,
    system: Bands,
    *,
    correction: LinearCorrection | str | None = None,
    extrapolate: str | None = None,
    **parameters: ArrayLike,
) -> Float[Array, "*batch n_band"]:
    """Compute synthetic magnitudes of coefficients, as a pure function for jit, grad, vmap and shard_map.

    Parameters
    ----------
    coefficients : (..., n_basis_total) array
        Coefficients of any number of stars, those of BP before those of RP; NaN throughout an XP that is missing. Their
        precision is that of the result: float64 needs `jax.enable_x64`.
    system : PhotometricSystem, TransmissionChain, PassbandSet, Passband or str
        The bands: a name is one for `xpjax.load_system`. A system and a chain are pytrees, whose leaves may be traced.
    correction : LinearCorrection or str, optional
        Linear correction of XP's systematic errors, as of `xpjax.photometry`; a pytree whose leaf is the change.
    extrapolate : {"none", "linear"}, optional
        As of `xpjax.passband_system`, for passbands and chains.
    **parameters : float or (n_band,) array
        Of a chain other values of its parameters (`chain.parameters`), of passbands what `warp_passband` takes: shift,
        width, blue_edge, red_edge, tilt and bend. One for all bands, or one for each.

    Returns
    -------
    (..., n_band) array [mag]
        Magnitudes, as `xpjax.photometry` has them; NaN where a flux is not positive, and in bands that need a missing
        XP. Derivatives there are zero.

    Raises
    ------
    XpjaxError
        If a name or parameter is unknown, or the coefficients are no array of floats of a known release.

    See Also
    --------
    xpjax.photometry : Magnitudes with errors and status, of files, tables and any number of sources.

    Notes
    -----
    magnitude = -2.5 log10(c r) + zero point, with the projection r of a band (Montegriffo et al. 2023, A&A 674 A33).

    Examples
    --------
    >>> import jax
    >>> stars = xpjax.simulate_sources(5, seed=1).coefficients.value
    >>> chain = xpjax.synthetic.read_chain("minisitian")
    >>> slope = jax.jacfwd(lambda water: xpjax.magnitudes(stars, chain, water=water))(5.0)
    >>> slope.shape
    (5, 3)
    """
    return _observed(coefficients, system, correction, extrapolate, parameters)["magnitude"]


def _observed(
    coefficients: ArrayLike,
    system: Bands,
    correction: LinearCorrection | str | None,
    extrapolate: str | None,
    parameters: Mapping[str, ArrayLike],
) -> dict[str, Array]:
    """What the kernel gives."""
    value, release = coefficients_of(coefficients)
    if isinstance(system, TransmissionChain) or (parameters and isinstance(system, Passband | PassbandSet)):
        bands = _projected(_curves(system, parameters), release, correction, extrapolate or "none")
    elif parameters:
        raise XpjaxError(
            f"{system!r} has no parameters {sorted(parameters)}: give its curves, as in xpjax.load_passbands('JPLUS'), "
            "or a chain, as in xpjax.synthetic.read_chain('minisitian')"
        )
    elif isinstance(system, PhotometricSystem):
        bands = corrected_system(system, correction)
    else:
        bands = as_system(system, correction, extrapolate=extrapolate, release=release)
    if bands.release.n_basis_total != value.shape[-1]:
        raise XpjaxError(f"{value.shape[-1]} coefficients, and a system for {bands.release.n_basis_total}: {bands!r}")
    if bands.joined is None:
        bands = bands.with_change()
    lean: dict[str, Any] = {"pair_weight": None, "error_correction": None, "systematic": None}
    return mapped(photometry_kernel(), dataclasses.replace(bands, **lean), value, bands.release)


class _Curve(NamedTuple):
    """A band whose transmission (n,) JAX may trace, on a grid [nm] that is known, and what else makes a passband."""

    band: Passband
    label: str
    grid: np.ndarray
    transmission: Array


def _curves(system: TransmissionChain | PassbandSet | Passband, parameters: Mapping[str, ArrayLike]) -> list[_Curve]:
    """The curves of bands with other values of some parameters. Raises XpjaxError for names that are none."""
    if isinstance(system, TransmissionChain):
        grid = np.asarray(system.wavelength)
        made = system.with_parameters(**parameters).curves()
        ends, kinds = grid[[0, -1]], (system.detector_type, system.magnitude)
        # Of the band only what is no curve is looked at.
        bands = [Passband(name, ends, np.ones(2), *kinds) for name in system.bands]
        return [_Curve(band, system.name, grid, curve) for band, curve in zip(bands, made, strict=True)]
    check_names(list(parameters), PARAMETERS)
    bands = list(system.passbands) if isinstance(system, PassbandSet) else [system]
    each = {name: jnp.broadcast_to(jnp.asarray(value, float), (len(bands),)) for name, value in parameters.items()}
    curves = [warped(band) for band in bands]
    label = system.label if isinstance(system, PassbandSet) else system.name
    return [
        _Curve(band, label, np.asarray(curve.grid), curve({name: value[k] for name, value in each.items()}))
        for k, (band, curve) in enumerate(zip(bands, curves, strict=True))
    ]


def _projected(
    curves: Sequence[_Curve], release: Release, correction: LinearCorrection | str | None, extrapolate: str
) -> PhotometricSystem:
    """The system of curves, as `passband_system` makes it of curves that are known. Raises XpjaxError."""
    chosen, model = load_correction(correction), load_instrument(release=release)
    if chosen is not None:
        chosen.check(model.release, model.model)
    vectors, scales, changes, flat = [], [], [], []
    for curve in curves:
        key = (curve.grid.tobytes(), curve.band.detector, curve.band.magnitude)
        operator, unit, scale = _operator(*key, extrapolate, release)
        vectors.append(operator.projection(curve.transmission))
        scales.append(scale)
        if chosen is not None:
            weight, light = _seen(*key[:2], chosen.wavelength.tobytes())
            norm = dot(operator.norm, curve.transmission)
            changes.append(dot(host_dot(chosen.change, weight / unit), curve.transmission) / norm)
            flat.append(dot(light * (LIT / unit * chosen.domain.unit), curve.transmission) / norm)
    zero_point = np.array([curve.band.flux_zero_point for curve in curves])
    projection, n = jnp.stack(vectors, axis=1), len(curves)
    plain = PhotometricSystem(
        projection,
        np.array(scales),
        zero_point,
        zero_point - 2.5 * np.log10(scales),
        np.zeros(n),
        np.full(n, np.nan),
        (),
        None,
        None,
        tuple(curve.band.name for curve in curves),
        tuple(curve.label for curve in curves),
        tuple(curve.band.flux_unit for curve in curves),
        (False,) * n,
        model.release,
        model.model,
    )
    if chosen is None:
        return plain
    return dataclasses.replace(
        plain,
        projection=projection + jnp.stack(changes, axis=1),
        uncorrected=projection,
        flat=jnp.stack(flat),
        domain=chosen.domain,
        correction=chosen.name,
    )


@functools.lru_cache(maxsize=64)
def _operator(
    grid: bytes, detector: str, magnitude: str, extrapolate: str, release: Release
) -> tuple[PassbandOperator, float, float]:
    """The operator of curves on a grid, in numbers of order one; the unit of its response, and that of projections.

    Units are powers of two: no digit changes.
    """
    model = load_instrument(release=release)
    made = passband_operator(
        np.frombuffer(grid), detector=detector, magnitude=magnitude, instrument=model, extrapolate=extrapolate
    )
    response, norm = np.asarray(made.response), np.asarray(made.norm)
    unit, per = (2.0 ** np.round(np.log2(np.abs(array).max())) for array in (response, norm))
    return PassbandOperator(response / unit, norm / per), float(unit), float(unit / per)


@functools.lru_cache(maxsize=64)
def _seen(grid: bytes, detector: str, wavelength: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Weights (m, n), (n,) with which curves on a grid see a change at its wavelengths (m,), and a flat spectrum."""
    own = np.frombuffer(wavelength)
    breaks = (own[0] - FADE, own[0], own[-1], own[-1] + FADE, *XP_RANGE)
    x, weights, samples = quadrature(np.frombuffer(grid), breaks)
    inside = (x > XP_RANGE[0]) & (x < XP_RANGE[1])
    density = (x ** power_of(detector) * weights)[inside, None]
    x, light = x[inside], samples[inside].multiply(density).tocsr()
    return (change_samples(own, x) @ light).toarray(), np.asarray(light.sum(axis=0)).ravel()
