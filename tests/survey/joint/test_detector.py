"""Terms of the detector, of time and of the seeing: recovered within errors, for other rows, from files and headers."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from xpjax.survey.joint.config import solve_survey
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.detector import Drift, Nonlinearity, Seeing
from xpjax.survey.joint.files import read_joint_solution, write_joint_solution
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import Extinction, Term, ZeroPoint
from xpjax.survey.observations import Observations, make_observations

NIGHTS, EXPOSURES, STARS, NOISE = 4, 6, 120, 0.004


@dataclasses.dataclass(frozen=True)
class Nights:
    """Stars on all exposures of some nights, without any term; seeing, hours and airmass of the rows."""

    observations: Observations
    seeing: np.ndarray
    hours: np.ndarray


@pytest.fixture(scope="module")
def nights() -> Nights:
    rng = np.random.default_rng(3)
    n = NIGHTS * EXPOSURES
    star, frame = np.tile(np.arange(STARS), n), np.repeat(np.arange(n), STARS)
    true, color = rng.uniform(13, 17, STARS), rng.uniform(0, 2, STARS)
    hours, night = np.arange(n) % EXPOSURES * 1.3, np.arange(n) // EXPOSURES
    seeing = (1.0 + 0.6 * rng.random(n))[frame] * (1 + 0.1 * rng.normal(size=n * STARS))
    measured = true[star] - 25.0 + NOISE * rng.normal(size=n * STARS)
    o = make_observations(
        star, rng.random(len(star)), rng.random(len(star)), measured, np.full(len(star), NOISE), true[star],
        model_error=np.full(len(star), 0.01), color=color[star], exposure=np.char.mod("e%02d", frame), band="g",
        night=np.char.mod("n%d", night)[frame], time=60000 + night[frame] + hours[frame] / 24,
        airmass=1 + 0.2 * (hours[frame] % 4),
    )  # fmt: skip
    return Nights(o, seeing, hours[frame])


def solved(nights: Nights, added: np.ndarray, *terms: Term) -> JointSolution:
    o = dataclasses.replace(nights.observations, magnitude=nights.observations.magnitude - added)
    own = ZeroPoint(per="night+band")
    return solve_joint(o, JointModel((own, *terms), star_prior=True, min_observations=1, error_floor=0.0))


def pulls(found: JointSolution, name: str, truth: dict[str, Any]) -> np.ndarray:
    out = []
    for part, true in truth.items():
        value, error = found.term(name, part)
        out.append((value - true) / error)
    return np.concatenate(out)


def lost(nights: Nights, value: float, scale: Any) -> np.ndarray:
    """What is added to measured magnitudes (n,), in proportion to the light that is measured itself."""
    added = np.zeros(len(nights.observations))
    for _ in range(30):
        added = value * scale * 10 ** (-0.4 * (nights.observations.magnitude - added + 10.0))
    return added


def test_nonlinearity_in_counts(nights: Nights) -> None:
    found = solved(nights, lost(nights, 0.012, 1.0), Nonlinearity(magnitude=-10.0))
    assert np.abs(pulls(found, "nonlinearity", {"counts": 0.012})).max() < 3
    assert found.term("nonlinearity")[1][0] < 1e-3


def test_brighter_fatter_losses_go_with_the_peak(nights: Nights) -> None:
    made = lost(nights, 0.01, (1.3 / nights.seeing) ** 2)
    term = Nonlinearity("bf", form="peak", magnitude=-10.0, seeing=1.3, values=nights.seeing, prior=0.05)
    found = solved(nights, made, term)
    assert np.abs(pulls(found, "bf", {"peak": 0.01})).max() < 3
    counts = solved(nights, made, Nonlinearity(magnitude=-10.0))
    assert counts.chi2 > found.chi2 + 50  # the light alone does not do


def test_a_polynomial_in_the_magnitude(nights: Nights) -> None:
    off = nights.observations.magnitude + 10.0
    found = solved(nights, 0.003 * off - 0.001 * off**2, Nonlinearity(form="polynomial", order=2, magnitude=-10.0))
    assert np.abs(pulls(found, "nonlinearity", {"magnitude_1": 0.003, "magnitude_2": -0.001})).max() < 3.5


def test_drifts_within_nights(nights: Nights) -> None:
    slope = np.array([0.004, -0.003, 0.001, 0.002])
    night = np.arange(NIGHTS * EXPOSURES)[nights.observations.frame] // EXPOSURES
    found = solved(nights, slope[night] * nights.hours - 2e-4 * nights.hours**2, Drift(order=2))
    off = pulls(found, "drift", {"time_1": slope, "time_2": -2e-4})
    assert np.abs(off).max() < 3.5
    assert 0.5 < np.sqrt(np.mean(off**2)) < 1.6


def test_seeing(nights: Nights) -> None:
    off = nights.seeing - 1.3
    found = solved(nights, 0.02 * off + 0.03 * off**2, Seeing("fwhm", order=2, zero=1.3, values=nights.seeing))
    assert np.abs(pulls(found, "seeing", {"seeing_1": 0.02, "seeing_2": 0.03})).max() < 3


def test_color_times_airmass(nights: Nights) -> None:
    """The second-order extinction is a part of the extinction."""
    o = nights.observations
    air = (1 - o.frames.airmass)[o.frame]
    added = 0.2 * air + 0.015 * air * (o.color - 1.0)
    found = solved(nights, added, Extinction(per="all", second_order=True))
    k = found.term("extinction", "k_color")
    assert abs(k[0][0] - 0.015) < 3 * k[1][0]


def test_zeros_are_those_of_the_rows_that_were_solved_for(nights: Nights, tmp_path: Any) -> None:
    """Other rows, with other medians and on a part of the frames, get the same corrections."""
    terms = (
        Nonlinearity(form="peak", column="fwhm", values=nights.seeing), Drift(order=2),
        Seeing("fwhm", values=nights.seeing, order=2),
    )  # fmt: skip
    found = solved(nights, 0.01 * nights.seeing, *terms)
    assert found.terms[1].magnitude == pytest.approx(np.median(nights.observations.magnitude), abs=0.03)
    assert found.terms[3].zero == pytest.approx(np.median(nights.seeing), rel=1e-3)
    some = (nights.observations.magnitude < -10) & (nights.observations.frame % EXPOSURES > 2)
    write_joint_solution(tmp_path / "joint.h5", found)
    frames = np.flatnonzero(np.arange(NIGHTS * EXPOSURES) % EXPOSURES > 2)
    for one in (found, read_joint_solution(tmp_path / "joint.h5")):
        whole = with_seeing(one, nights.seeing).correction(nights.observations)[0]
        part = with_seeing(one, nights.seeing[some]).correction(nights.observations[some].on_frames(frames))[0]
        np.testing.assert_allclose(part, whole[some], atol=1e-12)


def with_seeing(found: JointSolution, seeing: np.ndarray) -> JointSolution:
    terms = (t if isinstance(t, ZeroPoint | Drift) else dataclasses.replace(t, values=seeing) for t in found.terms)
    return found.with_terms(*terms)


def test_degenerate_ones_are_told(nights: Nights) -> None:
    o = nights.observations
    model = JointModel((ZeroPoint(), Drift()), star_prior=True, min_observations=1, error_floor=0.0)
    with pytest.raises(ValueError, match="zero_point against drift: degenerate with each other"):
        solve_joint(o, model)
    constant = np.array([np.median(nights.seeing[o.frame == k]) for k in range(len(o.frames))])[o.frame]
    with pytest.raises(ValueError, match="zero_point against seeing of g: degenerate with each other"):
        solve_joint(o, dataclasses.replace(model, terms=(ZeroPoint(), Seeing("fwhm", values=constant))))
    held = dataclasses.replace(model, constraints=(Constraint("drift"),), terms=(ZeroPoint(), Drift()))
    with pytest.raises(ValueError, match="degenerate"):  # of four nights one mean does not fix all
        solve_joint(o, held)
    prior = solve_joint(o, dataclasses.replace(model, terms=(ZeroPoint(), Drift(prior=0.01))))
    np.testing.assert_allclose(prior.term("drift")[1], 0.01, rtol=0.05)


def test_a_configuration_with_columns_and_headers(nights: Nights, tmp_path: Any) -> None:
    o = nights.observations
    added = 0.02 * (nights.seeing - 1.3)
    files = []
    for k in range(len(o.frames)):
        rows = o.frame == k
        table = Table({
            "id": o.star[rows], "mag": (o.magnitude - added)[rows], "s": o.magnitude_error[rows], "M": o.model[rows],
            "dM": o.model_error[rows], "fwhm": nights.seeing[rows],
        })  # fmt: skip
        table.meta |= {"FWHM_H": float(np.median(nights.seeing[rows])), "MJD": float(o.frames.time[k])}
        files.append(tmp_path / f"{o.frames.exposure[k]}.fits")
        table.write(files[-1])
    columns = {
        "star": "id", "magnitude": "mag", "magnitude_error": "s", "model": "M", "model_error": "dM",
        "time": {"header": "MJD"},
    }  # fmt: skip
    config: dict[str, Any] = {
        "columns": columns, "joint": {"star_prior": True, "min_observations": 1, "error_floor": 0.0},
        "term": [
            {"kind": "zero_point", "per": "night+band"}, {"kind": "seeing", "column": "fwhm", "zero": 1.3},
            {"kind": "drift", "prior": 0.01}, {"kind": "nonlinearity", "prior": 0.01},
        ],
    }  # fmt: skip
    found, _ = solve_survey(config, files)
    assert np.abs(pulls(found, "seeing", {"seeing_1": 0.02})).max() < 3
    np.testing.assert_array_equal(found.exposures().columns["seeing"], np.full(len(o.frames), found.term("seeing")[0]))
    # A keyword of the headers, where no column has the name.
    config["term"][1]["column"] = "FWHM_H"
    found, _ = solve_survey(config, files)
    assert 0 < found.term("seeing")[1][0] < 0.02
    config["term"][1]["column"] = "NOTHING"
    with pytest.raises(ValueError, match="NOTHING"):
        solve_survey(config, files)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Nonlinearity(form="cubic"), "form is one of counts, peak, polynomial"),
        (lambda: Nonlinearity(order=2), "order has no effect"),
        (lambda: Nonlinearity(form="peak"), "needs the seeing"),
        (lambda: Nonlinearity(column="fwhm"), "seeing has no effect"),
        (lambda: Nonlinearity(form="polynomial", order=9), "order must be a whole number"),
        (lambda: Drift(order=0), "order must be a whole number"),
        (lambda: Seeing(), "give column"),
        (lambda: Seeing("fwhm", order=5), "order must be a whole number"),
    ],
)
def test_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_what_observations_lack(nights: Nights) -> None:
    o = nights.observations
    timeless = dataclasses.replace(o, frames=dataclasses.replace(o.frames, time=np.full(len(o.frames), np.nan)))
    model = JointModel((ZeroPoint(per="night+band"), Drift()), star_prior=True)
    with pytest.raises(ValueError, match="drift needs the times"):
        solve_joint(timeless, model)
    with pytest.raises(ValueError, match="values for"):
        solve_joint(o, dataclasses.replace(model, terms=(ZeroPoint(), Seeing("fwhm", values=np.ones(3)))))
    with pytest.raises(ValueError, match="no row has a value"):
        solve_joint(o, dataclasses.replace(model, terms=(ZeroPoint(), Seeing("fwhm", values=np.full(len(o), np.nan)))))
