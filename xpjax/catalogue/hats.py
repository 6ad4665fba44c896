"""HATS catalogues: Parquet files by HEALPix pixel, no pixel with more rows than wanted, and the metadata beside them.

Layout (https://www.ivoa.net/documents/Notes/HATS/): dataset/Norder=K/Dir=D/Npix=N.parquet with the column _healpix_29
ascending, dataset/_metadata and _common_metadata, partition_info.csv, hats.properties and properties, which is written
last: until then there is no catalogue. Read by LSDB, hats, and anything that reads Parquet.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import datetime
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Catalogue
from xpjax.io.atomic import whole_files, write_bytes
from xpjax.xp import HEALPIX_LEVEL, on_sky, pixel_centers

if TYPE_CHECKING:
    import pyarrow

INDEX, INDEX_ORDER = "_healpix_29", 29
COUNT_ORDER = 8
"""Pixels are no smaller than this: 0.05 square degrees."""
GUESSED = "position_from_source_id"
MEANINGS = {
    "ra": f"ICRS right ascension; see {GUESSED}",
    "dec": f"ICRS declination; see {GUESSED}",
    INDEX: f"HEALPix pixel of ra, dec, order {INDEX_ORDER}, nested",
    GUESSED: f"ra, dec are the center of the HEALPix pixel of order {HEALPIX_LEVEL} in source_id, not measured",
}
ROW_GROUP = 2**17
THREADS = min(os.cpu_count() or 1, 4)
"""Pixels written at a time, each in memory as a whole."""


def positioned(part: Catalogue) -> Catalogue:
    """A catalogue by position: with _healpix_29 first, ra and dec, and which of them are guessed from source_id.

    Where ra and dec are absent or none of a place on the sky they are the center of source_id's pixel of order 12,
    20" away on average and 53" at most.
    """
    source_id = part.columns["source_id"]
    index, ra, dec, guessed = placed(source_id, part.columns.get("ra"), part.columns.get("dec"))
    order = np.argsort(index, kind="stable")
    columns = {INDEX: index, "source_id": source_id, "ra": ra, "dec": dec}
    columns |= {name: column for name, column in part.columns.items() if name not in columns}
    columns[GUESSED] = guessed
    return dataclasses.replace(
        part,
        columns={name: column[order] for name, column in columns.items()},
        units={**part.units, "ra": "deg", "dec": "deg"},
        descriptions={**part.descriptions, **MEANINGS},
    )


def placed(
    source_id: np.ndarray, ra: np.ndarray | None, dec: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """_healpix_29, ra and dec [deg] of sources (n,), and which of these are guessed from source_id (`positioned`)."""
    import astropy.units as u
    from astropy_healpix import lonlat_to_healpix

    n = len(source_id)
    ra, dec = (np.full(n, np.nan) if angle is None else np.array(angle, np.float64) for angle in (ra, dec))
    guessed = ~on_sky(ra, dec)
    if guessed.any():
        ra[guessed], dec[guessed] = pixel_centers(source_id[guessed])
    ra = np.mod(ra, 360)
    index = lonlat_to_healpix(ra * u.deg, dec * u.deg, 2**INDEX_ORDER, order="nested")
    return np.asarray(index, np.int64), ra, dec, guessed


def write_parquet(path: Path, tables: Iterable[pyarrow.Table], row_group: int = ROW_GROUP) -> int:
    """Write tables of one schema as row groups of at least `row_group` rows; returns the number of rows.

    For speed, each measured: no compression of floats, where it saves a tenth; no nulls, as nothing here has any (half
    the time of an optional column); large pages; limits of values only where they help to find rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = iter(tables)
    first = next(tables)
    single = [field.name for field in first.schema if pa.types.is_float32(field.type)]
    others = [name for name in first.schema.names if name not in single]
    rows = 0
    with pq.ParquetWriter(
        path,
        first.schema,
        compression="none",
        use_dictionary=[name for name in others if name not in ("source_id", "ra", "dec", INDEX)],
        write_statistics=others,
        data_page_size=2**23,
        write_batch_size=2**16,
    ) as writer:
        waiting = [first]
        for table in tables:
            if sum(map(len, waiting)) >= row_group:
                writer.write_table(pa.concat_tables(waiting), row_group_size=2 * row_group)
                rows += sum(map(len, waiting))
                waiting = []
            waiting.append(table)
        writer.write_table(pa.concat_tables(waiting), row_group_size=2 * row_group)
    return rows + sum(map(len, waiting))


def write_partial(path: Path, table: pyarrow.Table) -> None:
    """Write rows by position as an Arrow file, of which `assemble` maps any range without reading the rest."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@dataclasses.dataclass(frozen=True)
class Pixel:
    """A pixel of the catalogue and its number of rows."""

    order: int
    number: int
    rows: int

    @property
    def path(self) -> str:
        """Where its file lies within `dataset`."""
        return f"Norder={self.order}/Dir={self.number // 10000 * 10000}/Npix={self.number}.parquet"

    @property
    def span(self) -> tuple[int, int]:
        """Its first value of _healpix_29, and that of the next pixel."""
        shift = 2 * (INDEX_ORDER - self.order)
        return self.number << shift, self.number + 1 << shift


def choose_pixels(counts: np.ndarray, rows: int) -> list[Pixel]:
    """The largest pixels with at most `rows` rows, from counts (12 * 4^k,) of nested pixels; empty ones left out."""
    levels = [counts]
    while len(levels[-1]) > 12:
        levels.append(levels[-1].reshape(-1, 4).sum(axis=1))
    levels.reverse()
    chosen = []
    candidates = np.arange(12)
    for order, level in enumerate(levels):
        candidates = candidates[level[candidates] > 0]
        small = (level[candidates] <= rows) | (order == len(levels) - 1)
        chosen += [Pixel(order, int(k), int(level[k])) for k in candidates[small]]
        candidates = (4 * candidates[~small][:, None] + np.arange(4)).ravel()
    return sorted(chosen, key=lambda pixel: pixel.span)


def assemble(
    partials: Sequence[Path], output: Path, rows: int, properties: Mapping[str, Any], progress: Any = None
) -> dict[str, int]:
    """Merge the partial files of all units into the pixels of a HATS catalogue; resumed, it keeps the pixels it has.

    rows: the most in a pixel. properties: of `hats.properties`. Returns the numbers of pixels and rows. Raises OSError
    where the disk refuses, and ValueError where nothing is to be written.
    """
    counts = np.zeros(12 * 4**COUNT_ORDER, np.int64)
    for path in partials:
        with _mapped(path) as table:
            counts += count(table[INDEX].to_numpy())
    pixels = choose_pixels(counts, rows)
    edges = np.array([pixel.span for pixel in pixels], np.int64).reshape(-1, 2)
    # Which rows of which partial file belong to a pixel.
    ranges: list[list[tuple[Path, int, int]]] = [[] for _ in pixels]
    schema = None
    for path in partials:
        with _mapped(path) as table:
            schema = schema or table.schema
            index = table[INDEX].to_numpy()
            low, high = np.searchsorted(index, edges.T)
            for k in np.flatnonzero(high > low).tolist():
                ranges[k].append((path, int(low[k]), int(high[k])))
    tables = (functools.partial(_merged, parts, schema) for parts in ranges)
    return build(output, zip(pixels, tables, strict=True), schema, properties, progress)


def count(index: np.ndarray) -> np.ndarray:
    """How many of these values (n,) of _healpix_29 lie in each pixel (12 * 4^COUNT_ORDER,) of the smallest size."""
    return np.bincount(index >> 2 * (INDEX_ORDER - COUNT_ORDER), minlength=12 * 4**COUNT_ORDER)


def build(
    output: Path,
    parts: Iterable[tuple[Pixel, Callable[[], Iterable[pyarrow.Table]]]],
    schema: pyarrow.Schema | None,
    properties: Mapping[str, Any],
    progress: Any = None,
    row_group: int = ROW_GROUP,
) -> dict[str, int]:
    """Write a HATS catalogue pixel by pixel, then its metadata; pixels that are there already are kept.

    parts: each pixel with what gives its rows, by position. Arguments and what is returned as of `assemble`.
    """
    import pyarrow.parquet as pq

    parts = list(parts)
    if not parts or schema is None:
        raise XpjaxError(f"{output}: no source to be written: a HATS catalogue needs one")
    pixels = [pixel for pixel, _ in parts]
    dataset = output / "dataset"
    footers = []
    with _pool() as pool:
        for footer in pool.map(functools.partial(_write_pixel, dataset, row_group), parts):
            footers.append(footer)
            if progress is not None:
                progress(len(footers), len(pixels))
    with whole_files() as temporary:
        pq.write_metadata(schema, temporary(dataset / "_common_metadata"))
        pq.write_metadata(schema, temporary(dataset / "_metadata"), footers)
    breadth_first = sorted((pixel.order, pixel.number) for pixel in pixels)
    lines = ["Norder,Npix", *(f"{order},{number}" for order, number in breadth_first)]
    write_bytes(output / "partition_info.csv", "\n".join([*lines, ""]).encode())
    n = sum(pixel.rows for pixel in pixels)
    size = sum((dataset / pixel.path).stat().st_size for pixel in pixels)
    known = {
        "obs_collection": output.resolve().name,
        "dataproduct_type": "object",
        "hats_nrows": n,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": INDEX,
        "hats_col_healpix_order": INDEX_ORDER,
        "hats_npix_suffix": ".parquet",
        "hats_order": max(pixel.order for pixel in pixels),
        "hats_max_rows": max(pixel.rows for pixel in pixels),
        "hats_estsize": size // 1024,
        "hats_creation_date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%MUTC"),
        "moc_sky_fraction": f"{sum(1 / (12 * 4**pixel.order) for pixel in pixels):.5f}",
    }
    text = "".join(f"{name}={_escaped(value)}\n" for name, value in {**known, **properties}.items())
    for name in ("hats.properties", "properties"):
        write_bytes(output / name, f"#HATS catalog\n{text}".encode())
    return {"pixels": len(pixels), "rows": n}


@contextlib.contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that write pixels, whose messages speak to whoever called: Arrow works without Python's lock.

    What waits is given up on an error.
    """
    told = contextvars.copy_context()
    pool = ThreadPoolExecutor(THREADS, initializer=lambda: [word.set(value) for word, value in told.items()])
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _write_pixel(
    dataset: Path, row_group: int, part: tuple[Pixel, Callable[[], Iterable[pyarrow.Table]]]
) -> pyarrow.parquet.FileMetaData:
    """Write a pixel, unless it is there; its footer. Raises XpjaxError where it has other rows than are expected."""
    import pyarrow.parquet as pq

    pixel, tables = part
    final = dataset / pixel.path
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        with whole_files() as temporary:
            write_parquet(temporary(final), tables(), row_group)
    footer = pq.read_metadata(final)
    if footer.num_rows != pixel.rows:
        raise XpjaxError(f"{final}: {footer.num_rows} rows, expected {pixel.rows}; remove the file and resume")
    footer.set_file_path(pixel.path)
    return footer


def _escaped(value: Any) -> str:
    """A value of a properties file: one line, of Latin letters."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("\\", "\\\\").replace("\n", " ").encode("ascii", "backslashreplace").decode()


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[pyarrow.Table]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        yield pa.ipc.open_file(source).read_all()


def _merged(parts: Sequence[tuple[Path, int, int]], schema: pyarrow.Schema) -> Iterator[pyarrow.Table]:
    """The rows of a pixel from all partial files, by position, in groups."""
    import pyarrow as pa

    with contextlib.ExitStack() as stack:
        tables = []
        for path, low, high in parts:
            table = stack.enter_context(_mapped(path)).slice(low, high - low)
            tables.append(table if table.schema.equals(schema) else table.cast(schema))
        table = pa.concat_tables(tables)
        if len(tables) > 1:
            order = np.argsort(np.concatenate([t[INDEX].to_numpy() for t in tables]), kind="stable")
            table = table.take(pa.array(order))
        yield from (table.slice(start, ROW_GROUP) for start in range(0, len(table), ROW_GROUP))
