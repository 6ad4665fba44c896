"""The absolute scale of XP spectra: tied, on request, to given Gaia photometry.

A star's spectrum and magnitudes are multiplied by

    10^(-0.4 (given - term(G) - synthetic))

with a Gaia magnitude that is given, the synthetic one of the same band, and a term of magnitude, zero or a table of the
user's: what published magnitudes are too faint by, as a function of G (for DR3 e.g. Riello et al. 2021, A&A 649 A3;
Yang et al. 2021, ApJL 908 L24; Huang et al. 2024, ApJS 271 13). The shape of a spectrum, and colors, stay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, Unpack

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from xpjax.core.errors import XpjaxError, say
from xpjax.core.types import PathLike
from xpjax.io.tables import open_table
from xpjax.synthetic.magnitude import Photometry, PhotometryOptions, photometry
from xpjax.synthetic.published import gaia_system
from xpjax.xp import AnySources, Spectra, as_sources

GAIA = {"G": "phot_g_mean_mag", "BP": "phot_bp_mean_mag", "RP": "phot_rp_mean_mag"}
"""Gaia's bands, and the columns of gaia_source with their magnitudes."""


R = TypeVar("R", Photometry, Spectra)


@dataclasses.dataclass(frozen=True)
class MagnitudeTerm:
    """What published magnitudes of a band are too faint by: offset (k,) [mag] at ascending G (k,) [mag].

    Linear between, constant beyond. Raises ValueError for values that do not ascend or are not finite.
    """

    g: np.ndarray
    offset: np.ndarray

    def __post_init__(self) -> None:
        if np.shape(self.g) != np.shape(self.offset) or np.ndim(self.g) != 1 or len(self.g) < 2:
            raise XpjaxError(
                f"magnitude term: {np.shape(self.g)} magnitudes do not fit {np.shape(self.offset)} offsets"
            )
        if not (np.all(np.isfinite(self.offset)) and np.all(np.diff(self.g) > 0)):
            raise XpjaxError("magnitude term: the magnitudes must ascend, and the offsets be finite")

    def __call__(self, g: np.ndarray) -> np.ndarray:
        """The offset (n,) at G (n,)."""
        return np.interp(g, self.g, self.offset)


def read_terms(path: PathLike) -> dict[str, MagnitudeTerm]:
    """Magnitude terms from a table: columns G_mag and, of the bands it is for, G, BP and RP.

    A text file with commas or blanks, or any other table; in mag, or in the unit that the table states (mmag). Raises
    ValueError for a table without them.
    """
    table = open_table(path)
    bands = [name for name in GAIA if name in table]
    if "G_mag" not in table or not bands:
        raise XpjaxError(
            f"{path}: a table of magnitude terms has the columns G_mag and of {list(GAIA)}; found {table.names}"
        )
    g = table.column("G_mag").numbers("magnitude")
    return {name: MagnitudeTerm(g, table.column(name).numbers("magnitude")) for name in bands}


def _terms_of(band: str, terms: Mapping[str, MagnitudeTerm] | PathLike | None) -> MagnitudeTerm | None:
    """The term of a band. Raises XpjaxError for a band that is none of Gaia's, or has none."""
    if band not in GAIA:
        raise XpjaxError(f"band {band!r} is not one of Gaia's {list(GAIA)}")
    if terms is None:
        return None
    chosen = terms if isinstance(terms, Mapping) else read_terms(terms)
    if band not in chosen:
        raise XpjaxError(f"the magnitude terms are for {list(chosen)}, not for {band}")
    return chosen[band]


def gaia_scale(
    sources: AnySources,
    given: ArrayLike | None = None,
    band: str = "G",
    *,
    terms: Mapping[str, MagnitudeTerm] | PathLike | None = None,
    **options: Unpack[PhotometryOptions],
) -> Float[np.ndarray, " n"]:
    """Factors (n,) on fluxes that make the synthetic Gaia magnitude of a band equal a given one; see `tie_to_gaia`."""
    term = _terms_of(band, terms)
    table = as_sources(sources)

    if table.is_epoch and given is None:
        remedy = say("give the magnitudes of each transit", "leave --tie out")
        raise XpjaxError(f"{table.origin} has epoch spectra, but a mean magnitude is no transit's: {remedy}")

    def column(name: str) -> np.ndarray:
        if GAIA[name] not in table.columns:
            remedy = say(f"read it with keep=[{GAIA[name]!r}], or give the magnitudes", "leave --tie out")
            raise XpjaxError(f"{table.origin} has no column {GAIA[name]}, which the absolute scale needs: {remedy}")
        return np.ma.filled(np.ma.asarray(table.columns[GAIA[name]], float), np.nan)

    magnitude = column(band) if given is None else np.asarray(given, float)
    if magnitude.shape != (len(table),):
        raise XpjaxError(f"given magnitudes have shape {magnitude.shape}, expected {(len(table),)}")
    if term is not None:
        magnitude = magnitude - term(magnitude if band == "G" else column("G"))
    how: PhotometryOptions = {"errors": False, "float64": True, **options}
    found = photometry(table, f"{gaia_system(table.release)}:{band}", **how)
    return np.asarray(10 ** (-0.4 * (magnitude - found.magnitude[:, 0])))


def scaled_photometry(result: R, factor: np.ndarray) -> R:
    """Photometry or spectra with fluxes and errors multiplied by factors (n,); colors and relative errors stay.

    What has no factor (NaN) becomes NaN: it cannot be tied.
    """
    factor = np.asarray(factor, result.flux.dtype)
    column = factor.reshape(-1, *[1] * (result.flux.ndim - 1))
    changed: dict[str, Any] = {"flux": result.flux * column}
    if result.flux_error is not None:
        changed["flux_error"] = result.flux_error * column
    if isinstance(result, Photometry):
        changed["magnitude"] = result.magnitude - 2.5 * np.log10(column)
        if result.magnitude_error is not None:
            changed["magnitude_error"] = np.where(np.isfinite(column), result.magnitude_error, np.nan)
    return dataclasses.replace(result, **changed, meta={**result.meta, "tied to Gaia photometry": True})


def gaia_columns(band: str, terms: Mapping[str, MagnitudeTerm] | PathLike | None = None) -> tuple[str, ...]:
    """Name the columns of gaia_source that `tie_to_gaia` needs.

    Parameters
    ----------
    band : {"G", "BP", "RP"}
        The band that is tied.
    terms : path, optional
        Table of magnitude terms, as for `tie_to_gaia`; they are functions of G.

    Returns
    -------
    tuple of str
        Columns to read with the coefficients, as in `xpjax.read(path, keep=columns)`.

    Raises
    ------
    XpjaxError
        If the band is none of Gaia's, or has no term in the table.

    Examples
    --------
    >>> xpjax.synthetic.gaia_columns("BP")
    ('phot_bp_mean_mag',)
    """
    _terms_of(band, terms)
    return tuple(GAIA[name] for name in dict.fromkeys((band, *["G"] * (terms is not None))))


def tie_to_gaia(
    sources: AnySources,
    result: R,
    band: str = "G",
    *,
    given: ArrayLike | None = None,
    terms: Mapping[str, MagnitudeTerm] | PathLike | None = None,
    **options: Unpack[PhotometryOptions],
) -> R:
    """Scale every source so that its synthetic Gaia magnitude is the given one.

    Parameters
    ----------
    sources
        n sources, as for `photometry`, with Gaia's magnitudes among their columns (`gaia_columns`).
    result : Photometry or Spectra
        What was computed of them.
    band : {"G", "BP", "RP"}
        The band that is tied.
    given : (n,) array, optional [mag]
        Magnitudes; by default the sources' column of gaia_source. Epoch spectra need those of each transit.
    terms : path, optional
        Table of what given magnitudes are too faint by: columns `G_mag` and, of G, BP and RP, those it is for.
    **options
        `correction` and `truncate`, as the result was made with.

    Returns
    -------
    Photometry or Spectra
        The result with scaled fluxes, errors and magnitudes; colors and relative errors stay. NaN where either
        magnitude is unknown.

    Raises
    ------
    XpjaxError
        If the band is none of Gaia's, or a column is not there.

    Notes
    -----
    Fluxes are multiplied by 10^(-0.4 (given - term(G) - synthetic)). For terms of DR3 see Riello et al. 2021 (A&A 649
    A3), Yang et al. 2021 (ApJL 908 L24) and Huang et al. 2024 (ApJS 271 13).

    Examples
    --------
    >>> stars = xpjax.simulate_sources(5, seed=1)
    >>> found = xpjax.synthetic.tie_to_gaia(stars, xpjax.photometry(stars, "Gaia_DR3_Vega"))
    >>> np.allclose(found["G"], stars.columns["phot_g_mean_mag"], atol=1e-4)
    True
    """
    return scaled_photometry(result, gaia_scale(sources, given, band, terms=terms, **options))
