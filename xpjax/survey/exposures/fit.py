"""The fits of all exposures at once: rows are prepared once, and fitted as often as flats, nights and folds ask for.

A frame is one source of the engine; frames are padded to few sizes, so that a job of any number of stars compiles once
or twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from xpjax.core import engine
from xpjax.core.process import one_blas_thread
from xpjax.core.records import Record
from xpjax.survey import LEAST_VARIANCE, MAD, FrameFlag, Observations, RowFlag, group_median
from xpjax.survey.exposures.kernel import Frame, Recipe, fit_kernel
from xpjax.survey.exposures.model import ExposureModel, Scaling, Terms, host_design, scaling, terms_of
from xpjax.survey.exposures.results import ExposureFits, Prior

SINGULAR = 1e-9
"""A term that the others predict to this fraction of its variance is not determined."""
CACHE = 4 << 20
"""Bytes of a batch on a CPU."""
TOLERANCE = 1e-4
"""Part of the error at which the steps of a fit end."""
SOME = 256
"""Standards of a frame whose median is start enough."""


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


@dataclasses.dataclass(frozen=True, repr=False)
class PreparedExposures(Record):
    """Observations ready for fits: the rows (n,) that may be standards, frame by frame, and what the fits need of each.

    columns, by name (n,): u and v (places scaled to -1..1), color and magnitude less their zeros, amplifier,
    difference (model less instrumental magnitude), variance and its common part [mag^2].
    """

    observations: Observations
    model: ExposureModel
    scale: Scaling
    terms: Terms
    rows: np.ndarray
    columns: Mapping[str, np.ndarray]

    def among(self, chosen: np.ndarray) -> PreparedExposures:
        """The same with the chosen rows (n_row,) of the observations alone as standards."""
        mine = np.asarray(chosen, bool)[self.rows]
        if mine.all():
            return self
        columns = {name: column[mine] for name, column in self.columns.items()}
        return dataclasses.replace(self, rows=self.rows[mine], columns=columns)

    def without(self, fold: np.ndarray) -> PreparedExposures:
        """The same where cross-validation leaves rows (n_row,) of the observations out of the fit."""
        o = self.observations
        excluded = np.where(fold, o.excluded | np.uint32(RowFlag.HELD_OUT), o.excluded).astype(np.uint32)
        return dataclasses.replace(self.among(~fold), observations=dataclasses.replace(o, excluded=excluded))


def prepare_exposures(
    observations: Observations, model: ExposureModel, scale: Scaling | None = None, n_amplifier: int | None = None
) -> PreparedExposures:
    """Rows that may be standards with their columns, to be fitted by `fit_prepared` any number of times.

    n_amplifier: of the survey, where the observations are a part of it.
    """
    o = observations
    scale = scale or scaling(o, model)
    terms = terms_of(model, int(o.amplifier.max(initial=0)) + 1 if n_amplifier is None else n_amplifier)
    rows = np.flatnonzero(standards(o, model)[0])
    if len(rows) and (np.diff(o.frame[rows]) < 0).any():
        rows = rows[np.argsort(o.frame[rows], kind="stable")]
    u, v = scale.places(o.frame[rows], o.x[rows], o.y[rows])
    common = o.model_error[rows] ** 2
    columns = {
        "u": u, "v": v, "amplifier": o.amplifier[rows], "difference": o.model[rows] - o.magnitude[rows],
        "variance": np.nan_to_num(o.magnitude_error[rows]) ** 2 + common, "common": common,
    }  # fmt: skip
    if terms.color_order:
        columns["color"] = o.color[rows] - scale.color_zero
    if terms.magnitude_order:
        columns["magnitude"] = o.magnitude[rows] - scale.magnitude_zero
    return PreparedExposures(o, model, scale, terms, rows, columns)


def needs_magnitude(prepared: PreparedExposures, *, devices: engine.Devices = None) -> np.ndarray:
    """Which terms (n_frame, n_term) to fit where magnitude_order is "auto": all, or all but the magnitude's."""
    allowed = np.ones((len(prepared.observations.frames), len(prepared.terms)), bool)
    if prepared.model.magnitude_order == "auto":
        allowed[:, prepared.terms.names.index("magnitude_1")] = clear_slopes([magnitude_slopes(prepared, devices)])
    return allowed


def magnitude_slopes(prepared: PreparedExposures, devices: engine.Devices = None) -> dict[str, np.ndarray]:
    """Slope with magnitude of each frame (n_frame,), its variance and common variance, and what it does to the floor.

    Frames without a slope have NaN.
    """
    frames, terms = prepared.observations.frames, prepared.terms
    both = np.ones((len(frames), len(terms)), bool)
    with_it = fit_prepared(prepared, devices=devices)
    without = fit_prepared(prepared, allowed=both & (terms.kinds != "magnitude"), devices=devices)
    k = terms.names.index("magnitude_1")
    variance = with_it.covariance[:, k, k]
    return {
        "band": frames.band, "detector": frames.detector,
        "slope": np.where(with_it.active[:, k] & (variance > 0), with_it.value[:, k], np.nan), "variance": variance,
        "common": with_it.common_covariance[:, k, k], "floor": with_it.floor - without.floor,
    }  # fmt: skip


def clear_slopes(parts: Sequence[Mapping[str, np.ndarray]], significance: float = 5.0) -> np.ndarray:
    """Which frames (n_frame,) of a survey in parts need a magnitude term, by their `magnitude_slopes`.

    A band and detector needs it where the mean slope of its frames differs from zero by more than `significance`
    errors and the error floors are smaller with it; the common error of the standards does not average out. Others keep
    the smaller model: a term that is not there only adds noise, and ties the survey to the errors of the standards at
    the bright end.
    """
    f = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    group = np.unique(np.stack([f["band"], f["detector"]], axis=1), axis=0, return_inverse=True)[1].ravel()
    needed = np.ones(len(group), bool)
    for g in range(group.max(initial=-1) + 1):
        mine = np.flatnonzero((group == g) & np.isfinite(f["slope"]))
        if len(mine):
            weight = 1 / f["variance"][mine]
            mean = (weight * f["slope"][mine]).sum() / weight.sum()
            clear = abs(mean) > significance * np.sqrt(1 / weight.sum() + np.median(f["common"][mine]))
            if clear and np.median(f["floor"][mine]) < 0:
                continue
        needed[group == g] = False
    return needed


def fit_exposures(
    observations: Observations,
    model: ExposureModel,
    *,
    scale: Scaling | None = None,
    use: np.ndarray | None = None,
    offset: np.ndarray | None = None,
    devices: engine.Devices = None,
) -> ExposureFits:
    """Fit every exposure apart from the others.

    A frame that cannot be fitted as asked has its orders lowered, or is refused; its status says so.

    Parameters
    ----------
    observations : Observations
        Measurements, with models of the standards.
    model : ExposureModel
        What is fitted.
    scale : Scaling, optional
        Zeros of coordinates, color and magnitude; by default from the observations.
    use : (n,) bool array, optional
        Rows that may be standards.
    offset : (n,) array [mag], optional
        Added to the magnitudes first, as a stacked flat.
    devices : str or int, optional
        Device; by default the first of JAX.

    Returns
    -------
    ExposureFits
        The solutions of all frames.

    Notes
    -----
    With m the instrumental and M the model magnitude of a standard, C its color and (u, v) its place scaled to -1..1,
    M - m = sum_ij b_ij T_i(u) T_j(v) + sum_k a_k (C - C_zero)^k + sum_k l_k (m - m_zero)^k + o_amplifier, with
    Chebyshev polynomials T (Xiao et al. 2023, 2025, with order 2), by iteratively reweighted least squares.

    Examples
    --------
    >>> from xpjax.survey.exposures import ExposureModel, fit_exposures
    >>> k = np.arange(20.0)
    >>> o = xpjax.survey.make_observations(k, k, k**2 % 7, 14 + k / 9, np.full(20, 0.01), 17 + k / 9)
    >>> fits = fit_exposures(o, ExposureModel(position_order=0, color_order=0, magnitude_order=0))
    >>> fits.n_used.tolist()
    [20]
    """
    prepared = prepare_exposures(observations, model, scale)
    return fit_prepared(prepared if use is None else prepared.among(use), offset=offset, devices=devices)


def fit_prepared(
    prepared: PreparedExposures,
    *,
    offset: np.ndarray | None = None,
    prior: Prior | None = None,
    allowed: np.ndarray | None = None,
    common_floor: np.ndarray | float = 0.0,
    tolerance: float = TOLERANCE,
    devices: engine.Devices = None,
) -> ExposureFits:
    """Fit every frame; one that cannot be fitted as asked has its orders lowered, or is refused, and says so in status.

    offset (n,) [mag] is added to the magnitudes first (a stacked flat). prior: of the terms. allowed (n_frame, n_term):
    terms that may be fitted. common_floor (n_frame,) or one [mag]: the common part of the error floors. tolerance:
    part of the error at which steps end.
    """
    terms, model = prepared.terms, prepared.model
    n_frame, n_term = len(prepared.observations.frames), len(terms)
    sample = _sample(prepared, offset)
    known = prior or Prior(np.zeros((n_frame, n_term)), np.zeros((n_frame, n_term)))
    wanted = np.ones((n_frame, n_term), bool) if allowed is None else allowed
    active = _affordable(terms, sample.count, model.stars_per_term, known.precision > 0) & wanted
    status = _status(prepared, sample.count)
    tau = np.broadcast_to(np.asarray(common_floor, float), n_frame)
    out, residual, kept = _solve(prepared, sample, known, active, status, tau, tolerance, devices)
    count = sample.count
    refused = count == 0
    out["zero_point"] += sample.start
    out["value"][:, 0] += sample.start
    status[(active != wanted).any(axis=1) & ~refused] |= np.uint32(FrameFlag.LOWERED)
    few = ~refused & (count - active.sum(axis=1) < 1)
    status[few & (model.error_floor is None)] |= np.uint32(FrameFlag.FLOOR_NOT_FITTED)
    status[~refused & ~(out.pop("converged") > 0)] |= np.uint32(FrameFlag.NOT_CONVERGED)
    out.pop("determined")
    n_row, rows, frame = len(prepared.observations), prepared.rows, sample.frame
    off = np.abs(residual - group_median(residual, frame, n_frame)[frame])
    with np.errstate(invalid="ignore"):
        rms = np.sqrt(np.bincount(frame, residual**2, n_frame) / count)
    used, clipped, everywhere = np.zeros(n_row, bool), np.zeros(n_row, bool), np.full(n_row, np.nan)
    used[rows[kept]], clipped[rows[~kept]], everywhere[rows] = True, True, residual
    return ExposureFits(
        terms, prepared.scale, **out, model_systematic=_model_systematic(prepared, kept, out["floor"]),
        scatter=MAD * group_median(off, frame, n_frame), rms=rms, n_standard=count,
        n_used=np.bincount(frame[kept], minlength=n_frame), status=status, active=active, residual=everywhere,
        used=used, clipped=clipped,
    )  # fmt: skip


def _model_systematic(prepared: PreparedExposures, kept: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Mean systematic error (n_frame,) of the models of the standards that were kept, by their weights."""
    o, rows = prepared.observations, prepared.rows[kept]
    if o.model_systematic is None:
        return np.zeros(len(o.frames))
    frame, n = o.frame[rows], len(o.frames)
    weight = 1 / np.maximum(prepared.columns["variance"][kept] + floor[frame] ** 2, LEAST_VARIANCE)
    total = np.bincount(frame, weight, n)
    return np.bincount(frame, weight * o.model_systematic[rows], n) / np.where(total > 0, total, 1.0)


@dataclasses.dataclass(frozen=True, repr=False)
class _Sample(Record):
    """The standards of one fit: frame and place within the frame of each (n,), and for each frame (n_frame,) their
    number, a first zero-point and a first floor^2. difference (n,): less offset and first zero-point."""

    frame: np.ndarray
    slot: np.ndarray
    count: np.ndarray
    start: np.ndarray
    guess: np.ndarray
    difference: np.ndarray


def _sample(prepared: PreparedExposures, offset: np.ndarray | None) -> _Sample:
    o, rows = prepared.observations, prepared.rows
    frame, n_frame = o.frame[rows], len(o.frames)
    count = np.bincount(frame, minlength=n_frame)
    slot = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    difference = prepared.columns["difference"] - (0.0 if offset is None else offset[rows])
    some = slot < SOME
    start = np.nan_to_num(group_median(difference[some], frame[some], n_frame))
    difference = difference - start[frame]
    # The first floor is the whole scatter, flat and colors included: it can only shrink.
    guess = np.nan_to_num((MAD * group_median(np.abs(difference[some]), frame[some], n_frame)) ** 2)
    return _Sample(frame, slot, count, start, guess, difference)


def _status(prepared: PreparedExposures, count: np.ndarray) -> np.ndarray:
    """FrameFlag bits (n_frame,) that are known before any fit."""
    o, n_frame = prepared.observations, len(count)
    status = np.zeros(n_frame, np.uint32)
    any_model = np.bincount(o.frame[np.isfinite(o.model)], minlength=n_frame) > 0
    measured = np.bincount(o.frame[prepared.rows][o.magnitude_error[prepared.rows] > 0], minlength=n_frame) > 0
    status[count == 0] |= np.uint32(FrameFlag.NO_STANDARDS)
    status[~any_model] |= np.uint32(FrameFlag.NO_MODEL)
    status[(count > 0) & ~measured] |= np.uint32(FrameFlag.NO_ERRORS)
    return status


def _solve(
    prepared: PreparedExposures,
    sample: _Sample,
    known: Prior,
    active: np.ndarray,
    status: np.ndarray,
    tau: np.ndarray,
    tolerance: float,
    devices: engine.Devices,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Fields of the fits (n_frame, ...), and residual and whether it was kept of each standard.

    Terms that the standards of a frame do not determine are taken out of `active`, and `status` says so.
    """
    terms, count, frame = prepared.terms, sample.count, sample.frame
    n_frame, n_term = active.shape
    columns = {**prepared.columns, "difference": sample.difference}
    shapes = {"value": (n_term,), "covariance": (n_term, n_term), "common_covariance": (n_term, n_term)}
    single = ("zero_point", "zero_point_error", "zero_point_common", "floor", "determined", "converged")
    out = {name: np.full((n_frame, *shapes.get(name, ())), np.nan) for name in (*shapes, *single)}
    residual, kept = np.full(len(frame), np.nan), np.zeros(len(frame), bool)
    todo = np.flatnonzero(count > 0)
    while len(todo):
        for group in _groups(count, todo, tau):
            chosen = np.zeros(n_frame, bool)
            chosen[group] = True
            mine = chosen[frame] if len(group) < n_frame else slice(None)
            place = np.cumsum(chosen) - 1
            size = _round_size(int(count[group].max()))
            at = place[frame[mine]], sample.slot[mine]
            fit = engine.run(
                fit_kernel,
                _recipe(prepared.model, terms, float(tau[group[0]]), tolerance),
                Frame(
                    **_padded(columns, mine, at, (len(group), size)),
                    active=active[group],
                    floor=sample.guess[group],
                    prior=known.mean[group] - np.outer(sample.start[group], np.arange(n_term) == 0),
                    prior_precision=known.precision[group],
                ),
                float64=True,
                devices=devices,
                batch_rows=_batch_rows(size, n_term, len(group), devices),
            )
            for name, array in out.items():
                array[group] = getattr(fit, name)
            residual[mine], kept[mine] = fit.residual[at], fit.kept[at]
        todo = todo[~(out["determined"][todo] > SINGULAR)]
        for k in todo:
            status[k] |= _lower(terms, active, k, {name: column[frame == k] for name, column in columns.items()})
    return out, residual, kept


def _recipe(model: ExposureModel, terms: Terms, common_floor: float, tolerance: float) -> Recipe:
    stages = {"tukey": ("huber", "tukey"), "huber": ("huber",), "none": ("none",)}[model.robust]
    fixed = np.nan if model.error_floor is None else model.error_floor**2
    return Recipe(
        terms, (*stages, "clip") if model.clip else stages, np.asarray(float(model.clip)), np.asarray(fixed),
        np.asarray(common_floor**2), np.asarray(float(tolerance)),
    )  # fmt: skip


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


def _batch_rows(size: int, n_term: int, n: int, devices: engine.Devices) -> int | None:
    """Frames of a batch: their designs fit the cache of a CPU; on an accelerator what the engine chooses."""
    if engine.find_devices(devices)[0].platform != "cpu":
        return None
    rows = max(1, CACHE // (8 * size * (2 * n_term + 8)))
    return min(1 << (rows.bit_length() - 1), max(4, 1 << (n - 1).bit_length()))


def _padded(
    columns: Mapping[str, np.ndarray], mine: Any, at: tuple[np.ndarray, np.ndarray], shape: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The rows `mine` of each column as (frames, stars) at their places; and `use`, which says where there are any."""
    # The engine wants arrays with the frames as rows even where a column does not matter.
    out = {name: np.zeros(shape) for name in ("color", "magnitude")}
    for name, column in columns.items():
        out[name] = np.zeros(shape, np.int32 if name == "amplifier" else float)
        out[name][at] = column[mine]
    out["use"] = np.zeros(shape, bool)
    out["use"][at] = True
    return out


def _lower(terms: Terms, active: np.ndarray, k: Any, columns: dict[str, np.ndarray]) -> np.uint32:
    """Take out of frame k, in place, the highest order of what its standards do not determine; says what that was."""
    on = np.flatnonzero(active[k])
    zeros = np.zeros(len(columns["u"]))
    with engine.precision(True):
        names = ("u", "v", "color", "magnitude", "amplifier")
        design = np.asarray(terms.design(*(jnp.asarray(columns.get(name, zeros)) for name in names)))[on]
    size = np.sqrt((design**2).sum(axis=1))
    with one_blas_thread():
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


def determined_terms(prepared: PreparedExposures) -> tuple[np.ndarray, np.ndarray]:
    """Terms (n_frame, n_term) that the standards of each frame can pay for and determine; FrameFlag bits (n_frame,).

    It is what fits without a prior find, by numbers of standards and the rank of their design, before any fit.
    """
    terms, o = prepared.terms, prepared.observations
    frame = o.frame[prepared.rows]
    count = np.bincount(frame, minlength=len(o.frames))
    active = _affordable(terms, count, prepared.model.stars_per_term, np.zeros((len(count), len(terms)), bool))
    status = _status(prepared, count)
    edges = np.searchsorted(frame, np.arange(len(count) + 1))
    for k in np.flatnonzero(count):
        columns = {name: column[edges[k] : edges[k + 1]] for name, column in prepared.columns.items()}
        design = host_design(terms, columns)
        while True:
            mine = design[:, active[k]]
            size = np.sqrt((mine**2).sum(axis=0))
            with one_blas_thread():
                s = np.linalg.svd(mine / np.where(size > 0, size, 1), compute_uv=False)
            if mine.shape[1] < 2 or (len(s) == mine.shape[1] and s[-1] >= np.sqrt(SINGULAR) * s[0]):
                break
            status[k] |= _lower(terms, active, k, columns)
    status[~active.all(axis=1) & (count > 0)] |= np.uint32(FrameFlag.LOWERED)
    return active, status
