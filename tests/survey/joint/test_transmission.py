"""Transmission terms: derivatives, recovery of drifting air and moved filters, spectra as parameters, refusals."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from scipy import linalg

from benchmarks import joint
from benchmarks.joint import BANDS, PARAMETERS, SHIFT, SLOPE, Nights, drifting, recovery, transmission_model
from xpjax.core.status import Status
from xpjax.survey.joint.blocks import frame_groups
from xpjax.survey.joint.covariance import FitUncertainty
from xpjax.survey.joint.fit import Fit
from xpjax.survey.joint.noise import NoisySlopes, SlopeNoise
from xpjax.survey.joint.parameters import Parameter
from xpjax.survey.joint.priors import StarPrior, xp_prior
from xpjax.survey.joint.problem import JointModel, prepare_joint
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Color, ZeroPoint
from xpjax.survey.joint.transmission import Transmission
from xpjax.synthetic.magnitude import photometry
from xpjax.synthetic.projection import passband_system
from xpjax.xp.coefficients import covariance_matrix
from xpjax.xp.sources import SourceTable


@pytest.fixture(scope="module")
def nights() -> Nights:
    return drifting(6, 400, seed=0, bands=BANDS[1:])


@pytest.fixture(scope="module")
def many() -> Nights:
    return drifting(6, 1200, seed=1)


@pytest.fixture(scope="module")
def solved(many: Nights) -> JointSolution:
    return solve_joint(many.observations, transmission_model(many))


@pytest.mark.slow
def test_derivatives_and_what_is_added(nights: Nights) -> None:
    o = nights.observations
    term = Transmission(nights.chain, nights.exact, PARAMETERS, star_prior=False)
    prepared = term.prepare(o)
    # Not at a shift that puts the samples of the filter, where slopes jump, on those of the curve.
    start = [nights.change["water"], nights.change["ozone"], np.array([1.37]), nights.change["detector_slope"]]
    about = prepared.linearize(start)
    added, slopes = about.added, about.slopes
    # Against synthetic photometry of the chain itself.
    k = 7
    night = int(o.frames.night[k][1:])
    own = nights.chain.with_parameters(
        airmass=o.frames.airmass[k], water=3.0 + start[0][night], ozone=300.0 + start[1][night], filter_shift=1.37,
        detector_slope=SLOPE,
    )  # fmt: skip
    band = str(o.frames.band[k])
    moved = photometry(nights.exact, own.passbands()[[band]], errors=False, float64=True).magnitude[:, 0]
    nominal = photometry(nights.exact, nights.chain.passbands()[[band]], errors=False, float64=True).magnitude[:, 0]
    np.testing.assert_allclose(added[o.frame == k], nominal - moved, atol=2e-5)
    assert np.std(nominal - moved) > 1e-3
    for j, step in enumerate((1e-3, 1e-2, 1e-4, 1e-6)):
        ends = []
        for sign in (-1, 1):
            values = [v + sign * step * (i == j) for i, v in enumerate(start)]
            ends.append(prepared.linearize(values).added)
        np.testing.assert_allclose(slopes[j], (ends[1] - ends[0]) / (2 * step), rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_a_drifting_transmission_is_recovered(many: Nights, solved: JointSolution) -> None:
    assert solved.converged
    told = recovery(solved, many)
    # Six nights: 99 % of widths of six pulls are within 0.3 and 1.8.
    assert 0.3 < told["water pull"] < 1.8
    assert 0.3 < told["ozone pull"] < 1.8
    assert abs(told["filter_shift pull"]) < 3
    assert abs(told["detector_slope pull"]) < 3
    assert 0.5 < told["zero_point pull"] < 1.7
    assert told["filter_shift error"] < 0.25 * SHIFT
    assert solved.chi2 / solved.degrees_of_freedom == pytest.approx(1, abs=0.06)
    plain = solve_joint(
        many.observations,
        JointModel((ZeroPoint(), Color(order=2)), robust="none", error_floor=0.0, size=(-1, 1, -1, 1), color_zero=1.0),
        prior=xp_prior(many.seen, many.chain.passbands()),
    )
    others = joint.stars(150, 9)
    assert joint.bias(solved, many, others) < 0.6 * joint.bias(plain, many, others)


@pytest.mark.slow
def test_spectra_must_be_parameters(many: Nights, solved: JointSolution) -> None:
    """Noisy spectra at fixed values bias the shift by several errors; as parameters they do not."""
    found = recovery(solved, many)["filter_shift pull"]
    prior = xp_prior(many.seen, many.chain.passbands())
    fixed = solve_joint(many.observations, transmission_model(many, star_prior=False), prior=prior)
    assert recovery(fixed, many)["filter_shift pull"] > max(found + 1.5, 2.0)


@pytest.mark.slow
def test_what_derivatives_are_uncertain_by(nights: Nights) -> None:
    """Spectra drawn as the solution leaves them, and the spread of finite differences of their magnitudes."""
    stars, bands = nights.seen.source_id[:2], BANDS[1:]
    prepared = transmission_model(nights).terms[1].prepare(nights.observations)
    prior = xp_prior(nights.seen[:2], nights.chain.passbands())
    solved = prior.covariance / 4 - 0.1 * prior.covariance * np.eye(3)
    begun = prepared.begin(stars, bands)
    told = prepared.noise(begun, solved).covariance
    rng = np.random.default_rng(2)
    mean = np.stack([begun.middle.projection[b] for b in bands], axis=1)
    slope = np.stack([begun.middle.slope[b] for b in bands], axis=1)
    for k in range(2):
        c = prepared.coefficients[k]
        whole = linalg.block_diag(*(covariance_matrix(nights.seen[k : k + 1], xp)[0] for xp in ("bp", "rp")))
        # Given magnitudes of covariance `solved`: condition on those of the spectrum, then spread them again.
        a = -2.5 / np.log(10) * mean / (c @ mean)
        prior_of = a.T @ whole @ a
        gain = whole @ a @ np.linalg.inv(prior_of)
        left = whole - gain @ (prior_of - solved[k]) @ gain.T
        values, vectors = np.linalg.eigh(left)
        drawn = c + (rng.normal(size=(40_000, len(c))) * np.sqrt(np.maximum(values, 0))) @ vectors.T
        found = 2.5 / np.log(10) * np.einsum("si,ibk->sbk", drawn, slope) / (drawn @ mean)[:, :, None]
        spread = np.cov(found.reshape(len(found), -1).T)
        size = np.sqrt(np.diagonal(spread))
        np.testing.assert_allclose(
            told[k].reshape(12, 12) / np.outer(size, size), spread / np.outer(size, size), atol=0.05
        )
    assert not prepared.noise(prepared.begin(np.array([-5]), bands), solved[:1]).covariance.any()


@pytest.mark.slow
def test_noise_of_normal_equations_is_summed_as_they_are(nights: Nights) -> None:
    """Derivatives drawn again and again: what their normal equations have more than those of the mean."""
    rng = np.random.default_rng(4)
    n_star, n_band, per = 7, 2, ("night", "all")
    frames = dataclasses.replace(nights.observations.frames)
    frame = np.tile(np.flatnonzero(np.isin(frames.band, BANDS[1:3])), n_star)
    star = np.repeat(np.arange(n_star), len(frame) // n_star)
    band = (frames.band[frame] == BANDS[2]).astype(int)
    weight = rng.uniform(1, 2, len(frame))
    groups = [frame_groups(frames, p) for p in per]
    index = [group.index[frame] for group in groups]
    by_frame = rng.uniform(0.5, 1.5, (len(frames), 2))
    amplitude = by_frame[frame].T
    roots = rng.normal(size=(n_star, n_band * 2, n_band * 2))
    noise = (roots @ np.swapaxes(roots, 1, 2)).reshape(n_star, n_band, 2, n_band, 2)
    total = np.zeros((n_star, n_band, n_band))
    np.add.at(total, (star, band, band), weight)
    precision = np.array([[2.0, 0.7], [0.7, 3.0]])
    solved = np.linalg.inv(total + precision)
    edges = np.cumsum([3, *(len(group.labels) for group in groups)])
    columns = [slice(a, b) for a, b in itertools.pairwise(edges.tolist())]
    # The second column is of a field: a row's derivative is the parameter's times its place.
    basis = rng.uniform(0, 1, len(frame))
    slopes = NoisySlopes([0, 1], index, [None, basis], frame, by_frame, noise)
    found = slopes.summed(columns, solved, np.arange(len(frame)), star * n_band + band, weight)
    sums = np.zeros((edges[-1] - 3, edges[-1] - 3))
    n = 4000
    for _ in range(n):
        drawn = np.einsum("sij,sj->si", roots, rng.normal(size=(n_star, 4))).reshape(n_star, n_band, 2)
        design = np.zeros((len(frame), edges[-1] - 3))
        for k in range(len(groups)):
            value = amplitude[k] * drawn[star, band, k] * (basis if k else 1.0)
            design[np.arange(len(frame)), columns[k].start - 3 + index[k]] = value
        of_star = np.zeros((n_star, n_band, design.shape[1]))
        np.add.at(of_star, (star, band), weight[:, None] * design)
        sums += design.T @ (weight[:, None] * design) - np.einsum("sap,sab,sbq->pq", of_star, solved, of_star)
    scale = np.sqrt(np.outer(np.diagonal(sums), np.diagonal(sums)))
    np.testing.assert_allclose(found.matrix * n / scale, sums / scale, atol=0.05)
    assert found.columns.tolist() == list(range(3, edges[-1]))


@pytest.mark.slow
def test_errors_of_a_solution_are_those_of_noisy_derivatives(nights: Nights) -> None:
    """With R of the solution (R - N)^-1 R (R - N)^-1, written out, has the errors on its diagonal; R^-1 has less."""
    problem = prepare_joint(nights.observations, transmission_model(nights))
    fit = Fit(problem, problem.rows, nights.observations.magnitude, None, None)
    fit.run()
    equations, stars, one = fit.equations, fit.stars, problem.nonlinear[0]
    normal, _ = problem.rows.normal(equations.weight, equations.inverse, single=False)
    normal = np.triu(normal) + np.triu(normal, 1).T + np.diag(problem.columns.precision)
    columns = [problem.rows.layout.columns(b) for b in one.blocks]
    slopes = one.term.noise(fit.linear[0], stars.inverse)
    order = problem.sorted.order
    noise = slopes.summed(columns, stars.inverse, order, stars.slots.row_slot, equations.weight)
    less = normal.copy()
    less[np.ix_(noise.columns, noise.columns)] -= noise.matrix
    expected = np.sqrt(np.diagonal(np.linalg.solve(less, np.linalg.solve(less, normal).T)))
    every = np.arange(len(normal))
    np.testing.assert_allclose(FitUncertainty(fit).errors(every, len(every)), expected, rtol=1e-6)
    shift = columns[list(PARAMETERS).index("filter_shift")].start
    assert expected[shift] > 1.3 * np.sqrt(np.linalg.inv(normal)[shift, shift])


def test_noise_makes_errors_larger_and_too_much_is_refused() -> None:
    variance = np.array([[2.0, 0.3], [0.3, 1.0]])
    matrix = np.array([[0.2, 0.05], [0.05, 0.3]])
    middle = SlopeNoise(np.arange(2), matrix).correction(variance)
    normal = np.linalg.inv(variance)
    within = np.linalg.inv(normal - matrix)
    np.testing.assert_allclose(variance + variance @ middle @ variance, within @ normal @ within, rtol=1e-12)
    with pytest.raises(ValueError, match=r"noise of their spectra: take stars"):
        SlopeNoise(np.arange(2), 4 * matrix).correction(variance)


@pytest.mark.slow
def test_priors_from_spectra_have_honest_covariances(nights: Nights) -> None:
    system = nights.chain.passbands()
    prior = xp_prior(nights.seen, system)
    off = prior.magnitude - nights.reference
    white = np.linalg.solve(np.linalg.cholesky(prior.covariance), off[:, :, None])[..., 0]
    assert white.std() == pytest.approx(1, abs=0.06)
    assert np.abs(np.corrcoef(white.T) - np.eye(3)).max() < 0.15
    # The diagonal is what photometry says; and bands are correlated.
    error = photometry(nights.seen, system, float64=True).magnitude_error
    np.testing.assert_allclose(np.sqrt(np.diagonal(prior.covariance, axis1=1, axis2=2)), error, rtol=1e-6)
    assert np.abs(prior.covariance[:, 0, 1] / error[:, 0] / error[:, 1]).max() > 0.02
    wider = xp_prior(nights.seen, system, floor=0.01)
    np.testing.assert_allclose(wider.covariance - prior.covariance, np.broadcast_to(1e-4 * np.eye(3), (400, 3, 3)))


def without_correlations(table: SourceTable) -> SourceTable:
    return dataclasses.replace(table, coefficients=dataclasses.replace(table.coefficients, correlation=None))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {"wter": Parameter()}}, "did you mean 'water'"),
        ({"parameters": {}}, "no parameters"),
        ({"floor": -1.0}, "floor must be"),
        ({"sources": "without"}, "no correlations, which star_prior needs"),
    ],
)
def test_what_cannot_be_is_refused(nights: Nights, change: dict[str, Any], message: str) -> None:
    if change.get("sources") == "without":
        change = {"sources": without_correlations(nights.seen)}
    options = {"chain": nights.chain, "sources": nights.seen, "parameters": PARAMETERS, **change}
    with pytest.raises(ValueError, match=message):
        solve_joint(nights.observations, JointModel((ZeroPoint(), Transmission(**options))))


@pytest.mark.slow
def test_other_refusals(nights: Nights) -> None:
    o = nights.observations
    model = transmission_model(nights)
    frames = dataclasses.replace(o.frames, band=np.full(len(o.frames), "u"))
    with pytest.raises(ValueError, match="has no band 'u'"):
        solve_joint(dataclasses.replace(o, frames=frames), model)
    prior = xp_prior(nights.seen, nights.chain.passbands())
    with pytest.raises(ValueError, match="stars have one prior"):
        solve_joint(o, model, prior=prior)
    with pytest.raises(ValueError, match="must be"):
        StarPrior(prior.star, prior.bands, prior.magnitude[:, :2], prior.covariance)
    with pytest.raises(ValueError, match="no correlations, so that"):
        xp_prior(without_correlations(nights.seen), nights.chain.passbands())
    # Stars without spectra are left out, and say so.
    strangers = dataclasses.replace(o, star=np.where(np.arange(len(o)) % 7 == 0, o.star + 1, o.star))
    found = solve_joint(strangers, model)
    assert not found.used[::7].any()
    assert found.used[1::7].mean() > 0.9


@pytest.mark.slow
def test_the_linear_correction_of_the_spectra(nights: Nights) -> None:
    """The projections are those of the corrected instrument, and stars beyond its domain have no spectrum."""
    bands = nights.chain.passbands()
    term = Transmission(nights.chain, nights.seen, PARAMETERS, star_prior=False, correction="standard")
    prepared = term.prepare(nights.observations)
    band = str(nights.observations.frames.band[0])
    system = passband_system(bands[[band]], correction="standard")
    expected = np.asarray(system.projection)[:, 0] * float(np.asarray(system.scale)[0])
    np.testing.assert_allclose(prepared.reference[band], expected, atol=1e-3 * np.abs(expected).max())
    raw = np.asarray(passband_system(bands[[band]]).projection)[:, 0] * float(np.asarray(system.scale)[0])
    assert np.abs(raw - expected).max() > 3e-3 * np.abs(expected).max()
    found = photometry(nights.seen, bands, correction="standard", float64=True)
    far = (found.status & np.uint32(Status.OUTSIDE_TRAINING)) > 0
    assert far.any()
    assert set(nights.seen.source_id[far]).isdisjoint(np.asarray(prepared.table.source_id))
    assert len(prepared.table) == (~far).sum()
    prior = xp_prior(nights.seen, bands, correction="standard")
    assert np.isnan(prior.magnitude[far]).all()
    np.testing.assert_allclose(prior.magnitude[~far], found.magnitude[~far], atol=1e-9)


def test_priors_of_compact_covariances(nights: Nights) -> None:
    """Magnitudes, covariances between bands and noise of derivatives, as of the correlations."""
    o, made = nights.observations, []
    seen = nights.seen.coefficients
    for coefficients in (seen, seen.compact()):
        table = dataclasses.replace(nights.seen, coefficients=coefficients)
        prepared = Transmission(nights.chain, table, PARAMETERS).prepare(o)
        about = prepared.begin(np.unique(o.star), tuple(map(str, np.unique(o.frames.band))))
        solved = np.zeros((len(np.unique(o.star)), 1, 1)) + 1e-6 * np.eye(len(about.star_prior.bands))
        made.append((about.star_prior, prepared.noise(about, solved)))
    (full, noise), (found, other) = made
    np.testing.assert_allclose(found.magnitude, full.magnitude, rtol=0, atol=1e-9)
    sigma = np.sqrt(np.diagonal(full.covariance, axis1=1, axis2=2))
    scale = sigma[:, :, None] * sigma[:, None, :]
    assert np.nanmax(np.abs(found.covariance - full.covariance) / scale) < 1.2e-3
    assert np.nanmax(np.abs(found.covariance - full.covariance[::-1]) / scale) > 0.1
    a, b = (np.asarray(n.covariance) for n in (noise, other))
    np.testing.assert_allclose(b, a, rtol=0, atol=2e-3 * np.nanmax(np.abs(a)))
