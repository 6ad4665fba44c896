"""The way back: from sampled spectra to XP coefficients, and with these a correction of sampled spectra.

Samples f = c W of uncorrected absolute spectra hold the coefficients c, but single precision blurs directions of c that
W hardly shows and a correction may use. They are estimated as what is most probable: with L the mean flux, ordinary
stars have c / L = center + root z, z ~ N(0, tau^2) (`LinearCorrection`), and f / L has errors kappa p(l), with p the
smooth course of the star's flux. With the singular value decomposition of W' root / p = U S V', once for each p,

    z = V S / (S^2 + (kappa / tau)^2) U' r,        r = (f / L - W' center) / p

and the evidence says kappa, which is rounding and what else was done to the samples, and tau, how odd the star is
(MacKay 1992, Neural Computation 4, 415). No normal equations: S spans more than float64 has squared.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xpjax.core.errors import XpjaxError, say
from xpjax.core.grids import check_grid
from xpjax.core.process import one_blas_thread
from xpjax.core.records import Record
from xpjax.core.status import Status
from xpjax.core.units import FLUX, in_unit, nanometers
from xpjax.xp.correction import NONE, STANDARD, AnyLinear, LinearCorrection, load_correction
from xpjax.xp.instrument import Instrument, load_instrument as load_instrument
from xpjax.xp.sampled import Spectra
from xpjax.xp.sources import SourceTable, XPCoefficients
from xpjax.xp.spectrum import RESOLUTIONS, spectra as sample

BATCH = 4096
"""Stars worked on at once: some 20 MB."""
ROUNDING = 0.2
"""RMS of the relative error of rounded numbers, in units of the type's epsilon."""
STEP = 0.5
"""Step of the color of a noise profile, the power of exp(-(550 nm / lambda - 1)): a factor 1.3 from 336 to 550 nm."""
REFERENCE = 550.0
FAINTEST = 0.1
"""Least ordinary spectrum, and five times the least flux, that a noise profile follows, relative to the mean flux."""
ROUGH = 50.0
"""Noise of samples where the archive's own design matrix is known from published digits, over that elsewhere."""
CENTER = 3.0
"""Prior width of the mean spectrum itself, in place of the level: wide, and so all coefficients are free."""
ODDNESS = (0.3, 100.0)
"""Limits of tau: stars are hardly more ordinary, and samples beyond are not of XP."""
ROUNDS = 30
"""Of the evidence's fixed point, which a few reach."""
MISFIT = 3e-4
"""Misfit beyond which samples are not of uncorrected XP spectra: digits to four leave up to 2e-4, smoothing to XP's
resolution 2e-3, interpolation from 4 nm 1.5e-3, a shift by 0.2 nm 4e-4."""
TYPICAL = 64
"""Mock sources that say how a correction changes errors."""


@dataclasses.dataclass(frozen=True, repr=False)
class Inverse(Record):
    """XP coefficients of sampled spectra.

    value (n, n_basis_total), NaN where the samples cannot be used; misfit (n,): RMS of what the coefficients leave of
    the samples, relative to the mean flux, some 2e-8 in single precision, 1e-6 at most for the archive's; noise (n,):
    kappa, the relative error of samples that was assumed; oddness (n,): tau, one for ordinary stars.
    """

    value: np.ndarray
    misfit: np.ndarray
    noise: np.ndarray
    oddness: np.ndarray


def coefficients_of_samples(
    flux: ArrayLike,
    wavelength: ArrayLike,
    *,
    flux_error: ArrayLike | None = None,
    instrument: Instrument | None = None,
    correction: AnyLinear = STANDARD,
) -> np.ndarray:
    """Estimate XP coefficients of sampled spectra.

    Parameters
    ----------
    flux : (n, m) array [W m-2 nm-1]
        Uncorrected absolute spectra, as `xpjax.spectra`, GaiaXPy or the archive give them, in single or double
        precision; no fewer samples than coefficients.
    wavelength : (m,) array [nm]
        Ascending wavelengths, best the archive's 336, 338, ... 1020 nm.
    flux_error : (n, m) array [W m-2 nm-1], optional
        Errors of the samples beyond those of the coefficients, as of noise that was added (not the archive's errors,
        which the coefficients have already).
    instrument : Instrument, optional
        Instrument model; by default `load_instrument()`.
    correction : str, path or LinearCorrection
        Correction whose population of stars is the prior.

    Returns
    -------
    (n, n_basis_total) array
        The coefficients; NaN for a star with a sample that is not finite, or without light.

    Raises
    ------
    XpjaxError
        If shapes, the grid or the correction do not fit.

    Notes
    -----
    The most probable coefficients, given the samples and a normal prior of ordinary stars, with the widths of noise and
    prior from the evidence (MacKay 1992, Neural Computation 4, 415). In single precision from the archive a corrected
    magnitude of a star of G = 15 is off by some 0.4 mmag, J0378 by 5.

    Examples
    --------
    >>> sources = xpjax.simulate_sources(3, seed=1)
    >>> spectra = xpjax.spectra(sources, errors=False, float64=True)
    >>> found = xpjax.xp.coefficients_of_samples(spectra.flux, spectra.wavelength)
    >>> bool(np.abs(found - sources.coefficients.value).max() < 0.1)
    True
    """
    return invert(flux, wavelength, flux_error, instrument, correction).value


def invert(
    flux: Any, wavelength: Any, flux_error: Any = None, instrument: Instrument | None = None, correction: Any = STANDARD
) -> Inverse:
    """The most probable XP coefficients of sampled spectra, with their misfit: see `coefficients_of_samples`.

    On the archive's wavelengths, or some of them, three ways of sampling are tried, and the most probable taken: the
    published design matrix, the instrument model, and the archive's own, which is the model but below some 450 nm,
    where it is known from published digits only. The published digits' rounding shows directions of c that the other
    two hide, where the population alone tells: their coefficients come back less well.
    """
    model = dataclasses.replace(instrument or load_instrument(), correction=None)
    prior = load_correction(correction)
    if prior is None:
        raise XpjaxError('the way back needs the population of a linear correction: leave correction="standard"')
    prior.check(model.release, model.model)
    samples = np.asarray(in_unit(flux, FLUX, "flux"))
    flux_error = None if flux_error is None else in_unit(flux_error, FLUX, "flux_error")
    if samples.dtype.kind != "f":
        samples = samples.astype(float)
    grid = check_grid(wavelength, model.wavelength_range, "wavelength", "nm")
    if samples.ndim != 2 or samples.shape[1] != len(grid):
        raise XpjaxError(f"flux has shape {samples.shape}, expected (n, {len(grid)}) for {len(grid)} wavelengths")
    if flux_error is not None and np.shape(flux_error) != samples.shape:
        raise XpjaxError(f"flux_error has shape {np.shape(flux_error)}, expected {samples.shape} as flux")
    least = model.release.n_basis_total
    if len(grid) < least:
        raise XpjaxError(
            f"{len(grid)} samples of a spectrum cannot tell {least} coefficients: sample it at {least} wavelengths or "
            "more, best the archive's 336, 338, ... 1020 nm"
        )
    solver = _Solver(model, prior, grid)
    smallest = ROUNDING * float(np.finfo(samples.dtype).eps)
    parts = []
    for start in range(0, len(samples) or 1, BATCH):
        rows = slice(start, start + BATCH)
        more = None if flux_error is None else np.asarray(flux_error[rows], float)
        parts.append(solver(samples[rows].astype(float), smallest, more))
    return Inverse(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(Inverse)))


def correct_samples(
    spectra: Spectra, correction: Any = STANDARD, resolution: str = "xp", *, instrument: Instrument | None = None
) -> Spectra:
    """Correct spectra that are known as samples only.

    Parameters
    ----------
    spectra : Spectra
        Absolute spectra without a correction, at full resolution, as `xpjax.xp.read_spectra` reads them.
    correction : str, path or LinearCorrection
        What `load_correction` takes.
    resolution : str
        `xp` for spectra as seen at XP's resolving power, or `full`.
    instrument : Instrument, optional
        Instrument model; by default that of the release of the spectra.

    Returns
    -------
    Spectra
        The corrected spectra, with the distances d^2 (n,) from the training stars. A star beyond the correction's limit
        has a share of the change (OUTSIDE_TRAINING); samples that cannot be used, or are of no uncorrected XP spectrum,
        pass through (NOT_CORRECTED).

    Raises
    ------
    XpjaxError
        If spectra are internal, smoothed or corrected, or most have a misfit that XP spectra cannot have.

    Notes
    -----
    flux_error is scaled by what the correction does to errors of mock sources, median at each wavelength: mock sources
    differ from this by some 15 %, real bright ones by 25 %. Correlations are not carried over. Where there are
    coefficients, `xpjax.spectra(sources, correction="standard")` is exact.

    Examples
    --------
    >>> spectra = xpjax.spectra(xpjax.simulate_sources(3, seed=1), errors=False, float64=True)
    >>> xpjax.xp.correct_samples(spectra).meta["correction"]
    'standard'
    """
    if resolution not in RESOLUTIONS:
        raise XpjaxError(f"resolution {resolution!r} is not one of {RESOLUTIONS}")
    check_uncorrected(spectra)
    chosen = load_correction(correction)
    if chosen is None:
        raise XpjaxError('correction="none" leaves spectra as they are: name "standard" or a file')
    model = dataclasses.replace(instrument or load_instrument(release=spectra.release), correction=None)
    grid = np.asarray(nanometers(spectra.wavelength), float)
    found = invert(spectra.flux, grid, instrument=model, correction=chosen)
    usable, foreign = np.isfinite(found.misfit), _foreign(found.misfit)
    value = np.where(foreign[:, None], np.nan, found.value)
    coefficients, status = XPCoefficients(value, release=model.release), np.zeros(len(value), np.uint32)
    table = SourceTable(np.asarray(spectra.source_id), coefficients, status, origin="sampled spectra")
    at = None if _same(grid, model.wavelength) else grid
    made = sample(table, at, errors=False, float64=True, instrument=model, correction=chosen, resolution=resolution)
    # What stands in the place of missing coefficients is of no account: these stars pass through.
    done = (made.status & np.uint32(Status.NOT_CORRECTED) == 0) & usable & ~foreign
    flux = np.where(done[:, None], made.flux, spectra.flux).astype(np.result_type(spectra.flux))
    error = spectra.flux_error
    if error is not None:
        scale = _error_scale(model, chosen, at, resolution)
        error = np.where(done[:, None], error * scale, error).astype(np.result_type(error))
    bits = np.where(done, made.status & np.uint32(Status.OUTSIDE_TRAINING), np.uint32(Status.NOT_CORRECTED))
    distance = chosen.domain.distance(value, model.release)
    distance = np.where(usable & ~foreign, distance, np.nan)
    status = (spectra.status | bits).astype(np.uint32)
    meta = {**spectra.meta, "correction": chosen.name, "resolution": resolution}
    fields = flux, error, None, status, model.release, meta, distance, spectra.passed
    return Spectra(spectra.source_id, spectra.wavelength, *fields)


def _foreign(misfit: np.ndarray) -> np.ndarray:
    """Which spectra (n,) have a misfit that XP spectra cannot have. Raises XpjaxError where most of them do."""
    foreign = misfit > MISFIT
    usable = np.isfinite(misfit).sum()
    if 2 * foreign.sum() > usable:
        raise XpjaxError(
            f"{foreign.sum():,} of {usable:,} spectra cannot be uncorrected XP spectra: XP coefficients leave "
            f"{np.median(misfit[foreign]):.1e} of their flux, of XP's own below {MISFIT:g}. Corrected, smoothed, "
            "interpolated or other spectra have no way back: give spectra as the archive or GaiaXPy samples them, or "
            "xpjax without a correction, or correct the coefficients: "
            + say("xpjax.spectra(sources, correction='standard')", "xpjax spectra --correction standard")
        )
    return foreign


def check_uncorrected(spectra: Spectra, name: str = "the input") -> None:
    """Raise ValueError for spectra that are internal, corrected or smoothed, by what they say of themselves."""
    if spectra.internal:
        raise XpjaxError(
            f"{name} holds internal spectra; corrections are for absolute ones: make them without "
            + say("internal=True", "--internal")
        )
    before = str(spectra.meta.get("correction", NONE))
    if spectra.meta.get("corrected") or before != NONE:
        which = "" if before == NONE else f" (correction {before})"
        raise XpjaxError(f"{name} is already corrected{which}: give the spectra that it was made of")
    if str(spectra.meta.get("resolution", "full")) != "full":
        raise XpjaxError(
            f"{name} holds spectra smoothed to XP's resolution, which have no way back: make them with "
            + say("resolution='full'", "--resolution full")
        )


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return len(a) == len(b) and bool(np.allclose(a, b, rtol=0, atol=1e-6))


def _error_scale(model: Instrument, correction: LinearCorrection, grid: np.ndarray | None, resolution: str) -> Any:
    """Typical ratio (m,) of the errors of corrected and uncorrected spectra."""
    from xpjax.xp.simulate import simulate_sources

    table = simulate_sources(TYPICAL, release=model.release)
    before = sample(table, grid, instrument=model).flux_error
    after = sample(table, grid, instrument=model, correction=correction, resolution=resolution).flux_error
    assert before is not None
    assert after is not None
    return np.median(after / before, axis=0)


class _Solver:
    """Samples on one grid to coefficients; decompositions are made when a noise profile first needs one."""

    def __init__(self, model: Instrument, prior: LinearCorrection, grid: np.ndarray) -> None:
        self.designs = _designs(model, grid)
        self.prior = prior
        self.root = np.column_stack([prior.root, CENTER * prior.center])
        self.ordinary = np.maximum(np.interp(grid, prior.wavelength, prior.ordinary), FAINTEST)
        low, high = prior.level_range
        inside = (grid >= low) & (grid <= high)
        self.inside = inside if inside.any() else np.ones_like(inside)
        self.level = float((self.designs[0][0].T @ prior.center)[self.inside].mean())
        self.tilt = REFERENCE / grid - 1
        self.made: dict[tuple[int, int], tuple[np.ndarray, ...]] = {}

    def __call__(self, flux: np.ndarray, smallest: float, error: np.ndarray | None) -> Inverse:
        """Coefficients of flux (n, m) whose relative errors are no less than smallest, or than error (n, m)."""
        n, n_basis = len(flux), len(self.designs[0][0])
        value = np.full((n, n_basis), np.nan)
        misfit, noise, oddness = np.full((3, n), np.nan)
        with np.errstate(invalid="ignore", over="ignore"):
            level = flux[:, self.inside].mean(axis=1) / self.level
        good = np.flatnonzero(np.isfinite(flux).all(axis=1) & (level > 0))
        shape = flux[good] / level[good, None]
        color = self._color(shape)
        for k in np.unique(color):
            own = color == k
            x = shape[own]
            more = 0.0
            if error is not None:
                _, profile = self._profile(0, k)
                more = np.sqrt(np.mean((error[good[own]] / level[good[own], None] / profile) ** 2, axis=1))
            best = np.full(len(x), -np.inf)
            for j, (design, _) in enumerate(self.designs):
                c, kappa, tau, evidence = self._solve(j, int(k), x, np.maximum(smallest, more))
                better = evidence > best
                rows = good[own][better]
                best[better] = evidence[better]
                value[rows] = c[better] * level[rows, None]
                noise[rows], oddness[rows] = kappa[better], tau[better]
                misfit[rows] = np.sqrt(np.mean((c[better] @ design - x[better]) ** 2, axis=1))
        return Inverse(value, misfit, noise, oddness)

    def _color(self, shape: np.ndarray) -> np.ndarray:
        """Number (n,) of the noise profile: the slope of the logarithm of spectra (n, m) over the ordinary one."""
        y = self.tilt - self.tilt.mean()
        log = np.log(np.maximum(shape, 0.2 * FAINTEST) / self.ordinary)
        return np.round(-(log - log.mean(axis=1, keepdims=True)) @ y / (y @ y) / STEP).astype(int)

    def _profile(self, j: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        profile = self.ordinary * np.exp(-k * STEP * self.tilt)
        profile /= profile[self.inside].mean()
        return profile * self.designs[j][1], profile

    def _decomposed(self, j: int, k: int) -> tuple[np.ndarray, ...]:
        """Noise profile (m,), U (m, r), S (r,) and root V (n_basis, r) of sampling j and color k."""
        if (j, k) not in self.made:
            p, _ = self._profile(j, k)
            with one_blas_thread():
                u, s, vt = np.linalg.svd(self.designs[j][0].T @ self.root / p[:, None], full_matrices=False)
                self.made[j, k] = p, u, s, self.root @ vt.T
        return self.made[j, k]

    def _solve(self, j: int, k: int, x: np.ndarray, smallest: Any) -> tuple[np.ndarray, ...]:
        """Coefficients over the level, kappa, tau and the logarithm of the evidence, of spectra over the level (n, m).

        Fixed point of MacKay (1992): gamma = sum S^2 / (S^2 + (kappa / tau)^2) parameters are told by the samples,
        kappa^2 = chi^2 / (m - gamma), tau^2 = z^2 / gamma.
        """
        p, u, s, back = self._decomposed(j, k)
        design, center, m = self.designs[j][0], self.prior.center, len(p)
        r = (x - center @ design) / p
        a = r @ u
        rest = np.sum((r - a @ u.T) ** 2, axis=1)
        kappa, tau = np.broadcast_to(smallest, len(x)).astype(float), np.ones(len(x))
        for _ in range(ROUNDS):
            told, z, chi2 = _filtered(a, s, rest, kappa / tau)
            kappa = np.maximum(np.sqrt(chi2 / (m - told.sum(axis=1))), smallest)
            tau = np.clip(np.sqrt(np.sum(z**2, axis=1) / told.sum(axis=1)), *ODDNESS)
        _, z, chi2 = _filtered(a, s, rest, kappa / tau)
        ratio = s * (tau / kappa)[:, None]
        evidence = -m * np.log(kappa) - np.log(p).sum() - 0.5 * np.log1p(ratio**2).sum(axis=1)
        evidence -= 0.5 * (chi2 / kappa**2 + np.sum(z**2, axis=1) / tau**2)
        return center + z @ back.T, kappa, tau, evidence


def _filtered(a: np.ndarray, s: np.ndarray, rest: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, ...]:
    """How far each z is told by the samples (n, r), z (n, r), and chi^2 (n,) in units of the profile."""
    told = s**2 / (s**2 + noise[:, None] ** 2)
    z = told * a / np.where(s > 0, s, 1)
    return told, z, rest + np.sum(((1 - told) * a) ** 2, axis=1)


def _designs(model: Instrument, grid: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ways of sampling: design (n_basis_total, m) [W m-2 nm-1] and the noise (m,) of its samples, relative to others'.

    The published matrix on the archive's wavelengths has seven digits, and below 450 nm another response than the
    model, from splines that only its makers know. The archive's own spectra have that response, and all digits.
    """
    exact = _dense(model, grid)
    even = np.ones(len(grid))
    place = np.clip(np.searchsorted(model.wavelength, grid - 1e-6), 0, len(model.wavelength) - 1)
    if not _same(grid, model.wavelength[place]):
        return [(exact, even)]
    published = _dense(model, None)[:, place]
    differ = np.linalg.norm(published - exact, axis=0) / np.linalg.norm(published, axis=0)
    apart = np.flatnonzero(differ > 5 * np.median(differ))
    blue = np.arange(len(grid)) <= (apart[-1] if len(apart) else -1)
    archive = np.where(blue, published, exact)
    return [(published, even), (exact, even), (archive, np.where(blue, ROUGH, 1.0))]


def _dense(model: Instrument, grid: np.ndarray | None) -> np.ndarray:
    made = model.design(grid)
    return np.asarray(made.value, float) * float(made.scale)
