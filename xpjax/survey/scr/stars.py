"""The stars of a stellar color regression: the columns of a table as the configuration names them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.io.tables import open_table
from xpjax.survey import MISSING, correct_gaia, select, stem
from xpjax.survey.scr.config import ScrBand, ScrConfig
from xpjax.survey.scr.labels import LABELS
from xpjax.survey.scr.star_pairs import star_pair_reddening

MAGNITUDES = (
    *("bp", "rp", "g", "bp_error", "rp_error", "magnitude", "magnitude_error", "model", "model_error"),
    *("reddening", "reddening_error"),
)
CUT_COLUMNS = ("snrg", "phot_bp_rp_excess_factor", "ruwe", "flags", "phot_variable_flag")
"""Columns that cuts look at, by names in the configuration or by their own."""


class Columns:
    """Columns of a table of stars by their meaning."""

    def __init__(self, source: Any, config: ScrConfig) -> None:
        self.table = open_table(source)
        named = {(k, v) for band in config.bands for k, v in band.columns.items() if isinstance(v, str)}
        for meaning, name in sorted(named):
            self.table.check(name, meaning)
        self.table.load(name for _, name in sorted(named))

    def numbers(self, mapping: Mapping[str, Any], key: str, default: Any = None) -> np.ndarray:
        """A column, a number, or the default where the configuration has neither, as floats (n,), NaN where missing.

        Magnitudes of 90 and beyond, either way, and negative errors are missing.
        """
        wanted = mapping.get(key, default)
        kind = "temperature" if key.startswith("teff") else "magnitude" if key in MAGNITUDES else None
        value = self.table.column(wanted, key).numbers(kind) if isinstance(wanted, str) else wanted
        out = np.array(np.broadcast_to(np.asarray(value, float), len(self.table)))
        with np.errstate(invalid="ignore"):
            if kind == "magnitude":
                out[np.abs(out) >= MISSING] = np.nan
            if key.endswith("_error"):
                out[out < 0] = np.nan
        return out

    def star_names(self, mapping: Mapping[str, Any]) -> np.ndarray:
        """Identifiers (n,) of stars; those without have negative numbers."""
        if "star" not in mapping:
            return -(np.arange(len(self.table), dtype=np.int64) + 1)
        ids = self.table.column(mapping["star"], "star").ids()
        star = ids.value.copy() if ids.value.dtype.kind in "iu" else ids.value.astype(object)
        star[ids.missing] = np.array(-(np.arange(int(ids.missing.sum())) + 1)).astype(star.dtype)
        return star


@dataclasses.dataclass(frozen=True, repr=False)
class Tiles(Record):
    """Tiles of stars: name (n,) of each star's, names (n_tile,) of all, number (n,) in these; lost (n,): has none.

    A star without a tile has number 0: it takes no part, having neither labels nor magnitudes.
    """

    name: np.ndarray
    names: np.ndarray
    number: np.ndarray
    lost: np.ndarray


@dataclasses.dataclass(frozen=True, repr=False)
class Stars(Record):
    """Labels and Gaia magnitudes of the stars (n,) of a color regression.

    labels (n, 3) and their covariance (n, 3, 3), None for none; gaia and gaia_error: magnitudes by BP, RP and G; notes:
    remarks for the user.
    """

    columns: Columns
    star: np.ndarray
    tiles: Tiles
    labels: np.ndarray
    covariance: np.ndarray | None
    logg: np.ndarray
    gaia: Mapping[str, np.ndarray]
    gaia_error: Mapping[str, np.ndarray]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.star)

    def magnitudes(self, band: ScrBand) -> tuple[np.ndarray, np.ndarray]:
        """Instrumental magnitudes (n,) and their errors."""
        value, error = (self.columns.numbers(band.columns, key) for key in ("magnitude", "magnitude_error"))
        return np.where(self.tiles.lost, np.nan, value), error

    def keep(self, band: ScrBand, config: ScrConfig, magnitude_error: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Which rows (n,) the cuts leave for this band, and the cuts that did not run."""
        table = self.columns.table
        if not config.cuts:
            return np.ones(len(self), bool), []
        columns = {
            "magnitude_error": magnitude_error, "teff": self.labels[:, 0], "feh": self.labels[:, 1],
            "bp_rp": self.gaia["BP"] - self.gaia["RP"],
        }  # fmt: skip
        if "logg" in config.columns:
            columns["logg"] = self.logg
        if "G" in self.gaia:
            columns["phot_g_mean_mag"] = self.gaia["G"]
        for key in CUT_COLUMNS:
            name = config.columns.get(key, key)
            if key in config.columns or name in table:
                column = table.column(name, key)
                special = {"flags": column.flags, "phot_variable_flag": column.texts}
                columns[key] = special.get(key, column.numbers)()
        chosen = select(columns, config.cuts, config.limits, band.name)
        chosen.check_ran(config.cuts, table.origin)
        return chosen.keep, [line for line in chosen.lines() if "not run" in line]


def read_stars(source: Any, config: ScrConfig) -> Stars:
    """The stars in a table: a file, or columns in memory. Raises XpjaxError for columns that it lacks."""
    columns, mapping, settings = Columns(source, config), config.columns, config.settings
    tiles = _tiles(source, columns, mapping)
    gaia = _gaia(columns, config)
    gaia_error = {key: columns.numbers(mapping, f"{key.lower()}_error", 0.0) for key in ("BP", "RP")}
    labels = np.stack([columns.numbers(mapping, key) for key in LABELS], axis=1)
    errors = [columns.numbers(mapping, f"{key}_error", 0.0) for key in LABELS]
    logg = columns.numbers(mapping, "logg", np.nan)
    notes = []
    if settings.star_pairs is not None:
        control = labels[:, 2] < settings.star_pairs
        place = np.stack([labels[:, 0], logg, labels[:, 1]], axis=1)
        color_error = np.hypot(gaia_error["BP"], gaia_error["RP"])
        found = star_pair_reddening(gaia["BP"] - gaia["RP"], color_error, place, control, labels[:, 2])
        labels[:, 2], errors[2] = found
        notes.append(
            f"star pairs: reddening of {np.isfinite(found[0]).sum():,} stars from {control.sum():,} unreddened ones"
        )
    if tiles.lost.any():
        notes.append(f"{columns.table.origin}: {int(tiles.lost.sum()):,} rows have no tile: they take no part")
        labels[tiles.lost] = np.nan
    sigma = np.stack(errors, axis=1)
    known = settings.label_errors and np.nanmax(sigma, initial=0.0) > 0
    covariance = sigma[:, :, None] ** 2 * np.eye(3) if known else None
    return Stars(
        columns, columns.star_names(mapping), tiles, labels, covariance, logg, gaia, gaia_error,
        (*notes, *columns.table.notes),
    )  # fmt: skip


def _tiles(source: Any, columns: Columns, mapping: Mapping[str, Any]) -> Tiles:
    """Tiles by name: whole numbers where all are such, else text, empty where missing."""
    n = len(columns.table)
    if "tile" in mapping:
        column = columns.table.column(mapping["tile"], "tile")
        whole = not column.is_text and column.values.dtype.kind in "iu" and not column.missing.any()
        name = np.asarray(column.values) if whole else column.texts()
    else:
        name = np.full(n, stem(Path(source)) if isinstance(source, str | Path) else "all")
    lost = name == "" if name.dtype.kind == "U" else np.zeros(n, bool)
    if n and lost.all():
        raise XpjaxError(f"{columns.table.origin}: no row of column {mapping['tile']!r} has a tile")
    names, number = np.unique(name[~lost], return_inverse=True)
    return Tiles(name, names, np.insert(number, np.flatnonzero(lost) - np.arange(int(lost.sum())), 0), lost)


def _gaia(columns: Columns, config: ScrConfig) -> dict[str, np.ndarray]:
    """Gaia's magnitudes (n,) by band, corrected where the configuration names a table of corrections."""
    named = [key for key in ("bp", "rp", "g") if key in config.columns]
    gaia = {key.upper(): columns.numbers(config.columns, key) for key in named}
    if config.corrections is None:
        return gaia
    table = open_table(config.corrections)
    if "G" not in gaia:
        raise XpjaxError("[columns] has no g, which Gaia's corrections need")
    return correct_gaia(gaia, {name: table.column(name).numbers() for name in table.names})
