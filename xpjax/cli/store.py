"""`xpjax store`: ingest bulk files into a store, look at it, verify it, take sources out of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import xpjax
from xpjax.cli.common import EXISTING_FILE, FOLDER, OVERWRITE, choice_option, output_option, print_table
from xpjax.cli.terminal import bar, tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    from xpjax.xp import StoreFile

STORE = click.Path(exists=True, path_type=Path)


@click.group()
def store() -> None:
    """Stores of XP coefficients: one HDF5 file for each bulk file."""


@store.command()
@click.argument("files", nargs=-1, required=True, type=EXISTING_FILE)
@click.option("--store", "store_dir", required=True, type=FOLDER, help="Directory of the store; it is made.")
@choice_option(
    "--correlations",
    ["none", "float32", "int16"],
    "Store correlations, which errors need: 12 kB a source, or 6 kB in fixed point, which changes errors by 1e-4.",
)
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1), help="Files to read at once.")
@click.option(
    "--gaia-source",
    multiple=True,
    type=EXISTING_FILE,
    help="File of gaia_source (csv, csv.gz, ecsv, fits, parquet): ra, dec, G, BP-RP and ebv are joined by source_id; "
    "may be repeated.",
)
@click.option("--resume", is_flag=True, help="Leave out the files that are in the store.")
@OVERWRITE
def ingest(files: tuple[Path, ...], store_dir: Path, gaia_source: tuple[Path, ...], **options: Any) -> None:
    """Read files of XP coefficients, in any format, into a store.

    A file that fails is named and leaves nothing; the others are done, and the exit status is 1.

    \b
    Examples:
      xpjax store ingest XpContinuousMeanSpectrum_*.csv.gz --store xp --processes 2
      xpjax store ingest XpContinuousMeanSpectrum_*.csv.gz --store xp --correlations int16 --resume
      xpjax store ingest xp.fits --store xp --gaia-source gaia_source.csv.gz
    """
    started = time.perf_counter()
    with bar(len(files), unit=" files", delay=1) as shown:
        report = xpjax.ingest(
            files, store_dir, gaia_source=gaia_source, progress=lambda result: shown.update(), **options
        )
    seconds = time.perf_counter() - started
    lines = [
        f"{report.sources:,} sources of {len(report.done)} files stored in {store_dir}, "
        f"{report.flagged:,} flagged in xp_status"
    ]
    if gaia_source and report.done:
        missing = report.sources - report.joined
        lines.append(f"{report.joined:,} found in gaia_source; {missing:,} were not, and have NaN")
    if report.skipped:
        lines.append(f"{len(report.skipped)} files were in the store and are left as they are")
    if report.done:
        lines.append(f"{seconds:.1f} s, {report.sources / seconds:,.0f} sources/s")
    tell("\n".join(lines))
    for name, reason in report.failures.items():
        click.echo(f"failed: {name}: {reason}", err=True)
    if report.failures:
        raise click.exceptions.Exit(1)


@store.command()
@click.argument("path", metavar="STORE", type=STORE)
@click.option("--files", "each", is_flag=True, help="A line for each file.")
def info(path: Path, each: bool) -> None:
    """Sources, release, columns and size of a store.

    \b
    Examples:
      xpjax store info xp
      xpjax store info xp --files
    """
    found = xpjax.open_store(path)
    rows = [
        ("store", str(path)),
        ("files", str(len(found.files))),
        ("sources", f"{len(found):,}"),
        ("release", f"{found.release.name}, {' + '.join(map(str, found.release.n_basis))} coefficients"),
        ("errors", "yes" if found.has_errors else "no"),
        ("correlations", found.correlations),
        ("columns", ", ".join(found.columns) or "none"),
        ("bytes", f"{sum(file.path.stat().st_size for file in found.files):,}"),
    ]
    print_table(("what", "found"), rows)
    if each:
        click.echo()
        print_table(
            ("file", "sources", "first source_id", "last source_id", "correlations", "from"),
            list(map(_row, found.files)),
        )
    for file in found.files:
        if file.damage:
            click.echo(file.damage, err=True)


def _row(file: StoreFile) -> tuple[str, ...]:
    if file.damage:
        return file.name, "damaged", "", "", "", ""
    origin = str(file.attrs.get("source", ""))
    return file.name, f"{len(file):,}", *map(str, file.source_ids), file.correlations, origin


@store.command()
@click.argument("path", metavar="STORE", type=STORE)
def verify(path: Path) -> None:
    """Compare all data of a store with their checksums.

    Damage is named by file, dataset and rows, and the exit status is 1.

    \b
    Examples:
      xpjax store verify xp
    """
    found = xpjax.open_store(path)
    problems = found.verify()
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise click.exceptions.Exit(1)
    click.echo(f"{len(found):,} sources in {len(found.files)} files: all checksums agree")


@store.command()
@click.argument("path", metavar="STORE", type=STORE)
@output_option(
    "File to write, which `xpjax photometry` reads: .h5 is a store file; parquet, fits, csv and others have the "
    "archive's columns."
)
@click.option("--source-id", multiple=True, metavar="ID,ID", help="Source ids; may be repeated.")
@click.option(
    "--source-ids",
    "id_file",
    type=EXISTING_FILE,
    help="Text file of source ids: one a line, or csv with a column source_id.",
)
@click.option("--healpix", metavar="LEVEL:PIXEL,PIXEL", help="Nested HEALPix pixels of a level of 0..12.")
@click.option("--cone", metavar="RA,DEC,RADIUS", help="Center and radius in degrees.")
@click.option("--magnitude", metavar="MIN:MAX", help="Range of phot_g_mean_mag.")
@click.option("--check/--no-check", default=True, help="Verify the blocks that are touched (default: yes).")
@OVERWRITE
def select(
    path: Path,
    output: Path,
    source_id: tuple[str, ...],
    id_file: Path | None,
    healpix: str | None,
    cone: str | None,
    magnitude: str | None,
    check: bool,
    overwrite: bool,
) -> None:
    """Take the sources that meet all conditions out of a store.

    Without ra and dec in the store, a cone is decided by the HEALPix pixels in source_id, to 1 arcmin.

    \b
    Examples:
      xpjax store select xp --cone 266.4,-28.9,0.5 -o center.h5
      xpjax store select xp --healpix 5:1200,1201 --magnitude 12:14 -o part.parquet
      xpjax store select xp --source-ids wanted.csv -o wanted.h5
    """
    from xpjax.io import catalogue
    from xpjax.io.words import whole_number
    from xpjax.xp import write_store_file

    catalogue.check_output(output, overwrite=overwrite)
    conditions: dict[str, Any] = {}
    if source_id or id_file:
        texts = [text for part in source_id for text in part.split(",")]
        wanted = [whole_number(text, "--source-id") for text in texts if text.strip()]
        conditions["source_ids"] = [*wanted, *([id_file] if id_file else [])]
    if healpix is not None:
        level, _, pixels = healpix.partition(":")
        chosen = [whole_number(text, "--healpix") for text in pixels.split(",")]
        conditions["healpix"] = whole_number(level, "--healpix"), chosen
    if cone is not None:
        conditions["cone"] = _numbers(cone, ",", 3, "--cone", "RA,DEC,RADIUS, as in 266.4,-28.9,0.5")
    if magnitude is not None:
        conditions["magnitude"] = _numbers(magnitude, ":", 2, "--magnitude", "MIN:MAX, as in 12:14")
    if not conditions:
        raise click.UsageError("Missing a condition: --source-id, --source-ids, --healpix, --cone or --magnitude.")
    found = xpjax.open_store(path)
    table = found.select(**conditions, check=check)
    if output.suffix == ".h5":
        units = found.files[0].units
        write_store_file(output, table, correlations=found.correlations, overwrite=overwrite, units=units)
    else:
        xpjax.write(output, table, overwrite=overwrite)
    tell(f"{len(table):,} of {len(found):,} sources written to {output.name}")


def _numbers(text: str, separator: str, count: int, option: str, expected: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(separator))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise XpjaxError(f"{option} {text!r}: expected {expected}")
    return numbers
