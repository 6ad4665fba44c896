"""Passbands: what is shipped, tables, figures, checks, own systems from curves or chains, GaiaXPy's files, and fits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xpjax.cli.common import (
    EXISTING_FILE,
    FILE,
    NOTABLE,
    OVERWRITE,
    PROJECTING,
    assignments,
    check_figure,
    combine,
    comma_separated,
    correction_option,
    linear_only,
    load_passbands,
    print_table,
    record_call,
    split_source,
    tell_passbands,
    write_figure,
)
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    from xpjax.synthetic import Passband, PassbandFit, PassbandSet, TransmissionChain

COARSE = 10.0
"""Steps [nm] longer than this can hide what a filter does between samples."""
FAINT = 0.01
"""A peak, or an end relative to the peak, that makes one doubt a curve."""

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
    # Texts are looked at, not read: JAX and astropy would take a second.
    from xpjax.synthetic import shipped_passbands

    rows = []
    for name, folder in shipped_passbands().items():
        found = _described(folder) if (folder / "system.toml").is_file() else _headers(sorted(folder.glob("*.ecsv")))
        if found is not None:
            rows.append((name, *found))
    print_table(("name", "bands", "kind", "description"), rows)


def _described(folder: Path) -> tuple[str, str, str]:
    """Number of bands, kind and description of a chain."""
    import tomllib

    chain = tomllib.loads((folder / "system.toml").read_text(encoding="utf-8"))
    return (
        str(len(chain.get("filter", ()))),
        "chain",
        chain.get("title", chain.get("description", chain.get("name", ""))),
    )


def _headers(files: Sequence[Path]) -> tuple[str, str, str] | None:
    """Number of bands, kinds and description of curves, from their headers; None without curves."""
    if not files:
        return None
    entries = []
    for file in files:
        lines = []
        with file.open(encoding="utf-8") as handle:
            for line in handle:
                if not line.startswith("#"):
                    break
                lines.append(line[1:].strip())
        # What stands before is on the columns.
        entries.append(" ".join(lines).partition("meta:")[2])
    kinds = dict.fromkeys(filter(None, (_entry(text, "kind") for text in entries)))
    system = entries[0].partition("system:")[2]  # the entries of the set, after those of the passband
    title = _entry(system, "title") or _entry(system, "description") or _entry(entries[0], "label")
    return str(len(files)), ", ".join(kinds), title


def _entry(text: str, key: str) -> str:
    """The value of a key in the text of a header, in quotes or without; empty where it has none."""
    found = re.search(rf"(?<![\w-]){key}: (?:'((?:[^']|'')*)'|\"([^\"]*)\"|([^,}}]*))", text)
    return next((value.replace("''", "'").strip() for value in found.groups() if value), "") if found else ""


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
    loaded = [load_passbands(source) for source in sources]
    for k, chosen in enumerate(loaded):
        residual = any("residual" in band.meta for band in chosen)
        if k:
            click.echo("")
        description = chosen.meta.get("title", chosen.meta.get("description"))
        click.echo(f"{chosen.label}: {_count(chosen)}" + (f", {description}" if description else ""))
        header = "band,mean [nm],pivot [nm],FWHM [nm],range [nm],peak,outside,detector,magnitude,zero point [mag],kind"
        print_table(
            [*header.split(","), *["residual"] * residual],
            [[*_row(band), *[_residual(band)] * residual] for band in chosen],
        )


def _count(passbands: PassbandSet) -> str:
    return f"{len(passbands)} passband{'s' * (len(passbands) != 1)}"


def _row(band: Passband) -> list[str]:
    import numpy as np

    from xpjax.synthetic import cut_off, fwhm, mean_wavelength, pivot_wavelength, share_outside, zero_point

    try:
        zero = f"{zero_point(band):.4f}"
    except ValueError:  # Vega magnitudes without one
        zero = "none"
    bright = band.wavelength[np.flatnonzero(band.transmission)]
    return [
        band.name,
        f"{mean_wavelength(band):.2f}",
        f"{pivot_wavelength(band):.2f}",
        f"{fwhm(band):.2f}",
        f"{bright[0]:.6g}..{bright[-1]:.6g}",
        f"{band.transmission.max():.4g}",
        f"{100 * max(share_outside(band), cut_off(band)):.2f} %",
        band.detector,
        band.magnitude,
        zero,
        str(band.meta.get("kind", "")),
    ]


def _residual(band: Passband) -> str:
    value = band.meta.get("residual", "")
    return f"{value:.1e}" if isinstance(value, float) else str(value)


@passband.command()
@SOURCES
@click.option("--output", "-o", required=True, type=FILE, help="Figure to write: png, pdf or svg.")
@OVERWRITE
def plot(sources: tuple[str, ...], output: Path, overwrite: bool) -> None:
    """Draw transmission curves, a panel for each SOURCE.

    Grey is where XP does not see.

    \b
    Examples:
      xpjax passband plot minisitian -o minisitian.png
      xpjax passband plot my_filters/ minisitian -o compared.pdf
    """
    from xpjax import plot as draw

    check_figure(output, overwrite)
    write_figure(draw.plot_passbands([load_passbands(source) for source in sources]), output)
    tell(f"wrote {output}")


@passband.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@OUTPUT
@click.option("--names", multiple=True, metavar="NAMES", callback=comma_separated, help="Names of the bands, in order.")
@click.option("--unit", help="Of wavelengths in files that state none: nm, Angstrom, um; by default guessed.")
@CURVES
@click.option(
    "--zero-points", multiple=True, metavar="MAG", callback=comma_separated, help="Zero points of the bands, in order."
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
@OVERWRITE
def build(
    inputs: tuple[str, ...],
    output: Path,
    names: list[str],
    label: str | None,
    zero_points: list[str],
    vega_spectrum: Path | None,
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

    from xpjax.synthetic import with_zero_points

    _check_output(output, overwrite)
    if vega_spectrum is not None and (zero_points or options["magnitude"] not in (None, "Vega")):
        raise XpjaxError("--vega-spectrum derives zero points of Vega magnitudes; leave out --magnitude, --zero-points")
    made = _from_inputs(inputs, assignments("--set", changes), names, options)
    if label:
        made = dataclasses.replace(made, label=label)
    if zero_points:
        if len(zero_points) != len(made):
            raise XpjaxError(f"--zero-points gives {len(zero_points)} numbers for the {len(made)} bands {made.names}")
        try:
            made = with_zero_points(made, [float(text) for text in zero_points])
        except ValueError as exc:
            raise XpjaxError(f"--zero-points {','.join(zero_points)}: {exc}") from exc
    if vega_spectrum is not None:
        made = _with_vega(made, vega_spectrum)
    made = dataclasses.replace(made, meta={**made.meta, **record_call(click.get_current_context())})
    _write(output, made, overwrite)


def _from_inputs(
    inputs: Sequence[str], changes: dict[str, float], names: Sequence[str], options: dict[str, Any]
) -> PassbandSet:
    """Passbands of a chain, or of curves. Raises ValueError for options that do not go with them."""
    import dataclasses

    from xpjax.synthetic import find_passbands, read_passbands

    given = [f"--{name}" for name, value in options.items() if value]
    chains = [source for source in inputs if _chain_file(source) is not None]
    if not chains:
        if changes:
            raise XpjaxError(f"--set changes a transmission chain, and {inputs[0]} is none; give the TOML file of one")
        chosen: list[str] = []
        if len(inputs) == 1:
            stem, chosen = split_source(inputs[0])
            read = read_passbands(find_passbands(stem), **options)
        else:
            folders = [source for source in inputs if os.path.isdir(os.path.expanduser(source))]
            if folders:
                raise XpjaxError(f"{folders[0]} is a folder; give one folder by itself, or files")
            read = read_passbands(inputs, **options)
        made = _bands(read, chosen)
    else:
        if len(inputs) > 1:
            raise XpjaxError(f"{chains[0]} is a transmission chain; build it by itself")
        if given:
            raise XpjaxError(f"{', '.join(given)}: for curves, and {chains[0]} describes a chain; change it there")
        chain = _chain(chains[0]).with_parameters(**changes)
        made = _bands(chain.passbands(), split_source(chains[0])[1])
    if not names:
        return made
    if len(names) != len(made):
        raise XpjaxError(f"--names gives {len(names)} names for the {len(made)} bands {list(made.names)}")
    bands = [dataclasses.replace(band, name=name) for band, name in zip(made, names, strict=True)]
    return dataclasses.replace(made, passbands=tuple(bands))


def _chain_file(source: str) -> Path | None:
    """The TOML file of the chain that a source means; None where it means curves. Raises ValueError for neither."""
    from xpjax.synthetic import find_passbands

    path = find_passbands(split_source(source)[0])
    described = path / "system.toml" if path.is_dir() else path
    return described if described.suffix.lower() == ".toml" and described.is_file() else None


def _chain(source: str) -> TransmissionChain:
    from xpjax.synthetic import read_chain

    described = _chain_file(source)
    assert described is not None
    return read_chain(described)


def _bands(passbands: PassbandSet, names: Sequence[str]) -> PassbandSet:
    """Some of the passbands; all where no names are given. Raises ValueError for a name that is none of them."""
    unknown = [name for name in names if name not in passbands.names]
    if unknown:
        raise XpjaxError(f"{passbands.label} has no passband {unknown[0]!r}; it has {list(passbands.names)}")
    return passbands[list(names)] if names else passbands


def _with_vega(passbands: PassbandSet, spectrum: Path) -> PassbandSet:
    """The passbands with Vega magnitudes whose zero points come from a spectrum of alpha Lyr."""
    import dataclasses

    from xpjax.core.constants import VEGA_FLUX
    from xpjax.synthetic import read_spectrum, vega_zero_point

    wavelength, flux = read_spectrum(spectrum)
    bands = []
    for band in passbands:
        vega = dataclasses.replace(band, magnitude="Vega", zero_point=None)
        meta = {**band.meta, "zero_point_from": f"{spectrum.name}, scaled to {VEGA_FLUX:g} W m-2 nm-1 at 550 nm"}
        bands.append(dataclasses.replace(vega, zero_point=vega_zero_point(vega, wavelength, flux), meta=meta))
    return dataclasses.replace(passbands, passbands=tuple(bands))


def _check_output(path: Path, overwrite: bool) -> None:
    """Refuse, before anything is computed or fetched, an output that cannot be written."""
    from xpjax.io.catalogue import check_output, expanded

    path = expanded(path)
    if path.suffix.lower() == ".ecsv":
        check_output(path, overwrite=overwrite)
    elif path.exists() and not path.is_dir():
        raise NotADirectoryError(f"the output {path} is a file; name a folder, or a file with the suffix .ecsv")
    elif path.exists() and not overwrite:
        raise FileExistsError(f"the folder {path} exists; name another one, or overwrite it with --overwrite")
    elif not path.parent.is_dir():
        raise FileNotFoundError(f"no directory {path.parent} for the folder {path.name}; make it first")


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
    status = 0
    for source in sources:
        try:
            chosen = load_passbands(source)
        except (ValueError, OSError) as exc:
            click.echo(f"{source}: cannot be read: {exc}")
            status = 2
            continue
        refused = remarks = 0
        for band in chosen:
            for serious, text in _findings(band):
                refused, remarks = refused + serious, remarks + (not serious)
                click.echo(f"{chosen.label} {band.name}: {'refused: ' * serious}{text}")
        verdict = f"{refused} refused" if refused else "all can be used"
        click.echo(
            f"{chosen.label}: {_count(chosen)}, {verdict}" + f", {remarks} remark{'s' * (remarks != 1)}" * bool(remarks)
        )
        status = max(status, int(refused > 0))
    context.exit(status)


def _findings(band: Passband) -> Iterator[tuple[bool, str]]:
    """What is to be known of a passband: whether photometry refuses it for that, and the words."""
    import numpy as np

    from xpjax.synthetic import MOSTLY, passband_system, share_outside

    try:
        passband_system(band)
    except ValueError as exc:
        yield True, str(exc)
    outside, left = share_outside(band), share_outside(band, "linear")
    if NOTABLE < outside <= MOSTLY:
        remedy = "fluxes miss that light"
        if left < 0.9 * outside:
            remedy += f"; --extrapolate linear leaves {100 * left:.2f} %"
        yield False, f"{100 * outside:.2f} % lies outside 330..1050 nm, where XP does not see: {remedy}"
    peak = float(band.transmission.max())
    bright = band.transmission > FAINT * peak
    steps = np.where(bright[1:] | bright[:-1], np.diff(band.wavelength), 0.0)
    k = int(steps.argmax())
    if steps[k] > COARSE * (1 + 1e-9):
        yield (
            False,
            f"a step of {steps[k]:g} nm at {band.wavelength[k]:g} nm: what the curve does between is interpolated; "
            f"find one sampled every {COARSE:g} nm or finer",
        )
    if band.meta.get("wavelength_unit_guessed"):
        span = f"{band.wavelength[0]:g}..{band.wavelength[-1]:g} nm"
        yield (
            False,
            f"the file states no unit of wavelengths, which were taken to be {span}; if they are not, build it "
            "with --unit",
        )
    if peak < FAINT:
        yield (
            False,
            f"the peak is {peak:.2g}: magnitudes do not depend on it, but was the curve divided by 100 twice? "
            "--normalize of `xpjax passband build` divides by the peak",
        )
    for where, end in (("begins", 0), ("ends", -1)):
        if band.transmission[end] > FAINT * peak:
            yield (
                False,
                f"the curve {where} at {band.wavelength[end]:g} nm with {100 * band.transmission[end] / peak:.3g} % of "
                "its peak: what lies beyond is not counted; lengthen the table down to zero",
            )


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
    free: float | None,
    priors: tuple[str, ...],
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
    import xpjax
    from xpjax.synthetic import observed_magnitudes

    _check_output(output, overwrite)
    start, band, label = _start(curve, free is not None)
    if not parameters:
        parameters = ["zero_point", "shift" if band is None else "filter_shift"]
    options |= {"band": band, "priors": assignments("--prior", priors), "free": free}
    options["correction"] = linear_only(options["correction"], "fit with a linear correction")
    sources, magnitude, sigma, line = observed_magnitudes(inputs, magnitudes, column, error)
    tell(line)
    if options["xp_errors"] and sources.coefficients.correlation is None:
        tell("the spectra have no errors or no correlations: the errors are those of the magnitudes")
    found = xpjax.fit_passband(sources, magnitude, sigma, start, parameters, **options)
    click.echo(str(found))
    _write(output, _fitted(found, label), overwrite)
    if not found.converged:
        click.echo("the fit did not converge: fewer parameters, or a --prior, may help", err=True)
        click.get_current_context().exit(1)


def _start(curve: str, free: bool) -> tuple[Passband | TransmissionChain, str | None, str]:
    """What the fit starts from: a passband, or a chain and its band; and the label. Raises ValueError.

    The free form is of a passband, also of one that a chain makes.
    """
    chosen = load_passbands(curve)
    if len(chosen) != 1:
        stem = split_source(curve)[0]
        remedy = f"name one, as in {stem}:{chosen.names[0]}"
        raise XpjaxError(f"--curve {curve} has the passbands {list(chosen.names)}; {remedy}")
    (name,) = chosen.names
    if free or _chain_file(curve) is None:
        return chosen[name], None, chosen.label
    return _chain(curve), name, chosen.label


def _fitted(found: PassbandFit, label: str) -> PassbandSet:
    """The fitted curve, with all that the fit found in its header."""
    import dataclasses

    from xpjax.synthetic import PassbandSet

    meta = {
        "fit_parameters": list(found.names),
        "fit_value": found.value.tolist(),
        "fit_error": found.error.tolist(),
        "fit_covariance": found.covariance.tolist(),
        "fit_chi2": found.chi2,
        "fit_degrees_of_freedom": found.degrees_of_freedom,
        "fit_stars": int(found.used.sum()),
        "fit_converged": found.converged,
        "effective_wavelength": found.effective_wavelength,
        "effective_wavelength_error": found.effective_wavelength_error,
    }
    band = dataclasses.replace(found.passband, meta={**found.passband.meta, **meta})
    return PassbandSet(f"{label}_fit", (band,), record_call(click.get_current_context()))
