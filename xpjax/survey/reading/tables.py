"""Observations from tables of detections, as a configuration reads them.

A name in the configuration means a column of the survey's table; `model`, `model_error` and `color`, and columns of
cuts, may be the standards' instead. A name that both have must say whose it is, as in `standards.MAG`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.sky import cells_of
from xpjax.core.types import AnyTables
from xpjax.io.tables import Table, open_table, open_tables, split_part
from xpjax.survey import Named, Observations, concatenate, detection_ids, name_exposures, settle_stars
from xpjax.survey.reading.account import Account
from xpjax.survey.reading.airmass import to_reference
from xpjax.survey.reading.config import SurveyConfig
from xpjax.survey.reading.doubles import once_per_frame
from xpjax.survey.reading.look import is_column
from xpjax.survey.reading.rows import BandRows, listed, named_columns
from xpjax.survey.reading.sections import CUT_COLUMNS
from xpjax.survey.reading.spectra import LEVEL, Field, FieldSpectra, gaia_ids, needs_field, open_spectra
from xpjax.survey.reading.standards import Standards, coefficients_said, open_standards
from xpjax.xp import SourceTable


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
    spectra : SourceTable, optional
        XP spectra of the standards that were matched.

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
    spectra: SourceTable | None = None


def read_observations(
    sources: AnyTables,
    config: SurveyConfig,
    *,
    exposure: str | None = None,
    keep: Sequence[str] = (),
    further: Sequence[str] = (),
    known: Mapping[str, str] | None = None,
    amplifiers: Sequence[str] | None = None,
    new: bool = False,
    airmass_laws: Mapping[str, object] | None = None,
) -> SurveyReading:
    """Read observations from files or tables, joined to what the configuration names.

    With a [passband], model magnitudes are computed from XP spectra, and magnitudes are in the passband at one airmass.

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
    airmass_laws : mapping, optional
        Those of the earlier solution, of magnitudes in the passband at one airmass.

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
    pile, standards, account, named = read_rows(
        sources, config, exposure=exposure, keep=keep, further=further, known=known, new=new
    )
    account.check_headers(solved=known is not None)
    if not sum(map(len, pile.parts)) and (config.selection.bands or not pile.parts):
        raise XpjaxError(f"no table has any of the bands {[*(config.selection.bands or config.bands)]}")
    o, names_of = pile.observations(standards, account, amplifiers)
    more = {name: np.concatenate(values) for name, values in pile.further.items()}
    spectra = spectra_of(o, config, standards)
    laws: Mapping[str, Any] = {}
    if config.passband is not None:
        o, lines, laws = to_reference(o, config, spectra, airmass_laws)
        account.notes += lines
    return SurveyReading(o, account, named.files, more, names_of, laws, spectra)


def read_rows(
    sources: Any,
    config: SurveyConfig,
    *,
    exposure: str | None = None,
    keep: Sequence[str] = (),
    further: Sequence[str] = (),
    known: Mapping[str, str] | None = None,
    new: bool = False,
) -> tuple[Pile, Standards | None, Account, Named]:
    """The rows of tables as they are, joined to the standards: what `read_observations` reads, which has the options.

    Which stars those are that nobody names, all tables of a survey together must say: `Pile.observations`.
    """
    named, tables = named_sources(sources, config, exposure, known, new)
    standards = _standards(config, further, tables)
    gaia = None
    if config.gaia is not None:
        table = open_table(_under(config.folder, config.gaia.corrections))
        gaia = {name: table.column(name).numbers() for name in table.names}
    account = Account(notes=list(named.notes))
    pile = Pile(further={name: [] for name in further})
    for name, each in zip(named.names, tables, strict=True):
        found, detectors = _opened(each)
        if len(found) > 1 and all("detector" not in mapping for mapping in config.bands.values()):
            account.notes.append(f"{each}: {len(found)} tables of like columns, taken for detectors")
        for table, detector in zip(found, detectors, strict=True):
            for rows in _bands(name, detector, table, config, standards, gaia, account):
                pile.add(rows, keep, detection_ids(name, detector, len(table)))
            account.notes += [note for note in table.notes if note not in account.notes]
            table.drop()
    if standards is not None:
        account.notes += [note for note in standards.table.notes if note not in account.notes]
    return pile, standards, account, named


def spectra_of(o: Observations, config: SurveyConfig, standards: Standards | None = None) -> SourceTable | None:
    """The XP spectra of the standards that are among the observations; standards: where they were opened already."""
    said = config.standards
    if said is None or not said.has_spectra:
        return None
    ids = np.unique(o.star) if o.star.dtype.kind in "iu" else np.zeros(0, np.int64)
    if standards is not None and standards.spectra is not None:
        return standards.spectra.of(ids)
    return _field_spectra(config, Field(ids=ids[ids > 0])).of(ids)


def _field_spectra(config: SurveyConfig, field: Field | None, wanted: Iterable[str] = ()) -> FieldSpectra:
    """The spectra that may be of the detections, with the columns of a table of stars where there is one."""
    said = config.standards
    assert said is not None
    spectra = open_spectra(said, config.folder, field)
    if said.file is None:
        return spectra
    return spectra.beside(open_standards(_under(config.folder, said.file)), said.id, wanted)


def _standards(config: SurveyConfig, further: Sequence[str], tables: Sequence[Any]) -> Standards | None:
    """The standards that a configuration names."""
    said = config.standards
    if said is None:
        return None
    names = {n for mapping in config.bands.values() for n in named_columns(mapping)} | {*further}
    names = {name.removeprefix("standards.") for name in names} | {*CUT_COLUMNS}
    by_position = matches_by_position(config, tables)
    if said.has_spectra:
        field = field_of(config, tables, by_position) if needs_field(said) else None
        spectra = _field_spectra(config, field, names)
        return Standards(spectra.table(), said, names, by_position=by_position, spectra=spectra)
    standards = Standards(open_standards(_under(config.folder, said.file)), said, names, by_position=by_position)
    if standards.holds_coefficients and not config.takes_models:
        raise XpjaxError(f"[standards] file {coefficients_said(standards.table.origin)}")
    return standards


def matches_by_position(config: SurveyConfig, tables: Sequence[Any]) -> bool:
    """Whether detections are matched to standards by position, where the configuration does not say it.

    Raises XpjaxError where standards are spectra and neither positions nor identifiers are named.
    """
    said = config.standards
    assert said is not None
    if said.match is not None or not said.has_spectra:
        return said.match == "position"
    placed, named = (all(keys <= {*m} for m in config.bands.values()) for keys in ({"ra", "dec"}, {"star"}))
    if not placed and not named:
        raise XpjaxError(
            "[standards] has spectra, and nothing tells whose: name columns.ra and columns.dec, or columns.star with "
            "Gaia's source_id"
        )
    if placed and named and tables:
        mapping = next(iter(config.bands.values()))
        return not gaia_ids(_opened(tables[0])[0][0].column(str(mapping["star"]), "star").ids().value)
    return placed


def field_of(config: SurveyConfig, tables: Sequence[Any], by_position: bool) -> Field:
    """Where the detections of all tables are on the sky, or the identifiers of their stars."""
    keys = ("ra", "dec") if by_position else ("star",)
    found = [np.zeros(0, np.int64)]
    for each in tables:
        for table in _opened(each)[0]:
            for names in dict.fromkeys(tuple(str(mapping[key]) for key in keys) for mapping in config.bands.values()):
                if by_position:
                    found.append(cells_of(*Standards.positions(table, *names), 1 << LEVEL))
                else:
                    ids = table.column(names[0], "star").ids()
                    found.append(ids.value[~ids.missing] if ids.value.dtype.kind in "iu" else found[0])
            table.drop()
    every = np.unique(np.concatenate(found))
    every = every[every >= 0] if by_position else every[every > 0]
    if not len(every):
        raise XpjaxError(f"no detection has {'a position' if by_position else 'an identifier'}: no spectrum is theirs")
    return Field(pixels=every) if by_position else Field(ids=every)


@dataclasses.dataclass
class Pile:
    """What the tables of a survey gave so far, a part for each table and band."""

    further: dict[str, list[np.ndarray]]
    parts: list[Observations] = dataclasses.field(default_factory=list)
    columns: list[tuple[np.ndarray, ...]] = dataclasses.field(default_factory=list)
    """Of each part: which stars have no name, positions, names of detections, amplifiers."""

    def add(self, rows: BandRows, keep: Sequence[str], own: np.ndarray) -> None:
        """Take up rows, of the bands that are wanted; own (n,): names of the detections."""
        part, unknown, place = rows.observations(keep)
        columns = (unknown, *place, own, rows.amplifiers())
        further = {name: rows.covariate(name) for name in self.further}
        if wanted := rows.config.selection.bands:
            mine = np.isin(part.frames.band, wanted)
            for band, n in zip(*np.unique(part.frames.band[part.frame], return_counts=True), strict=True):
                if band not in wanted:
                    rows.account.leave_out(str(band), int(n))
            chosen = mine[part.frame]
            part = part.on_frames(mine)
            columns = tuple(column[chosen] for column in columns)
            further = {name: values[chosen] for name, values in further.items()}
        self.parts.append(part)
        self.columns.append(columns)
        for name, values in self.further.items():
            values.append(further[name])

    def rows(self) -> tuple[Observations, tuple[np.ndarray, ...]]:
        """All rows as they are; which stars have no name (n,), positions, names of detections, amplifiers."""
        columns = tuple(map(np.concatenate, zip(*self.columns, strict=True)))
        return concatenate(_of_one_kind(self.parts)), columns

    def observations(
        self, standards: Standards | None, account: Account, amplifiers: Sequence[str] | None
    ) -> tuple[Observations, tuple[str, ...]]:
        """All rows, every star of them named, and the names of amplifiers; the account gets what is to be told."""
        o, (unknown, ra, dec, own, amplifier) = self.rows()
        if standards is not None and standards.by_position and account.n_row and not account.n_matched:
            account.notes.insert(0, standards.why_none(ra, dec))
        radius = match_radius(standards)
        star = name_stars(o.star, unknown, ra, dec, o.frame, own, radius, account, joined=standards is not None)
        names_of, code = _codes(amplifier, amplifiers)
        return once_per_frame(dataclasses.replace(o, star=star, amplifier=code)), names_of


def match_radius(standards: Standards | None) -> float:
    """How far apart [arcsec] detections of a star may be that nobody names."""
    return standards.radius if standards is not None and standards.by_position else 1.0


def name_stars(
    star: np.ndarray, unknown: np.ndarray, ra: np.ndarray, dec: np.ndarray, frame: np.ndarray, own: np.ndarray,
    radius: float, account: Account, *, joined: bool,
) -> np.ndarray:  # fmt: skip
    """Names (n,) of the stars of all detections of a survey; of those that nobody names by position, see `identity`.

    Names of which a frame has several are none. own (n,): of the detections. joined: whether there are standards.
    """
    unknown = unknown | _repeated(star, frame, unknown, account)
    star, n_star, n_alone = settle_stars(star, unknown, ra, dec, frame, radius, own)
    if n_star and (joined or n_star < int(unknown.sum())):
        account.notes.append(
            f"{int(unknown.sum()):,} detections without a name are {n_star:,} stars by position"
            + (f", {n_alone:,} ambiguous ones stay alone" if n_alone else "")
        )
    return star


def _repeated(star: np.ndarray, frame: np.ndarray, unknown: np.ndarray, account: Account) -> np.ndarray:
    """Which names (n,) are 0 or negative and come several times on one frame: so tables without masks have gaps."""
    out = np.zeros(len(star), bool)
    rows = np.flatnonzero(~unknown & (star <= 0)) if star.dtype.kind in "iu" else np.zeros(0, int)
    if len(rows):
        keys = np.stack([star[rows], frame[rows]], axis=1)
        kinds, count = np.unique(keys, axis=0, return_counts=True)
        out[rows] = np.isin(star[rows], kinds[count > 1, 0])
    if out.any():
        said = ", ".join(str(k) for k in np.unique(star[out])[:3])
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


def _under(folder: Path, name: Any) -> Any:
    return folder / name if isinstance(name, str) else name


def named_sources(
    sources: Any, config: SurveyConfig, exposure: str | None, known: Mapping[str, str] | None, new: bool
) -> tuple[Named, list[Any]]:
    """The exposures that sources are unless a column says it, and the sources."""
    if isinstance(sources, Mapping) and not any(map(is_column, sources.values())):
        return Named(tuple(map(str, sources)), {}), list(sources.values())
    tables = list(sources) if isinstance(sources, list | tuple) else [sources]
    if exposure is not None:
        if config.names_exposures:
            raise XpjaxError(
                f"{say('exposure=', '--exposure')} has no effect: columns.exposure says which exposure a row is of; "
                "leave one of them out"
            )
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
    account.n_table += 1
    account.n_row += len(table)
    table.load(n for mapping in config.bands.values() for n in named_columns(mapping))
    matched: BandRows | None = None
    for band, mapping in config.bands.items():
        wanted = {n for key in ("magnitude", "apertures", "flux") if key in mapping for n in listed(mapping[key])}
        if len(config.bands) > 1 and not wanted & set(table.fields):
            account.bands_absent.append(f"{band} of {name}")
            continue
        rows = BandRows(name, detector, band, table, mapping, config, standards, account)
        rows.join(matched)
        matched = rows
        if gaia is not None:
            rows.correct_gaia(gaia)
        yield rows
