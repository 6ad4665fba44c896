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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from xpjax.core.errors import XpjaxError, say
from xpjax.core.ids import places_of
from xpjax.core.units import nanometers
from xpjax.extinction import AV_PER_SFD, R_V, extinction_curve
from xpjax.wiggles.feature_files import read_features
from xpjax.wiggles.features import Features
from xpjax.wiggles.meaning import Meaning, Stated
from xpjax.wiggles.residuals import Residuals, repeated
from xpjax.xp import Spectra, read_spectra

FLOOR = 0.005
"""Error of normalized flux that every sample is given at least: few bright stars must not rule, nor faint ones."""


@dataclasses.dataclass(frozen=True)
class Trust:
    """Say which stars a network learns from.

    Parameters
    ----------
    snr : float
        Least signal-to-noise ratio, the median over the samples.
    differences : mapping
        Largest differences of fitted labels from reference labels, by name: teff [K], logg and mh [dex].

    Notes
    -----
    The defaults are those of Ye et al. (2024).

    Examples
    --------
    >>> xpjax.wiggles.Trust(snr=30, differences={"teff": 150.0})
    Trust(snr=30, differences={'teff': 150.0})
    """

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
    base: str | None = None,
    **how: Unpack[Stated],
) -> tuple[Residuals, dict[str, int]]:
    """Make residuals of spectra against true ones, for the training of a network.

    Parameters
    ----------
    stars : Features
        Features of the stars, with E(B-V) for the space "dereddened".
    wavelength : (m,) array [nm]
        Wavelengths of the spectra.
    flux, true : (n, m) array
        Spectra as observed, and true ones in any unit, unreddened for the space "dereddened"; NaN where missing.
    flux_error : (n, m) array, optional
        Standard errors of the flux; without them there is no cut in S/N.
    fitted, reference : mapping, optional
        Labels (n,) by name, whose differences `trust` limits; NaN is not trusted.
    trust : Trust, optional
        Which stars are learned from.
    base : str, optional
        Name of the linear correction of the spectra, by default that of the features.
    **how
        kind ("additive" or "multiplicative"), space ("dereddened" or "observed"), law, r_v and per_ebv (A_V per E(B-V))
        of the dereddening, and truncate: whether the coefficients are truncated, by default as the features'.

    Returns
    -------
    residuals : Residuals
        Residuals of the stars that are trusted.
    counts : dict
        Number of the stars that are left out, by the first reason that holds.

    Raises
    ------
    XpjaxError
        For shapes that do not fit, absent E(B-V), features of other spectra, and where no star is left.

    Notes
    -----
    With N f = f / <f>, <.> the mean over the samples that both spectra have, additive residuals are N f_true - N f,
    multiplicative ones N f_true / N f - 1 (Ye et al. 2024, section 4.2). Samples are weighted by their errors with a
    floor of 0.5 % of the mean flux.

    Examples
    --------
    >>> sources = xpjax.simulate_sources(5, seed=1)
    >>> stars = xpjax.wiggles.make_features(sources, "color")
    >>> spectra = xpjax.spectra(sources, errors=False)
    >>> found, counts = xpjax.wiggles.make_residuals(
    ...     stars, spectra.wavelength, spectra.flux, 1.02 * spectra.flux, space="observed"
    ... )
    >>> float(np.abs(found.residual).max()) < 1e-6
    True
    """
    _check_features(stars, base, how.get("truncate"), how.get("release"))
    usual: Any = {"kind": "additive", "space": "dereddened", "law": "ccm89", "r_v": R_V, "per_ebv": AV_PER_SFD}
    usual |= {"truncate": stars.truncate, "gaia": stars.gaia, "release": stars.release}
    meaning = Meaning(**(usual | {name: value for name, value in how.items() if value is not None}))
    wavelength = np.asarray(nanometers(wavelength), float)
    _check_shapes(stars, wavelength, {"flux": flux, "true": true, "flux_error": flux_error}, (fitted, reference))
    up = _unreddened(stars, wavelength, meaning)
    flux, true = (np.ma.filled(np.ma.asarray(a, float), np.nan) for a in (flux, true))
    error = None if flux_error is None else np.ma.filled(np.ma.asarray(flux_error, float), np.nan) * up
    residual, weight, snr, usable = _compared(flux * up, true, error, str(meaning.kind))
    good, counts = _trusted(stars, true, usable, snr, trust or Trust(), str(meaning.space), fitted, reference)
    weight = np.where(np.isfinite(residual), weight, 0)
    whole = Residuals(
        stars.source_id, stars.names, stars.value, wavelength, residual, weight, stars.ebv, stars.base, meaning
    )
    return whole[np.flatnonzero(good)], counts


def residuals_of_spectra(
    spectra: Spectra | str | Path,
    stars: Features | str | Path,
    true: Spectra | str | Path,
    *,
    trust: Trust | None = None,
    **how: Unpack[Stated],
) -> tuple[Residuals, dict[str, int]]:
    """Make residuals of sampled spectra against true ones of the same stars, found by source_id.

    Parameters
    ----------
    spectra : Spectra, str or Path
        Sampled absolute spectra, or a file that `xpjax.xp.read_spectra` reads.
    stars : Features, str or Path
        Features by source_id, or their file; with E(B-V) for the space "dereddened".
    true : Spectra, str or Path
        True spectra, seen at the resolution of the others; they are interpolated to the same wavelengths.
    trust : Trust, optional
        Which stars are learned from.
    **how
        kind, space, law, r_v and per_ebv, as of `make_residuals`.

    Returns
    -------
    residuals : Residuals
        Residuals of the stars that are trusted.
    counts : dict
        Number of the stars that are left out, by reason.

    Raises
    ------
    XpjaxError
        As `make_residuals` does, and for internal spectra.

    Examples
    --------
    >>> sources = xpjax.simulate_sources(5, seed=1)
    >>> stars = xpjax.wiggles.make_features(sources, "color")
    >>> spectra = xpjax.spectra(sources)
    >>> found, counts = xpjax.wiggles.residuals_of_spectra(
    ...     spectra, stars, spectra, trust=xpjax.wiggles.Trust(snr=0), space="observed"
    ... )
    >>> float(np.abs(found.residual).max())
    0.0
    """
    own, others = (absolute_spectra(one) for one in (spectra, true))
    features = stars if isinstance(stars, Features) else read_features(stars)
    grid, known_at = (np.asarray(nanometers(one.wavelength), float) for one in (own, others))
    inside = (grid >= known_at[0] - 1e-9) & (grid <= known_at[-1] + 1e-9)
    seen = np.full(own.flux.shape, np.nan)
    place = places_of(own.source_id, others.source_id)
    known = place >= 0
    there = np.stack([np.interp(grid[inside], known_at, row) for row in others.flux])
    seen[np.ix_(known, inside)] = there[place[known]]
    said: Any = {"truncate": own.meta.get("truncate"), "release": own.release.name}
    stated, base = {**said, **how}, str(own.meta.get("correction", "none"))
    matched = features.matched(own.source_id)
    return make_residuals(matched, grid, own.flux, seen, flux_error=own.flux_error, trust=trust, base=base, **stated)


def absolute_spectra(spectra: Spectra | str | Path) -> Spectra:
    """Absolute spectra that no network has corrected, or of a file of them. Raises XpjaxError."""
    if isinstance(spectra, Spectra):
        known, name = spectra, "the input"
    else:
        known, name = read_spectra(spectra), Path(spectra).name
    if known.internal:
        option = say("internal=True", "--internal")
        raise XpjaxError(f"{name} holds internal spectra; corrections are for absolute ones: make it without {option}")
    if known.meta.get("corrected"):
        raise XpjaxError(f"{name} is already corrected: give the spectra that it was made of")
    return known


def _check_shapes(
    stars: Features, wavelength: np.ndarray, arrays: Mapping[str, Any], labels: Sequence[Mapping[str, Any] | None]
) -> None:
    n, m = len(stars), len(wavelength)
    for name, array in arrays.items():
        if array is not None and np.shape(array) != (n, m):
            raise XpjaxError(f"{name} has shape {np.shape(array)}, expected {(n, m)}: {n} stars at {m} wavelengths")
    for name, array in (item for known in labels for item in (known or {}).items()):
        if np.shape(array) != (n,):
            raise XpjaxError(f"label {name} has shape {np.shape(array)}, expected {(n,)}")


def _unreddened(stars: Features, wavelength: np.ndarray, meaning: Meaning) -> Any:
    """The factor (n, m) that takes the reddening off spectra; 1 for residuals of spectra as observed."""
    if meaning.space == "observed":
        return 1.0
    if stars.ebv is None:
        raise XpjaxError("dereddened spectra need E(B-V): give features with ebv, or the space 'observed'")
    dust = meaning.attributes()
    per_mag = 0.4 * dust["per_ebv"] * extinction_curve(wavelength, dust["law"], dust["r_v"])
    return 10 ** (np.where(np.isfinite(stars.ebv), stars.ebv, 0)[:, None] * per_mag)


def _check_features(stars: Features, base: str | None, truncate: bool | None, release: str | None) -> None:
    """Refuse features of other spectra than those that are compared."""
    if release is not None and stars.release not in (None, release):
        raise XpjaxError(
            f"the spectra are of {release}, the features of {stars.release}: make both of sources of one release"
        )
    if base not in (None, stars.base):
        raise XpjaxError(
            f"the spectra have the linear correction {base}, the features are of spectra with {stars.base}: make both "
            f"with one, by {say(f'correction={base!r}', f'xpjax wiggles features --correction {base}')}"
        )
    if truncate is not None and stars.truncate not in (None, truncate):
        words = {True: "truncated", False: "full"}
        raise XpjaxError(
            f"the spectra are {words[truncate]}, the features are of {words[not truncate]} ones: make both alike, by "
            + say(f"truncate={truncate}", f"xpjax wiggles features {'with' if truncate else 'without'} --truncate")
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
    reasons = {
        "no source_id": stars.source_id == 0,
        "repeated source": repeated(stars.source_id),
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
