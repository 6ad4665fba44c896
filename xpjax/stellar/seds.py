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
from typing import Any, Unpack

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue
from xpjax.core.release import DR3, Release
from xpjax.core.status import Status
from xpjax.core.units import FLUX, is_unit
from xpjax.io.atomic import expanded
from xpjax.io.hdf5 import model_kind
from xpjax.io.streams import check_file, open_bytes, plain_suffix, reading
from xpjax.io.tables import Table, open_table
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.grid_file import FORMAT, read_grid
from xpjax.stellar.libraries import LibraryOptions, read_library
from xpjax.stellar.libraries.fits import fits_parts, fits_spectrum
from xpjax.stellar.libraries.library import (
    UNITS,
    Claim,
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
    ObserveOptions,
    SourceTable,
    Spectra,
    agreed_length,
    check_noise,
    concatenate,
    flux_factor,
    load_instrument,
    observe,
    read_told,
    repeated,
)

TABLES = (".csv", ".ecsv", ".parquet", ".vot", ".xml", ".h5", ".hdf5", ".fits")
MODELS, SPECTRUM = "models", "spectrum"
KIND = "kind_of_file"
"""Entry of the metadata of spectra without a source_id: one of the two."""
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
    **options: Unpack[ObserveOptions],
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
        Unit of fluxes, such as erg s-1 cm-2 AA-1, in files that state none; not needed where `g_mag` is given. Models
        have none: their fluxes are not as seen from Earth.
    medium : {"vacuum", "air"}, optional
        Where wavelengths are, if files do not say it; those of tables are in vacuum otherwise.
    per : {"wavelength", "frequency"}, optional
        What fluxes are per, if files do not say it; by default per wavelength.
    **options
        Further arguments of `xpjax.observe`: g_mag, ebv, law, noise, release, correction, extend, ...

    Returns
    -------
    SourceTable
        The sources, in order, with the labels of models, or the name of the file, as columns. Files without source_ids
        are numbered, by numbers that no other source has; repeated source_ids are kept, and flagged (DUPLICATE).

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    XpjaxError
        If a file holds no spectra, does not say what they are or says otherwise, or does not cover enough; naming it.

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
    _check_per(flux_unit, per)
    how = {"unit": unit, "flux_unit": flux_unit, "medium": medium, "per": per}
    noise = check_noise(options.pop("noise", None))
    parts, numbered = [], []
    for k, file in enumerate(files):
        path = expanded(file)
        seed = noise if noise is None or not k else (*np.atleast_1d(noise).tolist(), k)  # no two files have the same
        read = read_seds(path, limits or {}, **how)
        if read.meta.get(RELATIVE) and options.get("g_mag") is None:
            raise XpjaxError(f"{path} {_no_unit(read)}")
        try:
            how_seen: ObserveOptions = {**options, "noise": seed}
            parts.append(observe(read, **how_seen))
        except XpjaxError as error:
            raise XpjaxError(f"{path}: {error}") from error
        numbered += [KIND in read.meta] * len(read)
    if len(parts) == 1:
        return parts[0]
    whole = concatenate(parts, ", ".join(Path(file).name for file in files))
    source_id = _numbered(whole.source_id, np.array(numbered, bool))
    again = repeated(source_id) * np.uint32(Status.DUPLICATE)
    return dataclasses.replace(whole, source_id=source_id, status=whole.status | again)


def _numbered(source_id: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Identifiers (n,) with these rows (n,) numbered, in order, by numbers that no other row has."""
    taken = np.unique(source_id[~rows])
    free = np.setdiff1d(np.arange(1, rows.sum() + len(taken) + 1), taken)
    out = np.array(source_id)
    out[rows] = free[: rows.sum()]
    return out


def _no_unit(read: Spectra) -> str:
    """That fluxes of a file are in no unit, and what helps."""
    if read.meta.get(KIND) == MODELS:
        remedy = say("g_mag=", "--g-mag")
        return f"holds models, whose fluxes are not as seen from Earth: give the magnitude to scale them to by {remedy}"
    remedy = say("g_mag= or flux_unit=", "--g-mag, or --flux-unit such as 'erg s-1 cm-2 AA-1'")
    return f"does not say in which unit its fluxes are: give {remedy}"


def _check_per(flux_unit: str | None, per: str | None) -> None:
    """Raise XpjaxError for a unit of fluxes that is none, or is per something else than what is given."""
    if flux_unit is None:
        return
    name = say("flux_unit=", "--flux-unit")
    if not is_unit(flux_unit):
        raise XpjaxError(f"{name} {flux_unit!r} is no unit; expected one of a flux, such as {FLUX}, or leave it out")
    if per is not None and per != _per(flux_unit, name):
        raise XpjaxError(
            f"{option('per', per)} contradicts {option('flux_unit', flux_unit)}, which is per {_per(flux_unit, name)}; "
            "leave out one of them"
        )


def _per(unit: str, where: str) -> str:
    """What a unit of fluxes is per. Raises XpjaxError for one that is none of a flux."""
    return "frequency" if np.ndim(flux_factor(unit, np.array([500.0]), where)) else "wavelength"


def read_seds(
    path: Path, limits: Limits, *, unit: str | None, flux_unit: str | None, medium: str | None, per: str | None
) -> Spectra:
    """The spectra in a file, or in a folder of models, on one grid of wavelengths, with labels as columns."""
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}")
    said = {"unit": unit, "flux_unit": flux_unit, "medium": medium, "per": per}
    if path.is_dir():
        _check_models(path, said)
        return _models(read_library("ck04", path, limits=limits), path)
    if model_kind(path) == FORMAT:
        _check_models(path, said)
        grid = read_grid(path)
        return _nodes(grid.select(limits) if limits else grid, path)
    suffix = plain_suffix(path)
    if suffix == ".npz":
        _check_models(path, said)
        return _models(read_library("nextgen", path, limits=limits), path)
    check_file(path)
    if suffix in (".fits", ".fit", ".fts"):
        names = {name for part in fits_parts(path) for name in part.columns}
        if "WAVELENGTH" in names and any(re.fullmatch(r"g\d\d", name) for name in names):
            _check_models(path, said)
            return _models(read_library("ck04", path, limits=limits), path)
    elif suffix not in TABLES:
        with reading(path, "text"), open_bytes(path) as stream:
            begins = stream.read(4096).lstrip()[:6]
        if begins.upper() == b"&SYNTH":
            _check_models(path, {"unit": unit, "flux_unit": flux_unit})
            choice: LibraryOptions = {"per": per or "wavelength"}
            if medium is not None:
                choice["medium"] = medium
            return _models(read_library("ferre", path, limits=limits, **choice), path)
    if limits:
        raise XpjaxError(f"{path}: limits are for libraries and grids of models; leave them out")
    table = open_table(path) if suffix in TABLES else None
    if table is not None and "flux" in table and "source_id" in table:
        return _with_ids(path, table, unit, flux_unit, medium, per)
    if table is not None and suffix != ".fits":
        called = {name.lower(): name for name in reversed(table.names)}
        if "flux" in called and "wavelength" in called:
            return _one_table(path, table, (called["wavelength"], called["flux"]), unit, flux_unit, medium, per)
        if suffix != ".csv":
            raise XpjaxError(
                f"{path} has no columns of spectra, it has {', '.join(table.names)}; expected wavelength and flux, a "
                "sample in each row, or source_id and flux, an array in each row: rename them"
            )
    return _one_file(path, unit, flux_unit, medium, per)


def _check_models(path: Path, said: Mapping[str, str | None]) -> None:
    """Raise XpjaxError for what is said of models that say it themselves, or whose fluxes are not as seen."""
    wrong = [option(k, v) for k, v in said.items() if v not in (None, "vacuum", "wavelength")]
    if wrong:
        raise XpjaxError(
            f"{path} holds models, whose wavelengths are known, and whose fluxes are not as seen from Earth; leave out "
            f"{', '.join(wrong)}, and scale them by {say('g_mag=', '--g-mag')}"
        )


def _with_ids(
    path: Path, table: Table, unit: str | None, flux_unit: str | None, medium: str | None, per: str | None
) -> Spectra:
    """A table with source_id and flux."""
    stated = table.column("flux").unit
    where = agreed(path, *_media(table), (option("medium", medium), medium)) or "vacuum"
    read = read_told(path, unit=unit, flux_unit=flux_unit, vacuum=to_vacuum if where == "air" else None)
    read = dataclasses.replace(read, meta={**read.meta, "origin": path.name})
    known = stated if is_unit(stated) else flux_unit
    if known is not None:
        agreed(path, (f"the unit {known} of its flux", _per(known, f"{path}: flux")), (option("per", per), per))
    elif per == "frequency":
        factors = {"flux": read.flux, "flux_error": read.flux_error}
        made: Any = {k: None if flux is None else flux / read.wavelength**2 for k, flux in factors.items()}
        read = dataclasses.replace(read, **made, meta={**read.meta, RELATIVE: True})
    return read


def _media(table: Table) -> list[Claim]:
    """What a table says of the medium of its wavelengths; files of xpjax have them in vacuum."""
    field = table.fields.get("wavelength")
    told = (field and field.description) or ""
    media = [medium for medium, word in (("air", r"\bair\b"), ("vacuum", r"\bvac")) if re.search(word, told, re.I)]
    claims: list[Claim] = [("its description of wavelength", media[0])] if len(media) == 1 else []
    return [*claims, ("a file of xpjax", "vacuum")] if "truncate" in table.meta else claims


def _spectra(
    path: Path, x: np.ndarray, flux: np.ndarray, columns: Mapping[str, np.ndarray], kind: str, relative: bool,
    release: Release = DR3,
) -> Spectra:  # fmt: skip
    """Spectra (n, m) at x (m,) [nm] with columns, of a kind of file; relative: of fluxes in no known unit."""
    n = len(flux)
    units = {name: UNITS[name] for name in columns if name in UNITS}
    meta = {RELATIVE: relative, "origin": path.name, KIND: kind}
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
    return _spectra(path, x, np.concatenate([part.flux for part in parts]), columns, MODELS, relative=True)


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
    return _spectra(path, x, flux, {name: labels[:, k] for k, name in enumerate(grid.names)}, MODELS, relative=True)


def _one_table(
    path: Path, table: Table, names: tuple[str, str], unit: str | None, flux_unit: str | None, medium: str | None,
    per: str | None,
) -> Spectra:  # fmt: skip
    """A table with a sample in each row: its columns of these names, wavelengths and fluxes."""
    wavelength, flux = (table.column(name) for name in names)
    x = wavelength.numbers() * agreed_length(str(path), wavelength.factor("wavelength"), wavelength.unit, unit)
    where = agreed(path, *_media(table), (option("medium", medium), medium)) or "vacuum"
    own = (f"column {names[1]!r} in {flux.unit}", flux.unit if is_unit(flux.unit) else None)
    return _single(path, x, flux.numbers(), _flux_unit(path, own, flux_unit, per), where, per)


def _flux_unit(path: Path, stated: Claim, given: str | None, per: str | None) -> str | None:
    """The unit of fluxes that a file states, or that is given. Raises XpjaxError where they differ, or per does."""
    words, own = stated
    if own is None:
        return given
    at = np.array([400.0, 900.0])
    factor = flux_factor(own, at, f"{path}: {words}")
    if given is not None and not np.allclose(factor, flux_factor(given, at, "flux"), rtol=1e-6, atol=0):
        raise XpjaxError(f"{path}: {words} contradicts {option('flux_unit', given)}; leave out the latter")
    agreed(path, (words, _per(own, words)), (option("per", per), per))
    return str(own)


def _one_file(path: Path, unit: str | None, flux_unit: str | None, medium: str | None, per: str | None) -> Spectra:
    """A FITS or text file with one spectrum."""
    is_fits = plain_suffix(path) in (".fits", ".fit", ".fts")
    one = (fits_spectrum if is_fits else text_spectrum)(path, unit)
    where = agreed_medium(path, "the file does not say", *one.medium, (option("medium", medium), medium))
    given = None if flux_unit is None else _per(flux_unit, "flux")
    chosen = agreed(path, *one.per, (option("per", per), per), (option("flux_unit", flux_unit), given))
    words, own = one.unit
    if is_unit(own) and not _is_flux(own):
        agreed(path, (words, own), (option("flux_unit", flux_unit), flux_unit))
    known = _flux_unit(path, (words, own if _is_flux(own) else None), flux_unit, per)
    return _single(path, one.wavelength, one.flux, known, where, chosen)


def _is_flux(unit: str | None) -> bool:
    """Whether a word is a unit of fluxes; FITS files have others, and words that are none."""
    try:
        return is_unit(unit) and bool(np.any(flux_factor(unit, np.array([500.0]), "")))
    except XpjaxError:
        return False


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
    return _spectra(path, made.wavelength, made.flux, columns, SPECTRUM, relative=flux_unit is None)
