"""`survey.toml`: which columns mean what, which stars are standards, and the model; see `xpjax.survey.reading.tables`.

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
chain = "telescope.toml"                     # passbands at each exposure's own airmass: see `airmass`
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from xpjax.core.errors import XpjaxError
from xpjax.survey import CUTS, Selected, check_limits
from xpjax.survey.exposures import CalibrationSettings, ExposureModel
from xpjax.survey.reading.standards import check_standards
from xpjax.xp import NONE, STANDARD, LinearCorrection, load_correction

T = TypeVar("T")

COLUMNS = (
    *(
        "magnitude",
        "star",
        "x",
        "y",
        "magnitude_error",
        "model",
        "model_error",
        "color",
        "exposure",
        "band",
        "detector",
    ),
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
    settings: CalibrationSettings = dataclasses.field(default_factory=CalibrationSettings)
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
    return load_correction(name if name in (STANDARD, NONE) else folder / name)


def config_from(table: Mapping[str, Any], folder: Path = Path(), *, joint: bool = False) -> Config:
    """A configuration from nested names and values; paths in it are relative to `folder`.

    joint: of a joint solution, whose terms need other columns than [model] does.
    """
    check_names(table, SECTIONS, "section")
    for name, part in table.items():
        if name != "band" and not isinstance(part, Mapping):
            raise XpjaxError(f"{name} = {part!r}: expected a section, [{name}], with entries of its own")
    columns = dict(table.get("columns", {}))
    known = (*COLUMNS, *CUT_COLUMNS)
    check_names(columns, known, "column")
    parts = table.get("band", [])
    if not isinstance(parts, list):
        raise XpjaxError("bands are tables in double brackets, [[band]], each with a name")
    names = columns.pop("bands", None)
    if names is not None and not isinstance(names, list):
        raise XpjaxError(f"columns.bands = {names!r}: expected a list of names")
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
    _check_bands(bands)
    selection = dict(table.get("selection", {}))
    check_names(selection, ("cuts", "limits"), "entry of [selection]")
    standards = dict(table.get("standards", {}))
    check_names(standards, STANDARDS, "entry of [standards]")
    check_standards(standards)
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
        has_models = any("model" in mapping for mapping in bands.values())
        if passband.setdefault("models", not has_models) and has_models:
            raise XpjaxError("[passband] models = true replaces columns.model: leave one of them out")
        passband["correction"] = named_correction(passband, folder)
    cuts = selection.get("cuts", [])
    limits = selection.get("limits", {})
    check_limits(cuts, limits)
    settings = _settings(table.get("model", {}))
    if not joint:
        _check_model(table.get("model", {}), settings, bands)
    return Config(bands, settings, tuple(cuts), limits, standards, gaia, passband, folder)


def _check_bands(bands: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise XpjaxError for columns that are lacking, halves of pairs, and what excludes each other."""
    holder: dict[str, str] = {}
    for name, mapping in bands.items():
        where = f"[columns]{f' for band {name}' if name else ''}"
        if "magnitude" not in mapping and "apertures" not in mapping:
            raise XpjaxError(f"{where} has no magnitude")
        for key in ("star", "ra", "dec"):
            if not isinstance(mapping.get(key, ""), str):
                raise XpjaxError(f"{where} has {key} = {mapping[key]!r}: expected the name of one column")
        if "magnitude" in mapping and "apertures" in mapping:
            raise XpjaxError(f"{where} has magnitude and apertures, of which one is calibrated: leave the other out")
        if "aperture_errors" in mapping and "apertures" not in mapping:
            raise XpjaxError(f"{where} has aperture_errors and no apertures: name these too, or leave it out")
        for pair in (("x", "y"), ("ra", "dec")):
            given = [key for key in pair if key in mapping]
            if len(given) == 1:
                raise XpjaxError(f"{where} has {given[0]} and no {({*pair} - {*given}).pop()}: give both, or none")
        if "model_error" in mapping and "model" not in mapping:
            raise XpjaxError(f"{where} has model_error and no model: name it too, or leave model_error out")
        own = str(mapping.get("magnitude", mapping.get("apertures")))
        if own in holder:
            raise XpjaxError(
                f"bands {holder[own]} and {name} have the same magnitudes, {own}: put {{band}} into its name"
            )
        holder[own] = name


IDLE = {
    "numerical_flat": ("neighbors",),
    "stacked_flat": ("bins", "smooth", "interpolation", "rounds", "star_offsets"),
}
"""Entries of [model] that mean nothing without another one."""


def _settings(table: Mapping[str, Any]) -> CalibrationSettings:
    for needed, names in IDLE.items():
        idle = [name for name in names if name in table and not table.get(needed)]
        if idle:
            raise XpjaxError(f"[model] {idle[0]} has no effect without {needed} = true: add it, or leave {idle[0]} out")
    inner = [field.name for field in dataclasses.fields(ExposureModel)]
    outer = [field.name for field in dataclasses.fields(CalibrationSettings) if field.name != "model"]
    check_names(table, (*inner, *outer), "entry of [model]")
    values = {name: value for name, value in table.items() if name in outer}
    if "size" in values:
        values["size"] = detector_size(values["size"])
    return CalibrationSettings(
        model=ExposureModel(**{name: value for name, value in table.items() if name in inner}), **values
    )


def _check_model(
    said: Mapping[str, Any], settings: CalibrationSettings, bands: Mapping[str, Mapping[str, Any]]
) -> None:
    """Raise XpjaxError for entries of [model] that need columns which are not named, or are idle beside others."""
    model = settings.model
    for entry, wanted, keys, off in (
        ("position_order", model.position_order, ("x", "y"), 0),
        ("numerical_flat", settings.numerical_flat, ("x", "y"), False),
        ("stacked_flat", settings.stacked_flat, ("x", "y"), False),
        ("color_order", said.get("color_order", 0), ("color",), 0),
        ("amplifiers", model.amplifiers, ("amplifier",), False),
    ):
        lacking = [key for key in keys if any(key not in mapping for mapping in bands.values())]
        if wanted and lacking:
            named = " and ".join(f"columns.{key}" for key in lacking)
            value, idle = (str(v).lower() for v in (wanted, off))
            raise XpjaxError(f"[model] {entry} = {value} needs {named}: name it in [columns], or set {entry} = {idle}")
    for entry, used, needed in (
        ("size", model.position_order or settings.stacked_flat, "position terms or stacked_flat"),
        ("color_zero", model.color_order, "color terms"),
        ("magnitude_zero", model.magnitude_order, "magnitude terms"),
    ):
        if entry in said and not used:
            raise XpjaxError(f"[model] {entry} has no effect without {needed}: leave it out")
    if not model.amplifiers and any("amplifier" in mapping for mapping in bands.values()):
        raise XpjaxError("columns.amplifier has no effect without [model] amplifiers = true: add it, or leave it out")


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
