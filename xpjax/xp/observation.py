"""From a spectrum to XP: the coefficients that a source of known spectrum has, by one constant matrix.

A photometer turns a flux f(l) at the pupil A into photo-electrons at pseudo-wavelength u (Montegriffo et al. 2023, A&A
674 A3), with the response R, the dispersion u(l), the line spread L and the internal bases phi,

    h(u) = A int f(l) l / (h c) R(l) L(u - u(l), l) dl = c phi(u)                                                    (1)

and the external calibration gives each phi_n its inverse basis chi_n, L chi_n = phi_n, so that

    c chi(u(l)) = A R(l) l / (h c) f(l),  that is  c D(l) = f(l)                                                     (2)

with the design matrix D of `xpjax.xp.instrument`. phi and chi are published, L is not, and they tell it only in part:
the most flexible line spread with wings leaves 0.3..0.6 % of the internal spectra of stars. So (2) is solved, which is
exact where the absolute spectrum is used, and real stars say the rest: what BP sees beyond 643 nm, RP below 635 nm, and
the wings of both, which (2) does not show. Sources have c = l (m + r z) with their level l, the mean m and the root r
of the covariance of ordinary ones (`LinearCorrection`); with N = TOLERANCE^2, the error of a mean over 1 nm,

    minimize  int (f - c D)^2 dl / (l^2 N) + z'z  over 330..1050 nm:   c = int f(l) G(l) dl,  G = K D,

K constant, whatever l. f is the local cubic through its samples, and the integral over them is exact: c is a product of
the samples with a matrix, and a gradient with respect to f, or to what makes it, goes through it. f is not smoothed
before: c D follows it as far as XP can, and both agree when seen with XP's line spread.

SLACK lets c be what no ordinary star has. Other releases have other bases: m and r are then those that have the
internal spectra of DR3's.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core import engine
from xpjax.core.errors import XpjaxError, say
from xpjax.core.linalg import interpolation
from xpjax.core.process import one_blas_thread
from xpjax.core.quadrature import quadrature
from xpjax.core.release import DR3, Release, find_release, other_release
from xpjax.core.status import Status
from xpjax.core.units import FLUX, in_unit, nanometers
from xpjax.extinction import AV_PER_SFD, R_V, check_law, extinction_curve, transmission
from xpjax.xp.correction import STANDARD, AnyLinear, load_correction
from xpjax.xp.instrument import Instrument, load_instrument
from xpjax.xp.read.layout import repeated
from xpjax.xp.read.spectra_files import flux_factor
from xpjax.xp.sampled import Spectra
from xpjax.xp.simulate import EXTRAPOLATED, MAGNITUDES, gaia_magnitudes, relevant_bases, typical_errors
from xpjax.xp.sources import SourceTable, XPCoefficients

TOLERANCE = 0.007
"""Standard error of c D in means over 1 nm, relative to the mean flux. Twice as much loses narrow bands; half as much
wins little, and errors of the instrument model, 3 % of the flux of real stars, then reach the overlap of BP and RP."""
WIDE = 3.0
"""Prior width of the mean spectrum itself, in place of the level."""
SLACK = 0.006
"""Isotropic prior width of coefficients, relative to the RMS of the mean ones, for spectra as no ordinary star has."""
STEP = 0.5
"""Steps [nm] of spectra that are judged, and of the pieces of integrals."""
PASSES = 2
"""Passes that give coefficients a correction's change: with more, corrected spectra come hardly nearer to those given,
and uncorrected ones swing more than XP's."""
SHORT = 0.5
"""What a spectrum may lack at the ends [nm]."""
LEAST = (400.0, 900.0)
"""What a spectrum has to cover [nm] where the rest is left to ordinary sources."""
MARGIN = 5.0
"""Samples [nm] beyond XP's wavelengths that shape the cubic within."""
NODES = 20_000
"""Nodes of the integral at once: 20 MB."""
RELATIVE = "relative_flux"
"""Entry of the metadata of spectra whose fluxes are in no known unit."""
PLAUSIBLE = (-2.0, 25.0)
"""G of sources whose errors can be told; others have spectra in another unit."""
EDGE = 30.0
"""How far from its ends [nm] a spectrum is not judged: two widths of the widest line spread."""
MISFIT = "xp_misfit"


def observation_matrix(
    wavelength: ArrayLike, instrument: Instrument | None = None, *, extend: bool = False
) -> np.ndarray:
    """Make the matrix that turns sampled spectra into XP coefficients: coefficients = flux @ matrix.

    Parameters
    ----------
    wavelength : (m,) array or astropy.units.Quantity [nm]
        Ascending wavelengths in vacuum, at least 330..1050 nm; samples far beyond have no weight.
    instrument : Instrument, optional
        Instrument model; by default `load_instrument()`. With a linear correction (`Instrument.corrected`) the
        spectra of the coefficients with that correction are the spectra given.
    extend : bool
        Take spectra that cover no more than 400..900 nm: what they lack is that of ordinary sources, and magnitudes of
        bands that see it are guesses.

    Returns
    -------
    (m, n_basis_total) array
        The matrix, for fluxes in W m-2 nm-1, in float64.

    Raises
    ------
    XpjaxError
        If the wavelengths do not ascend, or do not cover enough.

    Notes
    -----
    The most probable coefficients c with c D = f, where D is the design matrix, under the covariance of ordinary
    sources, which tells what no absolute spectrum shows: the overlap of BP and RP and the wings (Montegriffo et al.
    2023, A&A 674, A3). The map is linear: a JAX gradient with respect to the flux goes through the product.

    Examples
    --------
    >>> instrument, wavelength = xpjax.load_instrument(), np.arange(330.0, 1051.0)
    >>> matrix = xpjax.xp.observation_matrix(wavelength, instrument)
    >>> seen = 1e-17 * np.ones(len(wavelength)) @ matrix @ instrument.default_design
    >>> bool(abs(seen[50:300] / 1e-17 - 1).max() < 0.03)
    True
    """
    model = instrument or load_instrument()
    x = np.asarray(nanometers(wavelength), float)
    low, high = _covered(x, model, extend)
    plain, gain = dataclasses.replace(model, correction=None), _gain(model, low, high)
    first, last = np.searchsorted(x, [low - MARGIN, high + MARGIN])
    used = slice(max(int(first) - 2, 0), int(last) + 2)
    nodes, weights, samples = quadrature(x[used], (low, high, *model.merge_range))
    inside = np.flatnonzero((nodes > low) & (nodes < high))
    projected = np.zeros((samples.shape[1], model.release.n_basis_total))
    for rows in np.split(inside, np.arange(NODES, len(inside), NODES)):
        projected += samples[rows].T @ (_design(plain, nodes[rows]) * weights[rows]).T
    out = np.zeros((len(x), model.release.n_basis_total))
    out[used] = projected @ gain.T
    return out


def _covered(x: np.ndarray, model: Instrument, extend: bool) -> tuple[float, float]:
    """XP's wavelengths that samples at x (m,) cover. Raises XpjaxError where these are too few, or no grid."""
    if x.ndim != 1 or len(x) < 4 or not np.isfinite(x).all() or not (np.diff(x) > 0).all() or x[0] <= 0:
        raise XpjaxError(f"wavelength: expected four or more ascending numbers [nm], found {str(x)[:60]}")
    low, high = LEAST if extend else model.wavelength_range
    if x[0] > low + SHORT or x[-1] < high - SHORT:
        remedy = "give spectra that do"
        if not extend:
            remedy += f", or {say('extend=True', '--extend')}: magnitudes of bands that see the rest are then guesses"
        raise XpjaxError(
            f"the spectra cover {x[0]:g}..{x[-1]:g} nm (is this the unit?), and XP needs {low:g}..{high:g} nm; {remedy}"
        )
    return max(float(x[0]), model.wavelength_range[0]), min(float(x[-1]), model.wavelength_range[1])


def _design(model: Instrument, x: np.ndarray) -> np.ndarray:
    """The design matrix (n_basis_total, m) [W m-2 nm-1]."""
    made = model.design(x)
    return np.asarray(made.value, float) * float(made.scale)


def _gain(model: Instrument, low: float, high: float) -> np.ndarray:
    """K (n_basis_total, n_basis_total): c = K int D(l) f(l) dl within low..high [nm], D without the correction.

    With a correction, which adds the change A to D, c D = f - c A is solved from c without it, step by step.
    """
    plain = dataclasses.replace(model, correction=None)
    root, level_range = _prior(model)
    pieces = np.linspace(low, high, int(np.ceil((high - low) / STEP)) + 1)
    x, weight, _ = quadrature(pieces, model.merge_range)
    design = _design(plain, x)
    inside = (x >= level_range[0]) & (x <= level_range[1])
    root = root / (root[:, -1] / WIDE @ np.average(design[:, inside], axis=1, weights=weight[inside]))
    with one_blas_thread():
        _, s, vt = np.linalg.svd((design * np.sqrt(weight) / TOLERANCE).T @ root, full_matrices=False)
        back = root @ vt.T
        gain = np.asarray((back / (1 + s**2)) @ back.T) / TOLERANCE**2
    if model.correction is None:
        return gain
    # Not solved at once: D + A nearly cannot see directions in which stars would then be as no star is.
    change = gain @ (design * weight) @ (_design(model, x) - design).T
    first = gain
    for _ in range(PASSES):
        gain = first - change @ gain
    return gain


def _prior(model: Instrument) -> tuple[np.ndarray, tuple[float, float]]:
    """Root (n_basis_total, r) of the covariance of coefficients over the mean flux, which its last column stands for.

    Also the wavelengths over which that mean is taken.
    """
    known = load_correction(STANDARD)
    assert known is not None
    if model.correction is not None and model.correction.release.fits(model.release):
        known = model.correction
    root = np.column_stack([known.root, WIDE * known.center])
    if known.release != model.release:
        root = _moved(root, load_instrument(release=known.release), model)
    slack = SLACK * np.sqrt(np.mean(root[:, -1] ** 2)) / WIDE
    return np.column_stack([slack * np.eye(len(root)), root]), known.level_range


def _moved(root: np.ndarray, old: Instrument, new: Instrument) -> np.ndarray:
    """Coefficients (n_basis_total, r) of one release as those with the same internal spectra of another."""
    u = np.arange(-5.0, 65.0, 0.25)
    parts = []
    for rows, xp in zip(old.release.slices, old.release.xp, strict=True):
        if xp not in new.release.xp:
            raise XpjaxError(f"{new.release.name} has no {xp.upper()}, and no spectrum can be observed with it")
        before, after = (model.internal[model.internal_basis][xp](u) for model in (old, new))
        parts.append(np.linalg.lstsq(after.T, before.T @ root[rows], rcond=None)[0])
    return np.concatenate(parts)


# --- sources ----------------------------------------------------------------------------------------------------------


class ObserveOptions(TypedDict, total=False):
    """Options of `observe`."""

    g_mag: ArrayLike | None
    ebv: ArrayLike
    law: str
    noise: int | Sequence[int] | None
    release: Release | str | None
    instrument: Instrument | None
    correction: AnyLinear
    errors: bool
    correlations: bool
    extend: bool


def observe(
    wavelength: ArrayLike | Spectra,
    flux: ArrayLike | None = None,
    *,
    g_mag: ArrayLike | None = None,
    ebv: ArrayLike = 0.0,
    law: str = "ccm89",
    noise: int | Sequence[int] | None = None,
    release: Release | str | None = None,
    instrument: Instrument | None = None,
    correction: AnyLinear = None,
    errors: bool = True,
    correlations: bool = True,
    extend: bool = False,
) -> SourceTable:
    """Observe spectra with Gaia's BP and RP: XP coefficients, errors and correlations of sources with these spectra.

    Parameters
    ----------
    wavelength : (m,) array or astropy.units.Quantity [nm], or Spectra
        Ascending wavelengths in vacuum that cover 330..1050 nm; or spectra, which bring their fluxes and columns.
    flux : (n, m) or (m,) array or astropy.units.Quantity [W m-2 nm-1]
        Spectra as seen from Earth; in any unit where `g_mag` is given.
    g_mag : float or (n,) array, optional
        Synthetic G that spectra are scaled to, after reddening.
    ebv : float or (n,) array [mag]
        E(B-V) that spectra are reddened by; A_V = `xpjax.extinction.AV_PER_SFD` E(B-V).
    law : str
        Reddening law, of `xpjax.extinction.LAWS`.
    noise : int or sequence of int, optional
        Seed of the noise that is added; None for none.
    release : Release or str, optional
        Data release, such as `Gaia DR4`; by default the instrument's, or Gaia DR3.
    instrument : Instrument, optional
        Instrument model; by default that of the release.
    correction : LinearCorrection or str, optional
        Make sources whose spectra with this correction, "standard", are those given. Without it they have errors of the
        size of XP's systematic ones, not in detail those of real stars.
    errors, correlations : bool
        Whether sources have errors and correlations: those that sources of this G, BP-RP have in the median.
    extend : bool
        Take spectra that cover 400..900 nm alone, and the rest from ordinary sources: magnitudes of bands that see the
        rest are guesses.

    Returns
    -------
    SourceTable
        Sources 1..n, or with the source_id of the spectra; phot_g_mean_mag, phot_bp_mean_mag, phot_rp_mean_mag and
        bp_rp are synthetic, without noise; xp_misfit is what XP cannot follow, RMS on 400..900 nm (within 30 nm of the
        ends) over the mean. A spectrum that is not finite, without light, or of a G that no source has, has no
        coefficients (BP_BAD, RP_BAD).

    Raises
    ------
    XpjaxError
        If wavelengths do not cover enough, shapes, units, law or seed do not fit, or G is none that sources have.

    Notes
    -----
    See `xpjax.xp.observation_matrix`. Noise has the covariance that is reported, modeled on DR3's of G 4..17.65.

    Examples
    --------
    >>> wavelength = np.arange(330.0, 1051.0)
    >>> star = xpjax.observe(wavelength, 1e-16 * np.exp(-3000 / wavelength), g_mag=15.0, noise=1)
    >>> star.coefficients.value.shape, float(star.columns["phot_g_mean_mag"][0])
    ((1, 110), 15.0)
    """
    check_law(law)
    noise = check_noise(noise)
    x, light = _samples(wavelength, flux, physical=g_mag is None)
    model = _model(release, instrument, correction)
    dust = ebv, law
    value, magnitude, misfit = _seen(x, light, model, g_mag, dust, extend)
    given = wavelength if isinstance(wavelength, Spectra) else None
    if errors or noise is not None:
        value, magnitude = _of_sources(value, magnitude, given, alike=g_mag is None or np.ndim(g_mag) == 0)
    made = _table(value, magnitude, model, given, errors, correlations, noise)
    return dataclasses.replace(made, columns={**made.columns, MISFIT: misfit})


def check_noise(noise: Any) -> int | tuple[int, ...] | None:
    """The seed of noise: whole numbers of at least 0, or None. Raises XpjaxError for others."""
    many = isinstance(noise, list | tuple) or (isinstance(noise, np.ndarray) and noise.ndim == 1)
    seeds = list(noise) if many else [noise]
    whole = [isinstance(seed, int | np.integer) and not isinstance(seed, bool) and seed >= 0 for seed in seeds]
    if noise is not None and not (whole and all(whole)):
        name = say("noise=", "--seed")
        raise XpjaxError(f"{name} is {noise!r}; expected a seed, a whole number of at least 0, or None for no noise")
    return None if noise is None else tuple(map(int, seeds)) if many else int(noise)


def _seen(
    x: np.ndarray, light: np.ndarray, model: Instrument, g_mag: Any, dust: tuple[Any, str], extend: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients (n, n_basis_total), magnitudes (n, 3) and misfits (n,) of fluxes (n, m) at x (m,) behind dust."""
    matrix = observation_matrix(x, model, extend=extend)
    # Gaia's passbands are known through DR3's coefficients, without a correction.
    standard = observation_matrix(x, extend=extend) if model.release != DR3 else matrix
    used = np.any(matrix != 0, axis=1) | np.any(standard != 0, axis=1)
    light = light[:, used] * _dust(x[used], *dust, len(light))
    value, magnitude = light @ matrix[used], gaia_magnitudes(light @ standard[used])
    misfit = _misfit(x[used], light, value, model)
    if g_mag is not None:
        wanted = _per_row(in_unit(g_mag, "mag", "g_mag"), len(light), "g_mag")
        if np.ndim(g_mag) == 0 and not np.isfinite(wanted).all():
            raise XpjaxError(f"{say('g_mag=', '--g-mag')} is {g_mag}; expected a magnitude")
        shift = wanted - magnitude[:, 0]
        value, magnitude = value * 10 ** (-0.4 * shift[:, None]), magnitude + shift[:, None]
    value[~np.isfinite(magnitude).all(axis=1)] = np.nan
    return value, magnitude, misfit


def _of_sources(
    value: np.ndarray, magnitude: np.ndarray, given: Spectra | None, alike: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and magnitudes, NaN in rows of a G that no source has, which are warned of.

    alike: G is no matter of each row. Raises XpjaxError if it is, and no row has a G that sources have.
    """
    g = magnitude[:, 0]
    good = np.isfinite(value).all(axis=1)
    odd = good & ~((g >= PLAUSIBLE[0]) & (g <= PLAUSIBLE[1]))
    rows = np.flatnonzero(odd)
    if not len(rows):
        return value, magnitude
    if alike and np.array_equal(odd, good):
        raise XpjaxError(
            f"the spectra have G = {g[odd].min():.1f}..{g[odd].max():.1f} mag, of which no source has known errors: "
            f"are fluxes in W m-2 nm-1, as seen from Earth? Give G by {say('g_mag=', '--g-mag')}"
            + say(", or leave errors out by errors=False", "")
        )
    where = "" if given is None else f"{given.meta.get('origin', 'the spectra')}: "
    ids = np.arange(1, len(g) + 1) if given is None else given.source_id
    named = [f"{k + 1} (source_id {ids[k]}), G = {g[k]:.1f}" for k in rows[:5]]
    more = f", and {len(rows) - 5:,} more" if len(rows) > 5 else ""
    warnings.warn(
        f"{where}row {'; row '.join(named)}{more}: no source has this G, expected {PLAUSIBLE[0]:g}..{PLAUSIBLE[1]:g}; "
        "no coefficients there (BP_BAD, RP_BAD)",
        stacklevel=3,
    )
    return np.where(odd[:, None], np.nan, value), np.where(odd[:, None], np.nan, magnitude)


def _misfit(x: np.ndarray, light: np.ndarray, value: np.ndarray, model: Instrument) -> np.ndarray:
    """RMS (n,) on 400..900 nm, over the mean, of what spectra of coefficients miss of spectra (n, m), both smoothed.

    Both are seen with XP's line spread: what it blurs anyway is no misfit.
    """
    at = np.arange(max(LEAST[0], x[0] + EDGE), min(LEAST[1], x[-1] - EDGE), 2.0)
    fine = x if np.diff(x).max() <= STEP else np.arange(x[0], x[-1], STEP)
    spread = model.line_spread(at, fine) * np.gradient(fine)
    spread /= spread.sum(axis=1, keepdims=True)
    true = (light if fine is x else np.asarray((interpolation(x, fine) @ light.T).T)) @ spread.T
    seen = model.smoothed_design(at)
    made = value @ (np.asarray(seen.value, float) * float(seen.scale))
    return np.asarray(np.sqrt(np.mean((made - true) ** 2, axis=1)) / np.abs(true.mean(axis=1)))


def _samples(wavelength: Any, flux: Any, physical: bool) -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths (m,) [nm] and fluxes (n, m) per wavelength, in W m-2 nm-1 where they are to be physical."""
    if isinstance(wavelength, Spectra):
        if flux is not None:
            raise XpjaxError("give spectra, or wavelengths and fluxes, not both")
        if wavelength.internal:
            raise XpjaxError("internal spectra cannot be observed again: give absolute ones")
        if physical and wavelength.meta.get(RELATIVE):
            raise XpjaxError("the spectra are in no known unit of flux: give g_mag=")
        wavelength, flux = wavelength.wavelength, wavelength.flux
    if flux is None:
        raise XpjaxError("no flux: give spectra as xpjax.observe(wavelength, flux)")
    x = np.asarray(nanometers(wavelength), float)
    unit = getattr(flux, "unit", None)
    if unit is not None and hasattr(flux, "to"):
        light = np.asarray(flux.value, float)
        if x.ndim == 1 and light.shape[-1:] == x.shape:
            light = light * flux_factor(str(unit), x, "flux")
    else:
        light = np.asarray(in_unit(flux, FLUX, "flux") if physical else flux, float)
    light = light[None] if light.ndim == 1 else light
    if light.ndim != 2 or light.shape[1:] != x.shape:
        raise XpjaxError(f"flux has shape {light.shape}, expected (n, {x.size}) for {x.size} wavelengths")
    return x, light


def _model(release: Release | str | None, instrument: Instrument | None, correction: Any) -> Instrument:
    """The instrument of a release, or the one given, with a correction. Raises XpjaxError where they do not fit."""
    wanted = None if release is None else find_release(release)
    model = instrument or load_instrument(release=wanted)
    if wanted is not None and not wanted.fits(model.release):
        raise other_release("the instrument", model.release, wanted)
    return model if correction is None else model.corrected(correction)


def _dust(x: np.ndarray, ebv: Any, law: str, n: int) -> Any:
    """The share (n, m) of light that dust lets through; 1 without dust."""
    reddening = _per_row(in_unit(ebv, "mag", "E(B-V)"), n, "ebv")
    if not np.any(reddening != 0):
        return 1.0
    with engine.precision(True):
        return np.asarray(transmission(extinction_curve(x, law, R_V), reddening, AV_PER_SFD))


def _per_row(given: Any, n: int, name: str) -> np.ndarray:
    """One number for each of n spectra."""
    try:
        array = np.asarray(given, float)
    except (TypeError, ValueError) as error:
        raise XpjaxError(f"{name} is {str(given)[:40]!r}, expected numbers") from error
    if array.shape not in ((), (n,)):
        raise XpjaxError(f"{name} has shape {array.shape}, expected one number, or one for each of {n} spectra")
    return np.broadcast_to(array, (n,))


def _table(
    value: np.ndarray, magnitude: np.ndarray, model: Instrument, given: Spectra | None, errors: bool,
    correlations: bool, noise: int | Sequence[int] | None,
) -> SourceTable:  # fmt: skip
    """The sources of coefficients (n, n_basis_total) and magnitudes (n, 3): errors, noise, columns, status."""
    n, release = len(value), model.release
    ids = np.arange(1, n + 1) if given is None else np.asarray(given.source_id)
    columns: dict[str, Any] = {} if given is None else dict(given.columns)
    columns |= {name: magnitude[:, k] for k, name in enumerate(MAGNITUDES)}
    columns["bp_rp"] = magnitude[:, 1] - magnitude[:, 2]
    bad = ~np.isfinite(value).all(axis=1)
    status = np.where(bad, np.uint32(Status.BP_BAD | Status.RP_BAD), np.uint32(0))
    status |= repeated(ids) * np.uint32(Status.DUPLICATE) | (ids == 0) * np.uint32(Status.ID_MISSING)
    if model.correction is not None:
        distance = model.correction.domain.distance(value, release)
        far = distance > float(model.correction.domain.limit)
        status |= np.where(far & ~bad, np.uint32(Status.OUTSIDE_TRAINING), np.uint32(0))
    parts: dict[str, Any] = {"release": release}
    if errors or noise is not None:
        made = typical_errors(magnitude, release, noise)
        columns[EXTRAPOLATED] = made.outside
        if errors:
            parts |= {"error": made.error, "n_relevant": relevant_bases(value, made.error, release)}
            parts |= {"correlation": made.correlation} if correlations else {}
        if made.noise is not None:
            value = value + made.noise
            if errors:
                parts["n_relevant"] = relevant_bases(value, made.error, release)
    told = "observed spectra" if noise is None else f"observed spectra (seed {noise})"
    return SourceTable(ids, XPCoefficients(value, **parts), status.astype(np.uint32), columns, told)
