"""A joint solution from a TOML file: columns as in `survey.reading.config`, then the model, its terms and constraints.

[joint]
star_prior = true                      # columns.model with model_error are priors of the stars' magnitudes
robust = "huber"                       # then clip = 5.0, with restore; error_floor: fitted unless given
min_observations = 10
size = [9216, 9232]                    # or [x_from, x_to, y_from, y_to]
hold_out_exposures = 10                # one exposure in ten is kept back and looked at; also hold_out_stars
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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.survey import Observations, check_one_place, with_nights
from xpjax.survey.joint.solve import JointModel
from xpjax.survey.joint.terms import TERMS, Constraint, Covariate, Term
from xpjax.survey.joint.transmission import Parameter, Transmission
from xpjax.survey.reading import (
    Config,
    Reading,
    check_names,
    config_from,
    detector_size,
    has_identity,
    named_correction,
    read_observations,
    read_toml,
)
from xpjax.synthetic import read_chain

OWN = ("joint", "term", "constraint")
KINDS = (*TERMS, "transmission")
HOLD_OUT = ("hold_out_exposures", "hold_out_stars")


@dataclasses.dataclass(frozen=True)
class JointConfig:
    """What the file says: survey (columns, cuts, standards), and the tables of the model as they are."""

    survey: Config
    joint: Mapping[str, Any]
    terms: tuple[Mapping[str, Any], ...]
    constraints: tuple[Constraint, ...]

    def hold_out(self, o: Observations) -> dict[str, Any]:
        """Masks of exposures and of rows that are kept back: one in so many by name, in whatever order files came."""
        out: dict[str, Any] = {}
        if every := self.joint.get("hold_out_exposures"):
            rank = np.empty(len(o.frames), int)
            rank[np.lexsort((o.frames.detector, o.frames.band, o.frames.exposure))] = np.arange(len(rank))
            out["held_out_frames"] = rank % every == every - 1
        if every := self.joint.get("hold_out_stars"):
            _, number = np.unique(o.star, return_inverse=True)
            out["held_out_stars"] = number % every == every - 1
        return out


def read_joint(path: str | Path) -> JointConfig:
    """A joint solution's TOML file. Raises ValueError naming what it has that is unknown, wrong or missing."""
    return read_toml(path, joint_from)


def joint_from(table: Mapping[str, Any], folder: Path = Path()) -> JointConfig:
    """The same from nested names and values."""
    rest = {name: value for name, value in table.items() if name not in OWN}
    for name in ("model", "passband"):
        if name in rest:
            raise XpjaxError(f"[{name}] is of `survey calibrate`; a joint solution has [joint] and [[term]]")
    survey = config_from(rest, folder, joint=True)
    joint = dict(table.get("joint", {}))
    fields = [f.name for f in dataclasses.fields(JointModel) if f.name not in ("terms", "constraints")]
    check_names(joint, (*fields, *HOLD_OUT), "entry of [joint]")
    for name in HOLD_OUT:
        every = joint.get(name, 2)
        if isinstance(every, bool) or not (isinstance(every, int) and every >= 2):
            raise XpjaxError(f"{name} = {every!r}: one in so many is kept back; give a whole number from 2 on")
    if "size" in joint:
        joint["size"] = detector_size(joint["size"])
    terms = table.get("term", [])
    if not isinstance(terms, list) or not terms:
        raise XpjaxError('there is no term: add [[term]] with kind = "zero_point", and others')
    for term in terms:
        _check_term(term)
    _check_effect(joint, terms, survey)
    constraints = []
    for one in table.get("constraint", []):
        check_names(one, [f.name for f in dataclasses.fields(Constraint)], "entry of [[constraint]]")
        if "term" not in one:
            raise XpjaxError('a [[constraint]] has no term: add term = "..."')
        constraints.append(Constraint(**one))
    return JointConfig(survey, joint, tuple(terms), tuple(constraints))


def _check_term(term: Mapping[str, Any]) -> None:
    kind = term.get("kind")
    if kind not in KINDS:
        raise XpjaxError(f"kind of a [[term]] is one of {', '.join(KINDS)}, not {kind!r}")
    known: list[str]
    needed: tuple[str, ...] = ()
    if kind == "transmission":
        known = ["name", "chain", "sources", "parameters", "star_prior", "floor", "correction"]
        needed = ("chain", "sources", "parameters")
    elif kind == "covariate":
        known, needed = ["name", "column", "per", "prior"], ("name", "column")
    else:
        known = [f.name for f in dataclasses.fields(TERMS[kind])]
    check_names(term, (*known, "kind"), f"entry of a {kind} term")
    if missing := [name for name in needed if name not in term]:
        raise XpjaxError(f"a {kind} term has no {missing[0]}")
    if kind == "transmission":
        for name, parameter in term["parameters"].items():
            check_names(parameter, ("per", "prior"), f"entry of the parameter {name}")
    elif kind != "covariate":
        made = TERMS[kind](**{name: value for name, value in term.items() if name != "kind"})
        idle = {"superpixel": "order", "chebyshev": "bins"}.get(getattr(made, "form", ""))
        if idle in term:
            raise XpjaxError(f'[[term]] {made.name}: {idle} has no effect with form = "{made.form}": leave it out')


def _check_effect(joint: Mapping[str, Any], terms: Sequence[Mapping[str, Any]], survey: Config) -> None:
    """Raise XpjaxError for terms that need columns which are not named, and for entries of [joint] without effect."""
    colored = [t for t in terms if t["kind"] == "color" or t.get("second_order")]
    placed = [t for t in terms if t["kind"] == "flat" or t.get("position_order")]
    needs = [(f"the {t['kind']} term", key) for t in placed for key in ("x", "y")]
    needs += [(f"the {t['kind']} term", "color") for t in colored]
    needs += [("star_prior", "model")] * bool(joint.get("star_prior"))
    for what, key in needs:
        if any(key not in mapping for mapping in survey.bands.values()):
            raise XpjaxError(f"{what} needs columns.{key}: name it in [columns], or leave {what} out")
    spectra = [t for t in terms if t["kind"] == "transmission" and t.get("star_prior", True)]
    if len(spectra) + bool(joint.get("star_prior")) > 1:
        raise XpjaxError(
            "stars have one prior: of [joint] star_prior or of the spectra of one transmission term; set star_prior = "
            "false for the others"
        )
    for entry, used, what in (("size", placed, "place"), ("color_zero", colored, "color")):
        if entry in joint and not used:
            raise XpjaxError(f"[joint] {entry} has no effect: no term depends on the {what}; leave it out")


def build_joint(config: JointConfig, sources: Any, keep: Sequence[str] = ()) -> tuple[Reading, JointModel]:
    """Observations in files or tables, and the model with what its terms need of them.

    Raises XpjaxError for columns, chains and spectra that are not there, and where nothing tells which detections are
    of one star.
    """
    if not has_identity(config.survey):
        raise XpjaxError(
            "a joint solution must know which detections are of one star: name columns.star, or columns.ra and "
            "columns.dec, or [standards]"
        )
    wanted = [one["column"] for one in config.terms if one["kind"] == "covariate"]
    reading = read_observations(sources, config.survey, keep=keep, further=wanted)
    o = reading.observations = with_nights(reading.observations)
    by_name = any("star" in mapping for mapping in config.survey.bands.values())
    if by_name and o.origin is not None and "ra" in o.origin.columns and "radius" not in config.survey.standards:
        check_one_place(o.star, o.origin.columns["ra"], o.origin.columns["dec"])
    terms: list[Term] = []
    for one in config.terms:
        options = {name: value for name, value in one.items() if name != "kind"}
        if one["kind"] == "transmission":
            folder = config.survey.folder
            options["chain"], options["sources"] = read_chain(folder / one["chain"]), _spectra(folder / one["sources"])
            options["correction"] = named_correction(one, folder)
            options["parameters"] = {name: Parameter(**p) for name, p in one["parameters"].items()}
            terms.append(Transmission(**options))
        elif one["kind"] == "covariate":
            terms.append(Covariate(values=reading.further[options.pop("column")], **options))
        else:
            terms.append(TERMS[one["kind"]](**options))
    options = {name: value for name, value in config.joint.items() if name not in HOLD_OUT}
    return reading, JointModel(tuple(terms), config.constraints, **options)


def _spectra(path: Path) -> Any:
    """XP sources in a file. Raises ValueError where there is none."""
    from xpjax.xp import as_sources

    if not path.exists():
        raise XpjaxError(f"no file {path} with the spectra of a transmission term")
    return as_sources(path)
