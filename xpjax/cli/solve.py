"""`xpjax survey solve`: star magnitudes, zero-points, flats, color terms and transmission of a survey at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xpjax.cli.common import EXISTING_FILE, OVERWRITE, TABLE_FILE, comma_separated, record_call
from xpjax.cli.terminal import tell

if TYPE_CHECKING:
    from xpjax.survey import Observations
    from xpjax.survey.joint import JointModel, JointSolution

PARAMETERS, STARS, CALIBRATED, SOLUTION = "parameters.ecsv", "stars.parquet", "calibrated.parquet", "joint.h5"
LARGEST = 4000
"""Columns whose whole covariance is written."""


@click.command("solve")
@click.argument("catalogues", metavar="CATALOGUES...", nargs=-1, required=True, type=TABLE_FILE)
@click.option(
    "--config", required=True, type=EXISTING_FILE, help="TOML file that names columns, terms and constraints."
)
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory for the products; it is made.",
)
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
    """All terms of a survey and all star magnitudes in one solution, with one covariance.

    CATALOGUES are FITS, FITS_LDAC, Parquet, ECSV or CSV tables, as for `survey calibrate`. OUTPUT gets parameters.ecsv
    (value and error of every column of every term), stars.parquet (magnitudes of stars), calibrated.parquet
    (measurements with residuals and flags) and joint.h5 (all columns with their covariance). Where the data do not
    determine the terms, the fit is refused and says which; exit status 1 where it did not converge.

    \b
    survey.toml:
      [columns]
      star = "source_id"
      x = "X"
      y = "Y"
      magnitude = "mag"
      magnitude_error = "mag_err"
      color = "bp_rp"
      exposure = "exposure"
      [joint]
      clip = 5.0
      [[term]]
      kind = "zero_point"
      [[term]]
      kind = "color"
      [[term]]
      kind = "flat"
      bins = 20
      [[constraint]]
      term = "zero_point"
      [[constraint]]
      term = "color"
      [[constraint]]
      term = "flat"
    """
    import dataclasses
    import json
    import tomllib

    from xpjax.io import catalogue
    from xpjax.survey.joint import build_joint, read_joint, solve_joint, write_joint

    started = time.perf_counter()
    chosen = read_joint(config)
    for name in (PARAMETERS, STARS, CALIBRATED, SOLUTION):
        if (output / name).exists() and not overwrite:
            raise FileExistsError(f"the output {output / name} exists; name another directory, or add --overwrite")
    reading, model = build_joint(chosen, list(catalogues), keep)
    rows, account = reading.observations, reading.account
    found = solve_joint(rows, model, devices=device, **chosen.hold_out(rows))
    record = {
        **record_call(click.get_current_context()),
        "inputs": [path.name for path in catalogues],
        "config": json.dumps(tomllib.loads(config.read_text(encoding="utf-8"))),
        "account": json.dumps(account.lines()),
        **corrections_of(model),
        "converged": found.converged,
    }
    output.mkdir(parents=True, exist_ok=True)
    for name, table in ((CALIBRATED, found.calibrated(rows)), (STARS, found.stars()), (PARAMETERS, found.parameters())):
        catalogue.write(output / name, dataclasses.replace(table, meta=record), overwrite=overwrite)
    write_joint(output / SOLUTION, found, record, covariance=len(found.value) <= LARGEST, overwrite=overwrite)
    lines = [*account.lines(), *_lines(found, rows)]
    lines.append(f"{len(rows):,} measurements, {len(found.value):,} columns, to {output} in "
                 f"{time.perf_counter() - started:.1f} s")  # fmt: skip
    tell("\n".join(lines))
    if not found.converged:
        raise SystemExit(1)


def corrections_of(model: JointModel) -> dict[str, str]:
    """The linear correction of the spectra of each transmission term, as metadata; none without such a term."""
    from xpjax.survey.joint import Transmission

    terms = [term for term in model.terms if isinstance(term, Transmission)]
    names = dict.fromkeys(term.model.correction.name if term.model.correction else "none" for term in terms)
    return {"correction": ", ".join(names)} if names else {}


def _lines(found: JointSolution, rows: Observations) -> list[str]:
    """What is worth telling of a solution."""
    import numpy as np

    out = [f"decided by a constraint: {words}" for words in found.gauge]
    empty = int(np.isnan(found.value).sum())
    if empty:
        out.append(f"{empty:,} columns have no data: NaN")
    out.append(
        f"{int(found.used.sum()):,} measurements used, {int(found.clipped.sum()):,} clipped; "
        f"{int(found.left_out.sum()):,} stars have too few; chi2 {found.chi2:.0f} for {found.degrees_of_freedom:,}"
    )
    out += [f"error floor {band}: {1e3 * f:.2f} mmag" for band, f in zip(found.bands, found.floor, strict=True)]
    if found.held_out is not None:
        off = np.abs(found.held_out.residual)
        pull = off / np.where(found.held_out.error > 0, found.held_out.error, np.nan)
        out.append(
            f"kept back: {int(np.isfinite(off).sum()):,} measurements, 1.48 MAD {1482.6 * np.nanmedian(off):.1f} mmag, "
            f"{1.4826 * np.nanmedian(pull):.2f} of what is expected"
        )
    if not found.converged:
        out.append("NOT CONVERGED: look at the terms that hardly differ, and give priors")
    return out
