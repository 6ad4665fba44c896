"""Flats in pixels, and how much of them repeats."""

import dataclasses

import numpy as np
import pytest

from xpjax.survey.exposures import evaluate
from xpjax.survey.observations import make_observations
from xpjax.survey.report import flats as flats_module
from xpjax.survey.report.evidence import Evidence
from xpjax.survey.report.flats import all_flats, flat_figures, flat_maps, flat_table, structure_text
from xpjax.survey.report.statistics import Missing, spread


def test_the_flat_is_what_is_added_over_the_detector(evidence: Evidence) -> None:
    found = flat_maps(evidence, "g", "")
    assert found.box.tolist() == [0, 4000, 0, 4000]
    n = len(found.flat)
    place = 4000 * (np.arange(n) + 0.5) / n
    x, y = (a.ravel() for a in np.meshgrid(place, place))
    fits = evidence.solution.fits
    one = fits[:1]
    alike = dataclasses.replace(fits, value=fits.value[:1].repeat(len(fits), 0))
    single = dataclasses.replace(evidence, solution=dataclasses.replace(evidence.solution, fits=alike))
    made = flat_maps(single, "g", "").flat
    rows = make_observations(np.arange(n * n), x, y, 0 * x, 0 * x, None, color=0 * x + one.scaling.color_zero)
    expected = evaluate(one, rows).added.reshape(n, n)
    np.testing.assert_allclose(made, expected - np.median(expected), atol=1e-9)


def with_structure(evidence: Evidence, amplitude: float, noise: float) -> Evidence:
    """The same with other residuals of the standards: a wave over the detector, and noise."""
    s = evidence.solution.standards
    wave = amplitude * np.sqrt(2) * np.sin(s.x / 300)
    residual = wave + np.random.default_rng(4).normal(size=len(s)) * noise
    standards = dataclasses.replace(s, residual=residual, variance=np.full(len(s), noise**2))
    return dataclasses.replace(evidence, solution=dataclasses.replace(evidence.solution, standards=standards))


def test_structure_is_what_two_halves_have_in_common(evidence: Evidence) -> None:
    found = flat_maps(with_structure(evidence, 0.005, 0.01), "g", "", bins=14)
    assert np.sqrt(found.structure[0]) == pytest.approx(0.0045, rel=0.15)  # cells smooth the wave a little
    expected = 0.01 / np.sqrt(found.number / 14**2)
    assert found.error == pytest.approx(expected, rel=0.25)
    none = flat_maps(with_structure(evidence, 0.0, 0.01), "g", "", bins=14)
    assert abs(none.structure[0]) < 3 * none.structure[1]
    assert structure_text(*none.structure).startswith("<")
    assert structure_text(2.5e-5, 1e-6) == "5.00"
    assert structure_text(np.nan, np.nan) == "-"


def test_numbers_and_figures(evidence: Evidence, tested: Evidence) -> None:
    flats, left_out = all_flats(tested)
    assert [f.name for f in flats] == ["g", "r"]
    assert not left_out
    table = flat_table(flats)
    s = tested.solution.standards
    before, fitted, held = (float(table.rows[0][k]) for k in (-3, -2, -1))
    assert before == pytest.approx(1e3 * spread(s.residual[tested.solution.frames.band[s.frame] == "g"])[0], abs=0.06)
    assert before < fitted < held  # the numerical flat of a star is without the star
    assert flat_table(all_flats(evidence)[0]).rows[0][-1] == "-"  # no cross-validation, no number
    (figure,) = flat_figures(tested, flats)
    panels = [axes for axes in figure.make().axes if axes.images]
    assert len(panels) == 6
    assert all(np.isfinite(np.asarray(axes.images[0].get_array())).any() for axes in panels)
    assert {axes.get_xlabel() for axes in panels} == {"x [pixel]"}
    assert [*panels[0].images[0].get_extent()] == [0, 4000, 0, 4000]
    assert panels[2].get_title() == "g: after [mmag]"
    assert "Flat: position terms, about their median" in figure.caption  # no stacked flat was made
    with pytest.raises(Missing, match="20 standards with positions"):
        flat_maps(evidence, "z", "")


def test_flats_that_are_not_drawn_have_names(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flats_module, "MOST_FLATS", 1)
    drawn, left_out = all_flats(evidence)
    assert [f.name for f in drawn] == ["g"]
    assert left_out == {
        "Flats of 1 of 2: r": "1 are drawn, those with most standards; `xpjax survey flat` writes all stacked flats"
    }
