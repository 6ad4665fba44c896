"""Spectra to observe from files of any kind: SEDs in text or FITS, tables of spectra, libraries, grids of models.

a folder, ckp00_5750.fits     Castelli & Kurucz (2004)
.npz                          NextGen
text that begins with &SYNTH  a grid of FERRE
.h5 of `xpjax labels grid`    a grid of models: its nodes, at the resolution that it has
source_id and flux            a table of spectra, as `xpjax.xp.read_spectra` reads them
wavelength and flux           a table that is one spectrum, with a sample in each row
other FITS and text           one spectrum, as libraries of such files are read (`xpjax.stellar.libraries`)
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue
from xpjax.core.release import DR3, Release
from xpjax.core.units import unit_factor
from xpjax.io.atomic import expanded
from xpjax.io.hdf5 import model_kind
from xpjax.io.streams import check_file, open_bytes, plain_suffix, reading
from xpjax.io.tables import Table, open_table
from xpjax.stellar.grid import FORMAT, StellarGrid, read_grid
from xpjax.stellar.libraries import read_library
from xpjax.stellar.libraries.fits import fits_parts, fits_spectrum
from xpjax.stellar.libraries.library import (
    UNITS,
    Limits,
    ModelSpectra,
    agreed,
    agreed_medium,
    check_choices,
    option,
    prepared,
    to_vacuum,
)
from xpjax.stellar.libraries.text import text_spectrum
from xpjax.xp import (
    RELATIVE,
    SourceTable,
    Spectra,
    concatenate,
    flux_factor,
    load_instrument,
    observe,
    read_spectra,
)

TABLES = (".csv", ".ecsv", ".parquet", ".vot", ".xml", ".h5", ".hdf5", ".fits")
FINE = np.arange(330.0, 1050.1, 1.0)
"""Where spectra of a grid of XP coefficients are sampled [nm]."""


def observe_files(
    paths: str | Path | Sequence[str | Path],
    *,
    limits: Mapping[str, Sequence[float | None]] | None = None,
    unit: str | None = None,
    flux_unit: str | None = None,
    medium: str | None = None,
    per: str | None = None,
    **options: Any,
) -> SourceTable:
    """Observe the spectra in files with Gaia's BP and RP, whatever kind of file they are in.

    Parameters
    ----------
    paths : path or list of paths
        Spectra in text or FITS files, tables of spectra, libraries of model spectra (Castelli & Kurucz, NextGen,
        FERRE), or grids of `xpjax labels grid build`.
    limits : mapping, optional
        Of models take those within (low, high) or (low, high, step) by label.
    unit : str, optional
        Unit of wavelengths, such as Angstrom, in files that state none.
    flux_unit : str, optional
        Unit of fluxes, such as erg s-1 cm-2 AA-1, in files that state none; not needed where `g_mag` is given.
    medium : {"vacuum", "air"}, optional
        Where wavelengths of text and FITS spectra are, if files do not say it; those of tables are in vacuum otherwise.
    per : {"wavelength", "frequency"}, optional
        What fluxes are per, if files do not say it; by default per wavelength.
    **options
        Further arguments of `xpjax.observe`: g_mag, ebv, law, noise, release, correction, extend, ...

    Returns
    -------
    SourceTable
        The sources, in order, with the labels of models, or the name of the file, as columns. Those without a source_id
        are numbered.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    XpjaxError
        If a file holds no spectra, does not say what they are, or does not cover enough; naming it.

    Examples
    --------
    >>> wavelength = np.arange(330.0, 1051.0)
    >>> np.savetxt("star.txt", np.stack([wavelength, np.exp(-3000 / wavelength)], axis=1))
    >>> sources = xpjax.stellar.observe_files("star.txt", unit="nm", medium="vacuum", g_mag=15.0)
    >>> sources.coefficients.value.shape
    (1, 110)
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    if not files:
        raise XpjaxError("no files of spectra to observe: name one or more")
    check_choices(medium, per)
    how = {"unit": unit, "flux_unit": flux_unit, "medium": medium, "per": per}
    parts = []
    for k, file in enumerate(files):
        path = expanded(file)
        if k and options.get("noise") is not None:  # no two files have the same noise
            options["noise"] = (*np.atleast_1d(options["noise"])[:1].tolist(), k)
        read = read_seds(path, limits or {}, **how)
        if read.meta.get(RELATIVE) and options.get("g_mag") is None:
            raise XpjaxError(
                f"{path} does not say in which unit its fluxes are: give "
                + say("g_mag= or flux_unit=", "--g-mag, or --flux-unit such as 'erg s-1 cm-2 AA-1'")
            )
        try:
            parts.append(observe(read, **options))
        except XpjaxError as error:
            raise XpjaxError(f"{path}: {error}") from error
    whole = concatenate(parts, ", ".join(Path(file).name for file in files)) if len(parts) > 1 else parts[0]
    if len(parts) > 1 and len(np.unique(whole.source_id)) < len(whole):
        whole = dataclasses.replace(whole, source_id=np.arange(1, len(whole) + 1))
    return whole


def read_seds(
    path: Path, limits: Limits, *, unit: str | None, flux_unit: str | None, medium: str | None, per: str | None
) -> Spectra:
    """The spectra in a file, or in a folder of models, on one grid of wavelengths, with labels as columns."""
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    if path.is_dir():
        return _models(read_library("ck04", path, limits=limits), path)
    if model_kind(path) == FORMAT:
        grid = read_grid(path)
        return _nodes(grid.select(limits) if limits else grid, path)
    suffix = plain_suffix(path)
    if suffix == ".npz":
        return _models(read_library("nextgen", path, limits=limits), path)
    check_file(path)
    if suffix in (".fits", ".fit", ".fts"):
        names = {name for part in fits_parts(path) for name in part.columns}
        if "WAVELENGTH" in names and any(re.fullmatch(r"g\d\d", name) for name in names):
            return _models(read_library("ck04", path, limits=limits), path)
    elif suffix not in TABLES:
        with reading(path, "text"), open_bytes(path) as stream:
            begins = stream.read(4096).lstrip()[:6]
        if begins.upper() == b"&SYNTH":
            choice = {} if medium is None else {"medium": medium}
            return _models(read_library("ferre", path, limits=limits, per=per or "wavelength", **choice), path)
    if limits:
        raise XpjaxError(f"{path}: limits are for libraries and grids of models; leave them out")
    table = open_table(path) if suffix in TABLES else None
    if table is not None and "flux" in table and "source_id" in table:
        return read_spectra(path)
    if table is not None and "flux" in table and "wavelength" in table and suffix != ".fits":
        return _one_table(path, table, unit, flux_unit, medium, per)
    return _one_file(path, unit, flux_unit, medium, per)


def _spectra(
    path: Path, x: np.ndarray, flux: np.ndarray, columns: Mapping[str, np.ndarray], relative: bool,
    release: Release = DR3,
) -> Spectra:  # fmt: skip
    """Spectra (n, m) at x (m,) [nm] with columns; relative: of fluxes in no known unit."""
    n = len(flux)
    units = {name: UNITS[name] for name in columns if name in UNITS}
    meta = {RELATIVE: relative, "origin": path.name}
    status, passed = np.zeros(n, np.uint32), Catalogue(dict(columns), units)
    return Spectra(np.arange(1, n + 1), x, flux, None, None, status, release, meta, passed=passed)


def _models(library: Any, path: Path) -> Spectra:
    """All models of a library, which have to be on one grid."""
    parts: list[ModelSpectra] = list(library)
    if not parts:
        raise XpjaxError(f"{path}: no model is within the limits; widen them")
    x = parts[0].wavelength
    for part in parts:
        if not np.array_equal(part.wavelength, x):
            raise XpjaxError(f"{part.file} has other wavelengths than {parts[0].file}: observe them one by one")
    labels = np.concatenate([part.labels for part in parts])
    columns = {name: labels[:, k] for k, name in enumerate(library.names)}
    return _spectra(path, x, np.concatenate([part.flux for part in parts]), columns, relative=True)


def _nodes(grid: StellarGrid, path: Path) -> Spectra:
    """The nodes of a grid that have spectra."""
    there = ~grid.holes
    labels = grid.labels_of(there)
    flux, x = np.asarray(grid.flux, float)[there], np.asarray(grid.wavelength, float)
    if grid.sampling == "coefficients":
        made = load_instrument().design(FINE)
        if flux.shape[1] != len(made.value):
            raise XpjaxError(
                f"{path} holds {flux.shape[1]} XP coefficients of each model, not those of Gaia DR3: build a grid of "
                "sampled spectra, or observe the library itself"
            )
        flux, x = flux @ (np.asarray(made.value) * float(made.scale)), FINE
    return _spectra(path, x, flux, {name: labels[:, k] for k, name in enumerate(grid.names)}, relative=True)


def _one_table(
    path: Path, table: Table, unit: str | None, flux_unit: str | None, medium: str | None, per: str | None
) -> Spectra:
    """A table with a sample in each row."""
    columns = {name: table.column(name) for name in ("wavelength", "flux")}
    stated = columns["wavelength"].unit
    x = columns["wavelength"].numbers() * unit_factor(stated or unit, "wavelength")
    return _single(path, x, columns["flux"].numbers(), columns["flux"].unit or flux_unit, medium or "vacuum", per)


def _one_file(path: Path, unit: str | None, flux_unit: str | None, medium: str | None, per: str | None) -> Spectra:
    """A FITS or text file with one spectrum."""
    is_fits = plain_suffix(path) in (".fits", ".fit", ".fts")
    one = (fits_spectrum if is_fits else text_spectrum)(path, unit)
    where = agreed_medium(path, "the file does not say", *one.medium, (option("medium", medium), medium))
    chosen = agreed(path, *one.per, (option("per", per), per))
    return _single(path, one.wavelength, one.flux, flux_unit, where, chosen)


def _single(
    path: Path, x: np.ndarray, flux: np.ndarray, flux_unit: str | None, medium: str, per: str | None
) -> Spectra:
    """One spectrum (m,) at x (m,) [nm], in vacuum and ascending, in W m-2 nm-1 where its unit is known."""
    if flux_unit is not None:
        if medium == "air":
            x, medium = to_vacuum(x), "vacuum"
        flux, per = flux * flux_factor(flux_unit, x, f"{path}: flux"), "wavelength"
    zeros = np.zeros(len(x))
    made = prepared(path, x, flux[None], np.zeros((1, 0)), zeros, medium, per or "wavelength")
    columns = {"spectrum": np.array([path.stem])}
    return _spectra(path, made.wavelength, made.flux, columns, relative=flux_unit is None)
