"""Joint solutions on disk: one HDF5 file that is read back as the same class."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpjax.core.errors import XpjaxError
from xpjax.io.hdf5 import read_model, write_model
from xpjax.survey import Frames, Observations
from xpjax.survey.exposures import Scaling
from xpjax.survey.joint.blocks import Block, Part, Prepared
from xpjax.survey.joint.covariance import StoredUncertainty, unit_columns
from xpjax.survey.joint.design import Design
from xpjax.survey.joint.held_out import HeldOut
from xpjax.survey.joint.solution import FitQuality, JointSolution, RowResults, StarMagnitudes
from xpjax.survey.joint.terms import Term, term_from

FORMAT, VERSION = "xpjax joint solution", 2
LARGEST = 4000
"""Columns up to which the whole covariance is written unless it is said."""


@dataclasses.dataclass(frozen=True)
class AbsentTerm(Term):
    """A term of a solution in a file that holds no data of it: values of a covariate, a chain, spectra."""

    name: str
    said: str

    def describe(self) -> str:
        """The term in a line."""
        return self.said

    def prepare(self, observations: Observations, scale: Scaling) -> Prepared:
        """Raise XpjaxError: the term must be given."""
        raise XpjaxError(
            f"{self.name}: a file of a solution does not hold the data of this term; give it with solution.with_terms"
        )


def write_joint_solution(
    path: str | os.PathLike[str], solution: JointSolution, *, covariance: bool | None = None, overwrite: bool = False
) -> None:
    """Write a joint solution as an HDF5 file that `read_joint_solution` reads.

    Parameters
    ----------
    path
        The file, with the suffix .h5.
    solution : JointSolution
        The solution.
    covariance : bool or None
        Whether to write the covariance of all columns; by default for up to 4000 columns.
    overwrite : bool
        Whether to replace a file of this name.

    Raises
    ------
    OSError
        If the file is there, or the disk refuses.

    Examples
    --------
    >>> from xpjax.survey.joint import Constraint, JointModel, ZeroPoint, solve_joint, write_joint_solution
    >>> star, exposure = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    >>> zero, error = np.zeros(60), np.full(60, 0.01)
    >>> rows = xpjax.survey.make_observations(star, zero, zero, 15.0 + 0.1 * star, error, None, exposure=exposure)
    >>> model = JointModel((ZeroPoint(),), (Constraint("zero_point"),), min_observations=1)
    >>> write_joint_solution("joint.h5", solve_joint(rows, model))
    >>> xpjax.survey.joint.read_joint_solution("joint.h5")
    JointSolution(3 columns of zero_point, 20 stars in 1 band, 60 of 60 measurements used, converged)
    """
    n = len(solution.value)
    matrix = None
    if n <= LARGEST if covariance is None else covariance:
        known = np.flatnonzero(np.isfinite(solution.value))
        matrix = np.full((n, n), np.nan)
        matrix[np.ix_(known, known)] = solution.covariance(unit_columns(known, n).T)
    found, results, scaling = solution.magnitudes, solution.rows, solution.design.scaling
    arrays: dict[str, Any] = {
        "column": np.array([solution.column_name(k) for k in range(n)]), "value": solution.value,
        "error": solution.error(np.arange(n)), "covariance": matrix, "star": found.star, "band": np.array(found.bands),
        "magnitude": found.magnitude, "magnitude_error": solution.star_errors(), "n_used": found.n_used,
        "left_out": found.left_out, "floor": found.floor,
        **{f"frames/{f.name}": getattr(solution.frames, f.name) for f in dataclasses.fields(Frames)},
        **{f"rows/{name}": getattr(results, name) for name in ROWS}, "box": scaling.box,
        "blocks": json.dumps([_block_said(block) for block in solution.blocks]),
        "terms": json.dumps([{"name": one.name, **one.entry(), "said": one.describe()} for one in solution.terms],
                            default=str),
        "gauge": json.dumps(solution.gauge), "meta": json.dumps(dict(solution.meta), default=str),
    }  # fmt: skip
    if results.held_out is not None:
        arrays |= {"held_out/residual": results.held_out.residual, "held_out/error": results.held_out.error}
    attributes = {
        **dataclasses.asdict(solution.quality),
        "color_zero": scaling.color_zero, "magnitude_zero": scaling.magnitude_zero,
    }  # fmt: skip
    packed = {"covariance", *(f"rows/{name}" for name in ROWS)}
    write_model(path, FORMAT, VERSION, arrays, attributes, packed=packed, overwrite=overwrite)


ROWS = ("frame", "residual", "used", "clipped", "flags")


def _block_said(block: Block) -> dict[str, Any]:
    parts = [{n: getattr(p, n) for n in ("name", "unit", "prior", "mean", "description")} for p in block.parts]
    keys = {name: values.tolist() for name, values in block.keys.items()}
    group = None if block.group is None else block.group.tolist()
    return {"name": block.name, "labels": block.labels, "parts": parts, "keys": keys, "group": group}


def read_joint_solution(path: str | os.PathLike[str]) -> JointSolution:
    """Read a joint solution that `write_joint_solution` or `xpjax survey solve` wrote.

    Parameters
    ----------
    path
        The HDF5 file.

    Returns
    -------
    JointSolution
        The solution. Covariances of columns are there where the file has them, those between stars are not; terms with
        data of their own (values of a covariate, spectra) must be given with `with_terms` before `correction`.

    Raises
    ------
    XpjaxError
        If the file is no joint solution.

    Examples
    --------
    >>> from xpjax.survey.joint import Constraint, JointModel, ZeroPoint, solve_joint, write_joint_solution
    >>> star, exposure = np.tile(np.arange(20), 3), np.repeat(["a", "b", "c"], 20)
    >>> zero, error = np.zeros(60), np.full(60, 0.01)
    >>> rows = xpjax.survey.make_observations(star, zero, zero, 15.0 + 0.1 * star, error, None, exposure=exposure)
    >>> model = JointModel((ZeroPoint(),), (Constraint("zero_point"),), min_observations=1)
    >>> write_joint_solution("joint.h5", solve_joint(rows, model))
    >>> len(xpjax.survey.joint.read_joint_solution("joint.h5").stars())
    20
    """
    arrays, said = read_model(path, FORMAT, VERSION, "joint solution", "write one with xpjax survey solve")
    frames = Frames(**arrays.group("frames"))
    scaling = Scaling(arrays["box"], said["color_zero"], said["magnitude_zero"])
    terms = tuple(_term(one) for one in json.loads(str(arrays["terms"])))
    blocks = tuple(_block(one) for one in json.loads(str(arrays["blocks"])))
    magnitudes = StarMagnitudes(
        arrays["star"], tuple(arrays["band"].tolist()),
        *(arrays[name] for name in ("magnitude", "n_used", "left_out", "floor")),
    )  # fmt: skip
    held = arrays.group("held_out")
    rows = RowResults(**arrays.group("rows"), held_out=HeldOut(**held) if held else None)
    quality = FitQuality(*(said[field.name] for field in dataclasses.fields(FitQuality)))
    errors = StoredUncertainty(arrays.get("covariance"), arrays["error"], arrays["magnitude_error"].ravel())
    return JointSolution(
        Design(terms, frames, scaling, blocks), arrays["value"], tuple(json.loads(str(arrays["gauge"]))), magnitudes,
        rows, quality, errors, json.loads(str(arrays["meta"])),
    )  # fmt: skip


def _block(said: Mapping[str, Any]) -> Block:
    keys = {name: np.array(values) for name, values in said["keys"].items()}
    group = None if said["group"] is None else np.array(said["group"])
    parts = tuple(Part(**part) for part in said["parts"])
    return Block(said["name"], np.empty(0, np.int32), tuple(said["labels"]), parts, keys, group)


def _term(said: Mapping[str, Any]) -> Term:
    """A term as the file has it; one whose data it lacks is an `AbsentTerm`."""
    entry = {name: value for name, value in said.items() if name != "said"}
    try:
        return term_from(entry)
    except XpjaxError:
        return AbsentTerm(said["name"], said["said"])
