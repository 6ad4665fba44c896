"""Read XP coefficients, from files of any format, tables in memory or arrays, into a `SourceTable`."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import DTypeLike

from xpjax.core.engine import check_values
from xpjax.core.errors import XpjaxError
from xpjax.core.release import DR3, RELEASES, Release, find_release, other_release
from xpjax.core.status import Status
from xpjax.core.types import AnyTable
from xpjax.io.columns import Column
from xpjax.xp.compact import COMPACT
from xpjax.xp.read.assemble import assemble, kept
from xpjax.xp.read.layout import Table, repeated
from xpjax.xp.read.loaders import load
from xpjax.xp.read.releases import check_table, infer_release, sizes_text, untold
from xpjax.xp.sources import AnySources, SourceTable, XPCoefficients, concatenate
from xpjax.xp.store.store import is_store, open_store


def read(
    source: AnyTable | Sequence[AnyTable],
    *,
    release: Release | str | None = None,
    dtype: DTypeLike | None = None,
    keep: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    correlations: str | None = None,
) -> SourceTable:
    """Read XP coefficients from files and tables of any format.

    Parameters
    ----------
    source : path, table, SourceTable, or list of these
        A file (csv, ecsv, fits, VOTable, avro, parquet or xpjax's h5, packed by gzip, bzip2, xz or zip or not), a store
        (`xpjax.ingest`) or one of its files, a HATS catalogue or one of its partitions, a pandas or nested-pandas
        DataFrame, an astropy or pyarrow Table, a structured NumPy array, or a dict of columns, with the archive's names
        of columns, or nested as in HATS catalogues. The tables of a list, or of a file, are joined in order.
    release : Release or str, optional
        The data release, such as "Gaia DR4"; by default the input tells. Of a store of several, the one to be read.
    dtype : type, optional
        float32 or float64; by default that of the input, and float64 of text.
    keep : sequence of str, optional
        Names of the further columns to keep; by default all columns of scalars.
    columns : mapping of str to str, optional
        Which column is what, where names do not say it, as in {"source_id": "object_id", "coefficients":
        "xp.coeff"}: source_id, coefficients, coefficient_errors and coefficient_correlations (BP and RP in one array),
        bp_coefficients and so on (of one XP), or columns of gaia_source. Fields of structures are STRUCTURE.FIELD.
    correlations : {"compact"}, optional
        Make compact covariances of the correlations (`XPCoefficients.compact`), of half of the memory.

    Returns
    -------
    SourceTable
        One row for each source, on the host. Rows that cannot be used are flagged in `status`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    XpjaxError
        If the input as a whole cannot be used.

    Warns
    -----
    UserWarning
        If a server cut a VOTable short, or an input does not tell its release and is taken as Gaia DR3.

    Notes
    -----
    Numbers of coefficients tell the release: BP has 55 in Gaia DR3 and 51 in Gaia DR4, RP 55 in both. Where no source
    has BP, a header that states the release, or the archive's name of the file (`MEAN_SPECTRUM_XP...`), tells it.
    Correlations may be packed strict lower triangles or square; covariances (which the archive gives without the
    squared standard deviation of the fit) are turned into errors and correlations. Kept integers with missing values
    become float64 with NaN, or a masked array of integers where float64 would lose digits. Columns of text of which
    most cells are numbers are numbers, and the odd cells NaN and `Status.CELL_REPAIRED`.

    Examples
    --------
    >>> sources = xpjax.read("xp.parquet")
    >>> len(sources), sources.release.name
    (50, 'Gaia DR3')
    """
    if release is not None and not isinstance(release, Release | str):
        raise XpjaxError(f"release must be the name of a release or an xpjax Release, not {release!r}")
    if correlations not in (None, COMPACT):
        raise XpjaxError(f"correlations must be {COMPACT!r}, or left out, not {correlations!r}")
    wanted = None if release is None else find_release(release)
    return read_for(source, wanted, dtype, keep, columns, said=True, correlations=correlations)


def read_for(
    source: Any,
    release: Release | None,
    dtype: DTypeLike | None = None,
    keep: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    *,
    said: bool = False,
    correlations: str | None = None,
) -> SourceTable:
    """As `read`; said: the release is the user's word, which also overrules what a file says of itself."""
    if dtype is not None and np.dtype(dtype) not in (np.float32, np.float64):
        raise XpjaxError(f"dtype must be None, float32 or float64, not {dtype!r}")
    keep = [keep] if isinstance(keep, str) else keep
    xp = (release or DR3).xp
    sources = source if isinstance(source, list | tuple) else [source]
    if not sources:
        raise XpjaxError("the list of sources is empty; expected at least one file or table")
    items = [item for one in sources for item in _load(one, xp, dtype, release, columns)]
    ready = [item for item in items if isinstance(item, SourceTable)]
    tables = [item for item in items if isinstance(item, Table)]
    if release is not None or ready:
        release = release or _agreed(ready, tables)
        for table in tables:
            check_table(table, release, said)
    else:
        release = _agreed(ready, tables)
    parts = [
        _as_asked(item, release, dtype, keep) if isinstance(item, SourceTable) else assemble(item, release, dtype, keep)
        for item in items
    ]
    if correlations is not None:
        parts = [dataclasses.replace(one, coefficients=one.coefficients.compact()) for one in parts]
    if len(parts) == len(ready) == 1:
        return parts[0]
    joined = parts[0] if len(parts) == 1 else concatenate(parts, f"{parts[0].origin} and {len(parts) - 1} more")
    joined.status[repeated(joined.source_id, joined.transits.get("transit_id"))] |= np.uint32(Status.DUPLICATE)
    return joined


def _agreed(ready: Sequence[SourceTable], tables: Sequence[Table]) -> Release:
    """The release of all sources that are ready and all tables. Raises XpjaxError for several."""
    if not ready:
        release, told = infer_release(tables)
        if not told:
            warnings.warn(untold(tables[0].origin), stacklevel=4)
        return release
    first = ready[0]
    for other in ready[1:]:
        if not other.release.fits(first.release):
            raise XpjaxError(
                f"{first.origin} is of {first.release.name} ({sizes_text(first.release)} coefficients), {other.origin} "
                f"of {other.release.name} ({sizes_text(other.release)}); read each release by itself"
            )
    return first.release


def _load(
    source: Any,
    xp: Sequence[str],
    dtype: DTypeLike | None,
    release: Release | None,
    columns: Mapping[str, str] | None,
) -> Sequence[Table | SourceTable]:
    """The tables of one input, or its sources where it has them ready."""
    if isinstance(source, SourceTable):
        return [source]
    if isinstance(source, str | os.PathLike) and is_store(source):
        return [open_store(source).read(release=release)]
    return load(source, xp, dtype, columns, release)


def _as_asked(table: SourceTable, release: Release, dtype: DTypeLike | None, keep: Sequence[str] | None) -> SourceTable:
    """The same table, or one with the kept columns and the type that are asked for. Raises ValueError."""
    c = table.coefficients
    if not c.release.fits(release):
        raise other_release(table.origin, c.release, release)
    if keep is not None:
        scalars: dict[str, Column] = {"source_id": table.source_id, **table.columns}
        columns, _ = kept(Table(scalars, len(table), table.origin), keep, release.xp)
        table = dataclasses.replace(table, columns=table.transits | columns)
    if dtype is not None and any(a is not None and a.dtype != dtype for a in (c.value, c.error, c.correlation)):
        error, correlation = (None if a is None else np.asarray(a, dtype) for a in (c.error, c.correlation))
        cast = dataclasses.replace(c, value=np.asarray(c.value, dtype), error=error, correlation=correlation)
        table = dataclasses.replace(table, coefficients=cast)
    return table


def as_sources(sources: AnySources, release: Release | None = None) -> SourceTable:
    """Anything that holds sources as a `SourceTable`: one already, XPCoefficients, an array, a file or a table.

    An array is (n_basis_total,) or (n, n_basis_total) coefficients. Files and tables go through `xpjax.read`.
    Raises ValueError where sizes do not fit the release, and for arrays that JAX traces.
    """
    check_values(sources, "xpjax.magnitudes, xpjax.fluxes or xpjax.sampled_spectra")
    if isinstance(sources, SourceTable):
        table = sources
    elif isinstance(sources, XPCoefficients):
        c = _on_host(sources)
        n = len(c.value)
        table = SourceTable(np.arange(1, n + 1), c, np.zeros(n, np.uint32))
    elif isinstance(sources, (np.ndarray, jax.Array)) and sources.dtype.names is None:
        array = np.ma.asanyarray(sources) if np.ma.isMaskedArray(sources) else np.asarray(sources)
        if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.floating):
            raise XpjaxError(f"coefficients must be floats (n, n_basis_total), found {array.dtype} {array.shape}")
        known = (r for r in RELEASES if r.n_basis_total == array.shape[-1])
        return as_sources(XPCoefficients(array, release=release or next(known, DR3)), release)
    else:
        table = read_for(sources, release)
    if release is not None and not table.release.fits(release):
        raise other_release(table.origin, table.release, release)
    return table


def _on_host(source: XPCoefficients) -> XPCoefficients:
    """Coefficients as NumPy arrays of many sources: masked entries are NaN, and what is no float is refused."""
    arrays: dict[str, Any] = {}
    for name in ("value", "error", "correlation", "n_relevant"):
        array, integer = getattr(source, name), name == "n_relevant"
        if array is None:
            continue
        if np.ma.isMaskedArray(array) and not integer:
            array = np.ma.filled(array, np.nan)
        array = np.atleast_2d(np.asarray(array))
        if not np.issubdtype(array.dtype, np.integer if integer else np.floating):
            raise XpjaxError(f"{name} must be {'integers' if integer else 'floats'}, found {array.dtype}")
        arrays[name] = array
    arrays["covariance"] = jax.tree.map(lambda array: np.atleast_2d(np.asarray(array)), source.covariance)
    return dataclasses.replace(source, **arrays)
