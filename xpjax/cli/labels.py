"""Stellar labels fitted to spectra, and the grids of models that they are fitted on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from xpjax.cli.archive import ASKED, ASKING, Asked, asked
from xpjax.cli.common import (
    BASE,
    EXISTING_FILE,
    FILE,
    GRID,
    OVERWRITE,
    Progress,
    combine,
    comma_separated,
    correction_option,
    record_call,
)
from xpjax.cli.terminal import bar, tell
from xpjax.core.errors import XpjaxError
from xpjax.io.figures import check_figure, write_figure

if TYPE_CHECKING:
    import numpy as np

    from xpjax.stellar import LabelFitter


@click.group()
def labels() -> None:
    """Stellar labels of XP spectra, and grids of model spectra.

    \b
    Examples:
      xpjax labels fit xp.fits -o labels.fits
      xpjax labels grid build nextgen nextgen.npz -o grid.h5
      xpjax labels fit xp.fits --grid grid.h5 --ebv ebv -o labels.fits
    """


FIT_OPTIONS = combine(
    click.option(
        "--grid", default="ck04", show_default=True, type=GRID, metavar="NAME|FILE",
        help="Grid of models: ck04, which is shipped, or a file of `xpjax labels grid build`.",
    ),
    correction_option("standard", "; or of a network, which corrects between two fits"),
    BASE,
    click.option("--features", metavar="FILE", type=EXISTING_FILE, help="Features by source_id, for a network."),
    click.option(
        "--ebv", metavar="COLUMN|NUMBER",
        help="E(B-V) that spectra are freed from first, such as a column of `xpjax ebv`; by default it is fitted. A "
        "column is for a network too.",
    ),
    click.option(
        "--fit-ebv", metavar="LOW:HIGH:N",
        help="Fit E(B-V) on N nodes within LOW..HIGH, without a prior unless --prior names one; by default within "
        "-0.1..1.7 with --prior ebv=layer.",
    ),
    click.option(
        "--prior", "priors", multiple=True, metavar="LABEL=MEAN,ERROR",
        help="Gaussian prior of a label, of numbers or columns, as in ebv=ebv,ebv_error or rv=3.1,0.2, which fits R_V; "
        "ebv=layer: that of dust at the latitude of source_id; LABEL=none: none. May be repeated.",
    ),
    click.option(
        "--parallax", metavar="COLUMN",
        help="Column of the parallax, its error being COLUMN_error: a prior of log g by the luminosity.",
    ),
    click.option("--law", metavar="LAW", help="Reddening law: ccm89 (default), odonnell94, f19, ..."),
    click.option("--truncate/--no-truncate", default=None, help="Relevant coefficients only, or all; errors are of "
                 "all. Default: relevant ones."),
    click.option("--covariance", is_flag=True, help="chi2 with the correlations between samples; needs --error-floor."),
    click.option(
        "--error-floor", default=0.0, show_default=True, type=click.FloatRange(0), help="Fraction of the flux."
    ),
    click.option(
        "--normalization", type=click.Choice(["mean", "scale"]), default="mean", show_default=True,
        help="Divide by the mean flux, or fit the amplitude.",
    ),
    click.option(
        "--continuum", default=0, show_default=True, type=click.IntRange(0, 6), help="Order; with scale only."
    ),
    click.option("--systematic/--no-systematic", default=True, show_default=True,
                 help="Count the errors that the grid says are common to stars."),
    click.option("--doubt/--no-doubt", default=True, show_default=True,
                 help="Count the errors of interpolating the grid, where it knows them."),
    click.option("--starts", default=3, show_default=True, type=click.IntRange(1, 16), help="Starts of each fit."),
    click.option(
        "--posterior", default=0, metavar="N", type=click.IntRange(0, 10_000),
        help="N draws of each star's labels from their posterior, as columns LABEL_draws; for some hundreds of stars.",
    ),
    click.option("--float64", is_flag=True, help="Read and compute in float64; by default in float32."),
    click.option("--keep", multiple=True, metavar="COLUMNS", callback=comma_separated, help="Columns to pass on."),
    click.option("--device", "devices", metavar="NAME", help="cpu, gpu, gpu:2 or a number; by default JAX's first."),
)  # fmt: skip
"""Options of fits, also of catalogues of labels."""


@labels.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--output", "-o", required=True, type=FILE, help="File to write; its suffix names the format.")
@ASKING
@FIT_OPTIONS
@click.option(
    "--select",
    type=click.Choice(["learn", "good", "metal-poor"]),
    help="Keep these fits only (cuts of Ye et al. 2024); metal-poor needs --ebv.",
)
@OVERWRITE
def fit(
    inputs: tuple[Path, ...], output: Path, select: str | None, keep: list[str], overwrite: bool, **options: Any
) -> None:
    """Fit Teff, log g, [M/H], or whatever labels a grid has, to spectra.

    INPUT is a file of XP coefficients, a store, or a file of sampled spectra (HDF5, Parquet or FITS) from `xpjax
    spectra` or laid out as `xpjax wiggles correct` says; or --ids names the sources, and their spectra are fetched from
    the Gaia archive (see `xpjax fetch`). The output has for each source the labels, their errors
    (LABEL_error) and covariances (A_B_covariance), chi2, dof, dflux_per (percentage of samples off by more than 0.05),
    fit_status and xp_status. E(B-V) is a label too, with a weak prior, unless --ebv names it. Spectra are freed from
    XP's systematic errors by the standard linear correction, unless --correction says otherwise; sampled spectra are
    taken as they are. With a network spectra are fitted, corrected and fitted again, and LABEL_before is of the first
    fit.

    Without correlations in the input spectra have no errors: give an --error-floor.

    \b
    Examples:
      xpjax labels fit xp.fits -o labels.fits
      xpjax labels fit xp.fits --prior ebv=ebv,ebv_error --parallax parallax -o labels.fits
      xpjax labels fit store --grid nextgen.h5 --ebv ebv --error-floor 0.01 -o labels.parquet
      xpjax labels fit --ids stars.csv --grid nextgen.h5 --fit-ebv 0:1:11 -o labels.parquet
      xpjax labels fit spectra.h5 --fit-ebv 0:1:11 -o labels.h5
      xpjax labels fit xp.fits --grid nextgen.h5 --ebv ebv --correction none -o uncorrected.fits
      xpjax labels fit store --grid nextgen.h5 --ebv ebv --correction wiggles.h5 --select good -o good.parquet
    """
    import dataclasses

    import numpy as np

    from xpjax.io import catalogue
    from xpjax.stellar import fit_label_files, select_labels
    from xpjax.xp import TRANSIT

    started, context = time.perf_counter(), click.get_current_context()
    catalogue.check_output(output, overwrite=overwrite)
    devices, archive = options.pop("devices"), {name: options.pop(name) for name in ASKED}
    fitter = fitter_of(**options)
    sources = asked(inputs, output, None, archive)
    given = [one.fetch(fitter.check) if isinstance(one, Asked) else one for one in sources]
    how = {"keep": keep, "release": archive["release"], "devices": devices}
    with Progress([one for one in sources if isinstance(one, Asked) or one.is_file()]) as progress:

        def done(path: Path, n: int, of: int) -> None:
            progress.read(path if inputs else sources[0], of) if n == 0 else progress.done(n)

        fits = fit_label_files(given, fitter, progress=done, **how)
    n, counts = len(fits), fitter.summary(fits)
    lines = []
    if select is not None:
        dust = "ebv" if fitter.ebv is None else fitter.ebv
        each = dust if isinstance(dust, str) else np.full(n, dust)
        rows, warnings = select_labels(fits, select, fitter.interpolator, each)
        fits = fits[rows]
        lines = [*warnings, f"{rows.sum():,} selected as {select!r}"]
    columns = {name: column for name, column in fits.columns.items() if name in (*TRANSIT, *keep)}
    fits = dataclasses.replace(fits, columns=columns, meta={**fits.meta, **record_call(context)})
    catalogue.write(output, fits, overwrite=overwrite)
    seconds = time.perf_counter() - started
    told = [f"{n:,} spectra fitted, {len(fits):,} rows written to {output.name}"]
    tell("\n".join([*told, *counts, *lines, f"{seconds:.1f} s, {n / seconds:,.0f} spectra/s with reading"]))


def fitter_of(
    grid: str | Path,
    *,
    correction: str,
    features: Path | None,
    ebv: str | None,
    fit_ebv: str | None,
    priors: Sequence[str],
    law: str | None,
    **options: Any,
) -> LabelFitter:
    """What `FIT_OPTIONS` mean, without keep and devices. Raises ValueError and UsageError."""
    from xpjax.stellar import DEFAULT_CORRECTION as DEFAULT, LabelFitter
    from xpjax.wiggles import choose_correction, is_network

    nodes = None if fit_ebv is None else _nodes(fit_ebv)
    value = None if ebv is None else _value(ebv)
    column = ebv if features is None and isinstance(value, str) and is_network(correction) else None
    named = click.get_current_context().get_parameter_source("correction") is not ParameterSource.DEFAULT
    chosen = choose_correction(correction, base=options.pop("base"), features=features, ebv=column)
    how = {name: options.pop(name) for name in ("normalization", "starts", "systematic", "doubt")}
    how |= {"continuum_order": options.pop("continuum"), **({} if law is None else {"law": law})}
    known = dict(map(_prior, priors))
    return LabelFitter(grid, chosen if named else DEFAULT, value, nodes, options=how, priors=known, **options)


def _value(text: str) -> str | float:
    """A number, or the name of a column."""
    try:
        return float(text)
    except ValueError:
        return text


def _prior(text: str) -> tuple[str, tuple[str | float, str | float] | str | None]:
    """LABEL=MEAN,ERROR, LABEL=none or LABEL=layer as the label and what is known of it."""
    label, _, known = (part.strip() for part in text.partition("="))
    pair = tuple(_value(part.strip()) for part in known.split(","))
    if label and known in ("none", "layer"):
        return label, None if known == "none" else known
    if not label or len(pair) != 2 or "" in pair:
        raise XpjaxError(f"--prior {text!r}: expected LABEL=MEAN,ERROR, as in ebv=ebv,ebv_error, or LABEL=none")
    return label, (pair[0], pair[1])


def _nodes(text: str) -> np.ndarray:
    """LOW:HIGH:N as nodes."""
    import numpy as np

    try:
        low, high, n = text.split(":")
        nodes = np.linspace(float(low), float(high), int(n))
    except ValueError:
        raise XpjaxError(f"--fit-ebv {text!r}: expected LOW:HIGH:N, as in 0:1:11") from None
    if len(nodes) < 2 or not nodes[0] < nodes[-1]:
        raise XpjaxError(f"--fit-ebv {text!r}: LOW must be below HIGH, and N two or more")
    return nodes


@labels.group()
def grid() -> None:
    """Grids of model spectra: build, describe, draw.

    A grid file is HDF5: flux (a spectrum for each node, divided by its mean, NaN where there is none), wavelength and
    nodes/LABEL.
    """


BUILD_OPTIONS = combine(
    click.option(
        "--resolution", default="104", show_default=True, metavar="R|xp|own|FILE",
        help="Resolving power lambda/FWHM: a number; xp, that of XP spectra from the instrument model; a file of "
        "wavelength in nm and R; own, as it is in the library.",
    ),
    click.option(
        "--sampling", type=click.Choice(["log330", "variable", "coefficients"]), default="log330", show_default=True,
        help="330 samples on 360..990 nm; 270 with steps as R(lambda); XP coefficients, best with --resolution "
        "own.",
    ),
    click.option(
        "--limits", multiple=True, metavar="LABEL=LOW:HIGH[:STEP]",
        help="Take models within these limits only, and on steps from LOW; may be repeated.",
    ),
    click.option(
        "--fill/--no-fill", default=True,
        help="Interpolate holes between models and next to them, with an error (default: yes).",
    ),
    click.option(
        "--compact", type=click.FloatRange(0, 0.1), metavar="FRACTION",
        help="Write principal components that leave out this RMS, such as 5e-5, not the spectra.",
    ),
    click.option("--nlte", is_flag=True, help="nextgen: the non-LTE models."),
    click.option("--medium", type=click.Choice(["vacuum", "air"]), help="ferre, files: where wavelengths are."),
    click.option("--per", type=click.Choice(["wavelength", "frequency"]), help="ferre, files: what flux is per."),
    click.option("--pattern", metavar="TEXT", help="files: names of files, as in 'lte{teff}-{logg}{mh}*'."),
    click.option("--keyword", "keywords", multiple=True, metavar="LABEL=KEY", help="files: a label's FITS keyword."),
    click.option("--wavelengths", type=EXISTING_FILE, help="files: a file with the wavelengths of all."),
    click.option("--flux-column", type=click.IntRange(1), help="files: of text with --wavelengths, if it has several."),
    click.option("--unit", help="files: of wavelengths, nm or Angstrom, if files are silent."),
    click.option("--own-resolution", type=float, help="files: lambda/FWHM that the spectra have already."),
)  # fmt: skip
"""How spectra are sampled, and what the files of a library may not say."""


@grid.command()
@click.argument("format", metavar="FORMAT", type=click.Choice(["ck04", "nextgen", "ferre", "files"]))
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--output", "-o", required=True, type=FILE, help="HDF5 file of the grid.")
@BUILD_OPTIONS
@OVERWRITE
def build(
    format: str,
    path: Path,
    output: Path,
    limits: tuple[str, ...],
    compact: float | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Build a grid from a library of model spectra at PATH.

    \b
    FORMAT is
      ck04     Castelli & Kurucz 2004, the folder with ckm25 .. ckp05 as STScI distributes it
      nextgen  NextGen spectra in one .npz file: teff, logg, mh, wave_nm, flux
      ferre    a text grid of FERRE, with its header &SYNTH
      files    a folder with a FITS or text file for each spectrum: see --pattern, --keyword, --medium

    Wavelengths in air become vacuum wavelengths. Options say what files do not say themselves; where both do and
    differ, nothing is built. Combinations of labels without a model are filled in from the models around, where an
    error of 2 % is expected at most; others are holes. Both are told, as are the labels found: look whether their signs
    and decimals are right.

    \b
    Examples:
      xpjax labels grid build nextgen nextgen.npz -o grid.h5 --limits teff=4000:7000:200 --limits logg=3.5:5 \\
        --limits mh=-1.5:0:0.5
      xpjax labels grid build ck04 ck04models/ -o ck04.h5 --resolution xp --sampling variable
      xpjax labels grid build files phoenix/ -o p.h5 --pattern 'lte{teff}-{logg}{mh}.PHOENIX*' --medium vacuum \\
        --wavelengths WAVE_PHOENIX.fits --unit Angstrom
    """
    from xpjax.io.hdf5 import check_model_output
    from xpjax.stellar import build_grid, describe_grid, write_grid

    started = time.perf_counter()
    check_model_output(output, "a grid", overwrite=overwrite)
    with bar(unit=" models") as shown:
        made = build_grid(
            format,
            path,
            resolution=options.pop("resolution"),
            limits=limits_of(limits),
            progress=lambda n: shown.update(n - shown.n),
            fill=options.pop("fill"),
            **_options(options),
        )
    write_grid(made, output, compact=compact or 0.0, overwrite=overwrite)
    seconds = time.perf_counter() - started
    tell(f"{describe_grid(made, brief=True)}\nwritten to {output.name} in {seconds:.1f} s")


def limits_of(texts: Sequence[str]) -> dict[str, list[float | None]]:
    """Limits by label of LABEL=LOW:HIGH[:STEP]; LOW and HIGH may be left out."""
    found: dict[str, list[float | None]] = {}
    for text in texts:
        name, _, span = text.partition("=")
        parts = span.split(":")
        try:
            values = [float(part) if part.strip() else None for part in parts]
        except ValueError:
            values = []
        if not 2 <= len(values) <= 3 or not name.strip():
            raise XpjaxError(f"--limits {text!r}: expected LABEL=LOW:HIGH or LABEL=LOW:HIGH:STEP, as in teff=4000:7000")
        found[name.strip()] = values
    return found


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as the readers call them."""
    keywords = dict(text.partition("=")[::2] for text in options.pop("keywords"))
    if "" in {*keywords, *keywords.values()}:
        raise XpjaxError("--keyword: expected LABEL=KEY, as in teff=PHXTEFF")
    return {name: value for name, value in {**options, "keywords": keywords}.items() if value}


@grid.command()
@click.argument("file", metavar="GRID", type=GRID)
@click.argument("sources", metavar="INPUT", type=click.Path(exists=True, path_type=Path))
@click.argument("known", metavar="LABELS", type=EXISTING_FILE)
@click.option("--output", "-o", required=True, type=FILE, help="HDF5 file of the grid with these errors.")
@correction_option("standard")
@click.option("--law", default="ccm89", show_default=True, metavar="LAW", help="Reddening law.")
@click.option(
    "--templates", default=40, show_default=True, type=click.IntRange(1, 200),
    help="At most so many for each range of colors: fewer are faster, and leave errors out.",
)  # fmt: skip
@click.option("--folds", default=5, show_default=True, type=click.IntRange(2, 50), help="Parts that are left out.")
@OVERWRITE
def learn(
    file: str | Path, sources: Path, known: Path, output: Path, correction: str, overwrite: bool, **options: Any
) -> None:
    """Learn what a grid and XP spectra are wrong by in all stars alike.

    INPUT holds XP coefficients of bright stars, LABELS what is known of them otherwise, as from spectroscopy: by
    source_id, in columns named as the grid's labels, and their E(B-V) as ebv; errors in LABEL_error. Fits on the grid
    that is written count these errors beside the noise. What stars are off by that were left out is told, and kept.

    \b
    Example:
      xpjax labels grid learn grid.h5 xp.fits apogee.fits -o learned.h5
    """
    from xpjax.io.hdf5 import check_model_output
    from xpjax.stellar import DEFAULT_CORRECTION, describe_grid, learn_errors, write_grid

    started = time.perf_counter()
    check_model_output(output, "a grid", overwrite=overwrite)
    named = click.get_current_context().get_parameter_source("correction") is not ParameterSource.DEFAULT
    options["correction"] = correction if named else DEFAULT_CORRECTION
    with bar(unit=" rounds") as shown:
        made = learn_errors(file, sources, known, progress=lambda n: shown.update(n - shown.n), **options)
    write_grid(made, output, overwrite=overwrite)
    evidence = describe_grid(made).partition("errors common to stars")
    seconds = time.perf_counter() - started
    tell("".join(evidence[1:]) + f"\nwritten to {output.name} in {seconds:.1f} s")


@grid.command()
@click.argument("file", metavar="GRID", type=GRID)
@click.option("--holes", "every", is_flag=True, help="List every hole.")
def info(file: str | Path, every: bool) -> None:
    """Describe a grid: labels, holes, origin, errors of left-out models.

    \b
    Examples:
      xpjax labels grid info ck04
      xpjax labels grid info grid.h5 --holes
    """
    from xpjax.stellar import describe_grid, read_grid

    click.echo(describe_grid(read_grid(file), every_hole=every))


@grid.command()
@click.argument("file", metavar="GRID", type=GRID)
@click.option("--output", "-o", required=True, type=FILE, help="Figure to write: png, pdf or svg.")
@OVERWRITE
def plot(file: str | Path, output: Path, overwrite: bool) -> None:
    """Draw a grid: spectra along each label, and where it has holes.

    \b
    Example:
      xpjax labels grid plot grid.h5 -o grid.png
    """
    from xpjax.plot import plot_grid
    from xpjax.stellar import read_grid

    check_figure(output, overwrite)
    write_figure(plot_grid(read_grid(file)), output)
    tell(f"wrote {output}")
