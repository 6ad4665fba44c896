"""`xpjax survey scr` and `homogenize`: stellar color regression, and zero-points of two methods on one scale."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, record_call
from xpjax.cli.terminal import tell

ANY = click.Path(exists=True, path_type=Path)


@click.command("scr")
@click.argument("table", type=EXISTING_FILE)
@click.option("--config", required=True, type=EXISTING_FILE, help="TOML file that names columns and bands.")
@click.option(
    "--output", "-o", required=True, type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the products; it is made.",
)  # fmt: skip
@OVERWRITE
def scr(table: Path, config: Path, output: Path, overwrite: bool) -> None:
    """Fit stellar color regressions, and zero-points of tiles by them.

    TABLE has a row for each star (on each tile), with labels from spectroscopy and Gaia's magnitudes. OUTPUT gets
    coefficients.ecsv, zeropoints.ecsv and predicted.parquet. Where the table has synthetic magnitudes from XP too,
    tiles without spectroscopy get their zero-points from these, on the scale of the regression. Exit status 1 where a
    band could not be fitted.

    \b
    survey.toml:
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
      model = "{band}_xp"               # optional: from XP; also x, y, g, logg, bp_error, rp_error
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
    from xpjax.survey.scr import run_scr

    started = time.perf_counter()
    record = record_call(click.get_current_context())
    solution = run_scr(table, config, output, record=record, overwrite=overwrite)
    tell("\n".join(solution.summary()))
    tell(f"{len(solution.regressions)} bands, {len(solution.predicted):,} rows, {time.perf_counter() - started:.1f} s")
    if solution.failed:
        raise SystemExit(1)


@click.command("homogenize")
@click.argument("first", type=ANY)
@click.argument("second", type=ANY)
@click.option("--output", "-o", required=True, type=FILE, help="Table of zero-points; its suffix names the format.")
@click.option("--names", default="SCR,XPSP", show_default=True, metavar="FIRST,SECOND", help="Names of the methods.")
@click.option(
    "--fewest", default=3, show_default=True, type=click.IntRange(1), help="Stars that a tile's zero-point needs."
)
@OVERWRITE
def homogenize(first: Path, second: Path, output: Path, names: str, fewest: int, overwrite: bool) -> None:
    """Bring the zero-points of two methods to one scale.

    Each tile and band has the zero-point by the FIRST method where there is one, else by the SECOND less the offset
    between the two, which is measured on the tiles that have both. FIRST and SECOND are directories of `xpjax survey
    scr` or `calibrate`, or their tables of zero-points. Exit status 1 where a tile has none.

    \b
    Examples:
      xpjax survey homogenize scr xpsp --output homogenized.ecsv
      xpjax survey homogenize scr/zeropoints.ecsv solution --names SCR,XPSP --output homogenized.ecsv
    """
    from xpjax.io import catalogue
    from xpjax.survey.scr import homogenize as bring_together, read_zero_points

    catalogue.check_output(output, overwrite=overwrite)
    methods = tuple(name.strip() for name in names.split(","))
    parts = read_zero_points(first, methods[0]), read_zero_points(second, methods[-1])
    found = bring_together(*parts, methods, fewest)
    table = found.catalogue()
    record = record_call(click.get_current_context())
    catalogue.write(output, dataclasses.replace(table, meta={**table.meta, **record}), overwrite=overwrite)
    tell("\n".join(found.summary()))
    tell(f"{len({*found.tile.tolist()}):,} tiles in {len(found.scales)} bands, to {output.name}")
    if found.n_missing:
        raise SystemExit(1)
