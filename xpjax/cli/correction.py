"""Wiggle corrections: training on residuals, and correcting spectra."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xpjax.cli.common import (
    EXISTING_FILE,
    FILE,
    GAIA,
    OVERWRITE,
    TRUNCATE,
    check_figure,
    combine,
    comma_separated,
    correction_option,
    counted,
    linear_only,
    record_call,
    write_figure,
)
from xpjax.cli.terminal import bar, tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from xpjax.core.records import Catalogue
    from xpjax.wiggles import Residuals, Step, WiggleCorrection
    from xpjax.xp import Spectra


KINDS, SPACES = ("additive", "multiplicative"), ("dereddened", "observed")
DUST = combine(
    click.option("--law", metavar="LAW", help="Law of the dereddening: ccm89, odonnell94, f99, ..."),
    click.option("--r-v", type=click.FloatRange(1, 10), help="R_V of the dereddening."),
    click.option("--per-ebv", type=click.FloatRange(0, 10), help="A_V per E(B-V) of the dereddening."),
)


@click.command("make-features")
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
@click.option("--errors", is_flag=True, help="With errors of the synthetic magnitudes.")
@correction_option("none")
@OVERWRITE
def make_features(
    inputs: tuple[Path, ...],
    output: Path,
    names: list[str],
    ebv: str | None,
    gaia: str,
    truncate: bool,
    errors: bool,
    correction: str,
    overwrite: bool,
) -> None:
    """Features of XP sources, by source_id: what a correction is trained on, and what it needs of each star.

    INPUT is a file of XP coefficients. Features are magnitudes and colors: g-i, v-g-0.9(g-i), u-v-0.9(g-i), u, v, g, i
    (SkyMapper), G, BP, RP, BP-RP, BP-G, RP-G and E(B-V); the set paper is all of them. shape-1 to shape-10 (the set
    shape) are the leading components of the coefficients over their mean flux.

    --correction says what a network that is trained on them stands on: the same as in `xpjax spectra`.

    \b
    Examples:
      xpjax make-features stars.parquet --ebv ebv -o features.h5
      xpjax make-features stars.fits --names BP-RP,G --gaia columns -o features.h5
      xpjax make-features stars.fits --names shape --ebv ebv --correction standard -o features.h5
    """
    import numpy as np

    import xpjax
    from xpjax.wiggles import COLUMNS, check_names, concatenate, make_features, write_features

    chosen = check_names(names[0] if len(names) == 1 else names or "paper")
    if output.exists() and not overwrite:
        raise FileExistsError(f"the output {output} exists; name another file, or add --overwrite")
    keep = [*(COLUMNS.values() if gaia == "columns" else ()), *[ebv] * (ebv is not None)]
    options: dict[str, Any] = {"ebv": ebv, "gaia": gaia, "truncate": truncate, "errors": errors, "float64": True}
    options["correction"] = linear_only(correction, "a network stands on a linear correction, not on another network")
    # File by file: coefficients and correlations take a hundred times the memory of features.
    made = concatenate(
        [make_features(xpjax.read(path, dtype=np.float64, keep=keep), chosen, **options) for path in inputs]
    )
    write_features(output, made, overwrite=overwrite)
    unknown = int(np.isnan(made.value).any(axis=1).sum())
    told = f", {unknown:,} with one that is unknown" * bool(unknown)
    tell(f"{len(made.names)} features of {len(made.source_id):,} sources written to {output.name}{told}")


@click.command("train-correction")
@click.argument("residuals", type=EXISTING_FILE)
@click.option("--output", "-o", required=True, type=FILE, help="HDF5 file of the correction.")
@click.option("--epochs", default=1000, show_default=True, type=click.IntRange(1), help="Most epochs.")
@click.option(
    "--widths", default="small", show_default=True, help="Hidden layers: small, paper, or sizes as in 128,512,1024."
)
@click.option("--batch", default=512, show_default=True, type=click.IntRange(1), help="Stars in a batch, at most.")
@click.option("--learning-rate", default=1e-3, show_default=True, type=float, help="First learning rate of Adam.")
@click.option("--decay", default=0.0, show_default=True, type=click.FloatRange(0), help="Decay of the weights (AdamW).")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of split, weights and batches.")
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
def train_correction(
    residuals: Path,
    output: Path,
    widths: str,
    ensemble: int,
    features: list[str],
    figure: Path | None,
    device: str | None,
    overwrite: bool,
    kind: str | None,
    space: str | None,
    law: str | None,
    r_v: float | None,
    per_ebv: float | None,
    truncate: bool | None,
    **options: Any,
) -> None:
    """Train a wiggle correction on RESIDUALS, a file of `xpjax make-residuals` or a table of others.

    RESIDUALS has source_id (n), features (n, k) with an attribute names or columns named as features, wavelength (m) in
    nm, residual (n, m): true minus observed mean-normalised flux (or true over observed, minus one), NaN where missing;
    optional weight (n, m) and ebv (n). Its attributes say how it was made: base, the linear correction that the spectra
    have, on which the network stands; kind, space, law, r_v, per_ebv and truncate. Of files without these the options
    say it; an option that contradicts the file is refused.

    60 % of the sources are trained on, 20 % tell when to stop and 20 % what is left. While it runs, OUTPUT.checkpoint
    files hold its state: after a kill the same command goes on from there, to the same result.

    \b
    Examples:
      xpjax train-correction residuals.h5 -o wiggles.h5
      xpjax train-correction residuals.h5 -o wiggles.h5 --widths paper --device gpu --figure patterns.png
      xpjax train-correction residuals.h5 -o wiggles.h5 --widths 32,32 --decay 0.01 --features BP-RP,G --ensemble 5
    """
    import dataclasses
    import json

    from xpjax.wiggles import (
        TrainingSettings,
        predict,
        read_residuals,
        remove_checkpoints,
        train_network,
        write_network,
    )

    started = time.perf_counter()
    _check_output(output, overwrite)
    if figure is not None:
        check_figure(figure, overwrite)
    data = read_residuals(residuals, features)
    settings = TrainingSettings(widths=_widths(widths), **options)
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    with _Epochs(settings.epochs * ensemble) as bar:
        model = train_network(
            data,
            settings,
            names=features or None,
            n_network=ensemble,
            kind=kind,
            space=space,
            law=law,
            r_v=r_v,
            per_ebv=per_ebv,
            truncate=truncate,
            checkpoint=checkpoint,
            device=device,
            progress=bar.step,
        )
    record = {**json.loads(model.record), **record_call(click.get_current_context())}
    model = dataclasses.replace(model, record=json.dumps(record))
    write_network(output, model, overwrite=overwrite)
    remove_checkpoints(checkpoint, ensemble)
    if figure is not None:
        write_figure(draw_patterns(model, data, predict(model, data.stars)), figure)
    tell(f"{_trained(model, record)}written to {output.name} in {time.perf_counter() - started:.1f} s")


def _trained(model: WiggleCorrection, record: dict[str, Any]) -> str:
    """A summary of a training, with what it gained."""
    epochs = [len(history) for history in record["history"]]
    start = "uncorrected spectra" if model.base == "none" else f"the linear correction {model.base}"
    verdict = ""
    if not record["test_rms_after"] < record["test_rms_before"]:
        verdict = f"NO GAIN: on the test stars the network does not beat {start}, which it starts from; do not use it\n"
    return (
        f"{record['n_star']:,} stars ({', '.join(f'{n:,}' for n in record['n_split'])} to train, judge and test), "
        f"{sum(record['n_dropped'].values()):,} left out; {model.networks[0].n_weight:,} weights, "
        f"{' + '.join(map(str, epochs))} epochs\n"
        f"RMS of the test stars' normalised flux: {record['test_rms_before']:.3%} before, "
        f"{record['test_rms_after']:.3%} after; it starts from {start}\n{verdict}"
    )


def _check_output(output: Path, overwrite: bool) -> None:
    """Refuse, before anything is computed, a file that cannot be written."""
    if output.suffix.lower() not in (".h5", ".hdf5"):
        raise XpjaxError(f"{output.name}: a correction is an HDF5 file, .h5")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"no directory {output.parent} for {output.name}; make it first")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; name another file with --output, or add --overwrite")


def _widths(text: str) -> tuple[int, ...]:
    from xpjax.wiggles import WIDTHS

    if text in WIDTHS:
        return WIDTHS[text]
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise XpjaxError(f"--widths {text!r}: give {', '.join(WIDTHS)}, or sizes as in 128,512") from None


class _Epochs:
    """A bar over epochs with the losses; a line now and then where there is no terminal."""

    def __init__(self, total: int) -> None:
        self.bar = bar(total, unit=" epochs")

    def __enter__(self) -> _Epochs:
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.close()

    def step(self, step: Step) -> None:
        """After an epoch."""
        rms = {"train": step.loss**0.5, "judge": step.validation_loss**0.5, "best": step.best**0.5}
        shown = ", ".join(f"{name} {value:.3%}" for name, value in rms.items())
        self.bar.set_postfix_str(f"RMS {shown}, rate {step.learning_rate:.1e}", refresh=False)
        self.bar.update(1)


def draw_patterns(model: WiggleCorrection, data: Residuals, predicted: np.ndarray) -> Figure:
    """True, predicted and remaining patterns by color: median and 16..84 % of stars, as in Ye et al. (2024)."""
    import itertools

    import numpy as np
    from matplotlib.figure import Figure

    residual = np.asarray(data.residual, float)
    color = data.features[:, data.names.index("BP-RP")] if "BP-RP" in data.names else np.zeros(len(data))
    known = np.isfinite(color)
    edges = np.unique(np.quantile(color[known], np.linspace(0, 1, 5))) if known.any() else np.zeros(1)
    groups = [(color >= a) & (color <= b) for a, b in itertools.pairwise(edges)] or [known]
    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True, sharey=True)
    rows = (("true", residual), ("predicted", predicted), ("remaining", residual - predicted))
    for axis, (title, value) in zip(axes, rows, strict=True):
        for k, group in enumerate(groups):
            chosen = value[group & np.isfinite(value).any(axis=1)]
            if not len(chosen):
                continue
            low, middle, high = np.nanpercentile(chosen, [16, 50, 84], axis=0)
            shade = f"C{k}"
            label = f"BP-RP {edges[k]:.2f}..{edges[k + 1]:.2f}" if len(edges) > 1 else "all"
            axis.fill_between(data.wavelength, low, high, color=shade, alpha=0.2, lw=0)
            axis.plot(data.wavelength, middle, color=shade, lw=1, label=label)
        axis.axhline(0, color="0.5", lw=0.5)
        axis.set_ylabel(title)
    axes[0].legend(fontsize="small", ncols=2)
    axes[0].set_title("Residuals of mean-normalised flux")
    axes[-1].set_xlabel("wavelength [nm]")
    return figure


@click.command()
@click.argument("spectra", type=EXISTING_FILE)
@correction_option("standard", "; or of a network, from `xpjax train-correction`")
@click.option(
    "--resolution",
    type=click.Choice(["full", "xp"]),
    help="Of the output, for linear corrections: xp (default), as seen at XP's resolving power, or full.",
)
@click.option("--output", "-o", required=True, type=FILE, help="File to write; its suffix names the format.")
@click.option(
    "--features", type=EXISTING_FILE, help="For a network: file of `xpjax make-features`, or a table with such columns."
)
@click.option(
    "--truncate/--no-truncate", default=None,
    help="For a network: SPECTRA are of truncated coefficients, or of full ones. By default as the file says.",
)  # fmt: skip
@click.option("--teff", metavar="COLUMN", help="For a network: column of SPECTRA, stars above 8000 K are left as is.")
@click.option("--mh", metavar="COLUMN", help="For a network: column of SPECTRA, stars at or below -2.5 are left as is.")
@click.option("--float64", is_flag=True, help="For a network: compute in float64; by default in float32.")
@click.option("--device", metavar="NAME", help="For a network: cpu, gpu, gpu:2 or a number; by default JAX's first.")
@OVERWRITE
def correct(
    spectra: Path,
    correction: str,
    resolution: str | None,
    output: Path,
    features: Path | None,
    truncate: bool | None,
    teff: str | None,
    mh: str | None,
    float64: bool,
    device: str | None,
    overwrite: bool,
) -> None:
    """Correct SPECTRA, sampled absolute XP spectra that are not corrected, on their own wavelengths.

    SPECTRA is a file of `xpjax spectra`, the archive's XP_SAMPLED, or any HDF5, Parquet, FITS or CSV file with columns
    source_id, flux (an array in each row, W m-2 nm-1 or the unit stated), optional flux_error, and wavelength in nm or
    the unit stated, once or in each row; without it 343 samples are the archive's 336:1020:2. What a file does not say
    to be corrected is taken as published.

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
      xpjax correct spectra.h5 -o corrected.h5
      xpjax correct XP_SAMPLED.csv --resolution full -o corrected.parquet
      xpjax correct spectra.h5 --correction my_linear.h5 -o corrected.h5
      xpjax correct spectra.h5 --correction wiggles.h5 --features features.h5 --teff teff --mh mh -o corrected.h5
    """
    import dataclasses

    import numpy as np

    import xpjax
    from xpjax.core.status import Status
    from xpjax.io import catalogue
    from xpjax.io.streams import plain_suffix
    from xpjax.wiggles import read_network
    from xpjax.xp import NONE, STANDARD, check_uncorrected, correct_samples, is_linear, load_correction, read_sampled

    started = time.perf_counter()
    catalogue.check_output(output, overwrite=overwrite, shared=["wavelength"])
    # By its name alone: spectra that a network stands on say which linear correction they have.
    plain = correction in (STANDARD, NONE) or is_linear(correction)
    linear = load_correction(correction) if plain else None
    network = None if plain else read_network(correction)
    others = teff or mh or float64 or device or truncate is not None
    _check_kind(correction, linear, network, resolution, features, others)
    table = read_sampled(spectra, xpjax.load_instrument().wavelength)
    record = as_spectra(table, spectra.name)
    if network is not None:
        record = _with_truncation(record, truncate, spectra.name)
    distance = None
    if network is not None:
        found = _by_network(record, network, features, table, spectra.name, {"teff": teff, "mh": mh}, float64, device)
    else:
        check_uncorrected(record, spectra.name)
        result = correct_samples(record, linear, resolution or "xp")
        found, distance = result.spectra, result.distance
    written = _with_corrected(table, found, distance)
    meta = {**written.meta, **record_call(click.get_current_context())}
    catalogue.write(output, dataclasses.replace(written, meta=meta), overwrite=overwrite)
    seconds = time.perf_counter() - started
    lines = [f"{len(table):,} spectra read from {spectra.name}, written to {output.name} in {seconds:.1f} s"]
    if plain_suffix(output) == ".csv":
        lines.append(f"{output.name} holds no metadata: it does not say that its spectra are corrected")
    why = Status.NOT_CORRECTED | Status.FEATURE_MISSING | Status.OUTSIDE_TRAINING | Status.OUTSIDE_LIMITS
    lines += counted(Status.counts(found.status & np.uint32(why)))
    tell("\n".join(lines))


def _with_corrected(table: Catalogue, found: Spectra, distance: np.ndarray | None) -> Catalogue:
    """A table of spectra with corrected ones in their place; distance (n,): with a linear correction."""
    import dataclasses

    from xpjax.core.status import Status
    from xpjax.xp import DISTANCE_MEANING

    columns, told = dict(table.columns), {**table.descriptions, "xp_status": Status.legend()}
    gone = ("xp_correction_distance", "xp_status", *["correlation"] * (distance is not None))
    for name in gone:
        columns.pop(name, None)
    meta: dict[str, Any] = {**table.meta, "truncate": found.meta.get("truncate")}
    if distance is None:
        meta["corrected"] = True
    else:
        columns["xp_correction_distance"], told["xp_correction_distance"] = distance, DISTANCE_MEANING
        meta |= {key: found.meta[key] for key in ("correction", "resolution")}
    columns["flux"] = found.flux
    if found.flux_error is not None:
        columns["flux_error"] = found.flux_error
    columns["xp_status"] = found.status
    meta = {name: value for name, value in meta.items() if value is not None}
    return dataclasses.replace(table, columns=columns, descriptions=told, meta=meta)


def _check_kind(
    correction: str, linear: Any, network: Any, resolution: str | None, features: Path | None, others: Any
) -> None:
    """Refuse options that are for the other kind of correction, and none at all."""
    if network is None and linear is None:
        raise click.UsageError("--correction none leaves spectra as they are; name standard or a file.")
    if network is not None and features is None:
        raise click.UsageError(
            f"{Path(correction).name} is a network: give --features (`xpjax make-features`), or --correction standard."
        )
    if network is not None and resolution is not None:
        raise click.UsageError("--resolution is for linear corrections; a network keeps that of the spectra.")
    if network is None and (features is not None or others):
        raise click.UsageError(
            "--features, --truncate, --teff, --mh, --float64 and --device are for networks: leave them out."
        )


def _with_truncation(record: Spectra, truncate: bool | None, name: str) -> Spectra:
    """Spectra that say whether they are truncated, by their file or by an option. Raises XpjaxError."""
    import dataclasses

    own = record.meta.get("truncate")
    if own is None and truncate is None:
        raise XpjaxError(
            f"{name} does not say whether its spectra are of truncated coefficients, which a network must know: add "
            "--truncate or --no-truncate"
        )
    if own is not None and truncate not in (None, own):
        raise XpjaxError(
            f"{name} holds {'truncated' if own else 'full'} spectra, as it says; leave --{'no-' * own}truncate out"
        )
    return dataclasses.replace(record, meta={**record.meta, "truncate": bool(truncate if own is None else own)})


def _by_network(
    record: Spectra,
    network: WiggleCorrection,
    features: Path | None,
    table: Catalogue,
    name: str,
    labels: dict[str, str | None],
    float64: bool,
    device: str | None,
) -> Spectra:
    import numpy as np

    from xpjax.wiggles import correct_spectra, read_features

    assert features is not None
    stars = read_features(features, network.names).matched(record.source_id)
    known: dict[str, Any] = {}
    for key, column in labels.items():
        if column is not None:
            if column not in table.columns:
                raise XpjaxError(f"{name} has no column {column}; it has {list(table.columns)}")
            known[key] = np.asarray(table.columns[column], float)
    return correct_spectra(record, network, stars, float64=float64, devices=device, **known)


def as_spectra(table: Catalogue, name: str, corrected: bool = False) -> Spectra:
    """The spectra in a file that `xpjax spectra` wrote; corrected: they may be. Raises ValueError for another."""
    import numpy as np

    from xpjax.core.release import DR3
    from xpjax.xp import Spectra

    absent = [key for key in ("source_id", "flux") if key not in table.columns]
    if absent or "wavelength" not in table.shared or table.columns["flux"].ndim != 2:
        missing = absent or ["wavelength"]
        raise XpjaxError(f"{name} holds no sampled spectra (no {', '.join(missing)}): make it with `xpjax spectra`")
    if "xp" in table.columns:
        raise XpjaxError(f"{name} holds internal spectra; corrections are for absolute ones (no --internal)")
    meta: dict[str, Any] = {key: bool(table.meta[key]) for key in ("truncate",) if key in table.meta}
    meta |= {key: str(table.meta[key]) for key in ("correction", "resolution") if key in table.meta}
    if "xp_correction_distance" in table.columns:  # CSV, say, holds no name of the correction
        meta.setdefault("correction", "of no name")
    if table.meta.get("corrected") and not corrected:
        raise XpjaxError(f"{name} is already corrected")
    return Spectra(
        np.asarray(table.columns["source_id"]),
        np.asarray(table.shared["wavelength"], float),
        table.columns["flux"],
        table.columns.get("flux_error"),
        None,
        np.asarray(table.columns.get("xp_status", np.zeros(len(table))), np.uint32),
        DR3,
        meta=meta,
    )
