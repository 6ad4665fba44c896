"""The rows of one band in one table: what the names in a configuration mean, and the observations that they make."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.io.tables import Table, iso_day, split_part
from xpjax.io.words import parse_number
from xpjax.survey import (
    CUTS,
    MISSING,
    Frames,
    Match,
    Observations,
    Origin,
    RowFlag,
    correct_gaia,
    expand,
    make_observations,
    select,
)
from xpjax.survey.exposures import aperture_correction
from xpjax.survey.reading.account import AIRMASSES, Account
from xpjax.survey.reading.config import SurveyConfig
from xpjax.survey.reading.doubles import first_alike
from xpjax.survey.reading.sections import CUT_COLUMNS
from xpjax.survey.reading.standards import Standards, coefficients_said, julian_years

KINDS = {
    **dict.fromkeys(("magnitude", "magnitude_error", "model", "model_error", "color"), "magnitude"),
    **dict.fromkeys(("bp_rp", "phot_g_mean_mag"), "magnitude"),
    "teff": "temperature",
}
"""What is measured in the columns that a configuration names."""
TEXTS = ("exposure", "band", "detector")
OF_FRAME = (*TEXTS, "night", "time", "airmass")
"""What one header may lack, or have wrong, at the cost of its own exposure alone."""
OF_STANDARDS = ("model", "model_error", "color")
WORDS = ("phot_variable_flag",)
"""Columns of cuts that hold words."""
GAIA = {"G": "phot_g_mean_mag", "BP": "phot_bp_mean_mag", "RP": "phot_rp_mean_mag"}


def listed(value: Any) -> list[Any]:
    """One or several as a list."""
    return value if isinstance(value, list) else [value]


def named_columns(mapping: Mapping[str, Any]) -> set[str]:
    """The names in a mapping that may be columns."""
    return {n for value in mapping.values() for n in listed(value) if isinstance(n, str)}


@dataclasses.dataclass
class BandRows:
    """The rows of one band in one table, and the standards that they are matched to."""

    name: str
    detector: str
    band: str
    table: Table
    mapping: Mapping[str, Any]
    config: SurveyConfig
    standards: Standards | None
    account: Account
    place: tuple[np.ndarray, np.ndarray] | None = None
    replaced: dict[tuple[str, bool], np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = np.full(len(self.table), -1)
        self.first = np.arange(len(self.table))

    def join(self, known: BandRows | None) -> None:
        """Match the rows to standards; known: another band of the table, which is matched."""
        if known is not None:
            self.index, self.place, self.first = known.index, known.place, known.first
            return
        if {"ra", "dec"} <= set(self.mapping):
            self.place = Standards.positions(self.table, self.mapping["ra"], self.mapping["dec"])
        self.first = self._first()
        if self.standards is None:
            return
        if self.standards.by_position:
            if self.place is None:
                raise XpjaxError('[standards] match = "position" needs columns.ra and columns.dec')
            found = self._by_position(self.standards, *self.place)
        else:
            if "star" not in self.mapping:
                raise XpjaxError('[standards] match = "source_id" needs columns.star')
            ids = self.table.column(self.mapping["star"], "star").ids()
            found = self.standards.match_ids(ids, f"{self.table.origin}, column {self.mapping['star']!r}")
        self.index = found.index
        self.account.matched = True
        self.account.n_matched += found.n_matched
        self.account.n_ambiguous += found.n_ambiguous

    def _first(self) -> np.ndarray:
        """The first row (n,) with the same in every column that any band names: rows that come twice are one star."""
        own = {name for key in ("star", "ra", "dec", "x", "y") for name in named_columns({key: self.mapping.get(key)})}
        every = set().union(*map(named_columns, self.config.bands.values()))
        if not own & {*self.table.fields} or any("apertures" in mapping for mapping in self.config.bands.values()):
            return self.first
        names = [name for name in (*sorted(own), *sorted(every - own)) if name in self.table]
        columns = (np.ma.filled(self.table.column(name, "a measurement").plain()) for name in names)
        return first_alike((v.astype(str) if v.dtype == object else v for v in columns), len(self.table))

    def _by_position(self, standards: Standards, ra: np.ndarray, dec: np.ndarray) -> Match:
        """The standards at these positions, at the time of each row where they are carried to it."""
        n = len(self.table)
        keys = [self.texts(key, "") for key in ("exposure", "band", "detector")]
        named = [np.unique(key, return_inverse=True)[1] for key in keys if isinstance(key, np.ndarray)]
        frame = np.unique(np.stack(named), axis=1, return_inverse=True)[1].ravel() if named else np.zeros(n, int)
        time = self.numbers("time") if standards.at_times else None
        time = np.broadcast_to(np.nan if time is None else np.asarray(time, float), n)
        if standards.at_times:
            self.account.carried(julian_years(time))
        once = self.first == np.arange(n)
        found = standards.match_positions(np.where(once, ra, np.nan), dec, time, frame)
        found = dataclasses.replace(found, index=found.index[self.first])
        self.account.offsets.append(standards.offsets(found.index, ra, dec, time))
        return found

    # What names mean

    def _side(self, wanted: str, meaning: str) -> tuple[Table, str, bool]:
        """The table that a name means, the column's own name, and whether it is the standards'."""
        theirs = None if self.standards is None else self.standards.table
        head, _, rest = wanted.partition(".")
        if wanted in self.table:
            if theirs is not None and wanted in theirs and meaning in OF_STANDARDS:
                raise XpjaxError(
                    f"columns.{meaning} = {wanted!r}: both {self.table.origin} and the standards {theirs.origin} have "
                    f'this column; write "survey.{wanted}" or "standards.{wanted}"'
                )
            return self.table, wanted, False
        if theirs is not None and head == "standards" and rest in theirs:
            return theirs, rest, True
        if head == "survey" and rest in self.table:
            return self.table, rest, False
        if theirs is not None and wanted in theirs:
            return theirs, wanted, True
        try:
            self.table.check(wanted, meaning)
        except XpjaxError as error:
            more = "" if theirs is None else f"; nor have the standards {theirs.origin}"
            if meaning in OF_STANDARDS and self.standards is not None and self.standards.holds_coefficients:
                more = f"; and the standards' table {coefficients_said(self.standards.table.origin)}"
            raise XpjaxError(f"{error}{more}") from None
        return self.table, wanted, False

    def column_numbers(self, wanted: str, meaning: str) -> np.ndarray:
        """A column (n,) as floats, NaN where missing or where a row has no standard."""
        table, name, joined = self._side(wanted, meaning)
        if (name, joined) in self.replaced:
            return self.replaced[name, joined]
        column = table.column(name, meaning)
        values = column.times() if meaning == "time" else column.numbers(KINDS.get(meaning))
        return self._taken(values, np.nan) if joined else values

    def covariate(self, name: str) -> np.ndarray:
        """What a term of a joint solution reads (n,): a column, or a keyword of the header that is no column."""
        theirs = () if self.standards is None else self.standards.table
        if name not in self.table and name not in theirs and name in self.table.header:
            return np.full(len(self.table), self._header("a covariate", {"header": name}))
        return self.column_numbers(name, "a covariate")

    def _column_texts(self, wanted: str, meaning: str) -> np.ndarray:
        """A column (n,) as text, empty where a row has no standard."""
        table, name, joined = self._side(wanted, meaning)
        texts = table.column(name, meaning).texts()
        return self._taken(texts, "").astype(str) if joined else texts

    def _taken(self, values: np.ndarray, missing: Any) -> np.ndarray:
        """Values of standards for the rows that have one."""
        has = self.index >= 0
        out = np.full(len(has), missing, np.result_type(values, type(missing)) if values.dtype.kind != "U" else object)
        out[has] = values[self.index[has]]
        return out

    def numbers(self, key: str) -> Any:
        """What the mapping means by a key: numbers (n,), one number for all, or None where it does not say."""
        wanted = self.mapping.get(key)
        if wanted is None:
            return None
        if isinstance(wanted, int | float):
            return float(wanted)
        if isinstance(wanted, dict):
            return self._header(key, wanted)
        if isinstance(wanted, list):
            if len(wanted) != 2:
                raise XpjaxError(f"columns.{key}: two columns, of which the difference is taken, or one; not {wanted}")
            a, b = (self.column_numbers(one, key) for one in wanted)
            # A missing magnitude is 99 or -99 in many catalogues, and a color of 80 is none.
            with np.errstate(invalid="ignore"):
                return np.where((np.abs(a) < MISSING) & (np.abs(b) < MISSING), a - b, np.nan)
        return self.column_numbers(wanted, key)

    def _header(self, key: str, wanted: Mapping[str, Any], as_text: bool = False) -> Any:
        """What a header or the name of the file says; of a frame's own empty or NaN where one has none of it."""
        in_name = as_text and set(wanted) == {"file"}
        if set(wanted) != {"header"} and not in_name:
            more = ' or { file = "PATTERN" }' if as_text else ""
            raise XpjaxError(f'columns.{key}: expected {{ header = "KEYWORD" }}{more}, not {wanted}')
        if key not in OF_FRAME:
            return self._in_name(wanted["file"]) if in_name else self._keyword(key, wanted["header"], as_text)
        try:
            if in_name:
                if not (text := self._in_name(wanted["file"])):
                    raise XpjaxError(f"{self.table.origin}: nothing in its name is the {key}, {wanted['file']}")
                return text
            return self._keyword(key, wanted["header"], as_text)
        except XpjaxError as error:  # told by the account, and raised where every header is so
            self.account.lacks(key, str(error))
            return "" if as_text else np.nan

    def _keyword(self, key: str, keyword: str, as_text: bool) -> Any:
        """The value of a header keyword. Raises XpjaxError where there is none, or another one than expected."""
        if keyword not in self.table.header:
            raise XpjaxError(f"{self.table.origin} has no header keyword {keyword} for {key}")
        said = self.table.header[keyword]
        if as_text:
            if not (text := str(said).strip()):
                raise XpjaxError(f"{self.table.origin}: the header keyword {keyword} for {key} is empty")
            return text
        value = said
        if isinstance(value, str):
            day = iso_day(value) if key == "time" else np.nan
            try:
                value = day if np.isfinite(day) else parse_number(value)
            except ValueError:
                value = None
        if value is None or isinstance(value, bool) or not np.isfinite(value):
            raise XpjaxError(
                f"{self.table.origin}: the header keyword {keyword} for {key} is {said!r}, expected "
                f"{'a number or a date' if key == 'time' else 'a number'}; mend the header, or give a number instead"
            )
        return float(value)

    def _in_name(self, pattern: str) -> str:
        """What the first group of a pattern finds in the name of the file."""
        found = re.search(pattern, split_part(self.table.origin)[0].name)
        return str(found[1]) if found else ""

    def texts(self, key: str, default: str) -> Any:
        """A column of text, or several joined: a detector is known by its telescope and its number."""
        wanted = self.mapping.get(key)
        if wanted is None:
            return default
        if isinstance(wanted, dict):
            return self._header(key, wanted, as_text=True)
        if isinstance(wanted, int | float):
            return str(wanted)
        parts = [self._column_texts(one, key) for one in listed(wanted)]
        if len(parts) == 1:
            return parts[0]
        whole = ["-".join(row) if all(row) else "" for row in zip(*(part.tolist() for part in parts), strict=True)]
        return np.array(whole, np.str_)

    def correct_gaia(self, terms: Mapping[str, np.ndarray]) -> None:
        """Replace Gaia's magnitudes by corrected ones, under their own names."""
        said = {} if self.config.gaia is None else self.config.gaia.given()
        have = set(self.table.fields) | (set(self.standards.table.fields) if self.standards is not None else set())
        mine = {key: said.get(key, column) for key, column in GAIA.items() if key in said or column in have}
        if "G" not in mine:
            raise XpjaxError(f"{self.table.origin} has no column {GAIA['G']!r}, which Gaia's corrections need")
        sides = {key: self._side(column, f"[gaia] {key}")[1:] for key, column in mine.items()}
        needs = {self.mapping.get(need, need) for cut in expand(self.config.selection.cuts) for need in CUTS[cut].needs}
        used = {re.sub(r"^(standards|survey)\.", "", name) for name in named_columns(self.mapping) | needs}
        if not used & {name for name, _ in sides.values()}:
            raise XpjaxError(
                f"[gaia] corrections have no effect: neither [columns] nor cuts use {', '.join(mine.values())}; say "
                'what Gaia\'s columns are called, as in G = "phot_g_mean_mag", or leave the section out'
            )
        values = {key: self.column_numbers(column, "phot_g_mean_mag") for key, column in mine.items()}
        out = correct_gaia(values, terms)
        self.replaced = {sides[key]: out[key] for key in mine}

    # Observations

    def stars(self) -> tuple[np.ndarray, np.ndarray]:
        """Names (n,) of stars, and which rows have none yet: standards' names where matched, else their own."""
        n = len(self.table)
        own = None
        if "star" in self.mapping and (self.standards is None or not self.standards.by_position):
            own = self.table.column(self.mapping["star"], "star").ids()
        if self.standards is None:
            return (np.zeros(n, np.int64), np.ones(n, bool)) if own is None else (own.value, own.missing)
        names = self.standards.ids.value
        has = self.index >= 0
        if own is not None and (own.value.dtype.kind in "iu") == (names.dtype.kind in "iu"):
            return own.value, own.missing
        star = np.zeros(n, np.int64) if names.dtype.kind in "iu" else np.full(n, "", names.dtype)
        if len(names):
            star[has] = names[self.index[has]]
        return star, ~has | (self.standards.ids.missing[self.index] if len(names) else ~has)

    def observations(self, keep: Sequence[str]) -> tuple[Observations, np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """The rows, which stars have no name yet, and positions (NaN where there are none)."""
        n = len(self.table)
        star, unknown = self.stars()
        magnitude, error = self.numbers("magnitude"), self.numbers("magnitude_error")
        names = {"exposure": self.name, "band": self.band, "detector": self.detector, "night": ""}
        fields: dict[str, Any] = {key: self.texts(key, default) for key, default in names.items()}
        fields |= {key: self.numbers(key) for key in ("color", "model_error")}
        fields |= {key: np.nan if (value := self.numbers(key)) is None else value for key in ("time", "airmass")}
        x, y = (np.full(n, np.nan) if (v := self.numbers(k)) is None else np.broadcast_to(v, n) for k in ("x", "y"))
        extra = self._extra()
        if "apertures" in self.mapping:
            magnitude, error = self._corrected(star, x, y, fields, extra)
        elif "flux" in self.mapping:
            magnitude, error = self._of_fluxes()
        magnitude = self._without_frame(np.broadcast_to(np.asarray(magnitude, float), n), fields)
        made = make_observations(star, x, y, magnitude, error, self.numbers("model"), **fields)
        cut = self._cut(magnitude, error, fields["color"], extra, made.frame)
        if cut is not None:
            made = dataclasses.replace(made, excluded=made.excluded | np.uint32(RowFlag.CUT) * cut)
        made = dataclasses.replace(made, frames=self._possible(made.frames))
        place = self.place if self.place is not None else (np.full(n, np.nan), np.full(n, np.nan))
        return dataclasses.replace(made, origin=self._origin(keep)), unknown, place

    def _possible(self, frames: Frames) -> Frames:
        """The frames without airmasses that are none; a hair below one is one."""
        low, high = AIRMASSES
        known = np.isfinite(frames.airmass)
        bad = known & ~((frames.airmass > low - 0.005) & (frames.airmass <= high))
        self.account.no_airmass += [f"{frames.name(int(k))} ({frames.airmass[k]:g})" for k in np.flatnonzero(bad)]
        return dataclasses.replace(frames, airmass=np.where(known & ~bad, np.maximum(frames.airmass, low), np.nan))

    def amplifiers(self) -> np.ndarray:
        """The amplifier (n,) of each row, by name; empty where nothing says it."""
        return np.array(np.broadcast_to(np.asarray(self.texts("amplifier", ""), np.str_), len(self.table)))

    def _without_frame(self, magnitude: np.ndarray, fields: Mapping[str, Any]) -> np.ndarray:
        """Magnitudes of rows whose exposure or band nobody names are missing: no frame can calibrate them."""
        lost = np.zeros(len(magnitude), bool)
        for key in ("exposure", "band", "detector"):
            gone = np.broadcast_to(fields[key] == "", len(lost))
            if isinstance(fields[key], np.ndarray) and gone.any():
                note = f"{self.table.origin}: {int(gone.sum()):,} rows have no {key}: not calibrated"
                self.account.notes.append(note)
            if key in self.mapping:
                lost |= gone
        return np.where(lost, np.nan, magnitude)

    def _extra(self) -> dict[str, np.ndarray]:
        """The columns that cuts need, of those that the tables have."""
        out: dict[str, np.ndarray] = {}
        theirs = self.standards.table if self.standards is not None else ()
        for need in CUT_COLUMNS:
            wanted = self.mapping.get(need, need)
            if need not in self.mapping and wanted not in self.table and wanted not in theirs:
                continue
            if need in ("ra", "dec") and self.place is not None:
                out[need] = self.place[need == "dec"]
            elif not self.config.selection.cuts and need != "flags" and need not in self.mapping:
                continue
            elif need in WORDS:
                out[need] = self._column_texts(wanted, need)
            elif need == "flags":
                table, name, joined = self._side(wanted, need)
                bits = table.column(name, need).flags()
                out[need] = self._taken(bits, 0) if joined else bits
            else:
                out[need] = self.column_numbers(wanted, need)
        return out

    def _cut(
        self, magnitude: Any, error: Any, color: Any, extra: Mapping[str, np.ndarray], frame: np.ndarray
    ) -> np.ndarray | None:
        """Rows that the cuts take away; None without cuts. frame (n,): on which each row is."""
        if not self.config.selection.cuts:
            return None
        n = len(self.table)
        own = {"magnitude": magnitude, "magnitude_error": error, "color": color}
        columns = {**extra, **{k: np.broadcast_to(v, n) for k, v in own.items() if v is not None}, "frame": frame}
        once = np.flatnonzero(self.first == np.arange(n))
        columns = {name: values[once] for name, values in columns.items()} if len(once) < n else columns
        chosen = select(columns, self.config.selection.cuts, self.config.selection.limits, self.band)
        chosen.check_ran(self.config.selection.cuts, self.table.origin)
        self.account.add(chosen)
        return ~chosen.keep[np.searchsorted(once, self.first)]

    def _corrected(
        self, star: np.ndarray, x: np.ndarray, y: np.ndarray, fields: Mapping[str, Any], extra: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Magnitudes of the best aperture, brought to the whole star's light."""
        seen, errors = self._apertures("apertures"), self._apertures("aperture_errors")
        flags = extra.get("flags", np.zeros(len(star)))
        assert seen is not None
        if errors is not None and errors.shape != seen.shape:
            raise XpjaxError(
                f"{self.table.origin}: {seen.shape[1]} apertures, and errors of {errors.shape[1]}: name as many"
            )
        names = {key: fields[key] for key in ("exposure", "detector")}
        o = make_observations(star, x, y, np.zeros(len(star)), None, None, **names)
        corrected = aperture_correction(o, seen, errors, bright=flags == 0)
        return corrected.magnitude, corrected.magnitude_error

    def _of_fluxes(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Magnitudes of fluxes and their errors; those of fluxes that are not above zero are missing."""
        flux, error = self.numbers("flux"), self.numbers("flux_error")
        good = np.where(flux > 0, flux, np.nan)
        return -2.5 * np.log10(good), None if error is None else 2.5 / np.log(10) * error / good

    def _apertures(self, key: str) -> np.ndarray | None:
        """Columns of one aperture each, or those of one column with several numbers (n, k)."""
        if key not in self.mapping:
            return None
        columns = [self.table.column(name, key) for name in listed(self.mapping[key])]
        return np.concatenate([column.array() * column.factor("magnitude") for column in columns], axis=1)

    def _origin(self, keep: Sequence[str]) -> Origin:
        """What goes back with the magnitudes: file, row, identifier, positions, columns to be kept."""
        n, table = len(self.table), self.table
        columns: dict[str, np.ndarray] = {}
        if "star" in self.mapping:
            columns[self.mapping["star"]] = table.column(self.mapping["star"], "star").ids().value
        if self.place is not None:
            columns["ra"], columns["dec"] = self.place
        for name in keep:
            if name != self.mapping.get("star"):  # ra and dec are degrees, whatever the input's columns of these names
                key = f"input_{name}" if name in columns else name
                columns[key] = table.column(name, say("keep", "--keep")).plain()
        file = self.name if table.origin == "memory" else table.origin
        return Origin((file,), np.zeros(n, np.int32), np.arange(1, n + 1), columns)
