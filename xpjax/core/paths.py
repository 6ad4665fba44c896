"""Where the package's own files lie, and the user's: models are found by the release that they are for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from xpjax.core.errors import XpjaxError
from xpjax.core.release import Release

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of the package."""
DATA = PACKAGE / "data"
"""Models and systems that xpjax ships."""
KINDS = {
    "instrument": "instrument models",
    "systems": "photometric systems",
    "covariance": "subspaces of compact covariances",
}
"""Files of a release, `KIND_dr3.h5`, and what is in them."""


def user_data() -> Path:
    """The folder of the user's own models: environment variable XPJAX_DATA, else the system's place for such files."""
    given = os.environ.get("XPJAX_DATA")
    if given:
        return Path(given).expanduser()
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "xpjax"


def release_key(release: Release) -> str:
    """What names of files call a release: `dr3` for Gaia DR3."""
    return re.sub(r"[^a-z0-9]+", "_", release.name.lower().removeprefix("gaia").strip())


def model_files(kind: str) -> list[Path]:
    """The files of a kind that are there, of any release: those that xpjax ships, and the user's."""
    shipped = sorted(DATA.glob(f"{kind}_*.h5"))
    own = sorted(user_data().glob(f"{kind}_*.h5"))
    return shipped + [path for path in own if path.name not in {other.name for other in shipped}]


def release_file(kind: str, release: Release) -> Path:
    """The file of a kind (`KINDS`) for a release: shipped, else the user's. Raises XpjaxError where there is none."""
    name = f"{kind}_{release_key(release)}.h5"
    files = model_files(kind)
    for path in files:
        if path.name == name:
            return path
    tool = "covariance" if kind == "covariance" else "instrument"
    there = ", ".join(path.stem.removeprefix(f"{kind}_").upper() for path in files) or "no release"
    raise XpjaxError(
        f"the data are of {release.name} {release.n_basis}, but xpjax has {KINDS[kind]} of {there} only: update xpjax, "
        f"or make {name} by `python tools/build_{tool}.py` once GaiaXPy has that release, and put it into "
        f"{user_data()} (XPJAX_DATA names another folder)"
    )
