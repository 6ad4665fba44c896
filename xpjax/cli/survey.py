"""`xpjax survey`: zero-points and flats of exposures, their application, stacked flats, and simulated surveys."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, TABLE_FILE, comma_separated, correction_option, record_call
from xpjax.cli.report import report
from xpjax.cli.scr import homogenize, scr
from xpjax.cli.solve import solve
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

CATALOGUES = click.argument("catalogues", metavar="CATALOGUES...", nargs=-1, required=True, type=TABLE_FILE)
FOLDER = click.Path(file_okay=False, path_type=Path)
DEVICE = click.option("--device", "devices", metavar="NAME", help="cpu, gpu or gpu:2; by default JAX's first.")
KEEP = click.option(
    "--keep", multiple=True, metavar="COLUMNS", callback=comma_separated,
    help="Columns of the catalogues to pass on, separated by commas; may be repeated.",
)  # fmt: skip
WIDE = click.option("--wide", is_flag=True, help="Also wide.parquet: a row for each star, columns for each band.")


@click.group()
def survey() -> None:
    """Calibrate a survey with standards from XP spectra.

    \b
    Examples:
      xpjax survey simulate --output mock
      xpjax survey calibrate mock/observations.parquet --config mock/survey.toml --output solution
      xpjax survey apply more.fits --solution solution --output more.parquet
      xpjax survey report solution --compare mock/exposures.ecsv --camera cmos
    """


@survey.command()
@CATALOGUES
@click.option("--config", required=True, type=EXISTING_FILE, help="TOML file that names columns and model.")
@click.option("--output", "-o", required=True, type=FOLDER, help="Directory for the products; it is made.")
@click.option("--folds", type=click.IntRange(2), help="Number of folds of a cross-validation with the standards.")
@KEEP
@WIDE
@DEVICE
@OVERWRITE
def calibrate(catalogues: Sequence[Path], config: Path, output: Path, **options: Any) -> None:
    """Calibrate exposures: zero-points, color terms and flats.

    CATALOGUES are FITS, FITS_LDAC, VOTable, Parquet, HDF5, ECSV, CSV or other text tables, FILE[NAME] one of several in
    a file. Without a column for the exposure a file is one, and without one for the detector each of its tables is one.
    OUTPUT gets zeropoints.ecsv, solution.h5 and calibrated.parquet, with --folds cross_validation.parquet too. Exit
    status 1 where exposures were refused.

    \b
    survey.toml:
      [columns]
      star = "source_id"
      x = "X"
      y = "Y"
      magnitude = "SPLUS_R"
      magnitude_error = "SPLUS_R_err"
      model = "SPLUS_R_mod"
      color = ["SPLUS_G_mod", "SPLUS_I_mod"]
      [model]
      position_order = 2
      color_order = 2
      numerical_flat = true
    """
    from xpjax.survey.reading import calibrate_survey

    started = time.perf_counter()
    record = record_call(click.get_current_context())
    found = calibrate_survey(list(catalogues), config, output, record=record, **options)
    n_row, n_frame = len(found.calibrated), len(found.solution.frames)
    seconds = time.perf_counter() - started
    tell("\n".join(found.lines()))
    tell(f"{n_row:,} measurements on {n_frame:,} exposures, to {output} in {seconds:.1f} s")
    if not found.complete:
        raise SystemExit(1)


@survey.command()
@CATALOGUES
@click.option("--solution", required=True, type=click.Path(exists=True, path_type=Path), help="Of `survey calibrate`.")
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path),
    help="File, its suffix names the format; or directory.",
)  # fmt: skip
@click.option("--config", type=EXISTING_FILE, help="TOML file for these catalogues; by default the solution's own.")
@click.option("--exposure", metavar="NAME", help="The exposure that the catalogues are of, where no column says it.")
@click.option(
    "--new", is_flag=True, help="They are new exposures: their zero-points are fitted, flats stay as they are."
)
@KEEP
@WIDE
@DEVICE
@OVERWRITE
def apply(catalogues: Sequence[Path], solution: Path, output: Path, **options: Any) -> None:
    """Calibrate other stars, or new exposures, with a solution.

    An exposure is known by its name: a column, or --exposure, or the file that the solution was made of. A catalogue
    that is none of these files is a new exposure, which a line tells; or, unless --new says otherwise, the one exposure
    of a solution that has only one.

    \b
    Examples:
      xpjax survey apply more.fits --solution solution --output more.parquet
      xpjax survey apply tonight.fits --solution solution --new --output tonight
    """
    import numpy as np

    from xpjax.survey.reading import apply_survey

    started = time.perf_counter()
    record = record_call(click.get_current_context())
    found = apply_survey(list(catalogues), solution, output, record=record, **options)
    done, n_row = int(np.isfinite(found.calibrated.magnitude).sum()), len(found.calibrated)
    tell("\n".join(found.lines()))
    tell(f"{done:,} of {n_row:,} measurements calibrated, to {output} in {time.perf_counter() - started:.1f} s")
    if not found.complete:
        raise SystemExit(1)


def _epoch(ctx: click.Context, parameter: click.Parameter, value: str) -> str | float:
    """An epoch of flats: all, night, or days."""
    if value in ("all", "night"):
        return value
    try:
        return float(value)
    except ValueError:
        raise XpjaxError(f"--epoch {value!r}: give all, night or a number of days") from None


@survey.command()
@click.argument("solution", type=click.Path(exists=True, path_type=Path))
@click.option("--output", "-o", required=True, type=FILE, help="Table of cells; its suffix names the format.")
@click.option("--bins", default=30, show_default=True, type=click.IntRange(2, 1000), help="Cells along a side.")
@click.option("--smooth", default=0.0, show_default=True, type=click.FloatRange(0), help="Gaussian sigma, in cells.")
@click.option("--epoch", default="all", show_default=True, callback=_epoch, help="all, night, or a number of days.")
@OVERWRITE
def flat(solution: Path, output: Path, bins: int, smooth: float, epoch: str | float, overwrite: bool) -> None:
    """Tabulate the stacked flats of a solution.

    The standards' residuals of all exposures, in cells, for each band and detector: the table has a row for each cell,
    with its center, the flat [mag] that is added to magnitudes, its error and the number of measurements. A flat that
    the solution holds already is in it.

    \b
    Examples:
      xpjax survey flat solution --output flats.ecsv
      xpjax survey flat solution --bins 50 --smooth 1 --epoch night --output flats.fits
    """
    import numpy as np

    import xpjax
    from xpjax.io.catalogue import check_output
    from xpjax.survey.exposures import flat_table, read_solution

    check_output(output, overwrite=overwrite)
    record = record_call(click.get_current_context())
    table = flat_table(read_solution(solution), bins=bins, smooth=smooth, epoch=epoch, record=record)
    xpjax.write(output, table, overwrite=overwrite)
    values, errors = table.columns["flat"], table.columns["flat_error"]
    tell(
        f"{len(table) // bins**2} flats of {bins} x {bins} cells from {int(table.columns['n_measurement'].sum()):,} "
        f"measurements, rms {1e3 * values.std():.2f} mmag, median error {1e3 * np.median(errors):.2f} mmag, to "
        f"{output.name}"
    )


def _flats(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Three magnitudes."""
    if value is None:
        return None
    try:
        large, medium, small = map(float, value.split(","))
    except ValueError:
        raise XpjaxError(f"--flat {value!r}: expected three magnitudes, as in 0.05,0.005,0.0005") from None
    return large, medium, small


@survey.command()
@click.option("--output", "-o", required=True, type=FOLDER, help="Directory for observations, truth and survey.toml.")
@click.option("--config", type=EXISTING_FILE, help="TOML file with a section [simulate]; options go before it.")
@click.option("--exposures", "n_exposure", type=click.IntRange(1), help="Number of exposures. [default: 60]")
@click.option("--stars", "n_star", type=click.IntRange(1), help="Number of stars. [default: 2200]")
@click.option("--nights", "n_night", type=click.IntRange(1), help="Number of nights. [default: 5]")
@click.option("--camera", type=click.Choice(["cmos", "ccd"]), help="Camera of the noise. [default: cmos]")
@click.option("--flat", callback=_flats, help="Large, medium and small flats [mag]. [default: 0.05,0.005,0.0005]")
@click.option("--outliers", "outlier", type=click.FloatRange(0, 0.5), help="Part of measurements. [default: 0.01]")
@click.option("--variables", "variable", type=click.FloatRange(0, 0.5), help="Part of stars. [default: 0.01]")
@click.option("--cloudy", type=click.FloatRange(0, 1), help="Part of nights. [default: 0.2]")
@click.option("--seed", type=click.IntRange(0), help="The same seed, the same survey. [default: 0]")
@correction_option("none")
@OVERWRITE
def simulate(output: Path, config: Path | None, overwrite: bool, **options: Any) -> None:
    """Simulate a survey with known truth.

    Mock XP standards, dithers, flats, clouds, noise, variables and outliers. OUTPUT gets observations.parquet, with
    true_magnitude and true_correction beside what is measured; exposures.ecsv with the true zero-points; and a
    survey.toml for `xpjax survey calibrate`.

    \b
    Examples:
      xpjax survey simulate --output mock
      xpjax survey simulate --exposures 200 --stars 3000 --nights 10 --camera ccd --output ccd
    """
    from xpjax.survey import simulate_survey
    from xpjax.survey.reading import read_setup

    started = time.perf_counter()
    setup = read_setup(config, **{name: value for name, value in options.items() if value is not None})
    record = record_call(click.get_current_context())
    made = simulate_survey(setup, output, overwrite=overwrite, record=record)
    tell(
        f"{len(made.star):,} stars on {setup.n_exposure:,} exposures of {setup.n_night:,} nights, to {output} in "
        f"{time.perf_counter() - started:.1f} s"
    )


for command in (scr, report, homogenize, solve):
    survey.add_command(command)
