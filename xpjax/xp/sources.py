"""Coefficients of sources, and sources as read.

Records that kernels see are `equinox.Module` pytrees for one source; a batch is a leading axis on every array.
Whatever is not computed with (`source_id`, input columns) lives in the host-only `SourceTable`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, Int

from xpjax.core.archive import TIME_ORIGIN
from xpjax.core.engine import aligned
from xpjax.core.errors import XpjaxError
from xpjax.core.records import AnyArray, Catalogue, Record, Rows
from xpjax.core.release import DR3, Release
from xpjax.core.sky import HEALPIX_LEVEL as HEALPIX_LEVEL, HEALPIX_SHIFT as HEALPIX_SHIFT
from xpjax.core.status import Status
from xpjax.core.types import AnyTable, RowIndex
from xpjax.io.columns import join_columns
from xpjax.io.results import TableResult
from xpjax.xp.compact import CompactCovariance, Subspace, compressed, concatenate_covariances

UNITS = {
    **dict.fromkeys(("ra", "dec"), "deg"),
    **dict.fromkeys(("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "bp_rp"), "mag"),
    **dict.fromkeys(("ebv", "ebv_error"), "mag"),
}
"""Units of columns that are known by name."""
TRANSIT = ("transit_id", "time")
"""Columns that every table of epoch spectra has: the transit (int64, 0 where missing), and its time [d], NaN where
missing."""
TRANSIT_UNITS = {"time": "d"}
TRANSIT_MEANINGS = {
    "transit_id": "Gaia transit identifier",
    "time": f"Time of the transit: barycentric Julian date (TCB) - {TIME_ORIGIN}",
}


class XPCoefficients(eqx.Module):
    """Hold the XP coefficients of one source, or of many on a leading axis; NumPy on the host, JAX in kernels.

    Parameters
    ----------
    value : (..., n_basis_total) array
        Coefficients, those of BP before those of RP; NaN throughout an XP that is missing.
    error : (..., n_basis_total) array, optional
        Standard errors in the same unit. They hold the standard deviation of the fit already. None where the input has
        none: errors are then absent, never guessed.
    correlation : (..., n_pair_total) array, optional
        For each XP in turn the strict lower triangle of the correlation matrix row by row, as in the archive.
    n_relevant : (..., n_xp) array of int, optional
        Number of relevant basis functions, for truncation.
    release : Release
        The data release, from which the sizes come; by default Gaia DR3.
    covariance : CompactCovariance, optional
        Instead of correlations: what passbands and samples can see of the covariance, as `compact` makes it.

    Raises
    ------
    XpjaxError
        If a shape does not fit the release.

    Notes
    -----
    The representation is that of De Angeli et al. 2023, A&A 674, A2.

    Examples
    --------
    >>> stars = xpjax.XPCoefficients(np.ones((3, 110)))
    >>> stars.value.shape
    (3, 110)
    """

    value: Float[AnyArray, "*batch n_basis_total"]
    error: Float[AnyArray, "*batch n_basis_total"] | None = None
    correlation: Float[AnyArray, "*batch n_pair_total"] | None = None
    n_relevant: Int[AnyArray, "*batch n_xp"] | None = None
    release: Release = eqx.field(static=True, default=DR3)
    covariance: CompactCovariance | None = None

    def __check_init__(self) -> None:
        n, n_pair = self.release.n_basis_total, self.release.n_pair_total
        expected = {"value": n, "error": n, "correlation": n_pair, "n_relevant": len(self.release.xp)}
        batch = np.shape(self.value)[:-1]
        for name, size in expected.items():
            array = getattr(self, name)
            if isinstance(array, list | tuple):
                raise XpjaxError(f"{name} must be an array (n, {size}), not a {type(array).__name__}: numpy.asarray it")
            if hasattr(array, "shape") and array.shape != (*batch, size):
                raise XpjaxError(
                    f"{name} has shape {array.shape}, expected {(*batch, size)}: {self.release.name} has "
                    f"{self.release.n_basis} basis functions for {self.release.xp}; pass release= for another one"
                )
        compact = self.covariance
        if compact is not None:
            found = [np.shape(array) for part in compact.parts for array in part]
            space, n_xp = compact.subspace, len(self.release.xp)
            widths = (*space.widths, *space.rest_widths, n_xp, n_xp) if space.whole else (*space.widths, n_xp)
            sizes = [(*batch, size) for size in widths]
            if found != sizes or not compact.subspace.release.fits(self.release):
                raise XpjaxError(f"compact covariances of shapes {found}, expected {sizes} of {compact.subspace}")

    def __getitem__(self, rows: RowIndex) -> XPCoefficients:
        """Some of the sources of a batch."""
        return jax.tree.map(lambda array: array[rows], self)

    @property
    def has_covariance(self) -> bool:
        """Whether there are covariances, of which errors are made: errors and correlations, or compact covariances."""
        return self.covariance is not None or (self.error is not None and self.correlation is not None)

    def of_errors(self, errors: bool, truncate: bool) -> XPCoefficients:
        """What kernels are given: what errors are made of, and n_relevant, only where they are wanted."""
        n_relevant = self.n_relevant if truncate else None
        if not errors:
            return XPCoefficients(self.value, None, None, n_relevant, self.release)
        error = self.error if self.covariance is None else None
        return dataclasses.replace(self, error=error, n_relevant=n_relevant)

    def among(self, subspace: Subspace) -> XPCoefficients:
        """The same with compact covariances, if any, in the axes of a subspace, all or the leading ones."""
        if self.covariance is None:
            return self
        return dataclasses.replace(self, covariance=self.covariance.among(subspace))

    def compact(self) -> XPCoefficients:
        """The same with compact covariances instead of correlations, on the host; without either, as they are.

        They take 5.4 kB a source. Errors of passbands and spectra, corrected or not, change by 2e-4 of themselves;
        truncation and `covariance_matrix` need the correlations. Raises XpjaxError for a release without a subspace.
        """
        if self.error is None or self.correlation is None:
            return self
        made = compressed(np.asarray(self.error), np.asarray(self.correlation), self.release)
        return dataclasses.replace(self, correlation=None, covariance=made)


@dataclasses.dataclass(frozen=True, repr=False)
class SourceTable(Rows, TableResult, Record):
    """Hold sources on the host, as read: identifiers, coefficients, status bits and other columns of the input.

    `xpjax.read` and `xpjax.simulate_sources` make one, `xpjax.write` writes it, and `table[rows]` takes some of the
    sources.

    Parameters
    ----------
    source_id : (n,) array of int64
        Gaia's identifiers, 0 where missing.
    coefficients : XPCoefficients
        Coefficients with a leading axis n, NumPy.
    status : (n,) array of uint32
        Bits of `xpjax.Status` that tell what was found when the sources were read.
    columns : mapping of (n, ...) arrays
        Further columns of the input, by name.
    origin : str
        Where the sources are from, for messages.

    Notes
    -----
    Epoch spectra have a row for each source and transit, and always the columns `transit_id` (int64) and `time` [d],
    the barycentric Julian date in TCB since 2010.0 (2455197.5), as the archive counts. All else is as for mean spectra:
    `is_epoch` tells which they are.

    Examples
    --------
    >>> sources = xpjax.simulate_sources(5, seed=1)
    >>> len(sources[sources.columns["bp_rp"] < 10]), sources.coefficients.value.shape
    (5, (5, 110))
    """

    source_id: np.ndarray
    coefficients: XPCoefficients
    status: np.ndarray
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    origin: str = "memory"

    row_fields = ("source_id", "coefficients", "status", "columns")
    bits = Status

    @property
    def release(self) -> Release:
        """The data release that the sizes of the coefficients come from."""
        return self.coefficients.release

    @property
    def is_epoch(self) -> bool:
        """Whether these are epoch spectra: a row for each source and transit."""
        return all(name in self.columns for name in TRANSIT)

    @property
    def transits(self) -> dict[str, np.ndarray]:
        """transit_id (n,) and time (n,) [d] of epoch spectra; empty for mean spectra."""
        return {name: self.columns[name] for name in TRANSIT} if self.is_epoch else {}

    def __repr__(self) -> str:
        text = super().__repr__()
        if not self.is_epoch:
            return text
        what = f"{len(self):,} epoch spectra of {len(np.unique(self.source_id)):,} sources"
        return text.replace("SourceTable(", f"SourceTable({what}" + ("," if "\n" in text else ", "), 1)

    def catalogue(self) -> Catalogue:
        """XP coefficients as the archive's columns (`bp_coefficients`, ...), then the table's other columns."""
        c, release = self.coefficients, self.release
        columns: dict[str, Any] = {"source_id": self.source_id}
        told = {"source_id": "Gaia source identifier"}

        def add(name: str, column: Any, text: str) -> None:
            columns[name], told[name] = column, text

        for i, (xp, rows) in enumerate(zip(release.xp, release.slices, strict=True)):
            name = xp.upper()
            n_basis = np.full(len(self), release.n_basis[i], np.int16)
            add(f"{xp}_n_parameters", n_basis, f"Number of basis functions of the {name} spectrum")
            if c.n_relevant is not None:
                relevant = np.asarray(c.n_relevant)[:, i]
                add(f"{xp}_n_relevant_bases", relevant, f"Number of relevant basis functions of the {name} spectrum")
            add(f"{xp}_coefficients", c.value[:, rows], f"Basis function coefficients of the {name} spectrum")
            if c.error is not None:
                add(f"{xp}_coefficient_errors", c.error[:, rows], f"Standard errors of the {name} coefficients")
            if c.correlation is not None:
                text = f"Correlation coefficients of the {name} coefficients: strict lower triangle, row by row"
                add(f"{xp}_coefficient_correlations", c.correlation[:, release.pair_slices[i]], text)
            if c.covariance is not None:
                text = f"Compact covariance of the {name} coefficients, in {c.covariance.subspace}: lower triangle"
                add(f"{xp}_covariance", c.covariance.packed[i], text)
                add(f"{xp}_covariance_scale", c.covariance.scale[:, i], f"Factor of {xp}_covariance")
                if c.covariance.rest is not None and c.covariance.rest_scale is not None:
                    text = f"Rest of the compact covariance of the {name} coefficients, of which corrections draw"
                    add(f"{xp}_covariance_rest", c.covariance.rest[i], text)
                    add(f"{xp}_covariance_rest_scale", c.covariance.rest_scale[:, i], f"Factor of {xp}_covariance_rest")
        columns = {"source_id": self.source_id, **self.transits, **columns, **self.columns}
        units = {name: unit for name, unit in UNITS.items() if name in columns}
        if self.is_epoch:
            units, told = units | TRANSIT_UNITS, told | TRANSIT_MEANINGS
        return Catalogue(columns, units, told, meta={"release": release.name})


OneInput: TypeAlias = "SourceTable | XPCoefficients | AnyTable | jax.Array"
AnySources: TypeAlias = "OneInput | Sequence[OneInput]"
"""Anything that holds sources, as `as_sources` takes it; an array is one of coefficients, or structured."""


def concatenate(parts: Sequence[SourceTable], origin: str, *, fill: bool = True) -> SourceTable:
    """The sources of all parts, in order.

    fill: what a part lacks is NaN, no truncation, or an empty text; otherwise all lack the coefficients' errors,
    correlations or numbers of relevant bases that one part lacks. Where a part has compact covariances all get them.
    """
    release, n = parts[0].release, sum(map(len, parts))
    given = [part.coefficients for part in parts]
    subspaces = {c.covariance.subspace for c in given if c.covariance is not None}
    if subspaces:
        given = [c.compact() for c in given]
    if len({part.is_epoch for part in parts}) > 1:
        mean, epoch = (next(part.origin for part in parts if part.is_epoch == kind) for kind in (False, True))
        raise XpjaxError(f"{mean} has mean spectra, {epoch} has epoch spectra (transit_id); read each by itself")

    def joined(name: str) -> np.ndarray | None:
        arrays = [getattr(c, name) for c in given]
        found = [array for array in arrays if array is not None]
        if not found or (len(found) < len(parts) and not fill):
            return None
        if name == "n_relevant":
            arrays = [_all_relevant(part) if a is None else a for a, part in zip(arrays, parts, strict=True)]
        width, dtype = found[0].shape[1], np.result_type(*found)
        whole = [
            np.full((len(part), width), np.nan, dtype) if a is None else a
            for a, part in zip(arrays, parts, strict=True)
        ]
        return np.concatenate(whole, out=aligned((n, width), np.result_type(*whole)))

    sizes, names = [len(part) for part in parts], dict.fromkeys(name for part in parts for name in part.columns)
    columns = {name: join_columns([part.columns.get(name) for part in parts], sizes) for name in names}
    covariance = concatenate_covariances([c.covariance for c in given], sizes, fill) if subspaces else None
    fields: Any = (*map(joined, ("value", "error", "correlation", "n_relevant")), release, covariance)
    source_id, status = (np.concatenate([getattr(part, name) for part in parts]) for name in ("source_id", "status"))
    return SourceTable(source_id, XPCoefficients(*fields), status, columns, origin)


def _all_relevant(part: SourceTable) -> np.ndarray:
    """n_relevant (n, n_xp) of a part that does not say: all basis functions."""
    values = np.asarray(part.coefficients.value)
    present = [~np.isnan(values[:, block]).any(axis=1) for block in part.release.slices]
    return np.stack([n * here for n, here in zip(part.release.n_basis, present, strict=True)], 1).astype(np.int32)
