"""The section [passband] of a configuration from what a user names, with its bands called as the survey calls them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xpjax.core.errors import XpjaxError
from xpjax.core.shipped import shipped_passbands
from xpjax.survey.reading.look import few
from xpjax.synthetic import as_system, load_passbands, read_chain

TIES = r"[\s._-]+"
"""What parts words in names of filters."""


def passband_section(
    passband: str | Path | Mapping[str, Any], survey: Sequence[str]
) -> tuple[dict[str, Any], list[str], list[str]]:
    """The section, notes, and bands without a passband.

    survey: bands of the survey by its own names, as far as they are known.

    Raises XpjaxError for a chain, curves or a system that cannot be read.
    """
    section, bands = _named(passband)
    notes = []
    if not survey:
        if len(bands) > 1:
            notes.append(f"the passbands are {few(bands, 12)}, and the survey's band has no name: give columns.band")
        return section, notes, []
    other, without = {}, []
    for name in survey:
        if name in bands:
            continue
        alike = _alike(name, bands)
        if len(alike) == 1:
            other[name] = alike[0]
        else:
            without.append(name)
            notes.append(
                f"no passband is called as the survey's band {name!r}" + (f", or {few(alike)} all are" if alike else "")
                + f": the passbands are {few(bands, 12)}; say which it is in [passband] bands"
            )  # fmt: skip
    if other:
        section["bands"] = other
        pairs = few([f"{own} is {name}" for own, name in other.items()], 12)
        notes.append(f"bands of the survey and passbands by their names: {pairs}")
    return section, notes, without


def _named(passband: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The section without names of bands, and the passbands."""
    if isinstance(passband, Mapping):
        return {"files": {name: str(file) for name, file in passband.items()}}, tuple(passband)
    path = Path(passband)
    if path.suffix.lower() == ".toml":
        return {"chain": str(passband)}, tuple(read_chain(path).bands)
    shipped = shipped_passbands().get(str(passband))
    if path.exists():
        if path.is_dir() and (path / "system.toml").is_file():
            return {"chain": str(path / "system.toml")}, tuple(read_chain(path / "system.toml").bands)
        return {"files": str(passband)}, tuple(band.name for band in load_passbands(path).passbands)
    if shipped is not None and (shipped / "system.toml").is_file():
        return {"chain": str(passband)}, tuple(read_chain(str(passband)).bands)
    if path.suffix and len(path.parts) + len(path.suffix) > 2 and not re.fullmatch(r"\w+", str(passband)):
        raise XpjaxError(f"no file {passband} with passbands: give a chain in TOML, curves, or the name of a system")
    return {"system": str(passband)}, tuple(as_system(str(passband)).names)


def _alike(name: str, bands: Sequence[str]) -> list[str]:
    """The passbands that a name may mean: the same but for case or marks, or its first or last word."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    words = [word for word in re.split(TIES, name) if word]
    for candidates in ([plain], words[:1], words[-1:], [words[0].lower()] if words else []):
        found = [band for band in bands if band in candidates or re.sub(r"[^a-z0-9]", "", band.lower()) in candidates]
        if found:
            return found
    return [band for band in bands if re.fullmatch(rf"{re.escape(band.lower())}(?:p|sdss|prime|ps1)", plain)]
