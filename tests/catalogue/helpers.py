"""Made stores, and what the rows of their catalogues are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import xpjax
from xpjax.core.records import Catalogue
from xpjax.core.status import Status
from xpjax.io.catalogue import concatenate, read_catalogue
from xpjax.xp.sources import SourceTable
from xpjax.xp.store.writer import write_store_file

SIZES = (300, 250, 20, 300, 1)


def bad_sources(table: SourceTable) -> SourceTable:
    """Sources as the archive has them: some without BP, some with bad coefficients, dark ones, bits of the reading."""
    bp, rp = table.release.slices
    table.coefficients.value[3, bp] = np.nan
    table.coefficients.value[310, rp.start] = np.inf
    table.coefficients.value[[5, 600]] *= -1
    table.coefficients.correlation[7] = np.nan
    table.status[:] = 0
    table.status[9] = Status.DUPLICATE
    return table


def write_store(table: SourceTable, folder: Path) -> Path:
    start = 0
    for k, n in enumerate(SIZES):
        write_store_file(folder / f"XP_{k}.h5", table[start : start + n])
        start += n
    return folder


def rows_of(output: Path) -> Catalogue:
    """All rows of a catalogue, by source_id."""
    parts = [read_catalogue(path) for path in output.glob("XP_*") if path.suffix in (".parquet", ".fits", ".h5")]
    whole = concatenate(parts)
    order = np.argsort(whole.columns["source_id"], kind="stable")
    return dataclasses.replace(whole, columns={name: column[order] for name, column in whole.columns.items()})


def expected(table: SourceTable, keep: tuple[str, ...] = (), **options: object) -> dict[str, np.ndarray]:
    result = xpjax.photometry(table[np.argsort(table.source_id)], "JPLUS", **options)  # type: ignore[arg-type]
    columns = {name: table.columns[name][np.argsort(table.source_id)] for name in keep}
    return dict(result.catalogue(columns).columns)


def check(output: Path, want: dict[str, np.ndarray]) -> None:
    found = rows_of(output).columns
    assert list(found) == list(want)
    for name, column in want.items():
        same(found[name], column, name)


def same(found: np.ndarray, want: np.ndarray, name: str) -> None:
    """Equal, but for the last digit of float32, in which batches of another size may differ."""
    exact = want.dtype.kind != "f" or name in ("ra", "dec", "bp_rp")
    np.testing.assert_allclose(found, want, rtol=0 if exact else 1e-5, err_msg=name)


def leftovers(output: Path) -> list[Path]:
    return [path for path in output.rglob("*") if path.name.endswith(".tmp")]
