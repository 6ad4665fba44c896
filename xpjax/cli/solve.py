"""`xpjax survey solve`: star magnitudes, zero-points, flats, color terms and transmission of a survey at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from xpjax.cli.common import EXISTING_FILE, OVERWRITE, TABLE_FILE, comma_separated, record_call
from xpjax.cli.terminal import tell

FOLDER = click.Path(file_okay=False, path_type=Path)
PRODUCTS = ("calibrated.parquet", "stars.parquet", "parameters.ecsv", "exposures.ecsv", "joint.h5")


@click.command("solve")
@click.argument("catalogues", metavar="CATALOGUES...", nargs=-1, required=True, type=TABLE_FILE)
@click.option(
    "--config", required=True, type=EXISTING_FILE, help="TOML file that names columns, terms and constraints."
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
    catalogues: Sequence[Path], config: Path, output: Path, keep: list[str], device: str | None, overwrite: bool
) -> None:
    """Solve for star magnitudes and all terms of a survey at once.

    CATALOGUES are FITS, FITS_LDAC, Parquet, ECSV or CSV tables, as for `survey calibrate`. OUTPUT gets parameters.ecsv
    (value and error of every column of every term), exposures.ecsv (the same by exposure), stars.parquet (magnitudes of
    stars), calibrated.parquet (measurements with residuals and flags) and joint.h5 (the solution with its covariance,
    for `xpjax.survey.joint.read_joint_solution`). Where the data do not determine the terms, the fit is refused and
    says which; exit status 1 where it did not converge.

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
    import dataclasses
    import json
    import tomllib

    import xpjax
    from xpjax.survey.joint import solve_survey, write_joint_solution

    started = time.perf_counter()
    for name in PRODUCTS:
        if (output / name).exists() and not overwrite:
            raise FileExistsError(f"the output {output / name} exists; name another directory, or add --overwrite")
    found, reading = solve_survey(config, list(catalogues), keep=keep, devices=device)
    said = json.dumps(tomllib.loads(config.read_text(encoding="utf-8")))
    record = {**record_call(click.get_current_context()), "inputs": [path.name for path in catalogues], "config": said}
    found, rows = dataclasses.replace(found, meta={**record, **found.meta}), reading.observations
    output.mkdir(parents=True, exist_ok=True)
    tables = (found.calibrated(rows), found.stars(), found.parameters(), found.exposures())
    for name, table in zip(PRODUCTS, tables, strict=False):
        xpjax.write(output / name, table, overwrite=overwrite)
    write_joint_solution(output / PRODUCTS[-1], found, overwrite=overwrite)
    seconds = time.perf_counter() - started
    last = f"{len(rows):,} measurements, {len(found.value):,} columns, to {output} in {seconds:.1f} s"
    tell("\n".join([*reading.account.lines(), *found.summary(), last]))
    if not found.converged:
        raise SystemExit(1)
