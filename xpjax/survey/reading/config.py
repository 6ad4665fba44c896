"""What `survey.toml` says of tables, standards and the model of an exposure; see `sections` for its entries."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpjax.core.errors import XpjaxError
from xpjax.core.shipped import shipped_passbands
from xpjax.io.config import check_sections, parse, read_toml
from xpjax.survey import CAMERAS, SurveyEffects, SurveySetup, check_limits
from xpjax.survey.exposures import CalibrationSettings, ExposureModel
from xpjax.survey.reading.sections import (
    IN_MEMORY,
    OF_SCR,
    SECTIONS,
    Band,
    Columns,
    GaiaTerms,
    Model,
    Selection,
    Simulate,
    StandardStars,
    SurveyPassband,
)
from xpjax.survey.reading.standards import check_standards
from xpjax.xp import NONE, STANDARD, LinearCorrection, load_correction

FILES = {
    "standards": ("file", "spectra", "fetch"),
    "gaia": ("corrections",),
    "passband": ("chain", "files", "sources", "correction"),
}
"""Entries that name files, relative to the configuration's own, one or several; or a correction by its name."""


@dataclasses.dataclass(frozen=True)
class SurveyConfig:
    """Hold what a `survey.toml` says of tables, standards and the model of an exposure.

    Parameters
    ----------
    bands : mapping of str to mapping
        Columns of each band.
    settings : CalibrationSettings
        How the survey is calibrated.
    selection : Selection
        Cuts of the standards, with limits.
    standards : StandardStars, optional
        Table of standards.
    gaia : GaiaTerms, optional
        Corrections of Gaia's magnitudes.
    passband : SurveyPassband, optional
        Passbands of the survey, through which XP spectra are seen.
    spectra_correction : LinearCorrection, optional
        Linear correction of the XP spectra that the passband is seen with.
    folder : Path
        Directory that names of files are relative to.
    table : mapping
        Names and values as the file has them.
    at_one_airmass : bool
        Whether magnitudes are brought to the passband at one airmass; not where a term of a joint solution does it.
    sky_floor : bool
        Whether systematic errors of models hold XP's floor on the sky; a joint solution states it apart.

    Examples
    --------
    >>> columns = {"star": "id", "magnitude": "m", "model": "M"}
    >>> config = xpjax.survey.reading.read_config({"columns": columns, "model": {"position_order": 0}})
    >>> config.settings.model.position_order, config.identifies_stars
    (0, True)
    """

    bands: Mapping[str, Mapping[str, object]]
    settings: CalibrationSettings = dataclasses.field(default_factory=CalibrationSettings)
    selection: Selection = dataclasses.field(default_factory=Selection)
    standards: StandardStars | None = None
    gaia: GaiaTerms | None = None
    passband: SurveyPassband | None = None
    spectra_correction: LinearCorrection | None = None
    folder: Path = Path()
    table: Mapping[str, object] = dataclasses.field(default_factory=dict)
    at_one_airmass: bool = True
    sky_floor: bool = True

    @property
    def correction(self) -> str:
        """The name of the linear correction of the XP spectra that passbands are seen with."""
        return NONE if self.spectra_correction is None else self.spectra_correction.name

    @property
    def takes_models(self) -> bool:
        """Whether something gives model magnitudes: columns, or XP spectra."""
        own = any("model" in mapping for mapping in self.bands.values())
        return own or (self.passband is not None and bool(self.passband.models))

    @property
    def has_spectra(self) -> bool:
        """Whether the standards are XP spectra."""
        return self.standards is not None and self.standards.has_spectra

    @property
    def names_exposures(self) -> bool:
        """Whether a column says which exposure a row is of."""
        return all("exposure" in mapping for mapping in self.bands.values())

    @property
    def identifies_stars(self) -> bool:
        """Whether stars can be told across files: by a column, by standards, or by position."""
        return self.standards is not None or all(
            "star" in mapping or {"ra", "dec"} <= set(mapping) for mapping in self.bands.values()
        )


def read_config(source: str | Path | Mapping[str, object]) -> SurveyConfig:
    """Read a survey's TOML file.

    Parameters
    ----------
    source : str, Path or mapping
        The file, or its names and values.

    Returns
    -------
    SurveyConfig
        What it says; sections of other commands are left alone.

    Raises
    ------
    XpjaxError
        If something is unknown, wrong or missing.

    Examples
    --------
    >>> columns = {"star": "id", "magnitude": "m", "model": "M"}
    >>> config = xpjax.survey.reading.read_config({"columns": columns, "model": {"position_order": 0}})
    >>> list(config.bands[""])
    ['star', 'magnitude', 'model']
    """
    return config_from(source) if isinstance(source, Mapping) else read_toml(source, config_from)


def config_from(table: Mapping[str, Any], folder: Path = Path(), *, joint: bool = False) -> SurveyConfig:
    """A configuration from nested names and values; paths in it are relative to `folder`.

    joint: of a joint solution, whose terms need other columns than [model] does.
    """
    check_sections(table, SECTIONS)
    bands = _bands(table)
    selection = parse(Selection, table.get("selection", {}), "[selection]")
    check_limits(selection.cuts, selection.limits)
    if (strange := sorted({*selection.bands} - {*bands})) and [*bands] != [""]:
        raise XpjaxError(f"[selection] bands has {strange[0]!r}, which is no band of the survey; it has {[*bands]}")
    standards = gaia = passband = correction = None
    settings = CalibrationSettings()
    if "standards" in table:
        standards = parse(StandardStars, table["standards"], "[standards]")
        check_standards(standards)
    if "gaia" in table:
        gaia = parse(GaiaTerms, table["gaia"], "[gaia]")
    spectral = standards is not None and standards.has_spectra
    if spectral:
        bands = {name: {"color": SYNTHETIC_COLOR, **mapping} for name, mapping in bands.items()}
    if not joint:
        settings = _settings(table.get("model", {}), bands)
    if "passband" in table and (spectral or not joint):
        passband = _passband(table["passband"], bands, spectral)
        correction = named_correction(table["passband"], folder)
    elif spectral and not joint and not any("model" in mapping for mapping in bands.values()):
        raise XpjaxError(
            "[standards] has spectra, and no [passband] through which their magnitudes are computed: add it with "
            'chain = "telescope.toml", files = { g = "g.dat" } or system = "SDSS"'
        )
    return SurveyConfig(bands, settings, selection, standards, gaia, passband, correction, folder, table)


def _bands(table: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The columns of each band by its name; one band without a name where the file names none."""
    columns = parse(Columns, table.get("columns", {}), "[columns]")
    parts = [parse(Band, part, "[[band]]") for part in table.get("band", [])]
    if parts and columns.bands is not None:
        raise XpjaxError("give [[band]] tables or columns.bands, not both")
    shared = {name: value for name, value in columns.given().items() if name not in ("bands", *OF_SCR)}
    own = {part.name: part.given() for part in parts} or {name: {} for name in columns.bands or ("",)}
    skipped = ("name", "gaia", "order", *OF_SCR)
    bands = {
        name: with_band({**shared, **{k: v for k, v in more.items() if k not in skipped}}, name)
        for name, more in own.items()
    }
    _check_bands(bands)
    return bands


def _check_bands(bands: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise XpjaxError for columns that are lacking, halves of pairs, and what excludes each other."""
    holder: dict[str, str] = {}
    for name, mapping in bands.items():
        where = f"[columns]{f' for band {name}' if name else ''}"
        measured = [key for key in ("magnitude", "apertures", "flux") if key in mapping]
        if not measured:
            raise XpjaxError(f"{where} has no magnitude")
        for key in ("star", "ra", "dec"):
            if not isinstance(mapping.get(key, ""), str):
                raise XpjaxError(f"{where} has {key} = {mapping[key]!r}: expected the name of one column")
        if len(measured) > 1:
            raise XpjaxError(f"{where} has {' and '.join(measured)}, of which one is calibrated: leave the other out")
        for errors, values in (("aperture_errors", "apertures"), ("flux_error", "flux")):
            if errors in mapping and values not in mapping:
                raise XpjaxError(f"{where} has {errors} and no {values}: name it too, or leave {errors} out")
        for pair in (("x", "y"), ("ra", "dec")):
            given = [key for key in pair if key in mapping]
            if len(given) == 1:
                raise XpjaxError(f"{where} has {given[0]} and no {({*pair} - {*given}).pop()}: give both, or none")
        if "model_error" in mapping and "model" not in mapping:
            raise XpjaxError(f"{where} has model_error and no model: name it too, or leave model_error out")
        for key, value in mapping.items():
            if isinstance(value, Mapping) and set(value) == {"file"}:
                _check_pattern(key, value["file"])
        own = str(mapping[measured[0]])
        if own in holder:
            raise XpjaxError(
                f"bands {holder[own]} and {name} have the same magnitudes, {own}: put {{band}} into its name"
            )
        holder[own] = name


def _check_pattern(key: str, pattern: str) -> None:
    """Raise XpjaxError for what is no regular expression with a group."""
    try:
        groups = re.compile(pattern).groups
    except re.error:
        groups = 0
    if not groups:
        raise XpjaxError(
            f"columns.{key} = {{ file = {pattern!r} }}: expected a regular expression with one group in brackets, "
            "as in '_([ugriz])[.]'"
        )


SYNTHETIC_COLOR = "standards.bp_rp"
"""The color where the standards are XP spectra and no column is named."""
IDLE = {"numerical_flat": ("neighbors",), "stacked_flat": ("bins", "smooth", "interpolation", "rounds", "star_offsets")}
"""Entries of [model] that mean nothing without another one."""


def _settings(table: Mapping[str, Any], bands: Mapping[str, Mapping[str, Any]]) -> CalibrationSettings:
    """The settings of [model]. Raises XpjaxError for entries that need columns, or are idle beside others."""
    said = parse(Model, table, "[model]")
    for needed, names in IDLE.items():
        idle = [name for name in names if name in table and not table.get(needed)]
        if idle:
            raise XpjaxError(f"[model] {idle[0]} has no effect without {needed} = true: add it, or leave {idle[0]} out")
    model = said.make(ExposureModel)
    settings = said.make(CalibrationSettings, model=model)
    for entry, wanted, keys, off in (
        ("position_order", model.position_order, ("x", "y"), 0),
        ("numerical_flat", settings.numerical_flat, ("x", "y"), False),
        ("stacked_flat", settings.stacked_flat, ("x", "y"), False),
        ("color_order", table.get("color_order", 0), ("color",), 0),
        ("amplifiers", model.amplifiers, ("amplifier",), False),
    ):
        lacking = [key for key in keys if any(key not in mapping for mapping in bands.values())]
        if wanted and lacking:
            named = " and ".join(f"columns.{key}" for key in lacking)
            value, idle_value = (str(v).lower() for v in (wanted, off))
            raise XpjaxError(
                f"[model] {entry} = {value} needs {named}: name it in [columns], or set {entry} = {idle_value}"
            )
    for entry, used, needed in (
        ("size", model.position_order or settings.stacked_flat, "position terms or stacked_flat"),
        ("color_zero", model.color_order, "color terms"),
        ("magnitude_zero", model.magnitude_order, "magnitude terms"),
    ):
        if entry in table and not used:
            raise XpjaxError(f"[model] {entry} has no effect without {needed}: leave it out")
    if not model.amplifiers and any("amplifier" in mapping for mapping in bands.values()):
        raise XpjaxError("columns.amplifier has no effect without [model] amplifiers = true: add it, or leave it out")
    return settings


def _passband(table: Mapping[str, Any], bands: Mapping[str, Mapping[str, Any]], spectral: bool) -> SurveyPassband:
    """The section [passband]; without a word of models they are taken where no column has them.

    spectral: whether [standards] has XP spectra.
    """
    said = parse(SurveyPassband, {**table, "correction": str(table.get("correction", STANDARD))}, "[passband]")
    given = [name for name in ("chain", "files", "system") if getattr(said, name) is not None]
    if len(given) != 1:
        found = f"has {' and '.join(given)}: give one of them" if given else "names no passbands: give one of"
        raise XpjaxError(f'[passband] {found} chain = "FILE", files = {{ g = "FILE" }}, system = "NAME"')
    if spectral == (said.sources is not None):
        raise XpjaxError(
            "[passband] sources and [standards] both name XP spectra: leave sources out" if spectral
            else '[passband] needs XP spectra: give [standards] spectra = "FILE", or sources = "FILE"'
        )  # fmt: skip
    if said.files is None and (idle := [n for n in ("detector", "magnitude", "unit") if getattr(said, n) is not None]):
        raise XpjaxError(f"[passband] {idle[0]} is of curves in files, and {given[0]} has its own: leave it out")
    if said.chain is None and said.airmass is not None:
        raise XpjaxError(f"[passband] airmass is that of a chain, and {given[0]} has none: leave it out")
    if strange := sorted({*said.bands} - {*bands}) if [*bands] != [""] else []:
        raise XpjaxError(f"[passband] bands has {strange[0]!r}, which is no band of the survey; it has {list(bands)}")
    if "domain" in table and (said.correction == NONE or not spectral):
        raise XpjaxError("[passband] domain has no effect without [standards] spectra and a correction: leave it out")
    airless = any("airmass" not in mapping for mapping in bands.values())
    if airless and said.chain is not None and (said.airmass is not None or not spectral):
        raise XpjaxError("[passband] needs columns.airmass: a column, a number or a header keyword")
    has_models = any("model" in mapping for mapping in bands.values())
    if said.models and has_models:
        raise XpjaxError("[passband] models = true replaces columns.model: leave one of them out")
    said = said.model_copy(update={"models": not has_models}) if said.models is None else said
    if not said.models and said.chain is None:
        raise XpjaxError(f"[passband] {given[0]} has no effect: columns have the models; leave one of them out")
    return said


def read_setup(path: str | Path | None = None, **entries: Any) -> SurveySetup:
    """Read what the section [simulate] of a TOML file says of a simulated survey.

    Parameters
    ----------
    path : str or Path, optional
        The file; by default none.
    **entries : float, int or str
        Entries that go before those of the file, such as `n_exposure` and `camera`.

    Returns
    -------
    SurveySetup
        For `xpjax.survey.simulate_survey`.

    Raises
    ------
    XpjaxError
        If something is unknown or wrong.

    Examples
    --------
    >>> xpjax.survey.reading.read_setup(n_exposure=3, camera="ccd").camera.read_noise
    4.0
    """

    def make(table: Mapping[str, Any], folder: Path) -> SurveySetup:
        check_sections(table, SECTIONS)
        said = parse(Simulate, {**table.get("simulate", {}), **entries}, "[simulate]")
        given, own = said.given(), table.get("simulate", {})
        if "camera" in given:
            given["camera"] = CAMERAS[given["camera"]]
        for name in ("chain", "correction"):  # files are relative to the configuration's folder
            if name in own and name not in entries and Path(own[name]).suffix:
                given[name] = str(folder / own[name])
        fields = {field.name for field in dataclasses.fields(SurveySetup)}
        mine = {name: value for name, value in given.items() if name in fields}
        return SurveySetup(**mine, effects=said.make(SurveyEffects))

    return make({}, Path()) if path is None else read_toml(path, make)


def named_correction(table: Mapping[str, Any], folder: Path) -> LinearCorrection | None:
    """What `correction` in a section that names XP spectra means, "standard" by default; files lie in the folder."""
    name = table.get("correction", STANDARD)
    if not isinstance(name, str):
        raise XpjaxError(f'correction = {name!r}: expected "standard", "none" or a file of a linear correction')
    return load_correction(name if name in (STANDARD, NONE) else folder / name)


def with_band(mapping: Mapping[str, Any], band: str) -> dict[str, Any]:
    """The mapping with {band} replaced in every name of a column."""

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{band}", band)
        return [fill(item) for item in value] if isinstance(value, list | tuple) else value

    return {key: fill(value) for key, value in mapping.items()}


def files_relative_to(table: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """The names and values of a configuration in folder `old`, with its files as they are called from folder `new`."""

    def moved(name: str, value: Any) -> Any:
        if isinstance(value, Mapping) and all(isinstance(one, str | os.PathLike) for one in value.values()):
            return {key: moved(name, one) for key, one in value.items()}
        if isinstance(value, list | tuple) and all(isinstance(one, str | os.PathLike) for one in value):
            return [moved(name, one) for one in value]
        if value is True:  # `fetch`: in the configuration's own folder
            return os.path.relpath(old, new)
        if value is False or value == IN_MEMORY:
            return value
        if not isinstance(value, str | os.PathLike):
            return IN_MEMORY
        shipped = name == "chain" and not (old / value).exists() and str(value) in shipped_passbands()
        by_name = shipped or (name == "correction" and value in (STANDARD, NONE))
        return str(value) if by_name else os.path.relpath(old / value, new)

    out = {name: dict(part) if isinstance(part, Mapping) else part for name, part in table.items()}
    for section, names in FILES.items():
        for name in names:
            if out.get(section, {}).get(name) is not None:
                out[section][name] = moved(name, out[section][name])
    return out
