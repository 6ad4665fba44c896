"""`xpjax fetch`: XP coefficients from the Gaia archive, by ids, by a query, or in a cone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

import xpjax
from xpjax.cli.archive import CACHE, HOST, PRODUCT, RELEASE_NAMES, fetching, ids_of
from xpjax.cli.common import OVERWRITE, parse_numbers
from xpjax.cli.terminal import tell
from xpjax.core.errors import XpjaxError
from xpjax.core.release import Release, find_release

if TYPE_CHECKING:
    from xpjax.xp import FetchReport


@click.command()
@click.argument("given", metavar="[ID...]", nargs=-1)
@click.option(
    "--ids",
    metavar="FILE[:COLUMN]",
    help="File of source ids: one a line, or a table of any format with a column source_id, or COLUMN.",
)
@click.option("--query", metavar="ADQL|FILE", help="ADQL query of the archive that selects source_id, or a file of it.")
@click.option("--cone", metavar="RA,DEC,RADIUS", help="Center and radius in degrees.")
@click.option("--gmax", type=float, metavar="MAG", help="With --cone: G of the faintest sources.")
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write; its suffix names the format, .h5 a store file. A name without suffix is a store's folder.",
)
@click.option("--release", metavar="NAME", default="DR3", show_default=True, help=f"Gaia release: {RELEASE_NAMES}.")
@PRODUCT
@click.option(
    "--gaia-source/--no-gaia-source",
    default=True,
    help="Fetch positions, parallaxes, proper motions, magnitudes, RUWE and excess factor too (default: yes).",
)
@CACHE
@click.option(
    "--partial", is_flag=True, help="Take the result of a query that the archive has cut; it is refused otherwise."
)
@HOST
@click.option(
    "--username", metavar="NAME", help="Account at the archive; its password is asked for, or is XPJAX_PASSWORD."
)
@OVERWRITE
def fetch(
    given: tuple[str, ...],
    ids: str | None,
    query: str | None,
    cone: str | None,
    gmax: float | None,
    output: Path,
    release: str,
    username: str | None,
    **options: Any,
) -> None:
    """Fetch XP coefficients from the Gaia archive.

    The output has the spectra in the order of the ids, each once, with columns of gaia_source as far as the release has
    them: `xpjax photometry` and `xpjax spectra` read it, and the folder of a store too. A command that was stopped goes
    on where it was when it is given again, and what was fetched before is not asked for again: it lies in a cache,
    which may be removed at any time. Ids without spectra are counted, and named in NAME_missing.csv beside the output.

    Exit status: 0 done; 1 some spectra have come home and others could not be had: the same command goes on; 2 wrong
    input, or no answer from the archive.

    \b
    Examples:
      xpjax fetch 4295806720 38655544960 -o two.parquet
      xpjax fetch --ids stars.csv -o xp.parquet
      xpjax fetch --ids matched.fits:gaia_id -o xp.h5
      xpjax fetch --cone 266.4,-28.9,0.2 --gmax 15 -o center.parquet
      xpjax fetch --query query.adql -o store
      xpjax fetch --ids stars.csv --release DR4 --product epoch -o epochs.parquet
    """
    found = find_release(release)
    wanted = _wanted(given, ids, query, cone, gmax, found)
    password = None
    if username is not None:
        password = os.environ.get("XPJAX_PASSWORD") or click.prompt("Password", hide_input=True, err=True)
    with fetching() as progress:
        report = xpjax.fetch(
            wanted, release=found, output=output, username=username, password=password, progress=progress, **options
        )
    tell("\n".join(_summary(cast("FetchReport", report), output)))


def _wanted(
    given: tuple[str, ...], ids: str | None, query: str | None, cone: str | None, gmax: float | None, release: Release
) -> Any:
    """What the options ask for. Raises UsageError where they name nothing, or several things."""
    from xpjax.xp import Cone, wanted_ids

    named = [bool(given), ids is not None, query is not None, cone is not None]
    if sum(named) != 1:
        what = "Missing source ids" if not any(named) else "Too much at once"
        raise click.UsageError(f"{what}: give ids, --ids, --query or --cone, one of them.")
    if gmax is not None and cone is None:
        raise click.UsageError("--gmax is for --cone: add it to the query, or leave it out.")
    if cone is not None:
        ra, dec, radius = parse_numbers(cone, ",", 3, "--cone", "RA,DEC,RADIUS, as in 266.4,-28.9,0.5")
        return Cone(ra, dec, radius, gmax)
    if query is not None:
        return _adql(query)
    return wanted_ids([*given], release=release) if ids is None else ids_of(ids, release)


def _adql(text: str) -> str:
    """A query, or that in a file. Raises XpjaxError for what is none."""
    from xpjax.io.streams import check_file, text_of
    from xpjax.xp import is_query

    if is_query(text):
        return text
    path = Path(text).expanduser()
    if not path.exists():
        raise XpjaxError(f"--query {text!r} is no ADQL query, and no such file exists; a query begins with SELECT")
    check_file(path)
    if not is_query(adql := text_of(path)):
        raise XpjaxError(f"{path} holds no ADQL query: expected text that begins with SELECT")
    return adql.strip().rstrip(";")


def _summary(report: FetchReport, output: Path) -> list[str]:
    """What was asked for, and what became of it."""
    cached = f", {report.cached:,} of them from the cache" if report.cached else ""
    lines = [f"{report.asked:,} source ids, {report.found:,} with spectra written to {output.name}{cached}"]
    if report.without_file is not None:
        lines.append(f"{len(report.without):,} without spectra, named in {report.without_file.name}")
    if report.repeated:
        lines.append(f"{report.repeated:,} ids were given more than once, and fetched once")
    if report.not_ids:
        lines.append(f"{report.not_ids:,} cells are empty or no source ids, and were left out")
    size = report.bytes / 2**20
    return [*lines, *report.notes, f"{report.seconds:.1f} s, {report.requests:,} requests, {size:.1f} MiB"]
