"""`survey.toml`: which columns mean what, which stars are standards, and the model; and observations from tables.

[columns]
star = "source_id"
x = "X"
y = "Y"
magnitude = "SPLUS_{band}"
magnitude_error = "SPLUS_{band}_err"
model = "SPLUS_{band}_mod"
color = ["SPLUS_G_mod", "SPLUS_I_mod"]      # a difference, or one column
bands = ["R", "I"]                           # fills in {band}; or [[band]] tables; or neither, for one band
airmass = { header = "AIRMASS" }             # or a column, or a number
detector = ["TELESCOPE", "CCD"]              # one column, or several that name it together; likewise exposure, night
[model]
position_order = 2
color_order = 2
numerical_flat = true
[selection]
cuts = ["mini_sitian", "ruwe"]
limits = { ruwe = 1.3 }
[standards]
file = "standards.parquet"                   # models and colors from another table, joined by id or position
match = "position"
[passband]
chain = "telescope.toml"                     # passbands at each exposure's own airmass: see `xpjax.survey.airmass`
sources = "XpContinuousMeanSpectrum.csv.gz"  # XP spectra, by source_id
airmass = 1.2                                # of the reference; by default the chain's own
correction = "standard"                      # linear correction of the spectra: the default; "none", or a file
models = true                                # model magnitudes from these spectra too; by default where no column is
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from xpjax.errors import XpjaxError
from xpjax.io.survey_files import read_observation_table
from xpjax.records import Catalogue
from xpjax.survey.aperture import aperture_correction
from xpjax.survey.model import Model
from xpjax.survey.observations import (
    Match,
    Observations,
    concatenate,
    correct_gaia,
    make,
    match_ids,
    match_positions,
    with_nights,
)
from xpjax.survey.selection import CUTS, Selected, expand, select
from xpjax.survey.solution import Settings
from xpjax.xp.correction import NONE, STANDARD, LinearCorrection, linear_correction

T = TypeVar("T")

REQUIRED = ("magnitude",)
OPTIONAL = (
    *("star", "x", "y", "magnitude_error", "model", "model_error", "color", "exposure", "band", "detector"),
    *("amplifier", "night", "time", "airmass", "flags", "ra", "dec", "bands", "apertures", "aperture_errors"),
)
CUT_COLUMNS = tuple(
    sorted({need for cut in CUTS.values() for need in cut.needs} - {"magnitude", "magnitude_error", "color"})
)
STANDARDS = ("file", "match", "radius", "id", "ra", "dec", "pm_ra", "pm_dec", "epoch", "years")
PASSBAND = ("chain", "sources", "airmass", "models", "correction")
SECTIONS = ("columns", "model", "selection", "standards", "band", "gaia", "passband")
FILES = {"standards": ("file",), "gaia": ("corrections",), "passband": ("chain", "sources", "correction")}
"""Entries that name files, relative to the configuration's own; or a correction by its name."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What a `survey.toml` says: columns of each band, settings, cuts with limits, standards, Gaia table, passband."""

    bands: Mapping[str, Mapping[str, Any]]
    settings: Settings = dataclasses.field(default_factory=Settings)
    cuts: tuple[str, ...] = ()
    limits: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    standards: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    gaia: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    passband: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    folder: Path = Path()

    @property
    def correction(self) -> str:
        """The name of the linear correction of the XP spectra that passbands are seen with."""
        chosen = self.passband.get("correction")
        return NONE if chosen is None else str(chosen.name)


def read_config(path: str | Path) -> Config:
    """A survey's TOML file. Raises ValueError naming what it has that is unknown, wrong or missing."""
    return read_toml(path, config_from)


def read_toml(path: str | Path, make: Callable[[Mapping[str, Any], Path], T]) -> T:
    """What `make` makes of a TOML file's names and values and of its folder. Raises ValueError naming the file."""
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise XpjaxError(f"{path}: not TOML: {error}") from error
    try:
        return make(table, path.parent)
    except (ValueError, TypeError) as error:
        raise XpjaxError(f"{path.name}: {error}") from error


def named_correction(table: Mapping[str, Any], folder: Path) -> LinearCorrection | None:
    """What `correction` in a section that names XP spectra means, "standard" by default; files lie in the folder."""
    name = table.get("correction", STANDARD)
    if not isinstance(name, str):
        raise XpjaxError(f'correction = {name!r}: expected "standard", "none" or a file of a linear correction')
    return linear_correction(name if name in (STANDARD, NONE) else folder / name)


def read_named(config: Config) -> tuple[Catalogue | None, Catalogue | None]:
    """The tables that a configuration names: standards, and corrections of Gaia's magnitudes; None for none."""
    named = config.standards.get("file"), config.gaia.get("corrections")
    standards, gaia = (None if name is None else read_observation_table(config.folder / name) for name in named)
    return standards, gaia


def config_from(table: Mapping[str, Any], folder: Path = Path()) -> Config:
    """A configuration from nested names and values; paths in it are relative to `folder`."""
    check_names(table, SECTIONS, "section")
    columns = dict(table.get("columns", {}))
    known = (*REQUIRED, *OPTIONAL, *CUT_COLUMNS)
    check_names(columns, known, "column")
    parts = table.get("band", [])
    if not isinstance(parts, list):
        raise XpjaxError("bands are tables in double brackets, [[band]], each with a name")
    names = columns.pop("bands", None)
    if parts and names is not None:
        raise XpjaxError("give [[band]] tables or columns.bands, not both")
    bands: dict[str, dict[str, Any]] = {}
    for part in parts:
        check_names(part, ("name", *known), "column")
        if "name" not in part:
            raise XpjaxError('a [[band]] has no name: add name = "..."')
        bands[str(part["name"])] = {**columns, **{k: v for k, v in part.items() if k != "name"}}
    for name in names or []:
        bands[str(name)] = columns
    bands = {name: with_band(mapping, name) for name, mapping in (bands or {"": columns}).items()}
    for name, mapping in bands.items():
        missing = [key for key in REQUIRED if key not in mapping and "apertures" not in mapping]
        if missing:
            raise XpjaxError(f"[columns] has no {missing[0]}{f' for band {name}' if name else ''}")
    selection = dict(table.get("selection", {}))
    check_names(selection, ("cuts", "limits"), "entry of [selection]")
    standards = dict(table.get("standards", {}))
    check_names(standards, STANDARDS, "entry of [standards]")
    if standards and "file" not in standards:
        raise XpjaxError("[standards] has no file")
    if standards.get("match", "source_id") not in ("source_id", "position"):
        raise XpjaxError(f'[standards] match is "source_id" or "position", not {standards["match"]!r}')
    gaia = dict(table.get("gaia", {}))
    check_names(gaia, ("corrections", "G", "BP", "RP"), "entry of [gaia]")
    passband = dict(table.get("passband", {}))
    check_names(passband, PASSBAND, "entry of [passband]")
    if passband:
        for name in ("chain", "sources"):
            if not isinstance(passband.get(name), str):
                raise XpjaxError(f'[passband] needs {name} = "FILE"')
        without = [name for name, mapping in bands.items() if "airmass" not in mapping]
        if without:
            raise XpjaxError("[passband] needs columns.airmass: a column, a number or a header keyword")
        passband.setdefault("models", all("model" not in mapping for mapping in bands.values()))
        passband["correction"] = named_correction(passband, folder)
    cuts = selection.get("cuts", [])
    expand(cuts)
    limits = selection.get("limits", {})
    settings = _settings(table.get("model", {}))
    return Config(bands, settings, tuple(cuts), limits, standards, gaia, passband, folder)


def _settings(table: Mapping[str, Any]) -> Settings:
    inner = [field.name for field in dataclasses.fields(Model)]
    outer = [field.name for field in dataclasses.fields(Settings) if field.name != "model"]
    check_names(table, (*inner, *outer), "entry of [model]")
    values = {name: value for name, value in table.items() if name in outer}
    if "size" in values:
        values["size"] = detector_size(values["size"])
    return Settings(model=Model(**{name: value for name, value in table.items() if name in inner}), **values)


def detector_size(size: Any) -> tuple[float, ...]:
    """x from and to, y from and to [pixels], of what a file says. Raises ValueError for other than 2 or 4 numbers."""
    if not isinstance(size, list) or len(size) not in (2, 4):
        raise XpjaxError("size is [nx, ny] or [x_from, x_to, y_from, y_to] in pixels")
    return tuple(map(float, size if len(size) == 4 else (0, size[0], 0, size[1])))


def check_names(table: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    """Raises ValueError for a name that is not known, with those that are near."""
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise XpjaxError(f"unknown {what} {name!r}; {hint}")


def with_band(mapping: Mapping[str, Any], band: str) -> dict[str, Any]:
    """The mapping with {band} replaced in every name of a column."""

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{band}", band)
        return [fill(item) for item in value] if isinstance(value, list) else value

    return {key: fill(value) for key, value in mapping.items()}


@dataclasses.dataclass
class Account:
    """What happened on the way from tables to observations, for reports."""

    n_row: int = 0
    n_matched: int = 0
    n_ambiguous: int = 0
    bands_absent: list[str] = dataclasses.field(default_factory=list)
    removed: dict[str, int] = dataclasses.field(default_factory=dict)
    not_run: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    matched: bool = False
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, selected: Selected) -> None:
        """Sum up another selection."""
        for name, n in selected.removed.items():
            self.removed[name] = self.removed.get(name, 0) + n
        self.not_run |= selected.not_run

    def lines(self) -> list[str]:
        """What is worth telling."""
        out = []
        if self.matched:
            out.append(
                f"{self.n_matched:,} of {self.n_row:,} rows matched to standards, {self.n_ambiguous:,} ambiguous"
            )
        out += [f"band {name} is absent" for name in self.bands_absent]
        out += [f"cut {name}: {n:,} removed" for name, n in self.removed.items()]
        out += [f"cut {name} did not run: no column {', '.join(need)}" for name, need in self.not_run.items()]
        return out + self.notes


def files_relative_to(table: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """The names and values of a configuration in folder `old`, with its files as they are called from folder `new`."""
    out = {name: dict(part) if isinstance(part, Mapping) else part for name, part in table.items()}
    for section, names in FILES.items():
        for name in names:
            value = out.get(section, {}).get(name)
            if isinstance(value, str) and value not in (STANDARD, NONE):
                out[section][name] = os.path.relpath(old / out[section][name], new)
    return out


def observations(
    tables: Mapping[str, Catalogue],
    config: Config,
    standards: Catalogue | None = None,
    gaia_table: Catalogue | None = None,
) -> tuple[Observations, Account]:
    """Observations from tables, by the name that an exposure without a column of its own gets.

    A band none of whose columns a table has is absent there and told; other missing columns are a ValueError with the
    nearest names. standards: joined to every table. gaia_table: corrections of G, BP, RP.
    """
    account = Account()
    parts = [_one_band(part, config, account) for part in _parts(tables, config, standards, gaia_table, account)]
    return with_nights(concatenate(parts)), account


def further_column(
    tables: Mapping[str, Catalogue],
    config: Config,
    column: Any,
    standards: Catalogue | None = None,
    gaia_table: Catalogue | None = None,
) -> np.ndarray:
    """A column of numbers (n,), NaN where missing, for the rows of `observations` of the same tables.

    Raises ValueError as it does.
    """
    found = []
    for part in _parts(tables, config, standards, gaia_table, Account()):
        value = _value(part.name, part.columns, part.header, column, "a covariate")
        n = len(next(iter(part.columns.values())))
        found.append(np.broadcast_to(as_numbers(part.name, np.asarray(value), str(column)), n))
    values = np.concatenate(found)
    return np.where(np.isfinite(values), values, np.nan)


class _Part(NamedTuple):
    """What the rows of one band in one table are made of."""

    name: str
    band: str
    columns: Mapping[str, np.ndarray]
    header: Mapping[str, Any]
    mapping: Mapping[str, Any]
    own_star: np.ndarray | None


def _parts(
    tables: Mapping[str, Catalogue],
    config: Config,
    standards: Catalogue | None,
    gaia_table: Catalogue | None,
    account: Account,
) -> Iterator[_Part]:
    """Table by table, band by band, with the columns of matched standards. Raises ValueError where there is none."""
    none = True
    for name, table in tables.items():
        columns = dict(table.columns)
        account.n_row += len(table)
        own_star = None
        if standards is not None:
            columns, own_star = _joined(name, columns, standards, config, account)
        if gaia_table is not None:
            columns |= _gaia(name, columns, gaia_table, config.gaia)
        for band, mapping in config.bands.items():
            if len(config.bands) > 1 and not _named(mapping, "magnitude", "apertures") & set(columns):
                account.bands_absent.append(f"{band} of {name}")
                continue
            none = False
            yield _Part(name, band, columns, table.meta, mapping, own_star)
    if none:
        raise XpjaxError(f"no table has any of the bands {list(config.bands)}")


def _named(mapping: Mapping[str, Any], *keys: str) -> set[str]:
    values = [mapping[key] for key in keys if key in mapping]
    return {name for value in values for name in (value if isinstance(value, list) else [value])}


def find_column(name: str, columns: Mapping[str, np.ndarray], wanted: str, meaning: str) -> np.ndarray:
    """A column (n,) of the table `name`. Raises ValueError where it is absent."""
    if wanted not in columns:
        near = difflib.get_close_matches(wanted, list(columns), 3, 0.5)
        raise XpjaxError(
            f"{name} has no column {wanted!r} for {meaning}; "
            + (f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(list(columns)[:20])}")
        )
    return columns[wanted]


def _value(name: str, columns: Mapping[str, np.ndarray], header: Mapping[str, Any], wanted: Any, meaning: str) -> Any:
    """What a mapping means: a column, a number, a header keyword, or the difference of two columns."""
    if isinstance(wanted, bool):
        raise XpjaxError(f"{meaning}: expected the name of a column, not {wanted}")
    if isinstance(wanted, int | float):
        return float(wanted)
    if isinstance(wanted, dict):
        if set(wanted) != {"header"}:
            raise XpjaxError(f'{meaning}: expected {{ header = "KEYWORD" }}, not {wanted}')
        if wanted["header"] not in header:
            raise XpjaxError(f"{name} has no header keyword {wanted['header']} for {meaning}")
        return header[wanted["header"]]
    if isinstance(wanted, list):
        if len(wanted) != 2:
            raise XpjaxError(f"{meaning}: two columns, of which the difference is taken, or one; not {wanted}")
        a, b = (as_numbers(name, find_column(name, columns, w, meaning), w) for w in wanted)
        # A missing magnitude is 99 or -99 in many catalogues, and a color of 80 is none.
        return np.where((np.abs(a) < 90) & (np.abs(b) < 90), a - b, np.nan)
    return find_column(name, columns, wanted, meaning)


def as_numbers(name: str, column: np.ndarray, what: str) -> np.ndarray:
    """A column (n,) as floats. Raises ValueError where it holds something else."""
    try:
        return np.asarray(column, float)
    except (TypeError, ValueError):
        raise XpjaxError(f"{name}: column {what!r} does not hold numbers, but {column.dtype}") from None


def _one_band(part: _Part, config: Config, account: Account) -> Observations:
    name, band, columns, header, mapping, own_star = part

    def get(key: str, default: Any = None) -> Any:
        return _value(name, columns, header, mapping[key], key) if key in mapping else default

    def text(key: str, default: str) -> Any:
        """A column, or several joined: a detector is known by its telescope and its number."""
        wanted = mapping.get(key)
        if not isinstance(wanted, list):
            return get(key, default)
        parts = [find_column(name, columns, w, key).astype(str) for w in wanted]
        return np.array(["-".join(row) for row in zip(*(part.tolist() for part in parts), strict=True)])

    def numbers(key: str) -> Any:
        value = get(key)
        return as_numbers(name, value, str(mapping[key])) if isinstance(value, np.ndarray) else value

    n = len(next(iter(columns.values())))
    star = own_star if own_star is not None else get("star")
    if star is None:
        star = np.arange(1, n + 1)
    magnitude, error = numbers("magnitude"), numbers("magnitude_error")
    fields: dict[str, Any] = {
        "exposure": text("exposure", name), "band": text("band", band), "detector": text("detector", ""),
        "night": text("night", ""), "amplifier": get("amplifier"),
        "time": numbers("time") if "time" in mapping else np.nan,
        "airmass": numbers("airmass") if "airmass" in mapping else np.nan,
        "color": numbers("color"), "model_error": numbers("model_error"),
    }  # fmt: skip
    place = numbers("x"), numbers("y")
    x, y = (np.full(n, np.nan) if value is None else value for value in place)
    model = numbers("model")
    named = {need: mapping.get(need, need) for need in CUT_COLUMNS}
    extra = {need: columns[column] for need, column in named.items() if column in columns}
    if "apertures" in mapping:
        seen = [np.asarray(c, float) for c in _vectors(name, columns, mapping["apertures"], "apertures")]
        errors = [np.asarray(c, float) for c in _vectors(name, columns, mapping.get("aperture_errors", []), "errors")]
        flags = np.asarray(extra["flags"]) if "flags" in extra else np.zeros(n)
        corrected = aperture_correction(
            make(star, x, y, np.zeros(n), None, None, **{k: fields[k] for k in ("exposure", "detector")}),
            np.stack(seen, axis=1), np.stack(errors, axis=1) if errors else None, bright=flags == 0,
        )  # fmt: skip
        magnitude, error = corrected.magnitude, corrected.magnitude_error
    cut = None
    if config.cuts:
        own = {"magnitude": magnitude, "magnitude_error": error, "color": fields["color"]}
        chosen = select(
            {**extra, **{k: v for k, v in own.items() if v is not None}, **{"_row": np.zeros(n)}},
            config.cuts, config.limits, band,
        )  # fmt: skip
        account.add(chosen)
        cut = ~chosen.keep
    return make(star, x, y, magnitude, error, model, cut=cut, **fields)


def _vectors(name: str, columns: Mapping[str, np.ndarray], wanted: Any, what: str) -> list[np.ndarray]:
    """Columns of one aperture each, or those of one column with several numbers."""
    names = wanted if isinstance(wanted, list) else [wanted]
    found = [find_column(name, columns, w, what) for w in names]
    return [part for column in found for part in (column.T if column.ndim == 2 else [column])]


def _joined(
    name: str, columns: dict[str, np.ndarray], standards: Catalogue, config: Config, account: Account
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The columns with those of the matched standards, and star ids: the standard's, or -(row + 1) without one."""
    want = config.standards
    mapping = next(iter(config.bands.values()))
    identity = want.get("id", "source_id")
    reference = find_column("the table of standards", standards.columns, identity, "id")
    if want.get("match", "source_id") == "source_id":
        if "star" not in mapping:
            raise XpjaxError('[standards] match = "source_id" needs columns.star')
        found: Match = match_ids(np.asarray(find_column(name, columns, mapping["star"], "star")), reference)
    else:
        for key in ("ra", "dec"):
            if key not in mapping:
                raise XpjaxError(f'[standards] match = "position" needs columns.{key}')
        place = [as_numbers(name, find_column(name, columns, mapping[key], key), key) for key in ("ra", "dec")]
        there = [
            np.asarray(find_column("the table of standards", standards.columns, want.get(key, key), key), float)
            for key in ("ra", "dec")
        ]
        motion = {
            key: np.asarray(standards.columns[want[key]], float)
            for key in ("pm_ra", "pm_dec")
            if want.get(key) in standards.columns
        }
        years = float(want.get("years", float(want.get("epoch", 2016.0)) - 2016.0))
        found = match_positions(*place, *there, radius=float(want.get("radius", 1.0)), **motion, years=years)
    account.matched = True
    account.n_matched += found.n_matched
    account.n_ambiguous += found.n_ambiguous
    has = found.index >= 0
    out = dict(columns)
    for key, column in standards.columns.items():
        if key in out and key != identity and key not in (want.get("ra", "ra"), want.get("dec", "dec")):
            raise XpjaxError(f"column {key!r} is in {name} and in the table of standards: rename one")
        if column.dtype.kind == "f":
            out[key] = np.where(has, column[found.index], np.nan) if len(column) else np.full(len(has), np.nan)
        elif key not in out:
            out[key] = column[np.where(has, found.index, 0)] if len(column) else np.zeros(len(has))
    rows = -(np.arange(len(has)) + 1)
    if reference.dtype.kind in "iu":
        star = np.where(has, reference[found.index], rows) if len(reference) else rows
    else:
        star = np.where(has, reference[found.index].astype(str), rows.astype(str))
    return out, star


def _gaia(name: str, columns: Mapping[str, np.ndarray], table: Catalogue, names: Mapping[str, Any]) -> dict[str, Any]:
    """The Gaia magnitudes of the table, corrected, under their own names."""
    usual = {"G": "phot_g_mean_mag", "BP": "phot_bp_mean_mag", "RP": "phot_rp_mean_mag"}
    mine = {key: names.get(key, column) for key, column in usual.items() if names.get(key, column) in columns}
    if "G" not in mine:
        raise XpjaxError(f"{name} has no column {names.get('G', usual['G'])!r}, which Gaia's corrections need")
    out = correct_gaia({key: np.asarray(columns[c], float) for key, c in mine.items()}, table.columns)
    return {column: out[key] for key, column in mine.items()}
