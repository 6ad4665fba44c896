"""A table of stars for stellar color regression, as a configuration reads it, and the regression of each band."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.tables import open_table
from xpjax.survey import MISSING, check_limits, correct_gaia, make_observations, select, stem
from xpjax.survey.reading import check_names, with_band
from xpjax.survey.scr.homogenize import TileZeroPoints, tile_zero_points
from xpjax.survey.scr.regression import (
    ColorRegression,
    Population,
    calibrate_scr,
    find_population,
    fit_scr,
    predict_scr,
    star_pair_reddening,
)

LABEL_COLUMNS = ("teff", "feh", "reddening")
REQUIRED = (*LABEL_COLUMNS, "bp", "rp", "magnitude", "magnitude_error")
OPTIONAL = (
    *("star", "tile", "g", "logg", "bp_error", "rp_error", "teff_error", "feh_error", "reddening_error"),
    *("model", "model_error", "x", "y", "snrg", "phot_bp_rp_excess_factor"),
)
REGRESSION = {
    "order": 3, "reddening": "constant", "low_extinction": None, "clip": 3.0, "label_errors": True,
    "position_order": 0, "star_pairs": None,
}  # fmt: skip
"""Entries of [regression] and their defaults."""
OWN = ("gaia", "order", "reddening")
"""What a [[band]] may have of its own, beside columns."""
MAGNITUDES = (
    *("bp", "rp", "g", "bp_error", "rp_error", "magnitude", "magnitude_error", "model", "model_error"),
    *("reddening", "reddening_error"),
)


def read_scr_config(path: Path) -> dict[str, Any]:
    """What the TOML file says, with defaults. Raises ValueError naming what is unknown, wrong or missing."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise XpjaxError(f"{path}: not TOML: {error}") from error
    try:
        check_names(table, ("columns", "regression", "selection", "gaia", "band"), "section")
        check_names(table.get("columns", {}), (*REQUIRED, *OPTIONAL), "column")
        check_names(table.get("regression", {}), tuple(REGRESSION), "entry of [regression]")
        check_names(table.get("selection", {}), ("cuts", "limits"), "entry of [selection]")
        check_names(table.get("gaia", {}), ("corrections",), "entry of [gaia]")
        check_limits(table.get("selection", {}).get("cuts", []), table.get("selection", {}).get("limits", {}))
        bands = table.get("band", [])
        if not isinstance(bands, list) or not bands:
            raise XpjaxError('there is no band: add [[band]] with name = "..." and gaia = "BP" or "RP"')
        for band in bands:
            check_names(band, ("name", *OWN, *REQUIRED, *OPTIONAL), "entry of [[band]]")
            if "name" not in band:
                raise XpjaxError('a [[band]] has no name: add name = "..."')
            if band.get("gaia") not in ("BP", "RP"):
                raise XpjaxError(f'band {band["name"]}: gaia must be "BP" or "RP", not {band.get("gaia")!r}')
            missing = [key for key in REQUIRED if key not in {**table.get("columns", {}), **band}]
            if missing:
                raise XpjaxError(f"[columns] has no {missing[0]} for band {band['name']}")
            _check_effect(table.get("regression", {}), {**table.get("columns", {}), **band}, str(band["name"]))
        names = [band["name"] for band in bands]
        if len(set(names)) < len(names):
            raise XpjaxError(f"bands of the same name: {names}")
    except (ValueError, TypeError) as error:
        raise XpjaxError(f"{path.name}: {error}") from error
    return {**table, "regression": {**REGRESSION, **table.get("regression", {})}}


def _check_effect(said: Mapping[str, Any], mapping: Mapping[str, Any], band: str) -> None:
    """Raise XpjaxError for entries of [regression] that need columns which are not named, and for halves of pairs."""
    errors = said.get("star_pairs") is not None or any(f"{label}_error" in mapping for label in LABEL_COLUMNS)
    for entry, lacking in (
        ("position_order", "x and columns.y" if not {"x", "y"} <= {*mapping} else ""),
        ("star_pairs", "" if "logg" in mapping else "logg"),
        (
            "label_errors",
            "" if errors else "teff_error, feh_error or reddening_error",
        ),
    ):
        if lacking and said.get(entry) not in (None, False, 0):
            raise XpjaxError(
                f"[regression] {entry} has no effect on band {band} without columns.{lacking}: name them, or leave "
                f"{entry} out"
            )
    if "model_error" in mapping and "model" not in mapping:
        raise XpjaxError(f"band {band} has model_error and no model: name it too, or leave model_error out")


class Stars:
    """The rows of the table as the configuration reads them."""

    def __init__(self, source: Any, config: Mapping[str, Any], folder: Path) -> None:
        self.table, self.config = open_table(source), config
        self.columns, self.settings = config["columns"], config["regression"]
        mappings = [self.mapping(band) for band in config["band"]]
        named = {(k, v) for mine in mappings for k, v in mine.items() if isinstance(v, str) and k != "name"}
        for meaning, name in sorted(named):
            self.table.check(name, meaning)
        self.table.load(name for _, name in sorted(named))
        n = len(self.table)
        self.star, unknown = self._stars()
        self.star[unknown] = np.array(-(np.arange(int(unknown.sum())) + 1)).astype(self.star.dtype)
        name = stem(Path(source)) if isinstance(source, str | Path) else "all"
        self.tile_name = np.full(n, name) if "tile" not in self.columns else self._tiles()
        text = self.tile_name.dtype.kind == "U"
        self.lost = (self.tile_name == "") if text else np.zeros(n, bool)
        if n and self.lost.all():
            raise XpjaxError(f"{self.table.origin}: no row of column {self.columns['tile']!r} has a tile")
        # Rows without a tile are counted to the first one, where they have neither labels nor magnitudes.
        self.tiles, self.tile = np.unique(self.tile_name[~self.lost], return_inverse=True)
        self.tile = np.insert(self.tile, np.flatnonzero(self.lost) - np.arange(int(self.lost.sum())), 0)
        self.lines: list[str] = []
        self.labels = np.stack([self.numbers(self.columns, key) for key in LABEL_COLUMNS], axis=1)
        errors = [self.numbers(self.columns, f"{key}_error", 0.0) for key in LABEL_COLUMNS]
        gaia = {key.upper(): self.numbers(self.columns, key) for key in ("bp", "rp", "g") if key in self.columns}
        if "gaia" in config:
            corrections = open_table(folder / config["gaia"]["corrections"])
            if "G" not in gaia:
                raise XpjaxError("[columns] has no g, which Gaia's corrections need")
            gaia = correct_gaia(gaia, {name: corrections.column(name).numbers() for name in corrections.names})
        self.gaia = gaia
        self.gaia_error = {key: self.numbers(self.columns, f"{key.lower()}_error", 0.0) for key in ("BP", "RP")}
        self.logg = self.numbers(self.columns, "logg", np.nan)
        if self.settings["star_pairs"] is not None:
            control = self.labels[:, 2] < self.settings["star_pairs"]
            place = np.stack([self.labels[:, 0], self.logg, self.labels[:, 1]], axis=1)
            color_error = np.hypot(self.gaia_error["BP"], self.gaia_error["RP"])
            found = star_pair_reddening(gaia["BP"] - gaia["RP"], color_error, place, control, self.labels[:, 2])
            self.labels[:, 2], errors[2] = found
            self.lines.append(
                f"star pairs: {np.isfinite(found[0]).sum():,} reddenings, {control.sum():,} twins to take"
            )
        if self.lost.any():
            self.lines.append(f"{self.table.origin}: {int(self.lost.sum()):,} rows have no tile: they take no part")
            self.labels[self.lost] = np.nan
        self.lines += self.table.notes
        sigma = np.stack(errors, axis=1)
        self.covariance = None
        if self.settings["label_errors"] and np.nanmax(sigma, initial=0.0) > 0:
            self.covariance = sigma[:, :, None] ** 2 * np.eye(3)
        self._population: Population | None = None

    def _stars(self) -> tuple[np.ndarray, np.ndarray]:
        """Names (n,) of stars, and which have none."""
        if "star" not in self.columns:
            return np.zeros(len(self.table), np.int64), np.ones(len(self.table), bool)
        ids = self.table.column(self.columns["star"], "star").ids()
        return (ids.value.copy() if ids.value.dtype.kind in "iu" else ids.value.astype(object)), ids.missing

    def _tiles(self) -> np.ndarray:
        """Names (n,) of tiles: whole numbers where all are such, else text, empty where missing."""
        column = self.table.column(self.columns["tile"], "tile")
        whole = not column.is_text and column.values.dtype.kind in "iu" and not column.missing.any()
        return np.asarray(column.values) if whole else column.texts()

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

    def mapping(self, band: Mapping[str, Any]) -> dict[str, Any]:
        """Names of columns for a band."""
        return with_band({**self.columns, **{k: v for k, v in band.items() if k not in OWN}}, str(band["name"]))

    def magnitudes(self, band: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Instrumental magnitudes and errors."""
        mine = self.mapping(band)
        value, error = self.numbers(mine, "magnitude"), self.numbers(mine, "magnitude_error")
        return np.where(self.lost, np.nan, value), error

    def keep(self, band: Mapping[str, Any], magnitude_error: np.ndarray) -> np.ndarray:
        """Rows that the cuts leave for this band."""
        selection = self.config.get("selection", {})
        if not selection.get("cuts"):
            return np.ones(len(self.table), bool)
        columns = {
            "magnitude_error": magnitude_error, "teff": self.labels[:, 0], "feh": self.labels[:, 1],
            "bp_rp": self.gaia["BP"] - self.gaia["RP"],
        }  # fmt: skip
        if "logg" in self.columns:
            columns["logg"] = self.logg
        if "G" in self.gaia:
            columns["phot_g_mean_mag"] = self.gaia["G"]
        for key in ("snrg", "phot_bp_rp_excess_factor", "ruwe", "flags", "phot_variable_flag"):
            name = self.columns.get(key, key)
            if key in self.columns or name in self.table:
                column = self.table.column(name, key)
                special = {"flags": column.flags, "phot_variable_flag": column.texts}
                columns[key] = special.get(key, column.numbers)()
        limits = selection.get("limits", {})
        chosen = select(columns, selection["cuts"], limits, str(band["name"]))
        chosen.check_ran(selection["cuts"], self.table.origin)
        self.lines += [line for line in chosen.lines() if "not run" in line and line not in self.lines]
        return chosen.keep

    def population(self) -> Population | None:
        """The population of true labels, found once, from all rows before any cut."""
        if self._population is None and self.covariance is not None:
            self._population = find_population(self.labels, self.covariance, self.tile)
        return self._population

    def regress(self, band: Mapping[str, Any]) -> tuple[ColorRegression, TileZeroPoints, dict[str, np.ndarray]]:
        """The law of a band, the tiles' zero-points by it, and its columns of predictions."""
        which, mine = band["gaia"], self.mapping(band)
        magnitude, error = self.magnitudes(band)
        kept = self.keep(band, error)
        options: dict[str, Any] = {
            "order": band.get("order", self.settings["order"]),
            "reddening": band.get("reddening", self.settings["reddening"]),
            "low_extinction": self.settings["low_extinction"], "clip": self.settings["clip"],
            "label_covariance": self.covariance, "population": self.population(), "band": str(band["name"]),
            "gaia": which,
        }  # fmt: skip
        gaia, gaia_error = self.gaia[which], self.gaia_error[which]
        if self.settings["position_order"]:
            o = make_observations(
                self.star, self.numbers(mine, "x", np.nan), self.numbers(mine, "y", np.nan), magnitude, error, None,
                exposure=self.tiles[self.tile], cut=~kept,
            )  # fmt: skip
            fit, fits, _ = calibrate_scr(
                o, gaia, gaia_error, self.labels, position_order=self.settings["position_order"], **options
            )
            # Frames come in the order of their first rows, tiles sorted.
            place = np.zeros(len(self.tiles), int)
            place[self.tile] = o.frame
            value, count = fits.zero_point[place], fits.n_used[place]
            own = np.hypot(fits.zero_point_error, fits.zero_point_common)[place]
            residual, used = fits.residual, fits.used
            systematic = fit.zero_point_systematic[place]
        else:
            fit = fit_scr(
                np.where(kept, gaia - magnitude, np.nan), np.hypot(gaia_error, error), self.labels, tile=self.tile,
                **options,
            )  # fmt: skip
            value, own, count = fit.zero_point, fit.zero_point_error, fit.n_used
            systematic, residual, used = fit.zero_point_systematic, fit.residual, fit.used
        predicted = predict_scr(
            fit.regression, gaia, gaia_error, self.labels, label_covariance=self.covariance, tile=self.tile
        )
        more = {
            "scr": predicted.magnitude, "scr_error": predicted.error, "scr_systematic": predicted.systematic,
            "outside": predicted.outside, "used": used, "residual": residual,
        }  # fmt: skip
        return fit.regression, TileZeroPoints(value, np.hypot(own, systematic), count), more

    def synthetic(self, band: Mapping[str, Any]) -> TileZeroPoints:
        """The tiles' zero-points by the model magnitudes, all missing where there are none."""
        mine, n = self.mapping(band), len(self.tiles)
        if "model" not in mine:
            return TileZeroPoints(np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, int))
        magnitude, error = self.magnitudes(band)
        total = np.hypot(error, self.numbers(mine, "model_error", 0.0))
        return tile_zero_points(self.numbers(mine, "model") - magnitude, total, self.tile, n)
