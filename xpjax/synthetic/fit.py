"""Transmission curves fitted to observed magnitudes of stars with XP spectra, by exact derivatives.

A curve with a few parameters p (`xpjax.synthetic.warp`) makes a projection r(p), a star with coefficients c the
magnitude -2.5 log10(c r(p)) + zero_point; chi2 of the observed magnitudes is minimized by Gauss-Newton steps, and
(J'J)^-1 is the covariance. In the free form a prior holds second differences of the nodes down.

A tilt moves light to one side as a shift does: for main-sequence stars the two are nearly degenerate, and what is
measured is the effective wavelength. The covariance says so; do not read the parameters without it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import Solution, dot, gauss_newton
from xpjax.core.records import AnyArray
from xpjax.core.status import Status
from xpjax.core.units import in_unit
from xpjax.synthetic.chain import TransmissionChain
from xpjax.synthetic.fitted import PassbandFit
from xpjax.synthetic.magnitude import photometry
from xpjax.synthetic.passband import Passband
from xpjax.synthetic.projection import PassbandOperator, passband_operator, passband_system
from xpjax.synthetic.system import PhotometricSystem
from xpjax.synthetic.warp import FREE, ChainCurve, WarpedCurve, find_start, prepare_curve
from xpjax.xp import AnyLinear, AnySources, Instrument, SourceTable, as_sources, load_instrument

LEVEL = 1e-3
"""Mean of the free form's nodes, as a standard deviation about zero."""
ROUNDS = 10
"""Rounds of clipping at most; each starts from all stars."""


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

    def transmission(self, value: Array) -> Array:
        """The curve (m,) for a vector of parameters."""
        named = {name: value[i] for i, name in enumerate(self.names) if name != "zero_point"}
        return self.curve({**named, FREE: value[len(self.names) :]} if self.n_node else named)

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


@eqx.filter_jit
def _slope(value: Array, model: _Model) -> Array:
    """Derivative (m, k) of the curve at its integral: its level is no part of a passband, and is held."""

    def held(value: Array) -> Array:
        curve = model.transmission(value)
        return curve / jnp.sum(curve)

    return jax.jacfwd(held)(value) * jnp.sum(model.transmission(value))


def fit_passband(
    sources: AnySources,
    magnitude: ArrayLike,
    error: ArrayLike,
    curve: Passband | TransmissionChain | str | os.PathLike[str],
    parameters: Sequence[str] | None = None,
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
    correction: AnyLinear = None,
) -> PassbandFit:
    """Fit parameters of a transmission curve to observed magnitudes of stars with XP spectra.

    Parameters
    ----------
    sources
        n stars, as for `photometry`.
    magnitude, error : (n,) array [mag]
        Observed magnitudes in one band and their standard errors, or one error for all; NaN leaves a star out.
    curve : Passband, TransmissionChain, or str
        Where to start: a passband, a chain and its `band`, or what `load_passbands` knows, as in `minisitian:g`.
    parameters : sequence of str, optional
        Of a passband zero_point [mag], shift [nm], width, blue_edge [nm], red_edge [nm], tilt and bend, by default the
        first two; of a chain zero_point and its own, by default zero_point and filter_shift. Without zero_point the
        magnitudes are taken as calibrated.
    band : str, optional
        Band of a chain.
    priors : mapping of str to float, optional
        Standard deviations of Gaussian priors about the start.
    free, roughness : float, optional
        Spacing [nm] of nodes at which the curve may change freely, and the prior of their second differences.
    clip : float, optional
        Leave out stars beyond so many standard deviations, deciding anew in every round.
    xp_errors : bool
        Add the errors of the spectra, where the input has them.
    instrument, extrapolate, allow_outside, correction
        As for `passband_system`; stars beyond the domain of a linear correction are left out.

    Returns
    -------
    PassbandFit
        Parameters with their covariance, and the curve.

    Raises
    ------
    XpjaxError
        If a parameter is unknown, arrays do not fit, or there are fewer stars than parameters.

    Notes
    -----
    chi2 = sum ((m + 2.5 log10(c r(p)) - zero_point) / error)^2 is minimized by Gauss-Newton steps with exact
    derivatives; the covariance is (J'J)^-1.

    Examples
    --------
    >>> stars, g = xpjax.simulate_sources(200, seed=1), xpjax.load_passbands("minisitian")["g"]
    >>> observed = xpjax.photometry(stars, g, errors=False)["g"] + 0.05
    >>> xpjax.fit_passband(stars, observed, 0.01, g, ("zero_point",)).converged
    True
    """
    model = instrument or load_instrument(release=(sources := as_sources(sources)).release)
    model = model if correction is None else model.corrected(correction)
    if isinstance(curve, str | os.PathLike):
        curve, band, label = find_start(curve, free is not None)
    else:
        label = curve.name
    start_band, warp, names, start = prepare_curve(curve, band, parameters, free)
    system = passband_system(start_band, instrument=model, extrapolate=extrapolate, allow_outside=allow_outside)
    stars = _observe(as_sources(sources, model.release), system, magnitude, error, xp_errors)
    counting = {"detector": start_band.detector, "magnitude": start_band.magnitude}
    operator = passband_operator(np.asarray(warp.grid), **counting, instrument=model, extrapolate=extrapolate or "none")
    fit = _model(stars, operator, warp, tuple(names), start, priors or {}, roughness, start_band.flux_zero_point)
    return dataclasses.replace(_finish(fit, stars.good, clip, start_band, system.correction), label=label)


@dataclasses.dataclass(frozen=True)
class _Stars:
    """What a fit is given of n stars: which are good, magnitudes and errors [mag], coefficients, level of the flux."""

    good: np.ndarray
    magnitude: np.ndarray
    sigma: np.ndarray
    coefficients: np.ndarray
    flux: np.ndarray
    correction: str


def _observe(table: SourceTable, system: PhotometricSystem, magnitude: Any, error: Any, xp_errors: bool) -> _Stars:
    """Stars with a magnitude, an error and an XP flux, within the domain of a correction."""
    n = len(table)
    magnitude, error = in_unit(magnitude, "mag", "magnitude"), in_unit(error, "mag", "error")
    magnitude = np.ma.filled(np.ma.asarray(magnitude, float), np.nan)
    sigma: np.ndarray = np.ma.filled(np.ma.asarray(error, float), np.nan)
    if magnitude.shape != (n,) or sigma.shape not in ((), (n,)):
        raise XpjaxError(f"expected {n} magnitudes and errors, one a source; found {magnitude.shape}, {sigma.shape}")
    sigma = np.broadcast_to(sigma, (n,))
    xp = photometry(table, system, errors=xp_errors, float64=True)
    good = np.isfinite(magnitude) & np.isfinite(sigma) & (sigma > 0) & np.isfinite(xp.magnitude[:, 0])
    good &= (xp.status & np.uint32(Status.OUTSIDE_TRAINING)) == 0
    if xp_errors and xp.magnitude_error is not None:
        known = np.isfinite(xp.magnitude_error[:, 0])
        good &= known
        sigma = np.hypot(sigma, np.where(known, xp.magnitude_error[:, 0], 0.0))
    coefficients = np.where(good[:, None], np.nan_to_num(table.coefficients.value.astype(float)), 0.0)
    return _Stars(good, magnitude, sigma, coefficients, xp.flux[:, 0], system.correction)


def _model(
    stars: _Stars,
    operator: PassbandOperator,
    warp: WarpedCurve | ChainCurve,
    names: tuple[str, ...],
    start: np.ndarray,
    priors: Mapping[str, float],
    roughness: float,
    zero_point: float,
) -> _Model:
    """All that the residuals need. Raises XpjaxError for too few stars and for priors that are none."""
    good = stars.good
    n_node = len(warp.nodes) if isinstance(warp, WarpedCurve) else 0
    k = len(names) + n_node
    if good.sum() <= k:
        domain = f", and are within the domain of the correction {stars.correction}"
        raise XpjaxError(
            f"{good.sum()} of {len(good)} stars have a magnitude, a positive error and an XP flux in the "
            f"band{'' if stars.correction == 'none' else domain}, too few for {k} parameters"
        )
    prior = np.zeros(k)
    for name, width in priors.items():
        if name not in names or not width > 0:
            raise XpjaxError(f"prior {name} = {width}: give a standard deviation above zero for one of {list(names)}")
        prior[names.index(name)] = 1 / width
    scale = 2.0 ** np.round(np.log2(np.median(np.abs(stars.flux[good]))))
    return _Model(
        warp,
        dataclasses.replace(operator, response=np.asarray(operator.response) / scale),
        stars.coefficients,
        np.where(good, stars.magnitude, 0.0),
        np.where(good, 1 / np.where(good, stars.sigma, 1.0), 0.0),
        np.concatenate([start, np.zeros(n_node)]),
        prior,
        np.asarray(1 / roughness),
        np.asarray(zero_point - 2.5 * np.log10(scale)),
        names,
        n_node,
    )


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
    with engine.precision(float64=True):
        change = np.asarray(_slope(solution.value, engine.cast(fit, np.dtype(float))))
    spread = np.sqrt(np.maximum(np.sum((change @ solution.covariance) * change, axis=1), 0.0))
    curve = np.clip(np.nan_to_num(curve), 0.0, None)
    # A curve that ran off its grid fits nothing: the start is given back, and said not to have converged.
    whole = bool(curve.max() > 0 and max(curve[0], curve[-1]) < 1e-2 * curve.max()) and fit.possible(solution.value)
    if not whole:
        curve, spread = start, np.full_like(spread, np.nan)
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
        start=np.clip(start, 0.0, None)[part],
        transmission_error=spread[part] / max(values.max(), 1.0),
    )
