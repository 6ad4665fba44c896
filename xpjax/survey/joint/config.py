"""A joint solution from a survey.toml: its columns and standards, and the model with its terms and constraints.

[joint]
star_prior = true                      # columns.model with model_error are priors of the stars' magnitudes
robust = "huber"                       # then outliers beyond clip = 5.0 are clipped; error_floor: fitted unless given
min_observations = 10
size = [9216, 9232]                    # or [x_from, x_to, y_from, y_to]
hold_out_exposures = 10                # cross-validation: one exposure in ten is kept back; also hold_out_stars
[[term]]
kind = "zero_point"                    # or color, flat, extinction, covariate, transmission
per = "frame"                          # frames that share a value: fields of frames joined by +, ":30" for 30 days
[[term]]
kind = "flat"
bins = 20
[[term]]
kind = "covariate"
name = "seeing"
column = "fwhm"
per = "band"
prior = 0.01
[[term]]
kind = "transmission"
chain = "telescope.toml"               # beside this file, as the spectra are
sources = "standards.h5"
correction = "standard"                # linear correction of the spectra: the default; "none", or a file
star_prior = false                     # true, the default, takes stars' priors from the spectra instead
parameters = { water = { per = "night", prior = 3.0 }, filter_shift = { per = "band", prior = 2.0 } }
[[constraint]]
term = "flat"                          # the mean is zero; also part, place and value
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, ValidationInfo

from xpjax.core.errors import XpjaxError
from xpjax.io.config import Section, check_sections, entry, parse, read_toml, section_of
from xpjax.survey import Observations, check_one_place, with_nights
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import TERMS, Term, term_from
from xpjax.survey.reading import SECTIONS, SIZE, SurveyConfig, SurveyReading, config_from, read_observations


def _one_in(every: int | None, about: ValidationInfo) -> int | None:
    if every is not None and every < 2:
        raise ValueError(f"{about.field_name} = {every}: one in so many is kept back; give a whole number from 2 on")
    return every


OneIn = Annotated[int | None, AfterValidator(_one_in)]
HELD_OUT = {
    "hold_out_exposures": (OneIn, entry(None, "Cross-validation: one exposure in so many is kept back")),
    "hold_out_stars": (OneIn, entry(None, "Cross-validation: one star in so many is kept back")),
}
Joint = section_of("Joint", JointModel, without=("terms", "constraints"), size=SIZE, **HELD_OUT)
Constraints = section_of("Constraints", Constraint)


def sections() -> dict[str, type[Section]]:
    """The sections of a joint solution by their headings, for the page of all entries."""
    terms = {f'[[term]] kind = "{kind}"': term.section() for kind, term in TERMS.items()}
    return {"[joint]": Joint, **terms, "[[constraint]]": Constraints}


@dataclasses.dataclass(frozen=True)
class JointConfig:
    """A joint solution by its survey.toml: columns and standards, [joint], terms without their data, constraints."""

    survey: SurveyConfig
    joint: Section
    terms: tuple[Term, ...]
    constraints: tuple[Constraint, ...]

    def hold_out(self, o: Observations) -> dict[str, Any]:
        """Return masks of exposures and of rows that are kept back: one in so many by name, whatever the order."""
        out: dict[str, Any] = {}
        said = self.joint.given()
        if every := said.get("hold_out_exposures"):
            rank = np.empty(len(o.frames), int)
            rank[np.lexsort((o.frames.detector, o.frames.band, o.frames.exposure))] = np.arange(len(rank))
            out["held_out_frames"] = rank % every == every - 1
        if every := said.get("hold_out_stars"):
            _, number = np.unique(o.star, return_inverse=True)
            out["held_out_stars"] = number % every == every - 1
        return out


def read_joint_config(source: str | Path | Mapping[str, Any]) -> JointConfig:
    """What a survey.toml, or its names and values, says. Raises XpjaxError for what is unknown, wrong or missing."""
    return joint_from(source) if isinstance(source, Mapping) else read_toml(source, joint_from)


def joint_from(table: Mapping[str, Any], folder: Path = Path()) -> JointConfig:
    """A configuration from nested names and values; paths in it are relative to the folder."""
    check_sections(table, SECTIONS)
    survey = config_from(table, folder, joint=True)
    joint = parse(Joint, table.get("joint", {}), "[joint]")
    if not table.get("term"):
        raise XpjaxError('there is no term: add [[term]] with kind = "zero_point", and others')
    terms = tuple(term_from(one) for one in table["term"])
    joint.make(JointModel, terms=terms)
    _check_effect(joint.given(), terms, survey)
    constraints = [parse(Constraints, one, "[[constraint]]").make(Constraint) for one in table.get("constraint", [])]
    return JointConfig(survey, joint, terms, tuple(constraints))


def _check_effect(joint: Mapping[str, Any], terms: Sequence[Term], survey: SurveyConfig) -> None:
    """Raise XpjaxError for terms that need columns which are not named, and for entries of [joint] without effect."""
    needs = [(f"the {term.kind} term", key) for term in terms for key in term.needs]
    needs.sort(key=lambda need: need[1] == "color")
    needs += [("star_prior", "model")] * bool(joint.get("star_prior"))
    for what, key in needs:
        if any(key not in mapping for mapping in survey.bands.values()):
            raise XpjaxError(f"{what} needs columns.{key}: name it in [columns], or leave {what} out")
    if sum(term.star_prior for term in terms) + bool(joint.get("star_prior")) > 1:
        raise XpjaxError(
            "stars have one prior: of [joint] star_prior or of the spectra of one transmission term; set star_prior = "
            "false for the others"
        )
    used = {key for term in terms for key in term.needs}
    for name, key, what in (("size", "x", "place"), ("color_zero", "color", "color")):
        if name in joint and key not in used:
            raise XpjaxError(f"[joint] {name} has no effect: no term depends on the {what}; leave it out")


def build_joint(config: JointConfig, sources: Any, keep: Sequence[str] = ()) -> tuple[SurveyReading, JointModel]:
    """Observations in files or tables, and the model with what its terms need of them.

    Raises XpjaxError for columns, chains and spectra that are not there, and where nothing tells which detections are
    of one star.
    """
    survey = config.survey
    if not survey.identifies_stars:
        raise XpjaxError(
            "a joint solution must know which detections are of one star: name columns.star, or columns.ra and "
            "columns.dec, or [standards]"
        )
    wanted = [name for term in config.terms for name in term.wanted()]
    reading = read_observations(sources, survey, keep=keep, further=wanted)
    o = with_nights(reading.observations)
    by_name = any("star" in mapping for mapping in survey.bands.values())
    by_radius = survey.standards is not None and "radius" in survey.standards.model_fields_set
    if by_name and o.origin is not None and "ra" in o.origin.columns and not by_radius:
        check_one_place(o.star, o.origin.columns["ra"], o.origin.columns["dec"])
    terms = tuple(term.bound(survey.folder, reading.further) for term in config.terms)
    model = config.joint.make(JointModel, terms=terms, constraints=config.constraints)
    return dataclasses.replace(reading, observations=o), model


def solve_survey(
    config: str | Path | Mapping[str, Any], sources: Any, *, keep: Sequence[str] = (), devices: Any = None
) -> tuple[JointSolution, SurveyReading]:
    """Solve for a survey in files, as `xpjax survey solve` does.

    Parameters
    ----------
    config
        A survey.toml, or its nested names and values.
    sources
        Files or tables of detections, as for `xpjax.survey.reading.read_observations`.
    keep : sequence of str
        Columns of the tables that go with the calibrated measurements.
    devices
        None for NumPy and SciPy on a CPU, and JAX where its first device is another; else a name such as "gpu".

    Returns
    -------
    solution : JointSolution
        The solution; its `meta` says how it was made.
    reading : SurveyReading
        The observations, and the account of what was read.

    Raises
    ------
    XpjaxError
        As `solve_joint`, and for what is unknown, wrong, missing or without effect in the configuration or the tables.

    Examples
    --------
    >>> table = {"id": np.tile(np.arange(20), 3), "e": np.repeat(["a", "b", "c"], 20), "m": np.full(60, 15.0)}
    >>> config = {"columns": {"star": "id", "exposure": "e", "magnitude": "m", "magnitude_error": "s"},
    ...           "joint": {"min_observations": 1}, "term": [{"kind": "zero_point"}],
    ...           "constraint": [{"term": "zero_point"}]}
    >>> solution, reading = xpjax.survey.joint.solve_survey(config, [{**table, "s": np.full(60, 0.01)}])
    >>> solution
    JointSolution(3 columns of zero_point, 20 stars in 1 band, 60 of 60 measurements used, converged)
    """
    chosen = read_joint_config(config)
    reading, model = build_joint(chosen, sources, keep)
    found = solve_joint(reading.observations, model, devices=devices, **chosen.hold_out(reading.observations))
    account = json.dumps(reading.account.lines())
    meta = {"model": "; ".join(model.describe()), "account": account, "converged": found.converged}
    if (name := model.correction_name()) is not None:
        meta["correction"] = name
    return dataclasses.replace(found, meta=meta), reading
