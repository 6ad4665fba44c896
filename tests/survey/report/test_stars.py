"""Variable stars and their light curves."""

import dataclasses

import numpy as np
import pytest

from tests.survey.report.conftest import N_FRAME, PERIOD
from xpjax.survey.observations import Frames
from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.stars import (
    light_curve,
    light_curve_figures,
    repeatability,
    repeatability_figures,
    variable_stars,
)
from xpjax.survey.report.statistics import Missing


def test_variables_and_their_periods(evidence: Evidence) -> None:
    found = repeatability(evidence, "g")
    assert found.number.max() == N_FRAME
    own = evidence.rows["magnitude"][evidence.of_band("g") & (evidence.rows["star"] == 12)]
    assert found.scatter[found.star == 12][0] == pytest.approx(own.std(ddof=1), rel=1e-9)
    assert variable_stars(found, 1).tolist() == [7]
    with pytest.raises(Missing, match="fewer than ten"):
        light_curve(evidence, "g", 7, PERIOD)
    whole = dataclasses.replace(evidence, rows={k: np.concatenate([v] * 2) for k, v in evidence.rows.items()})
    curve = light_curve(whole, "g", 7, PERIOD)
    assert len(curve.time) == 2 * N_FRAME
    np.testing.assert_allclose(curve.phase[:N_FRAME], (0.11 * np.arange(N_FRAME) / PERIOD) % 1, atol=1e-6)
    assert curve.told == "period 0.37 d, as given"
    with pytest.raises(Missing, match="no star has 99"):
        repeatability(evidence, "g", 99)


def seen_often(evidence: Evidence, swing: float) -> Evidence:
    """Thirty exposures of one star, at other times and with other magnitudes; the star swings so much [mag]."""
    rng = np.random.default_rng(5)
    n = 30
    time = 60000.7 + np.arange(n) // 3 + rng.uniform(-0.17, 0.17, n)
    names = {name: np.full(n, "") for name in ("detector", "night")}
    many = Frames(
        np.array([f"e{k}" for k in range(n)]), np.full(n, "g"), **names, time=time, airmass=np.full(n, np.nan)
    )
    rows = {
        "frame": np.arange(n), "star": np.full(n, 7), "status": np.zeros(n, np.uint32),
        "magnitude": 15 + swing * np.sin(2 * np.pi * time / PERIOD) + rng.normal(0, 0.01, n),
        "magnitude_error": np.full(n, 0.01),
    }  # fmt: skip
    return Evidence(dataclasses.replace(evidence.solution, frames=many), rows)


def test_a_period_is_stated_where_there_is_one(evidence: Evidence) -> None:
    curve = light_curve(seen_often(evidence, 0.1), "g", 7)
    value, error = (float(curve.told.split()[k]) for k in (1, 3))
    assert abs(value - PERIOD) < 5 * error < 0.01
    assert np.isfinite(curve.folded).any()
    constant = light_curve(seen_often(evidence, 0.0), "g", 7)
    assert constant.told.startswith("no significant period (0.021 to 9")
    assert np.isnan(constant.period)
    assert np.isnan(constant.folded).all()
    (drawn,), found = light_curve_figures(dataclasses.replace(seen_often(evidence, 0.1), periods={"7": 0.5}))
    assert found.rows == [("7", "g", 30, "period 0.5 d, as given")]
    whole, folded = drawn.make().axes
    assert (whole.get_xlabel(), whole.get_ylabel(), folded.get_xlabel()) == ("time - 60000 [d]", "g [mag]", "phase")
    assert whole.yaxis_inverted()


def test_repeatability_is_drawn_over_the_noise_of_the_camera(evidence: Evidence) -> None:
    (figure,) = repeatability_figures(evidence)
    axes = figure.make().axes[0]
    assert axes.get_legend_handles_labels()[1][-2:] == ["noise of the camera", "errors stated"]
    assert len(axes.collections[0].get_offsets()) == len(repeatability(evidence, "g").star)
    (bare,) = repeatability_figures(dataclasses.replace(evidence, camera=None))
    assert "camera=" in bare.caption
