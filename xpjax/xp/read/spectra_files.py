"""Sampled spectra from files: those of `xpjax spectra`, the archive's XP_SAMPLED, and plain ones of others.

HDF5 (datasets), Parquet, FITS, VOTable, ECSV and CSV, packed or not, with the columns

    source_id               integers; 0 or nothing where there is none
    flux, flux_error        an array in each row; per wavelength in W m-2 nm-1, or in the unit that the file states
    wavelength              [nm, in vacuum] or in the unit stated, ascending: once (an HDF5 dataset, an attribute of a
                            file of xpjax, NAME_wavelength.csv beside a CSV file), or the same in each row

or a row for each sample. Other columns are passed on. Files of xpjax say in their metadata what their spectra are
(`truncate`, `correction`, `resolution`, `corrected`); spectra of a file that does not are taken to be as published.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue
from xpjax.core.release import DR3
from xpjax.core.types import AnyTable
from xpjax.core.units import FLUX, is_unit, unit_factor
from xpjax.io.hdf5 import open_hdf5
from xpjax.io.streams import plain_suffix
from xpjax.io.tables import Column, Table, open_table
from xpjax.xp.instrument import load_instrument
from xpjax.xp.sampled import Spectra, spectra_of

LAYOUT = (
    "expected a file of `xpjax spectra`, or columns source_id, flux (an array in each row), optional flux_error, and "
    "wavelength [nm], once (an HDF5 dataset) or the same in each row"
)
SAMPLES = ("flux", "flux_error", "wavelength")
_WORDS = {"flam": "erg s-1 cm-2 AA-1", "fnu": "erg s-1 cm-2 Hz-1"}
"""Units of fluxes as STScI's files call them."""


def read_spectra(path: AnyTable) -> Spectra:
    """Read sampled spectra from a file of xpjax, of the Gaia archive or of others, or from a table in memory.

    HDF5, Parquet, FITS, VOTable, ECSV and CSV, packed or not, with one row for each source, or for each sample, are
    read. What a file does not say to be corrected or truncated is taken as published.

    Parameters
    ----------
    path : str, Path or table
        File, or astropy, pandas or Arrow table, with the columns `source_id`, `flux` (an array in each row), optional
        `flux_error`, and `wavelength` (in vacuum, in nm or in the unit stated), once or the same in each row. Without
        wavelengths, spectra of as many samples as the archive's have its wavelengths, 336, 338, ... 1020 nm.

    Returns
    -------
    Spectra
        Fluxes (n, n_sample) in W m-2 nm-1, converted from the unit that the file states; columns that are no part of a
        spectrum are in `columns`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    XpjaxError
        If the layout is another, identifiers are no integers, units are none of a flux, or wavelengths do not ascend.

    Examples
    --------
    >>> xpjax.write("spectra.h5", xpjax.spectra(xpjax.simulate_sources(5, seed=1)))
    >>> xpjax.xp.read_spectra("spectra.h5").flux.shape
    (5, 343)
    """
    return read_told(path)


def read_told(
    path: Any,
    *,
    unit: str | None = None,
    flux_unit: str | None = None,
    vacuum: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Spectra:
    """Spectra as `read_spectra` reads them, and what the caller says of a file that is silent.

    unit, flux_unit: of wavelengths and fluxes, where the file states none; vacuum: makes wavelengths (m,) [nm] in air
    those in vacuum. Raises XpjaxError also where the file states another unit.
    """
    if isinstance(path, Spectra):
        return path
    path = Path(path).expanduser() if isinstance(path, str | os.PathLike) else path
    name = path.name if isinstance(path, Path) else "the table in memory"
    return spectra_of(_table(path, name, unit, flux_unit, vacuum), name)


def _table(
    path: Any, name: str, unit: str | None, flux_unit: str | None, vacuum: Callable[[np.ndarray], np.ndarray] | None
) -> Catalogue:
    """A file of sampled spectra with flux (n, m) [W m-2 nm-1], and wavelength (m,) [nm] among `shared`.

    A table with a row for each sample becomes one with a row for each source_id, in order of appearance. The caller
    says what `read_told` takes.
    """
    try:
        table = open_table(path)
    except XpjaxError as error:
        raise XpjaxError(f"{name} holds no table of spectra ({error}); {LAYOUT}") from error
    absent = [key for key in ("source_id", "flux") if key not in table]
    if absent:
        raise XpjaxError(f"{name} has no {' and no '.join(absent)}, it has {table.names}; {LAYOUT}")
    axis = wavelength_axis(table, path, unit)
    columns: dict[str, np.ndarray] = {"source_id": source_ids(table)}
    columns |= {key: table.column(key).array() for key in ("flux", "flux_error") if key in table}
    columns |= _others(table)
    if axis is not None and axis.ndim == 1 and columns["flux"].shape == (len(axis), 1) and len(axis) > 1:
        columns, axis = _one_row_each(columns, axis, name)
    flux = columns["flux"]
    if flux.shape[1] < 2:
        raise XpjaxError(f"{name}: flux has shape {(len(flux),)}, one number for each source; {LAYOUT}")
    if axis is None:
        axis = load_instrument(release=str(table.meta.get("release", DR3.name))).wavelength
        if flux.shape[1] != len(axis):
            raise XpjaxError(
                f"{name} has no wavelength for its {flux.shape[1]} samples (the archive's have {len(axis)}); {LAYOUT}"
            )
        agreed_length(f"{name} has none: as in the archive", 1.0, "nm", unit)
        if vacuum is not None:
            option = say('medium="air"', "--medium air")
            raise XpjaxError(f"{name} has no wavelengths: those of the archive are in vacuum; leave out {option}")
    axis = the_same(axis, name)
    if axis.shape != flux.shape[1:]:
        raise XpjaxError(f"{name}: wavelength has shape {axis.shape}, flux {flux.shape}; {LAYOUT}")
    axis = axis if vacuum is None else vacuum(axis)
    if "xp" not in table and not (np.isfinite(axis).all() and (np.diff(axis) > 0).all()):
        raise XpjaxError(f"{name}: the wavelengths do not ascend; sort them, with the fluxes")
    if "flux_error" in columns and columns["flux_error"].shape != flux.shape:
        shape = columns["flux_error"].shape
        shape = shape[:1] if shape[1:] == (1,) else shape
        raise XpjaxError(f"{name}: flux_error has shape {shape}, flux {flux.shape}; they must agree")
    units = {key: field.unit for key, field in table.fields.items() if field.unit and key in columns}
    for key in ("flux", "flux_error"):
        if key in columns and "xp" not in table:  # internal spectra are in units of their own
            columns[key] = columns[key] * _factor(units.get(key), flux_unit, axis, f"{name}: column {key!r}")
            units[key] = FLUX
    told = {key: field.description for key, field in table.fields.items() if field.description and key in columns}
    return Catalogue(columns, {**units, "wavelength": "nm"}, told, {"wavelength": axis}, dict(table.meta))


def source_ids(table: Table) -> np.ndarray:
    """The column source_id (n,) int64, 0 where missing. Raises XpjaxError for text and for numbers that are rounded."""
    ids = table.column("source_id").ids()
    if ids.value.dtype.kind != "i":
        raise XpjaxError(f"{table.origin}: column 'source_id' holds text such as {ids.value[:1]}; expected integers")
    return ids.value


def wavelength_axis(table: Table, path: Any, given: str | None = None) -> np.ndarray | None:
    """Wavelengths [nm] (m,) of all rows, or one (n,) or (n, m) for each; None where the file has none.

    given: their unit by the caller, for files that state none. Raises XpjaxError where a file states another one.
    """
    values, unit = table.shared.get("wavelength"), table.shared_units.get("wavelength")
    if values is None and isinstance(path, Path):
        values, unit = _beside(path) or (None, None)
    if values is None and "wavelength" not in table:
        return None
    if values is None:
        column = table.column("wavelength")
        values, unit = column.array(), column.unit
        values = values[:, 0] if values.shape[1:] == (1,) else values
    values = np.asarray(values, float)
    own = Column(table.origin, "wavelength", values, np.zeros(0, bool), unit).factor("wavelength")
    return values * agreed_length(table.origin, own, unit, given)


def agreed_length(origin: str, own: float, stated: str | None, given: str | None) -> float:
    """What wavelengths are multiplied by to be in nm: `own`, of the unit stated, or by the unit given for want of one.

    Raises XpjaxError where the unit given is no length, or another one than that stated.
    """
    if given is None:
        return own
    option = f"{say('unit=', '--unit')} {given}"
    try:
        said = unit_factor(given, "wavelength")
    except XpjaxError as error:
        raise XpjaxError(f"{say('unit=', '--unit')} is {error}; give nm, Angstrom, um or another length") from None
    if is_unit(stated) and not np.isclose(own, said, rtol=1e-9, atol=0):
        raise XpjaxError(f"{origin}: the wavelengths are in {stated}, which contradicts {option}; leave out {option}")
    return said


def _factor(stated: str | None, given: str | None, axis: np.ndarray, where: str) -> Any:
    """The factor of a unit of fluxes that is stated, or given for want of one; see `flux_factor`."""
    factor = flux_factor(stated, axis, where)
    if given is None:
        return factor
    option = say("flux_unit=", "--flux-unit")
    said = flux_factor(given, axis, option)
    if is_unit(stated) and not np.allclose(factor, said, rtol=1e-6, atol=0):
        raise XpjaxError(f"{where} is in {stated}, which contradicts {option} {given}; leave out {option} {given}")
    return said


def _beside(path: Path) -> tuple[np.ndarray, str | None] | None:
    """Wavelengths that a file has once, and their unit: those of HDF5, or in a file beside CSV."""
    if plain_suffix(path) == ".csv":
        sidecar = path.with_name(f"{path.name[: path.name.lower().rindex('.csv')]}_wavelength.csv")
        if not sidecar.is_file():
            return None
        column = open_table(sidecar).column("wavelength")
        return column.numbers(), column.unit
    import h5py

    if not h5py.is_hdf5(path):
        return None
    with open_hdf5(path) as file:
        item = file.get("wavelength")
        if not isinstance(item, h5py.Dataset) or item.dtype.names or item.dtype.kind not in "iuf" or item.ndim != 1:
            return None
        unit = next((item.attrs[key] for key in ("unit", "units", "UNIT") if key in item.attrs), None)
        return item[()], unit.decode() if isinstance(unit, bytes) else None if unit is None else str(unit)


def flux_factor(unit: str | None, wavelength: np.ndarray, where: str) -> Any:
    """What fluxes (..., m) in a unit are multiplied by to be in W m-2 nm-1: a number, or (m,) for those per frequency.

    Raises XpjaxError for what is no flux density.
    """
    if not is_unit(unit):
        return 1.0
    from astropy import units as u

    density = u.spectral_density(np.asarray(wavelength, float) * u.nm)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of units that are not written as standards ask for
            parsed = u.Unit(_WORDS.get(str(unit).strip().lower(), unit))
        plain = parsed.is_equivalent(FLUX)
        return parsed.to(FLUX) if plain else (np.ones(len(wavelength)) * parsed).to_value(FLUX, equivalencies=density)
    except (ValueError, TypeError) as error:
        raise XpjaxError(
            f"{where} has the unit {unit!r}, which is none of a flux per wavelength or frequency ({FLUX}); mend the "
            "unit, or convert the column"
        ) from error


def the_same(axis: np.ndarray, origin: str) -> np.ndarray:
    """One row (m,) of wavelengths (n, m) that are all the same, or those (m,) of all."""
    if axis.ndim == 1:
        return axis
    if not len(axis):
        raise XpjaxError(f"{origin} has no rows")
    if not np.abs(axis - axis[0]).max() <= 1e-6:
        raise XpjaxError(f"{origin}: wavelengths differ from row to row; give one file for each grid")
    return np.asarray(axis[0])


def _others(table: Table) -> dict[str, np.ndarray]:
    """The columns that are passed on; those that no table could hold are left out."""
    out = {}
    for name in table.names:
        if name in ("source_id", *SAMPLES):
            continue
        try:
            column = table.column(name)
            out[name] = column.array() if not column.is_text and column.values.ndim > 1 else column.plain()
        except XpjaxError as error:
            table.notes.append(str(error))
    return out


def _one_row_each(
    columns: dict[str, np.ndarray], axis: np.ndarray, name: str
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows that are samples as rows that are sources; other columns from each one's first row."""
    ids = columns["source_id"]
    _, first, number = np.unique(ids, return_index=True, return_counts=True)
    first, m = np.sort(first), int(number[0])
    if np.any(number != m) or np.any(ids.reshape(-1, m) != ids[first][:, None]):
        raise XpjaxError(f"{name}: sources have {number.min()} to {number.max()} rows, or not one after the other")
    out = {key: c.reshape(-1, m) if key in SAMPLES else c[first] for key, c in columns.items()}
    return out, axis.reshape(-1, m)
