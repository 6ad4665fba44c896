"""`xpjax ebv`: E(B-V) of sources from a map of dust."""

from __future__ import annotations

import time
from pathlib import Path

import click

from xpjax.cli.common import FOLDER, OVERWRITE, choice_option, names_option, output_option, with_call
from xpjax.cli.terminal import tell


@click.command()
@click.argument("table", metavar="INPUT", type=click.Path(path_type=Path))
@output_option("File to write; its suffix names the format.")
@choice_option(
    "--map",
    ["sfd", "csfd", "planck", "gnilc", "bayestar"],
    "Schlegel et al. 1998; the same without large-scale structure; Planck 2013; Planck 2016; Green et al. 2019.",
)
@choice_option(
    "--scale",
    ["sfd", "true"],
    "sfd: A_V = 2.742 E(B-V), which label fits and networks expect; true: A_V = 3.1 E(B-V), 0.86 of the other.",
)
@click.option("--map-dir", "folder", type=FOLDER, help="Folder with the files of the map; by default dustmaps' own.")
@click.option("--column", default="ebv", show_default=True, metavar="NAME", help="New column; NAME_error is its error.")
@click.option("--ra", metavar="COLUMN", help="Column of the right ascension (ICRS); by default ra.")
@click.option("--dec", metavar="COLUMN", help="Column of the declination (ICRS); by default dec.")
@names_option("--keep", "COLUMNS", "Input columns to pass on besides source_id and position; by default all.")
@OVERWRITE
def ebv(
    table: Path,
    output: Path,
    map: str,
    scale: str,
    folder: Path | None,
    column: str,
    ra: str | None,
    dec: str | None,
    keep: list[str],
    overwrite: bool,
) -> None:
    """Look up E(B-V) of sources in a map of dust.

    INPUT is a table of any format, XP coefficients included. The output has its columns and two more: ebv and
    ebv_error. Positions are the columns ra and dec, or else, to 0.9 arcmin, those that source_id encodes.

    The map is one that you have: dustmaps (extra [dust]) reads it, and where it is not there the error says how it is
    downloaded. Errors: of sfd 16 %, of gnilc and bayestar the map's own; csfd and planck have none. bayestar goes to
    the distance of each star, 1/parallax where the parallax is five times its error; it covers declinations above -30.
    The others give the dust of the whole line of sight, which is too much for nearby stars.

    The output is input for `xpjax labels fit --ebv ebv`, `xpjax wiggles features --ebv ebv` and the like where INPUT
    had the coefficients, for `xpjax store ingest --gaia-source`, and for `xpjax survey scr` (reddening = "ebv",
    reddening_error = "ebv_error").

    \b
    Examples:
      xpjax ebv xp.parquet -o xp_ebv.parquet
      xpjax ebv gaia_source.csv.gz --map gnilc --map-dir maps -o gaia_ebv.parquet
      xpjax ebv stars.fits --map bayestar --column ebv_3d --keep teff -o stars_ebv.fits
    """
    from xpjax.extinction import add_ebv
    from xpjax.io import catalogue

    started = time.perf_counter()
    catalogue.check_output(output, overwrite=overwrite)
    found = add_ebv(table, map, scale=scale, column=column, ra=ra, dec=dec, keep=keep or None, folder=folder)
    catalogue.write(output, with_call(found), overwrite=overwrite)
    seconds = time.perf_counter() - started
    tell("\n".join([f"{len(found):,} rows written to {output.name} in {seconds:.1f} s", *found.notes]))
