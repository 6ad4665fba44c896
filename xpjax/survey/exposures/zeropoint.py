"""The per-exposure fit: zero-point, position, color and magnitude terms of every frame, robustly and all at once.

With m the instrumental and M the model magnitude of a standard, C its color, (u, v) its place scaled to -1..1:

    M - m = sum_ij b_ij T_i(u) T_j(v) + sum_k a_k (C - C_zero)^k + sum_k l_k (m - m_zero)^k + o_amplifier

T are Chebyshev polynomials of total order up to `position_order` (Xiao et al. 2023, 2025 have order 2). The color term
is taken off the standards: the survey keeps its natural system, which agrees with the models at C_zero. The rest is
added to every star. All terms are solved together by iteratively reweighted least squares, first with Huber's weights,
then with Tukey's, then with a plain cut that lets stars back in; weights are 1 / (error^2 + floor^2) and the floor is
an S-estimate: mean rho(residual / error) = 1/2 of Tukey's rho with 50 % breakdown.

Arithmetic: float64, normal equations of residuals in scaled coordinates, each term scaled to one. A frame is one source
of the engine; frames are padded to few sizes, so that a job of any number of stars compiles once or twice.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from xpjax.core import engine
from xpjax.core.linalg import dot
from xpjax.core.records import AnyArray, Record
from xpjax.survey import HUBER, LEAST_VARIANCE, MAD, SCALE, TUKEY, FrameFlag, Observations, RowFlag, group_median
from xpjax.survey.exposures.model import ExposureModel, Scaling, Terms, scaling, terms_of

STEPS = 20
"""Most steps of each stage of the robust fit."""
SINGULAR = 1e-9
"""A term that the others predict to this fraction of its variance is not determined."""
GRID = 20
"""The zero-point of a frame is the median over GRID x GRID places."""
EVALUATED = 4096
"""Rows of every batch of an evaluation: roundings depend on the size, and `apply` is to find the same bits."""


class Frame(eqx.Module):
    """One frame's standards, padded to n; what is not in use is zero."""

    u: Float[AnyArray, " n"]
    v: Float[AnyArray, " n"]
    color: Float[AnyArray, " n"]
    magnitude: Float[AnyArray, " n"]
    amplifier: Int[AnyArray, " n"]
    difference: Float[AnyArray, " n"]
    """Model minus instrumental magnitude, less `start`."""
    variance: Float[AnyArray, " n"]
    common: Float[AnyArray, " n"]
    """The part of the variance that a star has on every frame alike."""
    use: Bool[AnyArray, " n"]
    active: Bool[AnyArray, " k"]
    floor: Float[AnyArray, ""]
    """First guess of floor^2."""
    prior: Float[AnyArray, " k"]
    prior_precision: Float[AnyArray, " k"]


class Recipe(eqx.Module):
    """What all frames share."""

    terms: Terms
    stages: tuple[str, ...] = eqx.field(static=True)
    clip: Float[AnyArray, ""]
    fixed_floor: Float[AnyArray, ""]
    """floor^2, or NaN where it is fitted."""
    common_floor: Float[AnyArray, ""]
    """The part of floor^2 that a star has on every frame alike."""
    tolerance: Float[AnyArray, ""]


class FrameFit(eqx.Module):
    """The solution of one frame; covariances are of independent noise and of what stars have on all frames alike."""

    value: Float[Array, " k"]
    covariance: Float[Array, "k k"]
    common_covariance: Float[Array, "k k"]
    zero_point: Float[Array, ""]
    zero_point_error: Float[Array, ""]
    zero_point_common: Float[Array, ""]
    floor: Float[Array, ""]
    residual: Float[Array, " n"]
    kept: Bool[Array, " n"]
    determined: Float[Array, ""]
    converged: Bool[Array, ""]


def fit_kernel(recipe: Recipe, frame: Frame) -> FrameFit:
    """Fit one frame; see the module. Terms that are not active are zero."""
    terms = recipe.terms
    design = terms.design(frame.u, frame.v, frame.color, frame.magnitude, frame.amplifier)
    design = jnp.where(frame.active[:, None] & frame.use, design, 0)
    use = jnp.asarray(frame.use, design.dtype)
    n_free = jnp.sum(use) - jnp.sum(frame.active)
    idle = jnp.where(frame.active, 0.0, 1.0)
    fitted = jnp.isnan(recipe.fixed_floor) & (n_free >= 1)
    clip = recipe.clip
    decisive = [name for name in recipe.stages if name != "clip"][-1]

    def stage_weight(stage: Array, z: Array) -> Array:
        kinds = {
            "none": jnp.ones_like(z),
            "huber": HUBER / jnp.maximum(z, HUBER),
            "tukey": jnp.square(jnp.maximum(1 - (z / TUKEY) ** 2, 0)),
            "clip": (z < clip).astype(z.dtype),
        }
        return jnp.select([stage == i for i in range(len(recipe.stages))], [kinds[name] for name in recipe.stages])

    def better_floor(square: Array, floor: Array) -> Array:
        """One Newton step towards sum rho = (n - k) / 2."""
        total = jnp.maximum(frame.variance + floor, LEAST_VARIANCE)
        q = jnp.minimum(square / (SCALE**2 * total), 1.0)
        inside = jnp.square(1 - q)
        excess = jnp.sum(use * (1 - inside * (1 - q))) - 0.5 * n_free
        slope = jnp.sum(use * 3 * inside * q / total)
        middle = jnp.sum(use * total) / jnp.maximum(jnp.sum(use), 1)
        step = jnp.clip(excess / jnp.maximum(slope, jnp.finfo(square.dtype).tiny), -0.7 * middle, 3 * middle)
        return jnp.maximum(floor + step, 0.0)

    def normal(weight: Array) -> tuple[Array, Array, Array]:
        """The scaled factor of the normal matrix, its scale and the weighted design."""
        weighted = design * weight
        matrix = dot(weighted, design.T) + jnp.diag(idle + frame.prior_precision)
        scale = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), jnp.finfo(weight.dtype).tiny))
        factor = jnp.linalg.cholesky(matrix / scale[:, None] / scale[None, :])
        return factor, scale, weighted

    def weights(stage: Array, residual: Any, floor: Any) -> Array:
        total = jnp.maximum(frame.variance + floor, LEAST_VARIANCE)
        return use * stage_weight(stage, jnp.abs(residual) * jax.lax.rsqrt(total)) / total

    def proceed(state: Any) -> Array:
        return state[3] < len(recipe.stages)

    def step(state: Any) -> Any:
        value, residual, floor, stage, steps, _ = state
        square = residual * residual
        new_floor = jax.lax.cond(fitted, lambda f: better_floor(square, better_floor(square, f)), lambda f: f, floor)
        factor, scale, weighted = normal(weights(stage, residual, new_floor))
        right = dot(weighted, residual) + frame.prior_precision * (frame.prior - value)
        whitened = jax.scipy.linalg.solve_triangular(factor, right / scale, lower=True)
        change = jax.scipy.linalg.solve_triangular(factor.T, whitened) / scale
        change = jnp.where(frame.active, change, 0)
        value = value + change
        residual = frame.difference - dot(value, design)
        # The step in units of its error; a NaN of a singular matrix counts as done. Huber's fit before Tukey's is only
        # a start.
        tolerance = jnp.where(stage < recipe.stages.index(decisive), 0.3, recipe.tolerance)
        moved = (dot(whitened, whitened) > tolerance**2) | (
            jnp.abs(new_floor - floor) > tolerance * (new_floor + LEAST_VARIANCE)
        )
        last = steps + 1 >= STEPS
        done = ~moved | last
        return (
            value, residual, new_floor, jnp.where(done, stage + 1, stage), jnp.where(done, 0, steps + 1), moved & last,
        )  # fmt: skip

    floor = jnp.where(jnp.isnan(recipe.fixed_floor), jnp.where(fitted, frame.floor, 0.0), recipe.fixed_floor)
    zero = jnp.zeros(len(terms), design.dtype)
    first = (zero, jnp.asarray(frame.difference) * use, floor, jnp.int32(0), jnp.int32(0), jnp.bool_(False))
    value, residual, floor, _, _, late = jax.lax.while_loop(proceed, step, first)

    final = weights(jnp.int32(len(recipe.stages) - 1), residual, floor)
    factor, scale, weighted = normal(final)
    identity = jnp.eye(len(terms), dtype=design.dtype)
    inverse = jax.scipy.linalg.cho_solve((factor, True), identity) / scale[:, None] / scale[None, :]
    alike = jnp.asarray(frame.common) + jnp.minimum(recipe.common_floor, floor)
    common = dot(inverse, dot(dot(weighted * (weighted != 0) * alike, weighted.T), inverse.T))
    live = frame.active[:, None] & frame.active
    inverse, common = jnp.where(live, inverse, 0), jnp.where(live, common, 0)

    grid = (jnp.arange(GRID) + 0.5) / GRID * 2 - 1
    u, v = (axis.ravel() for axis in jnp.meshgrid(grid.astype(design.dtype), grid.astype(design.dtype)))
    places = terms.design(u, v, 0 * u, 0 * u, jnp.zeros(len(u), jnp.int32))
    level = dot(value, places)
    median = jnp.median(level)
    # The derivative of a median is the mean derivative at its level, as far as the noise moves it.
    spread = jnp.mean(jnp.sum(places * dot(inverse - common, places), axis=0))
    closeness = jnp.exp(-0.5 * jnp.square(level - median) / jnp.maximum(spread, LEAST_VARIANCE))
    near = dot(places, closeness) / jnp.sum(closeness)
    noise = jnp.maximum(dot(near, dot(inverse - common, near)), 0)
    return FrameFit(
        value,
        inverse - common,
        common,
        median,
        jnp.sqrt(noise),
        jnp.sqrt(jnp.maximum(dot(near, dot(common, near)), 0)),
        jnp.sqrt(floor),
        residual,
        final > 0,
        jnp.min(jnp.square(jnp.diagonal(factor))),
        ~late,
    )


# --- many frames ------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Prior:
    """What is known of the terms of each frame beforehand: mean and precision (n_frame, n_term), 0 for nothing."""

    mean: np.ndarray
    precision: np.ndarray


@dataclasses.dataclass(frozen=True, repr=False)
class ExposureFits(Record):
    """The solutions of all frames; arrays (n_frame, ...), NaN where a frame is refused.

    value, covariance, common_covariance: of `terms`, independent noise and what stars have on all frames alike.
    zero_point: median over the grid, with its errors; floor, scatter (1.48 MAD) and rms of the standards [mag];
    n_standard, n_used; status: FrameFlag bits; active (n_frame, n_term): terms that were fitted.
    For the rows of the observations: residual (n,), NaN where no standard; used (n,): took part; clipped (n,).
    """

    terms: Terms
    scaling: Scaling
    value: np.ndarray
    covariance: np.ndarray
    common_covariance: np.ndarray
    zero_point: np.ndarray
    zero_point_error: np.ndarray
    zero_point_common: np.ndarray
    floor: np.ndarray
    scatter: np.ndarray
    rms: np.ndarray
    n_standard: np.ndarray
    n_used: np.ndarray
    status: np.ndarray
    active: np.ndarray
    residual: np.ndarray
    used: np.ndarray
    clipped: np.ndarray

    def __len__(self) -> int:
        return len(self.value)


def standards(observations: Observations, model: ExposureModel) -> tuple[np.ndarray, np.ndarray]:
    """Which rows may be standards (n,), and RowFlag bits (n,) that say why others may not."""
    o = observations
    flags = np.array(o.excluded, np.uint32)
    if model.position_order:
        flags[~(np.isfinite(o.x) & np.isfinite(o.y))] |= np.uint32(RowFlag.NO_POSITION)
    flags[~np.isfinite(o.magnitude)] |= np.uint32(RowFlag.NO_MAGNITUDE)
    color = np.isfinite(o.color) if model.color_order else True
    flags[~(np.isfinite(o.model) & color)] |= np.uint32(RowFlag.NO_MODEL)
    # Where no row of a frame has an error, the scatter alone gives the weights.
    bad = ~(o.magnitude_error > 0)
    none = np.bincount(o.frame[~bad], minlength=len(o.frames)) == 0
    flags[bad & ~none[o.frame]] |= np.uint32(RowFlag.NO_ERROR)
    return flags == 0, flags


def needs_magnitude(
    observations: Observations, model: ExposureModel, *, significance: float = 5.0, **options: Any
) -> np.ndarray:
    """Which terms (n_frame, n_term) to fit where magnitude_order is "auto": all, or all but the magnitude's.

    A band and detector needs it where the mean slope of its frames differs from zero by more than `significance`
    errors and the error floors are smaller with it; what stars are wrong by on all frames alike does not average out.
    Others keep the smaller model: a term that is not there only adds noise, and ties the survey to what the standards
    are wrong by at the bright end.
    """
    terms = terms_of(model, observations)
    allowed = np.ones((len(observations.frames), len(terms)), bool)
    if model.magnitude_order != "auto":
        return allowed
    with_it = fit_exposures(observations, model, **options)
    without = fit_exposures(observations, model, allowed=allowed & (terms.kinds != "magnitude"), **options)
    k = terms.names.index("magnitude_1")
    slope, variance, alike = with_it.value[:, k], with_it.covariance[:, k, k], with_it.common_covariance[:, k, k]
    group, first = observations.frames.group("band", "detector")
    for g in range(len(first)):
        mine = np.flatnonzero((group == g) & with_it.active[:, k] & (variance > 0))
        if len(mine):
            weight = 1 / variance[mine]
            mean = (weight * slope[mine]).sum() / weight.sum()
            if (
                abs(mean) > significance * np.sqrt(1 / weight.sum() + np.median(alike[mine]))
                and np.median(with_it.floor[mine] - without.floor[mine]) < 0
            ):
                continue
        allowed[group == g, k] = False
    return allowed


def fit_exposures(
    observations: Observations,
    model: ExposureModel,
    *,
    scale: Scaling | None = None,
    use: np.ndarray | None = None,
    offset: np.ndarray | None = None,
    prior: Prior | None = None,
    allowed: np.ndarray | None = None,
    common_floor: np.ndarray | float = 0.0,
    tolerance: float = 1e-4,
    devices: str | int | None = None,
) -> ExposureFits:
    """Fit every frame; one that cannot be fitted as asked has its orders lowered, or is refused, and says so in status.

    use (n,): rows that may be standards, by default `standards`. offset (n,) [mag] is added to the magnitudes first (a
    stacked flat). prior: of the terms. allowed (n_frame, n_term): terms that may be fitted. common_floor (n_frame,) or
    one [mag]: how much of the floor stars have on all frames alike. tolerance: steps end where they are smaller than
    this part of the error.
    """
    o = observations
    scale = scale or scaling(o, model)
    terms = terms_of(model, o)
    n_frame, n_term = len(o.frames), len(terms)
    able = standards(o, model)[0]
    rows = np.flatnonzero(able if use is None else able & use)
    frame = o.frame[rows]
    if len(frame) and (np.diff(frame) < 0).any():
        order = np.argsort(frame, kind="stable")
        rows, frame = rows[order], frame[order]
    count = np.bincount(frame, minlength=n_frame)
    slot = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    u, v = scale.places(frame, o.x[rows], o.y[rows])
    shift = 0.0 if offset is None else offset[rows]
    difference = o.model[rows] - o.magnitude[rows] - shift
    # A median of some hundred standards is start enough.
    some = slot < 256
    start = np.nan_to_num(group_median(difference[some], frame[some], n_frame))
    difference = difference - start[frame]
    error = np.nan_to_num(o.magnitude_error[rows])
    common = o.model_error[rows] ** 2
    variance = error**2 + common
    # The first floor is the whole scatter, flat and colors included: it can only shrink.
    guess = np.nan_to_num((MAD * group_median(np.abs(difference[some]), frame[some], n_frame)) ** 2)
    columns = {
        "u": u,
        "v": v,
        "color": o.color[rows] - scale.color_zero if terms.color_order else None,
        "magnitude": o.magnitude[rows] - scale.magnitude_zero if terms.magnitude_order else None,
        "amplifier": o.amplifier[rows],
        "difference": difference,
        "variance": variance,
        "common": common,
    }
    status = np.zeros(n_frame, np.uint32)
    any_model = np.bincount(o.frame[np.isfinite(o.model)], minlength=n_frame) > 0
    status[count == 0] |= np.uint32(FrameFlag.NO_STANDARDS)
    status[~any_model] |= np.uint32(FrameFlag.NO_MODEL)
    measured = np.bincount(frame[error > 0], minlength=n_frame) > 0
    status[(count > 0) & ~measured] |= np.uint32(FrameFlag.NO_ERRORS)

    known = prior or Prior(np.zeros((n_frame, n_term)), np.zeros((n_frame, n_term)))
    helped = known.precision > 0
    wanted = np.ones((n_frame, n_term), bool) if allowed is None else allowed
    active = _affordable(terms, count, model.stars_per_term, helped) & wanted
    fixed = np.nan if model.error_floor is None else model.error_floor**2
    stages = {"tukey": ("huber", "tukey"), "huber": ("huber",), "none": ("none",)}[model.robust]
    out = {
        "value": np.full((n_frame, n_term), np.nan),
        "covariance": np.full((n_frame, n_term, n_term), np.nan),
        "common_covariance": np.full((n_frame, n_term, n_term), np.nan),
        **{
            name: np.full(n_frame, np.nan)
            for name in ("zero_point", "zero_point_error", "zero_point_common", "floor", "determined", "converged")
        },
    }
    residual, kept = np.full(len(rows), np.nan), np.zeros(len(rows), bool)
    tau = np.broadcast_to(np.asarray(common_floor, float), n_frame)
    todo = np.flatnonzero(count > 0)
    while len(todo):
        for group in _groups(count, todo, tau):
            recipe = Recipe(
                terms, (*stages, "clip") if model.clip else stages, np.asarray(float(model.clip)), np.asarray(fixed),
                np.asarray(float(tau[group[0]]) ** 2), np.asarray(float(tolerance)),
            )  # fmt: skip
            chosen = np.zeros(n_frame, bool)
            chosen[group] = True
            mine = chosen[frame] if len(group) < n_frame else slice(None)
            place = np.cumsum(chosen) - 1
            size = _round_size(int(count[group].max()))
            at = place[frame[mine]], slot[mine]
            batch = _padded(columns, mine, at, (len(group), size))
            fit = engine.run(
                fit_kernel,
                recipe,
                Frame(
                    **batch,
                    active=active[group],
                    floor=guess[group],
                    prior=known.mean[group] - _constant(start[group], n_term),
                    prior_precision=known.precision[group],
                ),
                float64=True,
                devices=devices,
                batch_rows=_batch_rows(size, n_term, len(group), devices),
            )
            for name, array in out.items():
                array[group] = getattr(fit, name)
            residual[mine], kept[mine] = fit.residual[at], fit.kept[at]
        bad = todo[~(out["determined"][todo] > SINGULAR)]
        for k in bad:
            mine = frame == k
            status[k] |= _lower(terms, active, k, {name: c[mine] for name, c in columns.items() if c is not None})
        todo = bad
    refused = count == 0
    for name in ("value", "zero_point"):
        out[name][~refused] += start[~refused].reshape(-1, *[1] * (out[name].ndim - 1)) * (
            _constant(np.ones(1), n_term) if name == "value" else 1.0
        )
    status[(active != wanted).any(axis=1) & ~refused] |= np.uint32(FrameFlag.LOWERED)
    few = ~refused & (count - active.sum(axis=1) < 1)
    status[few & np.isnan(fixed)] |= np.uint32(FrameFlag.FLOOR_NOT_FITTED)
    status[~refused & ~(out.pop("converged") > 0)] |= np.uint32(FrameFlag.NOT_CONVERGED)
    out.pop("determined")
    scatter = MAD * group_median(
        np.abs(residual - group_median(residual, frame, n_frame)[frame]), frame, n_frame
    )  # fmt: skip
    good = frame[kept]
    n_used = np.bincount(good, minlength=n_frame)
    with np.errstate(invalid="ignore"):
        rms = np.sqrt(np.bincount(frame, residual**2, n_frame) / count)
    whole = {name: np.zeros(len(o), bool) for name in ("used", "clipped")}
    whole["used"][rows[kept]] = True
    whole["clipped"][rows[~kept]] = True
    everywhere = np.full(len(o), np.nan)
    everywhere[rows] = residual
    return ExposureFits(
        terms, scale, **out, scatter=scatter, rms=rms, n_standard=count, n_used=n_used, status=status, active=active,
        residual=everywhere, **whole,
    )  # fmt: skip


def _constant(value: np.ndarray, n_term: int) -> np.ndarray:
    """value (n,) as coefficients (n, n_term): the first is the constant."""
    out = np.zeros((len(value), n_term))
    out[:, 0] = value
    return out


def _affordable(terms: Terms, count: np.ndarray, per_term: float, helped: np.ndarray) -> np.ndarray:
    """Terms (n_frame, n_term) that so many standards can pay for: high orders go first; those with a prior stay."""
    active = np.ones((len(count), len(terms)), bool)
    cost = np.where(terms.kinds == "position", terms.orders, terms.orders + 0.5)
    for top in sorted({c for c in cost if c > 0}, reverse=True):
        poor = (active & ~helped).sum(axis=1) * per_term > np.maximum(count, per_term)
        active[np.ix_(poor, cost >= top)] &= helped[np.ix_(poor, cost >= top)]
    return active


def _groups(count: np.ndarray, todo: np.ndarray, tau: np.ndarray) -> list[np.ndarray]:
    """Frames of similar numbers of stars (within a factor of four) and the same common floor."""
    octave = np.floor(np.log2(count[todo].max() / count[todo]) / 2)
    _, key = np.unique(np.stack([octave, tau[todo]]), axis=1, return_inverse=True)
    return [todo[key == k] for k in range(key.max() + 1)]


def _round_size(n: int) -> int:
    """Padded number of stars: 32, 128 or 512, beyond that k 2^m with k = 4..7, so that few sizes are ever compiled."""
    if n <= 512:
        return next(size for size in (32, 128, 512) if n <= size)
    step = 1 << ((n - 1).bit_length() - 3)
    return -(-n // step) * step


def _batch_rows(size: int, n_term: int, n: int, devices: Any) -> int | None:
    """Frames of a batch: their designs fit the cache of a CPU; on an accelerator what the engine chooses."""
    if engine.find_devices(devices)[0].platform != "cpu":
        return None
    rows = max(1, CACHE // (8 * size * (2 * n_term + 8)))
    return min(1 << (rows.bit_length() - 1), max(4, 1 << (n - 1).bit_length()))


CACHE = 4 << 20
"""Bytes of a batch on a CPU."""


def _padded(
    columns: dict[str, np.ndarray | None], mine: Any, at: tuple[np.ndarray, np.ndarray], shape: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The rows `mine` of each column as (frames, stars) at their places; and `use`, which says where there are any."""
    out = {}
    for name, column in columns.items():
        # The engine wants arrays with the frames as rows even where a column does not matter.
        array = np.zeros(shape, np.int32 if name == "amplifier" else float)
        if column is not None:
            array[at] = column[mine]
        out[name] = array
    out["use"] = np.zeros(shape, bool)
    out["use"][at] = True
    return out


def _lower(terms: Terms, active: np.ndarray, k: int, columns: dict[str, np.ndarray]) -> np.uint32:
    """Take out of frame k, in place, the highest order of what its standards do not determine; says what that was."""
    on = np.flatnonzero(active[k])
    n = len(columns["u"])
    zeros = np.zeros(n)
    with engine.precision(True):
        design = np.asarray(
            terms.design(
                *(jnp.asarray(columns.get(name, zeros)) for name in ("u", "v", "color", "magnitude", "amplifier"))
            )
        )[on]
    size = np.sqrt((design**2).sum(axis=1))
    _, s, vectors = np.linalg.svd((design / np.where(size > 0, size, 1)[:, None]).T, full_matrices=True)
    weak = vectors[np.flatnonzero(np.append(s, np.zeros(len(on) - len(s))) < np.sqrt(SINGULAR) * s[0])]
    if not len(weak):  # only the robust weights made it singular
        weak = vectors[-1:]
    share = (weak**2).sum(axis=0) + (size == 0)
    share[on == 0] = 0
    kind = terms.kinds[on[np.argmax(share)]]
    mine = on[(terms.kinds[on] == kind) & (on > 0)]
    top = terms.orders[mine].max()
    active[k, mine[terms.orders[mine] == top]] = False
    bits = {"color": FrameFlag.ONE_COLOR, "position": FrameFlag.ONE_POSITION, "magnitude": FrameFlag.ONE_MAGNITUDE}
    return np.uint32(bits.get(kind, FrameFlag.LOWERED) if top == 1 or kind == "position" else FrameFlag.LOWERED)


# --- evaluation -------------------------------------------------------------------------------------------------------


class _Row(eqx.Module):
    u: Float[AnyArray, ""]
    v: Float[AnyArray, ""]
    color: Float[AnyArray, ""]
    magnitude: Float[AnyArray, ""]
    amplifier: Int[AnyArray, ""]
    frame: Int[AnyArray, ""]


def _evaluate_kernel(constants: Any, row: _Row) -> tuple[Array, Array, Array, Array]:
    """Added to the star, taken off the standard, and the two variances of what is added."""
    terms, value, covariance, common, taken = constants
    one = terms.design(*(jnp.atleast_1d(x) for x in (row.u, row.v, row.color, row.magnitude, row.amplifier)))[:, 0]
    mine = value[row.frame]
    added = jnp.where(taken, 0, one)
    variance = dot(added, dot(covariance[row.frame], added))
    alike = dot(added, dot(common[row.frame], added))
    return dot(mine, added), dot(mine, jnp.where(taken, one, 0)), variance, alike


@dataclasses.dataclass(frozen=True)
class Terms4Rows:
    """For each row (n,): what is added to its magnitude, taken off its model, and the errors of what is added [mag]."""

    added: np.ndarray
    taken: np.ndarray
    error: np.ndarray
    common_error: np.ndarray


def evaluate(fits: ExposureFits, observations: Observations, devices: str | int | None = None) -> Terms4Rows:
    """The fitted terms at every row, standard or not. A color that is missing counts as color_zero."""
    o = observations
    u, v = fits.scaling.places(o.frame, o.x, o.y)
    if not fits.terms.position_order:
        u, v = np.zeros(len(o)), np.zeros(len(o))
    rows = _Row(
        u, v, o.color - fits.scaling.color_zero if fits.terms.color_order else np.zeros(len(o)),
        o.magnitude - fits.scaling.magnitude_zero if fits.terms.magnitude_order else np.zeros(len(o)),
        o.amplifier, o.frame,
    )  # fmt: skip
    constants = (fits.terms, fits.value, fits.covariance, fits.common_covariance, fits.terms.kinds == "color")
    if not len(o):
        return Terms4Rows(*(np.zeros(0) for _ in range(4)))
    added, taken, variance, alike = engine.run(
        _evaluate_kernel, constants, rows, float64=True, devices=devices, batch_rows=EVALUATED
    )
    return Terms4Rows(added, taken, np.sqrt(np.maximum(variance, 0)), np.sqrt(np.maximum(alike, 0)))
