"""`xpjax survey report`: one HTML page of numbers and figures of a calibration."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, assignments
from xpjax.cli.scr import ANY
from xpjax.cli.terminal import tell


@click.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", "-o", type=FILE, help="HTML file to write; by default report.html in DIR.")
@click.option(
    "--catalogue", "catalogues", multiple=True, type=EXISTING_FILE,
    help="Tables that were calibrated: x, y and color of stars that are no standards, positions of exposures.",
)  # fmt: skip
@click.option(
    "--validation", multiple=True, type=EXISTING_FILE,
    help="Tables by `survey apply` of exposures that took no part in the calibration.",
)  # fmt: skip
@click.option(
    "--compare", multiple=True, type=ANY,
    help="Zero-points to compare with: another DIR, or a table by `survey calibrate`, `scr` or `simulate`.",
)  # fmt: skip
@click.option("--tiles", type=EXISTING_FILE, help="Table of exposures or tiles with ra, dec, ebv, rv (any of these).")
@click.option(
    "--stars", type=EXISTING_FILE,
    help="Table of stars with bp_rp, phot_g_mean_mag, {band}_scr, {band}_xpsp, {band}_xpsp_corrected.",
)  # fmt: skip
@click.option(
    "--camera", metavar="NAME",
    help="cmos, ccd, or a TOML file with [camera], for the theory of repeatability; by default that of survey.toml.",
)  # fmt: skip
@click.option("--period", "periods", multiple=True, metavar="STAR=DAYS", help="Light curves of these stars, so folded.")
@OVERWRITE
def report(folder: Path, output: Path | None, periods: Sequence[str], overwrite: bool, **evidence: object) -> None:
    """Write numbers and figures of a calibration as one HTML page.

    DIR is what `xpjax survey calibrate` wrote. A figure that cannot be made is named on the page with what it would
    have needed. [camera] has any of diameter [m], altitude [m], exposure_time [s], zero_point [mag], sky
    [mag arcsec-2], pixel [arcsec], aperture [pixel], read_noise [electron], noisy_pixels.

    \b
    Examples:
      xpjax survey report solution
      xpjax survey report solution --catalogue night1.fits --compare other --tiles tiles.ecsv --camera ccd
    """
    from xpjax.survey.report import write_report

    started = time.perf_counter()
    evidence["periods"] = assignments("--period", periods)
    made = write_report(folder, output, overwrite=overwrite, **evidence)
    for section in made:
        if section.figure is None:
            tell(f"not made: {section.title}: {section.missing}")
    drawn = sum(section.figure is not None for section in made)
    tell(f"{drawn} figures, to {output or folder / 'report.html'} in {time.perf_counter() - started:.1f} s")
