"""The kernel of photometry: fluxes, magnitudes, their errors and status of one source, without forming its spectrum.

flux = c r; variance = r_BP' K_BP r_BP + r_RP' K_RP r_RP; then flux bias, color equations and error correction, in
this order (Montegriffo et al. 2023, A&A 674 A33; see `xpjax.synthetic.system`).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax.core import engine
from xpjax.core.constants import POGSON
from xpjax.core.linalg import dot
from xpjax.core.records import AnyArray
from xpjax.core.status import Status
from xpjax.synthetic.system import ColorEquation, CompactWeights, PhotometricSystem
from xpjax.xp import BAD, NO_ERROR, XPCoefficients, masked, pair_products, possible_variance, usable

LARGE = 1 - 10 ** (-0.4 * 0.15)
"""Relative change of a band's flux by a linear correction, 0.15 mag, from which on stars are flagged."""
MOST = (1 - 10 ** (-0.4 * 0.35), 10 ** (0.4 * 0.35) - 1)
"""The largest changes, downward and upward: 0.35 mag. Large ones are of noise, or of bands with little light."""
BY_COLOR = " by color"
"""How the names of results end that are of color equations' bands alone."""


@functools.cache
def photometry_kernel(
    truncate: bool = False,
    errors: bool = False,
    error_correction: bool = False,
    guard: bool = True,
    apart: bool = False,
) -> engine.Kernel:
    """The kernel (PhotometricSystem, XPCoefficients) -> flux, magnitude, their errors and status of one source.

    Fluxes in the system's flux_unit; errors are absent unless asked for. Without guard one bad number spoils all bands
    of the source, and is flagged; truncation needs the guard. Of corrected systems also the star's distance d^2 from
    what the correction was learned from. apart: what color equations make of their bands is given as arrays
    (n_equation,) of names that end in BY_COLOR, which `put_in_place` puts in place on the host.
    """

    def kernel(bands: PhotometricSystem, source: XPCoefficients) -> dict[str, Array]:
        status = jnp.uint32(0)
        complete = jnp.bool_(True)
        if guard:
            available = usable(source)
            complete = jnp.all(available)
            source = masked(source, truncate)
        corrected = bands.domain is not None
        flux, change = _project_with_change(bands, source) if corrected else (project(bands, source), None)
        every = bands.both if corrected else bands.projection
        variance = None
        if guard:
            needs = jnp.stack([jnp.any(every[rows] != 0, axis=0) for rows in bands.release.slices])
            flux = jnp.where(jnp.any(needs[:, : bands.n_band] & ~available[:, None], axis=0), jnp.nan, flux)
            bits = jnp.array([int(bit) for bit in BAD[: len(bands.release.xp)]], jnp.uint32)
            status |= jnp.where(available, 0, bits).sum().astype(jnp.uint32)
            if errors:
                variance, bits = _variance_of_each(bands, every, source, needs)
                status |= jnp.where(available, bits, 0).sum().astype(jnp.uint32)
        elif errors:
            variance = _variance(bands, every, source)
            # Not by minimum and maximum: XLA's lose NaN on CPUs in batches of more than 383 rows.
            possible = jnp.all((variance >= 0) & (variance < jnp.inf))
            status |= _flag(~possible, NO_ERROR[0] | NO_ERROR[1])
        factor = jnp.ones(())
        if error_correction and errors:
            factor, known = _error_factor(bands, source, complete)
            status |= _flag(~known, Status.NO_ERROR_CORRECTION)
        more = {}
        if change is not None:
            flux, share, more["distance"], bits = _changed(bands, flux, change, complete if guard else None)
            status |= bits
            variance = None if variance is None else _mixed_variance(variance, share)
        return {**_observe(bands, flux, variance, status, factor, (guard, apart)), **more}

    return kernel


def _project_with_change(bands: PhotometricSystem, source: XPCoefficients) -> tuple[Array, tuple[Array, Array, Array]]:
    """Scaled uncorrected fluxes (n_band,), and of a linear correction changes, shares of them (n_band,) and d^2.

    One product gives them all: several narrow ones take twice the time. The first coefficients are most of the
    uncorrected fluxes and are added last.
    """
    assert bands.domain is not None
    assert bands.joined is not None
    assert bands.flat is not None
    assert bands.uncorrected is not None
    n = bands.n_band
    made = dot(source.value, bands.joined)
    flux = made[:n]
    for rows in bands.release.slices:
        flux += source.value[rows.start] * bands.uncorrected[rows.start]
    # In narrow bands with hardly any light of a star the change is not known.
    level = jnp.where(made[-1] > 0, made[-1], 1)
    t = jnp.clip(flux / (bands.flat * level), 0, 1)
    return flux, (made[n : 2 * n], t * t * (3 - 2 * t), bands.domain.squared(made[2 * n : -1], made[-1]))


def _changed(
    bands: PhotometricSystem, flux: Array, wanted: tuple[Array, Array, Array], complete: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Scaled fluxes (n_band,) with a linear correction's change, shares of it, d^2 where known, and status bits.

    wanted: changes (n_band,), the shares (n_band,) that bands may have by their light, and d^2. Of these a star beyond
    the limit has a share, one without an XP none, and no band changes by more than MOST of its flux.
    """
    change, part, distance = wanted
    assert bands.domain is not None
    limit = jnp.asarray(bands.domain.limit)
    if complete is not None:
        distance = jnp.where(complete, distance, jnp.inf)
    share = part * (limit / jnp.maximum(distance, limit)).astype(flux.dtype)
    size = jnp.abs(flux)
    added = jnp.clip(share * change, -MOST[0] * size, MOST[1] * size)
    known = distance < jnp.inf
    bits = _flag(known & (distance > limit), Status.OUTSIDE_TRAINING) | _flag(~known, Status.NOT_CORRECTED)
    bits |= _flag(jnp.any(jnp.abs(added) > LARGE * size), Status.CORRECTION_LARGE)
    return flux + added, share, jnp.where(known, distance, jnp.nan), bits


def _mixed_variance(variance: Array, share: Array) -> Array:
    """Variances (n_band,) of fluxes with a share of the change, from those without and with it (2 n_band,).

    Standard errors add up with their shares, as of fully correlated fluxes; exact without and with the whole change.
    """
    before, after = jnp.split(variance, 2)
    mixed = ((1 - share) * jnp.sqrt(before) + share * jnp.sqrt(after)) ** 2
    return jnp.where(share <= 0, before, jnp.where(share >= 1, after, mixed))


def _flag(condition: Array, bit: int) -> Array:
    return jnp.where(condition, int(bit), 0).astype(jnp.uint32)


def _observe(
    bands: PhotometricSystem, raw: Array, variance: Array | None, status: Array, factor: Array, how: tuple[bool, bool]
) -> dict[str, Array]:
    """From scaled fluxes and variances (n_band,) to what is published: bias, color equations, error correction.

    how: guard and apart, of `photometry_kernel`.
    """
    guard, apart = how
    flux = _biased(bands, raw)
    error = None
    if variance is not None:
        error = jnp.where(jnp.isfinite(raw), jnp.sqrt(variance), jnp.nan)
        if any(bands.standardized):
            error *= jnp.where(bands.flux_bias != 0, jnp.abs(flux / raw), 1)
    magnitude = _magnitude(flux, bands.scaled_zero_point)
    scaled = flux * bands.scale
    if guard:
        missing, nonpositive = jnp.any(~jnp.isfinite(flux)), jnp.any(flux <= 0)
    else:
        # A sum is not finite where a term is not, and is cheaper than asking each, all the more of what is given out.
        # Where a band is missing the guarded kernel says what else there is.
        missing = ~jnp.isfinite(jnp.sum(scaled))
        nonpositive = ~missing & ~jnp.isfinite(jnp.sum(magnitude))
    status |= _flag(missing, Status.BAND_MISSING) | _flag(nonpositive, Status.NONPOSITIVE_FLUX)
    corrected = [color_corrected(equation, flux, error, bands.scaled_zero_point) for equation in bands.color_equations]
    for *_, beyond in corrected:
        status |= _flag(beyond, Status.COLOR_EXTRAPOLATED)
    result = {"flux": scaled, "magnitude": magnitude}
    result |= {} if error is None else _errors(flux, error, factor, bands.scale)
    by_color = [
        _equated(equation.band, found, factor, bands.scale)
        for equation, found in zip(bands.color_equations, corrected, strict=True)
    ]
    if apart and by_color:
        result |= {name + BY_COLOR: jnp.stack([found[name] for found in by_color]) for name in result}
    else:
        for equation, found in zip(bands.color_equations, by_color, strict=True):
            result |= {name: _replaced(result[name], equation.band, found[name]) for name in found}
    return {**result, "status": status}


def _errors(flux: Array, error: Array, factor: Array, scale: AnyArray) -> dict[str, Array]:
    """Errors of fluxes and magnitudes from scaled fluxes and their errors, times a factor."""
    error *= factor.astype(error.dtype)
    found = jnp.where(flux > 0, POGSON * error / jnp.where(flux > 0, flux, 1), jnp.nan)
    return {"flux_error": error * scale, "magnitude_error": found}


def _equated(
    band: int, found: tuple[Array, Array | None, Array, Array], factor: Array, scale: AnyArray
) -> dict[str, Array]:
    """What a color equation makes of its band, as `_observe` gives it out."""
    flux, error, magnitude, _ = found
    out = {"flux": flux * scale[band], "magnitude": magnitude}
    of_band = factor if factor.ndim == 0 else factor[band]
    return out if error is None else out | _errors(flux, error, of_band, scale[band])


def put_in_place(bands: PhotometricSystem, out: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Results (n, n_band) of kernels with `apart`, with what color equations make of their bands put in place."""
    place = [equation.band for equation in bands.color_equations]
    for name in [name for name in out if name.endswith(BY_COLOR)]:
        out[name.removesuffix(BY_COLOR)][:, place] = out[name]
    return {name: array for name, array in out.items() if not name.endswith(BY_COLOR)}


def _biased(bands: PhotometricSystem, flux: Array) -> Array:
    """Scaled fluxes with the bias of standardized systems."""
    return flux + bands.flux_bias if any(bands.standardized) else flux


def project(bands: PhotometricSystem, source: XPCoefficients) -> Array:
    """Scaled fluxes (n_band,) = c r, rounded to well below 1e-6 of sum |c_i r_i| in float32.

    The first coefficient of each XP is most of the sum, and is added last: one product of the others and these terms
    are quicker than reversed copies of the coefficients.
    """
    first = np.array([rows.start for rows in bands.release.slices])
    flux = dot(source.value, jnp.asarray(bands.projection).at[first].set(0))
    for k in first:
        flux += source.value[k] * bands.projection[k]
    return flux


def _variance(bands: PhotometricSystem, every: AnyArray, source: XPCoefficients) -> Array:
    """Variances (n,) of scaled fluxes with projections every (n_basis_total, n), whose weights the bands have."""
    if source.covariance is not None:
        assert isinstance(bands.pair_weight, CompactWeights)
        return jnp.stack(bands.pair_weight.variances(source.covariance)).sum(0)
    assert source.error is not None
    assert bands.pair_weight is not None
    assert not isinstance(bands.pair_weight, CompactWeights)
    return dot(source.error**2, every**2) + dot(pair_products(source), bands.pair_weight)


def _variance_of_each(
    bands: PhotometricSystem, every: AnyArray, source: XPCoefficients, needs: Array
) -> tuple[Array, Array]:
    """Variances (n,) of scaled fluxes with projections every (n_basis_total, n), whose weights the bands have.

    And a NO_ERROR bit (n_xp,) where an XP's part is not finite.

    A band that does not draw on an XP does not inherit its NaN.
    """
    total = jnp.zeros(every.shape[-1], bands.projection.dtype)
    bits = []
    for k, own in enumerate(_own_variances(bands, every, source)):
        part = possible_variance(own)
        bits.append(_flag(jnp.any(jnp.isnan(part)), NO_ERROR[k]))
        total += jnp.where(needs[k], part, 0)
    return total, jnp.stack(bits)


def _own_variances(bands: PhotometricSystem, every: AnyArray, source: XPCoefficients) -> list[Array]:
    """What each XP adds to the variances (n,)."""
    if source.covariance is not None:
        assert isinstance(bands.pair_weight, CompactWeights)
        return bands.pair_weight.variances(source.covariance)
    assert source.error is not None
    assert bands.pair_weight is not None
    assert not isinstance(bands.pair_weight, CompactWeights)
    return [
        dot(source.error[rows] ** 2, every[rows] ** 2) + dot(pair_products(source, k), bands.pair_weight[pairs])
        for k, (rows, pairs) in enumerate(zip(bands.release.slices, bands.release.pair_slices, strict=True))
    ]


def _magnitude(flux: Array, zero_point: AnyArray) -> Array:
    """-2.5 log10(flux) + zero_point, NaN for a flux that is not positive; derivatives are then zero."""
    good = flux > 0
    return jnp.where(good, -2.5 * jnp.log10(jnp.where(good, flux, 1)) + zero_point, jnp.nan)


def color_corrected(
    equation: ColorEquation, flux: Array, error: Array | None, zero_point: AnyArray
) -> tuple[Array, Array | None, Array, Array]:
    """What one color equation makes of its band: flux, error, magnitude, and whether the color was beyond its range.

    Colors are of uncorrected magnitudes. The error uses the polynomial's derivative at the color itself, also beyond
    the range, as the published tables do.
    """
    chosen = (equation.band, equation.blue, equation.red)
    magnitude, blue, red = (_magnitude(flux[k], zero_point[k]) for k in chosen)
    color = blue - red
    low, high = equation.color_range[0], equation.color_range[1]
    per_color = 2 / (high - low)
    t = (color - low) * per_color - 1
    edge = jnp.clip(t, -1, 1)
    ascending = equation.coefficient
    derivative = ascending[1:] * jnp.arange(1, len(ascending), dtype=ascending.dtype)
    correction = jnp.polyval(ascending[::-1], edge) + jnp.polyval(derivative[::-1], edge) * (t - edge)
    corrected = magnitude + correction
    value = 10 ** (-0.4 * (corrected - zero_point[equation.band]))
    new_error = None
    if error is not None:
        own, of_blue, of_red = (POGSON * error[k] / flux[k] for k in chosen)
        slope = jnp.polyval(derivative[::-1], t) * per_color
        new_error = jnp.sqrt(own**2 + slope**2 * (of_blue**2 + of_red**2)) * value / POGSON
    return value, new_error, corrected, (color < low) | (color > high)


def _replaced(array: Array, index: int, value: Array | None) -> Array:
    """The array (n_band,) with one entry replaced: a choice, since a batch of scatters takes ten times as long."""
    value = jax.lax.optimization_barrier(value)  # computed once a source, not once a band
    return jnp.where(jnp.arange(array.shape[-1], dtype=jnp.int32) == index, value, array)


def _error_factor(bands: PhotometricSystem, source: XPCoefficients, complete: Array) -> tuple[Array, Array]:
    """Tabulated factors (n_band,) on errors at the source's G, and whether there is a G: ones where there is none."""
    table = bands.error_correction
    assert table is not None
    flux = dot(source.value, table.g_projection)
    known = complete & (flux > 0)
    g = _magnitude(flux, table.g_zero_point)
    factor = jax.vmap(lambda f: jnp.interp(g, table.g, f), in_axes=1)(table.factor)
    return jnp.where(known, factor, 1), known
