"""Passbands recovered from published projection vectors, whose curves are not shipped.

A projection vector is r = int T l D(l) dl = L T over 330..1050 nm, L the operator of `passband_operator` on the samples
of T. Published vectors are exact integrals of smooth curves, not sums over tables, and are cut at 330 nm, where D grows
a hundredfold and changes within 1 nm: point samples 2 nm apart stall there. The curve is the smoothest T >= 0 whose
|L T - r| / |r| is within the digits of r: minimize |L T - r|^2 + mu sum_i w_i (D2 T)_i^2, mu as large as the target
allows, w_i ~ 1 / |D2 T|_i in turns, so that corners stay sharp and tops flat. What comes out is "recovered", with its
residual, never "measured".
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from xpjax.core.constants import AB_ZERO_POINT, FLUX_UNIT, XP_RANGE
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import interpolation
from xpjax.core.quadrature import quadrature
from xpjax.core.release import Release
from xpjax.synthetic.passband import Passband
from xpjax.synthetic.projection import passband_operator
from xpjax.synthetic.published import published_source
from xpjax.synthetic.system import PhotometricSystem
from xpjax.xp import load_instrument

TARGET = 2e-6
"""Residual that is aimed at: published vectors have six digits."""
GOOD = 1e-5
"""Residual below which a curve reproduces its vector."""
WHOLE = 2e-4
"""A band whose integral within 330..1050 nm is one to this has nothing beyond."""

CELL = 0.125
"""Cells [nm] on which D is integrated, and the finest sampling of a curve."""
N_CELL = round((XP_RANGE[1] - XP_RANGE[0]) / CELL)
COARSEST, WIDE = 1.0, 400.0
"""Coarsest step [nm]; where a support is wider than WIDE [nm], twice that is tried first."""
SAMPLES = 100
"""Least number of samples of a curve, unless it is so narrow that they would be finer than a cell."""
BLUE_END, BLUE_STEP = 345.0, 0.25
ATTEMPTS = ((0.1, False), (1e-2, False), (1e-3, False), (1e-4, False), (0.0, False), (0.0, True))
"""The support is tried from the core of the band outwards: where a first fit exceeds these fractions of its peak; and
whether a wide one is sampled finely."""
SIGNED_THRESHOLDS = (1e-2, 3e-3, 1e-3, 0.0)
MARGIN = 3.0
FIRST, START, LEAST, STEP = 1e-7, 1e-9, 1e-14, 8.0
"""Values of mu, for a curve of peak one: of the first fit, to start from and the least, and the factor of its steps."""
TURNS, KNEE = 1, 0.05
"""Turns of re-weighting, and the curvature, as a fraction of its root mean square, below which weights are equal."""


def recover_passbands(system: PhotometricSystem, target: float = TARGET) -> tuple[Passband, ...]:
    """Recover the transmission curves of published bands from their projection vectors.

    Parameters
    ----------
    system : PhotometricSystem
        A published system, which names its instrument model.
    target : float
        Relative residual |L T - r| / |r| down to which the smoothest curve is sought.

    Returns
    -------
    tuple of Passband
        One for each band, in the system's order, of peak one and zero at the ends, except where a band is cut at 330 or
        1050 nm: the light beyond is in the zero point then. In `meta`: kind "recovered"; `residual`; `method` (why,
        where the residual is large); `inside`, the share within 330..1050 nm of the integral that the published flux is
        divided by. A flux bias or color equation of the system is not in a curve.

    Raises
    ------
    XpjaxError
        If the system does not name its instrument model, or the vector of a band is zero.

    Notes
    -----
    Minimizes |L T - r|^2 + mu sum_i w_i (D2 T)_i^2 for T >= 0, mu as large as the target allows; about 0.2 s a band.

    Examples
    --------
    >>> (r,) = xpjax.synthetic.recover_passbands(xpjax.load_system("SDSS:r"))
    >>> 610 < r.mean_wavelength < 625, r.meta["kind"]
    (True, 'recovered')
    """
    if not system.model:
        raise XpjaxError(f"{system.labels[0]} does not name its instrument model; its passbands cannot be recovered")
    if not target > 0:
        raise XpjaxError(f"target must be a residual above zero, found {target}")
    made, source = [], published_source(system.release)
    for k, (name, label, unit) in enumerate(zip(system.names, system.labels, system.flux_unit, strict=True)):
        vector = np.asarray(system.projection, float)[:, k]
        size = float(np.linalg.norm(vector))
        if not size > 0:
            raise XpjaxError(f"the projection vector of {name} is zero: it has no passband")
        index, curve, residual, method = _recover(_Model(system.model, system.release), vector / size, target)
        transmission = np.clip(curve / curve.max(), 0.0, 1.0)
        band = Passband(name, XP_RANGE[0] + CELL * index, transmission, magnitude="AB" if "Hz" in unit else "Vega")
        published = size * float(system.scale[k]) * curve.max()
        zero_point, inside = _as_published(band, published, float(system.zero_point[k]))
        meta: dict[str, Any] = {"kind": "recovered", "source": f"projection vector of {label} {name}, {source}"}
        meta |= {"inside": round(inside, 5), "residual": float(f"{residual:.1e}"), "method": method}
        made.append(dataclasses.replace(band, zero_point=zero_point, meta=meta))
    return tuple(made)


class _Model(NamedTuple):
    """An instrument model by its name, and the release that it is of."""

    name: str
    release: Release


def _as_published(band: Passband, size: float, zero_point: float) -> tuple[float | None, float]:
    """The zero point that gives published magnitudes, for a vector of this size, and the share of the band inside."""
    operator = passband_operator(band.wavelength, magnitude=band.magnitude)
    inside = float(size * (operator.norm @ band.transmission)) / FLUX_UNIT
    # Within the digits of the vectors the band is whole, and has the zero point of its magnitude system.
    whole = abs(inside - 1) < WHOLE
    own = zero_point - (0.0 if whole else 2.5 * np.log10(inside))
    return None if whole and band.magnitude == "AB" and zero_point == AB_ZERO_POINT else float(own), inside


def _recover(model: _Model, vector: np.ndarray, target: float) -> tuple[np.ndarray, np.ndarray, float, str]:
    """Lattice indices (n,), curve (n,) in units of the vector, of norm one, residual and method."""
    first, height = _first(model, vector)
    best: _Fit | None = None
    for threshold, fine in ATTEMPTS:
        problem = _problem(model, _support(first, threshold), fine, height, vector)
        if best is not None and np.array_equal(problem.index, best.problem.index):
            continue
        found = _fit(problem, LEAST, None, target)
        if best is None or found.residual < best.residual / 1.5:
            best = found
        if best.residual <= target:
            break
    assert best is not None
    method = "smoothest non-negative"
    if best.residual > GOOD:
        free, dip = _signed(model, vector, height)
        if free.residual < GOOD:
            method = f"closest non-negative; only a curve that dips to {dip:.3f} of its peak reproduces the vector"
        else:
            method = "closest non-negative; no curve reproduces the vector"
    # At its least the residual leaves no room to be smooth.
    least = best.residual
    target = max(target, min(1.3 * least, GOOD) if least < 0.95 * GOOD else 1.05 * least)
    problem, strength, weight = best.problem.scaled(best.value.max()), START, None
    for _ in range(1 + TURNS):
        best = _smoothest(problem, strength, weight, target)
        strength = best.strength
        bend = np.abs(problem.rough @ best.value)
        weight = 1 / np.hypot(bend / np.sqrt(np.mean(bend**2)), KNEE)
        weight /= weight.mean()
    return (*best.curve(), best.residual, method)


@dataclasses.dataclass(frozen=True)
class _Problem:
    """One band on samples: which may be non-zero, their operator, its L' L and roughness, and the unit of the curve."""

    index: np.ndarray
    used: np.ndarray
    operator: np.ndarray
    gram: np.ndarray
    rough: Any
    vector: np.ndarray
    height: float

    def scaled(self, factor: float) -> _Problem:
        """The same with the curve in larger units."""
        return dataclasses.replace(
            self, operator=self.operator * factor, gram=self.gram * factor**2, height=self.height * factor
        )


def _problem(model: _Model, support: list[tuple[int, int]], fine: bool, height: float, vector: np.ndarray) -> _Problem:
    """The problem of one band on the samples of its support."""
    index, used = _samples(support, fine)
    operator = _operator(model, index)[:, used] * height
    # Free of units, so that one mu suits narrow and broad bands.
    width = 0.5 * CELL * sum(stop - start for start, stop in support)
    rough = _second_difference(CELL * index)[:, used] * width**1.5
    return _Problem(index, used, operator, operator.T @ operator, rough, vector, height)


@dataclasses.dataclass(frozen=True)
class _Fit:
    problem: _Problem
    value: np.ndarray
    residual: float
    strength: float

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Lattice indices and curve, without zeros beyond the first at either side."""
        full = np.zeros(len(self.problem.index))
        full[self.problem.used] = self.value * self.problem.height
        full[np.abs(full) < 1e-7 * full.max()] = 0
        inside = np.flatnonzero(full)
        span = slice(max(inside[0] - 1, 0), inside[-1] + 2)
        return self.problem.index[span], full[span]


def _fit(problem: _Problem, strength: float, weight: np.ndarray | None, target: float) -> _Fit:
    """The non-negative curve for one mu."""
    weight = strength * (np.ones(problem.rough.shape[0]) if weight is None else weight)
    rough = (problem.rough.T * weight) @ problem.rough
    value = _non_negative(problem.operator, problem.gram, problem.vector, rough.toarray(), 0.01 * target**2)
    residual = float(np.linalg.norm(problem.operator @ value - problem.vector))
    return _Fit(problem, value, residual, strength)


def _smoothest(problem: _Problem, strength: float, weight: np.ndarray | None, target: float) -> _Fit:
    """The fit of the largest mu, to a factor of about three, with which the residual is within the target."""
    fits = [_fit(problem, strength, weight, target)]
    within = fits[0].residual <= target
    while (fits[-1].residual <= target) == within and LEAST <= fits[-1].strength <= 1.0:
        fits.append(_fit(problem, fits[-1].strength * (STEP if within else 1 / STEP), weight, target))
    if len(fits) > 1 and not within:
        fits.append(_fit(problem, fits[-1].strength * np.sqrt(STEP), weight, target))
    good = [fit for fit in fits if fit.residual <= target]
    return max(good, key=lambda fit: fit.strength) if good else min(fits, key=lambda fit: fit.residual)


def _non_negative(
    operator: np.ndarray, gram: np.ndarray, vector: np.ndarray, rough: np.ndarray, tolerance: float
) -> np.ndarray:
    """Minimize (|L w - r|^2 + w R w) / 2 for w >= 0, to a duality gap, by Mehrotra's (1992) interior-point method.

    gram: L' L, which several calls share.
    """
    from scipy.linalg.lapack import dpotrf, dpotrs

    hessian = gram + rough
    diagonal = np.arange(len(hessian))
    value = np.ones(len(hessian))
    dual = np.full(len(hessian), np.abs(operator.T @ vector).max())

    def longest(x: np.ndarray, dx: np.ndarray) -> float:
        steepest = -float((dx / x).min())
        return 0.9995 / steepest if steepest > 0.9995 else 1.0

    for _ in range(60):
        # From the residual: hessian @ value - L' r would cancel.
        slope = operator.T @ (operator @ value - vector) + rough @ value - dual
        gap = value @ dual
        if gap < tolerance and np.abs(slope) @ value < 100 * tolerance:
            break
        system = hessian.copy()
        system[diagonal, diagonal] += dual / value
        factor, failed = dpotrf(system, lower=1)
        if failed:
            break
        d_value = dpotrs(factor, -slope - dual, lower=1)[0]
        d_dual = -dual - dual / value * d_value
        ahead = (value + longest(value, d_value) * d_value) @ (dual + longest(dual, d_dual) * d_dual)
        center = value * dual + d_value * d_dual - (ahead / gap) ** 3 * gap / len(value)
        d_value = dpotrs(factor, -slope - center / value, lower=1)[0]
        d_dual = -center / value - dual / value * d_value
        length = min(longest(value, d_value), longest(dual, d_dual))
        value, dual = value + length * d_value, dual + length * d_dual
    return np.where(value * hessian[diagonal, diagonal] > dual, value, 0.0)


def _signed(model: _Model, vector: np.ndarray, height: float) -> tuple[_Fit, float]:
    """The smoothest curve of any sign that reproduces a vector, on the least support, and its dip below zero."""
    support = [(0, N_CELL)]
    fit = _least_squares(_problem(model, support, True, height, vector), 1e-10)
    lattice = np.arange(N_CELL + 1)
    size = np.abs(np.interp(lattice, fit.problem.index[fit.problem.used], fit.value / fit.value.max()))
    problems = [_problem(model, _support(size, threshold), True, height, vector) for threshold in SIGNED_THRESHOLDS]
    for strength in (1e-8, 1e-10, 1e-12, 1e-14, 1e-16):
        for problem in problems:
            fit = _least_squares(problem, strength)
            if fit.residual < GOOD / 2:
                return fit, float(fit.value.min() / fit.value.max())
    return fit, float(fit.value.min() / fit.value.max())


def _least_squares(problem: _Problem, strength: float) -> _Fit:
    """The curve of any sign for one mu."""
    from scipy.linalg import cho_factor, cho_solve

    rough = strength * (problem.rough.T @ problem.rough).toarray()
    hessian = problem.gram + rough
    hessian[np.diag_indices_from(hessian)] *= 1 + 1e-14
    factor = cho_factor(hessian, lower=True)
    value = np.zeros(len(hessian))
    for _ in range(4):  # refined, since the normal equations lose half of the digits
        left = problem.vector - problem.operator @ value
        value = value + cho_solve(factor, problem.operator.T @ left - rough @ value)
    return _Fit(problem, value, float(np.linalg.norm(problem.operator @ value - problem.vector)), strength)


@functools.lru_cache(maxsize=2)
def _lattice(model: _Model) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (m,) [nm], three in each cell, and lambda D times their weights (n_basis_total, m)."""
    nodes, weights, _ = quadrature(XP_RANGE[0] + CELL * np.arange(N_CELL + 1))
    return nodes, np.asarray(load_instrument(model.name, release=model.release).design(nodes).value) * nodes * weights


def _operator(model: _Model, index: np.ndarray) -> np.ndarray:
    """L (n_basis_total, n) of samples at these lattice indices: `passband_operator` from stored integrands."""
    nodes, integrand = _lattice(model)
    part = slice(3 * int(index[0]), 3 * int(index[-1]))
    matrix = interpolation(XP_RANGE[0] + CELL * index, nodes[part])
    return np.ascontiguousarray((matrix.T @ integrand[:, part].T).T)


def _second_difference(x: np.ndarray) -> Any:
    """Sparse second derivatives at the inner samples (n - 2, n), so weighted that squares add up to the integral."""
    from scipy.sparse import diags_array

    h = np.diff(x)
    left, right = h[:-1], h[1:]
    weight = np.sqrt(2 / (left + right))
    bands = [weight / left, -weight * (1 / left + 1 / right), weight / right]
    return diags_array(bands, offsets=[0, 1, 2], shape=(len(left), len(x))).tocsc()


@functools.lru_cache(maxsize=2)
def _coarse(model: _Model) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Samples 3 nm apart, finer at the blue end, operator, roughness and a factor that solves without bounds."""
    blue = np.arange(0, round((BLUE_END - XP_RANGE[0]) / CELL), round(2 * BLUE_STEP / CELL))
    index = np.union1d(np.arange(0, N_CELL + 1, round(3 / CELL)), blue)
    operator, rough = _operator(model, index), _second_difference(CELL * index)
    gram, rough = operator.T @ operator, FIRST * (rough.T @ rough).toarray()
    return index, operator, rough, np.linalg.cholesky(gram + np.trace(gram) / len(index) * rough)


def _first(model: _Model, vector: np.ndarray) -> tuple[np.ndarray, float]:
    """A first, very smooth fit of peak one on the whole lattice (n_cell + 1,), and its height."""
    from scipy.linalg import cho_solve

    index, operator, rough, factor = _coarse(model)
    height = cho_solve((factor, True), operator.T @ vector).max()
    operator = operator * height
    value = _non_negative(operator, operator.T @ operator, vector, rough, 1e-11)
    return np.interp(np.arange(N_CELL + 1), index, value / value.max()), height * value.max()


def _support(first: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """Stretches [start, stop] of the lattice where a first fit exceeds a threshold, with a margin."""
    if not threshold:
        return [(0, len(first) - 1)]
    edge = np.diff((first > threshold).astype(int), prepend=0, append=0)
    margin = round(MARGIN / CELL)
    out: list[tuple[int, int]] = []
    for start, stop in zip(np.flatnonzero(edge > 0), np.flatnonzero(edge < 0), strict=True):
        low, high = max(int(start) - margin, 0), min(int(stop) + margin, len(first) - 1)
        if out and low <= out[-1][1] + margin:
            low = out.pop()[0]
        out.append((low, high))
    return out


def _samples(support: list[tuple[int, int]], fine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lattice indices (n,) of the samples of a support, and which may be non-zero: not its ends, but at 330, 1050."""
    cells = sum(stop - start for start, stop in support)
    coarsest = COARSEST if fine or CELL * cells < WIDE else 2 * COARSEST
    step = 2 ** int(np.log2(np.clip(cells / SAMPLES, 1, coarsest / CELL)))
    blue = min(step, round(BLUE_STEP / CELL))
    blue_end = round((BLUE_END - XP_RANGE[0]) / CELL)
    parts, used = [], []
    for start, stop in support:
        part = np.arange(start, stop, step)
        part = np.unique(np.concatenate([part, np.arange(start, min(stop, blue_end), blue), [stop]]))
        inner = np.ones(len(part), bool)
        inner[0], inner[-1] = start == 0, stop == N_CELL
        parts.append(part)
        used.append(inner)
    return np.concatenate(parts), np.concatenate(used)
