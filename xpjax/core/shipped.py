"""Passbands that xpjax ships: where they lie, and what their headers say; read as text, without JAX or astropy."""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from xpjax.core.paths import PACKAGE


def filters_folder(package: Path = PACKAGE) -> Path:
    """The folder of passbands, systems and components that xpjax ships.

    A wheel carries it inside the package as `_filters`; in a clone it is `filters/` beside the package. Raises
    FileNotFoundError where there is neither.
    """
    places = (package / "_filters", package.parent / "filters")
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"no filters folder: looked for {' and '.join(map(str, places))}; reinstall xpjax, or run from a whole clone"
    )


def shipped_passbands() -> dict[str, Path]:
    """Name -> folder of every system in the filters folder: curves in ECSV, or a transmission chain in system.toml."""
    root = filters_folder()
    folders = sorted((f for f in root.iterdir() if f.is_dir()), key=lambda f: f.name.lower())
    return {
        folder.name: folder
        for folder in folders
        if folder.name != "components" and ((folder / "system.toml").is_file() or any(folder.glob("*.ecsv")))
    }


@dataclasses.dataclass(frozen=True)
class ShippedPassbands:
    """A shipped set of passbands: its name, number of bands, kind of curves, and description."""

    name: str
    n_band: int
    kind: str
    description: str


def list_passbands() -> tuple[ShippedPassbands, ...]:
    """List the sets of passbands that xpjax ships.

    Returns
    -------
    tuple of ShippedPassbands
        One record for each name that `load_passbands` knows: `name`, `n_band`, `kind` (measured, recovered, chain, ...)
        and `description`.

    Examples
    --------
    >>> {shipped.name: shipped.n_band for shipped in xpjax.synthetic.list_passbands()}["sdss2010"]
    5
    """
    return tuple(
        (_chain if (folder / "system.toml").is_file() else _curves)(name, folder)
        for name, folder in shipped_passbands().items()
    )


def _chain(name: str, folder: Path) -> ShippedPassbands:
    """What system.toml says."""
    chain = tomllib.loads((folder / "system.toml").read_text(encoding="utf-8"))
    title = chain.get("title", chain.get("description", chain.get("name", "")))
    return ShippedPassbands(name, len(chain.get("filter", ())), "chain", title)


def _curves(name: str, folder: Path) -> ShippedPassbands:
    """What the headers of curves say."""
    entries = [_header(file) for file in sorted(folder.glob("*.ecsv"))]
    kinds = dict.fromkeys(filter(None, (_entry(text, "kind") for text in entries)))
    system = entries[0].partition("system:")[2]  # the entries of the set, after those of the passband
    title = _entry(system, "title") or _entry(system, "description") or _entry(entries[0], "label")
    return ShippedPassbands(name, len(entries), ", ".join(kinds), title)


def _header(file: Path) -> str:
    """The metadata in the header of an ECSV file; what stands before is on the columns."""
    with file.open(encoding="utf-8") as handle:
        lines = [line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith("#"), handle)]
    return " ".join(lines).partition("meta:")[2]


def _entry(text: str, key: str) -> str:
    """The value of a key in the text of a header, in quotes or without; empty where it has none."""
    found = re.search(rf"(?<![\w-]){key}: (?:'((?:[^']|'')*)'|\"([^\"]*)\"|([^,}}]*))", text)
    values: Sequence[str | None] = found.groups() if found else ()
    return next((value.replace("''", "'").strip() for value in values if value), "")
