"""Light curves of epoch spectra."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import click

import xpjax
from xpjax.cli.common import (
    FILE,
    OVERWRITE,
    PROJECTING,
    TRUNCATE,
    correction_option,
    linear_only,
    load_passbands,
    names_option,
    output_option,
    with_call,
)
from xpjax.cli.compute import WHICH_BANDS
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError
from xpjax.io.figures import check_figure, write_figure


def _period(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | str | None:
    """A number of days, or the word find."""
    if value is None or value == "find":
        return value
    try:
        return float(value)
    except ValueError:
        raise XpjaxError(f"--period {value!r}: expected a number of days, or find") from None


@click.command()
@click.argument("source_file", metavar="INPUT", type=click.Path(exists=True, path_type=Path))
@output_option("File to write; its suffix names the format: csv, csv.gz, ecsv, fits, vot, xml, parquet, h5.")
@click.option("--source", "source_id", type=int, metavar="ID", help="source_id; needed where there are several.")
@WHICH_BANDS
@names_option("--band", "NAMES", "Some of the bands, separated by commas; may be repeated; by default all.")
@PROJECTING
@click.option("--period", metavar="DAYS|find", callback=_period, help="Fold with this period, or with one found.")
@click.option(
    "--epoch", type=float, metavar="DAYS", help="Where phase is zero, on the scale of time; by default the first."
)
@click.option("--bins", type=click.IntRange(1), metavar="N", help="Average fluxes in N bins, of phase if folded.")
@click.option("--plot", "figure", type=FILE, help="Figure to write too: png, pdf or svg.")
@correction_option("none")
@TRUNCATE
@OVERWRITE
def lightcurve(
    source_file: Path,
    output: Path,
    source_id: int | None,
    systems: tuple[str, ...],
    passbands: tuple[str, ...],
    band: list[str],
    period: float | str | None,
    figure: Path | None,
    correction: str,
    overwrite: bool,
    **options: Any,
) -> None:
    """Make the light curve of a source, from epoch spectra.

    INPUT is a file or a store of epoch spectra, with the columns transit_id and time, or what `xpjax photometry` made
    of them. Columns of the output are those of `xpjax photometry`, and phase; with --bins LABEL_number_BAND tells how
    many transits are in a bin. Times are barycentric Julian dates (TCB) - 2455197.5.

    --period find looks for a period of up to four sines, one for each ten transits, and states it only where chance has
    less than 0.1 %. Up to three other periods that fit as well are told as its aliases, and in the metadata of the
    output; with more of them, or none that stands out from chance, nothing is written.

    \b
    Examples:
      xpjax lightcurve epochs.csv.gz --source 5937083312263887616 --system JPLUS:gJPLUS,rJPLUS -o star.ecsv
      xpjax lightcurve store --source 5937083312263887616 --system SDSS --period find -o star.csv --plot star.png
      xpjax lightcurve magnitudes.parquet --source 5937083312263887616 --band g --period 0.5613 --bins 10 -o star.fits
    """
    import numpy as np

    from xpjax.io import catalogue

    started = time.perf_counter()
    catalogue.check_output(output, overwrite=overwrite)
    if figure is not None:
        check_figure(figure, overwrite)
    sets = [load_passbands(source) for source in passbands]
    linear = linear_only(correction, "leave --correction out")
    curve = xpjax.lightcurve(
        source_file,
        source_id,
        [*systems, *sets] or None,
        bands=band or None,
        period=period,
        correction=linear,
        **options,
    )
    drawn = None if figure is None else curve.plot()  # which has to be possible before anything is written
    catalogue.write(output, with_call(curve.catalogue()), overwrite=overwrite)
    if figure is not None and drawn is not None:
        write_figure(drawn, figure)
    what = "transits" if options["bins"] is None else "bins"
    lines = [f"{len(curve):,} {what} of source {curve.source_id} written to {output.name}"]
    if not np.isfinite(curve.magnitude).any():
        lines.append("no magnitudes: " + ("no transit has a flux above zero" if len(curve) else "no transit to use"))
    if curve.left_out:
        lines.append(f"{curve.left_out:,} transits left out: without time, or repeated")
    if curve.search is not None:
        lines.append(f"{curve.search}; false-alarm probability {curve.search.false_alarm:.1g}")
    elif math.isfinite(curve.period):
        lines.append(f"folded with {curve.period:.10g} d, as given")
    tell("\n".join([*lines, f"{time.perf_counter() - started:.1f} s"]))
