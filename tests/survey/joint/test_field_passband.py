"""Passbands over the field, and images of few calibrators: a small `benchmarks.field_passband`."""

import dataclasses

import numpy as np
import pytest

from benchmarks.field_passband import (
    FEW,
    PARAMETERS,
    Crops,
    Truth,
    corner_colors,
    field,
    field_values,
    kept_back,
    model_with,
)
from xpjax.survey.joint.priors import xp_prior
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Color
from xpjax.survey.joint.transmission import Transmission


@pytest.mark.slow
def test_a_blueshift_over_the_field() -> None:
    """Of 2.5 nm; without the field it goes into colors at the corners, and polynomials do not take it out."""
    made = field(8, 500, noise=0.001)
    term = Transmission(made.chain, made.seen, PARAMETERS)
    found = solve_joint(made.observations, model_with(term))
    assert found.converged
    off, error = field_values(found, Truth(made.chain, made.exact), np.linspace(0, 1, 5))
    assert np.abs(off / error).max() < 3.5
    assert error.max() < 0.3
    assert found.chi2 / found.degrees_of_freedom == pytest.approx(1, abs=0.06)
    prior = xp_prior(made.seen, made.chain.passbands())
    polynomial = solve_joint(made.observations, model_with(Color(per="band", order=1, position_order=2)), prior=prior)
    dwarfs = kept_back(60)["M dwarfs"]
    low, high = made.color_range
    color = np.asarray(dwarfs.columns["bp_rp"])
    dwarfs = dwarfs[np.flatnonzero((color > low) & (color < high))]
    assert corner_colors(found, made, dwarfs) < 0.8 * corner_colors(polynomial, made, dwarfs)
    # One shift for the whole field is far from what each place has.
    none = {"field": None, "order": None, "field_prior": None}
    plain = {name: dataclasses.replace(one, **none) for name, one in PARAMETERS.items()}
    whole = solve_joint(made.observations, model_with(Transmission(made.chain, made.seen, plain)))
    assert whole.chi2 > found.chi2 + 30


@pytest.mark.slow
def test_images_of_few_calibrators() -> None:
    """Sixteen stars and eight parameters: priors make it sound."""
    crops, off, chi2, free = Crops(), [], 0.0, 0
    for seed in range(12):
        found, true = crops.solve(seed)
        assert found.converged
        assert found.degrees_of_freedom == 15  # 16 rows, 16 priors of stars and 8 of parameters; 16 stars, 9 columns
        off.append((found.value - true) / found.error(np.arange(len(true))))
        chi2, free = chi2 + found.chi2, free + found.degrees_of_freedom
    assert np.abs(off).max() < 4
    assert 0.6 < np.sqrt(np.mean(np.square(off))) < 1.4
    assert 0.7 < chi2 / free < 1.3
    errors = found.error(np.arange(1, len(true)))
    priors = np.array([one for p in FEW.values() for one in (p.prior, p.field_prior) if one])
    assert (errors < 1.0001 * priors).all()
    assert (errors > 0.1 * priors).all()  # sixteen stars do not know more
