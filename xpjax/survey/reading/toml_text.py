"""A configuration as TOML with comments: why entries are what they are, and what those that are absent would bring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SECTIONS = ("columns", "standards", "passband", "selection", "model")
"""What is written, in this order."""
ABSENT = {
    "magnitude_error": ('"magnitude_error"', "weights by errors; without, by the scatter alone"),
    "x": ('"x"', "with y: flats over the detector"),
    "y": ('"y"', ""),
    "ra": ('"ra"', "with dec: standards matched by position, stars told across exposures"),
    "dec": ('"dec"', ""),
    "star": ('"source_id"', "standards matched by identifier; without, by position"),
    "exposure": ('{ header = "EXPID" }', "exposures of several tables each; without, a file is an exposure"),
    "band": ('{ header = "FILTER" }', "several bands; without, all exposures are of one"),
    "detector": ('{ header = "CCDNUM" }', "flats of each detector; without, a table of a file is a detector"),
    "time": ('{ header = "DATE-OBS" }', "nights, on which weak exposures lean; proper motions of standards"),
    "airmass": ('{ header = "AIRMASS" }', "passbands at the airmass of each exposure"),
    "flags": ('"FLAGS"', "the cut that keeps blended and saturated stars from being standards"),
    "color": ('"bp_rp"', "color terms"),
    "model": ('"model"', "magnitudes of standards that the tables have already"),
    "model_error": ('"model_error"', "weights of standards, and errors that all stars of a zero-point share"),
}
"""Columns that tables may lack: an example, and what they bring."""
WAYS = {
    "standards": (
        '# spectra = "xp.parquet"  # standards from XP coefficients; they need [passband]',
        "# fetch = true            # or from the Gaia archive",
    ),
    "passband": (
        '# chain = "telescope.toml"  # through which magnitudes of the spectra are computed; or',
        '# files = { g = "g.dat" }   # curves; or',
        '# system = "SDSS"           # a published system',
    ),
}
"""Sections that are absent, as comments."""


def configuration(
    table: Mapping[str, Mapping[str, Any]], said: Mapping[str, str], head: Iterable[str]
) -> str:  # fmt: skip
    """The text of a configuration. said: of entries such as columns.x, why they are so; head: its first lines."""
    lines = [f"# {_one(text)}" for text in head]  # not line: Python 3.12.1 takes the function below for it
    for section in SECTIONS:
        have = table.get(section, {})
        entries = [line(name, value, said.get(f"{section}.{name}", "")) for name, value in have.items()]
        absent = _absent(table, section)
        if entries or absent:
            lines += ["", f"[{section}]" if entries else f"# [{section}]", *entries, *absent]
    return "\n".join([*lines, "", *_terms(table)]) + "\n"


def _terms(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Comments with the terms of a joint solution that the columns allow."""
    columns = table["columns"]
    color = "color" in columns or {"standards", "passband"} <= {*table}
    out = [
        "# All exposures in one solution instead: without the # in front, `xpjax survey solve` fits these terms",
        "# [[term]]", '# kind = "zero_point"  # per = "frame": every exposure, band and detector has its own',
    ]  # fmt: skip
    if color:
        out += ["# [[term]]", '# kind = "color"', '# per = "band"  # a slope for each; order = 2 for a curve']
    if "x" in columns:
        out += ["# [[term]]", '# kind = "flat"', "# bins = 20  # cells along a side, for each band and detector",
                "# prior = 0.02  # mag, about zero; without, cells without stars are not determined"]  # fmt: skip
    if "airmass" in columns and {"time", "night"} & columns.keys():
        out.append(
            '# On photometric nights: zero_point with per = "night+band+detector", and kind = "extinction" with one'
        )
    return out


def _absent(table: Mapping[str, Mapping[str, Any]], section: str) -> Sequence[str]:
    """Comments of what is not there."""
    have = table.get(section, {})
    if section in WAYS:
        return () if have else WAYS[section]
    if section == "model" and "x" in table["columns"]:
        return ("# size = [4096, 4096]  # of the detector in pixels; without, what the rows span",)
    if section != "columns":
        return ()
    skip = {"model", "model_error", "color"} if "passband" in table else set()
    skip |= {"band"} if "bands" in have else set()
    skip |= {"magnitude_error"} if {"apertures", "flux"} & have.keys() else set()
    return [f"# {name} = {example}" + (f"  # {brings}" if brings else "")
            for name, (example, brings) in ABSENT.items() if name not in have and name not in skip]  # fmt: skip


def plain(table: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of sections without comments."""
    parts = [f"[{name}]\n" + "\n".join(line(key, value) for key, value in part.items()) for name, part in table.items()]
    return "\n".join(parts) + "\n"


def line(name: str, value: Any, said: str = "") -> str:
    """An entry, with a comment."""
    return f"{_key(name)} = {toml(value)}" + (f"  # {_one(said)}" if said else "")


def toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {toml(one)}" for name, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    text = _one(str(value))
    if "'" not in text and ("\\" in text or '"' in text):
        return f"'{text}'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else toml(name)


def _one(text: str) -> str:
    """Text without characters that would end its line or that TOML forbids."""
    return "".join(c if c.isprintable() else " " for c in text)
