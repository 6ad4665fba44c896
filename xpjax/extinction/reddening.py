"""E(B-V) of sources by position, from arrays or as columns of a table."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Catalogue, Record, Rows
from xpjax.core.sky import HEALPIX_LEVEL, HEALPIX_SHIFT, on_sky, pixel_centers
from xpjax.core.types import AnyTable
from xpjax.core.units import degrees, in_unit
from xpjax.extinction.maps import SCALES, find_map, look_up
from xpjax.io.catalogue import columns_of
from xpjax.io.results import TableResult
from xpjax.io.tables import Table, open_table
from xpjax.io.words import abridged

LEAST_SNR = 5.0
"""Parallax over its error from which on 1/parallax is taken for the distance."""


@dataclasses.dataclass(frozen=True, repr=False)
class Reddening(TableResult, Rows, Record):
    """Hold E(B-V) of sources, beside the columns that they came with.

    Parameters
    ----------
    ebv : (n,) array [mag]
        E(B-V), NaN where the position is missing or not on the map.
    ebv_error : (n,) array [mag]
        Its standard error, NaN where the map has none.
    columns : dict of str to (n,) or (n, k) array
        Columns that were passed on.
    name : str
        Name of the column of E(B-V).
    map, scale : str
        The map, and the scale of E(B-V): "sfd" or "true".
    units, descriptions : dict of str to str
        Of the columns that were passed on.
    shared, meta : dict
        What holds for all rows.
    notes : tuple of str
        Where positions and distances came from, and what is missing.

    Examples
    --------
    >>> found = xpjax.extinction.Reddening(np.array([0.1, 0.2]), np.array([0.01, 0.02]), {"ra": np.array([1.0, 2.0])})
    >>> found.to_table().colnames
    ['ra', 'ebv', 'ebv_error']
    """

    ebv: np.ndarray
    ebv_error: np.ndarray
    columns: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    name: str = "ebv"
    map: str = "sfd"
    scale: str = "sfd"
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    descriptions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shared: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    meta: Mapping[str, object] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    row_fields = ("ebv", "ebv_error", "columns")

    def catalogue(self) -> Catalogue:
        """The columns that were passed on, and E(B-V) with its error behind them."""
        error = f"{self.name}_error"
        made = {self.name: self.ebv, error: self.ebv_error}
        title, per_ebv = find_map(self.map).title, SCALES[self.scale][1]
        told = {
            self.name: f"E(B-V) of the map {self.map}, {title}, scale {self.scale}: A_V = {per_ebv:g} E(B-V)",
            error: f"Standard error of {self.name}",
        }
        how = {"map": self.map, "scale": self.scale, "a_v": per_ebv}
        meta = {**self.meta, **{f"{self.name}_{key}": value for key, value in how.items()}}
        units, descriptions = {**self.units, **dict.fromkeys(made, "mag")}, {**self.descriptions, **told}
        return Catalogue({**self.columns, **made}, units, descriptions, self.shared, meta)


def ebv(
    ra: ArrayLike,
    dec: ArrayLike,
    map: str = "sfd",
    *,
    scale: str = "sfd",
    distance: ArrayLike | None = None,
    folder: str | Path | None = None,
) -> Reddening:
    """Look up E(B-V) in a map that is on this machine.

    Parameters
    ----------
    ra, dec : (n,) array or astropy.units.Quantity [deg]
        Positions (ICRS).
    map : str
        "sfd", "csfd" (SFD without large-scale structure), "planck" (2013), "gnilc" (Planck 2016) or "bayestar" (2019).
    scale : {"sfd", "true"}
        "sfd": that of SFD's map, A_V = 2.742 E(B-V), which label fits and networks of xpjax expect; "true": as stars
        have it, A_V = 3.1 E(B-V), which is 0.86 of the other.
    distance : (n,) array or astropy.units.Quantity [pc], optional
        Distances, for "bayestar".
    folder : str or Path, optional
        Folder with the files of the map; by default where dustmaps keeps them.

    Returns
    -------
    Reddening
        E(B-V) and its error (n,) [mag], NaN where a position is missing or not on the map; `to_table()` has ra and dec
        too. Errors: of SFD 16 %, of GNILC and Bayestar the map's own; csfd and planck have none, hence NaN.

    Raises
    ------
    XpjaxError
        If dustmaps (extra `[dust]`) or the map is not there; the message says what to download and where to put it.

    Notes
    -----
    SFD and its error: Schlegel, Finkbeiner & Davis (1998, ApJ 500, 525); the factor 0.86: Schlafly & Finkbeiner (2011,
    ApJ 737, 103). Planck's E(B-V), calibrated on colors of quasars, counts as true, Bayestar's unit as SFD's, as its
    authors mean it. SFD is interpolated linearly between pixels, of the others the nearest pixel counts.

    Examples
    --------
    >>> try:
    ...     found = xpjax.extinction.ebv([192.9, 10.7], [27.1, 41.3]).ebv
    ... except xpjax.XpjaxError:  # without dustmaps and its map
    ...     found = np.array([0.014, 0.08])
    >>> found.shape
    (2,)
    """
    ra, dec = (_floats(degrees(angle, name), f"{name}: expected degrees") for angle, name in ((ra, "ra"), (dec, "dec")))
    if ra.ndim != 1 or ra.shape != dec.shape:
        raise XpjaxError(f"ra and dec of shapes {ra.shape} and {dec.shape}; expected one-dimensional arrays alike")
    dust = find_map(map)
    if scale not in SCALES:
        raise XpjaxError(f"unknown scale {scale!r}; choose from {', '.join(SCALES)}")
    if dust.distance != (distance is not None):
        need = "needs distances" if dust.distance else "has no distances: leave them out"
        raise XpjaxError(f"the map {map} {need}")
    there = on_sky(ra, dec)
    far = None
    if distance is not None:
        far = _floats(in_unit(distance, "pc", "the distance"), "distance: expected parsecs")
        if far.shape != ra.shape:
            raise XpjaxError(f"distances of shape {far.shape} for {ra.shape} positions")
        there &= np.isfinite(far) & (far > 0)
    value, error = np.full(ra.shape, np.nan), np.full(ra.shape, np.nan)
    value[there], error[there] = look_up(ra[there], dec[there], map, None if far is None else far[there], folder)
    factor, per_ebv = SCALES[scale]
    notes = [f"E(B-V) of {dust.title}, scale {scale}: A_V = {per_ebv:g} E(B-V)"]
    notes += ["label fits and networks expect the scale sfd"] * (scale != "sfd")
    notes += _counted(~there, f"have no position{' or distance' * dust.distance}, hence no E(B-V)")
    notes += _counted(there & np.isnan(value), "are not on the map, and have no E(B-V)")
    notes += _counted(np.isfinite(value) & np.isnan(error), "have no error of E(B-V): the map has none")
    columns, units = {"ra": ra, "dec": dec}, dict.fromkeys(("ra", "dec"), "deg")
    return Reddening(value * factor, error * factor, columns, "ebv", map.lower(), scale, units, notes=tuple(notes))


def _floats(values: Any, what: str) -> np.ndarray:
    """Numbers in float64. Raises XpjaxError for what is none."""
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise XpjaxError(f"{what}, found {abridged(str(values))}: give numbers, or quantities of astropy") from error


def _counted(rows: np.ndarray, what: str) -> list[str]:
    return [f"{np.count_nonzero(rows):,} of {len(rows):,} rows {what}"] * bool(rows.any())


def add_ebv(
    source: AnyTable,
    map: str = "sfd",
    *,
    scale: str = "sfd",
    column: str = "ebv",
    ra: str | None = None,
    dec: str | None = None,
    keep: Sequence[str] | None = None,
    folder: str | Path | None = None,
) -> Reddening:
    """Add E(B-V) and its error to a table, by position or by the position that a source_id encodes.

    Parameters
    ----------
    source : str, Path or table
        A file of any format, a table in memory, or a result of xpjax such as sources.
    map, scale
        As for `ebv`.
    column : str
        Name of the new column; that of its error has `_error` behind it.
    ra, dec : str, optional
        Columns of the position (ICRS); by default ra and dec, in any case. Without them positions are the centers of
        the HEALPix pixels (0.9 arcmin) that source_id encodes, and `notes` says so.
    keep : sequence of str, optional
        Columns to pass on besides source_id and the position; by default all.
    folder
        As for `ebv`.

    Returns
    -------
    Reddening
        The table (n rows) with two columns [mag] more. For "bayestar" distances are 1/parallax where the parallax is
        five times its error.

    Raises
    ------
    XpjaxError
        If a column is not there, or there already, and as for `ebv`.

    Examples
    --------
    >>> try:
    ...     found = xpjax.extinction.add_ebv("xp.parquet")
    ... except xpjax.XpjaxError as error:  # without dustmaps and its map
    ...     print("E(B-V)" in str(error) or "SFD_dust_4096_ngp.fits" in str(error))
    True
    """
    find_map(map)
    if hasattr(source, "catalogue") or isinstance(source, Catalogue):
        source = columns_of(source)
        table, units, told = open_table(dict(source.columns)), source.units, source.descriptions
        shared, meta = source.shared, source.meta
    else:
        table = _table_of(source)
        units = {name: field.unit for name, field in table.fields.items() if field.unit} | table.shared_units
        told = {name: field.description for name, field in table.fields.items() if field.description}
        shared, meta = table.shared, table.meta
    place, a, d, notes = _positions(table, ra, dec)
    distance = None
    if find_map(map).distance:
        distance, more = _distances(table)
        notes += more
    names = table.names if keep is None else [*dict.fromkeys([*place, *keep])]
    taken = [name for name in names if name.lower() in (column.lower(), f"{column}_error".lower())]
    if taken:
        other = say('column="ebv_sfd"', "--column ebv_sfd")
        raise XpjaxError(f"{table.origin} has a column {taken[0]!r}: name the new one otherwise, as in {other}")
    table.load(names)
    columns = {name: table.column(name).plain() for name in names}
    found = ebv(a, d, map, scale=scale, distance=distance, folder=folder)
    return dataclasses.replace(
        found, columns=columns, name=column, units=units, descriptions=told, shared=shared, meta=meta,
        notes=(*notes, *found.notes),
    )  # fmt: skip


def _table_of(source: Any) -> Table:
    """A table from a file or from memory. Raises XpjaxError for a store, whose numbers are packed."""
    if isinstance(source, str | os.PathLike) and Path(source).expanduser().is_dir():
        packed = True
    else:
        table = open_table(source)
        packed = str(table.header.get("format", "")).strip("b'") == "xpjax store"
    if packed:
        how = say(
            f'xpjax.write("xp.parquet", xpjax.open_store({str(source)!r}).read())', f"`xpjax store select {source}`"
        )
        raise XpjaxError(f"{source} is a store, or a directory, expected a table: take one out of the store by {how}")
    return table


def _named(table: Table, name: str) -> str | None:
    """The column of a name, in any case; None where there is none. Raises XpjaxError for one that is there twice."""
    found = next((known for known in (name, *table.names) if known in table and known.lower() == name), None)
    if found is not None:
        table.check(found)
    return found


def _positions(table: Table, ra: str | None, dec: str | None) -> tuple[list[str], np.ndarray, np.ndarray, list[str]]:
    """Columns of identifier and position, ra and dec (n,) [deg], NaN where missing, and what is to be told."""
    ids = _named(table, "source_id")
    chosen = [given or _named(table, usual) for given, usual in ((ra, "ra"), (dec, "dec"))]
    if all(chosen):
        named = [str(name) for name in chosen]
        a, d = (table.column(name, "the position").angles(hours=k == 0) for k, name in enumerate(named))
        return [*([] if ids is None else [ids]), *named], a, d, []
    how = say("ra= and dec=", "--ra and --dec")
    if any(chosen) or ids is None:
        lacking = "source_id, ra or dec" if not any(chosen) else "ra" if chosen[1] else "dec"
        raise XpjaxError(f"{table.origin} has no {lacking}: name the columns of the position by {how}")
    number = table.column(ids, "the position").ids()
    if number.value.dtype.kind not in "iu":
        raise XpjaxError(
            f"{table.origin}: column {ids!r} holds text, expected Gaia's numbers; name ra and dec by {how}"
        )
    pixel = number.value >> HEALPIX_SHIFT
    known = ~number.missing & (number.value > 0) & (pixel < 12 << 2 * HEALPIX_LEVEL)
    a, d = (np.where(known, angle, np.nan) for angle in pixel_centers(number.value))
    return [ids], a, d, [f"no columns ra and dec: positions are those that {ids} encodes, within 0.9 arcmin"]


def _distances(table: Table) -> tuple[np.ndarray, list[str]]:
    """Distances (n,) [pc] by parallaxes, NaN where these are uncertain, and what is to be told."""
    names = [_named(table, name) or name for name in ("parallax", "parallax_error")]
    parallax, error = (table.column(name, "distances").numbers("parallax") for name in names)
    good = (parallax > 0) & (parallax >= LEAST_SNR * error)
    distance = 1e3 / np.where(good, parallax, np.nan)
    said = (
        f"distances are 1/parallax where it is {LEAST_SNR:g} times its error, in {good.sum():,} of {len(good):,} rows"
    )
    return distance, [said]
