"""The linear correction of XP spectra: trained on the user's own pairs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, check_figure, record_call, write_figure
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError


@click.group()
def wiggles() -> None:
    """Corrections of the systematic errors of XP spectra.

    \b
    Examples:
      xpjax wiggles train-linear pairs.parquet -o own.h5
    """


@wiggles.command("train-linear")
@click.argument("pairs", type=EXISTING_FILE)
@click.option("--output", "-o", required=True, type=FILE, help="HDF5 file of the correction.")
@click.option("--name", help="Name of the correction, which outputs are told; by default that of OUTPUT.")
@click.option(
    "--population",
    type=EXISTING_FILE,
    help="XP coefficients of ordinary stars: what is normal; by default that of the standard correction.",
)
@click.option("--figure", type=FILE, help="Figure of the operator and of what it leaves: png, pdf or svg.")
@click.option("--learning-curve", is_flag=True, help="Train on 10, 20, ... pairs too, and tell how the error falls.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=NUMBER", help="Another prior or weight, as in ridge=0.03; repeat."
)
@OVERWRITE
def train_linear(
    pairs: Path,
    output: Path,
    name: str | None,
    population: Path | None,
    figure: Path | None,
    learning_curve: bool,
    settings: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Train a linear correction on PAIRS of XP spectra and reference spectra, and judge it on pairs left out.

    PAIRS is a Parquet file with a row for each star: name (or source_id), optional type; the XP spectrum as
    bp_coefficients and rp_coefficients, or sampled, as wavelength [nm] and flux [W m-2 nm-1]; and reference_wavelength
    [nm], in vacuum, with reference_flux, per wavelength and in any unit. References may be of any resolution; finer
    ones than 2 nm are averaged.

    The table that is printed has the errors of spectra and magnitudes of every pair as corrected without it.

    \b
    Examples:
      xpjax wiggles train-linear pairs.parquet -o own.h5
      xpjax wiggles train-linear pairs.parquet -o own.h5 --figure own.png --learning-curve
      xpjax photometry stars.parquet --system JPLUS --correction own.h5 -o corrected.parquet
    """
    import numpy as np

    import xpjax
    from xpjax.cli.common import assignments
    from xpjax.wiggles import LinearSettings, Population, read_pairs
    from xpjax.wiggles import figure as draw
    from xpjax.wiggles import train_linear as train
    from xpjax.xp import NONE, STANDARD, load_correction, write_correction

    started = time.perf_counter()
    if output.suffix.lower() not in (".h5", ".hdf5"):
        raise XpjaxError(f"{output.name}: a correction is an HDF5 file, .h5")
    name = output.stem if name is None else name
    if name in (STANDARD, NONE):
        raise XpjaxError(f"--name {name}: this name is taken, and outputs would tell of another correction; choose one")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; name another file with --output, or add --overwrite")
    if figure is not None:
        check_figure(figure, overwrite)
    chosen = _settings(LinearSettings(), assignments("--set", settings))
    data = read_pairs(pairs)
    if population is None:
        standard = load_correction()
        assert standard is not None
        normal = Population.known(standard)
    else:
        value = np.asarray(xpjax.read(population).coefficients.value, float)
        normal = Population.of(value, data.instrument)
    sizes = range(10, len(data), 10) if learning_curve else ()
    made = train(data, normal, chosen, name=name, sizes=sizes, meta=record_call(click.get_current_context()))
    write_correction(output, made.correction, overwrite=overwrite)
    click.echo("\n".join(made.evidence.table(made.correction)))
    for size, left in made.curve.items():
        click.echo(f"trained on {size} pairs: the others' median RMS is {left:.2%}")
    if figure is not None:
        write_figure(draw(made.correction, made.evidence, data.instrument, made.curve), figure)
    tell(f"{len(data)} pairs, each left out once; written to {output.name} in {time.perf_counter() - started:.0f} s")


def _settings(base: Any, given: dict[str, float]) -> Any:
    """Settings with numbers of the user's. Raises ValueError for a name that is none."""
    import dataclasses

    numbers = {field.name for field in dataclasses.fields(base) if isinstance(getattr(base, field.name), float)}
    unknown = sorted(set(given) - numbers)
    if unknown:
        raise XpjaxError(f"--set: no setting {', '.join(unknown)}; there are {', '.join(sorted(numbers))}")
    return dataclasses.replace(base, **given)
