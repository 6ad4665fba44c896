"""Model magnitudes from XP spectra, and the passband at each exposure's own airmass.

Magnitudes are brought to one airmass by the stars' spectra.

Air changes the shape of a passband, and the magnitude m_X of a star with it. With XP spectra through the chain of the
telescope at a few airmasses,

    shift(star, X) = M_X - M_0,        m_X - shift = m_inst of the same star in the passband at the reference airmass

M are AB or ST magnitudes in the passband at airmass X and at the reference: what is gray in the change is left to the
zero-point. Between the airmasses a cubic spline; for stars without a spectrum a polynomial in color through those with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError
from xpjax.core.ids import places_of
from xpjax.core.records import Record
from xpjax.core.sky import cells_of
from xpjax.survey import SKY_NSIDE, Observations, RowFlag, lacks_airmass, match_ids, sky_floor
from xpjax.survey.reading.config import SurveyConfig
from xpjax.survey.reading.look import few
from xpjax.survey.reading.passbands import (
    StarModels,
    band_names,
    chosen_bands,
    names_of,
    open_passband,
    star_models,
)
from xpjax.survey.reading.sections import IN_MEMORY, SurveyPassband
from xpjax.survey.reading.spectra import positions_of
from xpjax.synthetic import PassbandSet, TransmissionChain, passband_system, photometry, select_bands
from xpjax.xp import SourceTable, as_sources, load_instrument, read

NODES = 5
"""Airmasses at which spectra are projected."""
ORDER = 3
"""Of the polynomial in color for stars without a spectrum."""
FEWEST = 20
"""Stars with spectra that such a polynomial needs."""


@dataclasses.dataclass(frozen=True, repr=False)
class AirmassShifts(Record):
    """Shifts (n_star, n_band, n_node) [mag] at airmass (n_node,) of the stars of `models`; see the module.

    models: magnitudes at the reference airmass. Passbands without an atmosphere have no nodes and no reference.
    """

    models: StarModels
    airmass: np.ndarray
    reference: float
    shift: np.ndarray

    @classmethod
    def none(cls, models: StarModels) -> AirmassShifts:
        """Of passbands that do not depend on airmass."""
        return cls(models, np.zeros(0), np.nan, np.zeros((*models.model.shape, 0)))

    def between(self, airmass: np.ndarray) -> np.ndarray:
        """Weights (n, n_node) of the nodes at airmasses (n,); NaN gives zero, the ends hold beyond them."""
        from scipy.interpolate import CubicSpline

        if not len(self.airmass):
            return np.zeros((len(airmass), 0))
        inside = np.clip(np.nan_to_num(airmass, nan=self.reference), self.airmass[0], self.airmass[-1])
        weights = CubicSpline(self.airmass, np.eye(len(self.airmass)))(inside)
        return np.where(np.isfinite(airmass)[:, None], weights, 0.0)


def airmass_shifts(
    chain: TransmissionChain,
    sources: Any,
    airmass: np.ndarray,
    *,
    reference: float | None = None,
    correction: Any = None,
    devices: Devices = None,
) -> AirmassShifts:
    """Shifts of XP sources between the smallest and the largest of these airmasses.

    sources: SourceTable, a file or a table with source_id. reference: the chain's own airmass by default. correction: a
    linear one of the spectra, as for `photometry`; by default none. Raises
    ValueError for a chain without an atmosphere, for airmasses that are none, and for sources without ids.
    """
    if chain.atmosphere is None:
        raise XpjaxError(f"chain {chain.name} has no [atmosphere]: its passbands have no airmass")
    reference = float(chain.atmosphere.airmass) if reference is None else float(reference)
    known = airmass[np.isfinite(airmass)]
    span = np.array([*known, reference])
    if span.min() < 1 or span.max() > 20:
        raise XpjaxError(f"airmasses from {span.min():g} to {span.max():g}: expected 1 to 20")
    low, high = span.min(), max(span.max(), span.min() + 0.01)
    nodes = np.linspace(low, high, NODES)
    table = as_sources(sources)
    ids = getattr(table, "source_id", None)
    if ids is None:
        raise XpjaxError("the XP sources have no source_id: they cannot be told from each other")

    # All airmasses as bands of one system, so that each spectrum is projected once; errors of the reference alone.
    several = [
        dataclasses.replace(band, name=f"{band.name}_{k}")
        for k, x in enumerate((*nodes, reference))
        for band in chain.with_parameters(airmass=float(x)).passbands()
    ]
    instrument = load_instrument(release=table.release)
    bands = passband_system(PassbandSet("airmass", tuple(several)), instrument=instrument, correction=correction)
    names, n = list(bands.names), len(chain.bands)
    models = star_models(table, select_bands(bands, names[-n:]), devices=devices)
    found = photometry(table, select_bands(bands, names[:-n]), errors=False, float64=True, devices=devices)
    value = np.asarray(found.magnitude, float).reshape(len(ids), NODES, n)
    shift = np.moveaxis(value - models.model[:, None], 1, 2)
    return AirmassShifts(dataclasses.replace(models, bands=tuple(chain.bands)), nodes, reference, shift)


@dataclasses.dataclass(frozen=True)
class AtReference:
    """Observations at the reference airmass, what was taken off (n,) [mag], and how many rows by spectrum, by color,
    and not at all (no airmass, or no color). laws: of shifts with color, by band, for other stars of the exposures."""

    observations: Observations
    shift: np.ndarray
    by_spectrum: int
    by_color: int
    not_shifted: int
    laws: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


def at_reference(
    observations: Observations,
    shifts: AirmassShifts,
    *,
    models: bool = False,
    laws: Mapping[str, Mapping[str, Any]] | None = None,
    names: Mapping[str, str] | None = None,
    domain: bool = True,
) -> AtReference:
    """Instrumental magnitudes less their shifts; models: model magnitudes and errors are those of the spectra too.

    laws: with color, as found before; by default from the stars with spectra that are here. names: of passbands that
    bands of the observations are called by otherwise. domain: stars for which the correction of the spectra does not
    hold are no standards.

    Bands of the observations and of the chain have the same names; a chain of one band serves one without a name. Rows
    of other bands have no models. Raises ValueError where the chain has none of the bands.
    """
    o, own = observations, shifts.models
    band, at, shift = _by_spectrum(o, shifts, names)
    weights = shifts.between(o.frames.airmass)
    timed = np.isfinite(o.frames.airmass)[o.frame]
    exact = np.isfinite(shift)
    known = dict(laws or {})
    for k in np.unique(band[band >= 0]):
        rows = np.flatnonzero((band == k) & ~exact & np.isfinite(o.color))
        one = _each_once((band == k) & exact & np.isfinite(o.color), at)
        if laws is None and len(one) >= FEWEST and len(shifts.airmass):
            known[own.bands[k]] = _law(o.color[one], shifts.shift[at[one], k])
        if law := known.get(own.bands[k]):
            there = np.clip(o.color[rows], *law["range"]) - law["zero"]
            value = np.zeros((len(rows), len(shifts.airmass)))
            for term in np.asarray(law["terms"]):  # no matrix product: a row has the same bits whatever comes with it
                value = value * there[:, None] + term
            shift[rows] = np.einsum("nk,nk->n", value, weights[o.frame[rows]])
    found = np.isfinite(shift) & timed
    shift = np.where(found, shift, 0.0)
    columns: dict[str, Any] = {"magnitude": o.magnitude - shift}
    if models:
        columns |= _models_of_rows(o, own, np.where(band >= 0, at, -1), band, domain)
    else:
        columns["model"] = np.where(band >= 0, o.model, np.nan)
    return AtReference(
        dataclasses.replace(o, **columns), shift, int((found & exact).sum()), int((found & ~exact).sum()),
        int((~found).sum()), known,
    )  # fmt: skip


def _by_spectrum(
    o: Observations, shifts: AirmassShifts, names: Mapping[str, str] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row (n,) its passband and its star among those with spectra, -1 for none, and its shift by the spectrum.

    Raises XpjaxError where the passbands have none of the bands.
    """
    own = shifts.models
    place = {band: k for k, band in enumerate(own.bands)}
    place |= {band: place[name] for band, name in (names or {}).items()}
    if len(own.bands) == 1:
        place.setdefault("", 0)
    of_frame = np.array([place.get(name, -1) for name in o.frames.band.tolist()], int)
    if len(of_frame) and (of_frame < 0).all():
        raise XpjaxError(f"the transmission chain has no band {str(o.frames.band[0])!r}; it has {list(own.bands)}")
    band = of_frame[o.frame]
    star = o.star if o.star.dtype.kind in "iu" else np.zeros(len(o), np.int64)
    at = match_ids(star, own.star).index
    weights = shifts.between(o.frames.airmass)
    shift = np.full(len(o), np.nan)
    has = np.flatnonzero((at >= 0) & (band >= 0))
    shift[has] = np.einsum("nk,nk->n", shifts.shift[at[has], band[has]], weights[o.frame[has]])
    return band, at, shift


def _each_once(mine: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The first row of each star `at` (n,) among `mine` (n,)."""
    rows = np.flatnonzero(mine)
    return rows[np.unique(at[rows], return_index=True)[1]]


def shift_samples(
    observations: Observations, config: SurveyConfig, spectra: SourceTable | None, airmass: np.ndarray
) -> dict[str, np.ndarray]:
    """What laws of shifts with color are made of, of a part of a survey: each star once in each passband.

    airmass: smallest and largest of the survey, and its nodes when they are known. Gives band, star, color [mag] and
    shift (n, n_node) [mag], and the airmass of the nodes.
    """
    o = observations
    shifts, names = _projected(o, config, spectra, {"airmass": airmass.tolist(), "laws": {}})
    band, at, shift = _by_spectrum(o, shifts, names)
    good = np.isfinite(shift) & np.isfinite(o.color)
    one = np.concatenate([_each_once(good & (band == k), at) for k in range(len(shifts.models.bands))]).astype(int)
    bands, stars = np.array(shifts.models.bands), shifts.models.star
    return {
        "airmass": shifts.airmass, "band": bands[band[one]], "star": stars[at[one]], "color": o.color[one],
        "shift": shifts.shift[at[one], band[one]],
    }  # fmt: skip


def shift_laws(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Airmasses and laws of shifts with color of a survey, by the `shift_samples` of its parts; the first of a star."""
    band, star, color, shift = (np.concatenate([p[name] for p in parts]) for name in ("band", "star", "color", "shift"))
    laws = {}
    for name in np.unique(band):
        one = _each_once(band == name, star)
        if len(one) >= FEWEST:
            laws[str(name)] = _law(color[one], shift[one])
    return {"airmass": parts[0]["airmass"].tolist(), "laws": laws}


def depends_on_airmass(config: SurveyConfig) -> bool:
    """Whether magnitudes are brought to the passband at one airmass."""
    if config.passband is None or not config.at_one_airmass:
        return False
    passband = open_passband(config.passband, config.folder)
    return isinstance(passband, TransmissionChain) and passband.atmosphere is not None


def _models_of_rows(
    o: Observations, models: StarModels, at: np.ndarray, band: np.ndarray, domain: bool
) -> dict[str, np.ndarray]:
    """Columns of the observations from the models of stars `at` (n,) in bands (n,); -1 for a row without a spectrum."""

    def of_rows(values: np.ndarray, missing: float) -> np.ndarray:
        """Values (n_star, n_band) at the rows; the last of the longer array, -1, is for rows without a spectrum."""
        padded = np.concatenate([values, np.full((1, values.shape[1]), missing)])
        return np.asarray(padded[at, band])

    outside = np.append(models.outside, False)[at] & domain
    return {
        "model": of_rows(models.model, np.nan),
        "model_error": np.nan_to_num(of_rows(models.model_error, 0.0)),
        "model_systematic": np.nan_to_num(of_rows(models.model_systematic, 0.0)),
        "excluded": np.where(outside, o.excluded | np.uint32(RowFlag.OUTSIDE_DOMAIN), o.excluded).astype(np.uint32),
    }


def _law(color: np.ndarray, shift: np.ndarray) -> dict[str, Any]:
    """The polynomial in color through shifts (n, n_node): terms from the highest order, zero [mag], range [mag]."""
    zero = float(np.median(color))
    used = np.ones(len(color), bool)
    design = np.vander(color - zero, ORDER + 1)
    for _ in range(5):  # peculiar spectra are not to lead
        terms, *_ = np.linalg.lstsq(design[used], shift[used], rcond=None)
        off = np.abs(shift - design @ terms).max(axis=1)
        used = off <= 5 * max(np.median(off), 1e-6)
    return {"zero": zero, "range": np.percentile(color, [0.5, 99.5]).tolist(), "terms": terms.tolist()}


def to_reference(
    observations: Observations,
    config: SurveyConfig,
    spectra: SourceTable | None = None,
    solved: Mapping[str, Any] | None = None,
) -> tuple[Observations, list[str], dict[str, Any]]:
    """The observations in the passbands that [passband] names, at one airmass, with models from spectra; and lines.

    spectra: of the standards; by default those that [passband] names. Also what brings other stars of the same
    exposures to the same passband, `solved` in a later call: the airmasses at which spectra were projected, and the
    laws of shifts with color.

    Raises XpjaxError for a chain or spectra that cannot be read, and as `airmass_shifts` and `at_reference` do.
    """
    said, o = config.passband, observations
    assert said is not None
    table = read(_sources(config), dtype=np.float64) if spectra is None else spectra
    shifts, names = _projected(o, config, table, solved)
    before = list(solved["airmass"]) if solved else []
    # Exposures beyond these airmasses need others, and laws for them.
    laws = solved["laws"] if solved and shifts.airmass.tolist() == before else None
    domain = said.domain and spectra is not None
    found = at_reference(o, shifts, models=bool(said.models), laws=laws, names=names, domain=domain)
    lines = _left_out(o, names, said)
    if not len(shifts.airmass) and said.system is None and config.at_one_airmass:
        lines.append(
            "passbands have no atmosphere: they are taken as they are at every airmass, as total throughput of "
            "atmosphere, optics and detector; a chain with [atmosphere] has one for each exposure"
        )
    if len(shifts.airmass):
        lines += _airmass_lines(found, shifts.reference, config.correction)
    o = found.observations
    if said.models:
        lines += _model_lines(o, shifts.models, config.correction)
    if spectra is None:  # models of [passband] sources: systematic errors are the user's to state
        o = dataclasses.replace(o, model_systematic=None)
    elif said.models and config.sky_floor:
        o, line = _with_sky_floor(o, table)
        lines.append(line)
    return o, lines, {"airmass": shifts.airmass.tolist(), "laws": dict(found.laws)}


def _projected(
    o: Observations, config: SurveyConfig, spectra: SourceTable | None, solved: Mapping[str, Any] | None
) -> tuple[AirmassShifts, dict[str, str]]:
    """The spectra through the passbands of a configuration, and the passbands that bands are called by otherwise."""
    said = config.passband
    assert said is not None
    table = read(_sources(config), dtype=np.float64) if spectra is None else spectra
    passband = open_passband(said, config.folder)
    where = passband if isinstance(passband, str) else getattr(passband, "name", getattr(passband, "label", ""))
    names = band_names(o.frames.band.tolist(), said, names_of(passband), f"[passband] {where}")
    correction = config.spectra_correction
    if isinstance(passband, TransmissionChain) and passband.atmosphere is not None and config.at_one_airmass:
        every = np.array([*(solved["airmass"] if solved else ()), *o.frames.airmass])
        return airmass_shifts(passband, table, every, reference=said.airmass, correction=correction), names
    if said.airmass is not None:
        raise XpjaxError("[passband] airmass has no effect here: the chain has no atmosphere, or a term has it")
    bands = chosen_bands(passband, [*dict.fromkeys(names.values())])
    return AirmassShifts.none(star_models(table, bands, correction)), names


def _with_sky_floor(o: Observations, table: SourceTable) -> tuple[Observations, str]:
    """Systematic errors of models with XP's floor on the sky, of the standards of each frame, its cells, and a line."""
    place = places_of(o.star, table.source_id) if o.star.dtype.kind in "iu" else np.full(len(o), -1)
    rows = np.flatnonzero((place >= 0) & np.isfinite(o.model) & (o.excluded == 0))
    ra, dec = (np.append(angle[place[rows]], np.nan) for angle in positions_of(table))
    # One row more for the last frame, so that every frame has a group.
    floor = sky_floor(ra, dec, np.append(o.frame[rows], len(o.frames) - 1))
    left = np.zeros(len(o)) if o.model_systematic is None else o.model_systematic
    cell = np.full(len(o), -1)
    cell[rows] = cells_of(ra[:-1], dec[:-1], SKY_NSIDE)
    line = f"floor of XP on the sky, common to the standards of an exposure: {1e3 * float(np.median(floor)):.1f} mmag"
    return dataclasses.replace(o, model_systematic=np.hypot(left, floor[o.frame]), sky_cell=cell), line


def _sources(config: SurveyConfig) -> Any:
    """The XP spectra that [passband] names."""
    assert config.passband is not None
    sources = config.passband.sources
    if sources == IN_MEMORY:
        raise XpjaxError("the XP spectra of the solution were in memory: give a configuration that names them")
    return config.folder / sources if isinstance(sources, str) else sources


def _left_out(o: Observations, names: Mapping[str, str], said: SurveyPassband) -> list[str]:
    """What is to be told of frames in bands without a passband."""
    lost = [k for k, band in enumerate(o.frames.band.tolist()) if band and band not in names]
    if not lost:
        return []
    bands = sorted({str(o.frames.band[k]) for k in lost})
    return [
        f"WARNING: [passband] has no {', '.join(said.bands.get(band, band) for band in bands)}: not calibrated are "
        f"{few([o.frames.name(k) for k in lost])}; name their passbands, as in bands = {{ {bands[0]} = "
        f'"{next(iter(names.values()))}" }}, or choose the bands that are calibrated by [selection] bands'
    ]


def _airmass_lines(found: AtReference, reference: float, correction: str) -> list[str]:
    frames = found.observations.frames
    if not np.isfinite(frames.airmass).any():
        return [f"WARNING: no exposure has an airmass: its passbands are taken for those at airmass {reference:g}"]
    largest = 1e3 * float(np.abs(found.shift).max(initial=0.0))
    lines = [
        f"magnitudes at airmass {reference:g}: {found.by_spectrum:,} by their spectra, {found.by_color:,} by "
        f"color, {found.not_shifted:,} not shifted; shifts of at most {largest:.1f} mmag; "
        f"correction of the spectra: {correction}"
    ]
    lacking = [frames.name(int(k)) for k in np.flatnonzero(lacks_airmass(frames))]
    if lacking:
        lines.append(
            f"WARNING: {len(lacking):,} of {len(frames):,} frames have no airmass, and are not brought to airmass "
            f"{reference:g} as the others are (FrameFlag NO_AIRMASS): {few(lacking)}; name their airmasses"
        )
    return lines


def _model_lines(o: Observations, models: StarModels, correction: str) -> list[str]:
    """What is to be told of models from spectra."""
    lines = []
    rows = np.isfinite(o.model)
    outside = (o.excluded & np.uint32(RowFlag.OUTSIDE_DOMAIN)) > 0
    for band in np.unique(o.frames.band):
        mine = rows & ~outside & (o.frames.band == band)[o.frame]
        if not mine.any():
            continue
        error, left = o.model_error[mine], o.model_systematic
        stated = error[error > 0]
        said = f"median error {1e3 * np.median(stated):.1f} mmag" if len(stated) else "no errors"
        if correction != "none" and left is not None:
            said += f", systematic error of the correction {1e3 * np.median(left[mine]):.1f} mmag"
        lines.append(f"{band or 'models'}: {len(np.unique(o.star[mine])):,} stars with models of XP spectra, {said}")
    if not np.isfinite(models.model_error).any() and len(models.star):
        lines.append(
            "the spectra have no errors or no correlations: models count as exact, their scatter is in the floor"
        )
    if correction == "none":
        lines.append("spectra without a correction: their systematic errors are not known, and not in the errors")
    if outside.any():
        lines.append(
            f"{len(np.unique(o.star[outside])):,} stars outside the domain of the correction {correction}: no standards"
        )
    return lines
