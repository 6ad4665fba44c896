"""`xpjax survey report`: one HTML page of numbers and figures of a calibration, joint solution or color regression."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, assignments
from xpjax.cli.scr import ANY
from xpjax.cli.terminal import tell


@click.command("report")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", "-o", type=FILE, help="HTML file to write; by default report.html in DIR.")
@click.option(
    "--catalogue", "catalogues", multiple=True, type=EXISTING_FILE,
    help="Tables that were calibrated, for what the products lack: those of older versions have no colors.",
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
def report(folder: Path, output: Path | None, periods: Sequence[str], overwrite: bool, **evidence: Any) -> None:
    """Write numbers and figures of a calibration as an HTML page.

    DIR is what `xpjax survey calibrate`, `solve` or `scr` wrote. Figures are PNG files in a folder beside the page. A
    figure that cannot be made is named at its end with what it would have needed. Of a joint solution the page shows
    terms, gauges, transmission before and after, residuals and correlations; it takes --catalogue. Of a stellar color
    regression it shows relations, residuals, zero-points of tiles and the two methods; it takes --tiles, with ra, dec,
    time. [camera] has any of diameter [m], altitude [m], exposure_time [s], zero_point [mag], sky [mag arcsec-2], pixel
    [arcsec], aperture [pixel], read_noise [electron], noisy_pixels.

    \b
    Examples:
      xpjax survey report solution
      xpjax survey report joint --catalogue night1.fits
      xpjax survey report scr --tiles tiles.ecsv
      xpjax survey report solution --catalogue night1.fits --compare other --tiles tiles.ecsv --camera ccd
    """
    from xpjax.survey.report import write_report

    started = time.perf_counter()
    evidence["periods"] = assignments("--period", periods)
    page = write_report(folder, output, overwrite=overwrite, **evidence)
    for title, need in page.missing.items():
        tell(f"not made: {title}: {need}")
    drawn = sum(figure.name not in page.missing for section in page.sections for figure in section.figures)
    tell(f"{drawn} figures, to {page.path} in {time.perf_counter() - started:.1f} s")
