"""The passband at each exposure's own airmass: magnitudes brought to one airmass by the stars' spectra.

Air changes the shape of a passband, and the magnitude m_X of a star with it. With XP spectra through the chain of the
telescope at a few airmasses,

    shift(star, X) = M_X - M_0,        m_X - shift = m_inst of the same star in the passband at the reference airmass

M are AB or ST magnitudes in the passband at airmass X and at the reference: what is gray in the change is left to the
zero-point. Between the airmasses a cubic spline; for stars without a spectrum a polynomial in color through those with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.survey import Observations, match_ids
from xpjax.survey.reading.config import SurveyConfig
from xpjax.synthetic import PassbandSet, TransmissionChain, passband_system, photometry, read_chain
from xpjax.xp import as_sources, load_instrument, read

NODES = 5
"""Airmasses at which spectra are projected."""
ORDER = 3
"""Of the polynomial in color for stars without a spectrum."""
FEWEST = 20
"""Stars with spectra that such a polynomial needs."""


@dataclasses.dataclass(frozen=True, repr=False)
class AirmassShifts(Record):
    """Shifts (n_star, n_band, n_node) [mag] at airmass (n_node,) of stars by their id (n_star,); see the module.

    model, model_error (n_star, n_band): magnitudes at the reference airmass, NaN where a spectrum gives none.
    """

    star: np.ndarray
    bands: tuple[str, ...]
    airmass: np.ndarray
    reference: float
    shift: np.ndarray
    model: np.ndarray
    model_error: np.ndarray

    def between(self, airmass: np.ndarray) -> np.ndarray:
        """Weights (n, n_node) of the nodes at airmasses (n,); NaN gives zero, the ends hold beyond them."""
        from scipy.interpolate import CubicSpline

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
    devices: Any = None,
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

    # All airmasses as bands of one system, so that each spectrum is projected once.
    several = [
        dataclasses.replace(band, name=f"{band.name}_{k}")
        for k, x in enumerate((reference, *nodes))
        for band in chain.with_parameters(airmass=float(x)).passbands()
    ]
    instrument = load_instrument(release=table.release)
    bands = passband_system(PassbandSet("airmass", tuple(several)), instrument=instrument, correction=correction)
    found = photometry(table, bands, float64=True, devices=devices)
    value = np.asarray(found.magnitude, float).reshape(len(ids), NODES + 1, -1)
    error = np.full_like(value[:, 0], np.nan)
    if found.magnitude_error is not None:
        error = np.asarray(found.magnitude_error, float)[:, : len(chain.bands)]
    shift = np.moveaxis(value[:, 1:] - value[:, :1], 1, 2)
    return AirmassShifts(np.asarray(ids), tuple(chain.bands), nodes, reference, shift, value[:, 0], error)


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
) -> AtReference:
    """Instrumental magnitudes less their shifts; models: model magnitudes and errors are those of the spectra too.

    laws: with color, as found before; by default from the stars with spectra that are here.

    Bands of the observations and of the chain have the same names; a chain of one band serves one without a name.
    Raises ValueError for a band that the chain has not.
    """
    o = observations
    place = {band: k for k, band in enumerate(shifts.bands)}
    if len(shifts.bands) == 1:
        place.setdefault("", 0)
    unknown = sorted({band for band in o.frames.band.tolist() if band not in place})
    if unknown:
        raise XpjaxError(f"the transmission chain has no band {unknown[0]!r}; it has {list(shifts.bands)}")
    band = np.array([place[name] for name in o.frames.band.tolist()], int)[o.frame]
    star = o.star if o.star.dtype.kind in "iu" else np.zeros(len(o), np.int64)
    at = match_ids(star, shifts.star).index
    weights = shifts.between(o.frames.airmass)
    timed = np.isfinite(o.frames.airmass)[o.frame]
    shift = np.full(len(o), np.nan)
    has = np.flatnonzero(at >= 0)
    shift[has] = np.einsum("nk,nk->n", shifts.shift[at[has], band[has]], weights[o.frame[has]])
    exact = np.isfinite(shift)
    known = dict(laws or {})
    for k in np.unique(band):
        rows = np.flatnonzero((band == k) & ~exact & np.isfinite(o.color))
        mine = np.flatnonzero((band == k) & exact & np.isfinite(o.color))
        one = mine[np.unique(at[mine], return_index=True)[1]]  # each star once
        if laws is None and len(one) >= FEWEST:
            known[shifts.bands[k]] = _law(o.color[one], shifts.shift[at[one], k])
        if law := known.get(shifts.bands[k]):
            there = np.clip(o.color[rows], *law["range"]) - law["zero"]
            value = np.zeros((len(rows), len(shifts.airmass)))
            for term in np.asarray(law["terms"]):  # no matrix product: a row has the same bits whatever comes with it
                value = value * there[:, None] + term
            shift[rows] = np.einsum("nk,nk->n", value, weights[o.frame[rows]])
    found = np.isfinite(shift) & timed
    shift = np.where(found, shift, 0.0)
    columns: dict[str, Any] = {"magnitude": o.magnitude - shift}
    if models:
        own = at >= 0
        columns["model"] = np.where(own, shifts.model[at, band], np.nan)
        columns["model_error"] = np.where(own, np.nan_to_num(shifts.model_error[at, band]), 0.0)
    return AtReference(
        dataclasses.replace(o, **columns), shift, int((found & exact).sum()), int((found & ~exact).sum()),
        int((~found).sum()), known,
    )  # fmt: skip


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
    observations: Observations, config: SurveyConfig, solved: Mapping[str, Any] | None = None
) -> tuple[Observations, str, dict[str, Any]]:
    """The observations in the passband at one airmass, as the section [passband] of a configuration says; and a line.

    Also what brings other stars of the same exposures to the same passband, `solved` in a later call: the airmasses at
    which spectra were projected, and the laws of shifts with color.

    Raises XpjaxError for a chain or spectra that cannot be read, and as `airmass_shifts` and `at_reference` do.
    """
    said = config.passband
    assert said is not None
    table = read(config.folder / said.sources, dtype=np.float64)
    chain = read_chain(config.folder / said.chain)
    options: dict[str, Any] = {"reference": said.airmass, "correction": config.spectra_correction}
    before = list(solved["airmass"]) if solved else []
    shifts = airmass_shifts(chain, table, np.array([*before, *observations.frames.airmass]), **options)
    # Exposures beyond these airmasses need others, and laws for them.
    laws = solved["laws"] if solved and shifts.airmass.tolist() == before else None
    found = at_reference(observations, shifts, models=bool(said.models), laws=laws)
    largest = 1e3 * float(np.abs(found.shift).max(initial=0.0))
    line = (
        f"magnitudes at airmass {shifts.reference:g}: {found.by_spectrum:,} by their spectra, {found.by_color:,} by "
        f"color, {found.not_shifted:,} as they are; at most {largest:.1f} mmag; correction of the spectra: "
        f"{config.correction}"
    )
    return found.observations, line, {"airmass": shifts.airmass.tolist(), "laws": dict(found.laws)}
