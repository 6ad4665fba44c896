"""From a store to a catalogue, in parts that survive whatever happens to the machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xpjax.cli import compute
from xpjax.cli.common import RELEASE, asked_bands, one_of_many, print_table
from xpjax.cli.labels import FIT_OPTIONS, fitter_of
from xpjax.cli.terminal import bar, tell

if TYPE_CHECKING:
    from xpjax.catalogue import RunEstimate, RunReport
    from xpjax.xp import Store

SHARED = (*compute.BANDS, "columns", "error_correction", "truncate", "errors", "float64", "keep", "devices")
"""Options that mean the same as in `xpjax photometry`, from which they are taken."""
LOOKS = 10.0
"""Seconds between looks at the space that an output takes."""


class RunByDefault(click.Group):
    """A group whose first word may be a store: `run` is then understood."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments, with `run` before them unless they name a command or ask for help."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=RunByDefault)
def catalogue() -> None:
    """Catalogues of whole stores: photometry or labels, resumable.

    `xpjax catalogue STORE ...` is short for `xpjax catalogue run STORE ...`.

    \b
    Examples:
      xpjax catalogue store --system JPLUS --output jplus
      xpjax catalogue store --system JPLUS --output jplus --resume
      xpjax catalogue status jplus
    """


@catalogue.command()
@click.argument("store", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--where", metavar="EXPRESSION", help="Take only these sources, as in 'phot_g_mean_mag < 16 and bp_rp > 1'."
)
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="Directory of the catalogue; it is made."
)
@click.option(
    "--format", type=click.Choice(["parquet", "hats", "fits", "hdf5"]), default="parquet", show_default=True,
    help="A file for each store file, or with hats one catalogue by position, as LSDB opens it.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with what is there: finished units are not done again.")
@click.option(
    "--estimate", is_flag=True, help="Tell from a sample what time, disk and memory the run would take, and end."
)
@click.option(
    "--shard",
    default="1/1",
    metavar="I/N",
    callback=one_of_many,
    help="Every N-th unit, the I-th of 1..N: for batch arrays.",
)
@RELEASE
@click.option("--dask", metavar="ADDRESS", help="Units as Dask tasks: local, or the address of a scheduler.")
@click.option("--systematic", is_flag=True, help="Also LABEL_mag_systematic_BAND, of a linear correction.")
def run(store: Path, output: Path, **options: Any) -> None:
    """Compute magnitudes and fluxes of every source of a store.

    STORE is a directory of store files (`xpjax store ingest` makes it), one of them, or a HATS catalogue of XP
    coefficients. Each store file or partition is a unit: its part appears in the output when it is whole. A run that
    was stopped, killed or had units that failed is taken up with --resume. What is to be read and written is told
    first; --estimate tells the time too, and does nothing else, and a run that does not fit on the disk is refused.
    Columns are those of `xpjax photometry`;
    what a linear correction leaves is in the metadata instead (mag_systematic, in the order of the bands), to be
    multiplied by sqrt(1 + xp_correction_distance). --where knows the columns of the store, source_id and xp_status,
    comparisons, and, or, not, arithmetic and & for bits.

    hats: positions are ra and dec of the store; a source without them, or with impossible ones (dec -999), is at the
    center of source_id's HEALPix pixel (20" off on average), flagged in position_from_source_id.

    Exit status: 0 done, 1 some units failed, 2 wrong input or call.

    \b
    Examples:
      xpjax catalogue store --system JPLUS --no-errors --output jplus
      xpjax catalogue store --system JPLUS --no-errors --output jplus --estimate
      xpjax catalogue store --system JPLUS --format hats --where 'phot_g_mean_mag < 16' -o bright
      xpjax catalogue store --passbands minisitian --keep ra,dec,bp_rp -o minisitian --shard 3/16 --resume
      xpjax catalogue store --system SDSS -o sdss --dask local
      xpjax catalogue hats --columns coefficients=xp.coeff,source_id=id --system SDSS --no-errors -o sdss
      xpjax catalogue store --system JPLUS --release DR4 -o jplus_dr4
      xpjax catalogue store --system JPLUS --correction standard -o corrected
      xpjax catalogue store --system JPLUS --correction wiggles.h5 --ebv ebv -o network
    """
    from xpjax.catalogue import open_sources

    asked = asked_bands(**{name: options.pop(name) for name in compute.BANDS})
    opened = open_sources(store, options.pop("release"), options.pop("columns"))
    system, options["correction"] = asked.bands(opened.release)
    if options["errors"] and (said := _without_correlations(opened)):
        tell(said)
    _run(opened, output, systems=system, **options)


def _without_correlations(store: Store) -> str:
    """What is said of files that have no correlations, which errors need; nothing where all have them."""
    files = [file for file in store.files if not file.damage]
    without = [file for file in files if file.correlations == "none" or not file.has_errors]
    if not without:
        return ""
    if len(without) == len(files):
        return "the store has no correlations: all errors are NaN; --no-errors leaves them out"
    return (
        f"{len(without):,} of {len(files):,} files have no correlations, such as {without[0].path.name}: errors of "
        "their sources are NaN; --no-errors leaves all errors out"
    )


def _without_errors(report: RunReport) -> list[str]:
    """What is said at the end of rows whose sources came without what errors need."""
    counts = {xp: report.status.get(f"{xp}_NO_ERROR", 0) for xp in ("BP", "RP")}
    whose = [
        f"{xp} of {'all' if n == report.rows else f'{n:,} of {report.rows:,}'} rows" for xp, n in counts.items() if n
    ]
    if {*counts.values()} == {report.rows}:
        whose = ["all rows"]
    said = "came without usable errors or correlations: errors that need these are NaN, not guessed"
    return [f"{' and '.join(whose)} {said}"] * bool(report.rows and whose)


run.params[1:1] = [parameter for parameter in compute.photometry.params if parameter.name in SHARED]


OUTPUT = ("store", "where", "output", "format", "resume", "estimate", "shard", "dask", "columns", "release")
"""Options of catalogues of all kinds."""


@catalogue.command()
@FIT_OPTIONS
def labels(store: Path, output: Path, **options: Any) -> None:
    """Fit stellar labels to every source of a store.

    Labels are those of `xpjax labels fit`; the run is resumable and shared out as `xpjax catalogue run` is.

    \b
    Examples:
      xpjax catalogue labels store --ebv ebv --error-floor 0.01 --output labels
      xpjax catalogue labels store --grid nextgen.h5 --ebv ebv --correction wiggles.h5 -o labels --shard 3/16 --resume
      xpjax catalogue labels store --grid nextgen.h5 --ebv ebv --correction none -o uncorrected
    """
    from xpjax.catalogue import open_sources

    asked = {name: options.pop(name) for name in (*OUTPUT[1:-2], "keep", "devices") if name in options}
    opened = open_sources(store, options.pop("release"), options.pop("columns"))
    _run(opened, output, fitter=fitter_of(**options), **asked)


labels.params[:0] = [parameter for parameter in run.params if parameter.name in OUTPUT]


def _run(store: Any, output: Path, *, estimate: bool, **options: Any) -> None:
    """Run, with a bar, tell what was done, and end with status 1 where units failed; or tell what it would take."""
    from xpjax.catalogue import run_catalogue

    if estimate:
        _estimate(store, output, **options)
        return
    with bar(len(store), unit=" sources", unit_scale=True) as shown:
        told = _Told(shown, output)
        report = run_catalogue(store, output, progress=told.progress, estimate=told.plan, **options)
    units = f"{len(report.finished)} unit{'s' * (len(report.finished) != 1)}"
    lines = [f"{report.sources:,} sources read from {units}, {report.rows:,} rows written to {report.output.name}"]
    if report.skipped:
        lines.append(f"{len(report.skipped)} units were finished before")
    flagged = [f"{n:,} {name}" for name, n in report.status.items() if name != "OK"]
    if flagged:
        lines.append(f"flagged in xp_status: {', '.join(flagged)}")
    if options.get("errors"):  # of magnitudes: fits of labels do with an error floor
        lines += _without_errors(report)
    if report.unplaced:
        lines.append(
            f"{report.unplaced:,} rows have no ra and dec in the store, or impossible ones: they are at the center of "
            'the HEALPix pixel in source_id, 20" off on average and 53" at most, and position_from_source_id says so'
        )
    if not report.failed and not report.complete:
        lines.append("other shards have units left; the last to end makes the catalogue whole")
    lines.append(f"{report.seconds:.1f} s, {report.sources / report.seconds:,.0f} sources/s with reading and writing")
    tell("\n".join(lines))
    for name, why in report.failed.items():
        click.echo(f"unit {name} failed: {why}", err=True)
    if report.failed:
        click.echo(f"{len(report.failed)} units failed; mend their input and run again with --resume", err=True)
        click.get_current_context().exit(1)


class _Told:
    """What is told of a run while it goes on: its plan, then a bar with the space that the output takes."""

    def __init__(self, shown: Any, output: Path) -> None:
        self.shown, self.output, self.looked = shown, output, 0.0

    def plan(self, estimate: RunEstimate) -> None:
        """What the run will take; the bar counts what is left."""
        self.shown.total = estimate.sources
        self.shown.unpause()  # a sample's time is not the run's
        tell(str(estimate))

    def progress(self, n: int) -> None:
        """So many sources are done."""
        from xpjax.catalogue import disk_used, size

        if time.monotonic() > self.looked + LOOKS:
            self.shown.set_postfix_str(f"{size(disk_used(self.output))} on disk", refresh=False)
            self.looked = time.monotonic()
        self.shown.update(n - self.shown.n)


def _estimate(store: Any, output: Path, *, resume: bool, dask: str | None, **options: Any) -> None:
    """Print what a run would take; status 1 where the disk has no room for it."""
    from xpjax.catalogue import duration, estimate_catalogue, size

    found = estimate_catalogue(store, output, **options)
    rows = [
        ["left to be done", f"{found.sources:,} sources in {found.units:,} unit{'s' * (found.units != 1)}"],
        ["to be read", size(found.bytes_read)],
        ["to be written", f"{size(found.bytes_written)}, at most {size(found.bytes_needed)} on the way"],
        ["free on the disk", size(found.bytes_free)],
    ]
    if found.sampled:
        rows += [
            ["time, store on the disk", duration(found.seconds)],
            ["time, store in memory", duration(found.seconds_cached)],
            ["memory", size(found.memory)],
            ["measured on", f"{found.sampled:,} sources"],
        ]
    print_table(["", "estimate"], rows)
    if not found.fits:
        click.echo(f"the disk has no room for it: {size(found.bytes_needed - found.bytes_free)} are missing", err=True)
        click.get_current_context().exit(1)


@catalogue.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def status(directory: Path) -> None:
    """Tell how far a catalogue is: units, rows, disk, time left.

    \b
    Example:
      xpjax catalogue status jplus
    """
    from xpjax.catalogue import duration, read_status, size

    found = read_status(directory)
    rows = [
        ["finished", f"{len(found.finished):,}", f"{found.sources:,}", f"{found.rows:,}"],
        ["failed", f"{len(found.failed):,}", f"{found.sources_failed:,}", ""],
        ["left", f"{len(found.left):,}", f"{found.sources_left:,}", ""],
        *([name, "", "", f"{n:,}"] for name, n in found.status.items()),
    ]
    print_table(["", "units", "sources", "rows"], rows)
    for name, why in found.failed.items():
        click.echo(f"failed: {name}: {why}")
    click.echo(f"{size(found.bytes)} on disk")
    if found.running and found.rate > 0:
        left = duration(found.sources_left / found.rate)
        click.echo(f"lately {found.rate:,.0f} sources/s: {left} left if all goes on as it does")
    if found.complete:
        click.echo("the catalogue is whole")
    elif found.running:
        click.echo(f"at work: shard {', '.join(found.running)}")
    elif not (found.left or found.failed or found.finished):
        click.echo("units are not known yet: the same command goes on where it was ended")
    elif not (found.left or found.failed):
        click.echo("all units are done; --resume assembles the catalogue")
