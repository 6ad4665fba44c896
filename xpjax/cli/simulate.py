"""`xpjax survey simulate`: a survey with known truth, from detections on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from xpjax.cli.common import EXISTING_FILE, OVERWRITE, combine, comma_separated, correction_option, record_call
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

FOLDER = click.Path(file_okay=False, path_type=Path)


def _numbers(count: int, kind: type = float) -> Any:
    """A callback for an option of so many numbers, separated by commas."""

    def callback(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Any, ...] | None:
        if value is None:
            return None
        try:
            numbers = tuple(map(kind, value.split(",")))
        except ValueError:
            numbers = ()
        if len(numbers) != count:
            what = "whole numbers" if kind is int else "numbers"
            raise XpjaxError(f"{parameter.opts[0]} {value!r}: expected {count} {what}, separated by commas")
        return numbers

    return callback


SIMULATED = combine(
    click.option("--exposures", "n_exposure", type=click.IntRange(1), help="Number of exposures. [default: 60]"),
    click.option("--stars", "n_star", type=click.IntRange(1), help="Number on a detector. [default: 2000]"),
    click.option("--nights", "n_night", type=click.IntRange(1), help="Number of nights. [default: 5]"),
    click.option("--chain", metavar="FILE", help="Chain of the telescope, or shipped passbands. [default: minisitian]"),
    click.option("--bands", multiple=True, callback=comma_separated, metavar="NAMES", help="[default: all]"),
    click.option("--tiles", callback=_numbers(2, int), metavar="N,M", help="Fields along ra and dec. [default: 1,1]"),
    click.option("--detectors", callback=_numbers(2, int), metavar="N,M", help="Detectors. [default: 1,1]"),
    click.option("--size", callback=_numbers(2), metavar="X,Y", help="Pixels of one. [default: 9576,6388]"),
    click.option("--camera", type=click.Choice(["cmos", "ccd"]), help="Camera of the noise. [default: cmos]"),
    click.option("--flat", callback=_numbers(3), help="Large, medium and small flats [mag]. "
                 "[default: 0.05,0.005,0.0005]"),
    click.option("--field-shift", type=float, metavar="NM", help="Filters' shift to the blue at corners. [default: 0]"),
    click.option("--sky", type=click.FloatRange(0), metavar="MAG", help="XP's error on the sky. [default: 0.004]"),
    click.option("--instrument", type=click.FloatRange(0), metavar="FACTOR", help="XP's systematic error. "
                 "[default: 1]"),
    click.option("--outliers", "outlier", type=click.FloatRange(0, 0.5), help="Part of measurements. [default: 0.01]"),
    click.option("--variables", "variable", type=click.FloatRange(0, 0.5), help="Part of stars. [default: 0.01]"),
    click.option("--cloudy", type=click.FloatRange(0, 1), help="Part of nights. [default: 0.2]"),
    click.option("--seed", type=click.IntRange(0), help="The same seed, the same survey. [default: 0]"),
)  # fmt: skip
"""Entries of [simulate] that are options too."""


@click.command()
@click.option("--output", "-o", required=True, type=FOLDER, help="Directory for the tables; it is made.")
@click.option("--config", type=EXISTING_FILE, help="TOML file with a section [simulate]; options go before it.")
@SIMULATED
@click.option("--format", default="fits", show_default=True, help="Of tables of detections: fits, parquet, csv, ...")
@correction_option("standard")
@OVERWRITE
def simulate(output: Path, config: Path | None, overwrite: bool, format: str, **options: Any) -> None:
    """Simulate a survey with known truth, from detections on.

    True spectra through the chain of a telescope, with air, clouds, flats, filters that are not as described, noise,
    variables and outliers. OUTPUT gets detections/, a table for each exposure and detector; xp.parquet, what Gaia has
    of the stars; labels.parquet, mock spectroscopy; telescope.toml; and truth/: exposures.ecsv, with the true
    zero-points, and Parquet tables of bands, flats, stars, detections, and of XP's errors on the sky and of its
    instrument. Further effects are entries of [simulate] in a TOML file.

    \b
    Examples:
      xpjax survey simulate --output mock
      xpjax survey simulate --exposures 200 --stars 3000 --nights 10 --camera ccd --output ccd
      xpjax survey simulate --tiles 3,3 --detectors 2,2 --chain JPLUS --bands gJPLUS,rJPLUS --output tiles
    """
    from xpjax.survey import simulate_survey
    from xpjax.survey.reading import read_setup

    started = time.perf_counter()
    context = click.get_current_context()
    given = {
        name: options[name] for name in options if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    setup = read_setup(config, **given)
    record = record_call(context)
    made = simulate_survey(setup, output, format=format, overwrite=overwrite, record=record)
    tell(
        f"{len(made.stars):,} stars on {setup.n_exposure:,} exposures of {setup.n_night:,} nights in "
        f"{', '.join(made.bands)}, to {output} in {time.perf_counter() - started:.1f} s"
    )
