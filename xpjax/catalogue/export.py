"""A store as a HATS catalogue: coefficients with errors, and correlations, in nested columns.

    spectral_coefficients    coeff, coeff_error   lists of float32, BP then RP: as in the public HATS copy of Gaia DR3's
    spectral_correlations    coeff_correlation    strict lower triangle by rows, of BP then of RP

Correlations are a column of their own, because the lists of a nested column are of one length. Pixels are written one
by one from the rows of the store that lie in them: nothing waits on the disk, and memory holds one group of rows.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.catalogue import hats
from xpjax.catalogue.job import BLOCK_ROWS, STATE
from xpjax.catalogue.locks import flock, read_json, write_json
from xpjax.catalogue.parts import WHOLE
from xpjax.core.engine import Progress
from xpjax.core.errors import XpjaxError, say
from xpjax.core.release import Release
from xpjax.core.status import Status
from xpjax.core.version import __version__
from xpjax.io.atomic import expanded
from xpjax.io.gaps import has_gaps
from xpjax.xp import COMPACT, Store, StoreFile, open_store

if TYPE_CHECKING:
    import pyarrow

PIXEL_BYTES, GROUP_BYTES = 2**28, 2**26
"""Bytes of a pixel and of a group of rows: what LSDB's users have in memory for a partition, and what is written."""


@dataclasses.dataclass(frozen=True)
class HatsReport:
    """What was exported: pixels, rows, and how many of these have no position of their own."""

    output: Path
    pixels: int
    rows: int
    unplaced: int


def export_hats(
    store: Store | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    release: Release | str | None = None,
    correlations: bool = True,
    hats_rows: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> HatsReport:
    """Write a store as a HATS catalogue with nested coefficients, which LSDB, hats and `xpjax.read` open.

    Parameters
    ----------
    store : Store or path
        The sources.
    output : path
        Directory of the catalogue; it is made.
    release : Release or str, optional
        The data release to export, of a store with several.
    correlations : bool, optional
        Write correlations, where the store has them: errors of what is computed need them, and they are 12 kB a source.
    hats_rows : int, optional
        The most rows in a pixel; by default as many as have 256 MB.
    resume : bool, optional
        Go on with what another run left: pixels that are there are kept.
    progress : callable, optional
        Called with the number of sources written.

    Returns
    -------
    HatsReport
        The numbers of pixels and rows.

    Raises
    ------
    XpjaxError
        If the store is damaged, empty or of several releases, or resumed with other options.
    FileExistsError
        If the output has content, without resume.

    Notes
    -----
    Rows are by position: ra and dec of the store, else the centers of source_id's pixels of order 12, which
    `position_from_source_id` tells. Further columns of the store and xp_status are passed on; values are those of the
    store to the bit.

    Examples
    --------
    >>> xpjax.xp.write_store_file("store.h5", xpjax.simulate_sources(20, seed=1))
    >>> xpjax.catalogue.export_hats("store.h5", "hats").rows
    20
    >>> xpjax.read("hats").coefficients.correlation.shape
    (20, 2970)
    """
    store = store if isinstance(store, Store) else open_store(store)
    store = store if release is None else store.only(release)
    damaged = [file.damage for file in store.files if file.damage]
    if damaged:
        raise XpjaxError(damaged[0])
    if hats_rows is not None and hats_rows < 1:
        raise XpjaxError(f"a pixel of a HATS catalogue needs at least one row, not {hats_rows}")
    job = _Export.of(store, correlations, hats_rows)
    output = expanded(output).absolute()
    state = _begun(output, resume)
    with flock(state / "lock-export"):
        before = read_json(state / "export.json")
        for name, value in job.options.items():
            if before and before.get(name) != value:
                raise XpjaxError(
                    f"{output} was begun with other options: {name} was {before.get(name)!r}, now {value!r}; give the "
                    "same ones, or another output"
                )
        write_json(state / "export.json", job.options)
        return job.write(output, progress)


def _begun(output: Path, resume: bool) -> Path:
    """The folder of an export's records, made. Raises FileExistsError for an output with content, without resume."""
    state = output / STATE
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"the output {output} is a file; name a directory")
    if output.exists() and any(output.iterdir()) and not (resume and state.is_dir()):
        option = say("resume=True", "--resume")
        raise FileExistsError(f"the output {output} has content; name another one, or go on with an export by {option}")
    state.mkdir(parents=True, exist_ok=True)
    return state


@dataclasses.dataclass(frozen=True)
class _Export:
    """A store on its way to a HATS catalogue; columns: further ones; correlations: whether they are written."""

    store: Store
    columns: tuple[str, ...]
    correlations: bool
    relevant: bool
    hats_rows: int
    group: int

    @classmethod
    def of(cls, store: Store, correlations: bool, hats_rows: int | None) -> _Export:
        """The export of a store. Raises XpjaxError for columns whose names are taken."""
        release = store.release
        if correlations and store.correlations == COMPACT:
            option = say("correlations=False", "--no-correlations")
            raise XpjaxError(
                f"{store.path} has compact covariances, which HATS catalogues do not hold: leave them out by {option}, "
                "or export a store with correlations"
            )
        correlations = correlations and store.has_errors and store.correlations != "none"
        row = max(file.row_bytes(correlations, store.has_errors) for file in store.files)
        columns = tuple(name for name in store.columns if name not in ("ra", "dec"))
        own = {*_Export._own(release), hats.INDEX, hats.GUESSED, "spectral_coefficients", "spectral_correlations"}
        if taken := sorted(own & {*columns}):
            raise XpjaxError(f"{store.path}: the columns {taken} have names that the catalogue needs; rename them")
        relevant = all(file.read(0, 0).coefficients.n_relevant is not None for file in store.files)
        group = max(GROUP_BYTES // (row * BLOCK_ROWS), 1) * BLOCK_ROWS
        return cls(store, columns, correlations, relevant, hats_rows or max(PIXEL_BYTES // row, 1), group)

    @staticmethod
    def _own(release: Release) -> list[str]:
        return [f"{xp}_n_relevant_bases" for xp in release.xp]

    @property
    def options(self) -> dict[str, Any]:
        """What the catalogue depends on, as JSON: an export is only resumed with the same."""
        files = [[file.name, len(file)] for file in self.store.files]
        return {
            "store": self.store.path.name,
            "files": files,
            "release": self.store.release.name,
            "correlations": self.correlations,
            "columns": list(self.columns),
            "hats_rows": self.hats_rows,
        }

    def write(self, output: Path, progress: Progress | None) -> HatsReport:
        """Write all pixels, and then the metadata."""
        counts = np.zeros(12 * 4**hats.COUNT_ORDER, np.int64)
        found: list[np.ndarray] = []
        unplaced = 0
        for file in self.store.files:
            place = _place(file)
            own = hats.count(place.index)
            counts += own
            found.append(np.flatnonzero(own))
            unplaced += int(place.guessed.sum())
        pixels = hats.choose_pixels(counts, self.hats_rows)
        shift = 2 * (hats.INDEX_ORDER - hats.COUNT_ORDER)
        edges = np.array([pixel.span for pixel in pixels], np.int64).reshape(-1, 2) >> shift
        files: list[list[StoreFile]] = [[] for _ in pixels]
        for file, own in zip(self.store.files, found, strict=True):
            low, high = np.searchsorted(own, edges.T)
            for k in np.flatnonzero(high > low).tolist():
                files[k].append(file)
        schema = self.schema()
        parts = [
            (pixel, functools.partial(self._tables, pixel, of, schema)) for pixel, of in zip(pixels, files, strict=True)
        ]
        rows = np.cumsum([pixel.rows for pixel in pixels])
        told = None if progress is None else lambda done, of: progress(int(rows[done - 1]))
        made = hats.build(output, parts, schema, self._properties(unplaced), told, self.group)
        return HatsReport(output, made["pixels"], made["rows"], unplaced)

    def _properties(self, unplaced: int) -> dict[str, str]:
        """What the catalogue says of itself."""
        release, store = self.store.release, self.store
        kinds = ["coefficients", *["errors"] * store.has_errors, *["correlations"] * self.correlations]
        n = " and ".join(f"{n} of {xp.upper()}" for xp, n in zip(release.xp, release.n_basis, strict=True))
        guessed = f"center of the HEALPix pixel of order {hats.HEALPIX_LEVEL} in source_id"
        positions = f"ra, dec of the store; of {unplaced} rows without these the {guessed}"
        return {
            "obs_title": f"{release.name} XP spectra: {', '.join(kinds)} of the mean spectra",
            "obs_description": f"{n}, BP before RP, in spectral_coefficients; correlations in spectral_correlations",
            "prov_progenitor": f"xpjax store {store.path.name}, {len(store.files)} files",
            "hats_builder": f"xpjax {__version__}",
            "xpjax_release": release.name,
            "xpjax_positions": positions if {"ra", "dec"} <= {*store.columns} else guessed,
        }

    def schema(self) -> pyarrow.Schema:
        """The columns with their units and meanings."""
        import json

        import pyarrow as pa

        store, release = self.store, self.store.release
        units = {name: unit for file in reversed(store.files) for name, unit in file.units.items()}
        units |= {"ra": "deg", "dec": "deg"}
        meanings = {"source_id": "Gaia source identifier", "xp_status": Status.legend(), **hats.MEANINGS}
        for xp in release.xp:
            meanings[f"{xp}_n_relevant_bases"] = f"Number of relevant basis functions of the {xp.upper()} spectrum"
        both = " and ".join(f"{n} of {xp.upper()}" for xp, n in zip(release.xp, release.n_basis, strict=True))

        def field(name: str, kind: Any, meaning: str | None = None) -> pyarrow.Field:
            notes = {"unit": units.get(name), "description": meaning or meanings.get(name)}
            return pa.field(name, kind, nullable=False, metadata={k: text for k, text in notes.items() if text})

        def lists(name: str, meaning: str) -> pyarrow.Field:
            return field(name, pa.list_(pa.field("element", pa.float32(), nullable=False)), meaning)

        nested = [lists("coeff", f"Basis function coefficients: {both}")]
        if store.has_errors:
            nested.append(lists("coeff_error", "Standard errors of the coefficients"))
        fields = [
            field(hats.INDEX, pa.int64()), field("source_id", pa.int64()), field("ra", pa.float64()),
            field("dec", pa.float64()), field("spectral_coefficients", pa.struct(nested), f"XP coefficients: {both}"),
        ]  # fmt: skip
        if self.correlations:
            meaning = "Correlation coefficients of the coefficients: strict lower triangle by rows, of BP then of RP"
            inner = pa.struct([lists("coeff_correlation", meaning)])
            fields.append(field("spectral_correlations", inner, meaning))
        fields += [field(name, pa.int16()) for name in self._own(release) * self.relevant]
        first = next((file for file in store.files if len(file)), store.files[0])
        sample = first.read(0, min(len(first), 1), columns=self.columns).columns
        for name, column in sample.items():
            kind = pa.string() if column.dtype.kind in "US" else _arrow(column).type
            fields.append(field(name, kind).with_nullable(kind in (pa.int64(), pa.uint64()) and name not in WHOLE))
        fields += [field("xp_status", pa.uint32()), field(hats.GUESSED, pa.bool_())]
        notes = {"meta": {"release": release.name, "version": __version__}}
        return pa.schema(fields, metadata={b"xpjax": json.dumps(notes).encode()})

    def _tables(self, pixel: hats.Pixel, files: Sequence[StoreFile], schema: pyarrow.Schema) -> Iterator[pyarrow.Table]:
        """The rows of a pixel by position, in groups."""
        places = [_place(file) for file in files]
        parts = [np.searchsorted(place.index, pixel.span) for place in places]
        index = np.concatenate([place.index[low:high] for place, (low, high) in zip(places, parts, strict=True)])
        which = np.repeat(np.arange(len(files)), [high - low for low, high in parts])
        within = np.concatenate([np.arange(low, high) for low, high in parts])
        order = np.argsort(index, kind="stable")
        for start in range(0, len(order), self.group):
            chosen = order[start : start + self.group]
            yield self._table(index[chosen], files, which[chosen], within[chosen], schema)

    def _table(
        self,
        index: np.ndarray,
        files: Sequence[StoreFile],
        which: np.ndarray,
        within: np.ndarray,
        schema: pyarrow.Schema,
    ) -> pyarrow.Table:
        """Rows of several files: of file which[i] that at place within[i] of those by position."""
        import pyarrow as pa

        columns: dict[str, np.ndarray] = {hats.INDEX: index}
        for k in np.unique(which).tolist():
            to = np.flatnonzero(which == k)
            for name, column in self._read(files[k], within[to]).items():
                if name not in columns:
                    columns[name] = np.empty((len(index), *column.shape[1:]), column.dtype)
                    if column.dtype.str[1:] in ("i8", "u8"):  # any part may have gaps
                        columns[name] = np.ma.array(columns[name], mask=False)
                elif column.dtype.kind == "U" and column.dtype.itemsize > columns[name].dtype.itemsize:
                    columns[name] = columns[name].astype(column.dtype)
                columns[name][to] = column
        arrays = []
        for field in schema:
            if pa.types.is_struct(field.type):
                inner = [_lists(columns[part.name], part.type) for part in field.type]
                arrays.append(pa.StructArray.from_arrays(inner, fields=list(field.type)))
            else:
                arrays.append(_arrow(columns[field.name]).cast(field.type))
        return pa.Table.from_arrays(arrays, schema=schema)

    def _read(self, file: StoreFile, within: np.ndarray) -> dict[str, np.ndarray]:
        """Rows of a file as they are written: those at these places of its rows by position."""
        place = _place(file)
        rows = place.rows[within]
        ascending = np.argsort(rows)
        back = np.empty_like(ascending)
        back[ascending] = np.arange(len(rows))
        options: dict[str, Any] = {"errors": self.store.has_errors, "correlations": self.correlations}
        table = file.take(rows[ascending], columns=self.columns, **options)
        c = table.coefficients
        arrays: dict[str, Any] = {"coeff": c.value, "coeff_error": c.error, "coeff_correlation": c.correlation}
        if self.relevant and c.n_relevant is not None:
            arrays |= {name: c.n_relevant[:, k] for k, name in enumerate(self._own(table.release))}
        arrays |= {name: table.columns[name] for name in self.columns}
        arrays |= {"source_id": table.source_id, "xp_status": table.status}
        own = {"ra": place.ra[within], "dec": place.dec[within], hats.GUESSED: place.guessed[within]}
        return own | {name: np.asanyarray(array)[back] for name, array in arrays.items() if array is not None}


@dataclasses.dataclass(frozen=True)
class _Places:
    """The rows of a store file by position: _healpix_29, ra, dec, whether these are guessed, and the rows (n,)."""

    index: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    guessed: np.ndarray
    rows: np.ndarray


@functools.lru_cache(maxsize=32)
def _place(file: StoreFile) -> _Places:
    """Where the sources of a file are. Raises StoreError."""
    known = [file.scalars(name, True) if name in file.columns else None for name in ("ra", "dec")]
    index, ra, dec, guessed = hats.placed(file.scalars("source_id", True), *known)
    order = np.argsort(index, kind="stable")
    return _Places(index[order], ra[order], dec[order], guessed[order], order)


def _arrow(column: np.ndarray) -> Any:
    """A column (n,) or (n, k) as an Arrow array."""
    import pyarrow as pa

    if column.ndim == 1:
        return pa.array(column if has_gaps(column) else np.ascontiguousarray(column))
    return _lists(column, pa.list_(pa.from_numpy_dtype(column.dtype)))


def _lists(rows: np.ndarray, kind: Any) -> Any:
    """Rows (n, k) as an Arrow array of lists of a type."""
    import pyarrow as pa

    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.shape[1]))
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(rows).ravel()), type=kind)
