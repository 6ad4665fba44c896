"""The configuration of a stellar color regression, as `survey.toml` says it; `xpjax survey scr --help` shows one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpjax.core.errors import XpjaxError
from xpjax.io.config import Section, check_sections, parse, read_toml, section_of
from xpjax.survey import check_limits
from xpjax.survey.reading import OWN as SHARED, SECTIONS, with_band
from xpjax.survey.scr.labels import LABELS, terms
from xpjax.survey.scr.regression import ColorModel

REQUIRED = (*LABELS, "bp", "rp", "magnitude", "magnitude_error")
COLUMNS = (
    *REQUIRED,
    *("star", "tile", "g", "logg", "bp_error", "rp_error", "teff_error", "feh_error", "reddening_error"),
    *("model", "model_error", "x", "y", "snrg", "phot_bp_rp_excess_factor", "ruwe", "flags", "phot_variable_flag"),
)
"""Entries of [columns] and [[band]] that a color regression reads; the others are those of other commands."""


@dataclasses.dataclass(frozen=True)
class ScrSettings:
    """Choose what accompanies the fit of the colors.

    Parameters
    ----------
    label_errors : bool
        Whether the fit accounts for the errors of the labels, where columns of them are named.
    position_order : int
        Order of a polynomial flat of each tile, 0 for none.
    star_pairs : float [mag], optional
        Replace the reddening by that of star pairs; stars below this reddening are the unreddened ones.
    """

    label_errors: bool = True
    position_order: int = 0
    star_pairs: float | None = None


Regression = section_of("Regression", ColorModel, ScrSettings, without=("floor",))
OWN = {"regression": Regression}
"""The sections that `xpjax survey scr` alone reads; for the page of all entries: `xpjax.io.config.reference`."""


@dataclasses.dataclass(frozen=True)
class ScrBand:
    """A band: its name, the Gaia band of its color, the terms, and the columns by their meaning."""

    name: str
    gaia: str
    model: ColorModel
    columns: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ScrConfig:
    """What a configuration says of a stellar color regression; corrections: table of those of Gaia's magnitudes."""

    columns: Mapping[str, Any]
    bands: tuple[ScrBand, ...]
    settings: ScrSettings = dataclasses.field(default_factory=ScrSettings)
    cuts: tuple[str, ...] = ()
    limits: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    corrections: Path | None = None


def read_scr_config(source: str | Path | Mapping[str, Any]) -> ScrConfig:
    """The configuration in a TOML file, or in nested names and values. Raises XpjaxError naming what is wrong."""
    return config_from(source, Path()) if isinstance(source, Mapping) else read_toml(source, config_from)


def config_from(table: Mapping[str, Any], folder: Path) -> ScrConfig:
    """The configuration in the names and values of a file in a folder."""
    check_sections(table, SECTIONS)
    columns = parse(SHARED["columns"], table.get("columns", {}), "[columns]").given()
    selection: Any = parse(SHARED["selection"], table.get("selection", {}), "[selection]")
    check_limits(selection.cuts, selection.limits)
    regression = parse(Regression, table.get("regression", {}), "[regression]")
    corrections = None
    if "gaia" in table:
        gaia: Any = parse(SHARED["gaia"], table["gaia"], "[gaia]")
        corrections = folder / gaia.corrections
    bands = tuple(_band(band, columns, regression) for band in table.get("band", []))
    if not bands:
        raise XpjaxError('there is no band: add [[band]] with name = "..." and gaia = "BP" or "RP"')
    names = [band.name for band in bands]
    if len(set(names)) < len(names):
        raise XpjaxError(f"bands of the same name: {names}")
    settings = regression.make(ScrSettings)
    return ScrConfig(_of_scr(columns), bands, settings, selection.cuts, selection.limits, corrections)


def _of_scr(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a color regression reads. Raises XpjaxError for one that is no name and no number."""
    mine = {key: value for key, value in columns.items() if key in COLUMNS}
    for key, value in mine.items():
        if not isinstance(value, str | int | float):
            raise XpjaxError(f"{key} = {value!r}: expected the name of one column, or a number")
    return mine


def _band(table: Mapping[str, Any], columns: Mapping[str, Any], regression: Section) -> ScrBand:
    if table.get("gaia") not in ("BP", "RP"):
        raise XpjaxError(f'band {table.get("name")}: gaia must be "BP" or "RP", not {table.get("gaia")!r}')
    band: Any = parse(SHARED["band"], table, "[[band]]")
    # `reddening` in [[band]] is the coefficient; the column is the same for all bands.
    mapping = _of_scr({**columns, **{key: value for key, value in band.given().items() if key != "reddening"}})
    missing = [key for key in REQUIRED if key not in mapping]
    if missing:
        raise XpjaxError(f"[columns] has no {missing[0]} for band {band.name}")
    _check_effect(regression.given(), mapping, band.name)
    own = {key: table[key] for key in ("order", "reddening") if key in table}
    model = dataclasses.replace(regression.make(ColorModel), **own)
    terms(model.order, model.reddening)
    return ScrBand(band.name, band.gaia, model, with_band(mapping, band.name))


def _check_effect(said: Mapping[str, Any], mapping: Mapping[str, Any], band: str) -> None:
    """Raise XpjaxError for entries of [regression] that need columns which are not named, and for halves of pairs."""
    errors = said.get("star_pairs") is not None or any(f"{label}_error" in mapping for label in LABELS)
    for entry, lacking in (
        ("position_order", "x and columns.y" if not {"x", "y"} <= {*mapping} else ""),
        ("star_pairs", "" if "logg" in mapping else "logg"),
        ("label_errors", "" if errors else "teff_error, feh_error or reddening_error"),
    ):
        if lacking and said.get(entry) not in (None, False, 0):
            raise XpjaxError(
                f"[regression] {entry} has no effect on band {band} without columns.{lacking}: name them, or leave "
                f"{entry} out"
            )
    if "model_error" in mapping and "model" not in mapping:
        raise XpjaxError(f"band {band} has model_error and no model: name it too, or leave model_error out")
