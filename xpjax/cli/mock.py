"""Without data of one's own: mock sources, and a demonstration with them."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import xpjax
from xpjax.cli.common import (
    FOLDER,
    OVERWRITE,
    combine,
    correction_option,
    counted,
    linear_only,
    output_option,
    with_call,
)
from xpjax.cli.labels import limits_of
from xpjax.cli.terminal import tell
from xpjax.io.atomic import check_output
from xpjax.io.figures import write_figure

if TYPE_CHECKING:
    from xpjax.xp import SourceTable


FOLLOWED = 0.01
"""Misfit above which spectra are told of: the largest of stars from A to K."""
OBSERVED = combine(
    click.option(
        "--spectra", multiple=True, metavar="FILE", type=click.Path(exists=True, path_type=Path),
        help="Observe the spectra in this file, or folder of models, instead of mock ones; may be repeated.",
    ),
    click.option("--g-mag", type=float, help="Synthetic G [mag] that spectra are scaled to, after reddening."),
    click.option("--noise/--no-noise", default=True, help="Add noise as the errors say, by --seed (default: yes)."),
    click.option("--ebv", type=float, default=0.0, show_default=True, help="E(B-V) [mag] to redden spectra by."),
    click.option("--law", default="ccm89", show_default=True, help="Reddening law, of `xpjax.extinction.LAWS`."),
    correction_option("none", ": sources are such that their spectra with it are those of FILE"),
    click.option("--extend", is_flag=True, help="Take spectra of 400..900 nm; the rest is that of ordinary sources."),
    click.option(
        "--limits", multiple=True, metavar="LABEL=LOW:HIGH[:STEP]", help="Of models take those within limits only."
    ),
    click.option("--unit", help="Unit of wavelengths, such as nm or Angstrom, in files that state none."),
    click.option("--flux-unit", help="Unit of fluxes in files that state none; not needed with --g-mag."),
    click.option("--medium", type=click.Choice(["vacuum", "air"]), help="Where wavelengths are, if FILE is silent."),
    click.option("--per", type=click.Choice(["wavelength", "frequency"]), help="What flux is per, if FILE is silent."),
)  # fmt: skip
"""How spectra in files are observed."""


@click.command()
@click.option("-n", "number", default=1000, show_default=True, type=click.IntRange(1), help="Number of mock sources.")
@output_option("File to write; its suffix names the format.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="The same seed, the same sources.")
@click.option("--release", default="DR3", show_default=True, help="Data release, such as DR4.")
@click.option("--correlations/--no-correlations", default=True, help="Correlations of coefficients (default: yes).")
@click.option("--transits", type=click.IntRange(1), metavar="N", help="Epoch spectra: N transits of each mock source.")
@OBSERVED
@OVERWRITE
def simulate(
    number: int,
    output: Path,
    seed: int,
    release: str,
    correlations: bool,
    transits: int | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Simulate XP sources, mock ones or those of given spectra.

    Sources have realistic errors and correlations. With --spectra they are what Gaia sees of the spectra in FILE: text
    or FITS, a table, a library of models (Castelli & Kurucz, NextGen, FERRE), or a grid of `xpjax labels grid build`.
    Spectra have to cover 330..1050 nm, or with --extend 400..900 nm. A source with correlations takes 12 kB in binary
    formats and 30 kB as text.

    \b
    Examples:
      xpjax simulate -n 1000 -o mock.parquet
      xpjax simulate -n 100000 --seed 7 --no-correlations -o mock.h5
      xpjax simulate -n 100 --transits 40 -o epochs.parquet
      xpjax simulate --spectra star.txt --unit Angstrom --medium vacuum --g-mag 15 -o star.parquet
      xpjax simulate --spectra ckp00/ --limits teff=4000:7000 --g-mag 15 --ebv 0.1 --no-noise -o models.parquet
    """
    from xpjax.core.release import find_release
    from xpjax.core.status import Status
    from xpjax.io import catalogue

    started = time.perf_counter()
    context = click.get_current_context()
    catalogue.check_output(output, overwrite=overwrite)
    spectra = options.pop("spectra")
    if spectra:
        if context.get_parameter_source("number") is not ParameterSource.DEFAULT:
            raise click.UsageError("-n is for mock sources; --spectra has as many as the files.")
        if transits is not None:
            raise click.UsageError("--transits is for mock sources.")
        sources = _observed(spectra, seed, release=release, correlations=correlations, **options)
    else:
        given = [f"--{name.replace('_', '-')}" for name in options if _was_given(context, name)]
        if given:
            raise click.UsageError(f"{', '.join(given)}: for --spectra, which says what to observe.")
        model = find_release(release)
        made: dict[str, Any] = {"correlations": correlations, "release": model, "transits": transits}
        sources = xpjax.simulate_sources(number, seed, **made)
    catalogue.write(output, with_call(sources.catalogue()), overwrite=overwrite)
    what = "observed" if spectra else "mock"
    what += " epoch spectra" if sources.is_epoch else " sources"
    tell(f"{len(sources):,} {what} written to {output.name} in {time.perf_counter() - started:.1f} s")
    for line in counted(Status.counts(sources.status)):
        tell(line)
    far = sum(bool(misfit > FOLLOWED) for misfit in sources.columns.get("xp_misfit", ()))
    if far:
        tell(f"{far:12,}  xp_misfit above {FOLLOWED:g}: XP cannot follow these spectra, as of narrow lines")


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT


def _observed(
    spectra: Sequence[Path], seed: int, *, noise: bool, limits: Sequence[str], correction: str, **options: Any
) -> SourceTable:
    """What the options of `OBSERVED` make of the spectra."""
    from xpjax.stellar import observe_files

    linear = linear_only(correction, "give a linear correction")
    drawn = seed if noise else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        made = observe_files(spectra, limits=limits_of(limits), noise=drawn, correction=linear, **options)
    for warning in caught:
        tell(str(warning.message))
    return made


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
