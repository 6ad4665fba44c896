"""LSDB catalogues on two Dask workers: a cone, a cross-match and the whole, beside `xpjax catalogue run` on the store.

Sources are made, without correlations but for one case; the store is written as HATS with `export_hats`. Memory is the
largest resident set of a worker: of four times as many sources it is to be no larger. Rows are compared to the bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import xpjax
from benchmarks.catalogue import peak_bytes
from benchmarks.harness import Row, absent
from xpjax.io.catalogue import concatenate, read_catalogue
from xpjax.xp import partitions, write_store_file

SYSTEM = "JPLUS"
PART = 25_000
"""Sources of a store file."""
PIXEL = 5_000
"""The most sources of a partition: those of the public HATS copy have 3,700 on average."""


def run(quick: bool) -> list[Row]:
    """A quick run: 20,000 sources, and memory beside that of 5,000."""
    try:
        import distributed  # noqa: F401
        import lsdb  # noqa: F401
    except ImportError as error:
        return [absent("lsdb", "LSDB catalogues", f"{error}: pip install 'xpjax[hats]'")]
    small, large = (5_000, 20_000) if quick else (50_000, 200_000)
    rows = []
    with tempfile.TemporaryDirectory(prefix="xpjax-lsdb-") as name:
        folder = Path(name)
        peaks = {}
        for n in (small, large):
            store, exported, row = made(folder / str(n), n)
            rows.append(row)
            found, peaks[n] = whole(exported, n, folder / f"out{n}", errors=False)
            found.ratios["peak of a worker, of that for fewer"] = peaks[n] / peaks[small]
            rows.append(found)
        rows.append(same_rows(store, folder / f"out{large}", large, errors=False))
        rows += some(exported, large)
        n = small // 10
        store, exported, row = made(folder / "errors", n, correlations=True)
        rows += [row, whole(exported, n, folder / "outerrors", errors=True)[0]]
        rows.append(same_rows(store, folder / "outerrors", n, errors=True))
    return rows


def made(folder: Path, n: int, correlations: bool = False) -> tuple[Path, Path, Row]:
    """A store of made sources and the same as HATS."""
    store = folder / "store"
    store.mkdir(parents=True)
    kind = "float32" if correlations else "none"
    for k, start in enumerate(range(0, n, PART)):
        table = xpjax.simulate_sources(min(PART, n - start), seed=100 + k, correlations=correlations)
        write_store_file(store / f"XP_{k}.h5", table, correlations=kind)
    start = time.perf_counter()
    report = xpjax.catalogue.export_hats(store, folder / "hats", hats_rows=PIXEL)
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in store.iterdir())
    row = Row("lsdb", f"store to HATS, correlations {kind}", n, seconds, bytes_per_source=2 * size // n)
    row.note = f"{report.pixels} partitions"
    return store, folder / "hats", row


@contextlib.contextmanager
def two_workers() -> Iterator[Any]:
    """Two processes with one thread each; what Dask tells of how they end is kept from the terminal."""
    import distributed

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def opened(path: Path) -> Any:
    import lsdb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lsdb.open_catalog(path)


def whole(exported: Path, n: int, output: Path, errors: bool) -> tuple[Row, int]:
    """The whole catalogue, written as another one; the largest resident set of a worker."""
    with two_workers() as client:
        before = max(client.run(peak_bytes).values())
        start = time.perf_counter()
        result = xpjax.lsdb.photometry(opened(exported), SYSTEM, errors=errors)
        result.write_catalog(output, catalog_name="magnitudes", progress_bar=False)
        seconds = time.perf_counter() - start
        peak = max(client.run(peak_bytes).values())
    case = f"{n // 1000:,}k sources, 12 magnitudes, {'' if errors else 'no '}errors, two workers"
    row = Row("lsdb", case, n, seconds, peak_bytes=peak)
    row.note = f"a worker has {before / 1e6:.0f} MB before it begins"
    return row, peak


def same_rows(store: Path, output: Path, n: int, errors: bool) -> Row:
    """`xpjax catalogue run` on two Dask workers; error: by how much any number of the two catalogues differs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    run_output = output.with_name(f"{output.name}-run")
    start = time.perf_counter()
    report = xpjax.run_catalogue(store, run_output, SYSTEM, errors=errors, dask="local")
    seconds = time.perf_counter() - start
    assert report.complete
    want = concatenate([read_catalogue(path) for path in sorted(run_output.glob("*.parquet"))]).columns
    files = [file for files in partitions(output).values() for file in files]
    found = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])
    mine = np.argsort(found["source_id"].to_numpy())
    own = np.argsort(want["source_id"])
    worst, differing = 0.0, 0
    for name, column in want.items():
        one, other = found[name].to_numpy()[mine], column[own]
        if other.dtype.kind != "f":
            assert np.array_equal(one, other), name
            continue
        assert np.array_equal(np.isnan(one), np.isnan(other)), name
        differing += int(((one != other) & ~np.isnan(one)).sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            worst = max(worst, float(np.nanmax(np.abs(one / other - 1), initial=0)))
    row = Row("lsdb", f"xpjax catalogue run of the same, {'' if errors else 'no '}errors", n, seconds)
    row.error, row.error_of = worst, f"relative, LSDB's rows against these: {differing} numbers differ"
    return row


def some(exported: Path, n: int) -> list[Row]:
    """A cone and a cross-match, computed: only the partitions that they touch are read."""
    rows = []
    with two_workers():
        catalog = opened(exported)
        for radius in (5.0, 20.0):
            start = time.perf_counter()
            cone = xpjax.lsdb.photometry(catalog.cone_search(180.0, 30.0, radius * 3600), SYSTEM, errors=False)
            found = cone.compute(progress_bar=False)
            rows.append(
                Row("lsdb", f"cone of {radius:g} deg of {n:,} sources", len(found), time.perf_counter() - start)
            )
        red = catalog[["ra", "dec", "bp_rp"]].query("bp_rp > 1.5")
        start = time.perf_counter()
        matched = red.crossmatch(catalog, radius_arcsec=1, suffixes=("_red", "_xp"), suffix_method="all_columns")
        found = xpjax.lsdb.photometry(matched, SYSTEM, errors=False, keep=["bp_rp_red"]).compute(progress_bar=False)
        seconds = time.perf_counter() - start
        assert (found["bp_rp_red"] > 1.5).all()
        rows.append(Row("lsdb", f"cross-match with {n:,} sources", len(found), seconds))
    return [dataclasses.replace(row, note="compiling and reading included") for row in rows]
