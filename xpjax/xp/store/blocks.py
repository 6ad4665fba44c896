"""Blocks of rows that share a checksum: where they lie, which of them rows touch, what is said of damaged ones."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from xpjax.xp.store.format import BLOCK, MISSING, SCALE


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Where a contiguous dataset lies in the file."""

    offset: int
    dtype: np.dtype
    width: int
    """Numbers a row; 0 for a column of scalars."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * max(self.width, 1)


def damage(path: Path, name: str, start: int, stop: int, found: int, expected: int) -> str:
    """What is said of rows whose checksum differs."""
    return (
        f"{path}: {name}: rows {start}..{stop - 1} are damaged (CRC-32 {found:08x}, expected {expected:08x}); "
        "ingest the file again or restore it from a copy"
    )


def by_block(runs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Each block of rows that ascending runs touch, and the runs within it."""
    parts = ((block, run) for run in runs if run[0] < run[1] for block in range(run[0] // BLOCK, -(-run[1] // BLOCK)))
    for block, group in itertools.groupby(parts, key=lambda part: part[0]):
        low, high = block * BLOCK, (block + 1) * BLOCK
        yield block, [(max(start, low), min(stop, high)) for _, (start, stop) in group]


def store_values(piece: np.ndarray, out: np.ndarray) -> None:
    """Stored numbers as they are used: fixed-point correlations become float32."""
    if piece.dtype == np.int16 and out.dtype == np.float32:
        np.multiply(piece, SCALE, out=out)
        missing = piece == MISSING
        if missing.any():
            out[missing] = np.nan
    else:
        out[...] = piece
