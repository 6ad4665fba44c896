"""Terms: the one that the module shows how to add, from Python and from a survey.toml; entries that name every term."""

import dataclasses
import textwrap
from typing import Any

import numpy as np
import pytest

from benchmarks.joint import dithered
from tests.survey.joint.helpers import SIZE
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint import terms
from xpjax.survey.joint.blocks import Linear, Part, Prepared, frame_groups, scaled_places
from xpjax.survey.joint.config import sections, solve_survey
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.files import read_joint_solution, write_joint_solution
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import TERMS, Color, Covariate, Extinction, Flat, ZeroPoint, term_from
from xpjax.survey.observations import Observations


@pytest.fixture
def tilt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The term of the module's own example, as it stands there."""
    monkeypatch.setattr(terms, "TERMS", dict(TERMS))
    assert terms.__doc__ is not None
    lines = terms.__doc__.split("constraints then know it:")[1].split("A term with columns")[0]
    names = dict(vars(terms))
    exec(textwrap.dedent(lines), names)
    return names["Tilt"]


def test_a_new_term_is_one_class_and_one_line(tilt: Any, tmp_path: Any) -> None:
    o, _ = dithered(24, 300, bins=1, outlier=0.0)
    slope = 0.02 * np.random.default_rng(1).normal(size=24)
    slope -= slope.mean()
    v = 2 * o.y.astype(float) - 1
    o = dataclasses.replace(o, magnitude=o.magnitude - slope[o.frame] * v)
    fitted = (ZeroPoint(), Color(), tilt())
    model = JointModel(
        fitted, tuple(Constraint(term.name) for term in fitted), size=(0, 1, 0, 1), color_zero=0.0, min_observations=5
    )
    found = solve_joint(o, model)
    value, error = found.term("tilt")
    assert error.max() < 2e-3
    assert 0.6 < np.std((value - slope) / error) < 1.4
    # The same from a survey.toml, its columns in the tables, and read back from a file.
    names = {name: name for name in ("star", "exposure", "x", "y", "magnitude", "magnitude_error", "color")}
    config: dict[str, Any] = {
        "columns": names, "joint": {"size": [0, 1, 0, 1], "color_zero": 0.0, "min_observations": 5},
        "term": [{"kind": kind} for kind in ("zero_point", "color", "tilt")],
        "constraint": [{"term": term.name} for term in fitted],
    }  # fmt: skip
    table = {name: np.asarray(getattr(o, name)) for name in names if name != "exposure"}
    table["exposure"] = o.frames.exposure[o.frame]
    again, _ = solve_survey(config, [table])
    np.testing.assert_allclose(again.term("tilt")[0], value, atol=1e-9)
    rows = again.parameters().columns
    assert rows["exposure"][rows["term"] == "tilt"].tolist() == o.frames.exposure.tolist()
    assert "tilt_error" in again.exposures().columns
    write_joint_solution(tmp_path / "joint.h5", again)
    assert read_joint_solution(tmp_path / "joint.h5").terms[2] == tilt()
    with pytest.raises(ValueError, match=r"the tilt term needs columns\.x"):
        solve_survey({**config, "columns": {n: n for n in names if n not in "xy"}, "joint": {}}, [table])
    with pytest.raises(ValueError, match=r"unknown entry of a tilt term 'pir'; did you mean (per|prior)"):
        solve_survey({**config, "term": [{"kind": "tilt", "pir": "band"}]}, [table])


@dataclasses.dataclass(frozen=True)
class Square(terms.Term):
    """A value enters as its square, times the place along an axis of the detector."""

    name: str
    axis: int

    def prepare(self, observations: Observations, scale: Scaling) -> "PreparedSquare":
        return PreparedSquare(self.name, observations, scaled_places(observations, scale)[self.axis])


class PreparedSquare(Prepared):
    linear = False

    def __init__(self, name: str, o: Observations, place: np.ndarray) -> None:
        self.place = place
        super().__init__(frame_groups(o.frames, "all").block(name, o, Part("root", "mag", place)))

    def linearize(self, values: Any, last: Any = None, magnitude: np.ndarray | None = None) -> Linear:
        root = 0.2 + values[0]
        return Linear(list(values), root**2 * self.place, [2 * root * self.place])


def test_two_non_linear_terms() -> None:
    o, truth = dithered(12, 200, bins=1, outlier=0.0)
    u, v = 2 * o.x.astype(float) - 1, 2 * o.y.astype(float) - 1
    o = dataclasses.replace(
        o, magnitude=o.magnitude - 0.26**2 * u - 0.11**2 * v, model=truth.magnitude[o.star],
        model_error=np.full(len(o), 0.001),
    )  # fmt: skip
    fitted = (ZeroPoint(), Color(), Square("along x", 0), Square("along y", 1))
    found = solve_joint(o, JointModel(fitted, star_prior=True, size=SIZE, color_zero=0.0, error_floor=0.0))
    assert found.converged
    for name, true in (("along x", 0.06), ("along y", -0.09)):
        value, error = found.term(name)
        assert error[0] < 0.002
        assert abs(value[0] - true) < 4 * error[0]
    again, _ = found.correction(o[::50], errors=False)
    calibrated = o.magnitude[::50] + again
    star = np.searchsorted(found.star, o.star[::50])
    np.testing.assert_allclose(found.magnitude[star, 0] - calibrated, found.residual[::50], atol=1e-9)


def test_entries_name_the_term() -> None:
    every = (
        ZeroPoint(per="night+band", prior=0.1), Color("second", order=2), Flat(form="chebyshev", order=4),
        Extinction(slope=True), Covariate("seeing", column="fwhm"),
    )  # fmt: skip
    for term in every:
        assert term_from(term.entry()) == term
        assert term.name in term.describe()
    with pytest.raises(ValueError, match="prior = 'x': expected a number"):
        term_from({"kind": "color", "prior": "x"})


def test_every_entry_of_every_section_is_described() -> None:
    for heading, section in sections().items():
        for name, field in section.model_fields.items():
            assert field.description, f"{heading} {name}"


def test_other_terms_are_recovered() -> None:
    """Extinction with its color part, a covariate, a Chebyshev flat for each epoch; stars have priors."""
    rng = np.random.default_rng(5)
    o, truth = dithered(40, 400, bins=1, outlier=0.0)
    night = np.array([f"n{k // 10}" for k in range(40)])
    airmass = rng.uniform(1, 2, 40)
    frames = dataclasses.replace(o.frames, night=night, airmass=airmass, time=60000 + np.arange(40.0))
    k = np.array([0.2, 0.25, 0.3, 0.22])
    seeing = rng.normal(size=len(o))
    u, v = 2 * o.x.astype(float) - 1, 2 * o.y.astype(float) - 1
    tilt = np.where(np.arange(40) < 20, 0.01, -0.02)[o.frame]
    added = -(k[np.arange(40) // 10] * (airmass - 1))[o.frame] - 0.03 * (airmass[o.frame] - 1) * o.color
    added = added + 0.004 * seeing + tilt * u * v
    magnitude = truth.magnitude[o.star] - 25.0 - added + rng.normal(0, 0.004, len(o))
    o = dataclasses.replace(
        o, frames=frames, magnitude=magnitude, magnitude_error=np.full(len(o), 0.004),
        model=truth.magnitude[o.star], model_error=np.full(len(o), 0.003),
    )  # fmt: skip
    terms = (
        ZeroPoint(per="night+band"), Extinction(second_order=True), Covariate("seeing", seeing, per="all"),
        Flat(form="chebyshev", order=2, per="band:20"),
    )  # fmt: skip
    found = solve_joint(o, JointModel(terms, star_prior=True, size=SIZE, color_zero=0.0))

    def check(name: str, part: str | None, true: Any) -> None:
        value, error = found.term(name, part)
        assert (np.abs(value - true) < 5 * error + 1e-9).all(), (name, part, value, error)

    check("zero_point", None, 25.0)
    check("extinction", "k", k)
    check("extinction", "k_color", 0.03)
    check("seeing", None, 0.004)
    check("flat", "x y", np.array([0.01, -0.02]))
    assert found.block("flat").labels == ("g 60000", "g 60020")
    table = found.parameters()
    assert len(table) == len(found.value)
    assert set(table.columns) >= {"term", "place", "part", "value", "error", "unit", "night", "band"}
    assert len(found.calibrated(o)) == len(o)


def test_parts_say_what_they_are() -> None:
    """In tables, each part in words of its own."""
    o, _ = dithered(6, 60, bins=1, outlier=0.0)
    frames = dataclasses.replace(o.frames, time=np.arange(6.0), airmass=np.linspace(1, 2, 6))
    o, scale = dataclasses.replace(o, frames=frames), Scaling(np.tile([0.0, 1.0, 0.0, 1.0], (6, 1)), 0.0, 0.0)
    every = (
        ZeroPoint(), Color(order=2, position_order=1), Flat(), Flat(form="chebyshev", order=3),
        Extinction(second_order=True, slope=True), Covariate("seeing", np.ones(len(o))),
    )  # fmt: skip
    said = {(t.name, p.name): p.said(t.name) for t in every for b in t.prepare(o, scale).blocks for p in b.parts}
    assert not any("of the term" in one for one in said.values())
    assert len({*said.values()}) == len(said)
    assert said["flat", "x2 y"] == "Flat, Chebyshev coefficient of T2(x) T1(y) over the detector"
    assert said["color", "color_2 y"] == "Quadratic color term, Chebyshev coefficient of T1(y) over the detector"
    assert said["extinction", "k"] == "Extinction coefficient k"
    units = {(t.name, p.name): p.in_unit for t in every for b in t.prepare(o, scale).blocks for p in b.parts}
    assert (units["extinction", "k"], units["color", "color_1"]) == ("mag/airmass", "mag/mag")
    assert (units["color", "color_2 y"], units["extinction", "k_slope"]) == ("mag/mag^2", "mag/airmass/d")
    assert (units["seeing", "slope"], units["flat", "x2 y"]) == ("mag/unit of seeing", "mag")
