"""The fit of one star: chi2 on a grid of models, searched for starts and descended by Levenberg-Marquardt steps.

With the normalized flux O, its inverse variances W and the model N(x) = G t(x), t = (1, a(x)) q,

    chi2(x) = (O - G t)' W (O - G t) + sum_l ((x_l - prior_l) / sigma_l)^2

where G holds the mean spectrum and the principal components of the grid (Allende Prieto et al. 2006 fit pixels; here
M = G'WG and G'WO are made once per star, and no iteration touches a pixel). q is one, or what normalizes the model
over the same samples as the data, or fitted: an amplitude, and Legendre polynomials of the wavelength.

A search of all nodes and the places halfway finds the starts, the best one and the best outside its neighborhood;
from there Levenberg-Marquardt steps, of half a cell at most, on labels bounded by the grid. Their number is fixed, so
that stars do not wait for each other, and the start that led deepest, in pixels, is polished.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from xpjax.core import engine
from xpjax.core.linalg import IN_BOUNDS, dot
from xpjax.core.records import AnyArray
from xpjax.core.status import FitStatus
from xpjax.stellar.chi2 import Data, Part, Reach, Seen, Spread, correlated, least_squares, triangle_places, whitened
from xpjax.stellar.doubt import Doubted, doubted
from xpjax.stellar.interpolation import Interpolator
from xpjax.stellar.search import Search, find_starts
from xpjax.xp import XPCoefficients

LEAST_FLUX = 0.01
"""Part of the mean flux below which the error floor of correlated samples falls no further: they need some."""
DEVIANT = 0.05
"""Samples that differ from the model by more, in normalized flux, are counted by dflux_per (Ye et al. 2024)."""
FIRST_COMPONENTS = 16
"""Components in the steps from each start."""
STEPS, STEPS_ON = 4, 7
"""Steps from each start, and further ones from the best."""
DAMPING, LESS, MORE = 0.03, 0.2, 4.0
"""Damping of the first step, relative to the diagonal; its factors after steps that lower chi2, or do not."""
LONGEST_STEP = 0.5
"""The longest step, in cells of the grid."""
CONVERGED = 0.01
"""A fit has converged where a Newton step would lower chi2 by less: the labels are within 0.1 sigma of the minimum.

Where models fit worse than the errors say, by less times chi2 / dof: as if the errors were what the residuals are."""


class Options(NamedTuple):
    """What the kernel is made for; n_continuum: how many amplitudes are fitted, 0 where the mean normalizes."""

    n_continuum: int
    starts: int
    spectra: bool
    of_coefficients: bool


class Star(eqx.Module):
    """One star: flux and error (n_wavelength,), and what else there is of it."""

    flux: Float[AnyArray, " n_wavelength"]
    error: Float[AnyArray, " n_wavelength"]
    correlation: Float[AnyArray, " n_pair"] | XPCoefficients | None
    """Correlations of samples, or the coefficients whose noise they have."""
    used: Bool[AnyArray, " n_wavelength"] | None
    ebv: Float[AnyArray, ""] | None
    prior: Float[AnyArray, " n_label"] | None
    prior_weight: Float[AnyArray, " n_label"] | None
    """One over the sigma of the prior; zero where there is none."""
    spread: Float[AnyArray, " n_coefficient"] | None = None
    """Errors of the coefficients whose noise the errors are."""


class Common(eqx.Module):
    """What models and instrument are wrong by in all stars alike: templates of unit variance, fractions of the flux.

    templates: these, and after them one that is gray, which normalization takes off the others. by_column and
    by_template: products of templates with the columns of the model, and, the lower triangle, with each other. rare:
    weights with which the flux that they are fractions of, a sum of the first columns, is drawn to the mean of the
    grid. variance: mean wavelengths of stars' light, and variances of the templates there where they are not one;
    active: from each of these wavelengths to the next, those that are not zero.
    """

    templates: Float[AnyArray, "n_template_and_1 n_wavelength"]
    by_column: Float[AnyArray, "n_wavelength n_template_and_1_times_column"]
    by_template: Float[AnyArray, "n_wavelength n_triangle"]
    rare: Float[AnyArray, " n_first"]
    wavelength: Float[AnyArray, " n_wavelength"]
    variance: Float[AnyArray, "n_color n_template_and_1"] | None = None
    active: Int[AnyArray, "n_color_less_1 n_active"] | None = None


class Model(eqx.Module):
    """What all stars share: the grid, G, the products of its columns, and the places searched for starts."""

    grid: Interpolator
    columns: Float[AnyArray, "n_column n_wavelength"]
    products: Float[AnyArray, "n_wavelength n_column_squared"]
    search: Search
    exponent: Float[AnyArray, " n_wavelength"]
    error_floor: Float[AnyArray, ""]
    rounds: Int[AnyArray, ""]
    """Rounds of steps from the best start; a number of the data, so that more of them need no second program."""
    seen: Seen | None = None
    """How the noise of coefficients reaches the samples, where chi2 knows of it."""
    reach: Reach | None = None
    """The same where it is counted by dof alone."""
    common: Common | None = None


@functools.cache
def fit_kernel(options: Options) -> engine.Kernel:
    """The kernel (Model, Star) -> labels, covariance, chi2, dof, dflux_per, status and flux of one star."""

    def kernel(model: Model, star: Star) -> dict[str, Array]:
        spectrum, problem = _posed(options, model, star)
        return _described(spectrum, *_descended(problem))

    return kernel


def near(options: Options, model: Model, star: Star, labels: Array) -> tuple[Callable[[Array], Array], Array, Array]:
    """chi2 with priors as a function of labels (n_label,), less that at these ones; its curvature and the cells there.

    Amplitudes are those that fit best, and infinite is the value beyond the grid; curvature (n_label, n_label): half
    the Hessian for labels in cells, whose lengths are (n_label,).
    """
    problem, n = _posed(options, model, star)[1], len(labels)
    amplitude = jnp.ones(options.n_continuum, labels.dtype)
    if options.n_continuum:
        rows = problem.vector(labels, amplitude)[1][n:]
        amplitude = _solve(dot(dot(rows, problem.matrix), rows.T), dot(rows, problem.product)[:, None])[:, 0]
    t = problem.vector(labels, amplitude)[0]
    problem = problem.doubting(labels, amplitude, t)
    gradient = problem.data.gradient(t)

    def lowest(point: _Point) -> tuple[Array, Array]:
        """The sum of squares and its curvature where amplitudes are free."""
        own, mixed = point.curvature[n:, n:], point.curvature[n:, :n]
        if not options.n_continuum:
            return point.value, point.curvature
        right = jnp.concatenate([point.slope[n:, None], mixed], axis=1)
        solved = _solve(own, right)
        return point.value - dot(point.slope[n:], solved[:, 0]), point.curvature[:n, :n] - dot(mixed.T, solved[:, 1:])

    best = problem.look(labels, amplitude, t, gradient)
    start, curvature = lowest(best)
    start = jnp.where(jnp.isfinite(start), start, 0)
    return lambda x: lowest(problem.look(x, amplitude, t, gradient))[0] - start, curvature, best.length


class _Spectrum(NamedTuple):
    """The normalized flux (n_wavelength,) of one star, which samples count, how many, if all is usable; its unit."""

    value: Array
    used: Array
    n_used: Array
    usable: Array
    unit: Array


def _posed(options: Options, model: Model, star: Star) -> tuple[_Spectrum, _Problem]:
    """The normalized spectrum of a star, and the sum of squares that its labels minimize."""
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
    enough = n_used > len(model.grid.nodes) + max(options.n_continuum, 1)
    usable = jnp.all(good | ~used) & (mean > 0) & enough
    # A star that cannot be used is fitted as an average model, so that its numbers are harmless.
    average = model.columns[0]
    value = jnp.where(usable & used, flux / mean, average)
    weight = jnp.where(usable, jnp.where(used, 1 / variance, 0), 1)
    own = Part(value, model.columns, weight)
    if star.correlation is None:
        data, matrix = Data((own,)), dot(weight, model.products).reshape(len(model.columns), -1)
        if model.common is not None:
            data, matrix = _widened(options, model.common, own, matrix, used)
    else:
        sigma = jnp.where(usable, error / mean, 0)
        floor = jnp.where(usable, (model.error_floor * jnp.maximum(jnp.abs(value), LEAST_FLUX)) ** 2, 1)
        data, matrix = _correlated(options, model, star.correlation, own, sigma, floor, used)
        usable &= jnp.all(jnp.isfinite(matrix))
    product = data.product()
    norm = None  # what averages the model over the samples used; its own mean is one
    if star.used is not None and not options.n_continuum:
        norm = dot(used / n_used, model.columns.T)
    return _Spectrum(value, used, n_used, usable, mean), _Problem(options, model, star, data, matrix, product, norm)


def _correlated(
    options: Options, model: Model, correlation: Any, own: Part, sigma: Array, floor: Array, used: Array
) -> tuple[Data, Array]:
    """Data with the covariance of their samples and of what is common to stars, and their G'WG."""
    if model.common is not None:
        flux, chosen, *less = _common_to(options, model.common, own, used, None)
        own = own._replace(templates=_less(jnp.asarray(model.common.templates)[chosen], *less) * flux)
    if isinstance(correlation, XPCoefficients):
        assert model.seen is not None
        data, matrix = correlated(own, model.products, model.seen, correlation, sigma, floor, used)
    else:
        data, matrix = whitened(own, jnp.asarray(correlation), sigma, floor, used)
    return (data, matrix) if model.common is None else data.widened(matrix)


def _widened(options: Options, common: Common, own: Part, matrix: Array, used: Array) -> tuple[Data, Array]:
    """Data with the errors that are common to stars beside independent ones, and their G'WG."""
    n = len(common.templates)
    flux, chosen, *less = _common_to(options, common, own, used, matrix)
    weight = own.weight * flux
    across = _less(dot(weight, common.by_column).reshape(n, -1)[chosen], *less)
    square = dot(weight * flux, common.by_template)[jnp.asarray(triangle_places(n))[chosen][:, chosen]]
    square = _less(_less(square, *less).T, *less)
    own = own._replace(templates=_less(jnp.asarray(common.templates)[chosen], *less) * flux)
    return Data((own,)).widened(matrix, across, square)


def _common_to(
    options: Options, common: Common, own: Part, used: Array, matrix: Array | None
) -> tuple[Array, Array, Array, Array]:
    """The flux (n_wavelength,) that templates are fractions of; which count, what of each is gray, and its size.

    which (n_template + 1,): the gray one, the last, too. The flux is a smooth sum of the first columns that fits the
    data: of the data themselves, whose noise templates would share, chi2 would be biased.
    """
    first = jnp.asarray(own.rows[: len(common.rare)])
    matrix = dot(first * own.weight, first.T) if matrix is None else matrix[: len(first), : len(first)]
    mean = jnp.eye(1, len(first), dtype=matrix.dtype)[0]
    right = dot(own.weight * own.value, first.T) + common.rare * mean
    t = least_squares(matrix + jnp.diag(jnp.asarray(common.rare)), right)
    flux = dot(jnp.where(jnp.all(jnp.isfinite(t)), t, mean), first)
    n = len(common.templates) - 1
    chosen, size = jnp.arange(n + 1), jnp.ones(n, flux.dtype)
    if common.variance is not None:
        color = dot(jnp.asarray(common.wavelength), flux) / jnp.sum(flux)
        table, active = jnp.asarray(common.variance), jnp.asarray(common.active)
        step = jnp.clip(jnp.searchsorted(table[:, 0], color) - 1, 0, len(active) - 1)
        some = active[step]
        chosen = jnp.append(some, n)
        size = jnp.sqrt(jax.vmap(lambda known: jnp.interp(color, table[:, 0], known))(table[:, 1 + some].T))
    if options.n_continuum:
        return flux, chosen, jnp.zeros_like(size), size
    # What changes the mean of the flux is lost where this normalizes.
    part = used * flux
    return flux, chosen, dot(jnp.asarray(common.templates), part)[chosen[:-1]] / jnp.sum(part), size


def _less(rows: AnyArray, gray: Array, size: Array) -> Array:
    """Rows (n_template, m) without as much of the last one, which is gray, as they have, times a size."""
    rows = jnp.asarray(rows)
    return (rows[:-1] - gray[:, None] * rows[-1]) * size[:, None]


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


def _nowhere(labels: Array, amplitude: Array, t: Array) -> _Point:
    """A point above all others, where no step has been judged yet."""
    n = len(labels) + len(amplitude)
    slope, curvature = jnp.zeros(n, t.dtype), jnp.zeros((n, n), t.dtype)
    return _Point(labels, amplitude, t, jnp.asarray(jnp.inf, t.dtype), slope, curvature, jnp.zeros_like(labels))


class _Problem(NamedTuple):
    """The sum of squares of one star: its data, G'WG, G'WO, what normalizes a model, and how it falls from a point."""

    options: Options
    model: Model
    star: Star
    data: Data | Doubted
    matrix: Array
    product: Array
    norm: Array | None

    def doubting(self, labels: Array, amplitude: Array, t: Array) -> _Problem:
        """The same with what the interpolation may be wrong by at these labels; t: of the model there."""
        grid = self.model.grid
        if grid.doubt is None or not isinstance(self.data, Data):
            return self
        rows = jnp.pad(grid.doubts(labels, grid.locate(labels)), ((0, 0), (1, 0)))
        if self.options.n_continuum:
            rows = (rows[:, None, :] * amplitude[:, None]).reshape(len(rows), -1)
        elif self.norm is not None:
            rows = (rows - dot(rows, self.norm)[:, None] * t) * t[0]
        data, matrix = doubted(self.data, self.matrix, rows)
        return self._replace(data=data, matrix=matrix, product=data.product())

    def vector(self, labels: Array, amplitude: Array, few: int | None = None) -> tuple[Array, Array, Array, Array]:
        """t, its derivatives with respect to labels in cells and amplitudes, the cells' lengths, and if inside.

        few: only so many of its entries.
        """
        own, n_label = self.model.grid, len(self.model.grid.nodes)
        place = own.locate(labels)
        grid = dataclasses.replace(own, coefficient=own.coefficient[..., : few and few - 1])
        a = grid.components(labels, place)
        a = jnp.concatenate([jnp.eye(n_label + 1, 1, dtype=a.dtype), a], axis=1)
        t, slopes = a[0], a[1:]
        if self.options.n_continuum:
            by_amplitude = jax.scipy.linalg.block_diag(*[t[None]] * self.options.n_continuum)
            by_label = (slopes[:, None, :] * amplitude[:, None]).reshape(n_label, -1)
            t, slopes = dot(amplitude, by_amplitude), jnp.concatenate([by_label, by_amplitude])
        elif self.norm is not None:
            total = dot(self.norm[:few], t)
            t = t / total
            slopes = (slopes - t * dot(slopes, self.norm[:few])[:, None]) / total
        return t, slopes, place.length, place.inside

    def prior(self, labels: Array) -> Array:
        """Deviations of labels (..., n_label) from the prior in sigmas."""
        if self.star.prior is None or self.star.prior_weight is None:
            return jnp.zeros_like(labels)
        return (labels - self.star.prior) * self.star.prior_weight

    def look(self, labels: Array, amplitude: Array, t0: Array, gradient0: Array) -> _Point:
        """The sum of squares at a point less that at t0, where its gradient is known: rounding hardly counts."""
        few = len(t0)
        t, slopes, length, inside = self.vector(labels, amplitude, few)
        rows = jnp.concatenate([(t - t0)[None], slopes])
        curved = dot(dot(rows, self.matrix[:few, :few]), rows.T)
        falling = dot(rows, gradient0) - curved[0]
        off = self.prior(labels)
        weight = jnp.zeros_like(labels) if self.star.prior_weight is None else jnp.asarray(self.star.prior_weight)
        weight = weight * length
        pad = (0, len(amplitude))
        sum_ = jnp.sum(off**2) - curved[0, 0] - 2 * falling[0]
        slope = falling[1:] - jnp.pad(off * weight, pad)
        curvature = curved[1:, 1:] + jnp.diag(jnp.pad(weight**2, pad))
        return _Point(labels, amplitude, t, jnp.where(inside, sum_, jnp.inf), slope, curvature, length)

    def climb(self, labels: Array, amplitude: Array, t0: Array, gradient0: Array, steps: int) -> _Point:
        """Down from a point, a fixed number of steps: each judges the one tried last and takes the next.

        t0 is near the point, and gradient0 is G'W(O - G t0); where they are short, so is t.
        """

        def step(_: Any, state: Any) -> Any:
            best, tried, damping = state
            new = self.look(tried[0], tried[1], t0, gradient0)
            better = new.value < best.value
            best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best)
            damping = damping * jnp.where(better, LESS, MORE)
            change = _change(best, _free(self.model, best), damping, best.slope[:, None])[:, 0]
            return best, _moved(self.model, best, change), damping

        state = (_nowhere(labels, amplitude, t0), (labels, amplitude), jnp.asarray(DAMPING / LESS, t0.dtype))
        return jax.lax.fori_loop(0, steps, step, state)[0]


def _descended(problem: _Problem) -> tuple[_Problem, _Point]:
    """The lowest point found: from several starts, and further from that which led deepest; and its sum of squares.

    The grid is doubted from there on, anew in each round.
    """
    options, model, data, matrix = problem.options, problem.model, problem.data, problem.matrix
    starts, amplitudes, near = find_starts(
        model.search, matrix, problem.product, problem.norm, problem.prior, options.starts, options.n_continuum
    )
    gradients = problem.product - dot(near, matrix)
    few = len(model.columns) if options.n_continuum > 1 else FIRST_COMPONENTS + 1
    climb_first = functools.partial(problem.climb, steps=STEPS)
    low = jax.vmap(climb_first)(starts, amplitudes, near[:, :few], gradients[:, :few])
    reached = jnp.pad(low.t, ((0, 0), (0, near.shape[1] - low.t.shape[1])))
    depth = jax.vmap(lambda t, x: data.chi2(t) + jnp.sum(problem.prior(x) ** 2))(reached, low.labels)
    best = jnp.argmin(depth)
    deepest, t = jax.tree.map(lambda a: a.at[best].get(**IN_BOUNDS), (low, reached))
    deepest = _nowhere(deepest.labels, deepest.amplitude, t)

    def climb_on(_: Any, points: tuple[_Point, _Point]) -> tuple[_Point, _Point]:
        """Further down, measured anew from here: sums of squares far from their reference are rounded too much."""
        point = points[1]
        here = problem.doubting(point.labels, point.amplitude, point.t)
        low = here.climb(point.labels, point.amplitude, point.t, here.data.gradient(point.t), STEPS_ON)
        return point, low

    before, best = jax.lax.fori_loop(0, model.rounds, climb_on, (deepest, deepest))
    return problem.doubting(before.labels, before.amplitude, before.t), best


def _described(spectrum: _Spectrum, problem: _Problem, best: _Point) -> dict[str, Array]:
    """What is told of the lowest point: covariance from the Hessian, chi2, and whether it is a minimum in the grid."""
    options, model = problem.options, problem.model
    value, used, n_used, usable, _ = spectrum
    n_label = len(model.grid.nodes)
    free = _free(model, best)
    identity = jnp.eye(len(free), dtype=free.dtype)
    inverse = _change(best, free, 0.0, identity)
    newton = dot(inverse, best.slope)
    chi2, dof = problem.data.chi2(best.t), n_used - n_label - max(options.n_continuum, 1)
    if model.reach is not None:
        dof = _expected(spectrum, problem, best, inverse)
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
        "dof": dof * known,
        "dflux_per": 100 * deviant / n_used * (known if not options.of_coefficients else jnp.nan),
        "status": status.astype(jnp.uint32),
    }
    if model.common is not None or model.grid.doubt is not None:
        formal = _formal(problem, best, inverse)
        result["error_formal"] = jnp.sqrt(formal[:n_label]) * certain * known
    return {**result, "flux": fitted * known} if options.spectra else result


def _expected(spectrum: _Spectrum, problem: _Problem, best: _Point, inverse: Array) -> Array:
    """The chi2 that the noise of coefficients and what is common to stars let expect."""
    model, star = problem.model, problem.star
    assert model.reach is not None
    assert star.spread is not None
    reach = model.reach
    if star.ebv is not None:
        dust = jnp.exp(star.ebv * model.exponent)
        seen = [matrix * dust[i:j] for matrix, (i, j) in zip(reach.matrix, reach.support, strict=True)]
        reach = Reach(tuple(seen), reach.support)
    share = spectrum.used / spectrum.n_used * (problem.options.n_continuum == 0)
    rows = problem.vector(best.labels, best.amplitude)[1]
    return problem.data.expected(Spread(reach, star.spread / spectrum.unit), share, best.t, rows, inverse)


def _formal(problem: _Problem, best: _Point, inverse: Array) -> Array:
    """Variances of the parameters, labels in cells, that noise and priors make: without what is common to stars."""
    variance = problem.data.noise(dot(inverse, problem.vector(best.labels, best.amplitude)[1]))
    if problem.star.prior_weight is None:
        return variance
    return variance + dot(inverse[:, : len(best.labels)] ** 2, (problem.star.prior_weight * best.length) ** 2)


def _solve(matrix: Array, right: Array) -> Array:
    """matrix^-1 right, (k, k) and (k, m), for a positive definite matrix, by Gauss-Jordan elimination written out.

    XLA's own solvers, batched on a CPU, take longer than the rest of a step.
    """
    scale = jax.lax.rsqrt(jnp.maximum(jnp.diagonal(matrix), jnp.finfo(matrix.dtype).tiny))[:, None]
    table = jnp.concatenate([matrix * scale * scale.T, right * scale], axis=1)
    for i in range(len(matrix)):
        row = table[i]
        pivot = row / row[i]
        table = (table - table[:, i : i + 1] * pivot).at[i].set(pivot)
    return table[:, len(matrix) :] * scale


def _free(model: Model, point: _Point) -> Array:
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


def _moved(model: Model, point: _Point, change: Array) -> tuple[Array, Array]:
    """Labels and amplitudes after a step, cut to half a cell and to the grid."""
    n_label = len(point.labels)
    longest = jnp.max(jnp.abs(change[:n_label]))
    change = change * jnp.where(longest > LONGEST_STEP, LONGEST_STEP / longest, 1)
    change = jnp.where(jnp.isfinite(change), change, 0)
    labels = jnp.clip(point.labels + change[:n_label] * point.length, model.grid.low, model.grid.high)
    return labels, point.amplitude + change[n_label:]
