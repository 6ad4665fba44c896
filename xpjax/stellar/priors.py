"""What is known of stars before their spectra are fitted: numbers or columns, dust by position, parallaxes.

A prior is Gaussian, a mean and a standard error for each star; NaN is for a star without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from xpjax.core.constants import FLUX_PER_MAGNITUDE
from xpjax.core.errors import XpjaxError, say
from xpjax.core.sky import HEALPIX_LEVEL, HEALPIX_SHIFT, pixel_centers
from xpjax.extinction import AV_PER_SFD, extinction_curve

Value: TypeAlias = str | float | np.ndarray
"""The name of a column, or one number for all stars, or a number for each."""
Known: TypeAlias = Mapping[str, tuple[Value, Value] | str | None]
"""Means and standard errors by label, LAYER for E(B-V); None for a label that is to have no prior."""
Gaussian: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Means and standard errors (n,) of stars."""
LAYER = "layer"
"""The prior of E(B-V) by the latitude that source_id encodes."""

EBV_NODES = (-0.1, 0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.7)
"""Nodes of E(B-V) [mag] of fits that are free to find it. Noise takes some stars without dust below zero, as it does
parallaxes of far stars: cut off there, they would all be at an edge."""
RV_NODES = (2.3, 2.7, 3.1, 3.6, 4.3, 5.2)
"""Nodes of R_V of fits that are free to find it."""
RV_PRIOR = (3.1, 0.3)
"""R_V where nothing else is said: without a prior hardly a spectrum tells it."""
GALACTIC_POLE = (192.85948, 27.12825)
"""ra and dec [deg] of the Galactic pole, J2000."""
POLE, HEIGHT, MOST = 0.04, 0.1, 1.0
"""E(B-V) [mag] through the layer of dust at the Galactic pole, its scale height [kpc], and the most that it stands for
at low latitudes: SFD's map has a median of some 0.04 / sin|b|."""
SPREAD, CLOUDS = 0.05, 2.0
"""Spread of E(B-V) about the layer's: at least [mag], and beside that in its own value. Dust comes in clouds."""
LEAST_SNR = 3.0
"""Parallax over its error below which it says too little of the gravity."""
MASS_SPREAD = 0.3
"""Spread of log10 of stellar masses in units of the Sun's about 0: 0.5 to 2 solar masses."""
SUN_LOGG, SUN_TEFF, SUN_BOLOMETRIC = 4.438, 5772.0, 4.74
"""The Sun: log g [cm s-2], Teff [K], bolometric magnitude (IAU 2015 resolutions B2 and B3)."""
_TEFF = (3500, 3750, 4000, 4250, 4500, 5000, 5500, 6000, 6500, 7000, 7500, 8000, 8500, 9000, 10000, 11000, 12000, 13000)
_LOGG = (1.0, 3.0, 4.5)
# Integrals of the solar-metallicity models of Castelli & Kurucz (2004) through Gaia's G passband; where there is no
# model of log g 1 that of the next.
_BOLOMETRIC = (
    (-1.129, -0.711, -0.460, -0.296, -0.175, -0.015, 0.075, 0.126, 0.150, 0.151, 0.133, 0.080, 0.023, -0.065, -0.259,
     -0.456, -0.648, -0.834),
    (-1.000, -0.715, -0.478, -0.309, -0.188, -0.032, 0.050, 0.090, 0.108, 0.112, 0.102, 0.073, 0.019, -0.060, -0.251,
     -0.445, -0.635, -0.822),
    (-0.703, -0.566, -0.430, -0.306, -0.194, -0.036, 0.043, 0.074, 0.078, 0.067, 0.050, 0.025, -0.016, -0.079, -0.263,
     -0.463, -0.656, -0.842),
)  # fmt: skip


def values_of(value: Any, columns: Mapping[str, Any], n: int, where: str) -> np.ndarray:
    """Numbers (n,) that a column's name, one number, or a number for each star means; NaN where masked.

    where: what has the columns, for messages. Raises XpjaxError for a column that is not there, and other shapes.
    """
    if isinstance(value, str):
        if value not in columns:
            raise XpjaxError(f"{where} has no column {value}; it has {', '.join(columns) or 'no others'}")
        value = columns[value]
    try:
        numbers: np.ndarray = np.ma.filled(np.ma.asarray(value, float), np.nan)
        return np.array(np.broadcast_to(numbers, (n,)))
    except (TypeError, ValueError):
        raise XpjaxError(f"{where}: expected a number, or one for each of {n} stars, found {value!r:.60}") from None


def columns_of(*values: Any) -> list[str]:
    """Names of the columns among values and pairs of them."""
    flat = [one for value in values for one in (value if isinstance(value, tuple | list) else (value,))]
    return [one for one in dict.fromkeys(one for one in flat if isinstance(one, str))]


def check_priors(priors: Known, names: tuple[str, ...]) -> None:
    """Raise XpjaxError for priors of labels that there are not, and for what is no pair."""
    for name, pair in priors.items():
        if name not in names:
            more = f"; {say('leave ebv out', 'leave --ebv out')}, and E(B-V) is fitted" if name in ("ebv", "rv") else ""
            raise XpjaxError(f"a prior of {name}, which is no label of this fit; it has {', '.join(names)}{more}")
        if pair is None or (pair == LAYER and name == "ebv"):
            continue
        if isinstance(pair, str) or len(pair) != 2:
            raise XpjaxError(f"the prior of {name} is {pair!r}: expected a mean and its standard error")


def gaussians(
    priors: Known, columns: Mapping[str, Any], source_id: np.ndarray, where: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Means and standard errors (n,) of each prior; NaN for stars that have none, or one without an error.

    Raises XpjaxError for columns that are not there, and numbers that are no errors.
    """
    found = {}
    for name, pair in priors.items():
        if isinstance(pair, str):
            found[name] = layer_of_dust(source_id)
        elif pair is not None:
            mean, error = (values_of(one, columns, len(source_id), where) for one in pair)
            if not isinstance(pair[1], str) and not np.all(error > 0):
                raise XpjaxError(f"the prior of {name} has a standard error that is not positive: hold no label so")
            with np.errstate(invalid="ignore"):
                found[name] = mean, np.where(error > 0, error, np.nan)
    return found


def layer_of_dust(source_id: np.ndarray) -> Gaussian:
    """E(B-V) [mag] (n,) that a plane layer of dust has towards each star, and how far stars scatter about it.

    Through the whole layer it is POLE / sin|b|, b being the Galactic latitude of the position that source_id encodes,
    and stars are behind half of it. Nothing is known of a source without an id.
    """
    source_id = np.asarray(source_id)
    known = (source_id > 0) & (source_id >> HEALPIX_SHIFT < 12 << 2 * HEALPIX_LEVEL)
    ra, dec = (np.radians(angle) for angle in pixel_centers(source_id))
    pole_ra, pole_dec = np.radians(GALACTIC_POLE)
    slant = np.abs(np.sin(dec) * np.sin(pole_dec) + np.cos(dec) * np.cos(pole_dec) * np.cos(ra - pole_ra))
    mean = np.where(known, 0.5 * POLE / np.maximum(slant, POLE / MOST), np.nan)
    return mean, SPREAD + CLOUDS * mean


def bolometric_correction(teff: Any, logg: Any) -> np.ndarray:
    """BC_G (n,) [mag], what is added to a G magnitude for the bolometric one, of stars of solar metallicity.

    Between values integrated from the models of Castelli & Kurucz (2004) linear in Teff and log g; beyond them that of
    the nearest.
    """
    each = np.stack([np.interp(teff, _TEFF, row) for row in _BOLOMETRIC], axis=-1)
    place = np.interp(logg, _LOGG, np.arange(len(_LOGG)))
    near = np.clip(np.nan_to_num(place).astype(int), 0, len(_LOGG) - 2)
    low, high = (np.take_along_axis(each, (near + k)[..., None], axis=-1)[..., 0] for k in (0, 1))
    return np.asarray(low + (high - low) * (place - near))


def parallax_prior(
    teff: np.ndarray, magnitude: np.ndarray, parallax: np.ndarray, parallax_error: np.ndarray
) -> Gaussian:
    """log g [cm s-2] and its standard error (n,) from the luminosity; NaN where the parallax says too little.

    teff [K], magnitude: G without extinction, parallax and its error [mas], (n,) each. With the mass M,

        log g = log g_sun + log M + 4 log(Teff / Teff_sun) + 0.4 (M_bol - M_bol_sun),
        M_bol = G + BC_G + 5 log(parallax) - 10.

    The measured parallax p is Gaussian about the true one, whatever its sign; log g is flat before. Its mean and
    variance follow from the likelihood of p, in which no parallax is inverted, and log M is 0 +- MASS_SPREAD.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = parallax / parallax_error
        enough = (snr >= LEAST_SNR) & np.isfinite(teff) & np.isfinite(magnitude)
    snr = np.where(enough, snr, 10.0)
    x = np.linspace(-1, 1, 61)
    off = np.where(x < 0, -x * np.maximum(-4, -0.9 * snr[:, None]), 4 * x)
    true = 1 + off / snr[:, None]  # over the measured one
    step = np.where(x < 0, np.minimum(4, 0.9 * snr[:, None]), 4)
    weight = np.exp(-0.5 * off**2) / true * step  # flat in log g is 1/p in p
    weight /= weight.sum(axis=1, keepdims=True)
    y = 2 * np.log10(true)
    shift = np.sum(weight * y, axis=1)
    variance = np.sum(weight * (y - shift[:, None]) ** 2, axis=1)
    logg = np.full(len(snr), 4.5)
    safe = [np.where(enough, values, fill) for values, fill in ((teff, SUN_TEFF), (magnitude, 10.0), (parallax, 1.0))]
    for _ in range(3):  # BC_G hangs on log g a little
        bolometric = safe[1] + bolometric_correction(safe[0], logg) + 5 * np.log10(safe[2]) - 10
        logg = SUN_LOGG + 4 * np.log10(safe[0] / SUN_TEFF) + 0.4 * (bolometric - SUN_BOLOMETRIC) + shift
    return np.where(enough, logg, np.nan), np.where(enough, np.sqrt(variance + MASS_SPREAD**2), np.nan)


def joined(one: Gaussian | None, other: Gaussian) -> Gaussian:
    """Two Gaussians (n,) of the same label as one; where only one is known, that."""
    if one is None:
        return other
    means, errors = np.stack([one[0], other[0]]), np.stack([one[1], other[1]])
    weight = np.where(np.isfinite(means) & np.isfinite(errors), errors**-2.0, 0)
    total = weight.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(weight * np.nan_to_num(means), axis=0) / total
    return np.where(total > 0, mean, np.nan), np.where(total > 0, np.maximum(total, 1e-300) ** -0.5, np.nan)


def dereddened_g(
    wavelength: np.ndarray, flux: np.ndarray, ebv: np.ndarray | None, dust: Mapping[str, Any]
) -> np.ndarray:
    """G (n,) [mag] without extinction, of spectra (n, n_wavelength) [W m-2 nm-1] as far as they go: to 0.01 mag.

    dust: law and per_ebv, where they are not the usual ones. Raises XpjaxError for spectra that miss much of the band.
    """
    from xpjax.synthetic import curves_of, gaia_system, load_system

    band = curves_of(load_system(gaia_system()))[0]
    x, own = np.asarray(wavelength, float), np.asarray(band.wavelength, float)
    response = np.interp(x, own, np.asarray(band.transmission, float), left=0, right=0) * x * np.gradient(x)
    light = np.trapezoid(np.asarray(band.transmission, float) * own, own)
    if np.sum(response) < 0.97 * light:
        raise XpjaxError(
            f"a grid on {x[0]:g}..{x[-1]:g} nm misses much of the G passband, of which parallaxes make luminosities: "
            + say("leave parallax out", "leave --parallax out")
        )
    if ebv is not None:
        exponent = FLUX_PER_MAGNITUDE * dust.get("per_ebv", AV_PER_SFD) * extinction_curve(x, dust.get("law", "ccm89"))
        flux = flux * np.exp(np.asarray(ebv, float)[:, None] * exponent)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(-2.5 * np.log10(flux.astype(float) @ response / light) + band.zero_point)
