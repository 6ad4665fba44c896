"""Spectra straight from the Gaia archive: the options of commands that take ids for files, and what they mean."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from click.core import ParameterSource

import xpjax
from xpjax.cli.common import choice_option, combine
from xpjax.cli.terminal import bar, tell, warnings_told
from xpjax.core.errors import XpjaxError
from xpjax.core.release import DR3, RELEASES, Release, find_release

if TYPE_CHECKING:
    from xpjax.xp import SourceTable

RELEASE_NAMES = ", ".join(release.name.removeprefix("Gaia ") for release in RELEASES)
PRODUCT = choice_option("--product", ["mean", "epoch"], "Mean spectra, or those of each transit (from DR4 on).")
HOST = click.option("--host", metavar="URL", help="Another archive than ESA's, such as a mirror.")
CACHE = click.option(
    "--cache/--no-cache", default=True, help="Keep what was fetched, in ~/.cache/xpjax or XPJAX_CACHE (default: yes)."
)
ASKING = combine(
    click.option(
        "--ids",
        metavar="FILE[:COLUMN]",
        help="In the place of INPUT: fetch the spectra of these source ids from the Gaia archive. A file of one id a "
        "line, or a table with a column source_id, or COLUMN.",
    ),
    click.option(
        "--release",
        metavar="NAME",
        help=f"Gaia release of the sources, {RELEASE_NAMES}; by default that of the model, or of the input.",
    ),
    PRODUCT,
    HOST,
    CACHE,
)
"""Options of commands that read files of XP coefficients."""
ASKED = ("ids", "release", "product", "host", "cache")
"""The names of their values."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What --ids asks the archive for, when it is read; output: the file that is made of it."""

    ids: str
    output: Path
    options: dict[str, Any]
    name = "the archive"

    def fetch(self, check: Callable[[Release], object] = lambda release: None) -> SourceTable:
        """The sources, after lines on what is odd; ids without spectra are named in OUTPUT_missing.csv.

        check: raises an error for a release that cannot be used.
        """
        check(self.options["release"])
        ids = ids_of(self.ids, self.options["release"])
        with fetching() as progress:
            table: Any = xpjax.fetch(ids, progress=progress, **self.options)
        without = np.setdiff1d(ids[ids > 0], table.source_id)
        beside = self.output.with_name(f"{self.output.name.partition('.')[0]}_missing.csv")
        if len(without):
            xpjax.write(beside, {"source_id": without}, overwrite=True)
            tell(f"{len(without):,} ids without spectra are named in {beside.name}")
        return table


def asked(
    inputs: Sequence[Path], output: Path, model: Release | None, options: dict[str, Any]
) -> Sequence[Path | Asked]:
    """The files that a command reads, or what --ids asks for. Raises UsageError and XpjaxError.

    options: the values of `ASKING`; model: the release of instrument or systems, None for any.
    """
    release = find_release(options["release"]) if options["release"] else model or DR3
    if model is not None and not release.fits(model):
        raise XpjaxError(
            f"--release {release.name}: its spectra have {release.n_basis} coefficients, and the model is for "
            f"{model.name} with {model.n_basis}; choose instrument and systems of {release.name}"
        )
    if options["ids"] is None:
        context = click.get_current_context()
        strays = [
            name
            for name in ASKED
            if name != "release" and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        ]
        if strays:
            raise click.UsageError(f"--{strays[0]} is for --ids: leave it out.")
        if not inputs:
            raise click.UsageError("Missing argument 'INPUT...': name files, or fetch sources by --ids.")
        return inputs
    if inputs:
        raise click.UsageError("--ids fetches spectra in the place of INPUT: give one of both.")
    passed = {name: options[name] for name in ASKED if name != "ids"}
    return [Asked(options["ids"], output, {**passed, "release": release, "gaia_source": True})]


def ids_of(text: str, release: Release | None) -> np.ndarray:
    """The ids of FILE or FILE:COLUMN; release: that of designations. Raises XpjaxError and FileNotFoundError."""
    from xpjax.xp import wanted_ids

    file, colon, column = text.rpartition(":")
    if colon and file and column and not os.path.exists(os.path.expanduser(text)):
        return wanted_ids(Path(file), column=column, release=release)
    return wanted_ids(Path(text), release=release)


@contextlib.contextmanager
def fetching() -> Iterator[Callable[[Any], None]]:
    """A bar for `xpjax.fetch`: what it is to call. What it warns of is told; unfinished work is exit status 1."""
    from xpjax.xp import Unfinished

    words = {"spectra": "spectra", "again": "asking again", "gaia_source": "gaia_source"}
    stage = [""]
    with warnings_told(), bar(unit=" sources", unit_scale=True) as shown:

        def progress(now: Any) -> None:
            if now.stage != stage[0]:
                stage[0] = now.stage
                shown.total, shown.n, shown.last_print_n = now.total, 0, 0
                shown.set_description(words.get(now.stage, now.stage), refresh=False)
            shown.update(now.done - shown.n)

        try:
            yield progress
        except Unfinished as error:
            shown.close()
            click.echo(f"Error: {error}", err=True)
            raise click.exceptions.Exit(1) from error
