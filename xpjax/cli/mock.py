"""Without data of one's own: mock sources, and a demonstration with them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from xpjax.cli.common import FILE, OVERWRITE, record_call
from xpjax.cli.terminal import tell
from xpjax.io.figures import check_figure, write_figure


@click.command()
@click.option("-n", "number", default=1000, show_default=True, type=click.IntRange(1), help="Number of sources.")
@click.option("--output", "-o", required=True, type=FILE, help="File to write; its suffix names the format.")
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
    import dataclasses

    from xpjax.io import catalogue
    from xpjax.xp import simulate_sources

    started = time.perf_counter()
    catalogue.check_output(output, overwrite=overwrite)
    table = simulate_sources(number, seed=seed, correlations=correlations).catalogue()
    record = record_call(click.get_current_context())
    catalogue.write(output, dataclasses.replace(table, meta={**table.meta, **record}), overwrite=overwrite)
    seconds = time.perf_counter() - started
    tell(f"{number:,} mock sources written to {output.name} in {seconds:.1f} s")


@click.command()
@click.option("-n", "number", default=20_000, show_default=True, type=click.IntRange(1), help="Number of mock sources.")
@click.option(
    "--output-dir",
    "folder",
    default="xpjax-demo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
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
    import dataclasses

    import xpjax
    from xpjax import plot as draw
    from xpjax.io import catalogue
    from xpjax.xp import simulate_sources

    started = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    table_file, sample_file = folder / "photometry.parquet", folder / "sources.parquet"
    figures = folder / "photometry.png", folder / "spectra.png"
    for path in (table_file, sample_file):
        catalogue.check_output(path, overwrite=overwrite)
    for path in figures:
        check_figure(path, overwrite)

    tell(f"simulating {number:,} sources ...")
    table = simulate_sources(number, seed=0)
    system = xpjax.load_system("JPLUS", "SDSS")
    seconds = []
    for what in ("compiling and computing", "computing again, compiled"):
        tell(f"{len(system.names)} magnitudes with errors and full correlations: {what} ...")
        before = time.perf_counter()
        photometry = xpjax.photometry(table, system)
        seconds.append(time.perf_counter() - before)

    record = record_call(click.get_current_context())
    result = photometry.catalogue({})
    catalogue.write(table_file, dataclasses.replace(result, meta={**result.meta, **record}), overwrite=overwrite)
    sample = table[:100].catalogue()
    catalogue.write(sample_file, dataclasses.replace(sample, meta={**sample.meta, **record}), overwrite=overwrite)
    write_figure(draw.plot_photometry(result), figures[0])
    write_figure(draw.plot_spectra(xpjax.spectra(table[:4]), system=xpjax.load_system("JPLUS")), figures[1])

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
