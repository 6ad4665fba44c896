"""From sheets to curves: which columns, in which units, counted by which detector, in which magnitudes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.units import PERCENT_WORDS, UNIT_WORDS, is_length, is_percent, is_plain, say_unit, to_nm, to_plain
from xpjax.io.streams import PACKED
from xpjax.synthetic.files import header
from xpjax.synthetic.files.sheet import ODD_AXIS, TRANSMISSION, WAVELENGTH, Sheet
from xpjax.synthetic.passband import Passband

EXTINCTION = re.compile(r"extinction", re.IGNORECASE)
FLUX = re.compile(r"^flux", re.IGNORECASE)
_ERRORS = re.compile(r"err|std|sigma|unc|rms|^e_|^d(?:_|tr|th|resp)|flag", re.IGNORECASE)
_NO_FRACTION = re.compile(
    r"^(?:log|ln)(?:10)?[\W_]*(?:t\b|tr|th|resp)|extinction|absor|optical.?density|[\[(](?:mag|db|od)\b", re.IGNORECASE
)
_ODD_PROSE = re.compile(
    r"wave[\W_]*number|frequenc|\b[tg]?hz\b|\bcm\^?-1|\b(?:log|ln)(?:10)?[\W_]*(?:of )?(?:the )?(?:wave|lam|λ|ang)",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class FileCurve:
    """What a file says: wavelength (n,) [nm], up or down, and transmission (n,), finite; how magnitudes are counted."""

    path: Path
    name: str
    label: str
    wavelength: np.ndarray
    transmission: np.ndarray
    detector: str = "photon"
    magnitude: str = "AB"
    zero_point: float | None = None
    order: float | None = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    system: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def plain_name(text: str) -> str:
    """The text as a name of a passband or system: without what columns cannot be called."""
    return re.sub(r"[\s/\\,:]+", "_", text.strip())


def plain_stem(path: Path) -> str:
    """The name of a file without its suffixes, also those of packing."""
    stem = path.stem if path.suffix.lower() not in PACKED else Path(path.stem).stem
    return plain_name(stem)


# --- columns ----------------------------------------------------------------------------------------------------------


def _base(name: str) -> str:
    return re.sub(r"\s*[\[(].*$", "", name).strip()


def _candidate(sheet: Sheet, pattern: re.Pattern[str], exact: str) -> int | None:
    """The column that a pattern finds; of several the one that has the exact name. Raises XpjaxError for several."""
    found = [k for k, n in enumerate(sheet.names) if pattern.search(_base(n)) and not _ERRORS.search(n)]
    found = [k for k in found if sheet.kind == "text" or len(sheet.names[k]) > 1]  # t may be a time
    named = [k for k in found if _base(sheet.names[k]).lower() == exact]
    found = named if len(named) == 1 else found
    if len(found) > 1:
        raise XpjaxError(
            f"{sheet.path}: the columns {' and '.join(sheet.names[k] for k in found)} may each be the {exact}; keep "
            f"one, or call one of them {exact}"
        )
    return found[0] if found else None


def columns_of(sheet: Sheet, pattern: re.Pattern[str], exact: str) -> tuple[int, int]:
    """Which columns are wavelength and values; text of two columns may call them anything.

    Raises XpjaxError where neither names nor number tell, for logarithms, frequencies and wave numbers.
    """
    i, j = _candidate(sheet, WAVELENGTH, "wavelength"), _candidate(sheet, pattern, exact)
    for k, name in enumerate(sheet.names):
        if i in (None, k) and k != j and ODD_AXIS.search(name):
            raise XpjaxError(f"{sheet.path}: the column {name} is no wavelength; convert it to nm, Angstrom or um")
        if exact == "transmission" and j in (None, k) and k != i and _NO_FRACTION.search(name):
            raise XpjaxError(
                f"{sheet.path}: the column {name} is no transmission; convert it to a fraction from 0 to 1"
            )
    if sheet.kind == "text" and len(sheet.columns) == 2:
        i = i if i is not None else 0 if j is None else 1 - j
        j = 1 - i if j is None else j
    if i is None or j is None or i == j:
        what = (
            f"the columns are {list(sheet.names)}" if sheet.names else f"{len(sheet.columns)} column(s) without names"
        )
        two = "two, or " if sheet.kind == "text" else ""
        raise XpjaxError(f"{sheet.path}: {what}, expected {two}wavelength and {exact}; keep these two, so called")
    return i, j


# --- units ------------------------------------------------------------------------------------------------------------


def _bracket(name: str) -> str:
    found = re.search(r"[\[(]\s*([^\])]*?)\s*[\])]", name)
    return found.group(1) if found and not re.match(r"air|vac", found.group(1), re.IGNORECASE) else ""


def _words(entry: header.Entry) -> list[str]:
    """The words of an entry that may be units; of one called as a column the first alone, since it may be prose."""
    words = [word for word in re.split(r"[\s,;|]+", entry.text.strip("[]() ")) if word not in ("", "a")]
    return words[:1] if entry.concept == "column" else words


def stated_units(sheet: Sheet, i: int, *, given: bool = False) -> list[tuple[str, str]]:
    """The units (where, unit) of wavelengths that columns and entries of the header state.

    Of entries, what is not understood counts too, and is refused, unless a unit is given.
    """
    name = sheet.names[i] if sheet.names else ""
    units = [sheet.units[i]] if name and sheet.units[i] else []
    if sheet.kind == "text":
        units = [word for word, pattern in UNIT_WORDS.items() if pattern.search(name)] or [_bracket(name)]
    found = [(f"the column {name}", unit) for unit in units if unit]
    for entry in header.of_concept(sheet.entries, "unit", "column"):
        words = _words(entry)
        lengths = [word for word in words if is_length(word)]
        known = lengths or any(is_percent(word) or is_plain(word) for word in words)
        if entry.concept == "unit" and not known and words and not given:
            lengths = [entry.text] if sheet.kind in ("text", "par") or "wave" in entry.name.lower() else []
        found += [(f"{entry.where}: {entry.name}", word) for word in lengths]
    return found


def _unit(sheet: Sheet, i: int, unit: str | None, wavelength: np.ndarray, values: np.ndarray) -> tuple[str, bool]:
    """The unit of wavelengths, and whether it is a guess.

    Raises XpjaxError for two that differ, one of which may be the option's, and where none can be told.
    """
    stated = stated_units(sheet, i, given=unit is not None)
    asked = [] if unit is None else [(say("unit=", "--unit"), unit)]
    scales: dict[float, tuple[str, str]] = {}
    for where, word in (*asked, *stated):
        scales.setdefault(round(float(to_nm(np.ones(1), word, f"{sheet.path}: {where}")[0]), 12), (where, word))
    if len(scales) > 1:
        (first, one), (second, other) = list(scales.values())[:2]
        raise XpjaxError(f"{sheet.path}: {first} says {one}, but {second} says {other}; leave out or mend one of them")
    if scales:
        return (unit or stated[0][1]), False
    if sheet.kind == "ECSV":
        raise XpjaxError(f"{sheet.path}: the column {sheet.names[i]} has no unit; write `unit: nm` into the header")
    if sheet.kind == "VOTable" and header.of_concept(sheet.entries, "id", "pivot"):
        return "Angstrom", False  # the SVO's
    return _guess(sheet, wavelength, values)


def _guess(sheet: Sheet, wavelength: np.ndarray, transmission: np.ndarray) -> tuple[str, bool]:
    """The unit that comments name, or that the range of wavelengths suggests, and whether it is the latter."""
    for where, line in sheet.prose:
        odd = None if sheet.names else _ODD_PROSE.search(line)
        if odd and re.search(rf"\bT\b|{TRANSMISSION.pattern}", line):
            raise XpjaxError(
                f"{sheet.path}: {where}: {line!r} speaks of {odd.group()!r}; convert it to a wavelength in nm, or name "
                f"the columns in a line and {say_unit()}"
            )
    named = [u for u, pattern in UNIT_WORDS.items() if any(pattern.search(line) for _, line in sheet.prose)]
    # Where the light is: tables may begin and end far out with zeros.
    weight = np.maximum(transmission, 0.0) if (transmission > 0).any() else np.ones_like(transmission)
    middle = wavelength @ weight / weight.sum()
    ranges = {"Angstrom": (2500, 3e5), "nm": (250, 2500), "um": (0.2, 3)}
    likely = next((u for u, (low, high) in ranges.items() if low <= middle < high), None)
    if len(named) == 1 and likely in (None, named[0]):
        return named[0], False
    if len(named) == 1 or likely is None:
        says = f"its comments say {named[0]}" if len(named) == 1 else "the header names no unit"
        looks = f" but look like {likely}" if likely else ""
        raise XpjaxError(
            f"{sheet.path}: {says}, and the wavelengths lie within {wavelength.min():g}..{wavelength.max():g}"
            f"{looks}; {say_unit()}"
        )
    return likely, True


def _fraction(sheet: Sheet, j: int, values: np.ndarray) -> np.ndarray:
    """Transmissions (n,) as fractions: percent are converted where the header says so. Raises XpjaxError for doubt."""
    name = sheet.names[j] if sheet.names else ""
    if sheet.names and sheet.units[j]:
        return to_plain(values, sheet.units[j], name, sheet.path)
    told = [e for e in sheet.entries if e.concept in ("unit", "transmission_unit", "column")]
    if PERCENT_WORDS.search(name) or any(is_percent(word) for entry in told for word in _words(entry)):
        return values / 100.0
    where = next((f"{where}: {line!r}" for where, line in sheet.prose if PERCENT_WORDS.search(line)), None)
    if where is None:
        return values
    if values.max() <= 1:
        raise XpjaxError(
            f"{sheet.path}: {where} speaks of percent, but the transmissions are not above one; call the column "
            "`transmission[%]` if they are percent, or take the word out"
        )
    return values / 100.0


# --- curves -----------------------------------------------------------------------------------------------------------


def curve_of(
    sheet: Sheet,
    unit: str | None = None,
    detector: str | None = None,
    magnitude: str | None = None,
    *,
    extinction: bool = False,
) -> FileCurve:
    """The curve of a sheet; unit, detector and magnitude as given to `read_passbands`. Raises XpjaxError."""
    what = "extinction" if extinction else "transmission"
    i, j = columns_of(sheet, EXTINCTION if extinction else TRANSMISSION, what)
    x, values = sheet.numbers(i, "wavelength"), sheet.numbers(j, what)
    _check_numbers(sheet, x, values, what)
    stated, guessed = _unit(sheet, i, unit, x, values)
    x = to_nm(x, stated, sheet.path)
    _check_order(sheet, x)
    if not extinction:
        values = _fraction(sheet, j, values)
    elif sheet.units and sheet.units[j]:
        values = to_plain(values, sheet.units[j], sheet.names[j], sheet.path, "mag")
    meta = _meta(sheet)
    if guessed:
        meta["wavelength_unit_guessed"] = stated
    kind, found = _detector(sheet, x, values, detector)
    meta.update(found)
    system, zero_point, flux = _magnitude(sheet, x, values, kind, magnitude)
    if flux is not None:
        meta["zero_point_jy"] = flux
    name, label = _names(sheet)
    order = header.number_of(sheet.path, sheet.entries, "order") if sheet.kind == "ECSV" else None
    extra = dict(sheet.meta.get("system") or {}) if isinstance(sheet.meta.get("system"), Mapping) else {}
    return FileCurve(sheet.path, name, label, x, values, kind, system, zero_point, order, meta, extra)


def _meta(sheet: Sheet) -> dict[str, Any]:
    """`Passband.meta` of a sheet: what its header says besides."""
    concepts = ("detector", "magnitude", "zero_point", "name", "label", "order")
    used = {entry.name for entry in sheet.entries if entry.concept in concepts}
    if sheet.kind == "ECSV":
        return {key: value for key, value in sheet.meta.items() if key not in used}
    ident = next((e.text for e in header.of_concept(sheet.entries, "id")), "")
    meta: dict[str, Any] = {"source": f"SVO Filter Profile Service, {ident}" if ident else sheet.path.name}
    for entry in header.of_concept(sheet.entries, "kept", "id"):
        if entry.text:
            meta[entry.meta_key] = entry.text
    return meta


def _names(sheet: Sheet) -> tuple[str, str]:
    """Name and label: those of the header, or of the SVO's id FACILITY/INSTRUMENT.FILTER; the stem, and none."""
    name, label, ident = (
        next((e.text for e in header.of_concept(sheet.entries, key) if not isinstance(e.value, Mapping) and e.text), "")
        for key in ("name", "label", "id")
    )
    facility, _, rest = ident.rpartition("/")
    instrument, _, band = rest.partition(".")
    if sheet.kind != "ECSV" and ident:
        name, label = name or band, instrument or facility or label
    return plain_name(name) or plain_stem(sheet.path), "" if header.is_magnitude(label) else plain_name(label)


def _pivot(wavelength: np.ndarray, transmission: np.ndarray, detector: str) -> float:
    """Pivot wavelength [nm] by plain trapezoids, which agree with the service's to eight digits."""
    power = 1 if detector == "photon" else 0
    above, below = (np.trapezoid(transmission * wavelength ** (power - n), wavelength) for n in (0.0, 2.0))
    return float(np.sqrt(above / below)) if below else np.nan


def _detector(sheet: Sheet, x: np.ndarray, t: np.ndarray, given: str | None) -> tuple[str, dict[str, str]]:
    """What the detector counts: as given, as stated, or as gives the stated pivot wavelength [Angstrom]."""
    if given is not None:
        return given, {}
    stated = header.detector_of(sheet.path, sheet.entries)
    if stated:
        return stated, {}
    pivot = header.number_of(sheet.path, sheet.entries, "pivot")
    if pivot is not None and np.isfinite(pivot):
        away = {kind: abs(_pivot(x, t, kind) * 10 - pivot) for kind in ("photon", "energy")}
        return min(away, key=lambda kind: away[kind]), {"detector_from": "WavelengthPivot"}
    if sheet.kind == "VOTable" and header.of_concept(sheet.entries, "id"):
        raise XpjaxError(
            f"{sheet.path}: neither DetectorType nor WavelengthPivot tells what the detector counts; "
            f"{header.say_detector()}"
        )
    return "photon", {}


def _magnitude(
    sheet: Sheet, x: np.ndarray, t: np.ndarray, detector: str, given: str | None
) -> tuple[str, float | None, float | None]:
    """Magnitude system, zero point [mag] and its flux [Jy]. A zero point goes only with its magnitude system."""
    try:
        stated = header.magnitude_of(sheet.path, sheet.entries) or "AB"
    except XpjaxError:
        if given is None:
            raise
        return given, None, None
    if given is not None and given != stated:
        return given, None, None
    if not any(entry.text for entry in header.of_concept(sheet.entries, "zero_point")):
        return stated, None, None
    pivot = header.number_of(sheet.path, sheet.entries, "pivot")
    nm = pivot / 10 if pivot is not None and np.isfinite(pivot) else _pivot(x, t, detector)
    return stated, *header.zero_point_of(sheet.path, sheet.entries, stated, nm, own=sheet.kind == "ECSV")


def _check_numbers(sheet: Sheet, wavelength: np.ndarray, values: np.ndarray, what: str) -> None:
    """Raise XpjaxError, with the row, for a number that is not finite, and for too few."""
    if len(wavelength) < 2:
        raise XpjaxError(f"{sheet.path}: {len(wavelength)} row(s) of numbers, but a curve has two or more")
    for name, array in (("wavelength", wavelength), (what, values)):
        for k in np.flatnonzero(~np.isfinite(array))[:1]:
            raise XpjaxError(f"{sheet.path}: {sheet.rows[k]}: the {name} is {array[k]}; drop the row or mend it")


def _check_order(sheet: Sheet, wavelength: np.ndarray) -> None:
    """Raise XpjaxError, with the row, for wavelengths (n,) [nm] that neither rise nor fall throughout."""
    upward = 1 if wavelength[-1] > wavelength[0] else -1
    for k in np.flatnonzero(np.diff(wavelength) * upward <= 0)[:1]:
        raise XpjaxError(
            f"{sheet.path}: {sheet.rows[k + 1]}: the wavelengths are not monotonic: {wavelength[k + 1]:g} nm follows "
            f"{wavelength[k]:g} nm; sort the rows and drop repeated ones"
        )


def passband_of(curve: FileCurve, *, clip: bool = False, normalize: bool = False) -> Passband:
    """The curve as a record. Raises XpjaxError, with the sample, for transmissions that are none."""
    transmission, meta = curve.transmission, dict(curve.meta)
    if clip and transmission.min() < 0:
        meta["clipped"] = int(np.sum(transmission < 0))
        transmission = np.maximum(transmission, 0.0)
    if normalize and transmission.max() > 0:
        meta["normalized_by"] = float(transmission.max())
        transmission = transmission / transmission.max()
    try:
        return Passband(
            curve.name, curve.wavelength, transmission, curve.detector, curve.magnitude, curve.zero_point, meta
        )
    except XpjaxError as exc:
        raise XpjaxError(f"{curve.path}: {exc}") from exc
