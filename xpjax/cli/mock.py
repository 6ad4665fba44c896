"""Without data of one's own: mock sources, and a demonstration with them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

import xpjax
from xpjax.cli.common import FOLDER, OVERWRITE, output_option, with_call
from xpjax.cli.terminal import tell
from xpjax.io.atomic import check_output
from xpjax.io.figures import write_figure


@click.command()
@click.option("-n", "number", default=1000, show_default=True, type=click.IntRange(1), help="Number of sources.")
@output_option("File to write; its suffix names the format.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="The same seed, the same sources.")
@click.option("--correlations/--no-correlations", default=True, help="Correlations of coefficients (default: yes).")
@OVERWRITE
def simulate(number: int, output: Path, seed: int, correlations: bool, overwrite: bool) -> None:
    """Simulate XP sources with realistic errors and correlations.

    A source with correlations takes 12 kB in binary formats and 30 kB as text.

    \b
    Examples:
      xpjax simulate -n 1000 -o mock.parquet
      xpjax simulate -n 100000 --seed 7 --no-correlations -o mock.h5
    """
    from xpjax.io import catalogue

    started = time.perf_counter()
    catalogue.check_output(output, overwrite=overwrite)
    table = xpjax.simulate_sources(number, seed=seed, correlations=correlations).catalogue()
    catalogue.write(output, with_call(table), overwrite=overwrite)
    seconds = time.perf_counter() - started
    tell(f"{number:,} mock sources written to {output.name} in {seconds:.1f} s")


@click.command()
@click.option("-n", "number", default=20_000, show_default=True, type=click.IntRange(1), help="Number of mock sources.")
@click.option(
    "--output-dir",
    "folder",
    default="xpjax-demo",
    show_default=True,
    type=FOLDER,
    help="Directory for the results; it is made.",
)
@OVERWRITE
def demo(number: int, folder: Path, overwrite: bool) -> None:
    """Go from install to magnitudes in a minute, with mock sources.

    Makes a J-PLUS and SDSS catalogue of simulated sources, and two figures.

    \b
    Examples:
      xpjax demo
      xpjax demo -n 200000 --output-dir big-demo
    """
    from xpjax.io import catalogue

    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    table_file, sample_file = folder / "photometry.parquet", folder / "sources.parquet"
    figures = folder / "photometry.png", folder / "spectra.png"
    for path in (table_file, sample_file, *figures):
        check_output(path, overwrite=overwrite)

    tell(f"simulating {number:,} sources ...")
    table = xpjax.simulate_sources(number, seed=0)
    system = xpjax.load_system("JPLUS", "SDSS")
    seconds = []
    for what in ("compiling and computing", "computing again, compiled"):
        tell(f"{len(system.names)} magnitudes with errors and full correlations: {what} ...")
        before = time.perf_counter()
        photometry = xpjax.photometry(table, system)
        seconds.append(time.perf_counter() - before)

    result, sample = photometry.catalogue({}), table[:100].catalogue()
    catalogue.write(table_file, with_call(result), overwrite=overwrite)
    catalogue.write(sample_file, with_call(sample), overwrite=overwrite)
    write_figure(xpjax.plot.plot_photometry(result), figures[0])
    write_figure(xpjax.plot.plot_spectra(xpjax.spectra(table[:4]), system=xpjax.load_system("JPLUS")), figures[1])

    click.echo(
        f"\n{number:,} sources in {len(system.names)} bands: {number / seconds[1]:,.0f} sources/s"
        f" ({seconds[0]:.2f} s with compiling, {seconds[1]:.2f} s without); peak memory {_peak_memory()};"
        f" {time.perf_counter() - started:.0f} s in all.\n\n"
        f"Made in {folder}:\n"
        f"  {table_file.name:20} J-PLUS and SDSS magnitudes, fluxes and errors of {number:,} mock sources\n"
        f"  {figures[0].name:20} their color-magnitude diagram\n"
        f"  {figures[1].name:20} absolute spectra of four of them\n"
        f"  {sample_file.name:20} XP coefficients of the first {len(sample)} sources\n\n"
        "Try next:\n"
        f"  xpjax photometry {sample_file} --system Gaia_DR3_Vega --output mags.csv\n"
        f"  xpjax spectra {sample_file} --wavelength 400:900:2.5 --output spectra.h5\n"
        "  xpjax plot spectra.h5\n"
        "  xpjax systems"
    )


def _peak_memory() -> str:
    """The most memory that this process has held, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return "unknown"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak * (1 if sys.platform == 'darwin' else 1024) / 2**30:.1f} GiB"
