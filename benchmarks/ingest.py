"""Bulk csv.gz to a store, against GaiaXPy's reader of the plain file and igzip alone; a store against a plain read.

Rates with both parsers where pysimdjson is installed. Times are of the wall; the machine should be idle.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import bulkfile
from benchmarks.harness import Row, best, measure
from benchmarks.peers import quiet
from xpjax import simulate
from xpjax.io import bulk, store

N_TEXT = 1000
"""Sources of the made text, which is repeated."""


def run(quick: bool) -> list[Row]:
    copies, n_peer, n_store = (3, 200, 50_000) if quick else (20, 1000, 300_000)
    folder = Path(tempfile.mkdtemp(prefix="xpjax-ingest-"))
    try:
        return [*_ingest(folder, copies, n_peer, 2 if quick else 3), *_read(folder, n_store, 3 if quick else 5)]
    finally:
        shutil.rmtree(folder)


def _ingest(folder: Path, copies: int, n_peer: int, repeats: int) -> list[Row]:
    text = bulkfile.text(simulate.sources(N_TEXT, seed=5))
    zipped = [bulkfile.write(folder / f"{k}.csv.gz", bulkfile.copies(text, copies)) for k in range(2)]
    n, size = N_TEXT * copies, N_TEXT * copies * (len(text) - len(bulkfile.header())) // N_TEXT
    unzip = measure("ingest", "igzip alone", n, lambda: _unzip(zipped[0]), repeats, bytes_per_source=size // n)
    rows = [unzip]
    peer = _gaiaxpy(folder, text, n_peer)
    parsers = {"arrow": bulk._parse_with_arrow, bulk._number_parser(): bulk._number_parser()}
    for parser in {id(p): p for p in parsers.values()}.values():
        name = "arrow" if parser is bulk._parse_with_arrow else "simdjson"
        bulk._number_parser = functools.cache(lambda parser=parser: parser)
        for kind in store.CORRELATIONS:

            def one(kind: str = kind) -> None:
                report = bulk.ingest(zipped[:1], folder / "store", correlations=kind, overwrite=True)
                assert not report.failures, report.failures

            row = measure("ingest", f"csv.gz, correlations {kind}, {name}", n, one, repeats, bytes_per_source=size // n)
            row.ratios["igzip's time"] = row.seconds / unzip.seconds
            if peer is not None:
                row.ratios["gaiaxpy's reader"] = row.rate / peer.rate
            rows.append(row)

    # Several files a process, as in a survey of thousands: a process takes a second to start.
    several = [folder / f"{k}.{path.name}" for k in range(3) for path in zipped]
    for k, link in enumerate(several):
        link.hardlink_to(zipped[k % 2])

    def both(processes: int) -> None:
        report = bulk.ingest(several, folder / "store", correlations="float32", overwrite=True, processes=processes)
        assert not report.failures, report.failures

    # In new processes, the parser is whatever is installed.
    alone = best(lambda: both(1), 2)
    two = measure("ingest", "two processes, six files", 6 * n, lambda: both(2), 2)
    two.ratios["one process"] = alone / two.seconds
    two.note = f"with the start of the processes; {os.cpu_count()} cores"
    return [*rows, two] if peer is None else [*rows, two, peer]


def _unzip(path: Path) -> None:
    from isal import igzip

    with igzip.open(path) as stream:
        while stream.read(1 << 20):
            pass


def _gaiaxpy(folder: Path, text: bytes, n: int) -> Row | None:
    """GaiaXPy's reader of the plain file, as its `calibrate` calls it."""
    try:
        from gaiaxpy import calibrate
        from gaiaxpy.input_reader.input_reader import InputReader
    except ImportError:
        return None
    start = len(bulkfile.header())
    plain = folder / "plain.csv"
    plain.write_bytes(text[:start] + b"\n".join(text[start:].split(b"\n")[:n]) + b"\n")

    def call() -> None:
        with quiet():
            InputReader(str(plain), calibrate, False, disable_info=True).read()

    return measure("ingest", "gaiaxpy's reader, plain csv", n, call, repeats=2)


def _read(folder: Path, n: int, repeats: int) -> list[Row]:
    """Store files in batches, checked or not, against reading their bytes."""
    rows = []
    block = simulate.sources(10_000, seed=1)
    for kind in store.CORRELATIONS:
        path = folder / f"read_{kind}.h5"
        with store.StoreWriter(path, block.release, correlations=kind) as writer:
            for _ in range(0, n, len(block)):
                writer.append(block)
        (file,) = store.open_store(path).files
        size = path.stat().st_size
        buffer = np.empty(1 << 26, np.uint8)

        def plain(path: Path = path, buffer: np.ndarray = buffer) -> None:
            with path.open("rb", buffering=0) as stream:
                while stream.readinto(buffer):
                    pass

        seconds = best(plain, repeats)
        for check in (True, False):

            def read(file: store.StoreFile = file, check: bool = check) -> None:
                table = None
                for start, stop in file.batches(1 << 26):
                    table = file.read(start, stop, check=check, into=table)

            case = f"store, correlations {kind}, {'checked' if check else 'not checked'}"
            row = measure("ingest", case, len(file), read, repeats, bytes_per_source=size // len(file))
            row.ratios["plain read of the bytes"] = seconds / row.seconds
            rows.append(row)
        path.unlink()
    return rows
