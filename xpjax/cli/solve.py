"""`xpjax survey solve`: star magnitudes, zero-points, flats, color terms and transmission of a survey at once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from xpjax.cli.common import EXISTING_FILE, OVERWRITE, TABLE_FILE, comma_separated, record_call
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

FOLDER = click.Path(file_okay=False, path_type=Path)
PRODUCTS = ("calibrated.parquet", "stars.parquet", "parameters.ecsv", "exposures.ecsv", "joint.h5")
CORRECTION = "correction.h5"


@click.command("solve")
@click.argument("catalogues", metavar="CATALOGUES...", nargs=-1, required=True, type=TABLE_FILE)
@click.option(
    "--config", type=EXISTING_FILE, help="TOML file that names columns, terms and constraints; with --extend the old."
)
@click.option(
    "--extend", type=EXISTING_FILE, metavar="JOINT.H5", help="Solution that CATALOGUES, of further exposures, extend."
)
@click.option("--output", "-o", required=True, type=FOLDER, help="Directory for the products; it is made.")
@click.option(
    "--keep",
    multiple=True,
    metavar="COLUMNS",
    callback=comma_separated,
    help="Columns of the catalogues to pass on, separated by commas; may be repeated.",
)
@click.option("--device", metavar="NAME", help="cpu, gpu or gpu:2, on JAX; by default NumPy and SciPy on a CPU.")
@OVERWRITE
def solve(
    catalogues: Sequence[Path],
    config: Path | None,
    extend: Path | None,
    output: Path,
    keep: list[str],
    device: str | None,
    overwrite: bool,
) -> None:
    """Solve for star magnitudes and all terms of a survey at once.

    CATALOGUES are FITS, FITS_LDAC, Parquet, ECSV or CSV tables, as for `survey calibrate`. OUTPUT gets parameters.ecsv
    (value and error of every column of every term), exposures.ecsv (the same by exposure), stars.parquet (magnitudes of
    stars), calibrated.parquet (measurements with residuals and flags) and joint.h5 (the solution with its covariance,
    for `survey apply`, --extend and `xpjax.survey.joint.read_joint_solution`); with an instrument term also
    correction.h5 (the linear correction of XP spectra that it makes, for --correction). Where the data do not determine
    the terms the fit is refused and says which; exit status 1 where it did not converge. A constraint that they
    contradict is refused too, unless it has force = true: then it holds, and the log warns of it.

    With --extend a further night joins a solution without solving anew: star magnitudes and all terms are those of all
    exposures; weights, clips and error floors of earlier measurements stay, new ones have floors of their own, and
    calibrated.parquet has the new measurements.

    \b
    Examples:
      xpjax survey solve nights/*.fits --config survey.toml --output joint
      xpjax survey solve tonight/*.fits --extend joint/joint.h5 --output joint2

    \b
    survey.toml:
      term = [{ kind = "zero_point" }, { kind = "color" }, { kind = "flat", bins = 20 }]
      constraint = [{ term = "zero_point" }, { term = "color" }, { term = "flat" }]
      [columns]
      star = "source_id"
      exposure = "exposure"
      x = "X"
      y = "Y"
      magnitude = "mag"
      magnitude_error = "mag_err"
      color = "bp_rp"
    """
    from xpjax.io.atomic import check_products
    from xpjax.survey.joint import solve_survey

    started = time.perf_counter()
    check_products(output, *PRODUCTS, CORRECTION, overwrite=overwrite)
    found, reading = solve_survey(config, list(catalogues), extend=extend, keep=keep, devices=device)
    record = {**record_call(click.get_current_context()), "inputs": [path.name for path in catalogues]}
    found, rows = dataclasses.replace(found, meta={**found.meta, **record}), reading.observations
    _write(found, rows, output, overwrite)
    seconds = time.perf_counter() - started
    last = f"{len(rows):,} measurements, {len(found.value):,} columns, to {output} in {seconds:.1f} s"
    tell("\n".join([*reading.account.lines(), *found.summary(), last]))
    if not found.converged:
        raise SystemExit(1)


def _write(found: Any, rows: Any, output: Path, overwrite: bool) -> None:
    """Write the products of a solution of these measurements."""
    import xpjax
    from xpjax.survey.joint import solved_correction, write_joint_solution
    from xpjax.xp import write_correction

    output.mkdir(parents=True, exist_ok=True)
    tables = (found.calibrated(rows), found.stars(), found.parameters(), found.exposures())
    for name, table in zip(PRODUCTS, tables, strict=False):
        xpjax.write(output / name, table, overwrite=overwrite)
    write_joint_solution(output / PRODUCTS[-1], found, overwrite=overwrite)
    if (correction := solved_correction(found)) is not None:
        write_correction(output / CORRECTION, correction, overwrite=overwrite)
    else:  # that of an earlier solution
        (output / CORRECTION).unlink(missing_ok=True)


def apply_solved(
    catalogues: Sequence[Path],
    solution: Path,
    output: Path,
    *,
    record: Mapping[str, Any],
    wide: bool,
    devices: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Calibrate other tables with a joint solution: `xpjax survey apply`."""
    import json

    import numpy as np

    import xpjax
    from xpjax.io.atomic import check_products
    from xpjax.io.catalogue import check_output
    from xpjax.survey import FrameFlag
    from xpjax.survey.joint import apply_joint

    started = time.perf_counter()
    for name, given in (("--wide", wide), ("--device", devices is not None)):
        if given:
            raise XpjaxError(f"{name} has no effect with a joint solution: leave it out")
    if output.suffix:
        check_output(output, overwrite=overwrite)
    else:
        check_products(output, PRODUCTS[0], overwrite=overwrite)
    found = apply_joint(solution, list(catalogues), **options)
    meta = {**found.meta, **record, "inputs": [path.name for path in catalogues]}
    if not output.suffix:
        output.mkdir(parents=True, exist_ok=True)
    path = output if output.suffix else output / PRODUCTS[0]
    xpjax.write(path, dataclasses.replace(found, meta=meta), overwrite=overwrite)
    done = int(np.isfinite(found.columns["magnitude"]).sum())
    seconds = time.perf_counter() - started
    last = f"{done:,} of {len(found):,} measurements calibrated, to {output} in {seconds:.1f} s"
    tell("\n".join([*json.loads(found.meta["account"]), last]))
    if (found.columns["exposure_status"] & np.uint32(FrameFlag.NO_STANDARDS)).any():
        raise SystemExit(1)
