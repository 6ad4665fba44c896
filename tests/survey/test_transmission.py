"""Transmission terms: derivatives, recovery of drifting air and moved filters, spectra as parameters, refusals."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmarks import joint
from benchmarks.joint import BANDS, PARAMETERS, SHIFT, SLOPE, Nights, drifting, recovery, transmission_model
from xpjax.records import SourceTable
from xpjax.survey.joint import JointModel, solve_joint
from xpjax.survey.star_prior import StarPrior, xp_prior
from xpjax.survey.terms import Color, ZeroPoint
from xpjax.survey.transmission import Parameter, Transmission
from xpjax.synthetic.magnitude import photometry


@pytest.fixture(scope="module")
def nights() -> Nights:
    return drifting(6, 400, seed=10, bands=BANDS[1:])


def test_derivatives_and_what_is_added(nights: Nights) -> None:
    o = nights.observations
    term = Transmission(nights.chain, nights.exact, PARAMETERS, star_prior=False)
    prepared = term.prepare(o)
    # Not at a shift that puts the samples of the filter, where slopes jump, on those of the curve.
    start = [nights.change["water"], nights.change["ozone"], np.array([1.37]), nights.change["detector_slope"]]
    added, slopes = prepared.evaluate(start)
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
            ends.append(prepared.evaluate(values)[0])
        np.testing.assert_allclose(slopes[j], (ends[1] - ends[0]) / (2 * step), rtol=1e-3, atol=1e-7)


def test_a_drifting_transmission_is_recovered(nights: Nights) -> None:
    found = solve_joint(nights.observations, transmission_model(nights))
    assert found.converged
    told = recovery(found, nights)
    assert 0.3 < told["water pull"] < 1.7
    assert 0.3 < told["ozone pull"] < 1.8
    assert abs(told["filter_shift pull"]) < 3
    assert abs(told["detector_slope pull"]) < 3
    assert 0.5 < told["zero_point pull"] < 1.7
    assert told["filter_shift error"] < 0.25 * SHIFT
    assert found.chi2 / found.degrees_of_freedom == pytest.approx(1, abs=0.06)
    plain = solve_joint(
        nights.observations,
        JointModel((ZeroPoint(), Color(order=2)), robust="none", error_floor=0.0, size=(-1, 1, -1, 1), color_zero=1.0),
        prior=xp_prior(nights.seen, nights.chain.passbands()),
    )
    others = joint.stars(150, 9)
    assert joint.bias(found, nights, others) < 0.6 * joint.bias(plain, nights, others)


def test_spectra_must_be_parameters() -> None:
    """Noisy spectra at fixed values bias the shift by errors; as parameters they do not (eleven seeds: 1.4 to 5.4)."""
    nights = drifting(6, 1200, seed=1)
    found = recovery(solve_joint(nights.observations, transmission_model(nights)), nights)["filter_shift pull"]
    assert abs(found) < 2.5
    prior = xp_prior(nights.seen, nights.chain.passbands())
    fixed = solve_joint(nights.observations, transmission_model(nights, star_prior=False), prior=prior)
    assert recovery(fixed, nights)["filter_shift pull"] > found + 1.5


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
