"""Bulk csv.gz to a store, against GaiaXPy's reader of the plain file and igzip alone; a store against a plain read.

Rates with both parsers where pysimdjson is installed. Times are of the wall; the machine should be idle.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks import bulkfile
from benchmarks.harness import Row, best, measure
from benchmarks.peers import quiet
from xpjax.io import cells
from xpjax.xp import StoreFile, open_store, simulate
from xpjax.xp.store import ingest as bulk
from xpjax.xp.store.format import CORRELATIONS
from xpjax.xp.store.writer import StoreWriter

N_TEXT = 1000
"""Sources of the made text, which is repeated."""


def run(quick: bool) -> list[Row]:
    """A quick run: one process with the parser that is installed; no correlations, all, and compact ones."""
    copies, n_peer, repeats = (2, 100, 1) if quick else (20, 1000, 3)
    parsers = [cells.parsers()] if quick else [(cells.parse_with_arrow,), cells.parsers()]
    with tempfile.TemporaryDirectory(prefix="xpjax-ingest-") as name:
        folder = Path(name)
        text = bulkfile.text(simulate.simulate_sources(N_TEXT, seed=5))
        data, n_file = bulkfile.copies(text, copies), 1 if quick else 2
        zipped = [bulkfile.write(folder / f"{k}.csv.gz", data) for k in range(n_file)]
        n, size = N_TEXT * copies, len(text) // N_TEXT
        unzip = measure("ingest", "igzip alone", n, lambda: _unzip(zipped[0]), repeats, bytes_per_source=size)
        peer = _gaiaxpy(folder, text, n_peer)
        rows = [unzip, *([] if peer is None else [peer])]
        for parser in {len(known): known for known in parsers}.values():
            made = {}
            for kind in ("none", "float32", "compact") if quick else CORRELATIONS:
                made[kind] = row = _one_file(zipped[0], folder, n, parser, kind, repeats)
                row.bytes_per_source = size
                row.ratios["igzip's time"] = row.seconds / unzip.seconds
                if peer is not None:
                    row.ratios["gaiaxpy's reader"] = row.rate / peer.rate
            made["compact"].ratios["time of float32"] = made["compact"].seconds / made["float32"].seconds
            rows += made.values()
        return rows if quick else [*rows, _two_processes(zipped, folder, 6 * n), *_read(folder, 300_000, 5)]


def _ingest(files: list[Path], folder: Path, correlations: str, processes: int = 1) -> None:
    report = bulk.ingest(files, folder / "store", correlations=correlations, overwrite=True, processes=processes)
    assert not report.failures, report.failures


def _one_file(path: Path, folder: Path, n: int, parser: tuple[cells.Parser, ...], kind: str, repeats: int) -> Row:
    name = "simdjson" if len(parser) > 1 else "arrow"
    with mock.patch.object(cells, "parsers", return_value=parser):
        return measure(
            "ingest", f"csv.gz, correlations {kind}, {name}", n, lambda: _ingest([path], folder, kind), repeats
        )


def _two_processes(zipped: list[Path], folder: Path, n: int) -> Row:
    """Several files a process, as in a survey of thousands: a process takes a second to start."""
    several = [folder / f"{k}.{path.name}" for k in range(3) for path in zipped]
    for k, link in enumerate(several):
        link.hardlink_to(zipped[k % 2])
    # In new processes, the parser is whatever is installed.
    alone = best(lambda: _ingest(several, folder, "float32"), 2)
    two = measure("ingest", "two processes, six files", n, lambda: _ingest(several, folder, "float32", 2), 1)
    two.ratios["one process"] = alone / two.seconds
    two.note = f"with the start of the processes; {os.cpu_count()} cores"
    return two


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

    return measure("ingest", "gaiaxpy's reader, plain csv", n, call, repeats=1)


def _read(folder: Path, n: int, repeats: int) -> list[Row]:
    """Store files in batches, checked or not, against reading their bytes."""
    rows = []
    block = simulate.simulate_sources(10_000, seed=1)
    for kind in CORRELATIONS:
        path = folder / f"read_{kind}.h5"
        with StoreWriter(path, block.release, correlations=kind) as writer:
            for _ in range(0, n, len(block)):
                writer.append(block)
        (file,) = open_store(path).files
        size = path.stat().st_size
        buffer = np.empty(1 << 26, np.uint8)

        def plain(path: Path = path, buffer: np.ndarray = buffer) -> None:
            with path.open("rb", buffering=0) as stream:
                while stream.readinto(buffer):
                    pass

        seconds = best(plain, repeats)
        for check in (True, False):

            def read(file: StoreFile = file, check: bool = check) -> None:
                table = None
                for start, stop in file.batches(1 << 26):
                    table = file.read(start, stop, check=check, into=table)

            case = f"store, correlations {kind}, {'checked' if check else 'not checked'}"
            row = measure("ingest", case, len(file), read, repeats, bytes_per_source=size // len(file))
            row.ratios["plain read of the bytes"] = seconds / row.seconds
            rows.append(row)
        path.unlink()
    return rows
