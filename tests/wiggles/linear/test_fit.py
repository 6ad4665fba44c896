"""The training in closed form: left-out spectra, dust, photon noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.wiggles.linear.helpers import GRID, N
from xpjax.wiggles.linear.evidence import Evidence
from xpjax.wiggles.linear.fit import (
    LinearSettings,
    Population,
    Training,
    behind_dust,
    dimming,
    judged,
    photon_noise,
)
from xpjax.wiggles.linear.pairs import Pairs


def test_left_out_in_closed_form_equals_a_fit_without_the_star(training: Training, pairs: Pairs) -> None:
    found = training.left_out()
    keep = np.arange(N) != 5
    expected = pairs.coefficients[5] @ (pairs.instrument.default_design + training.fit(keep))
    np.testing.assert_allclose(found[5], expected, rtol=1e-3, atol=2e-4 * expected.mean())
    with_it = pairs.coefficients[5] @ (pairs.instrument.default_design + training.fit())
    assert np.abs(with_it / expected - 1).max() > 2 * np.abs(found[5] / expected - 1).max()


def test_dust_is_a_smooth_multiplier(pairs: Pairs, population: Population) -> None:
    model = pairs.instrument
    dimmed = behind_dust(pairs.coefficients[:6], 0.5, population, model) @ model.default_design
    expected = (pairs.coefficients[:6] @ model.default_design) * dimming(GRID, 0.5)
    used = judged(model)
    np.testing.assert_allclose(dimmed[:, used], expected[:, used], rtol=0.01)
    assert np.abs(dimmed / (expected / dimming(GRID, 0.1)) - 1)[:, used].max() > 0.1
    # 3.1 E(B-V) at 550 nm, about.
    assert dimming(np.array([549.0]), 1.0)[0] == pytest.approx(10 ** (-0.4 * 3.1), rel=0.01)


def test_photon_noise_keeps_noise_down(pairs: Pairs, population: Population) -> None:
    noise = photon_noise(pairs.instrument, (15.8, 16.2))
    spread = {}
    for photons in (0.0, 30.0):
        made = Training(pairs, population, LinearSettings(photons=photons)).fit() + pairs.instrument.default_design
        spread[photons] = np.sqrt(np.einsum("im,ij,jm->m", made, noise, made))
    assert np.median(spread[30.0] / spread[0.0]) < 0.9


def test_references_with_gaps_still_teach(pairs: Pairs, population: Population) -> None:
    reference = pairs.reference.copy()
    reference[::2, GRID > 900] = np.nan
    gaps = dataclasses.replace(pairs, reference=reference)
    training = Training(gaps, population)
    after = training.left_out()
    assert np.isfinite(after).all()
    evidence = Evidence.of(gaps, after, np.zeros(N))
    before, left = evidence.spectra()
    assert np.median(left) < np.median(before) / 3
