"""Joint solutions: speed and truth beside an independent sparse solver, scale, flats, and a drifting transmission."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from benchmarks.harness import PeakMemory, Row, alone, best
from benchmarks.realizations import solve_realizations
from xpjax.core.constants import XP_RANGE
from xpjax.extinction import extinction_curve
from xpjax.survey.exposures.flat import Standards, numerical_flat
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.extend import extend_joint
from xpjax.survey.joint.information import Information
from xpjax.survey.joint.parameters import Parameter
from xpjax.survey.joint.priors import xp_prior
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Color, Flat, ZeroPoint
from xpjax.survey.joint.transmission import Transmission
from xpjax.survey.observations import Frames, Observations
from xpjax.survey.simulation.flat import Flat as TrueFlat
from xpjax.synthetic.atmosphere import Atmosphere
from xpjax.synthetic.chain import Curve, TransmissionChain
from xpjax.synthetic.loading import load_passbands
from xpjax.synthetic.magnitude import photometry
from xpjax.xp import simulate
from xpjax.xp.coefficients import covariance_matrix
from xpjax.xp.instrument import load_instrument as load_instrument
from xpjax.xp.sources import SourceTable

BINS = 20


@dataclasses.dataclass(frozen=True)
class Truth:
    """Of a simulated field: zero-point, color term of exposures, flat (bins, bins), magnitude and color of stars."""

    zero_point: np.ndarray
    color_term: np.ndarray
    flat: np.ndarray
    magnitude: np.ndarray
    color: np.ndarray


def dithered(
    n_exposure: int,
    n_star: int,
    *,
    seen: float = 0.45,
    bins: int = BINS,
    noise: tuple[float, float] = (0.003, 0.009),
    outlier: float = 0.01,
    seed: int = 0,
) -> tuple[Observations, Truth]:
    """A field of stars on exposures moved by random shifts, of which a detector sees a part of the stars.

    noise [mag]: of the brightest and the faintest stars; outlier: part of the measurements that are wrong by 0.05..1
    mag. Columns are as small as they can be, so that 5e7 rows take 1.6 GB.
    """
    rng = np.random.default_rng(seed)
    reach = 0.5 * (np.sqrt(1 / seen) - 1)
    place = rng.uniform(-reach, 1 + reach, (n_star, 2))
    color, magnitude = rng.uniform(-1, 1, n_star), rng.uniform(13, 17, n_star)
    sigma = noise[0] * (noise[1] / noise[0]) ** ((magnitude - 13) / 4)
    flat = 0.01 * rng.normal(size=(bins, bins)) + 0.02 * np.linspace(-1, 1, bins)[:, None]
    truth = Truth(
        rng.normal(25, 0.1, n_exposure), rng.normal(0.02, 0.01, n_exposure), flat - flat.mean(), magnitude, color
    )
    shifts = rng.uniform(-reach, reach, (n_exposure, 2))
    capacity = int(1.05 * n_exposure * n_star * seen) + 10 * n_exposure + 1000
    kinds = {
        "frame": "i4",
        "star": "i4",
        "x": "f4",
        "y": "f4",
        "magnitude": "f8",
        "magnitude_error": "f4",
        "color": "f4",
    }
    columns = {name: np.empty(capacity, kind) for name, kind in kinds.items()}
    n = 0
    for e in range(n_exposure):
        moved = place + shifts[e]
        mine = np.flatnonzero(((moved > 0) & (moved < 1)).all(axis=1))
        x, y = moved[mine].T.astype(np.float32)
        i, j = (
            np.minimum((0.5 * bins * (2 * a - 1 + 1)).astype(int), bins - 1) for a in (y.astype(float), x.astype(float))
        )
        m = magnitude[mine] - truth.zero_point[e] - truth.flat[i, j] - truth.color_term[e] * color[mine]
        m += sigma[mine] * rng.normal(size=len(mine))
        wrong = rng.random(len(mine)) < outlier
        m[wrong] += rng.choice([-1, 1], wrong.sum()) * rng.uniform(0.05, 1, wrong.sum())
        rows = slice(n, n + len(mine))
        n = rows.stop
        made = {
            "frame": e,
            "star": mine,
            "x": x,
            "y": y,
            "magnitude": m,
            "magnitude_error": sigma[mine],
            "color": color[mine],
        }
        for name, values in made.items():
            columns[name][rows] = values
    columns = {name: column[:n] for name, column in columns.items()}
    none, zero = np.broadcast_to(np.float32(np.nan), n), np.broadcast_to(np.int32(0), n)
    names = np.array([f"e{e:05d}" for e in range(n_exposure)])
    text = {kind: np.full(n_exposure, value) for kind, value in (("band", "g"), ("detector", ""), ("night", "n1"))}
    frames = Frames(names, time=60000 + np.arange(n_exposure) / 100, airmass=np.full(n_exposure, 1.2), **text)
    rows = Observations(
        frames, model=none, model_error=none, amplifier=zero, excluded=np.broadcast_to(np.uint32(0), n), **columns
    )
    return rows, truth


def plain_model(bins: int = BINS, position_order: int = 0, **options: Any) -> JointModel:
    """Zero-point and color term of each exposure and one superpixel flat, 5-sigma clip with restore."""
    terms = (ZeroPoint(), Color(position_order=position_order), Flat(bins=bins))
    constraints = tuple(Constraint(term.name) for term in terms)
    usual = {"robust": "none", "clip": 5.0, "error_floor": 0.0, "size": (0.0, 1.0, 0.0, 1.0), "color_zero": 0.0}
    return JointModel(terms, constraints, **{**usual, **options})


def compare(solution: JointSolution, truth: Truth, *, errors: bool = True) -> dict[str, float]:
    """Of zero-points, flat and color terms: rms about the truth, less what constraints decide, and formal errors."""
    out = {}
    for name, true in (("zero_point", truth.zero_point), ("flat", truth.flat.ravel()), ("color", truth.color_term)):
        columns = solution.places(name)
        off = solution.value[columns] - true
        off = off - np.nanmean(off)
        out[f"{name} rms [mmag]"] = 1e3 * float(np.sqrt(np.nanmean(off**2)))
        if errors:
            out[f"{name} formal [mmag]"] = 1e3 * float(np.sqrt(np.nanmean(solution.error(columns) ** 2)))
    return out


def direct(o: Observations, bins: int, used: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, ...]:
    """A dithered field by SciPy's sparse LU of the full system: columns, star ids and magnitudes.

    Then the normal equations and the constraints (3, n_column + n_star) themselves.
    """
    rows = np.flatnonzero(used)
    ids, star = np.unique(o.star[rows], return_inverse=True)
    n, n_frame = len(rows), len(o.frames)
    i, j = (np.minimum((a[rows].astype(float) * bins).astype(int), bins - 1) for a in (o.y, o.x))
    first = 2 * n_frame + bins**2
    columns = np.stack([o.frame[rows], n_frame + o.frame[rows], 2 * n_frame + i * bins + j, first + star], axis=1)
    values = np.stack([np.ones(n), o.color[rows].astype(float), np.ones(n), -np.ones(n)], axis=1)
    total = first + len(ids)
    a = sparse.csr_array((values.ravel(), (np.repeat(np.arange(n), 4), columns.ravel())), shape=(n, total))
    weight = 1 / variance[rows]
    normal = a.T @ sparse.diags_array(weight) @ a
    hold = np.zeros((3, total))
    hold[0, :n_frame], hold[1, n_frame : 2 * n_frame], hold[2, 2 * n_frame : first] = 1 / n_frame, 1 / n_frame, bins**-2
    h = 1e6 * sparse.csr_array(hold)
    whole = sparse.block_array([[normal, h.T], [h, None]]).tocsc()
    x = spsolve(whole, np.append(-(a.T @ (weight * o.magnitude[rows])), np.zeros(3)))
    return x[:first], ids, x[first:total], normal, hold


def agreement(n_exposure: int, n_star: int) -> list[Row]:
    """Columns beside those of the full system with all stars by SciPy's sparse LU, the same points clipped."""
    o, _ = dithered(n_exposure, n_star)
    model = plain_model()
    seconds = best(lambda: solve_joint(o, model), 3)
    found = solve_joint(o, model)
    started = time.perf_counter()
    value, ids, magnitude, *_ = direct(o, BINS, found.used, o.magnitude_error.astype(float) ** 2)
    peer = Row("joint", f"scipy sparse LU, {len(o):,} observations, once", len(o), time.perf_counter() - started)
    row = Row("joint", f"xpjax, {len(o):,} observations, with clipping", len(o), seconds)
    off = found.magnitude[np.searchsorted(found.star, ids), 0] - magnitude
    row.error = float(max(np.abs(found.value - value).max(), np.abs(off).max()))
    row.error_of = "columns and stars, from a sparse direct solution [mag]"
    peer.ratios = {"time over xpjax": peer.seconds / seconds}
    return [row, peer]


def speed(case: str, n_exposure: int, n_star: int, repeats: int, **options: Any) -> Row:
    """Solve a dithered field; time of the solution alone, best of some repeats, and of all errors of its columns."""
    rows, truth = dithered(n_exposure, n_star)
    model = plain_model(**options)
    with PeakMemory() as memory:
        first = time.perf_counter()
        solution = solve_joint(rows, model)
        first = time.perf_counter() - first
    seconds = best(lambda: solve_joint(rows, model), repeats) if repeats else first
    row = Row("joint", case, len(rows), seconds, first, memory.bytes)
    started = time.perf_counter()
    formed = len(solution.value) <= model.dense  # else each error is a solution of its own
    figures = compare(solution, truth, errors=formed)
    if formed:
        figures["seconds of all errors"] = time.perf_counter() - started
    row.error, row.error_of = 1e-3 * figures["zero_point rms [mmag]"], "zero-points about the truth [mag]"
    row.ratios = {
        **figures, "seconds": seconds, "columns": float(len(solution.value)), "passes": float(solution.passes),
        "steps": float(solution.steps), "gauges": float(len(solution.gauge)), "clipped": float(solution.clipped.sum()),
    }  # fmt: skip
    return row


# --- flats ------------------------------------------------------------------------------------------------------------


def further_night(n_exposure: int, n_star: int, n_new: int, repeats: int) -> Row:
    """The last exposures added to a solution of the others, beside one of all; how far both are apart in errors."""
    o, _ = dithered(n_exposure, n_star)
    model, last = plain_model(), np.arange(n_exposure) >= n_exposure - n_new
    first, new = solve_joint(o.on_frames(~last), model), o.on_frames(last)
    started = time.perf_counter()
    known = first.uncertainty.information()
    gathered = time.perf_counter() - started
    first = dataclasses.replace(first, uncertainty=Known(known))
    seconds = best(lambda: extend_joint(first, new), repeats)
    whole_seconds = best(lambda: solve_joint(o, model), repeats)
    found, whole = extend_joint(first, new), solve_joint(o, model)
    mine = {found.column_name(k): k for k in range(len(found.value))}
    index = np.array([mine[whole.column_name(k)] for k in range(len(whole.value))])
    error, spread = whole.error(np.arange(len(index))), whole.star_errors()
    row = Row("joint", f"{len(new):,} observations added to {len(o) - len(new):,}", len(new), seconds)
    row.ratios = {
        "time of a new solution": whole_seconds / seconds, "seconds to gather what is known": gathered,
        "columns apart [errors]": float(np.abs((found.value[index] - whole.value) / error).max()),
        "stars apart [errors]": float(np.nanmax((np.abs(found.magnitude - whole.magnitude) / spread)[~whole.left_out])),
        "bytes a star": 12 * known.cross.nnz / len(first.star),
    }  # fmt: skip
    return row


class Known:
    """What is known of earlier measurements, gathered once."""

    def __init__(self, known: Information) -> None:
        self.known = known

    def information(self) -> Information:
        return self.known


def flats(n_exposure: int, n_star: int) -> Row:
    """A flat of three scales on exposures kept back: polynomial, superpixels, and a numerical flat on either.

    Stars have models good to 10 mmag.

    What is left of the flat, stars and noise apart: rms of (correction - truth) within each exposure, in mmag.
    """
    o, truth = dithered(n_exposure, n_star, bins=1, outlier=0.005)
    injected_flat = TrueFlat((0.05, 0.005, 0.0005), np.random.default_rng([0, 0]))
    place = np.column_stack([o.x, o.y]).astype(float)
    injected = injected_flat(place)
    # Without models pure shifts say little of a flat's slopes: stars' magnitudes could have them.
    models = truth.magnitude + np.random.default_rng(6).normal(0, 0.01, n_star)
    o = dataclasses.replace(
        o, magnitude=o.magnitude + truth.flat[0, 0] - injected, model=models[o.star], model_error=np.full(len(o), 0.01)
    )
    held = np.arange(n_exposure) % 5 == 4
    mine = held[o.frame]
    row = Row("joint", f"flats of three scales, {n_exposure} exposures, a fifth kept back", len(o), 1.0)
    started = time.perf_counter()
    kinds = {
        "none": (),
        "chebyshev 2": (Flat(form="chebyshev", order=2),), "chebyshev 6": (Flat(form="chebyshev", order=6),),
        "superpixel 20 x 20": (Flat(bins=20),), "superpixel 40 x 40": (Flat(bins=40),),
        "chebyshev 6 and superpixel 20 x 20": (Flat("trend", form="chebyshev", order=6), Flat(bins=20, prior=0.01)),
    }  # fmt: skip
    for name, terms in kinds.items():
        constraints = tuple(Constraint(t.name) for t in terms if t.form == "superpixel")
        model = plain_model(star_prior=True)
        model = dataclasses.replace(model, terms=(ZeroPoint(), Color(), *terms), constraints=constraints)
        found = solve_joint(o, model, held_out_frames=held)
        left = {"": np.zeros(len(o))}
        if terms:
            parts = [np.arange(len(found.value))[found.columns(t.name)] for t in terms]
            columns = np.concatenate(parts)
            design, _ = found.design_matrix(dataclasses.replace(o, frames=_as_one(o.frames, ~held)))
            flat = design.tocsc()[:, columns]
            flat.data = np.nan_to_num(flat.data)
            left[""] = flat @ np.nan_to_num(found.value[columns])
        assert found.held_out is not None
        standards = np.flatnonzero(
            mine & np.isfinite(found.held_out.residual) & (np.abs(found.held_out.residual) < 0.05)
        )
        # Calibrated with its own exposure's neighbors: stars' magnitudes come from the other exposures.
        s = Standards(o.frame[standards], o.star[standards], place[standards, 0], place[standards, 1],
                      found.held_out.residual[standards], found.held_out.error[standards] ** 2)  # fmt: skip
        local, _ = numerical_flat(s, o.frame[standards], o.star[standards], *place[standards].T)
        for what, added in (("", left[""][standards]), (" + numerical", left[""][standards] + np.nan_to_num(local))):
            off = added - injected[standards]
            frame = o.frame[standards]
            mean = np.bincount(frame, off, n_exposure) / np.maximum(np.bincount(frame, minlength=n_exposure), 1)
            row.ratios[f"{name}{what} [mmag]"] = 1e3 * float(np.std(off - mean[frame]))
    row.seconds = time.perf_counter() - started
    return row


def _as_one(frames: Frames, known: np.ndarray) -> Frames:
    """Frames that all bear the name of one that was solved for, so that the flat is known on all of them."""
    return dataclasses.replace(frames, exposure=np.full(len(frames), frames.exposure[np.flatnonzero(known)[0]]))


# --- a drifting transmission ------------------------------------------------------------------------------------------

BANDS = ("gp", "rp", "ip", "zp")
SHIFT, SLOPE = 1.5, 0.02
"""Of all filters [nm], and of the detector per 100 nm."""
PARAMETERS = {
    "water": Parameter("night", 3.0), "ozone": Parameter("night", 60.0), "filter_shift": Parameter("all", 5.0),
    "detector_slope": Parameter("all", 0.1),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Nights:
    """A survey whose transmission drifts: observations, chain, spectra as measured and without noise, and truth."""

    observations: Observations
    chain: TransmissionChain
    seen: SourceTable
    exact: SourceTable
    zero_point: np.ndarray
    change: dict[str, np.ndarray]

    @property
    def reference(self) -> np.ndarray:
        """True magnitudes (n_star, n_band) in the chain as it is."""
        found = photometry(self.exact, self.chain.passbands(), errors=False, float64=True)
        return np.asarray(found.magnitude)

    def observe(self, exact: SourceTable, noise: float, seed: int = 1) -> Observations:
        """Stars with these exact spectra on all exposures."""
        frames, n_star = self.observations.frames, len(exact)
        n = n_star * len(frames)
        frame = np.repeat(np.arange(len(frames), dtype=np.int32), n_star)
        color = np.tile(np.asarray(exact.columns["bp_rp"], float), len(frames))
        none, zero = np.full(n, np.nan), np.zeros(n)
        rows = Observations(
            frames, frame, np.tile(exact.source_id, len(frames)), zero, zero, zero, np.full(n, max(noise, 1e-3)), none,
            none, color, zero.astype(np.int32), zero.astype(np.uint32),
        )  # fmt: skip
        term = Transmission(self.chain, exact, PARAMETERS, star_prior=False)
        added = term.prepare(rows).linearize([self.change[name] for name in PARAMETERS]).added
        band = np.array([self.chain.bands.index(b) for b in frames.band])[frame]
        true = np.asarray(photometry(exact, self.chain.passbands(), errors=False, float64=True).magnitude)
        magnitude = true[np.tile(np.arange(n_star), len(frames)), band] - self.zero_point[frame] - added
        magnitude += np.random.default_rng(seed).normal(0, 1, n) * noise
        return dataclasses.replace(rows, magnitude=magnitude)


def stars(n: int, seed: int, *, faint: float = 16.5, color: tuple[float, float] = (0.3, 3.0)) -> SourceTable:
    """Mock XP sources of G 12.5..faint in a range of BP-RP."""
    table = simulate.simulate_sources(8 * n + 500, seed=seed)
    g, c = table.columns["phot_g_mean_mag"], table.columns["bp_rp"]
    return table[np.flatnonzero((g > 12.5) & (g < faint) & (c > color[0]) & (c < color[1]))[:n]]


def measured(exact: SourceTable, seed: int) -> SourceTable:
    """The spectra with noise of their own covariance."""
    rng, c = np.random.default_rng(seed), exact.coefficients
    noise = []
    for xp in exact.release.xp:
        matrix = covariance_matrix(exact, xp)
        values, vectors = np.linalg.eigh(matrix)
        draw = np.sqrt(np.maximum(values, 0)) * rng.normal(size=values.shape)
        noise.append(np.einsum("sij,sj->si", vectors, draw))
    value = np.asarray(c.value, float) + np.concatenate(noise, axis=1)
    return dataclasses.replace(exact, coefficients=dataclasses.replace(c, value=value))


def drifting(
    n_night: int = 30, n_star: int = 2000, *, seed: int = 0, noise: float = 0.005, bands: tuple[str, ...] = BANDS
) -> Nights:
    """An exposure a night in every band, under water and ozone that drift, with moved filters and a detector slope."""
    rng = np.random.default_rng(seed)
    curves = load_passbands("PanSTARRS1")[list(bands)]
    chain = TransmissionChain(
        "mock", bands, tuple(Curve(b.wavelength, b.transmission) for b in curves), np.arange(380.0, 1000.0),
        Atmosphere(airmass=1.2, water=3.0, ozone=300.0, aerosol=0.03),
    )  # fmt: skip
    night = np.tile(np.arange(n_night), len(bands))
    n = len(night)
    frames = Frames(
        np.array([f"e{k:03d}" for k in range(n)]), np.repeat(bands, n_night), np.full(n, ""),
        np.array([f"n{k:02d}" for k in night]), 60000.0 + night, rng.uniform(1.0, 1.8, n),
    )  # fmt: skip
    t = np.arange(n_night)
    change = {
        "water": 1.5 * np.sin(t / 5) + rng.normal(0, 0.4, n_night),
        "ozone": 40 * np.sin(t / 9 + 1) + rng.normal(0, 5, n_night),
        "filter_shift": np.array([SHIFT]), "detector_slope": np.array([SLOPE]),
    }  # fmt: skip
    exact = stars(n_star, seed + 1)
    empty = Observations(frames, *[np.zeros(0)] * 11)
    made = Nights(empty, chain, measured(exact, seed + 2), exact, rng.normal(25, 0.1, n), change)
    return dataclasses.replace(made, observations=made.observe(exact, noise, seed + 3))


def transmission_model(nights: Nights, **options: Any) -> JointModel:
    """Zero-points of exposures and the four parameters, with priors wide beside what the stars say."""
    term = Transmission(nights.chain, nights.seen, PARAMETERS, **options)
    return JointModel((ZeroPoint(), term), robust="none", error_floor=0.0, size=(-1.0, 1.0, -1.0, 1.0))


def reddened(exact: SourceTable, e_bv: float) -> SourceTable:
    """The same spectra behind dust: coefficients of the reddened spectrum by least squares."""
    model = load_instrument()
    grid = np.arange(*XP_RANGE, 2.0)
    design = model.design(grid)
    matrix = np.asarray(design.value) * np.asarray(design.scale)
    scale = np.abs(matrix).max()
    c = np.asarray(exact.coefficients.value, float)
    spectrum = c @ (matrix / scale)
    dust = 10 ** (-0.4 * 3.1 * e_bv * np.asarray(extinction_curve(grid)))
    change = np.linalg.lstsq((matrix / scale).T, (spectrum * (dust - 1)).T, rcond=1e-8)[0].T
    coefficients = dataclasses.replace(exact.coefficients, value=c + change)
    out = dataclasses.replace(exact, coefficients=coefficients, source_id=exact.source_id + 1)
    _, bp, rp = np.asarray(photometry(out, "Gaia_DR3_Vega", errors=False).magnitude).T
    return dataclasses.replace(out, columns={**exact.columns, "bp_rp": bp - rp})


def recovery(solution: JointSolution, nights: Nights) -> dict[str, float]:
    """Of each parameter: width of pulls where there are many, pull where there is one; and of the zero-points."""
    out = {}
    for name, true in nights.change.items():
        value, error = solution.term(f"transmission {name}")
        pull = (value - true) / error
        out[f"{name} pull"] = float(pull[0] if len(pull) == 1 else np.sqrt(np.mean(pull**2)))
        out[f"{name} error"] = float(np.median(error))
    value, error = solution.term("zero_point")
    out["zero_point rms [mmag]"] = 1e3 * float(np.sqrt(np.mean((value - nights.zero_point) ** 2)))
    out["zero_point pull"] = float(np.sqrt(np.mean(((value - nights.zero_point) / error) ** 2)))
    return out


def bias(solution: JointSolution, nights: Nights, exact: SourceTable) -> float:
    """What stars held out are wrong by [mmag], measured without noise: rms over stars and bands, mean of exposures."""
    rows = nights.observe(exact, 0.0)
    terms = tuple(
        dataclasses.replace(term, sources=exact, star_prior=False) if isinstance(term, Transmission) else term
        for term in solution.terms
    )
    added, _ = solution.with_terms(*terms).correction(rows, errors=False)
    true = np.asarray(photometry(exact, nights.chain.passbands(), errors=False, float64=True).magnitude)
    band = np.array([nights.chain.bands.index(b) for b in rows.frames.band])
    off = (rows.magnitude + added).reshape(len(band), -1) - true[:, band].T
    mean = np.stack([off[band == k].mean(axis=0) for k in range(len(nights.chain.bands))])
    return 1e3 * float(np.sqrt(np.nanmean(mean**2)))


def transmission(n_night: int, n_star: int) -> list[Row]:
    """Recover a drifting transmission, and compare stars held out with what polynomial color terms make of them."""
    nights = drifting(n_night, n_star)
    started = time.perf_counter()
    found = solve_joint(nights.observations, transmission_model(nights))
    row = Row("joint", f"transmission, {n_night} nights x {n_star} stars", len(nights.observations),
              time.perf_counter() - started)  # fmt: skip
    row.ratios = recovery(found, nights)
    low, high = np.quantile(np.asarray(nights.exact.columns["bp_rp"]), [0.005, 0.995])
    terms = (ZeroPoint(), Color(order=2))
    model = JointModel(terms, robust="none", error_floor=0.0, size=(-1.0, 1.0, -1.0, 1.0), color_zero=1.0)
    plain = solve_joint(nights.observations, model, prior=xp_prior(nights.seen, nights.chain.passbands()))
    others = stars(300, 77)
    groups = {
        "reddened": reddened(stars(400, 78, color=(0.3, 1.0)), 0.6),
        "M dwarfs": stars(150, 79, color=(2.0, 3.0)), "others": others,
    }  # fmt: skip
    for name, exact in groups.items():
        color = np.asarray(exact.columns["bp_rp"])
        inside = exact[np.flatnonzero((color > low) & (color < high))]
        ours, polynomial = (bias(s, nights, inside) for s in (found, plain))
        row.ratios |= {
            f"{name}: bias [mmag]": ours, f"{name}: of color terms [mmag]": polynomial,
            f"{name}: ratio": polynomial / ours,
        }  # fmt: skip
    return [row]


def pulls(n: int = 1000) -> Row:
    """Widths of pulls over many realizations of a dithered field in one batched run."""
    o, truth = dithered(12, 60, bins=3, outlier=0.0, seed=4, seen=0.6)
    rng = np.random.default_rng(1)
    i, j = (np.minimum((a.astype(float) * 3).astype(int), 2) for a in (o.y, o.x))
    clean = truth.magnitude[o.star] - truth.zero_point[o.frame] - truth.flat[i, j] - truth.color_term[o.frame] * o.color
    magnitude = clean + o.magnitude_error * rng.normal(size=(n, len(o)))
    model = plain_model(3, min_observations=1, clip=0.0)
    started = time.perf_counter()
    found = solve_realizations(o, model, magnitude)
    row = Row("joint", f"pulls, {n} dithered fields in one run", n, time.perf_counter() - started)
    parts = {"zero_point": truth.zero_point, "color": truth.color_term, "flat": truth.flat.ravel()}
    first = 0
    for name, true in parts.items():
        mine = slice(first, first + len(true))
        first = mine.stop
        off = found.value[:, mine] - true
        off -= off.mean(axis=1, keepdims=True)  # constraints say what the mean is, not the truth
        row.ratios[f"{name} pull"] = float((off / found.error[:, mine]).std())
    return row


def transmission_pulls(n: int = 1000) -> Row:
    """The same of a transmission: water, shift and slope, with priors of the stars."""
    nights = drifting(2, 40, bands=BANDS[1:], noise=0.0)
    names = {name: Parameter("all") for name in ("water", "filter_shift", "detector_slope")}
    term = Transmission(nights.chain, nights.exact, names, star_prior=False)
    model = JointModel((ZeroPoint(), term), robust="none", clip=0.0, error_floor=0.0, star_prior=True,
                       min_observations=1, size=(-1.0, 1.0, -1.0, 1.0))  # fmt: skip
    o, rng = nights.observations, np.random.default_rng(5)
    band = np.array([nights.chain.bands.index(b) for b in o.frames.band])[o.frame]
    true = nights.reference
    order = np.argsort(nights.exact.source_id)
    star = np.argsort(order)[np.tile(np.arange(len(true)), len(o.frames))]
    o = dataclasses.replace(o, model=true[order][star, band], model_error=np.full(len(o), 0.0005),
                            magnitude_error=np.full(len(o), 0.001))  # fmt: skip
    change = {"water": np.array([0.5]), "filter_shift": np.array([SHIFT]), "detector_slope": np.array([SLOPE])}
    added = term.prepare(o).linearize(list(change.values())).added
    clean = o.model - nights.zero_point[o.frame] - added
    magnitude = clean + 0.001 * rng.normal(size=(n, len(o)))
    column = np.argsort(nights.chain.bands)  # bands in the order of their names
    prior = true[order][:, column].ravel()
    started = time.perf_counter()
    found = solve_realizations(o, model, magnitude, star_magnitude=prior + 0.0005 * rng.normal(size=(n, len(prior))))
    row = Row("joint", f"pulls, {n} drifting transmissions in one run", n, time.perf_counter() - started)
    truth = np.concatenate([nights.zero_point, *change.values()])
    pull = (found.value - truth) / found.error
    n_frame = len(o.frames)
    row.ratios["zero_point pull"] = float(pull[:, :n_frame].std())
    row.ratios |= {f"{name} pull": float(pull[:, n_frame + k].std()) for k, name in enumerate(names)}
    row.ratios |= {f"{name} error": float(found.error[:, n_frame + k].mean()) for k, name in enumerate(names)}
    return row


def noisy_pulls(n: int = 50, n_night: int = 6, n_star: int = 400) -> Row:
    """Pulls of the shift and the slope where spectra are noisy and parameters too, over fields of few stars."""
    pull = np.empty((n, 2))
    started = time.perf_counter()
    for k in range(n):
        nights = drifting(n_night, n_star, seed=1000 + 17 * k, bands=BANDS[1:])
        told = recovery(solve_joint(nights.observations, transmission_model(nights)), nights)
        pull[k] = told["filter_shift pull"], told["detector_slope pull"]
    row = Row("joint", f"pulls, {n} transmissions with noisy spectra", n, time.perf_counter() - started)
    for name, one in zip(("filter_shift", "detector_slope"), pull.T, strict=True):
        row.ratios |= {f"{name} pull": float(one.std()), f"{name} mean pull": float(one.mean())}
    return row


SCALE = 3100, 33_333
"""Exposures, and stars of which an exposure sees 15,000."""


def run(quick: bool) -> list[Row]:
    rows = [speed("443,000 observations, 800 columns", 200, 4900, 3 if quick else 9), *agreement(40, 1000)]
    rows.append(further_night(200, 4900, 10, 3))
    if quick:
        return [*rows, pulls(200)]
    rows += [speed("2.2 million observations, 1,400 columns", 500, 9800, 5), further_night(500, 9800, 10, 3)]
    case = "46.5 million observations"
    rows.append(alone(speed, f"{case}, 6,600 columns", *SCALE, 0))
    rows.append(alone(speed, f"{case}, 22,100 columns by conjugate gradients", *SCALE, 0, position_order=2))
    rows += [flats(100, 2000), *transmission(30, 2000)]
    return [*rows, pulls(), transmission_pulls(), noisy_pulls()]
