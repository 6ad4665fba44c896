"""What corrections are trained on: what trusted spectra have and XP spectra have not, star by star.

With N f = f / <f>, the mean over the samples both have,

    additive         residual = N f_true - N f
    multiplicative   residual = N f_true / N f - 1

of dereddened spectra, or of spectra as observed. The true ones are best-fit models (Ye et al. 2024, section 4.2) or
spectra of another instrument, such as CALSPEC's. Labels must be trusted, or their errors are learned as wiggles: hence
the cuts.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import Record
from xpjax.core.units import nanometers
from xpjax.extinction import AV_PER_SFD, R_V, extinction_curve
from xpjax.io.catalogue import write_bytes
from xpjax.io.tables import open_table
from xpjax.wiggles.features import Features, features_of
from xpjax.wiggles.meaning import Meaning
from xpjax.xp import NONE, the_same, wavelengths

FLOOR = 0.005
"""Error of normalised flux that every sample is given at least: few bright stars must not rule, nor faint ones."""


@dataclasses.dataclass(frozen=True, repr=False)
class Residuals(Record):
    """What a correction is trained on.

    source_id (n,); names and features (n, k) [mag]; wavelength (m,) [nm]; residual (n, m), true minus observed flux
    over its mean, NaN where missing; weight (n, m), (n, 1) or None; ebv (n,) or None. base: name of the linear
    correction that the spectra have, and features are made with. meaning: how they were made. origin: how messages
    call them. Raises ValueError for shapes that do not fit and wavelengths that do not ascend.
    """

    source_id: np.ndarray
    names: tuple[str, ...]
    features: np.ndarray
    wavelength: np.ndarray
    residual: np.ndarray
    weight: np.ndarray | None = None
    ebv: np.ndarray | None = None
    base: str = NONE
    meaning: Meaning = dataclasses.field(default_factory=Meaning)
    origin: str = "residuals"

    def __post_init__(self) -> None:
        object.__setattr__(self, "wavelength", np.asarray(nanometers(self.wavelength), float))
        n, m = len(self.source_id), len(self.wavelength)
        if np.shape(self.residual) != (n, m):
            raise XpjaxError(
                f"residual has shape {np.shape(self.residual)}, expected {(n, m)}: {n} stars at {m} wavelengths"
            )
        if np.shape(self.features) != (n, len(self.names)):
            raise XpjaxError(f"features have shape {np.shape(self.features)}, expected {(n, len(self.names))}")
        if self.weight is not None and np.shape(self.weight) not in ((n, m), (n, 1)):
            raise XpjaxError(f"weight has shape {np.shape(self.weight)}, expected {(n, m)}")
        if self.weight is not None and not np.all(np.nan_to_num(self.weight) >= 0):
            raise XpjaxError("weight has negative values")
        if m < 2 or np.any(np.diff(self.wavelength) <= 0):
            raise XpjaxError("the wavelengths of residuals must be two or more and ascend")

    def __len__(self) -> int:
        return len(self.source_id)

    def __getitem__(self, rows: np.ndarray) -> Residuals:
        """Some of the stars."""

        def pick(array: Any) -> Any:
            return None if array is None else array[rows]

        return dataclasses.replace(
            self,
            source_id=self.source_id[rows],
            features=self.features[rows],
            residual=self.residual[rows],
            weight=pick(self.weight),
            ebv=pick(self.ebv),
        )

    @property
    def stars(self) -> Features:
        """The features as a record of their own."""
        m = self.meaning
        return Features(self.source_id, self.names, self.features, self.ebv, None, self.base, m.truncate, m.gaia)


def write_residuals(path: str | Path, table: Residuals, *, overwrite: bool = False) -> None:
    """Residuals as an HDF5 file: source_id, features (attribute names), wavelength, residual, and weight and ebv.

    Attributes of the file say what they mean: base, and what `Meaning` states.
    """
    import h5py

    if Path(path).exists() and not overwrite:
        raise FileExistsError(f"{path} exists; name another file, or add {say('overwrite=True', '--overwrite')}")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name in ("source_id", "features", "wavelength", "residual", "weight", "ebv"):
            if getattr(table, name) is not None:
                file[name] = getattr(table, name)
        file["wavelength"].attrs["unit"] = "nm"
        file["features"].attrs["names"] = list(table.names)
        file.attrs["base"] = table.base
        file.attrs.update(table.meaning.attributes())
    write_bytes(path, buffer.getvalue())


def read_residuals(path: str | Path, names: Sequence[str] = ()) -> Residuals:
    """Residuals from a file of `write_residuals`, or from a table that is laid out as `read_features` says.

    Beside the features it has residual, an array (m,) in each row, without unit; wavelength [nm] or in the unit stated,
    once (an HDF5 dataset) or the same in each row; and perhaps weight, an array (m,) or a number in each row, and ebv.
    Attributes base, kind, space, law, r_v, per_ebv, truncate and gaia of an HDF5 file, or of the metadata of xpjax's
    own files, say what the residuals mean (`Meaning`). names: features that a table has beside the known ones. Raises
    XpjaxError saying what is missing.
    """
    path = Path(path)
    try:
        table = open_table(path)
        for name in ("source_id", "residual"):
            table.check(name)
        stars = features_of(table, path, names)
        axis = wavelengths(table, path)
        if axis is None:
            raise XpjaxError("there is no wavelength")
        weight = table.column("weight").array() if "weight" in table else None
        meaning = Meaning.of(table.meta, str(path))
        residual = table.column("residual").array()
    except XpjaxError as error:
        raise XpjaxError(
            f"{path} is no file of residuals ({error}): it needs source_id (n), features (n, k) with attribute names "
            "or columns named as features, wavelength (m) [nm] and residual (n, m)"
        ) from error
    return Residuals(
        stars.source_id, stars.names, stars.value, the_same(axis, str(path)), residual, weight, stars.ebv, stars.base,
        meaning, str(path),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Trust:
    """Which stars are learned from: the median flux over error above snr, and fitted labels within these differences of
    reference labels (Ye et al. 2024): teff [K], logg and mh [dex]."""

    snr: float = 70.0
    differences: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"teff": 200.0, "logg": 0.5, "mh": 0.5}
    )


def make_residuals(
    stars: Features,
    wavelength: np.ndarray,
    flux: np.ndarray,
    true: np.ndarray,
    *,
    flux_error: np.ndarray | None = None,
    fitted: Mapping[str, np.ndarray] | None = None,
    reference: Mapping[str, np.ndarray] | None = None,
    trust: Trust | None = None,
    kind: str = "additive",
    space: str = "dereddened",
    law: str = "ccm89",
    r_v: float = R_V,
    per_ebv: float = AV_PER_SFD,
    base: str | None = None,
    truncate: bool | None = None,
) -> tuple[Residuals, dict[str, int]]:
    """Residuals of spectra against true ones, and how many stars were left out, by reason.

    stars: their features, with E(B-V) for the space "dereddened". wavelength (m,) [nm]; flux, flux_error and true (n,
    m), as observed, true in any unit and without reddening where the space is "dereddened"; NaN where missing. fitted
    and reference: labels (n,) by name, `trust` says how far apart; NaN is not trusted. Without flux_error there is no
    cut in S/N. Samples are weighted by their errors with a floor of 0.5 % of the mean flux. kind, space, law, r_v,
    per_ebv: see `Meaning`, which the residuals carry. base and truncate: name of the linear correction that the spectra
    have, and whether their coefficients are truncated, by default as the features say. A star is left out for the first
    reason that holds.

    Raises ValueError for shapes that do not fit, E(B-V) that is not there, features of spectra with another linear
    correction or truncation, or no star left.
    """
    trust = trust or Trust()
    _check_features(stars, base, truncate)
    cut = stars.truncate if truncate is None else truncate
    meaning = Meaning(kind, space, law, r_v, per_ebv, cut, stars.gaia)
    wavelength = np.asarray(nanometers(wavelength), float)
    n, m = len(stars), len(wavelength)
    for name, array in (("flux", flux), ("true", true), ("flux_error", flux_error)):
        if array is not None and np.shape(array) != (n, m):
            raise XpjaxError(f"{name} has shape {np.shape(array)}, expected {(n, m)}: {n} stars at {m} wavelengths")
    for labels in (fitted, reference):
        for name, array in (labels or {}).items():
            if np.shape(array) != (n,):
                raise XpjaxError(f"label {name} has shape {np.shape(array)}, expected {(n,)}")
    up: Any = 1.0
    if space == "dereddened":
        if stars.ebv is None:
            raise XpjaxError("dereddened spectra need E(B-V): give features with ebv, or the space 'observed'")
        per_mag = 0.4 * per_ebv * extinction_curve(wavelength, law, r_v)
        up = 10 ** (np.where(np.isfinite(stars.ebv), stars.ebv, 0)[:, None] * per_mag)
    flux, true = (np.ma.filled(np.ma.asarray(a, float), np.nan) for a in (flux, true))
    error = None if flux_error is None else np.ma.filled(np.ma.asarray(flux_error, float), np.nan) * up
    residual, weight, snr, usable = _compared(flux * up, true, error, kind)
    good, counts = _trusted(stars, true, usable, snr, trust, space, fitted, reference)
    rows = np.flatnonzero(good)
    left = residual[rows]
    return Residuals(
        stars.source_id[rows],
        stars.names,
        stars.value[rows],
        wavelength,
        left,
        np.where(np.isfinite(left), weight[rows], 0),
        None if stars.ebv is None else stars.ebv[rows],
        stars.base,
        meaning,
    ), counts


def _check_features(stars: Features, base: str | None, truncate: bool | None) -> None:
    """Refuse features of other spectra than those that are compared."""
    if base not in (None, stars.base):
        raise XpjaxError(
            f"the spectra have the linear correction {base}, the features are of spectra with {stars.base}: make both "
            f"with one, by {say(f'correction={base!r}', f'xpjax make-features --correction {base}')}"
        )
    if truncate is not None and stars.truncate not in (None, truncate):
        words = {True: "truncated", False: "full"}
        raise XpjaxError(
            f"the spectra are {words[truncate]}, the features are of {words[not truncate]} ones: make both alike, by "
            + say(f"truncate={truncate}", f"xpjax make-features {'with' if truncate else 'without'} --truncate")
        )


def _compared(
    own: np.ndarray, true: np.ndarray, error: np.ndarray | None, kind: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Residuals and weights (n, m) of spectra against true ones; S/N (n,), and which stars have spectra at all."""
    n = len(own)
    there = np.isfinite(own) & np.isfinite(true)
    enough = there.sum(axis=1) >= 2
    with np.errstate(invalid="ignore", divide="ignore"):

        def scale(values: np.ndarray) -> np.ndarray:
            return np.where(there, values, 0).sum(axis=1, keepdims=True) / there.sum(axis=1, keepdims=True)

        mean, true_mean = scale(own), scale(true)
        own, model = own / mean, true / true_mean
        residual = model - own if kind == "additive" else model / own - 1
        sigma = np.zeros_like(own) if error is None else error / mean
        variance = sigma**2 + FLOOR**2
        if kind == "multiplicative":
            variance = variance / own**2 + FLOOR**2
        weight = np.where(there, FLOOR**2 / variance, 0)
        snr = np.full(n, np.inf if error is None else np.nan)
        ratio = np.where(there & (sigma > 0), own / sigma, np.nan)
        noisy = np.isfinite(ratio).any(axis=1)
        snr[noisy] = np.nanmedian(ratio[noisy], axis=1)
    usable = enough & (mean[:, 0] > 0) & (true_mean[:, 0] > 0)
    return np.where(there & np.isfinite(residual), residual, np.nan), weight, snr, usable


def _trusted(
    stars: Features,
    true: np.ndarray,
    usable: np.ndarray,
    snr: np.ndarray,
    trust: Trust,
    space: str,
    fitted: Mapping[str, np.ndarray] | None,
    reference: Mapping[str, np.ndarray] | None,
) -> tuple[np.ndarray, dict[str, int]]:
    """Which stars (n,) are learned from, and how many are not, by the first reason. Raises XpjaxError for no star."""
    n = len(stars)
    _, first = np.unique(stars.source_id, return_index=True)
    repeated = np.ones(n, bool)
    repeated[first] = False
    reasons = {
        "no source_id": stars.source_id == 0,
        "repeated source": repeated,
        "missing features": ~np.isfinite(stars.value).all(axis=1),
        "no true spectrum": ~np.isfinite(true).any(axis=1),
        "no spectrum": ~usable,
        f"S/N at most {trust.snr:g}": ~(snr > trust.snr),
    }
    if space == "dereddened":
        assert stars.ebv is not None
        reasons["no E(B-V)"] = ~np.isfinite(stars.ebv)
    if reference is not None:
        for name, most in trust.differences.items():
            if name not in reference or fitted is None or name not in fitted:
                raise XpjaxError(f"{name} is not among both the fitted and the reference labels; leave its cut out")
            with np.errstate(invalid="ignore"):
                reasons[f"{name} differs by {most:g} or more"] = ~(np.abs(fitted[name] - reference[name]) < most)
    good, counts = np.ones(n, bool), {}
    for reason, bad in reasons.items():
        counts[reason] = int((good & bad).sum())
        good &= ~bad
    if not good.any():
        said = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        raise XpjaxError(f"no star is left of {n} ({said})")
    return good, counts
