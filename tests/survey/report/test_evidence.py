"""Measurements matched to frames, and the numbers of each band."""

import dataclasses

import numpy as np
import pytest

from tests.survey.report.conftest import N_FRAME
from xpjax.survey.report.evidence import Evidence, band_numbers, same_measurements


def test_the_same_measurements_are_found() -> None:
    frame, star = np.array([0, 1, 1, -1, 2]), np.array([5, 5, 9, 5, 7])
    found = same_measurements(frame, star, np.array([1, 0, 2]), np.array([5, 5, 8]))
    assert found.tolist() == [1, 0, -1, -1, -1]
    assert same_measurements(frame, star.astype(str), np.array([1]), np.array([9])).tolist() == [-1, -1, 0, -1, -1]


@pytest.mark.slow
def test_the_table_on_top(evidence: Evidence) -> None:
    one = {name: column[0] for name, column in band_numbers(evidence).columns.items()}
    assert (one["band"], one["n_frame"], one["n_refused"]) == ("g", N_FRAME, 0)
    assert 0.8 < one["residual_pull"] < 1.2
    mine = evidence.of_band("g")
    assert one["residual_rms"] == pytest.approx(np.nanstd(evidence.rows["residual"][mine]), rel=0.1)
    assert np.isnan(one["cross_validation_scatter"])


def test_what_was_not_given_is_not_stated(evidence: Evidence) -> None:
    assert np.isnan(band_numbers(evidence).columns["zero_point_systematic"]).all()  # no errors of models
    assert np.isnan(evidence.solution.catalogue().columns["zero_point_systematic"]).all()
    settings = dataclasses.replace(evidence.solution.settings, systematic_error=0.004)
    given = dataclasses.replace(evidence, solution=dataclasses.replace(evidence.solution, settings=settings))
    assert band_numbers(given).columns["zero_point_systematic"][0] == pytest.approx(0.004, rel=0.2)
    s = evidence.solution.standards
    known = dataclasses.replace(evidence.solution, standards=dataclasses.replace(s, model_error=s.model_error + 0.01))
    assert np.isfinite(known.zero_point_systematic()).all()
