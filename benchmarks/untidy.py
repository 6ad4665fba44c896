"""Odd tables through every reader: each cell is used right, missing, or refused in words that name file and column.

    python -m benchmarks.untidy [--quick] [-n 10000] [--seed 1] [--only KIND] [--route ROUTE]

Seeded tables of one or two oddities go through the columns of a table, observations of a survey, its standards, the
join of gaia_source, the table of a color regression, passbands and commands. What each cell means is known from how it
was made. It prints, for each kind of oddity and format, cells used and missing, tables refused, and what must be zero:
WRONG (another value, a value where there is none, a value lost without a word, a refusal without need or without names)
and TRACEBACK. Results are left in results/untidy.json.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import json
import multiprocessing
import re
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import odd_tables as odd
from benchmarks.harness import RESULTS, Row
from benchmarks.odd_tables import FILE_ODDITIES, FORMATS, MEMORY, ODDITIES, ROLES, TEXTS, Made, N
from xpjax.core.errors import XpjaxError

OUTCOMES = ("used", "missing", "refused", "WRONG", "TRACEBACK")
SIZES = {"columns": 0.5, "survey": 0.2, "standards": 0.12, "gaia": 0.06, "scr": 0.05, "curves": 0.04, "commands": 0.03}
"""Routes, and the share of tables that each gets."""
BATCH = 100
SEVERAL = {"several tables": odd.SEVERAL, "unlike tables": odd.SEVERAL}
FILE_KINDS = {name: forms for name, (_, forms) in FILE_ODDITIES.items()} | SEVERAL
"""Oddities of a whole file, and the formats that have them."""


@dataclasses.dataclass
class Case:
    """A table as it was made, and where it lies."""

    columns: dict[str, Made]
    form: str
    source: Any
    refusal: str
    kinds: tuple[str, ...]

    @property
    def origin(self) -> str:
        """What a message must name."""
        return self.source.name if isinstance(self.source, Path) else "memory"

    @property
    def at_fault(self) -> list[str]:
        """Columns that may be why a table is refused."""
        return [c.name for c in self.columns.values() if c.refusal != "never"]


@dataclasses.dataclass
class Tally:
    """Counts by (kind, format), and what was wrong."""

    counts: dict[tuple[str, str], collections.Counter[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    wrong: list[str] = dataclasses.field(default_factory=list)

    def add(self, case: Case, outcome: str, n: int = 1) -> None:
        for kind in case.kinds or ("none",):
            self.counts[kind, case.form][outcome] += n

    def join(self, other: Tally) -> None:
        for key, counter in other.counts.items():
            self.counts[key].update(counter)
        self.wrong += other.wrong

    def total(self, outcome: str) -> int:
        return sum(counter[outcome] for counter in self.counts.values())


# --- tables


def make_case(
    rng: np.random.Generator, folder: Path, roles: Sequence[str] = ROLES, forms: Sequence[str] = FORMATS,
    only: str = "", start: dict[str, Made] | None = None,
) -> Case:  # fmt: skip
    """A table with one or two oddities, of a column each or of the file."""
    columns = dict(start or odd.tidy(rng))
    columns = {role: columns[role] for role in roles}
    form = str(rng.choice(list(forms)))
    kinds: list[str] = []
    file_kind = ""
    for k in range(1 + int(rng.random() < 0.5)):
        for _ in range(40):
            chosen = str(rng.choice([only] if only and not k else [*ODDITIES, *FILE_KINDS]))
            where = ODDITIES.get(chosen, (None, roles, FILE_KINDS.get(chosen, ())))
            fit = [role for role in where[1] if role in columns]
            if form not in where[2] or not fit:
                if only and not k:
                    form = str(rng.choice([f for f in where[2] if f in forms] or [form]))
                continue
            if chosen in FILE_KINDS:
                if not file_kind:
                    file_kind = chosen
                    kinds.append(chosen)
                    break
                continue
            role = str(rng.choice(fit))
            if chosen == "twice" and chosen in kinds:
                continue
            if (done := changed(rng, columns[role], chosen, form)) is not None:
                columns[role] = done
                kinds.append(chosen)
                break
    try:
        source, refusal = stored(rng, columns, form, folder, file_kind)
    except Exception:  # a format that cannot hold it says so in words of its own
        return make_case(rng, folder, roles, forms, only, start)
    return Case(columns, form, source, refusal, tuple(kinds))


def changed(rng: np.random.Generator, column: Made, kind: str, form: str) -> Made | None:
    """A column with an oddity more; None where they do not go together."""
    if column.kind and not (kind == "gap" and column.refusal != "must") and not column.untouched:
        return None
    if column.kind == "gap" and kind not in ("name",):
        return None  # a gap comes last: others look at all cells
    if kind == "gap" and column.kind and ("vector" in column.traits or column.kind == "scaled"):
        return None
    made = ODDITIES[kind][0](rng, column, form)
    if made is not None and column.kind and kind == "gap":
        return made.but(kind=column.kind, odd=made.odd & ~made.gone)
    return made


def stored(
    rng: np.random.Generator, columns: dict[str, Made], form: str, folder: Path, kind: str = ""
) -> tuple[Any, str]:
    """Where the table is, after an oddity of its file, and what may come of that."""
    path = folder / f"table{rng.integers(1 << 30)}{odd.SUFFIX.get(form, '')}"
    made = list(columns.values())
    order = [made[i] for i in rng.permutation(len(made))]
    if kind in SEVERAL:
        unlike = kind == "unlike tables"
        return odd.write_several(form, order, path, rng, unlike), "must" if unlike else "never"
    source = odd.write(form, order, path, rng)
    if not kind or not isinstance(source, Path):
        return source, "never"
    done = FILE_ODDITIES[kind][0](rng, source.read_bytes())
    if done is None:
        return source, "never"
    data, suffix, refusal = done
    target = source.with_suffix(suffix) if kind == "other_suffix" else source.with_name(source.name + suffix)
    source.unlink()
    target.write_bytes(data)
    return target, refusal


# --- comparison


def compare(c: Made, found: Any, missing: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells (n,) that are used right, missing as they may be, and wrong."""
    if c.is_names:
        want = ["" if cell is None else cell for cell in c.truth]
        gone = np.array([cell is None for cell in c.truth])
        got = found.tolist()
        blank = missing if missing is not None else np.array([cell == "" for cell in got])
        same = np.array([a == b and type(a) is type(b) for a, b in zip(got, want, strict=True)]) & ~blank
    else:
        gone = ~np.isfinite(c.truth)
        got = np.asarray(found, float)
        blank = ~np.isfinite(got)
        if c.role == "flags":
            gone, blank = np.zeros(N, bool), np.zeros(N, bool)
        with np.errstate(invalid="ignore"):
            same = np.abs(got - c.truth) <= c.tolerance * np.maximum(1, np.abs(c.truth))
    used = same & ~gone
    lost = blank & (gone | c.odd)
    return used, lost, ~used & ~lost


def as_meant(c: Made, column: Any) -> tuple[Any, np.ndarray | None]:
    """A column as its role is read."""
    if c.role == "id":
        ids = column.ids()
        return ids.value, ids.missing
    if c.role in TEXTS:
        return column.texts(), None
    if c.role in ("ra", "dec"):
        return column.angles(hours=c.role == "ra"), None
    if c.role == "time":
        return column.times(), None
    if c.role == "flags":
        return column.flags(), None
    return column.numbers("magnitude" if c.role in ("mag", "err", "model", "color") else None), None


class Judge:
    """What became of the cases of one batch."""

    def __init__(self) -> None:
        self.tally = Tally()

    def wrong(self, case: Case, what: str) -> None:
        self.tally.add(case, "WRONG")
        self.tally.wrong.append(f"{'+'.join(case.kinds)} in {case.form}: {what}")

    def cells(self, case: Case, c: Made, found: Any, missing: np.ndarray | None = None) -> None:
        """Count the cells of a column."""
        if len(found) != N:
            self.wrong(case, f"{len(found)} rows of {N}")
            return
        used, lost, bad = compare(c, found, missing)
        self.tally.add(case, "used", int(used.sum()))
        self.tally.add(case, "missing", int(lost.sum()))
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            was = c.stored[k] if not c.gone[k] else "a gap"
            self.wrong(
                case, f"{c.role} ({c.kind}, {c.name!r}), row {k + 1}: {was!r} is {found[k]!r}, not {c.truth[k]!r}"
            )

    def refused(self, case: Case, error: Exception, names: Iterable[str], needless: bool) -> None:
        """Count a refusal: it must be called for, and name the file and the column."""
        said = str(error)
        names = [name for name in names if name]
        if needless:
            self.wrong(case, f"refused without need: {said}")
        elif case.origin not in said.replace(repr(case.origin), case.origin):
            self.wrong(case, f"no file {case.origin} in: {said}")
        elif names and not any(name in said for name in names):
            self.wrong(case, f"no column {names} in: {said}")
        elif re.search(r"object at 0x|<class|Traceback", said):
            self.wrong(case, f"no words for a user: {said}")
        else:
            self.tally.add(case, "refused")

    def crashed(self, case: Case) -> None:
        self.tally.add(case, "TRACEBACK")
        lines = traceback.format_exc().strip().split("\n")
        self.tally.wrong.append(f"{'+'.join(case.kinds)} in {case.form}: TRACEBACK: " + " | ".join(lines[-3:])[:600])


# --- routes


def through_columns(rng: np.random.Generator, folder: Path, judge: Judge, only: str = "") -> None:
    """Every column of a table as it is read for its role."""
    from xpjax.io.tables import open_table

    case = make_case(rng, folder, only=only)
    try:
        table = open_table(case.source)
        table.load([c.name for c in case.columns.values() if c.refusal == "never" and c.role != "unused"])
    except XpjaxError as error:
        judge.refused(case, error, [], case.refusal == "never")
        return
    except Exception:
        judge.crashed(case)
        return
    if case.refusal == "must":
        judge.wrong(case, f"not refused: {table!r}")
        return
    for c in case.columns.values():
        if c.role == "unused":
            continue
        n_note = len(table.notes)
        try:
            found, missing = as_meant(c, table.column(c.name))
        except XpjaxError as error:
            judge.refused(case, error, [c.name], c.refusal == "never")
            continue
        except Exception:
            judge.crashed(case)
            continue
        if c.refusal == "must":
            judge.wrong(case, f"{c.role} ({c.kind}) was not refused: {found[:3]!r}")
            continue
        judge.cells(case, c, found, missing)
        odd_lost = c.odd & (~np.isfinite(np.asarray(found, float)) if not c.is_names else found == "")
        if odd_lost.any() and not any(c.name in note for note in table.notes[n_note:]):
            judge.wrong(case, f"{c.role} ({c.kind}): no note on odd cells")


SURVEY = {"star": "id", "ra": "ra", "dec": "dec", "x": "x", "y": "y", "magnitude": "mag", "magnitude_error": "err",
          "model": "model", "color": "color", "flags": "flags", "airmass": "airmass", "time": "time",
          "exposure": "exposure", "detector": "detector"}  # fmt: skip
FIELDS = {"x": "x", "y": "y", "mag": "magnitude", "err": "magnitude_error", "model": "model", "color": "color"}


def config_of(columns: dict[str, Made], **rest: Any) -> Any:
    from xpjax.survey.reading.config import config_from

    mapping = {key: columns[role].name for key, role in SURVEY.items() if role in columns}
    return config_from({"columns": mapping, **rest})


def in_survey(c: Made, lost: np.ndarray) -> Made:
    """A column as observations have it: sentinels are missing; odd, because no note says so."""
    if c.role in ("mag", "err", "model", "color"):
        with np.errstate(invalid="ignore"):
            c = c.but(truth=np.where(np.abs(c.truth) >= 90, np.nan, c.truth))
    return c.but(truth=np.where(lost, np.nan, c.truth)) if c.role == "mag" else c


def judge_observations(judge: Judge, case: Case, reading: Any, columns: dict[str, Made]) -> None:
    """Rows of observations beside the truth of their columns."""
    o = reading.observations
    lost = np.zeros(N, bool)
    for role in ("exposure", "detector"):
        lost |= np.array([cell is None for cell in columns[role].truth])
    for role, field in FIELDS.items():
        judge.cells(case, in_survey(columns[role], lost), getattr(o, field))
    ids = columns["id"]
    known = np.array([cell is not None for cell in ids.truth])
    star = o.star.tolist()
    if [star[k] for k in np.flatnonzero(known)] != [ids.truth[k] for k in np.flatnonzero(known)]:
        judge.wrong(case, f"stars {star[:3]} are not {ids.truth[:3]}")
    if len({*map(str, star)}) != N:
        judge.wrong(case, f"{N} stars became {len({*map(str, star)})}")
    for role in ("exposure", "detector"):
        names = np.array(getattr(o.frames, role), str)[o.frame]
        judge.cells(case, columns[role], names)
    if columns["time"].refusal == "never" and not columns["time"].odd.any():
        for k in range(len(o.frames)):
            values = columns["time"].truth[o.frame == k]
            want = np.median(values[np.isfinite(values)]) if np.isfinite(values).any() else np.nan
            if not np.isclose(o.frames.time[k], want, rtol=1e-12, atol=1e-9, equal_nan=True):
                judge.wrong(case, f"time of a frame {o.frames.time[k]!r}, not {want!r}")


def faulty(case: Case, *roles: str) -> list[str]:
    return [case.columns[role].name for role in roles if case.columns[role].refusal != "never"]


def through_survey(rng: np.random.Generator, folder: Path, judge: Judge, only: str = "") -> None:
    """Observations of one table."""
    from xpjax.survey.reading.tables import read_observations

    case = make_case(rng, folder, only=only)
    attempt(judge, case, case.columns, lambda: read_observations([case.source], config_of(case.columns)))


def attempt(judge: Judge, case: Case, columns: dict[str, Made], read: Callable[[], Any], may: bool = False) -> None:
    """Read observations, and judge them or their refusal."""
    asked = [c for role, c in case.columns.items() if role in (*SURVEY.values(),)]
    must = any(c.refusal == "must" for c in asked) or case.refusal == "must"
    named = [c.name for c in case.columns.values() if c.refusal != "never"]
    try:
        reading = read()
    except XpjaxError as error:
        allowed = must or may or case.refusal != "never" or any(c.refusal != "never" for c in asked)
        judge.refused(case, error, named if case.refusal == "never" and not may else [], not allowed)
        return
    except Exception:
        judge.crashed(case)
        return
    if must:
        judge.wrong(case, f"not refused, {case.refusal}: {[c.kind for c in asked if c.refusal == 'must']}")
        return
    judge_observations(judge, case, reading, columns)
    notes = " ".join(reading.account.notes)
    for c in asked:
        if c.odd.any() and c.kind == "odd_cell" and c.name not in notes:
            judge.wrong(case, f"{c.role} ({c.kind}): no note on odd cells in {notes!r}")


STANDARD_ROLES = ("id", "ra", "dec", "model", "color", "unused")
SEEN_ROLES = ("id", "ra", "dec", "x", "y", "mag", "err", "flags", "airmass", "time", "exposure", "detector", "unused")


def through_standards(rng: np.random.Generator, folder: Path, judge: Judge, only: str = "") -> None:
    """Observations of a table joined to standards of another: either is odd, and they meet by id or by position."""
    from xpjax.survey.reading.tables import read_observations

    columns = odd.tidy(rng)
    by_id = rng.random() < 0.6
    order = rng.permutation(N)
    shuffled = {role: picked(columns[role], order) for role in STANDARD_ROLES}
    odd_standards = rng.random() < 0.6
    if odd_standards:
        case = make_case(rng, folder, STANDARD_ROLES, only=only, start=shuffled)
        seen, _ = stored(rng, {r: columns[r] for r in SEEN_ROLES}, str(rng.choice(["csv", "fits", "parquet"])), folder)
        theirs, ours, file = case.columns, columns, case.source
    else:
        case = make_case(rng, folder, SEEN_ROLES, only=only, start=columns)
        file, _ = stored(rng, shuffled, str(rng.choice(["csv", "fits", "parquet"])), folder)
        theirs, ours, seen = shuffled, {**columns, **case.columns}, case.source
    said = {"file": str(file) if isinstance(file, Path) else file, "match": "source_id", "id": theirs["id"].name}
    if not by_id:
        said = {**said, "match": "position", "ra": theirs["ra"].name, "dec": theirs["dec"].name, "radius": 2.0}
    mapping = {k: ours[r].name for k, r in SURVEY.items() if r in ours and r not in ("model", "color")}
    mapping |= {key: f"standards.{theirs[key].name}" for key in ("model", "color")}

    def read() -> Any:
        from xpjax.survey.reading.config import config_from

        config = config_from({"columns": mapping, "standards": {**said, "file": "x"}})
        table = config.standards.model_copy(update={"file": said["file"]})  # it may be in memory
        config = dataclasses.replace(config, standards=table)
        return read_observations([seen], config)

    partner, sure = partners(ours, theirs, by_id)
    joined = {**ours, **{role: taken(theirs[role], partner, sure) for role in ("model", "color")}}
    if by_id:  # positions are not looked at in standards
        case.columns = {r: c for r, c in case.columns.items() if not (odd_standards and r in ("ra", "dec"))}
    kinds = {type(x) for c in (ours["id"], theirs["id"]) for x in c.truth if x is not None}
    if not by_id:
        joined["id"] = joined["id"].but(truth=[None] * N)
    attempt(judge, case, joined, read, may=len(kinds) > 1)


def picked(c: Made, order: np.ndarray) -> Made:
    """The rows of a column in another order."""
    truth = [c.truth[k] for k in order] if c.is_names else c.truth[order]
    return c.but(stored=c.stored[order], truth=truth)


def partners(ours: dict[str, Made], theirs: dict[str, Made], by_id: bool) -> tuple[np.ndarray, np.ndarray]:
    """The standard of each row, -1 for none; and which rows must have it."""
    if by_id:
        place = {name: k for k, name in enumerate(theirs["id"].truth) if name is not None}
        found = np.array([place.get(name, -1) if name is not None else -1 for name in ours["id"].truth])
        return found, np.ones(N, bool)
    a, b, c, d = (np.asarray(t[r].truth, float) for t in (ours, theirs) for r in ("ra", "dec"))
    with np.errstate(invalid="ignore"):
        near = np.hypot((a[:, None] - c) * np.cos(np.deg2rad(b[:, None])), b[:, None] - d) < 2 / 3600
    sure = ~np.any([t[r].odd.any() for t in (ours, theirs) for r in ("ra", "dec")])
    return np.where(near.sum(1) == 1, near.argmax(1), -1), np.full(N, sure)


def taken(c: Made, partner: np.ndarray, sure: np.ndarray) -> Made:
    """A column of standards for the rows."""
    has = partner >= 0
    return c.but(
        truth=np.where(has, c.truth[partner], np.nan), odd=np.where(has, c.odd[partner] | ~sure, ~sure),
        gone=np.where(has, c.gone[partner], True), stored=c.stored,
    )  # fmt: skip


GAIA = {"id": "source_id", "ra": "ra", "dec": "dec", "mag": "phot_g_mean_mag", "model": "phot_bp_mean_mag",
        "err": "phot_rp_mean_mag", "color": "ebv"}  # fmt: skip


def through_gaia(rng: np.random.Generator, folder: Path, judge: Judge, only: str = "") -> None:
    """The join of `ingest --gaia-source`."""
    from xpjax.xp.read import gaia_source

    start = {role: c.but(name=GAIA.get(role, c.name)) for role, c in odd.tidy(rng).items()}
    if rng.random() < 0.3:
        start = {role: c.but(name=c.name.upper()) for role, c in start.items()}
    forms = [form for form in FORMATS if form not in MEMORY]
    for _ in range(20):
        case = make_case(rng, folder, [*GAIA, "unused"], forms, only=only, start=start)
        if not {"name", "other_case"} & {*case.kinds}:
            break
    else:
        return
    ids = np.array([x for x in start["id"].truth])
    must = case.refusal == "must" or any(c.refusal == "must" for r, c in case.columns.items() if r != "unused")
    try:
        names = gaia_source.gaia_columns([case.source])
        values, found = gaia_source.join(ids, [case.source], names)
    except XpjaxError as error:
        own = [x for x in case.columns["id"].truth if x is not None]
        may = must or case.refusal == "may" or any(c.refusal == "may" for c in case.columns.values())
        names_at_fault = [c.name for c in case.columns.values() if c.refusal != "never"]
        if any(isinstance(x, str) for x in own):
            may, names_at_fault = True, [*names_at_fault, case.columns["id"].name]
        judge.refused(case, error, names_at_fault if case.refusal == "never" else [], not may)
        return
    except Exception:
        judge.crashed(case)
        return
    finally:
        gaia_source._gaia_table.cache_clear()
    if must:
        judge.wrong(case, f"not refused: {names}")
        return
    place = {name: k for k, name in enumerate(case.columns["id"].truth) if name is not None}
    partner = np.array([place.get(int(x), -1) for x in ids])
    if (found != (partner >= 0)).any():
        judge.wrong(case, f"{found.sum()} of {(partner >= 0).sum()} sources found")
    for role, key in GAIA.items():
        if role != "id" and key in names:
            c = taken(case.columns[role], partner, np.ones(N, bool))
            kept = values[key].dtype
            judge.cells(case, c.but(tolerance=max(c.tolerance, 2e-7 if kept == np.float32 else 0)), values[key])


LABELS = {"teff": "x", "feh": "y", "reddening": "color", "bp": "model", "rp": "airmass", "magnitude": "mag",
          "magnitude_error": "err", "star": "id", "tile": "exposure"}  # fmt: skip


def through_scr(rng: np.random.Generator, folder: Path, judge: Judge, only: str = "") -> None:
    """The table of `survey scr`."""
    from xpjax.survey.scr.config import read_scr_config
    from xpjax.survey.scr.stars import read_stars

    case = make_case(rng, folder, [*LABELS.values(), "unused"], only=only)
    columns = {key: case.columns[role].name for key, role in LABELS.items()}
    config = read_scr_config({"columns": columns, "band": [{"name": "g", "gaia": "BP"}]})
    asked = [c for role, c in case.columns.items() if role != "unused"]
    must = case.refusal == "must" or any(c.refusal == "must" for c in asked)
    try:
        stars = read_stars(case.source, config)
        magnitude, error = stars.magnitudes(config.bands[0])
    except XpjaxError as error:
        may = must or case.refusal != "never" or any(c.refusal != "never" for c in asked)
        names = [c.name for c in asked if c.refusal != "never"] if case.refusal == "never" else []
        judge.refused(case, error, names, not may)
        return
    except Exception:
        judge.crashed(case)
        return
    if must:
        judge.wrong(case, "scr was not refused")
        return
    found = {"x": stars.labels[:, 0], "y": stars.labels[:, 1], "color": stars.labels[:, 2], "model": stars.gaia["BP"],
             "airmass": stars.gaia["RP"], "mag": magnitude, "err": error}  # fmt: skip
    lost = np.array([cell is None for cell in case.columns["exposure"].truth])
    for role, values in found.items():
        c = in_survey(case.columns[role], np.zeros(N, bool))
        judge.cells(case, c.but(odd=c.odd | lost), values)  # rows without a tile take no part
    judge.cells(case, case.columns["exposure"], np.array([str(tile) for tile in stars.tiles.name]))
    ids = case.columns["id"].truth
    if any(a != b for a, b in zip(stars.star.tolist(), ids, strict=True) if b is not None):
        judge.wrong(case, f"stars {stars.star[:3]} are not {ids[:3]}")


CURVE_KINDS = ("gap", "word", "strings", "single", "byte_order", "odd_cell", "odd_column", "decimal_comma", "spelling",
               "infinity", "bom", "line_ends", "no_last_end", "comments", "packed", "cut_packed", "lacking_cell",
               "cut_text", "cut_binary", "latin1", "utf16", "truth_values", "vector", "fortran")  # fmt: skip


def through_curves(rng: np.random.Generator, folder: Path, judge: Judge, only: str = "") -> None:
    """Passbands of curves."""
    from xpjax.synthetic.files.passband_files import read_passbands

    wavelength = np.linspace(400.0, 500.0, N)
    transmission = np.round(np.exp(-(((wavelength - 450) / 20) ** 2)), 6)
    unit, factor = [("nm", 1.0), ("Angstrom", 10.0), ("um", 1e-3)][rng.integers(3)]
    forms = ("csv", "tsv", "semicolon", "txt", "ecsv", "fits", "votable")
    start = {
        "x": Made("wavelength", "x", wavelength * factor, wavelength, unit=unit),
        "y": Made("transmission", "y", transmission, transmission),
    }
    for _ in range(30):
        case = make_case(rng, folder, ("x", "y"), forms, only=only, start=start)
        if {*case.kinds} <= {*CURVE_KINDS} and (case.form in odd.UNITED or unit == "nm"):
            break
    else:
        return
    try:
        band = read_passbands(case.source).passbands[0]
    except XpjaxError as error:
        judge.refused(case, error, [], case.kinds in (("packed",), ("bom",), ("line_ends",), ("no_last_end",)))
        return
    except Exception:
        judge.crashed(case)
        return
    good = np.isfinite(case.columns["y"].truth)
    want = np.interp(wavelength, wavelength[good], transmission[good]) if good.any() else transmission
    touched = any(c.kind not in ("", "strings", "spelling", "byte_order", "single") for c in case.columns.values())
    got = np.interp(wavelength, band.wavelength, band.transmission)
    if case.refusal == "must" or any(c.refusal == "must" for c in case.columns.values()):
        judge.wrong(case, f"not refused: {band.wavelength[:3]}, {band.transmission[:3]}")
    elif np.abs(got - want).max() > (0.06 if touched else 1e-5):
        judge.wrong(case, f"transmission is off by {np.abs(got - want).max():.3g}")
    else:
        judge.tally.add(case, "used", N)


COMMAND = """[columns]
{columns}
[model]
position_order = 0
color_order = 0
numerical_flat = false
"""


def through_commands(rng: np.random.Generator, folder: Path, judge: Judge, only: str = "") -> None:
    """`survey calibrate`, `apply` and `solve` in this process: magnitudes beside the models they were made of."""
    forms = [form for form in FORMATS if form not in MEMORY]
    case = make_case(rng, folder, only=only, forms=forms)
    mapping = {key: case.columns[role].name for key, role in SURVEY.items()}
    lines = "\n".join(f"{key} = {json.dumps(name)}" for key, name in mapping.items())
    config, out = folder / "survey.toml", folder / f"out{rng.integers(1 << 30)}"
    command = str(rng.choice(["calibrate", "apply", "solve"]))
    config.write_text(COMMAND.format(columns=lines))
    if command == "solve":
        joint = '[joint]\nmin_observations = 1\nstar_prior = true\n[[term]]\nkind = "zero_point"\n'
        config.write_text(f"[columns]\n{lines}\nmodel_error = 0.003\n{joint}")
    if command == "apply":
        base = odd.tidy(rng)
        clean, _ = stored(rng, base, "parquet", folder)
        first = ", ".join(f'{key} = "{base[role].name}"' for key, role in SURVEY.items())
        (folder / "first.toml").write_text(COMMAND.format(columns=first.replace(", ", "\n")))
        code, said = called("survey", "calibrate", clean, "--config", folder / "first.toml", "--output", f"{out}_first")
        assert code == 0, said
        code, said = called("survey", "apply", case.source, "--config", config, "--solution", f"{out}_first",
                            "--output", out)  # fmt: skip
    else:
        code, said = called("survey", command, case.source, "--config", config, "--output", out)
    asked = [c for role, c in case.columns.items() if role in SURVEY.values()]
    must = case.refusal == "must" or any(c.refusal == "must" for c in asked)
    may = must or any(c.refusal != "never" for c in asked) or case.refusal != "never" or "numbered" in case.kinds
    renamed = command == "apply" and any(case.columns[role].kind for role in TEXTS)  # the solution lacks these frames
    may = may or renamed or "other_case" in case.kinds or (command == "solve" and any(c.kind for c in asked))
    if code == 70 or "bug in xpjax" in said or "Traceback" in said:
        judge.tally.add(case, "TRACEBACK")
        judge.tally.wrong.append(f"{'+'.join(case.kinds)} in {case.form}: {command}: {said[-500:]}")
    elif code == 2:
        names = [c.name for c in case.columns.values() if c.refusal != "never"] if case.refusal == "never" else []
        if renamed and "the solution has no" in said:
            judge.tally.add(case, "refused")
        else:
            judge.refused(case, XpjaxError(said), names, not may)
    elif must:
        judge.wrong(case, f"{command} was not refused: {said}")
    else:
        judge_magnitudes(judge, case, out / "calibrated.parquet", command)


def judge_magnitudes(judge: Judge, case: Case, path: Path, command: str) -> None:
    """Calibrated magnitudes beside models: the instrument was off by a constant for each exposure."""
    import pyarrow.parquet as pq

    if not path.exists():
        judge.wrong(case, f"{command} wrote no magnitudes")
        return
    table = pq.read_table(path)
    row = table["row"].to_numpy() - 1
    files = np.array(table["file"].to_pylist())
    for later in np.unique(files)[1:]:  # the second table of a file
        row = np.where(files == later, row + row[files == np.unique(files)[0]].max() + 1, row)
    found = np.full(N, np.nan)
    found[row] = table["magnitude"].to_numpy()
    mag, exposure = case.columns["mag"], case.columns["exposure"]
    if mag.kind in ("whole", "scaled", "sentinel", "infinity", "single") or "numbered" in case.kinds:
        return
    frame = [-1 if cell is None else int(not str(cell).startswith(("e1", "1", "001"))) for cell in exposure.truth]
    want = np.where(np.array(frame) < 0, np.nan, mag.truth + odd.ZERO_POINTS[np.array(frame)])
    for role in ("exposure", "detector", "x", "y", "color", "err", "model"):
        cells = case.columns[role].truth
        gone = [cell is None for cell in cells] if case.columns[role].is_names else ~np.isfinite(cells)
        may_be = np.array(gone) | case.columns[role].odd
        want = np.where(may_be & ~np.isfinite(found), np.nan, want)
    if any(case.columns[role].kind in ("whole", "scaled", "single") for role in ("model", "err", "color")):
        return
    bad = np.isfinite(found) != np.isfinite(want)
    bad |= np.abs(found - want) > 0.02
    bad &= ~(mag.odd & ~np.isfinite(found))
    judge.tally.add(case, "used", int((np.isfinite(found) & ~bad).sum()))
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        judge.wrong(case, f"{command}: {bad.sum()} magnitudes, as row {k + 1}: {found[k]:.4f}, not {want[k]:.4f}")


def called(*arguments: Any) -> tuple[int, str]:
    """The command line in this process: exit status, and what it said."""
    from click.testing import CliRunner

    from xpjax.cli import main

    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return 70, "".join(traceback.format_exception(result.exception))
    return result.exit_code, result.output


ROUTES: dict[str, Callable[..., None]] = {
    "columns": through_columns, "survey": through_survey, "standards": through_standards, "gaia": through_gaia,
    "scr": through_scr, "curves": through_curves, "commands": through_commands,
}  # fmt: skip


# --- all of them


def batch(route: str, seed: int, n: int, only: str = "") -> Tally:
    """Some tables through a route. The seed and the route are all that it depends on."""
    judge = Judge()
    for k in range(n):
        rng = np.random.default_rng([seed, zlib.crc32(route.encode()), k])
        before = len(judge.tally.wrong)
        with tempfile.TemporaryDirectory(prefix="xpjax-untidy-") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ROUTES[route](rng, Path(folder), judge, only)
        judge.tally.wrong[before:] = [f"[{route} {seed} {k}] {line}" for line in judge.tally.wrong[before:]]
    return judge.tally


def search(n: int, seed: int, processes: int = 2, only: str = "", routes: Sequence[str] = tuple(SIZES)) -> Tally:
    """All routes, in batches."""
    jobs = []
    whole = sum(SIZES[route] for route in routes)
    for route in routes:
        size = round(n * SIZES[route] / whole)
        jobs += [(route, seed * 1000 + k, min(BATCH, size - k * BATCH)) for k in range(-(-size // BATCH))]
    out = Tally()
    if processes < 2:
        for job in jobs:
            out.join(batch(*job, only))
        return out
    # A process for each batch: after some hundred files the libraries that write them may end it (SIGSEGV).
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        for done in pool.map(batch, *zip(*jobs, strict=True), [only] * len(jobs)):
            out.join(done)
    return out


def report(tally: Tally) -> str:
    """A line for each kind of oddity and format."""
    lines = [f"{'kind':18s}{'format':12s}" + "".join(f"{name:>11s}" for name in OUTCOMES)]
    for (kind, form), counter in sorted(tally.counts.items()):
        lines.append(f"{kind:18s}{form:12s}" + "".join(f"{counter[name]:11,}" for name in OUTCOMES))
    return "\n".join(lines)


def run(quick: bool) -> list[Row]:
    """The tables as one row of the benchmarks."""
    n = 300 if quick else 10_000
    start = time.perf_counter()
    tally = search(n, 1)
    ratios = {name: float(tally.total(name)) for name in OUTCOMES}
    note = "; ".join(tally.wrong[:3])
    return [Row("untidy", "odd tables through every reader", n, time.perf_counter() - start, ratios=ratios, note=note)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.untidy", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="300 tables")
    parser.add_argument("-n", type=int, default=10_000, help="tables; by default 10,000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="an oddity that every table has")
    parser.add_argument("--route", choices=SIZES, help="by default all")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    n = 300 if options.quick else options.n
    start = time.perf_counter()
    routes = (options.route,) if options.route else tuple(SIZES)
    tally = search(n, options.seed, options.processes, options.only, routes)
    seconds = time.perf_counter() - start
    print(report(tally))
    print("\n".join(tally.wrong[:200]))
    totals = {name: tally.total(name) for name in OUTCOMES}
    print(f"{n:,} tables in {seconds:.0f} s: {totals}")
    if not (options.quick or options.only or options.route):
        table = [{"kind": k, "format": f, **{o: c[o] for o in OUTCOMES}} for (k, f), c in sorted(tally.counts.items())]
        result = {"n": n, "seed": options.seed, "seconds": round(seconds), **totals, "wrong": tally.wrong, "by": table}
        (RESULTS / "untidy.json").write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(bool(tally.wrong))


if __name__ == "__main__":
    main()
