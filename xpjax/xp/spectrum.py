"""Sampled spectra with errors and correlations: one product of the coefficients with a constant matrix.

flux = c D; covariance = sum over XP of D_x' K_x D_x, with the merge weights folded into D (Montegriffo et al. 2023).
Where one XP is missing, samples that the other covers are given by it alone, and the others are NaN.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import dot, dot_last_first, pack
from xpjax.core.records import Catalogue, Record
from xpjax.core.release import Release
from xpjax.core.status import Status
from xpjax.core.units import in_unit, nanometers
from xpjax.xp.coefficients import (
    BAD,
    NO_ERROR,
    as_sources,
    covariance,
    mark_no_errors,
    masked,
    merge_status,
    pair_products,
    possible_variance,
    run_guarded,
    usable,
)
from xpjax.xp.correction import DISTANCE_MEANING, NONE, LinearCorrection
from xpjax.xp.instrument import DesignMatrix, Instrument
from xpjax.xp.instrument import load_instrument as load_instrument
from xpjax.xp.sources import SourceTable, XPCoefficients

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
            known = jnp.stack([jnp.all(~jnp.isnan(v)) for v in variance])
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
        norm = jnp.where(covered > 0, design.scale / jnp.where(weight > 0, weight, 1), jnp.nan)
        result = {"flux": _flux_of_each(design, source) * norm}
        status = jnp.where(available, 0, BAD_BITS[: len(available)]).sum().astype(jnp.uint32)
        status |= jnp.where(jnp.any(covered <= 0), int(Status.BAND_MISSING), 0).astype(jnp.uint32)
        if errors:
            variance = _variances(design, source)
            known = jnp.stack([jnp.all(~jnp.isnan(v)) for v in variance])
            status |= jnp.where(available & ~known, NO_ERROR_BITS[: len(variance)], 0).sum().astype(jnp.uint32)
            variance = [jnp.where(ok, v, 0) for ok, v in zip(available, variance, strict=True)]
            result["flux_error"] = jnp.sqrt(_joined(design, variance)) * norm
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
    assert source.error is not None
    parts = []
    for k, (rows, (start, stop)) in enumerate(zip(design.release.slices, design.support, strict=True)):
        own = dot(source.error[rows] ** 2, design.value[rows, start:stop] ** 2)
        parts.append(possible_variance(own + dot(pair_products(source, k), design.pair_weight[k])))
    return parts


def _joined(design: DesignMatrix, parts: list[Array]) -> Array:
    """The sum (n_sample,) of each XP's samples [start, stop)."""
    n = design.value.shape[1]
    padded = [jnp.pad(part, (start, n - stop)) for part, (start, stop) in zip(parts, design.support, strict=True)]
    return jnp.stack(padded).sum(0)


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


@dataclasses.dataclass(frozen=True, repr=False)
class Spectra(Record):
    """Sampled spectra of many sources, on the host.

    source_id (n,); wavelength (n_sample,) [nm], or pseudo-wavelength where internal; flux and flux_error
    (n, n_sample) [W m-2 nm-1], internal (n, n_xp, n_sample) [e-/s]; correlation (n, [n_xp,] n_sample(n_sample-1)/2),
    the strict lower triangle row by row; status (n,). flux_error and correlation are None where they were not asked
    for or the input has no errors or correlations. distance (n,): d^2 from the stars that a linear correction was
    learned from, NaN where it was not applied, None without one.
    """

    source_id: np.ndarray
    wavelength: np.ndarray
    flux: np.ndarray
    flux_error: np.ndarray | None
    correlation: np.ndarray | None
    status: np.ndarray
    release: Release
    internal: bool = False
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    distance: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.source_id)

    def covariance(self, row: int, xp: int | None = None) -> np.ndarray:
        """The full covariance matrix (n_sample, n_sample) of one source; xp chooses BP or RP of internal spectra."""
        if self.correlation is None:
            raise XpjaxError("no correlations here: call spectra(..., correlation=True) on sources that have them")
        if self.flux_error is None:
            raise XpjaxError("no errors here: leave errors=True")
        if self.internal != (xp is not None):
            which = "give xp=0 for BP or xp=1 for RP" if self.internal else "absolute spectra are merged, leave out xp"
            raise XpjaxError(f"{'internal' if self.internal else 'merged'} spectra: {which}")
        pick = (row,) if xp is None else (row, xp)
        sigma = self.flux_error[pick].astype(float)
        matrix = np.eye(len(sigma))
        rows, columns = np.tril_indices(len(sigma), -1)
        matrix[rows, columns] = matrix[columns, rows] = self.correlation[pick]
        return matrix * np.outer(sigma, sigma)

    def catalogue(self, keep: Mapping[str, np.ndarray] | None = None) -> Catalogue:
        """The spectra as a table: one row for each source, or for each source and XP where they are internal.

        keep: further columns, one value for each source, passed on.
        """
        n_xp = len(self.release.xp) if self.internal else 1

        columns: dict[str, np.ndarray] = {"source_id": np.repeat(self.source_id, n_xp)}
        if self.internal:
            columns["xp"] = np.tile([xp.upper() for xp in self.release.xp], len(self))
        for name in ("flux", "flux_error", "correlation"):
            array = getattr(self, name)
            if array is not None:
                columns[name] = array.reshape(-1, array.shape[-1])
        if self.distance is not None:
            columns["xp_correction_distance"] = self.distance
        kept = {name: np.repeat(np.asarray(array), n_xp, axis=0) for name, array in (keep or {}).items()}
        unit = "electron s-1" if self.internal else "W m-2 nm-1"
        table = Catalogue(
            columns,
            units={name: unit for name in ("flux", "flux_error") if name in columns}
            | ({} if self.internal else {"wavelength": "nm"}),
            descriptions={
                "flux": "Flux at each wavelength" if not self.internal else "Flux at each pseudo-wavelength",
                "flux_error": "Standard error of the flux",
                "correlation": "Correlations between samples: strict lower triangle, row by row",
                "xp_correction_distance": DISTANCE_MEANING,
                "xp_status": Status.legend(),
            },
            shared={"wavelength": self.wavelength},
            meta=dict(self.meta),
        )
        return table.with_columns(kept, {"xp_status": np.repeat(self.status, n_xp)})


def spectra(
    sources: Any,
    wavelength: Any = None,
    *,
    internal: bool = False,
    truncate: bool = False,
    errors: bool = True,
    correlation: bool = False,
    float64: bool = False,
    instrument: Instrument | None = None,
    basis: str = "hermite",
    correction: Any = None,
    resolution: str | None = None,
    devices: Any = None,
    progress: engine.Progress | None = None,
) -> Spectra:
    """Sample spectra of many sources: absolute [W m-2 nm-1] on wavelengths [nm], or internal [e-/s].

    sources: SourceTable, XPCoefficients, an array (n, n_basis_total), a file or a table. wavelength: ascending grid
    (n_sample,) in 330..1050 nm, or an astropy Quantity, by default the archive's 343 samples; internal:
    pseudo-wavelengths in -10..70, by default 600 on 0..60. truncate keeps n_relevant bases only. errors and correlation
    are given where the input has correlations. basis: of internal spectra, "hermite" or "bspline_c04". devices: see
    `engine.find_devices`.

    correction: a linear one (`xpjax.xp.correction`), "standard", a file or a `LinearCorrection`; by default that of the
    instrument, none. resolution: "full", or "xp" for spectra as they are seen at XP's own resolving power, to compare
    with models at R(lambda); by default "xp" for corrected spectra, "full" for others, which are as published. A star
    beyond the correction's limit has a share of the change and is flagged OUTSIDE_TRAINING; one without BP or RP is as
    without correction, and is flagged NOT_CORRECTED.

    Raises ValueError for a bad grid, or coefficients that are not of the instrument's release; a bad source is NaN
    and flagged in `status`.
    """
    model = instrument or load_instrument()
    if correction is not None:
        model = model.corrected(correction)
    if resolution is None:
        resolution = "full" if model.correction is None else "xp"
    if resolution not in RESOLUTIONS:
        raise XpjaxError(f"resolution {resolution!r} is not one of {RESOLUTIONS}")
    if internal and (model.correction is not None or resolution != "full"):
        raise XpjaxError("internal spectra have no correction and no other resolution: leave these out")
    if basis != "hermite" and not internal:
        raise XpjaxError(f"basis={basis!r} is for internal spectra: pass internal=True")
    if internal:
        grid = INTERNAL_GRID if wavelength is None else np.asarray(in_unit(wavelength, "", "pseudo-wavelength"), float)
        design = model.internal_design(grid, basis)
    else:
        wavelength = None if wavelength is None else np.asarray(nanometers(wavelength), float)
        grid = model.wavelength if wavelength is None else wavelength
        design = model.design(wavelength) if resolution == "full" else model.smoothed_design(wavelength)
    table = as_sources(sources, design.release)
    c = table.coefficients
    if truncate and c.n_relevant is None:
        raise XpjaxError(f"{table.origin} has no n_relevant_bases columns, so its spectra cannot be truncated")
    known = c.error is not None and c.correlation is not None
    with_errors, with_correlation = errors and known, correlation and known
    if with_errors:
        design = design.with_pair_weights()
    c = XPCoefficients(
        c.value,
        c.error if with_errors or with_correlation else None,
        c.correlation if with_errors or with_correlation else None,
        c.n_relevant if truncate else None,
        design.release,
    )
    n = len(grid)
    pairs = 4 * design.release.n_pair_total * with_errors
    squares = 8 * n**2 * (len(design.release.xp) if internal else 1) * with_correlation
    out = run_guarded(
        lambda guard: spectrum_kernel(truncate, with_errors, with_correlation, not internal, guard),
        design,
        c,
        float64=float64,
        devices=devices,
        work_bytes=(pairs + squares) * (1 + float64),
        progress=progress,
    )
    distance = None
    if model.correction is not None:
        bare = dataclasses.replace(model, correction=None)
        again = functools.partial(
            spectra, wavelength=wavelength, truncate=truncate, errors=errors, correlation=correlation, instrument=bare
        )
        without = functools.partial(again, float64=float64, devices=devices)
        distance = _fade(table, out, model.correction, without, resolution)
    status = merge_status(table, out["status"], errors or correlation)
    if (errors or correlation) and not known:
        status = mark_no_errors(table, status)
    made = _collect(table, model, grid, out, status, internal, truncate, basis if internal else None, resolution)
    return dataclasses.replace(made, distance=distance)


def _fade(
    table: SourceTable, out: dict[str, np.ndarray], correction: LinearCorrection, bare: Any, resolution: str
) -> np.ndarray:
    """Stars beyond the limit of a correction, in place: a share of its change; and those without an XP: none of it.

    Standard errors of a star with a share add up as those of fully correlated fluxes; its correlations are those of the
    whole change. Returns d^2 (n,).
    """
    with engine.precision(float64=True):
        distance = np.asarray(correction.domain.distance(np.asarray(table.coefficients.value), table.release))
    missing = (out["status"] & np.uint32(sum(BAD))) != 0
    share = np.where(missing, 0.0, correction.domain.share(distance))
    far, none = np.flatnonzero((share > 0) & (share < 1)), np.flatnonzero(share == 0)
    if len(far):
        raw = bare(table[far], resolution=resolution, correlation=False)
        part = share[far, None].astype(raw.flux.dtype)
        for name in ("flux", "flux_error"):
            if name in out:
                out[name][far] = (1 - part) * getattr(raw, name) + part * out[name][far]
        out["status"][far] |= np.uint32(Status.OUTSIDE_TRAINING)
    if len(none):
        raw = bare(table[none], resolution="full")
        for name in ("flux", "flux_error", "correlation"):
            if name in out and getattr(raw, name) is not None:
                out[name][none] = getattr(raw, name)
        out["status"][none] = raw.status | np.uint32(Status.NOT_CORRECTED)
    return np.where(share > 0, distance, np.nan).astype(out["flux"].dtype)


def _collect(
    table: SourceTable,
    model: Instrument,
    grid: np.ndarray,
    out: dict[str, np.ndarray],
    status: np.ndarray,
    internal: bool,
    truncate: bool,
    basis: str | None,
    resolution: str,
) -> Spectra:
    """The host record from what the kernel gave, in physical units."""
    n_xp, n = len(model.release.xp), len(grid)
    flux, error, correlation = out["flux"], out.get("flux_error"), out.get("correlation")
    if internal:
        flux = flux.reshape(-1, n_xp, n)
        error = None if error is None else error.reshape(-1, n_xp, n)
    meta: dict[str, Any] = {"release": model.release.name, "instrument_model": model.model, "truncate": truncate}
    if not internal:
        name = NONE if model.correction is None else model.correction.name
        meta |= {"correction": name, "resolution": resolution}
    if basis is not None:
        meta["basis"] = basis
    return Spectra(table.source_id, grid, flux, error, correlation, status, model.release, internal, meta)
