"""What `survey check` says of a joint solution: constraints and priors that would go wrong."""

from typing import Any

import numpy as np
import pytest

from tests.survey.joint.nights import observe
from xpjax.survey.joint import check_joint, solve_survey

COLUMNS = {name: name for name in ("star", "exposure", "band", "x", "y", "magnitude", "magnitude_error", "color")}


@pytest.fixture(scope="module")
def table() -> dict[str, np.ndarray]:
    o = observe(80)
    frames = o.frames
    one = np.isin(o.frame, np.flatnonzero(frames.detector == "a"))
    found = {
        name: getattr(o, name)[one] for name in ("star", "x", "y", "magnitude", "magnitude_error", "color", "model")
    }
    found |= {name: getattr(frames, name)[o.frame][one] for name in ("exposure", "band")}
    return {**found, "model_error": np.full(one.sum(), 0.01)}


def config(*terms: dict[str, Any], constraints: tuple[str, ...] = (), **joint: Any) -> dict[str, Any]:
    models = {"model": "model", "model_error": "model_error"} if joint.get("star_prior") else {}
    return {
        "columns": {**COLUMNS, **models}, "joint": {"min_observations": 3, **joint}, "term": list(terms),
        "constraint": [{"term": name} for name in constraints],
    }  # fmt: skip


def test_a_constraint_that_priors_contradict(table: dict[str, np.ndarray]) -> None:
    """Both refuse it in the same words; what is forced they tell, and the solution holds it."""
    wrong = config({"kind": "zero_point"}, constraints=("zero_point",), star_prior=True)
    found = check_joint([table], wrong)
    assert found.exit_status == 2
    warning = next(one for one in found.warnings if "mean of zero_point (band g)" in one)
    assert "mean of zero_point (band g) = 0, though by the priors of star magnitudes it is 2" in warning
    with pytest.raises(ValueError, match="contradicted constraints: mean of zero_point"):
        solve_survey(wrong, [table])
    wrong["constraint"][0]["force"] = True
    found = check_joint([table], wrong)
    assert found.exit_status == 0
    warning = next(one for one in found.warnings if "mean of zero_point (band g)" in one)
    assert "everything else gives way" in warning
    assert f"WARNING: {warning}" in found.lines()
    solution, _ = solve_survey(wrong, [table])
    assert solution.converged
    said = [one for one in solution.summary() if one.startswith("WARNING: constraint contradicted: mean of zero_point")]
    assert len(said) == 2
    value = solution.term("zero_point")[0]
    assert value.reshape(-1, 4)[::2].mean() == pytest.approx(0, abs=1e-9)
    both = config({"kind": "zero_point"}, constraints=("zero_point",))
    both["constraint"].append({"term": "zero_point", "value": 25.0})
    assert check_joint([table], both).exit_status == 2
    fine = check_joint([table], config({"kind": "zero_point"}, star_prior=True))
    assert fine.exit_status == 0
    assert "data and priors determine every term" in fine.terms


def test_what_the_prior_alone_determines(table: dict[str, np.ndarray]) -> None:
    """A seeing that is one number: nothing but its prior says what it adds, in the check, the log and the table."""
    table = {**table, "fwhm": 3.0 + 1e-6 * table["x"]}
    seeing = {"kind": "covariate", "name": "seeing", "column": "fwhm", "per": "all", "prior": 0.01}
    said = config({"kind": "zero_point"}, {"kind": "color", "prior": 0.05}, seeing, constraints=("zero_point",))
    line = "determined by the prior alone: seeing of all (error as of the prior; the data add next to nothing)"
    assert [one for one in check_joint([table], said).terms if "alone" in one] == [line]
    found, _ = solve_survey(said, [table])
    assert [one for one in found.summary() if "alone" in one] == [line]
    parameters = found.parameters().columns
    share = dict(zip(parameters["term"].tolist(), parameters["prior_share"].tolist(), strict=True))
    assert share["seeing"] == pytest.approx(1, abs=1e-3)
    assert 0 < share["color"] < 0.1
    assert np.isnan(share["zero_point"])
