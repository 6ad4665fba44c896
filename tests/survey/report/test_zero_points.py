"""Zero-points of frames and nights, and the terms of the model."""

import dataclasses

import numpy as np
import pytest

from tests.survey.report.conftest import N_FRAME
from xpjax.survey import FrameFlag
from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.statistics import Missing, spread
from xpjax.survey.report.terms import color_curves, color_figures, term_tables
from xpjax.survey.report.zero_points import (
    night_figures,
    night_rows,
    scatter_of_frames,
    zero_point_figures,
    zero_point_tables,
)


def test_every_frame_of_few(tested: Evidence) -> None:
    (table,) = zero_point_tables(tested)
    assert len(table.rows) == 2 * N_FRAME
    row = dict(zip(table.columns, table.rows[3], strict=True))
    fits = tested.solution.fits
    assert row["zero-point [mag]"] == f"{fits.zero_point[3]:.4f}"
    assert row["error"] == f"{1e3 * fits.zero_point_error[3]:.2f}"
    assert "detector" not in row  # nothing is known of detectors
    mine = tested.rows["frame"] == 3
    assert float(row["held out"]) == pytest.approx(1e3 * spread(tested.held_out[0][mine])[0], abs=0.06)
    np.testing.assert_allclose(scatter_of_frames(tested, tested.fitted)[3], spread(tested.fitted[mine])[0], rtol=1e-9)


def many(evidence: Evidence) -> Evidence:
    """Sixty frames of a band in three nights with an extinction of 0.15 mag; one is cloudy, one has no zero-point."""
    n = 60
    solution = evidence.solution[np.arange(n) % N_FRAME]
    frames = dataclasses.replace(
        solution.frames, night=np.repeat(["n1", "n2", "n3"], 20), time=60000 + np.arange(n) // 20 + np.arange(n) / 100,
        airmass=1 + (np.arange(n) % 20) / 20, exposure=np.array([f"e{k}" for k in range(n)]),
    )  # fmt: skip
    zero_point = 22 + 0.1 * np.repeat([0, 1, 2], 20) - 0.15 * (frames.airmass - 1)
    zero_point[7], zero_point[9] = zero_point[7] - 0.4, np.nan
    status = np.zeros(n, np.uint32)
    status[7], status[9] = FrameFlag.CLOUD, FrameFlag.NO_STANDARDS
    fits = dataclasses.replace(solution.fits, zero_point=zero_point, status=status)
    return dataclasses.replace(evidence, solution=dataclasses.replace(solution, frames=frames, fits=fits))


def test_nights_of_many(evidence: Evidence) -> None:
    found = many(evidence)
    rows = night_rows(found)
    assert [row[0] for row in rows] == ["n1", "n2", "n3"]
    assert rows[0][2:5] == (20, 1, 2)
    assert [row[5:7] for row in rows] == [("22.0000", "-0.150"), ("22.1000", "-0.150"), ("22.2000", "-0.150")]
    nights, worst = zero_point_tables(found)
    assert len(nights.rows) == 3
    assert [row[0] for row in worst.rows] == ["e9", "e7"]
    assert worst.rows[1][-1] == "CLOUD"


def test_figures_of_zero_points(evidence: Evidence) -> None:
    found = many(evidence)
    time, airmass = zero_point_figures(found)[0].make().axes
    assert (time.get_xlabel(), airmass.get_xlabel()) == ("time - 60000 [d]", "airmass")
    assert "zero-point" in time.get_ylabel()
    assert sum(len(line.get_xdata()) for line in time.lines) == 59
    about = night_figures(found)[0].make().axes[0]
    assert about.get_ylim()[0] < -400 < about.get_ylim()[1]  # nothing is lost outside
    single = dataclasses.replace(evidence, solution=evidence.solution[:1])
    with pytest.raises(Missing, match="three frames"):
        zero_point_figures(single)


def test_color_terms_are_those_of_the_fits(tested: Evidence) -> None:
    fits = tested.solution.fits
    color = np.linspace(0.5, 1.5, 7)
    value, error = color_curves(tested, np.array([2]), color)
    mine = np.flatnonzero(fits.terms.kinds == "color")
    expected = np.polynomial.Polynomial([0, *fits.value[2, mine]])(color - fits.scaling.color_zero)
    np.testing.assert_allclose(value[0], expected, rtol=1e-9)
    covariance = (fits.covariance + fits.common_covariance)[2][np.ix_(mine, mine)]
    c = color[-1] - fits.scaling.color_zero
    assert error[0, -1] == pytest.approx(np.sqrt(np.array([c, c**2]) @ covariance @ np.array([c, c**2])), rel=1e-6)
    (figure,) = color_figures(tested)
    upper, _, lower, _ = figure.make().axes
    assert lower.get_xlabel() == "color [mag]"
    middle = upper.lines[0].get_ydata()
    assert middle[-1] - middle[0] == pytest.approx(1e3 * 0.05, rel=0.5)  # what was put in
    points = upper.lines[1]
    curve = np.interp(points.get_xdata(), upper.lines[0].get_xdata(), middle)
    assert np.median(np.abs(points.get_ydata() - curve)) < 3


def test_terms_of_one_frame_have_errors_and_of_many_scatters(evidence: Evidence) -> None:
    (table,) = term_tables(evidence)
    fits, k = evidence.solution.fits, 1
    value = 1e3 * fits.value[:N_FRAME, k]
    assert table.rows[k][0] == fits.terms.names[k]
    assert table.rows[k][3] == f"{np.median(value):.2f} ± {spread(value)[0]:.2f}"
    single = dataclasses.replace(evidence, solution=evidence.solution[:1])
    error = 1e3 * np.sqrt((fits.covariance + fits.common_covariance)[0, k, k])
    assert term_tables(single)[0].rows[k][3] == f"{value[0]:.2f} ± {error:.2f}"
    units = {row[0]: row[2] for row in table.rows}
    assert (units["constant"], units["position_10"], units["color_1"]) == ("mag", "mmag", "mmag/mag")
    constant = np.median(fits.value[:N_FRAME, 0])
    assert table.rows[0][3].startswith(f"{constant:.4f} ")
    columns = evidence.solution.catalogue().units
    assert columns["position_10"] == columns["constant_error"] == "mag"
    assert "color_1" not in columns  # mag per mag
