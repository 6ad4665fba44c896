"""Sampled spectra with errors and correlations: one product of the coefficients with a constant matrix.

flux = c D; covariance = sum over XP of D_x' K_x D_x, with the merge weights folded into D (Montegriffo et al. 2023).
Where one XP is missing, samples that the other covers are given by it alone, and the others are NaN.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import dot, dot_last_first, pack
from xpjax.core.records import Catalogue
from xpjax.core.release import RELEASES, Release
from xpjax.core.status import Status
from xpjax.core.units import in_unit, nanometers
from xpjax.xp.asked import asked_sources, keeping
from xpjax.xp.coefficients import (
    BAD,
    NO_ERROR,
    as_sources,
    check_truncation,
    covariance,
    mark_no_errors,
    masked,
    merge_status,
    pair_products,
    possible_variance,
    run_guarded,
    usable,
)
from xpjax.xp.compact import Subspace, packed_variance
from xpjax.xp.correction import NONE, AnyLinear
from xpjax.xp.instrument import DesignMatrix, Instrument, load_instrument as load_instrument
from xpjax.xp.sampled import Spectra
from xpjax.xp.sources import TRANSIT_MEANINGS, TRANSIT_UNITS, AnySources, SourceTable, XPCoefficients
from xpjax.xp.wanted import AnyIds

INTERNAL_GRID = np.linspace(0.0, 60.0, 600)
"""Default pseudo-wavelengths of internal spectra."""
RESOLUTIONS = ("full", "xp")
"""Of sampled spectra: as the instrument model has it, or as seen with XP's line spread."""
BAD_BITS, NO_ERROR_BITS = (np.array([int(bit) for bit in bits], np.uint32) for bits in (BAD, NO_ERROR))


@functools.cache
def spectrum_kernel(
    truncate: bool = False, errors: bool = False, correlation: bool = False, merged: bool = True, guard: bool = True
) -> engine.Kernel:
    """The kernel (DesignMatrix, XPCoefficients) -> flux, flux_error, packed correlation and status of one source.

    Entries that were not asked for are absent. merged: samples draw on all XP; otherwise each XP has samples of its
    own, and correlations (n_xp, n_pair). Without guard one bad number spoils the source, and is flagged; truncation
    and correlations need the guard.
    """

    def fast(design: DesignMatrix, source: XPCoefficients) -> dict[str, Array]:
        flux = dot_last_first(source.value, design.value) if merged else _flux_of_each(design, source)
        result = {"flux": flux * design.scale}
        status = jnp.where(jnp.isfinite(flux[0] + flux[-1]), 0, int(Status.BAND_MISSING)).astype(jnp.uint32)
        if errors:
            variance = _variances(design, source)
            known = jnp.stack([jnp.all((v >= 0) & (v < jnp.inf)) for v in variance])
            status |= jnp.where(known, 0, NO_ERROR_BITS[: len(variance)]).sum().astype(jnp.uint32)
            result["flux_error"] = jnp.sqrt(_joined(design, variance)) * design.scale
        return {**result, "status": status}

    def guarded(design: DesignMatrix, source: XPCoefficients) -> dict[str, Array]:
        available = usable(source)
        source = masked(source, truncate)
        covered = jnp.where(available[:, None], design.share, 0).sum(0)
        if design.mixed:
            covered = jnp.where(jnp.all(available), covered, 0)
        # One XP alone carries a sample with weight one; both together already add up to one.
        weight = jnp.where(jnp.all(available), 1.0, covered).astype(design.value.dtype)
        norm = design.scale / jnp.where(weight > 0, weight, 1)
        result = {"flux": jnp.where(covered > 0, _flux_of_each(design, source) * norm, jnp.nan)}
        status = jnp.where(available, 0, BAD_BITS[: len(available)]).sum().astype(jnp.uint32)
        status |= jnp.where(jnp.any(covered <= 0), int(Status.BAND_MISSING), 0).astype(jnp.uint32)
        if errors:
            variance = [possible_variance(v) for v in _variances(design, source)]
            known = jnp.stack([jnp.all(~jnp.isnan(v)) for v in variance])
            status |= jnp.where(available & ~known, NO_ERROR_BITS[: len(variance)], 0).sum().astype(jnp.uint32)
            variance = [jnp.where(ok, v, 0) for ok, v in zip(available, variance, strict=True)]
            result["flux_error"] = jnp.where(covered > 0, jnp.sqrt(_joined(design, variance)) * norm, jnp.nan)
        if correlation:
            result["correlation"] = _correlation(design, source, available, covered, merged)
        return {**result, "status": status}

    return guarded if guard or truncate or correlation else fast


def _flux_of_each(design: DesignMatrix, source: XPCoefficients) -> Array:
    """Flux (n_sample,), each XP on the samples that it contributes to."""
    parts = [
        dot_last_first(source.value[rows], design.value[rows, start:stop])
        for rows, (start, stop) in zip(design.release.slices, design.support, strict=True)
    ]
    return _joined(design, parts)


def _variances(design: DesignMatrix, source: XPCoefficients) -> list[Array]:
    """Each XP's part of the variance, on the samples that it contributes to."""
    assert design.pair_weight is not None
    compact = source.covariance
    if compact is not None:
        return [packed_variance(compact, k, weight) for k, weight in enumerate(design.pair_weight)]
    assert source.error is not None
    parts = []
    for k, (rows, (start, stop)) in enumerate(zip(design.release.slices, design.support, strict=True)):
        own = dot(source.error[rows] ** 2, design.value[rows, start:stop] ** 2)
        parts.append(own + dot(pair_products(source, k), design.pair_weight[k]))
    return parts


def _joined(design: DesignMatrix, parts: list[Array]) -> Array:
    """The sum (n_sample,) of each XP's samples [start, stop): piece by piece, which passes over them once."""
    n = design.value.shape[1]
    made = []
    for low, high in itertools.pairwise(sorted({0, n, *itertools.chain(*design.support)})):
        placed = zip(parts, design.support, strict=True)
        own = [part[low - start : high - start] for part, (start, stop) in placed if start <= low and high <= stop]
        made.append(sum(own[1:], own[0]) if own else jnp.zeros(high - low, design.value.dtype))
    return jnp.concatenate(made)


def _correlation(design: DesignMatrix, source: XPCoefficients, available: Array, covered: Array, merged: bool) -> Array:
    """Packed correlations between samples, of all together or (n_xp, n_pair) of each XP's own."""
    n = design.value.shape[1]
    parts = []
    for k, (rows, (start, stop)) in enumerate(zip(design.release.slices, design.support, strict=True)):
        block = design.value[rows, start:stop]
        part = dot(block.T, dot(covariance(source, k), block))
        part = jnp.where(available[k], 0.5 * (part + part.T), 0)  # rounding leaves the product asymmetric
        parts.append(jnp.pad(part, (start, n - stop)) if merged else part)
    known = jnp.where(covered > 0, 1, jnp.nan)
    if merged:
        return _packed_correlation(jnp.stack(parts).sum(0), known)
    own = [known[start:stop] for start, stop in design.support]
    return jnp.stack([_packed_correlation(*pair) for pair in zip(parts, own, strict=True)])


def _packed_correlation(covariance: Array, known: Array) -> Array:
    """Packed correlations of a covariance matrix, zero where it is zero, NaN at samples that are not known."""
    sigma = jnp.sqrt(jnp.diagonal(covariance))
    scale = jnp.where(sigma > 0, 1 / jnp.where(sigma > 0, sigma, 1), 0) * known
    return pack(covariance * scale[:, None] * scale[None, :])


@dataclasses.dataclass(frozen=True)
class _Sampling:
    """Where spectra are sampled, and the matrix that does it; wavelength: as asked for, None for the archive's."""

    model: Instrument
    wavelength: np.ndarray | None
    grid: np.ndarray
    design: DesignMatrix
    resolution: str
    basis: str | None = None

    @property
    def internal(self) -> bool:
        """Whether spectra are internal ones."""
        return self.basis is not None

    @functools.cached_property
    def _weighted(self) -> dict[Subspace | None, DesignMatrix]:
        return {}

    def weighted(self, subspace: Subspace | None) -> DesignMatrix:
        """The matrix with the weights that errors need, made once."""
        if subspace not in self._weighted:
            self._weighted[subspace] = self.design.with_pair_weights(subspace)
        return self._weighted[subspace]

    @functools.cached_property
    def _bare(self) -> dict[str, _Sampling]:
        return {}

    def bare(self, resolution: str) -> _Sampling:
        """The same samples without a correction, at full or XP's resolution, made once."""
        if resolution not in self._bare:
            model = dataclasses.replace(self.model, correction=None)
            self._bare[resolution] = sampling(model, self.wavelength, resolution=resolution)
        return self._bare[resolution]

    @functools.cached_property
    def _serving(self) -> dict[Subspace, Subspace]:
        return {}

    def serving(self, subspace: Subspace) -> Subspace:
        """The axes of compact covariances that the errors of these samples need. Raises XpjaxError for none."""
        if subspace not in self._serving:
            self._serving[subspace] = self._checked(subspace)
        return self._serving[subspace]

    def _checked(self, subspace: Subspace) -> Subspace:
        unit = "of internal spectra" if self.internal else "nm"
        unit += " with a linear correction" * (self.model.correction is not None)
        return subspace.check(self.design.value, lambda k: f"the sample at {self.grid[k % len(self.grid)]:g} {unit}")


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What is computed, and where; batch_rows, guard_rows: as of `run_guarded`, where all is to compile once."""

    truncate: bool
    errors: bool
    correlation: bool
    float64: bool
    devices: engine.Devices
    batch_rows: int | None = None
    guard_rows: int | None = None


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Spectra of one sampling, prepared once and made of any number of tables of one release."""

    how: _Sampling
    wanted: _Wanted

    @classmethod
    def of(
        cls,
        release: Release | None = None,
        wavelength: Any = None,
        *,
        internal: bool = False,
        instrument: Instrument | None = None,
        basis: str | None = None,
        correction: Any = None,
        resolution: str | None = None,
        **wanted: Any,
    ) -> Sampler:
        """The sampler that options of `spectra` mean, for sources of a release. Raises XpjaxError."""
        model = instrument or load_instrument(release=release)
        if correction is not None:
            model = model.corrected(correction)
        return cls(sampling(model, wavelength, basis, internal, resolution), _Wanted(**wanted))

    def but(self, **wanted: Any) -> Sampler:
        """The same sampling, of which something else is wanted."""
        return dataclasses.replace(self, wanted=dataclasses.replace(self.wanted, **wanted))

    def __call__(self, table: SourceTable, progress: engine.Progress | None = None) -> Spectra:
        """The spectra of a table. Raises XpjaxError for one of another release."""
        how, wanted = self.how, self.wanted
        table = as_sources(table, how.design.release)
        out = _computed(table, how, wanted, progress)
        if how.model.correction is not None:
            _fade(table, out, how, wanted)
        return _collected(table, out, how, wanted)


def spectra(
    sources: AnySources | None = None,
    wavelength: ArrayLike | None = None,
    *,
    ids: AnyIds | None = None,
    keep: Sequence[str] | str | None = None,
    internal: bool = False,
    truncate: bool = False,
    float64: bool = False,
    errors: bool = True,
    correlation: bool = False,
    instrument: Instrument | None = None,
    basis: str | None = None,
    correction: AnyLinear = None,
    resolution: str | None = None,
    devices: engine.Devices = None,
    progress: engine.Progress | None = None,
) -> Spectra:
    """Sample absolute or internal spectra of many sources.

    Parameters
    ----------
    sources : SourceTable, XPCoefficients, (n, n_basis_total) array, table or path
        The XP coefficients; files and tables go through `xpjax.read`.
    wavelength : (n_sample,) array [nm], optional
        Ascending grid within 330..1050 nm, or an astropy Quantity; by default 336, 338, ... 1020 nm. For internal
        spectra pseudo-wavelengths within -10..70, by default 600 on 0..60.
    ids : array of int, table, path, or what else `xpjax.fetch` takes, optional
        In the place of sources: fetch them from the Gaia archive, of the instrument's release.
    keep : sequence of str, optional
        Columns of the sources to pass on (`Spectra.columns`).
    internal : bool
        Whether to sample internal spectra [e-/s] of BP and RP apart.
    truncate, float64 : bool
        Whether to use the relevant basis functions only, and to compute in double precision.
    errors, correlation : bool
        Whether to compute standard errors, and correlations between samples, where the input has correlations.
    instrument : Instrument, optional
        Instrument model, with a correction or without; by default that of the release of the sources.
    basis : str, optional
        Basis of internal spectra, of Gaia DR3 `hermite` or `bspline_c04`; by default that of the coefficients.
    correction : str, path or LinearCorrection, optional
        What `load_correction` takes; by default that of the instrument, none.
    resolution : str, optional
        `full`, or `xp` for spectra seen at XP's resolving power, to compare with models; by default `xp` with a
        correction, `full` without.
    devices : str, int or list, optional
        `cpu`, `gpu`, `gpu:2`, a number of devices or JAX devices; by default JAX's first.
    progress : callable, optional
        Called with the number of sources done so far.

    Returns
    -------
    Spectra
        Fluxes (n, n_sample) [W m-2 nm-1]. A bad source is NaN and flagged in `status`. A star beyond the correction's
        limit has a share of the change (OUTSIDE_TRAINING), one without BP or RP none of it (NOT_CORRECTED).

    Raises
    ------
    XpjaxError
        If the grid is bad, or the coefficients are not of the instrument's release.

    Notes
    -----
    flux = c D with the design matrix D; covariance = sum over XP of D' K D (Montegriffo et al. 2023, A&A 674, A3).

    Examples
    --------
    >>> xpjax.spectra(xpjax.simulate_sources(5, seed=1), np.arange(400.0, 900.0, 2.5)).flux.shape
    (5, 200)
    """
    table = asked_sources(sources, ids, None if instrument is None or basis else instrument.release, keep)
    # Coefficients in a basis of other sizes, of another cycle, are of no release: those bases are in the file of DR3.
    other = basis is not None and table.release not in RELEASES
    sampler = Sampler.of(
        None if other else table.release, wavelength, internal=internal, instrument=instrument, basis=basis,
        correction=correction, resolution=resolution, truncate=truncate, errors=errors, correlation=correlation,
        float64=float64, devices=devices,
    )  # fmt: skip
    return keeping(sampler(table, progress), table, keep)


def sampling(
    model: Instrument,
    wavelength: Any,
    basis: str | None = None,
    internal: bool = False,
    resolution: str | None = None,
) -> _Sampling:
    """The sampling of a call. Raises XpjaxError for a bad grid, and for choices that do not go together."""
    if resolution is None:
        resolution = "full" if model.correction is None else "xp"
    if resolution not in RESOLUTIONS:
        raise XpjaxError(f"resolution {resolution!r} is not one of {RESOLUTIONS}")
    if internal:
        if model.correction is not None or resolution != "full":
            raise XpjaxError("internal spectra have no correction and no other resolution: leave these out")
        grid = INTERNAL_GRID if wavelength is None else np.asarray(in_unit(wavelength, "", "pseudo-wavelength"), float)
        basis = basis or model.internal_basis
        return _Sampling(model, grid, grid, model.internal_design(grid, basis), resolution, basis)
    if basis is not None:
        raise XpjaxError(f"basis={basis!r} is for internal spectra: pass internal=True")
    wavelength = None if wavelength is None else np.asarray(nanometers(wavelength), float)
    design = model.design(wavelength) if resolution == "full" else model.smoothed_design(wavelength)
    return _Sampling(model, wavelength, model.wavelength if wavelength is None else wavelength, design, resolution)


def _computed(
    table: SourceTable, how: _Sampling, wanted: _Wanted, progress: engine.Progress | None
) -> dict[str, np.ndarray]:
    """What the kernel gives, in physical units. Raises XpjaxError where truncation is not known."""
    c, design = table.coefficients, how.design
    known = c.has_covariance
    errors, correlation = wanted.errors and known, wanted.correlation and known
    if wanted.truncate:
        check_truncation(table, errors or correlation)
    subspace = how.serving(c.covariance.subspace) if c.covariance is not None and (errors or correlation) else None
    if subspace is not None:
        c = c.among(subspace)
    if errors:
        design = how.weighted(subspace)
    c = c.of_errors(errors or correlation, wanted.truncate)
    c = dataclasses.replace(c, release=design.release)
    pairs = 4 * (design.release.n_pair_total if subspace is None else subspace.n_numbers) * errors
    squares = 8 * len(how.grid) ** 2 * (len(design.release.xp) if how.internal else 1) * correlation
    kernel = functools.partial(spectrum_kernel, wanted.truncate, errors, correlation, not how.internal)
    settings: dict[str, Any] = {"float64": wanted.float64, "devices": wanted.devices, "progress": progress}
    settings |= {"work_bytes": (pairs + squares) * (1 + wanted.float64), "batch_rows": wanted.batch_rows}
    return run_guarded(kernel, design, c, guard_rows=wanted.guard_rows, **settings)


def _fade(table: SourceTable, out: dict[str, np.ndarray], how: _Sampling, wanted: _Wanted) -> None:
    """Give stars beyond the limit of a correction a share of its change, and those without an XP none, in place.

    Standard errors of a star with a share add up as those of fully correlated fluxes; its correlations are those of the
    whole change. d^2 (n,) is added as `distance`.
    """
    assert how.model.correction is not None
    domain = how.model.correction.domain
    distance = domain.distance(np.asarray(table.coefficients.value), table.release)
    missing = (out["status"] & np.uint32(sum(BAD))) != 0
    share = np.where(missing, 0.0, domain.share(distance))
    far, none = np.flatnonzero((share > 0) & (share < 1)), np.flatnonzero(share == 0)
    if len(far):
        some = dataclasses.replace(wanted, correlation=False)
        raw = Sampler(how.bare(how.resolution), some)(table[far])
        part = share[far, None].astype(raw.flux.dtype)
        for name in ("flux", "flux_error"):
            if name in out:
                out[name][far] = (1 - part) * getattr(raw, name) + part * out[name][far]
        out["status"][far] |= np.uint32(Status.OUTSIDE_TRAINING)
    if len(none):
        raw = Sampler(how.bare("full"), wanted)(table[none])
        for name in ("flux", "flux_error", "correlation"):
            if name in out and getattr(raw, name) is not None:
                out[name][none] = getattr(raw, name)
        out["status"][none] = raw.status | np.uint32(Status.NOT_CORRECTED)
    out["distance"] = np.where(share > 0, distance, np.nan).astype(out["flux"].dtype)


def _collected(table: SourceTable, out: dict[str, np.ndarray], how: _Sampling, wanted: _Wanted) -> Spectra:
    """The record of what the kernel gave."""
    model, errors = how.model, wanted.errors or wanted.correlation
    status = merge_status(table, out["status"], errors)
    if errors and not table.coefficients.has_covariance:
        status = mark_no_errors(table, status)
    flux, error = out["flux"], out.get("flux_error")
    meta: dict[str, Any] = {"release": model.release.name, "instrument_model": model.model, "truncate": wanted.truncate}
    if how.internal:
        shape = (-1, len(model.release.xp), len(how.grid))
        flux, error = flux.reshape(shape), None if error is None else error.reshape(shape)
        meta["basis"] = how.basis
    else:
        name = NONE if model.correction is None else model.correction.name
        meta |= {"correction": name, "resolution": how.resolution}
    fields = flux, error, out.get("correlation"), status, model.release, meta, out.get("distance")
    told = (TRANSIT_UNITS, TRANSIT_MEANINGS) if table.is_epoch else ()
    return Spectra(table.source_id, how.grid, *fields, Catalogue(table.transits, *told))
