"""Modes of XP's correction as unknowns of a survey: recovered within errors, and made into another correction."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpjax
from benchmarks.reference_terms import BANDS, SYSTEM, ErringSpectra, erring, rms, solved_modes
from xpjax.survey.joint.config import solve_survey
from xpjax.survey.joint.files import read_joint_solution, write_joint_solution
from xpjax.survey.joint.instrument import solved_correction
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import ZeroPoint
from xpjax.synthetic.loading import load_passbands
from xpjax.synthetic.magnitude import photometry
from xpjax.xp.correction import LinearCorrection, load_correction, write_correction
from xpjax.xp.simulate import simulate_sources


@pytest.fixture(scope="module")
def survey() -> ErringSpectra:
    """Few stars and a large error: 3 %, twenty standard deviations of CALSPEC."""
    return erring(4, 150, modes=2, size=0.03, prior=10.0, faint=16.0, seed=3)


@pytest.fixture(scope="module")
def found(survey: ErringSpectra) -> tuple[JointSolution, np.ndarray, np.ndarray]:
    return solved_modes(survey)


def test_the_modes_are_a_rotation_of_what_the_correction_leaves(survey: ErringSpectra) -> None:
    correction = load_correction("standard")
    rows, root = survey.term.rows(BANDS), correction.left_at(correction.wavelength)
    np.testing.assert_allclose(rows.T @ rows, root.T @ root, atol=1e-12)
    # Leading ones change the magnitudes of stars most differently.
    many = dataclasses.replace(survey.term, modes=8)
    curves = many.curves(BANDS)
    value = np.asarray(many.sources.coefficients.value, float)
    change = np.einsum("nc,cbk->nbk", value, curves.slope) / (value @ curves.projection)[:, :, None]
    spread = change.std(axis=0).max(axis=0)
    assert spread[0] > 1.5 * spread[1:].max()
    assert spread[:3].min() > spread[5:].max()


def test_derivatives_are_what_a_changed_spectrum_does(survey: ErringSpectra) -> None:
    """Magnitudes by `photometry` with a correction that has one mode added."""
    correction, table = load_correction("standard"), survey.term.sources
    table = table[np.flatnonzero(table.columns["bp_rp"] < 1.2)[:40]]  # red ones have a part of the change
    curves, rows = survey.term.curves(BANDS), survey.term.rows(BANDS)
    value = np.asarray(table.coefficients.value, float)
    change = survey.term.design(correction.wavelength) * rows[0]
    moved = dataclasses.replace(correction, change=correction.change + 0.1 * change)
    first, second = (
        photometry(table, SYSTEM, correction=one, errors=False, float64=True).magnitude for one in (correction, moved)
    )
    slope = 1.0857362 * (value @ curves.slope[:, :, 0]) / (value @ curves.projection)
    np.testing.assert_allclose((first - second) / 0.1, slope, rtol=1e-2, atol=1e-5)


def test_modes_are_recovered_within_errors(
    survey: ErringSpectra, found: tuple[JointSolution, np.ndarray, np.ndarray]
) -> None:
    solution, value, error = found
    assert solution.converged
    assert (error < 0.4 * np.abs(survey.modes)).all() or (error < 1.5).all()
    assert np.abs((value - survey.modes) / error).max() < 3
    # Zero-points, calibrated magnitudes and stars are on the true scale.
    zero, own = solution.term("zero_point")
    labels = [label.split() for label in solution.block("zero_point").labels]
    true = np.array([survey.zero_point[int(field[1:]), BANDS.index(band)] for field, band in labels])
    assert np.abs((zero - true) / own).max() < 4
    o = survey.observations
    truth = o.magnitude + true[o.frame]
    place = np.searchsorted(solution.star, o.star), np.searchsorted(solution.bands, o.frames.band)[o.frame]
    assert rms(solution.magnitude[place] - truth) < 0.01
    # Without the term the zero-points are off by what all stars have in common of the error.
    plain = solve_joint(o, JointModel((ZeroPoint(), dataclasses.replace(survey.term, prior=1e-6)), error_floor=0.0))
    assert np.abs((plain.term("zero_point")[0] - true) / own).max() > 4


def test_the_correction_that_a_survey_makes(
    survey: ErringSpectra, found: tuple[JointSolution, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    solution, value, _ = found
    made = solved_correction(solution, "mine")
    assert isinstance(made, LinearCorrection)
    assert made.name == "mine"
    assert made.meta["survey"]["from"] == "standard"
    np.testing.assert_allclose(made.meta["survey"]["modes"], value)
    # It takes most of the error off.
    standard, x = load_correction("standard"), made.wavelength
    visible = survey.visible
    left = (survey.modes - value) @ survey.term.rows(BANDS)[:2]
    assert rms(left[visible]) < 0.5 * rms(survey.error[visible])
    spectrum = standard.center @ survey.term.design(x)
    corrected = standard.center @ (survey.term.design(x) + made.change - standard.change)
    np.testing.assert_allclose(corrected[visible] / spectrum[visible] - 1, (survey.error - left)[visible], atol=1e-9)
    # Errors are no larger than before where the prior is CALSPEC's own.
    narrow = dataclasses.replace(survey.term, prior=1.0)
    again = solve_joint(survey.observations, JointModel((ZeroPoint(), narrow), error_floor=0.0))
    other = narrow.corrected(again)
    before, after = ((one.left_at(x) ** 2).sum(axis=0) for one in (standard, other))
    assert (after < before * (1 + 1e-9)).all()
    assert (after < 0.98 * before).any()
    # The file is one of a linear correction, for photometry as any other.
    write_correction(tmp_path / "mine.h5", made)
    back = load_correction(tmp_path / "mine.h5")
    table = survey.term.sources[:20]
    both = [photometry(table, SYSTEM, correction=one).magnitude for one in (made, back)]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-6)


def test_from_a_configuration(survey: ErringSpectra, tmp_path: Path) -> None:
    o = survey.observations
    xpjax.write(tmp_path / "xp.parquet", dataclasses.replace(survey.term.sources, source_id=np.arange(600) + 1))
    config: dict[str, Any] = {
        "columns": {"star": "id", "exposure": "e", "band": "b", "magnitude": "m", "magnitude_error": "s"},
        "joint": {"min_observations": 1, "robust": "none", "clip": 0.0, "error_floor": 0.0},
        "term": [
            {"kind": "zero_point"},
            {
                "kind": "instrument", "passbands": SYSTEM, "sources": str(tmp_path / "xp.parquet"), "modes": 2,
                "prior": 10.0,
            },
        ],
    }  # fmt: skip
    table = {
        "id": o.star + 1, "e": o.frames.exposure[o.frame], "b": o.frames.band[o.frame], "m": o.magnitude,
        "s": o.magnitude_error,
    }  # fmt: skip
    again, _ = solve_survey(config, [table])
    assert again.meta["correction"] == "standard"
    _, value, _ = solved_modes(survey)
    for k in range(2):
        assert again.term(f"instrument mode_{k + 1}")[0][0] == pytest.approx(value[k], abs=1e-4)
    write_joint_solution(tmp_path / "joint.h5", again)
    back = read_joint_solution(tmp_path / "joint.h5")
    assert back.design.of_reference.tolist() == again.design.of_reference.tolist()
    with pytest.raises(ValueError, match="give the term with"):
        solved_correction(back)
    made, expected = (solved_correction(one) for one in (back.with_terms(back.terms[0], survey.term), again))
    assert made is not None
    assert expected is not None
    np.testing.assert_allclose(made.change, expected.change, atol=1e-9 * np.abs(expected.change).max())


def test_refused(survey: ErringSpectra) -> None:
    o, term = survey.observations, survey.term
    bare = simulate_sources(20, correlations=False)
    others = dataclasses.replace(term.sources, source_id=np.arange(len(term.sources)) + 10**6)
    for changed, words in (
        ({"correction": "none"}, "there is none; give one"),
        ({"passbands": load_passbands("JPLUS")}, "no passband 'g'"),
        ({"sources": bare}, "no errors or no correlations"),
        ({"sources": others}, "no spectrum of"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            solve_joint(o, JointModel((ZeroPoint(), dataclasses.replace(term, **changed))))
    with pytest.raises(ValueError, match="modes must be a whole number"):
        dataclasses.replace(term, modes=0)
    with pytest.raises(ValueError, match="above zero"):
        dataclasses.replace(term, prior=0.0)
    with pytest.raises(ValueError, match="floor must be"):
        dataclasses.replace(term, floor=-1.0)
    models = dataclasses.replace(o, model=o.magnitude + 25, model_error=np.full(len(o), 0.01))
    own = dataclasses.replace(term, star_prior=False)
    with pytest.raises(ValueError, match="covariances that spectra give"):
        solve_joint(models, JointModel((ZeroPoint(), own), star_prior=True))


@pytest.mark.slow
def test_pulls() -> None:
    pulls = []
    for seed in range(1, 5):
        made = erring(4, 300, seed=seed, size=0.02, prior=5.0, modes=2, faint=16.0)
        _, value, error = solved_modes(made)
        pulls.append((value - made.modes) / error)
    assert 0.5 < rms(pulls) < 1.6
