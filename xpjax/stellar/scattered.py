"""Spectra where a library has no model: kriging of the models around, judged on models that are left out.

The spectrum at labels x is a sum of those of its nearest models, F(x) = sum_i w_i F_i. With phi(r) = r^3 or -r^5 of the
distance in scaled labels, and polynomials p of order one or two, the weights solve (Duchon 1977)

    [Phi  P] [w]   [phi(x)]
    [P'   0] [m] = [ p(x) ]

so that sum w = 1: means of spectra stay one. No regular nodes are needed: a library is the set of its models, not a
box. Which spline it is, and how far a step in each label counts, is chosen by left-out models.

The expected error at x is the root of the spline's variance there, v = w'Phi w - 2 w'phi(x), times what left-out models
nearby are wrong by in units of theirs: it is small among models, and grows beyond them and in wide gaps.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

NEAREST = 20
"""Models that a spectrum is made of, times the number of labels."""
SPLINES = ((3, 1), (5, 2))
"""Powers of the distance and orders of the polynomials: for rough and for smooth libraries."""
FACTORS = (0.5, 1.0, 2.0, 4.0)
"""Scales of a label that are tried, in units of its median step."""
JUDGED = 300
"""Models on which spline and scales are chosen."""
AROUND = 12
"""Models of which the error at a place is learned."""
SOFT = 1e-10
"""What keeps polynomials apart that the models around do not tell apart."""
EXACT = 1e-4
"""Where polynomials come out worse than this the models around say nothing of the place, as in a plane beside it."""
ROWS = 256
"""Places that are computed at a time."""


@dataclasses.dataclass(frozen=True)
class Kriging:
    """Models to be interpolated: their scaled coordinates (n, n_label) and flux (n, m), and the spline of `SPLINES`.

    left_out (n,): what each model is wrong by when it is left out, RMS over samples as a fraction of the RMS flux of
    all; ratio (n,): that over the root of the spline's variance. Infinite where a model cannot be left out. missed (n,
    m): what comes back of each model, less its flux; zero where it cannot be left out.
    """

    names: tuple[str, ...]
    place: np.ndarray
    flux: np.ndarray
    scale: np.ndarray
    spline: tuple[int, int]
    left_out: np.ndarray
    ratio: np.ndarray
    missed: np.ndarray

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Spectra (n, m) at labels (n, n_label), and their expected errors (n,) as those of `left_out`.

        The error is infinite, and the spectrum no good, where the nearest models determine none.
        """
        at = _coordinates(self.names, labels) / self.scale
        flux, error = np.empty((len(at), self.flux.shape[1])), np.empty(len(at))
        ratio = np.where(np.isfinite(self.ratio), self.ratio, np.nanmax(self.ratio[np.isfinite(self.ratio)]))
        for rows, near, weight, variance in _solved(self.place, at, self.spline, own=False):
            flux[rows] = _combined(weight, self.flux, near)
            error[rows] = np.sqrt(variance * np.mean(ratio[near[:, :AROUND]] ** 2, axis=1))
        return flux, error

    def doubts(self, labels: np.ndarray, flux: np.ndarray, error: np.ndarray) -> np.ndarray:
        """What spectra (n, m) at labels (n, n_label) may be wrong by, in the size of their expected errors (n,).

        That is what another spline says, less this one; zero where that determines no spectrum.
        """
        at, out = _coordinates(self.names, labels) / self.scale, np.zeros_like(flux)
        other = next((spline for spline in SPLINES if spline != self.spline), self.spline)
        for rows, near, weight, variance in _solved(self.place, at, other, own=False):
            off = _combined(weight, self.flux, near) - flux[rows]
            size = np.sqrt(np.mean(off**2, axis=1) / np.mean(self.flux**2))
            good = np.isfinite(variance) & np.isfinite(error[rows]) & (size > 0)
            out[rows][good] = off[good] * (error[rows] / np.where(size > 0, size, 1))[good, None]
        return out


def krige(names: Sequence[str], labels: np.ndarray, flux: np.ndarray) -> Kriging | None:
    """Kriging of models with labels (n, n_label) and flux (n, m), chosen and judged by leaving out each of them.

    None for models that are too few for it.
    """
    where = _coordinates(names, labels)
    if len(where) < where.shape[1] + 3:
        return None
    size = np.sqrt(np.mean(flux**2))
    steps = [np.diff(np.unique(np.round(x, 9))) for x in where.T]
    step = np.array([np.median(x) if len(x) else 1.0 for x in steps])
    judged = np.random.default_rng(0).permutation(len(where))[:JUDGED]

    def misses(scale: np.ndarray, spline: tuple[int, int], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What models come back wrong by (n, m), and the variance (n,)."""
        place, off, spread = where / scale, np.empty((len(rows), flux.shape[1])), np.empty(len(rows))
        for part, near, weight, variance in _solved(place, place[rows], spline, own=True):
            off[part], spread[part] = _combined(weight, flux, near) - flux[rows[part]], variance
        return off, spread

    def judged_by(off: np.ndarray, spread: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(spread), np.sqrt(np.mean(off**2, axis=1)) / size, np.inf)

    def judge(factors: np.ndarray, spline: tuple[int, int]) -> float:
        # The mean of roots: neither what a few bad models are wrong by, nor the best half alone.
        miss = judged_by(*misses(step * factors, spline, judged))
        return float(np.mean(np.sqrt(np.minimum(miss, 1.0))))

    _, factors, spline = min(_chosen(judge, spline, len(step)) for spline in SPLINES)
    scale = step * np.array(factors)
    off, variance = misses(scale, spline, np.arange(len(where)))
    left_out = judged_by(off, variance)
    good = np.isfinite(left_out) & (variance > 0)
    if not good.any():
        return None
    ratio = np.where(good, left_out / np.sqrt(np.where(good, variance, 1)), np.inf)
    missed = np.where(np.isfinite(variance)[:, None], off, 0).astype(np.float32)
    return Kriging(tuple(names), where / scale, flux, scale, spline, left_out, ratio, missed)


def _chosen(
    judge: Callable[[np.ndarray, tuple[int, int]], float], spline: tuple[int, int], n_label: int
) -> tuple[float, tuple[float, ...], tuple[int, int]]:
    """The best value, the factors of the scales that have it, and the spline; only ratios of scales matter."""
    factors = np.ones(n_label)
    value = judge(factors, spline)
    for label, factor in itertools.product([*range(1, n_label)] * 2, FACTORS):
        tried = factors.copy()
        tried[label] = factor
        if factor != factors[label] and (new := judge(tried, spline)) < value:
            value, factors = new, tried
    return value, tuple(factors.tolist()), spline


def _coordinates(names: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Labels (n, n_label) as they count: the logarithm of a temperature, others as they are."""
    labels = np.asarray(labels, float)
    return np.stack([np.log(x) if k == "teff" else x for k, x in zip(names, labels.T, strict=True)], axis=1)


def _combined(weight: np.ndarray, flux: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Sums (n, m) of the spectra near (n, k) with weights (n, k); one at a time, for those of all may be gigabytes."""
    return np.stack([w @ flux[rows] for w, rows in zip(weight, near, strict=True)])


def _solved(place: np.ndarray, at: np.ndarray, spline: tuple[int, int], *, own: bool) -> Any:
    """By parts of the places at (n, n_label): rows, the nearest models (n, k), their weights, and the variance (n,).

    own: the places are those of models, which are left out.
    """
    from scipy.spatial import cKDTree

    tree, count = cKDTree(place), min(NEAREST * place.shape[1], len(place) - own)
    for start in range(0, len(at), ROWS):
        rows = slice(start, start + ROWS)
        near = np.atleast_2d(tree.query(at[rows], count + own)[1].reshape(len(at[rows]), -1))[:, int(own) :]
        yield rows, near, *_weights(place[near] - at[rows, None], spline)


def _weights(off: np.ndarray, spline: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n, k) of models that lie off (n, k, n_label) a place, and the spline's variance (n,), or infinity."""
    power, order = spline
    n, k, n_label = off.shape
    size = np.abs(off).max(axis=(1, 2), keepdims=True)
    off = off / size
    sign = 1.0 if power == 3 else -1.0
    phi = sign * np.linalg.norm(off[:, :, None] - off[:, None], axis=-1) ** power
    here = sign * np.linalg.norm(off, axis=-1) ** power
    powers = [c for o in range(order + 1) for c in itertools.combinations_with_replacement(range(n_label), o)]
    terms = np.stack([np.prod(off[..., list(c)], axis=-1) for c in powers], axis=-1)
    table = np.zeros((n, k + len(powers), k + len(powers)))
    table[:, :k, :k], table[:, :k, k:], table[:, k:, :k] = phi, terms, terms.transpose(0, 2, 1)
    last = np.arange(k, k + len(powers))
    table[:, last, last] = -SOFT
    right = np.concatenate([here, np.eye(1, len(powers)).repeat(n, axis=0)], axis=1)
    weight = np.linalg.solve(table, right[..., None])[:, :k, 0]
    variance = np.einsum("nk,nkl,nl->n", weight, phi, weight) - 2 * np.sum(weight * here, axis=1)
    found = (weight[:, None] @ terms)[:, 0] - right[:, k:]
    determined = (np.abs(found).max(axis=1) < EXACT) & (variance > -1e-9)
    return weight, np.where(determined, np.maximum(variance, 0) * size[:, 0, 0] ** power, np.inf)
