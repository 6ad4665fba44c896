"""A joint solution from a survey.toml: its columns and standards, and the model with its terms and constraints.

[joint]
star_prior = true                      # columns.model with model_error are priors of the stars' magnitudes
robust = "huber"                       # then outliers beyond clip = 5.0 are clipped; error_floor: fitted unless given
min_observations = 10
size = [9216, 9232]                    # or [x_from, x_to, y_from, y_to]
hold_out_exposures = 10                # cross-validation: one exposure in ten is kept back; also hold_out_stars
[[term]]
kind = "zero_point"                    # color, flat, extinction, covariate, nonlinearity, drift, seeing, transmission;
                                       # sky, instrument: what XP itself is wrong by
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
sources = "standards.h5"               # by default the spectra of [standards], and the chain of [passband]
correction = "standard"                # linear correction of the spectra: the default; "none", or a file
star_prior = false                     # true, the default, takes stars' priors from the spectra instead
[term.parameters]
water = { per = "night", prior = 3.0 }
filter_shift = { per = "band", prior = 2.0, field = "radial", order = 4 }   # also center, field_prior; or "polynomial"
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

from xpjax.core.engine import Devices
from xpjax.core.errors import XpjaxError, say
from xpjax.core.records import json_entry
from xpjax.core.types import AnyTables
from xpjax.io.config import Section, check_sections, entry, parse, read_toml, section_of
from xpjax.survey import Frames, Observations, RowFlag, check_one_place, rejoin_stars, with_nights
from xpjax.survey.joint.constraints import Constraint
from xpjax.survey.joint.extend import extend_joint
from xpjax.survey.joint.files import config_between, lost_files, read_joint_solution
from xpjax.survey.joint.problem import JointModel
from xpjax.survey.joint.sky import quoted_floor
from xpjax.survey.joint.solution import JointSolution
from xpjax.survey.joint.solve import solve_joint
from xpjax.survey.joint.terms import OF_STANDARDS, TERMS, Term, term_from
from xpjax.survey.joint.transmission import PARAMETER
from xpjax.survey.reading import (
    SECTIONS,
    SIZE,
    SurveyConfig,
    SurveyReading,
    alarms,
    as_called_before,
    config_from,
    read_observations,
)


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
    parameters = {'[[term]] kind = "transmission": each of its parameters': PARAMETER}
    return {"[joint]": Joint, **terms, **parameters, "[[constraint]]": Constraints}


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
    if not table.get("term"):
        raise XpjaxError('there is no term: add [[term]] with kind = "zero_point", and others')
    terms = tuple(term_from(_with_spectra(one, table, survey)) for one in table["term"])
    prior = any(term.star_prior for term in terms)
    models = not prior and survey.passband is not None and bool(survey.passband.models)
    own = {"star_prior": True} if models else {}
    joint = parse(Joint, {**own, **table.get("joint", {})}, "[joint]")
    if survey.passband is not None:
        air = not any(term.kind == "transmission" for term in terms)  # such a term knows the airmass of a frame
        passband: Any = survey.passband
        if prior:  # of the spectra of a term: magnitudes are brought to one airmass all the same
            passband = passband.model_copy(update={"models": False}) if air else None
        survey = dataclasses.replace(survey, passband=passband, at_one_airmass=air, sky_floor=False)
    joint.make(JointModel, terms=terms)
    _check_effect(joint.given(), terms, survey)
    constraints = [parse(Constraints, one, "[[constraint]]").make(Constraint) for one in table.get("constraint", [])]
    return JointConfig(survey, joint, terms, tuple(constraints))


def _with_spectra(one: Mapping[str, Any], table: Mapping[str, Any], survey: SurveyConfig) -> dict[str, Any]:
    """A [[term]], with passbands of [passband] and spectra of [standards] where it says none."""
    known = TERMS[one["kind"]].section().model_fields if one.get("kind") in TERMS else {}
    own: dict[str, Any] = {"sources": OF_STANDARDS} if survey.has_spectra else {}
    if survey.passband is not None:
        said = table["passband"]
        own |= {name: value for name, value in said.items() if name in ("chain", "correction", "bands")}
        own["passbands"] = next((said[name] for name in ("chain", "files", "system") if name in said), None)
    return {**{name: value for name, value in own.items() if name in known}, **one}


def _check_effect(joint: Mapping[str, Any], terms: Sequence[Term], survey: SurveyConfig) -> None:
    """Raise XpjaxError for terms that need columns which are not named, and for entries of [joint] without effect."""
    needs = [(f"the {term.kind} term", key) for term in terms for key in term.needs]
    needs.sort(key=lambda need: need[1] == "color")
    models = survey.passband is not None and survey.passband.models
    needs += [("star_prior", "model")] * bool(joint.get("star_prior") and not models)
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


def build_joint(
    config: JointConfig, sources: Any, keep: Sequence[str] = (), solved: Frames | None = None, **options: Any
) -> tuple[SurveyReading, JointModel]:
    """Observations in files or tables, and the model with what its terms need of them; options: of reading.

    solved: frames of a solution, whose nights are known.

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
    reading = read_observations(sources, survey, keep=keep, further=wanted, **options)
    o = with_nights(reading.observations, known=solved)
    by_name = any("star" in mapping for mapping in survey.bands.values())
    by_radius = survey.standards is not None and "radius" in survey.standards.model_fields_set
    if by_name and o.origin is not None and "ra" in o.origin.columns and not by_radius:
        check_one_place(o.star, o.origin.columns["ra"], o.origin.columns["dec"])
    if o.model_systematic is not None:
        o = _as_priors(o, reading.account.notes)
    terms = tuple(_of_standards(term, reading.spectra) for term in config.terms)
    terms = tuple(term.bound(survey.folder, reading.further) for term in terms)
    model = config.joint.make(JointModel, terms=terms, constraints=config.constraints)
    if o.origin is not None:  # what terms go with stands beside the measurements, as what is kept
        origin = dataclasses.replace(o.origin, columns={**reading.further, **o.origin.columns})
        o = dataclasses.replace(o, origin=origin)
    return dataclasses.replace(reading, observations=o), model


def _of_standards(term: Term, spectra: Any) -> Term:
    """The term with the spectra of [standards] where it takes these."""
    if getattr(term, "sources", None) != OF_STANDARDS:
        return term
    return dataclasses.replace(term, sources=spectra)  # type: ignore[type-var]


def _as_priors(o: Observations, notes: list[str]) -> Observations:
    """Observations whose models are priors: a star for which the correction does not hold has none, but takes part."""
    bit = np.uint32(RowFlag.OUTSIDE_DOMAIN)
    outside = (o.excluded & bit) > 0
    left = o.model_systematic
    if left is not None and (left[~outside] > 0).any():
        typical = float(np.median(left[~outside & (left > 0)]))
        notes.append(
            f"errors of the solution are without the systematic error of the models, {1e3 * typical:.1f} mmag: it is a "
            f'[[term]] with kind = "zero_point", name = "of spectra", per = "band", prior = {typical:.4f}'
        )
    return dataclasses.replace(o, model=np.where(outside, np.nan, o.model), excluded=o.excluded & ~bit)


def read_further(
    solution: JointSolution,
    sources: Any,
    *,
    config: str | Path | Mapping[str, Any] | None = None,
    exposure: str | None = None,
    new: bool = False,
    keep: Sequence[str] = (),
) -> tuple[JointSolution, SurveyReading]:
    """Further tables of a survey that is solved, and the solution with what its terms need of them.

    As the solution's own configuration says, unless another is given, whose [passband] bands say which of its bands are
    those of the solution. Raises XpjaxError where there is none.
    """
    meta = solution.meta
    if config is None and "config" not in meta:
        raise XpjaxError(f"the solution does not say what columns mean: give {say('config=', '--config')}")
    kept = {"known": "exposure_files", "amplifiers": "amplifiers", "airmass_laws": "airmass_laws"}
    before: dict[str, Any] = {option: json_entry(meta, name, "null") for option, name in kept.items()}
    solved = json_entry(meta, "config", "{}")
    try:
        chosen = joint_from(solved) if config is None else read_joint_config(config)
        reading, model = build_joint(chosen, sources, keep, solution.frames, exposure=exposure, new=new, **before)
    except (XpjaxError, OSError) as error:
        if config is not None or not (lost := lost_files(solved)):
            raise
        raise XpjaxError(
            f"{error}; of the solution's own configuration there is no {lost[0]}{', ...' * (len(lost) > 1)}: was the "
            "solution moved without it? Put it back, or give a configuration that names the files of now: "
            f"{say('config=', '--config')}"
        ) from error
    notes, o = reading.account.notes, reading.observations
    called = solved.get("passband", {}).get("bands", {})
    o = dataclasses.replace(
        o, frames=as_called_before(o.frames, chosen.survey.passband, solution.frames.band.tolist(), called)
    )
    clash = np.intersect1d(o.frames.exposure, solution.frames.exposure)
    if new and len(clash):
        raise XpjaxError(
            f"the solution has an exposure {str(clash[0])!r} already: rename it, or leave out {say('new=', '--new')}"
        )
    if len(fresh := np.setdiff1d(o.frames.exposure, [*solution.frames.exposure, ""])):
        named = ", ".join(fresh[:5]) + ", ..." * (len(fresh) > 5)
        notes.append(f"{len(fresh):,} new exposure{'s' * (len(fresh) > 1)}: {named}")
    standards = chosen.survey.standards
    star = rejoin_stars(o.star, solution.star, 1.0 if standards is None else standards.radius)
    terms = {term.name: term for term in model.terms}
    own = [_settled_as(terms.get(one.name, one), one) for one in solution.terms]
    return solution.with_terms(*own), dataclasses.replace(reading, observations=dataclasses.replace(o, star=star))


def _settled_as(term: Term, known: Term) -> Term:
    """A term of other rows, with the zeros that it has in a solution."""
    names = {field.name for field in dataclasses.fields(term) if field.name not in term.in_python}  # type: ignore[arg-type]
    zeros = {name: getattr(known, name, None) for name in names if getattr(term, name) is None}
    return dataclasses.replace(term, **{name: zero for name, zero in zeros.items() if zero is not None})  # type: ignore[type-var]


def solve_survey(
    config: str | Path | Mapping[str, object] | None,
    sources: AnyTables,
    *,
    extend: JointSolution | str | Path | None = None,
    keep: Sequence[str] = (),
    devices: Devices = None,
) -> tuple[JointSolution, SurveyReading]:
    """Solve for a survey in files, as `xpjax survey solve` does.

    Parameters
    ----------
    config
        A survey.toml, or its nested names and values. None, where a solution is extended, for its own.
    sources
        Files or tables of detections, as for `xpjax.survey.reading.read_observations`.
    extend : JointSolution or path, optional
        A solution that these detections, of further exposures, extend; see `extend_joint`.
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
    if extend is not None:
        if devices is not None:
            raise XpjaxError(f"{say('devices', '--device')} has no effect where a solution is extended: leave it out")
        return _extended(extend, config, sources, keep)
    if config is None:
        raise XpjaxError(f"give {say('config=', '--config')}, or {say('extend=', '--extend')} for a solution to extend")
    chosen = read_joint_config(config)
    reading, model = build_joint(chosen, sources, keep)
    o, account = reading.observations, reading.account
    odd = alarms(o, chosen.survey, reading.spectra, o.excluded == 0, account.offsets)
    account.notes += [f"WARNING: {one}" for one in odd]
    found = solve_joint(reading.observations, model, devices=devices, **chosen.hold_out(reading.observations))
    meta = {"model": "; ".join(model.describe()), "converged": found.converged, **_about(chosen, reading)}
    if (name := model.correction_name()) is not None:
        meta["correction"] = name
    if floors := quoted_floor(reading.observations, model.terms, model.star_prior, found.used):
        meta["sky_floor"] = floors
    return dataclasses.replace(found, meta=meta), reading


def _about(config: JointConfig, reading: SurveyReading) -> dict[str, Any]:
    """What a solution keeps of its configuration and tables, so that further ones are read alike."""
    survey = config.survey
    return {
        "config": json.dumps(config_between(survey.table, survey.folder, Path())),
        "account": json.dumps(reading.account.lines()), "exposure_files": json.dumps(dict(reading.files)),
        "amplifiers": json.dumps(reading.amplifiers), "airmass_laws": json.dumps(reading.airmass_laws),
    }  # fmt: skip


def _extended(
    extend: JointSolution | str | Path, config: str | Path | Mapping[str, Any] | None, sources: Any, keep: Sequence[str]
) -> tuple[JointSolution, SurveyReading]:
    """A solution extended by further tables."""
    known = extend if isinstance(extend, JointSolution) else read_joint_solution(extend)
    known, reading = read_further(known, sources, config=config, keep=keep)
    found, meta = extend_joint(known, reading.observations), known.meta
    files = {**json_entry(meta, "exposure_files", "{}"), **reading.files}
    more: dict[str, Any] = {"account": json.dumps(reading.account.lines()), "converged": found.converged,
            "exposure_files": json.dumps(files)}  # fmt: skip
    return dataclasses.replace(found, meta={**meta, **more}), reading
