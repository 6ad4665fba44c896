"""Files of the archive's formats to coefficients in memory, beside GaiaXPy's reader of the same file."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import xpjax
from benchmarks.harness import Row, measure
from benchmarks.peers import quiet
from xpjax.xp import simulate

SUFFIXES = ("csv", "csv.gz", "ecsv", "fits", "vot", "parquet", "h5")
THEIRS = ("csv", "ecsv")
"""What GaiaXPy reads of these as they are written here."""


def run(quick: bool) -> list[Row]:
    n, repeats = (200, 0) if quick else (3000, 3)
    table = simulate.simulate_sources(n, seed=6)
    more: dict[str, np.ndarray] = {}  # that GaiaXPy asks for
    for xp, n_basis in zip(table.release.xp, table.release.n_basis, strict=True):
        more |= {f"{xp}_standard_deviation": np.ones(n), f"{xp}_n_parameters": np.full(n, n_basis)}
    table = dataclasses.replace(table, columns={**table.columns, **more})
    rows = []
    with tempfile.TemporaryDirectory(prefix="xpjax-read-") as folder:
        for suffix in SUFFIXES:
            path = Path(folder) / f"XP_CONTINUOUS.{suffix}"
            xpjax.write(path, table)
            size = path.stat().st_size // n
            row = measure("read", f"{suffix}, {size:,} B a source", n, lambda p=path: xpjax.read(p), repeats)
            row.bytes_per_source = size
            row.error, row.error_of = _worst(xpjax.read(path), table), "coefficients, relative to what was written"
            rows.append(row)
            if suffix in THEIRS and (peer := _gaiaxpy(path, suffix, n)) is not None:
                row.ratios["gaiaxpy's reader"] = row.rate / peer.rate
                rows.append(peer)
    return rows


def _worst(found: xpjax.SourceTable, made: xpjax.SourceTable) -> float:
    a, b = (np.asarray(t.coefficients.value, float) for t in (found, made))
    return float(np.max(np.abs(a - b) / np.abs(b)))


def _gaiaxpy(path: Path, suffix: str, n: int) -> Row | None:
    """GaiaXPy's reader, as its `calibrate` calls it."""
    try:
        from gaiaxpy import calibrate
        from gaiaxpy.input_reader.input_reader import InputReader
    except ImportError:
        return None

    def call() -> Any:
        with quiet():
            return InputReader(str(path), calibrate, False, disable_info=True).read()

    return measure("read", f"gaiaxpy's reader, {suffix}", n, call, repeats=0)
