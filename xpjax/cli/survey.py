"""`xpjax survey`: zero-points and flats of exposures, their application, and stacked flats."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, TABLE_FILE, comma_separated, one_of_many, record_call
from xpjax.cli.report import report
from xpjax.cli.scr import homogenize, scr
from xpjax.cli.simulate import simulate
from xpjax.cli.solve import apply_solved, solve
from xpjax.cli.survey_setup import check, init
from xpjax.cli.terminal import bar, tell
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
      xpjax survey init mock/detections/*.fits --spectra mock/xp.parquet --passband mock/telescope.toml -o survey.toml
      xpjax survey calibrate mock/detections/*.fits --config survey.toml --output solution
      xpjax survey apply more.fits --solution solution --output more.parquet
      xpjax survey report solution --compare mock/truth/exposures.ecsv --camera cmos
    """


@survey.command()
@CATALOGUES
@click.option("--config", required=True, type=EXISTING_FILE, help="TOML file that names columns and model.")
@click.option("--output", "-o", required=True, type=FOLDER, help="Directory for the products; it is made.")
@click.option("--folds", type=click.IntRange(2), help="Number of folds of a cross-validation with the standards.")
@click.option(
    "--units", type=click.Choice(["night", "band", "night+band"]),
    help="Calibrate in units, one at a time in memory, into OUTPUT/units/NAME; started again it takes up what is left.",
)  # fmt: skip
@click.option(
    "--shard", metavar="I/N", callback=one_of_many,
    help="With --units, not --dask: begin with every N-th unit, from the I-th of 1..N on, for batch arrays.",
)  # fmt: skip
@click.option(
    "--dask", metavar="ADDRESS",
    help="With --units: as Dask tasks; local, a number of local workers, or a scheduler's address.",
)  # fmt: skip
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

    --units shares a large survey out: processes that are started with the same command, here or on other machines that
    see the files, work together, and one that is killed loses only the unit that it was at. The result is that of one
    process.

    Instead of a column with models, XP spectra give them: [standards] spectra = "xp.parquet" (or fetch = true) with
    [passband] chain = "telescope.toml" (or files, or system), matched by columns.ra and columns.dec or by source_id.

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
    shared = {name: options.pop(name) for name in ("units", "shard", "dask")}
    if shared["units"] is not None:
        _in_units(catalogues, config, output, record, shared, **options)
        return
    for name in ("shard", "dask"):
        if shared[name] is not None:
            raise XpjaxError(f"--{name} has no effect without --units: add it, or leave --{name} out")
    found = calibrate_survey(list(catalogues), config, output, record=record, **options)
    n_row, n_frame = len(found.calibrated), len(found.solution.frames)
    seconds = time.perf_counter() - started
    tell("\n".join(found.lines()))
    tell(f"{n_row:,} measurements on {n_frame:,} exposures, to {output} in {seconds:.1f} s")
    if not found.complete:
        raise SystemExit(1)


def _in_units(
    catalogues: Sequence[Path], config: Path, output: Path, record: dict[str, Any], shared: dict[str, Any],
    *, folds: int | None, wide: bool, **options: Any,
) -> None:  # fmt: skip
    """Calibrate in units, with a bar, tell what was done, and end with status 1 where exposures were refused."""
    from xpjax.catalogue import calibrate_units

    for name, given in (("folds", folds), ("wide", wide)):
        if given:
            raise XpjaxError(f"--{name} needs all measurements in memory: leave it out, or leave out --units")
    shared["shard"] = shared["shard"] or (1, 1)
    with bar(unit=" units") as shown:

        def progress(phase: str, done: int, of: int) -> None:
            shown.set_description_str(phase, refresh=False)
            shown.total = of
            shown.update(done - shown.n)

        report = calibrate_units(
            list(catalogues), config, output, record=record, progress=progress, **shared, **options
        )  # fmt: skip
    tell("\n".join(report.lines()))
    tell(
        f"{report.calibrated:,} of {report.rows:,} measurements calibrated in {len(report.units):,} units, "
        f"{len(report.finished):,} of them here, to {output} in {report.seconds:.1f} s"
    )
    if not report.complete:
        raise SystemExit(1)


@survey.command()
@CATALOGUES
@click.option(
    "--solution", required=True, type=click.Path(exists=True, path_type=Path),
    help="Of `survey calibrate`, or joint.h5 of `survey solve`.",
)  # fmt: skip
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
    of a solution that has only one. With a joint solution a new exposure is fitted a zero-point to its stars.

    \b
    Examples:
      xpjax survey apply more.fits --solution solution --output more.parquet
      xpjax survey apply tonight.fits --solution solution --new --output tonight
      xpjax survey apply more.fits --solution joint/joint.h5 --output more.parquet
    """
    import numpy as np

    from xpjax.survey.joint import find_joint
    from xpjax.survey.reading import apply_survey

    started = time.perf_counter()
    record = record_call(click.get_current_context())
    if (joint := find_joint(solution)) is not None:
        return apply_solved(catalogues, joint, output, record=record, **options)
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


for command in (init, check, scr, report, homogenize, solve, simulate):
    survey.add_command(command)
