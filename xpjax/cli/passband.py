"""Passbands: what is shipped, tables, figures, checks, own systems from curves or chains, GaiaXPy's files, and fits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xpjax.cli.common import (
    EXISTING_FILE,
    FILE,
    OVERWRITE,
    PROJECTING,
    assignments,
    combine,
    comma_separated,
    correction_option,
    linear_only,
    load_passbands,
    print_table,
    record_call,
    tell_passbands,
)
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError
from xpjax.io.figures import check_figure, write_figure

if TYPE_CHECKING:
    from astropy.table import Row

    from xpjax.synthetic import PassbandSet

SOURCES = click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
OUTPUT = click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to write, a file for each passband; NAME.ecsv for a single one.",
)
CURVES = combine(
    click.option("--label", metavar="NAME", help="Name of the system: columns are called LABEL_mag_BAND."),
    click.option(
        "--detector",
        type=click.Choice(["photon", "energy"]),
        help="What it counts; by default what the files say, or photons.",
    ),
    click.option(
        "--magnitude",
        type=click.Choice(["AB", "ST", "Vega"], case_sensitive=False),
        help="Magnitude system; by default what the files say, or AB.",
    ),
    click.option("--clip", is_flag=True, help="Set negative transmissions to zero."),
    click.option("--normalize", is_flag=True, help="Divide each curve by its peak."),
)


def numbers(ctx: click.Context, parameter: click.Parameter, values: Sequence[str]) -> list[float]:
    """The numbers in an option that may be repeated and may hold several, separated by commas."""
    texts = comma_separated(ctx, parameter, values)
    try:
        return [float(text) for text in texts]
    except ValueError as exc:
        raise XpjaxError(f"{parameter.opts[0]} {','.join(texts)}: {exc}") from exc


def entries(ctx: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """KEY=TEXT of an option that may be repeated, by key."""
    pairs = [text.partition("=") for text in values]
    for key, mark, text in pairs:
        if not (key and mark and text):
            raise XpjaxError(f"{parameter.opts[0]} {key + mark + text!r}: expected KEY=TEXT")
    return {key.strip(): text.strip() for key, _, text in pairs}


@click.group()
def passband() -> None:
    """Transmission curves: what is shipped, and any of one's own.

    SOURCE is a shipped name (`xpjax passband list`), some of its bands as in NAME:g,r, a file, a folder, or the TOML
    file of a transmission chain. `xpjax photometry --passbands SOURCE` makes magnitudes with them.
    """


@passband.command("list")
def list_() -> None:
    """List the passbands that are shipped.

    \b
    Example:
      xpjax passband list
    """
    # From the ground, not the room: importing JAX would take a second.
    from xpjax.core.shipped import list_passbands

    rows = [(found.name, str(found.n_band), found.kind, found.description) for found in list_passbands()]
    print_table(("name", "bands", "kind", "description"), rows)


@passband.command()
@SOURCES
def show(sources: tuple[str, ...]) -> None:
    """Print wavelengths, widths and how magnitudes are counted.

    `outside` is the share of the integral outside 330..1050 nm, where XP does not see (of recovered curves, which end
    there: of the published band); `residual`, of recovered curves, how closely they reproduce the published projection.

    \b
    Examples:
      xpjax passband show minisitian
      xpjax passband show my_g.dat my_r.dat
    """
    from xpjax.synthetic import describe_passbands

    header = "band,mean [nm],pivot [nm],FWHM [nm],range [nm],peak,outside,detector,magnitude,zero point [mag],kind"
    for k, chosen in enumerate([load_passbands(source) for source in sources]):
        table = describe_passbands(chosen)
        if k:
            click.echo("")
        description = chosen.meta.get("title", chosen.meta.get("description"))
        click.echo(f"{chosen.label}: {_count(chosen)}" + (f", {description}" if description else ""))
        residual = ["residual"] * ("residual" in table.colnames)
        print_table([*header.split(","), *residual], [_row(row) for row in table])


def _count(passbands: PassbandSet) -> str:
    return f"{len(passbands)} passband{'s' * (len(passbands) != 1)}"


def _row(row: Row) -> list[str]:
    """The cells of a passband as text."""
    zero_point, residual = row["zero_point"], row["residual"] if "residual" in row.colnames else None
    cells = [
        str(row["band"]),
        *(f"{row[name]:.2f}" for name in ("mean", "pivot", "fwhm")),
        f"{row['first']:.6g}..{row['last']:.6g}",
        f"{row['peak']:.4g}",
        f"{100 * row['outside']:.2f} %",
        str(row["detector"]),
        str(row["magnitude"]),
        f"{zero_point:.4f}" if zero_point == zero_point else "none",
        str(row["kind"]),
    ]
    return cells if residual is None else [*cells, f"{residual:.1e}" if residual == residual else ""]


@passband.command()
@SOURCES
@click.option("--limits", nargs=2, type=float, metavar="LOW HIGH", help="Range of wavelength [nm].")
@click.option("--together", is_flag=True, help="Draw all SOURCEs over each other in one panel.")
@click.option("--output", "-o", required=True, type=FILE, help="Figure to write: png, pdf or svg.")
@OVERWRITE
def plot(
    sources: tuple[str, ...], limits: tuple[float, float] | None, together: bool, output: Path, overwrite: bool
) -> None:
    """Draw transmission curves, a panel for each SOURCE.

    Gray is where XP does not see.

    \b
    Examples:
      xpjax passband plot minisitian -o minisitian.png
      xpjax passband plot sdss2010:g,r PanSTARRS1:gp,rp --together --limits 380 720 -o two.png
      xpjax passband plot my_filters/ minisitian -o compared.pdf
    """
    from xpjax import plot as draw

    check_figure(output, overwrite)
    write_figure(draw.plot_passbands([load_passbands(source) for source in sources], limits, together), output)
    tell(f"wrote {output}")


@passband.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@OUTPUT
@click.option("--names", multiple=True, metavar="NAMES", callback=comma_separated, help="Names of the bands, in order.")
@click.option("--unit", help="Of wavelengths in files that state none: nm, Angstrom, um; by default guessed.")
@CURVES
@click.option(
    "--zero-points", multiple=True, metavar="MAG", callback=numbers, help="Zero points of the bands, in order."
)
@click.option(
    "--vega-spectrum",
    type=EXISTING_FILE,
    help="Vega magnitudes, with zero points from this spectrum of alpha Lyr (FITS, ECSV or two columns of text), "
    "scaled to 3.62286e-11 W m-2 nm-1 at 550 nm.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=NUMBER",
    help="Another value of a chain's parameter, such as airmass=1.5; may be repeated.",
)
@click.option(
    "--meta",
    multiple=True,
    metavar="KEY=TEXT",
    callback=entries,
    help="What the headers are to say besides, such as kind=measured or a reference; may be repeated.",
)
@OVERWRITE
def build(
    inputs: tuple[str, ...],
    output: Path,
    changes: tuple[str, ...],
    overwrite: bool,
    **options: Any,
) -> None:
    """Make a system of passbands from curves or a chain.

    It is a folder of ECSV files, and a SOURCE for all other commands. INPUT is curve files in order (ECSV, columns
    of text, SVO VOTable, FITS tables, sedpy's .par), a folder of them, the TOML file of a chain, or a shipped name.

    \b
    Examples:
      xpjax passband build g.dat r.dat --label MyCam --unit Angstrom -o MyCam
      xpjax passband build minisitian --set airmass=1.5 --label MiniSiTianX15 -o high_airmass
      xpjax passband build curves/ --vega-spectrum alpha_lyr.fits -o MyCamVega
    """
    import dataclasses

    import xpjax

    _check_output(output, overwrite)
    made = xpjax.load_passbands(list(inputs), parameters=assignments("--set", changes), **options)
    _write(output, dataclasses.replace(made, meta={**made.meta, **record_call(click.get_current_context())}), overwrite)


def _check_output(path: Path, overwrite: bool) -> None:
    """Refuse, before anything is computed or fetched, an output that cannot be written."""
    from xpjax.io.atomic import check_folder, check_output

    (check_output if path.suffix.lower() == ".ecsv" else check_folder)(path, overwrite=overwrite)


def _write(output: Path, passbands: PassbandSet, overwrite: bool) -> None:
    from xpjax.synthetic import write_passbands

    write_passbands(output, passbands, overwrite=overwrite)
    tell(f"wrote {_count(passbands)} of {passbands.label} ({', '.join(passbands.names)}) to {output}")


@passband.command()
@SOURCES
@click.pass_context
def check(context: click.Context, sources: tuple[str, ...]) -> None:
    """Tell whether passbands can be used, and what to mend.

    Exit status: 0 all can be used, perhaps with remarks; 1 `xpjax photometry` would refuse one; 2 a SOURCE cannot be
    read.

    \b
    Examples:
      xpjax passband check my_filters/
      xpjax passband check u.dat minisitian
    """
    from xpjax.synthetic import check_passbands

    status = 0
    for source in sources:
        try:
            found = check_passbands(load_passbands(source))
        except (ValueError, OSError) as exc:
            click.echo(f"{source}: cannot be read: {exc}")
            status = 2
            continue
        click.echo(str(found))
        status = max(status, int(not found.usable))
    context.exit(status)


@passband.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@OUTPUT
@CURVES
@OVERWRITE
def fetch(ids: tuple[str, ...], output: Path, overwrite: bool, **options: Any) -> None:
    """Fetch curves from the SVO Filter Profile Service.

    Needs the network and the extra `archive`. ID is a filter such as CTIO/DECam.g, or an instrument with all its
    filters such as OAJ/JPLUS. The service gives Vega zero points for every filter: add --magnitude AB for AB
    magnitudes.

    \b
    Examples:
      xpjax passband fetch CTIO/DECam.g CTIO/DECam.r --magnitude AB -o decam
      xpjax passband fetch OAJ/JPLUS --magnitude AB -o jplus
    """
    from xpjax.synthetic import fetch_passbands

    _check_output(output, overwrite)
    _write(output, fetch_passbands(*ids, **options), overwrite)


@passband.command()
@click.argument("source")
@click.option(
    "--output", "-o", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the XML file."
)
@click.option("--name", help="Name of the system in GaiaXPy, which puts USER_ before; by default the label.")
@PROJECTING
@correction_option("none")
@OVERWRITE
def export(source: str, output: Path, name: str | None, correction: str, overwrite: bool, **options: Any) -> None:
    """Write passbands as a system that GaiaXPy loads.

    With --correction GaiaXPy's magnitudes are those of corrected spectra; it knows no domain, so that stars far from
    those that the correction was learned from have all of it too.

    \b
    Examples:
      xpjax passband export minisitian -o for_gaiaxpy
      xpjax passband export my_u.dat --name MyU --extrapolate linear -o for_gaiaxpy
      xpjax passband export minisitian --name MiniCorrected --correction standard -o for_gaiaxpy
    """
    import xpjax
    from xpjax.synthetic import write_gaiaxpy

    chosen = load_passbands(source)
    linear = linear_only(correction, "GaiaXPy can have a linear correction only")
    system = xpjax.passband_system(chosen, correction=linear, **options)
    tell_passbands(chosen, options["extrapolate"])
    ((member, path),) = write_gaiaxpy(output, system, name=name, overwrite=overwrite).items()
    tell(
        f"wrote {path}; in Python:\n\n"
        "  import gaiaxpy\n"
        f'  known = gaiaxpy.load_additional_systems("{output}")\n'
        f"  gaiaxpy.generate(sources, photometric_system=known.{member})"
    )


@passband.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=EXISTING_FILE)
@click.option(
    "--magnitudes",
    required=True,
    type=EXISTING_FILE,
    help="Table with source_id and observed magnitudes: csv, ecsv, fits, vot, xml, parquet, h5.",
)
@click.option("--column", required=True, help="Its column of magnitudes; 99 and -99 are none.")
@click.option("--error", required=True, metavar="COLUMN|MAG", help="Its column of errors, or one error for all [mag].")
@click.option("--curve", required=True, metavar="SOURCE:BAND", help="Where to start: a passband, or a band of a chain.")
@click.option(
    "--fit",
    "parameters",
    multiple=True,
    metavar="NAMES",
    callback=comma_separated,
    help="Parameters: zero_point, shift, width, blue_edge, red_edge, tilt, bend, by default the first two; of a chain "
    "its own, by default zero_point, filter_shift.",
)
@click.option("--free", type=float, metavar="NM", help="Let the curve change freely, at nodes so far apart.")
@click.option("--clip", type=float, metavar="SIGMA", help="Leave out stars beyond so many standard deviations.")
@click.option("--prior", "priors", multiple=True, metavar="NAME=SIGMA", help="Gaussian prior; may be repeated.")
@click.option("--xp-errors/--no-xp-errors", default=True, help="Add the errors of the spectra (default: yes).")
@PROJECTING
@correction_option("standard")
@click.option("--figure", type=FILE, help="Figure of the fitted curve and its error to write (png, pdf, svg).")
@OUTPUT
@OVERWRITE
def fit(
    inputs: tuple[Path, ...],
    magnitudes: Path,
    column: str,
    error: str,
    curve: str,
    output: Path,
    overwrite: bool,
    parameters: list[str],
    priors: tuple[str, ...],
    figure: Path | None,
    **options: Any,
) -> None:
    """Fit a curve to observed magnitudes of XP sources.

    INPUT is files of XP coefficients, as for `xpjax photometry`; sources and magnitudes are joined by source_id. The
    parameters go to standard output; the curve, with parameters, errors and covariance in its header, to a file.
    Exit status 1: the fit did not converge.

    \b
    Examples:
      xpjax passband fit xp.fits --magnitudes obs.csv --column g --error g_err \\
          --curve minisitian:g --fit zero_point,filter_shift -o g_fitted.ecsv
      xpjax passband fit xp.fits --magnitudes obs.csv --column g --error 0.01 \\
          --curve my_g.dat --fit zero_point,shift,tilt --prior tilt=0.05 --clip 4 -o g_fitted.ecsv
    """
    import dataclasses

    import xpjax
    from xpjax.synthetic import match_magnitudes

    _check_output(output, overwrite)
    if figure is not None:
        check_figure(figure, overwrite)
    options |= {"priors": assignments("--prior", priors)}
    options["correction"] = linear_only(options["correction"], "fit with a linear correction")
    sources, magnitude, sigma, line = match_magnitudes(inputs, magnitudes, column, error)
    tell(line)
    if options["xp_errors"] and not sources.coefficients.has_covariance:
        tell("the spectra have no errors or no correlations: the errors are those of the magnitudes")
    found = xpjax.fit_passband(sources, magnitude, sigma, curve, parameters, **options)
    click.echo(str(found))
    record = record_call(click.get_current_context())
    _write(output, dataclasses.replace(found.passbands, meta=record), overwrite)
    if figure is not None:
        write_figure(found.plot(), figure)
    if not found.converged:
        click.echo("the fit did not converge: fewer parameters, or a --prior, may help", err=True)
        click.get_current_context().exit(1)
