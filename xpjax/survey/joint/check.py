"""What a joint solution would do, told before it is solved: rows, and which terms data, priors and constraints fix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpjax.core.errors import XpjaxError
from xpjax.survey.joint.config import build_joint, read_joint_config
from xpjax.survey.joint.fit import Fit
from xpjax.survey.joint.problem import prepare_joint
from xpjax.survey.reading import SurveyCheck, checked


def check_joint(sources: Any, config: str | Path | Mapping[str, Any]) -> SurveyCheck:
    """Tell what `solve_survey` would do, before anything is solved: what `xpjax survey check` does with [[term]].

    Parameters
    ----------
    sources
        Files or tables of detections, as for `xpjax.survey.reading.read_observations`.
    config
        A survey.toml, or its nested names and values.

    Returns
    -------
    SurveyCheck
        Rows and exposures; the terms, what constraints decide, and which combinations nothing determines.

    Raises
    ------
    XpjaxError
        For what is unknown, wrong, missing or without effect in the configuration or the tables.

    Examples
    --------
    >>> table = {"id": np.tile(np.arange(20), 3), "e": np.repeat(["a", "b", "c"], 20), "m": np.full(60, 15.0)}
    >>> config = {"columns": {"star": "id", "exposure": "e", "magnitude": "m", "magnitude_error": "s"},
    ...           "joint": {"min_observations": 1}, "term": [{"kind": "zero_point"}]}
    >>> found = xpjax.survey.joint.check_joint([{**table, "s": np.full(60, 0.01)}], config)
    >>> found.exit_status
    2
    """
    chosen = read_joint_config(config)
    reading, model = build_joint(chosen, sources)
    problem = prepare_joint(reading.observations, model)
    fit = Fit(problem, problem.rows, reading.observations.magnitude, None, None)
    size = f"{len(fit.p):,} columns, {int(fit.seen.sum()):,} of them with data or priors"
    found = checked(reading, None, [*(f"term {line}" for line in model.describe()), size])
    try:
        gauge = fit.begin()
    except XpjaxError as error:
        return dataclasses.replace(found, determined=False, warnings=(*found.warnings, str(error)))
    words = [f"decided by constraints, not by data: {one}" for one in gauge] or ["data and priors determine every term"]
    return dataclasses.replace(found, terms=(*found.terms, *words))
