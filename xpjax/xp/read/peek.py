"""The release of files before they are read: from the first rows of text, little of Parquet files, and stores."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence

from xpjax.core.errors import XpjaxError
from xpjax.core.release import DR3, RELEASES, Release
from xpjax.io.streams import File, reading
from xpjax.io.tables import open_file, split_part
from xpjax.xp.read.formats import of_table
from xpjax.xp.read.layout import archive_name
from xpjax.xp.read.loaders import TEXT, files_of
from xpjax.xp.read.releases import infer_release, sizes_text
from xpjax.xp.read.text import TextReader
from xpjax.xp.store.store import is_store, open_store

TELLING = {"source_id", *(f"{xp}_{field}" for xp in DR3.xp for field in ("coefficients", "n_parameters"))}
"""Columns that tell the release."""


def peek_release(paths: Sequence[str | os.PathLike[str]]) -> tuple[str | os.PathLike[str], Release] | None:
    """The first of some files that tells a release at little cost, and that release; None where they have to be read.

    Only known releases are told so. Raises XpjaxError where files tell several.
    """
    first: tuple[str | os.PathLike[str], Release] | None = None
    for path in paths:
        own = _peek(path)
        if own is not None and first is not None and not own.fits(first[1]):
            listed = [f"{name} is of {one.name} ({sizes_text(one)} coefficients)" for name, one in (first, (path, own))]
            raise XpjaxError(f"{listed[0]}, {listed[1]}; give each release by itself")
        if own is not None:
            first = first or (path, own)
    return first


def _peek(path: str | os.PathLike[str]) -> Release | None:
    if is_store(path):
        return open_store(path).release
    file, part = split_part(path)
    if part or not file.is_file():
        return None
    for member in files_of(file):
        found = _told(member)
        if found is not None:
            return found
    return None


def _told(file: File) -> Release | None:
    """What a file tells; whatever is wrong with it is said when it is read."""
    try:
        if file.suffix in TEXT:
            with reading(file.path, "text"), file.open() as stream:
                for table in TextReader(stream, file.origin, DR3.xp, wanted=TELLING.__contains__).blocks():
                    release, told = infer_release([table])
                    if told and table.n:
                        return release if release in RELEASES else None
        elif file.suffix == ".parquet":
            for whole in open_file(file):
                few = copy.copy(whole)
                few.fields = {n: f for n, f in whole.fields.items() if archive_name(n, DR3.xp) in TELLING}
                release, told = infer_release([of_table(few, DR3.xp)])
                if told and len(whole):
                    return release if release in RELEASES else None
    except XpjaxError:
        return None
    return None
