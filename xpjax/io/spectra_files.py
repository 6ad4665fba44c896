"""Sampled spectra from files: those of `xpjax spectra`, the archive's XP_SAMPLED, and plain ones of others."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import gzip
from pathlib import Path

import numpy as np

from xpjax.errors import XpjaxError
from xpjax.io.catalogue import read_catalogue
from xpjax.records import Catalogue

LAYOUT = (
    "expected a file of `xpjax spectra`, or columns source_id, flux (an array in each row), optional flux_error, and "
    "wavelength [nm], once (an HDF5 dataset) or the same in each row"
)


def read_sampled(path: str | Path, archive_grid: np.ndarray) -> Catalogue:
    """A file of sampled spectra as `xpjax spectra` writes it: flux (n, m), with wavelength (m,) [nm] among `shared`.

    Where there is no wavelength, and as many samples as archive_grid (m,) has, that is taken: the archive's files have
    none. A table with a row for each sample becomes one with a row for each source_id, in order of appearance. Raises
    ValueError for another layout.
    """
    path = Path(path).expanduser()
    try:
        table = _read_archive_csv(path) if _is_archive_csv(path) else read_catalogue(path)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        # What readers of catalogues stumble over: groups, tables without arrays, cells of different lengths.
        raise XpjaxError(f"{path.name} holds no table of spectra ({error}); {LAYOUT}") from error
    absent = [name for name in ("source_id", "flux") if name not in table.columns]
    if absent:
        raise XpjaxError(f"{path.name} has no {' and no '.join(absent)}, it has {[*table.columns]}; {LAYOUT}")
    if "wavelength" in table.columns and np.ndim(table.columns["flux"]) == 1:
        table = _one_row_each(table, path.name)
    columns, shared = dict(table.columns), dict(table.shared)
    flux = np.asarray(columns["flux"])
    if flux.ndim != 2:
        raise XpjaxError(f"{path.name}: flux has shape {flux.shape}, one number for each source; {LAYOUT}")
    if "wavelength" in columns:
        shared["wavelength"] = _the_same(np.asarray(columns.pop("wavelength"), float), path.name)
    elif "wavelength" not in shared:
        if flux.shape[1] != len(archive_grid):
            raise XpjaxError(
                f"{path.name} has no wavelength for its {flux.shape[1]} samples (the archive's have {len(archive_grid)}"
                f"); {LAYOUT}"
            )
        shared["wavelength"] = np.asarray(archive_grid, float)
    if np.shape(shared["wavelength"]) != flux.shape[1:]:
        shape = np.shape(shared["wavelength"])
        raise XpjaxError(f"{path.name}: wavelength has shape {shape}, flux {flux.shape}; {LAYOUT}")
    lengths = {name: len(column) for name, column in columns.items() if len(column) != len(flux)}
    if lengths:
        raise XpjaxError(f"{path.name}: {len(flux)} rows of flux, but {lengths}; leave the others out")
    errors = columns.get("flux_error")
    if errors is not None and np.shape(errors) != flux.shape:
        raise XpjaxError(f"{path.name}: flux_error has shape {np.shape(errors)}, flux {flux.shape}; they must agree")
    return dataclasses.replace(table, columns=columns, shared=shared)


def _the_same(wavelength: np.ndarray, name: str) -> np.ndarray:
    """One row (m,) of wavelengths (n, m) that are all the same, or those (m,) of all."""
    if wavelength.ndim == 1:
        return wavelength
    if not len(wavelength):
        raise XpjaxError(f"{name} has no rows")
    if np.abs(wavelength - wavelength[0]).max() > 1e-6:
        raise XpjaxError(f"{name}: wavelengths differ from row to row; give one file for each grid")
    return wavelength[0]


def _one_row_each(table: Catalogue, name: str) -> Catalogue:
    """Rows that are samples as rows that are sources; other columns from each one's first row."""
    ids = np.asarray(table.columns["source_id"])
    _, first, number = np.unique(ids, return_index=True, return_counts=True)
    order = np.argsort(first)
    first, m = first[order], int(number[0])
    if np.any(number != m) or np.any(ids.reshape(-1, m) != ids[first][:, None]):
        raise XpjaxError(f"{name}: sources have {number.min()} to {number.max()} rows, or not one after the other")
    columns = {
        key: np.asarray(column).reshape(-1, m) if key in ("flux", "flux_error", "wavelength") else column[first]
        for key, column in table.columns.items()
    }
    return dataclasses.replace(table, columns=columns)


def _is_archive_csv(path: Path) -> bool:
    """Whether a CSV file begins with the comments of an ECSV one, as the archive's bulk files do."""
    if not path.name.lower().endswith((".csv", ".csv.gz")) or path.name.lower().endswith(".ecsv"):
        return False
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with contextlib.suppress(OSError), opener(path, "rb") as file:
        return file.read(1) == b"#"
    return False


def _read_archive_csv(path: Path) -> Catalogue:
    """A CSV file after its comments: numbers, and arrays as [a,b] or (a,b)."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    limit = csv.field_size_limit(2**31 - 1)
    try:
        with opener(path, "rt") as file:
            rows = list(csv.reader(line for line in file if not line.startswith("#")))
    finally:
        csv.field_size_limit(limit)
    if len(rows) < 2:
        raise XpjaxError(f"{path.name} has no rows")
    return Catalogue({name: _cells(cells) for name, cells in zip(rows[0], zip(*rows[1:]), strict=True)})


def _cells(cells: tuple[str, ...]) -> np.ndarray:
    def number(cell: str) -> float:
        return float("nan" if cell.strip() in ("", "null") else cell)

    if cells[0][:1] in ("[", "("):
        return np.array([[number(part) for part in cell[1:-1].split(",")] for cell in cells])
    with contextlib.suppress(ValueError):
        return np.array(cells, np.int64)
    with contextlib.suppress(ValueError):
        return np.array([number(cell) for cell in cells])
    return np.array(cells)
