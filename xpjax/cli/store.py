"""Bulk files into a store, and what a store holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xpjax.cli.common import EXISTING_FILE, FILE, OVERWRITE, print_table
from xpjax.cli.terminal import bar, tell
from xpjax.core.errors import XpjaxError

if TYPE_CHECKING:
    from xpjax.xp import Ingested

STORE = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("files", nargs=-1, required=True, type=EXISTING_FILE)
@click.option(
    "--store",
    "store_dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the store; it is made.",
)
@click.option(
    "--correlations",
    type=click.Choice(["none", "float32", "int16"]),
    default="none",
    show_default=True,
    help="Store correlations, which errors need: 12 kB a source, or 6 kB in fixed point, which changes errors by 1e-4.",
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
def ingest(
    files: tuple[Path, ...],
    store_dir: Path,
    correlations: str,
    processes: int,
    gaia_source: tuple[Path, ...],
    resume: bool,
    overwrite: bool,
) -> None:
    """Read files of XP coefficients, in any format of the archive, into a store: one HDF5 file each.

    A file that fails is named and leaves nothing; the others are done, and the exit status is 1.

    \b
    Examples:
      xpjax ingest XpContinuousMeanSpectrum_*.csv.gz --store xp --processes 2
      xpjax ingest XpContinuousMeanSpectrum_*.csv.gz --store xp --correlations int16 --resume
      xpjax ingest xp.fits --store xp --gaia-source gaia_source.csv.gz
    """
    import time

    from xpjax.xp.store import ingest as bulk

    started = time.perf_counter()
    with bar(len(files), unit=" files", delay=1) as shown:

        def progress(result: Ingested | str) -> None:
            shown.update()

        report = bulk.ingest(
            files,
            store_dir,
            correlations=correlations,
            processes=processes,
            gaia_source=gaia_source,
            overwrite=overwrite,
            resume=resume,
            progress=progress,
        )
    seconds = time.perf_counter() - started
    flagged = sum(file.flagged for file in report.done)
    lines = [
        f"{report.sources:,} sources of {len(report.done)} files stored in {store_dir}, "
        f"{flagged:,} flagged in xp_status"
    ]
    if gaia_source and report.done:
        joined = sum(file.joined for file in report.done)
        lines.append(f"{joined:,} found in gaia_source; {report.sources - joined:,} were not, and have NaN")
    if report.skipped:
        lines.append(f"{len(report.skipped)} files were in the store and are left as they are")
    if report.done:
        lines.append(f"{seconds:.1f} s, {report.sources / seconds:,.0f} sources/s")
    tell("\n".join(lines))
    for name, reason in report.failures.items():
        click.echo(f"failed: {name}: {reason}", err=True)
    if report.failures:
        raise click.exceptions.Exit(1)


@click.group()
def store() -> None:
    """What a store, or one of its files, holds: look at it, verify it, take sources out of it."""


@store.command()
@click.argument("path", metavar="STORE", type=STORE)
@click.option("--files", "each", is_flag=True, help="A line for each file.")
def info(path: Path, each: bool) -> None:
    """Sources, release, columns and size.

    \b
    Examples:
      xpjax store info xp
      xpjax store info xp --files
    """
    from xpjax.xp import open_store

    found = open_store(path)
    size = sum(file.path.stat().st_size for file in found.files)
    rows = [
        ("store", str(path)),
        ("files", str(len(found.files))),
        ("sources", f"{len(found):,}"),
        ("release", f"{found.release.name}, {' + '.join(map(str, found.release.n_basis))} coefficients"),
        ("errors", "yes" if found.has_errors else "no"),
        ("correlations", found.correlations),
        ("columns", ", ".join(found.columns) or "none"),
        ("bytes", f"{size:,}"),
    ]
    print_table(("what", "found"), rows)
    if each:
        click.echo()
        print_table(
            ("file", "sources", "first source_id", "last source_id", "correlations", "from"),
            [
                (file.name, "damaged", "", "", "", "")
                if file.damage
                else (
                    file.name,
                    f"{len(file):,}",
                    *map(str, file.source_ids),
                    file.correlations,
                    str(file.attrs.get("source", "")),
                )
                for file in found.files
            ],
        )
    for file in found.files:
        if file.damage:
            click.echo(file.damage, err=True)


@store.command()
@click.argument("path", metavar="STORE", type=STORE)
def verify(path: Path) -> None:
    """Compare all data with their checksums; damage is named by file, dataset and rows, and the exit status is 1.

    \b
    Examples:
      xpjax store verify xp
    """
    from xpjax.xp import open_store

    found = open_store(path)
    problems = found.verify()
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise click.exceptions.Exit(1)
    click.echo(f"{len(found):,} sources in {len(found.files)} files: all checksums agree")


@store.command()
@click.argument("path", metavar="STORE", type=STORE)
@click.option(
    "--output",
    "-o",
    required=True,
    type=FILE,
    help="File to write, which `xpjax photometry` reads: .h5 is a store file; parquet, fits, csv and others have the "
    "archive's columns.",
)
@click.option("--source-id", "source_id", multiple=True, metavar="ID,ID", help="Source ids; may be repeated.")
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
    from xpjax.xp import SUFFIX, open_store, write_store_file

    catalogue.check_output(output, overwrite=overwrite)
    conditions: dict[str, Any] = {}
    if source_id or id_file:
        texts = [text for part in source_id for text in part.split(",")]
        conditions["source_ids"] = [_integer(text, "--source-id") for text in texts if text.strip()]
        conditions["source_ids"] += _read_ids(id_file) if id_file else []
    if healpix is not None:
        level, _, pixels = healpix.partition(":")
        wanted = [_integer(text, "--healpix") for text in pixels.split(",")]
        conditions["healpix"] = _integer(level, "--healpix"), wanted
    if cone is not None:
        conditions["cone"] = _numbers(cone, ",", 3, "--cone", "RA,DEC,RADIUS, as in 266.4,-28.9,0.5")
    if magnitude is not None:
        conditions["magnitude"] = _numbers(magnitude, ":", 2, "--magnitude", "MIN:MAX, as in 12:14")
    if not conditions:
        raise click.UsageError("Missing a condition: --source-id, --source-ids, --healpix, --cone or --magnitude.")
    found = open_store(path)
    table = found.select(**conditions, check=check)
    if output.suffix == SUFFIX:
        units = found.files[0].units
        write_store_file(output, table, correlations=found.correlations, overwrite=overwrite, units=units)
    else:
        catalogue.write(output, table, overwrite=overwrite)
    tell(f"{len(table):,} of {len(found):,} sources written to {output.name}")


def _integer(text: str, where: str) -> int:
    from xpjax.io.words import integer

    number = integer(text)
    if number is None or number < 0:
        raise XpjaxError(f"{where}: {text.strip()!r} is no whole number from 0 on that fits 64 bits")
    return number


def _numbers(text: str, separator: str, count: int, option: str, expected: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(separator))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise XpjaxError(f"{option} {text!r}: expected {expected}")
    return numbers


def _read_ids(path: Path) -> list[int]:
    """Ids of a text file: its column source_id where the first line names columns, else the first of each line."""
    from xpjax.io.streams import text_of
    from xpjax.io.words import is_missing

    text = text_of(path)
    if "\0" in text:
        raise XpjaxError(f"{path}: no text; expected source ids, one a line, or csv with a column source_id")
    lines = [(number, line.split(",")) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, cells) for number, cells in lines if cells[0].strip() or len(cells) > 1]
    lines = [(number, cells) for number, cells in lines if not cells[0].startswith("#")]
    column = 0
    if lines and not lines[0][1][0].strip('" ').isdecimal():
        names = [name.strip().strip('"').lower() for name in lines.pop(0)[1]]
        if "source_id" not in names:
            raise XpjaxError(f"{path}: no column source_id, and no number in the first line")
        column = names.index("source_id")
    cells = [(number, cells[column].strip('" ') if len(cells) > column else "") for number, cells in lines]
    return [_integer(cell, f"{path}: line {number}") for number, cell in cells if not is_missing(cell)]
