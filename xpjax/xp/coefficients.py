"""Coefficients: what may be used of them, truncation, covariance and its inverse.

K = diag(e) R diag(e) for each XP, with the archive's errors e, which already hold the standard deviation of the fit;
BP and RP are independent. Truncation keeps the first n_relevant bases: the rest is masked to zero in value and K.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from xpjax.core import engine
from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import dot, inverse_sqrt, pair_index, unpack
from xpjax.core.release import Release
from xpjax.core.status import Status
from xpjax.xp.compact import CompactCovariance, Subspace, expanded, packed_variance, remedy
from xpjax.xp.read.archive import as_sources
from xpjax.xp.sources import AnySources, SourceTable, XPCoefficients

MISSING = (Status.BP_MISSING, Status.RP_MISSING)
BAD = (Status.BP_BAD, Status.RP_BAD)
NO_ERROR = (Status.BP_NO_ERROR, Status.RP_NO_ERROR)


def usable(source: XPCoefficients) -> Bool[Array, " n_xp"]:
    """Which XP of one source have finite coefficients throughout."""
    return jnp.stack([jnp.all(jnp.isfinite(source.value[rows])) for rows in source.release.slices])


def relevant(source: XPCoefficients) -> Bool[Array, " n_basis_total"]:
    """Which coefficients of one source lie within n_relevant; all of an XP where n_relevant is not positive."""
    limits: Any = [source.n_relevant[k] for k in range(len(source.release.xp))]  # type: ignore[index]
    sizes = zip(source.release.n_basis, limits, strict=True)
    return jnp.concatenate([(jnp.arange(n) < limit) | (limit <= 0) for n, limit in sizes])


def masked(source: XPCoefficients, truncate: bool) -> XPCoefficients:
    """One source with unusable XP, and on request the bases beyond n_relevant, set to zero in value and error."""
    available = usable(source)
    keep = jnp.concatenate([jnp.full(n, available[k]) for k, n in enumerate(source.release.n_basis)])
    if truncate:
        keep &= relevant(source)
    value = jnp.where(keep, source.value, 0)
    error = None if source.error is None else jnp.where(keep, source.error, 0)
    compact = source.covariance
    if compact is not None:  # whose axes do not hold what truncation leaves
        assert not truncate
        more = None if compact.rest_scale is None else jnp.where(available, compact.rest_scale, 0)
        compact = dataclasses.replace(compact, scale=jnp.where(available, compact.scale, 0), rest_scale=more)
    return dataclasses.replace(source, value=value, error=error, covariance=compact)


def pair_products(source: XPCoefficients, xp: int | None = None) -> Float[Array, " n_pair"]:
    """e_i e_j rho_ij of one source, the off-diagonal half of K, packed: of one XP (n_pair) or of all (n_pair_total)."""
    assert source.error is not None
    assert source.correlation is not None
    rows, columns, pairs = _pair_places(source.release, xp)
    return source.error[rows] * source.error[columns] * source.correlation[pairs]


@functools.cache
def _pair_places(release: Release, xp: int | None) -> tuple[np.ndarray, np.ndarray, slice]:
    """Where the two errors of each packed correlation lie, and the correlations themselves."""
    chosen = range(len(release.xp)) if xp is None else [xp]
    index = [pair_index(release.n_basis[k]) for k in chosen]
    start = [np.int32(release.slices[k].start) for k in chosen]
    rows, columns = (np.concatenate([i[side] + s for i, s in zip(index, start, strict=True)]) for side in (0, 1))
    return rows, columns, slice(0, release.n_pair_total) if xp is None else release.pair_slices[xp]


def possible_variance(variance: Array) -> Array:
    """Variances as they are, NaN where errors or correlations make them negative or infinite: no errors, not zero."""
    return jnp.where((variance >= 0) & jnp.isfinite(variance), variance, jnp.nan)


def covariance(source: XPCoefficients, xp: int) -> Float[Array, "n_basis n_basis"]:
    """K (n_basis, n_basis) of one XP of one source, in squared units of the coefficients.

    Of compact covariances it is right for projections in the axes that are used alone (`Subspace.check`).
    """
    if source.covariance is not None:
        return expanded(source.covariance, xp)
    assert source.error is not None
    assert source.correlation is not None
    n = source.release.n_basis[xp]
    error = source.error[source.release.slices[xp]]
    return unpack(source.correlation[source.release.pair_slices[xp]], n) * error[:, None] * error[None, :]


def inverse_sqrt_covariance(source: XPCoefficients, xp: int) -> Float[Array, "n_basis n_basis"]:
    """L^-1 diag(1/e) (n_basis, n_basis) of one XP, L L' = R: whitens residuals, chi2 = |L^-1 diag(1/e) dc|^2.

    NaN where R is not positive definite. GaiaXPy divides the errors by the standard deviation of the fit first; the
    archive's errors include it, and so does this.
    """
    assert source.error is not None
    assert source.correlation is not None
    n = source.release.n_basis[xp]
    root = inverse_sqrt(unpack(source.correlation[source.release.pair_slices[xp]], n))
    return root / source.error[source.release.slices[xp]][None, :]


def inverse_covariance(source: XPCoefficients, xp: int) -> Float[Array, "n_basis n_basis"]:
    """K^-1 (n_basis, n_basis) of one XP of one source, in inverse squared units of the coefficients."""
    root = inverse_sqrt_covariance(source, xp)
    return dot(root.T, root)


_MATRICES = {"covariance": covariance, "inverse": inverse_covariance, "inverse_sqrt": inverse_sqrt_covariance}


@functools.cache
def _matrix_kernel(kind: str, xp: int) -> engine.Kernel:
    return lambda _, source: _MATRICES[kind](source, xp)


def covariance_matrix(
    sources: AnySources, xp: str, kind: str = "covariance", *, float64: bool = True, devices: engine.Devices = None
) -> np.ndarray:
    """Return covariance matrices of the coefficients of one XP, their inverses or inverse square roots.

    Parameters
    ----------
    sources : SourceTable, XPCoefficients, array, table or path
        What `xpjax.photometry` takes, with errors and correlations.
    xp : str
        `bp` or `rp`.
    kind : str
        `covariance` K, `inverse` K^-1, or `inverse_sqrt` L^-1 with L L' = K, so that chi^2 = |L^-1 dc|^2.
    float64 : bool
        Whether to compute in double precision.
    devices : str, int or list, optional
        Devices to use, as of `xpjax.photometry`; by default JAX's first.

    Returns
    -------
    (n, n_basis, n_basis) array
        The matrices, in (inverse) squared units of the coefficients; NaN for a source without errors or correlations,
        or whose correlation matrix is not positive definite.

    Raises
    ------
    XpjaxError
        If `kind` or `xp` is unknown, or no source has errors and correlations.

    Notes
    -----
    K = diag(e) R diag(e), with the archive's errors e, which hold the standard deviation of the fit already, and the
    correlation matrix R (De Angeli et al. 2023, A&A 674, A2).

    Examples
    --------
    >>> xpjax.covariance_matrix(xpjax.simulate_sources(2, seed=1), "bp").shape
    (2, 55, 55)
    """
    table = as_sources(sources)
    if table.coefficients.covariance is not None:
        raise XpjaxError(f"{table.origin} has compact covariances, which hold no whole matrix; {remedy()}")
    if kind not in _MATRICES:
        raise XpjaxError(f"no kind {kind!r}; choose from {sorted(_MATRICES)}")
    if xp.lower() not in table.release.xp:
        raise XpjaxError(f"no XP {xp!r}; {table.release.name} has {table.release.xp}")
    if table.coefficients.error is None or table.coefficients.correlation is None:
        raise XpjaxError(
            f"{table.origin} has no errors or no correlations, so the covariance is not known (glossary: correlations)"
        )
    k = table.release.xp.index(xp.lower())
    work_bytes = 16 * table.release.n_basis[k] ** 2
    return engine.run(
        _matrix_kernel(kind, k), (), table.coefficients, float64=float64, devices=devices, work_bytes=work_bytes
    )


def run_guarded(
    kernel: Callable[[bool], engine.Kernel],
    constants: Any,
    coefficients: XPCoefficients,
    *,
    progress: engine.Progress | None = None,
    guard_rows: int | None = None,
    **settings: Any,
) -> dict[str, np.ndarray]:
    """Run a kernel on many sources: unguarded on all, then guarded and in float64 on the few that need it.

    kernel(guard) gives the kernel. Unguarded it may let one bad number spoil a whole source, but must flag such a
    source in `status` (BAND_MISSING, NO_ERROR): most sources are complete, and spare the passes over memory. float64
    tells a variance that is impossible from one that float32 rounded below zero. guard_rows: rows of a batch of these
    few, where they are to compile once for any number. settings go to `engine.run`.
    """
    settings["least_rows"] = engine.LEAST_ROWS
    out = engine.run(kernel(False), constants, coefficients, progress=progress, **settings)
    again = np.flatnonzero(out["status"] & np.uint32(Status.BAND_MISSING | NO_ERROR[0] | NO_ERROR[1]))
    if len(again):
        part = jax.tree.map(lambda x: x[again], coefficients)
        settings |= {"float64": True, "batch_rows": guard_rows}
        for key, array in engine.run(kernel(True), constants, part, **settings).items():
            out[key][again] = array
    return out


def coefficient_errors(source: XPCoefficients, truncate: bool) -> np.ndarray:
    """Standard errors (n, n_basis_total) of coefficients with covariances, float32: zero where they are not used.

    Those are coefficients of an XP without errors, and with truncate those beyond n_relevant.
    """
    if source.covariance is None:
        error = np.asarray(source.error, np.float32)
    else:
        out = engine.run(_compact_variances, _unit_weights(source.covariance.subspace), source.covariance)
        error = np.sqrt(np.maximum(out["variance"], 0))
    error = np.where(np.isfinite(error), error, 0)
    if not truncate:
        return error
    kept = jax.vmap(relevant)(XPCoefficients(source.value, None, None, source.n_relevant, source.release))
    return np.where(np.asarray(kept), error, 0)


@functools.lru_cache(maxsize=4)  # a store's pieces come one after the other
def _unit_weights(space: Subspace) -> tuple[tuple[np.ndarray, ...], ...]:
    """Weights of the counts of each XP, for the variances of its coefficients."""
    unit = np.eye(space.release.n_basis_total)
    return tuple(space.weights(unit[:, rows], k) for k, rows in enumerate(space.release.slices))


def _compact_variances(weights: Any, covariance: CompactCovariance) -> dict[str, Array]:
    """The variances (n_basis_total,) of one source."""
    return {"variance": jnp.concatenate([packed_variance(covariance, k, w) for k, w in enumerate(weights)])}


def check_truncation(table: SourceTable, errors: bool) -> None:
    """Raise XpjaxError where spectra cannot be truncated: without n_relevant, or errors of compact covariances."""
    if table.coefficients.n_relevant is None:
        raise XpjaxError(
            f"{table.origin} has no n_relevant_bases columns, so its spectra cannot be truncated "
            "(glossary: n_relevant_bases)"
        )
    if errors and table.coefficients.covariance is not None:
        raise XpjaxError(
            f"{table.origin} has compact covariances, which do not hold the errors of truncated spectra; do not "
            f"truncate: {say('truncate=False', '--no-truncate')}, {remedy()}, or leave errors out: "
            f"{say('errors=False', '--no-errors')}"
        )


def merge_status(table: SourceTable, computed: np.ndarray, errors: bool) -> np.ndarray:
    """Status (n,) uint32 of results: what the reader knew, joined with what the kernels found.

    A kernel only sees that an XP is unusable (BAD); if its coefficients are all NaN and the reader did not complain,
    it is missing. Bits on errors are dropped where no errors were asked for.
    """
    status = table.status.astype(np.uint32)
    special = np.uint32(sum(MISSING) | sum(BAD) | sum(NO_ERROR))
    if not np.any((status | computed) & special):
        return status | computed
    computed = computed.copy()
    for rows, missing, bad, no_error in zip(table.release.slices, MISSING, BAD, NO_ERROR, strict=False):
        found = np.flatnonzero((computed & bad) != 0)
        computed[found] &= ~np.uint32(bad)
        new = found[(status[found] & (missing | bad)) == 0]
        absent = np.all(np.isnan(table.coefficients.value[new, rows]), axis=-1)
        status[new] |= np.where(absent, np.uint32(missing), np.uint32(bad))
        unknown = (status & (missing | bad)) != 0
        status[unknown] &= ~np.uint32(no_error)
        computed[unknown] &= ~np.uint32(no_error)
    status |= computed
    if not errors:
        status &= ~np.uint32(NO_ERROR[0] | NO_ERROR[1])
    return status


def mark_no_errors(table: SourceTable, status: np.ndarray) -> np.ndarray:
    """The status with NO_ERROR bits for every XP that is there: the input has no errors or correlations at all."""
    status = status.copy()
    for missing, bad, no_error in zip(MISSING, BAD, NO_ERROR, strict=True):
        status[(status & (missing | bad)) == 0] |= np.uint32(no_error)
    return status
