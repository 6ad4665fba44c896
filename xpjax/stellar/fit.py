"""Stellar labels from spectra: chi2 on a grid of models, all stars in one batch, with covariance and status.

With the mean-normalised flux O, its inverse variances W and the model N(x) = G t(x), t = (1, a(x)) q,

    chi2(x) = (O - G t)' W (O - G t) + sum_l ((x_l - prior_l) / sigma_l)^2

where G holds the mean spectrum and the principal components of the grid (Allende Prieto et al. 2006 fit pixels; here
M = G'WG and G'WO are made once per star, and no iteration touches a pixel). q is one, or what normalises the model
over the same samples as the data, or fitted: an amplitude, and Legendre polynomials of the wavelength.

A search of all nodes and the places halfway finds the starts, the best one and the best outside its neighbourhood;
from there Levenberg-Marquardt steps, of half a cell at most, on labels bounded by the grid. Their number is fixed, so
that stars do not wait for each other, and the start that led deepest, in pixels, is polished.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from xpjax.core import engine
from xpjax.core.errors import XpjaxError
from xpjax.core.linalg import dot, unpack
from xpjax.core.records import AnyArray, Catalogue, Record
from xpjax.core.status import FitStatus
from xpjax.core.units import in_unit
from xpjax.extinction import AV_PER_SFD, extinction_curve
from xpjax.stellar.grid import StellarGrid
from xpjax.stellar.interpolation import COMPONENTS, Interpolator, interpolator, model_spectra
from xpjax.stellar.libraries import UNITS

NORMALISATIONS = ("mean", "scale")
DEVIANT = 0.05
"""Samples that differ from the model by more, in normalised flux, are counted by dflux_per (Ye et al. 2024)."""
SCAN_COMPONENTS = 8
"""Components in the search for starts: enough to tell valleys apart, at a fraction of the cost of all."""
FIRST_COMPONENTS = 16
"""Components in the steps from each start."""
SCAN_PLACES = 4096
"""Places searched at most."""
STEPS, STEPS_ON, MORE_ROUNDS = 4, 7, 8
"""Steps from each start, further ones from the best, and rounds of these for the few stars that need more."""
DAMPING, LESS, MORE = 0.03, 0.2, 4.0
"""Damping of the first step, relative to the diagonal; its factors after steps that lower chi2, or do not."""
BLOCK = 66
"""Size of the blocks in which full covariances are decomposed: the best of 24..110 on a CPU."""
LONGEST_STEP = 0.5
"""The longest step, in cells of the grid."""
CONVERGED = 0.01
"""A fit has converged where a Newton step would lower chi2 by less: the labels are within 0.1 sigma of the minimum.

Where models fit worse than the errors say, by less times chi2 / dof: as if the errors were what the residuals are."""


@dataclasses.dataclass(frozen=True, repr=False)
class StellarFit(Record):
    """Labels of many stars, on the host.

    labels (n, n_label) in the order of names; covariance (n, n_label, n_label) from the Hessian, NaN for a label held
    at the edge of the grid; chi2 (n,) without priors; dof (n,); dflux_per (n,): percent of the samples used where data
    and model differ by more than 0.05 (NaN for XP coefficients); status (n,) uint32, bits of `FitStatus`; flux
    (n, n_wavelength): the best model, mean-normalised as the data, or None.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    covariance: np.ndarray
    chi2: np.ndarray
    dof: np.ndarray
    dflux_per: np.ndarray
    status: np.ndarray
    flux: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def with_rows(self, rows: np.ndarray, other: StellarFit) -> StellarFit:
        """These fits with those of some rows taken from another."""
        columns = {}
        for field in dataclasses.fields(self)[1:]:
            values, new = getattr(self, field.name), getattr(other, field.name)
            if values is not None:
                values = np.array(values)
                values[rows] = new
            columns[field.name] = values
        return StellarFit(self.names, **columns)

    @property
    def error(self) -> np.ndarray:
        """Standard errors (n, n_label); NaN for a label held at the edge of the grid."""
        with np.errstate(invalid="ignore"):  # of fits that have not converged
            return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    def catalogue(self, source_id: np.ndarray, keep: Mapping[str, np.ndarray] | None = None) -> Catalogue:
        """The fits as a table: labels, errors, covariances, chi2, dof, dflux_per and fit_status; keep: more columns."""
        columns: dict[str, np.ndarray] = {"source_id": source_id}
        columns |= {name: self.labels[:, i] for i, name in enumerate(self.names)}
        columns |= {f"{name}_error": self.error[:, i] for i, name in enumerate(self.names)}
        for (i, a), (j, b) in itertools.combinations(enumerate(self.names), 2):
            columns[f"{a}_{b}_covariance"] = self.covariance[:, i, j]
        columns |= {"chi2": self.chi2, "dof": self.dof, "dflux_per": self.dflux_per}
        descriptions = {
            "chi2": "Sum of squared residuals over errors, without priors",
            "dof": "Samples used minus parameters fitted",
            "dflux_per": f"Percent of samples where normalised data and model differ by more than {DEVIANT}",
            "fit_status": FitStatus.legend(),
        }
        units = {"teff": "K", "teff_error": "K", "logg": "dex", "logg_error": "dex", "mh": "dex", "mh_error": "dex"}
        units |= {"ebv": "mag", "ebv_error": "mag", "dflux_per": "%"}
        table = Catalogue(columns, {k: u for k, u in units.items() if k in columns}, descriptions)
        return table.with_columns(keep or {}, {"fit_status": self.status})


# --- one star ---------------------------------------------------------------------------------------------------------


class _Options(NamedTuple):
    """What the kernel is made for."""

    scale: bool
    n_continuum: int
    starts: int
    spectra: bool
    of_coefficients: bool


class _Star(eqx.Module):
    """One star: flux and error (n_wavelength,), and what else there is of it."""

    flux: Float[AnyArray, " n_wavelength"]
    error: Float[AnyArray, " n_wavelength"]
    correlation: Float[AnyArray, " n_pair"] | None
    used: Bool[AnyArray, " n_wavelength"] | None
    ebv: Float[AnyArray, ""] | None
    prior: Float[AnyArray, " n_label"] | None
    prior_weight: Float[AnyArray, " n_label"] | None
    """One over the sigma of the prior; zero where there is none."""


class _Search(eqx.Module):
    """Places searched for starts: labels, their numbers along each label, t, and what products of it are summed."""

    labels: Float[AnyArray, "n_place n_label"]
    index: tuple[Float[AnyArray, " n_place"], ...]
    t: Float[AnyArray, "n_place n_component_and_1"]
    linear: Float[AnyArray, "n_scan n_place"]
    square: Float[AnyArray, "n_scan_triangle n_place"]
    """Products of the rows of linear, those below the diagonal twice."""


class _Model(eqx.Module):
    """What all stars share: the grid, G, the products of its columns, and the places searched for starts."""

    grid: Interpolator
    columns: Float[AnyArray, "n_column n_wavelength"]
    products: Float[AnyArray, "n_wavelength n_column_squared"]
    search: _Search
    exponent: Float[AnyArray, " n_wavelength"]
    error_floor: Float[AnyArray, ""]
    rounds: Int[AnyArray, ""]
    """Rounds of steps from the best start; a number of the data, so that more of them need no second program."""


class _Data(NamedTuple):
    """Normalised data (n,), rows (n_column, n) that model them, weights (n,): chi2 = sum weight (value - t rows)^2."""

    value: Array
    rows: AnyArray
    weight: Array

    def chi2(self, t: Array) -> Array:
        return jnp.sum(self.weight * (self.value - dot(t, self.rows)) ** 2)

    def gradient(self, t: Array) -> Array:
        """G'W(O - G t)."""
        return dot(self.weight * (self.value - dot(t, self.rows)), self.rows.T)


class _Point(NamedTuple):
    """Labels (n_label,), amplitudes (n_amplitude,), and there: t, the sum of squares from a reference on, its downhill
    slope and curvature with respect to labels in cells and amplitudes, and the lengths of the cells."""

    labels: Array
    amplitude: Array
    t: Array
    value: Array
    slope: Array
    curvature: Array
    length: Array


def _solve(matrix: Array, right: Array) -> Array:
    """matrix^-1 right, (k, k) and (k, m), for a positive definite matrix, by Gauss-Jordan elimination written out.

    XLA's own solvers, batched on a CPU, take longer than the rest of a step.
    """
    scale = jax.lax.rsqrt(jnp.maximum(jnp.diagonal(matrix), jnp.finfo(matrix.dtype).tiny))[:, None]
    table = jnp.concatenate([matrix * scale * scale.T, right * scale], axis=1)
    for i in range(len(matrix)):
        pivot = table[i] / table[i, i]
        table = (table - table[:, i : i + 1] * pivot).at[i].set(pivot)
    return table[:, len(matrix) :] * scale


def _free(model: _Model, point: _Point) -> Array:
    """Which parameters may move (n_label + n_amplitude,), 1 or 0: not labels that are drawn beyond their bounds."""
    n_label = len(point.labels)
    slope = point.slope[:n_label]
    held = ((point.labels <= model.grid.low) & (slope < 0)) | ((point.labels >= model.grid.high) & (slope > 0))
    return jnp.concatenate([jnp.where(held, 0.0, 1.0), jnp.ones(len(point.amplitude))]).astype(slope.dtype)


def _change(point: _Point, free: Array, damping: Any, right: Array) -> Array:
    """Damped Newton steps (k, m) for downhill slopes (k, m); zero for parameters that are not free."""
    own = jnp.diag(jnp.diagonal(point.curvature) * damping * free + 1 - free)
    matrix = point.curvature * free[:, None] * free[None, :] + own
    return _solve(matrix, right * free[:, None]) * free[:, None]


def _moved(model: _Model, point: _Point, change: Array) -> tuple[Array, Array]:
    """Labels and amplitudes after a step, cut to half a cell and to the grid."""
    n_label = len(point.labels)
    longest = jnp.max(jnp.abs(change[:n_label]))
    change = change * jnp.where(longest > LONGEST_STEP, LONGEST_STEP / longest, 1)
    change = jnp.where(jnp.isfinite(change), change, 0)
    labels = jnp.clip(point.labels + change[:n_label] * point.length, model.grid.low, model.grid.high)
    return labels, point.amplitude + change[n_label:]


@functools.cache
def fit_kernel(options: _Options) -> engine.Kernel:
    """The kernel (_Model, _Star) -> labels, covariance, chi2, dof, dflux_per, status and flux of one star."""

    def kernel(model: _Model, star: _Star) -> dict[str, Array]:
        n_label = len(model.grid.nodes)
        used = jnp.ones(star.flux.shape, bool) if star.used is None else jnp.asarray(star.used)
        n_used = jnp.sum(used, dtype=star.flux.dtype)
        flux, error = jnp.asarray(star.flux), jnp.asarray(star.error)
        if star.ebv is not None:
            dust = jnp.exp(star.ebv * model.exponent)
            flux, error = flux * dust, error * dust
        mean = jnp.sum(jnp.where(used, flux, 0)) / n_used
        if options.of_coefficients:  # no mean to speak of; the amplitude is fitted, and this is for the numerics
            mean = jnp.max(jnp.where(used, jnp.abs(flux), 0))
        variance = (error / mean) ** 2 + (model.error_floor * flux / mean) ** 2
        good = jnp.isfinite(flux) & jnp.isfinite(variance) & (variance > 0)
        enough = n_used > n_label + max(options.n_continuum, 1)
        usable = jnp.all(good | ~used) & (mean > 0) & enough
        # A star that cannot be used is fitted as an average model, so that its numbers are harmless.
        average = model.columns[0]
        value = jnp.where(usable & used, flux / mean, average)
        weight = jnp.where(usable, jnp.where(used, 1 / variance, 0), 1)
        data = _Data(value, model.columns, weight)
        if star.correlation is None:
            matrix = dot(weight, model.products).reshape(len(model.columns), -1)
        else:
            sigma = jnp.where(usable, error / mean, 0)
            floor = jnp.where(usable, (model.error_floor * value) ** 2, 1)
            data = _whitened(data, jnp.asarray(star.correlation), sigma, floor, used)
            usable &= jnp.all(jnp.isfinite(data.value))
            matrix = dot(data.rows, data.rows.T)
        data_product = dot(data.weight * data.value, data.rows.T)

        norm = None  # what averages the model over the samples used; its own mean is one
        if star.used is not None and not options.scale:
            norm = dot(used / n_used, model.columns.T)

        def vector(labels: Array, amplitude: Array, few: int | None = None) -> tuple[Array, Array, Array, Array]:
            """t, its derivatives with respect to labels in cells and amplitudes, the cells' lengths, and if inside.

            few: only so many of its entries.
            """
            place = model.grid.locate(labels)
            grid = dataclasses.replace(model.grid, coefficient=model.grid.coefficient[..., : few and few - 1])
            a = grid.components(labels, place)
            a = jnp.concatenate([jnp.eye(n_label + 1, 1, dtype=a.dtype), a], axis=1)
            t, slopes = a[0], a[1:]
            if options.scale:
                by_amplitude = jax.scipy.linalg.block_diag(*[t[None]] * options.n_continuum)
                by_label = (slopes[:, None, :] * amplitude[:, None]).reshape(n_label, -1)
                return (
                    dot(amplitude, by_amplitude),
                    jnp.concatenate([by_label, by_amplitude]),
                    place.length,
                    place.inside,
                )
            if norm is not None:
                total = dot(norm[:few], t)
                t = t / total
                slopes = (slopes - t * dot(slopes, norm[:few])[:, None]) / total
            return t, slopes, place.length, place.inside

        def prior(labels: Array) -> tuple[Array, Array]:
            """Deviations from the prior in sigmas, and one over the sigmas (n_label,)."""
            if star.prior is None or star.prior_weight is None:
                return jnp.zeros_like(labels), jnp.zeros_like(labels)
            return (labels - star.prior) * star.prior_weight, jnp.asarray(star.prior_weight)

        def look(labels: Array, amplitude: Array, t0: Array, gradient0: Array) -> _Point:
            """The sum of squares at a point less that at t0, where its gradient is known: rounding hardly counts."""
            few = len(t0)
            t, slopes, length, inside = vector(labels, amplitude, few)
            rows = jnp.concatenate([(t - t0)[None], slopes])
            curved = dot(dot(rows, matrix[:few, :few]), rows.T)
            falling = dot(rows, gradient0) - curved[0]
            off, weight = prior(labels)
            weight = weight * length
            pad = (0, len(amplitude))
            sum_ = jnp.sum(off**2) - curved[0, 0] - 2 * falling[0]
            slope = falling[1:] - jnp.pad(off * weight, pad)
            curvature = curved[1:, 1:] + jnp.diag(jnp.pad(weight**2, pad))
            return _Point(labels, amplitude, t, jnp.where(inside, sum_, jnp.inf), slope, curvature, length)

        def climb(labels: Array, amplitude: Array, t0: Array, gradient0: Array, steps: int) -> _Point:
            """Down from a point, a fixed number of steps: each judges the one tried last and takes the next.

            t0 is near the point, and gradient0 is G'W(O - G t0); where they are short, so is t.
            """

            def step(_: Any, state: Any) -> Any:
                best, tried, damping = state
                new = look(tried[0], tried[1], t0, gradient0)
                better = new.value < best.value
                best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best)
                damping = damping * jnp.where(better, LESS, MORE)
                change = _change(best, _free(model, best), damping, best.slope[:, None])[:, 0]
                return best, _moved(model, best, change), damping

            nowhere = jax.eval_shape(look, labels, amplitude, t0, gradient0)
            worst: _Point = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), nowhere)
            worst = worst._replace(value=jnp.full_like(worst.value, jnp.inf))
            state = (worst, (labels, amplitude), jnp.full_like(worst.value, DAMPING / LESS))
            return jax.lax.fori_loop(0, steps, step, state)[0]

        starts, amplitudes, near = _starts(model, options, matrix, data_product, norm, prior)
        gradients = data_product - dot(near, matrix)
        few = len(model.columns) if options.n_continuum > 1 else FIRST_COMPONENTS + 1
        climb_first = functools.partial(climb, steps=STEPS)
        found = jax.vmap(climb_first)(starts, amplitudes, near[:, :few], gradients[:, :few])
        reached = jnp.pad(found.t, ((0, 0), (0, near.shape[1] - found.t.shape[1])))
        depth = jax.vmap(lambda t, x: data.chi2(t) + jnp.sum(prior(x)[0] ** 2))(reached, found.labels)
        deepest, t = jax.tree.map(lambda a: a[jnp.argmin(depth)], (found, reached))

        def climb_on(_: Any, point: _Point) -> _Point:
            """Further down, measured anew from here: sums of squares far from their reference are rounded too much."""
            return climb(point.labels, point.amplitude, point.t, data.gradient(point.t), STEPS_ON)

        shape = jax.eval_shape(climb, deepest.labels, deepest.amplitude, t, t, STEPS_ON)
        blank: _Point = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shape)
        begin = blank._replace(labels=deepest.labels, amplitude=deepest.amplitude, t=t)
        best = jax.lax.fori_loop(0, model.rounds, climb_on, begin)

        free = _free(model, best)
        identity = jnp.eye(len(free), dtype=free.dtype)
        inverse = _change(best, free, 0.0, identity)
        newton = dot(inverse, best.slope)
        chi2, dof = data.chi2(best.t), n_used - n_label - max(options.n_continuum, 1)
        converged = dot(best.slope * free, newton) < CONVERGED * jnp.maximum(1, chi2 / dof)
        inside = model.grid.locate(_moved(model, best, newton)[0]).inside
        held = (best.labels <= model.grid.low) | (best.labels >= model.grid.high)
        status = jnp.where(jnp.any(held), FitStatus.EDGE, FitStatus.OK)
        stuck = jnp.where(inside, FitStatus.NO_CONVERGENCE, FitStatus.HOLE)
        status = jnp.where(usable, status | jnp.where(converged, FitStatus.OK, stuck), FitStatus.BAD_INPUT)

        known = jnp.where(usable, 1, jnp.nan)
        certain = jnp.where(free[:n_label] > 0, best.length, jnp.nan)
        fitted = dot(best.t, model.columns)
        deviant = jnp.sum(used & (jnp.abs(value - fitted) > DEVIANT), dtype=known.dtype)
        result = {
            "labels": best.labels * known,
            "covariance": inverse[:n_label, :n_label] * certain[:, None] * certain * known,
            "chi2": chi2 * known,
            "dof": dof.astype(jnp.int32),
            "dflux_per": 100 * deviant / n_used * (known if not options.of_coefficients else jnp.nan),
            "status": status.astype(jnp.uint32),
        }
        return {**result, "flux": fitted * known} if options.spectra else result

    return kernel


def _whitened(data: _Data, correlation: Array, sigma: Array, floor: Array, used: Array) -> _Data:
    """Data and rows in which the noise is one and uncorrelated, for the covariance sigma R sigma + floor.

    Samples that are not used have no covariance with others and no model.
    """
    sigma = jnp.where(used, sigma, 0)
    covariance = unpack(correlation, len(sigma)) * sigma[:, None] * sigma[None, :]
    # Where sigma is zero nothing may leak in from correlations that are not finite.
    covariance = jnp.where(sigma[:, None] * sigma[None, :] > 0, covariance, 0)
    covariance = covariance + jnp.diag(jnp.where(used, floor, 1))
    rows = jnp.where(used, jnp.concatenate([data.value[None], data.rows]), 0)
    white = _divided_by_root(covariance, rows.T).T
    return _Data(white[0], white[1:], jnp.ones_like(white[0]))


def _divided_by_root(matrix: Array, columns: Array) -> Array:
    """L^-1 columns (n, m) with L L' = matrix (n, n), block by block; NaN where it is not positive definite.

    Products of matrices do the work: the LAPACK that XLA calls for every matrix of a batch starts threads for each,
    which trip over each other, and over those of the engine, on a busy machine.
    """
    table, done = jnp.concatenate([matrix, columns], axis=1), []
    while len(table):
        size = min(BLOCK, len(table))
        part = dot(_inverse_root(table[:size, :size]), table[:size, size:])
        rest = len(table) - size
        done.append(part[:, rest:])
        table = table[size:, size:] - dot(part[:, :rest].T, part)
    return jnp.concatenate(done)


def _inverse_root(matrix: Array) -> Array:
    """L^-1 (n, n) with L L' = matrix, by elimination."""
    n = len(matrix)
    number = jnp.arange(n)

    def eliminate(i: Any, table: Array) -> Array:
        return table - jnp.where(number > i, table[:, i] / table[i, i], 0)[:, None] * table[i]

    table = jax.lax.fori_loop(0, n, eliminate, jnp.concatenate([matrix, jnp.eye(n, dtype=matrix.dtype)], axis=1))
    return table[:, n:] * jax.lax.rsqrt(jnp.diagonal(table))[:, None]


def _starts(
    model: _Model,
    options: _Options,
    matrix: Array,
    data_product: Array,
    norm: Array | None,
    prior: Callable[[Array], tuple[Array, Array]],
) -> tuple[Array, Array, Array]:
    """Labels (n_start, n_label), amplitudes (n_start, n_continuum) and t of the best places, each away from others."""
    search = model.search
    n = len(search.linear)
    triangle = matrix[np.tril_indices(n)]
    if options.scale or norm is not None:
        square, linear = dot(triangle, search.square), dot(data_product[:n], search.linear)
        amplitude = linear / square if norm is None else 1 / dot(norm[:n], search.linear)
        value = amplitude * (amplitude * square - 2 * linear)
    else:  # one product is half the time
        both = jnp.concatenate([jnp.asarray(search.square), jnp.asarray(search.linear)])
        value = dot(jnp.concatenate([triangle, -2 * data_product[:n]]), both)
        amplitude = jnp.ones_like(value)
    value = value + jnp.sum(prior(jnp.asarray(search.labels))[0] ** 2, axis=-1)
    number = jnp.arange(value.shape[0], dtype=value.dtype)
    chosen = []
    for _ in range(options.starts):
        # What argmin does, in two passes that XLA makes vectors of on a CPU: five times faster.
        best = jnp.min(jnp.where(value <= jnp.min(value), number, value.shape[0] - 1)).astype(jnp.int32)
        chosen.append(best)
        near = [jnp.abs(index - index[best]) <= 1 for index in map(jnp.asarray, search.index)]
        value = jnp.where(functools.reduce(jnp.logical_and, near), jnp.inf, value)
    rows = jnp.stack(chosen)
    t = jnp.asarray(search.t)[rows] * amplitude[rows][:, None]
    t = jnp.pad(t, ((0, 0), (0, len(matrix) - t.shape[1])))
    amplitudes = jnp.pad(amplitude[rows][:, None], ((0, 0), (0, max(options.n_continuum - 1, 0))))
    return jnp.asarray(search.labels)[rows], amplitudes[:, : options.n_continuum], t


# --- many stars -------------------------------------------------------------------------------------------------------


def fit_labels(
    flux: Any,
    error: Any,
    model: Interpolator | StellarGrid,
    *,
    correlation: Any = None,
    error_floor: float = 0.0,
    normalisation: str = "mean",
    continuum_order: int = 0,
    ebv: Any = None,
    law: str = "ccm89",
    per_ebv: float = AV_PER_SFD,
    priors: Mapping[str, tuple[Any, Any]] | None = None,
    used: Any = None,
    starts: int = 3,
    spectra: bool = False,
    float64: bool = False,
    devices: Any = None,
    progress: engine.Progress | None = None,
) -> StellarFit:
    """Fit labels to spectra (n, n_wavelength), sampled at the wavelengths of the grid, in any unit of flux.

    error (n, n_wavelength): standard errors in the unit of flux. correlation (n, n_pair): correlations between
    samples, packed as by `spectra(..., correlation=True)`; they want an error_floor, for XP has fewer coefficients
    than samples. error_floor: fraction of the flux that is added to errors in quadrature. normalisation "mean" divides
    data and model by their means over the samples used; "scale" fits the amplitude, with a polynomial of
    continuum_order in wavelength. ebv (n,): E(B-V) that the data are freed from first, by `law` and A_V = per_ebv
    E(B-V); to fit it, give `redden(grid, nodes)` as the model. priors: label -> (mean, sigma), numbers or (n,); NaN for
    none. used, (n_wavelength,) or (n, n_wavelength) bool: samples that count. starts: how many valleys are descended.
    spectra: also return the best models. devices: see `engine.find_devices`.

    Raises ValueError where shapes or names do not fit. A star that cannot be fitted is NaN, with BAD_INPUT in its
    status: a sample that is used and not finite, errors that are not positive, a mean flux that is not, or no E(B-V).
    """
    grid = model if isinstance(model, Interpolator) else interpolator(model)
    names, n_wavelength = grid.names, len(grid.wavelength)
    flux = _plain(flux)
    if flux.ndim != 2 or flux.shape[1] != n_wavelength:
        raise XpjaxError(f"flux must be (n, {n_wavelength}) at the wavelengths of the grid, found {flux.shape}")
    n = len(flux)
    _check_options(normalisation, continuum_order, starts, error_floor)
    if grid.of_coefficients and (normalisation != "scale" or continuum_order or ebv is not None):
        raise XpjaxError("XP coefficients are fitted with normalisation='scale', without a continuum and without ebv")
    star = _Star(
        flux,
        _rows("error", error, flux.shape),
        None if correlation is None else _rows("correlation", correlation, (n, n_wavelength * (n_wavelength - 1) // 2)),
        None if used is None else _rows("used", used, flux.shape).astype(bool),
        None if ebv is None else _rows("ebv", in_unit(ebv, "mag", "E(B-V)"), (n,)),
        *_priors(priors, names, n),
    )
    scale = normalisation == "scale"
    options = _Options(scale, (continuum_order + 1) * scale, starts, spectra, grid.of_coefficients)
    exponent = np.zeros(n_wavelength)
    if ebv is not None:
        exponent = 0.4 * np.log(10.0) * per_ebv * extinction_curve(np.asarray(grid.wavelength), law)
    shared = _prepare(grid, max(options.n_continuum, 1), exponent, error_floor)
    size = _work_bytes(shared, starts, correlation is not None) * (1 + float64)
    rows = engine.rows_of_batch(n, size, devices)
    settings: dict[str, Any] = {"float64": float64, "devices": devices, "batch_rows": rows}
    out = engine.run(fit_kernel(options), shared, star, progress=progress, **settings)
    # Few stars need more steps: along edges of the grid, in long valleys. The same program does them.
    again = np.flatnonzero(out["status"] & FitStatus.NO_CONVERGENCE)
    if len(again):
        shared = dataclasses.replace(shared, rounds=np.asarray(MORE_ROUNDS, np.int32))
        rest = jax.tree.map(lambda x: x[again], star)
        for name, values in engine.run(fit_kernel(options), shared, rest, **settings).items():
            out[name][again] = values
    return StellarFit(names, **out)


def _plain(array: Any) -> np.ndarray:
    """Floats on the host, with NaN for masked entries."""
    array = np.ma.filled(np.ma.asarray(array, float), np.nan) if np.ma.isMaskedArray(array) else np.asarray(array)
    return array if np.issubdtype(array.dtype, np.floating) else array.astype(float)


def _rows(name: str, array: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape, one row a star; one row may stand for all."""
    array = np.asarray(array) if name == "used" else _plain(array)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise XpjaxError(f"{name} must be {shape}, one row a star, found {array.shape}") from None


def _check_options(normalisation: str, continuum_order: int, starts: int, error_floor: float) -> None:
    if normalisation not in NORMALISATIONS:
        raise XpjaxError(f"no normalisation {normalisation!r}; choose from {NORMALISATIONS}")
    if continuum_order < 0 or (continuum_order and normalisation != "scale"):
        raise XpjaxError(f"continuum_order={continuum_order}: a continuum is fitted with normalisation='scale' only")
    if starts < 1:
        raise XpjaxError(f"starts={starts}: at least one is needed")
    if not error_floor >= 0:
        raise XpjaxError(f"error_floor={error_floor}: give a fraction of the flux, zero or more")


def _priors(
    priors: Mapping[str, tuple[Any, Any]] | None, names: tuple[str, ...], n: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Means and inverse sigmas (n, n_label); zero where there is no prior."""
    if not priors:
        return None, None
    unknown = [name for name in priors if name not in names]
    if unknown:
        raise XpjaxError(f"no labels {unknown} in the grid; it has {names}")
    mean, inverse = np.zeros((n, len(names))), np.zeros((n, len(names)))
    for name, (center, sigma) in priors.items():
        center, sigma = (in_unit(x, UNITS.get(name, ""), f"prior of {name}") for x in (center, sigma))
        center, sigma = _rows(f"prior of {name}", center, (n,)), _rows(f"sigma of {name}", sigma, (n,))
        if np.any(sigma <= 0):
            raise XpjaxError(f"the prior of {name} has a sigma that is not positive; hold no label fixed that way")
        known = np.isfinite(center) & np.isfinite(sigma)
        column = names.index(name)
        mean[known, column], inverse[known, column] = center[known], 1 / sigma[known]
    return mean, inverse


def _prepare(grid: Interpolator, n_continuum: int, exponent: np.ndarray, error_floor: float) -> _Model:
    """The constants of the kernel, on the host in float64."""
    wavelength = np.asarray(grid.wavelength, float)
    x = 2 * (wavelength - wavelength[0]) / (wavelength[-1] - wavelength[0]) - 1
    own = np.concatenate([grid.mean[None], grid.basis])
    columns = np.concatenate([np.polynomial.Legendre.basis(k)(x) * own for k in range(n_continuum)])
    products = (columns[:, None] * columns).reshape(-1, len(wavelength)).T
    numbers = np.asarray(float(error_floor)), np.asarray(1, np.int32)
    return _Model(grid, columns, products, _search(_Same(grid)), exponent, *numbers)


@dataclasses.dataclass(frozen=True)
class _Same:
    """A grid that is equal to itself only: a key to what was made of it."""

    grid: Interpolator

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.grid is other.grid

    def __hash__(self) -> int:
        return id(self.grid)


@functools.lru_cache(maxsize=4)  # a survey's pieces are fitted one after the other on one grid
def _search(key: _Same) -> _Search:
    labels, index = _places(key.grid)
    a = engine.run(_component_kernel, key.grid, labels, float64=True)
    whole = np.concatenate([np.ones((len(labels), 1)), a], axis=1)
    t = whole[:, : SCAN_COMPONENTS + 1]
    i, j = np.tril_indices(t.shape[1])
    square = t[:, i] * t[:, j] * np.where(i == j, 1, 2)
    return _Search(labels, index, whole, t.T, square.T)


def _component_kernel(grid: Interpolator, labels: Array) -> Array:
    return grid.components(labels, grid.locate(labels))[0]


def _places(grid: Interpolator) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Labels (n_place, n_label) of the places searched for starts, and their numbers along each label."""
    # What one step from node to node changes, in the median: the labels that matter most are searched most finely.
    steps = [np.diff(grid.coefficient, axis=label) for label in range(len(grid.nodes))]
    change = [np.sqrt(np.median(np.sum(step**2, axis=-1))) for step in steps]
    parts = np.zeros(len(change), int)  # steps are divided by 2^parts

    def lines(parts: np.ndarray) -> list[np.ndarray]:
        return [_subdivided(np.asarray(x), int(k)) for x, k in zip(grid.nodes, parts, strict=True)]

    def number(parts: np.ndarray) -> float:
        return float(np.prod([float(len(x)) for x in lines(parts)]))

    one = np.eye(len(change), dtype=int)
    while number(parts) > SCAN_PLACES and any(len(x) > 2 for x in lines(parts)):
        least = [c / 2.0**k if len(x) > 2 else np.inf for c, k, x in zip(change, parts, lines(parts), strict=True)]
        parts = parts - one[np.argmin(least)]
    while number(finer := parts + one[np.argmax(change / 2.0**parts)]) <= SCAN_PLACES:
        parts = finer
    places = lines(parts)
    index = np.stack(np.meshgrid(*[np.arange(len(line)) for line in places], indexing="ij"), axis=-1)
    index = index.reshape(-1, len(places)).astype(np.int32)
    labels = np.stack([line[k] for line, k in zip(places, index.T, strict=True)], axis=1)
    cell = tuple(
        np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2)
        for nodes, x in zip(grid.nodes, labels.T, strict=True)
    )
    whole = np.asarray(grid.whole)[cell]
    return labels[whole], tuple(index[whole].T.astype(float))


def _subdivided(x: np.ndarray, k: int) -> np.ndarray:
    """Nodes with their steps divided by 2^k; for negative k every 2^-k th node, and the last."""
    if k < 0:
        return x[np.unique(np.append(np.arange(0, len(x), 2**-k), len(x) - 1))]
    share = np.arange(2**k) / 2**k
    return np.append((x[:-1, None] + np.diff(x)[:, None] * share).reshape(-1), x[-1])


def _work_bytes(model: _Model, starts: int, correlated: bool) -> int:
    """Size of the intermediates of one star in float32."""
    n_column, n_wavelength = model.columns.shape
    numbers = 2 * len(model.search.labels) + 2 * n_column**2 + starts * model.grid.block_size + 6 * n_wavelength
    return 4 * (numbers + correlated * n_wavelength * (4 * n_wavelength + n_column))


# --- how far the grid itself can be trusted ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class InterpolationError:
    """What fits are wrong by when nodes are missing: row by label along which they were left out, column by label.

    rms (n_label, n_label) in units of the labels, NaN where no node of a label could be left out; count (n_label,):
    spectra fitted; flux_rms (n_label,): of interpolated minus true spectra, mean-normalised. own (n_label,): the same
    at the grid's own spacing, all rows in quadrature: a left-out node doubles the step, and the error of the
    interpolation goes with the power `order` of it, 2 to 4 as nodes allow.
    """

    names: tuple[str, ...]
    rms: np.ndarray
    count: np.ndarray
    flux_rms: np.ndarray
    order: np.ndarray

    @property
    def own(self) -> np.ndarray:
        """Expected error (n_label,) at the grid's own spacing."""
        return np.sqrt(np.nansum((self.rms / 2.0 ** self.order[:, None]) ** 2, axis=0))


def interpolation_error(
    grid: StellarGrid, *, kind: str = "local", components: int | None = COMPONENTS, **settings: Any
) -> InterpolationError:
    """Leave out the nodes of each label in turn, fit their spectra with what remains, and compare the labels.

    kind and components: see `interpolator`. settings go to `fit_stars`; errors are one percent of the flux. Spectra
    at edges of the grid are not fitted. A systematic to be quoted beside the formal errors: the same for all stars of
    a kind, whatever their noise.
    """
    n_label = len(grid.names)
    rms, flux_rms = np.full((n_label, n_label), np.nan), np.full(n_label, np.nan)
    count, order = np.zeros(n_label, int), np.zeros(n_label)
    for label, nodes in enumerate(grid.nodes):
        off, wrong = [], []
        order[label] = 2 if kind == "linear" else min(len(nodes) - 1, 4)
        for left in range(1, len(nodes) - 1):
            keep = np.delete(np.arange(len(nodes)), left)
            rest = dataclasses.replace(
                grid,
                nodes=tuple(np.asarray(x)[keep] if i == label else x for i, x in enumerate(grid.nodes)),
                flux=np.take(np.asarray(grid.flux), keep, axis=label),
                filled=None,
            )
            try:
                model = interpolator(rest, kind=kind, components=components)
            except ValueError:  # nothing whole remains around these holes
                continue
            inner = [x[1:-1] if i != label else x[left : left + 1] for i, x in enumerate(grid.nodes)]
            truth = np.stack([x.ravel() for x in np.meshgrid(*inner, indexing="ij")], axis=1)
            place = (*(slice(1, -1) if i != label else slice(left, left + 1) for i in range(n_label)), slice(None))
            flux = np.asarray(grid.flux)[place].reshape(len(truth), -1)
            there = np.isfinite(flux).all(axis=1)
            truth, flux = truth[there], flux[there]
            fit = fit_labels(flux, 0.01 * flux, model, **settings)
            good = fit.status == FitStatus.OK
            off.append((fit.labels - truth)[good])
            wrong.append((model_spectra(model, truth, float64=True) - flux)[good])
        found = np.concatenate(off) if off else np.empty((0, n_label))
        count[label] = len(found)
        if len(found):
            rms[label] = np.sqrt(np.mean(found**2, axis=0))
            flux_rms[label] = np.sqrt(np.nanmean(np.concatenate(wrong) ** 2))
    return InterpolationError(grid.names, rms, count, flux_rms, order)
