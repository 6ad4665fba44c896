"""Which columns of unknown tables hold magnitudes, their errors, and what they should be; one band, or one of many."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.survey import MISSING
from xpjax.survey.reading.look import Guess, Look, few
from xpjax.survey.reading.names import (
    COLORS,
    KINDS,
    NO_KIND,
    SINGLE_MODEL,
    error_of,
    is_flux,
    is_magnitude,
    is_model,
    kind_of,
    same,
    template,
)

MEASURED = {"magnitude": "magnitude_error", "apertures": "aperture_errors", "flux": "flux_error"}
"""Entries that say what is measured, and those of their errors."""
FAINTEST = 45.0
"""Beyond this, and below -FAINTEST, no star has a magnitude, instrumental or not."""
LARGE_ERROR = 0.5
"""A median error beyond this [mag] is none of magnitudes: it may be in percent or millimagnitudes."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What holds magnitudes, as entries of [columns]; the bands of a wide table, and those of them without models."""

    guesses: tuple[Guess, ...]
    bands: tuple[str, ...] = ()
    without_model: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Family:
    """A column of magnitudes, or those of several bands by a common name with {band}."""

    name: str
    columns: Mapping[str, str]
    error: str | None

    @property
    def wide(self) -> bool:
        return bool(self.columns)


def find_magnitudes(look: Look, standards: Look | None, models: bool, given: Mapping[str, Any]) -> Measured:
    """Magnitudes, errors, models and colors. standards: a table of them apart; models: whether columns give them.

    given: entries that are known. Raises XpjaxError where nothing looks like a magnitude, or no column is called so.
    """
    known = next((entry for entry in MEASURED if given.get(f"columns.{entry}") is not None), None)
    guesses, best = _measured(look) if known is None else _given(look, known, given[f"columns.{known}"])
    notes = _error_notes(look, best)
    if not models:
        return Measured(tuple(guesses), tuple(best.columns), (), tuple(notes))
    found, without, more = _models(standards or look, best, standards is not None)
    if standards is not None:
        found = [dataclasses.replace(one, value=_theirs(one.value, look)) for one in found]
    return Measured((*guesses, *found), tuple(b for b in best.columns if b not in without), without, (*notes, *more))


def _measured(look: Look) -> tuple[list[Guess], _Family]:
    """The magnitudes with their errors: those that suit stars best, or apertures, or fluxes."""
    families = _families(look)
    if not families:
        return _apertures(look) or _fluxes(look)
    best, others = _best(families)
    k = kind_of(best.name)
    tied = [one for one in families if one is not best and _rank(one)[:3] == _rank(best)[:3]]
    sure = "guess" if tied or best.error is None else "likely" if others or k == NO_KIND else "certain"
    why = f"magnitudes {KINDS[k][1]}" + ("" if best.error else ", without errors")
    if tied:
        why += f", the first of {len(tied) + 1} that are as likely"
    return [Guess("columns.magnitude", best.name, sure, why, others), *_error(best, "columns.magnitude_error")], best


def _given(look: Look, entry: str, name: Any) -> tuple[list[Guess], _Family]:
    """Magnitudes, apertures or fluxes whose name is given, perhaps with {band}, or whose names are."""
    given = Guess(f"columns.{entry}", name, "certain", "given")
    if not isinstance(name, str):
        return [given], _Family(few(name), {}, None)
    columns = {}
    if "{band}" in name:
        columns = {band: own for own in look.names for pattern, band in template(own) if pattern == name}
    if not columns:
        look.tables[0].check(name, f"columns.{entry}")
    error = _wide_error(columns, look.names) if columns else error_of(name, look.names)
    best = _Family(name, columns, error)
    return [given, *_error(best, f"columns.{MEASURED[entry]}")], best


def _best(families: Sequence[_Family]) -> tuple[_Family, tuple[str, ...]]:
    """The family that suits stars best, and the names of the others."""
    first, *rest = sorted(families, key=_rank)
    return first, tuple(one.name for one in rest)


def _error(family: _Family, entry: str) -> list[Guess]:
    if family.error is None:
        return []
    return [Guess(entry, family.error, "certain", f"called as the errors of {family.name}")]


def _theirs(value: object, look: Look) -> object:
    """Columns of the standards; those that the survey's tables have too are called as theirs."""
    if isinstance(value, tuple):
        return tuple(_theirs(one, look) for one in value)
    name = str(value)
    pattern = re.escape(name).replace(r"\{band\}", ".+")
    return f"standards.{name}" if any(re.fullmatch(pattern, own) for own in look.names) else name


def _rank(family: _Family) -> tuple[int, int, int, int, int]:
    """Families with errors go first, then single columns, then kinds that suit stars, then those of more bands."""
    generic = 0 if re.search("mag", family.name, re.IGNORECASE) else 1
    return family.error is None, family.wide, kind_of(family.name), generic, -len(family.columns)


def _families(look: Look) -> list[_Family]:
    """Columns of magnitudes, alone or by bands, with their errors."""
    names = look.names
    plain = [n for n in names if is_magnitude(n, look.unit(n)) and not (is_flux(n) and not re.search("mag$", n, re.I))]
    tagged = [
        n for n in names
        if n not in plain and template(n) and error_of(n, names) and not (is_flux(n) or is_model(n))
    ]  # fmt: skip
    candidates = [n for n in plain + tagged if not look.is_vector(n) and _plausible(look, n)]
    errors = {error_of(name, names) for name in candidates}
    candidates = [name for name in candidates if name not in errors]
    out = _grouped(candidates, names)
    for name in candidates:
        if not any(name in family.columns.values() for family in out if len(family.columns) > 1):
            own = [one for one in template(name) if same(one[0].replace("{band}", one[1]), names)]
            if name in tagged and len(own) == 1:
                out.append(_Family(own[0][0], {own[0][1]: name}, _wide_error({own[0][1]: name}, names)))
            elif name in plain:
                out.append(_Family(name, {}, error_of(name, names)))
    return out


def _grouped(candidates: Sequence[str], names: Sequence[str]) -> list[_Family]:
    """Columns of two bands or more whose names differ in the band alone."""
    groups: dict[str, dict[str, str]] = {}
    for name in candidates:
        for pattern, band in template(name):
            groups.setdefault(pattern, {})[band] = name
    out: list[_Family] = []
    taken: set[str] = set()
    for pattern, columns in sorted(groups.items(), key=lambda group: -len(group[1])):
        if len(columns) > 1 and not taken & set(columns.values()):
            taken |= set(columns.values())
            out.append(_Family(pattern, columns, _wide_error(columns, names)))
    return out


def _wide_error(columns: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The common name with {band} of the errors of every band, or None."""
    common: set[str] | None = None
    for band, name in columns.items():
        error = error_of(name, names)
        patterns = set() if error is None else {p for p, b in template(error) if b == band}
        if error is not None and not patterns:
            patterns = {error.replace(band, "{band}", 1)} if error.count(band) == 1 else set()
        common = patterns if common is None else common & patterns
    return min(common, key=len) if common else None


def _plausible(look: Look, name: str, kind: str = "magnitude") -> bool:
    """Whether a sample of a column may be magnitudes: numbers of their size, not all alike."""
    values = look.numbers(name, kind)
    if values is None:
        return False
    known = values[np.abs(values) < MISSING]
    if not len(known):
        return False
    low, middle, high = np.percentile(known, [5, 50, 95])
    return bool(low > -FAINTEST and high < FAINTEST and (high > low or len(known) < 3) and middle != 0)


def _error_notes(look: Look, family: _Family) -> list[str]:
    """What is odd about the errors of magnitudes."""
    if family.error is None:
        return [f"{family.name} has no errors that are called like it: the scatter gives the weights"]
    out = []
    for band in family.columns or ("",):
        name = family.error.replace("{band}", band)
        if look.is_vector(name):
            continue
        flux = is_flux(family.name)
        values = look.numbers(name, None if flux else "magnitude")
        if flux and values is not None:
            values = values / look.numbers(family.name.replace("{band}", band))
        known = np.zeros(0) if values is None else values[(np.abs(values) < MISSING) & (values > 0)]
        if not len(known):
            out.append(f"{name} has no value above zero")
        elif np.median(known) > LARGE_ERROR:
            said = "times its flux" if flux else "too much for magnitudes: it may be in percent or millimagnitudes"
            out.append(f"{name} is {np.median(known):.3g} for the median star, {said}; convert it, or state its unit")
    return out


# --- models and colors ------------------------------------------------------------------------------------------------


def _models(look: Look, family: _Family, apart: bool) -> tuple[list[Guess], tuple[str, ...], list[str]]:
    """Model magnitudes, their errors and a color among the columns of a table; bands without models; and notes.

    apart: of a table of standards, whose magnitudes are models whatever they are called.
    """
    named = [n for n in look.names if is_model(n)]
    if apart and not named:
        named = [n for n in look.names if is_magnitude(n, look.unit(n)) or (family.wide and template(n))]
    candidates = [n for n in named if not look.is_vector(n) and _plausible(look, n)]
    if not family.wide:
        return _single_model(look, candidates)
    groups: dict[str, dict[str, str]] = {}
    for name in candidates:
        for pattern, band in template(name):
            if band in family.columns:
                groups.setdefault(pattern, {})[band] = name
    if not groups:
        return [], (), []
    pattern, columns = max(groups.items(), key=lambda group: (len(group[1]), -len(group[0])))
    without = tuple(band for band in family.columns if band not in columns)
    why = f"called as magnitudes of standards, in {len(columns)} of {len(family.columns)} bands"
    rest = tuple(p for p in groups if p != pattern)
    guess = Guess("columns.model", pattern, "guess" if rest else "likely", why, rest)
    return [guess, *_model_error(_wide_error(columns, look.names)), *_color(look, columns)], without, []


def _single_model(look: Look, candidates: Sequence[str]) -> tuple[list[Guess], tuple[str, ...], list[str]]:
    """The same of magnitudes in one column."""
    single = [n for n in candidates if any(re.fullmatch(p, n, re.IGNORECASE) for p in SINGLE_MODEL)] or candidates
    if len(single) > 1:
        said = say('entries={"columns.model": "NAME"}', "--set columns.model=NAME")
        return [], (), [f"{few(single)} may all be the magnitudes of the standards: say which it is with {said}"]
    if not single:
        return [], (), []
    guess = Guess("columns.model", single[0], "likely", "called as magnitudes of standards")
    return [guess, *_model_error(error_of(single[0], look.names)), *_color(look, {})], (), []


def _model_error(error: str | None) -> list[Guess]:
    return [] if error is None else [Guess("columns.model_error", error, "certain", "called as the model's errors")]


def _color(look: Look, models: Mapping[str, str]) -> list[Guess]:
    """The color of stars: Gaia's, a column that is called so, or a difference of models."""
    if (name := same("bp_rp", look.names)) is not None:
        return [Guess("columns.color", name, "certain", "Gaia's BP - RP")]
    pair = tuple(same(f"phot_{band}_mean_mag", look.names) for band in ("bp", "rp"))
    if None not in pair:
        return [Guess("columns.color", pair, "certain", "Gaia's BP - RP")]
    named = [n for n in look.names if re.fullmatch(r"colou?r|[a-z]{1,2}[_-][a-z]{1,2}_?(?:mod|color)?|bprp", n, re.I)]
    named = [n for n in named if re.search("colou?r|bprp", n, re.I) and look.numbers(n, "magnitude") is not None]
    if named:
        return [Guess("columns.color", named[0], "likely", "its name says a color", tuple(named[1:]))]
    for blue, red in COLORS:
        have = [next((n for band, n in models.items() if re.fullmatch(rf"{one}(?:SDSS|PS1|JAVA|p)?", band)), None)
                for one in (blue, red)]  # fmt: skip
        if None not in have:
            return [Guess("columns.color", (have[0], have[1]), "likely", f"{blue} - {red} of the models")]
    return []


# --- apertures and fluxes ---------------------------------------------------------------------------------------------


def _apertures(look: Look) -> tuple[list[Guess], _Family] | None:
    """Magnitudes in several apertures in one column of vectors, where no other magnitude is there."""
    found = [n for n in look.names if is_magnitude(n, look.unit(n)) and look.is_vector(n) and re.search("ap", n, re.I)]
    if not found:
        return None
    family = _Family(found[0], {}, error_of(found[0], look.names))
    guess = Guess("columns.apertures", found[0], "likely", "magnitudes in several apertures", tuple(found[1:]))
    return [guess, *_error(family, "columns.aperture_errors")], family


def _fluxes(look: Look) -> tuple[list[Guess], _Family]:
    """Fluxes where there is no magnitude. Raises XpjaxError where there are none either."""
    fluxes = [n for n in look.names if is_flux(n) and not look.is_vector(n) and look.numbers(n) is not None]
    families = _grouped(fluxes, look.names)
    taken = {name for family in families for name in family.columns.values()}
    families += [_Family(name, {}, error_of(name, look.names)) for name in fluxes if name not in taken]
    if not families:
        vectors = [n for n in look.names if is_magnitude(n, look.unit(n)) and look.is_vector(n)]
        odd = [n for n in look.names if is_magnitude(n, look.unit(n)) and n not in vectors]
        more = f" ({few(odd)}: values are none of magnitudes)" if odd else ""
        more = f" ({few(vectors)}: several numbers a row, write them as columns of their own)" if vectors else more
        raise XpjaxError(
            f"{look.tables[0].origin} has no column that looks like a magnitude or a flux{more}; it has "
            f"{few(look.names, 20)}. "
            f"Say which it is with {say('entries=', '--set')}, as in "
            + say('{"columns.magnitude": "NAME"}', "--set columns.magnitude=NAME")
        )
    best, others = _best(families)
    why = f"flux {KINDS[kind_of(best.name)][1]}, as there is no magnitude"
    guess = Guess("columns.flux", best.name, "guess" if others else "likely", why, others)
    return [guess, *_error(best, "columns.flux_error")], best
