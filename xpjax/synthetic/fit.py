"""Transmission curves fitted to observed magnitudes of stars with XP spectra, by exact derivatives.

A curve with a few parameters p makes a projection r(p), a star with coefficients c the magnitude
-2.5 log10(c r(p)) + zero_point; chi2 of the observed magnitudes is minimised by Gauss-Newton steps, and (J'J)^-1 is the
covariance. Parameters of a curve T0 with mean wavelength m and full width w at half maximum:

    shift, width           T(l) = T0(m + (l - shift - m) / (1 + width))          [nm], relative
    blue_edge, red_edge    the half-maximum on either side moves by so much      [nm]
    tilt                   T (1 + tilt (l - m) / w): relative change across the width
    bend                   T (1 + bend ((l - m) / w)^2)
    zero_point             added to the magnitudes                               [mag]

or any parameter of a transmission chain (airmass, water, filter_shift, detector_slope, ...). In the free form T is also
multiplied by exp of a cubic through nodes with mean zero, whose second differences are held down by a prior; it holds
tilt and bend.

A tilt moves light to one side as a shift does: for main-sequence stars the two are nearly degenerate, and what is
measured is the effective wavelength. The covariance says so; do not read the parameters without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import Solution, dot, gauss_newton, local_cubic
from xpjax.core.records import AnyArray, Record
from xpjax.core.status import Status
from xpjax.synthetic.chain import TransmissionChain
from xpjax.synthetic.magnitude import photometry
from xpjax.synthetic.passband import Passband
from xpjax.synthetic.projection import (
    PassbandOperator,
    fwhm,
    mean_wavelength,
    passband_operator,
    passband_system,
    zero_point,
)
from xpjax.xp import Instrument, as_sources
from xpjax.xp import load_instrument as load_instrument

STEP = 0.5
"""Sampling [nm] of the curves that are fitted."""
MARGIN = 25.0
"""How far [nm] a curve may move or grow beyond its samples."""
PARAMETERS = ("shift", "width", "blue_edge", "red_edge", "tilt", "bend")
FREE = "free"
LEVEL = 1e-3
"""Mean of the free form's nodes, as a standard deviation about zero."""
ROUNDS = 10
"""Rounds of clipping at most; each starts from all stars."""


class WarpedCurve(eqx.Module):
    """A curve with parameters, on a grid (m,) [nm]: samples (n,) at knots (n,) [nm], its mean wavelength and width.

    nodes (k,) [nm]: where the free form has its values; empty without it.
    """

    knots: Float[AnyArray, " n"]
    samples: Float[AnyArray, " n"]
    grid: Float[AnyArray, " m"]
    center: Float[AnyArray, ""]
    width: Float[AnyArray, ""]
    nodes: Float[AnyArray, " k"]

    def __call__(self, change: Mapping[str, Array]) -> Float[Array, " m"]:
        """Transmission (m,) on the grid, for parameters by name; those left out change nothing."""
        shift, width, blue, red, tilt, bend = (change.get(name, 0.0) for name in PARAMETERS)
        x, center, own_width = jnp.asarray(self.grid), jnp.asarray(self.center), jnp.asarray(self.width)
        # Both edges move as a line through their displacements would, constant beyond them.
        place = jnp.clip(2 * (x - center) / own_width, -1.0, 1.0)
        own = x - 0.5 * (blue * (1 - place) + red * (1 + place))
        own = center + (own - shift - center) / (1 + width)
        across = (x - center) / own_width
        curve = local_cubic(own, self.knots, self.samples) * (1 + tilt * across + bend * across**2)
        if FREE in change:
            inside = jnp.clip(x, self.nodes[0], self.nodes[-1])
            curve *= jnp.exp(local_cubic(inside, self.nodes, change[FREE]))
        return curve


def warped(band: Passband, spacing: float | None = None) -> WarpedCurve:
    """The curve of a passband, ready to be changed; spacing [nm] of the nodes of the free form."""
    grid = np.arange(band.wavelength[0] - MARGIN, band.wavelength[-1] + MARGIN + STEP, STEP)
    nodes = np.empty(0)
    if spacing is not None:
        bright = np.flatnonzero(band.transmission > 0.01 * band.transmission.max())
        low, high = band.wavelength[bright[0]], band.wavelength[bright[-1]]
        nodes = np.linspace(low, high, max(int(np.ceil((high - low) / spacing)) + 1, 4))
    center, width = np.asarray(mean_wavelength(band)), np.asarray(fwhm(band))
    return WarpedCurve(band.wavelength, band.transmission, grid, center, width, nodes)


class ChainCurve(eqx.Module):
    """One band of a transmission chain on a grid (m,) [nm], as a curve with parameters."""

    chain: TransmissionChain
    grid: Float[AnyArray, " m"]
    band: str = eqx.field(static=True)

    def __call__(self, change: Mapping[str, Array]) -> Float[Array, " m"]:
        """Transmission (m,) on the grid, for parameters of the chain by name."""
        return self.chain.transmission(jnp.asarray(self.grid), self.band, **change)


class _Model(eqx.Module):
    """All that the residuals of a fit need beside the parameters: arrays, so that one compilation serves all fits."""

    curve: WarpedCurve | ChainCurve
    operator: PassbandOperator
    coefficients: Float[AnyArray, "n n_basis_total"]
    magnitude: Float[AnyArray, " n"]
    weight: Float[AnyArray, " n"]
    start: Float[AnyArray, " k"]
    prior: Float[AnyArray, " k"]
    smooth: Float[AnyArray, ""]
    offset: Float[AnyArray, ""]
    names: tuple[str, ...] = eqx.field(static=True)
    n_node: int = eqx.field(static=True)

    def change(self, value: Array) -> dict[str, Array]:
        """Parameters by name."""
        named = {name: value[i] for i, name in enumerate(self.names)}
        return {**named, FREE: value[len(self.names) :]} if self.n_node else named

    def transmission(self, value: Array) -> Array:
        """The curve (m,) for a vector of parameters."""
        change = self.change(value)
        change.pop("zero_point", None)
        return self.curve(change)

    def possible(self, value: np.ndarray) -> bool:
        """Whether parameters of a chain are within their ranges: an airmass of 0.5 is none."""
        if isinstance(self.curve, ChainCurve):
            named = {n: float(v) for n, v in zip(self.names, value, strict=False) if n != "zero_point"}
            try:
                self.curve.chain.with_parameters(**named)
            except ValueError:
                return False
        return True

    def predict(self, value: Array) -> Array:
        """Model magnitudes (n,)."""
        curve = self.transmission(value)
        flux = dot(self.coefficients, self.operator.projection(curve))
        shift = value[self.names.index("zero_point")] if "zero_point" in self.names else 0.0
        # A step may leave a few faint stars without flux: they must not turn the sum into NaN.
        return -2.5 * jnp.log10(jnp.maximum(flux, 1e-30)) + self.offset + shift


def _residual(value: Array, model: _Model) -> Array:
    """Residuals of the magnitudes, the priors and the roughness of the free form, each in units of its error."""
    parts = [(model.magnitude - model.predict(value)) * model.weight, (value - model.start) * model.prior]
    if model.n_node:
        nodes = value[len(model.names) :]
        # A curve times a constant is the same passband: the level is held, not fitted.
        parts += [jnp.diff(nodes, 2) * model.smooth, jnp.mean(nodes, keepdims=True) / LEVEL]
    return jnp.concatenate(parts)


@eqx.filter_jit
def _solve(model: _Model) -> tuple[Solution, Array, Array, Array, Array, Array]:
    """The fit, its curve (m,) and that at the start, model magnitudes (n,), mean wavelength and its gradient (k,)."""
    solution = gauss_newton(_residual, model.start, model)
    value = solution.value
    center, slope = jax.value_and_grad(_center)(value, model)
    start = model.transmission(jnp.asarray(model.start))
    return solution, model.transmission(value), start, model.predict(value), center, slope


def _center(value: Array, model: _Model) -> Array:
    """int T l dl / int T dl [nm]."""
    x = jnp.asarray(model.curve.grid)
    weight = model.transmission(value)
    return jnp.sum(weight * x) / jnp.sum(weight)


@dataclasses.dataclass(frozen=True, repr=False)
class PassbandFit(Record):
    """What a fit of a transmission curve found.

    names (k,), value, error (k,) and covariance (k, k) of the parameters (nodes of the free form, free_0, ..., last);
    passband: the fitted curve, of peak one or below, without the fitted zero_point; effective_wavelength, its mean
    wavelength int T l dl / int T dl, and effective_wavelength_error [nm]; magnitude (n,) of the model; used (n,): which
    stars took part; chi2 of the magnitudes and n_used - k degrees of freedom; converged: False too where the curve ran
    far off its start, or a chain's parameter out of its range: give priors, or fit fewer.

    Errors are statistical: those of XP itself are common to stars, and do not average out.
    """

    names: tuple[str, ...]
    value: np.ndarray
    error: np.ndarray
    covariance: np.ndarray
    passband: Passband
    effective_wavelength: float
    effective_wavelength_error: float
    magnitude: np.ndarray
    used: np.ndarray
    chi2: float
    degrees_of_freedom: int
    converged: bool

    def __getitem__(self, name: str) -> tuple[float, float]:
        """Value and error of one parameter."""
        if name not in self.names:
            raise KeyError(f"{name!r} was not fitted; these were: {list(self.names)}")
        k = self.names.index(name)
        return float(self.value[k]), float(self.error[k])

    @property
    def correlation(self) -> np.ndarray:
        """Correlation matrix (k, k) of the parameters."""
        return self.covariance / np.outer(self.error, self.error)

    @property
    def degenerate(self) -> tuple[tuple[str, str, float], ...]:
        """Pairs of parameters that the stars can hardly tell apart (|correlation| > 0.9), and their correlation."""
        r, n = self.correlation, sum(not name.startswith(FREE) for name in self.names)
        return tuple(
            (self.names[i], self.names[j], float(r[i, j])) for i in range(n) for j in range(i) if abs(r[i, j]) > 0.9
        )

    def __str__(self) -> str:
        lines = [f"{name:<16} {v:+.5g} +- {e:.2g}" for name, v, e in zip(self.names, self.value, self.error)]
        lines += [f"effective wavelength {self.effective_wavelength:.3f} +- {self.effective_wavelength_error:.3f} nm"]
        lines += [f"chi2 {self.chi2:.1f} for {self.degrees_of_freedom} degrees of freedom, {self.used.sum()} stars"]
        lines += [f"hardly told apart: {a} and {b}, correlation {r:+.3f}" for a, b, r in self.degenerate]
        return "\n".join(lines if self.converged else [*lines, "NOT CONVERGED"])


def fit_passband(
    sources: Any,
    magnitude: np.ndarray,
    error: np.ndarray,
    curve: Passband | TransmissionChain,
    parameters: Sequence[str] = ("zero_point", "shift"),
    *,
    band: str | None = None,
    priors: Mapping[str, float] | None = None,
    free: float | None = None,
    roughness: float = 0.02,
    clip: float | None = None,
    xp_errors: bool = True,
    instrument: Instrument | None = None,
    extrapolate: str | None = None,
    allow_outside: bool = False,
    correction: Any = None,
) -> PassbandFit:
    """Fit parameters of a transmission curve to observed magnitudes of stars with XP spectra.

    sources: n stars, as for `photometry`. magnitude, error (n,) [mag]: observed in one band; NaN leaves a star out.
    curve: the passband to start from, or a chain and the name of its `band`. parameters: see the module; without
    "zero_point" the magnitudes are taken as calibrated. priors: standard deviations of Gaussian priors about the start,
    by name. free [nm]: spacing of the nodes of the free form, with `roughness` the prior standard deviation of their
    second differences. clip: leave out stars beyond so many standard deviations, deciding anew in every round.
    xp_errors: add those of the spectra, where the input has them. correction: a linear one of the spectra, as for
    `photometry`, by default that of the instrument, none; stars beyond its domain are left out.

    Raises ValueError for unknown parameters, arrays that do not fit, and fewer stars than parameters.
    """
    model = instrument or load_instrument()
    model = model if correction is None else model.corrected(correction)
    table = as_sources(sources, model.release)
    start_band, warp, names, start = _prepare(curve, band, parameters, free)
    system = passband_system(start_band, instrument=model, extrapolate=extrapolate, allow_outside=allow_outside)
    magnitude, sigma = _observed(magnitude, error, len(table))
    xp = photometry(table, system, errors=xp_errors, float64=True)
    good = np.isfinite(magnitude) & np.isfinite(sigma) & (sigma > 0) & np.isfinite(xp.magnitude[:, 0])
    good &= (xp.status & np.uint32(Status.OUTSIDE_TRAINING)) == 0
    if xp_errors and xp.magnitude_error is not None:
        known = np.isfinite(xp.magnitude_error[:, 0])
        good &= known
        sigma = np.hypot(sigma, np.where(known, xp.magnitude_error[:, 0], 0.0))
    n_node = len(warp.nodes) if isinstance(warp, WarpedCurve) else 0
    k = len(names) + n_node
    if good.sum() <= k:
        where = "" if model.correction is None else f", and are within the domain of the correction {system.correction}"
        raise XpjaxError(
            f"{good.sum()} of {len(table)} stars have a magnitude, a positive error and an XP flux in the band{where}, "
            f"too few for {k} parameters"
        )
    prior = np.zeros(k)
    for name, width in (priors or {}).items():
        if name not in names or not width > 0:
            raise XpjaxError(f"prior {name} = {width}: give a standard deviation above zero for one of {list(names)}")
        prior[names.index(name)] = 1 / width
    operator = passband_operator(
        np.asarray(warp.grid),
        detector=start_band.detector,
        magnitude=start_band.magnitude,
        instrument=model,
        extrapolate=extrapolate or "none",
    )
    coefficients = np.where(good[:, None], np.nan_to_num(table.coefficients.value.astype(float)), 0.0)
    scale = 2.0 ** np.round(np.log2(np.median(np.abs(xp.flux[good, 0]))))
    operator = dataclasses.replace(operator, response=np.asarray(operator.response) / scale)
    fit = _Model(
        warp,
        operator,
        coefficients,
        np.where(good, magnitude, 0.0),
        np.where(good, 1 / np.where(good, sigma, 1.0), 0.0),
        np.concatenate([start, np.zeros(n_node)]),
        prior,
        np.asarray(1 / roughness),
        np.asarray(zero_point(start_band) - 2.5 * np.log10(scale)),
        tuple(names),
        n_node,
    )
    return _finish(fit, good, clip, start_band, system.correction)


def _finish(fit: _Model, good: np.ndarray, clip: float | None, band: Passband, correction: str) -> PassbandFit:
    """Solve, clipping anew until the same stars stay, and put the result into words."""
    inverse, used = fit.weight, good
    with engine.precision(float64=True):
        for _ in range(ROUNDS if clip else 1):
            solution, curve, start, predicted, center, slope = jax.device_get(_solve(engine.cast(fit, np.dtype(float))))
            pull = (fit.magnitude - predicted) * inverse
            kept = good & (np.abs(pull) < (clip or np.inf))
            if np.array_equal(kept, used) or kept.sum() <= len(fit.start):
                break
            used = kept
            fit = dataclasses.replace(fit, weight=np.where(used, inverse, 0.0))
    names = (*fit.names, *(f"free_{i}" for i in range(fit.n_node)))
    error = np.sqrt(np.diagonal(solution.covariance))
    curve = np.clip(np.nan_to_num(curve), 0.0, None)
    # A curve that ran off its grid fits nothing: the start is given back, and said not to have converged.
    whole = bool(curve.max() > 0 and max(curve[0], curve[-1]) < 1e-2 * curve.max()) and fit.possible(solution.value)
    if not whole:
        curve = start
    inside = np.flatnonzero(curve > 0)
    part = slice(max(inside[0] - 1, 0), inside[-1] + 2)
    values = curve[part]
    source = f"fitted to {int(used.sum())} stars, from {band.name}"
    meta = {"kind": "fitted", "source": source, "correction": correction}
    return PassbandFit(
        names,
        solution.value,
        error,
        solution.covariance,
        dataclasses.replace(
            band,
            wavelength=np.asarray(fit.curve.grid)[part],
            transmission=values / max(values.max(), 1.0),
            meta={**band.meta, **meta},
        ),
        float(center),
        float(np.sqrt(slope @ solution.covariance @ slope)),
        np.where(good, predicted, np.nan),
        used,
        float(np.sum(pull[used] ** 2)),
        int(used.sum()) - len(names),
        bool(solution.converged) and whole,
    )


def _observed(magnitude: Any, error: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes and errors (n,) in float64; one error may stand for all."""
    magnitude = np.ma.filled(np.ma.asarray(magnitude, float), np.nan)
    error = np.ma.filled(np.ma.asarray(error, float), np.nan)
    if magnitude.shape != (n,) or error.shape not in ((), (n,)):
        raise XpjaxError(f"expected {n} magnitudes and errors, one a source; found {magnitude.shape}, {error.shape}")
    return magnitude, np.broadcast_to(error, (n,))


def _prepare(
    curve: Passband | TransmissionChain, band: str | None, parameters: Sequence[str], free: float | None
) -> tuple[Passband, WarpedCurve | ChainCurve, list[str], np.ndarray]:
    """The passband at the start, the curve with parameters, their names and starting values."""
    names = list(dict.fromkeys(parameters))
    own = [name for name in names if name != "zero_point"]
    if isinstance(curve, TransmissionChain):
        if free is not None:
            raise XpjaxError("the free form is for a passband; give chain.passbands()[band] to fit freely")
        if band not in curve.bands:
            raise XpjaxError(f"band {band!r} is not in the chain {curve.name}; it has {list(curve.bands)}")
        known = curve.parameters
        _check_names(own, list(known))
        # Filters have a shift and a scale each, the rest of the chain is common to all bands.
        each = {name: np.broadcast_to(known[name], len(curve.bands))[curve.bands.index(band)] for name in own}
        start = [float(each.get(name, 0.0)) for name in names]
        return curve.passbands()[band], ChainCurve(curve, np.asarray(curve.wavelength), band), names, np.array(start)
    _check_names(own, [name for name in PARAMETERS if free is None or name not in ("tilt", "bend")])
    if free is not None and not free > 0:
        raise XpjaxError(f"free = {free}: give the spacing of the nodes in nm")
    return curve, warped(curve, free), names, np.zeros(len(names))


def _check_names(names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise XpjaxError(f"no parameter {', '.join(unknown)}; choose from {['zero_point', *known]}")
