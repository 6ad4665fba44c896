"""From XP files to catalogues: photometry and spectra."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import xpjax
from xpjax.cli.archive import ASKED, ASKING, asked
from xpjax.cli.common import (
    COMPUTING,
    CORRECTING,
    INPUT_OUTPUT,
    PROJECTING,
    TYING,
    asked_bands,
    combine,
    correction_option,
    linear_only,
    tying,
    wavelength_grid,
)
from xpjax.cli.running import run

if TYPE_CHECKING:
    from xpjax.cli.running import Compute
    from xpjax.core.release import Release
    from xpjax.xp import SourceTable


WHICH_BANDS = combine(
    click.option(
        "--system",
        "systems",
        multiple=True,
        metavar="NAME",
        help="Published photometric system, in any case (`xpjax systems` lists them), some of its bands as in "
        "JPLUS:gJPLUS,rJPLUS, or an .h5 file of systems; may be repeated.",
    ),
    click.option(
        "--passbands",
        multiple=True,
        metavar="SOURCE",
        help="Transmission curves: a shipped name (`xpjax passband list`), NAME:band,band, a file, a folder, or the "
        "TOML file of a transmission chain; may be repeated.",
    ),
)
"""Published systems, and transmission curves."""


@click.command()
@INPUT_OUTPUT
@ASKING
@WHICH_BANDS
@PROJECTING
@click.option("--error-correction", is_flag=True, help="Multiply errors by the published factors, by G magnitude.")
@CORRECTING
@TYING
@COMPUTING
def photometry(
    inputs: tuple[Path, ...],
    output: Path,
    keep: list[str],
    overwrite: bool,
    devices: str | None,
    **options: Any,
) -> None:
    """Compute synthetic photometry of XP spectra, in any passbands.

    INPUT is a file of XP coefficients: csv, csv.gz, ecsv, fits, VOTable, avro or parquet; or the folder of a store or a
    HATS catalogue; or --ids names the sources, and their spectra are fetched from the Gaia archive (see `xpjax fetch`).
    `xpjax catalogue run` does large stores in parts, and can be resumed. Columns of the output:
    source_id, then for each system, and after them for each set of passbands, LABEL_mag_BAND, LABEL_flux_BAND,
    LABEL_flux_error_BAND and LABEL_mag_error_BAND, the kept columns, and xp_status, bits that qualify a source.

    XP sees 330..1050 nm. Light of a passband outside is missed, not guessed: fluxes are too faint by about that share,
    which is told for every band with more than 0.1 %. --extrapolate linear adds 322..330 nm, as a guess.

    XP spectra have systematic errors of some percent. --correction standard takes them off, by a correction that is
    linear in the spectrum; by default magnitudes are uncorrected, as GaiaXPy's. LABEL_mag_systematic_BAND is the
    systematic error that remains, common to similar stars; xp_correction_distance is a star's distance from the
    training stars. Far stars have a share of the correction and are flagged OUTSIDE_TRAINING; stars without BP or RP,
    and stars that a network is not for, are flagged NOT_CORRECTED.

    --tie G takes the absolute scale from Gaia's own photometry: fluxes are multiplied so that the synthetic G is
    phot_g_mean_mag, less the magnitude term of a table that you name. Colors stay.

    \b
    Examples:
      xpjax photometry xp.fits --system JPLUS --output jplus.csv
      xpjax photometry --ids stars.csv --system JPLUS -o jplus.parquet
      xpjax photometry part1.csv.gz part2.csv.gz --system SDSS --system Gaia_DR3_Vega -o mags.parquet
      xpjax photometry xp.parquet --system jkc_std --truncate --keep ra,dec,bp_rp -o mags.fits
      xpjax photometry xp.h5 --system JPLUS --no-errors --device gpu -o mags.h5
      xpjax photometry xp.fits --passbands minisitian -o mags.csv
      xpjax photometry xp.fits --passbands my_u.dat --extrapolate linear --system SDSS -o mags.csv
      xpjax photometry xp.fits --system JPLUS --correction standard -o corrected.csv
      xpjax photometry xp.fits --system JPLUS --correction wiggles.h5 --ebv ebv -o network.csv
      xpjax photometry Npix=1234.parquet --system JPLUS --no-errors -o jplus.parquet
      xpjax photometry nested.parquet --columns coefficients=xp.coeff,source_id=id --system JPLUS -o jplus.parquet
      xpjax photometry xp.fits --system JPLUS --correction standard --tie G --magnitude-terms terms.txt -o tied.csv
    """
    from xpjax.synthetic import stated_release

    archive = {name: options.pop(name) for name in ASKED}
    del options["columns"]  # of the input, which `run` looks at
    sources = asked(inputs, output, stated_release(options["systems"]), archive)
    measurement = asked_bands(**options)

    def prepare(release: Release) -> tuple[Release, Compute]:
        made, measure = measurement.prepared(release)
        return made, lambda table, progress: measure(table, devices=devices, progress=progress)

    run(prepare, sources, output, keep, overwrite, needed=measurement.columns, release=archive["release"])


BANDS = (
    *("systems", "passbands", "extrapolate", "allow_outside"),
    *("correction", "base", "features", "ebv", "gaia", "teff", "mh"),
)
"""Options that say which bands, of which spectra."""


@click.command()
@INPUT_OUTPUT
@ASKING
@click.option("--internal", is_flag=True, is_eager=True, help="Internal BP and RP spectra, e-/s on pseudo-wavelengths.")
@click.option(
    "--wavelength",
    metavar="START:STOP:STEP",
    callback=wavelength_grid,
    help="Sampling in nm within 330..1050, STOP included where it falls on the grid; by default 336:1020:2. "
    "With --internal pseudo-wavelengths within -10..70.",
)
@click.option("--correlation", is_flag=True, help="Write correlations too: strict lower triangle, row by row.")
@click.option("--instrument", "model", metavar="MODEL", help="Instrument model (`xpjax info` lists them), or .h5 file.")
@correction_option("none")
@click.option(
    "--resolution",
    type=click.Choice(["full", "xp"]),
    help="full, or xp: as seen at XP's resolving power, to compare with models; by default xp with a correction.",
)
@TYING
@COMPUTING
def spectra(
    inputs: tuple[Path, ...],
    output: Path,
    model: str | None,
    correction: str,
    tie: str | None,
    terms: Path | None,
    keep: list[str],
    overwrite: bool,
    **options: Any,
) -> None:
    """Sample absolute or internal spectra of XP coefficients.

    INPUT is as for `xpjax photometry`: a file, or the folder of a store or a HATS catalogue.

    Columns of the output: source_id, the arrays flux and flux_error in W m-2 nm-1 (and correlation), the kept
    columns and xp_status. The wavelengths are stored once: an HDF5 dataset, metadata of the other formats, or beside
    a CSV file the file NAME_wavelength.csv.

    --correction standard takes XP's systematic errors off, see `xpjax photometry`; networks come after, by
    `xpjax wiggles correct`.

    \b
    Examples:
      xpjax spectra xp.fits --output spectra.h5
      xpjax spectra --ids stars.csv -o spectra.h5
      xpjax spectra xp.csv.gz --wavelength 400:900:2.5 --truncate -o spectra.parquet
      xpjax spectra xp.fits --correlation --float64 -o spectra.h5
      xpjax spectra xp.fits --internal --wavelength 0:60:0.1 -o internal.fits
      xpjax spectra xp.fits --correction standard --resolution xp -o corrected.h5
    """
    from xpjax.core.grids import check_grid

    archive = {name: options.pop(name) for name in ASKED}
    del options["columns"]  # of the input, which `run` looks at
    linear = linear_only(correction, "make the spectra, then run `xpjax wiggles correct`")
    is_file = model is not None and model.lower().endswith((".h5", ".hdf5"))
    own = xpjax.load_instrument(path=model) if is_file else None

    if tie is not None and options["internal"]:
        raise click.UsageError("--tie is for absolute spectra: leave it out with --internal.")
    tied, columns = tying(tie, terms, correction, options["truncate"])

    def prepare(release: Release) -> tuple[Release, Compute]:
        instrument = (own or xpjax.load_instrument(model, release=release)).corrected(linear)
        if options["wavelength"] is not None and not options["internal"]:
            check_grid(options["wavelength"], instrument.wavelength_range, "wavelength", "nm")

        def compute(table: SourceTable, progress: Callable[[int], None]) -> Any:
            return tied(table, xpjax.spectra(table, instrument=instrument, progress=progress, **options))

        return instrument.release, compute

    sources = asked(inputs, output, None if own is None else own.release, archive)
    run(prepare, sources, output, keep, overwrite, ["wavelength"], columns, archive["release"])
