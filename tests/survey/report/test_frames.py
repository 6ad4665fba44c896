"""Maps of flats and differences of zero-points."""

import dataclasses

import numpy as np
import pytest

from tests.survey.report.conftest import BANDS, N_FRAME
from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.frames import difference_numbers, flat_maps, table_of_differences
from xpjax.survey.report.statistics import Missing, correlation, line


@pytest.mark.slow
def test_correlations_and_slopes(evidence: Evidence) -> None:
    bands, first, difference = table_of_differences(evidence, "truth")
    assert bands == list(BANDS)
    assert difference.shape == (N_FRAME, 2)
    matrix, slopes = correlation(bands, difference)
    np.testing.assert_allclose(matrix, np.corrcoef(difference.T), atol=1e-12)
    ((y, x, r, slope, error),) = slopes
    assert (y, x) == ("r", "g")
    assert r < -0.9
    assert abs(slope + 2) < 4 * error
    assert not correlation(bands, np.random.default_rng(0).normal(size=(50, 2)))[1]
    _, tilt, tilt_error = line(evidence.tiles["ebv"][first], difference[:, 0])
    assert abs(tilt - 0.003) < 4 * tilt_error
    numbers = difference_numbers(evidence, "truth")[0]
    own = evidence.differences["truth"][:N_FRAME]
    assert numbers.rms == pytest.approx(np.std(own), rel=1e-9)
    formal = evidence.solution.fits.zero_point_error[:N_FRAME]
    assert numbers.pull == pytest.approx(np.std((own - np.median(own)) / formal), rel=1e-9)


def test_flat_maps_before_and_after(evidence: Evidence) -> None:
    found = flat_maps(evidence, "g")
    assert list(found) == ["before", "after the numerical flat"]
    assert all(np.isfinite(m).any() for m, _ in found.values())
    with pytest.raises(Missing, match="positions"):
        flat_maps(evidence, "z")


def test_one_difference_has_no_scatter(evidence: Evidence) -> None:
    single = np.where(np.arange(2 * N_FRAME) == 0, 0.002, np.nan)
    numbers = difference_numbers(dataclasses.replace(evidence, differences={"x": single}), "x")[0]
    assert numbers.number == 1
    assert np.isnan([numbers.scatter, numbers.rms, numbers.pull]).all()
    five = np.random.default_rng(2).normal(size=(5, 2))
    five[:, 1] = five[:, 0] + 0.45 * five[:, 1]  # |r| above 0.8 in many draws of five, by chance in one of ten
    assert not correlation(["g", "r"], five)[1]
