"""The tables of a survey read in batches, and calibrated in units: what each batch tells, and what all together say.

Which frames there are, the nights that they belong to, the stars that nobody names and the codes of amplifiers are
known when all tables have been read. A *batch* is some tables, read at a time; a *unit* is the frames of some nights or
bands, calibrated at a time. `read_batch`, `tell`, `plan_units` and `unit_observations` give the same rows as
`read_observations`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey import Frames, Named, Observations, Origin, concatenate, with_nights
from xpjax.survey.reading.account import Account
from xpjax.survey.reading.airmass import shift_samples, to_reference
from xpjax.survey.reading.config import SurveyConfig, config_from
from xpjax.survey.reading.doubles import once_per_frame
from xpjax.survey.reading.odd import alarms
from xpjax.survey.reading.spectra import fetched_files
from xpjax.survey.reading.standards import BY_POSITION
from xpjax.survey.reading.tables import (
    field_of,
    match_radius,
    matches_by_position,
    name_stars,
    named_sources,
    read_rows,
    spectra_of,
)

UNITS = {"night": ("night",), "band": ("band",), "night+band": ("night", "band")}
"""What the frames of a unit have in common."""


def name_tables(files: Sequence[Path], config: SurveyConfig) -> Named:
    """The exposures that files are unless a column says it, as `read_observations` calls them."""
    return named_sources(list(files), config, None, None, False)[0]


def config_of_parts(files: Sequence[Path], config: SurveyConfig) -> SurveyConfig:
    """The configuration with what all tables decide: how standards are matched, and files of fetched spectra.

    Spectra of the archive are fetched now, once for all parts. Raises XpjaxError for tables in memory.
    """
    table: dict[str, Any] = dict(config.table)
    said = config.standards
    try:
        json.dumps(table)
    except TypeError:
        raise XpjaxError("a survey in units needs files: the configuration names tables in memory") from None
    if said is not None and said.has_spectra:
        by_position = matches_by_position(config, files)
        own = {**table["standards"], "match": "position" if by_position else "source_id"}
        if not by_position:
            own = {name: value for name, value in own.items() if name not in BY_POSITION}
        if said.fetch:
            found = fetched_files(said, config.folder, field_of(config, files, by_position), [])
            own = {name: value for name, value in own.items() if name != "fetch"}
            own["spectra"] = [str(path.absolute()) for path in found]
        table["standards"] = own
    return config_from(table, config.folder.absolute())


@dataclasses.dataclass(frozen=True, repr=False)
class Batch(Record):
    """Rows of some tables as they are: observations, and of each row (n,) what tells its star where nobody names it.

    unnamed: whether nobody does; ra, dec [deg]; own: the name of the detection; amplifier: names. pieces: the frames of
    each table and band, one after the other. radius: of matches by position [arcsec]; joined: whether to standards.
    """

    observations: Observations
    unnamed: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    own: np.ndarray
    amplifier: np.ndarray
    pieces: tuple[Frames, ...]
    account: Account
    radius: float
    joined: bool


def read_batch(
    files: Sequence[Path], config: SurveyConfig, *, known: Mapping[str, str], keep: Sequence[str] = ()
) -> Batch:
    """Read some of the tables of a survey; known: the exposures that all its files are. Raises XpjaxError."""
    pile, standards, account, _ = read_rows(list(files), config, known=known, keep=keep)
    if pile.parts:
        o, (unnamed, ra, dec, own, amplifier) = pile.rows()
    else:
        none = np.zeros(0)
        o, (unnamed, ra, dec, own, amplifier) = (
            _empty(),
            (none.astype(bool), none, none, none.astype(int), none.astype(str)),
        )
    pieces = tuple(part.frames for part in pile.parts) or (o.frames,)
    if standards is not None and standards.by_position and account.n_row and not account.n_matched:
        account.why_none = standards.why_none(ra, dec)
    radius, joined = match_radius(standards), standards is not None
    return Batch(o, unnamed, ra, dec, own, amplifier, pieces, account, radius, joined)


def tell(batch: Batch) -> dict[str, np.ndarray]:
    """What a batch tells the survey: its frames, the detections without a name, the names of its amplifiers."""
    o = batch.observations
    open_ones = batch.unnamed | (o.star <= 0) if o.star.dtype.kind in "iu" else batch.unnamed
    rows = np.flatnonzero(open_ones)
    account = dataclasses.asdict(dataclasses.replace(batch.account, offsets=[]))
    about = {"account": account, "radius": batch.radius, "joined": batch.joined}
    sizes = np.array([len(piece) for piece in batch.pieces])
    pieces = {
        f"pieces/{name}": np.concatenate([getattr(piece, name) for piece in batch.pieces]) for name in Frames.row_fields
    }
    return {
        **pieces, **{f"frames/{name}": getattr(o.frames, name) for name in ("exposure", "band", "detector")},
        "sizes": sizes, "about": np.array([json.dumps(about)]), "amplifiers": np.unique(batch.amplifier),
        "text": np.array([o.star.dtype.kind not in "iu"]), "count": np.bincount(o.frame, minlength=len(o.frames)),
        "row": rows, "star": o.star[rows], "frame": o.frame[rows],
        **{name: getattr(batch, name)[rows] for name in ("unnamed", "ra", "dec", "own")},
    }  # fmt: skip


@dataclasses.dataclass(frozen=True, repr=False)
class UnitPlan(Record):
    """All frames of a survey and the units that they are calibrated in.

    frames: with nights, in the order in which they come. unit (n_frame,): the number of each one's unit; units: names.
    place: for each batch the frames of the survey that its own are. rows, stars: for each batch the rows of detections
    without a name, and their stars. text: whether stars have text as names. amplifiers: names, by their codes.
    """

    frames: Frames
    unit: np.ndarray
    units: tuple[str, ...]
    place: tuple[np.ndarray, ...]
    rows: tuple[np.ndarray, ...]
    stars: tuple[np.ndarray, ...]
    text: bool
    amplifiers: tuple[str, ...]
    account: Account
    n_row: tuple[int, ...]

    @property
    def order(self) -> np.ndarray:
        """The frames (n_frame,) unit by unit."""
        return np.argsort(self.unit, kind="stable")


def plan_units(told: Sequence[Mapping[str, np.ndarray]], kind: str) -> UnitPlan:
    """The plan of a survey from what all its batches told; kind: one of UNITS. Raises XpjaxError without any rows."""
    frames = with_nights(_empty(concatenate([_empty(piece) for one in told for piece in _pieces(one)]).frames)).frames
    if not len(frames):
        raise XpjaxError("there are no measurements to calibrate: the tables have no rows in any of the bands")
    index = {key: k for k, key in enumerate(_keys(frames))}
    place = tuple(np.array([index[key] for key in _keys(_named_frames(one))], int) for one in told)
    group, first = frames.group(*UNITS[kind])
    order = np.argsort(first)  # in the order in which they come
    unit = np.argsort(order)[group]
    text = any(one["text"][0] for one in told)
    account, stars = _stars(told, place, text)
    count = np.zeros(len(first), int)
    for one, at in zip(told, place, strict=True):
        np.add.at(count, unit[at], one["count"])
    names = _unit_names(frames[first[order]], UNITS[kind])
    amplifiers = np.unique(np.concatenate([one["amplifiers"] for one in told])).tolist()
    rows = tuple(one["row"] for one in told)
    return UnitPlan(frames, unit, names, place, rows, stars, text, tuple(amplifiers), account, tuple(count.tolist()))


def _pieces(one: Mapping[str, np.ndarray]) -> list[Frames]:
    """The frames of each table and band of a batch."""
    whole = Frames(**{name: one[f"pieces/{name}"] for name in Frames.row_fields})
    ends = np.cumsum([0, *one["sizes"]])
    return [whole[a:b] for a, b in itertools.pairwise(ends)]


def _named_frames(one: Mapping[str, np.ndarray]) -> Frames:
    exposure, band, detector = (one[f"frames/{name}"] for name in ("exposure", "band", "detector"))
    unknown = np.full(len(exposure), np.nan)
    return Frames(exposure, band, detector, np.full(len(exposure), ""), unknown, unknown)


def _keys(frames: Frames) -> list[tuple[str, ...]]:
    return [tuple(map(str, key)) for key in zip(frames.exposure, frames.band, frames.detector, strict=True)]


def _empty(frames: Frames | None = None) -> Observations:
    """Observations without rows on frames, or without any."""
    none: Any = np.zeros(0)
    text = none.astype(str)
    frames = frames or Frames(text, text, text, text, none, none)
    fields = {name: none for name in Observations.row_fields if name not in ("origin", "model_systematic", "sky_cell")}
    fields |= {"frame": none.astype(np.int32), "star": none.astype(np.int64), "excluded": none.astype(np.uint32)}
    return Observations(frames, **fields, origin=Origin((), none.astype(np.int32), none.astype(int)))


def _stars(
    told: Sequence[Mapping[str, np.ndarray]], place: Sequence[np.ndarray], text: bool
) -> tuple[Account, tuple[np.ndarray, ...]]:
    """The account of all batches, and for each one the stars of its detections without a name."""
    about = [json.loads(str(one["about"][0])) for one in told]
    account = Account.joined([Account(**one["account"]) for one in about])
    account.check_headers()
    star = np.concatenate([one["star"].astype(str) if text else one["star"] for one in told])
    frame = np.concatenate([at[one["frame"]] for one, at in zip(told, place, strict=True)])
    columns = (np.concatenate([one[name] for one in told]) for name in ("unnamed", "ra", "dec", "own"))
    unnamed, ra, dec, own = columns
    joined, radius = about[0]["joined"], about[0]["radius"]
    star = name_stars(star, unnamed.astype(bool), ra, dec, frame, own, radius, account, joined=joined)
    ends = np.cumsum([0, *(len(one["star"]) for one in told)])
    return account, tuple(star[a:b] for a, b in itertools.pairwise(ends))


def _unit_names(frames: Frames, fields: Sequence[str]) -> tuple[str, ...]:
    """Names of units, by one frame of each, that files may have."""
    out: list[str] = []
    for k in range(len(frames)):
        parts = [str(getattr(frames, field)[k]) or f"no {field}" for field in fields]
        name = "_".join("".join(c if c.isalnum() or c in "+-." else "-" for c in part) for part in parts)
        same = sum(one == name or one.startswith(f"{name}~") for one in out)
        out.append(f"{name}~{same + 1}" if same else name)
    return tuple(out)


def tell_shifts(rows: Observations, config: SurveyConfig, airmass: np.ndarray) -> dict[str, np.ndarray]:
    """What a unit tells of shifts with airmass; airmass (n_frame,): of all frames of the survey."""
    known = airmass[np.isfinite(airmass)]
    ends = np.array([known.min(), known.max()]) if len(known) else known
    return shift_samples(rows, config, spectra_of(rows, config), ends)


def unit_observations(
    rows: Observations, config: SurveyConfig, solved: Mapping[str, Any] | None = None
) -> tuple[Observations, list[str], dict[str, Any]]:
    """The rows of a unit, whose stars all have names, in the passband of the configuration; lines, and laws of shifts.

    solved: of `shift_laws`, where shifts depend on airmass.
    """
    rows = once_per_frame(rows)
    spectra = spectra_of(rows, config)
    lines: list[str] = []
    laws: dict[str, Any] = {}
    if config.passband is not None:
        rows, lines, laws = to_reference(rows, config, spectra, solved)
    return rows, [*lines, *(f"WARNING: {one}" for one in alarms(rows, config, spectra))], laws


def check_units(kind: str) -> None:
    """Raise XpjaxError for units that there are not."""
    if kind not in UNITS:
        raise XpjaxError(f"no units {kind!r}; choose from {', '.join(UNITS)}")
