"""Photometry as it is asked for, in Python and by commands: in which bands, of which spectra, tied to what."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core import engine
from xpjax.core.errors import XpjaxError, say
from xpjax.core.release import Release, find_release
from xpjax.core.types import PathLike
from xpjax.core.units import in_unit
from xpjax.synthetic import (
    AnySystem,
    MagnitudeTerm,
    Passband,
    PassbandSet,
    PhotometricSystem,
    Photometry,
    as_system,
    gaia_columns,
    stated_release,
    tie_to_gaia,
)
from xpjax.wiggles.choice import AnyCorrection, NetworkCorrection, choose_correction
from xpjax.wiggles.features import Features
from xpjax.wiggles.magnitude import make_photometer
from xpjax.xp import (
    NONE,
    AnyIds,
    AnyLinear,
    AnySources,
    LinearCorrection,
    SourceTable,
    as_sources,
    asked_sources,
    keeping,
)

OWN_EBV = "ebv_given"
"""Column in which E(B-V) go that are given as an array."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What photometry is asked for, before the release of the sources is known.

    system: systems and passbands, in order; correction: linear, a network with its features, or None; extrapolate and
    allow_outside: of passbands; tie and terms: as of `tie_to_gaia`; options: of `make_photometer`.
    """

    system: Sequence[AnySystem]
    correction: LinearCorrection | NetworkCorrection | None = None
    extrapolate: str | None = None
    allow_outside: bool = False
    tie: str | None = None
    terms: Any = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.terms is not None and self.tie is None:
            name, band = say("terms", "--magnitude-terms"), say("tie", "--tie")
            raise XpjaxError(f"{name} is for {band}: say which of Gaia's magnitudes")
        if self.tie is not None:
            gaia_columns(self.tie, self.terms)  # refuses other bands, and terms of others
        if self.tie is not None and isinstance(self.correction, NetworkCorrection):
            remedy = say("leave tie= out", "leave --tie out")
            raise XpjaxError(f"a network needs features of each star, which the tie to Gaia has not: {remedy}")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the sources that are needed."""
        network = self.correction.columns if isinstance(self.correction, NetworkCorrection) else ()
        return tuple(dict.fromkeys((*network, *(() if self.tie is None else gaia_columns(self.tie, self.terms)))))

    def bands(self, release: Release) -> tuple[PhotometricSystem, NetworkCorrection | None]:
        """All bands as one system, and a network that corrects them. Raises XpjaxError."""
        network = self.correction if isinstance(self.correction, NetworkCorrection) else None
        linear = self.correction.linear if isinstance(self.correction, NetworkCorrection) else self.correction
        how: dict[str, Any] = {"extrapolate": self.extrapolate, "allow_outside": self.allow_outside}
        system = as_system(list(self.system), linear, release=release, **how)
        sets = [PassbandSet(s.name, (s,)) if isinstance(s, Passband) else s for s in self.system]
        curves = [one for one in sets if isinstance(one, PassbandSet)]
        return system, None if network is None else network.with_bands(system, curves)

    def prepared(self, release: Release) -> tuple[Release, Callable[..., Photometry]]:
        """The release of the bands, and photometry of a table with devices and progress. Raises XpjaxError."""
        system, network = self.bands(release)
        photometer = make_photometer(system, network, **self.options)

        def measure(table: SourceTable, **running: Any) -> Photometry:
            found = photometer(table, **running)
            if self.tie is None:
                return found
            truncate = self.options.get("truncate", False)
            how: dict[str, Any] = {"terms": self.terms, "correction": self.correction, "truncate": truncate}
            return tie_to_gaia(table, found, self.tie, **how)

        return system.release, measure


class MoreOptions(TypedDict, total=False):
    """Further options of `photometry`."""

    terms: Mapping[str, MagnitudeTerm] | PathLike | None
    extrapolate: str | None
    allow_outside: bool
    base: AnyLinear
    features: Features | str | Path | None
    gaia: str
    teff: str | None
    mh: str | None


def photometry(
    sources: AnySources | None = None,
    system: AnySystem | Sequence[AnySystem] | None = None,
    *,
    ids: AnyIds | None = None,
    release: Release | str | None = None,
    keep: Sequence[str] | str | None = None,
    truncate: bool = False,
    errors: bool = True,
    error_correction: bool = False,
    correction: AnyCorrection = None,
    ebv: ArrayLike | None = None,
    tie: str | None = None,
    float64: bool = False,
    devices: engine.Devices = None,
    progress: engine.Progress | None = None,
    **options: Unpack[MoreOptions],
) -> Photometry:
    """Compute synthetic fluxes and magnitudes, with errors, in one or more photometric systems.

    Parameters
    ----------
    sources : SourceTable, XPCoefficients, array (n, n_basis_total), path, table, or a list of these
        Coefficients of n sources; what `xpjax.read` reads.
    system : PhotometricSystem, str, Passband, PassbandSet, TransmissionChain, or a list of these
        A name is one for `xpjax.load_system`.
    ids : array of int, table, path, or what else `xpjax.fetch` takes, optional
        In the place of sources: fetch their spectra from the Gaia archive.
    release : Release or str, optional
        Data release of the sources; by default that of the system, or of the input.
    keep : sequence of str, optional
        Columns of the sources to pass on (`Photometry.passed`).
    truncate : bool
        Use only the relevant coefficients (n_relevant_bases).
    errors : bool
        Propagate errors, where the input has errors and correlations.
    error_correction : bool
        Multiply errors by the published factors of G.
    correction : LinearCorrection, NetworkCorrection, str or path, optional
        Correction of XP's systematic errors: "standard", a file or a record; by default none, as in GaiaXPy.
    ebv : str, or (n,) array [mag], optional
        E(B-V) for a network: a column of the sources, or its values.
    tie : {"G", "BP", "RP"}, optional
        Scale every source so that its synthetic magnitude is Gaia's, as `xpjax.synthetic.tie_to_gaia` does.
    float64 : bool
        Compute in float64.
    devices, progress : optional
        As for `xpjax.spectra`.
    **options
        terms of `tie_to_gaia`; extrapolate and allow_outside of `passband_system`, for passbands; of
        `xpjax.wiggles.choose_correction` base, features, gaia, teff and mh, for a network.

    Returns
    -------
    Photometry
        Fluxes (n, n_band) [W m-2 Hz-1 or W m-2 nm-1], magnitudes (n, n_band) [mag], their errors and status bits.

    Raises
    ------
    XpjaxError
        If a system is unknown or the coefficients are of another release. A bad source raises nothing: it is NaN and
        flagged in `status`, and bands that lie wholly in the other XP are still given.

    Notes
    -----
    flux = c r and Var(flux) = r_BP' K_BP r_BP + r_RP' K_RP r_RP with coefficients c, covariances K and the projection r
    of a band; magnitude = -2.5 log10(flux) + zero point (Montegriffo et al. 2023, A&A 674 A33).

    Examples
    --------
    >>> stars = xpjax.photometry(xpjax.simulate_sources(5, seed=1), ["JPLUS", "SDSS"], keep=["bp_rp"])
    >>> stars.magnitude.shape, stars["gJPLUS"].shape, stars.passed.columns["bp_rp"].shape
    ((5, 17), (5,), (5,))
    """
    given = {"tie": tie, "correction": correction, "ebv": ebv} | options
    given |= {"truncate": truncate, "errors": errors, "error_correction": error_correction, "float64": float64}
    return _measured(sources, system, ids, release, keep, given, {"devices": devices, "progress": progress})


def measurement(
    system: Sequence[AnySystem],
    *,
    tie: str | None = None,
    terms: Any = None,
    extrapolate: str | None = None,
    allow_outside: bool = False,
    correction: Any = None,
    base: Any = None,
    features: Any = None,
    ebv: str | None = None,
    gaia: str = "synthetic",
    teff: str | None = None,
    mh: str | None = None,
    **options: Any,
) -> Measurement:
    """What options of `photometry`, or of commands, ask for. Raises XpjaxError for those that do not go together."""
    network: dict[str, Any] = {"base": base, "features": features, "ebv": ebv, "gaia": gaia, "teff": teff, "mh": mh}
    chosen = choose_correction(NONE if correction is None else correction, **network)
    return Measurement(system, chosen, extrapolate, allow_outside, tie, terms, options)


def _measured(
    sources: Any,
    system: AnySystem | Sequence[AnySystem] | None,
    ids: Any,
    release: Release | str | None,
    keep: Sequence[str] | str | None,
    given: dict[str, Any],
    running: dict[str, Any],
) -> Photometry:
    """What `photometry` gives."""
    if system is None:
        raise XpjaxError('name a photometric system, as in xpjax.photometry(sources, "JPLUS"), or give passbands')
    chosen: list[Any] = list(system) if isinstance(system, list | tuple) else [system]
    values = given["ebv"]
    own = values is not None and not isinstance(values, str)
    asked = measurement(chosen, **given | ({"ebv": OWN_EBV} if own else {}))
    known = stated_release(chosen) if release is None else find_release(release)
    table = asked_sources(sources, ids, known, keep)
    if own:
        values = np.broadcast_to(np.asarray(in_unit(values, "mag", "ebv"), float), (len(table),))
        table = dataclasses.replace(table, columns={**table.columns, OWN_EBV: values})
    own_release, measure = asked.prepared(table.release)
    table = as_sources(table, own_release)
    return keeping(measure(table, **running), table, keep)
