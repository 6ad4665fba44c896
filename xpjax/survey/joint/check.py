"""What a joint solution would do, told before it is solved: rows, and which terms data, priors and constraints fix."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.core.types import AnyTables
from xpjax.survey.joint.config import build_joint, read_joint_config
from xpjax.survey.joint.covariance import unit_columns
from xpjax.survey.joint.fit import Fit
from xpjax.survey.joint.gauge import CONTRADICTION, of_priors_alone
from xpjax.survey.joint.problem import prepare_joint
from xpjax.survey.reading import SurveyCheck, checked

MOST = 2000
"""Columns with a prior whose errors are looked at before a fit."""


def check_joint(sources: AnyTables, config: str | Path | Mapping[str, object]) -> SurveyCheck:
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
    found = checked(reading, chosen.survey, [*(f"term {line}" for line in model.describe()), size])
    try:
        gauge = (*fit.begin(), *fit.equations.held.notes, *fit.judge_constraints())
    except XpjaxError as error:
        return dataclasses.replace(found, determined=False, warnings=(*found.warnings, str(error)))
    wrong = [one.removeprefix("WARNING: ") for one in gauge if one.startswith(CONTRADICTION)]
    words = [f"decided by constraints, not by data: {one}" for one in gauge if not one.startswith(CONTRADICTION)]
    words = (words or ["data and priors determine every term"]) + _of_priors_alone(fit)
    return dataclasses.replace(found, terms=(*found.terms, *words), warnings=(*found.warnings, *wrong))


def _of_priors_alone(fit: Fit) -> list[str]:
    """Words for values that nothing but their priors determine, at the weights that the fit begins with."""
    blocks, error = fit.problem.columns.blocks, np.full(len(fit.p), np.nan)
    mine = np.flatnonzero(np.isfinite(np.concatenate([block.sigma for block in blocks])))
    if len(mine) > MOST or not fit.equations.dense:
        return [f"not looked at: which of {len(mine):,} priors alone determine a value; `survey solve` says it"]
    if len(mine):
        error[mine] = np.sqrt(np.diagonal(fit.equations.free_inverse(unit_columns(mine, len(error)))[mine]))
    return of_priors_alone(blocks, error)
