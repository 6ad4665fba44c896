"""HATS catalogues as inputs: Parquet files by HEALPix pixel (https://www.ivoa.net/documents/Notes/HATS/)."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

from xpjax.core.errors import XpjaxError
from xpjax.io.atomic import expanded

PROPERTIES = ("hats.properties", "properties")
COLLECTION = "collection.properties"


def is_hats(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the directory of a HATS catalogue, or of a collection of them."""
    path = expanded(path)
    if not path.is_dir():
        return False
    named = any((path / name).is_file() for name in PROPERTIES)
    return (path / COLLECTION).is_file() or (named and (path / "dataset").is_dir())


def properties(path: Path) -> dict[str, str]:
    """The entries of a file of properties."""
    lines = (line.partition("=") for line in path.read_text().splitlines() if not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in lines if name.strip()}


def catalogue_of(path: str | os.PathLike[str]) -> Path:
    """The directory of a catalogue; of a collection that of its main one. Raises XpjaxError."""
    path = expanded(path)
    if not (path / COLLECTION).is_file():
        return path
    main = properties(path / COLLECTION).get("hats_primary_table_url", "")
    if not main or not (path / main).is_dir():
        raise XpjaxError(f"{path}: {COLLECTION} names the main catalogue {main!r}, which is not there; download it too")
    return path / main


def partitions(path: str | os.PathLike[str]) -> dict[tuple[int, int], list[Path]]:
    """The Parquet files of each pixel (order, number) of a catalogue, in the order of the sky. Raises XpjaxError.

    All that partition_info.csv lists have to be there.
    """
    folder = catalogue_of(path)
    found: dict[tuple[int, int], list[Path]] = {}
    for place in (folder / "dataset").glob("Norder=*/Dir=*/Npix=*"):
        order = re.fullmatch(r"Norder=(\d+)", place.parent.parent.name)
        number = re.fullmatch(r"Npix=(\d+)(\.\w+)*", place.name)
        if order is None or number is None:
            continue
        files = sorted(place.glob("*.parquet")) if place.is_dir() else [place]
        if files:
            found[int(order[1]), int(number[1])] = files
    info = folder / "partition_info.csv"
    if info.is_file():
        with info.open(newline="") as stream:
            listed = {(int(row["Norder"]), int(row["Npix"])) for row in csv.DictReader(stream)}
        absent = sorted(listed - {*found})
        if absent:
            raise XpjaxError(
                f"{folder}: {len(absent)} of {len(listed)} partitions are not there, such as Norder={absent[0][0]}, "
                f"Npix={absent[0][1]}; download them too, or read the files that you have, one by one"
            )
    if not found:
        raise XpjaxError(f"{folder}: a HATS catalogue without partitions (dataset/Norder=K/Dir=D/Npix=N.parquet)")
    return dict(sorted(found.items(), key=lambda item: (item[0][1] << 2 * (29 - item[0][0]), item[0][0])))
