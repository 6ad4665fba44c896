"""Training of the linear correction of XP spectra (`xpjax.xp.correction`) on pairs of XP and reference spectra.

With m the mean flux on `level_range`, x(l) = f(l) / m the normalized XP spectrum, T(l) the reference scaled to the same
mean, y = T / m - x what is missing:

    y(l) = sum_q a_q(l) d^q x / du^q  +  b(l) + w(l) . z  +  noise        q = 0, 2, 4;  BP and RP apart

1. A local operator: u is the pseudo-wavelength of each photometer, and derivatives are exact, from the design matrix.
   a_q(l) are Gaussian processes in u. q = 0 is an error of the response, q = 2 and 4 are errors of the line spread.
2. A linear map of the coefficients: z are coefficients over m, half whitened by the population of ordinary stars, that
   is, multiplied by the power -1/4 of its covariance; w(l) and b(l) have normal priors.
3. Noise with a variance that grows with flux and with magnitude, and with how badly a star fits (Student's t, from
   spectra that were left out).
4. Copies of the pairs behind dust, XP and reference dimmed alike: an error of the instrument commutes with whatever
   dims the light smoothly. Without them the matrix is right for the pairs and wrong for reddened stars.
5. Rows of pure photon noise, a root of its covariance, that the corrected spectrum should not answer at all: without
   them the matrix is the best for stars without noise, and amplifies that of faint ones.

All parts are linear in the coefficients, so that the sum is one matrix. w and b are marginalised while a is solved for,
by generalized least squares over all wavelengths; then they are solved for on what is left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from math import factorial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from xpjax.core.errors import XpjaxError
from xpjax.core.records import Record
from xpjax.extinction import R_V, extinction_curve
from xpjax.wiggles.linear.pairs import Pairs, gaia_magnitudes
from xpjax.xp import Instrument, LinearCorrection, covariance_matrix, merge_weights, simulate_sources

LEVEL_RANGE = (400.0, 990.0)
"""Wavelengths [nm] whose mean flux normalizes a spectrum."""
STENCIL_STEP, STENCIL_HALF = 0.25, 4
"""Of the derivatives: step [samples of u] and points on either side."""
REACH = ((322.0, 700.0), (600.0, 1080.0))
"""Wavelengths [nm] on which u of BP and RP is inverted for the stencil."""
SEEN = ((332.0, 676.0), (622.0, 1046.0))
"""Wavelengths [nm] at which dust dims BP and RP."""
UNKNOWN = 1e8
"""Noise variance where a reference does not reach."""
PRECISION = 2e-4
"""Relative precision to which coefficients of a star that is multiplied keep its flux."""


@dataclasses.dataclass(frozen=True)
class LinearSettings:
    """Set priors and weights of the training of a linear correction.

    Parameters
    ----------
    length : tuple of (int, float)
        Orders q of the derivatives, and scale lengths of a_q [samples of u].
    amplitude : float
        Standard deviation of a_q.
    ridge : float
        Noise over the prior of the weights w.
    free : float
        Prior variance of the constant b over that of w.
    weight_variance : float
        Prior variance of w, against the local part.
    power, floor : float
        Whitening by the population: power of its covariance, and floor of its relative eigenvalues.
    dust : tuple of float [mag]
        E(B-V) of the copies of the pairs behind dust.
    dust_noise : float
        Factor on the noise variance of the copies.
    faint : float [mag]
        G at which photons add as much noise as all else.
    flux_floor : float
        Floor of the relative noise.
    student : float
        Degrees of freedom of Student's t.
    photons : float
        Weight of the rows of photon noise, beside a pair.
    photons_g : (float, float) [mag]
        G of the stars whose photon noise that is.

    Notes
    -----
    The equations of the training, in which these are, are those of `xpjax.wiggles.train_linear`.

    Examples
    --------
    >>> xpjax.wiggles.LinearSettings().changed({"ridge": 0.03}).ridge
    0.03
    """

    length: tuple[tuple[int, float], ...] = ((0, 6.0), (2, 20.0), (4, 20.0))
    amplitude: float = 0.1
    ridge: float = 0.015
    free: float = 10.0
    weight_variance: float = 0.01
    power: float = 0.25
    floor: float = 1e-8
    dust: tuple[float, ...] = (-0.2, 0.5, 1.5, 2.5)
    dust_noise: float = 3.0
    faint: float = 14.0
    flux_floor: float = 0.2
    student: float = 4.0
    photons: float = 2.0
    photons_g: tuple[float, float] = (15.8, 16.2)

    def changed(self, numbers: Mapping[str, float]) -> LinearSettings:
        """Other numbers by their names. Raises XpjaxError for a name that is none, or is none of a number."""
        known = {field.name for field in dataclasses.fields(self) if isinstance(getattr(self, field.name), float)}
        unknown = sorted(set(numbers) - known)
        if unknown:
            raise XpjaxError(f"no setting {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        return dataclasses.replace(self, **dict[str, Any](numbers))


@dataclasses.dataclass(frozen=True, repr=False)
class Population(Record):
    """Ordinary stars: mean (k,) and covariance (k, k) of coefficients over their level."""

    center: np.ndarray
    covariance: np.ndarray

    @staticmethod
    def of(coefficients: np.ndarray, instrument: Instrument) -> Population:
        """The population of coefficients (n, n_basis_total)."""
        relative = coefficients / level(coefficients, instrument)
        return Population(relative.mean(axis=0), np.cov(relative.T))

    @staticmethod
    def known(correction: LinearCorrection) -> Population:
        """The population that a correction was trained with."""
        return Population(correction.center, correction.root @ correction.root.T)

    def root(self, smallest: float = 1e-14) -> np.ndarray:
        """Root (k, r) of the covariance; directions below `smallest` of the largest variance are left out."""
        size, vector = np.linalg.eigh(self.covariance)
        used = size > smallest * size[-1]
        return vector[:, used] * np.sqrt(size[used])

    def whitening(self, power: float, floor: float) -> np.ndarray:
        """Matrix (k, k): coefficients over their level, times the covariance to the power -`power`."""
        size, vector = np.linalg.eigh(self.covariance)
        return vector * (np.clip(size, 0, None) / size[-1] + floor) ** -power


def level(coefficients: np.ndarray, instrument: Instrument) -> Float[np.ndarray, "n 1"]:
    """Mean flux (n, 1) [W m-2 nm-1] on LEVEL_RANGE of coefficients (n, n_basis_total)."""
    design, used = instrument.default_design, judged(instrument)
    return np.asarray((coefficients @ design[:, used].mean(axis=1))[:, None])


def judged(instrument: Instrument) -> Bool[np.ndarray, " m"]:
    """Which samples of the instrument's grid are in LEVEL_RANGE."""
    grid = instrument.wavelength
    return np.asarray((grid >= LEVEL_RANGE[0]) & (grid <= LEVEL_RANGE[1]))


def scaled_reference(pairs: Pairs) -> Float[np.ndarray, "n m"]:
    """References at the level of their XP spectra, over the samples of LEVEL_RANGE that they have."""
    used = judged(pairs.instrument)
    seen = pairs.coefficients @ pairs.instrument.default_design
    there = np.isfinite(pairs.reference) & used
    ratio = np.where(there, seen, 0).sum(axis=1) / np.where(there, pairs.reference, 0).sum(axis=1)
    return np.asarray(pairs.reference * ratio[:, None])


def dimming(wavelength: np.ndarray, ebv: float) -> np.ndarray:
    """What dust of E(B-V) lets through (m,) at wavelengths (m,) [nm]: Cardelli, Clayton & Mathis (1989), R_V = 3.1."""
    return np.asarray(10 ** (-0.4 * ebv * R_V * np.asarray(extinction_curve(wavelength, "ccm89", R_V))))


def multiplied(
    coefficients: np.ndarray, factor: Callable[[np.ndarray], np.ndarray], population: Population, model: Instrument
) -> np.ndarray:
    """Coefficients (n, k) of stars whose BP and RP spectra are multiplied by a factor, a function of wavelength [nm].

    Posterior means with the population as prior: what flux does not see must look normal.
    """
    from scipy.linalg import block_diag

    grids = [np.arange(low, high) for low, high in SEEN]
    design = block_diag(*(model.absolute[xp].design(x) for xp, x in zip(model.release.xp, grids, strict=True)))
    share, root, size = factor(np.concatenate(grids)), population.root(), np.abs(design).sum(axis=0)
    seen = (coefficients @ model.default_design) * factor(model.wavelength)
    out = np.empty_like(coefficients)
    for i, m in enumerate(seen[:, judged(model)].mean(axis=1)):
        flux = (coefficients[i] @ design) * share
        sigma = PRECISION * np.abs(flux) + 0.1 * PRECISION * m * np.maximum(1, 0.05 * size / size.min())
        seen_root, left = m * root.T @ (design / sigma), (flux - m * population.center @ design) / sigma
        solved = np.linalg.solve(seen_root @ seen_root.T + np.eye(root.shape[1]), seen_root @ left)
        out[i] = m * (population.center + root @ solved)
    return out


def behind_dust(coefficients: np.ndarray, ebv: float, population: Population, model: Instrument) -> np.ndarray:
    """Coefficients (n, k) of stars dimmed by E(B-V), as `multiplied`; negative: freed of dust."""
    return multiplied(coefficients, lambda x: dimming(x, ebv), population, model)


def photon_noise(model: Instrument, g_range: tuple[float, float], n: int = 300, seed: int = 5) -> np.ndarray:
    """Covariance (k, k) of the noise of coefficients over their level: the mean of n mock stars with G in a range."""
    table = simulate_sources(20 * n, seed, release=model.release, dtype=np.float64)
    g = np.asarray(table.columns["phot_g_mean_mag"], float)
    chosen = table[np.flatnonzero((g > g_range[0]) & (g < g_range[1]))[:n]]
    if not len(chosen):
        raise XpjaxError(f"no mock star has G in {g_range[0]:g}..{g_range[1]:g}: take another range")
    mean = level(np.asarray(chosen.coefficients.value, float), model)
    total = np.zeros((model.release.n_basis_total,) * 2)
    for rows, xp in zip(model.release.slices, model.release.xp, strict=True):
        each = covariance_matrix(chosen, xp) / mean[:, :, None] ** 2
        total[rows, rows] = each[np.isfinite(each).all(axis=(1, 2))].mean(axis=0)
    return total


def local_operator(model: Instrument, settings: LinearSettings) -> np.ndarray:
    """(k, m, p): derivatives d^q f / du^q of each photometer times smooth functions of u, of prior variance one."""
    blocks, taps = [], np.arange(-STENCIL_HALF, STENCIL_HALF + 1)
    derive = np.linalg.inv(np.vander(taps * STENCIL_STEP, len(taps), increasing=True))
    grid, weights = model.wavelength, merge_weights(model.wavelength, model.merge_range)
    for rows, xp, weight, reach in zip(model.release.slices, model.release.xp, weights, REACH, strict=True):
        part, used, fine = model.absolute[xp], weight > 0, np.arange(*reach, 0.05)
        u, order = part.pseudo_wavelength(grid[used]), np.argsort(part.pseudo_wavelength(fine))
        at = [np.interp(u + k * STENCIL_STEP, part.pseudo_wavelength(fine)[order], fine[order]) for k in taps]
        stencil = np.stack([part.design(x) for x in at])
        for q, length in settings.length:
            base = np.zeros((model.release.n_basis_total, len(grid)))
            base[rows, used] = np.tensordot(derive[q] * factorial(q), stencil, 1) * weight[used]
            size, vector = np.linalg.eigh(np.exp(-0.5 * ((u[:, None] - u) / length) ** 2))
            kept, smooth = size > 1e-3 * size[-1], np.zeros((len(grid), used.sum()))
            smooth[used] = vector * np.sqrt(np.clip(size, 0, None)) * settings.amplitude
            blocks.append(base[:, :, None] * smooth[:, kept])
    return np.concatenate(blocks, axis=2)


@dataclasses.dataclass(frozen=True)
class _Solved:
    """What `Training` solved for: local (p,), weight (k + 1, m) about center (k,); and how: normal (p, p), and for each
    wavelength rows over their variance and the inverse of the weights' normal matrix; feature, residual, v of all rows.
    """

    local: np.ndarray
    weight: np.ndarray
    center: np.ndarray
    normal: np.ndarray
    weighted: list[tuple[np.ndarray, np.ndarray]]
    feature: np.ndarray
    residual: np.ndarray
    v: np.ndarray


class Training:
    """Pairs and their copies behind dust, ready to be fitted; `fit` uses the pairs that it is told to.

    >>> change = Training(pairs, population).fit()
    """

    def __init__(self, pairs: Pairs, population: Population, settings: LinearSettings | None = None) -> None:
        self.pairs, self.population, self.settings = pairs, population, settings or LinearSettings()
        model, own = pairs.instrument, self.settings
        ebv, n = (0.0, *own.dust), len(pairs)
        true = scaled_reference(pairs)
        copies = [pairs.coefficients if e == 0 else behind_dust(pairs.coefficients, e, population, model) for e in ebv]
        relative = np.concatenate([c / level(c, model) for c in copies])
        dimmed = np.concatenate([true * dimming(model.wavelength, e) / level(c, model) for c, e in zip(copies, ebv)])
        self.x = x = relative @ model.default_design
        self.y = np.where(np.isfinite(dimmed), dimmed - x, 0.0)
        bright = gaia_magnitudes(pairs)[0]
        photons = 1 + 10 ** (0.4 * (np.tile(bright, len(ebv))[:, None] - own.faint))
        self.noise = photons * np.hypot(x, own.flux_floor)
        self.noise[n:] *= own.dust_noise
        self.noise[~np.isfinite(dimmed)] = UNKNOWN
        whiten = population.whitening(own.power, own.floor)
        self.whiten = whiten / np.sqrt((relative[:n] @ whiten).var(axis=0).sum())
        self.operator = local_operator(model, own)
        self.z, self.feature = relative @ self.whiten, np.tensordot(relative, self.operator, 1)
        self.extra = np.ones(n)
        size, vector = np.linalg.eigh(photon_noise(model, own.photons_g))
        self.photons = (vector * np.sqrt(np.clip(size, 0, None))).T
        self.photons_feature = np.tensordot(self.photons, self.operator, 1)
        self.photons_noise = np.hypot(x[:n], own.flux_floor).mean(axis=0) / max(own.photons, 1e-12)

    def fit(self, keep: np.ndarray | None = None) -> np.ndarray:
        """The change (k, m) learned from the pairs that are kept (n,), by default all."""
        return self._change(self._solve(np.ones(len(self.pairs), bool) if keep is None else keep))

    def left_out(self) -> np.ndarray:
        """Corrected spectra (n, m) of every pair by what the others teach, without fitting anew.

        With K the inverse covariance of the rows of a wavelength (weights marginalised), F the local features and a
        their solution without star g, what star g's rows differ by from what the others predict is

            K_gg^-1 [K (y - F a)]_g

        for the star and its copies behind dust together (Rasmussen & Williams 2006, 5.4.2, for blocks).
        """
        n, copies = len(self.pairs), len(self.settings.dust) + 1
        solved = self._solve(np.ones(n, bool))
        rows, stars = slice(n * copies), np.arange(copies)
        own, reach, rest = [], [], []
        for j, (zv, inverse) in enumerate(solved.weighted):
            v = solved.v[rows, j].reshape(copies, n)
            left, right = ((part[rows]).reshape(copies, n, -1) for part in (zv @ inverse, zv))
            block = -np.einsum("agk,bgk->gab", left, right)
            block[:, stars, stars] += (1 / v).T
            feature = solved.feature[:, j]
            whole = feature / solved.v[:, j : j + 1] - zv @ (inverse @ (zv.T @ feature))
            residual = solved.residual[:, j] / solved.v[:, j] - zv @ solved.weight[:, j]
            own.append(block)
            reach.append(whole[rows].reshape(copies, n, -1))
            rest.append(residual[rows].reshape(copies, n))
        blocks, reaches, rests = np.stack(own), np.stack(reach), np.stack(rest)
        missed = np.empty((n, len(blocks)))
        for g in range(n):
            inverse, u = np.linalg.inv(blocks[:, g]), reaches[:, :, g]
            through, alone = inverse @ u, (inverse @ rests[:, :, g, None])[..., 0]
            without = solved.normal - np.tensordot(u, through, ((0, 1), (0, 1)))
            missed[g] = (alone + through @ np.linalg.solve(without, np.tensordot(u, alone, ((0, 1), (0, 1)))))[:, 0]
        mean = level(self.pairs.coefficients, self.pairs.instrument)
        return np.asarray((self.x[:n] + self.y[:n] - missed) * mean)

    def _solve(self, keep: np.ndarray) -> _Solved:
        """Local part and weights from the pairs that are kept, their copies, and the rows of photon noise."""
        own, model = self.settings, self.pairs.instrument
        tiled = np.tile(keep, len(own.dust) + 1)
        v = own.ridge * (self.noise * np.tile(self.extra, len(own.dust) + 1)[:, None])[tiled]
        z, feature, y = self.z[tiled], self.feature[tiled], self.y[tiled]
        center, bare = z.mean(axis=0), level(self.photons, model)
        z = np.pad(z - center, ((0, 0), (0, 1)), constant_values=np.sqrt(own.free))
        z = np.concatenate([z, np.hstack([self.photons @ self.whiten - bare * center, np.sqrt(own.free) * bare])])
        feature = np.concatenate([feature, self.photons_feature])
        y = np.concatenate([y, -self.photons @ model.default_design])
        v = np.concatenate([v, np.broadcast_to(own.ridge * self.photons_noise, (len(self.photons), y.shape[1]))])
        normal, right, weighted = own.weight_variance * np.eye(feature.shape[2]), np.zeros(feature.shape[2]), []
        for j in range(y.shape[1]):
            zv, f = z / v[:, j : j + 1], feature[:, j]
            inverse = np.linalg.inv(np.eye(z.shape[1]) + z.T @ zv)
            fc = f / v[:, j : j + 1] - zv @ (inverse @ (zv.T @ f))
            normal, right = normal + f.T @ fc, right + fc.T @ y[:, j]
            weighted.append((zv, inverse))
        local = np.linalg.solve(normal, right)
        residual = y - feature @ local
        weight = np.stack([inverse @ (zv.T @ residual[:, j]) for j, (zv, inverse) in enumerate(weighted)], axis=1)
        return _Solved(local, weight, center, normal, weighted, feature, residual, v)

    def _change(self, solved: _Solved) -> np.ndarray:
        """The matrix (k, m) that local part and weights make together."""
        model = self.pairs.instrument
        constant = np.sqrt(self.settings.free) * solved.weight[-1] - solved.center @ solved.weight[:-1]
        mean = model.default_design[:, judged(model)].mean(axis=1)
        linear = self.operator @ solved.local + self.whiten @ solved.weight[:-1]
        return np.asarray(linear + np.outer(mean, constant))

    def weigh(self, corrected: np.ndarray, distance: np.ndarray) -> None:
        """Weights of a step of Student's t, from spectra that were left out: stars that fit badly count for less."""
        own = self.settings
        t = rms(corrected, scaled_reference(self.pairs), self.pairs.instrument) / np.sqrt(1 + distance)
        self.extra = np.clip(((t / np.median(t)) ** 2 + own.student) / (own.student + 1), 0.8, None)


def rms(
    seen: np.ndarray, true: np.ndarray, model: Instrument, low: float = LEVEL_RANGE[0], high: float = LEVEL_RANGE[1]
) -> np.ndarray:
    """RMS (n,) between low and high [nm] of the difference of spectra (n, m), each over its mean on LEVEL_RANGE."""
    used = judged(model) & np.isfinite(true)
    where = (model.wavelength >= low) & (model.wavelength <= high) & np.isfinite(true)
    a, b = (np.where(used, f, 0).sum(axis=1, keepdims=True) / used.sum(axis=1, keepdims=True) for f in (seen, true))
    square = np.where(where, (seen / a - true / b) ** 2, 0)
    return np.asarray(np.sqrt(square.sum(axis=1) / where.sum(axis=1)))
