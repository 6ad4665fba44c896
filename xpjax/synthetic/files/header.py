"""What headers of curves say of detector, magnitudes, zero point, unit and name, in the words of many programs."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.constants import SPEED_OF_LIGHT
from xpjax.core.errors import XpjaxError, say
from xpjax.io.words import is_missing

_KEYS = {
    "detector": ("detector", "detectortype", "detectorkind"),
    "magnitude": ("magnitude", "magnitudes", "magsys", "magsystem", "magnitudesystem"),
    "zero_point": ("zeropoint", "zeropt", "zp"),
    "zero_point_unit": ("zeropointunit", "zeropointunits"),
    "reference": ("mag0",),
    "pivot": ("wavelengthpivot",),
    "unit": ("unit", "units", "wavelengthunit", "wavelengthunits", "waveunit", "waveunits", "lambdaunit"),
    "transmission_unit": ("transmissionunit", "throughputunit", "responseunit"),
    "column": ("wavelength", "wave", "lambda", "transmission", "throughput", "response"),
    "name": ("name", "bandname", "filtername", "compname"),
    "id": ("filterid",),
    "label": ("label", "groupname", "photsystem", "photometricsystem", "system"),
    "order": ("order",),
    "kept": ("description", "facility", "instrument", "profilereference", "calibrationreference", "comments"),
}
_CONCEPT = {word: concept for concept, words in _KEYS.items() for word in words}
_KEPT = {"filterid": "filter_id", "profilereference": "reference", "calibrationreference": "calibration_reference"}
_DETECTOR = re.compile(
    r"(?:(?P<photon>photons?|1(?:\.0*)?)|(?P<energy>energy|0(?:\.0*)?))"
    r"(?:[ _-]?(?:count(?:er|ing|s)?|integrat(?:or|ing|ion)))?(?: detector)?$",
    re.IGNORECASE,
)
_MAGNITUDE = re.compile(
    r"(?:(?P<AB>ab)|(?P<ST>st)|(?P<Vega>vega))(?:[ _-]?mags?(?:nitudes?)?)?(?: ?system)?$", re.IGNORECASE
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|[-+]?inf", re.IGNORECASE)
_FIRM = re.compile(r"photon|energy|(?:ab|st|vega)(?:mag)?\b|[-+]?[\d.]+(?:\s|$)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of a header: concept (a key of ours), name as the file spells it, value, and where it stands."""

    concept: str
    name: str
    value: Any
    where: str = "header"

    @property
    def text(self) -> str:
        """The value as text, empty for a missing one."""
        return "" if is_missing(self.value) else str(self.value).strip()

    @property
    def meta_key(self) -> str:
        """What the entry is called in `Passband.meta`."""
        return _KEPT.get(_plain_key(self.name), _plain_key(self.name))


def _plain_key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def entries_of(values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> list[Entry]:
    """The entries that are known, from a mapping or pairs; the first of a name counts."""
    pairs = values.items() if isinstance(values, Mapping) else values
    found: dict[str, Entry] = {}
    for name, value in pairs:
        concept = _CONCEPT.get(_plain_key(str(name)))
        if concept:
            found.setdefault(_plain_key(str(name)), Entry(concept, str(name), value))
    return list(found.values())


def plain_comment(line: str) -> str:
    """A comment without what marks it as one."""
    return re.sub(r"^\s*(?:#+|!+|%+)", "", line).strip()


def entry_of(line: str, where: str) -> Entry | None:
    """The entry in a comment, `key: value`, `key = value`, `key<tab>value` or `key value`; None for prose.

    Without a mark between them, the value must be one word, or begin as values do. `Vega magnitudes` and `energy
    counter` are entries by themselves.
    """
    line = plain_comment(line)
    for concept, pattern in (("detector", _DETECTOR), ("magnitude", _MAGNITUDE)):
        if re.search(r"[ -]", line) and pattern.match(line):
            return Entry(concept, "comment", line, where)
    name, mark, value = (part.strip() for part in re.split(r"([:=,;|\t]+|$)", line, maxsplit=1))
    zero = re.fullmatch(r"(?i)(zero.?p\w*?t|zp)(?:\s*[\[(]\s*(.*?)\s*[\])]|_(jy|mag))", name)
    if zero:
        name, value = zero.group(1), f"{value} {zero.group(2) or zero.group(3).capitalize()}"
    counts = (
        re.search(r"type|count|response", name, re.IGNORECASE) and re.match(r"\D", value) and _DETECTOR.match(value)
    )
    concept = "detector" if mark and counts else _CONCEPT.get(_plain_key(name), "")
    if not concept and (not mark or " " in name):
        words = line.split()
        n = next((n for n in (2, 1) if _plain_key("".join(words[:n])) in _CONCEPT and len(words) > n), 0)
        name, value = " ".join(words[:n]), " ".join(words[n:])
        concept = _CONCEPT.get(_plain_key(name), "")
        if not (_FIRM.match(value) or (len(words) == n + 1 and concept != "label")):
            return None
    value = re.split(r"\s+[/#]\s", value)[0].strip(" '\"")
    return Entry(concept, name, value, where) if concept and value else None


def _understood(path: Path, entries: list[Entry], pattern: re.Pattern[str], expected: str, remedy: str) -> str:
    """The group of the pattern that entries match; empty without any. Raises XpjaxError for others, and for two."""
    found: dict[str, Entry] = {}
    for entry in entries:
        match = pattern.match(entry.text)
        if entry.text and not match:
            raise XpjaxError(
                f"{path}: {entry.where}: {entry.name} {entry.text!r} is not understood, expected {expected}; {remedy}"
            )
        if match:
            found.setdefault(str(match.lastgroup), entry)
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise XpjaxError(
            f"{path}: {first.where}: {first.name} {first.text!r} contradicts {second.where}: {second.name} "
            f"{second.text!r}; mend one, or {remedy}"
        )
    return next(iter(found), "")


def of_concept(entries: Iterable[Entry], *concepts: str) -> list[Entry]:
    """The entries of these concepts."""
    return [entry for entry in entries if entry.concept in concepts]


def say_detector() -> str:
    """The remedy for a detector that is not known."""
    return "pass " + say('detector="photon" or detector="energy"', "--detector photon or --detector energy")


def detector_of(path: Path, entries: list[Entry]) -> str:
    """`photon` or `energy` as the header says; empty where it does not. Raises XpjaxError for other words."""
    return _understood(path, of_concept(entries, "detector"), _DETECTOR, "photon or energy", say_detector())


def is_magnitude(text: str) -> bool:
    """Whether a text names one of the magnitude systems."""
    return _MAGNITUDE.match(text) is not None


def magnitude_of(path: Path, entries: list[Entry]) -> str:
    """`AB`, `ST` or `Vega` as the header says; empty where it does not. Raises XpjaxError for other words."""
    # A photometric system of such a name is one of magnitudes.
    stated = [entry for entry in of_concept(entries, "magnitude") if entry.text]
    stated = stated or [entry for entry in of_concept(entries, "label") if is_magnitude(entry.text)]
    remedy = f"pass {say('magnitude=', '--magnitude')}"
    return _understood(path, stated, _MAGNITUDE, "the magnitude system AB, ST or Vega", remedy)


def number_of(path: Path, entries: list[Entry], concept: str) -> float | None:
    """The number of an entry; None where there is none. Raises XpjaxError for what is no number."""
    for entry in of_concept(entries, concept):
        if entry.text:
            try:
                return float(_NUMBER.match(entry.text).group())  # type: ignore[union-attr]
            except AttributeError:
                raise XpjaxError(
                    f"{path}: {entry.where}: {entry.name} is {entry.text!r}, expected a number; mend it"
                ) from None
    return None


def zero_point_of(
    path: Path, entries: list[Entry], magnitude: str, pivot: float, *, own: bool
) -> tuple[float | None, float | None]:
    """The zero point [mag] for our fluxes, and the flux [Jy] that the header gives it as; None where it gives none.

    A flux is that of magnitude Mag0 at the pivot wavelength [nm]. own: a plain `zero_point` is in magnitudes, as in
    files of ours. In others a plain number is only if negative, as zero points of fluxes in W m-2 nm-1 or Hz-1 are,
    but the SVO's `ZeroPoint` is in Jy.
    """
    entry = next((e for e in of_concept(entries, "zero_point") if e.text), None)
    if entry is None:
        return None, None
    value = number_of(path, [entry], "zero_point")
    assert value is not None
    unit = _NUMBER.sub("", entry.text, count=1).strip("[]() ")
    unit = unit or next((e.text for e in of_concept(entries, "zero_point_unit") if e.text), "")
    if unit.lower() in ("mag", "") and ((own and entry.name == "zero_point") or value < 0):
        return value, None
    if not unit and entry.name.lower() == "zeropoint" and of_concept(entries, "pivot", "id", "detector", "magnitude"):
        unit = "Jy"
    if unit.lower() in ("mag", ""):
        raise XpjaxError(
            f"{path}: {entry.where}: {entry.name} {entry.text!r} is no zero point of fluxes in W m-2 nm-1 or Hz-1, "
            "which is negative; write the flux of magnitude zero with its unit, as in 3631 Jy, or remove the entry"
        )
    if not np.isfinite(value) or value <= 0:
        return None, None
    from astropy.units import Unit, spectral_density

    try:
        if unit != "Jy":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of two slashes in a unit
                density = value * Unit(re.sub(r"\bA\b", "AA", unit))
            value = float(density.to_value("Jy", spectral_density(pivot * Unit("nm"))))
    except (ValueError, TypeError):
        raise XpjaxError(
            f"{path}: {entry.where}: {entry.name} is in {unit!r}, expected Jy, another flux density, or mag; mend it"
        ) from None
    reference = number_of(path, entries, "reference") or 0.0
    reference = reference if np.isfinite(reference) else 0.0
    if magnitude == "Vega":  # f_lambda [W m-2 nm-1] = f_nu c / pivot^2, c in nm/s
        return float(2.5 * np.log10(value * 1e-26 * 1e9 * SPEED_OF_LIGHT / pivot**2) + reference), value
    if magnitude == "AB" and abs(value - 3631) > 1:
        return float(2.5 * np.log10(value * 1e-26) + reference), value
    return None, value  # those of ST and AB are their definitions'
