"""Stellar labels fitted to spectra, and what good fits teach a wiggle correction."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from xpjax.cli.common import (
    BASE,
    EXISTING_FILE,
    FILE,
    OVERWRITE,
    Progress,
    assignments,
    chosen_correction,
    comma_separated,
    correcting,
    correction_option,
    counted,
    record_call,
)
from xpjax.cli.correction import DUST, KINDS, SPACES, as_spectra
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    import numpy as np

    from xpjax.core.records import Catalogue
    from xpjax.stellar import LabelFits, LabelFitter
    from xpjax.xp import SourceTable


@click.command("fit-stars")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--grid", required=True, type=EXISTING_FILE, help="Grid of models, from `xpjax grid build`.")
@click.option("--output", "-o", required=True, type=FILE, help="File to write; its suffix names the format.")
@correction_option("standard", "; or of a network, which corrects between two fits")
@BASE
@click.option("--features", metavar="FILE", type=EXISTING_FILE, help="Features by source_id, for a network.")
@click.option("--ebv", metavar="COLUMN", help="Column of E(B-V): spectra are dereddened first. For a network too.")
@click.option("--fit-ebv", metavar="LOW:HIGH:N", help="Fit E(B-V) too, on N nodes within LOW..HIGH.")
@click.option("--truncate/--no-truncate", default=True, help="Relevant coefficients only (default: yes).")
@click.option("--covariance", is_flag=True, help="chi2 with the correlations between samples; needs --error-floor.")
@click.option("--error-floor", default=0.0, show_default=True, type=click.FloatRange(0), help="Fraction of the flux.")
@click.option(
    "--normalisation", type=click.Choice(["mean", "scale"]), default="mean", show_default=True,
    help="Divide by the mean flux, or fit the amplitude.",
)  # fmt: skip
@click.option("--continuum", default=0, show_default=True, type=click.IntRange(0, 6), help="Order; with scale only.")
@click.option("--starts", default=3, show_default=True, type=click.IntRange(1, 16), help="Starts of each fit.")
@click.option(
    "--select",
    type=click.Choice(["learn", "good", "metal-poor"]),
    help="Keep these fits only (cuts of Ye et al. 2024); metal-poor needs --ebv.",
)
@click.option("--keep", multiple=True, metavar="COLUMNS", callback=comma_separated, help="Columns to pass on.")
@click.option("--float64", is_flag=True, help="Read and compute in float64; by default in float32.")
@click.option("--device", "devices", metavar="NAME", help="cpu, gpu, gpu:2 or a number; by default JAX's first.")
@OVERWRITE
def fit_stars(
    inputs: tuple[Path, ...],
    grid: Path,
    output: Path,
    ebv: str | None,
    select: str | None,
    keep: list[str],
    devices: str | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Fit stellar labels to XP spectra: Teff, log g, [M/H], or whatever the grid has.

    INPUT is a file of XP coefficients, a store, or a file of sampled spectra (HDF5, Parquet or FITS) from `xpjax
    spectra` or laid out as `xpjax correct` says. The output has for each source the labels, their errors (LABEL_error)
    and covariances (A_B_covariance), chi2, dof, dflux_per (percent of samples off by more than 0.05), fit_status and
    xp_status. Spectra are freed from XP's systematic errors by the standard linear correction, unless --correction says
    otherwise; sampled spectra are taken as they are. With a network spectra are fitted, corrected and fitted again, and
    LABEL_before is of the first fit.

    Without correlations in the input spectra have no errors: give an --error-floor.

    \b
    Examples:
      xpjax fit-stars xp.fits --grid nextgen.h5 --ebv ebv -o labels.fits
      xpjax fit-stars store --grid nextgen.h5 --ebv ebv --error-floor 0.01 -o labels.parquet
      xpjax fit-stars spectra.h5 --grid ck04.h5 --fit-ebv 0:1:11 -o labels.h5
      xpjax fit-stars xp.fits --grid nextgen.h5 --ebv ebv --correction none -o uncorrected.fits
      xpjax fit-stars store --grid nextgen.h5 --ebv ebv --correction wiggles.h5 --select good -o good.parquet
    """
    import dataclasses

    import numpy as np

    from xpjax.core.status import FitStatus
    from xpjax.extinction import AV_PER_SFD
    from xpjax.io import catalogue
    from xpjax.stellar import selected

    started = time.perf_counter()
    catalogue.check_output(output, overwrite=overwrite)
    fitter = fitter_of(grid, ebv=ebv, **options)
    model = fitter.model
    parts = []
    with Progress([path for path in inputs if path.is_file()]) as progress:
        for path in inputs:
            parts += [fits.catalogue(kept) for fits, kept in _fits(path, fitter, keep, devices, progress)]
    whole = catalogue.concatenate(parts)
    n = len(whole)
    status = np.asarray(whole.columns["fit_status"])
    lines = []
    if select is not None:
        a_v = None if ebv is None else np.asarray(whole.columns[ebv], float) * AV_PER_SFD
        rows, warnings = selected(whole, select, model, a_v)
        whole = dataclasses.replace(whole, columns={name: column[rows] for name, column in whole.columns.items()})
        lines = [*warnings, f"{rows.sum():,} selected as {select!r}"]
    if ebv is not None and ebv not in keep:
        whole = dataclasses.replace(whole, columns={k: v for k, v in whole.columns.items() if k != ebv})
    whole = dataclasses.replace(whole, meta={**whole.meta, **record_call(click.get_current_context())})
    catalogue.write(output, whole, overwrite=overwrite)
    seconds = time.perf_counter() - started
    told = [f"{n:,} spectra fitted, {len(whole):,} rows written to {output.name}"]
    told.append(f"{np.count_nonzero(status == 0):,} converged inside the grid")
    told += counted(FitStatus.counts(status))
    tell("\n".join([*told, *lines, f"{seconds:.1f} s, {n / seconds:,.0f} spectra/s with reading"]))


FITTING = (
    *("correction", "base", "features", "ebv", "fit_ebv", "truncate", "covariance", "error_floor"),
    *("normalisation", "continuum", "starts", "float64"),
)
"""Options that say how labels are fitted."""


def fitter_of(
    grid: Path,
    *,
    correction: str,
    base: Path | None,
    features: Path | None,
    ebv: str | None,
    fit_ebv: str | None,
    normalisation: str,
    continuum: int,
    starts: int,
    **options: Any,
) -> LabelFitter:
    """What the options of `FITTING` mean. Raises ValueError and UsageError."""
    from xpjax.stellar import LabelFitter, grid_digest, interpolator, read_grid, redden

    models = read_grid(grid)
    about = {"grid": grid.name, "grid_digest": grid_digest(models)}
    if fit_ebv is not None:
        if ebv is not None:
            raise click.UsageError("--ebv takes the reddening off, --fit-ebv fits it: choose one.")
        models = redden(models, _nodes(fit_ebv))
    linear, network = chosen_correction(correction, base)
    how = correcting(network, linear, features=features, ebv=ebv if network is not None and features is None else None)
    chosen = {"normalisation": normalisation, "continuum_order": continuum, "starts": starts}
    fitted_by = linear if how is None else how
    return LabelFitter(interpolator(models), fitted_by, ebv, options=chosen, about=about, **options)


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


def _fits(
    path: Path, fitter: LabelFitter, keep: list[str], devices: str | None, progress: Progress
) -> list[tuple[LabelFits, Mapping[str, np.ndarray]]]:
    """The fits of an input, in pieces, and the columns to pass on with them."""
    import numpy as np

    import xpjax
    from xpjax.core.release import DR3
    from xpjax.io.streams import plain_suffix
    from xpjax.io.tables import open_table
    from xpjax.xp import is_store, open_store, read_sampled

    needed = [*dict.fromkeys([*keep, *fitter.columns])]
    passed = [*dict.fromkeys([*keep, *([] if fitter.ebv is None else [fitter.ebv])])]

    def kept(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: columns[name] for name in passed}

    if path.is_dir() or is_store(path):
        found: list[tuple[LabelFits, Mapping[str, np.ndarray]]] = []
        store = open_store(path)
        for file in store.files:
            absent = [name for name in needed if name not in store.columns]
            if absent:
                raise XpjaxError(f"{path} has no columns {', '.join(absent)}; it has {', '.join(store.columns)}")
            sources = file.read(errors=True, correlations=True, columns=needed)
            found.append((fitter(sources, devices=devices), kept(sources.columns)))
        return found
    if plain_suffix(path) in (".h5", ".hdf5", ".parquet", ".fits"):
        names = open_table(path).names
        if "flux" in names and not any(f"{xp}_coefficients" in names for xp in DR3.xp):
            rows = read_sampled(path, xpjax.load_instrument().wavelength)
            return [(_fit_sampled(rows, path.name, fitter, devices), kept(_with(rows, passed, path.name)))]
    dtype = np.float64 if fitter.float64 else np.float32
    table: SourceTable = xpjax.read(path, dtype=dtype, keep=needed)
    progress.read(path, len(table))
    return [(fitter(table, devices=devices, progress=progress.done), kept(table.columns))]


def _with(rows: Catalogue, names: list[str], origin: str) -> Mapping[str, np.ndarray]:
    absent = [name for name in names if name not in rows.columns]
    if absent:
        raise XpjaxError(f"{origin} has no columns {', '.join(absent)}; it has {', '.join(rows.columns)}")
    return rows.columns


def _reference(path: Path, names: list[str]) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
    """Columns of numbers of a table in which sources are looked up, with source_id; and what it says of them.

    Raises XpjaxError where there are none, or no rows.
    """
    from xpjax.io.tables import open_table
    from xpjax.xp import source_ids

    table = open_table(path)
    if not len(table):
        raise XpjaxError(f"{path.name} has no rows: no source can be found in it")
    table.load(["source_id", *names])
    kinds = {name: "temperature" if name == "teff" else None for name in names}
    return {"source_id": source_ids(table), **{n: table.column(n).numbers(kinds[n]) for n in names}}, table.meta


def _check_fits(about: Mapping[str, Any], name: str, digest: str, grid: str, dust: Mapping[str, Any]) -> None:
    """Refuse labels that say that they are of another grid, or of spectra dereddened in another way."""
    from xpjax.extinction import AV_PER_SFD, R_V

    own = str(about.get("grid_digest", digest))
    if own != digest:
        raise XpjaxError(
            f"{name}: the labels were fitted on another grid ({about.get('grid', 'of no name')}) than {grid}: give "
            "--grid that one, or fit again"
        )
    usual: dict[str, Any] = {"law": "ccm89", "r_v": R_V, "per_ebv": AV_PER_SFD}
    for key, chosen in dust.items():
        wanted = usual[key] if chosen is None else chosen
        found = about.get(key, wanted)
        if str(found) != str(wanted) and (key == "law" or abs(float(found) - float(wanted)) > 1e-6):
            raise XpjaxError(
                f"{name}: the labels are of spectra dereddened with {key} {found}, the residuals would be with {wanted}"
                f": give --{key.replace('_', '-')} {found}, or fit again"
            )


def _fit_sampled(rows: Catalogue, name: str, fitter: LabelFitter, devices: str | None) -> LabelFits:
    import numpy as np

    said = click.get_current_context().get_parameter_source("correction")
    if said is not ParameterSource.DEFAULT and (fitter.linear is not None or fitter.network is not None):
        raise XpjaxError(
            f"{name} holds sampled spectra, which are taken as they are: make them with `xpjax spectra --correction`, "
            "or correct them with `xpjax correct`, and leave --correction out here"
        )
    ebv = None if fitter.ebv is None else np.asarray(_with(rows, [fitter.ebv], name)[fitter.ebv], float)
    return fitter.fit(as_spectra(rows, name, corrected=True), ebv, devices=devices)


@click.command("make-residuals")
@click.argument("spectra", type=EXISTING_FILE)
@click.option("--features", required=True, type=EXISTING_FILE, help="Features by source_id, with ebv.")
@click.option("--fits", type=EXISTING_FILE, help="Labels, from `xpjax fit-stars`; with --grid.")
@click.option("--grid", type=EXISTING_FILE, help="The grid that they were fitted on.")
@click.option("--true", "true_spectra", type=EXISTING_FILE, help="True spectra by source_id, instead of --fits.")
@click.option("--labels", type=EXISTING_FILE, help="Reference labels by source_id: fits must agree with them.")
@click.option("--output", "-o", required=True, type=FILE, help="HDF5 file of the residuals.")
@click.option("--snr", default=70.0, show_default=True, type=float, help="Least signal-to-noise ratio.")
@click.option(
    "--within", multiple=True, default=("teff=200,logg=0.5,mh=0.5",), show_default=True, metavar="LABEL=DIFFERENCE",
    help="How far fits may be from reference labels; may be repeated.",
)  # fmt: skip
@click.option("--kind", type=click.Choice(KINDS), default="additive", show_default=True)
@click.option(
    "--space", type=click.Choice(SPACES), default="dereddened", show_default=True,
    help="Whether models are compared with dereddened spectra, or as observed.",
)  # fmt: skip
@DUST
@OVERWRITE
def make_residuals(
    spectra: Path,
    features: Path,
    fits: Path | None,
    grid: Path | None,
    true_spectra: Path | None,
    labels: Path | None,
    output: Path,
    snr: float,
    within: tuple[str, ...],
    kind: str,
    space: str,
    overwrite: bool,
    **options: Any,
) -> None:
    """Residuals of SPECTRA (from `xpjax spectra`) against best-fit models or true spectra: a training set.

    With --fits and --grid the models are those at the fitted labels; fits with any fit_status are left out, and fits on
    another grid or with another law of dereddening are refused. With --true they are spectra of the same layout,
    interpolated to the wavelengths of SPECTRA (convolve them first). Where SPECTRA have a linear correction (`xpjax
    spectra --correction`) a network that is trained on the residuals stands on it; the features must then have it too
    (`xpjax make-features --correction`), and be truncated where SPECTRA are. The file says all of this, and how it was
    made. Stars are left out, and counted, for a source_id of 0 or that came before, missing features, low S/N, and
    labels that differ from the reference.

    \b
    Examples:
      xpjax make-residuals spectra.h5 --fits labels.fits --grid grid.h5 --labels apogee.fits --features f.h5 -o r.h5
      xpjax make-residuals spectra.h5 --true calspec.h5 --features f.h5 --kind multiplicative --space observed -o r.h5
    """
    import numpy as np

    from xpjax.core.ids import places_of
    from xpjax.wiggles import read_features, residuals
    from xpjax.xp import read_sampled

    if (fits is None) != (grid is None) or (fits is None) == (true_spectra is None):
        raise click.UsageError("Give --fits with --grid, or --true.")
    if labels is not None and fits is None:
        raise click.UsageError("--labels are compared with --fits; give these.")
    if output.exists() and not overwrite:
        raise FileExistsError(f"the output {output} exists; name another file, or add --overwrite")
    made = as_spectra(read_sampled(spectra), spectra.name)
    ids = made.source_id
    stars = read_features(features).matched(ids)
    wavelength, flux, error = made.wavelength, made.flux, made.flux_error
    fitted = None
    if true_spectra is not None:
        rows = as_spectra(read_sampled(true_spectra), true_spectra.name)
        inside = (wavelength >= rows.wavelength[0] - 1e-9) & (wavelength <= rows.wavelength[-1] + 1e-9)
        true = np.full(flux.shape, np.nan)
        place = places_of(ids, rows.source_id)
        known = place >= 0
        own = np.stack([np.interp(wavelength[inside], rows.wavelength, row) for row in rows.flux])
        true[np.ix_(known, inside)] = own[place[known]]
    else:
        assert fits is not None
        assert grid is not None
        law = {"law": options["law"], "r_v": options["r_v"], "per_ebv": options["per_ebv"]}
        wavelength, flux, error, true, fitted = _best_models(made, fits, grid, law if space == "dereddened" else {})
    reference = None
    trust = residuals.Trust(snr, assignments("--within", within))
    if labels is not None:
        table, _ = _reference(labels, list(trust.differences))
        place = places_of(ids, table["source_id"])
        reference = {name: np.where(place >= 0, table[name][place], np.nan) for name in trust.differences}
    found, counts = residuals.make_residuals(
        stars, wavelength, flux, true, flux_error=error, fitted=fitted, reference=reference, trust=trust,
        base=str(made.meta.get("correction", "none")), truncate=made.meta.get("truncate"), kind=kind, space=space,
        **{name: value for name, value in options.items() if value is not None},
    )  # fmt: skip
    residuals.write_residuals(output, found, overwrite=overwrite)
    lines = [f"{len(found):,} of {len(made):,} stars written to {output.name}; left out:"]
    lines += [f"{count:12,}  {reason}" for reason, count in counts.items() if count]
    tell("\n".join(lines if len(lines) > 1 else [lines[0].removesuffix("; left out:")]))


def _best_models(made: Any, fits: Path, grid: Path, dust: Mapping[str, Any]) -> tuple[Any, ...]:
    """Wavelengths of the grid, flux and errors of the spectra there, the models at the fitted labels, the labels.

    dust: the dereddening that residuals are made with. Raises XpjaxError where the fits say that they were made on
    another grid, or with another dereddening.
    """
    import numpy as np

    from xpjax.core.ids import places_of
    from xpjax.core.status import FitStatus
    from xpjax.stellar import grid_digest, interpolated, interpolator, model_spectra, read_grid

    models = read_grid(grid)
    model = interpolator(models)
    columns, about = _reference(fits, ["fit_status", *model.names])
    _check_fits(about, fits.name, grid_digest(models), grid.name, dust)
    place = places_of(made.source_id, columns["source_id"])
    known = (place >= 0) & (columns["fit_status"][place] == int(FitStatus.OK))
    values = np.stack([columns[name][place] for name in model.names], axis=1)
    true = np.full((len(known), len(model.wavelength)), np.nan)
    true[known] = model_spectra(model, values[known])
    at = np.asarray(model.wavelength, float)
    flux = interpolated(made.wavelength, made.flux, at)
    error = None if made.flux_error is None else interpolated(made.wavelength, made.flux_error, at)
    return at, flux, error, true, {name: np.where(known, values[:, k], np.nan) for k, name in enumerate(model.names)}
