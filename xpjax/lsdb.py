"""Photometry and spectra of LSDB catalogues: lazily, partition by partition, on any Dask cluster.

A catalogue is what `lsdb.open_catalog` gives, after cone searches, cross-matches or whatever else: with XP coefficients
nested as in the public HATS copy of Gaia DR3's (UniverseTBD/mmu_gaia_gaia) or in what `xpjax store export` writes, in
the archive's columns, or in columns that are named. What is given back is an LSDB catalogue too.

A process computes one partition at a time, on all of its cores: one worker for two cores, with one thread, is best.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from xpjax.core import engine
from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError
from xpjax.core.release import DR3, Release, find_release
from xpjax.core.types import PathLike
from xpjax.io.tables import open_table
from xpjax.synthetic import AnySystem, Photometer, Photometry, as_system, stated_release
from xpjax.xp import AnyLinear, Instrument, Sampler, SourceTable, Spectra, read, used_columns

if TYPE_CHECKING:
    from lsdb.catalog import Catalog

__all__ = ["photometry", "spectra"]

BATCH_ROWS, GUARD_ROWS = 2048, engine.LEAST_ROWS
"""Rows of a batch, of one of the few sources that are computed again, or where each source is a matrix.

All partitions have batches of one size: every process compiles once.
"""
_COMPUTING = threading.Lock()
CATALOGUE = "the catalogue"
"""How messages call it."""


def photometry(
    catalog: Catalog | PathLike,
    system: AnySystem | Sequence[AnySystem],
    *,
    columns: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
    release: Release | str | None = None,
    truncate: bool = False,
    errors: bool = True,
    error_correction: bool = False,
    correction: AnyLinear = None,
    float64: bool = False,
    devices: Devices = None,
) -> Catalog:
    """Compute synthetic photometry of an LSDB catalogue, lazily, as another LSDB catalogue.

    Parameters
    ----------
    catalog : lsdb.Catalog, or path
        The catalogue, with XP coefficients; a path is opened by `lsdb.open_catalog`.
    system : PhotometricSystem, str, Passband, PassbandSet, or a list of these
        As for `xpjax.photometry`.
    columns : mapping of str to str, optional
        Which column is what, where names do not say it, as for `xpjax.read`.
    keep : sequence of str, optional
        Columns of the catalogue to pass on, besides its positions; numbers of structures as STRUCTURE.FIELD.
    release : Release or str, optional
        The data release of the coefficients; by default each partition tells.
    truncate, errors, error_correction, correction, float64, devices
        As for `xpjax.photometry`.

    Returns
    -------
    lsdb.Catalog
        With source_id, the positions, the columns that are kept, those of `xpjax.photometry(...).catalogue()`, and
        xp_status. Nothing is read before it is computed or written.

    Raises
    ------
    XpjaxError
        If the catalogue has no XP coefficients, or the call is wrong.

    Warns
    -----
    UserWarning
        If the catalogue has no correlations: errors are then absent, never guessed.

    Examples
    --------
    >>> import lsdb
    >>> frame = xpjax.read("xp.parquet").to_pandas()
    >>> catalog = lsdb.from_dataframe(frame, margin_threshold=None)
    >>> stars = xpjax.lsdb.photometry(catalog, "SDSS", errors=False, keep=["bp_rp"])
    >>> list(stars.columns[:5])
    ['source_id', 'ra', 'dec', 'bp_rp', 'Sdss_mag_u']
    """
    known = None if release is None else find_release(release)
    bands = as_system(system, correction, release=known or stated_release(system) or DR3)
    options = {
        "errors": errors, "truncate": truncate, "error_correction": error_correction, "float64": float64,
    }  # fmt: skip
    Photometer(bands, **options)  # refuses what does not go together

    def prepare(release: Release) -> Callable[[SourceTable], Photometry]:
        photometer = Photometer(as_system(system, correction, release=release), **options)
        return functools.partial(photometer, devices=devices, batch_rows=BATCH_ROWS, guard_rows=GUARD_ROWS)

    token = _token("photometry", bands, bands.columns, options, devices)
    return _mapped(catalog, _Job(prepare, _photometry_columns, token, columns, tuple(keep), known, errors, float64))


def spectra(
    catalog: Catalog | PathLike,
    wavelength: ArrayLike | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
    release: Release | str | None = None,
    internal: bool = False,
    truncate: bool = False,
    errors: bool = True,
    correlation: bool = False,
    float64: bool = False,
    instrument: Instrument | None = None,
    correction: AnyLinear = None,
    resolution: str | None = None,
    devices: Devices = None,
) -> Catalog:
    """Sample spectra of an LSDB catalogue, lazily, as another LSDB catalogue with nested spectra.

    Parameters
    ----------
    catalog : lsdb.Catalog, or path
        The catalogue, with XP coefficients; a path is opened by `lsdb.open_catalog`.
    wavelength : (n_sample,) array [nm], optional
        As for `xpjax.spectra`.
    columns : mapping of str to str, optional
        Which column is what, where names do not say it, as for `xpjax.read`.
    keep : sequence of str, optional
        Columns of the catalogue to pass on, besides its positions; numbers of structures as STRUCTURE.FIELD.
    release : Release or str, optional
        The data release of the coefficients; by default each partition tells.
    internal, truncate, errors, correlation, float64, instrument, correction, resolution, devices
        As for `xpjax.spectra`.

    Returns
    -------
    lsdb.Catalog
        With source_id, the positions, the columns that are kept, the nested column `spectrum` of wavelength [nm], flux
        and flux_error [W m-2 nm-1], and xp_status. Internal spectra are `bp_spectrum` and `rp_spectrum` [e-/s], and
        correlations lists in columns of their own.

    Raises
    ------
    XpjaxError
        If the catalogue has no XP coefficients, or the call is wrong.

    Warns
    -----
    UserWarning
        If the catalogue has no correlations: errors are then absent, never guessed.

    Examples
    --------
    >>> import lsdb
    >>> catalog = lsdb.from_dataframe(xpjax.read("xp.parquet").to_pandas(), margin_threshold=None)
    >>> sampled = xpjax.lsdb.spectra(catalog, np.arange(400.0, 900.0, 10.0), errors=False)
    >>> list(sampled.columns), len(sampled.compute()["spectrum.flux"])
    (['source_id', 'ra', 'dec', 'spectrum', 'xp_status'], 2500)
    """
    known = None if release is None else find_release(release)
    options: dict[str, Any] = {
        "internal": internal, "truncate": truncate, "errors": errors, "correlation": correlation, "float64": float64,
        "instrument": instrument, "correction": correction, "resolution": resolution, "devices": devices,
    }  # fmt: skip

    def prepare(release: Release) -> Callable[[SourceTable], Spectra]:
        rows = (GUARD_ROWS, GUARD_ROWS) if correlation else (BATCH_ROWS, GUARD_ROWS)
        return Sampler.of(release, wavelength, batch_rows=rows[0], guard_rows=rows[1], **options)

    sampler = Sampler.of(known or (instrument.release if instrument is not None else DR3), wavelength, **options)
    token = _token("spectra", [sampler.how.design, sampler.how.grid], options)
    noise = errors or correlation
    return _mapped(catalog, _Job(prepare, _spectra_columns, token, columns, tuple(keep), known, noise, float64))


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """What is done to a partition; plain data, which Dask sends to its workers.

    prepare(release) makes what computes; columns_of(result) gives the columns of a result. token: what the rows depend
    on besides; used: the columns of a partition that hold what is read, by what they are.
    """

    prepare: Callable[[Release], Callable[[SourceTable], Any]]
    columns_of: Callable[[Any], dict[str, Any]]
    token: str
    columns: Mapping[str, str] | None
    keep: tuple[str, ...]
    release: Release | None
    errors: bool
    float64: bool
    positions: tuple[str, ...] = ()
    used: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __dask_tokenize__(self) -> Any:
        release = None if self.release is None else self.release.name
        return [self.token, self.keep, self.positions, sorted(self.used.items()), release, self.float64]

    def __hash__(self) -> int:
        return hash(self.token)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Job) and self.token == other.token

    def of_catalog(self, catalog: Any) -> _Job:
        """The job for the columns of a catalogue. Raises XpjaxError for columns that are not there."""
        info, table = catalog.hc_structure.catalog_info, open_table(catalog.meta)
        table.origin = CATALOGUE
        used = used_columns(table, DR3.xp, self.columns, errors=self.errors)
        kinds = {name for name in used if name.endswith("coefficients")}
        if "source_id" not in used or not (kinds & {"coefficients"} or len(kinds) == len(DR3.xp)):
            raise XpjaxError(
                f"{CATALOGUE}: no XP coefficients under names that are known, but {', '.join(table.names[:20])}; name "
                'them by columns={"source_id": ..., "coefficients": ...}'
            )
        positions = tuple(name for name in (info.ra_column, info.dec_column) if name in catalog.meta.columns)
        for name in self.keep:
            if name not in catalog.meta.columns:
                table.check(name, "keep")
        return dataclasses.replace(self, used=used, positions=positions)

    @property
    def has_correlations(self) -> bool:
        """Whether a partition has what errors need."""
        return any(name.endswith(("correlations", "covariances", "covariance_matrix")) for name in self.used)

    def __call__(self, frame: Any) -> Any:
        """The result of a partition, row by row, with its index."""
        from nested_pandas import NestedFrame

        first = dict.fromkeys(name if name in frame.columns else name.partition(".")[0] for name in self.used.values())
        dtype = np.float64 if self.float64 else np.float32
        release = self.release or (DR3 if not len(frame) else None)
        part = open_table(frame[list(first)].reset_index(drop=True))
        part.origin = CATALOGUE
        table = read(part, release=release, dtype=dtype, keep=(), columns=self.used)
        with _COMPUTING:
            result = _prepared(self, table.release)(table)
        columns = {"source_id": _arrow(result.source_id)}
        columns |= {name: frame[name].array for name in self.positions}
        for name, column in [*((n, _kept(frame, n)) for n in self.keep), *self.columns_of(result).items()]:
            short = name if name in frame.columns else name.rpartition(".")[2]
            if short not in columns:
                columns[short] = column
            elif short not in ("source_id", *self.positions):
                raise XpjaxError(f"keep: the result has a column {short!r} of its own; leave {name!r} out")
        return NestedFrame(columns, index=frame.index)


@functools.lru_cache(maxsize=4)
def _prepared(job: _Job, release: Release) -> Callable[[SourceTable], Any]:
    """What computes the sources of a release, once for all partitions that a process does."""
    return job.prepare(release)


def _mapped(catalog: Any, job: _Job) -> Any:
    """The catalogue with every partition, and those of its margin, replaced by the job's result."""
    if isinstance(catalog, str) or hasattr(catalog, "__fspath__"):
        import lsdb

        catalog = lsdb.open_catalog(catalog)
    if not (hasattr(catalog, "map_partitions") and hasattr(catalog, "hc_structure")):
        raise XpjaxError(
            f"{type(catalog).__name__} is no LSDB catalogue; open one with lsdb.open_catalog(path), or use "
            "xpjax.photometry and xpjax.spectra, which take files and tables"
        )
    job = job.of_catalog(catalog)
    if job.errors and not job.has_correlations:
        warnings.warn(
            "the catalogue has no correlations of the coefficients: results come without errors, which are never "
            "guessed; errors=False leaves this message out",
            stacklevel=3,
        )
    return catalog.map_partitions(job, meta=job(catalog.meta.iloc[:0]))


def _photometry_columns(result: Photometry) -> dict[str, Any]:
    """The columns of photometry but source_id."""
    columns = result.catalogue().columns
    return {name: _arrow(column) for name, column in columns.items() if name != "source_id"}


def _spectra_columns(result: Spectra) -> dict[str, Any]:
    """Nested columns of spectra, and what else is known of them."""
    n, axis = len(result), "wavelength"
    kinds = {"flux": result.flux, "flux_error": result.flux_error}
    arrays = {name: array for name, array in kinds.items() if array is not None}
    columns: dict[str, Any] = {}
    if result.internal:
        axis = "pseudo_wavelength"
        parts = {f"{xp}_": {name: a[:, k] for name, a in arrays.items()} for k, xp in enumerate(result.release.xp)}
    else:
        parts = {"": arrays}
    for k, (prefix, own) in enumerate(parts.items()):
        grid = np.broadcast_to(result.wavelength, (n, len(result.wavelength)))
        columns[f"{prefix}spectrum"] = _nested({axis: grid, **own})
        if result.correlation is not None:
            matrix = result.correlation[:, k] if result.internal else result.correlation
            columns[f"{prefix}correlation"] = _arrow(matrix)
    if result.distance is not None:
        columns["xp_correction_distance"] = _arrow(result.distance)
    return {**columns, "xp_status": _arrow(result.status)}


def _arrow(column: np.ndarray) -> Any:
    """A column (n,) or (n, k) for data frames, as LSDB has them: of Arrow's numbers, or of lists."""
    import pandas as pd
    import pyarrow as pa

    array = pa.array(np.ascontiguousarray(column)) if column.ndim == 1 else _lists(column)
    return pd.arrays.ArrowExtensionArray(array)


def _lists(rows: np.ndarray) -> Any:
    """Rows (n, k) as an Arrow array of lists."""
    import pyarrow as pa

    n, k = rows.shape
    offsets = np.arange(n + 1, dtype=np.int64) * k
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(rows).ravel()))


def _nested(fields: Mapping[str, np.ndarray]) -> Any:
    """A nested column of fields (n, k)."""
    import pyarrow as pa
    from nested_pandas.series.ext_array import NestedExtensionArray

    lists = [_lists(rows) for rows in fields.values()]
    return NestedExtensionArray(pa.StructArray.from_arrays(lists, list(fields)))


def _kept(frame: Any, name: str) -> Any:
    """A column of a partition, or the numbers that structures hold under a name."""
    if name in frame.columns:
        return frame[name].array
    first, *path = name.split(".")
    series = frame[first]
    for k, field in enumerate(path):
        if hasattr(series, "nest"):  # a nested column of lists
            return series.nest.to_lists([".".join(path[k:])]).iloc[:, 0].array
        series = series.struct.field(field)
    return series.array


def _token(kind: str, tree: Any, *more: Any) -> str:
    """What results depend on, in short: the arrays of a tree, and whatever else."""
    digest = hashlib.sha256(repr((kind, more)).encode())
    for leaf in jax.tree.leaves((tree, [value for value in more if not isinstance(value, str)])):
        if hasattr(leaf, "tobytes"):
            digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]
