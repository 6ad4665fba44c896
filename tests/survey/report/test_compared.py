"""Differences from other zero-points."""

import dataclasses

import numpy as np
import pytest

from tests.survey.report.conftest import BANDS, N_FRAME
from xpjax.survey.report.compared import (
    difference_figures,
    difference_numbers,
    differences_from,
    frame_scatters,
    table_of_differences,
    validation_figures,
)
from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.statistics import Missing, correlation, line, spread


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


def test_one_difference_has_no_scatter(evidence: Evidence) -> None:
    single = np.where(np.arange(2 * N_FRAME) == 0, 0.002, np.nan)
    numbers = difference_numbers(dataclasses.replace(evidence, differences={"x": single}), "x")[0]
    assert numbers.number == 1
    assert np.isnan([numbers.scatter, numbers.rms, numbers.pull]).all()
    five = np.random.default_rng(2).normal(size=(5, 2))
    five[:, 1] = five[:, 0] + 0.45 * five[:, 1]  # |r| above 0.8 in many draws of five, by chance in one of ten
    assert not correlation(["g", "r"], five)[1]


def test_figures_of_differences(evidence: Evidence) -> None:
    figures, missing = difference_figures(evidence, differences_from(evidence, "truth"))
    assert not missing
    made = {figure.name: figure.make() for figure in figures}
    sky = made["Sky map of zero-point differences"].axes[0]
    assert sky.get_xlabel().endswith("cos Dec [deg]")
    assert sky.xaxis_inverted()
    np.testing.assert_allclose(sky.collections[0].get_offsets()[:, 1], evidence.tiles["dec"][:N_FRAME])
    assert "r = (-1.9" in next(f.caption for f in figures if f.name == "Correlation of bands")
    lost = dataclasses.replace(evidence, tiles={}, differences={"x": np.full(2 * N_FRAME, np.nan)})
    with pytest.raises(Missing, match="both in this calibration and in x"):
        differences_from(lost, "x")
    without = dataclasses.replace(evidence, tiles={})
    assert set(difference_figures(without, differences_from(evidence, "truth"))[1]) == {
        "Sky map of zero-point differences", "Zero-point differences against reddening",
    }  # fmt: skip


def test_scatters_of_exposures(evidence: Evidence) -> None:
    found = frame_scatters(evidence.rows)
    mine = (evidence.rows["exposure"] == "e3") & np.isfinite(evidence.rows["residual"])
    assert found[3] == pytest.approx(spread(evidence.rows["residual"][mine])[0], rel=1e-12)
    known = dataclasses.replace(evidence, validation=evidence.rows)
    (figure,) = validation_figures(known)
    assert figure.make().axes[0].get_xlabel() == "1.48 MAD of residuals [mmag]"
    with pytest.raises(Missing, match="validation="):
        validation_figures(evidence)
