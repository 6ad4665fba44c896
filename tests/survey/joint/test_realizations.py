"""Realizations of a small field in one batch: the same as one by one, and pulls of width one."""

import dataclasses

import numpy as np
import pytest

from benchmarks.joint import BANDS, PARAMETERS, dithered, drifting, plain_model, pulls
from benchmarks.realizations import solve_realizations
from xpjax.survey.joint.parameters import Parameter
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import ZeroPoint
from xpjax.survey.joint.transmission import Transmission


def test_each_realization_is_a_joint_solution() -> None:
    o, _ = dithered(10, 60, bins=3, outlier=0.0, seen=0.6)
    model = plain_model(3, min_observations=1, clip=0.0)
    magnitude = o.magnitude + 0.01 * np.random.default_rng(0).normal(size=(3, len(o)))
    found = solve_realizations(o, model, magnitude)
    for k in range(3):
        one = solve_joint(dataclasses.replace(o, magnitude=magnitude[k]), model)
        np.testing.assert_allclose(found.value[k], one.value, atol=1e-9)
        np.testing.assert_allclose(found.error[k], one.error(np.arange(len(one.value))), rtol=1e-4)
    with pytest.raises(ValueError, match="5 magnitudes for"):
        solve_realizations(o, model, magnitude[:, :5])


@pytest.mark.slow
def test_transmission_too() -> None:
    nights = drifting(2, 50, bands=BANDS[2:])
    names = {"water": Parameter("night", 3.0), "filter_shift": Parameter("all", 5.0)}
    term = Transmission(nights.chain, nights.exact, names, star_prior=False)
    o, true = nights.observations, nights.reference
    place = {int(s): k for k, s in enumerate(nights.exact.source_id)}
    star = np.array([place[int(s)] for s in o.star])
    band = np.array([nights.chain.bands.index(b) for b in o.frames.band])[o.frame]
    o = dataclasses.replace(o, model=true[star, band], model_error=np.full(len(o), 0.002))
    model = JointModel(
        (ZeroPoint(), term), robust="none", clip=0.0, error_floor=0.0, star_prior=True, min_observations=1,
        size=(-1, 1, -1, 1),
    )  # fmt: skip
    found = solve_realizations(o, model, o.magnitude)
    one = solve_joint(o, model)
    np.testing.assert_allclose(found.value[0], one.value, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.error[0], one.error(np.arange(len(one.value))), rtol=1e-4)
    terms = (ZeroPoint(), Transmission(nights.chain, nights.seen, PARAMETERS))
    spectra = dataclasses.replace(model, terms=terms, star_prior=False)
    with pytest.raises(ValueError, match="without star_prior"):
        solve_realizations(o, spectra, o.magnitude)


def test_pulls_of_many_small_fields() -> None:
    """Of 200; `python -m benchmarks joint` has 1000, and transmissions."""
    fields = pulls(200)
    for name in ("zero_point", "color", "flat"):
        assert 0.9 < fields.ratios[f"{name} pull"] < 1.1
