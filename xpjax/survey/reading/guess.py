"""What the columns and headers of unknown tables of detections mean, how sure that is, and why.

Names come first, then units and values: a position on the detector is in pixels, an identifier of Gaia's encodes the
position of its star, an exposure has several rows, and there are several of them. What looks like an entry and is not
taken for it is noted, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.sky import pixel_centers
from xpjax.io.tables import iso_day
from xpjax.survey import CUTS, separation
from xpjax.survey.reading.look import Guess, Look, few
from xpjax.survey.reading.names import BAND, DEC_OF_RA, KEYWORDS, Y_OF_X, first_match, partner, same
from xpjax.survey.reading.sections import CUT_COLUMNS

LEAST_ID = 1 << 35
"""Gaia's identifiers are larger, but for one pixel of the sky."""
PIXEL = 120.0
"""How far a star may be from the center of the pixel that its identifier encodes [arcsec]."""
DAYS = ((40_000.0, 80_000.0), (2.4e6, 2.5e6))
"""Times of surveys as modified Julian days and as Julian days, from and to."""
MANY = 0.5
"""A column with more different values than this part of its rows says nothing that detections have in common."""
NARROW = 50.0
"""Positions that span fewer pixels are none on a detector."""


# --- positions and stars ----------------------------------------------------------------------------------------------


def find_pixels(look: Look) -> list[Guess]:
    """Positions on the detector."""
    good: list[tuple[str, str]] = []
    for x in first_match("x", look.names):
        y, unit, values = partner(x, Y_OF_X, look.names), look.unit(x), look.numbers(x)
        if y is None or values is None or look.numbers(y) is None or not np.isfinite(values).any():
            why = "no column is its y" if y is None else "no numbers"
            look.notes.append(f"{x} is not taken for a position on the detector: {why}")
        elif unit and not unit.startswith(("pix", "px")):
            look.notes.append(f"{x} is not taken for a position on the detector: its unit is {unit}")
        else:
            good.append((x, y))
    if not good:
        return []
    x, y = good[0]
    values = look.numbers(x)
    assert values is not None
    span = float(np.nanmax(values) - np.nanmin(values))
    stated = look.unit(x).startswith(("pix", "px"))
    sure = "guess" if span < NARROW else "certain" if stated or "image" in x.lower() else "likely"
    why = f"name {x}{', in pixels' * stated}, spanning {span:,.0f}"
    others = tuple(name for name, _ in good[1:])
    return [Guess("columns.x", x, sure, why, others), Guess("columns.y", y, sure, f"beside {x}")]


def find_sky(look: Look) -> list[Guess]:
    """Positions on the sky."""
    good = []
    for ra in first_match("ra", look.names):
        dec = partner(ra, DEC_OF_RA, look.names)
        found = None if dec is None else look.positions(ra, dec)
        if found is None:
            why = "no column is its declination" if dec is None else "no angles"
            look.notes.append(f"{ra} is not taken for a right ascension: {why}")
        else:
            good.append((ra, dec, *found))
    if not good:
        return []
    ra, dec, alpha, delta = good[0]
    sure, unit = "certain", look.unit(ra)
    if not unit and np.nanmax(alpha) <= 2 * np.pi and np.nanmax(np.abs(delta)) <= np.pi / 2:
        sure = "guess"
        look.notes.append(
            f"{ra} and {dec} have no unit and may be radians: taken for degrees; state the unit in the tables"
        )
    why = f"names {ra} and {dec}" + (f", in {unit}" if unit else "")
    others = tuple(name for name, *_ in good[1:])
    return [Guess("columns.ra", ra, sure, why, others), Guess("columns.dec", dec, sure, f"beside {ra}")]


def find_star(look: Look, sky: Sequence[Guess]) -> list[Guess]:
    """The identifier of stars: Gaia's, or the survey's own where nothing else tells stars."""
    at = look.positions(*(guess.value for guess in sky)) if sky else None
    for name in first_match("star", look.names):
        ids = look.ids(name)
        if ids is None or ids.dtype.kind not in "iu" or not (ids > LEAST_ID).any():
            look.notes.append(f"{name} is not taken for Gaia's identifier: its values are none")
            continue
        off = np.nan if at is None else _encoded(ids, *at)
        if off > PIXEL:
            look.notes.append(
                f"{name} is not taken for Gaia's identifier: it encodes positions {off / 3600:.3g} deg off "
                "those of the table"
            )
            continue
        placed = bool(np.isfinite(off))
        why = "of the size of Gaia's identifiers" + ", which encode the positions of the table" * placed
        return [Guess("columns.star", name, "certain" if placed else "likely", why)]
    for name in first_match("own_star", look.names):
        ids = look.ids(name)
        if ids is None or not len(ids):
            continue
        if ids.dtype.kind in "iu" and _counts(ids) and not look.repeats(name):
            look.notes.append(f"{name} is not taken for an identifier of stars: it counts the rows")
        elif at is not None:
            look.notes.append(f"{name} is not taken for an identifier of stars: positions tell them")
        elif len(np.unique(ids)) < len(ids):
            return [Guess("columns.star", name, "guess", "the same values on several exposures, and no positions")]
    return []


def _encoded(ids: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> float:
    """The median distance [arcsec] of positions (n,) [deg] from those that identifiers encode; NaN without any."""
    there = np.flatnonzero((ids > LEAST_ID) & np.isfinite(ra + dec))
    if not len(there):
        return np.nan
    some = there[np.unique(np.linspace(0, len(there) - 1, 50).astype(int))]
    rows = zip(*pixel_centers(ids[some]), ra[some], dec[some], strict=True)
    return float(np.median([separation(*(np.array([value]) for value in row)) for row in rows]))


def _counts(ids: np.ndarray) -> bool:
    """Whether numbers (n,) grow from row to row, and are hardly more than the rows."""
    return len(ids) > 2 and bool(np.mean(np.diff(ids) > 0) > 0.8 and np.ptp(ids) < 100 * len(ids))


# --- frames -----------------------------------------------------------------------------------------------------------


def find_frames(look: Look, wide: bool) -> list[Guess]:
    """What tells exposures, bands and detectors, their times, airmasses and nights; wide: columns are of bands."""
    band = [] if wide else _band(look)
    detector = _detector(look)
    exposure = [] if look.named else _exposure(look, band, detector)
    return [*exposure, *band, *detector, *_number(look, "time"), *_number(look, "airmass"), *_night(look)]


def _band(look: Look) -> list[Guess]:
    for keyword in KEYWORDS["band"]:
        if (values := look.keyword(keyword)) is not None:
            kinds = sorted({*map(str, values)})
            return [Guess("columns.band", {"header": keyword}, "certain", f"header keyword: {few(kinds, 6)}")]
    for name in first_match("band", look.names):
        texts = look.texts(name)
        kinds = [] if texts is None else np.unique(texts[texts != ""]).tolist()
        if texts is not None and 0 < len(kinds) <= MANY * len(texts):
            return [Guess("columns.band", name, "certain", f"name {name}, with values {few(kinds, 6)}")]
    return _band_of_file(look)


def _band_of_file(look: Look) -> list[Guess]:
    """A part of the names of files that is a band, where each has one."""
    apart = r"(?<![A-Za-z0-9])({})(?![A-Za-z0-9])"
    found = [re.findall(apart.format(BAND), name.partition(".")[0]) for name in look.files]
    if not all(look.files) or any(len(one) != 1 for one in found):
        return []
    kinds = sorted({one[0] for one in found})
    value = {"file": apart.format("|".join(map(re.escape, kinds)))}
    sure = "likely" if len(kinds) > 1 else "guess"
    return [Guess("columns.band", value, sure, f"in the names of files: {few(kinds, 6)}")]


def _detector(look: Look) -> list[Guess]:
    for keyword in KEYWORDS["detector"]:
        kinds = {*map(str, look.keyword(keyword) or ())}
        if len(kinds) > 1 and len(kinds) == len(look.tables) and _several_times(look):
            look.notes.append(f"header {keyword} is another one in each exposure: not taken for the detector")
        elif len(kinds) > 1:
            return [Guess("columns.detector", {"header": keyword}, "certain", f"header keyword, {len(kinds)} values")]
    for name in first_match("detector", look.names):
        texts = look.texts(name)
        if texts is None or not 1 < len(np.unique(texts)) <= 1000:
            continue
        quadrant = next((q for q in first_match("quadrant", look.names) if look.texts(q) is not None), None)
        why = f"name {name}, {len(np.unique(texts))} values" + (f", and {quadrant}" if quadrant else "")
        return [Guess("columns.detector", name if quadrant is None else (name, quadrant), "certain", why)]
    return []


def _several_times(look: Look) -> bool:
    """Whether the headers of all tables have other times, so that each is an exposure, of one detector or another."""
    times = next((found for keyword in KEYWORDS["time"] if (found := look.keyword(keyword)) is not None), [])
    return len({*map(str, times)}) == len(look.tables)


def _exposure(look: Look, band: Sequence[Guess], detector: Sequence[Guess]) -> list[Guess]:
    """A keyword that tells the tables, with their bands and detectors, or a column with several values."""
    rest = [look.keyword(guess.value["header"]) or [] for guess in (*band, *detector)
            if isinstance(guess.value, Mapping) and "header" in guess.value]  # fmt: skip
    rest += [[table.part for table in look.tables]] if look.parts > 1 else []
    for keyword in KEYWORDS["exposure"]:
        values = look.keyword(keyword)
        if values is None:
            continue
        keys = {*zip(map(str, values), *(map(str, one) for one in rest), strict=True)}
        if len(keys) == len(look.tables) and not isinstance(values[0], float):  # EXPOSURE = 30.0 is a time
            kinds = len({*map(str, values)})
            return [Guess("columns.exposure", {"header": keyword}, "certain", f"header keyword, {kinds:,} values")]
        look.notes.append(f"header {keyword} = {values[0]} does not tell the exposures: not taken")
    for name in first_match("exposure", look.names):
        texts, numbers = look.texts(name), look.numbers(name)
        if texts is None or (numbers is not None and np.any(np.mod(numbers[np.isfinite(numbers)], 1) != 0)):
            continue
        kinds = len(np.unique(texts[texts != ""]))
        if kinds > MANY * len(texts) or (kinds < 2 and len(look.tables) > 1):
            look.notes.append(f"{name} has {kinds:,} values in {len(texts):,} rows: not taken for exposures")
        elif kinds > 1:
            unsure = re.match("field|tile", name, re.IGNORECASE) or kinds > 0.2 * len(texts)
            sure = "guess" if unsure else "certain"
            return [Guess("columns.exposure", name, sure, f"name {name}, {kinds:,} values")]
    return []


def _number(look: Look, role: str) -> list[Guess]:
    """Times or airmasses: a keyword, or a column, whose values may be some."""
    entry = f"columns.{role}"
    for keyword in KEYWORDS[role]:
        values = look.keyword(keyword)
        if values is None:
            continue
        odd = [value for value in values if not _may_be(role, value)]
        if not odd:
            return [Guess(entry, {"header": keyword}, "certain", f"header keyword, such as {values[0]}")]
        look.notes.append(f"header {keyword} = {odd[0]} is no {role}: not taken")
    for name in first_match(role, look.names):
        numbers = look.times(name) if role == "time" else look.numbers(name)
        known = np.zeros(0) if numbers is None else numbers[np.isfinite(numbers)]
        if len(known) and all(_may_be(role, float(value)) for value in np.percentile(known, [1, 50, 99])):
            return [Guess(entry, name, "certain", f"name {name}, median {np.median(known):.7g}")]
        if numbers is not None:
            look.notes.append(f"{name} is not taken for the {role}: its values are none")
    return []


def _may_be(role: str, value: Any) -> bool:
    """Whether a value may be a time or an airmass."""
    if isinstance(value, str):
        day = iso_day(value) if role == "time" else np.nan
        try:
            value = day if np.isfinite(day) else float(value)
        except ValueError:
            return False
    return bool(1 <= value < 10) if role == "airmass" else any(low < value < high for low, high in DAYS)


def _night(look: Look) -> list[Guess]:
    for keyword in KEYWORDS["night"]:
        if look.keyword(keyword) is not None:
            return [Guess("columns.night", {"header": keyword}, "certain", "header keyword")]
    for name in first_match("night", look.names):
        texts = look.texts(name)
        if texts is not None and len(np.unique(texts)) <= MANY * len(texts):
            return [Guess("columns.night", name, "certain", f"name {name}")]
    return []


# --- cuts -------------------------------------------------------------------------------------------------------------


def find_flags(look: Look, bands: Sequence[str]) -> list[Guess]:
    """The flags of measurements: whole numbers, of all bands or by band."""
    for name in first_match("flags", look.names):
        if look.flags(name) is not None:
            sure = "certain" if "flags" in name.lower() else "likely"
            return [Guess("columns.flags", name, sure, f"name {name}, whole numbers")]
        look.notes.append(f"{name} is not taken for flags: its values are no whole numbers")
    for pattern in ("flags_{band}", "{band}_flags", "FLAGS_{band}", "{band}_FLAGS", "flag_{band}", "{band}_flag"):
        mine = [pattern.replace("{band}", band) for band in bands]
        if mine and all(name in look.names and look.flags(name) is not None for name in mine):
            return [Guess("columns.flags", pattern, "certain", "by band, whole numbers")]
    return []


def find_gaia(look: Look) -> list[Guess]:
    """Columns of Gaia that cuts use, where they are not spelled as Gaia has them."""
    wanted = [need for need in CUT_COLUMNS if need not in ("flags", "ra", "dec") and need not in look.names]
    found = {need: same(need, look.names) for need in wanted}
    return [Guess(f"columns.{need}", name, "certain", f"name {name}") for need, name in found.items() if name]


def cuts_that_run(columns: Sequence[str]) -> list[str]:
    """The cuts of standards that have their columns, by the names that cuts call them."""
    wanted = ("magnitude_error", "flags", "neighbors", "ruwe", "corrected_excess", "variability")
    return [cut for cut in wanted if {*CUTS[cut].needs} <= {*columns, "magnitude"}]
