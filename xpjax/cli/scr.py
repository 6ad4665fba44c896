"""`xpjax survey scr`: stellar color regression of a table of stars, and zero-points of its tiles."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xpjax.cli.common import EXISTING_FILE, OVERWRITE, record_call
from xpjax.errors import XpjaxError

if TYPE_CHECKING:
    import numpy as np

    from xpjax.records import Catalogue
    from xpjax.survey.color_regression import ColorRegression, Population
    from xpjax.survey.homogenise import TileZeroPoints

COEFFICIENTS, ZERO_POINTS, PREDICTED = "coefficients.ecsv", "zeropoints.ecsv", "predicted.parquet"
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


@click.command("scr")
@click.argument("table", type=EXISTING_FILE)
@click.option("--config", required=True, type=EXISTING_FILE, help="TOML file that names columns and bands.")
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the products; it is made.",
)
@OVERWRITE
def scr(table: Path, config: Path, output: Path, overwrite: bool) -> None:
    """Stellar color regression: magnitudes from spectroscopic labels and Gaia, and zero-points of tiles.

    TABLE has a row for each star (on each tile). OUTPUT gets coefficients.ecsv, zeropoints.ecsv and predicted.parquet.
    Where the table has model magnitudes from XP too, tiles without spectroscopy get their zero-points from these, on
    the scale of the regression. Exit status 1 where a band could not be fitted.

    \b
    scr.toml:
      [columns]
      star = "source_id"
      tile = "tile"
      teff = "teff"
      feh = "feh"
      reddening = "e_bp_rp"
      teff_error = "teff_err"           # or a number; likewise feh_error, reddening_error
      bp = "phot_bp_mean_mag"
      rp = "phot_rp_mean_mag"
      magnitude = "{band}"
      magnitude_error = "{band}_err"
      model = "{band}_xp"               # optional: XPSP; also x, y, g, logg, bp_error, rp_error
      [regression]
      order = 3
      reddening = "constant"            # or "quadratic", or a number
      position_order = 0                # of a flat of every tile
      [selection]
      cuts = ["scr"]
      [[band]]
      name = "u"
      gaia = "BP"
      [[band]]
      name = "i"
      gaia = "RP"
      order = 2
    """
    import numpy as np

    from xpjax.io import catalogue
    from xpjax.io.survey_files import read_observation_table
    from xpjax.survey.color_regression import coefficient_table
    from xpjax.survey.homogenise import homogenise, zero_point_table
    from xpjax.survey.solution import provenance

    started = time.perf_counter()
    chosen = read_scr_config(config)
    for name in (COEFFICIENTS, ZERO_POINTS, PREDICTED):
        if (output / name).exists() and not overwrite:
            raise FileExistsError(f"the output {output / name} exists; name another directory, or add --overwrite")
    stars = Stars(read_observation_table(table), chosen, table.name, config.parent)
    record = {**record_call(click.get_current_context()), **provenance(), "account": stars.lines}
    laws, zero_points, failed = [], {}, []
    columns: dict[str, np.ndarray] = {"star": stars.star, "tile": stars.tile_name}
    lines = list(stars.lines)
    for band in chosen["band"]:
        name = str(band["name"])
        try:
            law, mine, more = stars.regress(band)
        except ValueError as error:
            failed.append(name)
            lines.append(f"not fitted: {error}")
            continue
        other = stars.synthetic(band)
        found = homogenise(mine, other)
        laws.append(law)
        zero_points[name] = (found, mine, other)
        columns |= {f"{name}_{key}": value for key, value in more.items()}
        lines.append(_line(law, found.method, found.offset, found.offset_error, found.n_overlap))
    if not laws:
        raise XpjaxError("no band could be fitted: " + "; ".join(lines[len(stars.lines) :]))
    output.mkdir(parents=True, exist_ok=True)
    units = {key: "mag" for key, value in columns.items() if value.dtype.kind == "f" and key not in ("star", "tile")}
    from xpjax.records import Catalogue

    catalogue.write(output / PREDICTED, Catalogue(columns, units, meta=record), overwrite=overwrite)
    catalogue.write(output / COEFFICIENTS, coefficient_table(laws, record), overwrite=overwrite)
    tiles = zero_point_table(stars.tiles, zero_points, meta=record)
    catalogue.write(output / ZERO_POINTS, tiles, overwrite=overwrite)
    without = int((~np.isfinite(tiles.columns["zero_point"])).sum())
    if without:
        lines.append(f"{without:,} zero-points are missing: too few stars, or nothing that ties XPSP to SCR")
    seconds = time.perf_counter() - started
    lines.append(f"{len(laws)} bands, {len(stars.tiles):,} tiles, {len(stars.star):,} rows, {seconds:.1f} s")
    click.echo("\n".join(lines), err=True)
    if failed:
        raise SystemExit(1)


def _line(law: ColorRegression, method: np.ndarray, offset: float, error: float, n_overlap: int) -> str:
    import numpy as np

    k = law.names.index("reddening")
    red = law.value[k] / law.scale[2], law.error[k] / law.scale[2]
    said = (
        f"{law.band}: G_{law.gaia} - {law.band} from {law.n_used:,} stars, scatter {1e3 * law.scatter:.1f} mmag, "
        f"R = {red[0]:.3f} +- {red[1]:.3f}" + ("" if law.converged else ", clipping did not settle")
    )
    if n_overlap:
        by = {name: int((method == name).sum()) for name in np.unique(method) if name}
        said += f"; tiles by {by}, SCR - XPSP = {1e3 * offset:.2f} +- {1e3 * error:.2f} mmag on {n_overlap}"
    return said


def read_scr_config(path: Path) -> dict[str, Any]:
    """What the TOML file says, with defaults. Raises ValueError naming what is unknown, wrong or missing."""
    import tomllib

    from xpjax.survey.config import check_names
    from xpjax.survey.selection import expand

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
        expand(table.get("selection", {}).get("cuts", []))
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
        names = [band["name"] for band in bands]
        if len(set(names)) < len(names):
            raise XpjaxError(f"bands of the same name: {names}")
    except (ValueError, TypeError) as error:
        raise XpjaxError(f"{path.name}: {error}") from error
    return {**table, "regression": {**REGRESSION, **table.get("regression", {})}}


class Stars:
    """The rows of the table as the configuration reads them."""

    def __init__(self, table: Catalogue, config: Mapping[str, Any], name: str, folder: Path) -> None:
        import numpy as np

        from xpjax.io.survey_files import read_observation_table
        from xpjax.survey.color_regression import star_pair_reddening
        from xpjax.survey.observations import correct_gaia

        self.table, self.config, self.name = table, config, name
        self.columns, self.settings = config["columns"], config["regression"]
        n = len(table)
        self.lines: list[str] = []
        own = self.get(self.columns, "star", None)
        self.star = np.arange(1, n + 1) if own is None else np.asarray(own)
        tile = self.get(self.columns, "tile", None)
        self.tile_name = np.full(n, name.partition(".")[0]) if tile is None else np.asarray(tile)
        self.tiles, self.tile = np.unique(self.tile_name, return_inverse=True)
        self.labels = np.stack([self.numbers(self.columns, key) for key in LABEL_COLUMNS], axis=1)
        errors = [self.numbers(self.columns, f"{key}_error", 0.0) for key in LABEL_COLUMNS]
        gaia = {key.upper(): self.numbers(self.columns, key) for key in ("bp", "rp", "g") if key in self.columns}
        if "gaia" in config:
            corrections = read_observation_table(folder / config["gaia"]["corrections"])
            if "G" not in gaia:
                raise XpjaxError("[columns] has no g, which Gaia's corrections need")
            gaia = correct_gaia(gaia, corrections.columns)
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
        sigma = np.stack(errors, axis=1)
        self.covariance = None
        if self.settings["label_errors"] and np.nanmax(sigma, initial=0.0) > 0:
            self.covariance = sigma[:, :, None] ** 2 * np.eye(3)
        self._population: Population | None = None

    def get(self, mapping: Mapping[str, Any], key: str, default: Any) -> Any:
        """A column, a number, or the default where the configuration has neither."""
        from xpjax.survey.config import find_column

        wanted = mapping.get(key, default)
        return find_column(self.name, self.table.columns, wanted, key) if isinstance(wanted, str) else wanted

    def numbers(self, mapping: Mapping[str, Any], key: str, default: Any = None) -> np.ndarray:
        """The same as floats (n,), NaN where missing."""
        import numpy as np

        from xpjax.survey.config import as_numbers

        value = self.get(mapping, key, default)
        if isinstance(value, np.ndarray):
            value = as_numbers(self.name, value, str(mapping[key]))
        return np.array(np.broadcast_to(np.asarray(value, float), len(self.table)))

    def mapping(self, band: Mapping[str, Any]) -> dict[str, Any]:
        """Names of columns for a band."""
        from xpjax.survey.config import with_band

        return with_band({**self.columns, **{k: v for k, v in band.items() if k not in OWN}}, str(band["name"]))

    def magnitudes(self, band: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Instrumental magnitudes and errors; NaN for sentinels."""
        import numpy as np

        from xpjax.survey.observations import MISSING

        mine = self.mapping(band)
        value, error = self.numbers(mine, "magnitude"), self.numbers(mine, "magnitude_error")
        with np.errstate(invalid="ignore"):
            return np.where(np.abs(value) < MISSING, value, np.nan), np.where(error < MISSING, error, np.nan)

    def keep(self, band: Mapping[str, Any], magnitude_error: np.ndarray) -> np.ndarray:
        """Rows that the cuts leave for this band."""
        import numpy as np

        from xpjax.survey.selection import select

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
            column = self.columns.get(key, key)
            if column in self.table.columns:
                columns[key] = self.table.columns[column]
        limits = selection.get("limits", {})
        chosen = select(columns, selection["cuts"], limits, str(band["name"]))
        self.lines += [line for line in chosen.lines() if "not run" in line and line not in self.lines]
        return chosen.keep

    def population(self) -> Population | None:
        """The population of true labels, found once, from all rows before any cut."""
        from xpjax.survey.color_regression import find_population

        if self._population is None and self.covariance is not None:
            self._population = find_population(self.labels, self.covariance, self.tile)
        return self._population

    def regress(self, band: Mapping[str, Any]) -> tuple[ColorRegression, TileZeroPoints, dict[str, np.ndarray]]:
        """The law of a band, the tiles' zero-points by it, and its columns of predictions."""
        import numpy as np

        from xpjax.survey.color_regression import calibrate_scr, fit_scr, predict_scr
        from xpjax.survey.homogenise import TileZeroPoints
        from xpjax.survey.observations import make

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
            o = make(
                self.star, self.numbers(mine, "x", np.nan), self.numbers(mine, "y", np.nan), magnitude, error, None,
                exposure=self.tile_name.astype(str), cut=~kept,
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
        import numpy as np

        from xpjax.survey.homogenise import TileZeroPoints, tile_zero_points

        mine, n = self.mapping(band), len(self.tiles)
        if "model" not in mine:
            return TileZeroPoints(np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, int))
        magnitude, error = self.magnitudes(band)
        total = np.hypot(error, self.numbers(mine, "model_error", 0.0))
        return tile_zero_points(self.numbers(mine, "model") - magnitude, total, self.tile, n)
