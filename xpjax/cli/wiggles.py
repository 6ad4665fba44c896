"""`xpjax wiggles`: corrections of the systematic errors of XP spectra, linear ones and networks."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import click

from xpjax.cli.common import (
    EXISTING_FILE,
    FILE,
    GAIA,
    GRID,
    OVERWRITE,
    TRUNCATE,
    assignments,
    combine,
    comma_separated,
    correction_option,
    counted,
    linear_only,
    record_call,
)
from xpjax.cli.terminal import bar, tell
from xpjax.io.figures import check_figure, write_figure

KINDS, SPACES = ("additive", "multiplicative"), ("dereddened", "observed")
DUST = combine(
    click.option("--law", metavar="LAW", help="Law of the dereddening: ccm89, odonnell94, f99, ..."),
    click.option("--r-v", type=click.FloatRange(1, 10), help="R_V of the dereddening."),
    click.option("--per-ebv", type=click.FloatRange(0, 10), help="A_V per E(B-V) of the dereddening."),
)

TRAINING = combine(
    click.option("--epochs", default=1000, show_default=True, type=click.IntRange(1), help="Most epochs."),
    click.option(
        "--widths", default="small", show_default=True, help="Hidden layers: small, paper, or sizes as in 128,512,1024."
    ),
    click.option("--batch", default=512, show_default=True, type=click.IntRange(1), help="Stars in a batch, at most."),
    click.option("--learning-rate", default=1e-3, show_default=True, type=float, help="First learning rate of Adam."),
    click.option(
        "--decay", default=0.0, show_default=True, type=click.FloatRange(0), help="Decay of the weights (AdamW)."
    ),
    click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of split, weights and batches."),
)
"""How a network is trained."""


@click.group()
def wiggles() -> None:
    """Corrections of the systematic errors of XP spectra.

    \b
    Examples:
      xpjax wiggles train-linear pairs.parquet -o own.h5
      xpjax wiggles correct spectra.h5 --correction own.h5 -o corrected.h5
    """


@wiggles.command("train-linear")
@click.argument("pairs", type=EXISTING_FILE)
@click.option("--output", "-o", required=True, type=FILE, help="HDF5 file of the correction.")
@click.option("--name", help="Name of the correction, which outputs are told; by default that of OUTPUT.")
@click.option(
    "--population",
    type=EXISTING_FILE,
    help="XP coefficients of ordinary stars: what is normal; by default that of the standard correction.",
)
@click.option("--figure", type=FILE, help="Figure of the operator and of what it leaves: png, pdf or svg.")
@click.option("--learning-curve", is_flag=True, help="Train on 10, 20, ... pairs too, and tell how the error falls.")
@click.option(
    "--set", "numbers", multiple=True, metavar="NAME=NUMBER", help="Another prior or weight, as in ridge=0.03; repeat."
)
@OVERWRITE
def train_linear(
    pairs: Path,
    output: Path,
    name: str | None,
    population: Path | None,
    figure: Path | None,
    learning_curve: bool,
    numbers: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Train a linear correction on PAIRS of spectra, XP and reference.

    PAIRS is a Parquet file with a row for each star: name (or source_id), optional type; the XP spectrum as
    bp_coefficients and rp_coefficients, or sampled, as wavelength [nm] and flux [W m-2 nm-1]; and reference_wavelength
    [nm], in vacuum, with reference_flux, per wavelength and in any unit. References may be of any resolution; finer
    ones than 2 nm are averaged.

    The correction is judged by cross-validation: the table that is printed has the errors of spectra and magnitudes of
    every pair as corrected without it.

    \b
    Examples:
      xpjax wiggles train-linear pairs.parquet -o own.h5
      xpjax wiggles train-linear pairs.parquet -o own.h5 --figure own.png --learning-curve
      xpjax photometry stars.parquet --system JPLUS --correction own.h5 -o corrected.parquet
    """
    from xpjax.io.hdf5 import check_model_output
    from xpjax.wiggles import LinearSettings, read_pairs, train_linear as train
    from xpjax.xp import write_correction

    started = time.perf_counter()
    check_model_output(output, "a correction", overwrite=overwrite)
    if figure is not None:
        check_figure(figure, overwrite)
    settings = LinearSettings().changed(assignments("--set", numbers))
    data = read_pairs(pairs)
    sizes, meta = range(10, len(data), 10) if learning_curve else (), record_call(click.get_current_context())
    made = train(data, population, settings, name=output.stem if name is None else name, sizes=sizes, meta=meta)
    write_correction(output, made.correction, overwrite=overwrite)
    click.echo(made.report())
    if figure is not None:
        write_figure(made.plot(), figure)
    tell(f"{len(data)} pairs, each left out once; written to {output.name} in {time.perf_counter() - started:.0f} s")


@wiggles.command()
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=EXISTING_FILE)
@click.option("--output", "-o", required=True, type=FILE, help="HDF5 file of the features.")
@click.option(
    "--names",
    multiple=True,
    metavar="NAMES",
    callback=comma_separated,
    help="Features, separated by commas, or a set: paper (default), no-ebv, gaia, color, shape.",
)
@click.option("--ebv", metavar="COLUMN", help="Column of E(B-V).")
@GAIA
@TRUNCATE
@click.option("--errors/--no-errors", default=False, help="With errors of the synthetic magnitudes; default: no.")
@correction_option("none")
@OVERWRITE
def features(
    inputs: tuple[Path, ...], output: Path, names: list[str], correction: str, overwrite: bool, **options: Any
) -> None:
    """Make features of XP sources, which networks are trained on.

    INPUT is a file of XP coefficients. Features are magnitudes and colors: g-i, v-g-0.9(g-i), u-v-0.9(g-i), u, v, g, i
    (SkyMapper), G, BP, RP, BP-RP, BP-G, RP-G and E(B-V); the set paper is all of them. shape-1 to shape-10 (the set
    shape) are the leading components of the coefficients over their mean flux.

    --correction is the linear correction that a network trained on the features stands on: as in `xpjax spectra`.

    \b
    Examples:
      xpjax wiggles features stars.parquet --ebv ebv -o features.h5
      xpjax wiggles features stars.fits --names BP-RP,G --gaia columns -o features.h5
      xpjax wiggles features stars.fits --names shape --ebv ebv --correction standard -o features.h5
    """
    import numpy as np

    from xpjax.io.atomic import check_output
    from xpjax.wiggles import make_features, write_features

    check_output(output, overwrite=overwrite)
    linear = linear_only(correction, "a network stands on a linear correction, not on another network")
    chosen = names[0] if len(names) == 1 else names or "paper"
    made = make_features(inputs, chosen, correction=linear, float64=True, **options)
    write_features(output, made, overwrite=overwrite)
    unknown = int(np.isnan(made.value).any(axis=1).sum())
    told = f", {unknown:,} with one that is unknown" * bool(unknown)
    tell(f"{len(made.names)} features of {len(made):,} sources written to {output.name}{told}")


@wiggles.command()
@click.argument("spectra", type=EXISTING_FILE)
@click.option("--features", required=True, type=EXISTING_FILE, help="Features by source_id, with ebv.")
@click.option("--fits", type=EXISTING_FILE, help="Labels, from `xpjax labels fit`; with --grid.")
@click.option("--grid", type=GRID, metavar="NAME|FILE", help="Grid that the labels were fitted on, as ck04.")
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
def residuals(
    spectra: Path,
    features: Path,
    fits: Path | None,
    grid: str | Path | None,
    true_spectra: Path | None,
    labels: Path | None,
    output: Path,
    snr: float,
    within: tuple[str, ...],
    overwrite: bool,
    **options: Any,
) -> None:
    """Make residuals of SPECTRA against models or true spectra.

    SPECTRA is a file of `xpjax spectra`. With --fits and --grid the models are those at the fitted labels; fits with
    any fit_status are left out, and fits on another grid or with another law of dereddening are refused. With --true
    they are spectra of the same layout, interpolated to the wavelengths of SPECTRA (convolve them first). Where SPECTRA
    have a linear correction (`xpjax spectra --correction`) a network that is trained on the residuals stands on it; the
    features must then have it too (`xpjax wiggles features --correction`), and be truncated where SPECTRA are. The file
    says all of this, and how it was made. Stars are left out, and counted, for a source_id of 0 or that came before,
    missing features, low S/N, and labels that differ from the reference.

    \b
    Examples:
      xpjax wiggles residuals spectra.h5 --fits labels.fits --grid grid.h5 --labels apogee.fits --features f.h5 -o r.h5
      xpjax wiggles residuals spectra.h5 --true calspec.h5 --features f.h5 --space observed -o r.h5
    """
    from xpjax.io.atomic import check_output
    from xpjax.stellar import residuals_of_fits
    from xpjax.wiggles import Trust, residuals_of_spectra, write_residuals

    if (fits is None) != (grid is None) or (fits is None) == (true_spectra is None):
        raise click.UsageError("Give --fits with --grid, or --true.")
    if labels is not None and fits is None:
        raise click.UsageError("--labels are compared with --fits; give these.")
    check_output(output, overwrite=overwrite)
    trust = Trust(snr, assignments("--within", within))
    if grid is not None:
        found, counts = residuals_of_fits(spectra, features, fits, grid, reference=labels, trust=trust, **options)
    elif true_spectra is not None:
        found, counts = residuals_of_spectra(spectra, features, true_spectra, trust=trust, **options)
    write_residuals(output, found, overwrite=overwrite)
    out = [f"{count:12,}  {reason}" for reason, count in counts.items() if count]
    whole = f"{len(found):,} of {len(found) + sum(counts.values()):,} stars written to {output.name}"
    tell("\n".join([f"{whole}; left out:", *out] if out else [whole]))


@wiggles.command("train-network")
@click.argument("residuals", type=EXISTING_FILE)
@click.option("--output", "-o", required=True, type=FILE, help="HDF5 file of the network.")
@TRAINING
@click.option("--ensemble", default=1, show_default=True, type=click.IntRange(1), help="Number of networks.")
@click.option(
    "--features", multiple=True, metavar="NAMES", callback=comma_separated, help="Train on these features only."
)
@click.option("--kind", type=click.Choice(KINDS), help="What RESIDUALS are, if their file does not say.")
@click.option("--space", type=click.Choice(SPACES), help="Of which spectra RESIDUALS are, if their file does not say.")
@click.option("--truncate/--no-truncate", default=None, help="Whether these are truncated, if their file does not say.")
@DUST
@click.option("--figure", type=FILE, help="Figure of true, predicted and remaining patterns by color: png, pdf or svg.")
@click.option("--device", metavar="NAME", help="cpu, gpu or gpu:2; by default JAX's first.")
@OVERWRITE
def train_network(
    residuals: Path,
    output: Path,
    ensemble: int,
    features: list[str],
    figure: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Train a network on RESIDUALS of spectra.

    RESIDUALS is a file of `xpjax wiggles residuals` or a table of others. It has source_id (n), features (n, k) with an
    attribute names or columns named as features, wavelength (m) in nm, residual (n, m): true minus observed
    mean-normalized flux (or true over observed, minus one), NaN where missing; optional weight (n, m) and ebv (n). Its
    attributes say how it was made: base, the linear correction that the spectra have, on which the network stands;
    kind, space, law, r_v, per_ebv and truncate. Of files without these the options say it; an option that contradicts
    the file is refused.

    60 % of the sources are for training, 20 % for validation and 20 % for the test. While it runs, OUTPUT.checkpoint
    files hold its state: after a kill the same command goes on from there, to the same result.

    \b
    Examples:
      xpjax wiggles train-network residuals.h5 -o network.h5
      xpjax wiggles train-network residuals.h5 -o network.h5 --widths paper --device gpu --figure patterns.png
      xpjax wiggles train-network residuals.h5 -o network.h5 --widths 32,32 --features BP-RP,G --ensemble 5
    """
    from xpjax import wiggles as room
    from xpjax.io.hdf5 import check_model_output

    started = time.perf_counter()
    check_model_output(output, "a correction", overwrite=overwrite)
    if figure is not None:
        check_figure(figure, overwrite)
    data = room.read_residuals(residuals, features)
    chosen = ("epochs", "widths", "batch", "learning_rate", "decay", "seed")
    settings = room.TrainingSettings(**{name: options.pop(name) for name in chosen})
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    with bar(settings.epochs * ensemble, unit=" epochs") as shown:

        def step(step: Any) -> None:
            rms = {"training": step.loss, "validation": step.validation_loss, "best": step.best}
            told = ", ".join(f"{name} {loss**0.5:.3%}" for name, loss in rms.items())
            shown.set_postfix_str(f"RMS {told}, rate {step.learning_rate:.1e}", refresh=False)
            shown.update(1)

        meta = record_call(click.get_current_context())
        model = room.train_network(
            data, settings, names=features or None, n_network=ensemble, checkpoint=checkpoint, progress=step, meta=meta,
            **options,
        )  # fmt: skip
    room.write_network(output, model, overwrite=overwrite)
    room.remove_checkpoints(checkpoint, ensemble)
    if figure is not None:
        write_figure(room.plot_patterns(model, data), figure)
    last = f"written to {output.name} in {time.perf_counter() - started:.1f} s"
    tell("\n".join([*model.summary(), last]))


@wiggles.command()
@click.argument("spectra", type=EXISTING_FILE)
@correction_option("standard", "; or of a network, from `xpjax wiggles train-network`")
@click.option(
    "--resolution",
    type=click.Choice(["full", "xp"]),
    help="Of the output, for linear corrections: xp (default), as seen at XP's resolving power, or full.",
)
@click.option("--output", "-o", required=True, type=FILE, help="File to write; its suffix names the format.")
@click.option(
    "--features", metavar="FILE", type=EXISTING_FILE,
    help="For a network: file of `xpjax wiggles features`, or a table with such columns.",
)  # fmt: skip
@click.option(
    "--truncate/--no-truncate", default=None,
    help="For a network: SPECTRA are of truncated coefficients, or of full ones. By default as the file says.",
)  # fmt: skip
@click.option("--teff", metavar="COLUMN", help="For a network: column of SPECTRA, stars above 8000 K are left as is.")
@click.option("--mh", metavar="COLUMN", help="For a network: column of SPECTRA, stars at or below -2.5 are left as is.")
@click.option("--float64", is_flag=True, help="For a network: compute in float64; by default in float32.")
@click.option(
    "--device", "devices", metavar="NAME", help="For a network: cpu, gpu, gpu:2 or a number; by default JAX's first."
)
@OVERWRITE
def correct(
    spectra: Path, correction: str, output: Path, features: Path | None, overwrite: bool, **options: Any
) -> None:
    """Correct SPECTRA, sampled absolute XP spectra.

    SPECTRA is a file of `xpjax spectra`, the archive's XP_SAMPLED, or any HDF5, Parquet, FITS or CSV file with columns
    source_id, flux (an array in each row, W m-2 nm-1 or the unit stated), optional flux_error, and wavelength in nm or
    the unit stated, once or in each row; without it 343 samples are the archive's 336:1020:2. What a file does not say
    to be corrected is taken as published. The wavelengths stay.

    A linear correction (standard, or a file) needs nothing else: the samples give back the XP coefficients, in single
    precision those of ordinary stars where rounding leaves a choice, and these the corrected spectra. Where there are
    coefficients, `xpjax spectra --correction` is simpler and exact, with its errors. Here flux_error is scaled by what
    the correction typically does to it, good to some 15 % (25 % for bright stars). Stars far from those that the
    correction was learned from (xp_correction_distance) have a share of it and are flagged OUTSIDE_TRAINING; samples
    that are not of XP pass through, flagged NOT_CORRECTED.

    A network needs --features, matched by source_id; where they are missing or outside its range stars pass through,
    flagged NOT_CORRECTED and why.

    \b
    Examples:
      xpjax wiggles correct spectra.h5 -o corrected.h5
      xpjax wiggles correct XP_SAMPLED.csv --resolution full -o corrected.parquet
      xpjax wiggles correct spectra.h5 --correction my_linear.h5 -o corrected.h5
      xpjax wiggles correct spectra.h5 --correction network.h5 --features features.h5 --teff teff -o corrected.h5
    """
    import numpy as np

    from xpjax.core.status import Status
    from xpjax.io import catalogue
    from xpjax.io.streams import plain_suffix
    from xpjax.wiggles import correct_spectra

    started = time.perf_counter()
    catalogue.check_output(output, overwrite=overwrite, shared=["wavelength"])
    found = correct_spectra(spectra, correction, features, **options)
    found = dataclasses.replace(found, meta={**found.meta, **record_call(click.get_current_context())})
    catalogue.write(output, found, overwrite=overwrite)
    seconds = time.perf_counter() - started
    lines = [f"{len(found):,} spectra read from {spectra.name}, written to {output.name} in {seconds:.1f} s"]
    if plain_suffix(output) == ".csv":
        lines.append(f"{output.name} holds no metadata: it does not say that its spectra are corrected")
    why = Status.NOT_CORRECTED | Status.FEATURE_MISSING | Status.OUTSIDE_TRAINING | Status.OUTSIDE_LIMITS
    lines += counted(Status.counts(found.status & np.uint32(why)))
    tell("\n".join(lines))
