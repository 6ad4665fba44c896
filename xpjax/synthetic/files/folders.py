"""Where the folder `filters/` lies: inside an installed package, or beside it in a clone."""

from __future__ import annotations

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
