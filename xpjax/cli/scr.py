"""`xpjax survey scr`: stellar color regression of a table of stars, and zero-points of its tiles."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xpjax.cli.common import EXISTING_FILE, OVERWRITE, record_call
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    import numpy as np

    from xpjax.survey.scr import ColorRegression

COEFFICIENTS, ZERO_POINTS, PREDICTED = "coefficients.ecsv", "zeropoints.ecsv", "predicted.parquet"


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
    from xpjax.survey.exposures import provenance
    from xpjax.survey.scr import Stars, coefficient_table, homogenize, read_scr_config, zero_point_table

    started = time.perf_counter()
    chosen = read_scr_config(config)
    for name in (COEFFICIENTS, ZERO_POINTS, PREDICTED):
        if (output / name).exists() and not overwrite:
            raise FileExistsError(f"the output {output / name} exists; name another directory, or add --overwrite")
    stars = Stars(table, chosen, config.parent)
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
        found = homogenize(mine, other)
        laws.append(law)
        zero_points[name] = (found, mine, other)
        columns |= {f"{name}_{key}": value for key, value in more.items()}
        lines.append(_line(law, found.method, found.offset, found.offset_error, found.n_overlap))
    if not laws:
        raise XpjaxError("no band could be fitted: " + "; ".join(lines[len(stars.lines) :]))
    output.mkdir(parents=True, exist_ok=True)
    units = {key: "mag" for key, value in columns.items() if value.dtype.kind == "f" and key not in ("star", "tile")}
    from xpjax.core.records import Catalogue

    catalogue.write(output / PREDICTED, Catalogue(columns, units, meta=record), overwrite=overwrite)
    catalogue.write(output / COEFFICIENTS, coefficient_table(laws, record), overwrite=overwrite)
    tiles = zero_point_table(stars.tiles, zero_points, meta=record)
    catalogue.write(output / ZERO_POINTS, tiles, overwrite=overwrite)
    without = int((~np.isfinite(tiles.columns["zero_point"])).sum())
    if without:
        lines.append(f"{without:,} zero-points are missing: too few stars, or nothing that ties XPSP to SCR")
    seconds = time.perf_counter() - started
    lines.append(f"{len(laws)} bands, {len(stars.tiles):,} tiles, {len(stars.star):,} rows, {seconds:.1f} s")
    tell("\n".join(lines))
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
