"""Corrections as users name them: a linear one, or a network with the features that it needs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError, say
from xpjax.synthetic import Passband, PassbandSet, PhotometricSystem, curves_of
from xpjax.wiggles.feature_files import read_features
from xpjax.wiggles.features import COLUMNS, EBV, GAIA, SKYMAPPER, Features, combination, make_features
from xpjax.wiggles.limits import Limits
from xpjax.wiggles.network import WiggleCorrection, check_features, check_gaia, means_linear, read_network
from xpjax.xp import STANDARD, AnyLinear, LinearCorrection, SourceTable, load_correction, named_correction

EBV_LEAST, EBV_MOST = -0.2, 5.5
"""What is folded for where neither the training set nor a limit says."""


@dataclasses.dataclass(frozen=True)
class NetworkCorrection:
    """Correct magnitudes and spectra by a network, with features from a table or made of the sources.

    Parameters
    ----------
    model : WiggleCorrection
        The network.
    bands : tuple of Passband, optional
        Curves of the system's bands in its order; by default the published ones, or those recovered from the system.
    stars : Features, optional
        Features by source_id; by default they are made of the sources themselves.
    ebv : str, optional
        Column of the sources with E(B-V) [mag].
    gaia : {"synthetic", "columns"}
        Origin of G, BP and RP among features that are made of the sources.
    teff, mh : str, optional
        Columns of the sources with the effective temperature [K] and the metallicity [dex], compared with `limits`.
    limits : Limits
        Labels beyond which stars are not corrected.
    feature_errors : bool
        Whether errors of magnitudes have the part that comes through the features, at the cost of eight more networks.
    base : optional
        Linear correction that the network stands on, where that is neither "none" nor "standard": a file or a
        `LinearCorrection`.

    Raises
    ------
    XpjaxError
        Where features are missing, or are not those that the network was trained on.

    Examples
    --------
    >>> state = {"0.weight": np.zeros((330, 1)), "0.bias": np.zeros(330)}
    >>> model = xpjax.wiggles.network_from_torch(
    ...     state, {"mean_": [0.8], "scale_": [0.3]}, names=["BP-RP"], kind="multiplicative"
    ... )
    >>> xpjax.wiggles.NetworkCorrection(model, gaia="columns").columns
    ('phot_bp_mean_mag', 'phot_rp_mean_mag')
    """

    model: WiggleCorrection
    bands: tuple[Passband, ...] | None = None
    stars: Features | None = None
    ebv: str | None = None
    gaia: str = "synthetic"
    teff: str | None = None
    mh: str | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    feature_errors: bool = False
    base: AnyLinear = None

    def __post_init__(self) -> None:
        needs = EBV in self.model.names or self.model.dereddens
        if self.stars is None and self.ebv is None and needs:
            raise XpjaxError(
                f"this correction needs E(B-V): name a column of the sources, by {say('ebv=', '--ebv')}, or give "
                "features (glossary: feature)"
            )
        if self.stars is not None:
            self.stars.select(self.model.names)
            check_features(self.model, self.stars)
        else:
            check_gaia(self.model, self.gaia)

    @functools.cached_property
    def linear(self) -> LinearCorrection | None:
        """The linear correction that the model stands on. Raises XpjaxError where it is not known."""
        return named_correction(self.model.base, self.base)

    def with_bands(self, system: PhotometricSystem, passbands: Sequence[PassbandSet] = ()) -> NetworkCorrection:
        """The same with the curves of a system's bands: those of passbands, and for published bands the known ones."""
        return dataclasses.replace(self, bands=curves_of(system, passbands))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the sources that are needed."""
        names = [self.teff, self.mh, *[self.ebv] * (self.stars is None)]
        if self.stars is None and self.gaia == "columns":
            needed = np.any(combination(self.model.names) != 0, axis=1)[len(SKYMAPPER) :]
            names += [COLUMNS[name] for name, used in zip(GAIA, needed, strict=False) if used]
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def ebv_range(self) -> tuple[float, float]:
        """The E(B-V) that are folded for: the training set's, or up to the limit of A_V."""
        model = self.model
        low = high = np.nan
        if EBV in model.names:
            k = model.names.index(EBV)
            low, high = float(np.asarray(model.low)[k]), float(np.asarray(model.high)[k])
        most = EBV_MOST if self.limits.av is None else self.limits.av / float(model.per_ebv)
        return min(low, 0.0) if np.isfinite(low) else EBV_LEAST, min(high, most) if np.isfinite(high) else most

    def features(self, table: SourceTable, errors: bool, *, float64: bool = False, devices: Devices = None) -> Features:
        """Features of these sources. Raises XpjaxError for columns that are not there."""
        if self.stars is not None:
            return self.stars.matched(table.source_id)
        options: dict[str, Any] = {"float64": float64, "devices": devices}
        options |= {"ebv": self.ebv, "gaia": self.gaia, "truncate": self.model.truncate, "correction": self.linear}
        return make_features(table, self.model.names, errors=errors and self.feature_errors, **options)


AnyCorrection: TypeAlias = LinearCorrection | NetworkCorrection | WiggleCorrection | str | Path | None
"""A correction as `choose_correction` takes it: itself, its name or file, or none."""


def choose_correction(
    correction: AnyCorrection = STANDARD,
    *,
    base: AnyLinear = None,
    features: Features | str | Path | None = None,
    ebv: str | None = None,
    gaia: str = "synthetic",
    teff: str | None = None,
    mh: str | None = None,
) -> LinearCorrection | NetworkCorrection | None:
    """Load the correction that a name or a file means.

    Parameters
    ----------
    correction : optional
        "standard", "none", the file of a linear correction or of a network, or a correction itself.
    base : optional
        Linear correction that a network stands on, where that is not the standard one.
    features : Features, str or Path, optional
        Features by source_id for a network; by default they are made of the sources.
    ebv : str, optional
        Column of the sources with E(B-V) [mag], for a network.
    gaia : {"synthetic", "columns"}
        Origin of G, BP and RP among features that are made of the sources.
    teff, mh : str, optional
        Columns of the sources with the effective temperature [K] and the metallicity [dex]: a network leaves hot and
        metal-poor stars as they are.

    Returns
    -------
    LinearCorrection, NetworkCorrection or None
        What `xpjax.run_catalogue` and `xpjax.stellar.LabelFitter` take as correction; None for "none".

    Raises
    ------
    XpjaxError
        For a file of another kind, options of networks with a linear correction, and features that do not fit.

    Examples
    --------
    >>> xpjax.wiggles.choose_correction("standard").name
    'standard'
    >>> xpjax.wiggles.choose_correction("none") is None
    True
    """
    if isinstance(correction, NetworkCorrection):
        if base is not None or features is not None or ebv or teff or mh or gaia != "synthetic":
            raise XpjaxError("a NetworkCorrection says itself where its features come from: leave the options out")
        return correction
    if not isinstance(correction, WiggleCorrection):
        if means_linear(correction):
            _refuse_network_options(base, features is not None or ebv or teff or mh or gaia != "synthetic")
            return load_correction(correction)
        path: Any = correction  # what is no path is refused there
        correction = read_network(path)
    if features is not None and (ebv or gaia != "synthetic"):
        held, leave = say("features", "--features"), say("ebv and gaia", "--ebv and --gaia")
        raise XpjaxError(f"{held} holds E(B-V) and magnitudes: leave out {leave}, or {held}")
    linear = named_correction(correction.base, base)
    stars = read_features(features, correction.names) if isinstance(features, str | Path) else features
    return NetworkCorrection(correction, None, stars, ebv, gaia, teff, mh, base=linear)


def _refuse_network_options(base: Any, others: Any) -> None:
    """Raise XpjaxError for options that a linear correction has not."""
    if base is not None:
        raise XpjaxError(f"{say('base', '--base')} is for networks; a linear correction stands on none")
    if others:
        names = say("features, ebv, gaia, teff and mh", "--features, --ebv, --gaia, --teff and --mh")
        train = say("xpjax.wiggles.train_network", "`xpjax wiggles train-network`")
        option = say("correction", "--correction")
        raise XpjaxError(f"{names} are for networks of {train}; name one with {option}, or leave them out")


def linear_and_network(
    correction: AnyCorrection,
) -> tuple[LinearCorrection | None, NetworkCorrection | None]:
    """The linear correction that a correction has, or that its network stands on, and the network, if there is one."""
    if isinstance(correction, NetworkCorrection):
        return correction.linear, correction
    named: Any = correction  # a network alone is refused there: it says nothing of its features
    return load_correction(named), None
