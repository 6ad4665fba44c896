"""Terms of a joint solution over what they go with, and XP's error against wavelength."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xpjax.core.constants import POGSON
from xpjax.survey import make_observations
from xpjax.survey.joint import Drift, Extinction, JointModel, Nonlinearity, Seeing, ZeroPoint, solve_joint
from xpjax.survey.report.joint_evidence import JointEvidence, joint_evidence
from xpjax.survey.report.joint_maps import instrument_figures
from xpjax.survey.report.joint_shapes import shape_figures
from xpjax.survey.report.statistics import Missing
from xpjax.xp import load_correction, load_instrument


@pytest.fixture(scope="module")
def evidence() -> JointEvidence:
    """Two nights of 40 stars with models: k = 0.2 mag, 8 mmag lost at mag -12, 10 mmag/h, 0.03 mag per arcsec."""
    rng, n_exposure, n_star = np.random.default_rng(0), 20, 40
    star, e = np.tile(np.arange(n_star), n_exposure), np.repeat(np.arange(n_exposure), n_star)
    hours = np.tile(np.linspace(0, 8, 10), 2)
    air, seeing = rng.uniform(1, 2, n_exposure), rng.uniform(0.8, 2, n_exposure)
    true = np.linspace(12, 16, n_star)[star]
    measured = true - 25 + 0.2 * (air[e] - 1)
    for _ in range(3):
        added = -0.008 * 10 ** (-0.4 * (measured + 12)) + 0.01 * hours[e] - 0.03 * (seeing[e] - 1.2)
        measured = true - 25 + 0.2 * (air[e] - 1) - added
    measured += rng.normal(0, 0.002, len(star))
    o = make_observations(
        star, star, star, measured, np.full(len(star), 0.002), true, model_error=np.full(len(star), 0.002),
        exposure=np.array([f"e{k:02d}" for k in e]), band=np.full(len(star), "r"), airmass=air[e],
        time=60000.3 + e // 10 + hours[e] / 24, night=np.where(e < 10, "one", "two"),
    )  # fmt: skip
    terms = (
        ZeroPoint(per="night+band"), Extinction(per="band"), Nonlinearity(magnitude=-12.0), Drift(),
        Seeing("FWHM", values=seeing[e], zero=1.2),
    )  # fmt: skip
    return joint_evidence(solve_joint(o, JointModel(terms, star_prior=True, error_floor=0.0, min_observations=1)), o)


def line_of(figure: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """What the first line of a figure is, and the label of x."""
    axes = figure.make().axes[0]
    x, y = axes.lines[0].get_data()
    return np.asarray(x), np.asarray(y), axes.get_xlabel()


def test_curves_are_those_that_were_given(evidence: JointEvidence) -> None:
    figures, missing = shape_figures(evidence)
    drawn = {figure.name.split()[0]: line_of(figure) for figure in figures}
    assert not missing
    assert [*drawn] == ["extinction", "nonlinearity", "drift", "seeing"]
    for name, expected, within in (
        ("extinction", lambda x: -200 * (x - 1), 3.0), ("drift", lambda x: 10 * x, 3.0),
        ("nonlinearity", lambda x: -8 * 10 ** (-0.4 * (x + 12)), 1.0), ("seeing", lambda x: -30 * (x - 1.2), 2.0),
    ):  # fmt: skip
        x, y, _ = drawn[name]
        assert np.abs(y - expected(x)).max() < within, name
        assert np.ptp(y) > 6 * within, name
    x, _, label = drawn["nonlinearity"]
    assert label == "instrumental magnitude [mag]"
    assert (x[0], x[-1]) == pytest.approx((-13, -9), abs=0.25)
    assert drawn["drift"][0][-1] == pytest.approx(8, abs=0.1)


def test_a_seeing_that_nobody_knows_is_told(evidence: JointEvidence) -> None:
    found = evidence.solution
    lost = [dataclasses.replace(term, values=None) if term.kind == "seeing" else term for term in found.terms]  # type: ignore[type-var]
    known = SimpleNamespace(solution=found, rows=evidence.rows, kind=evidence.kind)
    known.term_of = lambda block: lost[found.terms.index(evidence.term_of(block))]
    figures, missing = shape_figures(known)  # type: ignore[arg-type]
    assert len(figures) == 3
    assert missing == {
        "Seeing over what it goes with": "values of FWHM are not among the products (catalogues=)",
    }
    known.rows = {**evidence.rows, "FWHM": np.linspace(1, 2, 5)}
    assert shape_figures(known)[1] == {}  # type: ignore[arg-type]


def test_the_error_of_xp_is_what_the_modes_add_up_to() -> None:
    known = load_correction("standard")
    assert known is not None
    of = load_instrument().corrected("standard").design(known.wavelength)
    mode = 0.01 * np.sin(known.wavelength / 60)
    change = known.change + np.asarray(of.value, float) * np.asarray(of.scale, float) * mode
    said = {"survey": {"from": "standard", "modes": [1.0], "mode_errors": [0.2]}}
    made = dataclasses.replace(
        known, change=change, left=np.concatenate([0.2 * mode[None], known.left]), meta={**known.meta, **said}
    )
    block = SimpleNamespace(name="instrument mode_1")
    evidence: Any = SimpleNamespace(
        solution=SimpleNamespace(blocks=[block]), kind=lambda _: "instrument", correction=made
    )
    x, y, label = line_of(instrument_figures(evidence)[0])
    assert label == "wavelength [nm]"
    np.testing.assert_allclose(y, 1e3 * POGSON * mode, atol=1e-3)
    np.testing.assert_array_equal(x, known.wavelength)
    evidence.correction = None
    with pytest.raises(Missing, match=r"correction\.h5"):
        instrument_figures(evidence)
    evidence.kind = lambda _: "flat"
    with pytest.raises(Missing, match="no instrument term"):
        instrument_figures(evidence)
