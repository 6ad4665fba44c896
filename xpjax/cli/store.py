"""`xpjax store`: ingest bulk files into a store, look at it, verify it, take sources out of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import xpjax
from xpjax.cli.archive import ids_of
from xpjax.cli.common import (
    EXISTING_FILE,
    FOLDER,
    OVERWRITE,
    RELEASE,
    output_option,
    parse_numbers,
    print_table,
)
from xpjax.cli.terminal import bar, tell, warnings_told

if TYPE_CHECKING:
    from xpjax.core.release import Release
    from xpjax.xp import Store, StoreFile

STORE = click.Path(exists=True, path_type=Path)
PROCESSES = click.option(
    "--processes", default=1, show_default=True, type=click.IntRange(1), help="Files to read at once."
)
RESUME = click.option("--resume", is_flag=True, help="Leave out the files that are in the store.")


@click.group()
def store() -> None:
    """Stores of XP coefficients: one HDF5 file for each bulk file."""


@store.command()
@click.argument("files", nargs=-1, required=True, type=EXISTING_FILE)
@click.option("--store", "store_dir", required=True, type=FOLDER, help="Directory of the store; it is made.")
@click.option(
    "--correlations",
    is_flag=False,
    flag_value="compact",
    default="none",
    show_default=True,
    type=click.Choice(["none", "compact", "int16", "float32"]),
    help="Store what errors need; without a word compact: covariances as passbands and spectra see them, corrected or "
    "not, 5.4 kB a source; the correlations, also for --truncate: int16, 5.9 kB, or float32, 12 kB.",
)
@PROCESSES
@click.option(
    "--gaia-source",
    multiple=True,
    type=EXISTING_FILE,
    help="File of gaia_source (csv, csv.gz, ecsv, fits, parquet): ra, dec, G, BP-RP, ebv and ebv_error are joined by "
    "source_id; may be repeated.",
)
@click.option("--release", metavar="NAME", help="Gaia release of the files, DR3 or DR4; by default each file tells.")
@RESUME
@OVERWRITE
def ingest(files: tuple[Path, ...], store_dir: Path, gaia_source: tuple[Path, ...], **options: Any) -> None:
    """Read files of XP coefficients, in any format, into a store.

    A file that fails is named and leaves nothing; the others are done, and the exit status is 1. A store may have files
    of several data releases; commands that read it then ask for --release.

    \b
    Examples:
      xpjax store ingest XpContinuousMeanSpectrum_*.csv.gz --store xp --processes 2
      xpjax store ingest XpContinuousMeanSpectrum_*.csv.gz --store xp --correlations --resume
      xpjax store ingest XpContinuousMeanSpectrum_*.csv.gz --store xp --correlations float32
      xpjax store ingest xp.fits --store xp --gaia-source gaia_source.csv.gz
    """
    _ingest(files, store_dir, gaia_source=gaia_source, **options)


def _ingest(files: Sequence[Path], store_dir: Path, gaia_source: tuple[Path, ...] = (), **options: Any) -> None:
    """Ingest files and tell what was done; the exit status is 1 where some failed."""
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
@click.argument("store_dir", metavar="NEW", type=FOLDER)
@PROCESSES
@RESUME
@OVERWRITE
def compact(path: Path, store_dir: Path, **options: Any) -> None:
    """Write a store with correlations as one with compact covariances.

    It takes half the size. Errors change by less than 6e-4 of themselves, nothing else does. The old store stays:
    truncation and covariance matrices need its correlations.

    
    Examples:
      xpjax store compact xp xp_compact --processes 2
    """
    _ingest([file.path for file in xpjax.open_store(path).files], store_dir, correlations="compact", **options)


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
    size = sum(file.path.stat().st_size for file in found.files)
    rows = [
        ("store", str(path)),
        ("files", str(len(found.files))),
        ("epoch spectra" if any(file.is_epoch for file in found.files) else "sources", f"{len(found):,}"),
        *(("release", _release(found, release)) for release in found.releases),
        ("errors", "yes" if found.has_errors else "no"),
        ("correlations", _correlations(found)),
        ("columns", ", ".join(found.columns) or "none"),
        ("bytes", f"{size:,}" + (f", {size / len(found):,.0f} a source" if len(found) else "")),
    ]
    print_table(("what", "found"), rows)
    if each:
        click.echo()
        print_table(
            ("file", "sources", "first source_id", "last source_id", "release", "correlations", "from"),
            list(map(_row, found.files)),
        )
    for file in found.files:
        if file.damage:
            click.echo(file.damage, err=True)


def _correlations(found: Store) -> str:
    """What is stored of correlations, and what that serves."""
    kinds = dict.fromkeys(file.correlations for file in found.files if not file.damage)
    if len(kinds) > 1:
        return f"{' and '.join(kinds)}, by file (--files)"
    kind = found.correlations
    return f"{kind}: covariances for errors of passbands and spectra, corrected or not" if kind == "compact" else kind


def _release(found: Store, release: Release) -> str:
    """A release of a store, and how many sources are of it where there are others."""
    said = f"{release.name}, {' + '.join(map(str, release.n_basis))} coefficients"
    return said + (f": {len(found.only(release)):,} sources" if len(found.releases) > 1 else "")


def _row(file: StoreFile) -> tuple[str, ...]:
    if file.damage:
        return file.name, "damaged", "", "", "", "", ""
    origin = str(file.attrs.get("source", ""))
    return file.name, f"{len(file):,}", *map(str, file.source_ids), file.release.name, file.correlations, origin


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
@click.option("--output", "-o", required=True, type=FOLDER, help="Directory of the catalogue; it is made.")
@RELEASE
@click.option(
    "--correlations/--no-correlations",
    default=True,
    help="Write correlations too, which errors need: 12 kB a source (default: yes, where the store has them).",
)
@click.option(
    "--hats-rows",
    type=click.IntRange(1),
    metavar="N",
    help="The most rows in a pixel; by default as many as have 256 MB.",
)
@click.option("--resume", is_flag=True, help="Go on with what is there: pixels that are there are kept.")
def export(path: Path, output: Path, **options: Any) -> None:
    """Write a store as a HATS catalogue with nested coefficients.

    LSDB and hats open it, `xpjax.lsdb` maps over it, and `xpjax.read` and `xpjax catalogue` read it. Coefficients and
    errors are in spectral_coefficients (coeff, coeff_error: BP then RP), correlations in spectral_correlations
    (coeff_correlation), further columns and xp_status beside them. Positions are ra and dec of the store; a source
    without them is at the center of source_id's HEALPix pixel, flagged in position_from_source_id.

    \b
    Examples:
      xpjax store export xp -o xp_hats
      xpjax store export xp --no-correlations --hats-rows 100000 -o xp_hats
      xpjax store export xp -o xp_hats --resume
    """
    from xpjax.catalogue import export_hats

    found = xpjax.open_store(path)
    with bar(len(found), unit=" sources", unit_scale=True) as shown:
        report = export_hats(found, output, progress=lambda n: shown.update(n - shown.n), **options)
    lines = [f"{report.rows:,} sources written to {report.output.name}, in {report.pixels:,} HEALPix pixels"]
    if options["correlations"] and found.correlations == "none":
        lines.append("the store has no correlations: what is computed from the catalogue comes without errors")
    if report.unplaced:
        lines.append(
            f"{report.unplaced:,} sources have no ra and dec in the store, or impossible ones: they are at the center "
            'of the HEALPix pixel in source_id, 20" off on average and 53" at most, and position_from_source_id says so'
        )
    tell("\n".join(lines))


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
    metavar="FILE[:COLUMN]",
    help="File of source ids: one a line, or a table of any format with a column source_id, or COLUMN.",
)
@click.option("--healpix", metavar="LEVEL:PIXEL,PIXEL", help="Nested HEALPix pixels of a level of 0..12.")
@click.option("--cone", metavar="RA,DEC,RADIUS", help="Center and radius in degrees.")
@click.option("--magnitude", metavar="MIN:MAX", help="Range of phot_g_mean_mag.")
@RELEASE
@click.option("--check/--no-check", default=True, help="Verify the blocks that are touched (default: yes).")
@OVERWRITE
def select(
    path: Path,
    output: Path,
    source_id: tuple[str, ...],
    id_file: str | None,
    healpix: str | None,
    cone: str | None,
    magnitude: str | None,
    release: str | None,
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
      xpjax store select xp --release DR4 --cone 266.4,-28.9,0.5 -o dr4.h5
    """
    from xpjax.io import catalogue
    from xpjax.io.words import whole_number
    from xpjax.xp import write_store_file

    catalogue.check_output(output, overwrite=overwrite)
    conditions: dict[str, Any] = {}
    found = xpjax.open_store(path, release)
    if found.correlations == "compact" and output.suffix != ".h5":
        raise click.UsageError(
            f"{path} has compact covariances, which store files alone hold: give an output that ends in .h5"
        )
    if source_id or id_file is not None:
        texts = [text for part in source_id for text in part.split(",")]
        wanted = [whole_number(text, "--source-id") for text in texts if text.strip()]
        only = found.releases[0] if len(found.releases) == 1 else None  # designations say whose ids they are
        conditions["source_ids"] = [*wanted, *([] if id_file is None else ids_of(id_file, only).tolist())]
    if healpix is not None:
        level, _, pixels = healpix.partition(":")
        chosen = [whole_number(text, "--healpix") for text in pixels.split(",")]
        conditions["healpix"] = whole_number(level, "--healpix"), chosen
    if cone is not None:
        conditions["cone"] = parse_numbers(cone, ",", 3, "--cone", "RA,DEC,RADIUS, as in 266.4,-28.9,0.5")
    if magnitude is not None:
        conditions["magnitude"] = parse_numbers(magnitude, ":", 2, "--magnitude", "MIN:MAX, as in 12:14")
    if not conditions:
        raise click.UsageError("Missing a condition: --source-id, --source-ids, --healpix, --cone or --magnitude.")
    with warnings_told():
        table = found.select(**conditions, check=check)
    found = found.only(table.release)
    if output.suffix == ".h5":
        units = found.files[0].units
        kept = None if found.correlations == "compact" else found.correlations
        write_store_file(output, table, correlations=kept, overwrite=overwrite, units=units)
    else:
        xpjax.write(output, table, overwrite=overwrite)
    tell(f"{len(table):,} of {len(found):,} sources written to {output.name}")
