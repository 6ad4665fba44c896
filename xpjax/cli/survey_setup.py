"""`xpjax survey init` and `xpjax survey check`: a configuration to begin with, and what a run with it would do."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, TABLE_FILE
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

CATALOGUES = click.argument("catalogues", metavar="CATALOGUES...", nargs=-1, required=True, type=TABLE_FILE)


def _entries(ctx: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, Any]:
    """SECTION.NAME=VALUE as entries; a value is one of TOML, else text, and `none` leaves the entry out."""
    out: dict[str, Any] = {}
    for text in values:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (equals and "." in name and value):
            raise XpjaxError(f"--set {text!r}: expected SECTION.NAME=VALUE, as in columns.magnitude=MAG_PSF")
        try:
            out[name] = None if value == "none" else tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            out[name] = value
    return out


def _passband(ctx: click.Context, parameter: click.Parameter, values: Sequence[str]) -> str | dict[str, str] | None:
    """One chain, folder or system, or files of bands as NAME=FILE."""
    if not values:
        return None
    if len(values) == 1 and "=" not in values[0]:
        return values[0]
    pairs = [value.partition("=") for value in values]
    if any(not (name and file) for name, _, file in pairs):
        raise XpjaxError("--passband: give one chain, file, folder or system, or curves of bands as NAME=FILE")
    return {name: file for name, _, file in pairs}


@click.command("init")
@CATALOGUES
@click.option("--output", "-o", required=True, type=FILE, help="The configuration, such as survey.toml.")
@click.option(
    "--spectra", multiple=True, metavar="FILE", help="XP coefficients of standards: a file or store; may be repeated."
)
@click.option(
    "--passband", multiple=True, metavar="SOURCE", callback=_passband,
    help="Chain in TOML, file or folder of curves, or a system; or NAME=FILE for each band.",
)  # fmt: skip
@click.option("--standards", type=EXISTING_FILE, help="Table of standards with magnitudes and colors, for --spectra.")
@click.option(
    "--set", "entries", multiple=True, metavar="ENTRY=VALUE", callback=_entries,
    help="An entry that is known, as in columns.magnitude=MAG_PSF; none leaves it out. May be repeated.",
)  # fmt: skip
@OVERWRITE
def init(catalogues: Sequence[Path], output: Path, spectra: Sequence[str], overwrite: bool, **options: Any) -> None:
    """Write a configuration for tables of detections.

    CATALOGUES are tables of any format. Columns are guessed by name, unit and content; magnitudes, positions,
    exposures, detectors, bands, times and airmasses are looked for in columns, headers and names of files. The
    configuration says of each guess how sure it is and why, and what entries that are missing would bring. Cuts and
    the model are those that the standards of the exposures can pay for.

    \b
    Examples:
      xpjax survey init field.fits -o survey.toml
      xpjax survey init night1/*.cat --spectra xp.parquet --passband telescope.toml -o survey.toml
      xpjax survey init *.fits --spectra xp.parquet --passband SDSS --set columns.magnitude=MAG_PSF -o survey.toml
    """
    from xpjax.io.atomic import check_output
    from xpjax.survey.reading import initial_config

    check_output(output, overwrite=overwrite)
    given = None if not spectra else spectra[0] if len(spectra) == 1 else list(spectra)
    found = initial_config(list(catalogues), spectra=given, **options)
    found.write(output, overwrite=overwrite)
    tell("\n".join([*found.lines(), f"{len(found.guesses)} entries guessed, to {output}"]))


@click.command("check")
@CATALOGUES
@click.option("--config", required=True, type=EXISTING_FILE, help="TOML file that names columns and model.")
@click.option("--output", "-o", type=FILE, help="Table of exposures: rows, standards, terms; suffix names the format.")
@OVERWRITE
def check(catalogues: Sequence[Path], config: Path, output: Path | None, overwrite: bool) -> None:
    """Tell what a run would do before anything is fitted.

    Rows read and lost by reason, exposures, matches and their separations, cuts one by one, standards of exposures, the
    terms that these determine; and what is odd: filters that are exchanged, epochs and times that are wrong, rows that
    come twice, numbers that are not of the size that they should have. With [[term]] in the
    configuration the terms are those of `survey solve`. Exit status 0 where a run would go through, 1 where it would
    refuse some exposures, 2 where it would refuse all, or cannot be made.

    \b
    Examples:
      xpjax survey check night1/*.cat --config survey.toml
      xpjax survey check night1/*.cat --config survey.toml -o exposures.ecsv
    """
    import xpjax
    from xpjax.io.catalogue import check_output
    from xpjax.survey.joint import check_joint
    from xpjax.survey.reading import check_survey

    if output is not None:
        check_output(output, overwrite=overwrite)
    joint = "term" in tomllib.loads(config.read_text(encoding="utf-8"))
    found = (check_joint if joint else check_survey)(list(catalogues), config)
    if output is not None:
        xpjax.write(output, found.exposures(), overwrite=overwrite)
    click.echo("\n".join(found.lines()))
    if found.exit_status:
        raise SystemExit(found.exit_status)
