"""A configuration to begin with: what tables of detections mean, guessed, told how surely, and ready to run."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.archive import SOURCE_COLUMNS
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Record
from xpjax.core.types import AnyTables
from xpjax.core.version import __version__
from xpjax.io.atomic import check_output, write_bytes
from xpjax.io.tables import open_table
from xpjax.survey import Observations
from xpjax.survey.reading.bands import passband_section
from xpjax.survey.reading.choice import choose_model, error_limit
from xpjax.survey.reading.config import SurveyConfig, config_from, files_relative_to
from xpjax.survey.reading.guess import (
    cuts_that_run,
    find_flags,
    find_frames,
    find_gaia,
    find_pixels,
    find_sky,
    find_star,
)
from xpjax.survey.reading.look import SAMPLE, SURE, Guess, Look, few, spread
from xpjax.survey.reading.magnitudes import Measured, find_magnitudes
from xpjax.survey.reading.odd import alarms
from xpjax.survey.reading.tables import SurveyReading, read_observations
from xpjax.survey.reading.toml_text import SECTIONS, configuration, plain, toml

Table = dict[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True, repr=False)
class InitialConfig(Record):
    """Hold a configuration that was guessed from tables of detections.

    Parameters
    ----------
    table : mapping
        Sections with their entries; files are relative to the present directory.
    guesses : tuple of Guess
        What entries were taken to be, how sure that is (certain, likely, guess), and why.
    reasons : mapping of str to str
        Why other entries have the values that they have.
    notes : tuple of str
        What was seen and not taken, and what is odd.
    seen : str
        The tables that were looked at.
    ready : bool
        Whether `calibrate_survey` can run with it: whether there are standards.
    account : tuple of str
        What happened to the rows of the tables that were read with it.

    Examples
    --------
    >>> k = np.arange(30)
    >>> night = {"X_IMAGE": 60.0 * k, "Y_IMAGE": k**2 % 97, "MAG_AUTO": 14 + k / 9, "MAGERR_AUTO": np.full(30, 0.01)}
    >>> found = xpjax.survey.reading.initial_config({"e1": {**night, "model": 17 + k / 9}})
    >>> found.guesses[0].entry, found.guesses[0].value, found.guesses[0].sure
    ('columns.magnitude', 'MAG_AUTO', 'certain')
    """

    table: Mapping[str, Mapping[str, Any]]
    guesses: tuple[Guess, ...]
    reasons: Mapping[str, str]
    notes: tuple[str, ...]
    seen: str
    ready: bool
    account: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The configuration as TOML, with comments; files are relative to the present directory."""
        return self._text(Path())

    def _text(self, folder: Path) -> str:
        said = {guess.entry: guess.said() for guess in self.guesses} | dict(self.reasons)
        head = [
            f"Made by `xpjax survey init` of xpjax {__version__} from {self.seen}.",
            "`xpjax survey check` tells what a run would do, and `xpjax survey calibrate` does it.",
            "certain, likely, guess: how sure an entry is. Entries behind # are what the tables do not have.",
            *(f"NOTE: {note}" for note in self.notes),
        ]
        table = files_relative_to(self.table, Path(), folder)
        if self.table.get("standards", {}).get("fetch") is True:  # beside the configuration, wherever that is
            table["standards"]["fetch"] = True
        return configuration(table, said, head)

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the configuration; its files are named relative to its folder.

        Parameters
        ----------
        path : str or Path
            The TOML file.
        overwrite : bool
            Whether to replace a file that exists.

        Raises
        ------
        FileExistsError
            If the file exists, unless overwrite.
        """
        check_output(path, overwrite=overwrite)
        write_bytes(path, self._text(Path(path).parent).encode())

    def lines(self) -> list[str]:
        """What is worth telling: guesses, the least sure first, the model, and notes."""
        out = [f"from {self.seen}"]
        for guess in sorted(self.guesses, key=lambda guess: SURE.index(guess.sure)):
            out.append(f"{guess.entry} = {toml(guess.value)}: {guess.said()}")
        for section in ("selection", "model"):
            if entries := self.table.get(section):
                out.append(f"{section}: " + ", ".join(f"{name} = {toml(value)}" for name, value in entries.items()))
        return [*out, *self.account, *(f"NOTE: {note}" for note in self.notes)]


def initial_config(
    sources: AnyTables,
    *,
    spectra: str | Path | Sequence[str | Path] | None = None,
    passband: str | Path | Mapping[str, str] | None = None,
    standards: str | Path | None = None,
    entries: Mapping[str, object] | None = None,
) -> InitialConfig:
    """Guess a configuration from tables of detections: what `xpjax survey init` does.

    Parameters
    ----------
    sources : path, table, list of these, or mapping
        Files and tables; a mapping has them by the names of their exposures.
    spectra : path or list of paths, optional
        XP coefficients of the standards: files, a pattern or a store.
    passband : str, Path or mapping, optional
        Passbands of the survey: a transmission chain in TOML, a file or folder of curves, files by band, or the name of
        a system.
    standards : str or Path, optional
        Table of standards with models and colors.
    entries : mapping of str to value, optional
        Entries that are known, such as `{"columns.magnitude": "MAG_PSF"}`; None leaves an entry out.

    Returns
    -------
    InitialConfig
        The configuration, with what was guessed and how sure that is.

    Raises
    ------
    XpjaxError
        If nothing looks like a magnitude, tables have no column in common, or an entry is unknown.

    Notes
    -----
    The orders of the model leave ten standards for each term; whether a numerical flat helps is judged by
    cross-validation of some exposures.

    Examples
    --------
    >>> k = np.arange(30)
    >>> night = {"X_IMAGE": 60.0 * k, "Y_IMAGE": k**2 % 97, "MAG_AUTO": 14 + k / 9, "MAGERR_AUTO": np.full(30, 0.01)}
    >>> found = xpjax.survey.reading.initial_config({"e1": {**night, "model": 17 + k / 9}})
    >>> found.write("survey.toml")
    >>> calibrated = xpjax.survey.reading.calibrate_survey({"e1": {**night, "model": 17 + k / 9}}, "survey.toml")
    >>> calibrated.complete
    True
    """
    given = _given(entries or {}, spectra, passband, standards)
    look = Look(sources)
    theirs = None if standards is None else Look([standards])
    measured = find_magnitudes(look, theirs, spectra is None, given)
    guesses = _with_given(_guesses(look, measured), given)
    columns = {guess.entry.partition(".")[2]: guess.value for guess in guesses}
    if measured.bands and "columns.bands" not in given:
        columns["bands"] = list(measured.bands)
    table: Table = {"columns": columns}
    reasons, notes = _others(table, look, theirs, spectra, passband, standards)
    reasons |= _put({name: value for name, value in given.items() if not name.startswith("columns.")}, table)
    if measured.without_model:
        said = "XP spectra with the passbands of the survey bring them"
        notes.append(f"bands {few(measured.without_model, 12)} have no models, and are left out: {said}")
    if look.partial:
        notes.append(f"columns of some tables only, which are left alone: {few(look.partial, 6)}")
    notes = [*measured.notes, *notes, *look.notes]
    made = InitialConfig(table, guesses, reasons, tuple(notes), look.seen, _has_standards(table))
    if not made.ready:
        made = _without_standards(made)
    elif table.get("standards", {}).get("fetch"):
        made = _unseen(made, look)
    else:
        made = _with_model(made, look, theirs)
    config_from(tomllib.loads(plain(made.table)))  # entries that are given may be wrong, or without effect
    return made


def _others(
    table: Table, look: Look, theirs: Look | None, spectra: Any, passband: Any, standards: Any
) -> tuple[dict[str, str], list[str]]:
    """Put the sections of standards and passbands into a table; returns reasons for entries, and notes."""
    reasons: dict[str, str] = {}
    notes: list[str] = []
    if theirs is not None:
        table["standards"], reasons["standards.match"] = _standards(str(standards), theirs, table["columns"])
    if spectra is not None:
        several = isinstance(spectra, list | tuple)
        table["standards"] = {"spectra": [*map(str, spectra)] if several else str(spectra)}
    if passband is not None:
        bands = _band_names(look, table["columns"])
        table["passband"], notes, without = passband_section(passband, bands)
        if without and len(without) < len(bands):
            left = [band for band in bands if band not in without]
            entry = "columns.bands" if "bands" in table["columns"] else "selection.bands"
            _put({entry: left}, table)
            reasons[entry] = f"left out, as no passband is theirs: {few(without, 12)}"
    return reasons, notes


def _given(entries: Mapping[str, Any], spectra: Any, passband: Any, standards: Any) -> dict[str, Any]:
    """Entries that are known. Raises XpjaxError for a name that is none, and for what excludes each other."""
    for name in entries:
        section, _, entry = name.partition(".")
        if section not in SECTIONS or not entry:
            raise XpjaxError(f"{name!r} is no entry: expected one of {', '.join(SECTIONS)} and a name, as in columns.x")
    if spectra is not None and standards is not None:
        raise XpjaxError(f"give {say('spectra', '--spectra')} or {say('standards', '--standards')}, not both")
    if spectra is not None and passband is None:
        raise XpjaxError(
            "spectra need the passbands of the survey, through which their magnitudes are computed: give "
            f"{say('passband=', '--passband')}, a chain in TOML, curves of bands or a system"
        )
    return dict(entries)


def _put(given: Mapping[str, Any], table: Table) -> dict[str, str]:
    """Put entries that are given, but those of [columns], into a table; returns that they were."""
    mine = {name: value for name, value in given.items() if value is not None}
    for name, value in mine.items():
        section, _, entry = name.partition(".")
        table.setdefault(section, {})[entry] = value
    return dict.fromkeys(mine, "given")


def _guesses(look: Look, measured: Measured) -> list[Guess]:
    """All entries of [columns] that tables have."""
    sky = find_sky(look)
    places = [*find_star(look, sky), *find_pixels(look), *sky]
    frames = find_frames(look, bool(measured.bands))
    return [*measured.guesses, *places, *frames, *find_flags(look, measured.bands), *find_gaia(look)]


def _with_given(guesses: Sequence[Guess], given: Mapping[str, Any]) -> tuple[Guess, ...]:
    """Guesses, with entries that are given in their place, or without them."""
    mine = {
        name: Guess(name, value, "certain", "given") for name, value in given.items() if name.startswith("columns.")
    }
    out = [mine.pop(guess.entry, guess) for guess in guesses]
    return tuple(guess for guess in (*out, *mine.values()) if guess.value is not None)


def _has_standards(table: Table) -> bool:
    """Whether something gives model magnitudes."""
    spectral = {"spectra", "fetch"} & {*table.get("standards", {})} or "sources" in table.get("passband", {})
    return "model" in table["columns"] or bool("passband" in table and spectral)


def _standards(path: str, theirs: Look, columns: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The section of a table of standards, and why it is matched as it is. Raises XpjaxError where it cannot be."""
    sky = find_sky(theirs)
    ids = [guess.value for guess in find_star(theirs, sky)]
    star = columns.get("star")
    named = ids or [name for name in (star,) if name in theirs.names]
    own_id = {"id": named[0]} if named and named[0] != "source_id" else {}
    if star is not None and named:
        return {"file": path, "match": "source_id", **own_id}, "both have identifiers"
    if sky and "ra" in columns:
        other = {key: guess.value for key, guess in zip(("ra", "dec"), sky, strict=True) if guess.value != key}
        motion = {"pm_ra": "pmra", "pm_dec": "pmdec"} if {"pmra", "pmdec"} <= {*theirs.names} else {}
        epoch = {"epoch": "time"} if motion and "time" in columns else {}
        return {"file": path, "match": "position", **own_id, **other, **motion, **epoch}, "both have positions"
    raise XpjaxError(
        f"{path} cannot be matched to the detections: neither identifiers nor positions are in both; name them with "
        + say("entries=", "--set")
    )


def _band_names(look: Look, columns: Mapping[str, Any]) -> tuple[str, ...]:
    """The bands of the survey, as far as they are seen; empty where there is one without a name."""
    if "bands" in columns:
        return tuple(columns["bands"])
    band = columns.get("band")
    texts = look.texts(band) if isinstance(band, str) else np.array(look.labels(band))
    return () if texts is None else tuple(sorted({*texts.tolist()} - {""}))


def _without_standards(made: InitialConfig) -> InitialConfig:
    """The same, with the note that nothing can be calibrated."""
    note = (
        f"standards are not known, and nothing can be calibrated: give XP spectra ({say('spectra=', '--spectra')}) and "
        f"the passbands of the survey ({say('passband=', '--passband')}), a table of standards "
        f"({say('standards=', '--standards')}), or a column of models in the tables as columns.model"
    )
    model = {} if "x" in made.table["columns"] else {"position_order": 0}
    table = {**made.table, "model": {**model, **made.table.get("model", {})}}
    return dataclasses.replace(made, table=table, notes=(*made.notes, note))


def _unseen(made: InitialConfig, look: Look) -> InitialConfig:
    """The same with the model of the papers, as far as there are columns: spectra are still to be fetched."""
    order = 2 if "x" in made.table["columns"] else 0
    model = {"position_order": order, "color_order": 2, **made.table.get("model", {})}
    said = "spectra are not fetched yet; orders are lowered where standards are too few"
    reasons = {**made.reasons, "model.position_order": said, "selection.cuts": "those that have their columns"}
    cuts = {"cuts": cuts_that_run([*look.names, *SOURCE_COLUMNS, *made.table["columns"]])}
    table = {**made.table, "selection": {**cuts, **made.table.get("selection", {})}, "model": model}
    return dataclasses.replace(made, table=table, reasons=reasons)


def _with_model(made: InitialConfig, look: Look, theirs: Look | None) -> InitialConfig:
    """The same with the cuts and the model that the data can pay for, as some of the tables show."""
    table: Table = {name: dict(part) for name, part in made.table.items()}
    columns, reasons = table["columns"], dict(made.reasons)
    names = [*look.names, *(theirs.names if theirs else ()), *_beside_spectra(table)]
    names = [*(name for name in names if name not in ("ra", "dec", "flags")), *columns]  # these are of the survey alone
    sample = spread(look.sources, SAMPLE)
    cuts = cuts_that_run(names)
    chooses_cuts = not {"cuts", "limits"} & {*table.get("selection", {})}
    read, config = _read(look, table, cuts if chooses_cuts else None)
    if read.spectra is not None and chooses_cuts and cuts != (more := cuts_that_run([*names, *read.spectra.columns])):
        cuts, (read, config) = more, _read(look, table, more)  # columns beside spectra in a store or in several files
    o = read.observations
    odd = alarms(o, config, read.spectra, offsets=read.account.offsets)
    if chooses_cuts and cuts:
        table["selection"] = {**table.get("selection", {}), "cuts": cuts}
        reasons["selection.cuts"] = "those that have their columns"
        if "magnitude_error" in cuts:
            limit = error_limit(o)
            table["selection"]["limits"] = {"magnitude_error": limit}
            o = o[~(o.magnitude_error >= limit)]
    color = "color" in columns or ("passband" in table and "standards" in table)
    chosen = choose_model(o, color=color, n_frame=_frames_of_group(look, columns, o, len(sample)))
    own = table.get("model", {})
    fresh = {name: value for name, value in chosen.entries.items() if name not in own}
    if own.get("stacked_flat") is False:
        fresh.pop("bins", None)
    table["model"] = {**fresh, **own}
    reasons |= {f"model.{name}": said for name, said in chosen.reasons.items() if name in fresh}
    account = tuple(line for line in read.account.lines() if "absent" not in line)
    notes = (*made.notes, *chosen.notes, *odd)
    return dataclasses.replace(made, table=table, reasons=reasons, notes=notes, account=account)


def _read(look: Look, table: Table, cuts: Sequence[str] | None) -> tuple[SurveyReading, SurveyConfig]:
    """Some of the tables as `calibrate_survey` reads them. cuts: in place of those of the configuration."""
    trial: Table = {**table, "model": {"position_order": 0, "color_order": 0}}
    if cuts:
        own = table.get("selection", {})
        trial["selection"] = {**own, "cuts": [cut for cut in cuts if cut != "magnitude_error"]}
    sample = spread(look.sources, SAMPLE)
    named = {f"exposure {k}": one for k, one in enumerate(sample)} if look.named else sample
    config = config_from(tomllib.loads(plain(trial)))
    return read_observations(named, config), config


def _frames_of_group(look: Look, columns: Mapping[str, Any], o: Observations, n_sample: int) -> float:
    """How many exposures of a band and detector the survey has, by headers of all tables and rows of some."""
    labels = [*zip(*(look.labels(columns.get(key)) for key in ("band", "detector")), strict=True)]
    groups = max(len(o.frames.group("band", "detector")[1]) / len({*spread(labels, SAMPLE)}), 1.0)  # in a table
    return len(o.frames) / n_sample / groups * look.n_source / len({*labels})


def _beside_spectra(table: Table) -> list[str]:
    """Columns beside the coefficients of spectra that are one plain file; others may have any."""
    spectra = table.get("standards", {}).get("spectra")
    if not isinstance(spectra, str) or not Path(spectra).is_file():
        return []
    try:
        return open_table(spectra).names
    except XpjaxError:
        return []
