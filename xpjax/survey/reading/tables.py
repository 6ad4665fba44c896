"""Observations from tables of detections, as a configuration reads them.

A name in the configuration means a column of the survey's table; `model`, `model_error` and `color`, and columns of
cuts, may be the standards' instead. A name that both have must say whose it is, as in `standards.MAG`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.tables import Table, open_table, open_tables, split_part
from xpjax.survey import Named, Observations, concatenate, detection_ids, name_exposures, settle_stars
from xpjax.survey.reading.account import Account
from xpjax.survey.reading.config import SurveyConfig
from xpjax.survey.reading.rows import BandRows, listed, named_columns
from xpjax.survey.reading.standards import Standards, coefficients_said, open_standards


@dataclasses.dataclass
class SurveyReading:
    """Hold what was read of the tables of a survey.

    Parameters
    ----------
    observations : Observations
        The measurements.
    account : Account
        What happened to the rows, for reports.
    files : mapping of str to str
        Files of the exposures.
    further : mapping of str to (n,) array
        Further columns.
    amplifiers : tuple of str
        Names of the amplifiers, by their codes.
    airmass_laws : mapping
        Airmasses and laws of shifts with color, of observations in the passband at one airmass.

    Examples
    --------
    >>> columns = {"star": "id", "magnitude": "m", "magnitude_error": "e", "model": "M"}
    >>> config = {"columns": columns, "model": {"position_order": 0, "color_order": 0, "magnitude_order": 0}}
    >>> k = np.arange(20)
    >>> tonight = {"id": k, "m": 14 + k / 9, "e": np.full(20, 0.01), "M": 17 + k / 9}
    >>> from xpjax.survey.reading import read_config, read_observations
    >>> reading = read_observations({"e1": tonight}, read_config(config))
    >>> reading.account.n_row
    20
    """

    observations: Observations
    account: Account
    files: Mapping[str, str]
    further: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    amplifiers: tuple[str, ...] = ()
    airmass_laws: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_observations(
    sources: Any,
    config: SurveyConfig,
    *,
    exposure: str | None = None,
    keep: Sequence[str] = (),
    further: Sequence[str] = (),
    known: Mapping[str, str] | None = None,
    amplifiers: Sequence[str] | None = None,
    new: bool = False,
) -> SurveyReading:
    """Read observations from files or tables, joined to what the configuration names.

    Parameters
    ----------
    sources : path, table, list of these, or mapping
        Files and tables; a mapping has them by the names of their exposures.
    config : SurveyConfig
        What the columns mean.
    exposure : str, optional
        The exposure of all of them, where no column says it.
    keep : sequence of str
        Columns that go back with calibrated magnitudes.
    further : sequence of str
        Columns of numbers that are wanted as they are.
    known : mapping of str to str, optional
        Files of the exposures of an earlier solution.
    amplifiers : sequence of str, optional
        Names of the amplifiers of an earlier solution.
    new : bool
        Whether files are new exposures, even if named as those of the earlier solution.

    Returns
    -------
    SurveyReading
        Observations, and what happened to the rows.

    Raises
    ------
    XpjaxError
        If a column is not there, has a unit of another kind, or is wrong otherwise; the message names file and column.

    Examples
    --------
    >>> columns = {"star": "id", "magnitude": "m", "magnitude_error": "e", "model": "M"}
    >>> config = {"columns": columns, "model": {"position_order": 0, "color_order": 0, "magnitude_order": 0}}
    >>> k = np.arange(20)
    >>> tonight = {"id": k, "m": 14 + k / 9, "e": np.full(20, 0.01), "M": 17 + k / 9}
    >>> from xpjax.survey.reading import read_config, read_observations
    >>> reading = read_observations({"e1": tonight}, read_config(config))
    >>> reading.observations.frames.exposure.tolist(), float(reading.observations.model[0])
    (['e1'], 17.0)
    """
    standards = _standards(config, further)
    gaia = None
    if config.gaia is not None:
        table = open_table(_under(config.folder, config.gaia.corrections))
        gaia = {name: table.column(name).numbers() for name in table.names}
    named, tables = _named(sources, config, exposure, known, new)
    account = Account(notes=list(named.notes))
    pile = _Pile(further={name: [] for name in further})
    for name, each in zip(named.names, tables, strict=True):
        found, detectors = _opened(each)
        if len(found) > 1 and all("detector" not in mapping for mapping in config.bands.values()):
            account.notes.append(f"{each}: {len(found)} tables of like columns, taken for detectors")
        for table, detector in zip(found, detectors, strict=True):
            for rows in _bands(name, detector, table, config, standards, gaia, account):
                pile.add(rows, keep, detection_ids(name, detector, len(table)))
            account.notes += [note for note in table.notes if note not in account.notes]
            table.drop()
    if not pile.parts:
        raise XpjaxError(f"no table has any of the bands {list(config.bands)}")
    if standards is not None:
        account.notes += [note for note in standards.table.notes if note not in account.notes]
    o, names_of = pile.observations(standards, account, amplifiers)
    more = {name: np.concatenate(values) for name, values in pile.further.items()}
    return SurveyReading(o, account, named.files, more, names_of)


def _standards(config: SurveyConfig, further: Sequence[str]) -> Standards | None:
    """The table of standards that a configuration names."""
    said = config.standards
    if said is None:
        return None
    names = {n for mapping in config.bands.values() for n in named_columns(mapping)} | {*further}
    standards = Standards(open_standards(_under(config.folder, said.file)), said, names)
    if standards.holds_coefficients and not config.takes_models:
        raise XpjaxError(f"[standards] file {coefficients_said(standards.table.origin)}")
    return standards


@dataclasses.dataclass
class _Pile:
    """What the tables of a survey gave so far, a part for each table and band."""

    further: dict[str, list[np.ndarray]]
    parts: list[Observations] = dataclasses.field(default_factory=list)
    columns: list[tuple[np.ndarray, ...]] = dataclasses.field(default_factory=list)
    """Of each part: which stars have no name, positions, names of detections, amplifiers."""

    def add(self, rows: BandRows, keep: Sequence[str], own: np.ndarray) -> None:
        """Take up rows; own (n,): names of the detections."""
        part, unknown, place = rows.observations(keep)
        self.parts.append(part)
        self.columns.append((unknown, *place, own, rows.amplifiers()))
        for name, values in self.further.items():
            values.append(rows.column_numbers(name, "a covariate"))

    def observations(
        self, standards: Standards | None, account: Account, amplifiers: Sequence[str] | None
    ) -> tuple[Observations, tuple[str, ...]]:
        """All rows, every star of them named, and the names of amplifiers; the account gets what is to be told."""
        o = concatenate(_of_one_kind(self.parts))
        unknown, ra, dec, own, amplifier = map(np.concatenate, zip(*self.columns, strict=True))
        by_position = standards is not None and standards.by_position
        if standards is not None and by_position and account.n_row and not account.n_matched:
            account.notes.insert(0, standards.why_none(ra, dec))
        radius = standards.radius if standards is not None and by_position else 1.0
        unknown = unknown | self._repeated(o, unknown, account)
        star, n_star, n_alone = settle_stars(o.star, unknown, ra, dec, o.frame, radius, own)
        if n_star and (standards is not None or n_star < int(unknown.sum())):
            account.notes.append(
                f"{int(unknown.sum()):,} detections without a name are {n_star:,} stars by position"
                + (f", {n_alone:,} ambiguous ones stay alone" if n_alone else "")
            )
        names_of, code = _codes(amplifier, amplifiers)
        return dataclasses.replace(o, star=star, amplifier=code), names_of

    @staticmethod
    def _repeated(o: Observations, unknown: np.ndarray, account: Account) -> np.ndarray:
        """Which names (n,) are 0 or negative and come several times on one frame: so tables without masks have gaps."""
        out = np.zeros(len(o), bool)
        rows = np.flatnonzero(~unknown & (o.star <= 0)) if o.star.dtype.kind in "iu" else np.zeros(0, int)
        if len(rows):
            keys = np.stack([o.star[rows], o.frame[rows]], axis=1)
            kinds, count = np.unique(keys, axis=0, return_counts=True)
            out[rows] = np.isin(o.star[rows], kinds[count > 1, 0])
        if out.any():
            said = ", ".join(str(k) for k in np.unique(o.star[out])[:3])
            account.notes.append(f"{int(out.sum()):,} names of stars are {said}, several on one exposure: missing")
        return out


def _codes(names: np.ndarray, known: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
    """The amplifiers (n,) by name as numbers that all files share. Raises XpjaxError for one that a solution lacks."""
    kinds, inverse = np.unique(names, return_inverse=True)
    if known:
        strange = sorted({*kinds.tolist()} - {*known})
        if strange and any(known):
            raise XpjaxError(f"the solution has no amplifier {strange[0]!r}; it has {list(known)}")
        place = {name: k for k, name in enumerate(known)}
        return tuple(known), np.array([place.get(name, 0) for name in kinds.tolist()], np.int32)[inverse]
    return tuple(kinds.tolist()), inverse.astype(np.int32)


def _opened(source: Any) -> tuple[list[Table], list[str]]:
    """The tables of a source, and what they are called as detectors: one of a file is called as beside the others."""
    tables = open_tables(source)
    path, part = split_part(source) if isinstance(source, str | Path) else (None, "")
    if not part:
        return tables, _detectors(tables)
    try:
        others = open_tables(path)
    except XpjaxError:  # tables of other columns
        return tables, [part]
    return tables, [name for one, name in zip(others, _detectors(others), strict=True) if one.part == tables[0].part]


def _detectors(tables: Sequence[Table]) -> list[str]:
    """What tables of one file are called as detectors: their names, or their numbers where names are not distinct."""
    if len(tables) < 2:
        return [""] * len(tables)
    names = [found[1] if (found := re.search(r"\[([^\[\]]+)\]$", table.origin)) else table.part for table in tables]
    return names if len({*names}) == len(names) else [table.part for table in tables]


def _is_column(value: Any) -> bool:
    """Whether this is a column, so that a mapping with it is one table."""
    return np.ndim(value) == 1 and not (
        hasattr(value, "colnames") or getattr(getattr(value, "dtype", None), "names", None)
    )


def _under(folder: Path, name: Any) -> Any:
    return folder / name if isinstance(name, str) else name


def _named(
    sources: Any, config: SurveyConfig, exposure: str | None, known: Mapping[str, str] | None, new: bool
) -> tuple[Named, list[Any]]:
    """The exposures that sources are unless a column says it, and the sources."""
    if isinstance(sources, Mapping) and not any(map(_is_column, sources.values())):
        return Named(tuple(map(str, sources)), {}), list(sources.values())
    tables = list(sources) if isinstance(sources, list | tuple) else [sources]
    if exposure is not None:
        return Named((exposure,) * len(tables), {}), tables
    if config.names_exposures:
        files = [str(Path(t).absolute()) if isinstance(t, str | Path) else "" for t in tables]
        return Named(tuple(file or f"table {k + 1}" for k, file in enumerate(files)), {}), tables
    if all(isinstance(table, str | Path) for table in tables):
        return name_exposures([Path(table) for table in tables], known, new=new), tables
    if len(tables) == 1:
        return Named(("exposure",), {}), tables
    raise XpjaxError("tables in memory have no names: pass a mapping from the names of their exposures to them")


def _of_one_kind(parts: list[Observations]) -> list[Observations]:
    """Parts whose names of stars are all numbers or all text."""
    if len({part.star.dtype.kind in "iu" for part in parts}) < 2:
        return parts
    return [dataclasses.replace(part, star=part.star.astype(str)) for part in parts]


def _bands(
    name: str,
    detector: str,
    table: Table,
    config: SurveyConfig,
    standards: Standards | None,
    gaia: Mapping[str, np.ndarray] | None,
    account: Account,
) -> Iterator[BandRows]:
    """The rows of each band that a table has."""
    account.n_row += len(table)
    table.load(n for mapping in config.bands.values() for n in named_columns(mapping))
    matched: tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None] | None = None
    for band, mapping in config.bands.items():
        wanted = {n for key in ("magnitude", "apertures") if key in mapping for n in listed(mapping[key])}
        if len(config.bands) > 1 and not wanted & set(table.fields):
            account.bands_absent.append(f"{band} of {name}")
            continue
        rows = BandRows(name, detector, band, table, mapping, config, standards, account)
        rows.join(matched)
        matched = rows.index, rows.place
        if gaia is not None:
            rows.correct_gaia(gaia)
        yield rows
